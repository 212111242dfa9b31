"""The lease: many workers ask for it at once, and one has it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.aws.ministack import MiniStack
from tests.contract import grants_table
from tests.contract.examples import NOW, a_grant
from tests.integration import racers
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.grant import GrantKey

pytestmark = pytest.mark.emulator

ROUNDS = 1000
ROUNDS_WITHOUT = 40

GUARDED = [GrantKey("acme", f"user-{number:04}") for number in range(ROUNDS)]
UNGUARDED = [GrantKey("globex", f"user-{number:04}") for number in range(ROUNDS_WITHOUT)]


@pytest.fixture(scope="module")
def store(dynamodb: DynamoDBClient, table_shape: dict[str, Any]) -> DynamoGrants:
    return DynamoGrants(dynamodb, grants_table.create(dynamodb, table_shape))


@pytest.fixture(scope="module")
def winners(aws: MiniStack, store: DynamoGrants) -> dict[GrantKey, list[str]]:
    """Who won each grant, of all racers in all processes."""
    for key in [*GUARDED, *UNGUARDED]:
        store.create(a_grant(key, access_token=None, issued_at=None, expires_at=None, scope=None))
    return racers.run(racers.Race(aws.url, store._table, GUARDED, UNGUARDED, NOW))


def test_one_of_32_wins_in_each_of_1000_rounds(winners: dict[GrantKey, list[str]], store: DynamoGrants) -> None:
    assert racers.PROCESSES >= 8
    assert racers.RACERS == 32
    assert Counter(len(winners[key]) for key in GUARDED) == {1: ROUNDS}
    for key in GUARDED:
        grant = store.get(key)
        assert grant is not None
        assert [grant.attempt_id] == winners[key]
    processes = {won[0].split("-")[2] for won in (winners[key] for key in GUARDED)}
    assert len(processes) == racers.PROCESSES, "some processes never won: that was no race"


def test_several_win_when_the_lease_is_left_out_of_the_condition(winners: dict[GrantKey, list[str]]) -> None:
    assert all(len(winners[key]) > 1 for key in UNGUARDED)
