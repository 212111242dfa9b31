"""What became of each guard, printed as it comes and kept as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .bench import Mutant, Run, Verdict

if TYPE_CHECKING:
    from pathlib import Path

_LOG_LINES = 40


@dataclass(slots=True)
class Report:
    """The mutants so far, out of `total`."""

    total: int
    mutants: list[Mutant] = field(default_factory=list)

    def add(self, mutant: Mutant) -> None:
        """Note a mutant and print it: the guard, the diff, the test that fails."""
        self.mutants.append(mutant)
        guard = mutant.guard
        print(f"[{len(self.mutants):3}/{self.total}] {mutant.verdict}: {guard.name}, {mutant.seconds:.1f} s")
        print(f"      {guard.says}")
        print(_indented(mutant.diff))
        for failure in mutant.failures:
            print(f"      fails: {failure.test}\n             {failure.said[:160]}")
        if mutant.verdict is not Verdict.KILLED and mutant.log:
            print(_indented("\n".join(mutant.log.splitlines()[-_LOG_LINES:])))
        print(flush=True)

    @property
    def survivors(self) -> list[str]:
        """The guards whose absence nobody noticed, for whatever reason."""
        return [mutant.guard.name for mutant in self.mutants if mutant.verdict is not Verdict.KILLED]

    @property
    def held(self) -> bool:
        """Whether every guard was tried and missed."""
        return self.total > 0 and len(self.mutants) == self.total and not self.survivors

    def summary(self, order: list[str], seconds: float) -> None:
        """Print the table of all guards, in the order that they are listed in."""
        self.mutants.sort(key=lambda mutant: order.index(mutant.guard.name))
        width = max((len(mutant.guard.name) for mutant in self.mutants), default=0)
        for mutant in self.mutants:
            killer = mutant.failures[0].test if mutant.failures else "-"
            print(f"  {mutant.guard.name:<{width}}  {mutant.verdict:<14}  {mutant.seconds:5.1f} s  {killer}")
        counts = Counter(mutant.verdict for mutant in self.mutants)
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"\n  {len(self.mutants)} guards taken out: {told or 'none'}; {seconds:.0f} s in all")
        if self.survivors:
            print(f"  not noticed: {', '.join(self.survivors)}")
        print(end="", flush=True)

    def write(self, path: Path, baseline: Run, seconds: float) -> None:
        """Write it as JSON: the counts, and of each guard the diff, the verdict and the tests that fail."""
        rows: list[dict[str, Any]] = [
            {
                "guard": mutant.guard.name,
                "says": mutant.guard.says,
                "path": mutant.guard.path,
                "verdict": mutant.verdict.value,
                "seconds": round(mutant.seconds, 1),
                "fails": [asdict(failure) for failure in mutant.failures],
                "diff": mutant.diff,
            }
            for mutant in self.mutants
        ]
        told = {
            "guards": self.total,
            "killed": self.total - len(self.survivors),
            "survivors": self.survivors,
            "seconds": round(seconds, 1),
            "baseline": {"passed": len(baseline.passed), "seconds": round(baseline.seconds, 1)},
            "mutants": rows,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())
