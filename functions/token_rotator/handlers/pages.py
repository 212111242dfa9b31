"""The pages that a person sees after authorizing at Wise: one for each way it can end.

Plain HTML from the server: no script, nothing loaded from anywhere, nothing of the request repeated. Readable without
colours, at any zoom, in the dark, and by a screen reader (WCAG 2.2, AA).
"""

from __future__ import annotations

import base64
import hashlib
import html
from dataclasses import dataclass
from typing import Final

from token_rotator.domain.link import LinkFailure

_STYLE: Final = """
:root { color-scheme: light dark; }
body { margin: 0; font: 1.125rem/1.6 system-ui, sans-serif; color: #1a1a1a; background: #ffffff; }
main { max-width: 38rem; margin: 0 auto; padding: 2rem 1.25rem; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
li + li { margin-top: .5rem; }
.status { font-weight: 700; margin: 0 0 .5rem; }
code { display: block; padding: .75rem 1rem; border: 2px solid; font-size: 1rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { body { color: #f2f2f2; background: #121212; } }
"""


@dataclass(frozen=True, slots=True)
class _Text:
    """A page's words: whether it went well in words, what happened, what to do."""

    status: int
    went: str
    title: str
    happened: tuple[str, ...]
    do: tuple[str, ...]


_AND_BACK: Final = "go back to the application or the person that sent you to Wise, and begin again there."
_BACK: Final = f"G{_AND_BACK[1:]}"
_NOTHING: Final = "Nothing was connected."
_FAILURES: Final[dict[LinkFailure, _Text]] = {
    LinkFailure.CONSENT_REFUSED: _Text(
        200,
        "Not connected",
        "You did not allow access",
        ("Wise told us that you chose not to give access to your account.", _NOTHING),
        ("If that is what you wanted, there is nothing more to do. You can close this page.", f"If not, {_AND_BACK}"),
    ),
    LinkFailure.UNKNOWN: _Text(
        400,
        "Not connected",
        "We do not know this link",
        ("This page was opened with a link that we did not give out, or that is long over.", _NOTHING),
        ("Check that you opened the whole link, if you copied it.", _BACK),
    ),
    LinkFailure.USED: _Text(
        410,
        "Nothing new happened",
        "This link was used before",
        ("Each link works once. Perhaps you reloaded the page or went back to it.",),
        ("If a page told you before that your permission arrived, all is well, and you can close this page.",
         f"If not, {_AND_BACK}"),
    ),
    LinkFailure.EXPIRED: _Text(
        410,
        "Not connected",
        "This link is too old",
        ("For your safety a link works for 15 minutes only.", _NOTHING),
        (_BACK, "Then finish at Wise within 15 minutes."),
    ),
    LinkFailure.CODE_REFUSED: _Text(
        409,
        "Not connected",
        "Wise did not accept the permission",
        ("The permission that Wise gave you was too old, was used before, or did not arrive whole.", _NOTHING),
        (_BACK,),
    ),
    LinkFailure.NO_PROFILE: _Text(
        409,
        "Not connected",
        "Your Wise account has no profile yet",
        ("Wise did not say for which profile you gave permission. An account that is not set up has none.", _NOTHING),
        ("Sign in at Wise and finish setting up your account.", _BACK),
    ),
    LinkFailure.DIFFERENT_PROFILE: _Text(
        409,
        "Not connected",
        "That was a different Wise profile than before",
        ("You gave permission for another profile than the one that was connected until now.", _NOTHING,
         "The profile that you chose was not touched."),
        (_BACK, "At Wise, choose the profile, personal or business, that was connected before.",
         "If you want to change to another profile, tell the people who sent you: they have to prepare that."),
    ),
    LinkFailure.ALREADY_HELD: _Text(
        409,
        "Not connected",
        "This Wise profile is connected already",
        ("The profile that you chose is connected in another place, perhaps under another account of yours.", _NOTHING,
         "What is connected already goes on working."),
        (_BACK, "At Wise, choose another profile, if you meant another one.",
         "If this profile is to be moved, tell the people who sent you: it has to be disconnected there first."),
    ),
    LinkFailure.WISE_UNAVAILABLE: _Text(
        502,
        "Not connected",
        "Wise is not answering",
        ("You gave permission, but Wise did not answer us when we asked for it.",),
        ("Wait some minutes.", _BACK),
    ),
    LinkFailure.WISE_REFUSED: _Text(
        502,
        "Not connected",
        "Wise could not finish",
        ("Wise sent you back without a permission and did not say that you refused.", _NOTHING),
        (_BACK, "If it happens again, ask the people who sent you, or Wise's support."),
    ),
    LinkFailure.OUR_FAULT: _Text(
        500,
        "Not connected",
        "Something went wrong on our side",
        ("It is not your fault, and it is not Wise's.",),
        ("Wait some minutes.", _BACK, "If it happens again, tell the people who sent you."),
    ),
    LinkFailure.SUSPENDED: _Text(
        503,
        "Not connected yet",
        "Connecting is stopped for now",
        ("The people who run this service have stopped it for a while. Your permission was not used.",),
        ("Wait a minute, then reload this page.", f"If that does not help: {_BACK}"),
    ),
}  # fmt: skip
_AGAIN: Final = _Text(
    503,
    "Not connected yet",
    "Something went wrong on our side",
    ("It is not your fault, and it is not Wise's. Your permission is not lost.",),
    ("Wait a minute, then reload this page.", f"If that does not help, {_AND_BACK}"),
)
_ARRIVED: Final = _Text(
    200,
    "Your permission arrived",
    "One step is left",
    ("You gave permission at Wise, and it arrived. It counts once the people who sent you confirm that it was you.",),
    ("Give them this code within 10 minutes, in the place where they asked for it. Give it to nobody else.",),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it is sent."""

    status: int
    headers: dict[str, str]
    html: str


def failed(why: LinkFailure, *, again: bool = False) -> Page:
    """Make the page that says what went wrong and what to do; `again`: reloading it may help."""
    return _page(_AGAIN if again and why is LinkFailure.OUR_FAULT else _FAILURES[why])


def arrived(link_id: str) -> Page:
    """Make the page of a link without a return URL. The person hands on the `link_id`: nobody else can."""
    return _page(_ARRIVED, link_id)


def guarded() -> dict[str, str]:
    """Give the headers that every answer to a browser has: the address holds what must go no further."""
    return {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def _page(text: _Text, code: str | None = None) -> Page:
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    headers = {
        **guarded(),
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
    }
    happened = "".join(f"<p>{html.escape(line)}</p>\n" for line in text.happened)
    do = "".join(f"<li>{html.escape(line)}</li>\n" for line in text.do)
    shown = "" if code is None else f'<h2 id="code">Your code</h2>\n<code>{html.escape(code)}</code>\n'
    return Page(
        text.status,
        headers,
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{html.escape(text.title)} - connecting your Wise account</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<p class="status">{html.escape(text.went)}</p>
<h1>{html.escape(text.title)}</h1>
{happened}<h2>What to do</h2>
<ul>
{do}</ul>
{shown}</main>
</body>
</html>
""",
    )
