"""`make mutants` itself: every guard fits the code, and nothing but a test that notices counts."""

from __future__ import annotations

import ast
import functools
import json
import shutil
from pathlib import Path

import pytest

from local.mutants import bench
from local.mutants.__main__ import main
from local.mutants.bench import ROOT, Verdict, every_test
from local.mutants.guard import Guard, NoLongerFitsError
from local.mutants.guards import GUARDS

# --- the guards


def test_no_two_guards_have_one_name() -> None:
    names = [guard.name for guard in GUARDS]
    assert sorted(set(names)) == sorted(names)


def test_the_guards_that_matter_most_are_taken_out() -> None:
    assert {
        "free-lease",
        "commit-attempt",
        "commit-version",
        "time-left",
        "skew-margin",
        "consistent-grant",
        "keep-refresh-token",
        "reader-waits",
        "doubt-at-takeover",
        "doubt-inherited",
        "presented-token",
        "parking",
        "one-prober",
    } <= {guard.name for guard in GUARDS}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_fits_the_code_and_leaves_another_program(guard: Guard) -> None:
    text, mutant = guard.without(ROOT)
    assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(mutant))


@functools.cache
def _functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_names_tests_that_there_are(guard: Guard) -> None:
    assert guard.tests
    for test in guard.tests:
        path, _, rest = test.partition("::")
        assert (ROOT / path).exists()
        assert not rest or rest.partition("[")[0] in _functions(path)


def test_each_test_is_run_once_before_anything_is_taken_out() -> None:
    def guard(*tests: str) -> Guard:
        return Guard(name="any", says="", path="", old="", new="", tests=tests)

    chosen = [guard("t/b.py::test_x", "t/a.py"), guard("t/a.py::test_y[1]", "t/b.py::test_x[2]", "t/b.py::test_xx")]
    assert every_test(chosen) == ["t/a.py", "t/b.py::test_x", "t/b.py::test_xx"]


# --- the harness, over a project of one door

DOOR = """\
def may_enter(key):
    if key != "fits":
        return False
    return True


def knock():
    return "knock"
"""
TESTS = """\
import pytest
from door import knock, may_enter

@pytest.fixture
def opened():
    assert may_enter("fits")

def test_a_key_that_fits_opens(opened):
    assert may_enter("fits")

def test_another_key_does_not():
    assert not may_enter("other")

def test_somebody_knocks():
    knock()
"""
_CHECK = '    if key != "fits":\n        return False\n'
_KNOCK = '    return "knock"\n'


def _guard(name: str, old: str, new: str, *tests: str, raises: tuple[str, ...] = ()) -> Guard:
    return Guard(
        name=name,
        says=f"the guard {name}",
        path="functions/door.py",
        old=old,
        new=new,
        tests=tuple(f"tests/test_door.py::{test}" for test in tests) or ("tests/test_door.py",),
        raises=raises,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "door"
    for path, text in {
        "functions/door.py": DOOR,
        "tests/test_door.py": TESTS,
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["functions"]\n',
        "local/__init__.py": "",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "local" / "mutants", root / "local" / "mutants")
    return root


def test_only_a_test_that_notices_kills_a_mutant(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guards = [
        _guard("noticed", _CHECK, "", "test_a_key_that_fits_opens", "test_another_key_does_not"),
        _guard("unnoticed", _KNOCK, '    return "bang"\n'),
        _guard("no name", _KNOCK, "    return nowhere\n", "test_somebody_knocks"),
        _guard("the harm itself", _KNOCK, "    raise SystemError\n", "test_somebody_knocks", raises=("SystemError",)),
        _guard("no import", _KNOCK, f"{_KNOCK}\n\nimport nowhere\n"),
        _guard("fixture", '"fits"', '"fits not"', "test_a_key_that_fits_opens"),
        _guard("not there", "the text of a guard of old", ""),
        _guard("there thrice", "    return", "    yield"),
        _guard("no program", _KNOCK, "    return (\n"),
    ]
    assert main([], guards, project) == 1
    told = json.loads((project / "local" / "out" / "mutants.json").read_text(encoding="utf-8"))
    assert {mutant["guard"]: mutant["verdict"] for mutant in told["mutants"]} == {
        "noticed": Verdict.KILLED,
        "unnoticed": Verdict.SURVIVED,
        "no name": Verdict.WRONG_REASON,
        "the harm itself": Verdict.KILLED,
        "no import": Verdict.WRONG_REASON,
        "fixture": Verdict.WRONG_REASON,
        "not there": Verdict.NO_LONGER_FITS,
        "there thrice": Verdict.NO_LONGER_FITS,
        "no program": Verdict.NO_LONGER_FITS,
    }
    assert (told["guards"], told["killed"], told["baseline"]["passed"]) == (9, 2, 3)
    (noticed,) = (mutant for mutant in told["mutants"] if mutant["guard"] == "noticed")
    assert [failure["test"] for failure in noticed["fails"]] == ["tests/test_door.py::test_another_key_does_not"]
    assert '-    if key != "fits":' in noticed["diff"]
    assert (project / "functions" / "door.py").read_text(encoding="utf-8") == DOOR
    printed = capsys.readouterr().out
    assert '-    if key != "fits":' in printed
    assert "fails: tests/test_door.py::test_another_key_does_not" in printed
    assert "9 guards taken out" in printed


def test_all_is_well_when_every_guard_is_missed(project: Path) -> None:
    guards = [_guard("noticed", _CHECK, ""), _guard("unnoticed", _KNOCK, '    return "bang"\n')]
    assert main(["--only", "noticed", "--workers", "1"], guards, project) == 0


@pytest.mark.parametrize(
    "more",
    [
        "def test_it_is_red():\n    assert knock() is None\n",
        "def test_it_is_left_out():\n    pytest.skip('not today')\n",
        "@pytest.fixture\ndef broken():\n    assert False\ndef test_it_is_not_reached(broken):\n    pass\n",
    ],
    ids=["red", "skipped", "not reached"],
)
def test_nothing_is_taken_out_while_the_baseline_is_not_green(project: Path, more: str) -> None:
    (project / "tests" / "test_door.py").write_text(TESTS + more, encoding="utf-8")
    assert main(["--workers", "1"], [_guard("noticed", _CHECK, "")], project) == 1
    assert not (project / "local" / "out").exists()


def test_a_mutant_that_never_ends_was_not_noticed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_AT_MOST_S", 3.0)
    endless = _guard("endless", _KNOCK, "    while True:\n        pass\n", "test_somebody_knocks")
    with bench.bench(project) as place:
        assert place.try_without(endless).verdict is Verdict.TIMED_OUT


def test_a_guard_that_does_not_fit_is_not_taken_out(project: Path) -> None:
    with pytest.raises(NoLongerFitsError, match="its text occurs 0 times"):
        _guard("not there", "the text of a guard of old", "").take_out(project)
    with pytest.raises(NoLongerFitsError, match="its text occurs 3 times"):
        _guard("there thrice", "    return", "").take_out(project)
    assert (project / "functions" / "door.py").read_text(encoding="utf-8") == DOOR


def test_guards_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(guard.name in printed and guard.says in printed for guard in GUARDS)
