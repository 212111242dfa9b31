"""A queue of parked answers in memory: `ParkingQueue`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.errors import ParkingUnavailable
from token_rotator.service.ports import Parked

from .failing import Failing

VISIBILITY = timedelta(seconds=30)
AT_MOST = 10


@dataclass
class _Message:
    answer: SealedAnswer | None
    visible_at: datetime
    receipts: set[str]


class InMemoryParking(Failing):
    """One queue. A message that was received comes back half a minute later, by `clock`, unless it is removed.

    `parked`, `received` and `removed` count the calls.
    """

    error = ParkingUnavailable

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.clock = clock
        self.messages: list[_Message] = []
        self.parked = 0
        self.received = 0
        self.removed = 0
        self._receipts = 0
        self._lock = threading.RLock()

    def _put(self, answer: SealedAnswer | None) -> None:
        self.messages.append(_Message(answer, self.clock(), set()))

    @property
    def answers(self) -> list[SealedAnswer | None]:
        """All that lies in the queue, visible or not; `None` for what cannot be read."""
        with self._lock:
            return [message.answer for message in self.messages]

    def put_unreadable(self) -> None:
        """Put a message that nobody can read."""
        with self._lock:
            self._put(None)

    def park(self, answer: SealedAnswer) -> None:
        with self._lock:
            self.parked += 1
            plan = self._begin()
            self._put(answer)
            self._end(plan)

    def receive(self) -> Sequence[Parked]:
        with self._lock:
            self.received += 1
            plan = self._begin()
            now = self.clock()
            found = []
            for message in [message for message in self.messages if message.visible_at <= now][:AT_MOST]:
                self._receipts += 1
                receipt = f"receipt-{self._receipts}"
                message.visible_at = now + VISIBILITY
                message.receipts.add(receipt)
                found.append(Parked(message.answer, receipt))
            self._end(plan)
            return found

    def remove(self, parked: Parked) -> None:
        with self._lock:
            self.removed += 1
            plan = self._begin()
            self.messages = [message for message in self.messages if parked.receipt not in message.receipts]
            self._end(plan)

    def holds_any(self) -> bool:
        with self._lock:
            plan = self._begin()
            self._end(plan)
            return bool(self.messages)
