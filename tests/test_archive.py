"""The archive: what the log lets go of is kept in its order, goes oldest first, and never is in the way."""

from __future__ import annotations

import errno
import itertools
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from storage import archive as archive_of
from storage import format as fmt
from storage.archive import DAY_MS, Archive, Statistics
from storage.engine import Engine, EngineOptions
from storage.fs import OsFs
from storage.recovery import Opening
from tests.fake_disk import Crash, FakeDisk
from tests.store import DIRECTORY, checkpoint, contents, open_store, row, schema

OPTIONS = EngineOptions(segment_bytes=4096)
FOLDER = DIRECTORY / archive_of.NAME
WAL = DIRECTORY / "wal"


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Days since 1970 by the wall clock, for a test to set."""
    now = [20_000.0]
    monkeypatch.setattr(time, "time_ns", lambda: int(now[0] * DAY_MS) * 1_000_000)
    yield now


def filled(engine: Engine, segments: int = 1) -> None:
    """So many segments more, and a checkpoint that lets go of them."""
    if not engine.tables:
        engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    end = len(engine.wal.segments) + segments
    while len(engine.wal.segments) < end:
        engine.insert(seats, len(seats.rows.present), row(1))
        engine.wal.commit()
    checkpoint(engine)


def names(disk: FakeDisk, folder: Path = FOLDER) -> list[str]:
    return sorted(path.name for path in disk.named if path.parent == folder)


def firsts(disk: FakeDisk) -> list[int]:
    return [int(name[:16], 16) for name in names(disk)]


def test_what_the_log_lets_go_of_is_kept() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine, 3)
    kept = names(disk)
    assert len(kept) == 3 and kept[0].startswith("0000000000000000-")
    assert names(disk, WAL) == [engine.wal.segments[0][1].name]
    sizes = sum(len(disk.named[FOLDER / name].seen) for name in kept)
    assert engine.archive.statistics() == Statistics(3, sizes, 0)
    after = disk.crash()
    again, _ = open_store(after, OPTIONS)
    assert names(after)[:3] == kept and again.archive.statistics().segments == len(names(after)) == 4, (
        "a start goes on in a segment of its own"
    )


def test_room_that_was_never_used_is_given_back() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=1 << 20))
    engine.create(b"seats", schema(), False)
    engine.wal.commit()
    used = engine.wal.offset
    path = engine.wal.segments[0][1]
    before = bytes(disk.named[path].seen)
    engine.wal.next_segment()
    checkpoint(engine)
    kept = bytes(disk.crash().named[FOLDER / path.name].seen)
    assert used <= len(kept) <= used + 2 * fmt.BLOCK_BYTES < len(before) == 1 << 20
    assert before.startswith(kept)


def test_limits_may_change_and_leave_no_gap() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine, 2)
    kept = firsts(disk)
    engine.archive.limit(keep_days=7, bytes_max=0)
    assert firsts(disk) == kept, "until a segment comes"
    filled(engine)
    assert engine.archive.statistics() == Statistics()
    engine.archive.limit(keep_days=7, bytes_max=1 << 20)
    begin = engine.wal.segments[0][0]
    filled(engine, 2)
    assert firsts(disk)[0] == begin == engine.archive.statistics().first


def test_without_an_archive_segments_go_as_they_did() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_bytes_max=0))
    filled(engine, 3)
    assert FOLDER not in disk.directories
    assert len(names(disk, WAL)) == 1
    assert engine.archive.statistics() == Statistics()


def test_more_bytes_than_allowed_make_the_oldest_go() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_bytes_max=9000))
    seen = set[str]()
    for _ in range(6):
        filled(engine)
        seen |= set(names(disk))
        assert engine.archive.statistics().bytes <= 9000
    assert names(disk) == sorted(seen)[-2:]
    engine.close()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_bytes_max=5000))
    assert len(names(disk)) == 1 and names(disk) > sorted(seen)[-1:], "and the start's own end came to it"
    engine.close()
    open_store(disk, EngineOptions(segment_bytes=4096, history_bytes_max=0))
    assert names(disk) == []


def test_what_is_older_than_allowed_goes(days: list[float]) -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_keep_days=7))
    for _ in range(20):
        filled(engine)
        days[0] += 1
    assert len(names(disk)) == 8, "one a day"
    first = firsts(disk)
    assert first == sorted(first)


def test_a_clock_that_jumps_ahead_costs_the_oldest_only(days: list[float]) -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_keep_days=7))
    filled(engine, 5)
    filled(engine, 5)
    before = names(disk)
    days[0] += 10_000
    filled(engine)
    assert names(disk)[:-1] == before[2:]
    days[0] -= 10_000
    filled(engine)
    assert names(disk)[:-2] == before[2:], "nothing is old any more"
    days[0] += 8
    for _ in range(8):
        filled(engine)
    assert not set(names(disk)) & set(before), "what is dated ahead keeps nobody else's from its end"


def test_the_last_one_never_goes_by_age(days: list[float]) -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_keep_days=0))
    for _ in range(5):
        filled(engine)
        days[0] += 100
    assert len(names(disk)) == 1


def test_a_start_archives_what_a_checkpoint_did_not_come_to() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    disk.fail(1, only="rename 0000")
    with pytest.raises(Crash):
        filled(engine, 3)
    after = disk.crash()
    assert names(after) == [] and len(names(after, WAL)) == 4
    engine, warnings = open_store(after, OPTIONS)
    assert warnings == [] and len(names(after)) == 4
    assert names(after, WAL) == [path.name for _, path in engine.wal.segments]


def test_a_start_leaves_the_archive_alone_but_for_files_without_a_name() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine, 2)
    for name in ("0000.wal.tmp", "notes", "old.wal"):
        disk.close(disk.create(FOLDER / name))
    before = names(disk)
    engine.close()
    open_store(disk, OPTIONS)
    assert names(disk) == sorted({*before, *names(disk)} - {"0000.wal.tmp"})
    assert {"notes", "old.wal"} < set(names(disk))


def calls_of_a_checkpoint() -> tuple[FakeDisk, range]:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine, 2)
    begin = disk.calls + 1
    filled(engine, 3)
    engine.close()
    return disk, range(begin, disk.calls + 1)


def is_whole(disk: FakeDisk) -> bool:
    """From its oldest segment on the log is there, in the archive and beside it, without a gap."""
    there: dict[int, bytes] = {}
    for folder in (WAL, FOLDER):
        there |= {
            int(n[:16], 16): bytes(disk.named[folder / n].seen) for n in names(disk, folder) if "-" in n
        }
    begun = sorted(there)
    for first, following in itertools.pairwise(begun):
        position, offset, data = first, fmt.SEGMENT_BYTES, there[first]
        while position < following and offset + fmt.BATCH.size <= len(data):
            magic, length, *_ = fmt.BATCH.unpack_from(data, offset)
            if magic != fmt.BATCH_MAGIC:
                break
            position, offset = position + length, offset + fmt.padded(length)
        if position < following:
            return False
    return bool(begun) and begun[0] == 0


@pytest.mark.parametrize("seed", [None, *range(2)])
def test_no_crash_loses_a_segment(seed: int | None) -> None:
    done, calls = calls_of_a_checkpoint()
    points = 0
    for at in calls:
        disk = FakeDisk()
        engine, _ = open_store(disk, OPTIONS)
        filled(engine, 2)
        disk.fail(at - calls.start + 1)
        with suppress(Crash):
            filled(engine, 3)
            engine.close()
        after = disk.crash(None if seed is None else random.Random(f"{seed}/{at}"))
        print(f"crash at call {at}, {disk.log[-1]!r}")
        assert is_whole(after)
        if seed is not None:
            chance = random.Random(f"start/{seed}/{at}")
            after.fail(chance.randrange(1, 70))
            with suppress(Crash):
                open_store(after, OPTIONS)
            print(f"and in the start behind it at {after.log[-1]!r}")
            after = after.crash(chance)
            assert is_whole(after)
        open_store(after, OPTIONS)
        assert is_whole(after)
        points += 1
    assert points > 60 and is_whole(done)


@pytest.mark.parametrize("seed", range(8))
def test_the_oldest_is_gone_for_good_before_the_next_goes(seed: int) -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine, 6)
    before = names(disk)
    disk.fail(4, only="unlink")
    with pytest.raises(Crash):
        while engine.archive.give_up_oldest():
            pass
    left = names(disk.crash(random.Random(seed)))
    assert left in (before[3:], before[2:])


def test_a_crash_between_the_two_syncs_leaves_a_segment_in_both_and_a_start_in_one() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine)
    disk.fail(2, only="fsync_directory wal")  # the first is that of the new segment's name
    with pytest.raises(Crash):
        filled(engine)
    after = disk.crash()
    assert len(names(after)) == 2 and names(after)[1] in names(after, WAL)
    open_store(after, OPTIONS)
    assert not set(names(after)) & set(names(after, WAL))


def test_hard_links_to_one_file_are_no_trouble(tmp_path: Path) -> None:
    """What rename(2) would leave as it is."""
    wal, name = tmp_path / "wal", "0000000000000000-00000001.wal"
    wal.mkdir()
    (wal / name).write_bytes(b"x" * 1000)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / name).hardlink_to(wal / name)
    kept = Archive(OsFs(), tmp_path, keep_days=1, bytes_max=1 << 20)
    kept.load()
    kept.take(wal / name)
    assert list(wal.iterdir()) == []
    assert kept.statistics() == Statistics(1, 1000, 0)


# --- a full disk --------------------------------------------------------------------------------------


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


class SmallDisk(FakeDisk):
    """Has room for so many bytes of files."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def allocate(self, fd: int, length: int) -> None:
        there = {id(file): len(file.seen) for file in self.named.values()}
        there[id(self._fds[fd][0])] = length
        if sum(there.values()) > self.room:
            raise full()
        super().allocate(fd, length)


def killed(disk: SmallDisk) -> SmallDisk:
    """Only the process died."""
    after = SmallDisk(disk.room)
    after.directories, after.named = disk.directories, disk.named
    after.durably_named, after.unsynced_names = disk.durably_named, disk.unsynced_names
    return after


def test_a_full_disk_takes_the_archive_s_room_first() -> None:
    disk = SmallDisk(64 << 10)
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, ballast_bytes=4096))
    dropped = False
    for _ in range(25):
        before = names(disk)
        filled(engine)
        engine.make_room()
        dropped |= not set(before) <= set(names(disk))
        assert engine.readonly_reason is None and engine.ballast.is_whole
    assert dropped and 1 < len(names(disk)) < 25
    assert firsts(disk)[-1] == max(firsts(disk))


def test_a_start_takes_the_archive_s_room() -> None:
    disk = SmallDisk(1 << 20)
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096))
    filled(engine, 5)
    before = contents(engine)
    disk.room = sum(len(file.seen) for file in disk.named.values()) - 100
    engine, _ = open_store(killed(disk), EngineOptions(segment_bytes=4096))
    assert contents(engine) == before


def test_a_checkpoint_gets_the_archive_s_room() -> None:
    disk = SmallDisk(1 << 20)
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096))
    filled(engine, 5)
    plan = engine.begin_checkpoint()
    assert engine.can_give_room
    disk.room = sum(len(file.seen) for file in disk.named.values()) + plan.room_bytes() - 5000
    assert engine.give_room_to(plan, with_ballast=False)
    assert 0 < len(names(disk)) < 5
    plan.write()
    engine.end_checkpoint(plan)


def test_a_log_that_waits_gets_the_archive_s_room_before_the_ballast_s() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, ballast_bytes=4096))
    filled(engine)
    engine.give_room_to_log()
    assert names(disk) == [] and engine.ballast.is_whole
    engine.give_room_to_log()
    assert not engine.ballast.is_whole


def test_a_segment_that_finds_no_room_in_the_archive_goes() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine)
    disk.fail(1, full, sticky=True, only="rename 0000")
    filled(engine)
    assert names(disk) == [] and len(names(disk, WAL)) == 1
    assert contents(open_store(disk.crash(), OPTIONS)[0]) == contents(engine)


@pytest.mark.parametrize("only", ["open_readonly 0000", "pread"])
def test_what_cannot_be_read_of_it_is_nobody_s_end(only: str) -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    filled(engine)
    disk.fail(1, lambda: OSError(errno.EIO, "Input/output error"), sticky=True, only=only)
    kept = Archive(disk, DIRECTORY, keep_days=1, bytes_max=1 << 20)
    kept.load()
    assert kept.statistics().segments == 1
    kept.take(engine.wal.segments[0][1])
    assert kept.statistics().segments == 2


def test_on_a_real_file_system(tmp_path: Path) -> None:
    opening = Opening(tmp_path / "data", EngineOptions(segment_bytes=1 << 16))
    for _ in opening:
        pass
    filled(opening.engine, 2)
    opening.engine.close()
    assert len(list((tmp_path / "data" / "archive").iterdir())) == 2
    assert (tmp_path / "data" / "archive").stat().st_mode & 0o777 == 0o700
