"""The records of one row, newest first, from the log and the archive.

Each record has the position of the row's record before it; a position is where a record ends. Positions count
records only, so what finds one in a file is its batches' headers: a segment is walked from batch to batch up
to the one that is wanted, and what was seen on the way serves the older ones.

For a thread beside the loop: it has nothing from the engine but the numbers that it is called with, and gives
way after each piece of work. What it reads is durable, so nobody changes it. A checkpoint may move a segment
into the archive meanwhile: it is in the one place or in the other, or no longer kept, and then history ends.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from storage import archive, log_reader
from storage import format as fmt
from storage.errors import DamageError
from storage.fs import Fs
from storage.pace import Pace

_STEP_BYTES = 64 << 10
_TRIES = 100  # to open a segment that is being moved


class Record(NamedTuple):
    position: int  # of its end
    kind: int
    table: int
    row: int
    previous: int
    body: bytes

    @property
    def token(self) -> int:
        """Of a row's record: its image begins with it."""
        return int.from_bytes(self.body[:8], "little")


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the row; `frame`: all that came to be with it, itself included, in their order."""

    record: Record
    frame: tuple[Record, ...]
    unix_ms: int


def history(
    fs: Fs, directory: Path, uuid: bytes, table: int, row: int, position: int, limit: int
) -> Iterator[Entry]:
    """From the row's record that ends at `position` backwards. The log must be durable up to there.

    Ends where the row began, or where the log is kept no longer. DamageError where it is not as it was
    written.
    """
    with closing(_Log(fs, directory, uuid, (table, row))) as log:
        while position and limit > 0:
            segment = log.segment_of(position)
            if segment is None:
                return
            entry = segment.entry(position)
            yield entry
            if entry.record.previous >= position:
                raise DamageError(f"the record at position {position} names one before it that is not")
            position = entry.record.previous
            limit -= 1


class _Log:
    """Which file has a position; one is open at a time."""

    def __init__(self, fs: Fs, directory: Path, uuid: bytes, key: tuple[int, int]) -> None:
        self._fs = fs
        self._key = key
        self._folders = (directory / "wal", directory / archive.NAME)
        self._uuid = uuid
        self._paths: dict[int, Path] = {}
        self._firsts: list[int] = []
        self._open: _Segment | None = None
        self._pace = Pace()
        self._list()

    def _list(self) -> None:
        """The log first: what is moved in between is seen twice rather than not at all."""
        folders = [folder for folder in self._folders if self._fs.exists(folder)]
        self._paths = log_reader.latest_segments(self._fs, *folders)
        self._firsts = list(self._paths)

    def segment_of(self, position: int) -> _Segment | None:
        """None where it is kept no longer."""
        for _ in range(_TRIES):
            at = bisect_left(self._firsts, position) - 1
            if at < 0:
                return None
            first = self._firsts[at]
            if self._open is not None and self._open.first == first:
                return self._open
            try:
                fd = self._fs.open_readonly(self._paths[first])
            except FileNotFoundError:  # it was moved since, or is gone
                self._list()
                continue
            self.close()
            self._open = _Segment(self._fs, self._paths[first], fd, self._uuid, self._key, self._pace)
            return self._open
        raise DamageError(f"the log segment that holds position {position} cannot be opened")

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _Segment:
    """One file, and where its batches are, as far as it was walked. `key`: table and row."""

    def __init__(self, fs: Fs, path: Path, fd: int, uuid: bytes, key: tuple[int, int], pace: Pace) -> None:
        self._fs = fs
        self._key = key
        self._pace = pace
        self._fd = fd
        self._path = path
        try:
            self._header = log_reader.segment_of(path, bytearray(fs.pread(fd, fmt.SEGMENT_BYTES, 0)), uuid)
        except BaseException:
            fs.close(fd)
            raise
        self.first = self._header.first
        self._ends = array("Q")  # of the batches: positions
        self._offsets = array("Q")
        self._behind = fmt.SEGMENT_BYTES  # the last of them
        self._entries: dict[int, Entry] = {}  # the row's, of the batch that was read last

    def close(self) -> None:
        self._fs.close(self._fd)

    def entry(self, position: int) -> Entry:
        if position not in self._entries:
            self._entries = dict(self._entries_of(self._batch(position)))
        if position not in self._entries:
            raise DamageError(
                f"{self._path}: at position {position} there is no record of row {self._key[1]}"
            )
        return self._entries[position]

    def _entries_of(self, batch: log_reader.Batch) -> Iterator[tuple[int, Entry]]:
        frame: list[Record] = []
        for length, kind, flags, table, row, previous, offset in log_reader.records(batch):
            end = offset + length - fmt.RECORD.size
            frame.append(Record(batch.first + end, kind, table, row, previous, batch.payload[offset:end]))
            if not flags & fmt.FRAME_CONTINUES:
                for record in frame:
                    if (record.table, record.row) == self._key:
                        yield record.position, Entry(record, tuple(frame), batch.header.unix_ms)
                frame.clear()
            self._pace.step()

    def _batch(self, position: int) -> log_reader.Batch:
        """The batch that holds what ends at `position`."""
        self._walk(position)
        at = bisect_left(self._ends, position)
        if at == len(self._ends):
            raise DamageError(
                f"{self._path}: offset {self._behind}: the batch that holds position {position} "
                "is damaged or missing"
            )
        offset = self._offsets[at]
        length = self._ends[at] - (self._ends[at - 1] if at else self.first)
        data = self._fs.pread(self._fd, fmt.padded(length), offset)
        header = log_reader.sound_batch(self._header.holding(data), 0)
        if header is None or header.first + header.length != self._ends[at]:
            raise DamageError(
                f"{self._path}: offset {offset}: the batch that ends at {self._ends[at]} is damaged"
            )
        payload = data[fmt.BATCH.size : fmt.BATCH.size + header.length]
        return log_reader.Batch(payload, header.first, self._header, offset, header)

    def _walk(self, position: int) -> None:
        """From header to header, until the batch with the position is known."""
        end = self._ends[-1] if self._ends else self.first
        step, base = b"", 0
        while end < position:
            offset = self._behind
            if not base <= offset <= base + len(step) - fmt.BATCH.size:
                step, base = self._fs.pread(self._fd, _STEP_BYTES, offset), offset
                if len(step) < fmt.BATCH.size:
                    return
            self._pace.step()
            magic, length, first, *_ = fmt.BATCH.unpack_from(step, offset - base)
            if magic != fmt.BATCH_MAGIC or first != end or not 1 <= length <= fmt.BATCH_PAYLOAD_MAX:
                return
            end += length
            self._ends.append(end)
            self._offsets.append(offset)
            self._behind += fmt.padded(length)
