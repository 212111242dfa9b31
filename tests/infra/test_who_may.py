"""Who may do what to which resource: every action that matters, on every resource, for every role."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest

from infra.token_api import EVENT_ITEMS, LINK_ITEMS, PUBLIC, ROUTES, Route
from tests.infra.template import ACCOUNT, ADMINISTRATOR, REGION, Caller, Template, listed

ACTIONS = {
    "dynamodb": "GetItem PutItem UpdateItem DeleteItem ConditionCheckItem Query Scan BatchGetItem BatchWriteItem "
    "PartiQLSelect ExportTableToPointInTime UpdateTable DeleteTable",
    "kms": "Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo CreateGrant "
    "PutKeyPolicy ScheduleKeyDeletion DisableKey",
    "secretsmanager": "GetSecretValue BatchGetSecretValue PutSecretValue UpdateSecret DeleteSecret",
    "sns": "Publish Subscribe SetTopicAttributes",
    "sqs": "SendMessage ReceiveMessage DeleteMessage GetQueueAttributes PurgeQueue SetQueueAttributes DeleteQueue",
    "lambda": "InvokeFunction UpdateFunctionCode UpdateFunctionConfiguration AddPermission",
    "logs": "CreateLogStream PutLogEvents GetLogEvents DeleteLogGroup",
    "sts": "AssumeRole",
    "iam": "PassRole",
}


Circumstance: TypeAlias = str | Sequence[str]


def via(service: str) -> dict[str, Circumstance]:
    """The context of a key that a service uses on behalf of a caller."""
    return {"kms__ViaService": f"{service}.{REGION}.amazonaws.com", "kms__CallerAccount": ACCOUNT}


def named(leading: str, *attributes: str, returned: str = "NONE") -> dict[str, Circumstance]:
    """The context of a call about an item that names some of its attributes, as an update does."""
    told = ["pk", *attributes]
    return {"dynamodb__LeadingKeys": leading, "dynamodb__Attributes": told, "dynamodb__ReturnValues": returned}


def resources(template: Template) -> dict[str, tuple[str, dict[str, Circumstance]]]:
    """Everything that can be acted on, under a name: its ARN and the circumstances."""
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{template.outputs['WiseSecretName']}"
    table = template.arn("AWS::DynamoDB::Table")
    data, alerts = (template.arn("AWS::KMS::Key", name) for name in ("KeysData", "KeysAlerts"))
    found: dict[str, tuple[str, dict[str, Circumstance]]] = {
        "table": (table, {"dynamodb__LeadingKeys": "acme#anna"}),
        "links": (table, named("#link#0", *LINK_ITEMS["#link#"].updated, returned="ALL_NEW")),
        "whose a link is": (table, named("#link#0", "used_at", "of_grant")),
        "link tokens": (table, {"dynamodb__LeadingKeys": "#pending#0"}),
        "profiles": (table, {"dynamodb__LeadingKeys": "#profile#0"}),
        "suspended": (table, {"dynamodb__LeadingKeys": "#suspended"}),
        "application": (table, named("#application", *LINK_ITEMS["#application"].updated)),
        "application token": (table, named("#application", "in_doubt", "access_token")),
        "application shown": (table, named("#application", "in_doubt", returned="ALL_OLD")),
        "application unnamed": (table, {"dynamodb__LeadingKeys": "#application"}),
        "states": (table, named("#state#user#0", *EVENT_ITEMS["#state#"].updated)),
        "states shown": (table, named("#state#user#0", "rank", returned="ALL_NEW")),
        "whatever is in a state": (table, named("#state#user#0", "state", "holder")),
        "an item that is not told": (table, {"dynamodb__Attributes": ["pk", "in_doubt"]}),
        "users": (table, {"dynamodb__LeadingKeys": "#user#0"}),
        "fleet": (table, {"dynamodb__LeadingKeys": "#fleet"}),
        "certificate": (table, {"dynamodb__LeadingKeys": "#certificate"}),
        "what comes": (table, {"dynamodb__LeadingKeys": "#reserved-in-future"}),
        "due": (f"{table}/index/due", {}),
        "tenant": (f"{table}/index/tenant", {}),
        "access-tokens": (template.arn("AWS::KMS::Key", "KeysAccessTokens"), {}),
        "refresh-tokens": (template.arn("AWS::KMS::Key", "KeysRefreshTokens"), {}),
        "data": (data, {}),
        "data by dynamodb": (data, via("dynamodb")),
        "data by sqs": (data, via("sqs")),
        "data by s3": (data, via("s3")),
        "alerts": (alerts, {}),
        "alerts by sns": (alerts, via("sns")),
        "secret": (f"{secret}-AbCdEf", {}),
        "longer secret": (f"{secret}-old-AbCdEf", {}),
        "topic": (template.arn("AWS::SNS::Topic"), {"aws__SecureTransport": "true"}),
        "failures": (template.arn("AWS::SQS::Queue", "Failures"), {"aws__SecureTransport": "true"}),
        "parked": (template.arn("AWS::SQS::Queue", "Parked"), {"aws__SecureTransport": "true"}),
        "partner role": (template.arn("AWS::IAM::Role", "PartnerGlobex"), {}),
        "access log": (template.arn("AWS::Logs::LogGroup", "AccessLog") + ":stream", {}),
    }
    for service in ("sweep", "refresh", "serve", "admin", "callback"):
        name = service.capitalize()
        found[service] = (template.function_arn(service), {})
        found[f"{service} log"] = (template.arn("AWS::Logs::LogGroup", f"{name}Log").replace(":*", ":stream"), {})
    return found


def powers(template: Template, caller: Caller) -> set[str]:
    """Everything that a caller may do, as `Action on resource`."""
    return {
        f"{action} on {label}"
        for label, (arn, context) in resources(template).items()
        for service, actions in ACTIONS.items()
        if arn.split(":")[2] == service or (service in ("sts", "iam") and ":role/" in arn)
        for action in actions.split()
        if template.may(caller, f"{service}:{action}", arn, **context)
    }


def spelled(*powers: str) -> set[str]:
    """`GetItem, PutItem on table` as two. Who may work on the table may work on each of its items."""
    links = ("links", "link tokens", "whose a link is")
    application = ("application", "application token", "application shown", "application unnamed")
    reserved = (
        *("profiles", "suspended", "states", "states shown", "whatever is in a state", "users", "fleet", "certificate"),
        *("what comes", *application),
    )
    several = {
        "table": ("table", "an item that is not told", *links, *reserved),
        "all but links": ("table", "an item that is not told", *reserved),
        "grants": ("table", "an item that is not told"),
        "all of application": application,
    }
    return {
        f"{action} on {item}"
        for power in powers
        for actions, _, label in [power.partition(" on ")]
        for action in actions.split(", ")
        for item in several.get(label, (label,))
    }


REFRESHING = (
    "GetItem, UpdateItem on all but links",
    "SendMessage on parked",
    "Decrypt, GenerateDataKey on data by sqs",
    "Decrypt, Encrypt, GenerateDataKey on data by dynamodb",
    "Decrypt, GenerateDataKey on access-tokens",
    "Decrypt, GenerateDataKey on refresh-tokens",
    "GetSecretValue on secret",
    "Publish on topic",
    "Decrypt, GenerateDataKey on alerts by sns",
)
POWERS = {
    "sweep": spelled(
        *REFRESHING,
        "UpdateItem on link tokens",
        "Query on due",
        "ReceiveMessage, DeleteMessage, GetQueueAttributes on parked",
        "SendMessage on failures",
        "CreateLogStream, PutLogEvents on sweep log",
    ),
    "refresh": spelled(*REFRESHING, "CreateLogStream, PutLogEvents on refresh log"),
    "serve": spelled(
        "GetItem on grants",
        "GetItem on suspended",
        "GetItem on all of application",
        "Query on tenant",
        "Decrypt on data by dynamodb",
        "Decrypt on access-tokens",
        "InvokeFunction on refresh",
        "CreateLogStream, PutLogEvents on serve log",
    ),
    "admin": spelled(
        "GetItem, PutItem, UpdateItem, DeleteItem on table",
        "Decrypt, Encrypt, GenerateDataKey on data by dynamodb",
        "GenerateDataKey on access-tokens",
        "GenerateDataKey on refresh-tokens",
        "CreateLogStream, PutLogEvents on admin log",
    ),
    "callback": spelled(
        "GetItem, UpdateItem on links",
        "GetItem on whose a link is",
        "PutItem on link tokens",
        "GetItem on profiles",
        "GetItem on suspended",
        "UpdateItem on application",
        "Decrypt, Encrypt, GenerateDataKey on data by dynamodb",
        "GenerateDataKey on access-tokens",
        "GenerateDataKey on refresh-tokens",
        "GetSecretValue on secret",
        "CreateLogStream, PutLogEvents on callback log",
    ),
}


@pytest.mark.parametrize("service", POWERS)
def test_a_function_may_do_exactly_what_it_needs(sandbox: Template, service: str) -> None:
    assert powers(sandbox, sandbox.role_of(service)) == POWERS[service]


def test_production_functions_may_do_the_same(production: Template) -> None:
    for service, expected in POWERS.items():
        assert powers(production, production.role_of(service)) == expected


def test_who_takes_wises_events_may_note_states_and_still_sees_no_grant(
    synthesized: Callable[[str], Template],
) -> None:
    for variant in ("sandbox with events", "nothing public but events"):
        template = synthesized(variant)
        for service, expected in POWERS.items():
            more = spelled("UpdateItem on states") if service == "callback" else set()
            assert powers(template, template.role_of(service)) == expected | more


def test_a_schedule_may_start_the_sweep_and_record_that_it_could_not(production: Template) -> None:
    schedules = production.of_type("AWS::Scheduler::Schedule").values()
    roles = {schedule["Target"]["RoleArn"].rpartition("/")[2] for schedule in schedules}
    assert len(roles) == len(schedules) == 4
    for role in roles:
        assert powers(production, production.role(role)) == spelled(
            "InvokeFunction on sweep", "SendMessage on failures", "Decrypt, GenerateDataKey on data by sqs"
        )


def test_a_partner_role_may_call_the_api_and_nothing_else(sandbox: Template) -> None:
    for title in ("AcmePayroll", "Globex"):
        assert powers(sandbox, sandbox.partner_role(title)) == set()


def test_only_serve_may_start_a_refresh(every: Template) -> None:
    refresh = every.function_arn("refresh")
    may = [role.name for role in every.roles() if every.may(role, "lambda:InvokeFunction", refresh)]
    assert may == [every.role_of("serve").name]
    assert refresh not in {p["FunctionName"] for p in every.of_type("AWS::Lambda::Permission").values()}


def test_only_the_refreshing_functions_read_refresh_tokens(every: Template) -> None:
    refreshing = {every.role_of("sweep").name, every.role_of("refresh").name}
    key = every.arn("AWS::KMS::Key", "KeysRefreshTokens")
    assert {role.name for role in every.roles() if every.may(role, "kms:Decrypt", key)} == refreshing


def test_only_who_talks_to_wise_reads_the_wise_secret(every: Template) -> None:
    talking = {every.role_of(service).name for service in ("sweep", "refresh", "callback")}
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{every.outputs['WiseSecretName']}-AbCdEf"
    read = "secretsmanager:GetSecretValue"
    assert {role.name for role in every.roles() if every.may(role, read, secret)} == talking


def test_who_talks_to_wise_reads_the_wise_secrets_version_in_use_and_the_one_before(every: Template) -> None:
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{every.outputs['WiseSecretName']}-AbCdEf"
    for service in ("sweep", "refresh", "callback"):
        for stage in ("AWSCURRENT", "AWSPREVIOUS"):
            asked = {"secretsmanager__VersionStage": stage}
            assert every.may(every.role_of(service), "secretsmanager:GetSecretValue", secret, **asked), stage


def test_an_administrator_may_administer_the_sealing_keys_but_not_use_them(every: Template) -> None:
    for name in ("KeysAccessTokens", "KeysRefreshTokens"):
        key = every.arn("AWS::KMS::Key", name)
        for action in ("PutKeyPolicy", "DescribeKey", "ScheduleKeyDeletion", "EnableKeyRotation"):
            assert every.may(ADMINISTRATOR, f"kms:{action}", key)
        for action in [
            *("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyWithoutPlaintext"),
            *("ReEncryptFrom", "ReEncryptTo", "CreateGrant", "GenerateMac", "Sign"),
        ]:
            for context in ({}, via("dynamodb"), via("s3")):
                assert not every.may(ADMINISTRATOR, f"kms:{action}", key, **context)


def test_a_key_is_used_by_the_roles_that_its_policy_names_and_by_no_other(sandbox: Template) -> None:
    users = {
        "KeysAccessTokens": {"kms:Decrypt": {"sweep", "refresh", "serve"},
                             "kms:GenerateDataKey": {"sweep", "refresh", "admin", "callback"}},
        "KeysRefreshTokens": {"kms:Decrypt": {"sweep", "refresh"},
                              "kms:GenerateDataKey": {"sweep", "refresh", "admin", "callback"}},
    }  # fmt: skip
    for name, actions in users.items():
        for action, services in actions.items():
            named = {
                principal
                for statement in sandbox.key_policy(name)
                if action in listed(statement["Action"])
                for principal in listed(statement["Principal"]["AWS"])
            }
            assert named == {sandbox.role_of(service).arn for service in services}


def test_no_policy_allows_actions_by_wildcard(every: Template) -> None:
    for owner, statements in every.policy_documents():
        for statement in statements:
            if statement["Effect"] == "Allow":
                assert not any("*" in action for action in listed(statement["Action"])), owner
                assert "NotAction" not in statement


def test_no_identity_policy_reaches_all_resources(every: Template) -> None:
    for policy in every.of_type("AWS::IAM::Policy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            assert "*" not in listed(statement["Resource"])


def test_no_resource_is_open_to_everybody(every: Template) -> None:
    for owner, statements in every.policy_documents():
        for statement in statements:
            principal = statement.get("Principal", {})
            everybody = principal == "*" or listed(principal.get("AWS", [])) == ["*"]
            public = statement.get("Sid") == "BrowsersFromWise" and owner == every.one("AWS::ApiGateway::RestApi")
            assert statement["Effect"] == "Deny" or public or not everybody, owner


def test_managed_policies_are_only_api_gateways_own(every: Template) -> None:
    managed = {
        name: properties["ManagedPolicyArns"]
        for name, properties in every.of_type("AWS::IAM::Role").items()
        if properties.get("ManagedPolicyArns")
    }
    assert all("CloudWatchRole" in name for name in managed)
    assert [arns for arns in managed.values() if "PushToCloudWatchLogs" not in str(arns)] == []


# The locks of the API, each judged alone.

PATHS = {
    "GET": ["/v1/tenants/{}/grants", "/v1/tenants/{}/grants/g1", "/v1/tenants/{}/grants/g1/access-token"],
    "POST": ["/v1/tenants/{}/grants/g1/access-token/rejections"],
    "link": [
        "/v1/tenants/{}/grants/g1/link",
        "/v1/tenants/{}/grants/g1/link/complete",
        "/v1/tenants/{}/grants/g1/link/l1/confirm",
    ],
    "PUT": ["/v1/tenants/{}/grants/g1"],
    "DELETE": ["/v1/tenants/{}/grants/g1"],
    "suspend": ["/v1/tenants/{}/grants/g1/suspension"],
    "lift": ["/v1/tenants/{}/grants/g1/suspension"],
}
HTTP = {"link": "POST", "suspend": "PUT", "lift": "DELETE"}
TENANT_SUSPENSION, SUSPENSION = "/v1/tenants/{}/suspension", "/v1/suspension"
GRANT_SUSPENSION = "/v1/tenants/{}/grants/g1/suspension"
OPERATORS = (TENANT_SUSPENSION, GRANT_SUSPENSION, "/v1/tenants/{}/grants/g1", "/v1/tenants/{}/grants/g1/hold")
TENANTS = ("acme", "acme.eu", "globex", "acme-2", "acm", "*")


def calls(template: Template, caller: Caller) -> set[tuple[str, str]]:
    """Which methods a caller may call on which tenant, all paths of the method being alike."""
    found = set()
    for method, paths in PATHS.items():
        for tenant in TENANTS:
            allowed = {
                template.may(
                    caller, "execute-api:Invoke", template.api_arn(HTTP.get(method, method), path.format(tenant))
                )
                for path in paths
            }
            assert len(allowed) == 1
            if allowed == {True}:
                found.add((method, tenant))
    return found


def test_the_first_lock_opens_a_partners_methods_on_its_own_tenants(sandbox: Template) -> None:
    everything = {(method, tenant) for method in PATHS for tenant in ("acme", "acme.eu")}
    assert calls(sandbox, sandbox.partner_role("AcmePayroll")) == everything
    assert calls(sandbox, sandbox.partner_role("Globex")) == {("GET", "globex"), ("POST", "globex")}


def test_the_first_lock_lets_who_operates_stop_its_tenants_everything_and_one_grant_and_no_more(
    sandbox: Template,
) -> None:
    role = sandbox.partner_role("Operations")
    assert calls(sandbox, role) == {(method, tenant) for method in ("suspend", "lift") for tenant in ("acme", "globex")}
    may = {
        (method, path)
        for method in ("GET", "PUT", "DELETE", "POST")
        for path in (SUSPENSION, *(form.format(tenant) for tenant in TENANTS for form in OPERATORS))
        if sandbox.may(role, "execute-api:Invoke", sandbox.api_arn(method, path))
    }
    one_grant = {(method, GRANT_SUSPENSION.format(t)) for method in ("PUT", "DELETE") for t in ("acme", "globex")}
    assert may == {
        *((method, SUSPENSION) for method in ("GET", "PUT", "DELETE")),
        *((method, TENANT_SUSPENSION.format(t)) for method in ("PUT", "DELETE") for t in ("acme", "globex")),
        *one_grant,
    }
    for title in ("AcmePayroll", "Globex"):
        other = sandbox.partner_role(title)
        for method, path in may - one_grant:
            assert not sandbox.may(other, "execute-api:Invoke", sandbox.api_arn(method, path))


def test_the_first_lock_lets_who_may_use_our_applications_own_token_and_touch_no_grant(sandbox: Template) -> None:
    role = sandbox.partner_role("Ledger")
    own = {
        ("GET", "/v1/application"),
        ("GET", "/v1/application/access-token"),
        ("POST", "/v1/application/access-token/rejections"),
    }
    assert calls(sandbox, role) == set()
    for method, path in own:
        assert sandbox.may(role, "execute-api:Invoke", sandbox.api_arn(method, path))
        for title in ("AcmePayroll", "Globex", "Operations"):
            other = sandbox.partner_role(title)
            assert not sandbox.may(other, "execute-api:Invoke", sandbox.api_arn(method, path))
    for method in ("PUT", "DELETE", "POST", "GET"):
        for path in (SUSPENSION, *(TENANT_SUSPENSION.format(tenant) for tenant in TENANTS)):
            assert not sandbox.may(role, "execute-api:Invoke", sandbox.api_arn(method, path))


def test_the_first_lock_holds_alone(sandbox: Template) -> None:
    api = sandbox.one("AWS::ApiGateway::RestApi")
    resource = {**sandbox.resources[api], "Properties": {}}
    without_second = Template({**sandbox.resources, api: resource})
    assert calls(without_second, sandbox.partner_role("Globex")) == {("GET", "globex"), ("POST", "globex")}
    assert calls(without_second, ADMINISTRATOR) != set()


def test_the_first_lock_names_its_methods(sandbox: Template) -> None:
    for title in ("AcmePayroll", "Globex", "Operations", "Ledger"):
        for statement in sandbox.partner_role(title).statements:
            assert statement["Effect"] == "Allow"
            for arn in listed(statement["Resource"]):
                _, stage, method, path = arn.split(":")[5].split("/", 3)
                assert (stage, method in PATHS and method not in HTTP) == ("live", True)
                of_no_tenant = path in ("v1/suspension", "v1/hold") or path.startswith("v1/application")
                assert of_no_tenant or (path.startswith("v1/tenants/") and "*" not in path.split("/")[2])


def test_the_second_lock_refuses_everybody_but_the_partner_roles(sandbox: Template) -> None:
    assert calls(sandbox, ADMINISTRATOR) == set()
    for role in sandbox.roles():
        generous = Caller(role.arn, ADMINISTRATOR.statements)
        partner = "TokenApiPartner" in role.name
        assert (calls(sandbox, generous) != set()) is partner, role.name


def test_the_second_lock_refuses_a_request_by_nobody(sandbox: Template) -> None:
    nobody = Caller("", [])
    assert not sandbox.may(nobody, "execute-api:Invoke", sandbox.api_arn("GET", "/v1/tenants/acme/grants"))
    for statement in sandbox.properties("AWS::ApiGateway::RestApi")["Policy"]["Statement"]:
        assert statement["Principal"] == {"AWS": "*"} or statement["Principal"] == "*"


NOBODY = Caller("", [])


def test_the_second_lock_allows_nothing_but_the_browsers_way_back(sandbox: Template, first_sandbox: Template) -> None:
    for template in (sandbox, first_sandbox):
        statements = template.properties("AWS::ApiGateway::RestApi")["Policy"]["Statement"]
        (allowed,) = (statement for statement in statements if statement["Effect"] == "Allow")
        assert listed(allowed["Resource"]) == ["execute-api:/live/GET/oauth/callback"]
        open_to_nobody = {
            (method, path)
            for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
            for path in ("/oauth/callback", "/oauth/callback/x", "/oauth/callbac", "/oauth", "/", "/v1/oauth/callback")
            if template.may(NOBODY, "execute-api:Invoke", template.api_arn(method, path))
        }
        assert open_to_nobody == {("GET", "/oauth/callback")}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("sandbox with events", {("GET", "/oauth/callback"), ("POST", "/wise/events")}),
        ("nothing public but events", {("POST", "/wise/events")}),
    ],
)
def test_events_are_allowed_by_themselves(
    synthesized: Callable[[str], Template], variant: str, expected: set[tuple[str, str]]
) -> None:
    template = synthesized(variant)
    statements = template.properties("AWS::ApiGateway::RestApi")["Policy"]["Statement"]
    [denied] = (statement for statement in statements if statement["Effect"] == "Deny")
    allowed = [statement for statement in statements if statement["Effect"] == "Allow"]
    paths = {f"execute-api:/live/{method}{path}" for method, path in expected}
    assert set(listed(denied["NotResource"])) == paths
    assert {resource for statement in allowed for resource in listed(statement["Resource"])} == paths
    open_to_nobody = {
        (method, path)
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
        for path in (
            "/oauth/callback",
            "/wise/events",
            "/wise/events/x",
            "/wise/event",
            "/wise",
            "/",
            "/v1/wise/events",
        )
        if template.may(NOBODY, "execute-api:Invoke", template.api_arn(method, path))
    }
    assert open_to_nobody == expected
    generous = Caller(template.role_of("callback").arn, ADMINISTRATOR.statements)
    assert calls(template, generous) == calls(template, ADMINISTRATOR)
    assert not template.may(NOBODY, "execute-api:Invoke", template.api_arn("GET", "/v1/tenants/acme/grants"))
    methods = template.of_type("AWS::ApiGateway::Method").values()
    unsigned = [method["HttpMethod"] for method in methods if method["AuthorizationType"] != "AWS_IAM"]
    assert sorted(unsigned) == sorted(method for method, _ in expected)


def test_no_public_route_exists_where_the_context_says_so(production: Template) -> None:
    statements = production.properties("AWS::ApiGateway::RestApi")["Policy"]["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Deny"}
    assert all(statement["Resource"] == "execute-api:/*" for statement in statements)
    assert {m["AuthorizationType"] for m in production.of_type("AWS::ApiGateway::Method").values()} == {"AWS_IAM"}
    assert "oauth" not in {r["PathPart"] for r in production.of_type("AWS::ApiGateway::Resource").values()}


def test_the_second_lock_refuses_everybody_where_there_is_no_partner(first_sandbox: Template) -> None:
    for role in first_sandbox.roles():
        assert calls(first_sandbox, Caller(role.arn, ADMINISTRATOR.statements)) == set()


def test_the_third_lock_knows_the_partners_by_role_id(sandbox: Template) -> None:
    expected = [
        {
            "name": "acme-payroll",
            "role_id": f"<{sandbox.partner_role('AcmePayroll').name}.RoleId>",
            "tenants": ["acme", "acme.eu"],
            "may": ["read", "manage", "link"],
            "return_urls": ["https://acme.example.com/wise/linked"],
        },
        {
            "name": "globex",
            "role_id": f"<{sandbox.partner_role('Globex').name}.RoleId>",
            "tenants": ["globex"],
            "may": ["read"],
        },
        {
            "name": "operations",
            "role_id": f"<{sandbox.partner_role('Operations').name}.RoleId>",
            "tenants": ["acme", "globex"],
            "may": ["operate"],
        },
        {
            "name": "ledger",
            "role_id": f"<{sandbox.partner_role('Ledger').name}.RoleId>",
            "tenants": [],
            "may": ["application"],
        },
    ]
    for service in ("serve", "admin", "callback"):
        assert json.loads(sandbox.function(service)["Environment"]["Variables"]["PARTNERS"]) == expected


def deployed_routes(template: Template) -> list[Route]:
    """The routes of a template; production's context says that none is public."""
    public = template.outputs["RedirectUri"].endswith("/live/oauth/callback")
    return [*ROUTES, *([PUBLIC] if public else [])]


def test_every_method_but_the_public_one_demands_a_signature(every: Template) -> None:
    methods = every.of_type("AWS::ApiGateway::Method").values()
    routes = deployed_routes(every)
    assert {method["HttpMethod"] for method in methods} == {route.method for route in ROUTES}
    assert len(methods) == len(routes)
    unsigned = [method for method in methods if method["AuthorizationType"] != "AWS_IAM"]
    assert len(unsigned) == len(routes) - len(ROUTES)
    for method in unsigned:
        assert (method["AuthorizationType"], method["HttpMethod"]) == ("NONE", "GET")
        assert every.function_arn("callback") in json.dumps(method["Integration"]["Uri"])


def test_api_gateway_may_start_a_function_for_its_own_methods_only(every: Template) -> None:
    expected = {
        (every.function_arn(route.function), every.api_arn(route.method, route.path_of("*")))
        for route in deployed_routes(every)
    }
    permissions = every.of_type("AWS::Lambda::Permission").values()
    assert {(p["FunctionName"], p["SourceArn"]) for p in permissions} == expected
    assert {p["Principal"] for p in permissions} == {"apigateway.amazonaws.com"}


@pytest.mark.parametrize(
    ("title", "account", "arns"),
    [
        ("AcmePayroll", "111122223333", ["arn:aws:iam::111122223333:role/payroll",
                                         "arn:aws:sts::111122223333:assumed-role/payroll/*"]),
        ("Globex", "444455556666", None),
    ],
)  # fmt: skip
def test_a_partner_role_is_taken_by_its_principal_with_its_external_id(
    sandbox: Template, title: str, account: str, arns: list[str] | None
) -> None:
    role = sandbox.of_type("AWS::IAM::Role")[sandbox.partner_role(title).name]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Principal"] == {"AWS": f"arn:aws:iam::{account}:root"}
    assert statement["Condition"]["StringEquals"]["sts:ExternalId"].startswith("fixture-external-id")
    assert statement["Condition"].get("ArnLike", {}).get("aws:PrincipalArn") == arns


def test_functions_roles_are_taken_by_lambda_and_schedules_by_their_group(production: Template) -> None:
    for name, role in production.of_type("AWS::IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        if "Partner" in name:
            continue
        service = statement["Principal"]["Service"]
        if "Tick" in name:
            assert service == "scheduler.amazonaws.com"
            assert statement["Condition"]["StringEquals"] == {
                "aws:SourceAccount": ACCOUNT,
                "aws:SourceArn": production.arn("AWS::Scheduler::ScheduleGroup"),
            }
        else:
            assert service == "lambda.amazonaws.com"
