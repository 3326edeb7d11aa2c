"""Commands of the simulated clients: as values, as bytes of a request, and their replies as plain values.

A reply is: a token or None (TRYLOCK); the row's fields or None (SEEK); whether the row is listed (INTERSECT);
"OK" (REPLACE); a number (UNLOCK, INSERT); a tuple of these (MULTI); the first word of an error. `LOST` stands
where no reply came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.conftest import frame, pairs_of

TABLE = b"seats"
SCHEMA = (b"state", b"U8", b"INDEX", b"writer", b"U64", b"prev", b"U64", b"note", b"BYTES", b"12")
FIELDS = (b"state", b"writer", b"prev", b"note")
DEFAULT_LEASE_MS = 10_000

Fields = tuple[int, int, int, bytes]  # state, writer, prev, note
EMPTY: Fields = (0, 0, 0, b"")


class Lost:
    def __repr__(self) -> str:
        return "no reply"


LOST = Lost()


@dataclass(frozen=True, slots=True)
class TryLock:
    rows: tuple[int, ...]
    ms: int | None = None
    owner: bytes | None = None

    def words(self) -> list[bytes]:
        words = [b"KL.TRYLOCK", *map(_key, self.rows)]
        if self.ms is not None:
            words += [b"PX", b"%d" % self.ms]
        return words if self.owner is None else [*words, b"OWNER", self.owner]


@dataclass(frozen=True, slots=True)
class Seek:
    row: int

    def words(self) -> list[bytes]:
        return [b"KL.SEEK", _key(self.row)]


@dataclass(frozen=True, slots=True)
class Find:
    """Whether the posting list of a state has the row; with `free`, and it is not locked."""

    row: int
    state: int
    free: bool = False

    def words(self) -> list[bytes]:
        words = [b"KL.INTERSECT", TABLE, b"state", b"%d" % self.state, b"LIMIT", b"1"]
        if self.row:
            words += [b"AFTER", b"%d" % (self.row - 1)]
        return [*words, b"FREE"] if self.free else words


@dataclass(frozen=True, slots=True)
class Replace:
    row: int
    token: int
    fields: Fields
    unlock: bool = False

    def words(self) -> list[bytes]:
        words = [b"KL.REPLACE", _key(self.row), b"%d" % self.token, *_pairs(self.fields)]
        return [*words, b"UNLOCK"] if self.unlock else words


@dataclass(frozen=True, slots=True)
class Unlock:
    rows: tuple[int, ...]
    token: int

    def words(self) -> list[bytes]:
        return [b"KL.UNLOCK", *map(_key, self.rows), b"%d" % self.token]


@dataclass(frozen=True, slots=True)
class Insert:
    row: int
    fields: Fields

    def words(self) -> list[bytes]:
        return [b"KL.INSERT", _key(self.row), *_pairs(self.fields)]


Single = TryLock | Seek | Find | Replace | Unlock | Insert


@dataclass(frozen=True, slots=True)
class Multi:
    parts: tuple[Single, ...]


@dataclass(frozen=True, slots=True)
class Crash:
    """No command of a client: the server died, and all locks with it."""


Command = Single | Multi | Crash


def rows_of(command: Command) -> tuple[int, ...]:
    if isinstance(command, Multi):
        return tuple(row for part in command.parts for row in rows_of(part))
    if isinstance(command, TryLock | Unlock):
        return command.rows
    return () if isinstance(command, Crash) else (command.row,)


def is_read(command: Command) -> bool:
    if isinstance(command, Multi):
        return all(map(is_read, command.parts))
    return isinstance(command, Seek | Find)


def request(command: Command) -> bytes:
    if isinstance(command, Multi):
        return b"".join([frame(b"MULTI"), *map(request, command.parts), frame(b"EXEC")])
    assert not isinstance(command, Crash)
    return frame(*command.words())


def replies_of(command: Command) -> int:
    """How many come for it; the last is the one that counts."""
    return len(command.parts) + 2 if isinstance(command, Multi) else 1


def plain(command: Command, reply: Any) -> Any:
    """What hiredis made of a reply, in either protocol version."""
    if isinstance(reply, Exception):
        return str(reply).partition(" ")[0]
    if isinstance(command, Multi):
        return tuple(plain(part, one) for part, one in zip(command.parts, reply, strict=True))
    if isinstance(command, Seek) and reply is not None:
        fields = pairs_of(reply)
        return tuple(fields[name] for name in FIELDS)
    if isinstance(command, Find):
        return reply == [command.row]
    return reply.decode() if isinstance(reply, bytes) else reply


def _key(row: int) -> bytes:
    """Both spellings of one row."""
    return b"%d" % row if row % 2 else b"%b:%d" % (TABLE, row)


def _pairs(fields: Fields) -> list[bytes]:
    values = (value if isinstance(value, bytes) else b"%d" % value for value in fields)
    return [word for pair in zip(FIELDS, values, strict=True) for word in pair]
