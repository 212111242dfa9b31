"""What every store over the table has in common: how values lie in an item, and how DynamoDB's refusals are read.

An instant is stored as epoch milliseconds, an absent value as no attribute. Attributes that this version does not know
are left alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.errors import StoreRefused, StoreUnavailable
from token_rotator.domain.grant import Alert, AlertKind
from token_rotator.domain.suspension import Suspension
from token_rotator.domain.tokens import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")
Item = dict[str, Any]

UNREADABLE: Final = (KeyError, ValueError, TypeError, AttributeError, OverflowError)
"""What reading an attribute of another form raises."""
_REFUSALS: Final = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
    }
)


def to_ms(instant: datetime) -> int:
    """Give epoch milliseconds."""
    return (instant - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Give an aware UTC instant."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of value is stored: the attribute's type, and its content both ways."""

    kind: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]

    def encode(self, value: object) -> Item:
        """Make an attribute of a value."""
        return {self.kind: self.write(value)}

    def decode(self, stored: Item) -> Any:  # noqa: ANN401 - a value of any kind
        """Read an attribute. Raises `KeyError` for one of another type."""
        return self.read(stored[self.kind])


def _write_alert(alert: Alert) -> Item:
    values = ((name, getattr(alert, name)) for name in _ALERT)
    absent = (None, False, ())
    return {name: _ALERT[name].encode(value) for name, value in values if not any(value is no for no in absent)}


def _read_alert(stored: Item) -> Alert:
    return Alert(**{name: codec.decode(stored[name]) for name, codec in _ALERT.items() if name in stored})


def _write_suspension(order: Suspension) -> Item:
    values = ((name, getattr(order, name)) for name in _SUSPENSION)
    return {name: _SUSPENSION[name].encode(value) for name, value in values if value not in (None, False)}


def _read_suspension(stored: Item) -> Suspension:
    return Suspension(**{name: codec.decode(stored[name]) for name, codec in _SUSPENSION.items() if name in stored})


def _read_flag(stored: object) -> bool:
    if not isinstance(stored, bool):
        msg = "not a flag"
        raise TypeError(msg)
    return stored


TEXT: Final = Codec("S", str, str)
NUMBER: Final = Codec("N", str, int)
FLAG: Final = Codec("BOOL", bool, _read_flag)
INSTANT: Final = Codec("N", lambda instant: str(to_ms(instant)), lambda ms: from_ms(int(ms)))
SEALED: Final = Codec("B", lambda sealed: sealed.blob, lambda blob: Sealed(bytes(blob)))
TEXTS: Final = Codec("L", lambda texts: [{"S": text} for text in texts], lambda told: tuple(one["S"] for one in told))
ALERT: Final = Codec("M", _write_alert, _read_alert)
SUSPENSION: Final = Codec("M", _write_suspension, _read_suspension)

_ALERT: Final[dict[str, Codec]] = {
    "incident_id": TEXT,
    "kind": Codec("S", str, AlertKind),
    "reason": TEXT,
    "raised_at": INSTANT,
    "attempt_id": TEXT,
    "trace_id": TEXT,
    "claimed_until": INSTANT,
    "published_at": INSTANT,
    "failures": NUMBER,
    "remind_at": INSTANT,
    "reminder": FLAG,
    "ends": TEXTS,
}
_SUSPENSION: Final[dict[str, Codec]] = {
    "since": INSTANT,
    "by": TEXT,
    "reason": TEXT,
    "until": INSTANT,
    "operator": FLAG,
}


class Update:
    """An update expression assembled from named parts."""

    def __init__(self) -> None:
        self.sets: list[str] = []
        self.removes: list[str] = []
        self.conditions: list[str] = []
        self.names: dict[str, str] = {}
        self.values: Item = {}

    def name(self, attribute: str) -> str:
        """Give the placeholder of an attribute's name."""
        self.names[f"#{attribute}"] = attribute
        return f"#{attribute}"

    def value(self, name: str, value: Item) -> str:
        """Give the placeholder of a value."""
        self.values[f":{name}"] = value
        return f":{name}"

    def change(self, attribute: str, value: Item | None) -> None:
        """Set an attribute, or remove it."""
        if value is None:
            self.removes.append(self.name(attribute))
        else:
            self.sets.append(f"{self.name(attribute)} = {self.value(f'new_{attribute}', value)}")

    def keep(self, attribute: str, value: Item) -> None:
        """Leave an attribute as it is; set it where it is not there."""
        name = self.name(attribute)
        self.sets.append(f"{name} = if_not_exists({name}, {self.value(f'new_{attribute}', value)})")

    def add(self, attribute: str, value: Item) -> None:
        """Add a number to an attribute that is there."""
        name = self.name(attribute)
        self.sets.append(f"{name} = {name} + {self.value(f'more_{attribute}', value)}")

    def require(self, condition: str) -> None:
        """Add a condition: all of them must hold."""
        self.conditions.append(condition)

    def require_equal(self, attribute: str, value: Item | None) -> None:
        """Require an attribute to have a value, or to be absent."""
        name = self.name(attribute)
        if value is None:
            self.require(f"attribute_not_exists({name})")
        else:
            self.require(f"{name} = {self.value(f'old_{attribute}', value)}")

    def parameters(self, *, update: bool = True) -> Item:
        """Give the parameters of the call; without an update its condition alone."""
        made: Item = {"ConditionExpression": " AND ".join(f"({c})" for c in self.conditions)}
        if update:
            parts = [f"SET {', '.join(self.sets)}"] if self.sets else []
            parts += [f"REMOVE {', '.join(self.removes)}"] if self.removes else []
            if parts:  # an empty expression is refused
                made["UpdateExpression"] = " ".join(parts)
        if self.names:
            made["ExpressionAttributeNames"] = self.names
        if self.values:
            made["ExpressionAttributeValues"] = self.values
        return made


def failures(call: Callable[P, T]) -> Callable[P, T]:
    """Turn what the SDK raises into the store's errors. Failed conditions are handled before this."""

    @functools.wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            kind = StoreRefused if code in _REFUSALS else StoreUnavailable
            msg = f"DynamoDB: {code}"
            raise kind(msg) from None
        except BotoCoreError as error:
            msg = f"DynamoDB: {type(error).__name__}"
            raise StoreUnavailable(msg) from None

    return wrapped


def is_refused(error: ClientError) -> bool:
    """Tell whether the condition did not hold."""
    return error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException"
