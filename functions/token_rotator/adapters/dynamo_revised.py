"""A reserved item that is written as a whole, and only if nobody has written since it was read.

| attribute | type | holds |
|---|---|---|
| `schema` | N | the version of its form |
| `revision` | N | how often it was written; there is none before the first write |
| `write_id` | S | random, of the last write |
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import SCHEMA

from .dynamo_items import NUMBER, TEXT, UNREADABLE, Codec, Item, Update, is_refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from types_boto3_dynamodb import DynamoDBClient


class Revision(Protocol):
    """What such an item holds: a value that knows how often it was written."""

    @property
    def revision(self) -> int:
        """How often it was written."""
        ...


R = TypeVar("R", bound=Revision)


class Revised(Generic[R]):
    """Reads and writes one item. Safe in threads; whoever has one turns what the SDK raises into the store's errors."""

    def __init__(
        self, client: DynamoDBClient, table: str, pk: str, *, make: type[R], codecs: Mapping[str, Codec], what: str
    ) -> None:
        """`make` makes the value of its fields, all of which have `codecs`; `what` names the item in errors."""
        self._client = client
        self._item: Any = {"TableName": table, "Key": {"pk": TEXT.encode(pk)}}
        self._make = make
        self._codecs = codecs
        self._what = what

    def decode(self, item: Item) -> R:
        """Make the value of its item. Raises `CorruptGrant` for whatever this version did not write."""
        try:
            if "revision" not in item:
                return self._make()
            if NUMBER.decode(item["schema"]) != SCHEMA:
                msg = f"{self._what} has another schema"
                raise CorruptGrant(msg)
            return self._make(
                **{name: codec.decode(item[name]) for name, codec in self._codecs.items() if name in item}
            )
        except UNREADABLE as error:
            msg = f"{self._what} cannot be read: {type(error).__name__}"
            raise CorruptGrant(msg) from None

    def read(self) -> R:
        """Read it, consistently; a value without fields where nothing was ever stored."""
        return self.decode(cast("Item", self._client.get_item(**self._item, ConsistentRead=True).get("Item", {})))

    def write(self, before: R, after: R) -> R | None:
        """Store `after`, if nobody wrote since `before` was read. Gives what is stored now, `None` if somebody did.

        A refusal may be the trace of this very write, if the SDK sent it twice.
        """
        write_id = TEXT.encode(uuid.uuid4())
        update = Update()
        update.require_equal("revision", NUMBER.encode(before.revision) if before.revision else None)
        update.change("revision", NUMBER.encode(before.revision + 1))
        update.change("schema", NUMBER.encode(SCHEMA))
        update.change("write_id", write_id)
        for name, codec in self._codecs.items():
            if name != "revision":
                value = getattr(after, name)
                update.change(name, None if value is None else codec.encode(value))
        try:
            answer = self._client.update_item(
                **self._item,
                **update.parameters(),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if not is_refused(error):
                raise
            stored: Item = cast("Item", error.response).get("Item", {})
            return self.decode(stored) if stored.get("write_id") == write_id else None
        return self.decode(cast("Item", answer).get("Attributes", {}))
