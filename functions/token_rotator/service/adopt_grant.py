"""Taking a grant into our keeping, and forgetting one. Neither opens a token, neither talks to Wise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from token_rotator.domain.grant import Grant, GrantKind, Phase
from token_rotator.domain.lease import ran_out, unsettled_until
from token_rotator.domain.policy import NEVER, OUTCOME_UNKNOWN, PERSONAL_FOR, next_due, refresh_at
from token_rotator.domain.suspension import FOUND_DEAD, freed, released
from token_rotator.domain.tokens import SealedField

from .ports import AlreadyHeld, Done, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.grant import GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.suspension import Suspension
    from token_rotator.domain.tokens import Sealed, Secret

    from .ports import GrantReader, GrantRegistry, Sealer

_POLL: Final = timedelta(milliseconds=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a caller gives us to keep. An access token comes with its dates; a registration code with its e-mail.

    `registration` is the JSON text of both, as it is sealed. Without a refresh token there has to be one. `hold` is the
    order to serve it and not to refresh it; `release` ends one that was given before. A personal token comes alone,
    with the instant at which it was made and its scope at most.
    """

    refresh_token: Secret | None = None
    access_token: Secret | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    scope: str | None = None
    registration: Secret | None = None
    profile_id: str | None = None
    wise_user_id: str | None = None
    hold: Suspension | None = None
    release: bool = False
    personal_token: Secret | None = None

    @property
    def kind(self) -> GrantKind:
        """What kind of grant it makes."""
        return GrantKind.USER if self.personal_token is None else GrantKind.PERSONAL


class Declined(Enum):
    """Why nothing was changed."""

    PRECONDITION_FAILED = "precondition-failed"
    ALREADY_HELD = "already-held"
    DIFFERENT_PROFILE = "different-profile"
    DIFFERENT_KIND = "different-kind"
    NOT_FOUND = "not-found"
    LINK_EXPIRED = "link-expired"
    SUSPENDED = "suspended"
    OPERATORS_ORDER = "forbidden"
    BUSY = "temporarily-unavailable"


@dataclass(frozen=True, slots=True)
class Kept:
    """The grant as it is kept now, and whether it is new."""

    grant: Grant
    created: bool


@dataclass(frozen=True, slots=True)
class Patience:
    """Waiting for a lease that somebody holds, within a time budget."""

    grants: GrantReader
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]

    def unheld(self, key: GrantKey, until: datetime) -> Grant | Declined:
        """Give the grant once nobody works on it. A lease that ran out is nobody's."""
        while True:
            grant = self.grants.get(key)
            if grant is None:
                return Declined.NOT_FOUND
            now = self.clock()
            if grant.attempt_id is None or ran_out(grant, now, self.budgets):
                return grant
            if now + _POLL >= until:
                return Declined.BUSY
            self.sleep(_POLL)


@dataclass(frozen=True, slots=True)
class AdoptGrant:
    """Creates a grant, or replaces the one whose version the caller names.

    A replayed import must not bury a newer refresh token: what exists is only replaced under its current version, in
    one conditional write, while nobody refreshes it, nor while an answer may be parked, unless the offer is newer by
    its dates. A doubt stays. An access token that comes along stays in use; Wise is asked about it first if the grant
    before was in doubt or dead. A registration code that was kept stays, unless another one comes along; an order to
    hold stays, unless the offer ends it. Costs one GenerateDataKey for each sealed value.
    """

    grants: GrantRegistry
    sealer: Sealer
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]
    personal_for: timedelta = PERSONAL_FOR

    def __call__(self, key: GrantKey, offer: Offer, if_match: int | None) -> Kept | Declined:
        """Keep the offer. Raises what the store and the sealer raise."""
        if if_match is None:
            if self.grants.get(key) is not None:
                return Declined.PRECONDITION_FAILED
            grant = self._sealed(key, offer, self.clock(), None)
            answer = self.grants.create(grant)
            if isinstance(answer, Done):
                return Kept(answer.grant, created=True)
            if isinstance(answer, AlreadyHeld):
                return Declined.ALREADY_HELD
            if answer.grant is not None and _same(answer.grant, grant):
                return Kept(answer.grant, created=True)  # the SDK's own retry met our first try
            return Declined.PRECONDITION_FAILED
        return self._replace(key, offer, if_match)

    def _replace(self, key: GrantKey, offer: Offer, if_match: int) -> Kept | Declined:
        until = self.clock() + self.budgets.serve
        patience = Patience(self.grants, self.budgets, self.clock, self.sleep)
        while True:
            before = patience.unheld(key, until)
            if before is Declined.NOT_FOUND or (isinstance(before, Grant) and before.version != if_match):
                return Declined.PRECONDITION_FAILED
            if isinstance(before, Declined):
                return before
            if before.kind is not offer.kind:
                return Declined.DIFFERENT_KIND
            if before.profile_id is not None and offer.profile_id not in (None, before.profile_id):
                return Declined.DIFFERENT_PROFILE
            if self._may_bury(before, offer, self.clock()):
                return Declined.BUSY
            after = self._sealed(key, offer, self.clock(), before)
            when = When(
                attempt_id=before.attempt_id,
                version=if_match,
                phase=before.phase,
                in_doubt=before.in_doubt,
                alert=before.alert,
            )
            answer = self.grants.replace(before, after, when)
            if isinstance(answer, Done):
                return Kept(answer.grant, created=False)
            if isinstance(answer, AlreadyHeld):
                return Declined.ALREADY_HELD
            if answer.grant is not None and _same(answer.grant, after):
                return Kept(answer.grant, created=False)

    def _may_bury(self, before: Grant, offer: Offer, now: datetime) -> bool:
        """Tell whether an offer could take the place of an answer that is not stored yet, and be the older of the two.

        Tokens that Wise issued after our last attempt began are newer than whatever came of it.
        """
        until, tried_at, issued_at = unsettled_until(before, self.budgets), before.last_attempt_at, offer.issued_at
        if before.kind is GrantKind.PERSONAL or until is None or now >= until:
            return False
        return tried_at is None or issued_at is None or issued_at <= tried_at + self.budgets.margin

    def _sealed(self, key: GrantKey, offer: Offer, now: datetime, before: Grant | None) -> Grant:
        def seal(field: SealedField, secret: Secret | None) -> Sealed | None:
            return None if secret is None else self.sealer.seal(key, field, secret)

        now = now - timedelta(microseconds=now.microsecond % 1000)
        version = int(now.timestamp() * 1000)
        if offer.personal_token is not None:
            return self._personal(key, offer, offer.personal_token, now, before)
        access_token = seal(SealedField.ACCESS_TOKEN, offer.access_token)
        in_doubt: str | None = None
        hold_until: datetime | None = None
        if before is not None:
            version = max(version, before.version + 1)
            rest = freed(before, now, self.budgets)
            in_doubt, hold_until = _doubt(rest, brings_access=access_token is not None), rest.hold_until
        refresh = now
        if offer.access_token is not None and offer.expires_at is not None and offer.expires_at > now:
            refresh = refresh_at(key, version, offer.issued_at or now, offer.expires_at)
        if before is not None and before.reissuable and in_doubt is not None:
            refresh = now  # a reissue that nobody waits for any more ends a refresh token, and no access token
        refresh = max(refresh, now)
        registration, spent_at = seal(SealedField.REGISTRATION, offer.registration), None
        if registration is None and before is not None:
            registration, spent_at = before.registration, before.registration_spent_at
        alert = None if before is None or before.alert is None else before.alert.over(now, before.alert.attempt_id)
        stopped = before is not None and before.phase is Phase.SUSPENDED
        held = None if before is None else before.on_hold
        same_user = before is not None and offer.wise_user_id in (None, before.wise_user_id)
        grant = Grant(
            key=key,
            phase=Phase.SUSPENDED if stopped else Phase.ACTIVE,
            suspended_from=Phase.ACTIVE if stopped else None,
            suspension=before.suspension if before is not None and stopped else None,
            refresh_token=seal(SealedField.REFRESH_TOKEN, offer.refresh_token),
            access_token=access_token,
            registration=registration,
            registration_spent_at=spent_at,
            version=version,
            issued_at=offer.issued_at if access_token else None,
            expires_at=offer.expires_at if access_token else None,
            refresh_expires_at=offer.refresh_expires_at,
            authorized_at=None if offer.refresh_token is None else offer.issued_at or now,
            scope=offer.scope,
            in_doubt=in_doubt,
            hold_until=hold_until if in_doubt is not None else None,
            refresh_at=refresh,
            alert=alert,
            created_at=before.created_at if before is not None else now,
            profile_id=offer.profile_id or (before.profile_id if before is not None else None),
            wise_user_id=offer.wise_user_id or (before.wise_user_id if before is not None else None),
            user_rank=before.user_rank if before is not None and same_user else None,
            profile_rank=before.profile_rank if before is not None else None,
            unproven=access_token is not None,
            on_hold=held or offer.hold,
            foreign_at=before.foreign_at if before is not None else None,
            last_attempt_at=before.last_attempt_at if before is not None else None,
        )
        grant = replace(grant, due_at=now if in_doubt and not stopped else next_due(grant, now))
        return released(grant, now, self.budgets) if offer.release else grant

    def _personal(self, key: GrantKey, offer: Offer, token: Secret, now: datetime, before: Grant | None) -> Grant:
        """Make a grant of a personal token. A doubt about the one before is none about this one.

        Where Wise refused the one before, it is asked about this one first: it may be the same.
        """
        grant = Grant(
            key=key,
            phase=Phase.ACTIVE,
            access_token=self.sealer.seal(key, SealedField.ACCESS_TOKEN, token),
            version=int(now.timestamp() * 1000),
            issued_at=offer.issued_at,
            scope=offer.scope,
            refresh_at=NEVER,
            replace_at=(offer.issued_at or now) + self.personal_for,
            created_at=now,
            kind=GrantKind.PERSONAL,
        )
        if before is not None:
            grant = replace(
                grant,
                version=max(grant.version, before.version + 1),
                created_at=before.created_at,
                alert=None if before.alert is None else before.alert.over(now, before.alert.attempt_id),
            )
            if before.alert is not None and Phase.REAUTHORIZATION_REQUIRED in (before.phase, before.suspended_from):
                grant = replace(grant, in_doubt=before.alert.attempt_id)
            if before.phase is Phase.SUSPENDED:
                grant = replace(grant, phase=Phase.SUSPENDED, suspended_from=Phase.ACTIVE, suspension=before.suspension)
        asked = grant.in_doubt is not None and grant.phase is Phase.ACTIVE
        return replace(grant, due_at=now if asked else next_due(grant, now))


def _doubt(before: Grant, *, brings_access: bool) -> str | None:
    """Say what is in doubt about tokens that take the place of others.

    An answer that may be lost stays so, whatever is brought. What killed the old tokens may have killed an access token
    that is brought.
    """
    alert = before.alert
    if alert is None or Phase.REAUTHORIZATION_REQUIRED not in (before.phase, before.suspended_from):
        return before.in_doubt
    if alert.reason == OUTCOME_UNKNOWN:
        return alert.attempt_id
    return FOUND_DEAD if brings_access else None


def _same(stored: Grant, ours: Grant) -> bool:
    """Tell whether what is stored is what we have just sealed: no two acts of sealing give the same."""
    return _what_stays(stored) == _what_stays(ours)


def _what_stays(grant: Grant) -> tuple[Sealed | None, ...]:
    """Give what is sealed in a grant as it was adopted, as far as no refresh replaces it."""
    return grant.refresh_token, grant.registration, grant.access_token if grant.kind is GrantKind.PERSONAL else None


@dataclass(frozen=True, slots=True)
class DeleteGrant:
    """Forgets a grant: its tokens, its dates and its claim on a Wise profile. At Wise nothing changes."""

    grants: GrantRegistry
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]

    def __call__(self, key: GrantKey) -> Declined | None:
        """Delete it, once nobody refreshes it. `None` when it is gone. Raises what the store raises."""
        until = self.clock() + self.budgets.serve
        patience = Patience(self.grants, self.budgets, self.clock, self.sleep)
        while True:
            grant = patience.unheld(key, until)
            if isinstance(grant, Declined):
                return grant
            answer = self.grants.delete(grant, When(attempt_id=grant.attempt_id, version=grant.version))
            if isinstance(answer, Done) or answer.grant is None:
                return None
