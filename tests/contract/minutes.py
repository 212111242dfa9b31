"""How many calls a minute held."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)

Calls = list[tuple[datetime, int]]
"""When, and how many at once."""


def fullest_minute(admitted: Iterable[tuple[datetime, int]]) -> int:
    """Give the most calls that any minute holds, its end left out: the fullest one begins with a call."""
    ordered = sorted(admitted)
    fullest, held, last = 0, 0, 0
    for began, calls in ordered:
        while last < len(ordered) and ordered[last][0] < began + MINUTE:
            held += ordered[last][1]
            last += 1
        fullest = max(fullest, held)
        held -= calls
    return fullest
