"""Two actors, no fault: every order of their steps, none left out; and that leaving some out hides nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local.proof.history import Announced, NotServed, RefreshSettled, Served
from tests.protocol.guards import serve_in_doubt
from tests.protocol.single import Scene, due, ended, in_doubt, parked, revoked
from tests.protocol.stage import Stage
from tests.protocol.two import explore

WHOLE: list[tuple[Scene, tuple[str, ...]]] = [
    (due, ("duty", "duty2")),
    (due, ("duty", "read")),
    (due, ("duty", "report")),
    (due, ("duty", "readopt")),
    (due, ("duty", "delete")),
    (due, ("duty", "pause")),
    (parked, ("sweep", "drain")),
]
"""A sweep on duty has seen the parking queue empty: its steps with the queue meet nobody here but who drains it."""
REDUCED: list[tuple[Scene, tuple[str, ...]]] = [
    *WHOLE,
    (due, ("sweep", "sweep2")),
    (due, ("read", "read2")),
    (ended, ("sweep", "report")),
    (in_doubt, ("sweep", "read")),
    (in_doubt, ("sweep", "sweep2")),
    (parked, ("drain", "read")),
    (parked, ("drain", "readopt")),
    (revoked, ("sweep", "sweep2")),
    (revoked, ("sweep", "relink")),
    (revoked, ("sweep", "confirm")),
    (due, ("sweep", "confirm")),
]


def named(cases: list[tuple[Scene, tuple[str, ...]]]) -> pytest.MarkDecorator:
    ids = [f"{scene.__name__}, {' x '.join(actors)}" for scene, actors in cases]
    return pytest.mark.parametrize(("scene", "actors"), cases, ids=ids)


@named(WHOLE)
def test_no_order_of_two_actors_steps_does_harm(
    scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = explore("rotated", scene, actors, reduce=False)
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.pruned == 0
    assert found.histories > 50


@named(REDUCED)
@pytest.mark.parametrize("policy", ["same", "omitted"])
def test_no_order_does_harm_whatever_wise_does_with_refresh_tokens(
    policy: str, scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = explore(policy, scene, actors)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []
    assert found.pruned > 0


def outcome(stage: Stage) -> tuple[object, ...]:
    """What a history came to, whoever was first: what is stored, what Wise did, who got what."""
    stored = stage.stored
    kept = (
        None if stored is None else (stored.phase, stored.version, stored.in_doubt is None, stored.attempt_id is None)
    )
    records = stage.history().records
    return (
        kept,
        sum(isinstance(record, RefreshSettled) and record.carried_out for record in records),
        stage.wise.requests,
        sorted((record.reader, record.token) for record in records if isinstance(record, Served)),
        sorted((record.reader, record.why) for record in records if isinstance(record, NotServed)),
        sorted(record.kind for record in records if isinstance(record, Announced)),
    )


@named([(due, ("duty", "delete")), (due, ("duty", "report"))])
@pytest.mark.parametrize("served_blindly", [False, True], ids=["as it is", "serving what is in doubt"])
def test_what_is_left_out_is_a_repetition(
    scene: Scene, actors: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, *, served_blindly: bool
) -> None:
    if served_blindly:
        serve_in_doubt(monkeypatch)

    def came_to(*, reduce: bool) -> tuple[set[str], set[str]]:
        ends: set[str] = set()
        found = explore("rotated", scene, actors, reduce=reduce, seen=lambda stage, _: ends.add(str(outcome(stage))))
        rules = {violation.partition("[")[2].partition("]")[0] for violation in found.violations}
        return ends, rules

    assert came_to(reduce=True) == came_to(reduce=False)
