"""Pipelines whose results are the typed values, and whose errors are those of klani_resp.client.errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import redis.asyncio.client
import redis.client
from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from klani_resp.client.cancelling import cancellable
from klani_resp.client.errors import of_kl
from klani_resp.client.resending import LOST, Resending
from klani_resp.client.verb import Queues
from klani_resp.client.words import Command

# What redis-py reads MULTI, each QUEUED and EXEC under. EXEC's reply holds those of all commands: so it is
# the one that must not be decoded, for BYTES need not be UTF-8.
_OF_TRANSACTION = "_"


class _RedisPipeline(redis.client.Pipeline):
    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        parse: Callable[..., Any] = super().parse_response
        if command_name == _OF_TRANSACTION:
            options[NEVER_DECODE] = True
        return parse(connection, command_name, **options)

    def annotate_exception(self, exception: Exception, number: int, command: Any) -> None:
        """A note: redis-py would put it before the server's words, whose first is the error's class."""
        _note(exception, command[0], number, len(self.command_stack))


class _AsyncRedisPipeline(redis.asyncio.client.Pipeline):
    async def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        parse: Callable[..., Any] = super().parse_response
        if command_name == _OF_TRANSACTION:
            options[NEVER_DECODE] = True
        return await parse(connection, command_name, **options)

    def annotate_exception(self, exception: Exception, number: int, command: Any) -> None:
        """A note: redis-py would put it before the server's words, whose first is the error's class."""
        _note(exception, command[0], number, len(self.command_stack))


class Pipeline(Queues):
    """Queues verbs; `execute` sends them together. `client` is the redis-py pipeline underneath."""

    def __init__(self, client: redis.Redis, transaction: bool, resends: int) -> None:
        make: Callable[..., redis.client.Pipeline] = _RedisPipeline
        self.client = make(client.connection_pool, client.response_callbacks, transaction, None)
        self._resends = resends
        super().__init__(self.client)

    def run(self, command: Command[Any]) -> Self:
        self._execute(command)
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The results in order. The first error is raised when all have run, or stays in its place."""
        queued = self.client.command_stack
        execute: Callable[..., list[Any]] = self.client.execute
        resending = Resending([options.get("kl_command") for _, options in queued], self._resends)
        while True:
            try:
                results = execute(raise_on_error=False)
                return _judged(queued, results, raise_on_error)
            except ResponseError as error:
                raise of_kl(error) from None
            except LOST as error:
                pause = resending.pause(error)
            time.sleep(pause)
            self.client.command_stack = queued  # redis-py has emptied it

    def __len__(self) -> int:
        return len(self.client.command_stack)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.reset()


class AsyncPipeline(Queues):
    """Queues verbs; `await execute()` sends them together. `client` is the redis-py pipeline underneath."""

    def __init__(self, client: redis.asyncio.Redis, transaction: bool, resends: int) -> None:
        make: Callable[..., redis.asyncio.client.Pipeline] = _AsyncRedisPipeline
        self.client = make(client.connection_pool, client.response_callbacks, transaction, None)
        self._resends = resends
        super().__init__(self.client)

    def run(self, command: Command[Any]) -> Self:
        self._execute(command)
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The results in order. The first error is raised when all have run, or stays in its place."""
        queued = self.client.command_stack
        execute: Callable[..., Any] = self.client.execute
        resending = Resending([options.get("kl_command") for _, options in queued], self._resends)
        while True:
            try:
                results = await cancellable(execute(raise_on_error=False))
                return _judged(queued, results, raise_on_error)
            except ResponseError as error:
                raise of_kl(error) from None
            except LOST as error:
                pause = resending.pause(error)
            await asyncio.sleep(pause)
            self.client.command_stack = queued  # redis-py has emptied it

    def __len__(self) -> int:
        return len(self.client.command_stack)

    def __bool__(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reset: Callable[..., Any] = self.client.reset
        await reset()


def _judged(queued: list[Any], results: list[Any], raise_on_error: bool) -> list[Any]:
    own = [of_kl(one) if isinstance(one, ResponseError) else one for one in results]
    if raise_on_error:
        for number, ((words, _), result) in enumerate(zip(queued, own, strict=True), 1):
            if isinstance(result, ResponseError):
                _note(result, words[0], number, len(own))
                raise result
    return own


def _note(error: Exception, name: object, number: int, count: int) -> None:
    error.add_note(f"answered to {name}, command {number} of {count} in the pipeline")
