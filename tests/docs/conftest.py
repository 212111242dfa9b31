"""One deployment in the process, as the handlers' stories have it."""

from __future__ import annotations

from tests.handlers.conftest import aws, clock, deployed, deployment, grant_id, running

__all__ = ["aws", "clock", "deployed", "deployment", "grant_id", "running"]
