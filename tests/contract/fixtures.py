"""AWS and its tables, for every suite that runs over the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.aws.ministack import MiniStack, ministack
from tests.contract import grants_table


@pytest.fixture(scope="session")
def aws() -> Iterator[MiniStack]:
    """An emulator of this test process's own."""
    with ministack(auth=False) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def dynamodb(aws: MiniStack) -> Iterator[DynamoDBClient]:
    client = aws.client("dynamodb")
    yield client
    client.close()


@pytest.fixture(scope="session")
def table_shape() -> dict[str, Any]:
    return grants_table.shape()


@pytest.fixture
def table(dynamodb: DynamoDBClient, table_shape: dict[str, Any]) -> Iterator[str]:
    """The name of an empty table, as the template describes it."""
    name = grants_table.create(dynamodb, table_shape)
    yield name
    dynamodb.delete_table(TableName=name)
