"""The states of accounts at Wise in DynamoDB: reserved items of the grants' table.

| item | attributes |
|---|---|
| `#state#user#<id>`, `#state#profile#<id>` | `state`, `occurred_at`, `delivery_id` and `rank` of the newest event |
| | `was_closed`: an event has said that Wise had closed it, since the sweep did so last |
| | `due_shard`, `due_at`: until the sweep has done what follows from it |
| | `expire_at`: when DynamoDB may drop it, in epoch seconds |
| `#profile#<id>` | `holder`: the grant that holds the profile; `dynamo_grants` writes it |
| `#user#<id>` | `holders`: the grants of the user, a set; the same |
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import SCHEMA
from token_rotator.domain.state_change import KEPT_FOR, AccountState, StateChange, Subject

from .dynamo_grants import PROFILE, USER, holders_of
from .dynamo_items import FLAG, INSTANT, NUMBER, TEXT, UNREADABLE, Codec, Item, Update, failures, is_refused, to_ms
from .dynamo_links import EXPIRY

if TYPE_CHECKING:
    from datetime import datetime

    from types_boto3_dynamodb import DynamoDBClient

    from token_rotator.domain.grant import GrantKey
    from token_rotator.domain.state_change import Account

STATE: Final = "#state#"
"""What the items of states begin with."""
_STATE: Final = Codec("S", str, AccountState)


def _decode(account: Account, item: Item) -> StateChange:
    try:
        if NUMBER.decode(item["schema"]) != SCHEMA:
            msg = "the item of a state has another schema"
            raise CorruptGrant(msg)
        change = StateChange(
            account=account,
            state=_STATE.decode(item["state"]),
            occurred_at=INSTANT.decode(item["occurred_at"]),
            delivery_id=TEXT.decode(item["delivery_id"]) if "delivery_id" in item else None,
        )
        was_closed = "was_closed" in item and FLAG.decode(item["was_closed"])
        return replace(change, was_closed=was_closed and not change.closes)
    except UNREADABLE as error:
        msg = f"the item of a state cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


class DynamoStates:
    """`StateNotes` and `StateStore` over the table of grants. The client is as for `DynamoGrants`."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    @failures
    def note(self, change: StateChange, now: datetime) -> bool:
        """See `StateNotes.note`. An SDK retry that meets our own write finds it there already: no harm in that."""
        key = change.account.key
        update = Update()
        update.change("schema", NUMBER.encode(SCHEMA))
        update.change("state", _STATE.encode(change.state))
        update.change("occurred_at", INSTANT.encode(change.occurred_at))
        update.change("rank", NUMBER.encode(change.rank))
        update.change("delivery_id", None if change.delivery_id is None else TEXT.encode(change.delivery_id))
        if change.closes or change.was_closed:
            update.change("was_closed", FLAG.encode(True))
        else:
            update.keep("was_closed", FLAG.encode(False))
        update.change("due_shard", NUMBER.encode(key.shard))
        update.change("due_at", INSTANT.encode(now))
        update.change(EXPIRY, NUMBER.encode(-(-to_ms(now + KEPT_FOR) // 1000)))
        rank = update.name("rank")
        update.require(f"attribute_not_exists({rank}) OR {rank} < :new_rank")
        return self._try(key, update)

    @failures
    def look(self, account: Account) -> StateChange | None:
        """See `StateStore.look`."""
        item = self._get(str(account.key))
        return _decode(account, item) if item else None

    @failures
    def holders(self, account: Account) -> frozenset[GrantKey]:
        """See `StateStore.holders`."""
        of_user = account.subject is Subject.USER
        return holders_of(self._get(f"{USER if of_user else PROFILE}{account.wise_id}"))

    @failures
    def settle(self, change: StateChange) -> bool:
        """See `StateStore.settle`."""
        update = Update()
        update.change("due_at", None)
        update.change("due_shard", None)
        update.change("was_closed", None)
        update.require_equal("rank", NUMBER.encode(change.rank))
        return self._try(change.account.key, update)

    def _key(self, pk: str) -> Item:
        return {"TableName": self._table, "Key": {"pk": TEXT.encode(pk)}}

    def _get(self, pk: str) -> Item | None:
        return cast("Item | None", self._client.get_item(**self._key(pk), ConsistentRead=True).get("Item"))

    def _try(self, key: GrantKey, update: Update) -> bool:
        parameters: Any = {**self._key(str(key)), **update.parameters()}
        try:
            self._client.update_item(**parameters)
        except ClientError as error:
            if not is_refused(error):
                raise
            return False
        return True
