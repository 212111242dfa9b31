"""What the use cases have to tell: facts for logs and metrics, without a token in any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from token_rotator.domain.grant import GrantKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request went to the token endpoint. `attempt_id` is also Wise's `X-External-Correlation-Id`."""

    key: GrantKey
    attempt_id: str
    outcome: str
    status: int | None
    error: str | None
    trace_id: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """One try to refresh one grant is over. `result` is the word of `service.refresh_grant`."""

    key: GrantKey
    attempt_id: str
    result: str
    code: str | None
    version: int | None
    takeover: bool
    sends: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLate:
    """An answer of Wise's was overtaken. `kept` tells whether its tokens were stored all the same."""

    key: GrantKey
    attempt_id: str
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLost:
    """No write succeeded within the attempt's time: the tokens of an answer die with this process."""

    key: GrantKey
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTold:
    """An alert was handed to the topic, or was not (`code` says why)."""

    key: GrantKey
    incident_id: str
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something unexpected happened to one grant; others go on. `detail` names the error's type, never its text."""

    key: GrantKey | None
    code: str
    detail: str


Event = Sent | AttemptEnded | AnswerLate | AnswerLost | AlertTold | Trouble


class Journal(Protocol):
    """Where facts go. Never raises, may be called from several threads."""

    def record(self, event: Event) -> None:
        """Take note."""
        ...
