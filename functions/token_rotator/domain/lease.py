"""The right to refresh one grant, and the time budgets that make it safe."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .errors import SettingsError

if TYPE_CHECKING:
    from datetime import datetime

    from .grant import Grant


KEEP_TRIES: Final = 3
"""How often a link's tokens are written, if need be."""
KEEP_PAUSE: Final = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Every duration that the protocol rests on, derived and checked in one place.

    `settle` is how long Wise may still carry out a request that we gave up on. Wise does not document it; raise it if
    a token is ever seen replaced after its lease. Raises `SettingsError` when the order does not hold.
    """

    skew: timedelta = timedelta(seconds=2)
    """How far any of our clocks may be off, either way."""
    connect: timedelta = timedelta(seconds=1)
    http: timedelta = timedelta(seconds=5)
    """One call to the token endpoint, from DNS to the last byte."""
    send_least: timedelta = timedelta(seconds=3)
    """A refresh is not sent with less time than this for its answer."""
    ask: timedelta = timedelta(seconds=2)
    """One call of `GET /v1/me`, in all."""
    store: timedelta = timedelta(seconds=2)
    """One write to the table, the SDK's own retry included."""
    park: timedelta = timedelta(milliseconds=800)
    """One message to the parking queue, in all."""
    attempt: timedelta = timedelta(seconds=8)
    """One attempt, from acquiring to its last write."""
    settle: timedelta = timedelta(seconds=10)
    hold: timedelta = timedelta(seconds=180)
    """How long after a takeover an answer of the attempt before may still find its way into the store."""
    refresh_function: timedelta = timedelta(seconds=9)
    invoke: timedelta = timedelta(seconds=10)
    serve: timedelta = timedelta(seconds=20)
    serve_function: timedelta = timedelta(seconds=27)
    gateway: timedelta = timedelta(seconds=29)
    """API Gateway gives up then: docs.aws.amazon.com/apigateway/latest/developerguide/limits.html."""
    sweep_duty: timedelta = timedelta(seconds=55)
    sweep_function: timedelta = timedelta(seconds=70)

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= timedelta(0):
                msg = f"budget {field.name} must be positive"
                raise SettingsError(msg)
        order = (
            ("connect < http", self.connect < self.http),
            ("send_least <= http", self.send_least <= self.http),
            ("http + store + park <= attempt", self.http + self.keep <= self.attempt),
            ("ask + send_least + store + park < attempt", self.ask + self.send_least + self.keep < self.attempt),
            ("attempt < refresh_function", self.attempt < self.refresh_function),
            ("refresh_function < invoke", self.refresh_function < self.invoke),
            ("2 * invoke <= serve", 2 * self.invoke <= self.serve),
            ("serve < serve_function", self.serve < self.serve_function),
            ("exchange < serve_function", self.exchange < self.serve_function),
            ("serve_function < gateway", self.serve_function < self.gateway),
            (
                "sweep_duty + attempt + http < sweep_function",  # the last attempt may have Wise asked about our client
                self.sweep_duty + self.attempt + self.http < self.sweep_function,
            ),
            ("sweep_function + margin < hold", self.sweep_function + self.margin < self.hold),
            ("lease + margin < hold", self.lease + self.margin < self.hold),
        )
        broken = [rule for rule, holds in order if not holds]
        if broken:
            msg = f"time budgets out of order: {', '.join(broken)}"
            raise SettingsError(msg)

    @property
    def margin(self) -> timedelta:
        """The largest difference between two of our clocks: how long after its end a lease is left alone."""
        return 2 * self.skew

    @property
    def guard(self) -> timedelta:
        """How long before a token may be replaced it is no longer handed out."""
        return self.margin

    @property
    def keep(self) -> timedelta:
        """What an attempt needs after Wise's answer: one write, and where that fails one message to the queue."""
        return self.store + self.park

    @property
    def exchange(self) -> timedelta:
        """What taking a code back needs, from using its link up to its end."""
        return self.store + self.exchanging

    @property
    def exchanging(self) -> timedelta:
        """What it needs once its link is used up: Wise twice, and three tries to keep what it gave."""
        return self.http + self.ask + KEEP_TRIES * self.store + (KEEP_TRIES - 1) * KEEP_PAUSE

    @property
    def late_word(self) -> timedelta:
        """How long after a link's time somebody's clock may show a confirmation that began in time still at work."""
        return self.serve_function + self.margin

    @property
    def lease(self) -> timedelta:
        """How long a lease runs: it outlasts the attempt and whatever the attempt sent."""
        return self.attempt + self.settle


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to refresh one grant, until an instant of the holder's clock. Random `attempt_id`, never reused."""

    attempt_id: str
    until: datetime


def unsettled_until(grant: Grant, budgets: Budgets) -> datetime | None:
    """Say until when an answer may still be on its way into the store, of a grant whose lease nobody holds any more.

    `None`: there is none. Nothing is sent for a grant on hold: what was sent before the order is over by then, and
    nothing was where it was adopted on hold.
    """
    until = grant.hold_until if grant.in_doubt is not None else None
    if grant.attempt_id is not None and grant.lease_until is not None:
        until = grant.lease_until + budgets.hold
    if until is None or grant.on_hold is None:
        return until
    since = grant.on_hold.since
    return None if since <= grant.created_at else min(until, since + budgets.hold)


def ran_out(grant: Grant, now: datetime, budgets: Budgets) -> bool:
    """Tell whether the lease that the grant holds ended so long ago that no clock of ours still honours it.

    A lease without an end, which this code never writes, counts as one that ran out.
    """
    return grant.lease_until is None or now > grant.lease_until + budgets.margin
