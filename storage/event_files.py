"""The events behind the log, in files: each checkpoint adds those since the last one.

Layout: magic, crc of all behind it, number of events; then each event's length and itself. The CHECKPOINT
names the files in their order. When those that were added are as much as the first one, all are put
together: what has no effect any more is left out, so the files do not grow with the shop's age. Reading and
writing goes in steps, beside the loop.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from storage.errors import DamageError
from storage.events import Event, Verb, decode, encode
from storage.fs import Fs, read_file, replace_durably
from storage.holds import digest_of

MAGIC = b"KLANIEVT"
HEAD = struct.Struct("<8sII")  # magic, crc32 of the count and the rest, count
_LENGTH = struct.Struct("<I")
MERGED_FROM = 4  # files
_STEP_BYTES = 64 << 10
_STEP_EVENTS = 64


def save(fs: Fs, path: Path, bodies: list[bytes]) -> Generator[None, None, int]:
    """Writes the file so that a crash leaves it whole or not there; answers its bytes."""
    parts, part = [], bytearray()
    for body in bodies:
        part += _LENGTH.pack(len(body)) + body
        if len(part) >= _STEP_BYTES:
            parts.append(bytes(part))
            part.clear()
            yield
    parts.append(bytes(part))
    crc = zlib.crc32(_LENGTH.pack(len(bodies)))
    for piece in parts:
        crc = zlib.crc32(piece, crc)
        yield
    with replace_durably(fs, path) as fd:
        offset = 0
        for piece in (HEAD.pack(MAGIC, crc, len(bodies)), *parts):
            fs.pwrite(fd, piece, offset)
            offset += len(piece)
            yield
    return offset


def load(fs: Fs, path: Path) -> Iterator[bytes]:
    """The encoded events. Raises DamageError before the first if anything is wrong with the file."""
    if not fs.exists(path):
        raise DamageError(f"{path}: what is remembered of sales is missing; nothing was changed")
    data = read_file(fs, path)
    magic, crc, count = HEAD.unpack_from(data) if len(data) >= HEAD.size else (b"", 0, 0)
    if magic != MAGIC or zlib.crc32(memoryview(data)[HEAD.size - 4 :]) != crc:
        raise DamageError(f"{path}: its checksum is wrong: acknowledged data is damaged; nothing was changed")
    offset = HEAD.size
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size + length
        yield data[offset - length : offset]


def load_all(fs: Fs, directory: Path, names: Iterable[str]) -> Generator[None, None, list[Event]]:
    """What the files of a checkpoint hold, in its order. Raises DamageError."""
    events: list[Event] = []
    for name in names:
        for body in load(fs, directory / name):
            events.append(decode(body))
            if len(events) % _STEP_EVENTS == 0:
                yield
    return events


class Merge:
    """Events put together: `add` each in its order, then `result`."""

    def __init__(self, tables: set[int], now_ms: int, keep_ms: int) -> None:
        self._tables = tables
        self._forgotten_ms = now_ms - keep_ms  # what ended by then
        self._kept: dict[int, Event] = {}
        self._of_hold: dict[int, list[int]] = {}
        self._units: dict[tuple[int, bytes, int, str], int] = {}
        self._count = 0

    def add(self, event: Event) -> None:
        if event.table not in self._tables:
            return
        number = self._count = self._count + 1
        verb, token = event.verb, event.token
        if verb == Verb.HOLD:
            self._drop(event.replacing)
            self._kept[number] = event
            self._of_hold[token] = [number]
        elif verb in (Verb.EXTEND, Verb.CONFIRM):
            if token in self._of_hold:
                self._kept[number] = event
                self._of_hold[token].append(number)
        elif verb == Verb.RELEASE:
            self._drop(token)
        else:
            self._sum(event)
            if event.request:
                self._remember(number, event)

    def _sum(self, event: Event) -> None:
        if event.units and event.owner:
            digest = event.owner if event.verb == Verb.OWNED else digest_of(event.owner)
            self._owned(
                event.table, digest, event, -event.units if event.verb == Verb.RETURN else event.units
            )

    def _owned(self, table: int, digest: bytes, event: Event, units: int) -> None:
        key = (table, digest, event.rows[0], event.field)
        self._units[key] = self._units.get(key, 0) + units

    def _remember(self, number: int, event: Event) -> None:
        if event.at > self._forgotten_ms:
            self._kept[number] = Event(
                Verb.ANSWERED,
                event.table,
                event.at,
                request=event.request,
                args=event.args,
                answer=event.answer,
            )

    def _drop(self, token: int) -> None:
        """The hold has no effect any more, but for what it was answered and what was sold with it."""
        numbers = self._of_hold.pop(token, None)
        if numbers is None:
            return
        whole = [self._kept.pop(number) for number in numbers]
        hold = whole[0]
        if hold.units and whole[-1].verb == Verb.CONFIRM:
            self._owned(hold.table, digest_of(hold.owner), hold, hold.units)
        if hold.request:
            self._remember(numbers[0], hold)

    def result(self) -> list[bytes]:
        for token, numbers in list(self._of_hold.items()):
            last = self._kept[numbers[-1]]
            ended = last.at if last.verb == Verb.CONFIRM else last.deadline
            if ended <= self._forgotten_ms:
                self._drop(token)
        owned = [
            Event(Verb.OWNED, table, rows=(row,), owner=digest, field=field, units=units)
            for (table, digest, row, field), units in self._units.items()
            if units
        ]
        in_order = [self._kept[number] for number in sorted(self._kept)]
        return [encode(event) for event in (*owned, *in_order)]


def merged(
    fs: Fs, paths: list[Path], bodies: list[bytes], merge: Merge
) -> Generator[None, None, list[bytes]]:
    for path in paths:
        for count, body in enumerate(load(fs, path)):
            merge.add(decode(body))
            if count % _STEP_EVENTS == 0:
                yield
    for count, body in enumerate(bodies):
        merge.add(decode(body))
        if count % _STEP_EVENTS == 0:
            yield
    return merge.result()


def is_merge_wanted(files: dict[str, int], more_bytes: int) -> bool:
    """When what was added since is as much as what the first file has: so each event is written twice."""
    first, *added = files.values() or (0,)
    return len(files) >= MERGED_FROM and sum(added) + more_bytes >= first
