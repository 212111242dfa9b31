"""The table of grants as the stack describes it, so that no test can drift from what is deployed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

ROOT: Final = Path(__file__).resolve().parents[2]
KEPT: Final = ROOT / ".cache" / "grants-table"
_SOURCES: Final = ("infra/grants_store.py", "infra/keys.py", "requirements.txt", "tests/contract/grants_table.py")
_TAKEN: Final = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")


def shape() -> dict[str, Any]:
    """Give the parameters of `CreateTable` for the table in the template.

    Synthesizing takes many seconds, so the answer is kept, by the content of all that it depends on.
    """
    digest = hashlib.sha256(b"".join((ROOT / source).read_bytes() for source in _SOURCES)).hexdigest()[:20]
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = KEPT / f"{digest}.json"
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            made = subprocess.run(
                [sys.executable, "-m", "tests.contract.grants_table"],
                cwd=ROOT,
                check=True,
                capture_output=True,
                timeout=120,
            )
            parameters = json.loads(made.stdout)
            kept.write_text(json.dumps(parameters), encoding="utf-8")
    known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return known


def create(client: DynamoDBClient, parameters: dict[str, Any]) -> str:
    """Make an empty table and give its name."""
    name = f"grants-{uuid.uuid4().hex[:12]}"
    client.create_table(TableName=name, **parameters)
    return name


def _synthesize() -> dict[str, Any]:
    import aws_cdk as cdk

    from infra.grants_store import GrantsStore
    from infra.keys import Keys

    with tempfile.TemporaryDirectory() as directory:
        app = cdk.App(outdir=directory, analytics_reporting=False)
        stack = cdk.Stack(app, "Stack")
        GrantsStore(stack, "Store", key=Keys(stack, "Keys").data)
        template = app.synth().get_stack_by_name("Stack").template
        resources = json.loads(json.dumps(template))["Resources"].values()
    (table,) = (item["Properties"] for item in resources if item["Type"] == "AWS::DynamoDB::Table")
    return {name: table[name] for name in _TAKEN}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_synthesize()))
