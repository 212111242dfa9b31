"""What a handler loads: each is imported in a process of its own, as Lambda does, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

FUNCTIONS = Path(__file__).parents[2] / "functions"
PARTNERS = [{"name": "fixture", "role_id": "AROAEXAMPLEFIXTURE001", "tenants": ["acme"], "may": ["read"]}]
COMMON = {
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "fixture",
    "AWS_SECRET_ACCESS_KEY": "fixture",
    "POWERTOOLS_METRICS_NAMESPACE": "TokenRotator",
    "ROTATOR_ENVIRONMENT": "sandbox",
    "GRANTS_TABLE": "fixture-grants",
    "ACCESS_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:123456789012:key/fixture-access",
}
REFRESH_KEY = {"REFRESH_TOKENS_KEY_ARN": "arn:aws:kms:eu-west-1:123456789012:key/fixture-refresh"}
WISE = {
    "WISE_API_URL": "https://api.wise-sandbox.com",
    "WISE_SECRET_NAME": "token-rotator/sandbox/wise",
    "PARKED_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/000000000000/parked",
    "ALERTS_TOPIC_ARN": "arn:aws:sns:eu-west-1:123456789012:fixture",
}
API = {"PARTNERS": json.dumps(PARTNERS)}
WEB = {
    "WISE_WEB_HOST": "wise-sandbox.com",
    "WISE_CLIENT_ID": "fixture-client-id",
    "REDIRECT_URI": "https://rotator.example.com/oauth/callback",
}
HANDLERS = {
    "sweep": {**REFRESH_KEY, **WISE},
    "refresh": {**REFRESH_KEY, **WISE},
    "serve": {**API, "REFRESH_FUNCTION": "fixture-refresh-function"},
    "admin": {**REFRESH_KEY, **API, **WEB},
    "callback": {**REFRESH_KEY, **API, **{name: WISE[name] for name in ("WISE_API_URL", "WISE_SECRET_NAME")}},
}
# Slow to import, or with no business there: measured, they are most of a cold start.
NOWHERE = {"pydantic", "pydantic_core", "aws_xray_sdk", "aws_lambda_powertools.event_handler", "moto", "local", "infra"}
NOT_WHERE_IT_SERVES = {"requests", "cryptography.x509", "token_rotator.adapters.wise_http"}
OTHERS = {
    "serve": {
        "token_rotator.adapters.client_secrets",
        "token_rotator.adapters.sns_alerts",
        "token_rotator.service.refresh_grant",
        "token_rotator.service.adopt_grant",
    },
    "admin": {
        "token_rotator.adapters.client_secrets",
        "token_rotator.adapters.lambda_refresher",
        "token_rotator.adapters.sns_alerts",
        "token_rotator.service.refresh_grant",
        "token_rotator.service.serve_token",
    },
    "callback": {
        "token_rotator.adapters.lambda_refresher",
        "token_rotator.adapters.sns_alerts",
        "token_rotator.adapters.sqs_parking",
        "token_rotator.service.refresh_grant",
        "token_rotator.service.serve_token",
    },
    "sweep": {"token_rotator.adapters.lambda_refresher", "token_rotator.service.serve_token"},
    "refresh": {"token_rotator.adapters.lambda_refresher", "token_rotator.service.serve_token"},
}
PROBE = """
import json, socket, sys, threading

def refuse(*_, **__):
    raise SystemExit("a connection was made at import")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
import token_rotator.handlers.NAME as module
assert callable(module.handler)
assert threading.active_count() == 1, "a thread was started at import"
print(json.dumps(sorted(sys.modules)))
"""


@dataclass(frozen=True)
class Start:
    """How a process that imports a handler ended."""

    code: int
    output: str
    errors: str

    @property
    def modules(self) -> set[str]:
        return set(json.loads(self.output))


def start(name: str, environment: dict[str, str]) -> Start:
    """Import a handler in a process of its own, with this environment and nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.replace("NAME", name)],
        env={"PYTHONPATH": str(FUNCTIONS), "HOME": "/nonexistent", "POWERTOOLS_SERVICE_NAME": name, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Start(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def started() -> dict[str, Start]:
    return {name: start(name, {**COMMON, **own}) for name, own in HANDLERS.items()}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_starts_without_a_network_and_says_nothing(started: dict[str, Start], name: str) -> None:
    assert (started[name].code, started[name].errors) == (0, "")
    assert len(started[name].output.splitlines()) == 1


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_loads_nothing_that_is_banned_for_it(started: dict[str, Start], name: str) -> None:
    banned = NOWHERE | OTHERS[name]
    if name in ("serve", "admin"):
        banned |= NOT_WHERE_IT_SERVES
    loaded = started[name].modules
    assert {module for module in loaded if any(module == b or module.startswith(f"{b}.") for b in banned)} == set()


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_loads_no_other_handler(started: dict[str, Start], name: str) -> None:
    handlers = {module for module in started[name].modules if module.startswith("token_rotator.handlers.")}
    others = {f"token_rotator.handlers.{other}" for other in HANDLERS if other != name}
    assert not handlers & others


def test_the_modules_that_refresh_are_really_loaded(started: dict[str, Start]) -> None:
    """The bans mean something: where they do not hold, these modules are there."""
    for name in ("sweep", "refresh", "callback"):
        assert started[name].modules >= NOT_WHERE_IT_SERVES - {"cryptography.x509"}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that_is_not_told_something_does_not_start_and_says_what(name: str) -> None:
    first = next(iter(HANDLERS[name]))
    missing = {variable: value for variable, value in {**COMMON, **HANDLERS[name]}.items() if variable != first}
    stopped = start(name, missing)
    assert stopped.code != 0
    assert stopped.errors.splitlines()[-1] == f"token_rotator.domain.errors.SettingsError: {first} is not set"
