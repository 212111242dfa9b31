"""The functions' settings, the table, the schedules, the API's settings and the outputs."""

from __future__ import annotations

import json

import pytest

from infra.refreshing import REFRESH_TIMEOUT_S
from infra.token_api import FUNCTION_TIMEOUT_S, INTEGRATION_TIMEOUT_S
from tests.infra.template import ACCOUNT, REGION, Template

SERVICES = ("sweep", "refresh", "serve", "admin", "callback")

ALWAYS = {
    "ROTATOR_ENVIRONMENT",
    "GRANTS_TABLE",
    "ACCESS_TOKENS_KEY_ARN",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_LOG_LEVEL",
}
WISE = {
    "REFRESH_TOKENS_KEY_ARN",
    "WISE_API_URL",
    "WISE_API_VERSION",
    "WISE_SECRET_NAME",
    "ALERTS_TOPIC_ARN",
    "PARKED_QUEUE_URL",
    "SWEEP_CALLS_PER_MINUTE",
    "DEMAND_CALLS_PER_MINUTE",
    "REMIND_AFTER_H",
    "MANY_GRANTS_DYING",
    "WISE_CLIENT_ID",
}
WISE_OPTIONAL = {"WISE_CA_FILE", "WISE_MTLS", "RUNBOOK_BASE_URL"}
VARIABLES = {
    "sweep": ALWAYS | WISE,
    "refresh": ALWAYS | WISE,
    "serve": ALWAYS | {"PARTNERS", "REFRESH_FUNCTION"},
    "admin": ALWAYS
    | {"PARTNERS", "REFRESH_TOKENS_KEY_ARN", "WISE_WEB_HOST", "WISE_CLIENT_ID", "REDIRECT_URI", "PERSONAL_TOKEN_DAYS"},
    "callback": ALWAYS | {"PARTNERS", "REFRESH_TOKENS_KEY_ARN", "WISE_API_URL", "WISE_API_VERSION", "WISE_SECRET_NAME"},
}
OPTIONAL = {"sweep": WISE_OPTIONAL, "refresh": WISE_OPTIONAL, "callback": {"WISE_CA_FILE", "WISE_MTLS"}}


def variables(template: Template, service: str) -> dict[str, str]:
    found: dict[str, str] = template.function(service)["Environment"]["Variables"]
    return found


def queue_url(template: Template, name: str) -> str:
    return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{template.one('AWS::SQS::Queue', name)}"


@pytest.mark.parametrize("service", SERVICES)
def test_a_function_is_told_what_it_needs_and_no_more(sandbox: Template, production: Template, service: str) -> None:
    assert set(variables(sandbox, service)) == VARIABLES[service]
    assert set(variables(production, service)) == VARIABLES[service] | OPTIONAL.get(service, set()) | {"WISE_SETTLE_S"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_function_is_told_the_names_of_its_own_stacks_resources(production: Template, service: str) -> None:
    expected = {
        "ROTATOR_ENVIRONMENT": "production",
        "GRANTS_TABLE": production.one("AWS::DynamoDB::Table"),
        "ACCESS_TOKENS_KEY_ARN": production.arn("AWS::KMS::Key", "KeysAccessTokens"),
        "REFRESH_TOKENS_KEY_ARN": production.arn("AWS::KMS::Key", "KeysRefreshTokens"),
        "WISE_API_URL": "https://api-mtls.transferwise.com",
        "WISE_MTLS": "true",
        "WISE_API_VERSION": "2026Q4",
        "WISE_WEB_HOST": "wise.com",
        "WISE_CLIENT_ID": "fixture-client-id",
        "REDIRECT_URI": "https://acme.example.com/wise/back?from=wise",
        "WISE_CA_FILE": "/opt/ca.pem",
        "WISE_SECRET_NAME": "token-rotator/production/wise",
        "WISE_SETTLE_S": "15",
        "ALERTS_TOPIC_ARN": production.arn("AWS::SNS::Topic"),
        "PARKED_QUEUE_URL": queue_url(production, "Parked"),
        "SWEEP_CALLS_PER_MINUTE": "1800",
        "DEMAND_CALLS_PER_MINUTE": "200",
        "REMIND_AFTER_H": "12",
        "MANY_GRANTS_DYING": "500",
        "PERSONAL_TOKEN_DAYS": "60",
        "RUNBOOK_BASE_URL": "https://runbooks.example.com/token-rotator",
        "REFRESH_FUNCTION": production.one("AWS::Lambda::Function", "RefreshFunction"),
        "POWERTOOLS_SERVICE_NAME": service,
        "POWERTOOLS_METRICS_NAMESPACE": "TokenRotator",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    found = variables(production, service)
    found = {name: value for name, value in found.items() if name != "PARTNERS"}
    assert found == {name: expected[name] for name in found}


def test_a_sandbox_talks_to_the_sandbox(sandbox: Template) -> None:
    found = variables(sandbox, "sweep")
    assert found["ROTATOR_ENVIRONMENT"] == "sandbox"
    assert found["WISE_API_URL"] == "https://api.wise-sandbox.com"
    assert found["WISE_API_VERSION"] == ""
    assert found["WISE_SECRET_NAME"] == "token-rotator/sandbox/wise"
    assert (found["SWEEP_CALLS_PER_MINUTE"], found["DEMAND_CALLS_PER_MINUTE"]) == ("900", "100")


def test_all_functions_are_one_bundle_on_one_runtime(every: Template) -> None:
    functions = every.of_type("AWS::Lambda::Function").values()
    assert {f["Handler"] for f in functions} == {f"token_rotator.handlers.{service}.handler" for service in SERVICES}
    assert len({json.dumps(f["Code"], sort_keys=True) for f in functions}) == 1
    assert {f["Runtime"] for f in functions} == {"python3.13"}


def test_the_architecture_is_a_setting(sandbox: Template, production: Template) -> None:
    assert {tuple(f["Architectures"]) for f in sandbox.of_type("AWS::Lambda::Function").values()} == {("arm64",)}
    assert {tuple(f["Architectures"]) for f in production.of_type("AWS::Lambda::Function").values()} == {("x86_64",)}


def test_each_function_has_a_role_and_a_log_of_its_own(every: Template) -> None:
    functions = every.of_type("AWS::Lambda::Function").values()
    assert len({f["Role"] for f in functions}) == len(SERVICES)
    groups = {f["LoggingConfig"]["LogGroup"] for f in functions}
    assert len(groups) == len(SERVICES)


def test_what_says_who_was_given_what_is_kept_longer_than_the_rest(
    first_sandbox: Template, production: Template
) -> None:
    for template, days in ((first_sandbox, 400), (production, 731)):
        kept = {name: (group["RetentionInDays"], template.resources[name]["DeletionPolicy"])
                for name, group in template.of_type("AWS::Logs::LogGroup").items()}  # fmt: skip
        audit = {
            name for name in kept if any(word in name for word in ("AccessLog", "ServeLog", "AdminLog", "CallbackLog"))
        }
        assert len(audit) == 4
        assert {kept[name] for name in audit} == {(days, "Retain")}
        assert {kept[name] for name in kept.keys() - audit} == {(90, "Delete")}


def test_the_line_of_a_function_joins_the_access_log_by_the_request_id(every: Template) -> None:
    """The function says the `requestId` of its event, which is what `$context.requestId` writes."""
    log = json.loads(every.properties("AWS::ApiGateway::Stage")["AccessLogSetting"]["Format"])
    assert log["requestId"] == "$context.requestId"


def test_memory_and_time(every: Template) -> None:
    sizes = {s: (every.function(s)["MemorySize"], every.function(s)["Timeout"]) for s in SERVICES}
    assert sizes == {
        "sweep": (1024, 70),
        "refresh": (512, 9),
        "serve": (512, 27),
        "admin": (512, 27),
        "callback": (512, 27),
    }
    assert REFRESH_TIMEOUT_S < FUNCTION_TIMEOUT_S < INTEGRATION_TIMEOUT_S


def test_the_grants_table_is_what_the_store_expects(every: Template) -> None:
    table = every.properties("AWS::DynamoDB::Table")
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    assert types == {"pk": "S", "due_shard": "N", "due_at": "N", "tenant": "S", "grant_id": "S"}
    due, tenant = table["GlobalSecondaryIndexes"]
    assert due == {
        "IndexName": "due",
        "KeySchema": [
            {"AttributeName": "due_shard", "KeyType": "HASH"},
            {"AttributeName": "due_at", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    assert tenant == {
        "IndexName": "tenant",
        "KeySchema": [
            {"AttributeName": "tenant", "KeyType": "HASH"},
            {"AttributeName": "grant_id", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["phase", "created_at"]},
    }
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expire_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_a_parked_answer_is_kept_as_long_as_sqs_can_and_never_moved_aside(every: Template) -> None:
    parked = every.properties("AWS::SQS::Queue", "Parked")
    assert parked["MessageRetentionPeriod"] == 14 * 86_400
    assert parked["VisibilityTimeout"] == 30
    for name, queue in every.of_type("AWS::SQS::Queue").items():
        assert "RedrivePolicy" not in queue, name
        assert not queue.get("FifoQueue", False), name
        assert not queue.get("DelaySeconds", 0), "a parked answer is seen at once"


def test_the_keys_rotate(every: Template) -> None:
    keys = every.of_type("AWS::KMS::Key").values()
    assert len(keys) == 4
    assert all(key["EnableKeyRotation"] for key in keys)


@pytest.mark.parametrize(("variant", "schedules"), [("sandbox", 1), ("production", 4)])
def test_the_schedules_start_the_sweep_each_minute_and_share_the_shards(
    request: pytest.FixtureRequest, variant: str, schedules: int
) -> None:
    template: Template = request.getfixturevalue(variant)
    ticks = list(template.of_type("AWS::Scheduler::Schedule").values())
    assert len(ticks) == schedules
    shards = [shard for tick in ticks for shard in json.loads(tick["Target"]["Input"])["shards"]]
    assert sorted(shards) == list(range(16))
    for tick in ticks:
        assert tick["ScheduleExpression"] == "rate(1 minute)"
        assert tick["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert tick.get("State", "ENABLED") == "ENABLED"
        assert tick["Target"]["Arn"] == template.function_arn("sweep")
        assert set(json.loads(tick["Target"]["Input"])) == {"shards"}


def test_methods_are_throttled_the_dearer_the_tighter(every: Template) -> None:
    settings = every.properties("AWS::ApiGateway::Stage")["MethodSettings"]
    rates = {(s["ResourcePath"], s["HttpMethod"]): (s["ThrottlingRateLimit"], s["ThrottlingBurstLimit"])
             for s in settings}  # fmt: skip
    grant = "/~1v1~1tenants~1{tenant}~1grants~1{grant_id}"
    public = {("/~1oauth~1callback", "GET"): (50, 100)} if ("/~1oauth~1callback", "GET") in rates else {}
    assert rates == {
        ("/*", "*"): (200, 400),
        (f"{grant}~1access-token~1rejections", "POST"): (50, 100),
        ("/~1v1~1application~1access-token~1rejections", "POST"): (50, 100),
        (grant, "PUT"): (25, 50),
        (grant, "DELETE"): (25, 50),
        (f"{grant}~1link", "POST"): (10, 20),
        (f"{grant}~1link~1complete", "POST"): (10, 20),
        (f"{grant}~1link~1{{link_id}}~1confirm", "POST"): (10, 20),
        (f"{grant}~1suspension", "PUT"): (25, 50),
        (f"{grant}~1suspension", "DELETE"): (25, 50),
        ("/~1v1~1tenants~1{tenant}~1suspension", "PUT"): (25, 50),
        ("/~1v1~1tenants~1{tenant}~1suspension", "DELETE"): (25, 50),
        ("/~1v1~1suspension", "PUT"): (25, 50),
        ("/~1v1~1suspension", "DELETE"): (25, 50),
        ("/~1v1~1suspension", "GET"): (25, 50),
        (f"{grant}~1hold", "PUT"): (25, 50),
        (f"{grant}~1hold", "DELETE"): (25, 50),
        ("/~1v1~1tenants~1{tenant}~1hold", "PUT"): (25, 50),
        ("/~1v1~1tenants~1{tenant}~1hold", "DELETE"): (25, 50),
        ("/~1v1~1hold", "PUT"): (25, 50),
        ("/~1v1~1hold", "DELETE"): (25, 50),
        **public,
    }


def test_the_browsers_way_back_is_throttled_by_itself(sandbox: Template, production: Template) -> None:
    def told(template: Template) -> set[str]:
        return {s["ResourcePath"] for s in template.properties("AWS::ApiGateway::Stage")["MethodSettings"]}

    assert told(sandbox) - told(production) == {"/~1oauth~1callback"}


def test_users_are_sent_back_to_the_api_itself_unless_told_otherwise(sandbox: Template, production: Template) -> None:
    for template in (sandbox, production):
        assert variables(template, "admin")["REDIRECT_URI"] == template.outputs["RedirectUri"]
    assert sandbox.outputs["RedirectUri"] == f"{sandbox.outputs['ApiUrl']}/oauth/callback"
    assert variables(sandbox, "admin")["WISE_WEB_HOST"] == "wise-sandbox.com"


def test_nobody_is_asked_about_where_nobody_may_link(first_sandbox: Template) -> None:
    assert "WISE_CLIENT_ID" not in variables(first_sandbox, "admin")


def test_the_access_log_tells_who_fetched_what_and_nothing_of_the_request(every: Template) -> None:
    stage = every.properties("AWS::ApiGateway::Stage")
    log = json.loads(stage["AccessLogSetting"]["Format"])
    assert {"requestId", "caller", "role", "method", "resourcePath", "path", "status", "error"} <= set(log)
    told = " ".join(log.values()).lower()
    assert "\n" not in stage["AccessLogSetting"]["Format"]
    for banned in ("querystring", "header", "body", "useragent", "message", "protocol", "apikey"):
        assert banned not in told
    group = stage["AccessLogSetting"]["DestinationArn"].rpartition("log-group:")[2].removesuffix(":*")
    assert every.of_type("AWS::Logs::LogGroup")[group]["RetentionInDays"] in (400, 731)


def test_nothing_is_traced(every: Template) -> None:
    assert all("TracingConfig" not in f for f in every.of_type("AWS::Lambda::Function").values())
    assert not every.properties("AWS::ApiGateway::Stage").get("TracingEnabled", False)


def test_mail_goes_to_whom_the_context_names(first_sandbox: Template, production: Template) -> None:
    assert first_sandbox.of_type("AWS::SNS::Subscription") == {}
    subscription = production.properties("AWS::SNS::Subscription")
    assert subscription["Protocol"] == "email"
    assert subscription["Endpoint"] == "on-call@example.com"
    assert subscription["TopicArn"] == production.arn("AWS::SNS::Topic")


def test_names_of_resources_are_left_to_cloudformation(every: Template) -> None:
    named = {
        "AWS::IAM::Role": "RoleName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::DynamoDB::Table": "TableName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::SNS::Topic": "TopicName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::CloudWatch::Alarm": "AlarmName",
        "AWS::CloudWatch::Dashboard": "DashboardName",
        "AWS::Scheduler::Schedule": "Name",
    }
    for kind, name in named.items():
        assert all(name not in properties for properties in every.of_type(kind).values()), kind


def test_the_outputs_name_what_people_and_tools_look_for(sandbox: Template) -> None:
    api = sandbox.one("AWS::ApiGateway::RestApi")
    assert sandbox.outputs == {
        "ApiUrl": f"https://{api}.execute-api.{REGION}.amazonaws.com/live",
        "ApiId": api,
        "AccessLogGroup": sandbox.one("AWS::Logs::LogGroup", "AccessLog"),
        "GrantsTable": sandbox.one("AWS::DynamoDB::Table"),
        "AlertsTopicArn": sandbox.arn("AWS::SNS::Topic"),
        "DashboardName": sandbox.one("AWS::CloudWatch::Dashboard"),
        "FailuresQueueUrl": queue_url(sandbox, "Failures"),
        "ParkedQueueUrl": queue_url(sandbox, "Parked"),
        "WiseSecretName": "token-rotator/sandbox/wise",
        "SweepFunction": sandbox.one("AWS::Lambda::Function", "SweepFunction"),
        "RefreshFunction": sandbox.one("AWS::Lambda::Function", "RefreshFunction"),
        "ServeFunction": sandbox.one("AWS::Lambda::Function", "ServeFunction"),
        "AdminFunction": sandbox.one("AWS::Lambda::Function", "AdminFunction"),
        "CallbackFunction": sandbox.one("AWS::Lambda::Function", "CallbackFunction"),
        "RedirectUri": f"https://{api}.execute-api.{REGION}.amazonaws.com/live/oauth/callback",
        "SweepLogGroup": sandbox.one("AWS::Logs::LogGroup", "SweepLog"),
        "RefreshLogGroup": sandbox.one("AWS::Logs::LogGroup", "RefreshLog"),
        "ServeLogGroup": sandbox.one("AWS::Logs::LogGroup", "ServeLog"),
        "AdminLogGroup": sandbox.one("AWS::Logs::LogGroup", "AdminLog"),
        "CallbackLogGroup": sandbox.one("AWS::Logs::LogGroup", "CallbackLog"),
        "AccessTokensKeyArn": sandbox.arn("AWS::KMS::Key", "KeysAccessTokens"),
        "RefreshTokensKeyArn": sandbox.arn("AWS::KMS::Key", "KeysRefreshTokens"),
        "PartnerRoleAcmePayroll": sandbox.partner_role("AcmePayroll").arn,
        "PartnerRoleGlobex": sandbox.partner_role("Globex").arn,
        "PartnerRoleOperations": sandbox.partner_role("Operations").arn,
        "PartnerRoleLedger": sandbox.partner_role("Ledger").arn,
    }
