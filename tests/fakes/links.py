"""Links in memory: `LinkStore`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from token_rotator.domain.grant import GrantKey
from token_rotator.domain.link import Link, PendingTokens

from .failing import Failing
from .grants import InMemoryGrants

EMPTIED: Any = {"access_token": None, "refresh_token": None, "due_at": None}


class InMemoryLinks(Failing):
    """Beside the grants, since their tokens are spent together with a grant's write. `failures` is as in `Failing`."""

    def __init__(self, grants: InMemoryGrants) -> None:
        super().__init__()
        self.grants = grants
        self.links: dict[str, Link] = {}

    def begin(self, link: Link) -> None:
        plan = self._begin("begin")
        self.links.setdefault(link.hashed, link)
        self._end(plan)

    def look(self, hashed: str) -> Link | None:
        self._end(self._begin("look"))
        return self.links.get(hashed)

    def use(self, hashed: str, attempt_id: str, now: datetime) -> Link | None:
        plan = self._begin("use")
        link = self.links.get(hashed)
        if link is not None and link.used_at is None and link.ends_at > now:
            self.links[hashed] = replace(link, used_at=now, used_by=attempt_id)
        self._end(plan)
        return self.links.get(hashed)

    def keep(self, pending: PendingTokens) -> None:
        plan = self._begin("keep")
        self.grants.pending.setdefault(pending.hashed, pending)
        self._end(plan)

    def forget(self, hashed: str) -> None:
        plan = self._begin("forget")
        pending = self.grants.pending.get(hashed)
        if pending is not None:
            self.grants.pending[hashed] = replace(pending, **EMPTIED)
        self._end(plan)

    def drop(self, hashed: str, now: datetime) -> PendingTokens | None:
        plan = self._begin("drop")
        pending = self.grants.pending.get(hashed)
        dropped = None
        if pending is not None and pending.due_at is not None and pending.due_at <= now:
            dropped = self.grants.pending[hashed] = replace(pending, **EMPTIED)
        self._end(plan)
        return dropped

    def holder(self, profile_id: str) -> GrantKey | None:
        self._end(self._begin("holder"))
        return self.grants.profiles.get(profile_id)

    def pending(self, hashed: str) -> PendingTokens | None:
        self._end(self._begin("pending"))
        return self.grants.pending.get(hashed)
