"""The events behind the log, in files: each checkpoint adds those since the last one.

Layout: magic, checksums, number of events; then each event's length and itself. The CHECKPOINT names the
files in their order. When those that were added are as much as the first one, all are put together: what has
no effect any more is left out, so the files do not grow with the shop's age. Reading and writing goes in
steps, beside the loop.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from pathlib import Path

from storage.errors import DamageError
from storage.events import Event, Verb, decode, encode
from storage.fs import Fs, read_file, replace_durably
from storage.holds import digest_of

MAGIC = b"KLANIEVT"
HEAD = struct.Struct("<8sIII")  # magic, crc32 of the next two, number of events, crc32 of all behind
_COUNTS = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
MERGED_FROM = 4  # files
_STEP_BYTES = 64 << 10
_STEP_EVENTS = 16


def save(fs: Fs, path: Path, bodies: Iterable[bytes | None]) -> Generator[None, None, int]:
    """Writes the file so that a crash leaves it whole or not there; answers its bytes. None is a step."""
    with replace_durably(fs, path) as fd:
        part, count, crc, offset = bytearray(), 0, 0, HEAD.size
        for body in bodies:
            if body is not None:
                part += _LENGTH.pack(len(body)) + body
                count += 1
                if len(part) < _STEP_BYTES:
                    continue
                fs.pwrite(fd, bytes(part), offset)
                crc, offset = zlib.crc32(part, crc), offset + len(part)
                part.clear()
            yield
        fs.pwrite(fd, bytes(part), offset)
        head = _COUNTS.pack(count, zlib.crc32(part, crc))
        fs.pwrite(fd, MAGIC + zlib.crc32(head).to_bytes(4, "little") + head, 0)
    return offset + len(part)


def load(fs: Fs, path: Path) -> Iterator[bytes]:
    """The encoded events. The file is read, and DamageError raised if anything is wrong with it, at once."""
    if not fs.exists(path):
        raise DamageError(f"{path}: what is remembered of sales is missing; nothing was changed")
    data = read_file(fs, path)
    magic, head_crc, count, crc = HEAD.unpack_from(data) if len(data) >= HEAD.size else (b"", 0, 0, 0)
    is_sound = magic == MAGIC and zlib.crc32(_COUNTS.pack(count, crc)) == head_crc
    if not is_sound or zlib.crc32(memoryview(data)[HEAD.size :]) != crc:
        raise DamageError(f"{path}: its checksum is wrong: acknowledged data is damaged; nothing was changed")
    return _bodies(data, count)


def _bodies(data: bytes, count: int) -> Iterator[bytes]:
    offset = HEAD.size
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size + length
        yield data[offset - length : offset]


class Merge:
    """Events put together: `add` each in its order, then what is left of holds and counters by `rest`."""

    def __init__(self, tables: set[int], now_ms: int, keep_ms: int) -> None:
        self._tables = tables
        self._forgotten_ms = now_ms - keep_ms  # what ended by then
        self._holds: dict[int, list[Event]] = {}  # by token: the hold, then what was done with it
        self._answered: list[bytes] = []  # of holds that are no more
        self._units: dict[tuple[int, bytes, int, str], int] = {}

    def add(self, event: Event) -> bytes | None:
        """What is to be kept of it at once: a request's answer. All else is kept until `rest`."""
        if event.table not in self._tables:
            return None
        verb, token = event.verb, event.token
        if verb == Verb.HOLD:
            self._drop(event.replacing)
            self._holds[token] = [event]
        elif verb in (Verb.EXTEND, Verb.CONFIRM):
            if token in self._holds:
                self._holds[token].append(event)
        elif verb == Verb.RELEASE:
            self._drop(token)
        else:
            if event.units and event.owner:
                digest = event.owner if verb == Verb.OWNED else digest_of(event.owner)
                self._own(digest, event, -event.units if verb == Verb.RETURN else event.units)
            return self._answer(event)
        return None

    def _own(self, digest: bytes, event: Event, units: int) -> None:
        key = (event.table, digest, event.rows[0], event.field)
        self._units[key] = self._units.get(key, 0) + units

    def _answer(self, event: Event) -> bytes | None:
        if not event.request or event.at <= self._forgotten_ms:
            return None
        return encode(
            Event(
                Verb.ANSWERED,
                event.table,
                event.at,
                request=event.request,
                args=event.args,
                answer=event.answer,
            )
        )

    def _drop(self, token: int) -> None:
        """The hold has no effect any more, but for what it was answered and what was sold with it."""
        hold, *others = self._holds.pop(token, None) or (None,)
        if hold is None:
            return
        if hold.units and others and others[-1].verb == Verb.CONFIRM:
            self._own(digest_of(hold.owner), hold, hold.units)
        answer = self._answer(hold)
        if answer is not None:
            self._answered.append(answer)

    def rest(self) -> list[bytes]:
        for token, (hold, *others) in list(self._holds.items()):
            last = others[-1] if others else hold
            ended = last.at if last.verb == Verb.CONFIRM else last.deadline
            if ended <= self._forgotten_ms:
                self._drop(token)
        owned = [
            Event(Verb.OWNED, table, rows=(row,), owner=digest, field=field, units=units)
            for (table, digest, row, field), units in self._units.items()
            if units
        ]
        holds = [event for group in self._holds.values() for event in group]
        # What was given back of a hold that is kept is less than nothing without it: so that comes last.
        return [*self._answered, *map(encode, holds), *map(encode, owned)]


def merged(fs: Fs, paths: list[Path], bodies: list[bytes], merge: Merge) -> Iterator[bytes | None]:
    """What is to be in the one file; None is a step."""
    for count, body in enumerate(chain(*(load(fs, path) for path in paths), bodies)):
        kept = merge.add(decode(body))
        if kept is not None:
            yield kept
        if count % _STEP_EVENTS == 0:
            yield None
    yield from merge.rest()


def is_merge_wanted(files: dict[str, int], more_bytes: int) -> bool:
    """When what was added since is as much as what the first file has: so each event is written twice."""
    first, *added = files.values() or (0,)
    return len(files) >= MERGED_FROM and sum(added) + more_bytes >= first
