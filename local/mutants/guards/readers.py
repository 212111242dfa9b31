"""What a reader is handed, and the instant that is promised with it."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_RULES: Final = "functions/token_rotator/domain/policy.py"
_SERVE: Final = "functions/token_rotator/service/serve_token.py"
_ROWS: Final = "tests/unit/test_policy.py::test_a_stored_grant_is_judged_row_by_row"
_PROMISE: Final = "tests/unit/test_policy.py::test_what_is_served_lives_and_is_left_alone_until_the_promised_instant"
_READERS: Final = "tests/unit/test_serve_token.py"

GUARDS: Final = (
    Guard(
        name="reader-guard",
        says="a token is no longer handed out shortly before it may be replaced",
        path=_RULES,
        old="        stable_until = min(grant.refresh_at, grant.expires_at) - budgets.guard\n",
        new="        stable_until = min(grant.refresh_at, grant.expires_at)\n",
        tests=(_ROWS, _PROMISE),
    ),
    Guard(
        name="stable-until-expiry",
        says="nothing is promised beyond a token's expiry",
        path=_RULES,
        old="        stable_until = min(grant.refresh_at, grant.expires_at) - budgets.guard\n",
        new="        stable_until = grant.refresh_at - budgets.guard\n",
        tests=(_ROWS, _PROMISE),
    ),
    Guard(
        name="due-not-served",
        says="a token that may be replaced now is not handed out",
        path=_RULES,
        old="    if now >= grant.refresh_at:\n        return Reading(Verdict.REFRESH)\n",
        new="",
        tests=(_ROWS,),
    ),
    Guard(
        name="reader-waits",
        says="while somebody holds the lease, a token is not handed out: readers wait",
        path=_RULES,
        old="        until = grant.lease_until or now\n"
        "        return Reading(Verdict.WAIT, until + budgets.margin, attempt_ends=until - budgets.settle)\n",
        new="",
        tests=(_ROWS, f"{_READERS}::test_a_reader_waits_for_the_holder_of_the_lease"),
    ),
    Guard(
        name="doubt-not-served",
        says="a token that a refresh may have killed is not handed out",
        path=_RULES,
        old="        return Reading(Verdict.RETRY_LATER, grant.due_at)\n",
        new="",
        tests=(_ROWS, f"{_READERS}::test_nobody_is_handed_a_token_that_may_be_dead"),
    ),
    Guard(
        name="opened-in-time",
        says="a token that took long to open is not handed out after its promise",
        path=_SERVE,
        old="        if now >= reading.until:\n            return None\n",
        new="",
        tests=(f"{_READERS}::test_a_token_that_took_too_long_to_open_is_not_handed_out",),
    ),
    Guard(
        name="reported-not-served",
        says="a token that was reported is handed out again only if Wise says that it lives",
        path=_SERVE,
        old="        return not too_young_to_doubt(grant, now)\n",
        new="        return False\n",
        tests=(f"{_READERS}::test_a_report_that_wise_does_not_answer_is_not_served_the_reported_token",),
    ),
    Guard(
        name="newer-at-once",
        says="a report of an older version costs nothing",
        path=_SERVE,
        old="        if self.rejected != grant.version or self.confirmed:\n",
        new="        if self.rejected is None or self.confirmed:\n",
        tests=("tests/mutants/test_guards.py::test_a_report_of_an_older_version_asks_nobody",),
    ),
    Guard(
        name="young-token",
        says="a token that was just issued is not doubted because somebody reports it",
        path=_SERVE,
        old="        return not too_young_to_doubt(grant, now)\n",
        new="        return True\n",
        tests=(f"{_READERS}::test_a_report_of_a_newborn_token_is_not_asked_about",),
    ),
    Guard(
        name="fits-the-reader",
        says="no refresh is started that would outlast the reader's time",
        path=_SERVE,
        old=" or self.use.clock() + self.use.budgets.invoke > self.deadline:\n",
        new=" or self.use.clock() > self.deadline:\n",
        tests=(f"{_READERS}::test_no_refresh_is_started_that_would_outlast_the_reader",),
    ),
    Guard(
        name="degraded",
        says="a token is marked where the last try to replace it failed",
        path=_RULES,
        old="degraded=_last_try_failed(grant))\n",
        new="degraded=False)\n",
        tests=(f"{_READERS}::test_a_failed_refresh_leaves_a_good_token_served_as_degraded",),
    ),
    Guard(
        name="refresh-floor",
        says="a new token is left alone for a minute, however short its life",
        path=_RULES,
        old="    return issued_at + max(_whole(life * share), REFRESH_FLOOR)\n",
        new="    return issued_at + _whole(life * share)\n",
        tests=("tests/unit/test_policy.py",),
    ),
    Guard(
        name="reader-ahead",
        says="a reader for whom a token is due a moment early asks once more",
        path=_SERVE,
        old='report.outcome in ("held", "fresh") else',
        new='report.outcome == "held" else',
        tests=(f"{_READERS}::test_a_reader_whose_clock_is_ahead_asks_once_more",),
    ),
)
