"""Every disk that a power loss may leave behind, of what a `FakeDisk` holds at one moment.

A sector that was not synced has each of the contents that it had since its last sync, each sector for itself;
a file's length likewise; each create, rename and unlink whose directory was not synced came to be or did not:
all combinations. On top of it each single sector is garbled, torn in the middle either way, and zeroed, while
all other bytes are kept, and while all are lost. Files named `.tmp` are taken as they are: no start reads
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path

from tests.fake_disk import SECTOR_BYTES, Change, FakeDisk, File

COMBINATIONS_MAX = 4096  # of one moment's unsynced sectors
GARBLED = bytes(range(1, 256)) * 3
NOTHING = bytes(SECTOR_BYTES)

Names = dict[Path, File]


def crash_states(disk: FakeDisk) -> Iterator[FakeDisk]:
    """May give the same state more than once."""
    for names in _names(disk):
        files = {id(file): file for path, file in names.items() if path.suffix != ".tmp"}
        doubtful = [file for file in files.values() if file.unsynced]
        yield from (_disk(disk, names, contents) for contents in _contents(doubtful))


def _names(disk: FakeDisk) -> Iterator[Names]:
    for kept in product((True, False), repeat=len(disk.unsynced_names)):
        names = dict(disk.durably_named)
        for change, is_kept in zip(disk.unsynced_names, kept, strict=True):
            if is_kept:
                change.apply(names)
        yield names


def _disk(disk: FakeDisk, names: Names, contents: dict[int, bytes]) -> FakeDisk:
    """`contents` by the file's id; files that it does not name hold what is synced."""
    after = FakeDisk()
    after.directories = set(disk.directories)
    made: dict[int, File] = {}
    for path, file in names.items():
        if id(file) not in made:
            content = contents.get(id(file), bytes(file.synced))
            made[id(file)] = File(bytearray(content), bytearray(content))
        after.named[path] = made[id(file)]
    after.durably_named = dict(after.named)
    return after


def _contents(files: list[File]) -> Iterator[dict[int, bytes]]:
    if not files:
        yield {}
        return
    choices = [_Choices(file) for file in files]
    assert prod(choice.count for choice in choices) <= COMBINATIONS_MAX, "too many to try them all"
    for combination in product(*(choice.all() for choice in choices)):
        yield {id(file): content for file, content in zip(files, combination, strict=True)}
    for file, choice in zip(files, choices, strict=True):
        for is_kept in (True, False):
            others = {id(other): bytes(other.seen if is_kept else other.synced) for other in files}
            for bad in choice.bad(others[id(file)]):
                yield others | {id(file): bad}


def _sectors(change: Change) -> Iterator[Change]:
    if change.data is None:
        yield change
        return
    begin, end = change.offset, change.offset + len(change.data)
    while begin < end:
        stop = min(end, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Change(begin, change.data[begin - change.offset : stop - change.offset])
        begin = stop


class _Choices:
    """What each sector of one file, and its length, may be."""

    def __init__(self, file: File) -> None:
        self._file = file
        now = bytearray(file.synced)
        self._lengths = {len(now): None}  # a dict keeps the order, so that runs are alike
        self._sectors: dict[int, dict[bytes, None]] = {}
        for change in file.unsynced:
            before = bytes(now)
            change.apply(now)
            self._lengths[len(now)] = None
            for sector in _sectors(change):
                if sector.data is not None:
                    at = sector.offset // SECTOR_BYTES * SECTOR_BYTES
                    versions = self._sectors.setdefault(at, {_sector(before, at): None})
                    versions[_sector(now, at)] = None
        self.count = len(self._lengths) * prod(map(len, self._sectors.values()))

    def all(self) -> Iterator[bytes]:
        for sectors in product(*self._sectors.values()):
            content = bytearray(self._file.synced)
            for at, sector in zip(self._sectors, sectors, strict=True):
                Change(at, sector).apply(content)
            for length in self._lengths:
                yield bytes(content[:length].ljust(length, b"\0"))

    def bad(self, others: bytes) -> Iterator[bytes]:
        """With one bad sector, and the other bytes as given."""
        half = SECTOR_BYTES // 2
        for at, versions in self._sectors.items():
            old, new = next(iter(versions)), _sector(self._file.seen, at)
            for bad in (GARBLED[:SECTOR_BYTES], new[:half] + old[half:], old[:half] + new[half:], NOTHING):
                content = bytearray(others)
                Change(at, bad).apply(content)
                yield bytes(content[: len(self._file.seen)])


def _sector(content: bytes | bytearray, at: int) -> bytes:
    return bytes(content[at : at + SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")
