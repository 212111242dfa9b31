"""Where MiniStack falls short of AWS, as one list, and what is done about each row.

The template is written for AWS. Before it reaches the emulator, what would make the emulator unusable is taken
out; after that, properties that the emulator forgets to set are set through its APIs. A row that the emulator no
longer needs fails its test.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from local.aws.assembly import Assembly
from local.aws.stack import Stack


class Treatment(StrEnum):
    """What is done about a difference."""

    REMOVED = "removed from the template before the deployment"
    APPLIED = "set through the service's API after the deployment"
    UNPROVEN = "left as it is: nothing run here proves it, a test of the template has to"


@dataclass(frozen=True)
class Difference:
    """One way in which the emulator is not AWS."""

    resource_type: str
    what: str
    treatment: Treatment
    reason: str


DIFFERENCES: Final = (
    Difference(
        "AWS::SNS::TopicPolicy",
        "statement that denies plain http",
        Treatment.REMOVED,
        "The emulator is spoken to in plain http on loopback; with IAM enforced nobody could publish.",
    ),
    Difference(
        "AWS::SQS::QueuePolicy",
        "statement that denies plain http",
        Treatment.REMOVED,
        "The same; the statement covers changing the policy, so that it cannot be taken away afterwards.",
    ),
    Difference(
        "AWS::IAM::Policy",
        "conditions that keys of dynamodb's are there",
        Treatment.REMOVED,
        "The evaluation is told neither the item nor what an update names, so nobody could do anything.",
    ),
    Difference(
        "AWS::DynamoDB::Table",
        "PointInTimeRecoverySpecification",
        Treatment.APPLIED,
        "Ignored when the table is created.",
    ),
    Difference("AWS::DynamoDB::Table", "SSESpecification", Treatment.APPLIED, "Ignored when the table is created."),
    Difference("AWS::SNS::Topic", "KmsMasterKeyId", Treatment.APPLIED, "Ignored when the topic is created."),
    Difference(
        "AWS::Lambda::Function",
        "ReservedConcurrentExecutions",
        Treatment.APPLIED,
        "Ignored when the function is created; set afterwards it is enforced.",
    ),
    Difference(
        "AWS::Lambda::Function",
        "Runtime",
        Treatment.UNPROVEN,
        "Every function runs on the emulator's own interpreter and on this machine's processor.",
    ),
    Difference(
        "AWS::Lambda::Function", "MemorySize", Treatment.UNPROVEN, "A function may take more than it asked for."
    ),
    Difference(
        "AWS::CloudWatch::Alarm",
        "all of it",
        Treatment.UNPROVEN,
        "Alarms are stored and not evaluated; metrics in log lines are not extracted.",
    ),
    Difference(
        "AWS::CloudWatch::Dashboard",
        "all of it",
        Treatment.UNPROVEN,
        "The body is stored as it is; nothing reads it, a metric that does not exist is as good as any.",
    ),
    Difference(
        "AWS::ApiGateway::Stage",
        "AccessLogSetting",
        Treatment.UNPROVEN,
        "Stored, and no access log is ever written.",
    ),
    Difference(
        "AWS::ApiGateway::GatewayResponse",
        "refusals by IAM",
        Treatment.UNPROVEN,
        "A caller that no policy allows is answered in the emulator's own words, not in ours.",
    ),
    Difference(
        "AWS::SQS::Queue",
        "KmsMasterKeyId",
        Treatment.UNPROVEN,
        "Stored; who sends or receives without rights on the key is not refused.",
    ),
    Difference(
        "AWS::Scheduler::Schedule",
        "RetryPolicy, DeadLetterConfig",
        Treatment.UNPROVEN,
        "A target is started once; its failure reaches no queue.",
    ),
    Difference(
        "AWS::KMS::Key",
        "conditions on the encryption context",
        Treatment.UNPROVEN,
        "Such conditions never match; a changed ciphertext decrypts to a changed plaintext.",
    ),
    Difference(
        "AWS::IAM::Policy",
        "conditions on dynamodb:LeadingKeys",
        Treatment.UNPROVEN,
        "The evaluation is not told which item is meant: ForAllValues always matches, ForAnyValue never does.",
    ),
    Difference(
        "AWS::IAM::Policy",
        "conditions on dynamodb:Attributes and dynamodb:ReturnValues",
        Treatment.UNPROVEN,
        "Of an update they always match: the evaluation is told the attributes of a projection only.",
    ),
)


def adapted(assembly: Assembly, directory: Path) -> Assembly:
    """A copy of the assembly without what the rows REMOVED say; the original stays whole."""
    shutil.copytree(assembly.directory, directory, dirs_exist_ok=True)
    template = without_removed(assembly.template)
    path = directory / f"{assembly.stack_name}.template.json"
    path.write_text(json.dumps(template, indent=1), encoding="utf-8")
    return Assembly(directory)


def without_removed(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without what the rows REMOVED say. A policy that has nothing else goes as a whole."""
    types = {row.resource_type for row in DIFFERENCES if row.treatment is Treatment.REMOVED}
    found: dict[str, Any] = copy.deepcopy(dict(template))
    for name, resource in list(found["Resources"].items()):
        if resource["Type"] not in types:
            continue
        document = resource["Properties"]["PolicyDocument"]
        document["Statement"] = [_unasked(one) for one in document["Statement"] if not _denies_plain_http(one)]
        if not document["Statement"]:
            del found["Resources"][name]
            _forget_dependency(found["Resources"], name)
    return found


def apply(stack: Stack) -> None:
    """Set what the rows APPLIED say on a freshly deployed stack."""
    for row in DIFFERENCES:
        if row.treatment is not Treatment.APPLIED:
            continue
        for name, properties in stack.assembly.resources(row.resource_type).items():
            if row.what in properties:
                value = stack.resolve(properties[row.what])
                _APPLY[row.resource_type, row.what](stack, stack.physical_ids[name], value)


def _denies_plain_http(statement: Mapping[str, Any]) -> bool:
    return bool(
        statement["Effect"] == "Deny" and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
    )


def _unasked(statement: dict[str, Any]) -> dict[str, Any]:
    """Give a statement that does not ask whether keys of dynamodb's are there."""
    asked = statement.get("Condition", {}).get("Null", {})
    if not asked or not all(key.startswith("dynamodb:") for key in asked):
        return statement
    return {**statement, "Condition": {name: keys for name, keys in statement["Condition"].items() if name != "Null"}}


def _forget_dependency(resources: Mapping[str, Any], name: str) -> None:
    for resource in resources.values():
        depends_on = resource.get("DependsOn", [])
        kept = [one for one in ([depends_on] if isinstance(depends_on, str) else depends_on) if one != name]
        if kept:
            resource["DependsOn"] = kept
        else:
            resource.pop("DependsOn", None)


def _point_in_time_recovery(stack: Stack, table: str, value: Any) -> None:
    stack.emulator.client("dynamodb").update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=value)


def _encryption_at_rest(stack: Stack, table: str, value: Any) -> None:
    # CloudFormation's names are not quite the API's.
    specification = {
        "Enabled": value["SSEEnabled"],
        "SSEType": value["SSEType"],
        "KMSMasterKeyId": value["KMSMasterKeyId"],
    }
    stack.emulator.client("dynamodb").update_table(TableName=table, SSESpecification=specification)


def _topic_key(stack: Stack, topic: str, value: Any) -> None:
    stack.emulator.client("sns").set_topic_attributes(
        TopicArn=topic, AttributeName="KmsMasterKeyId", AttributeValue=value
    )


def _reserved_concurrency(stack: Stack, function: str, value: Any) -> None:
    stack.emulator.client("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=value)


_APPLY: Final[Mapping[tuple[str, str], Callable[[Stack, str, Any], None]]] = {
    ("AWS::DynamoDB::Table", "PointInTimeRecoverySpecification"): _point_in_time_recovery,
    ("AWS::DynamoDB::Table", "SSESpecification"): _encryption_at_rest,
    ("AWS::SNS::Topic", "KmsMasterKeyId"): _topic_key,
    ("AWS::Lambda::Function", "ReservedConcurrentExecutions"): _reserved_concurrency,
}
