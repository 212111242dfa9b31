"""Which certificates and keys are taken, how they reach OpenSSL, and what of them is ever seen."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from local.wise.certificates import ClientAuthority, issue_identity
from local.wise.clients import IssuedCertificate, KeyType
from token_rotator.adapters import client_certificates
from token_rotator.adapters.client_certificates import (
    ClientCertificate,
    UnusableCertificate,
    read_certificate,
    show_to_peers,
)
from token_rotator.domain.tokens import Secret

NOW = datetime.now(UTC)
NAME = "fixture-client"


@pytest.fixture(scope="module")
def authority() -> ClientAuthority:
    return ClientAuthority(issue_identity())


@pytest.fixture(scope="module")
def issued(authority: ClientAuthority) -> IssuedCertificate:
    return authority.issue(NAME)


def read(issued: IssuedCertificate) -> ClientCertificate:
    return read_certificate(issued.certificate, issued.private_key)


def in_form(issued: IssuedCertificate, form: PrivateFormat, passphrase: bytes | None = None) -> str:
    key = load_pem_private_key(issued.private_key.encode(), None)
    hidden = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, form, hidden).decode()


def self_signed(key: Any, algorithm: Any) -> tuple[str, str]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, algorithm)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM).decode(), private.decode()


@pytest.mark.parametrize("key_type", KeyType)
def test_keys_that_wise_takes_are_taken(authority: ClientAuthority, key_type: KeyType) -> None:
    issued = authority.issue(NAME, key_type=key_type)
    found = read(issued)
    assert (found.serial, found.not_after) == (issued.serial, issued.not_after)
    show_to_peers(ssl.create_default_context(), found)


@pytest.mark.parametrize("key_type", [KeyType.RSA_2048, KeyType.EC_384])
def test_a_key_may_be_in_either_form(authority: ClientAuthority, key_type: KeyType) -> None:
    issued = authority.issue(NAME, key_type=key_type)
    key = in_form(issued, PrivateFormat.TraditionalOpenSSL)
    assert key.startswith(("-----BEGIN RSA", "-----BEGIN EC"))
    show_to_peers(ssl.create_default_context(), read_certificate(issued.certificate, key))


def test_what_stands_beside_the_blocks_is_left_alone(issued: IssuedCertificate) -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    found = read_certificate(
        f"subject=CN = {NAME}\n{issued.certificate}", parameters + issued.private_key.replace("\n", "\r\n")
    )
    show_to_peers(ssl.create_default_context(), found)


def test_a_chain_is_shown_whole(authority: ClientAuthority, issued: IssuedCertificate) -> None:
    above = self_signed(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())[0]
    found = read_certificate(issued.certificate + above, issued.private_key)
    assert found.chain.count("BEGIN CERTIFICATE") == 2
    assert found.serial == issued.serial
    show_to_peers(ssl.create_default_context(), found)


def of_version(issued: IssuedCertificate, version: int) -> str:
    """The certificate with another version in it (RFC 5280 §4.1.2.1: 2 says the third)."""
    der = ssl.PEM_cert_to_DER_cert(issued.certificate)
    third = bytes.fromhex("a003020102")
    assert third in der
    return ssl.DER_cert_to_PEM_cert(der.replace(third, third[:-1] + bytes([version]), 1))


def unusable() -> list[tuple[str, str, str]]:
    authority = ClientAuthority(issue_identity())
    issued, other = authority.issue(NAME), authority.issue(NAME)
    weak = self_signed(rsa.generate_private_key(65_537, 1024), hashes.SHA256())  # noqa: S505 - a key that is refused
    curve = self_signed(ec.generate_private_key(ec.SECP521R1()), hashes.SHA256())
    edwards = self_signed(ed25519.Ed25519PrivateKey.generate(), None)
    above = self_signed(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())[0]
    kinds = "of another kind than Wise takes: RSA of 2048 to 4096 bits, P-256 or P-384"
    body = issued.private_key.splitlines()
    broken = "\n".join([*body[:-2], body[-2][:4], body[-1]])
    old_form = in_form(authority.issue(NAME, key_type=KeyType.RSA_2048), PrivateFormat.TraditionalOpenSSL, b"fixture")
    return [
        ("fixture", issued.private_key, "a certificate that is not in PEM"),
        (issued.private_key, issued.private_key, "a certificate that is not in PEM"),
        (issued.certificate[:200], issued.private_key, "a certificate that is not in PEM"),
        (issued.certificate.replace("MII", "fix", 1), issued.private_key, "a certificate that is not in PEM"),
        (of_version(issued, 1), issued.private_key, "a certificate that is not in PEM or cannot be read"),
        (of_version(issued, 5), issued.private_key, "a certificate that is not in PEM or cannot be read"),
        (issued.certificate, "fixture", "a private_key that is not in PEM"),
        (issued.certificate, issued.certificate, "a private_key that is not in PEM"),
        (issued.certificate, broken, "a private_key that cannot be read"),
        (issued.certificate, in_form(issued, PrivateFormat.PKCS8, b"fixture"), "encrypted"),
        (issued.certificate, old_form, "encrypted"),
        (issued.certificate, other.private_key, "a private_key that does not fit its certificate"),
        (above + issued.certificate, issued.private_key, "the client's own comes first"),
        (*weak, kinds),
        (*curve, kinds),
        (*edwards, kinds),
    ]


@pytest.mark.parametrize(("certificate", "key", "why"), unusable(), ids=lambda text: text[:12].strip() or None)
def test_what_cannot_be_used_says_why_and_shows_nothing(certificate: str, key: str, why: str) -> None:
    with pytest.raises(UnusableCertificate) as raised:
        read_certificate(certificate, key)
    assert why in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert not [line for line in key.splitlines() if len(line) > 20 and line in str(raised.value)]


def test_a_certificate_is_valid_from_its_first_instant_to_before_its_last(issued: IssuedCertificate) -> None:
    found = read(issued)
    assert found.why_not(found.not_before) is None
    assert found.why_not(found.not_after - timedelta(milliseconds=1)) is None
    assert "is not valid before" in str(found.why_not(found.not_before - timedelta(milliseconds=1)))
    assert "ended at" in str(found.why_not(found.not_after))


def test_a_certificate_shows_no_part_of_its_key(issued: IssuedCertificate) -> None:
    found = read(issued)
    assert issued.serial in repr(found)
    for line in issued.private_key.splitlines()[1:-1]:
        assert line not in repr(found)
        assert line not in repr(found.private_key)


# --- how it reaches OpenSSL


class Watched:
    """A context that looks at what it is given."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.content = b""
        self.mode = 0
        self.directory_mode = 0

    def load_cert_chain(self, path: str, **_: Any) -> None:
        self.path = Path(path)
        self.content = self.path.read_bytes()
        self.mode = stat.S_IMODE(self.path.stat().st_mode)
        self.directory_mode = stat.S_IMODE(self.path.parent.stat().st_mode)


def test_the_key_lies_in_memory_for_the_call_and_no_longer(issued: IssuedCertificate) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    watched = Watched()
    show_to_peers(watched, read(issued))  # type: ignore[arg-type]
    assert str(watched.path).startswith("/proc/self/fd/")
    assert watched.content.count(b"PRIVATE KEY") == 2
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("how", ["missing", "refused"])
def test_where_there_are_no_files_in_memory_the_key_is_in_a_private_one(
    issued: IssuedCertificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    if how == "missing":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", lambda _: os.open("/nowhere", os.O_RDONLY))
    monkeypatch.setattr(client_certificates.tempfile, "tempdir", str(tmp_path))
    watched = Watched()
    show_to_peers(watched, read(issued))  # type: ignore[arg-type]
    assert (watched.mode, watched.directory_mode) == (0o600, 0o700)
    assert watched.content.count(b"PRIVATE KEY") == 2
    assert list(tmp_path.iterdir()) == []
    show_to_peers(ssl.create_default_context(), read(issued))
    assert list(tmp_path.iterdir()) == []


def test_no_file_stays_when_openssl_refuses(
    issued: IssuedCertificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = read(issued)
    wrong = ClientCertificate("fixture", Secret("fixture"), found.serial, found.not_before, found.not_after)
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(client_certificates.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError):  # noqa: PT011 - the text is OpenSSL's
        show_to_peers(ssl.create_default_context(), wrong)
    assert list(tmp_path.iterdir()) == []
