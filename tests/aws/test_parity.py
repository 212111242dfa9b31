"""The list of differences between the emulator and AWS: complete for our template, and no longer than needed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from local.aws import parity
from local.aws.assembly import Assembly
from local.aws.ministack import ministack
from local.aws.parity import DIFFERENCES, Treatment
from local.aws.stack import Stack, create

DENY_PLAIN_HTTP = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "sns:Publish",
    "Resource": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
ALLOW = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sns:Publish", "Resource": "*"}


def _policy(resource_type: str, *statements: dict[str, Any]) -> dict[str, Any]:
    return {"Type": resource_type, "Properties": {"PolicyDocument": {"Statement": list(statements)}}}


def test_only_the_statements_that_deny_plain_http_are_removed() -> None:
    template = {
        "Resources": {
            "Topic": _policy("AWS::SNS::TopicPolicy", DENY_PLAIN_HTTP, ALLOW),
            "Queue": _policy("AWS::SQS::QueuePolicy", DENY_PLAIN_HTTP),
            "Bucket": _policy("AWS::S3::BucketPolicy", DENY_PLAIN_HTTP),
            "Waits": {"Type": "AWS::IAM::Role", "Properties": {}, "DependsOn": ["Queue", "Topic"]},
            "WaitsForOne": {"Type": "AWS::IAM::Role", "Properties": {}, "DependsOn": "Queue"},
        }
    }
    before = copy.deepcopy(template)
    assert parity.without_removed(template)["Resources"] == {
        "Topic": _policy("AWS::SNS::TopicPolicy", ALLOW),
        "Bucket": _policy("AWS::S3::BucketPolicy", DENY_PLAIN_HTTP),
        "Waits": {"Type": "AWS::IAM::Role", "Properties": {}, "DependsOn": ["Topic"]},
        "WaitsForOne": {"Type": "AWS::IAM::Role", "Properties": {}},
    }
    assert template == before


def test_only_the_conditions_that_ask_whether_a_key_of_dynamodbs_is_there_are_removed() -> None:
    kept = {"ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk"]}}
    asked = {"Null": {"dynamodb:Attributes": "false", "dynamodb:LeadingKeys": "false"}}
    others = [ALLOW | {"Condition": {"Null": {name: "false", "aws:TokenIssueTime": "true"}}} for name in asked["Null"]]
    template = {"Resources": {"Policy": _policy("AWS::IAM::Policy", ALLOW | {"Condition": kept | asked}, *others)}}
    before = copy.deepcopy(template)
    taken = parity.without_removed(template)["Resources"]["Policy"]["Properties"]["PolicyDocument"]["Statement"]
    assert taken == [ALLOW | {"Condition": kept}, *others]
    assert template == before


@pytest.mark.emulator
def test_the_emulator_is_told_neither_the_item_nor_the_attributes_of_an_update(bare: Stack) -> None:
    emulator, table = bare.emulator, bare.outputs["GrantsTable"]
    iam = emulator.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    arn = iam.create_role(RoleName="writer", AssumeRolePolicyDocument=_document(trust))["Role"]["Arn"]
    taken = emulator.client("sts").assume_role(RoleArn=arn, RoleSessionName="fixture")["Credentials"]
    writer = boto3.client(
        "dynamodb",
        endpoint_url=emulator.client("dynamodb").meta.endpoint_url,
        region_name=emulator.client("dynamodb").meta.region_name,
        aws_access_key_id=taken["AccessKeyId"],
        aws_secret_access_key=taken["SecretAccessKey"],
        aws_session_token=taken["SessionToken"],
    )

    def may_write(condition: dict[str, Any]) -> bool:
        allowed = {"Effect": "Allow", "Action": "dynamodb:UpdateItem", "Resource": "*", "Condition": condition}
        iam.put_role_policy(RoleName="writer", PolicyName="fixture", PolicyDocument=_document(allowed))
        try:
            writer.update_item(
                TableName=table,
                Key={"pk": {"S": "#fixture"}},
                UpdateExpression="SET access_token = :token",
                ExpressionAttributeValues={":token": {"S": "fixture"}},
                ReturnValues="ALL_OLD",
            )
        except writer.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDeniedException"  # noqa: PT017 - which refusal it is
            return False
        return True

    learned = "the emulator has learned it: the row can go"
    assert may_write({"ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "in_doubt"]}}), learned
    assert may_write({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["#state#*"]}}), learned
    assert may_write({"StringEqualsIfExists": {"dynamodb:ReturnValues": ["NONE"]}}), learned
    assert not may_write({"Null": {"dynamodb:Attributes": "false"}}), learned
    assert not may_write({"Null": {"dynamodb:LeadingKeys": "false"}}), learned


def _document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    "statement",
    [
        ALLOW,
        DENY_PLAIN_HTTP | {"Effect": "Allow"},
        DENY_PLAIN_HTTP | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        DENY_PLAIN_HTTP | {"Condition": {}},
    ],
)
def test_any_other_statement_stays(statement: dict[str, Any]) -> None:
    template = {"Resources": {"Topic": _policy("AWS::SNS::TopicPolicy", statement)}}
    assert parity.without_removed(template) == template


@pytest.mark.emulator
def test_the_adapted_template_differs_from_the_whole_one_by_the_rows_removed(
    assembly: Assembly, tmp_path: Path
) -> None:
    whole = assembly.template["Resources"]
    taken = parity.adapted(assembly, tmp_path).template["Resources"]
    changed = {whole[name]["Type"] for name in whole if taken.get(name) != whole[name]}
    assert changed == {row.resource_type for row in DIFFERENCES if row.treatment is Treatment.REMOVED}
    assert set(taken) <= set(whole)


@pytest.mark.emulator
def test_every_row_is_about_something_that_the_template_has(assembly: Assembly) -> None:
    types = {resource["Type"] for resource in assembly.template["Resources"].values()}
    assert {row.resource_type for row in DIFFERENCES} <= types


@pytest.fixture(scope="module")
def bare(assembly: Assembly, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack as the emulator makes it of the template, before anything is set; one function has a reserve."""
    directory = tmp_path_factory.mktemp("adapted")
    taken = parity.adapted(assembly, directory)
    template = copy.deepcopy(taken.template)
    _functions(template)["sweep"]["ReservedConcurrentExecutions"] = 3
    (directory / f"{taken.stack_name}.template.json").write_text(json.dumps(template), encoding="utf-8")
    with ministack(auth=True) as emulator:
        yield create(emulator, Assembly(directory))


def _functions(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [one["Properties"] for one in template["Resources"].values() if one["Type"] == "AWS::Lambda::Function"]
    return {one["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]: one for one in found}


def _seen(stack: Stack) -> dict[tuple[str, str], object]:
    """What the APIs say about every row APPLIED."""
    dynamodb, outputs = stack.emulator.client("dynamodb"), stack.outputs
    table = outputs["GrantsTable"]
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    concurrency = stack.emulator.client("lambda").get_function_concurrency(FunctionName=outputs["SweepFunction"])
    topic = stack.emulator.client("sns").get_topic_attributes(TopicArn=outputs["AlertsTopicArn"])["Attributes"]
    return {
        ("AWS::DynamoDB::Table", "PointInTimeRecoverySpecification"): backups["PointInTimeRecoveryDescription"][
            "PointInTimeRecoveryStatus"
        ]
        == "ENABLED",
        ("AWS::DynamoDB::Table", "SSESpecification"): dynamodb.describe_table(TableName=table)["Table"]
        .get("SSEDescription", {})
        .get("KMSMasterKeyArn"),
        ("AWS::SNS::Topic", "KmsMasterKeyId"): topic.get("KmsMasterKeyId"),
        ("AWS::Lambda::Function", "ReservedConcurrentExecutions"): concurrency.get("ReservedConcurrentExecutions"),
    }


@pytest.mark.emulator
def test_every_applied_row_is_needed_and_works(bare: Stack) -> None:
    rows = {(row.resource_type, row.what) for row in DIFFERENCES if row.treatment is Treatment.APPLIED}
    before = _seen(bare)
    assert set(before) == rows
    assert not any(before.values()), "the emulator has learned it: the row can go"

    parity.apply(bare)

    after = _seen(bare)
    assert all(after.values())
    keys = bare.emulator.client("kms")
    for row in [("AWS::DynamoDB::Table", "SSESpecification"), ("AWS::SNS::Topic", "KmsMasterKeyId")]:
        assert keys.describe_key(KeyId=after[row])["KeyMetadata"]["KeyManager"] == "CUSTOMER"
    assert after["AWS::Lambda::Function", "ReservedConcurrentExecutions"] == 3


@pytest.mark.emulator
def test_a_reference_that_nobody_foresaw_is_an_error(bare: Stack) -> None:
    role = next(name for name, one in bare.assembly.template["Resources"].items() if one["Type"] == "AWS::IAM::Role")
    with pytest.raises(LookupError, match="cannot resolve"):
        bare.resolve({"Fn::GetAtt": [role, "Arn"]})
    with pytest.raises(LookupError, match="cannot resolve"):
        bare.resolve({"Fn::Join": ["", ["a", "b"]]})
    assert bare.resolve({"kept": [{"Ref": role}]}) == {"kept": [bare.physical_ids[role]]}
