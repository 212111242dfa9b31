"""The token rotator's CloudFormation stack, as flat CDK constructs."""
