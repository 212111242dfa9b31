"""Things that are done at their time, in a few threads."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_EVERY_S: Final = 0.05


class Agenda:
    """What an act gives back is how many seconds later it is to be done again; none: never."""

    def __init__(self, workers: int) -> None:
        self._lock = threading.Lock()
        self._acts: list[tuple[float, int, Callable[[], float | None]]] = []
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"agenda-{n}", daemon=True) for n in range(workers)]
        self.troubles: list[str] = []

    def at(self, after_s: float, act: Callable[[], float | None]) -> None:
        """Have it done so many seconds from now."""
        with self._lock:
            heapq.heappush(self._acts, (time.monotonic() + after_s, next(self._numbers), act))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, within_s: float) -> None:
        """Begin nothing more, and wait until what is under way is over."""
        self._stop.set()
        ends = time.monotonic() + within_s
        for thread in (thread for thread in self._threads if thread.is_alive()):
            thread.join(max(ends - time.monotonic(), 0))

    def _work(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            with self._lock:
                due = self._acts and self._acts[0][0] <= time.monotonic()
                act = heapq.heappop(self._acts)[2] if due else None
            if act is None:
                continue
            try:
                again_s = act()
            except Exception as error:  # noqa: BLE001 - shown at the end; the run goes on
                self.troubles.append(f"{type(error).__name__}: {error}"[:300])
                continue
            if again_s is not None:
                self.at(again_s, act)
