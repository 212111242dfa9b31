"""Guards that no other test would miss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config

from tests.fakes.rotator import World
from token_rotator.adapters.dynamo_fleet import DynamoFleet
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.fleet import Lane
from token_rotator.domain.grant import Phase
from token_rotator.domain.outcome import ClientRefused, Liveness, NotSent, Unknown
from token_rotator.domain.suspension import FOUND_DEAD
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.service.ports import Due
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import Served
from token_rotator.wiring import serving

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    return world


# --- doubt


def test_a_death_that_was_known_before_proves_nothing_about_our_request(world: World) -> None:
    """In doubt the token may have been dead already: what Wise says of it after our own request is no news."""
    world.due_now()
    world.wise.script, world.wise.asks = ["drop"], [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(seconds=23)
    world.wise.script, world.wise.asks = ["drop"], [Liveness.DEAD, Liveness.DEAD]
    assert world.attempt().word is Word.IN_DOUBT
    assert len(world.wise.refreshes) == 2  # one each: nothing was sent again
    assert world.stored().attempt_id is not None


def test_the_second_request_of_an_attempt_is_its_last(world: World) -> None:
    world.due_now()
    world.wise.secrets = ["secret-2", "secret-1"]
    world.wise.valid_secrets = {"secret-2"}
    world.wise.script = [ClientRefused(status=401, error="invalid_client"), Unknown(reason="deadline")]
    world.wise.asks = [Liveness.DEAD]
    assert world.attempt().word is Word.IN_DOUBT
    assert len(world.wise.refreshes) == 2
    assert world.stored().attempt_id is not None


def test_no_verdict_falls_at_who_saw_the_queue_empty_before_an_answer_could_be_in_it() -> None:
    world = World("rotated")
    world.adopted()
    world.due_now()
    world.wise.script, world.wise.asks = ["lose"], [Liveness.NO_ANSWER]  # the new refresh token is lost with it
    world.attempt()
    world.clock.advance(seconds=23)
    early = world.refresh_grant(world.key(), Due(), alone=True, drained_at=world.clock())
    assert early.word is Word.IN_DOUBT
    hold_until = world.stored().hold_until
    assert hold_until is not None
    world.clock.now = hold_until + timedelta(minutes=1)
    seen = hold_until - timedelta(milliseconds=1)
    assert world.refresh_grant(world.key(), Due(), alone=True, drained_at=seen).word is Word.IN_DOUBT
    assert world.stored().phase is Phase.ACTIVE


def test_no_verdict_falls_while_somebody_has_a_parked_answer_in_hand() -> None:
    world = World("rotated")
    world.adopted()
    world.due_now()
    world.grants.failures = ["ok", *["before"] * 100]
    assert world.attempt().code == "answer-parked"
    world.grants.failures = []
    world.clock.advance(seconds=23)
    assert world.attempt().word is Word.IN_DOUBT
    hold_until = world.stored().hold_until
    assert hold_until is not None
    world.clock.now = hold_until + timedelta(minutes=1)
    assert len(world.parking.receive()) == 1  # as one does who then dies with it
    drained_at = world.drain(world.clock() + timedelta(seconds=10))
    assert world.refresh_grant(world.key(), Due(), alone=True, drained_at=drained_at).word is Word.IN_DOUBT
    assert world.stored().phase is Phase.ACTIVE


# --- answers


def test_an_answer_that_comes_while_a_verdict_falls_brings_the_grant_back(world: World) -> None:
    """The verdict comes between what the late answer saw and what it writes."""
    world.due_now()

    def taken_over() -> None:
        until = world.clock() + timedelta(seconds=18)
        world.grants.items[world.key()] = replace(world.stored(), attempt_id="other", lease_until=until)
        world.grants.before_write = judged_at_the_second

    def judged_at_the_second() -> None:
        writes.append(1)
        if len(writes) == 2:
            world.grants.items[world.key()] = replace(world.stored(), phase=Phase.REAUTHORIZATION_REQUIRED)

    writes: list[int] = []
    world.wise.after_refresh = taken_over
    assert world.attempt().word is Word.IN_DOUBT
    assert world.wise.lives(world.access_token())
    assert world.stored().phase is Phase.ACTIVE


def _offer(world: World, name: str) -> Offer:
    access, refresh = world.wise.add(name)
    return Offer(refresh_token=refresh, access_token=access, issued_at=world.clock(), expires_at=world.clock() + HOUR)


def test_an_import_has_a_newer_version_even_if_the_clock_was_set_back(world: World) -> None:
    before = world.stored()
    offer = _offer(world, "new")
    world.clock.now -= HOUR
    kept = world.adopt_grant(world.key(), offer, before.version)
    assert isinstance(kept, Kept)
    assert kept.grant.version > before.version


def test_an_import_does_not_bury_a_token_that_is_refreshed_while_it_seals(world: World) -> None:
    before = world.due_now()
    offer = _offer(world, "new")
    seal = world.sealer.seal
    refreshed: list[Word] = []

    def slow(*arguments: Any) -> Any:
        if not refreshed:
            refreshed.append(world.attempt().word)
        return seal(*arguments)

    world.sealer.seal = slow  # type: ignore[method-assign]
    assert world.adopt_grant(world.key(), offer, before.version) is Declined.PRECONDITION_FAILED
    assert refreshed == [Word.REFRESHED]
    assert world.wise.users["anna"].access_token == world.access_token()


def test_an_access_token_imported_over_a_dead_grant_is_asked_about_first(world: World) -> None:
    """What killed the grant may have killed the token that is imported."""
    world.due_now()
    world.wise.users["anna"].alive = False
    assert world.attempt().word is Word.REAUTHORIZATION_REQUIRED
    kept = world.adopt_grant(world.key(), _offer(world, "new"), world.stored().version)
    assert isinstance(kept, Kept)
    assert kept.grant.in_doubt == FOUND_DEAD
    assert isinstance(world.serve(), Served)
    assert len(world.wise.asked) == 1


# --- readers


def test_a_report_of_an_older_version_asks_nobody(world: World) -> None:
    world.clock.advance(minutes=10)
    assert isinstance(world.serve(rejected=world.stored().version - 1), Served)
    assert world.wise.asked == []


# --- the breaker


def test_no_lease_is_taken_on_demand_while_the_breaker_is_known_to_be_open(world: World) -> None:
    world.due_now()
    for name in ("ben", "cleo", "dora"):
        world.breaker.unhealthy(NotSent(reason="not-connected"), f"attempt-of-{name}", key=world.key(name))
    assert world.refresh_grant(world.key(), Due(), alone=True, lane=world.demand_lane).word is Word.BARRED
    assert world.stored().last_attempt_at is None
    assert isinstance(world.serve(), Served)


def test_an_answer_that_comes_after_the_trial_does_not_close_the_breaker(world: World) -> None:
    for name in ("ben", "cleo", "dora"):
        world.breaker.unhealthy(NotSent(reason="not-connected"), f"attempt-of-{name}", key=world.key(name))
    world.clock.advance(seconds=20)
    world.wise.checks = [ClientRefused(status=401, error="unauthorized_client")]
    assert world.breaker.enter(world.sweep_lane, 5) == 1  # one call on trial, which nobody makes
    world.clock.advance(seconds=16)
    world.breaker.healthy("attempt-of-a-slow-one")
    assert world.fleet.read().open_until is not None


# --- the sweep


def _suspects(world: World, names: list[str]) -> None:
    """Grants whose workers keep dying, more urgent than any other."""
    for name in names:
        world.grants.items[world.key(name)] = replace(
            world.stored(name),
            attempt_id="dead",
            lease_until=world.clock() - timedelta(minutes=1),
            takeovers=5,
            due_at=world.clock() - 8 * HOUR,
        )


def test_suspects_are_advanced_one_between_two_looks(world: World) -> None:
    suspects, healthy = [f"suspect-{number}" for number in range(7)], ["ben", "cleo", "dora"]
    for name in (*suspects, *healthy):
        world.adopted(name)
    world.clock.advance(hours=9)
    _suspects(world, suspects)
    order: list[str] = []
    refresh = world.wise.refresh
    world.wise.refresh = lambda token, **more: (order.append(token.reveal()), refresh(token, **more))[1]  # type: ignore[method-assign]
    replace(world.refresh_due, workers=8)(range(16), world.clock() + timedelta(seconds=30))
    assert len(order) == 11
    assert all(order.index(f"refresh-{name}-1") < 6 for name in healthy)


def test_nobody_else_is_in_flight_while_a_suspect_is_advanced(world: World) -> None:
    world.adopted("suspect")
    world.clock.advance(hours=9)
    _suspects(world, ["suspect"])
    in_flight: list[str] = []
    together: list[list[str]] = []
    over = threading.Event()
    refresh = world.wise.refresh

    def watched(token: Secret, **more: Any) -> Any:
        in_flight.append(token.reveal())
        together.append(list(in_flight))
        if "anna" in token.reveal():
            over.wait(1)
        else:
            over.set()
        answer = refresh(token, **more)
        in_flight.remove(token.reveal())
        return answer

    world.wise.refresh = watched  # type: ignore[method-assign]
    replace(world.refresh_due, workers=4)(range(16), world.clock() + timedelta(seconds=5))
    assert together == [["refresh-anna-1"], ["refresh-suspect-1"]]


def test_a_question_before_a_refresh_is_taken_from_the_lane_too(world: World) -> None:
    names = [f"user-{number}" for number in range(80)]
    for name in names:
        world.adopted(name)
    world.clock.advance(hours=9)
    for name in names:
        doubted = replace(world.stored(name), in_doubt="earlier", due_at=world.clock() - 8 * HOUR)
        world.grants.items[world.key(name)] = doubted
    world.wise.takes = timedelta(0)
    replace(world.refresh_due, lane=Lane("sweep", 60))(range(16), world.clock() + timedelta(seconds=55))
    calls = len(world.wise.asked) + len(world.wise.refreshes)
    assert 40 <= calls <= 62


# --- what goes over the wire


@dataclass
class Wire:
    """A client of DynamoDB whose requests end here: what they ask for is noted, and nothing is found."""

    client: Any
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client.meta.events.register("provide-client-params", self._on_parameters)
        self.client.meta.events.register("before-send", self._on_send)

    def _on_parameters(self, params: dict[str, Any], **_: object) -> None:
        self.asked.append(params)

    def _on_send(self, request: AWSRequest, **_: object) -> AWSResponse:
        raw = type("Raw", (), {"stream": lambda *_, **__: iter([b"{}"])})()
        return AWSResponse(request.url, 200, {}, raw)


@pytest.fixture
def wire() -> Iterator[Wire]:
    client = boto3.session.Session().client(
        "dynamodb",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="fixture",
        aws_secret_access_key="fixture",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield Wire(client)
    client.close()


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda client: DynamoGrants(client, "grants").get(World().key()), id="a grant"),
        pytest.param(lambda client: DynamoFleet(client, "grants").read(), id="the fleet"),
    ],
)
def test_what_is_decided_by_is_read_consistently(wire: Wire, read: Callable[[Any], object]) -> None:
    read(wire.client)
    assert [parameters.get("ConsistentRead") for parameters in wire.asked] == [True]


class Failing(BaseHTTPRequestHandler):
    """Lambda's end of the wire, which always fails and counts how often it was asked."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_the_refresh_function_is_asked_once_as_it_is_wired(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Failing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name, value in {
        "ACCESS_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:123456789012:key/fixture-access",
        "AWS_ACCESS_KEY_ID": "fixture",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_REGION": "eu-west-1",
        "AWS_SECRET_ACCESS_KEY": "fixture",
        "GRANTS_TABLE": "fixture-grants",
        "PARTNERS": "[]",
        "POWERTOOLS_METRICS_NAMESPACE": "TokenRotator",
        "POWERTOOLS_SERVICE_NAME": "serve",
        "REFRESH_FUNCTION": "fixture-refresh",
        "ROTATOR_ENVIRONMENT": "sandbox",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        report = serving.wire().serve_token.refresher.refresh(World().key(), Due())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (report.outcome, Failing.asked) == ("failed", 1)
