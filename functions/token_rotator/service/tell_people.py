"""Publishing an alert that lies in a grant's state: claim, publish, mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from token_rotator.domain.errors import PublishRefused, PublishUnknown, StoreUnavailable
from token_rotator.domain.policy import ALERT_CLAIM, backoff, next_due

from .journal import AlertTold, Trouble
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.grant import Alert, Grant

    from .journal import Journal
    from .ports import AlertPublisher, GrantStore

_MARK_TRIES = 3


@dataclass(frozen=True, slots=True)
class TellPeople:
    """Hands a due alert to the topic.

    The claim keeps two publishers apart, so a second copy exists only where nobody knows whether the first one
    arrived, or where the store would not take the mark. An alert that was refused stays due, with a back-off.
    """

    grants: GrantStore
    publisher: AlertPublisher
    journal: Journal
    clock: Callable[[], datetime]

    def claim_and_publish(self, grant: Grant) -> None:
        """Publish the grant's alert unless somebody else has claimed it. Raises `StoreUnavailable` before the claim."""
        if grant.alert is None:
            return
        until = self.clock() + ALERT_CLAIM
        claimed = replace(grant, alert=replace(grant.alert, claimed_until=until))
        if _at_rest(grant):
            claimed = replace(claimed, due_at=until)
        answer = self.grants.write(grant, claimed, When(alert=grant.alert, version=grant.version))
        if isinstance(answer, Done):
            self.publish(claimed)

    def publish(self, grant: Grant) -> None:
        """Publish the alert of a grant that the caller has claimed, and write down what became of it."""
        alert = grant.alert
        if alert is None:
            return
        code: str | None = None
        try:
            self.publisher.publish(grant.key, alert)
            told = replace(alert, published_at=self.clock(), claimed_until=None)
        except (PublishRefused, PublishUnknown) as error:
            code = error.code
            failures = alert.failures + 1
            told = replace(alert, failures=failures, claimed_until=self.clock() + backoff(grant.key, failures))
        self.journal.record(AlertTold(key=grant.key, incident_id=alert.incident_id, code=code))
        self._mark(grant, alert, told)

    def _mark(self, grant: Grant, alert: Alert, told: Alert) -> None:
        after = replace(grant, alert=told)
        if _at_rest(grant):
            after = replace(after, due_at=next_due(after, self.clock()))
        for _ in range(_MARK_TRIES):
            try:
                self.grants.write(grant, after, When(alert=alert, version=grant.version))
            except StoreUnavailable as error:
                self.journal.record(Trouble(key=grant.key, code=error.code, detail="marking an alert as told"))
            else:
                return


def _at_rest(grant: Grant) -> bool:
    """Tell whether telling may say when the grant is due next: a lease and a doubt have instants of their own."""
    return grant.attempt_id is None and grant.in_doubt is None
