"""Sealing with AES-256-GCM under KMS data keys.

A sealed value is `1 | length of wrapped key (2 bytes) | wrapped key | nonce (12) | ciphertext and tag`. The cipher is
bound to environment, tenant, grant and field, the wrapped key to environment and kind, so that a value moved
elsewhere does not open. Its length does not matter.

Access tokens of many grants share a data key for minutes. A refresh token's data key belongs to its grant alone: it is
made when the grant is adopted, and a token that Wise rotates is sealed under it again, with a new nonce. So a refresh
has its key before it sends, whatever Wise answers. A reissue makes a new one before it sends.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_rotator.domain.errors import KeyRefused, KeyUnavailable, Unsealable
from token_rotator.domain.tokens import Registration, Sealed, SealedField, Secret

from .shared_value import SharedValue

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from types_boto3_kms import KMSClient

    from token_rotator.domain.grant import GrantKey

P = ParamSpec("P")
T = TypeVar("T")

_FORMAT: Final = 1
_NONCE: Final = 12
_TAG: Final = 16
_HEAD: Final = struct.Struct(">BH")
_UNOPENABLE: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_REFUSALS: Final = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "InvalidKeyUsageException",
        "KMSInvalidStateException",
        "NotFoundException",
        "UnrecognizedClientException",
    }
)

KEY_REUSE_FOR: Final = timedelta(minutes=5)
KEY_REUSE_TIMES: Final = 1000
"""An access-token data key seals this many values at most, for `KEY_REUSE_FOR` at most."""
OPENED_FOR: Final = timedelta(minutes=10)
OPENED_KEYS: Final = 2000
"""This many unwrapped access-token keys are kept at most, for `OPENED_FOR` at most."""


@dataclass(slots=True)
class _DataKey:
    """A data key: the cipher, and the key as KMS wrapped it."""

    cipher: AESGCM = field(repr=False)
    wrapped: bytes = field(repr=False)
    since: datetime
    uses: int = 0


def _failures(call: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            msg = f"KMS: {code}"
            if code in _UNOPENABLE:
                raise Unsealable(msg) from None
            raise (KeyRefused if code in _REFUSALS else KeyUnavailable)(msg) from None
        except BotoCoreError as error:
            msg = f"KMS: {type(error).__name__}"
            raise KeyUnavailable(msg) from None

    return wrapped


class KmsSealer:
    """`RefreshSealer`, `AccessTokenOpener`, `LinkSealer` and `Sealer`; which of it works the key policies say.

    `keys` maps each field to the ARN of its KMS key; a function is given those that it may use. Safe in threads.
    """

    def __init__(
        self,
        client: KMSClient,
        keys: dict[SealedField, str],
        environment: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._keys = keys
        self._environment = environment
        self._clock = clock
        self._lock = threading.Lock()
        self._sealing: SharedValue[_DataKey] = SharedValue(
            lambda _: self._generate(SealedField.ACCESS_TOKEN), self._seals_once_more
        )
        self._opened: OrderedDict[bytes, _DataKey] = OrderedDict()

    # --- ports

    def seal(self, key: GrantKey, field: SealedField, secret: Secret) -> Sealed:
        """See `Sealer.seal`."""
        data_key = self._access_token_key() if field is SealedField.ACCESS_TOKEN else self._generate(field)
        return self.seal_under(data_key, key, field, secret)

    def open_access_token(self, key: GrantKey, sealed: Sealed) -> Secret:
        """See `AccessTokenOpener.open_access_token`."""
        wrapped, box = _split(sealed)
        with self._lock:
            data_key = self._opened.get(wrapped)
            if data_key is not None and self._clock() - data_key.since < OPENED_FOR:
                self._opened.move_to_end(wrapped)
            else:
                data_key = None
        if data_key is None:
            data_key = self._unwrap(SealedField.ACCESS_TOKEN, wrapped)
        secret = self._open(data_key, key, SealedField.ACCESS_TOKEN, box)
        self._remember(data_key)
        return secret

    def prepare(self, key: GrantKey, refresh_token: Sealed) -> KmsEnvelope:
        """See `RefreshSealer.prepare`."""
        wrapped, box = _split(refresh_token)
        own_key = self._unwrap(SealedField.REFRESH_TOKEN, wrapped)
        opened = self._open(own_key, key, SealedField.REFRESH_TOKEN, box)
        return KmsEnvelope(self, key, own_key, self._access_token_key(), opened)

    def prepare_new(self, key: GrantKey) -> KmsNewEnvelope:
        """See `LinkSealer.prepare_new`."""
        return KmsNewEnvelope(self, key, self._generate(SealedField.REFRESH_TOKEN), self._access_token_key())

    def prepare_application(self, key: GrantKey) -> KmsApplicationEnvelope:
        """See `RefreshSealer.prepare_application`."""
        return KmsApplicationEnvelope(self, key, self._access_token_key())

    def prepare_reissue(self, key: GrantKey, registration: Sealed) -> KmsReissueEnvelope:
        """See `RefreshSealer.prepare_reissue`."""
        wrapped, box = _split(registration)
        text = self._open(self._unwrap(SealedField.REGISTRATION, wrapped), key, SealedField.REGISTRATION, box)
        opened = Registration.parse(text)
        if opened is None:
            msg = "the sealed registration is not one"
            raise Unsealable(msg)
        own_key = self._generate(SealedField.REFRESH_TOKEN)
        return KmsReissueEnvelope(self, key, own_key, self._access_token_key(), opened)

    # --- data keys

    def _access_token_key(self) -> _DataKey:
        return self._sealing.get()

    def _seals_once_more(self, data_key: _DataKey) -> bool:
        if data_key.uses >= KEY_REUSE_TIMES or self._clock() - data_key.since >= KEY_REUSE_FOR:
            return False
        data_key.uses += 1
        return True

    def _remember(self, data_key: _DataKey) -> None:
        with self._lock:
            self._opened[data_key.wrapped] = data_key
            self._opened.move_to_end(data_key.wrapped)
            while len(self._opened) > OPENED_KEYS:
                self._opened.popitem(last=False)

    def _context(self, field: SealedField) -> dict[str, str]:
        kind = "access-token" if field is SealedField.ACCESS_TOKEN else "refresh-token"
        return {"environment": self._environment, "kind": kind}

    @_failures
    def _generate(self, field: SealedField) -> _DataKey:
        answer = self._client.generate_data_key(
            KeyId=self._keys[field], KeySpec="AES_256", EncryptionContext=self._context(field)
        )
        return _DataKey(AESGCM(answer["Plaintext"]), answer["CiphertextBlob"], self._clock())

    @_failures
    def _unwrap(self, field: SealedField, wrapped: bytes) -> _DataKey:
        answer = self._client.decrypt(
            KeyId=self._keys[field], CiphertextBlob=wrapped, EncryptionContext=self._context(field)
        )
        try:
            return _DataKey(AESGCM(answer["Plaintext"]), wrapped, self._clock())
        except ValueError:
            msg = "the wrapped key is not a data key"
            raise Unsealable(msg) from None

    # --- values

    def _bound_to(self, key: GrantKey, field: SealedField) -> bytes:
        return f"{self._environment}|{key.tenant}|{key.grant_id}|{field}".encode()

    def seal_under(self, data_key: _DataKey, key: GrantKey, field: SealedField, secret: Secret) -> Sealed:
        """Seal with a data key at hand. Does no I/O."""
        nonce = os.urandom(_NONCE)
        box = data_key.cipher.encrypt(nonce, secret.reveal().encode(), self._bound_to(key, field))
        return Sealed(_HEAD.pack(_FORMAT, len(data_key.wrapped)) + data_key.wrapped + nonce + box)

    def _open(self, data_key: _DataKey, key: GrantKey, field: SealedField, box: bytes) -> Secret:
        try:
            plain = data_key.cipher.decrypt(box[:_NONCE], box[_NONCE:], self._bound_to(key, field))
            return Secret(plain.decode())
        except (InvalidTag, ValueError):
            msg = f"the sealed {field} does not open"
            raise Unsealable(msg) from None


@dataclass(frozen=True, slots=True)
class KmsApplicationEnvelope:
    """`ApplicationEnvelope` over a data key at hand."""

    _sealer: KmsSealer
    _key: GrantKey
    _access_token_key: _DataKey

    def seal_access_token(self, token: Secret) -> Sealed:
        """See `Envelope.seal_access_token`."""
        return self._sealer.seal_under(self._access_token_key, self._key, SealedField.ACCESS_TOKEN, token)


@dataclass(frozen=True, slots=True)
class KmsNewEnvelope:
    """`NewEnvelope` over two data keys at hand."""

    _sealer: KmsSealer
    _key: GrantKey
    _own_key: _DataKey
    _access_token_key: _DataKey

    def seal_access_token(self, token: Secret) -> Sealed:
        """See `Envelope.seal_access_token`."""
        return self._sealer.seal_under(self._access_token_key, self._key, SealedField.ACCESS_TOKEN, token)

    def seal_refresh_token(self, token: Secret) -> Sealed:
        """See `Envelope.seal_refresh_token`."""
        return self._sealer.seal_under(self._own_key, self._key, SealedField.REFRESH_TOKEN, token)


@dataclass(frozen=True, slots=True)
class KmsEnvelope(KmsNewEnvelope):
    """`Envelope` over two data keys and an opened refresh token."""

    _refresh_token: Secret

    @property
    def refresh_token(self) -> Secret:
        """See `Envelope.refresh_token`."""
        return self._refresh_token


@dataclass(frozen=True, slots=True)
class KmsReissueEnvelope(KmsNewEnvelope):
    """`ReissueEnvelope` over two data keys and an opened registration."""

    _registration: Registration

    @property
    def registration(self) -> Registration:
        """See `ReissueEnvelope.registration`."""
        return self._registration


def _split(sealed: Sealed) -> tuple[bytes, bytes]:
    """Give the wrapped key, and nonce with ciphertext. Raises `Unsealable` for anything of another form."""
    blob = sealed.blob
    if len(blob) > _HEAD.size:
        form, length = _HEAD.unpack_from(blob)
        box = blob[_HEAD.size + length :]
        if form == _FORMAT and length and len(box) >= _NONCE + _TAG:
            return blob[_HEAD.size : _HEAD.size + length], box
    msg = "not a sealed value"
    raise Unsealable(msg)
