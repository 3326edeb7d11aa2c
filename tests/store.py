"""What the storage tests share: a small schema, an opened store on a fake disk, a model of its contents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyroaring import BitMap

from storage.check import check
from storage.engine import Engine, EngineOptions
from storage.holds import State
from storage.recovery import Opening
from storage.schema import Schema, Value
from storage.table import Table
from tests.fake_disk import FakeDisk

DIRECTORY = Path("store")
OPTIONS = EngineOptions(segment_bytes=4096)
FIELDS: list[list[object]] = [["state", "U8", 1], ["row", "U16", 1], ["note", "BYTES 12", 0]]

Contents = dict[bytes, dict[int, dict[bytes, Value]]]


class FakeClock:
    """Nanoseconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_ms(self, milliseconds: int) -> None:
        self.now += milliseconds * 1_000_000


def schema() -> Schema:
    return Schema.from_description(FIELDS)


def open_store(
    disk: FakeDisk, options: EngineOptions = OPTIONS, clock: Callable[[], int] | None = None
) -> tuple[Engine, list[str]]:
    """The engine and the warnings of its start."""
    opening = Opening(DIRECTORY, options, disk, clock or FakeClock())
    for _ in opening:
        pass
    return opening.engine, opening.warnings


def checkpoint(engine: Engine) -> None:
    engine.wal.commit()
    cut = engine.begin_checkpoint()
    cut.write()
    engine.end_checkpoint(cut)


def row(state: int, number: int = 0, note: bytes = b"") -> dict[bytes, Value]:
    return {b"state": state, b"row": number, b"note": note}


def contents(engine: Engine) -> Contents:
    """All rows; and under the table's name and `'s sales` what is remembered of them, if anything is."""
    shown: Contents = {}
    for name, table in engine.tables.items():
        shown[name] = {row: _shown(table, row) for row in table.rows.present}
        if sales := _sales(engine, table):
            shown[name + b"'s sales"] = {0: sales}
    return shown


def _sales(engine: Engine, table: Table) -> dict[bytes, Value]:
    """But for what time alone has ended: after a crash that may be not quite so late."""
    sales = table.sales
    holds = [
        (hold.number, hold.ids, hold.holder, hold.state is State.CONFIRMED, hold.field, hold.units, hold.args)
        for hold in engine.selling.holds.values()
        if hold.table is table
    ]
    parts: dict[bytes, list[Any]] = {
        b"holds": sorted(holds),
        b"sold": sorted(sales.sold.items()),
        b"units sold": sorted(sales.units_sold.items()),
        b"requests": sales.requests.answers(),
    }
    return {name: repr(part).encode() for name, part in parts.items() if part}


def _shown(table: Table, row: int) -> dict[bytes, Value]:
    values = table.read_trimmed(row)
    assert values is not None, f"row {row} is in the set of rows, but not there"
    return {name: table.schema.value(values, name) for name in table.schema.field_by_name}


def recount(table: Table) -> dict[int, dict[Value, BitMap]]:
    """The posting lists as a walk over the rows makes them."""
    lists: dict[int, dict[Value, BitMap]] = {column: {} for column in table.index.columns.values()}
    for directory in table.rows.directories:
        for within in _taken(table, directory):
            values = table.read_trimmed(within)
            assert values is not None
            for column, by_value in lists.items():
                by_value.setdefault(values[column], BitMap()).add(within)
    return lists


def _taken(table: Table, directory: int) -> list[int]:
    """The rows there, found by their tokens alone."""
    memory, base = table.rows.directories[directory], directory << 16
    taken = []
    for block in range(table.schema.blocks_per_directory):
        if memory[block * 4096 : (block + 1) * 4096] != bytes(4096):
            first = block * table.schema.rows_per_block
            last = min(first + table.schema.rows_per_block, 1 << 16)
            taken += [base + row for row in range(first, last) if table.rows.read(base + row) is not None]
    return taken


def assert_sound(engine: Engine, disk: FakeDisk) -> None:
    """Index equals rows, the set of rows equals the rows, and `check` finds nothing."""
    for table in engine.tables.values():
        lists = {
            column: {value: posting.rows for value, posting in by_value.items() if posting.rows}
            for column, by_value in table.index.lists.items()
        }
        assert lists == recount(table)
        there = [row for directory in table.rows.directories for row in _taken(table, directory)]
        assert sorted(there) == list(table.rows.present)
    assert list(check(disk, DIRECTORY)) == []


@dataclass(slots=True)
class Model:
    """`states[i]` is what the store holds after i frames; those up to `acknowledged` must stay."""

    states: list[Contents] = field(default_factory=lambda: [{}])
    acknowledged: int = 0
    token: int = 0

    def did(self, engine: Engine) -> None:
        self.states.append(contents(engine))

    def committed(self, engine: Engine) -> None:
        self.acknowledged = len(self.states) - 1
        self.token = engine.token

    def judge(self, engine: Engine) -> None:
        """Whole frames in their order, none of the acknowledged missing, tokens above all those shown."""
        assert contents(engine) in self.states[self.acknowledged :]
        assert engine.draw_token() > self.token


def script(disk: FakeDisk, model: Model) -> None:
    """Every kind of change, with commits, a checkpoint and a clean end between them."""
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    _commit(engine, model)
    for number in range(6):
        engine.insert(engine.table(b"seats"), number, row(number % 2, 7, b"n%d" % number))
        model.did(engine)
        if number % 2:
            _commit(engine, model, did=False)
    seats = engine.table(b"seats")
    _replace(engine, seats, 1, row(9, 8, b"sold"))
    _commit(engine, model)
    engine.begin()
    _replace(engine, seats, 2, row(5))
    engine.wal.commit()  # as the committer's thread may at any time: nothing of an open frame goes with it
    engine.insert(seats, 70_000, row(6, 1, b"far\0"))
    engine.commit()
    _commit(engine, model)
    checkpoint(engine)
    _replace(engine, seats, 2, {b"state": 4})
    _commit(engine, model)
    engine.drop(b"seats")
    model.did(engine)
    engine.create(b"other", schema(), False)
    _commit(engine, model)
    engine.insert(engine.table(b"other"), 3, row(1))
    _commit(engine, model)
    engine.close()


def _replace(engine: Engine, table: Table, number: int, changes: dict[bytes, Value]) -> None:
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, changes, True)


def _commit(engine: Engine, model: Model, did: bool = True) -> None:
    if did:
        model.did(engine)
    engine.wal.commit()
    model.committed(engine)


@dataclass(frozen=True, slots=True)
class Batches:
    """A log in one segment: where its batches begin and the last ends, what the store held behind each."""

    disk: FakeDisk
    segment: Path
    offsets: list[int]
    states: list[Contents]

    def payload_end(self, batch: int) -> int:
        """Behind it comes padding only."""
        at = self.offsets[batch]
        return at + 40 + int.from_bytes(self.disk.named[self.segment].seen[at + 4 : at + 8], "little")


ONE_SEGMENT = EngineOptions(segment_bytes=48 << 10)


def log_of_batches(count: int, stop: bool = False) -> Batches:
    """The first batch is the start's own, the others are of 1 to 13 records; then the power goes. With `stop`
    the last batch drops the table and the store is closed: a start has no rows to read then, which takes
    ten times as long as a look at the log."""
    disk = FakeDisk()
    engine, _ = open_store(disk, ONE_SEGMENT)
    states: list[Contents] = [{}, {}]
    engine.create(b"seats", schema(), False)
    engine.wal.commit()
    states.append(contents(engine))
    for number in range(count - 2 - stop):
        for copy in range(1 + number % 3 * 6 if number < 9 else 1):
            engine.insert(engine.table(b"seats"), number * 100 + copy, row(number, 1, b"x"))
        engine.wal.commit()
        states.append(contents(engine))
    if stop:
        engine.drop(b"seats")
        states.append({})
        engine.close()
    after = disk.crash()
    (path,) = [path for path in after.named if path.suffix == ".wal"]
    offsets = batch_offsets(bytes(after.named[path].seen))
    assert len(offsets) == count + 1 == len(states)
    return Batches(after, path, offsets, states)


def batch_offsets(data: bytes) -> list[int]:
    """Where the batches of a segment begin, and where the last one ends."""
    from storage import format as fmt

    offsets = [fmt.SEGMENT_BYTES]
    while len(data) >= offsets[-1] + fmt.BATCH.size:
        magic, length, *_ = fmt.BATCH.unpack_from(data, offsets[-1])
        if magic != fmt.BATCH_MAGIC:
            break
        offsets.append(offsets[-1] + fmt.padded(length))
    assert all(a % 512 == 0 and a < b for a, b in pairwise(offsets))
    return offsets
