"""Grants in memory: `GrantStore`, `GrantRegistry`, `GrantList` and `DueIndex`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime

from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.lease import Lease
from token_rotator.domain.link import PendingTokens, waiting_key, waiting_under
from token_rotator.domain.state_change import StateChange, has_room
from token_rotator.service.ports import IGNORED, AlreadyHeld, Cause, Done, Page, Refused, Rejected, When

from .failing import Failing

_WANTED = tuple(field.name for field in fields(When))
_ATTRIBUTES = tuple(field.name for field in fields(Grant))


def holds(when: When, grant: Grant | None) -> bool:
    """Evaluate a condition over what is stored."""
    if grant is None:
        return False
    wanted = ((name, getattr(when, name)) for name in _WANTED)
    return all(value is IGNORED or getattr(grant, name) == value for name, value in wanted)


class InMemoryGrants(Failing):
    """One process's table. `writes` and `reads` count; `failures` is as in `Failing`."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[GrantKey, Grant] = {}
        self.profiles: dict[str, GrantKey] = {}
        self.pending: dict[str, PendingTokens] = {}
        """The tokens of links, which a grant is written together with."""
        self.users: dict[str, set[GrantKey]] = {}
        self.states: dict[GrantKey, tuple[StateChange, datetime | None]] = {}
        """What is kept of accounts at Wise, and since when it is due: the index holds these too."""
        self.writes = 0
        self.reads = 0
        self.before_write = lambda: None
        self._lock = threading.RLock()

    def get(self, key: GrantKey) -> Grant | None:
        with self._lock:
            self.reads += 1
            self._end(self._begin())
            return self.items.get(key)

    def _write(self, key: GrantKey, grant: Grant, *, ok: bool) -> Done | Refused:
        stored = self.items.get(key)
        self.writes += 1
        plan = self._begin()
        if ok:
            self.items[key] = grant
        self._end(plan)
        return Done(grant) if ok else Refused(stored)

    def acquire(self, key: GrantKey, lease: Lease, cause: Cause, now: datetime) -> Done | Refused:
        with self._lock:
            stored = self.items.get(key)
            if stored is None:
                self.writes += 1
                self._end(self._begin())
                return Refused(None)
            doubted = stored.in_doubt is not None and (stored.due_at is None or stored.due_at <= now)
            rejected = isinstance(cause, Rejected) and cause.version == stored.version
            ok = (
                stored.phase is Phase.ACTIVE
                and stored.attempt_id is None
                and ((stored.refresh_at <= now and stored.on_hold is None) or doubted or rejected)
            )
            if not ok:
                return self._write(key, stored, ok=False)
            due_at = now if isinstance(cause, Rejected) else stored.due_at
            after = replace(
                stored, attempt_id=lease.attempt_id, lease_until=lease.until, last_attempt_at=now, due_at=due_at
            )
            return self._write(key, after, ok=True)

    def write(self, before: Grant, after: Grant, when: When) -> Done | Refused:
        self.before_write()
        with self._lock:
            stored = self.items.get(before.key)
            ok = holds(when, stored)
            answer = self._write(before.key, merged(stored, before, after), ok=ok) if stored else self._missing()
            return Done(after) if isinstance(answer, Done) else answer

    def _missing(self) -> Refused:
        self.writes += 1
        self._end(self._begin())
        return Refused(None)

    def postpone(self, key: GrantKey, until: datetime, now: datetime) -> None:
        with self._lock:
            stored = self.items.get(key)
            if stored is not None and stored.due_at is not None and stored.due_at <= now:
                self._write(key, replace(stored, due_at=until), ok=True)
            change, due_at = self.states.get(key, (None, None))
            if change is not None and due_at is not None and due_at <= now:
                self.states[key] = (change, until)
            hashed = waiting_under(key)
            pending = None if hashed is None else self.pending.get(hashed)
            if pending is not None and pending.due_at is not None and pending.due_at <= now:
                self.pending[pending.hashed] = replace(pending, due_at=until)

    def begin(self, grant: Grant) -> None:
        with self._lock:
            self._write(grant.key, grant, ok=grant.key not in self.items)

    def doubt(self, key: GrantKey, attempt_id: str, due_at: datetime) -> None:
        with self._lock:
            stored = self.items.get(key)
            if stored is None:
                self._missing()
                return
            if stored.issued_at is not None and stored.issued_at > due_at:
                return
            after = replace(stored, in_doubt=attempt_id, due_at=due_at, version=stored.version + 1)
            self._write(key, after, ok=True)

    def stand_down(self, key: GrantKey, until: datetime, now: datetime, code: str) -> None:
        with self._lock:
            stored = self.items.get(key)
            free = stored is not None and stored.attempt_id is None and stored.in_doubt is None
            lives = stored is not None and stored.expires_at is not None and now < stored.expires_at
            if stored and free and lives and stored.phase is Phase.ACTIVE and stored.refresh_at <= now:
                self._write(key, replace(stored, refresh_at=until, last_error=code), ok=True)

    def create(self, grant: Grant, link: str | None = None) -> Done | Refused | AlreadyHeld:
        with self._lock:
            stored = self.items.get(grant.key)
            grant = self._placed(grant)
            if stored is not None:
                return Refused(stored)
            if self._spent(link):
                return Refused(None)
            if not self._claim(grant):
                return AlreadyHeld()
            return self._together(grant, link)

    def _together(self, grant: Grant, link: str | None) -> Done | Refused:
        """Write a grant, and spend a link's tokens for it."""
        self._listed(self.items.get(grant.key), grant)
        try:
            return self._write(grant.key, grant, ok=True)
        finally:
            if link is not None and self.items.get(grant.key) == grant:
                self.pending[link] = replace(
                    self.pending[link],
                    confirmed_version=grant.version,
                    access_token=None,
                    refresh_token=None,
                    due_at=None,
                )

    def _placed(self, grant: Grant) -> Grant:
        """Say of a grant whether it is listed for its user."""
        user = grant.wise_user_id
        return replace(grant, unlisted=user is not None and not has_room(self.users.get(user, ()), grant.key))

    def _listed(self, before: Grant | None, after: Grant | None) -> None:
        """List a grant among those of its user, and no longer among those of another."""
        for grant in (before, after):
            if grant is not None and grant.wise_user_id is not None and not grant.unlisted:
                of_user = self.users.setdefault(grant.wise_user_id, set())
                (of_user.add if grant is after else of_user.discard)(grant.key)
                if not of_user:
                    del self.users[grant.wise_user_id]

    def _spent(self, link: str | None) -> bool:
        if link is None:
            return False
        pending = self.pending.get(link)
        return pending is None or pending.confirmed_version is not None or pending.refresh_token is None

    def _claim(self, grant: Grant) -> bool:
        if grant.profile_id is None:
            return True
        return self.profiles.setdefault(grant.profile_id, grant.key) == grant.key

    def replace(self, before: Grant, after: Grant, when: When, link: str | None = None) -> Done | Refused | AlreadyHeld:
        with self._lock:
            stored = self.items.get(before.key)
            after = self._placed(after)
            if not holds(when, stored):
                return Refused(stored)
            if self._spent(link):
                return Refused(None)
            if before.profile_id is None and not self._claim(after):
                return AlreadyHeld()
            return self._together(merged(stored, before, after), link)

    def delete(self, grant: Grant, when: When) -> Done | Refused:
        with self._lock:
            stored = self.items.get(grant.key)
            if not holds(when, stored):
                return Refused(stored)
            del self.items[grant.key]
            self._listed(grant, None)
            if grant.profile_id is not None and self.profiles.get(grant.profile_id) == grant.key:
                del self.profiles[grant.profile_id]
            return Done(grant)

    def due(self, shards: Sequence[int], now: datetime, limit: int) -> Sequence[tuple[datetime, GrantKey]]:
        with self._lock:
            self._end(self._begin())
            found: dict[int, list[tuple[datetime, GrantKey]]] = {}
            for key, grant in self.items.items():
                if grant.due_at is not None and grant.due_at <= now and key.shard in shards:
                    found.setdefault(key.shard, []).append((grant.due_at, key))
            for key, (_, due_at) in self.states.items():
                if due_at is not None and due_at <= now and key.shard in shards:
                    found.setdefault(key.shard, []).append((due_at, key))
            for key, due_at in ((waiting_key(one.hashed), one.due_at) for one in self.pending.values()):
                if due_at is not None and due_at <= now and key.shard in shards:
                    found.setdefault(key.shard, []).append((due_at, key))
            return sorted(row for rows in found.values() for row in sorted(rows)[:limit])

    def page(self, tenant: str, limit: int, after: str | None) -> Page:
        with self._lock:
            mine = sorted(key.grant_id for key in self.items if key.tenant == tenant)
            left = [grant_id for grant_id in mine if after is None or grant_id > after]
            grants = [self.items[GrantKey(tenant, grant_id)] for grant_id in left[:limit]]
            rows = [(grant.key.grant_id, grant.phase.value, grant.created_at) for grant in grants]
            return Page(rows, rows[-1][0] if len(left) > limit else None)


def merged(stored: Grant | None, before: Grant, after: Grant) -> Grant:
    """Put only what differs between two views over what is stored, as an update of single attributes does."""
    if stored is None:
        return after
    if stored is before:
        return replace(after)  # as much a new one as any other
    views = ((name, getattr(before, name), getattr(after, name)) for name in _ATTRIBUTES)
    changes = {name: new for name, old, new in views if new is not old and new != old}
    return replace(stored, **changes)
