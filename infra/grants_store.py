"""The table of grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.keys import CustomerKey

DUE_INDEX: Final = "due"
TENANT_INDEX: Final = "tenant"

EXPIRY: Final = "expire_at"
"""When DynamoDB may drop an item, in epoch seconds; grants never have it."""

KEY: Final = "pk"

LEADING_KEYS: Final = "dynamodb:LeadingKeys"
"""The key of the item that a request is about. A denial asks whether any matches: all of none would be denied too."""
ATTRIBUTES: Final = "dynamodb:Attributes"
RETURN_VALUES: Final = "dynamodb:ReturnValues"
_WRITES: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem"})


class Reserved(NamedTuple):
    """What may be done to the reserved items of a kind.

    `updated`: the attributes that an `UpdateItem` names, to change them or in a condition. `shown`: whether it may have
    the whole item shown.
    """

    operations: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    shown: bool = False


class GrantsStore(Construct):
    """The table, kept and protected from deletion, with its two indexes.

    `due` finds what has to happen next (partition `due_shard`, sort `due_at` in epoch milliseconds); an item without
    these is not in it. `tenant` lists a tenant's grants.
    """

    def __init__(self, scope: Construct, construct_id: str, *, key: CustomerKey) -> None:
        super().__init__(scope, construct_id)
        self._key = key
        self.table = dynamodb.Table(
            self,
            "Grants",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute=EXPIRY,
            deletion_protection=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        self.table.add_global_secondary_index(
            index_name=DUE_INDEX,
            partition_key=dynamodb.Attribute(name="due_shard", type=dynamodb.AttributeType.NUMBER),
            sort_key=dynamodb.Attribute(name="due_at", type=dynamodb.AttributeType.NUMBER),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        self.table.add_global_secondary_index(
            index_name=TENANT_INDEX,
            partition_key=dynamodb.Attribute(name="tenant", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="grant_id", type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=["phase", "created_at"],
        )

    def allow(self, role: iam.Role, *operations: str, query: str | None = None) -> None:
        """Allow operations on items (`GetItem`, …) and, with `query`, to query one index.

        The caller of a table under a customer key needs the key too, a writer more of it than a reader.
        """
        self._allow(role, operations, None)
        if query:
            role.add_to_policy(
                iam.PolicyStatement(actions=["dynamodb:Query"], resources=[f"{self.table.table_arn}/index/{query}"])
            )
        writes = ("kms:Encrypt", "kms:GenerateDataKey") if _WRITES & set(operations) else ()
        self._key.allow(role, "kms:Decrypt", *writes, through="dynamodb")

    def allow_reserved(self, role: iam.Role, items: Mapping[str, Reserved]) -> None:
        """Allow operations on some reserved items only: those whose key begins with the name that they are given by.

        An update may name no other attributes than these and the key, in none of its expressions, alone or in a
        transaction. For all values of none anything holds, so a condition's keys have to be there.
        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
        """
        for prefix, allowed in items.items():
            leading = {"ForAllValues:StringLike": {LEADING_KEYS: [f"{prefix}*"]}}
            if allowed.operations:
                self._allow(role, allowed.operations, {**leading, "Null": {LEADING_KEYS: "false"}})
            if allowed.updated:
                conditions: dict[str, object] = {
                    **leading,
                    "ForAllValues:StringEquals": {ATTRIBUTES: [KEY, *allowed.updated]},
                    "Null": {LEADING_KEYS: "false", ATTRIBUTES: "false"},
                }
                if not allowed.shown:
                    conditions["StringEqualsIfExists"] = {RETURN_VALUES: ["NONE", "UPDATED_OLD", "UPDATED_NEW"]}
                self._allow(role, ["UpdateItem"], conditions)
        self._key.allow(role, "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", through="dynamodb")

    def deny_reserved(self, role: iam.Role, operations: Mapping[str, Sequence[str]]) -> None:
        """Deny operations on some reserved items, though they are allowed on the table."""
        for prefix, denied in operations.items():
            self._deny(role, denied, {"ForAnyValue:StringLike": {LEADING_KEYS: [f"{prefix}*"]}})

    def deny_reserved_but(self, role: iam.Role, keys: Sequence[str], *operations: str) -> None:
        """Deny operations on all reserved items but these, so that what is reserved in future is denied as well."""
        others = {
            "ForAnyValue:StringLike": {LEADING_KEYS: ["#*"]},
            "ForAnyValue:StringNotEquals": {LEADING_KEYS: list(keys)},
        }
        self._deny(role, operations, others)

    def _deny(self, role: iam.Role, operations: Sequence[str], conditions: Mapping[str, object]) -> None:
        role.add_to_policy(
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=[f"dynamodb:{operation}" for operation in operations],
                resources=[self.table.table_arn],
                conditions=conditions,
            )
        )

    def _allow(self, role: iam.Role, operations: Sequence[str], conditions: Mapping[str, object] | None) -> None:
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[f"dynamodb:{operation}" for operation in operations],
                resources=[self.table.table_arn],
                conditions=conditions,
            )
        )
