"""The checker's rules where a grant is our application's own token, or a user's personal one."""

from __future__ import annotations

import pytest

from local.proof.checker import Loss, Rule, check, losses
from local.proof.history import Keeper, Kind, Told
from tests.proof.story import ApplicationStory, PersonalStory, Story

# --- our application's own


@pytest.mark.parametrize("coexist", [False, True])
def test_an_undisturbed_life_of_an_application_token_breaks_nothing(*, coexist: bool) -> None:
    story = ApplicationStory(coexist=coexist)
    story.serve("a1", for_s=100)
    story.later(200).refresh("x", "a2").store("a2")
    story.serve("a2")
    assert story.broken() == []
    assert losses(story.history()) == []


def test_two_requests_for_an_application_token_at_once_are_found() -> None:
    story = ApplicationStory()
    story.begin("x")
    story.later(5).begin("y")
    story.carry_out("y", "a2")
    story.answer("y")
    story.store("a2")
    story.drop("x")
    assert story.broken() == [Rule.ONE_AT_A_TIME]


def test_a_replaced_application_token_is_dead_unless_they_coexist() -> None:
    for coexist, broken in ((False, [Rule.NOT_DEAD]), (True, [])):
        story = ApplicationStory(coexist=coexist)
        story.later(200).refresh("x", "a2").store("a2")
        story.serve("a1")
        story.serve("a2")
        assert story.broken() == broken


def test_an_application_token_is_not_replaced_before_its_time() -> None:
    story = ApplicationStory()
    story.serve("a1", for_s=300)
    story.later(200).refresh("x", "a2").store("a2")
    assert story.broken() == [Rule.PROMISE]


def test_a_report_has_an_application_token_replaced_at_once() -> None:
    story = ApplicationStory()
    story.serve("a1", for_s=300)
    story.later(100).report()
    story.refresh("x", "a2").store("a2")
    assert story.broken() == []


def test_a_report_of_another_version_replaces_nothing() -> None:
    story = ApplicationStory()
    story.serve("a1", for_s=300)
    story.later(100).report(version=1)
    story.refresh("x", "a2").store("a2")
    assert story.broken() == [Rule.PROMISE]


def test_a_report_of_a_users_token_is_no_excuse() -> None:
    story = Story()
    story.serve("a1", for_s=300)
    story.later(100).report()
    story.refresh("x", "a2").store("a2")
    assert story.broken() == [Rule.PROMISE]


def test_an_answer_with_an_application_token_is_kept() -> None:
    story = ApplicationStory()
    story.later(200).refresh("x", "a2")
    assert story.broken(healed=False) == [Rule.KEPT]


def test_nobody_knows_what_became_of_an_unanswered_request() -> None:
    story = ApplicationStory()
    story.later(200).begin("x")
    story.drop("x")
    story.answer("x", Told.NOTHING)
    story.later(60).serve("a1")
    assert story.broken() == [Rule.NOT_DEAD]
    again = ApplicationStory()
    again.later(200).begin("x")
    again.drop("x")
    again.answer("x", Told.NOTHING)
    again.later(60).refresh("y", "a2").store("a2")
    again.serve("a2")
    assert again.broken() == []


def test_an_application_token_waits_for_no_user() -> None:
    story = ApplicationStory()
    story.later(200).judge()
    story.announce()
    assert story.broken() == [Rule.JUDGED]


def test_an_application_token_that_expired_is_found_at_the_end() -> None:
    story = ApplicationStory()
    story.later(12 * 3600 + 1)
    assert story.broken() == [Rule.KEPT]


# Questions about our client, whose answer is an application token too


def test_what_our_question_ended_is_not_served_once_that_is_on_record() -> None:
    story = ApplicationStory()
    story.later(200).question("probe", "q1")
    story.later(1).serve("a1", for_s=5)  # the note is on its way
    assert story.broken(healed=False) == []
    story.later(2).serve("a1", for_s=5)
    assert story.broken(healed=False) == [Rule.NOT_DEAD]
    [violation] = check(story.history(healed=False))
    assert "which our question of" in violation.facts


def test_our_question_leaves_the_token_alive_where_they_coexist() -> None:
    story = ApplicationStory(coexist=True)
    story.later(200).question("probe", "q1")
    story.later(60).serve("a1")
    assert story.broken() == []


def test_a_refused_question_ends_nothing() -> None:
    story = ApplicationStory()
    story.later(200).question("probe", None)
    story.later(60).serve("a1")
    assert story.broken() == []


def test_our_question_breaks_no_promise_but_the_token_is_renewed() -> None:
    story = ApplicationStory()
    story.serve("a1", for_s=300)
    story.later(100).question("probe", "q1")
    story.later(20).refresh("x", "a2").store("a2")
    story.serve("a2")
    assert story.broken() == []


def test_a_token_that_our_question_ended_is_not_left_so() -> None:
    story = ApplicationStory()
    story.later(100).question("probe", "q1")
    story.later(60)
    assert story.broken() == [Rule.KEPT]


def test_an_unanswered_question_counts_from_when_nobody_waits_any_longer() -> None:
    story = ApplicationStory()
    story.later(100).question("probe", "q1", told=False, for_s=1)
    story.later(8).serve("a1")
    assert story.broken(healed=False) == []
    story.later(2).serve("a1")
    assert story.broken(healed=False) == [Rule.NOT_DEAD]


def test_what_died_with_the_process_or_met_no_table_is_on_no_record() -> None:
    for why in ("process", "table", "one write"):
        story = ApplicationStory()
        story.later(100)
        if why == "table":
            story.outage(Keeper.TABLE, 60)
        story.question("probe", "q1", noted=why != "one write")
        if why == "process":
            story.kill("probe")
        story.later(30).serve("a1")
        assert story.broken() == [], why


def test_what_another_partner_of_wises_client_did_is_not_ours() -> None:
    story = ApplicationStory()
    story.serve("a1", for_s=3600)
    story.later(100).begin(None)
    story.carry_out(None, "theirs")
    story.answer("None")
    story.later(60).serve("a1")
    assert story.broken() == []


def test_an_answer_may_be_dropped_that_a_question_had_ended() -> None:
    story = ApplicationStory()
    story.later(200).begin("x")
    story.carry_out("x", "a2")
    story.question("probe", "q1")
    story.answer("x")
    story.later(20).refresh("y", "a3").store("a3")
    assert story.broken() == []
    early = ApplicationStory()
    early.later(100).question("probe", "q1")
    early.later(20).refresh("x", "a2")
    early.later(20).refresh("y", "a3").store("a3")
    assert early.broken() == [Rule.KEPT]


def test_a_lost_application_token_is_counted_where_nobody_could_keep_it() -> None:
    story = ApplicationStory()
    story.later(200).begin("x")
    story.carry_out("x", "a2")
    story.answer("x", Told.NOTHING)
    story.later(20).refresh("y", "a3").store("a3")
    [loss] = losses(story.history())
    assert loss == Loss("anna", "x", loss.when, "no answer")
    assert story.broken() == []


# --- personal tokens


def test_an_undisturbed_life_of_a_personal_token_breaks_nothing() -> None:
    story = PersonalStory()
    story.serve("p1")
    story.later(400 * 86_400).serve("p1", for_s=3600)
    assert story.broken() == []


def test_a_personal_token_takes_nothing_from_the_token_endpoint() -> None:
    story = PersonalStory()
    story.later(200).begin("x", "p1")
    story.drop("x")
    story.answer("x", Told.INVALID)
    assert story.broken() == [Rule.STATIC]


def test_a_personal_token_that_wise_called_dead_is_not_served_again() -> None:
    story = PersonalStory()
    story.later(200).revoke()
    story.serve("p1")  # nobody told us
    assert story.broken() == []
    story.ask("p1")
    story.serve("p1")
    assert story.broken(healed=False) == [Rule.NOT_DEAD]


def test_a_dead_personal_token_waits_for_its_user_and_somebody_is_told() -> None:
    story = PersonalStory()
    story.later(200).revoke()
    story.ask("p1")
    story.judge("personal_token_rejected")
    assert story.broken() == [Rule.KEPT]
    story.announce(reason="personal_token_rejected")
    assert story.broken() == []


def test_a_personal_token_that_lives_is_not_judged() -> None:
    story = PersonalStory()
    story.later(200).judge("personal_token_rejected")
    story.announce()
    assert story.broken() == [Rule.JUDGED]
    [violation] = check(story.history())
    assert violation.facts == "it was judged dead though its personal token p1 lives"


def test_a_new_personal_token_takes_the_place_of_the_old_one() -> None:
    story = PersonalStory()
    story.serve("p1")
    story.later(200).revoke()
    story.ask("p1")
    story.judge("personal_token_rejected")
    story.announce(reason="personal_token_rejected")
    story.later(60).make("p2")
    story.adopt("p2", None)
    story.store("p2")
    story.serve("p2")
    assert story.broken() == []


def test_a_dead_personal_token_that_we_know_of_is_not_left_active() -> None:
    story = PersonalStory()
    story.later(200).revoke()
    assert story.broken() == [], "nobody could know"
    story.ask("p1")
    assert story.broken() == [Rule.KEPT]


def test_kinds_are_told_by_what_wise_made() -> None:
    assert {str(kind) for kind in Kind} == {"access", "refresh", "application", "personal"}
