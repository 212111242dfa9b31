"""One deployment in this process: each function loaded as Lambda loads it, moto as AWS, the Wise emulator as Wise.

Each function has modules, environment and a console of its own; all share one clock, which moves only when told or
when somebody sleeps. Nothing of the product is replaced but that clock and the invocation of one function by another.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import io
import json
import logging
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.wise.control import SeededUser
from local.wise.running import RunningWise
from local.wise.settings import WiseSettings
from local.wise.visitor import Visitor
from local.wise.webhooks import EventDelivery
from tests.fakes.world import FakeClock
from tests.handlers.described import why_not

REGION = "eu-west-1"
WISE_SECRET = "token-rotator/sandbox/wise"
REFRESH_FUNCTION = "fixture-refresh-function"
ACME_ADMIN, ACME_READER, ACME_WRITER, GLOBEX, OPERATOR, LEDGER = (
    "AROAEXAMPLEACMEADMIN1",
    "AROAEXAMPLEACMEREAD01",
    "AROAEXAMPLEACMEWRIT01",
    "AROAEXAMPLEGLOBEX0001",
    "AROAEXAMPLEOPERATOR01",
    "AROAEXAMPLELEDGER0001",
)
PARTNERS = [
    {
        "name": "acme-onboarding",
        "role_id": ACME_ADMIN,
        "tenants": ["acme"],
        "may": ["read", "manage", "link"],
        "return_urls": ["https://acme.example.com/linked"],
    },
    {"name": "acme-payouts", "role_id": ACME_READER, "tenants": ["acme"], "may": ["read"]},
    {"name": "acme-import", "role_id": ACME_WRITER, "tenants": ["acme"], "may": ["manage"]},
    {"name": "globex", "role_id": GLOBEX, "tenants": ["globex", "globex.eu"], "may": ["read", "manage", "link"]},
    {"name": "ledger", "role_id": LEDGER, "tenants": [], "may": ["application"]},
    {"name": "operations", "role_id": OPERATOR, "tenants": ["acme", "globex"], "may": ["operate"]},
]
AWS_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "fixture",
    "AWS_SECRET_ACCESS_KEY": "fixture",
    "AWS_SESSION_TOKEN": "fixture",
}
GRANT = "/v1/tenants/{tenant}/grants/{grant_id}"
CALLBACK = "/oauth/callback"
EVENTS = "/wise/events"
REDIRECT_URI = WiseSettings().redirect_uris[0]
REQUEST_ID = "00000000-0000-4000-8000-00000000fade"
"""What API Gateway says of every request that a test makes up."""


def in_environment(*keys: str) -> str:
    """Public keys in PEM, as the functions get them."""
    return " ".join("".join(key.split("\n")[1:-2]) for key in keys)


OTHER_SIGNER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = (
    OTHER_SIGNER.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
"""Of two keys that are deployed, the one that Wise does not sign with yet, or no longer."""


@dataclass
class Context:
    """What a function asks of Lambda's context."""

    seconds: float = 10.5
    """How long the function may still run; a sweep keeps 10 s of it for its last attempt."""

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


class Function:
    """One function's process. Calls are answered in this thread."""

    def __init__(self, name: str, environment: Mapping[str, str], clock: FakeClock, level: str = "INFO") -> None:
        self.name = name
        self.environment = {
            "POWERTOOLS_SERVICE_NAME": name,
            "POWERTOOLS_METRICS_NAMESPACE": "TokenRotator",
            "POWERTOOLS_LOG_LEVEL": level,
            **AWS_ENVIRONMENT,
            **environment,
        }
        self.console = io.StringIO()
        self.modules: dict[str, ModuleType] = {}
        with self.inside(), _fresh_modules(self.modules):
            logging.Logger.manager.loggerDict.pop(name, None)  # Powertools keeps one logger for each service's name
            self.module = importlib.import_module(f"token_rotator.handlers.{name}")
        clients: Any = self.modules["token_rotator.wiring.clients"]
        clients.datetime = SimpleNamespace(now=lambda _zone: clock())
        clients.time = SimpleNamespace(sleep=lambda seconds: clock.sleep(timedelta(seconds=seconds)))

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Run in the function's environment, its output going to its console."""
        outer = dict(os.environ)
        os.environ.clear()
        os.environ.update({"PATH": outer.get("PATH", ""), **self.environment})
        try:
            with contextlib.redirect_stdout(self.console), contextlib.redirect_stderr(self.console):
                yield
        finally:
            os.environ.clear()
            os.environ.update(outer)

    def __call__(self, event: Any, context: Context | None = None) -> dict[str, Any]:
        with self.inside():
            answer: dict[str, Any] = self.module.handler(event, context or Context())
        return answer

    @property
    def wired(self) -> Any:
        """What the function is made of."""
        names = {"serve": "_serving", "admin": "_administering", "callback": "_linking"}
        return getattr(self.module, names.get(self.name, "_refreshing"))

    def forget(self) -> None:
        """Empty the console."""
        self.console.seek(0)
        self.console.truncate()

    def lines(self) -> list[dict[str, Any]]:
        """Every line on the console, which are all JSON."""
        return [json.loads(line) for line in self.console.getvalue().splitlines()]

    def logged(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if "_aws" not in line]

    def metrics(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if "_aws" in line]

    def told(self, name: str) -> list[float]:
        """The values of one metric, in order."""
        return [value for line in self.metrics() if name in line for value in line[name]]


@contextlib.contextmanager
def _fresh_modules(into: dict[str, ModuleType]) -> Iterator[None]:
    """Load the package anew, and put back whatever was loaded of it before."""

    def ours() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "token_rotator"}

    before = ours()
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        into.update(ours())
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


class Invocations:
    """`serve`'s way to `refresh`, at the boundary of the SDK's client: JSON text in, JSON text out."""

    def __init__(self, refresh: Function) -> None:
        self.refresh = refresh
        self.calls: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.instead: Callable[[], dict[str, Any]] | None = None
        """Called in place of the function, to answer or to raise."""

    def invoke(self, **request: Any) -> dict[str, Any]:
        assert set(request) == {"FunctionName", "Payload"}
        assert request["FunctionName"] == REFRESH_FUNCTION
        self.calls.append(json.loads(request["Payload"]))
        if self.instead is not None:
            return self.instead()
        answer = self.refresh(self.calls[-1])
        self.answers.append(answer)
        return payload(json.dumps(answer).encode())


def payload(content: bytes, **more: str) -> dict[str, Any]:
    """An answer of Lambda's."""
    return {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(content), len(content)), **more}


def refusal(operation: str, code: str, status: int = 400) -> ClientError:
    """What the SDK raises for an error of AWS's."""
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        operation,
    )


@dataclass
class Answer:
    """An answer of the API."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found

    @property
    def problem(self) -> str | None:
        """The code that ends the problem's type."""
        if self.headers.get("Content-Type") != "application/problem+json":
            return None
        return str(self.body["type"]).removeprefix("urn:token-rotator:problem:")


@dataclass
class Deployment:
    """Everything that `cdk deploy` would have made, and the five functions on it.

    `mtls`: they talk to the listener that demands a certificate.
    """

    wise: RunningWise
    clock: FakeClock
    level: str = "INFO"
    log_environment: Mapping[str, str] = field(default_factory=dict)
    mtls: bool = False

    def __post_init__(self) -> None:
        session = boto3.Session(region_name=REGION, aws_access_key_id="fixture", aws_secret_access_key="fixture")
        self.dynamodb = session.client("dynamodb")
        self.kms = session.client("kms")
        self.secrets = session.client("secretsmanager")
        self.sns = session.client("sns")
        self.sqs = session.client("sqs")
        self.table = self._table()
        self.access_key = self.kms.create_key(Description="access-tokens")["KeyMetadata"]["Arn"]
        self.refresh_key = self.kms.create_key(Description="refresh-tokens")["KeyMetadata"]["Arn"]
        self.topic = self.sns.create_topic(Name="fixture-alerts")["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName="fixture-on-call")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn)
        self.parked = self.sqs.create_queue(QueueName="fixture-parked")["QueueUrl"]
        # Good at the tests' instants and at the machine's: TLS itself goes by the latter.
        self.certificate = self.wise.control.issue_certificate(days=1_000, starts_in_days=-1_000)
        self.secrets.create_secret(Name=WISE_SECRET, SecretString=self._secret(environment="sandbox"))
        self.sweep = self.load("sweep")
        self.refresh = self.load("refresh")
        self.serve = self.load("serve")
        self.admin = self.load("admin")
        self.callback = self.load("callback")
        self.invocations = Invocations(self.refresh)
        self.serve.wired.serve_token.refresher._client = self.invocations

    @property
    def functions(self) -> tuple[Function, ...]:
        return self.sweep, self.refresh, self.serve, self.admin, self.callback

    def _table(self) -> str:
        """The table as infra/grants_store.py describes it."""
        kinds = {"pk": "S", "tenant": "S", "grant_id": "S", "due_shard": "N", "due_at": "N"}
        self.dynamodb.create_table(
            TableName="fixture-grants",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind}  # type: ignore[typeddict-item]
                for name, kind in kinds.items()
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "due",
                    "KeySchema": [
                        {"AttributeName": "due_shard", "KeyType": "HASH"},
                        {"AttributeName": "due_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                },
                {
                    "IndexName": "tenant",
                    "KeySchema": [
                        {"AttributeName": "tenant", "KeyType": "HASH"},
                        {"AttributeName": "grant_id", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["phase", "created_at"]},
                },
            ],
        )
        return "fixture-grants"

    def _secret(self, **changes: str) -> str:
        settings, shown = self.wise.state.settings, {}
        if self.mtls:
            shown = {"certificate": self.certificate.certificate, "private_key": self.certificate.private_key}
        return json.dumps(
            {"client_id": settings.client_id, "client_secret": settings.client_secret, **shown, **changes}
        )

    def write_secret(self, text: str | None) -> None:
        """Give the Wise secret another value, the right one by default, which the functions read at the next use."""
        text = self._secret(environment="sandbox") if text is None else text
        try:
            self.secrets.put_secret_value(SecretId=WISE_SECRET, SecretString=text)
        except self.secrets.exceptions.ResourceNotFoundException:
            self.secrets.create_secret(Name=WISE_SECRET, SecretString=text)
        self._forget_secret()

    def delete_secret(self) -> None:
        self.secrets.delete_secret(SecretId=WISE_SECRET, ForceDeleteWithoutRecovery=True)
        self._forget_secret()

    def _forget_secret(self) -> None:
        for function in (self.sweep, self.refresh, self.callback):
            function.wired.wise._secrets.forget()

    def forget_fleet(self) -> None:
        """Close the breaker and give every lane its calls back, as a quiet hour would."""
        self.dynamodb.delete_item(TableName=self.table, Key={"pk": {"S": "#fleet"}})
        for function in (self.sweep, self.refresh):
            breaker = function.wired.breaker
            breaker._seen = type(breaker._seen)()
            breaker._row = type(breaker._row)()

    def load(self, name: str, **changes: str) -> Function:
        """Start a function's process anew."""
        environment = {**self.environment(name), **self.log_environment, **changes}
        return Function(name, environment, self.clock, self.level)

    def environment(self, name: str) -> dict[str, str]:
        """The variables that the stack gives a function."""
        common = {
            "ROTATOR_ENVIRONMENT": "sandbox",
            "GRANTS_TABLE": self.table,
            "ACCESS_TOKENS_KEY_ARN": self.access_key,
        }
        if name != "serve":
            common["REFRESH_TOKENS_KEY_ARN"] = self.refresh_key
        if name in ("serve", "admin", "callback"):
            common["PARTNERS"] = json.dumps(PARTNERS)
        if name == "admin":
            common |= {
                "WISE_WEB_HOST": self.wise.url.removeprefix("https://"),
                "WISE_CLIENT_ID": self.wise.state.settings.client_id,
                "REDIRECT_URI": REDIRECT_URI,
            }
        if name == "serve":
            common["REFRESH_FUNCTION"] = REFRESH_FUNCTION
        if name in ("sweep", "refresh", "callback"):
            common |= {
                "WISE_API_URL": self.wise.mtls_url if self.mtls else self.wise.url,
                "WISE_MTLS": str(self.mtls).lower(),
                "WISE_CA_FILE": str(self.wise.ca_file),
                "WISE_SECRET_NAME": WISE_SECRET,
            }
        if name == "callback":
            common["WISE_WEBHOOK_KEYS"] = in_environment(OTHER_KEY, self.wise.webhooks.public_key)
        if name in ("sweep", "refresh"):
            common |= {"ALERTS_TOPIC_ARN": self.topic, "PARKED_QUEUE_URL": self.parked}
        return common

    # --- the API

    def call(self, event: Mapping[str, Any]) -> Answer:
        """Do what API Gateway does with an event: the function that the method belongs to answers it, as described."""
        answer = answered(self.function_of(event)(event))
        told = str(event.get("resource")), str(event.get("httpMethod")), answer.status, answer.headers, answer.text
        assert why_not(*told) is None, why_not(*told)
        return answer

    def function_of(self, event: Mapping[str, Any]) -> Function:
        resource = str(event.get("resource"))
        if resource.endswith(("/link/complete", CALLBACK, EVENTS)):
            return self.callback
        manages = event.get("httpMethod") in ("PUT", "DELETE") or "/link" in resource or resource == "/v1/suspension"
        return self.admin if manages else self.serve

    def ask(
        self,
        method: str,
        grant_id: str | None,
        body: object = None,
        *,
        sub: str = "",
        tenant: str = "acme",
        caller: str = f"{ACME_ADMIN}:fixture-session",
        if_match: object = None,
        query: Mapping[str, str] | None = None,
        link_id: str | None = None,
    ) -> Answer:
        resource = (GRANT if grant_id is not None else GRANT.removesuffix("/{grant_id}")) + sub
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        event = request(
            method, resource, tenant, grant_id, caller=caller, headers=headers, query=query, link_id=link_id
        )
        event["body"] = body if isinstance(body, str) or body is None else json.dumps(body)
        return self.call(event)

    def suspension(
        self,
        method: str,
        tenant: str | None = None,
        grant_id: str | None = None,
        body: object = None,
        *,
        caller: str = f"{OPERATOR}:fixture-session",
        what: str = "suspension",
    ) -> Answer:
        """Suspend, or lift that: one grant, a tenant, or everything. `what` is `suspension`, or `hold`."""
        if tenant is None:
            event = request(method, f"/v1/{what}", "", caller=caller)
            event["pathParameters"] = None
        else:
            resource = (GRANT if grant_id is not None else "/v1/tenants/{tenant}") + f"/{what}"
            event = request(method, resource, tenant, grant_id, caller=caller)
        event["body"] = None if body is None else json.dumps(body)
        return self.call(event)

    def forget_suspensions(self) -> None:
        """Lift everything, and let every process ask anew what is suspended."""
        self.dynamodb.delete_item(TableName=self.table, Key={"pk": {"S": "#suspended"}})
        for known in (
            self.serve.wired.serve_token.suspensions,
            self.callback.wired.take_arrival.suspensions,
            *(function.wired.refresh_grant.suspensions for function in (self.sweep, self.refresh)),
        ):
            known._known.forget()

    def token(self, grant_id: str, **more: Any) -> Answer:
        return self.ask("GET", grant_id, sub="/access-token", **more)

    def reject(self, grant_id: str, version: int, **more: Any) -> Answer:
        body = {"version": version, "error": "invalid_token"}
        return self.ask("POST", grant_id, body, sub="/access-token/rejections", **more)

    def adopt(self, grant_id: str, user: SeededUser | None = None, *, age_s: float = 0, **fields: object) -> Answer:
        """Adopt a user's grant with all that Wise gave; one that is new at Wise unless named."""
        user = user or self.wise.control.seed_user(grant_id, age_s=age_s)
        answer = self.ask("PUT", grant_id, {**offer(user), **fields})
        assert answer.status == 201, answer.text
        return answer

    # --- linking

    def start(self, grant_id: str, body: object = None, **more: Any) -> Answer:
        return self.ask("POST", grant_id, body, sub="/link", **more)

    def confirm(self, grant_id: str, link_id: str, **more: Any) -> Answer:
        return self.ask("POST", grant_id, sub="/link/{link_id}/confirm", link_id=link_id, **more)

    def complete(self, grant_id: str, body: object, **more: Any) -> Answer:
        return self.ask("POST", grant_id, body, sub="/link/complete", **more)

    def consent(self, started: Answer, user: str, **more: Any) -> dict[str, str]:
        """Go to Wise as the started link says, and come back with what Wise sends along."""
        assert started.status == 201, started.text
        page = Visitor(self.wise.ca_file).authorize(started.body["authorization_url"], user, **more)
        return page.query()

    def browse(self, query: Mapping[str, str] | None) -> Seen:
        """Come back from Wise with a browser."""
        return seen(self.callback(browser(query)))

    # --- Wise's events

    def events(self) -> list[EventDelivery]:
        """What Wise has told so far, of whatever it was asked to tell."""
        return self.wise.webhooks.deliveries()

    def deliver(self, delivery: EventDelivery, **changes: Any) -> int:
        """Hand an event in as API Gateway does; the status of the answer, which has nothing else in it."""
        return told(self.callback(delivered(delivery, **changes)))

    # --- behind the API

    def item(self, grant_id: str, tenant: str = "acme") -> dict[str, Any]:
        return self.dynamodb.get_item(TableName=self.table, Key={"pk": {"S": f"{tenant}#{grant_id}"}}).get("Item", {})

    def items(self) -> list[dict[str, Any]]:
        return list(self.dynamodb.scan(TableName=self.table)["Items"])

    def alter(self, grant_id: str, tenant: str = "acme", **attributes: dict[str, Any] | None) -> None:
        """Overwrite what is stored, which nothing in the product would do; None removes."""
        item = self.item(grant_id, tenant)
        for name, value in attributes.items():
            item.pop(name, None)
            if value is not None:
                item[name] = value
        self.dynamodb.put_item(TableName=self.table, Item=item)

    def make_due(self, grant_id: str, ago_s: int = 1) -> None:
        """Have the grant due since some seconds."""
        at = {"N": str(to_ms(self.clock()) - 1000 * ago_s)}
        self.alter(grant_id, refresh_at=at, due_at=at)

    def alerts(self) -> list[dict[str, Any]]:
        """Take everything out of on-call's queue."""
        found: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                found.append(json.loads(message["Body"]))
        return found

    def use(self, access_token: str) -> int:
        """Use a token at Wise as a partner service would; the status of the answer."""
        context = ssl.create_default_context(cafile=str(self.wise.ca_file))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        headers = {"Authorization": f"Bearer {access_token}"}
        try:
            with opener.open(urllib.request.Request(self.wise.me_url(), headers=headers)) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def refreshes(self, user: str) -> int:
        """How often Wise was asked to refresh a user's tokens."""
        return len(self.wise.control.requests(user=user))


@dataclass
class Seen:
    """What a browser gets."""

    status: int
    headers: dict[str, str]
    html: str

    @property
    def sent_to(self) -> str | None:
        return self.headers.get("Location")

    @property
    def sent_with(self) -> dict[str, str]:
        """What the partner's return URL gets."""
        return dict(parse_qsl(urlsplit(self.headers["Location"]).query, keep_blank_values=True))

    @property
    def title(self) -> str:
        (title,) = re.findall(r"<h1>(.*)</h1>", self.html)
        return html.unescape(title)

    @property
    def code(self) -> str | None:
        found = re.search(r"<code>(.*)</code>", self.html)
        return found[1] if found else None


def seen(answer: Mapping[str, Any]) -> Seen:
    """Read what a browser gets, and hold it to what every such answer has."""
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert answer["isBase64Encoded"] is False
    read = Seen(answer["statusCode"], dict(answer["headers"]), answer["body"])
    assert read.headers["Cache-Control"] == "no-store"
    assert read.headers["Referrer-Policy"] == "no-referrer"
    assert (read.status == 303) == ("Location" in read.headers) == (read.html == "")
    return read


def browser(query: Mapping[str, str] | None, **many: list[str]) -> dict[str, Any]:
    """A request of nobody's, from Wise's page."""
    event = request("GET", CALLBACK, "", caller=None, query=query)
    event["pathParameters"] = None
    event["multiValueQueryStringParameters"] = many or None
    return event


def delivered(delivery: EventDelivery, **changes: Any) -> dict[str, Any]:
    """An event of Wise's, as API Gateway hands it in."""
    event = request("POST", EVENTS, "", caller=None, headers=delivery.headers)
    return {**event, "pathParameters": None, "body": delivery.body, **changes}


def told(answer: Mapping[str, Any]) -> int:
    """Read what Wise gets, and hold it to what every such answer has: a status, and nothing to learn from."""
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert (answer["body"], answer["isBase64Encoded"]) == ("", False)
    after = {"Retry-After": "30"} if answer["statusCode"] == 503 else {}
    assert answer["headers"] == {"Cache-Control": "no-store", **after}
    return int(answer["statusCode"])


def to_ms(instant: datetime) -> int:
    return int((instant - datetime.fromtimestamp(0, UTC)) / timedelta(milliseconds=1))


def answered(answer: Mapping[str, Any]) -> Answer:
    """Read a proxy answer, and hold it to what every answer has."""
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert isinstance(answer["body"], str)
    assert answer["isBase64Encoded"] is False
    read = Answer(answer["statusCode"], dict(answer["headers"]), answer["body"])
    assert read.headers["Cache-Control"] == "no-store"
    assert all(isinstance(value, str) for value in read.headers.values())
    if read.status >= 400:
        assert read.problem is not None
        assert {"type", "title", "status"} <= set(read.body) <= {"type", "title", "status", "detail"}
        assert read.body["status"] == read.status
        assert ("Retry-After" in read.headers) == (read.status == 503)
        assert "Traceback" not in read.text
    elif read.text:
        assert read.headers["Content-Type"] == "application/json"
    return read


def offer(user: SeededUser) -> dict[str, object]:
    """What a partner service knows of a user, as it is adopted."""
    return {
        "refresh_token": user.refresh_token,
        "access_token": user.access_token,
        "issued_at": user.issued_at.isoformat(),
        "expires_at": user.expires_at.isoformat(),
        "refresh_expires_at": user.refresh_expires_at.isoformat(),
        "scope": user.scope,
        "wise_user_id": str(user.wise_user_id),
    }


def request(
    method: str,
    resource: str,
    tenant: str,
    grant_id: str | None = None,
    *,
    caller: object = f"{ACME_ADMIN}:fixture-session",
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    path: str | None = None,
    link_id: str | None = None,
) -> dict[str, Any]:
    """The parts of an API Gateway event that mean anything to a function; events/ holds whole ones."""
    given = {"tenant": tenant, "grant_id": grant_id, "link_id": link_id}
    parameters = {name: value for name, value in given.items() if value is not None}
    return {
        "resource": resource,
        "path": resource.format(**parameters) if path is None else path,
        "httpMethod": method,
        "headers": {"Host": "fixture.execute-api.eu-west-1.amazonaws.com", **(headers or {})},
        "queryStringParameters": dict(query) if query else None,
        "pathParameters": parameters,
        "requestContext": {"requestId": REQUEST_ID, "resourcePath": resource, "identity": {"caller": caller}},
        "body": None,
        "isBase64Encoded": False,
    }
