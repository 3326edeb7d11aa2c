"""`klani-resp check DIR --audit`: computes the chain of hashes anew over all of the log that is kept.

From the oldest segment in the archive to the end of the log, batch by batch. A forger may set right a batch's
checksum, and those behind it; the head that the next segment begins with then says otherwise, or an anchor
does: a head that somebody has kept elsewhere. Whoever can rewrite all of the log is found by an anchor only.

What is behind a break is audited on its own, from the head that its segment has.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage import archive
from storage import format as fmt
from storage.errors import StartError
from storage.fs import Fs
from storage.log_reader import Segment, latest_segments, linked_batches, open_segment
from storage.manifest import Manifest
from storage.wal import Anchor

Say = Callable[[str], None]


@dataclass(slots=True)
class _Run:
    """A stretch of the log without a break: from `first`, as far as it was read."""

    first: int
    position: int
    head: bytes
    last: Segment
    segments: int = 0
    batches: int = 0


class Audit:
    """Iterate `troubles`: what is wrong, in the order of the log. What was proven is told to `say`."""

    def __init__(self, fs: Fs, directory: Path, anchors: Sequence[Anchor], say: Say) -> None:
        self._fs = fs
        self._directory = directory
        self._anchors = sorted(set(anchors))
        self._by_position: dict[int, list[bytes]] = {}
        for anchor in self._anchors:
            self._by_position.setdefault(anchor.position, []).append(anchor.head)
        self._met: set[int] = set()  # positions of anchors at which the log has a head
        self._say = say
        self._first: int | None = None
        self._end = 0

    def troubles(self) -> Iterator[str]:
        """May raise StartError where there is no CHECKPOINT to be read."""
        fs, directory = self._fs, self._directory
        manifest = Manifest.load(fs, directory)
        folders = [f for f in (directory / "wal", directory / archive.NAME) if fs.exists(f)]
        paths = latest_segments(fs, *folders)
        run: _Run | None = None
        for (first, path), following in zip(paths.items(), [*list(paths)[1:], None], strict=True):
            try:
                segment = open_segment(fs, path, manifest.uuid_bytes)
            except StartError as error:
                yield f"audit: {error.text}"
                self._tell(run)
                run = None
                continue
            if run is not None:
                broken = _break(run, segment)
                if broken:
                    yield broken
                    self._tell(run)
                    run = None
            if run is None:
                run = _Run(first, segment.first, segment.head, segment)
                yield from self._compare(run, fmt.SEGMENT_BYTES)
                self._first = first if self._first is None else self._first
            run.last = segment
            run.segments += 1
            offset = yield from self._read(run, segment, following)
            if following is not None and run.position < following:
                is_more = bool(segment.data[offset:].strip(b"\0"))
                yield f"audit: {path}: offset {offset}: " + (
                    f"the batch at position {run.position} is altered or damaged"
                    if is_more
                    else f"the segment with positions {run.position}..{following} is missing"
                )
                self._tell(run)
                run = None
            segment.data = bytearray()
        self._tell(run)
        yield from self._judge_end(manifest)

    def _read(self, run: _Run, segment: Segment, stop: int | None) -> Generator[str, None, int]:
        """Follows the segment's batches; answers the offset behind the last that is sound."""
        behind = fmt.SEGMENT_BYTES
        for offset, header in linked_batches(segment, stop):
            begin, behind = offset + fmt.BATCH.size, offset + fmt.padded(header.length)
            with memoryview(segment.data) as view:
                run.head = fmt.chained(run.head, view[offset:begin], view[begin : begin + header.length])
            run.position += header.length
            run.batches += 1
            yield from self._compare(run, offset)
        return behind

    def _compare(self, run: _Run, offset: int) -> Iterator[str]:
        """With the anchors of the position that the run has come to."""
        for head in self._by_position.get(run.position, ()):
            self._met.add(run.position)
            if head == run.head:
                self._say(f"audit: anchor {run.position}:{head.hex()} lies on the chain")
            else:
                yield (
                    f"audit: {run.last.path}: offset {offset}: at position {run.position} the chain's head "
                    f"is {run.head.hex()}, the anchor says {head.hex()}: something was altered before it"
                )

    def _tell(self, run: _Run | None) -> None:
        if run is None:
            return
        self._end = run.position
        self._say(
            f"audit: positions {run.first}..{run.position}: "
            f"{run.batches} batches in {run.segments} segments are one chain"
        )
        self._say(f"audit: head {run.position}:{run.head.hex()}")

    def _judge_end(self, manifest: Manifest) -> Iterator[str]:
        if self._first is None:
            yield f"audit: {self._directory}: there is no log"
            return
        if self._end < manifest.position:
            yield (
                f"audit: the chain ends at position {self._end}, "
                f"but the log was durable up to position {manifest.position}"
            )
        for anchor in self._anchors:
            if anchor.position not in self._met:
                yield (
                    f"audit: anchor {anchor.position}:{anchor.head.hex()}: no batch ends at that position "
                    f"in the log that is kept, {self._first}..{self._end}"
                )


def _break(run: _Run, segment: Segment) -> str:
    """What is wrong between a segment and those before it."""
    if segment.first != run.position:
        return (
            f"audit: {segment.path}: offset 0: begins at position {segment.first}, "
            f"what is before it ends at {run.position}"
        )
    if segment.head != run.head:
        return (
            f"audit: {segment.path}: offset 0: at position {segment.first} the chain's head was "
            f"{segment.head.hex()}, but what is before it gives {run.head.hex()}: {run.last.path}, "
            f"offset {fmt.SEGMENT_BYTES}, positions {run.last.first}..{segment.first}: something was altered"
        )
    return ""
