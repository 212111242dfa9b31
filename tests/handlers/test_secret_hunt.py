"""No secret gets out: the whole story at DEBUG with marked secrets, hunted in everything that was written anywhere."""

from __future__ import annotations

import base64
import io
import json
import logging
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from local.hunt import forms, found
from local.wise.control import SeededUser
from local.wise.faults import Delivery, Endpoint, Fault
from local.wise.running import running_wise
from local.wise.settings import RefreshTokenPolicy, WiseSettings
from tests.fakes.world import FakeClock
from tests.handlers.conftest import nanoseconds
from tests.handlers.deployment import (
    ACME_ADMIN,
    ACME_READER,
    AWS_ENVIRONMENT,
    GRANT,
    LEDGER,
    REDIRECT_URI,
    WISE_SECRET,
    Answer,
    Deployment,
    Seen,
    offer,
    refusal,
    request,
)

ALL_SHARDS = {"shards": list(range(16))}
# A core that no escape changes, and characters that each escape does, so that no form is another's.
MARK = "Marked-{name}-secret/+%7E\"\\'<e>&=?~;fixture"
CLIENT_SECRET = MARK.format(name="client-secret")
CODE = MARK.format(name="registration-code")
EMAIL = "Marked-mailbox-secret+/fixture@example.com"


def marked(name: str) -> str:
    return MARK.format(name=name)


class Told:
    """Everything that the story's answers said, but for the fields that are there to tell a secret."""

    def __init__(self) -> None:
        self.places: list[tuple[str, bytes]] = []

    def note(self, what: str, answer: Answer) -> Answer:
        kept = answer.body if answer.text else {}
        if answer.status in (200, 201):
            for name in ("access_token", "authorization_url", "link_id"):
                kept.pop(name, None)
        self.places.append((f"answer {len(self.places)}: {what}", json.dumps([kept, answer.headers]).encode()))
        return answer


class Story:
    """One deployment whose every function and library talks at DEBUG, and what it said."""

    def __init__(self, deployment: Deployment, log: io.StringIO) -> None:
        self.deployment = deployment
        self.log = log
        self.told = Told()
        self.messages: list[dict[str, Any]] = []
        self.data_keys: list[bytes] = []
        self.lent: dict[str, str] = {}
        for function in deployment.functions:
            wired = function.wired
            owners = {"serve": "serve_token", "admin": "adopt_grant", "callback": "take_arrival"}
            owner = owners.get(function.name, "refresh_grant")
            use = getattr(wired, owner)
            client = (use.opener if function.name == "serve" else use.sealer)._client
            client.meta.events.register("after-call.kms", self._note_data_key)

    def _note_data_key(self, parsed: dict[str, Any], **_: object) -> None:
        self.data_keys.append(parsed["Plaintext"])

    # --- steps

    def user(self, name: str, *, age_s: float = 3600) -> SeededUser:
        user = self.deployment.wise.control.seed_user(
            name, access_token=marked(f"access-{name}"), refresh_token=marked(f"refresh-{name}"), age_s=age_s
        )
        self.lent |= {f"access token of {name}": user.access_token, f"refresh token of {name}": user.refresh_token}
        return user

    def adopt(self, name: str, **fields: object) -> SeededUser:
        user = self.user(name)
        body = {**offer(user), "registration": {"code": CODE, "email": EMAIL}, **fields}
        assert self.told.note("adopt", self.deployment.ask("PUT", name, body)).status == 201
        return user

    def consent(self, name: str, body: object = None) -> dict[str, str]:
        """Start a link and come back from Wise; all of it is secret."""
        started = self.told.note("link", self.deployment.start(name, body))
        told = self.deployment.consent(started, name)
        number = len(self.lent)
        self.lent |= {f"state {number}": told["state"], f"code {number}": told["code"]}
        return told

    def browse(self, query: dict[str, str]) -> Seen:
        """Come back with a browser. A link_id is for the partner alone; all else is noted."""
        page = self.deployment.browse(query)
        link_id = page.code or (page.sent_with.get("link_id") if page.sent_to else None)
        if link_id is None:
            self.told.places.append((f"page {len(self.told.places)}", f"{page.headers}{page.html}".encode()))
        else:
            self.lent[f"link_id {len(self.lent)}"] = link_id
        return page

    def look(self, name: str) -> Answer:
        """Ask for everything that can be asked about a grant."""
        self.told.note("list", self.deployment.ask("GET", None, caller=f"{ACME_READER}:fixture"))
        return self.ask(name)

    def ask(self, name: str) -> Answer:
        """Ask for a grant's token, then for what is known about it."""
        answer = self.told.note("token", self.deployment.token(name))
        self.told.note("metadata", self.deployment.ask("GET", name))
        return answer

    def refresh(self, name: str, fault: Fault | None = None, expected: int | None = None) -> Answer:
        self.deployment.make_due(name)
        self.deployment.forget_fleet()
        if fault is not None:
            self.deployment.wise.control.add_fault(fault)
        answer = self.ask(name)
        self.deployment.wise.control.clear_faults()
        if expected is not None:
            assert answer.status == expected, answer.text
        return answer

    # --- the hunt

    def secrets(self) -> dict[str, bytes]:
        """Everything that must not be found, tokens that Wise made on the way included."""
        tokens = self.deployment.wise.control.truth(values=True).tokens
        texts = {
            **self.lent,
            **{f"{t.kind} token {t.ordinal} of {t.user}": t.value for t in tokens if t.value is not None},
            "client secret": CLIENT_SECRET,
            "basic credentials": base64.b64encode(f"emulator-client-id:{CLIENT_SECRET}".encode()).decode(),
            "registration code": CODE,
            "e-mail": EMAIL,
        }
        keys = {f"data key {number}": key for number, key in enumerate(self.data_keys)}
        lines = self.deployment.certificate.private_key.splitlines()[1:-1]
        keys |= {f"line {number} of the client's key": line.encode() for number, line in enumerate(lines)}
        return {**{name: text.encode() for name, text in texts.items()}, **keys}

    def places(self) -> Iterator[tuple[str, bytes]]:
        for function in self.deployment.functions:
            yield f"console of {function.name}", function.console.getvalue().encode()
        yield "root logger", self.log.getvalue().encode()
        self.messages += self.deployment.alerts()
        yield "alerts", json.dumps(self.messages).encode()
        for item in self.deployment.items():
            yield f"item {item['pk']['S']}", b"".join(_bytes(item))
        yield from self.told.places
        yield (
            "invocations",
            json.dumps([self.deployment.invocations.calls, self.deployment.invocations.answers]).encode(),
        )
        for function in self.deployment.functions:
            yield f"environment of {function.name}", json.dumps(function.environment).encode()


def _bytes(value: object) -> Iterator[bytes]:
    """Every scalar of an item, one after the other."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name).encode() + b"\n"
            yield from _bytes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _bytes(inner)
    else:
        yield (value if isinstance(value, bytes) else str(value).encode()) + b"\n"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    clock, log = FakeClock(), io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s %(exc_text)s"))
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "boto3", "botocore", "urllib3", "requests")}
    settings = WiseSettings(
        client_secret=CLIENT_SECRET, refresh_token_policy=RefreshTokenPolicy.ROTATED, echo_refresh_token=True
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        running_wise(settings, wall_ns=lambda: nanoseconds(clock)) as wise,
        mock_aws(),
    ):
        for name, value in AWS_ENVIRONMENT.items():
            patch.setenv(name, value)
        deployment = Deployment(wise, clock, level="DEBUG", mtls=True)
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            yield Story(deployment, log)
        finally:
            root.removeHandler(handler)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _echo(story: Story, name: str) -> str:
    """A body that repeats what was sent, in every form that a proxy or a debug page might."""
    refresh_token = story.lent[f"refresh token of {name}"]
    told = " ".join(form.decode("latin-1") for _, form in forms(refresh_token.encode()))
    return f"<html>{told} {urllib.parse.urlencode({'refresh_token': refresh_token})}</html>"


def test_the_story_goes_its_way(story: Story) -> None:
    """Adopting, serving, refreshing, reporting, replacing, sweeping and forgetting, as they should go."""
    deployment = story.deployment
    user = story.adopt("plain", profile_id="75001")
    assert story.look("plain").status == 200
    version = deployment.ask("GET", "plain").body["version"]
    assert story.told.note("report", deployment.reject("plain", version)).status == 200
    story.refresh("plain", expected=200)
    story.refresh("plain", expected=200)
    deployment.make_due("plain")
    assert deployment.sweep(ALL_SHARDS)["refreshed"] == 1
    version = deployment.ask("GET", "plain").body["version"]
    stale = story.told.note("replay", deployment.ask("PUT", "plain", offer(user), if_match=version - 1))
    assert stale.status == 412
    linked = deployment.wise.control.seed_user(
        "plain", access_token=marked("access-linked"), refresh_token=marked("refresh-linked")
    )
    replaced = deployment.ask("PUT", "plain", offer(linked), if_match=version)
    assert story.told.note("replace", replaced).status == 200
    story.adopt("forgotten")
    assert story.told.note("delete", deployment.ask("DELETE", "forgotten")).status == 204


def test_the_story_of_our_applications_own_token_and_of_a_personal_one(story: Story) -> None:
    """Asking for the one, reporting and replacing it; adopting the other, serving, reporting and replacing it."""
    deployment = story.deployment

    def own(method: str, path: str, body: object = None) -> Answer:
        event = request(method, f"/v1/application{path}", "", caller=f"{LEDGER}:fixture")
        return deployment.call({**event, "body": None if body is None else json.dumps(body)})

    deployment.wise.control.add_fault(Fault(delivery=Delivery.RESET))
    story.told.note("own token, lost", own("GET", "/access-token"))
    deployment.wise.control.clear_faults()
    deployment.forget_fleet()
    deployment.clock.advance(seconds=100)
    served = own("GET", "/access-token")
    assert served.status == 200
    story.lent["own token"] = served.body["access_token"]
    report = {"version": served.body["version"], "error": "invalid_token"}
    story.told.note("own report", own("POST", "/access-token/rejections", report))
    assert story.told.note("own facts", own("GET", "")).status == 200

    story.lent |= {f"personal token {number}": marked(f"personal-{number}") for number in range(2)}
    body = {"personal_token": story.lent["personal token 0"]}
    assert story.told.note("personal", deployment.ask("PUT", "personal", body)).status == 201
    wrong = deployment.ask("PUT", "personal-wrong", {**body, "refresh_token": "fixture"})
    assert story.told.note("personal, wrong", wrong).status == 400
    assert story.look("personal").status == 200
    version = deployment.ask("GET", "personal").body["version"]
    assert story.told.note("personal, dead", deployment.reject("personal", version)).status == 409
    body = {"personal_token": story.lent["personal token 1"]}
    assert story.told.note("personal, new", deployment.ask("PUT", "personal", body, if_match=version)).status == 200


def test_the_story_goes_wrong_at_wise(story: Story) -> None:
    """Every outcome of the token endpoint, with bodies and headers that repeat the tokens."""
    story.adopt("faults")
    control = story.deployment.wise.control
    headers = {"X-Fixture-Echo": story.lent["refresh token of faults"], "Location": "https://fixture.invalid/"}
    pages = [(status, _echo(story, "faults")) for status in (301, 400, 401, 403, 404, 429, 500, 502)]
    errors = [(status, json.dumps({"error": story.lent["refresh token of faults"]})) for status in (400, 401, 500)]
    for status, body in (*pages, *errors):
        story.refresh("faults", Fault(status=status, headers=headers, body=body, carry_out=False))
        story.deployment.clock.advance(seconds=400)
    for error in ("invalid_client", "invalid_request", "invalid_scope"):
        body = json.dumps({"error": error, "error_description": story.lent["refresh token of faults"]})
        story.refresh("faults", Fault(status=400, body=body, carry_out=False))
        story.deployment.clock.advance(seconds=400)
    lost = [Fault(delivery=delivery) for delivery in (Delivery.RESET, Delivery.CLOSE, Delivery.TRUNCATED_BODY)]
    lost += [
        Fault(patch={name: value})
        for name, value in (("access_token", None), ("access_token", marked("not a token")), ("expires_in", CODE))
    ]
    for number, fault in enumerate(lost):
        story.adopt(f"lost-{number}")
        story.refresh(f"lost-{number}", fault)
    echo = Fault(status=500, body=_echo(story, "faults"), endpoint=Endpoint.ME)
    control.add_fault(echo)
    version = story.deployment.ask("GET", "faults").body["version"]
    story.told.note("report", story.deployment.reject("faults", version))
    control.clear_faults()
    assert len(control.requests(user="faults")) >= 14
    assert all(control.requests(user=f"lost-{number}") for number in range(len(lost)))


def test_the_story_ends_for_a_user(story: Story) -> None:
    """A revoked grant, whose refusal repeats the refresh token, and the alert about it."""
    for number in range(2):
        story.adopt(f"revoked-{number}")
        story.deployment.wise.control.revoke(f"revoked-{number}")
    assert story.refresh("revoked-0", expected=409).problem == "reauthorization-required"
    story.deployment.make_due("revoked-1")
    story.deployment.sweep(ALL_SHARDS)
    story.messages += story.deployment.alerts()
    told = [json.loads(message["Message"])["grant_id"] for message in story.messages]
    assert {"revoked-0", "revoked-1"} <= set(told)


def test_the_story_of_linking(story: Story) -> None:
    """Starting, coming back, completing and confirming; refusals and faults whose answers repeat what was sent."""
    deployment = story.deployment
    control = deployment.wise.control
    control.change_settings(redirect_uris=[REDIRECT_URI])
    control.put_user("linked-anew")
    url = {"return_url": "https://acme.example.com/linked?user=7"}
    for body in (None, url):
        page = story.browse(story.consent("linked-anew", body))
        link_id = page.code or page.sent_with["link_id"]
        assert story.told.note("confirm", deployment.confirm("linked-anew", link_id)).status == 200
        story.told.note("confirm", deployment.confirm("linked-anew", link_id))
    told = story.consent("linked-anew")
    done = deployment.complete("linked-anew", {"state": told["state"], "code": told["code"]})
    story.told.note("complete", done)
    assert story.look("linked-anew").status == 200
    headers = {"X-Fixture-Echo": marked("echo"), "Location": "https://fixture.invalid/"}
    for status in (301, 400, 401, 429, 500, 502):
        told = story.consent("linked-anew", None if status % 2 else url)
        echo = f"<html>{told} {urllib.parse.urlencode(told)}</html>"
        for text in (echo, json.dumps({"error": told["code"], "error_description": told["code"]})):
            control.add_fault(Fault(status=status, headers=headers, body=text, carry_out=False))
            story.browse(told)
            control.clear_faults()
            told = story.consent("linked-anew")
    told = story.consent("linked-anew")
    secret = marked("misplaced in a browser")
    story.lent["misplaced in a browser"] = secret
    story.browse({**told, "error": secret, "error_description": secret})
    story.browse({"state": secret, "code": secret, "profileId": secret})
    told = story.consent("linked-anew")
    for body in ({"state": secret, "code": secret}, {**told, "state": told["state"]}, {"code": told["code"]}):
        story.told.note("complete", deployment.complete("linked-anew", body))
    story.told.note("confirm", deployment.confirm("linked-anew", secret))
    story.told.note("link", deployment.start("linked-anew", {"return_url": secret}))


def test_the_story_goes_wrong_at_aws(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the SDK's, and errors of nobody's, whose texts repeat tokens."""
    deployment = story.deployment
    story.adopt("broken")
    echo = story.lent["refresh token of broken"]

    def refuse(**_: object) -> None:
        error = refusal("Any", "InternalServerError", 500)
        error.response["Error"]["Message"] = echo
        raise error

    def explode(**_: object) -> None:
        raise LookupError(echo, CODE, CLIENT_SECRET)

    for fail in (refuse, explode):
        for place, name in (("links", "get_item"), ("links", "update_item"), ("links", "put_item")):
            told = story.consent("linked-anew")
            with monkeypatch.context() as patch:
                patch.setattr(getattr(deployment.callback.wired.take_arrival, place)._client, name, fail)
                story.browse(told)
        with monkeypatch.context() as patch:
            patch.setattr(deployment.serve.wired.grants._client, "get_item", fail)
            patch.setattr(deployment.admin.wired.adopt_grant.grants._client, "get_item", fail)
            story.look("broken")
            story.told.note("put", deployment.ask("PUT", "broken", {"refresh_token": echo}))
            story.told.note("delete", deployment.ask("DELETE", "broken"))
        for function in (deployment.refresh, deployment.sweep):
            grants = function.wired.refresh_grant.grants._client
            sealer = function.wired.refresh_grant.sealer._client
            sns = function.wired.refresh_due.tell.publisher._client
            for client, name in ((grants, "update_item"), (sealer, "decrypt"), (sns, "publish"), (grants, "query")):
                with monkeypatch.context() as patch:
                    patch.setattr(client, name, fail)
                    deployment.make_due("broken")
                    if function is deployment.refresh:
                        story.look("broken")
                    elif fail is refuse or client is not grants:
                        deployment.sweep(ALL_SHARDS)
                deployment.clock.advance(seconds=400)
        with monkeypatch.context() as patch:
            patch.setattr(deployment.refresh.wired.wise, "refresh", lambda *_, **__: explode())
            patch.setattr(deployment.sweep.wired.wise, "refresh", lambda *_, **__: explode())
            deployment.make_due("broken")
            story.look("broken")
            deployment.clock.advance(seconds=60)
            deployment.make_due("broken")
            deployment.sweep(ALL_SHARDS)
            deployment.clock.advance(seconds=400)


def test_the_story_is_told_nonsense(story: Story) -> None:
    """Secrets in all the wrong places of a request."""
    deployment = story.deployment
    secret = marked("misplaced")
    story.lent["misplaced secret"] = secret
    body = {"refresh_token": secret}
    for answer in (
        deployment.ask("PUT", "grant", {**body, "scope": [secret]}),
        deployment.ask("PUT", "grant", {**body, "issued_at": secret}),
        deployment.ask("PUT", "grant", {**body, "access_token": f"{secret} "}),
        deployment.ask("PUT", "grant", {**body, "registration": {"code": secret, "email": secret}}),
        deployment.ask("PUT", "grant", {**body, "profile_id": secret}),
        deployment.ask("PUT", "grant", secret),
        deployment.ask("PUT", "grant", body, if_match=secret),
        deployment.ask("PUT", secret, body),
        deployment.ask("GET", secret),
        deployment.ask("GET", "grant", tenant=secret),
        deployment.ask("GET", "grant", caller=f"{ACME_ADMIN}:{secret}"),
        deployment.ask("GET", "grant", caller=secret),
        deployment.ask("GET", None, query={"limit": secret}),
        deployment.ask("GET", None, query={"after": secret}),
        deployment.call(request("GET", GRANT, "acme", "grant", path=secret)),
        deployment.ask("POST", "grant", {"version": secret, "error": secret}, sub="/access-token/rejections"),
    ):
        story.told.note("nonsense", answer)
        assert answer.status in (400, 403, 404)
    for function in (deployment.sweep, deployment.refresh):
        event = {"shards": [], "tenant": secret, "grant_id": secret, "rejected": None}
        if function is deployment.refresh:
            assert function(event)["outcome"] == "failed"
    secrets = deployment.secrets
    current = secrets.get_secret_value(SecretId=WISE_SECRET)["SecretString"]
    for text in (CLIENT_SECRET, json.dumps([CLIENT_SECRET]), json.dumps({"environment": CLIENT_SECRET})):
        deployment.write_secret(text)
        deployment.sweep(ALL_SHARDS)
        deployment.refresh({"tenant": "acme", "grant_id": "plain", "rejected": None})
    deployment.write_secret(json.dumps({**json.loads(current), "environment": CLIENT_SECRET}))
    deployment.sweep(ALL_SHARDS)
    deployment.write_secret(json.dumps({**json.loads(current), "client_secret": marked("wrong-client-secret")}))
    story.lent["wrong client secret"] = marked("wrong-client-secret")
    story.adopt("wrong-client")
    story.refresh("wrong-client")
    deployment.write_secret(current)


def test_everybody_talked(story: Story) -> None:
    """The hunt means something: the logs are full, and they are at DEBUG."""
    for function in story.deployment.functions:
        assert len(function.logged()) > 10
    assert "request served" in story.log.getvalue(), "the emulator's own DEBUG lines"
    assert len(story.secrets()) > 60
    assert len(list(story.places())) > 80
    assert len(story.data_keys) > 20


def test_no_secret_is_found_anywhere(story: Story) -> None:
    assert found(story.secrets(), story.places()) == []


def test_no_secret_lies_in_the_events() -> None:
    """The events' own tokens say that they are fixtures."""
    for path in (Path(__file__).parents[2] / "events").glob("*.json"):
        event = json.loads(path.read_text(encoding="utf-8"))
        raw = event.get("body") or ""
        body = base64.b64decode(raw).decode() if event.get("isBase64Encoded") else raw
        try:
            fields = json.loads(body)
        except ValueError:
            continue
        for name in ("access_token", "refresh_token", "refreshToken"):
            assert str(fields.get(name, "fixture-")).startswith("fixture-")


def test_the_hunt_finds_a_secret_in_every_form() -> None:
    text = marked("planted")
    for secret in (text.encode(), text.encode() + b"\xff\x00", bytes(range(224, 256))):
        for _, form in forms(secret):
            assert found({"planted": secret}, [("somewhere", b"before " + form + b" behind")])
        for lead in range(4):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                assert found({"planted": secret}, [("somewhere", encode(b"x" * lead + secret + b"yz"))])
        assert found({"planted": secret}, [("somewhere", marked("other").encode())]) == []
    stacked = repr(json.dumps({"body": json.dumps({"value": urllib.parse.quote(text)})})).encode()
    assert found({"planted": text.encode()}, [("somewhere", stacked)])


def test_the_hunt_would_find_what_the_sdk_logs_at_debug(story: Story) -> None:
    """The libraries' loggers are what keeps the SDK from logging every answer, data keys included."""
    deployment = story.deployment
    before, heard = story.log.tell(), logging.getLogger("botocore").level
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    try:
        deployment.serve.wired.serve_token.opener._opened.clear()
        assert deployment.token("plain").status == 200
        deployment.write_secret(None)
        deployment.make_due("plain")
        deployment.token("plain")
    finally:
        logging.getLogger("botocore").setLevel(heard)
    heard_now = story.log.getvalue()[before:].encode()
    names = " ".join(found(story.secrets(), [("root logger", heard_now)]))
    assert "data key" in names
    assert "client secret" in names
