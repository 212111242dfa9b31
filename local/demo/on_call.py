"""A queue in on-call's place, subscribed to the topic of alerts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local.aws.ministack import MiniStack


class OnCall:
    """Hears what the deployment has to say."""

    def __init__(self, emulator: MiniStack, topic_arn: str) -> None:
        self._sqs = emulator.client("sqs")
        self._queue = self._sqs.create_queue(QueueName="on-call")["QueueUrl"]
        names = ["QueueArn"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)["Attributes"]["QueueArn"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
                }
            ],
        }
        self._sqs.set_queue_attributes(QueueUrl=self._queue, Attributes={"Policy": json.dumps(policy)})
        emulator.client("sns").subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)

    def hear(self, within_s: int = 1) -> list[dict[str, Any]]:
        """Give the alerts that came since the last time, at most ten; wait for one if there is none."""
        answer = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=within_s, MaxNumberOfMessages=10)
        heard = []
        for message in answer.get("Messages", []):
            heard.append(json.loads(json.loads(message["Body"])["Message"]))
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return heard
