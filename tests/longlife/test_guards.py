"""Lives of a deployment that lacks one of its guards end badly, and the machine sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.longlife.machine import LongLife
from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.grant import Grant
from token_rotator.domain.lease import Budgets
from token_rotator.service.keep_answer import KeepAnswer
from token_rotator.service.refresh_grant import Result, Word, _Attempt


def _reckon_with_no_skew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budgets, "margin", timedelta(0))


def _keep_the_old_refresh_token(patch: pytest.MonkeyPatch) -> None:
    plain = KeepAnswer._with_tokens

    def careless(self: KeepAnswer, answer: SealedAnswer, stored: Grant) -> Grant:
        return replace(plain(self, answer, stored), refresh_token=stored.refresh_token)

    patch.setattr(KeepAnswer, "_with_tokens", careless)


def _forget_what_was_sent(patch: pytest.MonkeyPatch) -> None:
    def careless(self: _Attempt, grant: Grant, code: str) -> Result:
        self.doubt = None
        self._give_back(grant, code)
        return Result(Word.FAILED, grant.version, code=code)

    patch.setattr(_Attempt, "_leave", careless)


def _park_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_park", lambda *_: True)


def _judge_by_any_refusal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Attempt, "_refused", lambda self, grant, outcome: self._judge(grant, outcome, "invalid_grant"))


@pytest.mark.parametrize(
    ("remove", "promise"),
    [
        (_reckon_with_no_skew, "before its stable_until"),
        (_keep_the_old_refresh_token, "judge a grant"),
        (_forget_what_was_sent, "what may be dead|two refreshes"),
        (_park_nothing, "never lose an answer"),
        (_judge_by_any_refusal, "judge a grant"),
    ],
    ids=["clocks differ", "the newest refresh token", "doubt", "parking", "whose fault it is"],
)
def test_a_deployment_without_a_guard_is_found_out(
    remove: Callable[[pytest.MonkeyPatch], None], promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch)
    quick: dict[str, Any] = {"phases": [Phase.generate], "report_multiple_bugs": False}
    with pytest.raises(AssertionError, match=promise):
        run_state_machine_as_test(
            LongLife,
            settings=settings(
                max_examples=200,
                stateful_step_count=30,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                **quick,
            ),
        )
