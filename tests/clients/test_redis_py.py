"""redis-py in the tests' own environment: what a shop sees of its types, its own methods, its retries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from bench.harness.launch import Server

Client = Any  # redis-py does not type execute_command
ROW = {"rank": 3, "is_booked": 0, "note": "a"}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_redis_py_sells_a_seat(
    seats: Client,
    connect: Callable[..., Client],
    as_map: Callable[[Any], dict[Any, Any]],
    protocol: int | None,
    decode: bool,
) -> None:
    chosen = {} if protocol is None else {"protocol": protocol}
    ask = connect(decode_responses=decode, **chosen).execute_command

    def text(word: str) -> str | bytes:
        return word if decode else word.encode()

    assert ask("KL.INTERSECT", "seats", "is_booked", 0, "rank", 3) == [42]
    token = ask("KL.TRYLOCK", 42)
    assert ask("KL.TRYLOCK", 42) is None
    row = ask("KL.SEEK", 42)
    assert isinstance(row, list if protocol == 2 else dict)
    assert as_map(row) == {
        text(name): text(value) if isinstance(value, str) else value for name, value in ROW.items()
    }
    assert ask("KL.REPLACE", 42, token, "is_booked", 1, "UNLOCK") == text("OK")
    assert ask("KL.INTERSECT", "seats", "is_booked", 0) == []
    assert ask("KL.SEEK", 43) is None


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_pipelines(
    seats: Client, connect: Callable[..., Client], protocol: int, transaction: bool
) -> None:
    client = connect(protocol=protocol)
    with client.pipeline(transaction=transaction) as pipeline:
        for row in range(100):
            pipeline.execute_command("KL.INSERT", row + 100, "rank", 5)
        pipeline.execute_command("KL.COUNT", "seats", "rank", 5)
        pipeline.execute_command("KL.TRYLOCK", 42)
        pipeline.execute_command("KL.TRYLOCK", 42)
        replies = pipeline.execute()
    assert replies[:101] == [1] * 100 + [100]
    assert replies[101] > 0
    assert replies[102] is None
    with client.pipeline(transaction=transaction) as pipeline:
        pipeline.execute_command("KL.REPLACE", 42, 0, "rank", 4)
        pipeline.execute_command("KL.INSERT", 300, "rank", 6)
        first, second = pipeline.execute(raise_on_error=False)
    assert isinstance(first, redis.ResponseError)
    assert str(first).startswith("NOLOCK ")
    assert second == 1


def test_redis_py_s_own_methods(seats: Client) -> None:
    assert seats.ping() is True
    assert seats.echo("x") == b"x"
    assert seats.dbsize() == 1
    assert seats.info()["redis_version"] == "7.4.0"
    assert seats.info("replication")["role"] == "master"
    assert seats.config_get("appendfsync") == {"appendfsync": "always"}
    assert seats.client_id() > 0
    assert seats.client_setname("shop")
    assert "shop" in [one["name"] for one in seats.client_list()]
    assert "kl.seek" in seats.command()
    assert seats.command_count() == len(seats.command())
    assert seats.time()[0] > 1_700_000_000
    seats.select(0)


def test_redis_py_resends_nothing_on_its_own_for_our_errors(
    seats: Client, connect: Callable[..., Client]
) -> None:
    client = connect(retry=Retry(NoBackoff(), 3))
    before = seats.info("stats")["total_commands_processed"]
    with pytest.raises(redis.ResponseError, match=r"^NOROW "):
        client.execute_command("KL.TRYLOCK", 77)
    sent_at_connect, sent, asked = 4, 1, 1
    assert seats.info("stats")["total_commands_processed"] - before <= sent_at_connect + sent + asked


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_asyncio(server: Server, seats: Client, protocol: int) -> None:
    async def lock(client: Client) -> int | None:
        token: int | None = await client.execute_command("KL.TRYLOCK", 42)
        return token

    async def fight() -> list[int | None]:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol) as client:
            async with client.pipeline() as pipeline:
                pipeline.execute_command("KL.SEEK", 42, "rank")
                (row,) = await pipeline.execute()
            assert row in ([b"rank", 3], {b"rank": 3})
            return await asyncio.gather(*[lock(client) for _ in range(20)])

    tokens = [token for token in asyncio.run(fight()) if token is not None]
    assert len(tokens) == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_health_checks(seats: Client, connect: Callable[..., Client], protocol: int) -> None:
    """A PING of its own before a command, when the last reply is older than the interval."""
    checked = connect(protocol=protocol, health_check_interval=0.001, decode_responses=True)
    commands_of_its_own = 50

    def told() -> int:
        return int(checked.client_info()["tot-cmds"])

    before = told()
    for _ in range(commands_of_its_own):
        heard_at = time.monotonic()
        assert checked.execute_command("KL.SEEK", 42, "rank")
        while time.monotonic() - heard_at < 0.002:  # until one is due
            pass
    assert told() - before > commands_of_its_own + 1


def test_many_threads_share_a_client(seats: Client, connect: Callable[..., Client]) -> None:
    shared = connect()
    seats.execute_command("KL.CREATE", "queue", "SCHEMA", "left", "U8", "INDEX")
    for row in range(20):
        seats.execute_command("KL.INSERT", f"queue:{row}", "left", 1)
    words = ("KL.CLAIM", "queue", "left", 1, "SET", "left", 0)
    with ThreadPoolExecutor(32) as pool:
        sold = list(pool.map(lambda _: shared.execute_command(*words), range(40)))
    assert sorted(sold) == [[]] * 20 + [[row] for row in range(20)]
