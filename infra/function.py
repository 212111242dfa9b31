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
    ) -> None:
        super().__init__(scope, construct_id)
        # All functions reckon with the same budgets.
        settle = {} if config.settle_s is None else {"WISE_SETTLE_S": str(config.settle_s)}
        self.service = construct_id.lower()
        self.log_group = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=cdk.RemovalPolicy.DESTROY
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
