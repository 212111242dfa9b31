"""The certificate that we show to Wise: read from PEM, checked against its key, and given to OpenSSL.

Wise signs certificates for RSA keys of 2048, 3072 or 4096 bits and for P-256 and P-384
(docs.wise.com/guides/developer/auth-and-security/mtls). `ssl` takes a key from a file only: here that file lies in
memory where the system has such files, and is gone before the call returns where it has not.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from token_rotator.domain.instants import show_instant
from token_rotator.domain.tokens import Secret

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from datetime import datetime

_KEY_BLOCK: Final = re.compile(
    r"-----BEGIN (?P<kind>(?:RSA |EC |ENCRYPTED )?PRIVATE KEY)-----.*?-----END (?P=kind)-----", re.DOTALL
)
_RSA_BITS: Final = range(2048, 4097)
_CURVES: Final = ("secp256r1", "secp384r1")
_FORMS: Final = "RSA of 2048 to 4096 bits, P-256 or P-384"


class UnusableCertificate(ValueError):
    """A certificate or its key cannot be used. The text says why, and holds no part of either."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with its chain (PEM, the client's own first) and its key. Instants are aware UTC."""

    chain: str
    private_key: Secret
    serial: str
    not_before: datetime
    not_after: datetime

    def __repr__(self) -> str:
        return f"ClientCertificate({self.serial}, until {show_instant(self.not_after)})"

    def why_not(self, now: datetime) -> str | None:
        """Say why it is worth nothing at this instant; `None`: it is valid."""
        if now < self.not_before:
            return f"has a certificate that is not valid before {show_instant(self.not_before)}"
        if now >= self.not_after:
            return f"has a certificate that ended at {show_instant(self.not_after)}"
        return None


def read_certificate(chain: str, private_key: str) -> ClientCertificate:
    """Read a certificate, with the chain that may follow it, and its key. Raises `UnusableCertificate`."""
    block = _key_block(private_key)
    try:
        certificates = x509.load_pem_x509_certificates(chain.encode())
        own = certificates[0]
        public = own.public_key()
        found = ClientCertificate(
            "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates),
            Secret(block),
            f"{own.serial_number:X}",
            own.not_valid_before_utc,
            own.not_valid_after_utc,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):  # the last is no `ValueError`
        msg = "has a certificate that is not in PEM or cannot be read"
        raise UnusableCertificate(msg) from None
    try:
        key = load_pem_private_key(block.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = "has a private_key that cannot be read"
        raise UnusableCertificate(msg) from None
    if not (
        (isinstance(key, rsa.RSAPrivateKey) and key.key_size in _RSA_BITS)
        or (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES)
    ):
        msg = f"has a private_key of another kind than Wise takes: {_FORMS}"
        raise UnusableCertificate(msg)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != public.public_bytes(*form):
        msg = "has a private_key that does not fit its certificate (the client's own comes first in a chain)"
        raise UnusableCertificate(msg)
    return found


def _key_block(text: str) -> str:
    """Give the block of the key: `openssl ecparam` writes another before it."""
    found = _KEY_BLOCK.search(text)
    if found is None:
        msg = "has a private_key that is not in PEM (PKCS#8, PKCS#1 or SEC1)"
        raise UnusableCertificate(msg)
    if found["kind"].startswith("ENCRYPTED") or "Proc-Type: 4,ENCRYPTED" in found[0]:
        msg = "has a private_key that is encrypted: it has to be without a passphrase"
        raise UnusableCertificate(msg)
    return found[0] + "\n"


def show_to_peers(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """Have a context show this certificate. Raises `OSError` (an `ssl.SSLError` is one) where OpenSSL refuses it."""
    text = certificate.private_key.reveal() + certificate.chain
    with _readable_file(text.encode()) as path:
        context.load_cert_chain(path, password="")  # never asks at a terminal


@contextmanager
def _readable_file(content: bytes) -> Iterator[str]:
    """Give a path under which the content can be read for the moment: of a file in memory, where there are such."""
    try:
        descriptor = os.memfd_create("certificate")
    except (AttributeError, OSError):
        with _file_on_disk(content) as path:
            yield path
        return
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(content)
        yield f"/proc/self/fd/{descriptor}"


@contextmanager
def _file_on_disk(content: bytes) -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="token-rotator-")  # for its owner alone
    try:
        path = Path(directory, "certificate.pem")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(content)
        yield str(path)
    finally:
        shutil.rmtree(directory)
