"""Requests from API Gateway, the third lock, and every error as a problem document (RFC 9457), in one table."""

from __future__ import annotations

import base64
import json
import math
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from token_rotator.domain.errors import (
    CorruptGrant,
    InvalidInput,
    KeyRefused,
    KeyUnavailable,
    RotatorError,
    StoreRefused,
    StoreUnavailable,
    Unsealable,
)
from token_rotator.domain.grant import GrantKey
from token_rotator.telemetry import audit, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from token_rotator.settings import Partner
    from token_rotator.telemetry import PowertoolsJournal

MAX_BODY: Final = 131_072
"""Bytes: room for the largest tokens, and nothing that would strain the function."""

PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "bad-request": (400, "The request cannot be understood."),
    "unknown-version": (400, "This grant never had that version."),
    "forbidden": (403, "This caller may not do that here."),
    "not-found": (404, "There is no such thing here."),
    "suspended": (409, "The grant, its tenant or the whole environment is suspended."),
    "reauthorization-required": (409, "The user has to authorize our application at Wise again."),
    "on-hold": (409, "Somebody else refreshes the grant, and the token that is kept is no longer good."),
    "already-held": (409, "Another grant holds this Wise profile."),
    "different-profile": (409, "The grant belongs to another Wise profile."),
    "different-kind": (409, "The grant is of another kind: delete it first."),
    "code-refused": (409, "Wise does not take the code, or sent none."),
    "link-expired": (410, "The link or its tokens were used already, or their time is over."),
    "precondition-failed": (412, "The grant is not in the version that the request names."),
    "request-too-large": (413, "The request is too large."),
    "internal-error": (500, "Something went wrong on our side."),
    "provider-unavailable": (502, "Wise gave no answer that can be used."),
    "temporarily-unavailable": (
        503,
        "No token can be given right now; ask again after the time in Retry-After.",
    ),
}
"""Every problem this API answers with: its code, which ends the `type`, its status and its title."""

_ERRORS: Final[tuple[tuple[type[RotatorError], str], ...]] = (
    (InvalidInput, "bad-request"),
    (StoreUnavailable, "temporarily-unavailable"),
    (KeyUnavailable, "temporarily-unavailable"),
    (Unsealable, "internal-error"),
    (CorruptGrant, "internal-error"),
)
_STORE_RETRY: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back: a status, a JSON value (`None`: no body) and headers. `facts` go to the log line only."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def problem(
    code: str,
    detail: str | None = None,
    retry_after: timedelta | None = None,
    **more: str,
) -> Response:
    """Make a problem document. `retry_after` is rounded up to whole seconds, at least one."""
    status, title = PROBLEMS[code]
    body: dict[str, Any] = {"type": f"urn:token-rotator:problem:{code}", "title": title, "status": status}
    if detail is not None:
        body["detail"] = detail
    body.update(more)
    headers = {"Content-Type": "application/problem+json"}
    if retry_after is not None:
        seconds = max(math.ceil(retry_after.total_seconds()), 1)
        headers["Retry-After"] = str(seconds)
    return Response(status, body, headers, {"problem": code})


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose caller may make it. `tenant` is empty where the path names none."""

    partner: Partner
    tenant: str
    grant_id: str | None
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    link_id: str | None = None

    @property
    def key(self) -> GrantKey:
        """The grant that the path names. Raises `InvalidInput`."""
        return GrantKey.parse(self.tenant, self.grant_id or "")

    def json(self) -> dict[str, Any]:
        """Read the body as a JSON object. Raises `InvalidInput`."""
        try:
            value = json.loads(self.body.decode(), object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError):
            raise InvalidInput("body", "must be JSON") from None
        if not isinstance(value, dict):
            raise InvalidInput("body", "must be a JSON object")
        return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidInput("body", "names a field twice")
    return found


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path: what the caller must be allowed to do, either of the two, and who answers."""

    permission: str
    answer: Callable[[Request], Response]
    also: str | None = None


Routes = dict[tuple[str, str], Route]
"""By method and API Gateway resource, such as `("GET", "/v1/tenants/{tenant}/grants")`."""


def respond(
    event: Mapping[str, Any], routes: Routes, partners: Mapping[str, Partner], journal: PowertoolsJournal
) -> dict[str, Any]:
    """Answer one API Gateway proxy event (payload 1.0). Never raises.

    Prints one line for the audit, without a token in it: who was answered what about which grant. Its `request_id` is
    the `requestId` of API Gateway's access log. `journal` counts what on-call must mend: a table or a key that refuses
    the function.
    """
    facts: dict[str, Any] = {"request_id": (event.get("requestContext") or {}).get("requestId")}
    try:
        response = _answer(event, routes, partners, facts)
    except RotatorError as error:
        response = _problem_of(error)
        if isinstance(error, StoreRefused | KeyRefused):
            journal.count("StoreRefused")
    except Exception as error:  # noqa: BLE001 - a caller gets a problem document, never a stack trace
        logger.error("request broke", extra={"error_type": type(error).__name__, "where": where_of(error)})
        response = problem("internal-error")
    audit("request answered", {**facts, "status": response.status, **response.facts})
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **response.headers}
    if response.body is None:
        del headers["Content-Type"]
    return {
        "statusCode": response.status,
        "headers": headers,
        "body": "" if response.body is None else json.dumps(response.body),
        "isBase64Encoded": False,
    }


def where_of(error: BaseException) -> list[str]:
    """Give the places an error came through: file and line, and no value of anything."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]


def _problem_of(error: RotatorError) -> Response:
    for kind, code in _ERRORS:
        if isinstance(error, kind):
            if code == "internal-error":
                logger.error("a grant cannot be used", extra={"code": error.code, "where": where_of(error)})
            elif isinstance(error, StoreUnavailable | KeyUnavailable):
                logger.warning("a dependency failed", extra={"code": error.code, "detail": str(error)})
            detail = str(error) if isinstance(error, InvalidInput) else None
            return problem(code, detail, _STORE_RETRY if error.retryable else None)
    logger.error("an unexpected error", extra={"code": error.code, "where": where_of(error)})
    return problem("internal-error")


def _answer(
    event: Mapping[str, Any], routes: Routes, partners: Mapping[str, Partner], facts: dict[str, Any]
) -> Response:
    method, resource = event.get("httpMethod"), event.get("resource")
    route = routes.get((str(method), str(resource)))
    if route is None:
        return problem("not-found")
    facts.update(method=method, resource=resource)
    parameters: Mapping[str, str] = event.get("pathParameters") or {}
    of_all = "{tenant}" not in str(resource)
    tenant, grant_id = "" if of_all else parameters.get("tenant", ""), parameters.get("grant_id")
    link_id = parameters.get("link_id")
    if event.get("path") != str(resource).format(tenant=tenant, grant_id=grant_id, link_id=link_id):
        return problem("not-found")
    partner = _caller(event, partners)
    if (
        partner is None
        or not (of_all or tenant in partner.tenants)
        or partner.may.isdisjoint((route.permission, route.also))
    ):
        facts["partner"] = partner.name if partner else None
        return problem("forbidden")
    facts.update(partner=partner.name)
    if not of_all:
        facts.update(tenant=tenant)
    if grant_id is not None:
        facts["grant_id"] = GrantKey.parse(tenant, grant_id).grant_id
    raw = body_of(event)
    if len(raw) > MAX_BODY:
        return problem("request-too-large", f"a body may have {MAX_BODY} bytes")
    return route.answer(Request(partner, tenant, grant_id, headers_of(event), query_of(event), raw, link_id))


def body_of(event: Mapping[str, Any]) -> bytes:
    """Read the body of an event, byte by byte as it was sent. Raises `InvalidInput`."""
    body = event.get("body") or ""
    try:
        return base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError:
        raise InvalidInput("body", "must be UTF-8 text, or its base64 form where the event says so") from None


def headers_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Read the headers of an event, by their names in lower case. One that came in two cases was sent twice."""
    found: dict[str, list[str]] = {}
    for name, value in _values(event, "headers", "multiValueHeaders").items():
        found.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(values) for name, values in found.items()}


def query_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Read the parameters of an event's query."""
    return _values(event, "queryStringParameters", "multiValueQueryStringParameters")


def _values(event: Mapping[str, Any], single: str, multiple: str) -> dict[str, str]:
    """Read headers or parameters. One that was sent twice has both values, with a comma between: nobody's choice."""
    many: Mapping[str, list[str]] = event.get(multiple) or {}
    return {**(event.get(single) or {}), **{name: ", ".join(values) for name, values in many.items()}}


def _caller(event: Mapping[str, Any], partners: Mapping[str, Partner]) -> Partner | None:
    """Find the partner by the unique id of the calling role.

    `caller` is `AROA…:session` for a role's session: the part before the colon is AWS's, the session name is the
    caller's own choice and is not looked at
    (docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html).
    """
    context = event.get("requestContext") or {}
    caller = (context.get("identity") or {}).get("caller")
    if not isinstance(caller, str):
        return None
    role_id, separator, _ = caller.partition(":")
    return partners.get(role_id) if separator else None
