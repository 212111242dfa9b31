"""A grant: one user's authorization of our Wise application, and everything the rotator keeps about it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
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

    @classmethod
    def written(cls, tenant: str, grant_id: str) -> GrantKey:
        """Make a key of what we have written ourselves: as `parse`, and our application's own is one too."""
        return (
            APPLICATION
            if (tenant, grant_id) == (APPLICATION.tenant, APPLICATION.grant_id)
            else cls.parse(tenant, grant_id)
        )

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


APPLICATION: Final = GrantKey("", "application")
"""Where our application's own token is kept: beside the grants, under a key that no caller can name."""


class GrantKind(StrEnum):
    """What Wise knows the holder of an access token by, and so where the next one comes from."""

    USER = "user"
    """A user's authorization of our application: refreshed with its refresh token, or reissued."""
    APPLICATION = "application"
    """Our application itself: each token is issued anew for the client credentials."""
    PERSONAL = "personal"
    """A personal API token, made by hand at Wise: good until somebody revokes it there, and never refreshed."""


class Phase(StrEnum):
    """Where in its life a grant is. What is stored but not named here is not servable."""

    ACTIVE = "active"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    SUSPENDED = "suspended"


class AlertKind(StrEnum):
    """What people are told about: the first six about one grant, the others about the whole deployment."""

    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    HELD = "held"
    """Wise refuses this grant in a way that says neither that it is dead nor that we are at fault."""
    FOREIGN_REFRESHER = "foreign_refresher"
    """Somebody else refreshed it: its access token died before its time, and its refresh token still lives."""
    REISSUED = "reissued"
    """The refresh token died, and the registration code brought new tokens: nobody has to do anything."""
    REFRESH_TOKEN_EXPIRING = "refresh_token_expiring"
    PERSONAL_TOKEN_OLD = "personal_token_old"
    """A personal API token is as old as it should get: somebody makes another one at Wise."""
    MANY_GRANTS_DYING = "many_grants_dying"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    CLIENT_REFUSED = "client_refused"
    WE_ARE_WRONG = "we_are_wrong"
    CERTIFICATE_EXPIRING = "certificate_expiring"
    """The certificate that we show to Wise ends soon, or has ended."""
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Alert:
    """What on-call still has to be told, or was told, about a grant or the whole deployment.

    `incident_id` is stable for one incident: receivers deduplicate by it. `attempt_id` is absent where no attempt found
    it out. `claimed_until` keeps two publishers apart; `published_at` is set once SNS took the message. `remind_at`:
    when it is told once more if nothing has changed; `reminder`: it is being told once more. `ends` names incidents
    whose place this one takes before their own end was told.
    """

    incident_id: str
    kind: AlertKind
    reason: str
    raised_at: datetime
    attempt_id: str | None = None
    trace_id: str | None = None
    claimed_until: datetime | None = None
    published_at: datetime | None = None
    failures: int = 0
    remind_at: datetime | None = None
    reminder: bool = False
    ends: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether its end is still to be told: neither a message that says so, nor one that asks for nothing."""
        return self.kind not in (AlertKind.RECOVERED, AlertKind.REISSUED, AlertKind.FOREIGN_REFRESHER)

    def in_place_of(self, before: Alert | None) -> Alert:
        """Give this alert as what takes the place of another, of which nothing may get lost.

        What that one was about has ended, or become this; if it was not told yet, this message is the first that
        names it.
        """
        if before is None or (before.published_at is not None and not before.is_open):
            return self
        earlier = before.ends if before.published_at is None else ()
        named = dict.fromkeys((*earlier, before.incident_id, *self.ends))
        named.pop(self.incident_id, None)
        return replace(self, ends=tuple(named))

    def over(self, now: datetime, attempt_id: str | None) -> Alert | None:
        """Give the alert that says that this incident is over; what asks for no such end stays until it was told."""
        if not self.is_open:
            return self if self.published_at is None else None
        return Alert(
            incident_id=self.incident_id,
            kind=AlertKind.RECOVERED,
            reason=self.reason,
            raised_at=now,
            attempt_id=attempt_id,
            claimed_until=self.claimed_until if self.published_at is None else None,  # whoever tells it comes first
            ends=self.ends if self.published_at is None else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One grant as stored. Instants are aware UTC with millisecond resolution.

    A grant that was adopted without an access token has neither `access_token` nor its dates, and is due at once. One
    that begins with a registration code has no `refresh_token` until Wise has issued one. `registration_spent_at`: when
    Wise said that the code is worth nothing any more. `expiry_told`: the last instant before the refresh token's end
    at which a warning was due, and raised. `suspended_from` is the phase that a suspended one comes back to,
    `suspension` the order. `authorized_at`: when the authorization that the refresh token stems from was exchanged by a
    link, or imported; a refresh leaves it as it is. `unproven`: the access token came with an import, and Wise has not
    said yet that it lives. `replace_at`: when people are told that a personal token is old. `on_hold`: the order to
    serve the grant and not to refresh it, while somebody else still does. `foreign_at`: when on-call was last told
    that somebody does so without such an order. `user_rank`, `profile_rank`: the rank of the newest change of the
    user's, or the profile's, state at Wise that was done here what follows from. `unlisted`: so many grants name its
    `wise_user_id` that it is not found by it.
    """

    key: GrantKey
    phase: Phase
    version: int
    refresh_at: datetime
    created_at: datetime
    refresh_token: Sealed | None = None
    access_token: Sealed | None = None
    registration: Sealed | None = None
    registration_spent_at: datetime | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    expiry_told: datetime | None = None
    authorized_at: datetime | None = None
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
    unproven: bool = False
    unlisted: bool = False
    kind: GrantKind = GrantKind.USER
    replace_at: datetime | None = None
    on_hold: Suspension | None = None
    user_rank: int | None = None
    profile_rank: int | None = None
    foreign_at: datetime | None = None

    @property
    def reissuable(self) -> bool:
        """Whether new tokens may be had for a stored registration code."""
        return self.registration is not None and self.registration_spent_at is None


def incident_of(grant: Grant, kind: AlertKind, salt: str = "") -> str:
    """Name one incident of a grant: the same for whoever finds it, and new with each version and salt."""
    return hashlib.sha256(f"{grant.key}|{grant.version}|{kind}{salt}".encode()).hexdigest()[:32]
