"""Posting lists and kept combinations equal a recount, whatever the order of writes and questions."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from pyroaring import BitMap

from storage import index
from storage.engine import Engine
from storage.errors import StoreError
from storage.schema import Schema, Value
from tests.fake_disk import FakeDisk
from tests.store import assert_sound, open_store, schema

SCHEMA = Schema.from_description([["a", "U8", 1], ["b", "I64", 1], ["c", "BYTES 3", 1], ["d", "U16", 0]])
TEXTS = (b"", b"x", b"x\0", b"xyz")


def store() -> tuple[FakeDisk, Engine]:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"t", SCHEMA, False)
    return disk, engine


def write(engine: Engine, number: int, changes: dict[bytes, Value]) -> None:
    table = engine.table(b"t")
    if table.rows.read(number) is None:
        engine.insert(table, number, changes)
        return
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, changes, True)


def any_values(chance: random.Random) -> dict[bytes, Value]:
    every: dict[bytes, Value] = {
        b"a": chance.randrange(3),
        b"b": chance.randrange(-1, 2),
        b"c": chance.choice(TEXTS),
    }
    names = chance.sample(sorted(every), chance.randrange(1, 4))
    return {name: every[name] for name in names}


def matching(engine: Engine, criteria: dict[bytes, Value]) -> list[int]:
    table = engine.table(b"t")
    found = []
    for number in table.rows.present:
        values = table.read_trimmed(number)
        assert values is not None
        if all(table.schema.value(values, name) == value for name, value in criteria.items()):
            found.append(number)
    return found


def random_session(seed: int, steps: int) -> Iterator[tuple[FakeDisk, Engine]]:
    print(f"replay: random_session({seed}, {steps})")
    chance = random.Random(seed)
    disk, engine = store()
    for _ in range(steps):
        write(engine, chance.randrange(40) + chance.choice((0, 0, 1 << 16)), any_values(chance))
        criteria = any_values(chance)
        assert engine.intersect(engine.table(b"t"), criteria, 0, None, False) == matching(engine, criteria)
        if chance.random() < 0.05:
            engine.wal.commit()
            engine.released_to(engine.durable)
            engine.table(b"t").index.drop_empty(engine.released)
        yield disk, engine


@pytest.mark.parametrize("seed", range(6))
def test_answers_equal_a_recount(seed: int) -> None:
    for step, (disk, engine) in enumerate(random_session(seed, 400)):
        if step % 100 == 99:
            engine.wal.commit()
            assert_sound(engine, disk)
            combinations_are_right(engine)


def combinations_are_right(engine: Engine) -> None:
    table = engine.table(b"t")
    names = {column: name for name, column in table.index.columns.items()}
    total = 0
    for columns, kept in table.index.combinations.items():
        total += len(kept)
        for values, posting in kept.items():
            criteria = {names[column]: value for column, value in zip(columns, values, strict=True)}
            assert list(posting.rows) == matching(engine, criteria)
    assert total == table.index.kept


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_eviction_keeps_answers_right(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "COMBINATIONS_MAX", limit)
    for _, engine in random_session(limit, 200):
        assert engine.table(b"t").index.kept <= limit
        combinations_are_right(engine)


def test_list_position_is_at_least_that_of_its_last_change() -> None:
    _, engine = store()
    table = engine.table(b"t")
    write(engine, 1, {b"a": 1, b"b": 1})
    both = engine.posting(table, {b"a": 1, b"b": 1})
    write(engine, 1, {b"a": 2})
    assert both is not None
    assert list(both.rows) == []
    assert both.position == engine.appended
    gone = engine.posting(table, {b"a": 1})
    assert gone is not None
    assert gone.position == engine.appended


def test_empty_list_stays_until_its_end_is_durable() -> None:
    _, engine = store()
    table = engine.table(b"t")
    write(engine, 1, {b"a": 1})
    write(engine, 1, {b"a": 2})
    table.index.drop_empty(engine.released)
    assert engine.posting(table, {b"a": 1}) is not None
    engine.wal.commit()
    table.index.drop_empty(engine.durable)
    assert engine.posting(table, {b"a": 1}) is None


def test_unindexed_and_unknown_fields_are_errors() -> None:
    _, engine = store()
    with pytest.raises(StoreError, match="'d' is not indexed"):
        engine.posting(engine.table(b"t"), {b"d": 1})
    with pytest.raises(StoreError, match="unknown field 'e'"):
        engine.posting(engine.table(b"t"), {b"a": 1, b"e": 1})


def test_load_gives_the_list_back() -> None:
    lists = index.Index(schema())
    column = lists.columns[b"state"]
    lists.load(column, 3, BitMap([1, 70_000]))
    found = lists.find((column,), (3,))
    assert found is not None
    assert list(found.rows) == [1, 70_000]


def test_a_remembered_plan_never_outlives_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan points at a list; when the list makes room or is dropped, the plan goes with it."""
    described = Schema.from_description([["a", "U8", 1], ["b", "U8", 1]])
    lists = index.Index(described)
    first, second = described.column_of[b"a"], described.column_of[b"b"]
    for row in range(4):
        lists.update(row, None, (1, 1, b"", row % 2, row // 2), 1)
    found = lists.find((first, second), (0, 0))
    assert found is not None and list(found.rows) == [0]
    lists.remember((b"a", b"0", b"b", b"0"), (found, 64, None, False))
    monkeypatch.setattr(index, "COMBINATIONS_MAX", 1)
    lists.find((first, second), (1, 1))
    assert lists.plans == {}
    lists.remember((b"a", b"0"), (found, 64, None, False))
    lists.drop_empty(1)
    assert lists.plans == {}
