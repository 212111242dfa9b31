"""The two ways to a deployed stack: the CDK's own, and the short one for tests. Both end in the same place."""

from __future__ import annotations

from local.aws import cdk, parity
from local.aws.assembly import Assembly
from local.aws.ministack import MiniStack
from local.aws.stack import Stack, create


def with_cdk(emulator: MiniStack, assembly: Assembly) -> Stack:
    """`cdk bootstrap` and `cdk deploy`, as in an account of AWS's: some seconds. Raises cdk.CdkError."""
    cdk.bootstrap(emulator)
    taken = parity.adapted(assembly, emulator.directory / "assembly")
    stack = Stack(emulator=emulator, assembly=taken, outputs=cdk.deploy(emulator, taken))
    parity.apply(stack)
    return stack


def directly(emulator: MiniStack, assembly: Assembly) -> Stack:
    """Through CloudFormation alone, without Node and bootstrap: about two seconds. Raises stack.DeployError."""
    taken = parity.adapted(assembly, emulator.directory / "assembly")
    stack = create(emulator, taken)
    parity.apply(stack)
    return stack
