"""Wise's events: whatever is Wise's is taken at once, and whatever is not is nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.wise.webhooks import EventDelivery
from tests.handlers.deployment import (
    EVENTS,
    OTHER_KEY,
    OTHER_SIGNER,
    Context,
    Deployment,
    Function,
    delivered,
    in_environment,
    offer,
    refusal,
    request,
    told,
)
from token_rotator.domain.instants import show_instant
from token_rotator.domain.state_change import LISTED_OF_TENANT
from token_rotator.service.take_event import MAX_EVENT

URL = "https://rotator.example.com/live/wise/events"
ALL_SHARDS = {"shards": list(range(16))}
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(autouse=True)
def subscribed(deployment: Deployment) -> Iterator[None]:
    """Wise tells us, and no address is called: the test hands in what Wise sends."""
    deployment.wise.webhooks.at_once = False
    if not deployment.wise.control.subscriptions():
        deployment.wise.control.subscribe(URL)
    deployment.clock.advance(seconds=1)
    yield
    for item in deployment.items():
        if item["pk"]["S"].startswith(("#state#", "#user#")):
            deployment.dynamodb.delete_item(TableName=deployment.table, Key={"pk": item["pk"]})


@pytest.fixture
def user(deployment: Deployment, grant_id: str) -> str:
    """A grant of a user of Wise's."""
    deployment.adopt(grant_id)
    return grant_id


def event_of(deployment: Deployment, user: str, state: str = "DEACTIVATED", **data: object) -> dict[str, Any]:
    [found] = [one for one in deployment.wise.control.users() if one.user == user]
    told_at = {"occurred_at": show_instant(deployment.clock())}
    return {
        "data": {"resource": {"id": found.wise_user_id, "type": "user"}, "current_state": state, **told_at, **data},
        "event_type": "users#state-change",
        "schema_version": "4.0.0",
        "sent_at": show_instant(deployment.clock()),
        "subscription_id": "f5b51f77-e14a-433b-9f7c-fc2834ffcff5",
    }


def signed(deployment: Deployment, event: object, **more: Any) -> EventDelivery:
    body = event if isinstance(event, str) else json.dumps(event)
    return EventDelivery(
        "a0b1c2d3-0000-4000-8000-000000000001", "", URL, body, deployment.wise.webhooks.sign(body), **more
    )


def states(deployment: Deployment) -> list[dict[str, Any]]:
    return [item for item in deployment.items() if item["pk"]["S"].startswith("#state#")]


def results(deployment: Deployment) -> list[str]:
    return [line["result"] for line in deployment.callback.logged() if line["message"] == "event from wise taken"]


def sweep(deployment: Deployment, seconds: float = 14) -> None:
    deployment.sweep(ALL_SHARDS, Context(seconds))


# --- as it should go


def test_a_deactivated_user_is_served_no_more_and_a_reactivated_one_is_tried_once(
    deployment: Deployment, user: str
) -> None:
    assert deployment.token(user).status == 200
    deployment.wise.control.deactivate(user)
    closed = deployment.events()[-1]
    assert deployment.deliver(closed) == 200
    assert results(deployment) == ["noted"]
    sweep(deployment)
    assert deployment.token(user).problem == "suspended"
    [line] = [one for one in deployment.sweep.logged() if one["message"] == "user deactivated by wise"]
    assert (line["grant_id"], line["subject"], line["delivery_id"]) == (user, "user", closed.id)
    assert deployment.sweep.told("UsersDeactivated") == [1]
    assert deployment.refreshes(user) == 0
    shown = deployment.ask("GET", user).body
    assert (shown["phase"], shown["suspension"]["by"]) == ("suspended", "Wise users#state-change")

    deployment.clock.advance(seconds=60)
    deployment.wise.control.activate(user)
    deployment.wise.control.seed_user(user)  # the user let us in again, elsewhere; these tokens are not ours
    assert deployment.deliver(deployment.events()[-1]) == 200
    sweep(deployment)
    assert deployment.sweep.told("UsersReactivated") == [1]
    assert deployment.refreshes(user) == 1
    assert deployment.token(user).problem == "reauthorization-required"
    assert [json.loads(alert["Message"])["kind"] for alert in deployment.alerts()] == ["reauthorization_required"]


def test_a_grant_for_which_its_users_list_has_no_room_says_so_and_is_not_found(
    deployment: Deployment, user: str
) -> None:
    [found] = [one for one in deployment.wise.control.users() if one.user == user]
    others = [f"acme#{user}-{number}" for number in range(LISTED_OF_TENANT - 1)]
    deployment.dynamodb.put_item(
        TableName=deployment.table,
        Item={"pk": {"S": f"#user#{found.wise_user_id}"}, "holders": {"SS": [f"acme#{user}", *others]}},
    )
    another = offer(deployment.wise.control.seed_user(f"{user}-too")) | {"wise_user_id": str(found.wise_user_id)}
    answer = deployment.ask("PUT", f"{user}-too", another)
    assert (answer.status, answer.body["unlisted"]) == (201, True)
    assert deployment.ask("GET", f"{user}-too").body["unlisted"] is True
    assert deployment.ask("GET", user).body["unlisted"] is False
    deployment.wise.control.deactivate(user)
    deployment.deliver(deployment.events()[-1])
    sweep(deployment)
    phases = [deployment.ask("GET", name).body["phase"] for name in (user, f"{user}-too")]
    assert phases == ["suspended", "active"]


def test_a_user_whose_tokens_come_back_is_served_again(deployment: Deployment, user: str) -> None:
    deployment.wise.control.change_settings(tokens_survive_deactivation=True)
    try:
        version = deployment.token(user).body["version"]
        deployment.wise.control.deactivate(user)
        deployment.deliver(deployment.events()[-1])
        sweep(deployment)
        assert deployment.token(user).problem == "suspended"
        deployment.clock.advance(seconds=60)
        deployment.wise.control.activate(user)
        deployment.deliver(deployment.events()[-1])
        sweep(deployment)
        served = deployment.token(user)
        assert (served.status, served.body["version"]) == (200, version)
        assert deployment.refreshes(user) == 0, "Wise was asked, and nothing refreshed"
    finally:
        deployment.wise.control.change_settings(tokens_survive_deactivation=False)


def test_a_profiles_grant_is_found_by_its_claim(deployment: Deployment, grant_id: str) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    assert user.profile_id is not None
    deployment.adopt(grant_id, user, profile_id=str(user.profile_id))
    deployment.wise.control.deactivate_profile(grant_id, user.profile_id)
    assert deployment.deliver(deployment.events()[-1]) == 200
    sweep(deployment)
    assert deployment.ask("GET", grant_id).body["suspension"]["by"] == "Wise profiles#state-change"


def test_callback_needs_one_write_and_nothing_else(deployment: Deployment, user: str) -> None:
    calls: list[str] = []
    take_event = deployment.callback.wired.take_event
    client = take_event.states._client
    client.meta.events.register("before-call", lambda model, **_: calls.append(model.name), unique_id="counted")
    asked = len(deployment.wise.control.requests())
    try:
        deployment.deliver(signed(deployment, event_of(deployment, user)))
    finally:
        client.meta.events.unregister("before-call", unique_id="counted")
    assert calls == ["UpdateItem"]
    assert len(deployment.wise.control.requests()) == asked


# --- what is not Wise's


def altered(deployment: Deployment, good: EventDelivery) -> dict[str, EventDelivery]:
    """What anybody could send who has seen an event."""

    def by(key: Any) -> str:
        return base64.b64encode(key.sign(good.body.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()

    raw = base64.b64decode(good.signature)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    signer = deployment.wise.webhooks._key
    return {
        "another body": replace(good, body=good.body.replace("DEACTIVATED", "ACTIVE")),
        "a space more": replace(good, body=good.body + " "),
        "cut short": replace(good, body=good.body[:-1]),
        "nothing": replace(good, body=""),
        "another's key": replace(good, signature=by(STRANGER)),
        "no signature": replace(good, signature=""),
        "a signature cut short": replace(good, signature=base64.b64encode(raw[:-1]).decode()),
        "a longer signature": replace(good, signature=base64.b64encode(raw + b"\0").decode()),
        "one bit": replace(good, signature=base64.b64encode(bytes([raw[0] ^ 1]) + raw[1:]).decode()),
        "no base64": replace(good, signature="!" + good.signature[1:]),
        "white space": replace(good, signature=good.signature[:40] + "\n" + good.signature[40:]),
        "base64 of URLs": replace(good, signature=base64.urlsafe_b64encode(raw).decode().rstrip("=")),
        "hex": replace(good, signature=raw.hex()),
        "zeros": replace(good, signature=base64.b64encode(bytes(256)).decode()),
        "SHA-512": replace(
            good,
            signature=base64.b64encode(signer.sign(good.body.encode(), padding.PKCS1v15(), hashes.SHA512())).decode(),
        ),
        "PSS": replace(
            good, signature=base64.b64encode(signer.sign(good.body.encode(), pss, hashes.SHA256())).decode()
        ),
        "much": replace(good, body=good.body.ljust(MAX_EVENT + 1)),
    }


FORGERIES = [
    "another body", "a space more", "cut short", "nothing", "another's key", "no signature", "a signature cut short",
    "a longer signature", "one bit", "no base64", "white space", "base64 of URLs", "hex", "zeros", "SHA-512", "PSS",
    "much",
]  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_not_wises_is_turned_away_and_leaves_no_trace(deployment: Deployment, user: str, forgery: str) -> None:
    good = signed(deployment, event_of(deployment, user))
    forged = altered(deployment, good)
    assert set(forged) == set(FORGERIES)
    bad = forged[forgery]
    if forgery == "base64 of URLs" and bad.signature == good.signature.rstrip("="):
        bad = replace(bad, signature=bad.signature[:-1] + "_")  # this one has neither of the two letters that differ
    assert deployment.deliver(bad) == 403
    assert (states(deployment), deployment.callback.logged()) == ([], [])
    assert deployment.callback.told("EventForged") == [1]
    assert deployment.deliver(good) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"body": None},
        {"isBase64Encoded": True},
        {"body": "\ud800"},
        {"headers": None},
        {"headers": {}},
        {"headers": {"X-Signature": "x"}},
    ],
)
def test_what_is_no_delivery_is_turned_away(deployment: Deployment, user: str, changes: dict[str, Any]) -> None:
    good = signed(deployment, event_of(deployment, user))
    assert deployment.deliver(good, **changes) == 403
    assert states(deployment) == []


def test_two_signatures_are_none(deployment: Deployment, user: str) -> None:
    good = signed(deployment, event_of(deployment, user))
    many = {name: [value] for name, value in good.headers.items()}
    assert deployment.deliver(good, multiValueHeaders={**many, "X-Signature-SHA256": [good.signature] * 2}) == 403
    in_two_cases = {**many, "x-signature-sha256": [good.signature], "X-Signature-SHA256": ["fixture"]}
    assert deployment.deliver(good, multiValueHeaders=in_two_cases) == 403
    assert deployment.deliver(good, multiValueHeaders=many) == 200


def test_the_body_counts_byte_by_byte_however_it_is_handed_in(deployment: Deployment, user: str) -> None:
    event = event_of(deployment, user)
    body = json.dumps({**event, "note": "Zoë ✓ 𝄞"}, ensure_ascii=False, indent=3)
    good = signed(deployment, body)
    encoded = base64.b64encode(body.encode()).decode()
    assert deployment.deliver(good, body=encoded, isBase64Encoded=True) == 200
    assert deployment.deliver(good) == 200
    assert results(deployment) == ["noted", "known"]
    lower = {name.lower(): value for name, value in good.headers.items()}
    assert deployment.deliver(good, headers=lower) == 200


def test_any_of_the_keys_may_have_signed(deployment: Deployment, user: str) -> None:
    good = signed(deployment, event_of(deployment, user))
    other = OTHER_SIGNER.sign(good.body.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert deployment.deliver(replace(good, signature=base64.b64encode(other).decode())) == 200
    assert deployment.deliver(good) == 200


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.text(max_size=200), signature=st.text(max_size=400) | st.binary(max_size=300).map(
    lambda raw: base64.b64encode(raw).decode()))  # fmt: skip
def test_whatever_anybody_sends_is_turned_away(deployment: Deployment, body: str, signature: str) -> None:
    assert deployment.deliver(EventDelivery("x", "", URL, body, signature)) == 403
    assert deployment.callback.logged() == []


# --- what is, and says nothing new or nothing for us


def test_a_test_notification_is_taken_and_changes_nothing(deployment: Deployment, user: str) -> None:
    assert deployment.deliver(signed(deployment, event_of(deployment, user), test=True)) == 200
    assert (results(deployment), states(deployment)) == (["test"], [])


@pytest.mark.parametrize(
    ("event", "result", "shown"),
    [
        ({"event_type": "balances#update", "data": {"amount": 7}}, "other", "balances#update"),
        ({"event_type": "users#state-change", "data": {}}, "unreadable", "users#state-change"),
        ({"event_type": "<script>", "data": {}}, "unreadable", None),
        ("", "unreadable", None),
        ("[]", "unreadable", None),
        ("{", "unreadable", None),
    ],
)
def test_what_we_have_no_use_for_is_taken_all_the_same(
    deployment: Deployment, event: object, result: str, shown: str | None
) -> None:
    assert deployment.deliver(signed(deployment, event)) == 200
    assert states(deployment) == []
    [line] = [one for one in deployment.callback.logged() if one["message"] == "event from wise taken"]
    told_of = {name: line.get(name) for name in ("result", "event_type", "delivery_id")}
    assert told_of == {"result": result, "event_type": shown, "delivery_id": "a0b1c2d3-0000-4000-8000-000000000001"}
    assert [line["outcome"] for line in deployment.callback.metrics() if "EventTaken" in line] == [result]


@pytest.mark.parametrize("delivery_id", ["", "a b", "x" * 65, "<script>", "7\n"])
def test_nothing_of_the_headers_is_logged_unless_it_is_an_id(
    deployment: Deployment, user: str, delivery_id: str
) -> None:
    good = signed(deployment, event_of(deployment, user))
    assert deployment.deliver(replace(good, id=delivery_id)) == 200
    [line] = [one for one in deployment.callback.logged() if one["message"] == "event from wise taken"]
    assert "delivery_id" not in line


def test_an_event_that_is_sent_again_after_weeks_is_old(deployment: Deployment, user: str) -> None:
    good = signed(deployment, event_of(deployment, user))
    assert deployment.deliver(good) == 200
    now = deployment.clock.now
    try:
        deployment.clock.now = now + timedelta(days=31)
        assert deployment.deliver(good) == 200
    finally:
        deployment.clock.now = now
    assert results(deployment) == ["noted", "old"]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_duplicates_and_disorder_are_harmless(deployment: Deployment, data: st.DataObject) -> None:
    name = f"disorder-{deployment.clock.now.timestamp()}".replace(".", "-")
    deployment.adopt(name)
    times = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True))
    events = [(at, data.draw(st.sampled_from(["ACTIVE", "WITHDRAW_ONLY", "DEACTIVATED"]))) for at in times]
    start = deployment.clock()
    sent = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events), max_size=3))]))
    for at, state in sent:
        instant = show_instant(start + timedelta(seconds=at))
        assert deployment.deliver(signed(deployment, event_of(deployment, name, state, occurred_at=instant))) == 200
        if data.draw(st.booleans()):
            sweep(deployment, 11.5)
    sweep(deployment, 12)
    expected = "suspended" if max(events)[1] == "DEACTIVATED" else "active"
    assert deployment.ask("GET", name).body["phase"] == expected
    deployment.clock.advance(seconds=10)


# --- a table that takes nothing, and a function without keys


@pytest.mark.parametrize(
    ("code", "refused"), [("ProvisionedThroughputExceededException", []), ("AccessDeniedException", [1])]
)
def test_wise_delivers_again_what_could_not_be_kept(
    deployment: Deployment, user: str, monkeypatch: pytest.MonkeyPatch, code: str, refused: list[int]
) -> None:
    good = signed(deployment, event_of(deployment, user))

    def fail(**_: object) -> None:
        raise refusal("UpdateItem", code)

    with monkeypatch.context() as patch:
        patch.setattr(deployment.callback.wired.take_event.states._client, "update_item", fail)
        assert deployment.deliver(good) == 503
    assert deployment.callback.told("StoreRefused") == refused
    assert deployment.deliver(good) == 200
    assert results(deployment) == ["noted"]


def test_what_breaks_is_no_answer_to_learn_from(
    deployment: Deployment, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("fixture-secret")

    good = signed(deployment, event_of(deployment, user))
    monkeypatch.setattr(deployment.callback.wired.take_event.states._client, "update_item", fail)
    assert deployment.deliver(good) == 500
    assert "fixture-secret" not in deployment.callback.console.getvalue()


def test_without_keys_there_are_no_events(deployment: Deployment, user: str) -> None:
    environment = dict(deployment.callback.environment)
    del environment["WISE_WEBHOOK_KEYS"]
    callback = Function("callback", environment, deployment.clock)
    answer = callback(delivered(signed(deployment, event_of(deployment, user))))
    assert answer["statusCode"] == 404
    assert states(deployment) == []


def pem(key: Any) -> str:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return str(key.public_key().public_bytes(*form).decode())


@pytest.mark.parametrize(
    "keys",
    [
        "no base64", "AAAA", in_environment(OTHER_KEY) + " AAAA",
        in_environment(pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))),  # noqa: S505 - to be refused
        in_environment(pem(ec.generate_private_key(ec.SECP256R1()))),
    ],
)  # fmt: skip
def test_a_function_with_a_key_that_is_none_does_not_start(deployment: Deployment, keys: str) -> None:
    environment = {**deployment.callback.environment, "WISE_WEBHOOK_KEYS": keys}
    with pytest.raises(Exception, match="WISE_WEBHOOK_KEYS") as raised:
        Function("callback", environment, deployment.clock)
    assert type(raised.value).__name__ == "SettingsError"


def test_only_posts_are_events(deployment: Deployment) -> None:
    for method in ("GET", "PUT"):
        event = request(method, EVENTS, "", caller=None)
        assert deployment.callback({**event, "pathParameters": None})["statusCode"] == 404
    assert told(deployment.callback(delivered(signed(deployment, "[]")))) == 200
