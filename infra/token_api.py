"""The API: its functions, the partners' roles, two of the three locks, and the browsers' way back from Wise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.function import RETENTION, RotatorFunction
from infra.grants_store import TENANT_INDEX, Reserved
from infra.nag import acknowledge, resource_of
from infra.refreshing import secret_arn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config import DeployConfig, Partner
    from infra.grants_store import GrantsStore
    from infra.keys import Keys

STAGE: Final = "live"
FUNCTION_TIMEOUT_S: Final = 27
INTEGRATION_TIMEOUT_S: Final = 29

GRANTS_PATH: Final = "/v1/tenants/{tenant}/grants"
GRANT_PATH: Final = f"{GRANTS_PATH}/{{grant_id}}"
ACCESS_TOKEN_PATH: Final = f"{GRANT_PATH}/access-token"
REJECTIONS_PATH: Final = f"{ACCESS_TOKEN_PATH}/rejections"
LINK_PATH: Final = f"{GRANT_PATH}/link"
CALLBACK_PATH: Final = "/oauth/callback"
EVENTS_PATH: Final = "/wise/events"
GRANT_SUSPENSION_PATH: Final = f"{GRANT_PATH}/suspension"
TENANT_SUSPENSION_PATH: Final = "/v1/tenants/{tenant}/suspension"
SUSPENSION_PATH: Final = "/v1/suspension"
GRANT_HOLD_PATH: Final = f"{GRANT_PATH}/hold"
TENANT_HOLD_PATH: Final = "/v1/tenants/{tenant}/hold"
HOLD_PATH: Final = "/v1/hold"
APPLICATION_PATH: Final = "/v1/application"
APPLICATION_TOKEN_PATH: Final = f"{APPLICATION_PATH}/access-token"


class Limit(NamedTuple):
    """What API Gateway lets through, over all callers together."""

    per_s: int
    burst: int


class Route(NamedTuple):
    """A method: which function answers it and what a partner needs to be allowed, either of the two."""

    method: str
    path: str
    function: str
    may: str
    limit: Limit
    also: str = ""

    def opens_to(self, may: Sequence[str]) -> bool:
        """Whether a partner with these permissions may call it."""
        return self.may in may or self.also in may

    def path_of(self, tenant: str) -> str:
        """The path of all grants of a tenant, as IAM writes it."""
        return self.path.format(tenant=tenant, grant_id="*", link_id="*")


READS: Final = Limit(200, 400)
REPORTS: Final = Limit(50, 100)
WRITES: Final = Limit(25, 50)
LINKS: Final = Limit(10, 20)
BROWSERS: Final = Limit(50, 100)
"""Room for a crowd: whoever knows the address can use it up, and a partner's calls have limits of their own."""
EVENTS: Final = Limit(20, 40)
"""Wise delivers again what it could not, for two weeks; nobody else has any business there."""

ROUTES: Final = (
    Route("GET", ACCESS_TOKEN_PATH, "serve", "read", READS),
    Route("POST", REJECTIONS_PATH, "serve", "read", REPORTS),
    Route("GET", GRANT_PATH, "serve", "read", READS),
    Route("GET", GRANTS_PATH, "serve", "read", READS),
    Route("GET", APPLICATION_TOKEN_PATH, "serve", "application", READS),
    Route("POST", f"{APPLICATION_TOKEN_PATH}/rejections", "serve", "application", REPORTS),
    Route("GET", APPLICATION_PATH, "serve", "application", READS),
    Route("PUT", GRANT_PATH, "admin", "manage", WRITES),
    Route("DELETE", GRANT_PATH, "admin", "manage", WRITES),
    Route("POST", LINK_PATH, "admin", "link", LINKS),
    Route("POST", f"{LINK_PATH}/complete", "callback", "link", LINKS),
    Route("POST", f"{LINK_PATH}/{{link_id}}/confirm", "admin", "link", LINKS),
    Route("PUT", GRANT_SUSPENSION_PATH, "admin", "manage", WRITES, also="operate"),
    Route("DELETE", GRANT_SUSPENSION_PATH, "admin", "manage", WRITES, also="operate"),
    Route("PUT", TENANT_SUSPENSION_PATH, "admin", "operate", WRITES),
    Route("DELETE", TENANT_SUSPENSION_PATH, "admin", "operate", WRITES),
    Route("PUT", SUSPENSION_PATH, "admin", "operate", WRITES),
    Route("DELETE", SUSPENSION_PATH, "admin", "operate", WRITES),
    Route("GET", SUSPENSION_PATH, "admin", "operate", WRITES),
    Route("PUT", GRANT_HOLD_PATH, "admin", "manage", WRITES),
    Route("DELETE", GRANT_HOLD_PATH, "admin", "manage", WRITES),
    Route("PUT", TENANT_HOLD_PATH, "admin", "operate", WRITES),
    Route("DELETE", TENANT_HOLD_PATH, "admin", "operate", WRITES),
    Route("PUT", HOLD_PATH, "admin", "operate", WRITES),
    Route("DELETE", HOLD_PATH, "admin", "operate", WRITES),
)
PUBLIC: Final = Route("GET", CALLBACK_PATH, "callback", "", BROWSERS)
"""Browsers come here with nothing but what Wise sent them with. The function knows a link by its `state` only."""
PUBLIC_EVENTS: Final = Route("POST", EVENTS_PATH, "callback", "", EVENTS)
"""Wise comes here. The function takes what Wise's key has signed, and nothing else."""
SERVED_ITEMS: Final = ("#suspended", "#application")
"""The reserved items that `serve` reads. Among the others are tokens of links, which nobody has confirmed yet."""
LINK_ITEMS: Final = {
    "#link#": Reserved(("GetItem",), updated=("used_at", "used_by", "ends_at"), shown=True),
    "#pending#": Reserved(("PutItem",)),
    "#profile#": Reserved(("GetItem",)),
    "#suspended": Reserved(("GetItem",)),
    "#application": Reserved(updated=("in_doubt", "due_at", "due_shard", "version", "issued_at")),
}
"""What `callback` may do to which items of the table: it never sees a grant, and writes nobody's token."""
EVENT_ITEMS: Final = {
    "#state#": Reserved(
        updated=(
            "schema",
            "state",
            "occurred_at",
            "rank",
            "delivery_id",
            "was_closed",
            "due_shard",
            "due_at",
            "expire_at",
        )
    )
}
"""What it may do besides where it takes Wise's events."""


def public_routes(config: DeployConfig) -> tuple[Route, ...]:
    """The methods that nobody signs for, as far as they are deployed."""
    return (*((PUBLIC,) if config.public_callback else ()), *((PUBLIC_EVENTS,) if config.wise_webhook_keys else ()))


class Open(NamedTuple):
    """Why a method is public, and under what name the API's policy allows it."""

    sid: str
    why: str


_PUBLIC: Final = {
    PUBLIC: Open(
        "BrowsersFromWise",
        "Browsers come from Wise and have no credentials; an unguessable state of one use lets them in.",
    ),
    PUBLIC_EVENTS: Open(
        "EventsFromWise", "Wise signs the bodies of its events with its own key, and the function takes no other."
    ),
}


class Refusal(NamedTuple):
    """An answer that API Gateway gives by itself."""

    kind: apigateway.ResponseType
    status: int | None
    """None where API Gateway's own status says more than any of ours."""
    code: str
    title: str
    retry_after_s: int | None = None


_KINDS: Final = apigateway.ResponseType
REFUSALS: Final = (
    Refusal(_KINDS.ACCESS_DENIED, 403, "forbidden", "The caller may not do this"),
    Refusal(_KINDS.WAF_FILTERED, 403, "forbidden", "The caller may not do this"),
    Refusal(_KINDS.RESOURCE_NOT_FOUND, 404, "not-found", "There is no such resource"),
    Refusal(_KINDS.THROTTLED, 429, "throttled", "Too many requests", 1),
    Refusal(_KINDS.QUOTA_EXCEEDED, 429, "throttled", "Too many requests", 1),
    Refusal(_KINDS.UNAUTHORIZED, 401, "unauthenticated", "The request is not signed"),
    # API Gateway says this of a path or method that it does not have, too.
    Refusal(
        _KINDS.MISSING_AUTHENTICATION_TOKEN, 403, "unauthenticated", "Not signed, or there is no such path and method"
    ),
    Refusal(_KINDS.INVALID_SIGNATURE, 403, "unauthenticated", "The signature does not match the request"),
    Refusal(_KINDS.EXPIRED_TOKEN, 403, "unauthenticated", "The caller's credentials have expired"),
    Refusal(_KINDS.INVALID_API_KEY, 403, "unauthenticated", "The API key is not valid"),
    Refusal(_KINDS.REQUEST_TOO_LARGE, 413, "request-too-large", "The request is too large"),
    Refusal(_KINDS.INTEGRATION_TIMEOUT, 504, "timeout", "No answer in time", 5),
    # Lambda refused to start the function: no more of them may run at once. API Gateway's own status would be 500
    # (docs.aws.amazon.com/lambda/latest/dg/services-apigateway-errors.html). One second, where the functions say two:
    # who was refused together with those whom they answer does not come back together with them.
    Refusal(_KINDS.INTEGRATION_FAILURE, 503, "temporarily-unavailable", "No answer can be given right now", 1),
    Refusal(_KINDS.API_CONFIGURATION_ERROR, 500, "internal-error", "The request failed"),
    Refusal(_KINDS.AUTHORIZER_CONFIGURATION_ERROR, 500, "internal-error", "The request failed"),
    Refusal(_KINDS.AUTHORIZER_FAILURE, 500, "internal-error", "The request failed"),
    Refusal(_KINDS.BAD_REQUEST_BODY, 400, "bad-request", "The request is not valid"),
    Refusal(_KINDS.BAD_REQUEST_PARAMETERS, 400, "bad-request", "The request is not valid"),
    Refusal(_KINDS.UNSUPPORTED_MEDIA_TYPE, 415, "bad-request", "The content type is not supported"),
    Refusal(_KINDS.DEFAULT_4_XX, None, "refused", "The request was refused"),
    Refusal(_KINDS.DEFAULT_5_XX, None, "internal-error", "The request failed"),
)

# The audit of who called what; the functions' own line for each request, which says the same request id, adds which
# version was given. No query strings, headers or bodies, and no messages, which may quote them.
ACCESS_LOG: Final = {
    "requestId": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "caller": "$context.identity.caller",
    "role": "$context.identity.userArn",
    "sourceIp": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "resourcePath": "$context.resourcePath",
    "path": "$context.path",
    "status": "$context.status",
    "responseLength": "$context.responseLength",
    "latencyMs": "$context.responseLatency",
    "functionLatencyMs": "$context.integrationLatency",
    "error": "$context.error.responseType",
}


class TokenApi(Construct):
    """The REST API. Lock one is each partner role's policy, lock two the API's own; the functions are the third."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: DeployConfig,
        code: lambda_.Code,
        architecture: lambda_.Architecture,
        keys: Keys,
        store: GrantsStore,
        refresh: lambda_.Function,
    ) -> None:
        super().__init__(scope, construct_id)
        self.partner_roles = {
            partner.title: _partner_role(self, f"Partner{partner.title}", partner) for partner in config.partners
        }
        environment = {
            "GRANTS_TABLE": store.table.table_name,
            "ACCESS_TOKENS_KEY_ARN": keys.access_tokens.arn,
            "PARTNERS": self._partners_setting(config.partners),
        }
        self.serve = RotatorFunction(
            self,
            "Serve",
            config=config,
            code=code,
            architecture=architecture,
            timeout_s=FUNCTION_TIMEOUT_S,
            memory_mb=512,
            environment={**environment, "REFRESH_FUNCTION": refresh.function_name},
            audit=True,
        )
        store.allow(self.serve.role, "GetItem", query=TENANT_INDEX)
        store.deny_reserved_but(self.serve.role, SERVED_ITEMS, "GetItem")
        keys.access_tokens.allow(self.serve.role, "kms:Decrypt")
        self.serve.role.add_to_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[refresh.function_arn])
        )

        self.admin = RotatorFunction(
            self,
            "Admin",
            config=config,
            code=code,
            architecture=architecture,
            timeout_s=FUNCTION_TIMEOUT_S,
            memory_mb=512,
            environment={
                **environment,
                "REFRESH_TOKENS_KEY_ARN": keys.refresh_tokens.arn,
                "WISE_WEB_HOST": config.wise_web_host,
                "PERSONAL_TOKEN_DAYS": str(config.personal_token_days),
                **({} if config.wise_client_id is None else {"WISE_CLIENT_ID": config.wise_client_id}),
            },
            audit=True,
        )
        store.allow(self.admin.role, "GetItem", "PutItem", "UpdateItem", "DeleteItem")
        keys.access_tokens.allow(self.admin.role, "kms:GenerateDataKey")
        keys.refresh_tokens.allow(self.admin.role, "kms:GenerateDataKey")

        self.callback = RotatorFunction(
            self,
            "Callback",
            config=config,
            code=code,
            architecture=architecture,
            timeout_s=FUNCTION_TIMEOUT_S,
            memory_mb=512,
            environment={
                **environment,
                "REFRESH_TOKENS_KEY_ARN": keys.refresh_tokens.arn,
                "WISE_API_URL": config.wise_api_url,
                "WISE_API_VERSION": config.wise_api_version,
                "WISE_SECRET_NAME": config.wise_secret_name,
                **({} if config.wise_ca_file is None else {"WISE_CA_FILE": config.wise_ca_file}),
                **({"WISE_MTLS": "true"} if config.wise_mtls else {}),
                **({"WISE_WEBHOOK_KEYS": " ".join(config.wise_webhook_keys)} if config.wise_webhook_keys else {}),
            },
            audit=True,
        )
        store.allow_reserved(self.callback.role, {**LINK_ITEMS, **(EVENT_ITEMS if config.wise_webhook_keys else {})})
        keys.access_tokens.allow(self.callback.role, "kms:GenerateDataKey")
        keys.refresh_tokens.allow(self.callback.role, "kms:GenerateDataKey")
        self.callback.role.add_to_policy(
            iam.PolicyStatement(
                actions=["secretsmanager:GetSecretValue"], resources=[secret_arn(self, config.wise_secret_name)]
            )
        )

        self.access_log = logs.LogGroup(
            self, "AccessLog", retention=RETENTION[config.audit_days], removal_policy=cdk.RemovalPolicy.RETAIN
        )
        self.api = self._rest_api(config)
        self.admin.function.add_environment("REDIRECT_URI", config.redirect_uri or f"{self.url}{CALLBACK_PATH}")
        self._routes(public_routes(config))
        self._refusals()
        for partner in config.partners:
            self._allow_partner(partner)

    @property
    def url(self) -> str:
        """The stage's URL, without a slash at the end; the paths begin with /v1."""
        return cdk.Fn.join(
            "",
            ["https://", self.api.rest_api_id, ".execute-api.", cdk.Aws.REGION, ".", cdk.Aws.URL_SUFFIX, f"/{STAGE}"],
        )

    def _partners_setting(self, partners: Sequence[Partner]) -> str:
        return cdk.Stack.of(self).to_json_string(
            [partner.setting(self.partner_roles[partner.title].role_id) for partner in partners]
        )

    def _rest_api(self, config: DeployConfig) -> apigateway.RestApi:
        api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=cdk.Aws.STACK_NAME,
            description="Access tokens for partner services",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            policy=self._only_partner_roles(public_routes(config)),
            # The account's setting, without which no stage can have a log. It stays when the stack goes.
            cloud_watch_role=config.api_gateway_account,
            cloud_watch_role_removal_policy=cdk.RemovalPolicy.RETAIN if config.api_gateway_account else None,
            default_method_options=apigateway.MethodOptions(authorization_type=apigateway.AuthorizationType.IAM),
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                access_log_destination=apigateway.LogGroupLogDestination(self.access_log),
                access_log_format=apigateway.AccessLogFormat.custom(json.dumps(ACCESS_LOG)),
                logging_level=apigateway.MethodLoggingLevel.OFF,
                data_trace_enabled=False,
                metrics_enabled=True,
                throttling_rate_limit=READS.per_s,
                throttling_burst_limit=READS.burst,
                method_options={
                    f"{route.path}/{route.method}": apigateway.MethodDeploymentOptions(
                        logging_level=apigateway.MethodLoggingLevel.OFF,
                        data_trace_enabled=False,
                        metrics_enabled=True,
                        throttling_rate_limit=route.limit.per_s,
                        throttling_burst_limit=route.limit.burst,
                    )
                    for route in (*ROUTES, *public_routes(config))
                    if route.limit != READS
                },
            ),
        )
        api.node.try_remove_child("Endpoint")
        acknowledge(resource_of(api), "APIG2", "The functions check every field and answer with what is wrong with it.")
        stage = resource_of(api.deployment_stage)
        acknowledge(stage, "APIG6", "Execution logs can quote requests; the access log and the functions' own suffice.")
        acknowledge(stage, "APIG3", "Unsigned requests reach the public methods alone, if any; each is throttled.")
        if config.api_gateway_account:
            acknowledge(
                resource_of(api.node.find_child("CloudWatchRole")),
                "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs]",
                "API Gateway itself asks for this policy on the account's logging role.",
            )
        return api

    def _only_partner_roles(self, public: Sequence[Route]) -> iam.PolicyDocument:
        """Lock two: a denial of every path but the public ones to everybody but the partner roles.

        It allows nothing else: within an account either policy's Allow is enough, and the roles have theirs. A request
        by nobody has no principal, which the negated condition matches, so it is denied as well. A public method
        needs an Allow, since under a policy API Gateway refuses what nothing allows
        (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-authorization-flow.html).
        """
        open_to_all = {route: f"execute-api:/{STAGE}/{route.method}{route.path}" for route in public}
        denial = iam.PolicyStatement(
            sid="OnlyPartnerRoles",
            effect=iam.Effect.DENY,
            principals=[iam.StarPrincipal()],
            actions=["execute-api:Invoke"],
            resources=None if public else ["execute-api:/*"],
            not_resources=list(open_to_all.values()) or None,
        )
        allowed = [
            iam.PolicyStatement(
                sid=_PUBLIC[route].sid,
                principals=[iam.StarPrincipal()],
                actions=["execute-api:Invoke"],
                resources=[resource],
            )
            for route, resource in open_to_all.items()
        ]
        arns = [arn for role in self.partner_roles.values() for arn in _forms(self, role)]
        if arns:
            denial.add_condition("ArnNotLike", {"aws:PrincipalArn": arns})
        return iam.PolicyDocument(statements=[denial, *allowed])

    def _routes(self, public: Sequence[Route]) -> None:
        for route in ROUTES:
            method = self._method(route, apigateway.AuthorizationType.IAM)
            acknowledge(method, "COG4", "Callers are services that sign with a role; no person signs in.")
        for route in public:
            method = self._method(route, apigateway.AuthorizationType.NONE)
            acknowledge(method, "APIG4", _PUBLIC[route].why)
            acknowledge(method, "COG4", _PUBLIC[route].why)

    def _method(self, route: Route, authorization: apigateway.AuthorizationType) -> cdk.CfnResource:
        functions = {"serve": self.serve, "admin": self.admin, "callback": self.callback}
        method = self.api.root.resource_for_path(route.path).add_method(
            route.method,
            apigateway.LambdaIntegration(
                functions[route.function].function,
                proxy=True,
                allow_test_invoke=False,
                timeout=cdk.Duration.seconds(INTEGRATION_TIMEOUT_S),
            ),
            authorization_type=authorization,
        )
        return resource_of(method)

    def _refusals(self) -> None:
        for refusal in REFUSALS:
            problem: dict[str, str | int] = {
                "type": f"urn:token-rotator:problem:{refusal.code}",
                "title": refusal.title,
            }
            if refusal.status is not None:
                problem["status"] = refusal.status
            headers = {"Content-Type": "'application/problem+json'", "Cache-Control": "'no-store'"}
            if refusal.retry_after_s:
                headers["Retry-After"] = f"'{refusal.retry_after_s}'"
            self.api.add_gateway_response(
                "".join(word.capitalize() for word in refusal.kind.response_type.split("_")),
                type=refusal.kind,
                status_code=None if refusal.status is None else str(refusal.status),
                response_headers=headers,
                templates={"application/json": json.dumps(problem)},
            )

    def _allow_partner(self, partner: Partner) -> None:
        """Lock one: the methods by name, on the partner's tenants only."""
        role = self.partner_roles[partner.title]
        starred = set()
        for route in ROUTES:
            if route.opens_to(partner.may):
                of_all = "{tenant}" not in route.path
                paths = [route.path] if of_all else [route.path_of(tenant) for tenant in partner.tenants]
                arns = [self.api.arn_for_execute_api(route.method, path, STAGE) for path in paths]
                role.add_to_policy(iam.PolicyStatement(actions=["execute-api:Invoke"], resources=arns))
                starred |= {f"{STAGE}/{route.method}{path}" for path in paths if "*" in path}
        api = cdk.Stack.of(self).get_logical_id(resource_of(self.api))
        for path in sorted(starred):
            arn = f"arn:<AWS::Partition>:execute-api:<AWS::Region>:<AWS::AccountId>:<{api}>/{path}"
            acknowledge(
                resource_of(role.node.find_child("DefaultPolicy")),
                f"IAM5[Resource::{arn}]",
                "The star stands for the grants of one of the partner's own tenants.",
            )


def _partner_role(scope: Construct, construct_id: str, partner: Partner) -> iam.Role:
    """The role that a partner service takes.

    It trusts the principal's account and demands the principal by a condition. Naming the principal itself would fail
    the deployment until it exists. So a caller needs a policy of its own that allows it to take this role.
    """
    conditions: dict[str, object] = {"StringEquals": {"sts:ExternalId": partner.external_id}}
    if partner.principal_arns:
        conditions["ArnLike"] = {"aws:PrincipalArn": list(partner.principal_arns)}
    return iam.Role(
        scope,
        construct_id,
        description=f"Partner service {partner.name} of the token rotator",
        assumed_by=iam.PrincipalWithConditions(iam.AccountPrincipal(partner.account), conditions),
    )


def _forms(scope: Construct, role: iam.Role) -> tuple[str, str]:
    """How `aws:PrincipalArn` may show a session of a role: as the role, or, on an emulator only, as the session."""
    session = cdk.Stack.of(scope).format_arn(
        service="sts", region="", resource="assumed-role", resource_name=f"{role.role_name}/*"
    )
    return role.role_arn, session
