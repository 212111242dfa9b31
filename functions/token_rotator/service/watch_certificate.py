"""Telling people before the certificate that we show to Wise ends: once over all processes, and never not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from token_rotator.domain.certificate import CertificateWatch
from token_rotator.domain.errors import CorruptGrant, StoreUnavailable

from .journal import Trouble
from .tell_people import TellAll

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.certificate import CertificateInUse

    from .journal import Journal
    from .ports import AlertPublisher, CertificateStore

WATCH_EVERY: Final = timedelta(minutes=1)


class WatchCertificate:
    """Looks at the certificate's end once a minute, at one read; publishes what became due in a write before and after.

    The claim keeps two publishers apart, as with all alerts. Used by one thread.
    """

    def __init__(
        self,
        store: CertificateStore,
        publisher: AlertPublisher,
        journal: Journal,
        clock: Callable[[], datetime],
        in_use: Callable[[], CertificateInUse | None],
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._in_use = in_use
        self._tell = TellAll(store, "alert", publisher, journal, clock)
        self._seen = CertificateWatch()
        self._next_at: datetime | None = None

    def tend(self) -> None:
        """Look, if it is time to. What goes wrong is recorded, and looked at again in a minute."""
        now = self._clock()
        if self._next_at is not None and now < self._next_at:
            return
        self._next_at = now + WATCH_EVERY
        try:
            self._look(now)
        except (StoreUnavailable, CorruptGrant) as error:
            self._journal.record(Trouble(key=None, code=error.code, detail="watching the certificate"))

    def days_left(self) -> float | None:
        """Say how many days the certificate in use has left, as last looked at; `None`: nobody knows."""
        return self._seen.days_left(self._clock())

    def _look(self, now: datetime) -> None:
        before = self._store.read()
        after = before.looked_at(self._in_use(), now)
        self._seen = after
        claimed = self._tell.claim(after, now)
        if (claimed or after) == before:
            return
        written = self._store.write(before, claimed or after)
        if written is not None and claimed is not None:
            self._tell.publish(written)
