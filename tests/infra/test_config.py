"""What a deployment may be told, and what it refuses with the name of the field."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from infra import config
from infra.check import WISE_KEYS
from infra.config import MAY, ConfigError, DeployConfig, Partner
from infra.token_api import ROUTES

PARTNER = {
    "name": "payroll",
    "principal": "111122223333",
    "external_id": "fixture-external-id",
    "tenants": ["acme"],
}


def partner(**changes: object) -> dict[str, Any]:
    return {"partners": [{**PARTNER, **changes}]}


def of_an_ellipse() -> str:
    """A public key of another kind."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def linking(**changes: object) -> dict[str, Any]:
    return {**partner(may=["link"], **changes), "wise_client_id": "fixture-client-id"}


def test_an_empty_context_deploys_a_sandbox() -> None:
    config = DeployConfig.from_context({})
    assert config == DeployConfig(
        environment="sandbox",
        wise_api_url="https://api.wise-sandbox.com",
        wise_secret_name="token-rotator/sandbox/wise",
        wise_web_host="wise-sandbox.com",
        wise_client_id=None,
        redirect_uri=None,
        public_callback=True,
        wise_api_version="",
        wise_ca_file=None,
        wise_mtls=False,
        architecture="arm64",
        schedules=1,
        settle_s=None,
        sweep_calls_per_minute=900,
        demand_calls_per_minute=100,
        remind_after_h=24,
        many_grants_dying=100,
        audit_days=400,
        log_level="INFO",
        alert_emails=(),
        runbook_base_url=None,
        partners=(),
        api_gateway_account=True,
        reserved_concurrency={},
    )
    assert config.stack_name == "TokenRotator-sandbox"


def test_production_has_its_own_host_secret_and_stack() -> None:
    config = DeployConfig.from_context({"environment": "production"})
    assert config.wise_api_url == "https://api.wise.com"
    assert config.wise_secret_name == "token-rotator/production/wise"
    assert config.wise_web_host == "wise.com"
    assert config.stack_name == "TokenRotator-production"


@pytest.mark.parametrize(
    ("environment", "host"),
    [("sandbox", "https://api-mtls.wise-sandbox.com"), ("production", "https://api-mtls.transferwise.com")],
)
def test_mutual_tls_has_a_host_of_its_own(environment: str, host: str) -> None:
    context = {"environment": environment, "wise_mtls": True}
    assert DeployConfig.from_context(context).wise_api_url == host
    assert DeployConfig.from_context({**context, "wise_mtls": "true"}).wise_mtls
    assert DeployConfig.from_context({**context, "wise_api_url": host}).wise_api_url == host


def test_a_whole_context_is_taken() -> None:
    config = DeployConfig.from_context(
        {
            "environment": "production",
            "wise_api_url": "https://wise.proxy.example.com:8443",
            "wise_api_version": "2026Q4",
            "wise_ca_file": "/var/task/ca.pem",
            "wise_mtls": True,
            "wise_secret_name": "payments/wise",
            "wise_web_host": "127.0.0.1:8443",
            "wise_client_id": "fixture-client-id",
            "redirect_uri": "https://payroll.example.com/back?from=wise",
            "public_callback": False,
            "wise_webhook_keys": [WISE_KEYS[0]],
            "architecture": "host",
            "schedules": 16,
            "settle_s": 30,
            "sweep_calls_per_minute": 100_000,
            "demand_calls_per_minute": 1,
            "remind_after_h": 2160,
            "many_grants_dying": 1,
            "audit_days": 3653,
            "log_level": "DEBUG",
            "alert_emails": ["on-call@example.com"],
            "runbook_base_url": "https://runbooks.example.com/a/",
            "api_gateway_account": False,
            "reserved_concurrency": {"sweep": 32, "serve": 1},
            **partner(
                may=["manage", "link"],
                principal="arn:aws:iam::111122223333:role/teams/payroll",
                return_urls=["https://payroll.example.com/linked"],
            ),
        }
    )
    assert config == DeployConfig(
        environment="production",
        wise_api_url="https://wise.proxy.example.com:8443",
        wise_api_version="2026Q4",
        wise_ca_file="/var/task/ca.pem",
        wise_mtls=True,
        wise_secret_name="payments/wise",
        wise_web_host="127.0.0.1:8443",
        wise_client_id="fixture-client-id",
        redirect_uri="https://payroll.example.com/back?from=wise",
        public_callback=False,
        wise_webhook_keys=("".join(WISE_KEYS[0].split("\n")[1:-2]),),
        architecture="host",
        schedules=16,
        settle_s=30,
        sweep_calls_per_minute=100_000,
        demand_calls_per_minute=1,
        remind_after_h=2160,
        many_grants_dying=1,
        audit_days=3653,
        log_level="DEBUG",
        alert_emails=("on-call@example.com",),
        runbook_base_url="https://runbooks.example.com/a/",
        api_gateway_account=False,
        reserved_concurrency={"sweep": 32, "serve": 1},
        partners=(
            Partner(
                name="payroll",
                principal="arn:aws:iam::111122223333:role/teams/payroll",
                external_id="fixture-external-id",
                tenants=("acme",),
                may=("manage", "link"),
                return_urls=("https://payroll.example.com/linked",),
            ),
        ),
    )


def test_the_command_line_gives_everything_as_strings() -> None:
    typed: dict[str, Any] = {
        "schedules": 4,
        "settle_s": 12,
        "sweep_calls_per_minute": 90,
        "api_gateway_account": False,
        "public_callback": False,
        "reserved_concurrency": {"admin": 2},
    }
    typed |= {"alert_emails": ["a@example.com"], **partner()}
    as_strings = {name: json.dumps(value) for name, value in typed.items()}
    assert DeployConfig.from_context(as_strings) == DeployConfig.from_context(typed)


OF_BOTH: dict[str, Any] = {
    "environment": "sandbox",
    "log_level": "WARNING",
    "wise_client_id": "fixture-of-nobody",
    "sandbox": {"wise_client_id": "fixture-sandbox-id", **partner(name="tester")},
    "production": {"wise_client_id": "fixture-production-id", "schedules": 4, **partner()},
}


@pytest.mark.parametrize(
    ("environment", "client_id", "schedules", "who"),
    [("sandbox", "fixture-sandbox-id", 1, "tester"), ("production", "fixture-production-id", 4, "payroll")],
)
def test_an_environments_own_settings_go_before_those_of_both(
    environment: str, client_id: str, schedules: int, who: str
) -> None:
    config = DeployConfig.from_context({**OF_BOTH, "environment": environment})
    assert (config.environment, config.wise_client_id, config.schedules) == (environment, client_id, schedules)
    assert [found.name for found in config.partners] == [who]
    assert config.log_level == "WARNING"


def test_a_later_deployment_takes_no_role_away_that_the_environments_own_settings_make() -> None:
    typed = {**OF_BOTH, "environment": "production", "partners": "[]", "wise_client_id": "fixture-typed-id"}
    assert DeployConfig.from_context(typed) == DeployConfig.from_context({**OF_BOTH, "environment": "production"})


def test_the_command_line_gives_an_environments_own_settings_as_a_whole() -> None:
    typed = {**OF_BOTH, "environment": "production", "production": json.dumps({"schedules": 8})}
    config = DeployConfig.from_context(typed)
    assert (config.schedules, config.partners, config.wise_client_id) == (8, (), "fixture-of-nobody")


def test_the_other_environments_settings_are_not_read() -> None:
    alone = {name: value for name, value in OF_BOTH.items() if name != "production"}
    for other in ({"nonsense": 1}, {"schedules": 3}, [1], "{", None):
        assert DeployConfig.from_context({**OF_BOTH, "production": other}) == DeployConfig.from_context(alone)


def test_an_empty_string_is_the_default() -> None:
    assert DeployConfig.from_context({"wise_ca_file": "", "wise_api_url": ""}) == DeployConfig.from_context({})


def test_the_cdks_own_keys_are_left_alone() -> None:
    context = {
        "@aws-cdk/aws-iam:minimizePolicies": True,
        "aws:cdk:bundling-stacks": [],
        "availability-zones:account=1:region=eu-west-1": ["a"],
        "cdk-migrate:x": 1,
    }
    assert DeployConfig.from_context(context) == DeployConfig.from_context({})


def test_cdk_json_is_deployable() -> None:
    context = json.loads((Path(__file__).parents[2] / "cdk.json").read_text())["context"]
    assert DeployConfig.from_context(context).stack_name == "TokenRotator-sandbox"


def test_app_py_is_short_and_makes_no_call() -> None:
    lines = (Path(__file__).parents[2] / "app.py").read_text().splitlines()
    assert len(lines) <= 20
    assert "boto3" not in "".join(lines)


@pytest.mark.parametrize("schedules", [1, 2, 4, 8, 16])
def test_the_shards_are_divided_without_gap_or_overlap(schedules: int) -> None:
    shards = DeployConfig.from_context({"schedules": schedules}).shards
    assert len(shards) == schedules
    assert [shard for group in shards for shard in group] == list(range(16))


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"enviroment": "sandbox"}, "enviroment", "unknown"),
    ({"environment": "staging"}, "environment", "one of sandbox, production"),
    ({"environment": 1}, "environment", "a string"),
    ({"environment": ["sandbox"]}, "environment", "not a list"),
    ({"sandbox": {"enviroment": "sandbox"}}, "sandbox.enviroment", "unknown"),
    ({"sandbox": {"environment": "sandbox"}}, "sandbox.environment", "unknown"),
    ({"sandbox": {"sandbox": {}}}, "sandbox.sandbox", "unknown"),
    ({"sandbox": []}, "sandbox", "an object"),
    ({"sandbox": "log_level=DEBUG"}, "sandbox", "JSON"),
    ({"sandbox": {"schedules": 3}}, "schedules", "1, 2, 4, 8 or 16"),
    ({"environment": "production", "production": {"partner": []}}, "production.partner", "unknown"),
    ({"wise_api_url": "http://api.wise-sandbox.com"}, "wise_api_url", "https"),
    ({"wise_api_url": "api.wise-sandbox.com"}, "wise_api_url", "https"),
    ({"wise_api_url": "https://"}, "wise_api_url", "https"),
    ({"wise_api_url": "https://api.wise-sandbox.com/"}, "wise_api_url", "no path"),
    ({"wise_api_url": "https://api.wise-sandbox.com/v1"}, "wise_api_url", "no path"),
    ({"wise_api_url": "https://user@api.wise-sandbox.com"}, "wise_api_url", "no user"),
    ({"wise_api_url": "https://api.wise-sandbox.com?x=1"}, "wise_api_url", "no user, query"),
    ({"wise_api_url": "https://127.0.0.1:port"}, "wise_api_url", "a URL"),
    ({"wise_api_url": "https://api.wise.com"}, "wise_api_url", "Wise's production host"),
    ({"wise_api_url": "https://API.WISE.COM"}, "wise_api_url", "Wise's production host"),
    ({"wise_api_url": "https://api-mtls.transferwise.com"}, "wise_api_url", "Wise's production host"),
    ({"environment": "production", "wise_api_url": "https://api.wise-sandbox.com"}, "wise_api_url", "sandbox host"),
    (
        {"environment": "production", "wise_api_url": "https://api.sandbox.transferwise.tech"},
        "wise_api_url",
        "sandbox host",
    ),
    ({"wise_api_version": "2026Q5"}, "wise_api_version", "a quarter"),
    ({"wise_api_version": "v1"}, "wise_api_version", "a quarter"),
    ({"wise_ca_file": 1}, "wise_ca_file", "a string"),
    ({"wise_mtls": "yes"}, "wise_mtls", "JSON"),
    ({"wise_mtls": 1}, "wise_mtls", "true or false"),
    ({"wise_api_url": "https://api-mtls.wise-sandbox.com"}, "wise_api_url", "must be https://api.wise-sandbox.com"),
    (
        {"wise_mtls": True, "wise_api_url": "https://api.wise-sandbox.com"},
        "wise_api_url",
        "must be https://api-mtls.wise-sandbox.com while wise_mtls is true",
    ),
    (
        {"environment": "production", "wise_mtls": True, "wise_api_url": "https://api.wise.com"},
        "wise_api_url",
        "must be https://api-mtls.transferwise.com while wise_mtls is true",
    ),
    ({"wise_secret_name": "with space"}, "wise_secret_name", "the name of a secret"),
    ({"wise_secret_name": "token-rotator/*"}, "wise_secret_name", "the name of a secret"),
    ({"architecture": "amd64"}, "architecture", "one of arm64"),
    ({"schedules": 3}, "schedules", "1, 2, 4, 8 or 16"),
    ({"schedules": 0}, "schedules", "1 to 16"),
    ({"schedules": 32}, "schedules", "1 to 16"),
    ({"schedules": 2.0}, "schedules", "whole number"),
    ({"schedules": True}, "schedules", "whole number"),
    ({"schedules": "two"}, "schedules", "JSON"),
    ({"settle_s": 0}, "settle_s", "1 to 120"),
    ({"settle_s": 121}, "settle_s", "1 to 120"),
    ({"sweep_calls_per_minute": 0}, "sweep_calls_per_minute", "1 to 100000"),
    ({"sweep_calls_per_minute": 100_001}, "sweep_calls_per_minute", "1 to 100000"),
    ({"sweep_calls_per_minute": "many"}, "sweep_calls_per_minute", "JSON"),
    ({"demand_calls_per_minute": -1}, "demand_calls_per_minute", "1 to 100000"),
    ({"demand_calls_per_minute": 0.5}, "demand_calls_per_minute", "whole number"),
    ({"demand_calls_per_minute": True}, "demand_calls_per_minute", "whole number"),
    ({"remind_after_h": 0}, "remind_after_h", "1 to 2160"),
    ({"remind_after_h": 2161}, "remind_after_h", "1 to 2160"),
    ({"remind_after_h": "a day"}, "remind_after_h", "JSON"),
    ({"many_grants_dying": 0}, "many_grants_dying", "1 to 100000"),
    ({"log_level": "info"}, "log_level", "one of DEBUG"),
    ({"audit_days": 30}, "audit_days", "one of 90"),
    ({"audit_days": 401}, "audit_days", "one of 90"),
    ({"audit_days": True}, "audit_days", "one of 90"),
    ({"audit_days": "a year"}, "audit_days", "JSON"),
    ({"audit_days": [400]}, "audit_days", "one of 90"),
    ({"alert_emails": "on-call@example.com"}, "alert_emails", "JSON"),
    ({"alert_emails": ["on-call"]}, "alert_emails[0]", "an e-mail address"),
    ({"alert_emails": ["a@example.com", "a@example.com"]}, "alert_emails", "twice"),
    ({"runbook_base_url": "http://runbooks.example.com"}, "runbook_base_url", "https"),
    ({"api_gateway_account": "yes"}, "api_gateway_account", "JSON"),
    ({"api_gateway_account": 1}, "api_gateway_account", "true or false"),
    ({"reserved_concurrency": [1]}, "reserved_concurrency", "an object"),
    ({"reserved_concurrency": {"sweeper": 1}}, "reserved_concurrency.sweeper", "unknown"),
    ({"reserved_concurrency": {"serve": 0}}, "reserved_concurrency.serve", "1 to 1000"),
    ({"reserved_concurrency": {"serve": "5"}}, "reserved_concurrency.serve", "whole number"),
    ({"schedules": 4, "reserved_concurrency": {"sweep": 7}}, "reserved_concurrency.sweep", "8 to 1000"),
    ({"partners": {}}, "partners", "a list"),
    ({"partners": ["payroll"]}, "partners[0]", "an object"),
    ({"partners": [{}]}, "partners[0].name", "missing"),
    (partner(tenant=["acme"]), "partners[0].tenant", "unknown"),
    (partner(name="Payroll"), "partners[0].name", "a-z"),
    (partner(name="pay--roll"), "partners[0].name", "a-z"),
    (partner(name="p" * 33), "partners[0].name", "a-z"),
    (partner(principal="payroll"), "partners[0].principal", "account id"),
    (partner(principal="11112222333"), "partners[0].principal", "account id"),
    (partner(principal="*"), "partners[0].principal", "without wildcards"),
    (partner(principal="arn:aws:iam::111122223333:role/*"), "partners[0].principal", "without wildcards"),
    (partner(principal="arn:aws:sts::111122223333:assumed-role/a/b"), "partners[0].principal", "ARN of an IAM role"),
    (partner(principal=111122223333), "partners[0].principal", "account id"),
    (partner(external_id="x"), "partners[0].external_id", "2 to 1224"),
    (partner(external_id=None), "partners[0].external_id", "missing"),
    (partner(tenants=[]), "partners[0].tenants", "at least one"),
    (partner(tenants="acme"), "partners[0].tenants", "at least one"),
    (partner(tenants=["acme", "acme"]), "partners[0].tenants", "twice"),
    (partner(tenants=["*"]), "partners[0].tenants[0]", "a tenant"),
    (partner(tenants=["acme", "a/b"]), "partners[0].tenants[1]", "a tenant"),
    (partner(tenants=["a..b"]), "partners[0].tenants[0]", "without '..'"),
    (partner(tenants=[".a"]), "partners[0].tenants[0]", "a tenant"),
    (partner(tenants=["acme\n"]), "partners[0].tenants[0]", "a tenant"),
    (partner(tenants=["acmé"]), "partners[0].tenants[0]", "a tenant"),
    (partner(tenants=["a" * 129]), "partners[0].tenants[0]", "a tenant"),
    (partner(tenants=[1]), "partners[0].tenants[0]", "a tenant"),
    (partner(tenants=[f"tenant-{n}" for n in range(40)]), "partners[0].tenants", "one role"),
    (partner(may=[]), "partners[0].may", "at least one"),
    (partner(may=["write"]), "partners[0].may[0]", "one of read, manage, link"),
    (partner(may=["link"]), "wise_client_id", "is needed"),
    ({**partner(may=["link"]), "wise_client_id": "a", "public_callback": False}, "redirect_uri", "is needed"),
    (partner(return_urls=["https://a.example.com/"]), "partners[0].return_urls", "that may link"),
    (linking(return_urls=[]), "partners[0].return_urls", "at least one"),
    (linking(return_urls="https://a.example.com/"), "partners[0].return_urls", "at least one"),
    (linking(return_urls=["https://a.example.com/"] * 2), "partners[0].return_urls", "twice"),
    (linking(return_urls=["https://a.example.com/?b"]), "partners[0].return_urls[0]", "without a query"),
    (linking(return_urls=["https://a.example.com"]), "partners[0].return_urls[0]", "a path"),
    (linking(return_urls=["http://a.example.com/"]), "partners[0].return_urls[0]", "https"),
    (linking(return_urls=["https://a.example.com/#b"]), "partners[0].return_urls[0]", "fragment"),
    (linking(return_urls=["https://b@a.example.com/"]), "partners[0].return_urls[0]", "user"),
    (linking(return_urls=["https://a.example.com/ä"]), "partners[0].return_urls[0]", "ASCII"),
    (linking(return_urls=["https://a.example.com\\@b/"]), "partners[0].return_urls[0]", "user"),
    ({"redirect_uri": "http://a.example.com/"}, "redirect_uri", "https"),
    ({"redirect_uri": "https://a.example.com/#b"}, "redirect_uri", "fragment"),
    ({"redirect_uri": "https://127.0.0.1:port/"}, "redirect_uri", "a URL"),
    ({"redirect_uri": "back"}, "redirect_uri", "https"),
    ({"environment": "production", "redirect_uri": "http://127.0.0.1/"}, "redirect_uri", "https"),
    ({"wise_web_host": "https://wise-sandbox.com"}, "wise_web_host", "a host"),
    ({"wise_web_host": "wise-sandbox.com/x"}, "wise_web_host", "a host"),
    ({"wise_web_host": "wise.com"}, "wise_web_host", "Wise's production host"),
    ({"environment": "production", "wise_web_host": "WISE-SANDBOX.com:443"}, "wise_web_host", "sandbox host"),
    ({"wise_client_id": "a:b"}, "wise_client_id", "without a colon"),
    ({"wise_client_id": "a b"}, "wise_client_id", "the client id"),
    ({"public_callback": "no"}, "public_callback", "JSON"),
    ({"wise_webhook_keys": WISE_KEYS[0]}, "wise_webhook_keys", "JSON"),
    ({"wise_webhook_keys": [7]}, "wise_webhook_keys[0]", "in PEM"),
    ({"wise_webhook_keys": [WISE_KEYS[0], "MIIB"]}, "wise_webhook_keys[1]", "in PEM"),
    ({"wise_webhook_keys": [WISE_KEYS[0].replace("PUBLIC", "PRIVATE")]}, "wise_webhook_keys[0]", "in PEM"),
    ({"wise_webhook_keys": [WISE_KEYS[0].replace("MIIB", "MIIA")]}, "wise_webhook_keys[0]", "an RSA key"),
    ({"wise_webhook_keys": [WISE_KEYS[0].replace("MIIB", "MII")]}, "wise_webhook_keys[0]", "an RSA key"),
    ({"wise_webhook_keys": [of_an_ellipse()]}, "wise_webhook_keys[0]", "an RSA key"),
    ({"wise_webhook_keys": [WISE_KEYS[0], WISE_KEYS[0]]}, "wise_webhook_keys", "twice"),
    ({"environment": "production", "wise_webhook_keys": [*WISE_KEYS]}, "wise_webhook_keys[1]", "Wise's sandbox key"),
    (
        {
            "wise_webhook_keys": list(WISE_KEYS),
            "partners": [
                {**PARTNER, "name": name, "tenants": [f"{n}" + 127 * "x" for n in range(9)]} for name in ("a", "b")
            ],
        },
        "wise_webhook_keys",
        "take, with the partners",
    ),
    (partner(may=["read", "read"]), "partners[0].may", "twice"),
    ({"partners": [PARTNER, {**PARTNER, "tenants": ["globex"]}]}, "partners", "two partners"),
    ({"partners": [{**PARTNER, "name": "a-1"}, {**PARTNER, "name": "a1"}]}, "partners", "two partners"),
    (
        {"partners": [{**PARTNER, "name": f"p{n}", "tenants": [f"{n}-" + "t" * 100]} for n in range(20)]},
        "partners",
        "of 3000",
    ),
]


@pytest.mark.parametrize(("context", "name", "problem"), REFUSED, ids=[f"{n}-{p}" for _, n, p in REFUSED])
def test_what_cannot_be_deployed_is_refused_by_name(context: dict[str, Any], name: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DeployConfig.from_context(context)
    assert refused.value.name == name
    assert str(refused.value).startswith(f"context {name}: ")
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("principal", "account", "arns"),
    [
        ("111122223333", "111122223333", ()),
        ("arn:aws:iam::111122223333:root", "111122223333", ()),
        (
            "arn:aws:iam::111122223333:user/teams/robot",
            "111122223333",
            ("arn:aws:iam::111122223333:user/teams/robot",),
        ),
        (
            "arn:aws:iam::111122223333:role/teams/payroll",
            "111122223333",
            ("arn:aws:iam::111122223333:role/teams/payroll", "arn:aws:sts::111122223333:assumed-role/payroll/*"),
        ),
    ],
)
def test_a_principal_is_an_account_and_perhaps_one_of_its_roles_or_users(
    principal: str, account: str, arns: tuple[str, ...]
) -> None:
    (found,) = DeployConfig.from_context(partner(principal=principal)).partners
    assert (found.account, found.principal_arns) == (account, arns)


def test_a_wrong_context_ends_the_app_with_one_line() -> None:
    root = Path(__file__).parents[2]
    context = {"schedules": 3}
    ended = subprocess.run(
        [sys.executable, "app.py"],
        cwd=root,
        env={**os.environ, "CDK_CONTEXT_JSON": json.dumps(context)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "context schedules: must be 1, 2, 4, 8 or 16, not 3"
    assert "Traceback" not in ended.stderr


def test_who_may_only_use_our_applications_own_token_has_no_tenants() -> None:
    given = {name: value for name, value in PARTNER.items() if name != "tenants"} | {"may": ["application"]}
    assert DeployConfig.from_context({"partners": [given]}).partners[0].tenants == ()
    assert DeployConfig.from_context({"partners": [{**given, "tenants": []}]}).partners[0].tenants == ()
    for wrong in ({**given, "tenants": ["acme"]}, {**given, "may": ["application", "read"]}):
        with pytest.raises(ConfigError, match="tenants"):
            DeployConfig.from_context({"partners": [wrong]})


def test_using_our_applications_own_token_takes_room_in_a_roles_policy() -> None:
    tenants = [f"{n:03}-{'t' * 60}" for n in range(20)]
    room = [n for n in range(1, 21) if not _refused(partner(tenants=tenants[:n]))]
    less = [n for n in range(1, 21) if not _refused(partner(tenants=tenants[:n], may=["read", "application"]))]
    assert 0 < len(less) < len(room) < 20


def test_a_permission_takes_the_room_of_its_methods() -> None:
    for may in MAY:
        methods = [route for route in ROUTES if route.opens_to([may])]
        of_tenants = sum("{tenant}" in route.path for route in methods)
        assert config._ARNS_OF[may] == of_tenants
        assert config._ARNS_OF_NO_TENANT.get(may, 0) == len(methods) - of_tenants


def _refused(context: dict[str, Any]) -> bool:
    try:
        DeployConfig.from_context(context)
    except ConfigError:
        return True
    return False
