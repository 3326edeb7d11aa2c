"""A5: the log is cut at every byte, and a bit is flipped in every byte of 50 batches.

A flip before the last batch refuses the start, and changes nothing. A flip in the last batch, or a cut,
leaves whole batches and a warning that names the position. After a clean stop every cut is detected. A cut
exactly between two batches cannot be told from a crash before the second (docs/fault-model.md): no warning.
In the CI column the byte's place chooses the bit, in the long one each of the 8 is flipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from storage import format as fmt
from storage import log_reader
from storage.check import check
from storage.errors import DamageError, StartError
from tests.fake_disk import FakeDisk
from tests.proof import BITS
from tests.store import (
    DIRECTORY,
    ONE_SEGMENT,
    Contents,
    assert_sound,
    contents,
    log_of_batches,
    open_store,
)

BATCHES = 50
LOG = log_of_batches(BATCHES)
STOPPED = log_of_batches(BATCHES, stop=True)
SEGMENT = LOG.segment
Figure = Callable[[str, int], None]

pytestmark = pytest.mark.proof
each_batch = pytest.mark.parametrize("batch", range(BATCHES))


@pytest.fixture(autouse=True)
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two buffers of 1 MiB for a file of 48 KiB are most of a start's time."""
    monkeypatch.setattr(log_reader, "_STEP_BYTES", 64 << 10)


def bits(offset: int) -> Iterator[int]:
    return (1 << bit for bit in (BITS or [offset % 8]))


def flipped(begin: int, end: int, figure: Figure) -> Iterator[tuple[FakeDisk, int]]:
    for offset in range(begin, end):
        for bit in bits(offset):
            disk = LOG.disk.crash()
            disk.damage(SEGMENT, offset, bit)
            print(f"replay: flip {bit:#x} at offset {offset}")
            figure("A5 bits flipped", 1)
            yield disk, offset


def position(batch: int) -> int:
    at = LOG.offsets[batch]
    return int.from_bytes(LOG.disk.named[SEGMENT].seen[at + 8 : at + 16], "little")


def image(disk: FakeDisk) -> dict[str, bytes]:
    return {path.name: bytes(file.seen) for path, file in disk.named.items() if path.name != "LOCK"}


@pytest.mark.parametrize("batch", range(BATCHES - 1))
def test_a_flip_before_the_last_batch_refuses_the_start(batch: int, figure: Figure) -> None:
    begin, end = LOG.offsets[batch : batch + 2]
    place = f"offset {begin}: the batch at position {position(batch)} is damaged"
    for disk, offset in flipped(begin, end, figure):
        before = image(disk)
        with pytest.raises(DamageError) as refused:
            open_store(disk, ONE_SEGMENT)
        assert place in refused.value.text and "nothing was changed" in refused.value.text
        assert image(disk) == before
        if offset % 64 == 0:
            assert list(check(disk, DIRECTORY)) == [refused.value.text]


def test_a_flip_in_the_segment_s_header_refuses_the_start(figure: Figure) -> None:
    for disk, _ in flipped(0, fmt.SEGMENT_BYTES, figure):
        before = image(disk)
        with pytest.raises(StartError):
            open_store(disk, ONE_SEGMENT)
        assert image(disk) == before


def test_a_flip_in_the_last_batch_takes_it_whole(figure: Figure) -> None:
    begin, end = LOG.offsets[-2:]
    for disk, _ in flipped(begin, end, figure):
        starts_with(disk, LOG.states[-2], BATCHES - 1)


def test_a_flip_behind_the_last_batch_harms_nothing(figure: Figure) -> None:
    begin = LOG.offsets[-1]
    for disk, _ in flipped(begin, begin + fmt.SECTOR_BYTES, figure):
        _, warnings = open_store(disk, ONE_SEGMENT)
        assert len(warnings) == 1 and f"offset {begin}: torn tail at position" in warnings[0]


@each_batch
def test_a_cut_leaves_whole_batches_and_a_warning(batch: int, figure: Figure) -> None:
    begin, end = LOG.offsets[batch : batch + 2]
    whole = LOG.payload_end(batch)
    for length in range(begin, end):
        disk = LOG.disk.crash()
        disk.cut(SEGMENT, length)
        print(f"replay: cut to {length} bytes")
        figure("A5 cuts after a crash", 1)
        if begin < length < whole:
            starts_with(disk, LOG.states[batch], batch, thorough=length % 64 == 1)
        else:  # between two batches
            engine, warnings = open_store(disk, ONE_SEGMENT)
            assert contents(engine) == LOG.states[batch if length == begin else batch + 1]
            assert warnings == []


def test_a_cut_in_the_segment_s_header_refuses_the_start(figure: Figure) -> None:
    """It had its name only when it was whole and synced: this is no crash."""
    for length in range(fmt.SEGMENT_BYTES):
        disk = LOG.disk.crash()
        disk.cut(SEGMENT, length)
        figure("A5 cuts after a crash", 1)
        with pytest.raises(DamageError):
            open_store(disk, ONE_SEGMENT)


def starts_with(disk: FakeDisk, expected: Contents, batch: int, thorough: bool = True) -> None:
    begin = LOG.offsets[batch]
    engine, warnings = open_store(disk, ONE_SEGMENT)
    assert contents(engine) == expected
    (warning,) = warnings
    assert f"offset {begin}: torn tail at position {position(batch)}" in warning
    if not thorough:
        return
    assert_sound(engine, disk)
    after = disk.crash()
    assert SEGMENT not in after.named or len(after.named[SEGMENT].seen) <= begin, "the tail is cut off"
    engine, warnings = open_store(after, ONE_SEGMENT)
    assert (contents(engine), warnings) == (expected, [])


@each_batch
def test_after_a_clean_stop_every_cut_is_detected(batch: int, figure: Figure) -> None:
    """Up to the last byte of the last record: behind it are only zeros, which say nothing."""
    begin = STOPPED.offsets[batch] if batch else 0
    end = STOPPED.payload_end(batch) if batch == BATCHES - 1 else STOPPED.offsets[batch + 1]
    for length in range(begin, end):
        disk = STOPPED.disk.crash()
        disk.cut(STOPPED.segment, length)
        print(f"replay: cut to {length} bytes")
        figure("A5 cuts after a clean stop", 1)
        with pytest.raises(DamageError):
            open_store(disk, ONE_SEGMENT)


def test_a_clean_stop_s_log_without_its_room_is_whole() -> None:
    disk = STOPPED.disk.crash()
    disk.cut(STOPPED.segment, STOPPED.payload_end(BATCHES - 1))
    engine, warnings = open_store(disk, ONE_SEGMENT)
    assert (contents(engine), warnings) == (STOPPED.states[-1], [])
