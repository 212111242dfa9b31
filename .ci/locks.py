"""Checks the lock files: complete, hashed, naming no index, and of the same versions where they overlap."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = "functions/requirements"
DEVELOPMENT = "requirements"
LOCKS = (RUNTIME, DEVELOPMENT, "local/aws/requirements", "local/aws/requirements-node")

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*])?==(?P<version>[^ ;\\]+)(?P<marker> ;[^\\]*)?")
ASKED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)")
# What Lambda's runtime brings: a copy in the bundle would be larger, slower to start and soon older.
RUNTIME_BRINGS = frozenset({"boto3", "botocore", "s3transfer"})


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package name -> version and hashes."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8")):
        if match := PIN.match(entry):
            hashes = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))
            found[normal(match["name"])] = (match["version"], hashes)
    return found


def asked(source: Path) -> set[str]:
    """The names that a requirements.in asks for, those of the files it includes left out."""
    lines = source.read_text(encoding="utf-8").splitlines()
    return {normal(match["name"]) for line in lines if (match := ASKED.match(line))}


def faults() -> list[str]:
    """What is wrong, one line each."""
    found: list[str] = []
    locks = {name: pins(ROOT / f"{name}.txt") for name in LOCKS}
    for name, locked in locks.items():
        text = (ROOT / f"{name}.txt").read_text(encoding="utf-8")
        if re.search(r"://|^\s*--(?!hash)|trusted-host", text, re.MULTILINE):
            found.append(f"{name}.txt names an index, a host or an option")
        found += [f"{name}.txt: {package} has no hash" for package, (_, hashes) in locked.items() if not hashes]
        missing = asked(ROOT / f"{name}.in") - set(locked)
        found += [f"{name}.txt: {package} of {name}.in is not locked" for package in sorted(missing)]
    for package, pin in locks[RUNTIME].items():
        if locks[DEVELOPMENT].get(package) != pin:
            found.append(f"{DEVELOPMENT}.txt has another {package} than {RUNTIME}.txt ({pin[0]})")
    found += [f"{RUNTIME}.txt has {package}" for package in sorted(RUNTIME_BRINGS & set(locks[RUNTIME]))]
    npm = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    for name, package in npm["packages"].items():
        if "resolved" in package:
            found.append(f"package-lock.json: {name} has a download address")
        if name and "integrity" not in package:
            found.append(f"package-lock.json: {name} has no hash")
    return found


if __name__ == "__main__":
    if wrong := faults():
        sys.exit("\n".join([*wrong, "`make lock` resolves the lock files anew"]))
