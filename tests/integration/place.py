"""A deployment in miniature: a table, two keys, the Wise secret, a topic with a queue, and Wise; no Lambda."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import boto3
import pytest

from local.aws.ministack import MiniStack
from local.wise.control import SeededUser
from local.wise.running import RunningWise
from local.wise.settings import WiseSettings
from tests.contract import grants_table
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.ports import Cause, Done, RefreshReport, When
from token_rotator.service.serve_token import ServeToken
from token_rotator.wiring import administering, refreshing, serving

TENANT = "acme"
CREDENTIALS = WiseSettings()


@dataclass(frozen=True)
class Place:
    """Where everything is, as the functions are told."""

    environment: Mapping[str, str]
    table: str
    queue_url: str


def prepare(aws: MiniStack, wise: RunningWise, shape: dict[str, Any]) -> Place:
    """Make what a deployment makes, and what the operator makes before it."""
    with contextlib.ExitStack() as stack:

        def client(service: str) -> Any:
            made = aws.client(service)
            stack.callback(made.close)
            return made

        unique = uuid.uuid4().hex[:8]
        kms, sns, sqs = client("kms"), client("sns"), client("sqs")
        keys = [kms.create_key(Description=f"{unique}")["KeyMetadata"]["Arn"] for _ in range(2)]
        secret = f"token-rotator/sandbox/wise-{unique}"
        value = {
            "environment": "sandbox",
            "client_id": CREDENTIALS.client_id,
            "client_secret": CREDENTIALS.client_secret,
        }
        client("secretsmanager").create_secret(Name=secret, SecretString=json.dumps(value))
        topic_arn = sns.create_topic(Name=f"alerts-{unique}")["TopicArn"]
        queue_url = sqs.create_queue(QueueName=f"on-call-{unique}")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
        sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=attributes["QueueArn"])
        parked_url = sqs.create_queue(QueueName=f"parked-{unique}")["QueueUrl"]
        table = grants_table.create(client("dynamodb"), shape)
    told = {
        "ROTATOR_ENVIRONMENT": "sandbox",
        "GRANTS_TABLE": table,
        "ACCESS_TOKENS_KEY_ARN": keys[0],
        "REFRESH_TOKENS_KEY_ARN": keys[1],
        "WISE_API_URL": wise.url,
        "WISE_CA_FILE": str(wise.ca_file),
        "WISE_WEB_HOST": wise.url.removeprefix("https://"),
        "REDIRECT_URI": "https://fixture.example.com/oauth/callback",
        "WISE_SECRET_NAME": secret,
        "ALERTS_TOPIC_ARN": topic_arn,
        "PARKED_QUEUE_URL": parked_url,
        "REFRESH_FUNCTION": "refresh",
        "PARTNERS": json.dumps(
            [{"name": "payroll", "role_id": "AROAFIXTUREROLE", "tenants": [TENANT], "may": ["read", "manage"]}]
        ),
        "POWERTOOLS_SERVICE_NAME": "refresh",
        "POWERTOOLS_METRICS_NAMESPACE": "TokenRotator",
    }
    return Place(aws.environment() | told, table, queue_url)


class Refresher(Protocol):
    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport: ...


class NobodyHasToAsk:
    """`Refresher` where every token must be there already."""

    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport:
        raise AssertionError(f"a refresh of {key} was asked for")


@dataclass(frozen=True)
class Parts:
    """The three families of functions, as they wire themselves."""

    refreshing: refreshing.Refreshing
    serving: serving.Serving
    administering: administering.Administering

    def serve(self, refresher: Refresher | None = None) -> ServeToken:
        return replace(self.serving.serve_token, refresher=refresher or NobodyHasToAsk())

    def adopt(self, user: SeededUser, name: str | None = None) -> GrantKey:
        """Adopt a user with everything that Wise gave."""
        key = GrantKey(TENANT, name or user.user)
        offer = Offer(
            refresh_token=Secret(user.refresh_token),
            access_token=Secret(user.access_token),
            issued_at=user.issued_at,
            expires_at=user.expires_at,
            refresh_expires_at=user.refresh_expires_at,
            scope=user.scope,
        )
        assert isinstance(self.administering.adopt_grant(key, offer, None), Kept)
        return key

    def make_due(self, key: GrantKey) -> None:
        """Let a grant that nobody works on be due, as time does."""
        refresh_grant = self.refreshing.refresh_grant
        grant = refresh_grant.grants.get(key)
        assert grant is not None
        at = refresh_grant.clock() - timedelta(seconds=1)
        when = When(attempt_id=None, version=grant.version)
        assert isinstance(refresh_grant.grants.write(grant, replace(grant, refresh_at=at, due_at=at), when), Done)


@contextlib.contextmanager
def wired(place: Place) -> Iterator[tuple[Parts, list[Any]]]:
    """Wire the functions from their environment, which is this process's own meanwhile.

    Gives the SDK clients that they made, too.
    """
    clients: list[Any] = []
    real = boto3.client

    def remembered(*args: Any, **kwargs: Any) -> Any:
        clients.append(real(*args, **kwargs))
        return clients[-1]

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in place.environment.items():
            patch.setenv(name, value)
        patch.setattr(boto3, "client", remembered)
        parts = Parts(refreshing.wire(), serving.wire(), administering.wire())
        try:
            yield parts, clients
        finally:
            parts.refreshing.wise._sessions.of(None).close()
            for client in clients:
                client.close()


A_WHILE_AGO_S = timedelta(hours=8).total_seconds()
"""The age of an access token that is due: two thirds of its life."""
