"""One deployment for each file of tests; every test uses grants of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from moto import mock_aws

from local.wise.running import RunningWise, running_wise
from tests.fakes.world import FakeClock
from tests.handlers.deployment import AWS_ENVIRONMENT, Deployment


def nanoseconds(clock: FakeClock) -> int:
    """The instant in epoch nanoseconds, as a machine's clock gives it."""
    return int(clock().timestamp() * 1000) * 1_000_000


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def running(clock: FakeClock) -> Iterator[RunningWise]:
    with running_wise(wall_ns=lambda: nanoseconds(clock)) as wise:
        yield wise


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in AWS_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def deployed(running: RunningWise, clock: FakeClock, aws: None) -> Iterator[Deployment]:
    levels = {name: logging.getLogger(name).level for name in ("boto3", "botocore", "urllib3", "requests")}
    yield Deployment(running, clock)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def deployment(deployed: Deployment) -> Iterator[Deployment]:
    """The file's deployment, at rest: no fault waits at Wise, nobody was invoked, nothing lies in the queue."""
    deployed.wise.control.clear_faults()
    deployed.forget_fleet()
    deployed.forget_suspensions()
    deployed.invocations.calls.clear()
    deployed.invocations.answers.clear()
    deployed.invocations.instead = None
    for function in deployed.functions:
        function.forget()
    deployed.alerts()
    yield deployed
    deployed.wise.control.clear_faults()


@pytest.fixture
def grant_id(request: pytest.FixtureRequest) -> str:
    """A name of the test's own, for a grant of tenant `acme` and its user at Wise."""
    name = "".join(char if char.isalnum() and char.isascii() else "-" for char in request.node.name)
    return name[-100:].strip("-")
