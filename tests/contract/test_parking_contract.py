"""What the parking queue holds to: in memory, and over SQS."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, Protocol

import boto3
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from tests.contract.examples import HOUR, KEY, NOW, instants
from tests.fakes.parking import InMemoryParking
from tests.fakes.world import FakeClock
from token_rotator.adapters import sqs_parking
from token_rotator.adapters.sqs_parking import SqsParking
from token_rotator.adapters.wise_answers import MAX_APPLICATION_TOKEN
from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.errors import ParkingUnavailable
from token_rotator.domain.grant import APPLICATION, GrantKey
from token_rotator.domain.tokens import Sealed
from token_rotator.service.ports import Parked, ParkingQueue

SEALED = b"fixture-sealed-token"


def an_answer(**changes: Any) -> SealedAnswer:
    told: dict[str, Any] = {
        "key": KEY,
        "attempt_id": "attempt-1",
        "base_version": 1_772_000_000_000,
        "access_token": Sealed(SEALED),
        "refresh_token": Sealed(b"fixture-sealed-refresh-token"),
        "issued_at": NOW,
        "expires_at": NOW + 12 * HOUR,
        "refresh_expires_at": NOW + 24_000 * HOUR,
        "scope": "transfers",
        "reissued": "invalid_grant",
        "foreign": True,
        "trace_id": "f" * 32,
    }
    return SealedAnswer(**told | changes)


def bare_answer() -> SealedAnswer:
    """An answer that tells as little as one can."""
    return an_answer(
        refresh_token=None, refresh_expires_at=None, scope=None, reissued=None, foreign=False, trace_id=None
    )


class Lot(Protocol):
    """The port, and what only the place behind it can do."""

    port: ParkingQueue

    def wait(self, duration: timedelta) -> None: ...

    def refuse(self) -> None: ...

    def lose(self) -> None: ...

    def scribble(self) -> None: ...


class MemoryLot:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self.port = InMemoryParking(self._clock)

    def wait(self, duration: timedelta) -> None:
        self._clock.now += duration

    def refuse(self) -> None:
        self.port.failures.append("before")

    def lose(self) -> None:
        self.port.failures.append("after")

    def scribble(self) -> None:
        self.port.put_unreadable()


@dataclass
class SqsLot:
    """A queue whose clock can be put forward. `errors` are raised by the next calls, before their effect or after."""

    client: Any
    queue_url: str
    ahead_s: float = 0.0
    errors: list[tuple[str, Exception]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = SqsParking(self.client, self.queue_url)

    def now_ms(self) -> float:
        return (time.time() + self.ahead_s) * 1000

    def before(self, params: dict[str, Any], **_: object) -> None:
        self.asked.append(params)
        if self.errors and self.errors[0][0] == "before":
            raise self.errors.pop(0)[1]

    def after(self, **_: object) -> None:
        if self.errors and self.errors[0][0] == "after":
            raise self.errors.pop(0)[1]

    def wait(self, duration: timedelta) -> None:
        self.ahead_s += duration.total_seconds()

    def refuse(self) -> None:
        self.errors.append(("before", refusal("AccessDenied")))

    def lose(self) -> None:
        self.errors.append(("after", ReadTimeoutError(endpoint_url="https://sqs.invalid")))

    def scribble(self) -> None:
        self.put("no message of ours")

    def put(self, text: str) -> None:
        self.client.send_message(QueueUrl=self.queue_url, MessageBody=text)

    def bodies(self) -> list[str]:
        answer = self.client.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [message["Body"] for message in answer.get("Messages", [])]


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "a message that is not shown"}}, "SendMessage")


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client(
            "sqs", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
        )
        yield client
        client.close()


@pytest.fixture
def sqs(moto: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqsLot]:
    made = SqsLot(moto, moto.create_queue(QueueName=f"parked-{uuid.uuid4().hex}")["QueueUrl"])
    monkeypatch.setattr("moto.sqs.models.unix_time_millis", made.now_ms)
    monkeypatch.setattr(sqs_parking, "WAIT_S", 0)  # moto's queue is one server, and its waiting a busy one
    hooks = {"provide-client-params.sqs": made.before, "after-call.sqs": made.after}
    for event, hook in hooks.items():
        moto.meta.events.register(event, hook)
    yield made
    for event, hook in hooks.items():
        moto.meta.events.unregister(event, hook)


@pytest.fixture(params=["memory", "sqs"])
def lot(request: pytest.FixtureRequest) -> Lot:
    made: Lot = MemoryLot() if request.param == "memory" else request.getfixturevalue("sqs")
    return made


def answers(parked: Sequence[Parked]) -> list[SealedAnswer | None]:
    return [one.answer for one in parked]


# --- over both


def own_answer() -> SealedAnswer:
    """An answer with our application's own token."""
    return replace(bare_answer(), key=APPLICATION)


@pytest.mark.parametrize("answer", [an_answer(), bare_answer(), own_answer()], ids=["whole", "bare", "own"])
def test_what_was_parked_is_received(lot: Lot, answer: SealedAnswer) -> None:
    lot.port.park(answer)
    assert answers(lot.port.receive()) == [answer]


def test_an_empty_queue_gives_none(lot: Lot) -> None:
    assert list(lot.port.receive()) == []


def test_who_received_an_answer_has_it_for_half_a_minute(lot: Lot) -> None:
    lot.port.park(an_answer())
    assert answers(lot.port.receive()) == [an_answer()]
    lot.wait(timedelta(seconds=29))
    assert list(lot.port.receive()) == []
    lot.wait(timedelta(seconds=1.5))
    assert answers(lot.port.receive()) == [an_answer()]


def test_what_somebody_has_received_still_lies_there(lot: Lot) -> None:
    assert not lot.port.holds_any()
    lot.port.park(an_answer())
    assert lot.port.holds_any()
    (parked,) = lot.port.receive()
    assert lot.port.receive() == []
    assert lot.port.holds_any()
    lot.port.remove(parked)
    assert not lot.port.holds_any()


def test_a_count_that_does_not_come_is_unavailable(lot: Lot) -> None:
    lot.refuse()
    with pytest.raises(ParkingUnavailable):
        lot.port.holds_any()


def test_a_removed_answer_does_not_come_back(lot: Lot) -> None:
    lot.port.park(an_answer())
    lot.port.park(an_answer(attempt_id="attempt-2"))
    first, second = lot.port.receive()
    lot.port.remove(first)
    lot.wait(timedelta(seconds=31))
    (again,) = lot.port.receive()
    assert again.answer == second.answer
    lot.port.remove(again)
    lot.wait(timedelta(seconds=31))
    assert list(lot.port.receive()) == []


def test_an_answer_that_was_parked_twice_is_there_twice(lot: Lot) -> None:
    lot.port.park(an_answer())
    lot.port.park(an_answer())
    found = lot.port.receive()
    assert answers(found) == [an_answer(), an_answer()]
    assert found[0].receipt != found[1].receipt


def test_ten_come_at_once_and_the_others_after_them(lot: Lot) -> None:
    wanted = [an_answer(attempt_id=f"attempt-{number}") for number in range(13)]
    for answer in wanted:
        lot.port.park(answer)
    first, second, third = lot.port.receive(), lot.port.receive(), lot.port.receive()
    assert (len(first), len(second), len(third)) == (10, 3, 0)
    assert {one.answer.attempt_id for one in [*first, *second] if one.answer} == {one.attempt_id for one in wanted}


def test_what_nobody_can_read_is_received_and_removed_like_the_rest(lot: Lot) -> None:
    lot.scribble()
    (found,) = lot.port.receive()
    assert found.answer is None
    lot.port.remove(found)
    lot.wait(timedelta(seconds=31))
    assert list(lot.port.receive()) == []


def test_a_refused_answer_is_not_there(lot: Lot) -> None:
    lot.refuse()
    with pytest.raises(ParkingUnavailable):
        lot.port.park(an_answer())
    assert list(lot.port.receive()) == []


def test_an_answer_may_be_there_though_nobody_said_so(lot: Lot) -> None:
    lot.lose()
    with pytest.raises(ParkingUnavailable):
        lot.port.park(an_answer())
    assert answers(lot.port.receive()) == [an_answer()]


def test_answers_whose_receiving_was_lost_come_back(lot: Lot) -> None:
    lot.port.park(an_answer())
    lot.lose()
    with pytest.raises(ParkingUnavailable):
        lot.port.receive()
    assert list(lot.port.receive()) == []
    lot.wait(timedelta(seconds=31))
    assert answers(lot.port.receive()) == [an_answer()]


@pytest.mark.parametrize("lost", [True, False])
def test_a_failed_removal_may_have_taken_effect(lot: Lot, lost: bool) -> None:  # noqa: FBT001 - a case
    lot.port.park(an_answer())
    (found,) = lot.port.receive()
    (lot.lose if lost else lot.refuse)()
    with pytest.raises(ParkingUnavailable):
        lot.port.remove(found)
    lot.wait(timedelta(seconds=31))
    assert answers(lot.port.receive()) == ([] if lost else [an_answer()])


# --- the message


def test_a_message_is_what_the_design_says(sqs: SqsLot) -> None:
    sqs.port.park(an_answer())
    (body,) = sqs.bodies()
    assert json.loads(body) == {
        "schema": 1,
        "tenant": "acme",
        "grant_id": "anna",
        "attempt_id": "attempt-1",
        "base_version": 1_772_000_000_000,
        "access_token": base64.b64encode(SEALED).decode(),
        "refresh_token": base64.b64encode(b"fixture-sealed-refresh-token").decode(),
        "issued_at": int(NOW.timestamp() * 1000),
        "expires_at": int((NOW + 12 * HOUR).timestamp() * 1000),
        "refresh_expires_at": int((NOW + 24_000 * HOUR).timestamp() * 1000),
        "scope": "transfers",
        "reissued": "invalid_grant",
        "foreign": True,
        "trace_id": "f" * 32,
    }


def test_every_field_of_an_answer_has_its_place() -> None:
    whole, bare = an_answer(), bare_answer()
    told = {name for name in json.loads(sqs_parking._written(whole)) if name != "schema"}
    assert told == {f.name for f in fields(SealedAnswer)} - {"key"} | {"tenant", "grant_id"}
    assert sqs_parking._read(sqs_parking._written(bare)) == bare


boxes = st.binary(min_size=1, max_size=400).map(Sealed)
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    answer=st.builds(
        SealedAnswer,
        key=st.builds(GrantKey, ids, ids),
        attempt_id=st.text(min_size=1, max_size=64),
        base_version=st.integers(min_value=0, max_value=2**53),
        access_token=boxes,
        refresh_token=st.none() | boxes,
        issued_at=instants,
        expires_at=instants,
        refresh_expires_at=st.none() | instants,
        scope=st.none() | st.text(max_size=256),
        reissued=st.none() | st.text(max_size=64),
        foreign=st.booleans(),
        trace_id=st.none() | st.text(max_size=64),
    )
)
def test_any_answer_goes_round(answer: SealedAnswer) -> None:
    assert sqs_parking._read(sqs_parking._written(answer)) == answer


def test_the_longest_tokens_have_room(sqs: SqsLot) -> None:
    box = Sealed(bytes(range(256)) * 130)
    answer = an_answer(key=GrantKey("t" * 128, "g" * 128), access_token=box, refresh_token=box, scope="s" * 256)
    assert len(sqs_parking._written(answer)) < 200_000
    sqs.port.park(answer)
    assert answers(sqs.port.receive()) == [answer]


def test_the_longest_application_token_has_room(sqs: SqsLot) -> None:
    key_and_nonce = 1024  # more than a wrapped key of AWS KMS takes
    answer = replace(
        bare_answer(), key=APPLICATION, access_token=Sealed(b"x" * (MAX_APPLICATION_TOKEN + key_and_nonce))
    )
    answer = replace(answer, scope="s" * 256)
    assert len(sqs_parking._written(answer)) <= 256 * 1024
    sqs.port.park(answer)
    assert answers(sqs.port.receive()) == [answer]


WRITTEN: dict[str, Any] = json.loads(sqs_parking._written(an_answer()))
CHANGES: list[dict[str, Any]] = [
    {"schema": 2},
    {"schema": None},
    {"tenant": None},
    {"tenant": 7},
    {"tenant": "../acme"},
    {"grant_id": ""},
    {"attempt_id": 1},
    {"attempt_id": None},
    {"base_version": "7"},
    {"base_version": 1.5},
    {"base_version": True},
    {"access_token": None},
    {"access_token": "not base64!"},
    {"access_token": "YQ"},
    {"access_token": 7},
    {"refresh_token": "not base64!"},
    {"issued_at": None},
    {"issued_at": "2026-03-01T12:00:00Z"},
    {"issued_at": 10**30},
    {"expires_at": True},
    {"refresh_expires_at": "soon"},
    {"scope": 7},
    {"reissued": True},
    {"foreign": 1},
    {"foreign": "yes"},
    {"trace_id": 7},
]
EARLIER = ("reissued", "foreign", "trace_id")
"""What a message of an earlier version does not have."""
UNREADABLE = {
    **{text[:8]: text for text in ("{}", "[]", "null", "7", '"schema"', "not json", "[" * 100_000)},
    **{str(change): json.dumps(WRITTEN | change) for change in CHANGES},
    **{
        f"no {gone}": json.dumps({name: WRITTEN[name] for name in WRITTEN if name != gone})
        for gone in WRITTEN
        if gone not in EARLIER
    },
}


@pytest.mark.parametrize("text", list(UNREADABLE.values()), ids=list(UNREADABLE))
def test_what_this_version_did_not_write_cannot_be_read(text: str) -> None:
    assert sqs_parking._read(text) is None


def test_what_an_earlier_version_wrote_is_read() -> None:
    written = {name: value for name, value in WRITTEN.items() if name not in EARLIER}
    assert sqs_parking._read(json.dumps(written)) == an_answer(reissued=None, foreign=False, trace_id=None)


def test_what_a_later_version_adds_is_no_hindrance() -> None:
    text = json.dumps(json.loads(sqs_parking._written(an_answer())) | {"novelty": 1})
    assert sqs_parking._read(text) == an_answer()


def test_receiving_asks_all_servers_and_hides_what_it_gives(moto: Any) -> None:
    lot = SqsLot(moto, moto.create_queue(QueueName=f"parked-{uuid.uuid4().hex}")["QueueUrl"])
    moto.meta.events.register("provide-client-params.sqs", lot.before)
    try:
        began = time.monotonic()
        lot.port.receive()
    finally:
        moto.meta.events.unregister("provide-client-params.sqs", lot.before)
    (asked,) = lot.asked
    assert asked.pop("QueueUrl") == lot.queue_url
    assert asked == {"MaxNumberOfMessages": 10, "VisibilityTimeout": 30, "WaitTimeSeconds": 1}
    assert time.monotonic() - began >= 1


# --- what SQS refuses

CALLS: dict[str, Callable[[ParkingQueue], object]] = {
    "park": lambda port: port.park(an_answer()),
    "receive": lambda port: port.receive(),
    "remove": lambda port: port.remove(Parked(None, "receipt")),
}


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    "error",
    [
        refusal("AWS.SimpleQueueService.NonExistentQueue"),
        refusal("AccessDenied"),
        refusal("KmsThrottled"),
        refusal("InternalError"),
        ClientError({}, "SendMessage"),
        ReadTimeoutError(endpoint_url="https://sqs.invalid"),
        ConnectTimeoutError(endpoint_url="https://sqs.invalid"),
        EndpointConnectionError(endpoint_url="https://sqs.invalid"),
        NoCredentialsError(),
    ],
    ids=repr,
)
def test_no_usable_answer_is_unavailable_and_shows_nothing(
    sqs: SqsLot, call: str, error: BotoCoreError | ClientError
) -> None:
    sqs.errors.append(("before", error))
    with pytest.raises(ParkingUnavailable) as raised:
        CALLS[call](sqs.port)
    shown = f"{raised.value!r} {raised.value.__cause__!r}"
    assert "not shown" not in shown
    assert "fixture" not in shown
    assert base64.b64encode(SEALED).decode() not in shown
    assert raised.value.__suppress_context__


def test_a_queue_that_is_gone_is_unavailable(sqs: SqsLot) -> None:
    gone = replace(sqs, queue_url=f"{sqs.queue_url}-gone").port
    for call in CALLS.values():
        with pytest.raises(ParkingUnavailable):
            call(gone)


def test_a_message_shows_no_sealed_bytes() -> None:
    assert "fixture-sealed" not in repr(Parked(an_answer(), "receipt"))
