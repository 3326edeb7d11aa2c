"""Reads the log back and tells a torn tail from damage.

A batch names the highest position that was durable when it was built. A bad batch at or below the highest
such position of any valid later batch, later segment or checkpoint is damage to acknowledged data: the
reader refuses and names the place. A bad batch above it is a torn tail: the log ends there.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage import format as fmt
from storage.errors import DamageError, StartError
from storage.fs import Fs

# A record is shorter than this and does not begin with zeros: so no batch has as many zeros at its end.
_ZEROS_KEPT = 2 * fmt.BLOCK_BYTES
_SEGMENT_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}\.wal")
_STEP_BYTES = 1 << 20
_STEP_BATCHES = 1 << 10


@dataclass(slots=True)
class Segment:
    """`data` is the file without the zeros at its end (a preallocated one is mostly that), but for a few."""

    path: Path
    data: bytearray
    epoch: int
    salt: int
    first: int
    head: bytes  # of the chain at `first`

    def holding(self, data: bytes) -> Segment:
        """The same with other bytes."""
        return replace(self, data=bytearray(data))


@dataclass(slots=True)
class Batch:
    payload: bytes
    first: int
    segment: Segment
    offset: int
    header: fmt.BatchHeader
    before: bytes = b""  # the chain's head before it; only in the last segment

    @property
    def end(self) -> int:
        return self.first + len(self.payload)


@dataclass(slots=True)
class Log:
    """What could be read: `batches` from the start on, `end` their last position, `durable` the highest
    position that anything valid names as durable; `torn` says where a tail was cut off, if it was; `head` is
    the chain's at `end`, unless the reader was told where to end."""

    batches: list[Batch] = field(default_factory=list)
    end: int = 0
    durable: int = 0
    torn: str = ""
    head: bytes = fmt.CHAIN_START
    segments: list[tuple[int, Path]] = field(default_factory=list)
    older: list[tuple[int, Path]] = field(default_factory=list)  # segments that end at or before the start
    tail: tuple[Path, int] | None = None  # segment and offset behind its last sound batch, when cut


def read_log(fs: Fs, directory: Path, uuid: bytes, start: int, durable: int, until: int | None = None) -> Log:
    """The batches behind position `start`; one that holds it is taken from there on.

    `durable`: what the checkpoint names. With `until`, ends at that position and judges nothing behind it.
    """
    reading = reading_log(fs, directory, uuid, start, durable, until)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            log: Log = end.value
            return log


def reading_log(
    fs: Fs, directory: Path, uuid: bytes, start: int, durable: int, until: int | None = None
) -> Generator[int, None, Log]:
    """As read_log, whose answer it returns; yields the position now and then."""
    older, segments = _segments(fs, directory, uuid, start)
    log = Log(end=start, durable=durable, segments=[(s.first, s.path) for s in segments], older=older)
    if not segments:
        if start > 0:
            raise DamageError(f"{directory}: the log segment that holds position {start} is missing")
        return log
    for number, segment in enumerate(segments):
        following = segments[number + 1] if number + 1 < len(segments) else None
        stop = following.first if following else until
        offset, position = yield from _read_segment(log, segment, start, stop, until)
        if following is not None and position == following.first:
            continue
        if until is not None and position >= until:
            break
        _judge(log, segments[number:], offset, position)
        break
    for segment in segments:
        segment.data = bytearray()  # the batches have what is needed of it
    return log


def sound_batches(fs: Fs, directory: Path, uuid: bytes, start: int) -> tuple[list[Batch], list[str]]:
    """What can be had of a log that `read_log` refuses: each sound batch behind `start`, wherever it lies.

    And in words what is missing. The chain of checksums is not asked for: the salt tells whose a batch is.
    """
    batches: list[Batch] = []
    troubles: list[str] = []
    position = start
    paths = latest_segments(fs, directory)
    for first, following in itertools.zip_longest(paths, list(paths)[1:]):
        if following is not None and following <= start:
            continue
        try:
            segment = open_segment(fs, paths[first], uuid)
        except StartError as error:
            troubles.append(f"all of a segment: {error}")
            continue
        for offset in range(fmt.SEGMENT_BYTES, len(segment.data), fmt.SECTOR_BYTES):
            header = sound_batch(segment, offset)
            # What another start wrote again in the next segment counts there.
            if header is None or (following is not None and header.first >= following):
                continue
            end = header.first + header.length
            if end <= position:
                continue
            if header.first > position:
                troubles.append(f"writes at positions {position}..{header.first}: {segment.path} is damaged")
            low = max(header.first, position)
            begin = offset + fmt.BATCH.size - header.first
            payload = bytes(segment.data[begin + low : begin + end])
            batches.append(Batch(payload, low, segment, offset, header))
            position = end
    troubles.append(f"whatever was written behind position {position}")
    return batches, troubles


def is_segment(name: str) -> bool:
    return _SEGMENT_NAME.fullmatch(name) is not None


def latest_segments(fs: Fs, *directories: Path) -> dict[int, Path]:
    """First position -> path, ascending: the segments that are the log."""
    paths = [folder / name for folder in directories for name in fs.names(folder) if is_segment(name)]
    keyed = sorted((int(path.name[:16], 16), int(path.name[17:25], 16), path) for path in paths)
    # A start writes a doubtful tail again under a new epoch: of two with one first position the later counts.
    latest: dict[int, Path] = {}
    highest = 0
    for first, epoch, path in keyed:
        # One of an older epoch behind it: of a server that the directory was taken from, and that went on.
        if epoch >= highest:
            latest[first] = path
            highest = epoch
    return latest


def _segments(
    fs: Fs, directory: Path, uuid: bytes, start: int
) -> tuple[list[tuple[int, Path]], list[Segment]]:
    """Those that a checkpoint at `start` needs no more, and the others."""
    latest = list(latest_segments(fs, directory).items())
    below = sum(first <= start for first, _ in latest)
    if latest and not below:
        raise DamageError(f"{directory}: the log segment that holds position {start} is missing")
    older = latest[: max(0, below - 1)]
    return older, [open_segment(fs, path, uuid) for _, path in latest[len(older) :]]


def open_segment(fs: Fs, path: Path, uuid: bytes) -> Segment:
    return segment_of(path, _read_used(fs, path), uuid)


def segment_of(path: Path, data: bytearray, uuid: bytes) -> Segment:
    """The segment that `data` begins, or StartError."""
    if len(data) < fmt.SEGMENT_BYTES:
        raise DamageError(f"{path}: {len(data)} bytes are too few for a segment header")
    magic, version, owner, epoch, salt, first, head, crc = fmt.SEGMENT.unpack_from(data)
    if magic != fmt.SEGMENT_MAGIC:
        raise DamageError(f"{path}: magic is {magic!r}, not {fmt.SEGMENT_MAGIC!r}")
    if version != fmt.FORMAT_VERSION:
        raise StartError(f"{path}: format version {version}, this program reads {fmt.FORMAT_VERSION}")
    if zlib.crc32(data[: fmt.SEGMENT.size - 4]) != crc or data[fmt.SEGMENT.size : fmt.SEGMENT_BYTES].strip(
        b"\0"
    ):
        raise DamageError(f"{path}: the segment header's checksum is wrong")
    if owner != uuid:
        raise StartError(f"{path}: belongs to store {owner.hex()}, this one is {uuid.hex()}")
    return Segment(path, data, epoch, salt, first, head)


def _read_used(fs: Fs, path: Path) -> bytearray:
    data, zeros, offset = bytearray(), 0, 0
    step, nothing = bytearray(_STEP_BYTES), bytes(_STEP_BYTES)
    fd = fs.open_readonly(path)
    try:
        while count := fs.pread_into(fd, memoryview(step), offset):
            offset += count
            part = step if count == _STEP_BYTES else step[:count]
            if part == nothing[:count]:
                zeros += count
            else:
                data += bytes(zeros)
                data += part
                zeros = 0
    finally:
        fs.close(fd)
    data += bytes(min(zeros, _ZEROS_KEPT))
    return data


def _read_segment(
    log: Log, segment: Segment, start: int, stop: int | None, until: int | None
) -> Generator[int, None, tuple[int, int]]:
    """Takes sound batches up to `stop`, of them only what lies between `start` and `until`.

    Answers offset and position behind the last. A checkpoint's position is the end of a record, but may lie
    inside a batch: the committer takes all that waits, what came behind the cut included.
    """
    behind, position, head = fmt.SEGMENT_BYTES, segment.first, segment.head
    log.durable = max(log.durable, segment.first)  # what is before it was synced before it got its name
    is_last = stop is None  # what is doubtful is there, so nobody asks for heads in another one
    yield position
    for count, (offset, header) in enumerate(linked_batches(segment, stop), 1):
        if count % _STEP_BATCHES == 0:
            yield position
        first, position = position, position + header.length
        before = head
        if is_last:
            with memoryview(segment.data) as view:
                begin = offset + fmt.BATCH.size
                head = fmt.chained(head, view[offset:begin], view[begin : begin + header.length])
        if position > start:
            begin = offset + fmt.BATCH.size - first
            low, high = max(first, start), position if until is None else min(position, until)
            payload = bytes(segment.data[begin + low : begin + high])
            log.batches.append(Batch(payload, low, segment, offset, header, before))
            if low > first:  # what it ends with was synced with what the checkpoint rests on
                log.durable = max(log.durable, position)
        behind = offset + fmt.padded(header.length)
        log.durable = max(log.durable, header.durable)
    log.end = max(log.end, position)
    log.head = head
    return behind, position


def linked_batches(segment: Segment, stop: int | None) -> Iterator[tuple[int, fmt.BatchHeader]]:
    """Offset and header of each sound batch that follows the one before, below position `stop`."""
    offset, position, crc = fmt.SEGMENT_BYTES, segment.first, 0
    while stop is None or position < stop:
        header = sound_batch(segment, offset)
        if header is None or header.first != position or header.previous_crc != crc:
            return
        yield offset, header
        offset += fmt.padded(header.length)
        position += header.length
        crc = header.crc


def sound_batch(segment: Segment, offset: int) -> fmt.BatchHeader | None:
    """The batch header at `offset` if its form and checksum are right; its place in the chain is not."""
    data = segment.data
    if offset + fmt.BATCH.size > len(data):
        return None
    magic, *rest = fmt.BATCH.unpack_from(data, offset)
    header = fmt.BatchHeader(*rest)
    begin = offset + fmt.BATCH.size
    end = begin + header.length
    if magic != fmt.BATCH_MAGIC or not 1 <= header.length <= fmt.BATCH_PAYLOAD_MAX or end > len(data):
        return None
    with memoryview(data) as view:  # no copies: a log of 64 MiB has up to 131,072 batches
        if fmt.batch_crc(segment.salt, view[offset:begin], view[begin:end]) != header.crc:
            return None
    return None if data[end : offset + fmt.padded(header.length)].strip(b"\0") else header


def _judge(log: Log, segments: list[Segment], offset: int, position: int) -> None:
    """Behind the last sound batch: nothing, a torn tail, or damage."""
    segment = segments[0]
    named = log.durable
    for later in segments[1:]:
        named = max(named, later.first)
    for which in segments:
        place = which.data.find(_MAGIC_BYTES, offset if which is segment else fmt.SEGMENT_BYTES)
        while place >= 0:
            header = None if place % fmt.SECTOR_BYTES else sound_batch(which, place)
            if header is not None:
                named = max(named, header.durable)
            place = which.data.find(_MAGIC_BYTES, place + 1)
    if named > position:
        raise DamageError(
            f"{segment.path}: offset {offset}: the batch at position {position} is damaged or missing, "
            f"but the log was durable up to position {named}: acknowledged data is lost; nothing was changed"
        )
    if segment.data[offset:].strip(b"\0") or len(segments) > 1:
        log.torn = (
            f"{segment.path}: offset {offset}: torn tail at position {position}, "
            f"durable was {named}: cut off, nothing acknowledged is lost"
        )
    log.durable = max(log.durable, named)
    log.tail = (segment.path, offset)


_MAGIC_BYTES = fmt.BATCH_MAGIC.to_bytes(4, "little")

# length, kind, flags, table number, row id, previous position, offset of the payload
Record = tuple[int, int, int, int, int, int, int]


def records(batch: Batch) -> Iterator[Record]:
    """The records of a batch; DamageError when their lengths do not add up."""
    payload, offset, end = batch.payload, 0, len(batch.payload)
    size, unpack = fmt.RECORD.size, fmt.RECORD.unpack_from
    while offset < end:
        if offset + size > end:
            raise DamageError(
                f"{batch.segment.path}: a record at position {batch.first + offset} is cut short"
            )
        length, kind, flags, table, row, previous = unpack(payload, offset)
        if length < size or offset + length > end:
            raise DamageError(
                f"{batch.segment.path}: a record at position {batch.first + offset} has length {length}"
            )
        yield length, kind, flags, table, row, previous, offset + size
        offset += length
