"""Publishing an alert that lies in a grant's state: claim, publish, mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from token_rotator.domain.errors import PublishRefused, PublishUnknown, StoreUnavailable
from token_rotator.domain.grant import Alert, AlertKind, incident_of
from token_rotator.domain.policy import ALERT_CLAIM, PERSONAL_AGAIN, backoff, next_due, old_at, warned

from .journal import AlertTold, Trouble
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from token_rotator.domain.grant import Grant

    from .journal import Journal
    from .ports import AlertPublisher, GrantStore

_MARK_TRIES = 3


@dataclass(frozen=True, slots=True)
class TellPeople:
    """Hands a due alert to the topic.

    The claim keeps two publishers apart, so a second copy exists only where nobody knows whether the first one
    arrived, or where the store would not take the mark. An alert that was refused stays due, with a back-off. One that
    asks for somebody is told once more if nothing has changed after `remind_after`.
    """

    grants: GrantStore
    publisher: AlertPublisher
    journal: Journal
    clock: Callable[[], datetime]
    remind_after: timedelta

    def claim_and_publish(self, grant: Grant) -> None:
        """Publish the grant's alert unless somebody else has claimed it. Raises `StoreUnavailable` before the claim."""
        if grant.alert is not None:
            self._claim(grant, grant, grant.alert)

    def remind(self, grant: Grant) -> None:
        """Tell an alert once more that was told, and after which nothing has changed. Raises as above."""
        alert = grant.alert
        if alert is not None:
            again = replace(alert, published_at=None, failures=0, remind_at=None, reminder=True, ends=())
            self._claim(grant, grant, again)

    def warn(self, grant: Grant) -> None:
        """Tell that the grant's refresh token ends soon, if that is due. Raises as above."""
        now = self.clock()
        due = warned(grant, now)
        if due is None:
            return
        moment, ahead = due
        alert = Alert(
            incident_id=incident_of(grant, AlertKind.REFRESH_TOKEN_EXPIRING, f"|{ahead.days}"),
            kind=AlertKind.REFRESH_TOKEN_EXPIRING,
            reason=f"{ahead.days}-days" if ahead.days > 1 else "1-day",
            raised_at=now,
        )
        self._claim(grant, replace(grant, expiry_told=moment), alert.in_place_of(grant.alert))

    def call_old(self, grant: Grant) -> None:
        """Tell that a personal token is old, if that is due; some time later it is told again. Raises as above."""
        now, due = self.clock(), old_at(grant)
        if due is None or due > now:
            return
        incident = incident_of(grant, AlertKind.PERSONAL_TOKEN_OLD)
        alert = Alert(
            incident_id=incident,
            kind=AlertKind.PERSONAL_TOKEN_OLD,
            reason="age",
            raised_at=now,
            reminder=grant.alert is not None and grant.alert.incident_id == incident,
        )
        self._claim(grant, replace(grant, replace_at=now + PERSONAL_AGAIN), alert.in_place_of(grant.alert))

    def _claim(self, before: Grant, after: Grant, alert: Alert) -> None:
        """Claim an alert over the one that is stored, and publish it if nobody else was quicker."""
        until = self.clock() + ALERT_CLAIM
        claimed = replace(after, alert=replace(alert, claimed_until=until))
        if _at_rest(before):
            claimed = replace(claimed, due_at=until)
        when = When(
            alert=before.alert,
            version=before.version,
            phase=before.phase,
            attempt_id=before.attempt_id,
            in_doubt=before.in_doubt,
        )
        if isinstance(self.grants.write(before, claimed, when), Done):
            self.publish(claimed)

    def publish(self, grant: Grant) -> None:
        """Publish the alert of a grant that the caller has claimed, and write down what became of it."""
        alert = grant.alert
        if alert is None:
            return
        code: str | None = None
        try:
            self.publisher.publish(grant.key, alert)
            now = self.clock()
            asks = alert.kind is AlertKind.REAUTHORIZATION_REQUIRED and not alert.reminder
            remind_at = now + self.remind_after if asks else None
            told = replace(alert, published_at=now, claimed_until=None, remind_at=remind_at)
        except (PublishRefused, PublishUnknown) as error:
            code = error.code
            failures = alert.failures + 1
            told = replace(alert, failures=failures, claimed_until=self.clock() + backoff(grant.key, failures))
        self.journal.record(AlertTold(key=grant.key, incident_id=alert.incident_id, code=code))
        self._mark(grant, alert, told)

    def _mark(self, grant: Grant, alert: Alert, told: Alert) -> None:
        after, rest = replace(grant, alert=told), _at_rest(grant)
        when = When(alert=alert, version=grant.version)
        for _ in range(_MARK_TRIES):
            at_rest = replace(after, due_at=next_due(after, self.clock())) if rest else after
            try:
                answer = self.grants.write(
                    grant, at_rest, replace(when, attempt_id=None, in_doubt=None) if rest else when
                )
            except StoreUnavailable as error:
                self.journal.record(Trouble(key=grant.key, code=error.code, detail="marking an alert as told"))
                continue
            stored = answer.grant
            if isinstance(answer, Done) or stored is None or stored.alert != alert:
                return
            grant = stored  # somebody took the lease or stored new tokens meanwhile: what was told stays told
            after, rest = replace(grant, alert=told), _at_rest(grant)
            when = When(alert=alert, version=grant.version)


def _at_rest(grant: Grant) -> bool:
    """Tell whether telling may say when the grant is due next: a lease and a doubt have instants of their own."""
    return grant.attempt_id is None and grant.in_doubt is None
