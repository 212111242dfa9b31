"""Wise itself: users, their tokens, the verdicts, and the truth about all of it. No sockets, no waiting."""

from __future__ import annotations

import hmac
import threading
import time
from dataclasses import dataclass, field, replace
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from local.wise import answers
from local.wise.settings import BadValueError, ExpiredRefresh, Json, RefreshTokenPolicy, WiseSettings
from local.wise.tokens import fingerprint, iso_instant, new_application_token, new_token, new_uuid
from local.wise.truth import Death, Kind, RequestTruth, TokenTruth, Truth, UseTruth, Verdict, find_overlaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.wise.answers import Answer

SCOPE = "transfers"
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_FIRST_WISE_USER_ID = 1_000_001
_WISE_GRANT_TYPES = ("client_credentials", "registration_code", "authorization_code", "refresh_token")
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
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_ordinal: int
    refresh_ordinal: int
    issued_at_ms: int
    expires_at_ms: int
    refresh_expires_at_ms: int
    scope: str


@dataclass(slots=True)
class _User:
    name: str
    wise_user_id: int
    refresh_token_policy: RefreshTokenPolicy | None = None
    """What a refresh does with this user's refresh token; none: what the setting says."""
    access_tokens: list[TokenTruth] = field(default_factory=list)
    refresh_tokens: list[TokenTruth] = field(default_factory=list)

    def tokens(self, kind: Kind) -> list[TokenTruth]:
        return self.access_tokens if kind is Kind.ACCESS else self.refresh_tokens


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
        self._users: dict[str, _User] = {}
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
    ) -> SeededGrant:
        """Give a user a grant, issued ``age_s`` ago, with tokens of the caller's choice or made up.

        A user who has one is linked again: the old refresh token dies at once, the last access token lives
        until it expires or is replaced (docs.wise.com/guides/product/account-setup/refreshing-access).
        The lifetimes hold for these two tokens only; ``refresh_token_policy`` for all refreshes of this grant, in
        place of the setting. ``BadValueError`` for a token that exists already.
        """
        with self._lock:
            settings = self._settings
            for value in (access_token, refresh_token):
                if value is not None and (value == "" or value in self._by_value):
                    raise BadValueError("access_token, refresh_token: must be new and not empty")
            if access_token is not None and access_token == refresh_token:
                raise BadValueError("access_token, refresh_token: must differ")
            known = self._users.setdefault(user, _User(user, _FIRST_WISE_USER_ID + len(self._users)))
            known.refresh_token_policy = refresh_token_policy
            for token in known.refresh_tokens:
                self._kill(token, Death.NEW_GRANT)
            issued_ns = self._now_ns() - round(age_s * _NS_PER_S)
            refresh = self._mint(
                known,
                Kind.REFRESH,
                issued_ns,
                settings.refresh_token_lifetime_s if refresh_token_lifetime_s is None else refresh_token_lifetime_s,
                value=refresh_token,
            )
            access = self._mint(
                known,
                Kind.ACCESS,
                issued_ns,
                settings.access_token_lifetime_s if access_token_lifetime_s is None else access_token_lifetime_s,
                value=access_token,
            )
            return SeededGrant(
                user=user,
                wise_user_id=known.wise_user_id,
                access_token=self._values[access.sha256],
                refresh_token=self._values[refresh.sha256],
                access_ordinal=access.ordinal,
                refresh_ordinal=refresh.ordinal,
                issued_at_ms=access.issued_at_ms,
                expires_at_ms=access.expires_at_ms,
                refresh_expires_at_ms=refresh.expires_at_ms,
                scope=SCOPE,
            )

    def revoke(self, user: str) -> int:
        """End a user's grant as the user, or Wise on suspicion, would: every token dies, nobody is told.

        Returns how many tokens died. Raises ``LookupError`` for an unknown user.
        """
        with self._lock:
            known = self._users.get(user)
            if known is None:
                raise LookupError("no such user")
            tokens = known.access_tokens + known.refresh_tokens
            return sum(self._kill(token, Death.REVOCATION) for token in tokens)

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
                    self._kill(token, Death.CLIENT_SECRET)
            return fresh

    # What a request does, step by step

    def new_trace_id(self) -> str:
        """32 hex digits, as in Wise's ``x-trace-id``."""
        with self._lock:
            return f"{self._random.getrandbits(128):032x}"

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
                user=None if presented is None else presented.user,
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

    def note_fault(self, record: RequestTruth | UseTruth, fault: str | None) -> None:
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
        """``/v1/me`` with an access token (none: no bearer token): the verdict, on record, and the answer."""
        with self._lock:
            known = None if token is None else self._by_value.get(token)
            if known is not None and known.kind is Kind.REFRESH:
                known = None
            if known is not None:
                self._notice_expiry(known)
            verdict = _verdict(token, known)
            owner = None if known is None or known.user is None else self._users[known.user]
            record = UseTruth(
                id=len(self._uses) + 1,
                path=path,
                seq=self._next_seq(),
                at_ms=self._wall_ms(),
                verdict=verdict,
                user=None if owner is None else owner.name,
                ordinal=None if known is None else known.ordinal,
                newest_ordinal=None if owner is None else owner.access_tokens[-1].ordinal,
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
            if owner is None:
                return record, answers.no_user()
            return record, answers.user(owner.wise_user_id, owner.name)

    def end_use(self, record: UseTruth, *, status: int | None, delivered: bool) -> None:
        """The answer to a use was written, or its connection was lost."""
        with self._lock:
            record.status = status
            record.delivered = delivered
            self._next_seq()

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

    # Under the lock

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
            case "client_credentials" if settings.client_credentials_allowed:
                return self._issue_application_token(record)
            case "client_credentials" | "registration_code" | "authorization_code":
                return answers.refused_grant_type(settings.refused_grant_status, settings.refused_grant_error)
            case _:
                return answers.unsupported_grant_type(settings.unsupported_grant_status)

    def _is_our_client(self, client_id: str, secret: str) -> bool:
        now_ns = self._now_ns()
        valid = [value for value, end_ns in self._secrets if end_ns is None or now_ns < end_ns]
        right_secret = [hmac.compare_digest(secret.encode(), value.encode()) for value in valid]
        return client_id == self._settings.client_id and any(right_secret)

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
        if not refresh.lives:
            return answers.invalid_refresh_token(settings.unknown_refresh_status, echo)
        for token in user.access_tokens:
            self._kill(token, Death.REFRESH, record)
        now_ns = self._now_ns()
        policy = user.refresh_token_policy or settings.refresh_token_policy
        if policy is RefreshTokenPolicy.ROTATED:
            self._kill(refresh, Death.REFRESH, record)
            refresh = self._mint(user, Kind.REFRESH, now_ns, settings.refresh_token_lifetime_s, record)
        access = self._mint(user, Kind.ACCESS, now_ns, settings.access_token_lifetime_s, record)
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
            "expires_in": _seconds_left(access.expires_at_ms, now_ns),
            "expires_at": iso_instant(access.expires_at_ms * _NS_PER_MS, 3),
            "refresh_token_expires_in": _seconds_left(refresh.expires_at_ms, now_ns),
            "refresh_token_expires_at": iso_instant(refresh.expires_at_ms * _NS_PER_MS, 3),
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
                "expires_in": _seconds_left(fresh.expires_at_ms, self._now_ns()),
                "expires_at": iso_instant(fresh.expires_at_ms * _NS_PER_MS, 3),
                "scope": SCOPE,
            }
        )

    def _mint(
        self,
        user: _User | None,
        kind: Kind,
        issued_ns: int,
        lifetime_s: float,
        record: RequestTruth | None = None,
        *,
        value: str | None = None,
    ) -> TokenTruth:
        if value is None:
            value = new_token(self._settings.token_format, self._random)
        theirs = self._application_tokens if user is None else user.tokens(kind)
        token = TokenTruth(
            kind=kind,
            user=None if user is None else user.name,
            ordinal=len(theirs) + 1,
            sha256=fingerprint(value),
            issued_at_ms=issued_ns // _NS_PER_MS,
            expires_at_ms=issued_ns // _NS_PER_MS + round(lifetime_s * 1_000),
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
        if token.lives and self._now_ns() >= token.expires_at_ms * _NS_PER_MS:
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


def _seconds_left(expires_at_ms: int, now_ns: int) -> int:
    """Cut, not rounded: a fresh twelve-hour token has 43,199 seconds left, as on Wise's pages."""
    return (expires_at_ms * _NS_PER_MS - now_ns) // _NS_PER_S
