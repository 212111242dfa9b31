"""Faults that strike at random, the same for the same seed.

Whether a request is struck, and by what, depends on the seed, the user whose token it presents and how many such
requests of that user came before: not on what other users do at the same time.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

from local.wise import answers
from local.wise.faults import Delivery, Endpoint, Fault
from local.wise.settings import BadValueError, Json, number, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAOS = "chaos:"
"""How the ids of these faults begin in the truth log; the kind follows."""
_HTML = "<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


class ChaosKind(StrEnum):
    """What strikes."""

    ERROR_BEFORE = "error_before"
    """5xx of Wise's own; nothing was carried out."""
    ERROR_AFTER = "error_after"
    """5xx of Wise's own, although it was carried out."""
    SLOW = "slow"
    """Carried out, and answered when the client has given up."""
    DROP_BEFORE = "drop_before"
    """The connection is lost; nothing was carried out."""
    DROP_AFTER = "drop_after"
    """Carried out, and the connection is lost instead of an answer."""
    LATE = "late"
    """The connection is lost or the client gives up; carried out after that."""
    THROTTLED = "throttled"
    """429 with ``Retry-After``."""
    THROTTLED_BARE = "throttled_bare"
    """429 without it."""
    PROXY_BEFORE = "proxy_before"
    """502 or 504 with HTML of a proxy; nothing was carried out."""
    PROXY_AFTER = "proxy_after"
    """The same, although it was carried out."""


_CARRIED_OUT = (ChaosKind.ERROR_AFTER, ChaosKind.DROP_AFTER, ChaosKind.LATE, ChaosKind.PROXY_AFTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosSettings:
    """How often what strikes. Raises ``BadValueError`` naming the field that is wrong."""

    share: float = 0.0
    """Of the requests to the token endpoint, 0 to 1; a tenth is a hard day. 0: none."""
    me_share: float = 0.0
    """Of the uses of access tokens; only by what carries nothing out twice or late."""
    seed: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    """How often a kind is drawn in relation to the others; 1 for those that are not named, 0: never."""
    latency_s: float = 0.0
    """A request that nothing strikes takes up to this long, partly before and partly after it is carried out."""
    client_deadline_s: float = 5.0
    """When the client gives up."""
    late_within_s: float = 8.0
    """How long after its arrival a request may be carried out at the latest; more than ``client_deadline_s``."""
    retry_after_s: int = 2
    """The largest ``Retry-After``; the smallest is 1."""

    def __post_init__(self) -> None:
        for name in ("share", "me_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadValueError(f"{name}: must be from 0 to 1")
        for name, weight in self.weights.items():
            if name not in list(ChaosKind):
                raise BadValueError(f"weights: {name} is none of {', '.join(ChaosKind)}")
            if weight < 0:
                raise BadValueError("weights: must not be negative")
        if self.latency_s < 0:
            raise BadValueError("latency_s: must not be negative")
        if self.client_deadline_s <= 0:
            raise BadValueError("client_deadline_s: must be more than 0")
        if self.late_within_s <= self.client_deadline_s:
            raise BadValueError("late_within_s: must be more than client_deadline_s")
        if self.retry_after_s < 1:
            raise BadValueError("retry_after_s: must be at least 1")

    def changed(self, changes: Mapping[str, Json]) -> ChaosSettings:
        """A copy with some fields replaced by values as JSON has them. Raises ``BadValueError``."""
        values: dict[str, object] = {}
        for name, value in changes.items():
            if name not in _NAMES:
                raise BadValueError(f"{name}: no such field")
            values[name] = _read(name, value)
        return replace(self, **values)  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Json]:
        """All fields."""
        return {**asdict(self), "weights": dict(self.weights)}


_NAMES = tuple(f.name for f in fields(ChaosSettings))
_WHOLE = ("seed", "retry_after_s")


def _read(name: str, value: Json) -> object:
    if name == "weights":
        if not isinstance(value, dict):
            raise BadValueError("weights: must be an object")
        return {kind: number("weights", weight) for kind, weight in value.items()}
    return whole_number(name, value) if name in _WHOLE else number(name, value)


class Chaos:
    """Draws the faults."""

    def __init__(self, settings: ChaosSettings | None = None) -> None:
        self._lock = threading.Lock()
        self._settings = settings or ChaosSettings()
        self._seen: Counter[tuple[Endpoint, str]] = Counter()

    @property
    def settings(self) -> ChaosSettings:
        """Those in force."""
        with self._lock:
            return self._settings

    def change(self, changes: Mapping[str, Json]) -> ChaosSettings:
        """Change some settings from the next request on; ``BadValueError`` names the one that is wrong."""
        with self._lock:
            self._settings = self._settings.changed(changes)
            return self._settings

    def draw(self, endpoint: Endpoint, user: str | None) -> Fault | None:
        """What strikes the next request of this user, if anything. A fault without id only takes its time."""
        with self._lock:
            settings = self._settings
            counted = (endpoint, user or "")
            self._seen[counted] += 1
            turn = self._seen[counted]
        share = settings.share if endpoint is Endpoint.TOKEN else settings.me_share
        if share == 0 and settings.latency_s == 0:
            return None
        random = Random(f"{settings.seed}|{endpoint}|{user or ''}|{turn}")  # noqa: S311  (repeatable is the point)
        if random.random() < share:
            kinds = list(ChaosKind) if endpoint is Endpoint.TOKEN else [k for k in ChaosKind if k not in _CARRIED_OUT]
            weights = [settings.weights.get(kind, 1.0) for kind in kinds]
            if any(weights):
                [kind] = random.choices(kinds, weights)
                return replace(_fault(kind, settings, random), endpoint=endpoint, id=CHAOS + kind)
        before_s, after_s = (random.uniform(0, settings.latency_s / 2) for _ in range(2))
        return Fault(endpoint=endpoint, before_s=before_s, after_s=after_s)


def _fault(kind: ChaosKind, settings: ChaosSettings, random: Random) -> Fault:
    loss = random.choice((Delivery.RESET, Delivery.CLOSE))
    deadline_s, late_s = settings.client_deadline_s, settings.late_within_s
    match kind:
        case ChaosKind.ERROR_BEFORE | ChaosKind.ERROR_AFTER:
            status = random.choice((500, 503))
            body = answers.server_error(status).body
            return Fault(carry_out=kind is ChaosKind.ERROR_AFTER, status=status, body=body)
        case ChaosKind.SLOW:
            return Fault(after_s=random.uniform(deadline_s, late_s))
        case ChaosKind.DROP_BEFORE:
            return Fault(carry_out=False, delivery=loss)
        case ChaosKind.DROP_AFTER:
            return Fault(delivery=loss)
        case ChaosKind.LATE if random.random() < 0.5:  # noqa: PLR2004  (either way of being late)
            return Fault(hang_up_first=True, before_s=random.uniform(0, late_s), delivery=loss)
        case ChaosKind.LATE:
            return Fault(before_s=random.uniform(deadline_s, late_s))
        case ChaosKind.THROTTLED | ChaosKind.THROTTLED_BARE:
            retry_after_s = random.randint(1, settings.retry_after_s) if kind is ChaosKind.THROTTLED else None
            refused = answers.throttled(retry_after_s, "{}")
            return Fault(carry_out=False, status=refused.status, headers=refused.headers, body=refused.body)
        case ChaosKind.PROXY_BEFORE | ChaosKind.PROXY_AFTER:
            status = random.choice((502, 504))
            return Fault(carry_out=kind is ChaosKind.PROXY_AFTER, status=status, body=_HTML, from_edge=True)
