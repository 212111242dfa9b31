"""Links and their tokens in DynamoDB: reserved items of the grants' table.

| item | attributes |
|---|---|
| `#link#<hash of state>` | the fields of `Link` |
| `#pending#<hash of link_id>` | the fields of `PendingTokens`; `due_shard` beside `due_at`, until the tokens are gone |
| both | `of_tenant`, `of_grant`: whose; `expire_at`: when DynamoDB may drop it, in epoch seconds |

Whose they are is not in `tenant` and `grant_id`: those are the key of an index, and would list them among the grants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import SCHEMA, GrantKey
from token_rotator.domain.link import FORGOTTEN_AFTER, Link, PendingTokens, waiting_key

from .dynamo_grants import HOLDER, PENDING, PROFILE
from .dynamo_items import INSTANT, NUMBER, SEALED, TEXT, UNREADABLE, Codec, Item, Update, failures, is_refused, to_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from types_boto3_dynamodb import DynamoDBClient

LINK: Final = "#link#"
EXPIRY: Final = "expire_at"
"""The attribute that the table's time to live is set to."""
_LINK: Final[dict[str, Codec]] = {
    "partner": TEXT,
    "redirect_uri": TEXT,
    "client_id": TEXT,
    "started_at": INSTANT,
    "ends_at": INSTANT,
    "return_url": TEXT,
    "profile_id": TEXT,
    "grant_since": INSTANT,
    "used_at": INSTANT,
    "used_by": TEXT,
}
_PENDING: Final[dict[str, Codec]] = {
    "attempt_id": TEXT,
    "access_token": SEALED,
    "refresh_token": SEALED,
    "issued_at": INSTANT,
    "expires_at": INSTANT,
    "confirm_before": INSTANT,
    "refresh_expires_at": INSTANT,
    "scope": TEXT,
    "profile_id": TEXT,
    "wise_user_id": TEXT,
    "grant_since": INSTANT,
    "confirmed_version": NUMBER,
    "due_at": INSTANT,
}
_EMPTIED: Final = "REMOVE access_token, refresh_token, due_at, due_shard"
Kind = TypeVar("Kind", Link, PendingTokens)


def _encode(prefix: str, value: Link | PendingTokens, codecs: dict[str, Codec], ends_at: datetime) -> Item:
    item: Item = {
        "pk": TEXT.encode(prefix + value.hashed),
        "schema": NUMBER.encode(SCHEMA),
        "of_tenant": TEXT.encode(value.key.tenant),
        "of_grant": TEXT.encode(value.key.grant_id),
        EXPIRY: NUMBER.encode(-(-to_ms(ends_at + FORGOTTEN_AFTER) // 1000)),
    }
    for name, codec in codecs.items():
        held = getattr(value, name)
        if held is not None:
            item[name] = codec.encode(held)
    return item


def _decode(make: Callable[..., Kind], prefix: str, codecs: dict[str, Codec], item: Item) -> Kind:
    """Make a link or its tokens of an item. Raises `CorruptGrant` for whatever this version did not write."""
    try:
        if NUMBER.decode(item["schema"]) != SCHEMA:
            msg = "the link's item has another schema"
            raise CorruptGrant(msg)
        return make(
            hashed=TEXT.decode(item["pk"]).removeprefix(prefix),
            key=GrantKey(TEXT.decode(item["of_tenant"]), TEXT.decode(item["of_grant"])),
            **{name: codec.decode(item[name]) for name, codec in codecs.items() if name in item},
        )
    except UNREADABLE as error:
        msg = f"the link's item cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


class DynamoLinks:
    """`LinkStore` over the table of grants. The client is as for `DynamoGrants`."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    @failures
    def begin(self, link: Link) -> None:
        """See `LinkStore.begin`."""
        self._put(_encode(LINK, link, _LINK, link.ends_at))

    @failures
    def look(self, hashed: str) -> Link | None:
        """See `LinkStore.look`."""
        item = self._get(LINK + hashed)
        return _decode(Link, LINK, _LINK, item) if item else None

    @failures
    def use(self, hashed: str, attempt_id: str, now: datetime) -> Link | None:
        """See `LinkStore.use`. A refusal may show our own use, if the SDK sent it twice."""
        update = Update()
        update.require("attribute_exists(pk)")
        update.require_equal("used_at", None)
        update.require(f"{update.name('ends_at')} > {update.value('now', INSTANT.encode(now))}")
        update.change("used_at", INSTANT.encode(now))
        update.change("used_by", TEXT.encode(attempt_id))
        try:
            answer: Any = self._client.update_item(
                **self._key(LINK + hashed),
                **update.parameters(),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            item = answer["Attributes"]
        except ClientError as error:
            if not is_refused(error):
                raise
            item = cast("Item", error.response).get("Item")
        return _decode(Link, LINK, _LINK, item) if item else None

    @failures
    def keep(self, pending: PendingTokens) -> None:
        """See `LinkStore.keep`."""
        item = _encode(PENDING, pending, _PENDING, pending.confirm_before)
        if pending.due_at is not None:
            item["due_shard"] = NUMBER.encode(waiting_key(pending.hashed).shard)
        self._put(item)

    @failures
    def pending(self, hashed: str) -> PendingTokens | None:
        """See `LinkStore.pending`."""
        item = self._get(PENDING + hashed)
        return _decode(PendingTokens, PENDING, _PENDING, item) if item else None

    @failures
    def forget(self, hashed: str) -> None:
        """See `LinkStore.forget`."""
        try:
            self._client.update_item(
                **self._key(PENDING + hashed),
                UpdateExpression=_EMPTIED,
                ConditionExpression="attribute_exists(pk)",
            )
        except ClientError as error:
            if not is_refused(error):
                raise

    @failures
    def drop(self, hashed: str, now: datetime) -> PendingTokens | None:
        """See `LinkStore.drop`. A drop that the SDK sent twice finds nothing the second time."""
        try:
            answer: Any = self._client.update_item(
                **self._key(PENDING + hashed),
                UpdateExpression=_EMPTIED,
                ConditionExpression="due_at <= :now",
                ExpressionAttributeValues={":now": INSTANT.encode(now)},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if not is_refused(error):
                raise
            return None
        return _decode(PendingTokens, PENDING, _PENDING, answer["Attributes"])

    @failures
    def holder(self, profile_id: str) -> GrantKey | None:
        """See `LinkStore.holder`."""
        item = self._get(PROFILE + profile_id)
        try:
            return GrantKey(*TEXT.decode(item[HOLDER]).split("#")) if item else None
        except UNREADABLE as error:
            msg = f"the claim of a profile cannot be read: {type(error).__name__}"
            raise CorruptGrant(msg) from None

    def _key(self, pk: str) -> Item:
        return {"TableName": self._table, "Key": {"pk": TEXT.encode(pk)}}

    def _get(self, pk: str) -> Item | None:
        return cast("Item | None", self._client.get_item(**self._key(pk), ConsistentRead=True).get("Item"))

    def _put(self, item: Item) -> None:
        """Put an item that is not there. One that is there is our own: nobody else can know its hash."""
        try:
            self._client.put_item(TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)")
        except ClientError as error:
            if not is_refused(error):
                raise
