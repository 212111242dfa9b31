"""Drives the real use cases through histories of faults, and judges them by what Wise and the readers saw.

One history: a grant is due; an actor advances it and meets a fault at one of its steps; something else comes next,
possibly with a fault of its own; then everything heals and the sweeps go on. The judge knows nothing of leases or
doubts: it knows which tokens live at Wise, what was handed to whom with which promise, and what on-call was told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.fakes.rotator import World
from tests.fakes.world import FakeClock
from token_rotator.domain.errors import KeyUnavailable, PublishRefused, PublishUnknown, RotatorError, StoreUnavailable
from token_rotator.domain.grant import Phase
from token_rotator.domain.outcome import Liveness, NotSent, Refreshed, ServerFault, Unknown
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Offer
from token_rotator.service.ports import Done, Due
from token_rotator.service.serve_token import Served

NAME = "anna"
SLOW = timedelta(seconds=9)
"""When Wise carries out a request that we gave up on: within the settle time, after the attempt."""
SETTLED = timedelta(minutes=10)
"""By then everything has healed: a lease, the hold after a takeover, the longest back-off and a half."""


class Killed(BaseException):
    """The process is gone: nothing of it runs on, no handler included."""


class TickingClock(FakeClock):
    """A clock that lets things happen when their time has come."""

    def __init__(self) -> None:
        self._now = FakeClock().now
        self.pending: list[tuple[datetime, Callable[[], object]]] = []
        super().__init__(self._now)

    @property
    def now(self) -> datetime:
        return self._now

    @now.setter
    def now(self, instant: datetime) -> None:
        while self.pending and min(self.pending, key=lambda due: due[0])[0] <= instant:
            first = min(self.pending, key=lambda due: due[0])
            self.pending.remove(first)
            self._now = max(self._now, first[0])
            first[1]()
        self._now = max(self._now, instant)

    def later(self, wait: timedelta, happen: Callable[[], object]) -> None:
        self.pending.append((self.now + wait, happen))


STORE = ("kill before", "kill after", "fail before", "fail after")
WISE = ("kill before", "kill after", "not sent", "lost", "dropped", "slow", "fault before", "fault after")
ASK = ("kill before", "kill after", "no answer")
KEY = ("kill before", "kill after", "fail before")
TOPIC = ("kill before", "kill after", "refused", "unknown")
FAULTS = {"store": STORE, "wise": WISE, "ask": ASK, "key": KEY, "topic": TOPIC}


@dataclass
class Steps:
    """Counts the steps of one actor and lets one of them go wrong."""

    fault_at: int = -1
    fault: str = ""
    taken: list[str] = field(default_factory=list)
    hit: str | None = None

    def next(self, port: str) -> str:
        number = len(self.taken)
        self.taken.append(port)
        if number != self.fault_at or self.fault not in FAULTS[port]:
            return "ok"
        self.hit = f"{port} {self.fault}"
        if self.fault == "kill before":
            raise Killed
        return self.fault

    def after(self, plan: str) -> None:
        if plan == "kill after":
            raise Killed


@dataclass
class Promise:
    token: str
    stable_until: datetime


class History:
    """One world, its faults, and the judge."""

    def __init__(self, policy: str, first: str) -> None:
        """A grant that is due; or one that is not, for a report: of a living token, or of one that Wise has ended."""
        self.world = World(policy)
        self._tick()
        self.steps = Steps()
        self.promises: list[Promise] = []
        self.exempt: set[str] = set()
        self.violations: list[str] = []
        self.lost_answer = False
        self.in_hand = False
        self.deleted = False
        self._wrap()
        self.exported = self.world.adopted(NAME)
        self.ended: str | None = None
        self.known_dead: set[str] = set()
        if first in ("report", "report_dead"):
            self.clock.advance(minutes=10)
        else:
            self.world.due_now(NAME)
        if first == "report_dead":
            user = self.world.wise.users[NAME]
            self.ended = user.access_token
            user.access_token += "0"

    def _tick(self) -> None:
        world = World(self.world.wise.policy)
        clock = TickingClock()
        for part in (world, world.wise, world.tell, world.refresh_grant, world.refresh_due, world.serve_token):
            for name in ("clock", "sleep"):
                if hasattr(part, name):
                    object.__setattr__(part, name, clock if name == "clock" else clock.sleep)
        for part in (world.adopt_grant, world.delete_grant):
            object.__setattr__(part, "clock", clock)
            object.__setattr__(part, "sleep", clock.sleep)
        self.world, self.clock = world, clock

    # --- the steps of the ports

    def _wrap(self) -> None:  # noqa: C901 - one wrapper a port
        world = self.world
        for name in ("get", "acquire", "write", "postpone", "create", "replace", "delete", "due"):
            self._wrap_call(world.grants, name, "store", StoreUnavailable("injected"))
        for name in ("prepare", "open_access_token", "seal"):
            self._wrap_call(world.sealer, name, "key", KeyUnavailable("injected"))
        plain_refresh, plain_ask, plain_publish = world.wise.refresh, world.wise.ask, world.alerts.publish

        def refresh(token: Secret, **more: Any) -> Any:
            plan = self.steps.next("wise")
            if plan in ("ok", "kill after"):
                self._kills(token)
                answer = plain_refresh(token, **more)
                self.in_hand = isinstance(answer, Refreshed)
                self.steps.after(plan)
                return answer
            if plan == "not sent":
                return NotSent(reason="injected")
            if plan in ("lost", "fault after"):
                self._kills(token)
                plain_refresh(token, **more)
                self.lost_answer = True
            if plan == "slow":
                self.lost_answer = True
                self.clock.later(SLOW, lambda: (self._kills(token), world.wise.carry_out(token.reveal())))
            if plan in ("dropped", "slow"):
                self.clock.advance(seconds=5)
            return ServerFault(status=500) if plan.startswith("fault") else Unknown(reason=plan)

        def ask(token: Secret, **more: Any) -> Liveness:
            plan = self.steps.next("ask")
            answer: Liveness = Liveness.NO_ANSWER if plan == "no answer" else plain_ask(token, **more)
            if answer is Liveness.DEAD:
                self.known_dead.add(token.reveal())
            self.steps.after(plan)
            return answer

        def publish(*arguments: Any) -> None:
            plan = self.steps.next("topic")
            if plan == "refused":
                raise PublishRefused("injected")
            plain_publish(*arguments)
            self.steps.after(plan)
            if plan == "unknown":
                raise PublishUnknown("injected")

        world.wise.refresh, world.wise.ask, world.alerts.publish = refresh, ask, publish  # type: ignore[method-assign]

    def _wrap_call(self, target: Any, name: str, port: str, error: RotatorError) -> None:
        plain = getattr(target, name)

        def call(*arguments: Any) -> Any:
            plan = self.steps.next(port)
            if plan == "fail before":
                raise error
            answer = plain(*arguments)
            if isinstance(answer, Done) and name == "write":
                self.in_hand = False
            self.steps.after(plan)
            if plan == "fail after":
                raise error
            return answer

        setattr(target, name, call)

    def _kills(self, refresh_token: Secret) -> None:
        """A refresh is carried out: judge it against every promise that stands."""
        user = self.world.wise.users[NAME]
        if user.refresh_token != refresh_token.reveal() or not user.alive:
            return
        dying = user.access_token
        for promise in self.promises:
            if promise.token == dying and self.clock.now < promise.stable_until and dying not in self.exempt:
                self.violations.append(f"{dying} was replaced before its stable_until")

    # --- actors

    def act(self, actor: str, steps: Steps) -> None:
        """Let one actor work, until it is done, fails or is killed."""
        self.steps = steps
        try:
            getattr(self, f"_{actor}")()
        except Killed:
            self.lost_answer |= self.in_hand  # it dies with its process, and no protocol can keep it
        except RotatorError:
            pass
        finally:
            self.in_hand = False
            self.steps = Steps()

    def _sweep(self) -> None:
        self.world.sweep(1)

    def _refresh(self) -> None:
        self.world.refresh_grant(self.world.key(NAME), Due(), alone=True)

    def _read(self) -> None:
        self._served(self.world.serve(NAME))

    def _report(self) -> None:
        stored = self.world.grants.items.get(self.world.key(NAME))
        if stored is None:
            return
        token = self.world.wise.users[NAME].access_token
        self.exempt.add(token)  # Wise is asked: if it is dead it may be replaced
        self._served(self.world.serve(NAME, rejected=stored.version))

    _report_dead = _report

    def _readopt(self) -> None:
        """An operator imports again what was exported before the story began, under the version of then."""
        user = self.world.wise.users[NAME]
        self.exempt.add(user.access_token)
        offer = Offer(
            refresh_token=Secret(user.refresh_token),
            access_token=Secret(f"access-{NAME}-1"),
            issued_at=self.exported.issued_at,
            expires_at=self.exported.expires_at,
        )
        self.world.adopt_grant(self.world.key(NAME), offer, self.exported.version)

    def _delete(self) -> None:
        if self.world.delete_grant(self.world.key(NAME)) is None:
            self.deleted = True
            self.promises.clear()

    def _revoke(self) -> None:
        self.world.wise.users[NAME].alive = False
        self.promises.clear()

    def _served(self, answer: object) -> None:
        if not isinstance(answer, Served):
            return
        token = answer.access_token.reveal()
        unknowable = token == self.ended and token not in self.known_dead
        if not self.world.wise.lives(token) and self.world.wise.users[NAME].alive and not unknowable:
            self.violations.append(f"{token} was served dead at {self.clock.now:%H:%M:%S}")
        self.promises.append(Promise(token, answer.stable_until))

    # --- the end

    def heal(self) -> None:
        """No more faults: sweeps and readers go on; at the end all must be well."""
        self._go_on(SETTLED)
        if self.ended is not None:  # nobody can know it before a report that comes through
            self.act("report", Steps())
            self._go_on(timedelta(minutes=1))
        self._judge()

    def _go_on(self, duration: timedelta) -> None:
        end = self.clock.now + duration
        while self.clock.now < end:
            self.act("sweep", Steps())
            self.act("read", Steps())
            self.clock.advance(seconds=13)

    def _judge(self) -> None:  # noqa: C901 - the invariants, one by one
        stored = self.world.grants.items.get(self.world.key(NAME))
        wise = self.world.wise.users[NAME]
        if stored is None:
            if not self.deleted:
                self.violations.append("the grant is gone")
            return
        if stored.attempt_id is not None or stored.in_doubt is not None:
            self.violations.append("a lease or a doubt was never resolved")
        if stored.phase is Phase.REAUTHORIZATION_REQUIRED:
            told = {alert.incident_id for alert in self.world.alerts.published}
            if stored.alert is None or stored.alert.incident_id not in told or stored.alert.published_at is None:
                self.violations.append("nobody was told")
            may = not wise.alive or (self.world.wise.policy == "rotated" and self.lost_answer)
            if not may:
                self.violations.append("a living grant was judged dead")
            if wise.alive and stored.alert is not None and stored.alert.reason != "outcome_unknown":
                self.violations.append("a lost answer was called a revocation")
            return
        if not wise.alive:
            if stored.due_at is None or stored.due_at > self.clock.now + timedelta(hours=8):
                self.violations.append("a revoked grant is never looked at")
            return
        if not self.world.wise.lives(self.world.access_token(NAME)):
            self.violations.append("the stored access token is dead and nobody knows")
        if stored.due_at is None or stored.due_at <= self.clock.now - timedelta(minutes=1):
            self.violations.append("due for ever")


FIRST = ("sweep", "refresh", "read", "report", "report_dead")
NEXT = ("sweep", "read", "report", "readopt", "delete", "revoke")
WAITS = (0.0, 12.0, 23.0, 60.0)
POLICIES = ("same", "rotated", "omitted")


def lengths(policy: str, actor: str) -> int:
    """How many steps an actor takes undisturbed, and some for what it takes when disturbed."""
    history = History(policy, actor)
    steps = Steps()
    history.act(actor, steps)
    return len(steps.taken) + 4


def faults() -> list[str]:
    return sorted(set(itertools.chain.from_iterable(FAULTS.values())))


def plans(policy: str, actor: str) -> Iterator[tuple[int, str]]:
    """Every step and every fault; what does not apply to the port at that step is pruned when it is met."""
    yield from itertools.product(range(lengths(policy, actor)), faults())


@dataclass
class Explored:
    histories: int = 0
    pruned: int = 0
    violations: list[str] = field(default_factory=list)


def explore_one(policy: str, first: str) -> Explored:
    """One fault in the first actor, then everything that may come next, after every wait."""
    result = Explored()
    for at, fault in plans(policy, first):
        for following, wait in itertools.product(NEXT, WAITS):
            history = History(policy, first)
            steps = Steps(at, fault)
            history.act(first, steps)
            if steps.hit is None:
                result.pruned += 1
                break
            history.clock.advance(seconds=wait)
            history.act(following, Steps())
            history.heal()
            result.histories += 1
            story = f"{policy}: {first} [{steps.hit} at {at}], {wait} s, {following}"
            result.violations += [f"{story}: {found}" for found in history.violations]
    return result


def explore_two(policy: str, first: str, wait: float) -> Explored:
    """A fault in the first actor and one in the sweep or reader that comes next."""
    result = Explored()
    for at, fault in plans(policy, first):
        probe = Steps(at, fault)
        History(policy, first).act(first, probe)
        if probe.hit is None:
            result.pruned += 1
            continue
        for following in ("sweep", "read"):
            for second_at, second_fault in plans(policy, following):
                history = History(policy, first)
                history.act(first, Steps(at, fault))
                history.clock.advance(seconds=wait)
                second = Steps(second_at, second_fault)
                history.act(following, second)
                if second.hit is None:
                    result.pruned += 1
                    continue
                history.heal()
                result.histories += 1
                story = f"{policy}: {first} [{probe.hit} at {at}], {wait} s, {following} [{second.hit} at {second_at}]"
                result.violations += [f"{story}: {found}" for found in history.violations]
    return result
