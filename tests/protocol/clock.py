"""True time, and what it shows to whom."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tests.fakes.world import FakeClock


class StageClock(FakeClock):
    """True time, on which things happen when they are due. What it shows may be off, by who looks at it.

    `wait` is how somebody sleeps: by moving the time, unless a scheduler has others to run meanwhile.
    """

    def __init__(self) -> None:
        self._time = FakeClock().now
        self.pending: list[tuple[datetime, Callable[[], object]]] = []
        self.off: Callable[[], timedelta] = lambda: timedelta(0)
        self.wait: Callable[[timedelta], None] = self.advance_by
        super().__init__(self._time)

    @property
    def now(self) -> datetime:
        return self._time

    @now.setter
    def now(self, instant: datetime) -> None:
        while self.pending and min(self.pending, key=_when)[0] <= instant:
            first = min(self.pending, key=_when)
            self.pending.remove(first)
            self._time = max(self._time, first[0])
            first[1]()
        self._time = max(self._time, instant)

    def true(self) -> datetime:
        """The time, whoever asks."""
        return self._time

    def __call__(self) -> datetime:
        return self._time + self.off()

    def sleep(self, duration: timedelta) -> None:
        self.wait(duration)

    def advance_by(self, duration: timedelta) -> None:
        self.now = self._time + duration

    def later(self, wait: timedelta, happen: Callable[[], object]) -> None:
        self.pending.append((self._time + wait, happen))


def _when(entry: tuple[datetime, Callable[[], object]]) -> datetime:
    return entry[0]
