"""The queues as the emulator makes them of the template, and what it does not refuse there."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from local.aws.parity import DIFFERENCES, Treatment
from local.aws.signed import assume
from local.aws.stack import Stack

pytestmark = pytest.mark.emulator


def role_that_may(stack: Stack, name: str, action: str, resource: str) -> str:
    """Make a role that the account may take and that may do one thing, and give its ARN."""
    iam = stack.emulator.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": stack.emulator.account}, "Action": "sts:AssumeRole"}
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_document(trust))
    iam.put_role_policy(
        RoleName=name,
        PolicyName="only",
        PolicyDocument=_document({"Effect": "Allow", "Action": action, "Resource": resource}),
    )
    arn: str = made["Role"]["Arn"]
    return arn


def _document(statement: dict[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_the_parking_queue_is_as_the_template_says(stack: Stack) -> None:
    url = stack.outputs["ParkedQueueUrl"]
    found = stack.emulator.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (found["VisibilityTimeout"], found["MessageRetentionPeriod"]) == ("30", str(14 * 86_400))
    assert "RedrivePolicy" not in found
    key = stack.emulator.client("kms").describe_key(KeyId=found["KmsMasterKeyId"])["KeyMetadata"]
    assert key["KeyManager"] == "CUSTOMER"


def test_the_key_of_a_queue_is_not_asked_for_which_is_a_row_of_the_list(stack: Stack) -> None:
    url = stack.outputs["ParkedQueueUrl"]
    sqs = stack.emulator.client("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    role = role_that_may(stack, "fixture-sender-without-the-key", "sqs:SendMessage", arn)
    sender = stack.emulator.client("sqs", assume(stack.emulator, role))
    with pytest.raises(ClientError, match="AccessDenied"):
        sender.receive_message(QueueUrl=url)
    # On AWS: KMS.AccessDeniedException. Once it is refused here as well, the row can go.
    sender.send_message(QueueUrl=url, MessageBody="fixture")
    assert ("AWS::SQS::Queue", "KmsMasterKeyId", Treatment.UNPROVEN) in {
        (row.resource_type, row.what, row.treatment) for row in DIFFERENCES
    }
