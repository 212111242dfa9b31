"""What becomes of one restored row. Whole restores are in tests/integration/test_bring_back.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.bring_back import DOUBT, Fate, main, marked
from tests.docs.pages import read as read_page
from token_rotator.adapters.dynamo_grants import _decode, _encode
from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import Grant, GrantKey, Phase
from token_rotator.domain.lease import Budgets
from token_rotator.domain.policy import Step, Verdict, decide, read
from token_rotator.domain.tokens import Sealed

NOW = datetime(2026, 1, 31, 3, tzinfo=UTC)
BEFORE = NOW - timedelta(hours=2)
GRANT = Grant(
    key=GrantKey("acme", "user-1"),
    phase=Phase.ACTIVE,
    refresh_token=Sealed(b"fixture-refresh"),
    access_token=Sealed(b"fixture-access"),
    version=1_769_000_000_000,
    issued_at=BEFORE,
    expires_at=BEFORE + timedelta(hours=12),
    refresh_at=BEFORE + timedelta(hours=6),
    created_at=BEFORE,
    due_at=BEFORE + timedelta(hours=6),
    profile_id="fixture-profile",
)
LEASED = replace(GRANT, attempt_id="fixture-attempt", lease_until=NOW + timedelta(seconds=9))
HELD_UP = replace(GRANT, in_doubt="fixture-attempt", hold_until=NOW + timedelta(minutes=2))


def after(grant: Grant) -> Grant:
    return _decode(marked(_encode(grant), NOW))


@pytest.mark.parametrize("grant", [GRANT, LEASED, HELD_UP], ids=["at rest", "leased", "in doubt"])
def test_an_active_grant_is_in_doubt_and_due_and_served_to_nobody(grant: Grant) -> None:
    """Its token was good when the row was saved, and nothing in the row says that it was replaced since."""
    assert read(GRANT, NOW, Budgets()).verdict is Verdict.SERVE
    found = after(grant)
    assert (found.in_doubt, found.due_at) == (DOUBT, NOW)
    assert read(found, NOW, Budgets()).verdict is Verdict.REFRESH
    assert decide(found, NOW, Budgets()).step is Step.RESOLVE_DOUBT


@pytest.mark.parametrize("grant", [LEASED, HELD_UP], ids=["leased", "held up"])
def test_who_worked_on_it_then_does_so_no_more(grant: Grant) -> None:
    found = after(grant)
    assert (found.attempt_id, found.lease_until, found.hold_until) == (None, None, None)


def test_what_it_is_due_in_is_its_own_partition_of_the_index() -> None:
    row = marked({name: value for name, value in _encode(GRANT).items() if name not in ("due_at", "due_shard")}, NOW)
    assert row["due_shard"] == {"N": str(GRANT.key.shard)}


@pytest.mark.parametrize("stored", [GRANT.version, int(NOW.timestamp() * 1000) + 5])
def test_its_version_is_one_that_never_was(stored: int) -> None:
    found = after(replace(GRANT, version=stored))
    assert found.version > stored
    assert found.version >= int(NOW.timestamp() * 1000)


def test_a_suspended_grant_stays_suspended_and_is_in_doubt_once_that_is_over() -> None:
    found = after(replace(GRANT, phase=Phase.SUSPENDED, due_at=None))
    assert (found.phase, found.in_doubt, found.due_at) == (Phase.SUSPENDED, DOUBT, None)


def test_a_grant_that_needs_a_new_authorization_goes_on_needing_it() -> None:
    found = after(replace(GRANT, phase=Phase.REAUTHORIZATION_REQUIRED, due_at=None))
    assert (found.phase, found.in_doubt, found.due_at) == (Phase.REAUTHORIZATION_REQUIRED, None, None)
    assert found.version > GRANT.version


def test_everything_else_is_as_it_was() -> None:
    row = {**_encode(GRANT), "a_later_versions_own": {"S": "kept"}}
    changed = {"version", "in_doubt", "due_at", "due_shard"}
    found = marked(row, NOW)
    assert {name: value for name, value in found.items() if name not in changed} == {
        name: value for name, value in row.items() if name not in changed
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": {"N": "2"}},
        {"phase": {"S": "of a later version"}},
        {"pk": {"S": "acme#another"}},
        {"version": {"S": "1"}},
        {"grant_id": {"S": "../x"}},
        {"tenant": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_row_that_cannot_be_read_is_refused(changes: dict[str, Any]) -> None:
    row = {name: value for name, value in {**_encode(GRANT), **changes}.items() if value is not None}
    with pytest.raises(CorruptGrant):
        marked(row, NOW)


def test_a_table_is_not_brought_back_into_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fixture-grants", "fixture-grants"])
    assert "different" in capsys.readouterr().err


def test_the_page_explains_whatever_the_command_says() -> None:
    page = read_page("docs/runbooks/restoring-the-table.md")
    for fate in Fate:
        assert f"| {fate.value.rpartition(': ')[2].removeprefix('it was ')} |" in page
