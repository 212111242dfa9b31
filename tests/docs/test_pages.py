"""The pages say what the code does: names, numbers, tables and links."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import botocore.session
import pytest
from botocore import xform_name

from infra.config import DeployConfig, Partner
from local.demo.breaks import BREAKS
from local.mutants.guards import GUARDS
from local.proof.checker import Rule
from local.soak.breaks import BREAKS as SOAK_BREAKS
from tests.docs.pages import PAGES, ROOT, anchors, blocks, links, program, read, section, table, words
from token_rotator import telemetry
from token_rotator.domain.certificate import CertificateWatch
from token_rotator.domain.fleet import Fleet
from token_rotator.domain.grant import AlertKind
from token_rotator.domain.lease import Budgets
from token_rotator.domain.link import CONFIRM_FOR, LINK_FOR, LinkFailure
from token_rotator.domain.outcome import _NAMES, Outcome
from token_rotator.handlers.http import MAX_BODY
from token_rotator.service.keep_answer import Place

PACKAGE = ROOT / "functions" / "token_rotator"
SCHEMAS: dict[str, Any] = json.loads(read("docs/openapi.json"))["components"]["schemas"]


# --- every page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_linked_to() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page)}
    assert set((ROOT / "docs").rglob("*.md")) <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    for word in words(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"(?:functions|infra|tests|local|events|docs)/[\w./-]+", word) and "local/out" not in word:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_is_told_targets_that_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


def _aws_commands(page: Path) -> list[list[str]]:
    text = "\n".join(blocks(str(page.relative_to(ROOT)), "sh")) + "\n".join(words(page.read_text(encoding="utf-8")))
    joined = text.replace("\\\n", " ")
    return [command.split() for command in re.findall(r"\baws ([a-z-]+ [a-z-]+[^|\n`)]*)", joined)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_aws_cli_have_these_options(page: Path) -> None:
    session = botocore.session.get_session()
    by_hand = {"logs tail": {"--since", "--filter-pattern"}, "dynamodb wait": {"--table-name"}}
    renamed = {"--notification-endpoint": "--endpoint"}
    general = {"--query", "--output", "--cli-input-json", "--cli-binary-format"}
    for service, operation, *rest in _aws_commands(page):
        given = {renamed.get(word, word) for word in rest if re.fullmatch(r"--[a-z-]+", word)} - general
        if f"{service} {operation}" in by_hand:
            assert given <= by_hand[f"{service} {operation}"]
            continue
        model = session.get_service_model(service)
        names = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in names, (service, operation)
        shape = model.operation_model(names[operation]).input_shape
        members = {f"--{xform_name(name, '-')}" for name in (shape.members if shape else {})}
        members |= {option.replace("--", "--no-", 1) for option in members}
        assert given <= members, (service, operation, given - members)


# --- the README, the settings, the proof


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(read("README.md").splitlines()) <= 440


def test_the_context_of_the_example_is_deployable() -> None:
    (example,) = (block for block in blocks("README.md", "json") if '"context"' in block)
    context = json.loads(example)["context"]
    config = DeployConfig.from_context(context)
    assert [partner.may for partner in config.partners] == [("read",), ("read", "manage", "link"), ("operate",)]
    other = DeployConfig.from_context({**context, "environment": "production"})
    assert (other.environment, other.wise_client_id) == ("production", "your-production-client-id")
    assert json.loads(example)["app"] == json.loads(read("cdk.json"))["app"]


def test_every_key_of_the_context_is_explained() -> None:
    section = read("docs/settings.md").partition("| key | default | meaning |")[2].partition("\n\n")[0]
    explained = {word for row in section.splitlines() for word in words(row.split("|")[1] if "|" in row else "")}
    assert explained == {field.name for field in fields(DeployConfig)}
    assert {field.name for field in fields(Partner)} <= set(words(section))


def test_breaks_are_those_that_the_demo_and_the_soak_know() -> None:
    text = " ".join(read("docs/proof.md").split())
    sentence = re.search(r"`make demo BREAK=([a-z-]+)`.*?`BREAK=` also takes ([^.]*)\.", text)
    assert sentence is not None
    assert {sentence[1], *words(sentence[2])} == set(BREAKS)
    sentence = re.search(r"`ARGS=\"--break ([a-z-]+)\"`.*?`--break` also takes ([^.]*)\.", text)
    assert sentence is not None
    assert {sentence[1], *words(sentence[2])} == set(SOAK_BREAKS)


# --- the protocol


def test_the_budgets_are_those_of_the_code() -> None:
    rows = table("docs/protocol.md", "table: budgets")
    told = {words(name)[0]: timedelta(seconds=float(seconds)) for name, seconds, _ in rows}
    budgets = Budgets()
    assert told == {field.name: getattr(budgets, field.name) for field in fields(Budgets)}
    assert f"= {budgets.lease.seconds} seconds" in read("docs/protocol.md")


def test_every_invariant_is_held_by_tests_that_exist() -> None:
    text = section("docs/protocol.md", "Invariants, and the tests that hold them")
    first, *parts = re.split(r"^### (\d+)\. .+$", text, flags=re.MULTILINE)
    assert parts[::2] == [str(number) for number in range(1, 9)]
    for part in (first, *parts[1::2]):
        items = re.findall(r"^- .+$", part, re.MULTILINE)
        assert len(items) > 1
        for item in items:
            linked = re.match(r"- \[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)(?:$|: )", item)
            assert linked is not None, item
            assert re.search(rf"^ *def {linked[1]}\(", read(linked[2]), re.MULTILINE), item


def test_the_checker_decides_the_invariants_that_the_page_says() -> None:
    page = section("docs/protocol.md", "Invariants, and the tests that hold them")
    sentence = re.search(r"the promises (\d) to (\d) and (\d)", " ".join(page.split()))
    assert sentence is not None
    first, last, other = (int(number) for number in sentence.groups())
    assert {int(rule.value.partition(" ")[0]) for rule in Rule} == {*range(first, last + 1), other}


def test_the_outcomes_are_those_of_the_code() -> None:
    rows = table("docs/protocol.md", "table: outcomes")
    assert {words(name)[0] for name, *_ in rows} == {_NAMES[outcome] for outcome in get_args(Outcome)}


def test_the_places_of_an_answer_are_those_of_the_code() -> None:
    page = section("docs/protocol.md", "When the table takes no writes")
    rows = re.findall(r"^\| .* \| `(\w+)` \|$", page, re.MULTILINE)
    assert sorted(rows) == sorted(place.value for place in Place)


_ACTOR = re.compile(r"participant (\w+) as [\w ,.'-]+")
_MESSAGE = re.compile(r"(\w+)(?:->>|-->>|-x|--x)(\w+): [^;#:]+")
_NOTE = re.compile(r"Note over (\w+)(?:,(\w+))?: [^;#:]+")
_BRANCH = re.compile(r"(alt|else) [^;#:]+")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sequence_pictures_can_be_drawn(page: Path) -> None:
    for picture in blocks(str(page.relative_to(ROOT)), "mermaid"):
        first, *lines = picture.splitlines()
        if first != "sequenceDiagram":
            continue
        actors: set[str] = set()
        used: set[str] = set()
        depth = 0
        for line in map(str.strip, lines):
            if found := _ACTOR.fullmatch(line):
                assert found[1] not in actors, line
                actors.add(found[1])
            elif found := _MESSAGE.fullmatch(line) or _NOTE.fullmatch(line):
                names = {name for name in found.groups() if name}
                assert names <= actors, line
                used |= names
            elif found := _BRANCH.fullmatch(line):
                depth += found[1] == "alt"
                assert depth == 1, line
            else:
                assert line == "end", line
                depth -= 1
        assert depth == 0
        assert used == actors


def test_every_outcome_has_a_picture() -> None:
    shows = {
        "refreshed": "P-->>W: 200, new tokens",
        "not_sent": "W-xP: no connection",
        "throttled": "P-->>W: 429",
        "client_refused": "P-->>W: 401 invalid_client",
        "we_are_wrong": "P-->>W: 404",
        "grant_invalid": "P-->>W: 400 invalid_grant",
        "server_fault": "P-->>W: 500",
        "unknown": "P--xW: no answer",
    }
    assert set(shows) == {_NAMES[outcome] for outcome in get_args(Outcome)}
    pictures = blocks("docs/protocol.md", "mermaid")
    for outcome, line in shows.items():
        assert any(line in picture for picture in pictures), outcome


def test_what_the_soak_decides_by_is_in_its_json() -> None:
    told = {
        word
        for row in re.findall(r"^\| `\w+` \|.*$", section("docs/protocol.md", "The proof"), re.MULTILINE)
        for word in words(row.split("|")[1])
    }
    assert told == {"violations", "grants_lost", "did_not_happen"}
    judge = read("local/soak/judge.py")
    for name in (*told, "losses_that_no_client_could_avoid"):
        assert f'"{name}":' in judge, name


def test_guards_that_are_named_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r'--only ([\w-]+)"', page.read_text(encoding="utf-8"))}
    assert named
    assert named <= {guard.name for guard in GUARDS}


# --- the API


@pytest.mark.parametrize(
    "name",
    [
        "AccessToken",
        "Application",
        "Grant",
        "Offer",
        "LinkStart",
        "LinkStarted",
        "LinkCompletion",
        "LinkCompleted",
        "Suspension",
        "SuspensionOrder",
    ],
)
def test_the_fields_are_those_of_the_description(name: str) -> None:
    told = [word for row in table("docs/api.md", f"fields: {name}") for word in words(row[0])]
    assert sorted(told) == sorted(SCHEMAS[name]["properties"])


def test_the_largest_body_is_told() -> None:
    assert f"at most {MAX_BODY:,} bytes" in read("docs/api.md")


def test_references_of_the_description_lead_somewhere() -> None:
    whole = json.loads(read("docs/openapi.json"))

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                found = whole
                for part in node["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(whole)


# --- linking


def test_the_failures_of_a_link_are_those_of_the_code() -> None:
    told = [words(row[0])[0] for row in table("docs/linking.md", "table: failures")]
    assert sorted(told) == sorted(why.value for why in LinkFailure)


def test_the_keys_that_linking_needs_are_keys_of_the_context() -> None:
    told = {words(row[0])[0] for row in table("docs/linking.md", "table: keys")}
    assert told <= {field.name for field in fields(DeployConfig)}


def test_the_times_of_a_link_are_told() -> None:
    assert f"{LINK_FOR.seconds // 60} and {CONFIRM_FOR.seconds // 60} minutes" in read("docs/operations.md")
    assert f"more than {LINK_FOR.seconds // 60} minutes" in read("docs/linking.md")


# --- operations


def test_the_kinds_of_alerts_are_those_of_the_code() -> None:
    about = {words(kind)[0]: about for kind, about, *_ in table("docs/operations.md", "table: alerts")}
    assert set(about) == {kind.value for kind in AlertKind}
    kinds = SCHEMAS["GrantAlert"]["properties"]["kind"]["enum"]
    assert set(kinds) == {kind for kind, whose in about.items() if whose != "everything"}


def test_the_breakers_item_is_explained() -> None:
    told = [word for row in table("docs/operations.md", "fields: Fleet") for word in words(row[0])]
    assert sorted(told) == sorted(field.name for field in fields(Fleet))


def test_the_certificates_item_is_explained() -> None:
    told = [word for row in table("docs/mtls.md", "fields: CertificateWatch") for word in words(row[0])]
    assert sorted(told) == sorted(field.name for field in fields(CertificateWatch))


def _constants(calls: set[str]) -> set[str]:
    """The first argument of every call of these names in the package."""
    found = set()
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in calls and node.args:
                constants = (n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant))
                found |= {value for value in constants if isinstance(value, str)}
    return found


def test_the_log_lines_are_those_that_are_written() -> None:
    told = {words(row[0])[0] for row in table("docs/operations.md", "table: messages")}
    rare = {"request broke", "an unexpected error"}  # faults of the code's own: the alarm on errors leads to them
    written = _constants({"info", "warning", "error", "audit"}) | set(telemetry._MESSAGES.values())
    assert told == written - rare


def test_programs_are_python() -> None:
    compile(program("README.md", "partner.py"), "partner.py", "exec")
    for block in blocks("README.md", "python"):
        ast.parse(block)
    for page in PAGES:
        for block in blocks(str(page.relative_to(ROOT)), "sh"):
            assert shlex.split(re.sub(r"<\(|\$\(", "(", block), comments=True)


def test_the_demo_ends_with_the_checks_that_the_pages_show() -> None:
    checks = {
        node.args[0].value
        for module in (ROOT / "local" / "demo").glob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".report.check")
        if isinstance(node.args[0], ast.Constant)
    }
    shown = re.findall(r"^  (\S.*?) {2,}held$", read("docs/proof.md"), re.MULTILINE)
    assert sorted(shown) == sorted(checks)
    for page in ("docs/proof.md", "README.md"):
        assert f"{len(shown)} of {len(shown)} checks held" in read(page)
    named = re.findall(r"^ +\d+\.\d s    held   ([^:]+): ", read("README.md"), re.MULTILINE)
    assert named
    assert set(named) <= checks
