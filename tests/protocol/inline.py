"""A pool of workers that works at once, in the thread of whoever submits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self


class InlinePool:
    """In place of `ThreadPoolExecutor`. What is submitted is done when `submit` returns; a kill gets out of it."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def submit(self, do: Callable[..., Any], *arguments: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(do(*arguments, **more))
        except Exception as error:  # noqa: BLE001 - the pool's own contract
            future.set_exception(error)
        return future
