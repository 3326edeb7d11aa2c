"""What the players in Python share: a job as JSON on stdin, what the client gave for it as JSON on stdout.

A player runs where its client is installed, with nothing else of ours: only the standard library is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Words = list[Any]
SENDINGS_MAX = 20


class Client(Protocol):
    """A stock client, in its own ways of saying these."""

    async def call(self, words: Words) -> Any:
        """The reply; a refusal is raised."""

    async def batch(self, commands: list[Words], transaction: bool) -> list[Any]:
        """A pipeline's replies, refusals among them; raises when there are none."""

    async def close(self) -> None: ...


Connect = Callable[[int], Awaitable[Client]]
Together = Callable[[list[Callable[[], Awaitable[Any]]]], Awaitable[list[Any]]]


def plain(value: Any) -> Any:
    """A reply as JSON can say it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, BaseException):
        return {"error": f"{value}"}
    if isinstance(value, dict):
        return {str(plain(name)): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


async def answer(client: Client, words: Words) -> Any:
    """The reply, or the error that the client raises for it."""
    try:
        return plain(await client.call(words))
    except Exception as error:
        return plain(error)


async def tell(client: Client, commands: list[Words]) -> list[Any]:
    replies: list[Any] = []
    for words in commands:
        replies.append(await answer(client, [_word(word, replies) for word in words]))
    return replies


def _word(word: Any, replies: list[Any]) -> str:
    if not isinstance(word, dict):
        return str(word)
    reply = replies[word["reply"]]
    return str(reply if word["part"] is None else reply[word["part"]])


async def batch(client: Client, commands: list[Words], *, transaction: bool) -> Any:
    try:
        return plain(await client.batch(commands, transaction))
    except Exception as error:
        return plain(error)


async def crowd(connect: Connect, together: Together, port: int, job: dict[str, Any]) -> Any:
    """Clients that all want the same at the same time."""
    clients = [await connect(port) for _ in range(job["clients"])]
    begun = await tell(clients[0], job["begins"])

    def asking(client: Client) -> Callable[[], Awaitable[Any]]:
        return lambda: answer(client, job["command"])

    replies = await together([asking(client) for client in clients])
    for client in reversed(clients):  # coredis's are nurseries, one within the other
        await client.close()
    return {"begun": begun, "replies": replies}


async def lossy(connect: Connect, direct: Client, job: dict[str, Any]) -> Any:
    """Through a proxy that ends connections in place of replies: sent until there is one, as a shop does."""
    begun = await tell(direct, job["begins"])
    client = await connect(job["port"])
    replies = []
    for words in job["commands"]:
        for _ in range(SENDINGS_MAX):
            reply = await answer(client, words)
            if not isinstance(reply, dict):
                break
        replies.append(reply)
    await client.close()
    return {"begun": begun, "replies": replies}


async def play(connect: Connect, together: Together) -> None:
    job, port = json.load(sys.stdin), int(sys.argv[1])
    client = await connect(port)
    done: dict[str, Any] = {"story": await tell(client, job["story"])}
    done["pipeline"] = await batch(client, job["pipeline"], transaction=False)
    done["transaction"] = await batch(client, job["transaction"], transaction=True)
    done["spoiled"] = await batch(client, job["spoiled"], transaction=True)
    done["after"] = await tell(client, [["KL.SEEK", "seats:600"], ["ECHO", "x"]])
    done["crowd"] = await crowd(connect, together, port, job["crowd"])
    if job["lossy"] is not None:
        done["lossy"] = await lossy(connect, client, job["lossy"])
    await client.close()
    print()  # behind whatever the client logged
    print(json.dumps(done))
