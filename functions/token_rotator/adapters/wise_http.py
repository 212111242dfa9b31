"""Wise over HTTPS: one connection a call, one deadline a call, nothing retried, no redirect followed.

The deadline is total. A socket's own timeout starts anew with every byte, so an answer that drips would outlive it;
here a timer shuts the socket down. What matters most is whether the request can have reached Wise: a fault before the
connection stands is *not sent*, anything after it is *unknown*.

With mutual TLS the peer's verdict on our certificate comes after our handshake (RFC 8446 §4.4.2): a request that left
at once could meet a closed connection, and nobody would know whether it was read. So a moment is waited for it.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, Self

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection

from token_rotator.domain.certificate import CertificateInUse
from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Refreshed,
    Said,
    Unknown,
    WeAreWrong,
)

from .client_certificates import show_to_peers
from .shared_answer import SharedAnswer
from .wise_answers import (
    MAX_APPLICATION_TOKEN,
    MAX_TOKEN,
    classify,
    liveness,
    of_application,
    of_client,
    profiles_shown,
    trace_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from urllib3._base_connection import BaseHTTPConnection

    from token_rotator.domain.link import ProfilesShown
    from token_rotator.domain.outcome import ClientCheck, Outcome
    from token_rotator.domain.tokens import Registration, Secret

    from .client_certificates import ClientCertificate
    from .client_secrets import ClientCredentials, ClientSecrets

MAX_ANSWER: Final = 262_144
"""An answer of more bytes than this is not read on."""
_CHUNK: Final = 16_384
_OUR_OWN: Final = "client_credentials"
"""The grant type that issues a token to our application itself."""
_CERTIFICATE_ALERTS: Final = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
"""Alerts by which a peer says that it does not take our certificate (RFC 8446 §6.2)."""
CERTIFICATE_REFUSED: Final = "certificate_refused"
VERDICT_WITHIN: Final = 0.25
"""Seconds that a verdict on our certificate is waited for. A server that sends session tickets gives one at once."""
_SESSIONS: Final = 3
"""So many certificates may be at hand: the one in use, another version's, and one that a thread is not done with."""
_current: threading.local = threading.local()


class _DeadlineError(OSError):
    """The call's time was over before anything was sent."""


class _Watch:
    """Watches one call: whether its connection stands, and that it ends in time."""

    def __init__(self, seconds: float, certificate: ClientCertificate | None) -> None:
        self.ends = time.monotonic() + seconds
        self.certificate = certificate
        self.connected = False
        self.late = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _current.watch = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        _current.watch = None
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def left(self) -> float:
        return self.ends - time.monotonic()

    def guard(self, connected: socket.socket) -> None:
        """From here on the request may be on its way."""
        with self._lock:
            if self.left() <= 0:
                raise _DeadlineError
            self._socket = connected
            self.connected = True

    def _shut(self) -> None:
        with self._lock:
            self.late = True
            if self._socket is not None:
                with suppress(OSError):  # the plain shutdown: TLS's own would wait for the peer
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Connecting:
    """Looks a name up and connects, in a thread of its own: nothing can interrupt that, and it may take many tries."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._late = False
        self._made: socket.socket | None = None
        self._error: Exception | None = None

    def within(self, seconds: float) -> socket.socket:
        """Give the socket. Raises what connecting raises, or that the time is over: then it is closed unused."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        thread.join(max(seconds, 0))
        with self._lock:
            self._late = True
        if self._error is not None:
            raise self._error
        if self._made is None:
            raise _DeadlineError
        return self._made

    def _run(self) -> None:
        try:
            made = self._connect()
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            self._error = error
            return
        with self._lock:
            if not self._late:
                self._made = made
                return
        made.close()


class _WatchedConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        watch: _Watch | None = getattr(_current, "watch", None)
        if watch is None:
            return super()._new_conn()
        made = _Connecting(super()._new_conn).within(watch.left())
        made.settimeout(
            min(made.gettimeout() or watch.left(), max(watch.left(), 0.001))
        )  # also the handshake's, in all
        return made

    def connect(self) -> None:
        super().connect()
        watch: _Watch | None = getattr(_current, "watch", None)
        if watch is not None and self.sock is not None:
            if watch.certificate is not None and isinstance(self.sock, ssl.SSLSocket):
                _await_verdict(self.sock, min(VERDICT_WITHIN, watch.left()))
            watch.guard(self.sock)


def _await_verdict(connected: ssl.SSLSocket, seconds: float) -> None:
    """Give the peer a moment to refuse our certificate. Raises `OSError`: it did, and nothing was sent.

    Session tickets say that it did not (RFC 8446 §4.6.1). With TLS 1.2 the handshake itself was the verdict.
    """
    if connected.version() != "TLSv1.3":
        return
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    if not poll.poll(max(seconds, 0) * 1_000):
        return
    timeout = connected.gettimeout()
    connected.settimeout(0)
    try:
        connected.recv(1)
    except ssl.SSLWantReadError:  # tickets, and nothing else
        connected.settimeout(timeout)
    else:
        msg = "the peer ended the connection, or spoke first"
        raise ConnectionAbortedError(msg)


class _WatchedPool(urllib3.HTTPSConnectionPool):
    """Keeps no connection, even if the server would: a request on a kept one would go out unwatched."""

    ConnectionCls = _WatchedConnection

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if conn is not None:
            conn.close()


class _WatchedAdapter(HTTPAdapter):
    """One TLS context for all connections, and connections that can be watched."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=0, pool_maxsize=32)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - requests' own signature
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        manager: urllib3.PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"https": _WatchedPool}

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:  # noqa: ANN401
        """Keep our own TLS context: requests would choose one by `verify`."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._context} if pool.get("cert_reqs") == "CERT_REQUIRED" else pool


class _Sessions:
    """A session with a TLS context for each certificate that is shown, made at its first use. Safe in threads."""

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file or certifi.where()
        self._lock = threading.Lock()
        self._plain = self._made(None)
        self._made_for: list[tuple[ClientCertificate, requests.Session]] = []

    def of(self, certificate: ClientCertificate | None) -> requests.Session:
        """Give the session that shows this certificate, or none. Raises `OSError` where OpenSSL refuses it."""
        if certificate is None:
            return self._plain
        with self._lock:
            for known, session in self._made_for:
                if known == certificate:
                    return session
            session = self._made(certificate)
            self._made_for.append((certificate, session))
            over = self._made_for[:-_SESSIONS]
            del self._made_for[:-_SESSIONS]
        for _, old in over:  # no connection is kept, so none is cut off
            old.close()
        return session

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            for session in (self._plain, *(session for _, session in self._made_for)):
                session.close()

    def _made(self, certificate: ClientCertificate | None) -> requests.Session:
        context = ssl.create_default_context(cafile=self._ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            show_to_peers(context, certificate)
        session = requests.Session()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # one user's are not another's
        session.trust_env = False  # neither a proxy nor a netrc of the machine may touch these calls
        session.mount("https://", _WatchedAdapter(context))
        return session


@dataclass(frozen=True, slots=True)
class _Presented:
    """What an attempt last showed to Wise, and when Wise's answer was there."""

    attempt_id: str
    credentials: ClientCredentials | None
    answered: float


class WiseHttp:
    """`Wise` and `CodeExchange` over its REST API. Safe in threads.

    `api_url` is scheme and host; `api_version` a quarter such as `2026Q4`, or empty for the unversioned paths
    (docs.wise.com/guides/developer/global-versioning). `ca_file` replaces the public certificate authorities. `mtls`:
    every call shows the certificate of the credentials in use, that with a user's token too.
    """

    def __init__(
        self,
        api_url: str,
        secrets: ClientSecrets,
        clock: Callable[[], datetime],
        *,
        connect_s: float,
        api_version: str = "",
        ca_file: str | None = None,
        mtls: bool = False,
    ) -> None:
        prefix = f"/{api_version}" if api_version else ""
        self._token_url = f"{api_url}{prefix}/oauth/token"
        self._me_url = f"{api_url}{prefix or '/v1'}/me"
        self._profiles_url = f"{api_url}{prefix or '/v2'}/profiles"
        self._secrets = secrets
        self._clock = clock
        self._connect_s = connect_s
        self._mtls = mtls
        self._settled: SharedAnswer[tuple[ClientCheck, ClientCredentials | None]] = SharedAnswer(time.monotonic)
        self._own = threading.local()
        self._accepted: ClientCertificate | None = None
        self._sessions = _Sessions(ca_file)

    def close(self) -> None:
        """Close what belongs to no call. Only a process that goes on without it needs to."""
        self._sessions.close()

    def certificate(self) -> CertificateInUse | None:
        """Give the end of the certificate in use, and whether Wise has answered to it. Reads nothing."""
        shown = self._secrets.certificate()
        return None if shown is None else CertificateInUse(shown.not_after, shown == self._accepted)

    def passed_over(self) -> str | None:
        """See `ClientSecrets.passed_over`."""
        return self._secrets.passed_over()

    def check_credentials(self) -> None:
        """See `Wise.check_credentials`."""
        self._secrets.get()

    def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
        """See `Wise.refresh`."""
        return self._issue({"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}, attempt_id, within)

    def reissue(self, registration: Registration, *, attempt_id: str, within: timedelta) -> Outcome:
        """See `Wise.reissue`. Only `invalid_grant` is about the code: a token that is invalid was not presented."""
        form = {
            "grant_type": "registration_code",
            "email": registration.email.reveal(),
            "registration_code": registration.code.reveal(),
        }
        outcome = self._issue(form, attempt_id, within)
        if isinstance(outcome, GrantInvalid) and outcome.error != "invalid_grant":
            return WeAreWrong(status=outcome.status, error=outcome.error, trace_id=outcome.trace_id)
        return outcome

    def issue_application_token(self, *, attempt_id: str, within: timedelta) -> Outcome:
        """See `Wise.issue_application_token`."""
        return of_application(self._issue({"grant_type": _OUR_OWN}, attempt_id, within))

    def _issue(self, form: dict[str, str], attempt_id: str, within: timedelta) -> Outcome:
        """Have tokens issued with the credentials in use, and remember which these were."""
        credentials = self._secrets.last()
        if credentials is None:
            return NotSent(reason=WiseSecretUnusable.code)
        if form["grant_type"] == "registration_code":
            form = {**form, "client_id": credentials.client_id}
        outcome = self._exchange(form, credentials, attempt_id, within)
        self._own.presented = _Presented(attempt_id, credentials, time.monotonic())
        return outcome

    def check_client(self, client_id: str) -> None:
        """See `CodeExchange.check_client`."""
        if self._secrets.get().client_id != client_id:
            msg = "the secret is of another client than the one that users are asked about"
            raise WiseSecretUnusable(msg)

    def exchange(self, code: Secret, *, redirect_uri: str, attempt_id: str, within: timedelta) -> Outcome:
        """See `CodeExchange.exchange`. Credentials that Wise refuses are read anew before the next one."""
        credentials = self._secrets.last()
        if credentials is None:
            return NotSent(reason=WiseSecretUnusable.code)
        form = {
            "grant_type": "authorization_code",
            "client_id": credentials.client_id,
            "code": code.reveal(),
            "redirect_uri": redirect_uri,
        }
        outcome = self._exchange(form, credentials, attempt_id, within)
        if isinstance(outcome, ClientRefused):
            self._secrets.forget()
        return outcome

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        """See `Wise.settle_client`.

        Threads share an answer whose question was asked after what each of them was refused for. `changed` is about
        the credentials that the caller's own refresh was sent with: another thread may have changed them since.
        """
        now = time.monotonic()
        own: _Presented | None = getattr(self._own, "presented", None)
        if own is None or own.attempt_id != attempt_id:
            own = _Presented(attempt_id, self._secrets.last(), now)
        ends = now + within.total_seconds()
        answer = self._settled.get(lambda: self._settle(attempt_id, ends), since=own.answered, until=ends)
        if answer is None:
            return Unknown(reason="deadline")
        check, accepted = answer
        if isinstance(check, ClientAccepted):
            return replace(check, changed=own.credentials is not None and own.credentials != accepted)
        return check

    def _settle(self, attempt_id: str, ends: float) -> tuple[ClientCheck, ClientCredentials | None]:
        """Ask Wise with each version of the secret until it accepts one, or gives no answer.

        A peer that does not take a certificate may also just hang up: then the other version's is tried.
        """
        refused: ClientCheck | None = None
        silent: ClientCheck | None = None
        tried: list[ClientCredentials] = []
        for credentials in self._secrets.versions():
            if silent is not None and credentials.certificate == tried[-1].certificate:
                break
            left = timedelta(seconds=ends - time.monotonic())
            if left <= timedelta(0):
                return silent or Unknown(reason="deadline"), None
            check = of_client(self._exchange({"grant_type": _OUR_OWN}, credentials, attempt_id, left))
            if isinstance(check, ClientAccepted):
                self._use(credentials, tried)
                return check, credentials
            tried.append(credentials)
            if isinstance(check, ClientRefused | WeAreWrong):
                refused = refused or check
            elif credentials.certificate is None or not isinstance(check, NotSent | Unknown):
                return check, None
            else:
                silent = silent or check
        if silent is not None:
            return silent, None
        if refused is None:
            return NotSent(reason=WiseSecretUnusable.code), None
        self._secrets.forget()
        return refused, None

    def _use(self, accepted: ClientCredentials, tried: list[ClientCredentials]) -> None:
        for other in tried:
            if other.certificate != accepted.certificate:
                self._secrets.refused(other)
        self._secrets.use(accepted)

    def _exchange(
        self, form: dict[str, str], credentials: ClientCredentials, attempt_id: str, within: timedelta
    ) -> Outcome:
        pair = f"{credentials.client_id}:{credentials.client_secret.reveal()}".encode()
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "X-External-Correlation-Id": attempt_id,
        }
        sent_at = self._clock()
        with _Watch(within.total_seconds(), credentials.certificate) as watch:
            try:
                status, answered, content = self._call("POST", self._token_url, headers, form, watch)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                return _failed(error, watch)
        longest = MAX_APPLICATION_TOKEN if form["grant_type"] == _OUR_OWN else MAX_TOKEN
        outcome = classify(status, answered, content, sent_at, longest)
        if isinstance(outcome, Refreshed | GrantInvalid):
            self._accepted = credentials.certificate
        return outcome

    def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
        """See `Wise.ask`."""
        answer = self._shown(self._me_url, access_token, attempt_id, within)
        if answer is None:
            return Said(Liveness.NO_ANSWER)
        return Said(liveness(*answer), trace_of(answer[1]))

    def profiles(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> ProfilesShown | None:
        """See `CodeExchange.profiles`."""
        answer = self._shown(self._profiles_url, access_token, attempt_id, within)
        return None if answer is None else profiles_shown(answer[0], answer[2])

    def _shown(
        self, url: str, access_token: Secret, attempt_id: str, within: timedelta
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Show an access token, once. `None`: no answer."""
        headers = {
            "Authorization": f"Bearer {access_token.reveal()}",
            "X-External-Correlation-Id": attempt_id,
        }
        shown = None
        if self._mtls:
            credentials = self._secrets.last()
            if credentials is None or credentials.certificate is None:
                return None
            shown = credentials.certificate
        with _Watch(within.total_seconds(), shown) as watch:
            try:
                return self._call("GET", url, headers, None, watch)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
                return None

    def _call(
        self, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None, watch: _Watch
    ) -> tuple[int, dict[str, str], bytes]:
        session = self._sessions.of(watch.certificate)
        seconds = max(watch.left(), 0.001)
        answer = session.request(
            method,
            url,
            data=form,
            headers={"Accept": "application/json", "Connection": "close", **headers},
            timeout=(min(self._connect_s, seconds), seconds),
            allow_redirects=False,
            stream=True,
        )
        try:
            content = b""
            for chunk in answer.iter_content(_CHUNK):
                content += chunk
                if len(content) > MAX_ANSWER:
                    msg = "the answer does not end"
                    raise ValueError(msg)
        finally:
            answer.close()
        return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, content


def _failed(error: BaseException, watch: _Watch) -> Outcome:
    """Tell a request that was not sent from one whose outcome is unknown."""
    if watch.certificate is not None and _about_our_certificate(error):
        return ClientRefused(error=CERTIFICATE_REFUSED)
    if not watch.connected:
        return NotSent(reason="not-connected")
    if _about_our_certificate(error):
        return NotSent(reason="certificate-refused")
    return Unknown(reason="deadline" if watch.late else "connection-broke")


def _about_our_certificate(error: BaseException | None) -> bool:
    """Tell whether the peer refused our certificate. With TLS 1.3 its alert comes after the handshake."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and (error.reason or "").endswith(_CERTIFICATE_ALERTS):
            return True
        inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = inner or getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(error, BaseException):
            return False
    return False
