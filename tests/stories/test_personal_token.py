"""Wise's page about personal tokens: a business automates its own account with a token that it made itself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from local.proof.checker import check
from local.proof.from_truth import history_of
from local.proof.history import Asked, RefreshBegan
from local.wise.control import PersonalToken
from tests.stories.stage import Story
from token_rotator.domain.grant import AlertKind, Grant, Phase
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Offer
from token_rotator.service.serve_token import NotServed, Why


def adopt(story: Story, made: PersonalToken) -> Grant:
    return story._kept(made.user, Offer(personal_token=Secret(made.token), issued_at=made.issued_at))


@pytest.fixture
def made(story: Story) -> PersonalToken:
    made = story.control.seed_personal_token("anna")
    adopt(story, made)
    return made


def test_it_is_served_for_as_long_as_it_lives_and_never_refreshed(story: Story, made: PersonalToken) -> None:
    for _ in range(8):
        served = story.token()
        assert served.access_token.reveal() == made.token
        assert served.stable_until - story.clock() <= timedelta(hours=1), "so that a replaced one is noticed"
        assert story.call(served) == 200
        story.later(days=10)
    assert story.control.requests() == [], "there is nothing to ask the token endpoint for"
    assert story.told() == []


def test_a_revoked_one_is_found_out_by_a_report_and_on_call_hears_at_once(story: Story, made: PersonalToken) -> None:
    served = story.token()
    story.control.revoke_personal_tokens("anna")
    assert story.call(served) == 401
    assert story.call(story.token()) == 401, "nobody has told us"
    answer = story.serve(rejected=served.version)
    assert isinstance(answer, NotServed)
    assert answer.why is Why.REAUTHORIZATION_REQUIRED
    story.sweep(3)
    assert story.told() == [(AlertKind.REAUTHORIZATION_REQUIRED, "personal_token_rejected")]
    again = story.control.seed_personal_token("anna")
    adopt(story, again)
    assert story.call(story.token()) == 200
    story.later(minutes=1)
    assert [kind for kind, _ in story.told()] == [AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.RECOVERED]


def test_a_report_that_wise_does_not_confirm_changes_nothing(story: Story, made: PersonalToken) -> None:
    served = story.token()
    story.clock.advance(minutes=10)
    assert story.token(rejected=served.version).access_token.reveal() == made.token
    assert story.told() == []


def test_a_second_factor_asked_for_is_no_death(story: Story, made: PersonalToken) -> None:
    served = story.token()
    story.clock.advance(minutes=10)
    story.control.demand_strong_authentication(user="anna")
    assert story.token(rejected=served.version).access_token.reveal() == made.token
    assert story.stored().phase is Phase.ACTIVE


def test_wise_itself_may_end_it_with_the_account(story: Story, made: PersonalToken) -> None:
    served = story.token()
    story.control.deactivate("anna")
    answer = story.serve(rejected=served.version)
    assert isinstance(answer, NotServed)
    story.sweep(3)
    assert story.told() == [(AlertKind.REAUTHORIZATION_REQUIRED, "personal_token_rejected")]


def test_on_call_is_reminded_when_it_is_old(story: Story, made: PersonalToken) -> None:
    story.later(days=89)
    assert story.told() == []
    story.later(days=2)
    assert [kind for kind, _ in story.told()] == [AlertKind.PERSONAL_TOKEN_OLD]
    assert story.call(story.token()) == 200, "it is only a reminder"


def test_the_proof_sees_questions_and_nothing_else(story: Story, made: PersonalToken) -> None:
    served = story.token()
    story.clock.advance(minutes=10)
    story.token(rejected=served.version)
    history = history_of(story.control.truth(), [], {}, healed=False, personal={"anna": "anna"})
    assert [record.lives for record in history if isinstance(record, Asked)] == [True]
    assert not [record for record in history if isinstance(record, RefreshBegan)]
    assert check(history) == []
