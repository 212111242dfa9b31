"""What may be shown of a grant: everything but tokens, codes and their sealed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from token_rotator.domain.instants import show_instant
from token_rotator.domain.policy import NEVER

if TYPE_CHECKING:
    from token_rotator.domain.grant import Grant
    from token_rotator.domain.suspension import Suspension

_INSTANTS = (
    "issued_at",
    "expires_at",
    "refresh_expires_at",
    "registration_spent_at",
    "refresh_at",
    "due_at",
    "last_attempt_at",
    "created_at",
    "replace_at",
)


_OF_THE_APPLICATION = (
    "version",
    "scope",
    "has_access_token",
    "being_refreshed",
    "in_doubt",
    "failures",
    "last_error",
    "issued_at",
    "expires_at",
    "refresh_at",
    "due_at",
    "last_attempt_at",
    "created_at",
    "alert",
)


def show_suspension(order: Suspension) -> dict[str, Any]:
    """Give an operator's order, as the API answers it."""
    return {"since": show_instant(order.since), "by": order.by, "reason": order.reason}


def show_application(grant: Grant) -> dict[str, Any]:
    """Give the secret-free facts about our application's own token: those that such a token has."""
    shown = show_grant(grant)
    return {name: shown[name] for name in _OF_THE_APPLICATION}


def show_grant(grant: Grant) -> dict[str, Any]:
    """Give a grant's secret-free facts, as the API answers them."""
    shown: dict[str, Any] = {
        "tenant": grant.key.tenant,
        "grant_id": grant.key.grant_id,
        "kind": grant.kind.value,
        "phase": grant.phase.value,
        "version": grant.version,
        "scope": grant.scope,
        "profile_id": grant.profile_id,
        "wise_user_id": grant.wise_user_id,
        "unlisted": grant.unlisted,
        "has_access_token": grant.access_token is not None,
        "has_registration_code": grant.registration is not None,
        "being_refreshed": grant.attempt_id is not None,
        "in_doubt": grant.in_doubt is not None,
        "failures": grant.failures,
        "last_error": grant.last_error,
    }
    for name in _INSTANTS:
        instant = getattr(grant, name)
        shown[name] = None if instant is None or instant == NEVER else show_instant(instant)
    order = grant.suspension
    shown["suspension"] = None if order is None else show_suspension(order)
    shown["on_hold"] = None if grant.on_hold is None else show_suspension(grant.on_hold)
    shown["suspended_from"] = None if grant.suspended_from is None else grant.suspended_from.value
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
