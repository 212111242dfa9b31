"""Lines and metrics: what each function prints, and that alarms and the dashboard look at just that."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from local.wise.webhooks import EventDelivery
from tests.docs.pages import table, words
from tests.handlers.deployment import (
    REDIRECT_URI,
    REFRESH_FUNCTION,
    WISE_SECRET,
    Context,
    Deployment,
    Function,
    offer,
    refusal,
)
from tests.infra.board import shown, widgets
from tests.infra.template import Template
from token_rotator.domain.link import LinkFailure
from token_rotator.domain.state_change import Unread
from token_rotator.service.take_event import Taken

ALL_SHARDS = {"shards": list(range(16))}
NAMESPACE = "TokenRotator"
Metric = tuple[str, frozenset[tuple[str, str]]]
UNITS = {"SweepSeconds": "Seconds", "OldestOverdueSeconds": "Seconds", "TokenAgeSeconds": "Seconds"}
OUTCOMES = {
    "refreshed", "not_sent", "throttled", "client_refused", "we_are_wrong", "grant_invalid", "server_fault", "unknown",
}  # fmt: skip
KNOWN = {
    "SweepStarted", "SweepFinished", "SweepSeconds", "OldestOverdueSeconds", "GrantsAdvanced", "RefreshAttempted",
    "AlertPublished", "AlertPublishFailed", "AnswerParked", "ParkedSettled", "AnswerLost", "AnswerLate",
    "BreakerOpen", "BreakerOpened", "BreakerClosed", "DemandBarred", "StoreRefused", "WiseSecretUnusable",
    "SuspensionsInForce", "HoldsInForce", "ForeignRefresh",
    "WiseCalled", "TokenAgeSeconds", "TokenDegraded", "CodeExchanged", "LinkEnded", "LinkLost",
    "CertificateDaysLeft",
    "EventTaken", "EventForged", "UsersDeactivated", "UsersReactivated",
}  # fmt: skip
BY_OUTCOME = {
    "RefreshAttempted": OUTCOMES,
    "BreakerOpened": OUTCOMES - {"refreshed", "grant_invalid"},
    "ParkedSettled": {"stored", "late", "known", "overtaken", "gone"},
    "CodeExchanged": OUTCOMES,
    "LinkEnded": {"arrived", *LinkFailure},
    "EventTaken": {*Taken, *(unread.value for unread in Unread)},
}


def read(line: dict[str, Any]) -> list[tuple[str, dict[str, str], str]]:
    """Read one EMF line as CloudWatch does: name, dimensions and unit of each metric. Holds it to the format.

    docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    meta = line["_aws"]
    assert isinstance(meta["Timestamp"], int)
    told = []
    for directive in meta["CloudWatchMetrics"]:
        assert directive["Namespace"] == NAMESPACE
        (dimensions,) = directive["Dimensions"]
        values = {name: line[name] for name in dimensions}
        assert all(isinstance(value, str) and value for value in values.values())
        for metric in directive["Metrics"]:
            value = line[metric["Name"]]
            assert all(isinstance(number, int | float) for number in (value if isinstance(value, list) else [value]))
            told.append((metric["Name"], values, metric["Unit"]))
    return told


UNWATCHED: dict[str, str] = {}
"""Metrics that neither an alarm nor the dashboard looks at, each with the reason why it is emitted all the same."""


class Ear:
    """Keeps every metric that any function told during the file's tests."""

    def __init__(self) -> None:
        self.heard: set[Metric] = set()

    def listen(self, function: Function) -> list[tuple[str, dict[str, str], str]]:
        told = [metric for line in function.metrics() for metric in read(line)]
        for name, dimensions, unit in told:
            assert name in KNOWN
            assert unit == UNITS.get(name, "Count")
            assert dimensions["environment"] == "sandbox"
            assert dimensions["service"] == function.name
            expected = {"environment", "service"} | ({"outcome"} if name in BY_OUTCOME else set())
            assert set(dimensions) == expected
            assert name not in BY_OUTCOME or dimensions["outcome"] in BY_OUTCOME[name]
            self.heard.add((name, frozenset(dimensions.items())))
        return told


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


@pytest.fixture
def heard(deployment: Deployment, ear: Ear) -> Iterator[Deployment]:
    yield deployment
    for function in deployment.functions:
        ear.listen(function)


def run(deployment: Deployment, grant_id: str, service: str) -> None:
    """Have one of the two functions that refresh advance a grant that is due."""
    deployment.make_due(grant_id)
    if service == "refresh":
        deployment.refresh({"tenant": "acme", "grant_id": grant_id, "rejected": None})
    else:
        deployment.sweep(ALL_SHARDS)


def names(function: Function) -> list[str]:
    return [name for line in function.metrics() for name, _, _ in read(line)]


SERVICES = pytest.mark.parametrize("service", ["sweep", "refresh"])


@SERVICES
@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        ("refreshed", {}),
        ("throttled", {"status": 429}),
        ("client_refused", {"status": 401, "body": '{"error":"invalid_client"}'}),
        ("we_are_wrong", {"status": 404}),
        ("grant_invalid", {"status": 400, "body": '{"error":"invalid_grant"}'}),
        ("server_fault", {"status": 500, "body": '{"error":"server_error"}'}),
        ("unknown", {"status": 502, "body": "<html>", "from_edge": True}),
    ],
)
def test_every_attempt_is_told_with_its_outcome(
    heard: Deployment, grant_id: str, service: str, outcome: str, fault: dict[str, Any]
) -> None:
    heard.adopt(grant_id)
    if fault:
        heard.wise.control.fail_next(**fault)
    run(heard, grant_id, service)
    function = heard.sweep if service == "sweep" else heard.refresh
    attempts = [
        dimensions["outcome"]
        for line in function.metrics()
        for name, dimensions, _ in read(line)
        if name == "RefreshAttempted"
    ]
    assert attempts[0] == outcome
    sent = [line for line in function.logged() if line["message"] == "refresh sent to wise"]
    assert [line["outcome"] for line in sent] == attempts
    assert all((line["tenant"], line["grant_id"]) == ("acme", grant_id) for line in sent)


@SERVICES
def test_an_attempt_that_was_not_sent_is_told(heard: Deployment, grant_id: str, service: str) -> None:
    heard.adopt(grant_id)
    function = heard.load(service, WISE_API_URL="https://127.0.0.1:9")
    heard.make_due(grant_id)
    event = {"tenant": "acme", "grant_id": grant_id, "rejected": None}
    function(event if service == "refresh" else ALL_SHARDS)
    (attempt,) = [line for line in function.metrics() if "RefreshAttempted" in line]
    assert attempt["outcome"] == "not_sent"


@SERVICES
def test_an_alert_is_told_whether_it_went_out_or_not(
    heard: Deployment, grant_id: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = heard.sweep if service == "sweep" else heard.refresh

    def fail(**_: object) -> None:
        raise refusal("Publish", "KMSDisabled")

    for name in (f"{grant_id}-1", f"{grant_id}-2"):
        heard.adopt(name)
        heard.wise.control.revoke(name)
    run(heard, f"{grant_id}-1", service)
    monkeypatch.setattr(function.wired.refresh_due.tell.publisher._client, "publish", fail)
    run(heard, f"{grant_id}-2", service)
    monkeypatch.undo()
    assert [name for name in names(function) if name.startswith("Alert")] == ["AlertPublished", "AlertPublishFailed"]
    assert len(heard.alerts()) == 1
    heard.clock.advance(minutes=5)
    heard.sweep(ALL_SHARDS)
    assert len(heard.alerts()) == 1


@SERVICES
@pytest.mark.parametrize("queue", ["takes it", "is down"])
def test_an_answer_that_no_write_takes_is_told(
    heard: Deployment, grant_id: str, service: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.adopt(grant_id)
    function = heard.sweep if service == "sweep" else heard.refresh
    client = function.wired.refresh_grant.grants._client
    write, calls = client.update_item, []

    def only_the_first(**request: Any) -> object:
        """Of those to the grant: what holds for all grants together is written by the same client."""
        if request["Key"] == {"pk": {"S": f"acme#{grant_id}"}}:
            calls.append(request)
            if len(calls) > 1:
                raise refusal("UpdateItem", "InternalServerError", 500)
        return write(**request)

    def no_queue(**_: object) -> object:
        raise refusal("SendMessage", "InternalError", 500)

    monkeypatch.setattr(client, "update_item", only_the_first)
    if queue == "is down":
        monkeypatch.setattr(function.wired.refresh_grant.parking._client, "send_message", no_queue)
    run(heard, grant_id, service)
    monkeypatch.undo()
    assert heard.refreshes(grant_id) == 1
    messages = [line["message"] for line in function.logged()]
    if queue == "is down":
        assert "AnswerLost" in names(function)
        assert "answer lost, neither store nor queue took it" in messages
        return
    assert "AnswerParked" in names(function)
    assert "AnswerLost" not in names(function)
    assert "answer parked" in messages
    heard.sweep(ALL_SHARDS)
    assert "ParkedSettled" in names(heard.sweep)
    user = heard.wise.control.tokens(grant_id, values=True)
    newest = [token.value for token in user if token.kind == "access"][-1]
    assert heard.token(grant_id).body["access_token"] == newest


@SERVICES
def test_the_breaker_is_told(heard: Deployment, grant_id: str, service: str) -> None:
    heard.adopt(grant_id)
    heard.wise.control.fail_next(status=429)
    run(heard, grant_id, service)
    assert "BreakerOpened" in names(heard.sweep if service == "sweep" else heard.refresh)
    heard.make_due(grant_id)
    heard.token(grant_id)
    if service == "refresh":
        assert "DemandBarred" in names(heard.refresh)
    heard.clock.advance(seconds=20)
    heard.sweep(ALL_SHARDS, Context(seconds=20))
    assert "BreakerClosed" in names(heard.sweep)
    opened = [line["BreakerOpen"] for line in heard.sweep.metrics() if "BreakerOpen" in line]
    assert opened[-1] == [0]


@SERVICES
@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "KMSDisabledException"])
def test_a_table_that_refuses_is_told(
    heard: Deployment, grant_id: str, service: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.adopt(grant_id)
    function = heard.sweep if service == "sweep" else heard.refresh

    def fail(**_: object) -> None:
        raise refusal("Any", code)

    for name in ("query", "update_item"):
        monkeypatch.setattr(function.wired.refresh_grant.grants._client, name, fail)
    run(heard, grant_id, service)
    assert "StoreRefused" in names(function)


@SERVICES
@pytest.mark.parametrize("code", ["AccessDeniedException", "DisabledException"])
def test_a_key_that_refuses_is_told(
    heard: Deployment, grant_id: str, service: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.adopt(grant_id)
    heard.make_due(grant_id)
    function = heard.sweep if service == "sweep" else heard.refresh

    def fail(**_: object) -> None:
        raise refusal("Decrypt", code)

    monkeypatch.setattr(function.wired.refresh_grant.sealer._client, "decrypt", fail)
    run(heard, grant_id, service)
    assert "StoreRefused" in names(function)


@SERVICES
def test_a_secret_that_is_missing_is_told(heard: Deployment, grant_id: str, service: str) -> None:
    heard.adopt(grant_id)
    heard.delete_secret()
    run(heard, grant_id, service)
    heard.write_secret(None)
    assert names(heard.sweep if service == "sweep" else heard.refresh).count("WiseSecretUnusable") == 1


def test_a_sweep_is_told_from_its_start_to_its_end(heard: Deployment) -> None:
    for item in heard.items():
        heard.dynamodb.delete_item(TableName=heard.table, Key={"pk": item["pk"]})
    heard.sweep(ALL_SHARDS, Context(seconds=12))
    told = names(heard.sweep)
    assert told == [
        "SweepStarted",
        "SweepFinished",
        "SweepSeconds",
        "OldestOverdueSeconds",
        "GrantsAdvanced",
        "WiseCalled",
        "BreakerOpen",
        "SuspensionsInForce",
        "HoldsInForce",
    ]


def test_what_the_certificate_has_left_is_told_by_a_sweep_that_shows_one(heard: Deployment, ear: Ear) -> None:
    issued = heard.certificate
    value = json.loads(heard.secrets.get_secret_value(SecretId=WISE_SECRET)["SecretString"])
    heard.write_secret(json.dumps({**value, "certificate": issued.certificate, "private_key": issued.private_key}))
    sweep = heard.load("sweep", WISE_MTLS="true", WISE_API_URL=heard.wise.mtls_url)
    sweep(ALL_SHARDS, Context(seconds=12))
    heard.write_secret(None)
    (left,) = sweep.told("CertificateDaysLeft")
    assert left == pytest.approx((issued.not_after - heard.clock()) / timedelta(days=1), abs=0.01)
    ear.listen(sweep)


@SERVICES
def test_every_call_to_wise_is_counted(heard: Deployment, grant_id: str, service: str) -> None:
    heard.adopt(grant_id)
    run(heard, grant_id, service)
    function = heard.sweep if service == "sweep" else heard.refresh
    assert function.told("WiseCalled") == [len(heard.wise.control.requests(user=grant_id))] == [1]


def test_a_served_token_is_told_in_one_line(heard: Deployment, grant_id: str) -> None:
    """The age that its reader meets, and whether its refresh had failed. One line, since readers wait for it."""
    heard.adopt(grant_id, age_s=3600)
    heard.clock.advance(seconds=30)
    assert heard.token(grant_id).status == 200
    (line,) = heard.serve.metrics()
    assert {name for name, _, _ in read(line)} == {"TokenAgeSeconds", "TokenDegraded"}
    assert line["TokenAgeSeconds"] == [pytest.approx(3630, abs=2)]
    assert line["TokenDegraded"] == [0]


def test_a_degraded_token_is_told_as_such(heard: Deployment, grant_id: str) -> None:
    heard.adopt(grant_id)
    heard.make_due(grant_id)
    heard.wise.control.fail_next(status=500, body='{"error":"server_error"}')
    answer = heard.token(grant_id)
    assert answer.body["degraded"] is True
    assert heard.serve.told("TokenDegraded") == [1]


def test_a_token_of_unknown_age_is_told_without_one(heard: Deployment, grant_id: str) -> None:
    heard.adopt(grant_id, issued_at=None)
    served = heard.token(grant_id)
    assert served.body["issued_at"] is None
    assert names(heard.serve) == ["TokenDegraded"]


def test_who_gets_no_token_costs_no_metric(heard: Deployment, grant_id: str) -> None:
    """API Gateway counts them by method and status."""
    assert heard.token(grant_id).status == 404
    heard.adopt(grant_id)
    assert heard.ask("GET", grant_id).status == 200
    heard.wise.control.revoke(grant_id)
    heard.make_due(grant_id)
    assert heard.token(grant_id).status == 409
    assert heard.serve.metrics() == []
    assert heard.admin.metrics() == []


@pytest.mark.parametrize("refuses", ["the table", "the key"])
@pytest.mark.parametrize("service", ["serve", "admin"])
def test_a_request_that_the_table_or_a_key_refuses_is_told(
    heard: Deployment, grant_id: str, service: str, refuses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.adopt(grant_id)

    def fail(**_: object) -> None:
        raise refusal("Any", "AccessDeniedException")

    function = heard.serve if service == "serve" else heard.admin
    use = function.wired.serve_token if service == "serve" else function.wired.adopt_grant
    if refuses == "the table":
        for call in ("get_item", "transact_write_items"):
            monkeypatch.setattr(use.grants._client, call, fail)
    else:
        sealer = use.opener if service == "serve" else use.sealer
        monkeypatch.setattr(sealer, "_client", SimpleNamespace(decrypt=fail, generate_data_key=fail))
        sealer._opened.clear()
    if service == "serve":
        assert heard.token(grant_id).status == 503
    else:
        user = heard.wise.control.seed_user(f"{grant_id}-2")
        assert heard.ask("PUT", f"{grant_id}-2", offer(user)).status == 503
    assert names(function) == ["StoreRefused"]


@pytest.fixture
def came_back(heard: Deployment, grant_id: str) -> dict[str, str]:
    """What a user who consented comes back from Wise with."""
    heard.wise.control.change_settings(redirect_uris=[REDIRECT_URI])
    heard.wise.control.put_user(grant_id)
    return heard.consent(heard.start(grant_id), grant_id)


def test_a_link_is_told_with_what_wise_answered_and_how_it_ended(heard: Deployment, came_back: dict[str, str]) -> None:
    assert heard.browse(came_back).status == 200
    told = [(name, dimensions["outcome"]) for line in heard.callback.metrics() for name, dimensions, _ in read(line)]
    assert told == [("CodeExchanged", "refreshed"), ("LinkEnded", "arrived")]


def test_a_link_whose_tokens_are_lost_is_told(
    heard: Deployment, came_back: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise refusal("PutItem", "InternalServerError", 500)

    monkeypatch.setattr(heard.callback.wired.take_arrival.links._client, "put_item", fail)
    heard.browse(came_back)
    assert "LinkLost" in names(heard.callback)


def test_a_browser_that_meets_a_table_or_a_secret_that_refuses_is_told(
    heard: Deployment, came_back: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise refusal("Any", "AccessDeniedException")

    with monkeypatch.context() as patch:
        patch.setattr(heard.callback.wired.take_arrival.links._client, "get_item", fail)
        heard.browse(came_back)
        assert heard.complete("fixture", {"state": came_back["state"], "code": "fixture"}).status == 503
    heard.delete_secret()
    heard.browse(came_back)
    heard.write_secret(None)
    assert names(heard.callback) == ["StoreRefused", "StoreRefused", "WiseSecretUnusable"]


def test_an_event_that_is_not_wises_is_counted(heard: Deployment) -> None:
    assert heard.deliver(EventDelivery("fixture", "", "", "{}", base64.b64encode(bytes(256)).decode())) == 403
    assert names(heard.callback) == ["EventForged"]


def test_an_outage_of_the_table_is_no_refusal(
    heard: Deployment, grant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.adopt(grant_id)

    def fail(**_: object) -> None:
        raise refusal("GetItem", "InternalServerError", 500)

    monkeypatch.setattr(heard.serve.wired.grants._client, "get_item", fail)
    assert heard.token(grant_id).status == 503
    assert names(heard.serve) == []


# --- what is looked at, and what there is to look at


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    from infra.check import VARIANTS, build

    app, stack = build(VARIANTS["sandbox with partners"], tmp_path_factory.mktemp("cdk"))
    return Template.read(app.synth().get_stack_by_name(stack.stack_name).template, protected=True)


def alarmed(template: Template) -> dict[str, Metric]:
    """What each alarm on a metric of ours watches."""
    return {
        name: (alarm["MetricName"], frozenset((found["Name"], found["Value"]) for found in alarm["Dimensions"]))
        for name, alarm in template.of_type("AWS::CloudWatch::Alarm").items()
        if alarm["Namespace"] == NAMESPACE
    }


def drawn(template: Template) -> set[Metric]:
    """The metrics of ours on the dashboard."""
    body = template.properties("AWS::CloudWatch::Dashboard")["DashboardBody"]
    lines = [line for widget in widgets(body) for line in shown(widget)]
    return {(line.name, line.dimensions) for line in lines if line.namespace == NAMESPACE}


SAMPLES: dict[str, object] = {
    "str": "fixture", "str | None": None, "int": 1, "int | None": None, "float": 1.0, "bool": False,
    "GrantKey | None": None,
}  # fmt: skip
SAYING = {
    "Sent": [{"outcome": outcome} for outcome in sorted(OUTCOMES)],
    "BreakerOpened": [{"why": why} for why in sorted(BY_OUTCOME["BreakerOpened"])],
    "ParkedSettled": [{"result": result} for result in sorted(BY_OUTCOME["ParkedSettled"])],
    "CodeExchanged": [{"outcome": outcome} for outcome in sorted(OUTCOMES)],
    "LinkEnded": [{"result": result} for result in sorted(BY_OUTCOME["LinkEnded"])],
    "EventTaken": [{"result": result} for result in sorted(BY_OUTCOME["EventTaken"])],
    "AlertTold": [{"code": None}, {"code": "publish-refused"}],
    "Trouble": [{"code": "store-refused"}, {"code": "key-refused"}, {"code": "internal-error"}],
    "AttemptEnded": [{"code": "key-refused"}, {"code": None}],
}
"""What an event can say that makes a difference to the metrics."""
OUTSIDE = {"CodeExchanged", "LinkEnded", "LinkLost", "EventTaken"}
NEVER = {
    "sweep": {"DemandBarred", *OUTSIDE},
    "refresh": {"ParkedSettled", "UserDeactivated", "UserReactivated", "LinkUnconfirmed", *OUTSIDE},
}
"""Readers' refreshes are not the sweep's, the queue and states are the sweep's alone, and neither of them links."""


@pytest.mark.parametrize("service", ["sweep", "refresh", "callback"])
def test_every_event_that_is_counted_is_heard(heard: Deployment, service: str) -> None:
    """The rare ones too, whichever the other tests of this file brought about."""
    function = getattr(heard, service)
    module: Any = function.modules["token_rotator.service.journal"]
    key = function.modules["token_rotator.domain.grant"].GrantKey("acme", "fixture")
    samples = {**SAMPLES, "GrantKey": key, "datetime": heard.clock()}
    for kind in get_args(module.Event):
        if kind.__name__ in NEVER[service] if service in NEVER else kind.__name__ not in OUTSIDE:
            continue
        for said in SAYING.get(kind.__name__, [{}]):
            event = kind(**{field.name: samples[field.type] for field in fields(kind)} | said)
            with function.inside():
                function.wired.journal.record(event)
    assert {"Sent", "Trouble"} <= {kind.__name__ for kind in get_args(module.Event)}
    assert names(function)


def test_every_alarm_watches_what_was_told(ear: Ear, template: Template) -> None:
    """Name for name, dimension for dimension: an alarm on anything else would never be heard of."""
    alarms = alarmed(template)
    assert len(alarms) >= 17
    for name, metric in alarms.items():
        assert metric in ear.heard, name


def test_every_widget_shows_what_was_told(ear: Ear, template: Template) -> None:
    found = drawn(template)
    assert len(found) > 40
    assert sorted(map(spelled, found - ear.heard)) == []


def test_all_that_was_told_is_looked_at(ear: Ear, template: Template) -> None:
    """A metric that nobody looks at costs money and says nothing."""
    unseen = ear.heard - drawn(template) - set(alarmed(template).values())
    assert sorted(spelled(metric) for metric in unseen if metric[0] not in UNWATCHED) == []
    assert set(UNWATCHED) <= {name for name, _ in unseen}, "listed, and looked at"
    assert all(UNWATCHED.values())


def test_the_page_says_which_function_emits_what(ear: Ear) -> None:
    """Name, unit, functions and whether by outcome, in docs/operations.md."""
    told = {
        (name, service, row[1].split(",")[0], "by `outcome`" in row[3])
        for row in table("docs/operations.md", "table: metrics")
        for name in words(row[0])
        for service in row[2].split(", ")
    }
    emitted = {
        (name, dict(dimensions)["service"], UNITS.get(name, "Count").lower(), name in BY_OUTCOME)
        for name, dimensions in ear.heard
    }
    assert told == emitted


def spelled(metric: Metric) -> str:
    return f"{metric[0]} {dict(sorted(metric[1]))}"


# --- lines


def everything(deployment: Deployment, grant_id: str) -> dict[str, Callable[[], object]]:
    """One call of each function."""
    return {
        "serve": lambda: deployment.ask("GET", grant_id),
        "admin": lambda: deployment.ask("DELETE", grant_id),
        "refresh": lambda: deployment.refresh({"tenant": "acme", "grant_id": grant_id, "rejected": None}),
        "sweep": lambda: deployment.sweep(ALL_SHARDS),
    }


@pytest.mark.parametrize("name", ["serve", "admin", "refresh", "sweep"])
def test_every_call_prints_a_line(heard: Deployment, grant_id: str, name: str) -> None:
    everything(heard, grant_id)[name]()
    function = next(function for function in heard.functions if function.name == name)
    (line,) = function.logged()
    assert line["service"] == name
    assert line["level"] == "INFO"
    assert isinstance(line["message"], str)
    moment = datetime.fromisoformat(line["timestamp"])
    offset = moment.utcoffset()
    assert offset is not None
    assert not offset


def test_a_request_is_logged_with_who_asked_for_what_and_no_token(heard: Deployment, grant_id: str) -> None:
    user = heard.wise.control.seed_user(grant_id)
    version = heard.adopt(grant_id, user).body["version"]
    heard.token(grant_id)
    (line,) = heard.serve.logged()
    told = {name: line[name] for name in ("message", "method", "resource", "partner", "tenant", "grant_id", "status")}
    assert told == {
        "message": "request answered",
        "method": "GET",
        "resource": "/v1/tenants/{tenant}/grants/{grant_id}/access-token",
        "partner": "acme-onboarding",
        "tenant": "acme",
        "grant_id": grant_id,
        "status": 200,
    }
    assert line["version"] == version
    assert user.access_token not in heard.serve.console.getvalue()


def test_a_refusal_is_logged_without_the_ids_of_others(heard: Deployment) -> None:
    assert heard.token("fixture-of-another", tenant="globex").status == 403
    (line,) = heard.serve.logged()
    assert (line["status"], line["problem"], line["partner"]) == (403, "forbidden", "acme-onboarding")
    assert "fixture-of-another" not in json.dumps(line)


def test_a_refresh_function_that_cannot_be_reached_is_logged(heard: Deployment, grant_id: str) -> None:
    heard.adopt(grant_id)
    heard.make_due(grant_id)

    def fail() -> dict[str, Any]:
        raise refusal("Invoke", "AccessDeniedException", 403)

    heard.invocations.instead = fail
    assert heard.token(grant_id).status == 503
    trouble = next(line for line in heard.serve.logged() if line["message"] == "trouble with a grant")
    assert (trouble["level"], trouble["code"]) == ("WARNING", "refresh-unreachable")
    assert trouble["detail"] == "AccessDeniedException"
    assert REFRESH_FUNCTION not in json.dumps(trouble)
