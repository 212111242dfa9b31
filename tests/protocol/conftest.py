"""Makes the explored histories count: what every worker explored is summed up at the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.protocol.inline import InlinePool
from token_rotator.service import refresh_due

COUNTED = ("histories", "pruned")


@pytest.fixture(autouse=True, scope="package")
def inline_pool() -> Iterator[None]:
    """A sweep works on its one grant in the thread that called it: who runs when is the explorer's choice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh_due, "ThreadPoolExecutor", InlinePool)
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many histories were explored and pruned, by file and in all."""
    by_file: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            told = dict(getattr(report, "user_properties", ()))
            if getattr(report, "when", None) == "call" and "histories" in told:
                file = report.nodeid.partition("::")[0].rpartition("/")[2]
                by_file.setdefault(file, Counter()).update({name: int(told.get(name, 0)) for name in COUNTED})
    if not by_file:
        return
    terminalreporter.section("histories of the protocol")
    total: Counter[str] = Counter()
    for file, counts in sorted(by_file.items()):
        total.update(counts)
        terminalreporter.write_line(f"{counts['histories']:>8} explored {counts['pruned']:>8} pruned  {file}")
    terminalreporter.write_line(f"{total['histories']:>8} explored {total['pruned']:>8} pruned  in all")
