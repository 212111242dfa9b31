"""What refreshes the grants: the scheduled sweep, the refresh on demand, and the queues of what did not go through."""

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

QUEUE_DAYS: Final = 14
"""As long as SQS keeps anything."""
PARKED_HIDDEN_S: Final = 30
"""How long a parked answer that one sweep took stays hidden from the others, unless it is removed."""


class Refreshing(Construct):
    """The two functions that may talk to Wise, the sweep's schedules and the two queues.

    `Parked` holds answers of Wise's that no write took in time; `Failures` holds starts of the sweep that failed.
    """

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
        self.parked = self._queue("Parked", keys, hidden_s=PARKED_HIDDEN_S)
        acknowledge(
            resource_of(self.parked),
            "SQS3",
            "An answer is removed only once it was stored or provably overtaken: moved aside after some tries it would "
            "be lost. The sweep tries again for as long as SQS keeps it, and an alarm watches what stays.",
        )
        self.failures = self._queue("Failures", keys)
        acknowledge(
            resource_of(self.failures), "SQS3", "It is the queue of failed invocations itself; an alarm watches it."
        )

        environment = {
            "GRANTS_TABLE": store.table.table_name,
            "ACCESS_TOKENS_KEY_ARN": keys.access_tokens.arn,
            "REFRESH_TOKENS_KEY_ARN": keys.refresh_tokens.arn,
            "WISE_API_URL": config.wise_api_url,
            "WISE_API_VERSION": config.wise_api_version,
            "WISE_SECRET_NAME": config.wise_secret_name,
            "ALERTS_TOPIC_ARN": alerts.topic.topic_arn,
            "PARKED_QUEUE_URL": self.parked.queue_url,
            "SWEEP_CALLS_PER_MINUTE": str(config.sweep_calls_per_minute),
            "DEMAND_CALLS_PER_MINUTE": str(config.demand_calls_per_minute),
            "REMIND_AFTER_H": str(config.remind_after_h),
            "MANY_GRANTS_DYING": str(config.many_grants_dying),
        }
        optional = {
            "WISE_CLIENT_ID": config.wise_client_id,
            "WISE_CA_FILE": config.wise_ca_file,
            "WISE_MTLS": "true" if config.wise_mtls else None,
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
            store.allow(function.role, "GetItem", "UpdateItem", query=query)
            # The sweep drops what nobody confirmed, unread.
            of_links = ("GetItem",) if function is self.sweep else ("GetItem", "UpdateItem")
            store.deny_reserved(function.role, {"#link#": ("GetItem", "UpdateItem"), "#pending#": of_links})
            keys.access_tokens.allow(function.role, "kms:Decrypt", "kms:GenerateDataKey")
            keys.refresh_tokens.allow(function.role, "kms:Decrypt", "kms:GenerateDataKey")
            alerts.allow_publish(function.role)
            function.role.add_to_policy(
                iam.PolicyStatement(
                    actions=["secretsmanager:GetSecretValue"], resources=[secret_arn(self, config.wise_secret_name)]
                )
            )
        # Both park answers; the sweep alone takes them out and settles them.
        _allow(self.refresh.role, self.parked, keys, "SendMessage")
        _allow(
            self.sweep.role,
            self.parked,
            keys,
            "SendMessage",
            "ReceiveMessage",
            "DeleteMessage",
            "GetQueueAttributes",
        )
        _allow(self.sweep.role, self.failures, keys, "SendMessage")
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
        _allow(role, self.failures, keys, "SendMessage")
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

    def _queue(self, construct_id: str, keys: Keys, *, hidden_s: int | None = None) -> sqs.Queue:
        return sqs.Queue(
            self,
            construct_id,
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=keys.data.key,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(QUEUE_DAYS),
            visibility_timeout=None if hidden_s is None else cdk.Duration.seconds(hidden_s),
        )


def secret_arn(scope: Construct, name: str) -> str:
    """The ARN of a secret known by name: Secrets Manager ends it with a hyphen and six random characters."""
    return cdk.Stack.of(scope).format_arn(
        service="secretsmanager",
        resource="secret",
        resource_name=f"{name}-??????",
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _allow(role: iam.Role, queue: sqs.Queue, keys: Keys, *operations: str) -> None:
    """Allow operations on a queue. Who sends to one under a customer key, or receives from it, needs the key too."""
    role.add_to_policy(
        iam.PolicyStatement(actions=[f"sqs:{operation}" for operation in operations], resources=[queue.queue_arn])
    )
    keys.data.allow(role, "kms:Decrypt", "kms:GenerateDataKey", through="sqs")
