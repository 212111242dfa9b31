"""The CDK app: context -> DeployConfig -> one stack. Makes no call to AWS."""

from __future__ import annotations

import sys

import aws_cdk as cdk

from infra.config import ConfigError, DeployConfig
from infra.stack import TokenRotatorStack

app = cdk.App()
try:
    config = DeployConfig.from_context(app.node.get_all_context())
except ConfigError as error:
    sys.exit(str(error))
TokenRotatorStack(app, config.stack_name, config=config)
app.synth()
