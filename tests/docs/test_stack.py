"""What the pages say about the stack: problems of API Gateway, routes, alarms, outputs."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from infra.check import VARIANTS, build
from infra.token_api import ACCESS_LOG, PUBLIC, PUBLIC_EVENTS, REFUSALS, ROUTES
from tests.docs.pages import PAGES, read, section, table, words
from token_rotator.handlers.http import PROBLEMS

OTHER = {"4": "other 4xx", "5": "other 5xx"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The stack of one of the gates' variants, put together and not synthesized."""
    return build(VARIANTS["sandbox with partners"], tmp_path_factory.mktemp("cdk"))[1]


def test_the_problems_are_those_of_the_functions_and_of_api_gateway() -> None:
    known: dict[str, set[str]] = {}
    for code, (status, _) in PROBLEMS.items():
        known.setdefault(code, set()).add(str(status))
    for refusal in REFUSALS:
        own = OTHER[refusal.kind.response_type.removeprefix("DEFAULT_")[0]] if refusal.status is None else None
        known.setdefault(refusal.code, set()).add(own or str(refusal.status))
    rows = table("docs/api.md", "table: problems")
    assert {words(code)[0]: set(statuses.split(", ")) for statuses, code, *_ in rows} == known
    problem = json.loads(read("docs/openapi.json"))["components"]["schemas"]["Problem"]
    assert problem["properties"]["type"]["enum"] == [f"urn:token-rotator:problem:{code}" for code in sorted(known)]


def test_only_what_comes_with_a_time_is_to_be_tried_after_it() -> None:
    timed = {refusal.code for refusal in REFUSALS if refusal.retry_after_s} - {"internal-error"}
    rows = table("docs/api.md", "table: problems")
    after = {words(code)[0] for _, code, _, again in rows if "Retry-After" in again}
    assert after == timed | {"temporarily-unavailable"}


def test_the_routes_are_those_of_the_stack_and_of_the_functions() -> None:
    rows = table("docs/api.md", "table: routes")
    told = {(method, words(path)[0], tuple(words(may)), int(rate)) for method, path, may, rate in rows}
    assert told == {
        (route.method, route.path, tuple(filter(None, (route.may, route.also))), route.limit.per_s) for route in ROUTES
    }
    assert all(route.limit.burst == 2 * route.limit.per_s for route in ROUTES)
    paths = json.loads(read("docs/openapi.json"))["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item if method != "parameters"}
    assert described == {(route.method, route.path) for route in (*ROUTES, PUBLIC, PUBLIC_EVENTS)}


def test_the_handlers_answer_the_routes() -> None:
    answered = set()
    for module in ("serve", "admin", "callback"):
        tree = ast.parse(read(f"functions/token_rotator/handlers/{module}.py"))
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ROUTES":
                answered |= {
                    (
                        ast.literal_eval(key.elts[0]),
                        ast.literal_eval(value.args[0]),
                        *(ast.literal_eval(keyword.value) for keyword in value.keywords),
                    )
                    for key, value in zip(node.value.keys, node.value.values, strict=True)  # type: ignore[union-attr]
                    if isinstance(key, ast.Tuple) and isinstance(value, ast.Call)
                }
    assert answered == {(route.method, *filter(None, (route.may, route.also))) for route in ROUTES}


def test_every_alarm_has_its_runbook(stack: Any) -> None:
    rows = table("docs/runbooks/README.md", "table: alarms")
    alarms = [alarm for row in rows for alarm in words(row[0])]
    assert sorted(alarms) == sorted(child.node.id for child in stack.node.find_child("Alarms").node.children)
    assert f"{len(alarms)} alarms" in read("docs/operations.md")
    for row in rows:
        (page,) = re.findall(r"\]\((.+)\.md\)", row[1])
        text = read(f"docs/runbooks/{page}.md")
        for alarm in words(row[0]):
            assert f"`{alarm}`" in text, (page, alarm)


def test_the_audit_is_asked_for_what_it_says() -> None:
    page = section("docs/operations.md", "The audit")
    (row,) = (
        cells for cells in table("docs/operations.md", "table: messages") if words(cells[0]) == ["request answered"]
    )
    of_functions = {"timestamp", "message", *words(row[2])}
    language = {
        *("fields", "filter", "and", "in", "sort", "desc", "limit", "stats", "count", "as", "by", "max", "ispresent"),
        *("calls", "newest"),
    }
    questions = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(questions) == 5
    for question in questions:
        names = set(re.findall(r"\b[a-zA-Z_]+\b", re.sub(r'"[^"]*"', "", question))) - language
        assert names <= of_functions or names <= set(ACCESS_LOG), names - of_functions


def test_outputs_are_those_of_the_stack(stack: Any) -> None:
    outputs = {child.node.id for child in stack.node.children if type(child).__name__ == "CfnOutput"}
    used = {name for page in PAGES for name in re.findall(r'"\$\{?([A-Z]\w+)', page.read_text(encoding="utf-8"))}
    ours = {name for name in used if not name.startswith(("AWS_", "PartnerRole", "EDITOR", "PWD"))}
    assert ours
    assert ours <= outputs
