"""What long lives found out, each as short as it can be told."""

from __future__ import annotations

from tests.fakes.rotator import World
from token_rotator.domain.outcome import ClientAccepted, ClientRefused
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Kept, Offer


def test_a_trial_that_nobody_made_does_not_stop_the_fleet_later() -> None:
    """A prober was admitted on trial while nothing was due; then somebody else closed the breaker."""
    world = World()
    idle, other = world.new_breaker(), world.new_breaker()
    world.wise.valid_secrets = {"secret-2"}
    for name in ("anna", "ben"):
        idle.client_in_question(ClientRefused(), ClientRefused(), f"attempt-of-{name}", key=world.key(name))
    world.clock.advance(minutes=1)
    assert idle.enter(world.sweep_lane, 1) == 1
    world.clock.advance(minutes=1)
    world.wise.secrets = ["secret-2", "secret-1"]
    assert other.enter(world.sweep_lane, 1) == 1
    assert world.fleet.fleet.open_until is None

    idle.client_in_question(
        ClientRefused(), ClientAccepted(changed=False), "attempt-of-a-deactivated-user", key=world.key()
    )

    assert world.fleet.fleet.open_until is None


def test_an_imported_token_that_was_dead_already_says_nothing_about_a_request_of_ours() -> None:
    """An import is replayed: its refresh token still lives, its access token was replaced long ago."""
    world = World()
    first = world.adopted()
    exported = Secret(world.access_token())
    world.due_now()
    world.attempt()
    again = Offer(
        refresh_token=Secret(world.wise.users["anna"].refresh_token),
        access_token=exported,
        issued_at=first.issued_at,
        expires_at=first.expires_at,
    )
    assert isinstance(world.adopt_grant(world.key(), again, world.stored().version), Kept)
    world.clock.advance(hours=1)
    sent = len(world.wise.refreshes)
    world.wise.script = ["drop"]

    world.attempt()

    assert world.wise.late, "Wise may carry the request out still"
    assert len(world.wise.refreshes) == sent + 1, "a second one was sent meanwhile"
