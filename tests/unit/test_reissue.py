"""Reissuing from a registration code, row by row of the outcome table, and broken at every step."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.rotator import World
from tests.fakes.wise import ANSWER
from token_rotator.domain.grant import AlertKind, Phase
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.suspension import FOUND_DEAD
from token_rotator.domain.tokens import Registration, Secret
from token_rotator.service.adopt_grant import Kept, Offer
from token_rotator.service.journal import AttemptEnded, DemandBarred, Sent, Trouble
from token_rotator.service.ports import Due
from token_rotator.service.refresh_grant import Result, Word
from token_rotator.service.serve_token import NotServed, Served, Why

DEAD = GrantInvalid(status=400, error="invalid_grant", trace_id="f" * 32)


def dying(policy: str = "same") -> World:
    """Anna's grant is due, and her refresh token is dead; we have created her."""
    world = World(policy)
    world.registered()
    world.due_now()
    world.wise.users["anna"].alive = False
    return world


@pytest.fixture
def world() -> World:
    return dying()


def on_demand(world: World) -> Result:
    return world.refresh_grant(world.key(), Due(), alone=True, lane=world.demand_lane)


def next_try(world: World) -> Result:
    """The next attempt by a sweep that has seen the parking queue empty, as soon as one makes sense."""
    stored = world.stored()
    if stored.attempt_id is not None and stored.lease_until is not None:
        world.clock.now = max(world.clock.now, stored.lease_until + world.budgets.margin + timedelta(milliseconds=1))
    elif stored.due_at is not None:
        world.clock.now = max(world.clock.now, stored.due_at)
    return world.refresh_grant(world.key(), Due(), alone=True, drained_at=world.clock())


# --- it comes back by itself


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_a_dead_grant_comes_back_by_itself_and_people_are_informed(policy: str) -> None:
    world = dying(policy)
    before = world.stored()
    result = world.attempt()
    after = world.stored()
    assert result.word is Word.REFRESHED
    assert (result.calls, len(world.wise.refreshes), len(world.wise.reissues)) == (2, 1, 1)
    assert after.phase is Phase.ACTIVE
    assert after.version == before.version + 1
    assert (after.attempt_id, after.in_doubt, after.failures) == (None, None, 0)
    assert after.registration == before.registration
    assert after.registration_spent_at is None
    assert after.refresh_token != before.refresh_token
    assert world.wise.lives(world.access_token())
    assert isinstance(world.serve(), Served)
    world.sweep()
    assert [(told.kind, told.reason, told.attempt_id, told.trace_id) for told in world.alerts.published] == [
        (AlertKind.REISSUED, "invalid_grant", result_id(world), ANSWER)
    ]
    world.due_now()
    assert world.attempt().word is Word.REFRESHED  # with the refresh token that came along
    assert len(world.wise.reissues) == 1
    world.sweep(60)
    assert len(world.alerts.published) == 1


def result_id(world: World) -> str:
    ended = world.journal.of(AttemptEnded)[0]
    return ended.attempt_id  # type: ignore[attr-defined, no-any-return]


def test_what_is_presented_is_what_the_user_was_created_with(world: World) -> None:
    seen: list[Registration] = []
    plain = world.wise.reissue

    def reissue(registration: Registration, **more: object) -> object:
        seen.append(registration)
        return plain(registration, **more)  # type: ignore[arg-type]

    world.wise.reissue = reissue  # type: ignore[assignment, method-assign]
    world.attempt()
    assert [(one.code.reveal(), one.email.reveal()) for one in seen] == [("code-anna", "anna@example.com")]


def test_both_requests_are_on_record_with_one_attempt(world: World) -> None:
    world.attempt()
    sent = world.journal.of(Sent)
    assert [(event.outcome, event.reissue) for event in sent] == [  # type: ignore[attr-defined]
        ("grant_invalid", False),
        ("refreshed", True),
    ]
    assert len({event.attempt_id for event in sent}) == 1  # type: ignore[attr-defined]


def test_each_death_is_an_incident_of_its_own(world: World) -> None:
    world.attempt()
    world.sweep()
    world.due_now()
    world.wise.users["anna"].refresh_token = "refresh-anna-70"
    world.attempt()
    world.sweep()
    assert len({alert.incident_id for alert in world.alerts.published}) == 2


def test_a_refresh_that_was_carried_out_and_lost_is_told_as_the_reason() -> None:
    world = World("rotated")
    world.registered()
    world.due_now()
    world.wise.script = ["lose"]  # the new refresh token is lost with the answer
    assert world.attempt().word is Word.REFRESHED
    assert (len(world.wise.refreshes), len(world.wise.reissues)) == (2, 1)
    world.sweep()
    assert [alert.reason for alert in world.alerts.published] == ["outcome_unknown"]


def test_nothing_is_reissued_while_an_answer_may_be_parked() -> None:
    world = World("rotated")
    world.registered()
    world.due_now()
    world.wise.script = ["lose"]
    world.wise.asks = [Liveness.NO_ANSWER]
    world.attempt()
    world.clock.advance(seconds=23)
    assert world.attempt().word is Word.IN_DOUBT  # a takeover: the hold begins
    assert world.wise.reissues == []
    held = world.stored()
    assert held.hold_until is not None
    assert next_try(world).word is Word.REFRESHED
    assert len(world.wise.reissues) == 1


# --- a grant begins with a registration code


def test_a_grant_that_begins_with_a_registration_code_has_tokens_at_its_first_attempt() -> None:
    world = World()
    begun = world.begun()
    assert (begun.refresh_token, begun.access_token) == (None, None)
    result = world.attempt()
    assert (result.word, result.calls) == (Word.REFRESHED, 1)
    assert world.wise.refreshes == []
    assert world.wise.lives(world.access_token())
    world.sweep()
    assert world.alerts.published == []  # nothing happened that anybody has to know
    world.due_now()
    assert world.attempt().word is Word.REFRESHED
    assert len(world.wise.refreshes) == 1


def test_a_reader_has_the_first_tokens_issued() -> None:
    world = World()
    world.begun()
    assert isinstance(world.serve(), Served)


def test_a_registration_code_that_wise_never_took_needs_its_user() -> None:
    world = World()
    world.begun()
    world.wise.reclaim("anna")
    result = world.attempt()
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "reclaimed")
    assert world.stored().registration_spent_at == world.clock()


def test_a_repeated_beginning_is_not_taken_for_the_first() -> None:
    world = World()
    begun = world.begun()
    offer = Offer(registration=world.registration_of())
    plain = world.grants.get
    world.grants.get = lambda key: None  # type: ignore[method-assign, assignment]
    assert not isinstance(world.adopt_grant(world.key(), offer, None), Kept)
    world.grants.get = plain  # type: ignore[method-assign]
    assert world.stored() == begun


def test_a_grant_with_nothing_to_present_is_left_alone() -> None:
    world = World()
    grant = world.begun()
    world.grants.items[grant.key] = replace(grant, registration=None)
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "nothing-to-present")
    assert world.wise.reissues == []


# --- reclaimed


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_user_who_reclaimed_the_account_has_to_be_linked(world: World, status: int) -> None:
    world.wise.reissue_script = [GrantInvalid(status=status, error="invalid_grant", trace_id="e" * 32)]
    before = world.stored()
    result = world.attempt()
    after = world.stored()
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "reclaimed")
    assert after.phase is Phase.REAUTHORIZATION_REQUIRED
    assert after.registration == before.registration
    assert after.registration_spent_at == world.clock()
    (told,) = world.alerts.published
    assert (told.kind, told.reason, told.trace_id) == (AlertKind.REAUTHORIZATION_REQUIRED, "reclaimed", "e" * 32)
    served = world.serve()
    assert isinstance(served, NotServed)
    assert served.why is Why.REAUTHORIZATION_REQUIRED
    world.sweep(120)
    assert len(world.wise.reissues) == 1


def test_a_code_that_is_refused_after_a_lost_answer_is_spent_and_the_loss_is_the_reason() -> None:
    world = World("rotated")
    world.registered()
    world.due_now()
    world.wise.script = ["lose"]
    world.wise.reclaim("anna")
    result = world.attempt()
    assert (len(world.wise.refreshes), len(world.wise.reissues)) == (2, 1)
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "outcome_unknown")
    assert world.stored().registration_spent_at == world.clock()
    assert [alert.reason for alert in world.alerts.published] == ["outcome_unknown"]


def test_a_refresh_token_that_was_refused_too_late_to_present_the_code_was_not_lost(world: World) -> None:
    world.wise.reissue_script = [NotSent(reason="not-connected")]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.stored().in_doubt == FOUND_DEAD
    assert next_try(world).word is Word.REFRESHED
    world.sweep()
    assert [alert.reason for alert in world.alerts.published] == ["invalid_grant"]


def test_a_spent_code_is_never_presented_again() -> None:
    world = dying()
    world.grants.items[world.key()] = replace(world.stored(), registration_spent_at=world.clock())
    result = world.attempt()
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "invalid_grant")
    assert world.wise.reissues == []


def test_a_code_is_not_spent_by_a_verdict_on_another_one(world: World) -> None:
    other = world.sealer.seal(world.key(), "registration", world.registration_of())  # type: ignore[arg-type]
    world.wise.reissue_script = [GrantInvalid(status=401, error="invalid_grant")]
    world.wise.on_reissue = lambda: world.grants.items.__setitem__(
        world.key(), replace(world.stored(), registration=other)
    )
    assert world.attempt().word is Word.OVERTAKEN
    after = world.stored()
    assert (after.phase, after.registration_spent_at, after.attempt_id) == (Phase.ACTIVE, None, None)


def test_nobody_reissues_under_the_lease_of_another(world: World) -> None:
    results: list[Word] = []
    world.wise.on_reissue = lambda: results.append(world.attempt().word)
    assert world.attempt().word is Word.REFRESHED
    assert results == [Word.HELD]


# --- faults that are not the grant's


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (NotSent(reason="not-connected"), "not-connected"),
        (Throttled(status=429), "throttled"),
        (ClientRefused(status=401), "client_refused"),
        (WeAreWrong(status=400, error="invalid_request"), "we_are_wrong"),
        (ServerFault(status=500), "server_fault"),
    ],
)
@pytest.mark.parametrize("begun", [False, True], ids=["dead", "begun"])
def test_a_fault_that_is_not_the_grants_spends_no_code(outcome: object, code: str, *, begun: bool) -> None:
    world = World() if begun else dying()
    if begun:
        world.begun()
    world.wise.checks = [Unknown(reason="deadline")]
    world.wise.reissue_script = [outcome]  # type: ignore[list-item]
    result = world.attempt()
    after = world.stored()
    doubted = not begun or code == "server_fault"
    assert (result.word, result.code) == (Word.IN_DOUBT if doubted else Word.FAILED, code)
    assert (after.phase, after.registration_spent_at, after.attempt_id) == (Phase.ACTIVE, None, None)
    assert after.due_at is not None
    assert after.due_at > world.clock()
    assert world.alerts.published == []
    assert isinstance(world.serve(), NotServed)  # the access token of a dead refresh token is worth nothing either
    world.clock.advance(minutes=10)
    assert next_try(world).word is Word.REFRESHED
    assert len(world.wise.reissues) == (1 if code == "not-connected" else 2)


def test_a_refused_client_is_asked_about_before_a_code_is_judged(world: World) -> None:
    world.wise.secrets, world.wise.valid_secrets = ["secret-2"], {"secret-1"}
    world.wise.on_reissue = lambda: setattr(world.wise, "valid_secrets", {"secret-3"})
    assert world.attempt().word is Word.IN_DOUBT
    assert world.fleet.fleet.open_until is None
    refused = ClientRefused(status=401)
    world.breaker.client_in_question(refused, refused, "attempt-of-ben", key=world.key("ben"))
    assert world.fleet.fleet.open_until is not None
    assert world.stored().registration_spent_at is None


def test_a_changed_secret_sends_a_beginning_once_more() -> None:
    world = World()
    world.begun()
    world.wise.secrets, world.wise.valid_secrets = ["secret-2"], {"secret-2"}
    assert world.attempt().word is Word.REFRESHED
    assert len(world.wise.reissues) == 2


def test_a_grant_that_wise_refuses_to_reissue_though_it_accepts_our_client_is_held(world: World) -> None:
    world.wise.checks = [ClientAccepted(changed=False, status=200)]
    world.wise.reissue_script = [ClientRefused(status=401)]
    assert world.attempt().word is Word.IN_DOUBT
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.HELD]
    held = world.alerts.published[0].incident_id
    world.clock.advance(minutes=30)
    assert next_try(world).word is Word.REFRESHED
    world.sweep()
    assert [(alert.kind, alert.ends) for alert in world.alerts.published[1:]] == [(AlertKind.REISSUED, (held,))]


def test_nobody_reissues_again_while_an_unanswered_request_may_still_be_carried_out(world: World) -> None:
    world.wise.reissue_script = ["drop"]
    result = world.attempt()
    held = world.stored()
    assert result.word is Word.IN_DOUBT
    assert held.attempt_id is not None  # the lease runs out by itself
    assert held.lease_until is not None
    world.clock.now = held.lease_until + world.budgets.margin
    assert world.attempt().word is Word.HELD
    world.wise.carry_out_late_reissue()  # nobody listens
    world.clock.advance(milliseconds=1)
    assert world.attempt().word is Word.IN_DOUBT
    assert next_try(world).word is Word.REFRESHED
    assert len(world.wise.reissues) == 2
    assert world.wise.lives(world.access_token())


def test_a_reissue_that_was_carried_out_and_lost_is_made_again(world: World) -> None:
    world.wise.reissue_script = ["lose"]
    assert world.attempt().word is Word.IN_DOUBT
    assert len(world.wise.reissues) == 1  # its access token is nobody's proof: a reissue kills none
    for _ in range(3):
        if next_try(world).word is Word.REFRESHED:
            break
    assert world.wise.lives(world.access_token())
    assert len(world.wise.reissues) == 2


def test_a_living_access_token_proves_nothing_about_a_reissue() -> None:
    world = World()
    world.registered()
    world.due_now()
    world.wise.script = [DEAD]  # somebody has replaced the refresh token, and the access token lives on
    world.wise.reissue_script = [ServerFault(status=500)]
    assert world.attempt().word is Word.IN_DOUBT
    assert world.wise.asked == []
    assert len(world.wise.reissues) == 1


# --- time, keys, the breaker


def test_a_reissue_that_has_no_time_left_waits_for_the_next_attempt(world: World) -> None:
    world.wise.takes = timedelta(seconds=3)
    result = world.attempt()
    assert (result.word, result.code) == (Word.IN_DOUBT, "no-time-to-reissue")
    assert world.wise.reissues == []
    world.wise.takes = timedelta(milliseconds=200)
    assert next_try(world).word is Word.REFRESHED


def test_all_keys_are_had_before_a_code_is_sent() -> None:
    world = World()
    world.begun()
    world.sealer.down = True
    result = world.attempt()
    assert (result.word, result.code) == (Word.FAILED, "key-unavailable")
    assert world.wise.reissues == []
    world.sealer.down = False
    world.wise.usable = False
    assert next_try(world).code == "wise-secret-unusable"
    assert world.wise.reissues == []


def test_after_a_code_was_sent_no_key_is_asked_for(world: World) -> None:
    world.wise.on_reissue = lambda: setattr(world.sealer, "down", True)
    assert world.attempt().word is Word.REFRESHED


def test_a_registration_that_does_not_open_leaves_the_verdict_on_the_refresh_token(world: World) -> None:
    grant = world.stored()
    broken = world.sealer.box(grant.key, "registration", Secret("not JSON"))  # type: ignore[arg-type]
    world.grants.items[grant.key] = replace(grant, registration=broken)
    result = world.attempt()
    assert (result.word, result.code) == (Word.REAUTHORIZATION_REQUIRED, "invalid_grant")
    assert world.stored().registration_spent_at is None
    assert [event.code for event in world.journal.of(Trouble)] == ["unsealable"]  # type: ignore[attr-defined]


def test_a_registration_that_does_not_open_judges_nobody_by_itself() -> None:
    world = World()
    grant = world.begun()
    broken = world.sealer.box(grant.key, "registration", Secret('{"code": 7}'))  # type: ignore[arg-type]
    world.grants.items[grant.key] = replace(grant, registration=broken)
    assert (world.attempt().word, world.stored().phase) == (Word.FAILED, Phase.ACTIVE)


def test_on_demand_a_reissue_asks_for_a_call_of_its_own(world: World) -> None:
    assert on_demand(world).word is Word.REFRESHED
    assert world.fleet.admissions == 2


def test_on_demand_a_reissue_waits_where_no_call_is_left(world: World) -> None:
    world.wise.on_refresh = lambda: world.fleet.booked.__setitem__("demand", world.clock() + timedelta(minutes=1))
    result = on_demand(world)
    assert (result.word, result.code) == (Word.IN_DOUBT, "paced")
    assert world.wise.reissues == []
    assert world.journal.of(DemandBarred) == []
    world.wise.on_refresh = lambda: None
    assert next_try(world).word is Word.REFRESHED


def test_a_dead_refresh_token_and_a_reissue_count_as_wise_being_healthy(world: World) -> None:
    for name in ("b", "c", "d"):
        world.registered(name)
    world.clock.advance(hours=8)
    for name in ("b", "c"):
        world.wise.script = [NotSent(reason="not-connected")]
        world.attempt(name)
    world.wise.reissue_script = [NotSent(reason="not-connected")]
    world.attempt()
    world.wise.script = [NotSent(reason="not-connected")]
    world.attempt("d")
    assert world.fleet.fleet.open_until is None  # what Wise said of anna's refresh token ended the row


def test_throttling_of_a_reissue_pauses_the_fleet(world: World) -> None:
    world.wise.reissue_script = [Throttled(status=429, retry_after=timedelta(seconds=40))]
    world.attempt()
    assert world.fleet.fleet.open_until is not None


# --- the store


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("begun", [False, True], ids=["dead", "begun"])
def test_a_store_that_fails_at_any_step_loses_no_grant(step: int, failure: str, *, begun: bool) -> None:
    world = World() if begun else dying()
    if begun:
        world.begun()
    world.grants.failures = ["ok"] * step + [failure]
    for _ in range(3):
        world.sweep(300)
        world.clock.advance(minutes=1)
    after = world.stored()
    assert (after.phase, after.attempt_id, after.in_doubt) == (Phase.ACTIVE, None, None)
    assert world.wise.lives(world.access_token())
    kinds = {alert.kind for alert in world.alerts.published}
    assert kinds == (set() if begun else {AlertKind.REISSUED})


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("step", range(5))
def test_a_store_that_fails_at_any_step_loses_no_reclaimed_user(world: World, step: int, failure: str) -> None:
    world.wise.reclaim("anna")
    world.grants.failures = ["ok"] * step + [failure]
    for _ in range(3):
        world.sweep(300)
        world.clock.advance(minutes=1)
    after = world.stored()
    assert after.phase is Phase.REAUTHORIZATION_REQUIRED
    assert after.registration_spent_at is not None
    unseen = (step, failure) == (1, "after")  # the lease was taken unseen: nobody knows what was sent under it
    assert {(alert.kind, alert.reason) for alert in world.alerts.published} == {
        (AlertKind.REAUTHORIZATION_REQUIRED, "outcome_unknown" if unseen else "reclaimed")
    }
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


def test_a_reissue_that_no_write_takes_is_parked_and_told_when_it_is_stored(world: World) -> None:
    world.grants.failures = ["ok", *itertools.repeat("before", 40)]
    world.wise.takes = timedelta(milliseconds=200)
    result = world.attempt()
    assert (result.word, result.code) == (Word.IN_DOUBT, "answer-parked")
    world.grants.failures = []
    world.sweep(5)
    assert world.stored().in_doubt is None
    assert world.wise.lives(world.access_token())
    assert [alert.kind for alert in world.alerts.published] == [AlertKind.REISSUED]


def test_a_killed_worker_leaves_a_doubt_that_the_next_one_resolves(world: World) -> None:
    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    world.wise.on_reissue = kill
    with pytest.raises(Killed):
        world.attempt()
    world.wise.on_reissue = lambda: None
    for _ in range(3):
        if next_try(world).word is Word.REFRESHED:
            break
    assert world.wise.lives(world.access_token())
    assert len(world.wise.reissues) == 1
