"""Breaking the product on purpose, in a copy, to see that a run notices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from local.aws.ministack import ROOT
from local.demo.breaks import Break, broken_copy, run_module

if TYPE_CHECKING:
    from .plan import Plan

BREAKS: Final = {
    "promise": Break(
        "never replace a token before its stable_until",
        "functions/token_rotator/domain/policy.py",
        "        stable_until = min(grant.refresh_at, grant.expires_at) - budgets.guard\n",
        "        stable_until = grant.expires_at - budgets.guard\n",
    ),
    "lease": Break(
        "never two refreshes of one grant in flight at Wise",
        "functions/token_rotator/domain/lease.py",
        "    return grant.lease_until is None or now > grant.lease_until + budgets.margin\n",
        "    return True\n",
    ),
    "doubt": Break(
        "never serve what may be dead",
        "functions/token_rotator/service/refresh_grant.py",
        "            if not first or self._proves(grant) is not Liveness.DEAD:\n"
        "                return self._leave(grant, outcome.reason)\n",
        "            self.doubt = None\n            return self._give_back(grant, outcome.reason)\n",
    ),
    "hold": Break(
        "never refresh what is on hold",
        "functions/token_rotator/service/refresh_grant.py",
        "        if is_on_hold(grant, self.hold, self.use.clock()):\n",
        "        if self.hold is not None:\n",
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
