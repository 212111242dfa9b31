"""Synthesizes the stack of every environment through cdk-nag's AwsSolutions rules, without the bundle.

A finding that no resource acknowledges fails the synthesis. The templates stay in the folder given, for cfn-lint.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra.config import DeployConfig
from infra.stack import TokenRotatorStack

ROOT = Path(__file__).resolve().parent.parent


def synthesize(environment: str, directory: Path) -> None:
    """Write the environment's cloud assembly; exits with the findings where there are any."""
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    context |= {"environment": environment, "aws:cdk:bundling-stacks": []}
    app = cdk.App(outdir=str(directory), context=context, analytics_reporting=False)
    config = DeployConfig.from_context(app.node.get_all_context())
    TokenRotatorStack(app, config.stack_name, config=config)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()


if __name__ == "__main__":
    for name in ("sandbox", "production"):
        synthesize(name, Path(sys.argv[1]) / name)
