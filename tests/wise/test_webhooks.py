"""Events on their way: signed, delivered, again until they are taken, and as the test wants them.

Pages: [handling] docs.wise.com/guides/developer/webhooks/event-handling, [user]
docs.wise.com/api-reference/webhook-event/eventusersstatechange.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from local.wise.control import SeededUser, wait_until
from local.wise.running import RunningWise


class Subscriber(ThreadingHTTPServer):
    """Takes down what comes; answers with the next of ``statuses``, or 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.came: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/wise/events"


class _Handler(BaseHTTPRequestHandler):
    server: Subscriber

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Nothing."""


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    server = Subscriber()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def wait_for(subscriber: Subscriber, count: int) -> None:
    wait_until(lambda: len(subscriber.came) >= count, 10, f"{count} deliveries")


@pytest.mark.parametrize(("version", "digits"), [("2.0.0", r""), ("4.0.0", r"\.\d{3}")])
def test_event_is_signed_and_says_what_happened(
    wise: RunningWise, alice: SeededUser, subscriber: Subscriber, version: str, digits: str
) -> None:
    wise.control.subscribe(subscriber.url, version=version)
    wise.control.deactivate("alice")
    wait_for(subscriber, 1)
    [(headers, body)] = subscriber.came
    key = load_pem_public_key(wise.control.webhook_key().encode())
    assert isinstance(key, RSAPublicKey)
    signature = base64.b64decode(headers["x-signature-sha256"], validate=True)
    key.verify(signature, body, PKCS1v15(), SHA256())
    with pytest.raises(InvalidSignature):
        key.verify(signature, body + b" ", PKCS1v15(), SHA256())
    event = json.loads(body)
    # The fields of [handling] and [user].
    assert sorted(event) == ["data", "event_type", "schema_version", "sent_at", "subscription_id"]
    assert (event["event_type"], event["schema_version"]) == ("users#state-change", version)
    assert event["data"]["resource"] == {"id": alice.wise_user_id, "type": "user"}
    assert (event["data"]["previous_state"], event["data"]["current_state"]) == ("ACTIVE", "DEACTIVATED")
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d{digits}Z", event["data"]["occurred_at"])
    assert event["subscription_id"] in {subscription.id for subscription in wise.control.subscriptions()}
    assert "x-test-notification" not in headers
    assert alice.email not in body.decode()


def test_event_of_a_profile_names_the_profile(wise: RunningWise, alice: SeededUser, subscriber: Subscriber) -> None:
    wise.control.subscribe(subscriber.url)
    wise.control.deactivate_profile("alice", alice.profile_id or 0)
    wise.control.activate_profile("alice", alice.profile_id or 0)
    wait_for(subscriber, 2)
    events = [json.loads(body) for _, body in subscriber.came]
    assert {event["event_type"] for event in events} == {"profiles#state-change"}
    assert {event["data"]["resource"]["id"] for event in events} == {alice.profile_id}
    assert [event["data"]["current_state"] for event in events] == ["DEACTIVATED", "ACTIVE"]


def test_event_that_is_not_taken_comes_again_the_same(
    wise: RunningWise, alice: SeededUser, subscriber: Subscriber
) -> None:
    subscriber.statuses = [503, 500]
    wise.control.subscribe(subscriber.url)
    wise.control.deactivate("alice")
    wait_for(subscriber, 3)
    assert len({body for _, body in subscriber.came}) == 1
    assert len({headers["x-delivery-id"] for headers, _ in subscriber.came}) == 1
    wait_until(lambda: wise.control.deliveries()[0].taken, 10, "its being taken")
    assert [delivery.statuses for delivery in wise.control.deliveries()] == [[503, 500, 200]]


def test_held_events_come_in_the_order_that_is_asked_for_and_as_often(
    wise: RunningWise, alice: SeededUser, subscriber: Subscriber
) -> None:
    wise.control.hold_webhooks()
    wise.control.subscribe(subscriber.url)
    wise.control.deactivate("alice")
    wise.control.activate("alice")
    first, second = wise.control.deliveries()
    assert subscriber.came == []
    wise.control.deliver([second.id, first.id], times=2)
    came = [headers["x-delivery-id"] for headers, _ in subscriber.came]
    assert came == [second.id, second.id, first.id, first.id]
    assert wise.control.deliver() == [], "all were taken"
