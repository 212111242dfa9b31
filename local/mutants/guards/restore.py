"""What a restore of the table from a point in time brings back."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_COMMAND: Final = "ops/bring_back.py"
_ROW: Final = "tests/ops/test_bring_back.py"
_WHOLE: Final = "tests/integration/test_bring_back.py"

GUARDS: Final = (
    Guard(
        name="restored-in-doubt",
        says="a restored token is not served before Wise was asked about it",
        path=_COMMAND,
        old='        after["in_doubt"] = TEXT.encode(DOUBT)\n',
        new="        pass\n",
        tests=(
            f"{_ROW}::test_an_active_grant_is_in_doubt_and_due_and_served_to_nobody",
            f"{_WHOLE}::test_after_a_restore_no_dead_token_is_served_and_every_grant_goes_on",
        ),
    ),
    Guard(
        name="restored-due",
        says="the sweep asks about a restored grant without a reader",
        path=_COMMAND,
        old='        after["due_at"] = INSTANT.encode(now)\n',
        new="        pass\n",
        tests=(f"{_ROW}::test_an_active_grant_is_in_doubt_and_due_and_served_to_nobody",),
    ),
    Guard(
        name="restored-version",
        says="a restored row does not name a token by a version that another token had",
        path=_COMMAND,
        old='    after["version"] = NUMBER.encode(max(to_ms(now), version + 1))\n',
        new="",
        tests=(f"{_ROW}::test_its_version_is_one_that_never_was",),
    ),
    Guard(
        name="restored-lease",
        says="a restored lease holds nobody up: its holder is long gone",
        path=_COMMAND,
        old="if name not in _LEASE}",
        new="if name not in ()}",
        tests=(f"{_ROW}::test_who_worked_on_it_then_does_so_no_more",),
    ),
    Guard(
        name="restored-over",
        says="a row that is in the live table is not buried under an older one",
        path=_COMMAND,
        old='        puts = [{"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}, *claim]\n',
        new='        puts = [{"Item": item}, *claim]\n',
        tests=(f"{_WHOLE}::test_what_became_of_each_row_is_foretold_and_told",),
    ),
    Guard(
        name="restored-claim",
        says="a grant does not come back beside another of the same Wise user",
        path=_COMMAND,
        old="        fate = self._put(row, self._claim(row), self._listed(row))\n",
        new="        fate = self._put(row, [], self._listed(row))\n",
        tests=(f"{_WHOLE}::test_what_became_of_each_row_is_foretold_and_told",),
    ),
    Guard(
        name="restored-told-again",
        says="what Wise said of an account while a grant of its was missing is applied once that is back",
        path="ops/bring_back.py",
        old="            self._told_again(row)\n",
        new="            pass\n",
        tests=(f"{_WHOLE}::test_what_wise_said_of_its_account_while_a_row_was_missing_is_applied_once_it_is_back",),
    ),
)
