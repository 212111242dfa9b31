"""What the grants' own alerts cannot see, watched by CloudWatch.

No composite alarm and no metric math: every alarm watches one metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from infra import metrics
from infra.refreshing import SWEEP_TIMEOUT_S
from infra.token_api import ACCESS_TOKEN_PATH, REJECTIONS_PATH

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
CERTIFICATE_DAYS: Final = 7
UNSERVED: Final = 0.1
"""The share of requests for a token that are answered with a 5xx."""
UNSERVED_FOR: Final = (3, 5)
"""In how many of how many minutes. A crash makes one grant unavailable for half a minute, and no more."""
STUCK: Final = (3, 10)
"""In how many of how many minutes. One that is settled at the first try is hidden for moments only."""

REFUSED: Final = "The table or a key refused the function."
UNUSABLE: Final = "The Wise secret is missing, malformed or another environment's."

_MISSING: Final = cloudwatch.TreatMissingData


class Alarms(Construct):
    """All alarms, sent to the alerts topic. Their ids are CamelCase names of what is wrong.

    `all` has each of them, in this order.
    """

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
        self.all: list[cloudwatch.IAlarm] = []
        self._config = config
        self._action = actions.SnsAction(alerts.topic)
        self._sweep(config.schedules)
        for function in (refreshing.sweep, refreshing.refresh):
            self._refreshing(function)
        for function in (refreshing.sweep, refreshing.refresh, api.serve, api.admin, api.callback):
            self._function(function)
        for function in (api.serve, api.admin, api.callback):
            self._own(function, "StoreRefused", REFUSED)
        self._own(api.callback, "WiseSecretUnusable", UNUSABLE)
        self._alarm(
            "CertificateEnding",
            metrics.ours(config, "CertificateDaysLeft", "sweep", "Minimum", minutes=5),
            f"The client certificate that Wise demands ends within {CERTIFICATE_DAYS} days, or has ended.",
            below=CERTIFICATE_DAYS,
        )
        self._own(api.callback, "LinkLost", "The tokens that a user's authorization brought could not be stored.")
        self._parked(refreshing.parked)
        self._delivery(alerts, refreshing)
        self._readers(api)

    def _sweep(self, schedules: int) -> None:
        # Each schedule starts a sweep a minute. A period may see one less; the loss of one schedule among several
        # shows in the failures queue, the scheduler's errors and the throttles.
        for construct_id, metric, what in (
            ("SweepNotRunning", "SweepStarted", "The sweep does not start"),
            ("SweepNotFinishing", "SweepFinished", "The sweep starts but does not finish"),
        ):
            self._alarm(
                construct_id,
                metrics.ours(self._config, metric, "sweep", "Sum", minutes=5),
                f"{what}: no grant is refreshed on schedule.",
                below=3 * schedules,
                missing=_MISSING.BREACHING,
                tell_recovery=True,
            )
        self._alarm(
            "GrantsOverdue",
            metrics.ours(self._config, "OldestOverdueSeconds", "sweep", "Maximum"),
            f"A grant has been due for more than {OVERDUE_S} s.",
            above=OVERDUE_S,
            missing=_MISSING.IGNORE,
        )
        self._alarm(
            "SweepTooLong",
            metrics.ours(self._config, "SweepSeconds", "sweep", "Maximum", minutes=5),
            f"A sweep took more than {SWEEP_LONG_S} s; at {SWEEP_TIMEOUT_S} s it is killed.",
            above=SWEEP_LONG_S,
        )

    def _refreshing(self, function: RotatorFunction) -> None:
        for metric, what in (
            ("StoreRefused", REFUSED),
            ("AnswerLost", "An answer of Wise's could be neither stored nor parked."),
            ("AlertPublishFailed", "An alert could not be published; it stays due."),
            ("WiseSecretUnusable", UNUSABLE),
        ):
            self._own(function, metric, what)

    def _own(self, function: RotatorFunction, metric: str, what: str) -> None:
        """Watch a metric of the function's own for a single one."""
        counted = metrics.ours(self._config, metric, function.service, "Sum", minutes=5)
        self._alarm(f"{function.node.id}{metric}", counted, what, above=0)

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
                metrics.of_schedules(refreshing.schedules.ref, metric),
                "EventBridge Scheduler could not start the sweep.",
                above=0,
            )

    def _readers(self, api: TokenApi) -> None:
        # A 503 is no error of a function: it is answered. So this alone sees that readers go away without a token,
        # whatever the cause. The average of this metric is the share of such answers.
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
        self._alarm(
            "ReadersUnserved",
            metrics.of_route(api.api, "5XXError", "GET", ACCESS_TOKEN_PATH, "Average"),
            f"More than {UNSERVED:.0%} of the requests for a token are answered with 503 or another 5xx.",
            above=UNSERVED,
            of_periods=UNSERVED_FOR,
        )
        self._alarm(
            "ManyRejections",
            metrics.of_route(api.api, "Count", "POST", REJECTIONS_PATH, "Sum", minutes=5),
            "Partner services report many tokens that Wise refuses.",
            above=MANY_REJECTIONS,
        )

    def _alarm(
        self,
        construct_id: str,
        metric: cloudwatch.Metric,
        what: str,
        *,
        above: float | None = None,
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
        self.all.append(alarm)
        alarm.add_alarm_action(self._action)
        if tell_recovery:
            alarm.add_ok_action(self._action)
