"""The whole story of a grant through the four handlers: adopted, served, refreshed, reported, replaced, forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.handlers.deployment import (
    ACME_READER,
    GLOBEX,
    WISE_SECRET,
    Context,
    Deployment,
    offer,
    payload,
    refusal,
    to_ms,
)

ALL_SHARDS = {"shards": list(range(16))}
TOKENS = ("access_token", "refresh_token", "registration")


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- adopting and looking at it


def test_an_adopted_grant_is_created_and_shown_without_its_secrets(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    registration = {"code": "fixture-registration-code", "email": "fixture.user@example.com"}
    created = deployment.ask("PUT", grant_id, {**offer(user), "registration": registration, "profile_id": "71001"})
    assert created.status == 201
    shown = created.body
    assert created.headers["ETag"] == f'"{shown["version"]}"'
    assert shown["version"] == to_ms(deployment.clock())
    assert (shown["tenant"], shown["grant_id"], shown["phase"]) == ("acme", grant_id, "active")
    assert (shown["has_access_token"], shown["has_registration_code"]) == (True, True)
    assert (instant(shown["issued_at"]), instant(shown["expires_at"])) == (user.issued_at, user.expires_at)
    assert user.issued_at < instant(shown["refresh_at"]) < user.expires_at

    read = deployment.ask("GET", grant_id)
    assert (read.status, read.body, read.headers["ETag"]) == (200, shown, created.headers["ETag"])
    for secret in (user.access_token, user.refresh_token, *registration.values()):
        assert secret not in created.text + read.text
    assert not set(TOKENS) & set(shown)
    assert deployment.refreshes(grant_id) == 0


def test_a_token_goes_from_adoption_to_a_partner_and_is_good_at_wise(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    version = deployment.adopt(grant_id, user).body["version"]
    served = deployment.token(grant_id, caller=f"{ACME_READER}:fixture-session")
    body = served.body
    assert served.status == 200
    assert set(body) == {
        "access_token", "token_type", "scope", "version", "issued_at", "expires_at", "expires_in", "stable_until",
        "stable_for_s", "degraded", "on_hold",
    }  # fmt: skip
    assert (body["access_token"], body["token_type"], body["version"]) == (user.access_token, "bearer", version)
    assert body["degraded"] is False
    assert body["expires_in"] == int((user.expires_at - deployment.clock()).total_seconds())
    assert body["stable_for_s"] == int((instant(body["stable_until"]) - deployment.clock()).total_seconds())
    assert instant(body["stable_until"]) <= user.expires_at - timedelta(seconds=4)
    assert deployment.use(body["access_token"]) == 200
    assert deployment.invocations.calls == []


@pytest.mark.parametrize(
    ("form", "policy"),
    [("uuid", "omitted"), ("jwe", "same"), ("jwe", "rotated"), ("long", "same"), ("long", "rotated")],
)
def test_tokens_of_every_form_go_round_whole(deployment: Deployment, grant_id: str, form: str, policy: str) -> None:
    deployment.wise.control.change_settings(token_format=form, refresh_token_policy=policy)
    try:
        deployment.adopt(grant_id)
        for _ in range(2):
            deployment.make_due(grant_id)
            served = deployment.token(grant_id).body
            newest = deployment.wise.control.tokens(grant_id, values=True)
            assert served["access_token"] == [t.value for t in newest if t.kind == "access"][-1]
            assert deployment.use(served["access_token"]) == 200
    finally:
        deployment.wise.control.change_settings(token_format="uuid", refresh_token_policy="same")
    assert deployment.refreshes(grant_id) == 2


def test_a_grant_without_an_access_token_is_refreshed_when_it_is_asked_for(
    deployment: Deployment, grant_id: str
) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    created = deployment.ask("PUT", grant_id, {"refresh_token": user.refresh_token})
    assert (created.status, created.body["has_access_token"], created.body["expires_at"]) == (201, False, None)
    assert deployment.refreshes(grant_id) == 0
    served = deployment.token(grant_id)
    assert served.status == 200
    assert deployment.use(served.body["access_token"]) == 200
    assert deployment.use(user.access_token) == 401


def test_grants_are_listed_in_pages(deployment: Deployment) -> None:
    names = [f"listed-{number}" for number in range(5)]
    for name in reversed(names):
        user = deployment.wise.control.seed_user(name)
        answer = deployment.ask("PUT", name, offer(user), tenant="globex.eu", caller=f"{GLOBEX}:fixture")
        assert answer.status == 201
    found: list[str] = []
    after: str | None = None
    for size in (2, 2, 1):
        query = {"limit": "2"} if after is None else {"limit": "2", "after": after}
        page = deployment.ask("GET", None, tenant="globex.eu", caller=f"{GLOBEX}:fixture", query=query)
        assert page.status == 200
        rows = page.body["grants"]
        assert len(rows) == size
        assert all(set(row) == {"grant_id", "phase", "created_at"} and row["phase"] == "active" for row in rows)
        found += [row["grant_id"] for row in rows]
        after = page.body["after"]
    assert found == names
    assert after is None


def test_an_empty_tenant_has_an_empty_list(deployment: Deployment) -> None:
    page = deployment.ask("GET", None, tenant="globex", caller=f"{GLOBEX}:fixture")
    assert (page.status, page.body) == (200, {"grants": [], "after": None})


# --- on demand


def test_a_due_grant_is_refreshed_on_demand_once(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    version = deployment.adopt(grant_id, user).body["version"]
    deployment.make_due(grant_id)
    first, second = deployment.token(grant_id), deployment.token(grant_id)
    assert (first.status, second.status) == (200, 200)
    assert first.body["version"] == second.body["version"] == version + 1
    assert first.body["access_token"] == second.body["access_token"] != user.access_token
    assert deployment.use(first.body["access_token"]) == 200
    assert deployment.use(user.access_token) == 401
    assert deployment.invocations.calls == [{"tenant": "acme", "grant_id": grant_id, "rejected": None}]
    assert deployment.invocations.answers == [{"outcome": "refreshed", "version": version + 1, "retry_after_s": None}]
    (sent,) = deployment.wise.control.requests(user=grant_id)
    logged = [line for line in deployment.refresh.logged() if line["message"] == "refresh sent to wise"]
    assert [line["attempt_id"] for line in logged] == [sent.correlation_id]
    assert [line["trace_id"] for line in logged] == [sent.trace_id]


def test_after_half_a_life_the_token_is_replaced_and_the_promise_was_kept(
    deployment: Deployment, grant_id: str
) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user)
    promised = instant(deployment.token(grant_id).body["stable_until"])
    deployment.clock.now = promised - timedelta(milliseconds=1)
    assert deployment.token(grant_id).body["access_token"] == user.access_token
    assert deployment.use(user.access_token) == 200
    deployment.clock.now = promised
    served = deployment.token(grant_id)
    assert served.status == 200
    assert served.body["access_token"] != user.access_token
    assert deployment.clock() >= promised + timedelta(seconds=4)
    assert deployment.refreshes(grant_id) == 1


def _unreachable(kind: str) -> Callable[[], dict[str, Any]]:
    def answer() -> dict[str, Any]:
        match kind:
            case "throttled":
                raise refusal("Invoke", "TooManyRequestsException", 429)
            case "denied":
                raise refusal("Invoke", "AccessDeniedException", 403)
            case "timeout":
                raise ReadTimeoutError(endpoint_url="https://lambda.fixture")
            case "killed":
                return payload(b'{"errorMessage":"Task timed out"}', FunctionError="Unhandled")
            case "garbage":
                return payload(b"<html>")
            case "list":
                return payload(b"[]")
            case _:
                return payload(b'{"outcome":"failed","version":null,"retry_after_s":null}')

    return answer


@pytest.mark.parametrize("kind", ["throttled", "denied", "timeout", "killed", "garbage", "list", "failed"])
def test_a_refresh_function_that_fails_is_a_503_with_a_time(deployment: Deployment, grant_id: str, kind: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user)
    deployment.make_due(grant_id)
    deployment.invocations.instead = _unreachable(kind)
    answer = deployment.token(grant_id)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert user.access_token not in answer.text
    assert deployment.refreshes(grant_id) == 0
    deployment.invocations.instead = None
    assert deployment.token(grant_id).status == 200


def test_a_lease_of_somebody_else_is_waited_for_and_then_a_503(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    began = deployment.clock()
    lease_until = {"N": str(to_ms(began) + 18_000)}
    deployment.alter(grant_id, attempt_id={"S": "fixture-attempt"}, lease_until=lease_until)
    answer = deployment.token(grant_id)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert timedelta(seconds=8) <= deployment.clock() - began <= timedelta(seconds=20)
    assert deployment.clock() + timedelta(seconds=int(answer.headers["Retry-After"])) >= began + timedelta(seconds=18)
    assert deployment.refreshes(grant_id) == 0


def test_a_lease_that_ran_out_is_resolved_before_anything_is_served(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    deployment.adopt(grant_id, user)
    lease_until = {"N": str(to_ms(deployment.clock()) - 60_000)}
    deployment.alter(grant_id, attempt_id={"S": "fixture-attempt"}, lease_until=lease_until)
    answer = deployment.token(grant_id)
    assert (answer.status, answer.body["access_token"]) == (200, user.access_token)
    assert deployment.refreshes(grant_id) == 0
    assert [use.status for use in deployment.wise.control.uses(user=grant_id)] == [200]


def test_a_writer_waits_for_a_lease_and_is_told_to_come_back(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]
    lease_until = {"N": str(to_ms(deployment.clock()) + 40_000)}
    deployment.alter(grant_id, attempt_id={"S": "fixture-attempt"}, lease_until=lease_until)
    answer = deployment.ask("PUT", grant_id, offer(user), if_match=version)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert deployment.item(grant_id)["version"] == {"N": str(version)}


# --- reports


def test_a_report_about_a_token_that_lives_is_confirmed_and_refreshes_nothing(
    deployment: Deployment, grant_id: str
) -> None:
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    version = deployment.adopt(grant_id, user).body["version"]
    answer = deployment.reject(grant_id, version, caller=f"{ACME_READER}:fixture")
    assert answer.status == 200
    assert (answer.body["access_token"], answer.body["version"]) == (user.access_token, version)
    assert answer.body["confirmed"] is True
    assert deployment.refreshes(grant_id) == 0
    assert deployment.invocations.answers[0]["outcome"] == "confirmed"


def test_a_report_about_a_dead_token_refreshes_once_however_often_it_comes(
    deployment: Deployment, grant_id: str
) -> None:
    version = deployment.adopt(grant_id, age_s=3600).body["version"]
    assert deployment.refreshes(grant_id) == 0
    used = deployment.wise.control.seed_user(f"{grant_id}-other")  # the answer of another user changes nothing here
    assert deployment.use(used.access_token) == 200
    for token in deployment.wise.state._users[grant_id].access_tokens:
        token.lives = False
    answers = [deployment.reject(grant_id, version) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert {answer.body["version"] for answer in answers} == {version + 1}
    assert deployment.use(answers[0].body["access_token"]) == 200
    assert deployment.refreshes(grant_id) == 1
    assert answers[0].body["confirmed"] is False


def test_a_report_about_a_young_token_asks_nobody(deployment: Deployment, grant_id: str) -> None:
    version = deployment.adopt(grant_id).body["version"]
    answer = deployment.reject(grant_id, version)
    assert (answer.status, answer.body["version"], answer.body["confirmed"]) == (200, version, False)
    assert deployment.invocations.calls == []


def test_a_report_about_a_version_that_never_was_is_refused(deployment: Deployment, grant_id: str) -> None:
    version = deployment.adopt(grant_id, age_s=3600).body["version"]
    answer = deployment.reject(grant_id, version + 1)
    assert (answer.status, answer.problem) == (400, "unknown-version")
    assert deployment.invocations.calls == []


def test_a_report_that_nobody_can_check_is_a_503_and_hands_nothing_out(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    version = deployment.adopt(grant_id, user).body["version"]
    deployment.invocations.instead = _unreachable("timeout")
    answer = deployment.reject(grant_id, version)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert user.access_token not in answer.text


# --- replacing and forgetting


def test_a_grant_is_replaced_under_its_version_only(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]
    linked = deployment.wise.control.seed_user(grant_id)
    before = deployment.item(grant_id)
    for if_match in (None, version - 1, version + 1):
        answer = deployment.ask("PUT", grant_id, offer(linked), if_match=if_match)
        assert (answer.status, answer.problem) == (412, "precondition-failed")
    assert deployment.item(grant_id) == before

    replaced = deployment.ask("PUT", grant_id, offer(linked), if_match=version)
    assert replaced.status == 200
    assert replaced.body["version"] > version
    assert replaced.headers["ETag"] == f'"{replaced.body["version"]}"'
    assert replaced.body["created_at"] == deployment.ask("GET", grant_id).body["created_at"]
    assert deployment.token(grant_id).body["access_token"] == linked.access_token

    replayed = deployment.ask("PUT", grant_id, offer(user), if_match=version)
    assert (replayed.status, replayed.problem) == (412, "precondition-failed")
    assert deployment.token(grant_id).body["access_token"] == linked.access_token


def test_nothing_is_created_under_a_version(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    answer = deployment.ask("PUT", grant_id, offer(user), if_match=1)
    assert (answer.status, answer.problem) == (412, "precondition-failed")
    assert deployment.item(grant_id) == {}


def test_a_deleted_grant_is_gone_and_its_profile_free(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user, profile_id="72001")
    twin = deployment.ask("PUT", f"{grant_id}-twin", {**offer(user), "profile_id": "72001"})
    assert (twin.status, twin.problem) == (409, "already-held")
    gone = deployment.ask("DELETE", grant_id)
    assert (gone.status, gone.text) == (204, "")
    assert "Content-Type" not in gone.headers
    again = deployment.ask("DELETE", grant_id)
    assert (again.status, again.problem) == (404, "not-found")
    for answer in (deployment.token(grant_id), deployment.ask("GET", grant_id), deployment.reject(grant_id, 1)):
        assert (answer.status, answer.problem) == (404, "not-found")
    assert deployment.ask("PUT", f"{grant_id}-twin", {**offer(user), "profile_id": "72001"}).status == 201


def test_a_grant_keeps_its_profile(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user, profile_id="73001").body["version"]
    answer = deployment.ask("PUT", grant_id, {**offer(user), "profile_id": "73002"}, if_match=version)
    assert (answer.status, answer.problem) == (409, "different-profile")


# --- the end of an authorization


def test_a_revoked_grant_is_a_409_and_on_call_hears_of_it_once(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.wise.control.revoke(grant_id)
    deployment.make_due(grant_id)
    answers = [deployment.token(grant_id) for _ in range(2)]
    for answer in answers:
        assert (answer.status, answer.problem) == (409, "reauthorization-required")
        assert "PUT" in answer.body["detail"]
    (notice,) = deployment.alerts()
    alert = json.loads(notice["Message"])
    assert (alert["kind"], alert["environment"]) == ("reauthorization_required", "sandbox")
    assert (alert["tenant"], alert["grant_id"]) == ("acme", grant_id)
    assert alert["runbook"].endswith("/reauthorization-required.md")
    (sent,) = deployment.wise.control.requests(user=grant_id)
    assert (alert["correlation_id"], alert["wise_trace_id"]) == (sent.correlation_id, sent.trace_id)
    assert notice["MessageAttributes"]["tenant"]["Value"] == "acme"
    shown = deployment.ask("GET", grant_id).body
    assert shown["phase"] == "reauthorization_required"
    assert shown["alert"]["incident_id"] == alert["incident_id"]
    assert shown["alert"]["published_at"] is not None
    assert deployment.refreshes(grant_id) == 1
    deployment.sweep(ALL_SHARDS)
    assert deployment.alerts() == []

    linked = deployment.wise.control.seed_user(grant_id)
    assert deployment.ask("PUT", grant_id, offer(linked), if_match=shown["version"]).status == 200
    assert deployment.token(grant_id).body["access_token"] == linked.access_token


# --- users whom the partner created


def registration(deployment: Deployment, name: str) -> dict[str, str]:
    """Have a user created by us, and give what is kept of that."""
    made = {"code": f"fixture-registration-code-of-{name}", "email": f"{name[-40:]}@example.com"}
    deployment.wise.control.put_user(name, email=made["email"], registration_code=made["code"])
    return made


def told(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """Give what on-call has heard of one grant since the last time."""
    heard = [json.loads(notice["Message"]) for notice in deployment.alerts()]
    return [alert for alert in heard if alert["grant_id"] == name]


def test_a_grant_that_begins_with_a_registration_code_has_a_token_when_it_is_asked_for(
    deployment: Deployment, grant_id: str
) -> None:
    kept = registration(deployment, grant_id)
    created = deployment.ask("PUT", grant_id, {"registration": kept})
    assert (created.status, created.body["has_access_token"], created.body["has_registration_code"]) == (
        201,
        False,
        True,
    )
    served = deployment.token(grant_id)
    assert served.status == 200
    assert deployment.use(served.body["access_token"]) == 200
    assert not any(secret in created.text + served.text for secret in kept.values())
    deployment.sweep(ALL_SHARDS)
    assert told(deployment, grant_id) == []


def test_a_dead_grant_with_a_registration_code_comes_back_by_itself(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    kept = registration(deployment, grant_id)
    deployment.adopt(grant_id, user, registration=kept)
    deployment.wise.control.revoke(grant_id)
    deployment.make_due(grant_id)
    served = deployment.token(grant_id)
    assert served.status == 200
    assert deployment.use(served.body["access_token"]) == 200
    deployment.sweep(ALL_SHARDS)
    (alert,) = told(deployment, grant_id)
    assert (alert["kind"], alert["reason"]) == ("reissued", "invalid_grant")
    assert not any(secret in json.dumps(alert) for secret in kept.values())


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_user_who_took_the_account_over_has_to_be_linked(deployment: Deployment, grant_id: str, status: int) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user, registration=registration(deployment, grant_id))
    control = deployment.wise.control
    before = control.settings()["registration_refused_status"]
    control.change_settings(registration_refused_status=status)
    control.reclaim(grant_id)
    control.revoke(grant_id)
    deployment.make_due(grant_id)
    assert deployment.token(grant_id).problem == "reauthorization-required"
    control.change_settings(registration_refused_status=before)
    (alert,) = told(deployment, grant_id)
    assert (alert["kind"], alert["reason"]) == ("reauthorization_required", "reclaimed")
    shown = deployment.ask("GET", grant_id).body
    assert shown["registration_spent_at"] is not None
    linked = control.seed_user(grant_id)
    assert deployment.ask("PUT", grant_id, offer(linked), if_match=shown["version"]).status == 200
    for _ in range(2):  # Wise is asked about the new token first
        deployment.sweep(ALL_SHARDS)
    (over,) = told(deployment, grant_id)
    assert (over["kind"], over["incident_id"]) == ("recovered", alert["incident_id"])


def test_a_suspended_grant_is_a_409(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]
    deployment.alter(grant_id, phase={"S": "suspended"})
    deployment.make_due(grant_id, 7200)
    for answer in (deployment.token(grant_id), deployment.reject(grant_id, version)):
        assert (answer.status, answer.problem) == (409, "suspended")
    assert deployment.ask("GET", grant_id).body["phase"] == "suspended"
    deployment.sweep(ALL_SHARDS)
    assert deployment.refreshes(grant_id) == 0


@pytest.mark.parametrize("item", [{"phase": {"S": "fixture-phase"}}, {"schema": {"N": "99"}}, {"version": None}])
def test_an_item_that_this_version_cannot_read_is_not_served(
    deployment: Deployment, grant_id: str, item: dict[str, Any]
) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user)
    deployment.alter(grant_id, **item)
    for answer in (deployment.token(grant_id), deployment.ask("GET", grant_id)):
        assert (answer.status, answer.problem) == (500, "internal-error")
        assert "detail" not in answer.body


def test_a_sealed_token_from_another_row_is_not_served(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    other = deployment.wise.control.seed_user(f"{grant_id}-other")
    deployment.adopt(f"{grant_id}-other", other)
    deployment.alter(grant_id, access_token=deployment.item(f"{grant_id}-other")["access_token"])
    answer = deployment.token(grant_id)
    assert (answer.status, answer.problem) == (500, "internal-error")
    assert other.access_token not in answer.text


# --- the sweep


def test_a_sweep_refreshes_what_is_due_and_nothing_else(deployment: Deployment, grant_id: str) -> None:
    names = [f"{grant_id}-{number}" for number in range(3)]
    for name in names:
        deployment.adopt(name)
    for name in names[:2]:
        deployment.make_due(name, ago_s=30)
    told = deployment.sweep(ALL_SHARDS, Context(seconds=10.5))
    assert (told["advanced"], told["refreshed"], told["troubled"]) == (2, 2, 0)
    assert told["oldest_overdue_s"] == 30
    assert [deployment.refreshes(name) for name in names] == [1, 1, 0]
    assert all(deployment.token(name).status == 200 for name in names)
    assert deployment.invocations.calls == []
    assert deployment.sweep.told("OldestOverdueSeconds") == [30]
    assert deployment.sweep.told("GrantsAdvanced") == [2]


def test_a_sweep_looks_every_second_until_its_time_is_over(deployment: Deployment) -> None:
    began = deployment.clock()
    told = deployment.sweep({"shards": [3]}, Context(seconds=70))
    assert (told["looks"], told["seconds"]) == (55, 55)
    assert deployment.clock() - began == timedelta(seconds=55)
    assert deployment.sweep.told("OldestOverdueSeconds") == [0]


def test_a_sweep_leaves_other_shards_alone(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.make_due(grant_id)
    own = int(deployment.item(grant_id)["due_shard"]["N"])
    assert deployment.sweep({"shards": [shard for shard in range(16) if shard != own]})["advanced"] == 0
    assert deployment.sweep({"shards": [own]})["refreshed"] == 1


def test_one_bad_grant_does_not_stop_the_others(deployment: Deployment, grant_id: str) -> None:
    names = [f"{grant_id}-{number}" for number in range(3)]
    for name in names:
        deployment.adopt(name)
    deployment.alter(names[0], version={"S": "not a number"})
    deployment.alter(names[1], refresh_token={"B": b"not sealed"})
    for name in names:
        deployment.make_due(name)
    told = deployment.sweep(ALL_SHARDS)
    assert told["refreshed"] == 1
    assert deployment.refreshes(names[2]) == 1
    for name in names[:2]:
        assert int(deployment.item(name)["due_at"]["N"]) > to_ms(deployment.clock())


SECRETS = {
    "empty": ("", "has no value yet"),
    "not json": ("fixture", "is not JSON"),
    "a list": ("[]", "is not a JSON object"),
    "incomplete": ('{"environment":"sandbox","client_id":"fixture"}', "has no client_secret"),
    "the other environment's": (
        '{"environment":"production","client_id":"fixture","client_secret":"fixture-client-secret"}',
        "is for production, and this deployment is for sandbox",
    ),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_without_a_usable_secret_the_system_is_quiet_and_says_so(
    deployment: Deployment, grant_id: str, kind: str
) -> None:
    text, reason = SECRETS[kind]
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user)
    deployment.make_due(grant_id)
    if text:
        for _version in range(2):  # neither the current one nor the one before it
            deployment.write_secret(text)
    else:
        deployment.delete_secret()
    try:
        told = deployment.sweep(ALL_SHARDS)
        assert (told["idle_because"], told["calls"]) == ("wise-secret-unusable", 0)
        line = deployment.sweep.logged()[0]
        assert (line["level"], line["message"]) == ("WARNING", "nothing can be refreshed")
        assert line["reason"] == f"the secret {WISE_SECRET} {reason}"
        for metric in ("SweepStarted", "SweepFinished", "WiseSecretUnusable"):
            assert deployment.sweep.told(metric) == [1]
        answer = deployment.token(grant_id)
        assert (answer.status, answer.body["access_token"], answer.body["degraded"]) == (200, user.access_token, True)
        assert deployment.refresh.told("WiseSecretUnusable") == [1]
    finally:
        deployment.write_secret(None)
    assert deployment.refreshes(grant_id) == 0
    item = deployment.item(grant_id)
    assert "attempt_id" not in item
    assert item["last_error"] == {"S": "wise-secret-unusable"}
    deployment.clock.advance(seconds=70)
    renewed = deployment.token(grant_id)
    assert (renewed.status, renewed.body["degraded"]) == (200, False)
    assert renewed.body["access_token"] != user.access_token


def test_the_version_before_one_that_cannot_be_used_refreshes_and_says_so(
    deployment: Deployment, grant_id: str
) -> None:
    deployment.adopt(grant_id)
    deployment.make_due(grant_id)
    deployment.write_secret(None)
    deployment.write_secret("[]")
    try:
        assert deployment.sweep(ALL_SHARDS)["refreshed"] == 1
        lines = [line for line in deployment.sweep.logged() if "new version" in str(line["message"])]
        assert [line["reason"] for line in lines] == [f"the secret {WISE_SECRET} is not a JSON object"]
    finally:
        deployment.write_secret(None)


def test_without_a_usable_secret_a_token_that_is_over_is_a_503(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.clock.advance(hours=13)
    deployment.delete_secret()
    try:
        answer = deployment.token(grant_id)
        assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    finally:
        deployment.write_secret(None)
    assert deployment.token(grant_id).status == 200


@pytest.mark.parametrize(
    "event", [{}, {"shards": []}, {"shards": [16]}, {"shards": [-1]}, {"shards": ["1"]}, {"shards": [1, 1]}]
)
def test_a_sweep_of_no_shards_fails_and_says_why(deployment: Deployment, event: dict[str, object]) -> None:
    with pytest.raises(Exception, match="shards must be a list of different numbers from 0 to 15"):
        deployment.sweep(event)
    assert deployment.sweep.told("SweepStarted") == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"tenant": "acme"},
        {"tenant": "acme", "grant_id": "..", "rejected": None},
        {"tenant": "acme", "grant_id": "fixture", "rejected": "newest"},
    ],
)
def test_a_refresh_of_nothing_is_answered_and_kept_on_record(deployment: Deployment, event: dict[str, object]) -> None:
    assert deployment.refresh(event) == {"outcome": "failed", "version": None, "retry_after_s": None}
    (line,) = deployment.refresh.logged()
    assert (line["level"], line["message"]) == ("WARNING", "trouble with a grant")


def test_a_refresh_answers_a_word_and_never_a_token(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.make_due(grant_id)
    answer = deployment.refresh({"tenant": "acme", "grant_id": grant_id, "rejected": None})
    assert set(answer) == {"outcome", "version", "retry_after_s"}
    assert answer["outcome"] == "refreshed"
    assert deployment.refresh({"tenant": "acme", "grant_id": "nobody", "rejected": None})["outcome"] == "gone"


# --- AWS's own faults


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "AccessDeniedException", "InternalServerError"]
)
def test_a_table_that_does_not_answer_is_a_503(
    deployment: Deployment, grant_id: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    version = deployment.adopt(grant_id, user).body["version"]

    def fail(**_: object) -> None:
        raise refusal("Any", code)

    for function in (deployment.serve, deployment.admin):
        use = function.wired.grants if function is deployment.serve else function.wired.adopt_grant.grants
        for name in ("get_item", "query", "transact_write_items", "update_item", "delete_item"):
            monkeypatch.setattr(use._client, name, fail)
    answers = [
        deployment.token(grant_id),
        deployment.reject(grant_id, version),
        deployment.ask("GET", grant_id),
        deployment.ask("GET", None),
        deployment.ask("PUT", grant_id, offer(user)),
        deployment.ask("PUT", grant_id, offer(user), if_match=version),
        deployment.ask("DELETE", grant_id),
    ]
    assert {(answer.status, answer.problem) for answer in answers} == {(503, "temporarily-unavailable")}


@pytest.mark.parametrize("code", ["DisabledException", "AccessDeniedException", "ThrottlingException"])
def test_a_key_that_does_not_answer_is_a_503(
    deployment: Deployment, grant_id: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    deployment.adopt(grant_id, user)

    def fail(**_: object) -> None:
        raise refusal("Any", code)

    opener, sealer = deployment.serve.wired.serve_token.opener, deployment.admin.wired.adopt_grant.sealer
    opener._opened.clear()
    monkeypatch.setattr(opener._client, "decrypt", fail)
    monkeypatch.setattr(sealer._client, "generate_data_key", fail)
    other = f"{grant_id}-other"
    for answer in (deployment.token(grant_id), deployment.ask("PUT", other, offer(user))):
        assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert deployment.item(other) == {}


def test_an_error_that_nobody_expected_is_a_problem_document_without_its_text(
    deployment: Deployment, grant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.adopt(grant_id)

    def fail(**_: object) -> None:
        raise LookupError("fixture-text-of-an-error")

    monkeypatch.setattr(deployment.serve.wired.grants._client, "get_item", fail)
    answer = deployment.token(grant_id)
    assert (answer.status, answer.problem) == (500, "internal-error")
    broke = next(line for line in deployment.serve.logged() if line["message"] == "request broke")
    assert (broke["level"], broke["error_type"]) == ("ERROR", "LookupError")
    assert any(place.startswith("serve.py:") for place in broke["where"])
    assert "fixture-text-of-an-error" not in deployment.serve.console.getvalue() + answer.text
