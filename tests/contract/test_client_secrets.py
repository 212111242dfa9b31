"""Which values of the secret are usable, and when it is read again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from tests.fakes.world import FakeClock
from token_rotator.adapters.client_secrets import ClientSecrets
from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.tokens import Secret

NAME = "token-rotator/sandbox/wise"
GOOD = {"environment": "sandbox", "client_id": "fixture-id", "client_secret": "fixture-secret"}


@dataclass
class Vault:
    """Secrets Manager in this process; counts and breaks the reads."""

    client: Any
    clock: FakeClock = field(default_factory=FakeClock)
    calls: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    def on_call(self, model: Any, **_: object) -> None:
        self.calls[model.name] += 1
        if self.error is not None:
            raise self.error

    def put(self, value: str) -> None:
        try:
            self.client.put_secret_value(SecretId=NAME, SecretString=value)
        except self.client.exceptions.ResourceNotFoundException:
            self.client.create_secret(Name=NAME, SecretString=value)

    def secrets(self) -> ClientSecrets:
        return ClientSecrets(self.client, NAME, "sandbox", self.clock)


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client(
            "secretsmanager", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
        )
        yield client
        client.close()


@pytest.fixture
def vault(moto: Any) -> Iterator[Vault]:
    made = Vault(moto)
    event = "before-call.secrets-manager.GetSecretValue"
    moto.meta.events.register(event, made.on_call)
    yield made
    moto.meta.events.unregister(event, made.on_call)
    for secret in moto.list_secrets()["SecretList"]:
        moto.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)


def test_a_usable_secret_is_read(vault: Vault) -> None:
    vault.put(json.dumps(GOOD))
    credentials = vault.secrets().get()
    assert credentials.client_id == "fixture-id"
    assert credentials.client_secret == Secret("fixture-secret")
    assert "fixture-secret" not in repr(credentials)


def test_fields_of_a_later_version_are_left_alone(vault: Vault) -> None:
    vault.put(json.dumps(GOOD | {"certificate": "…", "private_key": "…"}))
    assert vault.secrets().get().client_id == "fixture-id"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("not json, but fixture-secret", "is not JSON"),
        ("", "is not JSON"),
        (" ", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('"fixture-secret"', "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("{}", "has no environment"),
        (json.dumps(GOOD | {"environment": None}), "has no environment"),
        (json.dumps(GOOD | {"client_id": ""}), "has no client_id"),
        (json.dumps(GOOD | {"client_id": 7}), "has no client_id"),
        (json.dumps(GOOD | {"client_secret": "  "}), "has no client_secret"),
        (json.dumps({"environment": "sandbox", "client_id": "x"}), "has no client_secret"),
        (json.dumps(GOOD | {"environment": "production"}), "is for production, and this deployment is for sandbox"),
        (json.dumps(GOOD | {"environment": "fixture-secret"}), "is for another environment"),
        (json.dumps(GOOD | {"client_id": "a:b"}), "has a client_id with a colon"),
    ],
)
def test_an_unusable_secret_says_why_and_nothing_else(vault: Vault, value: str, why: str) -> None:
    if value:
        vault.put(value)
    else:
        vault.client.create_secret(Name=NAME, SecretBinary=b"fixture-secret")
    with pytest.raises(WiseSecretUnusable) as raised:
        vault.secrets().get()
    assert why in str(raised.value)
    assert NAME in str(raised.value)
    assert "fixture-secret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_secret_that_is_not_there_has_no_value_yet(vault: Vault) -> None:
    with pytest.raises(WiseSecretUnusable, match="has no value yet"):
        vault.secrets().get()


def test_a_secret_without_a_value_has_no_value_yet(vault: Vault) -> None:
    vault.client.create_secret(Name=NAME)
    with pytest.raises(WiseSecretUnusable, match="has no value yet"):
        vault.secrets().get()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            ClientError({"Error": {"Code": "AccessDeniedException", "Message": "who"}}, "GetSecretValue"),
            "has no value yet, or this function may not read it: AccessDeniedException",
        ),
        (
            ClientError({"Error": {"Code": "DecryptionFailure", "Message": "who"}}, "GetSecretValue"),
            "DecryptionFailure",
        ),
        (ClientError({}, "GetSecretValue"), "cannot be read: unknown"),
        (EndpointConnectionError(endpoint_url="https://secrets.invalid"), "cannot be read: EndpointConnectionError"),
    ],
    ids=repr,
)
def test_a_secret_that_cannot_be_read_is_unusable(vault: Vault, error: Exception, why: str) -> None:
    vault.error = error
    with pytest.raises(WiseSecretUnusable, match=why) as raised:
        vault.secrets().get()
    assert "who" not in str(raised.value)


def test_a_secret_is_kept_for_less_than_five_minutes(vault: Vault) -> None:
    vault.put(json.dumps(GOOD))
    secrets = vault.secrets()
    secrets.get()
    vault.put(json.dumps(GOOD | {"client_secret": "fixture-rotated"}))
    vault.clock.advance(seconds=299.999)
    assert secrets.get().client_secret == Secret("fixture-secret")
    assert vault.calls["GetSecretValue"] == 1
    vault.clock.advance(milliseconds=1)
    assert secrets.get().client_secret == Secret("fixture-rotated")
    assert vault.calls["GetSecretValue"] == 2


def test_a_forgotten_secret_is_read_at_the_next_use(vault: Vault) -> None:
    vault.put(json.dumps(GOOD))
    secrets = vault.secrets()
    secrets.get()
    vault.put(json.dumps(GOOD | {"client_secret": "fixture-rotated"}))
    secrets.forget()
    assert vault.calls["GetSecretValue"] == 1
    assert secrets.get().client_secret == Secret("fixture-rotated")


def test_an_unusable_secret_is_read_again_and_its_predecessor_not_used(vault: Vault) -> None:
    vault.put(json.dumps(GOOD))
    secrets = vault.secrets()
    secrets.get()
    vault.put("{}")
    vault.clock.advance(minutes=5)
    for reads in (2, 3):
        with pytest.raises(WiseSecretUnusable):
            secrets.get()
        assert vault.calls["GetSecretValue"] == reads
    vault.put(json.dumps(GOOD))
    assert secrets.get().client_id == "fixture-id"


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "InternalServiceError", "Message": "who"}}, "GetSecretValue"),
        EndpointConnectionError(endpoint_url="https://secrets.invalid"),
    ],
    ids=repr,
)
def test_a_secret_stays_good_while_nobody_answers(vault: Vault, error: Exception) -> None:
    vault.put(json.dumps(GOOD))
    secrets = vault.secrets()
    secrets.get()
    vault.clock.advance(minutes=5)
    vault.error = error
    assert secrets.get().client_id == "fixture-id"


def test_a_secret_that_was_deleted_is_not_used_on(vault: Vault) -> None:
    vault.put(json.dumps(GOOD))
    secrets = vault.secrets()
    secrets.get()
    vault.client.delete_secret(SecretId=NAME, ForceDeleteWithoutRecovery=True)
    vault.clock.advance(minutes=5)
    with pytest.raises(WiseSecretUnusable, match="has no value yet"):
        secrets.get()


def test_the_last_secret_is_given_without_reading(vault: Vault) -> None:
    secrets = vault.secrets()
    assert secrets.last() is None
    vault.put(json.dumps(GOOD))
    secrets.get()
    secrets.forget()
    vault.clock.advance(minutes=50)
    credentials = secrets.last()
    assert credentials is not None
    assert credentials.client_id == "fixture-id"
    assert vault.calls["GetSecretValue"] == 1
