"""Asking the refresh function: every answer is read or is `failed`, and it is asked once."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError, ResponseStreamingError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from types_boto3_lambda import LambdaClient

from tests.contract.examples import KEY
from tests.fakes.world import RecordingJournal
from token_rotator.adapters.lambda_refresher import LambdaRefresher
from token_rotator.domain.grant import APPLICATION
from token_rotator.service.journal import Trouble
from token_rotator.service.ports import Cause, Due, RefreshReport, Rejected
from token_rotator.wiring.clients import client as wired_client

FAILED = RefreshReport("failed")


@pytest.fixture
def client() -> Iterator[LambdaClient]:
    made = boto3.client(
        "lambda",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="fixture",
        aws_secret_access_key="fixture",
    )
    yield made
    made.close()


@pytest.fixture
def journal() -> RecordingJournal:
    return RecordingJournal()


def payload(body: bytes) -> StreamingBody:
    return StreamingBody(io.BytesIO(body), len(body))


@pytest.mark.parametrize(
    ("told", "report"),
    [
        ({"outcome": "refreshed", "version": 8, "retry_after_s": None}, RefreshReport("refreshed", 8)),
        (
            {"outcome": "in_doubt", "version": 7, "retry_after_s": 12.5},
            RefreshReport("in_doubt", 7, timedelta(seconds=12.5)),
        ),
        ({"outcome": "gone", "version": None, "retry_after_s": None}, RefreshReport("gone")),
        (
            {"outcome": "held", "version": 7, "retry_after_s": 3, "novelty": 1},
            RefreshReport("held", 7, timedelta(seconds=3)),
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_answer_is_read(
    client: LambdaClient, journal: RecordingJournal, told: dict[str, Any], report: RefreshReport
) -> None:
    with Stubber(client) as stubber:
        stubber.add_response("invoke", {"StatusCode": 200, "Payload": payload(json.dumps(told).encode())})
        assert LambdaRefresher(client, "refresh", journal).refresh(KEY, Due()) == report
    assert journal.events == []


@pytest.mark.parametrize(("cause", "rejected"), [(Due(), None), (Rejected(1_772_000_000_007), 1_772_000_000_007)])
def test_the_question_is_ids_and_a_version(
    client: LambdaClient, journal: RecordingJournal, cause: Cause, rejected: int | None
) -> None:
    question = json.dumps({"tenant": "acme", "grant_id": "anna", "rejected": rejected}).encode()
    answer = payload(b'{"outcome":"fresh","version":7,"retry_after_s":null}')
    with Stubber(client) as stubber:
        asked = {"FunctionName": "refresh", "Payload": question}
        stubber.add_response("invoke", {"StatusCode": 200, "Payload": answer}, asked)
        assert LambdaRefresher(client, "refresh", journal).refresh(KEY, cause) == RefreshReport("fresh", 7)
        stubber.assert_no_pending_responses()


@pytest.mark.parametrize(("cause", "rejected"), [(Due(), None), (Rejected(7), 7)])
def test_of_our_applications_own_token_the_question_names_no_ids(
    client: LambdaClient, journal: RecordingJournal, cause: Cause, rejected: int | None
) -> None:
    question = json.dumps({"application": True, "rejected": rejected}).encode()
    answer = payload(b'{"outcome":"fresh","version":7,"retry_after_s":null}')
    with Stubber(client) as stubber:
        asked = {"FunctionName": "refresh", "Payload": question}
        stubber.add_response("invoke", {"StatusCode": 200, "Payload": answer}, asked)
        assert LambdaRefresher(client, "refresh", journal).refresh(APPLICATION, cause) == RefreshReport("fresh", 7)
        stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"<html>",
        b"\xff\xfe",
        b"{}",
        b'{"outcome":"refreshed"}',
        b'{"outcome":"refreshed","version":8}',
        b'{"outcome":"refreshed","version":8,"retry_after_s":"soon"}',
        b'{"outcome":"refreshed","version":8,"retry_after_s":1e300}',
        b'{"outcome":"refreshed","version":8,"retry_after_s":NaN}',
        b'{"outcome":"refreshed","version":"eight","retry_after_s":null}',
        b'{"outcome":["refreshed"],"version":8,"retry_after_s":null}',
    ],
)
def test_garbage_is_failed_and_on_record(client: LambdaClient, journal: RecordingJournal, body: bytes) -> None:
    with Stubber(client) as stubber:
        stubber.add_response("invoke", {"StatusCode": 200, "Payload": payload(body)})
        assert LambdaRefresher(client, "refresh", journal).refresh(KEY, Due()) == FAILED
    (event,) = journal.events
    assert isinstance(event, Trouble)
    assert (event.key, event.code) == (KEY, "refresh-unreachable")


@pytest.mark.parametrize("kind", ["Unhandled", "Handled"])
def test_a_failing_function_is_failed_and_its_words_stay_out(
    client: LambdaClient, journal: RecordingJournal, kind: str
) -> None:
    body = b'{"errorMessage":"fixture words","errorType":"Runtime.HandlerError"}'
    with Stubber(client) as stubber:
        stubber.add_response("invoke", {"StatusCode": 200, "FunctionError": kind, "Payload": payload(body)})
        assert LambdaRefresher(client, "refresh", journal).refresh(KEY, Due()) == FAILED
    assert "fixture words" not in repr(journal.events)
    assert [event.detail for event in journal.of(Trouble)] == ["function-error"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("AccessDeniedException", 403),
        ("ResourceNotFoundException", 404),
        ("KMSDisabledException", 502),
        ("ServiceException", 500),
    ],
)
def test_a_refused_invocation_is_failed(
    client: LambdaClient, journal: RecordingJournal, code: str, status: int
) -> None:
    with Stubber(client) as stubber:
        stubber.add_client_error("invoke", code, "fixture words", status)
        assert LambdaRefresher(client, "refresh", journal).refresh(KEY, Due()) == FAILED
    assert [event.detail for event in journal.of(Trouble)] == [code]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(endpoint_url="http://127.0.0.1:1"),
        ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"),
        ResponseStreamingError(error="broken"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_answer_is_failed(client: LambdaClient, journal: RecordingJournal, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    client.meta.events.register("before-call.lambda.Invoke", fail)
    assert LambdaRefresher(client, "refresh", journal).refresh(KEY, Due()) == FAILED
    assert [event.detail for event in journal.of(Trouble)] == [type(error).__name__]  # type: ignore[attr-defined]


class Endpoint:
    """Lambda's end of the wire: gives one answer to every request, or none, and counts."""

    def __init__(self, answer: bytes | None) -> None:
        self.asked = 0
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            self.asked += bool(connection.recv(65_536))
            if self._answer is not None:
                connection.sendall(self._answer)
                connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
        for connection in self._open:
            connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"HTTP/1.1 500 Internal\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 429 Too Many\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 503 Unavailable\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{}",
    ],
    ids=["silence", "hang-up", "500", "429", "503", "truncated"],
)
def test_the_function_is_asked_once_whatever_happens(
    journal: RecordingJournal, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    endpoint = Endpoint(answer)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "fixture",
        "AWS_SECRET_ACCESS_KEY": "fixture",
    }.items():
        monkeypatch.setenv(name, value)
    wired: LambdaClient = wired_client("lambda", read_s=0.5, tries=1)
    try:
        assert LambdaRefresher(wired, "refresh", journal).refresh(KEY, Due()) == FAILED
    finally:
        wired.close()
        endpoint.close()
    assert endpoint.asked == 1
    assert len(journal.events) == 1
