"""KL and AsyncKL: the verbs over a redis-py client, and what takes more than one command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar, overload

import redis
import redis.asyncio
from redis.exceptions import ResponseError

from klani_resp.client import table_verbs
from klani_resp.client.alone import alone, alone_async
from klani_resp.client.cancelling import cancellable
from klani_resp.client.errors import of_kl
from klani_resp.client.locking import AsyncLock, AsyncLockedRow, Lock, LockedRow
from klani_resp.client.pipelines import AsyncPipeline, Pipeline
from klani_resp.client.resending import LOST, RESENDS, Resending
from klani_resp.client.values import Fields, Key, Row
from klani_resp.client.verb import Answers, Awaits
from klani_resp.client.words import Command, Sent

T = TypeVar("T")

PAGE_ROWS = 100  # of a scan, unless told
BATCH_ROWS = 1000  # of insert_many, in one round trip


class KL(Answers):
    """`KL(redis.Redis(port=7700)).seek(42)`. `client` is the redis-py client, used as it was set up.

    What is safe to be sent twice is sent again up to `resends` times when no answer comes.
    """

    def __init__(self, client: redis.Redis, *, resends: int = RESENDS) -> None:
        _expect(client, redis.Redis)
        super().__init__(client)
        self.client = client
        self._resends = resends
        self._is_queue = isinstance(client, redis.client.Pipeline)

    def run(self, command: Command[T]) -> T:
        resending = Resending((command,), self._resends)
        while True:
            try:
                return self._send(command)
            except ResponseError as error:
                raise of_kl(error) from None
            except LOST as error:
                pause = resending.pause(error)
            time.sleep(pause)

    def _send(self, command: Command[T]) -> T:
        if command.sent is Sent.ONCE and not self._is_queue:
            with alone(self.client, None) as ask:
                answer: T = ask(command)
        else:
            answer = self._execute(command)
        return answer

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """The same verbs, sent together; as one MULTI/EXEC unless told."""
        return Pipeline(self.client, transaction, self._resends)

    @overload
    def lock(self, key: Key, /, *, ms: int | None = None) -> Lock[LockedRow]: ...
    @overload
    def lock(self, key: Key, /, *more: Key, ms: int | None = None) -> Lock[tuple[LockedRow, ...]]: ...
    def lock(self, key: Key, /, *more: Key, ms: int | None = None) -> Lock[Any]:
        """A context: the row, or rows, locked for `ms` at most. Raises Locked when one is taken."""
        return Lock(self, (key, *more), ms)

    def scan(self, table: str, *, page: int = PAGE_ROWS) -> Iterator[Row]:
        """All rows by ascending id, `page` of them in a round trip."""
        cursor = 0
        while True:
            step = self.scan_page(table, cursor, count=page)
            yield from step.rows
            cursor = step.cursor
            if cursor == 0:
                return

    def insert_many(self, table: str, rows: Iterable[tuple[int, Fields]], *, batch: int = BATCH_ROWS) -> int:
        """Inserts `(id, fields)` pairs, `batch` in a round trip; how many. Raises Exists behind its batch."""
        inserted = 0
        for commands in _batches(table, rows, batch):
            with self.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.run(command)
                inserted += len(pipe.execute())
        return inserted


class AsyncKL(Awaits):
    """`await AsyncKL(redis.asyncio.Redis(port=7700)).seek(42)`: KL, awaited."""

    def __init__(self, client: redis.asyncio.Redis, *, resends: int = RESENDS) -> None:
        _expect(client, redis.asyncio.Redis)
        super().__init__(client)
        self.client = client
        self._resends = resends
        self._is_queue = isinstance(client, redis.asyncio.client.Pipeline)

    async def run(self, command: Command[T]) -> T:
        resending = Resending((command,), self._resends)
        while True:
            try:
                return await cancellable(self._send(command))
            except ResponseError as error:
                raise of_kl(error) from None
            except LOST as error:
                pause = resending.pause(error)
            await asyncio.sleep(pause)

    async def _send(self, command: Command[T]) -> T:
        if command.sent is Sent.ONCE and not self._is_queue:
            async with alone_async(self.client, None) as ask:
                answer: T = await ask(command)
        else:
            answer = await self._execute(command)
        return answer

    def pipeline(self, transaction: bool = True) -> AsyncPipeline:
        """The same verbs, sent together; as one MULTI/EXEC unless told."""
        return AsyncPipeline(self.client, transaction, self._resends)

    @overload
    def lock(self, key: Key, /, *, ms: int | None = None) -> AsyncLock[AsyncLockedRow]: ...
    @overload
    def lock(
        self, key: Key, /, *more: Key, ms: int | None = None
    ) -> AsyncLock[tuple[AsyncLockedRow, ...]]: ...
    def lock(self, key: Key, /, *more: Key, ms: int | None = None) -> AsyncLock[Any]:
        """A context: the row, or rows, locked for `ms` at most. Raises Locked when one is taken."""
        return AsyncLock(self, (key, *more), ms)

    async def scan(self, table: str, *, page: int = PAGE_ROWS) -> AsyncIterator[Row]:
        """All rows by ascending id, `page` of them in a round trip."""
        cursor = 0
        while True:
            step = await self.scan_page(table, cursor, count=page)
            for row in step.rows:
                yield row
            cursor = step.cursor
            if cursor == 0:
                return

    async def insert_many(
        self, table: str, rows: Iterable[tuple[int, Fields]], *, batch: int = BATCH_ROWS
    ) -> int:
        """Inserts `(id, fields)` pairs, `batch` in a round trip; how many. Raises Exists behind its batch."""
        inserted = 0
        for commands in _batches(table, rows, batch):
            async with self.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.run(command)
                inserted += len(await pipe.execute())
        return inserted


def _expect(client: object, kind: type) -> None:
    """A cluster's client, or one of the other kind, would fail later and in stranger words."""
    if not isinstance(client, kind):
        given = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(f"KL is over a redis.Redis, AsyncKL over a redis.asyncio.Redis; this is a {given}")


def _batches(table: str, rows: Iterable[tuple[int, Fields]], size: int) -> Iterator[list[Command[bool]]]:
    if size < 1:
        raise ValueError(f"batch is 1 or more, not {size}")
    commands = (table_verbs.insert(f"{table}:{row_id}", fields) for row_id, fields in rows)
    while batch := list(islice(commands, size)):
        yield batch
