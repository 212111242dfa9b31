"""On hold: served, refreshed by nobody here, promised for a minute; and whoever else refreshes is noticed."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_POLICY: Final = "functions/token_rotator/domain/policy.py"
_RULES: Final = "functions/token_rotator/domain/suspension.py"
_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_KEEP: Final = "functions/token_rotator/service/keep_answer.py"
_HOLD: Final = "functions/token_rotator/service/hold_grant.py"
_SWEEP: Final = "functions/token_rotator/service/refresh_due.py"
_SERVE: Final = "functions/token_rotator/service/serve_token.py"
_ADOPT: Final = "functions/token_rotator/service/adopt_grant.py"
_GRANTS: Final = "functions/token_rotator/adapters/dynamo_grants.py"
_ORDERS: Final = "functions/token_rotator/adapters/dynamo_suspensions.py"
_PARKING: Final = "functions/token_rotator/adapters/sqs_parking.py"
_UNIT: Final = "tests/unit/test_moving_in.py"
_CONTRACT: Final = "tests/contract/test_suspensions_contract.py"
_FOREIGN: Final = "tests/unit/test_foreign_refresher.py"

GUARDS: Final = (
    Guard(
        name="on-hold-not-acquired",
        says="no lease is taken to refresh a grant on hold",
        path=_GRANTS,
        old=" AND attribute_not_exists({update.name('on_hold')}))\"\n",
        new=' AND attribute_exists(pk))"\n',
        tests=("tests/contract/test_grants_contract.py::test_no_lease_is_taken_otherwise",),
    ),
    Guard(
        name="on-hold-only-asked-about",
        says="whoever looks into a report or a doubt of a grant on hold asks Wise and sends nothing",
        path=_ATTEMPT,
        old="        if is_on_hold(grant, self.hold, self.use.clock()):\n"
        "            return self._ask_on_hold(grant, cause)\n",
        new="",
        tests=(
            f"{_UNIT}::test_a_reported_token_that_is_dead_is_not_served_again",
            f"{_UNIT}::test_a_doubt_that_turns_out_bad_stays_until_newer_tokens_come",
        ),
    ),
    Guard(
        name="hold-not-sent",
        says="an order to hold that becomes known under the lease stops the request",
        path=_ATTEMPT,
        old="            return Word.ON_HOLD.value if is_on_hold(grant, orders.hold_on(self.key.tenant, now), now) "
        "else None\n",
        new="            return None\n",
        tests=(f"{_UNIT}::test_an_order_that_becomes_known_under_the_lease_stops_the_request",),
    ),
    Guard(
        name="dead-on-hold-not-served",
        says="a token on hold that Wise called dead is in doubt from then on",
        path=_ATTEMPT,
        old="        in_doubt = self.doubt or (FOUND_DEAD if liveness is Liveness.DEAD else None)\n",
        new="        in_doubt = self.doubt\n",
        tests=(f"{_UNIT}::test_a_reported_token_that_is_dead_is_not_served_again",),
    ),
    Guard(
        name="dead-on-hold-due-when-released",
        says="a token that was found dead is replaced as soon as it may be",
        path=_ATTEMPT,
        old="        after = replace(after, refresh_at=min(grant.refresh_at, now))  "
        "# no promise is left, and it is due when released\n",
        new="",
        tests=(f"{_UNIT}::test_one_that_was_found_dead_is_refreshed_once_it_is_released",),
    ),
    Guard(
        name="minute-at-a-time",
        says="nobody is promised a token for long that somebody else may replace",
        path=_POLICY,
        old="    stable_until = min(now + HELD_PROMISE, grant.expires_at - budgets.guard)\n",
        new="    stable_until = grant.expires_at - budgets.guard\n",
        tests=(f"{_UNIT}::test_a_token_is_promised_for_a_minute_at_a_time_until_shortly_before_its_end",),
    ),
    Guard(
        name="on-hold-leaves-the-index",
        says="a grant on hold is not due because of its token's age",
        path=_POLICY,
        old="grant.kind is not GrantKind.PERSONAL and grant.on_hold is None:\n",
        new="grant.kind is not GrantKind.PERSONAL:\n",
        tests=(f"{_UNIT}::test_one_of_ours_that_is_on_hold_leaves_the_index",),
    ),
    Guard(
        name="released-after-the-promise",
        says="a grant that is released is not refreshed before what its readers were promised is over",
        path=_RULES,
        old="        after = replace(after, refresh_at=max(grant.refresh_at, over))\n",
        new="        after = replace(after, refresh_at=grant.refresh_at)\n",
        tests=(f"{_UNIT}::test_no_token_is_replaced_before_the_instant_that_was_promised_under_an_order",),
    ),
    Guard(
        name="released-at-the-end",
        says="a grant that is released shortly before its token's end is refreshed at that end, and no later",
        path=_RULES,
        old="        over = over if grant.expires_at is None else min(over, grant.expires_at)\n",
        new="",
        tests=(f"{_UNIT}::test_one_that_is_released_shortly_before_its_end_is_refreshed_at_its_end",),
    ),
    Guard(
        name="ended-order-and-the-token",
        says="an order about many that was ended binds no grant whose token is over",
        path=_RULES,
        old="    return grant.on_hold is not None or order.until is None or grant.expires_at is None or now < "
        "grant.expires_at\n",
        new="    return True\n",
        tests=(f"{_UNIT}::test_a_reader_at_the_end_of_a_token_waits_for_no_promise_that_is_over",),
    ),
    Guard(
        name="order-in-force-and-the-token",
        says="an order in force binds a grant also when its token is over",
        path=_RULES,
        old="    return grant.on_hold is not None or order.until is None or grant.expires_at is None or now < "
        "grant.expires_at\n",
        new="    return grant.on_hold is not None or grant.expires_at is None or now < grant.expires_at\n",
        tests=(f"{_UNIT}::test_a_reader_at_the_end_of_a_token_under_an_order_in_force_gets_none",),
    ),
    Guard(
        name="ended-order-lasts",
        says="an order about many that was ended lasts until the last promise under it is over",
        path=_RULES,
        old="if order is not None and (order.until is None or now < order.until)]\n",
        new="if order is not None and order.until is None]\n",
        tests=(
            f"{_UNIT}::test_no_token_is_replaced_before_the_instant_that_was_promised_under_an_order",
            f"{_UNIT}::test_of_two_orders_the_one_counts_that_lasts_longer",
        ),
    ),
    Guard(
        name="application-not-on-hold",
        says="no order to hold stops our application's own token",
        path=_RULES,
        old="        if not tenant or not found:\n",
        new="        if not found:\n",
        tests=(f"{_UNIT}::test_our_applications_own_token_is_never_on_hold",),
    ),
    Guard(
        name="hold-waits-for-the-lease",
        says="an order about a grant, and its end, wait for whoever works on it",
        path=_HOLD,
        old="            stored = patience.unheld(key, until)\n",
        new="            stored = self.grants.get(key) or Declined.NOT_FOUND\n",
        tests=(
            f"{_UNIT}::test_an_order_waits_for_a_refresh_that_is_under_way",
            f"{_UNIT}::test_a_report_that_is_being_asked_about_is_waited_for_before_a_release",
        ),
    ),
    Guard(
        name="hold-takes-a-dead-lease",
        says="a worker that comes back from the dead writes nothing over an order",
        path=_HOLD,
        old="            rest = freed(stored, now, self.budgets)\n",
        new="            rest = stored\n",
        tests=(f"{_UNIT}::test_the_lease_of_a_worker_that_is_gone_is_taken_from_it",),
    ),
    Guard(
        name="hold-is-conditional",
        says="an order about a grant undoes no doubt that came at the same time",
        path=_HOLD,
        old="phase=stored.phase, in_doubt=stored.in_doubt\n",
        new="phase=stored.phase\n",
        tests=(f"{_UNIT}::test_an_order_does_not_undo_a_doubt_that_came_at_the_same_time",),
    ),
    Guard(
        name="hold-answered-when-in-force",
        says="an order about many is answered when every process knows it",
        path=_HOLD,
        old="            self.sleep(min(left, longest))\n",
        new="            pass\n",
        tests=(f"{_UNIT}::test_the_answer_comes_when_every_process_knows_it_and_nothing_is_under_way",),
    ),
    Guard(
        name="held-tenant-set-aside",
        says="the sweep refreshes nothing of a held tenant, and lets others go on",
        path=_SWEEP,
        old="            if stopped.hold_on(key.tenant, now) is not None:\n",
        new="            if stopped is None:\n",
        tests=(f"{_UNIT}::test_due_grants_of_a_held_tenant_are_set_aside_and_others_go_on",),
    ),
    Guard(
        name="held-tenants-doubts",
        says="a doubt about a grant of a held tenant is resolved without a reader",
        path=_SWEEP,
        old="        if step is Step.RESOLVE_DOUBT and not dead:\n",
        new="        if step is None:\n",
        tests=(f"{_UNIT}::test_a_worker_that_dies_under_an_order_about_many_leaves_a_doubt_that_is_resolved",),
    ),
    Guard(
        name="ended-order-read",
        says="readers know of a hold that was ended what may be promised now",
        path=_SERVE,
        old="        return replace(grant, refresh_at=max(grant.refresh_at, over))\n",
        new="        return grant\n",
        tests=(f"{_UNIT}::test_a_reader_is_promised_by_the_ordinary_rules_as_soon_as_an_order_was_ended",),
    ),
    Guard(
        name="adopted-stays-on-hold",
        says="newer tokens of a grant on hold do not end the order",
        path=_ADOPT,
        old="            on_hold=held or offer.hold,\n",
        new="            on_hold=offer.hold,\n",
        tests=(f"{_UNIT}::test_the_first_order_stands_and_an_offer_may_end_it",),
    ),
    Guard(
        name="first-hold-stands",
        says="an order to hold that is in force keeps its time and its reason",
        path=_ORDERS,
        old='        free = "attribute_not_exists(#order) OR attribute_exists(#order.#until)"\n',
        new='        free = "attribute_not_exists(#order.#until) OR attribute_exists(#order.#until)"\n',
        tests=(f"{_CONTRACT}::test_an_order_to_hold_lasts_until_the_instant_it_was_ended_with",),
    ),
    Guard(
        name="foreign-was-alive",
        says="a token that was in doubt, or never seen alive, tells of nobody else",
        path=_ATTEMPT,
        old="            self.foreign = self.dead and self.sure and self.use.clock() < grant.refresh_at\n",
        new="            self.foreign = self.dead and self.use.clock() < grant.refresh_at\n",
        tests=(f"{_FOREIGN}::test_a_token_that_we_may_have_killed_or_never_saw_alive_proves_nothing",),
    ),
    Guard(
        name="foreign-before-its-time",
        says="a token that was due tells of nobody else",
        path=_ATTEMPT,
        old="self.foreign = self.dead and self.sure and self.use.clock() < grant.refresh_at\n",
        new="self.foreign = self.dead and self.sure\n",
        tests=(f"{_FOREIGN}::test_a_token_that_is_due_anyway_proves_nothing",),
    ),
    Guard(
        name="foreign-keeps-the-refresh-token",
        says="where the refresh token died as well nobody else is blamed",
        path=_ATTEMPT,
        old="        foreign = self.foreign and request.presented is not None\n",
        new="        foreign = self.foreign\n",
        tests=(f"{_FOREIGN}::test_nor_does_one_whose_grant_came_back_by_its_registration_code",),
    ),
    Guard(
        name="foreign-once-a-day",
        says="on-call is told once a day that somebody else refreshes a grant",
        path=_KEEP,
        old="        if after.foreign_at is not None and now - after.foreign_at < FOREIGN_AGAIN:\n"
        "            return after\n",
        new="",
        tests=(f"{_FOREIGN}::test_it_is_told_once_a_day_and_counted_each_time",),
    ),
    Guard(
        name="foreign-leaves-the-warning",
        says="a refresh token that ends soon is told again after the alert that took its place",
        path=_KEEP,
        old="            after = replace(after, expiry_told=None)\n",
        new="            pass\n",
        tests=(f"{_FOREIGN}::test_a_refresh_token_that_ends_soon_is_told_again",),
    ),
    Guard(
        name="trace-parked",
        says="a parked answer still says which request on-call is told of",
        path=_PARKING,
        old='            "trace_id": answer.trace_id,\n',
        new='            "trace_id": None,\n',
        tests=("tests/contract/test_parking_contract.py::test_a_message_is_what_the_design_says",),
    ),
    Guard(
        name="ended-hold-until-it-is-over",
        says="an ended order to hold binds until it is over, whatever order comes next",
        path=_RULES,
        old=" and order.until and order.until < before]",
        new=" and order.until]",
        tests=(f"{_UNIT}::test_an_ended_order_goes_with_a_later_one_once_it_is_over_by_every_clock",),
    ),
    Guard(
        name="hold-given-anew-not-forgotten",
        says="an order to hold that is given anew is not removed by who saw it ended",
        path=_ORDERS,
        old='" AND ".join(["#schema = :schema", *over])',
        new='" OR ".join(["#schema = :schema", *over])',
        tests=(f"{_CONTRACT}::test_an_order_that_is_given_anew_while_another_is_forgotten_stays",),
    ),
    Guard(
        name="foreign-parked",
        says="a parked answer still tells of somebody else",
        path=_PARKING,
        old='            "foreign": answer.foreign,\n',
        new='            "foreign": False,\n',
        tests=("tests/contract/test_parking_contract.py::test_a_message_is_what_the_design_says",),
    ),
    Guard(
        name="dead-on-hold-told",
        says="people are told about a grant that is dead on hold, and Wise is not asked about it every second",
        path=_SWEEP,
        old="            return result if grant is None else self._follow(grant, result)\n        return result\n",
        new="            return result\n        return result\n",
        tests=(f"{_UNIT}::test_people_are_told_about_a_grant_that_is_dead_on_hold_and_wise_is_left_alone",),
    ),
    Guard(
        name="released-with-the-last-tokens",
        says="an offer that ends the hold keeps the last minute's promise",
        path=_ADOPT,
        old="        return released(grant, now, self.budgets) if offer.release else grant\n",
        new="        return replace(grant, on_hold=None, due_at=grant.refresh_at) if offer.release else grant\n",
        tests=(f"{_UNIT}::test_the_last_tokens_release_a_grant_no_earlier_than_its_last_promise",),
    ),
    Guard(
        name="foreign-once-a-day-though-adopted",
        says="newer tokens that are brought have nobody told more often than once a day",
        path=_ADOPT,
        old="            foreign_at=before.foreign_at if before is not None else None,\n",
        new="",
        tests=(f"{_FOREIGN}::test_it_is_told_once_a_day_though_newer_tokens_are_brought",),
    ),
)
