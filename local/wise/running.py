"""The emulator inside this process."""

from __future__ import annotations

import contextlib
import tempfile
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local.wise.certificates import ClientAuthority, issue_identity
from local.wise.chaos import Chaos
from local.wise.control import WiseControl
from local.wise.control_server import Control, ControlServer
from local.wise.faults import Faults, Withheld
from local.wise.server import LOOPBACK, WiseServer
from local.wise.settings import WiseSettings
from local.wise.state import WiseState
from local.wise.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningWise:
    """Where the emulator is and how to steer it."""

    url: str
    """``https://127.0.0.1:PORT``; the certificate is good for ``localhost`` too."""
    mtls_url: str
    """The same API for clients with a certificate, as ``https://api-mtls.…`` is Wise's."""
    control_url: str
    ca_file: Path
    control: WiseControl
    state: WiseState = field(repr=False)
    """The emulator's own state, for tests in the same process."""
    authority: ClientAuthority = field(repr=False)
    """Issues the certificates that the mutual listener takes."""
    webhooks: Webhooks = field(repr=False)
    """Signs and delivers events."""

    def token_url(self, quarter: str = "") -> str:
        """The token endpoint, in a quarter such as ``2026Q4`` or without."""
        return f"{self.url}/{quarter}/oauth/token" if quarter else f"{self.url}/oauth/token"

    def authorize_url(self, **query: str) -> str:
        """The page on which a user lets the partner in."""
        return f"{self.url}/oauth/authorize/?{urllib.parse.urlencode(query)}"

    def me_url(self, quarter: str = "") -> str:
        """The user's own resource, in a quarter or without."""
        return f"{self.url}/{quarter}/me" if quarter else f"{self.url}/v1/me"


@contextlib.contextmanager
def running_wise(
    settings: WiseSettings | None = None,
    *,
    directory: Path | None = None,
    port: int = 0,
    mtls_port: int = 0,
    control_port: int = 0,
    wall_ns: Callable[[], int] = time.time_ns,
    random: Random | None = None,
) -> Iterator[RunningWise]:
    """Start the emulator on free ports (or those given) of 127.0.0.1, and stop it at the end.

    ``directory`` is created if need be and gets ``ca.pem``; without one, a temporary directory serves.
    ``wall_ns`` is the machine's clock in epoch nanoseconds; a seeded ``random`` makes tokens and ids repeat.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wise-emulator-")))
        directory.mkdir(parents=True, exist_ok=True)
        identity = issue_identity()
        ca_file = directory / "ca.pem"
        ca_file.write_bytes(identity.ca_pem)
        state = WiseState(settings or WiseSettings(), wall_ns=wall_ns, random=random)
        faults, chaos, withheld = Faults(), Chaos(), Withheld()
        authority = ClientAuthority(identity)
        server = WiseServer(port, identity.context, state=state, faults=faults, chaos=chaos, withheld=withheld)
        stack.callback(server.stop)
        mutual = WiseServer(mtls_port, authority, state=state, faults=faults, chaos=chaos, withheld=withheld)
        stack.callback(mutual.stop)
        webhooks = Webhooks(state)
        stack.callback(webhooks.stop)
        control_server = ControlServer(control_port, Control(state, faults, chaos, withheld, authority, webhooks))
        stack.callback(control_server.stop)
        server.start()
        mutual.start()
        control_server.start()
        control_url = f"http://{LOOPBACK}:{control_server.port}"
        yield RunningWise(
            url=f"https://{LOOPBACK}:{server.port}",
            mtls_url=f"https://{LOOPBACK}:{mutual.port}",
            control_url=control_url,
            ca_file=ca_file,
            control=WiseControl(control_url),
            state=state,
            authority=authority,
            webhooks=webhooks,
        )
