"""Nothing that is due stays due for ever, nor keeps others waiting."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_SWEEP: Final = "functions/token_rotator/service/refresh_due.py"
_RULES: Final = "functions/token_rotator/domain/policy.py"
_ATTEMPTS: Final = "tests/unit/test_refresh_grant.py"
_SWEEPS: Final = "tests/unit/test_refresh_due.py"

GUARDS: Final = (
    Guard(
        name="retry-after",
        says="a grant is left alone for as long as Wise says",
        path=_RULES,
        old="    return max(pause, min(retry_after or timedelta(0), RETRY_AFTER_CAP))\n",
        new="    return pause\n",
        tests=(f"{_ATTEMPTS}::test_retry_after_is_honoured",),
    ),
    Guard(
        name="backoff-grows",
        says="a grant that fails again and again is left alone for longer",
        path=_RULES,
        old="    step = min(BACKOFF_BASE * (1 << min(failures - 1, 10)), BACKOFF_CAP)\n",
        new="    step = BACKOFF_BASE\n",
        tests=(f"{_ATTEMPTS}::test_a_back_off_grows_and_ends_with_success",),
    ),
    Guard(
        name="failure-moves-due",
        says="a failed attempt moves the grant out of the way",
        path=_ATTEMPT,
        old="            after = replace(after, hold_until=None, refresh_at=max(grant.refresh_at, retry_at))\n",
        new="            after = replace(after, hold_until=None)\n",
        tests=(f"{_ATTEMPTS}::test_a_fault_that_is_not_the_grants_leaves_it_good",),
    ),
    Guard(
        name="doubt-moves-due",
        says="a failed attempt to resolve a doubt moves the grant out of the way",
        path=_ATTEMPT,
        old="        return replace(after, due_at=retry_at), retry_at\n",
        new="        return after, retry_at\n",
        tests=(f"{_ATTEMPTS}::test_doubt_is_inherited_when_the_taker_cannot_send", _ATTEMPTS),
    ),
    Guard(
        name="promise-kept",
        says="a failure never brings a promised instant forward",
        path=_ATTEMPT,
        old="refresh_at=max(grant.refresh_at, retry_at))\n            return",
        new="refresh_at=retry_at)\n            return",
        tests=(f"{_ATTEMPTS}::test_a_report_that_wise_does_not_answer_moves_no_promise",),
    ),
    Guard(
        name="trouble-moves-due",
        says="a grant that raises something unexpected is moved out of the way",
        path=_SWEEP,
        old="            self.use.grants.postpone(key, now + TROUBLE_REST, now)\n",
        new="            pass\n",
        tests=(f"{_SWEEPS}::test_one_bad_grant_never_stops_the_others_and_is_moved_out_of_the_way",),
    ),
    Guard(
        name="suspects",
        says="a grant whose workers keep dying is told apart",
        path=_ATTEMPT,
        old="        if stored.takeovers + 1 >= ALONE_FROM_TAKEOVER and not alone:\n",
        new="        if stored.takeovers + 1 < 0 and not alone:\n",
        tests=(f"{_ATTEMPTS}::test_a_grant_whose_workers_keep_dying_is_advanced_alone",),
    ),
    Guard(
        name="suspects-alone",
        says="such a grant is advanced while nobody else is in flight",
        path=_SWEEP,
        old="            if self.suspects and self.suspects_turn and not self.in_flight and self._may_call():\n",
        new="            if self.suspects and self.suspects_turn and self._may_call():\n",
        tests=("tests/mutants/test_guards.py::test_nobody_else_is_in_flight_while_a_suspect_is_advanced",),
    ),
    Guard(
        name="suspects-one-by-one",
        says="suspects do not hold up the healthy",
        path=_SWEEP,
        old="        self.suspects_turn, self.others_turn = False, True\n",
        new="",
        tests=("tests/mutants/test_guards.py::test_suspects_are_advanced_one_between_two_looks",),
    ),
    Guard(
        name="others-turn",
        says="others have their turn after a suspect that took long",
        path=_SWEEP,
        old="                self.suspects_turn = not self.others_turn and not self.halted\n",
        new="                self.suspects_turn = not self.halted\n",
        tests=(f"{_SWEEPS}::test_suspects_do_not_hold_up_the_healthy",),
    ),
    Guard(
        name="sweep-ends",
        says="a sweep starts nothing after its time",
        path=_SWEEP,
        old="            duty = _Duty(self, shards, until, pool)\n",
        new="            duty = _Duty(self, shards, until + TEND_EVERY, pool)\n",
        tests=(f"{_SWEEPS}::test_it_looks_every_second_and_starts_nothing_after_its_duty",),
    ),
    Guard(
        name="sweep-paced",
        says="a sweep makes no more calls than it was admitted",
        path=_SWEEP,
        old="            if may_call:\n                self.allowance -= 1\n",
        new="            if may_call:\n",
        tests=("tests/unit/test_breaker.py::test_a_sweep_makes_no_more_calls_in_a_minute_than_its_lane_allows",),
    ),
    Guard(
        name="extra-calls-paid",
        says="calls beyond those that were asked for are paid for",
        path=_SWEEP,
        old="        self.owed += max(result.calls - 1, 0)\n",
        new="",
        tests=("tests/mutants/test_guards.py::test_a_question_before_a_refresh_is_taken_from_the_lane_too",),
    ),
)
