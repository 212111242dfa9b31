"""The control port itself: its routes, and what it says to nonsense."""

from __future__ import annotations

import contextlib
import http.client
import json

import pytest

from local.wise.control import SeededUser, WiseControlError, wait_until
from local.wise.running import RunningWise
from local.wise.settings import BadValueError, Json, WiseSettings


def call(wise: RunningWise, method: str, path: str, body: bytes | None = None) -> tuple[int, Json]:
    netloc = wise.control_url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(netloc, timeout=5)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def test_every_reading_route_answers(wise: RunningWise, alice: SeededUser) -> None:
    paths = ["/health", "/settings", "/clock", "/faults", "/withheld", "/truth", "/truth?values=true"]
    paths += ["/subscriptions", "/users", "/truth/authorizations?since=0&user=alice", "/truth/signups", "/chaos"]
    paths += ["/truth/tokens", "/truth/requests?since=0&user=alice", "/truth/uses", "/truth/overlaps"]
    assert {call(wise, "GET", path)[0] for path in paths} == {200}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/nowhere", None, 404, "no such path"),
        ("DELETE", "/truth", None, 405, "allowed: GET"),
        ("PUT", "/settings", b"{}", 405, "allowed: GET, PATCH"),
        ("POST", "/users", b"[]", 400, "body: must be a JSON object"),
        ("POST", "/users", b"\xff{", 400, "body: must be a JSON object"),
        ("POST", "/users", b"{}", 400, "user: must be 1 to 128 characters"),
        ("POST", "/users", b'{"user":7}', 400, "user: must be a string"),
        ("POST", "/users", b'{"user":"bob","age":1}', 400, "age: no such field"),
        ("POST", "/users", b'{"user":"bob","age_s":"1"}', 400, "age_s: must be a number"),
        ("POST", "/users/nobody/revocation", b"{}", 404, "no such user"),
        ("POST", "/users/nobody/email", b"{}", 400, "email: must be given"),
        ("POST", "/users/nobody/authorization", b'{"refuse":1}', 400, "redirect_uri: must be one of"),
        ("PUT", "/users/bob", b'{"profiles":"PERSONAL"}', 400, "profiles: must be a list of"),
        ("PATCH", "/settings", b'{"client_id":"x"}', 400, "client_id: no such setting"),
        ("PATCH", "/settings", b'{"client_secret":"x"}', 400, "client_secret: no such setting"),
        ("PATCH", "/settings", b'{"token_format":"jwt"}', 400, "token_format: must be one of uuid, jwe, long"),
        ("PATCH", "/settings", b'{"client_key":7}', 400, "client_key: must be a string"),
        ("PATCH", "/settings", b'{"client_key":""}', 400, "client_key: must be not empty"),
        ("POST", "/users/nobody/profiles/1/deactivation", b"{}", 404, "no such user"),
        ("POST", "/users/nobody/personal-tokens", b'{"age_s":"1"}', 400, "age_s: must be a number"),
        ("DELETE", "/users/nobody/personal-tokens", b'{"ordinal":"1"}', 400, "ordinal: must be a whole number"),
        ("PATCH", "/clock", b"{}", 400, "offset_s, advance_s: one of them"),
        ("PATCH", "/clock", b'{"offset_s":true}', 400, "offset_s: must be a number"),
        ("POST", "/client-secret", b'{"revoke_tokens":1}', 400, "revoke_tokens: must be true or false"),
        ("GET", "/truth/requests?since=x", None, 400, "since: must be a whole number"),
        ("GET", "/truth?values=1", None, 400, "values: must be true or false"),
        ("GET", "/health?x=1", None, 400, "x: no such field"),
    ],
)
def test_nonsense_is_refused_by_name(  # noqa: PLR0917  (columns)
    wise: RunningWise, method: str, path: str, body: bytes | None, status: int, error: str
) -> None:
    answered, said = call(wise, method, path, body)
    assert answered == status
    assert isinstance(said, dict)
    assert str(said["error"]).startswith(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_token_lifetime_s", 0),
        ("access_token_lifetime_s", "90"),
        ("refresh_token_lifetime_s", 2**31),
        ("created_at_digits", 4),
        ("created_at_digits", 5.0),
        ("unknown_refresh_status", 200),
        ("quarters", ["2026"]),
        ("quarters", "2026Q4"),
        ("redirect_uris", ["partner.example.com/callback"]),
        ("redirect_uris", ["https://partner.example.com/callback#here"]),
        ("authorization_code_lifetime_s", 0),
        ("registration_refused_status", 500),
        ("deactivated_error", "gone"),
        ("echo_refresh_token", 1),
        ("refresh_token_policy", None),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: Json) -> None:
    with pytest.raises(BadValueError, match=f"^{name}: must be "):
        WiseSettings().changed({name: value})


def test_settings_change_all_or_none(wise: RunningWise) -> None:
    before = wise.control.settings()
    assert "client_secret" not in before
    with pytest.raises(WiseControlError, match="created_at_digits"):
        wise.control.change_settings(access_token_lifetime_s=90, created_at_digits=1)
    assert wise.control.settings() == before
    changed = wise.control.change_settings(access_token_lifetime_s=90, created_at_digits=9)
    assert changed == {**before, "access_token_lifetime_s": 90, "created_at_digits": 9}
    assert wise.control.change_settings(**changed_back(before)) == before


def changed_back(settings: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in settings.items() if name != "client_id"}


def test_clock_is_set_and_moved(wise: RunningWise) -> None:
    assert wise.control.clock().offset_s == 0
    assert wise.control.set_clock_offset(-30).offset_s == -30
    moved = wise.control.advance_clock(90.5)
    assert moved.offset_s == 60.5
    assert (wise.control.clock().now - moved.now).total_seconds() < 5


def test_user_names_may_hold_any_character(wise: RunningWise) -> None:
    name = "tenant#grant/ü?x=1"
    assert wise.control.seed_user(name).user == name
    assert wise.control.revoke(name) == 2
    assert {token.user for token in wise.control.tokens(name)} == {name}


@pytest.mark.parametrize("field", ["access_token", "refresh_token"])
def test_token_that_exists_cannot_be_seeded_again(wise: RunningWise, alice: SeededUser, field: str) -> None:
    with pytest.raises(WiseControlError, match="must be new and not empty"):
        wise.control.seed_user("bob", **{field: alice.access_token})  # type: ignore[arg-type]
    with pytest.raises(WiseControlError, match="must be new and not empty"):
        wise.control.seed_user("bob", **{field: ""})  # type: ignore[arg-type]
    with pytest.raises(WiseControlError, match="must differ"):
        wise.control.seed_user("bob", access_token="fixture-same", refresh_token="fixture-same")
    assert {token.user for token in wise.control.tokens()} == {"alice"}


def test_seeded_tokens_are_not_in_a_repr(wise: RunningWise, alice: SeededUser) -> None:
    assert alice.access_token not in repr(alice)
    assert alice.refresh_token not in repr(alice)


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(TimeoutError, match=r"^not within 0\.05 s: the moon$"):
        wait_until(lambda: False, 0.05, "the moon")
