"""One value that many use and one at a time makes anew."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from token_rotator.adapters.shared_value import SharedValue
from token_rotator.domain.errors import KeyUnavailable


def test_it_is_made_once_for_many_and_again_when_it_is_used_up() -> None:
    made: list[int] = []
    uses: list[int] = []

    def make(before: int | None) -> int:
        made.append(before or 0)
        return len(made)

    def usable(value: int) -> bool:
        uses.append(value)
        return uses.count(value) <= 10

    shared = SharedValue(make, usable)
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: shared.get(), range(20)))
    assert sorted(values) == [1] * 10 + [2] * 10
    assert made == [0, 1]


def test_who_can_use_the_old_value_does_not_wait_for_a_new_one() -> None:
    started, go_on = threading.Event(), threading.Event()
    usable = [True]

    def make(before: int | None) -> int:
        if before is not None:
            started.set()
            go_on.wait(10)
        return 1 if before is None else 2

    shared = SharedValue(make, lambda value: usable[0] or value == 2)
    assert shared.get() == 1
    usable[0] = False
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(shared.get)
        assert started.wait(10)
        assert shared.last() == 1
        go_on.set()
        assert slow.result(10) == 2


def test_who_waited_for_a_failure_takes_it_for_an_answer_and_who_comes_later_tries_again() -> None:
    calls: list[float] = []
    all_wait = threading.Event()

    def make(_: int | None) -> int:
        calls.append(time.monotonic())
        all_wait.wait(10)
        raise KeyUnavailable("injected")

    shared: SharedValue[int] = SharedValue(make, lambda _: True)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(shared.get) for _ in range(8)]
        time.sleep(0.2)
        all_wait.set()
        for one in waiting:
            with pytest.raises(KeyUnavailable):
                one.result(10)
    assert len(calls) == 1
    with pytest.raises(KeyUnavailable):
        shared.get()
    assert len(calls) == 2
    assert shared.last() is None


def test_what_was_forgotten_is_made_as_if_there_had_never_been_one() -> None:
    made: list[int | None] = []

    def make(before: int | None) -> int:
        made.append(before)
        return len(made)

    shared = SharedValue(make, lambda _: True)
    assert shared.get() == 1
    shared.forget()
    assert shared.last() == 1
    assert shared.get() == 2
    assert made == [None, None]


def test_what_is_put_is_used_until_it_is_used_up() -> None:
    usable = [True]
    shared: SharedValue[int] = SharedValue(lambda before: (before or 0) + 1, lambda _: usable[0])
    shared.put(7)
    assert shared.get() == shared.last() == 7
    shared.forget()
    shared.put(8)
    assert shared.get() == 8
    usable[0] = False
    assert shared.get() == 9


@pytest.mark.parametrize("forgotten", [True, False])
def test_what_is_put_or_forgotten_meanwhile_wins_over_what_is_being_made(
    forgotten: bool,  # noqa: FBT001 - a case
) -> None:
    made: list[int | None] = []

    def make(before: int | None) -> int:
        made.append(before)
        if len(made) == 1:
            if forgotten:
                shared.forget()
            else:
                shared.put(7)
        return len(made)

    shared = SharedValue(make, lambda _: True)
    assert shared.get() == (2 if forgotten else 7)
    assert made == ([None, None] if forgotten else [None])
    assert shared.get() == shared.last() == (2 if forgotten else 7)
