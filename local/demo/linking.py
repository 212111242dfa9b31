"""Acts about linking: users in a browser at Wise's page, the callback, and the partner's word whose browser it was."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from local.browser.chromium import MISSING, chromium, find, window
from local.browser.plain import PlainWindow
from local.wise.truth import Consent
from local.wise.users import ProfileType

from .partner import hash_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from local.browser.window import Seen, Window
    from local.wise.truth import RequestTruth

    from .story import Story

_FORBIDDEN: Final = 403
_OK: Final = 200
_SWEEP_S: Final = 75
"""A sweep begins each minute and looks every second; the emulator's schedule may be some seconds late."""


class Linking:
    """Plays the acts; `pictures` is where a picture of each page is put."""

    def __init__(self, story: Story, pictures: Path) -> None:
        self.story = story
        self.site = story.stage.site
        self.wise = story.wise
        self.report = story.report
        self.pictures = pictures
        self.taken: list[str] = []
        self.forwarded_link = ""
        self.bound_nobody = False
        self.facts_of_forwarded: dict[str, Any] = {}

    def link_users(self) -> None:
        """Play all of them, in windows of one browser."""
        program = find()
        with contextlib.ExitStack() as stack:
            open_window: Callable[[], AbstractContextManager[Window]]
            if program is None:
                self.report.tell(f"  {MISSING}: the same pages over HTTP instead")
                open_window = self._plain
            else:
                browser = stack.enter_context(chromium(program))
                self.report.tell(f"  Chromium {browser.version} without a screen, {program}")

                def open_window() -> AbstractContextManager[Window]:
                    return window(browser)

            for act in (self.linked, self.refused, self.forwarded):
                with open_window() as shown:
                    self.story.played(act, shown)
        if self.taken:
            self.report.tell(f"  {len(self.taken)} pictures in {self.pictures}")

    def secrets(self) -> dict[str, bytes]:
        """Every `state` and `link_id` of these acts."""
        states = [dict(parse_qsl(urlsplit(url).query))["state"] for url in self.site.sent_to]
        named = {f"state {number}": state.encode() for number, state in enumerate(states, 1)}
        return named | {f"link_id {number}": link.encode() for number, link in enumerate(self.site.link_ids, 1)}

    # --- acts

    def linked(self, shown: Window) -> None:
        """A user connects their account: the partner's site, Wise's pages, our callback, the site again."""
        user = "anna"
        self.wise.put_user(user, profiles=[ProfileType.PERSONAL, ProfileType.BUSINESS])
        first = self._at_wise(shown, user, "linked")
        last = self._picture(
            shown, "linked-4-back-at-the-partner", shown.press("allow", profile_id=self._profile(user))
        )
        token = self.story.reader.fetch(user)
        status = self.story.stage.wise.me(token["access_token"])
        truth = self.wise.truth()
        (asked,) = [visit for visit in truth.authorizations if visit.user == user]
        exchanges = self._exchanges(user)
        item = self.story.item("acme", user)
        served = hash_of(token["access_token"])
        self.report.check(
            "a user is linked in a browser, and the token works at Wise",
            last.heading == "Your Wise account is connected"
            and asked.consent is Consent.GIVEN
            and len(exchanges) == 1
            and asked.code_spent_by_request == exchanges[0].id
            and served in {one.sha256 for one in truth.live_access_tokens(user)}
            and status == _OK
            and str(asked.profile_id) == item["profile_id"]["S"] == self._profile(user),
            pages=[first.heading, last.heading],
            codes_exchanged_at_wise=len(exchanges),
            phase_in_the_table=item["phase"]["S"],
            profile_agreed_to=asked.profile_id,
            uses_at_wise=[use.verdict for use in truth.uses if use.user == user],
        )

    def refused(self, shown: Window) -> None:
        """A user says no at Wise. Started without a return URL, so that our own page tells."""
        user = "ben"
        self.wise.put_user(user)
        shown.open(self.site.start(user))
        shown.press("login", user=user)
        last = self._picture(shown, "refused", shown.press("refuse"))
        visits = [visit.consent for visit in self.wise.authorizations(user=user)]
        item = self.story.item("acme", user)
        self.report.check(
            "who refuses at Wise is told so, and nothing is stored",
            visits == [Consent.REFUSED] and last.heading == "You did not allow access" and not item,
            page=last.heading,
            consent_at_wise=visits,
            codes_exchanged_at_wise=len(self._exchanges(user)),
            grant_in_the_table=bool(item),
        )

    def forwarded(self, shown: Window) -> None:
        """Somebody starts a link and sends it to another person, to get at that person's account."""
        user, victim = "mallory", "vera"
        self.story.adopt_one(user)
        self.wise.put_user(victim)
        before = self.story.item("acme", user)
        # The forwarder's own browser starts it and goes no further; the other person's knows nothing of the partner.
        link = self.site.start(user, self.site.return_url)
        shown.open(link)
        shown.press("login", user=victim)
        last = self._picture(shown, "forwarded", shown.press("allow"))
        after = self.story.item("acme", user)
        link_id = self.forwarded_link = self.site.link_ids[-1]
        pending = self._pending(link_id)
        self._time_over(link_id)
        served = hash_of(self.story.reader.fetch(user)["access_token"])
        theirs = {token.sha256 for token in self.wise.truth().live_access_tokens(victim)}
        self.bound_nobody = (
            last.status == _FORBIDDEN
            and len(self._exchanges(victim)) == 1
            and before == after
            and "confirmed_version" not in pending
            and {"access_token", "refresh_token", "expire_at"} <= set(pending)
            and served not in theirs
        )
        self.facts_of_forwarded = {
            "page": last.heading,
            "codes_exchanged_at_wise": len(self._exchanges(victim)),
            "confirmed": "confirmed_version" in pending,
            "grant_unchanged": before == after,
        }

    def unconfirmed(self) -> None:
        """What became of the other person's tokens. The schedule starts the sweep each minute."""
        link_id = self.forwarded_link
        self.story.wait(lambda: "refresh_token" not in self._pending(link_id), _SWEEP_S)
        left = self._pending(link_id)
        dropped = bool(left) and not {"access_token", "refresh_token", "confirmed_version"} & set(left)
        self.report.check(
            "a forwarded link is not confirmed, and binds nobody's account",
            self.bound_nobody and dropped,
            **self.facts_of_forwarded,
            tokens_dropped_by_the_sweep=dropped,
        )

    # --- helpers

    def _plain(self) -> AbstractContextManager[Window]:
        return contextlib.nullcontext(PlainWindow(self.story.stage.wise.ca_file))

    def _at_wise(self, shown: Window, user: str, name: str) -> Seen:
        """From the partner's site to the question at Wise."""
        self._picture(shown, f"{name}-1-at-the-partner", shown.open(self.site.account_of(user)))
        self._picture(shown, f"{name}-2-log-in-at-wise", shown.press("connect"))
        return self._picture(shown, f"{name}-3-the-question-at-wise", shown.press("login", user=user))

    def _picture(self, shown: Window, name: str, seen: Seen) -> Seen:
        path = self.pictures / f"{name}.png"
        if shown.shot(path):
            self.taken.append(path.name)
        return seen

    def _profile(self, user: str) -> str:
        """The user's second profile, which is not the one that Wise's page proposes."""
        (found,) = [one for one in self.wise.users() if one.user == user]
        return str(found.profiles[1].id)

    def _exchanges(self, user: str) -> list[RequestTruth]:
        return [one for one in self.wise.requests(user=user) if one.grant_type == "authorization_code"]

    def _time_over(self, link_id: str) -> None:
        """Have the tokens of a link due for the sweep: nobody waits ten minutes here."""
        self.story.stage.emulator.client("dynamodb").update_item(
            TableName=self.story.stage.stack.outputs["GrantsTable"],
            Key={"pk": {"S": f"#pending#{hash_of(link_id)}"}},
            UpdateExpression="SET due_at = :past",
            ConditionExpression="attribute_exists(due_at)",
            ExpressionAttributeValues={":past": {"N": "1"}},
        )

    def _pending(self, link_id: str) -> dict[str, Any]:
        return self.story.stored(f"#pending#{hash_of(link_id)}")
