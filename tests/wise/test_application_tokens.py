"""The application's own tokens (``client_credentials``): their form, their life, and what they are no good for.

Pages: [token] docs.wise.com/api-reference/oauth-token/oauthtokencreate, [migration]
docs.wise.com/guides/developer/auth-and-security/client-credentials-token-migration.
"""

from __future__ import annotations

import re
from random import Random

import pytest

from local.wise.control import SeededUser
from local.wise.running import RunningWise, running_wise
from local.wise.settings import ApplicationTokenFormat, WiseSettings
from local.wise.tokens import new_application_token
from local.wise.truth import Death, Kind, TokenTruth, Verdict
from tests.wise.client import CLIENT, WiseClient

APPLICATION = {"grant_type": "client_credentials"}
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
FIVE_PARTS = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){4}"


def issue(client: WiseClient) -> str:
    reply = client.form(APPLICATION)
    assert reply.status == 200
    return str(reply.json["access_token"])


def application_tokens(wise: RunningWise) -> list[TokenTruth]:
    return [token for token in wise.control.tokens() if token.kind is Kind.APPLICATION]


@pytest.mark.parametrize("path", ["/oauth/token", "/2026Q4/oauth/token"])
def test_answer_has_five_fields_and_nothing_to_refresh(client: WiseClient, path: str) -> None:
    # [token]: only user grants come with a refresh token and ``created_at``.
    reply = client.form(APPLICATION, path=path)
    assert reply.status == 200
    assert list(reply.json) == ["access_token", "token_type", "expires_in", "expires_at", "scope"]
    assert (reply.json["token_type"], reply.json["expires_in"], reply.json["scope"]) == ("bearer", 43199, "transfers")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", reply.json["expires_at"])
    assert (reply.headers["cache-control"], reply.headers["pragma"]) == ("no-store", "no-cache")
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-trace-id"])


@pytest.mark.parametrize(("token_format", "form"), [("uuid", UUID), ("jwe", FIVE_PARTS), ("long", FIVE_PARTS)])
def test_format_is_a_setting(wise: RunningWise, client: WiseClient, token_format: str, form: str) -> None:
    wise.control.change_settings(application_token_format=token_format)
    token = issue(client)
    assert re.fullmatch(form, token)
    assert len(token) == {"uuid": 36, "jwe": 800, "long": 8_000}[token_format]


def test_both_formats_come_by_default() -> None:
    random = Random(1)  # noqa: S311  (repeatable, not secret)
    lengths = {len(new_application_token(WiseSettings().application_token_format, random)) for _ in range(30)}
    assert WiseSettings().application_token_format is ApplicationTokenFormat.MIX
    assert lengths == {36, 800}


def test_earlier_tokens_stay_valid(wise: RunningWise, client: WiseClient) -> None:
    first, second = issue(client), issue(client)
    assert first != second
    assert [token.lives for token in application_tokens(wise)] == [True, True]


def test_new_token_kills_the_earlier_ones_where_so_set(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.change_settings(application_tokens_coexist=False)
    issue(client)
    issue(client)
    first, second = application_tokens(wise)
    assert (first.lives, first.killed_by, first.killed_by_request) == (False, Death.NEW_APPLICATION_TOKEN, 2)
    assert second.lives
    assert client.me(alice.access_token).status == 200


def test_request_is_told_as_nobodys(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    client.refresh(alice.refresh_token)
    client.form(APPLICATION, headers={"X-External-Correlation-Id": "fixture-attempt"})
    client.form(APPLICATION, client=("emulator-client-id", "wrong"))
    wise.control.wait_until_idle()
    _, granted, refused = wise.control.requests()
    assert (granted.grant_type, granted.user, granted.presented_ordinal) == ("client_credentials", None, None)
    assert (granted.outcome, granted.status, granted.delivered) == ("issued", 200, True)
    assert (granted.carried_out, granted.access_ordinal, granted.refresh_ordinal) == (False, 1, None)
    assert granted.correlation_id == "fixture-attempt"
    assert (refused.grant_type, refused.outcome, refused.access_ordinal) == (
        "client_credentials",
        "invalid_client",
        None,
    )
    [token] = application_tokens(wise)
    assert (token.user, token.ordinal, token.minted_by_request) == (None, 1, granted.id)
    assert wise.control.overlaps() == []


def test_fault_leaves_no_token_behind(wise: RunningWise, client: WiseClient) -> None:
    wise.control.throttle(1)
    assert client.form(APPLICATION).status == 429
    assert application_tokens(wise) == []


def test_application_is_no_user(wise: RunningWise, client: WiseClient) -> None:
    token = issue(client)
    reply = client.me(token)
    assert (reply.status, reply.json) == (403, {"error": "access_denied", "error_description": "Access is denied"})
    assert not [name for name in reply.headers if name.startswith("x-2fa")]
    [use] = wise.control.uses()
    assert (use.user, use.ordinal, use.newest_ordinal, use.verdict) == (None, 1, None, Verdict.LIVES)


@pytest.mark.parametrize(
    ("answered", "status", "error"),
    [
        ("access_denied", 403, "access_denied"),
        ("unauthorized", 401, "unauthorized"),
        ("invalid_token", 401, "invalid_token"),
    ],
)
def test_what_a_users_resource_says_to_the_application_is_a_setting(
    wise: RunningWise, client: WiseClient, answered: str, status: int, error: str
) -> None:
    # Undocumented: whether a 401 there means that the token is dead cannot be told.
    wise.control.change_settings(application_as_user=answered)
    token = issue(client)
    for path in ("/v1/me", "/2026Q4/me", "/v2/profiles"):
        reply = client.me(token, path=path)
        assert (reply.status, reply.json["error"]) == (status, error)
    assert [use.verdict for use in wise.control.uses()] == [Verdict.LIVES] * 3


@pytest.mark.parametrize("path", ["/v1/authenticated/playground", "/2026Q4/authenticated/playground"])
def test_playground_takes_every_token_that_lives(
    wise: RunningWise, client: WiseClient, alice: SeededUser, path: str
) -> None:
    personal = wise.control.seed_personal_token("alice")
    for token in (issue(client), alice.access_token, personal.token):
        assert client.me(token, path=path).status == 200
    for token in (None, "fixture-unknown", alice.refresh_token):
        assert client.me(token, path=path).status == 401


def test_application_token_refreshes_nothing(wise: RunningWise, client: WiseClient) -> None:
    reply = client.refresh(issue(client))
    assert (reply.status, reply.json["error"]) == (400, "invalid_grant")
    assert wise.control.requests()[-1].presented_ordinal is None


def test_application_token_dies_of_age() -> None:
    with running_wise(WiseSettings(access_token_lifetime_s=60)) as wise:
        client = WiseClient(wise)
        token = issue(client)
        wise.control.advance_clock(61)
        assert client.me(token).status == 401
        [told] = application_tokens(wise)
        assert told.killed_by is Death.EXPIRY


@pytest.mark.parametrize("revoke_tokens", [True, False])
def test_new_client_secret_may_end_the_applications_tokens_too(
    wise: RunningWise, client: WiseClient, *, revoke_tokens: bool
) -> None:
    token = issue(client)
    wise.control.rotate_client_secret("fixture-second-secret", revoke_tokens=revoke_tokens)
    assert client.me(token).status == (401 if revoke_tokens else 403)
    assert client.form(APPLICATION).status == 401
    assert client.form(APPLICATION, client=(CLIENT[0], "fixture-second-secret")).status == 200
