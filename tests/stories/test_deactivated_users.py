"""Wise's pages about operations and events: an account is deactivated, we are told, and it may be opened again.

"The end-user tokens are revoked"; whether they are good again afterwards no page says, so that both is played.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from local.wise.truth import Kind
from local.wise.users import ProfileType
from tests.stories.stage import Story, played
from token_rotator.adapters.rsa_signatures import RsaSignatures
from token_rotator.domain.grant import AlertKind, Phase
from token_rotator.service.serve_token import Why
from token_rotator.service.take_event import Delivery, TakeEvent

EVENTS = "https://partner.example.com/wise/events"


class Told(Story):
    """A story of which Wise tells by events, held back until they are let through."""

    def listens(self) -> None:
        self.control.hold_webhooks()
        self.control.subscribe(EVENTS)
        pem = [line for line in self.control.webhook_key().splitlines() if "-----" not in line]
        signatures = RsaSignatures([base64.b64decode("".join(pem))])
        self.take_event = TakeEvent(signatures, self.states, self.journal, self.clock)
        self.arrived = 0

    def events_arrive(self, *, backwards: bool = False, times: int = 1) -> None:
        """What Wise had to tell since the last time reaches us, and the sweep looks at it."""
        waiting = self.control.deliveries()[self.arrived :]
        self.arrived += len(waiting)
        for event in reversed(waiting) if backwards else waiting:
            for _ in range(times):
                assert self.take_event(
                    Delivery(content=event.body.encode(), signature=event.signature, delivery_id=event.id)
                )
        self.sweep(3)


@pytest.fixture(params=[False, True], ids=["tokens die", "tokens survive"])
def survive(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def told(*, survive: bool) -> Iterator[Told]:
    with played(Told, tokens_survive_deactivation=survive) as ready:
        ready.listens()
        yield ready


def test_a_deactivated_user_is_neither_served_nor_refreshed(told: Told) -> None:
    told.linked()
    told.control.deactivate("anna")
    told.events_arrive()
    assert (told.stored().phase, told.refused().why) == (Phase.SUSPENDED, Why.SUSPENDED)
    told.clock.advance(hours=30)
    told.sweep(3)
    assert told.sent() == [], "Wise was asked for nothing"
    assert told.told() == [], "nobody can do anything about it"


def test_a_user_who_is_active_again_is_tried_exactly_once(told: Told, *, survive: bool) -> None:
    told.linked()
    told.control.deactivate("anna")
    told.events_arrive()
    told.later(days=3)
    told.control.activate("anna")
    told.events_arrive()
    told.sweep(3)
    assert len(told.sent()) == 1
    if survive:
        assert told.call(told.token()) == 200
        assert told.told() == []
    else:
        assert told.refused().why is Why.REAUTHORIZATION_REQUIRED
        told.later(minutes=1)
        assert [kind for kind, _ in told.told()] == [AlertKind.REAUTHORIZATION_REQUIRED]
        told.later(days=3)
        assert len(told.sent()) == 1
        told.authorized_again()
        assert told.call(told.token()) == 200


def test_nobody_is_served_a_token_of_before_until_wise_was_asked(told: Told, *, survive: bool) -> None:
    told.linked()
    told.control.deactivate("anna")
    told.events_arrive()
    told.control.activate("anna")
    known = len(told.control.uses())
    told.events_arrive()
    assert told.control.uses()[known:] or told.sent(), "the token of before is still young"
    if survive:
        assert told.call(told.token()) == 200
    else:
        assert told.refused().why is Why.REAUTHORIZATION_REQUIRED


def test_events_may_come_in_any_order_and_again(told: Told) -> None:
    told.linked()
    told.control.deactivate("anna")
    told.clock.advance(seconds=2)
    told.control.activate("anna")
    told.clock.advance(seconds=2)
    told.control.deactivate("anna")
    told.events_arrive(backwards=True, times=3)
    assert told.refused().why is Why.SUSPENDED
    told.clock.advance(seconds=2)
    told.control.activate("anna")
    told.clock.advance(seconds=2)
    told.events_arrive(times=2)
    assert told.stored().phase is not Phase.SUSPENDED


def test_a_closed_profile_suspends_the_grant_that_is_for_it(told: Told, *, survive: bool) -> None:
    anna = told.linked()
    bea = told.linked("bea")
    told.control.deactivate_profile("anna", anna.profile_id or 0)
    told.events_arrive()
    assert told.refused().why is Why.SUSPENDED
    assert told.call(told.token("bea")) == 200
    told.control.activate_profile("anna", anna.profile_id or 0)
    told.events_arrive()
    told.sweep(3)
    assert (told.stored().phase is Phase.ACTIVE) == survive
    assert bea.profile_id != anna.profile_id


def test_an_event_about_somebody_else_changes_nothing(told: Told) -> None:
    told.linked()
    told.control.put_user("stranger", profiles=[ProfileType.PERSONAL])
    told.control.deactivate("stranger")
    told.events_arrive()
    assert told.call(told.token()) == 200
    assert [t.lives for t in told.control.tokens("anna") if t.kind is Kind.ACCESS] == [True]
