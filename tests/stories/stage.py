"""What the stories are played on: the emulated Wise, our client of it over HTTPS, the use cases over a store in memory.

One clock runs for all of them and moves only when told, so that months pass in a moment.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar, overload

from local.wise.control import SeededUser
from local.wise.running import RunningWise, running_wise
from local.wise.settings import WiseSettings
from local.wise.truth import RequestTruth
from local.wise.visitor import Page, Visitor
from tests.fakes.rotator import World
from tests.fakes.world import FakeClock
from tests.wise.client import CLIENT, WiseClient
from token_rotator.adapters.client_secrets import ClientCredentials
from token_rotator.adapters.wise_http import WiseHttp
from token_rotator.domain.grant import AlertKind, Grant
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.link_grant import Arrival, Arrived, Failed
from token_rotator.service.serve_token import NotServed, Served

CALLBACK = "https://partner.example.com/wise/callback"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SIGN_UP = "/v1/user/signup/registration_code"


@dataclass
class Credentials:
    """Our client id and secret, as Secrets Manager keeps them: the current version, and the one before."""

    client_id: str = CLIENT[0]
    stored: list[str] = field(default_factory=lambda: [CLIENT[1]])
    in_use: str = CLIENT[1]

    def get(self) -> ClientCredentials:
        return self._of(self.in_use)

    def last(self) -> ClientCredentials | None:
        return self.get()

    def versions(self) -> Iterator[ClientCredentials]:
        return iter([self._of(secret) for secret in self.stored])

    def use(self, credentials: ClientCredentials) -> None:
        self.in_use = credentials.client_secret.reveal()

    def forget(self) -> None:
        self.in_use = self.stored[0]

    def _of(self, secret: str) -> ClientCredentials:
        return ClientCredentials(self.client_id, Secret(secret))


class Story(World):
    """The rotator's use cases, with the real client of Wise. `partner` is whoever calls Wise for the users."""

    def __init__(self, wise: RunningWise) -> None:
        super().__init__()
        self.at = wise
        self.control = wise.control
        self.credentials = credentials = Credentials()
        self.partner = WiseClient(wise)
        self.browser = Visitor(wise.ca_file)
        self.http = WiseHttp(wise.url, credentials, self.clock, connect_s=1.0, ca_file=str(wise.ca_file))  # type: ignore[arg-type]
        self.wise = self.http  # type: ignore[assignment]
        self.asker = replace(self.asker, wise=self.http)
        self.breaker = self.new_breaker()
        self.refresh_grant = replace(self.refresh_grant, wise=self.http, breaker=self.breaker)
        self.start_link = replace(self.start_link, client_id=CLIENT[0], redirect_uri=CALLBACK)
        self.take_arrival = replace(self.take_arrival, exchange=self.http, client=self.asker)
        self.refresh_due = replace(self.refresh_due, refresh=self.refresh_grant, breaker=self.breaker)

    # --- how a user comes to us

    def adopt(self, user: SeededUser, registration: Secret | None = None) -> Grant:
        """Hand over what Wise gave for a user."""
        offer = Offer(
            refresh_token=Secret(user.refresh_token),
            access_token=Secret(user.access_token),
            issued_at=user.issued_at,
            expires_at=user.expires_at,
            refresh_expires_at=user.refresh_expires_at,
            scope=user.scope,
            registration=registration,
            profile_id=None if user.profile_id is None else str(user.profile_id),
            wise_user_id=str(user.wise_user_id),
        )
        return self._kept(user.user, offer)

    def linked(self, name: str = "anna") -> SeededUser:
        """An existing Wise user who let us in."""
        user = self.control.seed_user(name)
        self.adopt(user)
        return user

    def created(self, name: str = "anna") -> Secret:
        """A user whom we made over the API, with the first tokens; gives the registration as we keep it."""
        email, code = f"{name}@example.com", f"fixture-registration-code-of-{name}".ljust(36, "-")
        application = self.partner.form({"grant_type": "client_credentials"}).json["access_token"]
        body = json.dumps({"email": email, "registrationCode": code})
        headers = {"Authorization": f"Bearer {application}", "Content-Type": "application/json"}
        assert self.partner.send("POST", _SIGN_UP, body, headers).status == 200
        registration = Secret(json.dumps({"code": code, "email": email}))
        self._kept(name, Offer(registration=registration))
        self.sweep()
        return registration

    def authorized_again(self, name: str = "anna", email: str | None = None) -> Grant:
        """The user goes through Wise's page once more, and the partner hands the new tokens over."""
        code = self.at_wises_page(email or name).query()["code"]
        fields = {"grant_type": "authorization_code", "client_id": CLIENT[0], "code": code, "redirect_uri": CALLBACK}
        told = self.partner.form(fields, client=(CLIENT[0], self.credentials.in_use)).json
        now = self.clock()
        offer = Offer(
            refresh_token=Secret(told["refresh_token"]),
            access_token=Secret(told["access_token"]),
            issued_at=now,
            expires_at=now + timedelta(seconds=told["expires_in"]),
            refresh_expires_at=now + timedelta(seconds=told["refresh_token_expires_in"]),
            scope=told["scope"],
        )
        return self._kept(name, offer)

    def at_wises_page(self, user: str) -> Page:
        """The user consents at Wise: where the browser is sent then."""
        url = self.at.authorize_url(client_id=CLIENT[0], redirect_uri=CALLBACK, state="fixture-state")
        return self.browser.authorize(url, user)

    def _kept(self, name: str, offer: Offer) -> Grant:
        stored = self.grants.items.get(self.key(name))
        kept = self.adopt_grant(self.key(name), offer, None if stored is None else stored.version)
        assert isinstance(kept, Kept), kept
        return kept.grant

    def starts(self, name: str = "anna") -> str:
        """Start a link, as the partner does: the address for the user's browser."""
        state = self.start_link(self.key(name), "payroll", None).state.reveal()
        return self.at.authorize_url(client_id=CLIENT[0], redirect_uri=CALLBACK, state=state)

    def comes_back(
        self, user: str, url: str, *, profile_id: int | None = None, refuse: bool = False, after_s: float = 0
    ) -> Arrived | Failed:
        """The user goes through Wise's page, and the browser comes back to us."""
        told = self.browser.authorize(url, user, profile_id=profile_id, refuse=refuse).query()
        self.clock.advance(seconds=after_s)
        code = told.get("code")
        arrival = Arrival(
            state=told.get("state"),
            code=None if code is None else Secret(code),
            profile_id=told.get("profileId"),
            error=told.get("error"),
        )
        return self.take_arrival(arrival)

    def stored_or_none(self, name: str = "anna") -> Grant | None:
        return self.grants.items.get(self.key(name))

    # --- what happens then

    def later(self, **duration: float) -> None:
        """Let time pass, with a short sweep at its end: long enough to refresh, and then to tell people."""
        self.clock.advance(**duration)
        self.sweep(3)

    def token(self, name: str = "anna", rejected: int | None = None) -> Served:
        """Give the access token that a partner gets."""
        served = self.serve(name, rejected)
        assert isinstance(served, Served), served
        return served

    def refused(self, name: str = "anna") -> NotServed:
        """Say why a partner gets none."""
        served = self.serve(name)
        assert isinstance(served, NotServed), served
        return served

    def call(self, token: Served) -> int:
        """Call Wise for the user with a token that was served: the status."""
        return self.partner.me(token.access_token.reveal()).status

    def sent(self, grant_type: str = "refresh_token", name: str | None = None) -> list[RequestTruth]:
        """Give the token requests of ours that Wise saw."""
        return [
            request
            for request in self.control.requests(user=name)
            if request.grant_type == grant_type and (request.correlation_id or "").startswith("attempt-")
        ]

    def told(self) -> list[tuple[AlertKind, str]]:
        """What on-call was told, in its order."""
        return [(alert.kind, alert.reason) for alert in self.alerts.published]


_Of = TypeVar("_Of", bound=Story)


@overload
def played(**settings: object) -> contextlib.AbstractContextManager[Story]: ...
@overload
def played(kind: type[_Of], **settings: object) -> contextlib.AbstractContextManager[_Of]: ...
@contextlib.contextmanager
def played(kind: type[Story] = Story, **settings: object) -> Iterator[Story]:
    """A story, of a kind, with a Wise of its own."""
    clocks: list[FakeClock] = []

    def wall_ns() -> int:
        return (clocks[0].now - _EPOCH) // timedelta(microseconds=1) * 1_000 if clocks else time.time_ns()

    with running_wise(WiseSettings(**settings), wall_ns=wall_ns) as wise:  # type: ignore[arg-type]
        story = kind(wise)
        clocks.append(story.clock)
        try:
            yield story
        finally:
            story.http._sessions.of(None).close()
