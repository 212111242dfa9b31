"""Suspending a grant, a tenant or everything: nobody serves or refreshes, and nothing that is under way is lost."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.errors import StoreUnavailable
from token_rotator.domain.grant import GrantKey, Phase
from token_rotator.domain.outcome import GrantInvalid, ServerFault, Throttled
from token_rotator.domain.suspension import ASIDE_FOR, Suspension, Suspensions, aside_until, lifted, suspended
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.service.journal import Trouble
from token_rotator.service.ports import Due, RefreshReport, Rejected
from token_rotator.service.refresh_due import SweepSummary
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import NotServed, Served, Why

TARGETS = ["acme", None]
"""A tenant, and the environment."""


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    return world


def sweep(world: World, seconds: float = 1) -> SweepSummary:
    summary = world.sweep(seconds)
    assert isinstance(summary, SweepSummary)
    return summary


def why(answer: object) -> Why | None:
    return answer.why if isinstance(answer, NotServed) else None


# --- one grant


@pytest.mark.parametrize("phase", [Phase.ACTIVE, Phase.REAUTHORIZATION_REQUIRED])
def test_a_grant_comes_back_to_the_phase_it_had(world: World, phase: Phase) -> None:
    before = replace(world.stored(), phase=phase, in_doubt="earlier", failures=2)
    order = world.order()
    stopped = suspended(before, order)
    assert (stopped.phase, stopped.suspended_from, stopped.suspension) == (Phase.SUSPENDED, phase, order)
    assert stopped.due_at is None
    back = lifted(stopped, world.clock())
    assert back.due_at == (world.clock() if phase is Phase.ACTIVE else None)
    assert replace(back, due_at=before.due_at) == before


def test_one_that_is_suspended_already_keeps_its_order(world: World) -> None:
    stopped = suspended(world.stored(), world.order("first"))
    assert suspended(stopped, world.order("second")) is stopped


def test_one_that_is_not_suspended_is_not_lifted(world: World) -> None:
    assert lifted(world.stored(), world.clock()) is world.stored()


def test_one_that_does_not_know_where_it_came_from_is_asked_about_at_wise(world: World) -> None:
    assert lifted(replace(world.stored(), phase=Phase.SUSPENDED), world.clock()).phase is Phase.ACTIVE


def test_a_suspended_grant_is_neither_served_nor_refreshed_until_it_is_lifted(world: World) -> None:
    assert world.suspend_grant(world.key(), world.order()) == world.stored()
    version = world.stored().version
    world.clock.advance(hours=8)
    assert why(world.serve()) is why(world.serve(rejected=version)) is Why.SUSPENDED
    sweep(world, 5)
    assert world.attempt().word is Word.GONE
    assert world.wise.refreshes == []

    assert world.suspend_grant.lift(world.key()) == world.stored()
    assert sweep(world).refreshed == 1
    served = world.serve()
    assert isinstance(served, Served)
    assert world.wise.lives(served.access_token.reveal())


def test_suspending_and_lifting_again_changes_nothing(world: World) -> None:
    world.suspend_grant(world.key(), world.order())
    writes = world.grants.writes
    world.clock.advance(minutes=1)
    assert world.suspend_grant(world.key(), world.order("another")) == world.stored()
    assert world.stored().suspension == Suspension(world.clock() - timedelta(minutes=1), "operator", "a drill")
    world.suspend_grant.lift(world.key())
    assert world.suspend_grant.lift(world.key()) == world.stored()
    assert world.grants.writes == writes + 1


def test_there_is_nothing_to_suspend_where_there_is_no_grant(world: World) -> None:
    assert world.suspend_grant(world.key("nobody"), world.order()) is Declined.NOT_FOUND
    assert world.suspend_grant.lift(world.key("nobody")) is Declined.NOT_FOUND
    assert world.suspend_grant.lift(world.key("nobody"), operator=True) is Declined.NOT_FOUND


def operators(world: World) -> Suspension:
    return Suspension(world.clock(), "operations", "a breach", operator=True)


def test_what_an_operator_stopped_only_an_operator_lifts(world: World) -> None:
    order = operators(world)
    world.suspend_grant(world.key(), order)
    stopped = world.stored()
    assert world.suspend_grant.lift(world.key()) is Declined.OPERATORS_ORDER
    world.suspend_grant(world.key(), world.order("a partner's"))
    assert world.suspend_grant.lift(world.key()) is Declined.OPERATORS_ORDER
    assert world.stored() == stopped
    world.suspend_grant.lift(world.key(), operator=True)
    assert (world.stored().phase, world.stored().suspension) == (Phase.ACTIVE, None)
    assert world.suspend_grant.lift(world.key()) == world.stored()


def test_an_operators_order_takes_the_place_of_a_partners(world: World) -> None:
    world.suspend_grant(world.key(), world.order("a partner's"))
    order = operators(world)
    world.suspend_grant(world.key(), order)
    assert world.stored().suspension == order
    assert world.suspend_grant.lift(world.key()) is Declined.OPERATORS_ORDER
    world.suspend_grant(world.key(), replace(order, reason="another"))
    assert world.stored().suspension == order
    world.suspend_grant.lift(world.key(), operator=True)
    assert world.stored().phase is Phase.ACTIVE


def test_what_a_partner_stopped_an_operator_lifts_too(world: World) -> None:
    world.suspend_grant(world.key(), world.order())
    world.suspend_grant.lift(world.key(), operator=True)
    assert world.stored().phase is Phase.ACTIVE


def test_an_operators_order_that_comes_while_a_partner_lifts_its_own_stands(world: World) -> None:
    world.suspend_grant(world.key(), world.order())
    order = operators(world)

    def ordered() -> None:
        world.grants.before_write = lambda: None
        world.suspend_grant(world.key(), order)

    world.grants.before_write = ordered
    assert world.suspend_grant.lift(world.key()) is Declined.OPERATORS_ORDER
    assert world.stored().suspension == order


def test_a_grant_that_is_deleted_meanwhile_is_gone(world: World) -> None:
    world.grants.before_write = world.grants.items.clear
    assert world.suspend_grant(world.key(), world.order()) is Declined.NOT_FOUND


def test_suspending_is_not_lost_to_a_commit_at_the_same_time(world: World) -> None:
    def commit() -> None:
        world.grants.before_write = lambda: None
        world.due_now()
        world.attempt()

    world.grants.before_write = commit
    grant = world.suspend_grant(world.key(), world.order())
    assert grant == world.stored()
    assert world.stored().phase is Phase.SUSPENDED
    assert world.wise.lives(world.access_token())


def test_suspending_does_not_hide_a_verdict_that_fell_at_the_same_time(world: World) -> None:
    def judged() -> None:
        world.grants.before_write = lambda: None
        world.wise.users["anna"].alive = False
        world.due_now()
        world.attempt()

    world.grants.before_write = judged
    world.suspend_grant(world.key(), world.order())
    assert (world.stored().phase, world.stored().suspended_from) == (Phase.SUSPENDED, Phase.REAUTHORIZATION_REQUIRED)
    back = world.suspend_grant.lift(world.key())
    assert back is not None
    assert back.phase is Phase.REAUTHORIZATION_REQUIRED


def test_a_refresh_in_flight_is_stored_and_the_grant_stays_suspended(world: World) -> None:
    world.due_now()
    world.wise.on_refresh = lambda: world.suspend_grant(world.key(), world.order())
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.lives(world.access_token())
    stored = world.stored()
    assert (stored.phase, stored.attempt_id) == (Phase.SUSPENDED, None)
    assert why(world.serve()) is Why.SUSPENDED
    world.clock.now = stored.refresh_at
    sweep(world)
    assert world.stored().due_at is None
    assert len(world.wise.refreshes) == 1


def test_a_verdict_in_flight_falls_after_lifting(world: World) -> None:
    world.due_now()
    world.wise.script = [GrantInvalid(status=400, error="invalid_grant")] * 2
    world.wise.on_refresh = lambda: world.suspend_grant(world.key(), world.order())
    assert world.attempt().word is Word.OVERTAKEN
    assert world.stored().phase is Phase.SUSPENDED
    assert world.alerts.published == []
    world.wise.on_refresh = lambda: None
    world.suspend_grant.lift(world.key())
    sweep(world)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert len(world.alerts.published) == 1


def test_a_worker_that_dies_while_its_grant_is_suspended_leaves_a_doubt_to_resolve(world: World) -> None:
    grant = world.due_now()
    held = replace(grant, attempt_id="dead", lease_until=world.clock() + world.budgets.lease)
    world.grants.items[grant.key] = held
    world.suspend_grant(grant.key, world.order())
    assert world.stored().attempt_id == "dead"
    world.clock.advance(hours=1)
    sweep(world, 5)
    assert world.stored().attempt_id == "dead"
    world.suspend_grant.lift(grant.key)
    sweep(world, 60)
    assert world.stored().attempt_id is world.stored().in_doubt is None
    assert isinstance(world.serve(), Served)


def test_an_alert_waits_until_the_grant_is_lifted(world: World) -> None:
    world.wise.users["anna"].alive = False
    world.alerts.script = ["refuse"] * 9
    world.due_now()
    world.attempt()
    world.suspend_grant(world.key(), world.order())
    world.alerts.script = []
    world.clock.advance(hours=1)
    sweep(world, 5)
    assert world.alerts.published == []
    world.suspend_grant.lift(world.key())
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    sweep(world)
    assert len(world.alerts.published) == 1


def test_new_tokens_stay_suspended_and_come_back_active(world: World) -> None:
    world.grants.items[world.key()] = replace(world.stored(), phase=Phase.REAUTHORIZATION_REQUIRED)
    world.suspend_grant(world.key(), world.order())
    access, refresh = world.wise.add("anna")
    offer = Offer(refresh_token=refresh, access_token=access, expires_at=world.clock() + timedelta(hours=12))
    kept = world.adopt_grant(world.key(), offer, world.stored().version)
    assert isinstance(kept, Kept)
    stored = world.stored()
    assert (stored.phase, stored.suspended_from, stored.due_at) == (Phase.SUSPENDED, Phase.ACTIVE, None)
    assert stored.suspension == world.order()
    assert why(world.serve()) is Why.SUSPENDED
    world.suspend_grant.lift(world.key())
    assert isinstance(world.serve(), Served)


def test_a_late_answer_to_a_grant_that_was_dead_when_it_was_suspended_is_what_it_comes_back_with(world: World) -> None:
    world.due_now()

    def judged_and_suspended() -> None:
        dead = replace(world.stored(), phase=Phase.REAUTHORIZATION_REQUIRED, attempt_id=None, lease_until=None)
        world.grants.items[world.key()] = dead
        world.suspend_grant(world.key(), world.order())

    world.wise.on_refresh = judged_and_suspended
    assert world.attempt().word is Word.IN_DOUBT
    assert (world.stored().phase, world.stored().suspended_from) == (Phase.SUSPENDED, Phase.ACTIVE)
    world.wise.on_refresh = lambda: None
    world.suspend_grant.lift(world.key())
    sweep(world, 60)
    assert isinstance(world.serve(), Served)


# --- a tenant, or everything


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_is_served_and_nothing_is_sent(world: World, target: str | None) -> None:
    world.suspensions.suspend(target, world.order())
    for _ in range(2):
        assert why(world.serve()) is Why.SUSPENDED
        assert why(world.serve(rejected=world.stored().version)) is Why.SUSPENDED
        for cause in (Due(), Rejected(world.stored().version)):
            assert world.attempt(cause=cause).word is Word.SUSPENDED
        assert sweep(world, 3).refreshed == 0
        world.due_now()
    assert world.wise.refreshes == []
    assert world.stored().attempt_id is None


def test_one_that_is_not_there_is_not_there_all_the_same(world: World) -> None:
    world.suspensions.suspend(None, world.order())
    assert why(world.serve("nobody")) is Why.ABSENT


def test_other_tenants_go_on(world: World) -> None:
    other = GrantKey("globex", "ben")
    access, refresh = world.wise.add("ben")
    life = world.clock() + timedelta(hours=12)
    world.adopt_grant(other, Offer(refresh_token=refresh, access_token=access, expires_at=life), None)
    world.suspensions.suspend("acme", world.order())
    assert isinstance(world.serve_token(other), Served)
    world.clock.advance(hours=8)
    assert sweep(world, 2).refreshed == 1
    assert isinstance(world.serve_token(other), Served)
    assert why(world.serve()) is Why.SUSPENDED


@pytest.mark.parametrize("target", TARGETS)
def test_a_refresh_in_flight_is_stored(world: World, target: str | None) -> None:
    world.due_now()
    world.wise.on_refresh = lambda: world.suspensions.suspend(target, world.order())
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.lives(world.access_token())
    assert why(world.serve()) is Why.SUSPENDED
    world.suspensions.lift(target)
    served = world.serve()
    assert isinstance(served, Served)
    assert served.access_token.reveal() == world.access_token()


@pytest.mark.parametrize("target", TARGETS)
def test_what_becomes_known_under_the_lease_stops_the_request(world: World, target: str | None) -> None:
    world.due_now()
    prepare = world.sealer.prepare

    def slow(*arguments: object) -> object:
        world.suspensions.suspend(target, world.order())
        return prepare(*arguments)  # type: ignore[arg-type]

    world.sealer.prepare = slow  # type: ignore[method-assign,assignment]
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "suspended")
    assert world.wise.refreshes == []
    assert (world.stored().attempt_id, world.stored().in_doubt) == (None, None)


def test_no_second_request_follows_and_the_doubt_stays(world: World) -> None:
    """Wise failed at the first request and says that the token is dead: it was carried out, and nobody sends again."""
    world.due_now()
    world.wise.script = [ServerFault(status=500)]
    world.wise.users["anna"].access_token = "another"
    world.wise.on_refresh = lambda: world.suspensions.suspend("acme", world.order())
    result = world.attempt()
    assert (result.word, result.code) == (Word.IN_DOUBT, "suspended")
    assert len(world.wise.refreshes) == 1
    assert world.stored().in_doubt == "attempt-1"


def test_where_nobody_knows_what_is_suspended_nothing_is_served_or_begun(world: World) -> None:
    world.suspensions.failures = ["before"] * 2
    with pytest.raises(StoreUnavailable):
        world.serve()
    world.due_now()
    with pytest.raises(StoreUnavailable):
        world.attempt()
    assert world.wise.refreshes == []
    assert world.stored().attempt_id is None


def test_where_nobody_knows_under_the_lease_nothing_is_sent(world: World) -> None:
    world.due_now()
    world.suspensions.failures = ["ok", "before"]
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "store-unavailable")
    assert world.wise.refreshes == []
    assert [event.detail for event in world.journal.of(Trouble)] == ["asking what is suspended"]  # type: ignore[attr-defined]


def test_a_reader_whose_refresh_finds_it_suspended_is_told_so(world: World) -> None:
    """The function that refreshes may know earlier than the one that serves."""
    world.due_now()
    world.refresh = lambda _key, _cause: RefreshReport("suspended")  # type: ignore[method-assign]
    assert why(world.serve()) is Why.SUSPENDED


def test_a_reader_knows_whether_it_caused_a_refresh(world: World) -> None:
    first = world.serve()
    world.due_now()
    second, third = world.serve(), world.serve()
    told = [answer.caused_refresh for answer in (first, second, third) if isinstance(answer, Served)]
    assert told == [False, True, False]


# --- the sweep


def test_while_everything_is_suspended_the_sweep_looks_for_nothing_and_wise_is_not_asked(world: World) -> None:
    world.due_now()
    world.wise.script = [Throttled(status=429)]
    world.attempt()
    assert world.breaker.is_open
    world.suspensions.suspend(None, world.order())
    world.clock.advance(minutes=10)
    before, calls = world.stored(), len(world.wise.refreshes)
    looked: list[object] = []
    world.grants.due = lambda *arguments: looked.append(arguments) or ()  # type: ignore[method-assign,func-returns-value]
    summary = sweep(world, 60)
    assert (summary.looks, summary.advanced, summary.calls, summary.suspensions) == (60, 0, 0, 1)
    assert (looked, world.stored(), len(world.wise.refreshes)) == ([], before, calls)
    assert world.wise.settled == []

    world.suspensions.lift(None)
    del world.grants.due  # type: ignore[attr-defined]
    assert sweep(world, 30).refreshed == 1


def test_what_was_found_before_everything_was_suspended_is_not_begun(world: World) -> None:
    for number in range(30):
        world.adopted(f"g{number}")
    world.clock.advance(hours=9)
    refresh = world.wise.refresh

    def third(*arguments: object, **more: object) -> object:
        if len(world.wise.refreshes) == 2:
            world.suspensions.suspend(None, world.order())
        return refresh(*arguments, **more)  # type: ignore[arg-type]

    world.wise.refresh = third  # type: ignore[method-assign,assignment]
    summary = sweep(world, 5)
    assert summary.refreshed == len(world.wise.refreshes) == 3
    assert summary.advanced == 3


def test_parked_answers_are_stored_while_everything_is_suspended(world: World) -> None:
    world.due_now()
    world.wise.on_refresh = lambda: world.suspensions.suspend(None, world.order())
    world.grants.failures = ["ok", *["before"] * 40]
    world.attempt()
    world.grants.failures = []
    assert world.parking.messages
    world.clock.advance(minutes=1)
    sweep(world, 30)
    assert world.parking.messages == []
    assert world.wise.lives(world.access_token())


def test_due_grants_of_a_suspended_tenant_are_set_aside_at_a_write_each(world: World) -> None:
    for number in range(50):
        world.adopted(f"g{number}")
    world.clock.advance(hours=9)
    world.suspensions.suspend("acme", world.order())
    world.grants.reads = world.grants.writes = 0
    before = dict(world.grants.items)
    summary = sweep(world, 10)
    assert (summary.set_aside, summary.advanced, summary.calls) == (51, 0, 0)
    assert (world.grants.reads, world.grants.writes) == (0, 51)
    assert summary.oldest_overdue == timedelta(0)
    moments = set()
    for key, grant in world.grants.items.items():
        assert replace(grant, due_at=before[key].due_at) == before[key]
        assert grant.due_at is not None
        assert timedelta(0) < grant.due_at - world.clock() <= ASIDE_FOR
        moments.add(grant.due_at)
    assert len(moments) > 40


def test_a_suspended_tenant_does_not_keep_others_from_their_turn(world: World) -> None:
    """More of its grants are due, and for longer, than a look takes in; the lane is not asked for them."""
    near = [key for key in (GrantKey("acme", f"g{number}") for number in range(4000)) if key.shard == 3][:150]
    for key in near:
        world.adopted(key.grant_id)
    other = next(k for k in (GrantKey("globex", f"h{number}") for number in range(99)) if k.shard == 3)
    world.clock.advance(hours=8)
    _, refresh = world.wise.add("ben")
    world.adopt_grant(other, Offer(refresh_token=refresh), None)
    world.suspensions.suspend("acme", world.order())
    summary = sweep(world, 5)
    assert summary.refreshed == 1
    assert world.grants.items[other].access_token is not None
    assert world.fleet.admissions == 1


def test_others_are_refreshed_while_hundreds_are_set_aside(world: World) -> None:
    for number in range(9):
        world.adopted(f"g{number}")
    other = GrantKey("globex", "ben")
    _, refresh = world.wise.add("ben")
    world.adopt_grant(other, Offer(refresh_token=refresh), None)
    world.clock.advance(hours=9)
    world.suspensions.suspend("acme", world.order())
    refreshed, waited = threading.Event(), []
    postpone = world.grants.postpone

    def slow(*arguments: Any) -> None:
        waited.append(refreshed.wait(5))
        postpone(*arguments)

    world.grants.postpone = slow  # type: ignore[method-assign]
    world.wise.after_refresh = refreshed.set
    replace(world.refresh_due, workers=4)(range(16), world.clock() + timedelta(seconds=5))
    assert waited == [True] * 10


def test_after_lifting_a_tenant_everything_is_due_within_five_minutes_and_at_once_for_readers(world: World) -> None:
    for number in range(20):
        world.adopted(f"g{number}")
    world.clock.advance(hours=9)
    world.suspensions.suspend("acme", world.order())
    sweep(world, 600)
    world.suspensions.lift("acme")
    assert isinstance(world.serve("g7"), Served)
    assert [report.outcome for report in world.reports] == ["refreshed"]
    sweep(world, ASIDE_FOR.total_seconds() + 30)
    assert len(world.wise.refreshes) == 21
    assert all(world.wise.lives(world.access_token(key.grant_id)) for key in world.grants.items)


def test_setting_aside_moves_what_is_due_and_no_other(world: World) -> None:
    grant = world.stored()
    world.refresh_due.set_aside(grant.key)
    assert world.stored() == grant


def test_a_sweep_that_does_not_know_starts_nothing_and_asks_again(world: World) -> None:
    world.due_now()
    world.suspensions.failures = ["before", "before"]
    summary = sweep(world, 2)
    assert (summary.refreshed, summary.looks) == (0, 2)
    assert [event.detail for event in world.journal.of(Trouble)] == ["asking what is suspended"] * 2  # type: ignore[attr-defined]
    assert sweep(world, 2).refreshed == 1


def test_suspects_wait_while_everything_is_suspended(world: World) -> None:
    grant = world.due_now()
    dead = replace(grant, attempt_id="dead", lease_until=world.clock() - timedelta(hours=1), takeovers=5)
    world.grants.items[grant.key] = dead
    acquire = world.grants.acquire

    def first(*arguments: object) -> object:
        world.suspensions.suspend(None, world.order())
        return acquire(*arguments)  # type: ignore[arg-type]

    world.grants.acquire = first  # type: ignore[method-assign,assignment]
    sweep(world, 10)
    assert world.stored().attempt_id == "dead"


# --- the orders themselves


def test_an_order_about_everything_counts_before_one_about_a_tenant() -> None:
    world = World()
    first, second = world.order("first"), world.order("second")
    orders = Suspensions(environment=first, tenants={"acme": second})
    assert orders.of("acme") is orders.of("globex") is first
    assert replace(orders, environment=None).of("acme") is second
    assert replace(orders, environment=None).of("globex") is None
    assert orders.in_force == 2
    assert Suspensions().in_force == 0


def test_grants_come_back_spread() -> None:
    now = World().clock()
    moments = {aside_until(GrantKey("acme", f"g{number}"), now) - now for number in range(100)}
    assert len(moments) == 100
    assert min(moments) >= ASIDE_FOR / 2
    assert max(moments) <= ASIDE_FOR
    assert all(moment % timedelta(milliseconds=1) == timedelta(0) for moment in moments)
