"""An answer of Wise's on its way into the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from .grant import GrantKey
    from .tokens import Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAnswer:
    """What Wise issued to one attempt, sealed: all that is needed to store it, now or later.

    `base_version` is the grant's version when the attempt began. `refresh_token` is absent where the answer left it
    as it was. `reissued` says for what reason the tokens were had for the registration code, where on-call should know.
    `foreign`: what it replaces was dead before its time, so that somebody else refreshes the same grant. `trace_id` is
    Wise's of the request that people are told of: this answer's, or, where `foreign`, the question's that found it out.
    """

    key: GrantKey
    attempt_id: str
    base_version: int
    access_token: Sealed
    refresh_token: Sealed | None
    issued_at: datetime
    expires_at: datetime
    refresh_expires_at: datetime | None = None
    scope: str | None = None
    reissued: str | None = None
    foreign: bool = False
    trace_id: str | None = None
