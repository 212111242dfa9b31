"""Taking parked answers out of the queue and into the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.domain.errors import ParkingUnavailable, RotatorError, StoreUnavailable

from .journal import ParkedSettled, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.answer import SealedAnswer
    from token_rotator.domain.grant import GrantKey

    from .journal import Journal
    from .keep_answer import KeepAnswer
    from .ports import GrantReader, Parked, ParkingQueue


@dataclass(frozen=True, slots=True)
class DrainParking:
    """Stores every parked answer by the same rules as the attempt that parked it.

    A message is removed once its answer is stored or provably overtaken. One that cannot be read, or whose grant
    cannot, stays: it may be the newest, and alarms watch what lies there. Whatever goes wrong with one message stays
    its own.
    """

    parking: ParkingQueue
    grants: GrantReader
    keep: KeepAnswer
    journal: Journal
    clock: Callable[[], datetime]

    def __call__(self, until: datetime) -> datetime | None:
        """Drain it, and give an instant at which the queue held nothing; `None`: it may have held some.

        What somebody has received and not settled is hidden, and counts.
        """
        try:
            while True:
                asked_at = self.clock()
                if asked_at >= until:
                    return None
                messages = self.parking.receive()
                if not messages:
                    return None if self.parking.holds_any() else asked_at
                for parked in messages:
                    self._settle(parked)
        except (ParkingUnavailable, StoreUnavailable) as error:
            self._trouble(None, error.code)
            return None

    def _settle(self, parked: Parked) -> None:
        answer = parked.answer
        if answer is None:
            self._trouble(None, "parked-unreadable")
            return
        try:
            self._store(answer)
            self.parking.remove(parked)
        except (ParkingUnavailable, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - one bad message never stops the sweep; the error is kept on record
            known = error.code if isinstance(error, RotatorError) else None
            self._trouble(answer.key, known or "internal-error", None if known else type(error).__name__)

    def _store(self, answer: SealedAnswer) -> None:
        kept = self.keep(answer, self.grants.get(answer.key))
        self.journal.record(ParkedSettled(key=answer.key, attempt_id=answer.attempt_id, result=kept.place.value))

    def _trouble(self, key: GrantKey | None, code: str, raised: str | None = None) -> None:
        detail = "draining parked answers" if raised is None else f"draining parked answers: {raised}"
        self.journal.record(Trouble(key=key, code=code, detail=detail))
