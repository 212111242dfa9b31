"""Wise's webhook: events about accounts, signed by Wise and by nobody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from token_rotator.domain.errors import InvalidInput, StoreRefused, StoreUnavailable
from token_rotator.service.take_event import Delivery
from token_rotator.telemetry import logger

from .http import body_of, headers_of, where_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from token_rotator.service.take_event import TakeEvent
    from token_rotator.telemetry import PowertoolsJournal

_DELIVERY: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_RETRY_AFTER_S: Final = 30
"""When Wise may deliver again what could not be kept. It honours the header (docs.wise.com/webhooks-notifications)."""


def take(event: Mapping[str, Any], take_event: TakeEvent, journal: PowertoolsJournal) -> dict[str, Any]:
    """POST /wise/events. Never raises.

    200 for what is Wise's, whatever it says: 5 seconds are all that Wise waits. 403 for anything else, and nothing of
    it is read, kept or logged; it is counted. 503 only where Wise has to deliver again.
    """
    try:
        authentic = take_event(_read(event))
    except InvalidInput:
        authentic = False
    except StoreUnavailable as error:
        if isinstance(error, StoreRefused):
            journal.count("StoreRefused")
        logger.warning("a dependency failed", extra={"code": error.code, "detail": str(error)})
        return _answer(503, {"Retry-After": str(_RETRY_AFTER_S)})
    except Exception as error:  # noqa: BLE001 - Wise delivers it again, and gets no stack trace
        logger.error("request broke", extra={"error_type": type(error).__name__, "where": where_of(error)})
        return _answer(500)
    if not authentic:
        journal.count("EventForged")
    return _answer(200 if authentic else 403)


def _read(event: Mapping[str, Any]) -> Delivery:
    headers = headers_of(event)
    delivery_id = headers.get("x-delivery-id", "")
    return Delivery(
        content=body_of(event),
        signature=headers.get("x-signature-sha256"),
        delivery_id=delivery_id if _DELIVERY.fullmatch(delivery_id) else None,
        is_test=headers.get("x-test-notification", "").lower() == "true",
    )


def _answer(status: int, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    told = {"Cache-Control": "no-store", **(headers or {})}
    return {"statusCode": status, "headers": told, "body": "", "isBase64Encoded": False}
