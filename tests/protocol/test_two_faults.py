"""A second fault on the way back from the first one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.explorer import POLICIES, explore_two


@pytest.mark.parametrize("wait", [0.0, 23.0])
@pytest.mark.parametrize("policy", POLICIES)
def test_after_any_two_faults_everything_comes_right(
    policy: str, wait: float, record_property: Callable[[str, object], None]
) -> None:
    found = explore_two(policy, "refresh", wait)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []
    assert found.histories > 300
