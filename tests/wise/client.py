"""A client of the emulated Wise with nothing between it and the wire."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.wise.running import RunningWise

CLIENT = ("emulator-client-id", "emulator-client-secret")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


class WiseClient:
    """One connection per request, unless inside ``kept_alive``."""

    def __init__(self, wise: RunningWise, timeout_s: float = 10.0) -> None:
        self._netloc = urllib.parse.urlsplit(wise.url).netloc
        self._context = ssl.create_default_context(cafile=str(wise.ca_file))
        self._context.verify_flags |= ssl.VERIFY_X509_STRICT
        self._timeout_s = timeout_s
        self._kept: http.client.HTTPSConnection | None = None

    def connection(self, timeout_s: float | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._netloc, timeout=timeout_s or self._timeout_s, context=self._context)

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[None]:
        with contextlib.closing(self.connection()) as self._kept:
            yield
        self._kept = None

    def send(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        if self._kept is not None:
            return self._exchange(self._kept, method, path, body, headers)
        with contextlib.closing(self.connection(timeout_s)) as connection:
            return self._exchange(connection, method, path, body, headers)

    def form(
        self,
        fields: Mapping[str, str] | None,
        *,
        client: tuple[str, str] | None = CLIENT,
        path: str = "/oauth/token",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Reply:
        given = {"Content-Type": FORM, **(headers or {})}
        if client is not None:
            given["Authorization"] = basic(*client)
        return self.send("POST", path, urllib.parse.urlencode(fields or {}), given, timeout_s=timeout_s)

    def refresh(
        self,
        refresh_token: str,
        *,
        client: tuple[str, str] | None = CLIENT,
        path: str = "/oauth/token",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Reply:
        fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self.form(fields, client=client, path=path, headers=headers, timeout_s=timeout_s)

    def me(self, access_token: str | None, *, path: str = "/v1/me", headers: Mapping[str, str] | None = None) -> Reply:
        given = dict(headers or {})
        if access_token is not None:
            given["Authorization"] = f"Bearer {access_token}"
        return self.send("GET", path, None, given)

    @staticmethod
    def _exchange(
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | str | None,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, answered, response.read())
