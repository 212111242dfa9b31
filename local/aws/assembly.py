"""Reads a cloud assembly: what `cdk synth` writes and `cdk deploy` takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Asset:
    """A file or folder to be uploaded before the stack."""

    source: Path
    zipped: bool
    bucket: str
    """May hold `${AWS::AccountId}` and `${AWS::Region}`."""
    key: str


@dataclass(frozen=True)
class Assembly:
    """The one stack of a cloud assembly."""

    directory: Path

    @cached_property
    def stack_name(self) -> str:
        """The stack's name. Raises LookupError unless there is exactly one stack."""
        artifacts = self._read("manifest.json")["artifacts"]
        stacks = [name for name, artifact in artifacts.items() if artifact["type"] == "aws:cloudformation:stack"]
        if len(stacks) != 1:
            raise LookupError(f"{self.directory} holds {len(stacks)} stacks, not one")
        return str(stacks[0])

    @cached_property
    def template(self) -> dict[str, Any]:
        """The template as it would reach CloudFormation."""
        return self._read(f"{self.stack_name}.template.json")

    def resources(self, resource_type: str) -> dict[str, dict[str, Any]]:
        """Logical id -> properties, of one type of resource."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == resource_type
        }

    def assets(self) -> Iterator[Asset]:
        """What has to be uploaded: the bundle, and the template, which is too large to be sent along."""
        for asset in self._read(f"{self.stack_name}.assets.json")["files"].values():
            for destination in asset["destinations"].values():
                yield Asset(
                    source=self.directory / asset["source"]["path"],
                    zipped=asset["source"]["packaging"] == "zip",
                    bucket=destination["bucketName"],
                    key=destination["objectKey"],
                )

    def _read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / name).read_text(encoding="utf-8"))
        return content
