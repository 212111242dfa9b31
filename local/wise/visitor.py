"""A visitor without a browser: reads pages, fills in their forms and presses their buttons. Standard library only.

For the tests, and for the demo where there is no browser. No script runs, which Wise's pages here and the rotator's
own do without. They set no cookies either; those of other hosts are kept by host and port, whatever their attributes.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.parse
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VOID = frozenset({"input", "meta", "link", "br", "hr", "img"})


@dataclass(slots=True)
class Form:
    """What a form would send, and where."""

    method: str
    action: str | None
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name and value of each button, by its id."""


class _Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._open.append((tag, given.get("id") or (tag if tag in {"title", "h1"} else None)))
        if tag == "form":
            self.forms.append(Form(given.get("method", "get").upper(), given.get("action")))
        elif tag == "button" and self.forms:
            self.forms[-1].buttons[given.get("id", "")] = (given.get("name", ""), given.get("value", ""))
        elif tag == "input" and self.forms and "name" in given and (given.get("type") != "radio" or "checked" in given):
            self.forms[-1].fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name is not None:
                self.texts[name] = self.texts.get(name, "") + data


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, as a person and a program see it."""

    url: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name."""
    html: str = field(repr=False)

    @property
    def location(self) -> str | None:
        """Where a redirect leads."""
        found = self.headers.get("location")
        return None if found is None else urllib.parse.urljoin(self.url, found)

    @property
    def forms(self) -> list[Form]:
        """The forms, in their order."""
        return _Reader(self.html).forms

    def text(self, name: str) -> str | None:
        """The text of the element with this id, of the ``title`` or of the ``h1``."""
        return _Reader(self.html).texts.get(name)

    def query(self) -> dict[str, str]:
        """The fields that a redirect takes along."""
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.location or "").query, keep_blank_values=True))


class Visitor:
    """Goes from page to page; every step is asked for. ``ca_file`` is trusted besides nobody."""

    def __init__(self, ca_file: Path | str | None = None, *, timeout_s: float = 30.0) -> None:
        self._context = None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
        self._timeout_s = timeout_s
        self._cookies: dict[str, dict[str, str]] = {}

    def visit(self, url: str) -> Page:
        """Open an address; a redirect is not followed."""
        return self._exchange("GET", url, None)

    def press(self, page: Page, button: str, **filled: str) -> Page:
        """Fill in fields and press the button of this id. ``LookupError`` if the page has none."""
        for form in page.forms:
            if button in form.buttons:
                name, value = form.buttons[button]
                fields = form.fields | filled | ({name: value} if name else {})
                target = urllib.parse.urljoin(page.url, form.action or urllib.parse.urlsplit(page.url).path)
                if form.method == "POST":
                    return self._exchange("POST", target, urllib.parse.urlencode(fields))
                return self._exchange("GET", f"{target}?{urllib.parse.urlencode(fields)}", None)
        raise LookupError(f"no button {button}")

    def follow(self, page: Page) -> Page:
        """Go where a redirect leads. ``LookupError`` if it is none."""
        if page.location is None:
            raise LookupError("no redirect")
        return self.visit(page.location)

    def authorize(self, url: str, user: str, *, profile_id: int | None = None, refuse: bool = False) -> Page:
        """Go through Wise's authorization page to its end: the redirect, or the page that it ended on."""
        page = self.press(self.visit(url), "login", user=user)
        chosen = {} if profile_id is None else {"profile_id": str(profile_id)}
        return self.press(page, "refuse" if refuse else "allow", **chosen)

    def _exchange(self, method: str, url: str, body: str | None) -> Page:
        parts = urllib.parse.urlsplit(url)
        connection = (
            http.client.HTTPSConnection(parts.netloc, timeout=self._timeout_s, context=self._context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.netloc, timeout=self._timeout_s)
        )
        headers = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
        cookies = self._cookies.setdefault(parts.netloc, {})
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        with contextlib.closing(connection):
            connection.request(method, parts._replace(scheme="", netloc="", fragment="").geturl() or "/", body, headers)
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            for cookie in SimpleCookie(answered.get("set-cookie", "")).values():
                cookies[cookie.key] = cookie.value
            return Page(url, response.status, answered, response.read().decode("utf-8", "replace"))
