"""coredis plays on trio: `play_coredis.py PORT [OPTIONS as JSON]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import coredis
import trio
from coredis.response._callbacks import NoopCallback

from tests.clients.playing import Words, play

OPTIONS: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
AS_IT_COMES: NoopCallback[Any] = NoopCallback()


class Coredis:
    def __init__(self, client: coredis.Redis[Any], stack: AsyncExitStack) -> None:
        self._client = client
        self._stack = stack

    async def call(self, words: Words) -> Any:
        return await self._client.create_request(words[0].encode(), *words[1:], callback=AS_IT_COMES)

    async def batch(self, commands: list[Words], transaction: bool) -> list[Any]:
        async with self._client.pipeline(transaction=transaction, raise_on_error=False) as pipeline:
            for words in commands:
                pipeline.create_request(words[0].encode(), *words[1:], callback=AS_IT_COMES)
        return list(pipeline.results or ())

    async def close(self) -> None:
        await self._stack.aclose()


async def connect(port: int) -> Coredis:
    stack = AsyncExitStack()
    return Coredis(await stack.enter_async_context(coredis.Redis(port=port, **OPTIONS)), stack)


async def together(calls: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    replies: list[Any] = [None] * len(calls)

    async def run(number: int) -> None:
        replies[number] = await calls[number]()

    async with trio.open_nursery() as nursery:
        for number in range(len(calls)):
            nursery.start_soon(run, number)
    return replies


if __name__ == "__main__":
    trio.run(play, connect, together)
