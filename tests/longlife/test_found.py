"""What long lives found out, each as short as it can be told."""

from __future__ import annotations

from tests.fakes.rotator import World
from token_rotator.domain.outcome import ClientAccepted, ClientRefused


def test_a_trial_that_nobody_made_does_not_stop_the_fleet_later() -> None:
    """A prober was admitted on trial while nothing was due; then somebody else closed the breaker."""
    world = World()
    idle, other = world.new_breaker(), world.new_breaker()
    world.wise.valid_secrets = {"secret-2"}
    idle.client_in_question(ClientRefused(), ClientRefused(), "attempt-of-a-grant")
    world.clock.advance(minutes=1)
    assert idle.enter(world.sweep_lane, 1) == 1
    world.clock.advance(minutes=1)
    world.wise.secrets = ["secret-2", "secret-1"]
    assert other.enter(world.sweep_lane, 1) == 1
    assert world.fleet.fleet.open_until is None

    idle.client_in_question(ClientRefused(), ClientAccepted(changed=False), "attempt-of-a-deactivated-user")

    assert world.fleet.fleet.open_until is None
