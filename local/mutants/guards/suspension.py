"""Suspension: in force within seconds, for everybody, and nothing is lost by it."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_RULES: Final = "functions/token_rotator/domain/suspension.py"
_GRANT: Final = "functions/token_rotator/service/suspend_grant.py"
_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_SWEEP: Final = "functions/token_rotator/service/refresh_due.py"
_SERVE: Final = "functions/token_rotator/service/serve_token.py"
_ADOPT: Final = "functions/token_rotator/service/adopt_grant.py"
_KEEP: Final = "functions/token_rotator/service/keep_answer.py"
_KNOWN: Final = "functions/token_rotator/adapters/known_suspensions.py"
_STORE: Final = "functions/token_rotator/adapters/dynamo_suspensions.py"
_HTTP: Final = "functions/token_rotator/handlers/http.py"
_TELEMETRY: Final = "functions/token_rotator/telemetry.py"
_UNIT: Final = "tests/unit/test_suspension.py"
_CONTRACT: Final = "tests/contract/test_suspensions_contract.py"
_API: Final = "tests/handlers/test_suspending.py"

GUARDS: Final = (
    Guard(
        name="suspended-not-served",
        says="nobody is served while a tenant or everything is suspended",
        path=_SERVE,
        old="        if grant is not None and use.suspensions.read().of(self.key.tenant) is not None:\n"
        "            return NotServed(Why.SUSPENDED)\n",
        new="",
        tests=(f"{_UNIT}::test_nobody_is_served_and_nothing_is_sent",),
    ),
    Guard(
        name="suspended-not-begun",
        says="no refresh begins while a tenant or everything is suspended",
        path=_ATTEMPT,
        old="        if orders.of(key.tenant) is not None:\n            return Result(Word.SUSPENDED)\n",
        new="",
        tests=(f"{_UNIT}::test_nobody_is_served_and_nothing_is_sent",),
    ),
    Guard(
        name="suspended-not-sent",
        says="what becomes known under the lease stops the request, the second one too",
        path=_ATTEMPT,
        old="            if stopped is not None:\n                return self._give_back(grant, stopped)\n",
        new="",
        tests=(
            f"{_UNIT}::test_what_becomes_known_under_the_lease_stops_the_request",
            f"{_UNIT}::test_no_second_request_follows_and_the_doubt_stays",
        ),
    ),
    Guard(
        name="environment-outranks",
        says="an order about everything stops every tenant",
        path=_RULES,
        old="        return self.environment or self.tenants.get(tenant)\n",
        new="        return self.tenants.get(tenant)\n",
        tests=(f"{_UNIT}::test_an_order_about_everything_counts_before_one_about_a_tenant",),
    ),
    Guard(
        name="suspension-leaves-the-lease",
        says="suspending leaves the lease alone: a dead worker's doubt is resolved after lifting",
        path=_RULES,
        old="suspension=order, due_at=None)\n",
        new="suspension=order, due_at=None, attempt_id=None, lease_until=None)\n",
        tests=(f"{_UNIT}::test_a_worker_that_dies_while_its_grant_is_suspended_leaves_a_doubt_to_resolve",),
    ),
    Guard(
        name="phase-to-come-back-to",
        says="a grant comes back to the phase that it had",
        path=_RULES,
        old="    phase = grant.suspended_from or Phase.ACTIVE\n",
        new="    phase = Phase.ACTIVE\n",
        tests=(f"{_UNIT}::test_a_grant_comes_back_to_the_phase_it_had",),
    ),
    Guard(
        name="operators-order-stays",
        says="what an operator stopped only an operator lifts",
        path=_RULES,
        old="    return operator or grant.suspension is None or not grant.suspension.operator\n",
        new="    return True\n",
        tests=(
            f"{_UNIT}::test_what_an_operator_stopped_only_an_operator_lifts",
            f"{_UNIT}::test_an_operators_order_that_comes_while_a_partner_lifts_its_own_stands",
        ),
    ),
    Guard(
        name="operators-order-counts",
        says="an operator's order takes the place of a partner service's",
        path=_RULES,
        old="    return 2 if order is not None and order.operator else 1\n",
        new="    return 1\n",
        tests=(f"{_UNIT}::test_an_operators_order_takes_the_place_of_a_partners",),
    ),
    Guard(
        name="lifted-is-due",
        says="an active grant is due at once when it is lifted",
        path=_RULES,
        old="due_at=now if phase is Phase.ACTIVE else next_due(back, now))\n",
        new="due_at=back.due_at)\n",
        tests=(f"{_UNIT}::test_a_suspended_grant_is_neither_served_nor_refreshed_until_it_is_lifted",),
    ),
    Guard(
        name="first-order-stands",
        says="a grant that is suspended again still knows the phase to come back to",
        path=_RULES,
        old="        return replace(grant, suspension=order) if _rank(order) > _rank(grant.suspension) else grant\n",
        new="        pass\n",
        tests=(f"{_UNIT}::test_one_that_is_suspended_already_keeps_its_order",),
    ),
    Guard(
        name="suspending-is-conditional",
        says="an order about a grant is written under its phase, so that no verdict is undone by it",
        path=_GRANT,
        old=", phase=stored.phase, suspension=stored.suspension)",
        new=")",
        tests=(f"{_UNIT}::test_suspending_does_not_hide_a_verdict_that_fell_at_the_same_time",),
    ),
    Guard(
        name="adopted-stays-suspended",
        says="new tokens of a suspended grant come back active, under the same order",
        path=_ADOPT,
        old="            suspended_from=Phase.ACTIVE if stopped else None,\n",
        new="            suspended_from=before.suspended_from if before is not None else None,\n",
        tests=(f"{_UNIT}::test_new_tokens_stay_suspended_and_come_back_active",),
    ),
    Guard(
        name="late-answer-while-suspended",
        says="an answer that comes after a verdict is not forgotten because the grant is suspended",
        path=_KEEP,
        old="            after = replace(after, suspended_from=Phase.ACTIVE)\n",
        new="            pass\n",
        tests=(
            f"{_UNIT}::test_a_late_answer_to_a_grant_that_was_dead_when_it_was_suspended_is_what_it_comes_back_with",
        ),
    ),
    Guard(
        name="halted-looks-for-nothing",
        says="while everything is suspended the sweep finds nothing, and Wise is not asked whether it is well",
        path=_SWEEP,
        old="        self.halted = stopped is None or stopped.environment is not None\n",
        new="        self.halted = stopped is None\n",
        tests=(f"{_UNIT}::test_while_everything_is_suspended_the_sweep_looks_for_nothing_and_wise_is_not_asked",),
    ),
    Guard(
        name="no-probe-while-halted",
        says="an open breaker is not probed while everything is suspended",
        path=_SWEEP,
        old="                if use.breaker.is_open and not self.halted:\n",
        new="                if use.breaker.is_open:\n",
        tests=(f"{_UNIT}::test_while_everything_is_suspended_the_sweep_looks_for_nothing_and_wise_is_not_asked",),
    ),
    Guard(
        name="set-aside",
        says="due grants of a suspended tenant are moved out of the way of others",
        path=_SWEEP,
        old="        self.grants.postpone(key, aside_until(key, now), now)\n",
        new="",
        tests=(
            f"{_UNIT}::test_due_grants_of_a_suspended_tenant_are_set_aside_at_a_write_each",
            f"{_UNIT}::test_a_suspended_tenant_does_not_keep_others_from_their_turn",
        ),
    ),
    Guard(
        name="set-aside-costs-no-call",
        says="setting a grant aside gives nobody a call to Wise that was not asked for",
        path=_SWEEP,
        old="aside_until(key, now), now)\n        return Result(Word.BARRED)\n",
        new="aside_until(key, now), now)\n        return Result(Word.SUSPENDED)\n",
        tests=(f"{_UNIT}::test_a_suspended_tenant_does_not_keep_others_from_their_turn",),
    ),
    Guard(
        name="set-aside-by-some",
        says="most workers are left for what may be refreshed",
        path=_SWEEP,
        old="        while self.aside and len(self.moving) < share and",
        new="        while self.aside and",
        tests=(f"{_UNIT}::test_others_are_refreshed_while_hundreds_are_set_aside",),
    ),
    Guard(
        name="known-for",
        says="what is suspended is asked anew after five seconds",
        path=_KNOWN,
        old="        return known.asked_at <= self._clock() < known.asked_at + KNOWN_FOR\n",
        new="        return True\n",
        tests=(f"{_CONTRACT}::test_a_change_is_known_within_five_seconds",),
    ),
    Guard(
        name="age-from-before-the-question",
        says="knowledge is as old as its question, not as its answer",
        path=_KNOWN,
        old="            return _Known(self._store.read(), asked_at)\n",
        new="            return _Known(self._store.read(), self._clock())\n",
        tests=(f"{_CONTRACT}::test_its_age_counts_from_before_the_question",),
    ),
    Guard(
        name="last-known-counts",
        says="what was known last counts where nobody can be asked",
        path=_KNOWN,
        old="            if before is None:\n                raise\n",
        new="            raise\n",
        tests=(f"{_CONTRACT}::test_what_was_known_last_counts_where_nobody_can_be_asked",),
        raises=("StoreUnavailable",),
    ),
    Guard(
        name="order-once-given",
        says="an order that is in force keeps its time and its reason",
        path=_STORE,
        old="#order = if_not_exists(#order, :order)",
        new="#order = :order",
        tests=(f"{_CONTRACT}::test_the_first_order_stands_until_it_is_lifted",),
    ),
    Guard(
        name="tenant-of-the-path-only",
        says="a path that names no tenant stops everything, and never a tenant that the caller may not touch",
        path=_HTTP,
        old='"" if of_all else parameters.get("tenant", "")',
        new='parameters.get("tenant", "")',
        tests=("tests/handlers/test_locks.py::test_a_tenant_cannot_be_brought_in_where_the_path_names_none",),
    ),
    Guard(
        name="audit-at-every-level",
        says="the line that says who was given what is printed at every level",
        path=_TELEMETRY,
        old="    logger.registered_handler.handle(logging.makeLogRecord({**told, **line}))\n",
        new="    logger.info(message, extra=dict(told) if line else {})\n",
        tests=(f"{_API}::test_a_quiet_log_has_them_all_the_same",),
        raises=("ValueError",),
    ),
    Guard(
        name="audit-names-the-cause",
        says="the audit says whether this very call had the token refreshed",
        path=_SERVE,
        old='        self.caused_refresh = self.caused_refresh or report.outcome == "refreshed"\n',
        new="",
        tests=(
            f"{_UNIT}::test_a_reader_knows_whether_it_caused_a_refresh",
            f"{_API}::test_each_served_token_has_its_line",
        ),
    ),
)
