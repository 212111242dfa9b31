"""Dropping the tokens of a link that nobody confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .journal import LinkUnconfirmed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .journal import Journal
    from .ports import LinkStore


@dataclass(frozen=True, slots=True)
class DropTokens:
    """Drops what Wise issued for a link once no confirmation can come to its end any more.

    They may be a stranger's: who was sent somebody else's link and consented. One conditional write, so that of a drop
    and a confirmation that meet one does nothing. What is left of the link still answers who confirms too late.
    """

    links: LinkStore
    journal: Journal
    clock: Callable[[], datetime]

    def __call__(self, hashed: str) -> None:
        """Drop them if they are due. Raises what the store raises; then they stay due."""
        dropped = self.links.drop(hashed, self.clock())
        if dropped is not None:
            self.journal.record(LinkUnconfirmed(key=dropped.key, attempt_id=dropped.attempt_id))
