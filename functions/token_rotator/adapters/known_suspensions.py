"""What is suspended, as one process knows it: asked for every few seconds, not at every request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.domain.errors import CorruptGrant, StoreUnavailable
from token_rotator.domain.suspension import KNOWN_FOR
from token_rotator.service.journal import Trouble

from .shared_value import SharedValue

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.suspension import Suspensions
    from token_rotator.service.journal import Journal
    from token_rotator.service.ports import SuspensionReader


@dataclass(frozen=True, slots=True)
class _Known:
    """What was stored at `asked_at`; good until an instant at most `KNOWN_FOR` after it."""

    suspensions: Suspensions
    asked_at: datetime


class KnownSuspensions:
    """`SuspensionReader` that asks another one at most every five seconds, also where nothing is suspended.

    Where that one cannot be asked, what was known last counts for as long again; a process that never knew it raises
    what came of asking. Its age counts from before the question. Safe in threads.
    """

    def __init__(self, store: SuspensionReader, journal: Journal, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._known: SharedValue[_Known] = SharedValue(self._asked, self._is_young)

    def read(self) -> Suspensions:
        """See `SuspensionReader.read`."""
        return self._known.get().suspensions

    def _is_young(self, known: _Known) -> bool:
        """A clock that was set back makes it old, not young for ever."""
        return known.asked_at <= self._clock() < known.asked_at + KNOWN_FOR

    def _asked(self, before: _Known | None) -> _Known:
        asked_at = self._clock()
        try:
            return _Known(self._store.read(), asked_at)
        except (StoreUnavailable, CorruptGrant) as error:
            if before is None:
                raise
            self._journal.record(Trouble(key=None, code=error.code, detail="asking what is suspended"))
            return _Known(before.suspensions, self._clock())
