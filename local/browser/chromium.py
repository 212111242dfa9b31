"""A real browser without a window on the screen: the Chromium that is installed, driven by Playwright.

Playwright's own browsers are not downloaded. The environment variable ``CHROMIUM`` names another program.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

from .window import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Response, ViewportSize

VARIABLE: Final = "CHROMIUM"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
MISSING: Final = f"no Chromium: none of {', '.join(NAMES)} is on the PATH, and {VARIABLE} names no program"
_PATIENCE_MS: Final = 60_000
"""A page of ours may wait for a function's cold start, on a machine that has much else to do."""
_DESK: Final[ViewportSize] = {"width": 900, "height": 640}


def find() -> str | None:
    """Where a Chromium is; none where there is none."""
    named = os.environ.get(VARIABLE)
    return next((found for name in ([named] if named else NAMES) if (found := shutil.which(name))), None)


@contextlib.contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """Start it, and end it with the block. All of it must be used in the thread that starts it."""
    with sync_playwright() as playwright:
        # No proxy, whatever the environment says: all pages are this machine's own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-proxy-server"])
        try:
            yield browser
        finally:
            browser.close()


class ChromiumWindow:
    """`Window` of a real browser, with cookies of its own."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._answer: Response | None = None
        page.on("response", self._note)

    def open(self, url: str) -> Seen:
        """See `Window.open`."""
        self.page.goto(url)
        return self.seen()

    def press(self, button: str, **filled: str) -> Seen:
        """See `Window.press`."""
        for name, value in filled.items():
            field = self.page.locator(f'input[name="{name}"]')
            if field.first.get_attribute("type") == "radio":
                self.page.check(f'input[name="{name}"][value="{value}"]')
            else:
                field.fill(value)
        with self.page.expect_navigation():
            self.page.click(f"#{button}")
        return self.seen()

    def shot(self, path: Path) -> bool:
        """See `Window.shot`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)
        return True

    def seen(self) -> Seen:
        """The page that is shown now."""
        if self._answer is None:
            raise LookupError("no page was opened yet")
        return Seen(
            url=self.page.url,
            status=self._answer.status,
            headers=self._answer.headers,
            title=self.page.title(),
            heading=self.page.locator("h1").first.inner_text(),
        )

    def _note(self, answer: Response) -> None:
        if answer.request.is_navigation_request() and answer.frame == self.page.main_frame:
            self._answer = answer


@contextlib.contextmanager
def window(browser: Browser, viewport: ViewportSize | None = None) -> Iterator[ChromiumWindow]:
    """Open a window, and close it with the block."""
    # The Wise emulator's certificate comes from an authority made for this run, which no browser knows.
    context = browser.new_context(ignore_https_errors=True, viewport=viewport or _DESK)
    context.set_default_timeout(_PATIENCE_MS)
    try:
        yield ChromiumWindow(context.new_page())
    finally:
        context.close()
