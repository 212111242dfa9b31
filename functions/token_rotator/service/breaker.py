"""Whether Wise may be called now: what is ours or Wise's fault stops the fleet, not the grants."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from token_rotator.domain.errors import CorruptGrant, StoreUnavailable
from token_rotator.domain.fleet import DYING_WITHIN, PROBE_CLAIM, Fleet, Row
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientRefused,
    Throttled,
    Unknown,
    WeAreWrong,
    name_of,
)

from .journal import BreakerClosed, BreakerOpened, Trouble
from .ports import Admitted, Paced
from .tell_people import TellAll

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.fleet import Lane
    from token_rotator.domain.grant import GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.outcome import ClientCheck, Outcome

    from .journal import Journal
    from .ports import AlertPublisher, ClientAsker, FleetStore

PACED: Final = "paced"
_TRIES: Final = 3
"""How often a write is tried that others were quicker than."""
_SHORTLY: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Barred:
    """Wise may not be called before `until`. `why` is `paced`, or the outcome for which the breaker is open."""

    until: datetime
    why: str


class Breaker:
    """Admits calls to Wise, at the pace of a lane and while the breaker is closed; learns from their outcomes.

    Healthy answers are those about a grant: refreshed, or its refresh token is dead. Others at three different grants
    in a row in one process, within minutes, open the breaker unless Wise then accepts our client; one about its rate
    limit does at once. What may be our own fault is settled by asking Wise about our client, and at a second grant.
    Safe in threads. `admit` and `enter` raise what the store raises; the rest records it.
    """

    def __init__(
        self,
        *,
        fleet: FleetStore,
        wise: ClientAsker,
        publisher: AlertPublisher,
        journal: Journal,
        budgets: Budgets,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        random: Callable[[], float],
        many_dying: int,
    ) -> None:
        """`random` gives numbers in [0, 1): several deployments do not probe in step.

        So many grants as `many_dying` that die within minutes raise an alert beside their own.
        """
        self.fleet = fleet
        self.wise = wise
        self.publisher = publisher
        self.journal = journal
        self.budgets = budgets
        self.clock = clock
        self.new_id = new_id
        self.random = random
        self._many_dying = many_dying
        self._lock = threading.Lock()
        self._row = Row()
        self._seen = Fleet()
        self._on_trial: str | None = None

    # --- may Wise be called?

    def known(self) -> Barred | None:
        """Say whether it is known without asking that the breaker is open."""
        now, seen = self.clock(), self._seen
        if seen.open_until is None or now >= seen.open_until:
            return None
        return Barred(seen.open_until, seen.why or "")

    @property
    def is_open(self) -> bool:
        """Whether the breaker was open when this process last looked."""
        return self._seen.open_until is not None

    def admit(self, lane: Lane, calls: int) -> Barred | None:
        """Take `calls` of a lane's calls; never more than its burst. Costs one write."""
        now = self.clock()
        answer = self.fleet.admit(lane, calls, now)
        if isinstance(answer, Admitted):
            self._seen = Fleet()
            return None
        if isinstance(answer, Paced):
            return Barred(answer.until, PACED)
        self._seen = answer
        return Barred(answer.barred_until(now), answer.why or "")

    def enter(self, lane: Lane, calls: int) -> int | Barred:
        """As `admit`, for who also asks Wise when the breaker is half-open. Gives how many calls may be made.

        Where Wise refuses `client_credentials` to our client, one call is admitted on trial: its outcome decides.
        """
        barred = self.admit(lane, calls)
        if barred is None:
            return calls
        if not self.is_open or not self._seen.half_open(self.clock()):
            return barred
        return self._probe(self._seen, lane, calls)

    def _probe(self, fleet: Fleet, lane: Lane, calls: int) -> int | Barred:
        probe, now = self.new_id(), self.clock()
        claimed = self.fleet.write(fleet, replace(fleet, probe_by=probe, probe_until=now + PROBE_CLAIM))
        if claimed is None:
            return Barred(now + _SHORTLY, fleet.why or "")
        self._seen = claimed
        check = self.wise.settle_client(attempt_id=probe, within=self.budgets.http)
        if isinstance(check, ClientAccepted):
            self._close(claimed, probe)
            return calls if self.admit(lane, calls) is None else Barred(self.clock() + _SHORTLY, PACED)
        if isinstance(check, ClientRefused | WeAreWrong):
            self._on_trial = probe
            return 1
        self._open(claimed, name_of(check), probe, check)
        return Barred(self._seen.barred_until(self.clock()), name_of(check))

    # --- what became of the calls

    def healthy(self, attempt_id: str) -> None:
        """Wise answered about a grant."""
        with self._lock:
            self._row = Row()
        trial = self._end_of_trial()
        if trial is not None:
            self._safely(lambda: self._end_trial(trial, attempt_id))

    def unhealthy(self, outcome: Outcome | ClientCheck, attempt_id: str, *, key: GrantKey, ask: bool = False) -> int:
        """The answer, or its absence, said nothing about the grant. Gives how many calls to Wise this took.

        Three grants in a row are too many; one or two back off by themselves. `ask`: there is time to ask Wise about
        our client before the breaker is opened for that. If it is accepted the grants are at fault; but requests of
        three grants that stay unanswered open it without a question.
        """
        with self._lock:
            self._row = self._row.hearing(key, self.clock())
            too_many = self._row.is_long
            if too_many:
                self._row = Row()
        trial = self._end_of_trial()
        if trial is not None or isinstance(outcome, Throttled) or (too_many and not ask):
            self._safely(lambda: self._open(self.fleet.read(), name_of(outcome), attempt_id, outcome, trial=trial))
        elif too_many:
            return self._streak(outcome, attempt_id, ask=not isinstance(outcome, Unknown))
        return 0

    def _streak(self, outcome: Outcome | ClientCheck, attempt_id: str, *, ask: bool) -> int:
        found = outcome
        if ask:
            check = self.wise.settle_client(attempt_id=attempt_id, within=self.budgets.http)
            if isinstance(check, ClientAccepted):
                return 1
            found = check if isinstance(check, ClientRefused | WeAreWrong | Throttled) else outcome
        self._safely(lambda: self._open(self.fleet.read(), name_of(found), attempt_id, found))
        return int(ask)

    def client_in_question(
        self, outcome: ClientRefused | WeAreWrong, check: ClientCheck | None, attempt_id: str, *, key: GrantKey
    ) -> None:
        """Wise refused our client or our request, and then said `check` of the client; `None`: it was not asked.

        If it accepts our client the grant alone is at fault, and nobody else has to wait for it. If it does not, the
        grant may be at fault all the same: our client may not be allowed what the question asks for.
        """
        match check:
            case _ if self._trial() is not None:
                self.unhealthy(outcome, attempt_id, key=key)
            case ClientRefused() | WeAreWrong():
                self._safely(lambda: self._refused(outcome, attempt_id, key))
            case ClientAccepted():
                pass
            case None:
                self.unhealthy(outcome, attempt_id, key=key)
            case _:
                self.unhealthy(check, attempt_id, key=key)

    def _refused(self, outcome: ClientRefused | WeAreWrong, attempt_id: str, key: GrantKey) -> None:
        fleet = self.fleet.read()
        known = fleet.client_credentials_refused  # that answer proves nothing then: this is one in a row, as any other
        with self._lock:
            self._row = self._row.hearing(key, self.clock(), refused=not known)
            too_many = self._row.is_refused or self._row.is_long
            if too_many:
                self._row = Row()
        if too_many:
            self._open(fleet, name_of(outcome), attempt_id, outcome)

    def died(self, attempt_id: str, trace_id: str | None) -> None:
        """A grant has died: it needs its user. Costs a write, and where many have, one more and a message."""
        self._safely(lambda: self._died(attempt_id, trace_id))

    def _died(self, attempt_id: str, trace_id: str | None) -> None:
        count = self.fleet.count_death(self.clock(), DYING_WITHIN)
        if count < self._many_dying:
            return
        for _ in range(_TRIES):
            fleet = self.fleet.read()
            after = fleet.many_dying(count, self.clock(), by=attempt_id, trace_id=trace_id)
            if after == fleet:
                return
            written = self.fleet.write(fleet, after)
            if written is not None:
                self._seen = written
                self._publish_new(fleet, written, "dying")
                return

    def tend(self) -> None:
        """Look at the breaker, and tell people what is due to be told. Costs one read."""
        self._safely(self._tend)

    def _trial(self) -> str | None:
        """Give our probe, if a call is on trial for it still: for as long as the claim lasts."""
        seen, now = self._seen, self.clock()
        ours = seen.probe_by is not None and seen.probe_by == self._on_trial
        return seen.probe_by if ours and seen.probe_until is not None and now <= seen.probe_until else None

    def _end_of_trial(self) -> str | None:
        with self._lock:
            trial, self._on_trial = self._trial(), None
        return trial

    # --- changing it

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (StoreUnavailable, CorruptGrant) as error:
            self.journal.record(Trouble(key=None, code=error.code, detail="minding the breaker"))

    def _open(
        self, fleet: Fleet, why: str, by: str, outcome: Outcome | ClientCheck, *, trial: str | None = None
    ) -> None:
        """Open it, or open it anew after a probe. One that somebody else has opened meanwhile stays as it is."""
        pause = outcome.retry_after if isinstance(outcome, Throttled) else None
        for _ in range(_TRIES):
            now = self.clock()
            ours = fleet.probe_by is not None and fleet.probe_by in (by, trial)
            self._seen = fleet
            longer = pause is not None and now + pause > (fleet.open_until or now)
            if fleet.open_until is not None and not ours and not longer and not fleet.half_open(now):
                return
            after = fleet.opened(why, now, by=by, salt=self.random(), pause=pause, trace_id=outcome.trace_id)
            written = self.fleet.write(fleet, after)
            if written is not None:
                self._seen = written
                until = written.open_until or now
                self.journal.record(BreakerOpened(why=why, until=until, trips=written.trips, attempt_id=by))
                self._publish_new(fleet, written)
                return
            fleet = self.fleet.read()

    def _close(self, fleet: Fleet, by: str, *, refused: bool = False) -> None:
        after = replace(fleet.closed(self.clock()), client_credentials_refused=refused)
        written = self.fleet.write(fleet, after)
        if written is None:
            return
        self._seen = written
        self.journal.record(BreakerClosed(attempt_id=by))

    def _end_trial(self, probe: str, attempt_id: str) -> None:
        fleet = self.fleet.read()
        if fleet.probe_by == probe:
            self._close(fleet, attempt_id, refused=True)

    # --- telling people

    def _tend(self) -> None:
        fleet, now = self.fleet.read(), self.clock()
        self._seen = fleet
        by = fleet.probe_by or self.new_id()
        alerting = fleet.alerting(now, by=by) if fleet.open_until is not None else fleet.recovering(now, by=by)
        if not self._tell(fleet, alerting, "alert", now):
            self._tell(fleet, fleet.dying_over(now, by=by), "dying", now)

    def _tell(self, fleet: Fleet, alerting: Fleet, slot: str, now: datetime) -> bool:
        """Publish the alert in one slot if it is due: it is new in `alerting`, or nobody is telling it.

        Gives whether the fleet may have been written: what was read of it is old then.
        """
        after = self._telling(slot).claim(fleet, now) if alerting == fleet else alerting
        if after is None:
            return False
        claimed = self.fleet.write(fleet, after)
        if claimed is not None:
            self._seen = claimed
            self._publish_new(fleet, claimed, slot)
        return True

    def _publish_new(self, before: Fleet, fleet: Fleet, slot: str = "alert") -> None:
        """Publish the alert that this process has just claimed, if it has, and write down what became of it."""
        tell = self._telling(slot)
        if tell.alert(fleet) != tell.alert(before):
            told = tell.publish(fleet)
            if told is not None:
                self._seen = told

    def _telling(self, slot: str) -> TellAll[Fleet]:
        """Tell of the breaker, in the slot `alert`, or in `dying` of grants that die together."""
        return TellAll(self.fleet, slot, self.publisher, self.journal, self.clock)
