"""D1: ten thousand connections that do nothing cost little memory, and an active client no time."""

from __future__ import annotations

import contextlib
import resource
import socket
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.harness import launch
from tests.prober import PING, PONG, Compared, Prober, apart, best

CONNECTIONS = 10_000
BYTES_EACH_MAX = 16 << 10
TIMES_MAX = 2.0
WINDOWS, PROBES = 10, 500
DESCRIPTORS = CONNECTIONS + 500


def make_room_for_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.fail(f"{CONNECTIONS} connections need `ulimit -Hn {DESCRIPTORS}`, the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def test_idle_connections(
    start: Callable[..., launch.Server], tmp_path: Path, figure: Callable[[str, int], None]
) -> None:
    """A second server without them is what the active client's latency is held against, window by window."""
    make_room_for_descriptors()
    settings = tmp_path / "settings.toml"
    settings.write_text(f"connections_max = {CONNECTIONS + 100}\n")
    full = start("--config", str(settings), directory=tmp_path / "full")
    quiet = start("--config", str(settings), directory=tmp_path / "quiet")
    with contextlib.ExitStack() as stack:
        stack.enter_context(apart(full, quiet))
        beside, alone = (stack.enter_context(contextlib.closing(Prober(it.port))) for it in (full, quiet))
        beside.ask(1000, array("q"))
        before = full.rss_bytes()
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", full.port), timeout=20))
            for _ in range(CONNECTIONS)
        ]
        for one in idle:
            one.sendall(PING)
        for one in idle:
            assert one.recv(64) == PONG, "each is served, and was not refused"
        each = (full.rss_bytes() - before) // CONNECTIONS

        def measure() -> Compared:
            without, with_them = array("q"), array("q")
            for _ in range(WINDOWS):
                alone.ask(PROBES, without)
                beside.ask(PROBES, with_them)
            return Compared(without, with_them)

        compared = best(measure, TIMES_MAX)
    figure("D1 idle connections", CONNECTIONS)
    figure("D1 bytes of each idle connection", each)
    compared.show("D1", figure)
    assert 0 < each <= BYTES_EACH_MAX
    assert compared.worst <= TIMES_MAX
