"""Wise's word that it closed an account or opened it again: what an event says, and which of two counts.

An account is a user or one of the profiles. Events come more than once and in any order, so that of all events about
one account the newest counts, by the instant at which it happened; of two at the same instant the one that closes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final

from .errors import InvalidInput
from .grant import GrantKey, checked_id
from .instants import parse_instant

if TYPE_CHECKING:
    from collections.abc import Collection

TOO_OLD_AFTER: Final = timedelta(days=30)
"""An event about something that happened longer ago is a repetition: Wise delivers for two weeks."""
KEPT_FOR: Final = timedelta(days=60)
"""How long the newest event about an account is kept: longer than an older one could still be taken."""
AHEAD: Final = timedelta(hours=1)
"""How far ahead of our clock an event may have happened."""
LISTED_OF_TENANT: Final = 50
"""How many grants of one tenant's are listed for one Wise user: more than a user has profiles to act for.

Nobody checks the `wise_user_id` of an import, so that a tenant can name any user in as many grants as it likes.
"""
LISTED: Final = 1_000
"""How many grants are listed for one Wise user at all: with the longest ids two thirds of what an item may hold."""
_PREFIX: Final = "state#"
_TYPE: Final = re.compile(r"[a-z0-9-]{1,64}#[a-z0-9-]{1,64}", re.ASCII)


class Subject(StrEnum):
    """What kind of account it is about."""

    USER = "user"
    PROFILE = "profile"

    @property
    def event_type(self) -> str:
        """How Wise names the events about it."""
        return f"{self}s#state-change"

    @property
    def orderer(self) -> str:
        """Who gives the order to stop its grants: a name that no partner service can have."""
        return f"Wise {self.event_type}"


class AccountState(StrEnum):
    """The state that Wise says an account is in.

    The first three are documented for users (docs.wise.com/api-reference/webhook-event/eventusersstatechange), the
    last two are what a profile may be besides; only one of all closes the account to us.
    """

    ACTIVE = "ACTIVE"
    WITHDRAW_ONLY = "WITHDRAW_ONLY"
    DEACTIVATED = "DEACTIVATED"
    VISIBLE = "VISIBLE"
    HIDDEN = "HIDDEN"


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a profile of Wise's, by its id there."""

    subject: Subject
    wise_id: str

    @property
    def key(self) -> GrantKey:
        """Where the newest event about it is kept: beside the grants, under a key that no caller can name."""
        return GrantKey("", f"{_PREFIX}{self.subject}#{self.wise_id}")

    @classmethod
    def of(cls, key: GrantKey) -> Account | None:
        """Read such a key. `None`: it is of something else."""
        subject, _, wise_id = key.grant_id.removeprefix(_PREFIX).partition("#")
        if key.tenant or not key.grant_id.startswith(_PREFIX) or subject not in list(Subject) or not wise_id:
            return None
        return cls(Subject(subject), wise_id)


@dataclass(frozen=True, slots=True)
class StateChange:
    """One event: which account is in which state since when. `occurred_at` is aware UTC, with milliseconds.

    `delivery_id` names the delivery that told it, for Wise's support. `was_closed`: Wise had closed the account before,
    and nothing may have followed from that yet. Of a state that closes it is not told.
    """

    account: Account
    state: AccountState
    occurred_at: datetime
    delivery_id: str | None = None
    was_closed: bool = False

    @property
    def closes(self) -> bool:
        """Whether Wise has ended the tokens."""
        return self.state is AccountState.DEACTIVATED

    @property
    def rank(self) -> int:
        """What decides between two events about one account: the higher counts, and one that is as high is no news."""
        since = self.occurred_at - datetime.fromtimestamp(0, UTC)
        return 2 * (since // timedelta(milliseconds=1)) + self.closes


def has_room(listed: Collection[GrantKey], key: GrantKey) -> bool:
    """Tell whether a grant may be listed for a Wise user for whom these are. One that is listed stays so.

    Whoever is listed is counted before the write, so that writes at the same time may come to a few more.
    """
    if key in listed:
        return True
    return len(listed) < LISTED and sum(one.tenant == key.tenant for one in listed) < LISTED_OF_TENANT


class Unread(Enum):
    """Why nothing follows from an event that is Wise's."""

    OTHER = "other"
    """Its type is none that we ask for."""
    UNREADABLE = "unreadable"
    """A part of it is missing, or of a form that is not documented."""
    OLD = "old"
    """What it tells happened so long ago that it is a repetition."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What was read of an event. `event_type` is absent where it has none that may be shown."""

    event_type: str | None
    told: StateChange | Unread


def read_event(content: bytes, now: datetime, delivery_id: str | None = None) -> Notice:
    """Read the body of an event that is certainly Wise's, of schema 2.0.0 or 4.0.0, which agree in what is read here.

    docs.wise.com/guides/developer/webhooks/event-handling: `event_type`, and in `data` the `resource` with its `id`,
    `current_state` and `occurred_at`; `previous_state`, if it is there. Never raises.
    """
    try:
        payload: Any = json.loads(content)
        event_type = payload["event_type"]
        data = payload["data"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return Notice(None, Unread.UNREADABLE)
    if not isinstance(event_type, str) or not _TYPE.fullmatch(event_type):
        return Notice(None, Unread.UNREADABLE)
    subject = next((subject for subject in Subject if subject.event_type == event_type), None)
    return Notice(event_type, Unread.OTHER if subject is None else _change(subject, data, now, delivery_id))


def _change(subject: Subject, data: Any, now: datetime, delivery_id: str | None) -> StateChange | Unread:  # noqa: ANN401 - JSON
    try:
        number, state, instant = data["resource"]["id"], data["current_state"], data["occurred_at"]
    except (TypeError, KeyError):
        return Unread.UNREADABLE
    occurred_at = parse_instant(instant)
    if occurred_at is None or state not in list(AccountState) or occurred_at > now + AHEAD:
        return Unread.UNREADABLE
    try:
        wise_id = checked_id("id", str(number) if type(number) is int else number)
    except (InvalidInput, TypeError):
        return Unread.UNREADABLE
    if occurred_at <= now - TOO_OLD_AFTER:
        return Unread.OLD
    whole = occurred_at - timedelta(microseconds=occurred_at.microsecond % 1000)
    change = StateChange(Account(subject, wise_id), AccountState(state), whole, delivery_id)
    was_closed = data.get("previous_state") == AccountState.DEACTIVATED.value
    return replace(change, was_closed=was_closed and not change.closes)
