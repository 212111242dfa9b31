"""Lambda function `sweep`: on duty for most of a minute, it advances whatever is due."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from token_rotator.domain.errors import InvalidInput, WiseSecretUnusable
from token_rotator.domain.grant import SHARDS
from token_rotator.service.breaker import Barred
from token_rotator.telemetry import logger
from token_rotator.wiring.refreshing import wire

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_refreshing = wire()
_SPARE: Final = timedelta(seconds=2)
"""Time for the last lines of a sweep, before Lambda would end it."""


def _shards(event: dict[str, Any]) -> list[int]:
    shards = event.get("shards")
    if isinstance(shards, list) and shards and all(type(s) is int and 0 <= s < SHARDS for s in shards):
        numbers: list[int] = shards
        if len(set(numbers)) == len(numbers):
            return numbers
    raise InvalidInput("shards", f"must be a list of different numbers from 0 to {SHARDS - 1}")


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Sweep the shards that `event` names: `{"shards": [0, 1, …]}`. Gives a summary, for whoever invokes it by hand."""
    shards = _shards(event)
    use, journal = _refreshing.refresh_due, _refreshing.journal
    started = use.clock()
    journal.count("SweepStarted")
    remaining = timedelta(milliseconds=context.get_remaining_time_in_millis())
    duty = min(use.budgets.sweep_duty, remaining - use.budgets.attempt - _SPARE)
    until = started + duty
    barred = None
    try:
        _refreshing.wise.check_credentials()
    except WiseSecretUnusable as error:
        logger.warning("nothing can be refreshed", extra={"code": error.code, "reason": str(error)})
        journal.count("WiseSecretUnusable")
        barred = Barred(until, error.code)
    passed_over = _refreshing.wise.passed_over()
    if passed_over is not None:
        logger.warning("new version of the wise secret cannot be used", extra={"reason": passed_over})
    summary = use(shards, until, barred)
    seconds = (use.clock() - started).total_seconds()
    overdue = summary.oldest_overdue.total_seconds()
    journal.count("SweepFinished")
    journal.count("SweepSeconds", seconds, MetricUnit.Seconds)
    journal.count("OldestOverdueSeconds", overdue, MetricUnit.Seconds)
    journal.count("GrantsAdvanced", summary.advanced)
    journal.count("WiseCalled", summary.calls)
    journal.count("BreakerOpen", int(_refreshing.breaker.is_open))
    journal.count("SuspensionsInForce", summary.suspensions)
    journal.count("HoldsInForce", summary.holds)
    days_left = None if use.certificate is None else use.certificate.days_left()
    if days_left is not None:
        journal.count("CertificateDaysLeft", round(days_left, 3))
    told: dict[str, Any] = {
        "advanced": summary.advanced,
        "refreshed": summary.refreshed,
        "troubled": summary.troubled,
        "looks": summary.looks,
        "calls": summary.calls,
        "set_aside": summary.set_aside,
        "suspensions": summary.suspensions,
        "holds": summary.holds,
        "breaker_open": _refreshing.breaker.is_open,
        "oldest_overdue_s": round(overdue, 3),
        "seconds": round(seconds, 3),
    }
    if barred is not None:
        told["idle_because"] = barred.why
    logger.info("sweep finished", extra=told)
    return told
