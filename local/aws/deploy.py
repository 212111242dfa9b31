"""The two ways to a deployed stack: the CDK's own, and the short one for tests. Both end in the same place."""

from __future__ import annotations

from local.aws import cdk, parity
from local.aws.assembly import Assembly
from local.aws.ministack import MiniStack
from local.aws.signed import Api
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


def let_browsers_back(stack: Stack) -> str:
    """Give Wise's pages an address to send browsers to that exists on this machine; gives that address.

    Nobody resolves the API's own name here, so links are started with the emulator's form of the callback's URL.
    """
    client, function = stack.emulator.client("lambda"), stack.outputs["AdminFunction"]
    redirect_uri = f"{Api(stack.emulator, stack.outputs['ApiId']).url}/oauth/callback"
    variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    variables["REDIRECT_URI"] = redirect_uri
    client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})
    return redirect_uri
