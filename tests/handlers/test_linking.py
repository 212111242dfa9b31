"""Linking as it is lived: a partner starts, a user consents at Wise, a browser comes back, the partner confirms."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs

import pytest

from local.wise.faults import Fault
from local.wise.truth import Death
from tests.handlers.deployment import (
    ACME_ADMIN,
    ACME_READER,
    GLOBEX,
    REDIRECT_URI,
    WISE_SECRET,
    Answer,
    Deployment,
    Seen,
    browser,
    refusal,
    seen,
)
from token_rotator.domain.link import LinkFailure, hash_of
from token_rotator.domain.tokens import Secret
from token_rotator.handlers.http import PROBLEMS
from token_rotator.handlers.pages import arrived, failed

RETURN_URL = "https://acme.example.com/linked"
ALL_SHARDS = {"shards": list(range(16))}


@pytest.fixture
def user(deployment: Deployment, grant_id: str) -> str:
    """Somebody at Wise who never let us in."""
    deployment.wise.control.change_settings(redirect_uris=[REDIRECT_URI])
    deployment.wise.control.put_user(grant_id)
    return grant_id


def link_id_of(page: Seen) -> str:
    found = page.sent_with["link_id"] if page.status == 303 else page.code
    assert found is not None
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", found)
    return found


def outcomes(deployment: Deployment, name: str = "LinkEnded") -> list[str]:
    return [line["outcome"] for line in deployment.callback.metrics() if name in line]


# --- as it should go


def test_a_user_is_linked_and_the_token_is_served(deployment: Deployment, user: str) -> None:
    started = deployment.start(user, {"return_url": f"{RETURN_URL}?session=7"})
    assert set(started.body) == {"authorization_url", "expires_at"}
    page, _, query = started.body["authorization_url"].partition("?")
    assert page == f"{deployment.wise.url}/oauth/authorize/"
    asked = parse_qs(query)
    assert set(asked) == {"client_id", "redirect_uri", "state"}
    assert asked["redirect_uri"] == [REDIRECT_URI]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", asked["state"][0])
    back = deployment.browse(deployment.consent(started, user))
    assert back.status == 303
    assert back.sent_to is not None
    assert back.sent_to.startswith(f"{RETURN_URL}?session=7&link_id=")
    assert deployment.token(user).problem == "not-found", "nothing is served before the partner's word"
    confirmed = deployment.confirm(user, link_id_of(back))
    assert confirmed.status == 200
    assert confirmed.headers["ETag"] == f'"{confirmed.body["version"]}"'
    assert (confirmed.body["phase"], confirmed.body["in_doubt"]) == ("active", False)
    assert confirmed.body["profile_id"] is not None
    served = deployment.token(user)
    assert served.status == 200
    assert served.body["version"] == confirmed.body["version"]
    assert deployment.use(served.body["access_token"]) == 200
    assert outcomes(deployment) == ["arrived"]
    assert outcomes(deployment, "CodeExchanged") == ["refreshed"]
    deployment.make_due(user)
    assert deployment.token(user).body["version"] == confirmed.body["version"] + 1


def test_without_a_return_url_the_person_hands_on_the_code(deployment: Deployment, user: str) -> None:
    back = deployment.browse(deployment.consent(deployment.start(user), user))
    assert (back.status, back.title) == (200, "One step is left")
    assert deployment.confirm(user, link_id_of(back)).status == 200
    assert deployment.token(user).status == 200


def test_a_partner_that_owns_the_address_completes_the_link_itself(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    done = deployment.complete(user, body)
    assert done.status == 200
    assert set(done.body) == {"link_id", "confirm_before"}
    confirmed = deployment.confirm(user, done.body["link_id"])
    assert confirmed.status == 200
    assert confirmed.body["profile_id"] == told["profileId"]
    assert deployment.complete(user, body).problem == "link-expired"


def test_code_and_state_suffice_for_a_grants_first_link(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    done = deployment.complete(user, {"state": told["state"], "code": told["code"]})
    assert deployment.confirm(user, done.body["link_id"]).body["profile_id"] is None


def test_a_dead_grant_is_linked_again(deployment: Deployment, user: str) -> None:
    first = deployment.browse(deployment.consent(deployment.start(user), user))
    version = deployment.confirm(user, link_id_of(first)).body["version"]
    deployment.wise.control.revoke(user, Death.REVOCATION)
    deployment.make_due(user)
    assert deployment.token(user).problem == "reauthorization-required"
    deployment.clock.advance(minutes=5)
    again = deployment.browse(deployment.consent(deployment.start(user), user))
    confirmed = deployment.confirm(user, link_id_of(again))
    assert confirmed.status == 200
    assert confirmed.body["version"] > version
    assert (confirmed.body["phase"], confirmed.body["alert"]["kind"]) == ("active", "recovered")
    assert deployment.use(deployment.token(user).body["access_token"]) == 200


def test_a_repeated_confirmation_is_answered_alike(deployment: Deployment, user: str) -> None:
    back = deployment.browse(deployment.consent(deployment.start(user), user))
    first = deployment.confirm(user, link_id_of(back))
    again = deployment.confirm(user, link_id_of(back))
    assert (again.status, again.body) == (first.status, first.body)


def test_a_forwarded_link_that_nobody_confirms_leads_to_nothing(deployment: Deployment, user: str) -> None:
    victim = f"{user}-victim"
    deployment.wise.control.put_user(victim)
    back = deployment.browse(deployment.consent(deployment.start(user), victim))
    deployment.clock.advance(minutes=10)
    assert deployment.confirm(user, link_id_of(back)).problem == "link-expired"
    assert deployment.token(user).problem == "not-found"
    assert deployment.item(user) == {}


def test_the_sweep_drops_what_nobody_confirmed(deployment: Deployment, user: str) -> None:
    victim = f"{user}-victim"
    deployment.wise.control.put_user(victim)
    link_id = link_id_of(deployment.browse(deployment.consent(deployment.start(user), victim)))
    waiting = f"pending#{hash_of(Secret(link_id))}"
    deployment.clock.advance(minutes=10)
    deployment.sweep(ALL_SHARDS)
    assert {"access_token", "refresh_token"} <= set(deployment.item(waiting, "")), "a confirmation may still be at work"
    deployment.clock.advance(minutes=1)
    assert deployment.sweep(ALL_SHARDS)["troubled"] == 0
    assert not {"access_token", "refresh_token", "due_at"} & set(deployment.item(waiting, ""))
    assert "tokens of a link dropped, nobody confirmed it" in deployment.sweep.console.getvalue()
    assert deployment.confirm(user, link_id).problem == "link-expired"


def test_neither_state_nor_code_nor_token_is_stored_or_logged_in_the_clear(deployment: Deployment, user: str) -> None:
    started = deployment.start(user, {"return_url": RETURN_URL})
    told = deployment.consent(started, user)
    back = deployment.browse(told)
    tokens = [token.value for token in deployment.wise.control.truth(values=True).tokens if token.user == user]
    assert len(tokens) >= 2
    stored = json.dumps(deployment.items(), default=lambda blob: bytes(blob).decode("latin-1"))
    consoles = "".join(function.console.getvalue() for function in deployment.functions)
    for secret in (told["state"], told["code"], link_id_of(back), *tokens):
        assert secret not in stored
        assert secret not in consoles


# --- as it should not


def fails(deployment: Deployment, user: str, query: dict[str, str]) -> dict[str, str]:
    return {**deployment.consent(deployment.start(user), user), **query}


def test_a_user_who_refuses_is_told_so(deployment: Deployment, user: str) -> None:
    page = deployment.browse(deployment.consent(deployment.start(user), user, refuse=True))
    assert (page.status, page.title) == (200, "You did not allow access")
    assert outcomes(deployment) == ["access_denied"]
    sent = deployment.browse(deployment.consent(deployment.start(user, {"return_url": RETURN_URL}), user, refuse=True))
    assert (sent.status, sent.sent_to) == (303, f"{RETURN_URL}?error=access_denied")


@pytest.mark.parametrize("query", [None, {}, {"state": ""}, {"state": "fixture"}, {"state": "s" * 43}, {"code": "c"}])
def test_a_state_that_nobody_gave_out_gets_a_page(deployment: Deployment, query: dict[str, str] | None) -> None:
    page = deployment.browse(query)
    assert (page.status, page.title) == (400, "We do not know this link")


def test_a_state_that_comes_twice_is_unknown(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    event = browser(told, state=[told["state"], told["state"]], code=[told["code"]])
    assert seen(deployment.callback(event)).title == "We do not know this link"
    assert deployment.browse(told).status == 200


def test_a_link_that_was_used_gets_a_page_or_goes_to_the_partner(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    deployment.browse(told)
    assert deployment.browse(told).title == "This link was used before"
    told = deployment.consent(deployment.start(user, {"return_url": RETURN_URL}), user)
    deployment.browse(told)
    assert deployment.browse(told).sent_with == {"error": "link_used"}


def test_a_link_that_is_too_old_gets_a_page(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    deployment.clock.advance(minutes=15)
    page = deployment.browse(told)
    assert (page.status, page.title) == (410, "This link is too old")


def test_a_code_that_wise_does_not_take_gets_a_page(deployment: Deployment, user: str) -> None:
    for code in ("fixture-unknown-code", "", "two words"):
        page = deployment.browse(fails(deployment, user, {"code": code}))
        assert (page.status, page.title) == (409, "Wise did not accept the permission")


def test_a_code_that_expired_gets_a_page(deployment: Deployment, user: str) -> None:
    deployment.wise.control.change_settings(authorization_code_lifetime_s=60)
    told = deployment.consent(deployment.start(user), user)
    deployment.clock.advance(seconds=61)
    assert deployment.browse(told).title == "Wise did not accept the permission"
    deployment.wise.control.change_settings(authorization_code_lifetime_s=1800)


def test_another_profile_gets_a_page_and_its_code_is_not_exchanged(deployment: Deployment, user: str) -> None:
    back = deployment.browse(deployment.consent(deployment.start(user), user))
    deployment.confirm(user, link_id_of(back))
    other = f"{user}-other"
    deployment.wise.control.put_user(other)
    before = len(deployment.wise.control.requests())
    page = deployment.browse(deployment.consent(deployment.start(user), other))
    assert (page.status, page.title) == (409, "That was a different Wise profile than before")
    assert len(deployment.wise.control.requests()) == before
    assert deployment.use(deployment.token(user).body["access_token"]) == 200


def test_a_profile_that_is_not_the_users_is_not_bound(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    page = deployment.browse({**told, "profileId": "9999"})
    assert (page.status, page.title) == (409, "That was a different Wise profile than before")
    assert deployment.token(user).status == 404


def test_an_account_without_a_profile_gets_a_page(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    del told["profileId"]
    assert deployment.browse(told).title == "Your Wise account has no profile yet"
    page = deployment.browse(fails(deployment, user, {"profileId": "../etc"}))
    assert page.title == "Your Wise account has no profile yet"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, body="{}", carry_out=False),
        Fault(status=502, body="<html>", carry_out=False),
        Fault(status=500, body='{"error":"server_error"}', carry_out=False),
        Fault(hang_up_first=True, carry_out=False),
    ],
    ids=["throttled", "proxy", "server", "connection"],
)
def test_wise_not_answering_gets_a_page_and_the_code_is_sent_once(
    deployment: Deployment, user: str, fault: Fault
) -> None:
    told = deployment.consent(deployment.start(user), user)
    before = len(deployment.wise.control.requests())
    deployment.wise.control.add_fault(fault)
    page = deployment.browse(told)
    assert (page.status, page.title) == (502, "Wise is not answering")
    assert len(deployment.wise.control.requests()) <= before + 1
    assert deployment.browse(told).title == "This link was used before"


def test_an_error_of_wises_own_gets_a_page(deployment: Deployment, user: str) -> None:
    page = deployment.browse(fails(deployment, user, {"error": "server_error"}))
    assert (page.status, page.title) == (502, "Wise could not finish")


def test_a_fault_of_ours_gets_a_page_that_reloading_mends(
    deployment: Deployment, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = deployment.consent(deployment.start(user, {"return_url": RETURN_URL}), user)
    arrival = deployment.callback.wired.take_arrival

    def refuse(**_: object) -> None:
        raise refusal("Any", "AccessDeniedException")

    with monkeypatch.context() as patch:
        patch.setattr(arrival.links._client, "get_item", refuse)
        page = deployment.browse(told)
    assert (page.status, page.title) == (503, "Something went wrong on our side")
    assert "reload this page" in page.html
    assert deployment.callback.told("StoreRefused") == [1]
    arrival.sealer._sealing.forget()
    with monkeypatch.context() as patch:
        patch.setattr(arrival.sealer._client, "generate_data_key", refuse)
        assert deployment.browse(told).status == 503
    deployment.delete_secret()
    assert deployment.browse(told).status == 503
    assert deployment.callback.told("WiseSecretUnusable") == [1]
    deployment.write_secret(None)
    assert deployment.browse(told).status == 303


@pytest.mark.parametrize("tenant", ["acme", None])
def test_while_suspended_nobody_is_linked_and_nothing_is_lost(
    deployment: Deployment, user: str, tenant: str | None
) -> None:
    told = deployment.consent(deployment.start(user, {"return_url": RETURN_URL}), user)
    before = len(deployment.wise.control.requests())
    assert deployment.suspension("PUT", tenant).status == 200
    deployment.callback.wired.take_arrival.suspensions._known.forget()
    page = deployment.browse(told)
    assert (page.status, page.title) == (503, "Connecting is stopped for now")
    assert "reload this page" in page.html
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    assert deployment.complete(user, body).problem == "suspended"
    assert deployment.start(user).problem == "suspended"
    assert len(deployment.wise.control.requests()) == before
    deployment.forget_suspensions()
    back = deployment.browse(told)
    assert back.status == 303
    assert deployment.confirm(user, link_id_of(back)).status == 200
    assert deployment.suspension("PUT", "acme", user, caller=f"{ACME_ADMIN}:fixture-session").status == 200
    assert deployment.start(user).problem == "suspended"


def test_without_the_time_to_keep_what_comes_the_link_is_not_used(
    deployment: Deployment, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = deployment.consent(deployment.start(user, {"return_url": RETURN_URL}), user)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    look = deployment.callback.wired.take_arrival.links._client.get_item

    def slow(**call: Any) -> Any:
        deployment.clock.advance(seconds=13)
        return look(**call)

    with monkeypatch.context() as patch:
        patch.setattr(deployment.callback.wired.take_arrival.links._client, "get_item", slow)
        page = deployment.browse(told)
        answer = deployment.complete(user, body)
    assert (page.status, page.title) == (503, "Something went wrong on our side")
    assert answer.problem == "temporarily-unavailable"
    assert "Retry-After" in answer.headers
    assert deployment.browse(told).status == 303


def test_a_client_that_wise_refuses_is_our_fault(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    deployment.wise.control.add_fault(Fault(status=401, body='{"error":"invalid_client"}', carry_out=False))
    page = deployment.browse(told)
    assert (page.status, page.title) == (500, "Something went wrong on our side")


def test_a_client_secret_that_wise_does_not_know_yet_costs_one_link(deployment: Deployment, user: str) -> None:
    """It was put into Secrets Manager first; Wise accepts the version before it still."""
    value = json.loads(deployment.secrets.get_secret_value(SecretId=WISE_SECRET)["SecretString"])
    deployment.write_secret(json.dumps({**value, "client_secret": "fixture-secret-that-wise-does-not-know-yet"}))
    try:
        page = deployment.browse(deployment.consent(deployment.start(user), user))
        assert (page.status, page.title) == (500, "Something went wrong on our side")
        assert deployment.browse(deployment.consent(deployment.start(user), user)).title == "One step is left"
    finally:
        deployment.write_secret(None)


def test_something_unexpected_gets_a_page_without_a_word_of_it(
    deployment: Deployment, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = deployment.consent(deployment.start(user), user)
    secret = "fixture-secret-of-an-error"

    def explode(**_: object) -> None:
        raise LookupError(secret, told["code"])

    monkeypatch.setattr(deployment.callback.wired.take_arrival.links._client, "get_item", explode)
    page = deployment.browse(told)
    assert (page.status, page.title) == (500, "Something went wrong on our side")
    for text in (page.html, deployment.callback.console.getvalue()):
        assert secret not in text
        assert told["code"] not in text


# --- the pages

WAYS = {
    **{why.value: failed(why) for why in LinkFailure},
    "again": failed(LinkFailure.OUR_FAULT, again=True),
    "arrived": arrived("c" * 43),
}


class Reader(HTMLParser):
    """What a screen reader and a careful eye look for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


@pytest.mark.parametrize("way", WAYS)
def test_a_page_is_accessible(way: str) -> None:
    page = WAYS[way]
    read = Reader(page.html)
    assert page.html.startswith("<!DOCTYPE html>\n")
    assert ("html", {"lang": "en"}) in read.tags
    assert (read.count("h1"), read.count("main"), read.count("title")) == (1, 1, 1)
    headings = [tag for tag, _ in read.tags if re.fullmatch(r"h\d", tag)]
    assert headings[:2] == ["h1", "h2"]
    assert set(headings) == {"h1", "h2"}
    (viewport,) = (attrs["content"] for tag, attrs in read.tags if attrs.get("name") == "viewport")
    assert viewport == "width=device-width, initial-scale=1", "zooming is never forbidden"
    assert "color-scheme: light dark" in page.html
    assert "prefers-color-scheme: dark" in page.html
    assert re.search(r'<p class="status">[A-Z][a-z ]+</p>', page.html), "said in words, not by a colour"
    assert "px" not in page.html.replace("border: 2px", ""), "sizes follow the reader's own"
    title, heading = (re.findall(rf"<{tag}>(.*?)</{tag}>", page.html)[0] for tag in ("title", "h1"))
    assert title.startswith(heading)
    assert "What to do" in page.html


@pytest.mark.parametrize("way", WAYS)
def test_a_page_loads_and_runs_nothing(way: str) -> None:
    page = WAYS[way]
    read = Reader(page.html)
    assert not {"script", "img", "link", "iframe", "form", "a", "object", "base"} & {tag for tag, _ in read.tags}
    assert not {name for _, attrs in read.tags for name in attrs if name.startswith("on") or name == "style"}
    policy = page.headers["Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_every_way_has_words_of_its_own() -> None:
    titles = [re.findall(r"<h1>(.*?)</h1>", page.html)[0] for way, page in WAYS.items() if way != "again"]
    assert len(set(titles)) == len(titles)
    assert {page.status for page in WAYS.values()} == {200, 400, 409, 410, 500, 502, 503}


def test_nothing_of_the_request_is_repeated(deployment: Deployment, user: str) -> None:
    marks = {"state": "Marked<state>", "code": "Marked<code>", "error_description": "Marked<words>", "x": "Marked<x>"}
    assert "Marked" not in deployment.browse(marks).html
    told = deployment.consent(deployment.start(user), user)
    page = deployment.browse({**told, "error": "Marked<error>", "error_description": "Marked<words>"})
    assert "Marked" not in page.html
    assert "Marked" not in deployment.callback.console.getvalue()


def test_a_browser_is_answered_whatever_the_event_holds(deployment: Deployment) -> None:
    event = browser(None)
    for change in ({"queryStringParameters": {"state": None}}, {"headers": None, "requestContext": None}):
        assert seen(deployment.callback({**event, **change})).status == 400


# --- what a start takes


@pytest.mark.parametrize(
    "url",
    [
        7,
        "",
        "https://acme.example.com/linked/",
        "https://acme.example.com/linked2",
        "https://acme.example.com/",
        "https://acme.example.com",
        "http://acme.example.com/linked",
        "https://ACME.example.com/linked",
        "https://acme.example.com:443/linked",
        "https://acme.example.com/linked#x",
        "https://acme.example.com/linked;x",
        "https://acme.example.com.evil.example/linked",
        "https://evil.example/?https://acme.example.com/linked",
        "https://evil@acme.example.com/linked",
        "//acme.example.com/linked",
        "https://acme.example.com/linked?a#b",
        "https://acme.example.com/linked?a b",
        "https://acme.example.com/linked?a\r\nSet-Cookie: x",
        "https://acme.example.com/linked?link_id=mine",
        "https://acme.example.com/linked?a=b&error=x",
        "https://acme.example.com/linked?%6cink_id=mine",
        "https://acme.example.com/linked?" + "a" * 1025,
        "javascript:alert(1)",
    ],
)
def test_only_a_partners_own_urls_are_returned_to(deployment: Deployment, user: str, url: object) -> None:
    before = deployment.items()
    answer = deployment.start(user, {"return_url": url})
    assert (answer.status, answer.problem) == (400, "bad-request")
    assert answer.body["detail"].startswith("return_url ")
    assert deployment.items() == before


@pytest.mark.parametrize("url", [RETURN_URL, f"{RETURN_URL}?", f"{RETURN_URL}?user=7&next=%2Fhome"])
def test_a_partners_own_url_may_have_a_query(deployment: Deployment, user: str, url: str) -> None:
    assert deployment.start(user, {"return_url": url}).status == 201


def test_another_partners_url_is_not_returned_to(deployment: Deployment, user: str) -> None:
    answer = deployment.start(user, {"return_url": RETURN_URL}, tenant="globex", caller=f"{GLOBEX}:fixture-session")
    assert answer.problem == "bad-request"


@pytest.mark.parametrize(("body", "field"), [({"url": "x"}, "url"), ("[]", "body"), ("{", "body")])
def test_a_start_that_cannot_be_understood_is_refused(deployment: Deployment, user: str, body: Any, field: str) -> None:
    answer = deployment.start(user, body)
    assert answer.problem == "bad-request"
    assert answer.body["detail"].startswith(field)


BAD_COMPLETIONS: list[tuple[Any, str]] = [
    ({"state": "s"}, "code"),
    ({"code": "c"}, "state"),
    ({"state": "s", "code": 7}, "code"),
    ({"state": "s", "code": "a b"}, "code"),
    ({"state": "s", "code": ""}, "code"),
    ({"state": None, "code": "c"}, "state"),
    ({"state": "s", "code": "c", "profile_id": 7}, "profile_id"),
    ({"state": "s", "code": "c", "profile_id": "a/b"}, "profile_id"),
    ({"state": "s", "code": "c", "profileId": "7"}, "profileId"),
    ("", "body"),
]


@pytest.mark.parametrize(("body", "field"), BAD_COMPLETIONS)
def test_a_completion_that_cannot_be_understood_is_refused(
    deployment: Deployment, user: str, body: Any, field: str
) -> None:
    answer = deployment.complete(user, body)
    assert (answer.status, answer.problem) == (400, "bad-request")
    assert answer.body["detail"].startswith(f"{field} ")


def completed(deployment: Deployment, user: str, **changes: str) -> Answer:
    told = deployment.consent(deployment.start(user), user)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"], **changes}
    return deployment.complete(user, body)


def test_a_completion_answers_with_problems(deployment: Deployment, user: str) -> None:
    assert completed(deployment, user, state="s" * 43).problem == "not-found"
    assert completed(deployment, user, code="fixture-unknown").problem == "code-refused"
    for fault, problem in (
        (Fault(status=502, carry_out=False), "provider-unavailable"),
        (Fault(status=401, body='{"error":"invalid_client"}', carry_out=False), "internal-error"),
    ):
        deployment.wise.control.add_fault(fault)
        assert completed(deployment, user).problem == problem
    done = completed(deployment, user)
    deployment.confirm(user, done.body["link_id"])
    assert completed(deployment, user, profile_id="9999").problem == "different-profile"
    told = deployment.consent(deployment.start(user), user)
    missing = deployment.complete(user, {"state": told["state"], "code": told["code"]})
    assert missing.problem == "different-profile"
    assert missing.body["detail"].startswith("profile_id is required")


def test_a_completion_while_the_secret_is_unusable_can_be_repeated(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    deployment.delete_secret()
    assert deployment.complete(user, body).problem == "internal-error"
    deployment.write_secret(None)
    assert deployment.complete(user, body).status == 200


def test_a_link_belongs_to_its_own_grant(deployment: Deployment, user: str) -> None:
    told = deployment.consent(deployment.start(user), user)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    other = deployment.complete(f"{user}-other", body)
    assert other.problem == "not-found"
    done = deployment.complete(user, body)
    assert done.status == 200
    answers = [
        deployment.confirm(f"{user}-other", done.body["link_id"]),
        deployment.confirm(user, "l" * 43),
        deployment.confirm(user, "x"),
    ]
    assert {(answer.status, answer.text) for answer in answers} == {(404, answers[0].text)}
    reader = deployment.confirm(user, done.body["link_id"], caller=f"{ACME_READER}:fixture-session")
    assert reader.problem == "forbidden"


def test_a_profile_that_another_grant_holds_is_refused(deployment: Deployment, user: str) -> None:
    other = f"{user}-other"
    early = deployment.browse(deployment.consent(deployment.start(other), user))
    first = deployment.browse(deployment.consent(deployment.start(user), user))
    deployment.confirm(user, link_id_of(first))
    assert deployment.confirm(other, link_id_of(early)).problem == "already-held", "it was taken meanwhile"
    told = deployment.consent(deployment.start(other), user)
    before = len(deployment.wise.control.requests())
    page = deployment.browse(told)
    assert (page.status, page.title) == (409, "This Wise profile is connected already")
    told = deployment.consent(deployment.start(other), user)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    assert deployment.complete(other, body).problem == "already-held"
    assert len(deployment.wise.control.requests()) == before
    assert deployment.use(deployment.token(user).body["access_token"]) == 200


def test_every_failure_is_a_problem(deployment: Deployment) -> None:
    assert set(deployment.callback.module._PROBLEMS) == set(LinkFailure)
    assert {code for code, _ in deployment.callback.module._PROBLEMS.values()} <= set(PROBLEMS)
