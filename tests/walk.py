"""Random commands on a store until its disk ends them: what the seeds of tests/test_lives.py replay."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count

from storage.engine import Engine, EngineOptions
from storage.errors import StoreError
from storage.offers import Wanted
from storage.schema import Schema, Value
from storage.selling import Terms
from storage.table import Table
from tests.fake_disk import FakeDisk
from tests.store import FakeClock, Model, contents, open_store

# The smallest records that have an index and bytes: a directory of rows is read whole at a start.
SMALL = Schema.from_description([["state", "U8", 1], ["note", "BYTES 4", 0], ["left", "COUNTER", 0]])
ROWS = (0, 1, 2, 150, 151, 300, 301)  # in three blocks
FAR_ROW = 70_000  # in a directory of its own
TABLES = (b"seats", b"other")
STEPS = {
    "insert": 6,
    "replace": 8,
    "multi": 4,
    "commit": 10,
    "checkpoint": 2,
    "stop": 1,
    "drop": 1,
    "claim": 4,
    "hold": 4,
    "end_of_hold": 4,
    "give_back": 2,
    "pass_time": 2,
    "roll": 1,
}


class Walk:
    """One life of the store, or several that end cleanly. `model` knows what must be there, and what may."""

    def __init__(self, disk: FakeDisk, chance: random.Random, model: Model, policy: str = "always") -> None:
        self._disk = disk
        self._chance = chance
        self._model = model
        self._options = EngineOptions(segment_bytes=2048, appendfsync=policy)
        self._clock = FakeClock()
        self.engine: Engine

    def open(self) -> None:
        """Opens the store, judges it, and from now on what it shows must stay."""
        self.engine, _ = open_store(self._disk, self._options, self._clock)
        model = self._model
        model.judge(self.engine)
        model.states = [contents(self.engine)]
        model.committed(self.engine)

    def run(self, steps: int | None = None) -> None:
        """So many steps, or as long as the disk works."""
        self.open()
        names, weights = list(STEPS), list(STEPS.values())
        for _ in count() if steps is None else range(steps):
            getattr(self, self._chance.choices(names, weights)[0])()

    # --- steps ----------------------------------------------------------------------------------------

    def insert(self) -> None:
        self._insert()
        self._model.did(self.engine)

    def replace(self) -> None:
        self._replace()
        self._model.did(self.engine)

    def multi(self) -> None:
        engine, chance = self.engine, self._chance
        table = self._table()  # it may have to be made first, and that is a frame of its own
        engine.begin()
        for _ in range(chance.randrange(1, 4)):
            (self._replace if table.rows.present and chance.random() < 0.6 else self._insert)()
            if chance.random() < 0.2:
                engine.wal.commit()  # as the committer may at any time: nothing of an open frame goes with it
        engine.commit()
        self._model.did(engine)

    def commit(self) -> None:
        wal = self.engine.wal
        wal.commit()
        if self._chance.random() < 0.3:
            wal.sync()
        if wal.durable == wal.appended:
            self._model.committed(self.engine)

    def checkpoint(self) -> None:
        engine, model = self.engine, self._model
        engine.wal.commit()
        engine.wal.sync()
        model.committed(engine)
        cut = engine.begin_checkpoint()
        for _ in range(self._chance.randrange(3)):
            self.replace()
        for _ in cut.steps():
            if self._chance.random() < 0.02:
                self.insert()
        engine.end_checkpoint(cut)

    def stop(self) -> None:
        self.engine.close()
        self._model.committed(self.engine)
        self.open()

    # --- sales ----------------------------------------------------------------------------------------

    def claim(self) -> None:
        chance = self._chance
        changes: dict[bytes, Value] = {b"state": chance.randrange(4, 7)}
        self._sale(
            lambda table, criteria, wanted, terms: self.engine.selling.claim(
                table, criteria, {} if wanted.field else changes, wanted, terms
            )
        )

    def hold(self) -> None:
        replacing = self._chance.choice((0, *self.engine.selling.holds))
        px = self._chance.choice((1, 50, 1000))
        self._sale(
            lambda table, criteria, wanted, terms: self.engine.selling.hold(
                table, criteria, px, wanted, replace(terms, owner=terms.owner or b"ann"), replacing
            )
        )

    def end_of_hold(self) -> None:
        selling, chance = self.engine.selling, self._chance
        if not selling.holds:
            return
        number = chance.choice(list(selling.holds))
        with suppress(StoreError):
            table = selling.table_of(number)
            held = selling.holds[number]
            changes: dict[bytes, Value] = {} if held.units else {b"state": chance.randrange(4, 7)}
            end = chance.choice(("confirm", "confirm", "release", "extend"))
            if end == "confirm":
                selling.confirm(number, changes, b"%16d" % chance.randrange(2))
            elif end == "release":
                selling.release(number)
            else:
                selling.extend(number, 100)
            assert table is held.table
        self._model.did(self.engine)

    def give_back(self) -> None:
        chance = self._chance
        self._sale(
            lambda table, criteria, wanted, terms: self.engine.selling.give_back(
                table, list(chance.sample(ROWS, 3)), {b"state": 1}, terms, Wanted()
            )
        )

    def pass_time(self) -> None:
        """What time ends is no change that a crash could take back: it is judged anew at each use."""
        self._clock.pass_ms(self._chance.choice((1, 60, 2000)))
        self.engine.selling.expire()
        self._model.did(self.engine)

    def _sale(self, sell: Callable[[Table, dict[bytes, Value], Wanted, Terms], object]) -> None:
        chance = self._chance
        table = self._table()
        wanted = Wanted(count=chance.choice((1, 1, 2)))
        criteria: dict[bytes, Value] = {b"state": chance.randrange(4)}
        if chance.random() < 0.2 and table.rows.present:
            wanted = Wanted(ids=(chance.choice(list(table.rows.present)),), field=b"left", units=2)
            criteria = {}
        terms = Terms(owner=chance.choice((b"", b"ann", b"bob")), most=chance.choice((None, 3)))
        if chance.random() < 0.5:
            terms.request, terms.args = b"%d" % chance.randrange(50), b"%16d" % chance.randrange(2)
        if not terms.owner:
            terms.most = None
        with suppress(StoreError):
            sell(table, criteria, wanted, terms)
        self._model.did(self.engine)

    # --- tables ---------------------------------------------------------------------------------------

    def drop(self) -> None:
        self.engine.drop(self._chance.choice(TABLES))
        self._model.did(self.engine)

    def roll(self) -> None:
        wal = self.engine.wal
        if wal.written > wal.segments[-1][0]:  # a segment that holds nothing has room
            wal.next_segment()

    # --- their parts ----------------------------------------------------------------------------------

    def _table(self) -> Table:
        """One of the two, made when there is none."""
        engine = self.engine
        there = list(engine.tables.values())
        if there and (len(there) == 2 or self._chance.random() < 0.9):
            return self._chance.choice(there)
        name = next(name for name in TABLES if name not in engine.tables)
        engine.create(name, SMALL, False)
        self._model.did(engine)
        return engine.tables[name]

    def _insert(self) -> None:
        table = self._chance.choice(list(self.engine.tables.values()) or [self._table()])
        free = [row for row in ROWS if row not in table.rows.present]
        if self._chance.random() < 0.01 and FAR_ROW not in table.rows.present:
            free = [FAR_ROW]
        if free:
            self.engine.insert(
                table, self._chance.choice(free), {b"state": self._chance.randrange(4), b"left": 5}
            )

    def _replace(self) -> None:
        table = self._chance.choice(list(self.engine.tables.values()) or [self._table()])
        if not table.rows.present:
            return
        row = self._chance.choice(list(table.rows.present))
        token = self.engine.try_lock(((table, row),), None, None)
        if token is None:  # it is held
            return
        note = self._chance.randbytes(self._chance.randrange(5)).rstrip(b"\0")
        self.engine.replace(table, row, token, {b"state": self._chance.randrange(4), b"note": note}, True)
