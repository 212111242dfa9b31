"""The runbooks: a page for whatever can wake somebody, each in one form, with commands and queries that work."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import jmespath
import pytest

from tests.docs.pages import ROOT, blocks, program, read, table, words
from token_rotator.adapters.client_secrets import _WHY
from token_rotator.domain.grant import AlertKind
from token_rotator.domain.outcome import _NAMES
from token_rotator.service.journal import Event

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
FORM = ("What it means.", "What users feel.", "Look at.", "Do.", "Back to bed")
BASH = shutil.which("bash") or "/bin/bash"

each = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def parts(text: str) -> list[tuple[str, str]]:
    """The parts of a page: what stands bold at a line's beginning, and all that follows up to the next."""
    found = re.split(r"^\*\*(.+?)\*\*", text, flags=re.MULTILINE)
    return list(zip(found[1::2], found[2::2], strict=True))


def commands(page: str) -> list[list[str]]:
    """The commands of a page's shell blocks, each as its words; joined where a line goes on."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    quiet = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    return [shlex.split(re.sub(r"\$\(", "(", line), comments=True) for line in quiet if line.count("'") % 2 == 0]


# --- the form


@each
def test_a_page_says_what_somebody_at_three_needs_and_in_this_order(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(r"# [A-Z].+\n\n\*\*What it means\.\*\*", text), "a title, and then at once what it means"
    assert text.count("\n# ") == 0
    names = [name for name, _ in parts(text)]
    assert [name for name in names if name in FORM] == list(FORM)
    for name, content in parts(text):
        assert content.split(), name


@each
def test_a_page_shows_the_command_that_tells_more(page: Path) -> None:
    look = dict(parts(page.read_text(encoding="utf-8")))["Look at."]
    code = "".join(re.findall(r"^ *```sh\n(.*?)^ *```$", look, re.MULTILINE | re.DOTALL))
    assert re.search(r"^ *(?:aws|ask|metric|alarms)\b", code, re.MULTILINE)


@each
def test_a_page_says_when_to_go_back_to_bed(page: Path) -> None:
    assert parts(page.read_text(encoding="utf-8"))[-1][0] == "Back to bed", "it is the last thing"


@each
def test_a_page_is_read_with_half_closed_eyes(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) < 700
    assert all(len(line) <= 120 for line in prose.splitlines() if not line.lstrip().startswith("|"))


# --- a page for everything


@pytest.mark.parametrize("kind", list(AlertKind), ids=lambda kind: kind.value)
def test_every_kind_of_alert_has_a_page_under_the_name_that_its_message_links_to(kind: AlertKind) -> None:
    name = kind.value.replace("_", "-")
    assert f"kind `{kind.value}`" in " ".join(read(f"docs/runbooks/{name}.md").split())
    (row,) = (row for row in table("docs/runbooks/README.md", "table: alerts") if words(row[0]) == [kind.value])
    assert f"[{name}]({name}.md)" in row[2]


def test_no_row_of_the_index_is_about_a_kind_that_does_not_exist() -> None:
    rows = table("docs/runbooks/README.md", "table: alerts")
    assert sorted(words(kind)[0] for kind, *_ in rows) == sorted(kind.value for kind in AlertKind)


def test_every_row_of_the_index_says_whom_to_wake() -> None:
    for name in ("table: alarms", "table: alerts"):
        for *_, wake in table("docs/runbooks/README.md", name):
            assert re.match(r"(?:yes|no|if )", wake), wake


def waking() -> tuple[str, list[Any]]:
    """The scope of the filter that the README gives to a pager, and what it takes as `kind`."""
    attributes = json.loads(program("README.md", "wake.json"))
    policy = json.loads(attributes["FilterPolicy"])
    assert set(attributes) == {"FilterPolicyScope", "FilterPolicy"}
    assert set(policy) == {"kind"}
    return attributes["FilterPolicyScope"], policy["kind"]


def test_a_pager_is_woken_by_the_kinds_that_the_index_says_and_by_every_alarm() -> None:
    scope, (no_kind, *kinds) = waking()
    assert (scope, no_kind) == ("MessageBody", {"exists": False})
    wakes = {words(kind)[0] for kind, *_, wake in table("docs/runbooks/README.md", "table: alerts") if wake == "yes"}
    assert sorted(kinds) == sorted(wakes)


def test_the_reason_that_a_page_quotes_is_the_one_that_is_logged() -> None:
    page = " ".join(read("docs/runbooks/wise-secret-unusable.md").split())
    assert f"`{_WHY['AccessDeniedException']}`" in page


def test_a_page_that_stores_the_whole_secret_warns_of_what_else_is_in_it() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if "put-secret-value" in text and "--rawfile" not in text:
            assert "`wise_mtls`" in text, page
            assert "mtls.md#change-another-field" in text, page


@each
def test_a_page_is_in_the_index(page: Path) -> None:
    assert f"({page.name})" in read("docs/runbooks/README.md")


# --- what it lets somebody type


@pytest.fixture(scope="module")
def known_fields() -> set[str]:
    """Every name that a log line of ours may have."""
    found = {"timestamp", "level", "service", "message", "tenant", "grant_id"}
    found |= {field.name for kind in get_args(Event) for field in fields(kind)} - {"key"}
    for module in (ROOT / "functions" / "token_rotator").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                found |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "facts.update":
                found |= {str(keyword.arg) for keyword in node.keywords}
            if isinstance(node, ast.FunctionDef) and node.name == "_audit":
                found |= {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {*found, "problem"}


def queries(page: str) -> list[str]:
    return [found[2] for found in commands(page) if found[0] == "ask"]


FUNCTIONS = {"count", "count_distinct", "avg", "max", "earliest", "bin"}
STAGES = {"filter", "stats", "sort", "limit", "display"}
SYNTAX = {"and", "or", "not", "in", "like", "as", "by", "desc", "asc"}
PERIOD = re.compile(r"\d+[mh]")


@pytest.mark.parametrize("page", [*PAGES, FOLDER / "README.md"], ids=lambda page: page.stem)
def test_a_query_asks_for_what_is_logged(page: Path, known_fields: set[str]) -> None:
    """Each word of it is the language's, a field of a line, or a name that the query itself gives."""
    messages = {words(row[0])[0] for row in table("docs/operations.md", "table: messages")}
    for query in queries(str(page.relative_to(ROOT))):
        stages = [stage.strip() for stage in query.split(" | ")]
        assert {stage.split()[0] for stage in stages} <= STAGES, query
        assert stages[0].startswith("filter "), "what is looked for comes first"
        given = set(re.findall(r" as (\w+)", query))
        bare = re.sub(r"\"[^\"]*\"|(?<= )/[^ ]+/", "", query)
        used = {word for word in re.findall(r"[A-Za-z_]\w*|\d+[mh]\b", bare) if not PERIOD.fullmatch(word)}
        assert used - FUNCTIONS - STAGES - SYNTAX - given - {"m", "h"} <= known_fields, query
        for field, value in re.findall(r"(\w+) = \"([^\"]*)\"", query):
            assert field != "message" or value in messages, query
            assert field != "outcome" or value in _NAMES.values(), query
        for values in re.findall(r"message in \[(.*?)\]", query):
            assert set(re.findall(r"\"([^\"]*)\"", values)) <= messages, query


@pytest.mark.parametrize("page", [*PAGES, FOLDER / "README.md"], ids=lambda page: page.stem)
def test_a_metric_that_is_asked_for_is_one_of_ours(page: Path) -> None:
    rows = table("docs/operations.md", "table: metrics")
    emitted = {name: (row[2].split(", "), "by `outcome`" in row[3]) for row in rows for name in words(row[0])}
    text = page.read_text(encoding="utf-8").replace("\n", " ")
    asked = [found for found in commands(str(page.relative_to(ROOT))) if found[0] == "metric"]
    asked += [word.split() for word in re.findall(r"`(metric [^`]+)`", text)]
    for _, name, service, statistic, *outcome in asked:
        services, by_outcome = emitted[name]
        assert service in services, name
        assert statistic in ("Sum", "Maximum"), name
        assert set(outcome) <= set(_NAMES.values())
        assert bool(outcome) == by_outcome, f"{name}: nothing is added up over outcomes"


@pytest.mark.parametrize("page", [*PAGES, FOLDER / "README.md"], ids=lambda page: page.stem)
def test_a_block_can_be_pasted_into_a_shell(page: Path) -> None:
    for block in blocks(str(page.relative_to(ROOT)), "sh"):
        done = subprocess.run([BASH, "-n"], input=block, capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 0, done.stderr


STUB = """#!/usr/bin/env bash
printf '%s\\n' "$@" >> "$HEARD"; echo -- >> "$HEARD"
case "$1 $2" in
  "cloudformation describe-stacks") printf 'GrantsTable\\tfixture-table\\nApiUrl\\thttps://fixture/live\\n' ;;
  "logs start-query") echo fixture-query ;;
  "logs get-query-results") if [[ "$*" == *status* ]]; then echo Complete; else echo "a line"; fi ;;
  *) echo "an answer" ;;
esac
"""


def run(tmp_path: Path, typed: str) -> tuple[str, list[list[str]]]:
    """Type something in a shell that took night.sh, where a stub stands for the AWS CLI. Gives output and calls."""
    stub, heard = tmp_path / "aws", tmp_path / "heard"
    stub.write_text(STUB, encoding="utf-8")
    stub.chmod(0o755)
    (tmp_path / "night.sh").write_text(program("docs/runbooks/README.md", "night.sh"), encoding="utf-8")
    done = subprocess.run(
        [BASH, "-euo", "pipefail", "-c", f". ./night.sh; {typed}"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HEARD": str(heard), "SweepLogGroup": "s",
             "RefreshLogGroup": "r", "ServeLogGroup": "v", "AdminLogGroup": "a", "CallbackLogGroup": "c"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = heard.read_text(encoding="utf-8").split("--\n")
    return done.stdout, [call.splitlines() for call in calls if call]


def test_the_outputs_of_the_stack_become_variables(tmp_path: Path) -> None:
    told, _ = run(tmp_path, 'echo "$GrantsTable $ApiUrl $environment"')
    assert told == "fixture-table https://fixture/live production\n"


def test_a_query_is_asked_of_all_functions_and_waited_for(tmp_path: Path) -> None:
    told, calls = run(tmp_path, "ask 30 'filter level = \"ERROR\" | limit 1'")
    assert told == "a line\n"
    start = calls[1]
    assert start[start.index("--query-string") + 1] == 'filter level = "ERROR" | limit 1'
    assert start[start.index("--log-group-names") + 1 :][:5] == ["s", "r", "v", "a", "c"]
    began, ended = (int(start[start.index(name) + 1]) for name in ("--start-time", "--end-time"))
    assert 1800 <= ended - began <= 1802
    shown = calls[-1][calls[-1].index("--query") + 1]
    results = [
        [{"field": "service", "value": "sweep"}, {"field": "lines", "value": "3"}, {"field": "@ptr", "value": "x"}]
    ]
    assert jmespath.search(shown, {"results": results}) == [["sweep  3"]]


def test_a_metric_is_asked_for_with_its_dimensions(tmp_path: Path) -> None:
    _, calls = run(tmp_path, "metric RefreshAttempted sweep Sum throttled; metric SweepStarted sweep Sum")
    dimensions = [[word for word in call if word.startswith("Name=")] for call in calls[1:]]
    ours = ["Name=environment,Value=production", "Name=service,Value=sweep"]
    assert dimensions == [[*ours, "Name=outcome,Value=throttled"], ours]
    shown = calls[1][calls[1].index("--query") + 1]
    points = [{"Timestamp": "2", "Sum": 1.0}, {"Timestamp": "1", "Sum": 4.0}]
    assert jmespath.search(shown, {"Datapoints": points}) == [["1", 4.0], ["2", 1.0]]


def test_what_is_in_alarm_is_listed_by_the_stacks_name(tmp_path: Path) -> None:
    _, calls = run(tmp_path, "alarms")
    assert calls[1][calls[1].index("--alarm-name-prefix") + 1] == "TokenRotator-production"
    shown = calls[1][calls[1].index("--query") + 1]
    assert jmespath.search(
        shown, json.loads('{"MetricAlarms": [{"AlarmName": "a", "StateUpdatedTimestamp": "t"}]}')
    ) == [["t", "a"]]
