"""Both kinds of window see the same, and the partner's site that they visit confirms for its own users only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.aws.signed import Answer
from local.browser.chromium import NAMES, VARIABLE, find, window
from local.browser.plain import PlainWindow
from local.browser.window import Window
from local.demo.site import BACK, Site, site
from local.wise.certificates import issue_identity


@dataclass
class Rotator:
    """In the rotator's place: a link leads straight back to the return URL, as if Wise had asked nothing."""

    started: list[str] = field(default_factory=list)
    confirmed: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200

    def call(self, method: str, grant_id: str, rest: str = "", **more: Any) -> Answer:
        assert method == "POST"
        if rest == "/link":
            self.started.append(grant_id)
            url = f"{more['json_body']['return_url']}?link_id=fixture-link-id&state=fixture-state"
            return Answer(201, {}, json.dumps({"authorization_url": url}).encode())
        self.confirmed.append((grant_id, rest))
        return Answer(self.status, {}, b"{}")


@pytest.fixture
def rotator() -> Rotator:
    return Rotator()


@pytest.fixture
def shop(rotator: Rotator) -> Iterator[Site]:
    with site() as opened:
        opened.service = rotator  # type: ignore[assignment]
        yield opened


@pytest.fixture(params=["plain", pytest.param("chromium", marks=pytest.mark.browser)])
def shown(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Window]:
    if request.param == "plain":
        yield plain(tmp_path)
    else:
        with window(request.getfixturevalue("browser")) as opened:
            yield opened


def plain(directory: Path) -> PlainWindow:
    ca_file = directory / "ca.pem"
    ca_file.write_bytes(issue_identity().ca_pem)
    return PlainWindow(ca_file)


def test_a_user_who_is_signed_in_is_connected(shop: Site, rotator: Rotator, shown: Window, tmp_path: Path) -> None:
    seen = shown.open(shop.account_of("anna"))
    assert (seen.status, seen.title, seen.heading) == (200, "Your account - acme", "Your account")
    assert seen.headers["cache-control"] == "no-store"
    seen = shown.press("connect")
    assert (seen.status, seen.heading) == (200, "Your Wise account is connected")
    assert rotator.started == ["anna"]
    assert rotator.confirmed == [("anna", "/link/fixture-link-id/confirm")]
    picture = tmp_path / "deep" / "page.png"
    assert shown.shot(picture) == picture.exists()


@pytest.mark.parametrize("signed_in", [False, True])
def test_whoever_did_not_start_it_is_not_connected(
    shop: Site, rotator: Rotator, shown: Window, *, signed_in: bool
) -> None:
    if signed_in:
        shown.open(shop.account_of("vera"))
    seen = shown.open(f"{shop.url}{BACK}?link_id=fixture-link-id")
    assert (seen.status, seen.heading) == (403, "This link is not yours")
    assert rotator.confirmed == []
    assert shop.link_ids == ["fixture-link-id"]


def test_a_refused_confirmation_is_said(shop: Site, rotator: Rotator, shown: Window) -> None:
    rotator.status = 410
    shown.open(shop.account_of("anna"))
    seen = shown.press("connect")
    assert (seen.status, seen.heading) == (502, "Your Wise account is not connected")


def test_nothing_can_be_pressed_before_a_page_is_open(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        plain(tmp_path).press("connect")


# --- which browser


def program(directory: Path, name: str) -> str:
    made = directory / name
    made.write_text("#!/bin/sh\n", encoding="utf-8")
    made.chmod(0o755)
    return str(made)


def test_the_browser_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find() is None
    for name in reversed(NAMES):
        made = program(tmp_path, name)
        assert find() == made


def test_a_variable_names_another_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, NAMES[0])
    monkeypatch.setenv(VARIABLE, program(tmp_path, "my-browser"))
    assert find() == str(tmp_path / "my-browser")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    assert find() is None, "a wrong name is no reason to take another browser"
