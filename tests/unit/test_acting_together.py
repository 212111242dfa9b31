"""What happens at one moment: verdicts, alerts, suspensions, links and reissues in each other's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.fleet import Fleet
from token_rotator.domain.grant import Alert, AlertKind, GrantKey, Phase
from token_rotator.domain.outcome import Liveness, NotSent, ServerFault, Throttled, WeAreWrong
from token_rotator.service.ports import Due, Rejected
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import NotServed, Served

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    return World()


def told(world: World) -> list[AlertKind]:
    return [alert.kind for alert in world.alerts.published]


def untold(world: World, kind: AlertKind = AlertKind.RECOVERED) -> Alert:
    return Alert(incident_id="i" * 32, kind=kind, reason="invalid_grant", raised_at=world.clock())


def publishing(world: World, meanwhile: Callable[[], object]) -> None:
    """Let something happen while the first message is on its way to the topic."""
    publish = world.alerts.publish

    def slowly(key: GrantKey | None, alert: Alert) -> None:
        world.alerts.publish = publish  # type: ignore[method-assign]
        meanwhile()
        publish(key, alert)

    world.alerts.publish = slowly  # type: ignore[method-assign]


def sweep_for(world: World, duration: timedelta) -> None:
    until = world.clock() + duration
    while world.clock() < until:
        world.sweep(55)
        world.clock.advance(seconds=5)


@pytest.mark.parametrize("registered", [False, True])
def test_a_death_that_was_seen_is_not_forgotten_by_a_suspension(world: World, *, registered: bool) -> None:
    """Wise called both tokens dead, and the verdict found the grant suspended: lifted, its token is not served."""
    if registered:
        world.registered()
        world.wise.reclaim("anna")
        world.wise.on_reissue = lambda: world.suspend_grant(world.key(), world.order())
    else:
        world.adopted()
        world.wise.on_refresh = lambda: world.suspend_grant(world.key(), world.order())
    world.clock.advance(minutes=30)
    world.wise.users["anna"].alive = False
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.OVERTAKEN
    world.wise.on_refresh = world.wise.on_reissue = lambda: None
    world.suspend_grant.lift(world.key())
    assert isinstance(world.serve(), NotServed)
    world.sweep(5)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED


def test_marking_an_alert_leaves_the_instants_of_a_doubt_alone(world: World) -> None:
    grant = world.adopted()
    world.clock.advance(minutes=30)
    world.grants.items[grant.key] = replace(grant, alert=untold(world), due_at=world.clock())
    world.wise.users["anna"].alive = False
    world.wise.script = [NotSent(reason="connect")]

    def report() -> None:
        result = world.refresh_grant(grant.key, Rejected(grant.version), alone=True, lane=world.demand_lane)
        assert result.word is Word.IN_DOUBT

    publishing(world, report)
    world.sweep(1)
    stored = world.stored()
    assert stored.alert is not None
    assert stored.alert.published_at is not None
    assert stored.due_at is not None
    assert stored.due_at < world.clock() + timedelta(seconds=15)


def test_an_alert_is_told_once_though_new_tokens_came_while_it_was_told(world: World) -> None:
    grant = world.adopted(refresh_expires_at=world.clock() + timedelta(days=1, hours=2))
    world.clock.advance(hours=2, seconds=1)
    soon = world.clock() + timedelta(seconds=1)
    world.grants.items[grant.key] = replace(grant, refresh_at=soon, due_at=world.clock())

    def refresh() -> None:
        world.clock.advance(seconds=1.5)
        assert isinstance(world.serve(), Served)

    publishing(world, refresh)
    world.refresh_due.advance(grant.key)
    sweep_for(world, timedelta(minutes=2))
    assert told(world) == [AlertKind.REFRESH_TOKEN_EXPIRING]
    assert world.stored().alert is not None


def test_an_alert_that_was_replaced_while_it_was_told_is_left_as_it_is(world: World) -> None:
    grant = world.adopted()
    world.grants.items[grant.key] = replace(grant, alert=untold(world, AlertKind.HELD), due_at=world.clock())
    other = untold(world)

    def replaced() -> None:
        stored = world.stored()
        world.grants.items[grant.key] = replace(stored, alert=replace(other, reason="other"))

    publishing(world, replaced)
    world.refresh_due.advance(grant.key)
    assert world.stored().alert == replace(other, reason="other")


def test_people_hear_of_a_grant_that_stays_in_doubt(world: World) -> None:
    grant = world.adopted()
    world.clock.advance(minutes=30)
    world.grants.items[grant.key] = replace(grant, alert=untold(world), in_doubt="earlier", due_at=world.clock())
    world.wise.asks = [Liveness.NO_ANSWER] * 100
    world.sweep(2)
    assert told(world) == [AlertKind.RECOVERED]
    assert world.stored().in_doubt == "earlier"


def test_an_alert_behind_many_grants_that_are_due_is_told_while_the_breaker_is_open(world: World) -> None:
    names: list[str] = []
    number = 0
    while len(names) < 150:
        number += 1
        if world.key(f"user-{number}").shard == 3:
            names.append(f"user-{number}")
    for name in names:
        world.adopted(name)
    world.clock.advance(hours=8)
    last = world.stored(names[-1])
    alert = untold(world, AlertKind.REAUTHORIZATION_REQUIRED)
    world.grants.items[last.key] = replace(
        last, phase=Phase.REAUTHORIZATION_REQUIRED, alert=alert, due_at=world.clock()
    )
    pause = timedelta(minutes=5)
    world.wise.checks = [Throttled(status=429, retry_after=pause)] * 20
    world.fleet.fleet = Fleet(open_until=world.clock() + pause, why="throttled", since=world.clock())
    sweep_for(world, timedelta(minutes=4))
    assert last.key in world.alerts.keys


@pytest.mark.parametrize("seconds", [1.0, 2.3])
def test_a_slow_refusal_leaves_time_for_a_reissue(world: World, seconds: float) -> None:
    world.registered()
    world.due_now()
    world.wise.users["anna"].alive = False
    world.wise.takes = timedelta(seconds=seconds)
    sweep_for(world, timedelta(minutes=5))
    assert told(world) == [AlertKind.REISSUED]
    assert isinstance(world.serve(), Served)


def killed_after_parking(world: World) -> None:
    """A worker has a reissue carried out, parks its answer and dies."""
    park = world.parking.park

    def and_die(answer: SealedAnswer) -> None:
        park(answer)
        raise SystemExit

    world.parking.park = and_die  # type: ignore[method-assign]
    world.wise.on_reissue = lambda: world.grants.failures.append("before")
    with pytest.raises(SystemExit):
        world.attempt()
    world.parking.park = park  # type: ignore[method-assign]
    world.wise.on_reissue = lambda: None


def test_no_verdict_falls_while_the_answer_of_a_reissue_may_be_parked(world: World) -> None:
    """The access token lives, which says nothing about a reissue."""
    world.registered()
    world.due_now()
    user = world.wise.users["anna"]
    user.lingering[user.access_token] = world.clock() + 5 * HOUR
    user.access_token, user.refresh_token = "access-anna-7", "refresh-anna-7"
    killed_after_parking(world)
    world.wise.reclaim("anna")
    world.clock.advance(seconds=30)
    result = world.refresh_grant(world.key(), Due(), alone=True, lane=world.demand_lane)
    assert result.word is Word.IN_DOUBT
    world.sweep(20)
    assert world.stored().phase is Phase.ACTIVE
    assert AlertKind.REAUTHORIZATION_REQUIRED not in told(world)


def test_a_warning_that_a_held_grant_took_the_place_of_is_told_afterwards(world: World) -> None:
    world.adopted(refresh_expires_at=world.clock() + timedelta(hours=26))
    world.wise.users["anna"].refresh_expires_at = None
    world.clock.advance(hours=2)
    world.sweep(3)
    assert [alert.reason for alert in world.alerts.published] == ["1-day"]
    world.due_now()
    world.wise.script = [WeAreWrong(status=403)]
    world.sweep(2)
    world.clock.advance(minutes=20)
    sweep_for(world, timedelta(minutes=5))
    kinds = [AlertKind.HELD, AlertKind.RECOVERED, AlertKind.REFRESH_TOKEN_EXPIRING]
    assert told(world)[1:] == kinds


def test_an_end_is_not_told_before_its_beginning(world: World) -> None:
    world.adopted(profile_id="9001")
    world.due_now()
    link_id = world.came_back()  # from then on the old refresh token is dead

    def confirmed() -> None:
        world.confirm(link_id)
        world.refresh_due.advance(world.key())
        world.refresh_due.advance(world.key())

    publishing(world, confirmed)
    world.refresh_due.advance(world.key())
    sweep_for(world, timedelta(minutes=2))
    assert told(world)[:2] == [AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.RECOVERED]


def test_a_reissue_without_a_date_keeps_none_of_the_dead_tokens(world: World) -> None:
    world.registered(refresh_expires_at=world.clock() + timedelta(days=60))
    world.due_now()
    world.wise.users["anna"].alive = False
    world.wise.users["anna"].refresh_expires_at = None
    world.sweep(3)
    assert told(world) == [AlertKind.REISSUED]
    assert world.stored().refresh_expires_at is None


def test_a_reissue_that_cannot_be_opened_is_tried_with_the_refresh_token_again(world: World) -> None:
    grant = world.registered()
    world.due_now()
    world.wise.users["anna"].alive = False
    world.wise.takes = timedelta(seconds=2.3)
    world.attempt()
    assert world.stored().last_error == "no-time-to-reissue"
    world.wise.reissue_script = [ServerFault(status=503)]
    world.clock.advance(minutes=1)
    world.attempt()
    assert world.stored().last_error == "server_fault"
    assert world.stored().version == grant.version
