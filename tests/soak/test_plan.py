"""What a run is like follows from its seed and its size."""

from __future__ import annotations

from collections import Counter

import pytest

from local.soak.plan import Plan
from local.wise.chaos import ChaosSettings


def plan(**changes: float) -> Plan:
    return Plan(**{"seed": 1, "seconds": 60, "grants": 300, "readers": 16, **changes})  # type: ignore[arg-type]


def test_grants_are_spread_over_tenants_and_over_what_becomes_of_their_refresh_tokens() -> None:
    ids = plan().grant_ids()
    assert len({grant_id for _, grant_id, _ in ids}) == 300
    assert Counter(tenant for tenant, _, _ in ids) == {"acme": 150, "globex": 150}
    assert Counter((tenant, policy.value) for tenant, _, policy in ids) == {
        (tenant, policy): 50 for tenant in ("acme", "globex") for policy in ("same", "rotated", "omitted")
    }


@pytest.mark.parametrize("seconds", [60, 600])
def test_first_tokens_fall_due_one_after_the_other_and_none_is_dead(seconds: float) -> None:
    chosen = plan(seconds=seconds)
    random = chosen.random("births")
    births = [chosen.birth(random) for _ in range(500)]
    least, most = chosen.lives_s
    assert all(least <= life_s <= most for life_s, _ in births)
    due_in_s = [max(life_s / 2, 60) - age_s for life_s, age_s in births]
    assert min(due_in_s) >= 5
    assert min(due_in_s) < 10
    assert max(due_in_s) > (50 if seconds < 300 else 100)


def test_same_seed_draws_the_same_for_each_purpose() -> None:
    one, again, other = plan(), plan(), plan(seed=2)
    assert one.random("kills").random() == again.random("kills").random()
    assert one.random("kills").random() != one.random("births").random()
    assert one.random("kills").random() != other.random("kills").random()


def test_chaos_is_what_the_emulator_takes() -> None:
    settings = ChaosSettings().changed(plan(share=0.2).chaos())
    assert (settings.share, settings.me_share, settings.seed) == (0.2, 0.2, 1)
