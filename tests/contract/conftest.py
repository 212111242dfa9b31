"""Each port's contract, over its fake and its real adapter."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.fixtures import aws, dynamodb, table, table_shape

__all__ = ["aws", "dynamodb", "table", "table_shape"]


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    """A client that nothing leaves."""
    made = boto3.client(
        "dynamodb",
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="fixture",
        aws_secret_access_key="fixture",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield made
    made.close()
