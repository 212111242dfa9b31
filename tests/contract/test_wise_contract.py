"""What Wise's port holds to: in memory, and over HTTPS against the emulator and worse servers."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from local.wise.certificates import issue_identity
from local.wise.control import SeededUser
from local.wise.faults import Delivery, Endpoint
from local.wise.running import RunningWise, running_wise
from local.wise.settings import WiseSettings
from local.wise.truth import RequestTruth
from tests.fakes.wise import FakeWise
from tests.fakes.world import FakeClock
from token_rotator.adapters.client_secrets import ClientCredentials
from token_rotator.adapters.wise_answers import DOCUMENTED_LIFE, MAX_APPLICATION_TOKEN
from token_rotator.adapters.wise_http import WiseHttp
from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientCheck,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Outcome,
    Refreshed,
    Said,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.tokens import Registration, Secret
from token_rotator.service.ports import Wise

AMPLE = timedelta(seconds=10)
SHORT = timedelta(seconds=1)
OVERRUN_S = 1.0
"""How much later than its deadline a call may end on a busy machine; what drips here would take ten times as long."""
POLICIES = ["same", "rotated", "omitted"]
DEFAULTS = WiseSettings()
SERIAL = itertools.count(1)


RIGHT = DEFAULTS.client_secret
WRONG = "fixture-wrong-secret"


@dataclass
class Secrets:
    """Client credentials at hand: `secret` is in use, `stored` are the versions that reading anew gives."""

    id: str = DEFAULTS.client_id
    secret: str = RIGHT
    stored: list[str] = field(default_factory=lambda: [RIGHT])
    usable: bool = True
    takes_s: float = 0.0
    forgotten: int = 0

    def _of(self, secret: str) -> ClientCredentials:
        return ClientCredentials(self.id, Secret(secret))

    def get(self) -> ClientCredentials:
        if not self.usable:
            raise WiseSecretUnusable("the secret has no value yet")
        return self._of(self.secret)

    def last(self) -> ClientCredentials | None:
        return self.get() if self.usable else None

    def versions(self) -> Iterator[ClientCredentials]:
        for secret in list(self.stored):
            time.sleep(self.takes_s)
            yield self._of(secret)

    def use(self, credentials: ClientCredentials) -> None:
        self.secret = credentials.client_secret.reveal()
        self.usable = True

    def forget(self) -> None:
        self.forgotten += 1


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Setting:
    """A client, the emulator behind it, and a user there."""

    emulator: RunningWise
    user: SeededUser
    secrets: Secrets = field(default_factory=Secrets)
    since: int = 0
    """The id of the last request before this test."""

    def client(self, **changes: Any) -> WiseHttp:
        given: dict[str, Any] = {"connect_s": 1.0, "ca_file": str(self.emulator.ca_file)} | changes
        return WiseHttp(given.pop("url", self.emulator.url), self.secrets, utc_now, **given)  # type: ignore[arg-type]

    def refresh(self, within: timedelta = AMPLE, **changes: Any) -> Outcome:
        token = Secret(self.user.refresh_token)
        return self.client(**changes).refresh(token, attempt_id="attempt-1", within=within)

    def settle(self, within: timedelta = AMPLE, **changes: Any) -> ClientCheck:
        return self.client(**changes).settle_client(attempt_id="attempt-1", within=within)

    def asked_about_client(self) -> list[RequestTruth]:
        """Give the questions about our client that Wise saw during this test, oldest first."""
        return [
            request
            for request in self.emulator.control.requests()
            if request.id > self.since and request.grant_type == "client_credentials"
        ]

    def ask(self, within: timedelta = AMPLE, **changes: Any) -> Liveness:
        return (
            self.client(**changes).ask(Secret(self.user.access_token), attempt_id="attempt-1", within=within).liveness
        )


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningWise]:
    with running_wise() as running:
        yield running


@pytest.fixture
def wise(emulator: RunningWise) -> Iterator[Setting]:
    seen = max((request.id for request in emulator.control.requests()), default=0)
    yield Setting(emulator, emulator.control.seed_user(f"user-{next(SERIAL)}"), since=seen)
    emulator.control.clear_faults()
    emulator.control.release(deliver=False)
    changeable = {name: value for name, value in DEFAULTS.as_json().items() if name != "client_id"}
    emulator.control.change_settings(**changeable)


# --- over the fake and over HTTPS


class Scene(Protocol):
    """One user at Wise, and the port to it."""

    port: Wise
    refresh_token: Secret
    access_token: Secret

    def revoke(self) -> None: ...

    def register(self) -> Registration:
        """Let us have created the user."""
        ...

    def reclaim(self) -> None: ...

    def have(self, in_use: str, *stored: str) -> None:
        """Have one of the client secrets `RIGHT` and `WRONG` in use, and some in store."""
        ...


@dataclass
class FakeScene:
    policy: str
    port: FakeWise = field(init=False)

    def __post_init__(self) -> None:
        self.port = FakeWise(FakeClock(), self.policy)
        self.access_token, self.refresh_token = self.port.add("anna")

    def revoke(self) -> None:
        self.port.users["anna"].alive = False

    def register(self) -> Registration:
        return self.port.register("anna")

    def reclaim(self) -> None:
        self.port.reclaim("anna")

    def have(self, in_use: str, *stored: str) -> None:
        self.port.secret, self.port.secrets, self.port.valid_secrets = in_use, list(stored), {RIGHT}


@dataclass
class HttpScene:
    setting: Setting

    def __post_init__(self) -> None:
        self.port = self.setting.client()
        self.access_token = Secret(self.setting.user.access_token)
        self.refresh_token = Secret(self.setting.user.refresh_token)

    def revoke(self) -> None:
        self.setting.emulator.control.revoke(self.setting.user.user)

    def register(self) -> Registration:
        name = self.setting.user.user
        code, email = f"fixture-registration-code-of-{name}", f"{name}@example.com"
        self.setting.emulator.control.put_user(name, email=email, registration_code=code)
        return Registration(Secret(code), Secret(email))

    def reclaim(self) -> None:
        self.setting.emulator.control.reclaim(self.setting.user.user)

    def have(self, in_use: str, *stored: str) -> None:
        self.setting.secrets.secret, self.setting.secrets.stored = in_use, list(stored)


@pytest.fixture(params=["fake", "https"])
def scene(request: pytest.FixtureRequest) -> Callable[[str], Scene]:
    def made(policy: str = "same") -> Scene:
        if request.param == "fake":
            return FakeScene(policy)
        setting: Setting = request.getfixturevalue("wise")
        setting.emulator.control.change_settings(refresh_token_policy=policy)
        return HttpScene(setting)

    return made


@pytest.mark.parametrize("policy", POLICIES)
def test_a_refresh_gives_tokens_and_kills_the_old_one(scene: Callable[[str], Scene], policy: str) -> None:
    anna = scene(policy)
    assert anna.port.ask(anna.access_token, attempt_id="a", within=AMPLE).liveness is Liveness.LIVES
    outcome = anna.port.refresh(anna.refresh_token, attempt_id="b", within=AMPLE)
    assert isinstance(outcome, Refreshed)
    tokens = outcome.tokens
    assert tokens.access_token != anna.access_token
    assert tokens.expires_at - tokens.issued_at == pytest.approx(timedelta(hours=12), abs=timedelta(seconds=2))
    assert {
        "same": tokens.refresh_token == anna.refresh_token,
        "rotated": tokens.refresh_token is not None and tokens.refresh_token != anna.refresh_token,
        "omitted": tokens.refresh_token is None,
    }[policy]
    assert anna.port.ask(anna.access_token, attempt_id="c", within=AMPLE).liveness is Liveness.DEAD
    assert anna.port.ask(tokens.access_token, attempt_id="d", within=AMPLE).liveness is Liveness.LIVES


@pytest.mark.parametrize("policy", POLICIES)
def test_the_refresh_token_that_is_kept_refreshes_again(scene: Callable[[str], Scene], policy: str) -> None:
    anna = scene(policy)
    current = anna.refresh_token
    for number in range(3):
        outcome = anna.port.refresh(current, attempt_id=f"a-{number}", within=AMPLE)
        assert isinstance(outcome, Refreshed)
        current = outcome.tokens.refresh_token or current


def test_a_revoked_user_is_a_dead_grant(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    anna.revoke()
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="a", within=AMPLE), GrantInvalid)
    assert anna.port.ask(anna.access_token, attempt_id="b", within=AMPLE).liveness is Liveness.DEAD


def test_a_replaced_refresh_token_is_dead(scene: Callable[[str], Scene]) -> None:
    anna = scene("rotated")
    anna.port.refresh(anna.refresh_token, attempt_id="a", within=AMPLE)
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="b", within=AMPLE), GrantInvalid)


def test_a_registration_code_brings_new_tokens_and_leaves_the_access_token_alive(
    scene: Callable[[str], Scene],
) -> None:
    anna = scene("same")
    registration = anna.register()
    outcome = anna.port.reissue(registration, attempt_id="a", within=AMPLE)
    assert isinstance(outcome, Refreshed)
    tokens = outcome.tokens
    assert tokens.refresh_token is not None
    assert tokens.refresh_token != anna.refresh_token
    assert anna.port.ask(anna.access_token, attempt_id="b", within=AMPLE).liveness is Liveness.LIVES
    assert anna.port.ask(tokens.access_token, attempt_id="c", within=AMPLE).liveness is Liveness.LIVES
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="d", within=AMPLE), GrantInvalid)
    again = anna.port.refresh(tokens.refresh_token, attempt_id="e", within=AMPLE)
    assert isinstance(again, Refreshed)
    for dead in (anna.access_token, tokens.access_token):
        assert anna.port.ask(dead, attempt_id="f", within=AMPLE).liveness is Liveness.DEAD


def test_a_registration_code_brings_a_revoked_user_back_again_and_again(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    registration = anna.register()
    for number in range(2):
        anna.revoke()
        outcome = anna.port.reissue(registration, attempt_id=f"a-{number}", within=AMPLE)
        assert isinstance(outcome, Refreshed)
        assert anna.port.ask(outcome.tokens.access_token, attempt_id="b", within=AMPLE).liveness is Liveness.LIVES


def test_a_reclaimed_account_gives_nothing_for_its_code(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    registration = anna.register()
    anna.reclaim()
    assert isinstance(anna.port.reissue(registration, attempt_id="a", within=AMPLE), GrantInvalid)
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="b", within=AMPLE), Refreshed)


def test_a_code_with_another_address_gives_nothing(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    registration = replace(anna.register(), email=Secret("somebody.else@example.com"))
    assert isinstance(anna.port.reissue(registration, attempt_id="a", within=AMPLE), GrantInvalid)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_code_is_known_by_its_error_whatever_the_status(wise: Setting, status: int) -> None:
    anna = HttpScene(wise)
    registration = anna.register()
    anna.reclaim()
    wise.emulator.control.change_settings(registration_refused_status=status)
    outcome = anna.port.reissue(registration, attempt_id="a", within=AMPLE)
    assert isinstance(outcome, GrantInvalid)
    assert (outcome.status, outcome.error) == (status, "invalid_grant")


def test_an_invalid_token_is_no_word_about_a_code(wise: Setting) -> None:
    anna = HttpScene(wise)
    registration = anna.register()
    wise.emulator.control.fail_next(status=401, body='{"error":"invalid_token"}')
    outcome = anna.port.reissue(registration, attempt_id="a", within=AMPLE)
    assert isinstance(outcome, WeAreWrong)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


def test_without_credentials_no_code_is_sent(wise: Setting) -> None:
    anna = HttpScene(wise)
    registration = anna.register()
    wise.secrets.usable = False
    outcome = anna.port.reissue(registration, attempt_id="a", within=AMPLE)
    assert outcome == NotSent(reason="wise-secret-unusable")


def test_a_changed_secret_is_found_after_a_reissue_too(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    registration = anna.register()
    anna.have(WRONG, RIGHT, WRONG)
    assert isinstance(anna.port.reissue(registration, attempt_id="a", within=AMPLE), ClientRefused)
    check = anna.port.settle_client(attempt_id="a", within=AMPLE)
    assert isinstance(check, ClientAccepted)
    assert check.changed
    assert isinstance(anna.port.reissue(registration, attempt_id="a", within=AMPLE), Refreshed)


def test_a_reissue_that_is_carried_out_and_not_answered_is_unknown(wise: Setting) -> None:
    anna = HttpScene(wise)
    registration = anna.register()
    wise.emulator.control.drop_after_carrying_out()
    assert isinstance(anna.port.reissue(registration, attempt_id="a", within=AMPLE), Unknown)
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="b", within=AMPLE), GrantInvalid)


def test_usable_credentials_raise_nothing(scene: Callable[[str], Scene]) -> None:
    scene("same").port.check_credentials()


@pytest.mark.parametrize(
    ("in_use", "stored", "changed"),
    [
        pytest.param(RIGHT, [RIGHT], False, id="all is well"),
        pytest.param(RIGHT, [RIGHT, WRONG], False, id="the previous one is over"),
        pytest.param(RIGHT, [WRONG, RIGHT], False, id="the current one does not hold yet"),
        pytest.param(WRONG, [RIGHT, WRONG], True, id="the current one holds already"),
        pytest.param(WRONG, [WRONG, RIGHT], True, id="the previous one still holds"),
        pytest.param(WRONG, [RIGHT], True, id="the one in use is no version any more"),
    ],
)
def test_the_client_secret_that_wise_accepts_is_used_from_then_on(
    scene: Callable[[str], Scene],
    in_use: str,
    stored: list[str],
    changed: bool,  # noqa: FBT001 - a case
) -> None:
    anna = scene("same")
    anna.have(in_use, *stored)
    refused = anna.port.refresh(anna.refresh_token, attempt_id="a", within=AMPLE)
    assert isinstance(refused, ClientRefused if in_use == WRONG else Refreshed)
    check = anna.port.settle_client(attempt_id="a", within=AMPLE)
    assert isinstance(check, ClientAccepted)
    assert check.changed is changed
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="a", within=AMPLE), Refreshed)


@pytest.mark.parametrize("stored", [[WRONG], [WRONG, f"{WRONG}-too"]], ids=["one", "two"])
def test_a_client_that_wise_refuses_is_refused(scene: Callable[[str], Scene], stored: list[str]) -> None:
    anna = scene("same")
    anna.have(WRONG, *stored)
    assert isinstance(anna.port.settle_client(attempt_id="a", within=AMPLE), ClientRefused)
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="a", within=AMPLE), ClientRefused)
    anna.have(WRONG, RIGHT)
    assert isinstance(anna.port.settle_client(attempt_id="a", within=AMPLE), ClientAccepted)
    assert isinstance(anna.port.refresh(anna.refresh_token, attempt_id="a", within=AMPLE), Refreshed)


# --- credentials


def test_without_credentials_nothing_is_sent(wise: Setting) -> None:
    wise.secrets.usable = False
    with pytest.raises(WiseSecretUnusable):
        wise.client().check_credentials()
    assert wise.refresh() == NotSent(reason="wise-secret-unusable")
    assert wise.emulator.control.requests(user=wise.user.user) == []


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized"])
def test_a_wrong_client_secret_judges_no_grant(wise: Setting, error: str) -> None:
    wise.emulator.control.change_settings(wrong_client_error=error)
    wise.secrets.secret = WRONG
    outcome = wise.refresh()
    assert isinstance(outcome, ClientRefused)
    assert (outcome.status, outcome.error) == (401, error)
    assert wise.asked_about_client() == []
    assert (wise.secrets.forgotten, wise.secrets.secret) == (0, WRONG)


# --- what Wise says of our client


def test_wise_is_asked_about_our_client_without_any_grant(wise: Setting) -> None:
    check = wise.settle()
    assert isinstance(check, ClientAccepted)
    assert (check.status, check.error, check.changed) == (200, None, False)
    (request,) = wise.asked_about_client()
    assert (request.correlation_id, request.outcome) == ("attempt-1", "issued")
    assert check.trace_id == request.trace_id
    assert wise.emulator.control.requests(user=wise.user.user) == []
    assert wise.ask() is Liveness.LIVES


def test_both_versions_are_asked_with_and_no_more(wise: Setting) -> None:
    wise.secrets.stored = [WRONG, RIGHT, "fixture-never-asked-with"]
    wise.settle()
    assert [request.outcome for request in wise.asked_about_client()] == ["invalid_client", "issued"]


def test_when_no_version_is_accepted_the_current_one_is_taken_anew(wise: Setting) -> None:
    wise.secrets.stored = [WRONG, f"{WRONG}-too"]
    check = wise.settle()
    assert isinstance(check, ClientRefused)
    assert (check.status, check.error) == (401, "invalid_client")
    assert len(wise.asked_about_client()) == 2
    assert wise.secrets.forgotten == 1


def test_a_client_that_may_not_ask_so_is_refused(wise: Setting) -> None:
    wise.emulator.control.change_settings(client_credentials_allowed=False)
    assert isinstance(wise.settle(), ClientRefused)
    assert isinstance(wise.refresh(), Refreshed)


def test_without_any_version_nothing_is_asked(wise: Setting) -> None:
    wise.secrets.stored = []
    assert wise.settle() == NotSent(reason="wise-secret-unusable")
    assert wise.asked_about_client() == []


def test_the_first_credentials_of_a_process_are_no_change(wise: Setting) -> None:
    wise.secrets.usable = False
    check = wise.settle()
    assert isinstance(check, ClientAccepted)
    assert not check.changed
    assert isinstance(wise.refresh(), Refreshed)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, Throttled(status=429, retry_after=timedelta(seconds=7))),
        ({"status": 500, "body": '{"error":"Internal Server Error"}'}, ServerFault(status=500)),
        ({"status": 502, "body": "<html>", "from_edge": True}, Unknown(status=502, reason="status-502")),
        ({"status": 200}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": '{"access_token":""}'}, Unknown(status=200, reason="200-without-token")),
    ],
    ids=str,
)
def test_an_answer_that_says_nothing_about_our_client_ends_the_asking(
    wise: Setting, fault: dict[str, Any], check: ClientCheck
) -> None:
    wise.secrets.stored = [RIGHT, f"{RIGHT}-earlier"]
    wise.emulator.control.fail_next(**{"headers": {}} | fault)
    answered = wise.settle()
    assert {**facts(answered), "trace_id": None} == facts(check)
    assert len(wise.asked_about_client()) == 1
    assert (wise.secrets.forgotten, wise.secrets.secret) == (0, RIGHT)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"status": 401, "body": '{"error":"invalid_client"}'}, ClientRefused(status=401, error="invalid_client")),
        ({"status": 401}, ClientRefused(status=401)),
        ({"status": 400, "body": '{"error":"invalid_grant"}'}, ClientRefused(status=400, error="invalid_grant")),
        ({"status": 401, "body": '{"error":"invalid_token"}'}, ClientRefused(status=401, error="invalid_token")),
        ({"status": 400, "body": '{"error":"invalid_request"}'}, WeAreWrong(status=400, error="invalid_request")),
        ({"status": 403, "headers": {"x-2fa-approval": "one-time-token"}}, WeAreWrong(status=403)),
        ({"status": 404}, WeAreWrong(status=404)),
        ({"status": 302, "headers": {"Location": "https://wise.invalid/"}}, WeAreWrong(status=302)),
    ],
    ids=str,
)
def test_the_previous_version_is_tried_after_a_refusal(
    wise: Setting, fault: dict[str, Any], check: ClientCheck
) -> None:
    wise.secrets.stored = [f"{RIGHT}-to-come", RIGHT]
    wise.emulator.control.fail_next(**{"headers": {}} | fault)
    assert isinstance(wise.settle(), ClientAccepted)
    assert len(wise.asked_about_client()) == 2
    wise.secrets.stored = [RIGHT]
    wise.emulator.control.fail_next(**{"headers": {}} | fault)
    assert {**facts(wise.settle()), "trace_id": None} == facts(check)


def test_a_refusal_of_one_version_proves_nothing_while_the_other_has_no_answer(wise: Setting) -> None:
    wise.secrets.stored = [WRONG, RIGHT]
    wise.emulator.control.fail_next(status=401, body='{"error":"invalid_client"}')
    wise.emulator.control.fail_next(status=429)
    assert isinstance(wise.settle(), Throttled)
    assert wise.secrets.forgotten == 0


def test_all_of_it_has_one_deadline(wise: Setting) -> None:
    wise.secrets.stored = [WRONG, RIGHT]
    wise.emulator.control.answer_slowly(before_s=0.7)
    wise.emulator.control.answer_slowly(before_s=0.7)
    with bounded(SHORT):
        assert isinstance(wise.settle(SHORT), Unknown | NotSent)


def test_a_slow_secret_does_not_outlast_the_deadline(wise: Setting) -> None:
    within = SHORT / 5
    wise.secrets.takes_s = within.total_seconds() + OVERRUN_S + 0.3
    with bounded(within):
        assert wise.settle(within) == Unknown(reason="deadline")
    time.sleep(wise.secrets.takes_s)
    assert wise.asked_about_client() == []


def test_where_nothing_listens_nothing_is_sent_to_ask(wise: Setting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        check = wise.settle(url=f"https://127.0.0.1:{taken.getsockname()[1]}")
    assert check == NotSent(reason="not-connected")


def test_whether_the_second_question_was_sent_is_not_told_by_the_first(
    wise: Setting, own_server: tuple[Any, str]
) -> None:
    identity, ca_file = own_server
    received = []

    def refuse_and_vanish(connection: ssl.SSLSocket, _: threading.Event) -> None:
        received.append(request_of(connection))
        server._socket.shutdown(socket.SHUT_RDWR)
        connection.sendall(b'HTTP/1.1 401 No\r\nContent-Length: 26\r\n\r\n{"error":"invalid_client"}')

    with tls(identity, refuse_and_vanish) as server:
        wise.secrets.stored = [WRONG, RIGHT]
        check = wise.settle(url=f"https://127.0.0.1:{server.port}", ca_file=ca_file)
    assert check == NotSent(reason="not-connected")
    (request,) = received
    assert request.endswith(b"\r\n\r\ngrant_type=client_credentials")
    assert b"\r\nauthorization: basic " in request.lower()


# --- many who ask at once


def test_one_question_serves_all_who_were_refused_before_it(wise: Setting) -> None:
    wise.secrets.secret = WRONG
    client, together = wise.client(), threading.Barrier(8)
    token = Secret(wise.user.refresh_token)

    def refused_and_asking(number: int) -> ClientCheck:
        assert isinstance(client.refresh(token, attempt_id=f"a-{number}", within=AMPLE), ClientRefused)
        together.wait(10)
        return client.settle_client(attempt_id=f"a-{number}", within=AMPLE)

    with ThreadPoolExecutor(8) as pool:
        checks = list(pool.map(refused_and_asking, range(8)))
    assert len(wise.asked_about_client()) == 1
    assert [check.changed for check in checks if isinstance(check, ClientAccepted)] == [True] * 8


def test_who_was_refused_after_a_question_was_asked_asks_again(wise: Setting) -> None:
    client = wise.client()
    wise.emulator.control.answer_slowly(before_s=0.5, after_s=0.5)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.settle_client, attempt_id="first", within=AMPLE)
        while not wise.asked_about_client():
            time.sleep(0.02)
        second = pool.submit(client.settle_client, attempt_id="second", within=AMPLE)
        assert isinstance(first.result(), ClientAccepted)
        assert isinstance(second.result(), ClientAccepted)
    assert len(wise.asked_about_client()) == 2


def test_credentials_that_another_thread_changed_are_a_change(wise: Setting) -> None:
    """Or else a grant would be held that was refused for credentials which nobody uses any more."""
    wise.secrets.secret = WRONG
    client, token = wise.client(), Secret(wise.user.refresh_token)
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(client.refresh, token, attempt_id="other", within=AMPLE).result()
        assert isinstance(refused, ClientRefused)
        mine = client.settle_client(attempt_id="mine", within=AMPLE)
        assert isinstance(mine, ClientAccepted)
        others = pool.submit(client.settle_client, attempt_id="other", within=AMPLE).result()
    assert isinstance(others, ClientAccepted)
    assert others.changed
    again = client.settle_client(attempt_id="another", within=AMPLE)
    assert isinstance(again, ClientAccepted)
    assert not again.changed


def test_who_waits_for_anothers_question_keeps_to_his_own_deadline(wise: Setting) -> None:
    client = wise.client()
    within = SHORT / 5
    wise.emulator.control.answer_slowly(before_s=within.total_seconds() + OVERRUN_S + 0.5)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.settle_client, attempt_id="slow", within=AMPLE)
        while not wise.asked_about_client():
            time.sleep(0.02)
        with bounded(within):
            assert client.settle_client(attempt_id="mine", within=within) == Unknown(reason="deadline")
        assert isinstance(slow.result(), ClientAccepted)


# --- every row of the outcome table

JSON = {"Content-Type": "application/json"}
HTML = "<html><body>Bad gateway, invalid_grant</body></html>"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, Throttled(status=429, retry_after=timedelta(seconds=7))),
        ({"status": 429}, Throttled(status=429)),
        ({"status": 429, "headers": {"Retry-After": "soon"}}, Throttled(status=429)),
        ({"status": 429, "headers": {"Retry-After": "-1"}}, Throttled(status=429)),
        ({"status": 429, "body": HTML, "from_edge": True}, Throttled(status=429)),
        (
            {"status": 401, "body": '{"error":"invalid_client"}'},
            ClientRefused(status=401, error="invalid_client"),
        ),
        (
            {"status": 400, "body": '{"error":"unauthorized_client"}'},
            ClientRefused(status=400, error="unauthorized_client"),
        ),
        ({"status": 401}, ClientRefused(status=401)),
        ({"status": 401, "body": HTML}, ClientRefused(status=401)),
        ({"status": 401, "body": '{"error":["invalid_grant"]}'}, ClientRefused(status=401)),
        ({"status": 401, "body": '{"error":"Invalid_Grant!"}'}, ClientRefused(status=401)),
        ({"status": 400, "body": '{"error":"invalid_request"}'}, WeAreWrong(status=400, error="invalid_request")),
        (
            {"status": 400, "body": '{"error":"unsupported_grant_type","error_description":"invalid_grant"}'},
            WeAreWrong(status=400, error="unsupported_grant_type"),
        ),
        ({"status": 401, "body": '{"error":"novel"}'}, WeAreWrong(status=401, error="novel")),
        ({"status": 400}, WeAreWrong(status=400)),
        ({"status": 400, "body": "[1, 2"}, WeAreWrong(status=400)),
        ({"status": 415}, WeAreWrong(status=415)),
        ({"status": 404}, WeAreWrong(status=404)),
        ({"status": 403, "headers": {"x-2fa-approval": "one-time-token"}}, WeAreWrong(status=403)),
        ({"status": 403, "body": HTML}, WeAreWrong(status=403)),
        ({"status": 400, "body": '{"error":"invalid_grant"}'}, GrantInvalid(status=400, error="invalid_grant")),
        ({"status": 401, "body": '{"error":"invalid_grant"}'}, GrantInvalid(status=401, error="invalid_grant")),
        ({"status": 403, "body": '{"error":"invalid_grant"}'}, GrantInvalid(status=403, error="invalid_grant")),
        ({"status": 401, "body": '{"error":"invalid_token"}'}, GrantInvalid(status=401, error="invalid_token")),
        ({"status": 500, "body": '{"error":"Internal Server Error"}'}, ServerFault(status=500)),
        ({"status": 503, "body": '{"error":"unavailable"}'}, ServerFault(status=503, error="unavailable")),
        ({"status": 500, "body": '{"a":1}', "from_edge": True}, Unknown(status=500, reason="status-500")),
        ({"status": 500, "body": HTML}, Unknown(status=500, reason="status-500")),
        ({"status": 500, "body": HTML, "from_edge": True}, Unknown(status=500, reason="status-500")),
        ({"status": 502, "body": HTML, "from_edge": True}, Unknown(status=502, reason="status-502")),
        ({"status": 502, "body": '{"a":1}'}, Unknown(status=502, reason="status-502")),
        ({"status": 503, "body": HTML, "from_edge": True}, Unknown(status=503, reason="status-503")),
        ({"status": 504, "body": HTML, "from_edge": True}, Unknown(status=504, reason="status-504")),
        ({"status": 504, "body": '{"a":1}'}, Unknown(status=504, reason="status-504")),
        ({"status": 408}, Unknown(status=408, reason="status-408")),
        ({"status": 500, "body": '{"error":"invalid_grant"}'}, ServerFault(status=500, error="invalid_grant")),
        ({"status": 500, "body": '{"a":1}'}, Unknown(status=500, reason="status-500")),
        ({"status": 204}, Unknown(status=204, reason="204-without-token")),
        ({"status": 201, "body": "{}"}, Unknown(status=201, reason="201-without-token")),
        ({"status": 200}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": HTML}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": "[]"}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": "{}"}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": '{"access_token":""}'}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": '{"access_token":7}'}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": '{"access_token":null}'}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": '{"access_token":"a b"}'}, Unknown(status=200, reason="200-without-token")),
        ({"status": 200, "body": "[" * 100_000}, Unknown(status=200, reason="200-without-token")),
        (
            {"status": 200, "body": '{"access_token":"' + "x" * 40_000 + '"}'},
            Unknown(status=200, reason="200-without-token"),
        ),
    ],
    ids=lambda value: str(value)[:60].replace("/", "_"),
)
def test_an_answer_is_read(wise: Setting, fault: dict[str, Any], outcome: Outcome) -> None:
    wise.emulator.control.fail_next(**{"headers": {}} | fault)
    answered = wise.refresh()
    assert {**facts(answered), "trace_id": None} == facts(outcome)
    (request,) = wise.emulator.control.requests(user=wise.user.user)
    assert answered.trace_id == (None if fault.get("from_edge") else request.trace_id)
    assert HTML not in repr(answered)


def facts(outcome: Outcome | ClientCheck) -> dict[str, Any]:
    return {"is": type(outcome).__name__, **{name: getattr(outcome, name) for name in outcome.__dataclass_fields__}}


@pytest.mark.parametrize("status", [200, 201, 203])
def test_a_success_with_a_token_is_one(wise: Setting, status: int) -> None:
    wise.emulator.control.fail_next(status=status, body='{"access_token":"fixture-token","expires_in":60}')
    before = utc_now()
    outcome = wise.refresh()
    assert isinstance(outcome, Refreshed)
    assert outcome.tokens.access_token == Secret("fixture-token")
    assert outcome.tokens.expires_at - outcome.tokens.issued_at == timedelta(seconds=60)
    assert before <= outcome.tokens.issued_at <= utc_now()


def test_a_token_is_as_old_as_its_request(wise: Setting) -> None:
    wise.emulator.control.answer_slowly(after_s=0.5)
    outcome = wise.refresh()
    assert isinstance(outcome, Refreshed)
    assert utc_now() - outcome.tokens.issued_at >= timedelta(seconds=0.5)


def test_a_cookie_of_one_users_answer_is_not_sent_with_anothers(wise: Setting, own_server: tuple[Any, str]) -> None:
    identity, ca_file = own_server
    received = []

    def with_cookie(connection: ssl.SSLSocket, _: threading.Event) -> None:
        received.append(request_of(connection))
        connection.sendall(b"HTTP/1.1 400 Bad\r\nSet-Cookie: session=fixture; Path=/\r\nContent-Length: 2\r\n\r\n{}")

    with tls(identity, with_cookie) as server:
        client = wise.client(url=f"https://127.0.0.1:{server.port}", ca_file=ca_file)
        for _ in range(2):
            client.refresh(Secret(wise.user.refresh_token), attempt_id="a", within=AMPLE)
    assert len(received) == 2
    assert not any(b"cookie:" in request.lower() for request in received)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(wise: Setting, status: int) -> None:
    elsewhere = {"Location": f"{wise.emulator.url}/2026Q4/oauth/token"}
    wise.emulator.control.fail_next(status=status, headers=elsewhere)
    assert isinstance(wise.refresh(), WeAreWrong)
    wise.emulator.control.fail_next(status=status, headers=elsewhere, endpoint=Endpoint.ME)
    assert wise.ask() is Liveness.NO_ANSWER
    assert len(wise.emulator.control.requests(user=wise.user.user)) == 1
    assert len(wise.emulator.control.uses(user=wise.user.user)) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_wises_own_verdict_on_a_dead_refresh_token(wise: Setting, status: int) -> None:
    wise.emulator.control.change_settings(unknown_refresh_status=status)
    wise.emulator.control.revoke(wise.user.user)
    outcome = wise.refresh()
    assert isinstance(outcome, GrantInvalid)
    assert (outcome.status, outcome.error) == (status, "invalid_grant")


def test_wises_own_verdict_on_an_expired_refresh_token(wise: Setting) -> None:
    wise.emulator.control.change_settings(expired_refresh="invalid_token")
    wise.user = wise.emulator.control.seed_user("expired", refresh_token_lifetime_s=1, age_s=5)
    outcome = wise.refresh()
    assert isinstance(outcome, GrantInvalid)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


def test_a_quarter_that_wise_does_not_have_is_our_fault(wise: Setting) -> None:
    outcome = wise.refresh(api_version="2031Q1")
    assert isinstance(outcome, WeAreWrong)
    assert outcome.status == 404


@pytest.mark.parametrize(
    ("version", "paths"), [("", ("/oauth/token", "/v1/me")), ("2026Q4", ("/2026Q4/oauth/token", "/2026Q4/me"))]
)
def test_both_forms_of_paths(wise: Setting, version: str, paths: tuple[str, str]) -> None:
    assert wise.ask(api_version=version) is Liveness.LIVES
    assert isinstance(wise.refresh(api_version=version), Refreshed)
    (request,) = wise.emulator.control.requests(user=wise.user.user)
    (use,) = wise.emulator.control.uses(user=wise.user.user)
    assert (request.path, use.path) == paths


def test_wise_sees_the_attempt_as_correlation_id(wise: Setting) -> None:
    wise.client().refresh(Secret(wise.user.refresh_token), attempt_id="attempt-77", within=AMPLE)
    wise.client().ask(Secret(wise.user.access_token), attempt_id="attempt-78", within=AMPLE)
    (request,) = wise.emulator.control.requests(user=wise.user.user)
    (use,) = wise.emulator.control.uses(user=wise.user.user)
    assert (request.correlation_id, use.correlation_id) == ("attempt-77", "attempt-78")


def test_what_wise_says_of_a_token_comes_with_its_trace(wise: Setting) -> None:
    said = wise.client().ask(Secret(wise.user.access_token), attempt_id="attempt-1", within=AMPLE)
    (use,) = wise.emulator.control.uses(user=wise.user.user)
    assert said == Said(Liveness.LIVES, use.trace_id)
    wise.emulator.control.deliver_next(Delivery.RESET, endpoint=Endpoint.ME)
    said = wise.client().ask(Secret(wise.user.access_token), attempt_id="attempt-1", within=AMPLE)
    assert said == Said(Liveness.NO_ANSWER, None)


# --- what an answer with tokens may look like


def patched(wise: Setting, **patch: Any) -> Refreshed:
    wise.emulator.control.patch_next(patch)
    outcome = wise.refresh()
    assert isinstance(outcome, Refreshed)
    return outcome


@pytest.mark.parametrize(
    ("patch", "life"),
    [
        ({"expires_in": 3600, "expires_at": None}, timedelta(hours=1)),
        ({"expires_in": "3600", "expires_at": None}, timedelta(hours=1)),
        ({"expires_in": 3600.5, "expires_at": None}, timedelta(seconds=3600.5)),
        ({"expires_in": 0, "expires_at": None}, timedelta(0)),
        ({"expires_in": None, "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": -5, "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": 10**30, "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": "9" * 30, "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": "an hour", "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": True, "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": [3600], "expires_at": None}, DOCUMENTED_LIFE),
        ({"expires_in": None, "expires_at": "tomorrow"}, DOCUMENTED_LIFE),
        ({"expires_in": None, "expires_at": "9999-12-31T23:59:59Z"}, DOCUMENTED_LIFE),
        ({"expires_in": None, "expires_at": 1_800_000_000}, DOCUMENTED_LIFE),
        ({"expires_in": None}, timedelta(hours=12)),
        ({"expires_in": 10**9}, timedelta(hours=12)),
        ({"expires_in": 60}, timedelta(seconds=60)),
    ],
    ids=str,
)
def test_the_end_of_a_token_is_the_earlier_of_what_wise_says(
    wise: Setting, patch: dict[str, Any], life: timedelta
) -> None:
    tokens = patched(wise, **patch).tokens
    assert tokens.expires_at - tokens.issued_at == pytest.approx(life, abs=timedelta(seconds=2))
    assert tokens.expires_at.tzinfo is UTC


@pytest.mark.parametrize("digits", range(10))
def test_an_instant_may_have_up_to_nine_fraction_digits(wise: Setting, digits: int) -> None:
    whole = utc_now().replace(microsecond=0) + timedelta(hours=2)
    fraction = "." + "123456789"[:digits] if digits else ""
    text = f"{whole:%Y-%m-%dT%H:%M:%S}{fraction}Z"
    tokens = patched(wise, expires_at=text, refresh_token_expires_at=text, refresh_token_expires_in=None).tokens
    expected = whole + timedelta(microseconds=int(("123456789"[:digits] + "0" * 6)[:6]))
    assert tokens.expires_at == tokens.refresh_expires_at == expected


def test_unknown_and_missing_fields_are_tolerated(wise: Setting) -> None:
    outcome = patched(
        wise,
        novelty={"deep": [1, None]},
        token_type=None,
        scope=None,
        created_at=None,
        refresh_token=None,
        refresh_token_expires_in=None,
        refresh_token_expires_at=None,
    )
    assert outcome.tokens.scope is None
    assert outcome.tokens.refresh_token is None
    assert outcome.tokens.refresh_expires_at is None


@pytest.mark.parametrize("value", [7, "", "two words", ["a"], "x" * 40_000], ids=lambda value: str(value)[:10])
def test_a_refresh_token_that_is_none_leaves_the_old_one(wise: Setting, value: object) -> None:
    assert patched(wise, refresh_token=value).tokens.refresh_token is None


@pytest.mark.parametrize("form", ["uuid", "jwe", "long"])
def test_tokens_of_any_length_arrive_whole(wise: Setting, form: str) -> None:
    wise.emulator.control.change_settings(token_format=form, refresh_token_policy="rotated")
    outcome = wise.refresh()
    assert isinstance(outcome, Refreshed)
    wise.user = SeededUser(
        **{name: getattr(wise.user, name) for name in SeededUser.__dataclass_fields__}
        | {
            "access_token": outcome.tokens.access_token.reveal(),
            "refresh_token": outcome.tokens.refresh_token.reveal(),  # type: ignore[union-attr]
        }
    )
    assert len(wise.user.access_token) == {"uuid": 36, "jwe": 800, "long": 8000}[form]
    assert wise.ask() is Liveness.LIVES
    assert isinstance(wise.refresh(), Refreshed)


# --- answers that do not come


@contextlib.contextmanager
def bounded(within: timedelta) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < within.total_seconds() + OVERRUN_S


@pytest.mark.parametrize("delivery", [Delivery.WITHHOLD, Delivery.DRIP_HEADERS, Delivery.DRIP_BODY])
@pytest.mark.parametrize("endpoint", [Endpoint.TOKEN, Endpoint.ME])
def test_the_deadline_is_total(wise: Setting, delivery: Delivery, endpoint: Endpoint) -> None:
    wise.emulator.control.deliver_next(delivery, drip_s=0.1, endpoint=endpoint)
    with bounded(SHORT):
        if endpoint is Endpoint.TOKEN:
            assert wise.refresh(SHORT) == Unknown(reason="deadline")
        else:
            assert wise.ask(SHORT) is Liveness.NO_ANSWER


def test_wise_may_carry_out_what_we_gave_up_on(wise: Setting) -> None:
    wise.emulator.control.answer_slowly(before_s=1.5)
    with bounded(SHORT):
        assert wise.refresh(SHORT) == Unknown(reason="deadline")
    wise.emulator.control.wait_until_idle(wise.user.user)
    (request,) = wise.emulator.control.requests(user=wise.user.user)
    assert request.carried_out
    assert wise.ask() is Liveness.DEAD


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_lost_after_the_commit_is_unknown(wise: Setting, reset: bool) -> None:  # noqa: FBT001 - a case
    wise.emulator.control.drop_after_carrying_out(reset=reset)
    assert wise.refresh() == Unknown(reason="connection-broke")
    assert wise.ask() is Liveness.DEAD


def test_a_connection_lost_before_anything_happened_is_unknown_too(wise: Setting) -> None:
    wise.emulator.control.drop_without_carrying_out()
    assert wise.refresh() == Unknown(reason="connection-broke")
    assert wise.ask() is Liveness.LIVES


def test_an_endless_answer_is_not_read_to_the_end(wise: Setting) -> None:
    wise.emulator.control.deliver_next(Delivery.ENDLESS_BODY, drip_s=0)
    with bounded(timedelta(seconds=4)):
        outcome = wise.refresh(timedelta(seconds=4))
    assert isinstance(outcome, Unknown)


def test_an_endless_answer_that_drips_is_bounded_by_the_deadline(wise: Setting) -> None:
    wise.emulator.control.deliver_next(Delivery.ENDLESS_BODY, drip_s=0.1)
    with bounded(SHORT):
        assert wise.refresh(SHORT) == Unknown(reason="deadline")


def test_a_truncated_answer_is_unknown(wise: Setting) -> None:
    wise.emulator.control.deliver_next(Delivery.TRUNCATED_BODY)
    assert wise.refresh() == Unknown(reason="connection-broke")


# --- whether a token lives


@pytest.mark.parametrize(
    ("fault", "liveness"),
    [
        ({"status": 200, "body": "{}"}, Liveness.LIVES),
        ({"status": 403, "headers": {"x-2fa-approval": "one-time-token"}}, Liveness.LIVES),
        ({"status": 401, "body": '{"error":"invalid_token"}'}, Liveness.DEAD),
        ({"status": 401, "body": '{"error":"unauthorized"}'}, Liveness.NO_ANSWER),
        ({"status": 401}, Liveness.NO_ANSWER),
        ({"status": 401, "body": HTML}, Liveness.NO_ANSWER),
        ({"status": 400, "body": '{"error":"invalid_token"}'}, Liveness.NO_ANSWER),
        ({"status": 403}, Liveness.NO_ANSWER),
        ({"status": 404}, Liveness.NO_ANSWER),
        ({"status": 429}, Liveness.NO_ANSWER),
        ({"status": 500, "body": '{"a":1}'}, Liveness.NO_ANSWER),
        ({"status": 502, "body": HTML, "from_edge": True}, Liveness.NO_ANSWER),
    ],
    ids=str,
)
def test_what_is_said_about_a_token(wise: Setting, fault: dict[str, Any], liveness: Liveness) -> None:
    wise.emulator.control.fail_next(endpoint=Endpoint.ME, **{"headers": {}} | fault)
    assert wise.ask() is liveness


def test_a_dead_token_is_read_from_its_error_not_from_its_description(wise: Setting) -> None:
    wise.refresh()
    assert wise.ask() is Liveness.DEAD


@pytest.mark.parametrize("delivery", [Delivery.RESET, Delivery.CLOSE, Delivery.TRUNCATED_BODY])
def test_a_lost_answer_says_nothing_about_a_token(wise: Setting, delivery: Delivery) -> None:
    wise.emulator.control.deliver_next(delivery, endpoint=Endpoint.ME)
    assert wise.ask() is Liveness.NO_ANSWER


# --- what was never sent


class Listener:
    """A server that does with each connection what it is told, until the end of the test."""

    def __init__(self, serve: Callable[[socket.socket, threading.Event], None]) -> None:
        self.over = threading.Event()
        self.connections = 0
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._handle, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection, self.over)


def never_sent(wise: Setting, url: str, within: timedelta = AMPLE, **changes: Any) -> None:
    with bounded(within):
        outcome = wise.refresh(within, url=url, **changes)
    assert isinstance(outcome, NotSent), outcome
    with bounded(within):
        assert wise.ask(within, url=url, **changes) is Liveness.NO_ANSWER


def test_nothing_is_sent_where_nothing_listens(wise: Setting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        never_sent(wise, f"https://127.0.0.1:{taken.getsockname()[1]}")


def test_nothing_is_sent_to_a_name_that_does_not_resolve(wise: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    outcome = wise.refresh(url="https://wise.invalid")
    assert isinstance(outcome, NotSent)


def test_a_name_that_takes_too_long_to_resolve_does_not_stretch_the_deadline(
    wise: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What connects when nobody waits any more is closed, and nothing was sent on it."""
    real, resolved, came = socket.getaddrinfo, threading.Event(), queue.SimpleQueue[bytes]()

    def resolve(_: str, *more: Any, **named: Any) -> Any:
        assert resolved.wait(AMPLE.total_seconds())
        return real("127.0.0.1", *more, **named)

    with Listener(lambda connection, _: came.put(connection.recv(1024))) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with bounded(SHORT):
            assert wise.refresh(SHORT, url=f"https://wise.invalid:{server.port}") == NotSent(reason="not-connected")
        resolved.set()
        assert came.get(timeout=AMPLE.total_seconds()) == b""


def test_many_addresses_that_do_not_answer_do_not_stretch_the_deadline(
    wise: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(2):  # its queue is full: whoever comes next gets no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", silent.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 8)
        with bounded(SHORT):
            assert wise.refresh(SHORT, url="https://wise.invalid") == NotSent(reason="not-connected")


def test_nothing_is_sent_to_a_server_of_another_authority(wise: Setting, tmp_path: Path) -> None:
    never_sent(wise, wise.emulator.url, ca_file=None)
    other = tmp_path / "other.pem"
    other.write_bytes(issue_identity().ca_pem)
    never_sent(wise, wise.emulator.url, ca_file=str(other))
    assert wise.emulator.control.requests(user=wise.user.user) == []


def test_nothing_is_sent_to_a_server_of_another_name(wise: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **named: real("127.0.0.1", *more, **named))
    port = wise.emulator.url.rpartition(":")[2]
    assert isinstance(wise.refresh(url=f"https://wise.invalid:{port}"), NotSent)
    assert wise.emulator.control.requests(user=wise.user.user) == []


def test_nothing_is_sent_to_a_server_that_speaks_no_tls(wise: Setting) -> None:
    def plain(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with Listener(plain) as server:
        never_sent(wise, f"https://127.0.0.1:{server.port}")


def test_nothing_is_sent_when_the_handshake_breaks_off(wise: Setting) -> None:
    with Listener(lambda connection, _: connection.recv(1) and None) as server:
        never_sent(wise, f"https://127.0.0.1:{server.port}")


def test_nothing_is_sent_when_the_handshake_hangs(wise: Setting) -> None:
    with Listener(lambda _, over: over.wait() and None) as server:
        never_sent(wise, f"https://127.0.0.1:{server.port}", SHORT)


def test_nothing_is_sent_when_the_handshake_drips(wise: Setting) -> None:
    def drip(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB begins
        while not over.wait(0.1):
            connection.sendall(b"\x02")

    with Listener(drip) as server:
        never_sent(wise, f"https://127.0.0.1:{server.port}", SHORT)


def tls(identity: Any, serve: Callable[[ssl.SSLSocket, threading.Event], None]) -> Listener:
    def handshake(connection: socket.socket, over: threading.Event) -> None:
        with identity.context.wrap_socket(connection, server_side=True) as wrapped:
            serve(wrapped, over)

    return Listener(handshake)


@pytest.fixture
def own_server(tmp_path: Path) -> tuple[Any, str]:
    """The identity of a server of our own, and the file of its authority."""
    identity = issue_identity()
    file = tmp_path / "own.pem"
    file.write_bytes(identity.ca_pem)
    return identity, str(file)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_nothing_was_sent_to_a_server_that_wants_our_certificate(
    wise: Setting, own_server: tuple[Any, str], version: ssl.TLSVersion
) -> None:
    identity, ca_file = own_server
    identity.context.verify_mode = ssl.CERT_REQUIRED
    identity.context.minimum_version = identity.context.maximum_version = version
    with tls(identity, lambda connection, _: connection.recv(4096) and None) as server:
        assert isinstance(wise.refresh(url=f"https://127.0.0.1:{server.port}", ca_file=ca_file), NotSent)


def request_of(connection: ssl.SSLSocket) -> bytes:
    """Read one request to its end."""
    read = b""
    while b"\r\n\r\n" not in read:
        got = connection.recv(65_536)
        if not got:
            return b""
        read += got
    head, _, body = read.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def test_each_call_has_a_connection_of_its_own_even_where_the_server_keeps_them(
    wise: Setting, own_server: tuple[Any, str]
) -> None:
    identity, ca_file = own_server
    answers = [b'HTTP/1.1 400 Bad\r\nContent-Length: 25\r\n\r\n{"error":"invalid_grant"}']
    received = []

    def keep_open(connection: ssl.SSLSocket, over: threading.Event) -> None:
        while request := request_of(connection):
            received.append(request)
            if not answers:
                over.wait()
                return
            connection.sendall(answers.pop())

    with tls(identity, keep_open) as server:
        client = wise.client(url=f"https://127.0.0.1:{server.port}", ca_file=ca_file)
        token = Secret(wise.user.refresh_token)
        assert isinstance(client.refresh(token, attempt_id="first", within=AMPLE), GrantInvalid)
        with bounded(SHORT):
            assert client.refresh(token, attempt_id="second", within=SHORT) == Unknown(reason="deadline")
        assert server.connections == len(received) == 2


def test_an_answer_after_an_interim_one_is_read(wise: Setting, own_server: tuple[Any, str]) -> None:
    identity, ca_file = own_server

    def continue_first(connection: ssl.SSLSocket, _: threading.Event) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b'HTTP/1.1 400 Bad\r\nContent-Length: 25\r\n\r\n{"error":"invalid_grant"}')

    with tls(identity, continue_first) as server:
        assert isinstance(wise.refresh(url=f"https://127.0.0.1:{server.port}", ca_file=ca_file), GrantInvalid)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-fixture\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 \xff\xfe\r\n\r\n",
        b"",
    ],
    ids=lambda answer: str(answer[:45]),
)
def test_what_is_no_answer_is_unknown(wise: Setting, own_server: tuple[Any, str], answer: bytes) -> None:
    identity, ca_file = own_server

    def babble(connection: ssl.SSLSocket, _: threading.Event) -> None:
        request_of(connection)
        connection.sendall(answer)

    with tls(identity, babble) as server:
        url = f"https://127.0.0.1:{server.port}"
        with bounded(SHORT * 2):
            assert isinstance(wise.refresh(SHORT * 2, url=url, ca_file=ca_file), Unknown)
        assert wise.ask(SHORT * 2, url=url, ca_file=ca_file) in (Liveness.NO_ANSWER, Liveness.LIVES)


# --- nothing of the machine's gets in


def test_no_proxy_netrc_or_bundle_of_the_machine_is_used(
    wise: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    assert wise.ask() is Liveness.LIVES
    assert isinstance(wise.refresh(), Refreshed)


def test_calls_in_many_threads_keep_to_their_own_deadlines(wise: Setting) -> None:
    client = wise.client()
    slow = wise.emulator.control.seed_user("slow")
    wise.emulator.control.withhold("slow", None, endpoint=Endpoint.ANY)
    quick = [wise.emulator.control.seed_user(f"quick-{number}") for number in range(8)]

    def run(user: SeededUser, within: timedelta) -> Outcome:
        return client.refresh(Secret(user.refresh_token), attempt_id=user.user, within=within)

    with ThreadPoolExecutor(9) as pool, bounded(SHORT * 2):
        late = pool.submit(run, slow, SHORT * 2)
        wise.emulator.control.wait_until_withheld("slow")
        others = [pool.submit(run, user, AMPLE) for user in quick]
        assert late.result() == Unknown(reason="deadline")
    assert {type(other.result()) for other in others} == {Refreshed}


def test_nothing_shows_a_token_or_the_secret(wise: Setting, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    outcome = wise.refresh()
    wise.ask()
    client = wise.client()
    check = client.settle_client(attempt_id="a", within=AMPLE)
    assert isinstance(check, ClientAccepted)
    shown = f"{outcome!r} {check!r} {client!r} {vars(client._settled)!r} {vars(client._own)!r} {caplog.text}"
    assert isinstance(outcome, Refreshed)
    application = [token.value for token in wise.emulator.control.tokens(values=True) if token.user is None]
    assert application
    secrets = (
        wise.user.refresh_token,
        wise.user.access_token,
        outcome.tokens.access_token.reveal(),
        wise.secrets.secret,
        *(value for value in application if value),
    )
    for secret in secrets:
        assert secret not in shown


# --- our application's own token


def test_an_application_token_comes_alone(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    outcome = anna.port.issue_application_token(attempt_id="a", within=AMPLE)
    assert isinstance(outcome, Refreshed)
    tokens = outcome.tokens
    assert (tokens.refresh_token, tokens.refresh_expires_at) == (None, None)
    assert tokens.expires_at - tokens.issued_at == pytest.approx(timedelta(hours=12), abs=timedelta(seconds=2))
    again = anna.port.issue_application_token(attempt_id="b", within=AMPLE)
    assert isinstance(again, Refreshed)
    assert again.tokens.access_token != tokens.access_token
    assert anna.port.ask(anna.access_token, attempt_id="c", within=AMPLE).liveness is Liveness.LIVES


def test_a_refused_client_gets_no_application_token(scene: Callable[[str], Scene]) -> None:
    anna = scene("same")
    anna.have(WRONG, RIGHT)
    assert isinstance(anna.port.issue_application_token(attempt_id="a", within=AMPLE), ClientRefused)
    check = anna.port.settle_client(attempt_id="a", within=AMPLE)
    assert isinstance(check, ClientAccepted)
    assert check.changed
    assert isinstance(anna.port.issue_application_token(attempt_id="a", within=AMPLE), Refreshed)


def test_without_credentials_nothing_is_sent_for_the_application(wise: Setting) -> None:
    wise.secrets.usable = False
    outcome = wise.client().issue_application_token(attempt_id="a", within=AMPLE)
    assert outcome == NotSent(reason=WiseSecretUnusable.code)
    assert wise.asked_about_client() == []


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_token"])
def test_an_application_token_is_never_dead(wise: Setting, error: str) -> None:
    wise.emulator.control.fail_next(status=400, body=f'{{"error":"{error}"}}')
    outcome = wise.client().issue_application_token(attempt_id="a", within=AMPLE)
    assert isinstance(outcome, WeAreWrong)
    assert (outcome.status, outcome.error) == (400, error)


@pytest.mark.parametrize("length", [36, 800, 8_000, MAX_APPLICATION_TOKEN])
def test_an_application_token_of_any_size_is_taken_as_it_is(wise: Setting, length: int) -> None:
    token = "fixture." + "x" * (length - 8)
    body = json.dumps({"access_token": token, "refresh_token": "fixture-not-ours", "expires_in": 60})
    wise.emulator.control.fail_next(status=200, body=body)
    outcome = wise.client().issue_application_token(attempt_id="a", within=AMPLE)
    assert isinstance(outcome, Refreshed)
    assert outcome.tokens.access_token.reveal() == token
    assert outcome.tokens.refresh_token is None


def test_an_application_token_longer_than_has_room_is_none(wise: Setting) -> None:
    body = json.dumps({"access_token": "x" * (MAX_APPLICATION_TOKEN + 1), "expires_in": 60})
    wise.emulator.control.fail_next(status=200, body=body)
    outcome = wise.client().issue_application_token(attempt_id="a", within=AMPLE)
    assert isinstance(outcome, Unknown)
    assert outcome.reason == "200-without-token"
