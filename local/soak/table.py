"""The table of grants as an outsider reads it: what each grant waits for, and whether anybody looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from .ledger import APPLICATION, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.demo.stage import Stage

OVERDUE_MS: Final = 20_000
"""The sweep looks every second, and is away for some seconds of each minute."""
_MARGIN_MS: Final = 4_000
_DEAD_ON_HOLD: Final = "dead_on_hold"
_NEVER_LATER_MS: Final = 360_000
"""The longest pause after a failure, and some more."""


class State(StrEnum):
    """What a grant waits for."""

    FINE = "fine"
    BUSY = "busy"
    """Somebody refreshes it."""
    WAITING = "waiting"
    """In doubt, or it failed: tried again at an instant that is on record and not far."""
    WAITS_FOR_USER = "waits_for_user"
    UNTOLD = "untold"
    """It waits for its user, and on-call has not been told yet."""
    OVERDUE = "overdue"
    """Something should have happened long ago."""
    SUSPENDED = "suspended"
    """Nothing is to happen to it until whoever stopped it lets it go on."""
    ON_HOLD = "on_hold"
    """Somebody else refreshes it."""
    FORGOTTEN = "forgotten"
    """Nothing will ever happen to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One grant, as it was at ``read_ms``."""

    read_ms: int
    grant_id: str
    phase: str
    version: int
    attempt: str | None
    lease_until_ms: int | None
    in_doubt: str | None
    due_at_ms: int | None
    failures: int
    last_error: str | None
    reason: str | None
    incident_id: str | None
    raised_ms: int | None
    published: bool
    kind: str = "user"
    on_hold: bool = False

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Row:
        """Read an item of the table."""
        alert = item.get("alert", {}).get("M", {})
        return cls(
            read_ms=now_ms(),
            grant_id=_id(item),
            phase=item["phase"]["S"],
            version=int(item["version"]["N"]),
            attempt=_text(item, "attempt_id"),
            lease_until_ms=_number(item, "lease_until"),
            in_doubt=_text(item, "in_doubt"),
            due_at_ms=_number(item, "due_at"),
            failures=_number(item, "failures") or 0,
            last_error=_text(item, "last_error"),
            reason=_text(alert, "reason"),
            incident_id=_text(alert, "incident_id"),
            raised_ms=_number(alert, "raised_at"),
            published="published_at" in alert,
            kind=_text(item, "kind") or "user",
            on_hold="on_hold" in item,
        )

    @property
    def state(self) -> State:
        """What it waits for."""
        if self.phase == "suspended":
            return State.SUSPENDED
        due = self.due_at_ms
        if self.attempt is not None:
            due = max(due or 0, (self.lease_until_ms or 0) + _MARGIN_MS)
        if due is not None and due < self.read_ms - OVERDUE_MS:
            return State.OVERDUE
        if self.phase != "active":
            return State.WAITS_FOR_USER if self.published else State.UNTOLD
        nothing_to_do = (self.on_hold or self.kind == "personal") and self.attempt is None
        if due is None or due > self.read_ms + _NEVER_LATER_MS:
            if nothing_to_do and self.in_doubt is None:
                return State.ON_HOLD if self.on_hold else State.FINE
            # on hold and dead it waits for whoever brings newer tokens
            return State.WAITING if self.on_hold and self.last_error == _DEAD_ON_HOLD else State.FORGOTTEN
        if self.attempt is not None:
            return State.BUSY
        return State.WAITING if self.in_doubt is not None or self.failures else State.FINE

    @property
    def held_back_s(self) -> float:
        """For how much longer it is left alone after a failure or in doubt; 0 where it is not."""
        return (self.due_at_ms - self.read_ms) / 1000 if self.state is State.WAITING and self.due_at_ms else 0.0


def _id(item: Mapping[str, Any]) -> str:
    """The grant's id; our application's own token has none but its key."""
    return _text(item, "grant_id") or APPLICATION


def _text(item: Mapping[str, Any], name: str) -> str | None:
    value: str | None = item.get(name, {}).get("S")
    return value


def _number(item: Mapping[str, Any], name: str) -> int | None:
    return int(item[name]["N"]) if name in item else None


_FACTS: Final = (
    "grant_id, phase, version, attempt_id, lease_until, in_doubt, due_at, failures, last_error, alert, kind, on_hold"
)
"""The sealed values are of no interest, and large."""


_GRANTS: Final = "attribute_exists(phase) AND attribute_exists(version)"


class GrantsTable:
    """Reads the table, consistently. Safe in threads."""

    def __init__(self, stage: Stage) -> None:
        self._client = stage.emulator.client("dynamodb")
        self._table = stage.stack.outputs["GrantsTable"]

    def row(self, tenant: str, grant_id: str) -> Row | None:
        """Read one grant, or our application's own token; none if it is not there."""
        pk = APPLICATION if grant_id == APPLICATION else f"{tenant}#{grant_id}"
        item = self._item(pk, ProjectionExpression=_FACTS)
        return Row.of(item) if item else None

    def rows(self) -> list[Row]:
        """Read all grants, our application's own token among them."""
        return [Row.of(item) for item in self._scan(_FACTS, _GRANTS)]

    def leases(self) -> dict[str, str]:
        """Read which attempt holds which grant."""
        held = f"{_GRANTS} AND attribute_exists(attempt_id)"
        return {_id(item): item["attempt_id"]["S"] for item in self._scan("grant_id, attempt_id", held)}

    def application_attempt(self) -> str | None:
        """Read which attempt holds our application's own token, if one does."""
        return _text(self._item(APPLICATION, ProjectionExpression="attempt_id"), "attempt_id")

    def fleet(self) -> dict[str, str]:
        """Read what is stored about the whole deployment: attribute and value; empty if nothing is."""
        return {name: str(next(iter(value.values()))) for name, value in self._item("#fleet").items()}

    def _item(self, pk: str, **more: Any) -> dict[str, Any]:
        answer = self._client.get_item(TableName=self._table, Key={"pk": {"S": pk}}, ConsistentRead=True, **more)
        item: dict[str, Any] = answer.get("Item", {})
        return item

    def _scan(self, facts: str, which: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table, ProjectionExpression=facts, FilterExpression=which, ConsistentRead=True
        )
        for page in pages:
            yield from page["Items"]
