"""Makes the explored histories count: what every worker explored is summed up at the end of the run."""

from __future__ import annotations

from collections import Counter

import pytest

COUNTED = ("histories", "pruned")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many histories were explored and pruned, and how long that took, by file and in all."""
    by_file: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            told = dict(getattr(report, "user_properties", ()))
            if getattr(report, "when", None) == "call" and "histories" in told:
                file = report.nodeid.partition("::")[0].rpartition("/")[2]
                by_file.setdefault(file, Counter()).update({name: int(told.get(name, 0)) for name in COUNTED})
                seconds[file] += report.duration
    if not by_file:
        return
    terminalreporter.section("histories of the protocol")
    total: Counter[str] = Counter()
    for file, counts in sorted(by_file.items()):
        total.update(counts)
        terminalreporter.write_line(
            f"{counts['histories']:>8} explored {counts['pruned']:>8} pruned {seconds[file]:>6.0f} s  {file}"
        )
    terminalreporter.write_line(
        f"{total['histories']:>8} explored {total['pruned']:>8} pruned {seconds.total():>6.0f} s  in all"
    )
