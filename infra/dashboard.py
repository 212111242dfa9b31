"""One page of CloudWatch that says how the rotator is: what readers feel first, what may be the cause below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra import metrics
from infra.alarms import CERTIFICATE_DAYS, OVERDUE_S, PARKED_S, SWEEP_LONG_S, UNSERVED
from infra.token_api import ACCESS_TOKEN_PATH, REJECTIONS_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.alarms import Alarms
    from infra.alerts import Alerts
    from infra.config import DeployConfig
    from infra.function import RotatorFunction
    from infra.refreshing import Refreshing
    from infra.token_api import TokenApi

OUTCOMES: Final = (
    "refreshed",
    "grant_invalid",
    "not_sent",
    "throttled",
    "client_refused",
    "we_are_wrong",
    "server_fault",
    "unknown",
)
"""What may become of a refresh."""
OPENED_FOR: Final = ("not_sent", "throttled", "client_refused", "we_are_wrong", "server_fault", "unknown")
"""What the breaker may open for: the outcomes that say nothing about a grant."""
SETTLED: Final = ("stored", "late", "known", "overtaken", "gone")
"""What may become of a parked answer."""
LINKED: Final = (
    "arrived",
    "access_denied",
    "link_unknown",
    "link_used",
    "link_expired",
    "code_refused",
    "profile_missing",
    "different_profile",
    "already_held",
    "wise_unavailable",
    "wise_refused",
    "internal_error",
    "suspended",
)
"""How a link may end for the browser."""
EVENTS_TAKEN: Final = ("noted", "known", "test", "other", "unreadable", "old")
"""What may become of an event of Wise's."""
REFRESHING: Final = ("sweep", "refresh")
"""The services that refresh."""

_COLUMNS: Final = 24
_HEIGHT: Final = 6


class Dashboard(Construct):
    """The dashboard. Every number in it is one that an alarm watches, or explains one that does."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: DeployConfig,
        alerts: Alerts,
        refreshing: Refreshing,
        api: TokenApi,
        alarms: Alarms,
        functions: Sequence[RotatorFunction],
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self.board = cloudwatch.Dashboard(self, "Board", default_interval=cdk.Duration.hours(3))
        self._row(self._about(), self._alarms(alarms))
        self._row(*self._readers(api))
        self._row(*self._tokens())
        self._row(*self._refreshes())
        self._row(*self._sweeps(refreshing))
        self._row(*self._breaker())
        self._row(*self._parked(refreshing))
        self._row(*self._links())
        self._row(*self._accounts())
        self._row(*self._people(alerts))
        self._row(*self._functions(functions, refreshing, api))

    def _row(self, *widgets: cloudwatch.IWidget) -> None:
        self.board.add_widgets(*widgets)

    def _about(self) -> cloudwatch.IWidget:
        where = self._config.runbook_base_url
        runbooks = f"[Runbooks]({where.rstrip('/')}/README.md)" if where else "Runbooks: `docs/runbooks`"
        text = (
            f"# Token rotator, {self._config.environment}\n"
            f"{runbooks}, a page for each alarm and each alert. Readers first, then tokens, refreshes, causes. "
            "A line that is missing is a count of zero, but for those of the sweep."
        )
        return cloudwatch.TextWidget(markdown=text, width=_COLUMNS // 3, height=_HEIGHT)

    def _alarms(self, alarms: Alarms) -> cloudwatch.IWidget:
        return cloudwatch.AlarmStatusWidget(title="Alarms", alarms=alarms.all, width=_COLUMNS * 2 // 3, height=_HEIGHT)

    def _readers(self, api: TokenApi) -> list[cloudwatch.IWidget]:
        def gateway(name: str, statistic: str, label: str) -> cloudwatch.Metric:
            return metrics.of_route(api.api, name, "GET", ACCESS_TOKEN_PATH, statistic, label=label)

        def serve(statistic: str, label: str) -> cloudwatch.Metric:
            return api.serve.function.metric_duration(period=cdk.Duration.minutes(1), statistic=statistic, label=label)

        return [
            self._graph(
                "Readers: requests for a token",
                [gateway("Count", "Sum", "asked")],
                right=[
                    gateway("5XXError", "Sum", "503 and other 5xx"),
                    gateway("4XXError", "Sum", "409 and other 4xx"),
                    metrics.of_route(api.api, "Count", "POST", REJECTIONS_PATH, "Sum", label="dead tokens reported"),
                ],
                of=3,
            ),
            self._graph(
                "Readers: share of 5xx",
                [gateway("5XXError", "Average", "share")],
                above=(UNSERVED, "alarm"),
                of=3,
            ),
            self._graph(
                "Readers: latency, ms",
                [
                    gateway("Latency", "p50", "whole, half of them"),
                    gateway("Latency", "p99", "whole, 99 of 100"),
                    gateway("IntegrationLatency", "p99", "function as API Gateway sees it, 99 of 100"),
                    serve("p50", "serve itself, half of its runs"),
                    serve("p99", "serve itself, 99 of 100"),
                ],
                of=3,
            ),
        ]

    def _tokens(self) -> list[cloudwatch.IWidget]:
        def served(name: str, statistic: str, label: str) -> cloudwatch.Metric:
            return metrics.ours(self._config, name, "serve", statistic, label=label)

        return [
            self._graph(
                "Tokens served: age, s",
                [
                    served("TokenAgeSeconds", "p50", "half of them"),
                    served("TokenAgeSeconds", "p99", "99 of 100"),
                    served("TokenAgeSeconds", "Maximum", "oldest"),
                ],
                of=3,
            ),
            self._graph(
                "Tokens served: how many, and degraded",
                [
                    served("TokenDegraded", "SampleCount", "served"),
                    served("TokenDegraded", "Sum", "of these degraded"),
                ],
                right=[
                    metrics.ours(self._config, "ForeignRefresh", service, "Sum", label=f"others' refreshes, {service}")
                    for service in REFRESHING
                ],
                of=3,
            ),
            self._graph(
                "Oldest overdue grant, s",
                [metrics.ours(self._config, "OldestOverdueSeconds", "sweep", "Maximum", label="oldest")],
                above=(OVERDUE_S, "alarm"),
                of=3,
            ),
        ]

    def _refreshes(self) -> list[cloudwatch.IWidget]:
        config = self._config
        by_outcome = [
            self._graph(
                f"Refreshes by outcome: {service}",
                self._by_outcome("RefreshAttempted", service, OUTCOMES),
                stacked=True,
                of=3,
            )
            for service in REFRESHING
        ]
        limit = config.sweep_calls_per_minute + config.demand_calls_per_minute
        calls = self._graph(
            "Calls to Wise a minute",
            [metrics.ours(config, "WiseCalled", service, "Sum", label=service) for service in REFRESHING],
            right=[metrics.ours(config, "DemandBarred", "refresh", "Sum", label="refresh put off")],
            above=(limit, "both lanes together"),
            of=3,
        )
        return [*by_outcome, calls]

    def _sweeps(self, refreshing: Refreshing) -> list[cloudwatch.IWidget]:
        def sweep(name: str, statistic: str, label: str) -> cloudwatch.Metric:
            return metrics.ours(self._config, name, "sweep", statistic, label=label)

        group = refreshing.schedules.ref
        return [
            self._graph(
                "Sweeps a minute",
                [sweep("SweepStarted", "Sum", "started"), sweep("SweepFinished", "Sum", "finished")],
                right=[sweep("GrantsAdvanced", "Sum", "grants advanced")],
                of=3,
            ),
            self._graph(
                "Longest sweep, s", [sweep("SweepSeconds", "Maximum", "longest")], above=(SWEEP_LONG_S, "alarm"), of=3
            ),
            self._graph(
                "Starts that failed",
                [metrics.of_schedules(group, name) for name in ("TargetErrorCount", "InvocationDroppedCount")],
                right=[
                    refreshing.failures.metric_approximate_number_of_messages_visible(
                        period=cdk.Duration.minutes(5), statistic="Maximum", label="in the queue"
                    )
                ],
                of=3,
            ),
        ]

    def _breaker(self) -> list[cloudwatch.IWidget]:
        closed = [
            metrics.ours(self._config, "BreakerClosed", service, "Sum", label=f"closed by {service}")
            for service in REFRESHING
        ]
        opened = [
            self._graph(
                f"Breaker opened by {service}, for what",
                self._by_outcome("BreakerOpened", service, OPENED_FOR),
                stacked=True,
                of=3,
            )
            for service in REFRESHING
        ]
        is_open = self._graph(
            "Breaker: 1 is open, nobody calls Wise",
            [
                metrics.ours(self._config, "BreakerOpen", "sweep", "Maximum", label="open"),
                metrics.ours(self._config, "SuspensionsInForce", "sweep", "Maximum", label="suspensions in force"),
                metrics.ours(self._config, "HoldsInForce", "sweep", "Maximum", label="holds in force"),
            ],
            right=closed,
            of=3,
        )
        return [is_open, *opened]

    def _parked(self, refreshing: Refreshing) -> list[cloudwatch.IWidget]:
        queue, minute = refreshing.parked, cdk.Duration.minutes(1)

        def both(name: str, label: str) -> list[cloudwatch.IMetric]:
            return [
                metrics.ours(self._config, name, service, "Sum", label=f"{label}, {service}") for service in REFRESHING
            ]

        return [
            self._graph(
                "Parked answers: in the queue",
                [
                    queue.metric_approximate_number_of_messages_visible(
                        period=minute, statistic="Maximum", label="waiting"
                    ),
                    queue.metric_approximate_number_of_messages_not_visible(
                        period=minute, statistic="Maximum", label="in a sweep's hands"
                    ),
                ],
                right=[
                    queue.metric_approximate_age_of_oldest_message(
                        period=minute, statistic="Maximum", label="oldest, s"
                    )
                ],
                above=(PARKED_S, "alarm on the age"),
                above_right=True,
                of=3,
            ),
            self._graph(
                "Parked answers: settled, what became of them",
                self._by_outcome("ParkedSettled", "sweep", SETTLED),
                stacked=True,
                of=3,
            ),
            self._graph(
                "Answers of Wise's that were not stored at once",
                [*both("AnswerParked", "parked"), *both("AnswerLate", "late"), *both("AnswerLost", "lost")],
                of=3,
            ),
        ]

    def _links(self) -> list[cloudwatch.IWidget]:
        return [
            self._graph(
                "Links: how they ended for the browser",
                [
                    *self._by_outcome("LinkEnded", "callback", LINKED),
                    metrics.ours(self._config, "LinkLost", "callback", "Sum", label="tokens lost"),
                ],
                of=2,
            ),
            self._graph(
                "Links: codes exchanged, by what Wise answered",
                self._by_outcome("CodeExchanged", "callback", OUTCOMES),
                stacked=True,
                of=2,
            ),
        ]

    def _accounts(self) -> list[cloudwatch.IWidget]:
        return [
            self._graph(
                "Events of Wise's: what became of them",
                [
                    *self._by_outcome("EventTaken", "callback", EVENTS_TAKEN),
                    metrics.ours(self._config, "EventForged", "callback", "Sum", label="not Wise's"),
                ],
                of=2,
            ),
            self._graph(
                "Grants of accounts that Wise closed and opened",
                [
                    metrics.ours(self._config, "UsersDeactivated", "sweep", "Sum", label="suspended"),
                    metrics.ours(self._config, "UsersReactivated", "sweep", "Sum", label="tried again"),
                ],
                of=2,
            ),
        ]

    def _people(self, alerts: Alerts) -> list[cloudwatch.IWidget]:
        period = cdk.Duration.minutes(1)
        return [
            self._graph(
                "Alerts handed to SNS, and those that were not",
                [
                    metrics.ours(self._config, name, service, "Sum", label=f"{label}, {service}")
                    for name, label in (("AlertPublished", "published"), ("AlertPublishFailed", "failed"))
                    for service in REFRESHING
                ],
                of=3,
            ),
            self._graph(
                "Notifications that SNS delivered, and those that it could not",
                [
                    alerts.topic.metric_number_of_notifications_delivered(
                        period=period, statistic="Sum", label="delivered"
                    ),
                    alerts.topic.metric_number_of_notifications_failed(period=period, statistic="Sum", label="failed"),
                ],
                of=3,
            ),
            self._graph(
                "The certificate that Wise demands: days left",
                [metrics.ours(self._config, "CertificateDaysLeft", "sweep", "Minimum", label="days")],
                above=(CERTIFICATE_DAYS, "alarm below"),
                of=3,
            ),
        ]

    def _functions(
        self, functions: Sequence[RotatorFunction], refreshing: Refreshing, api: TokenApi
    ) -> list[cloudwatch.IWidget]:
        period = cdk.Duration.minutes(1)
        return [
            self._graph(
                "Errors by function",
                [one.function.metric_errors(period=period, label=one.service) for one in functions],
                of=3,
            ),
            self._graph(
                "Throttles by function",
                [one.function.metric_throttles(period=period, label=one.service) for one in functions],
                of=3,
            ),
            self._graph(
                "Refused by the table or a key; Wise secret unusable",
                [
                    metrics.ours(self._config, "StoreRefused", one.service, "Sum", label=f"refused, {one.service}")
                    for one in functions
                ],
                right=[
                    metrics.ours(self._config, "WiseSecretUnusable", one.service, "Sum", label=f"secret, {one.service}")
                    for one in (refreshing.sweep, refreshing.refresh, api.callback)
                ],
                of=3,
            ),
        ]

    def _by_outcome(self, name: str, service: str, outcomes: Sequence[str]) -> list[cloudwatch.IMetric]:
        return [
            metrics.ours(self._config, name, service, "Sum", outcome=outcome, label=outcome) for outcome in outcomes
        ]

    def _graph(
        self,
        title: str,
        left: Sequence[cloudwatch.IMetric],
        *,
        of: int,
        right: Sequence[cloudwatch.IMetric] = (),
        stacked: bool = False,
        above: tuple[float, str] | None = None,
        above_right: bool = False,
    ) -> cloudwatch.GraphWidget:
        """One of so many graphs of a row, from zero, with the line above which it is too much."""
        lines = [] if above is None else [cloudwatch.HorizontalAnnotation(value=above[0], label=above[1])]
        from_zero = cloudwatch.YAxisProps(min=0, show_units=False)
        return cloudwatch.GraphWidget(
            title=title,
            left=list(left),
            right=list(right),
            stacked=stacked,
            left_annotations=[] if above_right else lines,
            right_annotations=lines if above_right else [],
            left_y_axis=from_zero,
            right_y_axis=from_zero,
            width=_COLUMNS // of,
            height=_HEIGHT,
        )
