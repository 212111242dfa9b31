"""What is kept about all grants together: in memory and in DynamoDB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.examples import HOUR, NO_ANSWERS, NOW, TICK, a_grant, alerts, an_alert, counts, instants, texts
from tests.contract.minutes import MINUTE, Calls, fullest_minute
from tests.fakes.fleet import InMemoryFleet
from token_rotator.adapters.dynamo_fleet import DynamoFleet
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.errors import CorruptGrant, StoreRefused, StoreUnavailable
from token_rotator.domain.fleet import Fleet, Lane
from token_rotator.domain.grant import AlertKind
from token_rotator.service.ports import Admitted, FleetStore, Paced

Item = dict[str, Any]

LANE = Lane("sweep", 900)
OTHER = Lane("demand", 100)
OPEN = Fleet(open_until=NOW + HOUR, why="throttled", since=NOW, trips=1)


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def store(request: pytest.FixtureRequest) -> FleetStore:
    if request.param == "memory":
        return InMemoryFleet()
    return DynamoFleet(request.getfixturevalue("dynamodb"), request.getfixturevalue("table"))


# --- the breaker's state


def full_fleet() -> Fleet:
    """A fleet with every field set."""
    return Fleet(
        open_until=NOW + HOUR,
        why="client_refused",
        since=NOW - HOUR,
        trips=3,
        closed_at=NOW - 2 * HOUR,
        probe_by="attempt-probe",
        probe_until=NOW + TICK,
        client_credentials_refused=True,
        alert=an_alert(kind=AlertKind.CLIENT_REFUSED, published_at=NOW),
        dying=an_alert(kind=AlertKind.MANY_GRANTS_DYING, ends=("incident-0", "incident-00")),
        dying_at=NOW - TICK,
    )


def test_where_nothing_was_stored_all_is_well(store: FleetStore) -> None:
    assert store.read() == Fleet()


def test_what_was_written_is_read_back_under_the_next_revision(store: FleetStore) -> None:
    stored = store.write(Fleet(), OPEN)
    assert stored == replace(OPEN, revision=1)
    assert store.read() == stored


def test_every_field_can_be_written_and_emptied(store: FleetStore) -> None:
    whole = full_fleet()
    assert all(getattr(whole, f.name) != getattr(Fleet(), f.name) for f in fields(Fleet) if f.name != "revision")
    stored = store.write(Fleet(), whole)
    assert stored == replace(whole, revision=1)
    assert store.read() == stored
    assert store.write(stored, Fleet()) == Fleet(revision=2)
    assert store.read() == Fleet(revision=2)


def test_deaths_are_counted_to_the_minute(store: FleetStore) -> None:
    within = timedelta(minutes=10)
    assert [store.count_death(NOW + n * TICK, within) for n in range(3)] == [1, 2, 3]
    assert store.count_death(NOW + timedelta(minutes=4), within) == 4
    assert store.count_death(NOW + timedelta(minutes=9, seconds=59), within) == 5
    assert store.count_death(NOW + timedelta(minutes=11), within) == 3
    assert store.count_death(NOW + timedelta(days=3), within) == 1
    assert store.count_death(NOW + timedelta(days=3), within) == 2
    assert store.read() == Fleet()


def test_deaths_do_not_disturb_the_breaker(store: FleetStore) -> None:
    stored = store.write(Fleet(), OPEN)
    assert store.count_death(NOW, timedelta(minutes=10)) == 1
    assert store.read() == stored
    assert stored is not None
    assert store.write(stored, Fleet()) == Fleet(revision=2)
    assert store.count_death(NOW, timedelta(minutes=10)) == 2


def test_the_second_to_write_over_one_revision_writes_nothing(store: FleetStore) -> None:
    first = store.write(Fleet(), OPEN)
    assert store.write(Fleet(), replace(OPEN, why="we_are_wrong")) is None
    assert store.read() == first


def test_two_who_write_the_same_do_not_both_win(store: FleetStore) -> None:
    assert store.write(Fleet(), OPEN) == replace(OPEN, revision=1)
    assert store.write(Fleet(), OPEN) is None


@pytest.mark.parametrize("revision", [2, 7])
def test_a_revision_that_is_not_there_is_not_written_over(store: FleetStore, revision: int) -> None:
    assert store.write(Fleet(revision=revision), OPEN) is None
    assert store.read() == Fleet()
    first = store.write(Fleet(), OPEN)
    assert store.write(Fleet(revision=revision), Fleet()) is None
    assert store.read() == first


fleets = st.builds(
    Fleet,
    open_until=st.none() | instants,
    why=st.none() | texts,
    since=st.none() | instants,
    trips=counts,
    closed_at=st.none() | instants,
    probe_by=st.none() | texts,
    probe_until=st.none() | instants,
    client_credentials_refused=st.booleans(),
    alert=st.none() | alerts,
    dying=st.none() | alerts,
    dying_at=st.none() | instants,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fleet=fleets)
def test_any_fleet_goes_round(store: FleetStore, fleet: Fleet) -> None:
    before = store.read()
    stored = store.write(before, fleet)
    assert stored == replace(fleet, revision=before.revision + 1)
    assert store.read() == stored


# --- the pace


def calls_at_once(store: FleetStore, lane: Lane, now: datetime) -> int:
    """Count how many calls a lane admits at one instant, one by one."""
    for count in range(lane.burst + 1):
        if store.admit(lane, 1, now) != Admitted():
            return count
    raise AssertionError("more than a burst")


@pytest.mark.parametrize("lane", [LANE, OTHER, Lane("slow", 1), Lane("fast", 100_000)], ids=str)
def test_an_idle_lane_admits_one_burst_at_once(store: FleetStore, lane: Lane) -> None:
    assert calls_at_once(store, lane, NOW) == lane.burst
    assert calls_at_once(store, lane, NOW + HOUR) == lane.burst
    assert store.admit(lane, lane.burst, NOW + 2 * HOUR) == Admitted()
    assert isinstance(store.admit(lane, 1, NOW + 2 * HOUR), Paced)


@pytest.mark.parametrize("calls", [1, 4, LANE.burst])
def test_a_lane_that_is_used_up_says_when_it_admits_again(store: FleetStore, calls: int) -> None:
    assert store.admit(LANE, LANE.burst, NOW) == Admitted()
    answer = store.admit(LANE, calls, NOW)
    assert isinstance(answer, Paced)
    assert NOW < answer.until <= NOW + calls * (LANE.worth(1) + TICK)
    assert store.admit(LANE, calls, answer.until - TICK) == answer
    assert store.admit(LANE, calls, answer.until) == Admitted()


def test_calls_are_admitted_all_or_none(store: FleetStore) -> None:
    assert store.admit(LANE, LANE.burst - 2, NOW) == Admitted()
    assert isinstance(store.admit(LANE, 3, NOW), Paced)
    assert store.admit(LANE, 2, NOW) == Admitted()
    assert isinstance(store.admit(LANE, 1, NOW), Paced)


@pytest.mark.parametrize("calls", [0, -1, LANE.burst + 1])
def test_more_than_a_burst_or_nothing_cannot_be_asked_for(store: FleetStore, calls: int) -> None:
    with pytest.raises(ValueError, match="the lane sweep admits 1 to 15 calls at once"):
        store.admit(LANE, calls, NOW)


def test_lanes_do_not_slow_each_other(store: FleetStore) -> None:
    assert calls_at_once(store, LANE, NOW) == LANE.burst
    assert calls_at_once(store, OTHER, NOW) == OTHER.burst


def test_the_pace_is_no_part_of_the_revision(store: FleetStore) -> None:
    assert store.admit(LANE, LANE.burst, NOW) == Admitted()
    assert store.read() == Fleet()
    opened = store.write(Fleet(), OPEN)
    assert opened is not None
    closed = store.write(opened, Fleet())
    assert closed == Fleet(revision=2)
    assert isinstance(store.admit(LANE, 1, NOW), Paced)
    assert store.admit(LANE, 1, NOW + MINUTE) == Admitted()
    assert store.write(closed, OPEN) == replace(OPEN, revision=3)


@pytest.mark.parametrize("open_until", [NOW + HOUR, NOW, NOW - HOUR], ids=["open", "just over", "half-open"])
def test_a_breaker_that_is_not_closed_admits_nobody_and_takes_nothing(store: FleetStore, open_until: datetime) -> None:
    opened = store.write(Fleet(), replace(OPEN, open_until=open_until))
    assert opened is not None
    assert store.admit(LANE, 1, NOW) == opened
    assert store.admit(OTHER, 3, NOW) == opened
    assert store.write(opened, Fleet()) is not None
    assert calls_at_once(store, LANE, NOW) == LANE.burst
    assert calls_at_once(store, OTHER, NOW) == OTHER.burst


def test_an_open_breaker_is_seen_by_who_saw_the_lane_busy_or_full(store: FleetStore) -> None:
    assert store.admit(LANE, LANE.burst - 1, NOW) == Admitted()
    opened = store.write(Fleet(), OPEN)
    assert opened is not None
    assert store.admit(LANE, 1, NOW) == opened
    assert store.write(opened, Fleet()) is not None
    assert store.admit(LANE, 1, NOW) == Admitted()
    assert isinstance(store.admit(LANE, 1, NOW), Paced)
    opened = store.write(Fleet(revision=2), OPEN)
    assert store.admit(LANE, 1, NOW) == opened


# --- no more than a lane admits

LANES = [1, 2, 3, 9, 10, 11, 19, 20, 21, 60, 100, 149, 150, 151, 601, 900, 1000, 7919, 60_016, 100_000]


def greedy(store: FleetStore, lane: Lane, calls: int, minutes: int) -> Calls:
    """Ask again and again, each time at the very instant that was named."""
    admitted: Calls = []
    now = NOW
    while now < NOW + minutes * MINUTE:
        answer = store.admit(lane, calls, now)
        if isinstance(answer, Paced):
            now = answer.until
        else:
            assert answer == Admitted()
            admitted.append((now, calls))
    return admitted


gaps = st.one_of(
    st.just(0),
    st.integers(min_value=1, max_value=3),
    st.integers(min_value=4, max_value=900),
    st.integers(min_value=901, max_value=70_000),
)
wishes = st.lists(st.tuples(gaps, st.integers(min_value=1, max_value=15), st.booleans()), min_size=1, max_size=120)


@settings(max_examples=500, deadline=None)
@given(per_minute=st.sampled_from(LANES), wishes=wishes, skews=st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_no_minute_holds_more_calls_than_a_lane_admits(
    per_minute: int, wishes: list[tuple[int, int, bool]], skews: list[int]
) -> None:
    """Whoever asks, with whatever clock: now and then, or again at the very instant that was named."""
    store, lane, now = InMemoryFleet(), Lane("any", per_minute), NOW
    admitted: Calls = []
    for number, (gap, wanted, again) in enumerate(wishes):
        now += gap * TICK
        calls = min(wanted, lane.burst)
        mine = now + skews[number % len(skews)] * TICK
        answer = store.admit(lane, calls, mine)
        if isinstance(answer, Paced) and again:
            now = mine = answer.until
            answer = store.admit(lane, calls, mine)
            assert answer == Admitted()
        if answer == Admitted():
            admitted.append((mine, calls))
    assert admitted
    assert fullest_minute(admitted) <= per_minute


@pytest.mark.parametrize("calls", [1, "burst"])
@pytest.mark.parametrize("per_minute", [2, 10, 60, 100, 900, 1000])
def test_a_lane_under_load_admits_nearly_all_that_it_may(per_minute: int, calls: int | str) -> None:
    lane = Lane("any", per_minute)
    admitted = greedy(InMemoryFleet(), lane, lane.burst if calls == "burst" else 1, 4)
    assert fullest_minute(admitted) <= per_minute
    assert sum(count for _, count in admitted) >= 4 * (per_minute - lane.burst) * 0.98


def test_the_fullest_minute_leaves_out_its_end() -> None:
    assert fullest_minute([(NOW, 1), (NOW + MINUTE, 2)]) == 2
    assert fullest_minute([(NOW + MINUTE - TICK, 2), (NOW, 1), (NOW, 1)]) == 4
    assert fullest_minute([(NOW + n * MINUTE / 2, n) for n in range(1, 5)]) == 7
    assert fullest_minute([]) == 0


def test_a_pace_that_forgets_the_burst_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "worth", lambda lane, calls: calls * MINUTE / lane.per_minute)
    assert fullest_minute(greedy(InMemoryFleet(), LANE, 1, 2)) > LANE.per_minute


steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 40, 68, 250, 5_000]),
        st.integers(min_value=1, max_value=LANE.burst),
        st.sampled_from(["first", "second"]),
        st.sampled_from([LANE, OTHER]),
        st.sampled_from([None] * 9 + ["breaker"]),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.emulator
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_two_over_the_table_answer_as_one_in_memory_does(
    dynamodb: DynamoDBClient, table: str, steps: list[tuple[int, int, str, Lane, str | None]]
) -> None:
    """Whatever each has seen of the other's calls."""
    dynamodb.delete_item(TableName=table, Key={"pk": {"S": "#fleet"}})
    pair = {name: DynamoFleet(dynamodb, table) for name in ("first", "second")}
    model, now = InMemoryFleet(), NOW
    for gap, wanted, name, lane, event in steps:
        now += gap * TICK
        if event == "breaker":
            before = model.read()
            after = OPEN if before.open_until is None else Fleet()
            assert pair[name].write(before, after) == model.write(before, after)
        calls = min(wanted, lane.burst)
        assert pair[name].admit(lane, calls, now) == model.admit(lane, calls, now)


# --- what it costs


@dataclass
class Wire:
    """Counts the calls that a client makes, and sends the next `twice` of them twice, as an SDK's retry does."""

    client: Any
    calls: Counter[str]
    twice: int = 0

    def on_call(self, model: Any, **_: object) -> None:
        self.calls[model.name] += 1

    def on_send(self, request: Any, **_: object) -> None:
        if self.twice:
            self.twice -= 1
            self.client._endpoint.http_session.send(request)


@pytest.fixture
def wire(dynamodb: DynamoDBClient) -> Iterator[Wire]:
    made = Wire(dynamodb, Counter())
    hooks = {"before-call.dynamodb": made.on_call, "before-send.dynamodb": made.on_send}
    for event, hook in hooks.items():
        dynamodb.meta.events.register(event, hook)
    yield made
    for event, hook in hooks.items():
        dynamodb.meta.events.unregister(event, hook)


@pytest.mark.emulator
def test_one_write_admits_who_asks_alone(dynamodb: DynamoDBClient, table: str, wire: Wire) -> None:
    store = DynamoFleet(dynamodb, table)
    moments = [NOW, NOW, NOW + TICK, NOW + HOUR, NOW + HOUR, NOW + HOUR + 5 * LANE.worth(1)]
    for count, now in enumerate(moments, start=1):
        assert store.admit(LANE, 2, now) == Admitted()
        assert wire.calls == {"UpdateItem": count}


@pytest.mark.emulator
def test_one_write_says_that_a_lane_is_used_up_or_the_breaker_open(
    dynamodb: DynamoDBClient, table: str, wire: Wire
) -> None:
    store = DynamoFleet(dynamodb, table)
    store.admit(LANE, LANE.burst, NOW)
    assert isinstance(store.admit(LANE, 1, NOW), Paced)
    assert wire.calls == {"UpdateItem": 2}
    store.write(Fleet(), OPEN)
    assert store.admit(LANE, 1, NOW) == replace(OPEN, revision=1)
    assert wire.calls == {"UpdateItem": 4}


@pytest.mark.emulator
def test_who_guesses_wrong_writes_once_or_twice_more(dynamodb: DynamoDBClient, table: str, wire: Wire) -> None:
    first, second = (DynamoFleet(dynamodb, table) for _ in range(2))
    assert first.admit(LANE, 2, NOW) == Admitted()
    wire.calls.clear()
    assert second.admit(LANE, 2, NOW) == Admitted()  # it took the lane for idle
    assert wire.calls == {"UpdateItem": 2}
    wire.calls.clear()
    assert second.admit(LANE, 2, NOW) == Admitted()
    assert wire.calls == {"UpdateItem": 1}
    second._seen["sweep_tat"] += 10_000_000
    wire.calls.clear()
    assert second.admit(LANE, 2, NOW + HOUR) == Admitted()  # it took the lane for busy
    assert wire.calls == {"UpdateItem": 2}


@pytest.mark.emulator
def test_a_write_that_was_sent_twice_is_known_for_ones_own(dynamodb: DynamoDBClient, table: str, wire: Wire) -> None:
    store = DynamoFleet(dynamodb, table)
    wire.twice = 3
    assert store.write(Fleet(), OPEN) == replace(OPEN, revision=1)
    assert store.write(Fleet(revision=1), full_fleet()) == replace(full_fleet(), revision=2)
    assert store.write(Fleet(revision=1), full_fleet()) is None
    assert store.read() == replace(full_fleet(), revision=2)


@pytest.mark.emulator
def test_calls_whose_write_was_sent_twice_are_taken_twice_and_never_too_few(
    dynamodb: DynamoDBClient, table: str, wire: Wire
) -> None:
    store = DynamoFleet(dynamodb, table)
    wire.twice = 1
    assert store.admit(LANE, 3, NOW) == Admitted()
    assert calls_at_once(store, LANE, NOW) == LANE.burst - 6


# --- the item


@pytest.mark.emulator
def test_an_item_is_what_the_design_says(dynamodb: DynamoDBClient, table: str) -> None:
    store = DynamoFleet(dynamodb, table)
    store.admit(LANE, 1, NOW)
    (item,) = dynamodb.scan(TableName=table)["Items"]
    taken = {"N": str(int(NOW.timestamp() * 1000) + 68)}
    assert item == {"pk": {"S": "#fleet"}, "sweep_tat": taken}
    store.write(Fleet(), OPEN)
    (item,) = dynamodb.scan(TableName=table)["Items"]
    assert item.pop("write_id")["S"]
    assert item == {
        "pk": {"S": "#fleet"},
        "schema": {"N": "1"},
        "revision": {"N": "1"},
        "open_until": {"N": str(int((NOW + HOUR).timestamp() * 1000))},
        "why": {"S": "throttled"},
        "since": {"N": str(int(NOW.timestamp() * 1000))},
        "trips": {"N": "1"},
        "client_credentials_refused": {"BOOL": False},
        "sweep_tat": taken,
    }


@pytest.mark.emulator
def test_it_lies_beside_the_grants_and_in_no_index(dynamodb: DynamoDBClient, table: str) -> None:
    grants = DynamoGrants(dynamodb, table)
    grants.create(a_grant())
    store = DynamoFleet(dynamodb, table)
    store.write(Fleet(), full_fleet())
    store.admit(LANE, 1, NOW)
    assert [key for _, key in grants.due(range(16), NOW + 100 * HOUR, 10)] == [a_grant().key]
    assert len(dynamodb.scan(TableName=table, IndexName="tenant")["Items"]) == 1


@pytest.mark.emulator
@pytest.mark.parametrize(
    "attributes",
    [
        {"schema": {"N": "2"}},
        {"schema": None},
        {"revision": {"S": "1"}},
        {"open_until": {"S": "soon"}},
        {"open_until": {"N": "1" + "0" * 30}},
        {"trips": {"N": "1.5"}},
        {"client_credentials_refused": {"N": "1"}},
        {"client_credentials_refused": {"S": "true"}},
        {"alert": {"S": "told"}},
        {"alert": {"M": {}}},
        {"probe_by": {"NULL": True}},
    ],
    ids=str,
)
def test_what_this_version_did_not_write_is_corrupt(
    dynamodb: DynamoDBClient, table: str, attributes: dict[str, Item | None]
) -> None:
    store = DynamoFleet(dynamodb, table)
    store.write(Fleet(), full_fleet())
    item: Item = dynamodb.get_item(TableName=table, Key={"pk": {"S": "#fleet"}})["Item"]
    for name, value in attributes.items():
        item.pop(name, None)
        if value is not None:
            item[name] = value
    dynamodb.put_item(TableName=table, Item=item)
    with pytest.raises(CorruptGrant):
        store.read()
    with pytest.raises(CorruptGrant):
        store.admit(LANE, 1, NOW)
    assert store.write(Fleet(revision=9), Fleet()) is None


@pytest.mark.emulator
@pytest.mark.parametrize("tat", [{"S": "soon"}, {"NULL": True}], ids=str)
def test_a_pace_that_this_version_did_not_write_is_corrupt(dynamodb: DynamoDBClient, table: str, tat: Item) -> None:
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "#fleet"}, "sweep_tat": tat})
    store = DynamoFleet(dynamodb, table)
    with pytest.raises(CorruptGrant):
        store.admit(LANE, 1, NOW)
    assert store.admit(OTHER, 1, NOW) == Admitted()
    assert store.read() == Fleet()


@pytest.mark.emulator
def test_what_a_later_version_adds_is_left_alone(dynamodb: DynamoDBClient, table: str) -> None:
    store = DynamoFleet(dynamodb, table)
    store.write(Fleet(), OPEN)
    item: Item = dynamodb.get_item(TableName=table, Key={"pk": {"S": "#fleet"}})["Item"]
    dynamodb.put_item(TableName=table, Item=item | {"novelty": {"S": "of a later version"}})
    assert store.write(Fleet(revision=1), Fleet()) == Fleet(revision=2)
    store.admit(LANE, 1, NOW)
    item = dynamodb.get_item(TableName=table, Key={"pk": {"S": "#fleet"}})["Item"]
    assert item["novelty"] == {"S": "of a later version"}


# --- what DynamoDB refuses

CALLS: dict[str, Callable[[DynamoFleet], object]] = {
    "read": lambda store: store.read(),
    "write": lambda store: store.write(Fleet(), OPEN),
    "admit": lambda store: store.admit(LANE, 1, NOW),
}
OPERATIONS = {"read": "get_item", "write": "update_item", "admit": "update_item"}


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDeniedException", 400, StoreRefused),
        ("ResourceNotFoundException", 400, StoreRefused),
        ("KMSDisabledException", 400, StoreRefused),
        ("ProvisionedThroughputExceededException", 400, StoreUnavailable),
        ("InternalServerError", 500, StoreUnavailable),
        ("SomethingNewException", 400, StoreUnavailable),
    ],
)
def test_a_refusal_is_read_by_its_code(
    client: DynamoDBClient, call: str, code: str, status: int, kind: type[Exception]
) -> None:
    stubber = Stubber(client)
    stubber.add_client_error(OPERATIONS[call], code, "the message is not looked at", status)
    with stubber, pytest.raises(StoreUnavailable) as raised:
        CALLS[call](DynamoFleet(client, "grants"))
    assert type(raised.value) is kind
    assert code in str(raised.value)
    assert "message" not in str(raised.value)


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("error", NO_ANSWERS, ids=lambda error: type(error).__name__)
def test_no_answer_is_unavailable(client: DynamoDBClient, call: str, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    client.meta.events.register("before-call.dynamodb", fail)
    with pytest.raises(StoreUnavailable, match=type(error).__name__) as raised:
        CALLS[call](DynamoFleet(client, "grants"))
    assert type(raised.value) is StoreUnavailable


# --- what the fake does when told to fail


@pytest.mark.parametrize("plan", ["before", "after"])
def test_a_failure_comes_before_the_effect_or_after_it(plan: str) -> None:
    store = InMemoryFleet()
    store.failures = [plan, "ok", plan]
    with pytest.raises(StoreUnavailable):
        store.write(Fleet(), Fleet(trips=1))
    assert store.read() == (Fleet() if plan == "before" else Fleet(revision=1, trips=1))
    with pytest.raises(StoreUnavailable):
        store.admit(LANE, LANE.burst, NOW)
    assert isinstance(store.admit(LANE, 1, NOW), Admitted if plan == "before" else Paced)
