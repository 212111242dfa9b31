"""Each port's contract, over its fake and its real adapter."""

from __future__ import annotations

from tests.contract.fixtures import aws, dynamodb, table, table_shape

__all__ = ["aws", "dynamodb", "table", "table_shape"]
