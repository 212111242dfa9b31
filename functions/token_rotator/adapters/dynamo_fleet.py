"""What holds for all grants together, in DynamoDB: the item `#fleet` of the grants' table.

| attribute | type | holds |
|---|---|---|
| `pk` | S | `#fleet` |
| `schema`, `revision`, `write_id` | N, N, S | as `dynamo_revised` has them, of the breaker's state |
| the fields of `Fleet` | | instants as epoch milliseconds |
| `<lane>_tat` | N | until when the lane's calls are used up, in epoch milliseconds; no part of the revision |

How many grants died lately is in the item `#dying`: a number for each minute in which one did, as `m` and the minute
since the epoch.

A lane is paced by the generic cell rate algorithm (ITU-T I.371, annex A): each call takes its share of a minute, and
the shares that are taken may reach into the future by one burst.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.fleet import Fleet
from token_rotator.service.ports import Admitted, Paced

from .dynamo_items import (
    ALERT,
    FLAG,
    INSTANT,
    NUMBER,
    TEXT,
    UNREADABLE,
    Codec,
    Item,
    Update,
    failures,
    from_ms,
    is_refused,
    to_ms,
)
from .dynamo_revised import Revised

if TYPE_CHECKING:
    from datetime import datetime

    from types_boto3_dynamodb import DynamoDBClient

    from token_rotator.domain.fleet import Lane

FLEET: Final = "#fleet"
DYING: Final = "#dying"
_MINUTE_MS: Final = 60_000
_CODECS: Final[dict[str, Codec]] = {
    "revision": NUMBER,
    "open_until": INSTANT,
    "why": TEXT,
    "since": INSTANT,
    "trips": NUMBER,
    "closed_at": INSTANT,
    "probe_by": TEXT,
    "probe_until": INSTANT,
    "client_credentials_refused": FLAG,
    "alert": ALERT,
    "dying": ALERT,
    "dying_at": INSTANT,
}
"""How each field of the fleet is stored, under its own name."""


def _worth(lane: Lane, calls: int) -> int:
    """Say how many milliseconds of a lane some calls take."""
    return lane.worth(calls) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The item that did not meet a condition; nothing if there is none."""

    item: Item


class DynamoFleet:
    """`FleetStore` over the table of grants. Safe in threads; the client is as for `DynamoGrants`."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._fleet = Revised(client, table, FLEET, make=Fleet, codecs=_CODECS, what="the fleet's item")
        self._item: Any = {"TableName": table, "Key": {"pk": TEXT.encode(FLEET)}}
        self._dying: Any = {"TableName": table, "Key": {"pk": TEXT.encode(DYING)}}
        self._seen: dict[str, int] = {}
        """Until when each lane's calls were used up when last seen: a guess, and cheap to get wrong."""

    @failures
    def read(self) -> Fleet:
        """See `FleetStore.read`."""
        return self._fleet.read()

    @failures
    def write(self, before: Fleet, after: Fleet) -> Fleet | None:
        """See `FleetStore.write`."""
        return self._fleet.write(before, after)

    @failures
    def count_death(self, now: datetime, within: timedelta) -> int:
        """See `FleetStore.count_death`. Minutes that are too old go with the next death after them."""
        minute = to_ms(now) // _MINUTE_MS
        answer = self._client.update_item(
            **self._dying,
            UpdateExpression="ADD #minute :one",
            ExpressionAttributeNames={"#minute": f"m{minute}"},
            ExpressionAttributeValues={":one": NUMBER.encode(1)},
            ReturnValues="ALL_NEW",
        )
        oldest = minute - within // timedelta(minutes=1)
        found: Item = cast("Item", answer).get("Attributes", {})
        counts = {name: int(NUMBER.decode(value)) for name, value in found.items() if name != "pk"}
        old = [name for name in counts if int(name.removeprefix("m")) <= oldest]
        if old:
            names = {f"#m{number}": name for number, name in enumerate(old)}
            self._client.update_item(
                **self._dying, UpdateExpression=f"REMOVE {', '.join(names)}", ExpressionAttributeNames=names
            )
        return sum(count for name, count in counts.items() if name not in old)

    @failures
    def admit(self, lane: Lane, calls: int, now: datetime) -> Admitted | Paced | Fleet:
        """See `FleetStore.admit`. A lane is idle or busy; a wrong guess shows which, and costs one write."""
        if not 1 <= calls <= lane.burst:
            msg = f"the lane {lane.name} admits 1 to {lane.burst} calls at once"
            raise ValueError(msg)
        at, worth, tat = to_ms(now), _worth(lane, calls), f"{lane.name}_tat"
        latest = at + _worth(lane, lane.burst) - worth
        used_until = self._seen.get(tat)
        while True:  # a lane's instant never moves back, so at worst it is found busy, idle, busy, full
            idle = used_until is None or used_until <= at
            answer = self._update(_taken(tat, at, worth, None if idle else latest))
            item = answer.item if isinstance(answer, _Refusal) else answer
            used_until = _used_until(item, tat)
            if used_until is not None:
                self._seen[tat] = used_until
            if not isinstance(answer, _Refusal):
                return Admitted()
            if "open_until" in item:
                return self._fleet.decode(item)
            if used_until is not None and used_until > latest:
                return Paced(from_ms(at + used_until - latest))

    def _update(self, update: Update) -> _Refusal | Item:
        try:
            answer = self._client.update_item(
                **self._item,
                **update.parameters(),
                ReturnValues="UPDATED_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if is_refused(error):
                return _Refusal(cast("Item", error.response).get("Item", {}))
            raise
        stored: Item = cast("Item", answer).get("Attributes", {})
        return stored


def _taken(tat: str, at: int, worth: int, latest: int | None) -> Update:
    """Make the write that takes calls of a lane that is idle at `at`, or else busy until `latest` at most."""
    update = Update()
    update.require_equal("open_until", None)
    name, now = update.name(tat), update.value("now", NUMBER.encode(at))
    if latest is None:
        update.require(f"attribute_not_exists({name}) OR {name} <= {now}")
        update.change(tat, NUMBER.encode(at + worth))
    else:
        update.require(f"{name} > {now} AND {name} <= {update.value('latest', NUMBER.encode(latest))}")
        update.add(tat, NUMBER.encode(worth))
    return update


def _used_until(item: Item, tat: str) -> int | None:
    try:
        return int(NUMBER.decode(item[tat])) if tat in item else None
    except UNREADABLE as error:
        msg = f"the fleet's item cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None
