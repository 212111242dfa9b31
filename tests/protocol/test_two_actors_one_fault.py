"""Two actors and one fault at any step of either: every order that is not a repetition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.single import due
from tests.protocol.two import explore

PAIRS = [
    ("rotated", ("duty", "duty2")),
    ("rotated", ("duty", "read")),
    ("rotated", ("duty", "report")),
    ("rotated", ("duty", "readopt")),
    ("rotated", ("duty", "delete")),
    ("same", ("duty", "duty2")),
    ("omitted", ("duty", "readopt")),
]


@pytest.mark.parametrize(("policy", "actors"), PAIRS, ids=[f"{policy}, {' x '.join(two)}" for policy, two in PAIRS])
def test_two_actors_and_one_fault_do_no_harm(
    policy: str, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = explore(policy, due, actors, faults=1)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []
    assert found.histories > 300
