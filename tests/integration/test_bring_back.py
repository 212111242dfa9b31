"""A restored table: its dead tokens reach nobody, and every grant that can be saved is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from types_boto3_dynamodb import DynamoDBClient

from local.wise.running import RunningWise
from ops.bring_back import BringBack, Fate, main
from tests.integration.place import Parts, Place, wired
from token_rotator.domain.grant import SHARDS, Grant, GrantKey, Phase
from token_rotator.domain.state_change import LISTED_OF_TENANT, Account, AccountState, StateChange, Subject
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.ports import Cause, Done, RefreshReport, When
from token_rotator.service.serve_token import NotServed, Served, Why

pytestmark = pytest.mark.emulator

MANY = 12
AS_IT_IS = When(attempt_id=None)
PATIENCE = timedelta(seconds=60)


@dataclass
class NobodyRefreshes:
    """`Refresher` whose function is stopped."""

    asked: list[GrantKey] = field(default_factory=list)

    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport:
        self.asked.append(key)
        return RefreshReport("failed")


@dataclass
class Disaster:
    """A deployment whose table was saved, lived on for a while, and then lost every grant."""

    parts: Parts
    place: Place
    dynamodb: DynamoDBClient
    saved: str
    wise: RunningWise

    def save(self) -> None:
        """The table as it is now, restored beside the live one."""
        self.dynamodb.restore_table_to_point_in_time(
            SourceTableName=self.place.table, TargetTableName=self.saved, UseLatestRestorableTime=True
        )

    def sweep(self, done: Callable[[], bool]) -> None:
        """Short sweeps until what is waited for has happened: a busy machine may start nothing in one of them."""
        use = self.parts.refreshing.refresh_due
        give_up = use.clock() + PATIENCE
        while not done():
            assert use.clock() < give_up, "what the sweep was to do is not done"
            use(range(SHARDS), use.clock() + timedelta(seconds=2))

    def refresh(self, *keys: GrantKey) -> None:
        """Let time pass until these grants are refreshed, once each."""
        for key in keys:
            self.parts.make_due(key)
        self.sweep(lambda: all(self.refreshes(key.grant_id) for key in keys))
        self.sweep(lambda: all(self.grant(key).attempt_id is None for key in keys))
        assert all(self.refreshes(key.grant_id) == 1 for key in keys)

    def due(self, account: Account) -> bool:
        return any(item["pk"]["S"] == str(account.key) and "due_at" in item for item in self.items(self.place.table))

    def grant(self, key: GrantKey) -> Grant:
        grant = self.parts.refreshing.refresh_grant.grants.get(key)
        assert grant is not None
        return grant

    def lose(self) -> None:
        for item in self.items(self.place.table):
            self.dynamodb.delete_item(TableName=self.place.table, Key={"pk": item["pk"]})

    def items(self, table: str) -> list[dict[str, Any]]:
        return [dict(item) for item in self.dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]]

    def put(self, table: str, **item: Any) -> None:
        self.dynamodb.put_item(TableName=table, Item=item)

    def bring_back(self, *, dry_run: bool = False) -> dict[str, Fate]:
        clock = self.parts.refreshing.refresh_due.clock
        return dict(BringBack(self.dynamodb, self.saved, self.place.table, clock, dry_run=dry_run)())

    def refreshes(self, user: str) -> int:
        return len([one for one in self.wise.control.requests(user=user) if one.outcome == "refreshed"])

    def lives(self, user: str, token: str) -> bool:
        found = self.wise.control.tokens(user, values=True)
        newest = [one.value for one in found if one.kind == "access"][-1]
        return token == newest


@pytest.fixture
def disaster(place: Place, wise: RunningWise, dynamodb: DynamoDBClient) -> Iterator[Disaster]:
    with wired(place) as (parts, _):
        found = Disaster(parts, place, dynamodb, f"{place.table}-restored", wise)
        yield found
        for table in (found.saved, place.table):
            if table in dynamodb.list_tables()["TableNames"]:
                dynamodb.delete_table(TableName=table)


def adopt(disaster: Disaster, name: str, profile: str | None = None) -> GrantKey:
    user = disaster.wise.control.seed_user(name)
    key = disaster.parts.adopt(user, name)
    if profile is not None:
        before = disaster.parts.administering.adopt_grant.grants.get(key)
        assert before is not None
        offer = Offer(
            refresh_token=Secret(user.refresh_token),
            access_token=Secret(user.access_token),
            issued_at=user.issued_at,
            expires_at=user.expires_at,
            profile_id=profile,
        )
        assert isinstance(disaster.parts.administering.adopt_grant(key, offer, before.version), Kept)
    return key


def test_after_a_restore_no_dead_token_is_served_and_every_grant_goes_on(disaster: Disaster) -> None:
    replaced = adopt(disaster, "user-replaced", profile="profile-1")
    untouched = adopt(disaster, "user-untouched")
    before = disaster.parts.serve()(replaced)
    assert isinstance(before, Served)
    disaster.save()
    disaster.refresh(replaced)
    assert not disaster.lives("user-replaced", before.access_token.reveal()), "the saved token is dead"
    disaster.lose()

    fates = disaster.bring_back()

    assert fates[str(replaced)] is fates[str(untouched)] is Fate.BROUGHT_BACK
    nobody = NobodyRefreshes()
    for key in (replaced, untouched):
        refused = disaster.parts.serve(nobody)(key)
        assert isinstance(refused, NotServed)
        assert refused.why is Why.UNAVAILABLE
    assert set(nobody.asked) == {replaced, untouched}

    disaster.sweep(lambda: all(disaster.grant(key).in_doubt is None for key in (replaced, untouched)))

    for key, refreshes in ((replaced, 2), (untouched, 0)):
        served = disaster.parts.serve()(key)
        assert isinstance(served, Served)
        assert disaster.lives(key.grant_id, served.access_token.reveal())
        assert served.version > before.version + 1
        assert disaster.refreshes(key.grant_id) == refreshes, "a token that lives is not replaced"
    claim = {"pk": {"S": "#profile#profile-1"}, "holder": {"S": str(replaced)}}
    assert claim in disaster.items(disaster.place.table)


def test_a_reader_who_asks_all_the_while_gets_no_dead_token(disaster: Disaster) -> None:
    """The mark is in the write that brings the row back: there is no moment between the two."""
    keys = [adopt(disaster, f"user-{number}") for number in range(MANY)]
    disaster.save()
    disaster.refresh(*keys)
    disaster.lose()
    served: list[object] = []
    seen: set[Why] = set()
    over = threading.Event()

    def ask() -> None:
        serve = disaster.parts.serve(NobodyRefreshes())
        while not over.is_set():
            for key in keys:
                answer = serve(key)
                if isinstance(answer, Served):
                    served.append(key)
                else:
                    seen.add(answer.why)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        fates = disaster.bring_back()
        assert list(fates.values()).count(Fate.BROUGHT_BACK) == MANY
        while Why.UNAVAILABLE not in seen:
            over.wait(0.01)
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert served == []
    assert seen == {Why.ABSENT, Why.UNAVAILABLE}


def test_what_became_of_each_row_is_foretold_and_told(disaster: Disaster, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(disaster, "user-back")
    adopt(disaster, "user-there")
    adopt(disaster, "user-elsewhere", profile="profile-2")
    disaster.save()
    table = disaster.place.table
    there = next(item for item in disaster.items(table) if item["pk"]["S"] == "acme#user-there")
    disaster.lose()
    disaster.put(table, **there)
    disaster.put(table, pk={"S": "#profile#profile-2"}, holder={"S": "acme#another"})
    disaster.put(disaster.saved, pk={"S": "acme#user-odd"}, schema={"N": "99"})
    disaster.put(disaster.saved, pk={"S": "#suspended"}, reason={"S": "fixture"})
    disaster.put(disaster.saved, pk={"S": "#fleet"}, revision={"N": "1"})
    disaster.put(disaster.saved, pk={"S": "#state#user#7"}, state={"S": "DEACTIVATED"})
    disaster.put(disaster.saved, pk={"S": "#user#7"}, holders={"SS": ["acme#user-back"]})
    back = next(item for item in disaster.items(disaster.saved) if item["pk"]["S"] == "acme#user-back")
    disaster.put(disaster.saved, **{**back, "wise_user_id": {"S": "7"}})
    expected = {
        "acme#user-back": Fate.BROUGHT_BACK,
        "acme#user-there": Fate.THERE,
        "acme#user-elsewhere": Fate.HELD,
        "acme#user-odd": Fate.UNREADABLE,
        "#suspended": Fate.BROUGHT_BACK,
        "#fleet": Fate.OF_THE_MOMENT,
        "#state#user#7": Fate.BROUGHT_BACK,
        "#user#7": Fate.OF_THE_MOMENT,
        "#profile#profile-2": Fate.OF_THE_MOMENT,
    }
    before = disaster.items(table)

    assert disaster.bring_back(dry_run=True) == expected
    assert disaster.items(table) == before

    assert main([disaster.saved, table], disaster.dynamodb) == 1
    told = capsys.readouterr().out
    assert "acme#user-elsewhere: not brought back: another grant holds its Wise profile" in told
    assert "acme#user-odd: not brought back: this version cannot read it" in told
    assert f"{3:>8} brought back\n" in told
    found = {item["pk"]["S"]: item for item in disaster.items(table)}
    states = {"#state#user#7", "#user#7"}
    assert set(found) == {"acme#user-back", "acme#user-there", "#suspended", "#profile#profile-2"} | states
    assert found["#user#7"]["holders"] == {"SS": ["acme#user-back"]}, "listed anew, with the grant"
    assert found["acme#user-there"] == there
    assert found["#profile#profile-2"]["holder"] == {"S": "acme#another"}

    again = {key: Fate.THERE if fate is Fate.BROUGHT_BACK else fate for key, fate in expected.items()}
    assert disaster.bring_back() == again
    assert disaster.bring_back(dry_run=True) == again


def test_a_row_for_which_its_users_list_has_no_room_comes_back_all_the_same(disaster: Disaster) -> None:
    adopt(disaster, "user-back")
    disaster.save()
    table = disaster.place.table
    disaster.lose()
    [row] = [item for item in disaster.items(disaster.saved) if item["pk"]["S"] == "acme#user-back"]
    disaster.put(disaster.saved, **{**row, "wise_user_id": {"S": "7"}})
    others = {"SS": [f"acme#other-{number}" for number in range(LISTED_OF_TENANT)]}
    disaster.put(table, pk={"S": "#user#7"}, holders=others)
    assert disaster.bring_back()["acme#user-back"] is Fate.BROUGHT_BACK
    found = {item["pk"]["S"]: item for item in disaster.items(table)}
    assert found["acme#user-back"]["unlisted"] == {"BOOL": True}
    assert set(found["#user#7"]["holders"]["SS"]) == set(others["SS"])


@pytest.mark.parametrize(
    ("reason", "times", "fate"),
    [
        ("ThrottlingError", 2, Fate.BROUGHT_BACK),
        ("TransactionConflict", 2, Fate.BROUGHT_BACK),
        ("ThrottlingError", 99, None),
        ("ValidationError", 1, None),
    ],
)
def test_a_write_that_the_table_is_too_busy_for_is_tried_again_for_a_while(
    disaster: Disaster, monkeypatch: pytest.MonkeyPatch, reason: str, times: int, fate: Fate | None
) -> None:
    key = adopt(disaster, "user-busy")
    disaster.save()
    disaster.lose()
    write, slept, left = disaster.dynamodb.transact_write_items, list[float](), [None] * times
    cancelled = disaster.dynamodb.exceptions.TransactionCanceledException

    def busy(**request: Any) -> Any:
        if not left:
            return write(**request)
        left.pop()
        answer = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": [{"Code": reason}]}
        raise cancelled(answer, "TransactWriteItems")  # type: ignore[arg-type]

    monkeypatch.setattr(disaster.dynamodb, "transact_write_items", busy)
    clock = disaster.parts.refreshing.refresh_due.clock
    use = BringBack(disaster.dynamodb, disaster.saved, disaster.place.table, clock, slept.append)
    if fate is None:
        with pytest.raises(cancelled):
            dict(use())
        assert len(slept) == (0 if times == 1 else 7)
    else:
        assert dict(use()) == {str(key): fate}
        assert slept == [0.1, 0.2]


def test_all_is_well_where_nothing_has_to_be_looked_at(disaster: Disaster, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(disaster, "user-back", profile="profile-3")
    disaster.save()
    disaster.lose()
    assert main([disaster.saved, disaster.place.table, "--dry-run"], disaster.dynamodb) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert disaster.items(disaster.place.table) == []
    assert main([disaster.saved, disaster.place.table], disaster.dynamodb) == 0
    capsys.readouterr()
    assert main([disaster.saved, "no-such-table"], disaster.dynamodb) == 2
    assert "safe to run again" in capsys.readouterr().err


def test_a_grant_whose_refresh_token_was_replaced_since_needs_its_user_and_says_why(disaster: Disaster) -> None:
    disaster.wise.control.change_settings(refresh_token_policy="rotated")
    key = adopt(disaster, "user-rotated")
    disaster.save()
    disaster.refresh(key)
    disaster.lose()
    disaster.bring_back()
    disaster.sweep(lambda: disaster.grant(key).in_doubt is None or disaster.grant(key).phase is not Phase.ACTIVE)
    grant = disaster.grant(key)
    assert grant.phase is Phase.REAUTHORIZATION_REQUIRED
    assert grant.alert is not None
    assert grant.alert.reason == "outcome_unknown"


def test_what_wise_said_of_its_account_while_a_row_was_missing_is_applied_once_it_is_back(disaster: Disaster) -> None:
    key = adopt(disaster, "user-closed")
    before = disaster.grant(key)
    known = replace(before, wise_user_id="4711")
    states = disaster.parts.refreshing.refresh_due.apply_state.states
    assert isinstance(disaster.parts.administering.adopt_grant.grants.replace(before, known, AS_IT_IS), Done)
    clock = disaster.parts.refreshing.refresh_due.clock
    account = Account(Subject.USER, "4711")
    states.note(StateChange(account, AccountState.DEACTIVATED, clock() - timedelta(minutes=5)), clock())
    disaster.sweep(lambda: disaster.grant(key).phase is Phase.SUSPENDED)
    disaster.save()
    disaster.lose()
    states.note(StateChange(account, AccountState.ACTIVE, clock() - timedelta(minutes=1)), clock())
    disaster.sweep(lambda: not disaster.due(account))

    assert disaster.bring_back()[str(key)] is Fate.BROUGHT_BACK
    assert disaster.grant(key).phase is Phase.SUSPENDED
    disaster.sweep(lambda: disaster.grant(key).phase is Phase.ACTIVE)
    disaster.sweep(lambda: disaster.grant(key).in_doubt is None)
    assert isinstance(disaster.parts.serve()(key), Served)
