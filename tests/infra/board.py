"""Reads a dashboard's body as CloudWatch does: its widgets, and the metrics that they show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shown:
    """One line of a graph."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]
    statistic: str
    period: int


def widgets(body: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(body)["widgets"]
    return found


def shown(widget: dict[str, Any]) -> list[Shown]:
    """The lines of one widget. Each names everything: none of CloudWatch's short forms, no expression.

    docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
    """
    lines = []
    for line in widget["properties"].get("metrics", []):
        *words, options = line if isinstance(line[-1], dict) else [*line, {}]
        assert all(isinstance(word, str) and word not in (".", "...") for word in words), line
        assert "expression" not in options
        namespace, name, *pairs = words
        dimensions = frozenset(zip(pairs[::2], pairs[1::2], strict=True))
        lines.append(Shown(namespace, name, dimensions, options.get("stat", "Average"), options.get("period", 300)))
    return lines
