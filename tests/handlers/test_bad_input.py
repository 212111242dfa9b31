"""What nobody should send: each request is answered by a problem document that names the field, and changes nothing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.handlers.deployment import GRANT, Answer, Deployment, answered, offer, request

IDS = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "begins with a dot": ".grant",
    "begins with a hyphen": "-grant",
    "begins with an underscore": "_grant",
    "dots inside": "a..b",
    "too long": "g" * 129,
    "space": "a b",
    "slash": "a/b",
    "hash": "a#b",
    "percent": "a%62",
    "at": "fixture.user@example.com",
    "star": "*",
    "quote": 'a"b',
    "newline": "grant\n",
    "nul": "grant\x00",
    "digit of another script": "grant-\u0663",
    "letter of another script": "gr\u0430nt",
    "full width": "\uff47rant",
    "braces": "{tenant}",
    "lone surrogate": "grant\ud800",
}
FINE_IDS = ["g", "7", "A.b-c_D", "0" * 128, "grant.", "grant-"]


def named(answer: Answer, field: str) -> None:
    """A 400 that says which field is wrong, and why."""
    assert (answer.status, answer.problem) == (400, "bad-request"), answer.text
    assert answer.body["detail"].startswith(f"{field} "), answer.text
    assert len(answer.body["detail"]) < 400


@pytest.mark.parametrize("kind", IDS)
def test_an_id_that_is_malformed_is_named(deployment: Deployment, kind: str) -> None:
    before = deployment.items()
    for method, sub in (("GET", ""), ("GET", "/access-token"), ("PUT", ""), ("DELETE", "")):
        named(deployment.ask(method, IDS[kind], {"refresh_token": "fixture-refresh-token"}, sub=sub), "grant_id")
    named(deployment.reject(IDS[kind], 1), "grant_id")
    named(deployment.ask("GET", None, query={"after": IDS[kind]}), "after")
    assert deployment.items() == before
    assert all("grant_id" not in line for function in deployment.functions for line in function.logged())


@pytest.mark.parametrize("name", FINE_IDS)
def test_an_id_that_is_well_formed_is_taken(deployment: Deployment, name: str) -> None:
    assert deployment.ask("PUT", name, {"refresh_token": "fixture-refresh-token"}).status == 201
    assert deployment.ask("GET", name).body["grant_id"] == name


def test_ids_are_told_apart_by_case(deployment: Deployment) -> None:
    assert deployment.ask("PUT", "Case", {"refresh_token": "fixture-refresh-token"}).status == 201
    assert deployment.ask("GET", "case").status == 404


PATHS = {
    "encoded letter": ("acme", "{id}", "/v1/tenants/%61cme/grants/{id}"),
    "encoded letter of the id": ("acme", "{id}", "/v1/tenants/acme/grants/%67rant"),
    "double slash": ("acme", "{id}", "/v1/tenants//acme/grants/{id}"),
    "double slash at the start": ("acme", "{id}", "//v1/tenants/acme/grants/{id}"),
    "trailing slash": ("acme", "{id}", "/v1/tenants/acme/grants/{id}/"),
    "dots": ("acme", "{id}", "/v1/tenants/globex/../acme/grants/{id}"),
    "encoded dots": ("acme", "{id}", "/v1/tenants/globex/%2E%2E/acme/grants/{id}"),
    "encoded slash": ("acme", "{id}", "/v1/tenants/acme%2Fgrants/{id}"),
    "semicolon": ("acme", "{id}", "/v1/tenants/acme;x=1/grants/{id}"),
    "upper case": ("acme", "{id}", "/V1/tenants/acme/grants/{id}"),
    "upper case of the tenant": ("acme", "{id}", "/v1/tenants/ACME/grants/{id}"),
    "another tenant": ("acme", "{id}", "/v1/tenants/globex/grants/{id}"),
    "another grant": ("acme", "{id}", "/v1/tenants/acme/grants/other"),
    "with the stage": ("acme", "{id}", "/live/v1/tenants/acme/grants/{id}"),
    "with a query": ("acme", "{id}", "/v1/tenants/acme/grants/{id}?tenant=globex"),
    "empty": ("acme", "{id}", ""),
    "not there": ("acme", "{id}", None),
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_path_that_is_not_the_one_of_its_parameters_is_not_found(
    deployment: Deployment, kind: str, method: str
) -> None:
    tenant, grant_id, path = PATHS[kind]
    event = request(method, GRANT, tenant, "grant")
    event["pathParameters"] = {"tenant": tenant, "grant_id": grant_id.format(id="grant")}
    event["path"] = None if path is None else path.format(id="grant")
    event["body"] = json.dumps({"refresh_token": "fixture-refresh-token"})
    answer = deployment.call(event)
    assert (answer.status, answer.problem) == (404, "not-found")
    assert deployment.item("grant") == {}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"httpMethod": "GET"},
        {"httpMethod": None, "resource": None},
        {"httpMethod": "PATCH", "resource": GRANT},
        {"httpMethod": "HEAD", "resource": GRANT},
        {"httpMethod": "get", "resource": GRANT},
        {"httpMethod": "GET", "resource": "/{proxy+}", "path": "/v1/tenants/acme/grants/grant"},
        {"httpMethod": "GET", "resource": GRANT, "path": "/v1/tenants/acme/grants/grant"},
        {"httpMethod": "GET", "resource": GRANT, "path": GRANT, "pathParameters": {}},
        {"httpMethod": "GET", "resource": GRANT, "pathParameters": None, "requestContext": None},
    ],
)
def test_what_no_route_answers_is_not_found(deployment: Deployment, event: dict[str, Any]) -> None:
    for function in (deployment.serve, deployment.admin):
        answer = answered(function(event))
        assert (answer.status, answer.problem) == (404, "not-found")


# --- bodies

BODIES: dict[str, tuple[str | None, str]] = {
    "none": (None, "body"),
    "empty": ("", "body"),
    "text": ("fixture", "body"),
    "form": ("refresh_token=fixture", "body"),
    "half": ('{"refresh_token":', "body"),
    "two": ('{"refresh_token":"a"}{"refresh_token":"b"}', "body"),
    "null": ("null", "body"),
    "true": ("true", "body"),
    "number": ("7", "body"),
    "string": ('"fixture"', "body"),
    "list": ('[{"refresh_token":"fixture"}]', "body"),
    "nested lists": ("[" * 60_000 + "]" * 60_000, "body"),
    "nested objects": ('{"a":' * 20_000 + "1" + "}" * 20_000, "body"),
    "duplicate field": ('{"refresh_token":"a","refresh_token":"b"}', "body"),
    "duplicate field inside": ('{"refresh_token":"a","registration":{"code":"a","code":"b"}}', "body"),
    "long number": ('{"refresh_token":' + "9" * 5000 + "}", "body"),
    "lone surrogate": ("\ud800", "body"),
    "byte order mark": ('\ufeff{"refresh_token":"a"}', "body"),
    "comments": ('{"refresh_token":"a" /* fixture */}', "body"),
    "infinity": ('{"refresh_token":Infinity}', "refresh_token"),
    "empty object": ("{}", "refresh_token"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_no_object_is_refused(deployment: Deployment, kind: str) -> None:
    body, field = BODIES[kind]
    named(deployment.ask("PUT", "grant", body), field)
    if field == "body":
        named(deployment.ask("POST", "grant", body, sub="/access-token/rejections"), field)
    assert deployment.item("grant") == {}


RAW = {
    "invalid utf-8": base64.b64encode(b'{"refresh_token":"\xff\xfe"}').decode(),
    "overlong utf-8": base64.b64encode(b'{"refresh_token":"\xc0\xaf"}').decode(),
    "not base64": "fixture!",
    "base64 without its end": "eyJ",
    "not ascii": "fixtur\u00e9",
    "no json": base64.b64encode(b"fixture").decode(),
}


@pytest.mark.parametrize("kind", RAW)
def test_bytes_that_are_no_json_are_refused(deployment: Deployment, kind: str) -> None:
    event = request("PUT", GRANT, "acme", "grant")
    event |= {"body": RAW[kind], "isBase64Encoded": True}
    named(deployment.call(event), "body")
    assert deployment.item("grant") == {}


def test_a_body_in_base64_is_read(deployment: Deployment, grant_id: str) -> None:
    event = request("PUT", GRANT, "acme", grant_id)
    body = json.dumps({"refresh_token": "fixture-refresh-token"}).encode()
    assert deployment.call({**event, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}).status == 201


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_that_is_too_large_is_refused(deployment: Deployment, *, encoded: bool) -> None:
    body = json.dumps({"refresh_token": "f" * 131_072})
    event = request("PUT", GRANT, "acme", "grant")
    event |= {"body": base64.b64encode(body.encode()).decode() if encoded else body, "isBase64Encoded": encoded}
    answer = deployment.call(event)
    assert (answer.status, answer.problem) == (413, "request-too-large")


TOKENS: list[object] = [
    "", " ", "a b", " a", "a\n", "\u00e9", "\U0001f511", "a\x7f", "a\x00", "f" * 32_769,
    7, 1.5, True, False, [], ["a"], {}, {"value": "a"},
]  # fmt: skip
INSTANTS: list[object] = [
    "", "now", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01 12:00:00Z", "2026-02-30T12:00:00Z",
    "2026-03-01T25:00:00Z", "2026-03-01T12:00:00+25:00", "2026-03-01T12:00:00z", "2026-03-01T12:00:00Z ",
    "20260301T120000Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "\u0662026-03-01T12:00:00Z",
    1772366400, 1772366400.5, True, [], {},
]  # fmt: skip
SCOPES: list[object] = ["", "a\nb", "\u00e9", "s" * 257, 7, True, ["transfers"], {}]
OPAQUE: list[object] = ["", "-a", "a..b", "a b", "i" * 129, "\u0663", 70001, True, [], {}]
REGISTRATIONS: list[tuple[object, str]] = [
    ("fixture-code", "registration"),
    ([], "registration"),
    ({}, "registration"),
    (True, "registration"),
    ({"code": "a"}, "registration"),
    ({"email": "fixture.user@example.com"}, "registration"),
    ({"code": "a", "email": "fixture.user@example.com", "name": "fixture"}, "registration"),
    ({"code": "", "email": "fixture.user@example.com"}, "registration.code"),
    ({"code": 7, "email": "fixture.user@example.com"}, "registration.code"),
    ({"code": "a b", "email": "fixture.user@example.com"}, "registration.code"),
    ({"code": "f" * 32_769, "email": "fixture.user@example.com"}, "registration.code"),
    ({"code": "a", "email": ""}, "registration.email"),
    ({"code": "a", "email": "fixture"}, "registration.email"),
    ({"code": "a", "email": "fixture user@example.com"}, "registration.email"),
    ({"code": "a", "email": "a@b@example.com"}, "registration.email"),
    ({"code": "a", "email": ["fixture.user@example.com"]}, "registration.email"),
    ({"code": "a", "email": "f" * 65 + "@example.com"}, "registration.email"),
]
FIELDS: dict[str, list[object]] = {
    "refresh_token": TOKENS,
    "access_token": TOKENS,
    "issued_at": INSTANTS,
    "expires_at": INSTANTS,
    "refresh_expires_at": INSTANTS,
    "scope": SCOPES,
    "profile_id": OPAQUE,
    "wise_user_id": OPAQUE,
}
GOOD = {
    "refresh_token": "fixture-refresh-token",
    "access_token": "fixture-access-token",
    "issued_at": "2026-03-01T11:00:00Z",
    "expires_at": "2026-03-01T23:00:00Z",
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_a_wrong_type_or_form_is_named(deployment: Deployment, field: str) -> None:
    for value in FIELDS[field]:
        named(deployment.ask("PUT", "grant", {**GOOD, field: value}), field)
    assert deployment.item("grant") == {}


@pytest.mark.parametrize(("value", "field"), REGISTRATIONS)
def test_a_registration_that_is_incomplete_is_named(deployment: Deployment, value: object, field: str) -> None:
    named(deployment.ask("PUT", "grant", {**GOOD, "registration": value}), field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"refresh_token": None}, "refresh_token"),
        (
            {
                "refresh_token": None,
                "registration": {"code": "a", "email": "fixture.user@example.com"},
                "refresh_expires_at": "2027-03-01T23:00:00Z",
            },
            "refresh_token",
        ),
        ({"expires_at": None}, "expires_at"),
        ({"access_token": None}, "access_token"),
        ({"access_token": None, "expires_at": None}, "access_token"),
        ({"expires_at": "2026-03-01T11:00:00Z"}, "expires_at"),
        ({"expires_at": "2026-03-01T10:59:59.999Z"}, "expires_at"),
        ({"expires_at": "2026-03-01T12:59:59+02:00"}, "expires_at"),
        ({"issued_at": None, "expires_at": "0001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"issued_at": "2090-01-01T00:00:00Z", "expires_at": "2090-01-01T12:00:00Z"}, "issued_at"),
        ({"issued_at": "0001-01-01T00:00:00Z"}, "issued_at"),
    ],
)
def test_fields_that_do_not_go_together_are_named(
    deployment: Deployment, changes: dict[str, object], field: str
) -> None:
    named(deployment.ask("PUT", "grant", {**GOOD, **changes}), field)


UNKNOWN = [
    "Refresh_token",
    "refreshToken",
    "version",
    "phase",
    "tenant",
    "",
    "__proto__",
    "fixture",
    "\u00e9",
    "\ud800",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_field_that_is_unknown_is_named(deployment: Deployment, name: str) -> None:
    named(deployment.ask("PUT", "grant", {**GOOD, name: None}), name)
    report = {"version": 1, "error": "invalid_token", name: 1}
    if name != "version":
        named(deployment.ask("POST", "grant", report, sub="/access-token/rejections"), name)


def test_a_long_name_is_not_echoed_whole(deployment: Deployment) -> None:
    name = "fixture-secret-as-a-name-" * 100
    for answer in (
        deployment.ask("PUT", "grant", {**GOOD, name: 1}),
        deployment.ask("POST", "grant", {name: 1}, sub="/access-token/rejections"),
        deployment.ask("GET", None, query={name: "1"}),
    ):
        assert answer.status == 400
        assert len(answer.text) < 400


VERSIONS: list[object] = [None, "1", "", 0, -1, 1.0, 1.5, True, False, [], {}, 2**53, 10**400]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_of_a_report_that_is_none_is_named(deployment: Deployment, version: object) -> None:
    body = {"version": version, "error": "invalid_token"}
    named(deployment.ask("POST", "grant", body, sub="/access-token/rejections"), "version")


@pytest.mark.parametrize("error", [None, "", "Invalid_token", "insufficient_scope", "sca", 401, ["invalid_token"], {}])
def test_only_an_invalid_token_can_be_reported(deployment: Deployment, error: object) -> None:
    body = {"version": 1, "error": error}
    named(deployment.ask("POST", "grant", body, sub="/access-token/rejections"), "error")


LIMITS = ["", "0", "-1", "101", "1000", "1.0", "1e1", " 1", "+1", "0x1", "ten", "\u0661", "1,2", "9" * 400]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_is_none_is_named(deployment: Deployment, limit: str) -> None:
    named(deployment.ask("GET", None, query={"limit": limit}), "limit")


@pytest.mark.parametrize("name", ["Limit", "page", "tenant", "", "access_token", "{}"])
def test_a_parameter_that_is_unknown_is_named(deployment: Deployment, name: str) -> None:
    named(deployment.ask("GET", None, query={name: "1"}), name)


MATCHES = [
    "", "*", "W/", '""', '"', '"1', '1"', 'W/"1"', '"1", "2"', "1,2", "0", "-1", "01", "1.0", "one", "\u0661",
    "9" * 17, "1 2", "'1'", '"1"\n"2"',
]  # fmt: skip


@pytest.mark.parametrize("value", MATCHES)
def test_an_if_match_that_is_no_version_is_named(deployment: Deployment, value: str) -> None:
    event = request("PUT", GRANT, "acme", "grant", headers={"if-match": value})
    named(deployment.call({**event, "body": json.dumps(GOOD)}), "If-Match")
    assert deployment.item("grant") == {}


@pytest.mark.parametrize("name", ["If-Match", "if-match", "IF-MATCH"])
@pytest.mark.parametrize("form", ['"{}"', "{}", ' "{}" '])
def test_an_if_match_is_read_whatever_its_case(deployment: Deployment, grant_id: str, name: str, form: str) -> None:
    version = deployment.adopt(grant_id).body["version"]
    event = request("PUT", GRANT, "acme", grant_id, headers={name: form.format(version)})
    assert deployment.call({**event, "body": json.dumps(GOOD)}).status == 200


def test_two_versions_in_two_headers_are_none(deployment: Deployment, grant_id: str) -> None:
    version = deployment.adopt(grant_id).body["version"]
    before = deployment.item(grant_id)
    event = request("PUT", GRANT, "acme", grant_id, headers={"If-Match": f'"{version}"'})
    event["multiValueHeaders"] = {"If-Match": [f'"{version - 1}"', f'"{version}"']}
    named(deployment.call({**event, "body": json.dumps(GOOD)}), "If-Match")
    assert deployment.item(grant_id) == before


# --- the largest of everything


def test_the_largest_grant_goes_round_whole(deployment: Deployment, grant_id: str) -> None:
    access_token, refresh_token = "a" * 32_768, "r" * 32_768
    body = {
        **GOOD,
        "access_token": access_token,
        "refresh_token": refresh_token,
        "scope": "s" * 256,
        "profile_id": "p" * 128,
        "wise_user_id": "w" * 128,
        "registration": {"code": "c" * 32_768, "email": "e" * 64 + "@" + "d" * 255},
    }
    assert deployment.ask("PUT", grant_id, body).status == 201
    assert deployment.token(grant_id).body["access_token"] == access_token


def test_the_dates_of_a_replaced_grant_may_not_be_kept_by_halves(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]
    before = deployment.item(grant_id)
    named(deployment.ask("PUT", grant_id, {**offer(user), "scope": 7}, if_match=version), "scope")
    assert deployment.item(grant_id) == before
