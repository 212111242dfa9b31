"""Our client credentials at Wise, from Secrets Manager.

The secret's value is JSON: `environment` (`sandbox` or `production`), `client_id`, `client_secret`. Fields that this
version does not know are left alone.
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

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from types_boto3_secretsmanager import SecretsManagerClient

READ_AGAIN_AFTER: Final = timedelta(minutes=5)
_WHY: Final = {
    "ResourceNotFoundException": "has no value yet",
    # A secret that does not exist has no ARN that a policy could allow.
    "AccessDeniedException": "has no value yet, or this function may not read it: AccessDeniedException",
}


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Client id and secret of our Wise application."""

    client_id: str
    client_secret: Secret


class ClientSecrets:
    """Reads the secret, keeps it for five minutes, and reads it again when told to forget it. Safe in threads."""

    def __init__(
        self, client: SecretsManagerClient, name: str, environment: str, clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._name = name
        self._environment = environment
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[ClientCredentials, datetime] | None = None

    def get(self) -> ClientCredentials:
        """Give the credentials. Raises `WiseSecretUnusable` with a reason that on-call can act on."""
        with self._lock:
            if self._kept is None or self._clock() - self._kept[1] >= READ_AGAIN_AFTER:
                self._kept = (self._read(), self._clock())
            return self._kept[0]

    def forget(self) -> None:
        """Read the secret again at the next use: Wise refused what we have."""
        with self._lock:
            self._kept = None

    def _unusable(self, why: str) -> WiseSecretUnusable:
        return WiseSecretUnusable(f"the secret {self._name} {why}")

    def _read(self) -> ClientCredentials:
        try:
            text = self._client.get_secret_value(SecretId=self._name).get("SecretString", "")
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            raise self._unusable(_WHY.get(code, f"cannot be read: {code}")) from None
        except BotoCoreError as error:
            raise self._unusable(f"cannot be read: {type(error).__name__}") from None
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
        if value["environment"] != self._environment:
            other = value["environment"] if value["environment"] in ("sandbox", "production") else "another environment"
            raise self._unusable(f"is for {other}, and this deployment is for {self._environment}")
        if ":" in value["client_id"]:
            raise self._unusable("has a client_id with a colon, which HTTP Basic (RFC 7617) cannot carry")
        return ClientCredentials(value["client_id"], Secret(value["client_secret"]))
