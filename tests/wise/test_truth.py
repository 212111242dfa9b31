"""What the emulator tells afterwards, and that it tells it right under load."""

from __future__ import annotations

import hashlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.wise.control import SeededUser
from local.wise.running import RunningWise
from local.wise.truth import Death, Kind, RequestTruth, Truth, Verdict, find_overlaps
from tests.wise.client import WiseClient


def live(truth: Truth, user: str) -> list[int]:
    return [token.ordinal for token in truth.live_access_tokens(user)]


def test_tokens_are_told_by_user_ordinal_and_hash(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    fields = client.refresh(alice.refresh_token).json
    truth = wise.control.truth()
    first, second = (token for token in truth.tokens if token.kind is Kind.ACCESS)
    assert first.sha256 == hashlib.sha256(alice.access_token.encode()).hexdigest()
    assert second.sha256 == hashlib.sha256(fields["access_token"].encode()).hexdigest()
    assert (first.user, first.ordinal, first.lives, first.killed_by) == ("alice", 1, False, Death.REFRESH)
    assert (second.user, second.ordinal, second.lives, second.killed_by) == ("alice", 2, True, None)
    assert first.minted_by_request is None
    assert first.killed_by_request == second.minted_by_request == truth.requests[0].id
    assert first.issued_at_ms == round(alice.issued_at.timestamp() * 1_000)
    assert first.expires_at_ms == round(alice.expires_at.timestamp() * 1_000)
    assert live(truth, "alice") == [2]


def test_tokens_are_shown_only_where_asked_for(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    client.refresh(alice.refresh_token)
    client.me(alice.access_token)
    assert {token.value for token in wise.control.truth().tokens} == {None}
    assert {token.value for token in wise.control.tokens()} == {None}
    shown = {token.value for token in wise.control.tokens("alice", values=True)}
    assert {alice.access_token, alice.refresh_token} < shown
    assert shown == {token.value for token in wise.control.truth(values=True).tokens}
    told = str(wise.control.truth())
    assert not any(str(value) in told for value in shown)


def test_request_is_told_from_begin_to_end(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    before_ms = time.time_ns() // 1_000_000
    headers = {"X-External-Correlation-Id": "fixture-attempt"}
    reply = client.refresh(alice.refresh_token, path="/2026Q4/oauth/token", headers=headers)
    wise.control.wait_until_idle("alice")
    after_ms = time.time_ns() // 1_000_000
    [told] = wise.control.requests()
    assert told.path == "/2026Q4/oauth/token"
    assert (told.user, told.grant_type, told.presented_ordinal) == ("alice", "refresh_token", 1)
    assert told.correlation_id == "fixture-attempt"
    assert told.trace_id == reply.headers["x-trace-id"]
    assert (told.carried_out, told.outcome, told.access_ordinal, told.refresh_ordinal) == (True, "refreshed", 2, 1)
    assert (told.status, told.delivered, told.client_gone_ms, told.fault) == (200, True, None, None)
    assert told.settled_seq is not None
    assert told.end_seq is not None
    assert told.settled_ms is not None
    assert told.end_ms is not None
    assert told.begin_seq < told.settled_seq < told.end_seq
    assert before_ms <= told.begin_ms <= told.settled_ms <= told.end_ms <= after_ms


def test_requests_tell_which_connection_they_came_over(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    with client.kept_alive():
        client.refresh(alice.refresh_token)
        client.refresh(alice.refresh_token)
        assert client._kept is not None
        own = client._kept.sock.getsockname()[1]
    client.refresh(alice.refresh_token)
    first, second, third = (told.client_port for told in wise.control.requests())
    assert (first, second) == (own, own)
    assert third not in (None, own)


def test_refused_requests_are_told_too(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    client.refresh(alice.refresh_token, client=None)
    client.refresh(alice.refresh_token, client=("a", "b"))
    client.refresh("fixture-unknown-refresh-token")
    client.form({})
    client.form({"grant_type": "fixture-grant-type"})
    wise.control.change_settings(registration_code_allowed=False)
    client.form({"grant_type": "registration_code"})
    wise.control.wait_until_idle()
    told = [(r.user, r.grant_type, r.outcome, r.status, r.carried_out) for r in wise.control.requests()]
    assert told == [
        ("alice", "refresh_token", "unauthorized", 401, False),
        ("alice", "refresh_token", "invalid_client", 401, False),
        (None, "refresh_token", "invalid_grant", 400, False),
        (None, None, "invalid_request", 400, False),
        (None, "other", "unsupported_grant_type", 400, False),
        (None, "registration_code", "invalid_client", 401, False),
    ]


def test_replaced_refresh_token_is_told_by_its_ordinal(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.change_settings(refresh_token_policy="rotated")
    client.refresh(alice.refresh_token)
    client.refresh(alice.refresh_token)
    first, second = wise.control.requests()
    assert (first.presented_ordinal, first.refresh_ordinal, first.outcome) == (1, 2, "refreshed")
    assert (second.presented_ordinal, second.refresh_ordinal, second.outcome) == (1, None, "invalid_grant")


def test_every_use_of_an_access_token_is_told_with_its_verdict(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    client.me(alice.access_token, headers={"X-External-Correlation-Id": "fixture-use"})
    client.refresh(alice.refresh_token)
    reply = client.me(alice.access_token, path="/2026Q4/me")
    client.me("fixture-token-of-nobody")
    client.me(None)
    truth = wise.control.truth()
    assert [(use.verdict, use.user, use.ordinal, use.newest_ordinal, use.status) for use in truth.uses] == [
        (Verdict.LIVES, "alice", 1, 1, 200),
        (Verdict.DEAD, "alice", 1, 2, 401),
        (Verdict.UNKNOWN, None, None, None, 401),
        (Verdict.MISSING, None, None, None, 401),
    ]
    assert truth.uses[0].correlation_id == "fixture-use"
    [dead] = truth.uses_of_dead_tokens()
    [killed] = [token for token in truth.tokens if token.killed_by is not None]
    assert (dead.path, dead.trace_id) == ("/2026Q4/me", reply.headers["x-trace-id"])
    assert (dead.killed_by, dead.died_seq, dead.died_ms) == (Death.REFRESH, killed.died_seq, killed.died_ms)
    assert dead.sha256 == killed.sha256
    assert dead.died_seq is not None
    assert dead.died_seq < dead.seq


def test_use_under_a_fault_is_told_with_the_verdict_all_the_same(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    fault = wise.control.throttle(1)
    client.me(alice.access_token)
    [use] = wise.control.uses()
    assert (use.verdict, use.status, use.fault) == (Verdict.LIVES, 429, fault)


def test_truth_is_given_in_parts_since_a_number(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    bob = wise.control.seed_user("bob")
    client.refresh(alice.refresh_token)
    client.me(alice.access_token)
    wise.control.wait_until_idle()
    seen = wise.control.truth().seq
    assert wise.control.requests(since=seen) == []
    assert wise.control.uses(since=seen) == []
    client.refresh(bob.refresh_token)
    client.me(bob.access_token)
    assert [request.user for request in wise.control.requests(since=seen)] == ["bob"]
    assert [use.user for use in wise.control.uses(since=seen)] == ["bob"]
    assert [request.user for request in wise.control.requests(user="alice")] == ["alice"]
    assert [use.user for use in wise.control.uses(user="alice")] == ["alice"]


def test_expiry_is_told_with_the_instant_at_which_it_came(wise: RunningWise, client: WiseClient) -> None:
    wise.control.set_clock_offset(1_000)
    bob = wise.control.seed_user("bob", access_token_lifetime_s=10, age_s=15)
    client.me(bob.access_token)
    [use] = wise.control.uses()
    assert (use.verdict, use.killed_by) == (Verdict.DEAD, Death.EXPIRY)
    assert use.died_ms == round(bob.expires_at.timestamp() * 1_000) - 1_000_000
    assert 4_900 <= use.at_ms - use.died_ms <= 10_000


def test_parallel_refreshes_of_a_user_leave_one_access_token_alive(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.withhold(times=24)
    with ThreadPoolExecutor(24) as pool:
        replies = pool.map(lambda _: client.refresh(alice.refresh_token), range(24))
        wise.control.wait_until_withheld("alice", 24)
        assert wise.control.release() == 24
        tokens = [reply.json["access_token"] for reply in replies]
        statuses = list(pool.map(lambda token: client.me(token).status, tokens))
    assert sorted(statuses) == [200] + [401] * 23
    wise.control.wait_until_idle()
    truth = wise.control.truth()
    assert live(truth, "alice") == [25]
    access = [token for token in truth.tokens if token.kind is Kind.ACCESS]
    for older, newer in itertools.pairwise(access):
        assert older.killed_by_request == newer.minted_by_request
        assert older.died_seq == newer.minted_seq - 1, "one step, with nothing in between"
    assert sorted(request.access_ordinal or 0 for request in truth.requests) == list(range(2, 26))
    assert len(truth.overlaps) == 24 * 23 // 2
    hashes = {hashlib.sha256(token.encode()).hexdigest(): token for token in tokens}
    winner = hashes[truth.live_access_tokens("alice")[0].sha256]
    assert statuses[tokens.index(winner)] == 200


def test_parallel_refreshes_with_a_rotated_refresh_token_let_one_through(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.change_settings(refresh_token_policy="rotated")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: client.refresh(alice.refresh_token).status, range(8)))
    assert sorted(statuses) == [200] + [400] * 7
    assert live(wise.control.truth(), "alice") == [2]


def test_parallel_refreshes_of_different_users_do_not_overlap(wise: RunningWise, client: WiseClient) -> None:
    users = wise.control.seed_users(12)
    with ThreadPoolExecutor(12) as pool:
        assert {reply.status for reply in pool.map(lambda u: client.refresh(u.refresh_token), users)} == {200}
    wise.control.wait_until_idle()
    truth = wise.control.truth()
    assert truth.overlaps == []
    assert [live(truth, user.user) for user in users] == [[2]] * 12
    sequence = [r.begin_seq for r in truth.requests] + [r.end_seq for r in truth.requests]
    assert len(set(sequence)) == 24


def request(
    number: int,
    begin: int,
    settled: int | None,
    end: int | None,
    *,
    user: str | None = "alice",
    grant_type: str = "refresh_token",
) -> RequestTruth:
    return RequestTruth(
        id=number,
        path="/oauth/token",
        grant_type=grant_type,
        user=user,
        presented_ordinal=1,
        correlation_id=None,
        trace_id="",
        begin_seq=begin,
        begin_ms=begin * 10,
        settled_seq=settled,
        settled_ms=None if settled is None else settled * 10,
        end_seq=end,
        end_ms=None if end is None else end * 10,
    )


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (request(2, 6, 7, 8), []),
        (request(2, 2, 6, 7), [(1, 2, 20, 50, True)]),
        (request(2, 4, 6, 7), [(1, 2, 40, 50, False)]),
        (request(2, 4, None, None), [(1, 2, 40, 50, False)]),
        (request(2, 2, 6, 7, user="bob"), []),
        (request(2, 2, 6, 7, user=None), []),
        (request(2, 2, 6, 7, grant_type="client_credentials"), []),
    ],
)
def test_overlap_begins_with_the_second_request_and_ends_with_either(
    second: RequestTruth, found: list[tuple[int, int, int, int | None, bool]]
) -> None:
    overlaps = find_overlaps([second, request(1, 1, 3, 5)])
    assert [(o.first, o.second, o.from_ms, o.to_ms, o.both_unsettled) for o in overlaps] == found


def test_overlap_that_goes_on_has_no_end_yet() -> None:
    [overlap] = find_overlaps([request(1, 1, None, None), request(2, 2, None, None)])
    assert (overlap.to_ms, overlap.both_unsettled) == (None, True)


def test_request_overlaps_with_every_one_that_is_still_in_flight() -> None:
    found = find_overlaps([request(1, 1, 8, 9), request(2, 2, 3, 4), request(3, 5, 6, 7)])
    assert [(o.first, o.second) for o in found] == [(1, 2), (1, 3)]
