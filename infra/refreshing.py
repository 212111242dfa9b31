"""What refreshes the grants: the scheduled sweep, the refresh on demand, and where their failures go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.function import RotatorFunction
from infra.grants_store import DUE_INDEX
from infra.nag import acknowledge, resource_of

if TYPE_CHECKING:
    from infra.alerts import Alerts
    from infra.config import DeployConfig
    from infra.grants_store import GrantsStore
    from infra.keys import Keys

SWEEP_TIMEOUT_S: Final = 70
REFRESH_TIMEOUT_S: Final = 9

# A sweep that did not start within its minute is replaced by the next: retrying it would only run two at once.
# Both the schedule and the function's own asynchronous queue would otherwise retry for hours.
RETRIES: Final = 0
EVENT_AGE_S: Final = 60


class Refreshing(Construct):
    """The two functions that may talk to Wise, the sweep's schedules and the queue of failed invocations."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: DeployConfig,
        code: lambda_.Code,
        architecture: lambda_.Architecture,
        keys: Keys,
        store: GrantsStore,
        alerts: Alerts,
    ) -> None:
        super().__init__(scope, construct_id)
        environment = {
            "GRANTS_TABLE": store.table.table_name,
            "ACCESS_TOKENS_KEY_ARN": keys.access_tokens.arn,
            "REFRESH_TOKENS_KEY_ARN": keys.refresh_tokens.arn,
            "WISE_API_URL": config.wise_api_url,
            "WISE_API_VERSION": config.wise_api_version,
            "WISE_SECRET_NAME": config.wise_secret_name,
            "ALERTS_TOPIC_ARN": alerts.topic.topic_arn,
        }
        optional = {
            "WISE_CA_FILE": config.wise_ca_file,
            "RUNBOOK_BASE_URL": config.runbook_base_url,
        }
        environment |= {name: value for name, value in optional.items() if value is not None}

        self.sweep = RotatorFunction(
            self,
            "Sweep",
            config=config,
            code=code,
            architecture=architecture,
            timeout_s=SWEEP_TIMEOUT_S,
            memory_mb=1024,
            environment=environment,
        )
        self.refresh = RotatorFunction(
            self,
            "Refresh",
            config=config,
            code=code,
            architecture=architecture,
            timeout_s=REFRESH_TIMEOUT_S,
            memory_mb=512,
            environment=environment,
        )
        for function in (self.sweep, self.refresh):
            query = DUE_INDEX if function is self.sweep else None
            store.allow(function.role, "UpdateItem", query=query)
            keys.access_tokens.allow(function.role, "kms:Decrypt", "kms:GenerateDataKey")
            keys.refresh_tokens.allow(function.role, "kms:Decrypt", "kms:GenerateDataKey")
            alerts.allow_publish(function.role)
            function.role.add_to_policy(
                iam.PolicyStatement(
                    actions=["secretsmanager:GetSecretValue"], resources=[self._secret_arn(config.wise_secret_name)]
                )
            )

        self.failures = sqs.Queue(
            self,
            "Failures",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=keys.data.key,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        acknowledge(
            resource_of(self.failures), "SQS3", "It is the queue of failed invocations itself; an alarm watches it."
        )
        self._allow_failures(self.sweep.role, keys)
        lambda_.CfnEventInvokeConfig(
            self,
            "SweepStarts",
            function_name=self.sweep.function.function_name,
            qualifier="$LATEST",
            maximum_retry_attempts=RETRIES,
            maximum_event_age_in_seconds=EVENT_AGE_S,
            destination_config=lambda_.CfnEventInvokeConfig.DestinationConfigProperty(
                on_failure=lambda_.CfnEventInvokeConfig.OnFailureProperty(destination=self.failures.queue_arn)
            ),
        )

        self.schedules = scheduler.CfnScheduleGroup(self, "Schedules")
        for number, shards in enumerate(config.shards):
            self._tick(f"Tick{number}", shards, keys)

    def _tick(self, construct_id: str, shards: tuple[int, ...], keys: Keys) -> None:
        """Start a sweep of these shards each minute."""
        # A role may be confused only from within this group: Scheduler names the group as the source, not the schedule.
        # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
        role = iam.Role(
            self,
            f"{construct_id}Role",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={
                    "StringEquals": {
                        "aws:SourceAccount": cdk.Aws.ACCOUNT_ID,
                        "aws:SourceArn": self.schedules.attr_arn,
                    }
                },
            ),
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self.sweep.function.function_arn])
        )
        self._allow_failures(role, keys)
        schedule = scheduler.CfnSchedule(
            self,
            construct_id,
            group_name=self.schedules.ref,
            schedule_expression="rate(1 minute)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.sweep.function.function_arn,
                role_arn=role.role_arn,
                input=json.dumps({"shards": list(shards)}),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=RETRIES, maximum_event_age_in_seconds=EVENT_AGE_S
                ),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=self.failures.queue_arn),
            ),
        )
        # Scheduler may start it as soon as it exists; the role's policy is a resource of its own.
        schedule.node.add_dependency(role.node.find_child("DefaultPolicy"))

    def _allow_failures(self, role: iam.Role, keys: Keys) -> None:
        role.add_to_policy(iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[self.failures.queue_arn]))
        keys.data.allow(role, "kms:Decrypt", "kms:GenerateDataKey", through="sqs")

    def _secret_arn(self, name: str) -> str:
        """The ARN of a secret known by name: Secrets Manager ends it with a hyphen and six random characters."""
        return cdk.Stack.of(self).format_arn(
            service="secretsmanager",
            resource="secret",
            resource_name=f"{name}-??????",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
