"""On hold: served and not refreshed, by nobody here, while somebody else still refreshes the same user."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.fakes.rotator import World
from tests.fakes.wise import LIFE
from token_rotator.domain.errors import StoreUnavailable
from token_rotator.domain.grant import Alert, AlertKind, Grant, GrantKey, Phase
from token_rotator.domain.lease import Budgets
from token_rotator.domain.outcome import Liveness, Said
from token_rotator.domain.policy import DEAD_ON_HOLD, HELD_PROMISE, Step, Verdict, decide, read
from token_rotator.domain.suspension import (
    CLOCKS,
    FOUND_DEAD,
    KNOWN_FOR,
    Suspension,
    Suspensions,
    freed,
    held_everywhere_at,
    put_on_hold,
    released,
    released_until,
)
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.service.ports import Due, Rejected
from token_rotator.service.refresh_due import SweepSummary
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import NotServed, Served, Why

TARGETS = ["grant", "acme", None]
"""What may be on hold: one grant, its tenant, everything."""
ALL = ["acme", None]
each_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    return world


def hold(world: World, target: str | None) -> None:
    if target == "grant":
        assert isinstance(world.hold_grant(world.key(), world.order()), Grant)
    else:
        world.suspensions.hold(target, world.order())


def release(world: World, target: str | None) -> None:
    """End an order, and let the clock pass what readers may have been promised under it."""
    if target == "grant":
        assert isinstance(world.hold_grant.release(world.key()), Grant)
    else:
        world.hold_all.release(target)
    world.clock.now = released_until(world.clock(), world.budgets)


def sweep(world: World, seconds: float = 1) -> SweepSummary:
    summary = world.sweep(seconds)
    assert isinstance(summary, SweepSummary)
    return summary


def served(answer: object) -> Served:
    assert isinstance(answer, Served)
    return answer


def why(answer: object) -> Why | None:
    return answer.why if isinstance(answer, NotServed) else None


def refreshed_elsewhere(world: World, name: str = "anna") -> tuple[str, str]:
    """Let somebody else refresh the user: access and refresh token."""
    user = world.wise.users[name]
    assert world.wise.carry_out(user.refresh_token) is not None
    return user.access_token, user.refresh_token


def newer(world: World, **more: object) -> Offer:
    """What whoever refreshes elsewhere has to offer."""
    user = world.wise.users["anna"]
    return Offer(
        refresh_token=Secret(user.refresh_token),
        access_token=Secret(user.access_token),
        issued_at=world.clock(),
        expires_at=user.expires_at,
        **more,  # type: ignore[arg-type]
    )


# --- served


@each_target
def test_a_token_is_promised_for_a_minute_at_a_time_until_shortly_before_its_end(
    world: World, target: str | None
) -> None:
    hold(world, target)
    answer = served(world.serve())
    assert (answer.on_hold, answer.stable_for) == (True, HELD_PROMISE)
    ends = answer.expires_at - world.budgets.guard
    world.clock.now = ends - timedelta(seconds=20)
    assert served(world.serve()).stable_until == ends
    world.clock.now = ends
    assert why(world.serve()) is Why.ON_HOLD
    assert world.wise.refreshes == []


@each_target
def test_nobody_refreshes_it_however_due_it_is(world: World, target: str | None) -> None:
    hold(world, target)
    world.due_now()
    assert sweep(world, 5).refreshed == 0
    assert world.attempt().word in (Word.FRESH, Word.ON_HOLD)
    assert served(world.serve()).version == world.stored().version
    assert (world.wise.refreshes, world.wise.asked) == ([], [])
    assert (world.stored().attempt_id, world.stored().in_doubt) == (None, None)


@each_target
def test_released_it_is_refreshed_by_the_ordinary_rules(world: World, target: str | None) -> None:
    hold(world, target)
    world.due_now()
    sweep(world)
    release(world, target)
    before = world.stored().version
    world.clock.advance(minutes=5)
    assert sweep(world, 2).refreshed == 1
    answer = served(world.serve())
    assert (answer.version, answer.on_hold) == (before + 1, False)
    assert world.wise.lives(answer.access_token.reveal())


def test_one_of_ours_that_is_on_hold_leaves_the_index(world: World) -> None:
    hold(world, "grant")
    assert world.stored().due_at is None
    world.due_now()
    assert sweep(world).advanced == 0


def test_other_tenants_go_on(world: World) -> None:
    other = GrantKey("globex", "ben")
    access, refresh = world.wise.add("ben")
    offer = Offer(refresh_token=refresh, access_token=access, expires_at=world.clock() + LIFE)
    world.adopt_grant(other, offer, None)
    hold(world, "acme")
    world.clock.advance(hours=8)
    assert sweep(world, 2).refreshed == 1
    assert not served(world.serve_token(other)).on_hold
    assert served(world.serve()).on_hold


def test_our_applications_own_token_is_never_on_hold(world: World) -> None:
    world.suspensions.hold(None, world.order())
    assert world.suspensions.read().hold_on("", world.clock()) is None


@each_target
def test_suspended_outranks_on_hold(world: World, target: str | None) -> None:
    hold(world, target)
    world.suspensions.suspend("acme", world.order())
    assert why(world.serve()) is Why.SUSPENDED


# --- reports and doubts: Wise is asked, nothing is sent


@each_target
def test_a_reported_token_that_lives_is_confirmed(world: World, target: str | None) -> None:
    hold(world, target)
    world.due_now()
    answer = served(world.serve(rejected=world.stored().version))
    assert (answer.confirmed, answer.on_hold) == (True, True)
    assert (world.wise.refreshes, len(world.wise.asked)) == ([], 1)


@each_target
def test_a_reported_token_that_is_dead_is_not_served_again(world: World, target: str | None) -> None:
    hold(world, target)
    version = world.stored().version
    world.clock.advance(hours=1)
    refreshed_elsewhere(world)
    assert why(world.serve(rejected=version)) is Why.ON_HOLD
    assert why(world.serve()) is Why.ON_HOLD
    world.clock.advance(minutes=20)
    sweep(world, 3)
    assert why(world.serve()) is Why.ON_HOLD
    assert (world.wise.refreshes, len(world.wise.asked)) == ([], 1)
    assert world.alerts.published == []


@each_target
def test_one_that_was_found_dead_is_refreshed_once_it_is_released(world: World, target: str | None) -> None:
    hold(world, target)
    world.clock.advance(hours=1)
    refreshed_elsewhere(world)
    world.serve(rejected=world.stored().version)
    release(world, target)
    answer = served(world.serve())
    assert world.wise.lives(answer.access_token.reveal())
    assert len(world.wise.refreshes) == 1
    sweep(world)
    assert world.alerts.published == []


@each_target
def test_where_wise_does_not_answer_a_report_nothing_changes(world: World, target: str | None) -> None:
    hold(world, target)
    world.clock.advance(hours=1)
    world.wise.asks = [Liveness.NO_ANSWER]
    assert why(world.serve(rejected=world.stored().version)) is Why.UNAVAILABLE
    assert served(world.serve()).on_hold
    assert world.wise.refreshes == []


@each_target
def test_a_doubt_is_resolved_by_asking(world: World, target: str | None) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.attempt()
    world.clock.advance(minutes=1)
    hold(world, target)
    sweep(world, 60)
    assert (world.stored().attempt_id, world.stored().in_doubt) == (None, None)
    assert served(world.serve()).on_hold
    assert len(world.wise.refreshes) == 1
    assert len(world.wise.asked) >= 1


@each_target
def test_a_doubt_that_turns_out_bad_stays_until_newer_tokens_come(world: World, target: str | None) -> None:
    world.due_now()
    world.wise.script = ["lose"]
    world.wise.asks = [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(minutes=1)
    hold(world, target)
    assert why(world.serve()) is Why.ON_HOLD
    assert world.stored().last_error == DEAD_ON_HOLD
    world.clock.advance(seconds=10)
    offer = newer(world)
    assert isinstance(world.adopt_grant(world.key(), offer, world.stored().version), Kept)
    answer = served(world.serve())
    assert answer.on_hold
    assert world.wise.lives(answer.access_token.reveal())
    assert len(world.wise.refreshes) == 1


@each_target
def test_a_doubt_about_a_token_that_has_expired_waits_for_newer_ones(world: World, target: str | None) -> None:
    grant = world.stored()
    world.grants.items[grant.key] = replace(grant, in_doubt="attempt-0", due_at=world.clock())
    hold(world, target)
    world.clock.now = grant.expires_at or world.clock()
    assert why(world.serve()) is Why.ON_HOLD
    asked = world.grants.writes
    assert why(world.serve()) is Why.ON_HOLD
    assert world.grants.writes == asked
    assert (world.wise.asked, world.wise.refreshes) == ([], [])
    release(world, target)
    assert world.wise.lives(served(world.serve()).access_token.reveal())


@pytest.mark.parametrize("target", ALL)
def test_a_worker_that_dies_under_an_order_about_many_leaves_a_doubt_that_is_resolved(
    world: World, target: str | None
) -> None:
    grant = world.stored()
    dead = replace(
        grant, attempt_id="dead", lease_until=world.clock(), last_error=DEAD_ON_HOLD, due_at=world.clock(), takeovers=2
    )
    world.grants.items[grant.key] = dead
    hold(world, target)
    world.clock.advance(minutes=1)
    sweep(world, 5)
    assert (world.stored().attempt_id, world.stored().in_doubt) == (None, None)
    assert world.wise.refreshes == []


# --- the sweep and many on hold


@pytest.mark.parametrize("target", ALL)
def test_due_grants_of_a_held_tenant_are_set_aside_and_others_go_on(world: World, target: str | None) -> None:
    hold(world, target)
    world.due_now()
    summary = sweep(world)
    assert (summary.set_aside, summary.holds, summary.suspensions) == (1, 1, 0)
    due_at = world.stored().due_at
    assert due_at is not None
    assert due_at > world.clock()
    assert sweep(world).set_aside == 0


@pytest.mark.parametrize("target", ALL)
def test_people_are_told_about_grants_on_hold(world: World, target: str | None) -> None:
    alert = Alert("incident", AlertKind.HELD, "client_refused", world.clock())
    world.grants.items[world.key()] = replace(world.stored(), alert=alert, due_at=world.clock())
    hold(world, target)
    sweep(world)
    assert [told.incident_id for told in world.alerts.published] == ["incident"]


def test_one_that_was_deleted_meanwhile_is_set_aside_without_harm(world: World) -> None:
    assert world.refresh_due.set_held_aside(world.key("nobody")).word is Word.BARRED


def test_an_expiring_refresh_token_is_told_although_the_grant_is_on_hold(world: World) -> None:
    world.grants.items[world.key()] = replace(world.stored(), refresh_expires_at=world.clock() + timedelta(days=3))
    hold(world, "grant")
    assert decide(world.stored(), world.clock(), world.budgets).step is Step.WARN
    sweep(world)
    assert [told.kind for told in world.alerts.published] == [AlertKind.REFRESH_TOKEN_EXPIRING]


# --- races


@pytest.mark.parametrize("target", ALL)
def test_an_order_that_becomes_known_under_the_lease_stops_the_request(world: World, target: str | None) -> None:
    world.due_now()
    prepare = world.sealer.prepare

    def slow(*arguments: object) -> object:
        hold(world, target)
        return prepare(*arguments)  # type: ignore[arg-type]

    world.sealer.prepare = slow  # type: ignore[method-assign,assignment]
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "on_hold")
    assert world.wise.refreshes == []
    assert served(world.serve()).on_hold


def test_an_order_waits_for_a_refresh_that_is_under_way(world: World) -> None:
    """What is on hold when the order is answered is not being refreshed by anybody here."""
    world.due_now()
    grant = world.stored()
    world.grants.items[grant.key] = replace(
        grant, attempt_id="busy", lease_until=world.clock() + world.budgets.lease, due_at=None
    )

    def over() -> None:
        if len(world.clock.slept) == 3:
            world.grants.items[grant.key] = replace(grant, version=grant.version + 1)

    world.clock.on_sleep = over
    answer = world.hold_grant(grant.key, world.order())
    assert isinstance(answer, Grant)
    assert (answer.version, answer.attempt_id) == (grant.version + 1, None)
    assert answer == world.stored()


@pytest.mark.parametrize("way", ["hold", "release"])
def test_an_order_gives_up_where_somebody_works_on_it_for_too_long(world: World, way: str) -> None:
    grant = replace(world.stored(), attempt_id="busy", lease_until=world.clock() + timedelta(minutes=5))
    world.grants.items[grant.key] = grant
    change = world.hold_grant.release if way == "release" else lambda key: world.hold_grant(key, world.order())
    assert change(grant.key) is Declined.BUSY
    assert world.stored() == grant


def test_a_report_that_is_being_asked_about_is_waited_for_before_a_release(world: World) -> None:
    """Otherwise what it finds would be written as if nobody might refresh, and the grant would be due never."""
    hold(world, "grant")
    world.clock.advance(hours=1)
    refreshed_elsewhere(world)
    released_meanwhile: list[object] = []
    ask = world.wise.ask

    def slow(*arguments: object, **more: object) -> Said:
        released_meanwhile.append(world.hold_grant.release(world.key()))
        return ask(*arguments, **more)  # type: ignore[arg-type]

    world.wise.ask = slow  # type: ignore[method-assign,assignment]
    result = world.attempt(cause=Rejected(world.stored().version))
    assert result.word in (Word.ON_HOLD, Word.IN_DOUBT)
    assert released_meanwhile == [Declined.BUSY]
    world.wise.ask = ask  # type: ignore[method-assign]
    assert world.stored().on_hold is not None


def test_the_lease_of_a_worker_that_is_gone_is_taken_from_it(world: World) -> None:
    """It may come back from the dead and write: its lease is no longer stored."""
    hold(world, "grant")
    grant = replace(world.stored(), attempt_id="gone", lease_until=world.clock(), due_at=None)
    world.grants.items[grant.key] = grant
    world.clock.advance(minutes=1)
    now = world.clock()
    answer = world.hold_grant.release(grant.key)
    assert isinstance(answer, Grant)
    assert (answer.attempt_id, answer.lease_until, answer.in_doubt) == (None, None, "gone")
    assert (answer.hold_until, answer.due_at) == (now + world.budgets.hold, now)
    assert answer == world.stored()
    sweep(world)
    assert world.stored().in_doubt is None
    assert served(world.serve()).version == grant.version


def test_an_order_is_not_lost_to_who_writes_at_the_same_time(world: World) -> None:
    def meanwhile() -> None:
        world.grants.before_write = lambda: None
        world.due_now()
        world.attempt()

    world.grants.before_write = meanwhile
    answer = world.hold_grant(world.key(), world.order())
    assert answer == world.stored()
    assert world.stored().on_hold is not None
    assert world.wise.lives(world.access_token())


def test_an_order_does_not_undo_a_doubt_that_came_at_the_same_time(world: World) -> None:
    def meanwhile() -> None:
        world.grants.before_write = lambda: None
        world.grants.items[world.key()] = replace(world.stored(), in_doubt="other", due_at=world.clock())

    world.grants.before_write = meanwhile
    world.hold_grant(world.key(), world.order())
    assert (world.stored().in_doubt, world.stored().due_at) == ("other", world.clock())


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.REAUTHORIZATION_REQUIRED])
def test_it_is_an_order_of_its_own(world: World, phase: Phase) -> None:
    grant = replace(world.stored(), phase=phase, suspended_from=Phase.ACTIVE, in_doubt="earlier", due_at=None)
    held = put_on_hold(grant, world.order(), world.clock())
    assert held == replace(grant, on_hold=world.order())
    assert released(held, world.clock(), world.budgets).due_at is None


def test_orders_are_answered_alike_however_often_they_are_given(world: World) -> None:
    first = world.hold_grant(world.key(), world.order("first"))
    writes = world.grants.writes
    assert world.hold_grant(world.key(), world.order("second")) == first
    back = world.hold_grant.release(world.key())
    assert world.hold_grant.release(world.key()) == back
    assert world.grants.writes == writes + 1
    assert world.hold_grant(world.key("nobody"), world.order()) is Declined.NOT_FOUND


def test_nothing_is_taken_from_who_holds_nothing(world: World) -> None:
    assert freed(world.stored(), world.clock(), world.budgets) is world.stored()


# --- what was promised


@each_target
def test_no_token_is_replaced_before_the_instant_that_was_promised_under_an_order(
    world: World, target: str | None
) -> None:
    hold(world, target)
    world.due_now()
    promised = served(world.serve()).stable_until
    if target == "grant":
        world.hold_grant.release(world.key())
    else:
        world.hold_all.release(target)
    while world.clock() < promised:
        for cause in (Due(), Rejected(world.stored().version)):
            world.attempt(cause=cause)
        sweep(world, 2)
    assert world.wise.refreshes == []
    world.clock.advance(minutes=8)
    sweep(world, 2)
    assert len(world.wise.refreshes) == 1


@pytest.mark.parametrize("left_s", [3, 20, 50])
def test_one_that_is_released_shortly_before_its_end_is_refreshed_at_its_end(world: World, left_s: float) -> None:
    """No promise outlives the token, so nobody waits for one that does."""
    hold(world, "grant")
    ends = served(world.serve()).expires_at
    world.clock.now = ends - timedelta(seconds=left_s)
    promised = served(world.serve()).stable_until if left_s > world.budgets.guard.total_seconds() else ends
    world.hold_grant.release(world.key())
    assert (world.stored().refresh_at, world.stored().due_at) == (ends, ends)
    while world.clock() < promised:
        sweep(world)
    assert world.wise.refreshes == []
    world.clock.now = ends
    sweep(world)
    assert served(world.serve()).expires_at > ends
    assert len(world.wise.refreshes) == 1


@each_target
def test_a_reader_at_the_end_of_a_token_waits_for_no_promise_that_is_over(world: World, target: str | None) -> None:
    hold(world, target)
    ends = served(world.serve()).expires_at
    world.clock.now = ends - timedelta(seconds=20)
    promised = served(world.serve()).stable_until
    if target == "grant":
        world.hold_grant.release(world.key())
    else:
        world.hold_all.release(target)
    world.clock.now = promised - timedelta(seconds=1)
    assert served(world.serve()).expires_at == ends
    world.attempt()
    assert world.wise.refreshes == []
    world.clock.now = ends
    assert served(world.serve()).expires_at > ends
    assert len(world.wise.refreshes) == 1


@pytest.mark.parametrize("target", ALL)
def test_a_reader_at_the_end_of_a_token_under_an_order_in_force_gets_none(world: World, target: str | None) -> None:
    hold(world, target)
    world.clock.now = served(world.serve()).expires_at
    assert why(world.serve()) is Why.ON_HOLD
    world.attempt()
    assert world.wise.refreshes == []


@pytest.mark.parametrize("target", ALL)
def test_a_reader_is_promised_by_the_ordinary_rules_as_soon_as_an_order_was_ended(
    world: World, target: str | None
) -> None:
    hold(world, target)
    world.due_now()
    world.hold_all.release(target)
    until = released_until(world.clock(), world.budgets)
    answer = served(world.serve())
    assert (answer.on_hold, answer.stable_until) == (False, until - world.budgets.guard)
    world.clock.now = until - timedelta(seconds=2)
    assert served(world.serve()).version == world.stored().version
    assert len(world.wise.refreshes) == 1


@pytest.mark.parametrize("target", ALL)
def test_who_does_not_know_an_order_yet_refreshes_nothing_by_asking(world: World, target: str | None) -> None:
    """The function that refreshes may know earlier than the one that serves."""
    world.due_now()
    known = world.suspensions.read()
    hold(world, target)
    world.serve_token = replace(world.serve_token, suspensions=_Fixed(known))
    assert why(world.serve()) is Why.UNAVAILABLE
    assert world.wise.refreshes == []


class _Fixed:
    def __init__(self, known: Suspensions) -> None:
        self.known = known

    def read(self) -> Suspensions:
        return self.known


# --- all of a tenant's, or everything


@pytest.mark.parametrize("target", ALL)
def test_the_answer_comes_when_every_process_knows_it_and_nothing_is_under_way(
    world: World, target: str | None
) -> None:
    began = world.clock()
    order = world.hold_all(target, world.order())
    assert order == Suspension(began, "operator", "a drill")
    assert world.clock() == held_everywhere_at(order, world.budgets)
    assert world.clock() - began >= 2 * KNOWN_FOR + world.budgets.attempt
    assert world.clock() - began < world.budgets.serve_function
    again = world.clock()
    assert world.hold_all(target, world.order("another")) == order
    assert world.clock() == again


def test_a_repeated_order_waits_for_what_is_left(world: World) -> None:
    world.suspensions.hold("acme", world.order())
    world.clock.advance(seconds=7)
    world.hold_all("acme", world.order())
    assert world.clock.slept == [timedelta(seconds=15)]


def test_no_order_waits_for_what_is_over_to_be_removed(world: World) -> None:
    world.hold_all("other", world.order())
    world.hold_all.release("other")
    world.clock.advance(minutes=5)
    forget = world.suspensions.forget
    world.suspensions.forget = _unavailable  # type: ignore[method-assign]
    world.hold_all("acme", world.order())
    world.hold_all.release("acme")
    assert set(world.suspensions.read().held_tenants) == {"other", "acme"}
    world.suspensions.forget = forget  # type: ignore[method-assign]
    world.hold_all("acme", world.order())
    assert set(world.suspensions.read().held_tenants) == {"acme"}


def _unavailable(_: datetime) -> None:
    raise StoreUnavailable("injected")


def test_a_clock_that_was_set_back_makes_nobody_wait_longer(world: World) -> None:
    world.suspensions.hold("acme", Suspension(world.clock() + timedelta(hours=1), "operator"))
    world.hold_all("acme", world.order())
    assert sum(world.clock.slept, timedelta(0)) < world.budgets.serve_function


def test_an_order_that_was_ended_may_be_given_anew(world: World) -> None:
    world.suspensions.hold("acme", world.order("first"))
    world.hold_all.release("acme")
    assert world.hold_all("acme", world.order("second")).reason == "second"
    assert world.suspensions.read().hold_on("acme", world.clock() + timedelta(days=1)) is not None


@pytest.mark.parametrize("target", ["acme", None])
@pytest.mark.parametrize("later", ["given", "ended"])
def test_an_ended_order_goes_with_a_later_one_once_it_is_over_by_every_clock(
    world: World, target: str | None, later: str
) -> None:
    def another() -> None:
        if later == "given":
            world.hold_all("globex", world.order())
        else:
            world.hold_all.release("globex")

    def stored() -> Suspension | None:
        held = world.suspensions.stored
        return held.held_environment if target is None else held.held_tenants.get(target)

    world.hold_all(target, world.order())
    world.hold_all.release(target)
    order = stored()
    assert order is not None
    assert order.until is not None
    world.clock.now = order.until + CLOCKS
    another()
    assert stored() == order
    world.clock.now = order.until + CLOCKS + timedelta(milliseconds=1)
    another()
    assert stored() is None


@pytest.mark.parametrize(
    ("everything", "tenant", "in_force"),
    [
        (None, None, None),
        ("firm", None, "everything"),
        (None, "firm", "tenant"),
        ("firm", "firm", "everything"),
        ("ended", "firm", "tenant"),
        ("firm", "ended", "everything"),
        ("ended", "later", "tenant"),
        ("later", "ended", "everything"),
        ("over", "over", None),
        ("over", "ended", "tenant"),
    ],
)
def test_of_two_orders_the_one_counts_that_lasts_longer(
    everything: str | None, tenant: str | None, in_force: str | None
) -> None:
    now = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    until = {"firm": None, "ended": now + timedelta(seconds=1), "later": now + timedelta(seconds=2), "over": now}

    def order(by: str, kind: str | None) -> Suspension | None:
        return None if kind is None else Suspension(now, by, None, until[kind])

    of_tenant = order("tenant", tenant)
    orders = Suspensions(
        held_environment=order("everything", everything), held_tenants={} if of_tenant is None else {"acme": of_tenant}
    )
    found = orders.hold_on("acme", now)
    assert (None if found is None else found.by) == in_force
    assert orders.holds_in_force == [everything, tenant].count("firm")


# --- moving in


def adopt(world: World, offer: Offer, version: int | None = None) -> Grant:
    kept = world.adopt_grant(world.key(), offer, version)
    assert isinstance(kept, Kept)
    return kept.grant


def test_a_partner_moves_in_without_a_gap() -> None:
    world = World()
    world.wise.add("anna")
    adopt(world, newer(world, hold=world.order()))
    for _ in range(3):  # the old refresher goes on, and hands over what it gets
        world.clock.advance(hours=6)
        assert served(world.serve()).on_hold
        refreshed_elsewhere(world)
        adopt(world, newer(world), world.stored().version)
        answer = served(world.serve())
        assert answer.on_hold
        assert world.wise.lives(answer.access_token.reveal())
    assert world.wise.refreshes == []
    world.hold_grant.release(world.key())  # it is switched off
    world.clock.advance(hours=8)
    sweep(world)
    answer = served(world.serve())
    assert not answer.on_hold
    assert world.wise.lives(answer.access_token.reveal())
    assert world.alerts.published == []


def test_the_first_order_stands_and_an_offer_may_end_it(world: World) -> None:
    first = world.order("first")
    grant = adopt(world, newer(world, hold=first), world.stored().version)
    assert grant.due_at is None
    world.clock.advance(seconds=1)
    assert adopt(world, newer(world, hold=world.order("second")), grant.version).on_hold == first
    assert adopt(world, newer(world), world.stored().version).on_hold == first
    grant = adopt(world, newer(world, release=True), world.stored().version)
    assert (grant.on_hold, grant.due_at) == (None, grant.refresh_at)


def test_adopting_with_hold_waits_for_a_refresh_that_is_under_way(world: World) -> None:
    world.due_now()
    found: list[object] = []
    world.wise.on_refresh = lambda: found.append(
        world.adopt_grant(world.key(), newer(world, hold=world.order()), world.stored().version)
    )
    world.attempt()
    assert found == [Declined.BUSY]
    assert world.stored().on_hold is None


def test_adopting_with_hold_over_a_doubt_asks_before_it_serves(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.wise.asks = [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(minutes=1)
    grant = adopt(world, newer(world, hold=world.order()), world.stored().version)
    assert (grant.in_doubt, grant.due_at) == ("attempt-1", world.clock())
    world.wise.carry_out_late()
    assert why(world.serve()) is Why.ON_HOLD
    assert len(world.wise.refreshes) == 1


def test_a_grant_without_an_access_token_has_nothing_to_serve_on_hold() -> None:
    world = World()
    _, refresh = world.wise.add("anna")
    adopt(world, Offer(refresh_token=refresh, hold=world.order()))
    assert why(world.serve()) is Why.ON_HOLD
    sweep(world)
    assert world.wise.refreshes == []
    release(world, "grant")
    assert world.wise.lives(served(world.serve()).access_token.reveal())


def test_a_new_authorization_stays_on_hold(world: World) -> None:
    hold(world, "grant")
    link_id = world.came_back()
    assert isinstance(world.confirm(link_id), Kept)
    assert world.stored().on_hold is not None
    assert served(world.serve()).on_hold


def test_an_answer_that_was_parked_is_stored_and_asked_about(world: World) -> None:
    world.due_now()
    world.wise.after_refresh = lambda: world.grants.failures.extend(["before"] * 40)
    world.attempt()
    world.grants.failures.clear()
    world.wise.after_refresh = lambda: None
    world.clock.advance(minutes=1)
    assert isinstance(world.hold_grant(world.key(), world.order()), Grant)
    sweep(world, 12)
    answer = served(world.serve())
    assert answer.on_hold
    assert world.wise.lives(answer.access_token.reveal())
    assert len(world.wise.refreshes) == 1


def test_a_store_that_fails_is_the_callers_to_hear_of(world: World) -> None:
    world.grants.failures = ["before"]
    with pytest.raises(StoreUnavailable):
        world.hold_grant(world.key(), world.order())


# --- the rules as a table


@pytest.mark.parametrize(
    ("changes", "verdict", "step"),
    [
        ({}, Verdict.SERVE, Step.NOTHING),
        ({"access_token": None}, Verdict.ON_HOLD, Step.NOTHING),
        ({"expires_at": None}, Verdict.ON_HOLD, Step.NOTHING),
        ({"in_doubt": "x", "due_at": None}, Verdict.REFRESH, Step.RESOLVE_DOUBT),
        ({"in_doubt": "x", "last_error": DEAD_ON_HOLD}, Verdict.ON_HOLD, Step.NOTHING),
        ({"in_doubt": "x", "last_error": DEAD_ON_HOLD, "on_hold": None}, Verdict.REFRESH, Step.RESOLVE_DOUBT),
        ({"phase": Phase.SUSPENDED}, Verdict.SUSPENDED, Step.NOTHING),
        ({"phase": Phase.REAUTHORIZATION_REQUIRED}, Verdict.REAUTHORIZATION_REQUIRED, Step.NOTHING),
    ],
)
def test_a_grant_on_hold_is_judged_row_by_row(
    world: World, changes: dict[str, object], verdict: Verdict, step: Step
) -> None:
    grant = replace(world.stored(), on_hold=world.order(), refresh_at=world.clock(), due_at=world.clock())
    grant = replace(grant, **changes)  # type: ignore[arg-type]
    assert read(grant, world.clock(), world.budgets).verdict is verdict
    assert decide(grant, world.clock(), world.budgets).step is step


def test_the_waits_fit_the_functions_that_make_them() -> None:
    budgets, order = Budgets(), Suspension(datetime.fromisoformat("2026-03-01T12:00:00+00:00"), "operator")
    assert held_everywhere_at(order, budgets) - order.since + budgets.store < budgets.serve_function


# --- dead on hold, and something to tell


def test_people_are_told_about_a_grant_that_is_dead_on_hold_and_wise_is_left_alone(world: World) -> None:
    world.grants.items[world.key()] = replace(
        world.stored(), refresh_expires_at=world.clock() + timedelta(days=30, minutes=2)
    )
    hold(world, "grant")
    refreshed_elsewhere(world)
    world.clock.advance(minutes=1)
    assert why(world.serve(rejected=world.stored().version)) is Why.ON_HOLD
    world.clock.advance(minutes=2)
    asked = len(world.wise.asked)
    sweep(world, 60)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.REFRESH_TOKEN_EXPIRING]
    assert len(world.wise.asked) <= asked + 2


@pytest.mark.parametrize("gone", [False, True])
def test_a_grant_that_goes_while_its_token_is_asked_about_is_let_go(world: World, *, gone: bool) -> None:
    hold(world, "grant")
    refreshed_elsewhere(world)
    world.grants.items[world.key()] = replace(world.stored(), in_doubt="somebody", due_at=world.clock())
    if gone:
        world.grants.before_write = world.grants.items.clear
    assert world.refresh_due.advance(world.key()).word is Word.ON_HOLD


# --- an answer of ours that may be on its way


def adopted_on_hold() -> World:
    world = World()
    access, refresh = world.wise.add("anna")
    dates = {"issued_at": world.clock(), "expires_at": world.clock() + LIFE}
    offer = Offer(refresh_token=refresh, access_token=access, hold=world.order(), **dates)  # type: ignore[arg-type]
    assert isinstance(world.adopt_grant(world.key(), offer, None), Kept)
    return world


def asked_and_died(world: World) -> None:
    """A report has a worker begin, which dies."""
    lease = replace(
        world.stored(), attempt_id="x", lease_until=world.clock(), last_attempt_at=world.clock(), takeovers=0
    )
    world.grants.items[world.key()] = lease
    world.clock.advance(seconds=5)


def test_whoever_refreshes_elsewhere_is_never_refused_for_a_grant_that_was_adopted_on_hold() -> None:
    world = adopted_on_hold()
    world.clock.advance(seconds=1)
    offer = newer(world)
    asked_and_died(world)
    assert isinstance(world.adopt_grant(world.key(), offer, world.stored().version), Kept)


@pytest.mark.parametrize("minutes", [1, 3])
def test_nothing_is_on_its_way_for_a_grant_that_has_been_on_hold_for_three_minutes(world: World, minutes: int) -> None:
    world.clock.advance(seconds=1)
    hold(world, "grant")
    offer = newer(world)
    world.clock.advance(minutes=minutes)
    asked_and_died(world)
    answer = world.adopt_grant(world.key(), offer, world.stored().version)
    assert isinstance(answer, Kept) if minutes == 3 else answer is Declined.BUSY


# --- released with the last tokens


def test_the_last_tokens_release_a_grant_no_earlier_than_its_last_promise() -> None:
    world = adopted_on_hold()
    world.clock.advance(hours=8)
    served_last = served(world.serve())
    world.clock.advance(seconds=2)
    last = replace(newer(world, release=True), issued_at=world.clock() - timedelta(hours=8))
    kept = world.adopt_grant(world.key(), last, world.stored().version)
    assert isinstance(kept, Kept)
    assert kept.grant.on_hold is None
    world.sweep(1)
    assert world.wise.refreshes == []
    world.clock.now = served_last.stable_until
    world.sweep(1)
    assert world.wise.refreshes == []
    world.clock.advance(seconds=10)
    world.sweep(1)
    assert len(world.wise.refreshes) == 1


def test_what_was_never_on_hold_is_due_by_the_ordinary_rules_though_it_is_released(world: World) -> None:
    world.clock.advance(hours=8)
    last = replace(newer(world, release=True), issued_at=world.clock() - timedelta(hours=8))
    kept = world.adopt_grant(world.key(), last, world.stored().version)
    assert isinstance(kept, Kept)
    assert kept.grant.due_at == kept.grant.refresh_at
    assert kept.grant.refresh_at <= world.clock()


def test_a_token_that_was_found_dead_on_hold_was_not_lost_by_us() -> None:
    world = adopted_on_hold()
    world.clock.advance(hours=1)
    world.wise.users["anna"].alive = False
    assert why(world.serve(rejected=world.stored().version)) is Why.ON_HOLD
    assert world.stored().in_doubt == FOUND_DEAD
    world.hold_grant.release(world.key())
    world.sweep(2)
    assert [alert.reason for alert in world.alerts.published] == ["invalid_grant"]
