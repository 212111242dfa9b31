"""A sweep over real adapters: what is due is advanced, and a bad grant keeps nobody waiting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.aws.ministack import MiniStack
from local.wise.running import RunningWise
from tests.integration.place import A_WHILE_AGO_S, TENANT, Parts, Place, wired
from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import GrantKey, Phase
from token_rotator.domain.outcome import Liveness
from token_rotator.service.journal import AlertTold, AttemptEnded, Event, Trouble
from token_rotator.service.ports import Due
from token_rotator.service.serve_token import Served
from token_rotator.wiring.clients import utc_now

pytestmark = pytest.mark.emulator

GRANTS = 25
HEALTHY = 21
CORRUPT = ("corrupt-phase", "corrupt-version")
UNOPENABLE = "unopenable"
REVOKED = "revoked"


@dataclass
class Watch:
    """`Journal` and clock of a sweep that is over once every grant has been advanced or given up."""

    over_after: int
    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        self.events.append(event)

    @property
    def settled(self) -> set[str]:
        ended = {event.key.grant_id for event in self.events if isinstance(event, AttemptEnded)}
        return ended | {event.key.grant_id for event in self.events if isinstance(event, Trouble) and event.key}

    def clock(self) -> datetime:
        return utc_now() + (timedelta(hours=1) if len(self.settled) >= self.over_after else timedelta(0))


@pytest.fixture
def parts(place: Place) -> Iterator[Parts]:
    with wired(place) as (made, _):
        yield made


def due_at(dynamodb: DynamoDBClient, place: Place, name: str) -> int:
    item = dynamodb.get_item(TableName=place.table, Key={"pk": {"S": f"{TENANT}#{name}"}})["Item"]
    return int(item["due_at"]["N"])


def test_bad_grants_never_stop_the_others(
    aws: MiniStack, dynamodb: DynamoDBClient, wise: RunningWise, place: Place, parts: Parts
) -> None:
    names = [f"user-{number}" for number in range(HEALTHY)]
    for name in [*names, *CORRUPT, UNOPENABLE, REVOKED]:
        parts.adopt(wise.control.seed_user(name, age_s=A_WHILE_AGO_S))
    spoilt = {
        CORRUPT[0]: ("phase", {"S": "parked"}),
        CORRUPT[1]: ("version", {"S": "seven"}),
        UNOPENABLE: ("refresh_token", {"B": b"not sealed"}),
    }
    for name, (attribute, value) in spoilt.items():
        dynamodb.update_item(
            TableName=place.table,
            Key={"pk": {"S": f"{TENANT}#{name}"}},
            UpdateExpression="SET #a = :value",
            ExpressionAttributeNames={"#a": attribute},
            ExpressionAttributeValues={":value": value},  # type: ignore[dict-item]
        )
    wise.control.revoke(REVOKED)
    began_ms = int(utc_now().timestamp() * 1000)
    watch = Watch(GRANTS)
    sweep = replace(
        parts.refreshing.refresh_due,
        clock=watch.clock,
        journal=watch,
        refresh=replace(parts.refreshing.refresh_grant, journal=watch),
        tell=replace(parts.refreshing.refresh_due.tell, journal=watch),
    )

    summary = sweep(range(16), utc_now() + timedelta(minutes=1))

    assert watch.settled == {*names, *CORRUPT, UNOPENABLE, REVOKED}
    assert summary.refreshed == HEALTHY
    assert summary.troubled == len(CORRUPT)
    serve = parts.serve()
    for name in names:
        served = serve(GrantKey(TENANT, name))
        assert isinstance(served, Served)
        assert (
            parts.refreshing.wise.ask(served.access_token, attempt_id="use", within=WITHIN).liveness is Liveness.LIVES
        )
        (request,) = wise.control.requests(user=name)
        assert request.carried_out
    for name in CORRUPT:
        assert due_at(dynamodb, place, name) > began_ms
        with pytest.raises(CorruptGrant):
            parts.refreshing.refresh_grant.grants.get(GrantKey(TENANT, name))
        assert wise.control.requests(user=name) == []
    unopenable = parts.refreshing.refresh_grant.grants.get(GrantKey(TENANT, UNOPENABLE))
    assert unopenable is not None
    assert (unopenable.attempt_id, unopenable.failures, unopenable.last_error) == (None, 1, "unsealable")
    assert due_at(dynamodb, place, UNOPENABLE) > began_ms
    assert wise.control.overlaps() == []
    assert not sweep.index.due(range(16), utc_now(), 64)
    assert_on_call_was_told(aws, place, parts)


WITHIN = timedelta(seconds=5)


def assert_on_call_was_told(aws: MiniStack, place: Place, parts: Parts) -> None:
    revoked = parts.refreshing.refresh_grant.grants.get(GrantKey(TENANT, REVOKED))
    assert revoked is not None
    assert revoked.phase is Phase.REAUTHORIZATION_REQUIRED
    assert revoked.alert is not None
    assert revoked.alert.published_at is not None
    assert revoked.due_at == revoked.alert.remind_at is not None
    sqs = aws.client("sqs")
    try:
        (received,) = sqs.receive_message(QueueUrl=place.queue_url, MaxNumberOfMessages=10)["Messages"]
    finally:
        sqs.close()
    message = json.loads(json.loads(received["Body"])["Message"])
    assert (message["kind"], message["grant_id"]) == ("reauthorization_required", REVOKED)
    assert message["incident_id"] == revoked.alert.incident_id


def test_a_due_alert_is_told_once_by_whoever_comes_first(
    aws: MiniStack, wise: RunningWise, place: Place, parts: Parts
) -> None:
    key = parts.adopt(wise.control.seed_user(REVOKED, age_s=A_WHILE_AGO_S))
    wise.control.revoke(REVOKED)
    watch = Watch(1)
    refresh = replace(
        parts.refreshing.refresh_grant, journal=watch, tell=replace(parts.refreshing.refresh_grant.tell, journal=watch)
    )
    refresh(key, Due(), alone=False)
    assert [event.code for event in watch.events if isinstance(event, AlertTold)] == [None]
    assert_on_call_was_told(aws, place, parts)
