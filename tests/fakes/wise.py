"""Wise in memory: it carries out, answers, loses answers, and knows which token lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.link import ProfilesShown
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientCheck,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Outcome,
    Refreshed,
    Said,
    Unknown,
)
from token_rotator.domain.tokens import Registration, Secret, TokenSet

LIFE = timedelta(hours=12)
ANSWER, QUESTION = "a" * 32, "b" * 32
"""The trace ids of what it issues, and of what it says of an access token."""


@dataclass
class _User:
    refresh_token: str
    access_token: str
    alive: bool = True
    expires_at: datetime | None = None
    registration: tuple[str, str] | None = None
    refresh_expires_at: datetime | None = None
    lingering: dict[str, datetime] = field(default_factory=dict)
    """Access tokens that a reissue or a link left alive, and until when."""


@dataclass
class _Code:
    user: str
    redirect_uri: str
    expires_at: datetime


class FakeWise:
    """`Wise` and `CodeExchange` over users by name. `script` holds what the next requests do instead of succeeding.

    A script entry is an outcome (nothing is carried out), "lose" (carried out, the answer is lost) or "drop" (nothing
    is carried out, nobody knows). `late` are requests that Wise may still carry out: `carry_out_late` does so.
    `reissue_script` and `late_reissues` are the same for reissues, which `reissues` records by attempt.

    Our client has the `secret` in use of `secrets`, the current one and the previous one; Wise accepts those of
    `valid_secrets`. `checks` holds what Wise says of our client instead of the truth.

    `code` is what a user's consent gives. A code is single use; its exchange ends the user's refresh token, and the
    access token lives on until it expires or the new one is replaced.

    `application` are the application tokens that live; without `coexist` each that is issued ends the others, also
    one that `settle_client` is answered with. `application_script` holds what the next requests for one do, and
    `late_applications` how many Wise may still carry out.
    """

    def __init__(self, clock: Callable[[], datetime], policy: str = "same") -> None:
        self.clock = clock
        self.policy = policy
        self.users: dict[str, _User] = {}
        self.script: list[Outcome | str] = []
        self.asks: list[Liveness] = []
        self.reissue_script: list[Outcome | str] = []
        self.refreshes: list[str] = []
        self.reissues: list[str] = []
        self.late_reissues: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.late: list[str] = []
        self.usable = True
        self.on_refresh: Callable[[], None] = lambda: None
        self.on_reissue: Callable[[], None] = lambda: None
        self.after_refresh: Callable[[], None] = lambda: None
        self.after_exchange: Callable[[], None] = lambda: None
        self.takes = timedelta(milliseconds=200)
        self.life = LIFE
        self.secrets = ["secret-1"]
        self.secret = "secret-1"
        self.valid_secrets = {"secret-1"}
        self.checks: list[ClientCheck] = []
        self.settled: list[str] = []
        self.client_id = "fixture-client-id"
        self.codes: dict[str, _Code] = {}
        self.exchanges: list[str] = []
        self.application: list[str] = []
        self.coexist = True
        self.application_script: list[Outcome | str] = []
        self.applications: list[str] = []
        self.late_applications = 0
        self.issued = 0
        self.on_application: Callable[[], None] = lambda: None
        self.after_application: Callable[[], None] = lambda: None
        self.personal: set[str] = set()
        """The personal tokens that live."""
        self.of_users: dict[str, frozenset[str]] = {}
        """The profiles of users; of others it does not answer."""
        self.user_ids: dict[str, str] = {}

    def add(self, name: str, life: timedelta = LIFE) -> tuple[Secret, Secret]:
        """Add a user; give access and refresh token."""
        self.users[name] = _User(f"refresh-{name}-1", f"access-{name}-1", expires_at=self.clock() + life)
        return Secret(self.users[name].access_token), Secret(self.users[name].refresh_token)

    def register(self, name: str) -> Registration:
        """Let us have created a user: give what tokens are issued for until the user reclaims the account."""
        self.users[name].registration = (f"code-{name}", f"{name}@example.com")
        return Registration(Secret(f"code-{name}"), Secret(f"{name}@example.com"))

    def reclaim(self, name: str) -> None:
        """Let the user take the account over: the code is worth nothing any more."""
        self.users[name].registration = None

    def _of(self, refresh_token: str) -> _User | None:
        return next((user for user in self.users.values() if user.refresh_token == refresh_token), None)

    def _next(self, token: str) -> str:
        stem, _, number = token.rpartition("-")
        return f"{stem}-{int(number) + 1}"

    def carry_out(self, refresh_token: str) -> TokenSet | None:
        user = self._of(refresh_token)
        if user is None or not user.alive:
            return None
        user.access_token = self._next(user.access_token)
        user.expires_at = self.clock() + self.life
        user.lingering.clear()
        told: str | None = user.refresh_token
        if self.policy == "rotated":
            told = user.refresh_token = self._next(user.refresh_token)
        if self.policy == "omitted":
            told = None
        return TokenSet(
            access_token=Secret(user.access_token),
            issued_at=self.clock(),
            expires_at=user.expires_at,
            refresh_token=Secret(told) if told else None,
            refresh_expires_at=user.refresh_expires_at,
            scope="transfers",
        )

    def carry_out_reissue(self, presented: tuple[str, str]) -> TokenSet | None:
        """Issue new tokens for a registration: the refresh token dies, the access token before lives on."""
        user = next((user for user in self.users.values() if user.registration == presented), None)
        if user is None:
            return None
        if user.alive and user.expires_at is not None:
            user.lingering[user.access_token] = user.expires_at
        user.access_token, user.refresh_token = self._next(user.access_token), self._next(user.refresh_token)
        user.alive, user.expires_at = True, self.clock() + self.life
        return TokenSet(
            access_token=Secret(user.access_token),
            issued_at=self.clock(),
            expires_at=user.expires_at,
            refresh_token=Secret(user.refresh_token),
            refresh_expires_at=user.refresh_expires_at,
            scope="transfers",
        )

    def carry_out_late_reissue(self) -> None:
        self.carry_out_reissue(self.late_reissues.pop(0))

    def carry_out_late(self) -> None:
        self.carry_out(self.late.pop(0))

    def check_credentials(self) -> None:
        if not self.usable:
            raise WiseSecretUnusable("no value yet")

    def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
        assert within > timedelta(0)
        self.on_refresh()
        told = self.script.pop(0) if self.script else "plain"
        if not isinstance(told, str):
            if not isinstance(told, NotSent):
                self.refreshes.append(attempt_id)
            return told
        self.refreshes.append(attempt_id)
        if hasattr(self.clock, "advance"):
            self.clock.advance(seconds=self.takes.total_seconds())
        if self.secret not in self.valid_secrets:
            return ClientRefused(status=401, error="invalid_client")
        if told == "drop":
            self.late.append(refresh_token.reveal())
            return Unknown(reason="deadline")
        tokens = self.carry_out(refresh_token.reveal())
        self.after_refresh()
        if told == "lose":
            return Unknown(reason="connection-broke")
        if tokens is None:
            return GrantInvalid(status=400, error="invalid_grant", trace_id="f" * 32)
        return Refreshed(tokens=tokens, status=200, trace_id=ANSWER)

    def reissue(self, registration: Registration, *, attempt_id: str, within: timedelta) -> Outcome:
        assert within > timedelta(0)
        self.on_reissue()
        told = self.reissue_script.pop(0) if self.reissue_script else "plain"
        if not isinstance(told, str):
            if not isinstance(told, NotSent):
                self.reissues.append(attempt_id)
            return told
        self.reissues.append(attempt_id)
        if hasattr(self.clock, "advance"):
            self.clock.advance(seconds=self.takes.total_seconds())
        if self.secret not in self.valid_secrets:
            return ClientRefused(status=401, error="invalid_client")
        presented = (registration.code.reveal(), registration.email.reveal())
        if told == "drop":
            self.late_reissues.append(presented)
            return Unknown(reason="deadline")
        tokens = self.carry_out_reissue(presented)
        if told == "lose":
            return Unknown(reason="connection-broke")
        if tokens is None:
            return GrantInvalid(status=401, error="invalid_grant", trace_id="e" * 32)
        return Refreshed(tokens=tokens, status=200, trace_id=ANSWER)

    def carry_out_application(self) -> TokenSet:
        """Issue a token to our application."""
        self.issued += 1
        made = f"application-{self.issued}"
        self.application = [*(self.application if self.coexist else []), made]
        expires_at = self.clock() + self.life
        return TokenSet(access_token=Secret(made), issued_at=self.clock(), expires_at=expires_at, scope="transfers")

    def carry_out_late_application(self) -> None:
        self.late_applications -= 1
        self.carry_out_application()

    def issue_application_token(self, *, attempt_id: str, within: timedelta) -> Outcome:
        assert within > timedelta(0)
        self.on_application()
        told = self.application_script.pop(0) if self.application_script else "plain"
        if not isinstance(told, str):
            if not isinstance(told, NotSent):
                self.applications.append(attempt_id)
            return told
        self.applications.append(attempt_id)
        if hasattr(self.clock, "advance"):
            self.clock.advance(seconds=self.takes.total_seconds())
        if self.secret not in self.valid_secrets:
            return ClientRefused(status=401, error="invalid_client")
        if told == "drop":
            self.late_applications += 1
            return Unknown(reason="deadline")
        tokens = self.carry_out_application()
        self.after_application()
        if told == "lose":
            return Unknown(reason="connection-broke")
        return Refreshed(tokens=tokens, status=200, trace_id=ANSWER)

    def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
        assert within > timedelta(0)
        self.asked.append(attempt_id)
        if self.asks:
            return Said(self.asks.pop(0), QUESTION)
        return Said(Liveness.LIVES if self.lives(access_token.reveal()) else Liveness.DEAD, QUESTION)

    def code(self, name: str, redirect_uri: str) -> Secret:
        """Consent as a user would, one that is there or a new one."""
        made = f"code-{name}-{len(self.exchanges)}-{len(self.codes) + 1}"
        self.codes[made] = _Code(name, redirect_uri, self.clock() + timedelta(minutes=30))
        return Secret(made)

    def check_client(self, client_id: str) -> None:
        if not self.usable or client_id != self.client_id:
            raise WiseSecretUnusable("no value yet, or another client's")

    def exchange(self, code: Secret, *, redirect_uri: str, attempt_id: str, within: timedelta) -> Outcome:
        assert within > timedelta(0)
        told = self.script.pop(0) if self.script else "plain"
        if not isinstance(told, str):
            return told
        self.exchanges.append(attempt_id)
        if hasattr(self.clock, "advance"):
            self.clock.advance(seconds=self.takes.total_seconds())
        if self.secret not in self.valid_secrets:
            return ClientRefused(status=401, error="invalid_client")
        tokens = self._exchanged(code.reveal(), redirect_uri)
        self.after_exchange()
        if told == "lose":
            return Unknown(reason="connection-broke")
        if tokens is None:
            return GrantInvalid(status=400, error="invalid_grant", trace_id="f" * 32)
        return Refreshed(tokens=tokens, status=200, trace_id=ANSWER)

    def profiles(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> ProfilesShown | None:
        assert within > timedelta(0)
        name = next((name for name, user in self.users.items() if user.access_token == access_token.reveal()), "")
        ids = self.of_users.get(name) if self.lives(access_token.reveal()) else None
        return None if ids is None else ProfilesShown(ids, self.user_ids.get(name))

    def _exchanged(self, text: str, redirect_uri: str) -> TokenSet | None:
        code = self.codes.pop(text, None)
        if code is None or code.redirect_uri != redirect_uri or code.expires_at <= self.clock():
            return None
        before = self.users.get(code.user)
        number = 1 if before is None else int(before.refresh_token.rpartition("-")[2]) + 100
        expires_at = self.clock() + self.life
        user = _User(f"refresh-{code.user}-{number}", f"access-{code.user}-{number}", expires_at=expires_at)
        if before is not None:
            user.lingering |= before.lingering
            if before.alive and before.expires_at is not None:
                user.lingering[before.access_token] = before.expires_at
        self.users[code.user] = user
        return TokenSet(
            access_token=Secret(user.access_token),
            issued_at=self.clock(),
            expires_at=expires_at,
            refresh_token=Secret(user.refresh_token),
            scope="transfers",
        )

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        assert within > timedelta(0)
        self.settled.append(attempt_id)
        if self.checks:
            return self.checks.pop(0)
        for secret in self.secrets:
            if secret in self.valid_secrets:
                changed, self.secret = secret != self.secret, secret
                self.carry_out_application()
                return ClientAccepted(changed=changed, status=200)
        return ClientRefused(status=401, error="invalid_client")

    def lives(self, access_token: str) -> bool:
        now = self.clock()
        return access_token in self.personal or any(
            user.alive
            and (
                (user.access_token == access_token and (user.expires_at or now) > now)
                or user.lingering.get(access_token, now) > now
            )
            for user in self.users.values()
        )
