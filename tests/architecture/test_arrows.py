"""Who may import whom: every module's imports, read from its source, against the arrows of the layers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "functions" / "token_rotator"
STANDARD = frozenset(sys.stdlib_module_names) - {"__future__"}

# What each layer may import of the package, each by its beginning; and which packages that are not Python's own.
ARROWS: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "domain": (("domain",), frozenset()),
    "service": (("domain", "service"), frozenset()),
    "adapters": (
        ("domain", "service.ports", "service.journal", "adapters"),
        frozenset({"botocore", "certifi", "cryptography", "requests", "urllib3", "types_boto3_*"}),
    ),
    "handlers": (
        ("domain", "service", "wiring", "handlers", "telemetry", "settings"),
        frozenset({"aws_lambda_powertools"}),
    ),
    "wiring": (
        ("domain", "service", "adapters", "wiring", "telemetry", "settings"),
        frozenset({"boto3", "botocore", "types_boto3_*"}),
    ),
    "settings": (("domain",), frozenset()),
    "telemetry": (("domain", "service.journal"), frozenset({"aws_lambda_powertools"})),
}


@dataclass(frozen=True)
class Import:
    """One import: the full name of what is imported, and whether only the type checker sees it."""

    name: str
    line: int
    typing_only: bool


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def dotted(path: Path) -> str:
    """A module's full name, from the folder that Python starts from."""
    start = ROOT / "functions" if path.is_relative_to(PACKAGE) else ROOT
    parts = path.relative_to(start).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, text: str | None = None) -> Iterator[Import]:
    """Every import of a module, wherever it stands in it."""
    tree = ast.parse(path.read_text(encoding="utf-8") if text is None else text)
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(name, node.lineno, id(node) in hidden) for name in names)


def layer(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def faults(path: Path, text: str | None = None) -> list[str]:
    """The imports of a module that go against the arrows."""
    ours, theirs = ARROWS[layer(path)]
    found = []
    for one in imports(path, text):
        top, _, rest = one.name.partition(".")
        if top == "token_rotator":
            fine = any(rest == allowed or rest.startswith(f"{allowed}.") for allowed in ours)
        elif top in ("infra", "local", "ops", "tests"):
            fine = False
        elif top.startswith("types_boto3_"):
            fine = "types_boto3_*" in theirs and one.typing_only
        else:
            fine = top in STANDARD or top == "__future__" or top in theirs
        if not fine:
            found.append(f"{dotted(path)}:{one.line} imports {one.name}")
    return found


SHIPPED = [path for path in modules(PACKAGE) if path != PACKAGE / "__init__.py"]


def test_every_layer_is_known() -> None:
    assert {layer(path) for path in SHIPPED} == set(ARROWS)


@pytest.mark.parametrize("path", SHIPPED, ids=dotted)
def test_a_module_imports_along_the_arrows(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("domain/x.py", "import boto3"),
        ("domain/x.py", "from token_rotator.service.ports import Done"),
        ("domain/x.py", "from ..service import ports"),
        ("domain/x.py", "def late():\n    from token_rotator.adapters import dynamo_grants"),
        ("domain/x.py", "if TYPE_CHECKING:\n    from types_boto3_kms import KMSClient"),
        ("service/x.py", "from token_rotator.adapters.wise_http import WiseHttp"),
        ("service/x.py", "from token_rotator.telemetry import logger"),
        ("service/x.py", "import requests"),
        ("adapters/x.py", "from token_rotator.service.refresh_grant import Word"),
        ("adapters/x.py", "from token_rotator.telemetry import logger"),
        ("adapters/x.py", "from types_boto3_kms import KMSClient"),
        ("adapters/x.py", "import boto3"),
        ("handlers/x.py", "from token_rotator.adapters.dynamo_grants import DynamoGrants"),
        ("handlers/x.py", "import boto3"),
        ("handlers/x.py", "from local.wise import running"),
        ("wiring/x.py", "from token_rotator.handlers import http"),
        ("settings.py", "from .service import ports"),
        ("telemetry.py", "from .adapters import sns_alerts"),
        ("telemetry.py", "import infra"),
    ],
)
def test_an_import_against_the_arrows_is_seen(module: str, text: str) -> None:
    assert len(faults(PACKAGE / module, text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("domain/x.py", "from .grant import Grant\nfrom token_rotator.domain import tokens\nimport hashlib"),
        ("service/x.py", "from token_rotator.domain.grant import Grant\nfrom .ports import Done"),
        ("adapters/x.py", "if TYPE_CHECKING:\n    from types_boto3_kms import KMSClient"),
    ],
)
def test_an_import_along_the_arrows_is_no_fault(module: str, text: str) -> None:
    assert faults(PACKAGE / module, text) == []


FAMILIES = {
    "sweep": "refreshing",
    "refresh": "refreshing",
    "serve": "serving",
    "admin": "administering",
    "callback": "linking",
}


@pytest.mark.parametrize("handler", FAMILIES)
def test_a_handler_is_wired_by_its_own_family_only(handler: str) -> None:
    wired = {one.name for one in imports(PACKAGE / "handlers" / f"{handler}.py") if ".wiring." in one.name}
    assert wired == {f"token_rotator.wiring.{FAMILIES[handler]}.wire"}


def test_every_handler_is_a_function_of_the_stack() -> None:
    own = {path.stem for path in (PACKAGE / "handlers").glob("*.py")} - {
        "__init__",
        "http",
        "pages",
        "shown",
        "webhook",
    }
    assert own == set(FAMILIES)


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("infra", ("token_rotator", "functions", "local", "ops", "tests", "boto3", "botocore")),
        ("local/wise", ("token_rotator", "functions", "infra", "tests", "boto3", "botocore", "requests")),
        ("local", ("token_rotator", "functions", "ops", "tests")),
        ("ops", ("functions", "infra", "local", "tests")),
    ],
)
def test_what_surrounds_the_package_keeps_to_itself(folder: str, never: tuple[str, ...]) -> None:
    assert modules(ROOT / folder)
    found = [
        f"{dotted(path)}:{one.line} imports {one.name}"
        for path in modules(ROOT / folder)
        for one in imports(path)
        if one.name.partition(".")[0] in never
    ]
    assert found == []


# --- the inner layers have no clock, no chance and no environment of their own

OUTSIDE = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.monotonic", "time.sleep",
    "time.time_ns", "os.environ", "os.getenv", "os.urandom", "uuid.uuid4", "uuid.uuid1",
}  # fmt: skip
INNER_BANNED = {
    "time", "random", "secrets", "uuid", "os", "socket", "subprocess", "urllib", "http", "logging", "tempfile",
    "pathlib",
}  # fmt: skip


def used(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every dotted name that is used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            yield f"{node.value.attr}.{node.attr}", node.lineno


INNER = [path for path in SHIPPED if layer(path) in ("domain", "service")]


@pytest.mark.parametrize("path", INNER, ids=dotted)
def test_an_inner_module_takes_time_chance_and_settings_from_its_caller(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [f"{name}:{line}" for name, line in used(tree) if name in OUTSIDE] == []
    assert [one.name for one in imports(path) if one.name.partition(".")[0] in INNER_BANNED] == []
    assert [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in ("open", "input", "globals")] == []


@pytest.mark.parametrize("path", SHIPPED, ids=dotted)
def test_only_the_edges_read_clocks_and_the_environment(path: Path) -> None:
    """Wiring reads both; telemetry the names that Powertools has; sealing needs chance, a call to Wise its deadline.

    And a write of the fleet or of the certificate's end something to be known by, if the SDK sent it twice.
    """
    allowed = {
        "wiring": OUTSIDE,
        "telemetry": {"os.environ"},
        "adapters/kms_sealer.py": {"os.urandom"},
        "adapters/dynamo_revised.py": {"uuid.uuid4"},
        "adapters/wise_http.py": {"time.monotonic"},
    }
    place = path.relative_to(PACKAGE).as_posix()
    may = allowed.get(place, allowed.get(layer(path), set()))
    found = [f"{name}:{line}" for name, line in used(ast.parse(path.read_text(encoding="utf-8"))) if name in OUTSIDE]
    assert [name for name in found if name.partition(":")[0] not in may] == []


@pytest.mark.parametrize("path", SHIPPED, ids=dotted)
def test_nothing_prints_and_nothing_logs_around_the_one_logger(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id in ("print", "breakpoint")] == []
    loggers = [c.lineno for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "getLogger"]
    assert layer(path) == "telemetry" or loggers == []
    shown = ("exception", "print_exc", "print_exception", "format_exc")
    assert [c.lineno for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in shown] == []
    assert [k.arg for c in calls for k in c.keywords if k.arg in ("exc_info", "stack_info")] == []


@pytest.mark.parametrize("path", SHIPPED, ids=dotted)
def test_clients_are_made_in_wiring_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = [
        f"{name}:{line}" for name, line in used(tree) if name in ("boto3.client", "boto3.resource", "boto3.Session")
    ]
    assert made == [] or dotted(path) == "token_rotator.wiring.clients"
    assert not any(name.startswith("boto3.resource") for name in made)


@pytest.mark.parametrize("path", SHIPPED, ids=dotted)
def test_nothing_runs_at_import_but_a_handlers_wiring(path: Path) -> None:
    """At a module's top level only constants are made, of literals and of harmless calls."""
    harmless = {
        "frozenset", "compile", "timedelta", "Struct", "local", "Logger", "tuple", "fromtimestamp", "RefreshReport",
        "GrantKey", "datetime", "Route", "range", "TypeVar", "ParamSpec", "Codec", "_Text",
    }  # fmt: skip
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr)]
    later = {
        id(inner)
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Lambda)
        for inner in ast.walk(node.body)
    }
    made = [
        call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "?")
        for statement in statements
        for call in ast.walk(statement)
        if isinstance(call, ast.Call) and id(call) not in later
    ]
    extra = {"wire"} if path.stem in FAMILIES and layer(path) == "handlers" else set()
    assert set(made) <= harmless | extra
    if extra:
        assert made.count("wire") == 1


def test_names_that_say_nothing_are_not_used() -> None:
    banned = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "base"}
    assert [dotted(path) for path in SHIPPED if path.stem in banned] == []
