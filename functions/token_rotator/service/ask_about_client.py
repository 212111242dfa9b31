"""Asking Wise about our client, where that may end the application's own token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.domain.errors import CorruptGrant, StoreUnavailable
from token_rotator.domain.grant import APPLICATION
from token_rotator.domain.outcome import ClientAccepted, ServerFault, Unknown

from .journal import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.outcome import ClientCheck

    from .journal import Journal
    from .ports import ClientAsker, Doubts


@dataclass(frozen=True, slots=True)
class AskAboutClient:
    """Asks, and puts the application's own token in doubt where the question may have ended it.

    Wise is asked by `client_credentials`, and does not say whether a second application token ends the first. A
    question without an answer may still be carried out, so that no new token is had before that is over. Costs one
    write, whether there is such a token or not; one that fails is on record.
    """

    wise: ClientAsker
    doubts: Doubts
    journal: Journal
    budgets: Budgets
    clock: Callable[[], datetime]

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        """See `ClientAsker.settle_client`."""
        check = self.wise.settle_client(attempt_id=attempt_id, within=within)
        match check:
            case ClientAccepted() | ServerFault():
                self._doubt(attempt_id, self.clock())
            case Unknown():
                self._doubt(attempt_id, self.clock() + self.budgets.settle + self.budgets.margin)
            case _:
                pass
        return check

    def _doubt(self, attempt_id: str, due_at: datetime) -> None:
        try:
            self.doubts.doubt(APPLICATION, attempt_id, due_at)
        except (StoreUnavailable, CorruptGrant) as error:
            self.journal.record(Trouble(key=APPLICATION, code=error.code, detail="doubting the application token"))
