"""Commands of the simulated clients: as values, as bytes of a request, and their replies as plain values.

A reply is: a token or None (TRYLOCK); the row's fields or None (SEEK); whether the row is listed (INTERSECT);
"OK" (REPLACE); a number (UNLOCK, INSERT, RELEASE); ids (CLAIM, CONFIRM); token, ids and deadline, or no ids
(HOLD); True (EXTEND); (token, owner, ids, ms left) of each (HOLDS); verb, token of a lock, owner, request and
fields of each write (HISTORY); a tuple of these (MULTI); the first word of an error, and the ids behind
RESOLD. `LOST` stands where no reply came.

Rows of a hall are in a table of their own: the selling verbs choose among those that have the hall's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.conftest import frame, pairs_of

TABLE = b"seats"
SCHEMA = (b"state", b"U8", b"INDEX", b"writer", b"U64", b"prev", b"U64", b"note", b"BYTES", b"12")
FIELDS = (b"state", b"writer", b"prev", b"note")
HALLS = b"halls"
HALLS_FROM = 1 << 20  # rows from here on are of this table
ROWS_PER_HALL = 16
HALL_SCHEMA = (*SCHEMA, b"hall", b"U32", b"INDEX")
DOORS = b"doors"  # sold by units of a counter, which stands in `writer`
DOORS_FROM = 1 << 24
DOOR_SCHEMA = tuple(b"COUNTER" if word == b"U64" and at == 4 else word for at, word in enumerate(SCHEMA))
PAST_WRITES = 3  # of a row, that KL.HISTORY is asked for
TABLES = {TABLE: SCHEMA, HALLS: HALL_SCHEMA, DOORS: DOOR_SCHEMA}
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
        words = [b"KL.INTERSECT", _table(self.row), b"state", b"%d" % self.state, b"LIMIT", b"1"]
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
        words = [b"KL.INSERT", _key(self.row), *_pairs(self.fields)]
        return [*words, b"hall", _hall(self.row)] if _table(self.row) == HALLS else words


@dataclass(frozen=True, slots=True)
class Claim:
    hall: tuple[int, ...]  # all of its rows, ascending: what may be claimed, and looked at
    want: int  # the state that a row must have
    fields: Fields
    count: int | None = None
    ids: tuple[int, ...] = ()
    owner: bytes | None = None
    most: int | None = None
    request: bytes | None = None

    def words(self) -> list[bytes]:
        return [*_wanted(b"KL.CLAIM", self), b"SET", *_pairs(self.fields), *_choice(self)]


@dataclass(frozen=True, slots=True)
class Hold:
    hall: tuple[int, ...]
    want: int
    ms: int
    owner: bytes
    count: int | None = None
    ids: tuple[int, ...] = ()
    most: int | None = None
    request: bytes | None = None
    replacing: int | None = None

    def words(self) -> list[bytes]:
        words = [*_wanted(b"KL.HOLD", self), b"PX", b"%d" % self.ms, *_choice(self)]
        return words if self.replacing is None else [*words, b"REPLACING", b"%d" % self.replacing]


@dataclass(frozen=True, slots=True)
class Confirm:
    token: int
    fields: Fields
    of_units: bool = False  # the note is all that it may set then

    def words(self) -> list[bytes]:
        words = _pairs(self.fields)
        return [b"KL.CONFIRM", b"%d" % self.token, b"SET", *(words[-2:] if self.of_units else words)]


@dataclass(frozen=True, slots=True)
class Release:
    token: int

    def words(self) -> list[bytes]:
        return [b"KL.RELEASE", b"%d" % self.token]


@dataclass(frozen=True, slots=True)
class Extend:
    token: int
    ms: int

    def words(self) -> list[bytes]:
        return [b"KL.EXTEND", b"%d" % self.token, b"PX", b"%d" % self.ms]


@dataclass(frozen=True, slots=True)
class Take:
    """Units of a counter, claimed; or with `ms` held."""

    row: int
    units: int
    owner: bytes
    ms: int | None = None
    most: int | None = None
    request: bytes | None = None

    def words(self) -> list[bytes]:
        words = [b"KL.CLAIM" if self.ms is None else b"KL.HOLD", DOORS, b"IDS", b"1", b"%d" % self.row]
        words += [b"TAKE", b"%d" % self.units, b"FROM", b"writer", b"FOR", self.owner]
        if self.ms is not None:
            words += [b"PX", b"%d" % self.ms]
        if self.most is not None:
            words += [b"MAX", b"%d" % self.most]
        return _known_as(words, self.request)


@dataclass(frozen=True, slots=True)
class Return:
    """Rows that get `fields`; or with `units` so many of the one row's counter."""

    rows: tuple[int, ...]
    owner: bytes
    fields: Fields = EMPTY
    units: int = 0
    request: bytes | None = None

    def words(self) -> list[bytes]:
        words = [b"KL.RETURN", _table(self.rows[0]), b"FOR", self.owner, *(b"%d" % row for row in self.rows)]
        if self.units:
            words += [b"TAKE", b"%d" % self.units, b"FROM", b"writer"]
        else:
            words += [b"SET", *_pairs(self.fields)]
        return _known_as(words, self.request)


@dataclass(frozen=True, slots=True)
class Holds:
    """What an owner holds in the table that the rows are of; it holds nothing in other rows of it."""

    rows: tuple[int, ...]
    owner: bytes

    def words(self) -> list[bytes]:
        return [b"KL.HOLDS", _table(self.rows[0]), b"FOR", self.owner]


@dataclass(frozen=True, slots=True)
class Past:
    """The last writes of a row, newest first."""

    row: int

    def words(self) -> list[bytes]:
        return [b"KL.HISTORY", _key(self.row), b"LIMIT", b"%d" % PAST_WRITES]


Buying = Claim | Hold | Take | Return  # what may have a REQUEST
Selling = Buying | Confirm | Release | Extend | Holds
Read = Seek | Find | Holds | Past
Single = Past | TryLock | Seek | Find | Replace | Unlock | Insert | Selling


@dataclass(frozen=True, slots=True)
class Multi:
    parts: tuple[Single, ...]


@dataclass(frozen=True, slots=True)
class Crash:
    """No command of a client: the server died, and all locks with it."""

    down_ns: int = 0  # for so long at least there was none; holds do not count that time


Command = Single | Multi | Crash


def rows_of(command: Command) -> tuple[int, ...]:
    """Those that it names; the rows of a hold's token are for the model to say."""
    if isinstance(command, Multi):
        return tuple(row for part in command.parts for row in rows_of(part))
    if isinstance(command, TryLock | Unlock | Return | Holds):
        return command.rows
    if isinstance(command, Claim | Hold):
        return command.hall
    return () if isinstance(command, Crash | Confirm | Release | Extend) else (command.row,)


def is_read(command: Command) -> bool:
    if isinstance(command, Multi):
        return all(map(is_read, command.parts))
    return isinstance(command, Read)


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
        first, *others = str(reply).split(" ")
        return (first, *map(int, others)) if first == "RESOLD" else first
    if isinstance(command, Multi):
        return tuple(plain(part, one) for part, one in zip(command.parts, reply, strict=True))
    if isinstance(command, Seek) and reply is not None:
        fields = pairs_of(reply)
        return tuple(fields[name] for name in FIELDS)
    if isinstance(command, Find):
        return reply == [command.row]
    if isinstance(command, Holds):
        return tuple((token, owner, tuple(ids), ms_left) for token, owner, ids, ms_left in reply)
    if isinstance(command, Past):
        return tuple(map(_write, reply))
    if isinstance(command, Claim | Confirm) or (isinstance(command, Take) and command.ms is None):
        return tuple(reply)
    if isinstance(command, Hold | Take):
        return (reply[0], tuple(reply[1]), reply[2]) if reply else ()
    if isinstance(command, Extend):
        return isinstance(reply, int)
    return reply.decode() if isinstance(reply, bytes) else reply


def token_of(command: Command, reply: Any) -> int | None:
    """The fencing token that a reply told of."""
    if isinstance(command, TryLock) and isinstance(reply, int):
        return reply
    if makes_hold(command) and isinstance(reply, tuple) and reply:
        token: int = reply[0]
        return token
    return None


def resent_as(command: Command) -> bytes | None:
    """What a command and its resends have in common, so that they may be given one token."""
    if isinstance(command, TryLock):
        return command.owner
    return command.request if isinstance(command, Hold | Take) else None


def makes_hold(command: Command) -> bool:
    return isinstance(command, Hold) or (isinstance(command, Take) and command.ms is not None)


def _write(entry: Any) -> tuple[Any, ...]:
    """Of KL.HISTORY. A sale's token is for nobody to know before."""
    one = pairs_of(entry)
    verb, row = one[b"verb"].decode(), pairs_of(one[b"row"])
    token = one[b"token"] if verb == "replace" else None
    return verb, token, one[b"owner"], one[b"request"], tuple(row[name] for name in FIELDS)


def _key(row: int) -> bytes:
    """Both spellings of one row."""
    if row >= HALLS_FROM:
        return b"%b:%d" % (_table(row), row)
    return b"%d" % row if row % 2 else b"%b:%d" % (TABLE, row)


def _table(row: int) -> bytes:
    return DOORS if row >= DOORS_FROM else HALLS if row >= HALLS_FROM else TABLE


def _hall(row: int) -> bytes:
    return b"%d" % (row // ROWS_PER_HALL)


def _wanted(verb: bytes, command: Claim | Hold) -> list[bytes]:
    return [verb, HALLS, b"hall", _hall(command.hall[0]), b"state", b"%d" % command.want]


def _choice(command: Claim | Hold) -> list[bytes]:
    words = [] if command.count is None else [b"COUNT", b"%d" % command.count]
    if command.ids:
        words += [b"IDS", b"%d" % len(command.ids), *(b"%d" % row for row in command.ids)]
    if command.owner is not None:
        words += [b"FOR", command.owner]
    if command.most is not None:
        words += [b"MAX", b"%d" % command.most]
    return _known_as(words, command.request)


def _known_as(words: list[bytes], request: bytes | None) -> list[bytes]:
    return words if request is None else [*words, b"REQUEST", request]


def _pairs(fields: Fields) -> list[bytes]:
    values = (value if isinstance(value, bytes) else b"%d" % value for value in fields)
    return [word for pair in zip(FIELDS, values, strict=True) for word in pair]
