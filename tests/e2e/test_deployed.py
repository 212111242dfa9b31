"""What only the whole can show: API Gateway, IAM, the keys and the functions together."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from local.aws.ministack import Credentials
from local.aws.signed import assume
from local.wise.control import wait_until
from tests.e2e.deployment import ACME, Deployed, adopt, is_problem
from tests.infra.board import shown, widgets

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("e2e")]


def test_without_a_secret_it_is_quiet_and_says_so(deployed: Deployed) -> None:
    acme = deployed.as_partner("acme")
    assert adopt(deployed, acme, "waiting", with_access_token=False).status == 201
    answer = deployed.call("GET", f"{ACME}/waiting/access-token", acme)
    assert answer.status == 503
    assert is_problem(answer, "temporarily-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert deployed.wise.control.requests() == []
    logs = deployed.stack.emulator.client("logs")

    def told() -> bool:
        events = logs.filter_log_events(logGroupName=deployed.stack.outputs["RefreshLogGroup"])["events"]
        entries = [json.loads(event["message"]) for event in events if event["message"].startswith("{")]
        return any("has no value yet" in entry.get("reason", "") for entry in entries)

    wait_until(told, 10, "a log line about the secret")


def test_a_grant_lives_from_adoption_to_deletion(with_secret: Deployed) -> None:
    deployed, acme = with_secret, with_secret.as_partner("acme")
    adopted = adopt(deployed, acme, "anna")
    assert adopted.status == 201
    assert adopted.headers["etag"] == f'"{adopted.json()["version"]}"'
    served = deployed.call("GET", f"{ACME}/anna/access-token", acme)
    assert served.status == 200
    assert served.headers["cache-control"] == "no-store"
    assert served.json()["version"] == adopted.json()["version"]
    replayed = adopt(deployed, acme, "anna")
    assert (replayed.status, is_problem(replayed, "precondition-failed")) == (412, True)
    listed = deployed.call("GET", f"{ACME}?limit=1", acme).json()
    assert len(listed["grants"]) == 1
    assert deployed.call("DELETE", f"{ACME}/anna", acme).status == 204
    assert deployed.call("GET", f"{ACME}/anna/access-token", acme).status == 404


def test_the_dashboard_arrives_whole_and_shows_the_alarms_that_are_there(deployed: Deployed) -> None:
    cloudwatch = deployed.stack.emulator.client("cloudwatch")
    body = cloudwatch.get_dashboard(DashboardName=deployed.stack.outputs["DashboardName"])["DashboardBody"]
    (states,) = (widget for widget in widgets(body) if widget["type"] == "alarm")
    alarms = {alarm["AlarmArn"]: alarm for alarm in cloudwatch.describe_alarms(MaxRecords=100)["MetricAlarms"]}
    assert set(states["properties"]["alarms"]) == set(alarms)
    drawn = {(line.namespace, line.name, line.dimensions) for widget in widgets(body) for line in shown(widget)}
    for alarm in alarms.values():
        dimensions = frozenset((found["Name"], found["Value"]) for found in alarm["Dimensions"])
        assert (alarm["Namespace"], alarm["MetricName"], dimensions) in drawn


@pytest.mark.parametrize("policy", ["same", "rotated", "omitted"])
def test_a_token_of_eight_thousand_characters_goes_round_whole(with_secret: Deployed, policy: str) -> None:
    deployed, acme = with_secret, with_secret.as_partner("acme")
    control = deployed.wise.control
    control.change_settings(token_format="long", refresh_token_policy=policy)
    user = f"long-{policy}"
    assert adopt(deployed, acme, user, with_access_token=False).status == 201
    for turn in range(2):
        token = deployed.call("GET", f"{ACME}/{user}/access-token", acme).json()["access_token"]
        assert len(token) == 8000
        (live,) = control.truth().live_access_tokens(user)
        assert hashlib.sha256(token.encode()).hexdigest() == live.sha256
        if turn == 0:  # make it due again
            table = deployed.stack.outputs["GrantsTable"]
            deployed.stack.emulator.client("dynamodb").update_item(
                TableName=table,
                Key={"pk": {"S": f"acme#{user}"}},
                UpdateExpression="SET refresh_at = :now, due_at = :now",
                ExpressionAttributeValues={":now": {"N": str(int(time.time() * 1000))}},
            )
    assert len([request for request in control.requests(user=user) if request.carried_out]) >= 2
    control.change_settings(token_format="uuid", refresh_token_policy="same")


# --- three locks, each alone: the other two stand open


@pytest.fixture
def opened_function(with_secret: Deployed) -> object:
    """Open the third lock for whom a test names."""
    before = with_secret.variable("ServeFunction", "PARTNERS")
    entries = json.loads(before)

    def open_for(role_id: str) -> None:
        stranger = {"name": "stranger", "role_id": role_id, "tenants": ["acme"], "may": ["read"]}
        others = [entry for entry in entries if entry["role_id"] != role_id]
        with_secret.configure("ServeFunction", PARTNERS=json.dumps([*others, stranger]))

    yield open_for
    with_secret.configure("ServeFunction", PARTNERS=before)


def role_id(deployed: Deployed, role_arn: str) -> str:
    found = deployed.stack.emulator.client("iam").get_role(RoleName=role_arn.rsplit("/", 1)[-1])
    return str(found["Role"]["RoleId"])


def allow(deployed: Deployed, role_arn: str, name: str = "careless") -> None:
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "execute-api:*", "Resource": "*"}],
    }
    deployed.stack.emulator.client("iam").put_role_policy(
        RoleName=role_arn.rsplit("/", 1)[-1], PolicyName=name, PolicyDocument=json.dumps(document)
    )


def forbid(deployed: Deployed, role_arn: str, name: str = "careless") -> None:
    deployed.stack.emulator.client("iam").delete_role_policy(RoleName=role_arn.rsplit("/", 1)[-1], PolicyName=name)


def test_the_roles_own_policy_is_enough_to_refuse(with_secret: Deployed, opened_function: object) -> None:
    deployed = with_secret
    adopt(deployed, deployed.as_partner("acme"), "locked-1")
    opened_function(role_id(deployed, deployed.role("globex")))  # type: ignore[operator]
    path = f"{ACME}/locked-1/access-token"
    assert deployed.call("GET", path, deployed.as_partner("globex")).status == 403
    allow(deployed, deployed.role("globex"))
    try:
        assert deployed.call("GET", path, deployed.as_partner("globex")).status == 200  # that lock was the only one
    finally:
        forbid(deployed, deployed.role("globex"))


def test_the_resource_policy_is_enough_to_refuse(with_secret: Deployed, opened_function: object) -> None:
    deployed = with_secret
    adopt(deployed, deployed.as_partner("acme"), "locked-2")
    emulator = deployed.stack.emulator
    principal = {"AWS": f"arn:aws:iam::{emulator.account}:root"}
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}],
    }
    made = emulator.client("iam").create_role(RoleName="stranger", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    allow(deployed, made["Arn"])
    opened_function(made["RoleId"])  # type: ignore[operator]
    for method in ("GET", "PUT", "DELETE"):
        answer = deployed.call(method, f"{ACME}/locked-2", assume(emulator, made["Arn"]))
        assert answer.status == 403
    assert b"urn:token-rotator:problem:forbidden" not in answer.body  # it never came to the function


def test_the_function_is_enough_to_refuse(with_secret: Deployed) -> None:
    deployed = with_secret
    adopt(deployed, deployed.as_partner("acme"), "locked-3")
    allow(deployed, deployed.role("globex"))
    try:
        stranger = deployed.as_partner("globex", session="acme")
        answers = [
            deployed.call("GET", f"{ACME}/{name}/access-token", stranger) for name in ("locked-3", "never-adopted")
        ]
        answers += [deployed.call("DELETE", f"{ACME}/locked-3", stranger)]
    finally:
        forbid(deployed, deployed.role("globex"))
    assert all(answer.status == 403 and is_problem(answer, "forbidden") for answer in answers)
    assert answers[0].body == answers[1].body
    assert deployed.call("GET", f"{ACME}/locked-3", deployed.as_partner("acme")).status == 200


# --- what is not provably right is refused


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tenants/acme//grants/tricks/access-token",
        "/v1/tenants/acme/grants/tricks/access-token/",
        "/v1/tenants/globex/grants/%2E%2E/%2E%2E/acme/grants/tricks/access-token",
        "/v1/tenants/globex/grants/..%2F..%2Facme%2Fgrants%2Ftricks/access-token",
        "/v1/tenants/ACME/grants/tricks/access-token",
        "/v1/tenants/acme/grants/tricks%00/access-token",
        "/v1/tenants/acme/grants/tricks;v=1/access-token",
        "/V1/tenants/acme/grants/tricks/access-token",
        "/v1/tenants/acme%23tricks/grants/tricks/access-token",
    ],
)
def test_a_path_that_only_looks_like_the_grants_is_refused(with_secret: Deployed, path: str) -> None:
    deployed = with_secret
    adopt(deployed, deployed.as_partner("acme"), "tricks")
    for partner in ("acme", "globex"):
        answer = deployed.call("GET", path, deployed.as_partner(partner))
        assert answer.status in (400, 403, 404), partner
        assert b"access_token" not in answer.body


def test_an_encoded_tenant_is_still_nobody_elses(with_secret: Deployed) -> None:
    """The emulator hands on a decoded path, so that the owner would be served; AWS hands it on as it came."""
    deployed = with_secret
    adopt(deployed, deployed.as_partner("acme"), "encoded")
    allow(deployed, deployed.role("globex"))
    try:
        answer = deployed.call("GET", "/v1/tenants/%61cme/grants/encoded/access-token", deployed.as_partner("globex"))
    finally:
        forbid(deployed, deployed.role("globex"))
    assert answer.status in (403, 404)
    assert b"access_token" not in answer.body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"refresh_token": ""}', "refresh_token"),
        (b'{"refresh_token": 5}', "refresh_token"),
        (b'{"refresh_token": "x", "surprise": 1}', "surprise"),
        (b'{"refresh_token": "x", "access_token": "y"}', "expires_at"),
    ],
)
def test_a_body_that_cannot_be_understood_is_refused_by_the_name_of_its_field(
    with_secret: Deployed, body: bytes, field: str
) -> None:
    deployed = with_secret
    answer = deployed.call("PUT", f"{ACME}/bad-body", deployed.as_partner("acme"), body=body)
    assert answer.status == 400
    assert is_problem(answer, "bad-request")
    assert answer.json()["detail"].startswith(field)
    assert deployed.call("GET", f"{ACME}/bad-body", deployed.as_partner("acme")).status == 404


def test_nobody_gets_in_without_a_good_signature(with_secret: Deployed) -> None:
    deployed = with_secret
    acme = deployed.as_partner("acme")
    forged = Credentials(acme.access_key_id, "not-the-secret", acme.session_token)
    for by in (None, forged):
        assert deployed.call("GET", f"{ACME}/anna/access-token", by).status == 403
    assert deployed.call("DELETE", f"{ACME}/anna", deployed.as_partner("globex")).status == 403
