"""The CDK's own command line, pointed at the emulator: bootstrap, synth, deploy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from local.aws.assembly import Assembly
from local.aws.ministack import ROOT, MiniStack

BOOTSTRAP_QUALIFIER: Final = "hnb659fds"
"""The CDK's default, which names the bootstrap's bucket and roles."""


class CdkError(RuntimeError):
    """A command failed; the text holds the end of what it said."""


def bootstrap(emulator: MiniStack) -> None:
    """Make what every deployment needs in the account: `cdk bootstrap`."""
    # Where there is a cdk.json it would synthesize the app first.
    with tempfile.TemporaryDirectory() as empty:
        _cdk(emulator, ["bootstrap", f"aws://{emulator.account}/{emulator.region}"], Path(empty))
    if emulator.auth:
        open_bootstrap_bucket(emulator)


def open_bootstrap_bucket(emulator: MiniStack) -> None:
    """Take away the bucket policy that denies plain http: on loopback the emulator speaks nothing else."""
    bucket = f"cdk-{BOOTSTRAP_QUALIFIER}-assets-{emulator.account}-{emulator.region}"
    emulator.client("s3").delete_bucket_policy(Bucket=bucket)


def synthesize(directory: Path, context: Mapping[str, Any] | None = None) -> Assembly:
    """Write the app's cloud assembly, the bundle included: `cdk synth`. Needs no account and no emulator.

    Context values that are no strings are given as JSON. The bundle is made for this machine unless the context
    names another architecture.
    """
    command = ["synth", "--quiet", "--output", str(directory)]
    for key, value in ({"architecture": "host"} | dict(context or {})).items():
        command += ["--context", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    _cdk(None, command, ROOT)
    return Assembly(directory)


def deploy(emulator: MiniStack, assembly: Assembly) -> dict[str, str]:
    """Deploy the assembly's stack with `cdk deploy` and return its outputs.

    Raises CdkError, with CloudFormation's reason where it was CloudFormation that refused.
    """
    outputs = assembly.directory / "outputs.json"
    command = ["deploy", assembly.stack_name, "--app", str(assembly.directory), "--require-approval", "never"]
    _cdk(emulator, [*command, "--outputs-file", str(outputs)], ROOT)
    found: dict[str, str] = json.loads(outputs.read_text(encoding="utf-8"))[assembly.stack_name]
    return found


def command_environment(emulator: MiniStack | None) -> dict[str, str]:
    """This process's environment without its AWS settings, pointed at the emulator where one is given."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    # Our own Node, where the system has none that is new enough, lies beside our Python.
    ours = f"{Path(sys.executable).parent}:{ROOT / 'node_modules' / '.bin'}"
    environment |= {"PATH": f"{ours}:{environment.get('PATH', os.defpath)}", "CI": "true"}
    environment["CDK_DISABLE_CLI_TELEMETRY"] = "true"
    return environment | (emulator.environment() if emulator else {})


def _cdk(emulator: MiniStack | None, arguments: list[str], directory: Path) -> None:
    command = [str(ROOT / "node_modules" / ".bin" / "cdk"), "--no-notices", "--no-color", *arguments]
    result = subprocess.run(
        command,
        cwd=directory,
        env=command_environment(emulator),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise CdkError(f"cdk {arguments[0]} failed:\n{result.stdout[-4000:]}")
