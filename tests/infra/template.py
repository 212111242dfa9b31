"""Reads a synthesized template as AWS would: names in place of references, and who may do what to which resource."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Json: TypeAlias = Any

ACCOUNT = "999988887777"
REGION = "eu-west-1"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"

_PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "TheStack",
}
_ARNS = {
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{}}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{}}:*",
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{}}",
    "AWS::Scheduler::ScheduleGroup": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/{{}}",
}
_REFS = {
    "AWS::SNS::Topic": _ARNS["AWS::SNS::Topic"],
    "AWS::SQS::Queue": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{{}}",
    "AWS::ApiGateway::Stage": "live",
}
"""What a reference gives where it is not the resource's name."""


@dataclass(frozen=True)
class Caller:
    """Somebody with policies of their own: a role of the template, or anybody else of the account."""

    arn: str
    statements: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]


ADMINISTRATOR = Caller(
    f"arn:aws:iam::{ACCOUNT}:role/Administrator", [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
)


@dataclass(frozen=True)
class Template:
    """A template with its references resolved to names that say what they refer to."""

    resources: dict[str, dict[str, Any]]
    outputs: dict[str, Any] = field(default_factory=dict)
    protected: bool = False

    @classmethod
    def read(cls, raw: Mapping[str, Any], *, protected: bool) -> Template:
        types = {name: resource["Type"] for name, resource in raw["Resources"].items()}
        return cls(
            _resolve(raw["Resources"], types),
            {name: _resolve(output["Value"], types) for name, output in raw.get("Outputs", {}).items()},
            protected,
        )

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of all resources of a type, by logical id."""
        return {name: r.get("Properties", {}) for name, r in self.resources.items() if r["Type"] == kind}

    def one(self, kind: str, containing: str = "") -> str:
        """The logical id of the only resource of a type whose id contains a word."""
        (name,) = (name for name in self.of_type(kind) if containing in name)
        return name

    def properties(self, kind: str, containing: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.of_type(kind)[self.one(kind, containing)]
        return found

    def arn(self, kind: str, containing: str = "") -> str:
        return _ARNS[kind].format(self.one(kind, containing))

    def function(self, service: str) -> dict[str, Any]:
        """The properties of the function with this handler."""
        (found,) = (
            properties
            for properties in self.of_type("AWS::Lambda::Function").values()
            if properties["Handler"] == f"token_rotator.handlers.{service}.handler"
        )
        return found

    def function_arn(self, service: str) -> str:
        return self.arn("AWS::Lambda::Function", f"{service.capitalize()}Function")

    def role_of(self, service: str) -> Caller:
        """The role that a function runs as."""
        return self.role(self.function(service)["Role"].rpartition("/")[2])

    def role(self, name: str) -> Caller:
        own = self.of_type("AWS::IAM::Role")[name]
        documents = [policy["PolicyDocument"] for policy in own.get("Policies", [])]
        documents += [
            policy["PolicyDocument"] for policy in self.of_type("AWS::IAM::Policy").values() if name in policy["Roles"]
        ]
        return Caller(
            _ARNS["AWS::IAM::Role"].format(name), [s for document in documents for s in document["Statement"]]
        )

    def roles(self) -> list[Caller]:
        return [self.role(name) for name in self.of_type("AWS::IAM::Role")]

    def partner_role(self, title: str) -> Caller:
        return self.role(self.one("AWS::IAM::Role", f"Partner{title}"))

    def key_policy(self, containing: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.properties("AWS::KMS::Key", containing)["KeyPolicy"]["Statement"]
        return found

    def api_arn(self, method: str, path: str) -> str:
        api = self.one("AWS::ApiGateway::RestApi")
        return f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/live/{method}{path}"

    def may(self, caller: Caller, action: str, resource: str, **context: str | Sequence[str]) -> bool:
        """Whether IAM lets a caller of this account do it.

        A denial anywhere wins. KMS needs the key's policy: a statement that names the role suffices, one that names
        the account leaves it to the role's own. For anything else either policy's permission is enough.
        Keys of the context are written with `__` for the colon.
        """
        known: dict[str, str | Sequence[str]] = {"aws:PrincipalArn": caller.arn}
        known |= {key.replace("__", ":"): value for key, value in context.items()}
        own = [s for s in caller.statements if _applies(s, action, resource, known)]
        others = [s for s in self._resource_policy(resource) if _applies(s, action, resource, known)]
        named = [s for s in others if _names(s, caller.arn) or _names(s, "*")]
        delegated = [s for s in others if _names(s, ROOT)]
        if any(s["Effect"] == "Deny" for s in own + named + delegated):
            return False
        own_allows = bool(own)
        if resource.startswith("arn:aws:kms:"):
            return bool(named) or (own_allows and bool(delegated))
        return own_allows or bool(named)

    def _resource_policy(self, resource: str) -> list[dict[str, Any]]:
        service, name = resource.split(":")[2], re.split("[:/]", resource)[-1]
        if service == "kms":
            return listed(self.resources[name]["Properties"]["KeyPolicy"]["Statement"])
        if service == "execute-api":
            return self._api_policy(resource)
        kinds = {"sns": ("AWS::SNS::TopicPolicy", "Topics"), "sqs": ("AWS::SQS::QueuePolicy", "Queues")}
        if service not in kinds:
            return []
        kind, targets = kinds[service]
        policies = [p for p in self.of_type(kind).values() if any(name in target for target in p[targets])]
        return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]

    def _api_policy(self, method_arn: str) -> list[dict[str, Any]]:
        """An API's own policy may say `execute-api:/` for its own ARN."""
        own = method_arn.partition("/")[0]
        policy = self.resources[own.split(":")[5]]["Properties"].get("Policy", {"Statement": []})
        return [
            {**s, kind: [r.replace("execute-api:/", f"{own}/") for r in listed(s[kind])]}
            for s in policy["Statement"]
            for kind in ("NotResource" if "NotResource" in s else "Resource",)
        ]

    def policy_documents(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Every policy of the template, of identities and resources alike, with the id of its owner."""
        for name, resource in self.resources.items():
            for value in resource.get("Properties", {}).values():
                if isinstance(value, dict) and "Statement" in value:
                    yield name, value["Statement"]


def listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _names(statement: Mapping[str, Any], arn: str) -> bool:
    principal = statement["Principal"]
    if principal == "*":
        return arn == "*"
    return arn in listed(principal.get("AWS", []))


def _applies(
    statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str | Sequence[str]]
) -> bool:
    return (
        any(_like(action.lower(), pattern.lower()) for pattern in listed(statement["Action"]))
        and _covers(statement, resource)
        and all(
            _condition(operator, context.get(key), listed(expected))
            for operator, pairs in statement.get("Condition", {}).items()
            for key, expected in pairs.items()
        )
    )


def _covers(statement: Mapping[str, Any], resource: str) -> bool:
    if "NotResource" in statement:
        return not any(_like(resource, pattern) for pattern in listed(statement["NotResource"]))
    return any(_like(resource, pattern) for pattern in listed(statement["Resource"]))


def _condition(operator: str, actual: str | Sequence[str] | None, expected: Sequence[str]) -> bool:
    if operator == "Null":
        return (not actual) is (expected[0] == "true")
    if operator.startswith("ForAllValues:"):  # AWS takes a key that is absent for a match
        each = operator.removeprefix("ForAllValues:")
        return all(_condition(each, one, expected) for one in ([actual] if isinstance(actual, str) else actual or ()))
    if operator.startswith("ForAnyValue:"):  # AWS takes a key that is absent for none
        any_one = operator.removeprefix("ForAnyValue:")
        return any(
            _condition(any_one, one, expected) for one in ([actual] if isinstance(actual, str) else actual or ())
        )
    if operator == "StringEqualsIfExists":
        return actual is None or actual in expected
    if not isinstance(actual, str | None):
        msg = f"{operator} on a key of several values"
        raise NotImplementedError(msg)
    if operator in ("ArnNotLike", "StringNotLike"):
        return actual is None or not any(_like(actual, pattern) for pattern in expected)
    if operator in ("ArnLike", "StringLike"):
        return actual is not None and any(_like(actual, pattern) for pattern in expected)
    if operator in ("StringEquals", "Bool"):
        return actual in expected
    if operator == "StringNotEquals":
        return actual not in expected
    raise NotImplementedError(operator)


def _like(text: str, pattern: str) -> bool:
    """IAM's matching: a star stands for anything, slashes too."""
    wild = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wild, text, re.DOTALL) is not None


def _resolve(value: Json, types: Mapping[str, str]) -> Json:
    if isinstance(value, list):
        return [_resolve(item, types) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (function, argument), *_ = value.items()
        if function == "Ref":
            return _reference(argument, types)
        if function == "Fn::GetAtt":
            name, attribute = argument
            return _ARNS[types[name]].format(name) if attribute == "Arn" else f"<{name}.{attribute}>"
        if function == "Fn::Join":
            separator, parts = argument
            return separator.join(_resolve(parts, types))
    return {key: _resolve(item, types) for key, item in value.items()}


def _reference(name: str, types: Mapping[str, str]) -> str:
    return _PSEUDO.get(name) or _REFS.get(types.get(name, ""), "{}").format(name)
