"""Wise's signatures of events: RSA with SHA-256 over the body, PKCS #1 v1.5, in base64.

docs.wise.com/guides/developer/webhooks/event-handling, with Wise's public keys of both environments; how to verify is
shown in github.com/transferwise/digital-signatures-examples.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from token_rotator.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_BITS: Final = 2048
MOST_BITS: Final = 4096


def _read(number: int, der: bytes) -> RSAPublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey) or not LEAST_BITS <= key.key_size <= MOST_BITS:
        msg = f"WISE_WEBHOOK_KEYS[{number}] is no RSA public key of {LEAST_BITS} to {MOST_BITS} bits"
        raise SettingsError(msg)
    return key


class RsaSignatures:
    """`SignatureCheck` with Wise's public keys, any of which may have signed."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Read the keys, in DER (SubjectPublicKeyInfo). Raises `SettingsError`."""
        self._keys = [_read(number, der) for number, der in enumerate(keys)]

    def is_authentic(self, content: bytes, signature: str) -> bool:
        """See `SignatureCheck.is_authentic`."""
        try:
            given = base64.b64decode(signature, validate=True)
        except (ValueError, binascii.Error):
            return False
        return any(_verifies(key, given, content) for key in self._keys)


def _verifies(key: RSAPublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
