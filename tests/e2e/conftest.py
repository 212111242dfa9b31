"""Deployments for the tests of the whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.aws.assembly import Assembly
from tests.e2e.deployment import Deployed, deployment


@pytest.fixture(scope="session")
def deployed(assembly: Assembly) -> Iterator[Deployed]:
    """A deployment without a Wise secret: the first test says what happens then."""
    with deployment(assembly) as made:
        yield made


@pytest.fixture(scope="session")
def with_secret(deployed: Deployed) -> Deployed:
    deployed.create_secret()
    return deployed
