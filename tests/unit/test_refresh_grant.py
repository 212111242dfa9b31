"""One attempt, row by row of the outcome table, and the protocol broken at every step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from token_rotator.domain.errors import StoreUnavailable
from token_rotator.domain.grant import Phase
from token_rotator.domain.outcome import (
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Said,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.service.journal import AnswerLate, AnswerLost, AttemptEnded, Sent
from token_rotator.service.ports import Due, Rejected, When
from token_rotator.service.refresh_grant import Word


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted()
    return world


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_an_undisturbed_refresh_costs_two_writes_and_one_request(policy: str) -> None:
    world = World(policy)
    before = world.adopted()
    world.due_now()
    world.grants.writes = world.grants.reads = 0
    world.sealer.calls.clear()

    result = world.attempt()

    assert result.word is Word.REFRESHED
    assert (world.grants.writes, world.grants.reads) == (2, 0)
    assert world.sealer.calls == ["decrypt", "generate"]
    assert len(world.wise.refreshes) == 1
    after = world.stored()
    assert after.version == before.version + 1
    assert after.attempt_id is None
    assert after.lease_until is None
    assert after.in_doubt is None
    assert after.due_at == after.refresh_at > world.clock()
    assert world.wise.lives(world.access_token())
    assert (after.refresh_token == before.refresh_token) == (policy != "rotated")


def test_the_refresh_token_is_kept_when_the_answer_has_none() -> None:
    world = World("omitted")
    before = world.adopted()
    for _ in range(3):
        world.due_now()
        assert world.attempt().word is Word.REFRESHED
    assert world.stored().refresh_token == before.refresh_token


def test_a_grant_adopted_without_an_access_token_is_refreshed_at_once() -> None:
    world = World()
    _, refresh = world.wise.add("anna")
    from token_rotator.service.adopt_grant import Offer

    world.adopt_grant(world.key(), Offer(refresh_token=refresh), None)
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.lives(world.access_token())


def test_nothing_is_sent_when_nothing_is_due(world: World) -> None:
    result = world.attempt()
    assert result.word is Word.FRESH
    assert world.wise.refreshes == []


def test_nobody_refreshes_under_the_lease_of_another(world: World) -> None:
    world.due_now()
    results = []
    world.wise.on_refresh = lambda: results.append(world.attempt())
    assert world.attempt().word is Word.REFRESHED
    assert [result.word for result in results] == [Word.HELD]
    assert len(world.wise.refreshes) == 1


def test_a_missing_grant_is_gone(world: World) -> None:
    assert world.attempt("bob").word is Word.GONE


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.REAUTHORIZATION_REQUIRED])
def test_only_active_grants_are_refreshed(world: World, phase: Phase) -> None:
    world.due_now()
    world.grants.items[world.key()] = replace(world.stored(), phase=phase)
    assert world.attempt().word is Word.GONE
    assert world.wise.refreshes == []


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (NotSent(reason="not-connected"), "not-connected"),
        (Throttled(status=429), "throttled"),
        (ClientRefused(status=401, error="invalid_client"), "client_refused"),
        (WeAreWrong(status=404), "we_are_wrong"),
    ],
)
def test_a_fault_that_is_not_the_grants_leaves_it_good(world: World, outcome: object, code: str) -> None:
    before = world.due_now()
    world.wise.checks = [Unknown(reason="deadline")]
    world.wise.script = [outcome]  # type: ignore[list-item]
    result = world.attempt()
    after = world.stored()
    assert (result.word, result.code) == (Word.FAILED, code)
    assert after.phase is Phase.ACTIVE
    assert after.attempt_id is None
    assert after.in_doubt is None
    assert after.access_token == before.access_token
    assert after.failures == 1
    assert after.last_error == code
    assert after.refresh_at >= world.clock() + world.budgets.guard
    assert after.due_at == after.refresh_at
    assert world.alerts.published == []


def test_a_back_off_grows_and_ends_with_success(world: World) -> None:
    pauses = []
    for _ in range(8):
        world.due_now()
        world.wise.script = [NotSent(reason="not-connected")]
        world.attempt()
        pauses.append(world.stored().refresh_at - world.clock())
    assert pauses[0] < pauses[2] < pauses[4]
    assert all(pause <= timedelta(minutes=6.25) for pause in pauses)
    world.due_now()
    assert world.attempt().word is Word.REFRESHED
    assert world.stored().failures == 0
    assert world.stored().last_error is None


def test_retry_after_is_honoured(world: World) -> None:
    world.due_now()
    world.wise.script = [Throttled(status=429, retry_after=timedelta(minutes=20))]
    world.attempt()
    assert world.stored().refresh_at == world.clock() + timedelta(minutes=20)


def test_a_dead_refresh_token_ends_the_grant_and_tells_on_call_once(world: World) -> None:
    world.due_now()
    world.wise.users["anna"].alive = False
    result = world.attempt()
    after = world.stored()
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "invalid_grant")
    assert after.phase is Phase.REAUTHORIZATION_REQUIRED
    assert after.attempt_id is None
    assert after.alert is not None
    assert after.alert.published_at is not None
    assert after.due_at == after.alert.published_at + world.remind_after
    assert after.alert.trace_id == "f" * 32
    assert [alert.incident_id for alert in world.alerts.published] == [after.alert.incident_id]
    world.sweep(120)
    assert len(world.alerts.published) == 1


def test_a_lost_answer_is_healed_in_the_same_attempt_when_wise_says_the_old_token_is_dead(world: World) -> None:
    world.due_now()
    world.wise.script = ["lose"]
    assert world.attempt().word is Word.REFRESHED
    assert len(world.wise.refreshes) == 2
    assert world.wise.lives(world.access_token())
    assert world.stored().in_doubt is None


def test_nobody_sends_again_while_an_unanswered_request_may_still_be_carried_out(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    result = world.attempt()
    assert result.word is Word.IN_DOUBT
    assert len(world.wise.refreshes) == 1
    held = world.stored()
    assert held.attempt_id is not None  # the lease runs out by itself
    assert held.lease_until is not None
    world.clock.now = held.lease_until + world.budgets.margin
    assert world.attempt().word is Word.HELD
    world.wise.carry_out_late()  # nobody listens
    world.clock.advance(milliseconds=1)
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.lives(world.access_token())


def test_a_taker_asks_first_and_clears_the_doubt_of_a_request_that_never_came(world: World) -> None:
    world.attempt(cause=Rejected(world.stored().version))
    version = world.stored().version
    world.clock.advance(minutes=10)
    world.wise.asks = [Liveness.DEAD]
    world.wise.script = ["drop"]
    assert world.attempt(cause=Rejected(version)).word is Word.IN_DOUBT
    world.clock.advance(seconds=23)
    world.wise.late.clear()  # Wise never carried it out
    result = world.attempt()
    assert result.word is Word.CONFIRMED
    after = world.stored()
    assert after.in_doubt is None
    assert after.attempt_id is None
    assert after.version == version
    assert len(world.wise.refreshes) == 1


def test_doubt_is_inherited_when_the_taker_cannot_send(world: World) -> None:
    world.due_now()
    world.wise.script = ["lose"]
    world.wise.asks = [Liveness.NO_ANSWER]
    first = world.attempt()
    assert first.word is Word.IN_DOUBT
    world.clock.advance(seconds=23)
    world.wise.script = [NotSent(reason="not-connected")]
    second = world.attempt()
    after = world.stored()
    assert second.word is Word.IN_DOUBT
    assert after.in_doubt == "attempt-1"
    assert after.attempt_id is None
    assert after.due_at is not None
    assert after.due_at > world.clock()
    world.clock.now = after.due_at
    assert world.attempt().word is Word.REFRESHED


def test_doubt_stays_when_wise_does_not_answer_the_question(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.attempt()
    world.clock.advance(seconds=23)
    world.wise.asks = [Liveness.NO_ANSWER]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.stored().in_doubt == "attempt-1"


def test_a_not_sent_after_a_lost_answer_leaves_the_grant_in_doubt(world: World) -> None:
    world.due_now()
    world.wise.script = ["lose", NotSent(reason="not-connected")]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.stored().in_doubt == "attempt-1"
    assert world.stored().attempt_id is None


def test_an_expired_token_in_doubt_is_refreshed_without_asking(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.attempt()
    world.clock.advance(hours=13)
    world.wise.asked.clear()
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.asked == []


def test_no_verdict_falls_while_an_answer_may_be_on_its_way(world: World) -> None:
    world = World("rotated")
    world.adopted()
    world.due_now()
    world.wise.script = ["lose"]  # the new refresh token is lost with the answer
    world.wise.asks = [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(seconds=23)
    assert world.attempt().word is Word.IN_DOUBT  # invalid_grant, and the hold is not over
    held = world.stored()
    assert held.phase is Phase.ACTIVE
    assert held.hold_until is not None
    assert held.due_at is not None
    assert held.due_at > held.hold_until
    world.clock.now = held.due_at
    assert world.attempt().word is Word.IN_DOUBT  # nobody here has seen the parking queue empty
    world.clock.now = world.stored().due_at or world.clock.now
    result = world.refresh_grant(world.key(), Due(), alone=True, drained_at=held.hold_until)
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "outcome_unknown")
    assert world.alerts.published[0].reason == "outcome_unknown"


@pytest.mark.parametrize(
    ("asks", "word", "sends"),
    [
        ([Liveness.LIVES], Word.FAILED, 1),
        ([Liveness.DEAD], Word.REFRESHED, 2),
        ([Liveness.NO_ANSWER], Word.IN_DOUBT, 1),
    ],
)
def test_a_server_fault_is_settled_by_asking(world: World, asks: list[Liveness], word: Word, sends: int) -> None:
    world.due_now()
    world.wise.script = [ServerFault(status=500)]
    world.wise.asks = list(asks)
    assert world.attempt().word is word
    assert len(world.wise.refreshes) == sends
    assert world.stored().attempt_id is None
    assert (world.stored().in_doubt is not None) == (word is Word.IN_DOUBT)


def test_two_server_faults_with_a_dead_token_leave_the_grant_in_doubt(world: World) -> None:
    world.due_now()
    world.wise.script = [ServerFault(status=500), ServerFault(status=500)]
    world.wise.asks = [Liveness.DEAD, Liveness.DEAD]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.stored().in_doubt == "attempt-1"


def test_a_server_fault_for_an_expired_token_leaves_the_grant_in_doubt(world: World) -> None:
    world.clock.advance(hours=13)
    world.wise.script = [ServerFault(status=500)]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.wise.asked == []


def test_a_report_about_a_living_token_refreshes_nothing(world: World) -> None:
    world.clock.advance(minutes=10)
    before = world.stored()
    result = world.attempt(cause=Rejected(before.version))
    after = world.stored()
    assert result.word is Word.CONFIRMED
    assert world.wise.refreshes == []
    assert (after.refresh_at, after.due_at) == (before.refresh_at, before.due_at)


def test_a_report_about_a_dead_token_refreshes_once(world: World) -> None:
    world.clock.advance(minutes=10)
    version = world.stored().version
    world.wise.users["anna"].access_token = "access-anna-7"
    assert world.attempt(cause=Rejected(version)).word is Word.REFRESHED
    assert world.attempt(cause=Rejected(version)).word is Word.FRESH
    assert len(world.wise.refreshes) == 1


def test_a_report_that_cannot_refresh_a_dead_token_leaves_it_in_doubt(world: World) -> None:
    world.clock.advance(minutes=10)
    world.wise.asks = [Liveness.DEAD]
    world.wise.script = [NotSent(reason="not-connected")]
    assert world.attempt(cause=Rejected(world.stored().version)).word is Word.IN_DOUBT
    assert world.stored().in_doubt is not None


def test_a_report_that_wise_does_not_answer_moves_no_promise(world: World) -> None:
    world.clock.advance(minutes=10)
    before = world.stored()
    world.wise.asks = [Liveness.NO_ANSWER]
    assert world.attempt(cause=Rejected(before.version)).word is Word.FAILED
    after = world.stored()
    assert after.refresh_at == before.refresh_at
    assert after.due_at == before.refresh_at
    assert after.in_doubt is None


def test_a_reporters_death_is_noticed_by_the_sweep(world: World) -> None:
    world.clock.advance(minutes=10)
    world.wise.on_refresh = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    world.wise.asks = [Liveness.DEAD]
    with pytest.raises(KeyboardInterrupt):
        world.attempt(cause=Rejected(world.stored().version))
    world.wise.on_refresh = lambda: None
    assert world.stored().due_at == world.clock()
    world.clock.advance(seconds=23)
    world.sweep()
    assert world.stored().attempt_id is None
    assert world.stored().in_doubt is None


def test_no_key_means_not_sent(world: World) -> None:
    world.due_now()
    world.sealer.down = True
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "key-unavailable")
    assert world.wise.refreshes == []
    assert world.stored().attempt_id is None


def test_no_time_means_not_sent(world: World) -> None:
    world.due_now()
    prepare = world.sealer.prepare
    world.sealer.prepare = lambda *a: (world.clock.advance(seconds=4), prepare(*a))[1]  # type: ignore[method-assign]
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "no-time")
    assert world.wise.refreshes == []


def test_a_doubt_is_not_asked_about_without_time_or_key(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.attempt()
    world.clock.advance(seconds=23)
    world.sealer.down = True
    assert world.attempt().word is Word.IN_DOUBT
    assert world.wise.asked == ["attempt-1"]


def test_a_doubt_that_is_not_due_yet_is_left_alone(world: World) -> None:
    world.clock.advance(minutes=10)
    world.wise.asks = [Liveness.DEAD]
    world.wise.script = [NotSent(reason="not-connected")]
    world.attempt(cause=Rejected(world.stored().version))
    result = world.attempt()
    assert (result.word, result.retry_at) == (Word.IN_DOUBT, world.stored().due_at)
    assert world.wise.refreshes == []


def test_an_unanswered_request_that_took_all_the_time_is_not_asked_about(world: World) -> None:
    world.due_now()
    world.wise.script = [Unknown(reason="deadline")]
    world.wise.on_refresh = lambda: world.clock.advance(seconds=6.5)
    assert world.attempt().word is Word.IN_DOUBT
    assert world.wise.asked == []


def test_a_sealed_access_token_that_does_not_open_is_replaced(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.wise.asks = [Liveness.NO_ANSWER]
    world.attempt()
    other = world.adopted("bob").access_token
    world.grants.items[world.key()] = replace(world.stored(), access_token=other)
    world.clock.advance(seconds=23)
    assert world.attempt().word is Word.REFRESHED


def test_a_sealed_refresh_token_that_does_not_open_fails_alone(world: World) -> None:
    world.due_now()
    other = world.adopted("bob").refresh_token
    world.grants.items[world.key()] = replace(world.stored(), refresh_token=other)
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "unsealable")
    assert world.wise.refreshes == []


# --- the store fails


def test_an_acquire_that_fails_is_told_to_the_caller(world: World) -> None:
    world.due_now()
    world.grants.failures = ["before"]
    with pytest.raises(StoreUnavailable):
        world.attempt()


def test_an_answer_is_stored_by_a_later_try(world: World) -> None:
    world.due_now()
    world.grants.failures = ["ok", "before", "before", "ok"]
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.lives(world.access_token())


def test_a_commit_whose_answer_was_lost_is_a_success(world: World) -> None:
    world.due_now()
    world.grants.failures = ["ok", "after", "ok"]
    assert world.attempt().word is Word.REFRESHED
    assert world.stored().in_doubt is None
    assert world.wise.lives(world.access_token())


def test_an_answer_that_no_store_takes_is_on_record_and_the_lease_runs_out(world: World) -> None:
    world.due_now()
    world.grants.failures = ["ok"] + ["before"] * 1000
    world.parking.failures = ["before"] * 1000
    result = world.attempt()
    assert (result.word, result.code) == (Word.IN_DOUBT, "answer-lost")
    assert len(world.journal.of(AnswerLost)) == 1
    world.grants.failures = []
    assert world.stored().attempt_id is not None
    world.clock.advance(seconds=23)
    assert world.attempt().word is Word.REFRESHED
    assert world.wise.lives(world.access_token())


def test_a_verdict_is_stored_by_a_later_try(world: World) -> None:
    world.due_now()
    world.wise.users["anna"].alive = False
    world.grants.failures = ["ok", "after", "ok"]
    assert world.attempt().word is Word.REAUTHORIZATION_REQUIRED
    assert len(world.alerts.published) == 1


def test_a_verdict_that_no_store_takes_leaves_the_lease_to_run_out(world: World) -> None:
    world.due_now()
    world.wise.users["anna"].alive = False
    world.grants.failures = ["ok"] + ["before"] * 1000
    assert world.attempt().word is Word.IN_DOUBT
    world.grants.failures = []
    assert world.stored().phase is Phase.ACTIVE
    assert world.stored().attempt_id is not None


def test_a_lease_that_cannot_be_given_back_runs_out(world: World) -> None:
    world.due_now()
    world.wise.script = [NotSent(reason="not-connected")]
    world.grants.failures = ["ok", "before"]
    assert world.attempt().word is Word.FAILED
    assert world.stored().attempt_id == "attempt-1"


# --- late answers


def _overtaken(world: World, meanwhile: object) -> Word:
    """Run an attempt; between Wise's answer and its commit, something happens."""
    world.due_now()
    done: list[bool] = []

    def once() -> None:
        if not done:
            done.append(True)
            meanwhile()  # type: ignore[operator]

    world.wise.after_refresh = once
    return world.attempt().word


def test_an_answer_overtaken_by_an_attempt_is_stored_in_doubt_and_leaves_the_others_lease(world: World) -> None:
    def paused() -> None:
        world.clock.advance(seconds=23)
        world.grants.items[world.key()] = replace(
            world.stored(),
            attempt_id="other",
            lease_until=world.clock() + timedelta(seconds=18),
            in_doubt="attempt-1",
        )

    assert _overtaken(world, paused) is Word.IN_DOUBT
    after = world.stored()
    assert after.attempt_id == "other"
    assert after.in_doubt == "attempt-1"
    assert world.wise.lives(world.access_token())
    assert [event.kept for event in world.journal.of(AnswerLate)] == [True]  # type: ignore[attr-defined]


def test_an_answer_under_our_lease_over_another_version_is_stored_in_doubt(world: World) -> None:
    def stored_late() -> None:
        stored = world.stored()
        world.grants.items[world.key()] = replace(stored, version=stored.version + 1)

    assert _overtaken(world, stored_late) is Word.IN_DOUBT
    after = world.stored()
    assert after.attempt_id is None
    assert after.in_doubt == "attempt-1"
    assert after.due_at == world.clock()


def test_an_answer_older_than_what_is_stored_is_dropped_on_record(world: World) -> None:
    def refreshed_by_another() -> None:
        stored = world.stored()
        world.grants.items[world.key()] = replace(stored, version=stored.version + 1, attempt_id=None, lease_until=None)

    assert _overtaken(world, refreshed_by_another) is Word.OVERTAKEN
    assert [event.kept for event in world.journal.of(AnswerLate)] == [False]  # type: ignore[attr-defined]


def test_an_answer_for_a_deleted_grant_brings_nothing_back(world: World) -> None:
    assert _overtaken(world, world.grants.items.clear) is Word.OVERTAKEN
    assert world.grants.items == {}


def test_an_answer_that_comes_after_a_verdict_brings_the_grant_back(world: World) -> None:
    def judged() -> None:
        world.grants.items[world.key()] = replace(
            world.stored(), phase=Phase.REAUTHORIZATION_REQUIRED, attempt_id=None, lease_until=None
        )

    assert _overtaken(world, judged) is Word.IN_DOUBT
    assert world.stored().phase is Phase.ACTIVE
    assert world.stored().in_doubt == "attempt-1"


def test_a_commit_keeps_a_suspension(world: World) -> None:
    def suspended() -> None:
        world.grants.items[world.key()] = replace(world.stored(), phase=Phase.SUSPENDED)

    assert _overtaken(world, suspended) is Word.REFRESHED
    assert world.stored().phase is Phase.SUSPENDED
    assert world.wise.lives(world.access_token())
    world.clock.now = world.stored().refresh_at
    world.sweep()
    assert world.stored().due_at is None


def test_a_verdict_does_not_fall_on_a_token_that_was_replaced(world: World) -> None:
    other = world.sealer.seal(world.key(), "refresh_token", world.wise.add("new")[1])  # type: ignore[arg-type]
    world.due_now()
    world.wise.script = [GrantInvalid(status=400, error="invalid_grant")]
    world.wise.on_refresh = lambda: world.grants.items.__setitem__(
        world.key(), replace(world.stored(), refresh_token=other)
    )
    assert world.attempt().word is Word.OVERTAKEN
    after = world.stored()
    assert after.phase is Phase.ACTIVE
    assert after.attempt_id is None


def test_a_verdict_does_not_lift_a_suspension(world: World) -> None:
    world.due_now()
    world.wise.script = [GrantInvalid(status=400, error="invalid_grant")]
    world.wise.on_refresh = lambda: world.grants.items.__setitem__(
        world.key(), replace(world.stored(), phase=Phase.SUSPENDED)
    )
    assert world.attempt().word is Word.OVERTAKEN
    assert world.stored().phase is Phase.SUSPENDED
    assert world.stored().attempt_id is None


def test_a_verdict_on_a_deleted_grant_is_nobodys(world: World) -> None:
    world.due_now()
    world.wise.script = [GrantInvalid(status=400, error="invalid_grant")]
    world.wise.on_refresh = world.grants.items.clear
    assert world.attempt().word is Word.GONE
    assert world.alerts.published == []


def test_giving_back_a_lease_leaves_a_late_answers_doubt(world: World) -> None:
    world.due_now()
    world.wise.script = [NotSent(reason="not-connected")]
    world.wise.on_refresh = lambda: world.grants.items.__setitem__(
        world.key(), replace(world.stored(), in_doubt="late", version=world.stored().version + 1)
    )
    world.attempt()
    after = world.stored()
    assert after.in_doubt == "late"
    assert after.attempt_id is None
    assert after.due_at == world.clock()


def test_confirming_under_a_lost_lease_is_overtaken(world: World) -> None:
    world.clock.advance(minutes=10)
    version = world.stored().version
    ask = world.wise.ask

    def lose(*args: object, **kwargs: object) -> Said:
        world.grants.items[world.key()] = replace(world.stored(), attempt_id="other")
        return ask(*args, **kwargs)  # type: ignore[arg-type]

    world.wise.ask = lose  # type: ignore[method-assign]
    assert world.attempt(cause=Rejected(version)).word is Word.OVERTAKEN
    assert world.stored().attempt_id == "other"


# --- taking over


def _abandoned(world: World, takeovers: int = 0) -> None:
    world.due_now()
    world.grants.items[world.key()] = replace(
        world.stored(),
        attempt_id="dead-worker",
        lease_until=world.clock() + timedelta(seconds=18),
        takeovers=takeovers,
    )
    world.clock.advance(seconds=23)


def test_a_takeover_moves_due_at_before_anything_else_and_inherits_the_doubt(world: World) -> None:
    _abandoned(world)
    seen: list[object] = []
    world.wise.on_refresh = lambda: seen.append(world.stored())
    assert world.attempt().word is Word.REFRESHED
    (during,) = seen
    assert during.in_doubt == "dead-worker"  # type: ignore[attr-defined]
    assert during.due_at > during.lease_until  # type: ignore[attr-defined]
    assert during.takeovers == 1  # type: ignore[attr-defined]
    assert world.stored().takeovers == 0
    assert [event.takeover for event in world.journal.of(AttemptEnded)] == [True]  # type: ignore[attr-defined]


def test_two_takers_never_both_win(world: World) -> None:
    _abandoned(world)
    results: list[Word] = []

    def rival() -> None:
        world.grants.before_write = lambda: None
        results.append(world.attempt().word)

    world.grants.before_write = rival
    results.append(world.attempt().word)
    assert sorted(result.value for result in results) == ["fresh", "refreshed"]
    assert len(world.wise.refreshes) == 1


def test_a_taker_that_loses_to_a_holder_is_told_to_wait(world: World) -> None:
    _abandoned(world)
    world.grants.before_write = lambda: world.grants.items.__setitem__(
        world.key(), replace(world.stored(), attempt_id="rival", lease_until=world.clock() + timedelta(seconds=18))
    )
    assert world.attempt().word is Word.HELD


def test_a_taker_of_a_deleted_grant_finds_it_gone(world: World) -> None:
    _abandoned(world)
    world.grants.before_write = world.grants.items.clear
    assert world.attempt().word is Word.GONE


def test_a_lease_without_an_end_counts_as_one_that_ran_out(world: World) -> None:
    _abandoned(world)
    world.grants.items[world.key()] = replace(world.stored(), lease_until=None)
    assert world.attempt().word is Word.REFRESHED


def test_a_grant_whose_workers_keep_dying_is_advanced_alone(world: World) -> None:
    _abandoned(world, takeovers=2)
    assert world.attempt(alone=False).word is Word.SUSPECT
    assert world.attempt(alone=True).word is Word.REFRESHED


def test_an_acquire_whose_first_answer_the_sdk_lost_is_held(world: World) -> None:
    world.due_now()
    acquire = world.grants.acquire

    def twice(*args: object) -> object:
        acquire(*args)  # type: ignore[arg-type]
        return acquire(*args)  # type: ignore[arg-type]

    world.grants.acquire = twice  # type: ignore[assignment, method-assign]
    assert world.attempt().word is Word.REFRESHED


def test_a_takeover_whose_first_answer_the_sdk_lost_is_held(world: World) -> None:
    _abandoned(world)
    write = world.grants.write
    calls: list[int] = []

    def twice(before: object, after: object, when: When) -> object:
        calls.append(1)
        if len(calls) == 1:
            write(before, after, when)  # type: ignore[arg-type]
        return write(before, after, when)  # type: ignore[arg-type]

    world.grants.write = twice  # type: ignore[assignment, method-assign]
    assert world.attempt().word is Word.REFRESHED
    assert world.stored().in_doubt is None


def test_every_request_is_on_record_with_the_attempt_that_made_it(world: World) -> None:
    world.due_now()
    world.wise.script = [Unknown(reason="deadline")]
    world.wise.asks = [Liveness.DEAD]
    world.attempt()
    sent = world.journal.of(Sent)
    assert [(event.attempt_id, event.outcome) for event in sent] == [  # type: ignore[attr-defined]
        ("attempt-1", "unknown"),
        ("attempt-1", "refreshed"),
    ]


# --- time and age


def test_a_death_near_expiry_proves_nothing_about_the_request(world: World) -> None:
    world.clock.now = world.stored().expires_at - timedelta(seconds=6)  # type: ignore[operator]
    world.wise.script = ["drop"]
    world.wise.asks = [Liveness.DEAD]
    assert world.attempt().word is Word.IN_DOUBT
    assert len(world.wise.refreshes) == 1
    assert world.stored().attempt_id is not None


def test_an_attempt_ends_with_its_worker(world: World) -> None:
    world.due_now()
    result = world.refresh_grant(world.key(), Due(), alone=True, until=world.clock() + timedelta(seconds=4))
    assert (result.word, result.code) == (Word.FAILED, "no-time")
    assert world.wise.refreshes == []


def test_credentials_are_had_before_anything_is_sent(world: World) -> None:
    world.due_now()
    world.wise.usable = False
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "wise-secret-unusable")
    assert world.wise.refreshes == []
    assert world.stored().attempt_id is None


def test_unanswered_requests_are_not_taken_for_dead_workers(world: World) -> None:
    world.due_now()
    for answer in (Liveness.NO_ANSWER, *[Liveness.DEAD] * 4):
        world.wise.script = ["drop"]
        world.wise.asks = [answer]
        assert world.attempt(alone=False).word is Word.IN_DOUBT
        held = world.stored()
        assert held.takeovers == 0
        assert held.in_doubt == held.attempt_id
        assert held.lease_until is not None
        world.clock.now = held.lease_until + timedelta(seconds=5)
    assert world.attempt(alone=False).word is Word.REFRESHED


def test_a_lease_is_left_even_if_the_store_takes_no_note_of_it(world: World) -> None:
    world.due_now()
    world.wise.script = ["drop"]
    world.grants.failures = ["ok", "before"]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.stored().attempt_id == "attempt-1"
    assert world.stored().in_doubt is None


def test_a_takeover_does_not_refresh_what_was_suspended_meanwhile(world: World) -> None:
    _abandoned(world)
    world.grants.before_write = lambda: world.grants.items.__setitem__(
        world.key(), replace(world.stored(), phase=Phase.SUSPENDED)
    )
    assert world.attempt().word is Word.HELD
    assert world.wise.refreshes == []


def test_the_last_try_to_store_an_answer_fits_the_attempt(world: World) -> None:
    world.due_now()
    world.grants.failures = ["ok"] + ["before"] * 1000
    began = world.clock()
    world.attempt()
    assert world.clock() + world.budgets.store - began <= world.budgets.attempt
