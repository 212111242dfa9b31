"""What is kept about our certificate's end: in memory and in DynamoDB."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from botocore.stub import Stubber
from types_boto3_dynamodb import DynamoDBClient

from tests.contract.examples import HOUR, NOW, TICK, an_alert
from tests.fakes.certificate import InMemoryCertificate
from token_rotator.adapters.dynamo_certificate import DynamoCertificate
from token_rotator.domain.certificate import CertificateWatch
from token_rotator.domain.errors import CorruptGrant, StoreRefused, StoreUnavailable
from token_rotator.domain.grant import AlertKind
from token_rotator.service.ports import CertificateStore

WHOLE = CertificateWatch(
    not_after=NOW + HOUR,
    told=NOW - TICK,
    alert=an_alert(kind=AlertKind.CERTIFICATE_EXPIRING, published_at=NOW, ends=("incident-0",)),
)


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def store(request: pytest.FixtureRequest) -> CertificateStore:
    if request.param == "memory":
        return InMemoryCertificate()
    return DynamoCertificate(request.getfixturevalue("dynamodb"), request.getfixturevalue("table"))


def test_where_nothing_was_stored_nothing_is_known(store: CertificateStore) -> None:
    assert store.read() == CertificateWatch()


def test_every_field_can_be_written_and_emptied(store: CertificateStore) -> None:
    empty = CertificateWatch()
    assert all(getattr(WHOLE, f.name) != getattr(empty, f.name) for f in fields(empty) if f.name != "revision")
    stored = store.write(empty, WHOLE)
    assert stored == replace(WHOLE, revision=1)
    assert store.read() == stored
    assert store.write(stored, empty) == CertificateWatch(revision=2)
    assert store.read() == CertificateWatch(revision=2)


def test_the_second_to_write_over_one_revision_writes_nothing(store: CertificateStore) -> None:
    first = store.write(CertificateWatch(), WHOLE)
    assert store.write(CertificateWatch(), WHOLE) is None
    assert store.write(CertificateWatch(revision=7), CertificateWatch()) is None
    assert store.read() == first


@pytest.mark.emulator
@pytest.mark.parametrize(
    "item",
    [
        {"schema": {"N": "99"}, "revision": {"N": "1"}},
        {"revision": {"N": "1"}},
        {"schema": {"N": "1"}, "revision": {"S": "1"}},
        {"schema": {"N": "1"}, "revision": {"N": "1"}, "alert": {"M": {"kind": {"S": "unheard-of"}}}},
    ],
    ids=["schema", "no-schema", "type", "alert"],
)
def test_what_this_version_did_not_write_is_not_read(
    dynamodb: DynamoDBClient, table: str, item: dict[str, Any]
) -> None:
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "#certificate"}, **item})
    with pytest.raises(CorruptGrant):
        DynamoCertificate(dynamodb, table).read()


@pytest.mark.emulator
def test_a_write_that_the_sdk_sent_twice_took_effect(
    dynamodb: DynamoDBClient, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is lost and the SDK sends the same write again, which is refused by its own trace."""
    store, real = DynamoCertificate(dynamodb, table), dynamodb.update_item

    def twice(**parameters: Any) -> Any:
        real(**parameters)
        return real(**parameters)

    monkeypatch.setattr(dynamodb, "update_item", twice)
    assert store.write(CertificateWatch(), WHOLE) == replace(WHOLE, revision=1)


@pytest.mark.emulator
@pytest.mark.parametrize(
    ("code", "error"), [("AccessDeniedException", StoreRefused), ("InternalServerError", StoreUnavailable)]
)
def test_a_table_that_fails_is_told_apart_from_one_that_refuses(
    dynamodb: DynamoDBClient, table: str, code: str, error: type[Exception]
) -> None:
    store = DynamoCertificate(dynamodb, table)
    with Stubber(dynamodb) as stub:
        stub.add_client_error("update_item", code)
        with pytest.raises(error):
            store.write(CertificateWatch(), WHOLE)
