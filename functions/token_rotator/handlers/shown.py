"""What may be shown of a grant: everything but tokens, codes and their sealed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from token_rotator.domain.instants import show_instant

if TYPE_CHECKING:
    from token_rotator.domain.grant import Grant

_INSTANTS = (
    "issued_at",
    "expires_at",
    "refresh_expires_at",
    "registration_spent_at",
    "refresh_at",
    "due_at",
    "last_attempt_at",
    "created_at",
)


def show_grant(grant: Grant) -> dict[str, Any]:
    """Give a grant's secret-free facts, as the API answers them."""
    shown: dict[str, Any] = {
        "tenant": grant.key.tenant,
        "grant_id": grant.key.grant_id,
        "phase": grant.phase.value,
        "version": grant.version,
        "scope": grant.scope,
        "profile_id": grant.profile_id,
        "wise_user_id": grant.wise_user_id,
        "has_access_token": grant.access_token is not None,
        "has_registration_code": grant.registration is not None,
        "being_refreshed": grant.attempt_id is not None,
        "in_doubt": grant.in_doubt is not None,
        "failures": grant.failures,
        "last_error": grant.last_error,
    }
    for name in _INSTANTS:
        instant = getattr(grant, name)
        shown[name] = None if instant is None else show_instant(instant)
    alert = grant.alert
    shown["alert"] = (
        None
        if alert is None
        else {
            "incident_id": alert.incident_id,
            "kind": alert.kind.value,
            "reason": alert.reason,
            "raised_at": show_instant(alert.raised_at),
            "published_at": None if alert.published_at is None else show_instant(alert.published_at),
            "reminder": alert.reminder,
            "ends": list(alert.ends),
        }
    )
    return shown
