"""Faults at random: what each kind does, how often, the same for the same seed, and told in the truth log."""

from __future__ import annotations

import contextlib
import http.client
from collections import Counter

import pytest

from local.wise.chaos import CHAOS, Chaos, ChaosKind, ChaosSettings
from local.wise.control import SeededUser, WiseControlError, wait_until
from local.wise.faults import Endpoint, Fault
from local.wise.running import RunningWise
from local.wise.settings import Json
from local.wise.truth import RequestTruth, UseTruth
from tests.wise.client import Reply, WiseClient

LOST = (ConnectionError, http.client.HTTPException, TimeoutError)


def only(kind: ChaosKind) -> dict[str, Json]:
    return {other.value: float(other is kind) for other in ChaosKind}


def struck_by(wise: RunningWise, client: WiseClient, user: SeededUser, kind: ChaosKind) -> tuple[Reply | None, bool]:
    """Refresh once while only ``kind`` strikes: the answer, if any, and whether it was carried out in the end."""
    wise.control.change_chaos(
        share=1, weights=only(kind), client_deadline_s=0.3, late_within_s=0.6, retry_after_s=2, seed=5
    )
    reply = None
    with contextlib.suppress(*LOST):
        reply = client.refresh(user.refresh_token, timeout_s=0.3)
    wait_until(lambda: wise.control.requests() != [], 5, "a request")
    wise.control.wait_until_idle()
    [told] = wise.control.requests()
    assert told.fault == CHAOS + kind
    return reply, told.carried_out


@pytest.mark.parametrize(
    ("kind", "statuses", "carried_out"),
    [
        (ChaosKind.ERROR_BEFORE, {500, 503}, False),
        (ChaosKind.ERROR_AFTER, {500, 503}, True),
        (ChaosKind.SLOW, set(), True),
        (ChaosKind.DROP_BEFORE, set(), False),
        (ChaosKind.DROP_AFTER, set(), True),
        (ChaosKind.LATE, set(), True),
        (ChaosKind.THROTTLED, {429}, False),
        (ChaosKind.THROTTLED_BARE, {429}, False),
        (ChaosKind.PROXY_BEFORE, {502, 504}, False),
        (ChaosKind.PROXY_AFTER, {502, 504}, True),
    ],
)
def test_each_kind_strikes_as_it_says(  # noqa: PLR0917  (the columns of the table)
    wise: RunningWise,
    client: WiseClient,
    alice: SeededUser,
    kind: ChaosKind,
    statuses: set[int],
    carried_out: bool,  # noqa: FBT001
) -> None:
    reply, done = struck_by(wise, client, alice, kind)
    assert (None if reply is None else reply.status) in (statuses or {None})
    assert done == carried_out
    assert client.me(alice.access_token).status == (401 if carried_out else 200)
    if reply is None:
        return
    from_proxy = kind in (ChaosKind.PROXY_BEFORE, ChaosKind.PROXY_AFTER)
    assert ("x-trace-id" in reply.headers) is not from_proxy
    assert reply.headers["content-type"].startswith("text/html" if from_proxy else "application/json")
    throttled = kind is ChaosKind.THROTTLED
    assert ("retry-after" in reply.headers) is throttled
    assert not throttled or reply.headers["retry-after"] in ("1", "2")


def test_late_request_is_carried_out_when_the_client_has_gone(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    struck_by(wise, client, alice, ChaosKind.LATE)
    [told] = wise.control.requests()
    assert told.settled_ms is not None
    assert told.settled_ms - told.begin_ms <= 600 + 250, "late_within_s, and what a busy machine adds"
    assert told.delivered is False


def draws(settings: ChaosSettings, users: list[str], turns: int) -> dict[str, list[Fault | None]]:
    chaos = Chaos(settings)
    drawn: dict[str, list[Fault | None]] = {user: [] for user in users}
    for _ in range(turns):
        for user in users:
            drawn[user].append(chaos.draw(Endpoint.TOKEN, user))
    return drawn


def test_same_seed_strikes_the_same_requests_whatever_other_users_do() -> None:
    settings = ChaosSettings(share=0.3, seed=11, latency_s=0.2)
    alone = draws(settings, ["alice"], 40)["alice"]
    crowded = draws(settings, ["bob", "alice", "carol"], 40)["alice"]
    assert alone == crowded
    assert alone != draws(ChaosSettings(share=0.3, seed=12, latency_s=0.2), ["alice"], 40)["alice"]


def test_share_and_weights_hold_over_many_requests() -> None:
    settings = ChaosSettings(share=0.1, seed=3, weights={"late": 0, "slow": 3})
    drawn = draws(settings, [f"user-{n}" for n in range(200)], 100)
    kinds = Counter(fault.id for faults in drawn.values() for fault in faults if fault is not None and fault.id)
    assert sum(kinds.values()) == pytest.approx(2_000, rel=0.1)
    assert set(kinds) == {CHAOS + kind for kind in ChaosKind if kind is not ChaosKind.LATE}
    assert kinds["chaos:slow"] == pytest.approx(2_000 * 3 / 11, rel=0.15)


def test_nothing_strikes_unless_told(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    assert Chaos().draw(Endpoint.TOKEN, "alice") is None
    for _ in range(30):
        assert client.refresh(alice.refresh_token).status == 200
    assert {told.fault for told in wise.control.requests()} == {None}


def test_latency_is_no_fault(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.change_chaos(latency_s=0.2, seed=1)
    for _ in range(5):
        assert client.refresh(alice.refresh_token).status == 200
    wise.control.wait_until_idle()
    told = wise.control.requests()
    assert {request.fault for request in told} == {None}
    assert any(request.settled_ms and request.settled_ms > request.begin_ms + 5 for request in told)


def test_uses_are_struck_by_themselves_and_still_judged(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.change_chaos(me_share=1, seed=2, client_deadline_s=0.1, late_within_s=0.2)
    for _ in range(40):
        with contextlib.suppress(*LOST):
            client.me(alice.access_token)
    assert client.refresh(alice.refresh_token).status == 200, "the token endpoint is left alone"

    def ended() -> list[UseTruth]:
        return [use for use in wise.control.uses() if use.delivered is not None]

    wait_until(lambda: len(ended()) == 40, 5, "all uses")
    uses = wise.control.uses()
    assert {use.verdict for use in uses} == {"lives"}
    assert {use.fault for use in uses} == {
        CHAOS + kind for kind in ("error_before", "slow", "drop_before", "throttled", "throttled_bare", "proxy_before")
    }


def test_application_tokens_are_struck_too(wise: RunningWise, client: WiseClient) -> None:
    wise.control.change_chaos(share=1, weights=only(ChaosKind.ERROR_BEFORE))
    assert client.form({"grant_type": "client_credentials"}).status in (500, 503)


def test_a_fault_that_was_asked_for_comes_before_chance(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.change_chaos(share=1, weights=only(ChaosKind.THROTTLED))
    fault = wise.control.fail_next(status=418)
    assert client.refresh(alice.refresh_token).status == 418
    wise.control.change_chaos(share=0)
    assert client.refresh(alice.refresh_token).status == 200
    wise.control.wait_until_idle()
    told: list[RequestTruth] = wise.control.requests()
    assert [request.fault for request in told] == [fault, None]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"share": 1.1}, "share"),
        ({"me_share": -0.1}, "me_share"),
        ({"seed": "x"}, "seed"),
        ({"weights": {"no_such_kind": 1}}, "weights"),
        ({"weights": {"late": -1}}, "weights"),
        ({"weights": [1]}, "weights"),
        ({"latency_s": -1}, "latency_s"),
        ({"client_deadline_s": 0}, "client_deadline_s"),
        ({"late_within_s": 5}, "late_within_s"),
        ({"retry_after_s": 0}, "retry_after_s"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wise: RunningWise, changes: dict[str, Json], field: str) -> None:
    before = wise.control.chaos()
    with pytest.raises(WiseControlError, match=f"400: {field}:"):
        wise.control.change_chaos(**changes)
    assert wise.control.chaos() == before
