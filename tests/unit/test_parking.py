"""An answer that no write takes goes to the queue, and comes back by the same rules."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.lease import Lease
from token_rotator.domain.outcome import Liveness
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.journal import AnswerLate, AnswerLost, AnswerParked, ParkedSettled, Trouble
from token_rotator.service.ports import Done, Due, Parked
from token_rotator.service.refresh_due import _Duty
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import NotServed, Served

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["same", "rotated", "omitted"])
def world(request: pytest.FixtureRequest) -> World:
    world = World(request.param)
    world.adopted()
    world.due_now()
    return world


def parked(world: World) -> None:
    """Have one attempt's answer parked: the store takes writes again only when it is over."""
    world.grants.failures = ["ok"] + ["before"] * 100
    result = world.attempt()
    world.grants.failures = []
    assert (result.word, result.code) == (Word.IN_DOUBT, "answer-parked")
    assert len([answer for answer in world.parking.answers if answer is not None]) == 1


def settled(world: World) -> list[str]:
    return [event.result for event in world.journal.of(ParkedSettled)]  # type: ignore[attr-defined]


def drain(world: World) -> object:
    return world.drain(world.clock() + timedelta(minutes=1))


def test_the_next_sweep_stores_it_before_it_looks_at_anything(world: World) -> None:
    parked(world)
    world.clock.advance(seconds=10)
    world.sweep(1)
    stored = world.stored()
    assert stored.attempt_id is None
    assert stored.in_doubt is None
    assert world.wise.lives(world.access_token())
    assert len(world.wise.refreshes) == 1
    assert settled(world) == ["stored"]
    assert world.parking.answers == []
    assert isinstance(world.serve(), Served)


def test_one_that_is_stored_beside_a_lease_taken_meanwhile_is_looked_at_when_that_is_over(world: World) -> None:
    parked(world)
    given_back = replace(
        world.stored(), attempt_id=None, lease_until=None, in_doubt="attempt-1", due_at=world.clock() - SECOND
    )
    world.grants.items[world.key()] = given_back
    write, lease = world.grants.write, Lease("other", world.clock() + timedelta(seconds=18))

    def meanwhile(*given: Any) -> Any:
        world.grants.write = write  # type: ignore[method-assign]
        assert isinstance(world.grants.acquire(world.key(), lease, Due(), world.clock()), Done)
        return write(*given)

    world.grants.write = meanwhile  # type: ignore[method-assign]
    drain(world)
    stored = world.stored()
    assert settled(world) == ["late"]
    assert (stored.attempt_id, stored.in_doubt) == ("other", "attempt-1")
    assert stored.due_at == lease.until + world.budgets.margin


def test_a_reader_is_told_to_wait_while_it_lies_there(world: World) -> None:
    parked(world)
    assert isinstance(world.serve(), NotServed)


def test_it_is_parked_at_the_first_failed_write_and_stored_all_the_same(world: World) -> None:
    world.grants.failures = ["ok", "before"]
    assert world.attempt().word is Word.REFRESHED
    assert len(world.journal.of(AnswerParked)) == 1
    drain(world)
    assert settled(world) == ["known"]
    assert world.journal.of(AnswerLate) == []


def test_a_write_that_took_effect_unseen_is_known(world: World) -> None:
    world.grants.failures = ["ok", "after"]
    assert world.attempt().word is Word.REFRESHED
    drain(world)
    assert settled(world) == ["known"]


def test_an_answer_that_neither_store_nor_queue_takes_is_lost_on_record(world: World) -> None:
    world.grants.failures = ["ok"] + ["before"] * 100
    world.parking.failures = ["before"] * 100
    assert world.attempt().code == "answer-lost"
    assert len(world.journal.of(AnswerLost)) == 1


def test_a_queue_whose_answer_is_lost_may_hold_it_twice(world: World) -> None:
    world.grants.failures = ["ok"] + ["before"] * 100
    world.parking.failures = ["after"]
    world.attempt()
    world.grants.failures = []
    assert len(world.parking.answers) == 2
    drain(world)
    assert sorted(settled(world)) == ["known", "stored"]


def test_one_that_was_taken_over_is_stored_in_doubt_and_leaves_the_others_lease(world: World) -> None:
    parked(world)
    world.clock.advance(seconds=23)
    world.wise.asks = [Liveness.NO_ANSWER]
    world.grants.failures = ["ok", "ok", "before", "before", "before"]
    world.attempt()
    world.grants.failures = []
    other = world.stored().attempt_id
    assert other is not None
    drain(world)
    stored = world.stored()
    assert settled(world) == ["late"]
    assert stored.in_doubt is not None
    assert stored.attempt_id == other
    world.clock.advance(seconds=40)
    world.sweep(30)
    assert world.wise.lives(world.access_token())
    assert world.stored().in_doubt is None


def test_one_that_came_too_late_is_dropped_on_record() -> None:
    world = World()
    world.adopted()
    world.due_now()
    parked(world)
    world.clock.advance(seconds=23)
    assert world.attempt().word is Word.REFRESHED
    newest = world.stored()
    drain(world)
    assert settled(world) == ["overtaken"]
    assert world.stored() == newest
    assert [late.kept for late in world.journal.of(AnswerLate)] == [False]  # type: ignore[attr-defined]
    assert world.parking.answers == []


def test_one_of_a_grant_that_was_replaced_or_deleted_changes_nothing(world: World) -> None:
    parked(world)
    world.clock.advance(seconds=30)
    access, refresh = world.wise.add("new")
    now = world.clock()
    offer = Offer(refresh_token=refresh, access_token=access, issued_at=now, expires_at=now + timedelta(hours=12))
    kept = world.adopt_grant(world.key(), offer, world.stored().version)
    assert isinstance(kept, Kept)
    drain(world)
    assert world.stored() == kept.grant
    parked_again = World()
    parked_again.adopted()
    parked_again.due_now()
    parked(parked_again)
    parked_again.clock.advance(seconds=30)
    assert parked_again.delete_grant(parked_again.key()) is None
    drain(parked_again)
    assert settled(parked_again) == ["gone"]
    assert parked_again.grants.items == {}


def test_one_of_a_suspended_grant_is_stored_and_the_grant_stays_suspended(world: World) -> None:
    parked(world)
    world.grants.items[world.key()] = replace(world.stored(), phase=Phase.SUSPENDED)
    drain(world)
    assert settled(world) == ["stored"]
    assert world.stored().phase is Phase.SUSPENDED
    assert world.wise.lives(world.access_token())


def test_no_verdict_falls_while_an_answer_may_be_parked() -> None:
    """The new refresh token is in the queue, nobody drains it, and everybody else is told `invalid_grant`."""
    world = World("rotated")
    world.adopted()
    world.due_now()
    parked(world)
    world.clock.advance(seconds=23)
    for _ in range(40):
        world.attempt()
        world.clock.advance(seconds=30)
    assert world.stored().phase is Phase.ACTIVE
    assert world.alerts.published == []
    world.sweep(30)
    assert settled(world) == ["late"]
    world.sweep(60)
    assert world.wise.lives(world.access_token())
    assert world.stored().in_doubt is None


def doubtful() -> World:
    """One grant whose lease has run out after a request of which nobody knows the outcome."""
    world = World("rotated")
    world.adopted()
    world.due_now()
    world.wise.script, world.wise.asks = ["lose"], [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(seconds=23)
    return world


def test_a_verdict_falls_once_the_queue_was_seen_empty_after_the_hold() -> None:
    world = doubtful()
    for _ in range(8):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert world.stored().last_error == "outcome_unknown"
    assert [alert.reason for alert in world.alerts.published] == ["outcome_unknown"]


def test_a_reader_who_always_comes_first_does_not_put_a_verdict_off() -> None:
    """On demand nobody judges a grant that was in doubt; the sweep must get its turn all the same."""
    world = doubtful()
    began = world.clock()
    while world.stored().phase is Phase.ACTIVE:
        assert world.clock() < began + timedelta(minutes=6)
        world.clock.now = max(world.clock.now, world.stored().due_at or world.clock.now)
        assert isinstance(world.serve(), NotServed)
        world.sweep(2)
    assert [alert.reason for alert in world.alerts.published] == ["outcome_unknown"]


def test_no_verdict_falls_while_the_queue_does_not_answer() -> None:
    world = doubtful()
    world.parking.failures = ["before"] * 1000
    for _ in range(15):
        world.sweep(55)
        world.clock.advance(seconds=5)
    assert world.stored().phase is Phase.ACTIVE


def test_no_verdict_falls_while_somebody_has_received_an_answer_and_not_settled_it() -> None:
    world = World("rotated")
    world.adopted()
    world.due_now()
    parked(world)
    world.clock.advance(seconds=23)
    for _ in range(12):
        assert world.parking.receive()  # as one does who dies with it, again and again
        world.sweep(28)
        world.clock.advance(seconds=2)
    assert settled(world) == []
    assert world.stored().phase is Phase.ACTIVE
    world.clock.advance(seconds=31)
    world.sweep(60)
    assert settled(world) == ["late"]
    assert world.wise.lives(world.access_token())


def test_an_unreadable_message_stays_and_keeps_no_other_waiting(world: World) -> None:
    world.parking.put_unreadable()
    parked(world)
    assert drain(world) is None  # it may hold what is newest
    assert settled(world) == ["stored"]
    assert world.parking.answers == [None]
    assert "parked-unreadable" in [trouble.code for trouble in world.journal.of(Trouble)]  # type: ignore[attr-defined]


def test_one_whose_grant_cannot_be_read_stays(world: World) -> None:
    parked(world)
    plain = world.grants.get

    def corrupt(_: GrantKey) -> Grant | None:
        raise CorruptGrant("injected")

    world.grants.get = corrupt  # type: ignore[method-assign]
    assert drain(world) is None
    assert len(world.parking.answers) == 1
    world.grants.get = plain  # type: ignore[method-assign]
    assert drain(world) is None
    assert settled(world) == []  # somebody has it for half a minute
    world.clock.advance(seconds=31)
    assert drain(world) == world.clock()
    assert settled(world) == ["stored"]


def test_a_store_that_does_not_answer_ends_the_draining(world: World) -> None:
    parked(world)
    world.grants.failures = ["before"]
    assert drain(world) is None
    assert len(world.parking.answers) == 1


def test_a_removal_that_fails_does_no_harm(world: World) -> None:
    parked(world)
    world.parking.failures = ["ok", "before"]
    assert drain(world) is None
    world.clock.advance(seconds=31)
    assert drain(world) == world.clock()
    assert settled(world) == ["stored", "known"]


def test_a_message_that_nobody_can_settle_stays_and_stops_nothing_else(world: World) -> None:
    """An error that nobody has thought of: it is on record, the others are settled, and no verdict falls."""
    parked(world)
    world.adopted("ben")
    world.due_now("ben")
    get, anna = world.grants.get, world.key()

    def broken(key: GrantKey) -> Grant | None:
        if key == anna:
            raise OverflowError("date value out of range")
        return get(key)

    world.grants.get = broken  # type: ignore[method-assign]
    version = world.stored("ben").version
    world.sweep(1)
    assert settled(world) == []
    assert len(world.parking.answers) == 1
    assert world.stored("ben").version == version + 1
    troubles = [(event.key, event.code, event.detail) for event in world.journal.of(Trouble)]  # type: ignore[attr-defined]
    assert (anna, "internal-error", "draining parked answers: OverflowError") in troubles
    assert drain(world) is None  # it lies there
    world.grants.get = get  # type: ignore[method-assign]
    world.clock.advance(seconds=31)
    assert drain(world) == world.clock()
    assert settled(world) in (["stored"], ["late"], ["overtaken"])


def test_draining_ends_in_time(world: World) -> None:
    assert world.drain(world.clock()) is None


def test_a_sweep_looks_again_every_ten_seconds(world: World) -> None:
    world.sweep(1)
    before = world.parking.received
    world.sweep(30)
    assert 3 <= world.parking.received - before <= 5


def test_a_corrupt_item_does_not_lose_the_answer(world: World) -> None:
    write = world.grants.write

    def corrupt(*arguments: object) -> object:
        raise CorruptGrant("injected")

    world.grants.write = corrupt  # type: ignore[method-assign, assignment]
    assert world.refresh_grant(world.key(), Due(), alone=True).code == "answer-parked"
    world.grants.write = write  # type: ignore[method-assign]
    drain(world)
    assert settled(world) == ["stored"]


def test_what_was_parked_by_an_attempt_that_left_no_lease_is_kept_in_doubt(world: World) -> None:
    """A lease that somebody resolved without storing a newer version."""
    parked(world)
    world.grants.items[world.key()] = replace(world.stored(), attempt_id=None, lease_until=None)
    drain(world)
    assert settled(world) == ["late"]
    assert world.stored().due_at == world.clock()
    assert world.access_token() == "access-anna-2"


def test_grants_are_advanced_while_the_queue_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.adopted()
    use = world.refresh_due
    values = {name: getattr(use, name) for name in type(use).__dataclass_fields__}
    world.refresh_due = type(use)(**{**values, "workers": 2})
    noted = threading.Event()
    note, receive = _Duty._note, world.parking.receive

    def note_and_say_so(self: _Duty, *arguments: Any) -> None:
        note(self, *arguments)
        noted.set()

    def slow() -> Sequence[Parked]:
        if world.parking.received:  # the first time is before anything else
            assert noted.wait(20)
        return receive()

    monkeypatch.setattr(_Duty, "_note", note_and_say_so)
    world.parking.receive = slow  # type: ignore[method-assign]
    world.clock.now = world.stored().refresh_at - 10 * SECOND
    world.sweep(13)
    assert len(world.wise.refreshes) == 1
    assert world.parking.received == 2


def test_the_queue_is_not_asked_again_while_it_is_being_asked() -> None:
    world = World()
    with ThreadPoolExecutor(1) as pool:
        duty = _Duty(world.refresh_due, range(16), world.clock() + 60 * SECOND, pool)
        duty.draining = asked = Future()
        duty._tend()
    assert duty.draining is asked
    assert world.parking.received == 0
