"""What Wise's answers mean: pure functions of status, headers and body.

The OAuth `error` in the body decides first, the status second, the words of a description never. Wise documents the
statuses of one fault differently on different pages (400, 401 and 403 for `invalid_grant`), so no status is trusted
alone. Sources: docs.wise.com/api-reference/oauth-token/oauthtokencreate, docs.wise.com/guides/developer/errors,
RFC 6749 §5.1 and §5.2.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from token_rotator.domain.errors import InvalidInput
from token_rotator.domain.grant import checked_id
from token_rotator.domain.instants import parse_instant
from token_rotator.domain.link import ProfilesShown
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientRefused,
    GrantInvalid,
    Liveness,
    Refreshed,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.tokens import Secret, TokenSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from token_rotator.domain.outcome import ClientCheck, Outcome

DOCUMENTED_LIFE: Final = timedelta(hours=12)
"""An access token's life where an answer does not say (docs.wise.com/guides/developer/auth-and-security)."""
MAX_TOKEN: Final = 32_768
"""Longer strings are not taken for tokens: they would not fit the store beside each other."""
MAX_APPLICATION_TOKEN: Final = 184_320
"""The same of our application's own token, which lies alone in its item.

Sealed and in base64 it fits a parked message of 256 KiB, which is what a queue takes that was made before 2025
(docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html).
"""
_LONGEST_LIFE: Final = timedelta(days=366)
_LONGEST_REFRESH_LIFE: Final = timedelta(days=366 * 100)
_ERROR: Final = re.compile(r"[a-z_]{1,40}", re.ASCII)
_TRACE: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_SCOPE: Final = re.compile(r"[\x20-\x7e]{1,256}", re.ASCII)
_CLIENT_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client", "unauthorized"})
_GRANT_STATUSES: Final = frozenset({400, 401, 403})


def _body(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(value: object, longest: timedelta) -> timedelta | None:
    """Read a count of seconds, given as a number or a string of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:  # noqa: PLR2004
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        return None
    if not 0 <= value <= longest.total_seconds():
        return None
    return timedelta(seconds=value)


def _token(value: object, longest: int = MAX_TOKEN) -> Secret | None:
    if isinstance(value, str) and len(value) <= longest and _TOKEN.fullmatch(value):
        return Secret(value)
    return None


def _ends(body: dict[str, Any], stem: str, now: datetime, longest: timedelta) -> datetime | None:
    """Give the earlier of what `…_in` and `…_at` say."""
    moments = []
    length = _seconds(body.get(f"{stem}_in"), longest)
    if length is not None:
        moments.append(now + length)
    instant = parse_instant(body.get(f"{stem}_at"))
    if instant is not None and instant <= now + longest:
        moments.append(instant)
    return min(moments, default=None)


def read_tokens(body: dict[str, Any], now: datetime, longest: int = MAX_TOKEN) -> TokenSet | None:
    """Read a token answer; `None` if there is no access token in it. Missing and unknown fields are tolerated."""
    access_token = _token(body.get("access_token"), longest)
    if access_token is None:
        return None
    scope = body.get("scope")
    return TokenSet(
        access_token=access_token,
        issued_at=now,
        expires_at=_ends(body, "expires", now, _LONGEST_LIFE) or now + DOCUMENTED_LIFE,
        refresh_token=_token(body.get("refresh_token")),
        refresh_expires_at=_ends(body, "refresh_token_expires", now, _LONGEST_REFRESH_LIFE),
        scope=scope if isinstance(scope, str) and _SCOPE.fullmatch(scope) else None,
    )


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    return _seconds(headers.get("retry-after", "").strip(), timedelta(days=1))


def trace_of(headers: Mapping[str, str]) -> str | None:
    """Give Wise's trace id, if it looks like one."""
    found = headers.get("x-trace-id", "")
    return found if _TRACE.fullmatch(found) else None


def classify(
    status: int, headers: Mapping[str, str], content: bytes, now: datetime, longest: int = MAX_TOKEN
) -> Outcome:
    """Say what an answer of the token endpoint means. `headers` by lower-case name; `now` when the request left.

    `longest`: how many characters an access token may have.
    """
    body = _body(content)
    error = body.get("error")
    if not (isinstance(error, str) and _ERROR.fullmatch(error)):
        error = None
    trace_id = trace_of(headers)
    facts: dict[str, Any] = {"status": status, "error": error, "trace_id": trace_id}
    if 200 <= status < 300:  # noqa: PLR2004
        tokens = read_tokens(body, now, longest)
        return Refreshed(tokens=tokens, **facts) if tokens else Unknown(reason=f"{status}-without-token", **facts)
    if status == 429:  # noqa: PLR2004
        return Throttled(retry_after=_retry_after(headers), **facts)
    if status in _GRANT_STATUSES:
        if error in ("invalid_grant", "invalid_token"):
            return GrantInvalid(**facts)
        if error in _CLIENT_ERRORS or (status == 401 and error is None):  # noqa: PLR2004
            return ClientRefused(**facts)
        return WeAreWrong(**facts)
    if status in (500, 503) and isinstance(body.get("error"), str) and trace_id:  # Wise's own forms of a fault
        return ServerFault(**facts)
    if 300 <= status < 500 and status != 408:  # noqa: PLR2004 - 408: a proxy gave up waiting for somebody
        return WeAreWrong(**facts)
    return Unknown(reason=f"status-{status}", **facts)


def of_application(outcome: Outcome) -> Outcome:
    """Say what an answer means that should hold our application's own token: it comes alone, or not at all."""
    match outcome:
        case Refreshed(tokens=tokens):
            return replace(outcome, tokens=replace(tokens, refresh_token=None, refresh_expires_at=None))
        case GrantInvalid():  # nothing was presented that could be dead
            return WeAreWrong(status=outcome.status, error=outcome.error, trace_id=outcome.trace_id)
        case _:
            return outcome


def of_client(outcome: Outcome) -> ClientCheck:
    """Say what an answer to `client_credentials` means. The application token in it goes no further."""
    facts: dict[str, Any] = {"status": outcome.status, "error": outcome.error, "trace_id": outcome.trace_id}
    match outcome:
        case Refreshed():
            return ClientAccepted(changed=False, **facts)
        case GrantInvalid():  # no user's grant was shown, so that it can only be about the client
            return ClientRefused(**facts)
        case _:
            return outcome


def profiles_shown(status: int, content: bytes) -> ProfilesShown | None:
    """Give the profiles that an access token is good for (docs.wise.com/api-reference/profile/profilelist).

    `None` for anything but a whole list of them. The user is known if each of them has the same `userId`.
    """
    try:
        listed = json.loads(content) if status == 200 else None  # noqa: PLR2004
        ids = [profile["id"] for profile in listed] if isinstance(listed, list) else None
        users = {profile.get("userId") for profile in listed or ()}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
    if ids is None or not all(type(one) is int or isinstance(one, str) for one in ids):
        return None
    user = users.pop() if len(users) == 1 else None
    return ProfilesShown(frozenset(map(str, ids)), _user_id(user))


def _user_id(user: object) -> str | None:
    """Read a user's id; one of another form is none."""
    try:
        return checked_id("userId", str(user) if type(user) is int else user)  # type: ignore[arg-type]
    except (InvalidInput, TypeError):
        return None


def liveness(status: int, headers: Mapping[str, str], content: bytes) -> Liveness:
    """Say what an answer of `GET /v1/me` means for the access token that was shown."""
    if status == 200:  # noqa: PLR2004
        return Liveness.LIVES
    if status == 401 and _body(content).get("error") == "invalid_token":  # noqa: PLR2004
        return Liveness.DEAD
    if status == 403 and any(name.startswith("x-2fa-") for name in headers):  # noqa: PLR2004 - strong authentication
        return Liveness.LIVES
    return Liveness.NO_ANSWER
