"""A checkpoint is the state at its cut, rows and lists, whatever writers do between two of its steps."""

from __future__ import annotations

import random

import pytest
from pyroaring import BitMap

from storage import index_cut, index_file, row_file
from storage.engine import Engine
from storage.manifest import Manifest
from storage.schema import Schema, Value
from tests.fake_disk import FakeDisk
from tests.store import DIRECTORY, assert_sound, checkpoint, contents, open_store, recount, row, schema

ODD = Schema.from_description([["a", "U8", 1], ["b", "BYTES 3", 1], ["c", "U16", 0]])
IDS = (*range(30), 84, 85, 200, *range(65_530, 65_540), 1 << 20, (1 << 32) - 1)
Lists = dict[tuple[int, int, Value], BitMap]


def any_row(chance: random.Random) -> dict[bytes, Value]:
    return {
        b"a": chance.randrange(4),
        b"b": chance.choice((b"", b"x", b"x\0", chance.randbytes(3))),
        b"c": chance.randrange(1 << 16),
    }


def write(engine: Engine, chance: random.Random) -> None:
    table = engine.table(b"odd")
    number = chance.choice(IDS)
    if table.rows.read(number) is None:
        engine.insert(table, number, any_row(chance))
        return
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, any_row(chance), True)


def lists_of(engine: Engine) -> Lists:
    lists: Lists = {}
    for table in engine.tables.values():
        lists[table.number, index_file.PRESENT, 0] = table.rows.present.copy()
        for column, by_value in recount(table).items():
            for value, rows in by_value.items():
                lists[table.number, column, value] = rows
    return lists


def lists_on_disk(disk: FakeDisk) -> Lists:
    path = DIRECTORY / Manifest.load(disk, DIRECTORY).index_file
    return index_file.load(disk, path)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cut, "_PART_ROWS", 1 << 16)
    monkeypatch.setattr(index_cut, "_WHOLE_ROWS_MAX", 3)
    monkeypatch.setattr(index_cut, "_STEP_ROWS", 2)
    monkeypatch.setattr(row_file, "STEP_BLOCKS", 1)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("seed", range(12))
def test_writers_between_any_two_steps_do_not_get_into_it(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"odd", ODD, False)
    engine.create(b"seats", schema(), False)
    engine.insert(engine.table(b"seats"), 7, row(1))
    for _ in range(3):
        for _ in range(chance.randrange(60)):
            write(engine, chance)
        engine.wal.commit()
        before, lists = contents(engine), lists_of(engine)
        cut = engine.begin_checkpoint()
        steps = 0
        for steps, _ in enumerate(cut.steps(), 1):  # noqa: B007
            for _ in range(chance.randrange(3)):
                write(engine, chance)
        assert steps > 10
        assert lists_on_disk(disk) == lists
        at_cut, warnings = open_store(disk.crash())  # what was written since is not in the log yet
        assert (contents(at_cut), warnings) == (before, [])
        engine.end_checkpoint(cut)
        assert_sound(engine, disk)
    checkpoint(engine)
    assert lists_on_disk(disk) == lists_of(engine)


@pytest.mark.usefixtures("small_steps")
def test_tables_that_come_and_go_beside_it() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"odd", ODD, False)
    chance = random.Random(5)
    for _ in range(20):
        write(engine, chance)
    engine.wal.commit()
    lists = lists_of(engine)
    cut = engine.begin_checkpoint()
    steps = cut.steps()
    next(steps)
    engine.drop(b"odd")
    engine.create(b"odd", ODD, False)
    write(engine, chance)
    for _ in steps:
        write(engine, chance)
    assert lists_on_disk(disk) == lists
    engine.end_checkpoint(cut)
    engine.wal.commit()
    again, _ = open_store(disk.crash())
    assert contents(again) == contents(engine)


def test_old_images_are_kept_only_as_long_as_lists_are_copied() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"odd", ODD, False)
    chance = random.Random(6)
    write(engine, chance)
    engine.wal.commit()
    rows = engine.table(b"odd").rows
    cut = engine.begin_checkpoint()
    kept = []
    for _ in cut.steps():
        kept.append(rows.before is not None)
        write(engine, chance)
    assert kept == sorted(kept, reverse=True)
    assert kept[0]
    assert not kept[-1]
    engine.end_checkpoint(cut)
    write(engine, chance)
    assert rows.before is None
