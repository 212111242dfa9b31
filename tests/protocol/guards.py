"""The protocol with one rule taken out, to see that the explorer and the counterexamples would notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.fakes import rotator
from tests.fakes.grants import InMemoryGrants, holds
from token_rotator.domain import policy as rules
from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.lease import Budgets, Lease
from token_rotator.domain.outcome import Liveness, ServerFault, Unknown
from token_rotator.domain.suspension import Suspension, Suspensions
from token_rotator.service import adopt_grant, refresh_grant, serve_token, suspend_grant
from token_rotator.service.adopt_grant import AdoptGrant, Patience
from token_rotator.service.keep_answer import KeepAnswer, Kept, Place
from token_rotator.service.ports import IGNORED, Cause, Done, Refused, Rejected, When
from token_rotator.service.refresh_grant import Result, _Attempt

Guard = Callable[[pytest.MonkeyPatch], None]


def all_of(*guards: Guard) -> Guard:
    """Take several rules out, where one alone is covered by another."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        for guard in guards:
            guard(patch)

    return remove


# --- acquiring


def _acquire(may: Callable[[Grant, Cause, datetime], bool], *, notes_due: bool = True) -> Guard:
    def remove(patch: pytest.MonkeyPatch) -> None:
        def acquire(self: InMemoryGrants, key: GrantKey, lease: Lease, cause: Cause, now: datetime) -> Done | Refused:
            stored = self.items.get(key)
            if stored is None:
                return Refused(None)
            after = replace(stored, attempt_id=lease.attempt_id, lease_until=lease.until, last_attempt_at=now)
            if isinstance(cause, Rejected) and notes_due:
                after = replace(after, due_at=now)
            return self._write(key, after, ok=stored.phase is Phase.ACTIVE and may(stored, cause, now))

        patch.setattr(InMemoryGrants, "acquire", acquire)

    return remove


def _due(stored: Grant, cause: Cause, now: datetime) -> bool:
    doubted = stored.in_doubt is not None and (stored.due_at is None or stored.due_at <= now)
    rejected = isinstance(cause, Rejected) and cause.version == stored.version
    return stored.refresh_at <= now or doubted or rejected


acquire_what_is_held = _acquire(_due)
acquire_whatever_is_in_the_index = _acquire(
    lambda stored, cause, now: (
        stored.attempt_id is None and (_due(stored, cause, now) or (stored.due_at is not None and stored.due_at <= now))
    )
)
report_without_a_note = _acquire(
    lambda stored, cause, now: stored.attempt_id is None and _due(stored, cause, now), notes_due=False
)


def take_over_only_what_is_due(patch: pytest.MonkeyPatch) -> None:
    take_over = _Attempt._take_over

    def careful(self: _Attempt, stored: Grant, now: datetime) -> Grant | Result:
        return take_over(self, stored, now) if stored.refresh_at <= now else self._held(stored)

    patch.setattr(_Attempt, "_take_over", careful)


def never_take_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(refresh_grant, "ran_out", lambda *_: False)


def lease_as_long_as_the_attempt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budgets, "lease", property(lambda self: self.attempt))


def no_margin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budgets, "margin", property(lambda _: timedelta(0)))


def no_guard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budgets, "guard", property(lambda _: timedelta(0)))


# --- doubt


def forget_doubt_at_takeover(patch: pytest.MonkeyPatch) -> None:
    take_over, write = _Attempt._take_over, InMemoryGrants.write

    def forgetful(self: InMemoryGrants, before: Grant, after: Grant, when: When) -> Done | Refused:
        if after.takeovers > before.takeovers:
            after = replace(after, in_doubt=None, hold_until=None)
        return write(self, before, after, when)

    def careless(self: _Attempt, stored: Grant, now: datetime) -> Grant | Result:
        taken = take_over(self, stored, now)
        return replace(taken, in_doubt=None, hold_until=None) if isinstance(taken, Grant) else taken

    patch.setattr(InMemoryGrants, "write", forgetful)
    patch.setattr(_Attempt, "_take_over", careless)


def forget_own_doubt(patch: pytest.MonkeyPatch) -> None:
    unrefreshed = _Attempt._unrefreshed

    def forgetful(self: _Attempt, grant: Grant, code: str, retry_after: timedelta | None) -> Any:
        self.doubt, self.dead = None, False
        return unrefreshed(self, grant, code, retry_after)

    patch.setattr(_Attempt, "_unrefreshed", forgetful)


def leave_a_doubt_in_the_index_where_it_was(patch: pytest.MonkeyPatch) -> None:
    unrefreshed = _Attempt._unrefreshed

    def forgetful(self: _Attempt, grant: Grant, code: str, retry_after: timedelta | None) -> tuple[Grant, datetime]:
        after, retry_at = unrefreshed(self, grant, code, retry_after)
        return replace(after, due_at=rules.next_due(after, self.use.clock())), retry_at

    patch.setattr(_Attempt, "_unrefreshed", forgetful)


def retry_blindly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_proves", lambda *_: Liveness.DEAD)


def send_with_any_time_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        rotator, "Budgets", lambda: Budgets(send_least=timedelta(milliseconds=1), attempt=timedelta(seconds=8.9))
    )


def believe_it_lives(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_proves", lambda *_: Liveness.LIVES)


def take_a_proxys_word_for_wises(patch: pytest.MonkeyPatch) -> None:
    unsettled = _Attempt._unsettled

    def trusting(self: _Attempt, grant: Grant, request: Any, outcome: ServerFault | Unknown) -> Result | None:
        return unsettled(self, grant, request, ServerFault(status=504))

    patch.setattr(_Attempt, "_unsettled", trusting)


def refresh_what_is_reported_unasked(patch: pytest.MonkeyPatch) -> None:
    ask_first = _Attempt._ask_first

    def rash(self: _Attempt, grant: Grant) -> Result | None:
        return ask_first(self, grant) if grant.in_doubt is not None else None

    patch.setattr(_Attempt, "_ask_first", rash)


def bring_promises_forward(patch: pytest.MonkeyPatch) -> None:
    unrefreshed = _Attempt._unrefreshed

    def rash(self: _Attempt, grant: Grant, code: str, retry_after: timedelta | None) -> tuple[Grant, datetime]:
        after, retry_at = unrefreshed(self, grant, code, retry_after)
        return replace(after, refresh_at=retry_at, due_at=retry_at), retry_at

    patch.setattr(_Attempt, "_unrefreshed", rash)


# --- answers and verdicts


def drop_what_was_overtaken(patch: pytest.MonkeyPatch) -> None:
    keep = KeepAnswer.__call__

    def careless(self: KeepAnswer, answer: SealedAnswer, stored: Grant | None) -> Kept:
        now = self.grants.get(answer.key)
        if now is None or now.attempt_id != answer.attempt_id:
            return Kept(Place.OVERTAKEN, now)
        return keep(self, answer, stored)

    patch.setattr(KeepAnswer, "__call__", careless)


def commit_the_phase(patch: pytest.MonkeyPatch) -> None:
    in_time = KeepAnswer._in_time
    patch.setattr(
        KeepAnswer, "_in_time", lambda self, *arguments: replace(in_time(self, *arguments), phase=Phase.ACTIVE)
    )
    write = InMemoryGrants.write

    def whole(self: InMemoryGrants, before: Grant, after: Grant, when: When) -> Done | Refused:
        if after.version > before.version and before.key in self.items and holds(when, self.items[before.key]):
            self.items[before.key] = replace(self.items[before.key], phase=after.phase)
        return write(self, before, after, when)

    patch.setattr(InMemoryGrants, "write", whole)


def never_park(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_park", lambda *_: False)


def judge_while_an_answer_may_be_parked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_may_be_parked", lambda *_: False)


def judge_whatever_was_presented(patch: pytest.MonkeyPatch) -> None:
    write = InMemoryGrants.write

    def unscoped(self: InMemoryGrants, before: Grant, after: Grant, when: When) -> Done | Refused:
        if after.phase is Phase.REAUTHORIZATION_REQUIRED:
            when = replace(When(attempt_id=IGNORED, version=IGNORED))
        return write(self, before, after, when)

    patch.setattr(InMemoryGrants, "write", unscoped)


def call_every_death_a_revocation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_why_dead", lambda _: "invalid_grant")


# --- readers


def serve_in_doubt(patch: pytest.MonkeyPatch) -> None:
    def careless(grant: Grant | None, *rest: object) -> rules.Reading:
        if grant is not None:
            grant = replace(grant, attempt_id=None, in_doubt=None, refresh_at=grant.expires_at or grant.refresh_at)
        return rules.read(grant, *rest)  # type: ignore[arg-type]

    patch.setattr(serve_token, "read", careless)


def serve_past_expiry(patch: pytest.MonkeyPatch) -> None:
    def careless(grant: Grant | None, *rest: object) -> rules.Reading:
        if grant is not None and grant.expires_at is not None:
            grant = replace(grant, expires_at=grant.expires_at + timedelta(days=1))
        return rules.read(grant, *rest)  # type: ignore[arg-type]

    patch.setattr(serve_token, "read", careless)


def read_one_write_behind(patch: pytest.MonkeyPatch) -> None:
    write = InMemoryGrants._write
    before: dict[GrantKey, Grant | None] = {}

    def remembering(self: InMemoryGrants, key: GrantKey, grant: Grant, *, ok: bool) -> Done | Refused:
        if ok:
            before[key] = self.items.get(key)
        return write(self, key, grant, ok=ok)

    patch.setattr(InMemoryGrants, "_write", remembering)
    patch.setattr(InMemoryGrants, "get", lambda self, key: before.get(key) or self.items.get(key))


# --- others


def replace_what_is_held(patch: pytest.MonkeyPatch) -> None:
    def impatient(self: Patience, key: GrantKey, _until: datetime) -> Grant | Any:
        grant = self.grants.get(key)
        return None if grant is None else replace(grant, attempt_id=None, lease_until=None, in_doubt=None)

    patch.setattr(Patience, "unheld", impatient)
    for name in ("replace", "delete"):
        plain = getattr(InMemoryGrants, name)

        def unconditional(self: InMemoryGrants, *arguments: Any, _plain: Callable[..., Any] = plain) -> Any:
            stored = self.items[arguments[0].key]
            when = When(attempt_id=stored.attempt_id, version=stored.version)
            answer = _plain(self, *arguments[:-1], when)
            if stored.key in self.items:
                self.items[stored.key] = replace(
                    self.items[stored.key], attempt_id=None, lease_until=None, in_doubt=None
                )
            return answer

        patch.setattr(InMemoryGrants, name, unconditional)


def import_over_what_may_be_parked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdoptGrant, "_may_bury", lambda *_: False)


def forget_doubt_at_import(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adopt_grant, "_doubt", lambda *_, **__: None)


def begin_with_the_same_version(patch: pytest.MonkeyPatch) -> None:
    sealed = AdoptGrant._sealed
    patch.setattr(AdoptGrant, "_sealed", lambda self, *arguments: replace(sealed(self, *arguments), version=1))


def suspend_clears_the_lease(patch: pytest.MonkeyPatch) -> None:
    plain = suspend_grant.suspended

    def thorough(grant: Grant, order: Suspension) -> Grant:
        return replace(plain(grant, order), attempt_id=None, lease_until=None)

    patch.setattr(suspend_grant, "suspended", thorough)


def forget_what_is_suspended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Suspensions, "of", lambda _self, _tenant: None)
