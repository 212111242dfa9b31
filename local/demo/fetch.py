"""Fetches one access token from a kept demo as a partner service does, and prints everything but the token."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from local.aws.ministack import MiniStack
from local.aws.signed import Api, assume


def main() -> int:
    """Give 0 where a token was served."""
    parser = argparse.ArgumentParser(prog="python -m local.demo.fetch")
    for name in ("endpoint", "api", "role", "external-id", "tenant", "grant"):
        parser.add_argument(f"--{name}", required=True)
    chosen = parser.parse_args()
    port = urlsplit(chosen.endpoint).port
    if port is None:
        parser.error("--endpoint must be the emulator's address, with its port")
    emulator = MiniStack(port=port, pid=0, directory=Path(), auth=True)
    credentials = assume(emulator, chosen.role, external_id=chosen.external_id)
    path = f"/v1/tenants/{chosen.tenant}/grants/{chosen.grant}/access-token"
    answer = Api(emulator, chosen.api).call("GET", path, credentials=credentials)
    shown = answer.json()
    if "access_token" in shown:
        shown["access_token"] = f"({len(shown['access_token'])} characters, not shown)"
    print(answer.status, json.dumps(shown, indent=2))
    return 0 if answer.status == 200 else 1  # noqa: PLR2004


if __name__ == "__main__":
    sys.exit(main())
