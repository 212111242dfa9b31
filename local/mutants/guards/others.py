"""Guards that count where others have a hand in a grant: Wise closes its account, and an operator stops it too."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_RULES: Final = "functions/token_rotator/domain/suspension.py"
_APPLY: Final = "functions/token_rotator/service/apply_state.py"
_REFRESH: Final = "functions/token_rotator/service/refresh_grant.py"
_SUSPEND: Final = "functions/token_rotator/service/suspend_grant.py"
_KEEP: Final = "functions/token_rotator/service/keep_answer.py"
_UNIT: Final = "tests/unit/test_state_change.py"

GUARDS: Final = (
    Guard(
        name="operators-order-outlives",
        says="a grant that an operator stops while Wise has closed its account stays stopped when Wise opens it",
        path=_RULES,
        old="        return replace(grant, suspension=order) if _rank(order) > _rank(grant.suspension) else grant\n",
        new="        return grant\n",
        tests=(f"{_UNIT}::test_an_operators_order_takes_the_place_of_wises_and_is_not_ended_by_wise",),
    ),
    Guard(
        name="operators-order-beside",
        says="an operator's order that comes while Wise's is being ended is not ended with it",
        path=_APPLY,
        old="                suspension=stored.suspension,\n",
        new="",
        tests=(f"{_UNIT}::test_an_operators_order_given_while_wises_is_ended_stands",),
    ),
    Guard(
        name="late-lift",
        says="a lift that takes effect late ends the order that it was about, and none that came since",
        path=_SUSPEND,
        old=", phase=stored.phase, suspension=stored.suspension)",
        new=", phase=stored.phase)",
        tests=(f"{_UNIT}::test_a_lift_that_takes_effect_late_ends_no_order_that_came_since",),
    ),
    Guard(
        name="personal-dead-beside-an-order",
        says="a personal token that Wise calls dead while somebody suspends it is in doubt when that is lifted",
        path=_REFRESH,
        old="            self.dead = True  # where the verdict does not fall",
        new="            pass  # where the verdict does not fall",
        tests=("tests/unit/test_personal_token.py::test_one_that_is_suspended_while_wise_calls_it_dead_is_in_doubt",),
    ),
    Guard(
        name="dead-again-told-once",
        says="a grant that is tried again and is as dead as it was is not told a second time",
        path=_REFRESH,
        old="        again = told is not None and told.incident_id == incident_of(grant, kind)"
        " and told.published_at is not None\n",
        new="        again = False\n",
        tests=(f"{_UNIT}::test_one_that_is_as_dead_as_it_was_is_not_told_again",),
    ),
    Guard(
        name="doubt-since-stays",
        says="an answer does not end a doubt that came while it was under way",
        path=_KEEP,
        old="in_doubt=settled(stored.in_doubt, doubt),\n",
        new="in_doubt=None,\n",
        tests=(f"{_UNIT}::test_an_answer_under_way_does_not_end_the_doubt_that_a_closed_account_leaves",),
    ),
    Guard(
        name="doubt-since-seen",
        says="a doubt that came while an answer was under way is seen by the write that stores it",
        path=_KEEP,
        old="self._in_time(answer, stored, doubt), replace(when, in_doubt=stored.in_doubt)\n",
        new="self._in_time(answer, stored, doubt), when\n",
        tests=(f"{_UNIT}::test_an_answer_under_way_does_not_end_the_doubt_that_a_closed_account_leaves",),
    ),
    Guard(
        name="doubt-of-a-closed-account",
        says="the doubt that a closed account leaves is another than the one that a refresh under way began with",
        path=_RULES,
        old="    return replace(grant, in_doubt=in_doubt, due_at=",
        new="    return replace(grant, in_doubt=grant.in_doubt or STATE_CHANGED, due_at=",
        tests=(f"{_UNIT}::test_an_answer_under_way_does_not_end_the_doubt_that_a_closed_account_leaves",),
    ),
    Guard(
        name="loss-before-a-closed-account",
        says="an answer that was lost before Wise closed the account stays the reason",
        path=_RULES,
        old="_CHANGED_AFTER + earlier if may_have_lost(earlier) else STATE_CHANGED",
        new="STATE_CHANGED",
        tests=(f"{_UNIT}::test_a_refresh_token_that_ended_with_the_account_was_lost_only_if_a_doubt_says_so",),
    ),
    Guard(
        name="ended-is-not-lost",
        says="tokens that Wise ended, or that were found dead, were not lost by us",
        path=_RULES,
        old="    return bool(doubt) and doubt not in (STATE_CHANGED, FOUND_DEAD)\n",
        new="    return bool(doubt)\n",
        tests=(
            f"{_UNIT}::test_a_refresh_token_that_ended_with_the_account_was_lost_only_if_a_doubt_says_so",
            "tests/unit/test_moving_in.py::test_a_token_that_was_found_dead_on_hold_was_not_lost_by_us",
        ),
    ),
)
