"""What is known of our certificate's end, in DynamoDB: the item `#certificate` of the grants' table.

| attribute | type | holds |
|---|---|---|
| `pk` | S | `#certificate` |
| `schema`, `revision`, `write_id` | N, N, S | as `dynamo_revised` has them |
| the fields of `CertificateWatch` | | instants as epoch milliseconds |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from token_rotator.domain.certificate import CertificateWatch

from .dynamo_items import ALERT, INSTANT, NUMBER, Codec, failures
from .dynamo_revised import Revised

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

CERTIFICATE: Final = "#certificate"
_CODECS: Final[dict[str, Codec]] = {"revision": NUMBER, "not_after": INSTANT, "told": INSTANT, "alert": ALERT}


class DynamoCertificate:
    """`CertificateStore` over the table of grants. Safe in threads; the client is as for `DynamoGrants`."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._watch = Revised(
            client, table, CERTIFICATE, make=CertificateWatch, codecs=_CODECS, what="the certificate's item"
        )

    @failures
    def read(self) -> CertificateWatch:
        """See `CertificateStore.read`."""
        return self._watch.read()

    @failures
    def write(self, before: CertificateWatch, after: CertificateWatch) -> CertificateWatch | None:
        """See `CertificateStore.write`."""
        return self._watch.write(before, after)
