"""SDK clients with the timeouts that the time budgets count on. Built once, at INIT."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

from token_rotator.telemetry import quiet_libraries

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_kms import KMSClient

_CONNECT_S: Final = 1


def _config(*, read_s: float, tries: int, connections: int = 32) -> Config:
    return Config(
        connect_timeout=_CONNECT_S,
        read_timeout=read_s,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=connections,
    )


def client(service: Any, *, read_s: float, tries: int) -> Any:  # noqa: ANN401 - each caller names its type
    """Make a client: `tries` in all, `read_s` for each. Region and credentials come from the function's environment."""
    quiet_libraries()
    return boto3.client(service, config=_config(read_s=read_s, tries=tries))


def dynamodb() -> DynamoDBClient:
    """Two tries of a second each: one write fits the store's budget."""
    made: DynamoDBClient = client("dynamodb", read_s=1, tries=2)
    return made


def kms() -> KMSClient:
    """Two tries: a data key is had before anything is sent."""
    made: KMSClient = client("kms", read_s=1, tries=2)
    return made


def utc_now() -> datetime:
    """Give the current instant, aware, in UTC, as the store keeps it: whole milliseconds."""
    now = datetime.now(UTC)
    return now - timedelta(microseconds=now.microsecond % 1000)


def sleep(duration: timedelta) -> None:
    """Sleep."""
    time.sleep(max(duration.total_seconds(), 0))


def new_id() -> str:
    """Give a random UUID, as Wise wants its correlation ids.

    docs.wise.com/guides/developer/headers/correlation-id
    """
    return str(uuid.uuid4())
