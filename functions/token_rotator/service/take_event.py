"""Taking an event of Wise's: is it Wise's, what does it say, and one write that keeps it for the sweep."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from token_rotator.domain.state_change import StateChange, read_event

from .journal import EventTaken

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .journal import Journal
    from .ports import SignatureCheck, StateNotes

MAX_EVENT: Final = 65_536
"""Bytes: hundreds of times what Wise sends, and little enough to be hashed for anybody."""


class Taken(StrEnum):
    """What became of an event of Wise's that a grant may follow from."""

    NOTED = "noted"
    """The sweep does the rest."""
    KNOWN = "known"
    """It came before, or something newer did."""
    TEST = "test"
    """Wise only tried whether the address answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What came in. The headers around the content are signed by nobody."""

    content: bytes
    signature: str | None
    delivery_id: str | None = None
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class TakeEvent:
    """Takes an event and answers at once: a conditional write at most, no call to Wise, no key, no grant.

    What is not certainly Wise's leaves no trace here. Of what is, everything is taken, so that Wise does not deliver
    for two weeks what we have no use for.
    """

    signatures: SignatureCheck
    states: StateNotes
    journal: Journal
    clock: Callable[[], datetime]

    def __call__(self, delivery: Delivery) -> bool:
        """Take it. False: it is not Wise's. Raises what the store raises: then Wise has to deliver it again."""
        content, signature = delivery.content, delivery.signature
        if signature is None or len(content) > MAX_EVENT or not self.signatures.is_authentic(content, signature):
            return False
        now = self.clock()
        notice = read_event(content, now, delivery.delivery_id)
        told = notice.told
        if delivery.is_test:
            result = Taken.TEST.value
        elif isinstance(told, StateChange):
            result = (Taken.NOTED if self.states.note(told, now) else Taken.KNOWN).value
        else:
            result = told.value
        self.journal.record(EventTaken(result=result, event_type=notice.event_type, delivery_id=delivery.delivery_id))
        return True
