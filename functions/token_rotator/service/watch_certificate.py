"""Telling people before the certificate that we show to Wise ends: once over all processes, and never not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from token_rotator.domain.certificate import CertificateWatch
from token_rotator.domain.errors import CorruptGrant, PublishRefused, PublishUnknown, StoreUnavailable
from token_rotator.domain.policy import ALERT_CLAIM, fleet_backoff

from .journal import AlertTold, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.certificate import CertificateInUse
    from token_rotator.domain.grant import Alert

    from .journal import Journal
    from .ports import AlertPublisher, CertificateStore

WATCH_EVERY: Final = timedelta(minutes=1)
_MARK_TRIES: Final = 3


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
        self._publisher = publisher
        self._journal = journal
        self._clock = clock
        self._in_use = in_use
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
        alert = after.alert
        ours = alert is not None and alert.published_at is None and (alert.claimed_until or now) <= now
        if alert is not None and ours:
            alert = replace(alert, claimed_until=now + ALERT_CLAIM)
            after = replace(after, alert=alert)
        if after == before:
            return
        written = self._store.write(before, after)
        if written is not None and alert is not None and ours:
            self._publish(written, alert)

    def _publish(self, watch: CertificateWatch, alert: Alert) -> None:
        """Publish the alert that was just claimed, and write down what became of it."""
        code: str | None = None
        try:
            self._publisher.publish(None, alert)
            told = replace(alert, published_at=self._clock(), claimed_until=None)
        except (PublishRefused, PublishUnknown) as error:
            code = error.code
            failures = alert.failures + 1
            told = replace(alert, failures=failures, claimed_until=self._clock() + fleet_backoff(failures))
        self._journal.record(AlertTold(key=None, incident_id=alert.incident_id, code=code))
        for _ in range(_MARK_TRIES):
            if watch.alert != alert or self._store.write(watch, replace(watch, alert=told)) is not None:
                return
            watch = self._store.read()
