"""Histories written by hand, one line an event: a small language for the checker's own tests."""

from __future__ import annotations

from datetime import timedelta

from local.proof.checker import Rule, check
from local.proof.history import (
    NEVER,
    Adopted,
    Announced,
    Asked,
    Deleted,
    Died,
    History,
    Keeper,
    Kind,
    Minted,
    Moment,
    NotServed,
    Outage,
    Parked,
    ProcessDied,
    Questioned,
    Recorder,
    RefreshAnswered,
    RefreshBegan,
    RefreshSettled,
    Reported,
    Served,
    Stored,
    Suspended,
    Told,
)
from tests.fakes.world import FakeClock

LIFE = timedelta(hours=12)


class Story:
    """One grant, `anna`, adopted with `a1` and `r1`, which Wise made for her."""

    def __init__(self, life: timedelta = LIFE) -> None:
        self.clock = FakeClock()
        self.recorder = Recorder(self.clock)
        self.life = life
        self.refresh_token: str | None = "r1"
        self.living = "a1"
        self.version = 1
        self.begins()

    def begins(self) -> None:
        self.mint("a1", Kind.ACCESS)
        self.mint("r1", Kind.REFRESH)
        self.adopt("a1", "r1", replaced=False)
        self.store("a1", "r1")

    def now(self) -> Moment:
        return self.recorder.moment()

    def later(self, seconds: float) -> Story:
        self.clock.advance(seconds=seconds)
        return self

    def mint(self, token: str, kind: Kind, request: str | None = None, grant: str = "anna") -> None:
        when = self.now()
        expires_at = when.at + self.life
        self.recorder.add(
            Minted(when=when, grant=grant, token=token, kind=kind, expires_at=expires_at, request=request)
        )

    def die(self, token: str, request: str | None = None) -> None:
        self.recorder.add(Died(when=self.now(), grant="anna", token=token, request=request))

    # --- Wise

    def begin(self, attempt: str | None, presented: str | None = None) -> None:
        presented = presented or self.refresh_token
        self.recorder.add(
            RefreshBegan(when=self.now(), grant="anna", request=f"of {attempt}", attempt=attempt, presented=presented)
        )

    def carry_out(self, attempt: str | None, access: str, refresh: str | None = None) -> None:
        """Wise replaces the access token, and the refresh token where it is another one."""
        request = f"of {attempt}"
        if self.living:
            self.die(self.living, request)
        self.mint(access, Kind.ACCESS, request)
        self.living = access
        if refresh is not None:
            self.die(str(self.refresh_token), request)
            self.mint(refresh, Kind.REFRESH, request)
            self.refresh_token = refresh
        self.recorder.add(
            RefreshSettled(
                when=self.now(),
                grant="anna",
                request=request,
                carried_out=True,
                access=access,
                refresh=self.refresh_token,
            )
        )

    def drop(self, attempt: str) -> None:
        self.recorder.add(RefreshSettled(when=self.now(), grant="anna", request=f"of {attempt}", carried_out=False))

    def answer(self, attempt: str, told: Told = Told.TOKENS) -> None:
        self.recorder.add(RefreshAnswered(when=self.now(), grant="anna", request=f"of {attempt}", told=told))

    def refresh(self, attempt: str, access: str, refresh: str | None = None) -> Story:
        """One refresh that nobody disturbs, up to its answer."""
        self.begin(attempt)
        self.carry_out(attempt, access, refresh)
        self.answer(attempt)
        return self

    def ask(self, token: str, *, told: bool = True, lives: bool | None = None) -> None:
        lives = token == self.living if lives is None else lives
        self.recorder.add(Asked(when=self.now(), grant="anna", token=token, lives=lives, told=told))

    # --- the rotator

    def store(self, access: str | None, refresh: str | None = None, phase: str = "active", **more: str) -> None:
        self.version += 1
        self.recorder.add(
            Stored(
                when=self.now(),
                grant="anna",
                phase=phase,
                version=self.version,
                access=access,
                refresh=refresh or self.refresh_token,
                **more,
            )
        )

    def judge(self, reason: str = "invalid_grant") -> None:
        self.store(self.living, phase="reauthorization_required", reason=reason)

    def park(self, access: str) -> None:
        self.recorder.add(Parked(when=self.now(), grant="anna", access=access))

    def serve(
        self, token: str, for_s: float = 3600, looked: Moment | None = None, looked_by: Moment | None = None
    ) -> None:
        looked = looked or self.now()
        self.recorder.add(
            Served(
                when=self.now(),
                grant="anna",
                looked=looked,
                token=token,
                version=self.version,
                stable_until=self.clock() + timedelta(seconds=for_s),
                looked_by=looked_by,
            )
        )

    def turn_away(self) -> None:
        self.recorder.add(NotServed(when=self.now(), grant="anna", looked=self.now(), why="temporarily-unavailable"))

    def announce(self, kind: str = "reauthorization_required", reason: str | None = None) -> None:
        self.recorder.add(
            Announced(when=self.now(), grant="anna", kind=kind, incident_id="fixture-incident", reason=reason)
        )

    # --- others

    def report(self, version: int | None = None) -> None:
        self.recorder.add(Reported(when=self.now(), grant="anna", version=version or self.version))

    def adopt(self, access: str, refresh: str | None, *, replaced: bool = True, asked: Moment | None = None) -> None:
        asked = asked or self.now()
        self.recorder.add(
            Adopted(when=self.now(), grant="anna", asked=asked, access=access, refresh=refresh, replaced=replaced)
        )

    def delete(self) -> None:
        self.recorder.add(Deleted(when=self.now(), grant="anna", asked=self.now()))

    def suspend(self, *, lifted: bool = False) -> None:
        self.recorder.add(Suspended(when=self.now(), grant="anna", lifted=lifted))

    def kill(self, *attempts: str) -> None:
        self.recorder.add(ProcessDied(when=self.now(), grant=None, attempts=frozenset(attempts)))

    def outage(self, keeper: Keeper, seconds: float) -> None:
        """A keeper that takes nothing from this moment on, for a while."""
        when = self.now()
        ended = Moment(when.order, when.at + timedelta(seconds=seconds))
        self.recorder.add(Outage(when=when, grant=None, keeper=keeper, ended=ended))

    # --- the verdict

    def history(self, *, healed: bool = True, every_write: bool = True) -> History:
        return self.recorder.history(healed=healed, every_write=every_write)

    def broken(self, **more: bool) -> list[Rule]:
        return [violation.rule for violation in check(self.history(**more))]


class ApplicationStory(Story):
    """Our application's own token, `a1` since the attempt `first`; `coexist`: a new one leaves the one before alive."""

    def __init__(self, life: timedelta = LIFE, *, coexist: bool = False) -> None:
        self.coexist = coexist
        super().__init__(life)

    def begins(self) -> None:
        self.refresh_token, self.living = None, ""
        self.refresh("first", "a1").store("a1")

    def carry_out(self, attempt: str | None, access: str, refresh: str | None = None) -> None:
        assert refresh is None
        request = f"of {attempt}"
        self._issue(access, request, request)
        self.recorder.add(
            RefreshSettled(when=self.now(), grant="anna", request=request, carried_out=True, access=access)
        )

    def question(
        self, attempt: str, token: str | None, *, told: bool = True, for_s: float = 0, noted: bool = True
    ) -> None:
        """Ask Wise about our client, for so long; `token`: what Wise issues for it, if it accepts us."""
        when = self.now()
        request = f"question of {attempt}"
        if token is not None:
            self._issue(token, request, None)
        self.clock.advance(seconds=for_s)
        self.recorder.add(
            Questioned(
                when=when, grant="anna", request=request, attempt=attempt, ended=self.now(), told=told, noted=noted
            )
        )

    def _issue(self, token: str, request: str, minted_by: str | None) -> None:
        if self.living and not self.coexist:
            self.die(self.living, request)
        self.mint(token, Kind.APPLICATION, minted_by)
        self.living = token


class PersonalStory(Story):
    """One personal token, `p1`, adopted."""

    def begins(self) -> None:
        self.refresh_token, self.living = None, "p1"
        self.make("p1")
        self.adopt("p1", None, replaced=False)
        self.store("p1")

    def make(self, token: str) -> None:
        """The user makes a token; the ones before live on."""
        self.recorder.add(Minted(when=self.now(), grant="anna", token=token, kind=Kind.PERSONAL, expires_at=NEVER))
        self.living = token

    def revoke(self) -> None:
        self.die(self.living)
        self.living = ""
