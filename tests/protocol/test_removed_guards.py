"""The explorer notices what is missing: each rule is taken out, and a broken promise is found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from local.proof.checker import Rule
from tests.protocol import guards
from tests.protocol.guards import Guard
from tests.protocol.single import Enough, Explored, Scene, due, explore_one, in_doubt, revoked
from tests.protocol.two import explore


def one(policy: str, story: str) -> Callable[[Explored], object]:
    return lambda result: explore_one(policy, story, result)


def two(policy: str, scene: Scene, *actors: str, faults: int = 0) -> Callable[[Explored], object]:
    return lambda result: explore(policy, scene, actors, faults=faults, result=result)


REMOVED: dict[str, tuple[Guard, Callable[[Explored], object], Rule]] = {
    "the condition on acquire": (
        guards.acquire_what_is_held,
        two("same", due, "sweep", "sweep2"),
        Rule.ONE_AT_A_TIME,
    ),
    "the wait of an import for a held lease": (
        guards.replace_what_is_held,
        one("same", "due, refresh"),
        Rule.PROMISE,
    ),
    "the lease outlasts the request": (
        guards.lease_as_long_as_the_attempt,
        one("same", "due, sweep"),
        Rule.ONE_AT_A_TIME,
    ),
    "nothing in doubt is served": (guards.serve_in_doubt, two("same", due, "sweep", "read"), Rule.NOT_DEAD),
    "a proxy's word is not Wise's": (
        guards.take_a_proxys_word_for_wises,
        one("same", "due, refresh"),
        Rule.NOT_DEAD,
    ),
    "its own doubt": (guards.forget_own_doubt, one("same", "due, refresh"), Rule.NOT_DEAD),
    "doubt at a takeover": (guards.forget_doubt_at_takeover, one("same", "in doubt, sweep"), Rule.NOT_DEAD),
    "parking": (guards.never_park, one("same", "due, refresh"), Rule.KEPT),
    "late answers are kept": (guards.drop_what_was_overtaken, one("rotated", "parked, read"), Rule.KEPT),
    "the hold before a verdict": (
        guards.judge_while_an_answer_may_be_parked,
        one("rotated", "parked, read"),
        Rule.JUDGED,
    ),
    "a lost answer is not a revocation": (
        guards.call_every_death_a_revocation,
        one("rotated", "due, refresh"),
        Rule.JUDGED,
    ),
    "the scope of a verdict": (
        guards.all_of(guards.judge_whatever_was_presented, guards.replace_what_is_held),
        two("same", revoked, "duty", "relink"),
        Rule.JUDGED,
    ),
    "asking before a report counts": (
        guards.refresh_what_is_reported_unasked,
        one("same", "fresh, report"),
        Rule.PROMISE,
    ),
    "promises are not brought forward": (
        guards.bring_promises_forward,
        one("same", "fresh, report"),
        Rule.PROMISE,
    ),
    "taking over": (guards.never_take_over, two("same", in_doubt, "sweep", "read"), Rule.KEPT),
}


@pytest.mark.parametrize("name", REMOVED)
def test_the_explorer_finds_what_a_missing_rule_breaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, look, broken = REMOVED[name]
    remove(monkeypatch)
    result = Explored(wanted=f"[{broken}]")
    with contextlib.suppress(Enough):
        look(result)
    assert any(f"[{broken}]" in violation for violation in result.violations), result.violations[:3]
