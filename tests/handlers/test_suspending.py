"""Suspending over the API: a grant, a tenant, everything; and the line that says who was given what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.handlers.deployment import (
    ACME_ADMIN,
    ACME_READER,
    ACME_WRITER,
    GRANT,
    OPERATOR,
    PARTNERS,
    REQUEST_ID,
    Deployment,
    Function,
    answered,
    offer,
    refusal,
    request,
)

ALL_SHARDS = {"shards": list(range(16))}
KNOWN_FOR_S = 5
ADMIN = f"{ACME_ADMIN}:fixture-session"


def suspended(answer: Any) -> bool:
    return (answer.status, answer.problem) == (409, "suspended")


# --- one grant


def test_a_grant_is_suspended_at_once_and_comes_back(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    adopted = deployment.adopt(grant_id, user).body
    assert (adopted["suspension"], adopted["suspended_from"]) == (None, None)
    answer = deployment.suspension("PUT", "acme", grant_id, {"reason": "ticket 17"}, caller=ADMIN)
    assert answer.status == 200
    shown = answer.body
    assert (shown["phase"], shown["suspended_from"], shown["due_at"]) == ("suspended", "active", None)
    assert shown["suspension"].keys() == {"since", "by", "reason"}
    assert (shown["suspension"]["by"], shown["suspension"]["reason"]) == ("acme-onboarding", "ticket 17")
    assert deployment.ask("GET", grant_id).body == shown
    assert suspended(deployment.token(grant_id))
    assert suspended(deployment.reject(grant_id, shown["version"]))

    deployment.clock.advance(hours=8)
    deployment.sweep(ALL_SHARDS)
    event = {"tenant": "acme", "grant_id": grant_id, "rejected": None}
    assert deployment.refresh(event)["outcome"] == "gone"
    assert deployment.refreshes(grant_id) == 0

    answer = deployment.suspension("DELETE", "acme", grant_id, caller=ADMIN)
    assert (answer.status, answer.body["phase"], answer.body["suspension"]) == (200, "active", None)
    deployment.sweep(ALL_SHARDS)
    assert deployment.refreshes(grant_id) == 1
    assert deployment.use(deployment.token(grant_id).body["access_token"]) == 200


def test_asking_again_answers_alike(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    first = deployment.suspension("PUT", "acme", grant_id, caller=ADMIN)
    deployment.clock.advance(seconds=3)
    again = deployment.suspension("PUT", "acme", grant_id, {"reason": "another"}, caller=ADMIN)
    assert again.body == first.body
    assert first.body["suspension"]["reason"] is None
    lifted = deployment.suspension("DELETE", "acme", grant_id, caller=ADMIN)
    assert deployment.suspension("DELETE", "acme", grant_id, caller=ADMIN).body == lifted.body


def test_an_operator_stops_one_grant_and_no_partner_service_lifts_that(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    stopped = deployment.suspension("PUT", "acme", grant_id, {"reason": "a breach"})
    assert (stopped.status, stopped.body["suspension"]["by"]) == (200, "operations")
    assert stopped.body["suspension"].keys() == {"since", "by", "reason"}
    assert suspended(deployment.token(grant_id))
    for _ in range(2):
        refused = deployment.suspension("DELETE", "acme", grant_id, caller=ADMIN)
        assert (refused.status, refused.problem) == (403, "forbidden")
        assert "takes operate" in refused.body["detail"]
        again = deployment.suspension("PUT", "acme", grant_id, {"reason": "another"}, caller=ADMIN)
        assert (again.status, again.body["suspension"]) == (200, stopped.body["suspension"])
    lifted = deployment.suspension("DELETE", "acme", grant_id)
    assert (lifted.status, lifted.body["phase"]) == (200, "active")
    assert deployment.token(grant_id).status == 200


def test_an_operator_takes_a_partners_order_over(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.suspension("PUT", "acme", grant_id, caller=ADMIN)
    taken = deployment.suspension("PUT", "acme", grant_id)
    assert taken.body["suspension"]["by"] == "operations"
    assert deployment.suspension("DELETE", "acme", grant_id, caller=ADMIN).status == 403
    renamed = [{**partner, "name": f"{partner['name']}-2"} for partner in PARTNERS]
    later = deployment.load("admin", PARTNERS=json.dumps(renamed))
    event = request("DELETE", f"{GRANT}/suspension", "acme", grant_id, caller=ADMIN)
    assert later(event)["statusCode"] == 403, "whoever is called what by now"
    event = request("DELETE", f"{GRANT}/suspension", "acme", grant_id, caller=f"{OPERATOR}:fixture-session")
    assert later(event)["statusCode"] == 200


def test_who_may_both_orders_as_an_operator(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    both = [{**p, "may": ["manage", "operate"]} if p["role_id"] == ACME_WRITER else p for p in PARTNERS]
    admin = deployment.load("admin", PARTNERS=json.dumps(both))
    writer = f"{ACME_WRITER}:fixture-session"
    assert admin(request("PUT", f"{GRANT}/suspension", "acme", grant_id, caller=writer))["statusCode"] == 200
    assert admin(request("DELETE", f"{GRANT}/suspension", "acme", grant_id, caller=ADMIN))["statusCode"] == 403
    assert admin(request("DELETE", f"{GRANT}/suspension", "acme", grant_id, caller=writer))["statusCode"] == 200


def test_there_is_no_grant_to_suspend(deployment: Deployment, grant_id: str) -> None:
    for method in ("PUT", "DELETE"):
        answer = deployment.suspension(method, "acme", grant_id, caller=ADMIN)
        assert (answer.status, answer.problem) == (404, "not-found")
        answer = deployment.suspension(method, "acme", grant_id)
        assert (answer.status, answer.problem) == (404, "not-found")


def test_a_suspension_outlives_new_tokens_and_the_processes(deployment: Deployment, grant_id: str) -> None:
    version = deployment.adopt(grant_id).body["version"]
    deployment.suspension("PUT", "acme", grant_id, {"reason": "a drill"}, caller=ADMIN)
    linked = deployment.wise.control.seed_user(grant_id)
    answer = deployment.ask("PUT", grant_id, offer(linked), if_match=version)
    assert (answer.status, answer.body["phase"]) == (200, "suspended")
    assert answer.body["suspension"]["reason"] == "a drill"
    another = deployment.load("serve")
    event = {"tenant": "acme", "grant_id": grant_id, "rejected": None}
    assert deployment.load("refresh")(event)["outcome"] == "gone"
    assert _asked(another, grant_id)["statusCode"] == 409
    deployment.suspension("DELETE", "acme", grant_id, caller=ADMIN)
    assert deployment.token(grant_id).body["access_token"] == linked.access_token


def _asked(function: Function, grant_id: str) -> dict[str, Any]:
    return function(request("GET", f"{GRANT}/access-token", "acme", grant_id))


# --- a tenant, or everything


@pytest.mark.parametrize("target", ["acme", None])
def test_every_process_knows_within_five_seconds(deployment: Deployment, grant_id: str, target: str | None) -> None:
    deployment.adopt(grant_id)
    event = {"tenant": "acme", "grant_id": grant_id, "rejected": None}
    assert deployment.token(grant_id).status == 200
    assert deployment.refresh(event)["outcome"] == "fresh"
    answer = deployment.suspension("PUT", target, body={"reason": "a suspected breach"})
    assert answer.status == 200
    assert answer.body == {
        "since": deployment.clock().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "by": "operations",
        "reason": "a suspected breach",
    }
    deployment.clock.advance(seconds=KNOWN_FOR_S)
    deployment.make_due(grant_id)
    assert suspended(deployment.token(grant_id))
    assert deployment.refresh(event)["outcome"] == "suspended"
    deployment.sweep(ALL_SHARDS)
    assert deployment.refreshes(grant_id) == 0
    assert deployment.ask("GET", grant_id).body["phase"] == "active", "an order about more than the grant is not in it"

    assert deployment.suspension("DELETE", target).status == 204
    deployment.clock.advance(seconds=KNOWN_FOR_S)
    assert deployment.token(grant_id).status == 200
    assert deployment.refreshes(grant_id) == 1


def test_a_process_that_knows_answers_without_asking(
    deployment: Deployment, grant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.adopt(grant_id)
    deployment.token(grant_id)
    client = deployment.serve.wired.serve_token.suspensions._store._client
    get, asked = client.get_item, []

    def counted(**call: Any) -> Any:
        asked.append(call["Key"]["pk"]["S"])
        return get(**call)

    monkeypatch.setattr(client, "get_item", counted)
    for _ in range(20):
        deployment.token(grant_id)
        deployment.clock.advance(milliseconds=400)
    assert asked.count(f"acme#{grant_id}") == 20
    assert asked.count("#suspended") == 1


def test_a_process_that_never_knew_refuses(
    deployment: Deployment, grant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.adopt(grant_id)
    client = deployment.serve.wired.serve_token.suspensions._store._client
    get = client.get_item

    def fail(**call: Any) -> Any:
        if call["Key"]["pk"]["S"] == "#suspended":
            raise refusal("GetItem", "InternalServerError", 500)
        return get(**call)

    monkeypatch.setattr(client, "get_item", fail)
    answer = deployment.token(grant_id)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    monkeypatch.undo()
    assert deployment.token(grant_id).status == 200
    monkeypatch.setattr(client, "get_item", fail)
    deployment.clock.advance(seconds=60)
    assert deployment.token(grant_id).status == 200, "what was known last counts"


def test_orders_are_shown_to_who_may_give_them(deployment: Deployment) -> None:
    nothing: dict[str, object] = {"environment": None, "tenants": []}
    assert deployment.suspension("GET").body == {**nothing, "on_hold": nothing}
    since = deployment.suspension("PUT", "globex").body["since"]
    deployment.suspension("PUT", "acme", body={"reason": "first"})
    deployment.suspension("PUT", None, body={"reason": "all"})
    assert deployment.suspension("GET").body == {
        "environment": {"since": since, "by": "operations", "reason": "all"},
        "tenants": [
            {"tenant": "acme", "since": since, "by": "operations", "reason": "first"},
            {"tenant": "globex", "since": since, "by": "operations", "reason": None},
        ],
        "on_hold": nothing,
    }
    deployment.suspension("DELETE", None)
    shown = deployment.suspension("GET").body
    assert shown["environment"] is None
    assert len(shown["tenants"]) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"reason": "two\nlines"}, "reason"),
        ({"reason": 7}, "reason"),
        ({"until": "tomorrow"}, "until"),
        ([], "body"),
    ],
)
def test_an_order_that_cannot_be_understood_stops_nothing(deployment: Deployment, body: object, field: str) -> None:
    before = deployment.items()
    for tenant in ("acme", None):
        answer = deployment.suspension("PUT", tenant, body=body)
        assert (answer.status, answer.problem) == (400, "bad-request")
        assert answer.body["detail"].startswith(f"{field} ")
    assert deployment.items() == before


def test_the_sweep_tells_what_is_in_force(deployment: Deployment, grant_id: str) -> None:
    for item in deployment.items():
        deployment.dynamodb.delete_item(TableName=deployment.table, Key={"pk": item["pk"]})
    deployment.adopt(grant_id)
    deployment.make_due(grant_id)
    deployment.suspension("PUT", "acme")
    deployment.suspension("PUT", "globex")
    told = deployment.sweep(ALL_SHARDS)
    assert (told["set_aside"], told["suspensions"], told["advanced"]) == (1, 2, 0)
    assert deployment.sweep.told("SuspensionsInForce") == [2]
    assert deployment.sweep.told("OldestOverdueSeconds") == [0]
    again = deployment.sweep(ALL_SHARDS)
    assert (again["set_aside"], again["looks"]) == (0, told["looks"])


# --- the audit


def line(function: Function) -> dict[str, Any]:
    return next(told for told in reversed(function.logged()) if told["message"] == "request answered")


def test_each_served_token_has_its_line(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]
    adopted = line(deployment.admin)
    assert (adopted["partner"], adopted["version"], adopted["request_id"]) == ("acme-onboarding", version, REQUEST_ID)
    expected = {
        "level": "INFO",
        "message": "request answered",
        "service": "serve",
        "request_id": REQUEST_ID,
        "method": "GET",
        "resource": "/v1/tenants/{tenant}/grants/{grant_id}/access-token",
        "partner": "acme-payouts",
        "tenant": "acme",
        "grant_id": grant_id,
        "status": 200,
        "version": version,
        "degraded": False,
        "caused_refresh": False,
    }
    reader = f"{ACME_READER}:fixture-session"
    deployment.token(grant_id, caller=reader)
    told = line(deployment.serve)
    assert {name: told[name] for name in expected} == expected
    assert set(told) == {*expected, "timestamp", "location"}

    deployment.make_due(grant_id)
    deployment.token(grant_id, caller=reader)
    told = line(deployment.serve)
    assert (told["version"], told["caused_refresh"]) == (version + 1, True)
    deployment.token(grant_id, caller=reader)
    told = line(deployment.serve)
    assert (told["version"], told["caused_refresh"]) == (version + 1, False)
    for secret in (user.access_token, user.refresh_token, deployment.token(grant_id).body["access_token"]):
        assert secret not in deployment.serve.console.getvalue()


def test_a_report_that_brought_a_new_token_is_a_refresh(deployment: Deployment, grant_id: str) -> None:
    version = deployment.adopt(grant_id, age_s=3600).body["version"]
    deployment.reject(grant_id, version)
    told = line(deployment.serve)
    assert (told["version"], told["caused_refresh"]) == (version, False)
    deployment.make_due(grant_id)
    deployment.reject(grant_id, version)
    assert line(deployment.serve)["caused_refresh"] is True


def test_refusals_and_orders_have_theirs(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.suspension("PUT", "acme", body={"reason": "not to be told"})
    told = line(deployment.admin)
    assert (told["partner"], told["tenant"], told["resource"]) == (
        "operations",
        "acme",
        "/v1/tenants/{tenant}/suspension",
    )
    assert "not to be told" not in json.dumps(told)
    deployment.suspension("PUT")
    assert "tenant" not in line(deployment.admin)
    deployment.token(grant_id)
    told = line(deployment.serve)
    assert (told["status"], told["problem"], told["partner"]) == (409, "suspended", "acme-onboarding")
    assert "version" not in told
    assert told["request_id"] == REQUEST_ID


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_a_quiet_log_has_them_all_the_same(deployment: Deployment, grant_id: str, level: str) -> None:
    version = deployment.adopt(grant_id).body["version"]
    quiet = deployment.load("serve", POWERTOOLS_LOG_LEVEL=level)
    assert _asked(quiet, grant_id)["statusCode"] == 200
    (told,) = quiet.logged()
    assert (told["message"], told["level"], told["version"]) == ("request answered", "INFO", version)


def test_a_request_without_an_id_is_answered(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    event = request("GET", f"{GRANT}/access-token", "acme", grant_id)
    del event["requestContext"]["requestId"]
    assert answered(deployment.serve(event)).status == 200
    assert "request_id" not in line(deployment.serve)
