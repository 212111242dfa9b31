"""A topic in memory."""

from __future__ import annotations

from token_rotator.domain.errors import PublishRefused, PublishUnknown
from token_rotator.domain.grant import Alert, GrantKey


class InMemoryAlerts:
    """`AlertPublisher`. `published` is what was taken, `keys` says for which grant each was.

    `script` is what the next publishes do: "refuse", "lose" (taken, answer lost), "drop" (not taken, nobody knows) or
    "ok".
    """

    def __init__(self) -> None:
        self.published: list[Alert] = []
        self.keys: list[GrantKey | None] = []
        self.script: list[str] = []

    def publish(self, key: GrantKey | None, alert: Alert) -> None:
        plan = self.script.pop(0) if self.script else "ok"
        if plan == "refuse":
            raise PublishRefused("injected")
        if plan == "drop":
            raise PublishUnknown("injected")
        self.keys.append(key)
        self.published.append(alert)
        if plan == "lose":
            raise PublishUnknown("injected")
