"""Linking as a person sees it: a browser, Wise's pages, the deployed callback, and every page that it can end on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from local.browser.chromium import MISSING, find
from local.wise.faults import Endpoint
from local.wise.users import ProfileType
from tests.browser.conftest import PICTURES, Linking, Person
from tests.browser.looks import problems_of
from token_rotator.domain.link import hash_of
from token_rotator.domain.tokens import Secret

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason=MISSING),
]


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


def link_pk(url: str) -> str:
    return f"#link#{hash_of(Secret(state_of(url)))}"


# --- it goes well


def test_a_user_comes_back_to_the_partner_and_is_linked(linking: Linking, person: Person) -> None:
    linking.user("anna")
    person.window.open(linking.site.account_of("anna"))
    person.window.press("connect")
    person.window.press("login", user="anna")
    profile = linking.profile("anna", 1)
    seen = person.window.press("allow", profile_id=profile)
    assert (seen.heading, seen.status) == ("Your Wise account is connected", 200)
    url = urlsplit(seen.url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == linking.site.return_url
    assert set(parse_qs(url.query)) == {"link_id"}, "neither code nor state goes on to the partner"
    assert linking.token_of("anna") == (200, True)
    assert linking.item("acme#anna")["profile_id"]["S"] == profile
    assert [one.carried_out for one in linking.exchanges("anna")] == [True]
    assert linking.site.confirm("anna", linking.site.link_ids[-1]) == 200, "asking again is answered alike"


def test_the_browser_tells_the_partner_nothing_of_where_it_was(linking: Linking, person: Person) -> None:
    linking.user("discreet")
    referrers: list[str | None] = []
    person.window.page.on(
        "request",
        lambda request: referrers.append(request.headers.get("referer")) if "/wise/back" in request.url else None,
    )
    person.goes(linking.site.start("discreet", linking.site.return_url), "discreet")
    assert referrers == [None]


def test_without_a_return_url_the_person_gets_a_code_for_the_partner(linking: Linking, person: Person) -> None:
    linking.user("berta")
    seen = person.goes(linking.site.start("berta"), "berta")
    assert (seen.heading, seen.status) == ("One step is left", 200)
    assert problems_of(person.window, seen, "arrived", PICTURES) == []
    code = person.window.page.locator("code").inner_text()
    assert linking.item("acme#berta") == {}, "nothing is the grant's before the partner says so"
    assert linking.site.confirm("berta", code) == 200
    assert linking.token_of("berta") == (200, True)


def test_a_link_that_somebody_else_opened_binds_nothing(linking: Linking, person: Person) -> None:
    linking.user("mallory")
    linking.user("vera")
    seen = person.goes(linking.site.start("mallory", linking.site.return_url), "vera")
    assert (seen.heading, seen.status) == ("This link is not yours", 403)
    assert linking.item("acme#mallory") == {}
    assert len(linking.exchanges("vera")) == 1
    waiting = f"#pending#{hash_of(Secret(linking.site.link_ids[-1]))}"
    assert {"access_token", "refresh_token"} <= set(linking.item(waiting))
    linking.let_time_pass(waiting, "due_at")
    assert linking.wait(lambda: "refresh_token" not in linking.item(waiting)), "the sweep drops what nobody confirmed"
    assert "access_token" not in linking.item(waiting)


def test_a_confirmation_that_comes_too_late_is_refused(linking: Linking, person: Person) -> None:
    linking.user("late")
    person.goes(linking.site.start("late"), "late")
    code = person.window.page.locator("code").inner_text()
    linking.let_time_pass(f"#pending#{hash_of(Secret(code))}", "confirm_before")
    assert linking.partner.call("POST", "late", f"/link/{code}/confirm").status == 410
    assert linking.item("acme#late") == {}


def test_the_partner_is_told_what_went_wrong(linking: Linking, person: Person) -> None:
    linking.user("refuser")
    person.window.open(linking.site.account_of("refuser"))
    person.window.press("connect")
    person.window.press("login", user="refuser")
    seen = person.window.press("refuse")
    assert seen.heading == "Your Wise account is not connected"
    assert parse_qs(urlsplit(seen.url).query) == {"error": ["access_denied"]}


# --- every page on which it can end otherwise


@dataclass(frozen=True)
class Ending:
    """A way to fail. `play` goes it with a user of the ending's name, and leaves the browser on the page."""

    name: str
    play: Callable[[Linking, Person, str], object]
    heading: str
    status: int
    exchanges: int = 0


def refuses(linking: Linking, person: Person, user: str) -> None:
    person.goes(linking.site.start(user), user, button="refuse")


def unknown(linking: Linking, person: Person, user: str) -> None:
    person.window.open(f"{linking.deployed.redirect_uri}?state={'x' * 43}&code=fixture-code-of-nobody&profileId=1")


def no_state(linking: Linking, person: Person, user: str) -> None:
    person.window.open(linking.deployed.redirect_uri)


def reloads(linking: Linking, person: Person, user: str) -> None:
    person.goes(linking.site.start(user), user)
    person.window.page.reload()


def comes_too_late(linking: Linking, person: Person, user: str) -> None:
    url = linking.site.start(user)
    linking.let_time_pass(link_pk(url), "ends_at")
    person.goes(url, user)


def code_too_old(linking: Linking, person: Person, user: str) -> None:
    linking.control.change_settings(authorization_code_lifetime_s=0.001)
    try:
        person.goes(linking.site.start(user), user)
    finally:
        linking.control.change_settings(authorization_code_lifetime_s=1800)


def code_unknown(linking: Linking, person: Person, user: str) -> None:
    state = state_of(linking.site.start(user))
    person.window.open(f"{linking.deployed.redirect_uri}?state={state}&code=fixture-code-of-nobody&profileId=1")


def another_profile(linking: Linking, person: Person, user: str) -> None:
    person.goes(linking.site.start(user), user, profile=linking.profile(user, 0))
    assert linking.site.confirm(user, person.window.page.locator("code").inner_text()) == 200
    person.goes(linking.site.start(user), user, profile=linking.profile(user, 1))


def held_by_another(linking: Linking, person: Person, user: str) -> None:
    person.goes(linking.site.start(user), user)
    assert linking.site.confirm(user, person.window.page.locator("code").inner_text()) == 200
    person.goes(linking.site.start(f"{user}-twice"), user)


def no_profile(linking: Linking, person: Person, user: str) -> None:
    linking.control.put_user(user, profiles=[])
    person.goes(linking.site.start(user), user)


def wise_is_down(linking: Linking, person: Person, user: str) -> None:
    linking.control.fail_next(status=503, endpoint=Endpoint.TOKEN, from_edge=True)
    person.goes(linking.site.start(user), user)


def wise_has_a_fault(linking: Linking, person: Person, user: str) -> None:
    person.window.open(f"{linking.deployed.redirect_uri}?state={state_of(linking.site.start(user))}&error=server_error")


def our_secret_is_refused(linking: Linking, person: Person, user: str) -> None:
    linking.control.fail_next(status=401, body='{"error": "invalid_client"}', endpoint=Endpoint.TOKEN)
    person.goes(linking.site.start(user), user)


def suspended(linking: Linking, person: Person, user: str) -> None:
    url = linking.site.start(user)
    with linking.suspended():
        person.goes(url, user)


def our_secret_is_missing(linking: Linking, person: Person, user: str) -> None:
    with linking.without_secret():
        person.goes(linking.site.start(user), user)


ENDINGS: Final = (
    Ending("consent-refused", refuses, "You did not allow access", 200),
    Ending("state-unknown", unknown, "We do not know this link", 400),
    Ending("state-missing", no_state, "We do not know this link", 400),
    Ending("state-used", reloads, "This link was used before", 410, exchanges=1),
    Ending("state-expired", comes_too_late, "This link is too old", 410),
    Ending("code-expired", code_too_old, "Wise did not accept the permission", 409, exchanges=1),
    Ending("code-refused", code_unknown, "Wise did not accept the permission", 409),
    Ending("different-profile", another_profile, "That was a different Wise profile than before", 409, exchanges=1),
    Ending("already-held", held_by_another, "This Wise profile is connected already", 409, exchanges=1),
    Ending("no-profile", no_profile, "Your Wise account has no profile yet", 409),
    Ending("wise-not-answering", wise_is_down, "Wise is not answering", 502, exchanges=1),
    Ending("wise-could-not-finish", wise_has_a_fault, "Wise could not finish", 502),
    Ending("our-fault", our_secret_is_refused, "Something went wrong on our side", 500, exchanges=1),
    Ending("our-fault-reload", our_secret_is_missing, "Something went wrong on our side", 503),
    Ending("suspended", suspended, "Connecting is stopped for now", 503),
)


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
def test_a_failure_has_a_page_that_says_what_to_do(linking: Linking, person: Person, ending: Ending) -> None:
    linking.user(ending.name)
    ending.play(linking, person, ending.name)
    seen = person.window.seen()
    assert (seen.heading, seen.status) == (ending.heading, ending.status)
    assert problems_of(person.window, seen, ending.name, PICTURES) == []
    assert "What to do" in person.window.page.locator("h2").all_inner_texts()
    assert len(linking.exchanges(ending.name)) == ending.exchanges, "a code is sent once or not at all"


@pytest.mark.parametrize("play", [suspended, our_secret_is_missing])
def test_a_page_that_says_to_reload_is_right(
    linking: Linking, person: Person, play: Callable[[Linking, Person, str], object]
) -> None:
    user = f"patient-{play.__name__}"
    linking.user(user)
    play(linking, person, user)
    assert "reload this page" in person.window.page.locator("main").inner_text()
    person.window.page.reload()
    assert person.window.seen().heading == "One step is left"
    assert len(linking.exchanges(user)) == 1


def test_a_different_profile_leaves_the_grant_as_it_was(linking: Linking, person: Person) -> None:
    user = "faithful"
    linking.user(user)
    person.goes(linking.site.start(user), user)
    linking.site.confirm(user, person.window.page.locator("code").inner_text())
    before = linking.item(f"acme#{user}")
    person.goes(linking.site.start(user), user, profile=linking.profile(user, 1))
    assert linking.item(f"acme#{user}") == before
    assert linking.token_of(user) == (200, True)


def test_a_user_with_one_profile_is_linked_again_over_the_old_grant(linking: Linking, person: Person) -> None:
    user = "again"
    linking.user(user, ProfileType.PERSONAL)
    versions = []
    for _ in range(2):
        person.goes(linking.site.start(user), user)
        assert linking.site.confirm(user, person.window.page.locator("code").inner_text()) == 200
        versions.append(int(linking.item(f"acme#{user}")["version"]["N"]))
        assert linking.token_of(user) == (200, True)
    assert versions[0] < versions[1]
