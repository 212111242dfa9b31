"""What is stopped, or on hold: one grant, all of a tenant's, or everything. All instants are aware UTC."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .grant import AlertKind, GrantKind, Phase
from .policy import DEAD_ON_HOLD, HELD_PROMISE, OUTCOME_UNKNOWN, next_due
from .state_change import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .grant import Grant, GrantKey
    from .lease import Budgets
    from .state_change import StateChange

KNOWN_FOR: Final = timedelta(seconds=5)
"""How old a process's knowledge of what is suspended may be."""
CLOCKS: Final = timedelta(seconds=5)
"""How far Wise's clock and ours may be apart where one event of each is to be put in order."""
ASIDE_FOR: Final = timedelta(minutes=5)
"""How long, at most, a due grant of a suspended tenant is out of the sweeps' way: after lifting it is due by then."""
STATE_CHANGED: Final = "state-change"
"""Stands where otherwise the attempt stands whose outcome is unknown: Wise may have ended the tokens."""
FOUND_DEAD: Final = "found-dead"
"""The same: Wise has called the tokens dead, and every request of ours was answered."""
_CHANGED_AFTER: Final = f"{STATE_CHANGED} after "
"""The same, with the attempt whose outcome was unknown before."""
DEACTIVATED: Final = "Wise deactivated the account"


@dataclass(frozen=True, slots=True)
class Suspension:
    """An order to stop, or to hold: when, which partner service gave it, and what it says of the reason.

    `until`: a hold was ended, and nothing is refreshed before this instant: somebody may have been promised a token.
    `operator`: who stopped one grant runs the rotator, and nobody else lifts that; kept with the order, since partner
    services are renamed and their permissions change.
    """

    since: datetime
    by: str
    reason: str | None = None
    until: datetime | None = None
    operator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspensions:
    """The orders in force about whole tenants and about the environment; those about one grant lie in the grant.

    `held_environment` and `held_tenants` are the orders to serve and not to refresh.
    """

    environment: Suspension | None = None
    tenants: Mapping[str, Suspension] = field(default_factory=dict)
    held_environment: Suspension | None = None
    held_tenants: Mapping[str, Suspension] = field(default_factory=dict)

    def of(self, tenant: str) -> Suspension | None:
        """Give the order that stops a tenant's grants, if there is one."""
        return self.environment or self.tenants.get(tenant)

    def hold_on(self, tenant: str, now: datetime) -> Suspension | None:
        """Give the order to serve a tenant's grants and not to refresh them, if there is one.

        Of two the one that lasts longer. What is no tenant's, our application's own token, is never on hold.
        """
        orders = (self.held_environment, self.held_tenants.get(tenant))
        found = [order for order in orders if order is not None and (order.until is None or now < order.until)]
        if not tenant or not found:
            return None
        return next((order for order in found if order.until is None), max(found, key=_ends_at))

    def ended(self, before: datetime) -> list[str | None]:
        """Give the tenants (`None`: the environment) whose order to hold was ended, until an instant before this."""
        held: list[tuple[str | None, Suspension | None]] = [(None, self.held_environment), *self.held_tenants.items()]
        return [whose for whose, order in held if order is not None and order.until and order.until < before]

    @property
    def in_force(self) -> int:
        """How many orders there are."""
        return len(self.tenants) + (self.environment is not None)

    @property
    def holds_in_force(self) -> int:
        """How many orders there are to serve and not to refresh; one that was ended is none."""
        orders = [*self.held_tenants.values(), self.held_environment]
        return sum(order is not None and order.until is None for order in orders)


def _ends_at(order: Suspension) -> datetime:
    return order.until or order.since


def suspended(grant: Grant, order: Suspension) -> Grant:
    """Stop a grant: it remembers the phase to come back to. One that is stopped already stays as it is.

    An order takes the place of one that follows from Wise's word, so that Wise does not end it, and an operator's that
    of a partner service, so that the partner does not. Its lease, its doubt and its tokens are left alone: an answer
    that is under way is stored.
    """
    if grant.phase is Phase.SUSPENDED:
        return replace(grant, suspension=order) if _rank(order) > _rank(grant.suspension) else grant
    return replace(grant, phase=Phase.SUSPENDED, suspended_from=grant.phase, suspension=order, due_at=None)


def _rank(order: Suspension | None) -> int:
    """Say whose order it is: Wise's, a partner service's, an operator's."""
    if order is not None and any(order.by == subject.orderer for subject in Subject):
        return 0
    return 2 if order is not None and order.operator else 1


def may_lift(grant: Grant, *, operator: bool) -> bool:
    """Tell whether somebody may let a grant go on: what an operator stopped, only an operator."""
    return operator or grant.suspension is None or not grant.suspension.operator


def lifted(grant: Grant, now: datetime) -> Grant:
    """Undo it: the grant comes back to the phase it had, and an active one is due at once."""
    if grant.phase is not Phase.SUSPENDED:
        return grant
    phase = grant.suspended_from or Phase.ACTIVE
    back = replace(grant, phase=phase, suspended_from=None, suspension=None)
    return replace(back, due_at=now if phase is Phase.ACTIVE else next_due(back, now))


def aside_until(key: GrantKey, now: datetime) -> datetime:
    """Say until when a due grant of a suspended tenant is out of the way: not all of them at the same instant."""
    aside = ASIDE_FOR * (0.5 + 0.5 * key.fraction("aside"))
    return now + aside - aside % timedelta(milliseconds=1)


def is_stopped_by(grant: Grant, subject: Subject) -> bool:
    """Tell whether a grant is suspended because Wise deactivated this account, and by no operator's order."""
    order = grant.suspension
    return grant.phase is Phase.SUSPENDED and order is not None and order.by == subject.orderer


def state_changed(grant: Grant, change: StateChange, now: datetime, others: StateChange | None) -> Grant:
    """Do to a grant what follows from a change of its user's or profile's state. `others`: what is known of the other.

    What the grant knows already changes nothing, and what is about another account neither: the grant may have become
    another user's since it was looked up. An operator's order stands, whatever Wise says.
    """
    subject = change.account.subject
    whose = grant.wise_user_id if subject is Subject.USER else grant.profile_id
    if whose != change.account.wise_id:
        return grant
    known = grant.user_rank if subject is Subject.USER else grant.profile_rank
    if known is not None and change.rank <= known:
        return grant
    if subject is Subject.USER:
        grant = replace(grant, user_rank=change.rank)
    else:
        grant = replace(grant, profile_rank=change.rank)
    if change.closes:
        return _deactivated(grant, subject, now)
    if others is not None and others.closes and is_stopped_by(grant, subject):
        return replace(grant, suspension=Suspension(now, others.account.subject.orderer, DEACTIVATED))
    if is_stopped_by(grant, subject) or _given_up_before(grant, change.occurred_at):
        return _reactivated(grant, now)
    if change.was_closed:
        return _doubted(grant, now)
    return grant


def _given_up_before(grant: Grant, opened_at: datetime) -> bool:
    """Tell whether a grant was given up while its account may have been closed: the event that said so came too late.

    Wise's clock and ours need not agree; a try too many does no harm.
    """
    alert = grant.alert
    if grant.phase is not Phase.REAUTHORIZATION_REQUIRED or alert is None:
        return False
    return alert.kind is AlertKind.REAUTHORIZATION_REQUIRED and alert.raised_at <= opened_at + CLOCKS


def _deactivated(grant: Grant, subject: Subject, now: datetime) -> Grant:
    """Stop a grant whose tokens Wise has ended. They are in doubt, whoever lets it go on.

    Also in place of another doubt, which whoever is resolving it may be about to end.
    """
    return suspended(_doubted(grant, now), Suspension(now, subject.orderer, DEACTIVATED))


def _doubted(grant: Grant, now: datetime) -> Grant:
    """Put tokens in doubt that Wise may have ended, also where the account is open again before anybody looked."""
    if Phase.ACTIVE not in (grant.phase, grant.suspended_from) or grant.access_token is None:
        return grant
    earlier = (grant.in_doubt or "").removeprefix(_CHANGED_AFTER)
    in_doubt = _CHANGED_AFTER + earlier if may_have_lost(earlier) else STATE_CHANGED
    return replace(grant, in_doubt=in_doubt, due_at=now if grant.phase is Phase.ACTIVE else grant.due_at)


def may_have_lost(doubt: str | None) -> bool:
    """Tell whether a doubt says that an answer of Wise's may have been lost, and not only that tokens may be dead."""
    return bool(doubt) and doubt not in (STATE_CHANGED, FOUND_DEAD)


def settled(doubt: str | None, known: str | None) -> str | None:
    """Say what is left of a doubt once the one that was `known` is over: what has come since."""
    if doubt == known:
        return None
    return STATE_CHANGED if known is not None and doubt == _CHANGED_AFTER + known else doubt


def _reactivated(grant: Grant, now: datetime) -> Grant:
    """Let a grant go on that was stopped, or given up, for its account: active and due at once.

    No page of Wise's says that tokens come back, or that they do not. So one try is made, and the access token is not
    served before Wise was asked about it.
    """
    back = replace(grant, phase=Phase.ACTIVE, suspended_from=None, suspension=None, due_at=now)
    if back.access_token is None:
        return replace(back, refresh_at=min(back.refresh_at, now))
    alert, given_up = grant.alert, Phase.REAUTHORIZATION_REQUIRED in (grant.phase, grant.suspended_from)
    if given_up and alert is not None and alert.reason == OUTCOME_UNKNOWN:
        return replace(back, in_doubt=f"{_CHANGED_AFTER}{alert.attempt_id}")
    return replace(back, in_doubt=back.in_doubt or STATE_CHANGED)


def put_on_hold(grant: Grant, order: Suspension, now: datetime) -> Grant:
    """Let a grant be served and not refreshed, while nobody works on it. One that is on hold stays as it is.

    So does a personal token, which is never refreshed.
    """
    if grant.on_hold is not None or grant.kind is not GrantKind.USER:
        return grant
    after = replace(grant, on_hold=order)
    return replace(after, due_at=_due_at_rest(after, now))


def released(grant: Grant, now: datetime, budgets: Budgets) -> Grant:
    """Undo it, while nobody works on it: the grant is due by the ordinary rules.

    Not before whatever a reader was promised is over, which no promise outlives its token; unless Wise has said that
    the token is dead. A doubt stays, and is resolved at once.
    """
    if grant.on_hold is None:
        return grant
    after = replace(grant, on_hold=None)
    if grant.in_doubt is None or grant.last_error != DEAD_ON_HOLD:
        over = now + HELD_PROMISE + budgets.margin + budgets.guard
        over = over if grant.expires_at is None else min(over, grant.expires_at)
        after = replace(after, refresh_at=max(grant.refresh_at, over))
    return replace(after, due_at=_due_at_rest(after, now))


def _due_at_rest(grant: Grant, now: datetime) -> datetime | None:
    return now if grant.in_doubt is not None and grant.phase is Phase.ACTIVE else next_due(grant, now)


def is_on_hold(grant: Grant, order: Suspension | None, now: datetime) -> bool:
    """Tell whether a grant is not to be refreshed, by an order of its own or one about many.

    One about many that was ended binds it for as long as what was promised may live.
    """
    if order is None:
        return grant.on_hold is not None
    return grant.on_hold is not None or order.until is None or grant.expires_at is None or now < grant.expires_at


def freed(grant: Grant, now: datetime, budgets: Budgets) -> Grant:
    """Take the lease from a worker that is gone, as a takeover does: what it may have sent is a doubt."""
    if grant.attempt_id is None:
        return grant
    return replace(
        grant, attempt_id=None, lease_until=None, in_doubt=grant.attempt_id, hold_until=now + budgets.hold, due_at=now
    )


def held_everywhere_at(order: Suspension, budgets: Budgets) -> datetime:
    """Say when nobody refreshes any more because of an order that was given to all of a tenant's, or to everything.

    Each process knows it by then, also one whose question failed once, and what was sent before is over.
    """
    return order.since + 2 * KNOWN_FOR + budgets.attempt + budgets.margin


def released_until(now: datetime, budgets: Budgets) -> datetime:
    """Say until when nothing is refreshed after such an order was ended: the last promise under it is over then."""
    return now + 2 * KNOWN_FOR + HELD_PROMISE + budgets.margin + budgets.guard
