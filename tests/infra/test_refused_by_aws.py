"""What an emulator takes and AWS refuses, or does differently: a test each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.token_api import REFUSALS
from tests.infra.template import ACCOUNT, ADMINISTRATOR, REGION, Caller, Template, listed

ALARM_SOURCE = {
    "StringEquals": {"aws:SourceAccount": ACCOUNT},
    "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*"},
}

KEYS = ("acme#anna", "#link#0", "#pending#0")
"""Of a grant, a link and its tokens."""


def for_service(statements: list[dict[str, Any]], service: str) -> list[dict[str, Any]]:
    """The statements that name a service as the one who may."""
    return [s for s in statements if s["Principal"] != "*" and s["Principal"].get("Service") == service]


def test_01_a_stage_with_a_log_has_the_accounts_logging_role(sandbox: Template, production: Template) -> None:
    account = sandbox.one("AWS::ApiGateway::Account")
    role = sandbox.properties("AWS::ApiGateway::Account")["CloudWatchRoleArn"].rpartition("/")[2]
    for name in (account, role):
        assert sandbox.resources[name]["DeletionPolicy"] == "Retain"
    assert "PushToCloudWatchLogs" in str(sandbox.of_type("AWS::IAM::Role")[role]["ManagedPolicyArns"])
    stage = sandbox.resources[sandbox.one("AWS::ApiGateway::Stage")]
    assert "AccessLogSetting" in stage["Properties"]
    assert account in listed(stage["DependsOn"])
    # Where the account has its role, a context switch leaves both out.
    assert production.of_type("AWS::ApiGateway::Account") == {}
    assert not [name for name in production.of_type("AWS::IAM::Role") if "CloudWatchRole" in name]


def test_02_a_role_that_uses_the_table_may_use_its_key_through_dynamodb(every: Template) -> None:
    table, key = every.arn("AWS::DynamoDB::Table"), every.arn("AWS::KMS::Key", "KeysData")
    assert every.properties("AWS::DynamoDB::Table")["SSESpecification"]["KMSMasterKeyId"] == key
    through = {"kms__ViaService": f"dynamodb.{REGION}.amazonaws.com", "kms__CallerAccount": ACCOUNT}
    users = 0
    for role in every.roles():
        reads = any(
            every.may(role, f"dynamodb:{action}", arn, dynamodb__LeadingKeys=leading)
            for action in ("GetItem", "Query")
            for arn in (table, f"{table}/index/due", f"{table}/index/tenant")
            for leading in KEYS
        )
        writes = any(
            every.may(role, f"dynamodb:{action}", table, dynamodb__LeadingKeys=leading)
            for action in ("PutItem", "UpdateItem", "DeleteItem")
            for leading in KEYS
        )
        users += reads or writes
        assert every.may(role, "kms:Decrypt", key, **through) is (reads or writes)
        for action in ("kms:GenerateDataKey", "kms:Encrypt"):
            assert every.may(role, action, key, **through) is writes
        assert not every.may(role, "kms:Decrypt", key)
    assert users == 5
    # Who creates or restores the table, or reads its items, needs the key through DynamoDB and gets it no other way.
    assert every.may(ADMINISTRATOR, "kms:CreateGrant", key, **through, kms__GrantIsForAWSResource="true")
    assert not every.may(ADMINISTRATOR, "kms:CreateGrant", key, **through, kms__GrantIsForAWSResource="false")
    assert every.may(ADMINISTRATOR, "kms:Decrypt", key, **through)
    assert not every.may(ADMINISTRATOR, "kms:Decrypt", key)


def test_03_alarms_reach_a_topic_under_a_customer_key(every: Template) -> None:
    assert every.properties("AWS::SNS::Topic")["KmsMasterKeyId"] == every.arn("AWS::KMS::Key", "KeysAlerts")
    (of_key,) = for_service(every.key_policy("KeysAlerts"), "cloudwatch.amazonaws.com")
    assert of_key["Effect"] == "Allow"
    assert set(of_key["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert of_key["Condition"] == ALARM_SOURCE
    policy = every.properties("AWS::SNS::TopicPolicy")
    assert policy["Topics"] == [every.arn("AWS::SNS::Topic")]
    (of_topic,) = for_service(policy["PolicyDocument"]["Statement"], "cloudwatch.amazonaws.com")
    assert (of_topic["Effect"], of_topic["Action"]) == ("Allow", "sns:Publish")
    assert of_topic["Condition"] == ALARM_SOURCE
    assert of_topic["Resource"] == every.arn("AWS::SNS::Topic")


def test_04_logs_are_under_no_customer_key_that_would_need_a_statement(every: Template) -> None:
    assert all("KmsKeyId" not in group for group in every.of_type("AWS::Logs::LogGroup").values())


def test_05_who_uses_a_queue_under_a_customer_key_may_use_the_key(every: Template) -> None:
    key = every.arn("AWS::KMS::Key", "KeysData")
    assert {queue["KmsMasterKeyId"] for queue in every.of_type("AWS::SQS::Queue").values()} == {key}
    parked, failures = (every.arn("AWS::SQS::Queue", name) for name in ("Parked", "Failures"))
    sweep, refresh = every.role_of("sweep").name, every.role_of("refresh").name
    ticks = set()
    for schedule in every.of_type("AWS::Scheduler::Schedule").values():
        assert schedule["Target"]["DeadLetterConfig"]["Arn"] == failures
        ticks.add(schedule["Target"]["RoleArn"].rpartition("/")[2])
    users = {
        (failures, "SendMessage"): {sweep, *ticks},
        (failures, "ReceiveMessage"): set(),
        (failures, "DeleteMessage"): set(),
        (parked, "SendMessage"): {sweep, refresh},
        (parked, "ReceiveMessage"): {sweep},
        (parked, "DeleteMessage"): {sweep},
    }
    for (queue, action), expected in users.items():
        for transport, allowed in (("true", expected), ("false", set())):
            may = {
                r.name for r in every.roles() if every.may(r, f"sqs:{action}", queue, aws__SecureTransport=transport)
            }
            assert may == allowed, (queue, action, transport)
    through = {"kms__ViaService": f"sqs.{REGION}.amazonaws.com", "kms__CallerAccount": ACCOUNT}
    for action in ("kms:GenerateDataKey", "kms:Decrypt"):
        may = {role.name for role in every.roles() if every.may(role, action, key, **through)}
        assert may == {sweep, refresh, *ticks}


def test_06_a_start_of_the_sweep_is_not_retried_by_either_layer(every: Template) -> None:
    queue = every.arn("AWS::SQS::Queue", "Failures")
    schedules = every.of_type("AWS::Scheduler::Schedule").values()
    assert schedules
    for schedule in schedules:
        assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    starts = every.properties("AWS::Lambda::EventInvokeConfig")
    assert starts == {
        "FunctionName": every.one("AWS::Lambda::Function", "SweepFunction"),
        "Qualifier": "$LATEST",
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {"OnFailure": {"Destination": queue}},
    }


def test_07_concurrency_is_reserved_only_where_the_context_says_so(sandbox: Template, production: Template) -> None:
    def reserved(template: Template) -> dict[str, int | None]:
        services = ("sweep", "refresh", "serve", "admin", "callback")
        return {s: template.function(s).get("ReservedConcurrentExecutions") for s in services}

    assert set(reserved(sandbox).values()) == {None}
    assert reserved(production) == {"sweep": 8, "refresh": 20, "serve": None, "admin": None, "callback": None}


def test_08_what_is_stored_outlives_the_stack(every: Template) -> None:
    kept = [*every.of_type("AWS::DynamoDB::Table"), *every.of_type("AWS::KMS::Key")]
    kept.append(every.one("AWS::Logs::LogGroup", "AccessLog"))
    assert len(kept) == 6
    for name in kept:
        assert every.resources[name]["DeletionPolicy"] == "Retain", name
        assert every.resources[name]["UpdateReplacePolicy"] == "Retain", name
    assert every.properties("AWS::DynamoDB::Table")["DeletionProtectionEnabled"] is True
    assert every.of_type("AWS::SecretsManager::Secret") == {}


def test_08_the_stack_is_protected_from_deletion(every: Template) -> None:
    assert every.protected


def test_09_functions_answer_before_api_gateway_gives_up(every: Template) -> None:
    for method in every.of_type("AWS::ApiGateway::Method").values():
        assert method["Integration"]["TimeoutInMillis"] == 29_000
    assert every.function("refresh")["Timeout"] < every.function("serve")["Timeout"] < 29
    assert max(every.function("admin")["Timeout"], every.function("callback")["Timeout"]) < 29


def test_10_refusals_by_api_gateway_are_problem_documents_that_nobody_keeps(every: Template) -> None:
    responses = every.of_type("AWS::ApiGateway::GatewayResponse").values()
    assert {r["ResponseType"] for r in responses} == {refusal.kind.response_type for refusal in REFUSALS}
    assert {"ACCESS_DENIED", "MISSING_AUTHENTICATION_TOKEN", "INVALID_SIGNATURE", "EXPIRED_TOKEN", "THROTTLED",
            "REQUEST_TOO_LARGE", "INTEGRATION_TIMEOUT", "RESOURCE_NOT_FOUND", "DEFAULT_4XX",
            "DEFAULT_5XX"} <= {r["ResponseType"] for r in responses}  # fmt: skip
    codes = set()
    for response in responses:
        headers = response["ResponseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert headers["gatewayresponse.header.Cache-Control"] == "'no-store'"
        assert set(response["ResponseTemplates"]) == {"application/json"}
        problem = json.loads(response["ResponseTemplates"]["application/json"])
        if response["ResponseType"].startswith("DEFAULT_"):
            assert set(problem) == {"type", "title"}
            assert "StatusCode" not in response, "one status for all would hide AWS's own"
        else:
            assert set(problem) == {"type", "title", "status"}
            assert str(problem["status"]) == response["StatusCode"]
        assert "$" not in response["ResponseTemplates"]["application/json"], "nothing of the request is repeated"
        prefix, _, code = problem["type"].rpartition(":")
        assert prefix == "urn:token-rotator:problem"
        codes.add(code)
    assert codes == {"forbidden", "not-found", "throttled", "unauthenticated", "request-too-large", "timeout",
                     "temporarily-unavailable", "internal-error", "bad-request", "refused"}  # fmt: skip


def test_11_a_partner_role_passes_the_second_lock_in_both_forms_of_its_arn(sandbox: Template) -> None:
    method = sandbox.api_arn("GET", "/v1/tenants/globex/grants")
    for title in ("AcmePayroll", "Globex"):
        role = sandbox.partner_role(title).name
        for arn in (f"arn:aws:iam::{ACCOUNT}:role/{role}", f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/a-session"):
            assert sandbox.may(Caller(arn, ADMINISTRATOR.statements), "execute-api:Invoke", method)
        for arn in (
            f"arn:aws:iam::{ACCOUNT}:role/{role}x",
            f"arn:aws:iam::{ACCOUNT}:role/x/{role}",
            f"arn:aws:iam::111122223333:role/{role}",
            f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}x/a-session",
            f"arn:aws:sts::111122223333:assumed-role/{role}/a-session",
            f"arn:aws:sts::{ACCOUNT}:assumed-role/other/{role}",
        ):
            assert not sandbox.may(Caller(arn, ADMINISTRATOR.statements), "execute-api:Invoke", method)


def test_12_no_trust_names_a_role_that_may_be_missing(every: Template) -> None:
    for role in every.of_type("AWS::IAM::Role").values():
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            for principal in listed(statement["Principal"].get("AWS", [])):
                assert principal.endswith(":root")


@pytest.mark.parametrize("key", ["KeysAccessTokens", "KeysRefreshTokens", "KeysData", "KeysAlerts"])
def test_13_a_key_has_a_policy_of_its_own_that_leaves_no_use_to_the_account(every: Template, key: str) -> None:
    arn = every.arn("AWS::KMS::Key", key)
    for statement in every.key_policy(key):
        assert not any("*" in action for action in listed(statement["Action"]))
    for action in ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "CreateGrant"):
        assert not every.may(ADMINISTRATOR, f"kms:{action}", arn)
    # Nobody can lose the key for good: its policy can always be changed.
    assert every.may(ADMINISTRATOR, "kms:PutKeyPolicy", arn)


def test_14_requests_and_answers_are_logged_nowhere(every: Template) -> None:
    settings = every.properties("AWS::ApiGateway::Stage")["MethodSettings"]
    assert {(s["HttpMethod"], s["ResourcePath"]) for s in settings} >= {("*", "/*")}
    for setting in settings:
        assert setting["DataTraceEnabled"] is False
        assert setting["LoggingLevel"] == "OFF"
        assert setting["MetricsEnabled"] is True
