"""A plugin of pytest that writes down what became of each test: an exit code alone does not say why a run failed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

FILE = "MUTANTS_WITNESS"
"""The variable that names the file."""
_RAISED = "raised"
_SAID = "said"

_seen: dict[str, list[Any]] = {"passed": [], "failed": [], "other": []}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the name and the first words of what was raised into the report, which crosses processes."""
    report = yield
    if call.excinfo is not None:
        words = call.excinfo.exconly(tryshort=True).strip().splitlines()
        report.user_properties += [(_RAISED, call.excinfo.typename), (_SAID, words[0] if words else "")]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Sort one test: passed or failed in its own body, or anything else."""
    if report.when == "call" and report.passed:
        _seen["passed"].append(report.nodeid)
    elif report.when == "call" and report.failed:
        told = dict(report.user_properties)
        _seen["failed"].append({"test": report.nodeid, "raised": told.get(_RAISED), "said": told.get(_SAID)})
    elif not report.passed:
        _seen["other"].append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write it down, once: the processes that a run is divided among have told the one that started them."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ[FILE]).write_text(json.dumps(_seen), encoding="utf-8")
