"""Signed calls: what the emulator enforces, so that a refusal elsewhere means what it seems to mean."""

from __future__ import annotations

import dataclasses

import pytest
from botocore.exceptions import ClientError

from local.aws.ministack import Credentials
from local.aws.signed import Api, assume
from local.aws.stack import Stack

pytestmark = pytest.mark.emulator

PATH = "/v1/tenants/acme/grants/nobody"


@pytest.fixture(scope="module")
def api(stack: Stack) -> Api:
    return Api(stack.emulator, stack.outputs["ApiId"])


@pytest.fixture(scope="module")
def acme(stack: Stack) -> Credentials:
    return assume(stack.emulator, stack.outputs["PartnerRoleAcme"], external_id="fixture-external-id-acme")


def test_a_partner_reaches_the_function(api: Api, acme: Credentials) -> None:
    answer = api.call("GET", PATH, credentials=acme)
    assert answer.status == 404
    assert answer.json()["type"] == "urn:token-rotator:problem:not-found"


@pytest.mark.parametrize(
    "forge",
    [
        lambda acme: None,
        lambda acme: dataclasses.replace(acme, secret_access_key="fixture-wrong-secret"),
        lambda acme: dataclasses.replace(acme, session_token=None),
        lambda acme: dataclasses.replace(acme, access_key_id="ASIAFIXTUREUNKNOWN00"),
    ],
    ids=["unsigned", "wrong secret", "no session token", "unknown key"],
)
def test_a_forged_signature_is_refused(api: Api, acme: Credentials, forge: object) -> None:
    assert callable(forge)
    # The function would have said 404.
    assert api.call("GET", PATH, credentials=forge(acme)).status in {400, 401, 403}


@pytest.mark.parametrize("external_id", [None, "fixture-external-id-globex"])
def test_a_role_is_taken_with_its_external_id_only(stack: Stack, external_id: str | None) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        assume(stack.emulator, stack.outputs["PartnerRoleAcme"], external_id=external_id)


def test_the_path_goes_out_byte_for_byte(api: Api, acme: Credentials) -> None:
    answer = api.call("GET", "/v1/tenants/%61cme/grants/nobody", credentials=acme)
    assert answer.status in {403, 404}
    assert "access_token" not in answer.body.decode()


def test_no_secret_is_in_the_credentials_repr(acme: Credentials) -> None:
    assert acme.session_token
    assert acme.secret_access_key not in repr(acme)
    assert acme.session_token not in repr(acme)
