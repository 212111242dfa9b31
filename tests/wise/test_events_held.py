"""Events of Wise's: signed, delivered when and as often as told, with the same bytes each time."""

from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from local.wise.control import SeededUser
from local.wise.running import RunningWise

NOWHERE = "http://127.0.0.1:9/wise/events"


def test_what_is_told_is_signed_and_kept_for_each_subscription(wise: RunningWise, alice: SeededUser) -> None:
    wise.control.hold_webhooks()
    wise.control.subscribe(NOWHERE)
    wise.control.deactivate("alice")
    wise.control.activate("alice")
    closed, opened = wise.control.deliveries()
    key = load_pem_public_key(wise.control.webhook_key().encode())
    assert isinstance(key, RSAPublicKey)
    for delivery, state in ((closed, "DEACTIVATED"), (opened, "ACTIVE")):
        key.verify(base64.b64decode(delivery.signature), delivery.body.encode(), padding.PKCS1v15(), hashes.SHA256())
        event = json.loads(delivery.body)
        assert event["event_type"] == delivery.event_type == "users#state-change"
        assert event["data"]["resource"] == {"id": alice.wise_user_id, "type": "user"}
        assert (event["data"]["current_state"], delivery.statuses) == (state, [])


def test_deliveries_are_sent_in_the_order_and_as_often_as_told(wise: RunningWise, alice: SeededUser) -> None:
    wise.control.hold_webhooks()
    wise.control.subscribe(NOWHERE)
    wise.control.deactivate(alice.user)
    wise.control.activate(alice.user)
    first, second = (delivery.id for delivery in wise.control.deliveries())
    sent = wise.control.deliver([second, first], times=2)
    assert [(delivery.id, delivery.statuses) for delivery in sent] == [(second, [None, None]), (first, [None, None])]
