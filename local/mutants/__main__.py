"""`make mutants`: ends with a table, `local/out/mutants.json`, and 0 only if a test missed every guard taken out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from .bench import ROOT, Bench, bench, every_test
from .guards import GUARDS
from .report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench import Run
    from .guard import Guard

_AT_ONCE: Final = 4
"""More mutants at a time than this only wait for each other."""


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _list(guards: Sequence[Guard]) -> None:
    width = max(len(guard.name) for guard in guards)
    for guard in guards:
        print(f"{guard.name:<{width}}  {guard.says}")
    print(f"\n{len(guards)} guards")


def _green(run: Run, tests: Sequence[str]) -> bool:
    """Tell whether the tests pass with every guard in its place; print why not."""
    lacking = run.lacks(tests)
    print(f"baseline: {len(run.passed)} tests passed, {run.seconds:.1f} s", flush=True)
    if run.code == 0 and not run.other and not lacking:
        return True
    print(run.log)
    for test in (*run.other, *lacking):
        print(f"did not pass: {test}")
    print("the baseline is not green: no guard was taken out", flush=True)
    return False


def _try_all(place: Bench, guards: Sequence[Guard], workers: int, report: Report) -> None:
    with ThreadPoolExecutor(workers, thread_name_prefix="mutant") as pool:
        try:
            for future in as_completed([pool.submit(place.try_without, guard) for guard in guards]):
                report.add(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            place.end()
            raise


def main(arguments: Sequence[str] | None = None, guards: Sequence[Guard] = GUARDS, root: Path = ROOT) -> int:
    """Parse, prove the baseline green, take out each guard, report. Gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.mutants", description=__doc__)
    parser.add_argument("--only", action="append", choices=[guard.name for guard in guards], metavar="GUARD")
    parser.add_argument("--list", action="store_true", help="list the guards")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, _AT_ONCE), help="how many at a time")
    parser.add_argument("--out", type=Path, default=root / "local" / "out" / "mutants.json", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    taken = [guard for guard in guards if not chosen.only or guard.name in chosen.only]
    if chosen.list:
        _list(taken)
        return 0
    began = time.monotonic()
    report = Report(len(taken))
    tests = every_test(taken)
    with bench(root) as place:
        baseline = place.baseline(tests, chosen.workers)
        if not _green(baseline, tests):
            return 1
        print(flush=True)
        _try_all(place, taken, chosen.workers, report)
    seconds = time.monotonic() - began
    report.write(chosen.out, baseline, seconds)
    report.summary([guard.name for guard in taken], seconds)
    return 0 if report.held else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)
    sys.exit(main())
