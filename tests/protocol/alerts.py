"""Whether people heard of everything: over what was stored and what the topic took, however that came about."""

from __future__ import annotations

from collections import Counter

from local.proof.history import Deleted
from tests.protocol.stage import Stage
from tests.protocol.steps import Once

REPEATS = ("unknown", "unknown, done", "kill before", "kill after", "fail", "time out", "time out, done", "late")
"""What leaves nobody knowing whether a message was taken, or taken down."""


def unheard(stage: Stage, *directors: Once) -> list[str]:
    """Give every incident that nobody heard of, and every second copy without a reason."""
    if any(isinstance(record, Deleted) for record in stage.history().records):
        return []  # what was about a grant goes with it
    named = {alert.incident_id for alert in stage.told} | {ended for alert in stage.told for ended in alert.ends}
    lost = [
        f"nobody heard of {alert.kind} {alert.incident_id}" for alert in stage.raised if alert.incident_id not in named
    ]
    stored = stage.stored
    if stored is not None and stored.alert is not None and stored.alert.published_at is None:
        lost.append(f"{stored.alert.kind} is still to be told")
    copies = Counter((alert.incident_id, alert.kind, alert.reminder) for alert in stage.told)
    reasons = sum(fault in REPEATS for director in directors for fault in director.faults.values())
    if sum(copies.values()) - len(copies) > reasons:
        lost.append(f"told more often than once: {copies}")
    return lost
