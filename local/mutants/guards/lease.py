"""The right to refresh: how a lease is taken, taken over and outlived."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_STORE: Final = "functions/token_rotator/adapters/dynamo_grants.py"
_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_LEASE: Final = "functions/token_rotator/domain/lease.py"
_CONTRACT: Final = "tests/contract/test_grants_contract.py"
_ATTEMPTS: Final = "tests/unit/test_refresh_grant.py"

GUARDS: Final = (
    Guard(
        name="free-lease",
        says="a lease that somebody holds is not taken",
        path=_STORE,
        old='        update.require_equal("attempt_id", None)\n        due = ',
        new="        due = ",
        tests=(f"{_CONTRACT}::test_a_lease_is_taken_once", f"{_CONTRACT}::test_no_lease_is_taken_otherwise"),
    ),
    Guard(
        name="due-only",
        says="a lease is not taken of a grant whose token may not be replaced yet",
        path=_STORE,
        old="        due = f\"({update.name('refresh_at')} <= {at} AND ",
        new="        due = f\"(({update.name('refresh_at')} <= {at} OR attribute_exists(pk)) AND ",
        tests=(f"{_CONTRACT}::test_no_lease_is_taken_otherwise",),
    ),
    Guard(
        name="doubt-backs-off",
        says="a doubt is not looked into before its time",
        path=_STORE,
        old='        doubted = f"{in_doubt} AND (attribute_not_exists({due_at}) OR {due_at} <= {at})"\n',
        new='        doubted = f"{in_doubt} AND (attribute_not_exists({due_at}) OR attribute_exists({due_at}))"\n',
        tests=(f"{_CONTRACT}::test_no_lease_is_taken_otherwise",),
    ),
    Guard(
        name="active-only",
        says="nothing is refreshed for a grant that is suspended or dead",
        path=_STORE,
        old='        update.require_equal("phase", TEXT.encode(Phase.ACTIVE))\n'
        '        update.require_equal("attempt_id", None)\n        due = ',
        new='        update.require_equal("attempt_id", None)\n        due = ',
        tests=(f"{_CONTRACT}::test_no_lease_is_taken_otherwise",),
    ),
    Guard(
        name="reported-version",
        says="a report counts only for the version that is stored",
        path=_STORE,
        old="            reasons.append(f\"{update.name('version')} = {update.value(",
        new="            reasons.append(f\"{update.name('version')} >= {update.value(",
        tests=(f"{_CONTRACT}::test_no_lease_is_taken_otherwise",),
    ),
    Guard(
        name="report-in-index",
        says="the sweep notices a grant whose reporter died",
        path=_STORE,
        old='            update.change("due_at", INSTANT.encode(now))\n'
        '            update.change("due_shard", NUMBER.encode(key.shard))\n',
        new="",
        tests=(f"{_CONTRACT}::test_a_report_puts_a_grant_into_the_index",),
    ),
    Guard(
        name="conditional-writes",
        says="every write to a grant asks what is stored",
        path=_STORE,
        old='    update.require("attribute_exists(pk)")\n    for field in fields(when):\n',
        new='    update.require("attribute_exists(pk)")\n    for field in fields(when)[:0]:\n',
        tests=(f"{_CONTRACT}::test_all_conditions_must_hold",),
    ),
    Guard(
        name="consistent-grant",
        says="a grant is read consistently",
        path=_STORE,
        old='ConsistentRead=True).get("Item")',
        new='ConsistentRead=False).get("Item")',
        tests=(
            "tests/mutants/test_guards.py::test_what_is_decided_by_is_read_consistently[a grant]",
            "tests/integration/test_counted_calls.py::test_a_warm_serve_costs_one_consistent_read",
        ),
    ),
    Guard(
        name="ran-out",
        says="a lease is left to its holder until it has run out",
        path=_ATTEMPT,
        old="        if not ran_out(stored, now, self.use.budgets):\n            return self._held(stored)\n",
        new="",
        tests=(f"{_ATTEMPTS}::test_nobody_sends_again_while_an_unanswered_request_may_still_be_carried_out",),
    ),
    Guard(
        name="skew-margin",
        says="clocks may differ: a lease is left alone for a margin after its end",
        path=_LEASE,
        old="now > grant.lease_until + budgets.margin\n",
        new="now > grant.lease_until\n",
        tests=(
            f"{_ATTEMPTS}::test_nobody_sends_again_while_an_unanswered_request_may_still_be_carried_out",
            "tests/unit/test_policy.py::test_a_stored_grant_is_judged_row_by_row",
        ),
    ),
    Guard(
        name="settle-time",
        says="a lease outlasts what its attempt sent",
        path=_LEASE,
        old="        return self.attempt + self.settle\n",
        new="        return self.attempt\n",
        tests=("tests/unit/test_policy.py::test_a_lease_outlasts_the_attempt_and_what_it_sent",),
    ),
    Guard(
        name="budget-order",
        says="time budgets out of order stop the start",
        path=_LEASE,
        old="        if broken:\n",
        new="        if not order:\n",
        tests=("tests/unit/test_policy.py::test_budgets_out_of_order_stop_the_start",),
    ),
    Guard(
        name="one-taker",
        says="of two who take over one lease only one wins",
        path=_ATTEMPT,
        old="        when = When(attempt_id=stored.attempt_id, version=stored.version, phase=Phase.ACTIVE)\n",
        new="        when = When(version=stored.version, phase=Phase.ACTIVE)\n",
        tests=(f"{_ATTEMPTS}::test_a_taker_that_loses_to_a_holder_is_told_to_wait",),
    ),
    Guard(
        name="takeover-moves-due",
        says="a takeover moves due_at before anything else is tried",
        path=_ATTEMPT,
        old="            due_at=self.lease.until + self.use.budgets.margin + backoff(self.key, takeovers),\n",
        new="",
        tests=(f"{_ATTEMPTS}::test_a_takeover_moves_due_at_before_anything_else_and_inherits_the_doubt",),
    ),
    Guard(
        name="hidden-success",
        says="a refusal that shows our own lease is a success that the SDK's retry hid",
        path=_ATTEMPT,
        old="        if stored.attempt_id == self.lease.attempt_id:  # the SDK's",
        new="        if stored.attempt_id == self.key.tenant:  # the SDK's",
        tests=(f"{_ATTEMPTS}::test_an_acquire_whose_first_answer_the_sdk_lost_is_held",),
    ),
    Guard(
        name="time-left",
        says="nothing is sent without the time to store its answer",
        path=_ATTEMPT,
        old="            if left < self.use.budgets.send_least:\n",
        new="            if left < timedelta(0):\n",
        tests=(f"{_ATTEMPTS}::test_no_time_means_not_sent",),
    ),
    Guard(
        name="give-back-asks",
        says="giving a lease back leaves alone what a late answer has stored under it",
        path=_ATTEMPT,
        old="        when = When(attempt_id=mine, version=grant.version, in_doubt=grant.in_doubt)\n",
        new="        when = When(attempt_id=mine)\n",
        tests=(f"{_ATTEMPTS}::test_giving_back_a_lease_leaves_a_late_answers_doubt",),
    ),
    Guard(
        name="worker-ends",
        says="an attempt ends with its worker",
        path=_ATTEMPT,
        old="            ends=ends if until is None else min(ends, until),\n",
        new="            ends=ends,\n",
        tests=(f"{_ATTEMPTS}::test_an_attempt_ends_with_its_worker",),
    ),
    Guard(
        name="key-first",
        says="nothing is sent without a key for its answer",
        path=_ATTEMPT,
        old="        except (KeyUnavailable, Unsealable, WiseSecretUnusable) as error:\n",
        new="        except (Unsealable, WiseSecretUnusable) as error:\n",
        tests=(f"{_ATTEMPTS}::test_no_key_means_not_sent",),
        raises=("KeyUnavailable",),
    ),
)
