"""Wise on the wire: HTTPS on loopback, one thread per connection."""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import json
import logging
import re
import select
import socket
import socketserver
import ssl
import struct
import threading
import urllib.parse
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

from local.wise import answers, pages
from local.wise.answers import Answer
from local.wise.certificates import ClientAuthority
from local.wise.chaos import Chaos
from local.wise.faults import Delivery, Endpoint, Fault, Faults, Withheld
from local.wise.pages import AuthorizationRequest
from local.wise.settings import BadValueError, RefusedCertificate
from local.wise.state import SignupRequest, TokenRequest, WiseState
from local.wise.tokens import iso_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.wise.settings import Json, WiseSettings

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
CORRELATION_ID = "X-External-Correlation-Id"
_LONGEST_CORRELATION_ID = 36
_LARGEST_BODY = 1024 * 1024
_HANDSHAKE_S = 10.0
_IDLE_S = 120.0
_JOIN_S = 2.0
_LINGER_S = 1.0
_ENDLESS_PIECE = b" " * 1024
_UNPREFIXED = {
    "/oauth/token": Endpoint.TOKEN,
    "/v1/me": Endpoint.ME,
    "/v1/profiles": Endpoint.PROFILES,
    "/v2/profiles": Endpoint.PROFILES,
    "/v1/authenticated/playground": Endpoint.PLAYGROUND,
    "/v1/user/signup/registration_code": Endpoint.SIGNUP,
    "/v1/users/exists": Endpoint.EXISTS,
    "/v1/user/claim-account": Endpoint.CLAIM,
    "/oauth/authorize": Endpoint.AUTHORIZE,
    "/oauth/authorize/": Endpoint.AUTHORIZE,
}
_IN_QUARTER = {
    "/oauth/token": Endpoint.TOKEN,
    "/me": Endpoint.ME,
    "/profiles": Endpoint.PROFILES,
    "/authenticated/playground": Endpoint.PLAYGROUND,
    "/user/signup/registration_code": Endpoint.SIGNUP,
    "/users/exists": Endpoint.EXISTS,
    "/user/claim-account": Endpoint.CLAIM,
}
_METHODS = {
    Endpoint.TOKEN: ("POST",),
    Endpoint.ME: ("GET",),
    Endpoint.PROFILES: ("GET",),
    Endpoint.PLAYGROUND: ("GET",),
    Endpoint.SIGNUP: ("POST",),
    Endpoint.EXISTS: ("POST",),
    Endpoint.CLAIM: ("POST",),
    Endpoint.AUTHORIZE: ("GET", "POST"),
}
_QUARTER_PATH = re.compile(r"/([0-9]{4}Q[1-4])(/.*)")
_SUBSCRIPTIONS = re.compile(
    r"(?:/v3|/[0-9]{4}Q[1-4])/applications/([^/]+)/subscriptions(?:/([^/]+)(/test-notifications)?)?"
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class LoopbackServer(socketserver.ThreadingMixIn, HTTPServer):
    """A threaded HTTP server on 127.0.0.1 that knows its connections and can end them all."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((LOOPBACK, port), handler)
        self.stopping = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._connections_lock = threading.Lock()
        self._accepting: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve from a thread of its own; connections are taken from now on."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """End every connection and every wait, and return when the port is free."""
        self.stopping.set()
        if self._accepting is not None:
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self.port), _JOIN_S).close()  # wakes it up
            self._accepting.join(_JOIN_S)
        with self._connections_lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_JOIN_S)
        self.server_close()

    def server_bind(self) -> None:
        """As the socket server does it: ``http.server`` would ask the resolver for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name = LOOPBACK
        self.server_port = self.server_address[1]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its handshake to its end."""
        connection = request
        try:
            if not self.stopping.is_set():
                request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = self.secured(request)
                with self._connections_lock:
                    self._connections[connection] = threading.current_thread()
                self.finish_request(connection, client_address)
        except OSError as error:
            log.debug("connection lost", extra={"error": type(error).__name__})
        finally:
            with self._connections_lock:
                self._connections.pop(connection, None)
            self.shutdown_request(connection)

    def secured(self, request: socket.socket) -> socket.socket:
        """The connection to talk over."""
        return request

    def _accept(self) -> None:
        while not self.stopping.is_set():
            self.handle_request()


class WiseServer(LoopbackServer):
    """The emulated API of Wise: the plain listener by a context, the mutual one by the authority of its clients."""

    def __init__(
        self,
        port: int,
        trust: ssl.SSLContext | ClientAuthority,
        *,
        state: WiseState,
        faults: Faults,
        chaos: Chaos,
        withheld: Withheld,
    ) -> None:
        super().__init__(port, _WiseHandler)
        self._trust = trust
        self.authority = trust if isinstance(trust, ClientAuthority) else None
        self.state = state
        self.faults = faults
        self.chaos = chaos
        self.withheld = withheld

    def secured(self, request: socket.socket) -> socket.socket:
        """The handshake, in the connection's own thread, so that a slow client keeps nobody waiting."""
        request.settimeout(_HANDSHAKE_S)
        if isinstance(self._trust, ssl.SSLContext):
            return self._trust.wrap_socket(request, server_side=True)
        settings = self.state.settings
        by_alert = settings.refused_certificate is RefusedCertificate.ALERT
        context = self._trust.context(settings.mtls_highest, revoking=by_alert)
        connection = context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        try:
            connection.do_handshake()
        except ssl.SSLError:
            self._let_it_read(connection)
            raise
        serial, _ = shown_certificate(connection)
        if settings.refused_certificate is RefusedCertificate.RESET and self._trust.refuses(serial):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection.close()
            raise ConnectionResetError
        return connection

    def _let_it_read(self, connection: ssl.SSLSocket) -> None:
        """Close so that the client gets to see the alert: a close over unread bytes would be a reset."""
        with contextlib.suppress(OSError):
            connection.settimeout(_LINGER_S)
            socket.socket.shutdown(connection, socket.SHUT_WR)
            while socket.socket.recv(connection, _LARGEST_BODY):
                pass
        connection.close()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A request, read whole, and what will be done to it."""

    path: str
    correlation_id: str | None
    trace_id: str
    fault: Fault


_NO_FAULT = Fault()


class _WiseHandler(BaseHTTPRequestHandler):
    server: WiseServer
    connection: ssl.SSLSocket
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    error_content_type = "text/plain"
    error_message_format = "%(code)d"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815  (inherited names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (inherited)
        """Request lines may carry what nobody must log; ``_serve`` logs what is safe."""

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            return
        path, _, query = self.requestline.split()[1].partition("?")  # ``self.path`` mends a double slash
        state = self.server.state
        trace_id = state.new_trace_id()
        given = self.headers.get(CORRELATION_ID)
        correlation_id = given if given is not None and len(given) <= _LONGEST_CORRELATION_ID else None
        arrival = _Arrival(path, correlation_id, trace_id, _NO_FAULT)
        endpoint = endpoint_of(path, state.settings)
        if endpoint is None:
            now_ms, _ = state.clock()
            self._write_whole(answers.not_found(path, iso_instant(now_ms * 1_000_000, 3)), arrival)
        elif self.command not in methods_of(path, endpoint):
            allowed = ", ".join(methods_of(path, endpoint))
            self._write_whole(answers.method_not_allowed(self.command, allowed), arrival)
        elif (refusal := self._refusal(endpoint)) is not None:
            self._write_whole(refusal, arrival)
        elif endpoint is Endpoint.TOKEN:
            self._token(arrival, body)
        elif endpoint is Endpoint.SIGNUP:
            self._signup(arrival, body)
        elif endpoint is Endpoint.AUTHORIZE:
            self._write_whole(self._page(query, body), arrival)
        elif endpoint in (Endpoint.EXISTS, Endpoint.CLAIM, Endpoint.SUBSCRIPTIONS):
            self._resource(arrival, endpoint, body)
        else:
            self._use(arrival, endpoint)
        log.debug(
            "request served",
            extra={"endpoint": endpoint, "method": self.command, "trace_id": trace_id},
        )

    def _refusal(self, endpoint: Endpoint) -> Answer | None:
        """Refuse what comes without the client's own certificate where one is demanded."""
        settings, authority = self.server.state.settings, self.server.authority
        if authority is None:
            return answers.mtls_required() if settings.mtls_only and endpoint is not Endpoint.AUTHORIZE else None
        serial, common_name = shown_certificate(self.connection)
        authority.count(serial)
        if settings.refused_certificate is RefusedCertificate.FORBIDDEN and authority.refuses(serial):
            return answers.certificate_forbidden()
        basic = basic_credentials(self.headers.get("Authorization"))
        if basic is not None and basic[0] != common_name:
            return answers.wrong_client(settings.wrong_client_status, settings.wrong_client_error)
        if basic is None and common_name != settings.client_id:
            return answers.foreign_certificate()
        return None

    def _read_body(self) -> bytes | None:
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return None
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _LARGEST_BODY:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _token(self, arrival: _Arrival, body: bytes) -> None:
        state = self.server.state
        request = TokenRequest(
            basic_credentials(self.headers.get("Authorization")),
            form_fields(self.headers.get("Content-Type"), body),
        )
        record = state.begin_request(
            arrival.path,
            request,
            correlation_id=arrival.correlation_id,
            trace_id=arrival.trace_id,
            client_port=self.client_address[1],
        )
        fault = self._take_fault(Endpoint.TOKEN, record.user)
        arrival = replace(arrival, fault=fault)
        if fault.id:
            state.note_fault(record, fault.id)
        if fault.hang_up_first:
            self._hang_up(reset=fault.delivery is Delivery.RESET)
        self._pause(fault.before_s)
        answer: Answer | None = None
        if fault.carry_out:
            answer = state.carry_out(record, request)
        else:
            state.refuse(record)

        def note_gone() -> None:
            state.note_client_gone(record)

        status, delivered = self._deliver(arrival, answer, record.user, note_gone)
        state.end_request(record, status=status, delivered=delivered)

    def _use(self, arrival: _Arrival, endpoint: Endpoint) -> None:
        state = self.server.state
        token = bearer_token(self.headers.get("Authorization"))
        fault = self._take_fault(endpoint, state.owner_of(token))
        arrival = replace(arrival, fault=fault)
        if fault.hang_up_first:
            self._hang_up(reset=fault.delivery is Delivery.RESET)
        self._pause(fault.before_s)
        record, answer = state.use(
            arrival.path, token, correlation_id=arrival.correlation_id, trace_id=arrival.trace_id
        )
        if fault.id:
            state.note_fault(record, fault.id)
        status, delivered = self._deliver(arrival, answer, record.user, lambda: None)
        state.end_use(record, status=status, delivered=delivered)

    def _signup(self, arrival: _Arrival, body: bytes) -> None:
        state = self.server.state
        fields = json_object(body)
        request = SignupRequest(
            bearer_token(self.headers.get("Authorization")), fields.get("email"), fields.get("registrationCode")
        )
        record = state.begin_signup(
            arrival.path, request, correlation_id=arrival.correlation_id, trace_id=arrival.trace_id
        )
        fault = self._take_fault(Endpoint.SIGNUP, record.user)
        arrival = replace(arrival, fault=fault)
        if fault.id:
            state.note_fault(record, fault.id)
        if fault.hang_up_first:
            self._hang_up(reset=fault.delivery is Delivery.RESET)
        self._pause(fault.before_s)
        answer = state.sign_up(record, request) if fault.carry_out else None
        status, delivered = self._deliver(arrival, answer, record.user, lambda: None)
        state.end_signup(record, status=status, delivered=delivered)

    def _resource(self, arrival: _Arrival, endpoint: Endpoint, body: bytes) -> None:
        """What is not on record: it neither makes tokens nor asks for a token's life."""
        token = bearer_token(self.headers.get("Authorization"))
        user = self.server.state.owner_of(token)
        fault = self._take_fault(endpoint, user)
        arrival = replace(arrival, fault=fault)
        if fault.hang_up_first:
            self._hang_up(reset=fault.delivery is Delivery.RESET)
        self._pause(fault.before_s)
        answer = self._answer(arrival, endpoint, token, body) if fault.carry_out else None
        self._deliver(arrival, answer, user, lambda: None)

    def _answer(self, arrival: _Arrival, endpoint: Endpoint, token: str | None, body: bytes) -> Answer:
        state = self.server.state
        if endpoint is Endpoint.EXISTS:
            return state.user_exists(token, json_object(body).get("email"))
        if endpoint is Endpoint.CLAIM:
            return state.claim_account(token, json_object(body).get("registrationCode"))
        match = _SUBSCRIPTIONS.fullmatch(arrival.path)
        client_key, subscription_id, test = ("", None, None) if match is None else match.groups()
        if subscription_id is None:
            made = self.command == "POST"
            answer = state.subscribe(token, client_key, json_fields(body)) if made else None
            answer = answer or state.subscribed(token, client_key, None)
        elif test:
            answer = state.test_subscription(token, client_key, subscription_id)
        elif self.command == "DELETE":
            answer = state.unsubscribe(token, client_key, subscription_id)
        else:
            answer = state.subscribed(token, client_key, subscription_id)
        now_ms, _ = state.clock()
        return answer or answers.not_found(arrival.path, iso_instant(now_ms * 1_000_000, 3))

    def _page(self, query: str, body: bytes) -> Answer:
        """The web host's page for a browser; see ``local.wise.pages``."""
        state = self.server.state
        form = self.command == "POST"
        fields = form_fields(self.headers.get("Content-Type"), body) if form else query_fields(query)
        fields = fields or {}
        request = AuthorizationRequest.read(fields)
        why = state.turned_away(request)
        if why is not None:
            return pages.turned_away(why)
        if request.claim_account_code is not None and "user" not in fields:
            claimant = state.claimant(request)
            if claimant is None:
                return pages.login(replace(request, claim_account_code=None), state.users(), "This code is too old.")
            return pages.consent(request, claimant)
        if "user" not in fields:
            return pages.login(request, state.users())
        user = state.who(fields["user"])
        if user is None:
            return pages.login(request, state.users(), "Nobody of this name can log in.")
        if not form:
            return pages.consent(request, user)
        chosen = fields.get("profile_id", "")
        try:
            address = state.authorize(
                request,
                user.user,
                profile_id=int(chosen) if chosen.isdecimal() else None,
                refuse=fields.get("decision") != "allow",
            )
        except BadValueError:
            unclaimed = replace(request, claim_account_code=None)
            return pages.login(unclaimed, state.users(), "This account is not yours.")
        return pages.back(address)

    def _take_fault(self, endpoint: Endpoint, user: str | None) -> Fault:
        fault = self.server.faults.take(endpoint, user)
        if fault is None and endpoint in (Endpoint.TOKEN, Endpoint.ME):
            fault = self.server.chaos.draw(endpoint, user)
        return fault or _NO_FAULT

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self.server.stopping.wait(seconds)

    # Giving the answer

    def _deliver(
        self,
        arrival: _Arrival,
        real: Answer | None,
        user: str | None,
        note_gone: Callable[[], None],
    ) -> tuple[int | None, bool]:
        """Give the answer as the fault says: the status that went out, and whether it was delivered."""
        fault = arrival.fault
        self._pause(fault.after_s)
        if fault.hang_up_first:
            return None, False
        if fault.delivery is Delivery.WITHHOLD:

            def keep_waiting() -> bool:
                return not self.server.stopping.is_set() and not self._client_is_gone()

            if not self.server.withheld.hold(user, keep_waiting):
                if self._client_is_gone():
                    note_gone()
                self._hang_up(reset=False)
                return None, False
        if fault.delivery in (Delivery.RESET, Delivery.CLOSE):
            self._hang_up(reset=fault.delivery is Delivery.RESET)
            return None, False
        if self._client_is_gone():
            note_gone()
            self._hang_up(reset=False)
            return None, False
        answer = scripted(real, fault)
        try:
            return answer.status, self._write(answer, arrival)
        except OSError:
            note_gone()
            self.close_connection = True
            return answer.status, False

    def _write(self, answer: Answer, arrival: _Arrival) -> bool:
        fault = arrival.fault
        match fault.delivery:
            case Delivery.DRIP_HEADERS:
                head, body = self._encoded(answer, arrival)
                return self._drip(head, fault.drip_s) and self._send(body)
            case Delivery.DRIP_BODY:
                head, body = self._encoded(answer, arrival)
                return self._send(head) and self._drip(body, fault.drip_s)
            case Delivery.ENDLESS_BODY:
                self._write_endless(answer, arrival)
                return False
            case Delivery.TRUNCATED_BODY:
                head, body = self._encoded(answer, arrival)
                self._send(head + body[: len(body) // 2])
                self._hang_up(reset=False)
                return False
            case _:
                return self._write_whole(answer, arrival)

    def _write_whole(self, answer: Answer, arrival: _Arrival) -> bool:
        head, body = self._encoded(answer, arrival)
        return self._send(head if self.command == "HEAD" else head + body)

    def _write_endless(self, answer: Answer, arrival: _Arrival) -> None:
        head, body = self._encoded(answer, arrival, chunked=True)
        start = body[: len(body) // 2] or b" "
        self._send(head + _chunk(start))
        self.close_connection = True
        while not self.server.stopping.wait(arrival.fault.drip_s) and not self._client_is_gone():
            self._send(_chunk(_ENDLESS_PIECE))

    def _encoded(self, answer: Answer, arrival: _Arrival, *, chunked: bool = False) -> tuple[bytes, bytes]:
        body = answer.body.encode()
        headers = {"Date": formatdate(usegmt=True), "Server": "wise-emulator"}
        if arrival.fault.from_edge:
            headers["Content-Type"] = "text/html"
        else:
            headers |= {
                "Content-Type": answers.JSON_UTF8,
                "Cache-Control": "no-store",
                "Pragma": "no-cache",
                "x-trace-id": arrival.trace_id,
            }
            if arrival.correlation_id is not None:
                headers[CORRELATION_ID] = arrival.correlation_id
        overriding = {name.lower() for name in answer.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in overriding}
        headers |= answer.headers
        if answer.status == HTTPStatus.NO_CONTENT:
            del headers["Content-Type"]
        elif chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body))
        if self.close_connection:
            headers["Connection"] = "close"
        reason = http.client.responses.get(answer.status, "")
        lines = [
            f"HTTP/1.1 {answer.status} {reason}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body

    def _send(self, data: bytes) -> bool:
        self.wfile.write(data)
        return True

    def _drip(self, data: bytes, pause_s: float) -> bool:
        for index in range(len(data)):
            if self._client_is_gone() or self.server.stopping.is_set():
                self.close_connection = True
                return False
            self._send(data[index : index + 1])
            self.server.stopping.wait(pause_s)
        return True

    def _client_is_gone(self) -> bool:
        """Whether the client has closed the connection; while it waits it has nothing else to send."""
        connection = self.connection
        try:
            if connection.fileno() < 0:
                return True
            if connection.pending() == 0 and not _readable(connection):
                return False
            timeout = connection.gettimeout()
            connection.settimeout(0)
            try:
                gone = connection.recv(1) == b""
            finally:
                connection.settimeout(timeout)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):
            return True
        self.close_connection = True
        return gone

    def _hang_up(self, *, reset: bool) -> None:
        self.close_connection = True
        connection = self.connection
        with contextlib.suppress(OSError, ValueError):
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.rfile.close()  # else ``close`` below would wait for it
                connection.close()
            else:
                connection.settimeout(0)
                with contextlib.suppress(ssl.SSLError):
                    connection.unwrap()  # says goodbye in TLS, waits for no reply
                connection.shutdown(socket.SHUT_RDWR)


def shown_certificate(connection: ssl.SSLSocket) -> tuple[str, str]:
    """Serial number (hexadecimal) and common name of the certificate that the client showed."""
    shown: dict[str, Any] = connection.getpeercert() or {}
    names = [value for part in shown.get("subject", ()) for name, value in part if name == "commonName"]
    return shown.get("serialNumber", "").lstrip("0"), names[0] if names else ""


def endpoint_of(path: str, settings: WiseSettings) -> Endpoint | None:
    """What is at a path, if anything; both forms, ``/v1/me`` and, in a quarter, ``/2026Q4/me``, are Wise's.

    Source: docs.wise.com/guides/developer/global-versioning.
    """
    match = _QUARTER_PATH.fullmatch(path)
    if match is not None and match[1] not in settings.quarters:
        return None
    if _SUBSCRIPTIONS.fullmatch(path) is not None:
        return Endpoint.SUBSCRIPTIONS
    return _UNPREFIXED.get(path) if match is None else _IN_QUARTER.get(match[2])


def methods_of(path: str, endpoint: Endpoint) -> tuple[str, ...]:
    """What may be done there."""
    if endpoint is not Endpoint.SUBSCRIPTIONS:
        return _METHODS[endpoint]
    if path.endswith("/test-notifications"):
        return ("POST",)
    return ("GET", "POST") if path.endswith("/subscriptions") else ("GET", "DELETE")


def basic_credentials(header: str | None) -> tuple[str, str] | None:
    """Id and secret of HTTP Basic; empty strings if the header cannot be decoded; none without the header."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, secret = text.partition(":")
    return client_id, secret


def bearer_token(header: str | None) -> str | None:
    """The token of ``Authorization: Bearer``; none if there is none."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None


def form_fields(content_type: str | None, body: bytes) -> dict[str, str] | None:
    """The first value of each field of a form; none for any other kind of body."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if body and media_type != "application/x-www-form-urlencoded":
        return None
    return query_fields(body.decode("utf-8", "replace"))


def query_fields(query: str) -> dict[str, str]:
    """The first value of each field of a query."""
    return dict(reversed(urllib.parse.parse_qsl(query, keep_blank_values=True)))


def json_fields(body: bytes) -> dict[str, Json]:
    """A JSON object; nothing of any other body."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def json_object(body: bytes) -> dict[str, str]:
    """The texts in a JSON object; nothing of any other body."""
    return {name: text for name, text in json_fields(body).items() if isinstance(text, str)}


def scripted(real: Answer | None, fault: Fault) -> Answer:
    """The answer that goes out: the real one, changed, or the one that the fault prescribes."""
    if fault.status is not None or real is None:
        return Answer(
            status=fault.status or HTTPStatus.INTERNAL_SERVER_ERROR,
            outcome="fault",
            body=fault.body,
            headers=fault.headers,
        )
    body = patched(real.body, fault) if fault.patch else real.body
    return replace(real, body=body, headers={**real.headers, **fault.headers})


def patched(body: str, fault: Fault) -> str:
    """A JSON object with the fault's fields put in, and those that are null left out."""
    fields = {**json.loads(body), **fault.patch}
    return answers.encode({name: value for name, value in fields.items() if value is not None})


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
