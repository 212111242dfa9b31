"""What every page of ours must be like, asked of the browser that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from local.browser.chromium import ChromiumWindow
from local.browser.window import Seen

HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-type": "text/html; charset=utf-8",
}
POLICY: Final = ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
NARROW: Final = {"width": 320, "height": 640}
"""WCAG 2.2, 1.4.10: 320 CSS pixels, which is 1,280 at 400 %."""
ENHANCED: Final = 7.0
"""WCAG 2.2, 1.4.6, the contrast of AAA. AA asks for 4.5."""
_LEAST_SECRET: Final = 8

_FACTS: Final = """() => ({
  lang: document.documentElement.lang,
  h1: document.querySelectorAll('h1').length,
  landmarks: [...document.querySelectorAll('main')].length,
  outside: [...document.body.children].filter(one => one.tagName !== 'MAIN').length,
  scripts: document.scripts.length,
  loaded: performance.getEntriesByType('resource').length,
  unstyled: getComputedStyle(document.querySelector('main') ?? document.body).maxWidth === 'none',
  handlers: [...document.querySelectorAll('*')].filter(one =>
    [...one.attributes].some(attribute => attribute.name.startsWith('on') || attribute.name === 'style')).length,
})"""
_OVERFLOW: Final = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
_CONTRAST: Final = """() => {
  const parts = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
  const light = text => {
    const [r, g, b] = parts(text).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll('h1, h2, p, li, code')].map(one => {
    const [low, high] = [light(getComputedStyle(one).color), ground].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""


def problems_of(window: ChromiumWindow, seen: Seen, name: str, pictures: Path) -> list[str]:
    """Everything that is wrong with the page that is shown. Takes its picture: at a desk, narrow, and in the dark."""
    page = window.page
    found = _headers(seen)
    facts: dict[str, Any] = page.evaluate(_FACTS)
    expected = {"lang": "en", "h1": 1, "landmarks": 1, "outside": 0, "scripts": 0, "loaded": 0, "handlers": 0}
    found += [f"{what} is {facts[what]}, not {value}" for what, value in expected.items() if facts[what] != value]
    if facts["unstyled"]:
        found.append("the policy keeps the page's own style out")
    if not seen.title.startswith(seen.heading):
        found.append(f"the title does not say what the heading says: {seen.title}")
    tree = page.locator("body").aria_snapshot()
    if not tree.startswith("- main") or f'heading "{seen.heading}" [level=1]' not in tree:
        found.append(f"a screen reader finds something else: {tree}")
    content = page.content()
    for field, value in parse_qsl(urlsplit(seen.url).query):
        if len(value) >= _LEAST_SECRET and value in content:
            found.append(f"the page repeats {field}")
    window.shot(pictures / f"{name}.png")
    found += _sizes(window, name, pictures)
    return found


def _headers(seen: Seen) -> list[str]:
    found = [
        f"{name} is {seen.headers.get(name)}" for name, value in HEADERS.items() if seen.headers.get(name) != value
    ]
    policy = seen.headers.get("content-security-policy", "").split("; ")
    found += [f"the policy has no {directive}" for directive in POLICY if directive not in policy]
    if any("unsafe" in directive or "http" in directive or "*" in directive for directive in policy):
        found.append(f"the policy allows too much: {policy}")
    return found


def _sizes(window: ChromiumWindow, name: str, pictures: Path) -> list[str]:
    page, found = window.page, []
    before = page.viewport_size or NARROW
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        contrast = page.evaluate(_CONTRAST)
        if contrast < ENHANCED:
            found.append(f"contrast in {scheme} is {contrast:.1f}")
    window.shot(pictures / f"{name}-dark.png")
    page.emulate_media(color_scheme="light")
    page.evaluate("() => { document.documentElement.style.fontSize = '200%'; }")
    if (beyond := page.evaluate(_OVERFLOW)) > 0:
        found.append(f"at twice the size of text, {beyond} pixels lie beyond the edge")
    page.evaluate("() => { document.documentElement.style.fontSize = ''; }")
    page.set_viewport_size(NARROW)
    if (beyond := page.evaluate(_OVERFLOW)) > 0:
        found.append(f"at 320 pixels, {beyond} lie beyond the edge")
    window.shot(pictures / f"{name}-narrow.png")
    page.set_viewport_size(before)
    return found
