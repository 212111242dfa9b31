"""Wise on stage: a request arrives, is carried out or not, and its answer reaches its sender or does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local.proof.history import Asked, Kind, RefreshAnswered, RefreshBegan, RefreshSettled, Told
from tests.protocol.steps import OUTAGES, Killed
from token_rotator.domain.outcome import (
    ClientCheck,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Outcome,
    Refreshed,
    Said,
    ServerFault,
    Throttled,
    Unknown,
)
from token_rotator.domain.tokens import Registration, Secret, TokenSet

if TYPE_CHECKING:
    from tests.protocol.stage import Stage

GAVE_UP = timedelta(seconds=5)
"""When we give up on a refresh."""
LATE = timedelta(seconds=14)
"""When Wise carries out a request that we gave up on, or the table a write: as late as we have to reckon with."""
_ANSWERS_IN = timedelta(milliseconds=200)
_ASKED_IN_VAIN = timedelta(seconds=2)
_PAUSE = timedelta(seconds=2)
_OURSELVES: dict[str, Outcome] = {
    "throttled": Throttled(status=429, retry_after=timedelta(seconds=5)),
    "client refused": ClientRefused(status=401, error="invalid_client"),
    "fault": ServerFault(status=500, trace_id="f" * 32),
    "fault, done": ServerFault(status=500, trace_id="f" * 32),
}


class WiseOnStage:
    """Wraps the fake Wise of a stage: its calls become steps, and what it does goes into the history."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wise = stage.world.wise
        self.requests = 0
        self.request: str | None = None
        """The one that is being carried out."""
        self.swift = False
        """It answers in no time: its time would only hide orders of steps from a scheduler."""

    def wrap(self) -> None:
        wise = self.wise
        self.plain_carry_out, self.plain_refresh = wise.carry_out, wise.refresh
        self.plain_reissue, self.plain_carry_out_reissue = wise.reissue, wise.carry_out_reissue
        self.plain_ask, self.plain_settle = wise.ask, wise.settle_client
        wise.reissue, wise.carry_out_reissue = self.reissue, self.carry_out_reissue  # type: ignore[method-assign]
        wise.carry_out, wise.refresh = self.carry_out, self.refresh  # type: ignore[method-assign]
        wise.ask, wise.settle_client = self.ask, self.settle_client  # type: ignore[method-assign]

    # --- the port

    def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
        value = refresh_token.reveal()
        return self._exchange(
            "refresh",
            value,
            attempt_id,
            lambda: self.plain_refresh(refresh_token, attempt_id=attempt_id, within=within),
            lambda: self.wise.carry_out(value),
        )

    def reissue(self, registration: Registration, *, attempt_id: str, within: timedelta) -> Outcome:
        """In the history it presents what it ends: the user's present refresh token."""
        presented = (registration.code.reveal(), registration.email.reveal())
        return self._exchange(
            "reissue",
            self.stage.user.refresh_token,
            attempt_id,
            lambda: self.plain_reissue(registration, attempt_id=attempt_id, within=within),
            lambda: self.wise.carry_out_reissue(presented),
        )

    def _exchange(
        self,
        name: str,
        presented: str,
        attempt_id: str,
        plainly: Callable[[], Outcome],
        carry_out: Callable[[], object],
    ) -> Outcome:
        """Two steps: the request leaves, and is answered. Between them it is at Wise."""
        stage = self.stage
        plan = stage.step("send", name, ("wise", "w"))
        if plan == "not sent":
            return NotSent(reason="injected")
        if plan == "pause":
            stage.clock.sleep(_PAUSE)
        if stage.actor.processes:
            stage.actor.processes[-1].attempts.add(attempt_id)
        request = self._began(attempt_id, presented)
        plan = stage.step("answer", name, ("wise", "w"))
        if not self.swift:
            stage.clock.sleep(_ANSWERS_IN)
        if plan != "ok" and plan not in OUTAGES:
            return self._disturbed(plan, request, carry_out)
        answer: Outcome = self._during(request, plainly)
        self._answered(request, answer)
        if plan in OUTAGES:
            stage.outage(*OUTAGES[plan])
        return answer

    def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
        stage = self.stage
        plan = stage.step("ask", "ask", ("wise", "w"))
        if plan == "time out":
            stage.clock.sleep(_ASKED_IN_VAIN)
        told = plan == "ok"
        lives = self.wise.lives(access_token.reveal())
        answer = (
            self.plain_ask(access_token, attempt_id=attempt_id, within=within) if told else Said(Liveness.NO_ANSWER)
        )
        stage.recorder.add(
            Asked(
                when=stage.moment(),
                grant=stage.name,
                token=stage.name_of(access_token.reveal()),
                lives=lives,
                told=told,
            )
        )
        return answer

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        plan = self.stage.step("client", "settle_client", ("secret", "w"))
        if plan == "no answer":
            return Unknown(reason="injected")
        if plan == "refused":
            return ClientRefused(status=401, error="invalid_client")
        return self.plain_settle(attempt_id=attempt_id, within=within)

    def refresh_elsewhere(self) -> None:
        """Somebody else refreshes the user's tokens, with the newest ones."""
        token = self.stage.user.refresh_token
        request = self._began(None, token)
        self._during(request, lambda: self.carry_out(token))

    # --- behind it

    def carry_out(self, refresh_token: str) -> TokenSet | None:
        """Do what a request asks for; from then on it can change nothing any more."""
        stage, user, request = self.stage, self.stage.user, self.request
        access, refresh = [*user.lingering, user.access_token], user.refresh_token
        tokens = self.plain_carry_out(refresh_token)
        if tokens is not None:
            for token in access:
                stage.died(token, request)
            stage.minted(user.access_token, Kind.ACCESS, request)
            if user.refresh_token != refresh:
                stage.died(refresh, request)
                stage.minted(user.refresh_token, Kind.REFRESH, request)
        self._settled(carried_out=tokens is not None)
        return tokens

    def carry_out_reissue(self, presented: tuple[str, str]) -> TokenSet | None:
        """The same for a reissue: it ends the refresh token, if that lives, and no access token."""
        stage, user, request = self.stage, self.stage.user, self.request
        refresh, lived = user.refresh_token, user.alive
        tokens = self.plain_carry_out_reissue(presented)
        if tokens is not None:
            if lived:
                stage.died(refresh, request)
            stage.minted(user.access_token, Kind.ACCESS, request)
            stage.minted(user.refresh_token, Kind.REFRESH, request)
        self._settled(carried_out=tokens is not None)
        return tokens

    def _began(self, attempt_id: str | None, token: str) -> str:
        stage = self.stage
        self.requests += 1
        request = f"request-{self.requests}"
        presented = stage.name_of(token)
        stage.recorder.add(
            RefreshBegan(
                when=stage.moment(), grant=stage.name, request=request, attempt=attempt_id, presented=presented
            )
        )
        return request

    def _settled(self, *, carried_out: bool) -> None:
        stage = self.stage
        access = stage.name_of(stage.user.access_token) if carried_out else None
        refresh = stage.name_of(stage.user.refresh_token) if carried_out else None
        stage.recorder.add(
            RefreshSettled(
                when=stage.moment(),
                grant=stage.name,
                request=self.request or "",
                carried_out=carried_out,
                access=access,
                refresh=refresh,
            )
        )
        self.request = None

    def _during(self, request: str, do: Callable[[], Any]) -> Any:
        """Have something done in the name of a request, which is settled then."""
        self.request = request
        answer = do()
        if self.request is not None:
            self._settled(carried_out=False)  # it was refused before its token was looked at
        return answer

    def _answered(self, request: str, outcome: Outcome) -> None:
        stage = self.stage
        if isinstance(outcome, Refreshed):
            told = Told.TOKENS
        elif isinstance(outcome, GrantInvalid):
            told = Told.INVALID
        else:
            told = Told.REFUSED if isinstance(outcome, Throttled | ClientRefused) else Told.NOTHING
        stage.recorder.add(RefreshAnswered(when=stage.moment(), grant=stage.name, request=request, told=told))

    def _disturbed(self, plan: str, request: str, carry_out: Callable[[], object]) -> Outcome:
        """A request that arrived, and whose answer is not the one that it should be."""
        if plan.endswith("late"):
            self.stage.clock.later(self.stage.late, lambda: self._during(request, carry_out))
        elif plan.endswith("done") or plan == "lost":
            self._during(request, carry_out)
        else:
            self._during(request, lambda: None)
        if plan.startswith("killed"):
            raise Killed
        if plan.startswith("time out"):
            self.stage.clock.sleep(GAVE_UP)
        outcome = _OURSELVES.get(plan, Unknown(reason=plan.replace(" ", "-").replace(",", "")))
        self._answered(request, outcome)
        return outcome
