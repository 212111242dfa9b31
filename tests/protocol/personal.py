"""A stage on which the grant is a personal token: nothing renews it, and it is good until its owner ends it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from local.proof.history import NEVER, Kind, Minted
from tests.fakes.wise import LIFE
from tests.protocol.stage import NAME, Actor, Stage
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Offer


class PersonalStage(Stage):
    """`p1` is adopted. There is nothing in its place at the token endpoint, so the policy makes no difference."""

    def __init__(self, policy: str = "same", life: timedelta = LIFE) -> None:
        super().__init__(policy, life)

    def name_of(self, token: str) -> str:
        return self.names.setdefault(token, f"p{len(self.names) + 1}")

    def _made(self) -> Offer:
        """Let the owner make a token at Wise."""
        token = f"personal-{len(self.names) + 1}"
        self.world.wise.personal.add(token)
        when, name = self.moment(), self.name_of(token)
        self.recorder.add(Minted(when=when, grant=NAME, token=name, kind=Kind.PERSONAL, expires_at=NEVER))
        return Offer(personal_token=Secret(token))

    def _adopted(self, life: timedelta) -> Any:
        self.offer = self._made()
        with self.acting(Actor("operator")):
            self.world.adopt_grant(self.key, self.offer, None)
        return self.stored

    # --- what happens to it

    def _revoke(self) -> None:
        """Its owner ends every token that there is, and nobody is told."""
        self.step("others", "revoke", ("wise", "w"))
        if self.world.wise.personal:
            self.note("revoked at Wise")
        for token in sorted(self.world.wise.personal):
            self.died(token, None)
        self.world.wise.personal.clear()

    def _relink(self) -> None:
        """Its owner makes another one, and somebody brings it. The one before lives on until it is ended."""
        self.step("others", "make another", ("wise", "w"))
        offer, stored = self._made(), self.stored
        with self.process("admin"):
            self.world.adopt_grant(self.key, offer, None if stored is None else stored.version)

    def _renew(self) -> None:
        """Its owner ends the one that there is, makes another one and brings it."""
        self._revoke()
        self._relink()
