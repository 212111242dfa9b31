"""`make soak`: abuses the deployed stack and ends with JSON, `local/out/soak.json`, and 0 only if nothing was wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from local.aws.ministack import ROOT
from local.demo.report import Report
from local.demo.stage import stage

from .breaks import BREAKS, run_broken
from .judge import judge
from .plan import Plan
from .play import Soak

_LONGEST_S = 3_000
"""The partners' roles are taken once, for an hour."""
_SHOWN = 20


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _plan(arguments: argparse.Namespace) -> Plan:
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    return Plan(
        seed=seed,
        seconds=arguments.seconds,
        grants=arguments.grants,
        readers=arguments.readers,
        share=arguments.share,
    )


def main() -> int:
    """Parse, abuse, judge."""
    parser = argparse.ArgumentParser(prog="python -m local.soak")
    parser.add_argument("--seconds", type=float, default=600, help="how long everything fails")
    parser.add_argument("--seed", type=int, help="gives the same run again, as far as threads allow")
    parser.add_argument("--grants", type=int, default=300)
    parser.add_argument("--readers", type=int, default=16)
    parser.add_argument("--share", type=float, default=0.1, help="of the calls to Wise that fail")
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), help="break the product on purpose")
    parser.add_argument("--out", type=Path, default=ROOT / "local" / "out", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not 0 < chosen.seconds <= _LONGEST_S:
        parser.error(f"--seconds must be more than 0 and at most {_LONGEST_S}")
    plan = _plan(chosen)
    if chosen.broken:
        return run_broken(chosen.broken, plan)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)
    began = time.monotonic()
    report = Report()
    report.tell(f"seed {plan.seed}: {plan.seconds:g} s, {plan.grants} grants, {plan.readers} readers")
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="token-rotator-soak-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        life_s = sum(plan.lives_s) / 2
        played = stack.enter_context(stage(directory, report, life_s=life_s, directly=True))
        records = Soak(plan, played, report).play()
        report.tell("stopping both emulators")
    report.tell("judging")
    verdict = judge(records)
    facts = verdict.facts | {"all_of_it_s": round(time.monotonic() - began, 1)}
    chosen.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=2)
    (chosen.out / "soak.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    if verdict.wrong:
        path = chosen.out / "soak-records.json"
        path.write_text(json.dumps(asdict(records)) + "\n", encoding="utf-8")
        print(f"  everything that was recorded: {path}")
    for what in verdict.wrong[:_SHOWN]:  # last, where whoever sees only the end of a log finds them
        print(f"  WRONG: {what}")
    if len(verdict.wrong) > _SHOWN:
        print(f"  and {len(verdict.wrong) - _SHOWN} more")
    print(f"\n  seed {plan.seed}: {'wrong' if verdict.wrong else 'held'}", flush=True)
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
