"""Instants as text: ISO 8601, aware, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{0,9}))?(Z|[+-]\d\d:?\d\d)", re.ASCII)


def parse_instant(text: object) -> datetime | None:
    """Read an instant with 0 to 9 fraction digits and a zone; `None` for anything else. Cuts below the microsecond.

    Wise writes 3, 5, 6 or 9 fraction digits, by field and age (docs.wise.com/api-reference/oauth-token).
    """
    found = _INSTANT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    micros = ((fraction or "") + "000000")[:6]
    try:
        return datetime.fromisoformat(f"{seconds}.{micros}{'+00:00' if zone == 'Z' else zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def show_instant(instant: datetime) -> str:
    """Write an instant as Wise and our API do: UTC, milliseconds, `Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
