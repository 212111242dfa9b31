"""The sweep: what is due moves, whatever goes wrong with one of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import GrantKey, Phase
from token_rotator.domain.outcome import ClientRefused, NotSent, ServerFault
from token_rotator.domain.tokens import Secret
from token_rotator.service.journal import AlertTold, Trouble
from token_rotator.service.ports import Done, Refused
from token_rotator.service.refresh_due import SweepSummary

SECOND = timedelta(seconds=1)


@pytest.fixture
def world() -> World:
    return World()


def sweep(world: World, seconds: float = 1) -> SweepSummary:
    summary = world.sweep(seconds)
    assert isinstance(summary, SweepSummary)
    return summary


def test_every_due_grant_is_refreshed_and_no_other(world: World) -> None:
    for number in range(40):
        world.adopted(f"g{number}")
    moments = sorted(grant.refresh_at for grant in world.grants.items.values())
    world.clock.now = moments[19]
    summary = sweep(world, 5)
    assert summary.refreshed == len(world.wise.refreshes) >= 20
    assert all(grant.due_at is not None and grant.due_at > world.clock() for grant in world.grants.items.values())


def test_the_most_urgent_come_first(world: World) -> None:
    for name in ("a", "b", "c"):
        world.adopted(name)
        world.clock.advance(minutes=90)
    world.clock.advance(hours=8)
    order: list[str] = []
    refresh = world.wise.refresh
    world.wise.refresh = lambda token, **kw: (order.append(token.reveal()), refresh(token, **kw))[1]  # type: ignore[method-assign]
    sweep(world, 5)
    assert order == ["refresh-a-1", "refresh-b-1", "refresh-c-1"]


def test_work_grows_with_what_is_due_and_not_with_what_is_stored(world: World) -> None:
    for number in range(200):
        world.adopted(f"g{number}")
    world.grants.reads = world.grants.writes = 0
    sweep(world, 3)
    assert (world.grants.reads, world.grants.writes) == (0, 0)


def test_it_looks_every_second_and_starts_nothing_after_its_duty(world: World) -> None:
    began = world.clock()
    summary = sweep(world, 10)
    assert summary.looks == 10
    assert world.clock() - began == timedelta(seconds=10)
    world.adopted()
    world.due_now()
    assert sweep(world, 0).advanced == 0
    assert world.wise.refreshes == []


def one_bad(world: World, error: Exception, *calls: str) -> None:
    """Let two grants be due, and some calls of the store about one of them raise."""
    for name in ("bad", "good"):
        world.adopted(name)
    world.clock.advance(hours=9)

    def breaking(call: Callable[..., object], key: object, *rest: object) -> object:
        if key == world.key("bad"):
            raise error
        return call(key, *rest)

    for call in calls:
        setattr(world.grants, call, partial(breaking, getattr(world.grants, call)))


def test_one_bad_grant_never_stops_the_others_and_is_moved_out_of_the_way(world: World) -> None:
    one_bad(world, CorruptGrant("fixture"), "acquire")
    summary = sweep(world, 5)
    assert (summary.refreshed, summary.troubled) == (1, 1)
    bad = world.stored("bad")
    assert bad.due_at is not None
    assert bad.due_at > world.clock()
    assert [event.code for event in world.journal.of(Trouble)] == ["corrupt-grant"]  # type: ignore[attr-defined]


def test_an_unexpected_error_is_kept_on_record_by_its_type_alone(world: World) -> None:
    world.adopted()
    world.due_now()
    secret = "fixture-refresh-token-value"

    def boom(*_: object, **__: object) -> None:
        raise RuntimeError(secret)

    world.wise.refresh = boom  # type: ignore[assignment, method-assign]
    assert sweep(world).troubled == 1
    (trouble,) = world.journal.of(Trouble)
    assert (trouble.code, trouble.detail) == ("internal-error", "RuntimeError")  # type: ignore[attr-defined]
    assert secret not in repr(world.journal.events)


def test_a_store_that_is_down_is_looked_at_again(world: World) -> None:
    world.adopted()
    world.due_now()
    world.grants.failures = ["before", "ok"]
    summary = sweep(world, 3)
    assert summary.refreshed == 1
    assert summary.looks == 3


def test_a_grant_rests_where_even_moving_it_fails(world: World) -> None:
    world.adopted()
    world.due_now()
    world.grants.failures = ["ok", "before", "before"]
    summary = sweep(world, 3)
    assert (summary.troubled, summary.advanced) == (1, 0)
    assert len(world.journal.of(Trouble)) == 2


def test_an_unexpected_error_in_moving_a_grant_does_not_end_the_sweep(world: World) -> None:
    one_bad(world, LookupError("fixture"), "acquire", "postpone")
    summary = sweep(world, 5)
    assert (summary.refreshed, summary.troubled) == (1, 1)
    assert [event.detail for event in world.journal.of(Trouble)] == ["LookupError"] * 2  # type: ignore[attr-defined]


def test_a_failing_grant_is_left_alone_until_its_next_try(world: World) -> None:
    world.adopted()
    world.due_now()
    world.wise.script = [NotSent(reason="not-connected")] * 10
    sweep(world, 5)
    assert len(world.wise.script) == 9


def test_a_thousand_broken_grants_do_not_delay_a_healthy_one(world: World) -> None:
    for number in range(1000):
        world.adopted(f"broken-{number}")
    world.clock.advance(minutes=1)
    world.adopted("healthy")
    world.clock.advance(hours=9)
    world.wise.takes = timedelta(0)
    refresh = world.wise.refresh
    faults = itertools.cycle([ServerFault(status=500), ClientRefused(status=401), NotSent(reason="not-connected")])
    world.wise.refresh = lambda token, **kw: (  # type: ignore[method-assign]
        refresh(token, **kw) if "healthy" in token.reveal() else next(faults)
    )
    began = world.clock()
    for _ in range(2):  # a thousand and one calls take more than a minute at the pace of 900
        sweep(world, 55)
        world.clock.advance(seconds=5)
    healthy = world.stored("healthy")
    assert healthy.failures == 0
    assert healthy.issued_at is not None
    assert timedelta(0) < healthy.issued_at - began < timedelta(seconds=80)
    assert len(world.wise.refreshes) == 1
    assert not world.breaker.is_open


def test_grants_that_cannot_be_read_take_no_share_of_the_calls_to_wise(world: World) -> None:
    for number in range(400):
        world.adopted(f"corrupt-{number}")
    world.clock.advance(minutes=1)
    world.adopted("healthy")
    world.clock.advance(hours=9)
    acquire = world.grants.acquire

    def corrupt(key: GrantKey, *rest: Any) -> Done | Refused:
        if key.grant_id != "healthy":
            raise CorruptGrant("injected")
        return acquire(key, *rest)

    world.grants.acquire = corrupt  # type: ignore[method-assign]
    began = world.clock()
    summary = sweep(world, 55)
    issued_at = world.stored("healthy").issued_at
    assert issued_at is not None
    assert timedelta(0) < issued_at - began < timedelta(seconds=5)
    assert summary.calls == 1


def test_held_grants_are_not_written_to(world: World) -> None:
    world.adopted()
    world.due_now()
    held = replace(world.stored(), attempt_id="other", lease_until=world.clock() + world.budgets.lease)
    world.grants.items[world.key()] = held
    sweep(world, 5)
    assert world.stored() == held


def test_a_lease_that_ran_out_is_resolved_by_the_sweep(world: World) -> None:
    world.adopted()
    world.due_now()
    world.grants.items[world.key()] = replace(
        world.stored(), attempt_id="dead", lease_until=world.clock() + world.budgets.lease
    )
    sweep(world, 30)
    assert world.stored().attempt_id is None
    assert world.stored().in_doubt is None


def test_a_suspended_grant_leaves_the_index(world: World) -> None:
    world.adopted()
    world.due_now()
    world.grants.items[world.key()] = replace(world.stored(), phase=Phase.SUSPENDED)
    sweep(world)
    assert world.stored().due_at is None
    assert world.stored().phase is Phase.SUSPENDED


def test_an_early_due_at_is_put_right_without_a_lease(world: World) -> None:
    grant = world.adopted()
    world.grants.items[grant.key] = replace(grant, due_at=world.clock())
    sweep(world)
    assert world.stored() == grant
    assert world.wise.refreshes == []


def test_what_became_due_between_two_looks_is_left_for_the_next(world: World) -> None:
    grant = world.adopted()
    world.due_now()
    stale = replace(grant, refresh_at=world.clock() - timedelta(seconds=1), due_at=world.clock())
    world.grants.acquire = lambda *_: Refused(stale)  # type: ignore[assignment, method-assign]
    world.grants.writes = 0
    sweep(world)
    assert world.grants.writes == 0


def test_an_alert_whose_publisher_died_is_told_by_the_next_sweep(world: World) -> None:
    world.adopted()
    world.due_now()
    world.wise.users["anna"].alive = False
    world.alerts.script = ["refuse"]
    sweep(world)
    assert world.alerts.published == []
    assert world.stored().due_at is not None
    sweep(world, 40)
    assert len(world.alerts.published) == 1
    assert world.stored().due_at == world.stored().alert.remind_at  # type: ignore[union-attr]
    assert [event.code for event in world.journal.of(AlertTold)] == ["publish-refused", None]  # type: ignore[attr-defined]


def test_a_grant_that_kills_its_workers_is_advanced_when_nobody_else_is_in_flight(world: World) -> None:
    for name in ("killer", "b", "c"):
        world.adopted(name)
    world.clock.advance(hours=9)
    world.grants.items[world.key("killer")] = replace(
        world.stored("killer"),
        attempt_id="dead",
        lease_until=world.clock() - timedelta(minutes=1),
        takeovers=5,
    )
    summary = sweep(world, 10)
    assert summary.refreshed == 3
    assert world.stored("killer").takeovers == 0


def test_the_largest_delay_is_told(world: World) -> None:
    world.adopted()
    due_at = world.stored().due_at
    assert due_at is not None
    world.clock.now = due_at + timedelta(minutes=7)
    assert sweep(world).oldest_overdue == timedelta(minutes=7)


def test_a_look_that_takes_long_does_not_wait_for_whom_is_slow(world: World) -> None:
    """The index takes longer than a look's turn: the next look comes at once, whoever is still in flight."""
    for name in ("slow", "quick"):
        world.adopted(name)
    world.clock.advance(hours=9)
    release = threading.Event()
    refresh, due = world.wise.refresh, world.grants.due
    looks: list[int] = []

    def slowly(token: Secret, **more: object) -> object:
        if "slow" in token.reveal():
            release.wait(20)
        return refresh(token, **more)  # type: ignore[arg-type]

    def late(*arguments: object) -> object:
        looks.append(1)
        world.clock.advance(seconds=1.5)
        if len(looks) == 4:
            release.set()
        return due(*arguments)  # type: ignore[arg-type]

    world.wise.refresh = slowly  # type: ignore[assignment, method-assign]
    world.grants.due = late  # type: ignore[assignment, method-assign]
    began = time.monotonic()
    replace(world.refresh_due, workers=4)(range(16), world.clock() + timedelta(seconds=9))
    assert len(looks) >= 4
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("after", [timedelta(0), 3 * SECOND])
def test_suspects_do_not_hold_up_the_healthy(world: World, after: timedelta) -> None:
    """Also not where each of them takes longer than it is to the next look, and the healthy one comes later."""
    for number in range(6):
        world.adopted(f"suspect-{number}")
    world.adopted("healthy")
    world.clock.advance(hours=9)
    for number in range(6):
        name = f"suspect-{number}"
        world.grants.items[world.key(name)] = replace(
            world.stored(name), attempt_id="dead", lease_until=world.clock() - timedelta(minutes=1), takeovers=5
        )
    due = world.clock() + after
    world.grants.items[world.key("healthy")] = replace(world.stored("healthy"), refresh_at=due, due_at=due)
    world.wise.takes = timedelta(seconds=5)
    order: list[str] = []
    refresh = world.wise.refresh
    world.wise.refresh = lambda token, **kw: (order.append(token.reveal()), refresh(token, **kw))[1]  # type: ignore[method-assign]
    sweep(world, 55)
    assert order.index("refresh-healthy-1") <= 2
    assert len(order) == 7
