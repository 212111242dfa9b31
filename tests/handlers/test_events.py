"""Every file of events/, sent to its function, with what has to come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.world import START
from tests.handlers.deployment import LEDGER, Deployment, answered, request, seen, told

EVENTS = Path(__file__).parents[2] / "events"
GRANT = "grant-0001"

# The answers of the API: status, code of the problem, and what its detail names.
ANSWERS: dict[str, tuple[int, str | None, str | None]] = {
    "serve.apigateway.access-token": (200, None, None),
    "serve.apigateway.access-token-missing": (404, "not-found", None),
    "serve.apigateway.access-token-other-tenant": (403, "forbidden", None),
    "serve.apigateway.access-token-other-tenant-missing": (403, "forbidden", None),
    "serve.apigateway.access-token-unknown-role": (403, "forbidden", None),
    "serve.apigateway.access-token-user": (403, "forbidden", None),
    "serve.apigateway.access-token-session-named-as-role": (403, "forbidden", None),
    "serve.apigateway.access-token-writer-only": (403, "forbidden", None),
    "serve.apigateway.access-token-malformed-id": (400, "bad-request", "grant_id"),
    "serve.apigateway.access-token-encoded-tenant": (404, "not-found", None),
    "serve.apigateway.access-token-trailing-slash": (404, "not-found", None),
    "serve.apigateway.application-token-reader": (403, "forbidden", None),
    "serve.apigateway.rejection": (200, None, None),
    "serve.apigateway.rejection-of-a-403": (400, "bad-request", "error"),
    "serve.apigateway.rejection-without-version": (400, "bad-request", "version"),
    "serve.apigateway.rejection-not-json": (400, "bad-request", "body"),
    "serve.apigateway.rejection-in-base64": (200, None, None),
    "serve.apigateway.grant": (200, None, None),
    "serve.apigateway.grant-missing": (404, "not-found", None),
    "serve.apigateway.grants": (200, None, None),
    "serve.apigateway.grants-page": (200, None, None),
    "serve.apigateway.grants-limit-too-large": (400, "bad-request", "limit"),
    "serve.apigateway.grants-unknown-parameter": (400, "bad-request", "page"),
    "serve.apigateway.unknown-route": (404, "not-found", None),
    "admin.apigateway.create": (201, None, None),
    "admin.apigateway.create-refresh-token-only": (201, None, None),
    "admin.apigateway.create-registration-only": (201, None, None),
    "admin.apigateway.create-personal": (201, None, None),
    "admin.apigateway.create-existing": (412, "precondition-failed", None),
    "admin.apigateway.create-reader": (403, "forbidden", None),
    "admin.apigateway.create-without-refresh-token": (400, "bad-request", "refresh_token"),
    "admin.apigateway.create-unknown-field": (400, "bad-request", "refreshToken"),
    "admin.apigateway.create-no-body": (400, "bad-request", "body"),
    "admin.apigateway.replace": (200, None, None),
    "admin.apigateway.replace-another-version": (412, "precondition-failed", None),
    "admin.apigateway.replace-any-version": (400, "bad-request", "If-Match"),
    "admin.apigateway.delete": (204, None, None),
    "admin.apigateway.delete-missing": (404, "not-found", None),
    "admin.apigateway.delete-reader": (403, "forbidden", None),
    "admin.apigateway.delete-other-tenant": (403, "forbidden", None),
    "admin.apigateway.link": (201, None, None),
    "admin.apigateway.link-no-body": (201, None, None),
    "admin.apigateway.link-other-url": (400, "bad-request", "return_url"),
    "admin.apigateway.link-reader": (403, "forbidden", None),
    "admin.apigateway.confirm-unknown": (404, "not-found", "there is no such link"),
    "callback.apigateway.complete-unknown": (404, "not-found", "there is no such link"),
    "callback.apigateway.complete-without-code": (400, "bad-request", "code"),
    "callback.apigateway.complete-reader": (403, "forbidden", None),
    "admin.apigateway.suspend-grant": (200, None, None),
    "admin.apigateway.suspend-grant-missing": (404, "not-found", None),
    "admin.apigateway.lift-grant": (200, None, None),
    "admin.apigateway.suspend-tenant": (200, None, None),
    "admin.apigateway.suspend-tenant-manager": (403, "forbidden", None),
    "admin.apigateway.suspend-unknown-field": (400, "bad-request", "until"),
    "admin.apigateway.lift-tenant": (204, None, None),
    "admin.apigateway.suspend-environment": (200, None, None),
    "admin.apigateway.lift-environment": (204, None, None),
    "admin.apigateway.suspensions": (200, None, None),
    "admin.apigateway.create-on-hold": (201, None, None),
    "admin.apigateway.hold-grant": (200, None, None),
    "admin.apigateway.release-grant": (200, None, None),
    "admin.apigateway.hold-tenant-manager": (403, "forbidden", None),
}
# The pages of a browser: status and title.
BROWSERS = {
    "callback.apigateway.browser-unknown-state": (400, "We do not know this link"),
    "callback.apigateway.browser-refused-unknown-state": (400, "We do not know this link"),
}
# What Wise's own events, and those that pretend to be, are answered with.
DELIVERIES = {"callback.apigateway.event-forged": 403}
SWEEPS: dict[str, dict[str, int] | None] = {
    "sweep.scheduler.all-shards": {"advanced": 1, "refreshed": 1, "troubled": 0},
    "sweep.scheduler.second-of-four": {"advanced": 0, "refreshed": 0, "troubled": 0},
    "sweep.scheduler.no-shards": None,
}
REFRESHES: dict[str, str] = {
    "refresh.serve.due": "fresh",
    "refresh.serve.rejected": "confirmed",
    "refresh.serve.missing": "gone",
    "refresh.serve.malformed": "failed",
    "refresh.serve.application": "refreshed",
}


def event(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def stocked(deployment: Deployment) -> Deployment:
    """The one grant that the events speak of, adopted at noon of the first of March 2026, an hour old at Wise."""
    for item in deployment.items():
        deployment.dynamodb.delete_item(TableName=deployment.table, Key={"pk": item["pk"]})
    deployment.clock.now = START
    deployment.adopt(GRANT, age_s=3600)
    return deployment


def test_every_file_is_used() -> None:
    assert {*ANSWERS, *BROWSERS, *DELIVERIES, *SWEEPS, *REFRESHES} == {path.stem for path in EVENTS.glob("*.json")}


def test_nothing_else_lies_there() -> None:
    assert {path.name for path in EVENTS.iterdir() if path.suffix != ".json"} == {"README.md"}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_request_is_answered(stocked: Deployment, name: str) -> None:
    function = {"admin": stocked.admin, "callback": stocked.callback}.get(name.partition(".")[0], stocked.serve)
    function.forget()
    before = stocked.items()
    answer = answered(function(event(name)))
    status, code, detail = ANSWERS[name]
    assert (answer.status, answer.problem) == (status, code), answer.text
    if detail is not None:
        assert answer.body["detail"].startswith(f"{detail} ")
    elif code is not None:
        assert "detail" not in answer.body
    if not name.startswith("admin.") or code is not None:
        assert stocked.items() == before
    (line,) = function.logged()
    assert (line["message"], line["status"]) == ("request answered", status)


@pytest.mark.parametrize("name", BROWSERS)
def test_a_browser_is_answered(stocked: Deployment, name: str) -> None:
    stocked.callback.forget()
    before = stocked.items()
    page = seen(stocked.callback(event(name)))
    assert (page.status, page.title) == BROWSERS[name]
    assert stocked.items() == before
    (line,) = stocked.callback.logged()
    assert (line["message"], line["status"]) == ("browser answered", page.status)


@pytest.mark.parametrize("name", DELIVERIES)
def test_a_delivery_is_answered(stocked: Deployment, name: str) -> None:
    before = stocked.items()
    assert told(stocked.callback(event(name))) == DELIVERIES[name]
    assert stocked.items() == before


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_started(stocked: Deployment, name: str) -> None:
    stocked.make_due(GRANT)
    expected = SWEEPS[name]
    if expected is None:
        with pytest.raises(Exception, match="shards must be"):
            stocked.sweep(event(name))
    else:
        told = stocked.sweep(event(name))
        assert {field: told[field] for field in expected} == expected


@pytest.mark.parametrize("name", REFRESHES)
def test_a_refresh_is_asked_for(stocked: Deployment, name: str) -> None:
    assert stocked.refresh(event(name))["outcome"] == REFRESHES[name]


def test_serve_asks_as_the_events_say(stocked: Deployment) -> None:
    """The files of `refresh.serve.*` have the fields that `serve` really sends."""
    stocked.reject(GRANT, stocked.ask("GET", GRANT).body["version"])
    path = "/v1/application/access-token"
    assert stocked.call(request("GET", path, "", caller=f"{LEDGER}:fixture")).status == 200
    sent, of_our_own = stocked.invocations.calls
    for name in REFRESHES:
        assert set(event(name)) == set(of_our_own if name == "refresh.serve.application" else sent)
    assert event("refresh.serve.rejected") == sent
    assert event("refresh.serve.application") == of_our_own
