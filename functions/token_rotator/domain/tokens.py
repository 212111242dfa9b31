"""Strings that must not be shown, their sealed form, and what Wise answers when it issues tokens."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from datetime import datetime


class Secret:
    """A string that shows itself only to who asks by name.

    It has no useful `repr`, `str` or format, cannot be pickled, copied into JSON or used as a key, and compares in
    constant time.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the string itself. Whatever it is put into must not outlive the call."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is nobody's dictionary key

    def __reduce__(self) -> NoReturn:
        msg = "a Secret is not serialized"
        raise TypeError(msg)


class SealedField(StrEnum):
    """Which field of a grant a sealed value belongs to. Part of what the seal is bound to."""

    ACCESS_TOKEN = "access_token"
    REFRESH_TOKEN = "refresh_token"
    REGISTRATION = "registration"


@dataclass(frozen=True, slots=True)
class Registration:
    """What Wise issues tokens for to the user whom we created: the code, and the e-mail address of the sign-up.

    It has to be the original address, whatever the user's is now (docs.wise.com/guides/product/kyc/partner-kyc).
    """

    code: Secret
    email: Secret

    @classmethod
    def parse(cls, text: Secret) -> Registration | None:
        """Read the JSON text that is kept sealed; `None` for anything else."""
        try:
            told = json.loads(text.reveal())
            code, email = told["code"], told["email"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return cls(Secret(code), Secret(email)) if isinstance(code, str) and isinstance(email, str) else None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed value as stored: opaque bytes that hold the wrapped data key beside the ciphertext.

    Two seals of one secret differ, so equal bytes mean the very same act of sealing.
    """

    blob: bytes

    def __repr__(self) -> str:
        return f"Sealed({len(self.blob)} bytes)"


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What Wise issued in one answer of its token endpoint.

    `refresh_token` is absent where the answer had none: the old one stays then. `issued_at` is our clock when the
    request left; `expires_at` the earlier of what `expires_in` and `expires_at` say. All instants aware, UTC.
    """

    access_token: Secret
    issued_at: datetime
    expires_at: datetime
    refresh_token: Secret | None = None
    refresh_expires_at: datetime | None = None
    scope: str | None = None
