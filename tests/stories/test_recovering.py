"""Wise's page about user tokens: both ways back from an invalid refresh token, and the account that was reclaimed.

"Correctly handling this depends on how you originally gained access to the user."
"""

from __future__ import annotations

import pytest

from local.wise.truth import Consent, Death
from tests.stories.stage import Story, played
from token_rotator.domain.grant import AlertKind, Phase
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.serve_token import Why

CAUSES = [Death.REVOCATION, Death.ENHANCED_SECURITY, Death.SUSPECTED_BREACH]
STATUSES = [400, 401, 403]


# "If you were granted access by an existing user then you should send the user through the same flow as you
# initially did"


@pytest.mark.parametrize("cause", CAUSES)
def test_an_existing_user_is_linked_again_and_the_incident_is_over(story: Story, cause: Death) -> None:
    story.linked()
    story.control.revoke("anna", cause)
    story.due_now()
    story.sweep()
    assert story.refused().why is Why.REAUTHORIZATION_REQUIRED
    version = story.stored().version
    story.authorized_again()
    assert (story.stored().phase, story.stored().version > version) == (Phase.ACTIVE, True)
    assert story.call(story.token()) == 200
    story.later(minutes=1)
    required, recovered = story.alerts.published
    assert (required.kind, recovered.kind) == (AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.RECOVERED)
    assert required.incident_id == recovered.incident_id
    story.due_now()
    story.sweep()
    assert story.call(story.token()) == 200, "new access and refresh tokens which you can now store and use as before"


def test_linking_again_kills_the_old_refresh_token_and_stragglers_change_nothing(story: Story) -> None:
    old = story.linked()
    story.authorized_again()
    new = story.token()
    assert story.partner.refresh(old.refresh_token).json["error"] == "invalid_grant"
    assert story.call(new) == 200
    story.due_now()
    story.sweep()
    assert story.call(story.token()) == 200
    assert story.told() == []


def test_a_user_who_refuses_stays_unlinked(story: Story) -> None:
    story.linked()
    story.control.revoke("anna")
    story.due_now()
    story.sweep()
    story.control.authorize("anna", redirect_uri="https://partner.example.com/wise/callback", refuse=True)
    assert story.control.authorizations()[-1].consent is Consent.REFUSED
    assert story.refused().why is Why.REAUTHORIZATION_REQUIRED


# "If the user has NOT reclaimed their account then the original registration_code you generated should still be able to
# generate new tokens for the user."


def test_a_user_whom_we_created_begins_with_the_registration_code_alone(story: Story) -> None:
    story.created()
    [request] = story.sent("registration_code")
    assert (request.user, request.outcome) == ("anna@example.com", "granted")
    assert story.stored().phase is Phase.ACTIVE
    assert story.call(story.token()) == 200
    assert story.told() == []


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("status", STATUSES)
def test_a_user_whom_we_created_gets_new_tokens_by_the_registration_code(cause: Death, status: int) -> None:
    with played(unknown_refresh_status=status) as story:
        story.created()
        story.control.revoke("anna@example.com", cause)
        story.due_now()
        story.sweep()
        assert [request.outcome for request in story.sent("registration_code")] == ["granted"] * 2
        assert story.stored().phase is Phase.ACTIVE
        assert story.call(story.token()) == 200
        story.later(minutes=1)
        assert story.told() == [(AlertKind.REISSUED, "invalid_grant")], "on-call is informed, and has nothing to do"
        story.due_now()
        story.sweep()
        assert story.sent()[-1].outcome == "refreshed", "the new refresh token is the one that counts"
        assert story.call(story.token()) == 200


def test_an_expired_refresh_token_of_a_user_whom_we_created_is_replaced(story: Story) -> None:
    story.control.change_settings(refresh_token_lifetime_s=20 * 3_600)
    story.created()
    for _ in range(8):
        story.later(hours=6)
        assert story.call(story.token()) == 200
    assert len(story.sent("registration_code")) >= 2
    assert {kind for kind, _ in story.told()} <= {AlertKind.REISSUED, AlertKind.REFRESH_TOKEN_EXPIRING}


def test_one_incident_costs_one_registration_request(story: Story) -> None:
    story.created()
    story.control.revoke("anna@example.com")
    story.clock.advance(hours=9)
    token = story.serve()
    for _ in range(5):
        story.later(minutes=10)
    assert story.call(token) == 200  # type: ignore[arg-type]
    assert len(story.sent("registration_code")) == 2, "the first tokens, and the new ones"


def test_a_registration_whose_answer_is_lost_is_sent_again_since_the_code_is_good_again_and_again(story: Story) -> None:
    story.created()
    story.control.revoke("anna@example.com")
    story.due_now()
    story.control.drop_after_carrying_out(2, user="anna@example.com")
    story.sweep()
    for _ in range(6):
        story.later(minutes=5)
    assert story.stored().phase is Phase.ACTIVE
    assert story.call(story.token()) == 200


# "If the user has reclaimed their account, the previously stored token fails ... then push them through the linking to
# an existing Wise account flow."


@pytest.mark.parametrize("status", STATUSES)
def test_a_reclaimed_account_needs_linking(status: int) -> None:
    with played(registration_refused_status=status) as story:
        story.created()
        story.control.reclaim("anna@example.com")
        story.control.revoke("anna@example.com")
        story.due_now()
        story.sweep()
        grant = story.stored()
        assert (grant.phase, grant.last_error) == (Phase.REAUTHORIZATION_REQUIRED, "reclaimed")
        assert grant.registration_spent_at is not None
        assert story.told() == [(AlertKind.REAUTHORIZATION_REQUIRED, "reclaimed")]
        assert story.refused().why is Why.REAUTHORIZATION_REQUIRED
        story.later(hours=12)
        assert [request.outcome for request in story.sent("registration_code")] == ["granted", "invalid_grant"]
        story.authorized_again(email="anna@example.com")
        assert story.call(story.token()) == 200
        story.later(minutes=1)
        assert story.told()[-1] == (AlertKind.RECOVERED, "reclaimed")


def test_a_reclaimed_account_goes_on_until_its_refresh_token_dies(story: Story) -> None:
    story.created()
    story.control.reclaim("anna@example.com")
    for _ in range(8):
        story.later(hours=6)
        assert story.call(story.token()) == 200
    assert len(story.sent("registration_code")) == 1
    assert story.told() == []


@pytest.mark.parametrize("status", [400, 403])
def test_a_user_who_changed_the_address_at_wise_has_reclaimed_the_account(status: int) -> None:
    with played(email_changed_status=status) as story:
        story.created()
        story.control.change_email("anna@example.com", "anna@new.example.com")
        story.due_now()
        story.sweep()
        assert (story.stored().phase, story.stored().last_error) == (Phase.REAUTHORIZATION_REQUIRED, "reclaimed")
        story.authorized_again(email="anna@new.example.com")
        assert story.call(story.token()) == 200


def test_a_deactivated_account_needs_linking_once_it_is_open_again(story: Story) -> None:
    story.created()
    story.control.deactivate("anna@example.com")
    story.due_now()
    story.sweep()
    assert story.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    story.control.activate("anna@example.com")
    story.authorized_again(email="anna@example.com")
    assert story.call(story.token()) == 200


def test_a_registration_code_with_another_address_than_at_sign_up_is_worth_nothing(story: Story) -> None:
    registration = story.created()
    wrong = type(registration)(registration.reveal().replace("anna@example.com", "anna@partner.example.com"))
    offer = Offer(registration=wrong)
    assert isinstance(story.adopt_grant(story.key("bert"), offer, None), Kept)
    story.sweep()
    assert (story.stored("bert").phase, story.stored("bert").last_error) == (
        Phase.REAUTHORIZATION_REQUIRED,
        "reclaimed",
    )
    assert story.call(story.token()) == 200, "nobody else was touched"
