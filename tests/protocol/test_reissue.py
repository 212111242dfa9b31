"""A grant with a registration code, and what people hear of it: every step, every fault, the topic's among them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local.proof.checker import check
from tests.protocol.alerts import unheard
from tests.protocol.single import Plot, Scene, faulty_steps
from tests.protocol.snapshot import Snapshot
from tests.protocol.stage import Stage
from tests.protocol.steps import Once, Script
from tests.protocol.two import explore
from token_rotator.domain.grant import AlertKind

DAY_S = 86_400


def registered(stage: Stage) -> None:
    """We have created the user, who has ended the authorization, and it is due."""
    stage.register()
    stage.due_now()
    stage.act("revoke")


def replaced(stage: Stage) -> None:
    """The same, but somebody else had the user authorize: the access token lives on."""
    stage.register()
    stage.due_now()
    stage.act("replace_elsewhere")


def reclaimed(stage: Stage) -> None:
    """The user has taken the account over."""
    stage.register()
    stage.due_now()
    stage.act("revoke")
    stage.act("reclaim")


def lost_and_reclaimed(stage: Stage) -> None:
    """An answer died with its worker, and the user has taken the account over since."""
    stage.register()
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, done"]}))
    stage.act("reclaim")
    stage.pass_time(23)


def waiting(stage: Stage) -> None:
    """On-call was told a day ago that the user has to authorize again, and nothing has happened."""
    stage.due_now()
    stage.act("revoke")
    stage.act("sweep")
    stage.pass_time(DAY_S + 1)


def linked(stage: Stage) -> None:
    """On-call was told, and new tokens were adopted."""
    stage.due_now()
    stage.act("revoke")
    stage.act("sweep")
    stage.pass_time(600)
    stage.act("relink")


STORIES: dict[str, tuple[Scene, str]] = {
    "registered, sweep": (registered, "sweep"),
    "registered, read": (registered, "read"),
    "replaced, sweep": (replaced, "sweep"),
    "reclaimed, sweep": (reclaimed, "sweep"),
    "lost and reclaimed, sweep": (lost_and_reclaimed, "sweep"),
    "waiting, sweep": (waiting, "sweep"),
    "linked, sweep": (linked, "sweep"),
}
NEXT = ("sweep", "read", "relink", "delete")
WAITS = (0.0, 23.0)


def begun(policy: str, story: str) -> Stage:
    stage = Stage(policy)
    STORIES[story][0](stage)
    return stage


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("policy", ["same", "rotated"])
def test_a_fault_on_the_way_back_does_no_harm_and_people_hear_of_it(
    policy: str, story: str, record_property: Callable[[str, object], None]
) -> None:
    found = Plot(lambda: begun(policy, story), STORIES[story][1], NEXT, WAITS, unheard).explore(f"{policy}: {story}")
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 50


@pytest.mark.parametrize("story", ["registered, sweep", "reclaimed, sweep"])
def test_a_second_fault_at_the_topic_loses_nothing(story: str, record_property: Callable[[str, object], None]) -> None:
    actor = STORIES[story][1]
    stage, undisturbed = begun("rotated", story), Once()
    start = Snapshot(stage)
    stage.act(actor, undisturbed)
    found: list[str] = []
    histories = 0
    for at, fault in faulty_steps(undisturbed):
        first, steps = Once({at: fault}), Once()
        start.restore()
        stage.act(actor, first)
        stage.pass_time(40)
        met = Snapshot(stage)
        stage.act("sweep", steps)
        topics = [number for number, step in enumerate(steps.taken) if step.kind == "topic"]
        for number in topics:
            for second in steps.taken[number].faults:
                directors = first, Once({number: second})
                met.restore()
                stage.act("sweep", directors[1])
                stage.heal()
                histories += 1
                told = f"{story} [{fault} at {at}], [{second} at {number}]"
                found += [f"{told}: {violation}" for violation in check(stage.history())]
                found += [f"{told}: {wrong}" for wrong in unheard(stage, *directors)]
    record_property("histories", histories)
    assert found == []
    assert histories > 20


@pytest.mark.parametrize("actors", [("sweep", "sweep2"), ("duty", "read"), ("duty", "relink")], ids=" x ".join)
def test_no_order_of_two_does_harm(actors: tuple[str, ...], record_property: Callable[[str, object], None]) -> None:
    found = explore("rotated", registered, actors)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


def test_undisturbed_a_grant_comes_back_with_one_request_each_and_one_message() -> None:
    stage = begun("same", "registered, sweep")
    stage.act("sweep")
    stage.heal()
    assert [alert.kind for alert in stage.told] == [AlertKind.REISSUED]
    assert stage.wise.requests == 2
    assert check(stage.history()) == []
    assert unheard(stage) == []


def test_what_nobody_heard_of_is_found() -> None:
    stage = begun("same", "registered, sweep")
    stage.act("sweep")
    stage.heal()
    stage.told *= 2
    assert [wrong.split(":")[0] for wrong in unheard(stage)] == ["told more often than once"]
    stage.told.clear()
    assert "nobody heard of reissued" in unheard(stage)[0]
