"""What a client of the mutual listener is given. Standard library only."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum


class KeyType(StrEnum):
    """Keys that Wise takes in a certificate request (docs.wise.com/guides/developer/auth-and-security/mtls)."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    EC_256 = "ec-256"
    EC_384 = "ec-384"


class HighestTls(StrEnum):
    """The newest TLS that the mutual listener speaks."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A client's certificate and its key, both PEM. ``serial`` is upper-case hexadecimal, as ``ssl`` shows it."""

    serial: str
    common_name: str
    certificate: str
    private_key: str = field(repr=False)
    not_after: dt.datetime
