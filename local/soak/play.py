"""One run on the stage: adopt, abuse, let it heal, ask for everything once more."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from local.demo.on_call import OnCall
from local.demo.partner import offered

from .judge import did_not_happen
from .killer import Killer
from .ledger import Heard, Ledger, now_ms
from .offers import Offer, adopt
from .others import Others
from .others_judged import NOTICED
from .plan import TENANTS, Leaving
from .readers import Reader, Tenant, ask, use
from .table import GrantsTable, State

if TYPE_CHECKING:
    from local.demo.partner import PartnerService
    from local.demo.report import Report
    from local.demo.stage import Stage
    from local.wise.settings import RefreshTokenPolicy
    from local.wise.truth import Truth

    from .plan import Plan
    from .table import Row

_ADOPTERS: Final = 6
_TELL_EVERY_S: Final = 20
_LIVES_EVERY_S: Final = 10
_LAST_ASK_S: Final = 40
_NOTICED_WITHIN_S: Final = 40
"""Longer than a token is too young to be doubted, of the longest life there is."""
_MORE_S: Final = 10
_START_S: Final = 5
_WORKS_WITHIN_S: Final = 90
_HEAL_S: Final = 480
"""How long, at most, everything may take to come right once nothing fails any more: longer than the longest pause
after a failure, or than a doubt is held, and a lost sweep."""
APPLICATION_PARTNER: Final = "treasury"
SPECIAL_EVERY_S: Final = 1.0
_UNSETTLED: Final = frozenset({State.WAITING, State.OVERDUE, State.FORGOTTEN, State.UNTOLD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that a run left behind, for whoever judges it."""

    plan: Plan
    ledger: Ledger
    truth: Truth
    rows: list[Row]
    fleet: dict[str, str]
    parked: int
    """Answers that are still in the parking queue."""
    extra_ticks: int
    troubles: list[str]
    abused_for_s: float
    took_s: float
    healed_after_s: float | None
    """None: not within the time that it has."""
    certificates: dict[str, int] = field(default_factory=dict)
    """How many requests came to Wise with which certificate of ours."""


class Soak:
    """Plays a plan on a stage."""

    def __init__(self, plan: Plan, stage: Stage, report: Report) -> None:
        self.plan = plan
        self.stage = stage
        self.report = report
        self.ledger = Ledger()
        self.table = GrantsTable(stage)
        self.on_call = OnCall(stage.emulator, stage.stack.outputs["AlertsTopicArn"])
        self.ids = plan.grant_ids()
        self.partners = {name: stage.partner(name, tenant, "soak") for tenant, two in TENANTS.items() for name in two}
        self.partners[APPLICATION_PARTNER] = stage.partner(APPLICATION_PARTNER, "", "soak")
        self.others = Others(plan, stage, self.ledger, self.table, self.partners)
        self._told_seq = 0

    def play(self) -> Records:
        """Play it all. Every wait in it is bounded."""
        began = time.monotonic()
        killer = Killer(self.stage, self.ledger, self.plan.random("kills"), self.plan.kill_every_s)
        killer.tick()  # the schedule's first one may be a minute away
        self._warm_up()
        self._adopt()
        readers = self._readers()
        self._await_first_refresh()
        self.stage.control.change_chaos(**self.plan.chaos())
        killer.start()
        self.others.start()
        abused_for_s = self._abuse()
        killer.stop()
        self.stage.control.change_chaos(share=0, me_share=0, latency_s=0)
        killer.tick()  # as after the last kill before
        self.others.finish()
        for reader in readers:
            reader.quiet()
        healed_after_s = self._heal()
        self._notice_a_foreign_refresher()
        for reader in readers:
            reader.stop(30)
        self.others.last()
        rows = self._last_asks()
        self._hear(3)
        return Records(
            plan=self.plan,
            ledger=self.ledger,
            truth=self.stage.control.truth(),
            rows=rows,
            fleet=self.table.fleet(),
            parked=self._parked(),
            extra_ticks=killer.ticks,
            troubles=[*killer.troubles, *self.others.troubles],
            certificates=self.others.certificates(),
            abused_for_s=abused_for_s,
            took_s=round(time.monotonic() - began, 1),
            healed_after_s=healed_after_s,
        )

    def _warm_up(self) -> None:
        """Start one process of each function that is called from outside: what a first call costs is not the point."""
        for tenant, (adopter, reader) in TENANTS.items():
            self.partners[adopter].call("PUT", f"{tenant}-warm-up", json_body={})
            self.partners[reader].call("GET", f"{tenant}-warm-up")

    def _adopt(self) -> None:
        random = self.plan.random("births")
        births = [(*entry, *self.plan.birth(random)) for entry in self.ids]
        with ThreadPoolExecutor(_ADOPTERS) as pool:
            for _ in pool.map(lambda birth: self._adopt_one(*birth), births):
                pass
        self.report.tell(f"{len(births)} grants adopted; a third each: the refresh token stays, changes, is left out")
        self.others.adopt()
        moves, personals, closings = (
            len(part) for part in (self.others.moves, self.others.personals, self.others.closings)
        )
        self.report.tell(
            f"  besides {moves} on hold, {personals} personal tokens, {closings} accounts that Wise will close"
        )
        coexist = "live side by side" if self.plan.application_tokens_coexist else "end each other"
        self.report.tell(f"  application tokens {coexist} at this Wise")

    def _adopt_one(self, tenant: str, grant_id: str, policy: RefreshTokenPolicy, life_s: float, age_s: float) -> None:
        user = self.stage.control.seed_user(
            grant_id, access_token_lifetime_s=life_s, age_s=age_s, refresh_token_policy=policy
        )
        offer = Offer(
            tenant=tenant,
            grant_id=grant_id,
            policy=policy.value,
            body=offered(user),
            access=user.access_token,
            refresh=user.refresh_token,
        )
        adopt(self.partners[TENANTS[tenant][0]], offer, self.ledger)

    def _reader(self, tenant: str) -> PartnerService:
        return self.partners[TENANTS[tenant][1] if tenant else APPLICATION_PARTNER]

    def _readers(self) -> list[Reader]:
        plan = self.plan
        tenants = [
            Tenant(self._reader(tenant), [grant_id for its, grant_id, _ in self.ids if its == tenant])
            for tenant in TENANTS
        ]
        every_s = plan.readers / plan.asks_per_s
        wanted = [(f"reader-{number}", tenants[number % len(tenants)], every_s) for number in range(plan.readers)]
        wanted += [(f"special-{number}", one, SPECIAL_EVERY_S) for number, one in enumerate(self._special(), start=1)]
        readers = []
        for name, tenant, pace_s in wanted:
            reader = Reader(name, tenant, self.stage.wise, self.ledger, random=plan.random(name), every_s=pace_s)
            # one after the other: many functions that start at once would take all of the machine
            reader.start(_START_S)
            readers.append(reader)
        return readers

    def _special(self) -> list[Tenant]:
        """Who reads what is not like the others: of each tenant one, and two services that share the application's.

        And of each tenant one more for what an old refresher goes on with: who does not ask notices nothing.
        """
        by_tenant: defaultdict[str, list[str]] = defaultdict(list)
        stubborn: defaultdict[str, list[str]] = defaultdict(list)
        for tenant, grant_id in self.others.ids:
            by_tenant[tenant].append(grant_id)
        for move in self.others.moves:
            if move.leaving is Leaving.STUBBORN:
                stubborn[move.tenant].append(move.grant_id)
        readings = [*by_tenant.items(), ("", by_tenant[""]), *stubborn.items()]
        return [Tenant(self._reader(tenant), its, come_back=True) for tenant, its in readings]

    def _await_first_refresh(self) -> None:
        """Let the time run only once the rotator is at work: nothing proves nothing."""
        ends = time.monotonic() + _WORKS_WITHIN_S
        while time.monotonic() < ends and not any(request.carried_out for request in self.stage.control.requests()):
            time.sleep(0.5)
        self.report.tell(f"{self.plan.readers} readers read, and the first grants are refreshed; now everything fails")

    def _abuse(self) -> float:
        """Look on until the time is over; meanwhile Wise gives longer and shorter lives. Give the time it took."""
        random = self.plan.random("lives")
        began = time.monotonic()
        ends, at_the_latest = began + self.plan.seconds, began + self.plan.at_most_s
        next_told = began + _TELL_EVERY_S
        next_lives = 0.0
        while (now := time.monotonic()) < ends:
            if now >= next_lives:
                next_lives = now + _LIVES_EVERY_S
                self.stage.control.change_settings(access_token_lifetime_s=random.uniform(*self.plan.lives_s))
            if now >= next_told:
                next_told = now + _TELL_EVERY_S
                self._tell()
            self._hear(1)
            time.sleep(0.2)
            if ends <= time.monotonic() < at_the_latest and (missing := self._missing()):
                self.report.tell(f"  goes on, since too little has happened: {missing}")
                ends = min(ends + _MORE_S, at_the_latest)
        return round(time.monotonic() - began, 1)

    def _missing(self) -> list[str]:
        control = self.stage.control
        missing = did_not_happen(self.plan, self.ledger, control.requests(), control.uses())
        return [what for what in missing if what != NOTICED]

    def _tell(self) -> None:
        requests = [r for r in self.stage.control.requests(since=self._told_seq) if r.end_seq is not None]
        self._told_seq = max((r.end_seq or 0 for r in requests), default=self._told_seq)
        done = sum(request.carried_out for request in requests)
        struck = sum(request.fault is not None for request in requests)
        served, kills = len(self.ledger.served()), len(self.ledger.kills)
        breaker = self.table.fleet().get("why")
        stopped = "" if breaker is None else f"; all calls stopped: {breaker}"
        self.report.tell(f"  +{done} refreshes, +{struck} calls struck; {served} tokens served, {kills} kills{stopped}")

    def _hear(self, within_s: int) -> None:
        """Take what on-call was told, and wait for nothing but the first of it."""
        while heard := self.on_call.hear(within_s):
            for alert in heard:
                self.ledger.add(Heard(now_ms(), alert))

    def _heal(self) -> float | None:
        """Wait until every grant is fine or waits for its user; give the time it took."""
        self.report.tell("nothing fails any more; waiting until everything has come right")
        began = time.monotonic()
        ends = began + _HEAL_S
        left: Counter[str] = Counter()
        next_told = began + _TELL_EVERY_S
        while time.monotonic() < ends:
            rows = self.table.rows()
            left = Counter(row.state.value for row in rows)
            held_back = {row.grant_id for row in rows if row.held_back_s > self.plan.patience_s}
            unsettled = {row.grant_id for row in rows if row.state in _UNSETTLED and not self.others.may_wait(row)}
            unsettled |= self.others.unsettled(rows)
            if unsettled <= held_back:
                took_s = round(time.monotonic() - began, 1)
                self.report.tell(f"  it has after {took_s:.0f} s: {dict(left)}")
                return took_s
            if time.monotonic() >= next_told:
                next_told += _TELL_EVERY_S
                self.report.tell(f"  {dict(left)}")
            self._hear(1)
            time.sleep(1)
        self.report.tell(f"  not all of it in {_HEAL_S} s: {dict(left)}")
        return None

    def _notice_a_foreign_refresher(self) -> None:
        """Where all calls were stopped for most of the run, nobody was: then one goes on while nothing fails."""
        for move in self.others.stubborn():
            row = self.table.row(move.tenant, move.grant_id)
            if self._noticed():
                return
            if row is None or row.state is not State.FINE:
                continue
            self.others.refresh_elsewhere(move)
            ends = time.monotonic() + _NOTICED_WITHIN_S
            while time.monotonic() < ends and not self._noticed():
                ask(self._reader(move.tenant), "last", move.grant_id, self.ledger, row.version)
                self._hear(2)

    def _noticed(self) -> bool:
        return any(heard.alert["kind"] == "foreign_refresher" for heard in self.ledger.heard)

    def _last_asks(self) -> list[Row]:
        """Ask for every grant's token once more, and use it. Give each row as it was when that was answered.

        Nobody asks for a grant that is held back: it has nothing to give yet.
        """

        def last(tenant: str, grant_id: str) -> Row | None:
            ends = time.monotonic() + _LAST_ASK_S
            rejected: int | None = None
            while True:
                row = self.table.row(tenant, grant_id)
                if row is not None and row.state is State.WAITING:
                    return row
                noted, body, retry_after_s = ask(self._reader(tenant), "last", grant_id, self.ledger, rejected)
                row = self.table.row(tenant, grant_id)
                if noted.sha256 is not None:
                    dead = use(self.stage.wise, grant_id, str(body["access_token"]), self.ledger)
                    if dead and rejected != noted.version:
                        rejected = noted.version
                        continue
                    if row is not None and row.version == noted.version:
                        return row
                    retry_after_s = 0  # it was refreshed in between
                elif noted.status not in (0, 429, 503):
                    return row
                if time.monotonic() + retry_after_s > ends:
                    return row
                time.sleep(retry_after_s)

        with ThreadPoolExecutor(_ADOPTERS) as pool:
            rows = list(pool.map(lambda one: last(*one), [*(one[:2] for one in self.ids), *self.others.ids]))
        self.report.tell(f"asked for the tokens of {len(rows)} grants once more")
        return [row for row in rows if row is not None]

    def _parked(self) -> int:
        queue = self.stage.stack.outputs["ParkedQueueUrl"]
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found: dict[str, Any] = self.stage.emulator.client("sqs").get_queue_attributes(
            QueueUrl=queue, AttributeNames=names
        )["Attributes"]
        return sum(int(found[name]) for name in names)
