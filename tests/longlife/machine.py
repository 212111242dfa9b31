"""Months in the life of a deployment, as hypothesis makes them up: anything may go wrong, at any time, all at once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.fakes.world import START
from tests.longlife import simulation
from tests.longlife.deployment import Deployment
from tests.longlife.provider import OUTAGES, Trouble, User
from tests.longlife.simulation import Process
from token_rotator.domain.grant import GrantKey, Phase
from token_rotator.service import refresh_due
from token_rotator.service.serve_token import Served

GRANTS = {
    GrantKey("acme", "anna"): ("same", 12.0),
    GrantKey("acme", "bert"): ("rotated", 12.0),
    GrantKey("acme", "cleo"): ("omitted", 12.0),
    GrantKey("globex", "dora"): ("rotated", 12.0),
    GrantKey("globex", "emil"): ("same", 3.0),
}
"""Refresh-token policy and hours that an access token lives."""
RECOVERED = timedelta(hours=25)
"""By then everything must have come right: each grant was due at least once, and every pause and hold is over."""
ONE_PAUSE = timedelta(seconds=15 + 60 + 15)
"""What comes on top of the breaker's pause: a claim of a prober that died, the next sweep, the refreshes."""

keys = st.sampled_from(sorted(GRANTS))
short = st.sampled_from([1, 3, 8, 20, 45]).map(lambda s: timedelta(seconds=s))
minutes = st.sampled_from([1, 3, 10, 30]).map(lambda m: timedelta(minutes=m))
hours = st.sampled_from([1, 3]).map(lambda h: timedelta(hours=h))
outage = st.one_of(short, short, short, minutes, minutes, minutes, hours)
misbehaviour = st.one_of(
    st.tuples(st.just("down"), outage), st.tuples(st.sampled_from(["lost", "late", "slow"]), st.one_of(short, minutes))
)
"""How a service fails, and for how long."""
aims = st.sampled_from([None, None, -4.0, -1.0, 0.0, 0.3, 1.0, 3.0])
"""Seconds before or after the instant at which the next grant is due; None: here and now."""
calls = st.sampled_from(
    [
        f"{call} {when}"
        for call in (
            "wise.refresh",
            "wise.ask",
            "wise.settle_client",
            "table.acquire",
            "table.write",
            "table.admit",
            "table.due",
            "keys.prepare",
            "queue.park",
            "queue.receive",
            "queue.remove",
            "topic.publish",
        )
        for when in ("before", "after")
    ]
)

critical = st.sampled_from(["wise.refresh before", "wise.refresh after", "table.acquire after", "table.write before"])
moments = st.one_of(aims, critical, calls)
"""When something happens: near the next instant at which a grant is due, or when a worker next makes a call."""

lived: Counter[str] = Counter()
"""What all examples together came to: days, refreshes, faults."""


class LongLife(RuleBasedStateMachine):
    """Five grants of three refresh-token policies, and everything that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()

    @initialize(seed=st.integers(0, 2**16), allowed=st.sampled_from([True, True, True, False]))
    def begin(self, seed: int, allowed: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """`allowed`: Wise grants client credentials to our client."""
        self.world = Deployment(seed)
        self.patch.setattr(refresh_due, "ThreadPoolExecutor", self.world.simulation.pool)
        self.patch.setattr(refresh_due, "wait", simulation.wait)
        self.world.wise.grants_client_credentials = allowed
        for number, (key, (policy, life)) in enumerate(GRANTS.items()):
            user = User(policy, timedelta(hours=life))
            self.world.adopt(key, user, wait=timedelta(minutes=7 * number))
        self.world.live(timedelta(hours=1))

    # --- time

    def aim(self, seconds: float | None) -> None:
        """Let time pass until shortly before or after the next grant is due."""
        if seconds is None:
            return
        now, items = self.world.now, self.world.grants.items
        due = [g.refresh_at for g in items.values() if g.phase is Phase.ACTIVE and g.refresh_at > now]
        target = min(due, default=now) + timedelta(seconds=seconds)
        if target > now:
            self.world.live(target - now)

    def at(self, moment: float | str | None, happen: Callable[[], object]) -> None:
        """Let something happen at a moment, and let time pass until then."""
        if isinstance(moment, str):
            self.world.surprises.append((moment, lambda _: happen()))
            self.aim(3.0)
        else:
            self.aim(moment)
            happen()

    @rule(duration=st.one_of(short, minutes, hours, st.just(timedelta(hours=9))))
    def live(self, duration: timedelta) -> None:
        self.world.live(duration)

    @rule(days=st.sampled_from([1, 2, 4, 8, 15]))
    def live_on(self, days: int) -> None:
        self.world.live(timedelta(days=days))

    @rule(seconds=aims)
    def approach(self, seconds: float | None) -> None:
        self.aim(seconds)

    @rule(
        plan=st.lists(
            st.sampled_from([[], [0.0, 0.0], [0.0, 0.2], [0.5, 30.0], [40.0], [58.0]]), min_size=1, max_size=9
        )
    )
    def ticks(self, plan: list[list[float]]) -> None:
        """Ticks that do not come, come late, or come twice."""
        self.world.ticks = [list(delays) for delays in plan]

    @rule(duration=st.one_of(minutes, hours))
    def no_ticks(self, duration: timedelta) -> None:
        """The scheduler is out of order."""
        self.world.ticks = [[]] * (duration // timedelta(minutes=1))
        self.world.acted(f"no tick for {duration}")

    # --- readers

    @rule(key=keys, times=st.integers(1, 4), seconds=aims)
    def read(self, key: GrantKey, times: int, seconds: float | None) -> None:
        self.aim(seconds)
        for _ in range(times):
            self.world.read(key)

    @rule(key=keys, older=st.booleans(), times=st.integers(1, 3))
    def report(self, key: GrantKey, older: bool, times: int) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """Partner services report a version, whether its token is dead or not."""
        held = self.world.partners.get(key)
        if held is not None:
            for _ in range(times):
                self.world.read(key, held.version - older)

    # --- faults

    @rule(
        kind=st.sampled_from(OUTAGES),
        duration=outage,
        moment=moments,
        questions=st.booleans(),
        client=st.booleans(),
    )
    def wise_fails(
        self,
        kind: str,
        duration: timedelta,
        moment: float | str | None,
        questions: bool,  # noqa: FBT001 - hypothesis gives it by name
        client: bool,  # noqa: FBT001
    ) -> None:
        self.at(moment, lambda: self.world.trouble_wise(Trouble(kind, None, questions, client), duration))

    @rule(
        kind=st.sampled_from(["lose", "late", "drop", "proxy", "fault-after"]),
        duration=st.one_of(short, minutes),
        questions=st.booleans(),
    )
    def wise_falters(self, kind: str, duration: timedelta, questions: bool) -> None:  # noqa: FBT001
        """The worst moment for it: the request has just left."""
        trouble = Trouble(kind, None, questions=questions, client=True)
        self.at("wise.refresh before", lambda: self.world.trouble_wise(trouble, duration))

    @rule(
        duration=outage,
        moment=moments,
        retry_after=st.sampled_from([None, 0, 5, 60, 900, 7200]),
        client=st.booleans(),
    )
    def wise_throttles(
        self,
        duration: timedelta,
        moment: float | str | None,
        retry_after: int | None,
        client: bool,  # noqa: FBT001 - hypothesis gives it by name
    ) -> None:
        pause = None if retry_after is None else timedelta(seconds=retry_after)
        trouble = Trouble("throttle", pause, questions=True, client=client)
        self.at(moment, lambda: self.world.trouble_wise(trouble, duration))

    @rule(duration=outage, moment=critical)
    def table_goes_down(self, duration: timedelta, moment: str) -> None:
        """The worst moment for it: a refresh is under way."""
        self.at(moment, lambda: self._fault("table", "down", duration, unless="queue"))

    @rule(how=misbehaviour, moment=moments)
    def table_fails(self, how: tuple[str, timedelta], moment: float | str | None) -> None:
        self.at(moment, lambda: self._fault("table", *how, unless="queue"))

    @rule(how=misbehaviour, moment=moments)
    def queue_fails(self, how: tuple[str, timedelta], moment: float | str | None) -> None:
        self.at(moment, lambda: self._fault("queue", *how, unless="table"))

    def _fault(self, service: str, mode: str, duration: timedelta, unless: str) -> None:
        if self.world.services[unless].mode == "up":
            self.world.fault(service, mode, duration)

    @rule(duration=outage, moment=moments)
    def nothing_takes_writes(self, duration: timedelta, moment: float | str | None) -> None:
        self.at(moment, lambda: self._nothing_takes_writes(duration))

    def _nothing_takes_writes(self, duration: timedelta) -> None:
        services = self.world.services
        if services["table"].mode == services["queue"].mode and services["table"].mode in ("up", "down"):
            for service in ("table", "queue"):
                self.world.fault(service, "down", duration)

    @rule(mode=st.sampled_from(["down", "slow"]), duration=outage, moment=moments)
    def keys_fail(self, mode: str, duration: timedelta, moment: float | str | None) -> None:
        self.at(moment, lambda: self.world.fault("keys", mode, duration))

    @rule(how=misbehaviour, moment=moments)
    def topic_fails(self, how: tuple[str, timedelta], moment: float | str | None) -> None:
        self.at(moment, lambda: self.world.fault("topic", *how))

    @rule(duration=outage, moment=moments, cold=st.booleans())
    def secrets_fail(self, duration: timedelta, moment: float | str | None, cold: bool) -> None:  # noqa: FBT001
        """Secrets Manager does not answer. `cold`: no process has read anything yet."""
        self.at(moment, lambda: self.world.fault("secrets", "down", duration))
        if cold:
            self.world.restart()

    @rule(call=calls)
    def kill(self, call: str) -> None:
        """The next process that makes this call dies at it."""
        self.world.surprises.append((call, self._kill))
        self.aim(3.0)

    def _kill(self, process: Process) -> None:
        self.world.tally["killed at a call"] += 1
        process.kill()

    @rule(milliseconds=st.integers(0, 900), seconds=aims)
    def kill_all(self, milliseconds: int, seconds: float | None) -> None:
        """Every process that is at work dies."""
        self.aim(seconds)
        self.world.live(timedelta(milliseconds=milliseconds))
        for worker in [*self.world.sweepers, *self.world.refreshers]:
            if not worker.process.idle:
                worker.process.kill()

    @rule()
    def deploy(self) -> None:
        self.world.restart()

    # --- users

    @rule(key=keys, moment=moments)
    def revoke(self, key: GrantKey, moment: float | str | None) -> None:
        self.at(moment, lambda: self.world.wise.revoke(str(key)))

    @rule(key=keys, moment=moments)
    def deactivate(self, key: GrantKey, moment: float | str | None) -> None:
        """One user's account is closed: nobody else is to notice."""
        self.at(moment, lambda: self.world.wise.deactivate(str(key)))

    @rule(key=keys, tokens_come_back=st.booleans())
    def reactivate(self, key: GrantKey, tokens_come_back: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        self.world.wise.reactivate(str(key), tokens_come_back=tokens_come_back)

    # --- operators

    @rule(
        first=st.sampled_from(["aws", "wise"]),
        gap=outage,
        both=st.booleans(),
        aimed=st.booleans(),
    )
    def rotate_client_secret(self, first: str, gap: timedelta, both: bool, aimed: bool) -> None:  # noqa: FBT001
        """The client secret changes, here first or there first. `both`: Wise takes the old one for an hour more."""
        world = self.world
        if aimed:
            self.aim(-1.0)
        newest = f"secret-{world.wise.secret_version + 1}"
        before, alone = world.wise.valid_secrets, self._nothing_else_is_wrong()
        steps = [world.put_secret, lambda: world.change_at_wise({newest} | (before if both else set()))]
        if first == "wise":
            steps.reverse()
        steps[0]()
        world.live(gap)
        steps[1]()
        if alone:
            self._recovers_within_one_pause()
        if both:
            world.simulation.after(timedelta(hours=1), lambda: self._only(newest))

    def _nothing_else_is_wrong(self) -> bool:
        world = self.world
        if world.surprises or not world.calm or any(service.mode != "up" for service in world.services.values()):
            return False
        deactivated = any(user.deactivated for user in world.wise.users.values())
        return world.wise.grants_client_credentials or not deactivated  # else a refusal may be about either

    def _only(self, secret: str) -> None:
        if secret in self.world.wise.valid_secrets:
            self.world.change_at_wise({secret})

    def _recovers_within_one_pause(self) -> None:
        """Nothing else is wrong: what is due now is refreshed when the breaker's pause is over."""
        world, now = self.world, self.world.now
        pause_ends = max(world.fleet.fleet.open_until or now, now)
        due = {
            key: g.version for key, g in world.grants.items.items() if g.phase is Phase.ACTIVE and g.refresh_at <= now
        }
        world.ticks = []
        world.live(pause_ends + ONE_PAUSE - now)
        for key, version in due.items():
            grant = world.grants.items.get(key)
            user = world.wise.users[str(key)]
            if grant is not None and user.refresh and not user.deactivated:
                assert grant.version > version, f"{key} was not refreshed when the client secret was right again"
        if due:
            assert world.fleet.fleet.open_until is None, "the breaker is open though the client secret is right again"

    @rule(key=keys, access=st.booleans(), wait=short, moment=moments)
    def adopt(self, key: GrantKey, access: bool, wait: timedelta, moment: float | str | None) -> None:  # noqa: FBT001
        """The user authorizes anew, and an operator imports it: over what is there, or new."""
        self.at(moment, lambda: self.world.adopt(key, access=access, wait=wait))

    @rule(key=keys, access=st.booleans(), moment=moments)
    def import_again(self, key: GrantKey, access: bool, moment: float | str | None) -> None:  # noqa: FBT001
        """An operator imports what was imported before, whatever has become of it."""
        self.at(moment, lambda: self.world.import_again(key, access=access))

    @rule(key=keys, moment=moments)
    def delete(self, key: GrantKey, moment: float | str | None) -> None:
        self.at(moment, lambda: self.world.delete(key))

    # --- the verdict

    @invariant()
    def every_promise_is_kept(self) -> None:
        if hasattr(self, "world"):
            self._judge(healed=False)

    def _judge(self, *, healed: bool) -> None:
        broken = self.world.judge(healed=healed)
        if broken:
            names = sorted(str(key) for key in GRANTS if any(str(key) in line for line in broken))
            stories = "\n".join(f"{name}:\n{self.world.story(name)}" for name in names)
            raise AssertionError("\n".join([*broken, stories]))

    def teardown(self) -> None:
        """All faults end; a day later everything has come right."""
        try:
            if hasattr(self, "world") and sys.exc_info()[0] is None:
                self._heal()
                self._all_is_well()
        finally:
            self._sum_up()
            self.patch.undo()

    def _heal(self) -> None:
        world = self.world
        for service in world.services:
            world.mend(service)
        world.mend_wise()
        world.surprises, world.ticks = [], []
        if world.wise.secrets[0] not in world.wise.valid_secrets:
            world.change_at_wise({world.wise.secrets[0]})
        for key in GRANTS:
            world.wise.reactivate(str(key), tokens_come_back=world.chance.random() < 0.5)
        world.acted("all faults are over")
        world.live(RECOVERED)
        world.live(timedelta(seconds=58 - world.now.second % 60 + (60 if world.now.second >= 58 else 0)))
        for key, grant in [*world.grants.items.items()]:
            if grant.phase is Phase.ACTIVE:
                self._read_in_vain_at_most_twice(key)

    def _read_in_vain_at_most_twice(self, key: GrantKey) -> None:
        served: list[bool] = []
        while len(served) < 3 and not any(served):
            self.world.finish(self.world.read(key, then=lambda answer: served.append(isinstance(answer, Served))))
            self.world.live(timedelta(seconds=4))

    def _all_is_well(self) -> None:
        world = self.world
        self._judge(healed=True)
        fleet = world.fleet.fleet
        assert fleet.open_until is None, f"the breaker is open: {fleet}"
        assert fleet.alert is None or fleet.alert.published_at is not None, f"nobody was told: {fleet.alert}"
        assert world.parking.messages == [], "answers lie parked"
        for key, grant in world.grants.items.items():
            assert (grant.attempt_id, grant.in_doubt) == (None, None), f"a lease or a doubt was left: {grant}"
            assert grant.alert is None or grant.alert.published_at is not None, f"nobody was told: {grant}"
            overdue = grant.due_at is not None and grant.due_at < world.now - timedelta(minutes=2)
            assert not overdue, f"{key} is overdue since {grant.due_at}: {grant}"
            assert grant.phase is not Phase.ACTIVE or grant.due_at is not None, f"{key} is never looked at: {grant}"

    def _sum_up(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        lived["examples"] += 1
        lived["seconds"] += int((world.now - START).total_seconds())
        lived["carried out"] += world.wise.carried_out
        lived.update(world.tally)
        lived.update(world.wise.struck)
        world.end()


def figures() -> dict[str, Any]:
    """Say what all examples so far came to."""
    return {"months": round(lived["seconds"] / 86400 / 30, 1), **{k: v for k, v in sorted(lived.items()) if v}}
