"""KL.BACKUP: a copy that is whole and on disk, or nothing that bears its name."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from storage.backup import TOKENS_LEAP, Backup, BackupError, backup_name
from storage.check import check
from storage.engine import Engine
from storage.errors import DamageError, StoreError
from storage.format import TOKENS_RESERVED
from storage.manifest import Manifest
from storage.recovery import Opening
from storage.row_file import table_path
from tests.fake_disk import Change, Crash, FakeDisk
from tests.store import (
    DIRECTORY,
    OPTIONS,
    Contents,
    FakeClock,
    assert_sound,
    checkpoint,
    contents,
    open_store,
    row,
    schema,
)

FOLDER = Path("backups")


class NarrowDisk(FakeDisk):
    """One that has no room for what is written to new files under `refused_in`."""

    refused_in = Path("nowhere")

    def create(self, path: Path) -> int:
        fd = super().create(path)
        if self.refused_in in path.parents:
            self._full.add(fd)
        return fd

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        if fd in self._full:
            raise OSError(28, "No space left on device")
        self.written.append(Change(offset, bytes(data)))
        super().pwrite(fd, data, offset)

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Change] = []
        self._full: set[int] = set()


def store() -> tuple[NarrowDisk, Engine]:
    """100 rows in their places, 20 more and a change in the log alone; an empty table, a dropped one."""
    disk = NarrowDisk()
    engine, _ = open_store(disk)
    for name in (b"seats", b"empty", b"gone"):
        engine.create(name, schema(), False)
    seats = engine.table(b"seats")
    for number in range(100):
        engine.insert(seats, number, row(number % 4, 7, b"n%d" % number))
    checkpoint(engine)
    for number in range(70_000, 70_020):
        engine.insert(seats, number, row(number % 4))
    write(engine, 5, 9)
    engine.drop(b"gone")
    engine.wal.commit()
    return disk, engine


def write(engine: Engine, number: int, state: int) -> int:
    table = engine.table(b"seats")
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, {b"state": state}, True)
    return token


def back_up(engine: Engine, name: str = "monday") -> Path:
    backup = Backup(engine, FOLDER, name)
    backup.start()
    engine.wal.commit()
    return Path(backup.finish(backup.run())).relative_to(Path.cwd())


def served(disk: FakeDisk, directory: Path) -> Engine:
    """A server's start on a copy: it has nothing to warn of."""
    opening = Opening(directory, OPTIONS, disk, FakeClock())
    for _ in opening:
        pass
    assert opening.warnings == []
    return opening.engine


def test_the_copy_is_the_store_at_its_position() -> None:
    disk, engine = store()
    at_the_cut = contents(engine)
    backup = Backup(engine, FOLDER, "monday")
    backup.start()
    write(engine, 6, 200)  # behind the cut, in the same batch of the log
    engine.insert(engine.table(b"empty"), 1, row(1))
    engine.wal.commit()
    outcome = backup.run()
    write(engine, 7, 201)
    path = backup.finish(outcome)
    assert Path(path) == Path.cwd() / FOLDER / "monday"
    assert list(check(disk, FOLDER / "monday")) == []
    copy = served(disk, FOLDER / "monday")
    assert contents(copy) == at_the_cut != contents(engine)
    assert disk.names(FOLDER) == ["monday"]
    engine.wal.commit()
    assert_sound(engine, disk)


def test_copy_and_original_go_their_own_ways() -> None:
    disk, engine = store()
    back_up(engine)
    copy = served(disk, FOLDER / "monday")
    write(copy, 1, 100)
    write(engine, 1, 101)
    for one, directory in ((copy, FOLDER / "monday"), (engine, DIRECTORY)):
        one.wal.commit()
        checkpoint(one)
        assert list(check(disk, directory)) == []
    assert copy.manifest.uuid != engine.manifest.uuid
    assert contents(copy)[b"seats"][1][b"state"] == 100
    assert contents(engine)[b"seats"][1][b"state"] == 101


def test_a_segment_of_the_original_is_refused_in_the_copy() -> None:
    """Its positions would fit: the uuid tells."""
    disk, engine = store()
    back_up(engine)
    write(engine, 1, 101)
    engine.wal.commit()
    (mine,) = [path for path in disk.named if path.parent == FOLDER / "monday" / "wal"]
    disk.named[mine] = disk.named[engine.wal.segments[-1][1]]
    with pytest.raises(StoreError, match="belongs to store"):
        served(disk, FOLDER / "monday")


def test_tokens_of_the_copy_are_above_those_of_the_original_after_it() -> None:
    first, engine = store()
    back_up(engine)
    disk = first.crash()
    for _ in range(5):  # each start goes on above all that could have been given out
        engine, _ = open_store(disk)
        checkpoint(engine)
        disk = disk.crash()
    engine, _ = open_store(disk)
    last = write(engine, 1, 3)
    assert last > 5 * TOKENS_RESERVED
    assert served(disk, FOLDER / "monday").draw_token() > TOKENS_LEAP + last - 6 * TOKENS_RESERVED


def test_a_copy_near_the_last_token_has_some_left() -> None:
    disk, engine = store()
    engine.token = 2**53 - 2**30
    engine.reserve_tokens()
    back_up(engine)
    copy = served(disk, FOLDER / "monday")
    assert engine.tokens_reserved < copy.draw_token() < 2**53 - 2**28


def test_an_existing_name_is_refused_and_the_store_goes_on() -> None:
    disk, engine = store()
    back_up(engine)
    before = disk.image()
    write(engine, 1, 9)
    backup = Backup(engine, FOLDER, "monday")
    with pytest.raises(BackupError, match="EXISTS backup 'monday' exists"):
        backup.start()
    assert {path for path in disk.image() if FOLDER in path.parents} == {
        path for path in before if FOLDER in path.parents
    }
    engine.wal.commit()
    back_up(engine, "tuesday")
    assert contents(served(disk, FOLDER / "tuesday")) == contents(engine)


def test_a_name_that_comes_to_be_meanwhile_is_not_replaced() -> None:
    disk, engine = store()
    backup = Backup(engine, FOLDER, "monday")
    backup.start()
    engine.wal.commit()
    disk.make_directory(FOLDER / "monday")
    with pytest.raises(BackupError, match="EXISTS"):
        backup.finish(backup.run())
    assert not any(FOLDER in path.parents for path in disk.named)


def test_a_folder_in_the_data_directory_is_refused() -> None:
    _, engine = store()
    for folder in (DIRECTORY, DIRECTORY / "backups", DIRECTORY / "wal"):
        with pytest.raises(BackupError, match="lies in the data directory"):
            Backup(engine, folder, "monday").start()


@pytest.mark.parametrize(
    "text", [b"", b"a/b", b"/", b".", b"..", b".hidden", b"a\0b", b"a\nb", b"\xff", b"x" * 201]
)
def test_names_that_are_refused(text: bytes) -> None:
    with pytest.raises(BackupError, match="ERR invalid backup name"):
        backup_name(text)


@pytest.mark.parametrize("text", ["monday", "2026-11-25T10:00", "a b", "x" * 200, "grün", "tables", "a.tmp"])
def test_names_that_are_taken(text: str) -> None:
    assert backup_name(text.encode()) == text


def test_damage_in_the_row_file_makes_no_backup() -> None:
    disk, engine = store()
    disk.damage(table_path(DIRECTORY, 1), 1 * 4096 + 100)
    with pytest.raises(BackupError, match=r"the copy is damaged.*block 1"):
        back_up(engine)
    assert not any(FOLDER in path.parents for path in disk.named)
    write(engine, 1, 9)
    engine.wal.commit()


READS = ("names", "exists", "open_readonly", "close", "size", "pread")


def begun() -> tuple[NarrowDisk, Engine, Backup, Contents]:
    """A backup whose checkpoint is made and whose copying is still to come; what it has to hold."""
    disk, engine = store()
    before = contents(engine)
    backup = Backup(engine, FOLDER, "monday")
    backup.start()
    engine.wal.commit()
    backup._checkpoint.write()
    return disk, engine, backup, before


def changing_calls() -> list[int]:
    """Which calls of the copying change the disk: a crash at one that reads is one at the next of these."""
    disk, _, backup, _ = begun()
    before = disk.calls
    backup._copy()
    log = enumerate(disk.log[before:], 1)
    return [number for number, what in log if not what.startswith(READS)]


CALLS = changing_calls()


def test_a_disk_that_is_full_makes_no_backup_and_harms_nothing() -> None:
    assert len(CALLS) > 20
    for number in CALLS:
        disk, engine, backup, before = begun()
        disk.fail(number, lambda: OSError(28, "No space left on device"))
        print(f"call {number} of the copying fails")
        with pytest.raises(OSError, match="No space"):
            backup._copy()
        engine.end_checkpoint(backup._checkpoint)
        # Its last call syncs the name: the backup is there, and the answer is that this is not sure.
        assert disk.exists(FOLDER / "monday") == (number == CALLS[-1])
        write(engine, 1, 9)
        checkpoint(engine)
        assert_sound(engine, disk)
        back_up(engine, "tuesday")
        assert contents(served(disk, FOLDER / "tuesday")) == contents(engine) != before


def test_a_copying_that_fails_is_an_error_and_gives_the_room_back() -> None:
    disk, engine = store()
    backup = Backup(engine, FOLDER, "monday")
    backup.start()
    engine.wal.commit()
    disk.refused_in = FOLDER
    outcome = backup.run()
    with pytest.raises(BackupError, match=r"ERR KL.BACKUP failed: .*No space left"):
        backup.finish(outcome)
    assert not any(FOLDER in path.parents for path in disk.named)
    checkpoint(engine)
    assert_sound(engine, disk)


@pytest.mark.parametrize("seed", [None, *range(4)])
def test_a_crash_at_any_call_leaves_the_copy_or_nothing_of_its_name(seed: int | None) -> None:
    """None: nothing survives that was not synced; else the generator picks what does."""
    unfinished = 0
    for number in CALLS:
        disk, _, backup, before = begun()
        disk.fail(number)
        with pytest.raises(Crash):
            backup._copy()
        print(f"seed {seed}, crash at call {number} of the copying: {disk.log[-1]}")
        after = disk.crash(None if seed is None else random.Random(seed * 100_000 + number))
        if any(FOLDER / "monday" in path.parents for path in after.named):
            assert number == CALLS[-1]
            assert list(check(after, FOLDER / "monday")) == []
            assert contents(served(after, FOLDER / "monday")) == before
        else:
            unfinished += any(FOLDER in path.parents for path in after.named)
        engine, _ = open_store(after)
        assert contents(engine) == before
        back_up(engine, "tuesday")
        files = [path.suffix or path.name[:5] for path in after.named if FOLDER / "tuesday" in path.parents]
        assert sorted(files) == [".rows", ".wal", "CHECK", "index"], "nothing of the one before is in it"
        assert contents(served(after, FOLDER / "tuesday")) == before
        assert [name for name in after.names(FOLDER) if name[0] == "."] == []
    assert unfinished > 5


def test_what_is_not_finished_is_no_data_directory_until_its_last_step() -> None:
    """Should somebody take it for one all the same: a start refuses it, or it is whole."""
    refused = 0
    for number in CALLS:
        disk, _, backup, before = begun()
        disk.fail(number)
        with pytest.raises(Crash):
            backup._copy()
        after = disk.crash()
        (place,) = {path for path in after.directories if path.name.endswith(".unfinished")} or {FOLDER}
        if after.exists(place / "CHECKPOINT"):
            assert contents(served(after, place)) == before
        elif any(place in path.parents for path in after.named):
            refused += 1
            with pytest.raises(DamageError, match="not a new store"):
                served(after, place)
    assert refused > 3


def test_what_was_never_written_takes_no_room_in_the_copy() -> None:
    """Row 70,000 lies 3 MB behind row 99."""
    disk, engine = store()
    back_up(engine)
    ours, theirs = (disk.image()[table_path(directory, 1)] for directory in (DIRECTORY, FOLDER / "monday"))
    assert ours == theirs
    assert len(theirs) > 3_000_000
    assert sum(len(change.data or b"") for change in disk.written if change.offset > 131_072) < 300_000


def test_the_copy_is_of_the_manifest_on_disk() -> None:
    disk, engine = store()
    back_up(engine)
    theirs, ours = Manifest.load(disk, FOLDER / "monday"), Manifest.load(disk, DIRECTORY)
    assert theirs.position == ours.position == engine.checkpoint_position
    assert theirs.tables == ours.tables
    assert (theirs.epoch, ours.epoch) == (0, 1)
