"""Two whole workers after the same grants, in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from typing import Final

from tests.integration.place import Place, wired
from tests.integration.processes import PATIENCE_S, run_together
from token_rotator.domain.grant import GrantKey
from token_rotator.service.ports import Due
from token_rotator.service.serve_token import Served

WORKERS: Final = 2


@dataclass(frozen=True)
class Seen:
    """What one worker saw of one round: how its attempt ended, and what it could read afterwards."""

    key: GrantKey
    word: str
    version: int
    liveness: str


@dataclass(frozen=True)
class Race:
    """The grants that both workers are after, again and again."""

    place: Place
    keys: Sequence[GrantKey]
    generations: int


def run(race: Race) -> list[list[Seen]]:
    """Give what both workers saw, by round."""
    return [list(both) for both in zip(*run_together(WORKERS, _work, race), strict=True)]


def _work(number: int, race: Race, start: Barrier) -> list[Seen]:
    seen: list[Seen] = []
    with wired(race.place) as (parts, _):
        wise = parts.refreshing.wise
        serve = parts.serve()
        wise.check_credentials()
        for _generation in range(race.generations):
            for key in race.keys:
                start.wait(PATIENCE_S)
                result = parts.refreshing.refresh_grant(key, Due(), alone=False)
                served = serve(key)
                assert isinstance(served, Served)
                liveness = wise.ask(
                    served.access_token, attempt_id=f"worker-{number}", within=timedelta(seconds=5)
                ).liveness
                seen.append(Seen(key, result.word.value, served.version, liveness.value))
                start.wait(PATIENCE_S)
                if number == 0:
                    parts.make_due(key)
    return seen
