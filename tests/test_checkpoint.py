"""A checkpoint is the state at its cut, whatever is written beside it, and a torn block comes back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from storage import format as fmt
from storage import row_file
from storage.check import check
from storage.engine import Engine, EngineOptions
from storage.errors import DamageError, StartError
from storage.fs import OsFs
from storage.manifest import Manifest
from storage.recovery import Opening
from storage.scan import Needle, RowFile
from tests.fake_disk import Crash, FakeDisk
from tests.store import DIRECTORY, assert_sound, checkpoint, contents, open_store, row, schema

ROWS = 300
FILE = row_file.table_path(DIRECTORY, 1)


def store() -> tuple[FakeDisk, Engine]:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    for number in range(ROWS):
        engine.insert(engine.table(b"seats"), number, row(1))
    checkpoint(engine)
    return disk, engine


def write(engine: Engine, number: int, state: int) -> None:
    table = engine.table(b"seats")
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, {b"state": state}, True)


def states_on_disk(disk: FakeDisk) -> list[int]:
    state = Manifest.load(disk, DIRECTORY).tables[0]
    file = RowFile(disk, DIRECTORY, state)
    states: dict[int, int] = {}
    for step in file.steps():
        assert step.corrupt == []
        for value in range(256):
            mask = step.present() & step.having(Needle.of(file.schema, b"state", value))
            states |= dict.fromkeys(step.ids(mask), value)
    return [states[number] for number in sorted(states)]


def test_writes_during_the_cut_do_not_get_into_it() -> None:
    disk, engine = store()
    for number in range(0, ROWS, 2):
        write(engine, number, 2)
    engine.wal.commit()
    cut = engine.begin_checkpoint()
    for number in range(ROWS):
        write(engine, number, 9)
    engine.insert(engine.table(b"seats"), ROWS, row(9))
    cut.write()
    engine.end_checkpoint(cut)
    assert states_on_disk(disk) == [2, 1] * (ROWS // 2)
    checkpoint(engine)
    assert states_on_disk(disk) == [9] * (ROWS + 1)
    assert_sound(engine, disk)


@pytest.mark.parametrize("seed", range(5))
def test_each_block_is_as_it_was_when_writers_come_between_two_blocks(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    _, engine = store()
    rows = engine.table(b"seats").rows
    for number in chance.sample(range(ROWS), 100):
        write(engine, number, chance.randrange(200))
    blocks = sorted(rows.dirty)
    before = {block: bytes(rows.directories[0][block * 4096 : (block + 1) * 4096]) for block in blocks}
    assert rows.begin_cut() == len(blocks)
    seen: list[int] = []
    for part, images in rows.cut_slices(chance.choice((1, 2, 100))):
        assert images == b"".join(before[block] for block in part)
        seen += part
        for number in chance.sample(range(ROWS), 20):
            write(engine, number, chance.randrange(200))
    assert seen == blocks
    rows.end_cut()
    assert rows.preimages == {}
    changed = {
        block
        for block in range(rows.schema.blocks_per_directory)
        if block in before and rows.directories[0][block * 4096 : (block + 1) * 4096] != before[block]
    }
    assert changed <= rows.dirty


@pytest.mark.parametrize("state_behind", [None, 3])
def test_the_cut_may_lie_inside_a_batch(state_behind: int | None) -> None:
    """The committer takes all that waits: what came before the cut and behind it, in one batch."""
    disk, engine = store()
    write(engine, 1, 2)
    cut = engine.begin_checkpoint()
    write(engine, 1, 5)
    write(engine, 2, 6)
    engine.wal.commit()
    cut.write()
    engine.end_checkpoint(cut)
    if state_behind is not None:
        write(engine, 2, state_behind)
        engine.wal.commit()
    before = contents(engine)
    assert list(check(disk, DIRECTORY)) == []
    for _ in range(3):
        disk = disk.crash()
        engine, warnings = open_store(disk)
        assert (contents(engine), warnings) == (before, [])
        assert_sound(engine, disk)


def test_cuts_do_not_nest() -> None:
    _, engine = store()
    engine.begin_checkpoint()
    with pytest.raises(AssertionError, match="one cut at a time"):
        engine.begin_checkpoint()


def crashed_between_doublewrite_and_place() -> FakeDisk:
    """The double-write file is whole and durable, the first block in place is being written."""
    for at in range(1, 60):
        disk, engine = store()
        for number in range(ROWS):
            write(engine, number, 7)
        engine.wal.commit()
        cut = engine.begin_checkpoint()
        disk.fail(at)
        with pytest.raises(Crash):
            cut.write()
        in_place = [call for call in disk.log if call == f"open {FILE.name}"]
        if len(in_place) == 2 and disk.log[-1].startswith("fsync "):
            return disk
    raise AssertionError("no such call")


@pytest.mark.parametrize("seed", range(10))
def test_crash_between_doublewrite_and_place_restores_the_blocks(seed: int) -> None:
    print(f"seed {seed}")
    disk = crashed_between_doublewrite_and_place().crash(random.Random(seed))
    torn = [
        block
        for block in range(len(disk.named[FILE].seen) // fmt.BLOCK_BYTES)
        if not fmt.block_is_sound(disk.image()[FILE][block * 4096 : (block + 1) * 4096], block)
    ]
    engine, warnings = open_store(disk)
    assert [warning for warning in warnings if "double-write" in warning] == [
        f"{FILE}: block {block} was torn; restored from the double-write file" for block in torn
    ]
    shown = contents(engine)[b"seats"]
    assert {values[b"state"] for values in shown.values()} == {7}
    assert_sound(engine, disk)
    again, warnings = open_store(disk.crash())
    assert warnings == []
    assert contents(again)[b"seats"] == shown


def test_rotten_block_is_restored_while_the_copy_is_there() -> None:
    disk, _ = store()
    disk.damage(FILE, 4096 + 77)
    engine, warnings = open_store(disk.crash())
    assert len(warnings) == 1
    assert "block 1 was torn" in warnings[0]
    assert len(contents(engine)[b"seats"]) == ROWS


def test_rotten_block_without_a_copy_refuses_the_start() -> None:
    disk, engine = store()
    write(engine, 0, 5)
    checkpoint(engine)  # the double-write file has block 0 alone now
    disk.damage(FILE, 4096 + 77)
    before = disk.image()
    after = disk.crash()
    with pytest.raises(DamageError, match=r"block 1 \(offset 4096\) fails its checksum.*nothing was changed"):
        open_store(after)
    assert after.image() == before


def test_a_block_of_zeros_that_the_doublewrite_file_has_is_restored() -> None:
    """A power loss may zero a block that was being put in place: it was not left unwritten."""
    disk, engine = store()
    for content in (disk.named[FILE].seen, disk.named[FILE].synced):
        content[4096:8192] = bytes(4096)
    after = disk.crash()
    assert list(check(after, DIRECTORY)) == []
    again, warnings = open_store(after)
    assert contents(again) == contents(engine)
    assert warnings
    assert all("restored from the double-write file" in warning for warning in warnings)
    assert_sound(again, after)


def test_lost_block_refuses_the_start() -> None:
    disk, engine = store()
    write(engine, 0, 3)
    checkpoint(engine)  # the double-write file has block 0 only from now on
    disk.cut(FILE, 4096)
    with pytest.raises(DamageError, match=r"block 1 is empty, but rows \d+\.\.\d+ were there"):
        open_store(disk.crash())


@pytest.mark.parametrize("how", ["damaged", "missing", "short"])
def test_index_file_is_only_a_cache(how: str) -> None:
    disk, engine = store()
    path = DIRECTORY / engine.manifest.index_file
    if how == "damaged":
        disk.damage(path, 40)
    elif how == "short":
        disk.cut(path, 5)
    else:
        disk.unlink(path)
        disk.fsync_directory(DIRECTORY)
    after = disk.crash()
    assert [trouble for trouble in check(after, DIRECTORY) if path.name not in trouble] == []
    assert len(list(check(after, DIRECTORY))) == 1
    again, warnings = open_store(after)
    assert len(warnings) == 1
    assert "made again from the rows" in warnings[0]
    checkpoint(again)
    assert_sound(again, after)


def test_check_compares_the_posting_lists_with_the_rows() -> None:
    """An index file whose checksum is right, and that says that row 7 has another state."""
    disk, engine = store()
    lists = engine.table(b"seats").index.lists[engine.table(b"seats").index.columns[b"state"]]
    write(engine, 9, 9)
    lists[1].rows.discard(7)
    lists[9].rows.add(7)
    checkpoint(engine)
    found = list(check(disk, DIRECTORY))
    assert len(found) == 2
    assert all("field state, value" in trouble and "row 7" in trouble for trouble in found)


def test_checkpoint_of_an_old_epoch_is_refused() -> None:
    disk, engine = store()
    write(engine, 0, 5)
    engine.wal.commit()
    open_store(disk.killed())  # another server took the directory over
    cut = engine.begin_checkpoint()
    with pytest.raises(StartError, match="epoch 2 has taken over from 1"):
        cut.write()


def taken_over() -> tuple[FakeDisk, Engine, Engine]:
    """A server that another took the directory from, though it lives: somebody removed the LOCK file."""
    disk, old = store()
    write(old, 0, 5)
    old.wal.commit()
    theirs = disk.killed()
    new, _ = open_store(theirs)
    write(new, 1, 6)
    new.wal.commit()
    return theirs, old, new


def test_checkpoint_of_an_old_epoch_touches_nothing() -> None:
    disk, old, new = taken_over()
    write(old, 1, 7)
    old.wal.commit()
    tables_and_more = {path: data for path, data in disk.image().items() if path.suffix != ".wal"}
    cut = old.begin_checkpoint()
    with pytest.raises(StartError, match="epoch 2 has taken over from 1"):
        cut.write()
    assert {path: data for path, data in disk.image().items() if path.suffix != ".wal"} == tables_and_more
    assert_sound(new, disk)
    again, _ = open_store(disk.crash())
    assert contents(again) == contents(new)


def test_segments_of_an_old_epoch_do_not_get_into_the_log() -> None:
    """What it went on to write, and answered, is lost; what the new one answered is not."""
    disk, old, new = taken_over()
    for number in range(20):
        write(old, number, 7)
        old.wal.commit()
        write(new, number, 8)
        new.wal.commit()
    assert len(old.wal.segments) > 3
    assert list(check(disk, DIRECTORY)) == []
    again, warnings = open_store(disk.crash())
    assert (contents(again), warnings) == (contents(new), [])


def test_old_segments_and_files_of_dropped_tables_go() -> None:
    disk, engine = store()
    for number in range(ROWS):
        write(engine, number, 3)
        engine.wal.commit()
    assert len(engine.wal.segments) > 3
    engine.drop(b"seats")
    checkpoint(engine)
    assert len(engine.wal.segments) == 1
    names = {path.name for path in disk.crash().named if path.parent.name != "archive"}
    assert names == {
        "LOCK",
        "CHECKPOINT",
        "doublewrite",
        engine.manifest.index_file,
        engine.wal.segments[0][1].name,
    }


def test_many_small_commits_make_a_checkpoint_due_by_the_room_they_take() -> None:
    """Each is a batch of 512 bytes with a record of a seventh of it: a start has to read the batches."""
    disk = FakeDisk()
    options = EngineOptions(segment_bytes=4096, checkpoint_bytes=8192)
    engine, _ = open_store(disk, options)
    engine.create(b"seats", schema(), False)
    commits = 0
    while not engine.checkpoint_due:
        engine.insert(engine.table(b"seats"), commits, row(1))
        engine.wal.commit()
        commits += 1
    assert engine.appended - engine.checkpoint_position < 8192 / 2
    assert len(engine.wal.segments) == 1 + 2 * 8192 // 4096
    checkpoint(engine)
    assert not engine.checkpoint_due


class CountingFs(OsFs):
    """How many descriptors are open at once."""

    def __init__(self) -> None:
        self.open_now = self.most = 0

    def _opened(self, fd: int) -> int:
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        return fd

    def create(self, path: Path) -> int:
        return self._opened(super().create(path))

    def open(self, path: Path) -> int:
        return self._opened(super().open(path))

    def open_readonly(self, path: Path) -> int:
        return self._opened(super().open_readonly(path))

    def close(self, fd: int) -> None:
        super().close(fd)
        self.open_now -= 1


def test_a_checkpoint_of_many_tables_needs_few_descriptors(tmp_path: Path) -> None:
    fs = CountingFs()
    opening = Opening(tmp_path / "data", EngineOptions(), fs)
    for _ in opening:
        pass
    engine = opening.engine
    for number in range(100):
        engine.create(b"t%d" % number, schema(), False)
        engine.insert(engine.table(b"t%d" % number), 1, row(1))
    checkpoint(engine)
    engine.close()
    assert fs.most <= 8
