"""What was seen on our side: who asked for a token and got what, what was killed, what on-call heard."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

APPLICATION: Final = "#application"
"""What our application's own token is called beside the grants: its key in the table."""


def now_ms() -> int:
    """The machine's clock, epoch milliseconds: the same for every process of a run."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Tokens that were given to the rotator, by their SHA-256: a new grant, or in place of what a grant had."""

    tenant: str
    grant_id: str
    policy: str
    asked_ms: int
    answered_ms: int
    access: str
    refresh: str | None
    """None: a personal token, which is `access`."""
    version: int
    replaced: bool = False
    certain: bool = True
    """It took effect. If not, it may have: there was no answer, and another offer was made after it."""


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
    on_hold: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A reader told the API that Wise had refused a version that it was served. `at_ms`: before it did."""

    reader: str
    grant_id: str
    at_ms: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A reader's way from its first question to its end, over every `Retry-After`."""

    reader: str
    grant_id: str
    asked_ms: int
    ended_ms: int
    ended: str
    """`token`, the problem of a 409, or `nothing` where the run ended first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A Lambda process that got SIGKILL, and the attempts that died with it."""

    at_ms: int
    function: str
    attempts: tuple[str, ...]


class Did(StrEnum):
    """What somebody else did about a grant, at Wise or through the API."""

    HELD = "held"
    """It came on hold: from now on only the old refresher refreshes it."""
    RELEASED = "released"
    """Asked for at `asked_ms`, in force at `at_ms`."""
    FOREIGN = "foreign"
    """The old refresher refreshed it, although it had been released."""
    REVOKED = "revoked"
    """Its owner ended a personal token."""
    CLOSED = "closed"
    """Wise closed the account, which refuses its tokens from now on. They die, unless `survives`."""
    OPENED = "opened"
    STOPPED = "stopped"
    """The table said that the grant is suspended, and nobody had told us yet that its account is open again."""
    TOLD_OPEN = "told_open"
    """From `asked_ms` on the rotator may know that the account is open again."""
    RENEWED = "renewed"
    """Our client certificate was replaced in the secret."""
    REFUSED = "refused"
    """Wise refuses the old client certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One such thing. It happened between the two instants."""

    did: Did
    grant_id: str
    asked_ms: int
    at_ms: int
    survives: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One time that an event of Wise's was sent to us. `status` None: no answer."""

    at_ms: int
    grant_id: str
    event: str
    closes: bool
    occurred_ms: int
    status: int | None


@dataclass(frozen=True, slots=True)
class Heard:
    """An alert in on-call's queue."""

    at_ms: int
    alert: dict[str, Any]


Entry = Adoption | Ask | Rejection | Wait | Kill | Heard | Act | Delivered


@dataclass(slots=True)
class Ledger:
    """All of it. Lists only grow, one entry at a time, from any thread."""

    adoptions: list[Adoption] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    deliveries: list[Delivered] = field(default_factory=list)
    uses: list[tuple[str, int]] = field(default_factory=list)
    """Grant and status of each use of a token at Wise, as the reader saw it; 0: no answer."""
    application_attempts: list[str] = field(default_factory=list)
    """Attempts that were seen to hold the lease of our application's own token."""

    def add(self, entry: Entry) -> None:
        """Keep one."""
        lists: dict[type, list[Any]] = {
            Adoption: self.adoptions,
            Ask: self.asks,
            Rejection: self.rejections,
            Wait: self.waits,
            Kill: self.kills,
            Heard: self.heard,
            Act: self.acts,
            Delivered: self.deliveries,
        }
        lists[type(entry)].append(entry)

    def did(self, did: Did, grant_id: str, asked_ms: int, **more: bool) -> None:
        """Keep what was begun at `asked_ms` and is done now."""
        self.add(Act(did=did, grant_id=grant_id, asked_ms=asked_ms, at_ms=now_ms(), **more))

    def used(self, grant_id: str, status: int) -> None:
        """Keep one use."""
        self.uses.append((grant_id, status))

    def served(self) -> list[Ask]:
        """The questions that were answered with a token."""
        return [ask for ask in self.asks if ask.sha256 is not None]
