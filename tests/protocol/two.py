"""Two actors at once: every order of their steps, and every order with one fault, each told only once.

Each actor runs in a greenlet of its own, so exactly one runs at a time: at each step it goes back to the scheduler,
which goes on with whoever it chooses. Time stands still while anybody has a step to take, so that the actors' steps are
orderless in time; it moves on once everybody sleeps.

Two steps of different actors are independent if they touch nothing in common, or only read what they have in common,
and not both go wrong (the one fault can be had only once). What they touch: the grant's item, the fleet's item, the
parking queue, the topic, the user at Wise, our client at Wise; a call of the key service touches nothing. Which of
two independent steps comes first changes neither what follows nor what the checker reads: reads that may end in a
token being served, verdicts, and what others bring count as touching the user at Wise, since the checker compares
their places with what happens there. Of all orders that differ only in that, one is played: a step that was tried
before another one, and is independent of it, sleeps until something that it depends on has happened (sleep sets:
Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, 1996). `pruned` counts the sleepers: each
is at least one history that was left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from greenlet import greenlet

from tests.protocol.single import Explored, Scene
from tests.protocol.snapshot import Snapshot
from tests.protocol.stage import Actor, Stage
from tests.protocol.steps import OUTAGES, Step


class Abandoned(BaseException):
    """This history was told before: unwind."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One actor's next step, and what becomes of it. While it waits, the step stays the same."""

    player: int
    plan: str
    step: Step = field(compare=False)

    @property
    def touches(self) -> tuple[tuple[str, str], ...]:
        if self.plan in OUTAGES:
            return (*self.step.touches, ("item", "w"), ("fleet", "w"), ("queue", "w"))
        return self.step.touches

    def independent(self, other: Choice) -> bool:
        if self.player == other.player or (self.plan != "ok" and other.plan != "ok"):
            return False
        theirs = other.touches
        for what, how in self.touches:
            for other_what, other_how in theirs:
                if what == other_what and "w" in (how, other_how):
                    return False
        return True


@cache
def choices_of(player: int, step: Step, *, may_fail: bool) -> tuple[Choice, ...]:
    """What may become of an actor's next step."""
    return tuple(Choice(player, plan, step) for plan in (("ok", *step.faults) if may_fail else ("ok",)))


@dataclass
class Node:
    """A point at which the scheduler chose: what could be chosen, what sleeps, what was tried."""

    choices: list[Choice]
    sleeping: frozenset[Choice]
    tried: list[Choice] = field(default_factory=list)

    def untried(self) -> Choice | None:
        return next((c for c in self.choices if c not in self.tried and c not in self.sleeping), None)

    def sleepers_after(self, choice: Choice) -> frozenset[Choice]:
        earlier = self.tried[: self.tried.index(choice)]
        return frozenset(c for c in (*self.sleeping, *earlier) if c.independent(choice))


class Player:
    """An actor in its greenlet."""

    def __init__(self, scheduler: Scheduler, number: int, what: str) -> None:
        self.number = number
        self.what = what
        self.actor = Actor(what)
        self.step: Step | None = None
        self.plan = "ok"
        self.wakes_at: datetime | None = None
        self.done = False
        self.error: BaseException | None = None
        self.greenlet = greenlet(self._run)
        self.scheduler = scheduler

    def _run(self) -> None:
        stage = self.scheduler.stage
        try:
            if not self.scheduler.abandoned:
                with stage.acting(self.actor):
                    stage.perform(self.what)
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - told once all have unwound
            self.error = error
            self.scheduler.abandoned = True
        self.done = True


class Scheduler:
    """Plays one history: the choices of `path` first, then whatever was not tried. The stage's director meanwhile."""

    def __init__(self, stage: Stage, actors: tuple[str, ...], path: list[Node], *, faults: int, reduce: bool) -> None:
        self.stage = stage
        self.path = path
        self.depth = 0
        self.faults = faults
        self.reduce = reduce
        self.abandoned = False
        self.told: list[str] = []
        self.pruned = 0
        self.current: Player | None = None
        self.players = [Player(self, number, what) for number, what in enumerate(actors)]

    def play(self) -> bool:
        """Play it. False if it was told before."""
        stage = self.stage
        stage.director, stage.wise.swift, stage.clock.wait = self, True, self.wait
        while (chosen := self._pick()) is not None:
            chosen.greenlet.switch()
        stage.clock.wait = stage.clock.advance_by
        for player in self.players:
            if player.error is not None:
                raise player.error
        return not self.abandoned

    # --- in the players' greenlets

    def next(self, step: Step) -> str:
        """Wait until this step is chosen."""
        player = self._mine()
        player.step = step
        self.hand_over(player)
        return player.plan

    def wait(self, duration: timedelta) -> None:
        """Sleep while others go on."""
        player = self._mine()
        player.wakes_at = self.stage.clock.now + duration
        self.hand_over(player)

    def _mine(self) -> Player:
        assert self.current is not None
        return self.current

    def hand_over(self, player: Player) -> None:
        """Let whoever is chosen go on; come back once `player` is."""
        player.greenlet.parent.switch()
        if self.abandoned:
            raise Abandoned

    # --- choosing

    def _pick(self) -> Player | None:
        while True:
            left = [player for player in self.players if not player.done]
            if not left:
                self.current = None
                return None
            if self.abandoned:
                return self._let(left[0])
            for player in left:  # whoever has begun or woken goes on to its next step: nobody can see that
                if player.step is None and player.wakes_at is None:
                    return self._let(player)
            ready = [player for player in left if player.step is not None]
            if ready:
                choice = self._choose(ready)
                if choice is None:
                    self.abandoned = True
                    continue
                player = self.players[choice.player]
                player.step, player.plan = None, choice.plan
                self.faults -= choice.plan != "ok"
                self.told.append(
                    f"{player.what}.{choice.step.name}" + ("" if choice.plan == "ok" else f" [{choice.plan}]")
                )
                return self._let(player)
            self._pass_time(left)

    def _let(self, player: Player) -> Player:
        self.current = player
        self.stage.actor = player.actor
        return player

    def _pass_time(self, sleepers: list[Player]) -> None:
        clock = self.stage.clock
        clock.now = min(player.wakes_at for player in sleepers if player.wakes_at is not None)
        for player in sleepers:
            if player.wakes_at is not None and player.wakes_at <= clock.now:
                player.wakes_at = None

    def _choose(self, ready: list[Player]) -> Choice | None:
        if self.depth == len(self.path):
            self.path.append(self._node(ready))
        node = self.path[self.depth]
        replaying = self.depth < len(self.path) - 1 or bool(node.tried)
        choice = node.tried[-1] if replaying else node.untried()
        if choice is None:
            return None
        if not replaying:
            node.tried.append(choice)
        self.depth += 1
        return choice

    def _node(self, ready: list[Player]) -> Node:
        choices: list[Choice] = []
        for player in ready:
            assert player.step is not None
            choices += choices_of(player.number, player.step, may_fail=self.faults > 0)
        sleeping: frozenset[Choice] = frozenset()
        if self.reduce and self.path:
            above = self.path[-1]
            sleeping = above.sleepers_after(above.tried[-1])
        if sleeping:
            self.pruned += sum(choice in sleeping for choice in choices)
        return Node(choices, sleeping)


def explore(
    policy: str,
    scene: Scene,
    actors: tuple[str, ...],
    *,
    faults: int = 0,
    reduce: bool = True,
    begin: Callable[[str], Stage] = Stage,
    seen: Callable[[Stage, list[str]], None] = lambda _stage, _told: None,
    result: Explored | None = None,
) -> Explored:
    """Play every order of the actors' steps, with up to so many faults; `reduce` leaves out repetitions.

    `begin`: makes the stage, where that is not one of a user's grant.
    """
    result = result or Explored()
    path: list[Node] = []
    stage = begin(policy)
    scene(stage)
    start = Snapshot(stage)
    while True:
        start.restore()
        scheduler = Scheduler(stage, actors, path, faults=faults, reduce=reduce)
        complete = scheduler.play()
        result.pruned += scheduler.pruned
        if complete:
            stage.heal()
            seen(stage, scheduler.told)
            result.judge(stage, f"{policy}, {scene.__name__}: {', '.join(scheduler.told)}")
        while path and path[-1].untried() is None:
            path.pop()
        if not path:
            return result
        following = path[-1].untried()
        assert following is not None
        path[-1].tried.append(following)
