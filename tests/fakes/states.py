"""States of accounts at Wise, in memory: `StateNotes` and `StateStore`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from token_rotator.domain.grant import GrantKey
from token_rotator.domain.state_change import Account, StateChange, Subject

from .failing import Failing
from .grants import InMemoryGrants


class InMemoryStates(Failing):
    """Beside the grants, since one index holds both. `failures` is as in `Failing`."""

    def __init__(self, grants: InMemoryGrants) -> None:
        super().__init__()
        self.grants = grants
        self.before_settle = lambda: None

    def note(self, change: StateChange, now: datetime) -> bool:
        plan = self._begin("note")
        kept, due_at = self.grants.states.get(change.account.key, (None, None))
        news = kept is None or change.rank > kept.rank
        if news:
            before = due_at is not None and kept is not None and (kept.closes or kept.was_closed)
            closed = (change.was_closed or before) and not change.closes
            self.grants.states[change.account.key] = (replace(change, was_closed=closed), now)
        self._end(plan)
        return news

    def look(self, account: Account) -> StateChange | None:
        self._end(self._begin("look"))
        return self.grants.states.get(account.key, (None, None))[0]

    def holders(self, account: Account) -> frozenset[GrantKey]:
        self._end(self._begin("holders"))
        if account.subject is Subject.USER:
            return frozenset(self.grants.users.get(account.wise_id, ()))
        holder = self.grants.profiles.get(account.wise_id)
        return frozenset() if holder is None else frozenset({holder})

    def settle(self, change: StateChange) -> bool:
        self.before_settle()
        plan = self._begin("settle")
        kept, _ = self.grants.states.get(change.account.key, (None, None))
        same = kept is not None and kept.rank == change.rank
        if kept is not None and same:
            self.grants.states[change.account.key] = (replace(kept, was_closed=False), None)
        self._end(plan)
        return same
