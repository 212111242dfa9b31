"""Alerts from their beginning to their end, with the topic and the store failing at every point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.grant import APPLICATION, Alert, AlertKind, Grant, GrantKey
from token_rotator.domain.outcome import ClientAccepted, GrantInvalid, Liveness, WeAreWrong
from token_rotator.domain.policy import WARN_AHEAD
from token_rotator.domain.suspension import Suspension
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.ports import Done, Due, Refused

DAY = timedelta(days=1)
ENDS = timedelta(days=40)


class Killed(BaseException):
    """The process that published is gone."""


# --- what may happen to a grant, told in the order of its messages


def dead(world: World) -> list[AlertKind]:
    world.adopted()
    die(world)
    world.clock.advance(seconds=120)
    sweep(world)
    return [AlertKind.REAUTHORIZATION_REQUIRED]


def reminded(world: World) -> list[AlertKind]:
    dead(world)
    pass_days(world, 1.2)
    return [AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.REAUTHORIZATION_REQUIRED]


def linked_again(world: World) -> list[AlertKind]:
    dead(world)
    adopt_over(world)
    pass_days(world, 0.3)
    return [AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.RECOVERED]


def reissued(world: World) -> list[AlertKind]:
    world.registered()
    die(world)
    pass_days(world, 0.3)
    return [AlertKind.REISSUED]


def reclaimed(world: World) -> list[AlertKind]:
    world.registered()
    world.wise.reclaim("anna")
    die(world)
    pass_days(world, 0.3)
    return [AlertKind.REAUTHORIZATION_REQUIRED]


def held_and_well(world: World) -> list[AlertKind]:
    world.adopted()
    world.due_now()
    world.wise.script = [WeAreWrong(status=400)]
    world.wise.checks = [ClientAccepted(changed=False, status=200)]
    sweep(world)
    pass_days(world, 0.2)
    return [AlertKind.HELD, AlertKind.RECOVERED]


def refused_for(world: World, days: float) -> None:
    """Let Wise refuse this grant, and accept our client, as often as it is tried."""
    world.wise.script = [WeAreWrong(status=400)] * 600
    world.wise.checks = [ClientAccepted(changed=False, status=200)] * 600
    world.due_now()
    sweep(world)
    pass_days(world, days)
    world.wise.script, world.wise.checks = [], []


def held_for_long(world: World) -> list[AlertKind]:
    world.adopted()
    refused_for(world, 1.2)
    pass_days(world, 0.1)
    return [AlertKind.HELD, AlertKind.HELD, AlertKind.RECOVERED]


def expiring(world: World) -> list[AlertKind]:
    world.adopted(refresh_expires_at=world.clock() + ENDS)
    world.wise.users["anna"].refresh_expires_at = world.clock() + ENDS
    pass_days(world, 39.5)
    return [AlertKind.REFRESH_TOKEN_EXPIRING] * 3


def expiring_and_linked(world: World) -> list[AlertKind]:
    expiring(world)
    adopt_over(world)
    pass_days(world, 0.2)
    return [*[AlertKind.REFRESH_TOKEN_EXPIRING] * 3, AlertKind.RECOVERED]


STORIES = [
    dead,
    reminded,
    linked_again,
    reissued,
    reclaimed,
    held_and_well,
    held_for_long,
    expiring,
    expiring_and_linked,
]
Story = Callable[[World], list[AlertKind]]


def sweep(world: World) -> None:
    try:
        world.sweep(3)
    except Killed:
        world.clock.advance(seconds=2)


def pass_days(world: World, days: float) -> None:
    """Let sweeps look whenever there is something to find."""
    end = world.clock() + timedelta(days=days)
    for _ in range(600):
        due = world.stored().due_at
        fleet = [alert.claimed_until for alert in [world.fleet.fleet.dying] if alert is not None and not told(alert)]
        moments = [moment for moment in (due, *fleet) if moment is not None and moment < end]
        if not moments:
            break
        world.clock.now = max(world.clock.now, min(moments))
        sweep(world)
    world.clock.now = max(world.clock.now, end)


def told(alert: Alert) -> bool:
    return alert.published_at is not None


def die(world: World) -> None:
    world.due_now()
    world.wise.users["anna"].refresh_token = "refresh-anna-77"
    sweep(world)


def adopt_over(world: World) -> None:
    access, refresh = world.wise.add("anna")
    offer = Offer(
        refresh_token=refresh,
        access_token=access,
        issued_at=world.clock(),
        expires_at=world.clock() + timedelta(hours=12),
        refresh_expires_at=world.clock() + timedelta(days=4000),
    )
    assert isinstance(world.adopt_grant(world.key(), offer, world.stored().version), Kept)


# --- what was promised


def messages(world: World) -> list[tuple[str, AlertKind, bool]]:
    return [(alert.incident_id, alert.kind, alert.reminder) for alert in world.alerts.published]


def watched(world: World) -> set[str]:
    """The incidents that are ever written down, as they come."""
    plain, raised = world.grants._write, set[str]()

    def write(key: GrantKey, grant: Grant, *, ok: bool) -> Done | Refused:
        answer = plain(key, grant, ok=ok)
        alert = world.stored().alert
        if alert is not None:
            raised.add(alert.incident_id)
        return answer

    world.grants._write = write  # type: ignore[method-assign]
    return raised


def named(world: World) -> set[str]:
    """The incidents that people have heard of."""
    told = world.alerts.published
    return {alert.incident_id for alert in told} | {ended for alert in told for ended in alert.ends}


def first_copies(world: World) -> list[AlertKind]:
    return [kind for _, kind, _ in dict.fromkeys(messages(world))]


@pytest.mark.parametrize("story", STORIES)
def test_each_message_is_told_once_where_nothing_fails(story: Story) -> None:
    world = World()
    expected = story(world)
    assert [kind for _, kind, _ in messages(world)] == expected
    assert len(set(messages(world))) == len(messages(world))


@pytest.mark.parametrize("fault", ["refuse", "drop", "lose"])
@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("story", STORIES)
def test_whichever_publish_fails_nothing_is_lost(story: Story, at: int, fault: str) -> None:
    world = World()
    world.alerts.script = ["ok"] * at + [fault]
    expected = story(world)
    sweep(world)
    assert first_copies(world) == expected
    copies = Counter(messages(world))
    assert sum(copies.values()) - len(copies) == (1 if fault == "lose" and not world.alerts.script else 0)


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("fault", ["refuse", "drop"])
@pytest.mark.parametrize("story", STORIES)
def test_a_topic_that_fails_for_long_is_asked_until_it_takes_the_message(story: Story, fault: str, times: int) -> None:
    world = World()
    raised = watched(world)
    world.alerts.script = [fault] * times
    story(world)
    pass_days(world, 0.02)
    assert raised
    assert raised == named(world)
    alert = world.stored().alert
    assert alert is not None
    assert told(alert)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("story", STORIES)
def test_whoever_is_killed_while_publishing_loses_nothing(story: Story, at: int, when: str) -> None:
    world = World()
    plain, calls = world.alerts.publish, [0]

    def publish(key: object, alert: Alert) -> None:
        calls[0] += 1
        if calls[0] == at + 1 and when == "before":
            raise Killed
        plain(key, alert)  # type: ignore[arg-type]
        if calls[0] == at + 1:
            raise Killed

    world.alerts.publish = publish  # type: ignore[assignment, method-assign]
    expected = story(world)
    pass_days(world, 0.02)
    assert first_copies(world) == expected
    copies = Counter(messages(world))
    assert sum(copies.values()) - len(copies) == (1 if when == "after" and calls[0] > at else 0)


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("at", range(14))
@pytest.mark.parametrize("story", STORIES)
def test_whichever_call_of_the_store_fails_nothing_is_lost(story: Story, at: int, failure: str) -> None:
    world = World()
    calls, adopted = [-1], [False]
    plain = world.grants._begin

    def begin() -> str:
        if world.grants.items:
            calls[0] += adopted[0]
            adopted[0] = True
        hit = calls[0] == at and not adopting[0]
        world.grants.failures = [failure] if hit else []
        return plain()

    adopting = [False]
    adopt = world.adopt_grant

    def adopt_grant(*arguments: object) -> object:
        adopting[0] = True
        try:
            return adopt(*arguments)  # type: ignore[arg-type]
        finally:
            adopting[0] = False

    world.adopt_grant = adopt_grant  # type: ignore[assignment]
    world.grants._begin = begin  # type: ignore[method-assign]
    raised = watched(world)
    story(world)
    pass_days(world, 0.02)
    assert raised == named(world)
    alert = world.stored().alert
    assert alert is None or told(alert)


# --- incidents that overtake each other


def test_what_was_not_told_is_named_by_what_takes_its_place() -> None:
    world = World()
    world.alerts.script = ["refuse"] * 3
    world.adopted()
    die(world)
    first = world.stored().alert
    assert first is not None
    adopt_over(world)
    die(world)
    second = world.stored().alert
    assert second is not None
    assert (second.kind, second.ends) == (AlertKind.REAUTHORIZATION_REQUIRED, (first.incident_id,))
    pass_days(world, 0.1)
    (alert,) = world.alerts.published
    assert alert.ends == (first.incident_id,)
    adopt_over(world)
    pass_days(world, 0.1)
    over = world.alerts.published[1]
    assert (over.kind, over.incident_id, over.ends) == (AlertKind.RECOVERED, second.incident_id, ())


def test_what_was_told_and_is_over_is_named_by_what_comes_before_that_was_told() -> None:
    world = World()
    world.adopted()
    die(world)
    first = world.alerts.published[0].incident_id
    adopt_over(world)
    world.due_now()
    world.wise.users["anna"].alive = False
    world.attempt()  # before any sweep could tell that the first one is over
    assert world.alerts.published[-1].ends == (first,)
    adopt_over(world)
    adopt_over(world)
    pass_days(world, 0.1)
    assert [alert.kind for alert in world.alerts.published].count(AlertKind.RECOVERED) == 1


def test_a_late_answer_that_takes_a_verdict_back_tells_so() -> None:
    world = World()
    world.adopted()
    world.due_now()

    def judged() -> None:
        world.wise.after_refresh = lambda: None
        stored = world.stored()
        world.grants.items[stored.key] = replace(stored, attempt_id=None, lease_until=None)
        world.wise.script = [GrantInvalid(status=400, error="invalid_grant")]
        world.attempt()

    world.wise.after_refresh = judged
    world.attempt()
    pass_days(world, 0.01)
    assert [alert.kind for alert in world.alerts.published] == [
        AlertKind.REAUTHORIZATION_REQUIRED,
        AlertKind.RECOVERED,
    ]
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


# --- reminders and warnings


def test_a_reminder_comes_once_and_says_that_it_is_one() -> None:
    world = World()
    dead(world)
    pass_days(world, 30)
    assert len(world.alerts.published) == 2
    first, second = world.alerts.published
    assert (first.incident_id, first.reminder, second.reminder) == (second.incident_id, False, True)
    assert first.published_at is None
    assert world.stored().due_at is None


def test_a_held_grant_is_told_once_more_after_a_day_and_then_left_alone() -> None:
    world = World()
    world.adopted()
    refused_for(world, 5)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD, AlertKind.HELD]
    first, second = world.alerts.published
    assert (first.incident_id, first.reminder, second.reminder) == (second.incident_id, False, True)
    assert first.trace_id == second.trace_id
    stored = world.stored()
    assert stored.alert is not None
    assert stored.alert.published_at is not None
    assert timedelta(0) <= stored.alert.published_at - first.raised_at - DAY < timedelta(minutes=1)
    assert stored.due_at == stored.refresh_at


def test_no_reminder_of_a_hold_comes_where_it_is_over() -> None:
    world = World()
    held_and_well(world)
    pass_days(world, 3)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD, AlertKind.RECOVERED]


def test_a_grant_that_is_held_while_in_doubt_is_told_once_more() -> None:
    world = World()
    world.adopted()
    world.due_now()
    world.wise.script, world.wise.asks = ["lose"], [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(seconds=30)
    refused_for(world, 1.2)
    assert world.stored().in_doubt is not None
    assert [(alert.kind, alert.reminder) for alert in world.alerts.published] == [
        (AlertKind.HELD, False),
        (AlertKind.HELD, True),
    ]


def test_our_applications_own_token_that_is_held_is_told_once_more() -> None:
    world = World()
    world.wise.application_script = [WeAreWrong(status=400)] * 600
    world.wise.checks = [ClientAccepted(changed=False, status=200)] * 600
    world.refresh_grant(APPLICATION, Due(), alone=True)
    for _ in range(200):
        due = world.grants.items[APPLICATION].due_at
        assert due is not None
        world.clock.now = max(world.clock(), due)
        sweep(world)
    assert [(alert.kind, alert.reminder) for alert in world.alerts.published] == [
        (AlertKind.HELD, False),
        (AlertKind.HELD, True),
    ]


def test_a_held_grant_on_hold_is_told_once_more_without_a_refresh() -> None:
    world = World()
    world.adopted()
    world.wise.script = [WeAreWrong(status=400)]
    world.wise.checks = [ClientAccepted(changed=False, status=200)]
    world.due_now()
    sweep(world)
    world.hold_grant(world.key(), Suspension(world.clock(), "operations"))
    sent = len(world.wise.refreshes)
    pass_days(world, 3)
    assert [alert.reminder for alert in world.alerts.published] == [False, True]
    assert (len(world.wise.refreshes), world.stored().due_at) == (sent, None)


def test_a_suspended_grant_is_told_once_more_when_it_is_lifted() -> None:
    world = World()
    world.adopted()
    refused_for(world, 0.5)
    world.suspend_grant(world.key(), Suspension(world.clock(), "operations"))
    pass_days(world, 3)
    assert len(world.alerts.published) == 1
    world.suspend_grant.lift(world.key())
    refused_for(world, 0.1)
    assert [alert.reminder for alert in world.alerts.published] == [False, True]


def test_a_reminder_that_was_not_taken_stays_one_though_wise_refuses_again() -> None:
    world = World()
    world.adopted()
    refused_for(world, 0.9)
    world.alerts.script = ["refuse"] * 3
    refused_for(world, 1)
    assert [(alert.kind, alert.reminder) for alert in world.alerts.published] == [
        (AlertKind.HELD, False),
        (AlertKind.HELD, True),
    ]


def test_whoever_refuses_a_held_grant_leaves_the_reminder_to_the_sweep() -> None:
    world = World()
    grant = world.adopted()
    alert = Alert("incident", AlertKind.HELD, "we_are_wrong", world.clock(), reminder=True)
    world.grants.items[grant.key] = replace(grant, alert=alert)
    world.due_now()
    world.wise.script = [WeAreWrong(status=400)]
    world.wise.checks = [ClientAccepted(changed=False, status=200)]
    world.attempt()
    assert world.stored().alert == alert
    assert world.alerts.published == []
    sweep(world)
    assert [told.reminder for told in world.alerts.published] == [True]


def test_no_reminder_comes_where_it_is_over() -> None:
    world = World()
    linked_again(world)
    pass_days(world, 5)
    assert [alert.kind for alert in world.alerts.published] == [
        AlertKind.REAUTHORIZATION_REQUIRED,
        AlertKind.RECOVERED,
    ]


def test_warnings_come_at_wises_own_dates() -> None:
    world = World()
    adopted_at = world.clock()
    expiring(world)
    alerts = world.alerts.published
    assert [alert.reason for alert in alerts] == ["30-days", "7-days", "1-day"]
    for alert, ahead in zip(alerts, WARN_AHEAD, strict=True):
        assert timedelta(0) <= alert.raised_at - (adopted_at + ENDS - ahead) < timedelta(minutes=1)
    assert len({alert.incident_id for alert in alerts}) == 3
    assert [alert.attempt_id for alert in alerts] == [None] * 3


def test_no_warning_comes_without_a_date() -> None:
    world = World()
    world.adopted()
    pass_days(world, 60)
    assert world.alerts.published == []


def test_a_date_that_moves_away_ends_a_warning() -> None:
    world = World()
    world.adopted(refresh_expires_at=world.clock() + 5 * DAY)
    world.wise.users["anna"].refresh_expires_at = world.clock() + 400 * DAY
    pass_days(world, 1)
    assert [alert.kind for alert in world.alerts.published] == [
        AlertKind.REFRESH_TOKEN_EXPIRING,
        AlertKind.RECOVERED,
    ]
    assert world.alerts.published[0].reason == "7-days"


def test_a_date_that_wise_writes_by_seconds_differently_is_not_told_again() -> None:
    world = World()
    ends = world.clock() + 5 * DAY
    world.adopted(refresh_expires_at=ends)
    for seconds in (1, 2, 3):
        world.wise.users["anna"].refresh_expires_at = ends + timedelta(seconds=seconds)
        pass_days(world, 0.3)
    assert [alert.reason for alert in world.alerts.published] == ["7-days"]


def test_a_warning_waits_for_what_is_worse() -> None:
    world = World()
    ends = world.clock() + 7 * DAY + timedelta(hours=6, minutes=20)
    world.adopted(refresh_expires_at=ends)
    world.sweep(3)
    world.alerts.published.clear()
    world.due_now()
    world.wise.script = [WeAreWrong(status=400)] * 8
    world.wise.checks = [ClientAccepted(changed=False, status=200)] * 8
    sweep(world)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]
    pass_days(world, 0.3)
    assert [alert.kind for alert in world.alerts.published] == [
        AlertKind.HELD,
        AlertKind.RECOVERED,
        AlertKind.REFRESH_TOKEN_EXPIRING,
    ]


def test_two_who_warn_warn_once() -> None:
    world = World()
    grant: Grant = world.adopted(refresh_expires_at=world.clock() + 5 * DAY)
    world.tell.warn(grant)
    world.tell.warn(grant)
    assert len(world.alerts.published) == 1
    world.tell.warn(world.stored())
    assert len(world.alerts.published) == 1


def test_two_who_remind_remind_once() -> None:
    world = World()
    dead(world)
    world.clock.advance(days=2)
    grant = world.stored()
    world.tell.remind(grant)
    world.tell.remind(grant)
    world.tell.remind(replace(grant, alert=None))
    assert len(world.alerts.published) == 2


# --- many at once


def die_together(world: World, count: int, seconds: float = 1) -> None:
    names = [f"user-{number}" for number in range(len(world.grants.items), len(world.grants.items) + count)]
    for name in names:
        world.adopted(name)
    world.clock.advance(hours=8)
    for name in names:
        world.wise.users[name].alive = False
        world.attempt(name)
        world.clock.advance(seconds=seconds)


def fleet_told(world: World) -> list[Alert]:
    return [alert for alert, key in zip(world.alerts.published, world.alerts.keys, strict=True) if key is None]


def minutes(world: World, count: int) -> None:
    for _ in range(count * 6):
        world.clock.advance(seconds=10)
        world.breaker.tend()


def test_a_hundred_deaths_within_minutes_raise_one_alert_beside_their_own() -> None:
    world = World()
    die_together(world, 120)
    (alert,) = fleet_told(world)
    assert (alert.kind, alert.reason) == (AlertKind.MANY_GRANTS_DYING, "100-grants")
    assert alert.attempt_id is not None
    assert len(world.alerts.published) == 121
    minutes(world, 15)
    assert [(told.kind, told.incident_id == alert.incident_id) for told in fleet_told(world)] == [
        (AlertKind.MANY_GRANTS_DYING, True),
        (AlertKind.RECOVERED, True),
    ]
    minutes(world, 15)
    assert len(fleet_told(world)) == 2


def test_ninety_nine_or_a_slow_hundred_are_daily_life() -> None:
    world = World()
    die_together(world, 99)
    world.clock.advance(minutes=20)
    die_together(world, 99, seconds=7)
    assert fleet_told(world) == []


def test_deaths_that_go_on_are_one_incident() -> None:
    world = World()
    world.breaker = world.new_breaker()
    die_together(world, 100)
    for _ in range(5):
        minutes(world, 5)
        die_again(world, 100)
    assert len(fleet_told(world)) == 1


def die_again(world: World, count: int) -> None:
    for _ in range(count):
        world.breaker.died("attempt", None)


def test_deaths_after_the_end_are_another_incident() -> None:
    world = World()
    die_again(world, 100)
    minutes(world, 15)
    die_again(world, 100)
    assert [alert.kind for alert in fleet_told(world)] == [
        AlertKind.MANY_GRANTS_DYING,
        AlertKind.RECOVERED,
        AlertKind.MANY_GRANTS_DYING,
    ]
    assert len({alert.incident_id for alert in fleet_told(world)}) == 2


@pytest.mark.parametrize("fault", ["refuse", "drop", "lose"])
@pytest.mark.parametrize("at", range(3))
def test_an_alert_about_many_is_told_whatever_the_topic_does(at: int, fault: str) -> None:
    world = World()
    world.alerts.script = ["ok"] * at + [fault]
    die_again(world, 120)
    minutes(world, 20)
    kinds = [alert.kind for alert in fleet_told(world)]
    assert list(dict.fromkeys(kinds)) == [AlertKind.MANY_GRANTS_DYING, AlertKind.RECOVERED]
    assert len(kinds) == (3 if fault == "lose" and not world.alerts.script else 2)


def test_a_topic_that_is_down_for_long_hears_of_many_and_of_the_end() -> None:
    world = World()
    world.alerts.script = ["refuse"] * 9
    die_again(world, 100)
    minutes(world, 60)
    assert [alert.kind for alert in fleet_told(world)] == [AlertKind.MANY_GRANTS_DYING, AlertKind.RECOVERED]


def test_an_end_that_was_not_told_is_named_by_the_next_incident() -> None:
    world = World()
    die_again(world, 100)
    first = fleet_told(world)[0].incident_id
    world.alerts.script = ["refuse"] * 3
    minutes(world, 11)
    die_again(world, 100)
    minutes(world, 2)
    assert [alert.ends for alert in fleet_told(world)] == [(), (first,)]


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("at", range(5))
def test_an_alert_about_many_is_told_whatever_the_store_does(at: int, failure: str) -> None:
    world = World()
    die_again(world, 99)
    world.fleet.failures = ["ok"] * at + [failure]
    die_again(world, 3)
    minutes(world, 3)
    assert {alert.kind for alert in fleet_told(world)} == {AlertKind.MANY_GRANTS_DYING}


def test_two_processes_that_see_the_hundredth_tell_once() -> None:
    world = World()
    die_again(world, 99)
    other = world.new_breaker()
    rival = [True]

    def race() -> None:
        if rival:
            rival.clear()
            other.died("other", None)

    world.fleet.before_write = race
    world.breaker.died("one", None)
    assert len(fleet_told(world)) == 1


def test_a_fleet_that_others_keep_writing_is_left_to_the_next_death() -> None:
    world = World()
    die_again(world, 99)
    plain, refusals = world.fleet.write, [3]

    def write(before: object, after: object) -> object:
        if refusals[0]:
            refusals[0] -= 1
            return None
        return plain(before, after)  # type: ignore[arg-type]

    world.fleet.write = write  # type: ignore[assignment, method-assign]
    die_again(world, 1)
    assert fleet_told(world) == []
    die_again(world, 1)
    assert len(fleet_told(world)) == 1


def test_people_are_told_of_both_the_breaker_and_the_dead() -> None:
    world = World()
    die_again(world, 100)
    world.wise.valid_secrets = set()
    for name in ("anna", "ben"):
        world.adopted(name)
    for name in ("anna", "ben"):
        world.due_now(name)
    world.attempt("anna")
    world.attempt("ben")
    minutes(world, 30)
    world.wise.valid_secrets = {"secret-1"}
    world.sweep(700)
    minutes(world, 10)
    assert Counter(alert.kind for alert in fleet_told(world)) == {
        AlertKind.MANY_GRANTS_DYING: 1,
        AlertKind.CLIENT_REFUSED: 1,
        AlertKind.RECOVERED: 2,
    }
