"""Starts and stops MiniStack, the AWS emulator, as a process of its own on loopback.

It runs from its own virtual environment: it pins botocore, and it runs every Lambda function on its own
interpreter, whatever runtime the function declares.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

ROOT: Final = Path(__file__).resolve().parent.parent.parent
EMULATOR: Final = ROOT / ".emulator"
ACCOUNT: Final = "000000000000"
REGION: Final = "eu-west-1"

_CHILDREN: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""What this process started: only the parent can tell a child that ended from one that still runs."""

_ATTEMPTS: Final = 3
_READY_WITHIN_S: Final = 30.0
_STOPPED_WITHIN_S: Final = 10.0


class EmulatorError(RuntimeError):
    """MiniStack could not be started; the text holds the end of its log."""


@dataclass(frozen=True)
class Credentials:
    """What AWS requests are signed with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


ROOT_CREDENTIALS: Final = Credentials("test", "test")
"""The account's root. MiniStack never checks its signature: tests of signatures must assume a role."""


@dataclass(frozen=True)
class MiniStack:
    """A running emulator."""

    port: int
    pid: int
    directory: Path
    """Its home: log, temporary files, the code of the functions."""
    auth: bool
    """Whether it enforces IAM, key and resource policies, and signatures."""
    region: str = REGION
    account: str = ACCOUNT

    @property
    def url(self) -> str:
        """The endpoint of every service. An IP address, so that S3 uses the path form of bucket names."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The log of the emulator itself; the functions' logs are in CloudWatch Logs."""
        return self.directory / "ministack.log"

    def client(self, service: str, credentials: Credentials = ROOT_CREDENTIALS, **config: Any) -> Any:
        """A boto3 client of a service; `config` goes to botocore's Config."""
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 3},
            "connect_timeout": 5,
            "read_timeout": 60,
            "proxies": {},
        }
        make: Any = boto3.session.Session().client  # of any service: callers annotate what they get
        return make(
            service,
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
            config=Config(**(settings | config)),
        )

    def environment(self, credentials: Credentials = ROOT_CREDENTIALS) -> dict[str, str]:
        """The variables that point a command at the emulator. They name no profile and no configuration file."""
        token = {} if credentials.session_token is None else {"AWS_SESSION_TOKEN": credentials.session_token}
        return token | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def alive(self) -> bool:
        """Whether it answers."""
        return _ready(self.url)

    def stop(self) -> None:
        """End it and the functions that it runs; does nothing where it has ended. The directory stays."""
        _end(self.pid)


def python() -> Path:
    """The interpreter that runs the functions."""
    return EMULATOR / "bin" / "python"


def start(
    *,
    auth: bool,
    directory: Path | None = None,
    account_concurrency: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> MiniStack:
    """Start an emulator that lives until it is stopped, longer than this process if nobody does.

    `account_concurrency` imitates a young account's limit of parallel function runs. `environment` is added to
    the emulator's own, which every function inherits: nothing else of this process's environment reaches them.
    Without a directory it makes one. Raises EmulatorError.
    """
    if not (EMULATOR / "bin" / "ministack").exists():
        raise EmulatorError(f"{EMULATOR} holds no MiniStack: run `make setup`")
    home = directory or Path(tempfile.mkdtemp(prefix="token-rotator-aws-"))
    home.mkdir(parents=True, exist_ok=True)
    variables = {"LAMBDA_ACCOUNT_CONCURRENCY": str(account_concurrency)} if account_concurrency else {}
    # More than one try: a port found free may be taken before the emulator binds it.
    for _ in range(_ATTEMPTS):
        emulator = _spawn(home, _free_port(), auth=auth, environment=variables | dict(environment or {}))
        if _await_ready(emulator):
            return emulator
        emulator.stop()
    log = (home / "ministack.log").read_text(encoding="utf-8", errors="replace")
    raise EmulatorError(f"MiniStack did not start:\n{log[-2000:]}")


@contextlib.contextmanager
def ministack(
    *, auth: bool, account_concurrency: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[MiniStack]:
    """An emulator for the length of a block, with a directory of its own that goes with it."""
    with tempfile.TemporaryDirectory(prefix="token-rotator-aws-", ignore_cleanup_errors=True) as directory:
        emulator = start(
            auth=auth,
            directory=Path(directory),
            account_concurrency=account_concurrency,
            environment=environment,
        )
        try:
            yield emulator
        finally:
            emulator.stop()


def _spawn(home: Path, port: int, *, auth: bool, environment: Mapping[str, str]) -> MiniStack:
    variables = {
        "PATH": f"{EMULATOR / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "AUTH": str(auth).lower(),
        # An hour: a function that nobody called for five minutes would start cold in the middle of a story.
        "LAMBDA_WARM_TTL_SECONDS": "3600",
    }
    with (home / "ministack.log").open("ab") as log:
        process = subprocess.Popen(
            [EMULATOR / "bin" / "ministack"],
            env=variables | dict(environment),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own: an interrupt at the terminal leaves its end to us, and the functions end with it.
            start_new_session=True,
        )
    _CHILDREN[process.pid] = process
    return MiniStack(port=port, pid=process.pid, directory=home, auth=auth)


def _await_ready(emulator: MiniStack) -> bool:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and not _ended(emulator.pid):
        if _ready(emulator.url):
            return True
        time.sleep(0.05)
    return False


def _ready(url: str) -> bool:
    # No proxy of the environment's may stand between us and loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/_ministack/ready", timeout=5) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ended(pid: int) -> bool:
    """Whether the process is gone. One that another process started is only looked at."""
    if child := _CHILDREN.get(pid):
        return child.poll() is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _end(pid: int) -> None:
    """End a process group: politely, then for good."""
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    if not _ended(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline and not _ended(pid):
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    while time.monotonic() < deadline and not _ended(pid):
        time.sleep(0.02)
