"""Clients as services set them up: the helper's own connections are made as theirs are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from bench.harness import launch
from bench.harness.launch import free_port
from klani_resp.client import KL, AsyncKL
from tests.certificates import Paper

PASSWORD = "a b/c"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Server]:
    folder = tmp_path_factory.mktemp("kinds")
    running = launch.klani(folder / "data", "--unixsocket", str(folder / "socket"))
    try:
        with redis.Redis(port=running.port) as client:
            client.execute_command("ACL", "SETUSER", "till", "on", f">{PASSWORD}", "~*", "+@all")
        yield running
    finally:
        running.stop()


def kinds(module: Any, sentinel: Any, port: int, unix: Path) -> dict[str, Callable[[], Any]]:
    return {
        "a user": lambda: module.Redis(port=port, username="till", password=PASSWORD),
        "a URL": lambda: module.Redis.from_url(f"redis://127.0.0.1:{port}/0?decode_responses=True"),
        "a unix socket": lambda: module.Redis(unix_socket_path=str(unix)),
        "one connection": lambda: module.Redis(port=port, single_connection_client=True, protocol=3),
        "a pool of one": lambda: module.Redis(port=port, max_connections=1, health_check_interval=1),
        "a pool that waits": lambda: module.Redis(
            connection_pool=module.BlockingConnectionPool(port=port, max_connections=1, timeout=1)
        ),
        "a sentinel": lambda: sentinel.master_for("klani"),
    }


NAMES = list(kinds(redis, None, 0, Path()))


class Sure(Sentinel):
    """One that knows the master without asking anybody."""

    port = 0

    def discover_master(self, service_name: str) -> tuple[str, int]:
        return "127.0.0.1", self.port


class AsyncSure(AsyncSentinel):
    port = 0

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        return "127.0.0.1", self.port


def knowing(sentinel: Any, port: int) -> Any:
    made = sentinel([])
    made.port = port
    return made


def steps(kl: Any) -> Iterator[Any]:
    """Of each way in which the helper sends: on a connection of its own, of the pool's, in a pipeline."""
    yield kl.create("seats", {"is_booked": "U8 INDEX"})
    yield kl.insert(1, {"is_booked": 0})
    yield kl.claim("seats", {"is_booked": 0}, {"is_booked": 1})
    yield kl.verify("seats", "is_booked", 1)
    yield kl.pipeline().seek(1).execute()
    yield kl.drop("seats")


def judge(answers: list[Any]) -> None:
    created, inserted, sold, verdict, rows, dropped = answers
    assert created and inserted and dropped
    assert (sold, rows, verdict.ok, verdict.matched) == ([1], [{"is_booked": 1}], True, 1)


@pytest.mark.parametrize("name", NAMES)
def test_sync(server: launch.Server, name: str) -> None:
    sentinel = knowing(Sure, server.port)
    with kinds(redis, sentinel, server.port, server.directory.parent / "socket")[name]() as client:
        kl = KL(client)
        judge(list(steps(kl)))
        client.connection_pool.disconnect()


@pytest.mark.parametrize("name", NAMES)
def test_asyncio(server: launch.Server, name: str) -> None:
    async def shop() -> None:
        sentinel = knowing(AsyncSure, server.port)
        unix = server.directory.parent / "socket"
        async with kinds(redis.asyncio, sentinel, server.port, unix)[name]() as client:
            judge([await step for step in steps(AsyncKL(client))])
            await client.connection_pool.disconnect()

    asyncio.run(shop())


def test_tls(start: Callable[..., launch.Server], paper: Paper) -> None:
    port = free_port()
    files = ("--tls-cert-file", str(paper.cert), "--tls-key-file", str(paper.key))
    start("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    options: dict[str, Any] = {"port": port, "ssl": True, "ssl_ca_certs": str(paper.ca)}

    async def shop() -> None:
        async with redis.asyncio.Redis(**options) as client:
            judge([await step for step in steps(AsyncKL(client))])

    with redis.Redis(**options) as client:
        judge(list(steps(KL(client))))
    asyncio.run(shop())
