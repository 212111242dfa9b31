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
        self._failures = 0
        self._failure: RotatorError | None = None

    def get(self) -> T:
        """Give the value, made anew where it has to be. Raises what `make` raises, if it is a `RotatorError`."""
        value = self._kept()
        if value is not None:
            return value
        failures = self._failures
        with self._making:
            value = self._kept()
            if value is not None:
                return value
            if self._failure is not None and self._failures != failures:
                raise self._failure
            try:
                made = self._make(self._value)
            except RotatorError as error:
                self._failures, self._failure = self._failures + 1, error
                raise
            with self._lock:
                self._value, self._stale = made, False
                self._usable(made)
            return made

    def last(self) -> T | None:
        """Give the value there is, usable or not. Does no I/O."""
        with self._lock:
            return self._value

    def forget(self) -> None:
        """Make it anew at the next use."""
        with self._lock:
            self._stale = True

    def _kept(self) -> T | None:
        with self._lock:
            if self._value is not None and not self._stale and self._usable(self._value):
                return self._value
            return None
