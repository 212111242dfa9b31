"""The filter that the README gives to a pager, on a topic: what comes through it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

from local.aws.ministack import MiniStack
from tests.contract.examples import KEY, an_alert
from tests.docs.pages import program, table, words
from token_rotator.adapters.sns_alerts import SnsAlerts
from token_rotator.domain.grant import AlertKind


def test_every_alarm_and_only_the_alerts_that_cannot_wait_reach_the_pager(aws: MiniStack) -> None:
    with closing(aws.client("sns")) as sns, closing(aws.client("sqs")) as sqs:
        topic = sns.create_topic(Name="waking")["TopicArn"]
        queue = sqs.create_queue(QueueName="pager")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        attributes = json.loads(program("README.md", "wake.json"))
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
        alerts = SnsAlerts(sns, topic, "sandbox", "https://runbooks.example/wise/")
        for kind in AlertKind:
            alerts.publish(KEY, replace(an_alert(), kind=kind))
        alarm = {"AlarmName": "TokenRotator-sandbox-AlarmsGrantsOverdue", "NewStateValue": "ALARM"}
        sns.publish(TopicArn=topic, Subject="ALARM", Message=json.dumps(alarm))  # CloudWatch gives no attributes
        heard = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                told = json.loads(json.loads(message["Body"])["Message"])
                heard.append(told.get("kind") or told["AlarmName"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    wakes = [words(kind)[0] for kind, *_, wake in table("docs/runbooks/README.md", "table: alerts") if wake == "yes"]
    assert sorted(heard) == sorted([*wakes, alarm["AlarmName"]])
