"""What a row of the table says about the grant's future."""

from __future__ import annotations

from typing import Any

import pytest

from local.soak.ledger import APPLICATION
from local.soak.table import Row, State

NOW = 1_795_000_000_000


def row(**changes: Any) -> Row:
    facts: dict[str, Any] = {
        "read_ms": NOW,
        "grant_id": "acme-1",
        "phase": "active",
        "version": 1,
        "attempt": None,
        "lease_until_ms": None,
        "in_doubt": None,
        "due_at_ms": NOW + 60_000,
        "failures": 0,
        "last_error": None,
        "reason": None,
        "incident_id": None,
        "raised_ms": None,
        "published": False,
    }
    return Row(**(facts | changes))


DEAD = {"phase": "reauthorization_required", "incident_id": "fixture-incident", "raised_ms": NOW - 60_000}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, State.FINE),
        ({"due_at_ms": NOW - 19_000}, State.FINE),
        ({"due_at_ms": NOW - 21_000}, State.OVERDUE),
        ({"due_at_ms": None}, State.FORGOTTEN),
        ({"due_at_ms": NOW + 3_600_000}, State.FORGOTTEN),
        ({"failures": 1}, State.WAITING),
        ({"in_doubt": "attempt"}, State.WAITING),
        ({"in_doubt": "attempt", "due_at_ms": NOW - 21_000}, State.OVERDUE),
        ({"attempt": "attempt", "lease_until_ms": NOW + 9_000, "due_at_ms": NOW - 60_000}, State.BUSY),
        ({"attempt": "attempt", "lease_until_ms": NOW - 23_000, "due_at_ms": NOW - 60_000}, State.BUSY),
        ({"attempt": "attempt", "lease_until_ms": NOW - 25_000, "due_at_ms": NOW - 60_000}, State.OVERDUE),
        ({"attempt": "attempt", "lease_until_ms": NOW - 60_000, "due_at_ms": None}, State.OVERDUE),
        ({"kind": "personal", "due_at_ms": NOW + 90 * 86_400_000}, State.FINE),
        ({"kind": "personal", "due_at_ms": None, "in_doubt": "attempt"}, State.FORGOTTEN),
        ({"kind": "personal", "due_at_ms": NOW + 5_000, "in_doubt": "attempt"}, State.WAITING),
        ({"kind": "application", "due_at_ms": None}, State.FORGOTTEN),
        ({"on_hold": True, "due_at_ms": None}, State.ON_HOLD),
        ({"on_hold": True, "due_at_ms": None, "in_doubt": "reported"}, State.FORGOTTEN),
        ({"on_hold": True, "due_at_ms": None, "in_doubt": "reported", "last_error": "dead_on_hold"}, State.WAITING),
        ({"on_hold": True, "due_at_ms": NOW + 5_000, "in_doubt": "reported"}, State.WAITING),
        ({"phase": "suspended", "due_at_ms": None}, State.SUSPENDED),
        ({**DEAD, "due_at_ms": None, "published": True}, State.WAITS_FOR_USER),
        ({**DEAD, "due_at_ms": NOW + 20_000}, State.UNTOLD),
        ({**DEAD, "due_at_ms": NOW - 21_000}, State.OVERDUE),
        ({**DEAD, "due_at_ms": None}, State.UNTOLD),
    ],
)
def test_a_row_says_what_its_grant_waits_for(changes: dict[str, Any], state: State) -> None:
    assert row(**changes).state is state


def test_only_what_waits_is_held_back() -> None:
    assert row(in_doubt="attempt", due_at_ms=NOW + 90_000).held_back_s == 90
    assert row(due_at_ms=NOW + 90_000).held_back_s == 0


def test_an_item_is_read_as_the_table_holds_it() -> None:
    alert = {"incident_id": {"S": "i"}, "reason": {"S": "outcome_unknown"}, "raised_at": {"N": "5"}}
    item = {
        "grant_id": {"S": "acme-1"},
        "phase": {"S": "reauthorization_required"},
        "version": {"N": "7"},
        "attempt_id": {"S": "a"},
        "lease_until": {"N": "8"},
        "in_doubt": {"S": "b"},
        "due_at": {"N": "9"},
        "failures": {"N": "2"},
        "last_error": {"S": "unknown"},
        "alert": {"M": alert},
    }
    read = Row.of(item)
    assert (read.grant_id, read.phase, read.version, read.attempt) == ("acme-1", "reauthorization_required", 7, "a")
    assert (read.lease_until_ms, read.in_doubt, read.due_at_ms, read.failures) == (8, "b", 9, 2)
    assert (read.incident_id, read.reason, read.raised_ms, read.published) == ("i", "outcome_unknown", 5, False)
    assert (read.kind, read.on_hold) == ("user", False)
    assert Row.of({**item, "alert": {"M": {**alert, "published_at": {"N": "6"}}}}).published
    assert Row.of({**item, "on_hold": {"M": {}}}).on_hold


def test_our_applications_own_item_goes_by_its_key() -> None:
    item = {"phase": {"S": "active"}, "version": {"N": "7"}, "due_at": {"N": "9"}, "kind": {"S": "application"}}
    read = Row.of(item)
    assert (read.grant_id, read.kind, read.reason) == (APPLICATION, "application", None)
