"""The metrics that alarms and the dashboard look at: ours, as the functions emit them, and API Gateway's by route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from infra.function import METRICS_NAMESPACE
from infra.token_api import STAGE

if TYPE_CHECKING:
    from aws_cdk import aws_apigateway as apigateway

    from infra.config import DeployConfig


def ours(
    config: DeployConfig,
    name: str,
    service: str,
    statistic: str,
    *,
    minutes: int = 1,
    outcome: str | None = None,
    label: str | None = None,
) -> cloudwatch.Metric:
    """One of the functions' own metrics. CloudWatch adds nothing up over `outcome`: each is a metric of its own."""
    dimensions = {"environment": config.environment, "service": service}
    return cloudwatch.Metric(
        namespace=METRICS_NAMESPACE,
        metric_name=name,
        dimensions_map=dimensions if outcome is None else {**dimensions, "outcome": outcome},
        statistic=statistic,
        period=cdk.Duration.minutes(minutes),
        **_labelled(label),
    )


def of_route(
    api: apigateway.RestApi,
    name: str,
    method: str,
    path: str,
    statistic: str,
    *,
    minutes: int = 1,
    label: str | None = None,
) -> cloudwatch.Metric:
    """API Gateway's metric of one method of one path."""
    return cloudwatch.Metric(
        namespace="AWS/ApiGateway",
        metric_name=name,
        dimensions_map={"ApiName": api.rest_api_name, "Stage": STAGE, "Method": method, "Resource": path},
        statistic=statistic,
        period=cdk.Duration.minutes(minutes),
        **_labelled(label),
    )


def of_schedules(group: str, name: str, *, minutes: int = 5) -> cloudwatch.Metric:
    """EventBridge Scheduler's metric of a group of schedules."""
    return cloudwatch.Metric(
        namespace="AWS/Scheduler",
        metric_name=name,
        dimensions_map={"ScheduleGroup": group},
        statistic="Sum",
        period=cdk.Duration.minutes(minutes),
    )


def _labelled(label: str | None) -> dict[str, Any]:
    return {} if label is None else {"label": label}
