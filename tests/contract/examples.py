"""Grants to store, and instants to store them at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from token_rotator.domain.grant import Alert, AlertKind, Grant, GrantKey, Phase
from token_rotator.domain.lease import Lease
from token_rotator.domain.tokens import Sealed

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
KEY = GrantKey("acme", "anna")
LEASE = Lease("attempt-mine", NOW + timedelta(seconds=18))


def an_alert(**changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "incident_id": "incident-1",
        "kind": AlertKind.REAUTHORIZATION_REQUIRED,
        "reason": "invalid_grant",
        "raised_at": NOW - HOUR,
        "attempt_id": "attempt-earlier",
        "trace_id": "trace-1",
        "claimed_until": NOW - HOUR / 2,
        "published_at": None,
        "failures": 2,
    }
    return Alert(**fields | changes)


def a_grant(key: GrantKey = KEY, **changes: Any) -> Grant:
    """A healthy grant that is due at `NOW`."""
    fields: dict[str, Any] = {
        "key": key,
        "phase": Phase.ACTIVE,
        "refresh_token": Sealed(b"sealed refresh token"),
        "access_token": Sealed(b"sealed access token"),
        "version": 1_772_000_000_000,
        "issued_at": NOW - 6 * HOUR,
        "expires_at": NOW + 6 * HOUR,
        "refresh_at": NOW,
        "due_at": NOW,
        "created_at": NOW - 48 * HOUR,
        "scope": "transfers",
    }
    return Grant(**fields | changes)
