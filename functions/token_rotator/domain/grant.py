"""A grant: one user's authorization of our Wise application, and everything the rotator keeps about it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .errors import InvalidInput

if TYPE_CHECKING:
    from datetime import datetime

    from .suspension import Suspension
    from .tokens import Sealed

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
SHARDS: Final = 16
"""How many partitions the index of due grants has: a constant of the stored format."""
SCHEMA: Final = 1
"""Version of the stored format that this code writes and reads."""


def checked_id(field: str, value: str) -> str:
    """Give back an id that is well formed, else raise `InvalidInput` that names `field`."""
    if not _ID.fullmatch(value) or ".." in value:
        raise InvalidInput(
            field,
            "must be 1 to 128 letters, digits, '.', '_' or '-', begin with a letter or digit and hold no '..'",
        )
    return value


@dataclass(frozen=True, slots=True, order=True)
class GrantKey:
    """Whose grant: the caller's own opaque ids. They appear in logs, so no names and no e-mail addresses."""

    tenant: str
    grant_id: str

    @classmethod
    def parse(cls, tenant: str, grant_id: str) -> GrantKey:
        """Make a key of what a caller sent. Raises `InvalidInput`."""
        return cls(checked_id("tenant", tenant), checked_id("grant_id", grant_id))

    def __str__(self) -> str:
        return f"{self.tenant}#{self.grant_id}"

    def fraction(self, salt: str) -> float:
        """Give a number in [0, 1) that is always the same for this key and salt: jitter without randomness."""
        digest = hashlib.sha256(f"{self}|{salt}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64

    @property
    def shard(self) -> int:
        """The partition of the due index, 0 to 15."""
        return int(self.fraction("due") * SHARDS)


class Phase(StrEnum):
    """Where in its life a grant is. What is stored but not named here is not servable."""

    ACTIVE = "active"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    SUSPENDED = "suspended"


class AlertKind(StrEnum):
    """What people are told about: the first two about one grant, the others about the whole deployment."""

    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    HELD = "held"
    """Wise refuses this grant in a way that says neither that it is dead nor that we are at fault."""
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    CLIENT_REFUSED = "client_refused"
    WE_ARE_WRONG = "we_are_wrong"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Alert:
    """What on-call still has to be told, or was told, about a grant or the whole deployment.

    `incident_id` is stable for one incident: receivers deduplicate by it. `claimed_until` keeps two publishers
    apart; `published_at` is set once SNS took the message.
    """

    incident_id: str
    kind: AlertKind
    reason: str
    raised_at: datetime
    attempt_id: str
    trace_id: str | None = None
    claimed_until: datetime | None = None
    published_at: datetime | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One grant as stored. Instants are aware UTC with millisecond resolution.

    A grant that was adopted without an access token has neither `access_token` nor its dates, and is due at once.
    `suspended_from` is the phase that a suspended one comes back to, `suspension` the order.
    """

    key: GrantKey
    phase: Phase
    refresh_token: Sealed
    version: int
    refresh_at: datetime
    created_at: datetime
    access_token: Sealed | None = None
    registration: Sealed | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    scope: str | None = None
    attempt_id: str | None = None
    lease_until: datetime | None = None
    in_doubt: str | None = None
    hold_until: datetime | None = None
    due_at: datetime | None = None
    failures: int = 0
    takeovers: int = 0
    last_error: str | None = None
    last_attempt_at: datetime | None = None
    alert: Alert | None = None
    suspended_from: Phase | None = None
    suspension: Suspension | None = None
    profile_id: str | None = None
    wise_user_id: str | None = None


def incident_of(grant: Grant, kind: AlertKind) -> str:
    """Name one incident of a grant: the same for whoever finds it, and new with each version."""
    return hashlib.sha256(f"{grant.key}|{grant.version}|{kind}".encode()).hexdigest()[:32]
