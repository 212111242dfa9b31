"""Our client credentials at Wise, from Secrets Manager.

The secret's value is JSON: `environment` (`sandbox` or `production`), `client_id`, `client_secret`, and for mutual TLS
`certificate` and `private_key`, both PEM. Fields that this version does not know, or does not need, are left alone.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.tokens import Secret

from .client_certificates import UnusableCertificate, read_certificate
from .shared_value import SharedValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from types_boto3_secretsmanager import SecretsManagerClient

    from .client_certificates import ClientCertificate

_CURRENT: Final = "AWSCURRENT"
_PREVIOUS: Final = "AWSPREVIOUS"
READ_AGAIN_AFTER: Final = timedelta(minutes=5)
TRY_AGAIN_AFTER: Final = timedelta(hours=1)
"""How long a new certificate that Wise refused is left alone while the one before it works."""
_WHY: Final = {
    "ResourceNotFoundException": "has no value yet",
    # A secret that does not exist has no ARN that a policy could allow.
    "AccessDeniedException": "has no value yet, or this function may not read it: AccessDeniedException",
}


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Client id and secret of our Wise application, and with mutual TLS its certificate. No part shows a secret."""

    client_id: str
    client_secret: Secret
    certificate: ClientCertificate | None = None


class _NoAnswer(WiseSecretUnusable):
    """Secrets Manager did not answer: nothing is known about the secret."""


class ClientSecrets:
    """Knows which client credentials are in use, and reads the secret's current and previous version. Safe in threads.

    The secret is read again after five minutes. Credentials that are in use stay in use as long as they are one of the
    two versions: a new version takes over when Wise refuses the old one, whichever of both systems is changed first.
    The previous version stands in for a current one that cannot be used, also in a process that begins.
    """

    def __init__(
        self,
        client: SecretsManagerClient,
        name: str,
        environment: str,
        clock: Callable[[], datetime],
        *,
        client_id: str | None = None,
        mtls: bool = False,
    ) -> None:
        """`client_id` is the only one to use, where it is given: to another client every grant looks dead.

        `mtls`: a value without a certificate and its key is unusable.
        """
        self._client = client
        self._client_id = client_id
        self._mtls = mtls
        self._lock = threading.Lock()
        self._refused: tuple[ClientCredentials, datetime] | None = None
        self._passed_over: str | None = None
        self._name = name
        self._environment = environment
        self._clock = clock
        self._in_use: SharedValue[tuple[ClientCredentials, datetime]] = SharedValue(
            lambda before: (self._chosen(None if before is None else before[0]), clock()),
            lambda kept: clock() - kept[1] < READ_AGAIN_AFTER and not self._is_over(kept[0]),
        )

    def get(self) -> ClientCredentials:
        """Give the credentials to use. Raises `WiseSecretUnusable` with a reason that on-call can act on."""
        return self._in_use.get()[0]

    def last(self) -> ClientCredentials | None:
        """Give the credentials that are in use, without reading anything; nothing once their certificate is over."""
        kept = self._in_use.last()
        return None if kept is None or self._is_over(kept[0]) else kept[0]

    def certificate(self) -> ClientCertificate | None:
        """Give the certificate that is, or was last, in use, without reading anything."""
        kept = self._in_use.last()
        return None if kept is None else kept[0].certificate

    def passed_over(self) -> str | None:
        """Say why the current version is not used and the one before it still is, where it cannot be. Reads nothing."""
        return self._passed_over

    def versions(self) -> Iterator[ClientCredentials]:
        """Read the secret anew: give the current version, and then the previous one if it is another.

        Each is read when it is asked for. One that is missing or cannot be used is left out; while Secrets Manager
        does not answer, what is in use passes for it.
        """
        given = []
        for stage in (_CURRENT, _PREVIOUS):
            try:
                found: ClientCredentials | None = self._read(stage)
            except _NoAnswer:
                found = self.last()
            except WiseSecretUnusable:
                continue
            if found is not None and found not in given:
                given.append(found)
                yield found

    def use(self, credentials: ClientCredentials) -> None:
        """Use these from now on: Wise accepts them."""
        self._in_use.put((credentials, self._clock()))

    def refused(self, credentials: ClientCredentials) -> None:
        """Leave the certificate of these alone for a while: Wise refuses it, and accepts others."""
        with self._lock:
            self._refused = (credentials, self._clock())

    def forget(self) -> None:
        """Take the current version at the next use, read anew: Wise accepts none that we have."""
        self._in_use.forget()

    def _chosen(self, before: ClientCredentials | None) -> ClientCredentials:
        """Read the secret and say what to use. What is in use stays good while Secrets Manager does not answer."""
        if before is not None and self._is_over(before):
            before = None
        try:
            current = self._read(_CURRENT)
        except _NoAnswer:
            if before is None:
                raise
            self._passed_over = None
            return before
        except WiseSecretUnusable as error:
            previous = self._previous(before)
            if previous is None:
                raise
            self._passed_over = str(error)
            return previous
        self._passed_over = None
        if before is None or before == current or not self._is_previous(before):
            return current
        return current if self._is_worth_trying(current, before) else before

    def _is_worth_trying(self, current: ClientCredentials, before: ClientCredentials) -> bool:
        """Tell whether a new version is to be tried before Wise refuses the old one."""
        if current.certificate == before.certificate:
            return False
        with self._lock:
            refused = self._refused
        return refused is None or refused[0] != current or self._clock() - refused[1] >= TRY_AGAIN_AFTER

    def _is_over(self, credentials: ClientCredentials) -> bool:
        certificate = credentials.certificate
        return certificate is not None and certificate.not_after <= self._clock()

    def _is_previous(self, credentials: ClientCredentials) -> bool:
        return self._previous(credentials) == credentials

    def _previous(self, otherwise: ClientCredentials | None) -> ClientCredentials | None:
        """Read the previous version. `otherwise`: what passes for it while Secrets Manager does not answer."""
        try:
            return self._read(_PREVIOUS)
        except _NoAnswer:
            return otherwise
        except WiseSecretUnusable:  # most secrets have none
            return None

    def _unusable(self, why: str) -> WiseSecretUnusable:
        return WiseSecretUnusable(f"the secret {self._name} {why}")

    def _no_answer(self, what: str) -> _NoAnswer:
        return _NoAnswer(f"the secret {self._name} cannot be read: {what}")

    def _read(self, stage: str) -> ClientCredentials:
        try:
            text = self._client.get_secret_value(SecretId=self._name, VersionStage=stage).get("SecretString", "")
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            if code in _WHY:
                raise self._unusable(_WHY[code]) from None
            raise self._no_answer(code) from None
        except BotoCoreError as error:
            raise self._no_answer(type(error).__name__) from None
        return self._parsed(text)

    def _parsed(self, text: str) -> ClientCredentials:
        try:
            value = json.loads(text)
        except ValueError:
            raise self._unusable("is not JSON") from None
        if not isinstance(value, dict):
            raise self._unusable("is not a JSON object")
        for name in ("environment", "client_id", "client_secret"):
            field = value.get(name)
            if not isinstance(field, str) or not field.strip():
                raise self._unusable(f"has no {name}")
            if not field.isprintable():
                raise self._unusable(f"has a {name} with a line break or another character that cannot be shown")
        if value["environment"] != self._environment:
            other = value["environment"] if value["environment"] in ("sandbox", "production") else "another environment"
            raise self._unusable(f"is for {other}, and this deployment is for {self._environment}")
        if self._client_id not in (None, value["client_id"]):
            raise self._unusable("is of another client than this deployment's")
        if ":" in value["client_id"]:
            raise self._unusable("has a client_id with a colon, which HTTP Basic (RFC 7617) cannot carry")
        return ClientCredentials(
            value["client_id"], Secret(value["client_secret"]), self._certificate(value) if self._mtls else None
        )

    def _certificate(self, value: dict[str, object]) -> ClientCertificate:
        """Read the certificate and its key, which must be good now. Raises `WiseSecretUnusable`."""
        fields = []
        for name in ("certificate", "private_key"):
            field = value.get(name)
            if not isinstance(field, str) or not field.strip():
                raise self._unusable(f"has no {name}, which mutual TLS needs")
            fields.append(field)
        try:
            certificate = read_certificate(*fields)
        except UnusableCertificate as error:
            raise self._unusable(str(error)) from None
        why = certificate.why_not(self._clock())
        if why is not None:
            raise self._unusable(why)
        return certificate
