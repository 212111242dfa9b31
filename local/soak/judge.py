"""What a run proves: its records as a history, the checker's verdict on it, and what has to be counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from local.proof.checker import check, losses
from local.proof.from_truth import at, history_of
from local.proof.history import (
    ACTIVE,
    REAUTHORIZATION_REQUIRED,
    Adopted,
    Announced,
    NotServed,
    ProcessDied,
    Reported,
    Served,
    Shut,
    Stored,
    Suspended,
)
from local.wise.chaos import CHAOS, ChaosKind
from local.wise.truth import Kind

from .ledger import APPLICATION, Did
from .others_judged import facts_of_others, must_have_happened, wrong_about_others
from .plan import POLICIES
from .table import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from local.proof.checker import Loss
    from local.proof.history import History, Moment, Record
    from local.wise.truth import RequestTruth, Truth, UseTruth

    from .ledger import Ask, Ledger
    from .plan import Plan
    from .play import Records
    from .table import Row

_NAME: Final = 16
_ATTEMPT_MS: Final = 12_000
"""So long after Wise's answer a verdict may still be written that follows from it."""
_EXPECTED: Final = frozenset({200, 409, 429, 503})
"""What a reader may be answered, whatever happens behind the API."""
_BAD_STATES: Final = {
    State.OVERDUE: "is overdue, and nobody looks at it",
    State.FORGOTTEN: "will never be looked at again",
    State.UNTOLD: "waits for its user, and on-call was not told",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole of it, ready to be printed. `wrong`: what makes the run fail."""

    facts: dict[str, Any]
    wrong: list[str]


def judge(records: Records) -> Verdict:
    """Decide over a run."""
    states = {row.grant_id: row.state for row in records.rows}
    waiting = {grant_id for grant_id, state in states.items() if state is State.WAITING}
    entries = list(_ledger(records))
    way = _history(records, records.truth, entries, frozenset(), healed=False)
    # what is held back for a while yet has not come to its end
    truth = _until(records.truth, {row.grant_id: row.read_ms for row in records.rows})
    end = _history(records, truth, [entry for entry in entries if entry.grant not in waiting], waiting, healed=True)
    violations = list(dict.fromkeys(str(violation) for history in (way, end) for violation in check(history)))
    lost_answers = losses(way)
    violations += _wrong_rows(records, states)
    violations += _wrong_answers(records.ledger.asks)
    violations += wrong_about_others(records)
    lost = _lost_grants(records, {loss.attempt for loss in lost_answers})
    missing = did_not_happen(records.plan, records.ledger, records.truth.requests, records.truth.uses)
    facts = _facts(records, states) | {
        "violations": len(violations),
        "violations_in_full": violations,
        "grants_lost": len(lost),
        "grants_lost_in_full": lost,
        "losses_that_no_client_could_avoid": _in_full(lost_answers, records),
        "did_not_happen": missing,
    }
    wrong = violations + [f"a grant was lost: {which}" for which in lost]
    return Verdict(facts, wrong + [f"did not happen: {what}" for what in missing])


# --- the history


def _history(
    records: Records, truth: Truth, entries: list[Record], without: AbstractSet[str], *, healed: bool
) -> History:
    users: dict[str, str] = {}
    personal: dict[str, str] = {}
    for adoption in records.ledger.adoptions:
        if adoption.grant_id not in without:
            (users if adoption.refresh is not None else personal)[adoption.grant_id] = adoption.grant_id
    kept = _kept_for_the_application(records)
    history = history_of(
        truth,
        entries,
        users,
        healed=healed,
        application=None if APPLICATION in without else APPLICATION,
        is_question=lambda request: request.correlation_id not in kept,
        personal=personal,
    )
    # what became of a grant after it was read for the last time, by old age too, nobody has looked at
    return replace(history, seen_until={row.grant_id: _instant(row.read_ms) for row in records.rows} if healed else {})


def _kept_for_the_application(records: Records) -> set[str]:
    """Name the attempts to get an application token to keep: those seen at it, and those whose token was served.

    The others that look alike are questions about our client. One that nobody saw and that brought nothing anybody was
    served counts as a question: as such, too, what it ended must not be served.
    """
    served = {ask.sha256 for ask in records.ledger.asks if ask.grant_id == APPLICATION}
    brought = {t.minted_by_request for t in records.truth.tokens if t.kind is Kind.APPLICATION and t.sha256 in served}
    kept = set(records.ledger.application_attempts)
    return kept | {r.correlation_id for r in records.truth.requests if r.id in brought and r.correlation_id is not None}


def _instant(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms // 1000, UTC) + timedelta(milliseconds=epoch_ms % 1000)


def _ms(instant: datetime) -> int:
    return int((instant - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=1))


def _at(epoch_ms: int) -> Moment:
    return at(_instant(epoch_ms))


def _until(truth: Truth, read_ms: Mapping[str, int]) -> Truth:
    """Give Wise's log as it was when each grant was read for the last time: the rotator does not stand still since.

    What is no user's is the application's.
    """

    def seen(user: str | None, at_ms: int | None) -> bool:
        return at_ms is not None and at_ms <= read_ms.get(APPLICATION if user is None else user, at_ms)

    return replace(
        truth,
        tokens=[
            token if seen(token.user, token.died_ms) else replace(token, killed_by=None, died_seq=None, died_ms=None)
            for token in truth.tokens
            if seen(token.user, token.minted_ms)
        ],
        requests=[
            replace(
                request,
                settled_seq=request.settled_seq if seen(request.user, request.settled_ms) else None,
                end_seq=request.end_seq if seen(request.user, request.end_ms) else None,
            )
            for request in truth.requests
            if seen(request.user, request.begin_ms)
        ],
        uses=[use for use in truth.uses if seen(use.user, use.at_ms)],
    )


def _ledger(records: Records) -> Iterable[Record]:
    ledger = records.ledger
    for adoption in ledger.adoptions:
        when, asked = _at(adoption.answered_ms), _at(adoption.asked_ms)
        grant, access = adoption.grant_id, adoption.access[:_NAME]
        refresh = None if adoption.refresh is None else adoption.refresh[:_NAME]
        yield Adopted(
            when=when,
            grant=grant,
            asked=asked,
            refresh=refresh,
            access=access,
            replaced=adoption.replaced,
            certain=adoption.certain,
        )
        if adoption.certain:
            yield Stored(when=when, grant=grant, phase=ACTIVE, version=adoption.version, access=access, refresh=refresh)
    for rejection in ledger.rejections:
        yield Reported(when=_at(rejection.at_ms), grant=rejection.grant_id, version=rejection.version)
    yield from _of_accounts(ledger)
    for ask in ledger.asks:
        when, looked = _at(ask.answered_ms), _at(ask.asked_ms)
        if ask.sha256 is not None:
            yield Served(
                when=when,
                grant=ask.grant_id,
                looked=looked,
                token=ask.sha256[:_NAME],
                version=ask.version,
                stable_until=_instant(ask.stable_until_ms),
                reader=ask.reader,
                degraded=ask.degraded,
                looked_by=when,
            )
        else:
            why = f"{ask.status} {ask.problem}"
            yield NotServed(when=when, grant=ask.grant_id, looked=looked, why=why, reader=ask.reader)
    for kill in ledger.kills:
        yield ProcessDied(when=_at(kill.at_ms), grant=None, attempts=frozenset(kill.attempts))
    for row in records.rows:
        judged_ms = row.raised_ms if row.phase == REAUTHORIZATION_REQUIRED else None
        yield Stored(
            when=_at(judged_ms or row.read_ms),
            grant=row.grant_id,
            phase=row.phase,
            version=row.version,
            reason=row.reason,
            lease=row.attempt,
            doubt=row.in_doubt,
        )
    for heard in ledger.heard:
        alert = heard.alert
        yield Announced(
            when=_at(heard.at_ms),
            grant=alert.get("grant_id"),
            kind=alert["kind"],
            incident_id=alert["incident_id"],
            reason=alert.get("reason"),
        )


def _of_accounts(ledger: Ledger) -> Iterable[Record]:
    """When Wise refused what lives on, and from when to when a grant was certainly suspended."""
    open_again: dict[str, list[int]] = defaultdict(list)
    for act in ledger.acts:
        if act.did is Did.OPENED:
            open_again[act.grant_id].append(act.at_ms)
    for act in ledger.acts:
        if act.did is Did.CLOSED and act.survives:
            ended = min((ms for ms in open_again[act.grant_id] if ms >= act.at_ms), default=None)
            until = None if ended is None else _at(ended)
            yield Shut(when=_at(act.asked_ms), grant=act.grant_id, ended=until)
        elif act.did is Did.STOPPED:
            yield Suspended(when=_at(act.at_ms), grant=act.grant_id, by="Wise")
        elif act.did is Did.TOLD_OPEN:
            yield Suspended(when=_at(act.asked_ms), grant=act.grant_id, lifted=True, by="Wise")


# --- what the history does not show


def _wrong_rows(records: Records, states: dict[str, State]) -> list[str]:
    found = [
        f"[the table] {row.grant_id} {_BAD_STATES[states[row.grant_id]]}: {asdict(row)}"
        for row in records.rows
        if states[row.grant_id] in _BAD_STATES
    ]
    there = set(states)
    found += [f"[the table] {a.grant_id} is gone" for a in records.ledger.adoptions if a.grant_id not in there]
    told = {heard.alert["incident_id"] for heard in records.ledger.heard}
    found += [
        f"[alerts] {row.grant_id}: its alert {row.incident_id} counts as published and never came"
        for row in records.rows
        if row.published and row.incident_id not in told
    ]
    if records.plan.long and records.healed_after_s is None:
        found += [
            f"[the table] {row.grant_id} has not come to its end long after the last fault: {asdict(row)}"
            for row in records.rows
            if states[row.grant_id] is State.WAITING
        ]
    if records.parked and records.healed_after_s is not None:
        found.append(f"[parking] {records.parked} answers are left in the queue")
    return found


def _wrong_answers(asks: list[Ask]) -> list[str]:
    return [
        f"[the API] {ask.reader} asked for {ask.grant_id} and was answered {ask.status} {ask.problem}"
        for ask in asks
        if ask.status not in _EXPECTED
    ]


def _minted_live(records: Records) -> dict[str, RequestTruth | None]:
    """By user: the request that made the refresh token that lives at Wise; None if the user was given it otherwise."""
    requests = {request.id: request for request in records.truth.requests}
    return {
        token.user: requests.get(token.minted_by_request or 0)
        for token in records.truth.tokens
        if token.kind is Kind.REFRESH and token.lives and token.user is not None
    }


def _lost_grants(records: Records, unavoidable: set[str]) -> list[str]:
    """Name the grants that wait for their user although the refresh token that lives at Wise had reached us.

    A personal token is lost in the same way. A token that somebody else's refresh made has not reached us unless they
    brought it.
    """
    live = _minted_live(records)
    living = {token.sha256 for token in records.truth.tokens if token.lives}
    newest = {adoption.grant_id: adoption for adoption in records.ledger.adoptions if adoption.certain}
    found = []
    for row in records.rows:
        brought = newest.get(row.grant_id)
        if row.phase != REAUTHORIZATION_REQUIRED or brought is None or _told_too_late(records, row):
            continue
        if brought.refresh is None:
            if brought.access in living:
                found.append(f"{row.grant_id}: the personal token that was brought last lives; {asdict(row)}")
            continue
        if row.grant_id not in live:
            continue
        request = live[row.grant_id]
        if request is not None and request.correlation_id is None and brought.refresh not in living:
            continue
        if request is None or request.correlation_id not in unavoidable:
            attempt = "its adoption" if request is None else f"attempt {request.correlation_id}"
            found.append(f"{row.grant_id}: the refresh token of {attempt} lives at Wise; {asdict(row)}")
    return found


def _told_too_late(records: Records, row: Row) -> bool:
    """Tell whether a grant was judged while Wise refused its tokens, and Wise told of that only when it was over.

    Then nobody knew that the refusal would not last. Where Wise told in time, the grant was to be tried again.
    """
    acts = [act for act in records.ledger.acts if act.grant_id == row.grant_id]
    closed = [act for act in acts if act.did is Did.CLOSED and act.survives and act.asked_ms <= (row.raised_ms or 0)]
    if not closed:
        return False
    shut = closed[-1]
    opened = [act.at_ms for act in acts if act.did is Did.OPENED and act.at_ms >= shut.at_ms]
    if not opened or (row.raised_ms or 0) > opened[0] + _ATTEMPT_MS:
        return False
    taken = [one for one in records.ledger.deliveries if one.grant_id == row.grant_id and (one.status or 0) // 100 == 2]  # noqa: PLR2004
    told_open = min((one.at_ms for one in taken if not one.closes and one.occurred_ms >= shut.asked_ms), default=0)
    return not any(one.closes and shut.asked_ms <= one.occurred_ms and one.at_ms < told_open for one in taken)


def _in_full(lost: Iterable[Loss], records: Records) -> list[dict[str, Any]]:
    requests = {(request.correlation_id, request.begin_ms): request for request in records.truth.requests}
    killed = {attempt for kill in records.ledger.kills for attempt in kill.attempts}
    rows = {row.grant_id: row for row in records.rows}
    policies = {adoption.grant_id: adoption.policy for adoption in records.ledger.adoptions}
    return [
        {
            "attempt": loss.attempt,
            "grant": loss.grant,
            "at": loss.when.at.isoformat(),
            "why": "process died" if loss.attempt in killed else loss.why,
            "fault": requests[loss.attempt, _ms(loss.when.at)].fault,
            "refresh_token": policies.get(loss.grant),
            "grant_now": rows[loss.grant].phase if loss.grant in rows else None,
        }
        for loss in lost
    ]


def did_not_happen(plan: Plan, ledger: Ledger, requests: Iterable[RequestTruth], uses: Iterable[UseTruth]) -> list[str]:
    """Name what must have happened and has not: nothing that went unabused proves anything."""
    requests = list(requests)
    refreshed, struck = _refreshes(ledger, requests), _struck(requests, uses)
    must: dict[str, int] = {
        "a token was served": len(ledger.served()),
        "a token was used at Wise": sum(status > 0 for _, status in ledger.uses),
        "a process was killed": len(ledger.kills),
        "a call to Wise was struck": struck.total(),
    }
    must |= must_have_happened(plan, ledger, requests)
    must |= {f"a refresh with a refresh token that is {policy}": refreshed[policy.value] for policy in POLICIES}
    if plan.long:
        must |= {f"the fault {kind}": struck[kind.value] for kind in ChaosKind}
        must["an attempt died with its process"] = sum(len(kill.attempts) for kill in ledger.kills)
    return [what for what, times in must.items() if times == 0]


def _struck(requests: Iterable[RequestTruth], uses: Iterable[UseTruth]) -> Counter[str]:
    faults = [request.fault for request in requests] + [use.fault for use in uses]
    return Counter(fault.removeprefix(CHAOS) for fault in faults if fault is not None)


def _refreshes(ledger: Ledger, requests: Iterable[RequestTruth]) -> Counter[str]:
    """Count our refreshes that were carried out, by what became of the refresh token."""
    policies = {adoption.grant_id: adoption.policy for adoption in ledger.adoptions}
    ours = [r for r in requests if r.carried_out and r.correlation_id is not None and r.user in policies]
    return Counter(policies[request.user or ""] for request in ours)


def _facts(records: Records, states: dict[str, State]) -> dict[str, Any]:
    plan, ledger, truth = records.plan, records.ledger, records.truth
    by_policy = _refreshes(ledger, truth.requests)
    struck = _struck(truth.requests, truth.uses)
    longest = max(ledger.waits, key=lambda wait: wait.ended_ms - wait.asked_ms, default=None)
    requests = [request for request in truth.requests if request.grant_type == "refresh_token"]
    return {
        "seed": plan.seed,
        "seconds": plan.seconds,
        "abused_for_s": records.abused_for_s,
        "took_s": records.took_s,
        "healed_after_s": records.healed_after_s,
        "grants": plan.grants,
        "readers": plan.readers,
        "tokens_served": len(ledger.served()),
        "tokens_served_degraded": sum(ask.degraded for ask in ledger.served()),
        "uses_at_wise": len(ledger.uses),
        "refreshes": by_policy.total(),
        "refreshes_by_refresh_token": dict(by_policy),
        "requests_at_wise": len(truth.requests),
        "refresh_requests_refused": sum(r.outcome == "invalid_grant" for r in requests),
        "faults": struck.total(),
        "faults_by_kind": dict(sorted(struck.items())),
        "kills": len(ledger.kills),
        "kills_by_function": dict(Counter(kill.function for kill in ledger.kills)),
        "attempts_killed": sum(len(kill.attempts) for kill in ledger.kills),
        "extra_sweeps": records.extra_ticks,
        "longest_wait": None
        if longest is None
        else {
            "seconds": round((longest.ended_ms - longest.asked_ms) / 1000, 1),
            "grant": longest.grant_id,
            "ended": longest.ended,
        },
        "waits_over_30_s": sum(wait.ended_ms - wait.asked_ms > 30_000 for wait in ledger.waits),  # noqa: PLR2004
        "answers_by_status": dict(sorted(Counter(str(ask.status) for ask in ledger.asks).items())),
        "grants_by_phase": dict(Counter(row.phase for row in records.rows)),
        "grants_by_state": dict(Counter(state.value for state in states.values())),
        "still_waiting": [
            {"grant": row.grant_id, "in_doubt": row.in_doubt, "last_error": row.last_error, "failures": row.failures}
            for row in records.rows
            if states[row.grant_id] is State.WAITING
        ],
        "fleet": {name: value for name, value in records.fleet.items() if name != "pk"},
        "parked_at_the_end": records.parked,
        "alerts_received": dict(Counter(str(heard.alert["kind"]) for heard in ledger.heard)),
        "by_kind": facts_of_others(records),
        "troubles_of_the_soak": records.troubles,
    }
