"""A grant that others have a hand in: they refresh it while it is on hold, or although it is not; Wise closes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from local.proof.checker import Rule, check
from tests.protocol.alerts import unheard
from tests.protocol.guards import Guard
from tests.protocol.single import Explored, Plot, Scene, due, fresh, in_doubt
from tests.protocol.stage import Back, Stage
from tests.protocol.steps import Once
from tests.protocol.two import explore
from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.grant import AlertKind, Grant, Phase
from token_rotator.service import apply_state, hold_grant, suspend_grant
from token_rotator.service.adopt_grant import Declined
from token_rotator.service.keep_answer import KeepAnswer
from token_rotator.service.refresh_grant import _Attempt

DAY_S = 86_400
KNOWN_LATE = timedelta(seconds=5)

# --- on hold


def held(stage: Stage) -> None:
    """It is on hold and due, and a reader has been promised something."""
    fresh(stage)
    stage.act("hold")
    stage.due_now()
    stage.act("read")


def doubted(stage: Stage) -> None:
    """A worker was killed after it had sent; then the grant was put on hold."""
    in_doubt(stage)
    stage.act("hold")


def moved(stage: Stage) -> None:
    """Whoever refreshes it has done so, and has not brought the new tokens."""
    held(stage)
    stage.act("elsewhere")


def found_dead(stage: Stage) -> None:
    """And a reader has reported the token that we have."""
    moved(stage)
    stage.act("report")


def all_held(stage: Stage) -> None:
    """All grants of the tenant are on hold. Each process knows it seconds later."""
    fresh(stage)
    stage.known_after = KNOWN_LATE
    stage.act("hold_all")
    stage.due_now()
    stage.act("read")


def all_known_late(stage: Stage) -> None:
    """A grant that is due; what is ordered for its tenant is known seconds later."""
    due(stage)
    stage.known_after = KNOWN_LATE


def all_moved(stage: Stage) -> None:
    all_held(stage)
    stage.act("elsewhere")


def released(stage: Stage) -> None:
    """It was moved here, and whatever was promised meanwhile is over."""
    held(stage)
    stage.act("move")
    stage.act("release")
    stage.pass_time(90)
    stage.act("read")


def left_on(stage: Stage) -> None:
    """And we have refreshed it once; but the other refresher was not switched off."""
    released(stage)
    stage.due_now()
    stage.act("sweep")
    stage.pass_time(600)
    stage.act("read")
    stage.act("elsewhere")


HANDS: dict[str, tuple[Scene, str]] = {
    "fresh, hold": (fresh, "hold"),
    "due, hold": (due, "hold"),
    "in doubt, hold": (in_doubt, "hold"),
    "due, hold_all": (all_known_late, "hold_all"),
    "held, sweep": (held, "sweep"),
    "held, release": (held, "release"),
    "held, move": (held, "move"),
    "doubted, sweep": (doubted, "sweep"),
    "doubted, read": (doubted, "read"),
    "moved, report": (moved, "report"),
    "moved, release": (moved, "release"),
    "found dead, bring": (found_dead, "bring"),
    "found dead, release": (found_dead, "release"),
    "all held, sweep": (all_held, "sweep"),
    "all held, release_all": (all_held, "release_all"),
    "all moved, report": (all_moved, "report"),
    "left on, report": (left_on, "report"),
}
NEXT = ("sweep", "report", "release", "move", "elsewhere")
WAITS = {"same": (0.0,), "rotated": (23.0,)}
"""How long until the next one comes: at once, or when a lease has run out."""


def begun(policy: str, scene: Scene, *at_rest: str) -> Stage:
    stage = Stage(policy)
    stage.at_rest = at_rest
    scene(stage)
    return stage


def accused(stage: Stage) -> int:
    """How often somebody else was named."""
    return sum(alert.kind is AlertKind.FOREIGN_REFRESHER for alert in stage.told)


def unsaid(stage: Stage, *directors: Once) -> list[str]:
    """What people did not hear of, or heard too often: that somebody else refreshes is told once a day."""
    named = {alert.incident_id for alert in stage.told if alert.kind is AlertKind.FOREIGN_REFRESHER}
    return [*unheard(stage, *directors), *(["somebody else was named twice in a day"] if len(named) > 1 else [])]


@pytest.mark.parametrize("story", HANDS)
@pytest.mark.parametrize("policy", WAITS)
def test_a_fault_beside_another_refresher_does_no_harm(
    policy: str, story: str, record_property: Callable[[str, object], None]
) -> None:
    scene, actor = HANDS[story]
    plot = Plot(lambda: begun(policy, scene, "let_go"), actor, NEXT, WAITS[policy], unsaid)
    found = plot.explore(f"{policy}: {story}")
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 20


# --- closed at Wise


def known(stage: Stage) -> None:
    """It is known whose grant it is, and a reader has been promised something."""
    stage.identify()
    fresh(stage)


def known_due(stage: Stage) -> None:
    stage.identify()
    due(stage)


def known_in_doubt(stage: Stage) -> None:
    """A worker was killed after it had sent."""
    stage.identify()
    in_doubt(stage)


def closed(stage: Stage) -> None:
    """Wise has closed the account, and told it."""
    known(stage)
    stage.act("shut")


def closed_due(stage: Stage) -> None:
    known_due(stage)
    stage.act("shut")


def closed_and_stopped(stage: Stage) -> None:
    """The same while an operator has the grant suspended."""
    known(stage)
    stage.act("suspend")
    stage.act("shut")


def stopped(stage: Stage) -> None:
    """The grant is suspended since Wise has closed the account."""
    closed(stage)
    stage.act("sweep")


def reopened(stage: Stage) -> None:
    """Wise has opened it again, and told it."""
    stopped(stage)
    stage.pass_time(600)
    stage.act("reopen")


def both(stage: Stage) -> None:
    """Wise has closed and opened the account, and told it in disorder and twice."""
    known(stage)
    stage.act("shut_and_reopen")


def judged(stage: Stage) -> None:
    """Before anybody told us that the account was closed a refresh was refused; then it was told, and opened again."""
    known_due(stage)
    stage.act("close")
    stage.act("sweep")
    stage.act("tell_last")
    stage.act("sweep")
    stage.pass_time(600)
    stage.act("reopen")


ACCOUNTS: dict[str, tuple[Scene, str]] = {
    "known, shut": (known, "shut"),
    "closed, sweep": (closed, "sweep"),
    "closed and due, sweep": (closed_due, "sweep"),
    "closed and stopped, sweep": (closed_and_stopped, "sweep"),
    "stopped, suspend": (stopped, "suspend"),
    "stopped, lift": (stopped, "lift"),
    "reopened, sweep": (reopened, "sweep"),
    "both, sweep": (both, "sweep"),
    "judged, sweep": (judged, "sweep"),
}
NEXT_OF_ACCOUNT = ("report", "tell_all", "shut", "reopen", "suspend", "lift", "relink")
BACK: dict[str, Back] = {"same": "all", "rotated": "refresh token", "omitted": "nothing"}
WAITS_OF_ACCOUNT = {"same": (0.0,), "rotated": (23.0,), "omitted": (0.0,)}
OPENED = ("reopened, sweep", "both, sweep", "judged, sweep")
CASES = [(policy, story) for story in ACCOUNTS for policy in (BACK if story in OPENED else ("rotated",))]
"""What comes back makes a difference once the account is open."""


def begun_known(policy: str, scene: Scene) -> Stage:
    stage = Stage(policy)
    stage.comes_back = BACK[policy]
    stage.at_rest = ("tell_all", "lift", "reopen")
    scene(stage)
    return stage


@pytest.mark.parametrize(("policy", "story"), CASES)
def test_a_fault_beside_wise_closing_an_account_does_no_harm(
    policy: str, story: str, record_property: Callable[[str, object], None]
) -> None:
    scene, actor = ACCOUNTS[story]
    plot = Plot(lambda: begun_known(policy, scene), actor, NEXT_OF_ACCOUNT, WAITS_OF_ACCOUNT[policy], unheard)
    found = plot.explore(f"{policy}: {story}")
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 20


# --- two at once

TOGETHER: list[tuple[str, Scene, tuple[str, ...]]] = [
    ("rotated", due, ("duty", "hold")),
    ("same", all_known_late, ("duty", "hold_all")),
    ("rotated", held, ("sweep", "release")),
    ("same", moved, ("report", "release")),
    ("rotated", found_dead, ("bring", "release")),
    ("rotated", moved, ("report", "bring")),
    ("same", doubted, ("sweep", "release")),
    ("rotated", doubted, ("sweep", "elsewhere")),
    ("same", left_on, ("report", "elsewhere")),
]
WITH_A_FAULT: list[tuple[str, Scene, tuple[str, ...]]] = [
    ("rotated", due, ("duty", "hold")),
    ("same", moved, ("report", "release")),
]
CLOSED: list[tuple[str, Scene, tuple[str, ...]]] = [
    ("rotated", known_due, ("duty", "shut_and_sweep")),
    ("same", known_due, ("duty", "shut_beside")),
    ("same", known_in_doubt, ("duty", "shut_beside")),
    ("rotated", closed, ("sweep", "sweep2")),
    ("same", closed, ("sweep", "tell_all")),
    ("same", closed, ("sweep", "reopen")),
    ("rotated", closed, ("sweep", "suspend")),
    ("same", reopened, ("sweep", "suspend")),
    ("same", reopened, ("sweep", "shut")),
    ("rotated", reopened, ("sweep", "read")),
    ("omitted", both, ("sweep", "sweep2")),
]


def ids(cases: list[tuple[str, Scene, tuple[str, ...]]]) -> list[str]:
    return [f"{policy}: {scene.__name__}, {' x '.join(actors)}" for policy, scene, actors in cases]


def played(
    scene: Scene,
    policy: str,
    actors: tuple[str, ...],
    wrong: Callable[[Stage], list[str]],
    *at_rest: str,
    faults: int = 0,
) -> Explored:
    """Play every order of two, and look at what people heard."""
    found: list[str] = []

    def prepared(stage: Stage) -> None:
        stage.comes_back, stage.at_rest = BACK[policy], at_rest
        scene(stage)

    prepared.__name__ = scene.__name__
    seen: Callable[[Stage, list[str]], None] = lambda stage, told: found.extend(  # noqa: E731 - one line
        f"{policy}, {scene.__name__}: {', '.join(told)}: {what}" for what in wrong(stage)
    )
    result = explore(policy, prepared, actors, faults=faults, seen=seen)
    result.violations += found
    return result


@pytest.mark.parametrize(("policy", "scene", "actors"), TOGETHER, ids=ids(TOGETHER))
def test_no_order_of_two_beside_another_refresher_does_harm(
    policy: str, scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = played(scene, policy, actors, unsaid, "let_go")
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


@pytest.mark.parametrize(("policy", "scene", "actors"), WITH_A_FAULT, ids=ids(WITH_A_FAULT))
def test_two_and_a_fault_beside_another_refresher_do_no_harm(
    policy: str, scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = played(scene, policy, actors, lambda _: [], "let_go", faults=1)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


@pytest.mark.parametrize(("policy", "scene", "actors"), CLOSED, ids=ids(CLOSED))
def test_no_order_of_two_does_harm_where_wise_closes_an_account(
    policy: str, scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = played(scene, policy, actors, unheard, "tell_all", "lift", "reopen")
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


# --- that the stages are what they say


@pytest.mark.parametrize("policy", ["same", "omitted"])
def test_somebody_else_is_named_where_one_refreshes_and_once_a_day(policy: str) -> None:
    stage = begun(policy, left_on)
    assert accused(stage) == 0
    stage.act("report")
    stage.heal()
    assert accused(stage) == 1
    stage.act("elsewhere")
    stage.pass_time(120)
    stage.act("report")
    stage.heal()
    assert accused(stage) == 1
    stage.pass_time(DAY_S)
    stage.act("sweep")
    stage.act("elsewhere")
    stage.pass_time(120)
    stage.act("report")
    stage.heal()
    assert accused(stage) == 2
    assert check(stage.history()) == []


def test_a_refresh_token_that_somebody_else_had_replaced_needs_its_user() -> None:
    stage = begun("rotated", left_on)
    stage.act("report")
    stage.heal()
    assert [alert.kind for alert in stage.told] == [AlertKind.REAUTHORIZATION_REQUIRED]
    assert check(stage.history()) == []


@pytest.mark.parametrize(("policy", "phase"), [("same", Phase.ACTIVE), ("omitted", Phase.REAUTHORIZATION_REQUIRED)])
def test_a_closed_account_stops_its_grant_and_an_open_one_lets_it_go_on(policy: str, phase: Phase) -> None:
    stage = begun_known(policy, closed)
    stage.act("sweep")
    assert stage.stored is not None
    assert stage.stored.phase is Phase.SUSPENDED
    stage.act("reopen")
    stage.heal()
    assert stage.stored is not None
    assert stage.stored.phase is phase
    assert check(stage.history()) == []


# --- and that what is missing is noticed


def hold_while_somebody_works(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hold_grant.Patience, "unheld", lambda self, key, _: self.grants.get(key) or Declined.NOT_FOUND)
    patch.setattr(hold_grant, "freed", lambda grant, *_: grant)


def release_at_once(patch: pytest.MonkeyPatch) -> None:
    def released(grant: Grant, now: datetime, budgets: object) -> Grant:
        return replace(grant, on_hold=None, due_at=now)

    patch.setattr(hold_grant, "released", released)


def accuse_whatever_is_dead(patch: pytest.MonkeyPatch) -> None:
    ask_first = _Attempt._ask_first

    def accusing(self: _Attempt, grant: Grant) -> Any:
        answer = ask_first(self, grant)
        self.foreign = self.dead
        return answer

    patch.setattr(_Attempt, "_ask_first", accusing)


def forget_what_wise_ended(patch: pytest.MonkeyPatch) -> None:
    changed = apply_state.state_changed

    def forgetful(grant: Grant, *arguments: Any) -> Grant:
        return replace(changed(grant, *arguments), in_doubt=grant.in_doubt)

    patch.setattr(apply_state, "state_changed", forgetful)


def end_whatever_doubt_there_is(patch: pytest.MonkeyPatch) -> None:
    in_time = KeepAnswer._in_time

    def blind(self: KeepAnswer, answer: SealedAnswer, stored: Grant, _: str | None) -> Grant:
        return in_time(self, answer, stored, stored.in_doubt)

    patch.setattr(KeepAnswer, "_in_time", blind)


def leave_wises_order(patch: pytest.MonkeyPatch) -> None:
    plain = suspend_grant.suspended
    patch.setattr(
        suspend_grant,
        "suspended",
        lambda grant, order: grant if grant.phase is Phase.SUSPENDED else plain(grant, order),
    )


MISSING: dict[str, tuple[Guard, str, Scene, tuple[str, ...], Rule]] = {
    "a hold waits for the lease": (hold_while_somebody_works, "rotated", due, ("duty", "hold"), Rule.HELD),
    "a release waits for the promise": (release_at_once, "same", held, ("read", "release"), Rule.PROMISE),
    "others are named only for what they did": (
        accuse_whatever_is_dead,
        "same",
        in_doubt,
        ("sweep", "read"),
        Rule.ACCUSED,
    ),
    "what Wise has ended is in doubt": (forget_what_wise_ended, "rotated", closed, ("sweep", "reopen"), Rule.NOT_DEAD),
    "a doubt that came since stays": (
        end_whatever_doubt_there_is,
        "same",
        known_in_doubt,
        ("duty", "shut_beside"),
        Rule.NOT_DEAD,
    ),
    "an operator's order outlives Wise's": (leave_wises_order, "same", reopened, ("sweep", "suspend"), Rule.SUSPENDED),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, policy, scene, actors, broken = MISSING[name]
    remove(monkeypatch)
    at_rest = ("let_go",) if scene in (due, held, in_doubt) else ("tell_all", "lift", "reopen")
    found = played(scene, policy, actors, lambda _: [], *at_rest)
    assert any(f"[{broken}]" in violation for violation in found.violations), found.violations[:3]
