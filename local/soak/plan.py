"""What one run is like: everything that is drawn is drawn from its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
        return 6

    def random(self, purpose: str) -> Random:
        """A source of chance of its own for each purpose, so that threads do not disturb each other's."""
        return Random(f"{self.seed}|{purpose}")  # noqa: S311 - repeatable is the point

    def grant_ids(self) -> list[tuple[str, str, RefreshTokenPolicy]]:
        """All grants: tenant, id, and what Wise does with its refresh token. The id is the user's name at Wise."""
        tenants = list(TENANTS)
        return [
            (tenants[n % len(tenants)], f"{tenants[n % len(tenants)]}-{n}", POLICIES[n % len(POLICIES)])
            for n in range(self.grants)
        ]

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
