"""Our application's own token: every step, every fault, whatever may come next, and every order of two."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local.proof.checker import check
from local.proof.history import Questioned, RefreshBegan, Served
from tests.protocol.application import ApplicationStage
from tests.protocol.single import Plot, due, ended, fresh, in_doubt, parked, paused, untouched

POLICIES = ("coexist", "alone")


def absent(stage: ApplicationStage) -> None:
    """Nobody has asked for it yet."""


def questioned(stage: ApplicationStage) -> None:
    """A reader has been promised something, and then Wise was asked about our client."""
    fresh(stage)
    stage.act("question")


STORIES: dict[str, tuple[Callable[[ApplicationStage], None], str]] = {
    "absent, read": (absent, "read"),
    "due, sweep": (due, "sweep"),
    "due, read": (due, "read"),
    "fresh, report": (fresh, "report"),
    "fresh, question": (fresh, "question"),
    "due, question": (due, "question"),
    "ended, report": (ended, "report"),
    "questioned, sweep": (questioned, "sweep"),
    "questioned, read": (questioned, "read"),
    "in doubt, sweep": (in_doubt, "sweep"),
    "untouched, read": (untouched, "read"),
    "parked, sweep": (parked, "sweep"),
    "paused, sweep": (paused, "sweep"),
}
NEXT = ("sweep", "read", "report", "question")
WAITS = (0.0, 23.0)


def begun(policy: str, story: str) -> ApplicationStage:
    stage = ApplicationStage(policy, absent=story.startswith("absent"))
    STORIES[story][0](stage)
    return stage


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("policy", POLICIES)
def test_after_any_one_fault_everything_comes_right(
    policy: str, story: str, record_property: Callable[[str, object], None]
) -> None:
    found = Plot(lambda: begun(policy, story), STORIES[story][1], NEXT, WAITS).explore(f"{policy}: {story}")
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 50


@pytest.mark.parametrize("policy", POLICIES)
def test_undisturbed_it_is_asked_for_once_and_renewed_in_time(policy: str) -> None:
    stage = ApplicationStage(policy, absent=True)
    stage.act("read")
    stage.act("read")
    assert stage.wise.requests == 1
    stage.due_now()
    stage.act("sweep")
    stage.act("read")
    assert stage.wise.requests == 2
    served = [record.token for record in stage.history() if isinstance(record, Served)]
    assert served == ["a1", "a1", "a2"]
    stage.heal()
    assert check(stage.history()) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_a_question_has_it_renewed_once(policy: str) -> None:
    stage = begun(policy, "questioned, sweep")
    stage.heal()
    records = list(stage.history())
    assert sum(isinstance(record, Questioned) for record in records) == 1
    assert sum(isinstance(record, RefreshBegan) for record in records) == 2
    assert check(stage.history()) == []


def test_a_question_that_nobody_notes_is_found() -> None:
    stage = ApplicationStage("alone")
    fresh(stage)
    stage.world.grants.doubt = lambda *_: None  # type: ignore[method-assign]
    stage.act("question")
    stage.heal()
    assert any("our question" in str(violation) for violation in check(stage.history()))
