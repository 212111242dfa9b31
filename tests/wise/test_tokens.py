"""What lives, what dies, when, and of what."""

from __future__ import annotations

import random

import pytest

from local.wise.control import SeededUser, WiseControlError
from local.wise.running import RunningWise, running_wise
from local.wise.settings import RefreshTokenPolicy, WiseSettings
from local.wise.state import WiseState
from local.wise.tokens import iso_instant
from local.wise.truth import Death, Kind
from tests.wise.client import WiseClient


def test_refresh_kills_the_previous_access_token_at_once(client: WiseClient, alice: SeededUser) -> None:
    # docs.wise.com/guides/developer/auth-and-security/refresh-tokens
    second = client.refresh(alice.refresh_token).json["access_token"]
    assert client.me(alice.access_token).status == 401
    assert client.me(second).status == 200
    third = client.refresh(alice.refresh_token).json["access_token"]
    assert client.me(second).status == 401
    assert client.me(third).status == 200


def test_refresh_of_one_user_leaves_the_others_alone(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    bob = wise.control.seed_user("bob")
    client.refresh(alice.refresh_token)
    assert client.me(bob.access_token).status == 200


def test_same_policy_returns_the_refresh_token_with_its_old_expiry(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.advance_clock(3_600)
    fields = client.refresh(alice.refresh_token).json
    assert fields["refresh_token"] == alice.refresh_token
    expiry_ns = round(alice.refresh_expires_at.timestamp() * 1_000) * 1_000_000
    assert fields["refresh_token_expires_at"] == iso_instant(expiry_ns, 3)
    assert 631_152_000 - 3_600 - 10 < fields["refresh_token_expires_in"] <= 631_152_000 - 3_600


def test_rotated_policy_replaces_the_refresh_token(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.change_settings(refresh_token_policy="rotated")
    fields = client.refresh(alice.refresh_token).json
    assert fields["refresh_token"] != alice.refresh_token
    assert fields["refresh_token_expires_in"] == 631_151_999
    again = client.refresh(alice.refresh_token)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert client.me(fields["access_token"]).status == 200, "the refused refresh changed nothing"
    assert client.refresh(fields["refresh_token"]).status == 200


def test_omitted_policy_leaves_the_refresh_token_out_and_valid(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.change_settings(refresh_token_policy="omitted")
    for _ in range(2):
        fields = client.refresh(alice.refresh_token).json
        assert list(fields) == [
            "access_token",
            "token_type",
            "expires_in",
            "expires_at",
            "scope",
            "created_at",
        ]


def test_each_grant_may_have_a_policy_of_its_own(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    users = {policy: wise.control.seed_user(policy.value, refresh_token_policy=policy) for policy in RefreshTokenPolicy}
    for _ in range(2):
        answers = {policy: client.refresh(user.refresh_token) for policy, user in users.items()}
        if answers[RefreshTokenPolicy.ROTATED].status == 200:
            assert (
                answers[RefreshTokenPolicy.SAME].json["refresh_token"] == users[RefreshTokenPolicy.SAME].refresh_token
            )
            assert "refresh_token" not in answers[RefreshTokenPolicy.OMITTED].json
    assert [answer.status for answer in answers.values()] == [200, 400, 200], "the second time a dead one was used"
    assert client.refresh(alice.refresh_token).json["refresh_token"] == alice.refresh_token, "the setting's policy"
    with pytest.raises(WiseControlError, match="400: refresh_token_policy: must be one of same, rotated, omitted"):
        wise.control.seed_user("bob", refresh_token_policy="no-such-policy")  # type: ignore[arg-type]


@pytest.mark.parametrize(("token_format", "length", "parts"), [("uuid", 36, 1), ("jwe", 800, 5), ("long", 8_000, 5)])
def test_tokens_of_every_format_go_round_whole(token_format: str, length: int, parts: int) -> None:
    settings = WiseSettings().changed({"token_format": token_format, "refresh_token_policy": "rotated"})
    with running_wise(settings) as wise:
        client = WiseClient(wise)
        alice = wise.control.seed_user("alice")
        fields = client.refresh(alice.refresh_token).json
        for token in (alice.access_token, alice.refresh_token, fields["access_token"], fields["refresh_token"]):
            assert len(token) == length
            assert len(token.split(".")) == parts
        assert client.me(fields["access_token"]).status == 200
        assert client.me(alice.access_token).json["error_description"] == alice.access_token
        assert client.refresh(fields["refresh_token"]).status == 200


def test_access_token_dies_at_its_expiry(wise: RunningWise, client: WiseClient) -> None:
    wise.control.change_settings(access_token_lifetime_s=90)
    bob = wise.control.seed_user("bob")
    assert (bob.expires_at - bob.issued_at).total_seconds() == 90
    wise.control.advance_clock(85)
    assert client.me(bob.access_token).status == 200
    wise.control.advance_clock(6)
    assert client.me(bob.access_token).status == 401
    [token] = [token for token in wise.control.tokens("bob") if token.kind is Kind.ACCESS]
    assert token.killed_by is Death.EXPIRY
    assert client.refresh(bob.refresh_token).json["expires_in"] == 89


def test_lifetimes_of_a_seed_hold_for_its_own_tokens_only(wise: RunningWise, client: WiseClient) -> None:
    bob = wise.control.seed_user("bob", access_token_lifetime_s=60, refresh_token_lifetime_s=120, age_s=50)
    assert (bob.expires_at - bob.issued_at).total_seconds() == 60
    assert (bob.refresh_expires_at - bob.issued_at).total_seconds() == 120
    fields = client.refresh(bob.refresh_token).json
    assert fields["expires_in"] == 43_199
    assert fields["refresh_token_expires_in"] in (68, 69)


def test_revoked_user_has_nothing_left(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    current = client.refresh(alice.refresh_token).json["access_token"]
    assert wise.control.revoke("alice") == 2
    assert client.me(current).status == 401
    refused = client.refresh(alice.refresh_token)
    assert (refused.status, refused.json["error"]) == (400, "invalid_grant")
    assert wise.control.revoke("alice") == 0
    deaths = {token.killed_by for token in wise.control.tokens("alice")}
    assert deaths == {Death.REFRESH, Death.REVOCATION}


def test_new_link_kills_the_refresh_token_but_not_the_last_access_token(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    # docs.wise.com/guides/product/account-setup/refreshing-access
    again = wise.control.seed_user("alice")
    assert again.wise_user_id == alice.wise_user_id
    assert client.refresh(alice.refresh_token).json["error"] == "invalid_grant"
    assert client.me(alice.access_token).status == 200
    assert client.me(again.access_token).status == 200
    current = client.refresh(again.refresh_token).json["access_token"]
    assert [client.me(token).status for token in (alice.access_token, again.access_token, current)] == [
        401,
        401,
        200,
    ]


def test_seed_takes_tokens_of_the_callers_choice(wise: RunningWise, client: WiseClient) -> None:
    bob = wise.control.seed_user("bob", access_token="fixture-access", refresh_token="fixture-refresh")
    assert (bob.access_token, bob.refresh_token) == ("fixture-access", "fixture-refresh")
    assert client.me("fixture-access").status == 200
    assert client.refresh("fixture-refresh").status == 200


def test_new_client_secret_works_and_the_old_one_fails_at_once(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    fresh = wise.control.rotate_client_secret()
    assert client.refresh(alice.refresh_token).json["error"] == "invalid_client"
    assert client.me(alice.access_token).status == 200, "the refused client changed nothing"
    assert client.refresh(alice.refresh_token, client=("emulator-client-id", fresh)).status == 200


def test_both_client_secrets_work_while_they_overlap(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    assert wise.control.rotate_client_secret("fixture-second-secret", overlap_s=60) == "fixture-second-secret"
    assert client.refresh(alice.refresh_token).status == 200
    assert client.refresh(alice.refresh_token, client=("emulator-client-id", "fixture-second-secret")).status == 200
    wise.control.advance_clock(61)
    assert client.refresh(alice.refresh_token).status == 401
    assert client.refresh(alice.refresh_token, client=("emulator-client-id", "fixture-second-secret")).status == 200


def test_rotating_the_client_secret_may_revoke_every_token(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    fresh = wise.control.rotate_client_secret(revoke_tokens=True)
    assert client.me(alice.access_token).status == 401
    refused = client.refresh(alice.refresh_token, client=("emulator-client-id", fresh))
    assert refused.json["error"] == "invalid_grant"
    assert {token.killed_by for token in wise.control.tokens()} == {Death.CLIENT_SECRET}


def test_seeded_random_makes_the_same_tokens_again() -> None:
    def grants() -> list[object]:
        seeded = random.Random(7)  # noqa: S311  (repeatable is the point)
        state = WiseState(WiseSettings(), wall_ns=lambda: 1_700_000_000_000_000_000, random=seeded)
        return [state.seed("alice"), state.seed("bob"), state.new_trace_id()]

    assert grants() == grants()
    assert len({str(grant) for grant in grants()}) == 3


@pytest.mark.parametrize(
    ("epoch_ns", "digits", "text"),
    [
        (1_744_343_008_148_000_000, 3, "2025-04-11T03:43:28.148Z"),
        (1_701_887_294_206_824_830, 9, "2023-12-06T18:28:14.206824830Z"),
        (1_577_882_013_123_459_999, 5, "2020-01-01T12:33:33.12345Z"),
        (1_577_882_013_999_999_999, 0, "2020-01-01T12:33:33Z"),
    ],
)
def test_instants_are_written_as_on_wises_pages(epoch_ns: int, digits: int, text: str) -> None:
    assert iso_instant(epoch_ns, digits) == text
