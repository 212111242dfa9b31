"""What happened in one run, as records that any world can write: fakes, emulators, the deployed stack.

Nothing here knows how the rotator works. Tokens appear by name (a hash), never by value. Times are true times: one
clock for the whole history, whatever the clocks of the parts showed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A place in the history: `order` says which of two came first, `at` how far apart they are."""

    order: int
    at: datetime

    def __str__(self) -> str:
        return self.at.strftime("%H:%M:%S.%f")[:-3]


def name_of(token: str) -> str:
    """Name a token: the beginning of its SHA-256, as the Wise emulator's log tells it in full."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Something that happened to a grant, or to all of them (`grant` is None)."""

    when: Moment
    grant: str | None


# --- what Wise did


class Kind(StrEnum):
    """Which of a grant's tokens."""

    ACCESS = "access"
    REFRESH = "refresh"
    APPLICATION = "application"
    """Of our application itself, for the client's credentials alone. A grant has no other, or none of these."""
    PERSONAL = "personal"
    """Made by a user in their own account, without an end: nothing renews it. As above."""


NEVER = datetime.max.replace(tzinfo=UTC)
"""When a token without an end expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted(Record):
    """Wise made a token. `request` is the refresh that did; None for one that the user was given otherwise."""

    token: str
    kind: Kind
    expires_at: datetime
    request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Died(Record):
    """A token died before its time.

    `request` is the refresh that replaced it, or the question about our client that did; None: Wise or the user ended
    it.
    """

    token: str
    request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived(Record):
    """A token that had died lives again: Wise has opened the account that it belongs to."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshBegan(Record):
    """A refresh, or a request for an application token to keep, arrived at Wise.

    `attempt` names the rotator's attempt; None: somebody else sent it.
    """

    request: str
    attempt: str | None
    presented: str | None = None
    """The refresh token that it came with, where Wise ever issued it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSettled(Record):
    """From now on the request can change nothing any more. `access` and `refresh` are valid after it."""

    request: str
    carried_out: bool
    access: str | None = None
    refresh: str | None = None


class Told(StrEnum):
    """What the sender of a refresh got to know."""

    TOKENS = "tokens"
    """The whole answer with the new tokens."""
    INVALID = "invalid"
    """Wise's word that the refresh token is dead; so nothing was carried out."""
    REFUSED = "refused"
    """Another answer of Wise's that says that nothing was carried out."""
    NOTHING = "nothing"
    """No answer, or one that leaves open whether it was carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshAnswered(Record):
    """What of the answer reached the sender."""

    request: str
    told: Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Questioned(Record):
    """The rotator asked Wise about our client, whose answer is an application token that nobody keeps.

    `grant` is that of the application's token, which the question may have ended. `ended`: when its answer was written
    or lost; None: not yet. `told`: Wise's answer reached the rotator. `noted`: the table took the note that the token
    may be dead; if not, that was on record as trouble, and a report or its half-life has to renew it.
    """

    request: str
    attempt: str
    ended: Moment | None = None
    told: bool = True
    noted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Record):
    """The rotator asked Wise whether an access token lives. `told`: the answer reached it."""

    token: str
    lives: bool
    told: bool = True


# --- what the rotator kept, served and announced

ACTIVE = "active"
REAUTHORIZATION_REQUIRED = "reauthorization_required"
FOREIGN_REFRESHER = "foreign_refresher"
SUSPENDED = "suspended"
GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(Record):
    """What the table holds from now on. Absent facts were not looked at; `lease` and `doubt` are only shown."""

    phase: str
    version: int | None = None
    access: str | None = None
    refresh: str | None = None
    reason: str | None = None
    lease: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked(Record):
    """The queue took an answer that the table would not take."""

    access: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Record):
    """A reader got a token. `looked`: when the rotator looked for the last time.

    Where that is not known, `looked` is when it was asked, which is the earliest, and `looked_by` the latest.
    """

    looked: Moment
    token: str
    version: int
    stable_until: datetime
    reader: str | None = None
    degraded: bool = False
    looked_by: Moment | None = None

    @property
    def knew_by(self) -> Moment:
        """The latest instant of which the rotator may have known what had happened."""
        return self.looked_by or self.looked


@dataclass(frozen=True, slots=True, kw_only=True)
class NotServed(Record):
    """A reader got no token."""

    looked: Moment
    why: str
    reader: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced(Record):
    """The topic took an alert."""

    kind: str
    incident_id: str
    reason: str | None = None


# --- what others did


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted(Record):
    """Somebody gave us tokens to keep, new or over what was there. `asked`: when they began to.

    `certain`: it took effect; if not, it may have. A personal token comes as `access`, alone.
    """

    asked: Moment
    refresh: str | None
    access: str | None = None
    replaced: bool = False
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(Record):
    """Somebody had a grant forgotten, or at least may have (`certain` is false)."""

    asked: Moment
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(Record):
    """A partner service said that Wise refused this version."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended(Record):
    """Somebody stopped the serving of a grant; or lets it go on (`lifted`). Each one's order stands by itself."""

    lifted: bool = False
    by: str = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(Record):
    """The rotator took down that Wise has closed the grant's account, and so ended its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHold(Record):
    """The rotator agreed not to refresh a grant, since somebody else does; or was asked to do so again (`lifted`)."""

    lifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shut(Record):
    """Wise refused all of a grant's tokens while its account was closed, though they live on.

    From `when` to `ended`; None: still.
    """

    ended: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted(Record):
    """Anything else that was done from outside: an operator's act, a revocation at Wise, a fault that was injected."""

    act: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDied(Record):
    """A process of the rotator's was gone. `attempts` that died with it; None: nobody knows which."""

    attempts: frozenset[str] | None = None


class Keeper(StrEnum):
    """What can keep an answer of Wise's."""

    TABLE = "table"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Record):
    """From `when` to `ended` (None: still) a keeper took no write at all."""

    keeper: Keeper
    ended: Moment | None = None


@dataclass(frozen=True, slots=True)
class History:
    """All records of one run in their order.

    `healed`: at the end there was no fault for so long that everything must have come right. `every_write`: each
    change of what is stored or parked is on record; otherwise only some, the last one of each grant among them.
    `seen_until`: when the recording of a grant ended, where that was before the others' end.
    """

    records: tuple[Record, ...]
    healed: bool = True
    every_write: bool = True
    ended_at: datetime | None = None
    seen_until: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def end(self) -> datetime | None:
        """When the recording ended: when the last thing happened, unless said otherwise."""
        return self.ended_at or (self.records[-1].when.at if self.records else None)

    def end_of(self, grant: str) -> datetime | None:
        """When the recording of a grant ended."""
        return self.seen_until.get(grant, self.end)

    def grants(self) -> list[str]:
        """The names of all grants, each once, by their first appearance."""
        return list(dict.fromkeys(record.grant for record in self.records if record.grant is not None))

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)


@dataclass(slots=True)
class Recorder:
    """Writes a history while it happens, in one process, from any thread."""

    clock: Callable[[], datetime]
    records: list[Record] = field(default_factory=list)
    _order: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def moment(self) -> Moment:
        """Take the next place in the order, at this instant."""
        with self._lock:
            self._order += 1
            return Moment(self._order, self.clock())

    def add(self, record: Record) -> None:
        """Take down a record. It belongs where its `when` says, which may be before later ones."""
        self.records.append(record)

    def history(self, *, healed: bool = True, every_write: bool = True) -> History:
        """Give the history so far."""
        records = tuple(sorted(self.records, key=lambda record: record.when.order))
        return History(records, healed=healed, every_write=every_write, ended_at=self.clock())
