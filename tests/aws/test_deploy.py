"""Both ways to a stack: the CDK's own commands, and CloudFormation alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.aws import cdk, deploy
from local.aws.assembly import Assembly
from local.aws.ministack import MiniStack, ministack
from local.aws.stack import DeployError, Stack, create

pytestmark = pytest.mark.emulator


def test_cdk_deploys_what_the_short_way_does(assembly: Assembly, stack: Stack) -> None:
    with ministack(auth=True) as emulator:
        by_cdk = deploy.with_cdk(emulator, assembly)
        assert set(by_cdk.outputs) == set(stack.outputs)
        # The CDK's own record of itself is in neither: version reporting is off.
        assert set(by_cdk.physical_ids) == set(stack.physical_ids)


def test_the_bundle_is_uploaded_whole(stack: Stack) -> None:
    configuration = stack.emulator.client("lambda").get_function(FunctionName=stack.outputs["ServeFunction"])
    bundle = next(asset.source for asset in stack.assembly.assets() if asset.zipped)
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert configuration["Configuration"]["CodeSize"] >= size


def _broken(directory: Path) -> Assembly:
    template = {
        "Resources": {
            # Refused by the emulator alone; a mistake of ours would fail in the same way.
            "Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Metrics": [{"Id": "a", "Expression": "1"}]}}
        }
    }
    manifest = {"artifacts": {"Broken": {"type": "aws:cloudformation:stack"}}}
    files = {
        "hash": {
            "source": {"path": "Broken.template.json", "packaging": "file"},
            "destinations": {"one": {"bucketName": "fixture-${AWS::AccountId}", "objectKey": "template.json"}},
        }
    }
    for name, content in {
        "Broken.template.json": template,
        "manifest.json": manifest,
        "Broken.assets.json": {"files": files},
    }.items():
        (directory / name).write_text(json.dumps(content), encoding="utf-8")
    return Assembly(directory)


def test_a_stack_that_does_not_come_up_says_why(open_aws: MiniStack, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"Alarm: .*Metrics"):
        create(open_aws, _broken(tmp_path))


def test_a_refused_synthesis_says_why(tmp_path: Path) -> None:
    with pytest.raises(cdk.CdkError, match="schedules"):
        cdk.synthesize(tmp_path / "out", {"schedules": 3})


def test_commands_inherit_no_aws_settings(monkeypatch: pytest.MonkeyPatch, open_aws: MiniStack) -> None:
    monkeypatch.setenv("AWS_PROFILE", "fixture-profile")
    assert "AWS_PROFILE" not in cdk.command_environment(open_aws)
    assert cdk.command_environment(open_aws)["AWS_ENDPOINT_URL"] == open_aws.url
    assert "AWS_ENDPOINT_URL" not in cdk.command_environment(None)


def test_an_assembly_of_several_stacks_is_refused(tmp_path: Path) -> None:
    stack = {"type": "aws:cloudformation:stack"}
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": {"A": stack, "B": stack}}), encoding="utf-8")
    with pytest.raises(LookupError, match="2 stacks"):
        _ = Assembly(tmp_path).stack_name
