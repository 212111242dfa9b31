"""The use cases over real adapters: AWS's emulator, Wise's emulator, real clocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.aws.ministack import MiniStack
from local.wise.running import RunningWise, running_wise
from tests.contract.fixtures import aws, dynamodb, table_shape
from tests.integration.place import Place, prepare

__all__ = ["aws", "dynamodb", "table_shape"]


@pytest.fixture
def wise() -> Iterator[RunningWise]:
    with running_wise() as running:
        yield running


@pytest.fixture
def place(aws: MiniStack, wise: RunningWise, table_shape: dict[str, Any]) -> Place:
    return prepare(aws, wise, table_shape)
