"""`Window` without a browser: the same pages over HTTP, for machines that have no Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from local.wise.visitor import Page, Visitor

from .window import Seen

if TYPE_CHECKING:
    from pathlib import Path

_MOST_REDIRECTS: Final = 10


class PlainWindow:
    """Follows redirects and keeps cookies; no script runs, which these pages do without, and nothing is drawn."""

    def __init__(self, ca_file: Path) -> None:
        self._visitor = Visitor(ca_file, timeout_s=60)
        self._page: Page | None = None

    def open(self, url: str) -> Seen:
        """See `Window.open`."""
        return self._rest(self._visitor.visit(url))

    def press(self, button: str, **filled: str) -> Seen:
        """See `Window.press`."""
        if self._page is None:
            raise LookupError("no page was opened yet")
        return self._rest(self._visitor.press(self._page, button, **filled))

    def shot(self, path: Path) -> bool:  # noqa: ARG002 - there is nothing to draw
        """See `Window.shot`."""
        return False

    def _rest(self, page: Page) -> Seen:
        for _ in range(_MOST_REDIRECTS):
            if page.location is None:
                self._page = page
                return Seen(page.url, page.status, page.headers, page.text("title") or "", page.text("h1") or "")
            page = self._visitor.follow(page)
        raise RuntimeError("too many redirects")
