"""Guards of personal API tokens."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_REFRESH: Final = "functions/token_rotator/service/refresh_grant.py"
_ADOPT: Final = "functions/token_rotator/service/adopt_grant.py"
_LINK: Final = "functions/token_rotator/service/link_grant.py"
_RULES: Final = "functions/token_rotator/domain/policy.py"
_TESTS: Final = "tests/unit/test_personal_token.py"

GUARDS: Final = (
    Guard(
        name="personal-only-asked",
        says="nothing but a question is ever sent for a personal token",
        path=_REFRESH,
        old="            return self._ask_only(grant)\n",
        new="            pass\n",
        tests=(f"{_TESTS}::test_a_report_of_one_that_is_dead_ends_it_and_tells_at_once",),
    ),
    Guard(
        name="personal-no-answer",
        says="a personal token is judged only by Wise's own word",
        path=_REFRESH,
        old="        if liveness is Liveness.DEAD:\n            self.dead = True  #",
        new="        if liveness is not Liveness.LIVES:\n            self.dead = True  #",
        tests=(
            f"{_TESTS}::test_a_report_without_an_answer_changes_nothing",
            f"{_TESTS}::test_one_that_does_not_open_is_not_judged",
        ),
    ),
    Guard(
        name="personal-same-kind",
        says="another kind is not adopted over a grant",
        path=_ADOPT,
        old="            if before.kind is not offer.kind:\n                return Declined.DIFFERENT_KIND\n",
        new="",
        tests=(f"{_TESTS}::test_another_kind_is_not_adopted_over_it",),
    ),
    Guard(
        name="personal-not-linked",
        says="a link does not become a grant of another kind",
        path=_LINK,
        old="        if before is not None and before.kind is not GrantKind.USER:\n",
        new="        if before is not None and before.version < 0:\n",
        tests=(f"{_TESTS}::test_no_link_leads_to_a_grant_of_a_personal_token",),
    ),
    Guard(
        name="personal-own-seal",
        says="a personal token that somebody else adopted is not taken for our own",
        path=_ADOPT,
        old="grant.access_token if grant.kind is GrantKind.PERSONAL else None\n",
        new="None\n",
        tests=(f"{_TESTS}::test_two_who_adopt_one_at_once_do_not_take_each_others_for_their_own",),
    ),
    Guard(
        name="personal-called-old-once",
        says="what people are still to be told is not told over",
        path=_RULES,
        old=" or (grant.alert is not None and grant.alert.published_at is None):\n",
        new=":\n",
        tests=("tests/unit/test_policy.py::test_what_is_still_to_be_told_is_not_called_old_over",),
    ),
    Guard(
        name="personal-refused-asked-about",
        says="a personal token that comes after one that Wise refused is asked about before it is served",
        path="functions/token_rotator/service/adopt_grant.py",
        old="                grant = replace(grant, in_doubt=before.alert.attempt_id)\n",
        new="                pass\n",
        tests=(f"{_TESTS}::test_one_that_comes_again_after_wise_refused_it_is_asked_about_before_it_is_served",),
    ),
    Guard(
        name="personal-client-refused",
        says="a report of a personal token is asked about although our client is refused",
        path=_REFRESH,
        old="not (barred.why in _OF_OUR_CLIENT and grant.kind is GrantKind.PERSONAL):\n",
        new="not (barred.why in () and grant.kind is GrantKind.PERSONAL):\n",
        tests=(f"{_TESTS}::test_while_our_client_is_refused_a_report_is_asked_about_all_the_same",),
    ),
    Guard(
        name="personal-client-refused-doubt",
        says="a doubt of a personal token is resolved although our client is refused",
        path=_REFRESH,
        old="not (barred.why in _OF_OUR_CLIENT and self.needs_no_client(key)):\n",
        new="not (barred.why in () and self.needs_no_client(key)):\n",
        tests=(f"{_TESTS}::test_while_our_client_is_refused_a_doubt_is_resolved_for_the_next_reader",),
    ),
    Guard(
        name="personal-throttled",
        says="what Wise says of its rate limit, or of itself, holds for questions about personal tokens too",
        path=_REFRESH,
        old="not (barred.why in _OF_OUR_CLIENT and grant.kind is GrantKind.PERSONAL):\n",
        new="grant.kind is not GrantKind.PERSONAL:\n",
        tests=(f"{_TESTS}::test_while_wise_may_not_be_called_a_report_waits_and_readers_do_not",),
    ),
)
