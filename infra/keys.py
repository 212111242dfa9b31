"""The four customer-managed keys, with policies that name who may do what.

The account root administers each key but cannot use the two that seal tokens: no role's own policy, an
administrator's included, lets it decrypt a token. Only a new key policy would, and CloudTrail shows that.
"""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

ADMINISTRATION: Final = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)
"""All of a key's administration; nothing that uses the key or lets others use it by a grant."""


class CustomerKey(Construct):
    """A rotating key that outlives the stack. Nobody may use it until `allow` says so."""

    def __init__(self, scope: Construct, construct_id: str, *, description: str) -> None:
        super().__init__(scope, construct_id)
        self.key = kms.Key(
            self,
            "Key",
            description=description,
            enable_key_rotation=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
            policy=iam.PolicyDocument(
                statements=[
                    iam.PolicyStatement(
                        sid="AdministrationWithoutUse",
                        principals=[iam.AccountRootPrincipal()],
                        actions=list(ADMINISTRATION),
                        resources=["*"],
                    )
                ]
            ),
        )

    @property
    def arn(self) -> str:
        """The key's ARN."""
        return self.key.key_arn

    def allow(self, role: iam.Role, *actions: str, through: str | None = None) -> None:
        """Allow a role to use the key, in the key's policy and in the role's: KMS needs the first.

        `through` names the only service, `dynamodb`, `sqs` or `sns`, that may use the key on the role's behalf.
        """
        conditions = through_service(through) if through else None
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ArnPrincipal(role.role_arn)],
                actions=list(actions),
                resources=["*"],
                conditions=conditions,
            )
        )
        role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=[self.arn], conditions=conditions))

    def allow_account(self, *actions: str, through: str, only_own_grants: bool = False) -> None:
        """Let the account's own policies decide who else may use the key through a service."""
        conditions: dict[str, dict[str, object]] = {**through_service(through)}
        if only_own_grants:
            conditions["Bool"] = {"kms:GrantIsForAWSResource": "true"}
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.AccountRootPrincipal()],
                actions=list(actions),
                resources=["*"],
                conditions=conditions,
            )
        )

    def allow_service(self, service: str, *actions: str, source_arn: str) -> None:
        """Allow an AWS service to use the key on behalf of a resource of this account."""
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service)],
                actions=list(actions),
                resources=["*"],
                conditions={
                    "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                    "ArnLike": {"aws:SourceArn": source_arn},
                },
            )
        )


def through_service(service: str) -> dict[str, dict[str, object]]:
    """The condition that a key is used by a service on behalf of a caller of this account."""
    return {
        "StringEquals": {
            "kms:ViaService": f"{service}.{cdk.Aws.REGION}.amazonaws.com",
            "kms:CallerAccount": cdk.Aws.ACCOUNT_ID,
        }
    }


class Keys(Construct):
    """A key per kind of secret, so that their policies keep the functions apart."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.access_tokens = CustomerKey(self, "AccessTokens", description="Seals Wise access tokens")
        self.refresh_tokens = CustomerKey(
            self, "RefreshTokens", description="Seals Wise refresh tokens and registration codes"
        )
        self.data = CustomerKey(self, "Data", description="Encrypts the grants table and the queues")
        self.alerts = CustomerKey(self, "Alerts", description="Encrypts the alerts topic")

        # Whoever creates, restores or inspects the table or a queue uses their key through them, never directly.
        # DynamoDB keeps its access by a grant that its creator makes.
        # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
        self.data.allow_account(
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:Encrypt",
            "kms:GenerateDataKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
            through="dynamodb",
        )
        self.data.allow_account("kms:CreateGrant", through="dynamodb", only_own_grants=True)
        self.data.allow_account("kms:Decrypt", through="sqs")

        stack = cdk.Stack.of(self)
        # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
        self.alerts.allow_service(
            "cloudwatch.amazonaws.com",
            "kms:Decrypt",
            "kms:GenerateDataKey",
            source_arn=alarm_arns(stack),
        )
        # An on-call queue under this key receives what the topic delivers.
        self.alerts.allow_service(
            "sns.amazonaws.com",
            "kms:Decrypt",
            "kms:GenerateDataKey",
            source_arn=stack.format_arn(service="sns", resource="*"),
        )


def alarm_arns(stack: cdk.Stack) -> str:
    """The pattern of the alarms of the stack's account and region, as CloudWatch names their source."""
    return stack.format_arn(
        service="cloudwatch", resource="alarm", resource_name="*", arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME
    )
