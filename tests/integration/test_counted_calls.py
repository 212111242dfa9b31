"""What a refresh and a served token cost, counted where the calls leave the process and where they arrive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from local.wise.running import RunningWise
from local.wise.truth import Verdict
from tests.integration.place import A_WHILE_AGO_S, Parts, Place, wired
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.outcome import ClientCheck, Liveness, Outcome, Said
from token_rotator.domain.suspension import Suspension
from token_rotator.domain.tokens import Secret
from token_rotator.service.ports import Due, Rejected, Wise
from token_rotator.service.refresh_grant import RefreshGrant, Word
from token_rotator.service.serve_token import NotServed, Served, Why

pytestmark = pytest.mark.emulator


@dataclass
class Wire:
    """The calls that left, in their order: `service.Operation`, and `wise.refresh` and `wise.ask`.

    What a process asks once in five seconds, what is suspended, is counted apart.
    """

    parts: Parts
    asked_what_is_suspended: int = 0
    _asking: bool = False
    calls: list[str] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)

    def watch(self, client: Any) -> None:
        client.meta.events.register("before-call", self._on_call)
        client.meta.events.register("provide-client-params", self._on_parameters)

    def _on_call(self, model: Any, **_: object) -> None:
        if not self._asking:
            self.calls.append(f"{model.service_model.service_name}.{model.name}")

    def _on_parameters(self, params: dict[str, Any], **_: object) -> None:
        self._asking = params.get("Key") == {"pk": {"S": "#suspended"}}
        self.asked_what_is_suspended += self._asking
        if not self._asking:
            self.parameters.append(params)

    def forget(self) -> None:
        self.calls.clear()
        self.parameters.clear()

    @property
    def refresh_grant(self) -> RefreshGrant:
        refreshing = self.parts.refreshing
        return replace(refreshing.refresh_grant, wise=WatchedWise(refreshing.wise, self.calls))


@dataclass
class WatchedWise:
    """`Wise` that notes when a request leaves."""

    wise: Wise
    calls: list[str]

    def check_credentials(self) -> None:
        self.wise.check_credentials()

    def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
        self.calls.append("wise.refresh")
        return self.wise.refresh(refresh_token, attempt_id=attempt_id, within=within)

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        self.calls.append("wise.settle_client")
        return self.wise.settle_client(attempt_id=attempt_id, within=within)

    def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
        self.calls.append("wise.ask")
        return self.wise.ask(access_token, attempt_id=attempt_id, within=within)


@pytest.fixture
def wire(place: Place) -> Iterator[Wire]:
    with wired(place) as (parts, clients):
        made = Wire(parts)
        for client in clients:
            made.watch(client)
        parts.refreshing.wise.check_credentials()  # the secret is read once in five minutes, not once a refresh
        yield made


def adopted(wire: Wire, wise: RunningWise, name: str = "anna", age_s: float = A_WHILE_AGO_S) -> GrantKey:
    return wire.parts.adopt(wise.control.seed_user(name, age_s=age_s))


COLD = ["dynamodb.UpdateItem", "kms.Decrypt", "kms.GenerateDataKey", "wise.refresh", "dynamodb.UpdateItem"]
WARM = [call for call in COLD if call != "kms.GenerateDataKey"]


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_an_undisturbed_refresh_costs_what_was_promised(wire: Wire, wise: RunningWise, policy: str) -> None:
    wise.control.change_settings(refresh_token_policy=policy)
    anna, ben = (adopted(wire, wise, name) for name in ("anna", "ben"))

    for key, promised in ((anna, COLD), (ben, WARM)):
        wire.forget()
        assert wire.refresh_grant(key, Due(), alone=False).word is Word.REFRESHED
        assert wire.calls == promised
        counts = Counter(wire.calls)
        assert counts["dynamodb.UpdateItem"] == 2
        assert counts["kms.Decrypt"] == 1
        assert counts["kms.GenerateDataKey"] <= 1
        assert not any(("Get" in call and "dynamodb" in call) or "Query" in call for call in wire.calls)
        sent = wire.calls.index("wise.refresh")
        assert not [call for call in wire.calls[sent:] if call.startswith("kms")]
        (request,) = wise.control.requests(user=key.grant_id)
        assert request.carried_out
        assert request.delivered
        assert wise.control.uses(user=key.grant_id) == []


def test_a_refresh_on_demand_costs_one_write_more_that_takes_its_call_from_the_lane(
    wire: Wire, wise: RunningWise
) -> None:
    anna, ben = (adopted(wire, wise, name) for name in ("anna", "ben"))
    lane = wire.parts.refreshing.demand
    wire.refresh_grant(anna, Due(), alone=True, lane=lane)  # the item of the whole deployment is made once
    wire.forget()
    assert wire.refresh_grant(ben, Due(), alone=True, lane=lane).word is Word.REFRESHED
    assert Counter(wire.calls)["dynamodb.UpdateItem"] == 3
    assert not any("Get" in call and "dynamodb" in call for call in wire.calls)


def test_what_is_not_due_costs_one_write(wire: Wire, wise: RunningWise) -> None:
    key = adopted(wire, wise, age_s=0)
    wire.forget()
    assert wire.refresh_grant(key, Due(), alone=False).word is Word.FRESH
    assert wire.calls == ["dynamodb.UpdateItem"]
    assert wise.control.requests() == []


def test_a_warm_serve_costs_one_consistent_read(wire: Wire, wise: RunningWise) -> None:
    key = adopted(wire, wise, age_s=0)
    serve = wire.parts.serve()
    wire.forget()
    cold = serve(key)
    assert wire.calls == ["dynamodb.GetItem", "kms.Decrypt"]
    wire.forget()
    warm = serve(key)
    assert wire.calls == ["dynamodb.GetItem"]
    assert [parameters["ConsistentRead"] for parameters in wire.parameters] == [True]
    assert isinstance(cold, Served)
    assert isinstance(warm, Served)
    assert warm.access_token == cold.access_token
    assert wise.control.requests() == []


def test_knowing_what_is_suspended_costs_one_read_in_five_seconds_and_none_per_request(
    wire: Wire, wise: RunningWise
) -> None:
    key = adopted(wire, wise, age_s=0)
    serve = wire.parts.serve()
    wire.forget()
    began = time.monotonic()
    before = wire.asked_what_is_suspended
    served = 0
    while time.monotonic() - began < 6:
        assert isinstance(serve(key), Served)
        served += 1
    assert wire.asked_what_is_suspended - before <= 1 + (time.monotonic() - began) // 5
    assert wire.calls.count("dynamodb.GetItem") == served > 20


def test_an_order_reaches_a_process_that_is_at_work_within_five_seconds(wire: Wire, wise: RunningWise) -> None:
    key = adopted(wire, wise, age_s=0)
    serve = wire.parts.serve()
    assert isinstance(serve(key), Served)
    administering = wire.parts.administering
    order = Suspension(administering.suspend_grant.clock(), "operations", "a drill")
    administering.suspensions.suspend(key.tenant, order)
    given = time.monotonic()
    while isinstance(serve(key), Served):
        pass
    assert time.monotonic() - given < 5.5
    assert serve(key) == NotServed(Why.SUSPENDED)
    assert wire.refresh_grant(key, Rejected(0), alone=True).word in (Word.SUSPENDED, Word.FRESH)
    administering.suspensions.lift(key.tenant)
    time.sleep(5.1)
    assert isinstance(serve(key), Served)


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_tokens_of_8000_characters_go_round_whole(wire: Wire, wise: RunningWise, policy: str) -> None:
    wise.control.change_settings(token_format="long", refresh_token_policy=policy)
    user = wise.control.seed_user("anna", age_s=A_WHILE_AGO_S)
    assert len(user.access_token) == len(user.refresh_token) == 8000
    key = wire.parts.adopt(user)

    for generation in (1, 2):
        result = wire.refresh_grant(key, Due(), alone=False)
        assert result.word is Word.REFRESHED
        served = wire.parts.serve()(key)
        assert isinstance(served, Served)
        token = served.access_token
        assert len(token.reveal()) == 8000
        assert (
            wire.parts.refreshing.wise.ask(token, attempt_id="use", within=timedelta(seconds=5)).liveness
            is Liveness.LIVES
        )
        (newest,) = (t for t in wise.control.tokens("anna", values=True) if t.kind == "access" and t.lives)
        assert newest.value == token.reveal()
        store = wire.refresh_grant.grants
        grant = store.get(key)
        assert grant is not None
        assert grant.version == served.version
        if generation == 1:
            wire.parts.make_due(key)
    assert [use.verdict for use in wise.control.uses(user="anna")] == [Verdict.LIVES] * 2
    assert [request.outcome for request in wise.control.requests(user="anna")] == ["refreshed"] * 2
