"""Acts about a grant's end: authorizations taken back, users whom the partner created, accounts that were reclaimed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from local.wise.truth import RequestTruth

    from .story import Story

REVOKED: Final = "revoked"
REISSUED: Final = "created-by-acme"
RECLAIMED: Final = {401: "reclaimed-401", 400: "reclaimed-400"}
"""Wise's pages give both statuses for the registration code of a reclaimed account."""


class Endings:
    """Plays the acts. All of these users' grants end at once, so that one wait does for all."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.wise = story.wise
        self.report = story.report
        self.codes: dict[str, str] = {}

    def secrets(self) -> dict[str, bytes]:
        """Every registration code."""
        return {f"registration code of {user}": code.encode() for user, code in self.codes.items()}

    def begin(self) -> None:
        """Adopt the users, due in a moment; then Wise ends their grants, and two take their accounts over."""
        self.story.due_in(REVOKED, 3)
        for user in (REISSUED, *RECLAIMED.values()):
            # The last one comes later: Wise's answer to a reclaimed account is a setting of the emulator.
            self.story.due_in(user, 12 if user == RECLAIMED[400] else 3, registration=self._created(user))
        for user in RECLAIMED.values():
            self.wise.reclaim(user)
        for user in (REVOKED, REISSUED, *RECLAIMED.values()):
            self.wise.revoke(user)

    def revoked(self) -> None:
        """A user takes the authorization back at Wise; on-call hears of it."""
        told = self.story.told(REVOKED, "reauthorization_required", 40)
        phase = self._phase(REVOKED)
        self.report.check(
            "a revoked user reaches on-call",
            told.get("kind") == "reauthorization_required" and phase == "reauthorization_required",
            in_the_queue=_shown(told),
            phase_in_the_table=phase,
        )
        refused = self.story.reader.call("GET", REVOKED, "/access-token")
        self.report.tell(f"  a reader of it gets {refused.status} {refused.json()['type']}")

    def reissued(self) -> None:
        """A user whom the partner created does the same; the grant heals itself, and nobody is woken."""
        user = REISSUED
        told = self.story.told(user, "reissued", 40)
        status = None
        with contextlib.suppress(RuntimeError):  # no token: then none was used
            status = self.story.stage.wise.me(self.story.reader.fetch(user)["access_token"])
        sent = self._registrations(user)
        kinds = [alert["kind"] for alert in self.story.alerts if alert.get("grant_id") == user]
        self.report.check(
            "a dead grant of a user whom the partner created heals itself, and wakes nobody",
            kinds == ["reissued"]
            and [one.carried_out for one in sent] == [True]
            and status == 200  # noqa: PLR2004
            and self._phase(user) == "active",
            in_the_queue=_shown(told),
            registration_codes_sent_to_wise=len(sent),
            answered_by_wise_to_the_new_token=status,
            phase_in_the_table=self._phase(user),
        )

    def reclaimed(self) -> None:
        """Two such users have taken their accounts over: the code is refused, and on-call hears why."""
        alerts, answers, phases, spent = {}, {}, {}, {}
        for status, user in RECLAIMED.items():
            self.wise.change_settings(registration_refused_status=status)
            alerts[user] = self.story.told(user, "reauthorization_required", 40)
            answers[user] = [one.status for one in self._registrations(user)]
            phases[user] = self._phase(user)
            spent[user] = "registration_spent_at" in self.story.item("acme", user)
        self.report.check(
            "a user who reclaimed the account is told of as such, whichever way Wise says it",
            all(told.get("reason") == "reclaimed" for told in alerts.values())
            and answers == {user: [status] for status, user in RECLAIMED.items()}
            and set(phases.values()) == {"reauthorization_required"}
            and all(spent.values()),
            reasons_in_the_queue=[told.get("reason") for told in alerts.values()],
            answered_by_wise_to_the_code=answers,
            phases_in_the_table=phases,
            code_marked_spent=spent,
        )

    # --- helpers

    def _created(self, user: str) -> dict[str, str]:
        """A user whom the partner created at Wise: with a registration code of the partner's."""
        self.codes[user] = f"demo-registration-code-of-{user}".ljust(36, "-")
        email = f"{user}@example.com"
        self.wise.put_user(user, email=email, registration_code=self.codes[user])
        return {"code": self.codes[user], "email": email}

    def _registrations(self, user: str) -> list[RequestTruth]:
        return [one for one in self.wise.requests(user=user) if one.grant_type == "registration_code"]

    def _phase(self, user: str) -> str | None:
        phase: str | None = self.story.item("acme", user).get("phase", {}).get("S")
        return phase


def _shown(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told.get(name) for name in ("kind", "reason", "tenant", "grant_id", "summary")}
