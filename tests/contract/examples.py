"""Grants to store, instants to store them at, and what a store may meet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from hypothesis import strategies as st

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


NO_ANSWERS = [
    ReadTimeoutError(endpoint_url="http://127.0.0.1:1"),
    ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"),
    EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
    NoCredentialsError(),
]
"""What the SDK raises where nobody knows what became of a call."""

instants = st.integers(min_value=0, max_value=4_102_444_800_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
texts = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=200)
counts = st.integers(min_value=0, max_value=2**53)
alerts = st.builds(
    Alert,
    incident_id=texts,
    kind=st.sampled_from(AlertKind),
    reason=texts,
    raised_at=instants,
    attempt_id=st.none() | texts,
    trace_id=st.none() | texts,
    claimed_until=st.none() | instants,
    published_at=st.none() | instants,
    failures=counts,
    remind_at=st.none() | instants,
    reminder=st.booleans(),
    ends=st.lists(texts, max_size=3).map(tuple),
)
