"""What holds for all grants together: whether Wise may be called at all, and how often.

All instants are aware UTC. The breaker is open while `open_until` is set; once that instant has passed it is
half-open: one prober asks Wise, and its answer closes the breaker or opens it for longer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .grant import Alert, AlertKind
from .policy import ALERT_CLAIM, RETRY_AFTER_CAP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .grant import GrantKey

UNHEALTHY_AT_MOST: Final = 3
"""So many grants in a row at which Wise says nothing about them open the breaker."""
REFUSED_AT_MOST: Final = 2
"""So many do for which Wise refuses our client, and refuses it again when asked about it."""
UNHEALTHY_FOR: Final = timedelta(minutes=10)
"""How long such an answer counts: longer than any grant backs off, so that those that go on failing stay in the row."""
PAUSE_BASE: Final = timedelta(seconds=10)
PAUSE_CAP: Final = timedelta(minutes=5)
CALM: Final = timedelta(minutes=2)
"""An opening this soon after a closing belongs to the same incident: its pauses go on growing."""
PATIENCE: Final = timedelta(minutes=2)
"""On-call hears of an incident that may pass by itself once it has lasted this long."""
DYING_WITHIN: Final = timedelta(minutes=10)
"""So close together many deaths have one cause."""
DYING_NOTED_EVERY: Final = timedelta(minutes=1)
PROBE_CLAIM: Final = timedelta(seconds=15)
"""How long one prober has the question for itself: longer than asking and writing take."""
OUR_FAULT: Final = {"client_refused": AlertKind.CLIENT_REFUSED, "we_are_wrong": AlertKind.WE_ARE_WRONG}


@dataclass(frozen=True, slots=True)
class Lane:
    """A share of the calls to Wise: `per_minute` at most in any minute, whoever makes them."""

    name: str
    per_minute: int

    @property
    def burst(self) -> int:
        """How many calls may come at once."""
        return min(max(self.per_minute // 10, 1), 15)

    def worth(self, calls: int) -> timedelta:
        """Say how much of the lane's time some calls take, in whole milliseconds each, rounded up.

        A burst and what follows it stay within `per_minute`.
        """
        return calls * timedelta(milliseconds=-(-60_000 // max(self.per_minute - self.burst, 1)))


@dataclass(frozen=True, slots=True)
class Row:
    """The grants at which Wise has lately said nothing about them, and about no other grant since.

    `heard` has when that last was, aware UTC, and whether Wise then refused our client when asked about it as well. A
    grant is in it once, however often it fails.
    """

    heard: Mapping[GrantKey, tuple[datetime, bool]] = field(default_factory=lambda: MappingProxyType({}))

    def hearing(self, key: GrantKey, now: datetime, *, refused: bool = False) -> Row:
        """Add what was heard at one grant; forget what is old."""
        recent = {other: found for other, found in self.heard.items() if now - found[0] < UNHEALTHY_FOR}
        return Row(MappingProxyType({**recent, key: (now, refused)}))

    @property
    def is_long(self) -> bool:
        """Whether so many grants fail that it is Wise's fault or ours."""
        return len(self.heard) >= UNHEALTHY_AT_MOST

    @property
    def is_refused(self) -> bool:
        """Whether Wise refuses our client for more than one grant: one alone may be at fault itself."""
        return sum(refused for _, refused in self.heard.values()) >= REFUSED_AT_MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The breaker of one deployment.

    `since` is when the present incident began, `trips` how often the breaker opened in it for a pause of our own.
    `probe_by` and `probe_until` are the claim of the one who asks. `client_credentials_refused`: Wise once refused
    `client_credentials` to a client for which it went on refreshing, so that this answer proves nothing. `dying` is the
    alert about many grants that died together, `dying_at` when there were last too many. It has nothing to do with the
    breaker.
    """

    revision: int = 0
    open_until: datetime | None = None
    why: str | None = None
    since: datetime | None = None
    trips: int = 0
    closed_at: datetime | None = None
    probe_by: str | None = None
    probe_until: datetime | None = None
    client_credentials_refused: bool = False
    alert: Alert | None = None
    dying: Alert | None = None
    dying_at: datetime | None = None

    def opened(
        self, why: str, now: datetime, *, by: str, salt: float, pause: timedelta | None = None, trace_id: str | None
    ) -> Fleet:
        """Open the breaker, or open it anew after a probe: for longer each time, or as long as Wise says.

        `by` names the attempt or probe that found it out; `salt` in [0, 1) spreads the pause. A `pause` that Wise asks
        for makes no later one longer.
        """
        calm = self.closed_at is None or now - self.closed_at >= CALM
        same = self.open_until is not None or not calm or self._told_already()
        since = self.since if same and self.since is not None else now
        trips = self.trips if same else 0
        if pause:
            open_until = now + max(min(pause, RETRY_AFTER_CAP), timedelta(seconds=1))
        else:
            open_until = now + min(PAUSE_BASE * (1 << min(trips, 10)), PAUSE_CAP) * (0.75 + 0.5 * salt)
            trips += 1
        open_until -= timedelta(microseconds=open_until.microsecond % 1000)
        opened = replace(
            self,
            open_until=open_until,
            why=why,
            since=since,
            trips=trips,
            probe_by=None,
            probe_until=None,
        )
        return opened.alerting(now, by=by, trace_id=trace_id)

    def alerting(self, now: datetime, *, by: str, trace_id: str | None = None) -> Fleet:
        """Add the alert that has become due: at once for a fault of ours, later for one that may pass by itself.

        An incident is told once; one that turns out to be our fault is told again, as that.
        """
        if self.open_until is None or self.since is None or self.why is None:
            return self
        kind = OUR_FAULT.get(self.why, AlertKind.PROVIDER_UNAVAILABLE)
        if kind is AlertKind.PROVIDER_UNAVAILABLE and (now - self.since < PATIENCE or self._told_already()):
            return self
        if self.alert is not None and (self.alert.kind is kind or self._end_untold()):
            return self
        return replace(self, alert=self._alert(kind, self.why, now, by, trace_id))

    def closed(self, now: datetime) -> Fleet:
        """Close the breaker. That it is over is told later: it may open again soon."""
        if self.open_until is None:
            return self
        return replace(self, open_until=None, why=None, closed_at=now, probe_by=None, probe_until=None)

    def recovering(self, now: datetime, *, by: str) -> Fleet:
        """Add the alert that an incident is over, under the same `incident_id`, once it has been calm for long enough.

        Only what was told is told to be over.
        """
        if self.open_until is not None or self.alert is None or not self._told_already():
            return self
        if self.closed_at is not None and now - self.closed_at < CALM:
            return self
        over = self._alert(AlertKind.RECOVERED, self.alert.reason, now, by, None)
        return replace(self, alert=replace(over, incident_id=self.alert.incident_id))

    def many_dying(self, count: int, now: datetime, *, by: str, trace_id: str | None) -> Fleet:
        """Note that `count` grants have died within `DYING_WITHIN`, which is too many; alert if that is news."""
        known = self.dying is not None and self.dying.is_open
        if known and self.dying_at is not None and now - self.dying_at < DYING_NOTED_EVERY:
            return self
        if known:
            return replace(self, dying_at=now)
        alert = self._alert(AlertKind.MANY_GRANTS_DYING, f"{count}-grants", now, by, trace_id)
        return replace(self, dying=alert.in_place_of(self.dying), dying_at=now)

    def dying_over(self, now: datetime, *, by: str) -> Fleet:
        """Add the alert that grants no longer die together, once it was told that they do."""
        alert = self.dying
        if alert is None or not alert.is_open or alert.published_at is None:
            return self
        if self.dying_at is not None and now - self.dying_at < DYING_WITHIN:
            return self
        over = alert.over(now, by)
        return self if over is None else replace(self, dying=replace(over, claimed_until=now + ALERT_CLAIM))

    def half_open(self, now: datetime) -> bool:
        """Tell whether somebody has to ask Wise now: the pause is over, and nobody is at it."""
        if self.open_until is None or now < self.open_until:
            return False
        return self.probe_until is None or now > self.probe_until

    def barred_until(self, now: datetime) -> datetime:
        """Say when asking again whether Wise may be called is worth while."""
        moments = [moment for moment in (self.open_until, self.probe_until) if moment is not None and moment > now]
        return max(moments, default=now + timedelta(seconds=1))

    def _told_already(self) -> bool:
        """Tell whether people know of an incident, or will, and not of its end."""
        return self.alert is not None and self.alert.kind is not AlertKind.RECOVERED

    def _end_untold(self) -> bool:
        alert = self.alert
        return alert is not None and alert.kind is AlertKind.RECOVERED and alert.published_at is None

    def _alert(self, kind: AlertKind, reason: str, now: datetime, by: str, trace_id: str | None) -> Alert:
        return Alert(
            incident_id=hashlib.sha256(f"fleet|{now.isoformat()}|{kind}".encode()).hexdigest()[:32],
            kind=kind,
            reason=reason,
            raised_at=now,
            attempt_id=by,
            trace_id=trace_id,
            claimed_until=now + ALERT_CLAIM,
        )
