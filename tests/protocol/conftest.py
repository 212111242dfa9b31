"""What the explorer needs of every test in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.inline import InlinePool
from token_rotator.service import refresh_due


@pytest.fixture(autouse=True, scope="module")
def inline_pool() -> Iterator[None]:
    """A sweep works on its one grant in the thread that called it: who runs when is the explorer's choice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh_due, "ThreadPoolExecutor", InlinePool)
        yield
