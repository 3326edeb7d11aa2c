"""redis-py plays, of whatever version is installed: `play_redis.py PORT sync|async [OPTIONS as JSON]`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import redis
import redis.asyncio

from tests.clients.playing import Words, play

OPTIONS: dict[str, Any] = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}


class Threaded:
    """The client for threads: each command on one of its own."""

    def __init__(self, port: int) -> None:
        self._client: Any = redis.Redis(port=port, **OPTIONS)

    async def call(self, words: Words) -> Any:
        return await asyncio.to_thread(self._client.execute_command, *words)

    async def batch(self, commands: list[Words], transaction: bool) -> list[Any]:
        def run() -> list[Any]:
            with self._client.pipeline(transaction=transaction) as pipeline:
                for words in commands:
                    pipeline.execute_command(*words)
                replies: list[Any] = pipeline.execute(raise_on_error=False)
                return replies

        return await asyncio.to_thread(run)

    async def close(self) -> None:
        self._client.close()


class Asynchronous:
    def __init__(self, port: int) -> None:
        self._client: Any = redis.asyncio.Redis(port=port, **OPTIONS)

    async def call(self, words: Words) -> Any:
        return await self._client.execute_command(*words)

    async def batch(self, commands: list[Words], transaction: bool) -> list[Any]:
        async with self._client.pipeline(transaction=transaction) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies

    async def close(self) -> None:
        await self._client.aclose()


async def together(calls: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    return list(await asyncio.gather(*[call() for call in calls]))


async def connect(port: int) -> Threaded | Asynchronous:
    return Threaded(port) if sys.argv[2] == "sync" else Asynchronous(port)


if __name__ == "__main__":
    asyncio.run(play(connect, together))
