"""redis_exporter, the program that Prometheus asks for a Redis server's figures: Debian has one."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.harness import launch

if TYPE_CHECKING:
    from bench.harness.launch import Server


def _scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    metrics = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in metrics}


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def scrape(
    server: Server, seats: Any, need: Callable[[str], str], tmp_path: Path
) -> Iterator[Callable[[], dict[str, float]]]:
    program, port = need("prometheus-redis-exporter"), launch.free_port()
    command = [
        program,
        "-redis.addr",
        f"redis://127.0.0.1:{server.port}",
        "-web.listen-address",
        f"127.0.0.1:{port}",
    ]
    exporter = launch.start(
        "redis_exporter", command, tmp_path / "exporter", port, ready=lambda: _listens(port)
    )
    yield lambda: _scraped(port)
    exporter.stop()


def test_redis_exporter(server: Server, seats: Any, scrape: Callable[[], dict[str, float]]) -> None:
    metrics = scrape()
    assert metrics["redis_up"] == 1
    assert metrics['redis_exporter_last_scrape_error{err=""}'] == 0
    assert metrics['redis_db_keys{db="db0"}'] == 1
    assert metrics["redis_process_id"] == server.pid
    assert metrics["redis_config_maxclients"] > 0
    assert metrics["redis_connected_clients"] >= 1
    assert metrics["redis_memory_used_bytes"] > 0
    assert metrics["redis_loading_dump_file"] == 0
    first = metrics["redis_commands_processed_total"]
    for _ in range(100):
        seats.execute_command("KL.SEEK", 42)
    assert scrape()["redis_commands_processed_total"] - first >= 100
