"""What only DynamoDB can show: items of a foreign form, the format on disk, and how its refusals are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import Stubber
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.examples import HOUR, KEY, LEASE, NO_ANSWERS, NOW, a_grant, an_alert
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.domain.errors import CorruptGrant, StoreRefused, StoreUnavailable
from token_rotator.domain.grant import GrantKey
from token_rotator.service.ports import AlreadyHeld, Due, Refused, Rejected, When

Item = dict[str, Any]


# --- items that this version did not write


@pytest.fixture
def raw(dynamodb: DynamoDBClient, table: str) -> Callable[..., DynamoGrants]:
    """Store a grant whose item was altered: a value per attribute, `None` removes it."""
    store = DynamoGrants(dynamodb, table)

    def alter(grant: object = None, **attributes: Item | None) -> DynamoGrants:
        store.create(grant or a_grant(alert=an_alert()))  # type: ignore[arg-type]
        item: Item = dynamodb.get_item(TableName=table, Key={"pk": {"S": str(KEY)}})["Item"]
        for name, value in attributes.items():
            item.pop(name, None)
            if value is not None:
                item[name] = value
        dynamodb.put_item(TableName=table, Item=item)
        return store

    return alter


ALERT: Item = {
    "incident_id": {"S": "incident-1"},
    "kind": {"S": "reauthorization_required"},
    "reason": {"S": "invalid_grant"},
    "raised_at": {"N": "1"},
    "attempt_id": {"S": "attempt-1"},
}


@pytest.mark.emulator
@pytest.mark.parametrize(
    "attributes",
    [
        {"schema": {"N": "2"}},
        {"schema": {"S": "1"}},
        {"schema": None},
        {"phase": {"S": "parked"}},
        {"phase": {"N": "1"}},
        {"phase": None},
        {"version": None},
        {"version": {"S": "7"}},
        {"version": {"N": "1.5"}},
        {"version": {"NULL": True}},
        {"registration_spent_at": {"S": "soon"}},
        {"refresh_token": {"S": "not bytes"}},
        {"refresh_token": {"N": "3"}},
        {"access_token": {"L": [{"N": "1"}]}},
        {"refresh_at": None},
        {"refresh_at": {"S": "soon"}},
        {"refresh_at": {"N": "1" + "0" * 30}},
        {"created_at": None},
        {"attempt_id": {"N": "5"}},
        {"lease_until": {"BOOL": True}},
        {"in_doubt": {"NULL": True}},
        {"scope": {"SS": ["a", "b"]}},
        {"failures": {"S": "3"}},
        {"tenant": {"S": "globex"}},
        {"grant_id": {"S": "ben"}},
        {"alert": {"S": "told"}},
        {"alert": {"M": {}}},
        {"alert": {"M": ALERT | {"ends": {"L": [{"N": "1"}]}}}},
        {"alert": {"M": ALERT | {"reminder": {"S": "true"}}}},
        {"alert": {"M": ALERT | {"kind": {"S": "unheard_of"}}}},
        {"alert": {"M": ALERT | {"raised_at": {"S": "1"}}}},
        {"alert": {"M": {name: value for name, value in ALERT.items() if name != "reason"}}},
    ],
    ids=str,
)
def test_what_this_version_did_not_write_is_corrupt(raw: Callable[..., DynamoGrants], attributes: Item) -> None:
    store = raw(**attributes)
    with pytest.raises(CorruptGrant):
        store.get(KEY)
    grant = a_grant()
    with pytest.raises(CorruptGrant):
        store.write(grant, replace(grant, failures=9), When(attempt_id="attempt-nobody"))
    with pytest.raises(CorruptGrant):
        store.create(grant)


@pytest.mark.emulator
def test_what_a_later_version_adds_is_left_alone(
    raw: Callable[..., DynamoGrants], dynamodb: DynamoDBClient, table: str
) -> None:
    alert = an_alert()
    grant = a_grant(alert=alert)
    store = raw(grant, novelty={"S": "of a later version"})
    assert store.get(KEY) == grant
    store.write(grant, replace(grant, scope="other"), When(version=grant.version))
    item = dynamodb.get_item(TableName=table, Key={"pk": {"S": str(KEY)}})["Item"]
    assert item["novelty"] == {"S": "of a later version"}


@pytest.mark.emulator
def test_the_due_date_of_a_corrupt_grant_moves(raw: Callable[..., DynamoGrants]) -> None:
    store = raw(phase={"S": "parked"}, version=None)
    store.postpone(KEY, NOW + HOUR, NOW)
    assert store.due(range(16), NOW + HOUR, 10) == [(NOW + HOUR, KEY)]
    assert store.due(range(16), NOW, 10) == []


@pytest.mark.emulator
@pytest.mark.parametrize("attributes", [{"phase": None}, {"created_at": None}, {"created_at": {"N": "1.5"}}], ids=str)
def test_a_list_with_a_corrupt_row_is_corrupt(raw: Callable[..., DynamoGrants], attributes: Item) -> None:
    with pytest.raises(CorruptGrant):
        raw(**attributes).page("acme", 10, None)


@pytest.mark.emulator
def test_an_item_is_what_the_design_says(dynamodb: DynamoDBClient, table: str) -> None:
    store = DynamoGrants(dynamodb, table)
    store.create(a_grant(profile_id="profile-1", alert=an_alert()))
    items = {item["pk"]["S"]: item for item in dynamodb.scan(TableName=table)["Items"]}
    assert items.pop("#profile#profile-1") == {"pk": {"S": "#profile#profile-1"}, "holder": {"S": "acme#anna"}}
    item = items.pop("acme#anna")
    assert not items
    assert {name: next(iter(value)) for name, value in item.items()} == {
        "pk": "S",
        "tenant": "S",
        "grant_id": "S",
        "schema": "N",
        "phase": "S",
        "refresh_token": "B",
        "access_token": "B",
        "kind": "S",
        "version": "N",
        "issued_at": "N",
        "expires_at": "N",
        "refresh_at": "N",
        "due_at": "N",
        "due_shard": "N",
        "created_at": "N",
        "scope": "S",
        "failures": "N",
        "takeovers": "N",
        "alert": "M",
        "profile_id": "S",
        "unproven": "BOOL",
        "unlisted": "BOOL",
    }
    assert item["due_at"] == {"N": str(int(NOW.timestamp() * 1000))}
    assert item["due_shard"] == {"N": str(KEY.shard)}


# --- what DynamoDB refuses

CALLS: dict[str, Callable[[DynamoGrants], object]] = {
    "get": lambda store: store.get(KEY),
    "acquire": lambda store: store.acquire(KEY, LEASE, Due(), NOW),
    "acquire after a report": lambda store: store.acquire(KEY, LEASE, Rejected(1), NOW),
    "write": lambda store: store.write(a_grant(), a_grant(scope="other"), When(version=1)),
    "postpone": lambda store: store.postpone(KEY, NOW + HOUR, NOW),
    "stand down": lambda store: store.stand_down(KEY, NOW + HOUR, NOW, "barred"),
    "create": lambda store: store.create(a_grant(profile_id="profile-1")),
    "replace": lambda store: store.replace(a_grant(), a_grant(scope="other"), When(version=1)),
    "delete": lambda store: store.delete(a_grant(profile_id="profile-1"), When(version=1)),
    "due": lambda store: store.due([0, 1], NOW, 10),
    "page": lambda store: store.page("acme", 10, None),
}
OPERATIONS = {
    "get": "get_item",
    "acquire": "update_item",
    "acquire after a report": "update_item",
    "write": "update_item",
    "postpone": "update_item",
    "stand down": "update_item",
    "create": "transact_write_items",
    "replace": "transact_write_items",
    "delete": "transact_write_items",
    "due": "query",
    "page": "query",
}


def refusing(client: DynamoDBClient, operation: str, code: str, status: int = 400, **more: Any) -> Stubber:
    stubber = Stubber(client)
    stubber.add_client_error(operation, code, "the message is not looked at", status, modeled_fields=more or None)
    return stubber


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDeniedException", 400, StoreRefused),
        ("ResourceNotFoundException", 400, StoreRefused),
        ("UnrecognizedClientException", 400, StoreRefused),
        ("KMSAccessDeniedException", 400, StoreRefused),
        ("KMSDisabledException", 400, StoreRefused),
        ("KMSInvalidStateException", 400, StoreRefused),
        ("KMSNotFoundException", 400, StoreRefused),
        ("ProvisionedThroughputExceededException", 400, StoreUnavailable),
        ("ThrottlingException", 400, StoreUnavailable),
        ("RequestLimitExceeded", 400, StoreUnavailable),
        ("TransactionConflictException", 400, StoreUnavailable),
        ("InternalServerError", 500, StoreUnavailable),
        ("ServiceUnavailable", 503, StoreUnavailable),
        ("SomethingNewException", 400, StoreUnavailable),
    ],
)
def test_a_refusal_is_read_by_its_code(
    client: DynamoDBClient, call: str, code: str, status: int, kind: type[Exception]
) -> None:
    with refusing(client, OPERATIONS[call], code, status), pytest.raises(StoreUnavailable) as raised:
        CALLS[call](DynamoGrants(client, "grants"))
    assert type(raised.value) is kind
    assert code in str(raised.value)
    assert "message" not in str(raised.value)


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("error", NO_ANSWERS, ids=lambda error: type(error).__name__)
def test_no_answer_is_unavailable(client: DynamoDBClient, call: str, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    client.meta.events.register("before-call.dynamodb", fail)
    with pytest.raises(StoreUnavailable, match=type(error).__name__) as raised:
        CALLS[call](DynamoGrants(client, "grants"))
    assert type(raised.value) is StoreUnavailable


def cancelled(client: DynamoDBClient, *codes: str, item: Item | None = None) -> Stubber:
    stubber = Stubber(client)
    reasons: list[Item] = [
        {"Code": code, **({"Item": item} if item and not index else {})} for index, code in enumerate(codes)
    ]
    stubber.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        http_status_code=400,
        modeled_fields={"CancellationReasons": reasons},
    )
    return stubber


@pytest.mark.parametrize(
    ("codes", "answer"),
    [
        (("ConditionalCheckFailed", "None"), Refused(None)),
        (("ConditionalCheckFailed", "ConditionalCheckFailed"), Refused(None)),
        (("None", "ConditionalCheckFailed"), AlreadyHeld()),
    ],
)
def test_a_cancelled_transaction_says_which_condition_failed(
    client: DynamoDBClient, codes: tuple[str, ...], answer: object
) -> None:
    with cancelled(client, *codes):
        assert DynamoGrants(client, "grants").create(a_grant(profile_id="profile-1")) == answer


@pytest.mark.parametrize(
    "codes",
    [
        ("TransactionConflict", "None"),
        ("None", "TransactionConflict"),
        ("ThrottlingError", "None"),
        ("None", "ProvisionedThroughputExceeded"),
    ],
)
def test_a_transaction_cancelled_for_another_reason_is_unavailable(
    client: DynamoDBClient, codes: tuple[str, ...]
) -> None:
    with cancelled(client, *codes), pytest.raises(StoreUnavailable, match="TransactionCanceledException"):
        DynamoGrants(client, "grants").create(a_grant(profile_id="profile-1"))


def test_postponing_what_is_not_due_is_no_error(client: DynamoDBClient) -> None:
    with refusing(client, "update_item", "ConditionalCheckFailedException"):
        DynamoGrants(client, "grants").postpone(GrantKey("acme", "nobody"), NOW + HOUR, NOW)


def test_standing_down_what_is_not_due_is_no_error(client: DynamoDBClient) -> None:
    with refusing(client, "update_item", "ConditionalCheckFailedException"):
        DynamoGrants(client, "grants").stand_down(GrantKey("acme", "nobody"), NOW + HOUR, NOW, "barred")
