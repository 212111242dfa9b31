"""Two whole workers race for the same due grants: Wise sees one refresh, and both find the living token."""

from __future__ import annotations

from collections import Counter

import pytest

from local.wise.running import RunningWise
from tests.integration import workers
from tests.integration.place import A_WHILE_AGO_S, Place, wired

pytestmark = pytest.mark.emulator

GRANTS = 2
GENERATIONS = 3


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_wise_sees_one_refresh_and_both_find_the_living_token(wise: RunningWise, place: Place, policy: str) -> None:
    wise.control.change_settings(refresh_token_policy=policy)
    wise.control.answer_slowly(None, after_s=0.1)
    users = [wise.control.seed_user(f"user-{number}", age_s=A_WHILE_AGO_S) for number in range(GRANTS)]
    with wired(place) as (parts, _):
        keys = [parts.adopt(user) for user in users]

    rounds = workers.run(workers.Race(place, keys, GENERATIONS))

    assert len(rounds) == GRANTS * GENERATIONS
    for seen in rounds:
        assert len({(worker.key, worker.version) for worker in seen}) == 1
        assert {worker.liveness for worker in seen} == {"lives"}
        words = sorted(worker.word for worker in seen)
        assert words in (["held", "refreshed"], ["fresh", "refreshed"])
    assert Counter(worker.word for seen in rounds for worker in seen)["held"] > 0, "nobody met anybody"
    for user in users:
        requests = wise.control.requests(user=user.user)
        assert [request.outcome for request in requests] == ["refreshed"] * GENERATIONS
        assert len({request.correlation_id for request in requests}) == GENERATIONS
    assert wise.control.overlaps() == []
