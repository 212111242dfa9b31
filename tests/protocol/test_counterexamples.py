"""Each short history that breaks a simpler protocol, by name: here it does no harm, without its rule it does.

They were found by exploring a model of the naive protocol. `r` in a name: where Wise replaces the refresh token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from local.proof.checker import Rule, check
from local.proof.history import Adopted, Announced, Asked, Deleted, NotServed, Outage, Parked, Served, Suspended
from tests.fakes.wise import LIFE
from tests.protocol import guards
from tests.protocol.guards import Guard, all_of
from tests.protocol.stage import Actor, Stage
from tests.protocol.steps import Always, Script


@dataclass(frozen=True)
class Case:
    """A history up to the point from which everything heals.

    `without` takes out the rule that it is about, and `breaks` is what then goes wrong. A history that only shows that
    the right thing happens has no such rule of its own. `met` tells that the history came to what it is about.
    """

    name: str
    play: Callable[[Stage], None]
    policy: str = "same"
    without: Guard | None = None
    breaks: Rule | None = None
    met: Callable[[Stage], object] = lambda _: True
    life: timedelta = LIFE


def of(stage: Stage, kind: type) -> list[object]:
    return [record for record in stage.history() if isinstance(record, kind)]


# --- a, b, c: workers that die, doubts, copies of writes


def a1_reported_and_the_worker_is_killed(stage: Stage) -> None:
    """A report takes the lease of a grant that is not due for hours, and its worker is killed."""
    stage.pass_time(600)
    stage.act("report", Script({"write": ["kill after"]}))


def a2_in_doubt_and_not_due_for_hours(stage: Stage) -> None:
    """A reported token is dead, the refresh ends in a fault and nobody knows: who comes later must be able to act."""
    stage.pass_time(600)
    stage.act("end_token")
    stage.act("report", Script({"answer": ["fault"], "ask": ["ok", "no answer"]}))
    stage.act("read")


def b_killed_twice(stage: Stage) -> None:
    """A worker is killed after it had sent, and so is the one who takes over."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, done"]}))
    stage.pass_time(23)
    stage.act("sweep", Script({"answer": ["killed, done"]}))


def b1_taken_over_and_not_sent(stage: Stage) -> None:
    """Whoever takes over cannot connect, and must not call the token good."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, done"]}))
    stage.pass_time(23)
    stage.act("refresh", Script({"send": ["not sent"]}))
    stage.act("read")
    stage.pass_time(15)


def b2_lost_and_the_second_is_not_sent(stage: Stage) -> None:
    """The answer is lost, the second request cannot be sent: the first one may have killed the token."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["lost"], "send": ["ok", "not sent"]}))
    stage.act("read")
    stage.pass_time(15)


def c_a_copy_of_a_reports_acquire(stage: Stage) -> None:
    """A copy of the write that took the lease arrives when the attempt is over: a lease of nobody's."""
    stage.pass_time(600)
    stage.act("report", Script({"write": ["done twice"]}))
    stage.pass_time(10)


def c1_a_copy_of_a_scheduled_acquire(stage: Stage) -> None:
    """The same of a scheduled attempt that could not connect: the copy tells the time of then, and is refused."""
    stage.due_now()
    stage.late = timedelta(seconds=12)
    stage.act("refresh", Script({"write": ["done twice"], "send": ["not sent"]}))
    stage.pass_time(13)


# --- d: others at the same time


def d1_suspended_in_flight(stage: Stage) -> None:
    """An operator suspends while a refresh is in flight: its answer is stored, and nothing is served."""
    stage.due_now()
    stage.act("refresh", Script({"answer": [lambda: stage.act("suspend")]}))
    stage.act("read")
    stage.act("lift")


def d2_suspended_in_flight_without_the_lease(stage: Stage) -> None:
    """The same, suspended by somebody who clears the lease: the answer is stored all the same."""
    stage.due_now()
    stage.act("refresh", Script({"answer": [lambda: stage.act("suspend")]}))
    stage.act("lift")


def d3_deleted_and_imported_in_flight(stage: Stage) -> None:
    """What was exported is imported anew while Wise still has a request of a worker that is gone."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, late"]}))
    stage.act("recreate")
    stage.act("read")


def d4_parked(stage: Stage) -> None:
    """The table takes no writes when the answer comes, and the answer is what heals it."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["outage 60 s"]}))
    stage.pass_time(62)


def d4_parked_and_taken_over(stage: Stage) -> None:
    """A reader has the grant taken over before the queue is drained; Wise calls the stored refresh token dead."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["outage 60 s"]}))
    stage.pass_time(62)
    stage.act("read")


def d5_linked_anew_in_flight(stage: Stage) -> None:
    """The user authorizes anew while a refresh with the old refresh token is in flight: Wise refuses that one."""
    stage.due_now()
    stage.act("refresh", Script({"answer": [lambda: stage.act("relink")]}))
    stage.pass_time(23)
    stage.act("relink")


# --- e, f, p: pauses and clocks


def e1_paused_before_sending(stage: Stage) -> None:
    """The holder stands still between its last look at the clock and the request, and others look meanwhile."""

    def meanwhile() -> None:
        stage.pass_time(14)
        stage.act("sweep2")
        if stage.wise.requests:
            stage.act("read")

    stage.due_now()
    stage.act("refresh", Script({"send": [meanwhile]}))


def e2_paused_before_the_commit(stage: Stage) -> None:
    """The holder stands still with the answer in hand, which holds the only refresh token that lives."""

    def meanwhile() -> None:
        stage.pass_time(14)
        stage.act("sweep2")

    stage.due_now()
    stage.act("refresh", Script({"write": ["ok", meanwhile]}))


def e3_a_version_of_a_deleted_grant_is_reported(stage: Stage) -> None:
    """A late report names a version of the grant that was there before, and others hold a promise about the new one."""
    version = stage.exported.version
    stage.pass_time(3600)
    stage.act("recreate")
    stage.act("read")
    stage.pass_time(600)
    with stage.acting(Actor("reporter")):
        stage.report(version)


def e4_a_living_token_is_reported(stage: Stage) -> None:
    """A partner service reports a token that lives, and others hold a promise about it."""
    stage.pass_time(600)
    stage.act("read")
    stage.act("report")


def e4_a_report_that_wise_does_not_answer(stage: Stage) -> None:
    """A report that fails must not bring forward what others were promised."""
    stage.pass_time(600)
    stage.act("read")
    stage.act("report", Script({"ask": ["no answer"]}))
    stage.pass_time(15)


def e5_ended_by_wise_reported_and_killed(stage: Stage) -> None:
    """Wise ends the token, it is reported, and the worker is killed before it has done anything."""
    stage.pass_time(600)
    stage.act("end_token")
    stage.act("report", Script({"write": ["kill after"]}))


def f_clocks_that_differ(stage: Stage) -> None:
    """A reader whose clock is slow is promised something, and a worker whose clock is fast refreshes."""
    refresh_at = stage.exported.refresh_at
    for before_s in (2.1, 0.5):
        stage.clock.now = refresh_at - timedelta(seconds=before_s)
        stage.act("read", off_s=-2)
        stage.clock.now = refresh_at - timedelta(seconds=before_s - 0.2)
        stage.act("refresh", off_s=2)


def p_a_lease_by_two_clocks(stage: Stage) -> None:
    """The holder's clock is slow and it is killed; the clock of who takes over is fast; Wise takes its time."""
    stage.due_now()
    stage.pass_time(2)
    stage.late = timedelta(seconds=14.5)
    stage.act("refresh", Script({"answer": ["killed, late"]}), off_s=-2)
    for _ in range(20):
        stage.pass_time(1)
        stage.act("refresh", off_s=2)


# --- g, h, i: what becomes of a request


def g_not_sent_again_and_again(stage: Stage) -> None:
    """Wise cannot be reached: readers go on getting the token, marked degraded, with a promise that only grows."""
    stage.due_now()
    for _ in range(3):
        stage.act("refresh", Script({"send": ["not sent"]}))
        stage.act("read", Script({"send": ["not sent"]}))
        stage.due_now()


def g1_not_sent_until_it_expires(stage: Stage) -> None:
    """Wise cannot be reached until the token has expired: nobody is handed it then."""
    stage.due_now()
    expires_at = stage.exported.expires_at
    assert expires_at is not None
    while stage.clock.now < expires_at + timedelta(minutes=2):
        stage.act("sweep", Always("send", "not sent"))
        stage.act("read", Always("send", "not sent"))
        stage.pass_time(30)


def h1_a_fault_of_wises(stage: Stage) -> None:
    """Wise answers with a fault of its own, though it carried the request out."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["fault, done", "fault"]}))
    stage.act("read")


def h2_a_proxys_fault(stage: Stage) -> None:
    """A proxy answers 504 while Wise is still at it: that the token lives now says nothing."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["504, late"]}))
    stage.act("read")
    stage.pass_time(15)
    stage.act("read")


def i1_slow(stage: Stage) -> None:
    """We give up on a request that Wise carries out later: a second one at once would be killed by the first."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["time out, late"]}))
    stage.act("read")
    stage.pass_time(15)
    stage.act("read")


def i2_the_answer_is_lost(stage: Stage) -> None:
    """The answer is lost on its way: the old token is dead, so the request was carried out."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["lost"]}))


def i3_killed_and_slow(stage: Stage) -> None:
    """A worker is killed, and Wise carries its request out late, but before its lease is over."""
    stage.due_now()
    stage.late = timedelta(seconds=14)
    stage.act("refresh", Script({"answer": ["killed, late"]}))
    for _ in range(20):
        stage.pass_time(1)
        stage.act("refresh")


def i4_slower_than_anybody_reckons_with(stage: Stage) -> None:
    """Wise carries a request out after its lease is over: nobody could know, and it heals once it is reported."""
    stage.due_now()
    stage.late = timedelta(seconds=40)
    stage.act("refresh", Script({"answer": ["killed, late"]}))
    stage.pass_time(23)
    stage.act("sweep")
    stage.act("read")
    stage.pass_time(3600)
    stage.act("report")


def k_an_alert_that_cannot_be_told(stage: Stage) -> None:
    """An active grant has an alert that the topic refuses: it is due to be told, and is not due to be refreshed."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["client refused"]}))
    stage.due_now()
    stage.act("refresh")
    stage.act("read")
    stage.act("sweep", Script({"topic": ["refused"]}))


# --- x: several at once


def x1_reported_a_fault_and_killed(stage: Stage) -> None:
    """A report, a fault of Wise's, a worker that is killed; and who takes over cannot connect."""
    stage.pass_time(600)
    stage.act("end_token")
    stage.act("report", Script({"answer": ["fault, done"], "ask": ["ok", "kill before"]}))
    stage.pass_time(23)
    stage.act("refresh", Script({"send": ["not sent"]}))
    stage.act("read")
    stage.pass_time(15)


def x2_slow_then_an_outage(stage: Stage) -> None:
    """We give up on a request; who takes over gets an answer, and the table takes no writes."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["time out, late"]}))
    stage.pass_time(23)
    stage.act("refresh", Script({"answer": ["outage 60 s"]}))
    stage.pass_time(62)


def x3_lost_and_killed(stage: Stage) -> None:
    """The answer is lost, and the worker is killed after its second request."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["lost", "killed, done"]}))


def x4_nothing_takes_writes(stage: Stage) -> None:
    """Neither the table nor the queue takes the answer: it is lost, and everybody knows that it may be."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["outage of all 60 s"]}))
    stage.act("read")
    stage.pass_time(62)


def x5_imported_in_flight_and_killed(stage: Stage) -> None:
    """A worker is killed, Wise still has its request, and what was exported is imported again."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, late"]}))
    stage.act("readopt")
    stage.act("read")


def x6_suspended_in_flight_and_killed(stage: Stage) -> None:
    """A dead token is reported, an operator suspends while it is refreshed, the worker is killed; then it is lifted."""
    stage.pass_time(600)
    stage.act("end_token")
    stage.act("report", Script({"send": [lambda: stage.act("suspend")], "answer": ["killed, done"]}))
    stage.act("lift")
    stage.act("read")


def x7_parked_and_an_older_copy_imported(stage: Stage) -> None:
    """An answer lies parked, and what was exported before it is imported again; then a reader comes."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["outage 60 s"], "park": ["kill after"]}))
    stage.pass_time(62)
    stage.act("readopt")
    stage.act("read")


def x8_lost_and_an_older_copy_imported(stage: Stage) -> None:
    """The answer died with its worker; long after that the refresh token that it replaced is imported again."""
    stage.due_now()
    stage.act("refresh", Script({"answer": ["killed, done"]}))
    stage.pass_time(220)
    stage.act("readopt_bare")
    stage.act("read")


# --- s: reads


def s_a_reader_one_write_behind(stage: Stage) -> None:
    """A reader looks while a token that Wise called dead is being replaced."""
    stage.pass_time(600)
    stage.act("end_token")
    stage.act("report", Script({"answer": [lambda: stage.act("read")]}))


def s2_a_reader_of_a_suspended_grant(stage: Stage) -> None:
    """A reader looks right after an operator has suspended the grant."""
    stage.pass_time(600)
    stage.act("suspend")
    stage.act("read")
    stage.act("lift")


def s3_a_reader_of_a_suspended_tenant(stage: Stage) -> None:
    """An operator suspends the tenant while a refresh is in flight; readers and a sweep come; then it is lifted."""
    stage.due_now()
    stage.act("refresh", Script({"answer": [lambda: stage.act("stop")]}))
    stage.act("read")
    stage.act("sweep")
    stage.act("report")
    stage.act("go_on")
    stage.act("read")


def s4_suspended_and_killed(stage: Stage) -> None:
    """The worker is killed after Wise has refreshed, while its tenant is suspended for an hour."""
    stage.due_now()
    stage.act("refresh", Script({"send": [lambda: stage.act("stop")], "answer": ["killed, done"]}))
    stage.act("read")
    stage.pass_time(60)
    stage.act("sweep")
    stage.pass_time(3600)
    stage.act("sweep")
    stage.act("go_on")
    stage.act("read")


NOT_DEAD, PROMISE, KEPT, JUDGED, ONE = Rule.NOT_DEAD, Rule.PROMISE, Rule.KEPT, Rule.JUDGED, Rule.ONE_AT_A_TIME
_unnoticed = all_of(guards.report_without_a_note, guards.take_over_only_what_is_due)
_hasty = all_of(guards.lease_as_long_as_the_attempt, guards.judge_while_an_answer_may_be_parked)
_relinked = all_of(guards.replace_what_is_held, guards.judge_whatever_was_presented)
_blind = all_of(guards.retry_blindly, guards.send_with_any_time_left)
_rash = all_of(guards.begin_with_the_same_version, guards.refresh_what_is_reported_unasked)
_swept_away = all_of(guards.suspend_clears_the_lease, guards.drop_what_was_overtaken)


def sent(times: int) -> Callable[[Stage], bool]:
    return lambda stage: stage.wise.requests >= times


def some(kind: type) -> Callable[[Stage], bool]:
    return lambda stage: bool(of(stage, kind))


def turned_away(stage: Stage) -> bool:
    return bool(of(stage, NotServed))


CASES = [
    Case("a1", a1_reported_and_the_worker_is_killed, "same", _unnoticed, KEPT, some(Asked)),
    Case(
        "a2",
        a2_in_doubt_and_not_due_for_hours,
        "same",
        guards.leave_a_doubt_in_the_index_where_it_was,
        KEPT,
        turned_away,
    ),
    Case("b", b_killed_twice, "same", guards.never_take_over, KEPT, sent(3)),
    Case("b'", b1_taken_over_and_not_sent, "same", guards.forget_doubt_at_takeover, NOT_DEAD, some(Asked)),
    Case("b2", b2_lost_and_the_second_is_not_sent, "same", guards.forget_own_doubt, NOT_DEAD, sent(2)),
    Case("c", c_a_copy_of_a_reports_acquire, "same", guards.take_over_only_what_is_due, KEPT, some(Asked)),
    Case("c'", c1_a_copy_of_a_scheduled_acquire, met=sent(1)),
    Case("d1", d1_suspended_in_flight, "same", guards.commit_the_phase, Rule.SUSPENDED, some(Suspended)),
    Case("d2", d2_suspended_in_flight_without_the_lease, "same", _swept_away, KEPT, some(Suspended)),
    Case("d3", d3_deleted_and_imported_in_flight, "same", guards.replace_what_is_held, PROMISE, sent(1)),
    Case("d3r", d3_deleted_and_imported_in_flight, "rotated", guards.replace_what_is_held, ONE, sent(1)),
    Case("d4", d4_parked, "same", guards.never_park, KEPT, some(Parked)),
    Case(
        "d4r",
        d4_parked_and_taken_over,
        "rotated",
        guards.judge_while_an_answer_may_be_parked,
        JUDGED,
        lambda stage: stage.wise.requests == 2 and of(stage, Parked),
    ),
    Case("d5", d5_linked_anew_in_flight, "same", _relinked, JUDGED, sent(1)),
    Case("d5r", d5_linked_anew_in_flight, "rotated", _relinked, JUDGED, sent(1)),
    Case("e1", e1_paused_before_sending, "same", guards.lease_as_long_as_the_attempt, PROMISE, sent(1)),
    Case("e1r", e1_paused_before_sending, "rotated", met=sent(1)),
    Case("e2", e2_paused_before_the_commit, "same", met=sent(1)),
    Case("e2r", e2_paused_before_the_commit, "rotated", _hasty, JUDGED, sent(1)),
    Case("e3", e3_a_version_of_a_deleted_grant_is_reported, "same", _rash, PROMISE, some(Deleted)),
    Case("e4", e4_a_living_token_is_reported, "same", guards.refresh_what_is_reported_unasked, PROMISE, some(Asked)),
    Case("e4'", e4_a_report_that_wise_does_not_answer, "same", guards.bring_promises_forward, PROMISE, some(Asked)),
    Case("e5", e5_ended_by_wise_reported_and_killed, "same", _unnoticed, KEPT, some(Asked)),
    Case("f", f_clocks_that_differ, "same", guards.no_guard, PROMISE, sent(1)),
    Case("g", g_not_sent_again_and_again, met=lambda s: any(r.degraded for r in s.history() if isinstance(r, Served))),
    Case(
        "g'",
        g1_not_sent_until_it_expires,
        "same",
        guards.serve_past_expiry,
        NOT_DEAD,
        turned_away,
        timedelta(minutes=20),
    ),
    Case("h1", h1_a_fault_of_wises, "same", guards.believe_it_lives, NOT_DEAD, some(Asked)),
    Case("h2", h2_a_proxys_fault, "same", guards.take_a_proxys_word_for_wises, NOT_DEAD, some(Asked)),
    Case("i1", i1_slow, "same", _blind, ONE, sent(1)),
    Case("i1r", i1_slow, "rotated", _blind, ONE, sent(1)),
    Case("i2", i2_the_answer_is_lost, met=sent(2)),
    Case("i2r", i2_the_answer_is_lost, "rotated", guards.call_every_death_a_revocation, JUDGED, sent(2)),
    Case("i3", i3_killed_and_slow, "same", guards.lease_as_long_as_the_attempt, ONE, sent(2)),
    Case("i4", i4_slower_than_anybody_reckons_with, met=sent(3)),
    Case(
        "k",
        k_an_alert_that_cannot_be_told,
        "same",
        guards.acquire_whatever_is_in_the_index,
        PROMISE,
        lambda stage: [r.kind for r in stage.history() if isinstance(r, Announced)] == ["held", "recovered"],
    ),
    Case("p", p_a_lease_by_two_clocks, "same", guards.no_margin, ONE, sent(2)),
    Case("x1", x1_reported_a_fault_and_killed, "same", guards.forget_doubt_at_takeover, NOT_DEAD, sent(2)),
    Case("x2", x2_slow_then_an_outage, "same", guards.never_park, KEPT, some(Parked)),
    Case("x2r", x2_slow_then_an_outage, "rotated", guards.call_every_death_a_revocation, JUDGED, sent(2)),
    Case("x3", x3_lost_and_killed, "omitted", guards.never_take_over, KEPT, sent(3)),
    Case("x4", x4_nothing_takes_writes, "same", guards.serve_in_doubt, NOT_DEAD, some(Outage)),
    Case("x4r", x4_nothing_takes_writes, "rotated", guards.call_every_death_a_revocation, JUDGED, some(Outage)),
    Case("x5", x5_imported_in_flight_and_killed, "same", guards.replace_what_is_held, PROMISE, sent(1)),
    Case("x6", x6_suspended_in_flight_and_killed, "same", guards.suspend_clears_the_lease, NOT_DEAD, some(Suspended)),
    Case(
        "x7r",
        x7_parked_and_an_older_copy_imported,
        "rotated",
        guards.import_over_what_may_be_parked,
        JUDGED,
        some(Parked),
    ),
    Case(
        "x8r",
        x8_lost_and_an_older_copy_imported,
        "rotated",
        guards.forget_doubt_at_import,
        JUDGED,
        lambda stage: len(of(stage, Adopted)) == 2,
    ),
    Case("s", s_a_reader_one_write_behind, "same", guards.read_one_write_behind, NOT_DEAD, sent(1)),
    Case("s2", s2_a_reader_of_a_suspended_grant, "same", guards.read_one_write_behind, Rule.SUSPENDED, turned_away),
    Case("s3", s3_a_reader_of_a_suspended_tenant, "same", guards.forget_what_is_suspended, Rule.SUSPENDED, turned_away),
    Case("s4", s4_suspended_and_killed, "rotated", met=turned_away),
]


def title(case: Case) -> str:
    return f"{case.name} {case.play.__name__.partition('_')[2].replace('_', ' ')}"


def played(case: Case) -> Stage:
    stage = Stage(case.policy, case.life)
    case.play(stage)
    stage.heal()
    return stage


@pytest.mark.parametrize("case", CASES, ids=title)
def test_it_does_no_harm(case: Case, record_property: Callable[[str, object], None]) -> None:
    record_property("histories", 1)
    stage = played(case)
    assert case.met(stage)
    assert check(stage.history()) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.without is not None], ids=title)
def test_without_its_rule_it_does(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert case.without is not None
    case.without(monkeypatch)
    assert case.breaks in {violation.rule for violation in check(played(case).history())}
