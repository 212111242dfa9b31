"""The topic that on-call subscribes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.keys import alarm_arns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.keys import CustomerKey


class Alerts(Construct):
    """The topic for alerts and alarms, and its e-mail subscribers, who each confirm by a link."""

    def __init__(self, scope: Construct, construct_id: str, *, key: CustomerKey, emails: Sequence[str]) -> None:
        super().__init__(scope, construct_id)
        self._key = key
        self.topic = sns.Topic(self, "Topic", master_key=key.key, enforce_ssl=True)
        # `enforce_ssl` makes a policy of its own, without the default's statement for the account's alarms.
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                    "ArnLike": {"aws:SourceArn": alarm_arns(cdk.Stack.of(self))},
                },
            )
        )
        for email in emails:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))

    def allow_publish(self, role: iam.Role) -> None:
        """Allow a role to publish to the topic, which takes its key too."""
        role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[self.topic.topic_arn]))
        self._key.allow(role, "kms:Decrypt", "kms:GenerateDataKey", through="sns")
