"""A guard of the protocol: where it stands, what the code is without it, and the tests that should notice."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class NoLongerFitsError(RuntimeError):
    """The code has changed under a guard: its text is not there, or not once, or the edit leaves no program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One edit that takes one guard out.

    `says` is what the guard is for. `old` occurs exactly once in the file at `path`. `tests` are pytest's node ids or
    paths, cheap ones first. A test notices by an assertion; `raises` names other exceptions that are as good, since
    they are the harm itself.
    """

    name: str
    says: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    raises: tuple[str, ...] = ()

    def without(self, root: Path) -> tuple[str, str]:
        """Give the file's text with the guard and without. Raises `NoLongerFitsError`."""
        file = root / self.path
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if text.count(self.old) != 1:
            raise NoLongerFitsError(f"{self.name} no longer fits: its text occurs {text.count(self.old)} times")
        mutant = text.replace(self.old, self.new)
        try:
            compile(mutant, self.path, "exec")
        except SyntaxError as error:
            raise NoLongerFitsError(f"{self.name} no longer fits: what it leaves is no program: {error}") from None
        return text, mutant

    def diff(self, root: Path) -> str:
        """Give the edit as a unified diff. Raises `NoLongerFitsError`."""
        text, mutant = (version.splitlines(keepends=True) for version in self.without(root))
        return "".join(difflib.unified_diff(text, mutant, f"a/{self.path}", f"b/{self.path}", n=2))

    def take_out(self, root: Path) -> None:
        """Edit the file in a copy. Raises `NoLongerFitsError`."""
        _, mutant = self.without(root)
        file = root / self.path
        file.write_text(mutant, encoding="utf-8")
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):  # same size, same second: still valid
            compiled.unlink()
