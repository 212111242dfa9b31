"""A deployed stack, and the short way to one: without Node, without bootstrap, through CloudFormation itself."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from local.aws.assembly import Assembly, Asset
from local.aws.cdk import BOOTSTRAP_QUALIFIER
from local.aws.ministack import MiniStack


class DeployError(RuntimeError):
    """The stack did not come up; the text holds the resources that failed and why."""


@dataclass(frozen=True)
class Stack:
    """A stack on the emulator."""

    emulator: MiniStack
    assembly: Assembly
    outputs: dict[str, str]

    @cached_property
    def physical_ids(self) -> dict[str, str]:
        """Logical id -> what the resource is called in the account."""
        client = self.emulator.client("cloudformation")
        pages = client.get_paginator("list_stack_resources").paginate(StackName=self.assembly.stack_name)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
        }

    def resolve(self, value: Any) -> Any:
        """A template's value with references replaced: Ref, and the attribute Arn of a key.

        Raises LookupError for a function of CloudFormation's beyond these.
        """
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"Ref"}:
            return self.physical_ids[value["Ref"]]
        if value.keys() == {"Fn::GetAtt"}:
            name, attribute = value["Fn::GetAtt"]
            if attribute != "Arn" or self.assembly.template["Resources"][name]["Type"] != "AWS::KMS::Key":
                raise LookupError(f"cannot resolve {name}.{attribute}")
            key = self.emulator.client("kms").describe_key(KeyId=self.physical_ids[name])
            return key["KeyMetadata"]["Arn"]
        if any(key.startswith("Fn::") for key in value):
            raise LookupError(f"cannot resolve {value}")
        return {key: self.resolve(item) for key, item in value.items()}


def create(emulator: MiniStack, assembly: Assembly) -> Stack:
    """Upload the assets and create the stack: about a second. Raises DeployError."""
    _provide_bootstrap(emulator)
    s3 = emulator.client("s3")
    template = ""
    for asset in assembly.assets():
        bucket = _named(emulator, asset.bucket)
        if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": emulator.region})
        s3.put_object(Bucket=bucket, Key=asset.key, Body=_content(asset))
        if asset.source.name == f"{assembly.stack_name}.template.json":
            template = f"{emulator.url}/{bucket}/{asset.key}"
    client = emulator.client("cloudformation")
    client.create_stack(
        StackName=assembly.stack_name,
        TemplateURL=template,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
    )
    stack = _await(emulator, assembly)
    return Stack(
        emulator=emulator,
        assembly=assembly,
        outputs={output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])},
    )


def _provide_bootstrap(emulator: MiniStack) -> None:
    """The parameter by which every CDK template checks that the account was bootstrapped."""
    emulator.client("ssm").put_parameter(
        Name=f"/cdk-bootstrap/{BOOTSTRAP_QUALIFIER}/version", Value="30", Type="String", Overwrite=True
    )


def _await(emulator: MiniStack, assembly: Assembly) -> dict[str, Any]:
    client = emulator.client("cloudformation")
    waiter = client.get_waiter("stack_create_complete")
    try:
        waiter.wait(StackName=assembly.stack_name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    except Exception as error:
        events = client.describe_stack_events(StackName=assembly.stack_name)["StackEvents"]
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
            for event in events
            if event["ResourceStatus"].endswith("FAILED")
        ]
        raise DeployError("\n".join(reasons) or str(error)) from error
    stack: dict[str, Any] = client.describe_stacks(StackName=assembly.stack_name)["Stacks"][0]
    return stack


def _named(emulator: MiniStack, name: str) -> str:
    return name.replace("${AWS::AccountId}", emulator.account).replace("${AWS::Region}", emulator.region)


def _content(asset: Asset) -> bytes:
    if not asset.zipped:
        return asset.source.read_bytes()
    archive = io.BytesIO()
    # Stored, not compressed: it travels no further than loopback.
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(Path(asset.source).rglob("*")):
            target.write(path, path.relative_to(asset.source))
    return archive.getvalue()
