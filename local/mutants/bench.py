"""Copies of the project, with and without a guard, and what the tests say of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .guard import Guard, NoLongerFitsError
from .witness import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]
_LEFT_BEHIND: Final = shutil.ignore_patterns("*.egg-info", "cdk.out", "out", "soak-*")
_LINKED: Final = (".venv", ".emulator", "node_modules", ".cache")
_COPIED: Final = (
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "app.py",
    "cdk.json",
    "docs",
    "events",
    "functions",
    "infra",
    "local",
    "ops",
    "package.json",
    "pyproject.toml",
    "requirements.in",
    "requirements.txt",
    "tests",
)
_AT_MOST_S: Final = 150.0
"""How long the tests of one guard may take: a mutant that never ends is not a mutant that was noticed."""
_ENDS_WITHIN_S: Final = 20.0
_NOTICED: Final = ("AssertionError", "Failed")
"""What a test raises that notices: its own assertion, or pytest's word for an exception that did not come."""
_FAILED: Final = 1
"""pytest's exit code for tests that ran and failed."""


class Verdict(StrEnum):
    """What became of one mutant. Only a killed one is as it should be."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    WRONG_REASON = "WRONG REASON"
    """Something failed, but no test noticed: an import, a fixture, a name."""
    TIMED_OUT = "TIMED OUT"
    NO_LONGER_FITS = "NO LONGER FITS"


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed in its own body, the exception's type and its first line."""

    test: str
    raised: str
    said: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pytest. `code` is its exit code, `None` if it was ended; `log` its output."""

    code: int | None
    passed: frozenset[str]
    failed: tuple[Failure, ...]
    other: tuple[str, ...]
    seconds: float
    log: str

    def lacks(self, tests: Iterable[str]) -> list[str]:
        """Give those of some tests of which none passed."""
        return [test for test in tests if not any(_belongs(passed, test) for passed in self.passed)]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard that was taken out, and what the tests said."""

    guard: Guard
    verdict: Verdict
    diff: str
    failures: tuple[Failure, ...]
    seconds: float
    log: str = ""


def _belongs(test: str, chosen: str) -> bool:
    return test == chosen or test.startswith((f"{chosen}::", f"{chosen}[", f"{chosen}/"))


def every_test(guards: Iterable[Guard]) -> list[str]:
    """Give all tests of some guards, each once and none that is part of another, files in a fixed order."""
    named = dict.fromkeys(test for guard in guards for test in guard.tests)
    whole = [test for test in named if not any(test != other and _belongs(test, other) for other in named)]
    return sorted(whole, key=lambda test: test.partition("::")[0])


class Bench:
    """Where mutants are made and judged: one clean copy of the project, and copies of that."""

    def __init__(self, clean: Path) -> None:
        self.clean = clean
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._over = False

    def baseline(self, tests: Sequence[str], workers: int) -> Run:
        """Run all the tests over the clean copy. It also leaves its compiled modules there, for the mutants."""
        share = ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []
        return self._pytest(self.clean, tests, share, at_most_s=_AT_MOST_S * 4)

    def try_without(self, guard: Guard, *, first_only: bool = True) -> Mutant:
        """Take a guard out of a copy of its own, and see which of its tests fail; `first_only`: until one does."""
        try:
            diff = guard.diff(self.clean)
        except NoLongerFitsError as error:
            return Mutant(guard, Verdict.NO_LONGER_FITS, str(error), (), 0.0)
        with tempfile.TemporaryDirectory(prefix="token-rotator-mutant-") as directory:
            copy = Path(directory) / "project"
            shutil.copytree(self.clean, copy, symlinks=True)
            guard.take_out(copy)
            run = self._pytest(copy, guard.tests, ["-x"] if first_only else [], at_most_s=_AT_MOST_S)
        return Mutant(guard, _judged(guard, run), diff, run.failed, run.seconds, run.log)

    def end(self) -> None:
        """End what still runs, as an interrupt would: its fixtures end what they started."""
        with self._lock:
            self._over = True
            for process in self._running:
                process.send_signal(signal.SIGINT)

    def _pytest(self, copy: Path, tests: Sequence[str], more: Sequence[str], *, at_most_s: float) -> Run:
        unwanted = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "COVERAGE_PROCESS_START", "COV_CORE_SOURCE")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="token-rotator-witness-") as directory:
            told = Path(directory) / "told.json"
            command = [sys.executable, "-m", "pytest", "-q", "-p", "local.mutants.witness", "-p", "no:cacheprovider"]
            code, log = self._run(
                [*command, "--basetemp", str(Path(directory) / "tmp"), *more, *tests],
                copy,
                environment | {"CI": "true", FILE: str(told)},  # the same examples each time
                at_most_s,
            )
            seen = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
        return Run(
            code=code,
            passed=frozenset(seen.get("passed", [])),
            failed=tuple(Failure(**failure) for failure in seen.get("failed", [])),
            other=tuple(seen.get("other", [])),
            seconds=time.monotonic() - began,
            log=log,
        )

    def _run(
        self, command: list[str], copy: Path, environment: dict[str, str], at_most_s: float
    ) -> tuple[int | None, str]:
        with self._lock:
            if self._over:
                return None, ""
            process = subprocess.Popen(
                command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._running.add(process)
        try:
            log, _ = process.communicate(timeout=at_most_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                log, _ = process.communicate(timeout=_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                log, _ = process.communicate()
            return None, log
        else:
            return process.returncode, log
        finally:
            with self._lock:
                self._running.discard(process)


def _judged(guard: Guard, run: Run) -> Verdict:
    """Tell a guard that a test missed from a run that merely broke."""
    if run.code is None:
        return Verdict.TIMED_OUT
    if run.code == 0:
        return Verdict.SURVIVED
    noticed = run.failed and all(failure.raised in (*_NOTICED, *guard.raises) for failure in run.failed)
    return Verdict.KILLED if noticed and run.code == _FAILED and not run.other else Verdict.WRONG_REASON


@contextlib.contextmanager
def bench(root: Path = ROOT) -> Iterator[Bench]:
    """Copy the project, for the length of a block. What the environments hold is shared, not copied."""
    with tempfile.TemporaryDirectory(prefix="token-rotator-bench-") as directory:
        clean = Path(directory) / "project"
        clean.mkdir()
        for entry in _COPIED:
            source = root / entry
            if source.is_dir():
                shutil.copytree(source, clean / entry, ignore=_LEFT_BEHIND)
            elif source.exists():
                shutil.copy2(source, clean / entry)
        for entry in _LINKED:
            if (root / entry).exists():
                (clean / entry).symlink_to((root / entry).resolve())
        made = Bench(clean)
        try:
            yield made
        finally:
            made.end()
