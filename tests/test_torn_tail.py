"""Torn tail or damage, and files that are not what they should be: a start must tell one from the other.

The log bent at every byte is in tests/test_log_bytes.py.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage.errors import DamageError, StartError
from storage.fs import OsFs, write_file_durably
from storage.manifest import NAME, Manifest
from storage.recovery import Opening
from tests.fake_disk import Crash, FakeDisk
from tests.store import (
    DIRECTORY,
    ONE_SEGMENT,
    OPTIONS,
    FakeClock,
    batch_offsets,
    checkpoint,
    contents,
    log_of_batches,
    open_store,
    row,
    schema,
)

LOG = log_of_batches(10)
DISK, SEGMENT, OFFSETS, STATES = LOG.disk, LOG.segment, LOG.offsets, LOG.states


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
    """With rows to be read first; tests/test_log_bytes.py cuts at every byte."""
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
    with pytest.raises(StartError, match=r"format version 6\d+.*reads 2" if at == 8 else "checksum"):
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
    write_file_durably(disk, DIRECTORY / NAME, data.replace(b"KLANICKP 2 ", b"KLANICKP 3 ", 1))
    with pytest.raises(StartError, match="format version 3, this program reads 2"):
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
