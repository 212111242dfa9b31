"""The programs of the pages, run as they stand there, and the answers that the pages describe."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.docs.pages import ROOT, blocks, program, read, table, words
from tests.handlers.deployment import ACME_ADMIN, REDIRECT_URI, REGION, Answer, Deployment, request

KEYS = Credentials("fixture-key-id", "fixture-secret-key", "fixture-session-token")
FORBIDDEN = Answer(403, {}, '{"type":"urn:token-rotator:problem:unauthenticated"}')
SCHEMAS: dict[str, Any] = json.loads(read("docs/openapi.json"))["components"]["schemas"]


class Gateway:
    """API Gateway as far as a caller sees it: it checks the signature and hands the request to the functions."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.requests: list[str] = []
        self.instead: list[Answer] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = outer.answer(self.command, self.path, dict(self.headers.items()), body)
                content = found.text.encode()
                self.send_response(found.status)
                for name, value in {**found.headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the server's own names

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the server's own signature
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/live"

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.requests.append(f"{method} {path}")
        if not self._signed(method, path, {name.lower(): value for name, value in headers.items()}, body):
            return FORBIDDEN
        if self.instead:
            return self.instead.pop(0)
        found = re.fullmatch(r"/live/v1/tenants/([^/]+)/grants/([^/]+)(/access-token(?:/rejections)?)?", path)
        assert found is not None
        tenant, grant_id, sub = found.groups()
        resource = "/v1/tenants/{tenant}/grants/{grant_id}" + (sub or "")
        event = request(method, resource, tenant, grant_id, caller=f"{ACME_ADMIN}:fixture-session", headers=headers)
        event["body"] = body.decode() or None
        return self.deployment.call(event)

    def _signed(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bool:
        parts = dict(re.findall(r"(\w+)=([^,\s]+)", headers.get("authorization", "")))
        signed = {name: headers[name] for name in parts.get("SignedHeaders", "").split(";") if name in headers}
        if not {"host", "x-amz-date", "x-amz-security-token"} <= set(signed):
            return False
        again = AWSRequest(method, f"http://{headers['host']}{path}", headers=signed, data=body)
        again.context["timestamp"] = headers["x-amz-date"]
        auth = SigV4Auth(KEYS, "execute-api", REGION)
        signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
        return signature == parts["Signature"]


class Time:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def gateway(deployment: Deployment) -> Iterator[Gateway]:
    found = Gateway(deployment)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@pytest.fixture
def partner() -> SimpleNamespace:
    """The README's program, with a clock of its own."""
    names: dict[str, Any] = {"__name__": "partner"}
    exec(compile(program("README.md", "partner.py"), "partner.py", "exec"), names)  # noqa: S102 - our own page
    names["time"] = Time()
    return SimpleNamespace(names=names, **{name: value for name, value in names.items() if not name.startswith("__")})


@pytest.fixture
def rotator(partner: SimpleNamespace, gateway: Gateway) -> Any:
    return partner.TokenRotator(gateway.url, "acme", KEYS, REGION)


def offer(user: Any) -> dict[str, str]:
    return {
        "refresh_token": user.refresh_token,
        "access_token": user.access_token,
        "issued_at": user.issued_at.isoformat(),
        "expires_at": user.expires_at.isoformat(),
    }


def test_a_partner_adopts_fetches_and_keeps_a_token(
    deployment: Deployment, partner: SimpleNamespace, gateway: Gateway, rotator: Any, grant_id: str
) -> None:
    user = deployment.wise.control.seed_user(grant_id)
    adopted = rotator.call("PUT", grant_id, offer(user))
    assert adopted.status_code == 201
    token = rotator.token(grant_id)
    assert (token["access_token"], token["version"]) == (user.access_token, adopted.json()["version"])
    partner.names["time"].now += token["stable_for_s"] - 1
    assert rotator.token(grant_id) == token
    assert len(gateway.requests) == 2
    partner.names["time"].now += 1
    rotator.token(grant_id)
    assert len(gateway.requests) == 3


def test_a_wrong_key_is_refused(partner: SimpleNamespace, gateway: Gateway, grant_id: str) -> None:
    forged = Credentials("fixture-key-id", "another-key", "fixture-session-token")
    stranger = partner.TokenRotator(gateway.url, "acme", forged, REGION)
    with pytest.raises(partner.requests.HTTPError, match="403"):
        stranger.token(grant_id)


def test_retry_after_is_followed(
    deployment: Deployment, partner: SimpleNamespace, gateway: Gateway, rotator: Any, grant_id: str
) -> None:
    deployment.adopt(grant_id)
    gateway.instead = [Answer(503, {"Retry-After": "7"}, "{}"), Answer(429, {"Retry-After": "1"}, "{}")]
    assert rotator.token(grant_id)["access_token"]
    assert partner.names["time"].slept == [7, 1]


def test_patience_ends(partner: SimpleNamespace, gateway: Gateway, rotator: Any, grant_id: str) -> None:
    gateway.instead = [Answer(503, {"Retry-After": "40"}, "{}")] * 5
    with pytest.raises(partner.requests.HTTPError, match="503"):
        rotator.token(grant_id)
    assert partner.names["time"].slept == [40, 40]


def test_a_write_without_an_answer_is_not_repeated(
    partner: SimpleNamespace, gateway: Gateway, rotator: Any, grant_id: str
) -> None:
    gateway.instead = [Answer(504, {"Retry-After": "5"}, "{}")]
    with pytest.raises(partner.requests.HTTPError, match="504"):
        rotator.call("PUT", grant_id, {"refresh_token": "fixture-refresh-token"})
    assert len(gateway.requests) == 1


@pytest.fixture
def trusting(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partner's machine knows the authority that the Wise emulator's certificate comes from."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(deployment.wise.ca_file))


@pytest.mark.usefixtures("trusting")
def test_a_dead_token_is_reported_and_the_call_made_again(
    deployment: Deployment,
    partner: SimpleNamespace,
    gateway: Gateway,
    rotator: Any,
    grant_id: str,
) -> None:
    deployment.adopt(grant_id)
    old = rotator.token(grant_id)
    deployment.make_due(grant_id)
    assert deployment.token(grant_id).body["version"] == old["version"] + 1
    answer = partner.call_wise(rotator, grant_id, deployment.wise.me_url())
    assert answer.status_code == 200
    assert gateway.requests[-1].startswith("POST")
    assert rotator.token(grant_id)["version"] == old["version"] + 1


def test_the_partner_role_is_taken_with_its_external_id(partner: SimpleNamespace, aws: None) -> None:
    found = partner.partner_credentials("arn:aws:iam::123456789012:role/fixture", "fixture-external-id", "fixture")
    assert found.get_frozen_credentials().token


# --- what is described


def test_the_description_is_of_what_is_answered_and_taken(deployment: Deployment, grant_id: str) -> None:
    shown = deployment.adopt(grant_id, age_s=3600).body
    assert set(shown) == set(SCHEMAS["Grant"]["properties"]) == set(SCHEMAS["Grant"]["required"])
    served = deployment.token(grant_id).body
    assert set(served) == set(SCHEMAS["AccessToken"]["required"])
    reported = deployment.reject(grant_id, served["version"]).body
    assert set(reported) == set(SCHEMAS["AccessToken"]["properties"])
    page = deployment.ask("GET", None).body
    assert set(page) == set(SCHEMAS["GrantPage"]["properties"])
    assert set(page["grants"][0]) == set(SCHEMAS["GrantPage"]["properties"]["grants"]["items"]["properties"])
    assert set(SCHEMAS["Offer"]["properties"]) == deployment.admin.module._FIELDS


def test_the_description_of_linking_is_of_what_is_answered(deployment: Deployment, grant_id: str) -> None:
    deployment.wise.control.change_settings(redirect_uris=[REDIRECT_URI])
    deployment.wise.control.put_user(grant_id)
    started = deployment.start(grant_id)
    assert set(started.body) == set(SCHEMAS["LinkStarted"]["properties"]) == set(SCHEMAS["LinkStarted"]["required"])
    told = deployment.consent(started, grant_id)
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    assert set(body) == set(SCHEMAS["LinkCompletion"]["properties"])
    done = deployment.complete(grant_id, body)
    assert set(done.body) == set(SCHEMAS["LinkCompleted"]["properties"]) == set(SCHEMAS["LinkCompleted"]["required"])
    assert set(deployment.confirm(grant_id, done.body["link_id"]).body) == set(SCHEMAS["Grant"]["properties"])


def test_an_alert_is_as_described(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    deployment.wise.control.revoke(grant_id)
    deployment.make_due(grant_id)
    assert deployment.token(grant_id).problem == "reauthorization-required"
    (alert,) = deployment.alerts()
    message = json.loads(alert["Message"])
    rows = table("docs/operations.md", "fields: Alert")
    assert sorted(message) == sorted(word for row in rows for word in words(row[0]))
    assert (ROOT / message["runbook"]).exists()
    shown = deployment.ask("GET", grant_id).body["alert"]
    assert set(shown) == set(SCHEMAS["GrantAlert"]["properties"])


def test_the_secret_of_the_example_is_understood(deployment: Deployment) -> None:
    (example,) = (block for block in blocks("README.md", "json") if '"client_secret"' in block)
    deployment.write_secret(example)
    assert deployment.sweep.wired.wise._secrets.get().client_id == "your client id"
    deployment.write_secret(None)
