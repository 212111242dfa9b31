"""How an existing user lets the partner in: the page, the redirect, the code and what it is exchanged for.

Pages: [accounts] docs.wise.com/guides/product/kyc/partner-kyc/accessing-accounts, [token]
docs.wise.com/api-reference/oauth-token/oauthtokencreate, [refreshing]
docs.wise.com/guides/product/account-setup/refreshing-access.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from local.wise.control import SeededUser, WiseControlError
from local.wise.running import RunningWise
from local.wise.truth import Consent, Death, Kind
from local.wise.users import ProfileType, WiseUser
from local.wise.visitor import Page, Visitor
from tests.wise.client import CLIENT, Reply, WiseClient

CALLBACK = "https://partner.example.com/wise/callback"
STATE = "fixture-state"
ASKED = {"client_id": CLIENT[0], "redirect_uri": CALLBACK, "state": STATE}


@pytest.fixture
def visitor(wise: RunningWise) -> Visitor:
    return Visitor(wise.ca_file)


@pytest.fixture
def bob(wise: RunningWise) -> WiseUser:
    """Somebody with two profiles who has not let us in yet."""
    return wise.control.put_user("bob", profiles=[ProfileType.PERSONAL, ProfileType.BUSINESS])


def consent(wise: RunningWise, user: str, **more: int) -> str:
    location = wise.control.authorize(user, redirect_uri=CALLBACK, state=STATE, **more)
    return dict(parse_qsl(urlsplit(location).query))["code"]


def exchange(client: WiseClient, code: str, /, **changes: str) -> Reply:
    fields = {"grant_type": "authorization_code", "client_id": CLIENT[0], "code": code, "redirect_uri": CALLBACK}
    return client.form({name: value for name, value in {**fields, **changes}.items() if value})


def test_user_logs_in_chooses_a_profile_and_is_sent_back_with_a_code(
    wise: RunningWise, client: WiseClient, visitor: Visitor, bob: WiseUser
) -> None:
    business = bob.profiles[1]
    page = visitor.visit(wise.authorize_url(**ASKED))
    assert (page.status, page.text("h1")) == (200, "Log in to Wise")
    page = visitor.press(page, "login", user=bob.email)
    assert (page.status, page.text("h1"), page.text("who")) == (200, "Allow access to your Wise account?", "bob")
    assert f'value="{business.id}"> bob, business' in page.html
    page = visitor.press(page, "allow", profile_id=str(business.id))
    assert page.status == 302
    assert page.location is not None
    assert page.location.startswith(f"{CALLBACK}?")
    # [accounts]: the redirect has code, state and profileId.
    told = page.query()
    assert list(told) == ["code", "profileId", "state"]
    assert (told["profileId"], told["state"]) == (str(business.id), STATE)
    reply = exchange(client, told["code"])
    assert reply.status == 200
    assert client.me(reply.json["access_token"]).json["id"] == bob.wise_user_id
    assert client.refresh(reply.json["refresh_token"]).status == 200


@pytest.mark.parametrize("path", ["/oauth/authorize", "/oauth/authorize/"])
def test_pages_are_plain_and_nobody_may_keep_or_frame_them(client: WiseClient, path: str) -> None:
    reply = client.send("GET", f"{path}?client_id={CLIENT[0]}&redirect_uri={CALLBACK}&state={STATE}")
    html = reply.body.decode()
    assert reply.status == 200
    assert '<html lang="en">' in html
    assert html.count("<h1>") == 1
    assert "<script" not in html
    assert reply.headers["content-type"] == "text/html;charset=UTF-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert (reply.headers["cache-control"], reply.headers["referrer-policy"]) == ("no-store", "no-referrer")


def test_what_comes_from_outside_stays_text(wise: RunningWise, visitor: Visitor) -> None:
    state = '"><script>alert(1)</script>'
    wise.control.put_user("<b>mallory</b>")
    page = visitor.visit(wise.authorize_url(**{**ASKED, "state": state}))
    assert "<script>" not in page.html
    page = visitor.press(page, "login", user="<b>mallory</b>")
    assert "<b>" not in page.html
    assert visitor.press(page, "allow").query()["state"] == state


def test_refusal_is_sent_back_as_an_error_with_the_state(wise: RunningWise, visitor: Visitor, bob: WiseUser) -> None:
    page = visitor.authorize(wise.authorize_url(**ASKED), "bob", refuse=True)
    assert page.status == 302
    assert page.query() == {"error": "access_denied", "error_description": "User denied access", "state": STATE}
    [visit] = wise.control.authorizations()
    assert (visit.consent, visit.user, visit.code_sha256) == (Consent.REFUSED, "bob", None)


def test_without_a_state_none_comes_back(wise: RunningWise, visitor: Visitor, bob: WiseUser) -> None:
    page = visitor.authorize(wise.authorize_url(client_id=CLIENT[0], redirect_uri=CALLBACK), "bob")
    assert list(page.query()) == ["code", "profileId"]


def test_query_of_the_redirect_uri_is_kept(wise: RunningWise, visitor: Visitor, bob: WiseUser) -> None:
    callback = f"{CALLBACK}?tenant=acme"
    wise.control.change_settings(redirect_uris=[callback])
    page = visitor.authorize(wise.authorize_url(**{**ASKED, "redirect_uri": callback}), "bob")
    assert list(page.query()) == ["tenant", "code", "profileId", "state"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"redirect_uri": f"{CALLBACK}/"}, Consent.UNKNOWN_REDIRECT_URI),
        ({"redirect_uri": f"{CALLBACK}?tenant=acme"}, Consent.UNKNOWN_REDIRECT_URI),
        ({"redirect_uri": ""}, Consent.UNKNOWN_REDIRECT_URI),
        ({"client_id": "somebody-else"}, Consent.UNKNOWN_CLIENT),
    ],
)
def test_unregistered_addresses_and_clients_end_on_a_page_of_wises(
    wise: RunningWise, visitor: Visitor, bob: WiseUser, changes: dict[str, str], why: Consent
) -> None:
    # [accounts]: an error page, and no redirect.
    for user in ({}, {"user": "bob"}):
        page = visitor.visit(wise.authorize_url(**{**ASKED, **changes, **user}))
        assert (page.status, page.location, page.text("h1")) == (400, None, "This link does not work")
    for visit in wise.control.authorizations():
        assert (visit.consent, visit.user, visit.code_sha256) == (why, None, None)


def test_nobody_logs_in_as_somebody_unknown_or_deactivated(wise: RunningWise, visitor: Visitor, bob: WiseUser) -> None:
    wise.control.deactivate("bob")
    for name in ("bob", bob.email, "nobody"):
        page = visitor.press(visitor.visit(wise.authorize_url(**ASKED)), "login", user=name)
        assert (page.status, page.text("wrong")) == (400, "Nobody of this name can log in.")
    wise.control.activate("bob")
    assert visitor.authorize(wise.authorize_url(**ASKED), "bob").status == 302


def test_nobody_gives_away_the_profile_of_another(
    wise: RunningWise, visitor: Visitor, bob: WiseUser, alice: SeededUser
) -> None:
    page = visitor.authorize(wise.authorize_url(**ASKED), "bob", profile_id=alice.profile_id)
    assert (page.status, page.location) == (400, None)
    with pytest.raises(WiseControlError, match="400: profile_id: must be one of the user's"):
        wise.control.authorize("bob", redirect_uri=CALLBACK, profile_id=alice.profile_id)


def test_user_without_a_profile_is_sent_back_without_its_id(wise: RunningWise, visitor: Visitor) -> None:
    # [accounts]: a linked account may lack a profile.
    wise.control.put_user("carol", profiles=[])
    assert list(visitor.authorize(wise.authorize_url(**ASKED), "carol").query()) == ["code", "state"]


def test_code_is_answered_with_all_nine_fields(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    reply = exchange(client, consent(wise, "bob"))
    # As [token] shows them.
    assert sorted(reply.json) == [
        "access_token",
        "created_at",
        "expires_at",
        "expires_in",
        "refresh_token",
        "refresh_token_expires_at",
        "refresh_token_expires_in",
        "scope",
        "token_type",
    ]
    assert (reply.json["expires_in"], reply.headers["cache-control"]) == (43_199, "no-store")
    [request] = wise.control.requests()
    assert (request.grant_type, request.user, request.outcome) == ("authorization_code", "bob", "granted")
    assert (request.carried_out, request.access_ordinal, request.refresh_ordinal) == (True, 1, 1)
    assert {token.minted_by_request for token in wise.control.tokens("bob")} == {request.id}


def test_code_is_good_once(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    code = consent(wise, "bob")
    first, second = exchange(client, code), exchange(client, code)
    assert (first.status, second.status) == (200, 400)
    assert second.json == {"error": "invalid_grant", "error_description": "Invalid authorization code"}
    assert client.me(first.json["access_token"]).status == 200, "the second exchange changed nothing"
    assert [request.user for request in wise.control.requests()] == ["bob", "bob"]


def test_code_is_good_for_half_an_hour(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    early, late = consent(wise, "bob"), consent(wise, "bob")
    wise.control.advance_clock(1_790)
    assert exchange(client, early).status == 200
    wise.control.advance_clock(11)
    assert (exchange(client, late).status, wise.control.requests()[-1].outcome) == (400, "invalid_grant")


def test_code_that_came_with_another_redirect_uri_is_lost(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    code = consent(wise, "bob")
    reply = exchange(client, code, redirect_uri=f"{CALLBACK}/")
    assert (reply.status, reply.json["error_description"]) == (400, "Redirect URI mismatch.")
    assert exchange(client, code).json["error_description"] == "Invalid authorization code"


def test_code_needs_our_client_and_survives_its_absence(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    code = consent(wise, "bob")
    fields = {"grant_type": "authorization_code", "client_id": CLIENT[0], "code": code, "redirect_uri": CALLBACK}
    assert client.form(fields, client=None).status == 401
    assert client.form(fields, client=(CLIENT[0], "fixture-wrong-secret")).json["error"] == "invalid_client"
    assert client.form({**fields, "client_id": "somebody-else"}).status == 401
    assert client.form(fields).status == 200


@pytest.mark.parametrize("missing", ["client_id", "code", "redirect_uri"])
def test_every_parameter_is_required(wise: RunningWise, client: WiseClient, bob: WiseUser, missing: str) -> None:
    code = consent(wise, "bob")
    reply = exchange(client, code, **{missing: ""})
    assert (reply.status, reply.json["error"]) == (400, "invalid_request")
    assert exchange(client, code).status == 200


@pytest.mark.parametrize("status", [400, 401, 403])
def test_status_of_a_bad_code_is_a_setting(wise: RunningWise, client: WiseClient, status: int) -> None:
    wise.control.change_settings(bad_code_status=status)
    reply = exchange(client, "fixture-unknown-code")
    assert (reply.status, reply.json["error"]) == (status, "invalid_grant")


def test_new_link_ends_the_old_refresh_token_and_leaves_the_last_access_token(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    # So says [refreshing].
    fresh = exchange(client, consent(wise, "alice")).json
    assert client.refresh(alice.refresh_token).json["error"] == "invalid_grant"
    assert client.me(alice.access_token).status == 200
    after = client.refresh(fresh["refresh_token"]).json["access_token"]
    tokens = (alice.access_token, fresh["access_token"], after)
    assert [client.me(token).status for token in tokens] == [401, 401, 200]
    [dead] = [token for token in wise.control.tokens("alice") if token.killed_by is Death.NEW_GRANT]
    assert (dead.kind, dead.killed_by_request) == (Kind.REFRESH, wise.control.requests()[0].id)


@pytest.mark.parametrize("coexist", [False, True])
def test_grants_for_two_profiles_of_a_user_may_live_side_by_side(
    wise: RunningWise, client: WiseClient, bob: WiseUser, *, coexist: bool
) -> None:
    wise.control.change_settings(profiles_coexist=coexist)
    personal, business = (
        exchange(client, consent(wise, "bob", profile_id=profile.id)).json for profile in bob.profiles
    )
    assert client.refresh(business["refresh_token"]).status == 200
    assert client.me(personal["access_token"]).status == (200 if coexist else 401)
    assert client.refresh(personal["refresh_token"]).status == (200 if coexist else 400)
    profiles = [token.profile_id for token in wise.control.tokens("bob") if token.kind is Kind.REFRESH]
    assert profiles == [profile.id for profile in bob.profiles]


def test_new_link_may_return_the_access_token_that_lives_already(wise: RunningWise, client: WiseClient) -> None:
    wise.control.change_settings(new_grant_keeps_access_token=True)
    alice = wise.control.seed_user("alice", age_s=3_600)
    fields = exchange(client, consent(wise, "alice")).json
    assert fields["access_token"] == alice.access_token
    assert fields["refresh_token"] != alice.refresh_token
    assert 39_580 < fields["expires_in"] < 39_600
    wise.control.revoke("alice")
    assert exchange(client, consent(wise, "alice")).json["expires_in"] == 43_199


def test_token_shows_the_profile_that_it_is_good_for(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    # docs.wise.com/api-reference/profile/profilelist
    business = bob.profiles[1]
    token = exchange(client, consent(wise, "bob", profile_id=business.id)).json["access_token"]
    for path in ("/v1/profiles", "/v2/profiles", "/2026Q4/profiles"):
        reply = client.me(token, path=path)
        assert reply.status == 200
        assert reply.json == [
            {"id": business.id, "userId": bob.wise_user_id, "type": "BUSINESS", "fullName": "bob, business"}
        ]
    assert client.me("fixture-dead-token", path="/v2/profiles").json["error"] == "invalid_token"
    assert client.me(None, path="/v2/profiles").status == 401


def test_visit_and_code_are_told_by_hash(wise: RunningWise, client: WiseClient, bob: WiseUser) -> None:
    code = consent(wise, "bob")
    seen = wise.control.truth().seq
    [visit] = wise.control.authorizations()
    assert (visit.consent, visit.user, visit.profile_id) == (Consent.GIVEN, "bob", bob.profiles[0].id)
    assert (visit.redirect_uri, visit.code_spent_by_request) == (CALLBACK, None)
    assert visit.state_sha256 == hashlib.sha256(STATE.encode()).hexdigest()
    assert visit.code_sha256 == hashlib.sha256(code.encode()).hexdigest()
    assert re.search(f"{code}|{STATE}", str(wise.control.truth())) is None
    exchange(client, code)
    [visit] = wise.control.truth().authorizations
    assert visit.code_spent_by_request == wise.control.requests()[0].id
    assert wise.control.authorizations(since=seen) == []
    assert wise.control.authorizations(user="alice") == []


def test_exchange_that_is_lost_on_its_way_has_used_the_code_up(
    wise: RunningWise, client: WiseClient, bob: WiseUser
) -> None:
    code = consent(wise, "bob")
    wise.control.drop_after_carrying_out(user="bob")
    with pytest.raises(ConnectionError):
        exchange(client, code)
    assert exchange(client, code).json["error"] == "invalid_grant"
    [first, _] = wise.control.requests()
    assert (first.carried_out, first.delivered, first.fault) == (True, False, "fault-1")


def test_page_without_that_button_is_no_way_on(wise: RunningWise, visitor: Visitor) -> None:
    page: Page = visitor.visit(wise.authorize_url(**ASKED))
    with pytest.raises(LookupError, match="no button allow"):
        visitor.press(page, "allow")
    with pytest.raises(LookupError, match="no redirect"):
        visitor.follow(page)
