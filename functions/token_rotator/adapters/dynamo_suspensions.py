"""What is suspended beyond single grants, in DynamoDB: the item `#suspended` of the grants' table.

| attribute | type | holds |
|---|---|---|
| `pk`, `schema` | S, N | `#suspended`, and the version of its form |
| `environment` | M | the order about everything: `since`, `by`, `reason` |
| `tenant#<tenant>` | M | the order about one tenant |

An order is an attribute of its own, so that giving and ending one is a single write that needs no other to be known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import SCHEMA
from token_rotator.domain.suspension import Suspensions

from .dynamo_items import NUMBER, SUSPENSION, TEXT, UNREADABLE, Item, failures, is_refused

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from token_rotator.domain.suspension import Suspension

SUSPENDED: Final = "#suspended"
_ENVIRONMENT: Final = "environment"
_TENANT: Final = "tenant#"


def _decode(item: Item) -> Suspensions:
    """Make the orders of their item. Raises `CorruptGrant` for whatever this version did not write."""
    if not item:
        return Suspensions()
    try:
        if NUMBER.decode(item["schema"]) != SCHEMA:
            msg = "the item of what is suspended has another schema"
            raise CorruptGrant(msg)
        environment = SUSPENSION.decode(item[_ENVIRONMENT]) if _ENVIRONMENT in item else None
        tenants = {
            name.removeprefix(_TENANT): SUSPENSION.decode(order)
            for name, order in item.items()
            if name.startswith(_TENANT)
        }
    except UNREADABLE as error:
        msg = f"the item of what is suspended cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None
    return Suspensions(environment=environment, tenants=tenants)


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

    def _changed(self, tenant: str | None, change: str, values: Item) -> Suspensions:
        try:
            answer = self._client.update_item(
                **self._item,
                UpdateExpression=change,
                ConditionExpression="attribute_not_exists(#schema) OR #schema = :schema",
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
