"""The emulator's log becomes a history that tells the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest

from local.proof.checker import Rule, check
from local.proof.from_truth import at, history_of
from local.proof.history import (
    Adopted,
    Asked,
    Died,
    History,
    Kind,
    Minted,
    Record,
    RefreshAnswered,
    RefreshBegan,
    RefreshSettled,
    Served,
    Stored,
    Told,
    name_of,
)
from local.wise.control import SeededUser
from local.wise.running import RunningWise, running_wise
from tests.wise.client import CLIENT, WiseClient


@pytest.fixture(scope="module")
def running() -> Iterator[RunningWise]:
    with running_wise() as wise:
        yield wise


class Side:
    """Both sides of one run: the emulator, and a ledger kept by hand."""

    def __init__(self, running: RunningWise, user: str) -> None:
        self.running = running
        self.client = WiseClient(running)
        self.user = user
        self.seeded: SeededUser = running.control.seed_user(user)
        self.ledger: list[Record] = []

    def now(self) -> datetime:
        time.sleep(0.002)  # the emulator's log knows milliseconds
        return datetime.now(UTC)

    def refresh(self, attempt: str | None, refresh_token: str | None = None) -> dict[str, str]:
        headers = {} if attempt is None else {"X-External-Correlation-Id": attempt}
        answer = self.client.refresh(refresh_token or self.seeded.refresh_token, headers=headers)
        self.running.control.wait_until_idle(self.user)
        fields: dict[str, str] = answer.json if answer.body else {}
        return fields

    def serve(self, token: str, for_s: float = 60, looked: datetime | None = None) -> None:
        now = self.now()
        self.ledger.append(
            Served(
                when=at(now),
                grant="anna",
                looked=at(looked or now),
                token=name_of(token),
                version=1,
                stable_until=now + timedelta(seconds=for_s),
            )
        )

    def history(self, **more: object) -> History:
        truth = self.running.control.truth()
        return history_of(truth, self.ledger, {self.user: "anna"}, healed=False, **more)  # type: ignore[arg-type]


@pytest.fixture
def side(running: RunningWise, request: pytest.FixtureRequest) -> Side:
    running.control.clear_faults()
    running.control.change_settings(refresh_token_policy="same")
    return Side(running, request.node.name)


def test_a_refresh_is_told_from_its_arrival_to_its_answer(side: Side) -> None:
    fields = side.refresh("attempt-1")
    history = side.history()
    first, second = name_of(side.seeded.access_token), name_of(fields["access_token"])
    refresh = name_of(side.seeded.refresh_token)
    minted = [(r.token, r.kind, r.request is None) for r in history if isinstance(r, Minted)]
    assert minted == [(refresh, Kind.REFRESH, True), (first, Kind.ACCESS, True), (second, Kind.ACCESS, False)]
    [began] = [record for record in history if isinstance(record, RefreshBegan)]
    assert (began.attempt, began.presented, began.grant) == ("attempt-1", refresh, "anna")
    [died] = [record for record in history if isinstance(record, Died)]
    assert (died.token, died.request) == (first, began.request)
    [settled] = [record for record in history if isinstance(record, RefreshSettled)]
    assert (settled.carried_out, settled.access, settled.refresh) == (True, second, refresh)
    [answered] = [record for record in history if isinstance(record, RefreshAnswered)]
    assert answered.told is Told.TOKENS
    assert began.when < died.when < settled.when < answered.when
    assert {record.grant for record in history} == {"anna"}


def test_tokens_for_a_code_are_no_refreshs(side: Side) -> None:
    callback = "https://partner.example.com/wise/callback"
    location = side.running.control.authorize(side.user, redirect_uri=callback)
    code = dict(parse_qsl(urlsplit(location).query))["code"]
    fields = {"grant_type": "authorization_code", "client_id": CLIENT[0], "code": code, "redirect_uri": callback}
    fields = side.client.form(fields).json
    history = side.history()
    minted = [(record.token, record.request) for record in history if isinstance(record, Minted)]
    assert minted[2:] == [(name_of(fields["refresh_token"]), None), (name_of(fields["access_token"]), None)]
    [died] = [record for record in history if isinstance(record, Died)]
    assert (died.token, died.request) == (name_of(side.seeded.refresh_token), None)
    assert not [record for record in history if isinstance(record, RefreshBegan | RefreshSettled)]


def test_a_rotated_refresh_token_dies_by_the_refresh_that_replaced_it(side: Side) -> None:
    side.running.control.change_settings(refresh_token_policy="rotated")
    fields = side.refresh("attempt-1")
    history = side.history()
    [settled] = [record for record in history if isinstance(record, RefreshSettled)]
    assert settled.refresh == name_of(fields["refresh_token"])
    dead = {(record.token, record.request) for record in history if isinstance(record, Died)}
    assert (name_of(side.seeded.refresh_token), settled.request) in dead


def test_what_reached_the_sender_is_told(side: Side) -> None:
    control = side.running.control

    def told(**more: object) -> Told:
        side.refresh("attempt")
        return [record for record in side.history(**more) if isinstance(record, RefreshAnswered)][-1].told

    control.throttle(1)
    assert told() is Told.REFUSED
    control.fail_next(status=503, carry_out=False)
    assert told() is Told.NOTHING
    control.fail_next(status=500, carry_out=True)
    assert told() is Told.NOTHING
    control.patch_next({"access_token": None})
    assert told(unusable=lambda request: request.fault is not None) is Told.NOTHING
    assert told() is Told.TOKENS
    assert told(deadline=timedelta(seconds=-1)) is Told.NOTHING
    control.revoke(side.user)
    assert told() is Told.INVALID


def test_a_lost_connection_reached_nobody(side: Side) -> None:
    side.running.control.drop_after_carrying_out()
    with pytest.raises(OSError, match=r"."):
        side.refresh("attempt")
    side.running.control.wait_until_idle(side.user)
    history = side.history()
    [settled] = [record for record in history if isinstance(record, RefreshSettled)]
    assert settled.carried_out
    assert [r.told for r in history if isinstance(r, RefreshAnswered)] == [Told.NOTHING]


def test_the_rotators_questions_are_told_and_its_readers_uses_are_not(side: Side) -> None:
    side.client.me(side.seeded.access_token, headers={"X-External-Correlation-Id": "attempt-1"})
    side.client.me(side.seeded.access_token)
    side.running.control.revoke(side.user)
    side.client.me(side.seeded.access_token, headers={"X-External-Correlation-Id": "attempt-2"})
    asked = [(record.lives, record.told) for record in side.history() if isinstance(record, Asked)]
    assert asked == [(True, True), (False, True)]


def test_tokens_that_wise_ended_died_by_no_request(side: Side) -> None:
    side.running.control.revoke(side.user)
    assert [r.request for r in side.history() if isinstance(r, Died)] == [None, None]


def test_old_age_is_told_by_its_date_alone(side: Side) -> None:
    user = side.running.control.seed_user(side.user, access_token_lifetime_s=0.001)
    side.client.me(user.access_token)
    history = side.history()
    assert name_of(user.access_token) not in {r.token for r in history if isinstance(r, Died)}
    [minted] = [r for r in history if isinstance(r, Minted) and r.token == name_of(user.access_token)]
    assert minted.expires_at == user.expires_at
    ahead = side.history(clock_ahead=timedelta(hours=1))
    [shifted] = [r for r in ahead if isinstance(r, Minted) and r.token == name_of(user.access_token)]
    assert shifted.expires_at == user.expires_at - timedelta(hours=1)


def test_both_sides_are_in_one_order(side: Side) -> None:
    side.ledger.append(
        Adopted(
            when=at(side.now()),
            asked=at(side.now()),
            grant="anna",
            access=name_of(side.seeded.access_token),
            refresh=name_of(side.seeded.refresh_token),
        )
    )
    side.serve(side.seeded.access_token)
    fields = side.refresh("attempt-1")
    side.ledger.append(Stored(when=at(side.now()), grant="anna", phase="active", version=1))
    side.serve(fields["access_token"])
    kinds = [type(record).__name__ for record in side.history() if not isinstance(record, Minted)]
    refresh = ["RefreshBegan", "Died", "RefreshSettled", "RefreshAnswered"]
    assert kinds == ["Adopted", "Served", *refresh, "Stored", "Served"]
    orders = [record.when.order for record in side.history()]
    assert orders == sorted(set(orders))


def test_the_checker_finds_in_it_what_the_emulator_saw(side: Side) -> None:
    before = side.now()
    side.serve(side.seeded.access_token)
    fields = side.refresh("attempt-1")
    side.serve(side.seeded.access_token)
    side.serve(fields["access_token"])
    assert [violation.rule for violation in check(side.history())] == [Rule.NOT_DEAD, Rule.PROMISE]
    side.ledger = side.ledger[2:]
    side.serve(side.seeded.access_token, for_s=-1, looked=before)
    assert check(side.history()) == []


def test_a_refresh_of_somebody_else_has_no_attempt(side: Side) -> None:
    side.refresh(None)
    side.refresh("not-ours")
    theirs = side.history(ours=lambda correlation_id: correlation_id == "ours")
    assert [r.attempt for r in side.history() if isinstance(r, RefreshBegan)] == [None, "not-ours"]
    assert [r.attempt for r in theirs if isinstance(r, RefreshBegan)] == [None, None]
