"""Stopping one grant, and letting it go on. Nobody's lease is taken for it, and nothing that is under way is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.domain.suspension import lifted, may_lift, suspended

from .adopt_grant import Declined
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.suspension import Suspension

    from .ports import GrantStore


@dataclass(frozen=True, slots=True)
class SuspendGrant:
    """Suspends a grant, and lifts that. Both answer alike however often they are asked for.

    The write depends on phase and version, and on no lease: whoever is refreshing goes on, and stores what Wise
    answers without touching the phase. From the write on nobody serves the grant or begins a refresh of it.
    """

    grants: GrantStore
    clock: Callable[[], datetime]

    def __call__(self, key: GrantKey, order: Suspension) -> Grant | Declined:
        """Suspend it. Raises what the store raises."""
        return self._changed(key, lambda grant: suspended(grant, order))

    def lift(self, key: GrantKey, *, operator: bool = False) -> Grant | Declined:
        """Lift it, as an `operator` or not. Raises what the store raises."""
        return self._changed(
            key,
            lambda grant: (
                lifted(grant, self.clock()) if may_lift(grant, operator=operator) else Declined.OPERATORS_ORDER
            ),
        )

    def _changed(self, key: GrantKey, change: Callable[[Grant], Grant | Declined]) -> Grant | Declined:
        stored = self.grants.get(key)
        while stored is not None:
            after = change(stored)
            if isinstance(after, Declined) or after is stored:
                return after
            answer = self.grants.write(
                stored, after, When(version=stored.version, phase=stored.phase, suspension=stored.suspension)
            )
            if isinstance(answer, Done):
                return after
            stored = answer.grant
        return Declined.NOT_FOUND
