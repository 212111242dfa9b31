"""A second fault on the way back from the first one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.single import explore_two


@pytest.mark.parametrize(
    ("policy", "following", "wait"),
    [("rotated", "sweep", 23.0), ("rotated", "read", 0.0), ("same", "read", 23.0), ("omitted", "sweep", 0.0)],
)
def test_after_any_two_faults_everything_comes_right(
    policy: str, following: str, wait: float, record_property: Callable[[str, object], None]
) -> None:
    found = explore_two(policy, "due, refresh", following, wait)
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 300
