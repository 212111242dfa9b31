"""The breaker's state: how long it stays open, when people are told, what ends an incident."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.world import START
from token_rotator.domain.fleet import (
    CALM,
    PATIENCE,
    PAUSE_BASE,
    PAUSE_CAP,
    REFUSED_AT_MOST,
    UNHEALTHY_AT_MOST,
    UNHEALTHY_FOR,
    Fleet,
    Lane,
    Row,
)
from token_rotator.domain.grant import AlertKind, GrantKey
from token_rotator.domain.policy import backoff

SECOND = timedelta(seconds=1)


def opened(fleet: Fleet | None = None, why: str = "unknown", after: timedelta = timedelta(0), **more: object) -> Fleet:
    given: dict[str, object] = {"by": "attempt-1", "salt": 0.5, "trace_id": None, **more}
    return (fleet or Fleet()).opened(why, START + after, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("per_minute", "burst", "one_call_ms"),
    [(900, 15, 68), (100, 10, 667), (9, 1, 7500), (1, 1, 60_000)],
)
def test_a_burst_and_what_follows_it_stay_within_a_minutes_share(per_minute: int, burst: int, one_call_ms: int) -> None:
    lane = Lane("any", per_minute)
    assert (lane.burst, lane.worth(1)) == (burst, timedelta(milliseconds=one_call_ms))
    assert lane.worth(3) == 3 * lane.worth(1)
    assert burst + timedelta(minutes=1) / lane.worth(1) <= max(per_minute, 2)


@pytest.mark.parametrize(
    ("salt", "pause", "expected"),
    [
        (0.0, None, 0.75 * PAUSE_BASE),
        (0.5, None, PAUSE_BASE),
        (0.5, 7 * SECOND, 7 * SECOND),
        (0.5, timedelta(milliseconds=1), SECOND),
        (0.5, timedelta(0), PAUSE_BASE),
        (0.5, timedelta(days=1), timedelta(hours=1)),
    ],
)
def test_the_pause_is_jittered_or_as_wise_says(salt: float, pause: timedelta | None, expected: timedelta) -> None:
    assert opened(salt=salt, pause=pause).open_until == START + expected


def test_pauses_grow_to_a_cap_within_one_incident() -> None:
    fleet, pauses = Fleet(), []
    for _ in range(8):
        fleet = opened(fleet)
        assert fleet.open_until is not None
        pauses.append(fleet.open_until - START)
    assert pauses == [PAUSE_BASE * 2**n for n in range(5)] + [PAUSE_CAP] * 3
    assert fleet.trips == 8


def test_pauses_that_wise_asks_for_make_none_of_ours_longer() -> None:
    fleet = Fleet()
    for _ in range(7):
        fleet = opened(fleet, why="throttled", pause=2 * SECOND)
    assert fleet.trips == 0
    assert opened(fleet).open_until == START + PAUSE_BASE


@pytest.mark.parametrize(("quiet", "trips"), [(CALM - SECOND, 2), (CALM, 1)])
def test_an_opening_soon_after_a_closing_is_the_same_incident(quiet: timedelta, trips: int) -> None:
    again = opened(opened().closed(START), after=quiet)
    assert again.trips == trips
    assert again.since == (START if trips == 2 else START + quiet)


@pytest.mark.parametrize(
    ("why", "kind"),
    [("client_refused", AlertKind.CLIENT_REFUSED), ("we_are_wrong", AlertKind.WE_ARE_WRONG)],
)
def test_a_fault_of_ours_is_told_at_once_and_once(why: str, kind: AlertKind) -> None:
    first = opened(why=why, trace_id="f" * 32)
    assert first.alert is not None
    assert (first.alert.kind, first.alert.reason, first.alert.trace_id) == (kind, why, "f" * 32)
    assert first.alert.claimed_until is not None
    assert opened(first, why=why, after=SECOND).alert == first.alert


@pytest.mark.parametrize("why", ["unknown", "not_sent", "server_fault", "throttled"])
def test_what_may_pass_is_told_when_it_has_lasted(why: str) -> None:
    fleet = opened(why=why)
    assert fleet.alert is None
    assert fleet.alerting(START + PATIENCE - SECOND, by="x").alert is None
    told = fleet.alerting(START + PATIENCE, by="x")
    assert told.alert is not None
    assert told.alert.kind is AlertKind.PROVIDER_UNAVAILABLE
    assert told.alerting(START + 2 * PATIENCE, by="y") == told


def test_an_incident_that_turns_out_to_be_our_fault_is_told_as_that_and_not_the_other_way_round() -> None:
    outage = opened().alerting(START + PATIENCE, by="x")
    ours = opened(outage, why="client_refused", after=PATIENCE)
    assert ours.alert is not None
    assert ours.alert.kind is AlertKind.CLIENT_REFUSED
    assert opened(ours, why="unknown", after=2 * PATIENCE).alert == ours.alert


def test_the_end_of_what_was_told_is_told_once_it_is_calm_under_the_same_incident() -> None:
    ours = opened(why="client_refused")
    closed = ours.closed(START)
    assert closed.open_until is None
    assert closed.alert == ours.alert
    assert closed.closed(START + SECOND) == closed
    assert ours.recovering(START + CALM, by="x") == ours
    assert closed.recovering(START + CALM - SECOND, by="x") == closed
    over = closed.recovering(START + CALM, by="x")
    assert ours.alert is not None
    assert over.alert is not None
    assert (over.alert.kind, over.alert.incident_id) == (AlertKind.RECOVERED, ours.alert.incident_id)
    assert over.recovering(START + 2 * CALM, by="x") == over


def test_the_end_of_what_nobody_was_told_is_not_told() -> None:
    assert opened().closed(START).recovering(START + CALM, by="x").alert is None


def test_an_incident_goes_on_until_its_end_was_told() -> None:
    ours = opened(why="client_refused").closed(START)
    again = opened(ours, why="client_refused", after=2 * CALM)
    assert again.alert == ours.alert
    assert again.since == START


def test_two_incidents_have_two_names() -> None:
    first = opened(why="client_refused")
    over = first.closed(START).recovering(START + CALM, by="p")
    untold = opened(over, why="client_refused", after=2 * CALM)
    assert untold.alert == over.alert  # its end has not been told yet
    assert over.alert is not None
    told = replace(over, alert=replace(over.alert, published_at=START + CALM))
    second = opened(told, why="client_refused", after=3 * CALM)
    assert first.alert is not None
    assert second.alert is not None
    assert first.alert.incident_id != second.alert.incident_id


def test_a_closed_breaker_alerts_nothing() -> None:
    assert Fleet().alerting(START, by="x") == Fleet()


def test_somebody_has_to_ask_once_the_pause_is_over_and_nobody_is_at_it() -> None:
    fleet = opened()
    assert not Fleet().half_open(START)
    assert not fleet.half_open(START + 9 * SECOND)
    assert fleet.half_open(START + 10 * SECOND)
    claimed = replace(fleet, probe_by="p", probe_until=START + 25 * SECOND)
    assert not claimed.half_open(START + 25 * SECOND)
    assert claimed.half_open(START + 26 * SECOND)
    assert claimed.barred_until(START) == START + 25 * SECOND
    assert claimed.barred_until(START + 26 * SECOND) == START + 27 * SECOND


# --- the row that opens it

GRANTS = st.sampled_from([GrantKey("acme", f"g{number}") for number in range(5)])
HEARD = st.tuples(GRANTS, st.integers(0, 400), st.booleans())


@given(st.lists(HEARD, min_size=1, max_size=30))
def test_a_row_counts_grants_that_failed_lately_by_what_each_of_them_said_last(
    heard: list[tuple[GrantKey, int, bool]],
) -> None:
    row, now = Row(), START
    last = {}
    for key, seconds, refused in heard:
        now += seconds * SECOND
        row = row.hearing(key, now, refused=refused)
        last[key] = (now, refused)
        recent = [said for at, said in last.values() if now - at < UNHEALTHY_FOR]
        assert row.is_long is (len(recent) >= UNHEALTHY_AT_MOST)
        assert row.is_refused is (sum(recent) >= REFUSED_AT_MOST)


@given(st.lists(st.tuples(st.integers(0, 100_000), st.booleans()), min_size=1))
def test_one_grant_is_never_a_row(heard: list[tuple[int, bool]]) -> None:
    row, now = Row(), START
    for seconds, refused in heard:
        now += seconds * SECOND
        row = row.hearing(GrantKey("acme", "anna"), now, refused=refused)
        assert not row.is_long
        assert not row.is_refused


@given(GRANTS, st.integers(1, 50))
def test_a_grant_that_goes_on_failing_stays_in_the_row(key: GrantKey, failures: int) -> None:
    assert backoff(key, failures) < UNHEALTHY_FOR - timedelta(minutes=1)
