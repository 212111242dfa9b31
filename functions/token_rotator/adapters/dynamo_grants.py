"""Grants in DynamoDB: one item a grant, every write conditional, every read of a grant consistent.

| attribute | type | holds |
|---|---|---|
| `pk` | S | `tenant#grant_id`; reserved items begin with `#` |
| `tenant`, `grant_id` | S | the key of the index `tenant` |
| sealed fields | B | the sealed value |
| instants | N | epoch milliseconds |
| `alert` | M | the alert's fields |
| `due_shard`, `due_at` | N | the key of the index `due`; both absent when nothing is to happen any more |

A grant's claim of a Wise profile is the item `#profile#<profile_id>` with the attribute `holder`.
"""

from __future__ import annotations

import functools
import heapq
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.errors import CorruptGrant, StoreRefused, StoreUnavailable
from token_rotator.domain.grant import SCHEMA, Alert, AlertKind, Grant, GrantKey, Phase
from token_rotator.domain.tokens import Sealed
from token_rotator.service.ports import IGNORED, AlreadyHeld, Done, Page, Refused, Rejected, When

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef

    from token_rotator.domain.lease import Lease
    from token_rotator.service.ports import Cause

P = ParamSpec("P")
T = TypeVar("T")
Item = dict[str, Any]

DUE_INDEX: Final = "due"
TENANT_INDEX: Final = "tenant"
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
_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
_CANCELLED: Final = "TransactionCanceledException"


def to_ms(instant: datetime) -> int:
    """Give epoch milliseconds."""
    return (instant - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Give an aware UTC instant."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one kind of value is stored: the attribute's type, and its content both ways."""

    kind: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]

    def encode(self, value: object) -> Item:
        return {self.kind: self.write(value)}

    def decode(self, stored: Item) -> Any:  # noqa: ANN401 - a value of any kind
        """Read an attribute. Raises `KeyError` for one of another type."""
        return self.read(stored[self.kind])


def _write_alert(alert: Alert) -> Item:
    values = ((name, getattr(alert, name)) for name in _ALERT)
    return {name: _ALERT[name].encode(value) for name, value in values if value is not None}


def _read_alert(stored: Item) -> Alert:
    return Alert(**{name: codec.decode(stored[name]) for name, codec in _ALERT.items() if name in stored})


_TEXT: Final = _Codec("S", str, str)
_NUMBER: Final = _Codec("N", str, int)
_INSTANT: Final = _Codec("N", lambda instant: str(to_ms(instant)), lambda ms: from_ms(int(ms)))
_SEALED: Final = _Codec("B", lambda sealed: sealed.blob, lambda blob: Sealed(bytes(blob)))

_ALERT: Final[dict[str, _Codec]] = {
    "incident_id": _TEXT,
    "kind": _Codec("S", str, AlertKind),
    "reason": _TEXT,
    "raised_at": _INSTANT,
    "attempt_id": _TEXT,
    "trace_id": _TEXT,
    "claimed_until": _INSTANT,
    "published_at": _INSTANT,
    "failures": _NUMBER,
}
_CODECS: Final[dict[str, _Codec]] = {
    "phase": _Codec("S", str, Phase),
    "refresh_token": _SEALED,
    "version": _NUMBER,
    "refresh_at": _INSTANT,
    "created_at": _INSTANT,
    "access_token": _SEALED,
    "registration": _SEALED,
    "issued_at": _INSTANT,
    "expires_at": _INSTANT,
    "refresh_expires_at": _INSTANT,
    "scope": _TEXT,
    "attempt_id": _TEXT,
    "lease_until": _INSTANT,
    "in_doubt": _TEXT,
    "hold_until": _INSTANT,
    "due_at": _INSTANT,
    "failures": _NUMBER,
    "takeovers": _NUMBER,
    "last_error": _TEXT,
    "last_attempt_at": _INSTANT,
    "alert": _Codec("M", _write_alert, _read_alert),
    "profile_id": _TEXT,
    "wise_user_id": _TEXT,
}
"""How each field of a grant is stored, under its own name."""


def _decode(item: Mapping[str, AttributeValueTypeDef]) -> Grant:
    """Make a grant of an item. Raises `CorruptGrant` for whatever this version did not write."""
    stored = cast("Item", item)
    try:
        if _NUMBER.decode(stored["schema"]) != SCHEMA:
            msg = "the item has another schema"
            raise CorruptGrant(msg)
        key = GrantKey(_TEXT.decode(stored["tenant"]), _TEXT.decode(stored["grant_id"]))
        if str(key) != _TEXT.decode(stored["pk"]):
            msg = "the item lies under another key"
            raise CorruptGrant(msg)
        return Grant(key=key, **{name: codec.decode(stored[name]) for name, codec in _CODECS.items() if name in stored})
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        msg = f"the item cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


def _row(item: Item) -> tuple[str, str, datetime]:
    """Read what the index `tenant` holds of a grant. Raises `CorruptGrant`."""
    try:
        return (
            _TEXT.decode(item["grant_id"]),
            _TEXT.decode(item["phase"]),
            _INSTANT.decode(item["created_at"]),
        )
    except (KeyError, ValueError, OverflowError) as error:
        msg = f"the index cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


def _encode(grant: Grant) -> Item:
    item: Item = {
        "pk": _TEXT.encode(grant.key),
        "tenant": _TEXT.encode(grant.key.tenant),
        "grant_id": _TEXT.encode(grant.key.grant_id),
        "schema": _NUMBER.encode(SCHEMA),
    }
    for name, codec in _CODECS.items():
        value = getattr(grant, name)
        if value is not None:
            item[name] = codec.encode(value)
    if grant.due_at is not None:
        item["due_shard"] = _NUMBER.encode(grant.key.shard)
    return item


class _Update:
    """An update expression assembled from named parts."""

    def __init__(self) -> None:
        self.sets: list[str] = []
        self.removes: list[str] = []
        self.conditions: list[str] = []
        self.names: dict[str, str] = {}
        self.values: Item = {}

    def name(self, attribute: str) -> str:
        self.names[f"#{attribute}"] = attribute
        return f"#{attribute}"

    def value(self, name: str, value: Item) -> str:
        self.values[f":{name}"] = value
        return f":{name}"

    def change(self, attribute: str, value: Item | None) -> None:
        if value is None:
            self.removes.append(self.name(attribute))
        else:
            self.sets.append(f"{self.name(attribute)} = {self.value(f'new_{attribute}', value)}")

    def require(self, condition: str) -> None:
        self.conditions.append(condition)

    def require_equal(self, attribute: str, value: Item | None) -> None:
        name = self.name(attribute)
        if value is None:
            self.require(f"attribute_not_exists({name})")
        else:
            self.require(f"{name} = {self.value(f'old_{attribute}', value)}")

    def parameters(self, *, update: bool = True) -> Item:
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


def _when(update: _Update, when: When) -> None:
    update.require("attribute_exists(pk)")
    for field in fields(when):
        wanted = getattr(when, field.name)
        if wanted is not IGNORED:
            update.require_equal(field.name, None if wanted is None else _CODECS[field.name].encode(wanted))


def _difference(before: Grant, after: Grant) -> _Update:
    update = _Update()
    for name, codec in _CODECS.items():
        value = getattr(after, name)
        if value != getattr(before, name):
            update.change(name, None if value is None else codec.encode(value))
            if name == "due_at":
                update.change("due_shard", None if value is None else _NUMBER.encode(after.key.shard))
    return update


def _failures(call: Callable[P, T]) -> Callable[P, T]:
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


def _is(error: ClientError, code: str) -> bool:
    return error.response.get("Error", {}).get("Code") == code


def _refused(error: ClientError) -> Refused:
    item = cast("Item", error.response).get("Item")
    return Refused(_decode(item) if item else None)


class DynamoGrants:
    """`GrantStore`, `GrantRegistry`, `GrantList` and `DueIndex` over one table.

    A client with short timeouts and at most one retry is expected: the time budgets count on it.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def _key(self, key: GrantKey) -> Item:
        return {"TableName": self._table, "Key": {"pk": _TEXT.encode(str(key))}}

    @_failures
    def get(self, key: GrantKey) -> Grant | None:
        """See `GrantReader.get`."""
        item = self._client.get_item(**self._key(key), ConsistentRead=True).get("Item")
        return _decode(item) if item else None

    @_failures
    def acquire(self, key: GrantKey, lease: Lease, cause: Cause, now: datetime) -> Done | Refused:
        """See `GrantStore.acquire`."""
        update = _Update()
        update.change("attempt_id", _TEXT.encode(lease.attempt_id))
        update.change("lease_until", _INSTANT.encode(lease.until))
        update.change("last_attempt_at", _INSTANT.encode(now))
        at = update.value("now", _INSTANT.encode(now))
        update.require("attribute_exists(pk)")
        update.require_equal("phase", _TEXT.encode(Phase.ACTIVE))
        update.require_equal("attempt_id", None)
        due = f"{update.name('refresh_at')} <= {at}"
        due_at = update.name("due_at")
        in_doubt = f"attribute_exists({update.name('in_doubt')})"
        doubted = f"{in_doubt} AND (attribute_not_exists({due_at}) OR {due_at} <= {at})"
        reasons = [due, f"({doubted})"]
        if isinstance(cause, Rejected):
            update.change("due_at", _INSTANT.encode(now))
            update.change("due_shard", _NUMBER.encode(key.shard))
            reasons.append(f"{update.name('version')} = {update.value('rejected', _NUMBER.encode(cause.version))}")
        update.require(" OR ".join(reasons))
        answer = self._update(key, update, "ALL_NEW")
        return answer if isinstance(answer, Refused) else Done(_decode(answer))

    @_failures
    def write(self, before: Grant, after: Grant, when: When) -> Done | Refused:
        """See `GrantStore.write`."""
        update = _difference(before, after)
        _when(update, when)
        answer = self._update(before.key, update, "NONE")
        return answer if isinstance(answer, Refused) else Done(after)

    def _update(self, key: GrantKey, update: _Update, returned: Literal["ALL_NEW", "NONE"]) -> Refused | Item:
        try:
            answer = self._client.update_item(
                **self._key(key),
                **update.parameters(),
                ReturnValues=returned,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if _is(error, _CONDITION_FAILED):
                return _refused(error)
            raise
        stored: Item = cast("Item", answer).get("Attributes", {})
        return stored

    @_failures
    def postpone(self, key: GrantKey, until: datetime, now: datetime) -> None:
        """See `GrantStore.postpone`."""
        update = _Update()
        update.change("due_at", _INSTANT.encode(until))
        update.require(f"{update.name('due_at')} <= {update.value('now', _INSTANT.encode(now))}")
        try:
            self._client.update_item(**self._key(key), **update.parameters())
        except ClientError as error:
            if not _is(error, _CONDITION_FAILED):
                raise

    # --- beginning and end

    @_failures
    def create(self, grant: Grant) -> Done | Refused | AlreadyHeld:
        """See `GrantRegistry.create`."""
        put = {
            "TableName": self._table,
            "Item": _encode(grant),
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return self._transact({"Put": put}, self._claim(grant)) or Done(grant)

    @_failures
    def replace(self, before: Grant, after: Grant, when: When) -> Done | Refused | AlreadyHeld:
        """See `GrantRegistry.replace`."""
        update = _difference(before, after)
        _when(update, when)
        claim = self._claim(after) if before.profile_id is None else []
        write = {
            **self._key(before.key),
            **update.parameters(),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return self._transact({"Update": write}, claim) or Done(after)

    @_failures
    def delete(self, grant: Grant, when: When) -> Done | Refused:
        """See `GrantRegistry.delete`."""
        update = _Update()
        _when(update, when)
        erase = {
            **self._key(grant.key),
            **update.parameters(update=False),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        release: list[Item] = []
        if grant.profile_id is not None:
            release.append(
                {
                    "Delete": {
                        "TableName": self._table,
                        "Key": {"pk": _TEXT.encode(f"#profile#{grant.profile_id}")},
                        "ConditionExpression": "attribute_not_exists(pk) OR holder = :me",
                        "ExpressionAttributeValues": {":me": _TEXT.encode(str(grant.key))},
                    }
                }
            )
        refused = self._transact({"Delete": erase}, release)
        if isinstance(refused, AlreadyHeld):  # somebody else's claim: not ours to release
            refused = self._transact({"Delete": erase}, [])
        return refused if isinstance(refused, Refused) else Done(grant)

    def _claim(self, grant: Grant) -> list[Item]:
        if grant.profile_id is None:
            return []
        me = _TEXT.encode(str(grant.key))
        return [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": {"pk": _TEXT.encode(f"#profile#{grant.profile_id}"), "holder": me},
                    "ConditionExpression": "attribute_not_exists(pk) OR holder = :me",
                    "ExpressionAttributeValues": {":me": me},
                }
            }
        ]

    def _transact(self, grant: Item, claim: list[Item]) -> Refused | AlreadyHeld | None:
        """Write the grant and its claim together. `None`: done."""
        try:
            self._client.transact_write_items(TransactItems=cast("Any", [grant, *claim]))
        except ClientError as error:
            if not _is(error, _CANCELLED):
                raise
            reasons = cast("Item", error.response).get("CancellationReasons", [])
            codes = [reason.get("Code") for reason in reasons]
            if codes and codes[0] == "ConditionalCheckFailed":
                item = reasons[0].get("Item")
                return Refused(_decode(item) if item else None)
            if "ConditionalCheckFailed" in codes[1:]:
                return AlreadyHeld()
            raise
        return None

    # --- looking for many

    @_failures
    def due(self, shards: Sequence[int], now: datetime, limit: int) -> Sequence[tuple[datetime, GrantKey]]:
        """See `DueIndex.due`."""
        found = (self._due_in(shard, now, limit) for shard in shards)
        return list(heapq.merge(*found))

    def _due_in(self, shard: int, now: datetime, limit: int) -> Iterator[tuple[datetime, GrantKey]]:
        answer = self._client.query(
            TableName=self._table,
            IndexName=DUE_INDEX,
            KeyConditionExpression="due_shard = :shard AND due_at <= :now",
            ExpressionAttributeValues={":shard": _NUMBER.encode(shard), ":now": _INSTANT.encode(now)},
            Limit=limit,
        )
        rows = []
        for item in answer["Items"]:
            tenant, _, grant_id = item["pk"]["S"].partition("#")
            rows.append((from_ms(int(item["due_at"]["N"])), GrantKey(tenant, grant_id)))
        return iter(rows)

    @_failures
    def page(self, tenant: str, limit: int, after: str | None) -> Page:
        """See `GrantList.page`."""
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "IndexName": TENANT_INDEX,
            "KeyConditionExpression": "tenant = :tenant",
            "ExpressionAttributeValues": {":tenant": _TEXT.encode(tenant)},
            "Limit": limit,
        }
        if after is not None:
            query["KeyConditionExpression"] = "tenant = :tenant AND grant_id > :after"
            query["ExpressionAttributeValues"] = {":tenant": _TEXT.encode(tenant), ":after": _TEXT.encode(after)}
        answer = self._client.query(**query)
        rows = [_row(cast("Item", item)) for item in answer["Items"]]
        return Page(rows, rows[-1][0] if rows and "LastEvaluatedKey" in answer else None)
