"""Storing what Wise issued, now or later: never dropped unseen, and never over something newer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from token_rotator.domain.grant import Alert, AlertKind, Grant, Phase, incident_of
from token_rotator.domain.policy import FOREIGN_AGAIN, SAME_END, next_due, not_before, refresh_at
from token_rotator.domain.suspension import settled

from .journal import AnswerLate, ForeignRefresh
from .ports import Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.answer import SealedAnswer
    from token_rotator.domain.lease import Budgets

    from .journal import Journal
    from .ports import GrantStore


class Place(Enum):
    """Where an answer ended up."""

    STORED = "stored"
    LATE = "late"
    """Stored, and in doubt: somebody may have sent another request since."""
    KNOWN = "known"
    """It was there already."""
    OVERTAKEN = "overtaken"
    """Dropped on purpose: something newer is stored."""
    GONE = "gone"
    """Dropped on purpose: so is the grant."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an answer, and the grant as it is stored now."""

    place: Place
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class KeepAnswer:
    """Makes an answer the stored one.

    Under the lease and the version that its attempt began with it ends every doubt that there was then. Otherwise it
    was overtaken: if nobody has stored a newer version it is stored, in doubt, and another's lease is left alone; if
    somebody has, it is dropped, on record. Storing it twice does no harm.
    """

    grants: GrantStore
    journal: Journal
    budgets: Budgets
    clock: Callable[[], datetime]

    def __call__(self, answer: SealedAnswer, stored: Grant | None) -> Kept:
        """Store it over what the caller believes to be stored. Raises `StoreUnavailable`, `CorruptGrant`."""
        doubt = None if stored is None else stored.in_doubt
        while True:
            if stored is None:
                return self._dropped(answer, Place.GONE, None)
            if stored.access_token == answer.access_token:  # an SDK's retry or a second copy hid our own success
                return Kept(Place.LATE if stored.in_doubt == answer.attempt_id else Place.KNOWN, stored)
            ours, untouched = stored.attempt_id == answer.attempt_id, stored.version == answer.base_version
            if not ours and not untouched:
                return self._dropped(answer, Place.OVERTAKEN, stored)
            when = When(attempt_id=stored.attempt_id, version=stored.version)
            if ours and untouched:
                after, when = self._in_time(answer, stored, doubt), replace(when, in_doubt=stored.in_doubt)
            else:
                after, when = self._late(answer, stored), replace(when, phase=stored.phase)
            written = self.grants.write(stored, after, when)
            if isinstance(written, Done):
                if answer.foreign:
                    self.journal.record(ForeignRefresh(key=answer.key, attempt_id=answer.attempt_id))
                if after.in_doubt is None:
                    return Kept(Place.STORED, after)
                self.journal.record(AnswerLate(key=answer.key, attempt_id=answer.attempt_id, kept=True))
                return Kept(Place.LATE, after)
            stored = written.grant

    def _dropped(self, answer: SealedAnswer, place: Place, stored: Grant | None) -> Kept:
        self.journal.record(AnswerLate(key=answer.key, attempt_id=answer.attempt_id, kept=False))
        return Kept(place, stored)

    def _with_tokens(self, answer: SealedAnswer, stored: Grant) -> Grant:
        version, replaced = stored.version + 1, answer.refresh_token is not None
        after = replace(
            stored,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token or stored.refresh_token,
            version=version,
            issued_at=answer.issued_at,
            expires_at=answer.expires_at,
            refresh_expires_at=answer.refresh_expires_at or (None if replaced else stored.refresh_expires_at),
            scope=answer.scope or stored.scope,
            refresh_at=refresh_at(answer.key, version, answer.issued_at, answer.expires_at),
            failures=0,
            last_error=None,
            unproven=False,
            alert=self._alert(answer, stored),
        )
        return self._with_foreign(answer, after) if answer.foreign else after

    def _with_foreign(self, answer: SealedAnswer, after: Grant) -> Grant:
        """Have on-call told that somebody else refreshes the grant: once a day, however often it is found."""
        now, told = self.clock(), after.alert
        if after.foreign_at is not None and now - after.foreign_at < FOREIGN_AGAIN:
            return after
        alert = Alert(
            incident_id=incident_of(after, AlertKind.FOREIGN_REFRESHER),
            kind=AlertKind.FOREIGN_REFRESHER,
            reason="dead_before_its_time",
            raised_at=now,
            attempt_id=answer.attempt_id,
            trace_id=answer.trace_id,
        ).in_place_of(told)
        after = replace(after, alert=alert, foreign_at=now)
        if told is not None and told.kind is AlertKind.REFRESH_TOKEN_EXPIRING:  # it is not over: it is told again
            after = replace(after, expiry_told=None)
        return after

    def _alert(self, answer: SealedAnswer, stored: Grant) -> Alert | None:
        """Give the alert that stays. A held grant that is refreshed again is told to be well.

        So is one whose refresh token was taken for dead: a late answer takes the verdict back, and it was tried anew
        where Wise had opened its account again.
        """
        alert, now = stored.alert, self.clock()
        if answer.reissued is not None:
            return Alert(
                incident_id=incident_of(stored, AlertKind.REISSUED),
                kind=AlertKind.REISSUED,
                reason=answer.reissued,
                raised_at=now,
                attempt_id=answer.attempt_id,
                trace_id=answer.trace_id,
            ).in_place_of(alert)
        if alert is None:
            return None
        later = answer.refresh_expires_at is not None and (
            stored.refresh_expires_at is None or answer.refresh_expires_at - stored.refresh_expires_at > SAME_END
        )
        if alert.kind in (AlertKind.HELD, AlertKind.REAUTHORIZATION_REQUIRED) or (
            alert.kind is AlertKind.REFRESH_TOKEN_EXPIRING and later
        ):
            return alert.over(now, answer.attempt_id)
        return alert

    def _in_time(self, answer: SealedAnswer, stored: Grant, doubt: str | None) -> Grant:
        """End what the attempt began with. A doubt that came since stays: Wise may have ended the new token too."""
        now = self.clock()
        after = replace(
            self._with_tokens(answer, stored),
            attempt_id=None,
            lease_until=None,
            takeovers=0,
            in_doubt=settled(stored.in_doubt, doubt),
            hold_until=None,
        )
        waits = after.in_doubt is not None and after.phase is Phase.ACTIVE
        return replace(after, due_at=now if waits else next_due(after, now))

    def _late(self, answer: SealedAnswer, stored: Grant) -> Grant:
        """Make an overtaken answer the stored one, in doubt: nobody knows in which order Wise carried things out."""
        now = self.clock()
        after = replace(self._with_tokens(answer, stored), in_doubt=answer.attempt_id, due_at=not_before(stored, now))
        if stored.attempt_id == answer.attempt_id:
            after = replace(after, attempt_id=None, lease_until=None, takeovers=0)
        elif stored.attempt_id is not None:
            after = replace(after, due_at=(stored.lease_until or now) + self.budgets.margin)
        if stored.phase is Phase.REAUTHORIZATION_REQUIRED:
            after = replace(after, phase=Phase.ACTIVE)
        elif stored.suspended_from is Phase.REAUTHORIZATION_REQUIRED:  # it stays suspended, and comes back active
            after = replace(after, suspended_from=Phase.ACTIVE)
        return after
