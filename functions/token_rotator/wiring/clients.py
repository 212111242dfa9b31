"""SDK clients with the timeouts that the time budgets count on. Built once, at INIT."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import boto3
from botocore.config import Config

from token_rotator.domain.tokens import Secret
from token_rotator.telemetry import quiet_libraries

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_kms import KMSClient
    from types_boto3_sqs import SQSClient

_CONNECT_S: Final = 0.5
_CONNECTIONS: Final = 32


def client(
    service: Any,  # noqa: ANN401 - each caller names its type
    *,
    read_s: float,
    tries: int,
    connect_s: float = _CONNECT_S,
    mode: Literal["standard", "legacy"] = "standard",
) -> Any:  # noqa: ANN401 - the same
    """Make a client: `tries` in all, `connect_s` and `read_s` for each.

    Region and credentials come from the function's environment.
    """
    quiet_libraries()
    config = Config(
        connect_timeout=connect_s,
        read_timeout=read_s,
        retries={"mode": mode, "total_max_attempts": tries},
        max_pool_connections=_CONNECTIONS,
    )
    return boto3.client(service, config=config)


def dynamodb() -> DynamoDBClient:
    """Two tries of less than a second each: one write fits the store's budget, whatever the table does.

    The older retry mode waits 50 ms at most between two tries of DynamoDB, the standard one up to a second.
    """
    made: DynamoDBClient = client("dynamodb", connect_s=0.25, read_s=0.7, tries=2, mode="legacy")
    return made


def kms() -> KMSClient:
    """Two tries: a data key is had before anything is sent."""
    made: KMSClient = client("kms", read_s=1, tries=2)
    return made


def sqs(within: timedelta) -> SQSClient:
    """One try, in all `within`: an attempt parks an answer in what is left of its time."""
    connect_s = within.total_seconds() / 4
    made: SQSClient = client("sqs", connect_s=connect_s, read_s=within.total_seconds() - connect_s, tries=1)
    return made


def utc_now() -> datetime:
    """Give the current instant, aware, in UTC, as the store keeps it: whole milliseconds."""
    now = datetime.now(UTC)
    return now - timedelta(microseconds=now.microsecond % 1000)


def sleep(duration: timedelta) -> None:
    """Sleep."""
    time.sleep(max(duration.total_seconds(), 0))


def new_token() -> Secret:
    """Give 32 random bytes as base64url: nobody guesses it."""
    return Secret(secrets.token_urlsafe(32))


def new_id() -> str:
    """Give a random UUID, as Wise wants its correlation ids.

    docs.wise.com/guides/developer/headers/correlation-id
    """
    return str(uuid.uuid4())
