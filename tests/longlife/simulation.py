"""Virtual time for many processes: real threads, of which one runs at a time, in an order that never varies.

Whoever waits gives way to whatever comes first, so that months pass in seconds and two runs of one plan are the same.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self


class Killed(BaseException):
    """The process is gone: nothing of it runs on, no handler included."""


class Runner:
    """A thread that runs one task after the other; starting one for each would take most of the time."""

    idle: ClassVar[list[Runner]] = []

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.task: Task | None = None
        threading.Thread(target=self._run, daemon=True, name="longlife").start()

    @classmethod
    def of(cls, task: Task) -> Runner:
        runner = cls.idle.pop() if cls.idle else cls()
        runner.task = task
        return runner

    def _run(self) -> None:
        while True:
            self.gate.acquire()
            task, self.task = self.task, None
            if task is not None:
                task.run()
                self.idle.append(self)
                task.simulation.back.release()


class Task:
    """One thread of a process. It runs only while the simulation waits for it."""

    def __init__(self, simulation: Simulation, process: Process, work: Callable[[], Any], *, watched: bool) -> None:
        """`watched`: somebody takes its result; else an error of it is the simulation's."""
        self.simulation = simulation
        self.process = process
        self.work = work
        self.watched = watched
        self.over = False
        self.killed = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.ticket = 0
        self.waiters: list[Task] = []
        self.gate = Runner.of(self).gate

    def run(self) -> None:
        """Do the work, in the thread of a runner."""
        try:
            if self.process.alive:
                self.value = self.work()
            else:
                self.killed = True
        except Killed:
            self.killed = True
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is taken
            self.error = error
        self.over = True
        self.process.tasks.pop(self, None)
        for waiter in self.waiters:
            self.simulation.wake(waiter)

    # --- what `concurrent.futures.Future` offers, as far as it is used

    def done(self) -> bool:
        return self.over

    def result(self) -> Any:
        if not self.over:
            self.simulation.wait([self])
        if self.error is not None:
            raise self.error
        if self.killed:
            raise Killed
        return self.value


class Simulation:
    """The one true clock, and what is to happen when."""

    def __init__(self, start: datetime) -> None:
        self.now = start
        self.running: Task | None = None
        self.back = threading.Lock()
        self.back.acquire()
        self._events: list[tuple[datetime, int, Task | Callable[[], object], int]] = []
        self._serial = itertools.count()
        self._horizon = start

    def __call__(self) -> datetime:
        return self.now

    def at(self, instant: datetime, happen: Callable[[], object]) -> None:
        """Let something happen at an instant, at once where that has passed. It must not wait."""
        heapq.heappush(self._events, (max(instant, self.now), next(self._serial), happen, 0))

    def after(self, wait: timedelta, happen: Callable[[], object]) -> None:
        self.at(self.now + wait, happen)

    def wake(self, task: Task) -> None:
        """Let a waiting task go on at once."""
        heapq.heappush(self._events, (self.now, next(self._serial), task, task.ticket))

    def pool(self, max_workers: int, **_: object) -> Pool:
        """What stands for `ThreadPoolExecutor` in the module under test."""
        return Pool(self)

    # --- from outside

    def run(self, until: datetime, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until an instant, or until `stop` says so between two events."""
        self._horizon = until
        while self._events and self._events[0][0] <= until and not stop():
            at, _, what, ticket = heapq.heappop(self._events)
            self.now = max(self.now, at)
            if not isinstance(what, Task):
                what()
            elif what.ticket == ticket and not what.over:
                self._resume(what)
        if not stop():
            self.now = max(self.now, until)

    def _resume(self, task: Task) -> None:
        self.running = task
        task.gate.release()
        self.back.acquire()
        self.running = None
        if task.error is not None and not task.watched:
            raise task.error

    # --- from inside a task

    def pause(self, wait: timedelta) -> None:
        """Let time pass for the task that runs."""
        task = self._mine()
        wake_at = self.now + wait
        if wake_at <= self._horizon and (not self._events or self._events[0][0] > wake_at):
            self.now = wake_at
            return
        task.ticket += 1
        heapq.heappush(self._events, (wake_at, next(self._serial), task, task.ticket))
        self._give_way(task)

    def wait(self, tasks: Iterable[Task], timeout: timedelta | None = None, *, for_all: bool = True) -> None:
        """Wait until all of these tasks, or one, are over, or until the time is."""
        mine, tasks = self._mine(), list(tasks)
        ends = None if timeout is None else self.now + timeout
        enough = all if for_all else any
        while tasks and not enough(task.over for task in tasks) and (ends is None or self.now < ends):
            mine.ticket += 1
            for task in tasks:
                task.waiters.append(mine)
            if ends is not None:
                heapq.heappush(self._events, (ends, next(self._serial), mine, mine.ticket))
            self._give_way(mine)
            for task in tasks:
                task.waiters.remove(mine)

    def _mine(self) -> Task:
        assert self.running is not None, "only a task can wait"
        return self.running

    def _give_way(self, task: Task) -> None:
        self.back.release()
        task.gate.acquire()
        if not task.process.alive:
            raise Killed


@dataclass(eq=False)
class Process:
    """One process of one of our functions: its own clock, its threads, and its death."""

    simulation: Simulation
    name: str
    skew: timedelta
    alive: bool = True
    invocations: int = 0
    duty_ends: datetime | None = None
    tasks: dict[Task, None] = field(default_factory=dict)
    on_death: Callable[[], object] = lambda: None

    def clock(self) -> datetime:
        return self.simulation.now + self.skew

    def sleep(self, duration: timedelta) -> None:
        self.simulation.pause(max(duration, timedelta(0)))

    def start(self, work: Callable[[], Any], *, watched: bool = False) -> Task:
        """Run something in a thread of this process, from now on."""
        task = Task(self.simulation, self, work, watched=watched)
        self.tasks[task] = None
        self.simulation.wake(task)
        return task

    @property
    def idle(self) -> bool:
        return self.alive and not self.tasks

    def kill(self) -> None:
        """End it here and now: whatever its threads are about to do does not happen."""
        if not self.alive:
            return
        self.alive = False
        self.on_death()
        for task in list(self.tasks):
            if task is not self.simulation.running:
                self.simulation.wake(task)
        running = self.simulation.running
        if running is not None and running.process is self:
            raise Killed


class Pool:
    """`ThreadPoolExecutor` of the process that runs, in virtual time."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.submitted: list[Task] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.simulation.wait(self.submitted)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Task:
        """Start it at once: a sweep never has more in flight than it has workers, one drain aside."""
        running = self.simulation.running
        assert running is not None
        task = running.process.start(lambda: work(*arguments), watched=True)
        self.submitted.append(task)
        return task


def wait(
    tasks: Iterable[Task], timeout: float | None = None, return_when: str = "ALL_COMPLETED"
) -> tuple[list[Task], list[Task]]:
    """`concurrent.futures.wait`, in virtual time, and in the order of the tasks, so that it never varies."""
    tasks = list(tasks)
    if tasks:
        limit = None if timeout is None else timedelta(seconds=timeout)
        tasks[0].simulation.wait(tasks, limit, for_all=return_when == "ALL_COMPLETED")
    return [task for task in tasks if task.over], [task for task in tasks if not task.over]
