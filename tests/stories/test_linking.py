"""Wise's page about user tokens, its first way back: through the rotator's own link, to the page at Wise and back.

"If you were granted access by an existing user then you should send the user through the same flow as you initially did
to generate tokens described in linking to an existing Wise account. You will then have new access and refresh tokens
generated which you can now store and use as before."
"""

from __future__ import annotations

import pytest

from local.wise.truth import Consent, Death
from local.wise.users import ProfileType
from tests.stories.stage import Story, played
from token_rotator.domain.grant import AlertKind, Phase
from token_rotator.domain.link import LinkFailure
from token_rotator.service.adopt_grant import Declined, Kept
from token_rotator.service.link_grant import Arrived, Failed
from token_rotator.service.serve_token import Why

CAUSES = [Death.REVOCATION, Death.ENHANCED_SECURITY, Death.SUSPECTED_BREACH]


def test_an_existing_user_is_linked_in_a_browser(story: Story) -> None:
    anna = story.control.put_user("anna")
    arrived = story.comes_back("anna", story.starts())
    assert isinstance(arrived, Arrived)
    assert story.stored_or_none() is None, "the tokens wait until the partner says whose browser it was"
    assert isinstance(story.confirm(arrived.link_id.reveal()), Kept)
    assert (story.stored().phase, story.stored().profile_id) == (Phase.ACTIVE, str(anna.profiles[0].id))
    assert story.call(story.token()) == 200
    story.due_now()
    story.sweep()
    assert story.sent()[-1].outcome == "refreshed"
    assert story.call(story.token()) == 200


@pytest.mark.parametrize("cause", CAUSES)
def test_an_existing_user_whose_refresh_token_died_is_linked_again(story: Story, cause: Death) -> None:
    story.linked()
    story.control.revoke("anna", cause)
    story.due_now()
    story.sweep()
    assert story.refused().why is Why.REAUTHORIZATION_REQUIRED
    arrived = story.comes_back("anna", story.starts())
    assert isinstance(arrived, Arrived)
    assert story.refused().why is Why.REAUTHORIZATION_REQUIRED
    assert isinstance(story.confirm(arrived.link_id.reveal()), Kept)
    assert story.call(story.token()) == 200
    story.later(minutes=1)
    required, recovered = story.alerts.published
    assert (required.kind, recovered.kind) == (AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.RECOVERED)
    assert required.incident_id == recovered.incident_id


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_user_who_reclaimed_the_account_is_linked(status: int) -> None:
    with played(registration_refused_status=status) as story:
        story.created()
        story.control.reclaim("anna@example.com")
        story.control.put_user("anna@example.com", profiles=[ProfileType.PERSONAL])
        story.control.revoke("anna@example.com")
        story.due_now()
        story.sweep()
        assert (story.stored().phase, story.stored().last_error) == (Phase.REAUTHORIZATION_REQUIRED, "reclaimed")
        arrived = story.comes_back("anna@example.com", story.starts())
        assert isinstance(arrived, Arrived)
        assert isinstance(story.confirm(arrived.link_id.reveal()), Kept)
        assert story.call(story.token()) == 200
        story.control.revoke("anna@example.com")
        story.due_now()
        story.sweep()
        assert story.stored().phase is Phase.REAUTHORIZATION_REQUIRED
        assert len(story.sent("registration_code")) == 2, "a spent code is not tried again"


def test_the_old_tokens_do_no_harm_after_the_new_link(story: Story) -> None:
    old = story.linked()
    arrived = story.comes_back("anna", story.starts())
    assert isinstance(arrived, Arrived)
    assert isinstance(story.confirm(arrived.link_id.reveal()), Kept)
    assert story.partner.refresh(old.refresh_token).json["error"] == "invalid_grant"
    assert story.call(story.token()) == 200
    assert story.told() == []


def test_a_link_that_nobody_confirms_leads_to_nothing(story: Story) -> None:
    story.control.put_user("mallory")
    arrived = story.comes_back("mallory", story.starts())
    assert isinstance(arrived, Arrived)
    story.clock.advance(minutes=11)
    assert story.confirm(arrived.link_id.reveal()) in (Declined.NOT_FOUND, Declined.LINK_EXPIRED)
    assert story.refused().why is Why.ABSENT


def test_a_user_who_refuses_comes_back_without_a_code(story: Story) -> None:
    story.control.put_user("anna")
    failed = story.comes_back("anna", story.starts(), refuse=True)
    assert isinstance(failed, Failed)
    assert failed.why is LinkFailure.CONSENT_REFUSED
    assert story.control.authorizations()[-1].consent is Consent.REFUSED
    assert story.sent("authorization_code") == []


def test_a_user_who_takes_too_long_begins_anew(story: Story) -> None:
    story.control.put_user("anna")
    late = story.starts()
    story.clock.advance(minutes=40)
    failed = story.comes_back("anna", late)
    assert isinstance(failed, Failed)
    assert failed.why in (LinkFailure.EXPIRED, LinkFailure.UNKNOWN)
    assert isinstance(story.comes_back("anna", story.starts()), Arrived)


def test_an_address_that_is_used_twice_gives_one_grant(story: Story) -> None:
    story.control.put_user("anna")
    url = story.starts()
    assert isinstance(story.comes_back("anna", url), Arrived)
    again = story.comes_back("anna", url)
    assert isinstance(again, Failed)
    assert again.why is LinkFailure.USED
    assert len(story.sent("authorization_code")) == 1


def test_another_profile_than_before_is_not_taken(story: Story) -> None:
    anna = story.control.put_user("anna", profiles=[ProfileType.PERSONAL, ProfileType.BUSINESS])
    story.linked()
    failed = story.comes_back("anna", story.starts(), profile_id=anna.profiles[1].id)
    assert isinstance(failed, Failed)
    assert failed.why is LinkFailure.DIFFERENT_PROFILE
    assert story.sent("authorization_code") == [], "the code was not exchanged: that would have ended the old grant"
    assert story.call(story.token()) == 200


def test_a_user_without_a_profile_is_sent_away(story: Story) -> None:
    story.control.put_user("anna", profiles=[])
    failed = story.comes_back("anna", story.starts())
    assert isinstance(failed, Failed)
    assert failed.why is LinkFailure.NO_PROFILE


def test_a_code_that_expired_on_its_way_is_refused(story: Story) -> None:
    story.control.change_settings(authorization_code_lifetime_s=1)
    story.control.put_user("anna")
    failed = story.comes_back("anna", story.starts(), after_s=2)
    assert isinstance(failed, Failed)
    assert failed.why is LinkFailure.CODE_REFUSED


def test_an_exchange_without_an_answer_is_not_repeated(story: Story) -> None:
    story.control.put_user("anna")
    story.control.drop_after_carrying_out(user="anna")
    failed = story.comes_back("anna", story.starts())
    assert isinstance(failed, Failed)
    assert failed.why is LinkFailure.WISE_UNAVAILABLE
    assert len(story.sent("authorization_code")) == 1
    assert isinstance(story.comes_back("anna", story.starts()), Arrived)
