"""Two actors and one fault, while something is being put right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.single import Scene, ended, in_doubt, parked, revoked
from tests.protocol.two import explore

CASES: list[tuple[Scene, tuple[str, ...]]] = [
    (in_doubt, ("duty", "read")),
    (parked, ("sweep", "drain")),
    (parked, ("drain", "readopt")),
    (parked, ("drain", "relink")),
    (revoked, ("duty", "relink")),
    (revoked, ("duty", "confirm")),
    (ended, ("duty", "report")),
]
IDS = [f"{scene.__name__}, {' x '.join(actors)}" for scene, actors in CASES]


@pytest.mark.parametrize(("scene", "actors"), CASES, ids=IDS)
def test_two_actors_and_one_fault_do_no_harm_while_something_is_put_right(
    scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = explore("rotated", scene, actors, faults=1)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []
    assert found.histories + found.pruned > 50, "who brings an older copy over a parked answer is soon turned away"
