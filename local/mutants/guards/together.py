"""What happens at one moment: verdicts, alerts, suspensions, links and reissues in each other's way."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_TELL: Final = "functions/token_rotator/service/tell_people.py"
_SWEEP: Final = "functions/token_rotator/service/refresh_due.py"
_KEEP: Final = "functions/token_rotator/service/keep_answer.py"
_GRANT: Final = "functions/token_rotator/domain/grant.py"
_TESTS: Final = "tests/unit/test_acting_together.py"

GUARDS: Final = (
    Guard(
        name="death-outlives-suspension",
        says="a death that was seen is not forgotten where the verdict came too late",
        path=_ATTEMPT,
        old="replace(self._free(stored), in_doubt=in_doubt, due_at=self.use.clock())",
        new="replace(self._free(stored), due_at=self.use.clock())",
        tests=(f"{_TESTS}::test_a_death_that_was_seen_is_not_forgotten_by_a_suspension",),
    ),
    Guard(
        name="mark-at-rest",
        says="marking an alert leaves the instants of a doubt alone",
        path=_TELL,
        old="replace(when, attempt_id=None, in_doubt=None) if rest else when",
        new="when",
        tests=(f"{_TESTS}::test_marking_an_alert_leaves_the_instants_of_a_doubt_alone",),
    ),
    Guard(
        name="mark-what-was-told",
        says="what was told stays told though new tokens came meanwhile",
        path=_TELL,
        old="or stored is None or stored.alert != alert:\n",
        new="or stored is None or stored is not None:\n",
        tests=(f"{_TESTS}::test_an_alert_is_told_once_though_new_tokens_came_while_it_was_told",),
    ),
    Guard(
        name="told-in-doubt",
        says="people hear of a grant that stays in doubt",
        path=_SWEEP,
        old="            if grant is not None and decide(grant, ",
        new="            if grant is None and decide(grant, ",
        tests=(f"{_TESTS}::test_people_hear_of_a_grant_that_stays_in_doubt",),
    ),
    Guard(
        name="look-further",
        says="what rests until the breaker closes hides nobody who is to be told",
        path=_SWEEP,
        old="            self.limit = min(2 * self.limit, LOOK_AT_MOST)\n",
        new="            pass\n",
        tests=(f"{_TESTS}::test_an_alert_behind_many_grants_that_are_due_is_told_while_the_breaker_is_open",),
    ),
    Guard(
        name="reissue-first",
        says="a slow refusal leaves time for a reissue",
        path=_ATTEMPT,
        old="        if grant.last_error == NO_TIME_TO_REISSUE and grant.reissuable",
        new="        if grant.last_error == 'never' and grant.reissuable",
        tests=(f"{_TESTS}::test_a_slow_refusal_leaves_time_for_a_reissue",),
    ),
    Guard(
        name="parked-reissue",
        says="no verdict falls while the answer of a reissue may be parked, though the access token lives",
        path=_ATTEMPT,
        old="        if self.doubt is None and grant.registration is None:",
        new="        if self.doubt is None:",
        tests=(f"{_TESTS}::test_no_verdict_falls_while_the_answer_of_a_reissue_may_be_parked",),
    ),
    Guard(
        name="warned-again",
        says="a warning that a held grant took the place of is told afterwards",
        path=_ATTEMPT,
        old="                after = replace(after, expiry_told=None)",
        new="                pass",
        tests=(f"{_TESTS}::test_a_warning_that_a_held_grant_took_the_place_of_is_told_afterwards",),
    ),
    Guard(
        name="end-after-beginning",
        says="the end of an incident is not told before its beginning",
        path=_GRANT,
        old="            claimed_until=self.claimed_until if self.published_at is None else None,",
        new="            claimed_until=None,",
        tests=(f"{_TESTS}::test_an_end_is_not_told_before_its_beginning",),
    ),
    Guard(
        name="end-of-the-dead-token",
        says="the date of a refresh token goes with it",
        path=_KEEP,
        old="(None if replaced else stored.refresh_expires_at)",
        new="stored.refresh_expires_at",
        tests=(f"{_TESTS}::test_a_reissue_without_a_date_keeps_none_of_the_dead_tokens",),
    ),
)
