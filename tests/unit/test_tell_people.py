"""Alerts: none is lost, and a second copy exists only where nobody knew about the first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.grant import Grant


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    world.due_now()
    world.wise.users["anna"].alive = False
    return world


def test_an_alert_whose_taking_is_unknown_is_told_again_under_the_same_incident(world: World) -> None:
    world.alerts.script = ["lose"]
    world.attempt()
    world.sweep(60)
    assert len(world.alerts.published) == 2
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


def test_an_alert_is_told_when_the_store_takes_the_mark_only_later(world: World) -> None:
    world.grants.failures = ["ok", "ok", "before", "before", "ok"]
    world.attempt()
    assert world.stored().alert is not None
    assert world.stored().alert.published_at is not None
    world.sweep(60)
    assert len(world.alerts.published) == 1


def test_an_alert_whose_mark_no_store_takes_is_told_again_after_the_claim(world: World) -> None:
    world.grants.failures = ["ok", "ok", "before", "before", "before"]
    world.attempt()
    assert world.stored().alert is not None
    assert world.stored().alert.published_at is None
    world.sweep(20)
    assert len(world.alerts.published) == 1
    world.sweep(60)
    assert len(world.alerts.published) == 2


def test_two_publishers_make_one_copy(world: World) -> None:
    world.alerts.script = ["refuse"]
    world.attempt()
    world.clock.advance(minutes=2)
    pending = world.stored()
    world.tell.claim_and_publish(pending)
    world.tell.claim_and_publish(pending)
    assert len(world.alerts.published) == 1


def test_a_refused_alert_backs_off_and_is_never_given_up(world: World) -> None:
    world.alerts.script = ["refuse"] * 12
    world.attempt()
    world.sweep(3600)
    assert len(world.alerts.published) == 1
    assert world.alerts.script == []


def test_a_grant_without_an_alert_has_nothing_to_tell(world: World) -> None:
    grant: Grant = replace(world.stored(), alert=None)
    world.tell.claim_and_publish(grant)
    world.tell.publish(grant)
    assert world.alerts.published == []


def test_an_alert_of_a_replaced_grant_is_not_told(world: World) -> None:
    world.alerts.script = ["refuse"]
    world.attempt()
    pending = world.stored()
    world.grants.items[pending.key] = replace(pending, alert=None, version=pending.version + 1)
    world.clock.advance(minutes=2)
    world.tell.claim_and_publish(pending)
    assert world.alerts.published == []
    assert world.clock() - pending.created_at > timedelta(0)
