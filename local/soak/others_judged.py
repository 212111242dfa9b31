"""What has to be counted of what others did meanwhile, and what the history does not show of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from local.wise.truth import Kind

from .ledger import APPLICATION, Did

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.wise.truth import RequestTruth

    from .ledger import Act, Ask, Delivered, Ledger
    from .plan import Plan
    from .play import Records

_HELD_PROMISE_MS: Final = 60_000
NOTICED: Final = "a foreign refresher was noticed"
_FOREIGN: Final = "foreign_refresher"
_REJECTED: Final = "personal_token_rejected"
_SUSPENDED: Final = "suspended"
_SHARED_BY: Final = 2


def wrong_about_others(records: Records) -> list[str]:
    """Name the broken promises that are about a hold, an account's state, or an alert about a foreign refresher."""
    return [
        *_wrong_on_hold(records),
        *_wrong_alerts(records),
        *_wrong_accounts(records),
    ]


def must_have_happened(plan: Plan, ledger: Ledger, requests: Iterable[RequestTruth]) -> dict[str, int]:
    """Count what must have happened at least once."""
    did = Counter(act.did for act in ledger.acts)
    released = {act.grant_id: act.at_ms for act in ledger.acts if act.did is Did.RELEASED}
    must = {
        "the application's token was read by two": len(_readers_of(ledger, APPLICATION)) // _SHARED_BY,
        "a grant was served on hold": sum(ask.on_hold for ask in ledger.served()),
        "a grant was refreshed after its hold": sum(
            request.carried_out
            and request.correlation_id is not None
            and request.begin_ms > released.get(request.user or "", request.begin_ms)
            for request in requests
        ),
        NOTICED: _heard(ledger, _FOREIGN),
        "a personal token was revoked, and on-call was told": _heard_because(ledger, _REJECTED),
        "an account was closed, and its grant stopped": did[Did.STOPPED],
        "an account was opened again": did[Did.OPENED],
        "an event came twice": len(_twice(ledger.deliveries)),
        "our old certificate was refused": did[Did.REFUSED],
    }
    if plan.long:
        must["an event came after a newer one"] = len(_disordered(ledger.deliveries))
        must["an event was lost on its way"] = sum(one.status is None for one in ledger.deliveries)
        must["the application's token was replaced"] = len(_tokens_of(ledger, APPLICATION)) - 1
    return must


def facts_of_others(records: Records) -> dict[str, Any]:
    """Give what happened to each kind of grant, for the summary."""
    ledger, truth = records.ledger, records.truth
    did = Counter(act.did for act in ledger.acts)
    phases = {row.grant_id: row.phase for row in records.rows}
    personal = {adoption.grant_id for adoption in ledger.adoptions if adoption.refresh is None}
    held = {act.grant_id for act in ledger.acts if act.did is Did.HELD}
    closed = {act.grant_id for act in ledger.acts if act.did is Did.CLOSED}
    users = {adoption.grant_id for adoption in ledger.adoptions} - personal - held - closed
    issued = [token for token in truth.tokens if token.kind is Kind.APPLICATION]

    def common(grants: set[str]) -> dict[str, Any]:
        return {
            "grants": len(grants),
            "tokens_served": sum(ask.grant_id in grants for ask in ledger.served()),
            "reports": sum(one.grant_id in grants for one in ledger.rejections),
            "by_phase": dict(Counter(phases.get(grant_id, "gone") for grant_id in sorted(grants))),
        }

    return {
        "user": common(users),
        "application": common({APPLICATION})
        | {
            "readers": len(_readers_of(ledger, APPLICATION)),
            "tokens_coexist_at_wise": records.plan.application_tokens_coexist,
            "different_tokens_served": len(_tokens_of(ledger, APPLICATION)),
            "issued_by_wise": len(issued),
            "ended_by_another": sum(token.killed_by_request is not None for token in issued),
        },
        "personal": common(personal)
        | {
            "revoked": did[Did.REVOKED],
            "replaced": sum(one.replaced for one in ledger.adoptions if one.grant_id in personal),
            "alerts": _heard_because(ledger, _REJECTED),
        },
        "moved_in": common(held)
        | {
            "released": did[Did.RELEASED],
            "newer_tokens_handed_in": sum(one.replaced for one in ledger.adoptions if one.grant_id in held),
            "served_on_hold": sum(ask.on_hold for ask in ledger.served()),
            "foreign_refreshes_after_release": did[Did.FOREIGN],
            "foreign_refreshers": len({act.grant_id for act in ledger.acts if act.did is Did.FOREIGN}),
            "foreign_refreshers_noticed": len(_grants_heard(ledger, _FOREIGN)),
        },
        "closed_accounts": common(closed)
        | {
            "closed": did[Did.CLOSED],
            "opened": did[Did.OPENED],
            "events": len({one.event for one in ledger.deliveries}),
            "deliveries": len(ledger.deliveries),
            "lost_at_first": sum(one.status is None for one in ledger.deliveries),
            "came_twice": len(_twice(ledger.deliveries)),
            "came_after_a_newer_one": len(_disordered(ledger.deliveries)),
            "seen_suspended": did[Did.STOPPED],
        },
        "certificates": {"requests_with_the_" + name: number for name, number in records.certificates.items()},
    }


# --- moving in


def _wrong_on_hold(records: Records) -> list[str]:
    found = []
    released = {act.grant_id: act.asked_ms for act in records.ledger.acts if act.did is Did.RELEASED}
    asks: defaultdict[str, list[Ask]] = defaultdict(list)
    for ask in records.ledger.served():
        asks[ask.grant_id].append(ask)
    for held in (act for act in records.ledger.acts if act.did is Did.HELD):
        grant_id, until_ms = held.grant_id, released.get(held.grant_id, records.truth.at_ms)
        for request in records.truth.requests:
            ours = request.user == grant_id and request.correlation_id is not None
            if ours and held.at_ms <= request.begin_ms < until_ms and request.grant_type == "refresh_token":
                found.append(f"[on hold] {grant_id} was refreshed by attempt {request.correlation_id} though on hold")
        for ask in asks[grant_id]:
            if not ask.on_hold and held.at_ms <= ask.asked_ms and ask.answered_ms < until_ms:
                found.append(f"[on hold] {ask.reader} was not told that {grant_id} is on hold: version {ask.version}")
            if ask.on_hold and ask.stable_until_ms > ask.answered_ms + _HELD_PROMISE_MS:
                found.append(f"[on hold] {ask.reader} was promised {grant_id} for longer than a minute: {ask.version}")
    return found


def _wrong_alerts(records: Records) -> list[str]:
    """Nobody is to be told of a foreign refresher where there was none since the grant is ours alone."""
    ours_since: dict[str, int] = {}
    for act in records.ledger.acts:
        if act.did is Did.RELEASED:
            ours_since[act.grant_id] = act.asked_ms
    found = []
    for heard in records.ledger.heard:
        grant_id = str(heard.alert.get("grant_id"))
        if heard.alert["kind"] != _FOREIGN:
            continue
        foreign = any(
            request.user == grant_id
            and request.correlation_id is None
            and request.carried_out
            and ours_since.get(grant_id, 0) < (request.settled_ms or 0) <= heard.at_ms
            for request in records.truth.requests
        )
        if not foreign:
            found.append(f"[alerts] {grant_id}: nobody else refreshes it, and on-call was told so")
    return found


# --- accounts


def _wrong_accounts(records: Records) -> list[str]:
    """At the end a grant is suspended just if its account is closed: all events have come by then."""
    last: dict[str, Act] = {}
    for act in records.ledger.acts:
        if act.did in (Did.CLOSED, Did.OPENED):
            last[act.grant_id] = act
    phases = {row.grant_id: row.phase for row in records.rows}
    found = []
    for grant_id, act in last.items():
        stopped = phases.get(grant_id) == _SUSPENDED
        if act.did is Did.CLOSED and not stopped:
            found.append(
                f"[accounts] {grant_id} is {phases.get(grant_id)} though its account was closed at {act.at_ms}"
            )
        if act.did is Did.OPENED and stopped:
            found.append(f"[accounts] {grant_id} is suspended though its account was opened at {act.at_ms}")
    found += [
        f"[accounts] {grant_id} is suspended though its account was never closed"
        for grant_id, phase in phases.items()
        if phase == _SUSPENDED and grant_id not in last
    ]
    untaken = {one.event for one in records.ledger.deliveries} - {
        one.event for one in _taken(records.ledger.deliveries)
    }
    return found + [f"[accounts] the event {event} was never taken" for event in sorted(untaken)]


def _taken(deliveries: Iterable[Delivered]) -> list[Delivered]:
    return [one for one in deliveries if one.status is not None and one.status // 100 == 2]  # noqa: PLR2004


def _twice(deliveries: Iterable[Delivered]) -> list[str]:
    counted = Counter(one.event for one in _taken(deliveries))
    return [event for event, times in counted.items() if times > 1]


def _disordered(deliveries: Iterable[Delivered]) -> list[str]:
    """Name the events of which the first delivery that was taken came after one of a newer event about the account."""
    newest: dict[str, int] = {}
    known: set[str] = set()
    found = []
    for one in sorted(_taken(deliveries), key=lambda one: one.at_ms):
        if one.event not in known and one.occurred_ms < newest.get(one.grant_id, 0):
            found.append(one.event)
        known.add(one.event)
        newest[one.grant_id] = max(newest.get(one.grant_id, 0), one.occurred_ms)
    return found


# --- counting


def _heard(ledger: Ledger, kind: str) -> int:
    return sum(heard.alert["kind"] == kind for heard in ledger.heard)


def _heard_because(ledger: Ledger, reason: str) -> int:
    return sum(heard.alert.get("reason") == reason for heard in ledger.heard)


def _grants_heard(ledger: Ledger, kind: str) -> set[str]:
    return {str(heard.alert.get("grant_id")) for heard in ledger.heard if heard.alert["kind"] == kind}


def _readers_of(ledger: Ledger, grant_id: str) -> set[str]:
    return {ask.reader for ask in ledger.served() if ask.grant_id == grant_id}


def _tokens_of(ledger: Ledger, grant_id: str) -> set[str | None]:
    return {ask.sha256 for ask in ledger.served() if ask.grant_id == grant_id}
