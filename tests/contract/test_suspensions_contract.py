"""The orders about tenants and the environment: in memory, in DynamoDB, and as a process knows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.examples import HOUR, NOW, TICK, a_grant
from tests.fakes.suspensions import InMemorySuspensions
from tests.fakes.world import FakeClock, RecordingJournal
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_suspensions import FORGOTTEN_AT_ONCE, DynamoSuspensions
from token_rotator.adapters.known_suspensions import KnownSuspensions
from token_rotator.domain.errors import CorruptGrant, StoreRefused, StoreUnavailable
from token_rotator.domain.suspension import KNOWN_FOR, Suspension, Suspensions
from token_rotator.service.journal import Trouble
from token_rotator.service.ports import SuspensionStore

ORDER = Suspension(NOW, "acme-operations", "a token of ours was found in a log")
OTHER = Suspension(NOW + HOUR, "globex")
ODD = "a.b-c_d"


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def store(request: pytest.FixtureRequest) -> SuspensionStore:
    if request.param == "memory":
        return InMemorySuspensions()
    return DynamoSuspensions(request.getfixturevalue("dynamodb"), request.getfixturevalue("table"))


def test_where_nothing_was_stored_nothing_is_suspended(store: SuspensionStore) -> None:
    assert store.read() == Suspensions()


@pytest.mark.parametrize("tenant", [None, "acme", ODD, "0" * 128, "environment"])
@pytest.mark.parametrize("order", [ORDER, OTHER], ids=["with a reason", "without"])
def test_an_order_is_in_force_until_it_is_lifted(store: SuspensionStore, tenant: str | None, order: Suspension) -> None:
    expected = Suspensions(environment=order) if tenant is None else Suspensions(tenants={tenant: order})
    assert store.suspend(tenant, order) == expected
    assert store.read() == expected
    assert store.lift(tenant) == Suspensions()
    assert store.read() == Suspensions()


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_the_first_order_stands_until_it_is_lifted(store: SuspensionStore, tenant: str | None) -> None:
    first = store.suspend(tenant, ORDER)
    assert store.suspend(tenant, OTHER) == first
    assert store.read() == first
    store.lift(tenant)
    assert store.suspend(tenant, OTHER).of(tenant or "any") == OTHER


def test_lifting_what_is_not_suspended_changes_nothing(store: SuspensionStore) -> None:
    assert store.lift(None) == store.lift("acme") == Suspensions()
    store.suspend("globex", ORDER)
    assert store.lift("acme") == store.read() == Suspensions(tenants={"globex": ORDER})


def test_each_order_is_its_own(store: SuspensionStore) -> None:
    store.suspend("acme", ORDER)
    store.suspend(None, OTHER)
    assert store.suspend(ODD, OTHER) == Suspensions(environment=OTHER, tenants={"acme": ORDER, ODD: OTHER})
    assert store.lift("acme") == Suspensions(environment=OTHER, tenants={ODD: OTHER})
    assert store.lift(None) == Suspensions(tenants={ODD: OTHER})


@pytest.mark.parametrize("tenant", [None, "acme", ODD, "0" * 128, "environment", "hold"])
def test_an_order_to_hold_lasts_until_the_instant_it_was_ended_with(store: SuspensionStore, tenant: str | None) -> None:
    def held(order: Suspension) -> Suspensions:
        if tenant is None:
            return Suspensions(held_environment=order)
        return Suspensions(held_tenants={tenant: order})

    assert store.hold(tenant, ORDER) == store.read() == held(ORDER)
    assert store.hold(tenant, OTHER) == store.read() == held(ORDER)
    ended = replace(ORDER, until=NOW + HOUR)
    assert store.release(tenant, NOW + HOUR) == store.read() == held(ended)
    assert store.release(tenant, NOW + 2 * HOUR) == store.read() == held(ended)
    assert store.hold(tenant, OTHER) == store.read() == held(OTHER)


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_ending_what_is_not_on_hold_changes_nothing(store: SuspensionStore, tenant: str | None) -> None:
    assert store.release(tenant, NOW) == store.read() == Suspensions()
    store.hold("globex", ORDER)
    assert store.release(tenant, NOW) == store.read() == Suspensions(held_tenants={"globex": ORDER})


def test_suspending_and_holding_are_orders_of_their_own(store: SuspensionStore) -> None:
    store.suspend("acme", ORDER)
    store.hold("acme", OTHER)
    store.hold(None, OTHER)
    assert store.lift("acme") == Suspensions(held_environment=OTHER, held_tenants={"acme": OTHER})
    store.suspend(None, ORDER)
    ended = replace(OTHER, until=NOW + HOUR)
    assert store.release(None, NOW + HOUR) == Suspensions(
        environment=ORDER, held_environment=ended, held_tenants={"acme": OTHER}
    )


@pytest.mark.parametrize("tenant", [None, "acme", ODD, "0" * 128, "environment", "hold"])
def test_an_ended_order_to_hold_is_forgotten_when_it_is_over(store: SuspensionStore, tenant: str | None) -> None:
    store.suspend(tenant, ORDER)
    store.hold(tenant, ORDER)
    before = store.hold("globex", ORDER)
    store.forget(NOW + 9 * HOUR)
    assert store.read() == before, "what is in force stays"
    before = store.release(tenant, NOW + HOUR)
    store.forget(NOW + HOUR)
    assert store.read() == before
    store.forget(NOW + HOUR + TICK)
    stopped = Suspensions(environment=ORDER) if tenant is None else Suspensions(tenants={tenant: ORDER})
    assert store.read() == replace(stopped, held_tenants={"globex": ORDER})
    assert store.hold(tenant, OTHER).hold_on(tenant or "any", NOW) == OTHER


def test_where_nothing_was_stored_nothing_is_forgotten(store: SuspensionStore) -> None:
    store.forget(NOW)
    assert store.read() == Suspensions()


def test_however_many_orders_are_over_all_are_forgotten_in_the_end(store: SuspensionStore) -> None:
    tenants = [f"{number:0>128}" for number in range(FORGOTTEN_AT_ONCE + 1)]
    for tenant in tenants:
        store.hold(tenant, ORDER)
        store.release(tenant, NOW + HOUR)
    for _ in range(2):
        store.forget(NOW + 2 * HOUR)
    assert store.read() == Suspensions()


@pytest.mark.emulator
def test_an_order_that_is_given_anew_while_another_is_forgotten_stays(dynamodb: DynamoDBClient, table: str) -> None:
    store, slow = DynamoSuspensions(dynamodb, table), DynamoSuspensions(dynamodb, table)
    for tenant in ("acme", "globex"):
        store.hold(tenant, ORDER)
        store.release(tenant, NOW + HOUR)
    read = slow.read

    def late() -> Suspensions:
        found = read()
        store.hold("acme", OTHER)
        return found

    slow.read = late  # type: ignore[method-assign]
    slow.forget(NOW + 2 * HOUR)
    assert store.read().held_tenants.get("acme") == OTHER
    store.forget(NOW + 2 * HOUR)
    assert store.read() == Suspensions(held_tenants={"acme": OTHER})


# --- the item


@pytest.mark.emulator
def test_the_item_is_as_described_and_no_grant(dynamodb: DynamoDBClient, table: str) -> None:
    store, grants = DynamoSuspensions(dynamodb, table), DynamoGrants(dynamodb, table)
    grants.create(a_grant())
    store.suspend("acme", ORDER)
    store.suspend(None, OTHER)
    (item,) = (i for i in dynamodb.scan(TableName=table)["Items"] if i["pk"]["S"].startswith("#"))
    since = str(int(NOW.timestamp() * 1000))
    assert item["pk"] == {"S": "#suspended"}
    assert item["tenant#acme"] == {
        "M": {"since": {"N": since}, "by": {"S": ORDER.by}, "reason": {"S": ORDER.reason or ""}}
    }
    assert set(item["environment"]["M"]) == {"since", "by"}
    assert [row[0] for row in grants.page("acme", 100, None).rows] == ["anna"]
    assert len(grants.due(range(16), NOW + HOUR, 100)) == 1


@pytest.mark.emulator
@pytest.mark.parametrize(
    "broken",
    [
        {"schema": {"N": "2"}},
        {},
        {"schema": {"N": "1"}, "environment": {"S": "stop"}},
        {"schema": {"N": "1"}, "environment": {"M": {"by": {"S": "x"}}}},
        {"schema": {"N": "1"}, "hold": {"S": "stop"}},
        {"schema": {"N": "1"}, "hold#acme": {"M": {"since": {"N": "1"}, "by": {"S": "x"}, "until": {"S": "soon"}}}},
        {"schema": {"N": "1"}, "tenant#acme": {"M": {"since": {"S": "now"}, "by": {"S": "x"}}}},
    ],
)
def test_an_item_that_another_version_wrote_is_no_permission(
    dynamodb: DynamoDBClient, table: str, broken: dict[str, Any]
) -> None:
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "#suspended"}, **broken})
    with pytest.raises(CorruptGrant):
        DynamoSuspensions(dynamodb, table).read()


@pytest.mark.emulator
def test_an_item_of_another_schema_is_not_written_to(dynamodb: DynamoDBClient, table: str) -> None:
    item: dict[str, Any] = {"pk": {"S": "#suspended"}, "schema": {"N": "2"}}
    dynamodb.put_item(TableName=table, Item=item)
    store = DynamoSuspensions(dynamodb, table)
    changes: list[Callable[[], object]] = [
        lambda: store.suspend("acme", ORDER),
        lambda: store.lift(None),
        lambda: store.hold("acme", ORDER),
        lambda: store.release(None, NOW),
        lambda: store.forget(NOW),
    ]
    for change in changes:
        with pytest.raises(CorruptGrant):
            change()
    assert dynamodb.scan(TableName=table)["Items"] == [item]


@pytest.mark.emulator
def test_it_is_read_consistently(dynamodb: DynamoDBClient, table: str) -> None:
    told: list[dict[str, Any]] = []
    dynamodb.meta.events.register("provide-client-params", lambda params, **_: told.append(params), unique_id="told")
    DynamoSuspensions(dynamodb, table).read()
    dynamodb.meta.events.unregister("provide-client-params", unique_id="told")
    assert [call["ConsistentRead"] for call in told] == [True]


@pytest.mark.parametrize(
    ("code", "kind"), [("ThrottlingException", StoreUnavailable), ("AccessDeniedException", StoreRefused)]
)
def test_what_dynamodb_refuses_is_an_error_of_the_store(code: str, kind: type[Exception]) -> None:
    client = boto3.client(
        "dynamodb", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
    )
    store = DynamoSuspensions(client, "fixture")
    with Stubber(client) as stub:
        for operation, call in (
            ("get_item", store.read),
            ("update_item", lambda: store.suspend(None, ORDER)),
            ("update_item", lambda: store.lift("acme")),
            ("update_item", lambda: store.hold(None, ORDER)),
            ("update_item", lambda: store.release("acme", NOW)),
            ("get_item", lambda: store.forget(NOW)),
        ):
            stub.add_client_error(operation, code)
            with pytest.raises(kind):
                call()


# --- as one process knows it


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = InMemorySuspensions()
        self.journal = RecordingJournal()
        self.known = KnownSuspensions(self.store, self.journal, self.clock)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_it_asks_once_in_five_seconds_whether_anything_is_suspended_or_not(world: World, tenant: str) -> None:
    world.store.suspend("globex", ORDER)
    began = world.clock()
    while world.clock() - began < 12 * KNOWN_FOR:
        assert (world.known.read().of(tenant) is not None) is (tenant == "globex")
        world.clock.advance(milliseconds=100)
    assert world.store.reads == 12


@pytest.mark.parametrize("change", ["suspend", "lift"])
def test_a_change_is_known_within_five_seconds(world: World, change: str) -> None:
    if change == "lift":
        world.store.suspend("acme", ORDER)
    world.known.read()
    world.clock.advance(milliseconds=1)
    changed = world.clock()
    if change == "lift":
        world.store.lift("acme")
    else:
        world.store.suspend("acme", ORDER)
    while world.clock() - changed <= KNOWN_FOR and (world.known.read().of("acme") is not None) is (change == "lift"):
        world.clock.advance(milliseconds=10)
    assert world.clock() - changed <= KNOWN_FOR


def test_its_age_counts_from_before_the_question(world: World) -> None:
    read = world.store.read

    def slow() -> Suspensions:
        found = read()
        world.clock.advance(seconds=2)
        return found

    world.store.read = slow  # type: ignore[method-assign]
    began = world.clock()
    world.known.read()
    world.clock.now = began + KNOWN_FOR - TICK
    world.known.read()
    assert world.store.reads == 1
    world.clock.now = began + KNOWN_FOR
    world.known.read()
    assert world.store.reads == 2


@pytest.mark.parametrize("orders", [[], [ORDER]], ids=["nothing", "everything"])
def test_what_was_known_last_counts_where_nobody_can_be_asked(world: World, orders: list[Suspension]) -> None:
    for order in orders:
        world.store.suspend(None, order)
    before = world.known.read()
    world.store.failures = ["before"] * 3
    reads = world.store.reads
    for _ in range(3):
        world.clock.advance(seconds=KNOWN_FOR.total_seconds())
        assert world.known.read() == world.known.read() == before
    assert world.store.reads == reads + 3
    assert [event.detail for event in world.journal.of(Trouble)] == ["asking what is suspended"] * 3  # type: ignore[attr-defined]
    world.store.lift(None)
    world.clock.advance(seconds=KNOWN_FOR.total_seconds())
    assert world.known.read() == Suspensions()


def test_a_process_that_never_knew_says_so_each_time(world: World) -> None:
    world.store.failures = ["before"] * 2
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            world.known.read()
    assert world.known.read() == Suspensions()


def test_a_clock_that_was_set_back_makes_it_ask_again(world: World) -> None:
    world.clock.advance(hours=1)
    world.known.read()
    world.clock.advance(hours=-1)
    world.store.suspend("acme", ORDER)
    assert world.known.read().of("acme") == ORDER


def test_an_item_that_cannot_be_read_leaves_what_was_known(world: World) -> None:
    world.store.suspend("acme", ORDER)
    before = world.known.read()

    def corrupt() -> Suspensions:
        raise CorruptGrant("the item has another schema")

    world.store.read = corrupt  # type: ignore[method-assign]
    world.clock.advance(seconds=5)
    assert world.known.read() == before
    with pytest.raises(CorruptGrant):
        KnownSuspensions(world.store, world.journal, world.clock).read()
