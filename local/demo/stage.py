"""The stage: both emulators on free ports, and the real stack deployed by the real `cdk`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from local.aws import cdk, deploy, parity
from local.aws.ministack import ROOT, MiniStack, ministack, start
from local.aws.signed import Api, assume
from local.aws.stack import Stack
from local.wise.control import WiseControl

from .partner import Ledger, PartnerService, Wise
from .site import Site, site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.wise.clients import IssuedCertificate

    from .report import Report

LIFE_S: Final = 90
SECRET_NAME: Final = "token-rotator/sandbox/wise"
CLIENT_ID: Final = "demo-client-id"
CLIENT_SECRET: Final = "demo-client-secret-of-no-use-elsewhere"
PARTNERS: Final[list[dict[str, Any]]] = [
    {"name": "acme-payments", "tenants": ["acme"], "may": ["read"]},
    {"name": "acme-onboarding", "tenants": ["acme"], "may": ["read", "manage", "link"]},
    {"name": "globex-payments", "tenants": ["globex"], "may": ["read", "manage"]},
    {"name": "operations", "tenants": ["acme", "globex"], "may": ["operate"]},
    {"name": "treasury", "may": ["application"]},
]


@dataclass(slots=True)
class Stage:
    """Everything that the story plays on."""

    emulator: MiniStack
    control: WiseControl
    wise: Wise
    stack: Stack
    api: Api
    provider_pid: int
    site: Site
    certificate: IssuedCertificate
    """What the rotator shows to Wise: the deployment's own."""
    plain_url: str
    """Where Wise's API is for those without a certificate."""
    ledger: Ledger = field(default_factory=Ledger)

    def role_arn(self, partner: str) -> str:
        """The ARN of a partner's role."""
        title = "".join(word.capitalize() for word in partner.split("-"))
        return self.stack.outputs[f"PartnerRole{title}"]

    def partner(self, name: str, tenant: str, session: str = "demo") -> PartnerService:
        """A caller with a partner's role."""
        credentials = assume(
            self.emulator, self.role_arn(name), external_id=f"{name}-external-id", session_name=session
        )
        return PartnerService(self.api, credentials, tenant, self.wise, self.ledger)

    def function_pids(self, output: str) -> list[int]:
        """The processes that run a function now: children of our emulator, by the function's name."""
        mark = f"ministack-lambda-{self.stack.outputs[output]}"
        return [pid for pid, parent, command in _processes() if parent == self.emulator.pid and mark in command]


def _processes() -> Iterator[tuple[int, int, str]]:
    """Every process: its id, its parent's, its command line. From /proc, or from ps where there is none."""
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                # The name in the second field is in brackets and may hold anything.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(entry.name), parent, (entry / "cmdline").read_text().replace("\0", " ")
        return
    command = ["ps", "-axo", "pid=,ppid=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        fields = line.split(None, 2)
        yield int(fields[0]), int(fields[1]), fields[-1]


def _wise(directory: Path, life_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "local.wise", "--directory", str(directory)]
    command += ["--access-token-lifetime-s", str(life_s), "--mtls-only"]
    command += ["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


@contextlib.contextmanager
def stage(
    directory: Path, report: Report, *, keep: bool = False, life_s: float = LIFE_S, directly: bool = False
) -> Iterator[Stage]:
    """Start, deploy, and at the end leave nothing running, unless it is to be kept.

    Access tokens live `life_s`. `directly` deploys the short way, and without the functions' debug logs.
    """
    with contextlib.ExitStack() as stack:
        provider = _wise(directory / "wise", life_s)
        if not keep:
            stack.callback(provider.wait, 10)
            stack.callback(provider.terminate)
        if provider.stdout is None:
            raise RuntimeError("the Wise emulator has no output")
        ready = json.loads(provider.stdout.readline())
        report.tell(f"Wise emulator at {ready['mtls_url']}, access tokens live {life_s:g} s")
        report.tell("  it takes nobody's API calls without a client certificate")
        emulator = start(auth=True) if keep else stack.enter_context(ministack(auth=True))
        report.tell(f"AWS emulator at {emulator.url}, IAM and signatures enforced")
        told = ready | {"pid": str(provider.pid)}
        yield _deployed(emulator, told, directory, stack.enter_context(site()), report, directly=directly)


def _deployed(
    emulator: MiniStack, ready: dict[str, str], directory: Path, acme: Site, report: Report, *, directly: bool
) -> Stage:
    control = WiseControl(ready["control_url"])
    ours, partners_own = control.issue_certificate(), control.issue_certificate()
    secret = {
        "environment": "sandbox",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "certificate": ours.certificate,
        "private_key": ours.private_key,
    }
    emulator.client("secretsmanager").create_secret(Name=SECRET_NAME, SecretString=json.dumps(secret))
    report.tell(f"secret {SECRET_NAME} created, as an operator does before the first deploy")
    principal = f"arn:aws:iam::{emulator.account}:root"
    partners = [
        {
            **partner,
            "principal": principal,
            "external_id": f"{partner['name']}-external-id",
            **({"return_urls": [acme.return_url]} if "link" in partner["may"] else {}),
        }
        for partner in PARTNERS
    ]
    assembly = cdk.synthesize(
        directory / "cdk.out",
        {
            "environment": "sandbox",
            "wise_mtls": True,
            "wise_api_url": ready["mtls_url"],
            "wise_ca_file": ready["ca_file"],
            "wise_web_host": urlsplit(ready["url"]).netloc,
            "wise_client_id": CLIENT_ID,
            "wise_webhook_keys": [control.webhook_key()],
            "partners": partners,
            "log_level": "INFO" if directly else "DEBUG",
        },
    )
    report.tell(f"cdk synth: {assembly.stack_name}, {len(assembly.template['Resources'])} resources")
    deployed = (deploy.directly if directly else deploy.with_cdk)(emulator, assembly)
    outputs = deployed.outputs
    report.tell(f"{'deployed' if directly else 'cdk bootstrap, cdk deploy'}: {outputs['ApiUrl']}")
    for row in parity.DIFFERENCES:
        if row.treatment is not parity.Treatment.UNPROVEN:
            report.tell(f"  the emulator differs: {row.resource_type}, {row.what}: {row.treatment}")
    redirect_uri = deploy.let_browsers_back(deployed)
    control.change_settings(redirect_uris=[redirect_uri])
    report.tell(f"  the API's name is resolved by nobody here: browsers come back to {redirect_uri}")
    api = Api(emulator, outputs["ApiId"])
    control.subscribe(f"{api.url}/wise/events")
    pem = directory / "partner.pem"
    pem.touch(mode=0o600)
    pem.write_text(partners_own.certificate + partners_own.private_key, encoding="ascii")
    wise = Wise(ready["mtls_url"], Path(ready["ca_file"]), pem)
    made = Stage(emulator, control, wise, deployed, api, int(ready["pid"]), acme, ours, ready["url"])
    acme.service = made.partner("acme-onboarding", "acme", session="web-site")
    return made
