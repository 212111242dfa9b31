"""Our application's own token: one holder, the protocol of any grant, and what only it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from tests.fakes.suspensions import InMemorySuspensions
from token_rotator.domain.errors import StoreUnavailable
from token_rotator.domain.grant import APPLICATION, AlertKind, Grant, GrantKind, Phase
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientCheck,
    ClientRefused,
    NotSent,
    Outcome,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.policy import REFRESH_FLOOR
from token_rotator.service.journal import Sent, Trouble
from token_rotator.service.ports import Due, Rejected
from token_rotator.service.refresh_grant import HELD_FOR, Word
from token_rotator.service.serve_token import NotServed, Served, Why

REFUSED = ClientRefused(status=401, error="unauthorized_client")
WRONG = WeAreWrong(status=400, error="unsupported_grant_type")
FAULT = ServerFault(status=500, error="server_error", trace_id="f" * 32)
NO_ANSWER = Unknown(reason="deadline")


@pytest.fixture
def world() -> World:
    return World()


def stored(world: World) -> Grant:
    return world.grants.items[APPLICATION]


def served(world: World, rejected: int | None = None) -> Served:
    answer = world.serve_token(APPLICATION, rejected)
    assert isinstance(answer, Served)
    return answer


def not_served(world: World, rejected: int | None = None) -> NotServed:
    answer = world.serve_token(APPLICATION, rejected)
    assert isinstance(answer, NotServed)
    return answer


def lives(world: World, answer: Served) -> bool:
    return answer.access_token.reveal() in world.wise.application


def attempt(world: World, cause: Due | Rejected | None = None) -> Word:
    return world.refresh_grant(APPLICATION, cause or Due(), alone=True).word


def due(world: World) -> None:
    world.clock.now = max(world.clock.now, stored(world).refresh_at)


# --- its beginning and its life


def test_it_begins_with_the_first_question_and_is_served_from_then_on(world: World) -> None:
    first = served(world)
    assert lives(world, first)
    assert first.caused_refresh
    assert stored(world).kind is GrantKind.APPLICATION
    again = served(world)
    assert (again.version, again.access_token) == (first.version, first.access_token)
    assert len(world.wise.applications) == 1


@pytest.mark.parametrize("failures", [["ok", "ok", "before"], ["ok", "ok", "after"]])
def test_a_beginning_that_no_write_takes_begins_with_a_later_question(world: World, failures: list[str]) -> None:
    world.grants.failures = failures
    world.serve_token(APPLICATION)
    world.clock.advance(seconds=1)
    assert lives(world, served(world))
    assert len(world.wise.applications) == 1


def test_who_begins_it_second_changes_nothing(world: World) -> None:
    served(world)
    before = stored(world)
    world.grants.begin(replace(before, version=1, access_token=None))
    assert stored(world) == before


def test_a_beginning_whose_worker_dies_is_taken_on_by_the_sweep(world: World) -> None:
    world.wise.on_application = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        world.serve_token(APPLICATION)
    world.wise.on_application = lambda: None
    world.clock.advance(seconds=60)
    world.sweep(20)
    assert lives(world, served(world))


def test_nothing_else_begins_by_being_asked_for(world: World) -> None:
    assert world.serve("nobody") == NotServed(Why.ABSENT)
    assert world.attempt("nobody").word is Word.GONE
    assert world.grants.items == {}


def test_the_sweep_replaces_it_at_half_of_its_life_and_the_promise_is_kept(world: World) -> None:
    first = served(world)
    world.clock.now = first.stable_until - timedelta(seconds=2)
    world.sweep()
    assert stored(world).version == first.version
    due(world)
    world.sweep()
    second = served(world)
    assert second.version == first.version + 1
    assert lives(world, second)
    assert len(world.wise.applications) == 2


def test_it_needs_one_data_key_and_opens_nothing(world: World) -> None:
    attempt(world)
    assert world.sealer.calls == ["generate"]
    sent = [event for event in world.journal.events if isinstance(event, Sent)]
    assert [(event.key, event.reissue) for event in sent] == [(APPLICATION, False)]


def test_a_sweep_gets_on_with_it_beside_the_grants(world: World) -> None:
    served(world)
    world.adopted()
    world.clock.advance(seconds=12 * 3600)
    world.sweep()
    assert len(world.wise.applications) == 2
    assert len(world.wise.refreshes) == 1


def test_suspending_the_environment_stops_it(world: World) -> None:
    suspensions = world.suspensions
    assert isinstance(suspensions, InMemorySuspensions)
    suspensions.suspend(None, world.order())
    assert not_served(world) == NotServed(Why.SUSPENDED)
    suspensions.lift(None)
    first = served(world)
    suspensions.suspend(None, world.order())
    assert not_served(world) == NotServed(Why.SUSPENDED)
    world.clock.advance(seconds=12 * 3600)
    world.sweep()
    suspensions.lift(None)
    assert stored(world).version == first.version


# --- reports


def test_a_report_gets_a_new_one_once_however_many_report(world: World) -> None:
    first = served(world)
    world.clock.advance(seconds=3600)
    answers = [served(world, first.version) for _ in range(20)]
    assert {answer.version for answer in answers} == {first.version + 1}
    assert len(world.wise.applications) == 2
    assert world.wise.asked == []


def test_a_report_of_a_young_one_gets_the_same(world: World) -> None:
    first = served(world)
    world.clock.advance(seconds=30)
    assert served(world, first.version).version == first.version
    assert len(world.wise.applications) == 1


def test_a_report_of_a_version_that_never_was_is_refused(world: World) -> None:
    first = served(world)
    assert not_served(world, first.version + 1).why is Why.UNKNOWN_VERSION


@pytest.mark.parametrize("outcome", [NotSent(reason="not-connected"), Throttled(status=429)])
def test_a_report_that_leads_to_no_request_moves_no_promise(world: World, outcome: Outcome) -> None:
    first = served(world)
    world.clock.advance(seconds=3600)
    world.wise.application_script = [outcome]
    assert not_served(world, first.version).why is Why.UNAVAILABLE
    again = served(world)
    assert (again.version, again.stable_until) == (first.version, first.stable_until)


# --- doubt


def test_a_request_without_an_answer_is_not_repeated_before_wise_can_no_longer_carry_it_out(world: World) -> None:
    world.wise.coexist = False
    served(world)
    due(world)
    world.wise.application_script = ["drop"]
    assert attempt(world) is Word.IN_DOUBT
    assert attempt(world) is Word.HELD
    sent_at = world.clock()
    while world.wise.late_applications:
        world.wise.carry_out_late_application()
    while attempt(world) is not Word.REFRESHED:
        world.clock.advance(seconds=1)
    assert world.clock() - sent_at > world.budgets.settle
    assert lives(world, served(world))
    assert world.wise.asked == []


@pytest.mark.parametrize("scripted", [FAULT, "lose", "drop"])
def test_nobody_is_handed_one_that_a_request_may_have_ended(world: World, scripted: Outcome | str) -> None:
    world.wise.coexist = False
    served(world)
    due(world)
    world.wise.application_script = [scripted]
    attempt(world)
    answer = world.serve_token(APPLICATION)
    assert isinstance(answer, NotServed) or lives(world, answer)
    world.clock.advance(seconds=120)
    assert lives(world, served(world))


def test_one_whose_worker_died_ends_in_doubt_and_then_in_a_new_one(world: World) -> None:
    world.wise.coexist = False
    served(world)
    due(world)
    world.wise.after_application = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        attempt(world)
    world.wise.after_application = lambda: None
    assert not_served(world).why is Why.UNAVAILABLE
    world.clock.advance(seconds=60)
    world.sweep(3)
    assert lives(world, served(world))
    assert stored(world).phase is Phase.ACTIVE


def test_an_answer_that_no_write_takes_is_parked_and_stored(world: World) -> None:
    served(world)
    due(world)
    world.grants.failures = ["ok"] + ["before"] * 50
    assert attempt(world) is Word.IN_DOUBT
    world.grants.failures = []
    world.sweep()
    assert lives(world, served(world))
    assert len(world.wise.applications) == 2


def test_no_key_sends_nothing_and_the_one_before_stays_good(world: World) -> None:
    first = served(world)
    due(world)
    world.sealer.down = True
    assert attempt(world) is Word.FAILED
    world.sealer.down = False
    again = served(world)
    assert (again.version, again.degraded) == (first.version, True)
    world.wise.usable = False
    due(world)
    assert attempt(world) is Word.FAILED
    assert len(world.wise.applications) == 1


# --- what our own questions about the client do to it


@pytest.mark.parametrize("check", [None, FAULT, NO_ANSWER])
def test_a_question_about_our_client_that_may_have_ended_it_puts_it_in_doubt(
    world: World, check: ClientCheck | None
) -> None:
    world.wise.coexist = False
    first = served(world)
    if check is not None:
        world.wise.checks = [check]
    world.asker.settle_client(attempt_id="probe", within=timedelta(seconds=5))
    assert stored(world).in_doubt == "probe"
    answer = world.serve_token(APPLICATION)
    assert isinstance(answer, NotServed) or (lives(world, answer) and answer.version > first.version)
    world.clock.advance(seconds=30)
    assert lives(world, served(world))


def test_one_that_wise_may_still_carry_out_is_waited_for(world: World) -> None:
    world.wise.coexist = False
    served(world)
    world.wise.checks = [NO_ANSWER]
    world.asker.settle_client(attempt_id="probe", within=timedelta(seconds=5))
    world.clock.advance(seconds=world.budgets.settle.total_seconds())
    assert not_served(world).why is Why.UNAVAILABLE
    world.wise.carry_out_application()
    world.clock.advance(seconds=30)
    assert lives(world, served(world))


@pytest.mark.parametrize("check", [REFUSED, WRONG, Throttled(status=429), NotSent(reason="not-connected")])
def test_a_question_that_issued_nothing_leaves_it_alone(world: World, check: ClientCheck) -> None:
    first = served(world)
    world.wise.checks = [check]
    world.asker.settle_client(attempt_id="probe", within=timedelta(seconds=5))
    assert served(world).version == first.version


def test_a_doubt_that_comes_while_one_is_under_way_outlives_its_answer(world: World) -> None:
    world.wise.coexist = False
    served(world)
    due(world)

    def probe() -> None:
        world.wise.after_application = lambda: None
        world.asker.settle_client(attempt_id="probe", within=timedelta(seconds=5))

    world.wise.after_application = probe
    assert attempt(world) is Word.IN_DOUBT
    assert lives(world, served(world))


@pytest.mark.parametrize("scripted", ["plain", FAULT, Throttled(status=429), "killed"])
def test_a_question_without_an_answer_is_waited_for_whoever_was_at_it(world: World, scripted: Outcome | str) -> None:
    world.wise.coexist = False
    served(world)
    due(world)
    world.wise.checks = [NO_ANSWER]

    def question() -> None:
        world.wise.on_application = lambda: None
        if scripted == "killed":
            world.clock.advance(seconds=world.budgets.lease.total_seconds())
        world.asker.settle_client(attempt_id="another", within=world.budgets.http)
        if scripted == "killed":
            raise KeyboardInterrupt

    world.wise.on_application = question
    world.wise.application_script = [scripted]
    if scripted == "killed":
        with pytest.raises(KeyboardInterrupt):
            attempt(world)
        world.clock.advance(seconds=world.budgets.margin.total_seconds() + 1)
    else:
        attempt(world)
    sent = len(world.wise.applications)
    not_served(world)
    world.sweep(2)
    assert len(world.wise.applications) == sent
    world.wise.carry_out_application()
    world.clock.advance(seconds=60)
    world.sweep(20)
    assert lives(world, served(world))


def test_a_question_that_comes_before_the_lease_is_waited_for_as_well(world: World) -> None:
    served(world)
    due(world)
    world.wise.checks = [NO_ANSWER]
    world.asker.settle_client(attempt_id="another", within=world.budgets.http)
    assert attempt(world) is Word.IN_DOUBT
    assert (stored(world).attempt_id, len(world.wise.applications)) == (None, 1)


@pytest.mark.parametrize("reported", ["the one before", "the present one"])
@pytest.mark.parametrize("late", [False, True])
def test_a_report_does_not_end_the_wait_for_a_question(world: World, reported: str, *, late: bool) -> None:
    world.wise.coexist = False
    first = served(world)
    if late:
        world.clock.now = first.stable_until - timedelta(seconds=1)
    world.wise.checks = [NO_ANSWER]
    world.asker.settle_client(attempt_id="another", within=world.budgets.http)
    waits_until = stored(world).due_at
    assert waits_until is not None
    world.clock.advance(seconds=5)
    version = first.version if reported == "the one before" else stored(world).version
    result = world.refresh_grant(APPLICATION, Rejected(version), alone=True)
    assert (result.word, result.retry_at) == (Word.IN_DOUBT, waits_until)
    assert (stored(world).attempt_id, stored(world).due_at) == (None, waits_until)
    world.sweep(3)
    assert len(world.wise.applications) == 1
    world.wise.carry_out_application()
    world.clock.now = waits_until
    assert lives(world, served(world))
    assert len(world.wise.applications) == 2


def test_a_report_takes_on_one_that_is_due_or_not_there_yet(world: World) -> None:
    assert attempt(world, Rejected(1)) is Word.REFRESHED
    due(world)
    assert attempt(world, Rejected(stored(world).version - 1)) is Word.REFRESHED
    assert attempt(world, Rejected(stored(world).version - 1)) is Word.FRESH


def test_a_doubt_that_comes_while_an_answer_is_parked_outlives_it(world: World) -> None:
    world.wise.coexist = False
    served(world)
    due(world)
    world.grants.failures = ["ok"] + ["before"] * 50
    attempt(world)
    world.grants.failures = []
    world.asker.settle_client(attempt_id="probe", within=timedelta(seconds=5))
    world.sweep(30)
    assert lives(world, served(world))


def test_where_there_is_none_nothing_comes_of_a_question(world: World) -> None:
    world.asker.settle_client(attempt_id="probe", within=timedelta(seconds=5))
    assert world.grants.items == {}


def test_a_doubt_that_no_write_takes_is_on_record_and_raises_nothing(world: World) -> None:
    served(world)
    world.grants.failures = ["before"]
    assert isinstance(world.asker.settle_client(attempt_id="p", within=timedelta(seconds=5)), ClientAccepted)
    assert world.journal.events[-1] == Trouble(
        key=APPLICATION, code=StoreUnavailable.code, detail="doubting the application token"
    )


def test_another_grants_question_about_our_client_puts_it_in_doubt(world: World) -> None:
    world.wise.coexist = False
    served(world)
    world.adopted()
    world.due_now()
    world.wise.script = [REFUSED]
    world.attempt()
    assert stored(world).in_doubt is not None
    assert lives(world, served(world))


# --- a client that Wise refuses


@pytest.mark.parametrize("outcome", [REFUSED, WRONG])
def test_a_client_that_gets_none_is_held_and_told_alone(world: World, outcome: ClientRefused | WeAreWrong) -> None:
    first = served(world)
    due(world)
    for _ in range(5):
        world.wise.application_script = [outcome]
        world.wise.checks = [outcome]
        assert attempt(world) is Word.FAILED
        world.clock.now = max(world.clock.now, stored(world).refresh_at)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]
    assert world.breaker.known() is None
    world.adopted()
    world.due_now()
    assert world.attempt().word is Word.REFRESHED
    assert stored(world).phase is Phase.ACTIVE
    due(world)
    assert attempt(world) is Word.REFRESHED
    world.sweep(2)
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD, AlertKind.RECOVERED]
    assert served(world).version == first.version + 1


def test_one_that_gets_none_keeps_the_one_before_for_its_readers(world: World) -> None:
    first = served(world)
    due(world)
    world.wise.application_script, world.wise.checks = [REFUSED], [REFUSED]
    attempt(world)
    again = served(world)
    assert (again.version, again.degraded) == (first.version, True)
    assert stored(world).refresh_at - world.clock() > HELD_FOR - REFRESH_FLOOR


def test_a_changed_secret_is_found_in_the_same_attempt(world: World) -> None:
    world.wise.coexist = False
    served(world)
    due(world)
    world.wise.secrets, world.wise.valid_secrets = ["secret-2", "secret-1"], {"secret-2"}
    assert attempt(world) is Word.REFRESHED
    assert lives(world, served(world))
    assert world.alerts.published == []


def test_a_second_refusal_after_a_changed_secret_is_not_a_third_request(world: World) -> None:
    served(world)
    due(world)
    world.wise.application_script = [REFUSED, REFUSED]
    world.wise.checks = [ClientAccepted(changed=True), ClientAccepted(changed=True)]
    assert attempt(world) is Word.IN_DOUBT
    assert len(world.wise.applications) == 3
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]


@pytest.mark.parametrize("check", [Throttled(status=429), NotSent(reason="not-connected"), FAULT, NO_ANSWER])
def test_a_refusal_of_which_wise_says_no_more_is_tried_again_soon(world: World, check: ClientCheck) -> None:
    served(world)
    due(world)
    world.wise.application_script, world.wise.checks = [REFUSED], [check]
    attempt(world)
    assert world.alerts.published == []
    world.clock.advance(seconds=60)
    assert attempt(world) is Word.REFRESHED
    assert lives(world, served(world))


def test_a_refusal_without_time_for_a_question_is_tried_again_soon(world: World) -> None:
    served(world)
    due(world)
    world.wise.application_script = [REFUSED]
    world.wise.on_application = lambda: world.clock.advance(seconds=6)
    assert attempt(world) is Word.FAILED
    assert world.wise.settled == []


def test_an_open_breaker_stops_its_refresh_and_not_its_readers(world: World) -> None:
    first = served(world)
    due(world)
    world.wise.script = [Throttled(status=429, retry_after=timedelta(seconds=60))]
    world.adopted()
    world.due_now()
    world.attempt()
    again = served(world)
    assert (again.version, again.degraded) == (first.version, True)
    assert len(world.wise.applications) == 1
