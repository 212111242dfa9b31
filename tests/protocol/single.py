"""One actor meets a fault at one of its steps, something else comes next, and then everything heals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from local.proof.checker import check
from tests.protocol.snapshot import Snapshot
from tests.protocol.stage import Stage
from tests.protocol.steps import Once, Script

POLICIES = ("same", "rotated", "omitted")
NEXT = ("sweep", "read", "report", "readopt", "delete", "revoke")
WAITS = {"rotated": (0.0, 23.0, 60.0), "same": (0.0, 23.0), "omitted": (23.0,)}
"""How long until the next one comes: at once, when the lease has run out, when an outage is over too.

Where Wise replaces the refresh token a lost answer costs most: there most waits are played.
"""
WAITS_IN_RECOVERY = {"rotated": (0.0, 23.0), "same": (23.0,), "omitted": (0.0,)}


class Enough(Exception):
    """What was looked for is found."""


@dataclass
class Explored:
    """How many histories were played, how many were left out as repetitions, and what was wrong.

    `wanted`: a violation with this in it is enough.
    """

    histories: int = 0
    pruned: int = 0
    violations: list[str] = field(default_factory=list)
    wanted: str | None = None

    def judge(self, stage: Stage, story: str) -> None:
        self.histories += 1
        self.violations += [f"{story}: {violation}" for violation in check(stage.history())]
        if self.wanted is not None and any(self.wanted in violation for violation in self.violations):
            raise Enough


# --- how a story begins


def due(stage: Stage) -> None:
    """The grant is due."""
    stage.due_now()


def fresh(stage: Stage) -> None:
    """It is not, and a reader has been promised something."""
    stage.pass_time(600)
    stage.act("read")


def ended(stage: Stage) -> None:
    """Wise has ended the access token that a reader has."""
    fresh(stage)
    stage.act("end_token")


def in_doubt(stage: Stage) -> None:
    """A worker was killed after it had sent, nobody knows what became of it, and its lease has run out."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, done"]}))
    stage.pass_time(23)


def untouched(stage: Stage) -> None:
    """As before, but Wise never carried it out."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, never"]}))
    stage.pass_time(23)


def parked(stage: Stage) -> None:
    """An answer lies in the queue, since the table took no writes; whoever put it there was killed then."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["outage 60 s"], "park": ["kill after"]}))
    stage.pass_time(62)


def revoked(stage: Stage) -> None:
    """The user has ended the authorization at Wise, and it is due."""
    stage.due_now()
    stage.act("revoke")


def paused(stage: Stage) -> None:
    """Wise has just told us to slow down, the pause is over, and the grant is due."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["throttled"]}))
    stage.due_now()
    stage.pass_time(20)


Scene = Callable[[Any], None]

ADVANCING: dict[str, tuple[Scene, str]] = {
    "due, sweep": (due, "sweep"),
    "due, refresh": (due, "refresh"),
    "due, read": (due, "read"),
    "fresh, report": (fresh, "report"),
    "ended, report": (ended, "report"),
    "due, readopt": (due, "readopt"),
    "due, delete": (due, "delete"),
}
RECOVERING: dict[str, tuple[Scene, str]] = {
    "in doubt, sweep": (in_doubt, "sweep"),
    "in doubt, read": (in_doubt, "read"),
    "untouched, sweep": (untouched, "sweep"),
    "parked, sweep": (parked, "sweep"),
    "parked, read": (parked, "read"),
    "revoked, sweep": (revoked, "sweep"),
    "paused, sweep": (paused, "sweep"),
    "paused, read": (paused, "read"),
}
STORIES = ADVANCING | RECOVERING
"""How a story begins, and who then meets a fault."""


def begun(policy: str, story: str) -> Stage:
    scene, _ = STORIES[story]
    stage = Stage(policy)
    scene(stage)
    return stage


def faulty_steps(steps: Once) -> list[tuple[int, str]]:
    """Every step that was taken undisturbed, and every fault of each: before it nothing differs."""
    return [(at, fault) for at, step in enumerate(steps.taken) for fault in step.faults]


def after_each_fault(
    stage: Stage, actor: str, following: Sequence[str], waits: Sequence[float]
) -> Iterator[tuple[str, Once]]:
    """Play one fault, then everything that may come next, after every wait: give each history, once it has healed.

    The stage has begun. It is the same for all histories, and the next one is played on it.
    """
    start, steps = Snapshot(stage), Once()
    stage.act(actor, steps)
    for at, fault in faulty_steps(steps):
        start.restore()
        director = Once({at: fault})
        stage.act(actor, director)
        met = Snapshot(stage)
        for after, wait in itertools.product(following, waits):
            met.restore()
            stage.pass_time(wait)
            stage.act(after)
            stage.heal()
            yield f"[{fault} at {at} {director.taken[at].name}], {wait:.0f} s, {after}", director


def explore_one(policy: str, story: str, result: Explored | None = None) -> Explored:
    """One fault, then everything that may come next, after every wait."""
    result = result or Explored()
    stage, actor = begun(policy, story), STORIES[story][1]
    waits = (WAITS if story in ADVANCING else WAITS_IN_RECOVERY)[policy]
    for told, _ in after_each_fault(stage, actor, NEXT, waits):
        result.judge(stage, f"{policy}: {story} {told}")
    return result


@dataclass(frozen=True)
class Plot:
    """A story of its own kind: how it begins, who meets a fault, and what may come next after which waits.

    `wrong`: what the checker does not look at.
    """

    begin: Callable[[], Stage]
    actor: str
    following: tuple[str, ...]
    waits: tuple[float, ...]
    wrong: Callable[..., list[str]] = lambda *_: []

    def explore(self, name: str, result: Explored | None = None) -> Explored:
        """One fault, then everything that may come next, after every wait."""
        result = result or Explored()
        stage = self.begin()
        for told, director in after_each_fault(stage, self.actor, self.following, self.waits):
            result.violations += [f"{name} {told}: {wrong}" for wrong in self.wrong(stage, director)]
            result.judge(stage, f"{name} {told}")
        return result


def explore_two(policy: str, story: str, following: str, wait: float) -> Explored:
    """A fault in the first actor, and one in whoever comes next."""
    result = Explored()
    stage, actor, steps = begun(policy, story), STORIES[story][1], Once()
    start = Snapshot(stage)
    stage.act(actor, steps)
    for at, fault in faulty_steps(steps):
        start.restore()
        stage.act(actor, Once({at: fault}))
        stage.pass_time(wait)
        met, second = Snapshot(stage), Once()
        stage.act(following, second)
        for second_at, second_fault in faulty_steps(second):
            met.restore()
            stage.act(following, Once({second_at: second_fault}))
            stage.heal()
            result.judge(
                stage,
                f"{policy}: {story} [{fault} at {at}], {wait:.0f} s, {following} [{second_fault} at {second_at}]",
            )
    return result
