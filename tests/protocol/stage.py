"""The real use cases over the fakes, step by step: what goes wrong at which step, and a history of all of it.

A step is one call of a port. A director decides what becomes of each: that it works, or one of the port's faults. An
actor is whoever wants something (a sweep, a reader, an operator); a process is what dies when it is killed, so a
reader's call has two: its own, and that of the refresh function.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from local.proof.history import (
    GONE,
    Acted,
    Adopted,
    Announced,
    Closed,
    Deleted,
    Died,
    History,
    Keeper,
    Kind,
    Minted,
    Moment,
    NotServed,
    OnHold,
    Outage,
    Parked,
    ProcessDied,
    Recorder,
    Reported,
    Revived,
    Served,
    Stored,
    Suspended,
)
from tests.fakes import rotator
from tests.fakes.rotator import World
from tests.fakes.wise import LIFE
from tests.protocol.clock import StageClock
from tests.protocol.steps import Director, Killed, Step, Undisturbed
from tests.protocol.wise import LATE, WiseOnStage
from token_rotator.domain.errors import (
    KeyUnavailable,
    ParkingUnavailable,
    PublishRefused,
    PublishUnknown,
    RotatorError,
    StoreUnavailable,
)
from token_rotator.domain.grant import Alert, Grant, GrantKey, Phase
from token_rotator.domain.link import CONFIRM_FOR, PendingTokens, hash_of
from token_rotator.domain.state_change import Account, AccountState, StateChange, Subject
from token_rotator.domain.suspension import Suspensions
from token_rotator.domain.tokens import Sealed, SealedField, Secret
from token_rotator.service import serve_token
from token_rotator.service.adopt_grant import Offer
from token_rotator.service.breaker import Breaker
from token_rotator.service.ports import AlreadyHeld, Cause, Due, RefreshReport, Refused
from token_rotator.service.refresh_due import RefreshDue

NAME = "anna"
_STORE_TIME = timedelta(seconds=2)
_QUEUE_TIME = timedelta(milliseconds=500)
_REFUSED_AT_ONCE = timedelta(milliseconds=300)
_DUTY = timedelta(seconds=1)
_DUTY_WHILE_OPEN = timedelta(seconds=9)


@dataclass
class Process:
    """What dies when it is killed, with the attempts that it had begun."""

    role: str
    attempts: set[str] = field(default_factory=set)


@dataclass
class Actor:
    """Whoever does something. `off`: how far its clock is off."""

    name: str
    off: timedelta = timedelta(0)
    began: Moment | None = None
    looked: Moment | None = None
    processes: list[Process] = field(default_factory=list)


NOBODY = Actor("nobody")
Back = Literal["nothing", "refresh token", "all"]
"""Which of a user's tokens live again once Wise has opened the account: no page of Wise's says."""
ACCOUNT = Account(Subject.USER, "1000001")
_WISE = tuple(subject.orderer for subject in Subject)


def world_on(clock: StageClock, policy: str) -> World:
    """A world that runs on this clock, which it would otherwise make for itself."""
    module: Any = rotator
    plain, module.FakeClock = module.FakeClock, lambda: clock
    try:
        return World(policy)
    finally:
        module.FakeClock = plain


def _what_stops(grant: Grant) -> tuple[object, ...]:
    """What of a grant has its place among what happens at Wise."""
    return grant.phase, grant.on_hold, grant.user_rank, grant.profile_rank


class Stage:
    """One world, its faults and its history. `anna` is adopted with a fresh token."""

    name = NAME
    key = GrantKey("acme", NAME)
    wise_on_stage: type[WiseOnStage] = WiseOnStage

    def __init__(self, policy: str = "same", life: timedelta = LIFE) -> None:
        self.clock = StageClock()
        self.world = world_on(self.clock, policy)
        self.world.wise.clock = self.clock.true
        self.world.wise.life = life
        self.world.parking.clock = self.clock.true
        self.recorder = Recorder(self.clock.true)
        self.director: Director = Undisturbed()
        self.actor = NOBODY
        self.clock.off = lambda: self.actor.off
        self.breakers: dict[str, Breaker] = {}
        self.duties: dict[tuple[str, bool], RefreshDue] = {}
        """What a process sweeps with, while it lives; and whether it drains."""
        self.down: dict[Keeper, datetime] = {}
        self.names: dict[str, str] = {}
        self.sealed: dict[bytes, str] = {}
        self.seen: Grant | None = None
        self.raised: list[Alert] = []
        self.told: list[Alert] = []
        """Every alert that was ever stored, and every message that the topic took."""
        self.late = LATE
        self.known_after = timedelta(0)
        """How old a process's knowledge of the orders about tenants is."""
        self.orders: list[tuple[datetime, Suspensions]] = []
        self.changes: list[StateChange] = []
        """What Wise did to the account, in this order."""
        self.kept_at_wise: tuple[bool, list[str], str] | None = None
        """Which tokens there were when the account was closed, and whether they lived."""
        self.rank: int | None = None
        self.stopped = False
        """What is stored of Wise's word about the account: the newest change, and that the grant is stopped for it."""
        self.comes_back: Back = "nothing"
        self.at_rest: tuple[str, ...] = ()
        """What is done once everything has come to rest; then it has to come to rest again."""
        self.wise = self.wise_on_stage(self)
        self._wrap()
        self.exported = self._adopted(life)

    # --- names

    @property
    def stored(self) -> Grant | None:
        return self.world.grants.items.get(self.key)

    @property
    def user(self) -> Any:
        return self.world.wise.users[NAME]

    def name_of(self, token: str) -> str:
        """A short name for a token: a1, a2, r1, by its appearance."""
        if token not in self.names:
            kind = "a" if token.startswith("access") else "r"
            self.names[token] = f"{kind}{sum(name[0] == kind for name in self.names.values()) + 1}"
        return self.names[token]

    def sealed_name(self, sealed: Sealed | None, kind: SealedField) -> str | None:
        if sealed is None:
            return None
        name = self.sealed.get(sealed.blob)
        if name is None:
            name = self.sealed[sealed.blob] = self.name_of(self.world.sealer.unbox(self.key, kind, sealed).reveal())
        return name

    # --- recording

    def moment(self) -> Moment:
        return self.recorder.moment()

    def note(self, act: str) -> None:
        self.recorder.add(Acted(when=self.moment(), grant=NAME, act=act))

    def minted(self, token: str, kind: Kind, request: str | None) -> str:
        when = self.moment()
        name = self.name_of(token)
        expires_at = self.user.expires_at if kind is Kind.ACCESS else when.at + timedelta(days=7300)
        self.recorder.add(Minted(when=when, grant=NAME, token=name, kind=kind, expires_at=expires_at, request=request))
        return name

    def died(self, token: str, request: str | None) -> None:
        self.recorder.add(Died(when=self.moment(), grant=NAME, token=self.name_of(token), request=request))

    def _note_stored(self) -> None:
        """Take down what the table holds, if that is new."""
        grant = self.stored
        if grant is self.seen:
            return
        self.seen = grant
        when = self.moment()
        if grant is None:
            self.recorder.add(Stored(when=when, grant=NAME, phase=GONE))
            return
        if grant.alert is not None:
            self.raised.append(grant.alert)
        self._note_orders(grant, when)
        self.recorder.add(
            Stored(
                when=when,
                grant=NAME,
                phase=grant.phase.value,
                version=grant.version,
                access=self.sealed_name(grant.access_token, SealedField.ACCESS_TOKEN),
                refresh=self.sealed_name(grant.refresh_token, SealedField.REFRESH_TOKEN),
                reason=grant.last_error,
                lease=grant.attempt_id,
                doubt=grant.in_doubt,
            )
        )

    def _note_orders(self, grant: Grant, when: Moment) -> None:
        """Take down what is stored of Wise's word about the account."""
        rank = max(grant.user_rank or 0, grant.profile_rank or 0) or None
        if rank != self.rank and rank is not None and rank % 2:
            self.recorder.add(Closed(when=when, grant=NAME))
        self.rank = rank
        order = grant.suspension
        stopped = grant.phase is Phase.SUSPENDED and order is not None and order.by in _WISE
        if stopped != self.stopped:
            self.recorder.add(Suspended(when=when, grant=NAME, lifted=not stopped, by="wise"))
        self.stopped = stopped

    def history(self, *, healed: bool = True) -> History:
        return self.recorder.history(healed=healed)

    # --- steps

    def step(self, kind: str, name: str, *touches: tuple[str, str]) -> str:
        """Say what becomes of the step that an actor is about to take; it may be killed before it."""
        return self.take(Step(kind, name, touches))

    def take(self, step: Step) -> str:
        """Say the same of a step that was made before."""
        plan = self.director.next(step)
        if plan == "kill before":
            raise Killed
        return plan

    def _wrap(self) -> None:
        """Make a step of each call of a port, with what it reads and changes."""
        world = self.world
        item, reads, wise = ("item", "w"), ("item", "r"), ("wise", "w")
        # What a read leads to being served has its place among what happens at Wise, and so has what others bring.
        states, kept = ("states", "r"), ("states", "w")
        self._wrap_calls(world.grants, "read", StoreUnavailable, get=(reads, ("wise", "r")), due=(reads, states))
        self._wrap_calls(world.states, "read", StoreUnavailable, look=(states,), holders=(reads,))
        self._wrap_calls(world.states, "write", StoreUnavailable, note=(kept,), settle=(kept,))
        for name in ("acquire", "write", "postpone", "stand_down"):
            self._wrap_calls(world.grants, "write", StoreUnavailable, **{name: (item,)})
        for name in ("create", "replace", "delete"):
            self._wrap_calls(world.grants, "write", StoreUnavailable, **{name: (item, wise)})
        self._wrap_calls(world.fleet, "read", StoreUnavailable, read=(("fleet", "r"),))
        self._wrap_calls(world.fleet, "write", StoreUnavailable, write=(("fleet", "w"),))
        self._wrap_calls(world.fleet, "write", StoreUnavailable, count_death=(("deaths", "w"),))
        self._wrap_calls(world.fleet, "admit", StoreUnavailable, admit=(("fleet", "w"),))
        for name in ("park", "receive", "remove"):
            self._wrap_calls(world.parking, name, ParkingUnavailable, **{name: (("queue", "w"),)})
        self._wrap_calls(world.parking, "read", ParkingUnavailable, holds_any=(("queue", "r"),))
        self._wrap_calls(
            world.sealer, "key", KeyUnavailable, prepare=(), prepare_reissue=(), open_access_token=(), seal=()
        )
        self.wise.wrap()
        self._wrap_orders()
        self._wrap_publish()
        self._wrap_invoke()

    def _wrap_calls(
        self, target: Any, kind: str, error: type[RotatorError], **calls: tuple[tuple[str, str], ...]
    ) -> None:
        for name, touches in calls.items():
            setattr(target, name, self._wrapped(getattr(target, name), kind, name, touches, error))

    def _wrapped(
        self,
        plain: Callable[..., Any],
        kind: str,
        name: str,
        touches: tuple[tuple[str, str], ...],
        error: type[RotatorError],
    ) -> Callable[..., Any]:
        queue = error is ParkingUnavailable
        changes = kind not in ("read", "receive", "key")
        takes = _QUEUE_TIME if queue else _STORE_TIME
        verdicts = name == "write" and touches == (("item", "w"),)
        keeper = Keeper.QUEUE if queue else Keeper.TABLE
        plain_step, verdict = Step(kind, name, touches), Step(kind, name, (*touches, ("wise", "r")))

        def call(*arguments: Any) -> Any:
            stops = verdicts and _what_stops(arguments[0]) != _what_stops(arguments[1])
            plan = self.take(verdict if stops else plain_step)
            if changes and self._is_down(keeper):
                self.clock.sleep(_REFUSED_AT_ONCE)
                raise error("injected outage")
            if name == "acquire" and self.actor.processes:
                self.actor.processes[-1].attempts.add(arguments[1].attempt_id)
            if plan == "late":
                self.clock.later(self.late, lambda: self._do(plain, name, arguments))
            if plan in ("fail", "time out", "late"):
                self.clock.sleep(timedelta(0) if plan == "fail" else takes)
                raise error("injected")
            answer = self._do(plain, name, arguments)
            if plan == "done twice":
                self.clock.later(self.late, lambda: self._do(plain, name, arguments))
            if plan == "kill after":
                raise Killed
            if plan == "time out, done":
                self.clock.sleep(takes)
                raise error("injected")
            return answer

        return call

    def _wrap_orders(self) -> None:
        """Processes know the orders about tenants from a while ago: `known_after`."""
        orders, everything = self.world.suspensions, (("item", "w"), ("wise", "w"))
        self.orders.append((self.clock.now, orders.stored))

        def read() -> Suspensions:
            if not self.known_after:
                return self.orders[-1][1]
            since = self.clock.now - self.known_after
            return next((known for at, known in reversed(self.orders) if at <= since), self.orders[0][1])

        orders.read = read  # type: ignore[method-assign]
        self._wrap_calls(orders, "write", StoreUnavailable, hold=everything, release=everything)

    def _wrap_publish(self) -> None:
        plain = self.world.alerts.publish

        def publish(key: GrantKey | None, alert: Any) -> None:
            plan = self.step("topic", "publish", ("topic", "w"))
            if plan == "refused":
                raise PublishRefused("injected")
            if plan == "unknown":
                raise PublishUnknown("injected")
            plain(key, alert)
            self.told.append(alert)
            when, grant = self.moment(), None if key is None else NAME
            kind, incident_id = alert.kind.value, alert.incident_id
            self.recorder.add(
                Announced(when=when, grant=grant, kind=kind, incident_id=incident_id, reason=alert.reason)
            )
            if plan == "kill after":
                raise Killed
            if plan == "unknown, done":
                raise PublishUnknown("injected")

        self.world.alerts.publish = publish  # type: ignore[method-assign]

    def _do(self, plain: Callable[..., Any], name: str, arguments: tuple[Any, ...]) -> Any:
        """Have a call take effect, and take down what it changed."""
        actor = self.actor
        if name == "get":
            actor.looked = self.moment()
        answer = plain(*arguments)
        if name in ("create", "replace", "delete") and not isinstance(answer, Refused | AlreadyHeld):
            self._note_act(name, arguments)
        if name == "park":
            access = self.sealed_name(arguments[0].access_token, SealedField.ACCESS_TOKEN)
            self.recorder.add(Parked(when=self.moment(), grant=NAME, access=access or ""))
        self._note_stored()
        self._note_ordered()
        return answer

    def _note_ordered(self) -> None:
        """Remember since when the orders about tenants are in force."""
        if self.orders[-1][1] is not self.world.suspensions.stored:
            self.orders.append((self.clock.now, self.world.suspensions.stored))

    def _note_act(self, name: str, arguments: tuple[Any, ...]) -> None:
        when = self.moment()
        asked = self.actor.began or when
        if name == "delete":
            self.recorder.add(Deleted(when=when, grant=NAME, asked=asked))
            return
        after: Grant = arguments[0] if name == "create" else arguments[1]
        self.recorder.add(
            Adopted(
                when=when,
                grant=NAME,
                asked=asked,
                access=self.sealed_name(after.access_token, SealedField.ACCESS_TOKEN),
                refresh=self.sealed_name(after.refresh_token, SealedField.REFRESH_TOKEN) or "",
                replaced=name == "replace",
            )
        )

    # --- outages

    def _is_down(self, keeper: Keeper) -> bool:
        until = self.down.get(keeper)
        return until is not None and self.clock.now < until

    def outage(self, keepers: tuple[Keeper, ...], seconds: float) -> None:
        """Let nothing be written for a while, from now on."""
        for keeper in keepers:
            when = self.moment()
            until = when.at + timedelta(seconds=seconds)
            self.down[keeper] = until
            self.recorder.add(Outage(when=when, grant=None, keeper=keeper, ended=Moment(when.order, until)))

    # --- processes and actors

    def _breaker(self, role: str) -> Breaker:
        if role not in self.breakers:
            self.breakers[role] = self.world.new_breaker()
        return self.breakers[role]

    @contextlib.contextmanager
    def process(self, role: str) -> Iterator[Process]:
        """Run in a process of its own: what it had begun dies with it, if it is killed."""
        process, actor = Process(role), self.actor
        actor.processes.append(process)
        try:
            yield process
        except Killed:
            attempts = frozenset(process.attempts)
            self.recorder.add(ProcessDied(when=self.moment(), grant=None, attempts=attempts))
            self.breakers.pop(role, None)
            self.duties.pop((role, False), None)
            self.duties.pop((role, True), None)
            raise
        finally:
            actor.processes.remove(process)

    def _wrap_invoke(self) -> None:
        """The refresh function is a process of its own: a reader outlives it."""
        plain = self.world.refresh

        def refresh(key: Any, cause: Cause) -> RefreshReport:
            plan = self.step("invoke", "refresh")
            if plan == "refused":
                return RefreshReport("failed")
            try:
                with self.process("refresh"):
                    if self.world.refresh_grant.breaker is not (breaker := self._breaker("refresh")):
                        self.world.refresh_grant = replace(self.world.refresh_grant, breaker=breaker)
                    report = plain(key, cause)
            except Killed:
                return RefreshReport("failed")
            return RefreshReport("failed") if plan == "lost" else report

        self.world.refresh = refresh  # type: ignore[method-assign]

    @contextlib.contextmanager
    def acting(self, actor: Actor) -> Iterator[None]:
        before, self.actor = self.actor, actor
        actor.began = self.moment()
        try:
            yield
        except Killed:
            pass
        except RotatorError:
            pass  # whoever called gets an error; the next one comes
        finally:
            self.actor = before

    def act(self, what: str, director: Director | None = None, *, off_s: float = 0) -> None:
        """Let somebody do something, until it is done, fails or is killed."""
        outer, self.director = self.director, director or Undisturbed()
        try:
            with self.acting(Actor(what, timedelta(seconds=off_s))):
                self.perform(what)
        finally:
            self.director = outer

    def perform(self, what: str) -> None:
        """Do what an actor does, as the actor that is on stage."""
        getattr(self, f"_{what}")()

    def _sweep(self) -> None:
        self._be_on_duty("sweep", drains=True)

    def _sweep2(self) -> None:
        self._be_on_duty("sweep2", drains=True)

    def _duty(self) -> None:
        """A sweep that has been on duty for a while, and has just seen the parking queue empty."""
        self._be_on_duty("sweep", drains=False)

    def _duty2(self) -> None:
        self._be_on_duty("sweep2", drains=False)

    def _be_on_duty(self, role: str, *, drains: bool) -> None:
        with self.process(role):
            use = self._duty_of(role, drains=drains)
            # A duty that is nearly over asks Wise nothing about the breaker.
            lasts = _DUTY if self.world.fleet.fleet.open_until is None else _DUTY_WHILE_OPEN
            use(range(16), self.clock() + lasts)

    def _duty_of(self, role: str, *, drains: bool) -> RefreshDue:
        if (role, drains) not in self.duties:
            breaker = self._breaker(role)
            drained: Any = lambda _: self.clock()  # noqa: E731 - in place of what a sweep does first
            self.duties[role, drains] = replace(
                self.world.refresh_due,
                refresh=replace(self.world.refresh_grant, breaker=breaker),
                breaker=breaker,
                drain=self.world.drain if drains else drained,
            )
        return self.duties[role, drains]

    def _drain(self) -> None:
        """Another sweep takes parked answers out of the queue."""
        with self.process("sweep2"):
            self.world.drain(self.clock() + timedelta(seconds=1))

    def _refresh(self) -> None:
        """The refresh function alone, as a reader's invocation that nobody waits for any more."""
        with self.process("refresh"):
            self.world.refresh(self.key, Due())

    def _read(self) -> None:
        with self.process("serve"):
            self._served(self.world.serve_token(self.key, None))

    def _read2(self) -> None:
        self._read()

    def _report(self) -> None:
        stored = self.stored
        if stored is None:
            return
        self.report(stored.version)

    def _report2(self) -> None:
        self._report()

    def report(self, version: int) -> None:
        self.recorder.add(Reported(when=self.moment(), grant=NAME, version=version))
        with self.process("serve"):
            self._served(self.world.serve_token(self.key, version))

    def _served(self, answer: object) -> None:
        actor = self.actor
        looked = actor.looked or actor.began or self.moment()
        if isinstance(answer, serve_token.Served):
            self.recorder.add(
                Served(
                    when=self.moment(),
                    grant=NAME,
                    looked=looked,
                    token=self.name_of(answer.access_token.reveal()),
                    version=answer.version,
                    stable_until=answer.stable_until - actor.off,
                    reader=actor.name,
                    degraded=answer.degraded,
                )
            )
        elif isinstance(answer, serve_token.NotServed):
            self.recorder.add(
                NotServed(when=self.moment(), grant=NAME, looked=looked, why=answer.why.value, reader=actor.name)
            )

    # --- others

    def _adopted(self, life: timedelta) -> Grant:
        access, refresh = self.world.wise.add(NAME, life)
        self.minted(access.reveal(), Kind.ACCESS, None)
        self.minted(refresh.reveal(), Kind.REFRESH, None)
        self.offer = Offer(
            refresh_token=refresh, access_token=access, issued_at=self.clock.now, expires_at=self.clock.now + life
        )
        with self.acting(Actor("operator")):
            self.world.adopt_grant(self.key, self.offer, None)
        stored = self.stored
        assert stored is not None
        self.world.grants.items[self.key] = proven = replace(stored, unproven=False)  # Wise has said that it lives
        return proven

    def _readopt(self) -> None:
        """An operator imports what was exported before the story began, under the version of then."""
        with self.process("admin"):
            self.world.adopt_grant(self.key, self.offer, self.exported.version)

    def _readopt_bare(self) -> None:
        """The same, of the refresh token alone."""
        with self.process("admin"):
            self.world.adopt_grant(self.key, Offer(refresh_token=self.offer.refresh_token), self.exported.version)

    def _authorized(self) -> Offer:
        """Let the user authorize again: Wise ends the old refresh token. Gives the new ones."""
        user = self.user
        if user.alive:
            self.died(user.refresh_token, None)
        access, refresh = self.world.wise._next(user.access_token), f"refresh-{NAME}-{len(self.names) + 500}"
        user.access_token, user.refresh_token, user.alive = access, refresh, True
        user.expires_at = self.clock.now + self.world.wise.life
        self.minted(access, Kind.ACCESS, None)
        self.minted(refresh, Kind.REFRESH, None)
        return Offer(
            refresh_token=Secret(refresh),
            access_token=Secret(access),
            issued_at=self.clock.now,
            expires_at=user.expires_at,
        )

    def _relink(self) -> None:
        """The user authorizes again, and somebody imports the new tokens."""
        offer = self._authorized()
        with self.process("admin"):
            stored = self.stored
            self.world.adopt_grant(self.key, offer, None if stored is None else stored.version)

    def _confirm(self) -> None:
        """The user is linked again: the new tokens wait, and the partner confirms."""
        offer, link_id = self._authorized(), Secret(f"{len(self.world.grants.pending):043d}")
        assert offer.access_token is not None
        assert offer.refresh_token is not None
        assert offer.issued_at is not None
        assert offer.expires_at is not None
        box = self.world.sealer.box
        self.world.links.keep(
            PendingTokens(
                hashed=hash_of(link_id),
                key=self.key,
                attempt_id=self.world.new_id(),
                access_token=box(self.key, SealedField.ACCESS_TOKEN, offer.access_token),
                refresh_token=box(self.key, SealedField.REFRESH_TOKEN, offer.refresh_token),
                issued_at=offer.issued_at,
                expires_at=offer.expires_at,
                confirm_before=offer.issued_at + CONFIRM_FOR,
                grant_since=None if self.stored is None else self.stored.created_at,
            )
        )
        with self.process("admin"):
            self.world.confirm_link(self.key, link_id.reveal())

    def _delete(self) -> None:
        with self.process("admin"):
            self.world.delete_grant(self.key)

    def _recreate(self) -> None:
        """An operator deletes the grant and imports what he exported before the story began."""
        self._delete()
        if self.stored is None:
            with self.process("admin"):
                self.world.adopt_grant(self.key, self.offer, None)

    def _revoke(self) -> None:
        """The user ends the authorization at Wise: every token dies, and nobody is told."""
        user = self.user
        if not user.alive:
            return
        user.alive = False
        self.note("revoked at Wise")
        for token in (*user.lingering, user.access_token, user.refresh_token):
            self.died(token, None)
        user.lingering.clear()

    def _replace_elsewhere(self) -> None:
        """Somebody else has the user authorize at Wise: the refresh token dies, the access token lives on."""
        user = self.user
        self.note("authorized elsewhere")
        self.died(user.refresh_token, None)
        user.refresh_token = f"refresh-{NAME}-{len(self.names) + 900}"

    def _reclaim(self) -> None:
        """The user takes the account over: nothing is issued for the registration code any more."""
        self.note("reclaimed at Wise")
        self.world.wise.reclaim(NAME)

    def _end_token(self) -> None:
        """Wise ends the access token by itself; the refresh token lives on."""
        user = self.user
        self.note("access token ended at Wise")
        self.died(user.access_token, None)
        user.access_token = f"access-{NAME}-{len(self.names) + 100}"

    def register(self) -> None:
        """Let us have created the user: the grant has a registration code."""
        sealed = self.world.sealer.box(self.key, SealedField.REGISTRATION, self.world.registration_of(NAME))
        stored = self.stored
        assert stored is not None
        self.world.grants.items[self.key] = replace(stored, registration=sealed)
        self._note_stored()

    def _suspend(self) -> None:
        """An operator suspends the grant."""
        with self.process("admin"):
            self.world.suspend_grant(self.key, self.world.order())
        self.recorder.add(Suspended(when=self.moment(), grant=NAME))

    def _lift(self) -> None:
        self.recorder.add(Suspended(when=self.moment(), grant=NAME, lifted=True))
        with self.process("admin"):
            self.world.suspend_grant.lift(self.key)

    def _pause(self) -> None:
        """An operator suspends the grant, and lifts that."""
        self._suspend()
        self._lift()

    def _stop(self) -> None:
        """An operator suspends the grant's tenant; every process knows it from then on."""
        self.world.suspensions.suspend(self.key.tenant, self.world.order())
        self._note_ordered()
        self.recorder.add(Suspended(when=self.moment(), grant=NAME))

    def _go_on(self) -> None:
        self.recorder.add(Suspended(when=self.moment(), grant=NAME, lifted=True))
        self.world.suspensions.lift(self.key.tenant)
        self._note_ordered()

    # --- others refresh it

    def _hold(self) -> None:
        """An operator has the grant served and not refreshed."""
        with self.process("admin"):
            if isinstance(self.world.hold_grant(self.key, self.world.order()), Grant):
                self.recorder.add(OnHold(when=self.moment(), grant=NAME))

    def _release(self) -> None:
        """The operator has ended the other refresher, and ends that."""
        self.recorder.add(OnHold(when=self.moment(), grant=NAME, lifted=True))
        with self.process("admin"):
            self.world.hold_grant.release(self.key)

    def _hold_all(self) -> None:
        """An operator has all grants of the tenant served and not refreshed."""
        with self.process("admin"):
            self.world.hold_all(self.key.tenant, self.world.order())
            self.recorder.add(OnHold(when=self.moment(), grant=NAME))

    def _let_go(self) -> None:
        """The operator ends whatever hold there is."""
        self._release_all()
        self._release()

    def _release_all(self) -> None:
        """The operator has ended the other refreshers, and ends that."""
        self.recorder.add(OnHold(when=self.moment(), grant=NAME, lifted=True))
        with self.process("admin"):
            self.world.hold_all.release(self.key.tenant)

    def _elsewhere(self) -> None:
        """Somebody else refreshes, with the tokens that Wise has given out last."""
        self.step("others", "refresh elsewhere", ("wise", "w"))
        if self.user.alive:
            self.wise.refresh_elsewhere()

    def _bring(self) -> None:
        """Whoever has the newest tokens brings them."""
        stored, user = self.stored, self.user
        if stored is None or not user.alive:
            return
        offer = Offer(
            refresh_token=Secret(user.refresh_token),
            access_token=Secret(user.access_token),
            issued_at=user.expires_at - self.world.wise.life,
            expires_at=user.expires_at,
        )
        with self.process("admin"):
            self.world.adopt_grant(self.key, offer, stored.version)

    def _move(self) -> None:
        """Somebody else refreshes, and brings the new tokens."""
        self._elsewhere()
        self._bring()

    # --- Wise closes the account, and opens it

    def identify(self) -> None:
        """Let the grant be known as that of a user of Wise's."""
        stored = self.stored
        assert stored is not None
        self.world.grants.items[self.key] = known = replace(stored, wise_user_id=ACCOUNT.wise_id)
        self.world.grants._listed(None, known)
        self._note_stored()

    def _close(self) -> None:
        """Wise deactivates the user: the tokens die, and nobody has been told yet."""
        self.step("others", "close", ("wise", "w"))
        user = self.user
        self.note("account closed at Wise")
        self.changes.append(StateChange(ACCOUNT, AccountState.DEACTIVATED, self._at_wise()))
        if self.kept_at_wise is None:
            self.kept_at_wise = (user.alive, [*user.lingering, user.access_token], user.refresh_token)
        if user.alive:
            for token in (*user.lingering, user.access_token, user.refresh_token):
                self.died(token, None)
            user.alive = False

    def _open(self) -> None:
        """Wise opens it again."""
        self.step("others", "open", ("wise", "w"))
        if self.kept_at_wise is None:
            return
        user, (lived, access, refresh) = self.user, self.kept_at_wise
        self.note("account opened at Wise")
        self.changes.append(StateChange(ACCOUNT, AccountState.ACTIVE, self._at_wise()))
        self.kept_at_wise = None
        if user.alive or not lived or refresh != user.refresh_token or self.comes_back == "nothing":
            return
        user.alive = True
        back = [refresh]
        if self.comes_back == "all":
            back += access
        else:
            user.lingering.clear()
            user.access_token = f"access-{NAME}-{len(self.names) + 300}"
        for token in back:
            self.recorder.add(Revived(when=self.moment(), grant=NAME, token=self.name_of(token)))

    def _at_wise(self) -> datetime:
        """Give the instant of a change, which is later than the one before."""
        now = self.clock.now
        return max(now, self.changes[-1].occurred_at + timedelta(milliseconds=1)) if self.changes else now

    def tell(self, number: int) -> None:
        """Wise tells of one of the changes."""
        if not self.changes:
            return
        with self.process("callback"):
            self.world.states.note(self.changes[number], self.clock())

    def _tell_first(self) -> None:
        self.tell(0)

    def _tell_last(self) -> None:
        self.tell(-1)

    def _tell_all(self) -> None:
        """Wise tells of all changes, the last one first, and of some twice."""
        for number in (-1, 0, -1):
            self.tell(number)

    def _shut(self) -> None:
        """Wise closes the account, and tells it."""
        self._close()
        self._tell_last()

    def _reopen(self) -> None:
        """Wise opens the account, and tells it."""
        self._open()
        self._tell_last()

    def _shut_and_reopen(self) -> None:
        """Wise closes the account and opens it, and tells both, the second first."""
        self._close()
        self._open()
        self._tell_all()

    def _shut_and_sweep(self) -> None:
        """Wise closes the account and tells it, and another sweep finds that."""
        self._shut()
        self._sweep2()

    def _shut_beside(self) -> None:
        """The same while an operator has the grant suspended, which he lifts then."""
        self._suspend()
        self._shut_and_sweep()
        self._lift()

    # --- time

    def pass_time(self, seconds: float) -> None:
        self.clock.advance_by(timedelta(seconds=seconds))

    def due_now(self) -> None:
        """Go to the instant at which the grant is due."""
        stored = self.stored
        assert stored is not None
        self.clock.now = max(self.clock.now, stored.refresh_at)

    def heal(self) -> None:
        """No more faults: everything comes to rest, also after what is done then."""
        self._rest()
        for what in self.at_rest:
            self.act(what)
            self._rest()

    def _rest(self, within: timedelta = timedelta(minutes=20)) -> None:
        """Sweeps look whenever there is something to find, readers come now and then."""
        self.director, self.wise.swift = Undisturbed(), False
        end = self.clock.now + within
        reads = [self.clock.now + timedelta(seconds=s) for s in (0, 40, 300)]
        self.act("sweep")
        while True:
            coming = [moment for moment in (*reads[:1], self._next_sweep()) if moment is not None and moment < end]
            if not coming:
                break
            first = min(coming)
            self.clock.now = max(self.clock.now, first)
            if reads and first == reads[0]:
                reads.pop(0)
                self.act("read")
            else:
                self.act("sweep")
        self.clock.now = max(self.clock.now, end)
        self.act("read")

    def _next_sweep(self) -> datetime | None:
        """Say when a sweep would next find anything; between those instants it finds nothing to do."""
        now = self.clock.now
        fleet = self.world.fleet.fleet
        moments = [grant.due_at for grant in self.world.grants.items.values() if grant.due_at is not None]
        moments += [due_at for _, due_at in self.world.grants.states.values() if due_at is not None]
        if fleet.open_until is not None:
            moments = [max(moment, fleet.barred_until(now)) for moment in moments] + [fleet.barred_until(now)]
        moments += [message.visible_at for message in self.world.parking.messages]
        moments += [moment for moment, _ in self.clock.pending]
        return max(min(moments), now + timedelta(milliseconds=1)) if moments else None
