"""Handing out an access token together with the instant until which it is safe to use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from token_rotator.domain.grant import APPLICATION, GrantKind
from token_rotator.domain.policy import Reading, Verdict, read, too_young_to_doubt

from .ports import Due, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.suspension import Suspension
    from token_rotator.domain.tokens import Secret

    from .ports import AccessTokenOpener, GrantReader, Refresher, SuspensionReader

_POLLS: Final = tuple(timedelta(milliseconds=ms) for ms in (100, 200, 300, 500, 800, 1000))
_SPREAD: Final = timedelta(milliseconds=500)
"""Readers who waited for one instant ask at different ones after it: most then find it done already."""
_ASKED_AT_MOST: Final = 2
"""How often one call asks for a refresh on one occasion."""
_SOON: Final = timedelta(seconds=2)
"""What a reader is told to wait where nothing better is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An access token. `stable_until`: the rotator does not replace it before; `stable_for` the same as a duration.

    `caused_refresh`: a refresh that this very call asked for was made. `on_hold`: somebody else refreshes the grant,
    and may replace the token at any time. A personal token has no end that is known.
    """

    access_token: Secret
    version: int
    issued_at: datetime | None
    expires_at: datetime | None
    expires_in: timedelta | None
    stable_until: datetime
    stable_for: timedelta
    scope: str | None
    degraded: bool
    confirmed: bool
    caused_refresh: bool
    on_hold: bool = False


class Why(Enum):
    """Why a reader gets no token."""

    ABSENT = "not-found"
    SUSPENDED = "suspended"
    REAUTHORIZATION_REQUIRED = "reauthorization-required"
    ON_HOLD = "on-hold"
    UNAVAILABLE = "temporarily-unavailable"
    UNKNOWN_VERSION = "unknown-version"


@dataclass(frozen=True, slots=True)
class NotServed:
    """No token, and when to ask again where asking again helps. `personal`: of a grant that is a personal token."""

    why: Why
    retry_after: timedelta | None = None
    personal: bool = False


_FINAL: Final = {
    Verdict.ABSENT: Why.ABSENT,
    Verdict.SUSPENDED: Why.SUSPENDED,
    Verdict.REAUTHORIZATION_REQUIRED: Why.REAUTHORIZATION_REQUIRED,
    Verdict.ON_HOLD: Why.ON_HOLD,
}


@dataclass(frozen=True, slots=True)
class ServeToken:
    """Answers readers within one time budget. A warm answer costs one consistent read and nothing else.

    What is suspended is asked each time, of somebody who knows it without asking.

    It waits for whoever is refreshing, and asks for a refresh where one is needed; a token that a refresh may have
    killed is never handed out.
    """

    grants: GrantReader
    opener: AccessTokenOpener
    refresher: Refresher
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]
    random: Callable[[], float]
    suspensions: SuspensionReader

    def __call__(self, key: GrantKey, rejected: int | None = None) -> Served | NotServed:
        """Serve the current token. Raises what the store and the opener raise.

        `rejected` is a version to which Wise answered 401. A newer one is served at once; if it is still the stored
        one, Wise is asked, and one refresh happens if it is dead, however many callers report it.
        """
        return _Question(self, key, rejected).answer()


class _Question:
    """One reader's question on its way to an answer."""

    def __init__(self, use: ServeToken, key: GrantKey, rejected: int | None) -> None:
        self.use = use
        self.key = key
        self.rejected = rejected
        self.deadline = use.clock() + use.budgets.serve
        self.polls = 0
        self.asked: Counter[str] = Counter()
        self.confirmed = False
        self.caused_refresh = False
        self.retry_after = _SOON
        self.behind: str | None = None

    def answer(self) -> Served | NotServed:
        while True:
            found = self._look()
            answer = self._absent(found) if isinstance(found, NotServed) else self._follow(*found)
            if answer is not None:
                return answer

    def _absent(self, found: NotServed) -> NotServed | None:
        """Have our application's own token begin, which it does with the first question for it. `None`: read again."""
        if self.key == APPLICATION and found.why is Why.ABSENT:
            return self._refresh(Due(), "absent")
        return found

    def _follow(self, grant: Grant, reading: Reading, now: datetime) -> Served | NotServed | None:
        """Do what a reading asks for. `None`: read again."""
        match reading.verdict:
            case Verdict.SERVE:
                if not self._reported(grant, now):
                    return self._served(grant, reading)
                return self._refresh(Rejected(grant.version), "report")
            case Verdict.REFRESH:
                return self._refresh(Due(), f"due {grant.version} {grant.attempt_id or grant.in_doubt}")
            case Verdict.WAIT:
                return self._wait(reading, now)
            case _:
                return self._later(reading.until)

    def _look(self) -> tuple[Grant, Reading, datetime] | NotServed:
        """Look at what is stored, and what that means at this instant."""
        use = self.use
        grant = use.grants.get(self.key)
        if grant is not None and use.suspensions.read().of(self.key.tenant) is not None:
            return NotServed(Why.SUSPENDED)
        now = use.clock()
        if grant is not None:
            grant = _under(use.suspensions.read().hold_on(self.key.tenant, now), grant)
        reading = read(grant, now, use.budgets)
        if grant is None or reading.verdict in _FINAL:
            personal = grant is not None and grant.kind is GrantKind.PERSONAL
            return NotServed(_FINAL[reading.verdict], personal=personal)
        if self.rejected is not None and self.rejected > grant.version:
            return NotServed(Why.UNKNOWN_VERSION)
        return grant, reading, now

    def _reported(self, grant: Grant, now: datetime) -> bool:
        if self.rejected != grant.version or self.confirmed:
            return False
        return not too_young_to_doubt(grant, now)

    def _refresh(self, cause: Due | Rejected, occasion: str) -> NotServed | None:
        """Have the grant refreshed, once for each occasion. `None`: read again."""
        if self.asked[occasion] >= _ASKED_AT_MOST or self.use.clock() + self.use.budgets.invoke > self.deadline:
            return NotServed(Why.UNAVAILABLE, self.retry_after)
        if self.behind == occasion:  # nothing has changed since: it is not due yet by the refresher's clock
            self.behind = None
            self.use.sleep(self.use.budgets.skew)
            return None
        report = self.use.refresher.refresh(self.key, cause)
        # One who met somebody else's lease may ask once more when that is over.
        self.asked[occasion] += 1 if report.outcome in ("held", "fresh") else _ASKED_AT_MOST
        self.behind = occasion if report.outcome == "fresh" and self.asked[occasion] < _ASKED_AT_MOST else None
        if report.outcome == "suspended":
            return NotServed(Why.SUSPENDED)
        self.confirmed = self.confirmed or report.outcome == "confirmed"
        self.caused_refresh = self.caused_refresh or report.outcome == "refreshed"
        self.retry_after = _SOON if report.outcome == "held" else report.retry_after or _SOON
        if isinstance(cause, Rejected) and report.outcome in ("failed", "in_doubt", "barred", "unusable"):
            return NotServed(Why.UNAVAILABLE, self.retry_after)
        return None

    def _wait(self, reading: Reading, now: datetime) -> NotServed | None:
        """Wait for the holder of a lease, or for the instant at which the token may be replaced."""
        until = reading.until or now
        if until <= self.deadline:
            give_up = until
        else:
            give_up = min(self.deadline, (reading.attempt_ends or now) + self.use.budgets.margin)
        if now >= give_up and until > now:
            return self._later(until)
        if reading.attempt_ends is None:
            self.use.sleep(max(until - now, _POLLS[0]) + _SPREAD * self.use.random())
            return None
        pause = _POLLS[min(self.polls, len(_POLLS) - 1)]
        self.polls += 1
        self.use.sleep(min(pause, max(give_up - now, timedelta(milliseconds=10))))
        return None

    def _later(self, until: datetime | None) -> NotServed:
        wait_for = until - self.use.clock() if until is not None else _SOON
        return NotServed(Why.UNAVAILABLE, max(wait_for, timedelta(seconds=1)))

    def _served(self, grant: Grant, reading: Reading) -> Served | NotServed | None:
        """Open the token, then look at the clock: opening may take long. `None`: too long, read again."""
        if grant.access_token is None or reading.until is None:
            return self._later(None)
        access_token = self.use.opener.open_access_token(self.key, grant.access_token)
        now = self.use.clock()
        if now >= reading.until:
            return None
        return Served(
            access_token=access_token,
            version=grant.version,
            issued_at=grant.issued_at,
            expires_at=grant.expires_at,
            expires_in=None if grant.expires_at is None else grant.expires_at - now,
            stable_until=reading.until,
            stable_for=reading.until - now,
            scope=grant.scope,
            degraded=reading.degraded,
            confirmed=self.confirmed,
            caused_refresh=self.caused_refresh,
            on_hold=reading.on_hold,
        )


def _under(hold: Suspension | None, grant: Grant) -> Grant:
    """Give the grant as an order to hold about its tenant or everything has it read; one that was ended delays only.

    It is about what is refreshed with a refresh token: nobody else has a hand in the others.
    """
    if hold is None or grant.kind is not GrantKind.USER:
        return grant
    if hold.until is not None:
        over = hold.until if grant.expires_at is None else min(hold.until, grant.expires_at)
        return replace(grant, refresh_at=max(grant.refresh_at, over))
    return replace(grant, on_hold=grant.on_hold or hold)
