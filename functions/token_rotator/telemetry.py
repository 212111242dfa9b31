"""Logs and metrics: constant event texts with facts as fields, metrics as EMF lines. No token gets near either."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit, single_metric

from .domain.errors import SettingsError
from .domain.grant import GrantKey
from .domain.instants import show_instant
from .service.journal import (
    AlertTold,
    AnswerLate,
    AnswerLost,
    AnswerParked,
    AttemptEnded,
    BreakerClosed,
    BreakerOpened,
    CodeExchanged,
    DemandBarred,
    EventTaken,
    ForeignRefresh,
    LinkEnded,
    LinkLost,
    LinkUnconfirmed,
    ParkedSettled,
    Sent,
    Trouble,
    UserDeactivated,
    UserReactivated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .service.journal import Event

logger = Logger(use_rfc3339=True, utc=True)
"""The one logger. Never give it an event, a body or an exception's text that comes from a provider."""

_CHATTY: Final = ("boto3", "botocore", "urllib3", "requests")
_MESSAGES: Final[dict[type[Any], str]] = {
    Sent: "refresh sent to wise",
    AttemptEnded: "attempt ended",
    AnswerLate: "answer came late",
    ForeignRefresh: "somebody else refreshes this grant",
    AnswerParked: "answer parked",
    ParkedSettled: "parked answer settled",
    AnswerLost: "answer lost, neither store nor queue took it",
    BreakerOpened: "breaker opened",
    BreakerClosed: "breaker closed",
    DemandBarred: "refresh on demand put off",
    AlertTold: "alert handed over",
    CodeExchanged: "code sent to wise",
    LinkEnded: "link came back",
    LinkLost: "tokens of a link lost, no write took them",
    LinkUnconfirmed: "tokens of a link dropped, nobody confirmed it",
    UserDeactivated: "user deactivated by wise",
    UserReactivated: "user reactivated by wise",
    EventTaken: "event from wise taken",
    Trouble: "trouble with a grant",
}


def quiet_libraries() -> None:
    """Keep the SDK and the HTTP library from logging bodies and headers, whatever level the root has.

    At DEBUG botocore logs responses, a data key's plaintext included.
    """
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.INFO)


def audit(message: str, told: Mapping[str, Any]) -> None:
    """Print a line at INFO whatever the level: a record of who was given what is not left out of a quiet log."""
    line = {"name": logger.name, "levelno": logging.INFO, "levelname": "INFO", "msg": message, "funcName": "audit"}
    logger.registered_handler.handle(logging.makeLogRecord({**told, **line}))


def facts(event: object) -> dict[str, Any]:
    """Give an event's fields for a log line: the key as tenant and grant_id, absent ones left out."""
    found = asdict(event)  # type: ignore[call-overload]
    found.pop("key", None)
    key = getattr(event, "key", None)
    if isinstance(key, GrantKey):
        found = {"tenant": key.tenant, "grant_id": key.grant_id, **found}
    shown = {name: show_instant(value) if isinstance(value, datetime) else value for name, value in found.items()}
    return {name: value for name, value in shown.items() if value is not None}


_PLAIN: Final[dict[type[Any], str | None]] = {
    AnswerLate: "AnswerLate",
    AnswerParked: "AnswerParked",
    AnswerLost: "AnswerLost",
    BreakerClosed: "BreakerClosed",
    DemandBarred: "DemandBarred",
    ForeignRefresh: "ForeignRefresh",
    LinkLost: "LinkLost",
    LinkUnconfirmed: None,
    UserDeactivated: "UsersDeactivated",
    UserReactivated: "UsersReactivated",
}
_REFUSALS: Final = ("store-refused", "key-refused")


def _counted(event: Event) -> tuple[str, str | None] | None:  # noqa: PLR0911 - a table's rows
    """Give the metric that counts an event, and its outcome where it has one."""
    match event:
        case Sent(outcome=outcome):
            return "RefreshAttempted", outcome
        case CodeExchanged(outcome=outcome):
            return "CodeExchanged", outcome
        case LinkEnded(result=result):
            return "LinkEnded", result
        case EventTaken(result=result):
            return "EventTaken", result
        case ParkedSettled(result=result):
            return "ParkedSettled", result
        case BreakerOpened(why=why):
            return "BreakerOpened", why
        case AlertTold(code=code):
            return "AlertPublished" if code is None else "AlertPublishFailed", None
        case AttemptEnded(code=code):
            return ("StoreRefused", None) if code == "key-refused" else None
        case Trouble(code=code):
            return ("StoreRefused", None) if code in _REFUSALS else None
        case _:
            name = _PLAIN[type(event)]
            return None if name is None else (name, None)


class PowertoolsJournal:
    """`Journal` over Powertools: one log line an event, and the metrics that the alarms watch.

    Dimensions are environment and service, and the outcome where it says so: tenants and grants are too many.
    """

    def __init__(self, environment: str) -> None:
        """Raise `SettingsError` where Powertools is not told its names: no alarm would see the metrics."""
        for name in ("POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"):
            if not os.environ.get(name):
                msg = f"{name} is not set"
                raise SettingsError(msg)
        self._environment = environment
        self._service = os.environ["POWERTOOLS_SERVICE_NAME"]
        self._lock = threading.Lock()

    def count(
        self, name: str, value: float = 1, unit: MetricUnit = MetricUnit.Count, *, outcome: str | None = None
    ) -> None:
        """Emit one metric value."""
        with self._lock, single_metric(name=name, unit=unit, value=value) as metric:
            metric.add_dimension(name="environment", value=self._environment)
            metric.add_dimension(name="service", value=self._service)
            if outcome is not None:
                metric.add_dimension(name="outcome", value=outcome)

    def count_together(self, values: Mapping[str, tuple[float, MetricUnit]]) -> None:
        """Emit several metric values as one line. Costs some hundredths of a millisecond."""
        told = EphemeralMetrics(service=self._service)
        told.add_dimension(name="environment", value=self._environment)
        for name, (value, unit) in values.items():
            told.add_metric(name=name, unit=unit, value=value)
        with self._lock:
            told.flush_metrics()

    def record(self, event: Event) -> None:
        """See `Journal.record`."""
        serious = isinstance(event, AnswerLost | AnswerParked | BreakerOpened | ForeignRefresh | LinkLost | Trouble)
        serious = serious or (isinstance(event, AlertTold) and event.code is not None)
        log = logger.warning if serious else logger.info
        log(_MESSAGES[type(event)], extra=facts(event))
        counted = _counted(event)
        if counted is not None:
            name, outcome = counted
            self.count(name, outcome=outcome)
