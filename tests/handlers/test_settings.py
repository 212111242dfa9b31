"""Settings: a function that is told something missing or wrong does not start, and its error names the variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.handlers.deployment import AWS_ENVIRONMENT, Deployment
from token_rotator.domain.errors import SettingsError
from token_rotator.settings import AdminSettings, CallbackSettings, RefreshSettings, ServeSettings
from token_rotator.telemetry import PowertoolsJournal

PARTNER: dict[str, Any] = {
    "name": "fixture-partner",
    "role_id": "AROAEXAMPLEFIXTURE001",
    "tenants": ["acme"],
    "may": ["read", "link"],
    "return_urls": ["https://partner.example.com/linked"],
}
COMMON = {
    "ROTATOR_ENVIRONMENT": "sandbox",
    "GRANTS_TABLE": "fixture-grants",
    "ACCESS_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:123456789012:key/fixture-access",
}
REFRESH_KEY = {"REFRESH_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:123456789012:key/fixture-refresh"}
WISE = {
    "WISE_API_URL": "https://api.wise-sandbox.com",
    "WISE_SECRET_NAME": "token-rotator/sandbox/wise",
    "ALERTS_TOPIC_ARN": "arn:aws:sns:eu-west-1:123456789012:fixture",
    "PARKED_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/fixture-parked",
}
API = {"PARTNERS": json.dumps([PARTNER])}
WEB = {
    "WISE_WEB_HOST": "wise-sandbox.com",
    "WISE_CLIENT_ID": "fixture-client-id",
    "REDIRECT_URI": "https://rotator.example.com/live/oauth/callback",
}
WISE_ASKED = {name: WISE[name] for name in ("WISE_API_URL", "WISE_SECRET_NAME")}
OPTIONAL = {
    "WISE_API_VERSION": "",
    "WISE_CA_FILE": "",
    "WISE_MTLS": "false",
    "WISE_SETTLE_S": "",
    "RUNBOOK_BASE_URL": "",
    "SWEEP_CALLS_PER_MINUTE": "",
    "DEMAND_CALLS_PER_MINUTE": " ",
    "REMIND_AFTER_H": "",
    "MANY_GRANTS_DYING": "",
    "PERSONAL_TOKEN_DAYS": "",
}
FAMILIES: dict[str, tuple[Any, dict[str, str]]] = {
    "refreshing": (RefreshSettings, {**COMMON, **REFRESH_KEY, **WISE}),
    "serving": (ServeSettings, {**COMMON, **API, "REFRESH_FUNCTION": "fixture-refresh-function"}),
    "administering": (AdminSettings, {**COMMON, **REFRESH_KEY, **API, **WEB}),
    "linking": (CallbackSettings, {**COMMON, **REFRESH_KEY, **API, **WISE_ASKED}),
}
EACH = [(family, name) for family, (_, environ) in FAMILIES.items() for name in environ]
SECRET = "fixture-secret-that-was-pasted-into-the-wrong-place"


def refused(family: str, changes: Mapping[str, str | None]) -> str:
    """The message of the error that a family's settings raise."""
    settings, environ = FAMILIES[family]
    changed = {name: value for name, value in {**environ, **changes}.items() if value is not None}
    with pytest.raises(SettingsError) as raised:
        settings.of(changed)
    assert raised.value.code == "settings"
    assert raised.value.__cause__ is None
    return str(raised.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_environment_is_taken_and_nothing_else_needed(family: str) -> None:
    settings, environ = FAMILIES[family]
    parsed = settings.of(environ)
    assert parsed.environment == "sandbox"
    assert parsed == settings.of({**environ, **OPTIONAL, **AWS_ENVIRONMENT})
    assert parsed.budgets.settle == timedelta(seconds=10)


@pytest.mark.parametrize(("family", "name"), EACH)
@pytest.mark.parametrize("value", [None, "", "  ", "\n"])
def test_a_variable_that_is_missing_is_named(family: str, name: str, value: str | None) -> None:
    assert refused(family, {name: value}) == f"{name} is not set"


WRONG: list[tuple[str, str, str]] = [
    ("ROTATOR_ENVIRONMENT", "Sandbox", "sandbox, production"),
    ("ROTATOR_ENVIRONMENT", "staging", "sandbox, production"),
    ("ROTATOR_ENVIRONMENT", SECRET, "sandbox, production"),
    ("WISE_API_URL", "http://api.wise-sandbox.com", "https://"),
    ("WISE_API_URL", "HTTPS://", "https://"),
    ("WISE_API_URL", "api.wise-sandbox.com", "https://"),
    ("WISE_API_URL", "https://", "https://"),
    ("WISE_API_URL", "https:///v1", "https://"),
    ("WISE_API_URL", "https://api.wise-sandbox.com/v1", "without path"),
    ("WISE_API_URL", "https://api.wise-sandbox.com?a=b", "query"),
    ("WISE_API_URL", "https://api.wise-sandbox.com?", "query"),
    ("WISE_API_URL", "https://api.wise-sandbox.com#a", "query"),
    ("WISE_API_URL", f"https://fixture:{SECRET}@api.wise-sandbox.com", "credentials"),
    ("WISE_API_URL", f"https://:{SECRET}@api.wise-sandbox.com", "credentials"),
    ("WISE_API_URL", "https://[::1", "https://"),
    ("WISE_API_URL", "https://api.wise-sandbox.com:port", "https://"),
    ("WISE_API_URL", "https://api.wise-sandbox.com:443:443", "https://"),
    ("WISE_API_URL", "https://api.wise sandbox.com", "https://"),
    ("WISE_API_URL", "ftp://api.wise-sandbox.com", "https://"),
    ("WISE_API_URL", "https://api.wise.com", "production host"),
    ("WISE_API_URL", "https://API.WISE.COM", "production host"),
    ("WISE_API_URL", "https://wise.com", "production host"),
    ("WISE_API_URL", "https://api.wise.com:443", "production host"),
    ("WISE_API_URL", "https://api.wise.com.", "production host"),
    ("WISE_API_URL", "https://api.transferwise.com/", "production host"),
    ("WISE_API_URL", "https://api-mtls.wise-sandbox.com", "where WISE_MTLS is true, and only there"),
    ("WISE_API_URL", "https://API-MTLS.wise-sandbox.com", "where WISE_MTLS is true, and only there"),
    ("WISE_MTLS", "yes", "must be true or false"),
    ("WISE_MTLS", "True", "must be true or false"),
    ("WISE_API_VERSION", "v1", "a quarter"),
    ("WISE_API_VERSION", "2026", "a quarter"),
    ("WISE_API_VERSION", "2026Q5", "a quarter"),
    ("WISE_API_VERSION", "2026q4", "a quarter"),
    ("WISE_API_VERSION", "2026Q4/", "a quarter"),
    ("WISE_API_VERSION", SECRET, "a quarter"),
    ("WISE_SETTLE_S", "ten", "seconds"),
    ("WISE_SETTLE_S", "nan", "seconds"),
    ("WISE_SETTLE_S", "inf", "seconds"),
    ("WISE_SETTLE_S", "1e400", "seconds"),
    ("WISE_SETTLE_S", "10s", "seconds"),
    ("WISE_SETTLE_S", "0", "positive"),
    ("WISE_SETTLE_S", "-1", "positive"),
    ("WISE_SETTLE_S", SECRET, "seconds"),
    ("WISE_WEB_HOST", "https://wise-sandbox.com", "a host"),
    ("WISE_WEB_HOST", "wise-sandbox.com/oauth", "a host"),
    ("WISE_WEB_HOST", f"user:{SECRET}@wise-sandbox.com", "a host"),
    ("WISE_WEB_HOST", "wise.com", "production host"),
    ("WISE_WEB_HOST", "WISE.com:443", "production host"),
    ("WISE_CLIENT_ID", f"client:{SECRET}", "without a colon"),
    ("WISE_CLIENT_ID", "two words", "visible ASCII"),
    ("REDIRECT_URI", "http://rotator.example.com/back", "https"),
    ("REDIRECT_URI", "https://rotator.example.com/back#x", "fragment"),
    ("REDIRECT_URI", "rotator.example.com", "https"),
    ("REDIRECT_URI", "https://rotator.example.com/a b", "https"),
    ("PARKED_QUEUE_URL", "fixture-parked", "the URL of a queue"),
    ("PARKED_QUEUE_URL", "arn:aws:sqs:eu-west-1:123456789012:fixture-parked", "the URL of a queue"),
    ("PARKED_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com", "the URL of a queue"),
    ("PARKED_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/", "the URL of a queue"),
    ("PARKED_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/a b", "the URL of a queue"),
    ("PARKED_QUEUE_URL", f"https://fixture:{SECRET}@sqs.eu-west-1.amazonaws.com/1/parked", "the URL of a queue"),
    ("PARKED_QUEUE_URL", SECRET, "the URL of a queue"),
    *(
        (name, value, "a whole number from 1 to 100000")
        for name in ("SWEEP_CALLS_PER_MINUTE", "DEMAND_CALLS_PER_MINUTE", "MANY_GRANTS_DYING")
        for value in ("many", "0", "-1", "+5", "900.0", "1e3", "1_000", "0900", "100001", "1000000", "९००", SECRET)
    ),
    *(
        ("REMIND_AFTER_H", value, "a whole number from 1 to 2160")
        for value in ("a day", "0", "-1", "24.0", "2161", "024", SECRET)
    ),
    ("PARTNERS", SECRET, "not JSON"),
    ("PARTNERS", "{}", "must be a list"),
    ("PARTNERS", '"fixture"', "must be a list"),
    ("PARTNERS", "null", "must be a list"),
    ("PARTNERS", '["fixture"]', "PARTNERS[0] must be an object"),
]


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_a_variable_that_is_wrong_is_named_and_its_value_not_shown(name: str, value: str, why: str) -> None:
    read_by = {
        "WISE_API_URL": {"refreshing", "linking"},
        "WISE_API_VERSION": {"refreshing", "linking"},
        "WISE_MTLS": {"refreshing", "linking"},
        "WISE_WEB_HOST": {"administering"},
        "WISE_CLIENT_ID": {"administering", "refreshing"},
        "REDIRECT_URI": {"administering"},
        "PARKED_QUEUE_URL": {"refreshing"},
        "SWEEP_CALLS_PER_MINUTE": {"refreshing"},
        "DEMAND_CALLS_PER_MINUTE": {"refreshing"},
        "REMIND_AFTER_H": {"refreshing"},
        "MANY_GRANTS_DYING": {"refreshing"},
        "PERSONAL_TOKEN_DAYS": {"administering"},
        "PARTNERS": {"serving", "administering", "linking"},
    }
    for family in read_by.get(name, set(FAMILIES)):
        message = refused(family, {name: value})
        assert message.startswith(name)
        assert why in message
        assert SECRET not in message


@pytest.mark.parametrize(
    ("environment", "host", "owner"),
    [
        (environment, host, owner)
        for environment in ("sandbox", "production")
        for host, owner in [
            ("api.wise-sandbox.com", "sandbox"),
            ("wise-sandbox.com", "sandbox"),
            ("api.sandbox.transferwise.tech", "sandbox"),
            ("api.sandbox.wise.tech", "sandbox"),
            ("api.wise.com", "production"),
            ("api-mtls.transferwise.com", "production"),
        ]
    ],
)
def test_a_host_of_wise_belongs_to_one_environment(environment: str, host: str, owner: str) -> None:
    settings, environ = FAMILIES["refreshing"]
    changes = {"ROTATOR_ENVIRONMENT": environment, "WISE_API_URL": f"https://{host}"}
    if host.startswith("api-mtls."):
        changes["WISE_MTLS"] = "true"
    if environment == owner:
        assert settings.of({**environ, **changes}).wise_api_url == f"https://{host}"
    else:
        told = f"WISE_API_URL is a {owner} host, and ROTATOR_ENVIRONMENT is {environment}"
        assert refused("refreshing", changes) == told


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8443", "wise.fixture.internal", "notwise.com", "wise.com.fixture.internal"]
)
@pytest.mark.parametrize("environment", ["sandbox", "production"])
def test_a_host_that_is_nobodys_fits_either_environment(host: str, environment: str) -> None:
    settings, environ = FAMILIES["refreshing"]
    given = {**environ, "ROTATOR_ENVIRONMENT": environment, "WISE_API_URL": f" https://{host}/ "}
    assert settings.of(given).wise_api_url == f"https://{host}"


@pytest.mark.parametrize("family", ["refreshing", "linking"])
def test_mutual_tls_has_hosts_of_its_own(family: str) -> None:
    settings, environ = FAMILIES[family]
    assert not settings.of(environ).wise_mtls
    changes = {"WISE_MTLS": " true ", "WISE_API_URL": "https://api-mtls.wise-sandbox.com"}
    assert settings.of({**environ, **changes}).wise_mtls
    assert settings.of({**environ, "WISE_MTLS": "true", "WISE_API_URL": "https://127.0.0.1:8443"}).wise_mtls
    assert "where WISE_MTLS is true, and only there" in refused(family, {"WISE_MTLS": "true"})


def test_the_calls_of_the_two_lanes_are_told_apart() -> None:
    settings, environ = FAMILIES["refreshing"]
    parsed = settings.of(environ)
    assert (parsed.sweep_calls_per_minute, parsed.demand_calls_per_minute) == (900, 100)
    given = {"SWEEP_CALLS_PER_MINUTE": "100000", "DEMAND_CALLS_PER_MINUTE": " 1 "}
    parsed = settings.of({**environ, **given})
    assert (parsed.sweep_calls_per_minute, parsed.demand_calls_per_minute) == (100_000, 1)


def test_people_are_told_as_one_says() -> None:
    settings, environ = FAMILIES["refreshing"]
    parsed = settings.of(environ)
    assert (parsed.remind_after, parsed.many_grants_dying) == (timedelta(days=1), 100)
    parsed = settings.of({**environ, "REMIND_AFTER_H": " 2160 ", "MANY_GRANTS_DYING": "1"})
    assert (parsed.remind_after, parsed.many_grants_dying) == (timedelta(days=90), 1)


@pytest.mark.parametrize(
    "url",
    ["https://sqs.eu-west-1.amazonaws.com/123456789012/fixture-parked", "http://127.0.0.1:4566/000000000000/parked"],
)
def test_the_parking_queue_is_taken_as_it_is_told(url: str) -> None:
    settings, environ = FAMILIES["refreshing"]
    assert settings.of({**environ, "PARKED_QUEUE_URL": f" {url} "}).parked_queue == url


PARTNERS: list[tuple[dict[str, object], str]] = [
    ({"name": None}, "PARTNERS[1].name"),
    ({"name": ""}, "PARTNERS[1].name"),
    ({"name": 7}, "PARTNERS[1].name"),
    ({"role_id": None}, "PARTNERS[1].role_id"),
    ({"role_id": ""}, "PARTNERS[1].role_id"),
    ({"role_id": ["AROAEXAMPLEFIXTURE002"]}, "PARTNERS[1].role_id"),
    ({"role_id": PARTNER["role_id"]}, "PARTNERS names one role twice"),
    ({"tenants": None}, "PARTNERS[1].tenants"),
    ({"tenants": []}, "PARTNERS[1].tenants"),
    ({"tenants": "acme"}, "PARTNERS[1].tenants"),
    ({"tenants": ["acme", 7]}, "PARTNERS[1].tenants"),
    ({"tenants": ["*"]}, "PARTNERS[1].tenants"),
    ({"tenants": ["acme/x"]}, "PARTNERS[1].tenants"),
    ({"tenants": [""]}, "PARTNERS[1].tenants"),
    ({"may": None}, "PARTNERS[1].may"),
    ({"may": []}, "PARTNERS[1].may"),
    ({"may": "read"}, "PARTNERS[1].may"),
    ({"may": ["read", "write"]}, "PARTNERS[1].may"),
    ({"may": ["*"]}, "PARTNERS[1].may"),
    ({"may": [True]}, "PARTNERS[1].may"),
    ({"return_urls": "https://partner.example.com/"}, "PARTNERS[1].return_urls"),
    ({"return_urls": [7]}, "PARTNERS[1].return_urls"),
    ({"return_urls": ["http://partner.example.com/"]}, "PARTNERS[1].return_urls"),
    ({"return_urls": ["https://partner.example.com/?x"]}, "PARTNERS[1].return_urls"),
    ({"return_urls": ["https://partner.example.com/#x"]}, "PARTNERS[1].return_urls"),
    ({"return_urls": ["https://user@partner.example.com/"]}, "PARTNERS[1].return_urls"),
    ({"return_urls": ["javascript:alert(1)"]}, "PARTNERS[1].return_urls"),
]


@pytest.mark.parametrize(("changes", "where"), PARTNERS)
def test_a_partner_that_is_incomplete_is_pointed_at(changes: dict[str, object], where: str) -> None:
    second = {**PARTNER, "role_id": "AROAEXAMPLEFIXTURE002", **changes}
    for family in ("serving", "administering", "linking"):
        assert refused(family, {"PARTNERS": json.dumps([PARTNER, second])}).startswith(where)


def test_partners_are_known_by_their_roles() -> None:
    settings, environ = FAMILIES["serving"]
    assert settings.of({**environ, "PARTNERS": "[]"}).partners == {}
    (partner,) = settings.of(environ).partners.values()
    assert settings.of(environ).partners == {PARTNER["role_id"]: partner}
    assert (partner.tenants, partner.may) == (frozenset({"acme"}), frozenset({"read", "link"}))
    assert partner.return_urls == frozenset({"https://partner.example.com/linked"})


def test_the_age_of_a_personal_token_is_in_days() -> None:
    settings, environ = FAMILIES["administering"]
    assert settings.of(environ).personal_for == timedelta(days=90)
    assert settings.of({**environ, "PERSONAL_TOKEN_DAYS": " 3650 "}).personal_for == timedelta(days=3650)
    for wrong in ("0", "3651", "soon", "-1", "1.5"):
        with pytest.raises(SettingsError, match="PERSONAL_TOKEN_DAYS"):
            settings.of({**environ, "PERSONAL_TOKEN_DAYS": wrong})


@pytest.mark.parametrize("tenants", [[], ["acme"]])
def test_who_may_only_use_our_applications_own_token_needs_no_tenant(tenants: list[str]) -> None:
    settings, environ = FAMILIES["serving"]
    given = json.dumps([{**PARTNER, "tenants": tenants, "may": ["application"], "return_urls": []}])
    (partner,) = settings.of({**environ, "PARTNERS": given}).partners.values()
    assert (partner.tenants, partner.may) == (frozenset(tenants), frozenset({"application"}))
    with pytest.raises(SettingsError, match="tenants"):
        settings.of(
            {**environ, "PARTNERS": given.replace('["application"]', '["application", "read"]').replace("acme", "")}
        )


def test_a_client_id_is_needed_only_where_somebody_may_link() -> None:
    settings, environ = FAMILIES["administering"]
    reader = json.dumps([{**PARTNER, "may": ["read"], "return_urls": []}])
    given = {**environ, "PARTNERS": reader, "WISE_CLIENT_ID": ""}
    assert settings.of(given).wise_client_id == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:4566/x", "http://localhost/x", "https://a.example.com/x?from=wise"])
def test_a_browser_may_be_sent_to_its_own_machine_in_the_clear(url: str) -> None:
    settings, environ = FAMILIES["administering"]
    assert settings.of({**environ, "REDIRECT_URI": url}).redirect_uri == url


@pytest.mark.parametrize("name", ["POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"])
@pytest.mark.parametrize("value", [None, ""])
def test_metrics_that_no_alarm_would_see_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "fixture")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "TokenRotator")
    PowertoolsJournal("sandbox")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        PowertoolsJournal("sandbox")


@pytest.mark.parametrize("function", ["refresh", "callback"])
@pytest.mark.parametrize("content", [None, "", "no certificate in here"])
def test_a_ca_file_that_cannot_be_used_is_named_by_its_variable(
    deployment: Deployment, tmp_path: Path, content: str | None, function: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(Exception, match=r"^WISE_CA_FILE cannot be used") as raised:
        deployment.load(function, WISE_CA_FILE=str(path))
    assert type(raised.value).__name__ == "SettingsError"
