"""When people hear that the certificate that we show to Wise ends: pure functions of instants.

Wise signs for a year, and writes 28, 14, 7, 3, 1 and 0 days before the end to whoever is registered there
(docs.wise.com/guides/developer/auth-and-security/mtls). On-call hears of the certificate that is really in use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .grant import Alert, AlertKind

if TYPE_CHECKING:
    from datetime import datetime

AHEAD: Final = tuple(timedelta(days=days) for days in (28, 14, 7, 3, 1, 0))


@dataclass(frozen=True, slots=True)
class CertificateInUse:
    """The end of the certificate that this process shows. `accepted`: Wise has answered to it."""

    not_after: datetime
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateWatch:
    """What all processes together know of the certificate's end.

    `not_after` is the end of the one last known to be in use, `told` the last instant at which a warning was due, and
    raised. Each certificate's warnings are due at instants of its own, so two processes that show different ones for a
    while tell each of them once.
    """

    revision: int = 0
    not_after: datetime | None = None
    told: datetime | None = None
    alert: Alert | None = None

    def looked_at(self, in_use: CertificateInUse | None, now: datetime) -> CertificateWatch:
        """Take note of the certificate in use, and raise what is due: a warning, or that there is a later end.

        One that Wise has not answered to proves nothing: it may be refused, and the one before it used again.
        """
        end = self.not_after
        if in_use is not None and (in_use.accepted or end is None):
            end = in_use.not_after
        if end is None:
            return self
        after = replace(self, not_after=end)
        if self.not_after is not None and end > self.not_after and self.alert is not None:
            after = replace(after, alert=self.alert.over(now, None) or self.alert)
        return after.warning(end, now)

    def warning(self, end: datetime, now: datetime) -> CertificateWatch:
        """Raise the latest warning that is due, if nobody has: those before it are in it."""
        due = min((ahead for ahead in AHEAD if end - ahead <= now), default=None)
        if due is None or (self.told is not None and end - due <= self.told):
            return self
        alert = Alert(
            incident_id=hashlib.sha256(f"certificate|{end.isoformat()}|{due.days}".encode()).hexdigest()[:32],
            kind=AlertKind.CERTIFICATE_EXPIRING,
            reason="1-day" if due.days == 1 else f"{due.days}-days",
            raised_at=now,
        )
        return replace(self, told=end - due, alert=alert.in_place_of(self.alert))

    def days_left(self, now: datetime) -> float | None:
        """Say how many days the certificate has left; below zero once it is over."""
        return None if self.not_after is None else (self.not_after - now) / timedelta(days=1)
