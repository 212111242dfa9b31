"""Our application's own token through the handlers: begun by a question, served, reported, replaced."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from local.wise.settings import ApplicationTokenFormat
from tests.handlers.deployment import LEDGER, OPERATOR, Answer, Deployment, request
from token_rotator.adapters.wise_answers import MAX_APPLICATION_TOKEN
from token_rotator.domain.grant import APPLICATION

OWN = "/v1/application"
TOKEN, REJECTIONS = f"{OWN}/access-token", f"{OWN}/access-token/rejections"
ALL_SHARDS = {"shards": list(range(16))}


@pytest.fixture(autouse=True)
def unbegun(deployment: Deployment) -> None:
    deployment.dynamodb.delete_item(TableName=deployment.table, Key={"pk": {"S": str(APPLICATION)}})


def ask(deployment: Deployment, method: str = "GET", path: str = TOKEN, body: object = None) -> Answer:
    event = request(method, path, "", caller=f"{LEDGER}:fixture-session")
    return deployment.call({**event, "body": None if body is None else json.dumps(body)})


def reject(deployment: Deployment, version: int) -> Answer:
    return ask(deployment, "POST", REJECTIONS, {"version": version, "error": "invalid_token"})


def item(deployment: Deployment) -> dict[str, Any]:
    key = {"pk": {"S": str(APPLICATION)}}
    return dict(deployment.dynamodb.get_item(TableName=deployment.table, Key=key).get("Item", {}))


def alter(deployment: Deployment, **values: int) -> None:
    for name, value in values.items():
        deployment.dynamodb.update_item(
            TableName=deployment.table,
            Key={"pk": {"S": str(APPLICATION)}},
            UpdateExpression="SET #n = :v",
            ExpressionAttributeNames={"#n": name},
            ExpressionAttributeValues={":v": {"N": str(value)}},
        )


def test_the_first_question_begins_it_and_the_next_costs_nothing(deployment: Deployment) -> None:
    assert ask(deployment, path=OWN).status == 404
    first = ask(deployment)
    assert first.status == 200
    assert first.body["token_type"] == "bearer"
    again = ask(deployment)
    assert (again.body["access_token"], again.body["version"]) == (first.body["access_token"], first.body["version"])
    assert len(deployment.invocations.calls) == 1
    stored = item(deployment)
    assert "tenant" not in stored
    assert first.body["access_token"] not in json.dumps(stored, default=repr)


def test_its_facts_are_shown_without_it(deployment: Deployment) -> None:
    token = ask(deployment).body
    shown = ask(deployment, path=OWN)
    assert shown.status == 200
    assert shown.headers["ETag"] == f'"{token["version"]}"'
    assert set(shown.body) == {
        "version", "scope", "has_access_token", "being_refreshed", "in_doubt", "failures", "last_error", "issued_at",
        "expires_at", "refresh_at", "due_at", "last_attempt_at", "created_at", "alert",
    }  # fmt: skip
    assert token["access_token"] not in shown.text


@pytest.mark.parametrize("form", [ApplicationTokenFormat.UUID, ApplicationTokenFormat.JWE])
def test_whatever_it_looks_like_it_is_served_as_it_is(deployment: Deployment, form: ApplicationTokenFormat) -> None:
    deployment.wise.control.change_settings(application_token_format=form.value)
    token = ask(deployment).body["access_token"]
    assert len(token) == 36 if form is ApplicationTokenFormat.UUID else len(token) > 500


@pytest.mark.parametrize("length", [36, 800, 8_000, MAX_APPLICATION_TOKEN])
def test_whatever_its_size_it_is_served_as_it_is(deployment: Deployment, length: int) -> None:
    token = "fixture." + "x" * (length - 8)
    body = json.dumps({"access_token": token, "token_type": "bearer", "expires_in": 43_200})
    deployment.wise.control.fail_next(status=200, body=body)
    assert ask(deployment).body["access_token"] == token


def test_a_report_gets_a_new_one_and_a_second_report_the_same(deployment: Deployment) -> None:
    version = ask(deployment).body["version"]
    assert reject(deployment, version).body["version"] == version  # too young to doubt
    alter(deployment, issued_at=int((deployment.clock() - timedelta(hours=1)).timestamp() * 1000))
    first, second = reject(deployment, version), reject(deployment, version)
    assert (first.body["version"], second.body["version"]) == (version + 1, version + 1)
    assert reject(deployment, version + 7).problem == "unknown-version"
    assert ask(deployment, "POST", REJECTIONS, {"version": version}).problem == "bad-request"


def test_the_sweep_replaces_it_when_it_is_due(deployment: Deployment) -> None:
    version = ask(deployment).body["version"]
    now = int(deployment.clock().timestamp() * 1000)
    alter(deployment, refresh_at=now - 1000, due_at=now - 1000)
    deployment.sweep(ALL_SHARDS)
    assert ask(deployment).body["version"] == version + 1


def test_suspending_everything_stops_it(deployment: Deployment) -> None:
    ask(deployment)
    assert deployment.suspension("PUT").status == 200
    deployment.clock.advance(seconds=6)
    assert ask(deployment).problem == "suspended"
    assert deployment.suspension("DELETE", caller=f"{OPERATOR}:fixture").status == 204
    deployment.clock.advance(seconds=6)
    assert ask(deployment).status == 200


def test_a_client_that_gets_none_is_told_alone_and_the_reader_waits(deployment: Deployment) -> None:
    for _ in range(2):
        deployment.wise.control.fail_next(status=401, body='{"error":"unauthorized_client"}')
    answer = ask(deployment)
    assert (answer.status, answer.problem) == (503, "temporarily-unavailable")
    assert int(answer.headers["Retry-After"]) > 60
    kinds = [json.loads(notice["Message"])["kind"] for notice in deployment.alerts()]
    assert kinds == ["held"]
    deployment.adopt("beside-it")
    assert deployment.token("beside-it").status == 200
