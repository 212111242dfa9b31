"""Looks for secrets in whatever form they may have got out: for the tests and the demo."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

_CORE = re.compile(rb"[A-Za-z0-9-]{12,}")


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Every form in which a secret may lie in a text: raw, base64 at each alignment, hex, URL- and JSON-escaped.

    Escapes can be stacked in more ways than can be listed, but none of them changes letters, digits and hyphens: so
    the longest run of these, where it is long enough to be nobody else's, is looked for as well.
    """
    yield from _encoded(secret)
    core = max(_CORE.findall(secret), key=len, default=b"")
    if core and core != secret:
        yield from ((f"{name} of the core", form) for name, form in _encoded(core))
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        yield "repr", repr(secret)[2:-1].encode()
    else:
        yield from _escaped(text)


def _encoded(raw: bytes) -> Iterator[tuple[str, bytes]]:
    yield "raw", raw
    yield "reversed", raw[::-1]
    for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
        for lead in range(3):
            # Bytes before it move it within base64's groups of three; what they share with it is cut off.
            coded = encode(b"\0" * lead + raw)
            first = -(-lead * 4 // 3)
            whole = (lead + len(raw)) // 3 * 4
            yield f"{name}+{lead}", coded[first:whole]
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "hex escapes", "".join(f"\\x{byte:02x}" for byte in raw).encode()


def _escaped(text: str) -> Iterator[tuple[str, bytes]]:
    for safe in ("", "/", "/+", "~"):
        quoted = urllib.parse.quote(text, safe=safe)
        yield f"url, {safe!r} kept", quoted.encode()
        yield f"url in lower case, {safe!r} kept", re.sub("%..", lambda found: found.group().lower(), quoted).encode()
    yield "form", urllib.parse.quote_plus(text).encode()
    once = json.dumps(text)[1:-1]
    yield "json", once.encode()
    yield "json with slashes", once.replace("/", "\\/").encode()
    yield "json twice", json.dumps(once)[1:-1].encode()
    yield "json of code points", "".join(f"\\u{ord(char):04x}" for char in text).encode()
    yield "repr", repr(text)[1:-1].encode()


def found(secrets: Mapping[str, bytes], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Say which secret lies where, and in which form. Never shows it."""
    wanted = [(needle, name, form) for name, secret in secrets.items() for form, needle in forms(secret)]
    return [
        f"{name} ({form}) in {place}" for place, content in places for needle, name, form in wanted if needle in content
    ]
