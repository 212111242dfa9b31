"""What has to happen to a grant, and what a reader is told: pure functions of a grant and an instant.

All instants are aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from .grant import AlertKind, GrantKind, Phase
from .lease import ran_out

if TYPE_CHECKING:
    from .grant import Grant, GrantKey
    from .lease import Budgets

JITTER: Final = 0.1
"""A refresh is due at half of the token's life, give or take this share of it."""
REFRESH_FLOOR: Final = timedelta(minutes=1)
"""A new token is left alone at least this long, however short its life."""
BACKOFF_BASE: Final = timedelta(seconds=10)
BACKOFF_CAP: Final = timedelta(minutes=5)
RETRY_AFTER_CAP: Final = timedelta(hours=1)
"""The longest pause that a provider's `Retry-After` can ask for."""
ALERT_CLAIM: Final = timedelta(seconds=30)
"""How long one publisher has an alert for itself; longer than any call to SNS takes."""
GRANT_INVALID: Final = "grant_invalid"
"""The `last_error` of a grant in doubt that Wise calls dead: only the sweep may judge it, so readers leave it alone."""
WARN_AHEAD: Final = (timedelta(days=30), timedelta(days=7), timedelta(days=1))
"""How long before the refresh token's end people are told."""
OUTCOME_UNKNOWN: Final = "outcome_unknown"
"""Why a grant needs its user that was judged after a request whose answer may have been lost."""
DEAD_ON_HOLD: Final = "dead_on_hold"
"""The `last_error` of a grant in doubt that may not be refreshed, and whose access token Wise calls dead."""
HELD_PROMISE: Final = timedelta(seconds=60)
"""How long a reader of a grant on hold is promised its token, at most: nobody here knows when it is replaced."""
FOREIGN_AGAIN: Final = timedelta(days=1)
"""How long on-call is not told again that somebody else refreshes the same grant."""
SAME_END: Final = timedelta(hours=12)
"""Two ends of a refresh token that are no further apart are one: Wise counts in seconds from each answer."""
YOUNG_FOR: Final = timedelta(seconds=60)
"""A token younger than this, or than a tenth of its life, is not doubted because somebody reports it."""


REMINDED: Final = {
    AlertKind.REAUTHORIZATION_REQUIRED: Phase.REAUTHORIZATION_REQUIRED,
    AlertKind.HELD: Phase.ACTIVE,
}
"""What people are told once more where nothing has changed, and the phase in which it is still so."""

NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The `refresh_at` of a grant that is never refreshed."""
PERSONAL_STABLE_FOR: Final = timedelta(hours=1)
"""How long, at most, a reader may use a personal token without asking again: so one that was replaced is noticed."""
PERSONAL_FOR: Final = timedelta(days=90)
"""How old a personal token gets before people are told to replace it, where nothing else is set."""
PERSONAL_AGAIN: Final = timedelta(days=30)
"""How long after that they are told again."""


def _whole(duration: timedelta) -> timedelta:
    """Cut to whole milliseconds, which is what the store keeps."""
    return duration - duration % timedelta(milliseconds=1)


def refresh_at(key: GrantKey, version: int, issued_at: datetime, expires_at: datetime) -> datetime:
    """Say when an access token may be replaced.

    Half of its life, which is what Wise advises (docs.wise.com/guides/developer/auth-and-security/refresh-tokens),
    moved by up to a tenth of that life with a hash of key and version, so that grants adopted together do not stay
    together.
    """
    life = max(expires_at - issued_at, timedelta(0))
    share = 0.5 + JITTER * (2 * key.fraction(str(version)) - 1)
    return issued_at + max(_whole(life * share), REFRESH_FLOOR)


def backoff(key: GrantKey, failures: int, retry_after: timedelta | None = None) -> timedelta:
    """Say how long to leave a grant alone after its `failures`-th failure in a row (1 or more).

    Doubles from 10 seconds to 5 minutes, three quarters to one and a quarter of it by hash; never shorter than the
    provider's `Retry-After`, which is honoured up to an hour.
    """
    step = min(BACKOFF_BASE * (1 << min(failures - 1, 10)), BACKOFF_CAP)
    pause = _whole(step * (0.75 + 0.5 * key.fraction(f"backoff {failures}")))
    return max(pause, min(retry_after or timedelta(0), RETRY_AFTER_CAP))


def not_before(grant: Grant, now: datetime) -> datetime:
    """Say from when on a doubt may be resolved: about our application's own token, when it is due and no earlier.

    A question about our client that was not answered may end whatever is issued before that.
    """
    if grant.kind is not GrantKind.APPLICATION or grant.in_doubt is None or grant.due_at is None:
        return now
    return max(now, grant.due_at)


def fleet_backoff(failures: int) -> timedelta:
    """Say how long to wait before an alert about the whole deployment is tried again, 1 or more failures in a row."""
    return min(BACKOFF_BASE * (1 << min(failures - 1, 10)), BACKOFF_CAP)


def too_young_to_doubt(grant: Grant, now: datetime) -> bool:
    """Tell whether the access token was issued so recently that a report about it is not worth a question."""
    if grant.issued_at is None or grant.expires_at is None:
        return False
    return now - grant.issued_at < min(YOUNG_FOR, (grant.expires_at - grant.issued_at) / 10)


class Step(Enum):
    """What is to be done with a grant now."""

    REFRESH = "refresh"
    RESOLVE_DOUBT = "resolve_doubt"
    PUBLISH = "publish"
    REMIND = "remind"
    WARN = "warn"
    CALL_OLD = "call_old"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, why, and when to look again: `None` means never, the grant leaves the index.

    For a step that takes the lease or a claim, `due_at` is not written: the step itself moves it.
    """

    step: Step
    reason: str
    due_at: datetime | None


def warning_at(grant: Grant) -> datetime | None:
    """Say from when on people are to be told that the refresh token ends: only by a date that Wise gave.

    Of several warnings whose time has come only the last counts: `warned` takes the others along. While something else
    about the grant is open, or still to be told, that comes first.
    """
    ends, alert = grant.refresh_expires_at, grant.alert
    if ends is None or grant.phase is not Phase.ACTIVE:
        return None
    if alert is not None and alert.kind is not AlertKind.REFRESH_TOKEN_EXPIRING and alert.is_open:
        return None
    if alert is not None and alert.published_at is None:
        return None
    moments = (ends - ahead for ahead in WARN_AHEAD)
    told = grant.expiry_told
    return next((moment for moment in moments if told is None or moment - told > SAME_END), None)


def warned(grant: Grant, now: datetime) -> tuple[datetime, timedelta] | None:
    """Give the warning that is due now, if one is: its instant, and how long before the end that is."""
    moment, ends = warning_at(grant), grant.refresh_expires_at
    if moment is None or ends is None or not moment <= now < ends:
        return None
    ahead = min(ahead for ahead in WARN_AHEAD if ends - ahead <= now)
    return ends - ahead, ahead


def old_at(grant: Grant) -> datetime | None:
    """Say from when on people are to be told that a personal token is old, once nothing else is to be told."""
    if grant.phase is not Phase.ACTIVE or (grant.alert is not None and grant.alert.published_at is None):
        return None
    return grant.replace_at


def remind_at(grant: Grant) -> datetime | None:
    """Say from when on people are to be told once more what they were told, and what is still so."""
    alert = grant.alert
    if alert is None or alert.published_at is None or REMINDED.get(alert.kind) is not grant.phase:
        return None
    return alert.remind_at


def next_due(grant: Grant, now: datetime) -> datetime | None:
    """Say when anything has next to happen to a grant that nobody is working on and that is not in doubt."""
    moments: list[datetime] = []
    alert, warning = grant.alert, warning_at(grant)
    if grant.phase is Phase.ACTIVE and grant.kind is not GrantKind.PERSONAL and grant.on_hold is None:
        moments.append(grant.refresh_at)
    old = old_at(grant)
    if old is not None:
        moments.append(old)
    if warning is not None and grant.refresh_expires_at is not None and now < grant.refresh_expires_at:
        moments.append(warning)
    if alert is not None and alert.published_at is None and grant.phase is not Phase.SUSPENDED:
        moments.append(alert.claimed_until or now)
    again = remind_at(grant)
    if again is not None:
        moments.append(again)
    return min(moments, default=None)


def decide(grant: Grant, now: datetime, budgets: Budgets) -> Decision:  # noqa: C901, PLR0911 - a table's rows
    """Name the next step of a grant. Alerts come first: they need no lease and keep nobody waiting."""
    if grant.phase is Phase.SUSPENDED:
        return Decision(Step.NOTHING, "suspended", None)
    alert = grant.alert
    if alert is not None and alert.published_at is None and (alert.claimed_until or now) <= now:
        return Decision(Step.PUBLISH, f"on-call has not been told: {alert.kind}", None)
    again = remind_at(grant)
    if again is not None and again <= now:
        return Decision(Step.REMIND, "on-call was told, and nothing has changed since", None)
    if grant.phase is Phase.REAUTHORIZATION_REQUIRED:
        return Decision(Step.NOTHING, "waits for a new authorization", next_due(grant, now))
    if grant.attempt_id is not None:
        if ran_out(grant, now, budgets):
            return Decision(Step.RESOLVE_DOUBT, "a lease ran out", None)
        lease_end = (grant.lease_until or now) + budgets.margin
        return Decision(Step.NOTHING, "somebody is at it", lease_end)
    if grant.in_doubt is not None and not _dead_on_hold(grant):
        if grant.due_at is None or grant.due_at <= now:
            return Decision(Step.RESOLVE_DOUBT, "a refresh was sent and its outcome is unknown", None)
        return Decision(Step.NOTHING, "in doubt, waits for the next try", grant.due_at)
    if warned(grant, now) is not None:
        return Decision(Step.WARN, "the refresh token ends soon", None)
    old = old_at(grant)
    if old is not None and old <= now:
        return Decision(Step.CALL_OLD, "the personal token is as old as it should get", None)
    if grant.on_hold is not None:
        return Decision(Step.NOTHING, "on hold: somebody else refreshes it", next_due(grant, now))
    if grant.refresh_at <= now:
        return Decision(Step.REFRESH, "the access token is due", None)
    return Decision(Step.NOTHING, "nothing is due", next_due(grant, now))


class Verdict(Enum):
    """What a reader gets."""

    SERVE = "serve"
    WAIT = "wait"
    REFRESH = "refresh"
    RETRY_LATER = "retry_later"
    ABSENT = "absent"
    SUSPENDED = "suspended"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    ON_HOLD = "on_hold"


@dataclass(frozen=True, slots=True)
class Reading:
    """The verdict on one reader's question.

    `until`: SERVE: `stable_until`; WAIT and RETRY_LATER: the instant at which asking again is worth while.
    `attempt_ends`: WAIT for a lease: after this instant its holder writes nothing any more. `on_hold`: SERVE for one
    that somebody else refreshes.
    """

    verdict: Verdict
    until: datetime | None = None
    attempt_ends: datetime | None = None
    degraded: bool = False
    on_hold: bool = False


def _dead_on_hold(grant: Grant) -> bool:
    """Tell whether nothing can be done about a grant but end its hold, or adopt newer tokens."""
    return grant.on_hold is not None and grant.in_doubt is not None and grant.last_error == DEAD_ON_HOLD


def _last_try_failed(grant: Grant) -> bool:
    return grant.failures > 0 or grant.last_error is not None


def read(grant: Grant | None, now: datetime, budgets: Budgets) -> Reading:
    """Say what a reader is told about a stored grant: the rows of the table in docs/api.md, from the top.

    A token is served only while nothing was sent that may have killed it, and with the instant before which the
    rotator does not replace it.
    """
    if grant is None:
        return Reading(Verdict.ABSENT)
    if grant.phase is Phase.SUSPENDED:
        return Reading(Verdict.SUSPENDED)
    if grant.phase is Phase.REAUTHORIZATION_REQUIRED:
        return Reading(Verdict.REAUTHORIZATION_REQUIRED)
    if grant.attempt_id is not None:
        if ran_out(grant, now, budgets):
            return Reading(Verdict.REFRESH)
        until = grant.lease_until or now
        return Reading(Verdict.WAIT, until + budgets.margin, attempt_ends=until - budgets.settle)
    return _read_at_rest(grant, now, budgets)


def _read_at_rest(grant: Grant, now: datetime, budgets: Budgets) -> Reading:
    """The rows for an active grant that nobody is working on."""
    if grant.on_hold is not None and (grant.in_doubt is None or grant.last_error == DEAD_ON_HOLD):
        return _read_on_hold(grant, now, budgets)
    if grant.in_doubt is not None:
        due = grant.due_at is None or grant.due_at <= now or grant.last_error == DEAD_ON_HOLD
        if due and grant.last_error != GRANT_INVALID:
            return Reading(Verdict.REFRESH)
        return Reading(Verdict.RETRY_LATER, grant.due_at)
    if grant.kind is GrantKind.PERSONAL:
        return Reading(Verdict.SERVE, now + PERSONAL_STABLE_FOR)
    if now >= grant.refresh_at:
        return Reading(Verdict.REFRESH)
    if grant.access_token is not None and grant.expires_at is not None:
        stable_until = min(grant.refresh_at, grant.expires_at) - budgets.guard
        if now < stable_until:
            return Reading(Verdict.SERVE, stable_until, degraded=_last_try_failed(grant))
    if now >= grant.refresh_at - budgets.guard:
        return Reading(Verdict.WAIT, grant.refresh_at)
    return Reading(Verdict.RETRY_LATER, grant.refresh_at)


def _read_on_hold(grant: Grant, now: datetime, budgets: Budgets) -> Reading:
    """Give the stored token until shortly before its end, promised for a minute at a time."""
    gone = grant.access_token is None or grant.in_doubt is not None
    if gone or grant.expires_at is None or now >= grant.expires_at - budgets.guard:
        return Reading(Verdict.ON_HOLD)
    stable_until = min(now + HELD_PROMISE, grant.expires_at - budgets.guard)
    return Reading(Verdict.SERVE, stable_until, degraded=_last_try_failed(grant), on_hold=True)
