"""Decides over a history whether the rotator kept its promises. It knows nothing of how they are kept.

No lease, no doubt, no breaker: only what Wise did and said, what was kept, served and announced, and what others did.
The rules are invariants 1 to 5 and 7 of docs/protocol.md, the promise of `stable_until` among them; that a suspended
grant is not served counts as the second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from local.proof.history import (
    ACTIVE,
    FOREIGN_REFRESHER,
    GONE,
    REAUTHORIZATION_REQUIRED,
    SUSPENDED,
    Adopted,
    Announced,
    Asked,
    Closed,
    Deleted,
    Died,
    History,
    Keeper,
    Kind,
    Minted,
    Moment,
    NotServed,
    OnHold,
    Outage,
    Parked,
    ProcessDied,
    Questioned,
    Record,
    RefreshAnswered,
    RefreshBegan,
    RefreshSettled,
    Reported,
    Revived,
    Served,
    Shut,
    Stored,
    Suspended,
    Told,
)


class Rule(StrEnum):
    """What was promised."""

    ONE_AT_A_TIME = "1 never two refreshes of one grant in flight at Wise"
    NOT_DEAD = "2 never serve what may be dead"
    PROMISE = "3 never replace a token before its stable_until"
    KEPT = "4 never lose an answer, and end well"
    JUDGED = "5 never judge a grant by a fault that is not its own"
    STATIC = "1 never ask for anything in place of a personal token"
    OWN = "7 never serve the token of another grant"
    SUSPENDED = "2 never serve what is suspended"
    HELD = "1 never refresh what is on hold"
    ACCUSED = "5 never blame others for what we did"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The durations without which the promises cannot be told from their exceptions."""

    patience: timedelta = timedelta(seconds=15)
    """How long after it arrived Wise carries a refresh out, or never: one that is older outlived its lease."""
    attempt: timedelta = timedelta(seconds=8)
    """For so long after an answer its process may still hold it."""
    tries_for: timedelta = timedelta(seconds=2)
    """For so long after an answer the rotator has to go on trying to keep it."""
    on_its_way: timedelta = timedelta(seconds=180)
    """For so long after an answer was parked no older copy takes its place."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: whose, when, and the facts."""

    rule: Rule
    grant: str
    when: Moment | None
    facts: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.grant} at {self.when or 'the end'}: {self.facts}"


@dataclass(frozen=True, slots=True)
class Loss:
    """An answer of Wise's that no client could have kept."""

    grant: str
    attempt: str
    when: Moment
    why: str


def check(history: History, terms: Terms | None = None) -> list[Violation]:
    """Give every broken promise, grant by grant."""
    terms = terms or Terms()
    found: list[Violation] = []
    for case in _cases(history, terms):
        for rule in (_one_at_a_time, _static, _held, _not_dead, _promise, _kept, _judged, _accused):
            found += rule(case)
        if history.healed:
            found += _ends_well(case)
    return found


def losses(history: History, terms: Terms | None = None) -> list[Loss]:
    """List the answers that were lost although nothing was done wrong."""
    found = []
    for case in _cases(history, terms or Terms()):
        for request in case.ours():
            if not request.carried_out or request.began.attempt is None or case.kept(request):
                continue
            why = case.unkeepable(request)
            if why is not None:
                found.append(Loss(case.grant, request.began.attempt, request.began.when, why))
    return found


# --- one grant's records, sorted


@dataclass(slots=True)
class _Request:
    """One refresh at Wise, from its arrival to what its sender got to know."""

    began: RefreshBegan
    settled: RefreshSettled | None = None
    answered: RefreshAnswered | None = None

    @property
    def carried_out(self) -> bool:
        return self.settled is not None and self.settled.carried_out

    @property
    def told(self) -> Told:
        return self.answered.told if self.answered is not None else Told.NOTHING


@dataclass(slots=True)
class _Case:
    """All that is on record about one grant. Lists are in order."""

    grant: str
    terms: Terms
    history: History
    owners: dict[str, str]
    """Whose a token is, for all grants."""
    everywhere: list[Record]
    """What happened to all grants at once."""
    minted: dict[str, Minted] = field(default_factory=dict)
    died: dict[str, Died] = field(default_factory=dict)
    requests: dict[str, _Request] = field(default_factory=dict)
    questions: dict[str, Questioned] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    readers: list[Served | NotServed] = field(default_factory=list)
    announced: list[Announced] = field(default_factory=list)
    acts: list[Adopted | Deleted] = field(default_factory=list)
    suspended: list[Suspended] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    on_hold: list[OnHold] = field(default_factory=list)
    revived: dict[str, list[tuple[Died, Moment]]] = field(default_factory=dict)
    """The deaths of tokens that came back, and when they did."""
    shut: list[Shut] = field(default_factory=list)

    def take(self, record: Record) -> None:  # noqa: C901, PLR0912 - one line a kind of record
        match record:  # the most frequent ones first: all the others are tried before the last
            case Stored():
                self.stored.append(record)
            case Served() | NotServed():
                self.readers.append(record)
            case Minted():
                self.minted[record.token] = record
            case Died():
                self.died[record.token] = record
            case RefreshBegan():
                self.requests[record.request] = _Request(record)
            case RefreshSettled():
                self.requests[record.request].settled = record
            case RefreshAnswered():
                self.requests[record.request].answered = record
            case Questioned():
                self.questions[record.request] = record
            case Asked():
                self.asked.append(record)
            case Reported():
                self.reported.append(record)
            case Parked():
                self.parked.append(record)
            case Announced():
                self.announced.append(record)
            case Adopted() | Deleted():
                self.acts.append(record)
            case Suspended():
                self.suspended.append(record)
            case Closed():
                self.closed.append(record)
            case OnHold():
                self.on_hold.append(record)
            case Revived():
                death = self.died.pop(record.token, None)
                if death is not None:
                    self.revived.setdefault(record.token, []).append((death, record.when))
            case Shut():
                self.shut.append(record)
            case _:
                pass  # told for whoever reads the history

    def ours(self) -> Iterator[_Request]:
        """The refreshes that the rotator sent."""
        return (request for request in self.requests.values() if request.began.attempt is not None)

    def holds(self, kind: Kind) -> bool:
        """Tell whether the grant's tokens are of this kind."""
        return any(minted.kind is kind for minted in self.minted.values())

    def lives(self, token: str, when: Moment) -> bool | None:
        """Tell whether a token lives at Wise; None if Wise never issued it."""
        minted = self.minted.get(token)
        if minted is None:
            return None
        return when.at < minted.expires_at and self.death(token, when) is None

    def death(self, token: str, when: Moment) -> Died | None:
        """Give the death of which a token is dead at a moment."""
        died = self.died.get(token)
        if died is not None and died.when <= when:
            return died
        return next((past for past, back in self.revived.get(token, ()) if past.when <= when < back), None)

    def killer(self, death: Died) -> _Request | None:
        """The refresh of ours that replaced a token."""
        request = None if death.request is None else self.requests.get(death.request)
        return request if request is not None and request.began.attempt is not None else None

    def outlived(self, request: _Request) -> bool:
        """Tell whether Wise was at it for longer than anybody reckons with."""
        end = request.settled.when.at if request.settled is not None else self.history.end_of(self.grant)
        return end is not None and end - request.began.when.at > self.terms.patience

    def misled(self, request: _Request, before: Moment | None = None) -> bool:
        """Tell whether Wise, while it still had a request, called dead a token that no request of ours had ended.

        That looks as if the request had been carried out. No client can tell the two apart.
        """
        settled = request.settled.when if request.settled is not None else None
        for asked in self.asked:
            if asked.lives or not asked.told or asked.when < request.began.when or not self._ended_by_others(asked):
                continue
            if before is not None and asked.when > before:
                continue
            if settled is None or asked.when < settled:
                return True
        return False

    def _ended_by_others(self, asked: Asked) -> bool:
        """Tell whether a token that Wise called dead was so by itself, by its user or by somebody else's refresh."""
        death = self.death(asked.token, asked.when)
        if death is None:
            return any(shut.when < asked.when and (shut.ended is None or asked.when < shut.ended) for shut in self.shut)
        return self.killer(death) is None and death.request not in self.questions

    def ended_by_a_question(self, death: Died, looked: Moment) -> Questioned | None:
        """The question of ours that ended a token, if what it may have done had to be on record when we looked.

        That takes a while after the answer, or after nobody can wait for one any longer. None as well where the process
        died over it, and where the table did not take the note.
        """
        question = None if death.request is None else self.questions.get(death.request)
        if question is None or not question.noted:
            return None
        known = question.ended.at if question.told and question.ended is not None else question.when.at
        if not question.told:
            known += self.terms.attempt
        if looked.at <= known + self.terms.tries_for or self._died_over(question.attempt, question.when, known):
            return None
        return None if self._down(Keeper.TABLE, known) else question

    def questioned(self, request: _Request) -> bool:
        """Tell whether a question of ours may have ended what a request brought before it was kept."""
        until = (request.answered or request.began).when.at + self.terms.attempt
        return any(
            question.when.at <= until and (question.ended is None or question.ended.at >= request.began.when.at)
            for question in self.questions.values()
        )

    def beyond_us(self, request: _Request) -> bool:
        """Tell whether nobody could reckon with what a request did."""
        return self.outlived(request) or self.misled(request)

    def overtaken(self, request: _Request, before: Moment | None = None) -> bool:
        """Tell whether Wise carried out another refresh after this one."""
        if request.settled is None:
            return False
        return any(
            other.settled.when > request.settled.when and (before is None or other.settled.when < before)
            for other in self.requests.values()
            if other.settled is not None and other.settled.carried_out
        )

    def touched(self, after: Moment, until: datetime) -> bool:
        """Tell whether somebody replaced or deleted the grant between two moments, or may have."""
        return any(act.when > after and act.asked.at <= until for act in self.acts)

    def kept(self, request: _Request) -> bool:
        """Tell whether the table or the queue ever took what this request brought."""
        access = request.settled.access if request.settled is not None else None
        return any(s.access == access for s in self.stored) or any(p.access == access for p in self.parked)

    def unkeepable(self, request: _Request) -> str | None:
        """Say why nobody could have kept the answer to a request, if that is so."""
        if request.told is not Told.TOKENS or request.answered is None:
            return "no answer"
        answered = request.answered.when
        if self._died_over(request.began.attempt, request.began.when, answered.at):
            return "process died"
        if all(self._down(keeper, answered.at) for keeper in Keeper):
            return "nothing took writes"
        return None

    def _died_over(self, attempt: str | None, began: Moment, answered: datetime) -> bool:
        """Tell whether a process died that may have had an answer in its hands."""
        return any(
            isinstance(record, ProcessDied)
            and (record.attempts is None or attempt in record.attempts)
            and began < record.when
            and record.when.at <= answered + self.terms.attempt
            for record in self.everywhere
        )

    def _down(self, keeper: Keeper, since: datetime) -> bool:
        until = since + self.terms.tries_for
        return any(
            record.keeper is keeper and record.when.at <= since and (record.ended is None or record.ended.at >= until)
            for record in self.everywhere
            if isinstance(record, Outage)
        )

    def broken(self, rule: Rule, when: Moment | None, facts: str) -> Violation:
        return Violation(rule, self.grant, when, facts)


def _cases(history: History, terms: Terms) -> Iterable[_Case]:
    owners = {record.token: record.grant or "" for record in history if isinstance(record, Minted)}
    everywhere: list[Record] = [record for record in history if isinstance(record, ProcessDied | Outage)]
    by_grant: defaultdict[str, list[Record]] = defaultdict(list)
    for record in history:
        if record.grant is not None:
            by_grant[record.grant].append(record)
    for grant, records in by_grant.items():
        case = _Case(grant, terms, history, owners, everywhere)
        for record in records:
            case.take(record)
        yield case


# --- the rules


def _one_at_a_time(case: _Case) -> Iterator[Violation]:
    """A request is in flight from its arrival until it can change nothing any more."""
    ours = list(case.ours())
    for number, second in enumerate(ours):
        arrived = second.began.when
        for first in ours[:number]:
            settled = first.settled
            if settled is not None and settled.when < arrived:
                continue
            if arrived.at - first.began.when.at <= case.terms.patience and not case.misled(first, arrived):
                yield case.broken(
                    Rule.ONE_AT_A_TIME,
                    arrived,
                    f"the refresh of attempt {second.began.attempt} arrived while that of {first.began.attempt}, "
                    f"from {first.began.when}, could still be carried out",
                )


def _static(case: _Case) -> Iterator[Violation]:
    """A personal token is good or it is not: there is nothing at the token endpoint to ask for."""
    if not case.holds(Kind.PERSONAL):
        return
    for request in case.ours():
        yield case.broken(Rule.STATIC, request.began.when, f"attempt {request.began.attempt} asked Wise for tokens")


def _held(case: _Case) -> Iterator[Violation]:
    """Whoever refreshes a grant elsewhere is promised that we do not, until we are told to."""
    for request in case.ours():
        orders = [order for order in case.on_hold if order.when < request.began.when]
        if orders and not orders[-1].lifted:
            facts = f"attempt {request.began.attempt} sent a refresh, on hold since {orders[-1].when}"
            yield case.broken(Rule.HELD, request.began.when, facts)


def _not_dead(case: _Case) -> Iterator[Violation]:
    for served in case.readers:
        if not isinstance(served, Served):
            continue
        owner = case.owners.get(served.token)
        if owner not in (None, case.grant):
            yield case.broken(Rule.OWN, served.when, f"a reader got {served.token}, which is {owner}'s")
            continue
        in_force = {order.by: order for order in case.suspended if order.when < served.looked}
        lifted = {order.by for order in case.suspended if order.lifted and served.looked < order.when < served.knew_by}
        for order in in_force.values():
            if not order.lifted and order.by not in lifted:
                facts = f"{served.token} was served, suspended by {order.by} since {order.when}"
                yield case.broken(Rule.SUSPENDED, served.when, facts)
        wrong = _why_not(case, served)
        if wrong is not None:
            yield case.broken(
                Rule.NOT_DEAD, served.when, f"{served.token} (version {served.version}) was served, {wrong}"
            )


def _why_not(case: _Case, served: Served) -> str | None:
    """Say why a token should not have been served, as of the rotator's last look."""
    token, looked = served.token, served.looked
    minted, death = case.minted.get(token), case.death(token, looked)
    if minted is None:
        brought = any(isinstance(act, Adopted) and act.access == token for act in case.acts)
        return None if brought else "which Wise never issued"
    if looked.at >= minted.expires_at:
        return f"which expired at {minted.expires_at:%H:%M:%S}"
    if death is not None:
        return _known_dead(case, token, death, served)
    for request in case.ours():
        if minted.when < request.began.when < looked and not _resolved(case, token, request, served.knew_by):
            return f"while nobody knew what had become of the refresh of {request.began.attempt}"
    return None


def _known_dead(case: _Case, token: str, death: Died, served: Served) -> str | None:
    """Say why the rotator had reason to think a dead token dead; None if it could not know."""
    looked, by = served.looked, served.knew_by
    brought = [act.when for act in case.acts if isinstance(act, Adopted) and act.access == token and act.when < by]
    brought += [back for _, back in case.revived.get(token, ()) if back < by]
    again = max(brought, default=None)
    for closed in case.closed:
        if death.when < closed.when < looked and not _lived_since(case, token, closed.when, by):
            return f"which ended with the account that Wise closed, as was on record at {closed.when}"
    for asked in case.asked:
        told = asked.token == token and asked.told and not asked.lives and asked.when < looked
        if told and (again is None or asked.when > again):
            return f"which Wise had called dead at {asked.when}"
    question = case.ended_by_a_question(death, looked)
    if question is not None:
        return f"which our question of {question.when} had ended at {death.when}"
    killer = case.killer(death)
    if killer is None or case.beyond_us(killer):
        return None
    if again is not None and again > death.when and _settled_before(case, killer, again):
        return None  # somebody brought a dead token to a rotator that had nothing open
    return f"which the refresh of {killer.began.attempt} had replaced at {death.when}"


def _lived_since(case: _Case, token: str, since: Moment, looked: Moment) -> bool:
    """Tell whether Wise said after a moment that a token lives, or somebody brought it then."""
    said = any(a.token == token and a.told and a.lives and since < a.when < looked for a in case.asked)
    return said or any(isinstance(a, Adopted) and a.access == token and since < a.when < looked for a in case.acts)


def _settled_before(case: _Case, request: _Request, when: Moment) -> bool:
    """Tell whether what a refresh brought was stored, or the grant was forgotten, before somebody brought tokens."""
    access = request.settled.access if request.settled is not None else None
    stored = any(s.access == access and s.when < when for s in case.stored)
    forgotten = any(isinstance(act, Deleted) and request.began.when < act.when < when for act in case.acts)
    return stored or forgotten or not case.history.every_write


def _resolved(case: _Case, token: str, request: _Request, looked: Moment) -> bool:
    """Tell whether the rotator could know that a request had left the token alive, and would."""
    settled = request.settled if request.settled is not None and request.settled.when < looked else None
    if settled is not None and settled.carried_out:
        return True  # it replaced another token
    if settled is None and looked.at - request.began.when.at > case.terms.patience:
        return True
    if request.told in (Told.REFUSED, Told.INVALID) and request.answered is not None and request.answered.when < looked:
        return True
    brought = [act for act in case.acts if request.began.when < act.when < looked]
    if any(isinstance(act, Deleted) for act in brought):
        return True
    death = case.died.get(request.began.presented or "")
    if death is not None and death.when < looked and any(isinstance(act, Adopted) for act in brought):
        return True  # somebody brought other tokens, and what it came with is dead: it can do nothing any more
    return settled is not None and any(
        asked.token == token and asked.told and asked.lives and settled.when < asked.when < looked
        for asked in case.asked
    )


def _promise(case: _Case) -> Iterator[Violation]:
    reported: set[str] = set()
    for served in case.readers:
        if not isinstance(served, Served) or served.token in reported:
            continue
        minted, death = case.minted.get(served.token), case.died.get(served.token)
        until = served.stable_until
        if minted is not None and until > minted.expires_at:
            reported.add(served.token)
            yield case.broken(Rule.PROMISE, served.when, f"{served.token} was promised beyond its expiry")
        elif death is not None and death.when > served.looked and death.when.at < until:
            killer = case.killer(death)
            if killer is None or case.beyond_us(killer) or case.touched(served.looked, death.when.at):
                continue
            if case.holds(Kind.APPLICATION) and (
                _was_reported(case, served, death) or _was_crossed(case, served, death)
            ):
                continue
            reported.add(served.token)
            yield case.broken(
                Rule.PROMISE,
                death.when,
                f"{served.token}, served at {served.when} until {until:%H:%M:%S.%f}, "
                f"was replaced by attempt {killer.began.attempt}",
            )


def _was_reported(case: _Case, served: Served, death: Died) -> bool:
    """Tell whether somebody said that Wise refused this token. Of our application's nobody can ask: it is replaced."""
    return any(report.version == served.version and report.when < death.when for report in case.reported)


def _was_crossed(case: _Case, served: Served, death: Died) -> bool:
    """Tell whether a question of ours and the request for this token crossed: nobody knows which came last at Wise."""
    minted = case.minted[served.token].when
    noted_within = case.terms.attempt + case.terms.patience
    return any(
        question.when < death.when and (question.ended or question.when).at + noted_within >= minted.at
        for question in case.questions.values()
    )


def _kept(case: _Case) -> Iterator[Violation]:
    """What reached us has to be kept, unless it was no longer the newest, or nobody could have kept it."""
    if not case.history.every_write:
        return
    for request in case.ours():
        settled, answered = request.settled, request.answered
        if settled is None or answered is None or not settled.carried_out or request.told is not Told.TOKENS:
            continue
        if any(stored.access == settled.access for stored in case.stored):
            continue
        if case.touched(request.began.when, answered.when.at + case.terms.attempt):
            continue
        if case.overtaken(request, answered.when) or case.questioned(request):
            continue
        if any(parked.access == settled.access for parked in case.parked):
            if case.history.healed and _still_wanted(case, request):
                yield case.broken(
                    Rule.KEPT, answered.when, f"the answer to {request.began.attempt} was parked and never stored"
                )
        elif case.unkeepable(request) is None:
            yield case.broken(
                Rule.KEPT, answered.when, f"the answer to {request.began.attempt} reached us and was dropped"
            )


def _still_wanted(case: _Case, request: _Request) -> bool:
    """Tell whether what a request brought is still the newest at the end, and lives."""
    access = request.settled.access if request.settled is not None else None
    replaced = any(act.when > request.began.when for act in case.acts)
    return access is not None and access not in case.died and not replaced and not case.overtaken(request)


def _judged(case: _Case) -> Iterator[Violation]:
    before = ACTIVE
    for stored in case.stored:
        if stored.phase == REAUTHORIZATION_REQUIRED != before:
            wrong = _wrongly_judged(case, stored)
            if wrong is not None:
                yield case.broken(Rule.JUDGED, stored.when, wrong)
        before = before if stored.phase == SUSPENDED else stored.phase


def _wrongly_judged(case: _Case, verdict: Stored) -> str | None:
    """Follow the refresh token that was entrusted to us, and say why the grant it belongs to is not dead."""
    when = verdict.when
    if case.holds(Kind.APPLICATION):
        return "it was judged dead though it is our application's own, which no user can authorize again"
    kind = Kind.PERSONAL if case.holds(Kind.PERSONAL) else Kind.REFRESH
    token, lost, foreign = None, None, False
    events: list[Adopted | _Request] = [act for act in case.acts if isinstance(act, Adopted) and act.when < when]
    events += [request for request in case.requests.values() if request.carried_out and _time(request) < when]
    for event in sorted(events, key=_time):
        if isinstance(event, Adopted):
            if not event.certain:
                return None
            if not _brings_nothing_new(case, event, token):
                token, lost, foreign = event.refresh if kind is Kind.REFRESH else event.access, None, False
        elif event.settled is not None and event.began.presented == token and event.settled.refresh != token:
            token = event.settled.refresh
            foreign = foreign or event.began.attempt is None
            if not _kept_before(case, event, when):
                lost = case.unkeepable(event) or "dropped"
    if token is None or foreign or not case.lives(token, when) or _told_while_shut(case, when):
        return None
    if lost is None or lost == "dropped":
        return f"it was judged dead though its {kind} token {token} lives" + (" and had reached us" if lost else "")
    return _judged_for(case, verdict, lost)


def _judged_for(case: _Case, verdict: Stored, lost: str) -> str | None:
    """Say what is wrong with the reason that is given where an answer was lost."""
    reason = verdict.reason or next((a.reason for a in case.announced if a.when > verdict.when), None)
    if reason is not None and reason != "outcome_unknown":
        return f"an answer was lost ({lost}), and it was judged dead for {reason}"
    return None


def _brings_nothing_new(case: _Case, act: Adopted, newest: str | None) -> bool:
    """Tell whether somebody brought the refresh token for which we had got the newest one, and could not have it yet.

    What was lost stays so. What was parked was on its way, for a while.
    """
    if not act.replaced:
        return False
    for request in case.ours():
        settled = request.settled
        if settled is None or settled.refresh != newest or request.began.presented != act.refresh != newest:
            continue
        if any(stored.refresh == newest and stored.when < act.when for stored in case.stored):
            return False
        parked = [parked.when for parked in case.parked if parked.access == settled.access]
        return not parked or any(act.when.at < when.at + case.terms.on_its_way for when in parked)
    return False


def _accused(case: _Case) -> Iterator[Violation]:
    """Somebody else is only named where Wise called a token dead that no request of ours had ended."""
    named: set[str] = set()
    for told in case.announced:
        if told.kind != FOREIGN_REFRESHER or told.incident_id in named:
            continue
        named.add(told.incident_id)
        found_dead = (asked for asked in case.asked if asked.told and not asked.lives and asked.when < told.when)
        deaths = [case.death(asked.token, asked.when) for asked in found_dead]
        killers = [None if death is None else case.killer(death) for death in deaths]
        if all(killer is not None and not case.beyond_us(killer) for killer in killers):
            yield case.broken(Rule.ACCUSED, told.when, f"{told.incident_id} names somebody else, and nobody else did")


def _told_while_shut(case: _Case, when: Moment) -> bool:
    """Tell whether Wise's last word before a verdict came while it refused the tokens of a closed account."""
    told = [r for r in case.ours() if r.told is Told.INVALID and r.answered is not None and r.answered.when < when]
    if not told:
        return False
    last = max(told, key=lambda request: request.began.when)
    arrived, settled = last.began.when, (last.settled or last.began).when
    return any(shut.when < settled and (shut.ended is None or arrived < shut.ended) for shut in case.shut)


def _time(event: Adopted | _Request) -> Moment:
    return event.when if isinstance(event, Adopted) else (event.settled or event.began).when


def _kept_before(case: _Case, request: _Request, when: Moment) -> bool:
    if request.settled is None:
        return False
    access, refresh = request.settled.access, request.settled.refresh
    return any(stored.refresh == refresh and stored.when < when for stored in case.stored) or any(
        parked.access == access and parked.when < when for parked in case.parked
    )


def _ends_well(case: _Case) -> Iterator[Violation]:
    """At the end each grant is active with a living token, or waits for its user and on-call knows."""
    if not case.stored:
        return
    last = case.stored[-1]
    if last.phase == GONE:
        if not any(isinstance(act, Deleted) for act in case.acts):
            yield case.broken(Rule.KEPT, last.when, "the grant is gone, and nobody deleted it")
    elif last.phase == REAUTHORIZATION_REQUIRED:
        since = _judged_first(case.stored)
        if not any(a.kind == REAUTHORIZATION_REQUIRED and a.when > since for a in case.announced):
            yield case.broken(Rule.KEPT, since, "it waits for its user, and nobody was told")
    elif last.phase == ACTIVE:
        yield from _ends_active(case, last)


def _judged_first(stored: list[Stored]) -> Moment:
    """Say when it began to wait for its user: with the tokens that it has now, also if it was tried again since."""
    version = stored[-1].version
    of_these = [s for s in stored if s.version == version] if version is not None else []
    return next(s.when for s in of_these or _streak(stored) if s.phase == REAUTHORIZATION_REQUIRED)


def _streak(stored: list[Stored]) -> list[Stored]:
    """The last records that have one phase; to be suspended meanwhile changes nothing."""
    start = len(stored) - 1
    while start > 0 and stored[start - 1].phase in (stored[-1].phase, SUSPENDED):
        start -= 1
    return stored[start:]


def _ends_active(case: _Case, last: Stored) -> Iterator[Violation]:
    access = last.access
    if access is None:
        served = (r.token for r in case.readers if isinstance(r, Served) and r.version == last.version)
        access = next(served, None)
    if access is None:
        yield case.broken(Rule.KEPT, None, f"it is active without an access token (version {last.version})")
    end = Moment(max(record.when.order for record in case.history) + 1, case.history.end_of(case.grant) or last.when.at)
    for kind, token in ((Kind.ACCESS, access), (Kind.REFRESH, last.refresh)):
        if token is None or case.lives(token, end) is not False:
            continue
        if not _nobody_could_know(case, token, access, end):
            died = case.died.get(token)
            since = f"since {died.when}" if died is not None else "expired"
            yield case.broken(Rule.KEPT, None, f"it is active with a dead {kind} token {token} ({since})")
    if case.readers and isinstance(case.readers[-1], NotServed):
        reader = case.readers[-1]
        yield case.broken(Rule.KEPT, reader.when, f"it is active, and its last reader got nothing: {reader.why}")


def _nobody_could_know(case: _Case, token: str, access: str | None, end: Moment) -> bool:
    """Tell whether a token died by nobody's doing here, and no answer of Wise's could have told us before it is due."""
    death = case.died.get(token)
    if death is None:
        return False
    killer = case.killer(death)
    if killer is not None and not case.beyond_us(killer):
        return False
    if case.ended_by_a_question(death, end) is not None:
        return False
    minted = case.minted.get(access or token)
    if minted is None or end.at >= minted.expires_at:
        return False
    brought = [act.when for act in case.acts if isinstance(act, Adopted) and act.access == access]
    since = max(death.when, *brought) if brought else death.when  # what is brought once more is asked about anew
    asked = any(a.told and not a.lives and a.token == access and a.when > since for a in case.asked)
    refused = any(r.told is Told.INVALID and r.began.when > death.when for r in case.ours())
    return not asked and not refused
