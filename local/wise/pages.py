"""Wise's web host: the pages on which a user lets a partner in, or not. Plain HTML, no script.

A browser comes with ``GET /oauth/authorize?client_id=…&redirect_uri=…&state=…`` (docs.wise.com/guides/product/kyc
/partner-kyc/accessing-accounts) and sees ``login``: one field, ``#user``, which takes a name or an e-mail address.
``consent`` follows: a radio button ``profile_id`` for each profile, and two buttons, ``#allow`` and ``#refuse``, which
post ``decision``. The answer to that is the redirect. A program may post the same fields at once.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from local.wise.answers import Answer
from local.wise.truth import Consent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from local.wise.users import WiseUser

_HEADERS = {
    "Content-Type": "text/html;charset=UTF-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STYLE = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "body{max-width:34rem;margin:3rem auto;padding:0 1rem}"
    "fieldset{margin:1rem 0;padding:1rem}label{display:block;margin:.5rem 0}"
    "input:not([type=radio]){display:block;width:100%;box-sizing:border-box}"
    "input,button{font:inherit;padding:.5rem}button{margin:.5rem .5rem 0 0}"
)
_TURNED_AWAY = {
    Consent.UNKNOWN_CLIENT: "No application of this name is known at Wise.",
    Consent.UNKNOWN_REDIRECT_URI: "The address to return to is not one that the application registered.",
}


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What the partner asks for by sending a browser here."""

    client_id: str
    redirect_uri: str
    state: str | None = field(repr=False)
    claim_account_code: str | None = field(default=None, repr=False)
    """Tells who comes, in place of a login: somebody for whom the partner made an account
    (docs.wise.com/guides/product/kyc/wise-kyc/redirect-to-wise/claim-account)."""

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> AuthorizationRequest:
        """From a query or a form."""
        return cls(
            fields.get("client_id", ""),
            fields.get("redirect_uri", ""),
            fields.get("state"),
            fields.get("claim_account_code"),
        )

    def hidden(self) -> str:
        """The same again, in a form."""
        values = {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "claim_account_code": self.claim_account_code,
        }
        return "".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">'
            for name, value in values.items()
            if value is not None
        )

    def answered(self, **values: str | int | None) -> str:
        """The address to send the browser to, with these values and the state, but none that is missing."""
        given = {name: value for name, value in {**values, "state": self.state}.items() if value is not None}
        joint = "&" if "?" in self.redirect_uri else "?"
        return self.redirect_uri + joint + urllib.parse.urlencode(given)


def login(request: AuthorizationRequest, users: Iterable[WiseUser], wrong: str | None = None) -> Answer:
    """Ask who is there; ``wrong`` says what was wrong with an earlier try."""
    people = "".join(f'<option value="{escape(user.user)}">{escape(user.email)}</option>' for user in users)
    alert = "" if wrong is None else f'<p id="wrong" role="alert">{escape(wrong)}</p>'
    return _page(
        "Log in to Wise",
        f"{alert}<form>{request.hidden()}"
        '<label for="user">Name or e-mail address</label>'
        '<input id="user" name="user" list="people" autocomplete="off" required autofocus>'
        f'<datalist id="people">{people}</datalist>'
        '<button id="login">Log in</button></form>',
        status=200 if wrong is None else 400,
    )


def consent(request: AuthorizationRequest, user: WiseUser) -> Answer:
    """Ask whether the application may act for one of the user's profiles."""
    buttons = "".join(
        f'<label><input type="radio" name="profile_id" value="{profile.id}"{"" if place else " checked"}> '
        f"{escape(profile.name)}</label>"
        for place, profile in enumerate(user.profiles)
    )
    choice = f"<fieldset><legend>For which account?</legend>{buttons}</fieldset>" if buttons else ""
    return _page(
        "Allow access to your Wise account?",
        f'<p>You are logged in as <strong id="who">{escape(user.user)}</strong>. The application '
        f"<strong>{escape(request.client_id)}</strong> asks to see your account and to make transfers.</p>"
        f'<form method="post">{request.hidden()}'
        f'<input type="hidden" name="user" value="{escape(user.user)}">{choice}'
        '<button id="allow" name="decision" value="allow">Allow</button>'
        '<button id="refuse" name="decision" value="refuse">Refuse</button></form>',
    )


def turned_away(why: Consent) -> Answer:
    """Where no redirect may happen: the user is told, and stays here."""
    return _page("This link does not work", f'<p id="wrong" role="alert">{_TURNED_AWAY[why]}</p>', status=400)


def back(address: str) -> Answer:
    """Send the browser back to the partner."""
    return Answer(status=302, outcome="ok", headers={**_HEADERS, "Location": address})


def _page(title: str, content: str, *, status: int = 200) -> Answer:
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title}</h1>{content}</main></body></html>"
    )
    return Answer(status=status, outcome="ok", body=body, headers=_HEADERS)
