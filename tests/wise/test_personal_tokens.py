"""Personal tokens: made by a user in their own account, without an end, and nothing of the application's.

Page: [personal] docs.wise.com/guides/developer/auth-and-security/personal-api-token.
"""

from __future__ import annotations

import datetime as dt

import pytest

from local.wise.control import SeededUser, WiseControlError
from local.wise.running import RunningWise
from local.wise.truth import Death, Kind, TokenTruth, Verdict
from local.wise.users import ProfileType
from tests.wise.client import WiseClient


def personal_tokens(wise: RunningWise) -> list[TokenTruth]:
    return [token for token in wise.control.tokens() if token.kind is Kind.PERSONAL]


@pytest.mark.parametrize("path", ["/v1/me", "/2026Q4/me"])
def test_token_is_good_for_its_user(wise: RunningWise, client: WiseClient, path: str) -> None:
    made = wise.control.seed_personal_token("shop")
    reply = client.me(made.token, path=path)
    assert (reply.status, reply.json["id"]) == (200, made.wise_user_id)
    [use] = wise.control.uses()
    assert (use.user, use.ordinal, use.newest_ordinal, use.verdict) == ("shop", 1, 1, Verdict.LIVES)


def test_token_shows_every_profile_of_the_account(wise: RunningWise, client: WiseClient) -> None:
    # [personal]: for a business account; its owner has a personal profile as well.
    made = wise.control.seed_personal_token("shop")
    [user] = wise.control.users()
    assert [profile.type for profile in user.profiles] == [ProfileType.PERSONAL, ProfileType.BUSINESS]
    listed = client.me(made.token, path="/v2/profiles").json
    assert [profile["id"] for profile in listed] == [profile.id for profile in user.profiles]


def test_token_never_expires(wise: RunningWise, client: WiseClient) -> None:
    made = wise.control.seed_personal_token("shop", age_s=86_400)
    wise.control.advance_clock(20 * 365 * 86_400)
    assert client.me(made.token).status == 200
    [told] = personal_tokens(wise)
    assert (told.expires_at_ms, told.lives) == (None, True)
    assert dt.datetime.now(dt.UTC) - made.issued_at > dt.timedelta(hours=23)


def test_token_refreshes_nothing(wise: RunningWise, client: WiseClient) -> None:
    made = wise.control.seed_personal_token("shop")
    reply = client.refresh(made.token)
    assert (reply.status, reply.json["error"]) == (400, "invalid_grant")
    assert client.me(made.token).status == 200


def test_user_revokes_one_or_all(wise: RunningWise, client: WiseClient) -> None:
    first, second, third = (wise.control.seed_personal_token("shop") for _ in range(3))
    assert wise.control.revoke_personal_tokens("shop", 2) == 1
    assert [client.me(made.token).status for made in (first, second, third)] == [200, 401, 200]
    assert client.me(second.token).json == {"error": "invalid_token", "error_description": second.token}
    assert wise.control.revoke_personal_tokens("shop") == 2
    assert {told.killed_by for told in personal_tokens(wise)} == {Death.REVOCATION}


def test_token_and_grant_of_one_user_know_nothing_of_each_other(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    made = wise.control.seed_personal_token("alice")
    assert client.refresh(alice.refresh_token).status == 200
    assert client.me(made.token).status == 200
    wise.control.revoke("alice")
    assert client.me(made.token).status == 200
    again = wise.control.seed_user("alice")
    wise.control.revoke_personal_tokens("alice")
    assert (client.me(made.token).status, client.me(again.access_token).status) == (401, 200)


def test_client_secret_is_nothing_to_it(wise: RunningWise, client: WiseClient) -> None:
    made = wise.control.seed_personal_token("shop")
    wise.control.rotate_client_secret(revoke_tokens=True)
    assert client.me(made.token).status == 200


def test_deactivation_ends_it(wise: RunningWise, client: WiseClient) -> None:
    made = wise.control.seed_personal_token("shop")
    assert wise.control.deactivate("shop") == 1
    assert client.me(made.token).status == 401


def test_token_may_be_the_callers_choice_but_nobody_elses(wise: RunningWise, alice: SeededUser) -> None:
    made = wise.control.seed_personal_token("shop", token="fixture-personal-token")
    assert made.token == "fixture-personal-token"
    for taken in ("", made.token, alice.access_token):
        with pytest.raises(WiseControlError, match="400: token: must be new and not empty"):
            wise.control.seed_personal_token("shop", token=taken)


def test_token_is_in_no_repr(wise: RunningWise) -> None:
    made = wise.control.seed_personal_token("shop")
    assert made.token not in repr(made)
    assert made.token not in str(wise.control.truth())


def test_what_is_not_there_is_not_revoked(wise: RunningWise, alice: SeededUser) -> None:
    for user, ordinal in (("nobody", None), ("alice", 1)):
        with pytest.raises(WiseControlError, match="404: no such"):
            wise.control.revoke_personal_tokens(user, ordinal)
    assert wise.control.revoke_personal_tokens("alice") == 0
