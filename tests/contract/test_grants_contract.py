"""What every store of grants holds to: in memory and in DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.examples import HOUR, KEY, LEASE, NOW, TICK, a_grant, alerts, an_alert, counts, instants, texts
from tests.fakes.grants import InMemoryGrants
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.grant import APPLICATION, SHARDS, Grant, GrantKey, GrantKind, Phase
from token_rotator.domain.suspension import Suspension
from token_rotator.domain.tokens import Sealed
from token_rotator.service.ports import (
    AlreadyHeld,
    Cause,
    Done,
    Due,
    DueIndex,
    GrantList,
    GrantRegistry,
    GrantStore,
    Refused,
    Rejected,
    When,
)


class Store(GrantStore, GrantRegistry, GrantList, DueIndex, Protocol):
    """All four ports: one thing implements them."""


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield InMemoryGrants()
    else:
        yield DynamoGrants(request.getfixturevalue("dynamodb"), request.getfixturevalue("table"))


def keep(store: Store, grant: Grant) -> Grant:
    assert store.create(grant) == Done(grant)
    return grant


def version_of(grant: Grant) -> When:
    return When(version=grant.version)


# --- the beginning


def test_what_was_created_is_read_back(store: Store) -> None:
    grant = a_grant()
    assert store.get(KEY) is None
    assert store.create(grant) == Done(grant)
    assert store.get(KEY) == grant
    assert store.get(GrantKey("globex", "anna")) is None


def test_creating_what_exists_is_refused_and_shows_what_is_stored(store: Store) -> None:
    first = keep(store, a_grant())
    assert store.create(a_grant(version=2)) == Refused(first)
    assert store.get(KEY) == first


def test_a_profile_belongs_to_one_grant(store: Store) -> None:
    keep(store, a_grant(profile_id="profile-1"))
    other = a_grant(GrantKey("globex", "ben"), profile_id="profile-1")
    assert store.create(other) == AlreadyHeld()
    assert store.get(other.key) is None
    assert store.create(replace(other, profile_id="profile-2")) == Done(replace(other, profile_id="profile-2"))


def test_an_existing_grant_is_refused_before_its_profile_is_looked_at(store: Store) -> None:
    mine = keep(store, a_grant(profile_id="profile-1"))
    keep(store, a_grant(GrantKey("globex", "ben"), profile_id="profile-2"))
    assert store.create(replace(mine, version=2, profile_id="profile-2")) == Refused(mine)


# --- replacing


def test_a_replacement_takes_effect_under_its_condition(store: Store) -> None:
    before = keep(store, a_grant(in_doubt="attempt-earlier"))
    after = replace(before, refresh_token=Sealed(b"another"), version=before.version + 1, in_doubt=None)
    assert store.replace(before, after, When(attempt_id=None, version=before.version)) == Done(after)
    assert store.get(KEY) == after


@pytest.mark.parametrize("when", [When(attempt_id="attempt-other", version=a_grant().version), When(version=2)])
def test_a_replacement_is_refused_when_its_condition_does_not_hold(store: Store, when: When) -> None:
    before = keep(store, a_grant())
    after = replace(before, refresh_token=Sealed(b"another"))
    assert store.replace(before, after, when) == Refused(before)
    assert store.get(KEY) == before


def test_replacing_what_is_missing_is_refused(store: Store) -> None:
    grant = a_grant()
    assert store.replace(grant, replace(grant, scope="other"), version_of(grant)) == Refused(None)
    assert store.get(KEY) is None


def test_a_replacement_claims_the_profile_that_the_grant_did_not_have(store: Store) -> None:
    before = keep(store, a_grant())
    after = replace(before, profile_id="profile-1", version=before.version + 1)
    assert store.replace(before, after, version_of(before)) == Done(after)
    assert store.create(a_grant(GrantKey("globex", "ben"), profile_id="profile-1")) == AlreadyHeld()


def test_a_replacement_cannot_claim_what_another_grant_holds(store: Store) -> None:
    keep(store, a_grant(GrantKey("globex", "ben"), profile_id="profile-1"))
    before = keep(store, a_grant())
    after = replace(before, profile_id="profile-1", version=before.version + 1)
    assert store.replace(before, after, version_of(before)) == AlreadyHeld()
    assert store.get(KEY) == before


def test_a_refused_replacement_claims_nothing(store: Store) -> None:
    before = keep(store, a_grant())
    assert store.replace(before, replace(before, profile_id="profile-1"), When(version=2)) == Refused(before)
    other = a_grant(GrantKey("globex", "ben"), profile_id="profile-1")
    assert store.create(other) == Done(other)


# --- the end


def test_a_deleted_grant_is_gone_and_its_profile_free(store: Store) -> None:
    grant = keep(store, a_grant(profile_id="profile-1"))
    assert store.delete(grant, When(attempt_id=None, version=grant.version)) == Done(grant)
    assert store.get(KEY) is None
    assert store.due(range(SHARDS), NOW, 10) == []
    assert store.page("acme", 10, None).rows == []
    other = a_grant(GrantKey("globex", "ben"), profile_id="profile-1")
    assert store.create(other) == Done(other)


def test_a_grant_without_a_profile_is_deleted(store: Store) -> None:
    grant = keep(store, a_grant())
    assert store.delete(grant, version_of(grant)) == Done(grant)
    assert store.get(KEY) is None


def test_deleting_is_refused_when_its_condition_does_not_hold(store: Store) -> None:
    grant = keep(store, a_grant(profile_id="profile-1", attempt_id="attempt-other", lease_until=NOW))
    assert store.delete(grant, When(attempt_id=None)) == Refused(grant)
    assert store.get(KEY) == grant
    assert store.create(a_grant(GrantKey("globex", "ben"), profile_id="profile-1")) == AlreadyHeld()


def test_deleting_what_is_missing_is_refused(store: Store) -> None:
    grant = a_grant()
    assert store.delete(grant, version_of(grant)) == Refused(None)


def test_deleting_leaves_the_claim_of_another_grant_alone(store: Store) -> None:
    holder = keep(store, a_grant(GrantKey("globex", "ben"), profile_id="profile-1"))
    stray = keep(store, a_grant())
    written = replace(stray, profile_id="profile-1")  # an attribute alone claims nothing
    assert isinstance(store.write(stray, written, version_of(stray)), Done)
    assert store.delete(written, version_of(written)) == Done(written)
    assert store.get(KEY) is None
    assert store.create(a_grant(GrantKey("initech", "cleo"), profile_id="profile-1")) == AlreadyHeld()
    assert store.get(holder.key) == holder


# --- the lease

LATER = {"refresh_at": NOW + TICK, "due_at": NOW + TICK}
DOUBT = {"refresh_at": NOW + HOUR, "in_doubt": "attempt-earlier"}
HELD = {"attempt_id": "attempt-other", "lease_until": NOW + timedelta(seconds=5)}
ORDER = Suspension(NOW - HOUR, "acme-onboarding")
VERSION = a_grant().version


@pytest.mark.parametrize(
    ("stored", "cause"),
    [
        pytest.param({}, Due(), id="due at this very millisecond"),
        pytest.param({"refresh_at": NOW - HOUR}, Due(), id="overdue"),
        pytest.param({"refresh_at": NOW - HOUR, "due_at": NOW + HOUR}, Due(), id="due, whatever the index says"),
        pytest.param(DOUBT | {"due_at": NOW}, Due(), id="in doubt and to be looked at now"),
        pytest.param(DOUBT | {"due_at": NOW - HOUR}, Due(), id="in doubt and overdue"),
        pytest.param(DOUBT | {"due_at": None}, Due(), id="in doubt, and nobody would look at it"),
        pytest.param(DOUBT | {"refresh_at": NOW, "due_at": NOW + HOUR}, Due(), id="in doubt, and due all the same"),
        pytest.param(LATER, Rejected(VERSION), id="not due, and its version rejected"),
        pytest.param(DOUBT | {"due_at": NOW + HOUR}, Rejected(VERSION), id="in doubt, and its version rejected"),
        pytest.param({}, Rejected(VERSION - 1), id="due, and an old version rejected"),
        pytest.param({"access_token": None, "expires_at": None, "issued_at": None}, Due(), id="without a token"),
        pytest.param({"on_hold": ORDER} | DOUBT, Due(), id="in doubt, and on hold"),
        pytest.param({"on_hold": ORDER}, Rejected(VERSION), id="its version rejected, and on hold"),
    ],
)
def test_a_free_lease_is_taken_with_a_reason(store: Store, stored: dict[str, Any], cause: Cause) -> None:
    before = keep(store, a_grant(**stored))
    answer = store.acquire(KEY, LEASE, cause, NOW)
    after = replace(before, attempt_id=LEASE.attempt_id, lease_until=LEASE.until, last_attempt_at=NOW)
    if isinstance(cause, Rejected):
        after = replace(after, due_at=NOW)
    assert answer == Done(after)
    assert store.get(KEY) == after


@pytest.mark.parametrize(
    ("stored", "cause"),
    [
        pytest.param(LATER, Due(), id="due a millisecond later"),
        pytest.param(DOUBT | {"due_at": NOW + TICK}, Due(), id="in doubt, to be looked at a millisecond later"),
        pytest.param(LATER, Rejected(VERSION - 1), id="an old version rejected"),
        pytest.param(LATER, Rejected(VERSION + 1), id="a version of the future rejected"),
        pytest.param(HELD, Due(), id="held"),
        pytest.param(HELD, Rejected(VERSION), id="held, and its version rejected"),
        pytest.param(HELD | DOUBT, Due(), id="held, and in doubt"),
        pytest.param({"attempt_id": "attempt-other", "lease_until": NOW - HOUR}, Due(), id="a lease that ran out"),
        pytest.param({"attempt_id": "attempt-other"}, Due(), id="a lease without an end"),
        pytest.param({"phase": Phase.SUSPENDED}, Due(), id="suspended"),
        pytest.param({"phase": Phase.SUSPENDED}, Rejected(VERSION), id="suspended, and its version rejected"),
        pytest.param({"phase": Phase.REAUTHORIZATION_REQUIRED}, Due(), id="waiting for the user"),
        pytest.param({"phase": Phase.SUSPENDED} | DOUBT, Due(), id="suspended, and in doubt"),
        pytest.param({"on_hold": ORDER}, Due(), id="on hold"),
        pytest.param({"on_hold": ORDER} | DOUBT | {"due_at": NOW + TICK}, Due(), id="on hold, and in doubt for later"),
    ],
)
def test_no_lease_is_taken_otherwise(store: Store, stored: dict[str, Any], cause: Cause) -> None:
    before = keep(store, a_grant(**stored))
    assert store.acquire(KEY, LEASE, cause, NOW) == Refused(before)
    assert store.get(KEY) == before


@pytest.mark.parametrize("cause", [Due(), Rejected(VERSION)])
def test_no_lease_is_taken_of_what_does_not_exist(store: Store, cause: Cause) -> None:
    assert store.acquire(KEY, LEASE, cause, NOW) == Refused(None)
    assert store.get(KEY) is None
    assert store.due(range(SHARDS), NOW + HOUR, 10) == []


def test_a_lease_is_taken_once(store: Store) -> None:
    keep(store, a_grant())
    first = store.acquire(KEY, LEASE, Due(), NOW)
    assert isinstance(first, Done)
    again = store.acquire(KEY, LEASE, Due(), NOW)
    assert again == Refused(first.grant)


def test_a_report_puts_a_grant_into_the_index(store: Store) -> None:
    keep(store, a_grant(refresh_at=NOW + HOUR, due_at=None))
    assert isinstance(store.acquire(KEY, LEASE, Rejected(VERSION), NOW), Done)
    assert store.due(range(SHARDS), NOW, 10) == [(NOW, KEY)]


# --- writing

STORED: dict[str, Any] = {
    "attempt_id": "attempt-mine",
    "lease_until": NOW + HOUR,
    "in_doubt": "attempt-earlier",
    "alert": an_alert(),
    "registration": Sealed(b"sealed registration"),
    "user_rank": 7,
    "profile_rank": 8,
    "suspension": Suspension(NOW, "operator", "a drill"),
}
ABSENT: dict[str, Any] = {
    "attempt_id": None,
    "in_doubt": None,
    "due_at": None,
    "alert": None,
    "refresh_token": None,
    "registration": None,
    "user_rank": None,
    "profile_rank": None,
    "suspension": None,
}


@pytest.mark.parametrize(
    ("field", "same", "other"),
    [
        ("attempt_id", "attempt-mine", "attempt-other"),
        ("version", VERSION, VERSION + 1),
        ("refresh_token", Sealed(b"sealed refresh token"), Sealed(b"sealed refresh token.")),
        ("registration", Sealed(b"sealed registration"), Sealed(b"sealed registration.")),
        ("in_doubt", "attempt-earlier", "attempt-mine"),
        ("phase", Phase.ACTIVE, Phase.SUSPENDED),
        ("due_at", NOW, NOW + TICK),
        ("user_rank", 7, 8),
        ("profile_rank", 8, 7),
        ("suspension", Suspension(NOW, "operator", "a drill"), Suspension(NOW, "operator", None)),
        ("suspension", Suspension(NOW, "operator", "a drill"), Suspension(NOW + TICK, "operator", "a drill")),
        ("suspension", Suspension(NOW, "operator", "a drill"), Suspension(NOW, "operator", "a drill", operator=True)),
        ("alert", an_alert(), an_alert(failures=3)),
        ("alert", an_alert(), an_alert(published_at=NOW)),
        ("alert", an_alert(), an_alert(claimed_until=None)),
        ("alert", an_alert(), an_alert(trace_id=None)),
        ("alert", an_alert(), an_alert(remind_at=NOW)),
        ("alert", an_alert(), an_alert(reminder=True)),
        ("alert", an_alert(), an_alert(ends=("incident-0",))),
        ("alert", an_alert(), an_alert(raised_at=NOW - HOUR + TICK)),
    ],
)
def test_a_write_takes_effect_only_when_a_field_is_equal(store: Store, field: str, same: object, other: object) -> None:
    before = keep(store, a_grant(**STORED))
    after = replace(before, scope="other")
    refused = store.write(before, after, When(**{field: other}))  # type: ignore[arg-type]
    assert refused == Refused(before)
    assert store.get(KEY) == before
    assert store.write(before, after, When(**{field: same})) == Done(after)  # type: ignore[arg-type]
    assert store.get(KEY) == after


def test_every_condition_has_a_row() -> None:
    rows = {"attempt_id", "version", "refresh_token", "registration", "in_doubt", "phase", "due_at", "alert"}
    assert {field.name for field in fields(When)} == rows | {"user_rank", "profile_rank", "suspension"}


@pytest.mark.parametrize("field", list(ABSENT))
def test_a_write_takes_effect_only_when_a_field_is_absent(store: Store, field: str) -> None:
    before = keep(store, a_grant(**STORED))
    after = replace(before, scope="other")
    absent = When(**{field: None})
    assert store.write(before, after, absent) == Refused(before)
    emptied = replace(before, **{field: None})
    assert isinstance(store.write(before, emptied, version_of(before)), Done)
    assert store.write(emptied, replace(emptied, scope="other"), absent) == Done(replace(emptied, scope="other"))


@pytest.mark.parametrize("field", list(ABSENT))
def test_a_field_that_is_absent_equals_no_value(store: Store, field: str) -> None:
    before = keep(store, a_grant(**STORED | ABSENT))
    wanted = a_grant(**STORED)
    when = When(**{field: getattr(wanted, field)})
    assert store.write(before, replace(before, scope="other"), when) == Refused(before)


def test_all_conditions_must_hold(store: Store) -> None:
    before = keep(store, a_grant(**STORED))
    after = replace(before, scope="other")
    assert store.write(before, after, When(attempt_id="attempt-mine", version=VERSION + 1)) == Refused(before)
    assert store.write(before, after, When(attempt_id="attempt-other", version=VERSION)) == Refused(before)
    when = When(
        attempt_id="attempt-mine",
        version=VERSION,
        refresh_token=before.refresh_token,
        in_doubt="attempt-earlier",
        phase=Phase.ACTIVE,
        due_at=NOW,
        alert=an_alert(),
    )
    assert store.write(before, after, when) == Done(after)


def test_writing_what_is_missing_is_refused(store: Store) -> None:
    grant = a_grant()
    assert store.write(grant, replace(grant, scope="other"), When(attempt_id=None)) == Refused(None)
    assert store.get(KEY) is None


def test_a_write_leaves_alone_what_does_not_differ(store: Store) -> None:
    before = keep(store, a_grant(**STORED))
    meanwhile = replace(before, phase=Phase.SUSPENDED, last_error="meanwhile", registration=Sealed(b"meanwhile"))
    assert isinstance(store.write(before, meanwhile, version_of(before)), Done)
    after = replace(before, attempt_id=None, lease_until=None, in_doubt=None, scope="other", failures=1)
    assert isinstance(store.write(before, after, When(attempt_id="attempt-mine")), Done)
    assert store.get(KEY) == replace(
        meanwhile, attempt_id=None, lease_until=None, in_doubt=None, scope="other", failures=1
    )


def test_a_write_of_nothing_asks_the_condition(store: Store) -> None:
    grant = keep(store, a_grant())
    assert store.write(grant, grant, version_of(grant)) == Done(grant)
    assert store.write(grant, grant, When(version=2)) == Refused(grant)
    assert store.get(KEY) == grant


def test_every_field_can_be_written_and_emptied(store: Store) -> None:
    bare = Grant(key=KEY, phase=Phase.ACTIVE, version=1, refresh_at=NOW, created_at=NOW - HOUR)
    whole = full_grant()
    assert all(
        getattr(whole, field.name) != getattr(bare, field.name) for field in fields(Grant) if field.name != "key"
    )
    keep(store, bare)
    assert store.write(bare, whole, When(version=1)) == Done(whole)
    assert store.get(KEY) == whole
    assert store.write(whole, bare, version_of(whole)) == Done(bare)
    assert store.get(KEY) == bare
    assert store.due(range(SHARDS), NOW + 1000 * HOUR, 10) == []


def full_grant() -> Grant:
    """A grant with every field set."""
    return a_grant(
        phase=Phase.SUSPENDED,
        refresh_at=NOW + HOUR,
        created_at=NOW - 2 * HOUR,
        registration=Sealed(b"sealed registration"),
        registration_spent_at=NOW - HOUR,
        kind=GrantKind.PERSONAL,
        replace_at=NOW + 500 * HOUR,
        on_hold=Suspension(NOW - HOUR, "acme-onboarding", "moving in"),
        foreign_at=NOW - HOUR / 2,
        expiry_told=NOW - 3 * HOUR,
        authorized_at=NOW - 4 * HOUR,
        refresh_expires_at=NOW + 1000 * HOUR,
        attempt_id="attempt-mine",
        lease_until=NOW + timedelta(seconds=18),
        in_doubt="attempt-earlier",
        hold_until=NOW + timedelta(seconds=180),
        failures=3,
        takeovers=2,
        last_error="throttled",
        last_attempt_at=NOW,
        alert=an_alert(published_at=NOW, remind_at=NOW + HOUR, reminder=True, ends=("incident-0",)),
        suspended_from=Phase.REAUTHORIZATION_REQUIRED,
        suspension=Suspension(NOW - HOUR, "acme-operations", "a drill", operator=True),
        profile_id="profile-1",
        wise_user_id="user-1",
        user_rank=3_544_732_800_001,
        profile_rank=3_544_732_800_002,
        unproven=True,
        unlisted=True,
    )


# --- the forms that values may have

boxes = st.one_of(st.binary(min_size=1, max_size=400), st.sampled_from([8_000, 32_000]).map(lambda n: b"\xa5" * n)).map(
    Sealed
)
grants = st.builds(
    Grant,
    key=st.just(KEY),
    phase=st.sampled_from(Phase),
    refresh_token=st.none() | boxes,
    version=counts,
    refresh_at=instants,
    created_at=instants,
    access_token=st.none() | boxes,
    registration=st.none() | boxes,
    registration_spent_at=st.none() | instants,
    expiry_told=st.none() | instants,
    authorized_at=st.none() | instants,
    issued_at=st.none() | instants,
    expires_at=st.none() | instants,
    refresh_expires_at=st.none() | instants,
    scope=st.none() | texts,
    attempt_id=st.none() | texts,
    lease_until=st.none() | instants,
    in_doubt=st.none() | texts,
    hold_until=st.none() | instants,
    due_at=st.none() | instants,
    failures=counts,
    takeovers=counts,
    last_error=st.none() | texts,
    last_attempt_at=st.none() | instants,
    alert=st.none() | alerts,
    profile_id=st.none() | texts,
    wise_user_id=st.none() | texts,
    user_rank=st.none() | counts,
    profile_rank=st.none() | counts,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grant=grants)
def test_any_grant_goes_round(store: Store, grant: Grant) -> None:
    assert store.create(grant) == Done(grant)
    assert store.get(KEY) == grant
    assert store.create(grant) == Refused(grant)
    assert store.delete(grant, version_of(grant)) == Done(grant)


@pytest.mark.parametrize("size", [8_000, 32_000])
def test_long_values_go_round_beside_each_other(store: Store, size: int) -> None:
    box = Sealed(bytes(range(256)) * (size // 256 + 1))
    grant = keep(store, a_grant(access_token=box, refresh_token=box, registration=box))
    assert store.get(KEY) == grant


# --- the index of what is due


def due_grants(count: int) -> list[Grant]:
    """Grants whose instants run against the order of their ids, a second apart."""
    return [
        a_grant(GrantKey("acme", f"user-{number:03}"), due_at=NOW - timedelta(seconds=number))
        for number in range(count)
    ]


def test_the_index_holds_what_is_due_and_only_that(store: Store) -> None:
    now, later, never = (GrantKey("acme", name) for name in ("now", "later", "never"))
    keep(store, a_grant(now, due_at=NOW, profile_id="profile-1"))
    keep(store, a_grant(later, due_at=NOW + TICK))
    keep(store, a_grant(never, due_at=None))
    assert store.due(range(SHARDS), NOW, 10) == [(NOW, now)]
    assert store.due(range(SHARDS), NOW + TICK, 10) == [(NOW, now), (NOW + TICK, later)]
    assert store.due([], NOW, 10) == []


def test_a_grant_leaves_the_index_and_comes_back(store: Store) -> None:
    grant = keep(store, a_grant())
    assert isinstance(store.write(grant, replace(grant, due_at=None), version_of(grant)), Done)
    assert store.due(range(SHARDS), NOW + HOUR, 10) == []
    assert isinstance(store.write(replace(grant, due_at=None), grant, version_of(grant)), Done)
    assert store.due(range(SHARDS), NOW, 10) == [(NOW, KEY)]


def test_the_most_urgent_come_first_over_all_shards(store: Store) -> None:
    grants = [keep(store, grant) for grant in due_grants(40)]
    found = list(store.due(range(SHARDS), NOW, 40))
    assert found == sorted((grant.due_at, grant.key) for grant in grants if grant.due_at)
    assert len({grant.key.shard for grant in grants}) > 1


def test_each_shard_gives_its_most_urgent_up_to_the_limit(store: Store) -> None:
    grants = [keep(store, grant) for grant in due_grants(60)]
    by_shard: dict[int, list[tuple[datetime, GrantKey]]] = {}
    for grant in grants:
        assert grant.due_at is not None
        by_shard.setdefault(grant.key.shard, []).append((grant.due_at, grant.key))
    assert max(len(rows) for rows in by_shard.values()) > 2
    shards = list(by_shard)[: len(by_shard) // 2]
    wanted = sorted(row for shard in shards for row in sorted(by_shard[shard])[:2])
    assert list(store.due(shards, NOW, 2)) == wanted


def test_taking_a_free_lease_leaves_the_index_alone(store: Store) -> None:
    keep(store, a_grant(due_at=NOW - HOUR))
    assert isinstance(store.acquire(KEY, LEASE, Due(), NOW), Done)
    assert store.due(range(SHARDS), NOW, 10) == [(NOW - HOUR, KEY)]


def test_postponing_moves_only_what_is_due(store: Store) -> None:
    grant = keep(store, a_grant(attempt_id="attempt-other", lease_until=NOW, phase=Phase.SUSPENDED))
    store.postpone(KEY, NOW + HOUR, NOW)
    assert store.get(KEY) == replace(grant, due_at=NOW + HOUR)
    store.postpone(KEY, NOW + 5 * HOUR, NOW + HOUR - TICK)
    assert store.get(KEY) == replace(grant, due_at=NOW + HOUR)
    assert store.due(range(SHARDS), NOW + HOUR, 10) == [(NOW + HOUR, KEY)]


def test_postponing_what_is_missing_or_never_due_does_nothing(store: Store) -> None:
    never = keep(store, a_grant(due_at=None))
    store.postpone(KEY, NOW + HOUR, NOW)
    store.postpone(GrantKey("acme", "nobody"), NOW + HOUR, NOW)
    assert store.get(KEY) == never
    assert store.get(GrantKey("acme", "nobody")) is None
    assert store.due(range(SHARDS), NOW + 2 * HOUR, 10) == []


# --- standing down


def test_a_due_grant_stands_down_until_an_instant(store: Store) -> None:
    grant = keep(store, a_grant(refresh_at=NOW - HOUR, failures=2))
    store.stand_down(KEY, NOW + HOUR, NOW, "barred")
    assert store.get(KEY) == replace(grant, refresh_at=NOW + HOUR, last_error="barred")
    assert store.due(range(SHARDS), NOW, 10) == [(NOW, KEY)]
    store.stand_down(KEY, NOW + 2 * HOUR, NOW + HOUR, "again")
    assert store.get(KEY) == replace(grant, refresh_at=NOW + 2 * HOUR, last_error="again")
    store.stand_down(KEY, NOW + 7 * HOUR, NOW + 6 * HOUR - TICK, "at its last millisecond")
    assert store.get(KEY) == replace(grant, refresh_at=NOW + 7 * HOUR, last_error="at its last millisecond")


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(LATER, id="due a millisecond later"),
        pytest.param(HELD, id="somebody is at it"),
        pytest.param({"attempt_id": "attempt-other", "lease_until": NOW - HOUR}, id="a lease that ran out"),
        pytest.param({"in_doubt": "attempt-earlier"}, id="in doubt"),
        pytest.param({"expires_at": NOW}, id="its token ends at this very millisecond"),
        pytest.param({"access_token": None, "issued_at": None, "expires_at": None}, id="without a token"),
        pytest.param({"phase": Phase.SUSPENDED}, id="suspended"),
        pytest.param({"phase": Phase.REAUTHORIZATION_REQUIRED}, id="waiting for the user"),
    ],
)
def test_no_other_grant_stands_down(store: Store, stored: dict[str, Any]) -> None:
    grant = keep(store, a_grant(**stored))
    store.stand_down(KEY, NOW + HOUR, NOW, "barred")
    assert store.get(KEY) == grant


def test_nothing_stands_down_that_does_not_exist(store: Store) -> None:
    store.stand_down(KEY, NOW + HOUR, NOW, "barred")
    assert store.get(KEY) is None
    assert store.due(range(SHARDS), NOW + 2 * HOUR, 10) == []


# --- the list


def test_a_tenants_grants_come_in_pages_in_the_order_of_their_ids(store: Store) -> None:
    names = ["a", "a-1", "a.1", "A", "b", "b_1", "10", "9"]
    for name in names:
        keep(store, a_grant(GrantKey("acme", name), profile_id=f"profile-{name}"))
    keep(store, a_grant(GrantKey("acme-2", "foreign")))
    keep(store, a_grant(GrantKey("globex", "foreign")))
    found, after = [], None
    for _ in range(10):
        page = store.page("acme", 3, after)
        assert len(page.rows) <= 3
        found += page.rows
        after = page.after
        if after is None:
            break
        assert after == page.rows[-1][0]
    assert [row[0] for row in found] == sorted(names)
    assert {row[1:] for row in found} == {("active", a_grant().created_at)}


def test_the_last_page_may_be_full_or_empty(store: Store) -> None:
    for name in ("a", "b"):
        keep(store, a_grant(GrantKey("acme", name), phase=Phase.SUSPENDED))
    whole = store.page("acme", 5, None)
    assert [row[:2] for row in whole.rows] == [("a", "suspended"), ("b", "suspended")]
    assert whole.after is None
    assert list(store.page("acme", 2, None).rows) == list(whole.rows)
    assert store.page("acme", 5, "b").rows == []
    assert store.page("nobody", 5, None).rows == []


# --- our application's own token


OWN = Grant(
    key=APPLICATION,
    phase=Phase.ACTIVE,
    version=7,
    refresh_at=NOW,
    created_at=NOW,
    due_at=NOW,
    kind=GrantKind.APPLICATION,
)


def test_what_begins_is_there_and_due(store: Store) -> None:
    store.begin(OWN)
    assert store.get(APPLICATION) == OWN
    assert store.due(range(SHARDS), NOW, 10) == [(NOW, APPLICATION)]
    assert isinstance(store.acquire(APPLICATION, LEASE, Due(), NOW), Done)


def test_what_is_there_does_not_begin_again(store: Store) -> None:
    store.begin(OWN)
    store.begin(replace(OWN, version=8, scope="other"))
    assert store.get(APPLICATION) == OWN


def test_it_is_in_no_tenants_list(store: Store) -> None:
    store.begin(OWN)
    assert [row for row in store.page("acme", 10, None).rows if row[0] == "application"] == []


@pytest.mark.parametrize("held", [False, True])
def test_a_doubt_from_outside_is_of_another_version_whoever_works_on_it(
    store: Store,
    held: bool,  # noqa: FBT001 - a case
) -> None:
    store.begin(replace(OWN, refresh_at=NOW if held else NOW + HOUR))
    if held:
        store.acquire(APPLICATION, LEASE, Due(), NOW)
    before = store.get(APPLICATION)
    assert before is not None
    store.doubt(APPLICATION, "attempt-other", NOW + TICK)
    after = replace(before, in_doubt="attempt-other", due_at=NOW + TICK, version=OWN.version + 1)
    assert store.get(APPLICATION) == after
    assert store.write(before, replace(before, attempt_id=None), When(version=before.version)) == Refused(after)
    store.doubt(APPLICATION, "attempt-other", NOW + TICK)
    assert store.get(APPLICATION) == replace(after, version=OWN.version + 2)


def test_a_doubt_that_comes_late_leaves_a_newer_token_alone(store: Store) -> None:
    newer = replace(OWN, issued_at=NOW + TICK, expires_at=NOW + HOUR)
    store.begin(newer)
    store.doubt(APPLICATION, "attempt-other", NOW)
    assert store.get(APPLICATION) == newer
    store.doubt(APPLICATION, "attempt-other", NOW + TICK)
    stored = store.get(APPLICATION)
    assert stored is not None
    assert stored.in_doubt == "attempt-other"


def test_a_doubt_about_what_is_not_there_is_no_error(store: Store) -> None:
    store.doubt(APPLICATION, "attempt-other", NOW)
    assert store.get(APPLICATION) is None
