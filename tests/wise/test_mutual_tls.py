"""The listener that demands a client certificate (row 28 of the contract): whom it takes, and how it refuses."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.wise.clients import IssuedCertificate, KeyType
from local.wise.control import SeededUser, WiseControlError
from local.wise.running import RunningWise
from tests.wise.client import WiseClient


@dataclass(frozen=True)
class Caller:
    """A client with a certificate, or without one."""

    wise: RunningWise
    directory: Path
    certificate: IssuedCertificate | None

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.wise.ca_file))
        if self.certificate is not None:
            place = self.directory / f"{self.certificate.serial}.pem"
            place.write_text(self.certificate.certificate + self.certificate.private_key)
            context.load_cert_chain(place)
        return context

    def call(self, method: str, path: str, headers: dict[str, str], body: str = "") -> tuple[int, str]:
        address = urllib.parse.urlsplit(self.wise.mtls_url)
        connection = http.client.HTTPSConnection(address.netloc, timeout=10, context=self.context())
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def refresh(self, user: SeededUser, client_id: str | None = None) -> tuple[int, str]:
        settings = self.wise.state.settings
        pair = f"{client_id or settings.client_id}:{settings.client_secret}".encode()
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        form = {"grant_type": "refresh_token", "refresh_token": user.refresh_token}
        return self.call("POST", "/oauth/token", headers, urllib.parse.urlencode(form))

    def me(self, access_token: str) -> tuple[int, str]:
        return self.call("GET", "/v1/me", {"Authorization": f"Bearer {access_token}"})


@pytest.mark.parametrize("key_type", KeyType)
def test_a_client_with_its_certificate_is_served(
    wise: RunningWise, alice: SeededUser, tmp_path: Path, key_type: KeyType
) -> None:
    issued = wise.control.issue_certificate(key_type=key_type)
    caller = Caller(wise, tmp_path, issued)

    status, body = caller.refresh(alice)
    assert status == 200
    assert caller.me(json.loads(body)["access_token"])[0] == 200
    assert wise.control.requests_with_certificate(issued.serial) == 2


def test_nobody_is_served_without_a_certificate(wise: RunningWise, alice: SeededUser, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        Caller(wise, tmp_path, None).refresh(alice)
    assert wise.control.requests() == []


@pytest.mark.parametrize(("days", "starts"), [(-1.0, -30.0), (365.0, 2.0)], ids=["over", "not-yet"])
def test_a_certificate_counts_only_while_it_is_valid(
    wise: RunningWise, alice: SeededUser, tmp_path: Path, days: float, starts: float
) -> None:
    issued = wise.control.issue_certificate(days=days, starts_in_days=starts)
    with pytest.raises(ssl.SSLError, match="ALERT"):
        Caller(wise, tmp_path, issued).refresh(alice)
    assert wise.control.requests() == []


def test_the_certificates_name_is_the_client_id(wise: RunningWise, alice: SeededUser, tmp_path: Path) -> None:
    other = Caller(wise, tmp_path, wise.control.issue_certificate("another-client"))
    status, body = other.refresh(alice)
    assert (status, json.loads(body)["error"]) == (401, "invalid_client")
    assert other.refresh(alice, "another-client")[0] == 401, "its own id is not this Wise's client"
    status, body = other.me(alice.access_token)
    assert (status, json.loads(body)["error"]) == (403, "access_denied")
    assert all(request.outcome != "refreshed" for request in wise.control.requests())


@pytest.mark.parametrize("highest", ["1.2", "1.3"])
def test_a_refused_certificate_meets_an_alert(
    wise: RunningWise, alice: SeededUser, tmp_path: Path, highest: str
) -> None:
    wise.control.change_settings(mtls_highest=highest)
    first, second = wise.control.issue_certificate(), wise.control.issue_certificate()
    wise.control.refuse_certificate(first.serial)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REVOKED"):
        Caller(wise, tmp_path, first).refresh(alice)
    assert wise.control.requests() == []
    assert Caller(wise, tmp_path, second).refresh(alice)[0] == 200

    wise.control.accept_certificate(first.serial)
    assert Caller(wise, tmp_path, first).refresh(wise.control.seed_user("bob"))[0] == 200


def test_a_refused_certificate_meets_a_page_or_a_reset(wise: RunningWise, alice: SeededUser, tmp_path: Path) -> None:
    issued = wise.control.issue_certificate()
    wise.control.refuse_certificate(issued.serial)

    wise.control.change_settings(refused_certificate="forbidden")
    status, body = Caller(wise, tmp_path, issued).refresh(alice)
    assert status == 403
    assert body.startswith("<html>")

    wise.control.change_settings(refused_certificate="reset")
    with pytest.raises(ConnectionError):
        Caller(wise, tmp_path, issued).refresh(alice)
    assert wise.control.requests() == []


def test_the_plain_host_refuses_the_api_once_mutual_tls_is_enforced(
    wise: RunningWise, client: WiseClient, alice: SeededUser, tmp_path: Path
) -> None:
    issued = wise.control.issue_certificate()
    wise.control.change_settings(mtls_only=True)

    refused = client.refresh(alice.refresh_token)
    assert refused.status == 403
    assert refused.json["error"] == "access_denied"
    address = urllib.parse.urlsplit(wise.authorize_url(client_id="x", redirect_uri="https://x.example"))
    page = http.client.HTTPSConnection(
        address.netloc, timeout=10, context=ssl.create_default_context(cafile=str(wise.ca_file))
    )
    page.request("GET", f"{address.path}?{address.query}")
    assert page.getresponse().getheader("Content-Type", "").startswith("text/html")
    page.close()
    assert Caller(wise, tmp_path, issued).refresh(alice)[0] == 200


def test_the_control_port_says_what_is_wrong(wise: RunningWise) -> None:
    with pytest.raises(WiseControlError, match="404"):
        wise.control.refuse_certificate("1234")
    with pytest.raises(WiseControlError, match="key_type"):
        wise.control.issue_certificate(key_type="rsa-1024")  # type: ignore[arg-type]
