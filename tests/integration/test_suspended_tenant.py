"""A suspended tenant with many due grants, and others' behind and beside them: nobody spins, nobody starves."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.wise.running import RunningWise
from tests.integration.place import A_WHILE_AGO_S, Parts, Place, wired
from token_rotator.adapters.dynamo_items import from_ms, to_ms
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.suspension import ASIDE_FOR, Suspension
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.refresh_due import LOOK_LIMIT, SweepSummary

pytestmark = pytest.mark.emulator

SUSPENDED: Final = "acme"
OTHER: Final = GrantKey("globex", "ben")
BESIDE: Final = next(
    key for key in (GrantKey("globex", f"user-{number}") for number in itertools.count()) if key.shard != OTHER.shard
)
"""Of a partition of the index that a look takes in whole."""
MANY: Final = 800
NEIGHBOURS: Final = 2 * LOOK_LIMIT
"""How many of them share the other one's partition of the index: more than one look takes in."""
SHARDS: Final = range(16)


@dataclass
class Calls:
    """What left for DynamoDB: operations, and the keys that were read."""

    made: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)

    def on_call(self, model: Any, **_: object) -> None:
        self.made[model.name] += 1

    def on_parameters(self, params: dict[str, Any], model: Any, **_: object) -> None:
        if model.name == "GetItem":
            self.read[params["Key"]["pk"]["S"]] += 1


@pytest.fixture
def parts(place: Place) -> Iterator[tuple[Parts, Calls]]:
    calls = Calls()
    with wired(place) as (made, clients):
        for client in clients:
            client.meta.events.register("before-call.dynamodb", calls.on_call)
            client.meta.events.register("provide-client-params.dynamodb", calls.on_parameters)
        yield made, calls


def keys() -> Iterator[GrantKey]:
    """Keys of the suspended tenant, enough of them near the other's grant."""
    near = NEIGHBOURS
    far = MANY - near
    for number in itertools.count():
        key = GrantKey(SUSPENDED, f"user-{number}")
        if key.shard == OTHER.shard and near:
            near -= 1
        elif key.shard != OTHER.shard and far:
            far -= 1
        else:
            if not near and not far:
                return
            continue
        yield key


def fill(dynamodb: DynamoDBClient, table: str, pattern: dict[str, Any], due_at: int) -> list[GrantKey]:
    """Make due grants of the suspended tenant after one that was adopted."""
    made = list(keys())
    puts: list[Any] = []
    for key in made:
        own = {"pk": {"S": str(key)}, "tenant": {"S": key.tenant}, "grant_id": {"S": key.grant_id}}
        at = {"N": str(due_at)}
        item = pattern | own | {"due_shard": {"N": str(key.shard)}, "refresh_at": at, "due_at": at}
        puts.append({"PutRequest": {"Item": item}})
    for start in range(0, len(puts), 25):  # what one request takes
        assert not dynamodb.batch_write_item(RequestItems={table: puts[start : start + 25]})["UnprocessedItems"]
    return made


def due_of(dynamodb: DynamoDBClient, table: str) -> dict[str, dict[str, Any]]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table)
    return {item["pk"]["S"]: item for page in pages for item in page["Items"] if "grant_id" in item}


def sweep(parts: Parts, seconds: float) -> SweepSummary:
    refreshing = parts.refreshing
    return refreshing.refresh_due(SHARDS, refreshing.refresh_grant.clock() + timedelta(seconds=seconds))


def test_a_suspended_tenant_costs_a_write_each_and_starves_nobody(
    dynamodb: DynamoDBClient, wise: RunningWise, place: Place, parts: tuple[Parts, Calls]
) -> None:
    made, calls = parts
    clock = made.refreshing.refresh_grant.clock
    for other in (OTHER, BESIDE):
        user = wise.control.seed_user(other.grant_id, age_s=A_WHILE_AGO_S)
        kept = made.administering.adopt_grant(other, Offer(refresh_token=Secret(user.refresh_token)), None)
        assert isinstance(kept, Kept)
    pattern = dict(dynamodb.get_item(TableName=place.table, Key={"pk": {"S": str(OTHER)}})["Item"])
    suspended = fill(dynamodb, place.table, pattern, to_ms(clock() - timedelta(hours=1)))
    before = due_of(dynamodb, place.table)
    made.administering.suspensions.suspend(SUSPENDED, Suspension(clock(), "operations", "a drill"))

    calls.made.clear()
    calls.read.clear()
    began = clock()
    summary = sweep(made, 30)
    after = due_of(dynamodb, place.table)
    healthy = {key: from_ms(int(after.pop(str(key))["issued_at"]["N"])) - began for key in (OTHER, BESIDE)}
    assert summary.refreshed == 2
    assert healthy[BESIDE] < timedelta(seconds=5), healthy
    assert healthy[OTHER] < timedelta(seconds=25), healthy
    assert {request.user for request in wise.control.requests()} == {OTHER.grant_id, BESIDE.grant_id}
    assert summary.oldest_overdue < timedelta(minutes=1), "what may not be refreshed is not overdue"

    # One write each and no read; what is stored of them is as it was, but for when they come up again.
    assert MANY <= summary.set_aside < MANY * 1.2
    assert not [pk for pk in calls.read if pk.startswith(f"{SUSPENDED}#")]
    assert calls.read["#suspended"] <= 8
    for key in suspended:
        one, now = before[str(key)], after[str(key)]
        assert {**now, "due_at": None} == {**one, "due_at": None}
        rests = from_ms(int(now["due_at"]["N"])) - began
        assert ASIDE_FOR / 2 <= rests <= ASIDE_FOR + timedelta(seconds=30)

    # Nobody comes back to them before their time.
    calls.made.clear()
    again = sweep(made, 5)
    assert (again.set_aside, again.advanced) == (0, 0)
    assert calls.made["UpdateItem"] == 0
    assert calls.made["Query"] == again.looks * len(SHARDS)
