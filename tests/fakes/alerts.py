"""A topic in memory."""

from __future__ import annotations

from token_rotator.domain.errors import PublishRefused, PublishUnknown
from token_rotator.domain.grant import Alert, GrantKey


class InMemoryAlerts:
    """`AlertPublisher`. `script`: what the next publishes do: "refuse", "lose" (taken, answer lost) or "ok"."""

    def __init__(self) -> None:
        self.published: list[Alert] = []
        self.script: list[str] = []

    def publish(self, key: GrantKey | None, alert: Alert) -> None:
        plan = self.script.pop(0) if self.script else "ok"
        if plan == "refuse":
            raise PublishRefused("injected")
        self.published.append(alert)
        if plan == "lose":
            raise PublishUnknown("injected")
