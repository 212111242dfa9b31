"""What is no user's authorization: our application's own token beside others' questions, and personal tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local.proof.checker import check
from local.proof.history import Served
from tests.protocol.alerts import unheard
from tests.protocol.application import ApplicationStage
from tests.protocol.personal import PersonalStage
from tests.protocol.single import Plot, Scene, due, fresh, in_doubt
from tests.protocol.steps import Script
from tests.protocol.two import explore
from token_rotator.domain.grant import AlertKind, Phase

DAY_S = 86_400

# --- our application's own token: what one actor does alone is explored in a file of its own


def there(_: ApplicationStage) -> None:
    """It was asked for, and is there."""


def questioned(stage: ApplicationStage) -> None:
    """A reader has been promised something, and then Wise was asked about our client."""
    fresh(stage)
    stage.act("question")


PAIRS: list[tuple[str, Scene, tuple[str, ...]]] = [
    ("alone", due, ("duty", "duty2")),
    ("alone", due, ("duty", "read")),
    ("alone", due, ("duty", "report")),
    ("alone", due, ("duty", "question")),
    ("coexist", due, ("duty", "question")),
    ("alone", fresh, ("read", "question")),
    ("alone", fresh, ("report", "question")),
    ("alone", fresh, ("report", "report2")),
    ("alone", questioned, ("sweep", "read")),
    ("alone", questioned, ("sweep", "question")),
    ("alone", in_doubt, ("sweep", "question")),
]
PAIRS_AND_A_FAULT: list[tuple[str, Scene, tuple[str, ...]]] = [
    ("alone", fresh, ("read", "question")),
    ("alone", due, ("duty", "question")),
]


def ids(cases: list[tuple[str, Scene, tuple[str, ...]]]) -> list[str]:
    return [f"{policy}: {scene.__name__}, {' x '.join(actors)}" for policy, scene, actors in cases]


@pytest.mark.parametrize(("policy", "scene", "actors"), PAIRS, ids=ids(PAIRS))
def test_no_order_of_two_ends_with_a_dead_application_token(
    policy: str, scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = explore(policy, scene, actors, begin=ApplicationStage)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


@pytest.mark.parametrize(("policy", "scene", "actors"), PAIRS_AND_A_FAULT, ids=ids(PAIRS_AND_A_FAULT))
def test_two_and_a_fault_do_an_application_token_no_harm(
    policy: str, scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    found = explore(policy, scene, actors, faults=1, begin=ApplicationStage)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


@pytest.mark.parametrize("actors", [("read", "read2"), ("read", "question")], ids=" x ".join)
def test_whoever_asks_first_for_an_application_token_gets_one(
    actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    def nobody_has_asked(policy: str) -> ApplicationStage:
        return ApplicationStage(policy, absent=True)

    found = explore("alone", there, actors, begin=nobody_has_asked)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []


# --- personal tokens


def revoked(stage: PersonalStage) -> None:
    """A reader has it, and its owner has ended it."""
    fresh(stage)
    stage.act("revoke")


def told(stage: PersonalStage) -> None:
    """It was reported, and people were told."""
    revoked(stage)
    stage.act("report")
    stage.pass_time(60)


def unasked(stage: PersonalStage) -> None:
    """Whoever was to ask Wise about it was killed, and its lease has run out."""
    revoked(stage)
    stage.act("report", Script({"ask": ["kill before"]}))
    stage.pass_time(23)


def unasked_living(stage: PersonalStage) -> None:
    """The same, of one that lives."""
    fresh(stage)
    stage.act("report", Script({"ask": ["kill before"]}))
    stage.pass_time(23)


def old(stage: PersonalStage) -> None:
    """It is as old as it should get."""
    stage.pass_time(91 * DAY_S)


def stopped(stage: PersonalStage) -> None:
    """An operator has it suspended, and its owner has ended it."""
    fresh(stage)
    stage.act("suspend")
    stage.act("revoke")


STORIES: dict[str, tuple[Scene, str]] = {
    "fresh, report": (fresh, "report"),
    "fresh, renew": (fresh, "renew"),
    "revoked, report": (revoked, "report"),
    "revoked, relink": (revoked, "relink"),
    "told, relink": (told, "relink"),
    "told, sweep": (told, "sweep"),
    "unasked, sweep": (unasked, "sweep"),
    "unasked, read": (unasked, "read"),
    "unasked and living, sweep": (unasked_living, "sweep"),
    "old, sweep": (old, "sweep"),
    "stopped, lift": (stopped, "lift"),
}
NEXT = ("sweep", "report", "readopt", "relink", "revoke", "suspend", "delete")
WAITS = (23.0,)
BESIDE: list[tuple[Scene, tuple[str, ...]]] = [
    (revoked, ("report", "report2")),
    (revoked, ("report", "relink")),
    (fresh, ("report", "revoke")),
    (fresh, ("report", "renew")),
    (revoked, ("report", "suspend")),
    (unasked, ("sweep", "read")),
    (unasked, ("sweep", "relink")),
    (old, ("sweep", "sweep2")),
    (old, ("sweep", "relink")),
]


def begun(scene: Scene) -> PersonalStage:
    stage = PersonalStage()
    stage.at_rest = ("lift",)
    scene(stage)
    return stage


@pytest.mark.parametrize("story", STORIES)
def test_a_fault_does_a_personal_token_no_harm(story: str, record_property: Callable[[str, object], None]) -> None:
    scene, actor = STORIES[story]
    following = tuple(what for what in NEXT if (actor, what) != ("lift", "suspend"))  # the order of then still stands
    found = Plot(lambda: begun(scene), actor, following, WAITS, unheard).explore(story)
    record_property("histories", found.histories)
    assert found.violations == []
    assert found.histories > 20


@pytest.mark.parametrize(
    ("scene", "actors"), BESIDE, ids=[f"{scene.__name__}, {' x '.join(actors)}" for scene, actors in BESIDE]
)
def test_no_order_of_two_does_a_personal_token_harm(
    scene: Scene, actors: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    def prepared(stage: PersonalStage) -> None:
        stage.at_rest = ("lift",)
        scene(stage)

    lost: list[str] = []
    found = explore("same", prepared, actors, begin=PersonalStage, seen=lambda stage, _: lost.extend(unheard(stage)))
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations + lost == []


def test_a_dead_personal_token_is_told_once_and_never_asked_for() -> None:
    stage = begun(told)
    assert [alert.kind for alert in stage.told] == [AlertKind.REAUTHORIZATION_REQUIRED]
    assert stage.stored is not None
    assert stage.stored.phase is Phase.REAUTHORIZATION_REQUIRED
    stage.act("relink")
    stage.heal()
    assert [record.token for record in stage.history() if isinstance(record, Served)][-1] == "p2"
    assert [alert.kind for alert in stage.told][1:] == [AlertKind.RECOVERED]
    assert stage.wise.requests == 0
    assert check(stage.history()) == []


def test_what_would_be_asked_for_in_its_place_is_found() -> None:
    stage = begun(fresh)
    stage.wise._began("x", "nothing")
    assert "personal token" in str(check(stage.history(healed=False))[0])
