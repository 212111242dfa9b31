"""A stage for each story."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stories.stage import Story, played


@pytest.fixture
def story() -> Iterator[Story]:
    with played() as ready:
        yield ready
