"""The checker's rules where others have a hand in a grant: hold, another refresher, an account that Wise closes."""

from __future__ import annotations

from local.proof.checker import Rule
from local.proof.history import FOREIGN_REFRESHER, Closed, OnHold, Revived, Suspended
from tests.proof.story import Story


def hold(story: Story, *, lifted: bool = False) -> None:
    story.recorder.add(OnHold(when=story.now(), grant="anna", lifted=lifted))


def close(story: Story) -> None:
    """Wise closes the account, and the rotator takes that down."""
    story.die("a1")
    story.die("r1")
    story.recorder.add(Closed(when=story.now(), grant="anna"))


def revive(story: Story, *tokens: str) -> None:
    for token in tokens:
        story.recorder.add(Revived(when=story.now(), grant="anna", token=token))


def test_what_is_on_hold_is_not_refreshed() -> None:
    story = Story()
    hold(story)
    story.later(60).refresh("x", "a2").store("a2")
    assert story.broken() == [Rule.HELD]


def test_others_may_refresh_it_and_we_once_it_is_released() -> None:
    story = Story()
    hold(story)
    story.begin(None)
    story.carry_out(None, "a2")
    story.adopt("a2", "r1")
    story.store("a2")
    hold(story, lifted=True)
    story.later(60).refresh("x", "a3").store("a3")
    assert story.broken() == []


def accused(*, ours: bool) -> Story:
    """The token is found dead, and somebody else is named."""
    story = Story()
    attempt = "w" if ours else None
    story.begin(attempt)
    story.carry_out(attempt, "a2")
    story.later(30).ask("a1")
    story.refresh("x", "a3").store("a3")
    story.announce(FOREIGN_REFRESHER)
    story.announce(FOREIGN_REFRESHER)
    return story


def test_others_are_named_for_what_they_did() -> None:
    assert accused(ours=False).broken() == []
    assert accused(ours=True).broken() == [Rule.ACCUSED]


def test_others_are_not_named_out_of_nothing() -> None:
    story = Story()
    story.announce(FOREIGN_REFRESHER)
    assert story.broken() == [Rule.ACCUSED]


def test_what_ended_with_a_closed_account_is_not_served() -> None:
    story = Story()
    close(story)
    story.serve("a1")
    assert story.broken(healed=False) == [Rule.NOT_DEAD]


def test_what_lives_again_is_served_and_what_nobody_could_know_is_dead_may_be() -> None:
    story = Story()
    close(story)
    story.ask("nothing")
    revive(story, "a1", "r1")
    story.serve("a1")
    story.die("a1")
    story.serve("a1")
    revive(story, "r1")
    assert story.broken() == []


def test_a_token_that_wise_called_alive_since_may_be_served() -> None:
    story = Story()
    close(story)
    revive(story, "a1")
    story.ask("a1")
    story.die("a1")
    story.serve("a1")
    assert story.broken(healed=False) == []


def test_a_grant_may_be_judged_while_its_account_is_closed_and_not_before() -> None:
    story = Story()
    close(story)
    story.judge()
    story.announce()
    revive(story, "r1")
    assert story.broken() == []
    story = Story()
    story.judge()
    story.announce()
    close(story)
    assert story.broken() == [Rule.JUDGED]


def test_each_ones_order_stands_by_itself() -> None:
    story = Story()
    story.suspend()
    story.recorder.add(Suspended(when=story.now(), grant="anna", by="wise"))
    story.recorder.add(Suspended(when=story.now(), grant="anna", by="wise", lifted=True))
    story.serve("a1")
    assert story.broken() == [Rule.SUSPENDED]
    story = Story()
    story.suspend()
    story.suspend(lifted=True)
    story.serve("a1")
    assert story.broken() == []


def test_to_be_suspended_meanwhile_neither_judges_a_grant_nor_has_it_told_again() -> None:
    story = Story()
    story.die("a1")
    story.die("r1")
    story.judge()
    story.announce()
    story.store("a1", phase="suspended")
    story.version -= 2
    story.judge()
    assert story.broken() == []
