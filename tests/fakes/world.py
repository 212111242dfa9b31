"""A clock that moves only when told, and ids that count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from token_rotator.domain.tokens import Secret

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Aware UTC; `sleep` moves it, and may wake somebody (`on_sleep`)."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now
        self.slept: list[timedelta] = []
        self.on_sleep = lambda: None

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def sleep(self, duration: timedelta) -> None:
        self.slept.append(duration)
        self.now += duration
        self.on_sleep()


class FakeIds:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"attempt-{self.count}"


class FakeTokens:
    """What `new_token` gives, in order; remembered."""

    def __init__(self) -> None:
        self.given: list[Secret] = []

    def __call__(self) -> Secret:
        self.given.append(Secret(f"fixture-{len(self.given) + 1:035}"))
        return self.given[-1]


class RecordingJournal:
    def __init__(self) -> None:
        self.events: list[object] = []

    def record(self, event: object) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[object]:
        return [event for event in self.events if isinstance(event, kind)]
