"""A client of the control port. Standard library only, for the tests and the demo."""

from __future__ import annotations

import datetime as dt
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.wise.clients import IssuedCertificate, KeyType
from local.wise.faults import Delivery, Endpoint, Fault
from local.wise.subscriptions import Subscription
from local.wise.truth import (
    AuthorizationTruth,
    Consent,
    Death,
    Kind,
    OverlapTruth,
    RequestTruth,
    SignupTruth,
    TokenTruth,
    Truth,
    UseTruth,
    Verdict,
)
from local.wise.users import Profile, ProfileType, WiseUser
from local.wise.webhooks import EventDelivery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.wise.settings import Json, RefreshTokenPolicy


class WiseControlError(Exception):
    """The control port refused a call; the message names the field that is wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededUser:
    """A user with a grant, and what the partner would know of it. Instants are aware UTC, on Wise's clock."""

    user: str
    wise_user_id: int
    email: str
    profile_id: int | None
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_ordinal: int
    refresh_ordinal: int
    issued_at: dt.datetime
    expires_at: dt.datetime
    refresh_expires_at: dt.datetime
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalToken:
    """A token that a user made in their own account; without an end. Instants are aware UTC, on Wise's clock."""

    user: str
    wise_user_id: int
    token: str = field(repr=False)
    ordinal: int
    issued_at: dt.datetime


@dataclass(frozen=True, slots=True)
class WiseClock:
    """Wise's clock, and how many seconds it is ahead of the machine's."""

    now: dt.datetime
    offset_s: float


class WiseControl:
    """Steers a running emulator and asks it for the truth.

    Every call is done when it returns. Calls that make something go wrong return the id of the fault, and
    apply to the next ``times`` matching requests (none: until cleared); ``user`` narrows them to requests
    with a token of that user, dead or alive. Raises ``WiseControlError`` for what the emulator refuses.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        # Plain HTTP and no proxy; ``build_opener`` would read all certificates of this machine besides.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    # Users and their grants

    def seed_user(
        self,
        user: str,
        *,
        access_token: str | None = None,
        refresh_token: str | None = None,
        access_token_lifetime_s: float | None = None,
        refresh_token_lifetime_s: float | None = None,
        age_s: float = 0.0,
        refresh_token_policy: RefreshTokenPolicy | None = None,
        profile_id: int | None = None,
    ) -> SeededUser:
        """Give a user a grant issued ``age_s`` ago; a user who has one is linked again.

        Lifetimes hold for these two tokens only and default to the settings. The policy holds for all refreshes of
        this grant and defaults to the setting. The grant is for the first profile unless another is named.
        """
        given: dict[str, Json] = {
            "access_token": access_token,
            "refresh_token": refresh_token,
            "access_token_lifetime_s": access_token_lifetime_s,
            "refresh_token_lifetime_s": refresh_token_lifetime_s,
            "refresh_token_policy": refresh_token_policy,
            "profile_id": profile_id,
        }
        arguments = {name: value for name, value in given.items() if value is not None}
        return _seeded(self._call("POST", "/users", {"user": user, "age_s": age_s, **arguments}))

    def seed_users(self, count: int, prefix: str = "user-") -> list[SeededUser]:
        """``count`` users named ``prefix`` and a number from 1."""
        return [self.seed_user(f"{prefix}{number}") for number in range(1, count + 1)]

    def refresh_elsewhere(self, user: str, *, profile_id: int | None = None) -> SeededUser:
        """Somebody else refreshes the user's newest grant (or that for a profile); returns what they then have.

        ``WiseControlError`` where no refresh token lives.
        """
        arguments: dict[str, Json] = {} if profile_id is None else {"profile_id": profile_id}
        return _seeded(self._call("POST", _of_user(user, "refresh"), arguments))

    def seed_personal_token(self, user: str, *, token: str | None = None, age_s: float = 0.0) -> PersonalToken:
        """The user makes a personal token ``age_s`` ago; the earlier ones live on."""
        arguments: dict[str, Json] = {"age_s": age_s} | ({} if token is None else {"token": token})
        answer = self._call("POST", _of_user(user, "personal-tokens"), arguments)
        answer["issued_at"] = _instant(answer.pop("issued_at_ms"))
        return PersonalToken(**answer)

    def revoke_personal_tokens(self, user: str, ordinal: int | None = None) -> int:
        """The user revokes all personal tokens, or one. Returns how many died."""
        arguments: dict[str, Json] = {} if ordinal is None else {"ordinal": ordinal}
        return int(self._call("DELETE", _of_user(user, "personal-tokens"), arguments)["killed"])

    def put_user(
        self,
        user: str,
        *,
        email: str | None = None,
        profiles: Sequence[ProfileType] | None = None,
        registration_code: str | None = None,
    ) -> WiseUser:
        """Make a user who has no grant yet (one personal profile, unless told), or change what is given of one.

        With a ``registration_code`` of at least 32 characters the partner counts as having made the user.
        """
        given: dict[str, Json] = {
            "email": email,
            "profiles": None if profiles is None else list(profiles),
            "registration_code": registration_code,
        }
        arguments = {name: value for name, value in given.items() if value is not None}
        return _user(self._call("PUT", _of_user(user), arguments))

    def users(self) -> list[WiseUser]:
        """Everybody, in the order of their coming."""
        return [_user(item) for item in self._call("GET", "/users")["users"]]

    def revoke(self, user: str, cause: Death = Death.REVOCATION) -> int:
        """End a grant as the user, or Wise, would: all its tokens die. Returns how many did.

        ``cause`` is ``REVOCATION``, ``ENHANCED_SECURITY``, ``SUSPECTED_BREACH`` or ``OWNERSHIP_TRANSFER``.
        """
        return int(self._call("POST", _of_user(user, "revocation"), {"cause": cause})["killed"])

    def reclaim(self, user: str) -> None:
        """The user begins to use Wise directly: the registration code is refused from now on, tokens live on."""
        self._call("POST", _of_user(user, "reclaim"))

    def change_email(self, user: str, email: str) -> int:
        """The user changes the address at Wise: all tokens die, the registration code is refused."""
        return int(self._call("POST", _of_user(user, "email"), {"email": email})["killed"])

    def deactivate(self, user: str) -> int:
        """Close the account: all tokens die, and the registration code with them."""
        return int(self._call("POST", _of_user(user, "deactivation"))["killed"])

    def activate(self, user: str) -> None:
        """Open the account again; the user must be linked anew, unless ``tokens_survive_deactivation`` is set."""
        self._call("DELETE", _of_user(user, "deactivation"))

    def deactivate_profile(self, user: str, profile_id: int) -> int:
        """Close one profile: the tokens that are good for it die."""
        return int(self._call("POST", _of_user(user, f"profiles/{profile_id}/deactivation"))["killed"])

    def activate_profile(self, user: str, profile_id: int) -> None:
        """Open a profile again, as ``activate`` does with the account."""
        self._call("DELETE", _of_user(user, f"profiles/{profile_id}/deactivation"))

    def subscriptions(self) -> list[Subscription]:
        """The application's webhook subscriptions."""
        return [Subscription(**item) for item in self._call("GET", "/subscriptions")["subscriptions"]]

    # Webhooks

    def subscribe(self, url: str, *, version: str = "4.0.0") -> list[Subscription]:
        """Have all events delivered to an address, as if subscribed by hand."""
        answer = self._call("POST", "/subscriptions", {"url": url, "version": version})
        return [Subscription(**item) for item in answer["subscriptions"]]

    def webhook_key(self) -> str:
        """The public key, in PEM, that goes with the signatures of events."""
        return str(self._call("GET", "/webhooks")["public_key"])

    def hold_webhooks(self, *, held: bool = True) -> None:
        """Send events only when told to, or as they come."""
        self._call("PATCH", "/webhooks", {"at_once": not held})

    def deliveries(self) -> list[EventDelivery]:
        """What was to be delivered so far, in the order of what it tells."""
        return [_delivery(item) for item in self._call("GET", "/webhooks/deliveries")["deliveries"]]

    def deliver(self, ids: Sequence[str] | None = None, *, times: int = 1) -> list[EventDelivery]:
        """Send these in this order, or all that were not taken; each ``times`` times. Returns what was answered."""
        arguments: dict[str, Json] = {"times": times} if ids is None else {"ids": list(ids), "times": times}
        return [_delivery(item) for item in self._call("POST", "/webhooks/deliveries", arguments)["deliveries"]]

    def authorize(
        self,
        user: str,
        *,
        redirect_uri: str,
        state: str | None = None,
        profile_id: int | None = None,
        refuse: bool = False,
    ) -> str:
        """Consent (for the first profile, unless told) or refuse as the user would at the authorization page.

        Returns the address that the browser is sent to. The page itself is ``local.wise.pages``.
        """
        given: dict[str, Json] = {"state": state, "profile_id": profile_id}
        arguments = {name: value for name, value in given.items() if value is not None}
        arguments |= {"redirect_uri": redirect_uri, "refuse": refuse}
        return str(self._call("POST", _of_user(user, "authorization"), arguments)["location"])

    # The emulator

    def settings(self) -> dict[str, Json]:
        """All settings but the client's secret."""
        return self._call("GET", "/settings")

    def change_settings(self, **changes: Json) -> dict[str, Json]:
        """Change some settings, by the names of ``WiseSettings``; tokens that exist keep their dates."""
        return self._call("PATCH", "/settings", changes)

    def rotate_client_secret(
        self, secret: str | None = None, *, overlap_s: float = 0.0, revoke_tokens: bool = False
    ) -> str:
        """Put a new client secret in force (made up unless given) and return it."""
        arguments: dict[str, Json] = {"overlap_s": overlap_s, "revoke_tokens": revoke_tokens}
        if secret is not None:
            arguments["secret"] = secret
        return str(self._call("POST", "/client-secret", arguments)["client_secret"])

    def issue_certificate(
        self,
        common_name: str | None = None,
        *,
        days: float = 365.0,
        starts_in_days: float = -1.0,
        key_type: KeyType = KeyType.EC_256,
    ) -> IssuedCertificate:
        """Have a certificate for the mutual listener, which ends ``days`` from now; by default in the client's name."""
        arguments: dict[str, Json] = {"days": days, "starts_in_days": starts_in_days, "key_type": key_type}
        if common_name is not None:
            arguments["common_name"] = common_name
        answer = self._call("POST", "/certificates", arguments)
        not_after = _instant(answer.pop("not_after_ms"))
        return IssuedCertificate(**answer, not_after=not_after)

    def refuse_certificate(self, serial: str) -> None:
        """Refuse this certificate from now on, in the way of the setting ``refused_certificate``."""
        self._call("POST", f"/certificates/{serial}/refusal", {})

    def accept_certificate(self, serial: str) -> None:
        """Take this certificate again."""
        self._call("DELETE", f"/certificates/{serial}/refusal")

    def requests_with_certificate(self, serial: str) -> int:
        """How many requests came with this certificate."""
        listed = self._call("GET", "/certificates")["certificates"]
        return next(int(item["requests"]) for item in listed if item["serial"] == serial)

    def clock(self) -> WiseClock:
        """What time it is at Wise."""
        return _clock(self._call("GET", "/clock"))

    def set_clock_offset(self, offset_s: float) -> WiseClock:
        """Put Wise's clock ahead of the machine's, or behind."""
        return _clock(self._call("PATCH", "/clock", {"offset_s": offset_s}))

    def advance_clock(self, by_s: float) -> WiseClock:
        """Move Wise's clock."""
        return _clock(self._call("PATCH", "/clock", {"advance_s": by_s}))

    # What goes wrong

    def chaos(self) -> dict[str, Json]:
        """What strikes at random, and how often."""
        return self._call("GET", "/chaos")

    def change_chaos(self, **changes: Json) -> dict[str, Json]:
        """Change some of it, by the names of ``ChaosSettings``; ``share=0`` ends it for requests to come.

        In the truth log the fault of a request that was struck is ``chaos:`` and the kind.
        """
        return self._call("PATCH", "/chaos", changes)

    def add_fault(self, fault: Fault) -> str:
        """Any fault; the methods below are the usual ones."""
        return str(self._call("POST", "/faults", fault.as_json())["id"])

    def fail_next(
        self,
        times: int | None = 1,
        *,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: str = "",
        endpoint: Endpoint = Endpoint.TOKEN,
        user: str | None = None,
        carry_out: bool = False,
        from_edge: bool = False,
        before_s: float = 0.0,
    ) -> str:
        """Answer so, not carrying out unless told; ``from_edge``: as a proxy would, without a trace id."""
        return self.add_fault(
            Fault(
                times=times,
                status=status,
                headers=headers or {},
                body=body,
                endpoint=endpoint,
                user=user,
                carry_out=carry_out,
                from_edge=from_edge,
                before_s=before_s,
            )
        )

    def throttle(
        self,
        times: int | None = None,
        *,
        for_s: float | None = None,
        retry_after_s: int | None = 5,
        body: str = "{}",
        endpoint: Endpoint = Endpoint.ANY,
        user: str | None = None,
    ) -> str:
        """429 as Wise sends it, for so many requests or seconds, carrying nothing out."""
        headers = {"X-Rate-Limited-By": "wise-public-api"}
        if retry_after_s is not None:
            headers["Retry-After"] = str(retry_after_s)
        return self.add_fault(
            Fault(
                times=times,
                for_s=for_s,
                status=429,
                headers=headers,
                body=body,
                endpoint=endpoint,
                user=user,
                carry_out=False,
            )
        )

    def demand_strong_authentication(
        self, times: int | None = 1, *, endpoint: Endpoint = Endpoint.ME, user: str | None = None
    ) -> str:
        """403 as from a resource that wants a second factor of the user; the token is as good as before.

        Source: docs.wise.com/guides/developer/auth-and-security/sca-over-api. The body is undocumented.
        """
        headers = {"x-2fa-approval": str(uuid.uuid4()), "x-2fa-approval-result": "REJECTED"}
        return self.fail_next(times, status=403, headers=headers, endpoint=endpoint, user=user)

    def patch_next(
        self,
        patch: Mapping[str, Json],
        times: int | None = 1,
        *,
        endpoint: Endpoint = Endpoint.TOKEN,
        user: str | None = None,
    ) -> str:
        """Carry out, and change fields of the JSON answer; a null leaves the field out."""
        return self.add_fault(Fault(times=times, patch=patch, endpoint=endpoint, user=user))

    def answer_slowly(
        self,
        times: int | None = 1,
        *,
        before_s: float = 0.0,
        after_s: float = 0.0,
        endpoint: Endpoint = Endpoint.TOKEN,
        user: str | None = None,
    ) -> str:
        """Wait before carrying out, or between that and the answer. The client may give up meanwhile."""
        return self.add_fault(Fault(times=times, before_s=before_s, after_s=after_s, endpoint=endpoint, user=user))

    def deliver_next(
        self,
        delivery: Delivery,
        times: int | None = 1,
        *,
        drip_s: float = 0.05,
        endpoint: Endpoint = Endpoint.TOKEN,
        user: str | None = None,
    ) -> str:
        """Carry out and answer dripping, endless, truncated, or not at all."""
        return self.add_fault(Fault(times=times, delivery=delivery, drip_s=drip_s, endpoint=endpoint, user=user))

    def drop_after_carrying_out(self, times: int | None = 1, *, user: str | None = None, reset: bool = True) -> str:
        """Carry out and lose the connection without an answer."""
        return self.add_fault(Fault(times=times, user=user, delivery=_loss(reset=reset)))

    def drop_without_carrying_out(
        self,
        times: int | None = 1,
        *,
        endpoint: Endpoint = Endpoint.TOKEN,
        user: str | None = None,
        reset: bool = True,
    ) -> str:
        """Lose the connection and do nothing else."""
        return self.add_fault(
            Fault(times=times, endpoint=endpoint, user=user, carry_out=False, delivery=_loss(reset=reset))
        )

    def carry_out_late(
        self,
        after_s: float,
        times: int | None = 1,
        *,
        user: str | None = None,
        hang_up_first: bool = False,
        reset: bool = False,
    ) -> str:
        """Carry out ``after_s`` later, whatever the client does meanwhile.

        The connection is held and the answer given at the end, or, with ``hang_up_first``, lost at once.
        """
        return self.add_fault(
            Fault(
                times=times,
                user=user,
                before_s=after_s,
                hang_up_first=hang_up_first,
                delivery=Delivery.RESET if reset else Delivery.WHOLE,
            )
        )

    def faults(self) -> list[Fault]:
        """What is still to be applied, ``times`` counted down."""
        return [Fault.from_json(fault) for fault in self._call("GET", "/faults")["faults"]]

    def clear_faults(self, fault_id: str | None = None) -> int:
        """Forget one fault, or all. Answers that are withheld stay so until released."""
        path = "/faults" if fault_id is None else f"/faults/{urllib.parse.quote(fault_id, safe='')}"
        return int(self._call("DELETE", path)["cleared"])

    # Answers held back

    def withhold(self, user: str | None = None, times: int | None = 1, *, endpoint: Endpoint = Endpoint.TOKEN) -> str:
        """Carry out, and hold the answer back until it is released or the client hangs up."""
        return self.add_fault(Fault(times=times, user=user, endpoint=endpoint, delivery=Delivery.WITHHOLD))

    def withheld(self, user: str | None = None) -> int:
        """How many answers are held back from clients that still wait for them."""
        answer = self._call("GET", "/withheld")
        return int(answer["total"] if user is None else answer["by_user"].get(user, 0))

    def wait_until_withheld(self, user: str | None = None, count: int = 1, *, timeout_s: float = 10.0) -> None:
        """Return as soon as ``count`` answers are held back, else raise ``TimeoutError``."""
        wait_until(lambda: self.withheld(user) >= count, timeout_s, f"{count} answers withheld")

    def release(self, user: str | None = None, *, deliver: bool = True) -> int:
        """Let answers go (without ``deliver``: close their connections); returns how many."""
        arguments: dict[str, Json] = {"deliver": deliver}
        if user is not None:
            arguments["user"] = user
        return int(self._call("POST", "/withheld/release", arguments)["released"])

    # The truth

    def truth(self, *, values: bool = False) -> Truth:
        """Everything at one instant; ``values`` shows the tokens themselves."""
        answer = self._call("GET", "/truth" + _query(values=values))
        return Truth(
            seq=answer["seq"],
            at_ms=answer["at_ms"],
            tokens=[_token(item) for item in answer["tokens"]],
            requests=[RequestTruth(**item) for item in answer["requests"]],
            uses=[_use(item) for item in answer["uses"]],
            overlaps=[OverlapTruth(**item) for item in answer["overlaps"]],
            authorizations=[_authorization(item) for item in answer["authorizations"]],
            signups=[SignupTruth(**item) for item in answer["signups"]],
        )

    def tokens(self, user: str | None = None, *, values: bool = False) -> list[TokenTruth]:
        """Every token ever made, in that order."""
        return [
            _token(item) for item in self._call("GET", "/truth/tokens" + _query(user=user, values=values))["tokens"]
        ]

    def requests(self, *, since: int = 0, user: str | None = None) -> list[RequestTruth]:
        """Requests to the token endpoint of which anything happened after ``since``."""
        answer = self._call("GET", "/truth/requests" + _query(since=since, user=user))
        return [RequestTruth(**item) for item in answer["requests"]]

    def uses(self, *, since: int = 0, user: str | None = None) -> list[UseTruth]:
        """Uses of access tokens after ``since``."""
        answer = self._call("GET", "/truth/uses" + _query(since=since, user=user))
        return [_use(item) for item in answer["uses"]]

    def overlaps(self) -> list[OverlapTruth]:
        """Refreshes of one user that were in flight at the same time."""
        return [OverlapTruth(**item) for item in self._call("GET", "/truth/overlaps")["overlaps"]]

    def authorizations(self, *, since: int = 0, user: str | None = None) -> list[AuthorizationTruth]:
        """Visits to the authorization page that ended after ``since``."""
        answer = self._call("GET", "/truth/authorizations" + _query(since=since, user=user))
        return [_authorization(item) for item in answer["authorizations"]]

    def signups(self, *, since: int = 0, user: str | None = None) -> list[SignupTruth]:
        """Requests to make a user of which anything happened after ``since``."""
        answer = self._call("GET", "/truth/signups" + _query(since=since, user=user))
        return [SignupTruth(**item) for item in answer["signups"]]

    def wait_until_idle(self, user: str | None = None, *, timeout_s: float = 10.0) -> None:
        """Return as soon as no token request is in flight, else raise ``TimeoutError``."""

        def idle() -> bool:
            return all(request.end_seq is not None for request in self.requests(user=user))

        wait_until(idle, timeout_s, "no request in flight")

    def _call(self, method: str, path: str, arguments: Mapping[str, Json] | None = None) -> dict[str, Any]:
        data = None if arguments is None else json.dumps(arguments).encode()
        request = urllib.request.Request(  # noqa: S310  (the emulator's own address)
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise WiseControlError(error.code, json.load(error)["error"]) from None


def wait_until(holds: Callable[[], bool], timeout_s: float, what: str, poll_s: float = 0.02) -> None:
    """Ask again and again until it holds; ``TimeoutError`` says what did not come."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(poll_s)


def _of_user(user: str, what: str = "") -> str:
    path = f"/users/{urllib.parse.quote(user, safe='')}"
    return f"{path}/{what}" if what else path


def _seeded(answer: dict[str, Any]) -> SeededUser:
    for name in ("issued_at", "expires_at", "refresh_expires_at"):
        answer[name] = _instant(answer.pop(f"{name}_ms"))
    return SeededUser(**answer)


def _user(item: Mapping[str, Any]) -> WiseUser:
    profiles = tuple(
        Profile(id=profile["id"], type=ProfileType(profile["type"]), name=profile["name"])
        for profile in item["profiles"]
    )
    return WiseUser(**{**item, "profiles": profiles, "closed_profiles": tuple(item["closed_profiles"])})


def _delivery(item: Mapping[str, Any]) -> EventDelivery:
    headers = item["headers"]
    return EventDelivery(
        id=item["id"],
        event_type=item["event_type"],
        url=item["url"],
        body=item["body"],
        signature=headers["X-Signature-SHA256"],
        test="X-Test-Notification" in headers,
        statuses=item["statuses"],
    )


def _authorization(item: Mapping[str, Any]) -> AuthorizationTruth:
    return AuthorizationTruth(**{**item, "consent": Consent(item["consent"])})


def _query(**values: Json) -> str:
    given = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return "?" + urllib.parse.urlencode(given) if given else ""


def _loss(*, reset: bool) -> Delivery:
    return Delivery.RESET if reset else Delivery.CLOSE


def _instant(epoch_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(epoch_ms // 1_000, dt.UTC) + dt.timedelta(milliseconds=epoch_ms % 1_000)


def _clock(answer: Mapping[str, Any]) -> WiseClock:
    return WiseClock(_instant(answer["now_ms"]), answer["offset_s"])


def _death(name: str | None) -> Death | None:
    return None if name is None else Death(name)


def _token(item: Mapping[str, Any]) -> TokenTruth:
    return TokenTruth(**{**item, "kind": Kind(item["kind"]), "killed_by": _death(item["killed_by"])})


def _use(item: Mapping[str, Any]) -> UseTruth:
    return UseTruth(**{**item, "verdict": Verdict(item["verdict"]), "killed_by": _death(item["killed_by"])})
