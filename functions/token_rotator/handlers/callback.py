"""Lambda function `callback`: the browser's way back from Wise, the same for a partner that owns that address; events.

Wise's events are taken where the keys that they are signed with were deployed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, assert_never
from urllib.parse import urlencode

from token_rotator.domain.errors import (
    InvalidInput,
    KeyRefused,
    RotatorError,
    StoreRefused,
    WiseSecretUnusable,
)
from token_rotator.domain.grant import checked_id
from token_rotator.domain.instants import show_instant
from token_rotator.domain.link import LinkFailure
from token_rotator.domain.tokens import Secret
from token_rotator.service.link_grant import Arrival, Arrived, Failed
from token_rotator.telemetry import logger
from token_rotator.wiring.linking import wire

from .http import Response, Route, Routes, problem, query_of, respond, where_of
from .pages import Page, arrived, failed, guarded
from .webhook import take

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .http import Request

_linking = wire()
_CODE: Final = re.compile(r"[\x21-\x7e]{1,4096}", re.ASCII)
_CALLBACK: Final = "/oauth/callback"
_EVENTS: Final = "/wise/events"
_AGAIN: Final = "start a new link"


def _code(text: object) -> Secret | None:
    return Secret(text) if isinstance(text, str) and _CODE.fullmatch(text) else None


def _profile(text: str | None) -> str | None:
    """Read a profile id; one of another form is none."""
    try:
        return None if text is None else checked_id("profile_id", text)
    except InvalidInput:
        return None


def _take(arrival: Arrival) -> Arrived | Failed:
    """Take what came back. A secret that cannot be used is counted, and raised on."""
    try:
        return _linking.take_arrival(arrival)
    except WiseSecretUnusable as error:
        logger.error("nobody can be linked", extra={"reason": str(error)})
        _linking.journal.count("WiseSecretUnusable")
        raise


# --- the browser


def browse(event: Mapping[str, Any]) -> Page:
    """GET /oauth/callback. Never raises: a person always gets a page or is sent on."""
    query = query_of(event)
    arrival = Arrival(
        state=query.get("state"),
        code=_code(query.get("code")),
        profile_id=_profile(query.get("profileId")),
        error=query.get("error"),
    )
    try:
        answer = _take(arrival)
    except RotatorError as error:
        if isinstance(error, StoreRefused | KeyRefused):
            _linking.journal.count("StoreRefused")
        logger.warning("a dependency failed", extra={"code": error.code, "detail": type(error).__name__})
        return failed(LinkFailure.OUR_FAULT, again=True)
    except Exception as error:  # noqa: BLE001 - a person gets a page, never a stack trace
        logger.error("request broke", extra={"error_type": type(error).__name__, "where": where_of(error)})
        return failed(LinkFailure.OUR_FAULT)
    match answer:
        case Arrived(link=link, link_id=link_id):
            told = link_id.reveal()
            return arrived(told) if link.return_url is None else _sent_on(link.return_url, link_id=told)
        case Failed(why=why, link=link, again=again):
            url = None if link is None or again else link.return_url
            return failed(why, again=again) if url is None else _sent_on(url, error=why.value)
        case _:
            assert_never(answer)


def _sent_on(url: str, **parameters: str) -> Page:
    """Send the browser to the partner, by GET whatever it came with (RFC 9110 §15.4.4)."""
    joint = "&" if "?" in url else "?"
    return Page(303, {**guarded(), "Location": f"{url}{joint}{urlencode(parameters)}"}, "")


# --- a partner that owns the address


def complete(request: Request) -> Response:
    """POST …/link/complete: what Wise sent to the partner's own address."""
    body = request.json()
    for name, value in body.items():
        if name not in ("state", "code", "profile_id"):
            raise InvalidInput(name[:64], "is not a field of what Wise sends back")
        if not isinstance(value, str):
            raise InvalidInput(name, "must be a string")
    for name in ("state", "code"):
        if name not in body:
            raise InvalidInput(name, "is required")
    if _code(body["code"]) is None:
        raise InvalidInput("code", "must be a string of 1 to 4096 visible ASCII characters")
    profile_id = checked_id("profile_id", body["profile_id"]) if "profile_id" in body else None
    arrival = Arrival(state=body["state"], code=_code(body["code"]), profile_id=profile_id, of=request.key)
    answer = _take(arrival)
    match answer:
        case Arrived(link_id=link_id, confirm_before=before):
            return Response(200, {"link_id": link_id.reveal(), "confirm_before": show_instant(before)})
        case Failed(why=LinkFailure.OUR_FAULT, again=True):
            return problem("temporarily-unavailable", retry_after=_linking.settings.budgets.margin)
        case Failed(why=why):
            return problem(*_PROBLEMS[why])
        case _:
            assert_never(answer)


_PROBLEMS: Final[dict[LinkFailure, tuple[str, str | None]]] = {
    LinkFailure.UNKNOWN: ("not-found", "there is no such link for this grant"),
    LinkFailure.USED: ("link-expired", _AGAIN),
    LinkFailure.EXPIRED: ("link-expired", _AGAIN),
    LinkFailure.NO_PROFILE: ("different-profile", "profile_id is required: the grant belongs to a profile"),
    LinkFailure.DIFFERENT_PROFILE: ("different-profile", None),
    LinkFailure.ALREADY_HELD: ("already-held", "the code was not exchanged: the other grant goes on working"),
    LinkFailure.WISE_UNAVAILABLE: ("provider-unavailable", _AGAIN),
    LinkFailure.CODE_REFUSED: ("code-refused", _AGAIN),
    LinkFailure.CONSENT_REFUSED: ("code-refused", _AGAIN),
    LinkFailure.WISE_REFUSED: ("code-refused", _AGAIN),
    LinkFailure.SUSPENDED: ("suspended", None),
    LinkFailure.OUR_FAULT: ("internal-error", _AGAIN),
}


_GRANT: Final = "/v1/tenants/{tenant}/grants/{grant_id}"
ROUTES: Final[Routes] = {
    ("POST", f"{_GRANT}/link/complete"): Route("link", complete),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer API Gateway: a browser by a page, a partner by JSON, Wise by a status."""
    method = (event.get("httpMethod"), event.get("resource"))
    if method == ("POST", _EVENTS) and _linking.take_event is not None:
        return take(event, _linking.take_event, _linking.journal)
    if method != ("GET", _CALLBACK):
        return respond(event, ROUTES, _linking.settings.partners, _linking.journal)
    page = browse(event)
    logger.info("browser answered", extra={"status": page.status})
    return {"statusCode": page.status, "headers": page.headers, "body": page.html, "isBase64Encoded": False}
