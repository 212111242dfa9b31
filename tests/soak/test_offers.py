"""Tokens are brought until they are taken, and each offer is on record as what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from local.aws.signed import Answer
from local.demo.partner import hash_of
from local.soak.ledger import Ledger
from local.soak.offers import Offer, adopt

OFFER = Offer(
    tenant="acme", grant_id="acme-1", policy="same", body={"hold": True}, access="fixture-access", refresh="fixture-r"
)


def answer(status: int, version: int = 0) -> Answer:
    return Answer(status, {"retry-after": "0"}, json.dumps({"version": version}).encode())


class Partner:
    """Answers to PUT from a script; GET shows a version that counts up."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.offered: list[dict[str, str]] = []
        self.version = 6
        self.silent_at: set[int] = set()

    def call(self, method: str, grant_id: str, **more: Any) -> Answer:
        assert grant_id == "acme-1"
        if method == "GET":
            self.version += 1
            return answer(503) if self.version in self.silent_at else answer(200, self.version)
        assert more["json_body"] == {"hold": True}
        self.offered.append(more["headers"])
        answered = self.answers.pop(0)
        if isinstance(answered, Exception):
            raise answered
        return answered


def brought(partner: Partner, ledger: Ledger, **more: bool) -> int:
    return adopt(partner, OFFER, ledger, **more)  # type: ignore[arg-type]


def test_new_grant_is_on_record_with_its_tokens_by_hash() -> None:
    partner, ledger = Partner(answer(503), OSError(), answer(201, 5)), Ledger()
    assert brought(partner, ledger) == 5
    [adoption] = ledger.adoptions
    assert (adoption.access, adoption.refresh) == (hash_of("fixture-access"), hash_of("fixture-r"))
    assert (adoption.version, adoption.replaced, adoption.certain) == (5, False, True)
    assert partner.offered == [{}, {}, {}]


def test_grant_that_an_unanswered_offer_made_is_taken_as_made() -> None:
    partner, ledger = Partner(OSError(), answer(412)), Ledger()
    assert brought(partner, ledger) == 7
    assert [(one.version, one.certain) for one in ledger.adoptions] == [(7, True)]


def test_newer_tokens_name_the_version_that_is_there_now() -> None:
    partner, ledger = Partner(answer(412), answer(503), answer(200, 12)), Ledger()
    assert brought(partner, ledger, replaces=True) == 12
    assert partner.offered == [{"If-Match": "7"}, {"If-Match": "8"}, {"If-Match": "9"}]
    assert [(one.version, one.replaced) for one in ledger.adoptions] == [(12, True)]


def test_version_that_nobody_tells_is_asked_for_again() -> None:
    partner, ledger = Partner(answer(200, 12)), Ledger()
    partner.silent_at = {7}
    assert brought(partner, ledger, replaces=True) == 12
    assert partner.offered == [{"If-Match": "8"}]


@pytest.mark.parametrize("answers", [lambda: [answer(400)], lambda: [answer(412)], lambda: [OSError()] * 20])
def test_offer_that_is_not_taken_may_have_taken_effect(answers: Callable[[], list[Answer | Exception]]) -> None:
    ledger = Ledger()
    with pytest.raises(RuntimeError, match="PUT acme-1 was answered"):
        brought(Partner(*answers()), ledger)
    assert [one.certain for one in ledger.adoptions] == [False]
