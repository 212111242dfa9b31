"""The emulator's answers against what Wise's pages show. Each golden body names its page.

Pages: [token] docs.wise.com/api-reference/oauth-token/oauthtokencreate, [errors]
docs.wise.com/guides/developer/errors, [old errors] api-docs.wise.com/features/errors, [version]
docs.wise.com/guides/developer/global-versioning, [correlation] docs.wise.com/guides/developer/headers/correlation-id.
Undocumented answers are switchable; their defaults are in Spring Security OAuth 2's words.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable

import pytest

from local.wise.control import SeededUser
from local.wise.running import RunningWise, running_wise
from local.wise.settings import Json
from tests.wise.client import CLIENT, FORM, Reply, WiseClient, basic

NINE_FIELDS = [
    "access_token",
    "token_type",
    "refresh_token",
    "expires_in",
    "expires_at",
    "refresh_token_expires_in",
    "refresh_token_expires_at",
    "scope",
    "created_at",
]


class TickingClock:
    """Stands still but for a millisecond per look."""

    def __init__(self, at: str) -> None:
        self.set(at)

    def set(self, at: str) -> None:
        self._ns = round(dt.datetime.fromisoformat(at).timestamp() * 1000) * 1_000_000

    def __call__(self) -> int:
        self._ns += 1_000_000
        return self._ns


def test_refresh_answers_as_the_example_of_the_token_page() -> None:
    # [token]: granted 2025-03-12 for 7,305 days, refreshed 29 days later.
    clock = TickingClock("2025-03-12T13:49:23.551+00:00")
    with running_wise(wall_ns=clock) as wise:
        granted = wise.state.seed("alice")
        clock.set("2025-04-10T15:43:28.000+00:00")
        while wise.state.clock()[0] < 1744299808136:  # a few looks before .148
            pass
        fields = WiseClient(wise).refresh(granted.refresh_token).json
    assert fields["expires_in"] == 43199
    assert fields["refresh_token_expires_in"] == 628639555
    assert fields["refresh_token_expires_at"] == "2045-03-12T13:49:23.552Z"
    assert re.fullmatch(r"2025-04-11T03:43:28\.1\d\dZ", fields["expires_at"])
    assert re.fullmatch(r"2025-04-10T15:43:28\.1\d{4}Z", fields["created_at"])
    assert list(fields) == NINE_FIELDS
    assert (fields["token_type"], fields["scope"]) == ("bearer", "transfers")


def test_refresh_answers_compact_json_that_nobody_may_store(client: WiseClient, alice: SeededUser) -> None:
    reply = client.refresh(alice.refresh_token)
    assert reply.status == 200
    assert reply.body == json.dumps(reply.json, separators=(",", ":")).encode()
    assert reply.headers["content-type"] == "application/json;charset=UTF-8"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["pragma"] == "no-cache"
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(uuid, reply.json["access_token"])
    assert re.fullmatch(uuid, reply.json["refresh_token"])


@pytest.mark.parametrize(
    ("digits", "form"),
    [(0, r":\d\dZ"), (3, r"\.\d{3}Z"), (5, r"\.\d{5}Z"), (6, r"\.\d{6}Z"), (9, r"\.\d{9}Z")],
)
def test_created_at_has_as_many_digits_as_set(
    wise: RunningWise, client: WiseClient, alice: SeededUser, digits: int, form: str
) -> None:
    wise.control.change_settings(created_at_digits=digits)
    created_at = client.refresh(alice.refresh_token).json["created_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d" + (form if digits == 0 else r":\d\d" + form), created_at)


REFRESH = {"grant_type": "refresh_token", "refresh_token": "fixture-unknown-refresh-token"}
APPLICATION = {"grant_type": "client_credentials"}
FULL_AUTHENTICATION = "Full authentication is required to access this resource"


@pytest.mark.parametrize(
    ("settings", "fields", "client_used", "status", "error", "description"),
    [
        # [token] shows this body.
        ({}, {}, CLIENT, 400, "invalid_request", "Missing grant type"),
        ({}, {"grant_type": ""}, CLIENT, 400, "invalid_request", "Missing grant type"),
        # A refresh token that Wise does not know or no longer takes: [refresh-tokens] has the error.
        ({}, REFRESH, CLIENT, 400, "invalid_grant", "Invalid refresh token"),
        ({"unknown_refresh_status": 401}, REFRESH, CLIENT, 401, "invalid_grant", "Invalid refresh token"),
        ({"unknown_refresh_status": 403}, REFRESH, CLIENT, 403, "invalid_grant", "Invalid refresh token"),
        (
            {"echo_refresh_token": True},
            REFRESH,
            CLIENT,
            400,
            "invalid_grant",
            "Invalid refresh token: fixture-unknown-refresh-token",
        ),
        # Unknown grant types, and missing parameters.
        ({}, {"grant_type": "password"}, CLIENT, 400, "unsupported_grant_type", "Unsupported grant type"),
        ({"unsupported_grant_status": 401}, {"grant_type": "x"}, CLIENT, 401, "unsupported_grant_type", None),
        ({}, {"grant_type": "refresh_token"}, CLIENT, 400, "invalid_request", "Missing refresh token"),
        ({}, {"grant_type": "refresh_token", "refresh_token": ""}, CLIENT, 400, "invalid_request", None),
        ({"missing_parameter_status": 422}, {"grant_type": "refresh_token"}, CLIENT, 422, "invalid_request", None),
        # [old errors] has these words for a request without credentials.
        ({}, REFRESH, None, 401, "unauthorized", FULL_AUTHENTICATION),
        ({"no_client_status": 403}, REFRESH, None, 403, "unauthorized", FULL_AUTHENTICATION),
        # The wrong client.
        ({}, APPLICATION, ("emulator-client-id", "wrong"), 401, "invalid_client", "Bad client credentials"),
        ({}, APPLICATION, None, 401, "unauthorized", FULL_AUTHENTICATION),
        ({}, REFRESH, ("emulator-client-id", "wrong"), 401, "invalid_client", "Bad client credentials"),
        ({}, REFRESH, ("wrong", "emulator-client-secret"), 401, "invalid_client", "Bad client credentials"),
        (
            {"wrong_client_error": "unauthorized"},
            REFRESH,
            ("wrong", "emulator-client-secret"),
            401,
            "unauthorized",
            "Bad credentials",
        ),
        ({"wrong_client_status": 400}, REFRESH, ("x", "y"), 400, "invalid_client", None),
        (
            {},
            {**REFRESH, "client_id": "another"},
            CLIENT,
            401,
            "invalid_client",
            "Given client ID does not match authenticated client",
        ),
        # Grant types of Wise's that this client may not use.
        (
            {"client_credentials_allowed": False},
            {"grant_type": "client_credentials"},
            CLIENT,
            401,
            "invalid_client",
            "Unauthorized grant type",
        ),
        (
            {"registration_code_allowed": False},
            {"grant_type": "registration_code"},
            CLIENT,
            401,
            "invalid_client",
            "Unauthorized grant type",
        ),
        (
            {"authorization_code_allowed": False},
            {"grant_type": "authorization_code"},
            CLIENT,
            401,
            "invalid_client",
            "Unauthorized grant type",
        ),
        (
            {
                "client_credentials_allowed": False,
                "refused_grant_error": "unauthorized_client",
                "refused_grant_status": 400,
            },
            {"grant_type": "client_credentials"},
            CLIENT,
            400,
            "unauthorized_client",
            "Unauthorized grant type",
        ),
    ],
)
def test_token_endpoint_refuses(  # noqa: PLR0917  (the columns of the table)
    wise: RunningWise,
    client: WiseClient,
    alice: SeededUser,
    settings: dict[str, Json],
    fields: dict[str, str],
    client_used: tuple[str, str] | None,
    status: int,
    error: str,
    description: str | None,
) -> None:
    wise.control.change_settings(**settings)
    reply = client.form(fields, client=client_used)
    assert reply.status == status
    assert list(reply.json) == ["error", "error_description"]
    assert reply.json["error"] == error
    assert description is None or reply.json["error_description"] == description
    assert reply.headers["cache-control"] == "no-store"
    assert client.me(alice.access_token).status == 200, "nothing happened to the grants"


def test_expired_refresh_token_is_an_invalid_grant(wise: RunningWise, client: WiseClient) -> None:
    bob = wise.control.seed_user("bob", refresh_token_lifetime_s=100, age_s=101)
    reply = client.refresh(bob.refresh_token)
    assert (reply.status, reply.json["error"]) == (400, "invalid_grant")
    assert client.me(bob.access_token).status == 200


def test_expired_refresh_token_takes_the_access_token_with_it_when_so_set(
    wise: RunningWise, client: WiseClient
) -> None:
    wise.control.change_settings(expired_refresh="invalid_token")
    bob = wise.control.seed_user("bob", refresh_token_lifetime_s=100, age_s=101)
    reply = client.refresh(bob.refresh_token)
    assert reply.status == 401
    assert reply.json == {"error": "invalid_token", "error_description": "Invalid refresh token (expired)"}
    assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert client.me(bob.access_token).status == 401


@pytest.mark.parametrize("broken", ["Basic !!!", "Basic " + "w7w=" * 3 + "=", "Basic", "basic " + "Og=="])
def test_unreadable_basic_credentials_are_a_wrong_client(client: WiseClient, alice: SeededUser, broken: str) -> None:
    body = f"grant_type=refresh_token&refresh_token={alice.refresh_token}"
    reply = client.send("POST", "/oauth/token", body, {"Content-Type": FORM, "Authorization": broken})
    assert (reply.status, reply.json["error"]) == (401, "invalid_client")


def test_bearer_authentication_at_the_token_endpoint_is_no_client(client: WiseClient, alice: SeededUser) -> None:
    headers = {"Content-Type": FORM, "Authorization": f"Bearer {alice.access_token}"}
    reply = client.send("POST", "/oauth/token", "grant_type=refresh_token", headers)
    assert (reply.status, reply.json["error"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Basic")


def _json_body(token: str) -> tuple[str, str]:
    return "application/json", json.dumps({"grant_type": "refresh_token", "refresh_token": token})


def _multipart_body(token: str) -> tuple[str, str]:
    fields = {"grant_type": "refresh_token", "refresh_token": token}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    return "multipart/form-data; boundary=b", "".join([*parts, "--b--\r\n"])


@pytest.mark.parametrize("make_body", [_json_body, _multipart_body])
@pytest.mark.parametrize("status", [400, 415])
def test_body_that_is_no_form_counts_as_without_a_grant_type(
    wise: RunningWise,
    client: WiseClient,
    alice: SeededUser,
    make_body: Callable[[str], tuple[str, str]],
    status: int,
) -> None:
    wise.control.change_settings(foreign_body_status=status)
    content_type, body = make_body(alice.refresh_token)
    headers = {"Content-Type": content_type, "Authorization": basic(*CLIENT)}
    reply = client.send("POST", "/oauth/token", body, headers)
    assert reply.status == status
    assert reply.json == {"error": "invalid_request", "error_description": "Missing grant type"}
    assert client.me(alice.access_token).status == 200


def test_parameters_in_the_query_are_not_seen(client: WiseClient, alice: SeededUser) -> None:
    path = f"/oauth/token?grant_type=refresh_token&refresh_token={alice.refresh_token}"
    reply = client.form({}, path=path)
    assert (reply.status, reply.json["error_description"]) == (400, "Missing grant type")


def test_form_without_a_body_has_no_grant_type(client: WiseClient) -> None:
    reply = client.send("POST", "/oauth/token", None, {"Authorization": basic(*CLIENT)})
    assert (reply.status, reply.json["error_description"]) == (400, "Missing grant type")


def test_me_answers_with_the_user(client: WiseClient, alice: SeededUser) -> None:
    reply = client.me(alice.access_token)
    assert reply.status == 200
    assert reply.json == {
        "id": alice.wise_user_id,
        "name": "alice",
        "email": f"user-{alice.wise_user_id}@example.com",
        "active": True,
        "details": None,
    }


def test_me_echoes_a_dead_token_in_its_error(client: WiseClient, alice: SeededUser) -> None:
    client.refresh(alice.refresh_token)
    reply = client.me(alice.access_token)
    assert reply.status == 401
    # [errors]: the description of the example is a token.
    assert reply.body.decode() == f'{{"error":"invalid_token","error_description":"{alice.access_token}"}}'
    assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_me_echoes_a_token_that_was_never_issued(client: WiseClient) -> None:
    reply = client.me("fixture-token-of-nobody")
    assert (reply.status, reply.json["error_description"]) == (401, "fixture-token-of-nobody")


def test_me_takes_no_refresh_token(client: WiseClient, alice: SeededUser) -> None:
    assert client.me(alice.refresh_token).status == 401


@pytest.mark.parametrize("header", [None, "Basic eA==", "Bearer", "Bearer "])
def test_me_without_a_bearer_token_wants_full_authentication(client: WiseClient, header: str | None) -> None:
    reply = client.send("GET", "/v1/me", None, {} if header is None else {"Authorization": header})
    assert reply.status == 401
    # [old errors]
    golden = '{"error":"unauthorized","error_description":"Full authentication is required to access this resource"}'
    assert reply.body.decode() == golden


@pytest.mark.parametrize(
    ("token_path", "me_path"),
    [("/oauth/token", "/v1/me"), ("/2026Q4/oauth/token", "/2026Q4/me"), ("/2027Q1/oauth/token", "/2027Q1/me")],
)
def test_both_forms_of_a_path_lead_to_the_same_wise(
    client: WiseClient, alice: SeededUser, token_path: str, me_path: str
) -> None:
    reply = client.refresh(alice.refresh_token, path=token_path)
    assert reply.status == 200
    assert client.me(reply.json["access_token"], path=me_path).status == 200
    assert client.me(alice.access_token, path=me_path).status == 401


@pytest.mark.parametrize(
    "path",
    ["/", "/me", "/2026Q4/v1/me", "/2019Q1/me", "/2026Q5/me", "/2026Q4", "/v1/me/", "/oauth/token/x", "//v1/me"],
)
def test_other_paths_are_not_there(client: WiseClient, alice: SeededUser, path: str) -> None:
    reply = client.me(alice.access_token, path=path)
    assert reply.status == 404
    assert (reply.json["status"], reply.json["error"], reply.json["path"]) == (404, "Not Found", path)


def test_quarters_are_a_setting(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.change_settings(quarters=["2027Q2"])
    assert client.me(alice.access_token, path="/2027Q2/me").status == 200
    assert client.me(alice.access_token, path="/2026Q4/me").status == 404
    assert client.me(alice.access_token).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/oauth/token", "POST"), ("PUT", "/2026Q4/oauth/token", "POST"), ("POST", "/v1/me", "GET")],
)
def test_other_methods_are_not_allowed(client: WiseClient, method: str, path: str, allowed: str) -> None:
    reply = client.send(method, path, None, {"Authorization": basic(*CLIENT)})
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert reply.json["error"] == "method_not_allowed"


def _all_kinds_of_replies(client: WiseClient, alice: SeededUser, headers: dict[str, str]) -> list[Reply]:
    return [
        client.refresh(alice.refresh_token, headers=headers),
        client.refresh("fixture-unknown-refresh-token", headers=headers),
        client.refresh(alice.refresh_token, client=None, headers=headers),
        client.me("fixture-token-of-nobody", headers=headers),
        client.me(alice.access_token, path="/nowhere", headers=headers),
    ]


def test_every_answer_has_a_trace_id_of_its_own(client: WiseClient, alice: SeededUser) -> None:
    replies = _all_kinds_of_replies(client, alice, {})
    traces = {reply.headers["x-trace-id"] for reply in replies}
    assert len(traces) == len(replies)
    assert all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces)
    assert not any("x-external-correlation-id" in reply.headers for reply in replies)


def test_correlation_id_comes_back_unless_it_is_too_long(client: WiseClient, alice: SeededUser) -> None:
    # [correlation]: at most 36 characters, longer values are ignored.
    for reply in _all_kinds_of_replies(client, alice, {"X-External-Correlation-Id": "c" * 36}):
        assert reply.headers["x-external-correlation-id"] == "c" * 36
    for reply in _all_kinds_of_replies(client, alice, {"X-External-Correlation-Id": "c" * 37}):
        assert "x-external-correlation-id" not in reply.headers


def test_connections_are_kept_alive(client: WiseClient, alice: SeededUser) -> None:
    with client.kept_alive():
        first = client.me(alice.access_token)
        fresh = client.refresh(alice.refresh_token).json["access_token"]
        assert (first.status, client.me(fresh).status, client.me(alice.access_token).status) == (200, 200, 401)
