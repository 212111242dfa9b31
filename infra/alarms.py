"""What the grants' own alerts cannot see, watched by CloudWatch.

No composite alarm and no metric math: every alarm watches one metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from infra.function import METRICS_NAMESPACE
from infra.refreshing import SWEEP_TIMEOUT_S
from infra.token_api import REJECTIONS_PATH, STAGE

if TYPE_CHECKING:
    from aws_cdk import aws_sqs as sqs

    from infra.alerts import Alerts
    from infra.config import DeployConfig
    from infra.function import RotatorFunction
    from infra.refreshing import Refreshing
    from infra.token_api import TokenApi

OVERDUE_S: Final = 300
SWEEP_LONG_S: Final = SWEEP_TIMEOUT_S - 2
MANY_REJECTIONS: Final = 100
PARKED_S: Final = 300
STUCK: Final = (3, 10)
"""In how many of how many minutes. One that is settled at the first try is hidden for moments only."""

_MISSING: Final = cloudwatch.TreatMissingData


class Alarms(Construct):
    """All alarms, sent to the alerts topic. Their ids are CamelCase names of what is wrong."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: DeployConfig,
        alerts: Alerts,
        refreshing: Refreshing,
        api: TokenApi,
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._action = actions.SnsAction(alerts.topic)
        self._sweep(config.schedules)
        for function in (refreshing.sweep, refreshing.refresh):
            self._refreshing(function)
        for function in (refreshing.sweep, refreshing.refresh, api.serve, api.admin, api.callback):
            self._function(function)
        self._parked(refreshing.parked)
        self._delivery(alerts, refreshing)
        self._rejections(api)

    def _sweep(self, schedules: int) -> None:
        # Each schedule starts a sweep a minute. A period may see one less; the loss of one schedule among several
        # shows in the failures queue, the scheduler's errors and the throttles.
        for construct_id, metric, what in (
            ("SweepNotRunning", "SweepStarted", "The sweep does not start"),
            ("SweepNotFinishing", "SweepFinished", "The sweep starts but does not finish"),
        ):
            self._alarm(
                construct_id,
                self._metric(metric, "sweep", "Sum", minutes=5),
                f"{what}: no grant is refreshed on schedule.",
                below=3 * schedules,
                missing=_MISSING.BREACHING,
                tell_recovery=True,
            )
        self._alarm(
            "GrantsOverdue",
            self._metric("OldestOverdueSeconds", "sweep", "Maximum", minutes=1),
            f"A grant has been due for more than {OVERDUE_S} s.",
            above=OVERDUE_S,
            missing=_MISSING.IGNORE,
        )
        self._alarm(
            "SweepTooLong",
            self._metric("SweepSeconds", "sweep", "Maximum", minutes=5),
            f"A sweep took more than {SWEEP_LONG_S} s; at {SWEEP_TIMEOUT_S} s it is killed.",
            above=SWEEP_LONG_S,
        )

    def _refreshing(self, function: RotatorFunction) -> None:
        name = function.node.id
        for metric, what in (
            ("StoreRefused", "The table or a key refused the function."),
            ("AnswerLost", "An answer of Wise's could be neither stored nor parked."),
            ("AlertPublishFailed", "An alert could not be published; it stays due."),
            ("WiseSecretUnusable", "The Wise secret is missing, malformed or another environment's."),
        ):
            self._alarm(f"{name}{metric}", self._metric(metric, function.service, "Sum", minutes=5), what, above=0)

    def _function(self, function: RotatorFunction) -> None:
        name, period = function.node.id, cdk.Duration.minutes(5)
        self._alarm(
            f"{name}Errors",
            function.function.metric_errors(period=period),
            f"{name} failed or was killed.",
            above=0,
        )
        self._alarm(
            f"{name}Throttles",
            function.function.metric_throttles(period=period),
            f"Lambda refused to start {name}: the account's or the function's concurrency is used up.",
            above=0,
        )

    def _parked(self, queue: sqs.IQueue) -> None:
        minute = cdk.Duration.minutes(1)
        self._alarm(
            "ParkedAnswersWaiting",
            queue.metric_approximate_age_of_oldest_message(period=minute, statistic="Maximum"),
            f"An answer of Wise's has been parked for more than {PARKED_S} s and no sweep takes it.",
            above=PARKED_S,
        )
        # The age leaves out what was received three times and not removed: exactly what the sweep fails to settle.
        # Such an answer is hidden from the next receiver for half a minute each time, which shows here.
        # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
        self._alarm(
            "ParkedAnswersStuck",
            queue.metric_approximate_number_of_messages_not_visible(period=minute, statistic="Maximum"),
            "The sweep takes a parked answer of Wise's again and again and cannot settle it.",
            above=0,
            of_periods=STUCK,
        )

    def _delivery(self, alerts: Alerts, refreshing: Refreshing) -> None:
        period = cdk.Duration.minutes(5)
        self._alarm(
            "NotificationsFailed",
            alerts.topic.metric_number_of_notifications_failed(period=period, statistic="Sum"),
            "A subscriber of the alerts topic could not be reached.",
            above=0,
        )
        self._alarm(
            "FailuresQueued",
            refreshing.failures.metric_approximate_number_of_messages_visible(period=period, statistic="Maximum"),
            "A start of the sweep failed; the queue holds what was to be started and why it was not.",
            above=0,
        )
        for metric in ("TargetErrorCount", "InvocationDroppedCount"):
            self._alarm(
                f"Schedules{metric}",
                cloudwatch.Metric(
                    namespace="AWS/Scheduler",
                    metric_name=metric,
                    dimensions_map={"ScheduleGroup": refreshing.schedules.ref},
                    statistic="Sum",
                    period=period,
                ),
                "EventBridge Scheduler could not start the sweep.",
                above=0,
            )

    def _rejections(self, api: TokenApi) -> None:
        self._alarm(
            "ManyRejections",
            cloudwatch.Metric(
                namespace="AWS/ApiGateway",
                metric_name="Count",
                dimensions_map={
                    "ApiName": api.api.rest_api_name,
                    "Stage": STAGE,
                    "Method": "POST",
                    "Resource": REJECTIONS_PATH,
                },
                statistic="Sum",
                period=cdk.Duration.minutes(5),
            ),
            "Partner services report many tokens that Wise refuses.",
            above=MANY_REJECTIONS,
        )

    def _metric(self, name: str, service: str, statistic: str, *, minutes: int) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=METRICS_NAMESPACE,
            metric_name=name,
            dimensions_map={"environment": self._config.environment, "service": service},
            statistic=statistic,
            period=cdk.Duration.minutes(minutes),
        )

    def _alarm(
        self,
        construct_id: str,
        metric: cloudwatch.Metric,
        what: str,
        *,
        above: int | None = None,
        below: int = 0,
        of_periods: tuple[int, int] = (1, 1),
        missing: cloudwatch.TreatMissingData = _MISSING.NOT_BREACHING,
        tell_recovery: bool = False,
    ) -> None:
        """An alarm on so many `of_periods`, else on one, `above`, or else `below`, a threshold."""
        operators = cloudwatch.ComparisonOperator
        alarm = metric.create_alarm(
            self,
            construct_id,
            alarm_description=f"Token rotator, {self._config.environment}: {what}",
            comparison_operator=operators.LESS_THAN_THRESHOLD if above is None else operators.GREATER_THAN_THRESHOLD,
            threshold=below if above is None else above,
            datapoints_to_alarm=of_periods[0],
            evaluation_periods=of_periods[1],
            treat_missing_data=missing,
        )
        alarm.add_alarm_action(self._action)
        if tell_recovery:
            alarm.add_ok_action(self._action)
