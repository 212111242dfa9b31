"""The real use cases over the fakes: one world, one clock."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from token_rotator.domain.fleet import Lane
from token_rotator.domain.grant import APPLICATION, Grant, GrantKey
from token_rotator.domain.lease import Budgets
from token_rotator.domain.suspension import Suspension
from token_rotator.domain.tokens import SealedField, Secret
from token_rotator.service.adopt_grant import AdoptGrant, Declined, DeleteGrant, Kept, Offer
from token_rotator.service.apply_state import ApplyState
from token_rotator.service.ask_about_client import AskAboutClient
from token_rotator.service.breaker import Breaker
from token_rotator.service.drain_parking import DrainParking
from token_rotator.service.drop_tokens import DropTokens
from token_rotator.service.hold_grant import HoldAll, HoldGrant
from token_rotator.service.keep_answer import KeepAnswer
from token_rotator.service.link_grant import Arrival, Arrived, ConfirmLink, Failed, Started, StartLink, TakeArrival
from token_rotator.service.ports import Cause, Due, RefreshReport
from token_rotator.service.refresh_due import RefreshDue
from token_rotator.service.refresh_grant import RefreshGrant, Result
from token_rotator.service.serve_token import NotServed, Served, ServeToken
from token_rotator.service.suspend_grant import SuspendGrant
from token_rotator.service.tell_people import TellPeople

from .alerts import InMemoryAlerts
from .fleet import InMemoryFleet
from .grants import InMemoryGrants
from .links import InMemoryLinks
from .parking import InMemoryParking
from .sealer import InMemorySealer
from .states import InMemoryStates
from .suspensions import InMemorySuspensions
from .wise import LIFE, FakeWise
from .world import FakeClock, FakeIds, FakeTokens, RecordingJournal


class World:
    """Everything that one deployment is, in memory."""

    def __init__(self, policy: str = "same", budgets: Budgets | None = None) -> None:
        self.clock = FakeClock()
        self.budgets = budgets or Budgets()
        self.grants = InMemoryGrants()
        self.wise = FakeWise(self.clock, policy)
        self.sealer = InMemorySealer()
        self.alerts = InMemoryAlerts()
        self.journal = RecordingJournal()
        self.new_id = FakeIds()
        self.fleet = InMemoryFleet()
        self.parking = InMemoryParking(self.clock)
        self.suspensions = InMemorySuspensions()
        self.sweep_lane, self.demand_lane = Lane("sweep", 900), Lane("demand", 100)
        self.chance = 0.0
        self.remind_after, self.many_dying = timedelta(days=1), 100
        self.tell = TellPeople(self.grants, self.alerts, self.journal, self.clock, self.remind_after)
        self.keep = KeepAnswer(self.grants, self.journal, self.budgets, self.clock)
        self.drain = DrainParking(self.parking, self.grants, self.keep, self.journal, self.clock)
        self.asker = AskAboutClient(self.wise, self.grants, self.journal, self.budgets, self.clock)
        self.breaker = self.new_breaker()
        self.refresh_grant = RefreshGrant(
            self.grants,
            self.wise,
            self.sealer,
            self.keep,
            self.parking,
            self.breaker,
            self.tell,
            self.journal,
            self.budgets,
            self.clock,
            self.clock.sleep,
            self.new_id,
            self.suspensions,
        )
        self.states = InMemoryStates(self.grants)
        self.links = InMemoryLinks(self.grants)
        self.apply_state = ApplyState(self.states, self.grants, self.journal, self.clock)
        self.refresh_due = RefreshDue(
            self.refresh_grant,
            self.grants,
            self.grants,
            self.drain,
            self.breaker,
            self.sweep_lane,
            self.tell,
            self.journal,
            self.budgets,
            self.clock,
            self.clock.sleep,
            workers=1,
            apply_state=self.apply_state,
            drop_tokens=DropTokens(self.links, self.journal, self.clock),
        )
        self.serve_token = ServeToken(
            self.grants,
            self.sealer,
            self,
            self.budgets,
            self.clock,
            self.clock.sleep,
            lambda: self.chance,
            self.suspensions,
        )
        self.adopt_grant = AdoptGrant(self.grants, self.sealer, self.budgets, self.clock, self.clock.sleep)
        self.delete_grant = DeleteGrant(self.grants, self.budgets, self.clock, self.clock.sleep)
        self.new_token = FakeTokens()
        self.start_link = StartLink(
            self.grants,
            self.links,
            self.wise.client_id,
            "https://rotator.example/oauth/callback",
            self.clock,
            self.new_token,
            self.suspensions,
        )
        self.take_arrival = TakeArrival(
            self.links,
            self.wise,
            self.sealer,
            self.journal,
            self.budgets,
            self.clock,
            self.clock.sleep,
            self.new_id,
            self.new_token,
            self.suspensions,
            self.asker,
        )
        self.confirm_link = ConfirmLink(self.grants, self.links, self.budgets, self.clock, self.clock.sleep)
        self.suspend_grant = SuspendGrant(self.grants, self.clock)
        self.hold_grant = HoldGrant(self.grants, self.budgets, self.clock, self.clock.sleep)
        self.hold_all = HoldAll(self.suspensions, self.budgets, self.clock, self.clock.sleep)
        self.reports: list[RefreshReport] = []

    def new_breaker(self) -> Breaker:
        """The breaker as one more process sees it."""
        return Breaker(
            fleet=self.fleet,
            wise=self.asker,
            publisher=self.alerts,
            journal=self.journal,
            budgets=self.budgets,
            clock=self.clock,
            new_id=self.new_id,
            random=lambda: self.chance,
            many_dying=self.many_dying,
        )

    def key(self, name: str = "anna") -> GrantKey:
        return GrantKey("acme", name)

    def adopted(self, name: str = "anna", life: timedelta = LIFE, **more: object) -> Grant:
        """A user with a fresh access token that is known to live, adopted with everything that Wise gave."""
        access, refresh = self.wise.add(name, life)
        offer = Offer(
            refresh_token=refresh,
            access_token=access,
            issued_at=self.clock(),
            expires_at=self.clock() + life,
            **more,  # type: ignore[arg-type]
        )
        kept = self.adopt_grant(self.key(name), offer, None)
        assert isinstance(kept, Kept)
        self.grants.items[self.key(name)] = replace(kept.grant, unproven=False)
        return self.stored(name)

    def registration_of(self, name: str = "anna") -> Secret:
        """Let us have created a user at Wise, and give the registration as it is sealed."""
        made = self.wise.register(name)
        return Secret(json.dumps({"code": made.code.reveal(), "email": made.email.reveal()}))

    def registered(self, name: str = "anna", **more: object) -> Grant:
        """As `adopted`, with the registration code of a user whom we created."""
        grant = self.adopted(name, **more)  # type: ignore[arg-type]
        sealed = self.sealer.box(grant.key, SealedField.REGISTRATION, self.registration_of(name))
        self.grants.items[grant.key] = replace(grant, registration=sealed)
        return self.grants.items[grant.key]

    def begun(self, name: str = "anna") -> Grant:
        """A grant that begins with a registration code, and nothing else."""
        self.wise.add(name)
        self.wise.users[name].alive = False
        kept = self.adopt_grant(self.key(name), Offer(registration=self.registration_of(name)), None)
        assert isinstance(kept, Kept)
        return kept.grant

    def personal(self, name: str = "anna", token: str = "personal-1", **more: object) -> Grant:
        """A grant of a personal token that lives."""
        self.wise.personal.add(token)
        offer = Offer(personal_token=Secret(token), **more)  # type: ignore[arg-type]
        kept = self.adopt_grant(self.key(name), offer, None)
        assert isinstance(kept, Kept)
        return self.stored(name)

    def application(self) -> str:
        """Have our application's own token: what is stored for it now."""
        sealed = self.grants.items[APPLICATION].access_token
        assert sealed is not None
        return self.sealer.unbox(APPLICATION, SealedField.ACCESS_TOKEN, sealed).reveal()

    def order(self, reason: str = "a drill") -> Suspension:
        return Suspension(self.clock(), "operator", reason)

    def stored(self, name: str = "anna") -> Grant:
        return self.grants.items[self.key(name)]

    def due_now(self, name: str = "anna") -> Grant:
        """Move the clock to where the grant is due."""
        self.clock.now = max(self.clock.now, self.stored(name).refresh_at)
        return self.stored(name)

    def attempt(self, name: str = "anna", cause: Cause | None = None, *, alone: bool = True) -> Result:
        return self.refresh_grant(self.key(name), cause or Due(), alone=alone)

    def sweep(self, seconds: float = 1) -> object:
        return self.refresh_due(range(16), self.clock() + timedelta(seconds=seconds))

    def serve(self, name: str = "anna", rejected: int | None = None) -> Served | NotServed:
        return self.serve_token(self.key(name), rejected)

    def start(self, name: str = "anna", return_url: str | None = None) -> str:
        """Start a link and give its `state`."""
        assert isinstance(self.start_link(self.key(name), "acme-onboarding", return_url), Started)
        return self.new_token.given[-1].reveal()

    def arrive(
        self, state: str | None, user: str = "anna", profile_id: str | None = "9001", **more: Any
    ) -> Arrived | Failed:
        """Come back from Wise as a user who consented."""
        code = self.wise.code(user, self.start_link.redirect_uri)
        return self.take_arrival(Arrival(**{"state": state, "code": code, "profile_id": profile_id, **more}))

    def came_back(self, name: str = "anna", user: str | None = None, profile_id: str | None = "9001") -> str:
        """Start a link, consent, and give the `link_id`."""
        arrived = self.arrive(self.start(name), user or name, profile_id)
        assert isinstance(arrived, Arrived)
        return arrived.link_id.reveal()

    def confirm(self, link_id: str, name: str = "anna") -> Kept | Declined:
        return self.confirm_link(self.key(name), link_id)

    def access_token(self, name: str = "anna") -> str:
        sealed = self.stored(name).access_token
        assert sealed is not None
        return self.sealer.open_access_token(self.key(name), sealed).reveal()

    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport:
        """`Refresher`: what the refresh function answers, without Lambda between."""
        from token_rotator.domain.errors import RotatorError
        from token_rotator.service.refresh_grant import Word

        try:
            until = self.clock() + self.budgets.refresh_function - timedelta(milliseconds=300)
            result = self.refresh_grant(key, cause, alone=True, lane=self.demand_lane, until=until)
        except RotatorError:
            return RefreshReport("failed")
        words = {
            Word.REFRESHED: "refreshed",
            Word.FRESH: "fresh",
            Word.CONFIRMED: "confirmed",
            Word.HELD: "held",
            Word.FAILED: "failed",
            Word.IN_DOUBT: "in_doubt",
            Word.BARRED: "barred",
            Word.SUSPENDED: "suspended",
            Word.ON_HOLD: "on_hold",
        }
        retry_after = None if result.retry_at is None else result.retry_at - self.clock()
        report = RefreshReport(words.get(result.word, "gone"), result.version, retry_after)
        self.reports.append(report)
        return report
