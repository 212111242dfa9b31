"""``python -m local.wise``: the emulator as a process of its own."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from local.wise.clients import HighestTls
from local.wise.running import running_wise
from local.wise.settings import (
    STATUSES,
    ApplicationAsUser,
    ApplicationTokenFormat,
    BadValueError,
    DeactivatedError,
    ExpiredRefresh,
    RefreshTokenPolicy,
    RefusedCertificate,
    RefusedGrantError,
    TokenFormat,
    WiseSettings,
    WrongClientError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import StrEnum

_CHOICES: dict[str, type[StrEnum]] = {
    "refresh_token_policy": RefreshTokenPolicy,
    "token_format": TokenFormat,
    "application_token_format": ApplicationTokenFormat,
    "application_as_user": ApplicationAsUser,
    "expired_refresh": ExpiredRefresh,
    "wrong_client_error": WrongClientError,
    "refused_grant_error": RefusedGrantError,
    "deactivated_error": DeactivatedError,
    "mtls_highest": HighestTls,
    "refused_certificate": RefusedCertificate,
}
_SECONDS = (
    "access_token_lifetime_s",
    "refresh_token_lifetime_s",
    "authorization_code_lifetime_s",
    "claim_account_code_lifetime_s",
)
_NUMBERS = ("created_at_digits", *STATUSES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; one JSON line on standard output says that it is ready, and where."""
    parser = _parser()
    parsed = vars(parser.parse_args(arguments))
    place = {name: parsed.pop(name) for name in ("port", "mtls_port", "control_port", "directory")}
    try:
        settings = WiseSettings(**parsed)
    except BadValueError as error:
        parser.error(str(error))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with running_wise(settings, **place) as wise:
        ready = {
            "url": wise.url,
            "mtls_url": wise.mtls_url,
            "control_url": wise.control_url,
            "ca_file": str(wise.ca_file),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = WiseSettings()
    parser = argparse.ArgumentParser(prog="python -m local.wise", description="Emulates Wise's API of tokens.")
    parser.add_argument("--port", type=int, default=0, help="for HTTPS; 0 takes a free one")
    parser.add_argument(
        "--mtls-port", type=int, default=0, help="for HTTPS with client certificates; 0 takes a free one"
    )
    parser.add_argument("--control-port", type=int, default=0, help="for the control port; 0 takes a free one")
    parser.add_argument("--directory", type=Path, required=True, help="where ca.pem is written")
    parser.add_argument("--client-id", default=defaults.client_id)
    parser.add_argument("--client-secret", default=defaults.client_secret)
    parser.add_argument("--client-key", default=defaults.client_key)
    for name, choices in _CHOICES.items():
        flag, default = _flag(name), getattr(defaults, name)
        parser.add_argument(flag, type=choices, choices=list(choices), default=default, metavar="|".join(choices))
    for name in _SECONDS:
        parser.add_argument(_flag(name), type=float, default=getattr(defaults, name), metavar="SECONDS")
    for name in _NUMBERS:
        parser.add_argument(_flag(name), type=int, default=getattr(defaults, name))
    parser.add_argument("--echo-refresh-token", action="store_true")
    parser.add_argument("--mtls-only", action="store_true")
    parser.add_argument(
        "--quarters", type=lambda text: tuple(text.split(",")), default=defaults.quarters, metavar="2026Q4,…"
    )
    parser.add_argument(
        "--redirect-uris", type=lambda text: tuple(text.split()), default=defaults.redirect_uris, metavar="'URI …'"
    )
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
