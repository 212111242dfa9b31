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

from local.wise.settings import ApplicationAsUser, DeactivatedError, Json, RefusedGrantError, WrongClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_UTF8 = "application/json;charset=UTF-8"
REFRESHED = "refreshed"
ISSUED = "issued"
GRANTED = "granted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer before anything was done to it on its way."""

    status: int
    outcome: str
    """``refreshed``, ``granted``, ``issued``, ``ok`` or the ``error`` in the body: for the truth log."""
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


def new_grant(fields: Mapping[str, Json]) -> Answer:
    """200 with the tokens that a code was exchanged for."""
    return Answer(status=200, outcome=GRANTED, body=encode(dict(fields)))


def user(wise_user_id: int, name: str | None, email: str, *, outcome: str = "ok") -> Answer:
    """200 of ``/v1/me`` and of the sign-up, where the name is still missing (docs.wise.com/api-reference/user)."""
    body: Json = {"id": wise_user_id, "name": name, "email": email, "active": True, "details": None}
    return Answer(status=200, outcome=outcome, body=encode(body))


def profiles(listed: list[dict[str, Json]]) -> Answer:
    """200 of the profiles (docs.wise.com/api-reference/profile/profilelist), with few of their fields."""
    return Answer(status=200, outcome="ok", body=encode(list(listed)))


def missing_grant_type(status: int = 400) -> Answer:
    """Documented: what a body without ``grant_type`` gets, and so one that is not a form."""
    return _error(status, "invalid_request", "Missing grant type")


def missing_refresh_token(status: int) -> Answer:
    """Undocumented."""
    return _error(status, "invalid_request", "Missing refresh token")


def missing_parameter(status: int, name: str) -> Answer:
    """Undocumented."""
    return _error(status, "invalid_request", f"Missing parameter: {name}")


def invalid_user_credentials(status: int) -> Answer:
    """Documented for a registration code that is wrong or whose user reclaimed the account."""
    return _error(status, "invalid_grant", "Invalid user credentials.")


def invalid_authorization_code(status: int) -> Answer:
    """Undocumented; Spring's words."""
    return _error(status, "invalid_grant", "Invalid authorization code")


def redirect_uri_mismatch(status: int) -> Answer:
    """Undocumented; Spring's words."""
    return _error(status, "invalid_grant", "Redirect URI mismatch.")


def deactivated(error: DeactivatedError) -> Answer:
    """401: documented for a deactivated account (docs.wise.com/guides/product/partner/operations); not its body."""
    match error:
        case DeactivatedError.INVALID_GRANT:
            return invalid_user_credentials(401)
        case DeactivatedError.UNAUTHORIZED:
            return _unauthenticated(401, "Bearer")
        case DeactivatedError.EMPTY:
            return Answer(status=401, outcome="deactivated")


def email_taken(email: str) -> Answer:
    """409: documented (docs.wise.com/guides/developer/errors/users)."""
    local, _, domain = email.partition("@")
    hidden = f"{local[:2]}{'*' * 20}@{domain}"
    return _errors(409, "NOT_UNIQUE", "You're already a member. Please login", "email", "email", hidden)


def missing_field(name: str) -> Answer:
    """400: documented (docs.wise.com/guides/developer/errors/users)."""
    return _errors(400, "NotNull", "must not be null", name)


def short_registration_code() -> Answer:
    """400: the code has fewer than 32 characters (docs.wise.com/api-reference/user/usercreate)."""
    return _errors(400, "Size", "size must be between 32 and 2147483647", "registrationCode", "registrationCode")


def bad_email() -> Answer:
    """422: documented without an example."""
    return _errors(422, "Email", "must be a well-formed email address", "email")


def user_exists(*, exists: bool) -> Answer:
    """200: whether an address has an account (docs.wise.com/api-reference/user)."""
    return Answer(status=200, outcome="ok", body=encode({"exists": exists}))


def claim_account_code(code: str) -> Answer:
    """200 (docs.wise.com/api-reference/claim-account)."""
    return Answer(status=200, outcome="ok", body=encode({"claimAccountCode": code}))


def wrong_subscription(code: str, path: str) -> Answer:
    """400: the codes are documented (docs.wise.com/guides/developer/errors/webhooks), the status is not."""
    return _errors(400, code, "invalid value", path, path)


def no_content() -> Answer:
    """204."""
    return Answer(status=204, outcome="ok")


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
    """A resource of the application with a user's token; undocumented, Spring's words."""
    return _error(403, "access_denied", "Access is denied")


def application_as_user(answered: ApplicationAsUser, token: str) -> Answer:
    """A user's resource with an application token that lives; undocumented."""
    match answered:
        case ApplicationAsUser.ACCESS_DENIED:
            return no_user()
        case ApplicationAsUser.UNAUTHORIZED:
            return no_access_token()
        case ApplicationAsUser.INVALID_TOKEN:
            return dead_access_token(token)


def playground() -> Answer:
    """200 of the page that shows whether a client's certificate and token are good; its body is undocumented.

    Source: docs.wise.com/guides/developer/auth-and-security/mtls.
    """
    return Answer(status=200, outcome="ok", body=encode({}))


def mtls_required() -> Answer:
    """The API on the plain host after the enforcement of mutual TLS; undocumented."""
    return _error(403, "access_denied", "A client certificate is required")


def foreign_certificate() -> Answer:
    """A bearer token over a connection whose certificate is not this client's; undocumented."""
    return _error(403, "access_denied", "Client certificate does not match")


def certificate_forbidden() -> Answer:
    """A certificate that an edge before Wise refuses; undocumented."""
    page = "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>"
    return Answer(status=403, outcome="certificate_forbidden", body=page, headers={"Content-Type": "text/html"})


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


def _errors(status: int, code: str, message: str, path: str, *arguments: str) -> Answer:
    """The shape of Wise's client errors."""
    body: Json = {"errors": [{"code": code, "message": message, "path": path, "arguments": list(arguments)}]}
    return Answer(status=status, outcome=code, body=encode(body))


def _error(status: int, error: str, description: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = encode({"error": error, "error_description": description})
    return Answer(status=status, outcome=error, body=body, headers=headers or {})
