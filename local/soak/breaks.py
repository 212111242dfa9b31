"""Breaking the product on purpose, in a copy, to see that a run notices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from local.aws.ministack import ROOT
from local.demo.breaks import Break, broken_copy, run_module

if TYPE_CHECKING:
    from .plan import Plan

BREAKS: Final = {
    "wait": Break(
        "never serve what may be dead",
        "functions/token_rotator/domain/policy.py",
        "    if grant.attempt_id is not None:\n        if ran_out(grant, now, budgets):\n            return Reading",
        "    if grant.attempt_id is not None and grant.access_token is None:\n"
        "        if ran_out(grant, now, budgets):\n            return Reading",
    ),
}
"""By the name that `--break` takes: a guard that is taken out."""


def run_broken(name: str, plan: Plan) -> int:
    """Copy the project, break it, and abuse the copy. Gives the run's exit code."""
    chosen = BREAKS[name]
    arguments = [
        *("--seconds", f"{plan.seconds}", "--seed", f"{plan.seed}", "--grants", f"{plan.grants}"),
        *("--readers", f"{plan.readers}", "--share", f"{plan.share}"),
    ]
    with broken_copy(chosen) as copy:
        print(f"  broken on purpose: {name}. The run must notice: {chosen.check}.", flush=True)
        code = run_module(copy, "local.soak", arguments)
    facts = json.loads((ROOT / "local" / "out" / "soak.json").read_text(encoding="utf-8"))
    noticed = code != 0 and (facts["violations"] or facts["grants_lost"])
    print(
        f"\n  --break {name}: {'noticed' if noticed else 'NOT NOTICED'}, {facts['violations']} violations", flush=True
    )
    return code
