"""Who wants to hear of what: the application's webhook subscriptions.

Sources: docs.wise.com/api-reference/webhook (requests and answers), docs.wise.com/guides/developer/errors/webhooks
(codes of the errors, not their status). Nothing is delivered here: ``local.wise.state`` tells its listeners.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.wise.answers import Answer, encode, wrong_subscription
from local.wise.tokens import iso_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.wise.settings import Json

_NS_PER_MS = 1_000_000
_VERSIONS = ("2.0.0", "3.0.0", "4.0.0")


class EventType(StrEnum):
    """What of Wise's events this emulator knows (docs.wise.com/guides/developer/webhooks/event-types)."""

    USER_STATE_CHANGE = "users#state-change"
    PROFILE_STATE_CHANGE = "profiles#state-change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One event type and where to send it."""

    id: str
    name: str
    trigger_on: str
    version: str
    """Of the event's schema, such as ``2.0.0``."""
    url: str
    created_at_ms: int
    """On Wise's clock."""

    def as_json(self, client_key: str, client_id: str) -> dict[str, Json]:
        """As Wise answers it."""
        return {
            "id": self.id,
            "name": self.name,
            "delivery": {"version": self.version, "url": self.url},
            "trigger_on": self.trigger_on,
            "scope": {"domain": "application", "id": client_key},
            "created_by": {"type": "application", "id": client_id},
            "created_at": iso_instant(self.created_at_ms * _NS_PER_MS, 0),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A user's or a profile's account was closed or opened again."""

    event_type: EventType
    user: str
    resource_id: int
    """Of the user, or of the profile."""
    previous_state: str
    current_state: str
    """``ACTIVE`` or ``DEACTIVATED``."""
    occurred_at_ms: int
    """On Wise's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestNotification:
    """The application asked for an event without a cause, to see whether it arrives."""

    __test__ = False

    subscription: Subscription
    delivery_id: str
    created_at_ms: int


def read_subscription(fields: Mapping[str, Json], *, new_id: Callable[[], str], now_ms: int) -> Subscription | Answer:
    """A subscription as it is asked for, or what is wrong with it. Undocumented: the status, 400.

    An address must be absolute. Wise takes only https and no IP address; here both pass, for the sake of tests.
    """
    delivery = fields.get("delivery")
    delivery = delivery if isinstance(delivery, dict) else {}
    given = {
        "name": fields.get("name"),
        "trigger_on": fields.get("trigger_on"),
        "delivery.version": delivery.get("version"),
        "delivery.url": delivery.get("url"),
    }
    texts = {name: value for name, value in given.items() if isinstance(value, str) and value}
    missing = next((name for name in given if name not in texts), None)
    if missing is not None:
        return wrong_subscription("invalid", missing)
    if texts["trigger_on"] not in list(EventType):
        return wrong_subscription("EVENT_TYPE_NOT_PERMITTED", "trigger_on")
    if texts["delivery.version"] not in _VERSIONS:
        return wrong_subscription("invalid", "delivery.version")
    address = urlsplit(texts["delivery.url"])
    if address.scheme not in ("http", "https") or not address.hostname:
        return wrong_subscription("INVALID_CALLBACK_URL", "delivery.url")
    return Subscription(
        id=new_id(),
        name=texts["name"],
        trigger_on=texts["trigger_on"],
        version=texts["delivery.version"],
        url=texts["delivery.url"],
        created_at_ms=now_ms,
    )


def told(value: Json) -> Answer:
    """200."""
    return Answer(status=200, outcome="ok", body=encode(value))
