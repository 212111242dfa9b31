"""Linking: a user authorizes our Wise application in a browser, and a partner says whose browser it was.

Two things in it are known by a random string that only their holder has: the link, by its `state`, and the tokens that
came of it, by their `link_id`. Both are stored under the string's hash: who reads the store can use neither.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .grant import Grant, GrantKey, Phase
from .policy import next_due, refresh_at
from .tokens import Secret

if TYPE_CHECKING:
    from datetime import datetime

    from .lease import Budgets
    from .tokens import Sealed

LINK_FOR: Final = timedelta(minutes=15)
"""How long after its start a link may come back from Wise: time to sign in and to find the second factor."""
CONFIRM_FOR: Final = timedelta(minutes=10)
"""How long new tokens wait for the partner to say whose they are."""
FORGOTTEN_AFTER: Final = timedelta(hours=1)
"""How long after its time a link or its tokens may still be told from one that never was."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_WAITING: Final = "pending#"


class LinkFailure(StrEnum):
    """Why a link led to nothing. The value is the `error` that a partner's return URL gets."""

    CONSENT_REFUSED = "access_denied"
    UNKNOWN = "link_unknown"
    USED = "link_used"
    EXPIRED = "link_expired"
    CODE_REFUSED = "code_refused"
    """Wise does not take the code: too old, used, or none of ours."""
    NO_PROFILE = "profile_missing"
    DIFFERENT_PROFILE = "different_profile"
    ALREADY_HELD = "already_held"
    """Another grant holds the profile, and works."""
    WISE_UNAVAILABLE = "wise_unavailable"
    WISE_REFUSED = "wise_refused"
    """Wise sent the browser back with an error of its own."""
    OUR_FAULT = "internal_error"
    SUSPENDED = "suspended"
    """An operator has stopped the tenant or everything. The link is not used up."""


@dataclass(frozen=True, slots=True)
class ProfilesShown:
    """For which profiles of Wise's an access token is good, and of which user; absent where Wise does not say it."""

    ids: frozenset[str]
    user_id: str | None = None


def read_token(text: str | None) -> Secret | None:
    """Read a `state` or a `link_id`: 32 bytes as base64url. `None` for anything of another form."""
    return Secret(text) if text is not None and _TOKEN.fullmatch(text) else None


def hash_of(token: Secret) -> str:
    """Give what a link or its tokens are stored under. 256 random bits need no salt."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link under way. Known by the hash of its `state`.

    `profile_id` and `grant_since` are of the grant at the link's start: both absent where there was none. `used_by`
    is the attempt that came back with the `state`; there is at most one.
    """

    hashed: str
    key: GrantKey
    partner: str
    redirect_uri: str
    client_id: str
    started_at: datetime
    ends_at: datetime
    return_url: str | None = None
    profile_id: str | None = None
    grant_since: datetime | None = None
    used_at: datetime | None = None
    used_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTokens:
    """What Wise issued for a link, sealed for its grant, until the partner confirms. Known by the hash of `link_id`.

    `confirmed_version` is the version that it became; from then on it is spent, and holds no tokens any more. Neither
    does one that was turned down, or dropped because nobody confirmed it. `attempt_id` is of the exchange. `due_at` is
    when they are dropped, and absent where there is nothing to drop.
    """

    hashed: str
    key: GrantKey
    attempt_id: str
    issued_at: datetime
    expires_at: datetime
    confirm_before: datetime
    access_token: Sealed | None = None
    refresh_token: Sealed | None = None
    refresh_expires_at: datetime | None = None
    scope: str | None = None
    profile_id: str | None = None
    wise_user_id: str | None = None
    grant_since: datetime | None = None
    confirmed_version: int | None = None
    due_at: datetime | None = None


def waiting_key(hashed: str) -> GrantKey:
    """Give where a link's tokens wait: beside the grants, under a key that no caller can name."""
    return GrantKey("", f"{_WAITING}{hashed}")


def waiting_under(key: GrantKey) -> str | None:
    """Read such a key. `None`: it is of something else."""
    if key.tenant or not key.grant_id.startswith(_WAITING):
        return None
    return key.grant_id.removeprefix(_WAITING)


def is_of(pending: PendingTokens, grant: Grant | None) -> bool:
    """Tell whether the grant that the link was started for is the one that is stored.

    One that was forgotten meanwhile must not come back by a link that was on its way.
    """
    if pending.grant_since is None:
        return True
    return grant is not None and grant.created_at == pending.grant_since


def is_outdated(pending: PendingTokens, grant: Grant | None, budgets: Budgets) -> bool:
    """Tell whether the stored tokens stem from a later authorization than a link's, which ended the link's then.

    What counts is when each authorization was exchanged or imported: a refresh of older tokens makes them no newer.
    """
    authorized_at = None if grant is None else grant.authorized_at
    return authorized_at is not None and authorized_at > pending.issued_at + budgets.margin


def linked(before: Grant | None, pending: PendingTokens, now: datetime, budgets: Budgets) -> Grant:
    """Say what the grant becomes with the tokens of a link: a new version, at rest, nothing of the old one's left.

    A registration code stays, and so does a suspension; what people were told is over. The new access token is in doubt
    where a refresh was under way, or was sent after Wise had issued it: it may have been carried out on the new
    authorization. Where our clocks cannot tell which of two authorizations was the later one, a refresh at once does.
    """
    version = int(now.timestamp() * 1000)
    if before is not None:
        version = max(version, before.version + 1)
    in_doubt = None if before is None else _doubt(before, pending, budgets)
    refresh = max(refresh_at(pending.key, version, pending.issued_at, pending.expires_at), now)
    if before is not None and before.reissuable and in_doubt is not None:
        refresh = now  # a reissue that nobody waits for any more ends a refresh token, and no access token
    if before is not None and _as_old(before, pending, budgets):
        in_doubt, refresh = in_doubt or pending.attempt_id, now
    alert = None if before is None or before.alert is None else before.alert.over(now, before.alert.attempt_id)
    grant = before or Grant(
        key=pending.key,
        phase=Phase.ACTIVE,
        refresh_token=pending.refresh_token,
        version=version,
        refresh_at=refresh,
        created_at=now,
    )
    stopped = grant.phase is Phase.SUSPENDED
    after = replace(
        grant,
        phase=Phase.SUSPENDED if stopped else Phase.ACTIVE,
        suspended_from=Phase.ACTIVE if stopped else None,
        access_token=pending.access_token,
        refresh_token=pending.refresh_token,
        version=version,
        issued_at=pending.issued_at,
        expires_at=pending.expires_at,
        refresh_expires_at=pending.refresh_expires_at,
        expiry_told=None,
        authorized_at=pending.issued_at,
        scope=pending.scope,
        attempt_id=None,
        lease_until=None,
        in_doubt=in_doubt,
        hold_until=None,
        refresh_at=refresh,
        failures=0,
        takeovers=0,
        last_error=None,
        alert=alert,
        unproven=False,
        profile_id=pending.profile_id or grant.profile_id,
        wise_user_id=pending.wise_user_id or grant.wise_user_id,
        user_rank=grant.user_rank if pending.wise_user_id in (None, grant.wise_user_id) else None,
    )
    return replace(after, due_at=now if in_doubt and not stopped else next_due(after, now))


def _as_old(before: Grant, pending: PendingTokens, budgets: Budgets) -> bool:
    """Tell whether the stored tokens' authorization may have been the later one. `is_outdated` ones come no further."""
    return before.authorized_at is not None and before.authorized_at >= pending.issued_at - budgets.margin


def _doubt(before: Grant, pending: PendingTokens, budgets: Budgets) -> str | None:
    """Name the attempt that may have killed the new access token."""
    if before.attempt_id or before.in_doubt:
        return before.attempt_id or before.in_doubt
    tried_at = before.last_attempt_at
    raced = tried_at is not None and tried_at >= pending.issued_at - budgets.lease - budgets.margin
    return pending.attempt_id if raced else None
