"""The use cases over real adapters: AWS's emulator, Wise's emulator, real clocks."""

from __future__ import annotations

from tests.contract.fixtures import aws, dynamodb, table, table_shape

__all__ = ["aws", "dynamodb", "table", "table_shape"]
