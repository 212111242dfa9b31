"""Wise's page about user tokens (docs.wise.com/api-docs/features/authentication-access/user-tokens): refreshing them.

"In order to maintain an uninterrupted connection, you can request a new access token whenever the previous one is close
to expiring. There is no need to wait for the actual expiration to happen first."
"""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from tests.stories.stage import Story, played
from token_rotator.domain.grant import Phase
from token_rotator.service.refresh_grant import Result, Word


def test_a_token_is_refreshed_before_it_expires(story: Story) -> None:
    user = story.linked()
    due = story.due_now()
    assert due.expires_at == user.expires_at
    assert timedelta(hours=4) < user.expires_at - story.clock() < timedelta(hours=7)
    story.sweep()
    [request] = story.sent()
    assert (request.user, request.outcome) == ("anna", "refreshed")
    assert story.stored().issued_at == due.refresh_at, "at once"
    assert story.call(story.token()) == 200


def test_a_user_is_connected_without_a_break_for_a_week(story: Story) -> None:
    story.linked()
    for _ in range(7 * 24 * 2):
        story.later(minutes=30)
        token = story.token()
        assert story.call(token) == 200
        assert token.stable_for > timedelta(0)
    truth = story.control.truth()
    assert truth.uses_of_dead_tokens() == []
    assert truth.overlaps == []
    assert 7 * 2 <= len(story.sent()) <= 7 * 4, "about every six hours"
    assert story.told() == []


def test_a_refresh_invalidates_the_previous_access_token(story: Story) -> None:
    # "Using a refresh_token to generate a new access_token automatically invalidates the previously granted
    # access_token."
    story.linked()
    old = story.token()
    assert story.call(old) == 200
    story.due_now()
    story.sweep()
    new = story.token()
    assert (story.call(old), story.call(new)) == (401, 200)
    assert old.stable_until <= story.clock(), "nobody was promised the old one for longer"


def test_who_still_holds_the_previous_token_gets_the_new_one_without_a_refresh(story: Story) -> None:
    story.linked()
    old = story.token()
    story.due_now()
    story.sweep()
    assert story.call(old) == 401
    new = story.token(rejected=old.version)
    assert story.call(new) == 200
    assert len(story.sent()) == 1


def test_a_token_that_wise_replaced_behind_our_back_is_refreshed_when_a_reader_says_so(story: Story) -> None:
    user = story.linked()
    story.clock.advance(hours=2)
    token = story.token()
    story.partner.refresh(user.refresh_token)
    assert story.call(token) == 401
    again = story.token(rejected=token.version)
    assert story.call(again) == 200
    assert len(story.sent()) == 1


def test_an_expired_token_is_refreshed_before_a_series_of_calls(story: Story) -> None:
    # "requesting a new access token before attempting a series of API calls ... will avoid issues with expired access
    # tokens": nothing was swept here for a day.
    story.linked()
    story.clock.advance(days=1)
    token = story.token()
    assert [story.call(token) for _ in range(3)] == [200] * 3
    assert len(story.sent()) == 1


def test_two_who_would_refresh_at_once_send_one_request(story: Story) -> None:
    # "Ensure your application manages access tokens carefully and uses central storage ... to avoid creating race
    # conditions with token refresh"
    story.linked()
    story.due_now()
    story.control.withhold("anna")
    results: list[Result] = []
    first = threading.Thread(target=lambda: results.append(story.attempt()))
    first.start()
    story.control.wait_until_withheld("anna")
    assert story.attempt().word is Word.HELD
    story.control.release()
    first.join(timeout=10)
    assert [result.word for result in results] == [Word.REFRESHED]
    assert story.attempt().word is Word.FRESH
    assert len(story.sent()) == 1
    assert story.control.overlaps() == []
    assert story.call(story.token()) == 200


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_a_refresh_token_lasts_whatever_a_refresh_does_with_it(policy: str) -> None:
    # Wise's pages do not say whether the refresh token changes.
    with played() as story:
        story.control.change_settings(refresh_token_policy=policy)
        story.linked()
        for _ in range(5):
            story.due_now()
            story.sweep()
            assert story.call(story.token()) == 200
        assert [request.outcome for request in story.sent()] == ["refreshed"] * 5
        assert story.stored().phase is Phase.ACTIVE


@pytest.mark.parametrize("form", ["uuid", "jwe", "long"])
def test_a_token_of_any_length_is_stored_and_served(form: str) -> None:
    with played() as story:
        story.control.change_settings(token_format=form)
        story.linked()
        story.due_now()
        story.sweep()
        assert story.call(story.token()) == 200


def test_a_new_client_secret_takes_over_without_a_user_noticing(story: Story) -> None:
    # docs.wise.com/guides/developer/auth-and-security: "Rotate your client secret periodically via Developer Hub."
    story.linked()
    fresh = story.control.rotate_client_secret()
    story.credentials.stored.insert(0, fresh)
    story.due_now()
    story.sweep()
    assert [request.outcome for request in story.sent()] == ["invalid_client", "refreshed"]
    assert (story.credentials.in_use, story.stored().phase) == (fresh, Phase.ACTIVE)
    assert story.call(story.token()) == 200
    assert story.told() == []
