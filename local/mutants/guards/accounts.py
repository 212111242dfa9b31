"""Accounts at Wise: only Wise says what became of them, and the newest word counts, however often it comes."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_RULES: Final = "functions/token_rotator/domain/suspension.py"
_READ: Final = "functions/token_rotator/domain/state_change.py"
_TAKE: Final = "functions/token_rotator/service/take_event.py"
_APPLY: Final = "functions/token_rotator/service/apply_state.py"
_STORE: Final = "functions/token_rotator/adapters/dynamo_states.py"
_GRANTS: Final = "functions/token_rotator/adapters/dynamo_grants.py"
_SIGNED: Final = "functions/token_rotator/adapters/rsa_signatures.py"
_UNIT: Final = "tests/unit/test_state_change.py"
_CONTRACT: Final = "tests/contract/test_states_contract.py"
_API: Final = "tests/handlers/test_webhook.py"

GUARDS: Final = (
    Guard(
        name="event-signed-by-wise",
        says="an event counts only under the signature of one of Wise's keys",
        path=_SIGNED,
        old="    except InvalidSignature:\n        return False\n",
        new="    except InvalidSignature:\n        return bool(signature)\n",
        tests=(f"{_API}::test_what_is_not_wises_is_turned_away_and_leaves_no_trace",),
    ),
    Guard(
        name="event-of-a-size",
        says="nobody has more than 64 KB hashed",
        path=_TAKE,
        old=" or len(content) > MAX_EVENT",
        new="",
        tests=(f"{_UNIT}::test_nothing_is_read_beyond_a_size",),
    ),
    Guard(
        name="event-not-too-old",
        says="an event that is sent once more after weeks is no news",
        path=_READ,
        old="    if occurred_at <= now - TOO_OLD_AFTER:\n        return Unread.OLD\n",
        new="",
        tests=(f"{_UNIT}::test_an_event_that_is_no_news_any_more_is_old",),
    ),
    Guard(
        name="event-not-from-the-future",
        says="an event from far ahead does not outrank all that come after it",
        path=_READ,
        old=" or occurred_at > now + AHEAD:",
        new=":",
        tests=(f"{_UNIT}::test_an_event_of_ours_in_another_form_is_unreadable",),
    ),
    Guard(
        name="room-of-a-tenant",
        says="a tenant that names a user in many grants crowds out no other tenant's",
        path=_READ,
        old=" and sum(one.tenant == key.tenant for one in listed) < LISTED_OF_TENANT\n",
        new="\n",
        tests=(f"{_CONTRACT}::test_a_grant_for_which_there_is_no_room_is_stored_all_the_same",),
    ),
    Guard(
        name="room-in-an-item",
        says="the list of a user's grants never fills its item, whoever names the user",
        path=_READ,
        old="    return len(listed) < LISTED and sum",
        new="    return sum",
        tests=(f"{_CONTRACT}::test_a_grant_for_which_there_is_no_room_is_stored_all_the_same",),
    ),
    Guard(
        name="full-list-refuses-nothing",
        says="a grant is stored whether or not its user's list takes it",
        path=_GRANTS,
        old="    return None if grant is None or grant.unlisted else grant.wise_user_id\n",
        new="    return None if grant is None else grant.wise_user_id\n",
        tests=(f"{_CONTRACT}::test_a_list_that_an_item_can_hardly_hold_stops_no_write",),
        raises=("StoreUnavailable",),
    ),
    Guard(
        name="newest-state-kept",
        says="an older event does not take the place of a newer one",
        path=_STORE,
        old='        update.require(f"attribute_not_exists({rank}) OR {rank} < :new_rank")\n',
        new='        update.require(f"attribute_not_exists({rank}) OR {rank} <> :new_rank")\n',
        tests=(f"{_CONTRACT}::test_only_what_is_newer_is_noted",),
    ),
    Guard(
        name="settled-if-newest",
        says="what came while an older event was applied stays due",
        path=_STORE,
        old='        update.require_equal("rank", NUMBER.encode(change.rank))\n',
        new='        update.require("attribute_exists(pk)")\n',
        tests=(f"{_CONTRACT}::test_what_came_meanwhile_stays_due",),
    ),
    Guard(
        name="closing-outranks",
        says="of two events at one instant the one that closes the account counts",
        path=_READ,
        old=" + self.closes\n",
        new=" + (not self.closes)\n",
        tests=(f"{_UNIT}::test_of_two_at_one_instant_the_one_that_closes_counts",),
    ),
    Guard(
        name="grant-knows-the-newest",
        says="who is late with an older event changes nothing",
        path=_RULES,
        old="    if known is not None and change.rank <= known:\n        return grant\n",
        new="",
        tests=(
            f"{_UNIT}::test_who_is_late_with_an_older_change_changes_nothing",
            f"{_UNIT}::test_a_manager_may_lift_it_before_wise_says_so",
        ),
    ),
    Guard(
        name="event-of-another-account",
        says="what Wise says of one account touches no grant of another",
        path=_RULES,
        old="    if whose != change.account.wise_id:\n        return grant\n",
        new="",
        tests=(f"{_UNIT}::test_a_grant_that_became_anothers_meanwhile_is_left_alone",),
    ),
    Guard(
        name="ended-tokens-in-doubt",
        says="a token that Wise has ended is not served because somebody lifts the suspension",
        path=_RULES,
        old="    return suspended(_doubted(grant, now), Suspension(",
        new="    return suspended(grant, Suspension(",
        tests=(f"{_UNIT}::test_a_manager_may_lift_it_before_wise_says_so",),
    ),
    Guard(
        name="closed-before-in-doubt",
        says="a token that ended while its account was closed is not served because nobody saw it closed",
        path=_RULES,
        old="    if change.was_closed:\n        return _doubted(grant, now)\n",
        new="",
        tests=(f"{_UNIT}::test_a_token_that_ended_while_its_account_was_closed_is_not_served",),
    ),
    Guard(
        name="closed-before-kept",
        says="that an account was closed is known until the sweep has looked, whatever event comes meanwhile",
        path=_STORE,
        old='            update.keep("was_closed", FLAG.encode(False))\n',
        new='            update.change("was_closed", FLAG.encode(False))\n',
        tests=(f"{_CONTRACT}::test_that_an_account_was_closed_is_kept_until_it_is_settled",),
    ),
    Guard(
        name="operators-order-stands",
        says="Wise's word lets no grant go on that an operator stopped",
        path=_RULES,
        old="    if is_stopped_by(grant, subject) or _given_up_before(",
        new="    if grant.phase is Phase.SUSPENDED or _given_up_before(",
        tests=(f"{_UNIT}::test_an_operators_order_stands_and_the_token_is_in_doubt_when_it_is_lifted",),
    ),
    Guard(
        name="other-account-closed",
        says="a grant stays stopped while its other account is closed",
        path=_RULES,
        old="    if others is not None and others.closes and is_stopped_by(grant, subject):\n"
        "        return replace(grant, suspension=Suspension(now, others.account.subject.orderer, DEACTIVATED))\n",
        new="",
        tests=(f"{_UNIT}::test_a_grant_stays_while_its_other_account_is_closed",),
    ),
    Guard(
        name="settled-after-all",
        says="a change is settled only after its grants were written",
        path=_APPLY,
        old="            if self.states.settle(change):\n                return\n",
        new="            self.states.settle(change)\n            return\n",
        tests=(f"{_UNIT}::test_what_comes_while_an_older_change_is_applied_is_applied_too",),
    ),
    Guard(
        name="unread-grant-stops-no-other",
        says="a grant that cannot be read keeps no other of its user from being suspended",
        path=_APPLY,
        old="                    unread = error\n",
        new="                    raise\n",
        tests=(f"{_UNIT}::test_a_grant_that_cannot_be_read_keeps_no_other_of_its_user_going",),
    ),
    Guard(
        name="unread-grant-stays-due",
        says="a change is not settled while one of its grants could not be read",
        path=_APPLY,
        old="            if unread is not None:\n                raise unread\n",
        new="",
        tests=(f"{_UNIT}::test_a_grant_that_cannot_be_read_keeps_no_other_of_its_user_going",),
    ),
    Guard(
        name="rank-of-another-user",
        says="what was known of another user says nothing about the one whose the grant is now",
        path="functions/token_rotator/service/adopt_grant.py",
        old="if before is not None and same_user else None,",
        new="if before is not None else None,",
        tests=(f"{_UNIT}::test_what_was_known_of_another_user_says_nothing_about_the_one_whose_the_grant_is_now",),
    ),
    Guard(
        name="given-up-before-the-event",
        says="a grant that was given up while its account was closed is tried once when that is opened",
        path=_RULES,
        old=" or _given_up_before(grant, change.occurred_at):",
        new=":",
        tests=(f"{_UNIT}::test_one_that_was_given_up_before_wise_said_why_is_tried_once_more",),
    ),
)
