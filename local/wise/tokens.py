"""Making tokens, naming them without showing them, and Wise's ways to write an instant."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING

from local.wise.settings import ApplicationTokenFormat, TokenFormat

if TYPE_CHECKING:
    from random import Random

_JWE_LENGTH = 800
_LONG_LENGTH = 8_000
_NANOSECONDS = 1_000_000_000


def new_token(token_format: TokenFormat, random: Random) -> str:
    """A token that ``random`` has not made before, with the looks of ``token_format``."""
    match token_format:
        case TokenFormat.UUID:
            return new_uuid(random)
        case TokenFormat.JWE:
            return _five_parts(_JWE_LENGTH, random)
        case TokenFormat.LONG:
            return _five_parts(_LONG_LENGTH, random)


def new_application_token(token_format: ApplicationTokenFormat, random: Random) -> str:
    """An application token that ``random`` has not made before."""
    if token_format is ApplicationTokenFormat.MIX:
        token_format = random.choice((ApplicationTokenFormat.UUID, ApplicationTokenFormat.JWE))
    return new_token(TokenFormat(token_format.value), random)


def new_uuid(random: Random) -> str:
    """A version 4 UUID, 36 characters."""
    bits = random.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62)
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def fingerprint(token: str) -> str:
    """SHA-256 of a token in hex: names it, and cannot be turned back."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def iso_instant(epoch_ns: int, digits: int) -> str:
    """UTC in Wise's form, ``2025-04-11T03:43:28.148Z``, cut (not rounded) to ``digits`` of fraction."""
    seconds, nanoseconds = divmod(epoch_ns, _NANOSECONDS)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanoseconds:09d}"[: digits + 1] if digits else ""
    return f"{text}{fraction}Z"


def _five_parts(length: int, random: Random) -> str:
    """The shape of a compact JWE (RFC 7516, section 3.1): header, key, vector, ciphertext, tag."""
    header = json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": new_uuid(random)})
    parts = [_base64url(header.encode()), _base64url(random.randbytes(256)), _base64url(random.randbytes(12))]
    tag = _base64url(random.randbytes(16))
    rest = length - sum(map(len, parts)) - len(tag) - 4
    ciphertext = _base64url(random.randbytes(rest))[:rest]
    return ".".join((*parts, ciphertext, tag))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
