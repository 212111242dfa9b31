"""Wise's webhooks: signs what there is to tell, and delivers it, late, twice or in another order if so told.

Sources: docs.wise.com/guides/developer/webhooks/event-handling (headers, signature, common fields),
docs.wise.com/api-reference/webhook-event/eventusersstatechange and …/eventprofilesstatechange (``data``).
"""

from __future__ import annotations

import base64
import functools
import json
import queue
import threading
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local.wise.settings import BadValueError
from local.wise.subscriptions import EventType, StateChange, Subscription, TestNotification
from local.wise.tokens import iso_instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.wise.settings import Json
    from local.wise.state import WiseState

_KEY_BITS = 2048
_NS_PER_MS = 1_000_000
_MILLISECONDS_SINCE = "4.0.0"
"""The schema version from which on instants have milliseconds (…/webhooks/subscribe-to-webhooks)."""
_WAITS_S = 5.0
"""How long Wise waits for an answer."""
_TRIES = 4
_FIRST_PAUSE_S = 0.25
"""Wise pauses a minute, then twice as long each time, 25 times in all; nobody who tests has two weeks."""


@dataclass(slots=True)
class EventDelivery:
    """One event for one subscription: the same bytes under the same signature, however often they are sent."""

    id: str
    event_type: str
    url: str
    body: str
    signature: str
    test: bool = False
    statuses: list[int | None] = field(default_factory=list)
    """Of each time that it was sent; none: no answer."""

    @property
    def taken(self) -> bool:
        """Whether the subscriber has said that it has it."""
        return any(status is not None and status // 100 == 2 for status in self.statuses)  # noqa: PLR2004

    @property
    def headers(self) -> dict[str, str]:
        """What Wise sends around the body."""
        told = {
            "Content-Type": "application/json",
            "X-Signature-SHA256": self.signature,
            "X-Delivery-Id": self.id,
        }
        return {**told, "X-Test-Notification": "true"} if self.test else told

    def as_json(self) -> dict[str, Json]:
        """All there is to know about it."""
        return {
            "id": self.id,
            "event_type": self.event_type,
            "url": self.url,
            "body": self.body,
            "headers": dict(self.headers),
            "statuses": list(self.statuses),
            "taken": self.taken,
        }


class Webhooks:
    """Listens to the state, and keeps a delivery for each subscription that is to hear of it.

    While ``at_once`` each is sent as soon as it is there, and again until it is taken or four times were in vain;
    otherwise it waits until ``deliver`` is told: never, later, twice, before another. Safe in threads.
    """

    def __init__(self, state: WiseState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._deliveries: dict[str, EventDelivery] = {}
        self._waiting: queue.Queue[EventDelivery | None] = queue.Queue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.at_once = True
        state.listen(self._take_note)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    @functools.cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)

    @property
    def public_key(self) -> str:
        """What signatures are verified with, in PEM, as Wise publishes its own."""
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self._key.public_key().public_bytes(*form).decode()

    def sign(self, body: str) -> str:
        """Sign a body as Wise does: RSA-SHA256, PKCS #1 v1.5, base64."""
        return base64.b64encode(self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()

    def deliveries(self) -> list[EventDelivery]:
        """All of them, in the order of what they tell."""
        with self._lock:
            return list(self._deliveries.values())

    def deliver(self, ids: Sequence[str] | None = None, *, times: int = 1) -> list[EventDelivery]:
        """Send these in this order, or all that were not taken, ``times`` times each. Returns when all is answered."""
        with self._lock:
            known = dict(self._deliveries)
        unknown = [one for one in ids or () if one not in known]
        if unknown:
            raise BadValueError("ids: must be those of deliveries")
        chosen = [known[one] for one in ids] if ids is not None else [d for d in known.values() if not d.taken]
        for delivery in chosen:
            for _ in range(times):
                self._send(delivery)
        return chosen

    def _take_note(self, news: StateChange | TestNotification) -> None:
        """Make the deliveries; the state waits for it."""
        if isinstance(news, TestNotification):
            subscription = news.subscription
            example = StateChange(
                event_type=EventType(subscription.trigger_on),
                user="",
                resource_id=1,
                previous_state="ACTIVE",
                current_state="DEACTIVATED",
                occurred_at_ms=news.created_at_ms,
            )
            self._keep(self._made(example, subscription, news.delivery_id, test=True))
            return
        for subscription in self._state.subscriptions():
            if subscription.trigger_on == news.event_type:
                self._keep(self._made(news, subscription, str(uuid.uuid4())))

    def _made(
        self, news: StateChange, subscription: Subscription, delivery_id: str, *, test: bool = False
    ) -> EventDelivery:
        digits = 3 if subscription.version >= _MILLISECONDS_SINCE else 0
        about = "user" if news.event_type is EventType.USER_STATE_CHANGE else "profile"
        data: dict[str, Json] = {
            "resource": {"id": news.resource_id, "type": about},
            "previous_state": news.previous_state,
            "current_state": news.current_state,
            "occurred_at": iso_instant(news.occurred_at_ms * _NS_PER_MS, digits),
        }
        if news.current_state == "DEACTIVATED":
            data |= {"deactivation_type": "ACCOUNT_SUSPENSION", "deactivation_reason": "REQUESTED_BY_CUSTOMER_CS"}
        body = json.dumps(
            {
                "data": data,
                "event_type": news.event_type,
                "schema_version": subscription.version,
                "sent_at": iso_instant(self._state.clock()[0] * _NS_PER_MS, digits),
                "subscription_id": subscription.id,
            }
        )
        return EventDelivery(delivery_id, news.event_type, subscription.url, body, self.sign(body), test)

    def _keep(self, delivery: EventDelivery) -> None:
        with self._lock:
            self._deliveries[delivery.id] = delivery
            if self.at_once and not self._stopped.is_set():
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                    self._thread.start()
                self._waiting.put(delivery)

    def _run(self) -> None:
        while (delivery := self._waiting.get()) is not None:
            pause_s = _FIRST_PAUSE_S
            for _ in range(_TRIES):
                self._send(delivery)
                if delivery.taken or self._stopped.wait(pause_s):
                    break
                pause_s *= 2

    def _send(self, delivery: EventDelivery) -> None:
        request = urllib.request.Request(  # noqa: S310  (whoever subscribes says where)
            delivery.url, data=delivery.body.encode(), method="POST", headers=delivery.headers
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        status: int | None
        try:
            with opener.open(request, timeout=_WAITS_S) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
        except OSError:
            status = None
        with self._lock:
            delivery.statuses.append(status)
