"""A stage on which the grant is our application's own token: nobody adopts it, and nobody can ask whether it lives."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from local.proof.history import Kind, Minted, Questioned, RefreshBegan, RefreshSettled
from tests.fakes.wise import LIFE
from tests.protocol.stage import NAME, Actor, Stage
from tests.protocol.wise import WiseOnStage
from token_rotator.domain.errors import KeyUnavailable, StoreUnavailable
from token_rotator.domain.grant import APPLICATION
from token_rotator.domain.outcome import ClientCheck, ClientRefused, Outcome, Unknown
from token_rotator.domain.tokens import TokenSet

_WITHIN = timedelta(seconds=5)


class ApplicationAtWise(WiseOnStage):
    """Issues application tokens: to whoever keeps them, and to whoever only asks about our client."""

    stage: ApplicationStage
    question: str | None = None
    """The one that is being answered."""

    def wrap(self) -> None:
        super().wrap()
        wise = self.wise
        self.plain_issue, self.plain_carry_out_application = wise.issue_application_token, wise.carry_out_application
        wise.issue_application_token = self.issue  # type: ignore[method-assign]
        wise.carry_out_application = self.carry_out_application  # type: ignore[method-assign]

    def issue(self, *, attempt_id: str, within: timedelta) -> Outcome:
        return self._exchange(
            "issue",
            "",
            attempt_id,
            lambda: self.plain_issue(attempt_id=attempt_id, within=within),
            self.wise.carry_out_application,
        )

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        """An answer that is lost was carried out all the same."""
        stage = self.stage
        plan = stage.step("client", "settle_client", ("secret", "w"), ("wise", "w"))
        if stage.actor.processes:
            stage.actor.processes[-1].attempts.add(attempt_id)
        when = stage.moment()
        self.requests += 1
        self.question = f"question-{self.requests}"
        answer: ClientCheck = ClientRefused(status=401, error="invalid_client")
        if plan != "refused":
            answer = self.plain_settle(attempt_id=attempt_id, within=within)
        if plan == "no answer":
            answer = Unknown(reason="injected")
        stage.recorder.add(
            Questioned(
                when=when,
                grant=NAME,
                request=self.question,
                attempt=attempt_id,
                ended=stage.moment(),
                told=plan != "no answer",
            )
        )
        self.question = None
        return answer

    def carry_out_application(self) -> TokenSet:
        stage, wise = self.stage, self.wise
        before = list(wise.application)
        tokens = self.plain_carry_out_application()
        made = tokens.access_token.reveal()
        for token in before:
            if token not in wise.application:
                stage.died(token, self.question or self.request)
        stage.issued(made, tokens.expires_at, self.request if self.question is None else None)
        if self.question is None:
            self._settled_with(made)
        return tokens

    def _began(self, attempt_id: str, token: str) -> str:
        self.requests += 1
        request = f"request-{self.requests}"
        self.stage.recorder.add(RefreshBegan(when=self.stage.moment(), grant=NAME, request=request, attempt=attempt_id))
        return request

    def _settled(self, *, carried_out: bool) -> None:
        assert not carried_out
        self._settled_with(None)

    def _settled_with(self, token: str | None) -> None:
        stage = self.stage
        access = None if token is None else stage.name_of(token)
        stage.recorder.add(
            RefreshSettled(
                when=stage.moment(),
                grant=NAME,
                request=self.request or "",
                carried_out=token is not None,
                access=access,
            )
        )
        self.request = None


class ApplicationStage(Stage):
    """`policy`: `coexist`, or `alone`, where each application token that is issued ends the ones before.

    `absent`: nobody has asked for it yet.
    """

    key = APPLICATION
    wise_on_stage = ApplicationAtWise

    def __init__(self, policy: str, life: timedelta = LIFE, *, absent: bool = False) -> None:
        self.policy, self.absent = policy, absent
        super().__init__("same", life)

    def name_of(self, token: str) -> str:
        return self.names.setdefault(token, f"a{len(self.names) + 1}")

    def issued(self, token: str, expires_at: datetime, request: str | None) -> None:
        when, name = self.moment(), self.name_of(token)
        self.recorder.add(
            Minted(when=when, grant=NAME, token=name, kind=Kind.APPLICATION, expires_at=expires_at, request=request)
        )

    def _wrap(self) -> None:
        super()._wrap()
        item = (("item", "w"),)
        self._wrap_calls(self.world.grants, "write", StoreUnavailable, doubt=item, begin=item)
        doubt = self.world.grants.doubt

        def doubt_on_record(*arguments: Any) -> None:
            try:
                doubt(*arguments)
            except StoreUnavailable:
                self._not_noted(arguments[1])
                raise

        self.world.grants.doubt = doubt_on_record  # type: ignore[method-assign]
        self._wrap_calls(self.world.sealer, "key", KeyUnavailable, prepare_application=())

    def _not_noted(self, attempt_id: str) -> None:
        """The table did not take what a question may have done: that is all that the rotator tries."""
        for number, record in enumerate(self.recorder.records):
            if isinstance(record, Questioned) and record.attempt == attempt_id:
                self.recorder.records[number] = replace(record, noted=False)

    def _adopted(self, life: timedelta) -> Any:
        self.world.wise.coexist = self.policy == "coexist"
        if not self.absent:
            with self.acting(Actor("first reader")):
                self._read()
        return self.stored

    # --- what happens to it

    def _question(self) -> None:
        """Another grant's refresh was refused, and so Wise is asked about our client."""
        with self.process("refresh2"):
            self.world.asker.settle_client(attempt_id=self.world.new_id(), within=_WITHIN)

    def _end_token(self) -> None:
        """Wise ends the token by itself."""
        self.note("application token ended at Wise")
        for token in self.world.wise.application:
            self.died(token, None)
        self.world.wise.application.clear()
