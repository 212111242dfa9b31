"""What tests of several folders start from: hypothesis profiles, one synthesis per run, an emulator per worker."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import hypothesis
import pytest

from local.aws import cdk
from local.aws.assembly import Assembly
from local.aws.ministack import MiniStack, ministack
from local.wise.settings import WiseSettings
from tests.protocol.summary import pytest_terminal_summary  # noqa: F401 - only this folder's hooks are asked at the end

hypothesis.settings.register_profile("default", deadline=None)
# The same examples each time: a failure in CI is a failure at the desk.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

PARTNERS = [
    {
        "name": "acme",
        "principal": "000000000000",
        "external_id": "fixture-external-id-acme",
        "tenants": ["acme"],
        "may": ["read", "manage", "link"],
        "return_urls": ["https://acme.example.com/linked"],
    },
    {
        "name": "globex",
        "principal": "000000000000",
        "external_id": "fixture-external-id-globex",
        "tenants": ["globex"],
        "may": ["read"],
    },
]
"""The partner services of `assembly`: acme reads, manages and links, globex reads."""


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Assembly:
    """The app as `cdk synth` writes it, with a bundle for this machine: made once for all workers of a run."""
    root = tmp_path_factory.getbasetemp()
    shared = root if worker_id == "master" else root.parent
    directory = shared / "assembly"
    with (shared / "assembly.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "manifest.json").exists():
            cdk.synthesize(directory, {"partners": PARTNERS, "wise_client_id": WiseSettings().client_id})
    return Assembly(directory)


@pytest.fixture(scope="session")
def open_aws() -> Iterator[MiniStack]:
    """An emulator for the worker's whole run that checks no signature and no policy. Nothing is deployed to it."""
    with ministack(auth=False) as emulator:
        yield emulator
