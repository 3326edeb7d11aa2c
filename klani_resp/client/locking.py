"""`with kl.lock(42) as row`: locked, read in the same round trip, and let go of at the end.

What cannot be let go of is logged: its lease ends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from redis.exceptions import RedisError

from klani_resp.client import table_verbs
from klani_resp.client.alone import alone, alone_async
from klani_resp.client.errors import Locked, NoRow, Unanswered
from klani_resp.client.values import Fields, Key, Row, Word
from klani_resp.client.words import Command

if TYPE_CHECKING:
    from klani_resp.client.front import KL, AsyncKL

RowT = TypeVar("RowT", bound="_LockedRow")
HeldT = TypeVar("HeldT")

CLEANUP_SECONDS = 1.0
_log = logging.getLogger(__name__)
_letting_go: set[asyncio.Task[None]] = set()  # the loop itself keeps no task from being collected


class _LockedRow(Row):
    """A row as it was read under its lock; what `replace` writes shows in it."""

    __slots__ = ("is_unlocked", "key", "token")

    def __init__(self, key: Key, token: int, row: Row) -> None:
        super().__init__(row.id, dict(row))
        self.key = key
        self.token = token
        self.is_unlocked = False

    def _replacing(self, fields: Fields, unlock: bool) -> Command[bool]:
        return table_verbs.replace(self.key, self.token, fields, unlock=unlock)

    def _replaced(self, fields: Fields, unlock: bool) -> None:
        for name, word in fields.items():
            is_bytes = isinstance(self._fields[name], bytes)
            self._fields[name] = _as_bytes(word) if is_bytes else int(word)
        self.is_unlocked = self.is_unlocked or unlock


class LockedRow(_LockedRow):
    __slots__ = ("_kl",)

    def __init__(self, kl: KL, key: Key, token: int, row: Row) -> None:
        super().__init__(key, token, row)
        self._kl = kl

    def replace(self, /, *, unlock: bool = False, **fields: Word) -> None:
        """KL.REPLACE: writes these fields, durably; `unlock` lets go in the same step. Raises NoLock."""
        self._kl.run(self._replacing(fields, unlock))
        self._replaced(fields, unlock)


class AsyncLockedRow(_LockedRow):
    __slots__ = ("_kl",)

    def __init__(self, kl: AsyncKL, key: Key, token: int, row: Row) -> None:
        super().__init__(key, token, row)
        self._kl = kl

    async def replace(self, /, *, unlock: bool = False, **fields: Word) -> None:
        """KL.REPLACE: writes these fields, durably; `unlock` lets go in the same step. Raises NoLock."""
        await self._kl.run(self._replacing(fields, unlock))
        self._replaced(fields, unlock)


class _Lease(Generic[RowT]):
    """What is said to the server, and when; no I/O."""

    def __init__(self, keys: Sequence[Key], ms: int | None) -> None:
        self._keys = tuple(dict.fromkeys(keys))
        self._asked = tuple(keys)
        self._ms = ms
        self._begin()

    def _begin(self) -> None:
        first, *more = self._keys
        self.trylock = table_verbs.trylock(first, *more, ms=self._ms)
        self.token: int | None = None
        self._rows: dict[Key, RowT] = {}

    def opening(self) -> list[Command[Any]]:
        """One attempt; sent again as it is, it is the same attempt still."""
        self._begin()
        return [self.trylock, *map(table_verbs.seek, self._keys)]

    def read(self, results: list[Any]) -> tuple[int, list[tuple[Key, Row]]]:
        """The token, and each row under its key."""
        token, *rows = results
        if isinstance(token, Exception):
            raise token
        if token is None:
            raise Locked(f"one of {self} is locked or held by another")
        self.token = token
        for key, row in zip(self._keys, rows, strict=True):
            if isinstance(row, Exception):
                raise row
            if row is None:
                raise NoRow(f"NOROW {_text(key)} has been dropped")
        return token, list(zip(self._keys, rows, strict=True))

    def opened(self, rows: dict[Key, RowT]) -> Any:
        """What `with` binds: the row, or a tuple of rows in the order of their keys."""
        self._rows = rows
        chosen = tuple(rows[key] for key in self._asked)
        return chosen if len(chosen) > 1 else chosen[0]

    def closing(self) -> Command[int] | None:
        left = [key for key, row in self._rows.items() if not row.is_unlocked]
        return table_verbs.unlock(*left, token=self.token) if left and self.token else None

    def letting_go(self, token: int) -> Command[int]:
        return table_verbs.unlock(*self._keys, token=token)

    def is_to_be_let_go(self, error: BaseException) -> bool:
        """Whether rows may be locked after `error` on the way in: not when TRYLOCK was refused or unsent."""
        return self.token is not None or isinstance(error, Unanswered) or not isinstance(error, RedisError)

    def left_to_its_end(self, error: Exception) -> None:
        _log.warning("%s stay locked until the lease ends: %s", self, error)

    def __str__(self) -> str:
        return ", ".join(map(_text, self._keys))


class Lock(Generic[HeldT]):
    """Not waited for: entering raises Locked when a row is taken."""

    def __init__(self, kl: KL, keys: Sequence[Key], ms: int | None) -> None:
        self._kl = kl
        self._lease: _Lease[LockedRow] = _Lease(keys, ms)

    def __enter__(self) -> HeldT:
        opening = self._lease.opening()
        try:
            with self._kl.pipeline(transaction=False) as pipe:
                for command in opening:
                    pipe.run(command)
                token, read = self._lease.read(pipe.execute(raise_on_error=False))
        except BaseException as error:
            if self._lease.is_to_be_let_go(error):
                self._let_go()
            raise
        rows = {key: LockedRow(self._kl, key, token, row) for key, row in read}
        return cast(HeldT, self._lease.opened(rows))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._lease.closing()
        if closing is None:
            return
        try:
            self._kl.run(closing)
        except RedisError as left:  # neither over the block's success nor over its own error
            self._lease.left_to_its_end(left)

    def _let_go(self) -> None:
        """The same attempt again gets the token, when it is not known. Bounded: the server may be gone."""
        try:
            with alone(self._kl.client, CLEANUP_SECONDS) as ask:
                token = self._lease.token or ask(self._lease.trylock)
                if token is not None:
                    ask(self._lease.letting_go(token))
        except (RedisError, OSError) as left:
            self._lease.left_to_its_end(left)


class AsyncLock(Generic[HeldT]):
    """Not waited for: entering raises Locked when a row is taken."""

    def __init__(self, kl: AsyncKL, keys: Sequence[Key], ms: int | None) -> None:
        self._kl = kl
        self._lease: _Lease[AsyncLockedRow] = _Lease(keys, ms)

    async def __aenter__(self) -> HeldT:
        opening = self._lease.opening()
        try:
            async with self._kl.pipeline(transaction=False) as pipe:
                for command in opening:
                    pipe.run(command)
                token, read = self._lease.read(await pipe.execute(raise_on_error=False))
        except (Exception, asyncio.CancelledError) as error:
            if self._lease.is_to_be_let_go(error):
                await self._let_go()
            raise
        rows = {key: AsyncLockedRow(self._kl, key, token, row) for key, row in read}
        return cast(HeldT, self._lease.opened(rows))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._lease.closing()
        if closing is None:
            return
        try:
            await self._kl.run(closing)
        except RedisError as left:  # neither over the block's success nor over its own error
            self._lease.left_to_its_end(left)
        except asyncio.CancelledError:
            await self._let_go()
            raise

    async def _let_go(self) -> None:
        """As of Lock, in a task that goes on when the caller is cancelled once more."""
        task = asyncio.create_task(self._say_it_alone())
        _letting_go.add(task)
        task.add_done_callback(_letting_go.discard)
        await asyncio.wait([task], timeout=CLEANUP_SECONDS)

    async def _say_it_alone(self) -> None:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS), alone_async(self._kl.client, CLEANUP_SECONDS) as ask:
                token = self._lease.token or await ask(self._lease.trylock)
                if token is not None:
                    await ask(self._lease.letting_go(token))
        except (RedisError, OSError) as left:
            self._lease.left_to_its_end(left)


def _text(key: Key) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _as_bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
