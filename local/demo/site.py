"""A partner's web site, as far as linking goes: it knows who is signed in, and confirms only for that session.

| path | what happens |
|---|---|
| `GET /account?user=…` | signs a user in (a password would come here) and offers to connect their Wise account |
| `POST /connect` | starts a link at the rotator and sends the browser to Wise |
| `GET /wise/back` | the return URL: confirms the link if this session started one, else does nothing |
"""

from __future__ import annotations

import contextlib
import html
import secrets
import threading
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .partner import PartnerService

BACK: Final = "/wise/back"
_COOKIE: Final = "session"
_CREATED: Final = 201
_OK: Final = 200
_STYLE: Final = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "body{max-width:34rem;margin:3rem auto;padding:0 1rem;border-top:.5rem solid #7a3db8}"
    "button{font:inherit;padding:.5rem 1rem}"
)


@dataclass(slots=True)
class Session:
    """Somebody who is signed in. A link that this session did not start is none of its business."""

    user: str
    started: bool = False


@dataclass(slots=True)
class Site:
    """What the site knows. `service` is its server's caller of the rotator, known once that is deployed."""

    url: str
    service: PartnerService | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    sent_to: list[str] = field(default_factory=list, repr=False)
    """The addresses that browsers were sent to, with their `state`."""
    link_ids: list[str] = field(default_factory=list, repr=False)
    """Every `link_id` that came back, confirmed or not."""

    @property
    def return_url(self) -> str:
        """What the deployment must allow."""
        return f"{self.url}{BACK}"

    def account_of(self, user: str) -> str:
        """Where a user signs in."""
        return f"{self.url}/account?user={user}"

    def start(self, user: str, return_url: str | None = None) -> str:
        """Start a link for a user; give the address for their browser."""
        if self.service is None:
            raise RuntimeError("nothing is deployed yet")
        body = {} if return_url is None else {"return_url": return_url}
        answer = self.service.call("POST", user, "/link", json_body=body)
        if answer.status != _CREATED:
            raise RuntimeError(f"POST {user}/link was answered {answer.status}: {answer.body.decode()[:300]}")
        self.sent_to.append(answer.json()["authorization_url"])
        return self.sent_to[-1]

    def confirm(self, user: str, link_id: str) -> int:
        """Say that the link that came back is this user's. Gives the rotator's status."""
        if self.service is None:
            raise RuntimeError("nothing is deployed yet")
        return self.service.call("POST", user, f"/link/{link_id}/confirm").status

    def came_back(self, session: Session | None, query: dict[str, str]) -> tuple[int, str, str]:
        """Take a browser that came back from Wise: status, heading, text of the page that it gets."""
        if "link_id" in query:
            self.link_ids.append(query["link_id"])
        if session is None or not session.started:
            text = "Nobody who is signed in here has asked for this. Nothing was connected."
            return 403, "This link is not yours", text
        session.started = False
        if "error" in query or "link_id" not in query:
            return 200, "Your Wise account is not connected", f"We were told: {query.get('error', 'nothing')}."
        status = self.confirm(session.user, query["link_id"])
        if status != _OK:
            return 502, "Your Wise account is not connected", "Please begin again."
        return 200, "Your Wise account is connected", f"You are signed in as {session.user}."


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if parts.path == "/account" and "user" in query:
            name = secrets.token_urlsafe(16)
            self.site.sessions[name] = Session(query["user"])
            form = '<form method="post" action="/connect"><button id="connect">Connect my Wise account</button></form>'
            cookie = f"{_COOKIE}={name}; HttpOnly; SameSite=Lax; Path=/"
            self._page(200, "Your account", f"You are signed in as {query['user']}.", form, {"Set-Cookie": cookie})
        elif parts.path == BACK:
            self._page(*self.site.came_back(self._session(), query))
        else:
            self._page(404, "There is no such page", "")

    def do_POST(self) -> None:
        session = self._session()
        if self.path != "/connect" or session is None:
            self._page(403, "Please sign in first", "")
            return
        session.started = True
        self._send(303, {"Location": self.site.start(session.user, self.site.return_url)}, b"")

    def _session(self) -> Session | None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        return None if cookie is None else self.site.sessions.get(cookie.value)

    def _page(
        self, status: int, heading: str, text: str, more: str = "", headers: dict[str, str] | None = None
    ) -> None:
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{heading} - acme</title><style>{_STYLE}</style></head>"
            f"<body><main><h1>{heading}</h1><p>{html.escape(text)}</p>{more}</main></body></html>"
        )
        given = {"Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "no-referrer", **(headers or {})}
        self._send(status, given, page.encode())

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Cache-Control": "no-store", "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the server's own signature
        """Print nothing: addresses hold what must go no further."""


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Open the site on a free port of this machine, for the length of a block."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    handler.site = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
