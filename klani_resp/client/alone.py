"""Commands on a connection of their own, beside the client's pool and without its retries.

For what takes longer than the client's read time-out, and for what has to be said when the client's own
connections have failed, within a time that is known.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis.asyncio.connection
import redis.connection

from klani_resp.client.words import Command

# A read without a time-out would wait for ever for a machine that is gone.
_KEEPALIVE_SECONDS = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_UNIX = (redis.connection.UnixDomainSocketConnection, redis.asyncio.connection.UnixDomainSocketConnection)

Ask = Callable[[Command[Any]], Any]
AsyncAsk = Callable[[Command[Any]], Coroutine[Any, Any, Any]]


@contextmanager
def alone(client: Any, seconds: float | None) -> Iterator[Ask]:
    """`seconds` for each step; None: as the client connects, then as long as it takes."""
    connection = _connection(client.connection_pool, seconds)

    def ask(command: Command[Any]) -> Any:
        connection.send_command(*command.words)
        return command.parse(connection.read_response(disable_decoding=True))

    try:
        connection.connect()
        yield ask
    finally:
        connection.disconnect()


@asynccontextmanager
async def alone_async(client: Any, seconds: float | None) -> AsyncIterator[AsyncAsk]:
    connection = _connection(client.connection_pool, seconds)

    async def ask(command: Command[Any]) -> Any:
        await connection.send_command(*command.words)
        return command.parse(await connection.read_response(disable_decoding=True))

    try:
        await connection.connect()
        yield ask
    except BaseException:  # a server that hangs would not see TLS's goodbye either
        await connection.disconnect(nowait=True)
        raise
    await connection.disconnect()


def _connection(pool: Any, seconds: float | None) -> Any:
    options = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if not name.startswith(("maint_", "orig_"))  # redis-py 8 would set the time-outs by these
    }
    if seconds is None:
        connect = options.get("socket_connect_timeout") or options.get("socket_timeout")
        if not issubclass(pool.connection_class, _UNIX):
            options["socket_keepalive"] = True
            if options.get("socket_keepalive_options") is None:
                options["socket_keepalive_options"] = _keepalive()
    else:
        connect = seconds
        options |= {"retry": None, "retry_on_error": [], "retry_on_timeout": False}
    return pool.connection_class(**{**options, "socket_timeout": seconds, "socket_connect_timeout": connect})


def _keepalive() -> dict[int, int]:
    return {
        getattr(socket, name): value for name, value in _KEEPALIVE_SECONDS.items() if hasattr(socket, name)
    }
