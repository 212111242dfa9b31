"""What the use cases need from the world. The contract is here; adapters do not repeat it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from token_rotator.domain.answer import SealedAnswer
    from token_rotator.domain.certificate import CertificateWatch
    from token_rotator.domain.fleet import Fleet, Lane
    from token_rotator.domain.grant import Alert, Grant, GrantKey, Phase
    from token_rotator.domain.lease import Lease
    from token_rotator.domain.link import Link, PendingTokens, ProfilesShown
    from token_rotator.domain.outcome import ClientCheck, Outcome, Said
    from token_rotator.domain.state_change import Account, StateChange
    from token_rotator.domain.suspension import Suspension, Suspensions
    from token_rotator.domain.tokens import Registration, Sealed, SealedField, Secret

R = TypeVar("R")


class Ignored(Enum):
    """The value of a condition that is not asked."""

    IGNORED = "ignored"


IGNORED = Ignored.IGNORED


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """What must be stored for a write to take effect. Every field that is named must be equal; `None` means absent.

    A write that names neither the lease nor the version does not exist.
    """

    attempt_id: str | Ignored | None = IGNORED
    version: int | Ignored = IGNORED
    refresh_token: Sealed | Ignored | None = IGNORED
    registration: Sealed | Ignored | None = IGNORED
    in_doubt: str | Ignored | None = IGNORED
    phase: Phase | Ignored = IGNORED
    suspension: Suspension | Ignored | None = IGNORED
    due_at: datetime | Ignored | None = IGNORED
    alert: Alert | Ignored | None = IGNORED
    user_rank: int | Ignored | None = IGNORED
    profile_rank: int | Ignored | None = IGNORED


@dataclass(frozen=True, slots=True)
class Done:
    """The write took effect; `grant` is the grant as its writer sees it now."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition did not hold, nothing was written; `grant` is what was stored at that instant, if anything.

    It may also be the trace of a write of ours that took effect and whose answer the SDK lost.
    """

    grant: Grant | None


@dataclass(frozen=True, slots=True)
class AlreadyHeld:
    """Another grant holds the same Wise profile; nothing was written."""


@dataclass(frozen=True, slots=True)
class Due:
    """Refresh because it is due or in doubt."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refresh because a partner service says that Wise answered 401 to this version."""

    version: int


Cause = Due | Rejected


class GrantReader(Protocol):
    """Reading grants."""

    def get(self, key: GrantKey) -> Grant | None:
        """Read one grant, consistently.

        Raises `StoreUnavailable`, `StoreRefused`, `CorruptGrant`.
        """
        ...


class Doubts(Protocol):
    """Putting a grant in doubt from outside, whoever works on it."""

    def doubt(self, key: GrantKey, attempt_id: str, due_at: datetime) -> None:
        """Note that what `attempt_id` asked of Wise may have ended the stored access token. Unknown keys are no error.

        By `due_at` Wise is done with it: a token that was issued later stays as it is, however late this write comes.
        The grant is in doubt and due from then on, and its version is another: whatever was under way for the one
        before does not end this doubt. Twice does no harm. Errors as in `GrantStore`.
        """
        ...


class GrantStore(GrantReader, Doubts, Protocol):
    """Working on grants: every write is conditional.

    Each method raises `StoreUnavailable` when no answer came (the write may have taken effect all the same),
    `StoreRefused` when the deployment is at fault, `CorruptGrant` when what is stored cannot be read.
    """

    def acquire(self, key: GrantKey, lease: Lease, cause: Cause, now: datetime) -> Done | Refused:
        """Take a free lease in one write, without a read before it.

        Takes effect if the grant is active, nobody holds a lease (a lease that ran out counts as held), and: it is
        due (`refresh_at <= now`) and not on hold, or in doubt and not `due_at > now`, or `cause` rejects the version
        that is stored. A rejection also sets `due_at` to now, so that the sweep notices if its worker dies.
        """
        ...

    def write(self, before: Grant, after: Grant, when: When) -> Done | Refused:
        """Write what differs between two views of one grant, if `when` holds.

        Fields that are equal in both are not touched, whatever is stored in them by now.
        """
        ...

    def postpone(self, key: GrantKey, until: datetime, now: datetime) -> None:
        """Move `due_at` of a grant that could not even be read, if it is due now. Unknown keys are no error."""
        ...

    def begin(self, grant: Grant) -> None:
        """Store a grant that is not there yet; one that is there stays as it is, and is no error."""
        ...

    def stand_down(self, key: GrantKey, until: datetime, now: datetime, code: str) -> None:
        """Move `refresh_at` of a due grant that nobody may refresh now, and note why in `last_error`.

        Takes effect if the grant is active, nobody is at it, it is not in doubt, `refresh_at <= now < expires_at`;
        readers then get its token until `until`. Unknown keys and a condition that does not hold are no error.
        """
        ...


class GrantRegistry(GrantReader, Protocol):
    """The beginning and end of grants. Errors as in `GrantStore`.

    A grant with a `profile_id` claims that Wise profile in the same transaction: two grants of one Wise user would
    kill each other's tokens for ever. One with a `wise_user_id` is listed among that user's, in the same transaction.
    Where `has_room` says no it is stored all the same, as `unlisted`; what is `Done` says so.

    `link` is the hash of the link whose tokens are stored: in the same transaction they are spent, for the version
    that is written, and forgotten there. Tokens that are spent already, or are not there, are `Refused`.
    """

    def create(self, grant: Grant, link: str | None = None) -> Done | Refused | AlreadyHeld:
        """Store a grant that is not there yet."""
        ...

    def replace(self, before: Grant, after: Grant, when: When, link: str | None = None) -> Done | Refused | AlreadyHeld:
        """Store new tokens over an existing grant, if `when` holds."""
        ...

    def delete(self, grant: Grant, when: When) -> Done | Refused:
        """Forget a grant and its claim, if `when` holds."""
        ...


class LinkStore(Protocol):
    """Links under way and the tokens that came of them, by the hash of what their holder knows.

    Errors as in `GrantStore`. What is over may be gone an hour later.
    """

    def begin(self, link: Link) -> None:
        """Store a link that is not there yet."""
        ...

    def look(self, hashed: str) -> Link | None:
        """Read a link, consistently."""
        ...

    def use(self, hashed: str, attempt_id: str, now: datetime) -> Link | None:
        """Use a link up for one attempt, if it was not used before and its time is not over.

        Gives what is stored then: it was used by who asked if `used_by` says so.
        """
        ...

    def keep(self, pending: PendingTokens) -> None:
        """Store tokens until they are confirmed. Twice does no harm, and never undoes that they were spent."""
        ...

    def pending(self, hashed: str) -> PendingTokens | None:
        """Read the tokens of a link, consistently."""
        ...

    def forget(self, hashed: str) -> None:
        """Forget the tokens of a link, and nothing else of it. Unknown ones are no error, twice does no harm."""
        ...

    def drop(self, hashed: str, now: datetime) -> PendingTokens | None:
        """Forget the tokens of a link if they are due: nobody confirmed them, or turned them down, until then.

        Gives what is left of it; `None`: there was nothing to drop.
        """
        ...

    def holder(self, profile_id: str) -> GrantKey | None:
        """Say which grant holds a Wise profile, consistently."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a tenant's grants in the order of their ids: (grant_id, phase, created_at) each.

    `after` is where the next page begins, `None` on the last one.
    """

    rows: Sequence[tuple[str, str, datetime]]
    after: str | None


class GrantList(Protocol):
    """Listing a tenant's grants. A grant of the last moments may be missing still."""

    def page(self, tenant: str, limit: int, after: str | None) -> Page:
        """Give at most `limit` grants after the id `after`. Errors as in `GrantStore`."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """The calls to Wise may be made."""


@dataclass(frozen=True, slots=True)
class Paced:
    """The lane's calls are used up until this instant."""

    until: datetime


class RevisedStore(Protocol[R]):
    """A reserved item that is written as a whole. Errors as in `GrantStore`."""

    def read(self) -> R:
        """Read it, consistently; one without fields where nothing was ever stored."""
        ...

    def write(self, before: R, after: R) -> R | None:
        """Store `after`, if nobody wrote since `before` was read. Gives what is stored now, `None` if somebody did."""
        ...


class FleetStore(RevisedStore["Fleet"], Protocol):
    """What is kept about all grants together."""

    def count_death(self, now: datetime, within: timedelta) -> int:
        """Count one more grant that died, and give how many did in the last `within`, to the minute."""
        ...

    def admit(self, lane: Lane, calls: int, now: datetime) -> Admitted | Paced | Fleet:
        """Take `calls` (at most the lane's burst) of the calls that a lane may make, all or none.

        A `Fleet` says that the breaker is open: nothing was taken.
        """
        ...


CertificateStore: TypeAlias = "RevisedStore[CertificateWatch]"
"""What all processes together know of our certificate's end."""


class SuspensionReader(Protocol):
    """What is suspended. Errors as in `GrantStore`: who does not know it serves and refreshes nothing."""

    def read(self) -> Suspensions:
        """Give the orders in force, those given in the last seconds perhaps not."""
        ...


class SuspensionStore(SuspensionReader, Protocol):
    """The orders about tenants (`tenant`) and the environment (`None`). `read` gives what is stored now.

    Each change but `forget` is one write that needs no other to be known. Repeating it changes nothing.
    """

    def suspend(self, tenant: str | None, order: Suspension) -> Suspensions:
        """Put an order in force; one that is in force stays as it was given. Gives what is in force now."""
        ...

    def lift(self, tenant: str | None) -> Suspensions:
        """End an order, if there is one. Gives what is in force now."""
        ...

    def hold(self, tenant: str | None, order: Suspension) -> Suspensions:
        """Put an order to serve and not to refresh in force; otherwise as `suspend`."""
        ...

    def release(self, tenant: str | None, until: datetime) -> Suspensions:
        """End such an order, which still lasts until `until`, if there is one that is not ended yet."""
        ...

    def forget(self, before: datetime) -> None:
        """Remove such orders that were ended and lasted until an instant before this: not always all of them at once.

        One that is given anew meanwhile stays.
        """
        ...


class SignatureCheck(Protocol):
    """Telling Wise's events from anybody else's."""

    def is_authentic(self, content: bytes, signature: str) -> bool:
        """Tell whether one of Wise's keys signed exactly these bytes. Never raises."""
        ...


class StateNotes(Protocol):
    """Taking note of what became of accounts at Wise. Errors as in `GrantStore`."""

    def note(self, change: StateChange, now: datetime) -> bool:
        """Keep a change, due at once, unless what is kept of the account ranks as high. False: nothing was written.

        That the account was closed before stays with it until it is settled, whatever is kept meanwhile.
        """
        ...


class StateStore(Protocol):
    """What is kept about accounts, and whose grants they are. Errors as in `GrantStore`."""

    def look(self, account: Account) -> StateChange | None:
        """Give the newest change of an account that is kept, consistently."""
        ...

    def holders(self, account: Account) -> frozenset[GrantKey]:
        """Give the grants of a user or a profile, consistently."""
        ...

    def settle(self, change: StateChange) -> bool:
        """Have it due no longer. False: by now another change is kept of the account, and stays due."""
        ...


@dataclass(frozen=True, slots=True)
class Parked:
    """A message of the parking queue. `answer` is absent where this version cannot read it."""

    answer: SealedAnswer | None
    receipt: str


class Parking(Protocol):
    """Where an answer goes that no write takes. Raises `ParkingUnavailable`: it may be there all the same."""

    def park(self, answer: SealedAnswer) -> None:
        """Put an answer into the queue. Twice does no harm."""
        ...


class ParkingQueue(Parking, Protocol):
    """Taking parked answers out again. Raises `ParkingUnavailable`."""

    def receive(self) -> Sequence[Parked]:
        """Give up to ten, in no order. Whoever gets one has it for half a minute; none means none is visible."""
        ...

    def remove(self, parked: Parked) -> None:
        """Forget one for good."""
        ...

    def holds_any(self) -> bool:
        """Tell whether anything lies there, hidden or not. It may be a minute behind."""
        ...


class DueIndex(Protocol):
    """The index of what is due. It only proposes: it may be late, and every condition is on the item."""

    def due(self, shards: Sequence[int], now: datetime, limit: int) -> Sequence[tuple[datetime, GrantKey]]:
        """Give at most `limit` due grants a shard, most urgent first over all. Errors as in `GrantStore`."""
        ...


class Envelope(Protocol):
    """All that sealing needs for one refresh, obtained before the request is sent: no method does any I/O."""

    @property
    def refresh_token(self) -> Secret:
        """The stored refresh token."""
        ...

    def seal_access_token(self, token: Secret) -> Sealed:
        """Seal a new access token for the grant."""
        ...

    def seal_refresh_token(self, token: Secret) -> Sealed:
        """Seal a changed refresh token for the grant, under the grant's own data key."""
        ...


class ReissueEnvelope(Protocol):
    """The same for one reissue: what Wise then issues is new, so that the refresh token's data key is new too."""

    @property
    def registration(self) -> Registration:
        """The stored registration code with its e-mail."""
        ...

    def seal_access_token(self, token: Secret) -> Sealed:
        """Seal the new access token for the grant."""
        ...

    def seal_refresh_token(self, token: Secret) -> Sealed:
        """Seal the new refresh token for the grant, under a data key of its own."""
        ...


class ApplicationEnvelope(Protocol):
    """The same for one application token: nothing comes with it."""

    def seal_access_token(self, token: Secret) -> Sealed:
        """Seal the new access token."""
        ...


class RefreshSealer(Protocol):
    """Opening and sealing for who refreshes. Raises `KeyUnavailable`, `Unsealable`."""

    def prepare(self, key: GrantKey, refresh_token: Sealed) -> Envelope:
        """Open the refresh token and have a data key for whatever may be written."""
        ...

    def prepare_reissue(self, key: GrantKey, registration: Sealed) -> ReissueEnvelope:
        """Open the registration and have a data key for whatever may be written."""
        ...

    def prepare_application(self, key: GrantKey) -> ApplicationEnvelope:
        """Have a data key for an access token that comes alone."""
        ...

    def open_access_token(self, key: GrantKey, sealed: Sealed) -> Secret:
        """Open an access token."""
        ...


class AccessTokenOpener(Protocol):
    """Opening access tokens, and nothing else. Raises `KeyUnavailable`, `Unsealable`."""

    def open_access_token(self, key: GrantKey, sealed: Sealed) -> Secret:
        """Open an access token."""
        ...


class NewEnvelope(Protocol):
    """All that sealing the tokens of a new authorization needs, obtained before Wise is asked: no I/O from here on."""

    def seal_access_token(self, token: Secret) -> Sealed:
        """Seal the access token for the grant."""
        ...

    def seal_refresh_token(self, token: Secret) -> Sealed:
        """Seal the refresh token for the grant, under a data key that is to be the grant's own."""
        ...


class LinkSealer(Protocol):
    """Sealing what a link brings, and no opening. Raises `KeyUnavailable`."""

    def prepare_new(self, key: GrantKey) -> NewEnvelope:
        """Have a data key for either token of the grant."""
        ...


class Sealer(Protocol):
    """Sealing, and no opening. Raises `KeyUnavailable`."""

    def seal(self, key: GrantKey, field: SealedField, secret: Secret) -> Sealed:
        """Seal one field of one grant."""
        ...


class ClientAsker(Protocol):
    """Asking Wise about our client. It does not raise."""

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        """Find out which client credentials Wise accepts, by `client_credentials`: no grant of a user is touched.

        Reads the secret anew; asks with its current version, then with its previous one. What Wise accepts is used
        from then on. What Wise issues is thrown away, and may have ended the application token before.
        """
        ...


class Wise(ClientAsker, Protocol):
    """The provider. No call to it raises: what went wrong is an outcome."""

    def check_credentials(self) -> None:
        """Have client credentials to use, for what is sent next. Raises `WiseSecretUnusable`."""
        ...

    def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
        """Exchange a refresh token, once, within one deadline; calls, retries and follows nothing else."""
        ...

    def reissue(self, registration: Registration, *, attempt_id: str, within: timedelta) -> Outcome:
        """Have new tokens issued for a registration code; otherwise as `refresh`.

        It ends the user's refresh token, and leaves the access token alive. `GrantInvalid` says that the code is worth
        nothing any more.
        """
        ...

    def issue_application_token(self, *, attempt_id: str, within: timedelta) -> Outcome:
        """Have a token issued to our application itself, for the client credentials; otherwise as `refresh`.

        It comes without a refresh token, and is never `GrantInvalid`: nothing was presented that could be dead.
        """
        ...

    def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
        """Ask whether a user's access token lives, with a deadline for the whole call."""
        ...


class CodeExchange(Protocol):
    """The provider, as far as linking asks it. No answer of its raises: what went wrong is an outcome."""

    def check_client(self, client_id: str) -> None:
        """Have the credentials of this client to use, for what is sent next. Raises `WiseSecretUnusable`."""
        ...

    def exchange(self, code: Secret, *, redirect_uri: str, attempt_id: str, within: timedelta) -> Outcome:
        """Exchange an authorization code, once, within one deadline; retries and follows nothing.

        Codes are single use. `GrantInvalid`: Wise does not take this one.
        """
        ...

    def profiles(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> ProfilesShown | None:
        """Ask for which profiles an access token is good, with a deadline for the whole call; `None`: no answer."""
        ...


class AlertPublisher(Protocol):
    """Telling people."""

    def publish(self, key: GrantKey | None, alert: Alert) -> None:
        """Hand an alert to the topic; without a key it is about the whole deployment.

        Raises `PublishRefused` or `PublishUnknown`.
        """
        ...


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What became of an on-demand refresh, without any token.

    `outcome` is `refreshed`, `fresh` (nothing was to be done), `confirmed` (Wise says the token lives), `held`
    (somebody is at it), `failed`, `in_doubt`, `barred` (Wise may not be called now), `gone` (no such grant or not
    active), `suspended` (its tenant or everything is), `on_hold` (somebody else refreshes it) or `unusable` (no client
    credentials). `retry_after` says when trying again is worth while.
    """

    outcome: str
    version: int | None = None
    retry_after: timedelta | None = None


class Refresher(Protocol):
    """Asking for a refresh now, from a place that may see no refresh token."""

    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport:
        """Refresh one grant, once. Never raises: no answer, or a throttled one, is `failed`."""
        ...
