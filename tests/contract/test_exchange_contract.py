"""What the exchange of a code holds to: in memory, and over HTTPS against the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from local.wise.faults import Endpoint, Fault
from local.wise.running import RunningWise, running_wise
from local.wise.settings import WiseSettings
from tests.contract.test_wise_contract import AMPLE, DEFAULTS, RIGHT, SHORT, WRONG, Secrets, utc_now
from tests.fakes.wise import FakeWise
from tests.fakes.world import FakeClock
from token_rotator.adapters.wise_http import WiseHttp
from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.link import ProfilesShown
from token_rotator.domain.outcome import (
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Outcome,
    Refreshed,
    ServerFault,
    Throttled,
    Unknown,
)
from token_rotator.domain.tokens import Secret
from token_rotator.service.ports import CodeExchange, Wise

REDIRECT_URI = "https://rotator.example.com/live/oauth/callback"


class Provider(Wise, CodeExchange, Protocol):
    """Both ports: one thing implements them."""


class Scene(Protocol):
    """One user at Wise, and the ports to it."""

    port: Provider
    client_id: str
    profile_id: str
    """The user's, from the first consent on."""

    def code(self) -> Secret:
        """What the user's consent gives."""
        ...

    def refuse_client(self) -> None: ...


class FakeScene:
    def __init__(self) -> None:
        self.port = FakeWise(FakeClock())
        self.client_id = self.port.client_id
        self.profile_id = "9001"
        self.port.of_users["anna"] = frozenset({self.profile_id})
        self.port.user_ids["anna"] = "1000001"

    def code(self) -> Secret:
        return self.port.code("anna", REDIRECT_URI)

    def refuse_client(self) -> None:
        self.port.valid_secrets = set()


class HttpScene:
    def __init__(self, emulator: RunningWise, user: str) -> None:
        self.emulator, self.user = emulator, user
        self.secrets = Secrets()
        self.client_id = DEFAULTS.client_id
        self.profile_id = ""
        self.port = WiseHttp(emulator.url, self.secrets, utc_now, connect_s=1.0, ca_file=str(emulator.ca_file))  # type: ignore[arg-type]

    def code(self) -> Secret:
        location = self.emulator.control.authorize(self.user, redirect_uri=REDIRECT_URI, state="fixture-state")
        told = parse_qs(urlsplit(location).query)
        self.profile_id = told["profileId"][0]
        return Secret(told["code"][0])

    def refuse_client(self) -> None:
        self.secrets.secret = WRONG


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningWise]:
    with running_wise(WiseSettings(redirect_uris=(REDIRECT_URI,))) as running:
        yield running


@pytest.fixture
def https(emulator: RunningWise, request: pytest.FixtureRequest) -> Iterator[HttpScene]:
    user = f"user-{abs(hash(request.node.name))}"
    emulator.control.put_user(user)
    yield HttpScene(emulator, user)
    emulator.control.clear_faults()


@pytest.fixture(params=["fake", "https"])
def scene(request: pytest.FixtureRequest) -> Scene:
    if request.param == "fake":
        return FakeScene()
    made: HttpScene = request.getfixturevalue("https")
    return made


def exchange(scene: Scene, code: Secret, redirect_uri: str = REDIRECT_URI, within: timedelta = AMPLE) -> Outcome:
    return scene.port.exchange(code, redirect_uri=redirect_uri, attempt_id="attempt-1", within=within)


def tokens_of(outcome: Outcome) -> Any:
    assert isinstance(outcome, Refreshed)
    return outcome.tokens


def test_a_code_gives_tokens(scene: Scene) -> None:
    scene.port.check_client(scene.client_id)
    tokens = tokens_of(exchange(scene, scene.code()))
    assert tokens.refresh_token is not None
    assert tokens.expires_at - tokens.issued_at == pytest.approx(timedelta(hours=12), abs=timedelta(seconds=2))
    assert scene.port.ask(tokens.access_token, attempt_id="a", within=AMPLE).liveness is Liveness.LIVES
    assert isinstance(scene.port.refresh(tokens.refresh_token, attempt_id="b", within=AMPLE), Refreshed)


def test_a_code_works_once(scene: Scene) -> None:
    code = scene.code()
    exchange(scene, code)
    assert isinstance(exchange(scene, code), GrantInvalid)


@pytest.mark.parametrize("changed", [True, False])
def test_a_code_that_is_not_ours_is_refused(scene: Scene, *, changed: bool) -> None:
    code = scene.code() if changed else Secret("fixture-unknown-code")
    assert isinstance(exchange(scene, code, f"{REDIRECT_URI}?x" if changed else REDIRECT_URI), GrantInvalid)


def test_a_new_authorization_ends_the_old_refresh_token(scene: Scene) -> None:
    old = tokens_of(exchange(scene, scene.code()))
    tokens_of(exchange(scene, scene.code()))
    assert isinstance(scene.port.refresh(old.refresh_token, attempt_id="a", within=AMPLE), GrantInvalid)


def test_after_a_new_authorization_the_old_access_token_lives_until_the_next_refresh(scene: Scene) -> None:
    first, second, third = (tokens_of(exchange(scene, scene.code())) for _ in range(3))
    for token in (first.access_token, second.access_token, third.access_token):
        assert scene.port.ask(token, attempt_id="a", within=AMPLE).liveness is Liveness.LIVES
    fourth = tokens_of(scene.port.refresh(third.refresh_token, attempt_id="b", within=AMPLE))
    assert scene.port.ask(fourth.access_token, attempt_id="c", within=AMPLE).liveness is Liveness.LIVES
    assert scene.port.ask(third.access_token, attempt_id="d", within=AMPLE).liveness is Liveness.DEAD


def test_a_refused_client_is_no_verdict_about_the_code(scene: Scene) -> None:
    scene.refuse_client()
    assert isinstance(exchange(scene, scene.code()), ClientRefused)


def test_another_clients_users_are_not_exchanged(scene: Scene) -> None:
    with pytest.raises(WiseSecretUnusable):
        scene.port.check_client("another-client")


def test_wise_says_whose_profile_it_is(scene: Scene) -> None:
    tokens = tokens_of(exchange(scene, scene.code()))
    shown = scene.port.profiles(tokens.access_token, attempt_id="a", within=AMPLE)
    assert shown is not None
    assert shown.ids == {scene.profile_id}
    assert shown.user_id is not None
    dead = Secret("fixture-dead-token")
    assert scene.port.profiles(dead, attempt_id="a", within=AMPLE) is None


# --- over HTTPS alone


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(endpoint=Endpoint.PROFILES, status=200, body="[]", carry_out=False), frozenset()),
        (Fault(endpoint=Endpoint.PROFILES, status=200, body='[{"id": 7}, {"id": "8"}]', carry_out=False), {"7", "8"}),
        *(
            (Fault(endpoint=Endpoint.PROFILES, status=200, body=body, carry_out=False), None)
            for body in ("", "{}", "7", '[{"name": "x"}]', "[7]", '[{"id": true}]', '[{"id": null}]')
        ),
        (Fault(endpoint=Endpoint.PROFILES, status=503, body="[]", carry_out=False), None),
        (Fault(endpoint=Endpoint.PROFILES, after_s=3), None),
    ],
)
def test_an_answer_that_lists_no_profiles_is_none(
    https: HttpScene, fault: Fault, expected: frozenset[str] | None
) -> None:
    tokens = tokens_of(exchange(https, https.code()))
    https.emulator.control.add_fault(fault)
    shown = https.port.profiles(tokens.access_token, attempt_id="a", within=SHORT)
    assert shown == (None if expected is None else ProfilesShown(frozenset(expected)))


@pytest.mark.parametrize(
    ("users", "expected"),
    [("7", "7"), ('"u-8"', "u-8"), ("null", None), ("true", None), ('"a b"', None), ("7.5", None)],
)
def test_the_user_is_whom_every_profile_names(https: HttpScene, users: str, expected: str | None) -> None:
    tokens = tokens_of(exchange(https, https.code()))
    for body, user in (
        (f'[{{"id": 1, "userId": {users}}}, {{"id": 2, "userId": {users}}}]', expected),
        (f'[{{"id": 1, "userId": {users}}}, {{"id": 2, "userId": 9}}]', None),
    ):
        https.emulator.control.add_fault(Fault(endpoint=Endpoint.PROFILES, status=200, body=body, carry_out=False))
        shown = https.port.profiles(tokens.access_token, attempt_id="a", within=AMPLE)
        assert shown == ProfilesShown(frozenset({"1", "2"}), user)


def test_profiles_are_asked_for_in_a_quarter_too(emulator: RunningWise, https: HttpScene) -> None:
    tokens = tokens_of(exchange(https, https.code()))
    port = WiseHttp(
        emulator.url,
        https.secrets,  # type: ignore[arg-type]
        utc_now,
        connect_s=1.0,
        api_version="2026Q4",
        ca_file=str(emulator.ca_file),
    )
    shown = port.profiles(tokens.access_token, attempt_id="a", within=AMPLE)
    assert shown is not None
    assert shown.ids == {https.profile_id}


def test_credentials_that_wise_refuses_are_read_anew(https: HttpScene) -> None:
    https.refuse_client()
    exchange(https, https.code())
    assert https.secrets.forgotten == 1
    https.secrets.secret = RIGHT
    tokens_of(exchange(https, https.code()))
    assert https.secrets.forgotten == 1


def test_nothing_is_sent_without_credentials(https: HttpScene) -> None:
    https.secrets.usable = False
    with pytest.raises(WiseSecretUnusable):
        https.port.check_client(https.client_id)
    assert exchange(https, https.code()) == NotSent(reason="wise-secret-unusable")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(status=429, body="{}", carry_out=False), Throttled),
        (Fault(status=502, body="<html>", carry_out=False), Unknown),
        (Fault(status=500, body='{"error":"server_error"}', carry_out=False), ServerFault),
        (Fault(after_s=3), Unknown),
    ],
    ids=["throttled", "proxy", "server", "slow"],
)
def test_a_fault_is_answered_with_what_it_is_and_nothing_is_sent_again(
    https: HttpScene, fault: Fault, expected: type[Outcome]
) -> None:
    code = https.code()
    https.emulator.control.add_fault(fault)
    before = len(https.emulator.control.requests())
    outcome = exchange(https, code, within=SHORT)
    assert isinstance(outcome, expected), outcome
    assert len(https.emulator.control.requests()) <= before + 1
    assert fault.endpoint is Endpoint.TOKEN


def test_the_request_is_what_wise_documents(https: HttpScene) -> None:
    exchange(https, https.code())
    request = https.emulator.control.requests(user=https.user)[-1]
    assert request.grant_type == "authorization_code"
    assert request.correlation_id == "attempt-1"
