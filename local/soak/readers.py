"""Partner services that ask for tokens all the time, use each at once, and once more just before it may be replaced."""

from __future__ import annotations

import heapq
import http.client
import itertools
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from local.demo.partner import hash_of

from .ledger import APPLICATION, Ask, Rejection, Wait, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from local.aws.signed import Answer
    from local.demo.partner import PartnerService, Wise

    from .ledger import Ledger

_OK: Final = 200
_CONFLICT: Final = 409
_UNAUTHORIZED: Final = 401
_PROBLEM: Final = "urn:token-rotator:problem:"
_FOR_GOOD: Final = "reauthorization-required"
_AGAIN_S: Final = 1.0
_REPORTED_FOR_S: Final = 5.0
"""How long a reader leaves it at one report of a version."""
_LOST: Final = (OSError, http.client.HTTPException, ValueError)
"""What a call ends in that gets no answer, or half of one."""


def _call(partner: PartnerService, method: str, grant_id: str, rest: str = "", **more: Any) -> Answer:
    path = f"/access-token{rest}"
    if grant_id == APPLICATION:
        return partner.at(method, f"/v1/application{path}", **more)
    return partner.call(method, grant_id, path, **more)


def ask(
    partner: PartnerService, reader: str, grant_id: str, ledger: Ledger, rejected: int | None = None
) -> tuple[Ask, dict[str, Any], float]:
    """Ask for a token once and put the answer on record. Gives it, its body, and when to ask again.

    `rejected` is the version that Wise has refused: the API is told so, which answers the same.
    """
    asked_ms = now_ms()
    if rejected is not None:
        ledger.add(Rejection(reader=reader, grant_id=grant_id, at_ms=asked_ms, version=rejected))
    try:
        if rejected is None:
            answer: Answer | None = _call(partner, "GET", grant_id)
        else:
            report = {"version": rejected, "error": "invalid_token"}
            answer = _call(partner, "POST", grant_id, "/rejections", json_body=report)
        body = answer.json() if answer is not None else {}
    except _LOST as error:
        answer, body = None, {"type": type(error).__name__}
    facts: dict[str, Any] = {}
    if answer is not None and answer.status == _OK:
        facts = {
            "sha256": hash_of(body["access_token"]),
            "version": body["version"],
            "stable_until_ms": int(datetime.fromisoformat(body["stable_until"]).timestamp() * 1000),
            "degraded": body["degraded"],
            "on_hold": body.get("on_hold", False),
        }
    else:
        facts = {"problem": str(body.get("type", ""))}
    noted = Ask(
        reader=reader,
        grant_id=grant_id,
        asked_ms=asked_ms,
        answered_ms=now_ms(),
        status=0 if answer is None else answer.status,
        **facts,
    )
    ledger.add(noted)
    retry_after_s = _AGAIN_S if answer is None else float(answer.headers.get("retry-after", _AGAIN_S))
    return noted, body, retry_after_s


def use(wise: Wise, grant_id: str, access_token: str, ledger: Ledger) -> bool:
    """Call Wise with a token. Tells whether Wise said that it is dead."""
    try:
        status = wise.me(access_token)
    except _LOST:
        status = 0
    ledger.used(grant_id, status)
    return status == _UNAUTHORIZED


@dataclass(frozen=True, slots=True)
class Tenant:
    """Where a reader reads."""

    partner: PartnerService
    grant_ids: Sequence[str]
    come_back: bool = False
    """Its grants may come back by somebody's act: a refusal is not the end."""


class Reader:
    """One partner service. It does one thing at a time and has many in mind: what is due first comes first."""

    def __init__(
        self, name: str, tenant: Tenant, wise: Wise, ledger: Ledger, *, random: Random, every_s: float
    ) -> None:
        self.name = name
        self._tenant = tenant
        self._wise = wise
        self._ledger = ledger
        self._random = random
        self._every_s = every_s
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._answered = threading.Event()
        self._quiet = threading.Event()
        self._stop = threading.Event()
        self._open: dict[str, int] = {}
        self._lost: set[str] = set()
        self._reported: dict[tuple[str, int], float] = {}
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self, answered_within_s: float) -> None:
        """Begin, and wait for the first answer, but no longer than this."""
        self._at(0, self._ask_somebody)
        self._thread.start()
        self._answered.wait(answered_within_s)

    def quiet(self) -> None:
        """Begin nothing new; go on with what is under way."""
        self._quiet.set()

    def stop(self, within_s: float) -> None:
        """End, and put on record who is still waiting."""
        self._stop.set()
        self._thread.join(within_s)
        for grant_id, asked_ms in self._open.items():
            self._end(grant_id, asked_ms, "nothing")

    def _at(self, after_s: float, plan: Callable[[], None]) -> None:
        heapq.heappush(self._plans, (time.monotonic() + after_s, next(self._numbers), plan))

    def _work(self) -> None:
        while self._plans and not self._stop.is_set():
            when, _, plan = self._plans[0]
            if self._stop.wait(min(max(when - time.monotonic(), 0), 0.5)):
                return
            if time.monotonic() >= when:
                heapq.heappop(self._plans)
                plan()

    def _ask_somebody(self) -> None:
        if self._quiet.is_set():
            return
        self._at(self._every_s * self._random.uniform(0.5, 1.5), self._ask_somebody)
        grant_id = self._random.choice(self._tenant.grant_ids)
        if grant_id not in self._open and grant_id not in self._lost:
            self._open[grant_id] = now_ms()
            self._ask(grant_id)

    def _ask(self, grant_id: str, rejected: int | None = None) -> None:
        noted, body, retry_after_s = ask(self._tenant.partner, self.name, grant_id, self._ledger, rejected)
        self._answered.set()
        if noted.sha256 is not None:
            self._end(grant_id, self._open.pop(grant_id), "token")
            token = str(body["access_token"])
            self._use(grant_id, token, noted.version)
            before_s = (noted.stable_until_ms - now_ms()) / 1000 - self._random.uniform(0.1, 1.0)
            if before_s > 0:
                self._at(before_s, lambda: self._use(grant_id, token, noted.version))
        elif noted.status == _CONFLICT:
            why = (noted.problem or "").removeprefix(_PROBLEM)
            if why == _FOR_GOOD and not self._tenant.come_back:
                self._lost.add(grant_id)
            self._end(grant_id, self._open.pop(grant_id), why)
        else:
            self._at(retry_after_s, lambda: self._ask(grant_id, rejected))

    def _use(self, grant_id: str, token: str, version: int) -> None:
        """Use a token; report it if it is dead, now and then, unless this reader is already asking for another."""
        dead = use(self._wise, grant_id, token, self._ledger)
        again_at = self._reported.get((grant_id, version), 0.0)
        if dead and time.monotonic() >= again_at and grant_id not in self._open:
            self._reported[grant_id, version] = time.monotonic() + _REPORTED_FOR_S
            self._open[grant_id] = now_ms()
            self._at(0, lambda: self._ask(grant_id, version))

    def _end(self, grant_id: str, asked_ms: int, ended: str) -> None:
        self._ledger.add(Wait(reader=self.name, grant_id=grant_id, asked_ms=asked_ms, ended_ms=now_ms(), ended=ended))
