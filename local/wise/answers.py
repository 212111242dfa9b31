"""Wise's answers, word for word where Wise documents them.

Sources: docs.wise.com/api-reference/oauth-token/oauthtokencreate (token response, missing grant type),
docs.wise.com/guides/developer/errors (the dead token echoed in its own error, rate limits),
docs.wise.com/guides/developer/auth-and-security/refresh-tokens (``invalid_grant``). What Wise leaves open is
worded as Spring Security OAuth 2 words it, from which the endpoint seems to descend: same path, same
twelve hours, same texts wherever both are known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from local.wise.settings import Json, RefusedGrantError, WrongClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_UTF8 = "application/json;charset=UTF-8"
REFRESHED = "refreshed"
ISSUED = "issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer before anything was done to it on its way."""

    status: int
    outcome: str
    """``refreshed``, ``issued``, ``ok`` or the ``error`` in the body: for the truth log."""
    body: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


def encode(value: Json) -> str:
    """Compact JSON, as Wise sends it."""
    return json.dumps(value, separators=(",", ":"))


def token_set(fields: Mapping[str, Json]) -> Answer:
    """200 with the tokens."""
    return Answer(status=200, outcome=REFRESHED, body=encode(dict(fields)))


def application_token(fields: Mapping[str, Json]) -> Answer:
    """200 with an application token."""
    return Answer(status=200, outcome=ISSUED, body=encode(dict(fields)))


def user(wise_user_id: int, name: str) -> Answer:
    """200 of ``/v1/me`` (docs.wise.com/api-reference/user)."""
    body: Json = {
        "id": wise_user_id,
        "name": name,
        "email": f"user-{wise_user_id}@example.com",
        "active": True,
        "details": None,
    }
    return Answer(status=200, outcome="ok", body=encode(body))


def missing_grant_type(status: int = 400) -> Answer:
    """Documented: what a body without ``grant_type`` gets, and so one that is not a form."""
    return _error(status, "invalid_request", "Missing grant type")


def missing_refresh_token(status: int) -> Answer:
    """Undocumented."""
    return _error(status, "invalid_request", "Missing refresh token")


def unsupported_grant_type(status: int) -> Answer:
    """Undocumented; Spring's words."""
    return _error(status, "unsupported_grant_type", "Unsupported grant type")


def refused_grant_type(status: int, error: RefusedGrantError) -> Answer:
    """Undocumented; Spring's words."""
    return _error(status, error.value, "Unauthorized grant type")


def no_client(status: int) -> Answer:
    """The words are those of Wise's older error page (api-docs.wise.com/features/errors)."""
    return _unauthenticated(status, 'Basic realm="oauth"')


def wrong_client(status: int, error: WrongClientError) -> Answer:
    """Undocumented; Spring's words, which differ by the filter that refuses."""
    description = "Bad client credentials" if error is WrongClientError.INVALID_CLIENT else "Bad credentials"
    return _error(status, error.value, description, {"WWW-Authenticate": f'Basic realm="oauth", error="{error}"'})


def foreign_client(status: int) -> Answer:
    """``client_id`` in the body that is not the authenticated client's; undocumented, Spring's words."""
    return _error(status, "invalid_client", "Given client ID does not match authenticated client")


def invalid_refresh_token(status: int, echo: str | None) -> Answer:
    """``invalid_grant``: documented for a refresh token that is expired, revoked or lost; not its words."""
    return _error(status, "invalid_grant", _echoing("Invalid refresh token", echo))


def expired_refresh_token(echo: str | None) -> Answer:
    """Undocumented: what Spring says of an expired refresh token."""
    description = _echoing("Invalid refresh token (expired)", echo)
    return _error(401, "invalid_token", description, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def dead_access_token(token: str) -> Answer:
    """Documented: the description is the token itself."""
    return _error(401, "invalid_token", token, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def no_user() -> Answer:
    """``/v1/me`` with an application token, which is nobody's; undocumented, Spring's words."""
    return _error(403, "access_denied", "Access is denied")


def no_access_token() -> Answer:
    """No bearer token (api-docs.wise.com/features/errors)."""
    return _unauthenticated(401, "Bearer")


def throttled(retry_after_s: int | None, body: str) -> Answer:
    """429 (docs.wise.com/guides/developer/errors); an older page says the header is only sometimes there."""
    headers = {"X-Rate-Limited-By": "wise-public-api"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return Answer(status=429, outcome="throttled", body=body, headers=headers)


def not_found(path: str, at: str) -> Answer:
    """The shape of Wise's system errors. ``path`` is without its query string."""
    body: Json = {
        "timestamp": at,
        "status": 404,
        "error": "Not Found",
        "message": "No message available",
        "path": path,
    }
    return Answer(status=404, outcome="not_found", body=encode(body))


def server_error(status: int) -> Answer:
    """5xx of Wise's own, in the shape of its system errors (docs.wise.com/guides/developer/errors)."""
    reason = HTTPStatus(status).phrase
    body: Json = {"status": status, "error": reason, "message": "No message available", "path": "/oauth/token"}
    return Answer(status=status, outcome="server_error", body=encode(body))


def method_not_allowed(method: str, allowed: str) -> Answer:
    """Only one method is documented per path; Spring's words."""
    description = f"Request method '{method}' not supported"
    return _error(405, "method_not_allowed", description, {"Allow": allowed})


def _echoing(description: str, echo: str | None) -> str:
    return description if echo is None else f"{description}: {echo}"


def _unauthenticated(status: int, challenge: str) -> Answer:
    description = "Full authentication is required to access this resource"
    return _error(status, "unauthorized", description, {"WWW-Authenticate": challenge})


def _error(status: int, error: str, description: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = encode({"error": error, "error_description": description})
    return Answer(status=status, outcome=error, body=body, headers=headers or {})
