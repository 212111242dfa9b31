"""A thousand broken grants and a healthy one that is due after all of them, over real adapters: nobody starves.

Time is the test's: it passes where the sweep sleeps and with each call, whatever this machine takes for it.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.demo.partner import hash_of
from local.wise.running import RunningWise, running_wise
from tests.integration.place import A_WHILE_AGO_S, TENANT, Parts, Place, wired
from token_rotator.adapters.dynamo_items import to_ms
from token_rotator.adapters.wise_http import WiseHttp
from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.outcome import ClientCheck, Outcome, Said
from token_rotator.domain.policy import BACKOFF_BASE, BACKOFF_CAP
from token_rotator.domain.tokens import Secret
from token_rotator.service.journal import AlertTold, AttemptEnded, BreakerOpened, Event, Sent, Trouble
from token_rotator.service.refresh_due import LOOK_LIMIT, TROUBLE_REST, SweepSummary
from token_rotator.service.refresh_grant import HELD_FOR
from token_rotator.wiring import clients, refreshing
from token_rotator.wiring import wise as calling
from token_rotator.wiring.clients import utc_now

pytestmark = pytest.mark.emulator

MINUTE: Final = timedelta(minutes=1)
"""A sweep starts each minute, and stays on duty for less."""
SWEEPS: Final = 3
SHARDS: Final = range(16)
HEALTHY: Final = GrantKey(TENANT, "healthy")
LIFE_S: Final = 120
"""Of the healthy one's next tokens: nearly each sweep finds it due."""
BROKEN: Final = {"corrupt": 440, "unsealable": 360, "dead": 100, "refused": 60, "faulty": 40}
"""How many grants are broken in each way.

An item that this version cannot read; a refresh token that does not open; one that Wise has ended; a user to whom Wise
says 401 without a word that is known; one at whom Wise fails with 500.
"""
NEIGHBOURS: Final = 3 * LOOK_LIMIT
"""How many of them share the healthy one's partition of the index: more than one look takes in."""

WISE_TAKES: Final = timedelta(milliseconds=320)
AWS_TAKES: Final = timedelta(milliseconds=16)
"""A call, where the sweep's workers make theirs side by side."""
PATIENCE: Final = timedelta(seconds=30)
"""How long this machine may take for a call: slowness of its own is no fault of Wise's."""


class Clock:
    """A clock that passes where somebody sleeps, and with each call."""

    def __init__(self) -> None:
        self._now = utc_now()
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self._now

    def sleep(self, duration: timedelta) -> None:
        with self._lock:
            self._now += max(duration, timedelta(0))

    def reach(self, instant: datetime) -> None:
        self.sleep(instant - self._now)

    def work(self, takes: timedelta) -> None:
        self.sleep(takes / refreshing.SWEEP_WORKERS)


@dataclass
class Watch:
    """What happened and when, by the clock of the sweep: events, calls to AWS, calls to Wise."""

    clock: Clock
    events: list[tuple[datetime, Event]] = field(default_factory=list)
    aws: Counter[str] = field(default_factory=Counter)
    wise: list[datetime] = field(default_factory=list)

    def record(self, event: Event) -> None:
        self.events.append((self.clock(), event))

    def on_aws(self, model: Any, **_: object) -> None:
        self.aws[model.name] += 1
        self.clock.work(AWS_TAKES)

    def on_wise(self) -> None:
        self.wise.append(self.clock())
        self.clock.work(WISE_TAKES)

    def of(self, *kinds: type[Event]) -> list[tuple[datetime, Any]]:
        return [(at, event) for at, event in self.events if isinstance(event, kinds)]

    def tries(self) -> Mapping[GrantKey, list[datetime]]:
        """When each grant was tried."""
        found: dict[GrantKey, list[datetime]] = defaultdict(list)
        for at, event in self.of(AttemptEnded, Trouble):
            found[event.key].append(at)
        return found


@dataclass(frozen=True)
class World:
    parts: Parts
    clock: Clock
    watch: Watch
    broken: Mapping[str, Sequence[GrantKey]]

    def sweep(self) -> SweepSummary:
        budgets = self.parts.refreshing.settings.budgets
        return self.parts.refreshing.refresh_due(SHARDS, self.clock() + budgets.sweep_duty)

    def grant(self, key: GrantKey) -> Grant:
        grant = self.parts.refreshing.refresh_grant.grants.get(key)
        assert grant is not None
        return grant


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wise(clock: Clock) -> Iterator[RunningWise]:
    """Wise, on the same clock."""
    with running_wise(wall_ns=lambda: to_ms(clock()) * 1_000_000) as running:
        yield running


@pytest.fixture
def world(dynamodb: DynamoDBClient, wise: RunningWise, place: Place, clock: Clock) -> Iterator[World]:
    watch = Watch(clock)

    class WatchedWise(WiseHttp):
        def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
            watch.on_wise()
            return super().refresh(refresh_token, attempt_id=attempt_id, within=PATIENCE)

        def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
            watch.on_wise()
            return super().ask(access_token, attempt_id=attempt_id, within=PATIENCE)

        def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
            watch.on_wise()
            return super().settle_client(attempt_id=attempt_id, within=PATIENCE)

    def patient(service: Any, *, read_s: float, **more: Any) -> Any:
        return impatient(service, read_s=max(read_s, PATIENCE.total_seconds()), **more)

    impatient = clients.client

    with pytest.MonkeyPatch.context() as patch:
        for module in (refreshing, calling):
            patch.setattr(module, "utc_now", clock)
        patch.setattr(refreshing, "sleep", clock.sleep)
        patch.setattr(refreshing, "PowertoolsJournal", lambda _: watch)
        patch.setattr(calling, "WiseHttp", WatchedWise)
        for module in (clients, refreshing, calling):
            patch.setattr(module, "client", patient)
        with wired(place) as (parts, made):
            broken = {kind: keys_of(kind, count) for kind, count in BROKEN.items()}
            break_them(dynamodb, wise, place.table, parts, broken)
            parts.adopt(wise.control.seed_user(HEALTHY.grant_id, age_s=A_WHILE_AGO_S))
            wise.control.change_settings(access_token_lifetime_s=LIFE_S)
            clock.reach(utc_now())  # adopting went by this machine's clock
            parts.make_due(HEALTHY)
            for client in made:
                client.meta.events.register("before-call", watch.on_aws)
            yield World(parts, clock, watch, broken)


def keys_of(kind: str, count: int) -> list[GrantKey]:
    """Keys for one kind, its share of the neighbours among them."""
    near = count * NEIGHBOURS // sum(BROKEN.values())
    wanted = {True: near, False: count - near}
    keys = []
    for number in itertools.count():
        key = GrantKey(TENANT, f"{kind}-{number}")
        if wanted[key.shard == HEALTHY.shard]:
            wanted[key.shard == HEALTHY.shard] -= 1
            keys.append(key)
        if len(keys) == count:
            break
    return keys


def break_them(
    dynamodb: DynamoDBClient, wise: RunningWise, table: str, parts: Parts, broken: Mapping[str, Sequence[GrantKey]]
) -> None:
    """Make them all, due one after the other in any order."""
    spoilt: Mapping[str, Callable[[str], object]] = {
        "dead": wise.control.revoke,
        "refused": lambda user: wise.control.fail_next(None, status=401, user=user),
        "faulty": lambda user: wise.control.fail_next(None, status=500, body='{"error":"server_error"}', user=user),
    }
    random = Random(7)  # noqa: S311 - an order, and no secret
    adopted = [(kind, key.grant_id) for kind in spoilt for key in broken[kind]]
    random.shuffle(adopted)

    def seed(kind: str, name: str) -> None:
        parts.adopt(wise.control.seed_user(name, age_s=A_WHILE_AGO_S))
        spoilt[kind](name)

    began = to_ms(utc_now())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: seed(*one), adopted))
    ended = to_ms(utc_now())
    some: Any = dynamodb.get_item(TableName=table, Key={"pk": {"S": str(broken["faulty"][0])}})["Item"]
    corrupt = [{"phase": {"S": "unheard-of"}}, {"version": {"S": "seven"}}, {"schema": {"N": "99"}}]
    puts: Any = []
    for kind in ("corrupt", "unsealable"):
        for number, key in enumerate(broken[kind]):
            at = {"N": str(random.randint(began, ended))}
            own = {"pk": {"S": str(key)}, "grant_id": {"S": key.grant_id}, "due_shard": {"N": str(key.shard)}}
            # what was sealed for another grant does not open
            item = some | own | {"refresh_at": at, "due_at": at}
            puts.append({"PutRequest": {"Item": item | (corrupt[number % 3] if kind == "corrupt" else {})}})
    for start in range(0, len(puts), 25):  # what one request takes
        assert not dynamodb.batch_write_item(RequestItems={table: puts[start : start + 25]})["UnprocessedItems"]


def backoff_at_least(failures: int) -> timedelta:
    return min(BACKOFF_BASE * 2 ** (failures - 1), BACKOFF_CAP) * 0.75


PAUSES: Final[Mapping[str, Callable[[int], timedelta]]] = {
    "corrupt": lambda _: TROUBLE_REST,
    "unsealable": backoff_at_least,
    "dead": lambda _: timedelta.max,
    "refused": lambda _: HELD_FOR,
    "faulty": backoff_at_least,
}
"""The least pause after a grant's n-th try."""


def test_a_thousand_broken_grants_delay_a_healthy_one_by_no_more_than_a_sweep(wise: RunningWise, world: World) -> None:
    clock, watch = world.clock, world.watch
    began, delays = clock(), []
    for number in range(SWEEPS):
        clock.reach(began + number * MINUTE)
        before = world.grant(HEALTHY)
        watch.aws.clear()
        known = len(watch.events)

        summary = world.sweep()

        assert_work_grows_with_what_is_tried(watch, summary, [event for _, event in watch.events[known:]])
        after = world.grant(HEALTHY)
        assert before.due_at is not None
        if after.version == before.version:
            assert clock() - before.due_at < MINUTE, "it was due, and nobody came"
        else:
            assert after.issued_at is not None
            delays.append(after.issued_at - before.due_at)
    assert len(delays) >= SWEEPS - 1
    assert max(delays) < MINUTE, delays

    assert_every_broken_one_got_out_of_the_way(world)
    assert_wise_was_called_no_more_than_agreed(world)
    assert watch.of(BreakerOpened) == []  # whose fault it was is known: each grant's own
    assert wise.control.overlaps() == []
    sealed = world.grant(HEALTHY).access_token
    assert sealed is not None
    kept = world.parts.refreshing.refresh_grant.sealer.open_access_token(HEALTHY, sealed)
    (live,) = (token for token in wise.control.tokens(HEALTHY.grant_id) if token.kind == "access" and token.lives)
    assert hash_of(kept.reveal()) == live.sha256


def assert_work_grows_with_what_is_tried(watch: Watch, summary: SweepSummary, events: Sequence[Event]) -> None:
    """A try takes the lease and gives it back, and may ask for calls to Wise; the rest is looks and alerts."""
    tries = sum(isinstance(event, AttemptEnded | Trouble) for event in events)
    told = sum(isinstance(event, AlertTold) for event in events)
    assert watch.aws["Query"] == summary.looks * len(SHARDS)
    assert watch.aws["GetItem"] <= summary.looks
    assert watch.aws["Decrypt"] <= tries
    assert watch.aws["UpdateItem"] <= 3 * tries + told + summary.looks
    assert watch.aws["Publish"] == told


def assert_every_broken_one_got_out_of_the_way(world: World) -> None:
    tries = world.watch.tries()
    for kind, keys in world.broken.items():
        for key in keys:
            times = tries[key]
            assert times, f"nobody came to {key}"
            for count, (one, following) in enumerate(itertools.pairwise(times), 1):
                assert following - one > PAUSES[kind](count) - timedelta(seconds=1), (key, times)
    assert {world.grant(key).phase for key in world.broken["dead"]} == {Phase.REAUTHORIZATION_REQUIRED}
    for kind, code in (("unsealable", "unsealable"), ("refused", "client_refused"), ("faulty", "server_fault")):
        assert {world.grant(key).last_error for key in world.broken[kind]} == {code}


def assert_wise_was_called_no_more_than_agreed(world: World) -> None:
    refreshing = world.parts.refreshing
    calls = sorted(world.watch.wise)
    for number, one in enumerate(calls):
        assert bisect_left(calls, one + MINUTE) - number <= refreshing.settings.sweep_calls_per_minute
    sent = {event.key for _, event in world.watch.of(Sent)}
    assert not sent & {*world.broken["corrupt"], *world.broken["unsealable"]}
