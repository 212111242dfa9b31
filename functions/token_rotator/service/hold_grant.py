"""Serving without refreshing, for as long as somebody else refreshes: one grant, all of a tenant's, or everything."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from token_rotator.domain.errors import StoreUnavailable
from token_rotator.domain.suspension import CLOCKS, freed, held_everywhere_at, put_on_hold, released, released_until

from .adopt_grant import Declined, Patience
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.suspension import Suspension

    from .ports import GrantStore, SuspensionStore


@dataclass(frozen=True, slots=True)
class HoldGrant:
    """Puts a grant on hold, and releases it. Both answer alike however often they are asked for.

    Either waits while somebody works on the grant, so that no refresh is under way once it is on hold, and nobody asks
    about the token of one that was released meanwhile. The lease of a worker that is gone is taken from it: what it may
    have sent is a doubt. No token is touched, and Wise is not called.
    """

    grants: GrantStore
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]

    def __call__(self, key: GrantKey, order: Suspension) -> Grant | Declined:
        """Put it on hold. Raises what the store raises."""
        return self._changed(key, lambda grant, now: put_on_hold(grant, order, now))

    def release(self, key: GrantKey) -> Grant | Declined:
        """Release it. Raises what the store raises."""
        return self._changed(key, partial(released, budgets=self.budgets))

    def _changed(self, key: GrantKey, change: Callable[[Grant, datetime], Grant]) -> Grant | Declined:
        until = self.clock() + self.budgets.serve
        patience = Patience(self.grants, self.budgets, self.clock, self.sleep)
        while True:
            stored = patience.unheld(key, until)
            if isinstance(stored, Declined):
                return stored
            now = self.clock()
            rest = freed(stored, now, self.budgets)
            after = change(rest, now)
            if after is rest:
                return stored
            when = When(
                attempt_id=stored.attempt_id, version=stored.version, phase=stored.phase, in_doubt=stored.in_doubt
            )
            if isinstance(self.grants.write(stored, after, when), Done):
                return after


@dataclass(frozen=True, slots=True)
class HoldAll:
    """Puts all of a tenant's grants on hold, or everything (`None`), and releases them.

    The answer to an order comes when no refresh because of these grants is under way any more: each process knows the
    order by then, and what it had begun before is over. Repeating it waits for what is left of that.

    Either removes what of such orders is over by every process's clock, so that their item does not grow.
    """

    orders: SuspensionStore
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]

    def __call__(self, tenant: str | None, order: Suspension) -> Suspension:
        """Put them on hold; gives the order in force, which is the first one. Raises what the store raises."""
        stored = self.orders.hold(tenant, order)
        self._tidy_up()
        found = stored.held_environment if tenant is None else stored.held_tenants.get(tenant)
        in_force = order if found is None else found  # ended again at once: the answer is about what was asked for
        longest = held_everywhere_at(order, self.budgets) - order.since
        left = held_everywhere_at(in_force, self.budgets) - self.clock()
        if left.total_seconds() > 0:
            self.sleep(min(left, longest))
        return in_force

    def release(self, tenant: str | None) -> None:
        """Release them: what is due is refreshed once the last promise under the order is over. Raises as above."""
        self.orders.release(tenant, released_until(self.clock(), self.budgets))
        self._tidy_up()

    def _tidy_up(self) -> None:
        """Remove what is over. No order waits for that: the next one tries again."""
        with suppress(StoreUnavailable):
            self.orders.forget(self.clock() - CLOCKS)
