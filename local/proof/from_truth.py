"""Makes a history of the Wise emulator's own log and of a ledger of what was seen on our side.

Both must have been written on one machine: instants of the emulator's clock and of the ledger are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from local.proof.history import (
    NEVER,
    Asked,
    Died,
    History,
    Kind,
    Minted,
    Moment,
    Questioned,
    Record,
    RefreshAnswered,
    RefreshBegan,
    RefreshSettled,
    Told,
)
from local.wise import truth as wise

_NAME = 16
_BETWEEN = 1_000_000
"""So much room there is between two things that Wise did."""
_OK = 200
_REDIRECTS_AND_REFUSALS = range(300, 500)
_ISSUED = "issued"
_APPLICATION = "client_credentials"
_REPLACED = (wise.Death.REFRESH, wise.Death.NEW_APPLICATION_TOKEN)


def at(instant: datetime, *, seq: int | None = None, number: int = 0) -> Moment:
    """Make a moment for the ledger: `history_of` gives it its place.

    `seq` is the number of the last thing that Wise had done by then, where that is known, and `number` the place among
    what the ledger tells before Wise does the next one. Without them it comes before all that Wise did in the same
    millisecond.
    """
    return Moment(0 if seq is None else seq * _BETWEEN + number + 1, instant)


def history_of(
    truth: wise.Truth,
    ledger: Iterable[Record],
    grants: Mapping[str, str],
    *,
    healed: bool,
    every_write: bool = False,
    deadline: timedelta = timedelta(seconds=4.5),
    clock_ahead: timedelta = timedelta(0),
    unusable: Callable[[wise.RequestTruth], bool] = lambda _request: False,
    ours: Callable[[str | None], bool] = lambda correlation_id: correlation_id is not None,
    application: str | None = None,
    is_question: Callable[[wise.RequestTruth], bool] = lambda _request: False,
    was_noted: Callable[[wise.RequestTruth], bool] = lambda _request: True,
    personal: Mapping[str, str] | None = None,
) -> History:
    """Join the emulator's log with the ledger's records, whose moments come from `at`.

    `grants` names the grant of each user at Wise; users that are not named do not appear. An answer that came later
    than `deadline` after its request counts as one that did not arrive; so does one that was `unusable` by a fault.
    `ours` tells by the correlation id what the rotator sent, questions included. `clock_ahead`: how far Wise's clock
    was ahead of the machine's.

    `application` names the grant of the application's own token, if that is to appear; `is_question` tells which of our
    requests for one were questions about our client, whose token nobody keeps, and `was_noted` of which the table took
    the note. `personal` names the grant of each user's personal token.
    """
    log = _Log(
        truth=truth,
        grants=grants,
        deadline=deadline,
        clock_ahead=clock_ahead,
        unusable=unusable,
        ours=ours,
        application=application,
        is_question=is_question,
        was_noted=was_noted,
        personal=personal or {},
    )
    entries = sorted(log.entries(), key=lambda entry: entry[0])
    latest = 0
    placed: list[tuple[int, int, Record]] = []
    for seq, ms, record in entries:  # what the emulator did in one order stays in it, whatever its clock showed
        latest = max(latest, ms)
        placed.append((latest, seq, record))
    return _in_order(placed, list(ledger), healed=healed, every_write=every_write, ended_ms=truth.at_ms)


@dataclass(frozen=True, kw_only=True)
class _Log:
    """The emulator's log as records, each with its place in the emulator's own order."""

    truth: wise.Truth
    grants: Mapping[str, str]
    deadline: timedelta
    clock_ahead: timedelta
    unusable: Callable[[wise.RequestTruth], bool]
    ours: Callable[[str | None], bool]
    application: str | None
    is_question: Callable[[wise.RequestTruth], bool]
    was_noted: Callable[[wise.RequestTruth], bool]
    personal: Mapping[str, str]

    @cached_property
    def kinds(self) -> dict[str, wise.Kind]:
        """The kind of each token, by its hash."""
        return {token.sha256: token.kind for token in self.truth.tokens}

    def grant_of(self, user: str | None, kind: wise.Kind) -> str | None:
        """The grant that a token belongs to."""
        match kind:
            case wise.Kind.APPLICATION:
                return self.application
            case wise.Kind.PERSONAL:
                return self.personal.get(user or "")
            case _:
                return self.grants.get(user or "")

    @cached_property
    def names(self) -> dict[tuple[str | None, wise.Kind, int], str]:
        """Each token's name by its owner, kind and ordinal."""
        return {(token.user, token.kind, token.ordinal): token.sha256[:_NAME] for token in self.truth.tokens}

    @cached_property
    def refreshes(self) -> set[int | None]:
        """The ids of the refreshes; what another request made was given to the user otherwise: by a code."""
        return {
            request.id
            for request in self.truth.requests
            if request.grant_type == "refresh_token"
            or (request.grant_type == _APPLICATION and not self._questions(request))
        }

    def _questions(self, request: wise.RequestTruth) -> bool:
        return self.ours(request.correlation_id) and self.is_question(request)

    def entries(self) -> Iterable[tuple[int, int, Record]]:
        """Give (sequence number, epoch milliseconds, record), in no order."""
        for token in self.truth.tokens:
            yield from self._token(token)
        for request in self.truth.requests:
            yield from self._request(request)
        for use in self.truth.uses:
            yield from self._use(use)

    def _token(self, token: wise.TokenTruth) -> Iterable[tuple[int, int, Record]]:
        grant = self.grant_of(token.user, token.kind)
        if grant is None:
            return
        name = token.sha256[:_NAME]
        minted = Minted(
            when=_moment(token.minted_ms),
            grant=grant,
            token=name,
            kind=Kind(token.kind.value),
            expires_at=NEVER if token.expires_at_ms is None else _instant(token.expires_at_ms) - self.clock_ahead,
            request=str(token.minted_by_request) if token.minted_by_request in self.refreshes else None,
        )
        yield token.minted_seq, token.minted_ms, minted
        if token.killed_by is wise.Death.EXPIRY or token.died_seq is None or token.died_ms is None:
            return  # old age is told by `expires_at`; the emulator notices it late
        replaced = token.killed_by in _REPLACED and token.killed_by_request is not None
        died = Died(
            when=_moment(token.died_ms),
            grant=grant,
            token=name,
            request=str(token.killed_by_request) if replaced else None,
        )
        yield token.died_seq, token.died_ms, died

    def _request(self, request: wise.RequestTruth) -> Iterable[tuple[int, int, Record]]:
        if request.grant_type == _APPLICATION:
            yield from self._application(request)
            return
        grant = self.grants.get(request.user or "")
        if request.presented_ordinal is None:  # as if a personal token were a refresh token
            grant = self.personal.get(request.user or "", grant)
        if grant is None or request.grant_type != "refresh_token":
            return
        name, user = str(request.id), request.user
        began = RefreshBegan(
            when=_moment(request.begin_ms),
            grant=grant,
            request=name,
            attempt=request.correlation_id if self.ours(request.correlation_id) else None,
            presented=self.names.get((user, wise.Kind.REFRESH, request.presented_ordinal or 0)),
        )
        yield request.begin_seq, request.begin_ms, began
        if request.settled_seq is None or request.settled_ms is None:
            return
        settled = RefreshSettled(
            when=_moment(request.settled_ms),
            grant=grant,
            request=name,
            carried_out=request.carried_out,
            access=self.names.get((user, wise.Kind.ACCESS, request.access_ordinal or 0)),
            refresh=self.names.get((user, wise.Kind.REFRESH, request.refresh_ordinal or 0)),
        )
        yield request.settled_seq, request.settled_ms, settled
        if request.end_seq is None or request.end_ms is None:
            return
        told = RefreshAnswered(when=_moment(request.end_ms), grant=grant, request=name, told=self._told(request))
        yield request.end_seq, request.end_ms, told

    def _application(self, request: wise.RequestTruth) -> Iterable[tuple[int, int, Record]]:
        if self.application is None:
            return
        name, ours = str(request.id), self.ours(request.correlation_id)
        if self._questions(request):
            questioned = Questioned(
                when=_moment(request.begin_ms),
                grant=self.application,
                request=name,
                attempt=request.correlation_id or "",
                ended=None if request.end_ms is None else _moment(request.end_ms),
                told=self._told(request) is not Told.NOTHING,
                noted=self.was_noted(request),
            )
            yield request.begin_seq, request.begin_ms, questioned
            return
        attempt = request.correlation_id if ours else None
        began = RefreshBegan(when=_moment(request.begin_ms), grant=self.application, request=name, attempt=attempt)
        yield request.begin_seq, request.begin_ms, began
        if request.settled_seq is None or request.settled_ms is None:
            return
        settled = RefreshSettled(
            when=_moment(request.settled_ms),
            grant=self.application,
            request=name,
            carried_out=request.outcome == _ISSUED,
            access=self.names.get((None, wise.Kind.APPLICATION, request.access_ordinal or 0)),
        )
        yield request.settled_seq, request.settled_ms, settled
        if request.end_seq is None or request.end_ms is None:
            return
        told = RefreshAnswered(
            when=_moment(request.end_ms), grant=self.application, request=name, told=self._told(request)
        )
        yield request.end_seq, request.end_ms, told

    def _told(self, request: wise.RequestTruth) -> Told:
        took = timedelta(milliseconds=(request.end_ms or 0) - request.begin_ms)
        if not request.delivered or took > self.deadline or self.unusable(request):
            return Told.NOTHING
        if request.carried_out or request.outcome == _ISSUED:
            return Told.TOKENS if request.status == _OK else Told.NOTHING
        if request.status not in _REDIRECTS_AND_REFUSALS:
            return Told.NOTHING
        return Told.INVALID if request.outcome in ("invalid_grant", "invalid_token") else Told.REFUSED

    def _use(self, use: wise.UseTruth) -> Iterable[tuple[int, int, Record]]:
        grant = self.grant_of(use.user, self.kinds.get(use.sha256 or "", wise.Kind.ACCESS))
        if grant is None or use.sha256 is None or not self.ours(use.correlation_id):
            return
        asked = Asked(
            when=_moment(use.at_ms),
            grant=grant,
            token=use.sha256[:_NAME],
            lives=use.verdict is wise.Verdict.LIVES,
            told=bool(use.delivered) and use.status in (_OK, 401),
        )
        yield use.seq, use.at_ms, asked


def _instant(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms // 1000, UTC) + timedelta(milliseconds=epoch_ms % 1000)


def _moment(epoch_ms: int) -> Moment:
    return at(_instant(epoch_ms))


def _ms(instant: datetime) -> int:
    return int((instant - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=1))


def _moments(record: Record) -> list[str]:
    return [name for name in (f.name for f in fields(record)) if isinstance(getattr(record, name), Moment)]


def _in_order(
    placed: list[tuple[int, int, Record]],
    ledger: list[Record],
    *,
    healed: bool,
    every_write: bool,
    ended_ms: int,
) -> History:
    """Give each moment its place, a record's earlier moments (`asked`, `looked`) among them."""
    points: list[tuple[int, int, int, str]] = []
    records = [record for *_, record in placed] + ledger
    for number, (ms, seq, _record) in enumerate(placed):
        points.append((ms, seq * _BETWEEN, number, "when"))
    for number, record in enumerate(ledger, start=len(placed)):
        moments = [(getattr(record, name), name) for name in _moments(record)]
        points += [(_ms(moment.at), moment.order, number, name) for moment, name in moments]
    changes: list[dict[str, Any]] = [{} for _ in records]
    for order, (ms, _, number, name) in enumerate(sorted(points), start=1):
        changes[number][name] = Moment(order, _instant(ms))
    ordered = [replace(record, **change) for record, change in zip(records, changes, strict=True)]
    ordered.sort(key=lambda record: record.when)
    last = max((record.when.at for record in ordered), default=_instant(ended_ms))
    return History(tuple(ordered), healed=healed, every_write=every_write, ended_at=max(last, _instant(ended_ms)))
