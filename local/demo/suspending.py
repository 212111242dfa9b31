"""Acts about suspending: an operator stops one grant and a whole tenant, and lifts both again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from .partner import hash_of

if TYPE_CHECKING:
    from .partner import PartnerService
    from .story import Story

KNOWN_WITHIN_S: Final = 5
"""What the product promises: a process asks again after five seconds at most."""
SENDING_S: Final = 1
"""From the last look at what is suspended to a request on its way."""
DUE_AFTER_S: Final = 13
"""Not before everybody must know: a refresh on demand is refused too, and would hide that a token is still served."""
WATCHED_S: Final = 4
"""How long nothing happens at Wise though something is due. The sweep looks every second."""
CROWD: Final = 10
GRANT: Final = "suspended"
OTHER: Final = "suspended-with-its-tenant"
_CONFLICT: Final = 409
_OK: Final = 200


class Suspending:
    """Plays the acts: one grant of acme's and the whole of globex, at the same time."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.wise = story.wise
        self.callers: dict[str, PartnerService] = {GRANT: story.reader, OTHER: story.globex}
        self.last_served_s: dict[str, float] = {}
        self.crowd: list[int] = []
        self.ordered_s = self.due_s = 0.0
        self.operator = story.stage.partner("operations", "globex")

    def suspend(self) -> None:
        """Suspend both, shortly before they are due. What became of it is looked at later."""
        story = self.story
        self.due_s = max(story.due_in(GRANT, DUE_AFTER_S), story.due_in(OTHER, DUE_AFTER_S, story.globex))
        for grant_id, caller in self.callers.items():
            caller.fetch(grant_id)
        reason = {"reason": "somebody wants to look first"}
        for answer in (
            story.onboarding.call("PUT", GRANT, "/suspension", json_body=reason),
            self.operator.of_tenant("PUT", "/suspension", json_body=reason),
        ):
            if answer.status != _OK:
                raise RuntimeError(f"the order was answered {answer.status}: {answer.body.decode()[:300]}")
        self.ordered_s = time.time()
        self.last_served_s = {grant_id: self._last_served(grant_id) for grant_id in self.callers}
        time.sleep(max(0.0, self.ordered_s + KNOWN_WITHIN_S - time.time()))
        # By now every process knows, not only the one that was asked.
        with ThreadPoolExecutor(CROWD) as pool:
            everybody = list(pool.map(lambda _: self._answer(OTHER), range(CROWD)))
        self.crowd = [status for status in everybody if status == _CONFLICT]
        story.report.tell("  an operator has suspended one grant of acme's, and the tenant globex")

    def lifted(self) -> None:
        """See that nothing was served and nothing refreshed; lift both, and see that it is again."""
        story = self.story
        time.sleep(max(0.0, self.due_s + WATCHED_S - time.time()))
        stopped = {GRANT, OTHER, *story.grants["globex"]}
        since_ms = (self.ordered_s + KNOWN_WITHIN_S + SENDING_S) * 1000
        sent = [one for one in self.wise.requests() if one.user in stopped and one.begin_ms > since_ms]
        answers = {grant_id: self._answer(grant_id) for grant_id in self.callers}
        story.onboarding.call("DELETE", GRANT, "/suspension")
        self.operator.of_tenant("DELETE", "/suspension")
        again = {grant_id: self._served_again(grant_id) for grant_id in self.callers}
        truth = self.wise.truth()
        living = {
            grant_id: hash_of(token["access_token"]) in {one.sha256 for one in truth.live_access_tokens(grant_id)}
            for grant_id, token in again.items()
        }
        refreshed = {one.user for one in truth.requests if one.carried_out} & set(self.callers)
        story.report.check(
            "what is suspended is refused within 5 seconds and not refreshed; lifted, it is served again",
            all(seconds <= KNOWN_WITHIN_S for seconds in self.last_served_s.values())
            and len(self.crowd) == CROWD
            and sent == []
            and set(answers.values()) == {_CONFLICT}
            and all(living.values())
            and refreshed == set(self.callers),
            last_served_s=self.last_served_s,
            of_10_callers_after_5_seconds=len(self.crowd),
            requests_at_wise_meanwhile=len(sent),
            answers_meanwhile=answers,
            living_tokens_once_lifted=living,
        )

    def _last_served(self, grant_id: str) -> float:
        """Seconds from the order to the last question that was not refused; 0 where there was none."""
        last_s = 0.0
        while last_s < 4 * KNOWN_WITHIN_S:
            asked_s = time.time()
            if self._answer(grant_id) == _CONFLICT:
                break
            last_s = round(asked_s - self.ordered_s, 1)
            time.sleep(0.2)
        return last_s

    def _served_again(self, grant_id: str) -> dict[str, Any]:
        """Ask until the lifting is known."""
        deadline = time.monotonic() + 4 * KNOWN_WITHIN_S
        while self._answer(grant_id) == _CONFLICT and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.callers[grant_id].fetch(grant_id)

    def _answer(self, grant_id: str) -> int:
        return self.callers[grant_id].call("GET", grant_id, "/access-token").status
