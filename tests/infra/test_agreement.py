"""The template and the package agree, though neither imports the other."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from types_boto3_dynamodb import DynamoDBClient

from infra.check import VARIANTS, WISE_KEYS
from infra.config import CALLS_LIMIT, MAY, SHARDS, WISE_DOMAINS, ConfigError, DeployConfig
from infra.function import METRICS_NAMESPACE
from infra.grants_store import DUE_INDEX, EXPIRY, KEY, TENANT_INDEX, Reserved
from infra.token_api import EVENT_ITEMS, EVENTS_PATH, LINK_ITEMS
from tests.infra.template import REGION, Template, listed
from token_rotator import settings
from token_rotator.adapters import dynamo_grants, dynamo_links, dynamo_states, rsa_signatures, sqs_parking
from token_rotator.adapters.dynamo_suspensions import SUSPENDED
from token_rotator.domain import grant
from token_rotator.domain.errors import SettingsError
from token_rotator.domain.grant import APPLICATION
from token_rotator.domain.lease import Budgets
from token_rotator.domain.policy import PERSONAL_FOR
from token_rotator.domain.state_change import Account, AccountState, StateChange, Subject
from token_rotator.wiring import clients

PACKAGE = Path(settings.__file__).parent
SETTINGS = {
    "sweep": settings.RefreshSettings,
    "refresh": settings.RefreshSettings,
    "serve": settings.ServeSettings,
    "admin": settings.AdminSettings,
    "callback": settings.CallbackSettings,
}


class Recorded(Mapping[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


@pytest.mark.parametrize("service", SETTINGS)
@pytest.mark.parametrize("variant", ["sandbox", "production", "first_sandbox"])
def test_a_functions_settings_are_read_from_exactly_its_environment(
    request: pytest.FixtureRequest, variant: str, service: str
) -> None:
    template: Template = request.getfixturevalue(variant)
    variables = template.function(service)["Environment"]["Variables"]
    environment = Recorded(variables)
    parsed = SETTINGS[service].of(environment)
    ours = {name for name in variables if not name.startswith("POWERTOOLS_")}
    assert ours <= environment.asked, "every variable is used"
    if variant == "production":
        elsewhere = {"WISE_WEBHOOK_KEYS"}  # given in a variant of its own
        assert environment.asked - elsewhere == ours, "every setting can be given"
        assert parsed.budgets.settle.total_seconds() == VARIANTS["production"]["settle_s"]
    assert parsed.environment == variables["ROTATOR_ENVIRONMENT"]


def test_partners_are_understood(sandbox: Template) -> None:
    urls = frozenset({"https://acme.example.com/wise/linked"})
    for service in ("serve", "admin", "callback"):
        parsed = SETTINGS[service].of(sandbox.function(service)["Environment"]["Variables"])
        partners = {p.name: (p.tenants, p.may, p.return_urls) for p in parsed.partners.values()}
        assert partners == {
            "acme-payroll": (frozenset({"acme", "acme.eu"}), frozenset({"read", "manage", "link"}), urls),
            "globex": (frozenset({"globex"}), frozenset({"read"}), frozenset()),
            "operations": (frozenset({"acme", "globex"}), frozenset({"operate"}), frozenset()),
            "ledger": (frozenset(), frozenset({"application"}), frozenset()),
        }
        assert set(parsed.partners) == {
            f"<{sandbox.partner_role(title).name}.RoleId>"
            for title in ("AcmePayroll", "Globex", "Operations", "Ledger")
        }
    assert frozenset(MAY) == settings.PERMISSIONS


def test_every_handler_is_there(every: Template) -> None:
    for function in every.of_type("AWS::Lambda::Function").values():
        *module, name = function["Handler"].split(".")
        tree = ast.parse((PACKAGE.parent / Path(*module)).with_suffix(".py").read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_functions_have_the_time_that_the_protocol_reckons_with(every: Template) -> None:
    budgets = Budgets()
    for service, budget in (
        ("refresh", budgets.refresh_function),
        ("serve", budgets.serve_function),
        ("admin", budgets.serve_function),
        ("callback", budgets.serve_function),
        ("sweep", budgets.sweep_function),
    ):
        assert every.function(service)["Timeout"] == budget.total_seconds()
    for method in every.of_type("AWS::ApiGateway::Method").values():
        assert method["Integration"]["TimeoutInMillis"] == budgets.gateway.total_seconds() * 1000


def test_a_sweep_that_takes_what_the_budgets_allow_is_not_too_long(every: Template) -> None:
    budgets = Budgets()
    (threshold,) = (
        timedelta(seconds=alarm["Threshold"])
        for alarm in every.of_type("AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "SweepSeconds"
    )
    assert budgets.sweep_duty + budgets.attempt + budgets.http <= threshold < budgets.sweep_function


def test_a_parked_answer_is_hidden_long_enough_to_be_settled_and_seen_again_before_a_verdict(every: Template) -> None:
    budgets = Budgets()
    hidden = timedelta(seconds=every.properties("AWS::SQS::Queue", "Parked")["VisibilityTimeout"])
    assert 2 * budgets.store + budgets.park < hidden, "read the grant, write it, remove the message"
    # The hold begins when somebody takes over, after the answer was parked. A sweep that dies with the message in its
    # hands leaves time for another, and for a third.
    assert 2 * hidden + budgets.margin < budgets.hold
    assert hidden.total_seconds() == sqs_parking.VISIBILITY_S


def test_one_message_to_the_parking_queue_fits_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    budget = Budgets().park
    config: Any = clients.sqs(budget).meta.config
    assert config.connect_timeout + config.read_timeout <= budget.total_seconds()
    assert min(config.connect_timeout, config.read_timeout) > 0
    assert config.retries["total_max_attempts"] == 1, "a second try would take the attempt's time twice"


def test_one_write_to_the_table_fits_its_budget_with_all_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    config: Any = clients.dynamodb().meta.config
    tries, between_s = config.retries["total_max_attempts"], 0.05
    assert config.retries["mode"] == "legacy", "the other one waits for up to a second between two tries"
    in_all = tries * (config.connect_timeout + config.read_timeout) + (tries - 1) * between_s
    assert in_all <= Budgets().store.total_seconds()


def test_a_lane_has_the_same_calls_by_default_in_the_context_and_in_the_functions(production: Template) -> None:
    variables = dict(production.function("sweep")["Environment"]["Variables"])
    del variables["SWEEP_CALLS_PER_MINUTE"], variables["DEMAND_CALLS_PER_MINUTE"]
    told, given = settings.RefreshSettings.of(variables), DeployConfig.from_context({})
    assert told.sweep_calls_per_minute == given.sweep_calls_per_minute
    assert told.demand_calls_per_minute == given.demand_calls_per_minute


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("sweep_calls_per_minute", "SWEEP_CALLS_PER_MINUTE"),
        ("demand_calls_per_minute", "DEMAND_CALLS_PER_MINUTE"),
        ("many_grants_dying", "MANY_GRANTS_DYING"),
    ],
)
@pytest.mark.parametrize("calls", [0, 1, CALLS_LIMIT, CALLS_LIMIT + 1])
def test_the_calls_that_can_be_deployed_are_those_that_a_function_takes(
    production: Template, key: str, name: str, calls: int
) -> None:
    variables = {**production.function("sweep")["Environment"]["Variables"], name: str(calls)}
    if 1 <= calls <= CALLS_LIMIT:
        assert getattr(settings.RefreshSettings.of(variables), key) == calls
        assert getattr(DeployConfig.from_context({key: calls}), key) == calls
    else:
        with pytest.raises(SettingsError, match=name):
            settings.RefreshSettings.of(variables)
        with pytest.raises(ConfigError, match=key):
            DeployConfig.from_context({key: calls})


@pytest.mark.parametrize("hours", [0, 1, 2160, 2161])
def test_the_hours_until_a_reminder_that_can_be_deployed_are_those_that_a_function_takes(
    production: Template, hours: int
) -> None:
    variables = {**production.function("sweep")["Environment"]["Variables"], "REMIND_AFTER_H": str(hours)}
    if 1 <= hours <= 2160:
        assert settings.RefreshSettings.of(variables).remind_after == timedelta(hours=hours)
        assert DeployConfig.from_context({"remind_after_h": hours}).remind_after_h == hours
    else:
        with pytest.raises(SettingsError, match="REMIND_AFTER_H"):
            settings.RefreshSettings.of(variables)
        with pytest.raises(ConfigError, match="remind_after_h"):
            DeployConfig.from_context({"remind_after_h": hours})


def test_people_are_told_by_the_same_measure_in_the_context_and_in_the_functions(production: Template) -> None:
    variables = dict(production.function("sweep")["Environment"]["Variables"])
    del variables["REMIND_AFTER_H"], variables["MANY_GRANTS_DYING"]
    told, given = settings.RefreshSettings.of(variables), DeployConfig.from_context({})
    assert told.remind_after == timedelta(hours=given.remind_after_h) == timedelta(days=1)
    assert told.many_grants_dying == given.many_grants_dying == 100


@pytest.mark.parametrize("days", [0, 1, 90, 3650, 3651])
def test_the_days_of_a_personal_token_that_can_be_deployed_are_those_that_a_function_takes(
    production: Template, days: int
) -> None:
    variables = {**production.function("admin")["Environment"]["Variables"], "PERSONAL_TOKEN_DAYS": str(days)}
    if 1 <= days <= 3650:
        assert settings.AdminSettings.of(variables).personal_for == timedelta(days=days)
        assert DeployConfig.from_context({"personal_token_days": days}).personal_token_days == days
    else:
        with pytest.raises(SettingsError, match="PERSONAL_TOKEN_DAYS"):
            settings.AdminSettings.of(variables)
        with pytest.raises(ConfigError, match="personal_token_days"):
            DeployConfig.from_context({"personal_token_days": days})
    del variables["PERSONAL_TOKEN_DAYS"]
    default = DeployConfig.from_context({}).personal_token_days
    assert settings.AdminSettings.of(variables).personal_for == timedelta(days=default) == PERSONAL_FOR


def test_the_table_has_the_indexes_that_the_store_queries() -> None:
    assert (DUE_INDEX, TENANT_INDEX) == (dynamo_grants.DUE_INDEX, dynamo_grants.TENANT_INDEX)


def test_the_table_forgets_by_the_attribute_that_links_have() -> None:
    assert EXPIRY == dynamo_links.EXPIRY


def test_callback_may_work_on_the_items_that_links_are() -> None:
    items = {dynamo_links.LINK, dynamo_grants.PENDING, dynamo_grants.PROFILE, SUSPENDED, str(APPLICATION)}
    assert set(LINK_ITEMS) == items


def test_callback_may_note_the_states_that_events_are_about() -> None:
    assert set(EVENT_ITEMS) == {dynamo_states.STATE}
    for subject in Subject:
        assert str(Account(subject, "1").key).startswith(dynamo_states.STATE)


def updates(calls: Callable[[DynamoDBClient], object]) -> list[dict[str, Any]]:
    """What adapters send when all of their updates are refused."""
    sent: list[dict[str, Any]] = []
    client = boto3.client(
        "dynamodb", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
    )
    client.meta.events.register("provide-client-params.dynamodb.UpdateItem", lambda params, **_: sent.append(params))
    with Stubber(client) as stub:
        for _ in range(2):
            stub.add_client_error("update_item", "ConditionalCheckFailedException")
        calls(client)
    return sent


def attributes_of(update: dict[str, Any]) -> set[str]:
    """Every attribute that an update names: of its key, and in its expressions."""
    text = f"{update['UpdateExpression']} {update['ConditionExpression']}"
    bare = re.findall(r"(?<![#:\w])[a-z]\w*", text)
    return {*update["Key"], *update["ExpressionAttributeNames"].values(), *bare} - {
        "attribute_exists",
        "attribute_not_exists",
        "if_not_exists",
    }


def noted(client: DynamoDBClient) -> None:
    states = dynamo_states.DynamoStates(client, "fixture")
    for delivery in ("d-1", None):
        now = datetime(2026, 1, 31, tzinfo=UTC)
        states.note(StateChange(Account(Subject.USER, "1"), AccountState.ACTIVE, now, delivery), now)


@pytest.mark.parametrize(
    ("calls", "items"),
    [
        (
            lambda client: dynamo_links.DynamoLinks(client, "fixture").use("0", "a", datetime(2026, 1, 31, tzinfo=UTC)),
            LINK_ITEMS["#link#"],
        ),
        (
            lambda client: dynamo_grants.DynamoGrants(client, "fixture").doubt(
                APPLICATION, "a", datetime(2026, 1, 31, tzinfo=UTC)
            ),
            LINK_ITEMS["#application"],
        ),
        (noted, EVENT_ITEMS["#state#"]),
    ],
)
def test_callback_may_name_just_the_attributes_that_its_updates_name(
    calls: Callable[[DynamoDBClient], object], items: Reserved
) -> None:
    sent = updates(calls)
    assert sent
    for update in sent:
        assert attributes_of(update) == {KEY, *items.updated}
        assert update.get("ReturnValues", "NONE") == ("ALL_NEW" if items.shown else "NONE")


def test_wises_events_come_to_where_callback_takes_them() -> None:
    source = Path(settings.__file__).with_name("handlers") / "callback.py"
    assert f'_EVENTS: Final = "{EVENTS_PATH}"' in source.read_text()


@pytest.mark.parametrize("keys", [(0,), (1,), (0, 1)])
def test_the_keys_that_can_be_deployed_are_those_that_callback_reads(sandbox: Template, keys: tuple[int, ...]) -> None:
    chosen = [WISE_KEYS[key] for key in keys]
    given = DeployConfig.from_context({"wise_webhook_keys": chosen}).wise_webhook_keys
    variables = sandbox.function("callback")["Environment"]["Variables"]
    read = settings.CallbackSettings.of({**variables, "WISE_WEBHOOK_KEYS": " ".join(given)}).wise_webhook_keys
    assert [load_der_public_key(key) for key in read] == [load_pem_public_key(key.encode()) for key in chosen]
    rsa_signatures.RsaSignatures(read)


def test_events_are_taken_only_where_keys_are_given(synthesized: Callable[[str], Template], sandbox: Template) -> None:
    assert "WISE_WEBHOOK_KEYS" not in sandbox.function("callback")["Environment"]["Variables"]
    template = synthesized("sandbox with events")
    variables = template.function("callback")["Environment"]["Variables"]
    assert len(variables["WISE_WEBHOOK_KEYS"].split()) == 2
    for service in ("sweep", "refresh", "serve", "admin"):
        assert "WISE_WEBHOOK_KEYS" not in template.function(service)["Environment"]["Variables"]
    assert template.outputs["WiseEventsUrl"] == f"{template.outputs['ApiUrl']}{EVENTS_PATH}"
    assert "WiseEventsUrl" not in sandbox.outputs
    stage = template.properties("AWS::ApiGateway::Stage")["MethodSettings"]
    [own] = (one for one in stage if one["ResourcePath"] == "/~1wise~1events")
    assert (own["HttpMethod"], own["ThrottlingRateLimit"], own["ThrottlingBurstLimit"]) == ("POST", 20, 40)


def test_a_url_that_can_be_deployed_is_one_that_the_functions_take(sandbox: Template) -> None:
    given = sandbox.function("admin")["Environment"]["Variables"]
    for url in ("https://a.example.com/x", "http://127.0.0.1:8000/x", "http://localhost/", "https://a.example.com:8/x"):
        assert DeployConfig.from_context({"redirect_uri": url}).redirect_uri == url
        assert settings.AdminSettings.of({**given, "REDIRECT_URI": url}).redirect_uri == url
        partners = json.dumps([{"name": "a", "role_id": "A", "tenants": ["a"], "may": ["link"], "return_urls": [url]}])
        (partner,) = settings.AdminSettings.of({**given, "PARTNERS": partners}).partners.values()
        assert partner.return_urls == {url}


def test_the_schedules_share_the_shards_that_the_store_writes() -> None:
    assert grant.SHARDS == SHARDS


def test_no_deployment_is_refused_only_when_its_functions_start(production: Template) -> None:
    given = production.function("sweep")["Environment"]["Variables"]
    for mtls, host in ((False, "api"), (True, "api-mtls")):
        given = {**given, "WISE_MTLS": str(mtls).lower()}
        for environment, domains in WISE_DOMAINS.items():
            context = {"environment": environment, "wise_mtls": mtls}
            for domain in domains:
                url = f"https://{host}.{domain}"
                taken = {**given, "ROTATOR_ENVIRONMENT": environment, "WISE_API_URL": url}
                assert settings.RefreshSettings.of(taken).wise_api_url == url
                assert DeployConfig.from_context({**context, "wise_api_url": url}).wise_api_url == url
        other = "https://api.wise.com" if mtls else "https://api-mtls.transferwise.com"
        for wrong in (
            f"https://{host}.wise-sandbox.com",
            f"http://{host}.wise.com",
            f"https://{host}.wise.com/v1",
            other,
        ):
            with pytest.raises(SettingsError, match="WISE_API_URL"):
                settings.RefreshSettings.of({**given, "WISE_API_URL": wrong})
            with pytest.raises(ConfigError, match="wise_api_url"):
                DeployConfig.from_context({"environment": "production", "wise_mtls": mtls, "wise_api_url": wrong})


def test_a_function_emits_metrics_under_the_names_that_alarms_watch(every: Template) -> None:
    """Which metrics there are, tests/handlers/test_telemetry.py hears."""
    watched = [a for a in every.of_type("AWS::CloudWatch::Alarm").values() if a["Namespace"] == METRICS_NAMESPACE]
    assert watched
    for alarm in watched:
        dimensions = {d["Name"]: d["Value"] for d in listed(alarm["Dimensions"])}
        assert set(dimensions) == {"environment", "service"}
        assert dimensions["service"] in SETTINGS
    for service in SETTINGS:
        variables = every.function(service)["Environment"]["Variables"]
        assert (variables["POWERTOOLS_SERVICE_NAME"], variables["POWERTOOLS_METRICS_NAMESPACE"]) == (
            service,
            METRICS_NAMESPACE,
        )


def test_the_events_of_the_schedules_are_what_the_sweep_takes(production: Template) -> None:
    for schedule in production.of_type("AWS::Scheduler::Schedule").values():
        event = json.loads(schedule["Target"]["Input"])
        assert list(event) == ["shards"]
        assert all(type(shard) is int and 0 <= shard < SHARDS for shard in event["shards"])
