"""Replay in bulk: what a start makes of the log is what was there, whatever shares a batch with what."""

from __future__ import annotations

import random

import pytest

from storage import format as fmt
from storage import log_reader
from storage.columns import column_reader, position_reader
from storage.engine import Engine, EngineOptions
from storage.errors import DamageError
from storage.log_reader import read_log
from storage.manifest import Manifest
from storage.recovery import Opening
from storage.replay import Replay
from storage.schema import Schema, Value
from storage.table import Table
from tests.fake_disk import Crash, FakeDisk
from tests.store import DIRECTORY, OPTIONS, assert_sound, checkpoint, contents, open_store, row, schema

ODD = Schema.from_description([["a", "I64", 1], ["b", "BYTES 5", 1], ["c", "U8", 0], ["d", "BYTES 3", 1]])
IDS = (0, 1, 84, 85, 65_535, 65_536, (1 << 32) - 1)


def any_odd(chance: random.Random) -> dict[bytes, Value]:
    return {
        b"a": chance.choice((-1, 0, 1 << 40)),
        b"b": chance.choice((b"", b"x", b"x\0", b"\0\0\0\0\0")),
        b"c": chance.randrange(256),
        b"d": chance.randbytes(chance.randrange(4)),
    }


def write(engine: Engine, name: bytes, number: int, changes: dict[bytes, Value]) -> None:
    table = engine.table(name)
    if table.rows.read(number) is None:
        engine.insert(table, number, changes)
        return
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, changes, True)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tables", [(b"odd",), (b"odd", b"seats")])
def test_a_start_gives_back_what_was_there(seed: int, tables: tuple[bytes, ...]) -> None:
    """Batches of one table's rows, of two tables', with frames of several records, tokens between."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"odd", ODD, False)
    engine.create(b"seats", schema(), False)
    for step in range(300):
        if framed := chance.random() < 0.2:
            engine.begin()
        for _ in range(chance.randrange(1, 4)):
            name = chance.choice(tables)
            write(engine, name, chance.choice(IDS), any_odd(chance) if name == b"odd" else row(step % 7))
        if framed:
            engine.commit()
        if chance.random() < 0.01:
            engine.reserve_tokens()
        if chance.random() < 0.1:
            engine.wal.commit()
        if chance.random() < 0.02:
            checkpoint(engine)
    engine.wal.commit()
    after = disk.crash()
    again, warnings = open_store(after)
    assert warnings == []
    assert contents(again) == contents(engine)
    assert_sound(again, after)


def test_rows_that_an_unfinished_checkpoint_wrote_leave_their_old_lists() -> None:
    """Their blocks are ahead of the posting lists, which know them by values that stand nowhere any more."""
    at = 1
    while True:
        disk = FakeDisk()
        engine, _ = open_store(disk)
        engine.create(b"seats", schema(), False)
        for number in range(200):
            write(engine, b"seats", number, row(1))
        checkpoint(engine)
        for state in (2, 3):
            for number in range(0, 200, 2):
                write(engine, b"seats", number, {b"state": state})
        engine.wal.commit()
        cut = engine.begin_checkpoint()
        disk.fail(at)
        try:
            cut.write()
        except Crash:
            after = disk.crash(random.Random(at))
            again, _ = open_store(after)
            assert contents(again) == contents(engine)
            assert_sound(again, after)
            at += 1
            continue
        return


def test_a_row_ahead_of_the_log_is_refused() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    write(engine, b"seats", 1, row(1))
    engine.wal.commit()
    manifest = Manifest.load(disk, DIRECTORY)
    log = read_log(disk, DIRECTORY / "wal", manifest.uuid_bytes, 0, 0)
    table = Table(1, b"seats", schema())
    table.rows.write(1, schema().record.pack(1, 1 << 40, fmt.NO_OWNER, 1, 0, 0, b""))
    replay = Replay({}, manifest)
    for batch in log.batches:
        assert list(replay.batch(batch))[-1] == batch.end
    replay.tables[1] = table
    with pytest.raises(DamageError, match=f"row 1 is at position {1 << 40}, but the log's last record"):
        list(replay.finish())


def test_the_steps_of_a_long_batch_are_told() -> None:
    """So that a start answers -LOADING in between."""
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=1 << 20))
    engine.create(b"seats", schema(), False)
    engine.wal.commit()
    for number in range(9_000):
        write(engine, b"seats", number, row(1))
    engine.wal.commit()
    manifest = Manifest.load(disk, DIRECTORY)
    log = read_log(disk, DIRECTORY / "wal", manifest.uuid_bytes, 0, 0)
    replay = Replay({}, manifest)
    steps = [list(replay.batch(batch)) for batch in log.batches]
    assert [len(positions) for positions in steps] == [1, 1, 3]
    assert len(list(replay.finish())) == 3
    assert len(replay.tables[1].rows.present) == 9_000


def test_the_batches_of_a_long_log_are_told() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=1 << 20))
    engine.create(b"seats", schema(), False)
    for _ in range(2_500):
        engine.reserve_tokens()
        engine.wal.commit()
    steps = list(Opening(DIRECTORY, OPTIONS, disk.crash()))
    assert steps == sorted(steps)
    assert steps.count(0.3) > 2_500 // 1_024


@pytest.mark.parametrize("seed", range(20))
def test_a_segment_is_read_without_the_zeros_at_its_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a preallocated file. Zeros within are kept, and some at the end: a batch may end in zeros."""
    print(f"seed {seed}")
    monkeypatch.setattr(log_reader, "_STEP_BYTES", 512)
    chance = random.Random(seed)
    parts = [chance.choice((bytes, chance.randbytes))(chance.randrange(2_000)) for _ in range(6)]
    data = b"".join(parts) + bytes(chance.choice((0, 1, 511, 512, 8_192, 20_000)))
    disk = FakeDisk()
    disk.make_directory(DIRECTORY)
    path = DIRECTORY / "segment"
    fd = disk.create(path)
    disk.pwrite(fd, data, 0)
    used = log_reader._read_used(disk, path)
    assert data.startswith(used)
    assert data[len(used) :].strip(b"\0") == b""
    assert len(used) >= min(len(data), len(data.rstrip(b"\0")) + 8_192)
    assert len(used) <= len(data.rstrip(b"\0")) + 8_192 + 512


def test_a_batch_may_end_in_zeros_at_the_edge_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of 4,000 bytes that are all zeros: its segment goes on with zeros that are no part of it."""
    monkeypatch.setattr(log_reader, "_STEP_BYTES", 1024)
    disk = FakeDisk()
    options = EngineOptions(segment_bytes=1 << 20)
    engine, _ = open_store(disk, options)
    engine.create(b"t", Schema.from_description([["note", "BYTES 4000", 0]]), False)
    for number in range(5):
        engine.insert(engine.table(b"t"), number, {b"note": bytes(4_000)})
        engine.wal.commit()
        again, warnings = open_store(disk.crash(), options)
        assert warnings == []
        assert contents(again) == contents(engine)


@pytest.mark.parametrize("described", [ODD, schema()])
def test_columns_are_those_of_the_trimmed_records(described: Schema) -> None:
    chance = random.Random(1)
    records = []
    for position in range(20):
        fields = [5, position, chance.randbytes(16)]
        for field in described.fields:
            if field.is_bytes:
                text = chance.randbytes(chance.randrange(field.size + 1))
                fields += [len(text), text]
            else:
                fields.append(chance.randrange(100))
        records.append(tuple(fields))
    images = b"".join(described.record.pack(*record) for record in records)
    assert position_reader(described)(images) == list(range(20))
    for name in described.field_by_name:
        expected = [described.value(described.trim(record), name) for record in records]
        assert column_reader(described, name)(images) == expected


def test_lists_made_anew_equal_those_kept() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    engine.create(b"odd", ODD, False)
    chance = random.Random(3)
    for number in (*chance.sample(range(65_536), 300), *range(1 << 20, (1 << 20) + 100), (1 << 32) - 1):
        write(engine, b"odd", number, any_odd(chance))
    checkpoint(engine)
    disk.damage(DIRECTORY / engine.manifest.index_file, 40)
    after = disk.crash()
    again, warnings = open_store(after)
    assert [warning.endswith("made again from the rows") for warning in warnings] == [True]
    assert contents(again) == contents(engine)
    checkpoint(again)
    assert_sound(again, after)
