"""What one run is like: everything that is drawn is drawn from its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any, Final

from local.wise.chaos import ChaosKind
from local.wise.settings import RefreshTokenPolicy

POLICIES: Final = tuple(RefreshTokenPolicy)
TENANTS: Final = {"acme": ("acme-onboarding", "acme-payments"), "globex": ("globex-payments", "globex-payments")}
"""By tenant: the partner that adopts its grants, and the one that reads them."""
_LONG_S: Final = 300
_FLOOR_S: Final = 60
"""The product leaves a new token alone for a minute, however short its life."""


class Leaving(Enum):
    """What becomes of the old refresher of a grant that moves in."""

    SWITCHED_OFF = "switched_off"
    """Before the grant is released."""
    STUBBORN = "stubborn"
    """It goes on after that."""
    STAYS = "stays"
    """The grant is never released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A grant that comes on hold. Instants are shares of the run."""

    tenant: str
    grant_id: str
    policy: RefreshTokenPolicy
    leaving: Leaving
    released_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """A personal token, and when its owner revokes it or makes another, if ever: shares of the run."""

    tenant: str
    grant_id: str
    revoked_at: float | None
    replaced_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """An account that Wise closes, and opens again if `opened_at`: shares of the run. `survives`: its tokens do."""

    tenant: str
    grant_id: str
    policy: RefreshTokenPolicy
    closed_at: float
    opened_at: float | None
    again: bool
    """Closed and opened once more a moment after that: its events overtake each other."""
    survives: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a run. A short one has shorter lives and less time to come right again."""

    seed: int
    seconds: float
    grants: int
    readers: int
    share: float = 0.1
    """Of all calls to Wise, how many fail."""

    @property
    def long(self) -> bool:
        """Long enough that everything must have happened, and that every verdict falls before the end."""
        return self.seconds >= _LONG_S

    @property
    def lives_s(self) -> tuple[float, float]:
        """The shortest and the longest life of an access token. Half of it, and a minute, pass before a refresh."""
        return (150, 300) if self.long else (110, 130)

    @property
    def patience_s(self) -> float:
        """A grant that is held back for longer than this, until an instant on record, is not waited for at the end.

        A doubt whose answer may lie parked is held for three minutes; a short run does not wait for that, a long one
        waits for everything.
        """
        return math.inf if self.long else 15

    @property
    def at_most_s(self) -> float:
        """How long it lasts where the machine is so busy that too little has happened by then."""
        return self.seconds * (1.5 if self.long else 3)

    @property
    def kill_every_s(self) -> float:
        """The mean time between two kills."""
        return 8 if self.long else 5

    @property
    def asks_per_s(self) -> float:
        """How often the readers together ask for a token: about what two cores can do beside everything else."""
        return 4

    def random(self, purpose: str) -> Random:
        """A source of chance of its own for each purpose, so that threads do not disturb each other's."""
        return Random(f"{self.seed}|{purpose}")  # noqa: S311 - repeatable is the point

    def grant_ids(self) -> list[tuple[str, str, RefreshTokenPolicy]]:
        """All grants: tenant, id, and what Wise does with its refresh token. The id is the user's name at Wise."""
        return [(_tenant(n), f"{_tenant(n)}-{n}", POLICIES[n % len(POLICIES)]) for n in range(self.grants)]

    def moves(self) -> list[Move]:
        """The grants that come on hold: of every policy some that are left alone, and some that are not."""
        random, moves = self.random("moves"), []
        for n in range(max(9, self.grants // 10)):
            tenant = _tenant(n)
            leaving = (Leaving.SWITCHED_OFF, Leaving.STUBBORN, Leaving.SWITCHED_OFF)[n // len(POLICIES) % 3]
            if n % 9 == 8:  # noqa: PLR2004 - a ninth
                leaving = Leaving.STAYS
            latest = 0.1 if leaving is Leaving.STUBBORN else 0.7
            moves.append(
                Move(
                    tenant=tenant,
                    grant_id=f"{tenant}-moved-{n}",
                    policy=POLICIES[n % len(POLICIES)],
                    leaving=leaving,
                    released_at=None if leaving is Leaving.STAYS else random.uniform(0.02, latest),
                )
            )
        return moves

    def personals(self) -> list[Personal]:
        """The personal tokens: a third is revoked, every second of those replaced later; a third is just replaced."""
        random, personals = self.random("personals"), []
        for n in range(max(6, self.grants * 8 // 100)):
            tenant, first = _tenant(n), random.uniform(0.1, 0.5)
            revoked = first if n % 3 == 0 else None
            replaced = first if n % 3 == 1 else None
            if n % 6 == 3:  # noqa: PLR2004 - every second of the revoked ones
                replaced = first + random.uniform(0.1, 0.3)
            personals.append(
                Personal(tenant=tenant, grant_id=f"{tenant}-own-{n}", revoked_at=revoked, replaced_at=replaced)
            )
        return personals

    def closings(self) -> list[Closing]:
        """The accounts that Wise closes: three of four are opened again, and three of four keep their tokens."""
        random, closings = self.random("closings"), []
        for n in range(max(4, self.grants // 25)):
            tenant, closed_at = _tenant(n), random.uniform(0.05, 0.4)
            closings.append(
                Closing(
                    tenant=tenant,
                    grant_id=f"{tenant}-closed-{n}",
                    policy=POLICIES[n % len(POLICIES)],
                    closed_at=closed_at,
                    opened_at=None if n % 4 == 3 else closed_at + random.uniform(0.05, 0.4),  # noqa: PLR2004
                    again=n % 4 == 1,
                    survives=n % 4 != 2,  # noqa: PLR2004
                )
            )
        return closings

    @property
    def application_tokens_coexist(self) -> bool:
        """Whether a new application token leaves the earlier ones alive at this Wise."""
        return self.random("coexist").random() < 0.5  # noqa: PLR2004 - one of two

    @property
    def elsewhere_every_s(self) -> tuple[float, float]:
        """How often an old refresher refreshes a grant."""
        return 20, 40

    def birth(self, random: Random) -> tuple[float, float]:
        """The life and the age of a grant's first access token: they fall due one after the other, soon."""
        life_s = random.uniform(*self.lives_s)
        due_at_age_s = max(life_s / 2, _FLOOR_S)
        return life_s, random.uniform(0, due_at_age_s - 5)

    def chaos(self) -> dict[str, Any]:
        """What the Wise emulator does while the run lasts."""
        return {
            "seed": self.seed,
            "share": self.share,
            "me_share": self.share,
            "latency_s": 0.4,
            # They stop the whole fleet, and for longer each time: rare, so that there is something to stop.
            "weights": {ChaosKind.THROTTLED.value: 0.4, ChaosKind.THROTTLED_BARE.value: 0.15},
        }


def _tenant(number: int) -> str:
    tenants = list(TENANTS)
    return tenants[number % len(tenants)]
