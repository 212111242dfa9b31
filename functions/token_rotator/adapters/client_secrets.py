"""Our client credentials at Wise, from Secrets Manager.

The secret's value is JSON: `environment` (`sandbox` or `production`), `client_id`, `client_secret`. Fields that this
version does not know are left alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.tokens import Secret

from .shared_value import SharedValue

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
        self._kept: SharedValue[tuple[ClientCredentials, datetime]] = SharedValue(
            lambda before: (self._read(before), clock()), lambda kept: clock() - kept[1] < READ_AGAIN_AFTER
        )

    def get(self) -> ClientCredentials:
        """Give the credentials. Raises `WiseSecretUnusable` with a reason that on-call can act on."""
        return self._kept.get()[0]

    def last(self) -> ClientCredentials | None:
        """Give the credentials that `get` gave last, without reading anything."""
        kept = self._kept.last()
        return None if kept is None else kept[0]

    def forget(self) -> None:
        """Read the secret again at the next use: Wise refused what we have."""
        self._kept.forget()

    def _unusable(self, why: str) -> WiseSecretUnusable:
        return WiseSecretUnusable(f"the secret {self._name} {why}")

    def _read(self, before: tuple[ClientCredentials, datetime] | None) -> ClientCredentials:
        """Read the secret; what was read before stays good while Secrets Manager does not answer."""
        try:
            text = self._client.get_secret_value(SecretId=self._name).get("SecretString", "")
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            if before is not None and code not in _WHY:
                return before[0]
            raise self._unusable(_WHY.get(code, f"cannot be read: {code}")) from None
        except BotoCoreError as error:
            if before is not None:
                return before[0]
            raise self._unusable(f"cannot be read: {type(error).__name__}") from None
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
        if value["environment"] != self._environment:
            other = value["environment"] if value["environment"] in ("sandbox", "production") else "another environment"
            raise self._unusable(f"is for {other}, and this deployment is for {self._environment}")
        if ":" in value["client_id"]:
            raise self._unusable("has a client_id with a colon, which HTTP Basic (RFC 7617) cannot carry")
        return ClientCredentials(value["client_id"], Secret(value["client_secret"]))
