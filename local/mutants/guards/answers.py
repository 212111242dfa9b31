"""What Wise issued: stored once, never over something newer, and never dropped unseen."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_KEEP: Final = "functions/token_rotator/service/keep_answer.py"
_DRAIN: Final = "functions/token_rotator/service/drain_parking.py"
_SWEEP: Final = "functions/token_rotator/service/refresh_due.py"
_LEASE: Final = "functions/token_rotator/domain/lease.py"
_ADOPT: Final = "functions/token_rotator/service/adopt_grant.py"
_QUEUE: Final = "functions/token_rotator/adapters/sqs_parking.py"
_ATTEMPTS: Final = "tests/unit/test_refresh_grant.py"
_ADOPTIONS: Final = "tests/unit/test_adopt_grant.py"
_MOVING: Final = "tests/unit/test_moving_in.py"
_PARKING: Final = "tests/unit/test_parking.py"

GUARDS: Final = (
    Guard(
        name="commit-attempt",
        says="an answer is committed only under the lease that it was seen under",
        path=_KEEP,
        old="            when = When(attempt_id=stored.attempt_id, version=stored.version)\n",
        new="            when = When(version=stored.version)\n",
        tests=(
            f"{_ATTEMPTS}::test_an_answer_overtaken_by_an_attempt_is_stored_in_doubt_and_leaves_the_others_lease",
            f"{_PARKING}::test_one_that_is_stored_beside_a_lease_taken_meanwhile_is_looked_at_when_that_is_over",
        ),
    ),
    Guard(
        name="commit-version",
        says="an answer is committed only over the version that it was seen over",
        path=_KEEP,
        old="            when = When(attempt_id=stored.attempt_id, version=stored.version)\n",
        new="            when = When(attempt_id=stored.attempt_id)\n",
        tests=(f"{_ATTEMPTS}::test_an_answer_under_our_lease_over_another_version_is_stored_in_doubt",),
    ),
    Guard(
        name="commit-phase",
        says="a late answer is stored only in the phase that it was seen in",
        path=_KEEP,
        old="after, when = self._late(answer, stored), replace(when, phase=stored.phase)\n",
        new="after = self._late(answer, stored)\n",
        tests=("tests/mutants/test_guards.py::test_an_answer_that_comes_while_a_verdict_falls_brings_the_grant_back",),
    ),
    Guard(
        name="keep-refresh-token",
        says="the old refresh token stays where the answer has none",
        path=_KEEP,
        old="            refresh_token=answer.refresh_token or stored.refresh_token,\n",
        new="            refresh_token=answer.refresh_token,  # type: ignore[arg-type]\n",
        tests=(f"{_ATTEMPTS}::test_an_undisturbed_refresh_costs_two_writes_and_one_request[omitted]",),
    ),
    Guard(
        name="version-grows",
        says="each new access token has a version of its own",
        path=_KEEP,
        old="        version, replaced = stored.version + 1, ",
        new="        version, replaced = stored.version, ",
        tests=(f"{_ATTEMPTS}::test_an_undisturbed_refresh_costs_two_writes_and_one_request",),
    ),
    Guard(
        name="version-of-adoption",
        says="a grant made anew does not repeat a version of the one before",
        path=_ADOPT,
        old="        version = int(now.timestamp() * 1000)\n",
        new="        version = 1\n",
        tests=(f"{_ADOPTIONS}::test_a_grant_made_anew_never_repeats_a_version",),
    ),
    Guard(
        name="version-of-replacement",
        says="an import over a grant has a newer version than the one before, whatever the clock says",
        path=_ADOPT,
        old="            version = max(version, before.version + 1)\n",
        new="            pass\n",
        tests=("tests/mutants/test_guards.py::test_an_import_has_a_newer_version_even_if_the_clock_was_set_back",),
    ),
    Guard(
        name="create-once",
        says="what exists is not created again: an import never buries a grant unseen",
        path="functions/token_rotator/adapters/dynamo_grants.py",
        old='            "ConditionExpression": "attribute_not_exists(pk)",\n',
        new='            "ConditionExpression": "attribute_not_exists(pk) OR attribute_exists(pk)",\n',
        tests=(
            "tests/contract/test_grants_contract.py::test_creating_what_exists_is_refused_and_shows_what_is_stored",
        ),
    ),
    Guard(
        name="import-waits",
        says="an import waits while somebody refreshes",
        path=_ADOPT,
        old="            if grant.attempt_id is None or ran_out(grant, now, self.budgets):\n",
        new="            if now < until or ran_out(grant, now, self.budgets):\n",
        tests=(
            f"{_ADOPTIONS}::test_a_replacement_waits_for_the_lease_and_then_fails_its_precondition",
            f"{_ADOPTIONS}::test_a_replacement_gives_up_on_a_lease_within_its_time",
        ),
    ),
    Guard(
        name="import-in-doubt",
        says="an access token imported over a lease or a doubt is asked about first",
        path=_ADOPT,
        old="        return before.in_doubt\n",
        new="        return None\n",
        tests=(f"{_ADOPTIONS}::test_an_access_token_given_over_a_lease_that_ran_out_is_in_doubt",),
    ),
    Guard(
        name="import-over-dead",
        says="an access token imported over a dead grant is asked about first",
        path=_ADOPT,
        old="    return FOUND_DEAD if brings_access else None\n",
        new="    return None\n",
        tests=("tests/mutants/test_guards.py::test_an_access_token_imported_over_a_dead_grant_is_asked_about_first",),
    ),
    Guard(
        name="replay",
        says="an import that is played again does not bury a newer refresh token",
        path=_ADOPT,
        old="                version=if_match,\n",
        new="",
        tests=("tests/mutants/test_guards.py::test_an_import_does_not_bury_a_token_that_is_refreshed_while_it_seals",),
    ),
    Guard(
        name="late-in-doubt",
        says="an answer that was overtaken is stored in doubt",
        path=_KEEP,
        old="self._with_tokens(answer, stored), in_doubt=answer.attempt_id, due_at",
        new="self._with_tokens(answer, stored), due_at",
        tests=(f"{_ATTEMPTS}::test_an_answer_under_our_lease_over_another_version_is_stored_in_doubt",),
    ),
    Guard(
        name="others-lease",
        says="a late answer leaves the lease of another alone",
        path=_KEEP,
        old="        if stored.attempt_id == answer.attempt_id:\n            after = replace(after, attempt_id=None",
        new="        if stored.attempt_id is not None:\n            after = replace(after, attempt_id=None",
        tests=(f"{_ATTEMPTS}::test_an_answer_overtaken_by_an_attempt_is_stored_in_doubt_and_leaves_the_others_lease",),
    ),
    Guard(
        name="newer-stays",
        says="an answer is not stored over a newer version",
        path=_KEEP,
        old="            if not ours and not untouched:\n"
        "                return self._dropped(answer, Place.OVERTAKEN, stored)\n",
        new="",
        tests=(
            f"{_ATTEMPTS}::test_an_answer_older_than_what_is_stored_is_dropped_on_record",
            f"{_PARKING}::test_one_that_came_too_late_is_dropped_on_record",
        ),
    ),
    Guard(
        name="stored-twice",
        says="a second copy of an answer changes nothing",
        path=_KEEP,
        old="            if stored.access_token == answer.access_token:  #",
        new="            if answer.access_token is None:  #",
        tests=(
            f"{_PARKING}::test_a_write_that_took_effect_unseen_is_known",
            f"{_ATTEMPTS}::test_a_commit_whose_answer_was_lost_is_a_success",
        ),
    ),
    Guard(
        name="brought-back",
        says="an answer that comes after a verdict brings the grant back",
        path=_KEEP,
        old="            after = replace(after, phase=Phase.ACTIVE)\n",
        new="            pass\n",
        tests=(f"{_ATTEMPTS}::test_an_answer_that_comes_after_a_verdict_brings_the_grant_back",),
    ),
    Guard(
        name="parking",
        says="an answer that no write takes is parked",
        path=_ATTEMPT,
        old="                parked = parked or self._park(answer)\n",
        new="",
        tests=(f"{_PARKING}::test_the_next_sweep_stores_it_before_it_looks_at_anything",),
    ),
    Guard(
        name="tried-again",
        says="a write that fails is tried again while there is time",
        path=_ATTEMPT,
        old="        if self.use.clock() + _STORE_PAUSE + self.use.budgets.store > self.ends:\n",
        new="        if self.use.clock() + _STORE_PAUSE + self.use.budgets.store > self.use.clock():\n",
        tests=(f"{_ATTEMPTS}::test_an_answer_is_stored_by_a_later_try",),
    ),
    Guard(
        name="drain-first",
        says="parked answers are stored before anything is looked at",
        path=_SWEEP,
        old="        self.drained_at = use.drain(self.until)\n",
        new="",
        tests=(
            f"{_PARKING}::test_the_next_sweep_stores_it_before_it_looks_at_anything",
            f"{_PARKING}::test_no_verdict_falls_while_an_answer_may_be_parked",
        ),
    ),
    Guard(
        name="drain-on-duty",
        says="the parking queue is looked at again during a sweep",
        path=_SWEEP,
        old="            self.draining = self.pool.submit(self.use.drain, self.until)\n",
        new="            pass\n",
        tests=(f"{_PARKING}::test_a_sweep_looks_again_every_ten_seconds",),
    ),
    Guard(
        name="empty-means-empty",
        says="a queue that did not answer is not taken for an empty one",
        path=_DRAIN,
        old="            self._trouble(None, error.code)\n            return None\n",
        new="            self._trouble(None, error.code)\n            return self.clock()\n",
        tests=(f"{_PARKING}::test_no_verdict_falls_while_the_queue_does_not_answer",),
    ),
    Guard(
        name="in-hand-counts",
        says="a parked answer that somebody has received and not settled counts as parked",
        path=_DRAIN,
        old="                    return None if self.parking.holds_any() else asked_at\n",
        new="                    return asked_at\n",
        tests=("tests/mutants/test_guards.py::test_no_verdict_falls_while_somebody_has_a_parked_answer_in_hand",),
    ),
    Guard(
        name="removed-when-stored",
        says="a parked answer stays in the queue until it is stored",
        path=_DRAIN,
        old="            self._store(answer)\n            self.parking.remove(parked)\n",
        new="            self.parking.remove(parked)\n            self._store(answer)\n",
        tests=(f"{_PARKING}::test_one_whose_grant_cannot_be_read_stays",),
    ),
    Guard(
        name="unreadable-stays",
        says="a parked message that cannot be read is not thrown away",
        path=_DRAIN,
        old='"parked-unreadable")\n            return\n',
        new='"parked-unreadable")\n            self.parking.remove(parked)\n            return\n',
        tests=(f"{_PARKING}::test_an_unreadable_message_stays_and_keeps_no_other_waiting",),
    ),
    Guard(
        name="whole-queue-asked",
        says="an empty answer of the parking queue comes from all of its servers",
        path=_QUEUE,
        old="            WaitTimeSeconds=WAIT_S,\n",
        new="            WaitTimeSeconds=0,\n",
        tests=("tests/contract/test_parking_contract.py",),
    ),
    Guard(
        name="import-buries-nothing",
        says="an older copy does not take the place of an answer that is on its way",
        path=_ADOPT,
        old="            if self._may_bury(before, offer, self.clock()):\n                return Declined.BUSY\n",
        new="",
        tests=(
            f"{_ADOPTIONS}::test_a_parked_answer_is_not_buried_by_an_older_copy",
            f"{_ADOPTIONS}::test_an_older_copy_is_not_taken_while_an_answer_may_be_on_its_way",
            "tests/protocol/test_counterexamples.py::test_it_does_no_harm[x7r parked and an older copy imported]",
        ),
    ),
    Guard(
        name="import-newer-by-date",
        says="tokens that Wise issued after our last attempt are taken at once",
        path=_ADOPT,
        old="        return tried_at is None or issued_at is None or issued_at <= tried_at + self.budgets.margin\n",
        new="        return True\n",
        tests=(f"{_ADOPTIONS}::test_tokens_that_wise_issued_after_the_last_attempt_are_taken_at_once",),
    ),
    Guard(
        name="import-newer-by-two-clocks",
        says="what two clocks may disagree about makes no tokens newer",
        path=_ADOPT,
        old="issued_at <= tried_at + self.budgets.margin\n",
        new="issued_at <= tried_at\n",
        tests=(f"{_ADOPTIONS}::test_tokens_that_wise_issued_after_the_last_attempt_are_taken_at_once",),
    ),
    Guard(
        name="import-over-a-lost-lease",
        says="an answer is on its way also where nobody has taken the lease over",
        path=_LEASE,
        old="        until = grant.lease_until + budgets.hold\n",
        new="        pass\n",
        tests=(f"{_ADOPTIONS}::test_a_parked_answer_is_not_buried_by_an_older_copy",),
    ),
    Guard(
        name="import-inherits-the-hold",
        says="a verdict on imported tokens waits as long as it had to before",
        path=_ADOPT,
        old="            hold_until=hold_until if in_doubt is not None else None,\n",
        new="            hold_until=None,\n",
        tests=(f"{_ADOPTIONS}::test_a_doubt_and_its_hold_are_inherited_with_or_without_an_access_token",),
    ),
    Guard(
        name="import-takes-the-lost-lease",
        says="the hold begins with the import that takes a lease which ran out",
        path=_ADOPT,
        old="            rest = freed(before, now, self.budgets)\n",
        new="            rest = replace(before, in_doubt=before.attempt_id or before.in_doubt)\n",
        tests=(f"{_ADOPTIONS}::test_a_lease_that_ran_out_leaves_its_hold_to_an_import",),
    ),
    Guard(
        name="import-doubt-without-access-token",
        says="a doubt stays where no access token is imported",
        path=_ADOPT,
        old="        return before.in_doubt\n",
        new="        return before.in_doubt if brings_access else None\n",
        tests=(
            f"{_ADOPTIONS}::test_a_doubt_and_its_hold_are_inherited_with_or_without_an_access_token",
            "tests/protocol/test_counterexamples.py::test_it_does_no_harm[x8r lost and an older copy imported]",
        ),
    ),
    Guard(
        name="import-over-a-loss",
        says="an answer that was lost stays the reason when an older copy is imported",
        path=_ADOPT,
        old="    if alert.reason == OUTCOME_UNKNOWN:\n        return alert.attempt_id\n",
        new="",
        tests=(f"{_ADOPTIONS}::test_a_lost_answer_is_the_reason_for_an_older_copy_too",),
    ),
    Guard(
        name="import-on-hold",
        says="nothing of ours is on its way for a grant that has been on hold for long",
        path=_LEASE,
        old="    return None if since <= grant.created_at else min(until, since + budgets.hold)\n",
        new="    return until\n",
        tests=(
            f"{_MOVING}::test_whoever_refreshes_elsewhere_is_never_refused_for_a_grant_that_was_adopted_on_hold",
            f"{_MOVING}::test_nothing_is_on_its_way_for_a_grant_that_has_been_on_hold_for_three_minutes",
        ),
    ),
    Guard(
        name="drain-one-bad-message",
        says="one message that nobody can settle does not stop the sweep",
        path=_DRAIN,
        old="        except Exception as error:  # noqa: BLE001 - one bad message",
        new="        except RotatorError as error:  # one bad message",
        tests=(f"{_PARKING}::test_a_message_that_nobody_can_settle_stays_and_stops_nothing_else",),
        raises=("OverflowError",),
    ),
)
