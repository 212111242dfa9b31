"""Breaker and pace: what is ours or Wise's fault stops the fleet, not the grants."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_BREAKER: Final = "functions/token_rotator/service/breaker.py"
_FLEET: Final = "functions/token_rotator/domain/fleet.py"
_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_STORE: Final = "functions/token_rotator/adapters/dynamo_fleet.py"
_GRANTS: Final = "functions/token_rotator/adapters/dynamo_grants.py"
_TESTS: Final = "tests/unit/test_breaker.py"
_CONTRACT: Final = "tests/contract/test_fleet_contract.py"

GUARDS: Final = (
    Guard(
        name="streak-opens",
        says="three answers in a row that say nothing about a grant open the breaker",
        path=_BREAKER,
        old="            too_many = self._unhealthy >= UNHEALTHY_AT_MOST\n",
        new="            too_many = False\n",
        tests=(f"{_TESTS}::test_three_in_a_row_open_it",),
    ),
    Guard(
        name="streak-ends",
        says="an answer about a grant ends the row",
        path=_BREAKER,
        old='about a grant."""\n        with self._lock:\n            self._unhealthy = 0\n',
        new='about a grant."""\n        with self._lock:\n            pass\n',
        tests=(f"{_TESTS}::test_an_answer_about_a_grant_ends_the_row",),
    ),
    Guard(
        name="streak-asks",
        says="a row of faults that are the grants' own opens nothing",
        path=_BREAKER,
        old="            if isinstance(check, ClientAccepted):\n                return calls\n",
        new="",
        tests=(f"{_TESTS}::test_a_row_that_is_the_grants_own_fault_opens_nothing",),
    ),
    Guard(
        name="rate-limit-opens",
        says="Wise's rate limit opens the breaker at once",
        path=_BREAKER,
        old="        if trial is not None or isinstance(outcome, Throttled) or (too_many and not ask):\n",
        new="        if trial is not None or (too_many and not ask):\n",
        tests=(f"{_TESTS}::test_a_rate_limit_opens_it_at_once_for_as_long_as_wise_says",),
    ),
    Guard(
        name="retry-after-fleet",
        says="the fleet pauses for as long as Wise says",
        path=_BREAKER,
        old="        pause = outcome.retry_after if isinstance(outcome, Throttled) else None\n",
        new="        pause = None\n",
        tests=(f"{_TESTS}::test_a_rate_limit_opens_it_at_once_for_as_long_as_wise_says",),
    ),
    Guard(
        name="pause-grows",
        says="the breaker's pauses grow within one incident",
        path=_FLEET,
        old="        grown = min(PAUSE_BASE * (1 << min(trips - 1, 10)), PAUSE_CAP) *",
        new="        grown = PAUSE_BASE *",
        tests=("tests/unit/test_fleet.py::test_pauses_grow_to_a_cap_within_one_incident",),
    ),
    Guard(
        name="open-admits-nobody",
        says="while the breaker is open no call to Wise is admitted",
        path=_STORE,
        old='    update.require_equal("open_until", None)\n',
        new="",
        tests=(f"{_CONTRACT}::test_a_breaker_that_is_not_closed_admits_nobody_and_takes_nothing",),
    ),
    Guard(
        name="pause-waited-for",
        says="nobody calls Wise before the breaker's pause is over",
        path=_FLEET,
        old="        if self.open_until is None or now < self.open_until:\n            return False\n",
        new="        if self.open_until is None:\n            return False\n",
        tests=(
            "tests/unit/test_fleet.py::test_somebody_has_to_ask_once_the_pause_is_over_and_nobody_is_at_it",
            f"{_TESTS}::test_while_it_is_open_nothing_is_sent_and_what_is_due_stays_due",
        ),
    ),
    Guard(
        name="one-prober",
        says="only who has claimed the probe asks Wise",
        path=_BREAKER,
        old='        if claimed is None:\n            return Barred(now + _SHORTLY, fleet.why or "")\n',
        new="        claimed = claimed or fleet\n",
        tests=(f"{_TESTS}::test_one_who_loses_the_claim_does_not_probe",),
    ),
    Guard(
        name="probe-claimed",
        says="while one asks, the others wait",
        path=_FLEET,
        old="        return self.probe_until is None or now > self.probe_until\n",
        new="        return True\n",
        tests=("tests/unit/test_fleet.py::test_somebody_has_to_ask_once_the_pause_is_over_and_nobody_is_at_it",),
    ),
    Guard(
        name="probe-before-calling",
        says="a half-open breaker lets nobody through before Wise has accepted our client",
        path=_BREAKER,
        old="        check = self.wise.settle_client(attempt_id=probe, within=self.budgets.http)\n",
        new="        check: ClientCheck = ClientAccepted(changed=False)\n",
        tests=(f"{_TESTS}::test_a_probe_that_fails_opens_it_for_longer",),
    ),
    Guard(
        name="recovery-paced",
        says="what waited for a closed breaker comes at the lane's pace",
        path=_BREAKER,
        old="            return calls if self.admit(lane, calls) is None else Barred(self.clock() + _SHORTLY, PACED)\n",
        new="            return calls\n",
        tests=(f"{_TESTS}::test_a_probe_that_closes_it_is_still_paced",),
    ),
    Guard(
        name="trial-ends",
        says="a trial that nobody made in its time decides nothing",
        path=_BREAKER,
        old="if ours and seen.probe_until is not None and now <= seen.probe_until else None\n",
        new="if ours and seen.probe_until is not None and now is not None else None\n",
        tests=("tests/mutants/test_guards.py::test_an_answer_that_comes_after_the_trial_does_not_close_the_breaker",),
    ),
    Guard(
        name="fleet-revision",
        says="of two who change the breaker only one wins",
        path=_STORE,
        old='        update.require_equal("revision", NUMBER.encode(before.revision) if before.revision else None)\n',
        new='        update.require("attribute_exists(pk) OR attribute_not_exists(pk)")\n',
        tests=(f"{_CONTRACT}::test_the_second_to_write_over_one_revision_writes_nothing",),
    ),
    Guard(
        name="consistent-fleet",
        says="the breaker is read consistently",
        path=_STORE,
        old='ConsistentRead=True).get("Item", {})',
        new='ConsistentRead=False).get("Item", {})',
        tests=("tests/mutants/test_guards.py::test_what_is_decided_by_is_read_consistently[the fleet]",),
    ),
    Guard(
        name="paced",
        says="no minute holds more calls than a lane may make",
        path=_STORE,
        old="{name} <= {update.value('latest', NUMBER.encode(latest))}\")\n",
        new="{name} <= {update.value('latest', NUMBER.encode(latest + _MINUTE_MS))}\")\n",
        tests=(f"{_CONTRACT}::test_calls_are_admitted_all_or_none",),
    ),
    Guard(
        name="client-asked-about",
        says="whose fault a refusal is, Wise is asked about our client",
        path=_ATTEMPT,
        old="        check = self._check_client()\n",
        new="        check = None\n",
        tests=(f"{_TESTS}::test_a_client_that_wise_refuses_stops_the_fleet_and_is_told_at_once",),
    ),
    Guard(
        name="held-alone",
        says="one grant that Wise refuses does not stop the fleet while it accepts our client",
        path=_BREAKER,
        old="            case ClientAccepted():\n                pass\n",
        new="            case ClientAccepted():\n"
        "                self._safely(lambda: self._refused(outcome, attempt_id))\n",
        tests=(f"{_TESTS}::test_a_grant_that_wise_refuses_though_it_accepts_our_client_is_held_and_told_alone",),
    ),
    Guard(
        name="changed-sent-again",
        says="with credentials that were changed an attempt sends once more",
        path=_ATTEMPT,
        old="check.changed and self.sends < _SENDS\n",
        new="check.changed and self.sends < 1\n",
        tests=(f"{_TESTS}::test_secret_changed_at_secrets_manager_first_costs_nothing",),
    ),
    Guard(
        name="two-sends",
        says="an attempt sends twice at most",
        path=_ATTEMPT,
        old="check.changed and self.sends < _SENDS\n",
        new="check.changed\n",
        tests=(f"{_TESTS}::test_an_attempt_sends_at_most_twice",),
    ),
    Guard(
        name="bar-known",
        says="on demand, no lease is taken while the breaker is known to be open",
        path=_ATTEMPT,
        old="            barred = self.breaker.known()\n",
        new="            barred = None\n",
        tests=("tests/mutants/test_guards.py::test_no_lease_is_taken_on_demand_while_the_breaker_is_known_to_be_open",),
    ),
    Guard(
        name="demand-asks-its-lane",
        says="on demand, a call to Wise is asked for",
        path=_ATTEMPT,
        old="        if lane is not None:\n            barred = self._admitted(lane, cause)\n",
        new="        if lane is not None:\n            barred = None\n",
        tests=(f"{_TESTS}::test_on_demand_has_a_share_of_its_own",),
    ),
    Guard(
        name="stood-down-lives",
        says="no grant is stood down whose token has expired",
        path=_GRANTS,
        old=" AND {update.name('expires_at')} > {at}\")\n        self._try",
        new='")\n        self._try',
        tests=("tests/contract/test_grants_contract.py::test_no_other_grant_stands_down",),
    ),
    Guard(
        name="stood-down-undoubted",
        says="no grant in doubt is stood down: its readers would get a token that may be dead",
        path=_GRANTS,
        old='        update.require_equal("in_doubt", None)\n        at = ',
        new="        at = ",
        tests=("tests/contract/test_grants_contract.py::test_no_other_grant_stands_down",),
    ),
)
