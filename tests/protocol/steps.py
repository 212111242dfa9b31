"""What a step is, what may go wrong at it, and who decides that it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from local.proof.history import Keeper


class Killed(BaseException):
    """The process is gone: nothing of it runs on, no handler included."""


READ = ("kill before", "fail", "time out")
WRITE = ("kill before", "kill after", "fail", "time out", "time out, done", "late", "done twice")
"""`done twice`: a copy of the write that was under way arrives when everybody has gone on."""
FAULTS: dict[str, tuple[str, ...]] = {
    "read": READ,
    "write": WRITE,
    "admit": ("kill before", "kill after", "fail", "time out, done"),
    "receive": ("kill before", "kill after", "fail", "time out, done"),
    "remove": ("kill before", "fail", "time out, done"),
    "park": WRITE,
    "key": ("kill before", "fail"),
    "send": ("kill before", "not sent", "pause"),
    "answer": (
        *("killed, done", "killed, late", "killed, never"),
        *("lost", "time out, done", "time out, never", "time out, late"),
        *("504, late", "fault", "fault, done", "throttled", "client refused"),
        *("outage 1 s", "outage 60 s", "outage of all 1 s", "outage of all 60 s"),
    ),
    "ask": ("kill before", "no answer", "time out"),
    "client": ("kill before", "no answer", "refused"),
    "topic": ("kill before", "kill after", "refused", "unknown", "unknown, done"),
    "invoke": ("refused", "lost"),
    "others": (),
}
"""What may go wrong at a step of each kind. To kill after a read is to kill before the next step: left out."""
OUTAGES: dict[str, tuple[tuple[Keeper, ...], float]] = {
    "outage 1 s": ((Keeper.TABLE,), 1),
    "outage 60 s": ((Keeper.TABLE,), 60),
    "outage of all 1 s": ((Keeper.TABLE, Keeper.QUEUE), 1),
    "outage of all 60 s": ((Keeper.TABLE, Keeper.QUEUE), 60),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a port: its kind, its name, and what it reads (`r`) and changes (`w`), by resource."""

    kind: str
    name: str
    touches: tuple[tuple[str, str], ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        return FAULTS[self.kind]


class Director(Protocol):
    """Decides what becomes of each step: "ok", or one of its faults."""

    def next(self, step: Step) -> str: ...


class Undisturbed:
    """Nothing goes wrong."""

    def next(self, step: Step) -> str:
        return "ok"


@dataclass
class Script:
    """Says by the kind of step what becomes of the next ones: a fault, or something that happens just before it."""

    plans: dict[str, list[str | Callable[[], None]]]

    def next(self, step: Step) -> str:
        plans = self.plans.get(step.kind)
        plan = plans.pop(0) if plans else "ok"
        if callable(plan):
            plan()
            return "ok"
        assert plan in ("ok", *step.faults), plan
        return plan


@dataclass
class Always:
    """The same fault at every step of a kind."""

    kind: str
    fault: str

    def next(self, step: Step) -> str:
        return self.fault if step.kind == self.kind else "ok"


@dataclass
class Once:
    """Counts the steps, and lets the ones that are named go wrong."""

    faults: dict[int, str] = field(default_factory=dict)
    taken: list[Step] = field(default_factory=list)

    def next(self, step: Step) -> str:
        self.taken.append(step)
        return self.faults.get(len(self.taken) - 1, "ok")
