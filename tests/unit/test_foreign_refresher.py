"""Somebody else refreshes one of our grants: it is noticed where a token dies before its time, and told once a day."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from tests.fakes.wise import QUESTION
from token_rotator.domain.grant import Alert, AlertKind, Grant, incident_of
from token_rotator.domain.outcome import Liveness, ServerFault, Throttled
from token_rotator.domain.policy import FOREIGN_AGAIN
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.journal import ForeignRefresh
from token_rotator.service.ports import Due, Rejected
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import Served


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    world.clock.advance(hours=1)
    return world


def refreshed_elsewhere(world: World) -> None:
    assert world.wise.carry_out(world.wise.users["anna"].refresh_token) is not None


def reported(world: World) -> Served:
    served = world.serve(rejected=world.stored().version)
    assert isinstance(served, Served)
    assert world.wise.lives(served.access_token.reveal())
    return served


def told(world: World) -> list[AlertKind]:
    """What on-call was told of it, once the sweep had its turn."""
    world.sweep(2)
    return [alert.kind for alert in world.alerts.published if alert.kind is AlertKind.FOREIGN_REFRESHER]


def noticed(world: World) -> int:
    return len(world.journal.of(ForeignRefresh))


def test_a_token_that_died_before_its_time_while_its_refresh_token_lives_was_replaced_by_somebody_else(
    world: World,
) -> None:
    version = world.stored().version
    refreshed_elsewhere(world)
    assert reported(world).version == version + 1
    assert told(world) == [AlertKind.FOREIGN_REFRESHER]
    (alert,) = world.alerts.published
    assert (alert.reason, alert.attempt_id) == ("dead_before_its_time", "attempt-1")
    assert alert.trace_id == QUESTION
    assert (noticed(world), world.stored().foreign_at is not None) == (1, True)


def test_the_alert_is_written_with_the_commit(world: World) -> None:
    refreshed_elsewhere(world)
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.REFRESHED
    alert = world.stored().alert
    assert alert is not None
    assert (alert.kind, alert.published_at) == (AlertKind.FOREIGN_REFRESHER, None)
    assert (world.stored().due_at or world.clock()) <= world.clock()


def test_it_is_told_once_a_day_and_counted_each_time(world: World) -> None:
    for expected in (1, 1, 1, 2):
        refreshed_elsewhere(world)
        reported(world)
        assert len(told(world)) == expected
        world.clock.advance(hours=8)
        world.sweep(2)
        world.clock.advance(hours=1)
    first, second = world.alerts.published
    assert first.incident_id != second.incident_id
    assert noticed(world) == 4


def test_it_asks_for_no_end_and_no_reminder(world: World) -> None:
    refreshed_elsewhere(world)
    reported(world)
    assert told(world) == [AlertKind.FOREIGN_REFRESHER]
    for _ in range(8):
        world.clock.advance(hours=6)
        world.sweep(2)
    assert len(world.alerts.published) == 1


# --- what is not it


def test_a_living_token_that_is_reported_is_nobodys_fault(world: World) -> None:
    reported(world)
    assert (told(world), noticed(world)) == ([], 0)


def test_a_refresh_token_that_died_as_well_says_nothing_about_somebody_else(world: World) -> None:
    world.wise.users["anna"].alive = False
    world.serve(rejected=world.stored().version)
    assert (told(world), noticed(world)) == ([], 0)


def test_nor_does_one_whose_grant_came_back_by_its_registration_code() -> None:
    world = World()
    world.registered()
    world.clock.advance(hours=1)
    world.wise.users["anna"].alive = False
    reported(world)
    assert (told(world), noticed(world)) == ([], 0)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.REISSUED]


@pytest.mark.parametrize(
    "changes",
    [{"unproven": True}, {"in_doubt": "attempt-0"}],
    ids=["a token that never was seen alive", "a doubt of our own"],
)
def test_a_token_that_we_may_have_killed_or_never_saw_alive_proves_nothing(
    world: World, changes: dict[str, object]
) -> None:
    """A grant that was reactivated or restored is in doubt, too."""
    world.grants.items[world.key()] = replace(world.stored(), due_at=world.clock(), **changes)  # type: ignore[arg-type]
    refreshed_elsewhere(world)
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.REFRESHED
    assert (told(world), noticed(world)) == ([], 0)


def test_a_token_that_is_due_anyway_proves_nothing(world: World) -> None:
    world.due_now()
    refreshed_elsewhere(world)
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.REFRESHED
    assert (told(world), noticed(world)) == ([], 0)


def test_a_token_that_has_expired_proves_nothing(world: World) -> None:
    ended = replace(world.stored(), expires_at=world.clock(), refresh_at=world.clock() + timedelta(hours=1))
    world.grants.items[world.key()] = ended
    refreshed_elsewhere(world)
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.REFRESHED
    assert (told(world), noticed(world)) == ([], 0)


def test_an_ordinary_refresh_notices_nothing(world: World) -> None:
    world.due_now()
    refreshed_elsewhere(world)
    assert world.attempt(cause=Due()).word is Word.REFRESHED
    assert (told(world), noticed(world)) == ([], 0)


def test_nothing_is_noticed_before_our_own_refresh_went_well(world: World) -> None:
    """Once the token was found dead and could not be replaced, the grant is in doubt."""
    refreshed_elsewhere(world)
    world.wise.script = [Throttled(retry_after=timedelta(seconds=30))]
    world.attempt(cause=Rejected(world.stored().version))
    world.clock.advance(minutes=2)
    world.attempt()
    assert (told(world), noticed(world)) == ([], 0)


# --- not lost on the way


def test_a_second_request_of_the_same_attempt_makes_no_difference(world: World) -> None:
    refreshed_elsewhere(world)
    world.wise.script = [ServerFault(status=500)]
    world.wise.asks = [Liveness.DEAD, Liveness.DEAD]
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.REFRESHED
    assert told(world) == [AlertKind.FOREIGN_REFRESHER]


def test_it_survives_the_parking_queue(world: World) -> None:
    refreshed_elsewhere(world)
    world.wise.after_refresh = lambda: world.grants.failures.extend(["before"] * 60)
    assert world.attempt(cause=Rejected(world.stored().version)).code == "answer-parked"
    world.grants.failures.clear()
    world.clock.advance(minutes=1)
    assert told(world) == [AlertKind.FOREIGN_REFRESHER]
    assert [alert.trace_id for alert in world.alerts.published] == [QUESTION]
    assert noticed(world) == 1


def test_it_survives_an_answer_that_comes_late(world: World) -> None:
    refreshed_elsewhere(world)
    grant = world.stored()
    world.wise.on_refresh = lambda: world.grants.items.update(
        {grant.key: replace(world.stored(), attempt_id="other", lease_until=world.clock() + timedelta(seconds=18))}
    )
    assert world.attempt(cause=Rejected(grant.version)).code == "answer-late"
    stored = world.stored()
    assert stored.alert is not None
    assert (stored.alert.kind, stored.in_doubt) == (AlertKind.FOREIGN_REFRESHER, "attempt-1")
    assert noticed(world) == 1


def test_a_write_whose_answer_was_lost_tells_it_once(world: World) -> None:
    refreshed_elsewhere(world)
    world.wise.after_refresh = lambda: world.grants.failures.append("after")
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.REFRESHED
    assert told(world) == [AlertKind.FOREIGN_REFRESHER]


# --- what else on-call was told about the grant


def with_alert(world: World, kind: AlertKind, **more: object) -> Grant:
    now = world.clock()
    alert = Alert("before", kind, "a reason", now, published_at=now)
    grant = replace(world.stored(), alert=replace(alert, **more))  # type: ignore[arg-type]
    world.grants.items[grant.key] = grant
    return grant


def test_a_grant_that_was_held_is_told_to_be_well_by_the_same_message(world: World) -> None:
    with_alert(world, AlertKind.HELD)
    refreshed_elsewhere(world)
    reported(world)
    told(world)
    assert [(alert.kind, alert.ends) for alert in world.alerts.published] == [
        (AlertKind.FOREIGN_REFRESHER, ("before",))
    ]


def test_what_was_not_told_yet_is_named(world: World) -> None:
    with_alert(world, AlertKind.REISSUED, published_at=None, ends=("earlier",))
    refreshed_elsewhere(world)
    world.attempt(cause=Rejected(world.stored().version))
    alert = world.stored().alert
    assert alert is not None
    assert alert.ends == ("earlier", "before")


def test_a_refresh_token_that_ends_soon_is_told_again(world: World) -> None:
    ends = world.clock() + timedelta(days=5)
    grant = replace(world.stored(), refresh_expires_at=ends, expiry_told=ends - timedelta(days=7))
    world.grants.items[grant.key] = grant
    with_alert(world, AlertKind.REFRESH_TOKEN_EXPIRING)
    refreshed_elsewhere(world)
    world.attempt(cause=Rejected(grant.version))
    for _ in range(3):
        world.sweep(2)
    kinds = [alert.kind for alert in world.alerts.published]
    assert kinds == [AlertKind.FOREIGN_REFRESHER, AlertKind.REFRESH_TOKEN_EXPIRING]


def test_within_a_day_what_stands_about_the_grant_is_left_alone(world: World) -> None:
    grant = with_alert(world, AlertKind.REFRESH_TOKEN_EXPIRING)
    world.grants.items[grant.key] = replace(grant, foreign_at=world.clock() - FOREIGN_AGAIN + timedelta(minutes=1))
    refreshed_elsewhere(world)
    world.attempt(cause=Rejected(grant.version))
    assert world.stored().alert == grant.alert
    assert noticed(world) == 1


def test_an_incident_is_named_by_the_version_that_it_led_to(world: World) -> None:
    refreshed_elsewhere(world)
    world.attempt(cause=Rejected(world.stored().version))
    alert = world.stored().alert
    assert alert is not None
    assert alert.incident_id == incident_of(world.stored(), AlertKind.FOREIGN_REFRESHER)


def test_it_is_told_once_a_day_though_newer_tokens_are_brought(world: World) -> None:
    for _ in range(3):
        refreshed_elsewhere(world)
        reported(world)
        world.sweep(2)
        user, now = world.wise.users["anna"], world.clock()
        offer = Offer(
            refresh_token=Secret(user.refresh_token),
            access_token=Secret(user.access_token),
            issued_at=now,
            expires_at=user.expires_at,
        )
        assert isinstance(world.adopt_grant(world.key(), offer, world.stored().version), Kept)
        world.clock.advance(hours=1)
        reported(world)  # it lives
    assert noticed(world) == 3
    assert len(told(world)) == 1
