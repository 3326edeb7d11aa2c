"""What the tests share: real servers on fresh directories, stock clients, bare sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis

from bench.harness import launch, launch_postgres
from commands.registry import load
from klani_resp.app import App
from klani_resp.sessions.session import Session
from tests.certificates import paper as paper
from tests.in_memory import new_app, new_session
from tests.proof import LONG

Client = Any  # redis-py does not type execute_command
FIGURES: Counter[str] = Counter()
COMMANDS = load()
ERROR_WORDS = {word for spec in COMMANDS.values() for word in spec.page.errors}

PACKAGES = {
    "chromedriver": "chromium-driver",
    "redis-cli": "redis-tools",
    "redis-benchmark": "redis-tools",
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
    "script": "bsdutils",
    "strace": "strace",
}


def frame(*words: bytes | str | int) -> bytes:
    """A request as clients send it."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


@pytest.fixture
def figure() -> Callable[[str, int], None]:
    """`figure("A5 bytes flipped", n)`: adds n to what the summary behind the tests says under this name."""

    def add(name: str, count: int = 1) -> None:
        FIGURES[name] += count

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section(f"figures of the proof, {'long' if LONG else 'CI'} column")
        width = max(map(len, FIGURES))
        for name in sorted(FIGURES):
            terminalreporter.write_line(f"{name:<{width}}  {FIGURES[name]:>9,}")


class Wire:
    """A bare socket: what exactly is sent, and what exactly comes back."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def send(self, *words: bytes | str | int) -> None:
        self.send_bytes(frame(*words))

    def send_bytes(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def expect(self, reply: bytes) -> None:
        """The next bytes are these."""
        got = b""
        while len(got) < len(reply) and (more := self.receive(len(reply) - len(got))):
            got += more
            assert reply.startswith(got), f"{got + self._waiting()!r} is not {reply!r}"
        assert got == reply

    def ask(self, *words: bytes | str | int) -> bytes:
        """Sends a command whose reply is one line; that line."""
        self.send(*words)
        return self.line()

    def line(self) -> bytes:
        """Up to the end of a line; empty when the connection has ended."""
        got = b""
        while not got.endswith(b"\r\n") and (more := self.receive(1)):
            got += more
        return got

    def until(self, end: bytes) -> tuple[bytes, bool]:
        """All that comes, up to and with `end` or to the connection's end; whether it was the latter."""
        got = b""
        while not got.endswith(end):
            more = self.receive(65536)
            if not more:
                return got, True
            got += more
        return got, False

    def receive(self, size: int) -> bytes:
        try:
            return self.socket.recv(size)
        except ConnectionResetError:
            return b""

    def _waiting(self) -> bytes:
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            return self.socket.recv(4096)
        return b""


def pairs_of(reply: Any) -> dict[Any, Any]:
    """A map as either protocol has it."""
    if isinstance(reply, dict):
        return reply
    assert len(reply) % 2 == 0
    return dict(zip(reply[::2], reply[1::2], strict=True))


def lacking(reason: str) -> NoReturn:
    """The test cannot run here: skipped, or failed where none may be."""
    if os.environ.get("KLANI_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """Where a program is; without it the test is skipped, or fails where none may be."""

    def find(program: str) -> str:
        found = shutil.which(program) or launch_postgres.program(program)
        if found is None:
            reason = (
                f"{program} is not installed; on Debian: apt-get install {PACKAGES.get(program, program)}"
            )
            lacking(reason)
        return found

    return find


@pytest.fixture(scope="session")
def as_map() -> Callable[[Any], dict[Any, Any]]:
    return pairs_of


@pytest.fixture
def app() -> App:
    """A server without sockets or disk."""
    return new_app()


@pytest.fixture
def session(app: App) -> Session:
    return new_session(app)


@pytest.fixture(scope="session")
def request_bytes() -> Callable[..., bytes]:
    return frame


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Server]:
    """A server that the tests of a file share; `client` and `ask` find it without tables."""
    running = launch.klani(tmp_path_factory.mktemp("server") / "data")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., launch.Server]]:
    """Starts servers of the test's own, on its directory's `data` unless told; stopped at the end."""
    running: list[launch.Server] = []

    def run(*options: str, directory: Path | None = None, **more: Any) -> launch.Server:
        one = launch.klani(directory or tmp_path / "data", *options, **more)
        running.append(one)
        return one

    yield run
    for one in running:
        one.stop()


@pytest.fixture
def connect(server: launch.Server) -> Iterator[Callable[..., Client]]:
    """redis-py clients, of `server` unless told; closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_client(**options: Any) -> Client:
            return stack.enter_context(redis.Redis(**{"port": server.port, **options}))

        yield open_client


def _without_tables(client: Client) -> Client:
    for name in client.execute_command("KL.TABLES"):
        client.execute_command("KL.DROP", name)
    return client


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    """redis-py as it comes."""
    return _without_tables(connect())


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def ask(request: pytest.FixtureRequest, connect: Callable[..., Client]) -> Callable[..., Any]:
    """Asks one command in each protocol version; a refusal is one that the command's page names."""
    execute = _without_tables(connect(protocol=request.param)).execute_command

    def ask(*words: Any) -> Any:
        try:
            return execute(*words)
        except redis.ResponseError as error:
            word = str(error).split()[0]  # redis-py leaves ERR away
            spec = COMMANDS.get(words[0].upper())
            if spec is not None and word in ERROR_WORDS and word not in spec.page.errors:
                raise AssertionError(f"the page of {spec.name} does not name this: {error}") from error
            raise

    return ask


@pytest.fixture
def wire(server: launch.Server) -> Iterator[Callable[..., Wire]]:
    """Bare connections, to `server` unless told; closed at the end."""
    opened: list[Wire] = []

    def connect_bare(port: int | None = None) -> Wire:
        opened.append(Wire(server.port if port is None else port))
        return opened[-1]

    yield connect_bare
    for one in opened:
        one.socket.close()


@pytest.fixture
def refusal() -> Callable[..., str]:
    """The error that a command answers, as redis-py gives it: `ERR` is taken off, other first words stay."""

    def of(ask: Callable[..., Any], *words: bytes | str | int) -> str:
        with pytest.raises(redis.ResponseError) as caught:
            ask(*words)
        return str(caught.value)

    return of
