"""The template's static gates: `python -m infra.check`.

Synthesizes a stack for each variant of the context, then asks cfn-lint and cdk-nag (AwsSolutions) about it. Prints
what they find; exits with 1 if they find anything, else 0. Needs no account, network, Docker or bundle.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks
from cfnlint.api import lint_file  # type: ignore[import-untyped]

from infra.config import DeployConfig
from infra.stack import TokenRotatorStack

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parent.parent

PARTNERS: Final = [
    {
        "name": "acme-payroll",
        "principal": "arn:aws:iam::111122223333:role/payroll",
        "external_id": "fixture-external-id-1",
        "tenants": ["acme", "acme.eu"],
        "may": ["read", "manage", "link"],
        "return_urls": ["https://acme.example.com/wise/linked"],
    },
    {
        "name": "globex",
        "principal": "444455556666",
        "external_id": "fixture-external-id-2",
        "tenants": ["globex"],
    },
    {
        "name": "operations",
        "principal": "arn:aws:iam::111122223333:role/operations",
        "external_id": "fixture-external-id-3",
        "tenants": ["acme", "globex"],
        "may": ["operate"],
    },
    {
        "name": "ledger",
        "principal": "444455556666",
        "external_id": "fixture-external-id-4",
        "may": ["application"],
    },
]

WISE_KEYS: Final = (
    # Wise's own, of production and the sandbox: docs.wise.com/guides/developer/webhooks/event-handling
    """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvO8vXV+JksBzZAY6GhSO
XdoTCfhXaaiZ+qAbtaDBiu2AGkGVpmEygFmWP4Li9m5+Ni85BhVvZOodM9epgW3F
bA5Q1SexvAF1PPjX4JpMstak/QhAgl1qMSqEevL8cmUeTgcMuVWCJmlge9h7B1CS
D4rtlimGZozG39rUBDg6Qt2K+P4wBfLblL0k4C4YUdLnpGYEDIth+i8XsRpFlogx
CAFyH9+knYsDbR43UJ9shtc42Ybd40Afihj8KnYKXzchyQ42aC8aZ/h5hyZ28yVy
Oj3Vos0VdBIs/gAyJ/4yyQFCXYte64I7ssrlbGRaco4nKF3HmaNhxwyKyJafz19e
HwIDAQAB
-----END PUBLIC KEY-----
""",
    """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwpb91cEYuyJNQepZAVfP
ZIlPZfNUefH+n6w9SW3fykqKu938cR7WadQv87oF2VuT+fDt7kqeRziTmPSUhqPU
ys/V2Q1rlfJuXbE+Gga37t7zwd0egQ+KyOEHQOpcTwKmtZ81ieGHynAQzsn1We3j
wt760MsCPJ7GMT141ByQM+yW1Bx+4SG3IGjXWyqOWrcXsxAvIXkpUD/jK/L958Cg
nZEgz0BSEh0QxYLITnW1lLokSx/dTianWPFEhMC9BgijempgNXHNfcVirg1lPSyg
z7KqoKUN0oHqWLr2U1A+7kqrl6O2nx3CKs1bj1hToT1+p4kcMoHXA7kA+VBLUpEs
VwIDAQAB
-----END PUBLIC KEY-----
""",
)

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sandbox": {"partners": []},
    "sandbox with partners": {"partners": PARTNERS, "wise_client_id": "fixture-client-id"},
    "production": {
        "environment": "production",
        "partners": [],
        "wise_client_id": "fixture-client-id-of-the-sandbox",
        "production": {"partners": PARTNERS, "wise_client_id": "fixture-client-id"},
        "schedules": 4,
        "settle_s": 15,
        "sweep_calls_per_minute": 1800,
        "demand_calls_per_minute": 200,
        "remind_after_h": 12,
        "many_grants_dying": 500,
        "personal_token_days": 60,
        "audit_days": 731,
        "wise_api_version": "2026Q4",
        "wise_ca_file": "/opt/ca.pem",
        "wise_mtls": True,
        "wise_web_host": "wise.com",
        "redirect_uri": "https://acme.example.com/wise/back?from=wise",
        "public_callback": False,
        "architecture": "x86_64",
        "alert_emails": ["on-call@example.com"],
        "runbook_base_url": "https://runbooks.example.com/token-rotator",
        "api_gateway_account": False,
        "reserved_concurrency": {"sweep": 8, "refresh": 20},
    },
    "sandbox with events": {
        "partners": PARTNERS,
        "wise_client_id": "fixture-client-id",
        "wise_webhook_keys": list(WISE_KEYS),
    },
    "nothing public but events": {
        "partners": PARTNERS,
        "wise_client_id": "fixture-client-id",
        "redirect_uri": "https://acme.example.com/wise/back",
        "public_callback": False,
        "wise_webhook_keys": [WISE_KEYS[1]],
    },
}


def build(overrides: Mapping[str, Any], outdir: Path) -> tuple[cdk.App, TokenRotatorStack]:
    """Build the app as the CDK's command does, with the context of `cdk.json` and overrides, without the bundle."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = cdk.App(context={**context, "aws:cdk:bundling-stacks": [], **overrides}, outdir=str(outdir))
    config = DeployConfig.from_context(app.node.get_all_context())
    return app, TokenRotatorStack(app, config.stack_name, config=config)


def findings(app: cdk.App, stack: TokenRotatorStack) -> list[str]:
    """Everything that cfn-lint and cdk-nag say about a stack. Synthesizes it."""
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError as error:
        # So jsii passes on that a plugin found an error; the report, which has the warnings too, says what.
        if "ValidationFailed" not in str(error):
            raise
    outdir = Path(app.outdir)
    report = json.loads((outdir / "validation-report.json").read_text())
    nag = [
        f"{violation['ruleName']} {construct['constructPath']}: {violation['description']}"
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    ]
    return nag + [str(match) for match in lint_file(outdir / stack.template_file)]


def main() -> int:
    """Check every variant."""
    failed = False
    for name, overrides in VARIANTS.items():
        with tempfile.TemporaryDirectory() as outdir:
            found = findings(*build(overrides, Path(outdir)))
        sys.stdout.write("\n".join([f"{name}: {len(found) or 'no'} findings", *found, ""]))
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
