"""The records in which the emulator tells what really happened.

Two orders run through them. ``*_seq`` counts everything that happens: of two events the one with the lower
number came first. ``*_ms`` is the machine's own clock, epoch milliseconds UTC, for joining with other logs.
Only ``issued_at_ms`` and ``expires_at_ms`` are on Wise's clock, which the control port can shift. Tokens
appear as user, ordinal and SHA-256; the value itself only where it was asked for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Kind(StrEnum):
    """Which of a user's tokens."""

    ACCESS = "access"
    REFRESH = "refresh"
    APPLICATION = "application"
    """Of the application itself, by ``client_credentials``: no user's."""
    PERSONAL = "personal"
    """Made by a user in their own account: of no application, without an end.

    Source: docs.wise.com/guides/developer/auth-and-security/personal-api-token.
    """


class Verdict(StrEnum):
    """What a token was at the moment it was used."""

    LIVES = "lives"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """A string that this Wise never issued."""
    MISSING = "missing"
    """No bearer token in the request."""


class Death(StrEnum):
    """What killed a token."""

    REFRESH = "refresh"
    """A refresh replaced it (docs.wise.com/guides/developer/auth-and-security/refresh-tokens)."""
    EXPIRY = "expiry"
    REVOCATION = "revocation"
    """The user took back the application's access."""
    ENHANCED_SECURITY = "enhanced_security"
    """The user enabled enhanced security."""
    SUSPECTED_BREACH = "suspected_breach"
    """Wise suspects that the token or the client secret leaked."""
    OWNERSHIP_TRANSFER = "ownership_transfer"
    """The business profile went to another owner."""
    EMAIL_CHANGE = "email_change"
    """The user changed their e-mail address at Wise."""
    DEACTIVATION = "deactivation"
    """The account was deactivated: its registration code is void too."""
    NEW_GRANT = "new_grant"
    """The user was linked again: kills the refresh token at once, not the access token
    (docs.wise.com/guides/product/account-setup/refreshing-access)."""
    EXPIRED_REFRESH_TOKEN = "expired_refresh_token"
    CLIENT_SECRET = "client_secret"
    NEW_APPLICATION_TOKEN = "new_application_token"


@dataclass(slots=True, kw_only=True)
class TokenTruth:
    """One token: where it came from, whether it lives and what killed it."""

    kind: Kind
    user: str | None
    """None for an application token."""
    ordinal: int
    """1 for the user's, or the application's, first token of this kind."""
    sha256: str
    profile_id: int | None = None
    """The profile that it is good for; none for all of the user's, or for an application token."""
    issued_at_ms: int
    expires_at_ms: int | None
    """None for a personal token: it is good until it is revoked."""
    minted_by_request: int | None
    """``id`` of the token request that made it; none for a seeded one."""
    minted_seq: int
    minted_ms: int
    lives: bool = True
    killed_by: Death | None = None
    killed_by_request: int | None = None
    died_seq: int | None = None
    """Place of the death in the order. An expiry takes its place when it is first noticed."""
    died_ms: int | None = None
    value: str | None = None


@dataclass(slots=True, kw_only=True)
class RequestTruth:
    """One request to the token endpoint, refused ones included."""

    id: int
    path: str
    grant_type: str | None
    """``other`` for anything but Wise's four grant types."""
    user: str | None
    """Owner of the refresh token, authorization code or registration code that was presented, dead or alive."""
    presented_ordinal: int | None
    """Which of the user's refresh tokens was presented."""
    correlation_id: str | None
    trace_id: str
    client_port: int | None = None
    """The client's end of the connection: tells its processes apart."""
    begin_seq: int
    begin_ms: int
    settled_seq: int | None = None
    """When it was carried out or refused, from when on it can change nothing any more."""
    settled_ms: int | None = None
    end_seq: int | None = None
    """When it was settled and its answer was written or its connection lost, whichever came last."""
    end_ms: int | None = None
    carried_out: bool = False
    """It gave the user tokens: replaced the access token (a refresh), or made a new grant."""
    outcome: str | None = None
    """``refreshed``, ``granted`` (by a code), ``issued`` (an application token), the ``error`` of the verdict, or
    ``not_carried_out``."""
    access_ordinal: int | None = None
    """The access token, or application token, that it made."""
    refresh_ordinal: int | None = None
    """The refresh token that is valid after it."""
    status: int | None = None
    """Of the answer that was written, whole or in part; none if there was none."""
    delivered: bool | None = None
    """The whole answer was handed to a connection that the client had not closed."""
    client_gone_ms: int | None = None
    """When the emulator noticed that the client had closed the connection before it was answered."""
    fault: str | None = None
    """``id`` of the fault that was applied."""


@dataclass(slots=True, kw_only=True)
class UseTruth:
    """One call of ``/v1/me`` and what its token was at that moment."""

    id: int
    path: str
    seq: int
    at_ms: int
    verdict: Verdict
    user: str | None
    ordinal: int | None
    newest_ordinal: int | None
    """The user's newest token of its kind at that moment."""
    sha256: str | None
    killed_by: Death | None
    died_seq: int | None
    died_ms: int | None
    correlation_id: str | None
    trace_id: str
    status: int | None = None
    delivered: bool | None = None
    fault: str | None = None


class Consent(StrEnum):
    """What became of a visit to the authorization page."""

    GIVEN = "given"
    REFUSED = "refused"
    UNKNOWN_CLIENT = "unknown_client"
    """No redirect: the page says so."""
    UNKNOWN_REDIRECT_URI = "unknown_redirect_uri"
    """Not one of those registered; no redirect either."""


@dataclass(slots=True, kw_only=True)
class AuthorizationTruth:
    """One visit to the authorization page that came to an end, and the code that it gave."""

    id: int
    seq: int
    at_ms: int
    consent: Consent
    user: str | None
    """Who was logged in; none where nobody was."""
    profile_id: int | None = None
    redirect_uri: str | None = None
    """As asked for, registered or not."""
    state_sha256: str | None = None
    claimed: bool = False
    """The user took the account over with it, by a claim account code."""
    code_sha256: str | None = None
    """Of the code that a given consent made."""
    code_expires_at_ms: int | None = None
    """On Wise's clock."""
    code_spent_by_request: int | None = None
    """``id`` of the token request that used the code up, whether it got tokens for it or not."""


@dataclass(slots=True, kw_only=True)
class SignupTruth:
    """One request to make a user with a registration code."""

    id: int
    path: str
    seq: int
    at_ms: int
    user: str | None
    """Whom it made, or whose e-mail address it names."""
    outcome: str
    """``created``, the code of the error, or ``not_carried_out``."""
    code_sha256: str | None
    correlation_id: str | None
    trace_id: str
    status: int | None = None
    delivered: bool | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapTruth:
    """Two refresh requests of one user that were in flight at the same time."""

    user: str
    first: int
    second: int
    """``id`` of the request that began while ``first`` was in flight."""
    from_ms: int
    to_ms: int | None
    """None while both are still in flight."""
    both_unsettled: bool
    """At ``from_ms`` the first could still be carried out. If not, only its answer was outstanding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Everything, up to ``seq``."""

    seq: int
    at_ms: int
    tokens: list[TokenTruth]
    requests: list[RequestTruth]
    uses: list[UseTruth]
    overlaps: list[OverlapTruth]
    authorizations: list[AuthorizationTruth] = field(default_factory=list)
    signups: list[SignupTruth] = field(default_factory=list)

    def live_access_tokens(self, user: str) -> list[TokenTruth]:
        """The access tokens of a user that live; at most one unless the user was linked again."""
        return [t for t in self.tokens if t.kind is Kind.ACCESS and t.user == user and t.lives]

    def uses_of_dead_tokens(self) -> list[UseTruth]:
        """Every call of ``/v1/me`` with a token that had died."""
        return [use for use in self.uses if use.verdict is Verdict.DEAD]


def find_overlaps(requests: Iterable[RequestTruth]) -> list[OverlapTruth]:
    """Every pair of refresh requests of one user of which the second began before the first ended."""
    by_user: defaultdict[str, list[RequestTruth]] = defaultdict(list)
    for request in sorted(requests, key=lambda request: request.begin_seq):
        if request.user is not None and request.grant_type == "refresh_token":
            by_user[request.user].append(request)
    overlaps: list[OverlapTruth] = []
    for user, theirs in by_user.items():
        in_flight: list[RequestTruth] = []
        for request in theirs:
            in_flight = [r for r in in_flight if r.end_seq is None or r.end_seq > request.begin_seq]
            overlaps += [_overlap(user, earlier, request) for earlier in in_flight]
            in_flight.append(request)
    return overlaps


def _overlap(user: str, first: RequestTruth, second: RequestTruth) -> OverlapTruth:
    ends = [request.end_ms for request in (first, second) if request.end_ms is not None]
    return OverlapTruth(
        user=user,
        first=first.id,
        second=second.id,
        from_ms=second.begin_ms,
        to_ms=min(ends, default=None),
        both_unsettled=first.settled_seq is None or first.settled_seq > second.begin_seq,
    )
