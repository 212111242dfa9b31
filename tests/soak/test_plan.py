"""What a run is like follows from its seed and its size."""

from __future__ import annotations

from collections import Counter

import pytest

from local.soak.plan import Leaving, Plan
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


def test_grants_that_move_in_come_with_every_policy_and_every_kind_of_old_refresher() -> None:
    moves = plan().moves()
    assert len(moves) == 30
    assert len({(move.policy, move.leaving) for move in moves if move.leaving is not Leaving.STAYS}) == 6
    by_leaving = Counter(move.leaving for move in moves)
    assert by_leaving[Leaving.STAYS] == 3
    assert by_leaving[Leaving.STUBBORN] >= 6
    for move in moves:
        assert (move.released_at is None) is (move.leaving is Leaving.STAYS)
        if move.leaving is Leaving.STUBBORN:
            assert move.released_at is not None
            assert move.released_at <= 0.1, "there has to be time to be noticed"


def test_personal_tokens_are_revoked_replaced_or_left_alone() -> None:
    kinds = Counter((p.revoked_at is not None, p.replaced_at is not None) for p in plan().personals())
    assert kinds == {(True, True): 4, (True, False): 4, (False, True): 8, (False, False): 8}
    assert all(p.replaced_at > p.revoked_at for p in plan().personals() if p.revoked_at and p.replaced_at)


def test_accounts_are_closed_and_most_of_them_opened_again() -> None:
    closings = plan().closings()
    assert len(closings) == 12
    assert Counter((c.opened_at is not None, c.survives, c.again) for c in closings) == {
        (True, True, False): 3,
        (True, True, True): 3,
        (True, False, False): 3,
        (False, True, False): 3,
    }
    assert all(c.closed_at < c.opened_at < 0.9 for c in closings if c.opened_at is not None)


def test_nobody_has_the_name_of_another() -> None:
    chosen = plan()
    ids = [grant_id for _, grant_id, _ in chosen.grant_ids()]
    ids += [one.grant_id for one in [*chosen.moves(), *chosen.personals(), *chosen.closings()]]
    assert len(set(ids)) == len(ids)


def test_whether_application_tokens_coexist_is_drawn() -> None:
    assert {plan(seed=seed).application_tokens_coexist for seed in range(20)} == {True, False}


def test_smallest_run_has_something_of_everything() -> None:
    small = plan(grants=3)
    assert {move.leaving for move in small.moves()} >= {Leaving.SWITCHED_OFF, Leaving.STUBBORN}
    assert any(p.revoked_at is not None for p in small.personals())
    assert any(c.opened_at is not None for c in small.closings())
