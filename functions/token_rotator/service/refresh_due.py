"""Advancing every grant that is due, many at a time, most urgent first."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from token_rotator.domain.errors import CorruptGrant, RotatorError, StoreUnavailable
from token_rotator.domain.grant import GrantKind, Phase
from token_rotator.domain.link import waiting_under
from token_rotator.domain.policy import DEAD_ON_HOLD, Step, decide
from token_rotator.domain.state_change import Account
from token_rotator.domain.suspension import aside_until

from .breaker import Barred
from .journal import Trouble
from .ports import Due, When
from .refresh_grant import Result, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from token_rotator.domain.fleet import Lane
    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.suspension import Suspensions

    from .apply_state import ApplyState
    from .breaker import Breaker
    from .drain_parking import DrainParking
    from .drop_tokens import DropTokens
    from .journal import Journal
    from .ports import DueIndex, GrantStore
    from .refresh_grant import RefreshGrant
    from .tell_people import TellPeople
    from .watch_certificate import WatchCertificate

LOOK_EVERY: Final = timedelta(seconds=1)
LOOK_LIMIT: Final = 64
"""How many due grants of one shard are looked at in one go."""
LOOK_AT_MOST: Final = 64 * LOOK_LIMIT
"""How many while the breaker is open and all that was seen rests."""
TROUBLE_REST: Final = timedelta(minutes=1)
"""How long a grant that raised something unexpected is left alone."""
TEND_EVERY: Final = timedelta(seconds=10)
"""How often the parking queue and the breaker are looked at where nothing has happened to either."""
TELL_ONLY_FROM: Final = timedelta(seconds=3)
"""A pause of this length is used to tell people what lies in due grants; a shorter one is waited for."""
ASIDE_SHARE: Final = 4
"""One worker in so many, at most, is busy with moving due grants of suspended tenants out of the way."""
STANDING_DOWN: Final = timedelta(minutes=1)
"""A due grant that readers had stand down for no longer than this is not filed anew."""
TRIAL_CHOICE: Final = 16
"""Among so many of the most urgent grants the one on trial is chosen, at a read each."""
_BEFORE_ANY_CALL: Final = (CorruptGrant, StoreUnavailable)
"""What comes of asking for a lease: Wise was not called then."""
_LEAST_PAUSE: Final = timedelta(milliseconds=20)


@dataclass(slots=True)
class SweepSummary:
    """What one sweep did. `oldest_overdue` is the largest delay it met, `calls` counts calls to Wise.

    `set_aside` counts due grants of suspended and held tenants, `suspensions` and `holds` the orders in force when it
    last looked.
    """

    advanced: int = 0
    refreshed: int = 0
    troubled: int = 0
    looks: int = 0
    calls: int = 0
    set_aside: int = 0
    suspensions: int = 0
    holds: int = 0
    oldest_overdue: timedelta = field(default_factory=timedelta)


@dataclass(frozen=True, slots=True)
class RefreshDue:
    """Stays on duty for a while, looks at the index every second and advances what is due by one step each.

    Parked answers come first. Then the most urgent grants, at the pace of the sweeps' lane; while the breaker is open
    only people are told, and what is due stays due. While the environment is suspended nothing is looked for and Wise
    is not called; due grants of a suspended tenant are moved out of the way, at a write each; those of a held one too,
    once people were told and doubts were resolved. What became of accounts at Wise is applied to their grants, and what
    nobody confirmed of links is dropped, without a call, also while the breaker is open. One grant that cannot be
    advanced never keeps the others waiting: its `due_at` moves, whatever went wrong. The work grows with what is due.
    `workers` grants are advanced at a time.
    `certificate` is there where Wise demands one.
    """

    refresh: RefreshGrant
    grants: GrantStore
    index: DueIndex
    drain: DrainParking
    breaker: Breaker
    lane: Lane
    tell: TellPeople
    journal: Journal
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]
    workers: int
    apply_state: ApplyState
    drop_tokens: DropTokens
    certificate: WatchCertificate | None = None

    def __call__(self, shards: Sequence[int], until: datetime, barred: Barred | None = None) -> SweepSummary:
        """Advance due grants of these shards; start nothing after `until`. Raises nothing but for faults of its own.

        `barred` says that the caller knows why Wise cannot be called, and how long.
        """
        with ThreadPoolExecutor(self.workers, thread_name_prefix="advance") as pool:
            duty = _Duty(self, shards, until, pool)
            duty.barred = barred
            duty.run()
        return duty.summary

    def advance(self, key: GrantKey, *, alone: bool = False, drained_at: datetime | None = None) -> Result:
        """Advance one grant by one step. Raises what `RefreshGrant` raises."""
        result = self.refresh(key, Due(), alone=alone, drained_at=drained_at)
        if result.grant is not None and result.word in (Word.FRESH, Word.GONE):
            return self._follow(result.grant, result)
        if result.word is Word.IN_DOUBT:  # people do not wait for what may stay in doubt for long
            grant = self.grants.get(key)
            if grant is not None and decide(grant, self.clock(), self.budgets).step in (Step.PUBLISH, Step.REMIND):
                return self._follow(grant, result)
        if result.word is Word.ON_HOLD:  # nothing more is sent, and people may have to be told
            grant = self.grants.get(key)
            return result if grant is None else self._follow(grant, result)
        return result

    def tell_only(self, key: GrantKey, retry_at: datetime) -> Result:
        """Do what a grant needs that needs no call to Wise. Raises what the store raises."""
        grant, result = self.grants.get(key), Result(Word.BARRED, retry_at=retry_at)
        return result if grant is None else self._follow(grant, result)

    def rank_for_trial(self, key: GrantKey) -> tuple[bool, int]:
        """Rank a grant for a trial, the best first: by how often in a row it has failed. Raises what the store raises.

        Last comes what a question alone may settle, or no call at all: of that the breaker hears nothing.
        """
        grant = self.grants.get(key)
        if grant is None or grant.kind is not GrantKind.USER or grant.phase is not Phase.ACTIVE:
            return True, 0
        return grant.on_hold is not None or grant.refresh_at > self.clock(), grant.failures

    def set_aside(self, key: GrantKey) -> Result:
        """Move a due grant of a suspended tenant out of the way of others, unread. Raises what the store raises."""
        now = self.clock()
        self.grants.postpone(key, aside_until(key, now), now)
        return Result(Word.BARRED)

    def apply(self, account: Account) -> Result:
        """Do to an account's grants what follows from its state at Wise. Raises what the stores raise."""
        self.apply_state(account)
        return Result(Word.BARRED)

    def drop(self, hashed: str) -> Result:
        """Drop a link's tokens that nobody confirmed. Raises what the store raises."""
        self.drop_tokens(hashed)
        return Result(Word.BARRED)

    def other_than_a_grant(self, key: GrantKey) -> Callable[[], Result] | None:
        """Say what to do where a due key is no grant's: it takes no call to Wise. `None`: it is a grant's."""
        account, hashed = Account.of(key), waiting_under(key)
        if account is not None:
            return partial(self.apply, account)
        return None if hashed is None else partial(self.drop, hashed)

    def set_held_aside(self, key: GrantKey) -> Result:
        """Do with a due grant of a held tenant what sends no refresh, or move it. Raises what `RefreshGrant` raises.

        A doubt is resolved by asking Wise, for readers wait for that; the calls are asked for one by one.
        """
        grant, now = self.grants.get(key), self.clock()
        step = Step.NOTHING if grant is None else decide(grant, now, self.budgets).step
        dead = grant is not None and grant.attempt_id is None and grant.last_error == DEAD_ON_HOLD
        if step is Step.RESOLVE_DOUBT and not dead:
            result = self.refresh(key, Due(), alone=False, lane=self.lane)
            return result if result.word is Word.SUSPECT else replace(result, word=Word.BARRED)
        if grant is not None and step not in (Step.REFRESH, Step.RESOLVE_DOUBT):
            return self._follow(grant, Result(Word.BARRED))
        return self.set_aside(key)

    def _follow(self, grant: Grant, result: Result) -> Result:
        """Do what needs no lease: tell people, or put `due_at` right.

        A grant that stood down for a moment keeps its place among those that are due.
        """
        now = self.clock()
        stood_down = grant.due_at is not None and grant.due_at <= now < grant.refresh_at <= now + STANDING_DOWN
        if stood_down and grant.last_error is not None and grant.alert is None:
            return replace(result, retry_at=max(grant.refresh_at, result.retry_at or now))
        decision = decide(grant, self.clock(), self.budgets)
        if decision.step is Step.PUBLISH:
            self.tell.claim_and_publish(grant)
        elif decision.step is Step.REMIND:
            self.tell.remind(grant)
        elif decision.step is Step.WARN:
            self.tell.warn(grant)
        elif decision.step is Step.CALL_OLD:
            self.tell.call_old(grant)
        elif decision.step is Step.NOTHING and decision.due_at != grant.due_at:
            self.grants.write(
                grant,
                replace(grant, due_at=decision.due_at),
                When(due_at=grant.due_at, attempt_id=grant.attempt_id, version=grant.version),
            )
        return result


class _Duty:
    """One stay on duty: what is in flight, what waits, what rests."""

    def __init__(self, use: RefreshDue, shards: Sequence[int], until: datetime, pool: ThreadPoolExecutor) -> None:
        self.use = use
        self.shards = shards
        self.until = until
        self.pool = pool
        self.summary = SweepSummary()
        self.in_flight: dict[Future[Result | Exception], GrantKey] = {}
        self.resting: dict[GrantKey, datetime] = {}
        self.suspects: deque[GrantKey] = deque()
        self.suspects_turn = False
        self.others_turn = False
        self.backlog: deque[GrantKey] = deque()
        self.aside: deque[GrantKey] = deque()
        self.held: set[GrantKey] = set()
        self.moving: set[GrantKey] = set()
        self.others: deque[tuple[GrantKey, Callable[[], Result]]] = deque()
        self.halted = False
        self.allowance = 0
        self.on_trial = False
        self.portion = use.lane.burst
        self.limit = LOOK_LIMIT
        self.owed = 0
        self.barred: Barred | None = None
        self.draining: Future[datetime | None] | None = None
        self.drained_at: datetime | None = None

    def run(self) -> None:
        use = self.use
        self.drained_at = use.drain(self.until)
        self._mind()
        next_look = use.clock()
        next_tending = next_look + TEND_EVERY
        while True:
            now = use.clock()
            if now >= self.until:
                break
            if now >= next_tending:
                self._tend()
                next_tending = now + TEND_EVERY
            if now >= next_look:
                self._look(now)
                self.suspects_turn = not self.others_turn and not self.halted
                next_look = now + LOOK_EVERY
                if use.breaker.is_open and not self.halted:
                    self._may_call()
            self._fill()
            self.others_turn = False
            if self.suspects and self.suspects_turn and not self.in_flight and self._may_call():
                self._advance_alone()
                continue
            wake_at = min(next_look, self.until)
            if self.barred is not None and self.backlog:
                wake_at = min(wake_at, max(self.barred.until, now + _LEAST_PAUSE))
            pause = max(wake_at - use.clock(), timedelta(0))
            if self.in_flight or self.draining:
                self._await(pause)
            else:
                use.sleep(pause)
        while self.in_flight or self.draining:
            self._await(None)

    def _await(self, pause: timedelta | None) -> None:
        """Wait for whatever ends first, and take note of it."""
        waited: set[Future[Any]] = {*self.in_flight, *([self.draining] if self.draining else [])}
        wait(waited, None if pause is None else pause.total_seconds(), return_when=FIRST_COMPLETED)
        for future in [future for future in self.in_flight if future.done()]:
            key = self.in_flight.pop(future)
            self.moving.discard(key)
            self._note(key, future.result())
        if self.draining is not None and self.draining.done():
            self.drained_at = self.draining.result() or self.drained_at
            self.draining = None

    def _tend(self) -> None:
        """Have the queue drained beside the work, for asking it takes a second; mind what is the fleet's here."""
        if self.draining is None:
            self.draining = self.pool.submit(self.use.drain, self.until)
        self._mind()

    def _mind(self) -> None:
        """Look at the breaker and at our certificate's end."""
        self.use.breaker.tend()
        if self.use.certificate is not None:
            self.use.certificate.tend()

    def _look(self, now: datetime) -> None:
        self.summary.looks += 1
        stopped = self._suspensions()
        self.halted = stopped is None or stopped.environment is not None
        if stopped is None or self.halted:
            self.backlog.clear()
            self.aside.clear()
            self.others.clear()
            return
        try:
            due = self.use.index.due(self.shards, now, self.limit)
        except StoreUnavailable as error:
            self.use.journal.record(Trouble(key=None, code=error.code, detail="looking for what is due"))
            return
        busy = {*self.in_flight.values(), *self.suspects}
        self.backlog.clear()
        self.aside.clear()
        self.others.clear()
        self.held.clear()
        for due_at, key in due:
            if key in busy or self.resting.get(key, now) > now:
                continue
            if stopped.of(key.tenant) is not None:
                self.aside.append(key)
                continue
            if stopped.hold_on(key.tenant, now) is not None:
                self.aside.append(key)
                self.held.add(key)
                continue
            self.summary.oldest_overdue = max(self.summary.oldest_overdue, now - due_at)
            other = self.use.other_than_a_grant(key)
            if other is not None:
                self.others.append((key, other))
                continue
            self.backlog.append(key)
        if not self.use.breaker.is_open:
            self.limit = LOOK_LIMIT
        elif len(due) >= self.limit and not self.backlog:  # what rests until it closes hides who is to be told
            self.limit = min(2 * self.limit, LOOK_AT_MOST)

    def _suspensions(self) -> Suspensions | None:
        """Give what is suspended. `None`: nobody knows, and nothing may be started."""
        try:
            found = self.use.refresh.suspensions.read()
        except (StoreUnavailable, CorruptGrant) as error:
            self.use.journal.record(Trouble(key=None, code=error.code, detail="asking what is suspended"))
            return None
        self.summary.suspensions, self.summary.holds = found.in_force, found.holds_in_force
        return found

    def _fill(self) -> None:
        if self.suspects and self.suspects_turn:  # the next of them waits until nobody else is in flight
            return
        self._set_aside()
        while self.backlog and len(self.in_flight) < self.use.workers and self.use.clock() < self.until:
            may_call = self._may_call()
            if self.use.clock() >= self.until:  # asking may have taken long
                return
            if may_call:
                self.allowance -= 1
                key = self._take_for_trial() if self.on_trial else self.backlog.popleft()
                self._submit(key, partial(self.use.advance, key, drained_at=self.drained_at))
            elif self.barred is not None and self.barred.until - self.use.clock() > TELL_ONLY_FROM:
                key = self.backlog.popleft()
                self._submit(key, partial(self.use.tell_only, key, self.barred.until))
            else:
                return

    def _take_for_trial(self) -> GrantKey:
        """Take the grant whose answer decides for all: of the most urgent the one that `rank_for_trial` has first.

        One that Wise refuses again and again, as it does a closed user, would keep it open for everybody.
        """
        choice = list(islice(self.backlog, TRIAL_CHOICE))
        try:
            chosen = min(choice, key=self.use.rank_for_trial)
        except (StoreUnavailable, CorruptGrant) as error:
            self.use.journal.record(Trouble(key=None, code=error.code, detail="choosing a grant for a trial"))
            chosen = choice[0]
        self.backlog.remove(chosen)
        return chosen

    def _set_aside(self) -> None:
        """Have some of the workers do what needs no call to Wise; the others are for what does."""
        share = min(max(self.use.workers // ASIDE_SHARE, 1), self.use.workers - len(self.in_flight) + len(self.moving))
        while self.others and len(self.moving) < share and self.use.clock() < self.until:
            key, step = self.others.popleft()
            self.moving.add(key)
            self._submit(key, step)
        while self.aside and len(self.moving) < share and self.use.clock() < self.until:
            key = self.aside.popleft()
            self.moving.add(key)
            self.summary.set_aside += 1
            self._submit(key, partial(self.use.set_held_aside if key in self.held else self.use.set_aside, key))

    def _submit(self, key: GrantKey, step: Callable[[], Result]) -> None:
        self.in_flight[self.pool.submit(self._safely, key, step)] = key

    def _may_call(self) -> bool:
        """Tell whether one more grant may be advanced now; ask for as many calls as are of use.

        Whoever made more calls than were asked for is paid for first. `barred` is set while the breaker is open.
        """
        if self.allowance > 0:
            if self.on_trial or not self.use.breaker.is_open:
                return True
            self.allowance = 0  # it was asked for before the breaker opened
        now, budgets = self.use.clock(), self.use.budgets
        if self.barred is not None and now < self.barred.until:
            return False
        self.barred = self.use.breaker.known()
        if self.barred is not None:
            return False
        if self.use.breaker.is_open and self.until - now < budgets.http + budgets.store:  # no time for a probe
            return False
        wanted = min(len(self.backlog) + len(self.suspects), self.use.workers) + self.owed
        try:
            admitted = self.use.breaker.enter(self.use.lane, max(min(wanted, self.portion), 1))
        except (StoreUnavailable, CorruptGrant) as error:
            self.use.journal.record(Trouble(key=None, code=error.code, detail="asking for calls to Wise"))
            return False
        if isinstance(admitted, Barred):
            self.barred = admitted
            self.portion = max(self.portion // 2, 1)  # who asks for many waits long beside those who ask for one
            return False
        self.barred = None
        self.portion = min(self.portion * 2, self.use.lane.burst)
        self.on_trial = self.use.breaker.is_open
        paid = min(admitted - 1, self.owed)
        self.owed -= paid
        self.allowance = admitted - paid
        return True

    def _advance_alone(self) -> None:
        """Advance one suspect while nobody else is in flight: one between two looks, so that others get on.

        Others have their turn after it, also where it took so long that the next look has come.
        """
        self.suspects_turn, self.others_turn = False, True
        if self.use.clock() >= self.until:
            return
        key = self.suspects.popleft()
        self.allowance -= 1
        self._note(key, self._safely(key, partial(self.use.advance, key, alone=True, drained_at=self.drained_at)))

    def _safely(self, key: GrantKey, step: Callable[[], Result]) -> Result | Exception:
        """Take one step with one grant; whatever it raises stays its own."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - one bad grant never stops the others; the error is kept on record
            self._trouble(key, error)
            raised = error
        try:
            now = self.use.clock()
            self.use.grants.postpone(key, now + TROUBLE_REST, now)
        except Exception as error:  # noqa: BLE001 - the same: it rests in this sweep at least
            self._trouble(key, error)
        return raised

    def _trouble(self, key: GrantKey, error: Exception) -> None:
        code = error.code if isinstance(error, RotatorError) else "internal-error"
        self.use.journal.record(Trouble(key=key, code=code, detail=type(error).__name__))

    def _note(self, key: GrantKey, result: Result | Exception) -> None:
        now = self.use.clock()
        if isinstance(result, Exception):
            self.summary.troubled += 1
            self.allowance += isinstance(result, _BEFORE_ANY_CALL)
            self.resting[key] = now + TROUBLE_REST
            return
        self.summary.calls += result.calls
        self.owed += max(result.calls - 1, 0)
        if result.calls == 0 and result.word is not Word.BARRED:
            self.allowance += 1
        if result.word is Word.SUSPECT:
            self.suspects.append(key)
            return
        self.summary.advanced += result.word not in (Word.BARRED, Word.SUSPENDED)
        self.summary.refreshed += result.word is Word.REFRESHED
        if result.retry_at is not None:
            self.resting[key] = result.retry_at
