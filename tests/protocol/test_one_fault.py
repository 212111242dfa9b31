"""Every step, every fault, everything that may come next: the grant ends well, and no promise was broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.single import ADVANCING, POLICIES, explore_one


@pytest.mark.parametrize("story", ADVANCING)
@pytest.mark.parametrize("policy", POLICIES)
def test_after_any_one_fault_everything_comes_right(
    policy: str, story: str, record_property: Callable[[str, object], None]
) -> None:
    found = explore_one(policy, story)
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 50
