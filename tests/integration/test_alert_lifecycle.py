"""An alert from the verdict over its reminder to its end, over the real topic, which fails at each message in turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from local.aws.ministack import MiniStack
from local.wise.running import RunningWise
from tests.integration.place import A_WHILE_AGO_S, TENANT, Parts, Place, wired
from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.refresh_due import RefreshDue
from token_rotator.wiring.clients import utc_now

pytestmark = pytest.mark.emulator

NAME = "anna"
KEY = GrantKey(TENANT, NAME)
CODE = "fixture-registration-code-of-anna"
EMAIL = "anna@example.com"
REFUSED = ClientError(
    {"Error": {"Code": "AuthorizationError", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
    "Publish",
)
FAULTS: dict[str, tuple[str, Exception]] = {
    "refused": ("before", REFUSED),
    "not taken, nobody knows": ("before", EndpointConnectionError(endpoint_url="https://sns.invalid")),
    "taken, nobody knows": ("after", ReadTimeoutError(endpoint_url="https://sns.invalid")),
}


@dataclass
class Stage:
    """The real parts under a clock that can be moved on, and a topic that fails once, at one of its messages."""

    parts: Parts
    aws: MiniStack
    place: Place
    wise: RunningWise
    sns: Any
    ahead: timedelta = timedelta(0)
    fault: str | None = None
    at: int = 0
    publishes: dict[str, int] = field(default_factory=lambda: {"before": 0, "after": 0})
    heard: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        refreshing = self.parts.refreshing
        refreshing.breaker.clock = refreshing.wise._clock = self.clock
        tell = replace(refreshing.refresh_due.tell, clock=self.clock)
        refresh = refreshing.refresh_grant
        keep = replace(refresh.keep, clock=self.clock)
        refresh = replace(refresh, clock=self.clock, tell=tell, keep=keep)
        self.due: RefreshDue = replace(refreshing.refresh_due, refresh=refresh, tell=tell, clock=self.clock)
        events = self.sns.meta.events
        events.register("before-call.sns.Publish", lambda **_: self._called("before"))
        events.register("after-call.sns.Publish", lambda **_: self._called("after"))

    def clock(self) -> datetime:
        return utc_now() + self.ahead

    def pass_time(self, duration: timedelta) -> None:
        """Move the clocks on: ours, and Wise's."""
        self.ahead += duration
        self.wise.control.set_clock_offset(self.ahead.total_seconds())

    def _called(self, when: str) -> None:
        number = self.publishes[when]
        self.publishes[when] += 1
        if self.fault is not None and number == self.at and FAULTS[self.fault][0] == when:
            raise FAULTS[self.fault][1]

    def grant(self, key: GrantKey) -> Grant:
        grant = self.due.grants.get(key)
        assert grant is not None
        return grant

    @property
    def stored(self) -> Grant:
        return self.grant(KEY)

    def adopt(self, *, registration: bool = False) -> None:
        user = self.wise.control.seed_user(NAME, age_s=A_WHILE_AGO_S)
        if registration:
            self.wise.control.put_user(NAME, email=EMAIL, registration_code=CODE)
        sealed = Secret(json.dumps({"code": CODE, "email": EMAIL})) if registration else None
        offer = Offer(refresh_token=Secret(user.refresh_token), registration=sealed)
        stored = self.due.grants.get(KEY)
        adopt = replace(self.parts.administering.adopt_grant, clock=self.clock)
        assert isinstance(adopt(KEY, offer, None if stored is None else stored.version), Kept)

    def advance(self) -> None:
        """Do what is due until nothing is, going to the instant of each step."""
        for _ in range(12):
            due_at = self.stored.due_at
            if due_at is None or due_at > self.clock() + timedelta(minutes=30):
                return
            self.pass_time(max(due_at - self.clock(), timedelta(0)))
            self.due.advance(KEY, alone=True, drained_at=self.clock())
        raise AssertionError("it does not come to rest")

    def listen(self) -> list[tuple[str, str, bool]]:
        """Give what on-call has heard so far: incident, kind, and whether it was a reminder."""
        sqs = self.aws.client("sqs")
        try:
            while messages := sqs.receive_message(
                QueueUrl=self.place.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1
            ).get("Messages"):
                for message in messages:
                    self.heard.append(json.loads(json.loads(message["Body"])["Message"]))
                    sqs.delete_message(QueueUrl=self.place.queue_url, ReceiptHandle=message["ReceiptHandle"])
        finally:
            sqs.close()
        return [(told["incident_id"], told["kind"], told["reminder"]) for told in self.heard]


@pytest.fixture
def stage(aws: MiniStack, wise: RunningWise, place: Place) -> Iterator[Stage]:
    with wired(place) as (parts, clients):
        (sns,) = [client for client in clients if client.meta.service_model.service_name == "sns"]
        yield Stage(parts, aws, place, wise, sns)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("fault", [*FAULTS, None])
def test_no_incident_is_lost_and_a_second_copy_has_a_reason(stage: Stage, fault: str | None, at: int) -> None:
    stage.fault, stage.at = fault, at
    stage.adopt(registration=True)
    stage.wise.control.reclaim(NAME)
    stage.wise.control.revoke(NAME)
    stage.advance()
    assert stage.stored.registration_spent_at is not None
    stage.pass_time(timedelta(days=1))
    stage.advance()
    stage.adopt()
    stage.advance()
    heard = stage.listen()
    first = heard[0][0]
    assert list(dict.fromkeys(heard)) == [
        (first, "reauthorization_required", False),
        (first, "reauthorization_required", True),
        (first, "recovered", False),
    ]
    copies = Counter(heard)
    assert sum(copies.values()) - len(copies) == (1 if fault == "taken, nobody knows" else 0)
    told = stage.heard[0]
    assert (told["reason"], told["tenant"], told["grant_id"]) == ("reclaimed", TENANT, NAME)
    assert told["correlation_id"]
    assert told["wise_trace_id"] == stage.wise.control.requests(user=NAME)[1].trace_id


@pytest.mark.parametrize("fault", FAULTS)
def test_a_grant_that_came_back_by_itself_is_told_whatever_the_topic_does(stage: Stage, fault: str) -> None:
    stage.fault = fault
    stage.adopt(registration=True)
    stage.wise.control.revoke(NAME)
    stage.advance()
    heard = stage.listen()
    assert {kind for _, kind, _ in heard} == {"reissued"}
    assert len({incident for incident, _, _ in heard}) == 1
    assert len(heard) == (2 if fault == "taken, nobody knows" else 1)
    requests = stage.wise.control.requests(user=NAME)
    assert [request.grant_type for request in requests] == ["refresh_token", "registration_code"]
    assert stage.heard[0]["correlation_id"] == requests[0].correlation_id == requests[1].correlation_id


def test_a_grant_begins_with_a_registration_code_alone(stage: Stage) -> None:
    stage.wise.control.put_user(NAME, email=EMAIL, registration_code=CODE)
    offer = Offer(registration=Secret(json.dumps({"code": CODE, "email": EMAIL})))
    assert isinstance(stage.parts.administering.adopt_grant(KEY, offer, None), Kept)
    stage.advance()
    stored = stage.stored
    assert stored.refresh_token is not None
    assert stored.access_token is not None
    assert [request.grant_type for request in stage.wise.control.requests(user=NAME)] == ["registration_code"]
    assert stage.listen() == []


@pytest.mark.parametrize("fault", [*FAULTS, None])
def test_many_that_die_together_are_told_once_beside_their_own(stage: Stage, fault: str | None) -> None:
    stage.parts.refreshing.breaker._many_dying = 3
    names = [f"user-{number}" for number in range(5)]
    for name in names:
        stage.parts.adopt(stage.wise.control.seed_user(name, age_s=A_WHILE_AGO_S))
        stage.wise.control.revoke(name)
    stage.fault, stage.at = fault, 3  # three of their own, then the one about all
    for name in names:
        while stage.grant(key := GrantKey(TENANT, name)).phase is Phase.ACTIVE:  # a busy machine may fail once
            stage.due.advance(key, alone=True)
            stage.pass_time(timedelta(seconds=25))
    stage.ahead += timedelta(minutes=1)
    stage.parts.refreshing.breaker.tend()
    heard = Counter(kind for _, kind, _ in stage.listen())
    assert heard["reauthorization_required"] == 5
    assert heard["many_grants_dying"] == (2 if fault == "taken, nobody knows" else 1)
    stage.ahead += timedelta(minutes=10)
    stage.parts.refreshing.breaker.tend()
    stage.listen()
    ids = {told["incident_id"] for told in stage.heard if told["tenant"] is None}
    assert len(ids) == 1
    assert stage.heard[-1]["kind"] == "recovered"
