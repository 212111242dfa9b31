"""What the demo claims, whether it held, and what was seen."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One claim. `seen` comes from Wise's truth log, the queue, the logs or the table."""

    name: str
    held: bool
    seen: dict[str, Any]


@dataclass(slots=True)
class Report:
    """Prints the story as it happens and keeps its checks."""

    began: float = field(default_factory=time.monotonic)
    checks: list[Check] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """Print one step, with the seconds since the start."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def check(self, name: str, held: bool, **seen: Any) -> None:  # noqa: FBT001 - whatever was seen
        """Note a claim and print its proof."""
        self.checks.append(Check(name, held, seen))
        mark = "held  " if held else "BROKEN"
        proof = ", ".join(f"{key}={json.dumps(value)}" for key, value in seen.items())
        self.tell(f"  {mark} {name}: {proof}")

    @property
    def held(self) -> bool:
        """Whether every check held, and there were any."""
        return bool(self.checks) and all(check.held for check in self.checks)

    def write(self, path: Path) -> None:
        """Write the checks as JSON: a list of name, held, seen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"name": check.name, "held": check.held, "seen": check.seen} for check in self.checks]
        path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")

    def summary(self) -> None:
        """Print the table of all checks."""
        width = max((len(check.name) for check in self.checks), default=0)
        print()
        for check in self.checks:
            print(f"  {check.name:<{width}}  {'held' if check.held else 'BROKEN'}")
        kept = sum(check.held for check in self.checks)
        print(f"\n  {kept} of {len(self.checks)} checks held, {time.monotonic() - self.began:.0f} s", flush=True)
