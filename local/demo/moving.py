"""Acts about grants that others have a hand in: moving in beside an old refresher, and accounts that Wise closes."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .partner import hash_of, offered

if TYPE_CHECKING:
    from .story import Story

MOVED: Final = "moved-in"
CLOSED: Final = "closed-and-opened"
OLD_AFTER_S: Final = 9.5
"""A token younger than a tenth of its life is not doubted because somebody reports it."""
WATCHED_S: Final = 5
_CONFLICT: Final = 409
_FORBIDDEN: Final = 403
_OK: Final = 200
_UNAUTHORIZED: Final = 401


class Moving:
    """Plays the acts."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.wise = story.wise
        self.report = story.report
        self.seen: dict[str, Any] = {}

    # --- moving in

    def move_in(self) -> None:
        """A grant comes on hold, shortly before it is due, while the old refresher still works."""
        story = self.story
        due_at = story.due_in(MOVED, 3, hold=True)
        first = story.reader.call("GET", MOVED, "/access-token").json()
        theirs = self.wise.refresh_elsewhere(MOVED)
        report = {"version": first["version"], "error": "invalid_token"}
        refused = story.reader.call("POST", MOVED, "/access-token/rejections", json_body=report)
        brought = story.onboarding.call(
            "PUT", MOVED, json_body=offered(theirs) | {"hold": True}, headers={"If-Match": str(first["version"])}
        )
        time.sleep(max(0.0, due_at + WATCHED_S - time.time()))
        again = story.reader.call("GET", MOVED, "/access-token").json()
        ours = self._refreshes()
        living = hash_of(again["access_token"]) in {one.sha256 for one in self.wise.truth().live_access_tokens(MOVED)}
        released = story.onboarding.call("DELETE", MOVED, "/hold")
        self.report.check(
            "on hold a grant is served and not refreshed, while the old refresher still is",
            first["on_hold"] is True
            and refused.status == _CONFLICT
            and brought.status == _OK
            and again["on_hold"] is True
            and living
            and ours == 0
            and released.status in (_OK, 204),
            answered_to_a_report_meanwhile=refused.json().get("type"),
            refreshes_of_ours_meanwhile=ours,
            living_token_once_brought=living,
        )

    def foreign_refresher(self) -> None:
        """It was released and we have refreshed it. But the old refresher was not switched off."""
        story = self.story
        refreshed = story.wait(lambda: self._refreshes() > 0, 90)
        token = story.reader.fetch(MOVED)
        time.sleep(OLD_AFTER_S)
        self.wise.refresh_elsewhere(MOVED)
        used = story.stage.wise.me(token["access_token"])
        report = {"version": token["version"], "error": "invalid_token"}
        answer = story.reader.call("POST", MOVED, "/access-token/rejections", json_body=report)
        told = story.told(MOVED, "foreign_refresher", 40)
        living = answer.status == _OK and hash_of(answer.json()["access_token"]) in {
            one.sha256 for one in self.wise.truth().live_access_tokens(MOVED)
        }
        self.report.check(
            "a foreign refresher is noticed, and on-call is told",
            refreshed and used == _UNAUTHORIZED and living and told.get("kind") == "foreign_refresher",
            answered_by_wise_to_the_token_served=used,
            living_token_after_the_report=living,
            in_the_queue={name: told.get(name) for name in ("kind", "reason", "grant_id")},
        )

    # --- closed accounts

    def close(self) -> None:
        """Wise closes a user's account and says so; whoever says it without Wise's signature is not heard."""
        story = self.story
        user = story.adopt_one(CLOSED)
        before = story.reader.call("GET", CLOSED, "/access-token").status
        forged = self._forged(user.wise_user_id)
        still = story.reader.call("GET", CLOSED, "/access-token").status
        self.wise.change_settings(tokens_survive_deactivation=True)
        self.wise.deactivate(CLOSED)
        refused = story.wait(lambda: self._status() == _CONFLICT, 20)
        order = story.item("acme", CLOSED).get("suspension", {}).get("M", {})
        self.seen = {"before": before, "forged": forged, "still": still, "by": order.get("by", {}).get("S")}
        self.seen |= {"suspended": refused, "user": user.wise_user_id}

    def open_again(self) -> None:
        """It opens the account again: the grant is tried, once."""
        story, seen = self.story, self.seen
        began = self.wise.truth().seq
        self.wise.activate(CLOSED)
        served = story.wait(lambda: self._status() == _OK, 30)
        asked = [one for one in self.wise.uses(since=began) if one.user == CLOSED]
        token = story.reader.fetch(CLOSED)
        used = story.stage.wise.me(token["access_token"])
        self.report.check(
            "a closed account is suspended by Wise's word alone, and tried once when it is opened again",
            seen["before"] == seen["still"] == _OK
            and seen["forged"] == _FORBIDDEN
            and seen["suspended"]
            and served
            and len(asked) == 1
            and used == _OK,
            answered_to_a_forged_event=seen["forged"],
            suspended_by=seen["by"],
            questions_at_wise_once_it_was_open=len(asked),
            answered_by_wise_to_the_token_served=used,
        )

    # --- helpers

    def _forged(self, wise_user_id: int) -> int:
        """Say that the account is closed, as Wise would but for the signature; give the status."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = {
            "data": {
                "resource": {"id": wise_user_id, "type": "user"},
                "current_state": "DEACTIVATED",
                "previous_state": "ACTIVE",
                "occurred_at": now,
            },
            "event_type": "users#state-change",
            "schema_version": "4.0.0",
            "sent_at": now,
        }
        headers = {"X-Signature-SHA256": base64.b64encode(bytes(256)).decode()}
        return self.story.stage.api.call(
            "POST", "/wise/events", credentials=None, json_body=event, headers=headers
        ).status

    def _status(self) -> int:
        return self.story.reader.call("GET", CLOSED, "/access-token").status

    def _refreshes(self) -> int:
        """How many were ours: each of those has a correlation id."""
        return len([one for one in self.wise.requests(user=MOVED) if one.carried_out and one.correlation_id])
