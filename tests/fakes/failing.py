"""Calls that fail when a test says so."""

from __future__ import annotations

from typing import ClassVar

from token_rotator.domain.errors import RotatorError, StoreUnavailable


class Failing:
    """What each call of a fake begins and ends with. `calls` names them, where the fake does."""

    error: ClassVar[type[RotatorError]] = StoreUnavailable

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: list[str] = []
        """What the next calls do: "before" (fail without effect), "after" (take effect, then fail) or "ok"."""

    def _begin(self, *call: str) -> str:
        self.calls.extend(call)
        plan = self.failures.pop(0) if self.failures else "ok"
        if plan == "before":
            raise self.error("injected")
        return plan

    def _end(self, plan: str) -> None:
        if plan == "after":
            raise self.error("injected")
