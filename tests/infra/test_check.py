"""The template's gates can fail."""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs

from infra.check import VARIANTS, build, findings


def test_what_either_tool_finds_is_reported(tmp_path: Path) -> None:
    app, stack = build(VARIANTS["sandbox"], tmp_path)
    sqs.Queue(stack, "Careless")
    cdk.CfnResource(stack, "Misspelled", type="AWS::SNS::Topic", properties={"TopicNaem": "x"})
    found = "\n".join(findings(app, stack))
    assert "AwsSolutions-SQS4 TokenRotator-sandbox/Careless/Resource" in found
    assert "TopicNaem" in found
