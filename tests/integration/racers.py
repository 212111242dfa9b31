"""Many workers after one lease at the same time, in processes of their own."""

from __future__ import annotations

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
from types_boto3_dynamodb import DynamoDBClient

from tests.integration.processes import PATIENCE_S, run_together
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.lease import Lease
from token_rotator.service.ports import Done, Due

PROCESSES: Final = 8
THREADS: Final = 4
RACERS: Final = PROCESSES * THREADS
FREE: Final = "attribute_not_exists(#attempt_id)"
"""The condition without which two may win."""


@dataclass(frozen=True)
class Race:
    """Where the grants are that everybody is after, one a round."""

    endpoint: str
    table: str
    keys: Sequence[GrantKey]
    unguarded: Sequence[GrantKey]
    """Those whose lease is taken without its condition."""
    now: datetime

    @property
    def rounds(self) -> list[GrantKey]:
        return [*self.keys, *self.unguarded]


def run(race: Race) -> dict[GrantKey, list[str]]:
    """Give the attempts that won, by grant."""
    winners: dict[GrantKey, list[str]] = {key: [] for key in race.rounds}
    for won in run_together(PROCESSES, _compete, race):
        for key, attempt_id in won:
            winners[key].append(attempt_id)
    return winners


def _compete(process: int, race: Race, start: Barrier) -> list[tuple[GrantKey, str]]:
    guarded, unguarded = (_client(race.endpoint) for _ in range(2))
    unguarded.meta.events.register("provide-client-params.dynamodb.UpdateItem", _take_anyway)
    stores = dict.fromkeys(race.keys, DynamoGrants(guarded, race.table))
    stores |= dict.fromkeys(race.unguarded, DynamoGrants(unguarded, race.table))
    together = threading.Barrier(THREADS, action=lambda: start.wait(PATIENCE_S) and None)
    mine: list[tuple[GrantKey, str]] = []
    failures: list[BaseException] = []

    def compete(thread: int) -> None:
        try:
            for key in race.rounds:
                lease = Lease(f"{key.grant_id}-{process}-{thread}", race.now + timedelta(seconds=18))
                together.wait()
                if isinstance(stores[key].acquire(key, lease, Due(), race.now), Done):
                    mine.append((key, lease.attempt_id))
        except BaseException as error:  # noqa: BLE001 - kept, and raised where it is seen
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=compete, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return mine


def _client(endpoint: str) -> DynamoDBClient:
    config = Config(signature_version=UNSIGNED, parameter_validation=False, retries={"total_max_attempts": 1})
    client = boto3.client("dynamodb", endpoint_url=endpoint, region_name="eu-west-1", config=config)
    client.meta.events.register("before-send.dynamodb.UpdateItem", _Wire(endpoint).send)
    return client


class _Wire:
    """A plain connection for each thread in place of botocore's: half of the processors' time, which racers share."""

    def __init__(self, endpoint: str) -> None:
        self._address = endpoint.removeprefix("http://")
        self._own = threading.local()

    def send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """Send one request; what a handler of `before-send` gives back is taken for the answer."""
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = HTTPConnection(self._address, timeout=PATIENCE_S)
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
