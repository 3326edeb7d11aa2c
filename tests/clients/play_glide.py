"""valkey-glide plays: `play_glide.py PORT [RESP2]`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from glide import Batch, GlideClient, GlideClientConfiguration, NodeAddress, ProtocolVersion

from tests.clients.playing import Words, play

OPTIONS: dict[str, Any] = {"protocol": ProtocolVersion.RESP2} if sys.argv[2:] == ["RESP2"] else {}


class Glide:
    def __init__(self, client: GlideClient) -> None:
        self._client = client

    async def call(self, words: Words) -> Any:
        return await self._client.custom_command(words)

    async def batch(self, commands: list[Words], transaction: bool) -> list[Any]:
        batch = Batch(is_atomic=transaction)
        for words in commands:
            batch.custom_command(words)
        return list(await self._client.exec(batch, raise_on_error=False) or ())

    async def close(self) -> None:
        await self._client.close()


async def connect(port: int) -> Glide:
    addresses = [NodeAddress("127.0.0.1", port)]
    return Glide(await GlideClient.create(GlideClientConfiguration(addresses, **OPTIONS)))


async def together(calls: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    return list(await asyncio.gather(*[call() for call in calls]))


if __name__ == "__main__":
    asyncio.run(play(connect, together))
