"""Reissuing from a registration code, and what people are told of it."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_ADOPT: Final = "functions/token_rotator/service/adopt_grant.py"
_KEEP: Final = "functions/token_rotator/service/keep_answer.py"
_TELL: Final = "functions/token_rotator/service/tell_people.py"
_GRANT: Final = "functions/token_rotator/domain/grant.py"
_FLEET: Final = "functions/token_rotator/domain/fleet.py"
_RULES: Final = "functions/token_rotator/domain/policy.py"
_SWEEP: Final = "functions/token_rotator/service/refresh_due.py"
_WISE: Final = "functions/token_rotator/adapters/wise_http.py"
_REISSUE: Final = "tests/unit/test_reissue.py"
_LIFE: Final = "tests/unit/test_alert_lifecycle.py"

GUARDS: Final = (
    Guard(
        name="reissue-spent",
        says="a registration code that Wise refused is never presented again",
        path=_GRANT,
        old="        return self.registration is not None and self.registration_spent_at is None\n",
        new="        return self.registration is not None\n",
        tests=(f"{_REISSUE}::test_a_spent_code_is_never_presented_again",),
    ),
    Guard(
        name="reissue-spent-noted",
        says="that a registration code is spent is written with the verdict",
        path=_ATTEMPT,
        old="            after = replace(after, registration_spent_at=self.use.clock())\n",
        new="",
        tests=(f"{_REISSUE}::test_a_user_who_reclaimed_the_account_has_to_be_linked",),
    ),
    Guard(
        name="reissue-scope",
        says="a verdict on a registration code counts only for the code that is still stored",
        path=_ATTEMPT,
        old="            when = replace(when, registration=grant.registration)\n",
        new="",
        tests=(f"{_REISSUE}::test_a_code_is_not_spent_by_a_verdict_on_another_one",),
    ),
    Guard(
        name="reissue-hold",
        says="nothing is reissued while an answer may be parked",
        path=_ATTEMPT,
        old="        if self._may_be_parked(grant):\n",
        new="        if not grant.reissuable and self._may_be_parked(grant):\n",
        tests=(f"{_REISSUE}::test_nothing_is_reissued_while_an_answer_may_be_parked",),
    ),
    Guard(
        name="reissue-unproved",
        says="an access token proves nothing about a reissue",
        path=_ATTEMPT,
        old="        if request.presented is None:\n            self.doubt = self.lease.attempt_id\n",
        new="        if request.presented is None and self.doubt:\n            self.doubt = self.lease.attempt_id\n",
        tests=(
            f"{_REISSUE}::test_a_living_access_token_proves_nothing_about_a_reissue",
            f"{_REISSUE}::test_a_reissue_that_was_carried_out_and_lost_is_made_again",
        ),
    ),
    Guard(
        name="reissue-dead-not-served",
        says="the access token of a dead refresh token is not handed out while a reissue fails",
        path=_ATTEMPT,
        old="        self.dead = self.dead or reason is not None\n",
        new="",
        tests=(f"{_REISSUE}::test_a_fault_that_is_not_the_grants_spends_no_code",),
    ),
    Guard(
        name="reissue-lane",
        says="on demand a reissue asks for a call of its own",
        path=_ATTEMPT,
        old="        barred = None if dead is None or self.lane is None else self._admit(self.lane, 1)\n",
        new="        barred: Barred | None = None\n",
        tests=(f"{_REISSUE}::test_on_demand_a_reissue_waits_where_no_call_is_left",),
    ),
    Guard(
        name="reissue-own-word",
        says="only invalid_grant is about a registration code",
        path=_WISE,
        old='        if isinstance(outcome, GrantInvalid) and outcome.error != "invalid_grant":\n',
        new='        if isinstance(outcome, GrantInvalid) and outcome.error == "nothing":\n',
        tests=("tests/contract/test_wise_contract.py::test_an_invalid_token_is_no_word_about_a_code",),
    ),
    Guard(
        name="reissue-late-and-linked",
        says="new tokens over a reissue with an unknown outcome are proved by a refresh",
        path=_ADOPT,
        old="        if before is not None and before.reissuable and in_doubt is not None:\n",
        new="        if before is None and in_doubt is not None:\n",
        tests=("tests/unit/test_adopt_grant.py::test_new_tokens_over_a_doubtful_reissue_are_proved_at_once",),
    ),
    Guard(
        name="registration-kept",
        says="a registration code stays where new tokens come without one",
        path=_ADOPT,
        old="            registration, spent_at = before.registration, before.registration_spent_at\n",
        new="            spent_at = before.registration_spent_at\n",
        tests=("tests/unit/test_adopt_grant.py::test_a_registration_code_stays_unless_another_one_comes",),
    ),
    Guard(
        name="reissue-told",
        says="people hear of a reissue, whoever stores its answer",
        path=_KEEP,
        old="        if answer.reissued is not None:\n",
        new="        if answer.reissued is not None and stored.attempt_id is None:\n",
        tests=(f"{_REISSUE}::test_a_dead_grant_comes_back_by_itself_and_people_are_informed",),
    ),
    Guard(
        name="alert-names-what-it-replaces",
        says="an alert that takes the place of one that was not told names it",
        path=_GRANT,
        old="        return replace(self, ends=tuple(named))\n",
        new="        return self\n",
        tests=(f"{_LIFE}::test_what_was_not_told_is_named_by_what_takes_its_place",),
    ),
    Guard(
        name="recovered-after-adoption",
        says="that an incident is over is told when new tokens are adopted",
        path=_ADOPT,
        old="            alert=alert,\n",
        new="            alert=None if alert is None else None,\n",
        tests=(f"{_LIFE}::test_each_message_is_told_once_where_nothing_fails",),
    ),
    Guard(
        name="reminded-once",
        says="a reminder comes once",
        path=_TELL,
        old="        asks = alert.kind in REMINDED and not alert.reminder\n",
        new="        asks = alert.kind in REMINDED\n",
        tests=(f"{_LIFE}::test_a_reminder_comes_once_and_says_that_it_is_one",),
    ),
    Guard(
        name="held-reminded",
        says="people are told once more of a grant that is still held",
        path=_RULES,
        old="    AlertKind.HELD: Phase.ACTIVE,\n",
        new="",
        tests=(f"{_LIFE}::test_a_held_grant_is_told_once_more_after_a_day_and_then_left_alone",),
    ),
    Guard(
        name="reminder-stays-one",
        says="a reminder that the topic did not take stays one, whatever Wise says of the grant meanwhile",
        path=_ATTEMPT,
        old="(told.reminder or (told.published_at or told.claimed_until or now) > now)\n",
        new="(told.published_at or told.claimed_until or now) > now\n",
        tests=(f"{_LIFE}::test_whoever_refuses_a_held_grant_leaves_the_reminder_to_the_sweep",),
    ),
    Guard(
        name="reminded-in-doubt",
        says="a reminder does not wait for the end of a doubt",
        path=_SWEEP,
        old="step in (Step.PUBLISH, Step.REMIND):\n",
        new="step is Step.PUBLISH:\n",
        tests=(f"{_LIFE}::test_a_grant_that_is_held_while_in_doubt_is_told_once_more",),
    ),
    Guard(
        name="warned-once",
        says="each warning comes once, however Wise counts the seconds",
        path=_RULES,
        old="if told is None or moment - told > SAME_END), None)\n",
        new="if told is None or moment > told), None)\n",
        tests=(f"{_LIFE}::test_a_date_that_wise_writes_by_seconds_differently_is_not_told_again",),
    ),
    Guard(
        name="warning-waits",
        says="a warning takes the place of nothing that is still open",
        path=_RULES,
        old="    if alert is not None and alert.kind is not AlertKind.REFRESH_TOKEN_EXPIRING and alert.is_open:\n",
        new="    if alert is not None and alert.published_at is None and alert.is_open:\n",
        tests=(f"{_LIFE}::test_a_warning_waits_for_what_is_worse",),
    ),
    Guard(
        name="many-told-once",
        says="many deaths are one incident while they go on",
        path=_FLEET,
        old="        if known:\n            return replace(self, dying_at=now)\n",
        new="",
        tests=(f"{_LIFE}::test_deaths_that_go_on_are_one_incident",),
    ),
    Guard(
        name="many-told-before-over",
        says="that grants no longer die is told only after it was told that they do",
        path=_FLEET,
        old="        if alert is None or not alert.is_open or alert.published_at is None:\n",
        new="        if alert is None or not alert.is_open:\n",
        tests=(f"{_LIFE}::test_a_topic_that_is_down_for_long_hears_of_many_and_of_the_end",),
    ),
    Guard(
        name="reclaimed-after-a-loss",
        says="a code that is refused after a lost answer does not hide the loss",
        path=_ATTEMPT,
        old="OUTCOME_UNKNOWN if lost else RECLAIMED, spends_code",
        new="RECLAIMED, spends_code",
        tests=(f"{_REISSUE}::test_a_code_that_is_refused_after_a_lost_answer_is_spent_and_the_loss_is_the_reason",),
    ),
    Guard(
        name="spent-after-a-loss",
        says="a code that is refused is spent, whatever the reason",
        path=_ATTEMPT,
        old="        if spends_code:\n",
        new="        if reason == RECLAIMED:\n",
        tests=(f"{_REISSUE}::test_a_code_that_is_refused_after_a_lost_answer_is_spent_and_the_loss_is_the_reason",),
    ),
)
