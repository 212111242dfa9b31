"""Lambda function `serve`: access tokens and secret-free facts about grants, for partner services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from token_rotator.domain.errors import InvalidInput
from token_rotator.domain.grant import APPLICATION, checked_id
from token_rotator.domain.instants import show_instant
from token_rotator.service.serve_token import NotServed, Served, Why
from token_rotator.wiring.serving import wire

from .http import Response, Route, Routes, problem, respond
from .shown import show_application, show_grant

if TYPE_CHECKING:
    from datetime import datetime

    from token_rotator.domain.grant import GrantKey

    from .http import Request

_serving = wire()
_PAGE: Final = 100
_RELINK: Final = (
    "Have the user authorize the application at Wise again: POST to the grant's /link. Or adopt a new refresh token: "
    "PUT the grant with If-Match and its version."
)
_ANOTHER: Final = (
    "Make another personal token in the Wise account and adopt it: PUT the grant with If-Match and its version."
)
_ON_HOLD: Final = (
    "Adopt the newer token of whoever refreshes it: PUT the grant with If-Match and its version. Or, once nobody else "
    "does, release it: DELETE the grant's /hold, or the order about its tenant or everything."
)


def _shown(instant: datetime | None) -> str | None:
    return None if instant is None else show_instant(instant)


def _answer(key: GrantKey, rejected: int | None) -> Response:
    served = _serving.serve_token(key, rejected)
    if isinstance(served, NotServed):
        if served.why is Why.REAUTHORIZATION_REQUIRED:
            return problem(served.why.value, _ANOTHER if served.personal else _RELINK)
        if served.why is Why.ON_HOLD:
            return problem(served.why.value, _ON_HOLD)
        return problem(served.why.value, retry_after=served.retry_after)
    body: dict[str, Any] = {
        "access_token": served.access_token.reveal(),
        "token_type": "bearer",
        "scope": served.scope,
        "version": served.version,
        "issued_at": _shown(served.issued_at),
        "expires_at": _shown(served.expires_at),
        "expires_in": None if served.expires_in is None else int(served.expires_in.total_seconds()),
        "stable_until": show_instant(served.stable_until),
        "stable_for_s": int(served.stable_for.total_seconds()),
        "degraded": served.degraded,
        "on_hold": served.on_hold,
    }
    if rejected is not None:
        body["confirmed"] = served.confirmed
    _count(served)
    return Response(200, body, facts=_audit(served))


def _count(served: Served) -> None:
    """Tell how old the token is that goes out, and whether its refresh failed. One line for each."""
    values: dict[str, tuple[float, MetricUnit]] = {"TokenDegraded": (int(served.degraded), MetricUnit.Count)}
    if served.issued_at is not None:
        age = served.stable_until - served.stable_for - served.issued_at
        values["TokenAgeSeconds"] = (max(age.total_seconds(), 0), MetricUnit.Seconds)
    _serving.journal.count_together(values)


def _audit(served: Served) -> dict[str, Any]:
    return {"version": served.version, "degraded": served.degraded, "caused_refresh": served.caused_refresh}


def access_token(request: Request) -> Response:
    """GET …/access-token."""
    return _answer(request.key, None)


def rejections(request: Request) -> Response:
    """POST …/access-token/rejections: Wise answered 401 `invalid_token` to a version."""
    return _answer(request.key, _rejected(request))


def _rejected(request: Request) -> int:
    """Read the version that a report names. Raises `InvalidInput`."""
    body = request.json()
    for name in body:
        if name not in ("version", "error"):
            raise InvalidInput(name[:64], "is not a field of a rejection")
    version = body.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**53:
        raise InvalidInput("version", "must be the version of the token that Wise rejected")
    if body.get("error") != "invalid_token":
        raise InvalidInput("error", "must be invalid_token: a 403 for strong authentication is no rejection")
    return version


def application_access_token(_request: Request) -> Response:
    """GET /v1/application/access-token."""
    return _answer(APPLICATION, None)


def application_rejections(request: Request) -> Response:
    """POST /v1/application/access-token/rejections."""
    return _answer(APPLICATION, _rejected(request))


def application(_request: Request) -> Response:
    """GET /v1/application: facts about our application's own token without secrets."""
    found = _serving.grants.get(APPLICATION)
    if found is None:
        return problem("not-found", "nobody has asked for an application token yet")
    return Response(200, show_application(found), {"ETag": f'"{found.version}"'})


def grant(request: Request) -> Response:
    """GET …/{grant_id}: facts without secrets."""
    found = _serving.grants.get(request.key)
    if found is None:
        return problem("not-found")
    return Response(200, show_grant(found), {"ETag": f'"{found.version}"'})


def grants(request: Request) -> Response:
    """GET …/grants: a page of the tenant's grants, in the order of their ids."""
    for name in request.query:
        if name not in ("limit", "after"):
            raise InvalidInput(name[:64], "is not a parameter of this list")
    text = request.query.get("limit", str(_PAGE))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0  # noqa: PLR2004
    if not 1 <= limit <= _PAGE:
        raise InvalidInput("limit", f"must be a number from 1 to {_PAGE}")
    after = request.query.get("after")
    page = _serving.grant_list.page(request.tenant, limit, None if after is None else checked_id("after", after))
    rows = [
        {"grant_id": grant_id, "phase": phase, "created_at": show_instant(created_at)}
        for grant_id, phase, created_at in page.rows
    ]
    return Response(200, {"grants": rows, "after": page.after})


_GRANT: Final = "/v1/tenants/{tenant}/grants/{grant_id}"
_APPLICATION: Final = "/v1/application"
ROUTES: Final[Routes] = {
    ("GET", f"{_GRANT}/access-token"): Route("read", access_token),
    ("POST", f"{_GRANT}/access-token/rejections"): Route("read", rejections),
    ("GET", _GRANT): Route("read", grant),
    ("GET", "/v1/tenants/{tenant}/grants"): Route("read", grants),
    ("GET", f"{_APPLICATION}/access-token"): Route("application", application_access_token),
    ("POST", f"{_APPLICATION}/access-token/rejections"): Route("application", application_rejections),
    ("GET", _APPLICATION): Route("application", application),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer API Gateway."""
    return respond(event, ROUTES, _serving.settings.partners, _serving.journal)
