"""A sealer without keys: bound to grant and field like the real one, and countable."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from token_rotator.domain.errors import KeyUnavailable, Unsealable
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.tokens import Registration, Sealed, SealedField, Secret

_MASK = bytes(byte ^ 0x5A for byte in range(256))


class InMemorySealer:
    """`RefreshSealer`, `AccessTokenOpener`, `LinkSealer` and `Sealer`. `down` makes whatever needs KMS fail."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[str] = []
        self._boxed = 0
        self._lock = threading.Lock()

    def box(self, key: GrantKey, field: SealedField, secret: Secret) -> Sealed:
        with self._lock:
            self._boxed += 1
            text = f"{self._boxed}|{key}|{field}|{secret.reveal()}"
        return Sealed(text.encode().translate(_MASK))

    def unbox(self, key: GrantKey, field: SealedField, sealed: Sealed) -> Secret:
        text = sealed.blob.translate(_MASK).decode(errors="replace")
        parts = text.split("|", 3)
        if parts[1:3] != [str(key), str(field)]:
            raise Unsealable("not sealed for this field")
        return Secret(parts[3])

    def _kms(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise KeyUnavailable("injected")

    def seal(self, key: GrantKey, field: SealedField, secret: Secret) -> Sealed:
        self._kms("generate")
        return self.box(key, field, secret)

    def open_access_token(self, key: GrantKey, sealed: Sealed) -> Secret:
        self._kms("decrypt")
        return self.unbox(key, SealedField.ACCESS_TOKEN, sealed)

    def prepare_new(self, key: GrantKey) -> InMemoryNewEnvelope:
        self._kms("generate")
        self._kms("generate")
        return InMemoryNewEnvelope(self, key)

    def prepare(self, key: GrantKey, refresh_token: Sealed) -> InMemoryEnvelope:
        self._kms("decrypt")
        self._kms("generate")
        return InMemoryEnvelope(self, key, self.unbox(key, SealedField.REFRESH_TOKEN, refresh_token))

    def prepare_application(self, key: GrantKey) -> InMemoryApplicationEnvelope:
        self._kms("generate")
        return InMemoryApplicationEnvelope(self, key)

    def prepare_reissue(self, key: GrantKey, registration: Sealed) -> InMemoryReissueEnvelope:
        self._kms("decrypt")
        self._kms("generate")
        self._kms("generate")
        opened = Registration.parse(self.unbox(key, SealedField.REGISTRATION, registration))
        if opened is None:
            raise Unsealable("not a registration")
        return InMemoryReissueEnvelope(self, key, opened)


@dataclass(frozen=True)
class InMemoryApplicationEnvelope:
    sealer: InMemorySealer
    key: GrantKey

    def seal_access_token(self, token: Secret) -> Sealed:
        return self.sealer.box(self.key, SealedField.ACCESS_TOKEN, token)


@dataclass(frozen=True)
class InMemoryReissueEnvelope:
    sealer: InMemorySealer
    key: GrantKey
    registration: Registration

    def seal_access_token(self, token: Secret) -> Sealed:
        return self.sealer.box(self.key, SealedField.ACCESS_TOKEN, token)

    def seal_refresh_token(self, token: Secret) -> Sealed:
        return self.sealer.box(self.key, SealedField.REFRESH_TOKEN, token)


@dataclass(frozen=True)
class InMemoryNewEnvelope:
    sealer: InMemorySealer
    key: GrantKey

    def seal_access_token(self, token: Secret) -> Sealed:
        return self.sealer.box(self.key, SealedField.ACCESS_TOKEN, token)

    def seal_refresh_token(self, token: Secret) -> Sealed:
        return self.sealer.box(self.key, SealedField.REFRESH_TOKEN, token)


@dataclass(frozen=True)
class InMemoryEnvelope(InMemoryNewEnvelope):
    refresh_token: Secret
