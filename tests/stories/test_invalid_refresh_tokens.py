"""Wise's page about user tokens: the four causes of an invalid refresh token, for users who linked their own account.

"It is also possible that a user's refresh token will become invalid. ... Due to this possibility your application
should handle the scenario where you fail to generate a new access token from the refresh token."
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from local.wise.truth import Death
from tests.stories.stage import Story, played
from token_rotator.domain.grant import AlertKind, Phase
from token_rotator.service.serve_token import Why

STATUSES = [400, 401, 403]
"""Wise's pages do not agree: what counts is the error."""


def ends_with_the_user_being_asked(story: Story) -> None:
    """The grant is marked, on-call is told once, a reader hears it at once, and Wise is not asked again."""
    story.due_now()
    story.sweep()
    asked = len(story.sent())
    assert (story.sent()[-1].outcome, story.stored().phase) == ("invalid_grant", Phase.REAUTHORIZATION_REQUIRED)
    assert story.told()[-1] == (AlertKind.REAUTHORIZATION_REQUIRED, "invalid_grant")
    assert story.refused().why is Why.REAUTHORIZATION_REQUIRED
    for _ in range(3):
        story.later(hours=1)
    assert len(story.sent()) == asked
    [alert] = [alert for alert in story.alerts.published if alert.kind is AlertKind.REAUTHORIZATION_REQUIRED]
    assert alert.trace_id == story.sent()[-1].trace_id, "support at Wise can find the answer"


@pytest.mark.parametrize("status", STATUSES)
def test_the_validity_period_of_the_refresh_token_expires(status: int) -> None:
    # "The refresh token's validity period expires", the page says, usually after three months or more.
    with played(unknown_refresh_status=status, refresh_token_lifetime_s=90 * 86_400) as story:
        story.linked()
        for _ in range(17):
            story.later(days=5)
        for _ in range(19):
            story.later(hours=6)
        assert story.stored().phase is Phase.ACTIVE
        assert story.call(story.token()) == 200
        assert [told for told in story.told() if told[0] is AlertKind.REFRESH_TOKEN_EXPIRING] == [
            (AlertKind.REFRESH_TOKEN_EXPIRING, reason) for reason in ("30-days", "7-days", "1-day")
        ]
        story.clock.advance(hours=6)
        ends_with_the_user_being_asked(story)


def test_an_expired_refresh_token_may_be_called_an_invalid_token() -> None:
    with played() as story:
        story.control.change_settings(expired_refresh="invalid_token", refresh_token_lifetime_s=86_400)
        story.linked()
        story.clock.advance(hours=30)
        story.sweep()
        assert story.sent()[-1].outcome == "invalid_token"
        assert story.stored().phase is Phase.REAUTHORIZATION_REQUIRED


@pytest.mark.parametrize("status", STATUSES)
def test_the_user_revokes_the_access_of_our_application(status: int) -> None:
    # "The user revokes the access of your application to their account."
    with played(unknown_refresh_status=status) as story:
        story.linked()
        story.control.revoke("anna")
        ends_with_the_user_being_asked(story)


@pytest.mark.parametrize("status", STATUSES)
def test_the_user_enables_enhanced_security(status: int) -> None:
    # "The user enables enhanced security on their Wise account."
    with played(unknown_refresh_status=status) as story:
        story.linked()
        story.control.revoke("anna", Death.ENHANCED_SECURITY)
        ends_with_the_user_being_asked(story)


@pytest.mark.parametrize("status", STATUSES)
def test_wise_revokes_a_token_for_a_suspected_breach_of_it(status: int) -> None:
    # "Wise revoke a token due to a suspected security breach of the token or your client secret."
    with played(unknown_refresh_status=status) as story:
        story.linked()
        story.control.revoke("anna", Death.SUSPECTED_BREACH)
        ends_with_the_user_being_asked(story)


def test_wise_revokes_every_token_for_a_suspected_breach_of_the_client_secret(story: Story) -> None:
    names = ["anna", "bert", "carl"]
    for name in names:
        story.linked(name)
    fresh = story.control.rotate_client_secret(revoke_tokens=True)
    story.credentials.stored = [fresh]
    story.clock.advance(hours=9)
    for _ in range(5):
        story.later(minutes=5)
    assert {story.stored(name).phase for name in names} == {Phase.REAUTHORIZATION_REQUIRED}
    assert story.told().count((AlertKind.REAUTHORIZATION_REQUIRED, "invalid_grant")) == len(names)
    assert story.credentials.in_use == fresh


def test_a_reader_whose_token_was_revoked_learns_it_when_the_token_is_rejected(story: Story) -> None:
    # Nothing announces it: it shows at the next call.
    story.linked()
    story.clock.advance(hours=2)
    token = story.token()
    story.control.revoke("anna")
    assert story.call(token) == 401
    refused = story.serve(rejected=token.version)
    assert refused.why is Why.REAUTHORIZATION_REQUIRED  # type: ignore[union-attr]
    assert len(story.sent()) == 1


def test_a_wrong_client_secret_is_no_invalid_refresh_token(story: Story) -> None:
    for name in ("anna", "bert"):
        story.linked(name)
    story.control.rotate_client_secret()
    for name in ("anna", "bert"):
        story.due_now(name)
    story.sweep()
    assert story.sent()[-1].outcome == "invalid_client"
    assert story.stored().phase is Phase.ACTIVE
    assert (AlertKind.CLIENT_REFUSED, "client_refused") in story.told()


def test_a_refresh_whose_answer_is_lost_is_no_invalid_refresh_token(story: Story) -> None:
    story.linked()
    story.due_now()
    story.control.drop_after_carrying_out(user="anna")
    story.sweep()
    for _ in range(3):
        story.later(minutes=2)
    assert story.stored().phase is Phase.ACTIVE
    assert story.call(story.token()) == 200
    assert story.told() == []


def test_a_reminder_comes_after_a_day_while_the_user_has_not_come_back(story: Story) -> None:
    story.linked()
    story.control.revoke("anna")
    story.due_now()
    story.sweep()
    for _ in range(26):
        story.later(hours=1)
    first, second = (alert for alert in story.alerts.published if alert.kind is AlertKind.REAUTHORIZATION_REQUIRED)
    assert first.incident_id == second.incident_id
    assert second.reminder
    assert story.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert second.raised_at - first.raised_at <= timedelta(days=1)
