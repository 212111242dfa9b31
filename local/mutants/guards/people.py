"""Telling people: nothing is lost, and nothing told twice without need."""

from __future__ import annotations

from typing import Final

from local.mutants.guard import Guard

_ATTEMPT: Final = "functions/token_rotator/service/refresh_grant.py"
_TELL: Final = "functions/token_rotator/service/tell_people.py"
_RULES: Final = "functions/token_rotator/domain/policy.py"
_ATTEMPTS: Final = "tests/unit/test_refresh_grant.py"
_ALERTS: Final = "tests/unit/test_tell_people.py"
_CERTIFICATE: Final = "tests/unit/test_watch_certificate.py"
_FLEET: Final = "tests/unit/test_breaker.py"

GUARDS: Final = (
    Guard(
        name="alert-with-verdict",
        says="an alert is written with the change of phase that it tells of",
        path=_ATTEMPT,
        old="            alert=alert,\n            due_at=alert.claimed_until,\n",
        new="            due_at=alert.claimed_until,\n",
        tests=(f"{_ATTEMPTS}::test_a_dead_refresh_token_ends_the_grant_and_tells_on_call_once",),
    ),
    Guard(
        name="alert-claimed",
        says="only who has claimed an alert publishes it",
        path=_TELL,
        old="        if isinstance(self.grants.write(before, claimed, when), Done):\n",
        new="        if self.grants.write(before, claimed, when):\n",
        tests=(f"{_ALERTS}::test_two_publishers_make_one_copy",),
    ),
    Guard(
        name="alert-claim-asked",
        says="an alert is claimed only as it was seen",
        path=_TELL,
        old="            alert=before.alert,\n            version=before.version,\n",
        new="            version=before.version,\n",
        tests=(f"{_ALERTS}::test_two_publishers_make_one_copy",),
    ),
    Guard(
        name="alert-claim-honoured",
        says="an alert that somebody is publishing is left to them",
        path=_RULES,
        old="    if alert is not None and alert.published_at is None and (alert.claimed_until or now) <= now:\n",
        new="    if alert is not None and alert.published_at is None:\n",
        tests=("tests/unit/test_policy.py::test_a_stored_grant_is_judged_row_by_row",),
    ),
    Guard(
        name="alert-stays-due",
        says="an alert that was refused stays due",
        path=_TELL,
        old="        told = replace(alert, failures=failures, claimed_until=",
        new="        told = replace(alert, failures=failures, published_at=",
        tests=(
            f"{_ALERTS}::test_a_refused_alert_backs_off_and_is_never_given_up",
            f"{_CERTIFICATE}::test_an_alert_that_was_refused_is_told_again",
        ),
    ),
    Guard(
        name="alert-told-once",
        says="an alert that was told is marked as told",
        path=_TELL,
        old="        self._mark(grant, alert, told)\n",
        new="",
        tests=(f"{_ATTEMPTS}::test_a_dead_refresh_token_ends_the_grant_and_tells_on_call_once",),
    ),
    Guard(
        name="fleet-alert-claimed",
        says="only who has claimed an alert of the fleet's publishes it",
        path=_TELL,
        old=" or (alert.claimed_until or now) > now:\n",
        new=":\n",
        tests=(
            f"{_FLEET}::test_an_alert_that_somebody_else_is_telling_is_left_to_them",
            f"{_CERTIFICATE}::test_who_dies_between_claim_and_publish_is_relieved",
        ),
    ),
    Guard(
        name="held-told-once",
        says="a grant that is held is told about once",
        path=_ATTEMPT,
        old="told.kind is not AlertKind.HELD or told.published_at is None:\n",
        new="told.kind is not AlertKind.HELD or told.published_at is not None:\n",
        tests=(f"{_FLEET}::test_a_held_grant_is_told_once_and_told_again_when_it_is_well",),
    ),
)
