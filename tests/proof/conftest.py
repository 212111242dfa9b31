"""The deployment that the handlers' tests run on, for histories of it."""

from __future__ import annotations

from tests.handlers.conftest import aws, clock, deployed, deployment, grant_id, running

__all__ = ["aws", "clock", "deployed", "deployment", "grant_id", "running"]
