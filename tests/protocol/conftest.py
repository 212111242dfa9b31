"""What the explorer needs of every test in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.inline import InlinePool
from token_rotator.service import refresh_due


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count no lines here: other tests cover them.

    It would double the time, and what counts them takes one greenlet's calls for another's.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True, scope="module")
def inline_pool() -> Iterator[None]:
    """A sweep works on its one grant in the thread that called it: who runs when is the explorer's choice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh_due, "ThreadPoolExecutor", InlinePool)
        yield
