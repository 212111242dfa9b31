"""The emulator's process: what it is given, what it leaves."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import zipfile
from pathlib import Path

import pytest

from local.aws import ministack as module
from local.aws.ministack import EmulatorError, MiniStack, ministack

pytestmark = pytest.mark.emulator

TELL = b"""
import os, sys
def handler(event, context):
    return {"environment": dict(os.environ), "pid": os.getpid(), "version": list(sys.version_info[:2])}
"""


def _deploy_teller(emulator: MiniStack) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("tell.py", TELL)
    role = emulator.client("iam").create_role(
        RoleName="teller",
        AssumeRolePolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            }
        ),
    )["Role"]["Arn"]
    emulator.client("lambda").create_function(
        FunctionName="teller",
        Runtime="python3.13",
        Role=role,
        Handler="tell.handler",
        Code={"ZipFile": archive.getvalue()},
    )
    return "teller"


def _ends(pid: int) -> bool:
    """Whether the process is gone within some seconds: its new parent may take a moment to collect it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_functions_see_nothing_of_our_environment_and_end_with_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXTURE_LEAK", "fixture-leaked-value")
    with ministack(auth=False, environment={"FIXTURE_GIVEN": "fixture-given-value"}) as emulator:
        answer = emulator.client("lambda").invoke(FunctionName=_deploy_teller(emulator))
        told = json.loads(answer["Payload"].read())
        assert emulator.alive()

    assert "FIXTURE_LEAK" not in told["environment"]
    assert told["environment"]["FIXTURE_GIVEN"] == "fixture-given-value"
    assert told["environment"]["AWS_ENDPOINT_URL"] == emulator.url
    # The bundle is built for this interpreter; the emulator runs on its own.
    assert told["version"] == list(sys.version_info[:2])
    assert not emulator.alive()
    assert _ends(told["pid"])
    assert not emulator.directory.exists()


def test_it_listens_on_loopback_alone(open_aws: MiniStack) -> None:
    listening = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    port = f"{open_aws.port:04X}"
    bound = {fields[1].split(":")[0] for fields in listening if fields[1].endswith(f":{port}") and fields[3] == "0A"}
    assert bound == {"0100007F"}


def test_stopping_twice_is_harmless() -> None:
    with ministack(auth=False) as emulator:
        emulator.stop()
        assert not emulator.alive()
        emulator.stop()


def test_a_missing_environment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "EMULATOR", tmp_path)
    with pytest.raises(EmulatorError, match="make setup"):
        module.start(auth=False, directory=tmp_path)


def test_commands_are_pointed_at_it_and_at_no_profile(open_aws: MiniStack) -> None:
    environment = open_aws.environment()
    assert environment["AWS_ENDPOINT_URL"] == open_aws.url
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert "AWS_PROFILE" not in environment
