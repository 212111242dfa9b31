"""`make demo`: plays the story and ends with a table, `local/out/demo.json`, and 0 only if everything held."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from local.aws.ministack import EMULATOR, ROOT

from .breaks import BREAKS, run_broken
from .report import Report
from .stage import stage
from .story import Story

if TYPE_CHECKING:
    from .stage import Stage


def _hints(played: Stage) -> str:
    environment = " ".join(f"{name}={value}" for name, value in played.emulator.environment().items())
    role = played.role_arn("acme-payments")
    return f"""
  Everything still runs. To try it by hand, from this folder:

  # a partner service fetches a token (prints no token, only its facts)
  .venv/bin/python -m local.demo.fetch --endpoint {played.emulator.url} --api {played.api.api_id} \\
    --role {role} --external-id acme-payments-external-id --tenant acme --grant acme-user-1

  # what Wise knows
  curl -s {played.control.url}/truth/requests

  # revoke a user at Wise, then look for the alert in the queue
  curl -s -X POST {played.control.url}/users/acme-user-2/revocation

  # any AWS client
  {environment}

  To stop it: kill {played.emulator.pid} {played.provider_pid}
"""


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Parse, play, report."""
    parser = argparse.ArgumentParser(prog="python -m local.demo")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), help="break the product on purpose")
    parser.add_argument("--out", type=Path, default=ROOT / "local" / "out", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.broken:
        return run_broken(chosen.broken, ["--keep"] if chosen.keep else [])
    signal.signal(signal.SIGTERM, _interrupted)
    version = os.popen(f"{EMULATOR / 'bin' / 'python'} --version").read().strip()  # noqa: S605 - our own interpreter
    report = Report()
    report.tell(f"functions run on {version}, this demo on Python {sys.version.split()[0]}")
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="token-rotator-demo-"))
        if not chosen.keep:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        played = stack.enter_context(stage(directory, report, keep=chosen.keep))
        Story(played, report, chosen.out / "pages").play()
        report.write(chosen.out / "demo.json")
        report.summary()
        if chosen.keep:
            print(_hints(played), flush=True)
    return 0 if report.held else 1


if __name__ == "__main__":
    sys.exit(main())
