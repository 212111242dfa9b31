"""What became of one request to Wise's token endpoint, and whether an access token lives.

The classes are the rows of the outcome table in docs/protocol.md. `status`, `error` and `trace_id` are facts for logs:
the HTTP status, the OAuth error code (a known word, never free text) and Wise's `x-trace-id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from .tokens import TokenSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Facts that every outcome may carry."""

    status: int | None = None
    error: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed(Answer):
    """Wise issued tokens; the previous access token is dead from this instant."""

    tokens: TokenSet


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent(Answer):
    """Nothing can have reached the token endpoint: the stored token is as good as before."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(Answer):
    """Wise's rate limit. Nothing was carried out."""

    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRefused(Answer):
    """Wise does not accept our client credentials, or a 401 says nothing else. No grant is judged by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeAreWrong(Answer):
    """Wise refused the request as such; asking again in the same way will not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantInvalid(Answer):
    """Wise says that this refresh token is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFault(Answer):
    """Wise itself answered with a fault: the request is over, but nobody knows whether it was carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Answer):
    """The request was sent and its outcome is unknown; Wise may still be at it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAccepted(Answer):
    """Wise accepts our client credentials; `changed`: others than those that were in use before the question."""

    changed: bool


Outcome = Refreshed | NotSent | Throttled | ClientRefused | WeAreWrong | GrantInvalid | ServerFault | Unknown

ClientCheck = ClientAccepted | NotSent | Throttled | ClientRefused | WeAreWrong | ServerFault | Unknown
"""What Wise says of our client credentials. No grant is touched by asking."""

_NAMES: dict[type[Answer], str] = {
    Refreshed: "refreshed",
    NotSent: "not_sent",
    Throttled: "throttled",
    ClientRefused: "client_refused",
    WeAreWrong: "we_are_wrong",
    GrantInvalid: "grant_invalid",
    ServerFault: "server_fault",
    Unknown: "unknown",
    ClientAccepted: "client_accepted",
}


def name_of(outcome: Outcome | ClientCheck) -> str:
    """Give the outcome's word, as logs and metrics use it."""
    return _NAMES[type(outcome)]


class Liveness(Enum):
    """What `GET /v1/me` says about an access token. It proves nothing about the refresh token."""

    LIVES = "lives"
    DEAD = "dead"
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class Said:
    """What Wise said when it was asked whether an access token lives, and its `x-trace-id`."""

    liveness: Liveness
    trace_id: str | None = None
