"""`with kl.lock(42) as row`: locked, read in the same round trip, and let go of at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from redis.exceptions import RedisError

from klani_resp.client import table_verbs
from klani_resp.client.errors import Locked
from klani_resp.client.values import Fields, Key, Row, Word
from klani_resp.client.words import Command

if TYPE_CHECKING:
    from klani_resp.client.front import KL, AsyncKL

RowT = TypeVar("RowT", bound="_LockedRow")
HeldT = TypeVar("HeldT")


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
        self._token = 0
        self._rows: dict[Key, RowT] = {}

    def opening(self) -> list[Command[Any]]:
        """One attempt; sent again as it is by redis-py, it is the same attempt still."""
        first, *more = self._keys
        return [table_verbs.trylock(first, *more, ms=self._ms), *map(table_verbs.seek, self._keys)]

    def token_of(self, results: list[Any]) -> int:
        token: int | None = results[0]
        if token is None:
            raise Locked(f"one of {', '.join(map(str, self._keys))} is locked or held by another")
        self._token = token
        return token

    def opened(self, rows: dict[Key, RowT]) -> Any:
        """What `with` binds: the row, or a tuple of rows in the order of their keys."""
        self._rows = rows
        chosen = tuple(rows[key] for key in self._asked)
        return chosen if len(chosen) > 1 else chosen[0]

    def closing(self) -> Command[int] | None:
        left = [key for key, row in self._rows.items() if not row.is_unlocked]
        return table_verbs.unlock(*left, token=self._token) if left else None

    def read(self, results: list[Any]) -> list[tuple[Key, Row]]:
        return list(zip(self._keys, cast(list[Row], results[1:]), strict=True))


class Lock(Generic[HeldT]):
    """Not waited for: entering raises Locked when a row is taken."""

    def __init__(self, kl: KL, keys: Sequence[Key], ms: int | None) -> None:
        self._kl = kl
        self._lease: _Lease[LockedRow] = _Lease(keys, ms)

    def __enter__(self) -> HeldT:
        with self._kl.pipeline(transaction=False) as pipe:
            for command in self._lease.opening():
                pipe.run(command)
            results = pipe.execute()
        token = self._lease.token_of(results)
        rows = {key: LockedRow(self._kl, key, token, row) for key, row in self._lease.read(results)}
        return cast(HeldT, self._lease.opened(rows))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._lease.closing()
        if closing is None:
            return
        if error is None:
            self._kl.run(closing)
        else:
            with suppress(RedisError):  # the block's own error is to be seen; the lease ends by itself
                self._kl.run(closing)


class AsyncLock(Generic[HeldT]):
    """Not waited for: entering raises Locked when a row is taken."""

    def __init__(self, kl: AsyncKL, keys: Sequence[Key], ms: int | None) -> None:
        self._kl = kl
        self._lease: _Lease[AsyncLockedRow] = _Lease(keys, ms)

    async def __aenter__(self) -> HeldT:
        async with self._kl.pipeline(transaction=False) as pipe:
            for command in self._lease.opening():
                pipe.run(command)
            results = await pipe.execute()
        token = self._lease.token_of(results)
        rows = {key: AsyncLockedRow(self._kl, key, token, row) for key, row in self._lease.read(results)}
        return cast(HeldT, self._lease.opened(rows))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._lease.closing()
        if closing is None:
            return
        if error is None:
            await self._kl.run(closing)
        else:
            with suppress(RedisError):  # the block's own error is to be seen; the lease ends by itself
                await self._kl.run(closing)


def _as_bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
