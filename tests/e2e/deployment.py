"""The real stack on the AWS emulator, signatures and policies enforced, with the Wise emulator behind it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from local.aws import deploy
from local.aws.assembly import Assembly
from local.aws.ministack import Credentials, ministack
from local.aws.signed import Answer, Api, assume
from local.aws.stack import Stack
from local.wise.running import RunningWise, running_wise

ACME: Final = "/v1/tenants/acme/grants"


@dataclass(frozen=True)
class Deployed:
    """A deployed rotator and its provider."""

    stack: Stack
    wise: RunningWise
    api: Api

    @property
    def redirect_uri(self) -> str:
        """The browsers' way back, as this machine reaches it."""
        return f"{self.api.url}/oauth/callback"

    def role(self, partner: str) -> str:
        return self.stack.outputs[f"PartnerRole{partner.capitalize()}"]

    def as_partner(self, partner: str, session: str = "e2e") -> Credentials:
        external_id = f"fixture-external-id-{partner}"
        return assume(self.stack.emulator, self.role(partner), external_id=external_id, session_name=session)

    def call(self, method: str, path: str, by: Credentials | None, **more: Any) -> Answer:
        return self.api.call(method, path, credentials=by, timeout_s=60, **more)

    def create_secret(self) -> None:
        """Create the Wise secret, as the operator does."""
        value = {
            "environment": "sandbox",
            "client_id": "emulator-client-id",
            "client_secret": "emulator-client-secret",
        }
        client = self.stack.emulator.client("secretsmanager")
        client.create_secret(Name=self.stack.outputs["WiseSecretName"], SecretString=json.dumps(value))

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


@contextlib.contextmanager
def deployment(assembly: Assembly, *, account_concurrency: int | None = None) -> Iterator[Deployed]:
    """A fresh deployment, in an account of its own. There is no Wise secret yet."""
    with running_wise() as wise, ministack(auth=True, account_concurrency=account_concurrency) as emulator:
        stack = deploy.directly(emulator, assembly)
        made = Deployed(stack, wise, Api(emulator, stack.outputs["ApiId"]))
        for output in ("SweepFunction", "RefreshFunction", "CallbackFunction"):
            made.configure(output, WISE_API_URL=wise.url, WISE_CA_FILE=str(wise.ca_file))
        made.configure("AdminFunction", WISE_WEB_HOST=wise.url.removeprefix("https://"))
        wise.control.change_settings(redirect_uris=[deploy.let_browsers_back(stack)])
        yield made


def is_problem(answer: Answer, code: str) -> bool:
    """Tell whether it is this problem document."""
    return (
        answer.headers["content-type"] == "application/problem+json"
        and answer.headers["cache-control"] == "no-store"
        and answer.json()["type"] == f"urn:token-rotator:problem:{code}"
    )


def adopt(
    deployed: Deployed, by: Credentials, user: str, *, with_access_token: bool = True, age_s: float = 0
) -> Answer:
    """Adopt a new user of acme's, whose tokens were issued some time ago."""
    seeded = deployed.wise.control.seed_user(user, age_s=age_s)
    body = {"refresh_token": seeded.refresh_token}
    if with_access_token:
        body |= {
            "access_token": seeded.access_token,
            "issued_at": seeded.issued_at.isoformat(),
            "expires_at": seeded.expires_at.isoformat(),
        }
    return deployed.call("PUT", f"{ACME}/{user}", by, json_body=body)
