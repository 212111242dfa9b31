"""What the use cases have to tell: facts for logs and metrics, without a token in any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from token_rotator.domain.grant import GrantKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request went to the token endpoint. `attempt_id` is also Wise's `X-External-Correlation-Id`.

    `reissue`: it presented a registration code, not a refresh token.
    """

    key: GrantKey
    attempt_id: str
    outcome: str
    status: int | None
    error: str | None
    trace_id: str | None
    seconds: float
    reissue: bool = False


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
class ForeignRefresh:
    """The token that an answer replaced had died before its time: somebody else refreshes the same grant."""

    key: GrantKey
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerParked:
    """A write failed, and the sealed answer lies in the parking queue."""

    key: GrantKey
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedSettled:
    """A parked answer was taken out: `result` is the word of `service.keep_answer`."""

    key: GrantKey
    attempt_id: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLost:
    """Neither a write nor the queue took an answer within the attempt's time: its tokens die with this process."""

    key: GrantKey
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened:
    """Nobody calls Wise until `until`: `why` is the outcome that it was opened for, `trips` how often in a row."""

    why: str
    until: datetime
    trips: int
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed:
    """Wise may be called again."""

    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandBarred:
    """A refresh on demand had to be put off until `until`."""

    key: GrantKey
    why: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTold:
    """An alert was handed to the topic, or was not (`code` says why). Without a key: about all grants together."""

    key: GrantKey | None
    incident_id: str
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeExchanged:
    """One authorization code went to the token endpoint. `attempt_id` is also Wise's `X-External-Correlation-Id`."""

    key: GrantKey
    attempt_id: str
    outcome: str
    status: int | None
    error: str | None
    trace_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnded:
    """A browser came back from Wise: `arrived`, or the word of `domain.link.LinkFailure`."""

    key: GrantKey
    partner: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost:
    """No write took the tokens of a link: they die with this process, and the refresh token before them at Wise."""

    key: GrantKey
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUnconfirmed:
    """Nobody confirmed a link in time, and its tokens were dropped. `attempt_id` is of the exchange."""

    key: GrantKey
    attempt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDeactivated:
    """Wise closed the account of a grant, which is suspended for it. `subject`: `user` or `profile`."""

    key: GrantKey
    subject: str
    occurred_at: datetime
    delivery_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserReactivated:
    """Wise opened it again: the grant is due, in doubt."""

    key: GrantKey
    subject: str
    occurred_at: datetime
    delivery_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTaken:
    """An event of Wise's came. `result` is the word of `service.take_event`; the ids are Wise's own."""

    result: str
    event_type: str | None
    delivery_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something unexpected happened to one grant; others go on. `detail` names the error's type, never its text."""

    key: GrantKey | None
    code: str
    detail: str


Event = (
    Sent
    | AttemptEnded
    | AnswerLate
    | ForeignRefresh
    | AnswerParked
    | ParkedSettled
    | AnswerLost
    | BreakerOpened
    | BreakerClosed
    | DemandBarred
    | AlertTold
    | CodeExchanged
    | LinkEnded
    | LinkLost
    | LinkUnconfirmed
    | UserDeactivated
    | UserReactivated
    | EventTaken
    | Trouble
)


class Journal(Protocol):
    """Where facts go. Never raises, may be called from several threads."""

    def record(self, event: Event) -> None:
        """Take note."""
        ...
