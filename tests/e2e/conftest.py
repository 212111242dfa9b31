"""The real stack on the AWS emulator, signatures and policies enforced, with the Wise emulator behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.aws import deploy
from local.aws.assembly import Assembly
from local.aws.ministack import Credentials, ministack
from local.aws.signed import Answer, Api, assume
from local.aws.stack import Stack
from local.wise.running import RunningWise, running_wise


@dataclass(frozen=True)
class Deployed:
    """A deployed rotator and its provider."""

    stack: Stack
    wise: RunningWise
    api: Api

    def role(self, partner: str) -> str:
        return self.stack.outputs[f"PartnerRole{partner.capitalize()}"]

    def as_partner(self, partner: str, session: str = "e2e") -> Credentials:
        external_id = f"fixture-external-id-{partner}"
        return assume(self.stack.emulator, self.role(partner), external_id=external_id, session_name=session)

    def call(self, method: str, path: str, by: Credentials | None, **more: Any) -> Answer:
        return self.api.call(method, path, credentials=by, timeout_s=60, **more)

    def configure(self, output: str, **variables: str) -> None:
        """Change some of a function's variables, as a deployment would."""
        client = self.stack.emulator.client("lambda")
        name = self.stack.outputs[output]
        found = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        client.update_function_configuration(FunctionName=name, Environment={"Variables": {**found, **variables}})

    def variable(self, output: str, name: str) -> str:
        client = self.stack.emulator.client("lambda")
        found = client.get_function_configuration(FunctionName=self.stack.outputs[output])
        return str(found["Environment"]["Variables"][name])


@pytest.fixture(scope="session")
def deployed(assembly: Assembly) -> Iterator[Deployed]:
    """A fresh deployment. There is no Wise secret yet: the first test says what happens then."""
    with running_wise() as wise, ministack(auth=True) as emulator:
        stack = deploy.directly(emulator, assembly)
        made = Deployed(stack, wise, Api(emulator, stack.outputs["ApiId"]))
        for output in ("SweepFunction", "RefreshFunction"):
            made.configure(output, WISE_API_URL=wise.url, WISE_CA_FILE=str(wise.ca_file))
        yield made


@pytest.fixture(scope="session")
def with_secret(deployed: Deployed) -> Deployed:
    value = {
        "environment": "sandbox",
        "client_id": "emulator-client-id",
        "client_secret": "emulator-client-secret",
    }
    client = deployed.stack.emulator.client("secretsmanager")
    client.create_secret(Name=deployed.stack.outputs["WiseSecretName"], SecretString=json.dumps(value))
    return deployed
