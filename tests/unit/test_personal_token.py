"""Personal API tokens: served, asked about when reported, never refreshed, and called old in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.rotator import World
from tests.fakes.wise import QUESTION
from token_rotator.domain.grant import AlertKind, Grant, GrantKind, Phase
from token_rotator.domain.outcome import ClientRefused, Liveness, Said, ServerFault, Throttled, WeAreWrong
from token_rotator.domain.policy import NEVER, PERSONAL_AGAIN, PERSONAL_FOR, PERSONAL_STABLE_FOR, Step, decide
from token_rotator.domain.tokens import Secret
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.service.ports import Due, Refused, Rejected
from token_rotator.service.refresh_grant import PERSONAL_REJECTED, Word
from token_rotator.service.serve_token import NotServed, Served, Why

DAY = timedelta(days=1)


@pytest.fixture
def world() -> World:
    return World()


def served(world: World, rejected: int | None = None) -> Served:
    answer = world.serve(rejected=rejected)
    assert isinstance(answer, Served)
    return answer


def replaced(world: World, token: str = "personal-2", **more: object) -> Kept | Declined:
    world.wise.personal.add(token)
    offer = Offer(personal_token=Secret(token), **more)  # type: ignore[arg-type]
    return world.adopt_grant(world.key(), offer, world.stored().version)


def kinds(world: World) -> list[AlertKind]:
    return [alert.kind for alert in world.alerts.published]


def test_it_is_served_as_it_is_with_no_end_and_an_hours_promise(world: World) -> None:
    grant = world.personal(scope="full")
    assert (grant.kind, grant.refresh_at, grant.expires_at) == (GrantKind.PERSONAL, NEVER, None)
    answer = served(world)
    assert answer.access_token.reveal() == "personal-1"
    assert (answer.expires_at, answer.expires_in, answer.degraded) == (None, None, False)
    assert answer.stable_for == PERSONAL_STABLE_FOR
    assert answer.scope == "full"
    assert world.wise.asked == []


def test_years_go_by_without_a_request_to_the_token_endpoint(world: World) -> None:
    world.personal()
    for _ in range(50):
        world.clock.advance(seconds=20 * 86_400)
        world.sweep()
        assert served(world).access_token.reveal() == "personal-1"
    assert (world.wise.refreshes, world.wise.reissues, world.wise.asked) == ([], [], [])


# --- reports


def test_a_report_of_one_that_lives_is_answered_with_the_same(world: World) -> None:
    version = world.personal().version
    answer = served(world, version)
    assert (answer.version, answer.confirmed) == (version, True)
    assert world.alerts.published == []
    assert world.stored().attempt_id is None


def test_a_report_of_one_that_is_dead_ends_it_and_tells_at_once(world: World) -> None:
    version = world.personal().version
    world.wise.personal.clear()
    for _ in range(3):
        assert world.serve(rejected=version) == NotServed(Why.REAUTHORIZATION_REQUIRED, personal=True)
    (alert,) = world.alerts.published
    assert (alert.kind, alert.reason) == (AlertKind.REAUTHORIZATION_REQUIRED, PERSONAL_REJECTED)
    assert alert.trace_id == QUESTION
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert world.serve() == NotServed(Why.REAUTHORIZATION_REQUIRED, personal=True)
    assert len(world.wise.asked) == 1
    assert (world.wise.refreshes, world.wise.reissues) == ([], [])


def test_a_new_one_brings_it_back_and_ends_the_incident(world: World) -> None:
    version = world.personal().version
    world.wise.personal.clear()
    world.serve(rejected=version)
    assert isinstance(replaced(world), Kept)
    assert served(world).access_token.reveal() == "personal-2"
    assert served(world, version).version > version
    world.sweep()
    assert kinds(world) == [AlertKind.REAUTHORIZATION_REQUIRED, AlertKind.RECOVERED]


def test_one_that_comes_again_after_wise_refused_it_is_asked_about_before_it_is_served(world: World) -> None:
    version = world.personal().version
    world.wise.personal.clear()
    world.serve(rejected=version)
    asked = len(world.wise.asked)
    again = Offer(personal_token=Secret("personal-1"))
    assert isinstance(world.adopt_grant(world.key(), again, version), Kept)
    assert world.serve() == NotServed(Why.REAUTHORIZATION_REQUIRED, personal=True)
    assert len(world.wise.asked) == asked + 1
    world.sweep()
    assert kinds(world).count(AlertKind.REAUTHORIZATION_REQUIRED) == 2


@pytest.mark.parametrize("down", ["wise", "key"])
def test_a_report_without_an_answer_changes_nothing(world: World, down: str) -> None:
    version = world.personal().version
    if down == "wise":
        world.wise.asks = [Liveness.NO_ANSWER]
    else:
        world.sealer.down = True
    report = world.serve(rejected=version) if down == "wise" else None
    if report is None:
        assert world.attempt(cause=Rejected(version)).code == "no-answer"
    else:
        assert isinstance(report, NotServed)
        assert report.why is Why.UNAVAILABLE
    world.sealer.down = False
    assert world.alerts.published == []
    assert (served(world).version, served(world).degraded) == (version, False)
    assert world.stored().due_at == world.stored().replace_at


def test_one_that_does_not_open_is_not_judged(world: World) -> None:
    grant = world.personal()
    other = world.personal("ben", "personal-of-ben").access_token
    world.grants.items[grant.key] = replace(grant, access_token=other)
    assert world.attempt(cause=Rejected(grant.version)).word is Word.FAILED
    assert world.stored().phase is Phase.ACTIVE
    assert world.wise.asked == []


def test_while_wise_may_not_be_called_a_report_waits_and_readers_do_not(world: World) -> None:
    version = world.personal().version
    limit = Throttled(status=429, retry_after=timedelta(seconds=60))
    world.breaker.unhealthy(limit, "attempt-other", key=world.key("other"))
    report = world.serve(rejected=version)
    assert isinstance(report, NotServed)
    assert report.why is Why.UNAVAILABLE
    assert served(world).version == version


def test_without_client_credentials_it_is_asked_about_all_the_same(world: World) -> None:
    version = world.personal().version
    world.adopted("ben")
    world.wise.usable = False
    assert world.refresh_grant.needs_no_client(world.key())
    assert not world.refresh_grant.needs_no_client(world.key("ben"))
    assert not world.refresh_grant.needs_no_client(world.key("nobody"))
    assert world.attempt(cause=Rejected(version)).word is Word.CONFIRMED


@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize("fault", [ClientRefused(status=401), WeAreWrong(status=400)])
def test_while_our_client_is_refused_a_report_is_asked_about_all_the_same(
    world: World,
    fault: ClientRefused | WeAreWrong,
    lives: bool,  # noqa: FBT001
) -> None:
    version = world.personal().version
    for other in ("ben", "carl"):
        world.breaker.client_in_question(fault, fault, f"attempt-{other}", key=world.key(other))
    assert world.breaker.known() is not None
    if not lives:
        world.wise.personal.clear()
    answer = world.serve(rejected=version)
    assert (isinstance(answer, Served) and answer.confirmed) is lives
    assert (world.stored().phase is Phase.ACTIVE) is lives
    assert len(world.wise.asked) == 1
    assert (world.wise.refreshes, world.wise.applications) == ([], [])


def test_while_our_client_is_refused_a_doubt_is_resolved_for_the_next_reader(world: World) -> None:
    grant = world.personal()
    world.adopted("ben")
    world.due_now("ben")
    world.grants.items[grant.key] = replace(world.stored(), in_doubt="attempt-dead", due_at=world.clock())
    refused = ClientRefused(status=401)
    for other in ("carl", "dora"):
        world.breaker.client_in_question(refused, refused, f"attempt-{other}", key=world.key(other))
    assert served(world).version == grant.version
    assert world.stored().in_doubt is None
    assert world.refresh_grant(world.key("ben"), Due(), alone=True, lane=world.demand_lane).word is Word.BARRED


@pytest.mark.parametrize("fault", [ServerFault(status=500), Throttled(status=429)])
def test_what_is_wrong_at_wise_bars_a_doubt_of_it_too(world: World, fault: ServerFault | Throttled) -> None:
    grant = world.personal()
    world.grants.items[grant.key] = replace(world.stored(), in_doubt="attempt-dead", due_at=world.clock())
    for number in range(3):
        world.breaker.unhealthy(fault, f"attempt-{number}", key=world.key(f"other-{number}"))
    assert isinstance(world.serve(), NotServed)
    assert world.wise.asked == []


# --- a worker that dies


@pytest.mark.parametrize("lives", [True, False])
def test_what_a_dead_worker_left_is_asked_about_and_nothing_else(world: World, lives: bool) -> None:  # noqa: FBT001
    version = world.personal().version
    asks = world.wise.ask
    world.wise.ask = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.serve(rejected=version)
    world.wise.ask = asks  # type: ignore[method-assign]
    if not lives:
        world.wise.personal.clear()
    world.clock.advance(seconds=60)
    world.sweep(30)
    stored = world.stored()
    assert (stored.attempt_id, stored.in_doubt) == (None, None)
    assert (stored.phase is Phase.ACTIVE) is lives
    assert kinds(world) == ([] if lives else [AlertKind.REAUTHORIZATION_REQUIRED])
    assert (world.wise.refreshes, world.wise.reissues) == ([], [])
    assert isinstance(world.serve(), Served) is lives


@pytest.mark.parametrize(
    "failures", [["ok", "before"], ["ok", "after"], ["ok", "before", "before", "before", "before"]]
)
def test_a_verdict_that_no_write_takes_falls_later(world: World, failures: list[str]) -> None:
    version = world.personal().version
    world.wise.personal.clear()
    world.grants.failures = ["ok", *failures]
    world.serve(rejected=version)
    world.grants.failures = []
    world.clock.advance(seconds=60)
    world.sweep(30)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert len({alert.incident_id for alert in world.alerts.published}) == 1


# --- its age


def test_people_are_told_when_it_is_old_and_again_each_month(world: World) -> None:
    grant = world.personal()
    world.clock.now = grant.created_at + PERSONAL_FOR - timedelta(seconds=5)
    world.sweep()
    assert kinds(world) == []
    world.clock.now = grant.created_at + PERSONAL_FOR
    world.sweep()
    assert kinds(world) == [AlertKind.PERSONAL_TOKEN_OLD]
    for _ in range(40):
        world.clock.advance(seconds=DAY.total_seconds())
        world.sweep()
    first, second = world.alerts.published
    assert second.raised_at - first.raised_at >= PERSONAL_AGAIN
    assert (first.reminder, second.reminder) == (False, True)
    assert first.incident_id == second.incident_id
    assert served(world).version == grant.version


def test_its_age_counts_from_when_it_was_made(world: World) -> None:
    made = world.clock() - 100 * DAY
    grant = world.personal(issued_at=made)
    assert grant.replace_at == made + PERSONAL_FOR
    world.sweep()
    assert kinds(world) == [AlertKind.PERSONAL_TOKEN_OLD]


def test_the_age_is_a_setting(world: World) -> None:
    adopt = replace(world.adopt_grant, personal_for=7 * DAY)
    kept = adopt(world.key(), Offer(personal_token=Secret("personal-1")), None)
    assert isinstance(kept, Kept)
    assert kept.grant.replace_at == world.clock() + 7 * DAY


def test_a_new_one_ends_the_reminders(world: World) -> None:
    world.personal(issued_at=world.clock() - 100 * DAY)
    world.sweep()
    assert isinstance(replaced(world), Kept)
    world.sweep()
    assert kinds(world) == [AlertKind.PERSONAL_TOKEN_OLD, AlertKind.RECOVERED]
    assert len({alert.incident_id for alert in world.alerts.published}) == 1
    world.clock.advance(seconds=80 * 86_400)
    world.sweep()
    assert len(world.alerts.published) == 2


def test_an_old_one_that_dies_is_told_once_more_and_then_its_end(world: World) -> None:
    version = world.personal(issued_at=world.clock() - 100 * DAY).version
    world.sweep()
    world.wise.personal.clear()
    world.serve(rejected=version)
    old, dead = world.alerts.published
    assert (old.kind, dead.kind) == (AlertKind.PERSONAL_TOKEN_OLD, AlertKind.REAUTHORIZATION_REQUIRED)
    assert dead.ends == (old.incident_id,)


def test_what_is_still_to_be_told_comes_first(world: World) -> None:
    world.personal(issued_at=world.clock() - 100 * DAY)
    world.alerts.script = ["refuse", "refuse"]
    world.sweep(120)
    assert kinds(world) == [AlertKind.PERSONAL_TOKEN_OLD]


def test_a_token_that_is_not_old_is_not_called_so(world: World) -> None:
    grant = world.personal()
    world.tell.call_old(grant)
    assert world.alerts.published == []
    assert decide(grant, world.clock(), world.budgets).step is Step.NOTHING


# --- adopting


def test_a_suspended_one_stays_suspended_with_its_new_token(world: World) -> None:
    world.personal()
    world.suspend_grant(world.key(), world.order())
    kept = replaced(world)
    assert isinstance(kept, Kept)
    assert (kept.grant.phase, kept.grant.suspended_from) == (Phase.SUSPENDED, Phase.ACTIVE)
    assert world.serve() == NotServed(Why.SUSPENDED, personal=True)
    world.suspend_grant.lift(world.key())
    assert served(world).access_token.reveal() == "personal-2"
    world.sweep()
    assert world.stored().due_at == world.stored().replace_at


@pytest.mark.parametrize("first", ["user", "personal"])
def test_another_kind_is_not_adopted_over_it(world: World, first: str) -> None:
    before = world.adopted() if first == "user" else world.personal()
    user, personal = Offer(refresh_token=Secret("refresh-x-1")), Offer(personal_token=Secret("personal-x"))
    answer = world.adopt_grant(before.key, personal if first == "user" else user, before.version)
    assert answer is Declined.DIFFERENT_KIND
    assert world.stored() == before
    assert world.delete_grant(before.key) is None
    assert isinstance(world.adopt_grant(before.key, personal if first == "user" else user, None), Kept)


def test_two_who_adopt_one_at_once_do_not_take_each_others_for_their_own(world: World) -> None:
    get = world.grants.get

    def unseen(key: object) -> Grant | None:
        world.grants.get = get  # type: ignore[method-assign]
        world.personal()
        return None

    world.grants.get = unseen  # type: ignore[method-assign]
    answer = world.adopt_grant(world.key(), Offer(personal_token=Secret("personal-2")), None)
    assert answer is Declined.PRECONDITION_FAILED
    assert served(world).access_token.reveal() == "personal-1"


def test_an_adoption_whose_answer_was_lost_is_known_by_its_own_seal(world: World) -> None:
    grant = world.personal()
    world.grants.create = lambda ours, _link=None: Refused(ours)  # type: ignore[method-assign]
    world.grants.items.clear()
    kept = world.adopt_grant(grant.key, Offer(personal_token=Secret("personal-1")), None)
    assert isinstance(kept, Kept)
    assert kept.created


def test_no_link_leads_to_a_grant_of_a_personal_token(world: World) -> None:
    before = world.personal()
    assert world.start_link(before.key, "acme-onboarding", None) is Declined.DIFFERENT_KIND
    del world.grants.items[before.key]
    link_id = world.came_back()
    world.grants.items[before.key] = before
    assert world.confirm(link_id) is Declined.DIFFERENT_KIND
    assert world.stored() == before


def test_one_that_is_suspended_while_wise_calls_it_dead_is_in_doubt(world: World) -> None:
    version = world.personal().version
    world.wise.personal.clear()
    ask = world.wise.ask

    def suspended_meanwhile(*arguments: Any, **more: Any) -> Said:
        world.suspend_grant(world.key(), world.order())
        return ask(*arguments, **more)

    world.wise.ask = suspended_meanwhile  # type: ignore[method-assign]
    assert isinstance(world.serve(rejected=version), NotServed)
    world.wise.ask = ask  # type: ignore[method-assign]
    world.suspend_grant.lift(world.key())
    assert world.stored().in_doubt is not None
    assert isinstance(world.serve(), NotServed)
    assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED
    assert kinds(world) == [AlertKind.REAUTHORIZATION_REQUIRED]
