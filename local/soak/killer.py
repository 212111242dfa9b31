"""Kills Lambda processes at random moments, starts sweeps late and twice, and knows what died with a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .ledger import Kill, now_ms
from .table import GrantsTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

    from local.demo.stage import Stage
    from local.wise.truth import RequestTruth

    from .ledger import Ledger

_FUNCTIONS: Final = {"sweep": "SweepFunction", "refresh": "RefreshFunction"}
_FROZEN_S: Final = 0.3
"""How long a process stands still before it dies: another's commit takes less, so what is still open is its own."""
_BUSY_SHARE: Final = 0.5
_LOOKS_FOR_BUSY: Final = 40
_LOOK_EVERY_S: Final = 0.05
_AFTERWARDS_S: Final = 0.4
"""A call takes about this long: what was on its way may have been answered by then, or stored."""
_ATTEMPT_MS: Final = 8_000
_OK: Final = 200
_LISTENS: Final = "0100007F"
"""127.0.0.1 as Linux writes it."""


def ports_to(pid: int, port: int, proc: Path = Path("/proc")) -> set[int]:
    """The process's own ends of its connections to a port of this machine; none where there is no /proc."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(entry.readlink().name.removeprefix("socket:[").removesuffix("]"))
    found = set()
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "net" / "tcp").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[2] == f"{_LISTENS}:{port:04X}":
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def died_with(
    requests: Iterable[RequestTruth], ports: set[int], leases: Mapping[str, str], frozen_ms: int
) -> tuple[str, ...]:
    """Name the attempts that a process had in hand when it was frozen.

    Those whose request was on a connection of its own, and those whose answer had been delivered but not stored: after
    a while nobody else can still be at it. `leases`: the attempt that holds each grant, after that while.
    """
    attempts = set()
    for request in requests:
        attempt = request.correlation_id
        if attempt is None or request.grant_type not in ("refresh_token", "client_credentials"):
            continue
        holds = leases.get(request.user or "") == attempt
        if request.user is None:  # a new application token, or a question about our client that any attempt may ask
            holds = attempt in leases.values()
        on_the_way = request.client_port in ports and (request.end_ms is None or request.end_ms >= frozen_ms - 1_000)
        in_hand = (
            request.status == _OK
            and bool(request.delivered)
            and frozen_ms - _ATTEMPT_MS <= (request.end_ms or 0) <= frozen_ms + 100
            and holds
        )
        if on_the_way or in_hand:
            attempts.add(attempt)
    return tuple(sorted(attempts))


class Killer:
    """Works in a thread of its own until it is stopped."""

    def __init__(self, stage: Stage, ledger: Ledger, random: Random, every_s: float) -> None:
        self._stage = stage
        self._ledger = ledger
        self._random = random
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="killer", daemon=True)
        self._table = GrantsTable(stage)
        self._lambda = stage.emulator.client("lambda")
        self._port = int(stage.wise.url.rpartition(":")[2])
        self._seen = 0
        self._last = 0
        self.ticks = 0
        self.troubles: list[str] = []

    def tick(self) -> None:
        """Start a sweep beside the schedule's, as a late or doubled event would."""
        function = self._stage.stack.outputs["SweepFunction"]
        event = json.dumps({"shards": list(range(16))})
        self._lambda.invoke(FunctionName=function, InvocationType="Event", Payload=event)
        self.ticks += 1

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._stop.set()
        self._thread.join(30)

    def _work(self) -> None:
        next_kill = time.monotonic() + self._random.expovariate(1 / self._every_s)
        tick_at: float | None = None
        while not self._stop.wait(0.05):
            now = time.monotonic()
            try:
                if tick_at is not None and now >= tick_at:
                    tick_at = None
                    self.tick()
                if now >= next_kill and not self._anything_happened():
                    next_kill = now + 1
                elif now >= next_kill:
                    next_kill = now + self._random.expovariate(1 / self._every_s)
                    if self._kill() == "sweep":
                        tick_at = now + self._random.uniform(0.5, 15)
            except Exception as error:  # noqa: BLE001 - shown at the end; the run goes on
                self.troubles.append(f"{type(error).__name__}: {error}"[:200])

    def _anything_happened(self) -> bool:
        """Whether Wise was called since the last kill: where nothing gets on, there is nothing to kill."""
        seen = max((request.begin_seq for request in self._stage.control.requests(since=self._seen)), default=0)
        happened, self._last = seen > self._last, seen
        return happened

    def _victim(self) -> tuple[str, int] | None:
        """Draw a process: half of the time any one, half of the time one that is or just was talking to Wise."""
        function = self._random.choice(list(_FUNCTIONS))
        pids = sorted(self._stage.function_pids(_FUNCTIONS[function]))
        if self._random.random() < _BUSY_SHARE:
            for _ in range(_LOOKS_FOR_BUSY):
                pids = sorted(self._stage.function_pids(_FUNCTIONS[function]))
                busy = [pid for pid in pids if ports_to(pid, self._port)]
                if busy:
                    time.sleep(self._random.uniform(0, _AFTERWARDS_S))
                    return function, self._random.choice(busy)
                time.sleep(_LOOK_EVERY_S)
        return (function, self._random.choice(pids)) if pids else None

    def _kill(self) -> str | None:
        """Kill a process, if there is one; give its function."""
        victim = self._victim()
        if victim is None:
            return None
        function, pid = victim
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return None
        attempts: tuple[str, ...] = ()
        frozen_ms = now_ms()
        try:
            ports = ports_to(pid, self._port)
            time.sleep(_FROZEN_S)
            recent = self._recent(frozen_ms)
            attempts = died_with(recent, ports, self._table.leases(), frozen_ms)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._ledger.add(Kill(at_ms=now_ms(), function=function, attempts=attempts))
        return function

    def _recent(self, frozen_ms: int) -> list[RequestTruth]:
        """The requests at Wise that may still be in somebody's hand."""
        known = self._stage.control.requests(since=self._seen)
        old = [r for r in known if r.end_ms is not None and r.end_ms < frozen_ms - _ATTEMPT_MS - 1_000]
        self._seen = max((r.end_seq for r in old if r.end_seq is not None), default=self._seen)
        return known
