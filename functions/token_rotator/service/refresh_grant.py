"""Refreshing one grant: acquire, ask if in doubt, send, commit. The protocol of docs/protocol.md, rule by rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.errors import (
    CorruptGrant,
    KeyUnavailable,
    ParkingUnavailable,
    RotatorError,
    StoreUnavailable,
    Unsealable,
    WiseSecretUnusable,
)
from token_rotator.domain.fleet import OUR_FAULT
from token_rotator.domain.grant import APPLICATION, Alert, AlertKind, Grant, GrantKind, Phase, incident_of
from token_rotator.domain.lease import Lease, ran_out
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Refreshed,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
    name_of,
)
from token_rotator.domain.policy import (
    ALERT_CLAIM,
    DEAD_ON_HOLD,
    GRANT_INVALID,
    OUTCOME_UNKNOWN,
    backoff,
    next_due,
    not_before,
)
from token_rotator.domain.suspension import FOUND_DEAD, is_on_hold, may_have_lost

from .breaker import Barred
from .journal import AnswerLost, AnswerParked, AttemptEnded, DemandBarred, Sent, Trouble
from .keep_answer import Place
from .ports import Done, Due, Rejected, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.fleet import Lane
    from token_rotator.domain.grant import GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.outcome import ClientCheck, Outcome
    from token_rotator.domain.suspension import Suspension
    from token_rotator.domain.tokens import Sealed, Secret

    from .breaker import Breaker
    from .journal import Journal
    from .keep_answer import KeepAnswer
    from .ports import (
        ApplicationEnvelope,
        Cause,
        ClientAsker,
        GrantStore,
        Parking,
        RefreshSealer,
        Refused,
        SuspensionReader,
        Wise,
    )
    from .tell_people import TellPeople

NO_TIME_TO_REISSUE: Final = "no-time-to-reissue"
"""The `last_error` of a grant whose refresh token was refused too late in an attempt: the next begins with the code."""
ALONE_FROM_TAKEOVER: Final = 3
"""A grant whose workers died this often is advanced alone: it may be what kills them."""
_STORE_PAUSE: Final = timedelta(milliseconds=200)
_SENDS: Final = 2
"""How many requests to the token endpoint one attempt may make."""
RECLAIMED: Final = "reclaimed"
"""Why a grant needs its user whose registration code Wise refuses: the user has taken the account over.

Where an answer may have been lost before, that is the reason: it is our fault that the code was needed.
"""
PERSONAL_REJECTED: Final = "personal_token_rejected"
"""Why a personal token is not served any more: Wise says that it is dead, and only its owner can make another."""
HELD_FOR: Final = timedelta(minutes=15)
"""How long a grant is left alone that Wise refuses although it accepts our client."""
REFUSED_ALONE_FROM: Final = 3
"""On-call hears of a grant at its so-manieth refusal in a row, where Wise refuses our client when asked, too."""
DRAINED_WITHIN: Final = timedelta(seconds=15)
"""How long after an instant every sweep on duty has looked into the parking queue."""
STAND_DOWN_FOR: Final = timedelta(seconds=15)
"""How long, at least, a due grant is left alone when Wise may not be called: readers get its token meanwhile."""

_OF_OUR_CLIENT: Final = frozenset(OUR_FAULT)
"""For what the breaker is open that says nothing of a question about a personal token: no client is named in it."""


class Word(Enum):
    """How an attempt ended."""

    REFRESHED = "refreshed"
    FRESH = "fresh"
    CONFIRMED = "confirmed"
    HELD = "held"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    GONE = "gone"
    OVERTAKEN = "overtaken"
    BARRED = "barred"
    SUSPENDED = "suspended"
    ON_HOLD = "on_hold"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one try to refresh one grant.

    `retry_at`: when trying again is worth while. `grant`: what the refused acquire showed, where it was refused.
    `code`: why it failed. `calls`: how many calls to Wise it made. SUSPECT: the grant wants to be advanced alone.
    BARRED: Wise may not be called now. SUSPENDED: the grant's tenant or the environment is. ON_HOLD: it may not be
    refreshed, since somebody else does.
    """

    word: Word
    version: int | None = None
    retry_at: datetime | None = None
    code: str | None = None
    grant: Grant | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class RefreshGrant:
    """Advances one grant by one attempt, under its lease, and never without.

    Undisturbed it costs two writes, one Decrypt, at most one GenerateDataKey and one call to Wise; one write more
    where a lane is asked for that call. `sleep` is only called between tries to store an answer. Raises
    `StoreUnavailable` or `CorruptGrant` when the lease could not be asked for, or nobody knows what is suspended;
    whatever happens under the lease is a result.
    """

    grants: GrantStore
    wise: Wise
    sealer: RefreshSealer
    keep: KeepAnswer
    parking: Parking
    breaker: Breaker
    tell: TellPeople
    journal: Journal
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]
    new_id: Callable[[], str]
    suspensions: SuspensionReader

    def __call__(
        self,
        key: GrantKey,
        cause: Cause,
        *,
        alone: bool,
        until: datetime | None = None,
        lane: Lane | None = None,
        drained_at: datetime | None = None,
    ) -> Result:
        """Try once. `alone` says that nothing else would suffer if this grant killed the worker.

        `until` is when the worker ends, where that may come before the attempt's own time is over. `lane` is asked
        for the call to Wise; without one the caller has asked. `drained_at` is when the parking queue last held
        nothing: only who has seen that judges a grant that was in doubt.
        """
        orders = self.suspensions.read()
        if orders.of(key.tenant) is not None:
            return Result(Word.SUSPENDED)
        if lane is not None and isinstance(cause, Due):
            barred = self.breaker.known()
            if barred is not None and not (barred.why in _OF_OUR_CLIENT and self.needs_no_client(key)):
                return self.stand_down(key, barred)
        started = self.clock()
        lease = Lease(self.new_id(), started + self.budgets.lease)
        ends = started + self.budgets.attempt
        attempt = _Attempt(
            self,
            key,
            lease,
            ends=ends if until is None else min(ends, until),
            drained_at=drained_at,
            may_linger=until is None,
            hold=orders.hold_on(key.tenant, started),
        )
        held = attempt.acquire(cause, started, alone=alone)
        if isinstance(held, Result):
            return held
        result = attempt.advance(held, cause, lane)
        result = replace(result, calls=attempt.calls)
        self.journal.record(
            AttemptEnded(
                key=key,
                attempt_id=lease.attempt_id,
                result=result.word.value,
                code=result.code,
                version=result.version,
                takeover=attempt.took_over,
                sends=attempt.sends,
            )
        )
        return result

    def needs_no_client(self, key: GrantKey) -> bool:
        """Tell whether a grant can be advanced without client credentials: of a personal token Wise is only asked.

        Costs a read. Raises what the store raises.
        """
        grant = self.grants.get(key)
        return grant is not None and grant.kind is GrantKind.PERSONAL

    def stand_down(self, key: GrantKey, barred: Barred) -> Result:
        """Let readers have a due grant's living token while Wise may not be called. Raises what the store raises."""
        now = self.clock()
        self.grants.stand_down(key, self.stands_down_until(barred), now, barred.why)
        self.journal.record(DemandBarred(key=key, why=barred.why, until=barred.until))
        return Result(Word.BARRED, retry_at=barred.until, code=barred.why)

    def stands_down_until(self, barred: Barred) -> datetime:
        """Say when a grant that was barred may be refreshed: late enough for a reader to be promised something."""
        return max(barred.until, self.clock() + STAND_DOWN_FOR) + self.budgets.guard


class _Send(Protocol):
    """One call of Wise's token endpoint."""

    def __call__(self, *, within: timedelta) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent to Wise's token endpoint, and what its answer is sealed with.

    `presented` is the refresh token; without one it is the registration code, `reason` says why, where on-call should
    know; or nothing at all, where the token is to be our application's.
    """

    send: _Send
    envelope: ApplicationEnvelope
    seal_refresh_token: Callable[[Secret], Sealed] | None = None
    presented: Secret | None = None
    reason: str | None = None
    of: GrantKind = GrantKind.USER


class _Attempt:
    """One attempt: what it holds and what it has learned.

    `doubt` names the attempt whose request may have killed the stored token, `dead` that Wise said it is dead, and
    `sure` that the stored token was alive when the (only) request left. `foreign`: it was found dead, and no request
    of ours can have killed it. `asked_trace_id` is Wise's of the last question, `foreign_trace_id` of the one that
    found it dead. `may_linger`: the worker has time after it. `hold`: an order about the tenant or everything not to
    refresh it.
    """

    def __init__(
        self,
        use: RefreshGrant,
        key: GrantKey,
        lease: Lease,
        *,
        ends: datetime,
        drained_at: datetime | None,
        may_linger: bool,
        hold: Suspension | None,
    ) -> None:
        self.use = use
        self.key = key
        self.lease = lease
        self.ends = ends
        self.drained_at = drained_at
        self.may_linger = may_linger
        self.hold = hold
        self.lane: Lane | None = None
        self.sends = 0
        self.calls = 0
        self.took_over = False
        self.doubt: str | None = None
        self.dead = False
        self.sure = True
        self.foreign = False
        self.asked_trace_id: str | None = None
        self.foreign_trace_id: str | None = None

    # --- the lease

    def acquire(self, cause: Cause, now: datetime, *, alone: bool) -> Grant | Result:  # noqa: PLR0911 - a table's rows
        answer = self._take(cause, now)
        if isinstance(answer, Done):
            return answer.grant
        stored = answer.grant
        if stored is None:
            return self._begin(cause, now, alone=alone) if self.key == APPLICATION else Result(Word.GONE)
        if stored.attempt_id == self.lease.attempt_id:  # the SDK's own retry met our first try, which had succeeded
            return stored
        if stored.phase is not Phase.ACTIVE:
            return Result(Word.GONE, stored.version, grant=stored)
        if stored.attempt_id is None:
            if stored.in_doubt is not None:
                return Result(Word.IN_DOUBT, stored.version, retry_at=stored.due_at, grant=stored)
            return Result(Word.FRESH, stored.version, grant=stored)
        if not ran_out(stored, now, self.use.budgets):
            return self._held(stored)
        if stored.takeovers + 1 >= ALONE_FROM_TAKEOVER and not alone:
            return Result(Word.SUSPECT, stored.version, grant=stored)
        if not_before(stored, now) > now:
            return Result(Word.IN_DOUBT, stored.version, retry_at=stored.due_at)
        return self._take_over(stored, now)

    def _take(self, cause: Cause, now: datetime) -> Done | Refused:
        """Take the lease. A report has a grant due at once, but not our application's own token while it is in doubt.

        Its `due_at` says then from when on it may be had anew, and a report would overwrite that.
        """
        if self.key != APPLICATION or isinstance(cause, Due):
            return self.use.grants.acquire(self.key, self.lease, cause, now)
        answer = self.use.grants.acquire(self.key, self.lease, Due(), now)
        if isinstance(answer, Done) or answer.grant is None or answer.grant.in_doubt is not None:
            return answer
        return self.use.grants.acquire(self.key, self.lease, cause, now)

    def _begin(self, cause: Cause, now: datetime, *, alone: bool) -> Grant | Result:
        """Let our application's own token begin, on the first question for it: nobody adopts it."""
        self.use.grants.begin(
            Grant(
                key=self.key,
                phase=Phase.ACTIVE,
                version=int(now.timestamp() * 1000),
                refresh_at=now,
                created_at=now,
                due_at=now,
                kind=GrantKind.APPLICATION,
            )
        )
        return self.acquire(cause, now, alone=alone)

    def _held(self, stored: Grant) -> Result:
        until = stored.lease_until or self.use.clock()
        return Result(Word.HELD, stored.version, retry_at=until + self.use.budgets.margin)

    def _take_over(self, stored: Grant, now: datetime) -> Grant | Result:
        takeovers = stored.takeovers + 1
        after = replace(
            stored,
            attempt_id=self.lease.attempt_id,
            lease_until=self.lease.until,
            in_doubt=stored.attempt_id,
            hold_until=now + self.use.budgets.hold,
            takeovers=takeovers,
            last_attempt_at=now,
            due_at=self.lease.until + self.use.budgets.margin + backoff(self.key, takeovers),
        )
        when = When(attempt_id=stored.attempt_id, version=stored.version, phase=Phase.ACTIVE)
        answer = self.use.grants.write(stored, after, when)
        if isinstance(answer, Done):
            self.took_over = True
            return after
        other = answer.grant
        if other is None:
            return Result(Word.GONE)
        if other.attempt_id == self.lease.attempt_id:
            self.took_over = True
            return other
        return self._held(other) if other.attempt_id is not None else Result(Word.FRESH, other.version, grant=other)

    # --- under the lease

    def advance(self, grant: Grant, cause: Cause, lane: Lane | None) -> Result:
        self.doubt = grant.in_doubt
        self.sure = grant.in_doubt is None and not grant.unproven
        self.lane = lane
        if lane is not None:
            barred = self._admitted(lane, cause)
            if barred is not None and not (barred.why in _OF_OUR_CLIENT and grant.kind is GrantKind.PERSONAL):
                return self._stand_down(grant, barred)
        if grant.kind is GrantKind.APPLICATION:
            return self._issue(grant)
        if grant.kind is GrantKind.PERSONAL:
            return self._ask_only(grant)
        if is_on_hold(grant, self.hold, self.use.clock()):
            return self._ask_on_hold(grant, cause)
        if grant.last_error == NO_TIME_TO_REISSUE and grant.reissuable and not self._may_be_parked(grant):
            return self._reissue(grant, None, self._why_dead())
        if grant.in_doubt is not None or isinstance(cause, Rejected):
            settled = self._ask_first(grant)
            if settled is not None:
                return settled
        if grant.refresh_token is None:
            return self._reissue(grant, None, None)
        return self._refresh(grant, grant.refresh_token)

    def _refresh(self, grant: Grant, refresh_token: Sealed) -> Result:
        try:
            self.use.wise.check_credentials()
            envelope = self.use.sealer.prepare(self.key, refresh_token)
        except (KeyUnavailable, Unsealable, WiseSecretUnusable) as error:
            return self._give_back(grant, error.code)
        presented = envelope.refresh_token
        return self._exchange(
            grant,
            _Request(
                partial(self.use.wise.refresh, presented, attempt_id=self.lease.attempt_id),
                envelope,
                envelope.seal_refresh_token,
                presented=presented,
            ),
        )

    def _reissue(self, grant: Grant, dead: GrantInvalid | None, reason: str | None) -> Result:
        """Have new tokens issued for the registration code. `dead`: what Wise has just said of the refresh token.

        `reason`: why it is dead; `None` where there never was one. Until there are new ones the access token of a dead
        refresh token is not worth handing out either.
        """
        self.dead = self.dead or reason is not None
        if grant.registration is None:
            return self._give_back(grant, "nothing-to-present")
        barred = None if dead is None or self.lane is None else self._admit(self.lane, 1)
        if barred is not None:
            return self._give_back(grant, barred.why)
        try:
            self.use.wise.check_credentials()
            envelope = self.use.sealer.prepare_reissue(self.key, grant.registration)
        except Unsealable as error:
            self._trouble(error, "opening a registration")
            if dead is None or reason is None:
                return self._give_back(grant, error.code)
            return self._judge(grant, dead, reason)
        except (KeyUnavailable, WiseSecretUnusable) as error:
            return self._give_back(grant, error.code)
        send = partial(self.use.wise.reissue, envelope.registration, attempt_id=self.lease.attempt_id)
        return self._exchange(grant, _Request(send, envelope, envelope.seal_refresh_token, reason=reason))

    def _issue(self, grant: Grant) -> Result:
        """Have a new application token. Nobody can ask Wise about the one before: a doubt and a report end here."""
        retry_at = not_before(grant, self.use.clock())
        if not self.took_over and retry_at > self.use.clock():  # it came between a reader's look and the lease
            self._release(grant, self._free(grant))
            return Result(Word.IN_DOUBT, grant.version, retry_at)
        try:
            self.use.wise.check_credentials()
            envelope = self.use.sealer.prepare_application(self.key)
        except (KeyUnavailable, WiseSecretUnusable) as error:
            return self._give_back(grant, error.code)
        send = partial(self.use.wise.issue_application_token, attempt_id=self.lease.attempt_id)
        return self._exchange(grant, _Request(send, envelope, of=GrantKind.APPLICATION))

    def _ask_only(self, grant: Grant) -> Result:
        """Ask whether a personal token lives. Nothing is ever sent that could bring another, or be parked."""
        liveness = self._ask(grant)
        if liveness is Liveness.LIVES:
            self.doubt = None
            return self._confirm(grant)
        if liveness is Liveness.DEAD:
            self.dead = True  # where the verdict does not fall, since somebody suspends it, it is in doubt
            outcome = GrantInvalid(status=401, error="invalid_token", trace_id=self.asked_trace_id)
            return self._judge(grant, outcome, PERSONAL_REJECTED)
        return self._give_back(grant, "no-answer" if liveness is Liveness.NO_ANSWER else Unsealable.code)

    def _admitted(self, lane: Lane, cause: Cause) -> Barred | None:
        """Ask for the calls that are foreseen: a question too, where it comes first."""
        asks = self.key != APPLICATION and (self.doubt is not None or isinstance(cause, Rejected))
        return self._admit(lane, 2 if asks else 1)

    def _admit(self, lane: Lane, calls: int) -> Barred | None:
        try:
            return self.use.breaker.admit(lane, min(calls, lane.burst))
        except (StoreUnavailable, CorruptGrant) as error:
            self._trouble(error, "asking for a call to Wise")
            return Barred(self.use.clock(), error.code)

    def _ask_first(self, grant: Grant) -> Result | None:
        """Ask Wise before anything is sent. `None`: go on and refresh."""
        liveness = self._ask(grant)
        if liveness is None or liveness is Liveness.DEAD:
            self.dead = liveness is Liveness.DEAD
            self.foreign = self.dead and self.sure and self.use.clock() < grant.refresh_at
            self.foreign_trace_id = self.asked_trace_id
            self.sure = False
            return None
        if liveness is Liveness.NO_ANSWER:
            return self._give_back(grant, "no-answer")
        self.doubt = None  # the lease outlasted the earlier request: it can no longer be carried out
        self.sure = True
        if grant.refresh_at <= self.use.clock():
            return None
        return self._confirm(grant)

    def _ask_on_hold(self, grant: Grant, cause: Cause) -> Result:
        """Find out whether the token of a grant on hold lives: nothing is sent that could kill it."""
        if grant.in_doubt is None and isinstance(cause, Due):  # it was put on hold while it was being acquired
            after = replace(self._free(grant), due_at=next_due(grant, self.use.clock()))
            self._release(grant, after)
            return Result(Word.ON_HOLD, grant.version)
        liveness = self._ask(grant)
        if liveness is Liveness.NO_ANSWER:  # nobody knows
            return self._give_back(grant, "no-answer")
        if liveness is Liveness.LIVES:
            self.doubt = None
            return self._confirm(grant)
        now = self.use.clock()
        in_doubt = self.doubt or (FOUND_DEAD if liveness is Liveness.DEAD else None)
        after = replace(self._free(grant), in_doubt=in_doubt, last_error=DEAD_ON_HOLD)
        after = replace(after, refresh_at=min(grant.refresh_at, now))  # no promise is left, and it is due when released
        self._release(grant, replace(after, due_at=next_due(after, now)))
        return Result(Word.ON_HOLD, grant.version)

    def _proves(self, grant: Grant) -> Liveness | None:
        """Ask, where a death would prove that a request of ours was carried out: not where it may be old age."""
        expires_at = grant.expires_at
        if expires_at is not None and self.use.clock() >= expires_at - self.use.budgets.margin - self.use.budgets.http:
            return None
        return self._ask(grant)

    def _ask(self, grant: Grant) -> Liveness | None:
        """Ask whether the stored access token lives. `None` where there is none to ask about: refresh then."""
        now = self.use.clock()
        if grant.access_token is None:
            return None
        if grant.kind is not GrantKind.PERSONAL and (grant.expires_at is None or now >= grant.expires_at):
            return None
        left = self.ends - now - self.use.budgets.store
        if left <= timedelta(0):
            return Liveness.NO_ANSWER
        try:
            token = self.use.sealer.open_access_token(self.key, grant.access_token)
        except KeyUnavailable:
            return Liveness.NO_ANSWER
        except Unsealable:
            return None
        self.calls += 1
        said = self.use.wise.ask(token, attempt_id=self.lease.attempt_id, within=min(self.use.budgets.ask, left))
        self.asked_trace_id = said.trace_id
        return said.liveness

    def _exchange(self, grant: Grant, request: _Request) -> Result:
        while True:
            stopped = self._stopped(grant)
            if stopped is not None:
                return self._give_back(grant, stopped)
            left = self.ends - self.use.clock() - self.use.budgets.keep
            if left < self.use.budgets.send_least:
                return self._give_back(grant, "no-time" if request.reason is None else NO_TIME_TO_REISSUE)
            outcome, sent = self._send(request, within=min(self.use.budgets.http, left))
            if isinstance(outcome, Refreshed):  # nothing stands between an answer and its commit
                result = self._commit(grant, request, outcome)
                self.use.journal.record(sent)
                self.use.breaker.healthy(self.lease.attempt_id)
                return result
            self.use.journal.record(sent)
            ended = self._ended(grant, request, outcome)
            if ended is not None:
                return ended

    def _stopped(self, grant: Grant) -> str | None:
        """Say why nothing may be sent: an order to suspend or hold may have become known while this attempt went on."""
        try:
            orders = self.use.suspensions.read()
            if orders.of(self.key.tenant) is not None:
                return Word.SUSPENDED.value
            now = self.use.clock()
            return Word.ON_HOLD.value if is_on_hold(grant, orders.hold_on(self.key.tenant, now), now) else None
        except (StoreUnavailable, CorruptGrant) as error:
            self._trouble(error, "asking what is suspended")
            return error.code

    def _ended(self, grant: Grant, request: _Request, outcome: Outcome) -> Result | None:
        """Do what the outcome table says of an answer without tokens. `None`: send once more.

        The breaker hears of it when the grant's own writes are done: it may write and publish too.
        """
        breaker, mine = self.use.breaker, self.lease.attempt_id
        match outcome:
            case GrantInvalid():
                result = self._dead(grant, request, outcome)
                breaker.healthy(mine)
                return result if result is not None else self._reissue(grant, outcome, self._why_dead())
            case ClientRefused() | WeAreWrong():
                return self._refused(grant, outcome)
            case ServerFault() | Unknown():
                settled = self._unsettled(grant, request, outcome)
                if settled is None:
                    return None
                result = settled
            case NotSent():
                result = self._give_back(grant, outcome.reason)
            case Throttled():
                result = self._give_back(grant, "throttled", outcome.retry_after)
            case _:
                assert_never(outcome)  # type: ignore[arg-type]  # a refreshed one was committed
        self.calls += breaker.unhealthy(outcome, mine, key=self.key, ask=self.may_linger)
        return result

    def _unsettled(self, grant: Grant, request: _Request, outcome: ServerFault | Unknown) -> Result | None:
        """Nobody knows whether it was carried out: only the death of a token that surely lived proves it.

        A reissue leaves the access token alive, so that of one nothing is proved; and of our application's own token
        nobody can ask.
        """
        if request.presented is None:
            self.doubt = self.lease.attempt_id
            if isinstance(outcome, ServerFault):
                return self._give_back(grant, "server_fault")
            return self._leave(grant, outcome.reason)
        if isinstance(outcome, ServerFault):
            liveness = self._proves(grant)
            if liveness is Liveness.LIVES:
                return self._give_back(grant, "server_fault")
            self.doubt = self.lease.attempt_id
            if liveness is not Liveness.DEAD or self.sends >= _SENDS:
                return self._give_back(grant, "server_fault")
        else:
            self.doubt = self.lease.attempt_id
            first = self.sends == 1 and self.sure
            if not first or self._proves(grant) is not Liveness.DEAD:
                return self._leave(grant, outcome.reason)
        self.sure = False
        return None

    def _refused(self, grant: Grant, outcome: ClientRefused | WeAreWrong) -> Result | None:
        """Nothing was carried out. Wise says whose fault it is: our client's, or this grant's alone."""
        if grant.kind is GrantKind.APPLICATION:
            return self._client_refused(grant, outcome)
        check = self._check_client(self.use.breaker.wise)
        again = isinstance(check, ClientAccepted) and check.changed and self.sends < _SENDS
        if again:
            return None
        if isinstance(check, ClientAccepted) and not check.changed:
            result = self._hold(grant, outcome, HELD_FOR)
        elif isinstance(check, ClientRefused | WeAreWrong) and self._refused_alone(grant, outcome):
            result = self._hold(grant, outcome, None)
        else:
            result = self._give_back(grant, name_of(outcome))
        self.use.breaker.client_in_question(outcome, check, self.lease.attempt_id, key=self.key)
        return result

    def _refused_alone(self, grant: Grant, outcome: ClientRefused | WeAreWrong) -> bool:
        """Tell whether a grant is refused again and again and no other is, or no other is there.

        Whose fault it is nobody knows then but on-call. A second one that is refused opens the breaker instead.
        """
        again = grant.last_error == name_of(outcome) and grant.failures + 1 >= REFUSED_ALONE_FROM
        return again and not self.use.breaker.is_open

    def _client_refused(self, grant: Grant, outcome: ClientRefused | WeAreWrong) -> Result | None:
        """Wise issues no application token: that stops nothing else, since a client may do with users' grants alone.

        The secret may have been changed, so Wise is asked; and that question, too, may have ended the token before.
        """
        check = self._check_client(self.use.wise)
        if isinstance(check, ClientAccepted | ServerFault | Unknown):
            self.doubt = self.lease.attempt_id
        match check:
            case ClientAccepted(changed=True) if self.sends < _SENDS:
                return None
            case ClientAccepted() | ClientRefused() | WeAreWrong():
                return self._hold(grant, outcome, HELD_FOR)
            case Unknown():
                return self._leave(grant, name_of(outcome))
            case _:
                return self._give_back(grant, name_of(outcome))

    def _check_client(self, asker: ClientAsker) -> ClientCheck | None:
        """Ask Wise about our client. `None`: no time."""
        left = self.ends - self.use.clock() - self.use.budgets.store
        if left < self.use.budgets.connect:
            return None
        self.calls += 1
        within = min(self.use.budgets.http, left)
        return asker.settle_client(attempt_id=self.lease.attempt_id, within=within)

    def _send(self, request: _Request, *, within: timedelta) -> tuple[Outcome, Sent]:
        began = self.use.clock()
        self.calls += 1
        outcome = request.send(within=within)
        if not isinstance(outcome, NotSent):
            self.sends += 1
        sent = Sent(
            key=self.key,
            attempt_id=self.lease.attempt_id,
            outcome=name_of(outcome),
            status=outcome.status,
            error=outcome.error,
            trace_id=outcome.trace_id,
            seconds=(self.use.clock() - began).total_seconds(),
            reissue=request.presented is None and request.of is GrantKind.USER,
        )
        return outcome, sent

    # --- giving the lease back

    def _free(self, grant: Grant) -> Grant:
        return replace(grant, attempt_id=None, lease_until=None, takeovers=0)

    def _confirm(self, grant: Grant) -> Result:
        """Wise says that the token lives and nothing is due: the doubt is over."""
        after = replace(self._free(grant), in_doubt=None, hold_until=None, failures=0, last_error=None)
        after = replace(after, unproven=False)
        after = replace(after, due_at=next_due(after, self.use.clock()))
        if self._release(grant, after):
            return Result(Word.CONFIRMED, grant.version)
        return Result(Word.OVERTAKEN, grant.version)

    def _give_back(self, grant: Grant, code: str, retry_after: timedelta | None = None) -> Result:
        """Give the lease back without new tokens. A doubt stays; a promise is never brought forward."""
        after, retry_at = self._unrefreshed(grant, code, retry_after)
        self._release(grant, after)
        return self._failed(after, retry_at, code)

    def _unrefreshed(self, grant: Grant, code: str, retry_after: timedelta | None) -> tuple[Grant, datetime]:
        now = self.use.clock()
        failures = grant.failures + 1
        retry_at = now + backoff(self.key, failures, retry_after)
        in_doubt = self.doubt or (FOUND_DEAD if self.dead else None)
        after = replace(self._free(grant), failures=failures, last_error=code, in_doubt=in_doubt)
        if in_doubt is None:
            after = replace(after, hold_until=None, refresh_at=max(grant.refresh_at, retry_at))
            return replace(after, due_at=next_due(after, now)), retry_at
        if code == GRANT_INVALID and grant.hold_until is not None:
            retry_at = max(retry_at, grant.hold_until + DRAINED_WITHIN)
        return replace(after, due_at=retry_at), retry_at

    def _failed(self, after: Grant, retry_at: datetime, code: str) -> Result:
        word = Word.FAILED if after.in_doubt is None else Word.IN_DOUBT
        return Result(word, after.version, retry_at, code)

    def _hold(self, grant: Grant, outcome: ClientRefused | WeAreWrong, at_least: timedelta | None) -> Result:
        """Leave a grant alone that Wise refuses although it accepts our client, or no other grant; tell on-call once.

        It is left alone for as long as any grant that fails, and `at_least` so long.
        """
        code = name_of(outcome)
        after, retry_at = self._unrefreshed(grant, code, at_least)
        now, told = self.use.clock(), grant.alert
        taken = told is not None and (told.reminder or (told.published_at or told.claimed_until or now) > now)
        if told is not None and told.kind is AlertKind.HELD and taken:
            told = None  # somebody is telling it, or the sweep tells it once more
        elif told is None or told.kind is not AlertKind.HELD or told.published_at is None:
            if told is not None and told.kind is AlertKind.REFRESH_TOKEN_EXPIRING:
                after = replace(after, expiry_told=None)  # it is not over: it is told again once this is
            told = self._alert(grant, AlertKind.HELD, code, outcome)
            after = replace(after, alert=told)
            if after.in_doubt is None:
                after = replace(after, due_at=min(after.due_at or retry_at, told.claimed_until or retry_at))
        else:
            told = None
        if self._release(grant, after) and told is not None:
            self.use.tell.publish(after)
        return self._failed(after, retry_at, code)

    def _stand_down(self, grant: Grant, barred: Barred) -> Result:
        """Give the lease back since Wise may not be called: nothing went wrong with the grant."""
        now, after = self.use.clock(), self._free(grant)
        if grant.in_doubt is not None:
            after = replace(after, due_at=max(barred.until, now))
        else:
            lives = grant.expires_at is not None and now < grant.expires_at - self.use.budgets.guard
            if lives and grant.refresh_at <= now:
                after = replace(after, refresh_at=self.use.stands_down_until(barred), last_error=barred.why)
            after = replace(after, due_at=next_due(after, now))
        self._release(grant, after)
        self.use.journal.record(DemandBarred(key=self.key, why=barred.why, until=barred.until))
        return Result(Word.BARRED, grant.version, barred.until, barred.why)

    def _alert(self, grant: Grant, kind: AlertKind, reason: str, outcome: Outcome) -> Alert:
        """An alert that this worker has claimed, to be written with the change that it tells of."""
        now = self.use.clock()
        return Alert(
            incident_id=incident_of(grant, kind),
            kind=kind,
            reason=reason,
            raised_at=now,
            attempt_id=self.lease.attempt_id,
            trace_id=outcome.trace_id,
            claimed_until=now + ALERT_CLAIM,
        ).in_place_of(grant.alert)

    def _leave(self, grant: Grant, code: str) -> Result:
        """Leave the lease to run out: nobody may send again before Wise can no longer carry out our request.

        The doubt is on record, and so is that this worker lives: the next takeover is not one from the dead.
        """
        failures = grant.failures + 1
        due_at = self.lease.until + self.use.budgets.margin
        if failures > 1:
            due_at += backoff(self.key, failures)
        after = replace(grant, in_doubt=self.doubt, failures=failures, last_error=code, takeovers=0, due_at=due_at)
        try:
            self.use.grants.write(grant, after, When(attempt_id=self.lease.attempt_id, version=grant.version))
        except (StoreUnavailable, CorruptGrant) as error:
            self._trouble(error, "leaving a lease")
        return Result(Word.IN_DOUBT, grant.version, self.lease.until + self.use.budgets.margin, code)

    def _release(self, grant: Grant, after: Grant) -> bool:
        """Write the grant without our lease. If the store gives no answer, the lease runs out by itself."""
        mine = self.lease.attempt_id
        when = When(attempt_id=mine, version=grant.version, in_doubt=grant.in_doubt)
        try:
            answer = self.use.grants.write(grant, after, when)
            if isinstance(answer, Done):
                return True
            stored = answer.grant
            if stored is None or stored.attempt_id != mine:
                return stored is not None and stored.attempt_id is None and stored.version == grant.version
            # a late answer of an earlier attempt was stored under our lease, in doubt: only the lease is ours to give
            self.use.grants.write(
                stored,
                replace(self._free(stored), due_at=not_before(stored, self.use.clock())),
                When(attempt_id=mine, version=stored.version),
            )
        except (StoreUnavailable, CorruptGrant) as error:
            self._trouble(error, "giving a lease back")
        return False

    # --- verdicts and answers

    def _dead(self, grant: Grant, request: _Request, outcome: GrantInvalid) -> Result | None:
        """Wise says that what was presented is dead. `None`: there is a registration code to present."""
        if self._may_be_parked(grant):
            self.doubt = self.doubt or grant.in_doubt
            return self._give_back(grant, GRANT_INVALID)
        if request.presented is None:
            lost = may_have_lost(self.doubt)
            return self._judge(grant, outcome, OUTCOME_UNKNOWN if lost else RECLAIMED, spends_code=True)
        return None if grant.reissuable else self._judge(grant, outcome, self._why_dead())

    def _why_dead(self) -> str:
        return OUTCOME_UNKNOWN if may_have_lost(self.doubt) else "invalid_grant"

    def _judge(self, grant: Grant, outcome: GrantInvalid, reason: str, *, spends_code: bool = False) -> Result:
        """The grant needs its user. It counts only for the tokens, or the code, that are still stored.

        One that was tried again since Wise had opened its account, and is still dead, is told only once.
        """
        told, kind = grant.alert, AlertKind.REAUTHORIZATION_REQUIRED
        again = told is not None and told.incident_id == incident_of(grant, kind) and told.published_at is not None
        alert = told if again and told is not None else self._alert(grant, kind, reason, outcome)
        after = replace(
            self._free(grant),
            phase=Phase.REAUTHORIZATION_REQUIRED,
            in_doubt=None,
            hold_until=None,
            failures=0,
            last_error=reason,
            alert=alert,
            due_at=alert.claimed_until,
        )
        if again:
            after = replace(after, due_at=next_due(after, self.use.clock()))
        when = When(attempt_id=self.lease.attempt_id, refresh_token=grant.refresh_token, phase=Phase.ACTIVE)
        if spends_code:
            after = replace(after, registration_spent_at=self.use.clock())
            when = replace(when, registration=grant.registration)
        while True:
            try:
                answer = self.use.grants.write(grant, after, when)
            except (StoreUnavailable, CorruptGrant) as error:
                if self._no_more_tries(error, "storing a verdict"):
                    return Result(Word.IN_DOUBT, grant.version, self.lease.until + self.use.budgets.margin, error.code)
                continue
            break
        stored = answer.grant
        # a refusal that shows our own alert is a success that the SDK's retry hid
        ours = stored is not None and stored.alert == alert and stored.phase is Phase.REAUTHORIZATION_REQUIRED
        if isinstance(answer, Done) or ours:
            if not again:
                self.use.tell.publish(after)
            self.use.breaker.died(self.lease.attempt_id, outcome.trace_id)
            return Result(Word.REAUTHORIZATION_REQUIRED, grant.version, code=reason)
        if stored is not None and stored.attempt_id == self.lease.attempt_id:
            in_doubt = stored.in_doubt or self.doubt or (FOUND_DEAD if self.dead else None)
            self._release(stored, replace(self._free(stored), in_doubt=in_doubt, due_at=self.use.clock()))
        return Result(Word.OVERTAKEN if stored is not None else Word.GONE, grant.version)

    def _may_be_parked(self, grant: Grant) -> bool:
        """Tell whether an answer of the attempt that left the doubt may still find its way into the store."""
        if grant.in_doubt is None or grant.hold_until is None:
            return False
        if self.doubt is None and grant.registration is None:  # a living token says nothing about a reissue
            return False
        return self.drained_at is None or self.drained_at < grant.hold_until

    def _commit(self, grant: Grant, request: _Request, outcome: Refreshed) -> Result:
        """Store an answer. It is tried until the attempt's time is over; the queue takes what no write takes."""
        envelope, tokens = request.envelope, outcome.tokens
        foreign = self.foreign and request.presented is not None
        changed = tokens.refresh_token is not None and tokens.refresh_token != request.presented
        answer = SealedAnswer(
            key=self.key,
            attempt_id=self.lease.attempt_id,
            base_version=grant.version,
            access_token=envelope.seal_access_token(tokens.access_token),
            refresh_token=(
                request.seal_refresh_token(tokens.refresh_token)
                if changed and tokens.refresh_token and request.seal_refresh_token
                else None
            ),
            issued_at=tokens.issued_at,
            expires_at=tokens.expires_at,
            refresh_expires_at=tokens.refresh_expires_at,
            scope=tokens.scope,
            reissued=request.reason,
            foreign=foreign,
            trace_id=self.foreign_trace_id if foreign else outcome.trace_id,
        )
        parked = False
        while True:
            try:
                kept = self.use.keep(answer, grant)
            except (StoreUnavailable, CorruptGrant) as error:
                parked = parked or self._park(answer)
                if not self._no_more_tries(error, "storing an answer"):
                    continue
                if not parked:
                    self.use.journal.record(AnswerLost(key=self.key, attempt_id=self.lease.attempt_id))
                code = "answer-parked" if parked else "answer-lost"
                return Result(Word.IN_DOUBT, grant.version, self.lease.until + self.use.budgets.margin, code)
            break
        stored = kept.grant
        if stored is None or kept.place is Place.OVERTAKEN:
            return Result(Word.OVERTAKEN, stored.version if stored else None)
        if kept.place is Place.LATE:
            return Result(Word.IN_DOUBT, stored.version, stored.due_at, "answer-late", grant)
        return Result(Word.REFRESHED, stored.version)

    def _park(self, answer: SealedAnswer) -> bool:
        try:
            self.use.parking.park(answer)
        except ParkingUnavailable as error:
            self._trouble(error, "parking an answer")
            return False
        self.use.journal.record(AnswerParked(key=self.key, attempt_id=self.lease.attempt_id))
        return True

    def _no_more_tries(self, error: RotatorError, doing: str) -> bool:
        self._trouble(error, doing)
        if self.use.clock() + _STORE_PAUSE + self.use.budgets.store > self.ends:
            return True
        self.use.sleep(_STORE_PAUSE)
        return False

    def _trouble(self, error: RotatorError, doing: str) -> None:
        self.use.journal.record(Trouble(key=self.key, code=error.code, detail=doing))
