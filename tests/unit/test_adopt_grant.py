"""A grant's adoption, replacement and end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from tests.fakes.world import START
from token_rotator.domain.grant import AlertKind, Phase
from token_rotator.domain.outcome import Liveness, ServerFault
from token_rotator.domain.suspension import FOUND_DEAD
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.service.ports import Done, Refused
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import Served


@pytest.fixture
def world() -> World:
    return World()


def offer(world: World, name: str = "anna", **more: object) -> Offer:
    access, refresh = world.wise.add(name)
    dates = {"issued_at": world.clock(), "expires_at": world.clock() + timedelta(hours=12)}
    return Offer(refresh_token=refresh, access_token=access, **{**dates, **more})  # type: ignore[arg-type]


def stale() -> Offer:
    """What was exported before the story began."""
    return Offer(
        refresh_token=Secret("refresh-anna-1"),
        access_token=Secret("access-anna-1"),
        issued_at=START,
        expires_at=START + timedelta(hours=12),
    )


def test_adopting_spends_no_refresh_and_keeps_the_given_access_token_in_use(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    assert kept.created
    assert world.wise.refreshes == []
    assert kept.grant.version == int(START.timestamp() * 1000)
    served = world.serve()
    assert isinstance(served, Served)
    assert served.access_token.reveal() == "access-anna-1"
    world.clock.advance(hours=4)
    world.sweep()
    assert world.wise.refreshes == []
    world.clock.advance(hours=4)
    world.sweep()
    assert len(world.wise.refreshes) == 1


def test_a_grant_without_an_access_token_is_due_at_once(world: World) -> None:
    _, refresh = world.wise.add("anna")
    kept = world.adopt_grant(world.key(), Offer(refresh_token=refresh), None)
    assert isinstance(kept, Kept)
    assert kept.grant.due_at == world.clock()
    world.sweep()
    assert len(world.wise.refreshes) == 1


def test_an_old_access_token_is_refreshed_soon(world: World) -> None:
    old = offer(world, issued_at=world.clock() - timedelta(hours=11), expires_at=world.clock() + timedelta(hours=1))
    kept = world.adopt_grant(world.key(), old, None)
    assert isinstance(kept, Kept)
    assert kept.grant.refresh_at == kept.grant.due_at == world.clock()


def test_an_access_token_without_an_issue_instant_counts_from_now(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world, issued_at=None), None)
    assert isinstance(kept, Kept)
    assert timedelta(hours=4) < kept.grant.refresh_at - world.clock() < timedelta(hours=8)


def test_a_replayed_import_does_not_bury_a_newer_token(world: World) -> None:
    first = offer(world)
    world.adopt_grant(world.key(), first, None)
    world.due_now()
    world.attempt()
    before = world.stored()
    assert world.adopt_grant(world.key(), first, None) is Declined.PRECONDITION_FAILED
    assert world.adopt_grant(world.key(), first, before.version - 1) is Declined.PRECONDITION_FAILED
    assert world.stored() == before


def test_the_named_version_is_replaced(world: World) -> None:
    world.adopt_grant(world.key(), offer(world), None)
    world.due_now()
    world.wise.users["anna"].alive = False
    world.attempt()
    dead = world.stored()
    assert dead.phase is Phase.REAUTHORIZATION_REQUIRED
    kept = world.adopt_grant(world.key(), offer(world), dead.version)
    assert isinstance(kept, Kept)
    assert not kept.created
    after = world.stored()
    assert after.version > dead.version
    assert after.phase is Phase.ACTIVE
    assert after.alert is not None
    assert dead.alert is not None
    assert (after.alert.kind, after.alert.incident_id) == (AlertKind.RECOVERED, dead.alert.incident_id)
    assert after.created_at == dead.created_at
    assert isinstance(world.serve(), Served)


def test_replacing_what_is_not_there_fails_its_precondition(world: World) -> None:
    assert world.adopt_grant(world.key(), offer(world), 1) is Declined.PRECONDITION_FAILED


def test_a_replacement_keeps_a_suspension(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    world.grants.items[world.key()] = replace(kept.grant, phase=Phase.SUSPENDED)
    world.adopt_grant(world.key(), offer(world), kept.grant.version)
    assert world.stored().phase is Phase.SUSPENDED


def test_a_replacement_waits_for_the_lease_and_then_fails_its_precondition(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    held = replace(kept.grant, attempt_id="x", lease_until=world.clock() + world.budgets.lease)
    world.grants.items[world.key()] = held

    def commit() -> None:
        world.grants.items[world.key()] = replace(kept.grant, version=kept.grant.version + 1)

    world.clock.on_sleep = commit
    assert world.adopt_grant(world.key(), offer(world), kept.grant.version) is Declined.PRECONDITION_FAILED


def test_a_replacement_gives_up_on_a_lease_within_its_time(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    began = world.clock()
    held = replace(kept.grant, attempt_id="x", lease_until=began + timedelta(minutes=5))
    world.grants.items[world.key()] = held
    assert world.adopt_grant(world.key(), offer(world), kept.grant.version) is Declined.BUSY
    assert world.delete_grant(world.key()) is Declined.BUSY
    assert world.clock() - began <= 2 * world.budgets.serve


def test_an_access_token_given_over_a_lease_that_ran_out_is_in_doubt(world: World) -> None:
    world.adopt_grant(world.key(), offer(world), None)
    world.due_now()
    world.wise.script = ["lose"]
    assert world.attempt().word is Word.IN_DOUBT
    world.clock.advance(seconds=23)
    world.clock.advance(minutes=3)  # who took the answer is gone by now
    kept = world.adopt_grant(world.key(), stale(), world.stored().version)
    assert isinstance(kept, Kept)
    assert world.stored().in_doubt == "attempt-1"
    assert world.stored().due_at == world.clock()
    served = world.serve()
    assert isinstance(served, Served)
    assert world.wise.lives(served.access_token.reveal())


def lost(policy: str = "rotated") -> World:
    """A refresh was sent, and who would have taken the answer is gone. Its lease has run out."""
    world = World(policy)
    world.adopt_grant(world.key(), offer(world), None)
    world.due_now()
    world.wise.script = ["lose"]
    world.wise.asks = [Liveness.NO_ANSWER]
    assert world.attempt().word is Word.IN_DOUBT
    world.clock.advance(seconds=23)
    return world


@pytest.mark.parametrize("taken_over", [False, True])
def test_an_older_copy_is_not_taken_while_an_answer_may_be_on_its_way(*, taken_over: bool) -> None:
    world = lost()
    if taken_over:
        assert world.attempt().word is Word.IN_DOUBT
        assert world.stored().hold_until == world.clock() + world.budgets.hold
    before = world.stored()
    bare = Offer(refresh_token=Secret("refresh-anna-1"))
    for older in (stale(), bare, replace(stale(), issued_at=None)):
        assert world.adopt_grant(world.key(), older, before.version) is Declined.BUSY
    assert world.stored() == before
    until = before.hold_until or (before.lease_until or START) + world.budgets.hold
    world.clock.now = until - timedelta(milliseconds=1)
    assert world.adopt_grant(world.key(), bare, before.version) is Declined.BUSY
    world.clock.now = until
    assert isinstance(world.adopt_grant(world.key(), bare, before.version), Kept)


def test_a_parked_answer_is_not_buried_by_an_older_copy() -> None:
    world = World("rotated")
    world.adopt_grant(world.key(), offer(world), None)
    world.due_now()
    world.grants.failures = ["ok"] + ["before"] * 100
    assert world.attempt().code == "answer-parked"
    world.grants.failures = []
    world.clock.advance(seconds=23)
    version = world.stored().version
    assert world.adopt_grant(world.key(), stale(), version) is Declined.BUSY
    world.sweep()
    assert world.adopt_grant(world.key(), stale(), version) is Declined.PRECONDITION_FAILED
    assert isinstance(world.serve(), Served)


@pytest.mark.parametrize("seconds", [4, 5])
def test_tokens_that_wise_issued_after_the_last_attempt_are_taken_at_once(seconds: int) -> None:
    world = lost()
    tried_at = world.stored().last_attempt_at or START
    issued_at = tried_at + timedelta(seconds=seconds)
    answer = world.adopt_grant(world.key(), offer(world, issued_at=issued_at), world.stored().version)
    assert isinstance(answer, Kept) == (seconds == 5)
    assert seconds == 5 or answer is Declined.BUSY


def test_a_dead_grant_is_brought_back_at_once() -> None:
    world = lost()
    assert world.attempt().word is Word.IN_DOUBT
    for _ in range(10):
        world.clock.advance(seconds=30)
        world.sweep(20)
    dead = world.stored()
    assert (dead.phase, dead.last_error) == (Phase.REAUTHORIZATION_REQUIRED, "outcome_unknown")
    assert isinstance(world.adopt_grant(world.key(), stale(), dead.version), Kept)


@pytest.mark.parametrize("access", [True, False])
def test_a_doubt_and_its_hold_are_inherited_with_or_without_an_access_token(*, access: bool) -> None:
    world = lost()
    world.attempt()
    before = world.stored()
    issued_at = world.clock() + timedelta(seconds=5)
    world.clock.advance(seconds=6)
    brought = replace(stale(), issued_at=issued_at)  # by their date they are newer
    if not access:
        brought = Offer(refresh_token=brought.refresh_token, issued_at=issued_at)
    kept = world.adopt_grant(world.key(), brought, before.version)
    assert isinstance(kept, Kept)
    assert (kept.grant.in_doubt, kept.grant.hold_until) == (before.in_doubt, before.hold_until)
    assert kept.grant.due_at is not None
    assert kept.grant.due_at <= world.clock()
    world.sweep()
    assert world.stored().phase is Phase.ACTIVE
    assert world.alerts.published == []
    for _ in range(10):
        world.clock.advance(seconds=30)
        world.sweep(20)
    assert [alert.reason for alert in world.alerts.published] == ["outcome_unknown"]


def test_each_newer_import_over_one_doubt_is_taken() -> None:
    world = lost()
    world.attempt()
    for _ in range(2):
        world.clock.advance(seconds=10)
        brought = replace(stale(), issued_at=world.clock())
        assert isinstance(world.adopt_grant(world.key(), brought, world.stored().version), Kept)
    older = replace(stale(), issued_at=world.clock() - timedelta(minutes=1))
    assert world.adopt_grant(world.key(), older, world.stored().version) is Declined.BUSY


def test_a_lease_that_ran_out_leaves_its_hold_to_an_import() -> None:
    world = lost()
    world.clock.advance(minutes=3)
    kept = world.adopt_grant(world.key(), stale(), world.stored().version)
    assert isinstance(kept, Kept)
    assert kept.grant.hold_until is not None
    assert kept.grant.hold_until - world.clock() == world.budgets.hold - timedelta(
        microseconds=world.clock().microsecond % 1000
    )


@pytest.mark.parametrize("access", [True, False])
def test_a_lost_answer_is_the_reason_for_an_older_copy_too(*, access: bool) -> None:
    world = lost()
    world.attempt()
    for _ in range(10):
        world.clock.advance(seconds=30)
        world.sweep(20)
    version = world.stored().version
    brought = stale() if access else Offer(refresh_token=Secret("refresh-anna-1"))
    assert isinstance(world.adopt_grant(world.key(), brought, version), Kept)
    world.sweep()
    assert world.stored().last_error == "outcome_unknown"


def test_a_dead_refresh_token_that_is_brought_once_more_was_revoked_and_not_lost(world: World) -> None:
    world.adopt_grant(world.key(), offer(world), None)
    world.due_now()
    world.wise.users["anna"].alive = False
    world.attempt()
    world.adopt_grant(world.key(), stale(), world.stored().version)
    assert world.stored().in_doubt == FOUND_DEAD
    world.attempt()
    assert world.stored().last_error == "invalid_grant"
    world.adopt_grant(world.key(), Offer(refresh_token=Secret("refresh-anna-1")), world.stored().version)
    assert world.stored().in_doubt is None


def test_one_wise_profile_belongs_to_one_grant(world: World) -> None:
    assert isinstance(world.adopt_grant(world.key("anna"), offer(world, profile_id="77"), None), Kept)
    assert world.adopt_grant(world.key("bob"), offer(world, "bob", profile_id="77"), None) is Declined.ALREADY_HELD
    kept = world.adopt_grant(world.key("carl"), offer(world, "carl"), None)
    assert isinstance(kept, Kept)
    other = offer(world, "carl", profile_id="77")
    assert world.adopt_grant(world.key("carl"), other, kept.grant.version) is Declined.ALREADY_HELD
    assert world.delete_grant(world.key("anna")) is None
    assert isinstance(world.adopt_grant(world.key("carl"), other, kept.grant.version), Kept)


def test_a_grant_does_not_change_its_profile(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world, profile_id="77"), None)
    assert isinstance(kept, Kept)
    other = offer(world, profile_id="78")
    assert world.adopt_grant(world.key(), other, kept.grant.version) is Declined.DIFFERENT_PROFILE
    same = world.adopt_grant(world.key(), offer(world), kept.grant.version)
    assert isinstance(same, Kept)
    assert same.grant.profile_id == "77"


def test_two_creations_make_one_grant(world: World) -> None:
    create = world.grants.create
    world.grants.get = lambda _: None  # type: ignore[assignment, method-assign] # both saw nothing
    assert isinstance(world.adopt_grant(world.key(), offer(world), None), Kept)
    assert world.adopt_grant(world.key(), offer(world), None) is Declined.PRECONDITION_FAILED
    world.grants.create = lambda grant: (create(grant), create(grant))[1]  # type: ignore[method-assign]
    assert isinstance(world.adopt_grant(world.key("bob"), offer(world, "bob"), None), Kept)


def test_a_replacement_whose_first_answer_the_sdk_lost_is_kept(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    once = world.grants.replace
    world.grants.replace = lambda *a: (once(*a), once(*a))[1]  # type: ignore[method-assign]
    again = world.adopt_grant(world.key(), offer(world), kept.grant.version)
    assert isinstance(again, Kept)
    assert world.stored().version == again.grant.version


def test_a_deleted_grant_is_gone_and_stragglers_bring_nothing_back(world: World) -> None:
    world.adopt_grant(world.key(), offer(world), None)
    assert world.delete_grant(world.key()) is None
    assert world.delete_grant(world.key()) is Declined.NOT_FOUND
    assert world.attempt().word is Word.GONE


def test_a_delete_that_meets_a_change_reads_again(world: World) -> None:
    world.adopt_grant(world.key(), offer(world), None)
    delete, tries = world.grants.delete, []

    def changed_first(grant: object, when: object) -> Done | Refused:
        tries.append(grant)
        if len(tries) == 1:
            world.grants.items[world.key()] = replace(world.stored(), version=world.stored().version + 1)
        return delete(grant, when)  # type: ignore[arg-type]

    world.grants.delete = changed_first  # type: ignore[assignment, method-assign]
    assert world.delete_grant(world.key()) is None
    assert len(tries) == 2


def test_a_grant_made_anew_never_repeats_a_version(world: World) -> None:
    first = world.adopt_grant(world.key(), offer(world), None)
    world.delete_grant(world.key())
    world.clock.advance(milliseconds=1)
    second = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(first, Kept)
    assert isinstance(second, Kept)
    assert second.grant.version > first.grant.version


def test_a_replacement_that_meets_a_new_lease_waits_and_tries_again(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    once, tries = world.grants.replace, []

    def leased_first(before: object, after: object, when: object) -> object:
        tries.append(before)
        if len(tries) == 1:
            until = world.clock() + timedelta(seconds=1)
            before_it = world.clock() - timedelta(seconds=5)
            held = replace(world.stored(), attempt_id="x", lease_until=until, last_attempt_at=before_it)
            world.grants.items[world.key()] = held
        return once(before, after, when)  # type: ignore[arg-type]

    world.grants.replace = leased_first  # type: ignore[assignment, method-assign]
    again = world.adopt_grant(world.key(), offer(world), kept.grant.version)
    assert isinstance(again, Kept)
    assert len(tries) == 2


def _during_sealing(world: World, happen: object) -> None:
    seal, done = world.sealer.seal, []

    def slow(*arguments: object) -> object:
        if not done:
            done.append(True)
            happen()  # type: ignore[operator]
        return seal(*arguments)  # type: ignore[arg-type]

    world.sealer.seal = slow  # type: ignore[assignment, method-assign]


def test_a_verdict_that_falls_while_the_import_seals_does_not_outlive_it(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    world.due_now()

    def judged() -> None:
        world.wise.users["anna"].alive = False
        world.attempt()
        assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
        world.wise.users["anna"].alive = True

    fresh = offer(world)
    _during_sealing(world, judged)
    again = world.adopt_grant(world.key(), fresh, kept.grant.version)
    assert isinstance(again, Kept)
    assert world.stored().phase is Phase.ACTIVE
    world.sweep(3)
    assert [alert.kind for alert in world.alerts.published] == [
        AlertKind.REAUTHORIZATION_REQUIRED,
        AlertKind.RECOVERED,
    ]
    assert isinstance(world.serve(), Served)


def test_a_doubt_that_comes_while_the_import_seals_is_resolved_soon(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world), None)
    assert isinstance(kept, Kept)
    world.due_now()

    def doubted() -> None:
        world.wise.script = [ServerFault(status=500)]
        world.wise.asks = [Liveness.NO_ANSWER]
        assert world.attempt().word is Word.IN_DOUBT

    fresh = offer(world)
    _during_sealing(world, doubted)
    assert isinstance(world.adopt_grant(world.key(), fresh, kept.grant.version), Kept)
    assert world.stored().in_doubt is not None
    assert world.stored().due_at == world.clock() - timedelta(microseconds=world.clock().microsecond % 1000)
    assert isinstance(world.serve(), Served)


def test_an_access_token_that_has_expired_is_due_at_once(world: World) -> None:
    old = offer(world, issued_at=None, expires_at=world.clock() - timedelta(hours=1))
    kept = world.adopt_grant(world.key(), old, None)
    assert isinstance(kept, Kept)
    assert kept.grant.due_at == world.clock()
    assert isinstance(world.serve(), Served)


# --- a registration code


def test_a_registration_code_stays_unless_another_one_comes(world: World) -> None:
    kept = world.adopt_grant(world.key(), offer(world, registration=Secret("code-1")), None)
    assert isinstance(kept, Kept)
    spent = replace(kept.grant, registration_spent_at=world.clock())
    world.grants.items[world.key()] = spent
    again = world.adopt_grant(world.key(), offer(world), spent.version)
    assert isinstance(again, Kept)
    assert (again.grant.registration, again.grant.registration_spent_at) == (spent.registration, world.clock())
    other = world.adopt_grant(world.key(), offer(world, registration=Secret("code-2")), again.grant.version)
    assert isinstance(other, Kept)
    assert other.grant.registration not in (None, spent.registration)
    assert other.grant.registration_spent_at is None


def test_new_tokens_over_a_doubtful_reissue_are_proved_at_once(world: World) -> None:
    """A reissue that is carried out late ends the refresh token that was linked meanwhile, and no access token."""
    before = world.registered("ben")
    world.clock.now = before.refresh_at
    world.wise.users["ben"].alive = False
    world.wise.reissue_script = ["drop"]
    world.attempt("ben")
    registration = world.wise.users["ben"].registration
    access, refresh = world.wise.add("ben")
    world.wise.users["ben"].registration = registration
    world.wise.carry_out_late_reissue()  # after the user has authorized, before we know
    world.clock.advance(seconds=23)
    now = world.clock()
    fresh = Offer(refresh_token=refresh, access_token=access, issued_at=now, expires_at=now + timedelta(hours=12))
    assert isinstance(world.adopt_grant(before.key, fresh, before.version), Kept)
    sent = len(world.wise.refreshes)
    world.sweep(60)
    assert len(world.wise.refreshes) > sent
    assert world.stored("ben").in_doubt is not None  # the answer of the first reissue may be parked
    world.clock.advance(minutes=3)
    world.sweep(60)
    assert world.stored("ben").in_doubt is None
    assert world.wise.lives(world.access_token("ben"))
    assert len(world.wise.reissues) == 2
