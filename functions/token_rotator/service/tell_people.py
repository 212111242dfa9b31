"""Publishing an alert that lies in a grant, or in a reserved item: claim, publish, mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from token_rotator.domain.errors import PublishRefused, PublishUnknown, StoreUnavailable
from token_rotator.domain.grant import Alert, AlertKind, incident_of
from token_rotator.domain.policy import (
    ALERT_CLAIM,
    PERSONAL_AGAIN,
    REMINDED,
    backoff,
    fleet_backoff,
    next_due,
    old_at,
    warned,
)

from .journal import AlertTold, Trouble
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from token_rotator.domain.certificate import CertificateWatch
    from token_rotator.domain.fleet import Fleet
    from token_rotator.domain.grant import Grant, GrantKey

    from .journal import Journal
    from .ports import AlertPublisher, GrantStore, RevisedStore

_MARK_TRIES: Final = 3
R = TypeVar("R", "Fleet", "CertificateWatch")


@dataclass(frozen=True, slots=True)
class TellPeople:
    """Hands a due alert to the topic.

    The claim keeps two publishers apart, so a second copy exists only where nobody knows whether the first one
    arrived, or where the store would not take the mark. An alert that was refused stays due, with a back-off. One that
    asks for somebody, about a grant that is dead or held, is told once more if nothing has changed after
    `remind_after`.
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
        told = _published(self, grant.key, alert, partial(backoff, grant.key))
        asks = alert.kind in REMINDED and not alert.reminder
        if asks and told.published_at is not None:
            told = replace(told, remind_at=told.published_at + self.remind_after)
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


@dataclass(frozen=True, slots=True)
class TellAll(Generic[R]):
    """The same for an alert about the whole deployment, in the field `slot` of a reserved item."""

    store: RevisedStore[R]
    slot: str
    publisher: AlertPublisher
    journal: Journal
    clock: Callable[[], datetime]

    def alert(self, item: R) -> Alert | None:
        """Give the alert that lies in an item."""
        alert: Alert | None = getattr(item, self.slot)
        return alert

    def claim(self, item: R, now: datetime) -> R | None:
        """Give the item with its alert claimed; `None`: there is nothing to tell, or somebody is telling it."""
        alert = self.alert(item)
        if alert is None or alert.published_at is not None or (alert.claimed_until or now) > now:
            return None
        return self._put(item, replace(alert, claimed_until=now + ALERT_CLAIM))

    def publish(self, item: R) -> R | None:
        """Publish the alert that the caller has claimed, and write down what became of it. Gives what was written."""
        alert = self.alert(item)
        told = None if alert is None else _published(self, None, alert, fleet_backoff)
        for _ in range(_MARK_TRIES):
            if told is None or self.alert(item) != alert:
                break
            written = self.store.write(item, self._put(item, told))
            if written is not None:
                return written
            item = self.store.read()
        return None

    def _put(self, item: R, alert: Alert) -> R:
        changes: Any = {self.slot: alert}
        return replace(item, **changes)


def _published(
    by: TellPeople | TellAll[Any], key: GrantKey | None, alert: Alert, pause: Callable[[int], timedelta]
) -> Alert:
    """Hand an alert to the topic, and give it as told, or as due again after a pause."""
    code: str | None = None
    try:
        by.publisher.publish(key, alert)
        told = replace(alert, published_at=by.clock(), claimed_until=None)
    except (PublishRefused, PublishUnknown) as error:
        code = error.code
        failures = alert.failures + 1
        told = replace(alert, failures=failures, claimed_until=by.clock() + pause(failures))
    by.journal.record(AlertTold(key=key, incident_id=alert.incident_id, code=code))
    return told


def _at_rest(grant: Grant) -> bool:
    """Tell whether telling may say when the grant is due next: a lease and a doubt have instants of their own."""
    return grant.attempt_id is None and grant.in_doubt is None
