"""What the topic's port holds to: in memory, and over SNS with a queue that is subscribed to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import boto3
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from moto import mock_aws

from tests.contract.examples import HOUR, KEY, NOW, TICK, an_alert
from tests.fakes.alerts import InMemoryAlerts
from token_rotator.adapters.sns_alerts import SnsAlerts
from token_rotator.domain.errors import PublishRefused, PublishUnknown
from token_rotator.domain.grant import APPLICATION, Alert, AlertKind, GrantKey
from token_rotator.service.ports import AlertPublisher


class Topic(Protocol):
    """The port, and what came out at the other end."""

    port: AlertPublisher

    def refuse(self) -> None: ...

    def lose(self) -> None: ...

    def incidents(self) -> list[str]: ...


class MemoryTopic:
    def __init__(self) -> None:
        self.port = InMemoryAlerts()

    def refuse(self) -> None:
        self.port.script = ["refuse"]

    def lose(self) -> None:
        self.port.script = ["lose"]

    def incidents(self) -> list[str]:
        return [alert.incident_id for alert in self.port.published]


@dataclass
class Sns:
    """A topic with a queue behind it. `errors` are raised by the next publishes, before or after they took effect."""

    sns: Any
    sqs: Any
    topic_arn: str
    queue_url: str
    errors: list[tuple[str, Exception]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = SnsAlerts(self.sns, self.topic_arn, "sandbox", "https://runbooks.example/wise/")

    def _before(self, **_: object) -> None:
        if self.errors and self.errors[0][0] == "before":
            raise self.errors.pop(0)[1]

    def _after(self, **_: object) -> None:
        if self.errors and self.errors[0][0] == "after":
            raise self.errors.pop(0)[1]

    def watch(self) -> None:
        self.sns.meta.events.register("before-call.sns.Publish", self._before)
        self.sns.meta.events.register("after-call.sns.Publish", self._after)

    def refuse(self) -> None:
        self.errors.append(("before", refusal(403, "AuthorizationError")))

    def lose(self) -> None:
        self.errors.append(("after", ReadTimeoutError(endpoint_url="https://sns.invalid")))

    def received(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def incidents(self) -> list[str]:
        return [json.loads(envelope["Message"])["incident_id"] for envelope in self.received()]


def refusal(status: int, code: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "a message that is not shown"},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "Publish",
    )


@pytest.fixture(scope="module")
def moto() -> Iterator[Callable[[str], Any]]:
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        made = {
            service: boto3.client(
                service,  # type: ignore[call-overload]
                region_name="eu-west-1",
                aws_access_key_id="fixture",
                aws_secret_access_key="fixture",
            )
            for service in ("sns", "sqs")
        }
        yield made.__getitem__
        for client in made.values():
            client.close()


@pytest.fixture
def sns(moto: Callable[[str], Any], request: pytest.FixtureRequest) -> Iterator[Sns]:
    topics, queues = moto("sns"), moto("sqs")
    topic_arn = topics.create_topic(Name="alerts")["TopicArn"]
    queue_url = queues.create_queue(QueueName="on-call")["QueueUrl"]
    attributes = queues.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    topics.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=attributes["QueueArn"])
    made = Sns(topics, queues, topic_arn, queue_url)
    made.watch()
    yield made
    topics.meta.events.unregister("before-call.sns.Publish", made._before)
    topics.meta.events.unregister("after-call.sns.Publish", made._after)
    topics.delete_topic(TopicArn=topic_arn)
    queues.delete_queue(QueueUrl=queue_url)


@pytest.fixture(params=["memory", "sns"])
def topic(request: pytest.FixtureRequest) -> Topic:
    made: Topic = MemoryTopic() if request.param == "memory" else request.getfixturevalue("sns")
    return made


# --- over both


def test_an_alert_arrives_once(topic: Topic) -> None:
    topic.port.publish(KEY, an_alert())
    assert topic.incidents() == ["incident-1"]


def test_a_refused_alert_did_not_arrive(topic: Topic) -> None:
    topic.refuse()
    with pytest.raises(PublishRefused):
        topic.port.publish(KEY, an_alert())
    assert topic.incidents() == []
    topic.port.publish(KEY, an_alert())
    assert topic.incidents() == ["incident-1"]


def test_an_alert_whose_answer_was_lost_may_have_arrived(topic: Topic) -> None:
    topic.lose()
    with pytest.raises(PublishUnknown):
        topic.port.publish(KEY, an_alert())
    assert topic.incidents() == ["incident-1"]


# --- what arrives


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        (an_alert(reason="personal_token_rejected"), "its owner has to make another one"),
        (an_alert(kind=AlertKind.PERSONAL_TOKEN_OLD, reason="age"), "It goes on being served"),
        (an_alert(kind=AlertKind.RECOVERED, reason="personal_token_rejected"), "is over"),
    ],
)
def test_an_alert_about_a_personal_token_speaks_of_one(sns: Sns, alert: Alert, words: str) -> None:
    sns.port.publish(KEY, alert)
    (envelope,) = sns.received()
    assert words in json.loads(envelope["Message"])["summary"]


def test_an_alert_about_our_applications_own_token_names_no_tenant(sns: Sns) -> None:
    sns.port.publish(APPLICATION, an_alert(kind=AlertKind.HELD, reason="client_refused"))
    (envelope,) = sns.received()
    message = json.loads(envelope["Message"])
    assert (message["tenant"], message["grant_id"]) == (None, "application")
    assert "our application's own token" in message["summary"]
    assert set(envelope["MessageAttributes"]) == {"kind", "environment", "incident_id", "reminder"}


def test_a_message_tells_people_and_machines(sns: Sns) -> None:
    sns.port.publish(KEY, an_alert(raised_at=NOW - HOUR + 7 * TICK))
    (envelope,) = sns.received()
    message = json.loads(envelope["Message"])
    summary = message.pop("summary")
    assert message == {
        "incident_id": "incident-1",
        "kind": "reauthorization_required",
        "reason": "invalid_grant",
        "environment": "sandbox",
        "tenant": "acme",
        "grant_id": "anna",
        "raised_at": "2026-03-01T11:00:00.007Z",
        "runbook": "https://runbooks.example/wise/reauthorization-required.md",
        "correlation_id": "attempt-earlier",
        "wise_trace_id": "trace-1",
        "reminder": False,
        "ends": [],
    }
    assert "acme" in summary
    assert "anna" in summary
    assert envelope["Subject"] == "[sandbox] reauthorization required"
    assert {name: value["Value"] for name, value in envelope["MessageAttributes"].items()} == {
        "kind": "reauthorization_required",
        "environment": "sandbox",
        "tenant": "acme",
        "incident_id": "incident-1",
        "reminder": "false",
    }


def test_an_alert_without_a_trace_says_so(sns: Sns) -> None:
    sns.port.publish(KEY, an_alert(trace_id=None))
    (envelope,) = sns.received()
    assert json.loads(envelope["Message"])["wise_trace_id"] is None


@pytest.mark.parametrize("key", [KEY, None], ids=["a grant", "the deployment"])
@pytest.mark.parametrize("kind", list(AlertKind))
def test_every_kind_can_be_told(sns: Sns, kind: AlertKind, key: GrantKey | None) -> None:
    sns.port.publish(key, an_alert(kind=kind))
    (envelope,) = sns.received()
    message = json.loads(envelope["Message"])
    assert ("grant anna of tenant acme" if key else "this deployment") in message["summary"]
    assert "{" not in message["summary"]
    assert message["kind"] == kind.value
    assert envelope["Subject"] == f"[sandbox] {kind.value.replace('_', ' ')}"


def test_every_kind_has_a_runbook_of_its_own(sns: Sns) -> None:
    for kind in AlertKind:
        sns.port.publish(None, an_alert(kind=kind))
    names = {json.loads(envelope["Message"])["runbook"].rpartition("/")[2] for envelope in sns.received()}
    assert names == {
        "reauthorization-required.md",
        "held.md",
        "reissued.md",
        "foreign-refresher.md",
        "refresh-token-expiring.md",
        "personal-token-old.md",
        "certificate-expiring.md",
        "many-grants-dying.md",
        "provider-unavailable.md",
        "client-refused.md",
        "we-are-wrong.md",
        "recovered.md",
    }


def test_a_reminder_says_that_it_is_one(sns: Sns) -> None:
    sns.port.publish(KEY, an_alert(reminder=True, ends=("incident-0",)))
    (envelope,) = sns.received()
    message = json.loads(envelope["Message"])
    assert (message["reminder"], message["ends"]) == (True, ["incident-0"])
    assert message["summary"].startswith("Nothing has changed")
    assert envelope["Subject"] == "[sandbox] reauthorization required, again"
    assert envelope["MessageAttributes"]["reminder"]["Value"] == "true"


def test_who_is_subscribed_by_e_mail_gets_a_text_to_read(sns: Sns) -> None:
    told: list[dict[str, Any]] = []
    sns.sns.meta.events.register("provide-client-params.sns.Publish", lambda params, **_: told.append(params))
    sns.port.publish(KEY, an_alert(ends=("incident-0", "incident-00")))
    sns.port.publish(None, an_alert(trace_id=None, attempt_id=None))
    by_protocol = [json.loads(params["Message"]) for params in told]
    assert [set(message) for message in by_protocol] == [{"default", "email"}] * 2
    text = by_protocol[0]["email"]
    lines = text.splitlines()
    assert lines[0] == json.loads(by_protocol[0]["default"])["summary"]
    assert lines[2] == "What to do: https://runbooks.example/wise/reauthorization-required.md"
    assert lines[4:] == [
        "environment: sandbox",
        "tenant: acme",
        "grant id: anna",
        "kind: reauthorization_required",
        "reason: invalid_grant",
        "raised at: 2026-03-01T11:00:00.000Z",
        "incident id: incident-1",
        "ends: incident-0, incident-00",
        "correlation id: attempt-earlier",
        "wise trace id: trace-1",
    ]
    assert "None" not in by_protocol[1]["email"]
    assert "wise trace id" not in by_protocol[1]["email"]


def test_an_alert_about_the_whole_deployment_names_nobody(sns: Sns) -> None:
    sns.port.publish(None, an_alert(kind=AlertKind.CLIENT_REFUSED, reason="client_refused"))
    (envelope,) = sns.received()
    message = json.loads(envelope["Message"])
    assert (message["tenant"], message["grant_id"]) == (None, None)
    assert {name: value["Value"] for name, value in envelope["MessageAttributes"].items()} == {
        "kind": "client_refused",
        "environment": "sandbox",
        "incident_id": "incident-1",
        "reminder": "false",
    }


def test_the_longest_ids_are_taken(sns: Sns) -> None:
    key = GrantKey("t" * 128, "g" * 128)
    sns.port.publish(key, an_alert())
    (envelope,) = sns.received()
    assert json.loads(envelope["Message"])["grant_id"] == key.grant_id
    assert len(envelope["Subject"]) <= 100


# --- what became of it


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal(400, "InvalidParameter"), PublishRefused),
        (refusal(403, "AuthorizationError"), PublishRefused),
        (refusal(404, "NotFound"), PublishRefused),
        (refusal(400, "KMSAccessDenied"), PublishRefused),
        (refusal(429, "Throttled"), PublishRefused),
        (refusal(500, "InternalError"), PublishUnknown),
        (refusal(503, "ServiceUnavailable"), PublishUnknown),
        (ClientError({}, "Publish"), PublishUnknown),
        (ReadTimeoutError(endpoint_url="https://sns.invalid"), PublishUnknown),
        (ConnectTimeoutError(endpoint_url="https://sns.invalid"), PublishUnknown),
        (EndpointConnectionError(endpoint_url="https://sns.invalid"), PublishUnknown),
    ],
    ids=repr,
)
def test_a_failure_says_whether_the_message_was_taken(
    sns: Sns, error: BotoCoreError | ClientError, kind: type[Exception]
) -> None:
    sns.errors.append(("before", error))
    with pytest.raises(kind) as raised:
        sns.port.publish(KEY, an_alert())
    assert "message" not in str(raised.value)


def test_a_topic_that_is_gone_refuses(sns: Sns) -> None:
    port = SnsAlerts(sns.sns, f"{sns.topic_arn}-gone", "sandbox", "docs/runbooks")
    with pytest.raises(PublishRefused):
        port.publish(KEY, an_alert())
