"""The pace of calls to Wise: many processes take from one lane, and together take no more than it admits."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from types_boto3_dynamodb import DynamoDBClient

from local.aws.ministack import MiniStack
from tests.contract import grants_table
from tests.contract.examples import NOW
from tests.contract.minutes import MINUTE, Calls, fullest_minute
from tests.integration.processes import PATIENCE_S, run_together
from token_rotator.adapters.dynamo_fleet import DynamoFleet
from token_rotator.domain.fleet import Lane
from token_rotator.service.ports import Admitted, Paced

pytestmark = pytest.mark.emulator

PROCESSES = 8
SPEED = 20
"""The racers' clock runs so many times faster than the machine's."""
LANE = Lane("guarded", 120)
UNGUARDED = Lane("unguarded", 120)
MINUTES = 3
MINUTES_WITHOUT = 1.5


@dataclass(frozen=True)
class Race:
    endpoint: str
    table: str
    epoch: float
    """Where the racers' clock stood at `NOW`."""

    def now(self) -> datetime:
        return NOW + timedelta(milliseconds=int((time.time() - self.epoch) * SPEED * 1000))


def take(process: int, race: Race, start: Barrier) -> tuple[Calls, Calls]:
    """Take all that can be had of both lanes, one after the other."""
    guarded, unguarded = (client(race.endpoint) for _ in range(2))
    unguarded.meta.events.register("provide-client-params.dynamodb.UpdateItem", take_anyway)
    return (
        taken(race, guarded, LANE, start, minutes=MINUTES),
        taken(race, unguarded, UNGUARDED, start, minutes=MINUTES_WITHOUT),
    )


def taken(race: Race, wire: DynamoDBClient, lane: Lane, start: Barrier, *, minutes: float) -> Calls:
    store, wanted = DynamoFleet(wire, race.table), itertools.cycle([1, 3, 2])
    admitted: Calls = []
    start.wait(PATIENCE_S)
    ends = race.now() + minutes * MINUTE
    while (now := race.now()) < ends:
        calls = next(wanted)
        answer = store.admit(lane, calls, now)
        if isinstance(answer, Paced):
            time.sleep((answer.until - now).total_seconds() / SPEED)
        else:
            assert answer == Admitted()
            admitted.append((now, calls))
    return admitted


def client(endpoint: str) -> DynamoDBClient:
    config = Config(signature_version=UNSIGNED, read_timeout=PATIENCE_S, retries={"total_max_attempts": 1})
    return boto3.client("dynamodb", endpoint_url=endpoint, region_name="eu-west-1", config=config)


def take_anyway(params: dict[str, Any], **_: object) -> dict[str, Any]:
    """Leave the pace out of the condition, as the request goes out."""
    condition = params["ConditionExpression"]
    assert "_tat" in condition
    return {**params, "ConditionExpression": f"{condition} OR attribute_not_exists(nobody)"}


@pytest.fixture(scope="module")
def races(aws: MiniStack, dynamodb: DynamoDBClient, table_shape: dict[str, Any]) -> list[tuple[Calls, Calls]]:
    """What each process took of each lane."""
    table = grants_table.create(dynamodb, table_shape)
    return run_together(PROCESSES, take, Race(aws.url, table, time.time()))


def test_eight_processes_together_keep_to_the_pace(races: list[tuple[Calls, Calls]]) -> None:
    assert len(races) == PROCESSES
    assert all(guarded for guarded, _ in races), "some processes were never admitted: that was no race"
    admitted = [call for guarded, _ in races for call in guarded]
    assert max(at for at, _ in admitted) - min(at for at, _ in admitted) > 2 * MINUTE
    assert LANE.per_minute / 2 < fullest_minute(admitted) <= LANE.per_minute


def test_they_do_not_when_the_pace_is_left_out_of_the_condition(races: list[tuple[Calls, Calls]]) -> None:
    admitted = [call for _, unguarded in races for call in unguarded]
    assert fullest_minute(admitted) > UNGUARDED.per_minute
