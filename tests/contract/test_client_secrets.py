"""Which values of the secret are usable, and when it is read again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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


def good(client_secret: str) -> str:
    return json.dumps(GOOD | {"client_secret": client_secret})


@dataclass
class Vault:
    """Secrets Manager in this process; counts and breaks the reads."""

    client: Any
    clock: FakeClock = field(default_factory=FakeClock)
    calls: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    stages: list[str] = field(default_factory=list)
    broken: frozenset[str] = frozenset({"AWSCURRENT", "AWSPREVIOUS"})
    """The versions that `error` is about."""

    def on_call(self, model: Any, params: dict[str, Any], **_: object) -> None:
        self.calls[model.name] += 1
        self.stages.append(json.loads(params["body"])["VersionStage"])
        if self.error is not None and self.stages[-1] in self.broken:
            raise self.error

    def put(self, value: str) -> None:
        try:
            self.client.put_secret_value(SecretId=NAME, SecretString=value)
        except self.client.exceptions.ResourceNotFoundException:
            self.client.create_secret(Name=NAME, SecretString=value)

    def secrets(self, client_id: str | None = None) -> ClientSecrets:
        return ClientSecrets(self.client, NAME, "sandbox", self.clock, client_id=client_id)


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


def test_what_is_described_for_who_has_no_application_is_usable(vault: Vault) -> None:
    page = Path(__file__).parents[2] / "docs" / "credentials.md"
    (described,) = re.findall(r"^ +(\{\"environment\".*\})$", page.read_text(), re.MULTILINE)
    vault.put(described)
    assert vault.secrets().get().client_id == "none"


def test_fields_of_a_later_version_are_left_alone(vault: Vault) -> None:
    vault.put(json.dumps(GOOD | {"certificate": "…", "private_key": "…"}))
    assert vault.secrets().get().client_id == "fixture-id"


def test_a_secret_of_another_client_is_not_used(vault: Vault) -> None:
    """Wise would accept it, and call every refresh token dead: they belong to the client that got them."""
    vault.put(json.dumps(GOOD))
    assert vault.secrets("fixture-id").get().client_id == "fixture-id"
    with pytest.raises(WiseSecretUnusable, match="is of another client than this deployment's"):
        vault.secrets("fixture-id-of-another").get()


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
        (good("fixture-secret\n"), "has a client_secret with a line break"),
        (good("fixture-secret\ud800"), "has a client_secret with a line break or another character"),
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
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put(good("fixture-second"))
    vault.put(good("fixture-third"))
    vault.clock.advance(seconds=299.999)
    assert secrets.get().client_secret == Secret("fixture-secret")
    assert vault.calls["GetSecretValue"] == 1
    vault.clock.advance(milliseconds=1)
    assert secrets.get().client_secret == Secret("fixture-third")
    vault.clock.advance(seconds=299.999)
    assert secrets.get().client_secret == Secret("fixture-third")


def test_one_read_is_enough_while_nothing_changes(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    for _ in range(3):
        secrets.get()
        vault.clock.advance(minutes=5)
    assert vault.stages == ["AWSCURRENT"] * 3


# --- two versions


def test_what_is_in_use_stays_in_use_as_the_previous_version(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put(good("fixture-second"))
    for _ in range(3):
        vault.clock.advance(minutes=5)
        assert secrets.get().client_secret == Secret("fixture-secret")
    assert vault.secrets().get().client_secret == Secret("fixture-second")


def test_what_is_neither_version_any_more_gives_way(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put(good("fixture-second"))
    vault.clock.advance(minutes=5)
    secrets.get()
    vault.put(good("fixture-third"))
    vault.clock.advance(minutes=5)
    assert secrets.get().client_secret == Secret("fixture-third")


def test_what_wise_accepts_is_used_from_then_on(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    vault.put(good("fixture-second"))
    secrets = vault.secrets()
    assert secrets.get().client_secret == Secret("fixture-second")
    current, previous = secrets.versions()
    assert (current.client_secret, previous.client_secret) == (Secret("fixture-second"), Secret("fixture-secret"))
    assert secrets.get() == current
    secrets.use(previous)
    assert secrets.get() == secrets.last() == previous
    vault.clock.advance(minutes=5)
    assert secrets.get() == previous


def test_when_wise_accepts_none_the_current_version_is_taken_anew(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put(good("fixture-second"))
    secrets.forget()
    assert vault.calls["GetSecretValue"] == 1
    assert secrets.get().client_secret == Secret("fixture-second")


def test_versions_are_read_anew_and_only_when_asked_for(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put(good("fixture-second"))
    vault.stages.clear()
    versions = secrets.versions()
    assert next(versions).client_secret == Secret("fixture-second")
    assert vault.stages == ["AWSCURRENT"]
    assert next(versions).client_secret == Secret("fixture-secret")
    assert vault.stages == ["AWSCURRENT", "AWSPREVIOUS"]


def test_a_secret_with_one_version_has_no_other(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    assert [one.client_secret for one in vault.secrets().versions()] == [Secret("fixture-secret")]


def test_two_versions_that_are_the_same_are_one(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    vault.put(good("fixture-secret"))
    assert len(list(vault.secrets().versions())) == 1


@pytest.mark.parametrize(
    "values", [["{}", good("fixture-secret")], [good("fixture-secret"), "{}"]], ids=["previous", "current"]
)
def test_a_version_that_cannot_be_used_is_left_out(vault: Vault, values: list[str]) -> None:
    for value in values:
        vault.put(value)
    assert [one.client_secret for one in vault.secrets().versions()] == [Secret("fixture-secret")]


def test_a_secret_without_a_usable_version_has_none(vault: Vault) -> None:
    assert list(vault.secrets().versions()) == []
    vault.put("{}")
    assert list(vault.secrets().versions()) == []


NO_ANSWERS = [
    ClientError({"Error": {"Code": "InternalServiceError", "Message": "who"}}, "GetSecretValue"),
    EndpointConnectionError(endpoint_url="https://secrets.invalid"),
]


@pytest.mark.parametrize("error", NO_ANSWERS, ids=repr)
def test_what_is_in_use_passes_for_versions_that_nobody_tells(vault: Vault, error: Exception) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    vault.error = error
    assert list(secrets.versions()) == []
    vault.error = None
    secrets.get()
    vault.put(good("fixture-second"))
    vault.error = error
    assert [one.client_secret for one in secrets.versions()] == [Secret("fixture-secret")]
    vault.broken = frozenset({"AWSPREVIOUS"})
    given = [one.client_secret for one in secrets.versions()]
    assert given == [Secret("fixture-second"), Secret("fixture-secret")]


# --- reading that goes wrong


def test_an_unusable_secret_is_read_again_at_each_use(vault: Vault) -> None:
    vault.put("{}")
    secrets = vault.secrets()
    for reads in (1, 2):
        with pytest.raises(WiseSecretUnusable, match="has no environment"):
            secrets.get()
        assert vault.stages == ["AWSCURRENT", "AWSPREVIOUS"] * reads
    vault.put(good("fixture-secret"))
    assert secrets.get().client_id == "fixture-id"


def test_credentials_that_work_outlast_a_new_version_that_cannot_be_used(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put("{}")
    vault.clock.advance(minutes=5)
    assert secrets.get().client_secret == Secret("fixture-secret")
    vault.put("[]")
    vault.clock.advance(minutes=5)
    with pytest.raises(WiseSecretUnusable, match="is not a JSON object"):
        secrets.get()


def test_a_process_that_begins_uses_the_version_before_one_that_cannot_be_used(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    vault.put("{}")
    secrets = vault.secrets()
    assert secrets.get().client_secret == Secret("fixture-secret")
    assert "has no environment" in str(secrets.passed_over())
    vault.clock.advance(minutes=5)
    assert secrets.get().client_secret == Secret("fixture-secret")
    vault.put(good("fixture-third"))
    vault.clock.advance(minutes=5)
    assert secrets.get().client_secret == Secret("fixture-third")
    assert secrets.passed_over() is None


def test_while_nobody_tells_the_version_before_one_that_cannot_be_used_is_unknown(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    vault.put("{}")
    vault.error, vault.broken = NO_ANSWERS[0], frozenset({"AWSPREVIOUS"})
    secrets = vault.secrets()
    with pytest.raises(WiseSecretUnusable, match="has no environment"):
        secrets.get()
    vault.error = None
    assert secrets.get().client_secret == Secret("fixture-secret")


def test_a_new_version_that_cannot_be_used_is_told_while_the_old_one_is(vault: Vault) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    assert secrets.passed_over() is None
    vault.put("{}")
    vault.clock.advance(minutes=5)
    secrets.get()
    assert "has no environment" in str(secrets.passed_over())
    vault.error = NO_ANSWERS[0]
    vault.clock.advance(minutes=5)
    secrets.get()
    assert secrets.passed_over() is None, "nobody knows"
    vault.error = None
    vault.put(good("fixture-secret"))
    vault.clock.advance(minutes=5)
    secrets.get()
    assert secrets.passed_over() is None


@pytest.mark.parametrize(
    "broken", [{"AWSCURRENT"}, {"AWSPREVIOUS"}, {"AWSCURRENT", "AWSPREVIOUS"}], ids=["current", "previous", "both"]
)
@pytest.mark.parametrize("error", NO_ANSWERS, ids=repr)
def test_a_secret_stays_good_while_nobody_answers(vault: Vault, error: Exception, broken: set[str]) -> None:
    vault.put(good("fixture-secret"))
    secrets = vault.secrets()
    secrets.get()
    vault.put(good("fixture-second"))
    vault.put(good("fixture-third"))
    vault.clock.advance(minutes=5)
    vault.error, vault.broken = error, frozenset(broken)
    assert secrets.get().client_secret == Secret("fixture-secret")


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
