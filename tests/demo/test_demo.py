"""The demo's own parts: what it breaks still fits the code, and its report cannot hold by accident."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from local.demo.breaks import BREAKS, ROOT
from local.demo.partner import hash_of
from local.demo.report import Report
from local.demo.stage import _processes

STORY = "".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "local" / "demo").glob("*.py")) if path.stem != "breaks"
)


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_fits_the_code_and_leaves_it_valid(name: str) -> None:
    chosen = BREAKS[name]
    text = (ROOT / chosen.path).read_text(encoding="utf-8")
    assert text.count(chosen.old) == 1
    broken = text.replace(chosen.old, chosen.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_names_a_check_of_the_story(name: str) -> None:
    assert f'"{BREAKS[name].check}"' in STORY


def test_the_guards_that_matter_most_can_be_broken() -> None:
    assert {"lease", "commit", "third-lock", "alert"} <= set(BREAKS)


def test_a_report_holds_only_if_there_was_something_and_all_of_it_held(tmp_path: Path) -> None:
    report = Report()
    assert not report.held
    report.check("one", held=True, seen=1)
    assert report.held
    report.check("two", held=False, seen=0)
    assert not report.held
    report.write(tmp_path / "out" / "demo.json")
    assert json.loads((tmp_path / "out" / "demo.json").read_text(encoding="utf-8")) == [
        {"name": "one", "held": True, "seen": {"seen": 1}},
        {"name": "two", "held": False, "seen": {"seen": 0}},
    ]


def test_tokens_are_named_as_wises_truth_log_names_them() -> None:
    assert hash_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_processes_are_listed_with_their_parents() -> None:
    assert (os.getpid(), os.getppid()) in {(pid, parent) for pid, parent, _ in _processes()}
