"""How the partner makes a user, gets tokens for them by the registration code, and when that ends.

Pages: [create] docs.wise.com/api-reference/user/usercreate, [errors] docs.wise.com/guides/developer/errors/users,
[token] docs.wise.com/api-reference/oauth-token/oauthtokencreate, [refreshing]
docs.wise.com/guides/product/account-setup/refreshing-access.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from local.wise.control import SeededUser, WiseControlError
from local.wise.faults import Endpoint
from local.wise.running import RunningWise
from local.wise.truth import Death
from local.wise.users import ProfileType
from tests.wise.client import CLIENT, Reply, WiseClient

PATH = "/v1/user/signup/registration_code"
EMAIL = "carol@example.com"
CODE = "fixture-registration-code-of-carol"


def application_token(client: WiseClient) -> str:
    return str(client.form({"grant_type": "client_credentials"}).json["access_token"])


def sign_up(client: WiseClient, token: str | None, path: str = PATH, **changes: str | None) -> Reply:
    fields = {"email": EMAIL, "registrationCode": CODE, **changes}
    body = json.dumps({name: value for name, value in fields.items() if value is not None})
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return client.send("POST", path, body, headers)


def register(client: WiseClient, **changes: str) -> Reply:
    fields = {"grant_type": "registration_code", "client_id": CLIENT[0], "email": EMAIL, "registration_code": CODE}
    return client.form({name: value for name, value in {**fields, **changes}.items() if value})


@pytest.fixture
def carol(client: WiseClient) -> None:
    assert sign_up(client, application_token(client)).status == 200


@pytest.mark.parametrize("path", [PATH, "/2026Q4/user/signup/registration_code"])
def test_partner_makes_a_user_and_gets_tokens_for_them(wise: RunningWise, client: WiseClient, path: str) -> None:
    reply = sign_up(client, application_token(client), path)
    [user] = wise.control.users()
    assert reply.status == 200
    # The fields of [create]; there is no name yet.
    assert reply.json == {"id": user.wise_user_id, "name": None, "email": EMAIL, "active": True, "details": None}
    assert (user.user, user.email, user.profiles, user.by_partner, user.reclaimed) == (EMAIL, EMAIL, (), True, False)
    fields = register(client).json
    assert len(fields) == 9
    assert client.me(fields["access_token"]).json["id"] == user.wise_user_id
    assert client.refresh(fields["refresh_token"]).status == 200
    request = wise.control.requests()[1]
    assert (request.grant_type, request.user, request.outcome) == ("registration_code", EMAIL, "granted")


@pytest.mark.parametrize(
    ("changes", "status", "code", "path"),
    [
        ({"email": None}, 400, "NotNull", "email"),
        ({"registrationCode": None}, 400, "NotNull", "registrationCode"),
        ({"registrationCode": "x" * 31}, 400, "Size", "registrationCode"),
        ({"email": "carol"}, 422, "Email", "email"),
        ({"email": "alice@example.com"}, 409, "NOT_UNIQUE", "email"),
        ({"email": "Alice@Example.com"}, 409, "NOT_UNIQUE", "email"),
    ],
)
def test_sign_up_is_refused_with_the_field(  # noqa: PLR0917  (columns)
    wise: RunningWise, client: WiseClient, changes: dict[str, str | None], status: int, code: str, path: str
) -> None:
    wise.control.put_user("alice", email="alice@example.com")
    reply = sign_up(client, application_token(client), **changes)
    [error] = reply.json["errors"]
    assert (reply.status, error["code"], error["path"]) == (status, code, path)
    [told] = wise.control.signups()
    assert (told.outcome, told.status) == (code, status)
    assert [user.user for user in wise.control.users()] == ["alice"]


@pytest.mark.parametrize("path", ["/v1/users/exists", "/2026Q4/users/exists"])
def test_partner_may_ask_whether_an_address_is_taken(
    wise: RunningWise, client: WiseClient, alice: SeededUser, carol: None, path: str
) -> None:
    def exists(token: str | None, body: str) -> Reply:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return client.send("POST", path, body, headers)

    token = application_token(client)
    for email, there in ((EMAIL, True), (EMAIL.upper(), True), ("dora@example.com", False)):
        assert exists(token, json.dumps({"email": email})).json == {"exists": there}
    assert exists(token, "{}").json["errors"][0]["code"] == "NotNull"
    assert [exists(one, "{}").status for one in (None, "fixture-unknown", alice.access_token)] == [401, 401, 403]
    wise.control.throttle(1, endpoint=Endpoint.EXISTS)
    assert (exists(token, "{}").status, exists(token, "{}").status) == (429, 400)


def test_taken_address_is_answered_word_for_word_and_half_hidden(wise: RunningWise, client: WiseClient) -> None:
    wise.control.put_user("mary", email="mary@wise.com")
    golden = {
        "code": "NOT_UNIQUE",
        "message": "You're already a member. Please login",
        "path": "email",
        "arguments": ["email", "ma********************@wise.com"],
    }
    assert sign_up(client, application_token(client), email="mary@wise.com").json == {"errors": [golden]}


def test_only_the_application_makes_users(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    statuses = [sign_up(client, token).status for token in (None, "fixture-dead-token", alice.access_token)]
    assert statuses == [401, 401, 403]
    token = application_token(client)
    wise.control.advance_clock(43_201)
    assert sign_up(client, token).status == 401
    assert [told.outcome for told in wise.control.signups()] == [
        "unauthorized",
        "invalid_token",
        "access_denied",
        "invalid_token",
    ]


@pytest.mark.parametrize("body", ["", "[]", "{", '{"email": 7, "registrationCode": []}'])
def test_body_without_fields_lacks_the_first_of_them(client: WiseClient, body: str) -> None:
    headers = {"Authorization": f"Bearer {application_token(client)}"}
    assert client.send("POST", PATH, body, headers).json["errors"][0]["path"] == "email"


def test_sign_up_may_be_lost_like_any_request(wise: RunningWise, client: WiseClient) -> None:
    token = application_token(client)
    fault = wise.control.fail_next(status=503, endpoint=Endpoint.SIGNUP)
    assert sign_up(client, token).status == 503
    assert wise.control.users() == []
    wise.control.fail_next(status=503, endpoint=Endpoint.SIGNUP, carry_out=True)
    assert sign_up(client, token).status == 503
    assert sign_up(client, token).status == 409
    told = [(signup.outcome, signup.fault, signup.user) for signup in wise.control.signups()]
    assert told == [
        ("not_carried_out", fault, None),
        ("created", "fault-2", EMAIL),
        ("NOT_UNIQUE", None, EMAIL),
    ]


def test_sign_up_is_told_without_the_code(wise: RunningWise, client: WiseClient, carol: None) -> None:
    [told] = wise.control.truth().signups
    assert told.code_sha256 == hashlib.sha256(CODE.encode()).hexdigest()
    assert CODE not in str(wise.control.truth())
    assert CODE not in str(wise.control.users())
    assert wise.control.signups(since=wise.control.truth().seq) == []


def test_registration_code_is_good_again_and_again(wise: RunningWise, client: WiseClient, carol: None) -> None:
    first = register(client).json
    second = register(client).json
    # So says [refreshing]: the old refresh token dies, the last access token lives on.
    assert client.refresh(first["refresh_token"]).json["error"] == "invalid_grant"
    assert client.me(first["access_token"]).status == 200
    wise.control.revoke(EMAIL)
    third = register(client)
    assert third.status == 200
    assert client.me(second["access_token"]).status == 401
    assert client.me(third.json["access_token"]).status == 200


@pytest.mark.parametrize(
    "changes",
    [{"registration_code": "fixture-registration-code-of-nobody"}, {"email": "carol@new.example.com"}],
)
def test_wrong_code_or_address_is_refused_word_for_word(
    wise: RunningWise, client: WiseClient, carol: None, changes: dict[str, str]
) -> None:
    reply = register(client, **changes)
    assert reply.status == 401
    assert reply.body.decode() == '{"error":"invalid_grant","error_description":"Invalid user credentials."}'
    assert wise.control.requests()[-1].user == EMAIL
    assert register(client).status == 200


@pytest.mark.parametrize("missing", ["client_id", "email", "registration_code"])
def test_every_parameter_is_required(client: WiseClient, carol: None, missing: str) -> None:
    reply = register(client, **{missing: ""})
    assert (reply.status, reply.json["error"]) == (400, "invalid_request")


def test_nobody_is_found_by_nothing(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    assert register(client).status == 401
    assert wise.control.requests()[-1].user is None


@pytest.mark.parametrize("status", [400, 401, 403])
def test_reclaimed_account_refuses_the_code_and_keeps_its_tokens(
    wise: RunningWise, client: WiseClient, carol: None, status: int
) -> None:
    fields = register(client).json
    wise.control.change_settings(registration_refused_status=status)
    wise.control.reclaim(EMAIL)
    reply = register(client)
    assert (reply.status, reply.json) == (
        status,
        {"error": "invalid_grant", "error_description": "Invalid user credentials."},
    )
    assert client.refresh(fields["refresh_token"]).status == 200
    assert wise.control.users()[0].reclaimed


def test_user_may_be_made_at_the_control_port(wise: RunningWise, client: WiseClient) -> None:
    user = wise.control.put_user("carol", email=EMAIL, registration_code=CODE, profiles=[ProfileType.BUSINESS])
    assert (user.by_partner, [profile.type for profile in user.profiles]) == (True, [ProfileType.BUSINESS])
    token = register(client).json["access_token"]
    [profile] = client.me(token, path="/v2/profiles").json
    assert (profile["id"], profile["type"]) == (user.profiles[0].id, "BUSINESS")
    wise.control.reclaim("carol")
    again = wise.control.put_user("carol", registration_code=CODE)
    assert (again.email, again.profiles, again.reclaimed) == (EMAIL, user.profiles, False)
    assert register(client).status == 200


def test_nonsense_about_users_is_refused_by_name(wise: RunningWise) -> None:
    wise.control.put_user("carol", email=EMAIL)
    refused: list[tuple[str, dict[str, object], str]] = [
        ("bob", {"email": EMAIL}, "email: must be nobody else's"),
        ("bob", {"registration_code": "short"}, "registration_code: must be at least 32 characters"),
        ("bob", {"profiles": ["SECRET"]}, "profiles: must be a list of PERSONAL, BUSINESS"),
        ("bob", {"profiles": [ProfileType.PERSONAL] * 11}, "profiles: must be at most 10"),
        ("", {}, "no such path"),
    ]
    for user, given, said in refused:
        with pytest.raises(WiseControlError, match=said):
            wise.control.put_user(user, **given)  # type: ignore[arg-type]
    assert [user.user for user in wise.control.users()] == ["carol"]
    with pytest.raises(WiseControlError, match="email: must be new"):
        wise.control.change_email("carol", EMAIL)
    with pytest.raises(WiseControlError, match="cause: must be one of revocation, enhanced_security"):
        wise.control.revoke("carol", Death.EXPIRY)
    with pytest.raises(WiseControlError, match="redirect_uri: must be one of the setting redirect_uris"):
        wise.control.authorize("carol", redirect_uri="https://partner.example.com/other")
    for call in (wise.control.reclaim, wise.control.deactivate, wise.control.activate):
        with pytest.raises(WiseControlError, match="404: no such user"):
            call("nobody")
