"""What can be made to go wrong, and for whom."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from local.wise.settings import BadValueError, Json, number, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Endpoint(StrEnum):
    """Where a fault applies."""

    TOKEN = "token"
    ME = "me"
    SIGNUP = "signup"
    PROFILES = "profiles"
    PLAYGROUND = "playground"
    """Where a partner tries certificate and token (docs.wise.com/guides/developer/auth-and-security/mtls)."""
    EXISTS = "exists"
    """Whether an e-mail address has an account."""
    CLAIM = "claim"
    """A code with which a user takes over an account that the partner made."""
    SUBSCRIPTIONS = "subscriptions"
    """The application's webhooks."""
    AUTHORIZE = "authorize"
    """The web host's page; nothing strikes there."""
    ANY = "any"
    """Of the API."""


class Delivery(StrEnum):
    """How an answer goes to the client, or does not."""

    WHOLE = "whole"
    DRIP_HEADERS = "drip_headers"
    """Status line and headers one byte at a time, then the body at once."""
    DRIP_BODY = "drip_body"
    """Headers at once, then the body one byte at a time."""
    ENDLESS_BODY = "endless_body"
    """A body that begins like the answer and goes on until the client hangs up."""
    TRUNCATED_BODY = "truncated_body"
    """Half of the body that ``Content-Length`` announces, then the end of the connection."""
    WITHHOLD = "withhold"
    """Nothing, until released."""
    RESET = "reset"
    """No answer, the connection is reset (RST)."""
    CLOSE = "close"
    """No answer, the connection is closed (FIN)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with the next matching requests.

    In the order of what happens: the request is read; the connection is lost (``hang_up_first``);
    ``before_s`` pass; the request is carried out, or not (``carry_out``); ``after_s`` pass; the answer, the
    real one or that of ``status``, ``headers`` and ``body``, is given as ``delivery`` says.
    """

    id: str = ""
    """Given by the emulator if it is empty."""
    endpoint: Endpoint = Endpoint.TOKEN
    user: str | None = None
    """Only requests with a token of this user, dead or alive."""
    times: int | None = 1
    """How many requests; none for all of them until the fault is cleared."""
    for_s: float | None = None
    """For how many seconds from now on; none for no limit."""
    hang_up_first: bool = False
    """Lose the connection as soon as the request is read, by a close or, with ``reset``, a reset."""
    before_s: float = 0.0
    """A client that gives up meanwhile changes nothing: what is to be carried out is carried out late."""
    carry_out: bool = True
    after_s: float = 0.0
    status: int | None = None
    """Answer this in place of the real answer, with ``body``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the answer, or replacing its own."""
    body: str = field(default="", repr=False)
    from_edge: bool = False
    """The answer is not Wise's own but that of a proxy before it: HTML by default, no ``x-trace-id``, no
    correlation id, no cache headers."""
    patch: Mapping[str, Json] = field(default_factory=dict, repr=False)
    """Fields to put into the real answer's JSON, or, where null, to leave out of it."""
    delivery: Delivery = Delivery.WHOLE
    drip_s: float = 0.05
    """Pause after each byte, or each piece of an endless body."""

    def __post_init__(self) -> None:
        for name in ("before_s", "after_s", "drip_s"):
            if getattr(self, name) < 0:
                raise BadValueError(f"{name}: must not be negative")
        for name in ("times", "for_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise BadValueError(f"{name}: must be more than 0, or null")
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004
            raise BadValueError("status: must be from 200 to 599")
        answers_nothing = self.hang_up_first or self.delivery in _NO_ANSWER
        if self.status is None and not self.carry_out and not answers_nothing:
            raise BadValueError("status: must be given for an answer to a request that is not carried out")
        texts = [text for item in self.headers.items() for text in item]
        if not all(text.isascii() and text.isprintable() for text in texts):
            raise BadValueError("headers: must be printable ASCII")

    @classmethod
    def from_json(cls, values: Mapping[str, Json]) -> Fault:
        """Raises ``BadValueError`` naming the field that is unknown, of a wrong type or out of range."""
        parsed: dict[str, object] = {}
        for name, value in values.items():
            reader = _READERS.get(name)
            if reader is None:
                raise BadValueError(f"{name}: no such field")
            parsed[name] = reader(name, value)
        return cls(**parsed)  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Json]:
        """All fields, for ``from_json``."""
        return {**asdict(self), "headers": dict(self.headers), "patch": dict(self.patch)}


_NO_ANSWER = (Delivery.RESET, Delivery.CLOSE)


class Faults:
    """The faults that wait for their requests, first come first applied."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._ids = itertools.count(1)
        self._waiting: list[tuple[Fault, float | None]] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault last in line; returns it with its id. ``BadValueError`` for an id that is in use."""
        with self._lock:
            self._forget_the_past()
            added = fault if fault.id else replace(fault, id=f"fault-{next(self._ids)}")
            if any(waiting.id == added.id for waiting, _ in self._waiting):
                raise BadValueError("id: is in use")
            until = None if fault.for_s is None else self._monotonic() + fault.for_s
            self._waiting.append((added, until))
            return added

    def take(self, endpoint: Endpoint, user: str | None) -> Fault | None:
        """The fault for this request, if any, counted down."""
        with self._lock:
            self._forget_the_past()
            for index, (fault, until) in enumerate(self._waiting):
                if fault.endpoint not in (Endpoint.ANY, endpoint) or fault.user not in (None, user):
                    continue
                if fault.times is not None:
                    left = replace(fault, times=fault.times - 1) if fault.times > 1 else None
                    self._waiting[index : index + 1] = [] if left is None else [(left, until)]
                return fault
            return None

    def waiting(self) -> list[Fault]:
        """What is still to be applied, ``times`` counted down."""
        with self._lock:
            self._forget_the_past()
            return [fault for fault, _ in self._waiting]

    def clear(self, fault_id: str | None = None) -> int:
        """Forget one fault, or all; returns how many."""
        with self._lock:
            before = len(self._waiting)
            self._waiting = [item for item in self._waiting if fault_id not in (None, item[0].id)]
            return before - len(self._waiting)

    def _forget_the_past(self) -> None:
        now = self._monotonic()
        self._waiting = [(fault, until) for fault, until in self._waiting if until is None or now < until]


@dataclass(eq=False, slots=True)
class _Held:
    user: str | None
    released: threading.Event = field(default_factory=threading.Event)
    deliver: bool = True


class Withheld:
    """Answers that were given and are being held back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[_Held] = []

    def hold(self, user: str | None, keep_waiting: Callable[[], bool], poll_s: float = 0.03) -> bool:
        """Wait until released; whether to deliver. False too as soon as ``keep_waiting`` says no."""
        held = _Held(user)
        with self._lock:
            self._held.append(held)
        try:
            while not held.released.wait(poll_s):
                if not keep_waiting():
                    return False
            return held.deliver
        finally:
            with self._lock:
                if held in self._held:
                    self._held.remove(held)

    def release(self, user: str | None = None, *, deliver: bool = True) -> int:
        """Let the answers of a user go, or all; without ``deliver`` connections close. Returns how many."""
        with self._lock:
            going = [held for held in self._held if user in (None, held.user)]
            self._held = [held for held in self._held if held not in going]
            for held in going:
                held.deliver = deliver
                held.released.set()
            return len(going)

    def counts(self) -> dict[str, int]:
        """How many answers are held back, by user (empty name: no user was known)."""
        with self._lock:
            return dict(Counter(held.user or "" for held in self._held))


def _text(name: str, value: Json) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"{name}: must be a string")
    return value


def _truth_value(name: str, value: Json) -> bool:
    if not isinstance(value, bool):
        raise BadValueError(f"{name}: must be true or false")
    return value


def _object(name: str, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise BadValueError(f"{name}: must be an object")
    return value


def _texts(name: str, value: Json) -> dict[str, str]:
    return {key: _text(name, item) for key, item in _object(name, value).items()}


def _choice(choices: type[StrEnum]) -> Callable[[str, Json], StrEnum]:
    def read(name: str, value: Json) -> StrEnum:
        if value not in list(choices):
            raise BadValueError(f"{name}: must be one of {', '.join(choices)}")
        return choices(str(value))

    return read


def _or_none(reader: Callable[[str, Json], object]) -> Callable[[str, Json], object]:
    return lambda name, value: None if value is None else reader(name, value)


_READERS: dict[str, Callable[[str, Json], object]] = {
    "id": _text,
    "endpoint": _choice(Endpoint),
    "user": _or_none(_text),
    "times": _or_none(whole_number),
    "for_s": _or_none(number),
    "hang_up_first": _truth_value,
    "before_s": number,
    "carry_out": _truth_value,
    "after_s": number,
    "status": _or_none(whole_number),
    "headers": _texts,
    "body": _text,
    "from_edge": _truth_value,
    "patch": _object,
    "delivery": _choice(Delivery),
    "drip_s": number,
}
