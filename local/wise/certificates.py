"""Throw-away certificate authorities: one for the emulator's own host, one for its clients."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.wise.clients import HighestTls, IssuedCertificate, KeyType

if TYPE_CHECKING:
    from collections.abc import Iterator

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_VALID_FOR = dt.timedelta(days=30)
_BACKDATED_BY = dt.timedelta(days=1)
_LISTED_FOR = dt.timedelta(days=3_650)
_A_YEAR = 365.0


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The public certificate of the authority (PEM) and a context that serves under it."""

    ca_pem: bytes
    context: ssl.SSLContext
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def issue_identity() -> ServerIdentity:
    """Make a fresh authority and a certificate for ``127.0.0.1`` and ``localhost``.

    Both keys live in memory. ``ssl`` can load a key from a file only, so the server's key touches the
    disk for that moment, readable by its owner alone, and is deleted. Good for thirty days.
    """
    now = dt.datetime.now(dt.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _authority("Wise emulator CA", ca_key, now)
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    certificate = (
        _signed(ca, _name("Wise emulator"), key, (now - _BACKDATED_BY, now + _VALID_FOR))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    context = _serving(certificate, key)
    return ServerIdentity(ca.public_bytes(serialization.Encoding.PEM), context, certificate, key)


class ClientAuthority:
    """Issues certificates to clients, and refuses them by serial number. Safe in threads.

    The listener's TLS itself refuses what this authority did not sign, what is over, and, by a revocation list, what
    ``refuse`` names: with TLS 1.3 the client hears of it after its handshake.
    """

    def __init__(self, server: ServerIdentity) -> None:
        self._server = server
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _authority("Wise emulator client CA", self._key, dt.datetime.now(dt.UTC))
        self._lock = threading.Lock()
        self._issued: dict[str, IssuedCertificate] = {}
        self._refused: set[str] = set()
        self._requests: dict[str, int] = {}
        self._contexts: dict[tuple[frozenset[str], HighestTls], ssl.SSLContext] = {}

    def issue(
        self,
        common_name: str,
        *,
        days: float = _A_YEAR,
        starts_in_days: float = -1.0,
        key_type: KeyType = KeyType.EC_256,
    ) -> IssuedCertificate:
        """Issue a certificate that ends ``days`` from now (negative: it is over)."""
        now = dt.datetime.now(dt.UTC)
        begin, end = now + dt.timedelta(days=starts_in_days), now + dt.timedelta(days=days)
        key = _new_key(key_type)
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Partner")
        subject = x509.Name([organization, *_name(common_name)])
        certificate = (
            _signed(self._certificate, subject, key, (min(begin, end - dt.timedelta(days=1)), end))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        issued = IssuedCertificate(
            serial=f"{certificate.serial_number:X}",
            common_name=common_name,
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            private_key=_pem(key).decode(),
            not_after=certificate.not_valid_after_utc,
        )
        with self._lock:
            self._issued[issued.serial] = issued
        return issued

    def refuse(self, serial: str) -> None:
        """Refuse this certificate from now on. ``LookupError`` for one that was never issued."""
        with self._lock:
            self._refused.add(self._known(serial))

    def accept(self, serial: str) -> None:
        """Take this certificate again."""
        with self._lock:
            self._refused.discard(self._known(serial))

    def refuses(self, serial: str) -> bool:
        """Whether this certificate is refused."""
        with self._lock:
            return serial.lstrip("0") in self._refused

    def count(self, serial: str) -> None:
        """Note a request that came with this certificate."""
        with self._lock:
            known = serial.lstrip("0")
            self._requests[known] = self._requests.get(known, 0) + 1

    def listed(self) -> Iterator[tuple[IssuedCertificate, bool, int]]:
        """Every certificate, whether it is refused, and how many requests came with it."""
        with self._lock:
            listed = [(item, name in self._refused, self._requests.get(name, 0)) for name, item in self._issued.items()]
        yield from listed

    def context(self, highest: HighestTls, *, revoking: bool) -> ssl.SSLContext:
        """A context that demands a certificate of this authority; ``revoking``: none that is refused."""
        with self._lock:
            refused = frozenset(self._refused) if revoking else frozenset()
            known = self._contexts.get((refused, highest))
            if known is None:
                known = self._contexts[refused, highest] = self._demanding(refused, highest)
            return known

    def _known(self, serial: str) -> str:
        serial = serial.upper().lstrip("0")
        if serial not in self._issued:
            raise LookupError("no such certificate")
        return serial

    def _demanding(self, refused: frozenset[str], highest: HighestTls) -> ssl.SSLContext:
        context = _serving(self._server.certificate, self._server.key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2 if highest is HighestTls.TLS_1_2 else ssl.TLSVersion.TLSv1_3
        now = dt.datetime.now(dt.UTC)
        revoked = x509.CertificateRevocationListBuilder(
            issuer_name=self._certificate.subject, last_update=now - _BACKDATED_BY, next_update=now + _LISTED_FOR
        )
        for serial in sorted(refused):
            entry = x509.RevokedCertificateBuilder(int(serial, 16), now - _BACKDATED_BY).build()
            revoked = revoked.add_revoked_certificate(entry)
        lists = revoked.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        with tempfile.NamedTemporaryFile(prefix="wise-emulator-", suffix=".pem") as file:
            file.write(self._certificate.public_bytes(serialization.Encoding.PEM) + lists)
            file.flush()
            context.load_verify_locations(file.name)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def _serving(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile(prefix="wise-emulator-", suffix=".pem") as file:
        file.write(_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(Path(file.name))
    return context


def _authority(name: str, key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    return (
        _builder(_name(name), _name(name), key, (now - _BACKDATED_BY, now + _VALID_FOR))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _signed(
    ca: x509.Certificate, subject: x509.Name, key: Key, valid: tuple[dt.datetime, dt.datetime]
) -> x509.CertificateBuilder:
    ca_key_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(subject, ca.subject, key, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_key_id), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, valid: tuple[dt.datetime, dt.datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _new_key(key_type: KeyType) -> Key:
    match key_type:
        case KeyType.EC_256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.EC_384:
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return rsa.generate_private_key(65_537, int(key_type.removeprefix("rsa-")))


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
