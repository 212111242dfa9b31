"""What others do is done to the emulator as planned, and on record in the order in which it can have been known."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from local.aws.signed import Answer
from local.demo.partner import hash_of
from local.soak.ledger import APPLICATION, Did, Ledger
from local.soak.others import Others
from local.soak.plan import TENANTS, Leaving, Plan
from local.soak.table import Row
from local.wise.running import RunningWise, running_wise
from local.wise.truth import Kind


class Subscriber:
    """Answers events from a script; the last status for ever."""

    def __init__(self) -> None:
        self.statuses = [204]
        subscriber = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                statuses = subscriber.statuses
                self.send_response(statuses[0] if len(statuses) == 1 else statuses.pop(0))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Partner:
    """Takes everything."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, dict[str, Any]]] = []

    def call(self, method: str, grant_id: str, rest: str = "", **more: Any) -> Answer:
        self.calls.append((method, grant_id, rest, more))
        return Answer(200, {}, b'{"version": 1}')


class Table:
    """Shows each grant in one phase."""

    phase = "suspended"

    def row(self, _tenant: str, grant_id: str) -> Row:
        return row(grant_id, self.phase)


def row(grant_id: str, phase: str = "active", **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "read_ms": 0,
        "grant_id": grant_id,
        "phase": phase,
        "version": 1,
        "attempt": None,
        "lease_until_ms": None,
        "in_doubt": None,
        "due_at_ms": None,
        "failures": 0,
        "last_error": None,
        "reason": None,
        "incident_id": None,
        "raised_ms": None,
        "published": False,
    }
    return Row(**(facts | changes))


class Played:
    """Others on a stage of which only Wise is real."""

    def __init__(self, wise: RunningWise) -> None:
        self.wise = wise
        self.subscriber = Subscriber()
        self.ledger = Ledger()
        self.partner = Partner()
        self.table = Table()
        plan = Plan(seed=1, seconds=60, grants=30, readers=1)
        stage = SimpleNamespace(control=wise.control, certificate=wise.control.issue_certificate())
        partners = {name: self.partner for two in TENANTS.values() for name in two}
        self.others = Others(plan, stage, self.ledger, self.table, partners)  # type: ignore[arg-type]
        self.others.adopt()
        wise.control.subscribe(self.subscriber.url)
        self.closing = self.others.closings[0]

    def close(self) -> None:
        self.others._close(self.closing)

    def open(self) -> None:
        self.others._open(self.closing)

    def did(self, grant_id: str) -> list[Did]:
        return [act.did for act in self.ledger.acts if act.grant_id == grant_id]


@pytest.fixture
def played() -> Iterator[Played]:
    with running_wise() as wise:
        yield (made := Played(wise))
        made.subscriber.server.shutdown()
        made.subscriber.server.server_close()


def test_everything_is_brought_as_what_it_is(played: Played) -> None:
    bodies = {grant_id: more["json_body"] for method, grant_id, _, more in played.partner.calls if method == "PUT"}
    assert set(bodies) == {grant_id for _, grant_id in played.others.ids} - {APPLICATION}
    assert all(bodies[move.grant_id]["hold"] is True for move in played.others.moves)
    assert all(set(bodies[one.grant_id]) == {"personal_token", "issued_at"} for one in played.others.personals)
    assert all(bodies[one.grant_id]["wise_user_id"].isdigit() for one in played.others.closings)


def test_events_wait_until_they_are_sent_and_then_are_on_record_with_what_was_answered(played: Played) -> None:
    played.subscriber.statuses = [503, 204]
    played.close()
    assert played.ledger.deliveries == []
    [delivery] = played.wise.control.deliveries()
    assert not played.others._send(delivery)
    assert played.others._send(delivery, times=2)
    told = [(one.grant_id, one.closes, one.status) for one in played.ledger.deliveries]
    grant_id = played.closing.grant_id
    assert told == [(grant_id, True, 503), (grant_id, True, 204), (grant_id, True, 204)]


def test_that_an_account_is_open_again_is_on_record_before_anybody_hears_it(played: Played) -> None:
    played.close()
    played.open()
    for delivery in played.wise.control.deliveries():
        played.others._send(delivery)
    told_open = next(act for act in played.ledger.acts if act.did is Did.TOLD_OPEN)
    opened = next(one for one in played.ledger.deliveries if not one.closes)
    assert told_open.at_ms <= opened.at_ms
    assert played.did(played.closing.grant_id) == [Did.CLOSED, Did.OPENED, Did.TOLD_OPEN]


@pytest.mark.parametrize("open_first", [False, True])
def test_grant_counts_as_stopped_only_while_nobody_has_told_of_the_end(played: Played, *, open_first: bool) -> None:
    played.close()
    played.open()
    closed, opened = played.wise.control.deliveries()
    if open_first:
        played.others._send(opened)
    played.others._send(closed)
    occurred_ms = played.ledger.deliveries[-1].occurred_ms
    look = played.others._looks_whether_stopped(played.closing.grant_id, occurred_ms)
    played.table.phase = "active"
    assert look() is (None if open_first else 1)
    played.table.phase = "suspended"
    assert look() is None
    assert (Did.STOPPED in played.did(played.closing.grant_id)) is not open_first


def test_at_the_end_accounts_are_as_planned_and_every_event_has_come(played: Played) -> None:
    stays_closed = next(closing for closing in played.others.closings if closing.opened_at is None)
    for closing in (played.closing, stays_closed):
        played.others._close(closing)
    assert played.closing.opened_at is not None
    played.others.finish()
    assert all(delivery.taken for delivery in played.wise.control.deliveries())
    rows = [row(closing.grant_id) for closing in played.others.closings]
    assert played.others.unsettled(rows) == {stays_closed.grant_id}
    rows = [row(one.grant_id, "suspended" if one is stays_closed else "active") for one in played.others.closings]
    assert played.others.unsettled(rows) == set()


def test_old_refresher_hands_in_until_the_release_and_a_stubborn_one_goes_on_after_it(played: Played) -> None:
    for leaving in (Leaving.SWITCHED_OFF, Leaving.STUBBORN):
        move = next(move for move in played.others.moves if move.leaving is leaving)
        act = played.others._elsewhere(move)
        act()
        played.others._release(move)
        again_s = act()
        refreshed = len([r for r in played.wise.control.requests(user=move.grant_id) if r.carried_out])
        assert refreshed == 1
        assert (again_s is None) is (leaving is Leaving.SWITCHED_OFF)
        brought = sum(one.replaced for one in played.ledger.adoptions if one.grant_id == move.grant_id)
        assert brought == (1 if leaving is Leaving.SWITCHED_OFF else 0)
        last = [Did.HELD, Did.RELEASED] + ([Did.FOREIGN] if leaving is Leaving.STUBBORN else [])
        assert played.did(move.grant_id) == last


def test_personal_token_is_replaced_by_one_that_lives(played: Played) -> None:
    personal = played.others.personals[0]
    played.others._replace(personal)
    living = [t.sha256 for t in played.wise.control.tokens(personal.grant_id) if t.lives and t.kind is Kind.PERSONAL]
    newest = [one for one in played.ledger.adoptions if one.grant_id == personal.grant_id][-1]
    assert (living, newest.replaced, newest.refresh) == ([newest.access], True, None)
    assert hash_of(played.others._made[personal.grant_id].token) == newest.access


def test_only_a_grant_that_stays_on_hold_may_wait_for_its_old_refresher(played: Played) -> None:
    stays = next(move for move in played.others.moves if move.leaving is Leaving.STAYS)
    other = next(move for move in played.others.moves if move.leaving is Leaving.STUBBORN)
    dead = {"on_hold": True, "in_doubt": "reported", "last_error": "dead_on_hold"}
    assert played.others.may_wait(row(stays.grant_id, **dead))
    assert not played.others.may_wait(row(stays.grant_id, in_doubt="attempt"))
    assert not played.others.may_wait(row(other.grant_id, **dead))
