"""The bundle that every function runs: the package, the locked dependencies, and nothing that Lambda brings.

Built without Docker. pip unpacks wheels for the architecture asked for, whatever machine it runs on; sources
are compiled beside it where an interpreter of the runtime's version is at hand, which halves the CPU time of a
cold start's imports.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

Architecture = Literal["arm64", "x86_64", "host"]
"""What the bundle runs on. `host` is this machine and this interpreter: for functions that an emulator runs here."""

RUNTIME: Final = (3, 13)
"""The Python of `lambda_.Runtime.PYTHON_3_13`."""

ROOT: Final = Path(__file__).resolve().parent.parent
FUNCTIONS: Final = ROOT / "functions"
PACKAGE: Final = "token_rotator"
LOCK: Final = FUNCTIONS / "requirements.txt"
CACHE: Final = ROOT / ".cache" / "bundle"

# Two tags each: pip takes them literally, and the locked wheels carry the one or the other.
_PLATFORMS: Final = {
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
}
_ARM_MACHINES: Final = frozenset({"arm64", "aarch64"})

# Of a distribution's own records, its name, version and licence stay: scanners and licences ask for them.
_KEPT_RECORDS: Final = ("METADATA", "licenses")
_NEEDLESS_SUFFIXES: Final = frozenset({".pyi", ".pyc", ".c", ".h"})
_NEEDLESS_NAMES: Final = frozenset({"py.typed"})
_NEEDLESS_FOLDERS: Final = frozenset({"__pycache__", "tests", "bin"})
# Half of all files: Powertools' features that no function here uses. A test imports every handler from the bundle.
_POWERTOOLS: Final = "aws_lambda_powertools"
_UNUSED_POWERTOOLS: Final = frozenset({"event_handler", "utilities"})
_USED_UTILITIES: Final = frozenset({"__init__.py", "jmespath_utils", "typing"})


class BundlingError(RuntimeError):
    """The bundle could not be built; the text holds what the tool said."""


def lambda_architecture(architecture: Architecture) -> lambda_.Architecture:
    """What the functions' architecture property has to be for the bundle's."""
    return lambda_.Architecture.ARM_64 if _machine(architecture) == "arm64" else lambda_.Architecture.X86_64


def code_asset(architecture: Architecture) -> lambda_.Code:
    """The code of every function.

    The asset's hash is one of our own, over what goes in: the package, the lock, the recipe, the target. A hash
    of the source folder would change with each compiled file that a test run leaves there and not with the
    architecture; one of the output would need the bundle built to write a template, and a compiler's output is
    not the same bytes each time.
    """
    return lambda_.Code.from_asset(
        str(FUNCTIONS),
        asset_hash=bundle_hash(architecture),
        bundling=cdk.BundlingOptions(
            # Named because the type demands one; a local bundle that fails raises, so that it is never used.
            image=lambda_.Runtime.PYTHON_3_13.bundling_image,
            local=LocalBundling(architecture),
        ),
    )


def bundle_hash(architecture: Architecture) -> str:
    """SHA-256, in hex, of everything that decides what is in the bundle."""
    digest = hashlib.sha256()
    for part in (_machine(architecture), _python_version(architecture), _dependencies_key(architecture)):
        digest.update(f"{part}\n".encode())
    for source in _package_files():
        content = source.read_bytes()
        digest.update(f"{source.relative_to(FUNCTIONS).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def build(architecture: Architecture, directory: Path) -> None:
    """Write the bundle into an existing directory. Raises BundlingError."""
    shutil.copytree(_dependencies(architecture), directory, dirs_exist_ok=True)
    for source in _package_files():
        target = directory / source.relative_to(FUNCTIONS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    _compile(architecture, directory / PACKAGE)


@jsii.implements(cdk.ILocalBundling)
class LocalBundling:
    """Builds the bundle on this machine. A failure raises: to return False would start Docker."""

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    def try_bundle(self, output_dir: str, *_: object, **__: object) -> bool:
        """Called by the CDK with the folder that becomes the asset."""
        build(self._architecture, Path(output_dir))
        return True


def _machine(architecture: Architecture) -> str:
    if architecture != "host":
        return architecture
    return "arm64" if platform.machine().lower() in _ARM_MACHINES else "x86_64"


def _python_version(architecture: Architecture) -> str:
    major, minor = sys.version_info[:2] if architecture == "host" else RUNTIME
    return f"{major}.{minor}"


def _package_files() -> list[Path]:
    """The package's files in a fixed order, without what Python or an editor leaves beside them."""
    files = (path for path in (FUNCTIONS / PACKAGE).rglob("*") if path.is_file())
    return sorted(path for path in files if not _needless(path.relative_to(FUNCTIONS)))


def _needless(path: Path) -> bool:
    folder = path.parts[0]
    if folder.endswith(".dist-info"):
        return path.parts[1] not in _KEPT_RECORDS
    if folder == _POWERTOOLS and path.parts[1] in _UNUSED_POWERTOOLS and path.parts[2] not in _USED_UTILITIES:
        return True
    return (
        not _NEEDLESS_FOLDERS.isdisjoint(path.parts[:-1])
        or path.suffix in _NEEDLESS_SUFFIXES
        or path.name in _NEEDLESS_NAMES
        or path.name.startswith(".")
    )


def _dependencies_key(architecture: Architecture) -> str:
    recipe = Path(__file__).read_bytes()
    # Tells a bundle for this system from one for Lambda's: on a Mac they are not the same.
    target = f"{architecture == 'host' and sys.platform} {_machine(architecture)} {_python_version(architecture)}"
    compiled = _compiler(architecture) is not None
    return hashlib.sha256(LOCK.read_bytes() + recipe + f"{target} {compiled}".encode()).hexdigest()[:20]


def _dependencies(architecture: Architecture) -> Path:
    """The folder of the installed, trimmed and compiled dependencies: kept, since they change with the lock only."""
    kept = CACHE / f"{_machine(architecture)}-{_python_version(architecture)}-{_dependencies_key(architecture)}"
    if kept.is_dir():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".building-") as building:
        tree = Path(building, "tree")
        _install(architecture, tree)
        for path in sorted(tree.rglob("*")):
            if path.is_file() and _needless(path.relative_to(tree)):
                path.unlink()
        for folder in sorted((path for path in tree.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        _compile(architecture, tree)
        try:
            tree.rename(kept)
        except OSError:
            # Another process finished the same folder first.
            if not kept.is_dir():
                raise
    return kept


def _install(architecture: Architecture, directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(directory), "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    if architecture != "host":
        for tag in _PLATFORMS[architecture]:
            command += ["--platform", tag]
        command += ["--implementation", "cp", "--python-version", _python_version(architecture)]
    _run([*command, "--requirement", str(LOCK)])


def _compiler(architecture: Architecture) -> str | None:
    """An interpreter whose compiled files the target reads; only one of the very minor version does."""
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return sys.executable if this == _python_version(architecture) else None


def _compile(architecture: Architecture, directory: Path) -> None:
    """Compile in place, never to be checked against the source: archives change a file's time, and nobody edits it."""
    compiler = _compiler(architecture)
    if compiler is None:
        return
    command = [compiler, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    # Tracebacks show where the file will lie on Lambda, not where it was built.
    command += ["-s", str(directory), "-p", "/var/task" if directory.name != PACKAGE else f"/var/task/{PACKAGE}"]
    _run([*command, str(directory)])


def _run(command: list[str]) -> None:
    # A user's pip setting would refuse --target; the hash seed decides the order of sets in compiled files.
    environment = {**os.environ, "PIP_USER": "0", "PYTHONHASHSEED": "0"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    if result.returncode != 0:
        raise BundlingError(f"{' '.join(command[:4])} failed:\n{result.stdout}{result.stderr}".strip())
