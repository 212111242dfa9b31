"""Policy by tables: every field of every row is used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.world import START
from token_rotator.domain.errors import SettingsError
from token_rotator.domain.grant import Alert, AlertKind, Grant, GrantKey, GrantKind, Phase
from token_rotator.domain.lease import Budgets
from token_rotator.domain.policy import (
    BACKOFF_CAP,
    NEVER,
    REFRESH_FLOOR,
    RETRY_AFTER_CAP,
    Step,
    Verdict,
    backoff,
    decide,
    next_due,
    old_at,
    read,
    refresh_at,
    too_young_to_doubt,
)
from token_rotator.domain.suspension import Suspension
from token_rotator.domain.tokens import Sealed

KEY = GrantKey("acme", "anna")
BUDGETS = Budgets()
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
GRANT = Grant(
    key=KEY,
    phase=Phase.ACTIVE,
    refresh_token=Sealed(b"r"),
    access_token=Sealed(b"a"),
    version=1,
    refresh_at=START + 6 * HOUR,
    issued_at=START,
    expires_at=START + 12 * HOUR,
    due_at=START + 6 * HOUR,
    created_at=START,
)
ALERT = Alert(
    incident_id="i",
    kind=AlertKind.REAUTHORIZATION_REQUIRED,
    reason="invalid_grant",
    raised_at=START,
    attempt_id="x",
)
NAMES = st.text("abcXYZ019", min_size=1, max_size=12)
LIVES = st.timedeltas(timedelta(0), timedelta(days=30))


@dataclass(frozen=True)
class Row:
    """A stored grant, an instant, and what decide() and read() say of it."""

    name: str
    changes: dict[str, object]
    after: timedelta
    step: Step
    verdict: Verdict
    until: timedelta | None = None
    due: timedelta | None = None
    ends: timedelta | None = None
    degraded: bool = False


DEAD = {"phase": Phase.REAUTHORIZATION_REQUIRED, "due_at": START}
LEASED = {"attempt_id": "x", "lease_until": START + timedelta(seconds=18)}
DOUBT = {"in_doubt": "x", "due_at": START + timedelta(seconds=30)}
TOLD_HELD = replace(ALERT, kind=AlertKind.HELD, published_at=START, remind_at=START + 5 * HOUR)
HELD: dict[str, object] = {"alert": TOLD_HELD}
ON_HOLD: dict[str, object] = {"on_hold": Suspension(START, "acme-onboarding")}
BEGUN: dict[str, object] = {
    "refresh_token": None,
    "registration": Sealed(b"c"),
    "access_token": None,
    "expires_at": None,
    "refresh_at": START,
}


def ending(days: float, hours: float = 0) -> dict[str, object]:
    """A refresh token that ends so long after the start."""
    return {"refresh_expires_at": START + timedelta(days=days, hours=hours)}


ROWS = [
    Row("fresh", {}, HOUR, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, due=6 * HOUR),
    Row("degraded", {"failures": 1}, HOUR, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, 6 * HOUR, degraded=True),
    Row("last served instant", {}, 6 * HOUR - 5 * SECOND, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, 6 * HOUR),
    Row("gap begins", {}, 6 * HOUR - 4 * SECOND, Step.NOTHING, Verdict.WAIT, 6 * HOUR, 6 * HOUR),
    Row("due", {}, 6 * HOUR, Step.REFRESH, Verdict.REFRESH),
    Row("long due", {}, 30 * HOUR, Step.REFRESH, Verdict.REFRESH),
    Row(
        "backed off near expiry",
        {"refresh_at": START + 13 * HOUR},
        11 * HOUR,
        Step.NOTHING,
        Verdict.SERVE,
        12 * HOUR - 4 * SECOND,
        13 * HOUR,
    ),
    Row(
        "expired, backed off",
        {"refresh_at": START + 13 * HOUR},
        12 * HOUR,
        Step.NOTHING,
        Verdict.RETRY_LATER,
        13 * HOUR,
        13 * HOUR,
    ),
    Row(
        "expired, in the gap",
        {"refresh_at": START + 13 * HOUR},
        13 * HOUR - 3 * SECOND,
        Step.NOTHING,
        Verdict.WAIT,
        13 * HOUR,
        13 * HOUR,
    ),
    Row(
        "no access token, backed off",
        {"access_token": None, "expires_at": None},
        HOUR,
        Step.NOTHING,
        Verdict.RETRY_LATER,
        6 * HOUR,
        6 * HOUR,
    ),
    Row("leased", LEASED, 5 * SECOND, Step.NOTHING, Verdict.WAIT, 22 * SECOND, 22 * SECOND, ends=8 * SECOND),
    Row(
        "lease over, margin not", LEASED, 22 * SECOND, Step.NOTHING, Verdict.WAIT, 22 * SECOND, 22 * SECOND, 8 * SECOND
    ),
    Row("lease ran out", LEASED, 22.001 * SECOND, Step.RESOLVE_DOUBT, Verdict.REFRESH),
    Row("lease without an end", {"attempt_id": "x"}, HOUR, Step.RESOLVE_DOUBT, Verdict.REFRESH),
    Row("in doubt, backed off", DOUBT, 29 * SECOND, Step.NOTHING, Verdict.RETRY_LATER, 30 * SECOND, 30 * SECOND),
    Row("in doubt, due", DOUBT, 30 * SECOND, Step.RESOLVE_DOUBT, Verdict.REFRESH),
    Row(
        "in doubt, called dead, due",
        {**DOUBT, "last_error": "grant_invalid"},
        31 * SECOND,
        Step.RESOLVE_DOUBT,
        Verdict.RETRY_LATER,
        30 * SECOND,
    ),
    Row("in doubt, out of the index", {"in_doubt": "x", "due_at": None}, HOUR, Step.RESOLVE_DOUBT, Verdict.REFRESH),
    Row("suspended", {"phase": Phase.SUSPENDED}, 9 * HOUR, Step.NOTHING, Verdict.SUSPENDED),
    Row("suspended, alert pending", {"phase": Phase.SUSPENDED, "alert": ALERT}, HOUR, Step.NOTHING, Verdict.SUSPENDED),
    Row(
        "dead, told",
        {**DEAD, "alert": replace(ALERT, published_at=START)},
        HOUR,
        Step.NOTHING,
        Verdict.REAUTHORIZATION_REQUIRED,
    ),
    Row("dead, not told", {**DEAD, "alert": ALERT}, HOUR, Step.PUBLISH, Verdict.REAUTHORIZATION_REQUIRED),
    Row(
        "dead, being told",
        {**DEAD, "alert": replace(ALERT, claimed_until=START + 2 * HOUR)},
        HOUR,
        Step.NOTHING,
        Verdict.REAUTHORIZATION_REQUIRED,
        due=2 * HOUR,
    ),
    Row(
        "dead, teller died",
        {**DEAD, "alert": replace(ALERT, claimed_until=START + HOUR)},
        HOUR,
        Step.PUBLISH,
        Verdict.REAUTHORIZATION_REQUIRED,
    ),
    Row(
        "dead, told, to be reminded later",
        {**DEAD, "alert": replace(ALERT, published_at=START, remind_at=START + 24 * HOUR)},
        HOUR,
        Step.NOTHING,
        Verdict.REAUTHORIZATION_REQUIRED,
        due=24 * HOUR,
    ),
    Row(
        "dead, told a day ago",
        {**DEAD, "alert": replace(ALERT, published_at=START, remind_at=START + 24 * HOUR)},
        24 * HOUR,
        Step.REMIND,
        Verdict.REAUTHORIZATION_REQUIRED,
    ),
    Row(
        "suspended, told a day ago",
        {"phase": Phase.SUSPENDED, "alert": replace(ALERT, published_at=START, remind_at=START + HOUR)},
        24 * HOUR,
        Step.NOTHING,
        Verdict.SUSPENDED,
    ),
    Row("begins with a code", BEGUN, 0 * SECOND, Step.REFRESH, Verdict.REFRESH),
    Row("ends in 31 days", ending(31), HOUR, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, 6 * HOUR),
    Row("ends in 30 days", ending(30), 2 * HOUR, Step.WARN, Verdict.SERVE, 6 * HOUR - 4 * SECOND),
    Row(
        "ends in 30 days, at 5 hours", ending(30, 5), HOUR, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, 5 * HOUR
    ),
    Row("ends soon, and is due", ending(3), 7 * HOUR, Step.WARN, Verdict.REFRESH),
    Row(
        "ends soon, in doubt",
        ending(3) | DOUBT,
        9 * SECOND,
        Step.NOTHING,
        Verdict.RETRY_LATER,
        30 * SECOND,
        30 * SECOND,
    ),
    Row(
        "ends soon, leased",
        ending(3) | LEASED,
        5 * SECOND,
        Step.NOTHING,
        Verdict.WAIT,
        22 * SECOND,
        22 * SECOND,
        8 * SECOND,
    ),
    Row("ends soon, suspended", ending(3) | {"phase": Phase.SUSPENDED}, HOUR, Step.NOTHING, Verdict.SUSPENDED),
    Row(
        "ends soon, and that was told",
        ending(3) | {"expiry_told": START - 4 * 24 * HOUR},
        HOUR,
        Step.NOTHING,
        Verdict.SERVE,
        6 * HOUR - 4 * SECOND,
        6 * HOUR,
    ),
    Row(
        "ends in a day, and a week was told",
        ending(1) | {"expiry_told": START - 6 * 24 * HOUR},
        HOUR,
        Step.WARN,
        Verdict.SERVE,
        6 * HOUR - 4 * SECOND,
    ),
    Row("has ended", ending(-1), HOUR, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, 6 * HOUR),
    Row(
        "ends soon, and is held",
        ending(3) | {"alert": replace(ALERT, kind=AlertKind.HELD, published_at=START)},
        HOUR,
        Step.NOTHING,
        Verdict.SERVE,
        6 * HOUR - 4 * SECOND,
        6 * HOUR,
    ),
    Row("held, to be reminded later", HELD, HOUR, Step.NOTHING, Verdict.SERVE, 6 * HOUR - 4 * SECOND, 5 * HOUR),
    Row("held, told long ago", HELD, 5 * HOUR, Step.REMIND, Verdict.SERVE, 6 * HOUR - 4 * SECOND),
    Row("held, told long ago, and due", HELD, 7 * HOUR, Step.REMIND, Verdict.REFRESH),
    Row("held, told long ago, in doubt", HELD | DOUBT, 7 * HOUR, Step.REMIND, Verdict.REFRESH, None),
    Row("held, told long ago, suspended", HELD | {"phase": Phase.SUSPENDED}, 7 * HOUR, Step.NOTHING, Verdict.SUSPENDED),
    Row(
        "held, reminded",
        {"alert": replace(TOLD_HELD, remind_at=None, reminder=True)},
        5 * HOUR,
        Step.NOTHING,
        Verdict.SERVE,
        6 * HOUR - 4 * SECOND,
        6 * HOUR,
    ),
    Row(
        "held no more",
        {"alert": replace(TOLD_HELD, kind=AlertKind.RECOVERED)},
        5 * HOUR,
        Step.NOTHING,
        Verdict.SERVE,
        6 * HOUR - 4 * SECOND,
        6 * HOUR,
    ),
    Row(
        "given up, told long ago, and tried once more",
        {"alert": replace(TOLD_HELD, kind=AlertKind.REAUTHORIZATION_REQUIRED)},
        5 * HOUR,
        Step.NOTHING,
        Verdict.SERVE,
        6 * HOUR - 4 * SECOND,
        6 * HOUR,
    ),
    Row("active, alert pending", {"alert": ALERT}, HOUR, Step.PUBLISH, Verdict.SERVE, 6 * HOUR - 4 * SECOND),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_stored_grant_is_judged_row_by_row(row: Row) -> None:
    grant = replace(GRANT, **row.changes)  # type: ignore[arg-type]
    now = START + row.after

    decision = decide(grant, now, BUDGETS)
    assert decision.step is row.step
    assert decision.reason
    assert decision.due_at == (None if row.due is None else START + row.due)

    reading = read(grant, now, BUDGETS)
    assert reading.verdict is row.verdict
    assert reading.until == (None if row.until is None else START + row.until)
    assert reading.attempt_ends == (None if row.ends is None else START + row.ends)
    assert reading.degraded == row.degraded


def test_an_absent_grant_is_absent() -> None:
    assert read(None, START, BUDGETS).verdict is Verdict.ABSENT


@given(NAMES, st.integers(1, 2**53), LIVES)
def test_a_refresh_is_due_around_half_of_a_life_and_never_within_a_minute(
    name: str, version: int, life: timedelta
) -> None:
    at = refresh_at(GrantKey("t", name), version, START, START + life)
    assert at == refresh_at(GrantKey("t", name), version, START, START + life)
    assert at >= START + REFRESH_FLOOR
    if life * 0.4 >= REFRESH_FLOOR:
        assert life * 0.4 - timedelta(milliseconds=1) <= at - START <= life * 0.6
    assert at.microsecond % 1000 == 0


def test_a_token_that_was_expired_when_issued_is_due_after_the_floor() -> None:
    assert refresh_at(KEY, 1, START, START - HOUR) == START + REFRESH_FLOOR


def test_a_fleet_adopted_in_one_hour_does_not_refresh_in_one_hour() -> None:
    moments = [refresh_at(GrantKey("t", f"g{n}"), 1, START, START + 12 * HOUR) for n in range(400)]
    span = max(moments) - min(moments)
    assert span > 2 * HOUR
    busiest = max(sum(1 for m in moments if a <= m < a + span / 10) for a in moments)
    assert busiest < 80


@given(NAMES, st.integers(1, 10_000), st.none() | st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_back_off_is_longer_than_the_guard_and_bounded(name: str, failures: int, wanted: timedelta | None) -> None:
    pause = backoff(GrantKey("t", name), failures, wanted)
    assert pause > BUDGETS.guard
    assert pause <= max(BACKOFF_CAP * 1.25, RETRY_AFTER_CAP)
    if wanted is not None and wanted <= RETRY_AFTER_CAP:
        assert pause >= wanted


@given(
    st.sampled_from(Phase),
    st.sampled_from([{}, LEASED, DOUBT, {"attempt_id": "x"}, ON_HOLD, {**ON_HOLD, **DOUBT}, {**ON_HOLD, **LEASED}]),
    st.sampled_from([None, ALERT, replace(ALERT, published_at=START), replace(ALERT, claimed_until=START + HOUR)]),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.integers(0, 3),
)
def test_no_due_grant_stays_due_without_a_step(
    phase: Phase, held: dict[str, object], alert: Alert | None, after: timedelta, failures: int
) -> None:
    """Either there is something to do, or the next look lies ahead, or never."""
    now = START + after
    grant = replace(GRANT, phase=phase, alert=alert, failures=failures, **held)  # type: ignore[arg-type]
    decision = decide(grant, now, BUDGETS)
    if decision.step is Step.NOTHING:
        assert decision.due_at is None or decision.due_at >= now
        if phase is Phase.ACTIVE and held != ON_HOLD:
            assert decision.due_at is not None


@given(
    st.sampled_from([{}, LEASED, DOUBT, {"refresh_at": START + 20 * HOUR}, {"expires_at": START + 2 * HOUR}]),
    st.timedeltas(timedelta(0), timedelta(days=2)),
)
def test_what_is_served_lives_and_is_left_alone_until_the_promised_instant(
    held: dict[str, object], after: timedelta
) -> None:
    now = START + after
    grant = replace(GRANT, **held)  # type: ignore[arg-type]
    reading = read(grant, now, BUDGETS)
    if reading.verdict is Verdict.SERVE:
        assert grant.attempt_id is None
        assert grant.in_doubt is None
        assert reading.until is not None
        assert grant.expires_at is not None
        assert now < reading.until <= min(grant.refresh_at, grant.expires_at) - BUDGETS.guard


@pytest.mark.parametrize(
    ("issued", "life", "age", "young"),
    [
        (True, 12 * HOUR, 59 * SECOND, True),
        (True, 12 * HOUR, 60 * SECOND, False),
        (True, 90 * SECOND, 8 * SECOND, True),
        (True, 90 * SECOND, 9 * SECOND, False),
        (False, 12 * HOUR, 1 * SECOND, False),
    ],
)
def test_a_young_token_is_not_doubted(issued: bool, life: timedelta, age: timedelta, young: bool) -> None:  # noqa: FBT001
    grant = replace(GRANT, issued_at=START if issued else None, expires_at=START + life)
    assert too_young_to_doubt(grant, START + age) is young


def test_the_next_due_instant_is_the_earliest_of_all_that_waits() -> None:
    claimed = replace(ALERT, claimed_until=START + HOUR)
    assert next_due(replace(GRANT, alert=claimed), START) == START + HOUR
    assert next_due(replace(GRANT, alert=ALERT), START) == START
    assert next_due(GRANT, START) == GRANT.refresh_at
    assert next_due(replace(GRANT, phase=Phase.SUSPENDED, alert=ALERT), START) is None


BROKEN_BUDGETS = [
    ({"connect": 6}, "connect < http"),
    ({"send_least": 6}, "send_least <= http"),
    ({"store": 4}, "http + store + park <= attempt"),
    ({"ask": 4}, "ask + send_least + store + park < attempt"),
    ({"attempt": 9}, "attempt < refresh_function"),
    ({"refresh_function": 10}, "refresh_function < invoke"),
    ({"invoke": 11}, "2 * invoke <= serve"),
    ({"serve": 27}, "serve < serve_function"),
    ({"serve_function": 29}, "serve_function < gateway"),
    ({"sweep_duty": 57}, "sweep_duty + attempt + http < sweep_function"),
    ({"hold": 70}, "sweep_function + margin < hold"),
    ({"settle": 170}, "lease + margin < hold"),
    ({"settle": 0}, "settle must be positive"),
]


@pytest.mark.parametrize(("changes", "rule"), BROKEN_BUDGETS, ids=[rule for _, rule in BROKEN_BUDGETS])
def test_budgets_out_of_order_stop_the_start(changes: dict[str, float], rule: str) -> None:
    with pytest.raises(SettingsError, match=rule.replace("*", r"\*").replace("+", r"\+")):
        Budgets(**{name: timedelta(seconds=value) for name, value in changes.items()})


def test_a_lease_outlasts_the_attempt_and_what_it_sent() -> None:
    assert BUDGETS.lease == BUDGETS.attempt + BUDGETS.settle == timedelta(seconds=18)
    assert BUDGETS.margin == BUDGETS.guard == timedelta(seconds=4)


def test_what_is_still_to_be_told_is_not_called_old_over() -> None:
    old = replace(GRANT, kind=GrantKind.PERSONAL, refresh_token=None, refresh_at=NEVER, replace_at=START)
    waiting = Alert("i", AlertKind.RECOVERED, "age", START, claimed_until=START + timedelta(seconds=30))
    assert old_at(old) == START
    assert old_at(replace(old, alert=waiting)) is None
    assert old_at(replace(old, alert=replace(waiting, published_at=START))) == START
    assert old_at(replace(old, phase=Phase.SUSPENDED)) is None
    assert next_due(replace(old, alert=waiting), START) == START + timedelta(seconds=30)
