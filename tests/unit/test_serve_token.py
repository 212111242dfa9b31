"""What a reader is told, waiting and reports included."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.outcome import Liveness, NotSent
from token_rotator.domain.policy import Reading, Verdict
from token_rotator.service import serve_token
from token_rotator.service.ports import Cause, Due, RefreshReport
from token_rotator.service.serve_token import NotServed, Served, Why


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    return world


def change(world: World, **changes: object) -> Grant:
    grant = replace(world.stored(), **changes)  # type: ignore[arg-type]
    world.grants.items[grant.key] = grant
    return grant


def test_a_fresh_token_costs_one_read(world: World) -> None:
    world.grants.reads = 0
    served = world.serve()
    assert isinstance(served, Served)
    assert world.grants.reads == 1
    assert world.grants.writes == 1  # the adoption
    stored = world.stored()
    assert served.access_token.reveal() == "access-anna-1"
    assert served.version == stored.version
    assert served.stable_until == stored.refresh_at - world.budgets.guard
    assert served.stable_for == served.stable_until - world.clock()
    assert served.expires_in == timedelta(hours=12)
    assert not served.degraded
    assert world.reports == []


def test_a_due_token_is_refreshed_for_the_reader(world: World) -> None:
    world.due_now()
    served = world.serve()
    assert isinstance(served, Served)
    assert world.wise.lives(served.access_token.reveal())
    assert [report.outcome for report in world.reports] == ["refreshed"]


def test_a_reader_in_the_gap_waits_for_the_instant_and_gets_the_new_token(world: World) -> None:
    grant = world.due_now()
    world.clock.now = grant.refresh_at - timedelta(seconds=3)
    served = world.serve()
    assert isinstance(served, Served)
    assert served.version == grant.version + 1
    assert world.clock.slept[0] == timedelta(seconds=3)


def test_readers_who_waited_for_one_instant_do_not_ask_at_one(world: World) -> None:
    grant = world.due_now()
    world.clock.now = grant.refresh_at - timedelta(seconds=3)
    world.chance = 0.5
    assert isinstance(world.serve(), Served)
    assert world.clock.slept == [timedelta(seconds=3.25)]


def test_a_reader_waits_for_the_holder_of_the_lease(world: World) -> None:
    world.due_now()
    before = world.stored()
    change(world, attempt_id="other", lease_until=world.clock() + world.budgets.lease)
    naps: list[int] = []

    def commit_on_the_third_nap() -> None:
        naps.append(1)
        if len(naps) == 3:
            world.grants.items[before.key] = replace(
                before, version=before.version + 1, refresh_at=world.clock() + timedelta(hours=1)
            )

    world.clock.on_sleep = commit_on_the_third_nap
    served = world.serve()
    assert isinstance(served, Served)
    assert served.version == before.version + 1
    assert len(naps) == 3


def test_a_reader_is_told_when_the_lease_of_a_dead_worker_is_over(world: World) -> None:
    world.due_now()
    began = world.clock()
    change(world, attempt_id="dead", lease_until=began + world.budgets.lease)
    answer = world.serve()
    assert isinstance(answer, NotServed)
    assert answer.why is Why.UNAVAILABLE
    waited = world.clock() - began
    assert waited <= world.budgets.attempt + world.budgets.margin + timedelta(seconds=1)
    assert answer.retry_after is not None
    world.clock.advance(seconds=answer.retry_after.total_seconds() + 0.001)
    again = world.serve()
    assert isinstance(again, Served)
    assert world.wise.lives(again.access_token.reveal())
    assert world.clock() - began < timedelta(seconds=45)


def test_a_reader_near_the_end_of_a_dead_lease_waits_it_out(world: World) -> None:
    world.due_now()
    change(world, attempt_id="dead", lease_until=world.clock() + timedelta(seconds=2))
    served = world.serve()
    assert isinstance(served, Served)
    assert world.stored().in_doubt is None


def test_a_reader_whose_clock_is_ahead_asks_once_more(world: World) -> None:
    """It is due by the reader's clock, and not yet by the refresher's."""
    grant = world.due_now()
    refresh = world.refresh

    def behind(key: GrantKey, cause: Cause) -> RefreshReport:
        if world.clock() < grant.refresh_at + world.budgets.skew:
            world.reports.append(RefreshReport("fresh", grant.version))
            return world.reports[-1]
        return refresh(key, cause)

    world.refresh = behind  # type: ignore[method-assign]
    served = world.serve()
    assert isinstance(served, Served)
    assert served.version == grant.version + 1
    assert [report.outcome for report in world.reports] == ["fresh", "refreshed"]


def test_a_reader_asks_no_more_where_that_changes_nothing(world: World) -> None:
    grant = world.due_now()
    world.refresh = lambda *_: RefreshReport("fresh", grant.version)  # type: ignore[method-assign]
    assert world.serve() == NotServed(Why.UNAVAILABLE, timedelta(seconds=2))
    assert world.clock.slept == [world.budgets.skew]


def test_nobody_is_handed_a_token_that_may_be_dead(world: World) -> None:
    world.due_now()
    world.wise.script = ["lose"]
    world.wise.asks = [Liveness.NO_ANSWER]
    answer = world.serve()
    assert isinstance(answer, NotServed)
    assert answer.why is Why.UNAVAILABLE
    assert answer.retry_after is not None


def test_a_failed_refresh_leaves_a_good_token_served_as_degraded(world: World) -> None:
    world.due_now()
    world.wise.script = [NotSent(reason="not-connected")]
    served = world.serve()
    assert isinstance(served, Served)
    assert served.degraded
    assert served.stable_until == world.stored().refresh_at - world.budgets.guard


def test_an_expired_token_is_never_served_even_if_nothing_can_be_refreshed(world: World) -> None:
    world.clock.advance(hours=13)
    world.wise.script = [NotSent(reason="not-connected")]
    answer = world.serve()
    assert isinstance(answer, NotServed)
    assert answer.why is Why.UNAVAILABLE
    assert answer.retry_after is not None
    assert answer.retry_after >= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("phase", "why"),
    [(Phase.SUSPENDED, Why.SUSPENDED), (Phase.REAUTHORIZATION_REQUIRED, Why.REAUTHORIZATION_REQUIRED)],
)
def test_a_grant_that_is_not_active_is_not_served(world: World, phase: Phase, why: Why) -> None:
    change(world, phase=phase)
    assert world.serve() == NotServed(why)


def test_a_missing_grant_is_absent(world: World) -> None:
    assert world.serve("bob") == NotServed(Why.ABSENT)


def test_a_user_who_revoked_is_told_about_in_the_same_call(world: World) -> None:
    world.due_now()
    world.wise.users["anna"].alive = False
    assert world.serve() == NotServed(Why.REAUTHORIZATION_REQUIRED)


def test_an_unreachable_refresher_is_tried_once_and_told(world: World) -> None:
    world.due_now()
    world.grants.failures = ["ok"]
    calls: list[int] = []

    class Unreachable:
        def refresh(self, *_: object) -> RefreshReport:
            calls.append(1)
            return RefreshReport("failed")

    answer = replace(world.serve_token, refresher=Unreachable())(world.key())
    assert isinstance(answer, NotServed)
    assert answer.retry_after == timedelta(seconds=2)
    assert len(calls) == 1


def test_a_clock_that_is_ahead_does_not_loop(world: World) -> None:
    world.due_now()

    class Slow:
        def refresh(self, *_: object) -> RefreshReport:
            return RefreshReport("fresh", 1)

    answer = replace(world.serve_token, refresher=Slow())(world.key())
    assert isinstance(answer, NotServed)


def test_no_refresh_is_started_that_would_outlast_the_reader(world: World) -> None:
    world.due_now()

    class Slow:
        def refresh(self, *_: object) -> RefreshReport:
            world.clock.advance(seconds=10)
            change(world, version=world.stored().version + 1)
            return RefreshReport("held")

    answer = replace(world.serve_token, refresher=Slow())(world.key())
    assert isinstance(answer, NotServed)
    assert world.clock() - world.stored().refresh_at <= world.budgets.serve


# --- reports


def test_a_report_of_an_older_version_gets_the_current_token_at_once(world: World) -> None:
    served = world.serve(rejected=world.stored().version - 1)
    assert isinstance(served, Served)
    assert world.wise.asked == []


def test_a_report_of_a_version_that_never_was_is_refused(world: World) -> None:
    assert world.serve(rejected=world.stored().version + 1) == NotServed(Why.UNKNOWN_VERSION)


def test_a_wrong_report_gets_the_same_token_confirmed(world: World) -> None:
    world.clock.advance(minutes=10)
    version = world.stored().version
    served = world.serve(rejected=version)
    assert isinstance(served, Served)
    assert served.confirmed
    assert served.version == version
    assert world.wise.refreshes == []


def test_many_reports_of_a_dead_token_cause_one_refresh(world: World) -> None:
    world.clock.advance(minutes=10)
    version = world.stored().version
    world.wise.users["anna"].access_token = "access-anna-5"
    answers = [world.serve(rejected=version) for _ in range(5)]
    assert all(isinstance(answer, Served) and answer.version == version + 1 for answer in answers)
    assert len(world.wise.refreshes) == 1
    assert len(world.wise.asked) == 1


def test_a_report_of_a_newborn_token_is_not_asked_about(world: World) -> None:
    world.clock.advance(seconds=30)
    served = world.serve(rejected=world.stored().version)
    assert isinstance(served, Served)
    assert not served.confirmed
    assert world.wise.asked == []


def test_a_report_that_wise_does_not_answer_is_not_served_the_reported_token(world: World) -> None:
    world.clock.advance(minutes=10)
    world.wise.asks = [Liveness.NO_ANSWER]
    answer = world.serve(rejected=world.stored().version)
    assert isinstance(answer, NotServed)
    assert answer.why is Why.UNAVAILABLE
    assert isinstance(world.serve(), Served)


def test_a_reading_that_promises_without_a_token_is_not_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    change(world, access_token=None)
    reading = Reading(Verdict.SERVE, world.clock() + timedelta(hours=1))
    monkeypatch.setattr(serve_token, "read", lambda *_: reading)
    answer = world.serve()
    assert isinstance(answer, NotServed)


def test_twenty_readers_of_a_due_grant_cause_one_refresh(world: World) -> None:
    world.due_now()
    answers = [world.serve() for _ in range(20)]
    assert len({answer.version for answer in answers if isinstance(answer, Served)}) == 1
    assert len(world.wise.refreshes) == 1
    assert len(answers) == 20
    assert world.refresh(world.key(), Due()).outcome == "fresh"


def test_a_token_that_took_too_long_to_open_is_not_handed_out(world: World) -> None:
    grant = world.stored()
    world.clock.now = grant.refresh_at - world.budgets.guard - timedelta(milliseconds=50)
    plain = world.sealer.open_access_token
    world.sealer.open_access_token = lambda *a: (world.clock.advance(seconds=4.2), plain(*a))[1]  # type: ignore[method-assign]
    served = world.serve()
    assert isinstance(served, Served)
    assert served.version == grant.version + 1
    assert world.wise.lives(served.access_token.reveal())
    assert served.stable_for == served.stable_until - world.clock()


def test_a_second_reporter_asks_again_when_the_first_ones_lease_is_over(world: World) -> None:
    world.clock.advance(minutes=10)
    version = world.stored().version
    outcomes = ["held", "confirmed"]

    class Busy:
        def refresh(self, *_: object) -> RefreshReport:
            return RefreshReport(outcomes.pop(0), version, timedelta(seconds=22))

    served = replace(world.serve_token, refresher=Busy())(world.key(), version)
    assert isinstance(served, Served)
    assert served.confirmed


def test_a_reporter_who_always_meets_a_lease_is_told_to_come_again_soon(world: World) -> None:
    world.clock.advance(minutes=10)
    version = world.stored().version
    calls: list[int] = []

    class Busy:
        def refresh(self, *_: object) -> RefreshReport:
            calls.append(1)
            return RefreshReport("held", version, timedelta(seconds=22))

    answer = replace(world.serve_token, refresher=Busy())(world.key(), version)
    assert isinstance(answer, NotServed)
    assert answer.retry_after == timedelta(seconds=2)
    assert len(calls) == 2
