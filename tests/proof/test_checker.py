"""Each rule of the checker: a history that breaks it, and its neighbour that does not."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from local.proof import checker
from local.proof.checker import Loss, Rule, Terms, check, losses
from local.proof.history import Adopted, Keeper, Kind, Shut, Told
from tests.proof.story import Story

UNRESOLVED = "nobody knew what had become of the refresh"


def test_an_undisturbed_life_breaks_nothing() -> None:
    story = Story()
    story.serve("a1", for_s=100)
    story.later(200).refresh("x", "a2").store("a2")
    story.serve("a2")
    assert story.broken() == []
    assert losses(story.history()) == []


def test_nothing_of_the_product_is_imported() -> None:
    for name in ("checker", "history", "from_truth"):
        path = Path(checker.__file__).with_name(f"{name}.py")
        imported = {
            node.module or ""
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
        }
        ours = {module for module in imported if module.partition(".")[0] not in sys.stdlib_module_names}
        assert ours <= {"local.proof.history", "local.wise"}, name


# --- 1: one refresh at a time


def two_refreshes(story: Story, apart_s: float) -> Story:
    story.begin("x")
    story.later(apart_s).begin("y")
    story.carry_out("y", "a2")
    story.answer("y")
    story.store("a2")
    return story


def test_two_refreshes_at_once_are_found() -> None:
    story = two_refreshes(Story(), 14)
    story.drop("x")
    assert story.broken() == [Rule.ONE_AT_A_TIME]


def test_the_second_may_come_once_the_first_is_settled_or_has_outlived_its_lease() -> None:
    story = Story()
    story.begin("x")
    story.drop("x")
    story.later(1)
    assert two_refreshes(Story(), 16).broken() == []
    story.ask("a1")
    story.refresh("y", "a2").store("a2")
    assert story.broken() == []


def test_how_long_a_lease_is_outlived_is_a_term() -> None:
    story = two_refreshes(Story(), 14)
    assert check(story.history(), Terms(patience=Terms().patience / 2)) == []


def test_the_refresh_of_somebody_else_is_not_ours_to_avoid() -> None:
    story = Story()
    story.begin(None)
    story.refresh("y", "a2").store("a2")
    assert story.broken() == []


# --- 2: nothing dead is served


def test_a_token_that_a_refresh_replaced_is_found() -> None:
    story = Story()
    story.refresh("x", "a2").store("a2")
    story.serve("a1")
    assert story.broken() == [Rule.NOT_DEAD]


def test_what_was_looked_up_before_it_was_replaced_was_not_known_to_be_dead() -> None:
    story = Story()
    looked = story.now()
    story.refresh("x", "a2").store("a2")
    story.later(10).serve("a1", for_s=-10, looked=looked)
    assert story.broken() == []


def test_a_token_is_not_served_while_a_refresh_of_it_is_unresolved() -> None:
    story = Story()
    story.begin("x")
    story.serve("a1", for_s=1)
    story.drop("x")
    story.answer("x", Told.REFUSED)
    [violation] = check(story.history())
    assert violation.rule is Rule.NOT_DEAD
    assert UNRESOLVED in violation.facts


@pytest.mark.parametrize("told", [Told.REFUSED, Told.INVALID])
def test_an_answer_that_nothing_was_done_resolves_it(told: Told) -> None:
    story = Story()
    story.begin("x")
    story.drop("x")
    story.answer("x", told)
    story.serve("a1")
    assert story.broken() == []


def test_a_lost_answer_leaves_it_unresolved_until_wise_is_asked() -> None:
    story = Story()
    story.begin("x")
    story.drop("x")
    story.answer("x", Told.NOTHING)
    story.serve("a1")
    assert story.broken() == [Rule.NOT_DEAD]
    story = Story()
    story.begin("x")
    story.drop("x")
    story.answer("x", Told.NOTHING)
    story.ask("a1")
    story.serve("a1")
    assert story.broken() == []


def test_where_nobody_saw_when_the_rotator_looked_it_may_have_known_what_it_learned_until_then() -> None:
    def served(*, asks: bool, lifts: bool = False) -> list[Rule]:
        story = Story()
        if lifts:
            story.suspend()
        else:
            story.begin("x")
            story.drop("x")
            story.answer("x", Told.NOTHING)
        looked = story.now()
        if asks:
            story.ask("a1")
        if lifts:
            story.suspend(lifted=True)
        by = story.now()
        story.serve("a1", looked=looked, looked_by=by)
        return story.broken()

    assert served(asks=True) == served(asks=False, lifts=True) == []
    assert served(asks=False) == [Rule.NOT_DEAD]


def test_a_token_that_was_brought_again_while_a_reader_waited_is_not_known_to_be_dead() -> None:
    story = Story()
    story.refresh("x", "a2").store("a2")
    looked = story.now()
    story.adopt("a1", "r1")
    story.store("a1")
    by = story.now()
    story.serve("a1", for_s=10, looked=looked, looked_by=by)
    assert story.broken(healed=False) == []


def test_a_stop_after_it_was_lifted_once_is_in_force() -> None:
    story = Story()
    story.suspend()
    story.suspend(lifted=True)
    story.suspend()
    story.serve("a1", looked=story.now(), looked_by=story.now())
    assert story.broken() == [Rule.SUSPENDED]


def test_a_question_before_the_request_was_over_or_without_an_answer_proves_nothing() -> None:
    early = Story()
    early.begin("x")
    early.ask("a1")
    early.drop("x")
    early.serve("a1")
    unheard = Story()
    unheard.begin("x")
    unheard.drop("x")
    unheard.ask("a1", told=False)
    unheard.serve("a1")
    assert early.broken() == unheard.broken() == [Rule.NOT_DEAD]


def test_a_token_that_wise_ended_is_dead_once_wise_has_said_so() -> None:
    unknown = Story()
    unknown.die("a1")
    unknown.living = ""
    unknown.serve("a1")
    assert unknown.broken() == []
    known = Story()
    known.die("a1")
    known.living = ""
    known.ask("a1")
    known.serve("a1")
    assert known.broken(healed=False) == [Rule.NOT_DEAD]


def test_an_expired_token_is_found() -> None:
    story = Story()
    story.later(12 * 3600 - 1).serve("a1", for_s=0)
    assert story.broken(healed=False) == []
    story.later(1).serve("a1", for_s=-1)
    assert story.broken(healed=False) == [Rule.NOT_DEAD]


def test_a_token_of_nobody_or_of_another_grant_is_found() -> None:
    story = Story()
    story.mint("b1", Kind.ACCESS, grant="ben")
    story.serve("b1")
    story.serve("a0")
    assert story.broken() == [Rule.OWN, Rule.NOT_DEAD]


def test_a_token_that_was_brought_dead_is_unknown_unless_something_was_open() -> None:
    closed = Story()
    closed.refresh("x", "a2").store("a2")
    closed.adopt("a1", "r1")
    closed.store("a1")
    closed.serve("a1", for_s=10)
    assert closed.broken(healed=False) == []
    still_open = Story()
    still_open.begin("x")
    still_open.carry_out("x", "a2")
    still_open.answer("x", Told.NOTHING)
    still_open.adopt("a1", "r1")
    still_open.store("a1")
    still_open.serve("a1", for_s=10)
    assert still_open.broken(healed=False) == [Rule.NOT_DEAD]


def test_nothing_is_served_between_an_operators_word_and_the_next() -> None:
    story = Story()
    looked = story.now()
    story.suspend()
    story.serve("a1", looked=looked)
    assert story.broken() == []
    story.serve("a1")
    assert story.broken() == [Rule.SUSPENDED]
    lifted = Story()
    lifted.suspend()
    lifted.suspend(lifted=True)
    lifted.serve("a1")
    assert lifted.broken() == []


# --- 3: the promise


def test_a_token_that_is_replaced_before_its_time_is_found() -> None:
    story = Story()
    story.serve("a1", for_s=100)
    story.later(99).refresh("x", "a2").store("a2")
    assert story.broken() == [Rule.PROMISE]
    story = Story()
    story.serve("a1", for_s=100)
    story.later(100).refresh("x", "a2").store("a2")
    assert story.broken() == []


def test_a_promise_that_was_on_its_way_counts() -> None:
    story = Story()
    looked = story.now()
    story.refresh("x", "a2").store("a2")
    story.serve("a1", for_s=5, looked=looked)
    assert story.broken() == [Rule.PROMISE]


def test_a_promise_beyond_expiry_is_found() -> None:
    story = Story()
    story.serve("a1", for_s=12 * 3600 + 1)
    assert story.broken() == [Rule.PROMISE]
    story = Story()
    story.serve("a1", for_s=12 * 3600 - 1)
    assert story.broken() == []


def test_who_replaces_or_deletes_a_grant_breaks_its_promise() -> None:
    replaced = Story()
    replaced.serve("a1", for_s=100)
    replaced.adopt("a1", "r1")
    replaced.refresh("x", "a2").store("a2")
    deleted = Story()
    deleted.serve("a1", for_s=100)
    deleted.delete()
    deleted.refresh("x", "a2").store("a2")
    assert replaced.broken() == deleted.broken() == []


def test_an_act_before_or_long_after_excuses_no_promise() -> None:
    before = Story()
    before.adopt("a1", "r1")
    before.serve("a1", for_s=100)
    before.refresh("x", "a2").store("a2")
    after = Story()
    after.serve("a1", for_s=100)
    after.refresh("x", "a2").store("a2")
    after.later(20).delete()
    assert before.broken() == after.broken() == [Rule.PROMISE]


def test_wise_and_others_may_end_what_was_promised() -> None:
    story = Story()
    story.serve("a1", for_s=100)
    story.die("a1")
    story.living = ""
    assert story.broken() == []
    story = Story()
    story.serve("a1", for_s=100)
    story.begin(None)
    story.carry_out(None, "a2")
    assert story.broken(healed=False) == []


def test_a_report_of_a_living_token_excuses_nothing() -> None:
    story = Story()
    story.serve("a1", for_s=100)
    story.ask("a1")
    story.refresh("x", "a2").store("a2")
    assert story.broken() == [Rule.PROMISE]


def test_what_wise_carries_out_after_the_lease_breaks_the_promise_by_itself() -> None:
    story = Story()
    story.begin("x")
    story.later(16).ask("a1")
    story.serve("a1", for_s=100)
    story.later(1).carry_out("x", "a2")
    assert Rule.PROMISE not in story.broken(healed=False)
    story = Story()
    story.begin("x")
    story.later(10).ask("a1")
    story.serve("a1", for_s=100)
    story.later(1).carry_out("x", "a2")
    assert Rule.PROMISE in story.broken(healed=False)


# --- 4: answers are kept, and all ends well


def test_an_answer_that_is_dropped_is_found_though_the_next_refresh_heals_it() -> None:
    story = Story()
    story.refresh("x", "a2")
    story.later(60).refresh("y", "a3").store("a3")
    assert story.broken() == [Rule.KEPT]


@pytest.mark.parametrize("died", ["x", "y"])
def test_an_answer_may_die_with_its_own_process_only(died: str) -> None:
    story = Story()
    story.refresh("x", "a2")
    story.kill(died)
    story.later(60).refresh("z", "a3").store("a3")
    assert story.broken() == ([] if died == "x" else [Rule.KEPT])


def test_a_process_that_died_later_had_the_time_to_keep_its_answer() -> None:
    story = Story()
    story.refresh("x", "a2")
    story.later(9).kill("x")
    story.later(60).refresh("z", "a3").store("a3")
    assert story.broken() == [Rule.KEPT]


@pytest.mark.parametrize(
    ("table_s", "queue_s", "excused"), [(3, 3, True), (3, 0, False), (0, 3, False), (1, 3, False), (3, 1, False)]
)
def test_an_answer_may_be_lost_while_neither_table_nor_queue_takes_writes(
    *, table_s: float, queue_s: float, excused: bool
) -> None:
    story = Story()
    story.outage(Keeper.TABLE, table_s)
    story.outage(Keeper.QUEUE, queue_s)
    story.refresh("x", "a2")
    story.later(60).refresh("y", "a3").store("a3")
    assert story.broken() == ([] if excused else [Rule.KEPT])


def test_an_answer_that_is_no_longer_the_newest_may_be_dropped() -> None:
    story = Story()
    story.begin("x")
    story.carry_out("x", "a2")
    story.later(20).refresh("y", "a3").store("a3")
    story.answer("x")
    assert story.broken() == []
    late = Story()
    late.refresh("x", "a2")
    late.adopt("a1", "r1")
    late.store("a1")
    assert Rule.KEPT not in late.broken(healed=False)


def test_a_parked_answer_is_stored_in_the_end() -> None:
    forgotten = Story()
    forgotten.refresh("x", "a2").park("a2")
    assert Rule.KEPT in forgotten.broken()
    assert forgotten.broken(healed=False) == []
    stored = Story()
    stored.refresh("x", "a2").park("a2")
    stored.store("a2")
    assert stored.broken() == []
    overtaken = Story()
    overtaken.refresh("x", "a2").park("a2")
    overtaken.later(30).refresh("y", "a3").store("a3")
    assert overtaken.broken() == []


def test_without_every_write_on_record_only_the_end_is_judged() -> None:
    story = Story()
    story.refresh("x", "a2")
    story.later(60).refresh("y", "a3").store("a3")
    assert story.broken(every_write=False) == []


def test_a_grant_that_ends_with_a_dead_access_or_refresh_token_is_found() -> None:
    access = Story()
    access.refresh("x", "a2")
    access.kill("x")
    refresh = Story()
    refresh.refresh("x", "a2", "r2").store("a2", "r1")
    assert access.broken() == refresh.broken() == [Rule.KEPT]
    assert access.broken(healed=False) == []


def test_what_expires_after_a_grant_was_seen_for_the_last_time_is_not_its_end() -> None:
    story = Story()
    story.serve("a1")
    seen = story.clock()
    story.later(13 * 3600)
    assert set(story.broken()) == {Rule.KEPT}
    assert check(replace(story.history(), seen_until={"anna": seen})) == []
    assert check(replace(story.history(), seen_until={"ben": seen})) != []


def test_the_token_of_the_last_version_is_known_from_who_was_served_it() -> None:
    story = Story()
    story.refresh("x", "a2").store(None, "r1")
    story.serve("a2")
    assert story.broken(every_write=False) == []
    story = Story()
    story.refresh("x", "a2").store(None, "r1")
    story.serve("a1", for_s=0)
    assert Rule.KEPT in story.broken(every_write=False)


def test_a_grant_that_ends_without_any_token_is_found() -> None:
    story = Story()
    story.store(None)
    assert story.broken() == [Rule.KEPT]


def test_nobody_can_know_what_wise_ended_by_itself_until_it_is_due() -> None:
    def ended(hours: float, *, asked: bool = False, refused: bool = False) -> list[Rule]:
        story = Story()
        story.die("a1")
        story.living = ""
        if asked:
            story.ask("a1")
        if refused:
            story.begin("x")
            story.drop("x")
            story.answer("x", Told.INVALID)
        story.later(3600 * hours)
        return story.broken()

    assert ended(11) == []
    assert set(ended(12)) == set(ended(1, asked=True)) == set(ended(1, refused=True)) == {Rule.KEPT}


def test_who_waits_for_its_user_has_been_announced_since() -> None:
    story = Story()
    story.die("r1")
    story.announce()
    story.judge()
    story.store("a1", phase="reauthorization_required")
    assert story.broken() == [Rule.KEPT]
    story.announce(kind="recovered")
    assert story.broken() == [Rule.KEPT]
    story.announce()
    assert story.broken() == []


def test_a_grant_is_gone_only_if_somebody_deleted_it() -> None:
    story = Story()
    story.store(None, phase="gone")
    assert story.broken() == [Rule.KEPT]
    story.delete()
    assert story.broken() == []


def test_the_last_reader_of_an_active_grant_gets_a_token() -> None:
    story = Story()
    story.turn_away()
    assert story.broken() == [Rule.KEPT]
    story.serve("a1")
    assert story.broken() == []


# --- 5: verdicts


def test_a_verdict_on_a_living_refresh_token_is_found() -> None:
    story = Story()
    story.judge()
    story.announce()
    assert story.broken() == [Rule.JUDGED]
    story = Story()
    story.die("r1")
    story.judge()
    story.announce()
    assert story.broken() == []


def test_under_one_refresh_token_a_lost_answer_excuses_no_verdict() -> None:
    story = Story()
    story.begin("x")
    story.carry_out("x", "a2")
    story.judge("outcome_unknown")
    story.announce()
    assert story.broken() == [Rule.JUDGED]


def lost_rotation(reason: str, *, told: Told = Told.NOTHING, killed: bool = False, parked: bool = False) -> list[Rule]:
    story = Story()
    story.begin("x")
    story.carry_out("x", "a2", "r2")
    story.answer("x", told)
    if parked:
        story.park("a2")
    if killed:
        story.kill("x")
    story.judge(reason)
    story.announce()
    return story.broken(healed=False)


def test_a_rotated_refresh_token_whose_answer_was_lost_ends_as_outcome_unknown() -> None:
    assert lost_rotation("outcome_unknown") == []
    assert lost_rotation("outcome_unknown", told=Told.TOKENS, killed=True) == []
    assert lost_rotation("invalid_grant") == [Rule.JUDGED]


def test_a_rotated_refresh_token_that_reached_us_or_is_parked_excuses_no_verdict() -> None:
    assert Rule.JUDGED in lost_rotation("outcome_unknown", told=Told.TOKENS)
    assert Rule.JUDGED in lost_rotation("outcome_unknown", told=Told.TOKENS, killed=True, parked=True)


def test_the_reason_may_stand_in_the_announcement_alone() -> None:
    def lost(announced: str) -> list[Rule]:
        story = Story()
        story.begin("x")
        story.carry_out("x", "a2", "r2")
        story.store("a1", "r1", phase="reauthorization_required")
        story.announce(reason=announced)
        return story.broken()

    assert lost("outcome_unknown") == []
    assert lost("invalid_grant") == [Rule.JUDGED]


def test_a_verdict_counts_for_the_tokens_that_were_brought_last() -> None:
    def brought(refresh: str) -> list[Rule]:
        story = Story()
        story.refresh("x", "a2", "r2").store("a2")
        story.adopt("a1", refresh)
        story.judge()
        story.announce()
        return story.broken()

    assert brought("r1") == []
    assert brought("r2") == [Rule.JUDGED]


def test_an_older_copy_makes_no_lost_answer_undone() -> None:
    def brought(refresh: str, reason: str, *, replaced: bool = True) -> list[Rule]:
        story = Story()
        story.begin("x")
        story.carry_out("x", "a2", "r2")
        story.answer("x", Told.NOTHING)
        story.adopt("a1", refresh, replaced=replaced)
        story.store("a1", refresh)
        story.judge(reason)
        story.announce()
        return story.broken(healed=False)

    assert brought("r1", "outcome_unknown") == []
    assert brought("r1", "invalid_grant") == [Rule.JUDGED]
    assert brought("r3", "invalid_grant") == []
    assert brought("r1", "invalid_grant", replaced=False) == []  # it was forgotten before, with all that was open


def test_an_older_copy_does_not_bury_an_answer_that_is_on_its_way() -> None:
    def buried(after_s: float, *, stored: bool = False) -> list[Rule]:
        story = Story()
        story.begin("x")
        story.carry_out("x", "a2", "r2")
        story.answer("x", Told.TOKENS)
        story.park("a2")
        if stored:
            story.store("a2", "r2")
        story.later(after_s).adopt("a1", "r1")
        story.store("a1", "r1")
        story.judge("outcome_unknown")
        story.announce()
        return [rule for rule in story.broken(healed=False) if rule is Rule.JUDGED]

    assert buried(170) == [Rule.JUDGED]
    assert buried(190) == buried(170, stored=True) == []


def test_nothing_is_said_of_a_grant_whose_tokens_nobody_knows() -> None:
    story = Story()
    when = story.now()
    story.recorder.add(
        Adopted(when=when, grant="anna", asked=when, access="a1", refresh="r1", replaced=True, certain=False)
    )
    story.judge()
    story.announce()
    assert story.broken() == []


def test_a_refresh_token_that_somebody_else_rotated_is_not_ours() -> None:
    story = Story()
    story.begin(None)
    story.carry_out(None, "a2", "r2")
    story.judge()
    story.announce()
    assert story.broken() == []


# --- what no client can keep


def test_losses_that_nobody_could_avoid_are_listed_by_attempt() -> None:
    story = Story()
    story.begin("unheard")
    story.carry_out("unheard", "a2")
    story.later(60).refresh("killed", "a3").kill("killed")
    story.later(60).outage(Keeper.TABLE, 9)
    story.outage(Keeper.QUEUE, 9)
    story.refresh("homeless", "a4")
    story.later(60).refresh("dropped", "a5")
    story.later(60).refresh("kept", "a6").store("a6")
    found = [(loss.attempt, loss.why) for loss in losses(story.history())]
    assert found == [("unheard", "no answer"), ("killed", "process died"), ("homeless", "nothing took writes")]
    assert isinstance(losses(story.history())[0], Loss)


def test_a_violation_says_what_whose_when_and_why() -> None:
    story = Story()
    story.serve("a1", for_s=100)
    story.later(10).refresh("x", "a2").store("a2")
    [violation] = check(story.history())
    assert str(violation) == (
        "[3 never replace a token before its stable_until] anna at 12:00:10.000: "
        "a1, served at 12:00:00.000 until 12:01:40.000000, was replaced by attempt x"
    )


# --- what no client can tell apart


def misled(by: str) -> Story:
    """A slow refresh, during which the token turns out to be dead: a second one follows, then the first is done."""
    story = Story()
    if by == "wise":
        story.die("a1")
        story.living = ""
    if by == "ours":
        story.begin("w")
        story.carry_out("w", "a0")
        story.answer("w", Told.NOTHING)
    story.begin("x")
    if by == "somebody else":
        story.begin(None)
        story.carry_out(None, "a0")
    story.later(5).ask("a1")
    story.refresh("y", "a2").store("a2")
    story.serve("a2", for_s=100)
    story.later(3).carry_out("x", "a3")
    return story


@pytest.mark.parametrize("by", ["wise", "somebody else"])
def test_a_token_that_others_ended_during_a_slow_refresh_looks_as_if_that_had_been_carried_out(by: str) -> None:
    assert misled(by).broken() == []


def test_a_token_that_a_refresh_of_ours_had_ended_before_says_nothing_about_a_slow_one() -> None:
    assert misled("ours").broken() == [Rule.ONE_AT_A_TIME, Rule.PROMISE, Rule.KEPT]


@pytest.mark.parametrize(("ended", "broken"), [(None, []), (1, [Rule.ONE_AT_A_TIME, Rule.PROMISE, Rule.KEPT])])
def test_a_closed_account_looks_as_if_a_slow_refresh_had_been_carried_out(
    ended: float | None, broken: list[Rule]
) -> None:
    story = Story()
    shut = story.now()
    story.begin("x")
    if ended is not None:
        story.later(ended)
    opened = None if ended is None else story.now()
    story.recorder.add(Shut(when=shut, grant="anna", ended=opened))
    story.later(5).ask("a1", lives=False)
    story.refresh("y", "a2").store("a2")
    story.serve("a2", for_s=100)
    story.later(3).carry_out("x", "a3")
    assert story.broken() == broken


@pytest.mark.parametrize(("opened", "broken"), [(False, []), (True, [Rule.JUDGED])])
def test_a_verdict_upon_the_word_of_a_wise_that_had_closed_the_account_is_nobodys_fault(
    *, opened: bool, broken: list[Rule]
) -> None:
    story = Story()
    shut = story.now()
    if opened:
        story.recorder.add(Shut(when=shut, grant="anna", ended=story.now()))
    story.begin("x")
    story.drop("x")
    story.answer("x", Told.INVALID)
    if not opened:
        story.recorder.add(Shut(when=shut, grant="anna"))
    story.judge("invalid_grant")
    story.announce()
    assert story.broken() == broken


def test_a_grant_that_was_replaced_after_its_answer_was_parked_needs_it_no_longer() -> None:
    story = Story()
    story.refresh("x", "a2").park("a2")
    story.later(60).delete()
    story.store(None, phase="gone")
    assert story.broken() == []


def test_a_parked_answer_whose_token_died_is_wanted_no_longer() -> None:
    story = Story()
    story.refresh("x", "a2").park("a2")
    story.die("a2")
    story.die("r1")
    story.judge()
    story.announce()
    assert story.broken() == []


def test_a_refresh_with_a_dead_token_can_do_nothing_to_tokens_that_were_brought_since() -> None:
    def brought(*, after_the_refresh_began: bool) -> list[Rule]:
        story = Story()
        story.die("r1")
        story.mint("a2", Kind.ACCESS)
        story.mint("r2", Kind.REFRESH)
        if after_the_refresh_began:
            story.begin("x", "r1")
        story.adopt("a2", "r2")
        story.refresh_token = "r2"
        story.store("a2", "r2")
        if not after_the_refresh_began:
            story.begin("x", "r1")
        story.serve("a2")
        return story.broken(healed=False)

    assert brought(after_the_refresh_began=True) == []
    assert brought(after_the_refresh_began=False) == [Rule.NOT_DEAD]
