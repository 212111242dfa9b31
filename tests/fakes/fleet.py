"""The fleet's state in memory: `FleetStore`."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from token_rotator.domain.fleet import Fleet, Lane
from token_rotator.service.ports import Admitted, Paced

from .failing import Failing


class InMemoryFleet(Failing):
    """One deployment's item. `reads`, `writes` and `admissions` count; `failures` is as in `Failing`."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.booked: dict[str, datetime] = {}
        """Until when each lane's calls are used up, by its name."""
        self.reads = 0
        self.writes = 0
        self.admissions = 0
        self.deaths: Counter[int] = Counter()
        """How many grants died in each minute since the epoch."""
        self.before_write = lambda: None
        self._lock = threading.RLock()

    def read(self) -> Fleet:
        with self._lock:
            self.reads += 1
            self._end(self._begin())
            return self.fleet

    def write(self, before: Fleet, after: Fleet) -> Fleet | None:
        self.before_write()
        with self._lock:
            self.writes += 1
            plan = self._begin()
            ok = self.fleet.revision == before.revision
            if ok:
                self.fleet = replace(after, revision=before.revision + 1)
            self._end(plan)
            return self.fleet if ok else None

    def count_death(self, now: datetime, within: timedelta) -> int:
        with self._lock:
            self.writes += 1
            plan = self._begin()
            minute = int(now.timestamp()) // 60
            self.deaths[minute] += 1
            self._end(plan)
            oldest = minute - within // timedelta(minutes=1)
            return sum(count for moment, count in self.deaths.items() if moment > oldest)

    def admit(self, lane: Lane, calls: int, now: datetime) -> Admitted | Paced | Fleet:
        if not 1 <= calls <= lane.burst:
            msg = f"the lane {lane.name} admits 1 to {lane.burst} calls at once"
            raise ValueError(msg)
        with self._lock:
            self.admissions += 1
            plan = self._begin()
            answer = self._admitted(lane, calls, now)
            self._end(plan)
            return answer

    def _admitted(self, lane: Lane, calls: int, now: datetime) -> Admitted | Paced | Fleet:
        if self.fleet.open_until is not None:
            return self.fleet
        booked = max(self.booked.get(lane.name, now), now) + lane.worth(calls)
        until = booked - lane.worth(lane.burst)
        if until > now:
            return Paced(until)
        self.booked[lane.name] = booked
        return Admitted()
