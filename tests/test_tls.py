"""E2: TLS with and without client certificates, and stock clients that say who they are."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
import trio.testing

from bench.harness.launch import LaunchError, Server, free_port
from klani_resp.config import Config, from_mapping
from klani_resp.server import serve
from tests.certificates import Paper, client_of, context
from tests.conftest import Wire, frame
from tests.zygote import until

Start = Callable[..., Server]
PASSWORD = "correct-horse"
USERS = """
user default on >{password} ~* &* +@all
user shop on >shop ~concert:* +@selling +kl.seek +ping +client|setinfo
"""


@dataclass(frozen=True)
class Secured:
    server: Server
    port: int

    def log(self) -> str:
        return (self.server.directory.parent / f"{self.server.directory.name}.log").read_text()


@pytest.fixture
def secured(start: Start, paper: Paper, tmp_path: Path) -> Callable[..., Secured]:
    """A server with a TLS port, which wants certificates unless told."""

    def run(auth_clients: str = "yes", *options: str) -> Secured:
        port = free_port()
        words = ["--tls-port", port, "--tls-cert-file", paper.cert, "--tls-key-file", paper.key]
        words += ["--tls-ca-cert-file", paper.ca, "--tls-auth-clients", auth_clients, *options]
        return Secured(start(*map(str, words)), port)

    return run


def pinged(port: int, context: ssl.SSLContext) -> bytes:
    """What PING is answered; raises when TLS does not come about."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(b"PING\r\n")
        return wrapped.recv(100)


def test_e2_who_is_taken(secured: Callable[..., Secured], paper: Paper, figure: Callable[..., None]) -> None:
    refused = (ssl.SSLError, ConnectionResetError)
    papers = {"none": None, "good": paper.client, "stranger": paper.stranger, "expired": paper.expired}
    for auth_clients, taken in (("yes", {"good"}), ("optional", {"none", "good"}), ("no", set(papers))):
        one = secured(auth_clients)
        for name, cert in papers.items():
            figure("E2 certificates, taken or not")
            if name in taken:
                assert pinged(one.port, context(paper, cert)) == b"+PONG\r\n", (auth_clients, name)
            else:
                with pytest.raises(refused):
                    raise_unless_answered(pinged(one.port, context(paper, cert)))
        assert pinged(one.port, context(paper, paper.client)) == b"+PONG\r\n", "it serves on"
        assert one.log().count("no TLS with ") == (0 if auth_clients == "no" else 1), "once a minute"
        assert one.server.stop() == 0


def raise_unless_answered(reply: bytes) -> None:
    """An end without an answer is a refusal, too: in TLS 1.3 the client is done before it is judged."""
    if not reply:
        raise ConnectionResetError


def test_e2_a_client_that_does_not_trust_the_server(secured: Callable[..., Secured], paper: Paper) -> None:
    one = secured("no")
    with pytest.raises(ssl.SSLCertVerificationError):
        pinged(one.port, ssl.create_default_context())
    assert pinged(one.port, context(paper)) == b"+PONG\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_e2_versions(secured: Callable[..., Secured], paper: Paper, version: ssl.TLSVersion) -> None:
    one = secured("no")
    chosen = context(paper)
    chosen.minimum_version = chosen.maximum_version = version
    assert pinged(one.port, chosen) == b"+PONG\r\n"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_e2_old_versions_are_refused(secured: Callable[..., Secured], paper: Paper) -> None:
    one = secured("no")
    old = context(paper)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1_1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        pinged(one.port, old)


def test_e2_what_is_no_tls_on_the_tls_port(secured: Callable[..., Secured], paper: Paper) -> None:
    one = secured("no", "--config", str(short_handshakes(one_folder(paper))))
    for data in (frame("PING"), b"GET / HTTP/1.1\r\n\r\n", bytes(2000), b"\x16\x03\x01\x00\x05xxxxx"):
        wire = Wire(one.port)
        wire.send_bytes(data)
        reply, has_ended = wire.until(b"\n\n\n")
        assert has_ended
        assert b"PONG" not in reply and not reply.startswith(b"-")
        wire.socket.close()
    silent = Wire(one.port)
    assert silent.until(b"x") == (b"", True), "a handshake has a limit"
    silent.socket.close()
    assert pinged(one.port, context(paper)) == b"+PONG\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_e2_who_is_gone_right_behind_the_handshake(
    secured: Callable[..., Secured], paper: Paper, version: ssl.TLSVersion
) -> None:
    """A reset, and then the peer's address cannot be asked for any more: that is no bug of the server's."""
    one = secured("no")
    chosen = context(paper)
    chosen.minimum_version = chosen.maximum_version = version
    for _ in range(50):
        with (
            socket.create_connection(("127.0.0.1", one.port), timeout=20) as plain,
            chosen.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            wrapped.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert pinged(one.port, context(paper)) == b"+PONG\r\n"
    assert "Traceback" not in one.log()


def one_folder(paper: Paper) -> Path:
    return paper.ca.parent


def short_handshakes(folder: Path) -> Path:
    path = folder / "short.toml"
    path.write_text("tls_handshake_seconds_max = 0.2\n")
    return path


def test_e2_tls_on_the_plain_port(secured: Callable[..., Secured], paper: Paper) -> None:
    one = secured("no")
    for _ in range(3):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            pinged(one.server.port, context(paper))
    assert one.log().count("speaks TLS: its connection is closed") == 1
    with client_of(port=one.server.port) as client:
        assert client.ping()


def test_a_tls_session_is_like_any_other(secured: Callable[..., Secured], paper: Paper) -> None:
    one = secured()
    with (
        client_of(
            port=one.port,
            host="localhost",
            ssl=True,
            ssl_ca_certs=str(paper.ca),
            ssl_certfile=str(paper.client),
        ) as near,
        client_of(port=one.server.port) as plain,
    ):
        ask = near.execute_command
        assert ask("KL.CREATE", "seats", "SCHEMA", "state", "U8", "INDEX") == b"OK"
        pipe = near.pipeline(transaction=False)
        for number in range(2_000):
            pipe.execute_command("KL.INSERT", number, "state", 0)
        assert pipe.execute() == [1] * 2_000
        assert ask("KL.CLAIM", "seats", "state", 0, "SET", "state", 1) == [0]
        assert len(ask("KL.INTERSECT", "seats", "state", 0, "LIMIT", 0)) == 1_999
        assert plain.execute_command("KL.COUNT", "seats", "state", 0) == 1_999
        assert near.echo("x" * 1_000_000) == b"x" * 1_000_000
        addresses = {client["addr"] for client in plain.client_list()}
        assert len(addresses) == 2
        plain.execute_command("ACL", "SETUSER", "eve", "on", ">pw", "+@all")
        with client_of(
            port=one.port,
            host="localhost",
            ssl=True,
            ssl_ca_certs=str(paper.ca),
            ssl_certfile=str(paper.client),
            username="eve",
            password="pw",
            single_connection_client=True,
        ) as eve:
            assert eve.ping()
            assert plain.acl_deluser("eve") == 1
            until(lambda: len(plain.client_list()) == 2, "the session's end")
    assert one.server.stop() == 0
    assert "bug" not in one.log()


def test_a_stop_waits_for_tls_sessions_too(secured: Callable[..., Secured], paper: Paper) -> None:
    one = secured("no")
    with (
        socket.create_connection(("127.0.0.1", one.port), timeout=20) as plain,
        context(paper).wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(b"PING\r\n")
        assert wrapped.recv(100) == b"+PONG\r\n"
        assert one.server.stop() == 0
        assert wrapped.recv(100) == b""


@pytest.mark.parametrize("use_epoll", [True, False])
async def test_both_roads_beside_tls(paper: Paper, tmp_path: Path, use_epoll: bool) -> None:
    """Writes of a plain and of a TLS connection, in turns, and a stop while both are there."""
    config = Config(
        port=free_port(),
        dir=str(tmp_path / "data"),
        tls_port=free_port(),
        tls_cert_file=str(paper.cert),
        tls_key_file=str(paper.key),
        tls_auth_clients="no",
        requirepass="pw",
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve, config, use_epoll=use_epoll))
        assert addresses == [f"127.0.0.1:{config.port}", f"tls 127.0.0.1:{config.tls_port}"]
        plain = await trio.open_tcp_stream("127.0.0.1", config.port)
        wrapped = await trio.open_ssl_over_tcp_stream(
            "localhost", config.tls_port, ssl_context=context(paper), https_compatible=True
        )
        for stream in (plain, wrapped):
            await stream.send_all(frame("AUTH", "pw") + frame("PING"))
            assert await line_of(stream, 2) == b"+OK\r\n+PONG\r\n"
        await plain.send_all(frame("KL.CREATE", "seats", "SCHEMA", "state", "U8", "INDEX"))
        assert await line_of(plain, 1) == b"+OK\r\n"
        for number in range(20):
            for stream in (plain, wrapped):
                await stream.send_all(frame("KL.INSERT", number, "state", 0))
                assert await line_of(stream, 1) == b":1\r\n"
        nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        for stream in (plain, wrapped):
            with contextlib.suppress(trio.BrokenResourceError):
                assert await stream.receive_some(10) == b""
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("use_epoll", [True, False])
async def test_tls_alone(paper: Paper, tmp_path: Path, use_epoll: bool) -> None:
    tls = {"tls_port": free_port(), "tls_cert_file": str(paper.cert), "tls_key_file": str(paper.key)}
    config = from_mapping({"port": 0, "dir": str(tmp_path / "data"), "tls_auth_clients": "no", **tls})
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve, config, use_epoll=use_epoll))
        assert addresses == [f"tls 127.0.0.1:{config.tls_port}"]
        reply = await trio.to_thread.run_sync(pinged, config.tls_port, context(paper))
        assert reply == b"+PONG\r\n"
        nursery.cancel_scope.cancel()


async def line_of(stream: trio.abc.ReceiveStream, lines: int) -> bytes:
    got = b""
    while got.count(b"\r\n") < lines:
        more = bytes(await stream.receive_some(100))
        assert more
        got += more
    return got


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, "tls_port needs tls_cert_file"),
        ({"cert": "cert"}, "tls_port needs tls_key_file"),
        ({"cert": "cert", "key": "key"}, "tls_ca_cert_file is needed"),
        ({"cert": "nowhere", "key": "key", "auth-clients": "no"}, "cannot use "),
        ({"cert": "cert", "key": "client", "auth-clients": "no"}, "cannot use "),
        ({"cert": "cert", "key": "key", "ca-cert": "key"}, "cannot use "),
    ],
)
def test_what_cannot_be_used_for_tls(start: Start, paper: Paper, words: dict[str, str], told: str) -> None:
    options = ["--tls-port", str(free_port())]
    for name, value in words.items():
        is_choice = name == "auth-clients"
        option = f"--tls-{name}" + ("" if is_choice else "-file")
        options += [option, value if is_choice else str(paper.ca.parent / value)]
    with pytest.raises(LaunchError) as caught:
        start(*options)
    assert f"klani-resp: cannot start: {told}" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "ended with 2: " in str(caught.value)


def test_users_that_cannot_be_taken(start: Start, tmp_path: Path) -> None:
    users, settings = tmp_path / "users.acl", tmp_path / "klani.toml"
    users.write_text("user ann on\nuser bob on ~x +nope\nuser <secret\n user eve <topsecret\n")
    settings.write_text('users = ["ann on", "bob +@nope"]\n')
    for options, told in (
        (("--acl-file", users), f"{users}:2: Error in applying operation '+nope'"),
        (("--acl-file", tmp_path / "nowhere"), "[Errno 2] No such file or directory"),
        (("--config", settings), "users:2: Error in applying operation '+@nope'"),
        (
            ("--config", settings, "--acl-file", users),
            "users are in the settings or in acl_file, not in both",
        ),
    ):
        with pytest.raises(LaunchError) as caught:
            start(*map(str, options))
        assert f"klani-resp: cannot start: {told}" in str(caught.value)
        assert "ended with 2: " in str(caught.value) and "topsecret" not in str(caught.value)


# --- who is it, with stock clients --------------------------------------------------------------------


@pytest.fixture
def with_users(start: Start, paper: Paper, tmp_path: Path) -> Secured:
    users = tmp_path / "users.acl"
    users.write_text(USERS.format(password=PASSWORD))
    port = free_port()
    words = ["--acl-file", users, "--tls-port", port, "--tls-cert-file", paper.cert]
    words += ["--tls-key-file", paper.key, "--tls-auth-clients", "no"]
    return Secured(start(*map(str, words)), port)


def test_redis_py_says_who_it_is(with_users: Secured, paper: Paper) -> None:
    one = with_users
    for options in (
        {"port": one.server.port},
        {"port": one.port, "host": "localhost", "ssl": True, "ssl_ca_certs": str(paper.ca)},
    ):
        for protocol in (2, 3):
            shared: dict[str, Any] = {**options, "protocol": protocol}
            with client_of(**shared, password=PASSWORD) as root:
                root.execute_command("KL.CREATE", "concert", "IFNOTEXISTS", *("SCHEMA", "a", "U8"))
                assert root.acl_whoami() in ("default", b"default")
            with client_of(**shared, username="shop", password="shop") as shop:
                assert shop.ping()
                assert shop.execute_command("KL.SEEK", "concert:1") is None
                with pytest.raises(redis.exceptions.NoPermissionError):
                    shop.execute_command("KL.SEEK", "seats:1")
            with (
                client_of(**shared, username="shop", password="wrong") as thief,
                pytest.raises(redis.exceptions.AuthenticationError),
            ):
                thief.ping()
            with client_of(**shared) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
                nobody.ping()


def test_redis_cli_says_who_it_is(with_users: Secured, paper: Paper, need: Callable[[str], str]) -> None:
    one = with_users
    cli = need("redis-cli")

    def said(*words: str) -> str:
        done = subprocess.run([cli, "--no-auth-warning", *words], capture_output=True, text=True, timeout=30)
        return (done.stdout + done.stderr).strip()

    plain = ("-p", str(one.server.port))
    ciphered = ("-h", "localhost", "-p", str(one.port), "--tls", "--cacert", str(paper.ca))
    assert said(*plain, "PING") == "NOAUTH Authentication required."
    for road in (plain, ciphered):
        assert said(*road, "-a", PASSWORD, "ACL", "WHOAMI") == "default"
        assert said(*road, "--user", "shop", "--pass", "shop", "PING") == "PONG"
        assert said(*road, "--user", "shop", "--pass", "shop", "KL.DROP", "concert") == (
            "NOPERM User shop has no permissions to run the 'kl.drop' command"
        )
        assert "WRONGPASS invalid username-password pair" in said(*road, "-a", "x", "ACL", "WHOAMI")
    assert PASSWORD not in one.log() and "shop" not in one.log()
