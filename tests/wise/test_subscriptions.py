"""The application's webhook subscriptions, and what their listeners are told.

Pages: [webhook] docs.wise.com/api-reference/webhook, [errors] docs.wise.com/guides/developer/errors/webhooks.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.wise.control import SeededUser
from local.wise.faults import Endpoint
from local.wise.running import RunningWise
from local.wise.settings import Json
from local.wise.subscriptions import EventType, StateChange, TestNotification
from local.wise.users import ProfileType
from tests.wise.client import Reply, WiseClient

PATH = "/v3/applications/emulator-client-key/subscriptions"
ASKED: dict[str, Json] = {
    "name": "Fixture",
    "trigger_on": "users#state-change",
    "delivery": {"version": "2.0.0", "url": "https://partner.example.com/wise/events"},
}


class Caller:
    """Calls with an application token, or another."""

    def __init__(self, client: WiseClient) -> None:
        self.client = client
        self.token: str | None = client.form({"grant_type": "client_credentials"}).json["access_token"]

    def __call__(self, method: str, path: str = PATH, fields: dict[str, Any] | None = None) -> Reply:
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return self.client.send(method, path, None if fields is None else json.dumps(fields), headers)


@pytest.fixture
def call(client: WiseClient) -> Caller:
    return Caller(client)


@pytest.mark.parametrize("path", [PATH, "/2026Q4/applications/emulator-client-key/subscriptions"])
def test_application_subscribes_looks_and_unsubscribes(wise: RunningWise, call: Caller, path: str) -> None:
    made = call("POST", path, ASKED)
    assert made.status == 200
    # The fields of [webhook].
    assert list(made.json) == ["id", "name", "delivery", "trigger_on", "scope", "created_by", "created_at"]
    assert made.json["scope"] == {"domain": "application", "id": "emulator-client-key"}
    assert made.json["created_by"] == {"type": "application", "id": "emulator-client-id"}
    assert {name: made.json[name] for name in ASKED} == ASKED
    [kept] = wise.control.subscriptions()
    assert (kept.id, kept.trigger_on, kept.url) == (made.json["id"], "users#state-change", ASKED["delivery"]["url"])  # type: ignore[index,call-overload]
    one = f"{path}/{kept.id}"
    assert call("GET", path).json == [made.json]
    assert call("GET", one).json == made.json
    gone = call("DELETE", one)
    assert (gone.status, gone.body) == (204, b"")
    assert "content-length" not in gone.headers
    assert [call(method, one).status for method in ("GET", "DELETE")] == [404, 404]
    assert (call("GET", path).json, wise.control.subscriptions()) == ([], [])


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"name": ""}, "invalid", "name"),
        ({"trigger_on": None}, "invalid", "trigger_on"),
        ({"trigger_on": "transfers#state-change"}, "EVENT_TYPE_NOT_PERMITTED", "trigger_on"),
        ({"delivery": "2.0.0"}, "invalid", "delivery.version"),
        ({"delivery": {"version": "2.0.0"}}, "invalid", "delivery.url"),
        ({"delivery": {"version": "0.9.0", "url": "https://partner.example.com"}}, "invalid", "delivery.version"),
        ({"delivery": {"version": "4.0.0", "url": "partner.example.com"}}, "INVALID_CALLBACK_URL", "delivery.url"),
    ],
)
def test_wrong_subscription_is_refused_with_the_code_and_the_field(
    wise: RunningWise, call: Caller, changes: dict[str, Json], code: str, path: str
) -> None:
    reply = call("POST", PATH, {**ASKED, **changes})
    [error] = reply.json["errors"]
    assert (reply.status, error["code"], error["path"]) == (400, code, path)
    assert wise.control.subscriptions() == []


def test_only_the_application_may_and_only_under_its_own_key(
    wise: RunningWise, call: Caller, alice: SeededUser
) -> None:
    made = call("POST", PATH, ASKED).json["id"]
    others = "/v3/applications/somebody-else/subscriptions"
    calls = [("POST", ""), ("GET", ""), ("GET", f"/{made}"), ("DELETE", f"/{made}")]
    calls += [("POST", f"/{made}/test-notifications")]
    assert [call(method, others + rest, ASKED).status for method, rest in calls] == [403] * 5
    for token, status in ((None, 401), ("fixture-unknown", 401), (alice.access_token, 403)):
        call.token = token
        assert [call(method, PATH + rest, ASKED).status for method, rest in calls] == [status] * 5
    assert [subscription.id for subscription in wise.control.subscriptions()] == [made]


def test_client_key_is_a_setting(wise: RunningWise, call: Caller) -> None:
    wise.control.change_settings(client_key="fixture-key")
    assert call("POST", PATH, ASKED).status == 403
    assert call("POST", "/v3/applications/fixture-key/subscriptions", ASKED).json["scope"]["id"] == "fixture-key"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", PATH, "GET, POST"),
        ("POST", f"{PATH}/x", "GET, DELETE"),
        ("GET", f"{PATH}/x/test-notifications", "POST"),
    ],
)
def test_other_methods_are_not_allowed(call: Caller, method: str, path: str, allowed: str) -> None:
    reply = call(method, path, {})
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


def test_subscriptions_exist_in_known_quarters_only(call: Caller) -> None:
    assert call("GET", "/2019Q1/applications/emulator-client-key/subscriptions").status == 404


def test_call_may_be_struck_like_any_other(wise: RunningWise, call: Caller) -> None:
    wise.control.fail_next(status=500, endpoint=Endpoint.SUBSCRIPTIONS)
    assert [call("POST", PATH, ASKED).status for _ in range(2)] == [500, 200]
    assert len(wise.control.subscriptions()) == 1


def test_test_notification_is_promised_and_told(wise: RunningWise, call: Caller) -> None:
    heard: list[StateChange | TestNotification] = []
    wise.state.listen(heard.append)
    made = call("POST", PATH, ASKED).json["id"]
    [promised] = call("POST", f"{PATH}/{made}/test-notifications").json
    [test] = heard
    assert isinstance(test, TestNotification)
    assert (test.subscription.id, test.delivery_id) == (made, promised["delivery_id"])
    assert call("POST", f"{PATH}/{made[:-1]}/test-notifications").status == 404


def test_each_change_of_state_is_told_once(wise: RunningWise, alice: SeededUser) -> None:
    heard: list[StateChange | TestNotification] = []
    wise.state.listen(heard.append)
    profile_id = alice.profile_id or 0
    for act in (wise.control.deactivate, wise.control.activate):
        act("alice")
        act("alice")
    for act_on in (wise.control.deactivate_profile, wise.control.activate_profile):
        act_on("alice", profile_id)
        act_on("alice", profile_id)
    told = [
        (n.event_type, n.user, n.resource_id, n.previous_state, n.current_state)
        for n in heard
        if isinstance(n, StateChange)
    ]
    user, profile = EventType.USER_STATE_CHANGE, EventType.PROFILE_STATE_CHANGE
    assert told == [
        (user, "alice", alice.wise_user_id, "ACTIVE", "DEACTIVATED"),
        (user, "alice", alice.wise_user_id, "DEACTIVATED", "ACTIVE"),
        (profile, "alice", profile_id, "ACTIVE", "DEACTIVATED"),
        (profile, "alice", profile_id, "DEACTIVATED", "ACTIVE"),
    ]


def test_no_other_end_of_a_grant_is_told(wise: RunningWise, alice: SeededUser) -> None:
    # No such event is documented: a disconnection shows at the next refresh.
    heard: list[StateChange | TestNotification] = []
    wise.state.listen(heard.append)
    wise.control.put_user("bob", profiles=[ProfileType.PERSONAL])
    wise.control.revoke("alice")
    wise.control.change_email("alice", "alice@new.example.com")
    wise.control.refresh_elsewhere(wise.control.seed_user("bob").user)
    assert heard == []
