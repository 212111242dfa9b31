"""``python -m local.wise`` as a process, and what must not leave it."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import logging
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.wise.__main__ import main
from local.wise.control import SeededUser, WiseControl
from local.wise.faults import Delivery
from local.wise.running import RunningWise, running_wise
from local.wise.settings import WiseSettings
from local.wise.visitor import Visitor
from tests.wise.client import CLIENT, WiseClient

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def process(*flags: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "local.wise", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def ready_line(running: subprocess.Popen[str]) -> dict[str, str]:
    assert running.stdout is not None
    assert select.select([running.stdout], [], [], 20)[0], "no line in 20 s"
    ready = json.loads(running.stdout.readline())
    assert isinstance(ready, dict)
    return ready


def test_command_says_where_it_is_serves_and_ends_cleanly(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "folder"
    flags = ["--directory", str(directory), "--access-token-lifetime-s", "90", "--token-format", "jwe"]
    flags += ["--refresh-token-policy", "rotated", "--quarters", "2027Q2", "--client-secret", "fixture-secret"]
    callbacks = ["https://partner.example.com/one", "https://partner.example.com/two?tenant=acme"]
    flags += ["--redirect-uris", " ".join(callbacks), "--registration-refused-status", "403"]
    with process(*flags, "--port", "0", "--control-port", "0") as running:
        ready = ready_line(running)
        assert sorted(ready) == ["ca_file", "control_url", "mtls_url", "url"]
        assert ready["url"].startswith("https://127.0.0.1:")
        assert ready["control_url"].startswith("http://127.0.0.1:")
        assert ready["ca_file"] == str(directory / "ca.pem")
        assert [path.name for path in directory.iterdir()] == ["ca.pem"]
        assert "PRIVATE KEY" not in (directory / "ca.pem").read_text()
        control = WiseControl(ready["control_url"])
        alice = control.seed_user("alice")
        assert (len(alice.access_token), (alice.expires_at - alice.issued_at).total_seconds()) == (800, 90)
        settings = control.settings()
        assert (settings["refresh_token_policy"], settings["quarters"]) == ("rotated", ["2027Q2"])
        assert (settings["redirect_uris"], settings["registration_refused_status"]) == (callbacks, 403)
        running.send_signal(signal.SIGTERM)
        rest, errors = running.communicate(timeout=10)
        assert (running.returncode, rest, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--directory"),
        (["--directory", "x", "--access-token-lifetime-s", "0"], "access_token_lifetime_s: must be more than 0"),
        (["--directory", "x", "--token-format", "jwt"], "--token-format"),
        (["--directory", "x", "--redirect-uris", "/callback"], "redirect_uris: must be absolute, http or https"),
    ],
)
def test_command_refuses_nonsense_before_it_starts(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_emulator_starts_and_stops_within_a_second() -> None:
    began = time.monotonic()
    with running_wise() as wise:
        wise.control.seed_user("alice")
    assert time.monotonic() - began < 1


def test_both_ports_are_open_on_loopback_only(wise: RunningWise) -> None:
    for url in (wise.url, wise.control_url):
        port = int(url.rpartition(":")[2])
        listening = _listeners(port)
        assert listening == {"0100007F"}, "127.0.0.1 and nothing else"


def _listeners(port: int) -> set[str]:
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows += Path("/proc/net/tcp6").read_text().splitlines()[1:] if Path("/proc/net/tcp6").exists() else []
    addresses = [row.split()[1].split(":") for row in rows if row.split()[3] == "0A"]
    return {address for address, hexadecimal in addresses if int(hexadecimal, 16) == port}


def test_key_is_deleted_once_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def watching(self: ssl.SSLContext, certfile: Path) -> None:
        seen.append(certfile.stat().st_mode & 0o777)
        load(self, certfile)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watching)
    with running_wise(directory=tmp_path / "public"):
        assert list(scratch.iterdir()) == []
    assert seen == [0o600]


def test_certificate_is_good_for_localhost_too(wise: RunningWise) -> None:
    context = ssl.create_default_context(cafile=str(wise.ca_file))
    port = int(wise.url.rpartition(":")[2])
    for name in ("localhost", "127.0.0.1"):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            context.wrap_socket(raw, server_hostname=name).close()
    with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(raw, server_hostname="example.com")


def test_nothing_secret_is_logged_or_printed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_wise(WiseSettings(echo_refresh_token=True)) as wise:
        client = WiseClient(wise)
        alice = wise.control.seed_user("alice")
        _make_trouble(wise, client, alice)
        registration_code, state = "fixture-registration-code-of-carol", "fixture-state-of-carol"
        wise.control.put_user("carol", registration_code=registration_code)
        wise.control.change_settings(redirect_uris=["http://127.0.0.1:9/callback"])
        url = wise.authorize_url(client_id=CLIENT[0], redirect_uri="http://127.0.0.1:9/callback", state=state)
        code = Visitor(wise.ca_file).authorize(url, "carol").query()["code"]
        fields = {"grant_type": "registration_code", "client_id": CLIENT[0], "email": "x@example.com"}
        client.form({**fields, "registration_code": registration_code})
        secrets = [str(token.value) for token in wise.control.tokens(values=True)]
    secrets += [CLIENT[1], base64.b64encode(":".join(CLIENT).encode()).decode(), "fixture-unknown-token"]
    secrets += [registration_code, state, code]
    assert len(secrets) > 6
    assert any(record.name.startswith("local.wise") for record in caplog.records)
    formatter = logging.Formatter("%(message)s")
    logged = "\n".join(formatter.format(record) + repr(vars(record)) for record in caplog.records)
    printed = capfd.readouterr()
    for secret in secrets:
        assert secret not in logged
        assert secret not in printed.out + printed.err


def _make_trouble(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    client.refresh(alice.refresh_token)
    client.refresh("fixture-unknown-token")
    client.me(alice.access_token)
    client.me("fixture-unknown-token", path=f"/v1/me?access_token={alice.access_token}")
    client.me(None, path=f"/{alice.access_token}")
    wise.control.deliver_next(Delivery.RESET)
    with contextlib.suppress(ConnectionError):
        client.refresh(alice.refresh_token)
    client.send(f"X-{alice.access_token}", "/v1/me")
    client.send("POST", "/oauth/token", None, {"Transfer-Encoding": "chunked", "Authorization": "Basic x"})


def test_emulator_and_product_import_nothing_of_each_other() -> None:
    def imports(folder: Path) -> set[str]:
        found: set[str] = set()
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add(node.module or "")
        return found

    assert not [name for name in imports(ROOT / "local" / "wise") if name.split(".")[0] == "token_rotator"]
    assert not [name for name in imports(ROOT / "functions") if name.split(".")[0] == "local"]
    beyond = {name.split(".")[0] for name in imports(ROOT / "local" / "wise")} - set(sys.stdlib_module_names)
    assert beyond == {"local", "cryptography"}
