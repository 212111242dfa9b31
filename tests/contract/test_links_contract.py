"""What every store of links holds to: in memory and in DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.examples import HOUR, KEY, NOW, TICK, a_grant
from tests.fakes.grants import InMemoryGrants
from tests.fakes.links import InMemoryLinks
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_links import EXPIRY, DynamoLinks
from token_rotator.domain.errors import CorruptGrant, StoreRefused
from token_rotator.domain.grant import SHARDS, GrantKey
from token_rotator.domain.link import Link, PendingTokens, waiting_key
from token_rotator.domain.tokens import Sealed
from token_rotator.service.ports import AlreadyHeld, Done, LinkStore, Refused, When

MINUTE = timedelta(minutes=1)
DUE = NOW + 11 * MINUTE


def a_link(hashed: str = "a" * 64, **changes: Any) -> Link:
    fields: dict[str, Any] = {
        "hashed": hashed,
        "key": KEY,
        "partner": "acme-onboarding",
        "redirect_uri": "https://rotator.example/oauth/callback",
        "client_id": "fixture-client-id",
        "started_at": NOW,
        "ends_at": NOW + 15 * MINUTE,
    }
    return Link(**fields | changes)


def some_tokens(hashed: str = "b" * 64, **changes: Any) -> PendingTokens:
    fields: dict[str, Any] = {
        "hashed": hashed,
        "key": KEY,
        "attempt_id": "attempt-link",
        "access_token": Sealed(b"sealed access token of a link"),
        "refresh_token": Sealed(b"sealed refresh token of a link"),
        "issued_at": NOW,
        "expires_at": NOW + 12 * HOUR,
        "confirm_before": NOW + 10 * MINUTE,
        "due_at": DUE,
    }
    return PendingTokens(**fields | changes)


GONE: dict[str, Any] = {"access_token": None, "refresh_token": None, "due_at": None}


@dataclass
class Place:
    """Links, and the grants beside them."""

    links: LinkStore
    grants: InMemoryGrants | DynamoGrants

    def due(self, now: Any = DUE) -> list[GrantKey]:
        return [key for _, key in self.grants.due(range(SHARDS), now, 100)]


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        grants = InMemoryGrants()
        yield Place(InMemoryLinks(grants), grants)
    else:
        client, table = request.getfixturevalue("dynamodb"), request.getfixturevalue("table")
        yield Place(DynamoLinks(client, table), DynamoGrants(client, table))


@pytest.mark.parametrize(
    "link",
    [a_link(), a_link(return_url="https://a.example/?b=c", profile_id="9001", grant_since=NOW - HOUR)],
    ids=["small", "whole"],
)
def test_a_link_is_read_back(place: Place, link: Link) -> None:
    assert place.links.look(link.hashed) is None
    place.links.begin(link)
    assert place.links.look(link.hashed) == link
    assert place.links.look("c" * 64) is None


def test_a_link_is_begun_once(place: Place) -> None:
    place.links.begin(a_link())
    place.links.begin(a_link(partner="another"))
    assert place.links.look("a" * 64) == a_link()


def test_a_link_is_used_once(place: Place) -> None:
    place.links.begin(a_link())
    used = replace(a_link(), used_at=NOW + MINUTE, used_by="attempt-1")
    assert place.links.use("a" * 64, "attempt-1", NOW + MINUTE) == used
    assert place.links.use("a" * 64, "attempt-2", NOW + MINUTE) == used
    assert place.links.look("a" * 64) == used


@pytest.mark.parametrize(("at", "works"), [(NOW + 15 * MINUTE - TICK, True), (NOW + 15 * MINUTE, False)])
def test_a_link_is_not_used_after_its_time(place: Place, at: Any, *, works: bool) -> None:
    place.links.begin(a_link())
    found = place.links.use("a" * 64, "attempt-1", at)
    assert found is not None
    assert (found.used_by == "attempt-1") is works
    assert (found == a_link()) is not works


def test_using_what_is_not_there_makes_nothing(place: Place) -> None:
    assert place.links.use("a" * 64, "attempt-1", NOW) is None
    assert place.links.look("a" * 64) is None


@pytest.mark.parametrize(
    "pending",
    [
        some_tokens(),
        some_tokens(refresh_expires_at=NOW + 1000 * HOUR, scope="transfers", profile_id="9001", grant_since=NOW - HOUR),
    ],
    ids=["small", "whole"],
)
def test_tokens_are_read_back(place: Place, pending: PendingTokens) -> None:
    assert place.links.pending(pending.hashed) is None
    place.links.keep(pending)
    assert place.links.pending(pending.hashed) == pending


def test_keeping_tokens_twice_does_no_harm_and_undoes_nothing(place: Place) -> None:
    place.links.keep(some_tokens())
    place.links.keep(some_tokens())
    assert place.grants.create(a_grant(), "b" * 64) == Done(a_grant())
    place.links.keep(some_tokens())
    spent = place.links.pending("b" * 64)
    assert spent == some_tokens(confirmed_version=a_grant().version, **GONE)


def test_tokens_are_forgotten_and_the_rest_stays(place: Place) -> None:
    place.links.forget("b" * 64)
    assert place.links.pending("b" * 64) is None, "forgetting makes nothing"
    place.links.keep(some_tokens())
    for _ in range(2):
        place.links.forget("b" * 64)
        assert place.links.pending("b" * 64) == some_tokens(**GONE)
    place.links.keep(some_tokens())
    assert place.links.pending("b" * 64) == some_tokens(**GONE), "and nothing brings them back"


# --- what nobody confirms


def test_tokens_that_nobody_confirmed_are_due_and_dropped_and_the_rest_stays(place: Place) -> None:
    place.links.keep(some_tokens())
    assert place.due(DUE - TICK) == []
    assert place.links.drop("b" * 64, DUE - TICK) is None
    assert place.links.pending("b" * 64) == some_tokens()
    assert place.due() == [waiting_key("b" * 64)]
    assert place.links.drop("b" * 64, DUE) == some_tokens(**GONE)
    assert place.links.pending("b" * 64) == some_tokens(**GONE)
    assert place.due() == []
    assert place.links.drop("b" * 64, DUE) is None, "once is enough"
    place.links.keep(some_tokens())
    assert place.links.pending("b" * 64) == some_tokens(**GONE), "and nothing brings them back"


def test_dropping_what_is_not_there_makes_nothing(place: Place) -> None:
    assert place.links.drop("b" * 64, DUE) is None
    assert place.links.pending("b" * 64) is None


def test_tokens_that_cannot_be_dropped_now_can_be_put_off(place: Place) -> None:
    place.links.keep(some_tokens())
    place.grants.postpone(waiting_key("b" * 64), DUE + MINUTE, DUE)
    assert place.due() == []
    assert place.due(DUE + MINUTE) == [waiting_key("b" * 64)]
    assert place.links.drop("b" * 64, DUE) is None


def test_tokens_that_were_confirmed_or_turned_down_are_due_no_more(place: Place) -> None:
    place.links.keep(some_tokens())
    place.grants.create(a_grant(), "b" * 64)
    place.links.keep(some_tokens("c" * 64))
    place.links.forget("c" * 64)
    assert waiting_key("b" * 64) not in place.due()
    assert waiting_key("c" * 64) not in place.due()
    assert place.links.drop("b" * 64, DUE) is None
    assert place.links.pending("b" * 64) == some_tokens(confirmed_version=a_grant().version, **GONE)


def test_dropped_tokens_become_nobodys(place: Place) -> None:
    place.links.keep(some_tokens())
    place.links.drop("b" * 64, DUE)
    assert place.grants.create(a_grant(), "b" * 64) == Refused(None)
    assert place.grants.get(KEY) is None


@pytest.mark.parametrize("existing", [False, True])
def test_of_a_drop_and_a_confirmation_that_meet_one_does_nothing(place: Place, *, existing: bool) -> None:
    before, rounds = a_grant(), 12
    if existing:
        place.grants.create(before)
    for number in range(rounds):
        hashed = f"{number:064x}"
        place.links.keep(some_tokens(hashed))
        stored = place.grants.get(KEY)
        after = replace(stored or before, version=before.version + 1 + number)
        ready = threading.Barrier(2)

        def confirm(hashed: str = hashed, stored: Any = stored, after: Any = after, ready: Any = ready) -> Any:
            ready.wait()
            if stored is None:
                return place.grants.create(after, hashed)
            return place.grants.replace(stored, after, When(version=stored.version), hashed)

        def drop(hashed: str = hashed, ready: Any = ready) -> Any:
            ready.wait()
            return place.links.drop(hashed, DUE)

        with ThreadPoolExecutor(2) as pool:
            confirmed, dropped = (one.result() for one in (pool.submit(confirm), pool.submit(drop)))
        left = place.links.pending(hashed)
        assert isinstance(confirmed, Done) is (dropped is None)
        version = after.version if dropped is None else None
        assert left == some_tokens(hashed, confirmed_version=version, **GONE)
        assert place.grants.get(KEY) == (after if dropped is None else stored)


# --- together with a grant


def test_a_grant_and_its_links_tokens_are_written_together(place: Place) -> None:
    place.links.keep(some_tokens())
    before = a_grant()
    assert place.grants.create(before) == Done(before)
    after = replace(before, version=before.version + 1, refresh_token=Sealed(b"another"), profile_id="9001")
    when = When(version=before.version)
    assert place.grants.replace(before, after, replace(when, version=7), "b" * 64) == Refused(before)
    assert place.links.pending("b" * 64) == some_tokens()
    assert place.grants.replace(before, after, when, "b" * 64) == Done(after)
    assert place.grants.get(KEY) == after
    assert place.links.pending("b" * 64) == some_tokens(confirmed_version=after.version, **GONE)


@pytest.mark.parametrize("how", ["missing", "spent", "forgotten"])
def test_tokens_that_are_spent_or_gone_write_nothing(place: Place, how: str) -> None:
    other = a_grant(GrantKey("acme", "ben"), profile_id="9002")
    if how != "missing":
        place.links.keep(some_tokens())
    if how == "spent":
        place.grants.create(other, "b" * 64)
    if how == "forgotten":
        place.links.forget("b" * 64)
    assert place.grants.create(a_grant(profile_id="9001"), "b" * 64) == Refused(None)
    assert place.grants.get(KEY) is None
    place.grants.create(a_grant())
    after = a_grant(version=a_grant().version + 1)
    assert place.grants.replace(a_grant(), after, When(version=a_grant().version), "b" * 64) == Refused(None)
    assert place.grants.get(KEY) == a_grant()


def test_a_profile_that_another_grant_holds_spends_nothing(place: Place) -> None:
    place.links.keep(some_tokens())
    place.grants.create(a_grant(GrantKey("acme", "ben"), profile_id="9001"))
    assert place.grants.create(a_grant(profile_id="9001"), "b" * 64) == AlreadyHeld()
    assert place.links.pending("b" * 64) == some_tokens()
    place.grants.create(a_grant())
    after = a_grant(version=a_grant().version + 1, profile_id="9001")
    assert place.grants.replace(a_grant(), after, When(version=a_grant().version), "b" * 64) == AlreadyHeld()
    assert place.links.pending("b" * 64) == some_tokens()


def test_who_holds_a_profile_is_told(place: Place) -> None:
    assert place.links.holder("9001") is None
    place.grants.create(a_grant(profile_id="9001"))
    assert place.links.holder("9001") == KEY
    assert place.links.holder("900") is None
    place.grants.delete(a_grant(profile_id="9001"), When(version=a_grant().version))
    assert place.links.holder("9001") is None


def test_links_are_in_no_list_and_only_their_tokens_are_ever_due(place: Place) -> None:
    place.links.begin(a_link())
    place.links.keep(some_tokens())
    assert place.grants.page(KEY.tenant, 100, None).rows == []
    assert place.due(NOW + 1000 * HOUR) == [waiting_key("b" * 64)]
    place.grants.create(a_grant())
    assert [row[0] for row in place.grants.page(KEY.tenant, 100, None).rows] == [KEY.grant_id]


# --- what lies in the table


@pytest.mark.emulator
def test_dynamodb_is_told_when_it_may_drop_them(dynamodb: DynamoDBClient, table: str) -> None:
    links = DynamoLinks(dynamodb, table)
    links.begin(a_link())
    links.keep(some_tokens())
    items = {item["pk"]["S"]: item for item in dynamodb.scan(TableName=table)["Items"]}
    ends = {"#link#" + "a" * 64: NOW + 15 * MINUTE, "#pending#" + "b" * 64: NOW + 10 * MINUTE}
    assert set(items) == set(ends)
    for pk, end in ends.items():
        assert int(items[pk][EXPIRY]["N"]) == int((end + HOUR).timestamp())
        assert not {"tenant", "grant_id"} & set(items[pk])
    assert not {"due_at", "due_shard"} & set(items["#link#" + "a" * 64])
    links.drop("b" * 64, DUE)
    left = dynamodb.get_item(TableName=table, Key={"pk": {"S": "#pending#" + "b" * 64}})["Item"]
    assert not {"access_token", "refresh_token", "due_at", "due_shard"} & set(left)


@pytest.mark.emulator
@pytest.mark.parametrize("change", [{"schema": {"N": "2"}}, {"ends_at": {"S": "soon"}}, {"of_grant": None}])
def test_what_another_version_wrote_is_not_read(dynamodb: DynamoDBClient, table: str, change: dict[str, Any]) -> None:
    links = DynamoLinks(dynamodb, table)
    links.begin(a_link())
    (item,) = dynamodb.scan(TableName=table)["Items"]
    changed = {name: value for name, value in {**item, **change}.items() if value is not None}
    dynamodb.put_item(TableName=table, Item=changed)
    with pytest.raises(CorruptGrant):
        links.look("a" * 64)


@pytest.mark.emulator
@pytest.mark.parametrize("claim", [{}, {"holder": {"N": "1"}}, {"holder": {"S": "acme"}}, {"holder": {"S": "a#b#c"}}])
def test_a_claim_that_another_version_wrote_is_not_read(
    dynamodb: DynamoDBClient, table: str, claim: dict[str, Any]
) -> None:
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "#profile#9001"}, **claim})
    with pytest.raises(CorruptGrant):
        DynamoLinks(dynamodb, table).holder("9001")


@pytest.mark.emulator
def test_a_table_that_is_not_there_is_the_deployments_fault(dynamodb: DynamoDBClient) -> None:
    links = DynamoLinks(dynamodb, "fixture-missing")
    for call in (
        lambda: links.look("a" * 64),
        lambda: links.begin(a_link()),
        lambda: links.use("a" * 64, "attempt-1", NOW),
    ):
        with pytest.raises(StoreRefused):
            call()
