"""Every page that the code can make, in a browser; and that the checks of a page find what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser

from local.browser.chromium import ChromiumWindow, window
from local.browser.window import Seen
from tests.browser.looks import problems_of
from token_rotator.domain.link import LinkFailure
from token_rotator.handlers.pages import Page, arrived, failed

pytestmark = pytest.mark.browser

URL: Final = "https://rotator.example.com/live/oauth/callback"
PAGES: Final = {
    **{why.value: failed(why) for why in LinkFailure},
    "again": failed(LinkFailure.OUR_FAULT, again=True),
    "arrived": arrived("x" * 43),
}
SPOILT: Final = {
    "another language": (' lang="en"', "", "lang is , not en"),
    "a second heading": ("<h2>What to do</h2>", "<h1>What to do</h1>", "h1 is 2, not 1"),
    "no landmark": ("main>", "div>", "landmarks is 0, not 1"),
    "a script": ("</main>", "<script>1</script></main>", "scripts is 1, not 0"),
    "a handler": ("<ul>", '<ul onclick="1">', "handlers is 1, not 0"),
    "a fixed width": ("</main>", '<div class="status"><pre>' + "x" * 200 + "</pre></div></main>", "beyond the edge"),
    "another style": ("color: #1a1a1a", "color: #9a9a9a", "keeps the page's own style out"),
    "another title": ("<title>", "<title>Wise: ", "the title does not say"),
    "an echo": ("</main>", "<p>fixture-code-of-wise</p></main>", "the page repeats code"),
}


@pytest.fixture
def shown(browser: Browser) -> Iterator[ChromiumWindow]:
    with window(browser) as opened:
        yield opened


def open_as_sent(shown: ChromiumWindow, page: Page, html: str | None = None) -> Seen:
    """Open a page without a network: the browser gets it as the function answers it."""
    body = page.html if html is None else html
    shown.page.route("**/*", lambda route: route.fulfill(status=page.status, headers=page.headers, body=body.encode()))
    return shown.open(f"{URL}?state=fixture-state-of-a-link&code=fixture-code-of-wise")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_as_it_should_be(shown: ChromiumWindow, tmp_path: Path, name: str) -> None:
    seen = open_as_sent(shown, PAGES[name])
    assert seen.status == PAGES[name].status
    assert problems_of(shown, seen, name, tmp_path) == []
    assert len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_with_a_page_is_found(shown: ChromiumWindow, tmp_path: Path, name: str) -> None:
    old, new, told = SPOILT[name]
    page = PAGES["link_used"]
    assert old in page.html
    spoilt = page.html.replace(old, new)
    seen = open_as_sent(shown, page, spoilt)
    assert [problem for problem in problems_of(shown, seen, name, tmp_path) if told in problem]


def test_a_policy_that_allows_more_is_found(shown: ChromiumWindow, tmp_path: Path) -> None:
    page = PAGES["link_used"]
    open_policy = page.headers | {"Content-Security-Policy": "default-src *", "Cache-Control": "public"}
    seen = open_as_sent(shown, Page(page.status, open_policy, page.html))
    found = problems_of(shown, seen, "open", tmp_path)
    assert [problem for problem in found if "allows too much" in problem]
    assert "cache-control is public" in found
