"""A personal API token through the handlers: adopted, served, reported, replaced."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.handlers.deployment import Answer, Deployment, offer

TOKEN = "fixture-personal-token"


def adopt(deployment: Deployment, grant_id: str, if_match: object = None, **fields: object) -> Answer:
    return deployment.ask("PUT", grant_id, {"personal_token": TOKEN, **fields}, if_match=if_match)


def test_it_is_adopted_and_served_without_an_end(deployment: Deployment, grant_id: str) -> None:
    made = deployment.clock() - timedelta(days=10)
    created = adopt(deployment, grant_id, scope="full", issued_at=made.isoformat())
    assert created.status == 201
    shown = created.body
    assert (shown["kind"], shown["refresh_at"], shown["expires_at"], shown["scope"]) == ("personal", None, None, "full")
    assert shown["replace_at"].startswith(f"{made + timedelta(days=90):%Y-%m-%d}")
    assert TOKEN not in created.text + json.dumps(deployment.item(grant_id), default=repr)
    served = deployment.token(grant_id)
    assert served.status == 200
    body = served.body
    assert (body["access_token"], body["expires_at"], body["expires_in"]) == (TOKEN, None, None)
    assert (body["stable_for_s"], body["degraded"]) == (3600, False)
    assert deployment.ask("GET", grant_id).body == shown
    assert deployment.invocations.calls == []


def test_a_report_of_a_dead_one_tells_at_once_and_a_new_one_brings_it_back(
    deployment: Deployment, grant_id: str
) -> None:
    version = adopt(deployment, grant_id).body["version"]
    dead = deployment.reject(grant_id, version)
    assert (dead.status, dead.problem) == (409, "reauthorization-required")
    assert "personal token" in dead.body["detail"]
    assert "/link" not in dead.body["detail"]
    (notice,) = deployment.alerts()
    message = json.loads(notice["Message"])
    assert (message["kind"], message["reason"]) == ("reauthorization_required", "personal_token_rejected")
    assert deployment.refreshes(grant_id) == 0
    deployment.wise.control.seed_personal_token(grant_id, token=f"{TOKEN}-2")
    kept = deployment.ask("PUT", grant_id, {"personal_token": f"{TOKEN}-2"}, if_match=version)
    assert kept.status == 200
    assert deployment.token(grant_id).body["access_token"] == f"{TOKEN}-2"


def test_a_report_needs_no_client_credentials(deployment: Deployment, grant_id: str) -> None:
    version = adopt(deployment, grant_id).body["version"]
    deployment.write_secret("{}")
    try:
        assert deployment.reject(grant_id, version).problem == "reauthorization-required"
    finally:
        deployment.write_secret(None)
    deployment.alerts()


def test_another_kind_is_not_put_over_it(deployment: Deployment, grant_id: str) -> None:
    version = adopt(deployment, grant_id).body["version"]
    user = deployment.wise.control.seed_user(grant_id, age_s=3600)
    answer = deployment.ask("PUT", grant_id, offer(user), if_match=version)
    assert (answer.status, answer.problem) == (409, "different-kind")
    assert deployment.start(grant_id).problem == "different-kind"
    assert deployment.ask("DELETE", grant_id).status == 204
    version = deployment.adopt(grant_id, user).body["version"]
    assert adopt(deployment, grant_id, version).problem == "different-kind"


@pytest.mark.parametrize(
    "fields",
    [
        {"refresh_token": "fixture"},
        {"access_token": "fixture"},
        {"expires_at": "2026-03-01T12:00:00Z"},
        {"refresh_expires_at": "2026-03-01T12:00:00Z"},
        {"registration": {"code": "fixture", "email": "fixture.user@example.com"}},
        {"profile_id": "71001"},
        {"wise_user_id": "71001"},
        {"issued_at": "2015-03-01T12:00:00Z"},
        {"issued_at": "2126-03-01T12:00:00Z"},
        {"issued_at": 7},
        {"scope": ""},
        {"personal_token": ""},
        {"personal_token": "with a space"},
        {"personal_token": 7},
        {"personal_token": "x" * 32_769},
        {"unknown": 1},
    ],
)
def test_what_does_not_go_with_it_is_refused_by_name(
    deployment: Deployment, grant_id: str, fields: dict[str, Any]
) -> None:
    answer = adopt(deployment, grant_id, **fields)
    assert (answer.status, answer.problem) == (400, "bad-request")
    assert next(iter(fields)) in answer.body["detail"]
    assert TOKEN not in answer.text


def test_fields_that_are_null_are_absent(deployment: Deployment, grant_id: str) -> None:
    assert adopt(deployment, grant_id, refresh_token=None, profile_id=None, issued_at=None).status == 201
