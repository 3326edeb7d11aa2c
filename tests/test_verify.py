"""VERIFY: three counts that agree while writers go on, and each kind of lie found out."""

from __future__ import annotations

import pytest

from storage.counting import InPlace
from storage.engine import Engine
from storage.row_file import table_path
from storage.verify import Verdict, Verification
from tests.fake_disk import FakeDisk
from tests.store import DIRECTORY, assert_sound, batch_offsets, checkpoint, open_store, row, schema

FIRST_ROW_OF_BLOCK_3 = 3 * ((4096 - 16) // schema().record_bytes)


def store() -> tuple[FakeDisk, Engine]:
    """400 rows in their places, and 20 more in the log alone; state 1 has 105 of them."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    table = engine.table(b"seats")
    for number in range(400):
        engine.insert(table, number, row(number % 4))
    checkpoint(engine)
    for number in range(400, 420):
        engine.insert(table, number, row(number % 4))
    engine.wal.commit()
    return disk, engine


def verify(engine: Engine, value: int = 1) -> Verdict:
    question = Verification(engine, engine.table(b"seats"), b"state", value, InPlace(engine.fs))
    question.start()
    engine.wal.commit()
    return question.finish(question.run())


def test_all_three_agree() -> None:
    disk, engine = store()
    assert verify(engine) == Verdict(420, 105, 105, 105, 0, True)
    assert verify(engine) == Verdict(420, 105, 105, 105, 0, True), "and again, where nothing is new"
    assert verify(engine, 77) == Verdict(420, 0, 0, 0, 0, True)
    assert_sound(engine, disk)


def test_the_position_may_lie_inside_a_batch() -> None:
    """The committer takes all that waits: writes from before the question and behind it, in one batch."""
    disk, engine = store()
    table = engine.table(b"seats")
    write(engine, 2, 1)
    question = Verification(engine, table, b"state", 1, InPlace(engine.fs))
    question.start()
    write(engine, 0, 1)
    write(engine, 1, 0)
    engine.wal.commit()
    assert question.finish(question.run()) == Verdict(420, 106, 106, 106, 0, True)
    write(engine, 3, 1)
    engine.wal.commit()
    assert verify(engine) == Verdict(420, 107, 107, 107, 0, True), "and from there on"
    assert_sound(engine, disk)


def test_later_writes_change_none_of_it() -> None:
    disk, engine = store()
    table = engine.table(b"seats")
    question = Verification(engine, table, b"state", 1, InPlace(engine.fs))
    question.start()
    write(engine, 0, 1)
    write(engine, 1, 0)
    engine.insert(table, 500, row(1))
    engine.wal.commit()
    write(engine, 405, 3)
    verdict = question.run()
    write(engine, 9, 0)
    engine.wal.commit()
    assert question.finish(verdict) == Verdict(420, 105, 105, 105, 0, True)
    assert verify(engine) == Verdict(421, 104, 104, 104, 0, True)
    assert_sound(engine, disk)


def write(engine: Engine, number: int, state: int) -> None:
    table = engine.table(b"seats")
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, {b"state": state}, True)


@pytest.mark.parametrize("dirty", [False, True])
def test_flipped_byte_in_the_row_file(dirty: bool) -> None:
    disk, engine = store()
    disk.damage(table_path(DIRECTORY, 1), 3 * 4096 + 100)
    if dirty:
        write(engine, FIRST_ROW_OF_BLOCK_3, 2)
        engine.wal.commit()
    verdict = verify(engine)
    assert (verdict.ok, verdict.corrupt) == (False, 1)
    assert verdict.index_matched == verify(engine).index_matched


def test_damaged_log_batch() -> None:
    disk, engine = store()
    write(engine, 0, 1)
    engine.wal.commit()
    path = engine.wal.segments[-1][1]
    disk.damage(path, batch_offsets(bytes(disk.named[path].seen))[-2] + 60)
    verdict = verify(engine)
    assert (verdict.ok, verdict.log_matched, verdict.corrupt) == (False, 0, 0)
    assert verdict.matched == verdict.index_matched == 106


def test_log_that_ends_too_early() -> None:
    disk, engine = store()
    path = engine.wal.segments[-1][1]
    disk.cut(path, batch_offsets(bytes(disk.named[path].seen))[-2])
    assert not verify(engine).ok


def test_missing_segment() -> None:
    disk, engine = store()
    disk.unlink(engine.wal.segments[-1][1])
    assert not verify(engine).ok


@pytest.mark.parametrize("wrong", ["one too many", "one too few", "another in its place"])
def test_wrong_posting_list(wrong: str) -> None:
    _, engine = store()
    table = engine.table(b"seats")
    posting = table.index.lists[table.index.columns[b"state"]][1]
    if wrong != "one too few":
        posting.rows.add(2)
    if wrong != "one too many":
        posting.rows.discard(1)
    verdict = verify(engine)
    assert not verdict.ok
    assert (verdict.matched, verdict.log_matched, verdict.index_matched) == (105, 105, len(posting.rows))


def test_row_changed_in_memory_behind_the_log() -> None:
    """A write that never reached the log shows once its block is written."""
    _, engine = store()
    table = engine.table(b"seats")
    old = table.read_trimmed(405)
    assert old is not None
    table.rows.write(405, table.schema.record.pack(*old[:3], 2, *old[4:]))
    verdict = verify(engine)
    assert (verdict.ok, verdict.matched, verdict.log_matched) == (False, 104, 105)
