"""An account that may run ten functions at once, as AWS gives a new one, and twenty readers.

The emulator refuses the eleventh with 429 and no `Retry-After`; API Gateway on AWS turns Lambda's refusal into what the
template says of it, which the readers here go by.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from local.aws.assembly import Assembly
from local.aws.ministack import Credentials
from local.aws.signed import Answer
from local.demo.partner import Wise, hash_of
from local.wise.control import wait_until
from tests.e2e.deployment import ACME, Deployed, adopt, deployment, is_problem
from token_rotator.domain.lease import Budgets
from token_rotator.handlers.http import PROBLEMS

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("account-concurrency")]

AT_ONCE: Final = 10
READERS: Final = 20
FRESH: Final = ("fresh-1", "fresh-2", "fresh-3", "fresh-4")
DUE_AGE_S: Final = 8 * 3600
PATIENCE_S: Final = 40
SOON_S: Final = Budgets().invoke.total_seconds()
"""Who cannot be served hears it sooner than an invocation that hangs would take."""


def gateway_response(assembly: Assembly, kind: str) -> dict[str, Any]:
    """What the template has API Gateway say by itself."""
    responses = assembly.resources("AWS::ApiGateway::GatewayResponse").values()
    (found,) = (response for response in responses if response["ResponseType"] == kind)
    return found


def retry_after_s(response: dict[str, Any]) -> int:
    return int(response["ResponseParameters"]["gatewayresponse.header.Retry-After"].strip("'"))


def test_a_refusal_of_lambdas_is_a_503_that_says_when_to_ask_again(assembly: Assembly) -> None:
    """Behind a proxy integration API Gateway makes a 500 of any refusal of Lambda's, throttling included.

    docs.aws.amazon.com/lambda/latest/dg/services-apigateway-errors.html. Its gateway response is INTEGRATION_FAILURE:
    repost.aws/questions/QUL-z6rJbmR4meafB7MzYXxw.
    """
    response = gateway_response(assembly, "INTEGRATION_FAILURE")
    problem = json.loads(response["ResponseTemplates"]["application/json"])
    status, _ = PROBLEMS["temporarily-unavailable"]
    assert (response["StatusCode"], problem["status"]) == (str(status), status)
    assert problem["type"] == "urn:token-rotator:problem:temporarily-unavailable"
    # Another pause than the function's own: readers who were refused together do not come back together.
    assert retry_after_s(response) == 1
    throttled = gateway_response(assembly, "THROTTLED")
    assert throttled["StatusCode"] == "429"
    assert retry_after_s(throttled) >= 1


@dataclass(frozen=True)
class Asked:
    """One question of a reader's."""

    user: str
    took_s: float
    answer: Answer
    used: int | None
    """What Wise said to the token, used at once."""


@dataclass
class Readers:
    """Readers of one moment, each of whom asks until there is a token."""

    deployed: Deployed
    by: Credentials
    refused_s: int
    """How long who was refused by Lambda waits."""
    asked: list[Asked] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, users: Sequence[str]) -> None:
        together = threading.Barrier(len(users))
        wise = Wise(self.deployed.wise.url, self.deployed.wise.ca_file)
        self._threads = [
            threading.Thread(target=self._read, args=(user, together, wise), daemon=True) for user in users
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _read(self, user: str, together: threading.Barrier, wise: Wise) -> None:
        together.wait()
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            began = time.monotonic()
            answer = self.deployed.call("GET", f"{ACME}/{user}/access-token", self.by)
            took_s = time.monotonic() - began
            used = wise.me(answer.json()["access_token"]) if answer.status == 200 else None
            self.asked.append(Asked(user, took_s, answer, used))
            if answer.status not in (429, 503):
                return
            time.sleep(self.refused_s if answer.status == 429 else int(answer.headers["retry-after"]))
        self.gave_up.append(user)

    def answers(self, status: int) -> list[Asked]:
        return [asked for asked in self.asked if asked.answer.status == status]


@dataclass(frozen=True)
class SmallAccount:
    deployed: Deployed
    acme: Credentials
    refused_s: int

    def readers(self) -> Readers:
        return Readers(self.deployed, self.acme, self.refused_s)

    def read_all(self, users: Sequence[str]) -> Readers:
        readers = self.readers()
        readers.start(users)
        readers.join()
        return readers

    def adopt(self, user: str, age_s: float = 0) -> int:
        adopted = adopt(self.deployed, self.acme, user, age_s=age_s)
        assert adopted.status == 201
        version: int = adopted.json()["version"]
        return version

    def limit(self, output: str, runs: int | None) -> None:
        """Let a function run so many times at once; `None`: as many as the account may."""
        client = self.deployed.stack.emulator.client("lambda")
        name = self.deployed.stack.outputs[output]
        if runs is None:
            client.delete_function_concurrency(FunctionName=name)
        else:
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=runs)


@pytest.fixture(scope="module")
def small(assembly: Assembly) -> Iterator[SmallAccount]:
    """The account, with its functions warm. The sweep is off: readers have nobody but each other to refresh."""
    with deployment(assembly, account_concurrency=AT_ONCE) as deployed:
        deployed.create_secret()
        refused_s = retry_after_s(gateway_response(assembly, "INTEGRATION_FAILURE"))
        account = SmallAccount(deployed, deployed.as_partner("acme"), refused_s)
        account.limit("SweepFunction", 0)
        for user in FRESH:
            account.adopt(user)
        account.adopt("warm", DUE_AGE_S)
        assert not account.read_all(["warm"]).gave_up
        assert not account.read_all(FRESH * 2 + FRESH[:2]).gave_up
        yield account


def assert_all_went_well(small: SmallAccount, readers: Readers, due: str, adopted: int) -> None:
    """200, 429 or 503 and nothing else; the living token or none; one refresh."""
    control = small.deployed.wise.control
    assert readers.gave_up == []
    assert {asked.answer.status for asked in readers.asked} <= {200, 429, 503}
    for asked in readers.answers(429):
        # Lambda's word, as the emulator passes it on, and not the API's own limit
        assert asked.answer.json()["Reason"] == "ConcurrentInvocationLimitExceeded"
    for asked in readers.answers(503):
        assert is_problem(asked.answer, "temporarily-unavailable")
        assert int(asked.answer.headers["retry-after"]) >= 1
    assert all(asked.took_s < SOON_S for asked in readers.answers(429) + readers.answers(503))
    served = readers.answers(200)
    assert {asked.used for asked in served} == {200}
    for user in {asked.user for asked in served}:
        (live,) = (token for token in control.tokens(user) if token.kind == "access" and token.lives)
        tokens = {hash_of(asked.answer.json()["access_token"]) for asked in served if asked.user == user}
        assert tokens == {live.sha256}
        assert len(control.requests(user=user)) == (user == due)
    assert {asked.answer.json()["version"] for asked in served if asked.user == due} == {adopted + 1}
    assert control.overlaps() == []


@pytest.mark.parametrize("readers_of_the_due_one", [12, READERS])
def test_twenty_readers_get_the_living_token_or_are_told_when_to_ask_again(
    small: SmallAccount, readers_of_the_due_one: int
) -> None:
    due = f"due-for-{readers_of_the_due_one}"
    adopted = small.adopt(due, DUE_AGE_S)
    others = [FRESH[number % len(FRESH)] for number in range(READERS - readers_of_the_due_one)]

    readers = small.read_all([due] * readers_of_the_due_one + others)

    assert len(readers.answers(200)) == READERS
    assert_all_went_well(small, readers, due, adopted)


def test_readers_who_wait_for_a_slow_wise_take_all_there_is_and_the_rest_is_refused(small: SmallAccount) -> None:
    adopted = small.adopt("slow", DUE_AGE_S)
    control = small.deployed.wise.control
    control.withhold("slow")
    readers = small.readers()
    readers.start(["slow"] * 12 + list(FRESH) * 2)
    control.wait_until_withheld("slow")
    # the refresh and nine readers who wait for it: nobody else may run
    wait_until(lambda: bool(readers.answers(429)), 3, "a reader who is refused")
    control.release("slow")
    readers.join()

    assert len(readers.answers(200)) == READERS
    assert_all_went_well(small, readers, "slow", adopted)


def test_where_no_refresh_can_start_readers_hear_it_at_once(small: SmallAccount) -> None:
    adopted = small.adopt("stuck", DUE_AGE_S)
    small.limit("RefreshFunction", 0)
    readers = small.readers()
    readers.start(["stuck"] * (AT_ONCE - 1))
    wait_until(lambda: len(readers.answers(503)) >= AT_ONCE - 1, SOON_S, "nine answers")
    assert not readers.answers(200)
    assert small.deployed.wise.control.requests(user="stuck") == []
    assert small.deployed.call("GET", f"{ACME}/{FRESH[0]}/access-token", small.acme).status == 200
    small.limit("RefreshFunction", None)
    readers.join()

    assert len(readers.answers(200)) == AT_ONCE - 1
    assert_all_went_well(small, readers, "stuck", adopted)
