"""Lambda function `refresh`: one grant, now, for `serve`. It answers a word and a version, never a token."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from token_rotator.domain.errors import RotatorError, WiseSecretUnusable
from token_rotator.domain.grant import APPLICATION, GrantKey
from token_rotator.service.breaker import Barred
from token_rotator.service.journal import Trouble
from token_rotator.service.ports import Due, Rejected
from token_rotator.service.refresh_grant import Word
from token_rotator.telemetry import logger
from token_rotator.wiring.refreshing import wire

if TYPE_CHECKING:
    from datetime import datetime

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from token_rotator.service.ports import Cause

_refreshing = wire()
_OUTCOMES: Final = {
    Word.REFRESHED: "refreshed",
    Word.FRESH: "fresh",
    Word.CONFIRMED: "confirmed",
    Word.HELD: "held",
    Word.FAILED: "failed",
    Word.IN_DOUBT: "in_doubt",
    Word.REAUTHORIZATION_REQUIRED: "gone",
    Word.GONE: "gone",
    Word.OVERTAKEN: "fresh",
    Word.BARRED: "barred",
    Word.SUSPENDED: "suspended",
    Word.ON_HOLD: "on_hold",
    Word.SUSPECT: "failed",
}
_UNUSABLE_FOR: Final = timedelta(minutes=1)
_SPARE: Final = timedelta(milliseconds=300)
"""Time for the last lines, before Lambda would end the function."""


def _answer(outcome: str, version: int | None = None, retry_after_s: int | None = None) -> dict[str, Any]:
    return {"outcome": outcome, "version": version, "retry_after_s": retry_after_s}


def _seconds(wait: timedelta) -> int:
    return max(math.ceil(wait.total_seconds()), 1)


def _advanced(key: GrantKey, cause: Cause, until: datetime) -> dict[str, Any]:
    """Refresh one grant before `until`. Raises what the store raises."""
    use = _refreshing.refresh_grant
    try:
        _refreshing.wise.check_credentials()
    except WiseSecretUnusable as error:
        logger.warning("nothing can be refreshed", extra={"code": error.code, "reason": str(error)})
        _refreshing.journal.count("WiseSecretUnusable")
        if not use.needs_no_client(key):
            if isinstance(cause, Due):
                use.stand_down(key, Barred(use.clock() + _UNUSABLE_FOR, error.code))
            return _answer("unusable", retry_after_s=_seconds(_UNUSABLE_FOR))
    result = use(key, cause, alone=True, until=until, lane=_refreshing.demand)
    if result.calls:
        _refreshing.journal.count("WiseCalled", result.calls)
    retry_after_s = None if result.retry_at is None else _seconds(result.retry_at - use.clock())
    logger.info("refresh answered", extra={"outcome": result.word.value, "version": result.version})
    return _answer(_OUTCOMES[result.word], result.version, retry_after_s)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Refresh the grant that `event` names: `{"tenant", "grant_id", "rejected": version or null}`.

    `{"application": true, "rejected": …}` names our application's own token.
    """
    key: GrantKey | None = None
    remaining = timedelta(milliseconds=context.get_remaining_time_in_millis())
    until = _refreshing.refresh_grant.clock() + remaining - _SPARE
    try:
        own = event.get("application") is True
        key = APPLICATION if own else GrantKey.parse(str(event["tenant"]), str(event["grant_id"]))
        rejected = event.get("rejected")
        return _advanced(key, Due() if rejected is None else Rejected(int(rejected)), until)
    except Exception as error:  # noqa: BLE001 - `serve` gets an answer; the error is kept on record
        code = error.code if isinstance(error, RotatorError) else "internal-error"
        _refreshing.journal.record(Trouble(key=key, code=code, detail=type(error).__name__))
        return _answer("failed")
