"""The bundle: made for the machine and the Python that will run it, whole, and with nothing that Lambda brings."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from infra import bundling
from infra.bundling import BundlingError

ELF_MACHINES = {"arm64": 183, "x86_64": 62}
"""e_machine of EM_AARCH64 and EM_X86_64, from the ELF specification."""

RUNTIME_BRINGS = {"boto3", "botocore", "s3transfer", "awslambdaric"}
SETTINGS = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "ROTATOR_ENVIRONMENT": "sandbox",
    "GRANTS_TABLE": "fixture-grants",
    "ACCESS_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:000000000000:key/fixture-access",
    "REFRESH_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:000000000000:key/fixture-refresh",
    "WISE_API_URL": "https://api.wise-sandbox.com",
    "WISE_SECRET_NAME": "fixture-wise",
    "ALERTS_TOPIC_ARN": "arn:aws:sns:eu-west-1:000000000000:fixture-alerts",
    "PARKED_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/000000000000/fixture-parked",
    "REFRESH_FUNCTION": "fixture-refresh",
    "WISE_WEB_HOST": "wise-sandbox.com",
    "REDIRECT_URI": "https://rotator.example.com/oauth/callback",
    "PARTNERS": '[{"name":"acme","role_id":"AROAFIXTUREROLE000001","tenants":["acme"],"may":["read"]}]',
    "POWERTOOLS_METRICS_NAMESPACE": "TokenRotator",
}
HANDLERS = ("sweep", "refresh", "serve", "admin", "callback")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture -> the unpacked bundle."""
    built: dict[str, Path] = {}
    for architecture in ("arm64", "host"):
        built[architecture] = tmp_path_factory.mktemp(architecture)
        bundling.build(architecture, built[architecture])
    return built


def _machine(library: Path) -> int:
    header = library.read_bytes()[:20]
    assert header[:4] == b"\x7fELF", f"{library} is no ELF file"
    machine: int = struct.unpack("<H", header[18:20])[0]
    return machine


@pytest.mark.parametrize("architecture", ["arm64", "host"])
def test_every_compiled_file_fits_the_machine_and_the_python(bundles: dict[str, Path], architecture: str) -> None:
    machine = "arm64" if bundling.lambda_architecture(architecture).name == "arm64" else "x86_64"
    version = "".join(str(part) for part in (sys.version_info[:2] if architecture == "host" else bundling.RUNTIME))
    libraries = sorted(path for path in bundles[architecture].rglob("*") if ".so" in path.suffixes)
    assert {library.name.split(".")[0] for library in libraries} >= {"_rust", "_cffi_backend"}
    for library in libraries:
        assert _machine(library) == ELF_MACHINES[machine], library
        # The stable interface serves every later version; any other file serves the one that it names.
        tags = library.name.split(".")[1:-1]
        assert tags == ["abi3"] or re.match(rf"cpython-{version}-", tags[0]), library


@pytest.mark.parametrize("architecture", ["arm64", "host"])
def test_it_holds_nothing_that_the_runtime_brings_and_no_litter(bundles: dict[str, Path], architecture: str) -> None:
    bundle = bundles[architecture]
    assert RUNTIME_BRINGS.isdisjoint(path.name for path in bundle.iterdir())
    files = [path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pyi", ".c", ".h"} or "tests" in path.parts]
    records = {path.name for path in files if path.parent.name.endswith(".dist-info")}
    assert records == {"METADATA"}


@pytest.mark.parametrize("architecture", ["arm64", "host"])
def test_the_locked_versions_are_in_it_and_no_others(bundles: dict[str, Path], architecture: str) -> None:
    lock = bundling.LOCK.read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", lock, re.MULTILINE))
    found = set()
    for metadata in bundles[architecture].glob("*.dist-info/METADATA"):
        text = metadata.read_text(encoding="utf-8")
        name = re.search(r"^Name: (.+)$", text, re.MULTILINE)
        version = re.search(r"^Version: (.+)$", text, re.MULTILINE)
        assert name is not None
        assert version is not None
        found.add((re.sub(r"[-_.]+", "-", name[1]).lower(), version[1]))
    assert found == locked


@pytest.mark.parametrize("architecture", ["arm64", "host"])
def test_the_package_is_in_it_as_it_is_in_the_repository(bundles: dict[str, Path], architecture: str) -> None:
    source, bundled = bundling.FUNCTIONS / bundling.PACKAGE, bundles[architecture] / bundling.PACKAGE

    def contents(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.py")}

    assert contents(bundled) == contents(source)


def test_sources_are_compiled_for_the_runtime_where_this_python_can(bundles: dict[str, Path]) -> None:
    for architecture, bundle in bundles.items():
        version = sys.version_info[:2] if architecture == "host" else bundling.RUNTIME
        compiled = [path for path in bundle.rglob("*.pyc") if path.is_file()]
        assert bool(compiled) is (version == sys.version_info[:2])
        for path in compiled:
            assert path.name.endswith(f".cpython-{version[0]}{version[1]}.pyc")
            # Flags of PEP 552: by hash, and never checked against the source.
            assert struct.unpack("<I", path.read_bytes()[4:8])[0] == 0b01


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_is_imported_from_the_bundle_alone(bundles: dict[str, Path], handler: str) -> None:
    """In a fresh process whose only other packages are those that Lambda's runtime brings."""
    program = f"""
import importlib, importlib.machinery, json, sys
sys.path.insert(0, {str(bundles["host"])!r})
class RuntimeBrings:
    # boto3 and what it needs, from where the tests have it; everything else has to be in the bundle.
    allowed = {sorted(RUNTIME_BRINGS | {"dateutil", "six"})!r}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.allowed and path is None:
            return importlib.machinery.PathFinder.find_spec(name, [{str(_site_packages())!r}])
        return None
sys.meta_path.append(RuntimeBrings())
module = importlib.import_module("token_rotator.handlers.{handler}")
assert callable(module.handler)
files = {{name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}}
print(json.dumps(files))
"""
    result = subprocess.run(
        # Isolated and without site-packages: neither this environment nor the working folder helps.
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=SETTINGS | {"PATH": os.defpath, "POWERTOOLS_SERVICE_NAME": handler},
        cwd=bundling.ROOT,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    files: dict[str, str] = json.loads(result.stdout)
    assert files["token_rotator"].startswith(str(bundles["host"]))
    foreign = {name.split(".")[0] for name, path in files.items() if path.startswith(str(_site_packages()))}
    assert foreign <= RUNTIME_BRINGS | {"dateutil", "six"}


def _site_packages() -> Path:
    import boto3

    return Path(boto3.__file__).parent.parent


def test_every_handler_of_the_package_is_one_of_these() -> None:
    modules = {path.stem for path in (bundling.FUNCTIONS / bundling.PACKAGE / "handlers").glob("*.py")}
    assert set(HANDLERS) <= modules


def test_the_hash_changes_with_the_architecture_and_with_the_package_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bundling.bundle_hash("arm64") != bundling.bundle_hash("x86_64")

    package = tmp_path / bundling.PACKAGE
    package.mkdir()
    source = package / "module.py"
    source.write_text("A = 1\n", encoding="utf-8")
    monkeypatch.setattr(bundling, "FUNCTIONS", tmp_path)
    before = bundling.bundle_hash("arm64")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "module.cpython-313.pyc").write_bytes(b"compiled")
    (tmp_path / "requirements.in").write_text("anything\n", encoding="utf-8")
    assert bundling.bundle_hash("arm64") == before
    source.write_text("A = 2\n", encoding="utf-8")
    assert bundling.bundle_hash("arm64") != before


def test_a_failure_says_what_the_tool_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("requests==2.32.3\n", encoding="utf-8")
    monkeypatch.setattr(bundling, "LOCK", lock)
    monkeypatch.setattr(bundling, "CACHE", tmp_path / "cache")
    with pytest.raises(BundlingError, match="hash"):
        bundling.LocalBundling("arm64").try_bundle(str(tmp_path / "out"))
    assert not list((tmp_path / "cache").iterdir())
