"""What Wise says of accounts, and what follows from it: read, ordered, applied to grants, however often it comes."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.rotator import World
from token_rotator.domain.errors import CorruptGrant, StoreUnavailable
from token_rotator.domain.fleet import Fleet
from token_rotator.domain.grant import APPLICATION, AlertKind, Grant, GrantKey, Phase
from token_rotator.domain.state_change import (
    AHEAD,
    KEPT_FOR,
    LISTED,
    LISTED_OF_TENANT,
    TOO_OLD_AFTER,
    Account,
    AccountState,
    Notice,
    StateChange,
    Subject,
    Unread,
    has_room,
    read_event,
)
from token_rotator.domain.suspension import DEACTIVATED, FOUND_DEAD, STATE_CHANGED, Suspension, suspended
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.journal import EventTaken, Trouble, UserDeactivated, UserReactivated
from token_rotator.service.refresh_due import SweepSummary
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import NotServed, Served, Why
from token_rotator.service.take_event import MAX_EVENT, Delivery, TakeEvent

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ANNA = Account(Subject.USER, "1000001")
PROFILE = Account(Subject.PROFILE, "9001")
SECOND = timedelta(seconds=1)


def payload(**changes: Any) -> dict[str, Any]:
    """An event as Wise documents it."""
    data = {
        "resource": {"id": 1000001, "type": "user"},
        "previous_state": "ACTIVE",
        "current_state": "DEACTIVATED",
        "deactivation_type": "ACCOUNT_SUSPENSION",
        "deactivation_reason": "REQUESTED_BY_CUSTOMER_CS",
        "occurred_at": "2026-03-01T11:59:58.123Z",
    }
    return {
        "data": data | changes.pop("data", {}),
        "event_type": "users#state-change",
        "schema_version": "2.0.0",
        "sent_at": "2026-03-01T11:59:59Z",
        "subscription_id": "f5b51f77-e14a-433b-9f7c-fc2834ffcff5",
        **changes,
    }


def read(event: object) -> Notice:
    return read_event(json.dumps(event).encode(), NOW, "a-delivery")


# --- reading


def test_an_event_about_a_user_is_read() -> None:
    at = datetime(2026, 3, 1, 11, 59, 58, 123000, UTC)
    expected = StateChange(ANNA, AccountState.DEACTIVATED, at, "a-delivery")
    assert read(payload()) == Notice("users#state-change", expected)
    assert read(payload(schema_version="4.0.0")).told == expected


def test_an_event_about_a_profile_is_read() -> None:
    told = read(payload(event_type="profiles#state-change", data={"resource": {"id": "9001"}})).told
    assert isinstance(told, StateChange)
    assert told.account == PROFILE


@pytest.mark.parametrize("state", AccountState)
def test_every_state_is_known_and_one_closes(state: AccountState) -> None:
    told = read(payload(data={"current_state": state.value})).told
    assert isinstance(told, StateChange)
    assert (told.state, told.closes) == (state, state is AccountState.DEACTIVATED)


@pytest.mark.parametrize("state", AccountState)
@pytest.mark.parametrize("before", [*(state.value for state in AccountState), "FROZEN", None, 7, ["DEACTIVATED"]])
def test_an_account_was_closed_if_it_was_deactivated_before(state: AccountState, before: Any) -> None:
    told = read(payload(data={"current_state": state.value, "previous_state": before})).told
    assert isinstance(told, StateChange)
    assert told.was_closed is (before == "DEACTIVATED" and state is not AccountState.DEACTIVATED)
    event = payload(data={"current_state": state.value})
    del event["data"]["previous_state"]
    told = read(event).told
    assert isinstance(told, StateChange)
    assert not told.was_closed


@pytest.mark.parametrize("text", ["2026-03-01T11:59:58.1239999Z", "2026-03-01T12:59:58.123456+01:00"])
def test_instants_are_kept_in_milliseconds(text: str) -> None:
    told = read(payload(data={"occurred_at": text})).told
    assert isinstance(told, StateChange)
    assert told.occurred_at.isoformat() == "2026-03-01T11:59:58.123000+00:00"


@pytest.mark.parametrize(
    "event_type", ["transfers#state-change", "balances#update", "users#state", "user#state-change"]
)
def test_an_event_of_another_type_is_none_of_ours(event_type: str) -> None:
    assert read(payload(event_type=event_type)) == Notice(event_type, Unread.OTHER)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"{", b"[]", b"null", b"7", b'"users#state-change"', b"[" * 100_000, b"{}",
        b'{"event_type": 7, "data": {}}',
        b'{"event_type": "users#state-change"}', b'{"data": {}, "event_type": "users state"}',
        json.dumps({"event_type": "x" * 100 + "#y", "data": {}}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_event_is_unreadable_and_nothing_of_it_is_shown(content: bytes) -> None:
    notice = read_event(content, NOW)
    assert (notice.event_type in (None, "users#state-change"), notice.told) == (True, Unread.UNREADABLE)


@pytest.mark.parametrize(
    "data",
    [
        {"resource": None}, {"resource": {}}, {"resource": {"id": None}}, {"resource": {"id": True}},
        {"resource": {"id": 1.5}}, {"resource": {"id": "a b"}}, {"resource": {"id": "#"}}, {"resource": {"id": [1]}},
        {"resource": {"id": ""}}, {"resource": {"id": "x" * 129}}, {"current_state": "FROZEN"}, {"current_state": None},
        {"current_state": ["ACTIVE"]}, {"occurred_at": "2020-01-01T12:34:567Z"}, {"occurred_at": None},
        {"occurred_at": 1772366398}, {"occurred_at": "2026-03-01T11:59:58"},
        {"occurred_at": (NOW + AHEAD + SECOND).isoformat()},
    ],
)  # fmt: skip
def test_an_event_of_ours_in_another_form_is_unreadable(data: dict[str, Any]) -> None:
    assert read(payload(data=data)) == Notice("users#state-change", Unread.UNREADABLE)


@pytest.mark.parametrize("field", ["resource", "current_state", "occurred_at"])
def test_an_event_without_what_is_needed_is_unreadable(field: str) -> None:
    event = payload()
    del event["data"][field]
    assert read(event).told is Unread.UNREADABLE
    assert read(payload() | {"data": []}).told is Unread.UNREADABLE


def test_an_event_that_is_no_news_any_more_is_old() -> None:
    assert read(payload(data={"occurred_at": (NOW - TOO_OLD_AFTER).isoformat()})).told is Unread.OLD
    assert isinstance(read(payload(data={"occurred_at": (NOW - TOO_OLD_AFTER + SECOND).isoformat()})).told, StateChange)


def test_what_is_kept_outlives_what_could_undo_it() -> None:
    """Or an old event, sent anew, would be the newest once more."""
    assert KEPT_FOR >= TOO_OLD_AFTER + AHEAD


@given(st.binary(max_size=200))
def test_nothing_makes_the_reader_raise(content: bytes) -> None:
    assert read_event(content, NOW).told in (Unread.UNREADABLE, Unread.OTHER)


@pytest.mark.parametrize("account", [ANNA, PROFILE, Account(Subject.USER, "a.b-c_d")])
def test_an_account_is_found_by_its_key(account: Account) -> None:
    assert Account.of(account.key) == account
    assert str(account.key) == f"#state#{account.subject}#{account.wise_id}"


@pytest.mark.parametrize(
    "key",
    [
        APPLICATION, GrantKey("acme", "state#user#1"), GrantKey("", "state#user#"), GrantKey("", "state#user"),
        GrantKey("", "state#bank#1"), GrantKey("", "link#x"), GrantKey("acme", "anna"),
    ],
)  # fmt: skip
def test_other_keys_are_of_no_account(key: GrantKey) -> None:
    assert Account.of(key) is None


def test_wise_gives_orders_under_names_that_no_partner_can_have() -> None:
    assert {subject.orderer for subject in Subject} == {"Wise users#state-change", "Wise profiles#state-change"}


# --- taking


class Signed:
    """`SignatureCheck` that knows one signature."""

    def is_authentic(self, content: bytes, signature: str) -> bool:
        return signature == "signed"


@pytest.fixture
def world() -> World:
    world = World()
    world.adopted(wise_user_id=ANNA.wise_id, profile_id=PROFILE.wise_id)
    return world


def taker(world: World) -> TakeEvent:
    return TakeEvent(Signed(), world.states, world.journal, world.clock)


def content(world: World, state: str = "DEACTIVATED", ago: timedelta = SECOND) -> bytes:
    data = {"current_state": state, "occurred_at": (world.clock() - ago).isoformat()}
    return json.dumps(payload(data=data)).encode()


def results(world: World) -> list[str]:
    return [event.result for event in world.journal.events if isinstance(event, EventTaken)]


def test_an_event_is_kept_by_one_write_and_no_grant_is_looked_at(world: World) -> None:
    reads, writes = world.grants.reads, world.grants.writes
    assert taker(world)(Delivery(content=content(world), signature="signed", delivery_id="d-1"))
    assert world.states.calls == ["note"]
    assert (world.grants.reads, world.grants.writes) == (reads, writes)
    assert results(world) == ["noted"]
    assert world.states.look(ANNA) == StateChange(ANNA, AccountState.DEACTIVATED, world.clock() - SECOND, "d-1")


@pytest.mark.parametrize("signature", [None, "", "signed "])
def test_what_is_not_wises_is_nothing(world: World, signature: str | None) -> None:
    before = list(world.journal.events)
    assert not taker(world)(Delivery(content=content(world), signature=signature))
    assert (world.states.calls, world.journal.events) == ([], before)


def test_nothing_is_read_beyond_a_size(world: World) -> None:
    short = content(world)
    assert taker(world)(Delivery(content=short.ljust(MAX_EVENT), signature="signed"))
    assert not taker(world)(Delivery(content=short.ljust(MAX_EVENT + 1), signature="signed"))


def test_what_wise_says_twice_or_late_is_known(world: World) -> None:
    for ago, expected in ((2, "noted"), (2, "known"), (3, "known"), (1, "noted")):
        taker(world)(Delivery(content=content(world, ago=ago * SECOND), signature="signed"))
        assert results(world)[-1] == expected


def test_of_two_at_one_instant_the_one_that_closes_counts(world: World) -> None:
    for state, expected in (("ACTIVE", "noted"), ("WITHDRAW_ONLY", "known"), ("DEACTIVATED", "noted"),
                            ("DEACTIVATED", "known"), ("ACTIVE", "known")):  # fmt: skip
        taker(world)(Delivery(content=content(world, state), signature="signed"))
        assert results(world)[-1] == expected


def test_a_try_of_wises_and_what_is_of_no_use_are_taken_and_change_nothing(world: World) -> None:
    for delivery, expected in (
        (Delivery(content=content(world), signature="signed", is_test=True), "test"),
        (Delivery(content=b'{"event_type": "balances#update", "data": {}}', signature="signed"), "other"),
        (Delivery(content=b"?", signature="signed"), "unreadable"),
        (Delivery(content=content(world, ago=TOO_OLD_AFTER), signature="signed"), "old"),
    ):
        assert taker(world)(delivery)
        assert results(world)[-1] == expected
    assert world.states.calls == []


def test_wise_has_to_deliver_again_what_no_write_took(world: World) -> None:
    world.states.failures = ["before"]
    with pytest.raises(StoreUnavailable):
        taker(world)(Delivery(content=content(world), signature="signed"))
    assert results(world) == []


# --- more grants than are listed


def listed(**tenants: int) -> set[GrantKey]:
    return {GrantKey(tenant, str(number)) for tenant, count in tenants.items() for number in range(count)}


@pytest.mark.parametrize(
    ("there", "key", "room"),
    [
        (set(), "acme#new", True),
        (listed(acme=LISTED_OF_TENANT - 1), "acme#new", True),
        (listed(acme=LISTED_OF_TENANT), "acme#new", False),
        (listed(acme=LISTED_OF_TENANT), "acme#0", True),
        (listed(acme=LISTED_OF_TENANT), "acme-2#new", True),
        (listed(acme=LISTED - 1), "globex#new", True),
        (listed(acme=LISTED), "globex#new", False),
        (listed(acme=LISTED + 1), "acme#0", True),
    ],
)
def test_there_is_room_for_so_many_grants_of_a_tenant_and_of_all(there: set[GrantKey], key: str, *, room: bool) -> None:
    assert has_room(there, GrantKey(*key.split("#"))) is room


def test_a_list_fits_into_an_item_with_the_longest_ids_and_writes_at_the_same_time() -> None:
    key = str(GrantKey("t" * 128, "g" * 128))
    at_once = 50  # API Gateway lets so many imports through at once
    assert (LISTED + at_once) * (len(key) + 1) < 400 * 1024 * 0.7


def test_a_grant_for_which_there_is_no_room_is_told_to_whoever_stores_it_and_missed_by_events(world: World) -> None:
    world.grants.users["7"] = listed(acme=LISTED_OF_TENANT)
    access, refresh = world.wise.add("ben")
    offer = Offer(refresh_token=refresh, access_token=access, issued_at=world.clock(),
                  expires_at=world.clock() + timedelta(hours=12), wise_user_id="7")  # fmt: skip
    kept = world.adopt_grant(world.key("ben"), offer, None)
    assert isinstance(kept, Kept)
    assert kept.grant.unlisted
    tell(world, "DEACTIVATED", Account(Subject.USER, "7"))
    world.apply_state(Account(Subject.USER, "7"))
    assert world.stored("ben").phase is Phase.ACTIVE

    world.grants.users["7"].pop()
    kept = world.adopt_grant(world.key("ben"), offer, kept.grant.version)
    assert isinstance(kept, Kept)
    assert not kept.grant.unlisted
    world.clock.advance(seconds=1)
    tell(world, "DEACTIVATED", Account(Subject.USER, "7"))
    world.apply_state(Account(Subject.USER, "7"))
    assert world.stored("ben").phase is Phase.SUSPENDED


def test_a_repeated_first_write_tells_it_as_well(world: World) -> None:
    world.grants.users["7"] = listed(acme=LISTED_OF_TENANT)
    create, seen = world.grants.create, world.grants.get
    offer = Offer(refresh_token=world.wise.add("ben")[1], wise_user_id="7")

    def twice(grant: Grant, link: str | None = None) -> Any:
        create(grant, link)
        return create(grant, link)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.grants, "create", twice)
        kept = world.adopt_grant(world.key("ben"), offer, None)
    assert isinstance(kept, Kept)
    assert kept.created
    assert kept.grant == seen(world.key("ben"))
    assert kept.grant.unlisted


# --- applying


def tell(world: World, state: str, account: Account = ANNA, ago: timedelta = timedelta(0)) -> StateChange:
    change = StateChange(account, AccountState(state), world.clock() - ago)
    world.states.note(change, world.clock())
    return change


def sweep(world: World, seconds: float = 1) -> SweepSummary:
    summary = world.sweep(seconds)
    assert isinstance(summary, SweepSummary)
    return summary


def due(world: World) -> list[GrantKey]:
    return [key for _, key in world.grants.due(range(16), world.clock(), 100) if Account.of(key)]


def why(answer: Served | NotServed) -> Why | None:
    return answer.why if isinstance(answer, NotServed) else None


@pytest.mark.parametrize("account", [ANNA, PROFILE], ids=["user", "profile"])
def test_a_deactivated_account_stops_its_grants(world: World, account: Account) -> None:
    change = tell(world, "DEACTIVATED", account)
    summary = sweep(world)
    grant = world.stored()
    assert (grant.phase, grant.suspended_from, grant.due_at) == (Phase.SUSPENDED, Phase.ACTIVE, None)
    assert grant.suspension == Suspension(change.occurred_at, account.subject.orderer, DEACTIVATED)
    assert why(world.serve()) is Why.SUSPENDED
    assert (summary.calls, summary.advanced, summary.troubled) == (0, 0, 0)
    assert (world.wise.asked, world.wise.refreshes, due(world)) == ([], [], [])
    (told,) = (event for event in world.journal.events if isinstance(event, UserDeactivated))
    assert (told.key, told.subject, told.occurred_at) == (world.key(), account.subject.value, change.occurred_at)


def test_all_grants_of_a_user_stop_and_nobody_elses(world: World) -> None:
    world.adopted("ben", wise_user_id=ANNA.wise_id, profile_id="9002")
    world.adopted("cleo", wise_user_id="1000002")
    tell(world, "DEACTIVATED")
    sweep(world)
    phases = {name: world.stored(name).phase for name in ("anna", "ben", "cleo")}
    assert phases == {"anna": Phase.SUSPENDED, "ben": Phase.SUSPENDED, "cleo": Phase.ACTIVE}


@pytest.mark.parametrize("state", [state for state in AccountState if state is not AccountState.DEACTIVATED])
def test_any_other_state_of_an_account_that_was_open_changes_nothing(world: World, state: AccountState) -> None:
    before = world.stored()
    change = tell(world, state.value)
    sweep(world)
    assert replace(world.stored(), user_rank=None) == before
    assert world.stored().user_rank == change.rank
    assert isinstance(world.serve(), Served)
    assert due(world) == []


def test_an_account_of_which_no_grant_is_known_is_settled(world: World) -> None:
    for account in (Account(Subject.USER, "7"), Account(Subject.PROFILE, "7")):
        tell(world, "DEACTIVATED", account)
    sweep(world)
    assert due(world) == []
    assert isinstance(world.serve(), Served)


def test_a_grant_that_was_deleted_meanwhile_is_no_trouble(world: World) -> None:
    world.grants.users[ANNA.wise_id].add(GrantKey("acme", "gone"))
    tell(world, "DEACTIVATED")
    assert sweep(world).troubled == 0
    assert world.stored().phase is Phase.SUSPENDED


@pytest.mark.parametrize("account", [ANNA, PROFILE], ids=["user", "profile"])
@pytest.mark.parametrize(("user", "profile"), [("1000002", "9002"), (None, None)], ids=["another's", "nobody's"])
def test_a_grant_that_became_anothers_meanwhile_is_left_alone(
    world: World, account: Account, user: str | None, profile: str | None
) -> None:
    world.adopted("ben", wise_user_id=user, profile_id=profile)
    before = world.stored("ben")
    world.grants.users[ANNA.wise_id].add(before.key)
    world.grants.profiles[PROFILE.wise_id] = before.key
    tell(world, "DEACTIVATED", account)
    assert sweep(world).troubled == 0
    assert world.stored("ben") == before
    assert due(world) == []


# --- coming back


def deactivated(world: World) -> None:
    tell(world, "DEACTIVATED")
    sweep(world)
    world.clock.advance(minutes=5)


@pytest.mark.parametrize("state", ["ACTIVE", "WITHDRAW_ONLY"])
def test_a_token_that_lives_again_is_served_after_wise_was_asked(world: World, state: str) -> None:
    deactivated(world)
    tell(world, state)
    world.apply_state(ANNA)
    grant = world.stored()
    assert (grant.phase, grant.in_doubt, grant.due_at) == (Phase.ACTIVE, STATE_CHANGED, world.clock())
    assert (grant.suspended_from, grant.suspension) == (None, None)
    sweep(world, 3)
    assert (world.stored().in_doubt, world.wise.refreshes) == (None, [])
    assert isinstance(world.serve(), Served)
    (told,) = (event for event in world.journal.events if isinstance(event, UserReactivated))
    assert told.key == world.key()


def test_a_dead_token_is_refreshed_once(world: World) -> None:
    deactivated(world)
    version = world.stored().version
    world.wise.users["anna"].access_token = "access-anna-7"
    tell(world, "ACTIVE")
    sweep(world, 5)
    assert len(world.wise.refreshes) == 1
    assert world.stored().version == version + 1
    assert isinstance(world.serve(), Served)


def test_where_wise_gives_nothing_back_people_are_told_after_one_try(world: World) -> None:
    deactivated(world)
    world.wise.users["anna"].alive = False
    tell(world, "ACTIVE")
    sweep(world, 30)
    assert len(world.wise.refreshes) == 1
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.REAUTHORIZATION_REQUIRED]


def test_one_whose_refresh_token_had_died_is_tried_once_more(world: World) -> None:
    world.wise.users["anna"].alive = False
    world.due_now()
    sweep(world)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    deactivated(world)
    assert (world.stored().suspended_from, world.stored().in_doubt) == (Phase.REAUTHORIZATION_REQUIRED, None)
    world.wise.users["anna"].alive = True
    tell(world, "ACTIVE")
    sweep(world, 5)
    assert world.stored().phase is Phase.ACTIVE
    assert isinstance(world.serve(), Served)
    assert world.alerts.published[-1].kind is AlertKind.RECOVERED


def test_one_that_is_as_dead_as_it_was_is_not_told_again(world: World) -> None:
    world.wise.users["anna"].alive = False
    world.due_now()
    sweep(world)
    deactivated(world)
    tell(world, "ACTIVE")
    sweep(world, 30)
    assert (world.stored().phase, len(world.wise.refreshes)) == (Phase.REAUTHORIZATION_REQUIRED, 2)
    assert [alert.reminder for alert in world.alerts.published] == [False]
    world.clock.advance(days=1)
    sweep(world)
    assert [alert.reminder for alert in world.alerts.published] == [False, True]


def given_up(world: World) -> None:
    """Wise closed the account, and a refresh came before any event."""
    world.wise.users["anna"].alive = False
    world.due_now()
    sweep(world)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    world.clock.advance(seconds=60)


def test_one_that_was_given_up_before_wise_said_why_is_tried_once_more(world: World) -> None:
    given_up(world)
    world.wise.users["anna"].alive = True
    tell(world, "DEACTIVATED", ago=timedelta(seconds=65))
    tell(world, "ACTIVE", ago=timedelta(seconds=2))  # takes the other's place before anybody has looked
    sweep(world, 5)
    assert world.stored().phase is Phase.ACTIVE
    assert isinstance(world.serve(), Served)
    assert world.alerts.published[-1].kind is AlertKind.RECOVERED


@pytest.mark.parametrize(("ago_s", "tries"), [(2, 1), (60, 1), (64, 1), (66, 0), (3600, 0)])
def test_what_was_given_up_after_its_account_was_opened_is_not_tried_again(
    world: World, ago_s: int, tries: int
) -> None:
    given_up(world)
    sent = len(world.wise.refreshes)
    tell(world, "ACTIVE", ago=timedelta(seconds=ago_s))
    sweep(world, 5)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert len(world.wise.refreshes) == sent + tries
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.REAUTHORIZATION_REQUIRED]


def test_one_that_never_had_an_access_token_is_due_as_well(world: World) -> None:
    _, refresh = world.wise.add("ben")
    world.adopt_grant(world.key("ben"), Offer(refresh_token=refresh, wise_user_id="7"), None)
    ben = Account(Subject.USER, "7")
    world.grants.items[world.key("ben")] = replace(world.stored("ben"), refresh_at=world.clock() + timedelta(hours=1))
    tell(world, "DEACTIVATED", ben)
    world.apply_state(ben)
    assert world.stored("ben").in_doubt is None
    world.clock.advance(seconds=1)
    tell(world, "ACTIVE", ben)
    sweep(world, 2)
    assert isinstance(world.serve("ben"), Served)


# --- closed and open again before anybody looked


def opened(world: World, ago: timedelta = timedelta(0)) -> None:
    world.states.note(StateChange(ANNA, AccountState.ACTIVE, world.clock() - ago, was_closed=True), world.clock())


@pytest.mark.parametrize("order", ["in order", "swapped", "both before the sweep", "the closing one never"])
def test_a_token_that_ended_while_its_account_was_closed_is_not_served(world: World, order: str) -> None:
    world.wise.users["anna"].access_token = "access-anna-7"
    if order in ("in order", "both before the sweep"):
        tell(world, "DEACTIVATED", ago=10 * SECOND)
    if order == "in order":
        sweep(world, 2)
    opened(world, ago=SECOND)
    world.apply_state(ANNA)
    assert (world.stored().in_doubt, world.stored().due_at) == (STATE_CHANGED, world.clock())
    if order == "swapped":
        tell(world, "DEACTIVATED", ago=10 * SECOND)
    sweep(world, 5)
    answer = world.serve()
    assert isinstance(answer, Served)
    assert world.wise.lives(answer.access_token.reveal())
    assert len(world.wise.refreshes) == 1


def test_one_that_is_stopped_by_an_operator_is_in_doubt_when_it_is_lifted(world: World) -> None:
    world.suspend_grant(world.key(), world.order())
    opened(world)
    world.apply_state(ANNA)
    grant = world.stored()
    assert (grant.phase, grant.in_doubt, grant.due_at) == (Phase.SUSPENDED, STATE_CHANGED, None)


def test_one_without_an_access_token_or_given_up_since_has_nothing_to_doubt(world: World) -> None:
    given_up(world)
    _, refresh = world.wise.add("ben")
    world.adopt_grant(world.key("ben"), Offer(refresh_token=refresh, wise_user_id=ANNA.wise_id), None)
    before = {name: world.stored(name) for name in ("anna", "ben")}
    opened(world, ago=3600 * SECOND)
    world.apply_state(ANNA)
    for name, grant in before.items():
        assert replace(world.stored(name), user_rank=None) == grant


# --- operators, and the other account


def test_an_operators_order_stands_and_the_token_is_in_doubt_when_it_is_lifted(world: World) -> None:
    order = world.order()
    world.suspend_grant(world.key(), order)
    deactivated(world)
    assert (world.stored().suspension, world.stored().in_doubt) == (order, STATE_CHANGED)
    assert [event for event in world.journal.events if isinstance(event, UserDeactivated)] == []
    tell(world, "ACTIVE")
    sweep(world)
    assert world.stored().suspension == order
    world.suspend_grant.lift(world.key())
    sweep(world, 2)
    assert world.stored().in_doubt is None
    assert isinstance(world.serve(), Served)


def test_an_operators_order_takes_the_place_of_wises_and_is_not_ended_by_wise(world: World) -> None:
    deactivated(world)
    order = world.order()
    assert world.suspend_grant(world.key(), order) == world.stored()
    assert world.suspend_grant(world.key(), world.order("another reason")) == world.stored()
    assert (world.stored().suspension, world.stored().in_doubt) == (order, STATE_CHANGED)
    tell(world, "ACTIVE")
    sweep(world)
    assert why(world.serve()) is Why.SUSPENDED
    world.suspend_grant.lift(world.key())
    sweep(world, 2)
    assert isinstance(world.serve(), Served)


def test_an_operators_order_given_while_wises_is_ended_stands(world: World) -> None:
    deactivated(world)
    tell(world, "ACTIVE")
    order = world.order()

    def give() -> None:
        world.grants.before_write = lambda: None  # type: ignore[method-assign]
        world.suspend_grant(world.key(), order)

    world.grants.before_write = give  # type: ignore[method-assign]
    sweep(world)
    assert world.stored().suspension == order
    assert why(world.serve()) is Why.SUSPENDED


def test_a_lift_that_takes_effect_late_ends_no_order_that_came_since(world: World) -> None:
    deactivated(world)
    write, late = world.grants.write, []

    def lost(*arguments: Any) -> Any:
        late.append(arguments)
        raise StoreUnavailable("injected")

    world.grants.write = lost  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        world.suspend_grant.lift(world.key())
    world.grants.write = write  # type: ignore[method-assign]
    order = world.order()
    world.suspend_grant(world.key(), order)
    for arguments in late:
        write(*arguments)
    assert world.stored().suspension == order


def test_a_manager_may_lift_it_before_wise_says_so(world: World) -> None:
    deactivated(world)
    world.suspend_grant.lift(world.key())
    assert (world.stored().phase, world.stored().in_doubt) == (Phase.ACTIVE, STATE_CHANGED)
    world.apply_state(ANNA)
    assert world.stored().phase is Phase.ACTIVE, "what was applied once is not applied again"


def test_a_grant_stays_while_its_other_account_is_closed(world: World) -> None:
    tell(world, "DEACTIVATED")
    tell(world, "DEACTIVATED", PROFILE)
    sweep(world, 2)
    by = world.stored().suspension
    assert by is not None
    first, second = (ANNA, PROFILE) if by.by == ANNA.subject.orderer else (PROFILE, ANNA)
    world.clock.advance(minutes=1)
    tell(world, "ACTIVE", first)
    sweep(world)
    order = world.stored().suspension
    assert order is not None
    assert order.by == second.subject.orderer
    world.clock.advance(minutes=1)
    tell(world, "ACTIVE", second)
    sweep(world, 3)
    assert isinstance(world.serve(), Served)


def test_a_grant_without_the_other_account_comes_back(world: World) -> None:
    world.adopted("ben", wise_user_id="7")
    world.adopted("cleo", profile_id="7")
    for account in (Account(Subject.USER, "7"), Account(Subject.PROFILE, "7")):
        tell(world, "DEACTIVATED", account)
        world.apply_state(account)
        world.clock.advance(seconds=1)
        tell(world, "ACTIVE", account)
        world.apply_state(account)
    assert {world.stored("ben").phase, world.stored("cleo").phase} == {Phase.ACTIVE}


def test_new_tokens_stay_stopped_and_remember_what_was_known(world: World) -> None:
    deactivated(world)
    before = world.stored()
    access, refresh = world.wise.add("anna")
    offer = Offer(refresh_token=refresh, access_token=access, issued_at=world.clock(),
                  expires_at=world.clock() + timedelta(hours=12))  # fmt: skip
    kept = world.adopt_grant(world.key(), offer, before.version)
    assert isinstance(kept, Kept)
    assert kept.grant.suspension == before.suspension
    assert (kept.grant.user_rank, kept.grant.wise_user_id) == (before.user_rank, ANNA.wise_id)
    tell(world, "ACTIVE")
    sweep(world, 3)
    assert isinstance(world.serve(), Served)


@pytest.mark.parametrize("by", ["import", "link"])
def test_what_was_known_of_another_user_says_nothing_about_the_one_whose_the_grant_is_now(
    world: World, by: str
) -> None:
    world.grants.items[world.key()] = replace(world.stored(), wise_user_id="another", user_rank=10**15)
    if by == "import":
        access, refresh = world.wise.add("anna")
        offer = Offer(
            refresh_token=refresh,
            access_token=access,
            expires_at=world.clock() + SECOND * 60,
            wise_user_id=ANNA.wise_id,
        )
        assert isinstance(world.adopt_grant(world.key(), offer, world.stored().version), Kept)
    else:
        world.wise.of_users, world.wise.user_ids = {"anna": frozenset({"9001"})}, {"anna": ANNA.wise_id}
        assert isinstance(world.confirm(world.came_back()), Kept)
    tell(world, "DEACTIVATED")
    sweep(world)
    assert world.stored().phase is Phase.SUSPENDED


def test_one_adopted_while_its_user_is_deactivated_is_left_alone(world: World) -> None:
    deactivated(world)
    world.adopted("ben", wise_user_id=ANNA.wise_id)
    sweep(world, 3)
    assert world.stored("ben").phase is Phase.ACTIVE


# --- leases, the breaker, suspensions, crashes


def test_who_is_refreshing_goes_on_and_the_answer_is_kept(world: World) -> None:
    world.due_now()
    version = world.stored().version

    def meanwhile() -> None:
        tell(world, "DEACTIVATED")
        world.apply_state(ANNA)

    world.wise.on_refresh = meanwhile
    world.attempt()
    grant = world.stored()
    assert (grant.phase, grant.version, grant.attempt_id) == (Phase.SUSPENDED, version + 1, None)
    assert why(world.serve()) is Why.SUSPENDED


def test_an_answer_under_way_does_not_end_the_doubt_that_a_closed_account_leaves(world: World) -> None:
    world.due_now()
    world.grants.items[world.key()] = replace(world.stored(), in_doubt="lost", hold_until=world.clock())

    def close() -> None:
        world.suspend_grant(world.key(), world.order())
        deactivated(world)
        world.suspend_grant.lift(world.key())

    world.wise.after_refresh = close
    result = world.attempt()
    assert (result.word, world.stored().in_doubt) == (Word.IN_DOUBT, STATE_CHANGED), "what was lost has come"
    assert (world.stored().phase, world.stored().due_at) == (Phase.ACTIVE, world.clock())
    asked = len(world.wise.asked)
    world.wise.after_refresh = lambda: None
    assert isinstance(world.serve(), Served)
    assert len(world.wise.asked) == asked + 1


@pytest.mark.parametrize("before", [None, "an attempt"])
@pytest.mark.parametrize("lets_go", ["Wise", "a manager"])
def test_what_a_refresh_brings_that_was_under_way_meanwhile_is_in_doubt(
    world: World, before: str | None, lets_go: str
) -> None:
    grant = world.due_now()
    world.grants.items[grant.key] = replace(grant, in_doubt=before, due_at=world.clock())

    def meanwhile() -> None:
        tell(world, "DEACTIVATED")
        world.apply_state(ANNA)
        world.clock.advance(seconds=1)
        if lets_go == "Wise":
            tell(world, "ACTIVE")
            world.apply_state(ANNA)
        else:
            world.suspend_grant.lift(world.key())

    world.wise.after_refresh = meanwhile
    assert world.attempt().word is Word.IN_DOUBT
    world.wise.after_refresh = lambda: None
    asked = len(world.wise.asked)
    assert isinstance(world.serve(), Served)
    assert len(world.wise.asked) == asked + 1


def test_it_is_applied_while_the_breaker_is_open(world: World) -> None:
    world.fleet.fleet = Fleet(open_until=world.clock() + timedelta(minutes=5), why="unknown", since=world.clock())
    tell(world, "DEACTIVATED")
    assert sweep(world, 2).calls == 0
    assert world.stored().phase is Phase.SUSPENDED


def test_while_everything_is_suspended_it_waits(world: World) -> None:
    world.suspensions.suspend(None, world.order())
    tell(world, "DEACTIVATED")
    sweep(world, 3)
    assert due(world) != []
    world.suspensions.lift(None)
    world.clock.advance(seconds=6)
    sweep(world, 2)
    assert world.stored().phase is Phase.SUSPENDED


def test_a_suspended_tenants_grants_are_stopped_as_well(world: World) -> None:
    world.suspensions.suspend("acme", world.order())
    tell(world, "DEACTIVATED")
    sweep(world, 2)
    assert world.stored().phase is Phase.SUSPENDED


@pytest.mark.parametrize("plan", ["before", "after"])
@pytest.mark.parametrize("call", range(4))
def test_a_change_whose_sweep_fails_is_applied_by_a_later_one(world: World, call: int, plan: str) -> None:
    world.adopted("ben", wise_user_id=ANNA.wise_id, profile_id="9002")
    tell(world, "DEACTIVATED")
    places = [world.states.failures, world.grants.failures]
    places[call % 2].extend(["ok"] * (call // 2) + [plan])
    with pytest.raises(StoreUnavailable):
        world.apply_state(ANNA)
    world.grants.failures.clear()
    world.states.failures.clear()
    world.clock.advance(minutes=2)
    sweep(world, 3)
    assert {world.stored(name).phase for name in ("anna", "ben")} == {Phase.SUSPENDED}
    assert due(world) == []


def test_one_that_cannot_be_applied_keeps_nobody_waiting(world: World) -> None:
    world.adopted("ben", wise_user_id="7")
    tell(world, "DEACTIVATED")
    tell(world, "DEACTIVATED", Account(Subject.USER, "7"))
    world.states.failures = ["before"]
    summary = sweep(world, 3)
    assert summary.troubled == 1
    assert sorted(world.stored(name).phase for name in ("anna", "ben")) == ["active", "suspended"]
    world.clock.advance(minutes=2)
    sweep(world, 3)
    assert {world.stored(name).phase for name in ("anna", "ben")} == {Phase.SUSPENDED}


@pytest.mark.parametrize("broken", ["anna", "ben", "cleo"])
def test_a_grant_that_cannot_be_read_keeps_no_other_of_its_user_going(world: World, broken: str) -> None:
    for number, name in enumerate(("ben", "cleo")):
        world.adopted(name, wise_user_id=ANNA.wise_id, profile_id=f"910{number}")
    get = world.grants.get

    def read(key: GrantKey) -> Grant | None:
        if key.grant_id == broken:
            raise CorruptGrant("the item has another schema")
        return get(key)

    world.grants.get = read  # type: ignore[method-assign]
    tell(world, "DEACTIVATED")
    for _ in range(2):
        with pytest.raises(CorruptGrant):
            world.apply_state(ANNA)
    phases = {name: world.grants.items[world.key(name)].phase for name in ("anna", "ben", "cleo")}
    assert phases == dict.fromkeys(phases, Phase.SUSPENDED) | {broken: Phase.ACTIVE}
    assert due(world) == [ANNA.key]
    troubles = [(event.key, event.code) for event in world.journal.events if isinstance(event, Trouble)]
    assert troubles == [(world.key(broken), "corrupt-grant")] * 2
    world.grants.get = get  # type: ignore[method-assign]
    sweep(world)
    assert world.stored(broken).phase is Phase.SUSPENDED
    assert due(world) == []


def test_what_comes_while_an_older_change_is_applied_is_applied_too(world: World) -> None:
    tell(world, "DEACTIVATED", ago=SECOND)
    newer: list[StateChange] = []
    world.states.before_settle = lambda: None if newer else newer.append(tell(world, "ACTIVE"))
    world.apply_state(ANNA)
    assert world.stored().phase is Phase.ACTIVE
    assert due(world) == []


def test_who_is_late_with_an_older_change_changes_nothing(world: World) -> None:
    """A sweep that read it, and slept while a newer one was told, applied and settled by another."""
    older = tell(world, "DEACTIVATED", ago=SECOND)
    tell(world, "ACTIVE")
    world.apply_state(ANNA)
    world.apply_state._apply(world.key(), older)
    assert world.stored().phase is Phase.ACTIVE


def test_two_who_apply_at_once_do_it_once(world: World) -> None:
    tell(world, "DEACTIVATED")
    done: list[bool] = []

    def first() -> None:
        if not done:
            done.append(True)
            world.apply_state(ANNA)

    world.grants.before_write = first  # type: ignore[method-assign]
    world.apply_state(ANNA)
    assert len([event for event in world.journal.events if isinstance(event, UserDeactivated)]) == 1


def test_a_grant_that_is_deleted_while_it_is_applied_is_let_go(world: World) -> None:
    tell(world, "DEACTIVATED")
    world.grants.before_write = lambda: world.grants.items.pop(world.key(), None)  # type: ignore[method-assign, assignment, return-value]
    world.apply_state(ANNA)
    assert due(world) == []


# --- any order, any number of times

EVENTS = st.lists(
    st.tuples(
        st.sampled_from([ANNA, PROFILE]),
        st.sampled_from(["ACTIVE", "WITHDRAW_ONLY", "DEACTIVATED"]),
        st.integers(min_value=1, max_value=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def settled_by(events: list[tuple[Account, str, int, bool]]) -> set[Subject]:
    """Which accounts are closed, by the newest event of each; of two at an instant the one that closes."""
    newest: dict[Account, tuple[int, bool]] = {}
    for account, state, at, _ in events:
        newest[account] = max(newest.get(account, (0, False)), (at, state == "DEACTIVATED"))
    return {account.subject for account, (_, closed) in newest.items() if closed}


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.data())
def test_whatever_the_order_the_newest_of_each_account_decides(
    events: list[tuple[Account, str, int, bool]], random: Any, data: st.DataObject
) -> None:
    world = World()
    world.adopted(wise_user_id=ANNA.wise_id, profile_id=PROFILE.wise_id)
    start = world.clock()
    deliveries = [*events, *data.draw(st.lists(st.sampled_from(events), max_size=4))]
    random.shuffle(deliveries)
    ever = False
    for account, state, at, before in deliveries:
        closes = state == "DEACTIVATED"
        change = StateChange(account, AccountState(state), start + at * SECOND, was_closed=before and not closes)
        ever |= world.states.note(change, world.clock()) and (closes or before)
        if data.draw(st.booleans()):
            world.apply_state(account)
    for account in (ANNA, PROFILE):
        world.apply_state(account)
    closed = settled_by(events)
    grant = world.stored()
    assert (grant.phase is Phase.SUSPENDED) == bool(closed)
    if closed:
        assert grant.suspension is not None
        assert grant.suspension.by in {subject.orderer for subject in closed}
    assert grant.in_doubt == (STATE_CHANGED if ever else None), "what was news and told of an end is never forgotten"


def test_every_order_of_three_events_ends_alike() -> None:
    events = [(ANNA, "DEACTIVATED", 1), (ANNA, "ACTIVE", 2), (ANNA, "DEACTIVATED", 3)]
    for order in itertools.permutations(events):
        world = World()
        world.adopted(wise_user_id=ANNA.wise_id)
        for account, state, at in order:
            world.states.note(StateChange(account, AccountState(state), world.clock() + at * SECOND), world.clock())
            world.apply_state(account)
        assert world.stored().phase is Phase.SUSPENDED


def test_a_stopped_grant_stays_as_it_is_under_a_second_order(world: World) -> None:
    grant: Grant = suspended(world.stored(), world.order())
    assert world.attempt().word is not Word.REFRESHED
    assert suspended(grant, world.order("again")) is grant


@pytest.mark.parametrize(
    ("doubt", "reason"),
    [(None, "invalid_grant"), (FOUND_DEAD, "invalid_grant"), ("attempt-0", "outcome_unknown")],
)
def test_a_refresh_token_that_ended_with_the_account_was_lost_only_if_a_doubt_says_so(
    world: World, doubt: str | None, reason: str
) -> None:
    world.grants.items[world.key()] = replace(world.stored(), in_doubt=doubt)
    deactivated(world)
    deactivated(world)  # told once more, of a later instant
    assert world.stored().in_doubt == (f"{STATE_CHANGED} after attempt-0" if doubt == "attempt-0" else STATE_CHANGED)
    world.wise.users["anna"].alive = False
    tell(world, "ACTIVE")
    world.sweep(20)
    assert [alert.reason for alert in world.alerts.published] == [reason]


def test_an_answer_that_was_lost_stays_lost_where_wise_opens_the_account_again(world: World) -> None:
    world.wise.users["anna"].alive = False
    world.due_now()
    world.grants.items[world.key()] = replace(world.stored(), in_doubt="attempt-0", hold_until=world.clock())
    world.sweep(20)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    tell(world, "ACTIVE")
    world.apply_state(ANNA)
    assert world.stored().phase is Phase.ACTIVE
    assert str(world.stored().in_doubt).startswith(f"{STATE_CHANGED} after attempt-")
    world.sweep(20)
    assert (world.stored().phase, world.stored().last_error) == (Phase.REAUTHORIZATION_REQUIRED, "outcome_unknown")
    assert {alert.reason for alert in world.alerts.published} == {"outcome_unknown"}
