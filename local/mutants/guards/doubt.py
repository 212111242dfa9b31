"""Doubt: a refresh was sent and nobody knows whether it was carried out."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_ATTEMPTS: Final = "tests/unit/test_refresh_grant.py"
_PARKING: Final = "tests/unit/test_parking.py"

GUARDS: Final = (
    Guard(
        name="doubt-at-takeover",
        says="who takes over a lease marks its attempt's outcome as unknown",
        path=_ATTEMPT,
        old="            in_doubt=stored.attempt_id,\n            hold_until=",
        new="            in_doubt=None,\n            hold_until=",
        tests=(
            f"{_ATTEMPTS}::test_a_takeover_moves_due_at_before_anything_else_and_inherits_the_doubt",
            f"{_ATTEMPTS}::test_doubt_is_inherited_when_the_taker_cannot_send",
        ),
    ),
    Guard(
        name="doubt-inherited",
        says="a doubt outlives an attempt that could not send",
        path=_ATTEMPT,
        old="        self.doubt = grant.in_doubt\n",
        new="        self.doubt = None\n",
        tests=(f"{_ATTEMPTS}::test_doubt_is_inherited_when_the_taker_cannot_send",),
    ),
    Guard(
        name="ask-first",
        says="in doubt, Wise is asked before anything is sent",
        path=_ATTEMPT,
        old="        if grant.in_doubt is not None or isinstance(cause, Rejected):\n",
        new="        if isinstance(cause, Rejected):\n",
        tests=(
            f"{_ATTEMPTS}::test_a_taker_asks_first_and_clears_the_doubt_of_a_request_that_never_came",
            f"{_ATTEMPTS}::test_doubt_stays_when_wise_does_not_answer_the_question",
        ),
    ),
    Guard(
        name="report-asks",
        says="a report is checked with Wise before it costs a token its life",
        path=_ATTEMPT,
        old="        if grant.in_doubt is not None or isinstance(cause, Rejected):\n",
        new="        if grant.in_doubt is not None:\n",
        tests=(f"{_ATTEMPTS}::test_a_report_about_a_living_token_refreshes_nothing",),
    ),
    Guard(
        name="no-answer-no-send",
        says="where Wise does not answer the question nothing is sent",
        path=_ATTEMPT,
        old='        if liveness is Liveness.NO_ANSWER:\n            return self._give_back(grant, "no-answer")\n',
        new="",
        tests=(f"{_ATTEMPTS}::test_doubt_stays_when_wise_does_not_answer_the_question",),
    ),
    Guard(
        name="known-dead",
        says="a token that Wise called dead stays in doubt when it cannot be replaced",
        path=_ATTEMPT,
        old="        in_doubt = self.doubt or (FOUND_DEAD if self.dead else None)\n",
        new="        in_doubt = self.doubt\n",
        tests=(f"{_ATTEMPTS}::test_a_report_that_cannot_refresh_a_dead_token_leaves_it_in_doubt",),
    ),
    Guard(
        name="doubt-after-unknown",
        says="a request without an answer leaves a doubt, whatever comes after it",
        path=_ATTEMPT,
        old="            self.doubt = self.lease.attempt_id\n            first = ",
        new="            first = ",
        tests=(f"{_ATTEMPTS}::test_a_not_sent_after_a_lost_answer_leaves_the_grant_in_doubt",),
    ),
    Guard(
        name="leave-the-lease",
        says="nobody sends again while Wise may still carry out an unanswered request",
        path=_ATTEMPT,
        old="        after = replace(grant, in_doubt=self.doubt, failures=",
        new="        after = replace(self._free(grant), in_doubt=self.doubt, failures=",
        tests=(f"{_ATTEMPTS}::test_nobody_sends_again_while_an_unanswered_request_may_still_be_carried_out",),
    ),
    Guard(
        name="surely-lived",
        says="only the death of a token that surely lived proves that our request was carried out",
        path=_ATTEMPT,
        old="            first = self.sends == 1 and self.sure\n",
        new="            first = self.sends == 1\n",
        tests=("tests/mutants/test_guards.py::test_a_death_that_was_known_before_proves_nothing_about_our_request",),
    ),
    Guard(
        name="first-send",
        says="a second unanswered request of one attempt is not followed by a third",
        path=_ATTEMPT,
        old="            first = self.sends == 1 and self.sure\n",
        new="            first = self.sure\n",
        tests=("tests/mutants/test_guards.py::test_the_second_request_of_an_attempt_is_its_last",),
    ),
    Guard(
        name="old-age",
        says="a death near its expiry proves nothing: it may be old age",
        path=_ATTEMPT,
        old="self.use.clock() >= expires_at - self.use.budgets.margin - self.use.budgets.http:\n",
        new="self.use.clock() >= expires_at:\n",
        tests=(f"{_ATTEMPTS}::test_a_death_near_expiry_proves_nothing_about_the_request",),
    ),
    Guard(
        name="fault-asked-about",
        says="a server fault counts as harmless only if the token still lives",
        path=_ATTEMPT,
        old="            if liveness is Liveness.LIVES:\n",
        new="            if liveness is not Liveness.DEAD:\n",
        tests=(
            f"{_ATTEMPTS}::test_a_server_fault_is_settled_by_asking",
            f"{_ATTEMPTS}::test_a_server_fault_for_an_expired_token_leaves_the_grant_in_doubt",
        ),
    ),
    Guard(
        name="two-faults",
        says="an attempt does not send a third time after two faults",
        path=_ATTEMPT,
        old=" or self.sends >= _SENDS:\n",
        new=":\n",
        tests=(f"{_ATTEMPTS}::test_two_server_faults_with_a_dead_token_leave_the_grant_in_doubt",),
    ),
    Guard(
        name="living-worker",
        says="a worker that leaves its lease on purpose is not taken for a dead one",
        path=_ATTEMPT,
        old="failures=failures, last_error=code, takeovers=0, due_at=due_at)\n",
        new="failures=failures, last_error=code, due_at=due_at)\n",
        tests=(f"{_ATTEMPTS}::test_unanswered_requests_are_not_taken_for_dead_workers",),
    ),
    Guard(
        name="presented-token",
        says="a verdict counts only for the refresh token that was presented",
        path=_ATTEMPT,
        old="attempt_id=self.lease.attempt_id, refresh_token=grant.refresh_token, phase=Phase.ACTIVE)\n",
        new="attempt_id=self.lease.attempt_id, phase=Phase.ACTIVE)\n",
        tests=(f"{_ATTEMPTS}::test_a_verdict_does_not_fall_on_a_token_that_was_replaced",),
    ),
    Guard(
        name="verdict-suspended",
        says="a verdict does not lift a suspension",
        path=_ATTEMPT,
        old="refresh_token=grant.refresh_token, phase=Phase.ACTIVE)\n",
        new="refresh_token=grant.refresh_token)\n",
        tests=(f"{_ATTEMPTS}::test_a_verdict_does_not_lift_a_suspension",),
    ),
    Guard(
        name="hold",
        says="no verdict falls before an answer has had time to be parked",
        path=_ATTEMPT,
        old="        return self.drained_at is None or self.drained_at < grant.hold_until\n",
        new="        return self.drained_at is None\n",
        tests=(
            "tests/mutants/test_guards.py::test_no_verdict_falls_at_who_saw_the_queue_empty_before_an_answer_could_be_in_it",
        ),
    ),
    Guard(
        name="drained-queue",
        says="no verdict falls at who has not seen the parking queue empty",
        path=_ATTEMPT,
        old="        return self.drained_at is None or self.drained_at < grant.hold_until\n",
        new="        return self.use.clock() < grant.hold_until\n",
        tests=(
            f"{_PARKING}::test_no_verdict_falls_while_an_answer_may_be_parked",
            f"{_PARKING}::test_no_verdict_falls_while_the_queue_does_not_answer",
        ),
    ),
    Guard(
        name="outcome-unknown",
        says="a death after a lost answer is not called a revocation",
        path=_ATTEMPT,
        old='        return OUTCOME_UNKNOWN if may_have_lost(self.doubt) else "invalid_grant"\n',
        new='        return "invalid_grant"\n',
        tests=(f"{_PARKING}::test_a_verdict_falls_once_the_queue_was_seen_empty_after_the_hold",),
    ),
    Guard(
        name="unproven",
        says="the death of an access token that only an import calls alive proves nothing about our request",
        path=_ATTEMPT,
        old=" and not grant.unproven\n",
        new="\n",
        tests=(
            "tests/longlife/test_found.py::test_an_imported_token_that_was_dead_already_says_nothing_about_a_request_of_ours",
        ),
    ),
    Guard(
        name="sweeps-judge",
        says="readers leave a grant in doubt that is called dead to the sweep, which may judge it",
        path="functions/token_rotator/domain/policy.py",
        old="        if due and grant.last_error != GRANT_INVALID:\n",
        new="        if due:\n",
        tests=(f"{_PARKING}::test_a_reader_who_always_comes_first_does_not_put_a_verdict_off",),
    ),
)
