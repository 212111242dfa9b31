"""A stack on an emulator that enforces policies and signatures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.aws import deploy
from local.aws.assembly import Assembly
from local.aws.ministack import ministack
from local.aws.stack import Stack


@pytest.fixture(scope="module")
def stack(assembly: Assembly) -> Iterator[Stack]:
    """The whole stack, deployed the short way."""
    with ministack(auth=True) as emulator:
        yield deploy.directly(emulator, assembly)
