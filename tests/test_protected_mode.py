"""E2: protected mode: without a password, who is not on this machine is not served."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest
import trio
import trio.testing

from bench.harness.launch import Server, free_port
from klani_resp.net.tasks import serve_stream
from klani_resp.sessions.access import DENIED
from klani_resp.sessions.transport import Transport
from tests.certificates import Paper, client_of, context
from tests.conftest import frame
from tests.in_memory import new_app, new_session

Start = Callable[..., Server]


@pytest.mark.parametrize(
    ("host", "is_near"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("", True),
        ("192.0.2.2", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
        ("0.0.0.0", False),
    ],
)
def test_e2_who_is_near(host: str, is_near: bool) -> None:
    app = new_app()
    assert app.access.refuses(host) == (not is_near)
    assert new_session(app).receive(frame("CONFIG", "SET", "requirepass", "pw")) == b"+OK\r\n"
    assert not app.access.refuses(host)
    assert not new_app(protected_mode=False).access.refuses(host)


@pytest.mark.parametrize("is_gone", [False, True])
async def test_e2_who_is_far_and_gone_is_no_bug(is_gone: bool) -> None:
    app = new_app()
    ours, theirs = trio.testing.memory_stream_pair()
    if is_gone:
        await ours.aclose()
    await serve_stream(theirs, app, Transport("10.0.0.1:5000", "10.0.0.2:7700", host="10.0.0.1"))
    assert app.counters.rejected == 1 and not app.sessions
    if not is_gone:
        assert await ours.receive_some() == DENIED


@pytest.fixture
def far() -> str:
    """An address of this machine that is not loopback's. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            reason = "this machine has no network; the rule itself is tested in test_e2_who_is_near"
            (pytest.fail if os.environ.get("KLANI_NO_SKIP") == "1" else pytest.skip)(reason)
        address: str = probe.getsockname()[0]
    assert not address.startswith("127.")
    return address


def test_e2_protected_mode(start: Start, paper: Paper, far: str) -> None:
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(paper.cert), "--tls-key-file", str(paper.key)]
    server = start("--bind", "0.0.0.0", *tls, "--tls-auth-clients", "no")
    with socket.create_connection((far, server.port), timeout=20) as wire:
        assert wire.recv(4096) == DENIED
        assert wire.recv(100) == b""
    with (
        socket.create_connection((far, port), timeout=20) as plain,
        context(paper).wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.recv(4096) == DENIED
    with client_of(port=server.port) as near:
        assert near.info("stats")["rejected_connections"] == 2
        near.execute_command("ACL", "SETUSER", "default", ">pw")
    with client_of(host=far, port=server.port, password="pw") as distant:
        assert distant.ping()


def test_e2_protected_mode_can_be_turned_off(start: Start, far: str) -> None:
    server = start("--bind", "0.0.0.0", "--protected-mode", "no")
    with client_of(host=far, port=server.port) as distant:
        assert distant.ping()
