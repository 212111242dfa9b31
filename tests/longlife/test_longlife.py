"""Nothing that happens in months of a deployment's life breaks a promise, and afterwards everything comes right."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.longlife.machine import LongLife, figures, lived

EXAMPLES = int(os.environ.get("LONGLIFE_EXAMPLES", "0"))
"""How many lives to try, others each time; without it the same few each time, in about a minute of CPU."""
MET = (
    "attempt refreshed",
    "attempt reauthorization_required",
    "attempt in_doubt",
    "attempt confirmed",
    "AnswerParked",
    "ParkedSettled",
    "BreakerOpened",
    "BreakerClosed",
    "DemandBarred",
    "processes killed",
    "table down",
    "readers served degraded",
    "adoptions",
    "deletions",
)
"""What every run must have met, else it proves little."""


def test_everything_holds_over_months(record_property: Callable[[str, object], None]) -> None:
    lived.clear()
    try:
        run_state_machine_as_test(
            LongLife,
            settings=settings(
                max_examples=EXAMPLES or 30,
                stateful_step_count=30,
                derandomize=not EXAMPLES,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for name, value in figures().items():
            record_property(name, value)
    assert figures()["months"] >= 3
    assert lived["attempt refreshed"] >= 1000
    assert [name for name in MET if not lived[name]] == []
