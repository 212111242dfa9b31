"""What is suspended beyond single grants, in DynamoDB: the item `#suspended` of the grants' table.

| attribute | type | holds |
|---|---|---|
| `pk`, `schema` | S, N | `#suspended`, and the version of its form |
| `environment` | M | the order about everything: `since`, `by`, `reason` |
| `tenant#<tenant>` | M | the order about one tenant |
| `hold`, `hold#<tenant>` | M | the same for orders to serve and not to refresh; `until` in one that was ended |

An order is an attribute of its own, so that giving and ending one is a single write that needs no other to be known.
An order to hold that was ended stays until `forget` finds it over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import SCHEMA
from token_rotator.domain.suspension import Suspensions

from .dynamo_items import INSTANT, NUMBER, SUSPENSION, TEXT, UNREADABLE, Item, failures, is_refused

if TYPE_CHECKING:
    from datetime import datetime

    from types_boto3_dynamodb import DynamoDBClient

    from token_rotator.domain.suspension import Suspension

SUSPENDED: Final = "#suspended"
_ENVIRONMENT: Final = "environment"
_TENANT: Final = "tenant#"
_OURS: Final = "attribute_not_exists(#schema) OR #schema = :schema"
_HOLD: Final = "hold"
_HOLD_TENANT: Final = "hold#"
FORGOTTEN_AT_ONCE: Final = 50
"""How many ended orders one write removes: an expression has at most 4 KB and 300 operators."""


def _decode(item: Item) -> Suspensions:
    """Make the orders of their item. Raises `CorruptGrant` for whatever this version did not write."""
    if not item:
        return Suspensions()
    try:
        if NUMBER.decode(item["schema"]) != SCHEMA:
            msg = "the item of what is suspended has another schema"
            raise CorruptGrant(msg)
        return Suspensions(
            environment=SUSPENSION.decode(item[_ENVIRONMENT]) if _ENVIRONMENT in item else None,
            tenants=_by_tenant(item, _TENANT),
            held_environment=SUSPENSION.decode(item[_HOLD]) if _HOLD in item else None,
            held_tenants=_by_tenant(item, _HOLD_TENANT),
        )
    except UNREADABLE as error:
        msg = f"the item of what is suspended cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


def _by_tenant(item: Item, prefix: str) -> dict[str, Suspension]:
    return {name.removeprefix(prefix): SUSPENSION.decode(item[name]) for name in item if name.startswith(prefix)}


def _hold_of(tenant: str | None) -> str:
    return _HOLD if tenant is None else f"{_HOLD_TENANT}{tenant}"


class DynamoSuspensions:
    """`SuspensionStore` over the table of grants. Safe in threads; the client is as for `DynamoGrants`."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._item: Any = {"TableName": table, "Key": {"pk": TEXT.encode(SUSPENDED)}}

    @failures
    def read(self) -> Suspensions:
        """See `SuspensionReader.read`."""
        return _decode(cast("Item", self._client.get_item(**self._item, ConsistentRead=True).get("Item", {})))

    @failures
    def suspend(self, tenant: str | None, order: Suspension) -> Suspensions:
        """See `SuspensionStore.suspend`."""
        change = "SET #schema = :schema, #order = if_not_exists(#order, :order)"
        return self._changed(tenant, change, {":order": SUSPENSION.encode(order)})

    @failures
    def lift(self, tenant: str | None) -> Suspensions:
        """See `SuspensionStore.lift`."""
        return self._changed(tenant, "SET #schema = :schema REMOVE #order", {})

    @failures
    def hold(self, tenant: str | None, order: Suspension) -> Suspensions:
        """See `SuspensionStore.hold`."""
        change = "SET #schema = :schema, #order = :value"
        free = "attribute_not_exists(#order) OR attribute_exists(#order.#until)"
        return self._held(tenant, change, free, SUSPENSION.encode(order))

    @failures
    def release(self, tenant: str | None, until: datetime) -> Suspensions:
        """See `SuspensionStore.release`."""
        change = "SET #schema = :schema, #order.#until = :value"
        in_force = "attribute_exists(#order) AND attribute_not_exists(#order.#until)"
        return self._held(tenant, change, in_force, INSTANT.encode(until))

    @failures
    def forget(self, before: datetime) -> None:
        """See `SuspensionStore.forget`."""
        ended = self.read().ended(before)[:FORGOTTEN_AT_ONCE]
        if not ended:
            return
        names = {f"#order{number}": _hold_of(tenant) for number, tenant in enumerate(ended)}
        over = [f"{name}.#until < :before" for name in names]
        try:
            self._client.update_item(
                **self._item,
                UpdateExpression=f"REMOVE {', '.join(names)}",
                ConditionExpression=" AND ".join(["#schema = :schema", *over]),
                ExpressionAttributeNames={"#schema": "schema", "#until": "until", **names},
                ExpressionAttributeValues={":schema": NUMBER.encode(SCHEMA), ":before": INSTANT.encode(before)},
            )
        except ClientError as error:
            if not is_refused(error):  # otherwise one was given anew, or somebody was faster: there is a next time
                raise

    def _held(self, tenant: str | None, change: str, condition: str, value: Item) -> Suspensions:
        """Change an order to hold, if it is as it should be; otherwise give what is stored."""
        try:
            answer = self._client.update_item(
                **self._item,
                UpdateExpression=change,
                ConditionExpression=f"({_OURS}) AND ({condition})",
                ExpressionAttributeNames={
                    "#schema": "schema",
                    "#until": "until",
                    "#order": _hold_of(tenant),
                },
                ExpressionAttributeValues={":schema": NUMBER.encode(SCHEMA), ":value": value},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if is_refused(error):
                return self.read()
            raise
        return _decode(cast("Item", answer).get("Attributes", {}))

    def _changed(self, tenant: str | None, change: str, values: Item) -> Suspensions:
        try:
            answer = self._client.update_item(
                **self._item,
                UpdateExpression=change,
                ConditionExpression=_OURS,
                ExpressionAttributeNames={
                    "#schema": "schema",
                    "#order": _ENVIRONMENT if tenant is None else f"{_TENANT}{tenant}",
                },
                ExpressionAttributeValues={":schema": NUMBER.encode(SCHEMA), **values},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if is_refused(error):
                msg = "the item of what is suspended has another schema"
                raise CorruptGrant(msg) from None
            raise
        return _decode(cast("Item", answer).get("Attributes", {}))
