"""Grants in DynamoDB: one item a grant, every write conditional, every read of a grant consistent.

| attribute | type | holds |
|---|---|---|
| `pk` | S | `tenant#grant_id`; reserved items begin with `#` |
| `tenant`, `grant_id` | S | the key of the index `tenant`; absent from the application's own item |
| sealed fields | B | the sealed value |
| instants | N | epoch milliseconds |
| `alert`, `suspension`, `on_hold` | M | their fields |
| `due_shard`, `due_at` | N | the key of the index `due`; both absent when nothing is to happen any more |

A grant's claim of a Wise profile is the item `#profile#<profile_id>` with the attribute `holder`. The grants of a Wise
user are the set `holders` of the item `#user#<wise_user_id>`: nothing keeps a user from having several. Those that are
`unlisted` are not in it.
"""

from __future__ import annotations

import heapq
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import APPLICATION, SCHEMA, Grant, GrantKey, GrantKind, Phase
from token_rotator.domain.state_change import has_room
from token_rotator.service.ports import IGNORED, AlreadyHeld, Done, Page, Refused, Rejected, When

from .dynamo_items import (
    ALERT,
    FLAG,
    INSTANT,
    NUMBER,
    SEALED,
    SUSPENSION,
    TEXT,
    UNREADABLE,
    Codec,
    Item,
    Update,
    failures,
    from_ms,
    is_refused,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef

    from token_rotator.domain.lease import Lease
    from token_rotator.service.ports import Cause

DUE_INDEX: Final = "due"
TENANT_INDEX: Final = "tenant"
PENDING: Final = "#pending#"
"""What the items of a link's tokens begin with; `dynamo_links` writes them."""
PROFILE: Final = "#profile#"
"""What the claims of Wise profiles begin with."""
HOLDER: Final = "holder"
USER: Final = "#user#"
"""What the lists of Wise users' grants begin with."""
HOLDERS: Final = "holders"
_CANCELLED: Final = "TransactionCanceledException"

_CODECS: Final[dict[str, Codec]] = {
    "phase": Codec("S", str, Phase),
    "refresh_token": SEALED,
    "version": NUMBER,
    "refresh_at": INSTANT,
    "created_at": INSTANT,
    "access_token": SEALED,
    "registration": SEALED,
    "registration_spent_at": INSTANT,
    "issued_at": INSTANT,
    "expires_at": INSTANT,
    "refresh_expires_at": INSTANT,
    "expiry_told": INSTANT,
    "authorized_at": INSTANT,
    "scope": TEXT,
    "attempt_id": TEXT,
    "lease_until": INSTANT,
    "in_doubt": TEXT,
    "hold_until": INSTANT,
    "due_at": INSTANT,
    "failures": NUMBER,
    "takeovers": NUMBER,
    "last_error": TEXT,
    "last_attempt_at": INSTANT,
    "alert": ALERT,
    "suspended_from": Codec("S", str, Phase),
    "suspension": SUSPENSION,
    "profile_id": TEXT,
    "wise_user_id": TEXT,
    "unproven": FLAG,
    "unlisted": FLAG,
    "kind": Codec("S", str, GrantKind),
    "replace_at": INSTANT,
    "on_hold": SUSPENSION,
    "user_rank": NUMBER,
    "profile_rank": NUMBER,
    "foreign_at": INSTANT,
}
"""How each field of a grant is stored, under its own name."""


def _decode(item: Mapping[str, AttributeValueTypeDef]) -> Grant:
    """Make a grant of an item. Raises `CorruptGrant` for whatever this version did not write."""
    stored = cast("Item", item)
    try:
        if NUMBER.decode(stored["schema"]) != SCHEMA:
            msg = "the item has another schema"
            raise CorruptGrant(msg)
        pk = TEXT.decode(stored["pk"])
        if pk == str(APPLICATION):
            key = APPLICATION
        else:
            key = GrantKey(TEXT.decode(stored["tenant"]), TEXT.decode(stored["grant_id"]))
        if str(key) != pk:
            msg = "the item lies under another key"
            raise CorruptGrant(msg)
        return Grant(key=key, **{name: codec.decode(stored[name]) for name, codec in _CODECS.items() if name in stored})
    except UNREADABLE as error:
        msg = f"the item cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


def _row(item: Item) -> tuple[str, str, datetime]:
    """Read what the index `tenant` holds of a grant. Raises `CorruptGrant`."""
    try:
        return (
            TEXT.decode(item["grant_id"]),
            TEXT.decode(item["phase"]),
            INSTANT.decode(item["created_at"]),
        )
    except UNREADABLE as error:
        msg = f"the index cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


def holders_of(item: Item | None) -> frozenset[GrantKey]:
    """Read whose the grants are that an account's item names. Raises `CorruptGrant`."""
    claim = item or {}
    try:
        names = [TEXT.decode(claim[HOLDER])] if HOLDER in claim else []
        if HOLDERS in claim:
            names = claim[HOLDERS]["SS"]
        return frozenset(GrantKey(*name.split("#")) for name in names)
    except UNREADABLE as error:
        msg = f"the claim of an account cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


def _encode(grant: Grant) -> Item:
    item: Item = {"pk": TEXT.encode(grant.key), "schema": NUMBER.encode(SCHEMA)}
    if grant.key != APPLICATION:  # an index takes no empty key, and this one is in no tenant's list
        item |= {"tenant": TEXT.encode(grant.key.tenant), "grant_id": TEXT.encode(grant.key.grant_id)}
    for name, codec in _CODECS.items():
        value = getattr(grant, name)
        if value is not None:
            item[name] = codec.encode(value)
    if grant.due_at is not None:
        item["due_shard"] = NUMBER.encode(grant.key.shard)
    return item


def _when(update: Update, when: When) -> None:
    update.require("attribute_exists(pk)")
    for field in fields(when):
        wanted = getattr(when, field.name)
        if wanted is not IGNORED:
            update.require_equal(field.name, None if wanted is None else _CODECS[field.name].encode(wanted))


def _difference(before: Grant, after: Grant) -> Update:
    update = Update()
    for name, codec in _CODECS.items():
        value = getattr(after, name)
        if value != getattr(before, name):
            update.change(name, None if value is None else codec.encode(value))
            if name == "due_at":
                update.change("due_shard", None if value is None else NUMBER.encode(after.key.shard))
    return update


def _listed_for(grant: Grant | None) -> str | None:
    """Name the Wise user for whom a grant is listed."""
    return None if grant is None or grant.unlisted else grant.wise_user_id


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
        return {"TableName": self._table, "Key": {"pk": TEXT.encode(str(key))}}

    @failures
    def get(self, key: GrantKey) -> Grant | None:
        """See `GrantReader.get`."""
        item = self._client.get_item(**self._key(key), ConsistentRead=True).get("Item")
        return _decode(item) if item else None

    @failures
    def acquire(self, key: GrantKey, lease: Lease, cause: Cause, now: datetime) -> Done | Refused:
        """See `GrantStore.acquire`."""
        update = Update()
        update.change("attempt_id", TEXT.encode(lease.attempt_id))
        update.change("lease_until", INSTANT.encode(lease.until))
        update.change("last_attempt_at", INSTANT.encode(now))
        at = update.value("now", INSTANT.encode(now))
        update.require("attribute_exists(pk)")
        update.require_equal("phase", TEXT.encode(Phase.ACTIVE))
        update.require_equal("attempt_id", None)
        due = f"({update.name('refresh_at')} <= {at} AND attribute_not_exists({update.name('on_hold')}))"
        due_at = update.name("due_at")
        in_doubt = f"attribute_exists({update.name('in_doubt')})"
        doubted = f"{in_doubt} AND (attribute_not_exists({due_at}) OR {due_at} <= {at})"
        reasons = [due, f"({doubted})"]
        if isinstance(cause, Rejected):
            update.change("due_at", INSTANT.encode(now))
            update.change("due_shard", NUMBER.encode(key.shard))
            reasons.append(f"{update.name('version')} = {update.value('rejected', NUMBER.encode(cause.version))}")
        update.require(" OR ".join(reasons))
        answer = self._update(key, update, "ALL_NEW")
        return answer if isinstance(answer, Refused) else Done(_decode(answer))

    @failures
    def write(self, before: Grant, after: Grant, when: When) -> Done | Refused:
        """See `GrantStore.write`."""
        update = _difference(before, after)
        _when(update, when)
        answer = self._update(before.key, update, "NONE")
        return answer if isinstance(answer, Refused) else Done(after)

    def _update(self, key: GrantKey, update: Update, returned: Literal["ALL_NEW", "NONE"]) -> Refused | Item:
        try:
            answer = self._client.update_item(
                **self._key(key),
                **update.parameters(),
                ReturnValues=returned,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if is_refused(error):
                return _refused(error)
            raise
        stored: Item = cast("Item", answer).get("Attributes", {})
        return stored

    @failures
    def postpone(self, key: GrantKey, until: datetime, now: datetime) -> None:
        """See `GrantStore.postpone`."""
        update = Update()
        update.change("due_at", INSTANT.encode(until))
        update.require(f"{update.name('due_at')} <= {update.value('now', INSTANT.encode(now))}")
        self._try(key, update)

    @failures
    def stand_down(self, key: GrantKey, until: datetime, now: datetime, code: str) -> None:
        """See `GrantStore.stand_down`."""
        update = Update()
        update.change("refresh_at", INSTANT.encode(until))
        update.change("last_error", TEXT.encode(code))
        update.require_equal("phase", TEXT.encode(Phase.ACTIVE))
        update.require_equal("attempt_id", None)
        update.require_equal("in_doubt", None)
        at = update.value("now", INSTANT.encode(now))
        update.require(f"{update.name('refresh_at')} <= {at} AND {update.name('expires_at')} > {at}")
        self._try(key, update)

    @failures
    def begin(self, grant: Grant) -> None:
        """See `GrantStore.begin`. An update, since nobody who refreshes may put an item."""
        update = Update()
        for name, value in _encode(grant).items():
            if name != "pk":
                update.change(name, value)
        update.require("attribute_not_exists(pk)")
        self._try(grant.key, update)

    @failures
    def doubt(self, key: GrantKey, attempt_id: str, due_at: datetime) -> None:
        """See `Doubts.doubt`."""
        update = Update()
        update.change("in_doubt", TEXT.encode(attempt_id))
        update.change("due_at", INSTANT.encode(due_at))
        update.change("due_shard", NUMBER.encode(key.shard))
        update.add("version", NUMBER.encode(1))
        update.require("attribute_exists(pk)")
        issued_at, until = update.name("issued_at"), update.value("until", INSTANT.encode(due_at))
        update.require(f"attribute_not_exists({issued_at}) OR {issued_at} <= {until}")
        self._try(key, update)

    def _try(self, key: GrantKey, update: Update) -> None:
        """Carry out an update whose condition may as well not hold."""
        try:
            self._client.update_item(**self._key(key), **update.parameters())
        except ClientError as error:
            if not is_refused(error):
                raise

    # --- beginning and end

    @failures
    def create(self, grant: Grant, link: str | None = None) -> Done | Refused | AlreadyHeld:
        """See `GrantRegistry.create`."""
        grant = self._placed(grant)
        put = {
            "TableName": self._table,
            "Item": _encode(grant),
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        claims = [*self._claim(grant), *self._listed(None, grant)]
        return self._transact({"Put": put}, claims, self._spent(link, grant)) or Done(grant)

    @failures
    def replace(self, before: Grant, after: Grant, when: When, link: str | None = None) -> Done | Refused | AlreadyHeld:
        """See `GrantRegistry.replace`."""
        after = self._placed(after)
        update = _difference(before, after)
        _when(update, when)
        claims = [*(self._claim(after) if before.profile_id is None else []), *self._listed(before, after)]
        write = {
            **self._key(before.key),
            **update.parameters(),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return self._transact({"Update": write}, claims, self._spent(link, after)) or Done(after)

    @failures
    def delete(self, grant: Grant, when: When) -> Done | Refused:
        """See `GrantRegistry.delete`."""
        update = Update()
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
                        "Key": {"pk": TEXT.encode(f"{PROFILE}{grant.profile_id}")},
                        "ConditionExpression": "attribute_not_exists(pk) OR holder = :me",
                        "ExpressionAttributeValues": {":me": TEXT.encode(str(grant.key))},
                    }
                }
            )
        only, one_of = self._only_of_user(grant), self._listed(grant, None)
        # Where others are of the user as well the list stays; somebody else's claim is not ours to release.
        refused = self._transact({"Delete": erase}, [*release, *only], [])
        for releases in ([*release, *one_of], one_of):
            if isinstance(refused, AlreadyHeld):
                refused = self._transact({"Delete": erase}, releases, [])
        return refused if isinstance(refused, Refused) else Done(grant)

    def _claim(self, grant: Grant) -> list[Item]:
        if grant.profile_id is None:
            return []
        me = TEXT.encode(str(grant.key))
        return [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": {"pk": TEXT.encode(f"{PROFILE}{grant.profile_id}"), HOLDER: me},
                    "ConditionExpression": "attribute_not_exists(pk) OR holder = :me",
                    "ExpressionAttributeValues": {":me": me},
                }
            }
        ]

    def _placed(self, grant: Grant) -> Grant:
        """Say of a grant whether it is listed for its user, by what is listed now.

        It is no condition of the write: a list that others have filled must not make that fail.
        """
        listed = grant.wise_user_id is None or has_room(self._of_user(grant.wise_user_id), grant.key)
        return replace(grant, unlisted=not listed)

    def _of_user(self, wise_user_id: str) -> frozenset[GrantKey]:
        answer = self._client.get_item(**self._user(wise_user_id), ConsistentRead=True)
        return holders_of(cast("Item", answer).get("Item"))

    def _listed(self, before: Grant | None, after: Grant | None) -> list[Item]:
        """List a grant among those of its user, and no longer among those of another. No condition is in it."""
        was, now = _listed_for(before), _listed_for(after)
        grant = after or before
        changes = [("ADD", now)] if now is not None else []
        changes += [("DELETE", was)] if was not in (None, now) else []
        return [
            {
                "Update": {
                    **self._user(user),
                    "UpdateExpression": f"{verb} {HOLDERS} :me",
                    "ExpressionAttributeValues": {":me": {"SS": [str(grant and grant.key)]}},
                }
            }
            for verb, user in changes
        ]

    def _only_of_user(self, grant: Grant) -> list[Item]:
        """Forget a user of whom no other grant is."""
        user = _listed_for(grant)
        if user is None:
            return []
        return [
            {
                "Delete": {
                    **self._user(user),
                    "ConditionExpression": f"attribute_not_exists({HOLDERS}) OR {HOLDERS} = :me",
                    "ExpressionAttributeValues": {":me": {"SS": [str(grant.key)]}},
                }
            }
        ]

    def _user(self, wise_user_id: str | None) -> Item:
        return {"TableName": self._table, "Key": {"pk": TEXT.encode(f"{USER}{wise_user_id}")}}

    def _spent(self, link: str | None, grant: Grant) -> list[Item]:
        if link is None:
            return []
        return [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": {"pk": TEXT.encode(f"{PENDING}{link}")},
                    "UpdateExpression": "SET confirmed_version = :version "
                    "REMOVE access_token, refresh_token, due_at, due_shard",
                    "ConditionExpression": "attribute_exists(refresh_token)",
                    "ExpressionAttributeValues": {":version": NUMBER.encode(grant.version)},
                }
            }
        ]

    def _transact(self, grant: Item, claim: list[Item], spent: list[Item]) -> Refused | AlreadyHeld | None:
        """Write the grant and its claim together, and spend a link's tokens. `None`: done."""
        try:
            self._client.transact_write_items(TransactItems=cast("Any", [grant, *claim, *spent]))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != _CANCELLED:
                raise
            reasons = cast("Item", error.response).get("CancellationReasons", [])
            codes = [reason.get("Code") for reason in reasons]
            if codes and codes[0] == "ConditionalCheckFailed":
                item = reasons[0].get("Item")
                return Refused(_decode(item) if item else None)
            if "ConditionalCheckFailed" in codes[1 + len(claim) :]:
                return Refused(None)  # the link's tokens are spent
            if "ConditionalCheckFailed" in codes[1:]:
                return AlreadyHeld()
            raise
        return None

    # --- looking for many

    @failures
    def due(self, shards: Sequence[int], now: datetime, limit: int) -> Sequence[tuple[datetime, GrantKey]]:
        """See `DueIndex.due`."""
        found = (self._due_in(shard, now, limit) for shard in shards)
        return list(heapq.merge(*found))

    def _due_in(self, shard: int, now: datetime, limit: int) -> Iterator[tuple[datetime, GrantKey]]:
        answer = self._client.query(
            TableName=self._table,
            IndexName=DUE_INDEX,
            KeyConditionExpression="due_shard = :shard AND due_at <= :now",
            ExpressionAttributeValues={":shard": NUMBER.encode(shard), ":now": INSTANT.encode(now)},
            Limit=limit,
        )
        rows = []
        for item in answer["Items"]:
            tenant, _, grant_id = item["pk"]["S"].partition("#")
            rows.append((from_ms(int(item["due_at"]["N"])), GrantKey(tenant, grant_id)))
        return iter(rows)

    @failures
    def page(self, tenant: str, limit: int, after: str | None) -> Page:
        """See `GrantList.page`."""
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "IndexName": TENANT_INDEX,
            "KeyConditionExpression": "tenant = :tenant",
            "ExpressionAttributeValues": {":tenant": TEXT.encode(tenant)},
            "Limit": limit,
        }
        if after is not None:
            query["KeyConditionExpression"] = "tenant = :tenant AND grant_id > :after"
            query["ExpressionAttributeValues"] = {":tenant": TEXT.encode(tenant), ":after": TEXT.encode(after)}
        answer = self._client.query(**query)
        rows = [_row(cast("Item", item)) for item in answer["Items"]]
        return Page(rows, rows[-1][0] if rows and "LastEvaluatedKey" in answer else None)
