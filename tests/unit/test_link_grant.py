"""Linking: start, the way back, and the partner's word whose browser it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.rotator import World
from tests.fakes.wise import LIFE
from token_rotator.domain.errors import KeyUnavailable, StoreUnavailable, WiseSecretUnusable
from token_rotator.domain.grant import AlertKind, GrantKey, Phase
from token_rotator.domain.lease import KEEP_TRIES
from token_rotator.domain.link import CONFIRM_FOR, LINK_FOR, LinkFailure, hash_of
from token_rotator.domain.outcome import (
    ClientRefused,
    GrantInvalid,
    NotSent,
    Outcome,
    Refreshed,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.state_change import LISTED_OF_TENANT
from token_rotator.domain.tokens import Sealed, Secret, TokenSet
from token_rotator.service.adopt_grant import Declined, Kept, Offer
from token_rotator.service.breaker import Barred
from token_rotator.service.journal import AnswerLate, CodeExchanged, LinkEnded, LinkLost, LinkUnconfirmed, Trouble
from token_rotator.service.link_grant import Arrival, Arrived, Failed, Started
from token_rotator.service.ports import Done
from token_rotator.service.refresh_grant import Word
from token_rotator.service.serve_token import Served

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    return World()


def why(answer: Arrived | Failed) -> LinkFailure:
    assert isinstance(answer, Failed)
    return answer.why


# --- start


def test_a_start_answers_with_a_fresh_state_and_its_end(world: World) -> None:
    started = world.start_link(world.key(), "acme-onboarding", None)
    assert isinstance(started, Started)
    assert started.state == world.new_token.given[0]
    assert started.state.reveal() not in repr(started)
    assert started.ends_at == world.clock() + LINK_FOR
    assert timedelta(minutes=10) <= LINK_FOR <= timedelta(minutes=15)


def test_a_link_is_stored_under_the_hash_of_its_state_only(world: World) -> None:
    state = world.start(return_url="https://acme.example/linked?user=7")
    ((hashed, link),) = world.links.links.items()
    assert hashed == hash_of(Secret(state))
    assert re.fullmatch(r"[0-9a-f]{64}", hashed)
    assert state not in repr(link)
    assert (link.key, link.partner) == (world.key(), "acme-onboarding")
    assert link.return_url == "https://acme.example/linked?user=7"


def test_each_start_is_a_link_of_its_own(world: World) -> None:
    assert world.start() != world.start()
    assert len(world.links.links) == 2


# --- the way back


def test_the_tokens_wait_and_nothing_is_served_yet(world: World) -> None:
    arrived = world.arrive(world.start())
    assert isinstance(arrived, Arrived)
    assert arrived.confirm_before == world.clock() + CONFIRM_FOR
    assert world.grants.items == {}
    ((hashed, pending),) = world.grants.pending.items()
    assert hashed == hash_of(arrived.link_id)
    assert arrived.link_id.reveal() not in repr(pending)
    assert pending.profile_id == "9001"
    assert len(world.wise.exchanges) == 1
    (sent,) = world.journal.of(CodeExchanged)
    assert isinstance(sent, CodeExchanged)
    assert (sent.outcome, sent.attempt_id) == ("refreshed", world.wise.exchanges[0])


NOT_GIVEN_OUT = [None, "", "x", "y" * 43, "y" * 44, "é" * 43, "a b"]


@pytest.mark.parametrize("state", NOT_GIVEN_OUT, ids=range(len(NOT_GIVEN_OUT)))
def test_a_state_that_was_not_given_out_is_unknown_and_costs_at_most_a_read(world: World, state: str | None) -> None:
    world.start()
    assert why(world.arrive(state)) is LinkFailure.UNKNOWN
    assert world.links.calls in (["begin"], ["begin", "look"])
    assert (world.sealer.calls, world.wise.exchanges) == ([], [])


def test_a_state_works_once(world: World) -> None:
    state = world.start()
    assert isinstance(world.arrive(state), Arrived)
    assert why(world.arrive(state)) is LinkFailure.USED
    assert len(world.wise.exchanges) == 1


def test_a_state_works_once_even_if_the_exchange_fails(world: World) -> None:
    state = world.start()
    world.wise.script = [Unknown(reason="deadline")]
    assert why(world.arrive(state)) is LinkFailure.WISE_UNAVAILABLE
    assert why(world.arrive(state)) is LinkFailure.USED
    assert world.grants.pending == {}


def test_two_browsers_with_one_state_make_one_exchange(world: World) -> None:
    """The second one looks before the first uses it up."""
    state = world.start()
    first = world.links.use

    def overtaken(hashed: str, attempt_id: str, now: Any) -> Any:
        first(hashed, "another-browser", now)
        return first(hashed, attempt_id, now)

    world.links.use = overtaken  # type: ignore[method-assign]
    assert why(world.arrive(state)) is LinkFailure.USED
    assert world.wise.exchanges == []


@pytest.mark.parametrize(
    ("after", "expected"), [(LINK_FOR - SECOND, None), (LINK_FOR, LinkFailure.EXPIRED), (2 * LINK_FOR, "expired")]
)
def test_a_state_is_short_lived(world: World, after: timedelta, expected: object) -> None:
    state = world.start()
    world.clock.now += after
    answer = world.arrive(state)
    if expected is None:
        assert isinstance(answer, Arrived)
    else:
        assert why(answer) is LinkFailure.EXPIRED
        assert world.wise.exchanges == []


def test_a_state_that_expires_while_keys_are_fetched_is_not_used(world: World) -> None:
    state = world.start()
    world.clock.now += LINK_FOR - SECOND
    prepare = world.sealer.prepare_new

    def slow(key: GrantKey) -> Any:
        world.clock.advance(seconds=2)
        return prepare(key)

    world.sealer.prepare_new = slow  # type: ignore[method-assign]
    assert why(world.arrive(state)) is LinkFailure.EXPIRED
    assert world.wise.exchanges == []


def test_a_link_that_is_dropped_while_keys_are_fetched_is_unknown(world: World) -> None:
    state = world.start()
    prepare = world.sealer.prepare_new

    def slow(key: GrantKey) -> Any:
        world.links.links.clear()
        return prepare(key)

    world.sealer.prepare_new = slow  # type: ignore[method-assign]
    assert why(world.arrive(state)) is LinkFailure.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"error": "access_denied", "code": None}, LinkFailure.CONSENT_REFUSED),
        ({"error": "access_denied"}, LinkFailure.CONSENT_REFUSED),
        ({"error": "server_error", "code": None}, LinkFailure.WISE_REFUSED),
        ({"error": "", "code": None}, LinkFailure.WISE_REFUSED),
        ({"code": None}, LinkFailure.CODE_REFUSED),
        ({"profile_id": None}, LinkFailure.NO_PROFILE),
        ({"code": Secret("fixture-another-code")}, LinkFailure.CODE_REFUSED),
    ],
)
def test_what_comes_back_without_a_permission_uses_the_link_up(
    world: World, changes: dict[str, Any], expected: LinkFailure
) -> None:
    state = world.start(return_url="https://acme.example/linked")
    answer = world.arrive(state, **changes)
    assert why(answer) is expected
    assert isinstance(answer, Failed)
    assert answer.link is not None
    assert answer.link.return_url == "https://acme.example/linked"
    (ended,) = world.journal.of(LinkEnded)
    assert isinstance(ended, LinkEnded)
    assert ended.result == expected.value
    assert why(world.arrive(state)) is LinkFailure.USED
    asked = changes.get("code", "asked") is not None and "error" not in changes and "profile_id" not in changes
    assert len(world.wise.exchanges) == asked


def test_another_profile_than_the_grants_is_refused_before_its_code_is_exchanged(world: World) -> None:
    world.adopted(profile_id="9001")
    assert why(world.arrive(world.start(), profile_id="9002")) is LinkFailure.DIFFERENT_PROFILE
    assert (world.wise.exchanges, world.sealer.calls.count("generate")) == ([], 2), "adopting took two keys"
    assert isinstance(world.arrive(world.start(), profile_id="9001"), Arrived)


def test_a_link_of_another_grant_kills_no_working_one(world: World) -> None:
    world.adopted("ben", profile_id="9001")
    state = world.start()
    assert why(world.arrive(state, user="ben")) is LinkFailure.ALREADY_HELD
    assert world.wise.exchanges == []
    world.due_now("ben")
    assert world.attempt("ben").word is Word.REFRESHED, "its refresh token lives"
    assert why(world.arrive(state, user="ben")) is LinkFailure.USED


def test_a_partner_is_told_of_a_profile_that_another_grant_holds_before_the_exchange(world: World) -> None:
    world.adopted("ben", profile_id="9001")
    assert why(world.arrive(world.start(), user="ben", of=world.key())) is LinkFailure.ALREADY_HELD
    assert world.wise.exchanges == []


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (NotSent(reason="not-connected"), LinkFailure.WISE_UNAVAILABLE),
        (Throttled(status=429), LinkFailure.WISE_UNAVAILABLE),
        (ServerFault(status=500), LinkFailure.WISE_UNAVAILABLE),
        (Unknown(reason="deadline"), LinkFailure.WISE_UNAVAILABLE),
        (GrantInvalid(status=400, error="invalid_grant"), LinkFailure.CODE_REFUSED),
        (ClientRefused(status=401, error="invalid_client"), LinkFailure.OUR_FAULT),
        (WeAreWrong(status=404), LinkFailure.OUR_FAULT),
        (
            Refreshed(
                tokens=TokenSet(
                    access_token=Secret("a"),
                    issued_at=World().clock(),
                    expires_at=World().clock() + timedelta(hours=1),
                )
            ),
            LinkFailure.WISE_UNAVAILABLE,
        ),
    ],
)
def test_a_code_is_sent_once_whatever_wise_answers(world: World, outcome: Outcome, expected: LinkFailure) -> None:
    world.wise.script = [outcome]
    assert why(world.arrive(world.start())) is expected
    assert world.wise.script == []
    assert world.grants.pending == {}
    assert len(world.journal.of(CodeExchanged)) == 1


def test_after_a_changed_client_secret_the_next_link_takes_the_one_that_wise_accepts(world: World) -> None:
    """Changed in Secrets Manager first: Wise accepts the previous version still."""
    world.wise.secrets, world.wise.secret, world.wise.valid_secrets = ["secret-2", "secret-1"], "secret-2", {"secret-1"}
    assert why(world.arrive(world.start())) is LinkFailure.OUR_FAULT
    assert isinstance(world.arrive(world.start()), Arrived)
    assert len(world.wise.settled) == 1


@pytest.mark.parametrize("part", ["kms", "secret", "client", "look", "holder", "use"])
def test_a_fault_of_ours_before_the_exchange_does_not_cost_the_link(world: World, part: str) -> None:
    state = world.start()
    world.sealer.down = part == "kms"
    world.wise.usable = part != "secret"
    if part == "client":
        world.wise.client_id = "another-client"
    calls = ("look", "holder", "use")
    if part in calls:
        world.links.failures = [*["ok"] * calls.index(part), "before"]
    with pytest.raises((KeyUnavailable, WiseSecretUnusable, StoreUnavailable)):
        world.arrive(state)
    assert world.wise.exchanges == []
    world.sealer.down, world.wise.usable, world.wise.client_id = False, True, "fixture-client-id"
    assert isinstance(world.arrive(state), Arrived)


def test_after_the_exchange_nothing_but_the_store_is_needed(world: World) -> None:
    def break_down() -> None:
        world.sealer.down = True
        world.wise.usable = False

    world.wise.after_exchange = break_down
    assert isinstance(world.arrive(world.start()), Arrived)


@pytest.mark.parametrize("failures", [["before"], ["before", "before"], ["after"], ["after", "before"]])
def test_tokens_that_no_write_takes_at_first_are_not_lost(world: World, failures: list[str]) -> None:
    state = world.start()
    world.links.failures = ["ok", "ok", "ok", *failures]
    assert isinstance(world.arrive(state), Arrived)
    assert len(world.grants.pending) == 1
    assert world.clock.slept == [timedelta(milliseconds=200)] * len(failures)


def test_tokens_that_no_write_takes_are_told_to_be_lost(world: World) -> None:
    state = world.start()
    world.links.failures = ["ok", "ok", "ok", *["before"] * KEEP_TRIES]
    assert why(world.arrive(state)) is LinkFailure.OUR_FAULT
    assert len(world.journal.of(LinkLost)) == 1
    assert why(world.arrive(state)) is LinkFailure.USED


@pytest.mark.parametrize(
    ("listed", "bound"), [({"9001"}, True), ({"9000", "9001"}, True), (None, True), ({"9002"}, False), (set(), False)]
)
def test_a_browser_binds_no_profile_that_is_not_its_users(
    world: World, listed: set[str] | None, *, bound: bool
) -> None:
    """What the address says is the browser's word; where Wise does not answer, it counts."""
    if listed is not None:
        world.wise.of_users["anna"] = frozenset(listed)
    answer = world.arrive(world.start())
    if bound:
        assert isinstance(answer, Arrived)
    else:
        assert why(answer) is LinkFailure.DIFFERENT_PROFILE
        assert world.grants.pending == {}


# --- a partner that owns the address


def test_a_partner_completes_the_link_of_its_own_grant_only(world: World) -> None:
    state = world.start()
    for other in (world.key("ben"), GrantKey("globex", "anna")):
        assert why(world.arrive(state, of=other)) is LinkFailure.UNKNOWN
    assert isinstance(world.arrive(state, of=world.key()), Arrived)


def test_a_partner_need_not_tell_the_first_profile(world: World) -> None:
    assert isinstance(world.arrive(world.start(), profile_id=None, of=world.key()), Arrived)


def test_a_partner_has_to_tell_the_profile_of_a_grant_that_has_one(world: World) -> None:
    world.adopted(profile_id="9001")
    assert why(world.arrive(world.start(), profile_id=None, of=world.key())) is LinkFailure.NO_PROFILE


# --- the partner's word


def test_a_confirmed_link_is_a_grant_like_any_other(world: World) -> None:
    kept = world.confirm(world.came_back())
    assert isinstance(kept, Kept)
    assert kept.created
    assert kept.grant == world.stored()
    assert kept.grant.version == int(world.clock().timestamp() * 1000)
    assert (kept.grant.phase, kept.grant.profile_id, kept.grant.in_doubt) == (Phase.ACTIVE, "9001", None)
    served = world.serve()
    assert isinstance(served, Served)
    assert world.wise.lives(served.access_token.reveal())
    assert world.wise.refreshes == []
    world.due_now()
    world.sweep()
    assert len(world.wise.refreshes) == 1
    assert world.wise.lives(world.access_token())


def test_confirming_opens_and_seals_nothing_and_asks_wise_nothing(world: World) -> None:
    link_id = world.came_back()
    world.sealer.calls.clear()
    world.sealer.down = True
    assert isinstance(world.confirm(link_id), Kept)
    assert world.sealer.calls == []


def test_a_forwarded_link_binds_nothing_without_the_partners_word(world: World) -> None:
    world.adopted(profile_id="9001")
    before = world.stored()
    world.came_back()
    world.clock.now += CONFIRM_FOR
    assert world.stored() == before


@pytest.mark.parametrize(("after", "in_time"), [(CONFIRM_FOR - SECOND, True), (CONFIRM_FOR, False)])
def test_tokens_wait_ten_minutes(world: World, after: timedelta, *, in_time: bool) -> None:
    link_id = world.came_back()
    world.clock.now += after
    answer = world.confirm(link_id)
    assert isinstance(answer, Kept) if in_time else answer is Declined.LINK_EXPIRED
    assert timedelta(minutes=10) == CONFIRM_FOR


@pytest.mark.parametrize("link_id", NOT_GIVEN_OUT[1:], ids=range(len(NOT_GIVEN_OUT) - 1))
def test_a_link_id_that_was_not_given_out_is_unknown(world: World, link_id: str) -> None:
    world.came_back()
    assert world.confirm(link_id) is Declined.NOT_FOUND
    assert world.grants.items == {}


def test_a_link_id_is_for_its_own_grant(world: World) -> None:
    link_id = world.came_back()
    assert world.confirm(link_id, "ben") is Declined.NOT_FOUND
    assert world.confirm_link(GrantKey("globex", "anna"), link_id) is Declined.NOT_FOUND
    assert world.grants.items == {}


def test_a_repeated_confirmation_is_answered_alike_and_changes_nothing(world: World) -> None:
    link_id = world.came_back()
    first = world.confirm(link_id)
    assert isinstance(first, Kept)
    before = world.stored()
    again = world.confirm(link_id)
    assert isinstance(again, Kept)
    assert (again.grant, world.stored()) == (before, before)


def test_a_repeated_confirmation_brings_no_old_tokens_back(world: World) -> None:
    world.wise.policy = "rotated"
    link_id = world.came_back()
    world.confirm(link_id)
    world.wise.life = timedelta(hours=12)
    world.clock.advance(minutes=2)
    world.grants.items[world.key()] = replace(world.stored(), refresh_at=world.clock(), due_at=world.clock())
    assert world.attempt().word is Word.REFRESHED
    newer = world.stored()
    again = world.confirm(link_id)
    assert isinstance(again, Kept)
    assert (again.grant, world.stored()) == (newer, newer)


@pytest.mark.parametrize("plan", ["before", "after"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_confirmation_whose_write_failed_can_be_repeated(world: World, plan: str, *, existing: bool) -> None:
    if existing:
        world.adopted()
    link_id = world.came_back()
    world.grants.failures = ["ok", plan]
    with pytest.raises(StoreUnavailable):
        world.confirm(link_id)
    again = world.confirm(link_id)
    assert isinstance(again, Kept)
    assert world.wise.lives(world.access_token())


def test_two_confirmations_at_once_make_one_version(world: World) -> None:
    link_id = world.came_back()
    create = world.grants.create

    def overtaken(grant: Any, link: str | None = None) -> Any:
        world.grants.create = create  # type: ignore[method-assign]
        world.confirm(link_id)
        return create(grant, link)

    world.grants.create = overtaken  # type: ignore[method-assign]
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert kept.grant == world.stored()


def test_a_confirmed_link_whose_grant_was_deleted_does_not_bring_it_back(world: World) -> None:
    link_id = world.came_back()
    world.confirm(link_id)
    assert world.delete_grant(world.key()) is None
    assert world.confirm(link_id) is Declined.NOT_FOUND
    assert world.grants.items == {}


def test_a_grant_that_was_deleted_since_the_start_does_not_come_back(world: World) -> None:
    world.adopted()
    link_id = world.came_back()
    assert world.delete_grant(world.key()) is None
    assert world.confirm(link_id) is Declined.NOT_FOUND
    world.clock.advance(seconds=1)
    world.adopted()
    assert world.confirm(link_id) is Declined.NOT_FOUND, "this is another grant of the same name"


def test_a_grant_that_was_imported_since_the_start_is_replaced(world: World) -> None:
    state = world.start()
    before = world.adopted()
    arrived = world.arrive(state)
    assert isinstance(arrived, Arrived)
    kept = world.confirm(arrived.link_id.reveal())
    assert isinstance(kept, Kept)
    assert not kept.created
    assert kept.grant.version > before.version


def test_a_profile_belongs_to_one_grant(world: World) -> None:
    link_id = world.came_back()
    world.adopted("ben", profile_id="9001")
    assert world.confirm(link_id) is Declined.ALREADY_HELD
    assert world.delete_grant(world.key("ben")) is None
    world.adopted("anna")
    link_id = world.came_back()
    world.adopted("ben", profile_id="9001")
    assert world.confirm(link_id) is Declined.ALREADY_HELD


def test_a_profile_that_the_grant_took_since_the_start_counts(world: World) -> None:
    state = world.start()
    world.adopted(profile_id="9002")
    arrived = world.arrive(state, profile_id="9001")
    assert isinstance(arrived, Arrived)
    assert world.confirm(arrived.link_id.reveal()) is Declined.DIFFERENT_PROFILE


# --- linking again


def dead(world: World) -> None:
    """A grant that Wise has ended."""
    world.adopted(registration=Secret("fixture-registration"), wise_user_id="42")
    world.grants.items[world.key()] = replace(world.stored(), registration_spent_at=world.clock())
    world.due_now()
    world.wise.users["anna"].alive = False
    assert world.attempt().word is Word.REAUTHORIZATION_REQUIRED


def test_a_dead_grant_lives_again_and_keeps_what_is_not_of_its_tokens(world: World) -> None:
    dead(world)
    before = world.stored()
    world.clock.advance(minutes=5)
    kept = world.confirm(world.came_back())
    assert isinstance(kept, Kept)
    assert not kept.created
    after = world.stored()
    assert (after.phase, after.failures, after.last_error) == (Phase.ACTIVE, 0, None)
    assert before.alert is not None
    assert after.alert is not None
    assert (after.alert.kind, after.alert.incident_id) == (AlertKind.RECOVERED, before.alert.incident_id)
    assert after.due_at == world.clock(), "people are told that it is over"
    assert after.version > before.version
    assert (after.registration, after.wise_user_id, after.created_at) == (
        before.registration,
        before.wise_user_id,
        before.created_at,
    )
    assert after.in_doubt is None, "it died long before the new authorization"
    assert isinstance(world.serve(), Served)


def test_linking_keeps_a_suspension(world: World) -> None:
    grant = world.adopted()
    link_id = world.came_back()
    world.grants.items[world.key()] = replace(grant, phase=Phase.SUSPENDED, in_doubt="attempt-earlier")
    world.confirm(link_id)
    after = world.stored()
    assert (after.phase, after.due_at) == (Phase.SUSPENDED, None)
    assert after.in_doubt == "attempt-earlier"


def test_a_confirmation_waits_while_somebody_refreshes(world: World) -> None:
    grant = world.adopted()
    link_id = world.came_back()
    held = replace(grant, attempt_id="x", lease_until=world.clock() + world.budgets.lease)
    world.grants.items[world.key()] = held
    world.clock.on_sleep = lambda: world.grants.items.update({world.key(): grant})
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert len(world.clock.slept) == 1


def test_a_confirmation_gives_up_on_a_lease_within_its_time(world: World) -> None:
    grant = world.adopted()
    link_id = world.came_back()
    world.grants.items[world.key()] = replace(grant, attempt_id="x", lease_until=world.clock() + timedelta(minutes=5))
    began = world.clock()
    assert world.confirm(link_id) is Declined.BUSY
    assert world.clock() - began <= world.budgets.serve
    world.grants.items[world.key()] = grant
    assert isinstance(world.confirm(link_id), Kept), "it can be repeated"


def in_flight(world: World, then: Callable[[], None]) -> None:
    """Do something while Wise has a refresh of the old token and has not answered yet."""

    def act() -> None:
        world.wise.after_refresh = lambda: None
        then()

    world.wise.after_refresh = act


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_an_answer_to_the_old_refresh_token_that_comes_after_the_confirmation_changes_nothing(
    world: World, policy: str
) -> None:
    """The worker is stuck past its lease; the user is linked meanwhile; then its answer is there."""
    world.wise.policy = policy
    world.adopted()
    world.due_now()
    seen: list[Any] = []

    def link() -> None:
        world.clock.advance(seconds=(world.budgets.lease + 2 * world.budgets.margin).total_seconds())
        kept = world.confirm(world.came_back())
        assert isinstance(kept, Kept)
        seen.append(kept.grant)

    in_flight(world, link)
    assert world.attempt().word is Word.OVERTAKEN
    (linked,) = seen
    assert world.stored() == linked
    assert len(world.journal.of(AnswerLate)) == 1
    assert linked.in_doubt is not None, "nobody knows in which order Wise carried the two out"
    world.clock.advance(seconds=1)
    world.sweep()
    assert world.stored().in_doubt is None
    assert world.wise.lives(world.access_token())


def test_a_refusal_of_the_old_refresh_token_after_the_confirmation_is_no_verdict(world: World) -> None:
    world.adopted()
    world.due_now()
    old = world.wise.users["anna"].refresh_token

    def link() -> None:
        world.clock.advance(seconds=(world.budgets.lease + 2 * world.budgets.margin).total_seconds())
        assert isinstance(world.confirm(world.came_back()), Kept)
        assert world.wise.users["anna"].refresh_token != old

    world.wise.on_refresh = lambda: setattr(world.wise, "on_refresh", lambda: None) or link()  # type: ignore[func-returns-value]
    world.attempt()
    assert world.stored().phase is Phase.ACTIVE
    assert world.stored().alert is None, "nobody was told of anything"
    world.clock.advance(seconds=60)
    world.sweep()
    assert world.wise.lives(world.access_token())


def test_a_parked_answer_of_the_old_token_changes_nothing(world: World) -> None:
    world.adopted()
    world.due_now()
    world.grants.failures = ["ok", "before", "before", "before", "before", "before"]
    world.attempt()
    world.grants.failures = []
    assert world.parking.holds_any()
    world.clock.advance(seconds=60)
    kept = world.confirm(world.came_back())
    assert isinstance(kept, Kept)
    before = world.stored()
    world.drain(world.clock() + timedelta(seconds=10))
    after = world.stored()
    assert (after.version, after.access_token, after.refresh_token) == (
        before.version,
        before.access_token,
        before.refresh_token,
    )
    assert not world.parking.holds_any()


def test_a_refresh_that_was_sent_after_the_exchange_leaves_the_new_token_in_doubt(world: World) -> None:
    """Between the exchange and the partner's word the old refresh token is dead at Wise, and the sweep may find out."""
    world.adopted()
    world.clock.advance(minutes=1)
    link_id = world.came_back()
    world.due_now()
    pending = world.grants.pending[hash_of(Secret(link_id))]
    world.grants.pending[pending.hashed] = replace(pending, confirm_before=world.clock() + SECOND)
    assert world.attempt().word is Word.REAUTHORIZATION_REQUIRED
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert kept.grant.phase is Phase.ACTIVE
    assert kept.grant.in_doubt == pending.attempt_id
    served = world.serve()
    assert isinstance(served, Served)
    assert world.wise.lives(served.access_token.reveal())


def test_a_doubt_is_inherited(world: World) -> None:
    world.adopted()
    world.due_now()
    world.wise.script = ["drop"]
    world.wise.asks = []
    world.attempt()
    doubted = world.stored()
    attempt = doubted.attempt_id or doubted.in_doubt
    world.clock.advance(hours=1)
    kept = world.confirm(world.came_back())
    assert isinstance(kept, Kept)
    assert kept.grant.in_doubt == attempt


def test_a_write_that_meets_another_one_is_tried_again(world: World) -> None:
    grant = world.adopted()
    link_id = world.came_back()
    replaced = world.grants.replace

    def overtaken(before: Any, after: Any, when: Any, link: str | None = None) -> Any:
        world.grants.replace = replaced  # type: ignore[method-assign]
        moved = replace(grant, version=grant.version + 7, refresh_token=Sealed(b"another"))
        assert isinstance(world.grants.write(grant, moved, when), Done)
        return replaced(before, after, when, link)

    world.grants.replace = overtaken  # type: ignore[method-assign]
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert kept.grant.version > grant.version + 7
    assert world.stored() == kept.grant


def test_tokens_that_expired_while_they_waited_are_refreshed_at_once(world: World) -> None:
    world.wise.life = timedelta(minutes=5)
    link_id = world.came_back()
    world.clock.advance(minutes=6)
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert kept.grant.refresh_at == kept.grant.due_at == world.clock()
    world.sweep()
    assert world.wise.lives(world.access_token())


def test_an_arrival_shows_no_code(world: World) -> None:
    assert "fixture-code" not in repr(Arrival(state=None, code=Secret("fixture-code")))


def test_where_a_reissue_may_have_ended_the_new_refresh_token_it_is_tried_at_once(world: World) -> None:
    """Asking about the access token proves nothing then: only a refresh does."""
    grant = world.adopted(registration=Secret("fixture-registration"))
    link_id = world.came_back()
    world.grants.items[world.key()] = replace(grant, in_doubt="attempt-reissue", due_at=world.clock())
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert (kept.grant.in_doubt, kept.grant.refresh_at) == ("attempt-reissue", world.clock())


# --- two authorizations


def two_links(world: World, apart: timedelta) -> tuple[str, str]:
    """One user goes through two links of one grant; Wise ends the first one's refresh token. Gives both `link_id`s."""
    first = world.came_back()
    world.clock.now += apart
    return first, world.came_back()


def test_an_older_link_does_not_replace_a_newer_one(world: World) -> None:
    older, newer = two_links(world, timedelta(minutes=1))
    assert isinstance(world.confirm(newer), Kept)
    before = world.stored()
    assert world.confirm(older) is Declined.LINK_EXPIRED
    assert world.stored() == before
    world.due_now()
    assert world.attempt().word is Word.REFRESHED
    assert world.confirm(older) is Declined.LINK_EXPIRED, "a refresh is no authorization"


def test_an_older_link_does_not_replace_what_was_imported_since(world: World) -> None:
    link_id = world.came_back()
    world.clock.advance(minutes=1)
    before = world.adopted()
    assert world.confirm(link_id) is Declined.LINK_EXPIRED
    assert world.stored() == before


def test_an_import_of_tokens_from_before_the_link_is_replaced(world: World) -> None:
    issued_at = world.clock()
    access, refresh = world.wise.add("anna")
    world.clock.advance(minutes=1)
    link_id = world.came_back()
    world.clock.advance(minutes=1)
    offer = Offer(refresh_token=refresh, access_token=access, issued_at=issued_at, expires_at=issued_at + LIFE)
    assert isinstance(world.adopt_grant(world.key(), offer, None), Kept)
    assert isinstance(world.confirm(link_id), Kept)
    world.due_now()
    world.sweep()
    assert world.wise.lives(world.access_token())


def test_the_newer_of_two_links_replaces_the_older_one(world: World) -> None:
    older, newer = two_links(world, timedelta(minutes=1))
    assert isinstance(world.confirm(older), Kept)
    kept = world.confirm(newer)
    assert isinstance(kept, Kept)
    assert kept.grant.in_doubt is None
    assert world.wise.lives(world.access_token())


def test_a_refresh_of_the_old_tokens_since_the_exchange_makes_them_no_newer(world: World) -> None:
    world.adopted()
    world.due_now()
    link_id = world.came_back()
    pending = world.grants.pending[hash_of(Secret(link_id))]
    world.clock.advance(minutes=1)
    world.grants.items[world.key()] = replace(world.stored(), issued_at=world.clock(), last_attempt_at=world.clock())
    kept = world.confirm(link_id)
    assert isinstance(kept, Kept)
    assert (kept.grant.refresh_token, kept.grant.authorized_at) == (pending.refresh_token, pending.issued_at)


@pytest.mark.parametrize("first", ["older", "newer"])
def test_of_two_links_that_no_clock_can_order_a_refresh_at_once_shows_what_lives(world: World, first: str) -> None:
    older, newer = two_links(world, SECOND)
    links = (older, newer) if first == "older" else (newer, older)
    assert isinstance(world.confirm(links[0]), Kept)
    kept = world.confirm(links[1])
    assert isinstance(kept, Kept)
    assert kept.grant.in_doubt is not None
    assert kept.grant.refresh_at == kept.grant.due_at == world.clock()
    world.sweep()
    served = world.serve()
    assert isinstance(served, Served) is (first == "older")
    if first == "newer":
        assert world.stored().phase is Phase.REAUTHORIZATION_REQUIRED, "known at once, and not at half of its life"


# --- what is left of tokens


def left(world: World, link_id: str) -> set[bool]:
    """Whether the link's item still holds tokens."""
    pending = world.grants.pending[hash_of(Secret(link_id))]
    return {pending.access_token is not None, pending.refresh_token is not None}


def test_confirmed_tokens_are_the_grants_alone(world: World) -> None:
    link_id = world.came_back()
    assert left(world, link_id) == {True}
    assert isinstance(world.confirm(link_id), Kept)
    assert left(world, link_id) == {False}


def expired(world: World) -> tuple[str, Declined]:
    link_id = world.came_back()
    world.clock.now += CONFIRM_FOR
    return link_id, Declined.LINK_EXPIRED


def outdated(world: World) -> tuple[str, Declined]:
    older, newer = two_links(world, timedelta(minutes=1))
    assert isinstance(world.confirm(newer), Kept)
    return older, Declined.LINK_EXPIRED


def of_a_profile_that_was_taken(world: World) -> tuple[str, Declined]:
    link_id = world.came_back()
    world.adopted("ben", profile_id="9001")
    return link_id, Declined.ALREADY_HELD


def of_another_profile(world: World) -> tuple[str, Declined]:
    link_id = world.came_back()
    world.adopted(profile_id="9002")
    return link_id, Declined.DIFFERENT_PROFILE


def of_a_deleted_grant(world: World) -> tuple[str, Declined]:
    world.adopted()
    link_id = world.came_back()
    assert world.delete_grant(world.key()) is None
    return link_id, Declined.NOT_FOUND


@pytest.mark.parametrize(
    "make", [expired, outdated, of_a_profile_that_was_taken, of_another_profile, of_a_deleted_grant]
)
def test_what_is_turned_down_is_forgotten(world: World, make: Callable[[World], tuple[str, Declined]]) -> None:
    link_id, why_not = make(world)
    assert world.confirm(link_id) is why_not
    assert left(world, link_id) == {False}
    before = dict(world.grants.items)
    again = Declined.LINK_EXPIRED if why_not is Declined.ALREADY_HELD else why_not
    assert world.confirm(link_id) is again
    assert world.grants.items == before


def test_tokens_that_cannot_be_forgotten_yet_can_be_turned_down_again(world: World) -> None:
    link_id, _ = expired(world)
    world.links.failures = ["ok", "before"]
    with pytest.raises(StoreUnavailable):
        world.confirm(link_id)
    assert world.confirm(link_id) is Declined.LINK_EXPIRED
    assert left(world, link_id) == {False}


def test_a_confirmation_that_may_still_succeed_forgets_nothing(world: World) -> None:
    grant = world.adopted()
    link_id = world.came_back()
    world.grants.items[world.key()] = replace(grant, attempt_id="x", lease_until=world.clock() + timedelta(minutes=5))
    assert world.confirm(link_id) is Declined.BUSY
    assert world.confirm(link_id, "ben") is Declined.NOT_FOUND
    assert left(world, link_id) == {True}


# --- suspensions


def stop_grant(world: World) -> None:
    world.adopted()
    assert world.suspend_grant(world.key(), world.order()) is not None


@pytest.mark.parametrize("of", ["grant", "acme", None])
def test_nothing_is_started_for_what_is_suspended(world: World, of: str | None) -> None:
    if of == "grant":
        stop_grant(world)
    else:
        world.suspensions.suspend(of, world.order())
    assert world.start_link(world.key(), "acme-onboarding", None) is Declined.SUSPENDED
    assert world.links.links == {}
    world.suspend_grant.lift(world.key())
    world.suspensions.lift(of)
    world.start()


@pytest.mark.parametrize("tenant", ["acme", None])
@pytest.mark.parametrize("of", [None, "own"])
def test_while_suspended_no_code_is_exchanged_and_the_link_stays(
    world: World, tenant: str | None, of: str | None
) -> None:
    state = world.start(return_url="https://acme.example/linked")
    world.suspensions.suspend(tenant, world.order())
    changes = {} if of is None else {"of": world.key()}
    answer = world.arrive(state, **changes)
    assert why(answer) is LinkFailure.SUSPENDED
    assert isinstance(answer, Failed)
    assert answer.again
    assert (world.wise.exchanges, world.sealer.calls) == ([], [])
    world.suspensions.lift(tenant)
    assert isinstance(world.arrive(state, **changes), Arrived)


def test_another_tenants_suspension_stops_no_link(world: World) -> None:
    world.suspensions.suspend("globex", world.order())
    assert isinstance(world.arrive(world.start()), Arrived)


def test_a_user_may_refuse_while_suspended(world: World) -> None:
    state = world.start()
    world.suspensions.suspend(None, world.order())
    assert why(world.arrive(state, error="access_denied", code=None)) is LinkFailure.CONSENT_REFUSED


def test_what_is_suspended_is_asked_before_the_link_is_used_up(world: World) -> None:
    state = world.start()
    world.suspensions.failures = ["before"]
    with pytest.raises(StoreUnavailable):
        world.arrive(state)
    assert isinstance(world.arrive(state), Arrived)


def test_a_suspended_grants_link_is_confirmed_and_it_stays_suspended(world: World) -> None:
    world.adopted()
    link_id = world.came_back()
    world.suspensions.suspend(None, world.order())
    world.suspend_grant(world.key(), world.order())
    assert isinstance(world.confirm(link_id), Kept)
    assert world.stored().phase is Phase.SUSPENDED


# --- time


@pytest.mark.parametrize("enough", [True, False])
def test_nothing_is_sent_without_the_time_to_keep_what_comes(world: World, *, enough: bool) -> None:
    state = world.start(return_url="https://acme.example/linked")
    least = world.budgets.serve_function - world.budgets.exchange
    prepare = world.sealer.prepare_new

    def slow(key: GrantKey) -> Any:
        world.clock.now += least if enough else least + timedelta(milliseconds=1)
        return prepare(key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.sealer, "prepare_new", slow)
        answer = world.arrive(state)
    if enough:
        assert isinstance(answer, Arrived)
    else:
        assert why(answer) is LinkFailure.OUR_FAULT
        assert isinstance(answer, Failed)
        assert answer.again
        assert world.wise.exchanges == []
        assert isinstance(world.arrive(state), Arrived), "the link was not used up"


@pytest.mark.parametrize("told", [None, "7"])
def test_a_link_learns_whose_account_it_is(world: World, told: str | None) -> None:
    world.wise.add("anna")
    world.wise.of_users["anna"] = frozenset({"9001"})
    if told is not None:
        world.wise.user_ids["anna"] = told
    assert isinstance(world.confirm(world.came_back()), Kept)
    assert world.stored().wise_user_id == told
    assert world.grants.users == ({} if told is None else {told: {world.key()}})


def test_a_link_says_where_its_grant_found_no_room_among_its_users(world: World) -> None:
    world.wise.add("anna")
    world.wise.of_users["anna"], world.wise.user_ids["anna"] = frozenset({"9001"}), "7"
    world.grants.users["7"] = {GrantKey("acme", str(number)) for number in range(LISTED_OF_TENANT)}
    kept = world.confirm(world.came_back())
    assert isinstance(kept, Kept)
    assert kept.grant.unlisted
    assert kept.grant == world.stored()


def test_a_link_keeps_the_user_that_was_named_where_wise_names_none(world: World) -> None:
    world.adopted(wise_user_id="42", profile_id="9001")
    assert isinstance(world.confirm(world.came_back()), Kept)
    assert world.stored().wise_user_id == "42"


# --- what nobody confirms


def tokens_wait(world: World) -> bool:
    (pending,) = world.grants.pending.values()
    return (pending.access_token, pending.refresh_token) != (None, None)


def until_dropped(world: World) -> timedelta:
    """How long after the arrival's end the sweep may drop the tokens."""
    return CONFIRM_FOR + world.budgets.serve_function + world.budgets.margin


def test_tokens_that_nobody_confirms_are_dropped_within_a_minute_of_their_time(world: World) -> None:
    link_id = world.came_back()
    (arrived_at, exchanged) = (world.clock(), world.wise.exchanges[0])
    world.clock.now = arrived_at + CONFIRM_FOR - SECOND
    world.sweep()
    assert tokens_wait(world)
    world.clock.now = arrived_at + CONFIRM_FOR + timedelta(minutes=1)
    world.sweep()
    assert not tokens_wait(world)
    assert world.journal.of(LinkUnconfirmed) == [LinkUnconfirmed(key=world.key(), attempt_id=exchanged)]
    assert world.confirm(link_id) is Declined.LINK_EXPIRED
    assert world.grants.items == {}
    world.sweep()
    assert len(world.journal.of(LinkUnconfirmed)) == 1


def test_of_two_sweeps_that_drop_the_same_tokens_one_says_so(world: World) -> None:
    world.came_back()
    (hashed,) = world.grants.pending
    drop = world.refresh_due.drop_tokens
    drop(hashed)
    assert tokens_wait(world), "they are not due"
    world.clock.now += until_dropped(world)
    for _ in range(2):
        drop(hashed)
    assert not tokens_wait(world)
    assert len(world.journal.of(LinkUnconfirmed)) == 1


def test_a_strangers_tokens_are_dropped_and_the_grant_of_who_forwarded_the_link_stays(world: World) -> None:
    grant = world.adopted("anna")
    world.wise.add("vera")
    world.came_back("anna", user="vera")
    world.clock.now += until_dropped(world)
    world.sweep()
    assert not tokens_wait(world)
    assert world.stored("anna") == grant


def test_a_confirmed_link_is_never_dropped(world: World) -> None:
    link_id = world.came_back()
    confirmed = world.confirm(link_id)
    assert isinstance(confirmed, Kept)
    world.clock.now += until_dropped(world)
    world.sweep()
    assert world.journal.of(LinkUnconfirmed) == []
    again = world.confirm(link_id)
    assert isinstance(again, Kept)
    assert not again.created


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("took", [timedelta(0), 10 * SECOND, 26 * SECOND])
@pytest.mark.parametrize("skew", [-4 * SECOND, timedelta(0), 4 * SECOND])
def test_a_confirmation_that_began_in_time_never_loses_its_tokens_to_the_sweep(
    world: World, took: timedelta, skew: timedelta, *, existing: bool
) -> None:
    """It begins at the last moment and takes as long as its function may; the sweep's clock may be ahead."""
    if existing:
        world.adopted()
    link_id = world.came_back()
    world.clock.now += CONFIRM_FOR - timedelta(milliseconds=1)
    read = world.links.pending

    def slow(hashed: str) -> Any:
        found = read(hashed)
        world.clock.now += took
        now = world.clock.now
        world.clock.now += skew
        world.sweep(0.5)
        world.clock.now = now
        return found

    world.links.pending = slow  # type: ignore[method-assign]
    assert isinstance(world.confirm(link_id), Kept)
    assert world.journal.of(LinkUnconfirmed) == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_confirmation_that_meets_a_drop_is_too_late_and_changes_nothing(world: World, *, existing: bool) -> None:
    before = world.adopted() if existing else None
    link_id = world.came_back()
    get = world.grants.get

    def dropped_meanwhile(key: Any) -> Any:
        found = get(key)
        world.links.drop(hash_of(Secret(link_id)), world.clock() + HOUR)
        return found

    world.grants.get = dropped_meanwhile  # type: ignore[method-assign]
    assert world.confirm(link_id) is Declined.LINK_EXPIRED
    assert world.grants.items.get(world.key()) == before


def test_tokens_are_dropped_while_wise_is_not_called(world: World) -> None:
    world.came_back()
    world.clock.now += until_dropped(world)
    world.refresh_due(range(16), world.clock() + SECOND, Barred(world.clock() + HOUR, "provider_unavailable"))
    assert not tokens_wait(world)


def test_a_hold_keeps_no_tokens_from_being_dropped(world: World) -> None:
    world.came_back()
    world.suspensions.hold(None, world.order())
    world.clock.now += until_dropped(world)
    world.sweep()
    assert not tokens_wait(world)


def test_tokens_that_cannot_be_dropped_yet_are_dropped_later(world: World) -> None:
    world.came_back()
    world.clock.now += until_dropped(world)
    world.links.failures = ["before"]
    world.sweep()
    assert tokens_wait(world)
    assert [event.code for event in world.journal.of(Trouble)] == ["store-unavailable"]
    world.clock.now += timedelta(minutes=2)
    world.sweep()
    assert not tokens_wait(world)


def test_while_the_environment_is_suspended_nothing_is_dropped(world: World) -> None:
    world.came_back()
    world.clock.now += until_dropped(world)
    world.suspensions.suspend(None, world.order())
    world.sweep()
    assert tokens_wait(world)
    world.suspensions.lift(None)
    world.sweep()
    assert not tokens_wait(world)


# --- a write that used the link up and whose answer was lost


def test_a_link_that_our_own_write_used_up_goes_on_although_its_answer_was_lost(world: World) -> None:
    state = world.start()
    world.links.failures = ["ok", "ok", "after"]
    assert isinstance(world.arrive(state), Arrived)
    assert len(world.wise.exchanges) == 1
    assert why(world.arrive(state)) is LinkFailure.USED


def test_a_link_that_no_write_used_up_is_not_lost(world: World) -> None:
    state = world.start()
    world.links.failures = ["ok", "ok", "before"]
    with pytest.raises(StoreUnavailable):
        world.arrive(state)
    assert world.wise.exchanges == []
    assert isinstance(world.arrive(state), Arrived)


def test_a_link_that_another_browser_used_up_meanwhile_is_used(world: World) -> None:
    state = world.start()
    use = world.links.use

    def overtaken(hashed: str, attempt_id: str, now: Any) -> Any:
        use(hashed, "another-browser", now)
        raise StoreUnavailable("injected")

    world.links.use = overtaken  # type: ignore[method-assign]
    assert why(world.arrive(state)) is LinkFailure.USED
    assert world.wise.exchanges == []


@pytest.mark.parametrize("enough", [True, False])
def test_nothing_is_sent_without_the_time_to_keep_what_comes_after_a_lost_answer(world: World, *, enough: bool) -> None:
    """The link is used up then: a reload would not help, and the page does not say so."""
    state = world.start()
    use, left = world.links.use, world.budgets.exchanging - (timedelta(0) if enough else timedelta(milliseconds=1))

    def lost(hashed: str, attempt_id: str, now: Any) -> Any:
        use(hashed, attempt_id, now)
        world.clock.now += world.budgets.serve_function - left
        raise StoreUnavailable("injected")

    world.links.use = lost  # type: ignore[method-assign]
    answer = world.arrive(state)
    assert len(world.wise.exchanges) == int(enough)
    if enough:
        assert isinstance(answer, Arrived)
    else:
        assert isinstance(answer, Failed)
        assert (answer.why, answer.again) == (LinkFailure.OUR_FAULT, False)
