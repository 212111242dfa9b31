"""What dies with a process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.soak.killer import died_with, ports_to
from local.wise.truth import RequestTruth

CHILD = """
import socket, sys
connections = [socket.create_connection(("127.0.0.1", int(port))) for port in sys.argv[1:]]
print(*[connection.getsockname()[1] for connection in connections], flush=True)
sys.stdin.read()
"""
FROZEN = 1_795_000_000_000


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="no /proc on this machine")
def test_ports_are_those_of_the_one_process_to_the_one_server() -> None:
    with contextlib.ExitStack() as stack:
        wise, other = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        own = stack.enter_context(socket.create_connection(wise.getsockname()))
        command = [sys.executable, "-c", CHILD, *(str(server.getsockname()[1]) for server in (wise, other, wise))]
        child = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        stack.callback(child.kill)
        assert child.stdout is not None
        first, _, third = map(int, child.stdout.readline().split())
        port = wise.getsockname()[1]
        assert ports_to(child.pid, port) == {first, third}
        assert ports_to(os.getpid(), port) == {own.getsockname()[1]}


def test_process_that_is_gone_or_cannot_be_seen_has_no_ports(tmp_path: Path) -> None:
    assert ports_to(1, 443, tmp_path) == set()


def request(**changes: Any) -> RequestTruth:
    facts: dict[str, Any] = {
        "id": 1,
        "path": "/oauth/token",
        "grant_type": "refresh_token",
        "user": "acme-1",
        "presented_ordinal": 1,
        "correlation_id": "attempt",
        "trace_id": "t",
        "client_port": 1000,
        "begin_seq": 1,
        "begin_ms": FROZEN - 500,
        "end_ms": FROZEN - 50,
        "status": 200,
        "delivered": True,
    }
    return RequestTruth(**(facts | changes))


OURS = {"grant_type": "client_credentials", "user": None, "presented_ordinal": None}


@pytest.mark.parametrize(
    ("changes", "ports", "lease", "died"),
    [
        # Its answer had been delivered, and nobody stored it.
        ({}, set(), "attempt", True),
        ({}, set(), "another", False),
        ({}, set(), None, False),
        ({"end_ms": FROZEN - 9_000}, set(), "attempt", False),
        ({"end_ms": FROZEN + 250}, set(), "attempt", False),
        ({"status": 500}, set(), "attempt", False),
        ({"status": None, "delivered": False}, set(), "attempt", False),
        # It was still on the wire.
        ({"end_ms": None, "status": None, "delivered": None}, {1000}, "attempt", True),
        ({"end_ms": None, "status": None, "delivered": None}, {1001}, "attempt", False),
        ({"end_ms": FROZEN + 250, "delivered": True}, {1000}, "attempt", True),
        ({"end_ms": FROZEN - 5_000}, {1000}, None, False),
        # A new token of our application's, or a question about our client: any attempt may have it in hand.
        ({**OURS, "end_ms": None}, {1000}, None, True),
        (OURS, set(), "attempt", True),
        (OURS, set(), "another", False),
        # Nothing of that kind, or nobody's.
        ({"grant_type": "authorization_code", "end_ms": None}, {1000}, None, False),
        ({"correlation_id": None, "end_ms": None}, {1000}, None, False),
    ],
)
def test_attempts_die_with_the_process_that_had_them_in_hand(
    changes: dict[str, Any],
    ports: set[int],
    lease: str | None,
    died: bool,  # noqa: FBT001
) -> None:
    leases = {} if lease is None else {"acme-1": lease}
    assert died_with([request(**changes)], ports, leases, FROZEN) == (("attempt",) if died else ())
