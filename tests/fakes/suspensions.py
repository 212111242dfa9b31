"""What is suspended, in memory: `SuspensionStore`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from token_rotator.domain.suspension import Suspension, Suspensions

from .failing import Failing


class InMemorySuspensions(Failing):
    """One deployment's item. `reads` counts; `failures` is as in `Failing`."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Suspensions()
        self.reads = 0
        self._lock = threading.RLock()

    def read(self) -> Suspensions:
        with self._lock:
            self.reads += 1
            self._end(self._begin())
            return self.stored

    def suspend(self, tenant: str | None, order: Suspension) -> Suspensions:
        with self._lock:
            plan = self._begin()
            if tenant is None:
                self.stored = replace(self.stored, environment=self.stored.environment or order)
            else:
                self.stored = replace(self.stored, tenants={tenant: order, **self.stored.tenants})
            self._end(plan)
            return self.stored

    def hold(self, tenant: str | None, order: Suspension) -> Suspensions:
        return self._hold(tenant, lambda before: order if before is None or before.until else before)

    def release(self, tenant: str | None, until: datetime) -> Suspensions:
        return self._hold(tenant, lambda before: replace(before, until=before.until or until) if before else None)

    def forget(self, before: datetime) -> None:
        with self._lock:
            plan = self._begin()
            ended = self.stored.ended(before)
            left = {name: order for name, order in self.stored.held_tenants.items() if name not in ended}
            everywhere = None if None in ended else self.stored.held_environment
            self.stored = replace(self.stored, held_tenants=left, held_environment=everywhere)
            self._end(plan)

    def _hold(self, tenant: str | None, change: Callable[[Suspension | None], Suspension | None]) -> Suspensions:
        with self._lock:
            plan = self._begin()
            held = dict(self.stored.held_tenants)
            after = change(self.stored.held_environment if tenant is None else held.get(tenant))
            if tenant is None:
                self.stored = replace(self.stored, held_environment=after)
            elif after is not None:
                self.stored = replace(self.stored, held_tenants={**held, tenant: after})
            self._end(plan)
            return self.stored

    def lift(self, tenant: str | None) -> Suspensions:
        with self._lock:
            plan = self._begin()
            if tenant is None:
                self.stored = replace(self.stored, environment=None)
            else:
                left = {name: order for name, order in self.stored.tenants.items() if name != tenant}
                self.stored = replace(self.stored, tenants=left)
            self._end(plan)
            return self.stored
