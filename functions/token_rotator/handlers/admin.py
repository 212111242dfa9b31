"""Lambda function `admin`: adopting, forgetting, linking, suspending and holding grants."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from token_rotator.domain.errors import InvalidInput
from token_rotator.domain.grant import checked_id
from token_rotator.domain.instants import parse_instant, show_instant
from token_rotator.domain.suspension import Suspension
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.wiring.administering import wire

from .http import Response, Route, Routes, problem, respond
from .shown import show_grant, show_suspension

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from token_rotator.domain.grant import Grant

    from .http import Request

_administering = wire()
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,32768}", re.ASCII)
_SCOPE: Final = re.compile(r"[\x20-\x7e]{1,256}", re.ASCII)
_REASON: Final = re.compile(r"[\x20-\x7e]{1,200}", re.ASCII)
_EMAIL: Final = re.compile(r"[^\s@]{1,64}@[^\s@]{1,255}")
_VERSION: Final = re.compile(r'("?)([1-9]\d{0,15})\1', re.ASCII)
_FIELDS: Final = frozenset(
    {
        "refresh_token",
        "access_token",
        "issued_at",
        "expires_at",
        "refresh_expires_at",
        "scope",
        "registration",
        "profile_id",
        "wise_user_id",
        "hold",
        "personal_token",
    }
)
_OF_A_PERSONAL_TOKEN: Final = frozenset({"personal_token", "issued_at", "scope"})
_OLDEST_PERSONAL: Final = timedelta(days=3660)
_LONGEST: Final = timedelta(days=366)
_AHEAD: Final = timedelta(minutes=1)
"""How far the caller's clock may be ahead of ours."""
_AUTHORIZE: Final = "/oauth/authorize/"
"""Where Wise asks the user, on its web host (docs.wise.com/guides/product/kyc/partner-kyc/accessing-accounts)."""
_QUERY: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]{0,1024}", re.ASCII)
_OURS: Final = ("link_id", "error")
"""The parameters that a return URL gets from us."""
_LINK_GONE: Final = "there is no such link for this grant, or the grant that it was started for is gone"
_BUSY: Final = "somebody is refreshing the grant, or has, and what came of it may not be stored yet"
_OPERATOR: Final = "operate"
_OPERATORS: Final = "an operator suspended the grant: lifting that takes operate"


def _token(body: dict[str, Any], name: str) -> Secret | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise InvalidInput(name, "must be a string of 1 to 32768 visible ASCII characters")
    return Secret(value)


def _instant(body: dict[str, Any], name: str) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    instant = parse_instant(value)
    if instant is None:
        raise InvalidInput(name, "must be an ISO 8601 instant with a zone, such as 2026-01-31T12:00:00Z")
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def _id(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(name, "must be a string")
    return checked_id(name, value)


def _registration(body: dict[str, Any]) -> Secret | None:
    value = body.get("registration")
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"code", "email"}:
        raise InvalidInput("registration", "must be an object of code and email")
    if not isinstance(value["code"], str) or not _TOKEN.fullmatch(value["code"]):
        raise InvalidInput("registration.code", "must be a string of visible ASCII characters")
    if not isinstance(value["email"], str) or not _EMAIL.fullmatch(value["email"]):
        raise InvalidInput("registration.email", "must be the e-mail address that the user was created with")
    return Secret(json.dumps(value))


def _refresh_token(body: dict[str, Any], registration: Secret | None) -> Secret | None:
    refresh_token = _token(body, "refresh_token")
    if refresh_token is None and registration is None:
        raise InvalidInput("refresh_token", "is required without a registration")
    if refresh_token is None and body.get("refresh_expires_at") is not None:
        raise InvalidInput("refresh_token", "is required with refresh_expires_at")
    return refresh_token


def _scope(body: dict[str, Any]) -> str | None:
    scope = body.get("scope")
    if scope is not None and not (isinstance(scope, str) and _SCOPE.fullmatch(scope)):
        raise InvalidInput("scope", "must be a string of 1 to 256 printable ASCII characters")
    return scope


def _personal(body: dict[str, Any], now: datetime) -> Offer:
    """Read a personal token, which comes alone."""
    for name, value in body.items():
        if name not in _OF_A_PERSONAL_TOKEN and value is not None:
            raise InvalidInput(name, "does not go with a personal_token")
    issued_at = _instant(body, "issued_at")
    if issued_at is not None and not now - _OLDEST_PERSONAL <= issued_at <= now + _AHEAD:
        raise InvalidInput("issued_at", "must be an instant of the last ten years, and not one to come")
    return Offer(personal_token=_token(body, "personal_token"), issued_at=issued_at, scope=_scope(body))


def _hold(body: dict[str, Any], now: datetime, by: str) -> tuple[Suspension | None, bool]:
    """Read whether a grant is to be put on hold, or released."""
    value = body.get("hold")
    if value is not None and not isinstance(value, bool):
        raise InvalidInput("hold", "must be true, while somebody else refreshes the grant, or false")
    return Suspension(now, by) if value else None, value is False


def read_offer(body: dict[str, Any], now: datetime, by: str) -> Offer:
    """Read what the partner service `by` gives us to keep, at the instant `now`.

    Raises `InvalidInput` that names the field.
    """
    for name in body:
        if name not in _FIELDS:
            raise InvalidInput(name[:64], "is not a field of a grant")
    if body.get("personal_token") is not None:
        return _personal(body, now)
    registration = _registration(body)
    refresh_token = _refresh_token(body, registration)
    access_token = _token(body, "access_token")
    issued_at, expires_at = _instant(body, "issued_at"), _instant(body, "expires_at")
    if access_token is not None and expires_at is None:
        raise InvalidInput("expires_at", "is required with an access_token")
    if access_token is None and (issued_at is not None or expires_at is not None):
        raise InvalidInput("access_token", "is required with issued_at or expires_at")
    if issued_at is not None and not now - _LONGEST <= issued_at <= now + _AHEAD:
        raise InvalidInput("issued_at", "must be an instant of the last year, and not one to come")
    if expires_at is not None and not now - _LONGEST <= expires_at <= now + _LONGEST:
        raise InvalidInput("expires_at", "must be within a year from now")
    if issued_at is not None and expires_at is not None and issued_at >= expires_at:
        raise InvalidInput("expires_at", "must be after issued_at")
    hold, release = _hold(body, now, by)
    return Offer(
        refresh_token=refresh_token,
        access_token=access_token,
        issued_at=issued_at,
        expires_at=expires_at,
        refresh_expires_at=_instant(body, "refresh_expires_at"),
        scope=_scope(body),
        registration=registration,
        profile_id=_id(body, "profile_id"),
        wise_user_id=_id(body, "wise_user_id"),
        hold=hold,
        release=release,
    )


def _declined(why: Declined) -> Response:
    retry_after: timedelta | None = None
    if why is Declined.BUSY:
        retry_after = _administering.settings.budgets.margin
        return problem(why.value, _BUSY, retry_after)
    return problem(why.value, _OPERATORS if why is Declined.OPERATORS_ORDER else None)


def adopt(request: Request) -> Response:
    """PUT …/{grant_id}: create, or replace the version that If-Match names."""
    if_match: int | None = None
    header = request.headers.get("if-match")
    if header is not None:
        found = _VERSION.fullmatch(header.strip())
        if found is None:
            raise InvalidInput("If-Match", "must be one version of the grant")
        if_match = int(found.group(2))
    offer = read_offer(request.json(), _administering.adopt_grant.clock(), request.partner.name)
    answer = _administering.adopt_grant(request.key, offer, if_match)
    if isinstance(answer, Kept):
        status = 201 if answer.created else 200
        headers = {"ETag": f'"{answer.grant.version}"'}
        return Response(status, show_grant(answer.grant), headers, {"version": answer.grant.version})
    return _declined(answer)


def delete(request: Request) -> Response:
    """DELETE …/{grant_id}: forget the grant."""
    declined = _administering.delete_grant(request.key)
    return Response(204) if declined is None else _declined(declined)


def _return_url(body: dict[str, Any], allowed: frozenset[str]) -> str | None:
    """Read where the browser goes in the end: one of the partner's own URLs, with any query."""
    value = body.get("return_url")
    if value is None:
        return None
    if not isinstance(value, str) or value.partition("?")[0] not in allowed:
        raise InvalidInput("return_url", "must be one of the partner's return_urls: scheme, host and path alike")
    query = value.partition("?")[2]
    if not _QUERY.fullmatch(query) or any(name in _OURS for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise InvalidInput("return_url", "must have a query of at most 1024 URL characters without link_id and error")
    return value


def link(request: Request) -> Response:
    """POST …/link: start a link, for a grant that is there or will be."""
    body = request.json() if request.body else {}
    for name in body:
        if name != "return_url":
            raise InvalidInput(name[:64], "is not a field of a link")
    return_url = _return_url(body, request.partner.return_urls)
    started = _administering.start_link(request.key, request.partner.name, return_url)
    if isinstance(started, Declined):
        return _declined(started)
    told = _administering.settings
    query = {
        "client_id": told.wise_client_id,
        "redirect_uri": told.redirect_uri,
        "state": started.state.reveal(),
    }
    url = f"{told.wise_web_url}{_AUTHORIZE}?{urlencode(query)}"
    return Response(201, {"authorization_url": url, "expires_at": show_instant(started.ends_at)})


def confirm(request: Request) -> Response:
    """POST …/link/{link_id}/confirm: the partner's user is the one who came back."""
    answer = _administering.confirm_link(request.key, request.link_id or "")
    if isinstance(answer, Kept):
        headers = {"ETag": f'"{answer.grant.version}"'}
        return Response(200, show_grant(answer.grant), headers, {"version": answer.grant.version})
    if answer is Declined.NOT_FOUND:
        return problem(answer.value, _LINK_GONE)
    return _declined(answer)


def _order(request: Request) -> Suspension:
    """Make the order that a request gives; a body is only needed to say why. Raises `InvalidInput`."""
    body = request.json() if request.body else {}
    for name in body:
        if name != "reason":
            raise InvalidInput(name[:64], "is not a field of a suspension")
    reason = body.get("reason")
    if reason is not None and not (isinstance(reason, str) and _REASON.fullmatch(reason)):
        raise InvalidInput("reason", "must be a string of 1 to 200 printable ASCII characters")
    return Suspension(_administering.suspend_grant.clock(), request.partner.name, reason)


def suspend_grant(request: Request) -> Response:
    """PUT …/{grant_id}/suspension: stop serving and refreshing one grant."""
    order = replace(_order(request), operator=_OPERATOR in request.partner.may)
    return _shown(_administering.suspend_grant(request.key, order))


def lift_grant(request: Request) -> Response:
    """DELETE …/{grant_id}/suspension: let it go on; what an operator stopped, for an operator only."""
    return _shown(_administering.suspend_grant.lift(request.key, operator=_OPERATOR in request.partner.may))


def suspend(request: Request) -> Response:
    """PUT …/{tenant}/suspension or /v1/suspension: stop all of a tenant's grants, or everything."""
    tenant = request.tenant or None
    in_force = _administering.suspensions.suspend(tenant, _order(request))
    order = in_force.environment if tenant is None else in_force.tenants[tenant]
    return Response(200, None if order is None else show_suspension(order))


def lift(request: Request) -> Response:
    """DELETE …/{tenant}/suspension or /v1/suspension: end that order; others stay in force."""
    _administering.suspensions.lift(request.tenant or None)
    return Response(204)


def suspensions(request: Request) -> Response:
    """GET /v1/suspension: the orders about the environment and about the caller's own tenants."""
    in_force = _administering.suspensions.read()
    mine = request.partner.tenants
    return Response(
        200,
        {
            **_orders(in_force.environment, in_force.tenants, mine),
            "on_hold": _orders(in_force.held_environment, in_force.held_tenants, mine),
        },
    )


def _orders(everything: Suspension | None, tenants: Mapping[str, Suspension], mine: frozenset[str]) -> dict[str, Any]:
    """Show the orders that were not ended."""
    return {
        "environment": None if everything is None or everything.until else show_suspension(everything),
        "tenants": [
            {"tenant": tenant, **show_suspension(order)}
            for tenant, order in sorted(tenants.items())
            if tenant in mine and not order.until
        ],
    }


def hold_grant(request: Request) -> Response:
    """PUT …/{grant_id}/hold: serve one grant and do not refresh it, since somebody else does."""
    return _shown(_administering.hold_grant(request.key, _order(request)))


def release_grant(request: Request) -> Response:
    """DELETE …/{grant_id}/hold: nobody else does any more."""
    return _shown(_administering.hold_grant.release(request.key))


def _shown(answer: Grant | Declined) -> Response:
    return _declined(answer) if isinstance(answer, Declined) else Response(200, show_grant(answer))


def hold(request: Request) -> Response:
    """PUT …/{tenant}/hold or /v1/hold: the same for all of a tenant's grants, or everything."""
    return Response(200, show_suspension(_administering.hold_all(request.tenant or None, _order(request))))


def release(request: Request) -> Response:
    """DELETE …/{tenant}/hold or /v1/hold: end that order; others stay in force."""
    _administering.hold_all.release(request.tenant or None)
    return Response(204)


_TENANT: Final = "/v1/tenants/{tenant}"
_GRANT: Final = "/v1/tenants/{tenant}/grants/{grant_id}"
_EVERYTHING: Final = "/v1/suspension"
_ALL_HELD: Final = "/v1/hold"
ROUTES: Final[Routes] = {
    ("PUT", _GRANT): Route("manage", adopt),
    ("DELETE", _GRANT): Route("manage", delete),
    ("POST", f"{_GRANT}/link"): Route("link", link),
    ("POST", f"{_GRANT}/link/{{link_id}}/confirm"): Route("link", confirm),
    ("PUT", f"{_GRANT}/suspension"): Route("manage", suspend_grant, also="operate"),
    ("DELETE", f"{_GRANT}/suspension"): Route("manage", lift_grant, also="operate"),
    ("PUT", f"{_TENANT}/suspension"): Route("operate", suspend),
    ("DELETE", f"{_TENANT}/suspension"): Route("operate", lift),
    ("PUT", _EVERYTHING): Route("operate", suspend),
    ("DELETE", _EVERYTHING): Route("operate", lift),
    ("GET", _EVERYTHING): Route("operate", suspensions),
    ("PUT", f"{_GRANT}/hold"): Route("manage", hold_grant),
    ("DELETE", f"{_GRANT}/hold"): Route("manage", release_grant),
    ("PUT", f"{_TENANT}/hold"): Route("operate", hold),
    ("DELETE", f"{_TENANT}/hold"): Route("operate", release),
    ("PUT", _ALL_HELD): Route("operate", hold),
    ("DELETE", _ALL_HELD): Route("operate", release),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer API Gateway."""
    return respond(event, ROUTES, _administering.settings.partners, _administering.journal)
