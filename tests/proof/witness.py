"""Watches a deployment from outside, at the wire of its functions' clients, and writes its history.

What is stored is read back from the table after each write that a function makes, what is parked from the messages
that it sends, what a reader was told from the answers of the API. What Wise did is in the emulator's own log.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from local.proof.from_truth import at, history_of
from local.proof.history import (
    GONE,
    Adopted,
    Announced,
    Deleted,
    History,
    Keeper,
    Moment,
    NotServed,
    Outage,
    Parked,
    ProcessDied,
    Record,
    Reported,
    Served,
    Stored,
    name_of,
)
from local.wise.control import SeededUser
from tests.handlers.deployment import Answer, Deployment, Function

_WRITES = ("UpdateItem", "TransactWriteItems", "PutItem", "DeleteItem")


class Killed(BaseException):
    """A function's process is gone."""


class Witness:
    """The history of one grant of a deployment, whose user at Wise has the same name."""

    def __init__(self, deployment: Deployment, grant_id: str) -> None:
        self.deployment = deployment
        self.grant_id = grant_id
        self.ledger: list[Record] = []
        self.seen: dict[str, Any] = {}
        self.number = 0
        self.looked: Moment | None = None
        self.messages: dict[int, str] = {}
        """What each thread is about to park: a sweep has several."""
        self.faults: list[Callable[[], Any]] = []
        self.watched: list[tuple[Any, str, Callable[..., Any]]] = []
        for function in deployment.functions:
            self._watch(function)

    # --- at the wire

    def _clients(self, function: Function) -> Iterator[Any]:
        wired = function.wired
        if function.name in ("sweep", "refresh"):
            yield wired.refresh_grant.grants._client
            yield wired.refresh_grant.parking._client
        else:
            store = {"serve": "grants", "admin": "adopt_grant.grants", "callback": "take_arrival.links"}[function.name]
            yield attrgetter(f"{store}._client")(wired)

    def _watch(self, function: Function) -> None:
        for client in self._clients(function):
            for event, handler in self._handlers().items():
                client.meta.events.register(event, handler)
                self.watched.append((client, event, handler))

    def _handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            **{f"before-call.dynamodb.{operation}": self._before_write for operation in _WRITES},
            **{f"after-call.dynamodb.{operation}": self._after_write for operation in _WRITES},
            "after-call.dynamodb.GetItem": self._after_read,
            "before-parameter-build.sqs.SendMessage": self._before_park,
            "after-call.sqs.SendMessage": self._after_park,
        }

    def leave(self) -> None:
        """Watch no longer: the deployment is others' too."""
        for client, event, handler in self.watched:
            client.meta.events.unregister(event, handler)

    def _before_write(self, *, params: dict[str, Any], **_: Any) -> Any:
        """The fault strikes what is written to the grant, and nothing that one client writes besides."""
        ours = self.grant_id.encode() in params["body"]
        return self.faults[0]() if self.faults and ours else None

    def _after_write(self, **_: Any) -> None:
        item = self.deployment.item(self.grant_id)
        if item != self.seen:
            self.seen = item
            self.ledger.append(self._stored(item))

    def _after_read(self, **_: Any) -> None:
        self.looked = self.now()

    def _before_park(self, params: dict[str, Any], **_: Any) -> None:
        self.messages[threading.get_ident()] = params["MessageBody"]

    def _after_park(self, **_: Any) -> None:
        answer = self._module("adapters.sqs_parking")._read(self.messages.pop(threading.get_ident()))
        if answer.key.grant_id != self.grant_id:
            return
        access = self._opened(answer.key, answer.access_token)
        self.ledger.append(Parked(when=self.now(), grant=self.grant_id, access=access))

    # --- what is stored

    def _module(self, name: str) -> Any:
        return self.deployment.refresh.modules[f"token_rotator.{name}"]

    def _opened(self, key: Any, sealed: Any) -> str:
        with self.deployment.refresh.inside():
            token: str = self._sealer.open_access_token(key, sealed).reveal()
        return name_of(token)

    @property
    def _sealer(self) -> Any:
        return self.deployment.refresh.wired.refresh_grant.sealer

    def _stored(self, item: dict[str, Any]) -> Stored:
        when = self.now()
        if not item:
            return Stored(when=when, grant=self.grant_id, phase=GONE)
        grant = self._module("adapters.dynamo_grants")._decode(item)
        with self.deployment.refresh.inside():
            refresh = self._sealer.prepare(grant.key, grant.refresh_token).refresh_token.reveal()
        return Stored(
            when=when,
            grant=self.grant_id,
            phase=grant.phase.value,
            version=grant.version,
            access=None if grant.access_token is None else self._opened(grant.key, grant.access_token),
            refresh=name_of(refresh),
            reason=grant.last_error,
            lease=grant.attempt_id,
            doubt=grant.in_doubt,
        )

    # --- the ledger

    def now(self) -> Moment:
        self.number += 1
        return at(self.deployment.clock(), seq=self.deployment.wise.state.seq(), number=self.number)

    def adopt(self, user: SeededUser | None = None, **more: Any) -> SeededUser:
        asked = self.now()
        user = user or self.deployment.wise.control.seed_user(self.grant_id)
        self.deployment.adopt(self.grant_id, user, **more)
        self.ledger.append(
            Adopted(
                when=self.now(),
                asked=asked,
                grant=self.grant_id,
                access=name_of(user.access_token),
                refresh=name_of(user.refresh_token),
            )
        )
        return user

    def delete(self) -> None:
        asked = self.now()
        assert self.deployment.ask("DELETE", self.grant_id).status == 204
        self.ledger.append(Deleted(when=self.now(), asked=asked, grant=self.grant_id))

    def read(self) -> Answer:
        return self._told(self.deployment.token(self.grant_id))

    def report(self, version: int) -> Answer:
        self.ledger.append(Reported(when=self.now(), grant=self.grant_id, version=version))
        return self._told(self.deployment.reject(self.grant_id, version))

    def _told(self, answer: Answer) -> Answer:
        looked, grant = self.looked or self.now(), self.grant_id
        if answer.status == 200:
            until = datetime.fromisoformat(answer.body["stable_until"])
            token, version = name_of(answer.body["access_token"]), answer.body["version"]
            self.ledger.append(
                Served(when=self.now(), grant=grant, looked=looked, token=token, version=version, stable_until=until)
            )
        else:
            self.ledger.append(NotServed(when=self.now(), grant=grant, looked=looked, why=answer.problem or ""))
        self._hear()
        return answer

    def sweep(self) -> None:
        self.deployment.sweep({"shards": list(range(16))})
        self._hear()

    def _hear(self) -> None:
        """Take down what on-call has been told by now."""
        for message in self.deployment.alerts():
            told = json.loads(message["Message"])
            grant = self.grant_id if told.get("grant_id") == self.grant_id else None
            kind, incident_id = told["kind"], told["incident_id"]
            self.ledger.append(
                Announced(when=self.now(), grant=grant, kind=kind, incident_id=incident_id, reason=told.get("reason"))
            )

    # --- faults

    @contextmanager
    def once_wise_has_answered(self, do: Callable[[], Any]) -> Iterator[None]:
        """Meet each write with this, from the moment at which Wise has answered another refresh."""
        before = self.deployment.refreshes(self.grant_id)
        self.faults = [lambda: do() if self.deployment.refreshes(self.grant_id) > before else None]
        try:
            yield
        finally:
            self.faults = []

    @contextmanager
    def table_down(self) -> Iterator[None]:
        """Let the table take no write from the moment at which Wise has answered."""
        began: list[Moment] = []

        def refuse() -> Any:
            began.append(began[0] if began else self.now())
            self.deployment.clock.advance(milliseconds=300)
            error = {"Code": "InternalServerError", "Message": "injected"}
            return SimpleNamespace(status_code=500), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 500}}

        with self.once_wise_has_answered(refuse):
            yield
        self.ledger.append(Outage(when=began[0], grant=None, keeper=Keeper.TABLE, ended=self.now()))

    def kill_refresh_before_its_commit(self) -> None:
        """Kill a refresh function that has Wise's answer, and start another."""

        def kill() -> None:
            raise Killed

        with self.once_wise_has_answered(kill):
            try:
                self.deployment.refresh({"tenant": "acme", "grant_id": self.grant_id, "rejected": None})
            except Killed:
                pass
            else:
                raise AssertionError("nothing was killed")
        last = self.deployment.wise.control.requests(user=self.grant_id)[-1]
        self.ledger.append(ProcessDied(when=self.now(), grant=None, attempts=frozenset({last.correlation_id or ""})))
        self.deployment.refresh = self.deployment.load("refresh")
        self.deployment.invocations.refresh = self.deployment.refresh
        self._watch(self.deployment.refresh)

    # --- the end

    def wait_until_due(self) -> None:
        """Let half of its life pass."""
        due_at = datetime.fromtimestamp(int(self.deployment.item(self.grant_id)["refresh_at"]["N"]) / 1000, UTC)
        self.deployment.clock.now = max(self.deployment.clock.now, due_at)

    def history(self, *, healed: bool = True) -> History:
        self.deployment.wise.control.wait_until_idle(self.grant_id)
        truth = self.deployment.wise.control.truth()
        return history_of(
            truth,
            self.ledger,
            {self.grant_id: self.grant_id},
            healed=healed,
            every_write=True,
            deadline=timedelta(seconds=5),
        )
