"""The same, while something is being put right: a doubt, a parked answer, a verdict, an open breaker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.single import POLICIES, RECOVERING, explore_one


@pytest.mark.parametrize("story", RECOVERING)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_fault_while_something_is_put_right_does_no_harm(
    policy: str, story: str, record_property: Callable[[str, object], None]
) -> None:
    found = explore_one(policy, story)
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 50
