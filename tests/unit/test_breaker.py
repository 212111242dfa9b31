"""The breaker: what is ours or Wise's fault stops the fleet, not the grants."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.fleet import CALM, PATIENCE, Fleet, Lane
from token_rotator.domain.grant import Alert, AlertKind, Grant, GrantKey, Phase
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientCheck,
    ClientRefused,
    NotSent,
    Outcome,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.tokens import Secret
from token_rotator.service.breaker import PACED, Barred, Breaker
from token_rotator.service.journal import AlertTold, BreakerClosed, BreakerOpened, Trouble
from token_rotator.service.ports import Due
from token_rotator.service.refresh_due import _Duty
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import NotServed, Served

SECOND = timedelta(seconds=1)
NOT_SENT = NotSent(reason="not-connected")
FAULT = ServerFault(status=500)
REFUSED = ClientRefused(status=401, error="invalid_client")
WRONG = WeAreWrong(status=404)
SILENT = Unknown(reason="deadline")
SERIAL = itertools.count()


@pytest.fixture
def world() -> World:
    world = World()
    world.chance = 0.5
    return world


def due(world: World, *names: str) -> None:
    for name in names:
        world.adopted(name)
    world.clock.advance(hours=9)


def fail(world: World, *outcomes: Outcome | ClientCheck, ask: bool = False) -> None:
    for outcome in outcomes:
        fail_at(world.breaker, f"other-{next(SERIAL)}", outcome, ask=ask)


def fail_elsewhere(breaker: Breaker, outcome: Outcome = NOT_SENT) -> None:
    """Let another process open it."""
    for _ in range(3):
        fail_at(breaker, f"other-{next(SERIAL)}", outcome)


def fail_at(breaker: Breaker, name: str, outcome: Outcome | ClientCheck, *, ask: bool = False) -> None:
    breaker.unhealthy(outcome, f"attempt-{next(SERIAL)}-of-{name}", key=GrantKey("acme", name), ask=ask)


def refuse(world: World, *names: str) -> None:
    """Let Wise refuse our client for these grants, and when asked about it."""
    for name in names:
        world.breaker.client_in_question(REFUSED, REFUSED, f"attempt-of-{name}", key=world.key(name))


def let_pass(world: World) -> None:
    """Move the clock to where the breaker is half-open."""
    assert world.fleet.fleet.open_until is not None
    world.clock.now = world.fleet.fleet.open_until


# --- what opens it


@pytest.mark.parametrize("outcome", [NOT_SENT, FAULT, SILENT])
def test_three_in_a_row_open_it(world: World, outcome: Outcome) -> None:
    fail(world, outcome, outcome)
    assert world.breaker.admit(world.sweep_lane, 1) is None
    fail(world, outcome)
    barred = world.breaker.admit(world.sweep_lane, 1)
    assert isinstance(barred, Barred)
    assert barred.until == world.clock() + 10 * SECOND
    assert world.breaker.known() == barred
    assert len(world.journal.of(BreakerOpened)) == 1


def test_an_answer_about_a_grant_ends_the_row(world: World) -> None:
    for _ in range(5):
        fail(world, FAULT, FAULT)
        world.breaker.healthy("attempt-of-another")
    assert not world.breaker.is_open
    assert world.fleet.writes == 0


@pytest.mark.parametrize("outcome", [NOT_SENT, FAULT])
def test_a_row_that_is_the_grants_own_fault_opens_nothing(world: World, outcome: Outcome) -> None:
    fail(world, *[outcome] * 30, ask=True)
    assert world.fleet.fleet.open_until is None
    assert len(world.wise.settled) == 10


def test_a_row_of_unanswered_requests_opens_it_without_a_question(world: World) -> None:
    fail(world, SILENT, SILENT, SILENT, ask=True)
    assert world.fleet.fleet.why == "unknown"
    assert world.wise.settled == []


@pytest.mark.parametrize(
    ("check", "why"),
    [
        (SILENT, "server_fault"),
        (REFUSED, "client_refused"),
        (WRONG, "we_are_wrong"),
        (Throttled(status=429), "throttled"),
    ],
)
def test_a_row_after_which_wise_does_not_accept_our_client_opens_it(world: World, check: ClientCheck, why: str) -> None:
    world.wise.checks = [check]
    fail(world, FAULT, FAULT, FAULT, ask=True)
    assert world.fleet.fleet.why == why


def test_a_rate_limit_opens_it_at_once_for_as_long_as_wise_says(world: World) -> None:
    due(world, "anna")
    world.wise.script = [Throttled(status=429, retry_after=42 * SECOND)]
    assert world.attempt().code == "throttled"
    assert world.fleet.fleet.open_until == world.clock() + 42 * SECOND
    assert world.alerts.published == []


def test_while_it_is_open_nothing_is_sent_and_what_is_due_stays_due(world: World) -> None:
    due(world, "anna", "ben", "cleo")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    before = dict(world.grants.items)
    world.sweep(9)
    assert world.wise.refreshes == []
    assert world.wise.settled == []
    assert world.grants.items == before


def test_two_who_open_it_open_it_once(world: World) -> None:
    other = world.new_breaker()
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    fail_elsewhere(other, FAULT)
    assert world.fleet.fleet.trips == 1
    assert world.fleet.fleet.why == "not_sent"
    assert other.is_open


def test_one_who_loses_the_write_looks_again(world: World) -> None:
    other = world.new_breaker()

    def interfere() -> None:
        world.fleet.before_write = lambda: None
        fail_at(other, "another", Throttled(status=429))

    world.fleet.before_write = interfere
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    assert world.fleet.fleet.why == "throttled"
    assert world.fleet.fleet.trips == 1


def test_a_store_that_does_not_answer_is_on_record_and_stops_nobody(world: World) -> None:
    world.fleet.failures = ["before"]
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    assert [trouble.detail for trouble in world.journal.of(Trouble)] == ["minding the breaker"]  # type: ignore[attr-defined]
    assert world.fleet.fleet.open_until is None


# --- whose fault it is


@pytest.mark.parametrize("outcome", [REFUSED, WRONG])
def test_a_grant_that_wise_refuses_though_it_accepts_our_client_is_held_and_told_alone(
    world: World, outcome: Outcome
) -> None:
    due(world, "anna", "ben")
    world.wise.script = [outcome]
    result = world.attempt("anna")
    anna = world.stored("anna")
    assert result.word is Word.FAILED
    assert anna.phase is Phase.ACTIVE
    assert anna.refresh_at >= world.clock() + timedelta(minutes=15)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]
    assert world.fleet.fleet.open_until is None
    assert world.attempt("ben").word is Word.REFRESHED
    assert isinstance(world.serve("anna"), Served)


def test_a_held_grant_is_told_once_and_told_again_when_it_is_well(world: World) -> None:
    due(world, "anna")
    for _ in range(3):
        world.wise.script = [REFUSED]
        world.attempt("anna")
        world.clock.now = world.stored("anna").refresh_at
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]
    assert world.attempt("anna").word is Word.REFRESHED
    world.sweep(2)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD, AlertKind.RECOVERED]
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


def test_a_held_grant_whose_lease_was_lost_is_not_told(world: World) -> None:
    due(world, "anna")
    world.wise.script = [REFUSED]
    world.grants.failures = ["ok", "ok", "before"]  # the lease, the doubt about the application token, the hold
    world.attempt("anna")
    assert world.alerts.published == []


@pytest.mark.parametrize(("outcome", "kind"), [(REFUSED, AlertKind.CLIENT_REFUSED), (WRONG, AlertKind.WE_ARE_WRONG)])
def test_a_client_that_wise_refuses_stops_the_fleet_and_is_told_at_once(
    world: World, outcome: Outcome, kind: AlertKind
) -> None:
    due(world, "anna", "ben")
    world.wise.script = [outcome, outcome]
    world.wise.checks = [REFUSED, REFUSED]
    assert world.attempt("ben").code == kind.value
    assert world.fleet.fleet.open_until is None
    assert world.alerts.published == []
    assert world.attempt("anna").code == kind.value
    assert world.fleet.fleet.open_until is not None
    assert [alert.kind for alert in world.alerts.published] == [kind]
    assert world.stored("anna").phase is Phase.ACTIVE
    assert world.stored("anna").alert is None


@pytest.mark.parametrize(("check", "opens"), [(Throttled(status=429), True), (SILENT, False), (FAULT, False)])
def test_where_wise_does_not_say_whose_fault_it_is_it_is_one_in_a_row(
    world: World, check: ClientCheck, *, opens: bool
) -> None:
    due(world, "anna")
    world.wise.script = [REFUSED]
    world.wise.checks = [check]
    world.attempt("anna")
    assert (world.fleet.fleet.open_until is not None) is opens
    assert world.stored("anna").alert is None


def test_without_time_to_ask_it_is_one_in_a_row(world: World) -> None:
    due(world, "anna")
    world.wise.script = [REFUSED]
    world.wise.on_refresh = lambda: world.clock.advance(seconds=5.5)
    world.attempt("anna")
    assert world.wise.settled == []
    assert world.fleet.fleet.open_until is None


# --- the client's secret is rotated


def test_secret_changed_at_secrets_manager_first_costs_nothing(world: World) -> None:
    due(world, "anna", "ben")
    world.wise.secrets = ["secret-2", "secret-1"]  # Wise knows the first one only
    world.wise.secret = "secret-2"
    assert world.attempt("anna").word is Word.REFRESHED
    assert world.stored("anna").failures == 0
    world.wise.valid_secrets = {"secret-2"}
    assert world.attempt("ben").word is Word.REFRESHED
    assert world.alerts.published == []
    assert world.fleet.fleet.open_until is None


def test_secret_changed_at_wise_first_recovers_within_one_pause_after_the_second_change(world: World) -> None:
    due(world, "anna", "ben")
    world.wise.valid_secrets = {"secret-2"}
    for _ in range(20):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert {grant.phase for grant in world.grants.items.values()} == {Phase.ACTIVE}
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.CLIENT_REFUSED]
    world.wise.secrets = ["secret-2", "secret-1"]
    open_until = world.fleet.fleet.open_until
    assert open_until is not None
    while world.fleet.fleet.open_until is not None:
        assert world.clock() <= open_until + timedelta(minutes=1)
        world.sweep(55)
        world.clock.advance(seconds=5)
    for _ in range(4):
        world.sweep(55)
    assert {grant.failures for grant in world.grants.items.values()} == {0}
    assert [alert.kind for alert in world.alerts.published][1:] == [AlertKind.RECOVERED]


def test_an_attempt_sends_at_most_twice(world: World) -> None:
    due(world, "anna")
    world.wise.script = [REFUSED, REFUSED]
    world.wise.checks = [ClientAccepted(changed=True), ClientAccepted(changed=True)]
    assert world.attempt("anna").word is Word.FAILED
    assert len(world.wise.refreshes) == 2
    assert world.stored("anna").alert is None


# --- half-open


def test_one_probe_closes_it_and_the_most_urgent_come_first(world: World) -> None:
    for name in ("third", "first", "second"):
        world.adopted(name)
    order = {name: world.stored(name).refresh_at for name in ("first", "second", "third")}
    world.clock.now = max(order.values())
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.sweep(9)
    assert len(world.wise.settled) == 1
    served = sorted(order, key=lambda name: order[name])
    issued = {name: world.stored(name).issued_at for name in order}
    assert sorted(issued, key=lambda name: issued[name]) == served  # type: ignore[arg-type, return-value]
    assert len(world.journal.of(BreakerClosed)) == 1


def test_two_who_would_probe_probe_once(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    other = world.new_breaker()
    world.wise.checks = [SILENT]
    settle = world.wise.settle_client

    def meanwhile(**more: object) -> ClientCheck:
        assert isinstance(other.enter(world.sweep_lane, 5), Barred)
        return settle(**more)  # type: ignore[arg-type]

    world.wise.settle_client = meanwhile  # type: ignore[assignment]
    assert isinstance(world.breaker.enter(world.sweep_lane, 5), Barred)
    assert len(world.wise.settled) == 1


def test_one_who_loses_the_claim_does_not_probe(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    other = world.new_breaker()

    def interfere() -> None:
        world.fleet.before_write = lambda: None
        other.enter(world.sweep_lane, 1)

    world.fleet.before_write = interfere
    assert isinstance(world.breaker.enter(world.sweep_lane, 1), Barred)
    assert len(world.wise.settled) == 1


def test_a_prober_that_dies_is_replaced(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    settle = world.wise.settle_client
    world.wise.settle_client = lambda **_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.breaker.enter(world.sweep_lane, 1)
    world.wise.settle_client = settle  # type: ignore[method-assign]
    assert isinstance(world.new_breaker().enter(world.sweep_lane, 1), Barred)
    world.clock.advance(seconds=16)
    assert world.new_breaker().enter(world.sweep_lane, 1) == 1


@pytest.mark.parametrize("check", [SILENT, FAULT, NOT_SENT, Throttled(status=429, retry_after=timedelta(minutes=9))])
def test_a_probe_that_fails_opens_it_for_longer(world: World, check: ClientCheck) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [check]
    barred = world.breaker.enter(world.sweep_lane, 1)
    assert isinstance(barred, Barred)
    assert barred.until >= world.clock() + 20 * SECOND
    if isinstance(check, Throttled):
        assert barred.until == world.clock() + timedelta(minutes=9)
        assert world.fleet.fleet.trips == 1
    else:
        assert world.fleet.fleet.trips == 2


def test_a_probe_that_closes_it_is_still_paced(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.fleet.booked["sweep"] = world.clock() + timedelta(minutes=1)
    barred = world.breaker.enter(world.sweep_lane, 5)
    assert isinstance(barred, Barred)
    assert barred.why == PACED
    assert world.fleet.fleet.open_until is None


def test_it_is_probed_also_when_nothing_is_due(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    world.sweep(30)
    assert world.fleet.fleet.open_until is None


def test_one_grant_decides_where_our_client_may_not_use_client_credentials(world: World) -> None:
    due(world, "anna", "ben", "cleo")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED]
    world.sweep(9)
    assert world.fleet.fleet.open_until is None
    assert world.fleet.fleet.client_credentials_refused
    assert len(world.wise.refreshes) == 3


def test_a_grant_on_trial_that_is_refused_opens_it_for_longer(world: World) -> None:
    due(world, "anna", "ben", "cleo")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.valid_secrets = set()
    world.sweep(9)
    assert len(world.wise.refreshes) == 1
    assert world.fleet.fleet.trips == 2
    assert world.fleet.fleet.why == "client_refused"
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.CLIENT_REFUSED]


def test_a_client_that_may_not_use_client_credentials_is_not_judged_by_them(world: World) -> None:
    test_one_grant_decides_where_our_client_may_not_use_client_credentials(world)
    world.clock.advance(hours=9)
    world.wise.script = [REFUSED, REFUSED]
    world.wise.checks = [REFUSED, REFUSED]
    assert world.attempt("anna").code == "client_refused"
    assert world.attempt("ben").code == "client_refused"
    assert world.fleet.fleet.open_until is None
    assert world.alerts.published == []


def test_the_trial_is_not_left_to_a_grant_that_fails_again_and_again(world: World) -> None:
    """A closed user is the most urgent of all, and would keep it open."""
    due(world, "closed", "well")
    first = world.clock() - timedelta(hours=9)
    world.grants.items[world.key("closed")] = replace(
        world.stored("closed"), failures=7, last_error="paced", due_at=first
    )
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED, REFUSED]
    order: list[str] = []
    refresh = world.wise.refresh
    world.wise.refresh = lambda token, **more: (order.append(token.reveal()), refresh(token, **more))[1]  # type: ignore[method-assign]
    world.sweep(9)
    assert order == ["refresh-well-1", "refresh-closed-1"]
    assert world.fleet.fleet.open_until is None


def test_the_trial_is_not_left_to_what_a_question_alone_may_settle(world: World) -> None:
    """Of a personal token, and of a doubt about a token that is not due, the breaker hears nothing."""
    world.adopted("anna")
    world.due_now("anna")
    first = world.clock() - timedelta(hours=9)
    world.grants.items[world.key("anna")] = replace(world.stored("anna"), failures=1)
    asked_about = [world.personal("own"), world.adopted("ben")]
    for grant in asked_about:
        key = grant.key
        world.grants.items[key] = replace(grant, in_doubt="attempt-0", due_at=first)
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED, REFUSED]
    world.sweep(9)
    assert len(world.wise.refreshes) == 1
    assert world.fleet.fleet.open_until is None


def test_a_grant_that_fails_again_and_again_is_on_trial_where_there_is_no_other(world: World) -> None:
    due(world, "closed")
    world.grants.items[world.key("closed")] = replace(world.stored("closed"), failures=7)
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED]
    world.sweep(9)
    assert world.fleet.fleet.open_until is None


@pytest.mark.parametrize("there", [True, False])
def test_the_most_urgent_is_on_trial_where_nobody_can_say_which_fails(world: World, *, there: bool) -> None:
    due(world, "anna", "ben")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED]
    get = world.grants.get

    def unreadable(key: GrantKey) -> Grant | None:
        world.grants.get = get  # type: ignore[method-assign]
        if there:
            raise CorruptGrant(key)
        return None

    first, second = sorted(("anna", "ben"), key=lambda name: str(world.stored(name).due_at))
    order: list[str] = []
    refresh = world.wise.refresh
    world.wise.refresh = lambda token, **more: (order.append(token.reveal()), refresh(token, **more))[1]  # type: ignore[method-assign]
    world.grants.get = unreadable  # type: ignore[method-assign]
    world.sweep(9)
    assert order[0] == f"refresh-{first if there else second}-1"
    assert world.fleet.fleet.open_until is None
    assert bool(world.journal.of(Trouble)) is there


def test_a_trial_that_somebody_else_has_taken_over_is_not_ours_to_end(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED]
    assert world.breaker.enter(world.sweep_lane, 5) == 1
    world.clock.advance(seconds=16)
    world.wise.checks = [SILENT]
    world.new_breaker().enter(world.sweep_lane, 1)
    world.breaker.healthy("attempt-of-a-slow-one")
    assert world.fleet.fleet.open_until is not None


# --- readers


def test_readers_get_the_living_token_degraded_while_it_is_open(world: World) -> None:
    due(world, "anna")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    served = world.serve("anna")
    assert isinstance(served, Served)
    assert served.degraded
    assert served.stable_until >= world.clock() + 10 * SECOND
    assert world.wise.refreshes == []
    writes = world.grants.writes
    assert isinstance(world.serve("anna"), Served)
    assert world.grants.writes == writes


def test_a_reader_that_finds_it_open_only_under_the_lease_gets_the_living_token_too(world: World) -> None:
    due(world, "anna")
    other = world.new_breaker()
    fail_elsewhere(other)
    served = world.serve("anna")
    assert isinstance(served, Served)
    assert served.degraded
    assert world.stored("anna").attempt_id is None
    assert world.stored("anna").failures == 0


def test_readers_of_a_doubtful_or_expired_token_are_told_to_wait(world: World) -> None:
    due(world, "doubtful")
    world.wise.script = [SILENT]
    world.attempt("doubtful")
    world.clock.advance(seconds=30)
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    answer = world.serve("doubtful")
    assert isinstance(answer, NotServed)
    world.clock.advance(hours=5)
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    world.new_breaker()
    assert isinstance(world.serve("doubtful"), NotServed)


def test_a_doubt_that_meets_it_under_the_lease_stays(world: World) -> None:
    due(world, "anna")
    world.wise.script = [SILENT]
    world.attempt("anna")
    world.clock.advance(seconds=23)
    other = world.new_breaker()
    fail_elsewhere(other)
    assert isinstance(world.serve("anna"), NotServed)
    stored = world.stored("anna")
    assert stored.in_doubt is not None
    assert stored.attempt_id is None
    assert stored.due_at == world.fleet.fleet.open_until


def test_an_expired_token_is_not_stood_down(world: World) -> None:
    world.adopted("anna")
    world.clock.advance(hours=12)
    before = world.stored("anna").refresh_at
    other = world.new_breaker()
    fail_elsewhere(other)
    assert isinstance(world.serve("anna"), NotServed)
    assert world.stored("anna").refresh_at == before


def test_a_report_while_it_is_open_moves_no_promise(world: World) -> None:
    grant = world.adopted("anna")
    world.clock.advance(minutes=10)
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    assert isinstance(world.serve("anna", rejected=grant.version), NotServed)
    assert world.stored("anna").refresh_at == grant.refresh_at
    assert world.stored("anna").last_error is None


def test_on_demand_has_a_share_of_its_own(world: World) -> None:
    names = [f"user-{number}" for number in range(14)]
    due(world, *names)
    world.clock.advance(minutes=0)
    served = [world.serve(name) for name in names]
    assert all(isinstance(answer, Served) for answer in served)
    degraded = [answer for answer in served if isinstance(answer, Served) and answer.degraded]
    assert degraded
    assert len(world.wise.refreshes) == len(names) - len(degraded)
    assert {world.stored(name).last_error for name in names} == {None, PACED}


def test_on_demand_tells_a_store_that_does_not_admit_from_one_that_does(world: World) -> None:
    due(world, "anna")
    world.fleet.failures = ["before"]
    assert isinstance(world.serve("anna"), Served)
    assert world.stored("anna").last_error == "store-unavailable"
    assert world.wise.refreshes == []


# --- telling people


def test_an_outage_is_told_once_it_has_lasted_and_its_end_too(world: World) -> None:
    due(world, "anna")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    world.wise.checks = [NOT_SENT] * 100
    while world.clock() < (world.fleet.fleet.since or world.clock()) + PATIENCE + timedelta(minutes=5):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.PROVIDER_UNAVAILABLE]
    world.wise.checks = []
    while world.fleet.fleet.open_until is not None:
        world.sweep(55)
    assert len(world.alerts.published) == 1
    for _ in range(4):
        world.sweep(55)
    assert [alert.kind for alert in world.alerts.published][1:] == [AlertKind.RECOVERED]


@pytest.mark.parametrize("plan", ["refuse", "lose"])
def test_an_alert_that_did_not_arrive_surely_is_told_again(world: World, plan: str) -> None:
    world.alerts.script = [plan]
    due(world, "anna")
    refuse(world, "ben")
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    world.attempt("anna")
    assert [told.code is None for told in world.journal.of(AlertTold)] == [False]  # type: ignore[attr-defined]
    world.clock.advance(seconds=11)
    world.breaker.tend()
    world.breaker.tend()
    assert len(world.alerts.published) == (1 if plan == "refuse" else 2)
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


def test_an_alert_that_somebody_else_is_telling_is_left_to_them(world: World) -> None:
    due(world, "anna")
    refuse(world, "ben")
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    world.alerts.script = ["refuse"]
    world.attempt("anna")
    world.breaker.tend()
    assert world.alerts.published == []
    world.clock.advance(seconds=11)
    other = world.new_breaker()

    def interfere() -> None:
        world.fleet.before_write = lambda: None
        other.tend()

    world.fleet.before_write = interfere
    world.breaker.tend()
    assert len(world.alerts.published) == 1


def test_the_mark_of_an_alert_survives_others_writing(world: World) -> None:
    due(world, "anna")
    refuse(world, "ben")
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    publish = world.alerts.publish

    def meanwhile(*arguments: object) -> None:
        world.fleet.write(world.fleet.fleet, world.fleet.fleet)
        publish(*arguments)  # type: ignore[arg-type]

    world.alerts.publish = meanwhile  # type: ignore[method-assign]
    world.attempt("anna")
    assert world.fleet.fleet.alert is not None
    assert world.fleet.fleet.alert.published_at is not None


def test_the_mark_of_an_alert_is_not_put_on_another(world: World) -> None:
    due(world, "anna")
    refuse(world, "ben")
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    publish = world.alerts.publish

    def meanwhile(*arguments: object) -> None:
        world.alerts.publish = publish  # type: ignore[method-assign]
        fleet = world.fleet.fleet
        world.fleet.write(fleet, fleet.closed(world.clock()).recovering(world.clock() + CALM, by="probe"))
        publish(*arguments)  # type: ignore[arg-type]

    world.alerts.publish = meanwhile  # type: ignore[method-assign]
    world.attempt("anna")
    alert = world.fleet.fleet.alert
    assert alert is not None
    assert alert.kind is AlertKind.RECOVERED
    assert alert.published_at is None


def test_a_closing_that_somebody_else_was_quicker_with_is_left(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    settle = world.wise.settle_client

    def meanwhile(**more: object) -> ClientCheck:
        fleet = world.fleet.fleet
        world.fleet.write(fleet, fleet.closed(world.clock()))
        return settle(**more)  # type: ignore[arg-type]

    world.wise.settle_client = meanwhile  # type: ignore[assignment]
    assert world.breaker.enter(world.sweep_lane, 3) == 3
    assert world.journal.of(BreakerClosed) == []


def test_who_always_loses_the_write_gives_up_and_goes_on(world: World) -> None:
    world.fleet.write = lambda *_: None  # type: ignore[method-assign, assignment]
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    assert world.journal.of(BreakerOpened) == []


def test_a_mark_that_always_loses_is_left_to_the_next_claim(world: World) -> None:
    due(world, "anna")
    refuse(world, "ben")
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    write = world.fleet.write
    publish = world.alerts.publish

    def deaf(*arguments: object) -> None:
        publish(*arguments)  # type: ignore[arg-type]
        world.fleet.write = lambda *_: None  # type: ignore[method-assign, assignment]

    world.alerts.publish = deaf  # type: ignore[method-assign]
    world.attempt("anna")
    world.fleet.write = write  # type: ignore[method-assign]
    world.alerts.publish = publish  # type: ignore[method-assign]
    world.clock.advance(seconds=31)
    world.breaker.tend()
    assert len(world.alerts.published) == 2
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


def test_an_incident_that_comes_back_soon_is_not_told_anew(world: World) -> None:
    """A rate limit every forty seconds: one incident, told once, and its end once."""
    for _ in range(30):
        fail(world, Throttled(status=429, retry_after=5 * SECOND))
        world.sweep(40)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.PROVIDER_UNAVAILABLE]
    for _ in range(5):
        world.sweep(40)
    assert [alert.kind for alert in world.alerts.published][1:] == [AlertKind.RECOVERED]
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


def test_an_end_that_was_not_told_yet_is_told_before_anything_new(world: World) -> None:
    due(world, "anna", "ben")
    refuse(world, "cleo")
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    world.attempt("anna")
    let_pass(world)
    world.sweep(1)
    world.alerts.script = ["refuse"] * 3
    for _ in range(4):
        world.sweep(40)
    world.wise.script, world.wise.checks = [REFUSED], [REFUSED]
    world.clock.advance(hours=9)
    refuse(world, "cleo")
    world.attempt("ben")
    for _ in range(10):
        world.sweep(40)
    kinds = [alert.kind for alert in world.alerts.published]
    assert kinds[:2] == [AlertKind.CLIENT_REFUSED, AlertKind.RECOVERED]


def test_a_longer_rate_limit_is_honoured_while_it_is_open(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    fail(world, Throttled(status=429, retry_after=5 * SECOND))
    assert world.fleet.fleet.open_until == world.clock() + 10 * SECOND
    fail(world, Throttled(status=429, retry_after=300 * SECOND))
    assert world.fleet.fleet.open_until == world.clock() + 300 * SECOND


# --- one grant alone


def close(world: World, name: str, seconds: float = 0.2) -> None:
    """One due grant of a closed user, another due in three minutes; our client may not use `client_credentials`."""
    due(world, name)
    world.adopted("well")
    at = world.clock() + timedelta(minutes=3)
    world.grants.items[world.key("well")] = replace(world.stored("well"), refresh_at=at, due_at=at)
    refresh = world.wise.refresh

    def refuse(token: Secret, **more: Any) -> Outcome:
        if name not in token.reveal():
            return refresh(token, **more)
        world.clock.advance(seconds=seconds)
        return ClientRefused(status=401)

    def settle(**_: object) -> ClientCheck:
        return ClientRefused(status=401, error="unauthorized_client")

    world.wise.refresh = refuse  # type: ignore[method-assign]
    world.wise.settle_client = settle  # type: ignore[assignment]


def test_one_grant_whose_refresh_always_hangs_backs_off_and_stops_nobody(world: World) -> None:
    due(world, "hanging", "well")
    refresh = world.wise.refresh

    def hang(token: Secret, **more: Any) -> Outcome:
        if "hanging" not in token.reveal():
            return refresh(token, **more)
        world.clock.advance(seconds=5)
        return SILENT

    world.wise.refresh = hang  # type: ignore[method-assign]
    tries = [world.stored("hanging").failures]
    for _ in range(60):
        world.sweep(55)
        world.clock.advance(seconds=5)
        tries.append(world.stored("hanging").failures)
    assert world.fleet.fleet.trips == 0
    assert world.alerts.published == []
    assert tries[-1] - tries[30] <= 8
    assert world.stored("well").failures == 0


@pytest.mark.parametrize("outcome", [NOT_SENT, FAULT, SILENT])
@pytest.mark.parametrize("ask", [True, False])
def test_one_grant_again_and_again_opens_nothing(world: World, outcome: Outcome, *, ask: bool) -> None:
    for _ in range(20):
        fail_at(world.breaker, "anna", outcome, ask=ask)
    assert world.fleet.fleet.open_until is None
    assert world.wise.settled == []


@pytest.mark.parametrize("outcome", [NOT_SENT, FAULT, SILENT])
def test_what_was_heard_long_ago_opens_nothing(world: World, outcome: Outcome) -> None:
    for name in ("anna", "ben", "cleo", "dora"):
        fail_at(world.breaker, name, outcome)
        world.clock.advance(minutes=6)
    assert world.fleet.fleet.open_until is None
    fail_at(world.breaker, "emil", outcome)
    fail_at(world.breaker, "fay", outcome)
    assert world.fleet.fleet.open_until is not None


@pytest.mark.parametrize("outcome", [REFUSED, WRONG])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("check", [REFUSED, WRONG, SILENT, FAULT, NOT_SENT, None])
def test_one_grant_that_is_refused_again_and_again_opens_nothing(
    world: World, outcome: ClientRefused | WeAreWrong, check: ClientCheck | None, *, known: bool
) -> None:
    world.fleet.fleet = replace(world.fleet.fleet, client_credentials_refused=known)
    for _ in range(20):
        world.breaker.client_in_question(outcome, check, f"attempt-{next(SERIAL)}", key=world.key("closed"))
        world.clock.advance(seconds=30)
    assert world.fleet.writes == 0


def test_two_grants_that_are_refused_long_after_each_other_open_nothing(world: World) -> None:
    for name in ("anna", "ben", "cleo"):
        refuse(world, name)
        world.clock.advance(minutes=10)
    assert world.fleet.fleet.open_until is None


def test_an_answer_about_another_grant_ends_a_row_of_refusals(world: World) -> None:
    for name in ("anna", "ben", "cleo"):
        refuse(world, name)
        world.breaker.healthy("attempt-of-another")
    assert world.fleet.fleet.open_until is None


def test_where_the_question_proves_nothing_three_grants_that_are_refused_open_it(world: World) -> None:
    world.fleet.fleet = replace(world.fleet.fleet, client_credentials_refused=True)
    refuse(world, "anna", "ben")
    assert world.fleet.fleet.open_until is None
    refuse(world, "cleo")
    assert world.fleet.fleet.why == "client_refused"


@pytest.mark.parametrize("check", [SILENT, None])
def test_two_refusals_after_which_wise_did_not_say_whose_fault_it_is_open_nothing(
    world: World, check: ClientCheck | None
) -> None:
    for name in ("anna", "ben"):
        world.breaker.client_in_question(REFUSED, check, f"attempt-of-{name}", key=world.key(name))
    assert world.fleet.fleet.open_until is None
    world.breaker.client_in_question(REFUSED, check, "attempt-of-cleo", key=world.key("cleo"))
    assert world.fleet.fleet.open_until is not None


@pytest.mark.parametrize("seconds", [0.2, 5.2])
@pytest.mark.parametrize("known", [True, False])
def test_one_closed_user_stops_nobody_where_our_client_may_not_use_client_credentials(
    world: World, seconds: float, *, known: bool
) -> None:
    """Its 401 names no error; where it comes late there is no time to ask."""
    close(world, "closed", seconds)
    world.fleet.fleet = replace(world.fleet.fleet, client_credentials_refused=known)
    well = world.stored("well").refresh_at
    for _ in range(150):
        world.sweep(10)
    assert world.fleet.fleet.open_until is None
    assert world.fleet.fleet.trips == 0
    refreshed_at = world.stored("well").issued_at
    assert refreshed_at is not None
    assert well <= refreshed_at <= well + 20 * SECOND
    assert {alert.kind for alert in world.alerts.published} <= {AlertKind.HELD}


def test_readers_of_one_closed_user_stop_nobody(world: World) -> None:
    """On demand there is no time for more than one question, and that one stays unanswered."""
    due(world, "closed")
    for _ in range(8):
        world.wise.script, world.wise.checks = [ClientRefused(status=401)], [SILENT]
        world.wise.on_refresh = lambda: world.clock.advance(seconds=4.95)
        world.refresh(world.key("closed"), Due())
        world.clock.now = max(world.clock.now, world.stored("closed").refresh_at)
    assert len(world.wise.refreshes) == 8
    assert world.fleet.writes == 0


def test_readers_of_one_grant_at_which_wise_fails_stop_nobody(world: World) -> None:
    due(world, "anna")
    for _ in range(8):
        world.wise.script = [FAULT]
        world.refresh(world.key("anna"), Due())
        world.clock.now = max(world.clock.now, world.stored("anna").refresh_at)
    assert len(world.wise.refreshes) == 8
    assert world.fleet.writes == 0


def test_a_client_that_is_refused_for_one_grant_only_is_told_with_that_grant(world: World) -> None:
    """Nobody else is there whose refusal would show that it is our client; nobody but on-call can tell."""
    due(world, "anna")
    world.wise.valid_secrets = {"secret-2"}
    for _ in range(40):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert world.fleet.writes == 0
    assert [(alert.kind, alert.reason) for alert in world.alerts.published] == [(AlertKind.HELD, "client_refused")]
    assert world.stored("anna").phase is Phase.ACTIVE
    world.wise.secrets = ["secret-2", "secret-1"]
    for _ in range(7):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert world.stored("anna").failures == 0
    assert [alert.kind for alert in world.alerts.published][1:] == [AlertKind.RECOVERED]


def test_a_held_grant_in_doubt_is_tried_again_after_its_pause_and_told_in_the_end(world: World) -> None:
    grant = world.adopted("anna")
    world.clock.advance(minutes=10)
    world.wise.users["anna"].access_token += "0"
    world.alerts.script = ["refuse"]
    world.wise.script = [REFUSED] * 5
    assert isinstance(world.serve("anna", rejected=grant.version), NotServed)
    stored = world.stored("anna")
    assert stored.in_doubt is not None
    assert stored.due_at is not None
    assert stored.due_at <= world.clock() + timedelta(minutes=20)
    assert world.alerts.published == []
    for _ in range(60):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]
    world.wise.script = []
    for _ in range(30):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert world.wise.lives(world.access_token("anna"))
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD, AlertKind.RECOVERED]


def test_a_held_grant_that_somebody_is_telling_of_is_left_to_them(world: World) -> None:
    due(world, "anna")
    world.wise.script = [REFUSED]
    world.alerts.script = ["refuse"]
    world.attempt("anna")
    stored = world.stored("anna")
    assert stored.alert is not None
    claimed = replace(stored.alert, claimed_until=world.clock() + timedelta(hours=1))
    world.grants.items[world.key("anna")] = replace(stored, alert=claimed, refresh_at=world.clock())
    world.wise.script = [REFUSED]
    world.attempt("anna")
    assert world.alerts.published == []
    assert world.stored("anna").alert == claimed


# --- a state that cannot be read


def test_a_state_that_cannot_be_read_leaves_no_lease_and_no_doubt_behind(world: World) -> None:
    due(world, "anna")

    def corrupt(*_: object) -> object:
        raise CorruptGrant("injected")

    world.fleet.admit = corrupt  # type: ignore[method-assign, assignment]
    world.fleet.read = corrupt  # type: ignore[method-assign, assignment]
    assert isinstance(world.serve("anna"), Served)
    assert world.stored("anna").attempt_id is None
    world.sweep(3)
    assert world.wise.refreshes == []


# --- the sweep


def test_calls_that_were_asked_for_before_it_opened_are_not_made(world: World) -> None:
    due(world, "anna", "ben")
    other = world.new_breaker()
    acquire = world.grants.acquire

    def opened_meanwhile(*arguments: Any) -> Any:
        world.grants.acquire = acquire  # type: ignore[method-assign]
        fail_elsewhere(other)
        world.breaker.tend()
        return acquire(*arguments)

    world.grants.acquire = opened_meanwhile  # type: ignore[method-assign]
    world.sweep(3)
    assert len(world.wise.refreshes) == 1  # the one that was under way


def test_no_probe_begins_that_would_outlast_the_duty(world: World) -> None:
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.sweep(6)
    assert world.wise.settled == []
    world.sweep(8)
    assert len(world.wise.settled) == 1


def test_nothing_is_started_after_a_question_that_took_too_long(world: World) -> None:
    due(world, "anna")
    admit = world.fleet.admit

    def slow(*arguments: Any) -> Any:
        world.clock.advance(seconds=9)
        return admit(*arguments)

    world.fleet.admit = slow  # type: ignore[method-assign]
    world.sweep(8)
    assert world.wise.refreshes == []


def test_a_grant_that_a_reader_had_stand_down_keeps_its_place(world: World) -> None:
    due(world, "read", "other")
    before = world.stored("read").due_at
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    assert isinstance(world.serve("read"), Served)
    world.sweep(5)
    assert world.stored("read").due_at == before
    world.sweep(40)
    assert world.stored("read").failures == 0
    assert len(world.wise.refreshes) == 2


def test_while_it_is_open_people_are_told_all_the_same(world: World) -> None:
    due(world, "anna", "ben")
    world.wise.users["anna"].alive = False
    world.alerts.script = ["refuse"]
    world.attempt("anna")
    world.clock.advance(seconds=11)
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    world.sweep(5)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.REAUTHORIZATION_REQUIRED]
    assert world.wise.refreshes == ["attempt-1"]


def test_a_grant_that_goes_while_it_is_open_is_no_trouble(world: World) -> None:
    due(world, "anna")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    world.grants.get = lambda _: None  # type: ignore[method-assign, assignment]
    world.sweep(5)
    assert world.journal.of(Trouble) == []


def test_a_sweep_that_is_not_admitted_for_a_fault_of_the_store_tries_again(world: World) -> None:
    due(world, "anna")
    world.fleet.failures = ["ok", "before", "before"]
    world.sweep(5)
    assert [trouble.detail for trouble in world.journal.of(Trouble)] == ["asking for calls to Wise"] * 2  # type: ignore[attr-defined]
    assert world.stored("anna").failures == 0
    assert len(world.wise.refreshes) == 1


def test_a_sweep_makes_no_more_calls_in_a_minute_than_its_lane_allows(world: World) -> None:
    due(world, *[f"user-{number}" for number in range(300)])
    world.refresh_due = type(world.refresh_due)(
        **{
            name: getattr(world.refresh_due, name)
            for name in type(world.refresh_due).__dataclass_fields__
            if name != "lane"
        },
        lane=Lane("sweep", 60),
    )
    world.wise.takes = timedelta(0)
    summary = world.sweep(55)
    assert 50 <= len(world.wise.refreshes) <= 60
    assert summary.calls == len(world.wise.refreshes)  # type: ignore[attr-defined]


def test_questions_are_paid_for_as_well(world: World) -> None:
    names = [f"user-{number}" for number in range(40)]
    due(world, *names)
    world.wise.takes = timedelta(0)
    for name in names:
        world.wise.script = [SILENT]
        world.attempt(name)
    world.fleet.fleet = Fleet()
    world.clock.advance(seconds=60)
    before = len(world.wise.asked), len(world.wise.refreshes)
    world.sweep(2)
    calls = len(world.wise.asked) - before[0] + len(world.wise.refreshes) - before[1]
    assert calls <= world.sweep_lane.burst + 2 * 15 + 16


def test_what_lies_in_a_doubtful_grant_is_told_and_its_next_try_stays_where_it_is(world: World) -> None:
    due(world, "anna")
    alert = Alert("incident-1", AlertKind.HELD, "client_refused", world.clock(), "attempt-0")
    doubtful = replace(world.stored("anna"), in_doubt="attempt-0", alert=alert, due_at=world.clock())
    world.grants.items[world.key("anna")] = doubtful
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    world.sweep(3)
    assert [told.incident_id for told in world.alerts.published] == ["incident-1"]
    assert world.stored("anna").due_at == doubtful.due_at


def test_a_trial_during_which_somebody_opened_it_for_longer_ends_without_closing_it(world: World) -> None:
    due(world, "anna")
    fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
    let_pass(world)
    world.wise.checks = [REFUSED]
    assert world.breaker.enter(world.sweep_lane, 5) == 1
    fail_at(world.new_breaker(), "another", Throttled(status=429, retry_after=60 * SECOND))
    world.breaker.healthy("attempt-on-trial")
    assert world.fleet.fleet.open_until == world.clock() + 60 * SECOND


def test_a_suspect_is_not_begun_after_the_duty_either(world: World) -> None:
    due(world, "anna")
    with ThreadPoolExecutor(1) as pool:
        duty = _Duty(world.refresh_due, range(16), world.clock(), pool)
        duty.suspects.append(world.key("anna"))
        duty._advance_alone()
    assert world.wise.refreshes == []


def test_an_allowance_ends_when_the_breaker_opens(world: World) -> None:
    with ThreadPoolExecutor(1) as pool:
        duty = _Duty(world.refresh_due, range(16), world.clock() + timedelta(minutes=1), pool)
        duty.allowance = 5
        fail(world, NOT_SENT, NOT_SENT, NOT_SENT)
        assert not duty._may_call()
    assert duty.allowance == 0
