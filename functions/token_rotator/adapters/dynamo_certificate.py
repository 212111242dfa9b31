"""What is known of our certificate's end, in DynamoDB: the item `#certificate` of the grants' table.

| attribute | type | holds |
|---|---|---|
| `pk`, `schema` | S, N | `#certificate`, and the version of its form |
| `revision`, `write_id` | N, S | how often it was written, and a random word of the last write |
| the fields of `CertificateWatch` | | instants as epoch milliseconds |
"""

from __future__ import annotations

import uuid
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from token_rotator.domain.certificate import CertificateWatch
from token_rotator.domain.errors import CorruptGrant
from token_rotator.domain.grant import SCHEMA

from .dynamo_items import ALERT, INSTANT, NUMBER, TEXT, UNREADABLE, Codec, Item, Update, failures, is_refused

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

CERTIFICATE: Final = "#certificate"
_CODECS: Final[dict[str, Codec]] = {"revision": NUMBER, "not_after": INSTANT, "told": INSTANT, "alert": ALERT}


def _decode(item: Item) -> CertificateWatch:
    """Make the watch of its item. Raises `CorruptGrant` for whatever this version did not write."""
    try:
        if not item:
            return CertificateWatch()
        if NUMBER.decode(item["schema"]) != SCHEMA:
            msg = "the certificate's item has another schema"
            raise CorruptGrant(msg)
        return CertificateWatch(**{name: codec.decode(item[name]) for name, codec in _CODECS.items() if name in item})
    except UNREADABLE as error:
        msg = f"the certificate's item cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None


class DynamoCertificate:
    """`CertificateStore` over the table of grants. Safe in threads; the client is as for `DynamoGrants`."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._item: Any = {"TableName": table, "Key": {"pk": TEXT.encode(CERTIFICATE)}}

    @failures
    def read(self) -> CertificateWatch:
        """See `CertificateStore.read`."""
        return _decode(cast("Item", self._client.get_item(**self._item, ConsistentRead=True).get("Item", {})))

    @failures
    def write(self, before: CertificateWatch, after: CertificateWatch) -> CertificateWatch | None:
        """See `CertificateStore.write`. A refusal may be the trace of this very write, if the SDK sent it twice."""
        write_id = TEXT.encode(uuid.uuid4())
        update = Update()
        update.require_equal("revision", NUMBER.encode(before.revision) if before.revision else None)
        update.change("revision", NUMBER.encode(before.revision + 1))
        update.change("schema", NUMBER.encode(SCHEMA))
        update.change("write_id", write_id)
        for field in fields(CertificateWatch):
            if field.name != "revision":
                value = getattr(after, field.name)
                update.change(field.name, None if value is None else _CODECS[field.name].encode(value))
        try:
            answer = self._client.update_item(
                **self._item,
                **update.parameters(),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if not is_refused(error):
                raise
            stored: Item = cast("Item", error.response).get("Item", {})
            return _decode(stored) if stored.get("write_id") == write_id else None
        return _decode(cast("Item", answer).get("Attributes", {}))
