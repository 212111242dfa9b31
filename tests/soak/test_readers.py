"""Readers: every token is used at once and again before its promise ends, and every refusal is followed up."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.aws.signed import Answer
from local.demo.partner import hash_of
from local.soak.ledger import APPLICATION, Ledger
from local.soak.readers import Reader, Tenant

TOKEN = "fixture-access-token"


def served(stable_for_s: float = 60, token: str = TOKEN) -> Answer:
    stable_until = (datetime.now(UTC) + timedelta(seconds=stable_for_s)).isoformat()
    body = {"access_token": token, "version": 7, "stable_until": stable_until, "degraded": False}
    return Answer(200, {}, json.dumps(body).encode())


def refused(status: int, retry_after: str | None = None, problem: str = "reauthorization-required") -> Answer:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Answer(status, headers, json.dumps({"type": f"urn:token-rotator:problem:{problem}"}).encode())


class Partner:
    """Answers from a script; the last one for ever."""

    def __init__(self, *answers: Callable[[], Answer] | Exception) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []
        self.reported: list[dict[str, Any]] = []

    def call(self, method: str, grant_id: str, rest: str = "", **more: Any) -> Answer:
        assert grant_id == "acme-1"
        return self._answer(method, rest, more)

    def at(self, method: str, path: str, **more: Any) -> Answer:
        assert path.startswith("/v1/application/")
        return self._answer(method, path.removeprefix("/v1/application"), more)

    def _answer(self, method: str, rest: str, more: dict[str, Any]) -> Answer:
        if method == "POST":
            assert rest == "/access-token/rejections"
            self.reported.append(more["json_body"])
        else:
            assert (method, rest, more) == ("GET", "/access-token", {})
        self.asked_at.append(time.monotonic())
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer()


class Wise:
    def __init__(self, *, breaks: bool = False, dead: tuple[str, ...] = ()) -> None:
        self.used: list[tuple[float, str]] = []
        self.breaks = breaks
        self.dead = dead

    def me(self, access_token: str) -> int:
        self.used.append((time.monotonic(), access_token))
        if self.breaks:
            raise ConnectionResetError
        return 401 if access_token in self.dead else 200


def run(
    partner: Partner,
    wise: Wise,
    until: Callable[[Ledger], bool],
    *,
    grant_id: str = "acme-1",
    come_back: bool = False,
) -> Ledger:
    ledger = Ledger()
    reader = Reader(
        "reader",
        Tenant(partner, [grant_id], come_back=come_back),  # type: ignore[arg-type]
        wise,  # type: ignore[arg-type]
        ledger,
        random=random.Random(1),  # noqa: S311
        every_s=0.05,
    )
    reader.start(1)
    assert ledger.asks, "it waits for the first answer"
    deadline = time.monotonic() + 10
    while not until(ledger):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    reader.quiet()
    reader.stop(5)
    return ledger


def test_token_is_used_at_once_and_again_just_before_it_may_be_replaced() -> None:
    partner, wise = Partner(lambda: served(1.5)), Wise()
    ledger = run(partner, wise, lambda ledger: len(ledger.uses) > len(ledger.asks) > 20)
    assert {token for _, token in wise.used} == {TOKEN}
    assert {ask.sha256 for ask in ledger.asks} == {hash_of(TOKEN)}
    assert {wait.ended for wait in ledger.waits} == {"token"}
    assert ledger.uses[0] == ("acme-1", 200)


def test_reader_asks_again_after_retry_after_and_its_wait_counts_from_the_first_question() -> None:
    partner = Partner(lambda: refused(503, "0.3"), lambda: refused(429, "0.2"), OSError(), served)
    ledger = run(partner, Wise(), lambda ledger: bool(ledger.waits))
    first, second, third, fourth = partner.asked_at[:4]
    assert second - first >= 0.3
    assert third - second >= 0.2
    assert fourth - third >= 1
    assert [ask.status for ask in ledger.asks][:4] == [503, 429, 0, 200]
    [wait, *_] = ledger.waits
    assert wait.ended == "token"
    assert wait.ended_ms - wait.asked_ms >= 1_400


def test_grant_that_waits_for_its_user_is_asked_for_once() -> None:
    partner = Partner(lambda: refused(409))
    ledger = run(partner, Wise(), lambda ledger: bool(ledger.waits))
    assert [wait.ended for wait in ledger.waits] == ["reauthorization-required"]
    assert len(ledger.asks) == 1


def test_who_still_waits_at_the_end_is_on_record() -> None:
    partner = Partner(lambda: refused(503, "60"))
    ledger = run(partner, Wise(), lambda ledger: bool(ledger.asks))
    assert [wait.ended for wait in ledger.waits] == ["nothing"]


def test_use_that_gets_no_answer_is_a_use(recwarn: pytest.WarningsRecorder) -> None:
    ledger = run(Partner(served), Wise(breaks=True), lambda ledger: bool(ledger.uses))
    assert ledger.uses[0] == ("acme-1", 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "reader"]
    assert not recwarn.list


def test_token_that_wise_refuses_is_reported_once_and_the_answer_is_used() -> None:
    partner, wise = Partner(served, lambda: served(token="another")), Wise(dead=(TOKEN,))
    ledger = run(partner, wise, lambda ledger: len(ledger.uses) > 4)
    assert partner.reported == [{"version": 7, "error": "invalid_token"}]
    [rejection] = ledger.rejections
    assert (rejection.grant_id, rejection.version) == ("acme-1", 7)
    assert [token for _, token in wise.used][:2] == [TOKEN, "another"]
    assert rejection.at_ms == ledger.asks[1].asked_ms


def test_report_that_nobody_could_act_on_is_repeated_as_one() -> None:
    partner, wise = Partner(served, lambda: refused(503, "0.1"), lambda: served(token="another")), Wise(dead=(TOKEN,))
    run(partner, wise, lambda ledger: len(ledger.uses) > 2)
    assert partner.reported == [{"version": 7, "error": "invalid_token"}] * 2


def test_what_may_come_back_is_asked_for_again() -> None:
    partner = Partner(lambda: refused(409), lambda: refused(409, problem="on-hold"), served)
    ledger = run(partner, Wise(), lambda ledger: len(ledger.waits) > 2, come_back=True)
    assert [wait.ended for wait in ledger.waits][:3] == ["reauthorization-required", "on-hold", "token"]


def test_our_applications_token_has_an_address_of_its_own() -> None:
    ledger = run(Partner(served), Wise(), lambda ledger: bool(ledger.uses), grant_id=APPLICATION, come_back=True)
    assert ledger.asks[0].grant_id == APPLICATION
