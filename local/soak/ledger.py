"""What was seen on our side: who asked for a token and got what, what was killed, what on-call heard."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


def now_ms() -> int:
    """The machine's clock, epoch milliseconds: the same for every process of a run."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A grant that was given to the rotator, its tokens by their SHA-256."""

    tenant: str
    grant_id: str
    policy: str
    asked_ms: int
    answered_ms: int
    access: str
    refresh: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question of a reader's and its answer. `status` 0: there was none."""

    reader: str
    grant_id: str
    asked_ms: int
    answered_ms: int
    status: int
    sha256: str | None = None
    version: int = 0
    stable_until_ms: int = 0
    degraded: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A reader's way from its first question to its end, over every `Retry-After`."""

    reader: str
    grant_id: str
    asked_ms: int
    ended_ms: int
    ended: str
    """`token`, `reauthorization-required`, or `nothing` where the run ended first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A Lambda process that got SIGKILL, and the attempts that died with it."""

    at_ms: int
    function: str
    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """An alert in on-call's queue."""

    at_ms: int
    alert: dict[str, Any]


@dataclass(slots=True)
class Ledger:
    """All of it. Lists only grow, one entry at a time, from any thread."""

    adoptions: list[Adoption] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    uses: list[tuple[str, int]] = field(default_factory=list)
    """Grant and status of each use of a token at Wise, as the reader saw it; 0: no answer."""

    def add(self, entry: Adoption | Ask | Wait | Kill | Heard) -> None:
        """Keep one."""
        lists: dict[type, list[Any]] = {
            Adoption: self.adoptions,
            Ask: self.asks,
            Wait: self.waits,
            Kill: self.kills,
            Heard: self.heard,
        }
        lists[type(entry)].append(entry)

    def used(self, grant_id: str, status: int) -> None:
        """Keep one use."""
        self.uses.append((grant_id, status))

    def served(self) -> list[Ask]:
        """The questions that were answered with a token."""
        return [ask for ask in self.asks if ask.sha256 is not None]
