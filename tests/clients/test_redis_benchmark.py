"""redis-benchmark: one error reply in its load ends it, so it goes through only if all are understood."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.harness.launch import Server

REQUESTS = 2000


@pytest.mark.parametrize(
    "load",
    [
        ("-t", "ping"),
        ("-t", "ping", "-P", "16"),
        ("-3", "-t", "ping", "-P", "16", "-c", "1"),
        ("--threads", "2", "-t", "ping"),
        ("-k", "0", "-t", "ping"),
        ("-r", "1000", "KL.SEEK", "__rand_int__"),
        ("-r", "1000", "-P", "16", "KL.INSERT", "bench:__rand_int__", "x", "9"),
        ("-3", "-r", "1000", "-P", "16", "KL.SEEK", "seats:__rand_int__", "rank"),
        ("-r", "1000000", "KL.CLAIM", "bench", "x", "1", "SET", "x", "2", "REQUEST", "__rand_int__"),
        ("-q", "KL.TRYLOCK", "seats:42", "PX", "1000"),
    ],
    ids=" ".join,
)
def test_redis_benchmark(
    server: Server, seats: Any, need: Callable[[str], str], load: tuple[str, ...]
) -> None:
    seats.execute_command("KL.CREATE", "bench", "SCHEMA", "x", "U8", "INDEX")
    before = seats.info("stats")["total_commands_processed"]
    benchmark = (need("redis-benchmark"), "-p", str(server.port), "-c", "20", "-n", str(REQUESTS), "--csv")
    done = subprocess.run((*benchmark, *load), capture_output=True, text=True, timeout=30, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "rror" not in printed
    assert "CONFIG" not in printed  # a warning, when CONFIG GET is not answered
    assert len(printed.splitlines()) >= 2
    assert seats.info("stats")["total_commands_processed"] - before >= REQUESTS
