"""The CDK app: context -> DeployConfig -> one stack. Makes no call to AWS."""

from __future__ import annotations

import aws_cdk as cdk

from infra.config import DeployConfig
from infra.stack import TokenRotatorStack

app = cdk.App()
config = DeployConfig.from_context(app.node.get_all_context())
TokenRotatorStack(app, config.stack_name, config=config)
app.synth()
