"""Wise itself: users, their tokens, the verdicts, and the truth about all of it. No sockets, no waiting."""

from __future__ import annotations

import hmac
import re
import threading
import time
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom
from typing import TYPE_CHECKING, TypeVar

from local.wise import answers
from local.wise.settings import BadValueError, ExpiredRefresh, Json, RefreshTokenPolicy, WiseSettings
from local.wise.subscriptions import EventType, StateChange, Subscription, TestNotification, read_subscription, told
from local.wise.tokens import fingerprint, iso_instant, new_application_token, new_token, new_uuid
from local.wise.truth import (
    AuthorizationTruth,
    Consent,
    Death,
    Kind,
    RequestTruth,
    SignupTruth,
    TokenTruth,
    Truth,
    UseTruth,
    Verdict,
    find_overlaps,
)
from local.wise.users import ClaimCode, Code, ProfileType, User, WiseUser, new_user, profiles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from local.wise.answers import Answer
    from local.wise.pages import AuthorizationRequest

SCOPE = "transfers"
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_WISE_GRANT_TYPES = ("client_credentials", "registration_code", "authorization_code", "refresh_token")
_SHORTEST_REGISTRATION_CODE = 32
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_REFRESH_FIELDS = ("refresh_token", "refresh_token_expires_in", "refresh_token_expires_at")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a request to the token endpoint says."""

    client: tuple[str, str] | None = field(repr=False)
    """Id and secret of HTTP Basic; none if there was no such header."""
    form: Mapping[str, str] | None = field(repr=False)
    """The first value of each field; none if the body was no form."""

    @property
    def refresh_token(self) -> str | None:
        """The refresh token that it presents, if any."""
        return None if self.form is None else self.form.get("refresh_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededGrant:
    """A grant that was made by hand, with the tokens that a partner would have been given."""

    user: str
    wise_user_id: int
    email: str
    profile_id: int | None
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_ordinal: int
    refresh_ordinal: int
    issued_at_ms: int
    expires_at_ms: int
    refresh_expires_at_ms: int
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededPersonalToken:
    """A token that a user made in their own account, shown once."""

    user: str
    wise_user_id: int
    token: str = field(repr=False)
    ordinal: int
    issued_at_ms: int


@dataclass(frozen=True, slots=True)
class SignupRequest:
    """What a request to make a user with a registration code says."""

    token: str | None = field(repr=False)
    """The bearer token; it must be the application's."""
    email: str | None
    registration_code: str | None = field(repr=False)


class WiseState:
    """Users, tokens and truth behind one lock. Every public method is one atomic step.

    ``wall_ns`` is the machine's clock in epoch nanoseconds; Wise's clock is that plus an offset. With a
    seeded ``random`` the tokens and trace ids are the same in every run.
    """

    def __init__(
        self,
        settings: WiseSettings,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        random: Random | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._settings = settings
        self._secrets: list[tuple[str, int | None]] = [(settings.client_secret, None)]
        self._wall_ns = wall_ns
        self._offset_ns = 0
        self._random = random or SystemRandom()
        self._seq = 0
        self._users: dict[str, User] = {}
        self._codes: dict[str, Code] = {}
        self._claim_codes: dict[str, ClaimCode] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._listeners: list[Callable[[StateChange | TestNotification], None]] = []
        self._authorizations: list[AuthorizationTruth] = []
        self._signups: list[SignupTruth] = []
        self._application_tokens: list[TokenTruth] = []
        self._by_value: dict[str, TokenTruth] = {}
        self._values: dict[str, str] = {}
        self._requests: list[RequestTruth] = []
        self._uses: list[UseTruth] = []

    # What the control port does

    @property
    def settings(self) -> WiseSettings:
        """The settings in force."""
        with self._lock:
            return self._settings

    def change_settings(self, changes: Mapping[str, Json]) -> WiseSettings:
        """Change some settings; ``BadValueError`` names the one that is wrong, and then none is changed."""
        with self._lock:
            self._settings = self._settings.changed(changes)
            return self._settings

    def clock(self) -> tuple[int, float]:
        """Wise's clock in epoch milliseconds, and how many seconds it is ahead of the machine's."""
        with self._lock:
            return self._now_ns() // _NS_PER_MS, self._offset_ns / _NS_PER_S

    def set_clock_offset(self, offset_s: float) -> None:
        """Put Wise's clock ``offset_s`` ahead of the machine's (behind, if negative)."""
        with self._lock:
            self._offset_ns = round(offset_s * _NS_PER_S)

    def advance_clock(self, by_s: float) -> None:
        """Move Wise's clock."""
        with self._lock:
            self._offset_ns += round(by_s * _NS_PER_S)

    def seed(
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
    ) -> SeededGrant:
        """Give a user a grant, issued ``age_s`` ago, with tokens of the caller's choice or made up.

        A user who has one is linked again: the old refresh token dies at once, the last access token lives
        until it expires or is replaced (docs.wise.com/guides/product/account-setup/refreshing-access).
        The lifetimes hold for these two tokens only; ``refresh_token_policy`` for all refreshes of this grant, in
        place of the setting. The grant is for the user's first profile unless ``profile_id`` names another.
        ``BadValueError`` for a token that exists already and for a profile that is not the user's.
        """
        with self._lock:
            settings = self._settings
            for value in (access_token, refresh_token):
                if value is not None and (value == "" or value in self._by_value):
                    raise BadValueError("access_token, refresh_token: must be new and not empty")
            if access_token is not None and access_token == refresh_token:
                raise BadValueError("access_token, refresh_token: must differ")
            known = self._users.get(user) or self._new_user(user)
            profile_id = _chosen(known, profile_id)
            known.refresh_token_policy = refresh_token_policy
            for token in self._of_one_grant(known.refresh_tokens, profile_id):
                self._kill(token, Death.NEW_GRANT)
            issued_ns = self._now_ns() - round(age_s * _NS_PER_S)
            refresh = self._mint(
                known,
                Kind.REFRESH,
                issued_ns,
                settings.refresh_token_lifetime_s if refresh_token_lifetime_s is None else refresh_token_lifetime_s,
                value=refresh_token,
                profile_id=profile_id,
            )
            access = self._mint(
                known,
                Kind.ACCESS,
                issued_ns,
                settings.access_token_lifetime_s if access_token_lifetime_s is None else access_token_lifetime_s,
                value=access_token,
                profile_id=profile_id,
            )
            return self._seeded(known, access, refresh)

    def refresh_elsewhere(self, user: str, *, profile_id: int | None = None) -> SeededGrant:
        """Somebody else who has the user's refresh token sends a refresh, with our client: what that brought them.

        It is on record like any other request, without a correlation id, and no fault strikes it. The grant is that of
        the newest refresh token, unless a profile is named. ``LookupError`` for an unknown user, ``BadValueError``
        where no refresh token lives.
        """
        with self._lock:
            known = self._known(user)
            theirs = [t for t in known.refresh_tokens if profile_id in (None, t.profile_id)]
            presented = "" if not theirs else self._values[theirs[-1].sha256]
            request = TokenRequest(
                (self._settings.client_id, self._secrets[0][0]),
                {"grant_type": "refresh_token", "refresh_token": presented},
            )
            record = self.begin_request("/oauth/token", request, correlation_id=None, trace_id=self.new_trace_id())
            answer = self.carry_out(record, request)
            self.end_request(record, status=answer.status, delivered=True)
            if not record.carried_out:
                raise BadValueError("user: has no refresh token that lives")
            access = known.access_tokens[-1]
            refresh = known.refresh_tokens[(record.refresh_ordinal or 0) - 1]
            return self._seeded(known, access, refresh)

    def seed_personal_token(self, user: str, *, token: str | None = None, age_s: float = 0.0) -> SeededPersonalToken:
        """A user makes a personal token, ``age_s`` ago, beside those that they have.

        An unknown user comes into being with a personal and a business profile. ``BadValueError`` for a token that
        exists already.
        """
        with self._lock:
            if token is not None and (token == "" or token in self._by_value):
                raise BadValueError("token: must be new and not empty")
            known = self._users.get(user)
            known = known or self._new_user(user, None, (ProfileType.PERSONAL, ProfileType.BUSINESS))
            issued_ns = self._now_ns() - round(age_s * _NS_PER_S)
            made = self._mint(known, Kind.PERSONAL, issued_ns, None, value=token)
            return SeededPersonalToken(
                user=user,
                wise_user_id=known.wise_user_id,
                token=self._values[made.sha256],
                ordinal=made.ordinal,
                issued_at_ms=made.issued_at_ms,
            )

    def revoke_personal_tokens(self, user: str, ordinal: int | None = None) -> int:
        """The user revokes their personal tokens, or only one; returns how many died.

        ``LookupError`` for an unknown user or token.
        """
        with self._lock:
            theirs = [t for t in self._known(user).personal_tokens if ordinal in (None, t.ordinal)]
            if ordinal is not None and not theirs:
                raise LookupError("no such token")
            return sum(self._kill(token, Death.REVOCATION) for token in theirs)

    def put_user(
        self,
        user: str,
        *,
        email: str | None = None,
        profiles: Sequence[ProfileType] | None = None,
        registration_code: str | None = None,
    ) -> WiseUser:
        """Make a user without a grant (a personal profile, unless told), or change what is given of one.

        With a ``registration_code`` the user counts as made by the partner under the present e-mail address.
        ``BadValueError`` for an address that somebody else has, or a code that is too short.
        """
        with self._lock:
            if email is not None and self._with_email(email) not in (None, self._users.get(user)):
                raise BadValueError("email: must be nobody else's")
            if registration_code is not None and len(registration_code) < _SHORTEST_REGISTRATION_CODE:
                raise BadValueError(f"registration_code: must be at least {_SHORTEST_REGISTRATION_CODE} characters")
            known = self._users.get(user)
            if known is None:
                known = self._new_user(user, email, (ProfileType.PERSONAL,) if profiles is None else profiles)
            elif profiles is not None:
                known.profiles = profiles_of(known, profiles)
            known.email = email or known.email
            if registration_code is not None:
                known.registration_code, known.signup_email, known.reclaimed = registration_code, known.email, False
            return known.told()

    def users(self) -> list[WiseUser]:
        """Everybody, in the order of their coming."""
        with self._lock:
            return [user.told() for user in self._users.values()]

    def revoke(self, user: str, cause: Death = Death.REVOCATION) -> int:
        """End a user's grant as the user, or Wise on suspicion, would: every token dies, nobody is told.

        Returns how many tokens died. Raises ``LookupError`` for an unknown user.
        """
        with self._lock:
            return self._end(self._known(user), cause)

    def reclaim(self, user: str) -> None:
        """The user begins to use Wise's own site or apps: the registration code is refused, tokens live on."""
        with self._lock:
            self._known(user).reclaimed = True

    def change_email(self, user: str, email: str) -> int:
        """The user changes the address at Wise, and so has reclaimed the account too: every token dies.

        ``BadValueError`` for an address that somebody has.
        """
        with self._lock:
            known = self._known(user)
            if self._with_email(email) is not None:
                raise BadValueError("email: must be new")
            known.email, known.reclaimed = email, True
            return self._end(known, Death.EMAIL_CHANGE)

    def listen(self, listener: Callable[[StateChange | TestNotification], None]) -> None:
        """Tell ``listener`` what webhooks tell. It is called in the middle of a step: let it take note and return."""
        with self._lock:
            self._listeners.append(listener)

    def subscriptions(self) -> list[Subscription]:
        """The application's webhook subscriptions, in the order of their making."""
        with self._lock:
            return list(self._subscriptions.values())

    def deactivate(self, user: str) -> int:
        """Close the account: every token dies, and the registration code with them; webhooks tell.

        With ``tokens_survive_deactivation`` they are only refused until the account is opened again. Returns how many
        tokens died.
        """
        with self._lock:
            known = self._known(user)
            if known.active:
                self._tell_state(known, known.wise_user_id, EventType.USER_STATE_CHANGE, open_now=False)
            known.active = False
            if self._settings.tokens_survive_deactivation:
                return 0
            known.reclaimed = True
            personal = sum(self._kill(token, Death.DEACTIVATION) for token in known.personal_tokens)
            return personal + self._end(known, Death.DEACTIVATION)

    def activate(self, user: str) -> None:
        """Open the account again; webhooks tell. No page says that tokens come back: that is a setting."""
        with self._lock:
            known = self._known(user)
            if not known.active:
                self._tell_state(known, known.wise_user_id, EventType.USER_STATE_CHANGE, open_now=True)
            known.active = True

    def deactivate_profile(self, user: str, profile_id: int) -> int:
        """Close one profile: the tokens that are good for it die, as those of the account in ``deactivate``.

        ``BadValueError`` for somebody else's profile.
        """
        with self._lock:
            known = self._known(user)
            _chosen(known, profile_id)
            if profile_id not in known.closed_profiles:
                self._tell_state(known, profile_id, EventType.PROFILE_STATE_CHANGE, open_now=False)
            known.closed_profiles.add(profile_id)
            if self._settings.tokens_survive_deactivation:
                return 0
            theirs = [t for t in known.access_tokens + known.refresh_tokens if t.profile_id == profile_id]
            return sum(self._kill(token, Death.DEACTIVATION) for token in theirs)

    def activate_profile(self, user: str, profile_id: int) -> None:
        """Open a profile again."""
        with self._lock:
            known = self._known(user)
            _chosen(known, profile_id)
            if profile_id in known.closed_profiles:
                self._tell_state(known, profile_id, EventType.PROFILE_STATE_CHANGE, open_now=True)
            known.closed_profiles.discard(profile_id)

    def rotate_client_secret(
        self, secret: str | None = None, *, overlap_s: float = 0.0, revoke_tokens: bool = False
    ) -> str:
        """Put a new client secret in force and return it.

        The old ones stop at once, or ``overlap_s`` later. Wise documents neither an overlap nor what becomes
        of the tokens; they are kept, those of the application included, unless ``revoke_tokens``.
        """
        with self._lock:
            now_ns = self._now_ns()
            end_ns = now_ns + round(overlap_s * _NS_PER_S)
            fresh = secret or f"emulator-client-secret-{new_uuid(self._random)}"
            old = [(value, end_ns if end is None else min(end, end_ns)) for value, end in self._secrets]
            self._secrets = [(fresh, None), *old]
            if revoke_tokens:
                for token in self._by_value.values():
                    if token.kind is not Kind.PERSONAL:
                        self._kill(token, Death.CLIENT_SECRET)
            return fresh

    # What a request does, step by step

    def new_trace_id(self) -> str:
        """32 hex digits, as in Wise's ``x-trace-id``."""
        with self._lock:
            return f"{self._random.getrandbits(128):032x}"

    # The authorization page

    def turned_away(self, request: AuthorizationRequest) -> Consent | None:
        """Why Wise must not send a browser back for this request, if so; that is put on record."""
        with self._lock:
            why: Consent | None = None
            if request.client_id != self._settings.client_id:
                why = Consent.UNKNOWN_CLIENT
            elif request.redirect_uri not in self._settings.redirect_uris:
                why = Consent.UNKNOWN_REDIRECT_URI
            if why is not None:
                self._note_visit(request, why, None, None)
            return why

    def claimant(self, request: AuthorizationRequest) -> WiseUser | None:
        """The active user whom a claim account code names, while it is good."""
        with self._lock:
            code = self._claim_codes.get(request.claim_account_code or "")
            if code is None or self._now_ns() >= code.expires_ns or not self._users[code.user].active:
                return None
            return self._users[code.user].told()

    def who(self, name_or_email: str) -> WiseUser | None:
        """The active user who logs in so."""
        with self._lock:
            found = self._users.get(name_or_email) or self._with_email(name_or_email)
            return found.told() if found is not None and found.active else None

    def authorize(
        self, request: AuthorizationRequest, user: str, *, profile_id: int | None = None, refuse: bool = False
    ) -> str:
        """The user consents (to the first profile, unless told) or refuses: where the browser is sent then.

        Who comes with a claim account code takes the account over by consenting. The request must not be one to be
        turned away. ``LookupError`` for an unknown user, ``BadValueError`` for a deactivated one, for somebody else's
        profile or code, and for a profile that is closed.
        """
        with self._lock:
            known = self._known(user)
            if not known.active:
                raise BadValueError("user: must be active")
            claims = request.claim_account_code is not None
            if claims and self.claimant(request) != known.told():
                raise BadValueError("claim_account_code: must be good, and this user's")
            profile_id = _chosen(known, profile_id)
            if profile_id in known.closed_profiles:
                raise BadValueError("profile_id: must be open")
            if refuse:
                self._note_visit(request, Consent.REFUSED, known, profile_id)
                return request.answered(error="access_denied", error_description="User denied access")
            value = new_uuid(self._random)
            expires_ns = self._now_ns() + round(self._settings.authorization_code_lifetime_s * _NS_PER_S)
            record = self._note_visit(request, Consent.GIVEN, known, profile_id)
            record.code_sha256, record.code_expires_at_ms = fingerprint(value), expires_ns // _NS_PER_MS
            if claims:
                known.reclaimed = record.claimed = True
                del self._claim_codes[request.claim_account_code or ""]
            self._codes[value] = Code(known.name, profile_id, request.redirect_uri, expires_ns, record)
            return request.answered(code=value, profileId=profile_id)

    def _note_visit(
        self, request: AuthorizationRequest, consent: Consent, user: User | None, profile_id: int | None
    ) -> AuthorizationTruth:
        record = AuthorizationTruth(
            id=len(self._authorizations) + 1,
            seq=self._next_seq(),
            at_ms=self._wall_ms(),
            consent=consent,
            user=None if user is None else user.name,
            profile_id=profile_id,
            redirect_uri=request.redirect_uri,
            state_sha256=None if request.state is None else fingerprint(request.state),
        )
        self._authorizations.append(record)
        return record

    # Requests to the API

    def owner_of(self, token: str | None) -> str | None:
        """The user whose token this is or was."""
        with self._lock:
            known = None if token is None else self._by_value.get(token)
            return None if known is None else known.user

    def begin_request(
        self,
        path: str,
        request: TokenRequest,
        *,
        correlation_id: str | None,
        trace_id: str,
        client_port: int | None = None,
    ) -> RequestTruth:
        """Put a request to the token endpoint, read whole, on record. Keep the record for the next steps."""
        with self._lock:
            presented = self._by_value.get(request.refresh_token or "")
            grant_type = (request.form or {}).get("grant_type")
            record = RequestTruth(
                id=len(self._requests) + 1,
                path=path,
                grant_type=grant_type if grant_type is None or grant_type in _WISE_GRANT_TYPES else "other",
                user=self._owner_by_code(request.form or {}) if presented is None else presented.user,
                presented_ordinal=presented.ordinal
                if presented is not None and presented.kind is Kind.REFRESH
                else None,
                correlation_id=correlation_id,
                trace_id=trace_id,
                client_port=client_port,
                begin_seq=self._next_seq(),
                begin_ms=self._wall_ms(),
            )
            self._requests.append(record)
            return record

    def carry_out(self, record: RequestTruth, request: TokenRequest) -> Answer:
        """Judge a request to the token endpoint and do what it asks; the record is settled with it."""
        with self._lock:
            answer = self._judge(record, request)
            self._settle(record, answer.outcome)
            return answer

    def refuse(self, record: RequestTruth) -> None:
        """Settle a request that is never carried out."""
        with self._lock:
            self._settle(record, "not_carried_out")

    def end_request(self, record: RequestTruth, *, status: int | None, delivered: bool) -> None:
        """The answer to a settled request was written (``status``), or its connection was lost."""
        with self._lock:
            record.status = status
            record.delivered = delivered
            record.end_seq = self._next_seq()
            record.end_ms = self._wall_ms()

    def note_fault(self, record: RequestTruth | UseTruth | SignupTruth, fault: str | None) -> None:
        """Name the fault that is applied to a request."""
        with self._lock:
            record.fault = fault

    def note_client_gone(self, record: RequestTruth) -> None:
        """The client has closed the connection although it has no answer yet."""
        with self._lock:
            if record.client_gone_ms is None:
                record.client_gone_ms = self._wall_ms()

    def use(
        self, path: str, token: str | None, *, correlation_id: str | None, trace_id: str
    ) -> tuple[UseTruth, Answer]:
        """``/v1/me`` or the like with a bearer token (none: there was none): verdict, on record, and answer.

        A token that is good for one profile shows no other.
        """
        with self._lock:
            known = None if token is None else self._by_value.get(token)
            if known is not None and known.kind is Kind.REFRESH:
                known = None
            if known is not None:
                self._notice_expiry(known)
            owner = None if known is None or known.user is None else self._users[known.user]
            verdict = _verdict(token, known)
            if verdict is Verdict.LIVES and owner is not None and known is not None and not owner.lets_in(known):
                verdict = Verdict.DEAD
            record = UseTruth(
                id=len(self._uses) + 1,
                path=path,
                seq=self._next_seq(),
                at_ms=self._wall_ms(),
                verdict=verdict,
                user=None if owner is None else owner.name,
                ordinal=None if known is None else known.ordinal,
                newest_ordinal=None if owner is None or known is None else owner.tokens(known.kind)[-1].ordinal,
                sha256=None if token is None else fingerprint(token),
                killed_by=None if known is None else known.killed_by,
                died_seq=None if known is None else known.died_seq,
                died_ms=None if known is None else known.died_ms,
                correlation_id=correlation_id,
                trace_id=trace_id,
            )
            self._uses.append(record)
            if token is None:
                return record, answers.no_access_token()
            if verdict is not Verdict.LIVES:
                return record, answers.dead_access_token(token)
            if path.endswith("/playground"):
                return record, answers.playground()
            if owner is None or known is None:
                return record, answers.application_as_user(self._settings.application_as_user, token)
            if path.endswith("/profiles"):
                return record, answers.profiles(
                    [
                        {"id": profile.id, "userId": owner.wise_user_id, "type": profile.type, "fullName": profile.name}
                        for profile in owner.profiles
                        if known.profile_id in (None, profile.id)
                    ]
                )
            return record, answers.user(owner.wise_user_id, owner.name, owner.email)

    def end_use(self, record: UseTruth, *, status: int | None, delivered: bool) -> None:
        """The answer to a use was written, or its connection was lost."""
        with self._lock:
            record.status = status
            record.delivered = delivered
            self._next_seq()

    def begin_signup(
        self, path: str, request: SignupRequest, *, correlation_id: str | None, trace_id: str
    ) -> SignupTruth:
        """Put a request to make a user, read whole, on record. Keep the record for the next steps."""
        with self._lock:
            named = self._with_email(request.email or "")
            record = SignupTruth(
                id=len(self._signups) + 1,
                path=path,
                seq=self._next_seq(),
                at_ms=self._wall_ms(),
                user=None if named is None else named.name,
                outcome="not_carried_out",
                code_sha256=None if request.registration_code is None else fingerprint(request.registration_code),
                correlation_id=correlation_id,
                trace_id=trace_id,
            )
            self._signups.append(record)
            return record

    def sign_up(self, record: SignupTruth, request: SignupRequest) -> Answer:
        """Judge a request to make a user, and make one, named by the e-mail address and without a profile.

        Source: docs.wise.com/api-reference/user/usercreate.
        """
        with self._lock:
            answer = self._judge_signup(record, request)
            record.outcome = answer.outcome
            return answer

    def end_signup(self, record: SignupTruth, *, status: int | None, delivered: bool) -> None:
        """The answer to a sign-up was written, or its connection was lost."""
        with self._lock:
            record.status = status
            record.delivered = delivered
            record.seq = self._next_seq()

    def user_exists(self, token: str | None, email: str | None) -> Answer:
        """Whether an address has an account; for the application (docs.wise.com/api-reference/user)."""
        with self._lock:
            refused = self._refused_application(token)
            if refused is not None:
                return refused
            if email is None:
                return answers.missing_field("email")
            return answers.user_exists(exists=self._with_email(email) is not None)

    def claim_account(self, token: str | None, registration_code: str | None) -> Answer:
        """A code with which the user takes over the account that the partner made.

        Source: docs.wise.com/api-reference/claim-account. Undocumented: what a wrong or spent registration code
        answers; here it is as good as a token of somebody else.
        """
        with self._lock:
            known = self._living(token)
            if token is None:
                return answers.no_access_token()
            if known is None or known.kind is Kind.REFRESH:
                return answers.dead_access_token(token)
            if registration_code is None:
                return answers.missing_field("registrationCode")
            user = self._by_registration_code(registration_code)
            if known.kind is not Kind.ACCESS or user is None or user.name != known.user or user.reclaimed:
                return answers.no_user()
            code = new_uuid(self._random)
            lifetime_ns = round(self._settings.claim_account_code_lifetime_s * _NS_PER_S)
            self._claim_codes[code] = ClaimCode(user.name, self._now_ns() + lifetime_ns)
            return answers.claim_account_code(code)

    def subscribe(self, token: str | None, client_key: str, fields: Mapping[str, Json]) -> Answer:
        """Make a webhook subscription of the application's."""
        with self._lock:
            refused = self._refused_application(token, client_key)
            if refused is not None:
                return refused
            made = read_subscription(fields, new_id=lambda: new_uuid(self._random), now_ms=self._now_ns() // _NS_PER_MS)
            if not isinstance(made, Subscription):
                return made
            self._subscriptions[made.id] = made
            return told(self._as_json(made))

    def subscribe_to_all(self, url: str, version: str) -> list[Subscription]:
        """Subscribe to every event, as by hand in Wise's Developer Hub. ``BadValueError`` for what Wise refuses."""
        with self._lock:
            made = [
                read_subscription(
                    {"name": "by hand", "trigger_on": event_type, "delivery": {"version": version, "url": url}},
                    new_id=lambda: new_uuid(self._random),
                    now_ms=self._now_ns() // _NS_PER_MS,
                )
                for event_type in EventType
            ]
            taken = [one for one in made if isinstance(one, Subscription)]
            if len(taken) != len(made):
                raise BadValueError("url, version: must be an absolute http(s) URL and a version that Wise knows")
            self._subscriptions.update((one.id, one) for one in taken)
            return taken

    def subscribed(self, token: str | None, client_key: str, subscription_id: str | None) -> Answer | None:
        """All subscriptions, or one; none if it is not there."""
        with self._lock:
            refused = self._refused_application(token, client_key)
            if refused is not None:
                return refused
            if subscription_id is None:
                return told([self._as_json(subscription) for subscription in self._subscriptions.values()])
            found = self._subscriptions.get(subscription_id)
            return None if found is None else told(self._as_json(found))

    def unsubscribe(self, token: str | None, client_key: str, subscription_id: str) -> Answer | None:
        """Forget a subscription; none if it is not there."""
        with self._lock:
            refused = self._refused_application(token, client_key)
            if refused is not None:
                return refused
            found = self._subscriptions.pop(subscription_id, None)
            return None if found is None else answers.no_content()

    def test_subscription(self, token: str | None, client_key: str, subscription_id: str) -> Answer | None:
        """Have a test notification sent; none if there is no such subscription."""
        with self._lock:
            refused = self._refused_application(token, client_key)
            if refused is not None:
                return refused
            found = self._subscriptions.get(subscription_id)
            if found is None:
                return None
            now_ms = self._now_ns() // _NS_PER_MS
            test = TestNotification(subscription=found, delivery_id=new_uuid(self._random), created_at_ms=now_ms)
            self._tell(test)
            return told([{"delivery_id": test.delivery_id, "created_at": iso_instant(now_ms * _NS_PER_MS, 0)}])

    # What everybody may know afterwards

    def truth(self, *, values: bool = False) -> Truth:
        """A copy of everything; the tokens' values only if asked for."""
        with self._lock:
            requests = self.requests()
            return Truth(
                seq=self._seq,
                at_ms=self._wall_ms(),
                tokens=self.tokens(values=values),
                requests=requests,
                uses=self.uses(),
                overlaps=find_overlaps(requests),
                authorizations=self.authorizations(),
                signups=self.signups(),
            )

    def seq(self) -> int:
        """The number of the last thing that happened."""
        with self._lock:
            return self._seq

    def tokens(self, *, user: str | None = None, values: bool = False) -> list[TokenTruth]:
        """All tokens ever, in the order of their making."""
        with self._lock:
            tokens = [token for token in self._by_value.values() if user in (None, token.user)]
            for token in tokens:
                self._notice_expiry(token)
            return [replace(token, value=self._values[token.sha256] if values else None) for token in tokens]

    def requests(self, *, since: int = 0, user: str | None = None) -> list[RequestTruth]:
        """The token requests of which anything happened after ``since``, in the order of their beginning."""
        with self._lock:
            return [
                replace(record)
                for record in self._requests
                if user in (None, record.user)
                and (record.end_seq is None or max(record.begin_seq, record.end_seq) > since)
            ]

    def uses(self, *, since: int = 0, user: str | None = None) -> list[UseTruth]:
        """The uses after ``since``, in their order."""
        with self._lock:
            return [replace(record) for record in self._uses if user in (None, record.user) and record.seq > since]

    def authorizations(self, *, since: int = 0, user: str | None = None) -> list[AuthorizationTruth]:
        """The visits to the authorization page that ended after ``since``, in their order."""
        with self._lock:
            return _of(self._authorizations, since, user)

    def signups(self, *, since: int = 0, user: str | None = None) -> list[SignupTruth]:
        """The requests to make a user of which anything happened after ``since``, in their order."""
        with self._lock:
            return _of(self._signups, since, user)

    # Under the lock

    def _new_user(
        self, name: str, email: str | None = None, profiles: Sequence[ProfileType] = (ProfileType.PERSONAL,)
    ) -> User:
        self._users[name] = new_user(len(self._users), name, email, profiles)
        return self._users[name]

    def _known(self, user: str) -> User:
        known = self._users.get(user)
        if known is None:
            raise LookupError("no such user")
        return known

    def _with_email(self, email: str) -> User | None:
        return next((user for user in self._users.values() if user.email.lower() == email.lower()), None)

    def _by_registration_code(self, code: str) -> User | None:
        return next((user for user in self._users.values() if user.registration_code == code), None)

    def _as_json(self, subscription: Subscription) -> Json:
        return subscription.as_json(self._settings.client_key, self._settings.client_id)

    def _tell(self, news: StateChange | TestNotification) -> None:
        for listener in self._listeners:
            listener(news)

    def _tell_state(self, user: User, resource_id: int, event_type: EventType, *, open_now: bool) -> None:
        states = ("DEACTIVATED", "ACTIVE") if open_now else ("ACTIVE", "DEACTIVATED")
        self._tell(
            StateChange(
                event_type=event_type,
                user=user.name,
                resource_id=resource_id,
                previous_state=states[0],
                current_state=states[1],
                occurred_at_ms=self._now_ns() // _NS_PER_MS,
            )
        )

    def _living(self, token: str | None) -> TokenTruth | None:
        """The token of this value, if it is good for anything now."""
        known = self._by_value.get(token or "")
        if known is None:
            return None
        self._notice_expiry(known)
        shut = known.user is not None and not self._users[known.user].lets_in(known)
        return known if known.lives and not shut else None

    def _refused_application(self, token: str | None, client_key: str | None = None) -> Answer | None:
        """Why a call that is the application's, and of this key, is refused."""
        if token is None:
            return answers.no_access_token()
        known = self._living(token)
        if known is None or known.kind is Kind.REFRESH:
            return answers.dead_access_token(token)
        if known.kind is not Kind.APPLICATION or client_key not in (None, self._settings.client_key):
            return answers.no_user()
        return None

    def _owner_by_code(self, form: Mapping[str, str]) -> str | None:
        """Whose the code in a form is, or the address beside a registration code that nobody has."""
        match form.get("grant_type"):
            case "authorization_code":
                code = self._codes.get(form.get("code", ""))
                return None if code is None else code.user
            case "registration_code":
                found = self._by_registration_code(form.get("registration_code", ""))
                found = found or self._with_email(form.get("email", ""))
                return None if found is None else found.name
            case _:
                return None

    def _end(self, user: User, cause: Death) -> int:
        return sum(self._kill(token, cause) for token in user.access_tokens + user.refresh_tokens)

    def _seeded(self, user: User, access: TokenTruth, refresh: TokenTruth) -> SeededGrant:
        return SeededGrant(
            user=user.name,
            wise_user_id=user.wise_user_id,
            email=user.email,
            profile_id=access.profile_id,
            access_token=self._values[access.sha256],
            refresh_token=self._values[refresh.sha256],
            access_ordinal=access.ordinal,
            refresh_ordinal=refresh.ordinal,
            issued_at_ms=access.issued_at_ms,
            expires_at_ms=_end_of(access),
            refresh_expires_at_ms=_end_of(refresh),
            scope=SCOPE,
        )

    def _of_one_grant(self, tokens: Iterable[TokenTruth], profile_id: int | None) -> list[TokenTruth]:
        """Those that a new grant, or a refresh, for this profile replaces."""
        coexist = self._settings.profiles_coexist
        return [token for token in tokens if not coexist or token.profile_id == profile_id]

    def _judge_signup(self, record: SignupTruth, request: SignupRequest) -> Answer:
        refused = self._refused_application(request.token)
        if refused is not None:
            return refused
        if request.email is None or request.registration_code is None:
            return answers.missing_field("email" if request.email is None else "registrationCode")
        if len(request.registration_code) < _SHORTEST_REGISTRATION_CODE:
            return answers.short_registration_code()
        if _EMAIL.fullmatch(request.email) is None:
            return answers.bad_email()
        if self._with_email(request.email) is not None or request.email in self._users:
            return answers.email_taken(request.email)
        user = self._new_user(request.email, request.email, ())
        user.registration_code, user.signup_email = request.registration_code, request.email
        record.user = user.name
        return answers.user(user.wise_user_id, None, user.email, outcome="created")

    def _judge(self, record: RequestTruth, request: TokenRequest) -> Answer:
        return self._refused_client(request) or self._judge_form(record, request.form)

    def _refused_client(self, request: TokenRequest) -> Answer | None:
        settings = self._settings
        if request.client is None:
            return answers.no_client(settings.no_client_status)
        if not self._is_our_client(*request.client):
            return answers.wrong_client(settings.wrong_client_status, settings.wrong_client_error)
        if (request.form or {}).get("client_id", settings.client_id) != settings.client_id:
            return answers.foreign_client(settings.wrong_client_status)
        return None

    def _judge_form(self, record: RequestTruth, form: Mapping[str, str] | None) -> Answer:
        settings = self._settings
        if form is None:
            return answers.missing_grant_type(settings.foreign_body_status)
        match form.get("grant_type"):
            case None | "":
                return answers.missing_grant_type()
            case "refresh_token":
                presented = form.get("refresh_token")
                if not presented:
                    return answers.missing_refresh_token(settings.missing_parameter_status)
                return self._refresh(record, presented)
            case "client_credentials" | "registration_code" | "authorization_code" as grant_type:
                return self._begin_grant(record, grant_type, form)
            case _:
                return answers.unsupported_grant_type(settings.unsupported_grant_status)

    def _begin_grant(self, record: RequestTruth, grant_type: str, form: Mapping[str, str]) -> Answer:
        settings = self._settings
        match grant_type:
            case "client_credentials" if settings.client_credentials_allowed:
                return self._issue_application_token(record)
            case "authorization_code" if settings.authorization_code_allowed:
                return self._exchange_code(record, form)
            case "registration_code" if settings.registration_code_allowed:
                return self._exchange_registration(record, form)
            case _:
                return answers.refused_grant_type(settings.refused_grant_status, settings.refused_grant_error)

    def _is_our_client(self, client_id: str, secret: str) -> bool:
        now_ns = self._now_ns()
        valid = [value for value, end_ns in self._secrets if end_ns is None or now_ns < end_ns]
        right_secret = [hmac.compare_digest(secret.encode(), value.encode()) for value in valid]
        return client_id == self._settings.client_id and any(right_secret)

    def _exchange_code(self, record: RequestTruth, form: Mapping[str, str]) -> Answer:
        settings = self._settings
        missing = _missing(form, "client_id", "code", "redirect_uri")
        if missing is not None:
            return answers.missing_parameter(settings.missing_parameter_status, missing)
        code = self._codes.get(form["code"])
        if code is None or code.spent or self._now_ns() >= code.expires_ns:
            return answers.invalid_authorization_code(settings.bad_code_status)
        code.spent, code.consent.code_spent_by_request = True, record.id
        if form["redirect_uri"] != code.redirect_uri:
            return answers.redirect_uri_mismatch(settings.bad_code_status)
        user = self._users[code.user]
        if not user.active or code.profile_id in user.closed_profiles:
            return answers.deactivated(settings.deactivated_error)
        return self._grant(record, user, code.profile_id)

    def _exchange_registration(self, record: RequestTruth, form: Mapping[str, str]) -> Answer:
        settings = self._settings
        missing = _missing(form, "client_id", "email", "registration_code")
        if missing is not None:
            return answers.missing_parameter(settings.missing_parameter_status, missing)
        user = self._by_registration_code(form["registration_code"])
        if user is not None and not user.active:
            return answers.deactivated(settings.deactivated_error)
        right_address = user is not None and (user.signup_email or "").lower() == form["email"].lower()
        if user is None or user.reclaimed or not right_address:
            changed = user is not None and right_address and user.email != user.signup_email
            return answers.invalid_user_credentials(
                settings.email_changed_status if changed else settings.registration_refused_status
            )
        return self._grant(record, user, None)

    def _grant(self, record: RequestTruth, user: User, profile_id: int | None) -> Answer:
        """A new grant: the old refresh token dies at once, the last access token lives on.

        Source: docs.wise.com/guides/product/account-setup/refreshing-access.
        """
        settings = self._settings
        for token in self._of_one_grant(user.refresh_tokens, profile_id):
            self._kill(token, Death.NEW_GRANT, record)
        now_ns = self._now_ns()
        refresh = self._mint(
            user, Kind.REFRESH, now_ns, settings.refresh_token_lifetime_s, record, profile_id=profile_id
        )
        access = self._living_access_token(user, profile_id) if settings.new_grant_keeps_access_token else None
        if access is None:
            access = self._mint(
                user, Kind.ACCESS, now_ns, settings.access_token_lifetime_s, record, profile_id=profile_id
            )
        record.carried_out = True
        record.access_ordinal = access.ordinal
        record.refresh_ordinal = refresh.ordinal
        return answers.new_grant(self._token_fields(access, refresh, now_ns, RefreshTokenPolicy.SAME))

    def _living_access_token(self, user: User, profile_id: int | None) -> TokenTruth | None:
        """The newest one for this profile."""
        for token in reversed(user.access_tokens):
            self._notice_expiry(token)
            if token.lives and token.profile_id == profile_id:
                return token
        return None

    def _dead(self, echo: str | None, cause: Death | None) -> Answer:
        """What the owner of a dead refresh token is told."""
        settings = self._settings
        changed = cause is Death.EMAIL_CHANGE
        status = settings.email_changed_status if changed else settings.unknown_refresh_status
        return answers.invalid_refresh_token(status, echo)

    def _refresh(self, record: RequestTruth, presented: str) -> Answer:
        settings = self._settings
        echo = presented if settings.echo_refresh_token else None
        refresh = self._by_value.get(presented)
        if refresh is None or refresh.kind is not Kind.REFRESH or refresh.user is None:
            return answers.invalid_refresh_token(settings.unknown_refresh_status, echo)
        self._notice_expiry(refresh)
        user = self._users[refresh.user]
        if refresh.killed_by is Death.EXPIRY and settings.expired_refresh is ExpiredRefresh.INVALID_TOKEN:
            for token in user.access_tokens:
                self._kill(token, Death.EXPIRED_REFRESH_TOKEN, record)
            return answers.expired_refresh_token(echo)
        if not user.lets_in(refresh):
            return answers.deactivated(settings.deactivated_error)
        if not refresh.lives:
            return self._dead(echo, refresh.killed_by)
        profile_id = refresh.profile_id
        for token in self._of_one_grant(user.access_tokens, profile_id):
            self._kill(token, Death.REFRESH, record)
        now_ns = self._now_ns()
        policy = user.refresh_token_policy or settings.refresh_token_policy
        if policy is RefreshTokenPolicy.ROTATED:
            self._kill(refresh, Death.REFRESH, record)
            refresh = self._mint(
                user, Kind.REFRESH, now_ns, settings.refresh_token_lifetime_s, record, profile_id=profile_id
            )
        access = self._mint(user, Kind.ACCESS, now_ns, settings.access_token_lifetime_s, record, profile_id=profile_id)
        record.carried_out = True
        record.access_ordinal = access.ordinal
        record.refresh_ordinal = refresh.ordinal
        return answers.token_set(self._token_fields(access, refresh, now_ns, policy))

    def _token_fields(
        self, access: TokenTruth, refresh: TokenTruth, created_ns: int, policy: RefreshTokenPolicy
    ) -> dict[str, Json]:
        now_ns = self._now_ns()
        settings = self._settings
        fields: dict[str, Json] = {
            "access_token": self._values[access.sha256],
            "token_type": "bearer",
            "refresh_token": self._values[refresh.sha256],
            "expires_in": _seconds_left(_end_of(access), now_ns),
            "expires_at": iso_instant(_end_of(access) * _NS_PER_MS, 3),
            "refresh_token_expires_in": _seconds_left(_end_of(refresh), now_ns),
            "refresh_token_expires_at": iso_instant(_end_of(refresh) * _NS_PER_MS, 3),
            "scope": SCOPE,
            "created_at": iso_instant(created_ns, settings.created_at_digits),
        }
        if policy is RefreshTokenPolicy.OMITTED:
            for name in _REFRESH_FIELDS:
                del fields[name]
        return fields

    def _issue_application_token(self, record: RequestTruth) -> Answer:
        settings = self._settings
        if not settings.application_tokens_coexist:
            for token in self._application_tokens:
                self._kill(token, Death.NEW_APPLICATION_TOKEN, record)
        now_ns = self._now_ns()
        value = new_application_token(settings.application_token_format, self._random)
        fresh = self._mint(None, Kind.APPLICATION, now_ns, settings.access_token_lifetime_s, record, value=value)
        record.access_ordinal = fresh.ordinal
        return answers.application_token(
            {
                "access_token": value,
                "token_type": "bearer",
                "expires_in": _seconds_left(_end_of(fresh), self._now_ns()),
                "expires_at": iso_instant(_end_of(fresh) * _NS_PER_MS, 3),
                "scope": SCOPE,
            }
        )

    def _mint(
        self,
        user: User | None,
        kind: Kind,
        issued_ns: int,
        lifetime_s: float | None,
        record: RequestTruth | None = None,
        *,
        value: str | None = None,
        profile_id: int | None = None,
    ) -> TokenTruth:
        if value is None:
            value = new_token(self._settings.token_format, self._random)
        theirs = self._application_tokens if user is None else user.tokens(kind)
        token = TokenTruth(
            kind=kind,
            user=None if user is None else user.name,
            ordinal=len(theirs) + 1,
            sha256=fingerprint(value),
            profile_id=profile_id,
            issued_at_ms=issued_ns // _NS_PER_MS,
            expires_at_ms=None if lifetime_s is None else issued_ns // _NS_PER_MS + round(lifetime_s * 1_000),
            minted_by_request=None if record is None else record.id,
            minted_seq=self._next_seq(),
            minted_ms=self._wall_ms(),
        )
        theirs.append(token)
        self._by_value[value] = token
        self._values[token.sha256] = value
        return token

    def _kill(self, token: TokenTruth, death: Death, record: RequestTruth | None = None) -> bool:
        self._notice_expiry(token)
        if not token.lives:
            return False
        token.lives = False
        token.killed_by = death
        token.killed_by_request = None if record is None else record.id
        token.died_seq = self._next_seq()
        token.died_ms = self._wall_ms()
        return True

    def _notice_expiry(self, token: TokenTruth) -> None:
        if token.lives and token.expires_at_ms is not None and self._now_ns() >= token.expires_at_ms * _NS_PER_MS:
            token.lives = False
            token.killed_by = Death.EXPIRY
            token.died_seq = self._next_seq()
            token.died_ms = token.expires_at_ms - self._offset_ns // _NS_PER_MS

    def _settle(self, record: RequestTruth, outcome: str) -> None:
        record.outcome = outcome
        record.settled_seq = self._next_seq()
        record.settled_ms = self._wall_ms()

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _wall_ms(self) -> int:
        return self._wall_ns() // _NS_PER_MS

    def _now_ns(self) -> int:
        return self._wall_ns() + self._offset_ns


def _verdict(token: str | None, known: TokenTruth | None) -> Verdict:
    if token is None:
        return Verdict.MISSING
    if known is None:
        return Verdict.UNKNOWN
    return Verdict.LIVES if known.lives else Verdict.DEAD


def _chosen(user: User, profile_id: int | None) -> int | None:
    """The profile that is meant: this one, or the user's first; none where the user has none."""
    if profile_id is None:
        return user.profiles[0].id if user.profiles else None
    if user.profile(profile_id) is None:
        raise BadValueError("profile_id: must be one of the user's")
    return profile_id


def _missing(form: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if not form.get(name)), None)


_Visit = TypeVar("_Visit", AuthorizationTruth, SignupTruth)


def _of(records: Iterable[_Visit], since: int, user: str | None) -> list[_Visit]:
    return [replace(record) for record in records if user in (None, record.user) and record.seq > since]


def _end_of(token: TokenTruth) -> int:
    """When a token that has an end expires."""
    if token.expires_at_ms is None:
        raise AssertionError("only personal tokens have no end")
    return token.expires_at_ms


def _seconds_left(expires_at_ms: int, now_ns: int) -> int:
    """Cut, not rounded: a fresh twelve-hour token has 43,199 seconds left, as on Wise's pages."""
    return (expires_at_ms * _NS_PER_MS - now_ns) // _NS_PER_S
