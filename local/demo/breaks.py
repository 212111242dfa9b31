"""Breaking the product on purpose, in a copy, to see that a check notices."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
_LINKED: Final = (".venv", ".emulator", "node_modules")
_COPIED: Final = ("app.py", "cdk.json", "functions", "infra", "local", "package.json")


@dataclass(frozen=True, slots=True)
class Break:
    """One edit of the product's code, and the check that must then not hold."""

    check: str
    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Make the edit in a copy. Raises RuntimeError where the code has changed under it."""
        broken = root / self.path
        text = broken.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            msg = f"the break no longer fits {self.path}"
            raise RuntimeError(msg)
        broken.write_text(text.replace(self.old, self.new), encoding="utf-8")


BREAKS: Final = {
    "lease": Break(
        "twenty callers, one refresh",
        "functions/token_rotator/adapters/dynamo_grants.py",
        '        update.require(" OR ".join(reasons))\n',
        '        update.require(" OR ".join(reasons))\n'
        '        update.conditions[:] = [f"{c} OR attribute_exists(pk)" for c in update.conditions]\n',
    ),
    "commit": Break(
        "a straggler changes nothing",
        "functions/token_rotator/adapters/dynamo_grants.py",
        '    update.require("attribute_exists(pk)")\n    for field in fields(when):\n',
        '    update.require("attribute_exists(pk)")\n    for field in fields(when)[:0]:\n',
    ),
    "third-lock": Break(
        "the function itself refuses a stranger to the tenant",
        "functions/token_rotator/handlers/http.py",
        "        or not (of_all or tenant in partner.tenants)\n",
        "",
    ),
    "alert": Break(
        "a revoked user reaches on-call",
        "functions/token_rotator/service/tell_people.py",
        "        by.publisher.publish(key, alert)\n",
        "        _ = by.publisher\n",
    ),
    "secrecy": Break(
        "no secret in any log, item, alert or template",
        "functions/token_rotator/adapters/wise_http.py",
        "        sent_at = self._clock()\n        with _Watch(",
        "        sent_at = self._clock()\n        print(form)\n        with _Watch(",
    ),
    "reissue": Break(
        "a dead grant of a user whom the partner created heals itself, and wakes nobody",
        "functions/token_rotator/service/refresh_grant.py",
        "return None if grant.reissuable else",
        "return None if not grant.created_at else",
    ),
    "suspension": Break(
        "what is suspended is refused within 5 seconds and not refreshed; lifted, it is served again",
        "functions/token_rotator/service/serve_token.py",
        "use.suspensions.read().of(self.key.tenant) is not None:",
        "use.suspensions.read().of(self.key.grant_id) is not None:",
    ),
    "hold": Break(
        "on hold a grant is served and not refreshed, while the old refresher still is",
        "functions/token_rotator/service/refresh_grant.py",
        "        if is_on_hold(grant, self.hold, self.use.clock()):\n",
        "        if self.hold is not None:\n",
    ),
    "foreign": Break(
        "a foreign refresher is noticed, and on-call is told",
        "functions/token_rotator/service/refresh_grant.py",
        "foreign = self.foreign and",
        "foreign = False and",
    ),
    "signature": Break(
        "a closed account is suspended by Wise's word alone, and tried once when it is opened again",
        "functions/token_rotator/adapters/rsa_signatures.py",
        "        return any(_verifies(key, given, content) for key in self._keys)\n",
        "        return any(given or content for _ in self._keys)\n",
    ),
    "application": Break(
        "twenty services, one application token, and none of them holds the client secret",
        "functions/token_rotator/service/refresh_grant.py",
        "            return self._issue(grant)\n",
        "            return self._ask_only(grant)\n",
    ),
    "doubt": Break(
        "a killed worker costs nobody a dead token",
        "functions/token_rotator/domain/lease.py",
        "    return grant.lease_until is None or now > grant.lease_until + budgets.margin\n",
        "    return grant.lease_until is None\n",
    ),
}
"""By the name that `make demo BREAK=<name>` takes."""


@contextlib.contextmanager
def broken_copy(chosen: Break) -> Iterator[Path]:
    """Give a copy of the project with one edit, for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="token-rotator-broken-") as directory:
        copy = Path(directory)
        for entry in _COPIED:
            source = ROOT / entry
            if source.is_dir():
                shutil.copytree(source, copy / entry, ignore=shutil.ignore_patterns("__pycache__", "out"))
            else:
                shutil.copy2(source, copy / entry)
        for entry in _LINKED:
            (copy / entry).symlink_to(ROOT / entry)
        chosen.apply(copy)
        yield copy


def run_module(copy: Path, module: str, arguments: list[str]) -> int:
    """Run one of our commands in a copy; its output goes where ours would. Gives its exit code."""
    command = [sys.executable, "-m", module, "--out", str(ROOT / "local" / "out"), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


def run_broken(name: str, arguments: list[str]) -> int:
    """Copy the project, break it, and run the demo of the copy. Gives the demo's exit code."""
    chosen = BREAKS[name]
    with broken_copy(chosen) as copy:
        print(f"  broken on purpose: {name}. The check «{chosen.check}» must not hold.", flush=True)
        code = run_module(copy, "local.demo", arguments)
    checks = json.loads((ROOT / "local" / "out" / "demo.json").read_text(encoding="utf-8"))
    held = [check["held"] for check in checks if check["name"] == chosen.check]
    print(f"\n  BREAK={name}: {'noticed' if held == [False] else 'NOT NOTICED'} by «{chosen.check}»", flush=True)
    return code
