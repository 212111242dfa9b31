"""Somebody else refreshes a grant: nothing tells the partner, but the token that it had is dead."""

from __future__ import annotations

import pytest

from local.wise.control import SeededUser, WiseControlError
from local.wise.running import RunningWise
from local.wise.settings import RefreshTokenPolicy
from local.wise.truth import Death
from local.wise.users import ProfileType
from tests.wise.client import WiseClient


@pytest.mark.parametrize(
    ("policy", "ours_is_good"),
    [(RefreshTokenPolicy.SAME, 200), (RefreshTokenPolicy.OMITTED, 200), (RefreshTokenPolicy.ROTATED, 400)],
)
def test_other_gets_what_a_refresh_brings_under_the_same_policy(
    wise: RunningWise, client: WiseClient, alice: SeededUser, policy: RefreshTokenPolicy, ours_is_good: int
) -> None:
    wise.control.change_settings(refresh_token_policy=policy)
    theirs = wise.control.refresh_elsewhere("alice")
    assert (client.me(alice.access_token).status, client.me(theirs.access_token).status) == (401, 200)
    assert (theirs.refresh_token != alice.refresh_token) == (policy is RefreshTokenPolicy.ROTATED)
    assert theirs.profile_id == alice.profile_id
    assert client.refresh(alice.refresh_token).status == ours_is_good


def test_refresh_is_told_as_somebody_elses(wise: RunningWise, alice: SeededUser) -> None:
    wise.control.drop_after_carrying_out()
    wise.control.refresh_elsewhere("alice")
    [request] = wise.control.requests()
    assert (request.user, request.grant_type, request.outcome) == ("alice", "refresh_token", "refreshed")
    assert (request.correlation_id, request.delivered, request.presented_ordinal) == (None, True, 1)
    assert wise.control.faults(), "a fault is for those who come over the wire"
    first, _refresh, second = wise.control.tokens("alice")[1], *wise.control.tokens("alice")[::2]
    assert (first.lives, first.killed_by, first.killed_by_request) == (False, Death.REFRESH, request.id)
    assert second.lives


def test_other_has_our_client_secret_whatever_it_became(wise: RunningWise, alice: SeededUser) -> None:
    wise.control.rotate_client_secret()
    assert wise.control.refresh_elsewhere("alice").access_ordinal == 2


def test_grant_may_be_that_of_a_profile(wise: RunningWise, client: WiseClient) -> None:
    wise.control.change_settings(profiles_coexist=True)
    bob = wise.control.put_user("bob", profiles=[ProfileType.PERSONAL, ProfileType.BUSINESS])
    first, second = (wise.control.seed_user("bob", profile_id=profile.id) for profile in bob.profiles)
    theirs = wise.control.refresh_elsewhere("bob", profile_id=first.profile_id)
    assert theirs.profile_id == first.profile_id
    assert (client.me(first.access_token).status, client.me(second.access_token).status) == (401, 200)


def test_dead_grant_is_nothing_to_others_either(wise: RunningWise, alice: SeededUser) -> None:
    wise.control.revoke("alice")
    wise.control.put_user("dora")
    for user in ("alice", "dora"):
        with pytest.raises(WiseControlError, match="400: user: has no refresh token that lives"):
            wise.control.refresh_elsewhere(user)
    with pytest.raises(WiseControlError, match="404: no such user"):
        wise.control.refresh_elsewhere("nobody")
