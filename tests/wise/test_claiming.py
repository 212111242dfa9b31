"""How a user takes over the account that the partner made: a code for five minutes, and the authorization page.

Pages: [claim] docs.wise.com/api-reference/claim-account, [redirect]
docs.wise.com/guides/product/kyc/wise-kyc/redirect-to-wise/claim-account.
"""

from __future__ import annotations

import json

import pytest

from local.wise.control import SeededUser
from local.wise.faults import Endpoint
from local.wise.running import RunningWise
from local.wise.truth import Consent
from local.wise.visitor import Visitor
from tests.wise.client import CLIENT, Reply, WiseClient

CALLBACK = "https://partner.example.com/wise/callback"
CODE = "fixture-registration-code-of-carol"
PATH = "/v1/user/claim-account"
ASKED = {"client_id": CLIENT[0], "redirect_uri": CALLBACK, "state": "fixture-state"}


def claim(client: WiseClient, token: str | None, code: str | None = CODE, path: str = PATH) -> Reply:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return client.send("POST", path, json.dumps({} if code is None else {"registrationCode": code}), headers)


def register(client: WiseClient, email: str) -> Reply:
    fields = {"grant_type": "registration_code", "client_id": CLIENT[0], "email": email, "registration_code": CODE}
    return client.form(fields)


@pytest.fixture
def visitor(wise: RunningWise) -> Visitor:
    return Visitor(wise.ca_file)


@pytest.fixture
def carol(wise: RunningWise) -> SeededUser:
    wise.control.put_user("carol", registration_code=CODE)
    return wise.control.seed_user("carol")


@pytest.mark.parametrize("path", [PATH, "/2026Q4/user/claim-account"])
def test_user_takes_the_account_over_and_lets_the_partner_in(
    wise: RunningWise, client: WiseClient, visitor: Visitor, carol: SeededUser, path: str
) -> None:
    reply = claim(client, carol.access_token, path=path)
    assert reply.status == 200
    [name] = reply.json
    assert name == "claimAccountCode"
    page = visitor.visit(wise.authorize_url(**ASKED, claim_account_code=reply.json[name]))
    # [redirect]: the code tells Wise who comes, so that nobody has to log in.
    assert (page.text("h1"), page.text("who")) == ("Allow access to your Wise account?", "carol")
    page = visitor.press(page, "allow")
    assert page.status == 302
    told = page.query()
    assert (told["state"], told["profileId"]) == ("fixture-state", str(carol.profile_id))
    exchange = {
        "grant_type": "authorization_code",
        "client_id": CLIENT[0],
        "code": told["code"],
        "redirect_uri": CALLBACK,
    }
    assert client.form(exchange).status == 200
    # The account is the user's own now: the registration code is worth nothing.
    assert register(client, carol.email).json["error"] == "invalid_grant"
    [visit] = wise.control.authorizations()
    assert (visit.consent, visit.claimed, visit.user) == (Consent.GIVEN, True, "carol")
    assert wise.control.users()[0].reclaimed
    again = visitor.visit(wise.authorize_url(**ASKED, claim_account_code=reply.json[name]))
    assert (again.text("h1"), again.text("wrong")) == ("Log in to Wise", "This code is too old.")
    assert claim(client, carol.access_token).status in (401, 403)


def test_refusal_takes_nothing_over(wise: RunningWise, client: WiseClient, visitor: Visitor, carol: SeededUser) -> None:
    code = claim(client, carol.access_token).json["claimAccountCode"]
    page = visitor.visit(wise.authorize_url(**ASKED, claim_account_code=code))
    assert visitor.press(page, "refuse").query()["error"] == "access_denied"
    assert not wise.control.users()[0].reclaimed
    assert register(client, carol.email).status == 200
    assert visitor.visit(wise.authorize_url(**ASKED, claim_account_code=code)).text("who") == "carol"


def test_code_is_good_for_five_minutes_and_then_anew(
    wise: RunningWise, client: WiseClient, visitor: Visitor, carol: SeededUser
) -> None:
    assert wise.control.settings()["claim_account_code_lifetime_s"] == 300
    first = claim(client, carol.access_token).json["claimAccountCode"]
    wise.control.advance_clock(299)
    assert visitor.visit(wise.authorize_url(**ASKED, claim_account_code=first)).text("who") == "carol"
    wise.control.advance_clock(2)
    page = visitor.visit(wise.authorize_url(**ASKED, claim_account_code=first))
    assert (page.status, page.text("wrong")) == (400, "This code is too old.")
    # Whoever logs in there comes as themselves.
    page = visitor.press(visitor.press(page, "login", user="carol"), "allow")
    assert page.status == 302
    assert not wise.control.authorizations()[-1].claimed
    second = claim(client, carol.access_token).json["claimAccountCode"]
    assert visitor.visit(wise.authorize_url(**ASKED, claim_account_code=second)).text("who") == "carol"


def test_nobody_takes_over_the_account_of_another(
    wise: RunningWise, client: WiseClient, visitor: Visitor, carol: SeededUser, alice: SeededUser
) -> None:
    code = claim(client, carol.access_token).json["claimAccountCode"]
    page = visitor.visit(wise.authorize_url(**ASKED, claim_account_code=code))
    page = visitor.press(page, "allow", user="alice")
    assert (page.status, page.text("wrong")) == (400, "This account is not yours.")
    assert wise.control.authorizations() == []


def test_only_the_users_own_token_and_code_will_do(
    wise: RunningWise, client: WiseClient, carol: SeededUser, alice: SeededUser
) -> None:
    application = client.form({"grant_type": "client_credentials"}).json["access_token"]
    personal = wise.control.seed_personal_token("carol").token
    answers = [claim(client, token).status for token in (None, "fixture-unknown", carol.refresh_token)]
    assert answers == [401, 401, 401]
    assert [claim(client, token).status for token in (application, alice.access_token, personal)] == [403, 403, 403]
    assert claim(client, carol.access_token, "fixture-another-registration-code").status == 403
    assert claim(client, carol.access_token, None).json["errors"][0]["path"] == "registrationCode"
    wise.control.reclaim("carol")
    assert claim(client, carol.access_token).status == 403


def test_claim_may_be_lost_like_any_request(wise: RunningWise, client: WiseClient, carol: SeededUser) -> None:
    wise.control.fail_next(status=503, endpoint=Endpoint.CLAIM, user="carol")
    wise.control.drop_without_carrying_out(endpoint=Endpoint.CLAIM)
    assert claim(client, carol.access_token).status == 503
    with pytest.raises(OSError, match=r".*"):
        claim(client, carol.access_token)
    assert claim(client, carol.access_token).status == 200
