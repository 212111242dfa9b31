"""The emulator's log of application tokens and personal tokens becomes a history that tells the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from local.proof.checker import Rule, check
from local.proof.from_truth import at, history_of
from local.proof.history import (
    NEVER,
    Adopted,
    Asked,
    Died,
    History,
    Kind,
    Minted,
    Questioned,
    Record,
    RefreshAnswered,
    RefreshBegan,
    RefreshSettled,
    Served,
    Stored,
    Told,
    name_of,
)
from local.wise.running import RunningWise, running_wise
from local.wise.truth import RequestTruth
from tests.wise.client import WiseClient

OURS = "#application"


@pytest.fixture
def running() -> Iterator[RunningWise]:
    with running_wise() as wise:
        yield wise


@pytest.fixture
def client(running: RunningWise) -> WiseClient:
    return WiseClient(running)


def ask_for_token(running: RunningWise, client: WiseClient, attempt: str | None) -> str:
    headers = {} if attempt is None else {"X-External-Correlation-Id": attempt}
    answer = client.form({"grant_type": "client_credentials"}, headers=headers)
    running.control.wait_until_idle()
    return str(answer.json["access_token"]) if answer.status == 200 else ""


def is_probe(request: RequestTruth) -> bool:
    return request.correlation_id == "probe"


def history(
    running: RunningWise,
    ledger: list[Record] | None = None,
    *,
    application: str | None = OURS,
    personal: dict[str, str] | None = None,
    users: dict[str, str] | None = None,
    is_question: Callable[[RequestTruth], bool] = is_probe,
) -> History:
    return history_of(
        running.control.truth(),
        ledger or [],
        users or {},
        healed=False,
        every_write=True,
        application=application,
        is_question=is_question,
        personal=personal,
    )


def served(grant: str, token: str, after_s: float = 0) -> Served:
    time.sleep(0.002)  # the emulator's log knows milliseconds
    now = datetime.now(UTC) + timedelta(seconds=after_s)
    until = now + timedelta(seconds=60)
    return Served(when=at(now), grant=grant, looked=at(now), token=name_of(token), version=1, stable_until=until)


def stored(grant: str, token: str) -> Stored:
    return Stored(when=at(datetime.now(UTC)), grant=grant, phase="active", version=1, access=name_of(token))


def test_requests_for_our_own_token_are_told_from_begin_to_end(running: RunningWise, client: WiseClient) -> None:
    running.control.change_settings(application_tokens_coexist=False)
    first = ask_for_token(running, client, "x")
    second = ask_for_token(running, client, "y")
    told = list(history(running))
    assert [type(record) for record in told] == [
        *(RefreshBegan, Minted, RefreshSettled, RefreshAnswered),
        *(RefreshBegan, Died, Minted, RefreshSettled, RefreshAnswered),
    ]
    assert {record.grant for record in told} == {OURS}
    minted = [record for record in told if isinstance(record, Minted)]
    assert [(m.token, m.kind, m.request) for m in minted] == [
        (name_of(first), Kind.APPLICATION, "1"),
        (name_of(second), Kind.APPLICATION, "2"),
    ]
    [died] = [record for record in told if isinstance(record, Died)]
    assert (died.token, died.request) == (name_of(first), "2")
    settled = [record for record in told if isinstance(record, RefreshSettled)]
    assert [(s.carried_out, s.access, s.refresh) for s in settled] == [
        (True, name_of(first), None),
        (True, name_of(second), None),
    ]
    assert [record.told for record in told if isinstance(record, RefreshAnswered)] == [Told.TOKENS] * 2


def test_refused_and_lost_requests_are_told_as_such(running: RunningWise, client: WiseClient) -> None:
    running.control.change_settings(client_credentials_allowed=False)
    ask_for_token(running, client, "x")
    running.control.change_settings(client_credentials_allowed=True)
    running.control.drop_after_carrying_out()
    with pytest.raises(OSError, match=r".*"):
        ask_for_token(running, client, "y")
    running.control.wait_until_idle()
    told = list(history(running))
    assert [r.carried_out for r in told if isinstance(r, RefreshSettled)] == [False, True]
    assert [r.told for r in told if isinstance(r, RefreshAnswered)] == [Told.REFUSED, Told.NOTHING]


def test_nothing_is_told_of_our_own_token_unless_it_is_asked_for(running: RunningWise, client: WiseClient) -> None:
    ask_for_token(running, client, "x")
    assert list(history(running, application=None)) == []


def test_what_others_asked_for_is_nobodys_attempt(running: RunningWise, client: WiseClient) -> None:
    running.control.change_settings(application_tokens_coexist=False)
    ours = ask_for_token(running, client, "x")
    ask_for_token(running, client, None)
    ledger = [stored(OURS, ours), served(OURS, ours)]
    began = [record.attempt for record in history(running, ledger) if isinstance(record, RefreshBegan)]
    assert began == ["x", None]
    assert check(history(running, ledger)) == []


def test_a_question_is_told_apart_and_what_it_ended_is_not_served(running: RunningWise, client: WiseClient) -> None:
    running.control.change_settings(application_tokens_coexist=False)
    ours = ask_for_token(running, client, "x")
    ask_for_token(running, client, "probe")
    ledger: list[Record] = [stored(OURS, ours), served(OURS, ours)]
    [question] = [record for record in history(running, ledger) if isinstance(record, Questioned)]
    assert (question.attempt, question.request, question.told) == ("probe", "2", True)
    assert question.ended is not None
    assert check(history(running, ledger)) == [], "the note is on its way"
    ledger.append(served(OURS, ours, after_s=5))
    assert [violation.rule for violation in check(history(running, ledger))] == [Rule.NOT_DEAD]
    unknown = history(running, ledger, is_question=lambda _request: False)
    assert Rule.KEPT in [violation.rule for violation in check(unknown)], "an attempt would have kept its token"


def test_a_question_without_an_answer_is_told_as_unanswered(running: RunningWise, client: WiseClient) -> None:
    running.control.drop_after_carrying_out()
    with pytest.raises(OSError, match=r".*"):
        ask_for_token(running, client, "probe")
    running.control.wait_until_idle()
    [question] = [record for record in history(running) if isinstance(record, Questioned)]
    assert not question.told


def test_a_personal_token_has_a_grant_of_its_own(running: RunningWise, client: WiseClient) -> None:
    made = running.control.seed_personal_token("shop")
    user = running.control.seed_user("shop")
    client.me(made.token, headers={"X-External-Correlation-Id": "x"})
    client.me(user.access_token, headers={"X-External-Correlation-Id": "y"})
    running.control.revoke_personal_tokens("shop")
    told = list(history(running, personal={"shop": "static"}, users={"shop": "user"}))
    static = [record for record in told if record.grant == "static"]
    assert [type(record) for record in static] == [Minted, Asked, Died]
    minted = static[0]
    assert isinstance(minted, Minted)
    assert (minted.kind, minted.expires_at, minted.token) == (Kind.PERSONAL, NEVER, name_of(made.token))
    assert [record.token for record in told if isinstance(record, Asked)] == [
        name_of(made.token),
        name_of(user.access_token),
    ]
    assert [record for record in history(running, users={"shop": "user"}) if record.grant == "static"] == []


def test_a_personal_token_at_the_token_endpoint_is_found(running: RunningWise, client: WiseClient) -> None:
    made = running.control.seed_personal_token("shop")
    client.refresh(made.token, headers={"X-External-Correlation-Id": "x"})
    running.control.wait_until_idle()
    now = at(datetime.now(UTC))
    adopted = Adopted(when=now, grant="static", asked=now, refresh=None, access=name_of(made.token))
    found = check(history(running, [adopted, stored("static", made.token)], personal={"shop": "static"}))
    assert [violation.rule for violation in found] == [Rule.STATIC]
