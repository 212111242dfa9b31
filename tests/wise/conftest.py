"""A running emulator for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.wise.control import SeededUser
from local.wise.running import RunningWise, running_wise
from tests.wise.client import WiseClient


@pytest.fixture
def wise() -> Iterator[RunningWise]:
    with running_wise() as running:
        yield running


@pytest.fixture
def client(wise: RunningWise) -> WiseClient:
    return WiseClient(wise)


@pytest.fixture
def alice(wise: RunningWise) -> SeededUser:
    return wise.control.seed_user("alice")
