"""One Lambda function of the rotator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.nag import acknowledge, resource_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config import DeployConfig

METRICS_NAMESPACE: Final = "TokenRotator"

RETENTION: Final = {
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    2192: logs.RetentionDays.SIX_YEARS,
    2557: logs.RetentionDays.SEVEN_YEARS,
    2922: logs.RetentionDays.EIGHT_YEARS,
    3288: logs.RetentionDays.NINE_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}
"""CloudWatch's own steps, by their days."""


class RotatorFunction(Construct):
    """A function with a role and a log group of its own. The role may write that log; the rest is said by others.

    The service name, which is also the handler's module and a dimension of its metrics, is the construct's id in
    lower case.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: DeployConfig,
        code: lambda_.Code,
        architecture: lambda_.Architecture,
        timeout_s: int,
        memory_mb: int,
        environment: Mapping[str, str],
        audit: bool = False,
    ) -> None:
        """Make it; `audit` says that its log is kept as long as who was given what is to be known, and after it."""
        super().__init__(scope, construct_id)
        # All functions reckon with the same budgets.
        settle = {} if config.settle_s is None else {"WISE_SETTLE_S": str(config.settle_s)}
        self.service = construct_id.lower()
        self.log_group = logs.LogGroup(
            self,
            "Log",
            retention=RETENTION[config.audit_days] if audit else logs.RetentionDays.THREE_MONTHS,
            removal_policy=cdk.RemovalPolicy.RETAIN if audit else cdk.RemovalPolicy.DESTROY,
        )
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[self.log_group.log_group_arn]
            )
        )
        self.function = lambda_.Function(
            self,
            "Function",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=architecture,
            handler=f"token_rotator.handlers.{self.service}.handler",
            code=code,
            role=self.role,
            log_group=self.log_group,
            timeout=cdk.Duration.seconds(timeout_s),
            memory_size=memory_mb,
            reserved_concurrent_executions=config.reserved_concurrency.get(self.service),
            environment={
                "ROTATOR_ENVIRONMENT": config.environment,
                "POWERTOOLS_SERVICE_NAME": self.service,
                "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
                "POWERTOOLS_LOG_LEVEL": config.log_level,
                **settle,
                **environment,
            },
        )
        # The CDK makes a function depend on its role's policies by naming the role as well, which cfn-lint calls
        # redundant.
        resource = resource_of(self.function)
        resource.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3005"]}})
        acknowledge(
            resource, "L1", "The package is tested on Python 3.13; moving to a later one is a change of its own."
        )
