"""What the demo and the tests ask of a browser, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seen:
    """The page on which the browser has come to rest, after all redirects."""

    url: str = field(repr=False)
    """It may hold what must go no further."""
    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name."""
    title: str
    heading: str
    """The text of the ``h1``."""


class Window(Protocol):
    """One browser window with cookies of its own."""

    def open(self, url: str) -> Seen:
        """Go to an address, and wherever it leads."""
        ...

    def press(self, button: str, **filled: str) -> Seen:
        """Fill in fields by their names, press the button of this id, and go wherever that leads."""
        ...

    def shot(self, path: Path) -> bool:
        """Put a picture of the page into a PNG file; False where there are no pictures."""
        ...
