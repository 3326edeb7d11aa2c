"""D2: clients that are slow or hostile. The server's memory stays within what its settings allow them, and
p99 of a client beside them within three times that of quiet windows in between."""

from __future__ import annotations

import contextlib
import socket
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.harness import launch
from tests.conftest import frame
from tests.prober import PING, PONG, Compared, Prober, apart, best

CLIENTS = 1000
TIMES_MAX = 3.0
WINDOWS = 4
QUIET_PROBES = 1000
MIB = 1 << 20
SPARE_BYTES = 64 * MIB
CAP_BYTES = 64 << 10
COMMANDS = 1_000_000


class Attack:
    """Many connections that take turns: `step` is what is done between two questions of the prober."""

    def __init__(self, server: launch.Server, count: int = CLIENTS) -> None:
        self.server = server
        self.cut_off = 0
        self.steps = 0
        self.sockets = [self.connect() for _ in range(count)]
        self.left = [b""] * count  # of what each is sending

    def connect(self) -> socket.socket:
        """By the unix socket: the kernel keeps 200 KiB of it for who does not read, and not megabytes."""
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(self.server.unixsocket))
        one.setblocking(False)
        return one

    def step(self) -> None:
        at = self.steps % len(self.sockets)
        self.steps += 1
        with contextlib.suppress(BlockingIOError):
            try:
                self.send(at)
            except (BrokenPipeError, ConnectionResetError):
                self.cut_off += 1
                self.sockets[at].close()
                self.sockets[at] = self.connect()
                self.left[at] = b""

    def send(self, at: int) -> None:
        raise NotImplementedError

    def send_part(self, at: int, whole: bytes, size: int) -> None:
        """The next bytes of a request that is sent over and over; one that breaks off goes on later."""
        left = self.left[at] or whole
        self.left[at] = left[self.sockets[at].send(left[:size]) :]

    def settle(self) -> None:
        """Before a quiet window."""

    def check(self) -> None:
        assert self.cut_off == 0

    def close(self) -> None:
        for one in self.sockets:
            one.close()


class ReadsNothing(Attack):
    request = frame("ECHO", b"x" * 16_000)

    def send(self, at: int) -> None:
        self.send_part(at, self.request, len(self.request))

    def check(self) -> None:
        assert self.cut_off >= CLIENTS / 2, "so many read too slowly"


class HeadersOnly(Attack):
    """Each announces a gigabyte. Then it sends a byte of it now and then."""

    def send(self, at: int) -> None:
        first = self.steps <= len(self.sockets)
        self.sockets[at].send(b"*1024\r\n$1000000\r\n" if first else b"x")


class HalfARequest(Attack):
    """Almost as much as a request may be, a piece at a time. When it is whole, the next begins."""

    request = frame("NOPE", b"x" * (CAP_BYTES - 100))

    def send(self, at: int) -> None:
        self.send_part(at, self.request, 8192)


class ByteByByte(Attack):
    """A thousand clients with a byte each 5 s are 200 a second; here it is one for each question."""

    request = frame("NOPE", b"x" * 100)

    def send(self, at: int) -> None:
        self.send_part(at, self.request, 1)


class Pipeline(Attack):
    """One connection that has always sent as much as the kernel takes, and reads its replies."""

    def __init__(self, server: launch.Server) -> None:
        super().__init__(server, 1)
        self.data = memoryview(PING * COMMANDS)  # and from its beginning again
        self.sent = self.received = 0

    def step(self) -> None:
        one, at = self.sockets[0], self.sent % len(self.data)
        with contextlib.suppress(BlockingIOError):
            self.sent += one.send(self.data[at : at + MIB])
        with contextlib.suppress(BlockingIOError):
            self.received += len(one.recv(MIB))

    def settle(self) -> None:
        """All whole requests that were sent are answered."""
        one = self.sockets[0]
        one.settimeout(20)
        while self.received < self.sent // len(PING) * len(PONG):
            self.received += len(one.recv(MIB))
        one.setblocking(False)

    def check(self) -> None:
        assert self.received > COMMANDS / 100 * len(PONG), "it was served as well"
        while self.sent < len(self.data):
            self.step()
        self.settle()
        assert self.received == self.sent // len(PING) * len(PONG) >= COMMANDS * len(PONG)


@pytest.fixture
def start_limited(start: Callable[..., launch.Server], tmp_path: Path) -> Callable[..., launch.Server]:
    def run(**settings: int) -> launch.Server:
        path = tmp_path / "settings.toml"
        path.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        return start("--config", str(path), unixsocket=tmp_path / "socket")

    return run


@contextlib.contextmanager
def prepared(server: launch.Server, kind: type[Attack]) -> Iterator[tuple[Prober, Attack, int]]:
    """With the memory that the server had before."""
    with apart(server), contextlib.closing(Prober(server.port)) as prober:
        prober.ask(1000, array("q"))
        before = server.rss_bytes()
        with contextlib.closing(kind(server)) as attack:
            yield prober, attack, before


def compare(prober: Prober, attack: Attack, probes: int, note: Callable[[], None]) -> Compared:
    quiet, beside = array("q"), array("q")
    for _ in range(WINDOWS):
        prober.ask(QUIET_PROBES, quiet)
        for _ in range(probes // 1000):
            prober.ask(1000, beside, attack.step)
            note()
        attack.settle()
    prober.ask(QUIET_PROBES, quiet)
    return Compared(quiet, beside)


@pytest.mark.parametrize(
    ("kind", "settings", "bytes_max", "probes"),
    [
        pytest.param(
            ReadsNothing,
            {"output_bytes_max": CAP_BYTES},
            CLIENTS * CAP_BYTES + SPARE_BYTES,
            6000,
            id="clients that read nothing",
        ),
        pytest.param(HeadersOnly, {}, CLIENTS * (16 << 10), 1000, id="headers without bodies"),
        pytest.param(
            HalfARequest,
            {"bulk_bytes_max": CAP_BYTES, "request_bytes_max": CAP_BYTES},
            CLIENTS * CAP_BYTES + SPARE_BYTES,
            3000,
            id="half-open requests",
        ),
        pytest.param(ByteByByte, {}, CLIENTS * (16 << 10), 1000, id="byte by byte"),
        pytest.param(Pipeline, {}, SPARE_BYTES, 1000, id="a million-command pipeline"),
    ],
)
def test_others_are_served_and_memory_is_bounded(
    start_limited: Callable[..., launch.Server],
    figure: Callable[[str, int], None],
    request: pytest.FixtureRequest,
    kind: type[Attack],
    settings: dict[str, int],
    bytes_max: int,
    probes: int,
) -> None:
    server = start_limited(**settings)
    most = 0

    def note() -> None:
        nonlocal most
        most = max(most, server.rss_bytes())

    with prepared(server, kind) as (prober, attack, before):
        compared = best(lambda: compare(prober, attack, probes, note), TIMES_MAX)
        attack.check()
    name = request.node.callspec.id
    figure(f"D2 {name}: MiB", (most - before) // MIB)
    compared.show(f"D2 {name}", figure)
    assert most - before <= bytes_max
    assert compared.worst <= TIMES_MAX


def test_a_server_that_takes_a_chunk_whole_is_found_out(
    start_limited: Callable[..., launch.Server],
) -> None:
    """16 KiB of one connection, and 4 ms, as once it was: by its median on a busy machine as well."""
    server = start_limited(receive_bytes_max=16 << 10, turn_us_max=4000)
    with prepared(server, Pipeline) as (prober, attack, _):
        assert compare(prober, attack, 1000, lambda: None).worst > 2 * TIMES_MAX
