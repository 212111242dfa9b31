"""Linking a user of Wise's: start, the browser's way back, and the partner's word whose browser it was.

A `state` alone does not prove that the browser is the customer's: who forwards the link to somebody else would bind
that person's account. So the tokens wait until the partner, who knows the logged-in user, confirms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from token_rotator.domain.errors import StoreUnavailable
from token_rotator.domain.grant import GrantKind, Phase
from token_rotator.domain.lease import KEEP_PAUSE, KEEP_TRIES
from token_rotator.domain.link import (
    CONFIRM_FOR,
    LINK_FOR,
    Link,
    LinkFailure,
    PendingTokens,
    hash_of,
    is_of,
    is_outdated,
    linked,
    read_token,
)
from token_rotator.domain.outcome import (
    ClientRefused,
    GrantInvalid,
    NotSent,
    Refreshed,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
    name_of,
)

from .adopt_grant import Declined, Kept, Patience
from .journal import CodeExchanged, LinkEnded, LinkLost
from .ports import AlreadyHeld, Done, Refused, When

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from token_rotator.domain.grant import Grant, GrantKey
    from token_rotator.domain.lease import Budgets
    from token_rotator.domain.outcome import Outcome
    from token_rotator.domain.tokens import Secret

    from .journal import Journal
    from .ports import (
        ClientAsker,
        CodeExchange,
        GrantReader,
        GrantRegistry,
        LinkSealer,
        LinkStore,
        NewEnvelope,
        SuspensionReader,
    )

_REFUSED: Final = "access_denied"
"""RFC 6749 §4.1.2.1: the user said no."""


@dataclass(frozen=True, slots=True)
class Started:
    """What the user's browser takes along to Wise and back, by when. It is for this one browser."""

    state: Secret
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class StartLink:
    """Starts a link for a grant that is there or will be, and not suspended. Writes one item, talks to nobody."""

    grants: GrantReader
    links: LinkStore
    client_id: str
    redirect_uri: str
    clock: Callable[[], datetime]
    new_token: Callable[[], Secret]
    suspensions: SuspensionReader

    def __call__(self, key: GrantKey, partner: str, return_url: str | None) -> Started | Declined:
        """Start. `return_url` is one that the partner may use. Raises what the stores raise."""
        if self.suspensions.read().of(key.tenant) is not None:
            return Declined.SUSPENDED
        grant = self.grants.get(key)
        if grant is not None and grant.phase is Phase.SUSPENDED:
            return Declined.SUSPENDED
        if grant is not None and grant.kind is not GrantKind.USER:
            return Declined.DIFFERENT_KIND
        now, state = self.clock(), self.new_token()
        link = Link(
            hashed=hash_of(state),
            key=key,
            partner=partner,
            redirect_uri=self.redirect_uri,
            client_id=self.client_id,
            started_at=now,
            ends_at=now + LINK_FOR,
            return_url=return_url,
            profile_id=None if grant is None else grant.profile_id,
            grant_since=None if grant is None else grant.created_at,
        )
        self.links.begin(link)
        return Started(state, link.ends_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What came back from Wise: `error` instead of a code where the user or Wise refused.

    `of`: the grant that the caller speaks of, where one does; a link of any other is unknown to it.
    """

    state: str | None
    code: Secret | None = None
    profile_id: str | None = None
    error: str | None = None
    of: GrantKey | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """The new tokens wait for the partner's word."""

    link: Link
    link_id: Secret
    confirm_before: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """The link led to nothing; `link` is absent where none is known. `again`: the same request may be made again."""

    why: LinkFailure
    link: Link | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class TakeArrival:
    """Exchanges the code that came back, once, and keeps the tokens until the partner confirms.

    Whatever the exchange needs is had before the `state` is used up: credentials, and data keys for both tokens. A code
    is single use and a new authorization ends the old refresh token at once, so after sending only the store is needed,
    and the time to reach it: without that much left nothing is sent. Nothing is ever sent twice: without an answer the
    user begins anew.
    """

    links: LinkStore
    exchange: CodeExchange
    sealer: LinkSealer
    journal: Journal
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]
    new_id: Callable[[], str]
    new_token: Callable[[], Secret]
    suspensions: SuspensionReader
    client: ClientAsker

    def __call__(self, arrival: Arrival) -> Arrived | Failed:
        """Take it. Raises what the stores, the sealer and the credentials raise; then the `state` is not used up."""
        ends = self.clock() + self.budgets.serve_function
        state = read_token(arrival.state)
        link = None if state is None else self.links.look(hash_of(state))
        if link is None or arrival.of not in (None, link.key):
            return Failed(LinkFailure.UNKNOWN)
        ended = _ended(link, self.clock())
        if ended is not None:
            return self._failed(link, ended)
        why = self._foreseen(link, arrival)
        # Had before the state is used up: a fault of ours then costs the user a reload, not another authorization.
        if why is None and self.suspensions.read().of(link.key.tenant) is not None:
            return self._failed(link, LinkFailure.SUSPENDED, again=True)
        envelope = self._prepared(link) if why is None else None
        if why is None and self.clock() + self.budgets.exchange > ends:
            return self._failed(link, LinkFailure.OUR_FAULT, again=True)
        attempt_id = self.new_id()
        used = self._used(link, attempt_id)
        if used is None or used.used_by != attempt_id:
            return self._failed(link, (used and _ended(used, self.clock())) or LinkFailure.UNKNOWN)
        if envelope is None or arrival.code is None:
            return self._failed(link, why or LinkFailure.CODE_REFUSED)
        if self.clock() + self.budgets.exchanging > ends:  # finding out whose the link is may have taken long
            return self._failed(link, LinkFailure.OUR_FAULT)
        outcome = self.exchange.exchange(
            arrival.code, redirect_uri=link.redirect_uri, attempt_id=attempt_id, within=self.budgets.http
        )
        return self._answered(link, arrival.profile_id, attempt_id, outcome, envelope)

    def _foreseen(self, link: Link, arrival: Arrival) -> LinkFailure | None:
        """Say why there will be no exchange.

        Of a profile that another grant holds there must be none: it would end that grant's refresh token, and nothing
        would come of it.
        """
        why = _judged(link, arrival)
        if why is not None or arrival.profile_id is None:
            return why
        holder = self.links.holder(arrival.profile_id)
        return LinkFailure.ALREADY_HELD if holder not in (None, link.key) else None

    def _used(self, link: Link, attempt_id: str) -> Link | None:
        """Use the link up. After a write without an answer one look tells whether it was carried out."""
        try:
            return self.links.use(link.hashed, attempt_id, self.clock())
        except StoreUnavailable:
            found = self.links.look(link.hashed)
            if found is None or found.used_at is None:
                raise
            return found

    def _prepared(self, link: Link) -> NewEnvelope:
        """Have what an exchange needs."""
        self.exchange.check_client(link.client_id)
        return self.sealer.prepare_new(link.key)

    def _answered(
        self, link: Link, profile_id: str | None, attempt_id: str, outcome: Outcome, envelope: NewEnvelope
    ) -> Arrived | Failed:
        self.journal.record(
            CodeExchanged(
                key=link.key,
                attempt_id=attempt_id,
                outcome=name_of(outcome),
                status=outcome.status,
                error=outcome.error,
                trace_id=outcome.trace_id,
            )
        )
        if isinstance(outcome, ClientRefused):  # too late for this code: the next link takes what Wise accepts
            self.client.settle_client(attempt_id=attempt_id, within=self.budgets.http)
        why = _why(outcome)
        if not isinstance(outcome, Refreshed) or outcome.tokens.refresh_token is None:
            return self._failed(link, why or LinkFailure.WISE_UNAVAILABLE)
        tokens, link_id = outcome.tokens, self.new_token()
        shown = None
        if profile_id is not None:
            shown = self.exchange.profiles(tokens.access_token, attempt_id=attempt_id, within=self.budgets.ask)
        if shown is not None and profile_id not in shown.ids:  # the browser may have named any; no answer is none
            return self._failed(link, LinkFailure.DIFFERENT_PROFILE)
        confirm_before = self.clock() + CONFIRM_FOR
        pending = PendingTokens(
            hashed=hash_of(link_id),
            key=link.key,
            attempt_id=attempt_id,
            access_token=envelope.seal_access_token(tokens.access_token),
            refresh_token=envelope.seal_refresh_token(outcome.tokens.refresh_token),
            issued_at=tokens.issued_at,
            expires_at=tokens.expires_at,
            confirm_before=confirm_before,
            refresh_expires_at=tokens.refresh_expires_at,
            scope=tokens.scope,
            profile_id=profile_id,
            wise_user_id=None if shown is None else shown.user_id,
            grant_since=link.grant_since,
            due_at=confirm_before + self.budgets.late_word,
        )
        if not self._kept(pending):
            self.journal.record(LinkLost(key=link.key, attempt_id=attempt_id))
            return self._failed(link, LinkFailure.OUR_FAULT)
        self.journal.record(LinkEnded(key=link.key, partner=link.partner, result="arrived"))
        return Arrived(link, link_id, confirm_before)

    def _kept(self, pending: PendingTokens) -> bool:
        """Keep the tokens. Twice does no harm, and nobody else can know their `link_id`."""
        for left in reversed(range(KEEP_TRIES)):
            try:
                self.links.keep(pending)
            except StoreUnavailable:
                if left:
                    self.sleep(KEEP_PAUSE)
            else:
                return True
        return False

    def _failed(self, link: Link, why: LinkFailure, *, again: bool = False) -> Failed:
        self.journal.record(LinkEnded(key=link.key, partner=link.partner, result=why.value))
        return Failed(why, link, again)


def _ended(link: Link, now: datetime) -> LinkFailure | None:
    """Say why a link can lead to nothing any more."""
    if link.used_at is not None:
        return LinkFailure.USED
    return LinkFailure.EXPIRED if link.ends_at <= now else None


def _judged(link: Link, arrival: Arrival) -> LinkFailure | None:
    """Say why what came back is not worth an exchange, by what is known without asking Wise.

    The profile is compared before the code is exchanged: the exchange of another profile's code would be a grant that
    nobody asked for.
    """
    if arrival.error is not None:
        return LinkFailure.CONSENT_REFUSED if arrival.error == _REFUSED else LinkFailure.WISE_REFUSED
    if arrival.code is None:
        return LinkFailure.CODE_REFUSED
    if arrival.profile_id is None:
        # A Wise account may have none yet, and then there is nothing to act for. A partner need not tell a first one.
        told = arrival.of is not None and link.profile_id is None
        return None if told else LinkFailure.NO_PROFILE
    return LinkFailure.DIFFERENT_PROFILE if link.profile_id not in (None, arrival.profile_id) else None


def _why(outcome: Outcome) -> LinkFailure | None:
    match outcome:
        case Refreshed():
            return None
        case GrantInvalid():
            return LinkFailure.CODE_REFUSED
        case ClientRefused() | WeAreWrong():
            return LinkFailure.OUR_FAULT
        case NotSent() | Throttled() | ServerFault() | Unknown():
            return LinkFailure.WISE_UNAVAILABLE
        case _:
            assert_never(outcome)


@dataclass(frozen=True, slots=True)
class ConfirmLink:
    """Makes the tokens of a link the grant's own, because the partner says that its user is the one who came back.

    One conditional write, as adopting is: nobody refreshes meanwhile, and what is still under way for the old tokens
    changes nothing afterwards. The tokens are spent in the same transaction, so that a repeated confirmation finds
    them spent and answers alike: it must not bring them back over newer ones. What is turned down is forgotten. Opens
    nothing, seals nothing.
    """

    grants: GrantRegistry
    links: LinkStore
    budgets: Budgets
    clock: Callable[[], datetime]
    sleep: Callable[[timedelta], None]

    def __call__(self, key: GrantKey, link_id: str) -> Kept | Declined:
        """Confirm. Raises what the store raises; asking again is safe."""
        token = read_token(link_id)
        if token is None:
            return Declined.NOT_FOUND
        patience = Patience(self.grants, self.budgets, self.clock, self.sleep)
        began = self.clock()
        while True:
            pending = self.links.pending(hash_of(token))
            if pending is None or pending.key != key:
                return Declined.NOT_FOUND
            if pending.confirmed_version is not None:
                grant = self.grants.get(key)
                return Declined.NOT_FOUND if grant is None else Kept(grant, created=False)
            if pending.confirm_before <= began:
                return self._forgotten(pending, Declined.LINK_EXPIRED)
            found = patience.unheld(key, began + self.budgets.serve)
            if isinstance(found, Declined) and found is not Declined.NOT_FOUND:
                return found
            answer = self._written(pending, None if isinstance(found, Declined) else found)
            if isinstance(answer, Declined):
                return self._forgotten(pending, answer)
            if not isinstance(answer, Refused):
                return answer

    def _forgotten(self, pending: PendingTokens, why: Declined) -> Declined:
        """Turn a link down for good: whose the tokens in it are nobody will say any more."""
        self.links.forget(pending.hashed)
        return why

    def _written(self, pending: PendingTokens, before: Grant | None) -> Kept | Declined | Refused:
        """Write once. `Refused`: somebody was faster, look again."""
        if not is_of(pending, before):
            return Declined.NOT_FOUND
        if before is not None and before.profile_id not in (None, pending.profile_id):
            return Declined.DIFFERENT_PROFILE
        if before is not None and before.kind is not GrantKind.USER:
            return Declined.DIFFERENT_KIND
        if pending.refresh_token is None or is_outdated(pending, before, self.budgets):
            return Declined.LINK_EXPIRED
        after = linked(before, pending, self.clock(), self.budgets)
        if before is None:
            answer = self.grants.create(after, pending.hashed)
        else:
            when = When(
                attempt_id=before.attempt_id,
                version=before.version,
                phase=before.phase,
                in_doubt=before.in_doubt,
                alert=before.alert,
            )
            answer = self.grants.replace(before, after, when, pending.hashed)
        match answer:
            case Done(grant):
                return Kept(grant, created=before is None)
            case AlreadyHeld():
                return Declined.ALREADY_HELD
            case _:
                return answer
