"""Moving in over the API: adopted with hold, handed over, released; and whoever refreshes beside us is noticed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from local.wise.control import SeededUser
from tests.handlers.deployment import ACME_ADMIN, ACME_READER, GRANT, OPERATOR, Deployment, offer, request
from tests.wise.client import WiseClient

ALL_SHARDS = {"shards": list(range(16))}
ADMIN = f"{ACME_ADMIN}:fixture-session"
OPERATIONS = f"{OPERATOR}:fixture-session"


def order(
    deployment: Deployment, method: str, tenant: str | None = None, grant_id: str | None = None, body: object = None
) -> Any:
    """Put on hold, or release: one grant, a tenant, or everything."""
    caller = OPERATIONS if grant_id is None else ADMIN
    return deployment.suspension(method, tenant, grant_id, body, caller=caller, what="hold")


def refreshed_elsewhere(deployment: Deployment, user: SeededUser) -> dict[str, object]:
    """Let somebody else refresh the user; what they have then, as it is adopted."""
    reply = WiseClient(deployment.wise).refresh(user.refresh_token)
    assert reply.status == 200
    told = reply.json
    expires_at = deployment.clock() + timedelta(seconds=told["expires_in"])
    return {
        "refresh_token": told.get("refresh_token", user.refresh_token),
        "access_token": told["access_token"],
        "issued_at": deployment.clock().isoformat(),
        "expires_at": expires_at.isoformat(),
    }


def test_a_partner_moves_in(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    adopted = deployment.adopt(grant_id, user, hold=True).body
    assert adopted["on_hold"].keys() == {"since", "by", "reason"}
    assert adopted["on_hold"]["by"] == "acme-onboarding"
    assert adopted["due_at"] > adopted["expires_at"], "a warning of the refresh token's end, years ahead"
    before = deployment.refreshes(grant_id)

    deployment.clock.advance(hours=8)
    deployment.sweep(ALL_SHARDS)
    served = deployment.token(grant_id).body
    assert (served["on_hold"], served["stable_for_s"], served["access_token"]) == (True, 60, user.access_token)

    newer = refreshed_elsewhere(deployment, user)
    assert deployment.refreshes(grant_id) == before + 1
    answer = deployment.reject(grant_id, served["version"])
    assert (answer.status, answer.problem) == (409, "on-hold")
    assert "If-Match" in answer.body["detail"]
    assert deployment.token(grant_id).problem == "on-hold"

    handed_over = deployment.ask("PUT", grant_id, newer, if_match=served["version"])
    assert (handed_over.status, handed_over.body["on_hold"]) == (200, adopted["on_hold"])
    served = deployment.token(grant_id).body
    assert (served["on_hold"], served["access_token"]) == (True, newer["access_token"])
    assert deployment.use(served["access_token"]) == 200

    released = order(deployment, "DELETE", "acme", grant_id)
    assert (released.status, released.body["on_hold"]) == (200, None)
    assert order(deployment, "DELETE", "acme", grant_id).body == released.body
    deployment.make_due(grant_id)
    deployment.sweep(ALL_SHARDS)
    served = deployment.token(grant_id).body
    assert served["on_hold"] is False
    assert deployment.use(served["access_token"]) == 200
    assert deployment.refreshes(grant_id) == before + 2
    assert deployment.ask("GET", grant_id).body["alert"] is None


def test_a_grant_is_put_on_hold_and_released_by_adopting(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]
    first = order(deployment, "PUT", "acme", grant_id, {"reason": "batch 3"})
    assert (first.status, first.body["on_hold"]["reason"]) == (200, "batch 3")
    assert order(deployment, "PUT", "acme", grant_id, {"reason": "another"}).body == first.body
    again = deployment.ask("PUT", grant_id, {**offer(user), "hold": False}, if_match=version)
    assert (again.status, again.body["on_hold"]) == (200, None)
    assert again.body["due_at"] == again.body["refresh_at"]


@pytest.mark.parametrize("tenant", ["acme", None])
def test_an_order_about_many_is_answered_once_it_is_in_force(
    deployment: Deployment, grant_id: str, tenant: str | None
) -> None:
    deployment.adopt(grant_id)
    deployment.make_due(grant_id)
    began = deployment.clock()
    answer = order(deployment, "PUT", tenant, body={"reason": "moving in"})
    assert (answer.status, answer.body["by"], answer.body["reason"]) == (200, "operations", "moving in")
    assert deployment.clock() - began == timedelta(seconds=22)
    assert deployment.token(grant_id).body["on_hold"] is True
    deployment.sweep(ALL_SHARDS)
    assert deployment.refresh({"tenant": "acme", "grant_id": grant_id, "rejected": None})["outcome"] == "on_hold"
    assert deployment.refreshes(grant_id) == 0
    assert deployment.sweep.told("HoldsInForce") == [1]

    shown = deployment.suspension("GET").body
    assert (shown["environment"], shown["tenants"]) == (None, [])
    expected = {"environment": answer.body, "tenants": []}
    if tenant is not None:
        expected = {"environment": None, "tenants": [{"tenant": tenant, **answer.body}]}
    assert shown["on_hold"] == expected
    assert order(deployment, "PUT", tenant).body == answer.body

    assert order(deployment, "DELETE", tenant).status == 204
    assert deployment.suspension("GET").body["on_hold"] == {"environment": None, "tenants": []}
    deployment.clock.advance(seconds=78)
    assert deployment.token(grant_id).body["on_hold"] is False
    assert deployment.refreshes(grant_id) == 1
    assert order(deployment, "DELETE", tenant).status == 204


@pytest.mark.parametrize(("hold", "status"), [("yes", 400), (1, 400), ([], 400), (None, 201), (False, 201)])
def test_hold_is_true_or_false(deployment: Deployment, grant_id: str, hold: object, status: int) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    answer = deployment.ask("PUT", grant_id, {**offer(user), "hold": hold})
    assert answer.status == status
    if status == 400:
        assert answer.body["detail"].startswith("hold ")
    else:
        assert answer.body["on_hold"] is None


def test_there_is_no_grant_to_hold(deployment: Deployment, grant_id: str) -> None:
    for method in ("PUT", "DELETE"):
        answer = order(deployment, method, "acme", grant_id)
        assert (answer.status, answer.problem) == (404, "not-found")


def test_one_that_is_being_refreshed_for_too_long_is_busy(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    ends = int((deployment.clock() + timedelta(minutes=5)).timestamp() * 1000)
    deployment.dynamodb.update_item(
        TableName=deployment.table,
        Key={"pk": {"S": f"acme#{grant_id}"}},
        UpdateExpression="SET attempt_id = :a, lease_until = :l",
        ExpressionAttributeValues={":a": {"S": "attempt"}, ":l": {"N": str(ends)}},
    )
    answer = order(deployment, "PUT", "acme", grant_id)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_readers_may_not_hold_and_managers_hold_no_tenant(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    for caller, resource, named in (
        (f"{ACME_READER}:fixture-session", f"{GRANT}/hold", grant_id),
        (OPERATIONS, f"{GRANT}/hold", grant_id),
        (ADMIN, "/v1/tenants/{tenant}/hold", None),
    ):
        assert deployment.call(request("PUT", resource, "acme", named, caller=caller)).status == 403


# --- whoever refreshes beside us


def test_whoever_refreshes_beside_us_is_noticed(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user)
    deployment.make_due(grant_id)
    served = deployment.token(grant_id).body
    deployment.clock.advance(hours=1)
    refreshed_elsewhere(deployment, user)
    assert deployment.use(served["access_token"]) == 401
    for function in deployment.functions:
        function.forget()

    answer = deployment.reject(grant_id, served["version"])
    assert (answer.status, answer.body["version"]) == (200, served["version"] + 1)
    assert deployment.use(answer.body["access_token"]) == 200
    assert datetime.fromisoformat(answer.body["stable_until"]) > deployment.clock() + timedelta(hours=3)
    shown = deployment.ask("GET", grant_id).body["alert"]
    assert (shown["kind"], shown["published_at"]) == ("foreign_refresher", None)
    assert deployment.refresh.told("ForeignRefresh") == [1]
    deployment.sweep(ALL_SHARDS)
    shown = deployment.ask("GET", grant_id).body["alert"]
    assert shown["published_at"] is not None
