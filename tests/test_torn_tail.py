"""Torn tail or damage: a log is bent at many places, and the start must tell one from the other."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage.check import check
from storage.engine import EngineOptions
from storage.errors import DamageError, StartError
from storage.fs import OsFs, write_file_durably
from storage.manifest import NAME, Manifest
from storage.recovery import Opening
from tests.fake_disk import Crash, FakeDisk
from tests.store import (
    DIRECTORY,
    OPTIONS,
    Contents,
    FakeClock,
    assert_sound,
    batch_offsets,
    checkpoint,
    contents,
    open_store,
    row,
    schema,
)

BATCHES = 10
ONE_SEGMENT = EngineOptions(segment_bytes=64 << 10)


def log_of_batches() -> tuple[FakeDisk, Path, list[int], list[Contents]]:
    """A disk, its segment, where the batches begin and the last ends, what the store held behind each."""
    disk = FakeDisk()
    engine, _ = open_store(disk, ONE_SEGMENT)
    states: list[Contents] = [{}]
    engine.create(b"seats", schema(), False)
    engine.wal.commit()
    states.append(contents(engine))
    for number in range(BATCHES - 2):
        for copy in range(1 + number % 3 * 6):
            engine.insert(engine.table(b"seats"), number * 100 + copy, row(number, 1, b"x"))
        engine.wal.commit()
        states.append(contents(engine))
    crashed = disk.crash()
    (path,) = [path for path in crashed.named if path.suffix == ".wal"]
    offsets = batch_offsets(bytes(crashed.named[path].seen))
    assert len(offsets) == BATCHES + 1
    return crashed, path, offsets, states


DISK, SEGMENT, OFFSETS, STATES = log_of_batches()


def payload_end(batch: int) -> int:
    length = int.from_bytes(DISK.named[SEGMENT].seen[OFFSETS[batch] + 4 : OFFSETS[batch] + 8], "little")
    return OFFSETS[batch] + 40 + length


@pytest.mark.parametrize("batch", range(BATCHES - 1))
def test_damage_before_the_last_batch_refuses_the_start(batch: int) -> None:
    begin, end = OFFSETS[batch], OFFSETS[batch + 1]
    for offset in sorted(
        {*range(begin, end, 37), *range(begin, begin + 40, 3), end - 1, payload_end(batch) - 1}
    ):
        disk = DISK.crash()
        disk.damage(SEGMENT, offset, 1 << offset % 8)
        before = disk.image()
        with pytest.raises(DamageError, match=rf"offset {begin}: .*position \d+.*nothing was changed"):
            open_store(disk, ONE_SEGMENT)
        del before[DIRECTORY / "LOCK"]
        assert {path: data for path, data in disk.image().items() if path.name != "LOCK"} == before
        assert len(list(check(disk, DIRECTORY))) == 1


def test_damage_in_the_last_batch_is_a_torn_tail() -> None:
    begin, end = OFFSETS[-2:]
    for offset in sorted({*range(begin, end, 29), *range(begin, begin + 40), end - 1}):
        disk = DISK.crash()
        disk.damage(SEGMENT, offset)
        _starts_with(disk, STATES[-2], begin)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_cut_log_gives_whole_batches_and_a_warning(batch: int) -> None:
    """Nothing behind the cut can say that the batches were there: they go, whole."""
    begin, end = OFFSETS[batch], payload_end(batch)
    states = [{}, *STATES]
    for length in sorted({*range(begin + 1, end, 53), begin + 39, begin + 40, end - 1}):
        disk = DISK.crash()
        disk.cut(SEGMENT, length)
        _starts_with(disk, states[batch], begin)


def _starts_with(disk: FakeDisk, expected: Contents, begin: int) -> None:
    assert list(check(disk, DIRECTORY)) == []
    engine, warnings = open_store(disk, ONE_SEGMENT)
    assert contents(engine) == expected
    (warning,) = warnings
    assert f"offset {begin}: torn tail at position" in warning
    assert_sound(engine, disk)
    after = disk.crash()
    assert SEGMENT not in after.named or len(after.named[SEGMENT].seen) <= begin, "the tail is cut off"
    engine, warnings = open_store(after, ONE_SEGMENT)
    assert (contents(engine), warnings) == (expected, [])


def test_zeros_and_garbage_behind_the_last_batch() -> None:
    for tail, warned in ((bytes(2048), 0), (b"\xff" * 2048, 1), (b"LKCT" + bytes(508), 1)):
        disk = DISK.crash()
        fd = disk.open(SEGMENT)
        disk.pwrite(fd, tail, OFFSETS[-1])
        disk.fsync(fd)
        engine, warnings = open_store(disk.crash(), ONE_SEGMENT)
        assert contents(engine) == STATES[-1]
        assert len(warnings) == warned


def test_clean_stop_leaves_no_cut_unseen() -> None:
    disk = DISK.crash()
    engine, _ = open_store(disk, ONE_SEGMENT)
    engine.create(b"later", schema(), False)
    engine.close()
    segment = engine.wal.segments[-1][1]
    offsets = batch_offsets(bytes(disk.named[segment].seen))
    for length in range(0, offsets[-1] - 400, 31):
        cut = disk.crash()
        cut.cut(segment, length)
        with pytest.raises(DamageError):
            open_store(cut, ONE_SEGMENT)


def test_block_in_place_proves_that_its_log_was_durable() -> None:
    """A crash between the blocks in place and the new CHECKPOINT, and then a rotten last batch."""
    start = DISK.crash()
    open_store(start, ONE_SEGMENT)[0].close()
    reached = False
    for at in range(1, 60):
        disk = start.crash()
        engine, _ = open_store(disk, ONE_SEGMENT)
        engine.insert(engine.table(b"seats"), 99, row(1))
        engine.wal.commit()
        cut = engine.begin_checkpoint()
        disk.fail(at)
        with pytest.raises(Crash):
            cut.write()
        if disk.log[-1].startswith("create index"):
            reached = True
            break
    assert reached
    after = disk.crash()
    segment = engine.wal.segments[-1][1]
    after.damage(segment, batch_offsets(bytes(after.named[segment].seen))[-2] + 50)
    with pytest.raises(DamageError, match="acknowledged data is lost"):
        open_store(after, ONE_SEGMENT)


@pytest.mark.parametrize("at", [8, 12, 16, 44])
def test_segment_header_damage_names_both_sides(at: int) -> None:
    disk = DISK.crash()
    disk.damage(SEGMENT, at, 0x40)
    with pytest.raises(StartError, match=r"format version 6\d+.*reads 1" if at == 8 else "checksum"):
        open_store(disk)


def test_other_store_is_refused() -> None:
    disk, other = DISK.crash(), FakeDisk()
    open_store(other)
    mine = Manifest.load(disk, DIRECTORY).uuid
    theirs = Manifest.load(other, DIRECTORY)
    theirs.save(disk, DIRECTORY)
    with pytest.raises(StartError, match=f"{mine}, this one is {theirs.uuid}"):
        open_store(disk)


def test_unknown_checkpoint_version_is_refused() -> None:
    disk = DISK.crash()
    data = bytes(disk.named[DIRECTORY / NAME].seen)
    write_file_durably(disk, DIRECTORY / NAME, data.replace(b"KLANICKP 1 ", b"KLANICKP 2 ", 1))
    with pytest.raises(StartError, match="format version 2, this program reads 1"):
        open_store(disk)


def test_segments_without_a_checkpoint_are_not_a_new_store() -> None:
    disk = DISK.crash()
    disk.unlink(DIRECTORY / NAME)
    with pytest.raises(DamageError, match="no CHECKPOINT beside wal: not a new store"):
        open_store(disk)


def test_missing_segment_is_refused() -> None:
    disk = DISK.crash()
    engine, _ = open_store(disk, ONE_SEGMENT)
    checkpoint(engine)
    disk.unlink(engine.wal.segments[-1][1])
    with pytest.raises(DamageError, match=r"position \d+ is missing"):
        open_store(disk.killed(), ONE_SEGMENT)


def test_second_opening_of_a_directory_is_refused(tmp_path: Path) -> None:
    first = Opening(tmp_path / "d", OPTIONS, OsFs(), FakeClock())
    list(first)
    second = Opening(tmp_path / "d", OPTIONS, OsFs(), FakeClock())
    with pytest.raises(StartError, match="d is in use by another klani-resp server"):
        second.lock()
    first.engine.close()
    third = Opening(tmp_path / "d", OPTIONS, OsFs(), FakeClock())
    list(third)
    third.engine.close()


def test_failed_sync_is_final_and_the_next_start_writes_the_tail_again() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, ONE_SEGMENT)
    engine.create(b"seats", schema(), False)
    engine.wal.commit()
    durable = engine.durable
    engine.insert(engine.table(b"seats"), 1, row(3))
    disk.fail(2, lambda: OSError(errno.EIO, "input/output error"))
    for _ in range(2):
        with pytest.raises(OSError):
            engine.wal.commit()
    with pytest.raises(OSError, match="failed before"):
        engine.wal.sync()
    assert engine.wal.failed
    assert engine.durable == durable
    assert disk.log[-1].startswith("fsync")
    # The page cache shows the row, the disk has lost it: what a start serves must be on disk again.
    again = disk.killed()
    engine, warnings = open_store(again, ONE_SEGMENT)
    assert warnings == []
    shown = contents(engine)
    assert list(shown[b"seats"]) == [1]
    engine, _ = open_store(again.crash(), ONE_SEGMENT)
    assert contents(engine) == shown


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_failing_call_changes_nothing_that_was_acknowledged(code: int) -> None:
    disk = DISK.crash()
    engine, _ = open_store(disk)
    engine.insert(engine.table(b"seats"), 9000, row(1))
    for at in range(1, 3):
        engine.insert(engine.table(b"seats"), 9000 + at, row(1))
        disk.fail(at, lambda: OSError(code, "refused"), sticky=True)
        with pytest.raises(OSError):
            engine.wal.commit()
        disk.fail_at = 0
        engine, _ = open_store(disk.crash())
        kept = dict(contents(engine)[b"seats"])
        assert {row: kept[row] for row in STATES[-1][b"seats"]} == STATES[-1][b"seats"]
        disk = engine.fs  # type: ignore[assignment]
