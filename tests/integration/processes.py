"""Processes that start together and each tell one thing at the end."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any, Final

_SPAWN: Final = multiprocessing.get_context("spawn")
PATIENCE_S: Final = 400
"""How long anybody waits for the others: long, for a machine may be busy. One that fails is noticed at once."""


def run_together(count: int, task: Callable[[int, Any, Barrier], object], subject: object) -> list[Any]:
    """Run `task(number, subject, barrier)` in `count` fresh processes; give what they return, in no order.

    The barrier is for all of them. Raises `AssertionError` as soon as one has failed; leaves none behind.
    """
    barrier = _SPAWN.Barrier(count)
    told: Any = _SPAWN.Queue()
    processes = [
        _SPAWN.Process(target=_run, args=(task, number, subject, barrier, told), daemon=True) for number in range(count)
    ]
    deadline = time.monotonic() + PATIENCE_S
    heard: list[Any] = []
    for process in processes:
        process.start()
    try:
        while len(heard) < count:
            try:
                heard.append(told.get(timeout=0.5))
            except queue.Empty:
                failed = [process.exitcode for process in processes if process.exitcode]
                assert not failed, f"a process failed: {failed}"
                assert time.monotonic() < deadline, "the processes took too long"
    finally:
        for process in processes:
            process.join(5 if len(heard) == count else 0)
            process.kill()
            process.join()
            process.close()
        told.close()
    return heard


def _run(task: Callable[[int, Any, Barrier], object], number: int, subject: Any, barrier: Barrier, told: Any) -> None:
    try:
        told.put(task(number, subject, barrier))
    except BaseException:
        barrier.abort()
        raise
