"""What a run proves: its records as a history, the checker's verdict on it, and what has to be counted."""

from __future__ import annotations

from collections import Counter
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
    Served,
    Stored,
)
from local.wise.chaos import CHAOS, ChaosKind
from local.wise.truth import Kind

from .plan import POLICIES
from .table import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from local.proof.checker import Loss
    from local.proof.history import Moment, Record
    from local.wise.truth import RequestTruth, Truth, UseTruth

    from .ledger import Ask, Ledger
    from .plan import Plan
    from .play import Records

_NAME: Final = 16
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
    users = {adoption.grant_id: adoption.grant_id for adoption in records.ledger.adoptions}
    way = history_of(records.truth, entries, users, healed=False)
    # what is held back for a while yet has not come to its end
    ended = {grant_id: grant_id for grant_id in users if grant_id not in waiting}
    end = history_of(
        _until(records.truth, {row.grant_id: row.read_ms for row in records.rows}),
        [entry for entry in entries if entry.grant is None or entry.grant in ended],
        ended,
        healed=True,
    )
    violations = list(dict.fromkeys(str(violation) for history in (way, end) for violation in check(history)))
    lost_answers = losses(way)
    violations += _wrong_rows(records, states)
    violations += _wrong_answers(records.ledger.asks)
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
    wrong = [f"{len(violations)} violations"] if violations else []
    wrong += [f"{len(lost)} grants lost"] if lost else []
    return Verdict(facts, wrong + [f"did not happen: {what}" for what in missing])


# --- the history


def _instant(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms // 1000, UTC) + timedelta(milliseconds=epoch_ms % 1000)


def _ms(instant: datetime) -> int:
    return int((instant - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=1))


def _at(epoch_ms: int) -> Moment:
    return at(_instant(epoch_ms))


def _until(truth: Truth, read_ms: Mapping[str, int]) -> Truth:
    """Give Wise's log as it was when each grant was read for the last time: the rotator does not stand still since."""

    def seen(user: str | None, at_ms: int | None) -> bool:
        return at_ms is not None and at_ms <= read_ms.get(user or "", at_ms)

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
        grant, access, refresh = adoption.grant_id, adoption.access[:_NAME], adoption.refresh[:_NAME]
        yield Adopted(when=when, grant=grant, asked=asked, refresh=refresh, access=access)
        yield Stored(when=when, grant=grant, phase=ACTIVE, version=adoption.version, access=access, refresh=refresh)
    for ask in ledger.asks:
        if ask.sha256 is not None:
            yield Served(
                when=_at(ask.answered_ms),
                grant=ask.grant_id,
                looked=_at(ask.asked_ms),
                token=ask.sha256[:_NAME],
                version=ask.version,
                stable_until=_instant(ask.stable_until_ms),
                reader=ask.reader,
                degraded=ask.degraded,
            )
        else:
            why = f"{ask.status} {ask.problem}"
            when, looked = _at(ask.answered_ms), _at(ask.asked_ms)
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
    """Name the grants that wait for their user although the refresh token that lives at Wise had reached us."""
    live = _minted_live(records)
    found = []
    for row in records.rows:
        if row.phase != REAUTHORIZATION_REQUIRED or row.grant_id not in live:
            continue
        request = live[row.grant_id]
        if request is None or request.correlation_id not in unavoidable:
            attempt = "its adoption" if request is None else f"attempt {request.correlation_id}"
            found.append(f"{row.grant_id}: the refresh token of {attempt} lives at Wise; {asdict(row)}")
    return found


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
    must |= {f"a refresh with a refresh token that is {policy}": refreshed[policy.value] for policy in POLICIES}
    if plan.long:
        must |= {f"the fault {kind}": struck[kind.value] for kind in ChaosKind}
        must["an attempt died with its process"] = sum(len(kill.attempts) for kill in ledger.kills)
    return [what for what, times in must.items() if times == 0]


def _struck(requests: Iterable[RequestTruth], uses: Iterable[UseTruth]) -> Counter[str]:
    faults = [request.fault for request in requests] + [use.fault for use in uses]
    return Counter(fault.removeprefix(CHAOS) for fault in faults if fault is not None)


def _refreshes(ledger: Ledger, requests: Iterable[RequestTruth]) -> Counter[str]:
    """Count the refreshes that were carried out, by what became of the refresh token."""
    policies = {adoption.grant_id: adoption.policy for adoption in ledger.adoptions}
    return Counter(policies.get(request.user or "", "") for request in requests if request.carried_out)


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
        "troubles_of_the_soak": records.troubles,
    }
