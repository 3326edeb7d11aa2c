"""Counts from disk for KL.VERIFY: plain functions over an `Fs` that know no engine.

They run in this process (`InPlace`, on any `Fs`) or in one of their own (storage.counting_process). Both
read what is on disk through fresh descriptors and have nothing from the server but the question.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from pyroaring import BitMap

from storage import format as fmt
from storage import index_file
from storage.errors import DamageError, StartError, StoreError
from storage.fs import Fs, size_of
from storage.log_reader import read_log, records
from storage.manifest import Manifest
from storage.row_file import table_path
from storage.scan import Needle, RowFile
from storage.schema import Schema, Value

DIGEST_ROWS = 1 << 20  # at a time: 4 MiB


@dataclass(frozen=True, slots=True)
class Question:
    """Which rows of a table have the value in the field at a log position? The log is durable up to there."""

    directory: Path
    table: int
    schema: list[list[Any]]
    name: bytes
    value: Value
    position: int
    log_bytes: int  # on disk, of the segments that a reader of the log goes through


@dataclass(slots=True)
class Counted:
    """`is_whole` is False when the log or the index is damaged, or the log ends before the position."""

    rows: int = 0
    matched: BitMap = field(default_factory=BitMap)
    corrupt: set[int] = field(default_factory=set)
    is_whole: bool = True

    def sum(self) -> Sum:
        return Sum(self.rows, len(self.matched), _digest(self.matched), sorted(self.corrupt), self.is_whole)


def _digest(rows: BitMap) -> str:
    """Of the ids: the compressed form of a set depends on how it was put together."""
    digest = blake2b(digest_size=16)
    for begin in range(0, len(rows), DIGEST_ROWS):
        digest.update(rows[begin : begin + DIGEST_ROWS].to_array())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Sum:
    """What is told of a `Counted`: how many rows matched, and a digest of which. A set of 10 million would
    keep the interpreter for a millisecond where it is taken in."""

    rows: int
    matched: int
    digest: str
    corrupt: list[int]
    is_whole: bool


class CountingError(StoreError):
    """There is no count; the store itself may be well."""

    def __init__(self, reason: object) -> None:
        self.reason = str(reason)
        super().__init__(f"ERR KL.VERIFY could not count: {self.reason}")


class Counting(Protocol):
    """Who counts. The methods may raise CountingError; `close` in any case."""

    def from_log(self, question: Question) -> Sum: ...
    def from_rows(self, question: Question) -> Sum: ...
    def from_index(self, question: Question) -> Sum: ...
    def close(self) -> None: ...


class InPlace:
    """In the calling thread, on any `Fs`."""

    def __init__(self, fs: Fs) -> None:
        self._fs = fs

    def from_log(self, question: Question) -> Sum:
        return self._count(count_from_log, question)

    def from_rows(self, question: Question) -> Sum:
        return self._count(count_from_rows, question)

    def from_index(self, question: Question) -> Sum:
        return self._count(count_from_index, question)

    def _count(self, count: Callable[[Fs, Question], Counted], question: Question) -> Sum:
        try:
            return count(self._fs, question).sum()
        except (StoreError, OSError) as error:
            raise CountingError(error) from error

    def close(self) -> None: ...


def bytes_to_read(fs: Fs, question: Question) -> int:
    """About what the three counts read: rows, index, log."""
    manifest = Manifest.load(fs, question.directory)
    rows = size_of(fs, table_path(question.directory, question.table))
    index = size_of(fs, question.directory / manifest.index_file) if manifest.index_file else 0
    return rows + index + question.log_bytes


def count_from_rows(fs: Fs, question: Question) -> Counted:
    """From the row file alone, whatever checkpoint it is at."""
    return _count(fs, question, Manifest.load(fs, question.directory))


def count_from_index(fs: Fs, question: Question) -> Counted:
    """From the index file alone. `rows` are those that it says are there."""
    manifest = Manifest.load(fs, question.directory)
    asked = Schema.from_description(question.schema).value_column(question.name)
    counted = Counted()
    try:
        lists = index_file.load(fs, question.directory / manifest.index_file)
        counted.rows = len(lists.get((question.table, index_file.PRESENT, 0), ()))
        counted.matched = lists.get((question.table, asked, question.value), BitMap())
    except (DamageError, OSError, ValueError):
        return Counted(is_whole=False)
    return counted


def count_from_log(fs: Fs, question: Question) -> Counted:
    """From the row file and the log behind its checkpoint, up to the position. `rows` are the row file's."""
    manifest = Manifest.load(fs, question.directory)
    counted = _count(fs, question, manifest)
    try:
        last = _last_writes(fs, question, manifest)
    except (StartError, OSError):
        return Counted(counted.rows, BitMap(), counted.corrupt, False)
    counted.matched -= BitMap([row for row, is_match in last.items() if not is_match])
    counted.matched |= BitMap([row for row, is_match in last.items() if is_match])
    return counted


def _last_writes(fs: Fs, question: Question, manifest: Manifest) -> dict[int, bool]:
    """Whether each row that the log writes matches in the end. DamageError when the log ends too early."""
    wal, start, end = question.directory / "wal", manifest.position, question.position
    log = read_log(fs, wal, manifest.uuid_bytes, start, start, end)
    if log.end < end:
        raise DamageError(f"{wal}: the log ends at position {log.end}, it was durable up to {end}")
    schema = Schema.from_description(question.schema)
    needle = Needle.of(schema, question.name, question.value)
    rest = schema.record_bytes - needle.offset - len(needle.data)
    write = struct.Struct(f"{fmt.RECORD.format}{needle.offset}x{len(needle.data)}s{rest}x")
    mine, rows, wanted = question.table, fmt.ROW_KINDS, needle.data
    last: dict[int, bool] = {}
    for batch in log.batches:
        payload = batch.payload
        if _all_have_length(payload, write.size):  # as in a sale: 0.2 us each instead of 0.5
            for _, kind, _, table, row, _, found in write.iter_unpack(payload):
                if table == mine and kind in rows:
                    last[row] = found == wanted
            continue
        for _, kind, _, table, row, _, offset in records(batch):
            if table == mine and kind in rows:
                last[row] = needle.is_in(payload, offset)
    return last


def _all_have_length(payload: bytes, length: int) -> bool:
    """Whether each record has it: the first does, so the second begins there, and so on."""
    count, rest = divmod(len(payload), length)
    head = length.to_bytes(4, "little")
    return not rest and all(payload[at::length] == head[at : at + 1] * count for at in range(4))


def _count(fs: Fs, question: Question, manifest: Manifest) -> Counted:
    counted = Counted()
    state = manifest.table(question.table)
    if state is None:  # younger than the checkpoint: all of it is in the log
        return counted
    file = RowFile(fs, question.directory, state)
    needle = Needle.of(file.schema, question.name, question.value)
    for step in file.steps():
        present = step.present()
        counted.rows += present.bit_count()
        counted.matched |= step.ids(present & step.having(needle))
        counted.corrupt.update(step.corrupt)
    return counted
