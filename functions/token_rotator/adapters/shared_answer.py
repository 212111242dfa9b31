"""One answer that many threads want at the same time, and one of them asks for."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """Asks once for all who want to know how things stand since an instant of theirs.

    An answer serves whoever's instant lies before the question was asked; who comes later takes part in the next one.
    So however many want to know, two questions do for all that happened until the second began. Asking happens in a
    thread of its own: nobody waits past his own time, and an answer that comes too late for one still serves others.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._changed = threading.Condition()
        self._asking = False
        self._began = -math.inf
        self._answer: T | None = None

    def get(self, ask: Callable[[], T], *, since: float, until: float) -> T | None:
        """Give an answer to a question that was asked after `since`; `None` if there is none by `until`.

        Both are instants of the clock. `ask` must end by itself; if it raises there is no answer.
        """
        with self._changed:
            while self._began < since:
                left = until - self._clock()
                if left <= 0:
                    return None
                if not self._asking:
                    self._asking = True
                    threading.Thread(target=self._ask, args=(ask,), daemon=True).start()
                self._changed.wait(left)
            return self._answer

    def _ask(self, ask: Callable[[], T]) -> None:
        began, answer = self._clock(), None
        try:
            answer = ask()
        finally:
            with self._changed:
                self._asking, self._began, self._answer = False, began, answer
                self._changed.notify_all()
