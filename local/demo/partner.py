"""A partner service as one would write it: it caches a token until `stable_until`, and follows `Retry-After`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local.aws.ministack import Credentials
    from local.aws.signed import Answer, Api
    from local.wise.control import SeededUser

_RETRIED: Final = frozenset({429, 503})
_PATIENCE_S: Final = 120
"""API Gateway ends a call after 29 seconds; the emulator does not, and may have twenty functions to start."""


def offered(user: SeededUser) -> dict[str, Any]:
    """What a partner sends to have a user's tokens adopted."""
    return {
        "refresh_token": user.refresh_token,
        "access_token": user.access_token,
        "issued_at": user.issued_at.isoformat(),
        "expires_at": user.expires_at.isoformat(),
        "refresh_expires_at": user.refresh_expires_at.isoformat(),
        "scope": user.scope,
    }


def hash_of(token: str) -> str:
    """Name a token as Wise's truth log does."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Served:
    """One token that the API handed out, without the token."""

    grant_id: str
    sha256: str
    version: int
    at_ms: int
    stable_until_ms: int


@dataclass(slots=True)
class Ledger:
    """Everything that was handed out to whom and when. Safe in threads."""

    served: list[Served] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, served: Served) -> None:
        """Keep one."""
        with self._lock:
            self.served.append(served)


class PartnerService:
    """One partner's caller, with its own role."""

    def __init__(self, api: Api, credentials: Credentials, tenant: str, wise: Wise, ledger: Ledger) -> None:
        self._api = api
        self._credentials = credentials
        self._tenant = tenant
        self._wise = wise
        self._ledger = ledger
        self._cache: dict[str, dict[str, Any]] = {}

    def call(self, method: str, grant_id: str, rest: str = "", **more: Any) -> Answer:
        """Send one signed request about a grant."""
        return self.of_tenant(method, f"/grants/{grant_id}{rest}", **more)

    def of_tenant(self, method: str, rest: str, **more: Any) -> Answer:
        """Send one signed request about the tenant."""
        return self.at(method, f"/v1/tenants/{self._tenant}{rest}", **more)

    def at(self, method: str, path: str, **more: Any) -> Answer:
        """Send one signed request to any path."""
        return self._api.call(method, path, credentials=self._credentials, timeout_s=_PATIENCE_S, **more)

    def fetch(self, grant_id: str, within_s: float = 60) -> dict[str, Any]:
        """Fetch an access token, asking again after `Retry-After` where the API says so."""
        deadline = time.monotonic() + within_s
        answer = self.call("GET", grant_id, "/access-token")
        while answer.status in _RETRIED and time.monotonic() < deadline:
            time.sleep(float(answer.headers.get("retry-after", "1")))
            answer = self.call("GET", grant_id, "/access-token")
        if answer.status != 200:  # noqa: PLR2004
            msg = f"GET {grant_id} was answered {answer.status}: {answer.body.decode()[:300]}"
            raise RuntimeError(msg)
        token: dict[str, Any] = answer.json()
        self._ledger.note(
            Served(
                grant_id,
                hash_of(token["access_token"]),
                token["version"],
                int(time.time() * 1000),
                _ms(token["stable_until"]),
            )
        )
        return token

    def use(self, grant_id: str) -> int:
        """Call Wise for the user, with the cached token or a new one. Gives Wise's status."""
        token = self._cache.get(grant_id)
        if token is None or time.time() * 1000 >= _ms(token["stable_until"]):
            token = self._cache[grant_id] = self.fetch(grant_id)
        return self._wise.me(token["access_token"])


def _ms(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp() * 1000)


class Wise:
    """Wise as a partner service sees it."""

    def __init__(self, url: str, ca_file: Path, certificate: Path | None = None) -> None:
        """`certificate` is a PEM file of the partner's own certificate and its key, where Wise demands one."""
        self.url = url
        self.ca_file = ca_file
        context = ssl.create_default_context(cafile=str(ca_file))
        if certificate is not None:
            context.load_cert_chain(certificate)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def me(self, access_token: str) -> int:
        """Call `GET /v1/me` with a token and give the status."""
        return self._status("/v1/me", access_token, None)

    def create_user(self, application_token: str, user: dict[str, str]) -> int:
        """Create a user with a registration code, as a partner does with an application token; give the status."""
        return self._status("/v1/user/signup/registration_code", application_token, user)

    def _status(self, path: str, token: str, body: dict[str, str] | None) -> int:
        request = urllib.request.Request(  # noqa: S310 - the emulator's own address
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=10) as answer:
                json.load(answer)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


class Readers:
    """Partner services that work in the background for as long as the story lasts."""

    def __init__(self, partner: PartnerService, grant_ids: list[str], count: int = 2) -> None:
        self._partner = partner
        self._grant_ids = grant_ids
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(count)]
        self.calls = 0
        self.troubles: list[str] = []

    def _work(self, number: int) -> None:
        turn = number
        while not self._stop.wait(0.4):
            grant_id = self._grant_ids[turn % len(self._grant_ids)]
            turn += 1
            try:
                status = self._partner.use(grant_id)
                self.calls += 1
                if status != 200:  # noqa: PLR2004
                    self.troubles.append(f"{grant_id}: Wise answered {status}")
            except (RuntimeError, OSError) as error:
                self.troubles.append(f"{grant_id}: {error}"[:200])

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


class Waiting:
    """Somebody who waits for an answer meanwhile."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._began = time.monotonic()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        with contextlib.suppress(RuntimeError, OSError):  # no answer in time: the ledger has none then
            self._ask()
        self._seconds = time.monotonic() - self._began

    def end(self, within_s: float) -> float:
        """Give how many seconds it took, at most so many."""
        self._thread.join(within_s)
        return time.monotonic() - self._began if self._thread.is_alive() else self._seconds
