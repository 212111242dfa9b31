"""A whole deployment in virtual time: processes with clocks of their own over shared stores that may fail.

The use cases are the real ones, wired as the functions wire them. Every call that leaves a process takes time, may
fail, and may be the last thing that the process does. All of it goes into one history.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from local.proof.checker import Rule, Terms, check
from local.proof.history import (
    GONE,
    Acted,
    Adopted,
    Announced,
    Deleted,
    History,
    Keeper,
    Moment,
    NotServed,
    Outage,
    ProcessDied,
    Record,
    Recorder,
    Reported,
    Served,
    Stored,
    name_of,
)
from local.proof.history import Parked as InQueue
from tests.fakes.alerts import InMemoryAlerts
from tests.fakes.fleet import InMemoryFleet
from tests.fakes.grants import InMemoryGrants
from tests.fakes.links import InMemoryLinks
from tests.fakes.parking import InMemoryParking
from tests.fakes.sealer import InMemorySealer
from tests.fakes.states import InMemoryStates
from tests.fakes.suspensions import InMemorySuspensions
from tests.fakes.world import START
from tests.longlife.provider import Client, Provider, User, milliseconds
from tests.longlife.provider import Trouble as WiseTrouble
from tests.longlife.simulation import Process, Simulation, Task
from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.errors import (
    KeyUnavailable,
    ParkingUnavailable,
    PublishRefused,
    PublishUnknown,
    RotatorError,
    StoreUnavailable,
    WiseSecretUnusable,
)
from token_rotator.domain.fleet import Lane
from token_rotator.domain.grant import Alert, Grant, GrantKey, Phase
from token_rotator.domain.lease import Budgets
from token_rotator.domain.tokens import Sealed, SealedField, Secret
from token_rotator.service import serve_token as serving
from token_rotator.service.adopt_grant import AdoptGrant, Declined, DeleteGrant, Kept, Offer
from token_rotator.service.apply_state import ApplyState
from token_rotator.service.breaker import Barred, Breaker
from token_rotator.service.drain_parking import DrainParking
from token_rotator.service.drop_tokens import DropTokens
from token_rotator.service.journal import AttemptEnded, BreakerOpened, Event, Trouble
from token_rotator.service.keep_answer import KeepAnswer
from token_rotator.service.ports import AlreadyHeld, Cause, Done, Due, Parked, RefreshReport, Refused, When
from token_rotator.service.refresh_due import RefreshDue
from token_rotator.service.refresh_grant import RefreshGrant, Word
from token_rotator.service.serve_token import NotServed as Nothing
from token_rotator.service.serve_token import ServeToken, Why
from token_rotator.service.tell_people import TellPeople

SKEW_MS = 2000
MINUTE = timedelta(minutes=1)
AHEAD = MINUTE + timedelta(seconds=5)
"""What is due this long after a tick may concern its sweep: a minute's duty by the fastest clock."""
AFTERMATH = timedelta(minutes=1)
"""So long after a fault its traces may still open the breaker: requests that hang, attempts that ran out of time."""
STALE = timedelta(minutes=6)
"""So long after a change of the client secret a process may still send the one before."""
READS = ("get", "due", "receive", "read", "holds_any")
_WORDS = {
    Word.REFRESHED: "refreshed",
    Word.FRESH: "fresh",
    Word.CONFIRMED: "confirmed",
    Word.HELD: "held",
    Word.FAILED: "failed",
    Word.IN_DOUBT: "in_doubt",
    Word.OVERTAKEN: "fresh",
    Word.BARRED: "barred",
    Word.SUSPECT: "failed",
    Word.SUSPENDED: "suspended",
}


@dataclass
class Service:
    """One of AWS's services, and how it behaves now.

    `mode`: `up`, `down` (an error and no effect), `lost` (an effect, and yet an error), `late` (an error, and the
    effect of a write comes later), `slow`. `longest_ms`: how long a call takes that hangs.
    """

    name: str
    longest_ms: int
    mode: str = "up"
    until: datetime = START
    since: Moment | None = None


class Items(dict[GrantKey, Grant]):
    """The table's items. Whatever changes is told."""

    def __init__(self, told: Callable[[GrantKey, Grant | None], None]) -> None:
        super().__init__()
        self.told = told

    def __setitem__(self, key: GrantKey, grant: Grant) -> None:
        super().__setitem__(key, grant)
        self.told(key, grant)

    def __delitem__(self, key: GrantKey) -> None:
        super().__delitem__(key)
        self.told(key, None)


class Table(InMemoryGrants):
    """The table. What changes is told; a look at the index that finds nothing is quick, for there are millions."""

    def __init__(self, told: Callable[[GrantKey, Grant | None], None]) -> None:
        super().__init__()
        self.items = Items(told)

    def due(self, shards: Sequence[int], now: datetime, limit: int) -> Sequence[tuple[datetime, GrantKey]]:
        if not any(grant.due_at is not None and grant.due_at <= now for grant in self.items.values()):
            return []
        return super().due(shards, now, limit)


class Queue(InMemoryParking):
    """The parking queue. What it takes is told. Its count may be a minute behind."""

    def __init__(self, simulation: Simulation, chance: random.Random, told: Callable[[SealedAnswer], None]) -> None:
        super().__init__(simulation)
        self.chance = chance
        self.told = told
        self.counts: deque[tuple[datetime, int]] = deque([(simulation.now, 0)])
        """How many lay there since when."""

    def _count(self) -> None:
        self.counts.append((self.clock(), len(self.messages)))

    def _put(self, answer: SealedAnswer | None) -> None:
        super()._put(answer)
        self._count()
        if answer is not None:
            self.told(answer)

    def remove(self, parked: Parked) -> None:
        super().remove(parked)
        self._count()

    def holds_any(self) -> bool:
        behind = self.clock() - MINUTE * self.chance.random()
        while len(self.counts) > 1 and self.counts[1][0] <= self.clock() - MINUTE:
            self.counts.popleft()
        known = [count for since, count in self.counts if since <= behind] or [self.counts[0][1]]
        return known[-1] > 0


class Topic(InMemoryAlerts):
    """The topic. What it takes is told."""

    told: Callable[[GrantKey | None, Alert], None]

    def publish(self, key: GrantKey | None, alert: Alert) -> None:
        super().publish(key, alert)
        self.told(key, alert)


class Remote:
    """A port as one process has it: the same methods over the same store, with a network between."""

    def __init__(self, deployment: Deployment, process: Process, service: str, port: object) -> None:
        self._deployment = deployment
        self._process = process
        self._service = deployment.services[service]
        self._port = port
        self.seen: Moment | None = None
        """When the last look at a grant took effect."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        plain = getattr(self._port, name)

        def call(*arguments: Any) -> Any:
            return self._deployment.call(self, self._process, self._service, name, lambda: plain(*arguments))

        setattr(self, name, call)
        return call


class Registry:
    """`GrantRegistry` for one act of an operator. What took effect is told, whatever the operator gets to know."""

    def __init__(self, grants: InMemoryGrants, recorder: Recorder, offered: tuple[str, str | None] | None) -> None:
        self.grants = grants
        self.recorder = recorder
        self.offered = offered
        self.asked = recorder.moment()
        self.get = grants.get

    def create(self, grant: Grant) -> Done | Refused | AlreadyHeld:
        when = self.recorder.moment()
        answer = self.grants.create(grant)
        return self._adopted(when, grant, answer, replaced=False)

    def replace(self, before: Grant, after: Grant, when: When) -> Done | Refused | AlreadyHeld:
        moment = self.recorder.moment()
        answer = self.grants.replace(before, after, when)
        return self._adopted(moment, after, answer, replaced=True)

    def _adopted(
        self, when: Moment, grant: Grant, answer: Done | Refused | AlreadyHeld, *, replaced: bool
    ) -> Done | Refused | AlreadyHeld:
        if isinstance(answer, Done) and self.offered is not None:
            refresh, access = self.offered
            self.recorder.add(
                Adopted(
                    when=when,
                    grant=str(grant.key),
                    asked=self.asked,
                    refresh=name_of(refresh),
                    access=None if access is None else name_of(access),
                    replaced=replaced,
                )
            )
        return answer

    def delete(self, grant: Grant, when: When) -> Done | Refused:
        moment = self.recorder.moment()
        answer = self.grants.delete(grant, when)
        if isinstance(answer, Done):
            self.recorder.add(Deleted(when=moment, grant=str(grant.key), asked=self.asked))
        return answer


@dataclass(frozen=True)
class Journal:
    """`Journal` of one process: each event goes to the deployment."""

    record: Callable[[Event], None]


@dataclass
class Worker:
    """A process of `sweep` or `refresh`, with all that lives as long as it does."""

    process: Process
    client: Client
    refresh_grant: RefreshGrant
    refresh_due: RefreshDue


@dataclass
class Held:
    """What a partner service has in hand of one grant."""

    version: int
    token: str
    stable_until: datetime


class Deployment:
    """The stores, Wise, the processes, the scheduler that starts sweeps, and the partner services."""

    def __init__(self, seed: int, budgets: Budgets | None = None) -> None:
        self.simulation = Simulation(START)
        self.chance = random.Random(seed)  # noqa: S311 - the same each time
        self.recorder = Recorder(self.simulation)
        self.wise = Provider(self.simulation, self.recorder, self.chance)
        self.budgets = budgets or Budgets()
        self.sealer = InMemorySealer()
        self.grants = Table(self._stored)
        self.states = InMemoryStates(self.grants)
        self.links = InMemoryLinks(self.grants)
        self.fleet = InMemoryFleet()
        self.fleet.before_write = self._something_changed
        self.parking = Queue(self.simulation, self.chance, self._parked)
        self.topic = Topic()
        self.topic.told = self._announced
        self.services = {
            service.name: service
            for service in (
                Service("table", 2000),
                Service("queue", 800),
                Service("keys", 1500),
                Service("topic", 3000),
                Service("secrets", 1000),
            )
        }
        self.sweep_lane, self.demand_lane = Lane("sweep", 900), Lane("demand", 100)
        self.suspensions = InMemorySuspensions()
        self.sweepers: list[Worker] = []
        self.refreshers: list[Worker] = []
        self.surprises: list[tuple[str, Callable[[Process], object]]] = []
        """What happens when a worker next makes a call: ("table.write after", ...)."""
        self.ticks: list[list[float]] = []
        """What becomes of the next minutes: the seconds after which a sweep starts; none, one or several."""
        self.partners: dict[GrantKey, Held | None] = {}
        self.impatience: Counter[GrantKey] = Counter()
        self.exported: dict[GrantKey, tuple[str, str, datetime, datetime]] = {}
        self.resting: list[Task] = []
        """Sweeps that have nothing to look for, until something changes."""
        self.tally: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.wise_well_since = START
        self.table_well_since = START
        self.secret_since = START - STALE
        self._ids = 0
        self._processes: list[Process] = []
        self.simulation.at(START, self._tick)

    # --- time

    @property
    def now(self) -> datetime:
        return self.simulation.now

    def live(self, duration: timedelta) -> None:
        """Let time pass."""
        self.simulation.run(self.now + duration)

    def finish(self, task: Task, within: timedelta = timedelta(minutes=5)) -> None:
        """Let time pass until a task is over."""
        self.simulation.run(self.now + within, lambda: task.over)
        assert task.over, "a task never ended"

    def end(self) -> None:
        """Let go of all threads."""
        for process in self._processes:
            process.on_death = lambda: None
            process.kill()
        self.simulation.run(self.now)

    def process(self, name: str) -> Process:
        """Start a process whose clock is off, by up to two seconds, and often by as much."""
        skew = self.chance.choice((-SKEW_MS, SKEW_MS, self.chance.randint(-SKEW_MS, SKEW_MS)))
        process = Process(self.simulation, name, timedelta(milliseconds=skew))
        self._processes = [*(p for p in self._processes if p.alive and p.tasks), process]
        return process

    # --- calls that leave a process

    def call(self, remote: Remote, process: Process, service: Service, name: str, effect: Callable[[], Any]) -> Any:
        what = f"{service.name}.{name}"
        self.step(process, f"{what} before")
        mode = service.mode
        if mode in ("down", "late"):
            self.tally[f"{service.name} {mode}"] += 1
            if mode == "late" and name not in READS and service.name != "keys" and process.name != "admin":
                self.simulation.after(milliseconds(self.chance, 100, 20_000), lambda: self._late(effect))
            raise self._failed(process, service, sure=mode == "down")
        self._pause(process, service)
        if name == "get":
            remote.seen = self.recorder.moment()
        answer = effect()
        self.step(process, f"{what} after")
        self._pause(process, service)
        if mode == "lost":
            self.tally[f"{service.name} lost"] += 1
            raise self._failed(process, service, sure=False, already=0.5)
        return answer

    def _pause(self, process: Process, service: Service) -> None:
        most = service.longest_ms // 2 - 50 if service.mode == "slow" else 12
        process.sleep(milliseconds(self.chance, most // 4, most))

    def _failed(self, process: Process, service: Service, *, sure: bool, already: float = 0) -> RotatorError:
        """Let a call fail, at once or after hanging."""
        hangs = self.chance.random() < 0.5
        process.sleep(timedelta(milliseconds=(1 - already) * service.longest_ms - 100 if hangs else 30))
        if service.name == "topic":
            return PublishRefused("injected") if sure and not hangs else PublishUnknown("injected")
        errors = {"table": StoreUnavailable, "queue": ParkingUnavailable, "keys": KeyUnavailable}
        return errors[service.name]("injected")

    def _late(self, effect: Callable[[], Any]) -> None:
        self.tally["late effects"] += 1
        effect()

    def step(self, process: Process, what: str) -> None:
        """Take a step of a process; something may happen at this very moment."""
        if process.name not in ("sweep", "refresh"):
            return
        for surprise in [found for found in self.surprises if found[0] == what]:
            self.surprises.remove(surprise)
            self.tally[f"surprises {what}"] += 1
            surprise[1](process)

    # --- faults

    def fault(self, service: str, mode: str, duration: timedelta) -> None:
        """Let a service misbehave for a while. It does so in one way at a time; an outage may be made longer."""
        it = self.services[service]
        if it.mode != mode:
            self.mend(service)
            it.since = self.recorder.moment() if mode == "down" else None
        it.mode, it.until = mode, self.now + duration
        self.acted(f"{service} is {mode} for {duration}")
        until = it.until
        self.simulation.at(until, lambda: self.mend(service) if it.until == until else None)

    def mend(self, service: str) -> None:
        it = self.services[service]
        if it.mode == "up":
            return
        if it.since is not None:
            ended = self.recorder.moment()
            self.recorder.add(Outage(when=it.since, grant=None, keeper=Keeper(service), ended=ended)) if service in (
                "table",
                "queue",
            ) else None
        it.mode, it.since = "up", None
        if service == "table":
            self.table_well_since = self.now
        if service == "secrets":
            self.secret_since = self.now
        self.acted(f"{service} is up")

    def trouble_wise(self, trouble: WiseTrouble, duration: timedelta) -> None:
        """Let Wise misbehave for a while."""
        self.wise.trouble = trouble
        self.acted(f"wise is in trouble for {duration}: {trouble}")
        self.simulation.after(duration, lambda: self.mend_wise() if self.wise.trouble is trouble else None)

    def mend_wise(self) -> None:
        if self.wise.trouble is not None:
            self.wise.trouble = None
            self.wise_well_since = self.now
            self.acted("wise is well")

    def acted(self, act: str) -> None:
        self.recorder.add(Acted(when=self.recorder.moment(), grant=None, act=act))

    @property
    def calm(self) -> bool:
        """Whether nothing that could open the breaker has been wrong for a while: grants' own faults do not count."""
        now, wise = self.now, self.wise
        return (
            wise.trouble is None
            and all(self.services[service].mode == "up" for service in ("table", "secrets"))
            and wise.secrets[0] in wise.valid_secrets
            and now - max(self.wise_well_since, self.table_well_since) > AFTERMATH
            and now - self.secret_since > STALE
        )

    def put_secret(self) -> None:
        """An operator puts the newest client secret into Secrets Manager."""
        self.wise.secret_version += 1
        self.wise.secrets = [f"secret-{self.wise.secret_version}", self.wise.secrets[0]]
        self.secret_since = self.now
        self.acted("the newest client secret is in Secrets Manager")

    def change_at_wise(self, valid: set[str]) -> None:
        """Wise takes these client secrets from now on."""
        self.wise.valid_secrets = valid
        self.secret_since = self.now
        self.acted(f"wise takes {sorted(valid)}")

    # --- processes

    def _worker(self, name: str) -> Worker:
        process = self.process(name)
        secrets = self.services["secrets"]
        client = Client(self.wise, process, lambda what: self.step(process, what), lambda: secrets.mode == "up")
        journal = Journal(lambda event: self._heard(client, event))
        grants = Remote(self, process, "table", self.grants)
        fleet = Remote(self, process, "table", self.fleet)
        parking = Remote(self, process, "queue", self.parking)
        topic = Remote(self, process, "topic", self.topic)
        sealer = Remote(self, process, "keys", self.sealer)
        clock, sleep = process.clock, process.sleep
        tell = TellPeople(grants, topic, journal, clock, timedelta(days=1))
        breaker = Breaker(
            fleet=fleet,
            wise=client,
            publisher=topic,
            journal=journal,
            budgets=self.budgets,
            clock=clock,
            new_id=self._new_id,
            random=self.chance.random,
            many_dying=100,
        )
        keep = KeepAnswer(grants, journal, self.budgets, clock)
        refresh_grant = RefreshGrant(
            grants,
            client,
            sealer,
            keep,
            parking,
            breaker,
            tell,
            journal,
            self.budgets,
            clock,
            sleep,
            self._new_id,
            self.suspensions,
        )
        refresh_due = RefreshDue(
            refresh_grant,
            grants,
            grants,
            DrainParking(parking, grants, keep, journal, clock),
            breaker,
            self.sweep_lane,
            tell,
            journal,
            self.budgets,
            clock,
            lambda pause: self._rest(process, pause),
            workers=16,
            apply_state=ApplyState(Remote(self, process, "table", self.states), grants, journal, clock),
            drop_tokens=DropTokens(Remote(self, process, "table", self.links), journal, clock),
        )
        process.on_death = lambda: self._died(client)
        return Worker(process, client, refresh_grant, refresh_due)

    def _invoke(self, process: Process, work: Callable[[], Any], limit: timedelta, *, watched: bool = False) -> Task:
        """Run something as Lambda does: what takes longer than the function may is killed. It should never have to."""
        process.invocations += 1
        number, task = process.invocations, process.start(work, watched=watched)

        def too_long() -> None:
            if process.alive and process.invocations == number and not task.over:
                self.complaints.append(
                    f"{process.name} was killed by Lambda at {self.now}: it took longer than {limit}"
                )
                process.kill()

        self.simulation.after(limit, too_long)
        return task

    def _new_id(self) -> str:
        self._ids += 1
        return f"attempt-{self._ids}"

    def _free(self, workers: list[Worker], name: str) -> Worker:
        """Give a process that has nothing to do, warm where there is one; now and then a cold one all the same."""
        workers[:] = [worker for worker in workers if worker.process.alive][-6:]
        idle = [worker for worker in workers if worker.process.idle]
        if idle and self.chance.random() > 0.05:
            return self.chance.choice(idle)
        workers.append(self._worker(name))
        return workers[-1]

    def restart(self) -> None:
        """Have all later work done by new processes, as after a deploy."""
        self.acted("all processes are new from now on")
        self.sweepers.clear()
        self.refreshers.clear()

    def _died(self, client: Client) -> None:
        self.tally["processes killed"] += 1
        self.recorder.add(ProcessDied(when=self.recorder.moment(), grant=None, attempts=frozenset(client.sent)))

    def _heard(self, client: Client, event: Event) -> None:
        self.tally[type(event).__name__] += 1
        match event:
            case AttemptEnded():
                client.sent.discard(event.attempt_id)
                self.tally[f"attempt {event.result}"] += 1
            case BreakerOpened():
                self.acted(f"the breaker is open: {event.why}, until {event.until:%H:%M:%S}")
                if self.calm and self.wise.grants_client_credentials:
                    self.complaints.append(f"the breaker opened at {self.now} for {event.why}, and nothing was wrong")
            case Trouble(code="internal-error"):
                self.complaints.append(f"an error that nobody expected: {event}")
            case _:
                pass

    # --- sweeps

    def _tick(self) -> None:
        """Once a minute the scheduler starts a sweep; where nothing could be due it is taken for done."""
        self.simulation.after(MINUTE, self._tick)
        delays = self.ticks.pop(0) if self.ticks else [self.chance.randint(0, 1500) / 1000]
        self.tally["minutes"] += 1
        if self._nothing_to_do():
            return
        for delay in delays:
            self.simulation.after(timedelta(seconds=delay), self.sweep)

    def _nothing_to_do(self) -> bool:
        soon, fleet = self.now + AHEAD, self.fleet.fleet
        due = any(grant.due_at is not None and grant.due_at <= soon for grant in self.grants.items.values())
        untold = fleet.alert is not None and fleet.alert.published_at is None
        return not (due or untold or fleet.open_until is not None or self.parking.messages)

    def _rest(self, process: Process, pause: timedelta) -> None:
        """Let a sweep wait for its next look, and leave out those that would find nothing: months have too many."""
        dues = [grant.due_at for grant in self.grants.items.values() if grant.due_at is not None]
        quiet = min(dues, default=self.now + MINUTE) - self.now - AHEAD + MINUTE
        if quiet <= pause or self.fleet.fleet.open_until is not None or self.parking.messages:
            process.sleep(pause)
            return
        running = self.simulation.running
        assert running is not None
        self.resting.append(running)
        process.sleep(max(min(quiet, (process.duty_ends or self.now) - self.now), pause))
        if running in self.resting:
            self.resting.remove(running)
        else:
            process.sleep(pause * self.chance.random())

    def _something_changed(self) -> None:
        """Have the sweeps that rest look again."""
        for task in self.resting:
            self.simulation.wake(task)
        self.resting.clear()

    def sweep(self) -> Task:
        """Start one sweep."""
        self.tally["sweeps"] += 1
        worker = self._free(self.sweepers, "sweep")
        return self._invoke(worker.process, lambda: self._swept(worker), self.budgets.sweep_function)

    def _swept(self, worker: Worker) -> None:
        until, barred = worker.process.clock() + self.budgets.sweep_duty, None
        worker.process.duty_ends = self.now + self.budgets.sweep_duty
        try:
            worker.client.check_credentials()
        except WiseSecretUnusable as error:
            barred = Barred(until, error.code)
        worker.refresh_due(range(16), until, barred)

    # --- readers

    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport:
        """`Refresher`: a synchronous invocation of another process, from the process that serves."""
        self.simulation.pause(milliseconds(self.chance, 5, 30))
        worker = self._free(self.refreshers, "refresh")
        task = self._invoke(
            worker.process, lambda: self._refreshed(worker, key, cause), self.budgets.refresh_function, watched=True
        )
        self.simulation.wait([task], self.budgets.invoke)
        if not task.over or task.killed:
            return RefreshReport("failed")
        report: RefreshReport = task.result()
        return report

    def _refreshed(self, worker: Worker, key: GrantKey, cause: Cause) -> RefreshReport:
        clock, use = worker.process.clock, worker.refresh_grant
        until = clock() + self.budgets.refresh_function - timedelta(milliseconds=300)
        try:
            try:
                worker.client.check_credentials()
            except WiseSecretUnusable as error:
                if isinstance(cause, Due):
                    use.stand_down(key, Barred(clock() + MINUTE, error.code))
                return RefreshReport("unusable", retry_after=MINUTE)
            result = use(key, cause, alone=True, until=until, lane=self.demand_lane)
        except RotatorError:
            return RefreshReport("failed")
        retry_after = None if result.retry_at is None else result.retry_at - clock()
        return RefreshReport(_WORDS.get(result.word, "gone"), result.version, retry_after)

    def read(self, key: GrantKey, rejected: int | None = None, then: Callable[[Any], None] = lambda _: None) -> Task:
        """Let a reader ask, and do something with the answer. `rejected`: it reports this version."""
        process = self.process("serve")
        if rejected is not None:
            self.recorder.add(Reported(when=self.recorder.moment(), grant=str(key), version=rejected))
        return self._invoke(process, lambda: then(self._served(process, key, rejected)), self.budgets.serve_function)

    def _served(self, process: Process, key: GrantKey, rejected: int | None) -> serving.Served | Nothing:
        grants = Remote(self, process, "table", self.grants)
        sealer = Remote(self, process, "keys", self.sealer)
        serve = ServeToken(
            grants, sealer, self, self.budgets, process.clock, process.sleep, self.chance.random, self.suspensions
        )
        asked = self.recorder.moment()
        try:
            answer = serve(key, rejected)
        except RotatorError as error:
            self.tally[f"readers {error.code}"] += 1
            self._not_served(key, asked, error.code)
            return Nothing(Why.UNAVAILABLE)
        if isinstance(answer, Nothing):
            self.tally[f"readers {answer.why.value}"] += 1
            self._not_served(key, grants.seen or asked, answer.why.value)
            return answer
        self.tally["readers served degraded" if answer.degraded else "readers served"] += 1
        self.recorder.add(
            Served(
                when=self.recorder.moment(),
                grant=str(key),
                looked=grants.seen or asked,
                token=name_of(answer.access_token.reveal()),
                version=answer.version,
                stable_until=answer.stable_until,
                degraded=answer.degraded,
            )
        )
        return answer

    def _not_served(self, key: GrantKey, looked: Moment, why: str) -> None:
        self.recorder.add(NotServed(when=self.recorder.moment(), grant=str(key), looked=looked, why=why))

    # --- partner services: they keep a token until its `stable_until`, use it, and report it where Wise refuses it

    def partner(self, key: GrantKey) -> None:
        """Have a partner service use this grant from now on."""
        if key not in self.partners:
            self.partners[key] = None
            self._ask_again(key, timedelta(seconds=self.chance.randint(0, 600)))

    def _ask_again(self, key: GrantKey, wait: timedelta, rejected: int | None = None) -> None:
        self.simulation.after(wait, lambda: self.read(key, rejected, lambda answer: self._got(key, answer)))

    def _got(self, key: GrantKey, answer: serving.Served | Nothing) -> None:
        if isinstance(answer, Nothing):
            self.impatience[key] += 1
            wait = timedelta(seconds=min(20 * 2 ** self.impatience[key], 1800))
            if answer.why is not Why.UNAVAILABLE:
                wait = timedelta(hours=4)
            wait = max(wait, answer.retry_after or wait) * (0.5 + self.chance.random())
            self._ask_again(key, wait)
            return
        self.impatience[key] = 0
        held = Held(answer.version, answer.access_token.reveal(), answer.stable_until)
        self.partners[key] = held
        left = max(held.stable_until - self.now, timedelta(seconds=1))
        self.simulation.after(left * self.chance.random(), lambda: self._use(key, held))

    def _use(self, key: GrantKey, held: Held) -> None:
        if self.wise.lives(str(key), held.token):
            late = milliseconds(self.chance, 0, 6000)
            self._ask_again(key, max(held.stable_until - self.now, timedelta(0)) + late)
        else:
            self.tally["partners refused by wise"] += 1
            self._ask_again(key, timedelta(0), held.version)

    # --- operators

    def adopt(self, key: GrantKey, user: User | None = None, *, access: bool = True, wait: timedelta) -> Task:
        """A user authorizes us anew, and after a while an operator gives us what Wise gave, new or over what is there.

        Without `access` the operator has no access token to give.
        """
        name = str(key)
        if user is not None:
            self.wise.users[name] = user
        token, refresh, expires_at = self.wise.authorize(name)
        self.exported[key] = token, refresh, self.now, expires_at
        return self.import_again(key, access=access, wait=wait)

    def import_again(self, key: GrantKey, *, access: bool = True, wait: timedelta = timedelta(0)) -> Task:
        """Give us what the user authorized last, whatever has become of it."""
        token, refresh, issued_at, expires_at = self.exported[key]
        offer = Offer(refresh_token=Secret(refresh))
        if access:
            offer = replace(offer, access_token=Secret(token), issued_at=issued_at, expires_at=expires_at)
        self.tally["adoptions"] += 1
        self.partner(key)
        return self._operate(
            key, (refresh, token if access else None), wait, lambda use: self._adopted(use, key, offer)
        )

    def _adopted(self, registry: tuple[Process, Any, Any], key: GrantKey, offer: Offer) -> bool:
        process, grants, sealer = registry
        adopt = AdoptGrant(grants, sealer, self.budgets, process.clock, process.sleep)
        stored = grants.get(key)
        return isinstance(adopt(key, offer, stored.version if stored is not None else None), Kept)

    def delete(self, key: GrantKey) -> Task:
        """Have a grant forgotten."""
        self.tally["deletions"] += 1
        return self._operate(key, None, timedelta(0), lambda use: self._deleted(use, key))

    def _deleted(self, registry: tuple[Process, Any, Any], key: GrantKey) -> bool:
        process, grants, _ = registry
        answer = DeleteGrant(grants, self.budgets, process.clock, process.sleep)(key)
        return answer in (None, Declined.NOT_FOUND)

    def _operate(
        self,
        key: GrantKey,
        offered: tuple[str, str | None] | None,
        wait: timedelta,
        act: Callable[[tuple[Process, Any, Any]], bool],
    ) -> Task:
        """Let an operator try, up to four times."""
        process = self.process("admin")

        def work() -> None:
            process.sleep(wait)
            for _ in range(4):
                registry = Registry(self.grants, self.recorder, offered)
                grants = Remote(self, process, "table", registry)
                try:
                    if act((process, grants, Remote(self, process, "keys", self.sealer))):
                        return
                except RotatorError:
                    self.tally["operators turned away"] += 1
                process.sleep(timedelta(seconds=5))

        return process.start(work)

    # --- what the history is told

    def _name(self, key: GrantKey, field: SealedField, sealed: Sealed | None) -> str | None:
        return None if sealed is None else name_of(self.sealer.unbox(key, field, sealed).reveal())

    def _stored(self, key: GrantKey, grant: Grant | None) -> None:
        self._something_changed()
        when = self.recorder.moment()
        if grant is None:
            self.recorder.add(Stored(when=when, grant=str(key), phase=GONE))
            return
        judged = grant.phase is Phase.REAUTHORIZATION_REQUIRED and grant.alert is not None
        self.recorder.add(
            Stored(
                when=when,
                grant=str(key),
                phase=grant.phase.value,
                version=grant.version,
                access=self._name(key, SealedField.ACCESS_TOKEN, grant.access_token),
                refresh=self._name(key, SealedField.REFRESH_TOKEN, grant.refresh_token),
                reason=grant.alert.reason if judged and grant.alert else None,
                lease=grant.attempt_id,
                doubt=grant.in_doubt,
            )
        )

    def _parked(self, answer: SealedAnswer) -> None:
        self._something_changed()
        access = self._name(answer.key, SealedField.ACCESS_TOKEN, answer.access_token)
        self.recorder.add(InQueue(when=self.recorder.moment(), grant=str(answer.key), access=access or ""))

    def _announced(self, key: GrantKey | None, alert: Alert) -> None:
        self.recorder.add(
            Announced(
                when=self.recorder.moment(),
                grant=None if key is None else str(key),
                kind=alert.kind.value,
                incident_id=alert.incident_id,
                reason=alert.reason,
            )
        )

    def history(self, *, healed: bool) -> History:
        """Give all that happened so far, outages that go on included."""
        history = self.recorder.history(healed=healed)
        going_on = [
            Outage(when=service.since, grant=None, keeper=Keeper(service.name))
            for service in self.services.values()
            if service.since is not None and service.name in ("table", "queue")
        ]
        return replace(history, records=(*history.records, *going_on)) if going_on else history

    def judge(self, *, healed: bool = False) -> Sequence[str]:
        """Say what is wrong: promises that were broken, and what else should never be.

        An answer that came a moment ago may be on its way into the store still.
        """
        terms = Terms()
        fresh = self.now - terms.attempt
        return [
            *self.complaints,
            *(
                str(violation)
                for violation in check(self.history(healed=healed), terms)
                if healed or violation.rule is not Rule.KEPT or violation.when is None or violation.when.at < fresh
            ),
        ]

    def story(self, grant: str, last: int = 60) -> str:
        """Tell the last things that happened to a grant, for whoever reads a failure."""
        records = [record for record in self.history(healed=False) if record.grant in (grant, None)]
        return "\n".join(_line(record) for record in records[-last:])


def _line(record: Record) -> str:
    facts = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in ("when", "grant")}
    told = ", ".join(
        f"{name} {value:%H:%M:%S.%f}" if isinstance(value, datetime) else f"{name} {value}"
        for name, value in facts.items()
        if value not in (None, False)
    )
    return f"  {record.when.at:%d} {record.when} {type(record).__name__}: {told}"
