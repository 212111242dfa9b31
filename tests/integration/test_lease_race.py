"""The lease: many workers ask for it at once, and one has it."""

from __future__ import annotations

from collections import Counter

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.aws.ministack import MiniStack
from tests.contract.examples import NOW, a_grant
from tests.integration import racers
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.grant import GrantKey

pytestmark = pytest.mark.emulator

ROUNDS = 1000
ROUNDS_WITHOUT = 40


def due_grants(dynamodb: DynamoDBClient, table: str, count: int) -> list[GrantKey]:
    store = DynamoGrants(dynamodb, table)
    keys = [GrantKey("acme", f"user-{number:04}") for number in range(count)]
    for key in keys:
        store.create(a_grant(key))
    return keys


def test_one_of_32_wins_in_each_of_1000_rounds(aws: MiniStack, dynamodb: DynamoDBClient, table: str) -> None:
    assert racers.PROCESSES >= 8
    assert racers.RACERS == 32
    keys = due_grants(dynamodb, table, ROUNDS)

    winners = racers.run(racers.Race(aws.url, table, keys, NOW))

    assert Counter(len(won) for won in winners) == {1: ROUNDS}
    assert len({won[0].rpartition("-")[0] for won in winners}) == ROUNDS
    assert len({won[0].split("-", 2)[2] for won in winners}) > 1, "the same racer won every round"
    store = DynamoGrants(dynamodb, table)
    for key, won in zip(keys, winners, strict=True):
        grant = store.get(key)
        assert grant is not None
        assert grant.attempt_id == won[0]


def test_several_win_when_the_lease_is_left_out_of_the_condition(
    aws: MiniStack, dynamodb: DynamoDBClient, table: str
) -> None:
    keys = due_grants(dynamodb, table, ROUNDS_WITHOUT)

    winners = racers.run(racers.Race(aws.url, table, keys, NOW, conditional=False))

    assert all(len(won) > 1 for won in winners)
