"""Acts are done at their time, again if they say so, and one that breaks stops nobody."""

from __future__ import annotations

import threading
import time

from local.soak.agenda import Agenda


def test_acts_are_done_in_the_order_of_their_times() -> None:
    agenda, done, all_done = Agenda(1), [], threading.Event()
    agenda.at(0.2, lambda: (done.append("second"), all_done.set())[0])
    agenda.at(0, lambda: done.append("first"))
    began = time.monotonic()
    agenda.start()
    assert all_done.wait(5)
    agenda.stop(5)
    assert done == ["first", "second"]
    assert time.monotonic() - began >= 0.2


def test_act_is_done_again_for_as_long_as_it_says_so() -> None:
    agenda, left, over = Agenda(1), [0.0, 0.0], threading.Event()

    def act() -> float | None:
        if left:
            return left.pop()
        over.set()
        return None

    agenda.at(0, act)
    agenda.start()
    assert over.wait(5)
    agenda.stop(5)


def test_act_that_breaks_is_noted_and_the_others_go_on() -> None:
    agenda, over = Agenda(1), threading.Event()

    def broken() -> None:
        raise RuntimeError("fixture")

    agenda.at(0, broken)
    agenda.at(0.1, over.set)
    agenda.start()
    assert over.wait(5)
    agenda.stop(5)
    assert agenda.troubles == ["RuntimeError: fixture"]


def test_nothing_begins_after_the_end() -> None:
    agenda, done = Agenda(2), []
    agenda.start()
    agenda.stop(5)
    agenda.at(0, lambda: done.append("late"))
    assert done == []
