"""A grant with a registration code, and what people hear of it: every step, every fault, the topic's among them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from local.proof.checker import check
from tests.protocol.alerts import unheard
from tests.protocol.single import Scene
from tests.protocol.stage import Stage
from tests.protocol.steps import Once
from tests.protocol.two import explore
from token_rotator.domain.grant import AlertKind

pytestmark = pytest.mark.no_cover  # counting lines would double the time; other tests cover them

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
    actor = STORIES[story][1]
    steps = Once()
    begun(policy, story).act(actor, steps)
    faults = [(at, fault) for at, step in enumerate(steps.taken) for fault in step.faults]
    found: list[str] = []
    histories = 0
    for (at, fault), after, wait in itertools.product(faults, NEXT, WAITS):
        stage, director = begun(policy, story), Once({at: fault})
        stage.act(actor, director)
        stage.pass_time(wait)
        stage.act(after)
        stage.heal()
        histories += 1
        told = f"{policy}: {story} [{fault} at {at} {director.taken[at].name}], {wait:.0f} s, {after}"
        found += [f"{told}: {violation}" for violation in check(stage.history())]
        found += [f"{told}: {wrong}" for wrong in unheard(stage, director)]
    record_property("histories", histories)
    assert found == []
    assert histories > 50


@pytest.mark.parametrize("story", ["registered, sweep", "reclaimed, sweep"])
def test_a_second_fault_at_the_topic_loses_nothing(story: str, record_property: Callable[[str, object], None]) -> None:
    actor = STORIES[story][1]
    first = Once()
    begun("rotated", story).act(actor, first)
    faults = [(at, fault) for at, step in enumerate(first.taken) for fault in step.faults]
    found: list[str] = []
    histories = 0
    for at, fault in faults:
        steps = Once()
        stage = begun("rotated", story)
        stage.act(actor, Once({at: fault}))
        stage.pass_time(40)
        stage.act("sweep", steps)
        topics = [number for number, step in enumerate(steps.taken) if step.kind == "topic"]
        for number in topics:
            for second in steps.taken[number].faults:
                directors = Once({at: fault}), Once({number: second})
                stage = begun("rotated", story)
                stage.act(actor, directors[0])
                stage.pass_time(40)
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
