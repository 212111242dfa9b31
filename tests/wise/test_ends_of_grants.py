"""What ends a grant at Wise, and what the token endpoint says then.

Pages: [tokens] docs.wise.com/guides/developer/auth-and-security/refresh-tokens, [kyc]
docs.wise.com/guides/product/kyc/partner-kyc, [operations] docs.wise.com/guides/product/partner/operations.
"""

from __future__ import annotations

import pytest

from local.wise.control import SeededUser, WiseControlError
from local.wise.running import RunningWise
from local.wise.truth import Death, Verdict
from local.wise.users import ProfileType
from tests.wise.client import CLIENT, Reply, WiseClient

CALLBACK = "https://partner.example.com/wise/callback"
EMAIL = "carol@example.com"
CODE = "fixture-registration-code-of-carol"


@pytest.fixture
def carol(wise: RunningWise) -> SeededUser:
    """A user whom the partner made and who has a grant."""
    wise.control.put_user("carol", email=EMAIL, registration_code=CODE)
    return wise.control.seed_user("carol")


def register(client: WiseClient) -> Reply:
    return client.form(
        {"grant_type": "registration_code", "client_id": CLIENT[0], "email": EMAIL, "registration_code": CODE}
    )


def deaths(wise: RunningWise, user: str) -> set[Death | None]:
    return {token.killed_by for token in wise.control.tokens(user)}


# The four causes of [tokens]


def test_validity_period_of_the_refresh_token_expires(wise: RunningWise, client: WiseClient) -> None:
    bob = wise.control.seed_user("bob", refresh_token_lifetime_s=90 * 86_400)
    wise.control.advance_clock(90 * 86_400 - 60)
    current = client.refresh(bob.refresh_token).json["access_token"]
    wise.control.advance_clock(61)
    reply = client.refresh(bob.refresh_token)
    assert (reply.status, reply.json["error"]) == (400, "invalid_grant")
    assert client.me(current).status == 200, "the access token lives out its time"


@pytest.mark.parametrize(
    "cause", [Death.REVOCATION, Death.ENHANCED_SECURITY, Death.SUSPECTED_BREACH, Death.OWNERSHIP_TRANSFER]
)
@pytest.mark.parametrize("status", [400, 401, 403])
def test_user_or_wise_ends_the_grant(wise: RunningWise, client: WiseClient, cause: Death, status: int) -> None:
    wise.control.change_settings(unknown_refresh_status=status)
    bob = wise.control.seed_user("bob")
    assert wise.control.revoke("bob", cause) == 2
    assert client.me(bob.access_token).status == 401
    reply = client.refresh(bob.refresh_token)
    assert (reply.status, reply.json["error"]) == (status, "invalid_grant")
    assert deaths(wise, "bob") == {cause}
    [use] = wise.control.uses()
    assert (use.verdict, use.killed_by) == (Verdict.DEAD, cause)


def test_end_of_the_grant_is_not_the_end_of_the_registration_code(
    wise: RunningWise, client: WiseClient, carol: SeededUser
) -> None:
    wise.control.revoke("carol", Death.ENHANCED_SECURITY)
    assert client.refresh(carol.refresh_token).status == 400
    assert client.refresh(register(client).json["refresh_token"]).status == 200


# Others


@pytest.mark.parametrize("status", [400, 403])
def test_changed_address_ends_everything_with_a_status_of_its_own(
    wise: RunningWise, client: WiseClient, carol: SeededUser, status: int
) -> None:
    # So says [kyc] with 400; another page has 403.
    wise.control.change_settings(email_changed_status=status)
    assert wise.control.change_email("carol", "carol@new.example.com") == 2
    assert client.me(carol.access_token).status == 401
    for reply in (client.refresh(carol.refresh_token), register(client)):
        assert (reply.status, reply.json["error"]) == (status, "invalid_grant")
    assert deaths(wise, "carol") == {Death.EMAIL_CHANGE}
    [user] = wise.control.users()
    assert (user.email, user.reclaimed) == ("carol@new.example.com", True)


@pytest.mark.parametrize(
    ("body", "error"), [("invalid_grant", "invalid_grant"), ("unauthorized", "unauthorized"), ("empty", None)]
)
def test_deactivated_account_is_a_401_for_tokens_and_codes(
    wise: RunningWise, client: WiseClient, carol: SeededUser, body: str, error: str | None
) -> None:
    # The status is from [operations].
    wise.control.change_settings(deactivated_error=body)
    code = wise.control.authorize("carol", redirect_uri="https://partner.example.com/wise/callback")
    code = code.partition("code=")[2].partition("&")[0]
    assert wise.control.deactivate("carol") == 2
    assert client.me(carol.access_token).status == 401
    exchange = {
        "grant_type": "authorization_code",
        "client_id": CLIENT[0],
        "code": code,
        "redirect_uri": "https://partner.example.com/wise/callback",
    }
    for reply in (client.refresh(carol.refresh_token), register(client), client.form(exchange)):
        assert reply.status == 401
        assert (reply.json["error"] if reply.body else None) == error
    assert deaths(wise, "carol") == {Death.DEACTIVATION}


def test_opened_account_may_have_its_tokens_back(wise: RunningWise, client: WiseClient, carol: SeededUser) -> None:
    # Undocumented: whether they come back.
    wise.control.change_settings(tokens_survive_deactivation=True)
    assert wise.control.deactivate("carol") == 0
    assert client.me(carol.access_token).json["error"] == "invalid_token"
    assert client.refresh(carol.refresh_token).status == 401
    assert register(client).status == 401
    assert {use.verdict for use in wise.control.uses()} == {Verdict.DEAD}
    wise.control.activate("carol")
    assert client.me(carol.access_token).status == 200
    assert (client.refresh(carol.refresh_token).status, register(client).status) == (200, 200)
    assert Death.DEACTIVATION not in deaths(wise, "carol")


@pytest.mark.parametrize("survive", [False, True])
def test_closed_profile_ends_its_own_tokens_only(wise: RunningWise, client: WiseClient, *, survive: bool) -> None:
    wise.control.change_settings(tokens_survive_deactivation=survive, profiles_coexist=True)
    bob = wise.control.put_user("bob", profiles=[ProfileType.PERSONAL, ProfileType.BUSINESS])
    personal, business = (profile.id for profile in bob.profiles)
    kept, lost = (wise.control.seed_user("bob", profile_id=profile) for profile in (personal, business))
    code = wise.control.authorize("bob", redirect_uri=CALLBACK, profile_id=business)
    assert wise.control.deactivate_profile("bob", business) == (0 if survive else 2)
    assert [user.closed_profiles for user in wise.control.users() if user.user == "bob"] == [(business,)]
    assert (client.me(lost.access_token).status, client.me(kept.access_token).status) == (401, 200)
    exchange = {
        "grant_type": "authorization_code",
        "client_id": CLIENT[0],
        "code": code.partition("code=")[2].partition("&")[0],
        "redirect_uri": CALLBACK,
    }
    assert (client.refresh(lost.refresh_token).status, client.form(exchange).status) == (401, 401)
    with pytest.raises(WiseControlError, match="profile_id: must be open"):
        wise.control.authorize("bob", redirect_uri=CALLBACK, profile_id=business)
    wise.control.activate_profile("bob", business)
    assert client.refresh(lost.refresh_token).status == (200 if survive else 400)
    assert client.refresh(kept.refresh_token).status == 200
    with pytest.raises(WiseControlError, match="profile_id: must be one of the user's"):
        wise.control.deactivate_profile("bob", 1)


def test_opened_account_must_be_linked_anew(wise: RunningWise, client: WiseClient, carol: SeededUser) -> None:
    wise.control.deactivate("carol")
    wise.control.activate("carol")
    assert client.refresh(carol.refresh_token).json["error"] == "invalid_grant"
    assert register(client).json["error_description"] == "Invalid user credentials."
    again = wise.control.seed_user("carol")
    assert client.refresh(again.refresh_token).status == 200
