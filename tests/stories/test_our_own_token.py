"""Wise's pages about application tokens: `client_credentials`, for what the application does in its own name.

Whether a second one ends the first no page says, so that both is played.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local.proof.checker import Rule, check
from local.proof.from_truth import at, history_of
from local.proof.history import History, Moment, Record, Reported, Stored, name_of
from local.proof.history import Served as WasServed
from local.wise.truth import Kind, TokenTruth
from tests.stories.stage import Story, played
from tests.wise.client import Reply
from token_rotator.domain.grant import APPLICATION, AlertKind, Phase
from token_rotator.service.serve_token import NotServed, Served

SUBSCRIPTIONS = "/v3/applications/emulator-client-key/subscriptions"
ASKED = {
    "name": "Fixture",
    "trigger_on": "users#state-change",
    "delivery": {"version": "4.0.0", "url": "https://partner.example.com/wise/events"},
}


@pytest.fixture(params=[True, False], ids=["tokens coexist", "a new token ends the one before"])
def coexist(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def ours(*, coexist: bool) -> Iterator[Story]:
    with played(application_tokens_coexist=coexist) as ready:
        yield ready


def token(story: Story, rejected: int | None = None) -> Served:
    served = story.serve_token(APPLICATION, rejected)
    assert isinstance(served, Served), served
    return served


def call(
    story: Story, served: Served, method: str = "GET", path: str = SUBSCRIPTIONS, body: str | None = None
) -> Reply:
    """What a partner service does with the token: in the application's name."""
    return story.partner.send(method, path, body, {"Authorization": f"Bearer {served.access_token.reveal()}"})


def at_wise(story: Story) -> list[TokenTruth]:
    return [told for told in story.control.tokens() if told.kind is Kind.APPLICATION]


def test_partner_services_share_one_token_and_never_see_the_secret(ours: Story) -> None:
    first, second = token(ours), token(ours)
    assert first.access_token.reveal() == second.access_token.reveal()
    assert len(at_wise(ours)) == 1
    assert call(ours, first, "POST", SUBSCRIPTIONS, json.dumps(ASKED)).status == 200
    assert len(call(ours, second).json) == 1


@pytest.mark.parametrize("token_format", ["uuid", "jwe", "long"])
def test_the_token_may_have_any_form(story: Story, token_format: str) -> None:
    story.control.change_settings(application_token_format=token_format)
    assert call(story, token(story)).status == 200


def test_it_is_renewed_before_its_end_and_served_all_the_time(ours: Story) -> None:
    seen = [token(ours).access_token.reveal()]
    for _ in range(5):
        ours.later(hours=7)
        served = token(ours)
        assert call(ours, served).status == 200
        seen.append(served.access_token.reveal())
    assert len(set(seen)) == len(seen) == len(at_wise(ours))
    assert {request.outcome for request in ours.sent("client_credentials")} == {"issued"}
    assert ours.told() == []


def test_a_token_that_wise_ended_is_replaced_once_it_is_reported(ours: Story) -> None:
    served = token(ours)
    ours.clock.advance(minutes=10)
    secret = ours.control.rotate_client_secret(revoke_tokens=True)
    ours.credentials.stored.insert(0, secret)
    assert call(ours, served).status == 401
    again = token(ours, rejected=served.version)
    assert (call(ours, again).status, again.version > served.version) == (200, True)
    late = token(ours, rejected=served.version)
    assert late.access_token.reveal() == again.access_token.reveal(), "however many report"
    assert ours.told() == []


def test_a_question_about_our_client_leaves_nobody_with_a_dead_token(ours: Story) -> None:
    ours.linked()
    before = token(ours)
    ours.due_now()
    ours.control.fail_next(status=401, user="anna")
    ours.sweep(3)
    questions = [request for request in ours.sent("client_credentials") if request.id != 1]
    assert questions, "Wise refused, so that we asked whether it knows us"
    ours.sweep(3)
    after = token(ours)
    assert call(ours, after).status == 200
    assert after.version > before.version


def test_a_client_that_may_not_have_one_goes_on_with_its_users(story: Story) -> None:
    story.control.change_settings(client_credentials_allowed=False)
    story.linked()
    assert isinstance(story.serve_token(APPLICATION, None), NotServed)
    story.due_now()
    story.sweep(3)
    assert story.call(story.token()) == 200
    story.later(minutes=20)
    assert {kind for kind, _ in story.told()} <= {AlertKind.HELD}
    assert story.grants.items[APPLICATION].phase is Phase.ACTIVE
    story.control.change_settings(client_credentials_allowed=True)
    for _ in range(20):
        story.later(hours=1)
        served = story.serve_token(APPLICATION, None)
        if isinstance(served, Served):
            break
    assert isinstance(served, Served)
    assert call(story, served).status == 200


class Watched:
    """What was served and stored of our own token, for the proof."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.ledger: list[Record] = []

    def now(self) -> Moment:
        self.story.clock.advance(milliseconds=1)
        return at(self.story.clock(), seq=self.story.at.state.seq(), number=len(self.ledger))

    def look(self, rejected: int | None = None) -> Served:
        if rejected is not None:
            self.ledger.append(Reported(when=self.now(), grant="ours", version=rejected))
        served = token(self.story, rejected)
        name = name_of(served.access_token.reveal())
        self.ledger += [
            Stored(when=self.now(), grant="ours", phase="active", version=served.version, access=name),
            self.was_served(served),
        ]
        return served

    def was_served(self, served: Served) -> WasServed:
        when = self.now()
        return WasServed(
            when=when,
            grant="ours",
            looked=when,
            token=name_of(served.access_token.reveal()),
            version=served.version,
            stable_until=served.stable_until,
        )

    def history(self) -> History:
        truth = self.story.control.truth()
        of_users = {r.correlation_id for r in truth.requests if r.grant_type == "refresh_token"}
        return history_of(
            truth,
            self.ledger,
            {},
            healed=True,
            application="ours",
            is_question=lambda request: request.correlation_id in of_users,
        )


def test_the_proof_finds_nothing_wrong_with_it(ours: Story, *, coexist: bool) -> None:
    ours.linked()
    watched = Watched(ours)
    first = watched.look()
    for _ in range(2):
        ours.later(hours=7)
        watched.look()
    ours.control.fail_next(status=401, user="anna")
    ours.due_now()
    ours.sweep(3)
    ours.sweep(3)
    asked_about = watched.look()
    ours.clock.advance(minutes=10)
    watched.look(rejected=asked_about.version)
    assert check(watched.history()) == []
    watched.ledger.append(watched.was_served(first))
    found = [violation.rule for violation in check(watched.history())]
    assert (Rule.NOT_DEAD in found) or coexist
