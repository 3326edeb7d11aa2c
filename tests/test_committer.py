"""The committer: one write or sync at a time, and nothing is released before it may be."""

from __future__ import annotations

import errno
import math

import pytest

from klani_resp.committer import Committer
from storage.engine import Engine, EngineOptions
from storage.fs import SyncFailed
from tests.fake_disk import FakeDisk
from tests.store import contents, open_store, row, schema


class StepSyncer:
    """Syncs when the test says so."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.watched: list[int] = []
        self.is_under_way = False
        self.started = 0
        self.fd = -1

    def watch(self, fd: int) -> None:
        assert not self.is_under_way
        self.watched.append(fd)

    def start(self) -> None:
        assert not self.is_under_way
        self.is_under_way = True
        self.started += 1

    def finish(self) -> None:
        assert self.is_under_way
        self.is_under_way = False
        self.disk.fdatasync(self.watched[-1])

    def close(self) -> None:
        assert not self.is_under_way


class Bed:
    def __init__(self, policy: str = "always", segment_bytes: int = 1 << 20) -> None:
        self.disk = FakeDisk()
        self.options = EngineOptions(appendfsync=policy, segment_bytes=segment_bytes)
        self.engine, _ = open_store(self.disk, self.options)
        self.engine.create(b"t", schema(), False)
        self.engine.wal.commit()
        self.engine.wal.sync()
        self.syncer = StepSyncer(self.disk)
        self.rolls = 0
        self.prepares = 0
        self.committer = Committer(
            self.engine.wal, self.syncer, always=policy == "always", roll=self._roll, prepare=self._prepare
        )

    def _roll(self) -> None:
        self.rolls += 1

    def _prepare(self) -> None:
        self.prepares += 1

    def insert(self, number: int) -> int:
        self.engine.insert(self.engine.table(b"t"), number, row(1))
        return self.engine.appended

    def after_power_loss(self) -> Engine:
        return open_store(self.disk.crash(), self.options)[0]


def test_what_comes_during_a_sync_is_the_next_group() -> None:
    bed = Bed()
    wal, committer = bed.engine.wal, bed.committer
    first = bed.insert(1)
    committer.wake()
    second = bed.insert(2)
    committer.wake()
    assert (wal.released, wal.written, wal.groups) == (wal.durable, first, 3)
    committer.sync_ended()
    assert wal.released == first and not bed.syncer.is_under_way, "the next wake takes the next group"
    third = bed.insert(3)
    committer.wake()
    assert wal.written == third > second
    assert sorted(contents(bed.after_power_loss())[b"t"]) == [1]
    committer.sync_ended()
    assert wal.released == third
    assert sorted(contents(bed.after_power_loss())[b"t"]) == [1, 2, 3]
    committer.stop()


def test_what_is_too_much_for_a_batch_makes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is larger than a reader takes is an end of the log for whoever starts next."""
    monkeypatch.setattr("storage.wal.GROUP_BYTES_MAX", 1000)
    monkeypatch.setattr("storage.format.BATCH_PAYLOAD_MAX", 2000)
    bed = Bed(segment_bytes=4096)
    wal, committer = bed.engine.wal, bed.committer
    groups = wal.groups
    for number in range(100):
        bed.insert(number)
    committer.wake()
    while wal.durable < wal.appended:
        if bed.syncer.is_under_way:
            committer.sync_ended()
            committer.wake()
        else:
            wal.next_segment()
            committer.rolled()
    assert wal.groups - groups == math.ceil(100 / (1000 // bed.engine.table(b"t").record_bytes))
    assert bed.rolls > 1
    assert list(contents(bed.after_power_loss())[b"t"]) == list(range(100))


@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_without_always_what_is_written_is_released(policy: str) -> None:
    bed = Bed(policy)
    wal = bed.engine.wal
    position = bed.insert(1)
    bed.committer.wake()
    assert wal.released == position > wal.durable
    assert bed.syncer.started == 0
    bed.committer.make_durable()
    bed.insert(2)
    bed.committer.make_durable()
    bed.committer.sync_ended()
    assert bed.syncer.started == 2, "what was asked for meanwhile follows by itself"
    bed.committer.sync_ended()
    assert wal.durable == wal.appended
    bed.committer.stop()


def test_a_change_of_segment_is_waited_for() -> None:
    bed = Bed(segment_bytes=2048)
    wal, committer = bed.engine.wal, bed.committer
    number = 0
    while not bed.rolls:
        number += 1
        bed.insert(number)
        committer.wake()
        if bed.syncer.is_under_way:
            committer.sync_ended()
    released = wal.released
    late = bed.insert(number + 1)
    committer.wake()
    assert bed.rolls == 1 and wal.released == released and not bed.syncer.is_under_way
    wal.next_segment()
    committer.rolled()
    assert bed.syncer.watched[-1] == wal.fd != bed.syncer.watched[0]
    committer.sync_ended()
    assert wal.released == late
    assert sorted(contents(bed.after_power_loss())[b"t"]) == list(range(1, number + 2))
    committer.stop()


def test_a_segment_that_is_too_small_once_it_is_there_is_replaced() -> None:
    """More than a segment waits, and more comes while one of the right size is made. None may be dropped."""
    bed = Bed(segment_bytes=2048)
    wal, committer = bed.engine.wal, bed.committer
    for number in range(100):
        bed.insert(number)
    committer.wake()
    for rolls in (1, 2):
        assert bed.rolls == rolls
        wal.next_segment()
        if rolls == 1:
            for number in range(100, 200):
                bed.insert(number)
        committer.rolled()
    committer.sync_ended()
    cut = bed.engine.begin_checkpoint()
    cut.write()
    bed.engine.end_checkpoint(cut)
    assert wal.durable == wal.appended
    assert sorted(contents(bed.after_power_loss())[b"t"]) == list(range(200))
    committer.stop()


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_without_a_next_segment_it_waits_and_goes_on_in_order() -> None:
    bed = Bed("everysec", segment_bytes=2048)
    wal, committer = bed.engine.wal, bed.committer
    number = 0
    while not bed.rolls:
        number += 1
        bed.insert(number)
        committer.wake()
    released = wal.released
    bed.disk.fail(1, lambda: FULL, sticky=True)
    bed.disk.fail_at += 1  # the sync of the segment before is let through
    with pytest.raises(OSError, match="No space"):
        wal.next_segment()
    committer.stalled()
    late = bed.insert(number + 1)
    committer.wake()
    assert (bed.rolls, wal.released, wal.failed) == (1, released, False)
    committer.resume()
    assert bed.rolls == 2, "it asks for a segment again"
    bed.disk.fail_at = 0
    wal.next_segment()
    committer.rolled()
    assert wal.released == late and not committer.is_stalled
    committer.make_durable()
    committer.sync_ended()
    assert sorted(contents(bed.after_power_loss())[b"t"]) == list(range(1, number + 2))
    committer.stop()


def test_a_write_without_room_waits_and_syncs_go_on() -> None:
    """As on a file system that takes room for each write, preallocated or not."""
    bed = Bed("everysec")
    wal, committer = bed.engine.wal, bed.committer
    first = bed.insert(1)
    committer.wake()
    bed.insert(2)
    bed.disk.fail(1, lambda: FULL)
    with pytest.raises(OSError, match="No space"):
        committer.wake()
    late = bed.insert(3)
    committer.wake()
    assert wal.written == first, "it is asked again only when there may be room"
    committer.make_durable()
    committer.sync_ended()
    assert wal.durable == first, "what was written is synced in its time"
    committer.resume()
    assert wal.released == late
    committer.make_durable()
    committer.sync_ended()
    assert sorted(contents(bed.after_power_loss())[b"t"]) == [1, 2, 3]
    committer.stop()


def test_a_sync_that_says_no_space_is_the_end() -> None:
    bed = Bed()
    bed.insert(1)
    committer = bed.committer
    committer.wake()
    bed.disk.fail(1, lambda: FULL)
    with pytest.raises(SyncFailed):
        committer.sync_ended()
    assert bed.engine.wal.failed
    committer.stop()


def test_the_next_segment_is_asked_for_once_when_a_quarter_is_used() -> None:
    bed = Bed("no", segment_bytes=8192)
    wal = bed.engine.wal
    number = 0
    while not bed.rolls:
        number += 1
        bed.insert(number)
        bed.committer.wake()
        assert bed.prepares == (wal.offset >= 2048)
    bed.committer.stop()


def test_a_failed_sync_is_the_end() -> None:
    bed = Bed()
    before = bed.engine.wal.released
    bed.insert(1)
    bed.committer.wake()
    bed.disk.fail(1, lambda: OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError):
        bed.committer.sync_ended()
    bed.insert(2)
    with pytest.raises(OSError):
        bed.committer.wake()
    assert bed.engine.wal.released == before
    bed.committer.stop()


def test_stop_waits_for_the_sync_under_way_and_begins_no_other() -> None:
    bed = Bed()
    position = bed.insert(1)
    bed.committer.wake()
    bed.insert(2)
    bed.committer.stop()
    bed.committer.wake()
    assert bed.engine.wal.durable == position < bed.engine.appended
