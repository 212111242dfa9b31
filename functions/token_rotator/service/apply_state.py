"""Doing to the grants of an account what follows from its state at Wise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import Phase
from token_rotator.domain.state_change import Account, Subject
from token_rotator.domain.suspension import is_stopped_by, state_changed

from .journal import Trouble, UserDeactivated, UserReactivated
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.state_change import StateChange

    from .journal import Journal
    from .ports import GrantStore, StateStore


@dataclass(frozen=True, slots=True)
class ApplyState:
    """Suspends the grants of an account that Wise deactivated, and lets them go on when it is open again.

    Each grant knows the newest change that was applied to it, and is written under that condition: whoever is late, or
    comes twice, changes nothing. A change is settled only after all of its grants were written, and only if it is
    still the newest, so that whoever dies before leaves it due. A grant that cannot be read keeps no other waiting, and
    leaves it due as well. Nobody's lease is taken for it, as in `SuspendGrant`.
    """

    states: StateStore
    grants: GrantStore
    journal: Journal
    clock: Callable[[], datetime]

    def __call__(self, account: Account) -> None:
        """Apply what is kept of an account, if anything is. Raises what the stores raise; then it stays due."""
        while (change := self.states.look(account)) is not None:
            unread: CorruptGrant | None = None
            for key in sorted(self.states.holders(account)):
                try:
                    self._apply(key, change)
                except CorruptGrant as error:
                    self.journal.record(Trouble(key=key, code=error.code, detail="applying a state"))
                    unread = error
            if unread is not None:
                raise unread
            if self.states.settle(change):
                return

    def _apply(self, key: GrantKey, change: StateChange) -> None:
        stored = self.grants.get(key)
        while stored is not None:
            after = state_changed(stored, change, self.clock(), self._others(stored, change))
            if after is stored:
                return
            when = When(
                version=stored.version,
                phase=stored.phase,
                suspension=stored.suspension,
                user_rank=stored.user_rank,
                profile_rank=stored.profile_rank,
            )
            answer = self.grants.write(stored, after, when)
            if isinstance(answer, Done):
                self._tell(stored, after, change)
                return
            stored = answer.grant

    def _others(self, grant: Grant, change: StateChange) -> StateChange | None:
        """Look what is known of the grant's other account, where it makes a difference."""
        subject = change.account.subject
        if change.closes or not is_stopped_by(grant, subject):
            return None
        other, wise_id = Subject.PROFILE, grant.profile_id
        if subject is Subject.PROFILE:
            other, wise_id = Subject.USER, grant.wise_user_id
        return None if wise_id is None else self.states.look(Account(other, wise_id))

    def _tell(self, before: Grant, after: Grant, change: StateChange) -> None:
        if (before.phase is Phase.SUSPENDED) == (after.phase is Phase.SUSPENDED):
            return
        event = UserDeactivated if after.phase is Phase.SUSPENDED else UserReactivated
        self.journal.record(
            event(
                key=after.key,
                subject=change.account.subject.value,
                occurred_at=change.occurred_at,
                delivery_id=change.delivery_id,
            )
        )
