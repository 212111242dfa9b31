"""Mutual TLS over the wire: against the emulator's listener that demands a certificate, and against worse ones."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from local.wise.clients import IssuedCertificate, KeyType
from local.wise.control import SeededUser
from local.wise.running import RunningWise, running_wise
from local.wise.server import LOOPBACK
from token_rotator.adapters.client_secrets import ClientSecrets
from token_rotator.adapters.wise_http import VERDICT_WITHIN, WiseHttp
from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Outcome,
    Refreshed,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.tokens import Secret

AMPLE = timedelta(seconds=10)
SECRET = "token-rotator/sandbox/wise"


@dataclass
class Place:
    """A rotator's connection to an emulated Wise that takes nobody without a certificate, and its secret."""

    wise: RunningWise
    vault: Any
    ahead: timedelta = timedelta(0)
    users: int = 0
    logs: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def store(self, issued: IssuedCertificate, **changes: Any) -> IssuedCertificate:
        settings = self.wise.state.settings
        value = {
            "environment": "sandbox",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
            "certificate": issued.certificate,
            "private_key": issued.private_key,
        } | changes
        text = json.dumps(value)
        try:
            self.vault.put_secret_value(SecretId=SECRET, SecretString=text)
        except self.vault.exceptions.ResourceNotFoundException:
            self.vault.create_secret(Name=SECRET, SecretString=text)
        return issued

    def issue(self, **terms: Any) -> IssuedCertificate:
        return self.store(self.wise.control.issue_certificate(**terms))

    def secrets(self) -> ClientSecrets:
        return ClientSecrets(self.vault, SECRET, "sandbox", self.now, mtls=True)

    def client(self, secrets: ClientSecrets | None = None, url: str | None = None) -> WiseHttp:
        return WiseHttp(
            url or self.wise.mtls_url,
            secrets or self.secrets(),
            self.now,
            connect_s=1.0,
            ca_file=str(self.wise.ca_file),
            mtls=True,
        )

    def user(self) -> SeededUser:
        self.users += 1
        return self.wise.control.seed_user(f"user-{self.users}")

    def refresh(self, client: WiseHttp, within: timedelta = AMPLE) -> Outcome:
        client.check_credentials()
        return client.refresh(Secret(self.user().refresh_token), attempt_id="attempt-1", within=within)

    def requests(self, issued: IssuedCertificate) -> int:
        return self.wise.control.requests_with_certificate(issued.serial)


@pytest.fixture
def place() -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as environment, mock_aws(), running_wise() as wise:
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        vault = boto3.client(
            "secretsmanager", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
        )
        wise.control.change_settings(mtls_only=True)
        yield Place(wise, vault)
        vault.close()


@pytest.mark.parametrize("key_type", [KeyType.RSA_2048, KeyType.EC_256, KeyType.EC_384])
@pytest.mark.parametrize("highest", ["1.2", "1.3"])
def test_every_call_shows_the_certificate(place: Place, key_type: KeyType, highest: str) -> None:
    place.wise.control.change_settings(mtls_highest=highest)
    issued = place.issue(key_type=key_type)
    client = place.client()

    outcome = place.refresh(client)
    assert isinstance(outcome, Refreshed)
    assert client.ask(outcome.tokens.access_token, attempt_id="a", within=AMPLE).liveness is Liveness.LIVES
    assert client.profiles(outcome.tokens.access_token, attempt_id="a", within=AMPLE)
    assert isinstance(client.settle_client(attempt_id="a", within=AMPLE), ClientAccepted)
    assert isinstance(client.refresh(Secret("fixture"), attempt_id="a", within=AMPLE), GrantInvalid)
    assert place.requests(issued) == 5


def test_a_process_that_begins_shows_the_certificate_before_one_that_cannot_be_used(place: Place) -> None:
    issued = place.issue()
    place.store(issued, private_key=place.wise.control.issue_certificate().private_key)
    client = place.client()
    assert isinstance(place.refresh(client), Refreshed)
    assert place.requests(issued) == 1
    assert "has a private_key that does not fit its certificate" in str(client.passed_over())


def test_nothing_is_sent_with_a_secret_that_has_no_usable_certificate(place: Place) -> None:
    issued = place.issue()
    other = place.wise.control.issue_certificate()
    over = place.wise.control.issue_certificate(days=-1, starts_in_days=-9)
    early = place.wise.control.issue_certificate(starts_in_days=2)
    client = place.client()
    for value, changes, why in [
        (issued, {"certificate": None}, "has no certificate, which mutual TLS needs"),
        (issued, {"certificate": " "}, "has no certificate, which mutual TLS needs"),
        (issued, {"private_key": 7}, "has no private_key, which mutual TLS needs"),
        (issued, {"private_key": other.private_key}, "has a private_key that does not fit its certificate"),
        (over, {}, "has a certificate that ended at"),
        (early, {}, "has a certificate that is not valid before"),
    ]:
        for _version in range(2):  # neither of the two
            place.store(value, **changes)
        with pytest.raises(WiseSecretUnusable) as raised:
            client.check_credentials()
        assert why in str(raised.value)
        assert "PRIVATE" not in str(raised.value)
        assert client.refresh(Secret("fixture"), attempt_id="a", within=AMPLE) == NotSent(reason="wise-secret-unusable")
        assert client.ask(Secret("fixture"), attempt_id="a", within=AMPLE).liveness is Liveness.NO_ANSWER
        assert client.profiles(Secret("fixture"), attempt_id="a", within=AMPLE) is None
    assert place.wise.control.requests() == []


@pytest.mark.parametrize("highest", ["1.2", "1.3"])
@pytest.mark.parametrize("round_", range(5))
def test_a_certificate_that_the_peer_refuses_is_a_refused_client(place: Place, highest: str, round_: int) -> None:
    """Again and again: an alert that comes after the handshake could race with the request."""
    place.wise.control.change_settings(mtls_highest=highest)
    issued = place.issue()
    client, user = place.client(), place.user()
    place.wise.control.refuse_certificate(issued.serial)
    client.check_credentials()

    refused = ClientRefused(error="certificate_refused")
    assert client.refresh(Secret(user.refresh_token), attempt_id="a", within=AMPLE) == refused
    assert client.ask(Secret(user.access_token), attempt_id="a", within=AMPLE).liveness is Liveness.NO_ANSWER
    assert client.profiles(Secret(user.access_token), attempt_id="a", within=AMPLE) is None
    assert client.settle_client(attempt_id="a", within=AMPLE) == refused
    assert place.requests(issued) == 0


def test_a_certificate_in_anothers_name_is_a_refused_client(place: Place) -> None:
    place.issue(common_name="another-client")
    outcome = place.refresh(place.client())
    assert isinstance(outcome, ClientRefused)
    assert outcome.error == "invalid_client"


@pytest.mark.parametrize(("how", "outcome"), [("forbidden", WeAreWrong), ("reset", NotSent)])
def test_a_certificate_may_be_refused_in_other_ways(place: Place, how: str, outcome: type[Outcome]) -> None:
    place.wise.control.change_settings(refused_certificate=how)
    issued = place.issue()
    place.wise.control.refuse_certificate(issued.serial)
    found = place.refresh(place.client())
    assert isinstance(found, outcome | Unknown)
    assert place.wise.control.requests() == []


# --- renewal


def test_a_new_certificate_is_used_at_the_next_reading(place: Place) -> None:
    old = place.issue()
    client = place.client()
    assert isinstance(place.refresh(client), Refreshed)
    new = place.issue()
    assert isinstance(place.refresh(client), Refreshed)
    assert (place.requests(old), place.requests(new)) == (2, 0)

    place.ahead += timedelta(minutes=5)
    assert isinstance(place.refresh(client), Refreshed)
    assert (place.requests(old), place.requests(new)) == (2, 1)


@pytest.mark.parametrize("how", ["alert", "forbidden", "reset"])
def test_the_old_certificate_is_used_while_the_new_one_is_refused(place: Place, how: str) -> None:
    place.wise.control.change_settings(refused_certificate=how)
    old = place.issue()
    client = place.client()
    assert isinstance(place.refresh(client), Refreshed)
    new = place.issue()
    place.wise.control.refuse_certificate(new.serial)

    place.ahead += timedelta(minutes=5)
    assert not isinstance(place.refresh(client), Refreshed)
    check = client.settle_client(attempt_id="attempt-1", within=AMPLE)
    assert check == ClientAccepted(changed=True, status=check.status, trace_id=check.trace_id)
    assert isinstance(place.refresh(client), Refreshed)

    place.wise.control.accept_certificate(new.serial)
    before = place.requests(new)
    for _ in range(11):  # until an hour is over, nobody tries it again
        place.ahead += timedelta(minutes=5)
        assert isinstance(place.refresh(client), Refreshed)
    assert place.requests(new) == before
    place.ahead += timedelta(minutes=10)
    assert isinstance(place.refresh(client), Refreshed)
    assert place.requests(new) == before + 1
    served = place.requests(old)
    place.ahead += timedelta(hours=2)
    assert isinstance(place.refresh(client), Refreshed)
    assert place.requests(old) == served


def test_a_new_client_secret_alone_waits_for_the_old_one_to_be_refused(place: Place) -> None:
    issued = place.issue()
    client, secrets = None, place.secrets()
    client = place.client(secrets)
    assert isinstance(place.refresh(client), Refreshed)
    place.store(issued, client_secret="fixture-not-in-force-yet")
    place.ahead += timedelta(minutes=5)
    assert isinstance(place.refresh(client), Refreshed)


def test_a_certificate_that_is_over_gives_way_at_once(place: Place) -> None:
    old = place.issue(days=1)
    secrets = place.secrets()
    client = place.client(secrets)
    assert isinstance(place.refresh(client), Refreshed)
    new = place.issue()
    place.wise.control.refuse_certificate(new.serial)
    place.ahead += timedelta(minutes=5)
    place.refresh(client)
    assert isinstance(client.settle_client(attempt_id="attempt-1", within=AMPLE), ClientAccepted)
    in_use = secrets.last()
    assert in_use is not None
    assert in_use.certificate is not None
    assert in_use.certificate.serial == old.serial

    place.ahead += timedelta(days=1)
    assert secrets.last() is None, "nothing is sent with it"
    assert client.refresh(Secret("fixture"), attempt_id="a", within=AMPLE) == NotSent(reason="wise-secret-unusable")
    assert secrets.certificate() is not None, "its end is still known"
    assert secrets.get().certificate is not None
    assert secrets.get().certificate.serial == new.serial  # type: ignore[union-attr]


def test_a_new_certificate_that_cannot_be_used_changes_nothing(place: Place) -> None:
    place.issue()
    client = place.client()
    assert isinstance(place.refresh(client), Refreshed)
    place.store(place.wise.control.issue_certificate(), private_key="fixture")
    place.ahead += timedelta(minutes=5)
    assert isinstance(place.refresh(client), Refreshed)


def test_an_ended_certificate_beside_an_unusable_one_is_not_used_on(place: Place) -> None:
    place.issue(days=1)
    client = place.client()
    assert isinstance(place.refresh(client), Refreshed)
    place.store(place.wise.control.issue_certificate(), private_key="fixture")
    place.ahead += timedelta(days=2)
    with pytest.raises(WiseSecretUnusable, match="not in PEM"):
        client.check_credentials()


def test_an_ended_certificate_is_not_used_on_while_the_secret_cannot_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.issue(days=1)
    client = place.client()
    assert isinstance(place.refresh(client), Refreshed)

    def down(**_: str) -> None:
        raise EndpointConnectionError(endpoint_url="https://secrets.invalid")

    monkeypatch.setattr(place.vault, "get_secret_value", down)
    place.ahead += timedelta(hours=23)
    assert isinstance(place.refresh(client), Refreshed)
    place.ahead += timedelta(hours=1)
    with pytest.raises(WiseSecretUnusable, match="cannot be read"):
        client.check_credentials()


def test_many_threads_use_both_certificates_at_once(place: Place) -> None:
    old, new = place.issue(), place.wise.control.issue_certificate()
    secrets = place.secrets()
    client = place.client(secrets)
    first = secrets.get()
    place.store(new)
    place.ahead += timedelta(minutes=5)
    second = secrets.get()
    users = [place.user() for _ in range(24)]

    def one(number: int) -> Outcome:
        secrets.use((first, second)[number % 2])
        return client.refresh(Secret(users[number].refresh_token), attempt_id=f"attempt-{number}", within=AMPLE)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(24)))
    assert all(isinstance(outcome, Refreshed) for outcome in outcomes)
    assert place.requests(old) + place.requests(new) == 24


def test_no_more_certificates_are_kept_than_may_be_in_use(place: Place) -> None:
    client = place.client()
    for _ in range(6):
        place.issue()
        place.ahead += timedelta(minutes=5)
        assert isinstance(place.refresh(client), Refreshed)
    assert len(client._sessions._made_for) == 3


# --- the verdict on a certificate comes after the handshake


def listening(place: Place, behave: Any) -> tuple[str, threading.Event]:
    """A server that demands a certificate and then behaves in a way of its own."""
    context = place.wise.authority.context(place.wise.state.settings.mtls_highest, revoking=True)
    context.num_tickets = 0
    listener = socket.create_server((LOOPBACK, 0))
    over = threading.Event()

    def serve() -> None:
        raw, _ = listener.accept()
        with listener, context.wrap_socket(raw, server_side=True) as connection:
            behave(connection)
            over.wait(5)

    threading.Thread(target=serve, daemon=True).start()
    return f"https://{LOOPBACK}:{listener.getsockname()[1]}", over


def test_a_peer_that_says_nothing_after_the_handshake_is_waited_for_a_moment_only(place: Place) -> None:
    place.issue()
    body = b'{"access_token":"fixture-token","expires_in":60}'

    def answer(connection: ssl.SSLSocket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    url, over = listening(place, answer)
    began = time.monotonic()
    outcome = place.refresh(place.client(url=url))
    over.set()
    assert isinstance(outcome, Refreshed)
    assert time.monotonic() - began >= VERDICT_WITHIN


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["hangs-up", "speaks-first"])
def test_nothing_is_sent_to_a_peer_that_does_not_wait_for_a_request(place: Place, words: bytes) -> None:
    place.issue()

    def speak(connection: ssl.SSLSocket) -> None:
        if words:
            connection.sendall(words)
        else:
            connection.shutdown(socket.SHUT_RDWR)

    url, over = listening(place, speak)
    outcome = place.refresh(place.client(url=url))
    over.set()
    assert outcome == NotSent(reason="not-connected")


def test_nothing_shows_the_key(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("botocore").setLevel(logging.INFO)
    issued = place.issue()
    client, secrets = place.client(), place.secrets()
    place.refresh(client)
    place.wise.control.refuse_certificate(issued.serial)
    place.refresh(client)
    seen = caplog.text + repr(secrets.get()) + repr(vars(client))
    for line in issued.private_key.splitlines()[1:-1]:
        assert line not in seen
