"""Refreshing one grant: acquire, ask if in doubt, send, commit. The protocol of docs/protocol.md, rule by rule."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, assert_never

from token_rotator.domain.errors import (
    CorruptGrant,
    KeyUnavailable,
    RotatorError,
    StoreUnavailable,
    Unsealable,
    WiseSecretUnusable,
)
from token_rotator.domain.grant import Alert, AlertKind, Phase
from token_rotator.domain.lease import Lease, ran_out
from token_rotator.domain.outcome import (
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
from token_rotator.domain.policy import ALERT_CLAIM, backoff, next_due, refresh_at

from .journal import AnswerLate, AnswerLost, AttemptEnded, Sent, Trouble
from .ports import Done, Rejected, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.outcome import Outcome
    from token_rotator.domain.tokens import TokenSet

    from .journal import Journal
    from .ports import Cause, Envelope, GrantStore, RefreshSealer, Wise
    from .tell_people import TellPeople

ALONE_FROM_TAKEOVER: Final = 3
"""A grant whose workers died this often is advanced alone: it may be what kills them."""
_STORE_PAUSE: Final = timedelta(milliseconds=200)
_SENDS: Final = 2
"""How many requests to the token endpoint one attempt may make."""


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
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one try to refresh one grant.

    `retry_at`: when trying again is worth while. `grant`: what the refused acquire showed, where it was refused.
    `code`: why it failed. SUSPECT: the grant wants to be advanced alone.
    """

    word: Word
    version: int | None = None
    retry_at: datetime | None = None
    code: str | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class RefreshGrant:
    """Advances one grant by one attempt, under its lease, and never without.

    Undisturbed it costs two writes, one Decrypt, at most one GenerateDataKey and one call to Wise. `sleep` is only
    called between tries to store an answer. Raises `StoreUnavailable` or `CorruptGrant` when the lease could not be
    asked for; whatever happens under the lease is a result.
    """

    grants: GrantStore
    wise: Wise
    sealer: RefreshSealer
    tell: TellPeople
    journal: Journal
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]
    new_id: Callable[[], str]

    def __call__(self, key: GrantKey, cause: Cause, *, alone: bool, until: datetime | None = None) -> Result:
        """Try once. `alone` says that nothing else would suffer if this grant killed the worker.

        `until` is when the worker ends, where that may come before the attempt's own time is over.
        """
        started = self.clock()
        lease = Lease(self.new_id(), started + self.budgets.lease)
        ends = started + self.budgets.attempt
        attempt = _Attempt(self, key, lease, ends=ends if until is None else min(ends, until))
        held = attempt.acquire(cause, started, alone=alone)
        if isinstance(held, Result):
            return held
        result = attempt.advance(held, cause)
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


class _Attempt:
    """One attempt: what it holds and what it has learned.

    `doubt` names the attempt whose request may have killed the stored token, `dead` that Wise said it is dead, and
    `sure` that the stored token was alive when the (only) request left.
    """

    def __init__(self, use: RefreshGrant, key: GrantKey, lease: Lease, *, ends: datetime) -> None:
        self.use = use
        self.key = key
        self.lease = lease
        self.ends = ends
        self.sends = 0
        self.took_over = False
        self.doubt: str | None = None
        self.dead = False
        self.sure = True

    # --- the lease

    def acquire(self, cause: Cause, now: datetime, *, alone: bool) -> Grant | Result:  # noqa: PLR0911 - a table's rows
        answer = self.use.grants.acquire(self.key, self.lease, cause, now)
        if isinstance(answer, Done):
            return answer.grant
        stored = answer.grant
        if stored is None:
            return Result(Word.GONE)
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
        return self._take_over(stored, now)

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

    def advance(self, grant: Grant, cause: Cause) -> Result:
        self.doubt = grant.in_doubt
        self.sure = grant.in_doubt is None
        if grant.in_doubt is not None or isinstance(cause, Rejected):
            settled = self._ask_first(grant)
            if settled is not None:
                return settled
        try:
            self.use.wise.check_credentials()
            envelope = self.use.sealer.prepare(self.key, grant.refresh_token)
        except (KeyUnavailable, Unsealable, WiseSecretUnusable) as error:
            return self._give_back(grant, error.code)
        return self._refresh(grant, envelope)

    def _ask_first(self, grant: Grant) -> Result | None:
        """Ask Wise before anything is sent. `None`: go on and refresh."""
        liveness = self._ask(grant)
        if liveness is None or liveness is Liveness.DEAD:
            self.sure = False
            self.dead = liveness is Liveness.DEAD
            return None
        if liveness is Liveness.NO_ANSWER:
            return self._give_back(grant, "no-answer")
        self.doubt = None  # the lease outlasted the earlier request: it can no longer be carried out
        self.sure = True
        if grant.refresh_at <= self.use.clock():
            return None
        return self._confirm(grant)

    def _proves(self, grant: Grant) -> Liveness | None:
        """Ask, where a death would prove that a request of ours was carried out: not where it may be old age."""
        expires_at = grant.expires_at
        if expires_at is not None and self.use.clock() >= expires_at - self.use.budgets.margin - self.use.budgets.http:
            return None
        return self._ask(grant)

    def _ask(self, grant: Grant) -> Liveness | None:
        """Ask whether the stored access token lives. `None` where there is none to ask about: refresh then."""
        now = self.use.clock()
        if grant.access_token is None or grant.expires_at is None or now >= grant.expires_at:
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
        return self.use.wise.ask(token, attempt_id=self.lease.attempt_id, within=min(self.use.budgets.ask, left))

    def _refresh(  # noqa: C901, PLR0911, PLR0912 - the outcome table, row by row
        self, grant: Grant, envelope: Envelope
    ) -> Result:
        while True:
            left = self.ends - self.use.clock() - self.use.budgets.store
            if left < self.use.budgets.send_least:
                return self._give_back(grant, "no-time")
            outcome, sent = self._send(envelope, within=min(self.use.budgets.http, left))
            if isinstance(outcome, Refreshed):  # nothing stands between an answer and its commit
                result = self._commit(grant, envelope, outcome.tokens)
                self.use.journal.record(sent)
                return result
            self.use.journal.record(sent)
            match outcome:
                case GrantInvalid():
                    return self._judge(grant, outcome)
                case NotSent():
                    return self._give_back(grant, outcome.reason)
                case Throttled():
                    return self._give_back(grant, "throttled", outcome.retry_after)
                case ClientRefused() | WeAreWrong():
                    return self._give_back(grant, name_of(outcome))
                case ServerFault():
                    liveness = self._proves(grant)
                    if liveness is Liveness.LIVES:
                        return self._give_back(grant, "server_fault")
                    self.doubt = self.lease.attempt_id
                    if liveness is not Liveness.DEAD or self.sends >= _SENDS:
                        return self._give_back(grant, "server_fault")
                case Unknown():
                    self.doubt = self.lease.attempt_id
                    first = self.sends == 1 and self.sure
                    if not first or self._proves(grant) is not Liveness.DEAD:
                        return self._leave(grant, outcome.reason)
                case _:
                    assert_never(outcome)
            self.sure = False

    def _send(self, envelope: Envelope, *, within: timedelta) -> tuple[Outcome, Sent]:
        began = self.use.clock()
        outcome = self.use.wise.refresh(envelope.refresh_token, attempt_id=self.lease.attempt_id, within=within)
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
        )
        return outcome, sent

    # --- giving the lease back

    def _free(self, grant: Grant) -> Grant:
        return replace(grant, attempt_id=None, lease_until=None, takeovers=0)

    def _confirm(self, grant: Grant) -> Result:
        """Wise says that the token lives and nothing is due: the doubt is over."""
        after = replace(self._free(grant), in_doubt=None, hold_until=None, failures=0, last_error=None)
        after = replace(after, due_at=next_due(after, self.use.clock()))
        if self._release(grant, after):
            return Result(Word.CONFIRMED, grant.version)
        return Result(Word.OVERTAKEN, grant.version)

    def _give_back(self, grant: Grant, code: str, retry_after: timedelta | None = None) -> Result:
        """Give the lease back without new tokens. A doubt stays; a promise is never brought forward."""
        now = self.use.clock()
        failures = grant.failures + 1
        retry_at = now + backoff(self.key, failures, retry_after)
        in_doubt = self.doubt or (self.lease.attempt_id if self.dead else None)
        after = replace(self._free(grant), failures=failures, last_error=code, in_doubt=in_doubt)
        if in_doubt is None:
            after = replace(after, hold_until=None, refresh_at=max(grant.refresh_at, retry_at))
            after = replace(after, due_at=next_due(after, now))
        else:
            held_back = grant.hold_until if code == "grant_invalid" else None
            retry_at = max(retry_at, held_back or retry_at)
            after = replace(after, due_at=retry_at)
        self._release(grant, after)
        word = Word.FAILED if in_doubt is None else Word.IN_DOUBT
        return Result(word, grant.version, retry_at, code)

    def _leave(self, grant: Grant, code: str) -> Result:
        """Leave the lease to run out: nobody may send again before Wise can no longer carry out our request.

        The doubt is on record, and so is that this worker lives: the next takeover is not one from the dead.
        """
        after = replace(grant, in_doubt=self.doubt, failures=grant.failures + 1, last_error=code, takeovers=0)
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
                replace(self._free(stored), due_at=self.use.clock()),
                When(attempt_id=mine, version=stored.version),
            )
        except (StoreUnavailable, CorruptGrant) as error:
            self._trouble(error, "giving a lease back")
        return False

    # --- verdicts and answers

    def _judge(self, grant: Grant, outcome: GrantInvalid) -> Result:
        """Wise says that the refresh token is dead. It counts only for the token that is still stored."""
        now = self.use.clock()
        inherited = grant.in_doubt is not None and self.doubt is not None
        if inherited and grant.hold_until is not None and now < grant.hold_until:
            return self._give_back(grant, "grant_invalid")
        reason = "invalid_grant" if self.doubt is None else "outcome_unknown"
        alert = Alert(
            incident_id=_incident(grant, AlertKind.REAUTHORIZATION_REQUIRED),
            kind=AlertKind.REAUTHORIZATION_REQUIRED,
            reason=reason,
            raised_at=now,
            attempt_id=self.lease.attempt_id,
            trace_id=outcome.trace_id,
            claimed_until=now + ALERT_CLAIM,
        )
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
        when = When(attempt_id=self.lease.attempt_id, refresh_token=grant.refresh_token, phase=Phase.ACTIVE)
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
        if isinstance(answer, Done) or (stored is not None and stored.alert == alert):
            self.use.tell.publish(after)
            return Result(Word.REAUTHORIZATION_REQUIRED, grant.version, code=reason)
        if stored is not None and stored.attempt_id == self.lease.attempt_id:
            self._release(stored, replace(self._free(stored), due_at=self.use.clock()))
        return Result(Word.OVERTAKEN if stored is not None else Word.GONE, grant.version)

    def _commit(self, grant: Grant, envelope: Envelope, tokens: TokenSet) -> Result:
        """Store an answer. It is tried until the attempt's time is over, and never dropped unseen."""
        access_token = envelope.seal_access_token(tokens.access_token)
        changed = tokens.refresh_token is not None and tokens.refresh_token != envelope.refresh_token
        sealed = envelope.seal_refresh_token(tokens.refresh_token) if changed and tokens.refresh_token else None

        def with_tokens(stored: Grant) -> Grant:
            version = stored.version + 1
            return replace(
                stored,
                access_token=access_token,
                refresh_token=sealed or stored.refresh_token,
                version=version,
                issued_at=tokens.issued_at,
                expires_at=tokens.expires_at,
                refresh_expires_at=tokens.refresh_expires_at or stored.refresh_expires_at,
                scope=tokens.scope or stored.scope,
                refresh_at=refresh_at(self.key, version, tokens.issued_at, tokens.expires_at),
                failures=0,
                last_error=None,
            )

        before = grant
        after = replace(self._free(with_tokens(grant)), in_doubt=None, hold_until=None)
        after = replace(after, due_at=next_due(after, self.use.clock()))
        when = When(attempt_id=self.lease.attempt_id, version=grant.version)
        while True:
            try:
                answer = self.use.grants.write(before, after, when)
            except (StoreUnavailable, CorruptGrant) as error:
                if self._no_more_tries(error, "storing an answer"):
                    self.use.journal.record(AnswerLost(key=self.key, attempt_id=self.lease.attempt_id))
                    return Result(
                        Word.IN_DOUBT,
                        grant.version,
                        self.lease.until + self.use.budgets.margin,
                        "answer-lost",
                    )
                continue
            if isinstance(answer, Done):
                return self._stored(grant, after)
            stored = answer.grant
            if stored is not None and stored.access_token == access_token:  # the SDK's retry hid our own success
                return self._stored(grant, stored)
            if stored is None or (stored.attempt_id != self.lease.attempt_id and stored.version != grant.version):
                self.use.journal.record(AnswerLate(key=self.key, attempt_id=self.lease.attempt_id, kept=False))
                return Result(Word.OVERTAKEN, stored.version if stored else None)
            before, after = stored, self._late(stored, with_tokens(stored))
            when = When(attempt_id=stored.attempt_id, version=stored.version, phase=stored.phase)

    def _late(self, stored: Grant, after: Grant) -> Grant:
        """Make an overtaken answer the stored one, in doubt: nobody knows in which order Wise carried things out."""
        now = self.use.clock()
        after = replace(after, in_doubt=self.lease.attempt_id, due_at=now)
        if stored.attempt_id == self.lease.attempt_id:
            after = self._free(after)
        elif stored.attempt_id is not None:
            after = replace(after, due_at=(stored.lease_until or now) + self.use.budgets.margin)
        if stored.phase is Phase.REAUTHORIZATION_REQUIRED:
            after = replace(after, phase=Phase.ACTIVE, alert=None)
        return after

    def _stored(self, grant: Grant, after: Grant) -> Result:
        if after.in_doubt is None:
            return Result(Word.REFRESHED, after.version)
        self.use.journal.record(AnswerLate(key=self.key, attempt_id=self.lease.attempt_id, kept=True))
        return Result(Word.IN_DOUBT, after.version, after.due_at, "answer-late", grant)

    def _no_more_tries(self, error: RotatorError, doing: str) -> bool:
        self._trouble(error, doing)
        if self.use.clock() + _STORE_PAUSE + self.use.budgets.store > self.ends:
            return True
        self.use.sleep(_STORE_PAUSE)
        return False

    def _trouble(self, error: RotatorError, doing: str) -> None:
        self.use.journal.record(Trouble(key=self.key, code=error.code, detail=doing))


def _incident(grant: Grant, kind: AlertKind) -> str:
    """Name one incident: the same for whoever finds it, and new with each version."""
    return hashlib.sha256(f"{grant.key}|{grant.version}|{kind}".encode()).hexdigest()[:32]
