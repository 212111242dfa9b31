"""A history is the same whether its beginning was played for it or put back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from local.proof.history import History
from tests.protocol import test_application, test_other_credentials, test_others_hands, test_reissue, two
from tests.protocol.single import Scene, after_each_fault, begun, due, faulty_steps, in_doubt, parked
from tests.protocol.snapshot import Snapshot
from tests.protocol.stage import Stage
from tests.protocol.steps import Once
from tests.protocol.two import Choice, Node, Scheduler

FOLLOWING = ("report", "delete")
WAITS = (23.0,)
BEGINNINGS: dict[str, tuple[Callable[[], Stage], str]] = {
    "due, refresh": (lambda: begun("rotated", "due, refresh"), "refresh"),
    "parked, sweep": (lambda: begun("same", "parked, sweep"), "sweep"),
    "paused, read": (lambda: begun("omitted", "paused, read"), "read"),
    "registered, sweep": (lambda: test_reissue.begun("same", "registered, sweep"), "sweep"),
    "left on, report": (lambda: test_others_hands.begun("same", test_others_hands.left_on, "let_go"), "report"),
    "all held, release": (
        lambda: test_others_hands.begun("rotated", test_others_hands.all_held, "let_go"),
        "release_all",
    ),
    "judged, sweep": (lambda: test_others_hands.begun_known("same", test_others_hands.judged), "sweep"),
    "application": (lambda: test_application.begun("alone", "questioned, sweep"), "sweep"),
    "personal": (lambda: test_other_credentials.begun(test_other_credentials.told), "relink"),
}


def played_from_the_start(begin: Callable[[], Stage], actor: str) -> Iterator[History]:
    steps = Once()
    begin().act(actor, steps)
    for (at, fault), after, wait in itertools.product(faulty_steps(steps), FOLLOWING, WAITS):
        stage = begin()
        stage.act(actor, Once({at: fault}))
        stage.pass_time(wait)
        stage.act(after)
        stage.heal()
        yield stage.history()


@pytest.mark.parametrize("name", BEGINNINGS)
def test_histories_of_one_actor_are_those_of_stages_of_their_own(name: str) -> None:
    begin, actor = BEGINNINGS[name]
    stage = begin()
    put_back = (stage.history() for _ in after_each_fault(stage, actor, FOLLOWING, WAITS))
    pairs = list(zip(put_back, played_from_the_start(begin, actor), strict=True))
    assert len(pairs) > 10
    assert all(one == other for one, other in pairs)


@pytest.mark.parametrize(
    ("scene", "actors", "faults"),
    [(due, ("duty", "read"), 0), (parked, ("drain", "readopt"), 1), (in_doubt, ("sweep", "read"), 0)],
)
def test_histories_of_two_actors_are_those_of_stages_of_their_own(
    scene: Scene, actors: tuple[str, ...], faults: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[list[Choice]] = []
    ended: list[History] = []

    class Remembering(Scheduler):
        def play(self) -> bool:
            complete = super().play()
            if complete:
                chosen.append([node.tried[-1] for node in self.path])
            return complete

    monkeypatch.setattr(two, "Scheduler", Remembering)
    two.explore("rotated", scene, actors, faults=faults, seen=lambda stage, _: ended.append(stage.history()))
    pairs = list(zip(chosen, ended, strict=True))
    assert len(pairs) > 10
    for choices, history in pairs[:: len(pairs) // 20]:
        stage = Stage("rotated")
        scene(stage)
        path = [Node([choice], frozenset(), [choice]) for choice in choices]
        assert Scheduler(stage, actors, path, faults=faults, reduce=False).play()
        stage.heal()
        assert stage.history() == history


@dataclass
class Box:
    """Something of every kind that has a state."""

    items: list[object] = field(default_factory=lambda: [1])
    names: dict[str, object] = field(default_factory=lambda: {"a": 1, "b": 2})
    members: set[int] = field(default_factory=lambda: {1})
    nested: tuple[list[int], ...] = ([1], [2])
    look: Callable[[], object] | None = None


@dataclass(slots=True)
class Slotted:
    number: int = 1


def test_everything_is_put_back_in_its_place() -> None:
    box, hidden, slotted = Box(), [1], Slotted()
    box.look = lambda: (hidden, slotted)
    box.items.append(box)
    places = (box.items, box.names, box.members, box.nested)
    before = Snapshot(box)
    for _ in range(2):
        box.items.clear()
        del box.names["a"]
        box.names |= {"c": 3, "a": 1}
        box.members.add(2)
        box.nested[1].append(3)
        hidden.append(2)
        slotted.number = 2
        box.items, box.added = [], True  # type: ignore[attr-defined]
        before.restore()
        assert all(
            here is there for here, there in zip(places, (box.items, box.names, box.members, box.nested), strict=True)
        )
        assert box.items == [1, box]
        assert list(box.names.items()) == [("a", 1), ("b", 2)]
        assert box.members == {1}
        assert box.nested == ([1], [2])
        assert (hidden, slotted.number) == ([1], 1)
        assert not hasattr(box, "added")


def test_what_cannot_be_put_back_is_refused() -> None:
    with pytest.raises(TypeError, match="count"):
        Snapshot(Box(items=[itertools.count(1)]))
