"""One value that many threads use and one at a time makes anew."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from token_rotator.domain.errors import RotatorError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class SharedValue(Generic[T]):
    """Keeps a value for as long as it is usable.

    `make` is given the value there was, and may do I/O: nobody who can use the old value waits for it, and who waited
    for a failure takes it for an answer, since a queue of slow failures would outlast every lease. `usable` is asked
    under a lock, and may count.
    """

    def __init__(self, make: Callable[[T | None], T], usable: Callable[[T], bool]) -> None:
        self._make = make
        self._usable = usable
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._value: T | None = None
        self._stale = False
        self._turn = 0
        self._failures = 0
        self._failure: RotatorError | None = None

    def get(self) -> T:
        """Give the value, made anew where it has to be. Raises what `make` raises, if it is a `RotatorError`."""
        value = self._kept()
        if value is not None:
            return value
        failures = self._failures
        with self._making:
            while True:
                value = self._kept()
                if value is not None:
                    return value
                if self._failure is not None and self._failures != failures:
                    raise self._failure
                value = self._made()
                if value is not None:
                    return value

    def put(self, value: T) -> None:
        """Use this value from now on, also instead of one that is being made."""
        with self._lock:
            self._value, self._stale, self._turn = value, False, self._turn + 1

    def last(self) -> T | None:
        """Give the value there is, usable or not. Does no I/O."""
        with self._lock:
            return self._value

    def forget(self) -> None:
        """Make it anew at the next use, as if there had never been one."""
        with self._lock:
            self._stale, self._turn = True, self._turn + 1

    def _kept(self) -> T | None:
        with self._lock:
            if self._value is not None and not self._stale and self._usable(self._value):
                return self._value
            return None

    def _made(self) -> T | None:
        """Make it; `None` if another was put or it was to be forgotten meanwhile."""
        with self._lock:
            before, turn = None if self._stale else self._value, self._turn
        try:
            made = self._make(before)
        except RotatorError as error:
            self._failures, self._failure = self._failures + 1, error
            raise
        with self._lock:
            if self._turn != turn:
                return None
            self._value, self._stale = made, False
            self._usable(made)
            return made
