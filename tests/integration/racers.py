"""Many workers after one lease at the same time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPConnection
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.config import Config

from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.lease import Lease
from token_rotator.service.ports import Done, Due

PROCESSES: Final = 8
THREADS: Final = 4
RACERS: Final = PROCESSES * THREADS
_SPAWN: Final = multiprocessing.get_context("spawn")
_PATIENCE_S: Final = 400
FREE: Final = "attribute_not_exists(#attempt_id)"
"""The condition without which two may win."""


@dataclass(frozen=True)
class Race:
    """Where the grants are that everybody is after, one a round."""

    endpoint: str
    table: str
    keys: Sequence[GrantKey]
    now: datetime
    conditional: bool = True


def run(race: Race) -> list[list[str]]:
    """Give the attempts that won, by round."""
    start = _SPAWN.Barrier(PROCESSES)
    won: Any = _SPAWN.Queue()
    processes = [
        _SPAWN.Process(target=_compete, args=(race, number, start, won), name=f"racers-{number}", daemon=True)
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    try:
        winners: list[list[str]] = [[] for _ in race.keys]
        for _ in processes:
            for number, attempt_id in won.get(timeout=_PATIENCE_S):
                winners[number].append(attempt_id)
    finally:
        for process in processes:
            process.join(5)
            process.kill()
            process.join()
            process.close()
        won.close()
    return winners


def _compete(race: Race, process: int, start: Barrier, won: Any) -> None:
    client = boto3.client(
        "dynamodb",
        endpoint_url=race.endpoint,
        region_name="eu-west-1",
        config=Config(
            signature_version=UNSIGNED,
            parameter_validation=False,
            max_pool_connections=THREADS,
            retries={"total_max_attempts": 1},
        ),
    )
    client.meta.events.register("before-send.dynamodb.UpdateItem", _Wire(race.endpoint).send)
    if not race.conditional:
        client.meta.events.register("provide-client-params.dynamodb.UpdateItem", _take_anyway)
    store = DynamoGrants(client, race.table)
    together = threading.Barrier(THREADS, action=lambda: start.wait(_PATIENCE_S) and None)
    mine: list[tuple[int, str]] = []

    def compete(thread: int) -> None:
        try:
            for number, key in enumerate(race.keys):
                lease = Lease(f"attempt-{number}-{process}-{thread}", race.now + timedelta(seconds=18))
                together.wait()
                if isinstance(store.acquire(key, lease, Due(), race.now), Done):
                    mine.append((number, lease.attempt_id))
        except BaseException:
            together.abort()
            start.abort()
            raise

    threads = [threading.Thread(target=compete, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won.put(mine)


class _Wire:
    """A plain connection for each thread in place of botocore's: half of the processors' time, which racers share."""

    def __init__(self, endpoint: str) -> None:
        self._address = endpoint.removeprefix("http://")
        self._own = threading.local()

    def send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """Send one request; what a handler of `before-send` gives back is taken for the answer."""
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = HTTPConnection(self._address, timeout=_PATIENCE_S)
        headers = {name: request.headers[name] for name in ("X-Amz-Target", "Content-Type")}
        connection.request("POST", "/", body=request.body, headers=headers)
        answer = connection.getresponse()
        made = AWSResponse(request.url, answer.status, HeadersDict(answer.getheaders()), answer)
        made._content = answer.read()
        return made


def _take_anyway(params: dict[str, Any], **_: object) -> dict[str, Any]:
    """Leave the lease out of the condition, as the request goes out."""
    condition = params["ConditionExpression"]
    assert FREE in condition
    return {**params, "ConditionExpression": condition.replace(FREE, "attribute_exists(pk)")}
