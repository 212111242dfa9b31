"""The four functions over moto and the Wise emulator: what they do is recorded from outside, and judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from local.proof.checker import Rule, check, losses
from local.proof.history import (
    Announced,
    Asked,
    NotServed,
    Parked,
    Record,
    RefreshAnswered,
    RefreshBegan,
    Reported,
    Served,
    Stored,
    Told,
)
from tests.handlers.deployment import Deployment, to_ms
from tests.proof.witness import Witness

R = TypeVar("R", bound=Record)


@pytest.fixture
def witness(deployment: Deployment, grant_id: str) -> Iterator[Witness]:
    witness = Witness(deployment, grant_id)
    yield witness
    witness.leave()


def of(witness: Witness, kind: type[R]) -> list[R]:
    return [record for record in witness.history() if isinstance(record, kind)]


def test_a_whole_life_breaks_no_promise(witness: Witness) -> None:
    witness.adopt()
    assert witness.read().status == 200
    witness.wait_until_due()
    witness.sweep()
    served = witness.read()
    assert served.status == 200
    witness.deployment.clock.advance(minutes=5)
    assert witness.report(served.body["version"]).body["confirmed"] is True
    witness.deployment.wise.control.revoke(witness.grant_id)
    assert witness.report(served.body["version"]).problem in ("reauthorization-required", "temporarily-unavailable")
    assert check(witness.history()) == []
    assert len(of(witness, RefreshBegan)) == 2
    assert [record.lives for record in of(witness, Asked)] == [True, False]
    assert len(of(witness, Reported)) == 2
    assert [record.kind for record in of(witness, Announced)] == ["reauthorization_required"]
    phases = [record.phase for record in of(witness, Stored)]
    assert phases[-1] == "reauthorization_required"
    assert len({record.access for record in of(witness, Stored)}) == 2
    assert len(of(witness, Served)) == 3


@pytest.mark.parametrize("policy", ["same", "rotated"])
def test_a_lost_answer_is_seen_to_be_lost_and_breaks_no_promise(witness: Witness, policy: str) -> None:
    control = witness.deployment.wise.control
    control.change_settings(refresh_token_policy=policy)
    try:
        witness.adopt()
        witness.wait_until_due()
        witness.sweep()  # until then only the import says that the access token lives
        witness.wait_until_due()
        control.drop_after_carrying_out(user=witness.grant_id)
        witness.sweep()
        witness.read()
        assert check(witness.history()) == []
        told = [record.told for record in of(witness, RefreshAnswered)]
        assert told == [Told.TOKENS, Told.NOTHING, Told.TOKENS if policy == "same" else Told.INVALID]
        assert [loss.why for loss in losses(witness.history())] == ["no answer"]
        reasons = {record.reason for record in of(witness, Announced)}
        assert reasons == (set() if policy == "same" else {"outcome_unknown"})
    finally:
        control.change_settings(refresh_token_policy="same")


def test_an_answer_that_the_table_does_not_take_is_parked_and_stored(witness: Witness) -> None:
    witness.adopt()
    witness.wait_until_due()
    with witness.table_down():
        witness.sweep()
    assert len(of(witness, Parked)) == 1
    assert witness.history(healed=False).records
    assert check(witness.history(healed=False)) == []
    witness.deployment.clock.advance(seconds=30)
    witness.sweep()
    assert witness.read().status == 200
    assert check(witness.history()) == []


def test_an_answer_dies_with_its_process_and_the_next_one_heals_it(witness: Witness) -> None:
    witness.adopt()
    witness.wait_until_due()
    witness.kill_refresh_before_its_commit()
    assert witness.read().status == 503
    witness.deployment.clock.advance(seconds=23)
    assert witness.read().status == 200
    assert check(witness.history()) == []
    assert [loss.why for loss in losses(witness.history())] == ["process died"]
    assert len(of(witness, NotServed)) == 1


def test_a_deleted_grant_is_gone(witness: Witness) -> None:
    witness.adopt()
    witness.delete()
    assert witness.read().status == 404
    assert check(witness.history()) == []
    assert of(witness, Stored)[-1].phase == "gone"


def test_a_row_that_is_brought_back_from_before_is_found_out(witness: Witness) -> None:
    witness.adopt()
    before = dict(witness.deployment.item(witness.grant_id))
    witness.wait_until_due()
    witness.sweep()
    before["refresh_at"] = {"N": str(to_ms(witness.deployment.clock()) + 3_600_000)}
    witness.deployment.dynamodb.put_item(TableName=witness.deployment.table, Item=before)
    assert witness.read().status == 200
    assert Rule.NOT_DEAD in {violation.rule for violation in check(witness.history())}


def test_an_answer_that_nobody_keeps_is_found_out(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    witness.adopt()
    witness.wait_until_due()
    attempt = witness.deployment.sweep.modules["token_rotator.service.refresh_grant"]._Attempt
    monkeypatch.setattr(attempt, "_commit", lambda self, grant, *_: self._give_back(grant, "dropped"))
    witness.sweep()
    assert Rule.KEPT in {violation.rule for violation in check(witness.history())}
