"""The third lock alone: what each function answers to whom, whatever AWS let through."""

from __future__ import annotations

import json
from itertools import product

import pytest

from tests.handlers.deployment import (
    ACME_ADMIN,
    ACME_READER,
    ACME_WRITER,
    GLOBEX,
    GRANT,
    LEDGER,
    OPERATOR,
    PARTNERS,
    Answer,
    Deployment,
    request,
)

GRANTS = GRANT.removesuffix("/{grant_id}")
TOKEN, REJECTIONS = f"{GRANT}/access-token", f"{GRANT}/access-token/rejections"
LINK, COMPLETE, CONFIRM = f"{GRANT}/link", f"{GRANT}/link/complete", f"{GRANT}/link/{{link_id}}/confirm"
GRANT_SUSPENSION, TENANT_SUSPENSION = f"{GRANT}/suspension", "/v1/tenants/{tenant}/suspension"
WITHOUT_ID = (GRANTS, TENANT_SUSPENSION)
NEEDS: dict[tuple[str, str], set[str]] = {
    ("GET", TOKEN): {"read"},
    ("POST", REJECTIONS): {"read"},
    ("GET", GRANT): {"read"},
    ("GET", GRANTS): {"read"},
    ("PUT", GRANT): {"manage"},
    ("DELETE", GRANT): {"manage"},
    ("POST", LINK): {"link"},
    ("POST", COMPLETE): {"link"},
    ("POST", CONFIRM): {"link"},
    ("PUT", GRANT_SUSPENSION): {"manage", "operate"},
    ("DELETE", GRANT_SUSPENSION): {"manage", "operate"},
    ("PUT", TENANT_SUSPENSION): {"operate"},
    ("DELETE", TENANT_SUSPENSION): {"operate"},
}
BODIES = {
    ("POST", REJECTIONS): json.dumps({"version": 1, "error": "invalid_token"}),
    ("POST", COMPLETE): json.dumps({"state": "fixture-state", "code": "fixture-code"}),
    ("PUT", GRANT): json.dumps({"refresh_token": "fixture-refresh-token"}),
}
WELCOME = {
    ("PUT", GRANT): 412,
    ("DELETE", GRANT): 204,
    ("POST", LINK): 201,
    ("POST", COMPLETE): 404,
    ("POST", CONFIRM): 404,
    ("DELETE", TENANT_SUSPENSION): 204,
}
"""What who may is answered; else 200."""
TENANTS = (
    "acme",
    "globex",
    "globex.eu",
    "globex.e",
    "initech",
    "ACME",
    "Acme",
    "acme ",
    "acm",
    "acmee",
    "#profile",
    "*",
)
STRANGER = "AROAEXAMPLESTRANGER01"


def ask(
    deployment: Deployment, route: tuple[str, str], tenant: str, caller: object, grant_id: str = "matrix"
) -> Answer:
    method, resource = route
    link_id = "l" * 43 if resource == CONFIRM else None
    named = None if resource in WITHOUT_ID else grant_id
    event = request(method, resource, tenant, named, caller=caller, link_id=link_id)
    return deployment.call({**event, "body": BODIES.get(route)})


@pytest.fixture
def stocked(deployment: Deployment) -> Deployment:
    """Every tenant that is anybody's has the grant `matrix`, of an hour ago."""
    if not deployment.item("matrix"):
        for tenant, role in (("acme", ACME_ADMIN), ("globex", GLOBEX), ("globex.eu", GLOBEX)):
            user = deployment.wise.control.seed_user(f"{tenant}-matrix", age_s=3600)
            body = {
                "refresh_token": user.refresh_token,
                "access_token": user.access_token,
                "expires_at": user.expires_at.isoformat(),
            }
            answer = deployment.ask("PUT", "matrix", body, tenant=tenant, caller=f"{role}:fixture")
            assert answer.status == 201
    return deployment


@pytest.mark.parametrize("route", NEEDS, ids=lambda route: f"{route[0]} …{route[1][-24:]}")
def test_a_role_may_what_its_partner_may_and_nothing_else(stocked: Deployment, route: tuple[str, str]) -> None:
    cases = list(product(PARTNERS, TENANTS))
    allowed = [(p, t) for p, t in cases if t in p["tenants"] and NEEDS[route] & set(p["may"])]
    before = stocked.items()
    for partner, tenant in cases:
        if (partner, tenant) not in allowed:
            answer = ask(stocked, route, tenant, f"{partner['role_id']}:fixture-session")
            assert (answer.status, answer.problem) == (403, "forbidden"), (partner["name"], tenant, answer.text)
    assert stocked.items() == before
    assert len(allowed) == sum({"read": 4, "manage": 4, "link": 3, "operate": 2}[need] for need in NEEDS[route])
    for partner, tenant in allowed:
        answer = ask(stocked, route, tenant, f"{partner['role_id']}:fixture-session")
        assert answer.status == WELCOME.get(route, 200), (partner["name"], tenant, answer.text)
        for item in before:
            stocked.dynamodb.put_item(TableName=stocked.table, Item=item)


CALLERS: dict[str, object] = {
    "nobody": None,
    "empty": "",
    "a number": 7,
    "a list": [f"{ACME_ADMIN}:fixture-session"],
    "no colon": ACME_ADMIN,
    "another role": f"{STRANGER}:fixture-session",
    "a session named as the role's id": f"{STRANGER}:{ACME_ADMIN}",
    "a session named as the role's id and a session": f"{STRANGER}:{ACME_ADMIN}:fixture-session",
    "a session named as the partner": f"{STRANGER}:acme-onboarding",
    "the partner's name": "acme-onboarding:fixture-session",
    "no role": f":{ACME_ADMIN}",
    "a user": "AIDAEXAMPLEUSER000001",
    "a user with a colon": f"AIDAEXAMPLEUSER000001:{ACME_ADMIN}",
    "the root user": "123456789012",
    "lower case": f"{ACME_ADMIN.lower()}:fixture-session",
    "a space before": f" {ACME_ADMIN}:fixture-session",
    "a space behind": f"{ACME_ADMIN} :fixture-session",
    "the beginning": f"{ACME_ADMIN[:-1]}:fixture-session",
    "more than it": f"{ACME_ADMIN}1:fixture-session",
    "the role's ARN": "arn:aws:iam::123456789012:role/fixture",
    "another separator": f"{ACME_ADMIN}/fixture-session",
    "two roles": f"{STRANGER},{ACME_ADMIN}:fixture-session",
}


@pytest.mark.parametrize("kind", CALLERS)
def test_a_caller_that_is_no_partner_is_forbidden(stocked: Deployment, kind: str) -> None:
    before = stocked.items()
    for route in NEEDS:
        answer = ask(stocked, route, "acme", CALLERS[kind])
        assert (answer.status, answer.problem) == (403, "forbidden")
    assert stocked.items() == before


SESSIONS = ["fixture", GLOBEX, "globex", f"{GLOBEX}:fixture", "", "user@example.com", "x" * 64]


@pytest.mark.parametrize("session", SESSIONS)
def test_the_session_name_changes_nothing(stocked: Deployment, session: str) -> None:
    caller = f"{ACME_READER}:{session}"
    assert ask(stocked, ("GET", TOKEN), "acme", caller).status == 200
    assert ask(stocked, ("GET", TOKEN), "globex", caller).status == 403
    assert ask(stocked, ("DELETE", GRANT), "acme", caller).status == 403


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"identity": None},
        {"identity": {}},
        {"identity": {"user": f"{ACME_ADMIN}:fixture", "userArn": "arn:aws:sts::123456789012:assumed-role/a/b"}},
        {"authorizer": {"caller": f"{ACME_ADMIN}:fixture"}},
        {"caller": f"{ACME_ADMIN}:fixture"},
    ],
)
def test_only_what_aws_says_about_the_caller_counts(stocked: Deployment, context: dict[str, object]) -> None:
    event = request("GET", TOKEN, "acme", "matrix")
    event["requestContext"] = context
    event["headers"] |= {"X-Caller": f"{ACME_ADMIN}:fixture", "caller": f"{ACME_ADMIN}:fixture"}
    answer = stocked.call(event)
    assert (answer.status, answer.problem) == (403, "forbidden")


TRICKS = {
    "dots": ("globex", "/v1/tenants/acme/../globex/grants/matrix"),
    "encoded dots": ("globex", "/v1/tenants/acme/%2E%2E/globex/grants/matrix"),
    "encoded letter": ("globex", "/v1/tenants/%67lobex/grants/matrix"),
    "own tenant in the path": ("globex", "/v1/tenants/acme/grants/matrix"),
    "other tenant in the path": ("acme", "/v1/tenants/globex/grants/matrix"),
    "double slash": ("globex", "/v1/tenants//globex/grants/matrix"),
    "trailing slash": ("globex", "/v1/tenants/globex/grants/matrix/"),
    "own tenant before a slash": ("acme/../globex", "/v1/tenants/acme/../globex/grants/matrix"),
    "own tenant before a hash": ("acme#globex", "/v1/tenants/acme#globex/grants/matrix"),
    "both tenants": ("acme,globex", "/v1/tenants/acme,globex/grants/matrix"),
}


@pytest.mark.parametrize("kind", TRICKS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_path_leads_to_another_tenant(stocked: Deployment, kind: str, method: str) -> None:
    tenant, path = TRICKS[kind]
    before = stocked.items()
    event = request(method, GRANT, tenant, "matrix", path=path, query={"tenant": "globex", "grant_id": "matrix"})
    event["queryStringParameters"] = None if method == "GET" else event["queryStringParameters"]
    answer = stocked.call({**event, "body": BODIES.get((method, GRANT))})
    assert answer.status in (403, 404)
    assert "globex" not in answer.text
    assert stocked.items() == before


def test_a_grant_id_cannot_reach_into_another_tenant_or_a_reserved_item(stocked: Deployment) -> None:
    assert stocked.ask("PUT", "claims", {"refresh_token": "fixture", "profile_id": "74001"}).status == 201
    for tenant, grant_id in (("acme", "globex#matrix"), ("#profile", "74001"), ("acme", "#profile#74001")):
        for route in NEEDS:
            if route[1] not in WITHOUT_ID:
                assert ask(stocked, route, tenant, f"{ACME_ADMIN}:fixture", grant_id).status in (400, 403)
    assert stocked.ask("GET", "globex#matrix").status == 400


def test_a_list_holds_the_tenants_own_grants_only(stocked: Deployment) -> None:
    for tenant, caller in (("acme", ACME_READER), ("globex", GLOBEX), ("globex.eu", GLOBEX)):
        page = stocked.ask("GET", None, tenant=tenant, caller=f"{caller}:fixture")
        names = {row["grant_id"] for row in page.body["grants"]}
        stored = {item["grant_id"]["S"] for item in stocked.items() if item.get("tenant") == {"S": tenant}}
        assert names == stored
        assert "matrix" in names


@pytest.mark.parametrize("route", NEEDS, ids=lambda route: f"{route[0]} …{route[1][-24:]}")
@pytest.mark.parametrize("role", [ACME_ADMIN, ACME_READER, ACME_WRITER, STRANGER])
def test_grants_of_another_tenant_look_the_same_whether_they_exist_or_not(
    stocked: Deployment, route: tuple[str, str], role: str
) -> None:
    answers = [
        ask(stocked, route, tenant, f"{role}:fixture", grant_id)
        for tenant in ("globex", "initech")
        for grant_id in ("matrix", "nobody", "..", "g" * 200)
    ]
    assert answers[0].status == 403
    assert all((a.status, a.headers, a.text) == (403, answers[0].headers, answers[0].text) for a in answers)


def test_a_stranger_costs_no_read(stocked: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise AssertionError("the table was read for a stranger")

    monkeypatch.setattr(stocked.serve.wired.grants._client, "get_item", fail)
    monkeypatch.setattr(stocked.serve.wired.grants._client, "query", fail)
    for name in ("get_item", "put_item", "update_item", "transact_write_items"):
        monkeypatch.setattr(stocked.admin.wired.adopt_grant.grants._client, name, fail)
        monkeypatch.setattr(stocked.callback.wired.take_arrival.links._client, name, fail)
    for name in ("get_item", "update_item"):
        monkeypatch.setattr(stocked.admin.wired.suspensions._client, name, fail)
    for route in NEEDS:
        assert ask(stocked, route, "globex", f"{ACME_ADMIN}:fixture").status == 403
    for method in ("PUT", "DELETE", "GET"):
        assert stocked.suspension(method, caller=f"{ACME_ADMIN}:fixture").status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
def test_only_who_operates_stops_everything(stocked: Deployment, method: str) -> None:
    before = stocked.items()
    callers = [f"{partner['role_id']}:fixture" for partner in PARTNERS if "operate" not in partner["may"]]
    for caller in [*callers, f"{STRANGER}:{OPERATOR}", OPERATOR, "", "AIDAEXAMPLEUSER000001"]:
        answer = stocked.suspension(method, caller=caller)
        assert (answer.status, answer.problem) == (403, "forbidden"), caller
    assert stocked.items() == before
    assert stocked.suspension(method).status == (204 if method == "DELETE" else 200)


def test_a_tenant_cannot_be_brought_in_where_the_path_names_none(stocked: Deployment) -> None:
    """The parameter is the caller's in no such path, and is not looked at."""
    event = request("PUT", "/v1/suspension", "initech", caller=f"{OPERATOR}:fixture", path="/v1/suspension")
    assert stocked.call(event).status == 200
    assert stocked.suspension("GET").body["environment"] is not None
    assert stocked.suspension("GET").body["tenants"] == []


OWN = "/v1/application"
OWN_ROUTES = {
    ("GET", f"{OWN}/access-token"): None,
    ("POST", f"{OWN}/access-token/rejections"): json.dumps({"version": 1, "error": "invalid_token"}),
    ("GET", OWN): None,
}


@pytest.mark.parametrize("route", OWN_ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
def test_only_who_may_uses_our_applications_own_token(stocked: Deployment, route: tuple[str, str]) -> None:
    before = stocked.items()
    callers = [f"{partner['role_id']}:fixture" for partner in PARTNERS if "application" not in partner["may"]]
    for caller in [*callers, f"{STRANGER}:{LEDGER}", LEDGER, "", "AIDAEXAMPLEUSER000001", None]:
        answer = stocked.call({**request(*route, "", caller=caller), "body": OWN_ROUTES[route]})
        assert (answer.status, answer.problem) == (403, "forbidden"), caller
    assert stocked.items() == before


@pytest.mark.parametrize("route", NEEDS, ids=lambda route: f"{route[0]} …{route[1][-24:]}")
def test_who_may_only_that_may_nothing_of_any_tenant(stocked: Deployment, route: tuple[str, str]) -> None:
    for tenant in ("acme", "", "#application"):
        assert ask(stocked, route, tenant, f"{LEDGER}:fixture").status in (403, 404)
