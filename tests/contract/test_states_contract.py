"""What is kept of accounts at Wise, and whose grants they are: in memory and in DynamoDB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.examples import HOUR, KEY, NOW, TICK, a_grant
from tests.fakes.grants import InMemoryGrants
from tests.fakes.states import InMemoryStates
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_states import DynamoStates
from token_rotator.domain.errors import CorruptGrant, StoreRefused, StoreUnavailable
from token_rotator.domain.grant import SHARDS, GrantKey
from token_rotator.domain.state_change import (
    KEPT_FOR,
    LISTED,
    LISTED_OF_TENANT,
    Account,
    AccountState,
    StateChange,
    Subject,
)
from token_rotator.service.ports import (
    AlreadyHeld,
    Done,
    DueIndex,
    GrantRegistry,
    GrantStore,
    Refused,
    StateNotes,
    StateStore,
    When,
)

USER = Account(Subject.USER, "1000001")
PROFILE = Account(Subject.PROFILE, "20000001")
BEN = GrantKey("globex", "ben")


class States(StateNotes, StateStore, Protocol):
    """Both ports: one thing implements them."""


class Grants(GrantStore, GrantRegistry, DueIndex, Protocol):
    """The grants beside them."""


@dataclass
class Place:
    states: States
    grants: Grants
    list: Callable[[str, Sequence[GrantKey]], object]
    """Lists grants for a Wise user, as though they had been stored."""

    def due(self, now: Any = NOW) -> list[GrantKey]:
        return [key for _, key in self.grants.due(range(SHARDS), now, 100)]


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        grants = InMemoryGrants()
        return Place(InMemoryStates(grants), grants, lambda user, keys: grants.users.update({user: set(keys)}))
    client, table = request.getfixturevalue("dynamodb"), request.getfixturevalue("table")
    return Place(
        DynamoStates(client, table), DynamoGrants(client, table), lambda user, keys: put_list(client, table, user, keys)
    )


def put_list(client: DynamoDBClient, table: str, user: str, keys: Sequence[GrantKey]) -> None:
    client.put_item(TableName=table, Item={"pk": {"S": f"#user#{user}"}, "holders": {"SS": [str(key) for key in keys]}})


def change(
    state: str = "DEACTIVATED", account: Account = USER, ago: timedelta = TICK, by: str | None = "d-1"
) -> StateChange:
    return StateChange(account, AccountState(state), NOW - ago, by)


# --- notes


@pytest.mark.parametrize("account", [USER, PROFILE, Account(Subject.USER, "a.b-c_d")])
@pytest.mark.parametrize("state", AccountState)
@pytest.mark.parametrize("delivery_id", ["d-1", None])
def test_what_was_noted_is_read_back_and_due(
    place: Place, account: Account, state: AccountState, delivery_id: str | None
) -> None:
    told = StateChange(account, state, NOW - HOUR, delivery_id)
    assert place.states.look(account) is None
    assert place.states.note(told, NOW)
    assert place.states.look(account) == told
    assert place.due() == [account.key]
    assert place.due(NOW - TICK) == []


def test_only_what_is_newer_is_noted(place: Place) -> None:
    assert place.states.note(change("ACTIVE", ago=2 * TICK), NOW)
    assert not place.states.note(change("DEACTIVATED", ago=3 * TICK), NOW)
    assert not place.states.note(change("ACTIVE", ago=2 * TICK, by="d-2"), NOW + HOUR)
    assert place.states.look(USER) == change("ACTIVE", ago=2 * TICK)
    assert place.states.note(change("WITHDRAW_ONLY"), NOW)
    assert place.states.look(USER) == change("WITHDRAW_ONLY")


def test_of_two_at_one_instant_the_one_that_closes_is_kept(place: Place) -> None:
    assert place.states.note(change("ACTIVE"), NOW)
    assert place.states.note(change("DEACTIVATED"), NOW)
    assert not place.states.note(change("DEACTIVATED"), NOW)
    assert not place.states.note(change("ACTIVE"), NOW)
    assert place.states.look(USER) == change("DEACTIVATED")


def test_what_is_newer_names_its_own_delivery(place: Place) -> None:
    place.states.note(change(ago=2 * TICK), NOW)
    place.states.note(change(by=None), NOW)
    assert place.states.look(USER) == change(by=None)


def test_accounts_are_kept_apart(place: Place) -> None:
    same = Account(Subject.PROFILE, USER.wise_id)
    place.states.note(change(), NOW)
    place.states.note(change("ACTIVE", same), NOW)
    assert place.states.look(USER) == change()
    assert place.states.look(same) == change("ACTIVE", same)
    assert set(place.due()) == {USER.key, same.key}


# --- settling


def test_what_is_settled_is_due_no_longer_and_still_known(place: Place) -> None:
    place.states.note(change(), NOW)
    assert place.states.settle(change())
    assert place.due() == []
    assert place.states.look(USER) == change()
    assert place.states.settle(change()), "twice does no harm"
    assert not place.states.note(change(), NOW)


def test_what_came_meanwhile_stays_due(place: Place) -> None:
    place.states.note(change(ago=2 * TICK), NOW)
    place.states.note(change("ACTIVE"), NOW)
    assert not place.states.settle(change(ago=2 * TICK))
    assert place.due() == [USER.key]


def test_what_is_not_there_cannot_be_settled(place: Place) -> None:
    assert not place.states.settle(change())


def test_one_that_cannot_be_applied_is_put_off(place: Place) -> None:
    place.states.note(change(), NOW)
    place.grants.postpone(USER.key, NOW + HOUR, NOW)
    assert place.due() == []
    assert place.due(NOW + HOUR) == [USER.key]
    assert place.states.settle(change())
    place.grants.postpone(USER.key, NOW + 2 * HOUR, NOW + HOUR)
    assert place.due(NOW + 3 * HOUR) == []


def test_that_an_account_was_closed_is_kept_until_it_is_settled(place: Place) -> None:
    opened = replace(change("ACTIVE", ago=3 * TICK), was_closed=True)
    other = change("WITHDRAW_ONLY", ago=2 * TICK)
    place.states.note(opened, NOW)
    assert place.states.look(USER) == opened
    place.states.note(other, NOW)
    assert place.states.look(USER) == replace(other, was_closed=True)
    place.grants.postpone(USER.key, NOW + HOUR, NOW)
    assert place.states.look(USER) == replace(other, was_closed=True)
    assert place.states.settle(other)
    assert place.states.look(USER) == other
    place.states.note(change("ACTIVE"), NOW)
    assert place.states.look(USER) == change("ACTIVE")


@pytest.mark.parametrize("settled", [True, False])
def test_an_account_that_is_open_before_its_closing_was_settled_was_closed(place: Place, *, settled: bool) -> None:
    place.states.note(change(ago=2 * TICK), NOW)
    assert place.states.look(USER) == change(ago=2 * TICK)
    if settled:
        place.states.settle(change(ago=2 * TICK))
    place.states.note(change("ACTIVE"), NOW)
    assert place.states.look(USER) == replace(change("ACTIVE"), was_closed=not settled)


# --- whose grants they are


def user(wise_id: str) -> Account:
    return Account(Subject.USER, wise_id)


def test_a_profiles_grant_is_its_holder(place: Place) -> None:
    assert place.states.holders(PROFILE) == frozenset()
    grant = a_grant(profile_id=PROFILE.wise_id)
    place.grants.create(grant)
    assert place.states.holders(PROFILE) == {KEY}
    place.grants.delete(grant, When(version=grant.version))
    assert place.states.holders(PROFILE) == frozenset()


def test_a_users_grants_are_all_that_name_the_user(place: Place) -> None:
    assert place.states.holders(USER) == frozenset()
    anna, ben = a_grant(wise_user_id=USER.wise_id), a_grant(BEN, wise_user_id=USER.wise_id)
    for grant in (anna, ben, a_grant(GrantKey("acme", "cleo"), wise_user_id="7"), a_grant(GrantKey("acme", "dan"))):
        assert place.grants.create(grant) == Done(grant)
    assert place.states.holders(USER) == {KEY, BEN}
    assert place.grants.delete(anna, When(version=anna.version)) == Done(anna)
    assert place.states.holders(USER) == {BEN}
    assert place.grants.delete(ben, When(version=ben.version)) == Done(ben)
    assert place.states.holders(USER) == frozenset()


@pytest.mark.parametrize(("before", "after"), [(None, "7"), ("7", None), ("7", "7"), ("7", "8")])
def test_a_replaced_grant_is_listed_where_it_belongs(place: Place, before: str | None, after: str | None) -> None:
    grant = a_grant(wise_user_id=before)
    place.grants.create(grant)
    changed = replace(grant, wise_user_id=after, version=grant.version + 1)
    assert place.grants.replace(grant, changed, When(version=grant.version)) == Done(changed)
    listed = {wise_id for wise_id in ("7", "8") if KEY in place.states.holders(user(wise_id))}
    assert listed == {after} - {None}


def test_what_is_refused_lists_nothing(place: Place) -> None:
    grant = a_grant(profile_id="p", wise_user_id="7")
    place.grants.create(grant)
    other = a_grant(BEN, profile_id="p", wise_user_id="8")
    assert place.grants.create(other) == AlreadyHeld()
    assert place.grants.create(replace(grant, wise_user_id="8", version=2)) == Refused(grant)
    changed = replace(grant, wise_user_id="8")
    assert place.grants.replace(grant, changed, When(version=1)) == Refused(grant)
    assert place.grants.delete(grant, When(version=1)) == Refused(grant)
    assert (place.states.holders(user("7")), place.states.holders(user("8"))) == ({KEY}, frozenset())


def test_a_grant_of_a_profile_and_a_user_is_deleted_from_both_whoever_else_is_there(place: Place) -> None:
    anna = a_grant(profile_id="p", wise_user_id="7")
    place.grants.create(anna)
    place.grants.create(a_grant(BEN, profile_id="q", wise_user_id="7"))
    assert place.grants.delete(anna, When(version=anna.version)) == Done(anna)
    assert place.states.holders(user("7")) == {BEN}
    assert place.states.holders(Account(Subject.PROFILE, "p")) == frozenset()
    assert place.states.holders(Account(Subject.PROFILE, "q")) == {BEN}


def test_the_ranks_are_conditions_of_a_write(place: Place) -> None:
    grant = a_grant(user_rank=5)
    place.grants.create(grant)
    after = replace(grant, user_rank=6)
    for when in (When(version=grant.version, user_rank=4), When(version=grant.version, profile_rank=1)):
        assert place.grants.write(grant, after, when) == Refused(grant)
    when = When(version=grant.version, user_rank=5, profile_rank=None)
    assert place.grants.write(grant, after, when) == Done(after)


# --- more grants than are listed

FULL = [GrantKey("acme", f"of-7-{number}") for number in range(LISTED_OF_TENANT)]
MOBBED = [GrantKey(f"t{number % 100}", f"{number}") for number in range(LISTED)]


@pytest.mark.parametrize("listed", [FULL, MOBBED])
def test_a_grant_for_which_there_is_no_room_is_stored_all_the_same(place: Place, listed: list[GrantKey]) -> None:
    place.list("7", listed)
    grant = a_grant(wise_user_id="7", profile_id="p")
    assert place.grants.create(grant) == Done(replace(grant, unlisted=True))
    assert place.grants.get(KEY) == replace(grant, unlisted=True)
    assert place.states.holders(user("7")) == set(listed)
    assert place.states.holders(Account(Subject.PROFILE, "p")) == {KEY}, "its profile finds it"


def test_what_a_tenant_lists_takes_no_other_tenants_place(place: Place) -> None:
    place.list("7", FULL)
    ben = a_grant(BEN, wise_user_id="7")
    assert place.grants.create(ben) == Done(ben)
    assert place.states.holders(user("7")) == {*FULL, BEN}


def test_a_grant_that_is_listed_keeps_its_place_in_a_full_list(place: Place) -> None:
    place.list("7", FULL[1:])
    first = a_grant(FULL[0], wise_user_id="7")
    assert place.grants.create(first) == Done(first)
    again = replace(first, version=first.version + 1)
    assert place.grants.replace(first, again, When(version=first.version)) == Done(again)
    assert place.states.holders(user("7")) == set(FULL)


def test_a_grant_takes_the_place_that_another_leaves_when_it_is_stored_anew(place: Place) -> None:
    place.list("7", FULL[1:])
    first, anna = a_grant(FULL[0], wise_user_id="7"), a_grant(wise_user_id="7")
    place.grants.create(first)
    unlisted = replace(anna, unlisted=True)
    assert place.grants.create(anna) == Done(unlisted)
    assert place.grants.delete(first, When(version=first.version)) == Done(first)
    assert place.states.holders(user("7")) == set(FULL[1:])
    again = replace(unlisted, version=anna.version + 1)
    listed = replace(again, unlisted=False)
    assert place.grants.replace(unlisted, again, When(version=anna.version)) == Done(listed)
    assert place.grants.get(KEY) == listed
    assert place.states.holders(user("7")) == {*FULL[1:], KEY}


def test_who_moves_to_a_user_with_a_full_list_leaves_the_one_before(place: Place) -> None:
    place.list("7", FULL)
    grant = a_grant(wise_user_id="8")
    place.grants.create(grant)
    moved = replace(grant, wise_user_id="7", version=grant.version + 1)
    unlisted = replace(moved, unlisted=True)
    assert place.grants.replace(grant, moved, When(version=grant.version)) == Done(unlisted)
    assert (place.states.holders(user("8")), place.states.holders(user("7"))) == (frozenset(), set(FULL))
    back = replace(unlisted, wise_user_id="8", version=moved.version + 1)
    listed = replace(back, unlisted=False)
    assert place.grants.replace(unlisted, back, When(version=moved.version)) == Done(listed)
    assert (place.states.holders(user("8")), place.states.holders(user("7"))) == ({KEY}, set(FULL))


def test_a_grant_that_is_not_listed_is_deleted_and_leaves_the_list_alone(place: Place) -> None:
    place.list("7", FULL)
    grant = replace(a_grant(wise_user_id="7"), unlisted=True)
    place.grants.create(grant)
    assert place.grants.delete(grant, When(version=grant.version)) == Done(grant)
    assert place.grants.get(KEY) is None
    assert place.states.holders(user("7")) == set(FULL)


def test_a_full_list_hides_neither_who_was_faster_nor_who_holds_the_profile(place: Place) -> None:
    place.list("7", FULL)
    place.grants.create(a_grant(BEN, profile_id="p"))
    grant = a_grant(wise_user_id="7")
    assert place.grants.create(replace(grant, profile_id="p")) == AlreadyHeld()
    place.grants.create(grant)
    stored = replace(grant, unlisted=True)
    assert place.grants.create(grant) == Refused(stored)
    assert place.grants.replace(grant, replace(grant, scope="none"), When(version=1)) == Refused(stored)


@pytest.mark.emulator
@pytest.mark.parametrize("place", ["dynamodb"], indirect=True)
def test_a_list_that_an_item_can_hardly_hold_stops_no_write(place: Place, dynamodb: DynamoDBClient, table: str) -> None:
    one_more = GrantKey("u" * 128, "u" * 128)
    longest = [GrantKey("t" * 128, f"{number:0>128}") for number in range(1_593)]
    place.list("7", longest)
    with pytest.raises(ClientError, match="exceeded the maximum allowed size"):  # what it would say to one more
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": "#user#7"}},
            UpdateExpression="ADD holders :more",
            ExpressionAttributeValues={":more": {"SS": [str(one_more)]}},
        )
    grant = a_grant(one_more, wise_user_id="7")
    unlisted = replace(grant, unlisted=True)
    assert place.grants.create(grant) == Done(unlisted)
    again = replace(unlisted, version=grant.version + 1)
    assert place.grants.replace(unlisted, again, When(version=grant.version)) == Done(again)
    assert place.grants.delete(again, When(version=again.version)) == Done(again)


@pytest.mark.emulator
def test_only_who_adopts_or_deletes_a_grant_touches_the_list(dynamodb: DynamoDBClient, table: str) -> None:
    grants, grant = DynamoGrants(dynamodb, table), a_grant(wise_user_id="7")
    told: list[dict[str, Any]] = []
    dynamodb.meta.events.register("provide-client-params", lambda params, **_: told.append(params), unique_id="told")
    grants.create(grant)
    assert [call.get("Key") for call in told] == [{"pk": {"S": "#user#7"}}, None], "one read, and one transaction"
    told.clear()
    after = replace(grant, version=grant.version + 1, failures=0, scope="none")
    assert grants.write(grant, after, When(version=grant.version)) == Done(after)
    dynamodb.meta.events.unregister("provide-client-params", unique_id="told")
    assert len(told) == 1
    assert "#user#" not in str(told)


# --- the items


@pytest.mark.emulator
def test_the_items_are_as_described(dynamodb: DynamoDBClient, table: str) -> None:
    states, grants = DynamoStates(dynamodb, table), DynamoGrants(dynamodb, table)
    grants.create(a_grant(wise_user_id=USER.wise_id))
    told = change(ago=HOUR)
    states.note(told, NOW)
    items = {item["pk"]["S"]: item for item in dynamodb.scan(TableName=table)["Items"]}
    ms = int(NOW.timestamp() * 1000)
    assert items["#state#user#1000001"] == {
        "pk": {"S": "#state#user#1000001"},
        "schema": {"N": "1"},
        "state": {"S": "DEACTIVATED"},
        "occurred_at": {"N": str(ms - 3_600_000)},
        "rank": {"N": str(2 * (ms - 3_600_000) + 1)},
        "delivery_id": {"S": "d-1"},
        "was_closed": {"BOOL": True},
        "due_shard": {"N": str(USER.key.shard)},
        "due_at": {"N": str(ms)},
        "expire_at": {"N": str(int((NOW + KEPT_FOR).timestamp()))},
    }
    assert items["#user#1000001"] == {"pk": {"S": "#user#1000001"}, "holders": {"SS": ["acme#anna"]}}
    assert [row[0] for row in grants.page("acme", 100, None).rows] == ["anna"]
    grants.delete(a_grant(wise_user_id=USER.wise_id), When(version=a_grant().version))
    assert {item["pk"]["S"] for item in dynamodb.scan(TableName=table)["Items"]} == {"#state#user#1000001"}


@pytest.mark.emulator
@pytest.mark.parametrize(
    "broken",
    [
        {"schema": {"N": "2"}},
        {},
        {"state": {"S": "FROZEN"}},
        {"occurred_at": {"S": "now"}},
        {"delivery_id": {"N": "1"}},
        {"was_closed": {"S": "yes"}},
    ],
)
def test_an_item_that_another_version_wrote_is_not_read(
    dynamodb: DynamoDBClient, table: str, broken: dict[str, Any]
) -> None:
    whole = {"schema": {"N": "1"}, "state": {"S": "ACTIVE"}, "occurred_at": {"N": "1"}}
    item = {"pk": {"S": str(USER.key)}, **(whole | broken if broken else {})}
    dynamodb.put_item(TableName=table, Item=item)
    with pytest.raises(CorruptGrant):
        DynamoStates(dynamodb, table).look(USER)


@pytest.mark.emulator
@pytest.mark.parametrize(
    ("account", "item"),
    [
        (USER, {"pk": {"S": "#user#1000001"}, "holders": {"SS": ["acme"]}}),
        (USER, {"pk": {"S": "#user#1000001"}, "holders": {"S": "acme#anna"}}),
        (PROFILE, {"pk": {"S": "#profile#20000001"}, "holder": {"S": "acme"}}),
    ],
)
def test_a_claim_in_another_form_is_not_read(
    dynamodb: DynamoDBClient, table: str, account: Account, item: dict[str, Any]
) -> None:
    dynamodb.put_item(TableName=table, Item=item)
    with pytest.raises(CorruptGrant):
        DynamoStates(dynamodb, table).holders(account)


@pytest.mark.emulator
def test_all_is_read_consistently(dynamodb: DynamoDBClient, table: str) -> None:
    told: list[dict[str, Any]] = []
    dynamodb.meta.events.register("provide-client-params", lambda params, **_: told.append(params), unique_id="told")
    states = DynamoStates(dynamodb, table)
    states.look(USER)
    states.holders(USER)
    states.holders(PROFILE)
    dynamodb.meta.events.unregister("provide-client-params", unique_id="told")
    assert [call["ConsistentRead"] for call in told] == [True] * 3


@pytest.mark.parametrize(
    ("code", "kind"), [("ThrottlingException", StoreUnavailable), ("AccessDeniedException", StoreRefused)]
)
def test_what_dynamodb_refuses_is_an_error_of_the_store(code: str, kind: type[Exception]) -> None:
    client = boto3.client(
        "dynamodb", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
    )
    states = DynamoStates(client, "fixture")
    with Stubber(client) as stub:
        for operation, call in (
            ("update_item", lambda: states.note(change(), NOW)),
            ("update_item", lambda: states.settle(change())),
            ("get_item", lambda: states.look(USER)),
            ("get_item", lambda: states.holders(USER)),
        ):
            stub.add_client_error(operation, code)
            with pytest.raises(kind):
                call()
