"""A link binds the account of the right person, once, and nothing of the old authorization's comes back."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_LINK: Final = "functions/token_rotator/service/link_grant.py"
_BUDGETS: Final = "functions/token_rotator/domain/lease.py"
_RULES: Final = "functions/token_rotator/domain/link.py"
_GRANTS: Final = "functions/token_rotator/adapters/dynamo_grants.py"
_LINKS: Final = "functions/token_rotator/adapters/dynamo_links.py"
_ADMIN: Final = "functions/token_rotator/handlers/admin.py"
_PAGES: Final = "functions/token_rotator/handlers/pages.py"
_PREPARED: Final = "        envelope = self._prepared(link) if why is None else None\n"
_IN_TIME: Final = (
    "        if why is None and self.clock() + self.budgets.exchange > ends:\n"
    "            return self._failed(link, LinkFailure.OUR_FAULT, again=True)\n"
)
_USED: Final = "        attempt_id = self.new_id()\n        used = self._used(link, attempt_id)\n"
_UNIT: Final = "tests/unit/test_link_grant.py"
_STORE: Final = "tests/contract/test_links_contract.py"
_LIVED: Final = "tests/handlers/test_linking.py"

GUARDS: Final = (
    Guard(
        name="state-hashed",
        says="who reads the table cannot use a link",
        path=_RULES,
        old="    return hashlib.sha256(token.reveal().encode()).hexdigest()\n",
        new="    return token.reveal()\n",
        tests=(f"{_UNIT}::test_a_link_is_stored_under_the_hash_of_its_state_only",),
    ),
    Guard(
        name="state-once",
        says="a state is used up by the first browser that brings it",
        path=_LINKS,
        old='        update.require_equal("used_at", None)\n',
        new="",
        tests=(f"{_STORE}::test_a_link_is_used_once",),
    ),
    Guard(
        name="state-in-time",
        says="a state is not used up after its time",
        path=_LINKS,
        old="        update.require(f\"{update.name('ends_at')} > {update.value('now', INSTANT.encode(now))}\")\n",
        new="",
        tests=(f"{_STORE}::test_a_link_is_not_used_after_its_time",),
    ),
    Guard(
        name="state-ours",
        says="who did not use the state up exchanges nothing",
        path=_LINK,
        old="        if used is None or used.used_by != attempt_id:\n",
        new="        if used is None:\n",
        tests=(f"{_UNIT}::test_two_browsers_with_one_state_make_one_exchange",),
    ),
    Guard(
        name="profile-before-exchange",
        says="another profile's code is not exchanged",
        path=_LINK,
        old="    return LinkFailure.DIFFERENT_PROFILE if link.profile_id not in (None, arrival.profile_id) else None\n",
        new="    return None\n",
        tests=(f"{_UNIT}::test_another_profile_than_the_grants_is_refused_before_its_code_is_exchanged",),
    ),
    Guard(
        name="no-working-grant-killed",
        says="a code of a profile that another grant holds is not exchanged",
        path=_LINK,
        old="        return LinkFailure.ALREADY_HELD if holder not in (None, link.key) else None\n",
        new="        return None\n",
        tests=(f"{_UNIT}::test_a_link_of_another_grant_kills_no_working_one",),
    ),
    Guard(
        name="profile-is-the-users",
        says="a browser binds no profile that Wise says is not its user's",
        path=_LINK,
        old="        if shown is not None and profile_id not in shown.ids:",
        new="        if shown is not None and not shown.ids:",
        tests=(f"{_UNIT}::test_a_browser_binds_no_profile_that_is_not_its_users",),
    ),
    Guard(
        name="profile-at-confirm",
        says="a profile that the grant took since the start counts",
        path=_LINK,
        old="        if before is not None and before.profile_id not in (None, pending.profile_id):\n",
        new="        if before is not None and before.profile_id is ...:\n",
        tests=(f"{_UNIT}::test_a_profile_that_the_grant_took_since_the_start_counts",),
    ),
    Guard(
        name="keys-before-state",
        says="a fault of ours before the exchange does not cost the user the link",
        path=_LINK,
        old=_PREPARED + _IN_TIME + _USED,
        new=_USED + _PREPARED + _IN_TIME,
        tests=(f"{_UNIT}::test_a_fault_of_ours_before_the_exchange_does_not_cost_the_link",),
    ),
    Guard(
        name="suspended-exchanges-nothing",
        says="while a tenant is suspended no code of its users is exchanged",
        path=_LINK,
        old="        if why is None and self.suspensions.read().of(link.key.tenant) is not None:\n",
        new="        if why is None and self.suspensions.read().of(link.key.tenant) is ...:\n",
        tests=(f"{_UNIT}::test_while_suspended_no_code_is_exchanged_and_the_link_stays",),
    ),
    Guard(
        name="suspended-starts-nothing",
        says="no link is started for a suspended grant",
        path=_LINK,
        old="        if grant is not None and grant.phase is Phase.SUSPENDED:\n",
        new="        if grant is ...:\n",
        tests=(f"{_UNIT}::test_nothing_is_started_for_what_is_suspended",),
    ),
    Guard(
        name="time-before-state",
        says="no code is sent without the time to keep what comes of it",
        path=_LINK,
        old="        if why is None and self.clock() + self.budgets.exchange > ends:\n",
        new="        if why is None and self.clock() > ends:\n",
        tests=(f"{_UNIT}::test_nothing_is_sent_without_the_time_to_keep_what_comes",),
    ),
    Guard(
        name="tokens-kept",
        says="tokens that a write did not take at first are written again",
        path=_BUDGETS,
        old="KEEP_TRIES: Final = 3\n",
        new="KEEP_TRIES: Final = 1\n",
        tests=(f"{_UNIT}::test_tokens_that_no_write_takes_at_first_are_not_lost",),
    ),
    Guard(
        name="word-in-time",
        says="tokens that nobody confirms in ten minutes become nobody's",
        path=_LINK,
        old="            if pending.confirm_before <= began:\n",
        new="            if pending.confirm_before <= pending.issued_at:\n",
        tests=(f"{_UNIT}::test_tokens_wait_ten_minutes",),
    ),
    Guard(
        name="word-of-the-grant",
        says="a link is confirmed for its own grant only",
        path=_LINK,
        old="            if pending is None or pending.key != key:\n",
        new="            if pending is None:\n",
        tests=(f"{_UNIT}::test_a_link_id_is_for_its_own_grant",),
    ),
    Guard(
        name="completed-by-its-own",
        says="a partner completes the links of its own grants only",
        path=_LINK,
        old="        if link is None or arrival.of not in (None, link.key):\n",
        new="        if link is None:\n",
        tests=(f"{_UNIT}::test_a_partner_completes_the_link_of_its_own_grant_only",),
    ),
    Guard(
        name="spent-with-the-write",
        says="a repeated confirmation brings no old tokens back",
        path=_GRANTS,
        old='            self._client.transact_write_items(TransactItems=cast("Any", [grant, *claim, *spent]))\n',
        new='            self._client.transact_write_items(TransactItems=cast("Any", [grant, *claim]))\n',
        tests=(f"{_STORE}::test_a_grant_and_its_links_tokens_are_written_together",),
    ),
    Guard(
        name="spent-once",
        says="tokens that are spent are not written again",
        path=_GRANTS,
        old='"attribute_exists(refresh_token)"',
        new='"attribute_exists(pk)"',
        tests=(f"{_STORE}::test_tokens_that_are_spent_or_gone_write_nothing",),
    ),
    Guard(
        name="turned-down-is-forgotten",
        says="tokens that nobody may confirm any more do not lie about",
        path=_LINK,
        old="        self.links.forget(pending.hashed)\n",
        new="",
        tests=(f"{_UNIT}::test_what_is_turned_down_is_forgotten",),
    ),
    Guard(
        name="unconfirmed-dropped",
        says="tokens that nobody confirmed do not wait for DynamoDB to drop them",
        path=_LINK,
        old="            due_at=confirm_before + self.budgets.late_word,\n",
        new="",
        tests=(f"{_UNIT}::test_tokens_that_nobody_confirms_are_dropped_within_a_minute_of_their_time",),
    ),
    Guard(
        name="dropped-after-the-last-word",
        says="a confirmation that began in time does not lose its tokens to the sweep",
        path=_LINK,
        old="            due_at=confirm_before + self.budgets.late_word,\n",
        new="            due_at=confirm_before,\n",
        tests=(f"{_UNIT}::test_a_confirmation_that_began_in_time_never_loses_its_tokens_to_the_sweep",),
    ),
    Guard(
        name="dropped-when-due",
        says="a sweep that looks at an index of a moment ago drops nothing before its time",
        path=_LINKS,
        old='                ConditionExpression="due_at <= :now",\n',
        new='                ConditionExpression="due_at > :now OR due_at <= :now",\n',
        tests=(f"{_STORE}::test_tokens_that_nobody_confirmed_are_due_and_dropped_and_the_rest_stays",),
    ),
    Guard(
        name="confirmed-leaves-the-index",
        says="a link that was confirmed is not dropped afterwards",
        path=_GRANTS,
        old='"REMOVE access_token, refresh_token, due_at, due_shard"',
        new='"REMOVE access_token, refresh_token"',
        tests=(f"{_STORE}::test_tokens_that_were_confirmed_or_turned_down_are_due_no_more",),
    ),
    Guard(
        name="lost-answer-looked-up",
        says="a link that our own write used up is not lost with the write's answer",
        path=_LINK,
        old="            if found is None or found.used_at is None:\n",
        new="            if found is None or found.used_at is not None:\n",
        tests=(f"{_UNIT}::test_a_link_that_our_own_write_used_up_goes_on_although_its_answer_was_lost",),
        raises=("StoreUnavailable",),
    ),
    Guard(
        name="time-after-state",
        says="after a lost answer no code is sent without the time to keep what comes of it",
        path=_LINK,
        old="        if self.clock() + self.budgets.exchanging > ends:",
        new="        if self.clock() > ends:",
        tests=(f"{_UNIT}::test_nothing_is_sent_without_the_time_to_keep_what_comes_after_a_lost_answer",),
    ),
    Guard(
        name="deleted-stays-deleted",
        says="a grant that was forgotten does not come back by a link that was on its way",
        path=_LINK,
        old="        if not is_of(pending, before):\n",
        new="        if not is_of(pending, before) and before is not None:\n",
        tests=(f"{_UNIT}::test_a_grant_that_was_deleted_since_the_start_does_not_come_back",),
    ),
    Guard(
        name="link-new-version",
        says="an answer to the old refresh token is overtaken by a link",
        path=_RULES,
        old="        version = max(version, before.version + 1)\n",
        new="        version = before.version\n",
        tests=(f"{_UNIT}::test_an_answer_to_the_old_refresh_token_that_comes_after_the_confirmation_changes_nothing",),
    ),
    Guard(
        name="link-inherits-doubt",
        says="a request that was under way leaves the new access token in doubt",
        path=_RULES,
        old="    if before.attempt_id or before.in_doubt:\n",
        new="    if before.attempt_id == before.in_doubt == ...:\n",
        tests=(f"{_UNIT}::test_a_doubt_is_inherited",),
    ),
    Guard(
        name="link-doubts-later-sends",
        says="a request that was sent after the exchange leaves the new access token in doubt",
        path=_RULES,
        old="    return pending.attempt_id if raced else None\n",
        new="    return None\n",
        tests=(f"{_UNIT}::test_a_refresh_that_was_sent_after_the_exchange_leaves_the_new_token_in_doubt",),
    ),
    Guard(
        name="older-link-declined",
        says="a link's tokens that a later authorization has ended are not stored",
        path=_RULES,
        old="    return authorized_at is not None and authorized_at > pending.issued_at + budgets.margin\n",
        new="    return False\n",
        tests=(
            f"{_UNIT}::test_an_older_link_does_not_replace_a_newer_one",
            f"{_UNIT}::test_an_older_link_does_not_replace_what_was_imported_since",
        ),
    ),
    Guard(
        name="refresh-is-no-authorization",
        says="a refresh of the old tokens after the exchange does not make a link old",
        path=_RULES,
        old="    authorized_at = None if grant is None else grant.authorized_at\n",
        new="    authorized_at = None if grant is None else grant.issued_at\n",
        tests=(f"{_UNIT}::test_a_refresh_of_the_old_tokens_since_the_exchange_makes_them_no_newer",),
    ),
    Guard(
        name="link-as-old",
        says="of two authorizations that no clock can order a refresh at once shows which lives",
        path=_RULES,
        old="    if before is not None and _as_old(before, pending, budgets):\n",
        new="    if before is ...:\n",
        tests=(f"{_UNIT}::test_of_two_links_that_no_clock_can_order_a_refresh_at_once_shows_what_lives",),
    ),
    Guard(
        name="return-url-listed",
        says="a browser is sent to a partner's own URLs only",
        path=_ADMIN,
        old='    if not isinstance(value, str) or value.partition("?")[0] not in allowed:\n',
        new="    if not isinstance(value, str) or not value.startswith(tuple(allowed)):\n",
        tests=(f"{_LIVED}::test_only_a_partners_own_urls_are_returned_to",),
    ),
    Guard(
        name="no-referrer",
        says="the address of a page, which holds code and state, goes no further",
        path=_PAGES,
        old='"Referrer-Policy": "no-referrer"',
        new='"Referrer-Policy": "unsafe-url"',
        tests=(f"{_LIVED}::test_a_page_loads_and_runs_nothing",),
    ),
)
