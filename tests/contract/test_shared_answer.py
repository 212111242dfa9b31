"""One answer that many want at the same time and one asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from token_rotator.adapters.shared_answer import SharedAnswer

AMPLE_S = 10.0


class Questions:
    """Questions that are numbered, and answered when they are told to be."""

    def __init__(self) -> None:
        self.begun = 0
        self.held: list[threading.Event] = []

    def hold(self) -> threading.Event:
        """Keep the next question open until the event is set."""
        self.held.append(threading.Event())
        return self.held[-1]

    def ask(self) -> int:
        number = self.begun
        self.begun += 1
        if number < len(self.held):
            assert self.held[number].wait(AMPLE_S)
        return number + 1


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + AMPLE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def now_and(shared: SharedAnswer[int], questions: Questions, *, within: float = AMPLE_S) -> int | None:
    now = time.monotonic()
    return shared.get(questions.ask, since=now, until=now + within)


def test_each_who_comes_alone_asks_anew() -> None:
    shared, questions = SharedAnswer[int](time.monotonic), Questions()
    assert [now_and(shared, questions) for _ in range(3)] == [1, 2, 3]


def test_an_answer_serves_who_wanted_to_know_before_it_was_asked_for() -> None:
    shared, questions, early = SharedAnswer[int](time.monotonic), Questions(), time.monotonic()
    assert now_and(shared, questions) == 1
    assert shared.get(questions.ask, since=early, until=early) == 1
    assert questions.begun == 1


def test_two_questions_serve_all_who_come_while_the_first_is_open() -> None:
    shared, questions = SharedAnswer[int](time.monotonic), Questions()
    first, second = questions.hold(), questions.hold()
    with ThreadPoolExecutor(9) as pool:
        leader = pool.submit(now_and, shared, questions)
        wait_until(lambda: questions.begun == 1)
        came = threading.Barrier(9)

        def later() -> int | None:
            since = time.monotonic()
            came.wait(AMPLE_S)
            return shared.get(questions.ask, since=since, until=since + AMPLE_S)

        others = [pool.submit(later) for _ in range(8)]
        came.wait(AMPLE_S)
        first.set()
        assert leader.result(AMPLE_S) == 1
        wait_until(lambda: questions.begun == 2)
        second.set()
        assert [other.result(AMPLE_S) for other in others] == [2] * 8
    assert questions.begun == 2


def test_nobody_waits_past_his_time_and_the_answer_still_serves_others() -> None:
    shared, questions = SharedAnswer[int](time.monotonic), Questions()
    first, early = questions.hold(), time.monotonic()
    assert now_and(shared, questions, within=0.05) is None
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(shared.get, questions.ask, since=early, until=early + AMPLE_S)
        assert now_and(shared, questions, within=0.05) is None
        first.set()
        assert patient.result(AMPLE_S) == 1
    assert questions.begun == 1


def test_without_any_time_nothing_is_asked() -> None:
    shared, questions = SharedAnswer[int](time.monotonic), Questions()
    assert now_and(shared, questions, within=0) is None
    assert questions.begun == 0


def test_a_question_that_fails_has_no_answer_and_the_next_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, questions = SharedAnswer[int](time.monotonic), Questions()
    raised: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type))

    def fail() -> int:
        questions.begun += 1
        raise ZeroDivisionError

    now = time.monotonic()
    assert shared.get(fail, since=now, until=now + AMPLE_S) is None
    assert questions.begun == 1
    wait_until(lambda: raised == [ZeroDivisionError])
    assert now_and(shared, questions) == 2
