"""Sessions of one client that a server is killed in; see tests/kill_points.py."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.engine import Engine, EngineOptions
from storage.recovery import Opening
from tests.store import Contents, contents, row, schema
from tests.zygote import SEGMENT_BYTES

FIELDS = ["state", "U8", "INDEX", "row", "U16", "INDEX", "note", "BYTES", "12"]


@dataclass(frozen=True, slots=True)
class Named:
    """Stands for a token that is known only when the session runs."""

    name: str


Words = tuple[object, ...]
Ask = Callable[..., list[Any]]  # commands to replies
LOCK = Named("lock")


@dataclass(frozen=True, slots=True)
class Step:
    """Words to send (several commands are a MULTI), and the store behind it; None: as it was.

    `named`: the token that it answers. `fits`: whether a reply is right, of what may have been sent before.
    """

    commands: tuple[Words, ...]
    after: Contents | None = None
    named: Named | None = None
    fits: Callable[[Any, bool], bool] = lambda reply, again: True


@dataclass(slots=True)
class Script:
    """`role`: whose calls are counted. `begin`: what the store holds at the start; None: there is none."""

    name: str
    role: str  # main, or sync: the process that syncs the log
    begin: Contents | None
    template: Path | None = None  # the directory to begin with
    steps: list[Step] = field(default_factory=list)
    read: Callable[[Ask], Contents] = lambda ask: {}  # what the store shows beyond rows
    at_end: Callable[[Ask], None] | None = None  # sales: what is left to do is done then, and looked at


# --- scripts ------------------------------------------------------------------------------------------


def with_change(store: Contents, table: bytes, number: int, values: dict[bytes, int | bytes]) -> Contents:
    return {**store, table: {**store[table], number: values}}


class Writer:
    """Puts steps together and keeps what the store holds."""

    def __init__(self, script: Script, seed: int) -> None:
        self.script = script
        self.random = random.Random(seed)
        self.now: Contents = dict(script.begin or {})

    def step(self, *commands: tuple[object, ...]) -> None:
        self.script.steps.append(Step(commands, self.now))

    def create(self, name: bytes) -> None:
        self.now = {**self.now, name: {}}
        self.step(("KL.CREATE", name, "SCHEMA", *FIELDS))

    def drop(self, name: bytes) -> None:
        self.now = {table: rows for table, rows in self.now.items() if table != name}
        self.step(("KL.DROP", name))

    def _inserted(self, table: bytes) -> tuple[object, ...]:
        number = self.random.randrange(1000, 100_000)
        values = row(self.random.randrange(5), number % 50_000, b"n%d" % number)
        self.now = with_change(self.now, table, number, values)
        return ("KL.INSERT", b"%b:%d" % (table, number), *_pairs(values))

    def insert(self, table: bytes = b"seats") -> None:
        self.step(self._inserted(table))

    def multi(self) -> None:
        self.step(*[self._inserted(b"seats") for _ in range(3)])

    def sale(self) -> None:
        """The token is known only when it is there: Run fills it in."""
        number = self.random.choice(sorted(self.now[b"seats"]))
        self.script.steps.append(Step((("KL.TRYLOCK", number),), named=LOCK))
        values = {**self.now[b"seats"][number], b"state": 200 + self.random.randrange(50)}
        self.now = with_change(self.now, b"seats", number, values)
        self.step(("KL.REPLACE", number, LOCK, "state", values[b"state"], "UNLOCK"))


def _pairs(values: dict[bytes, int | bytes]) -> list[object]:
    return [word for pair in values.items() for word in pair]


def _sell(writer: Writer) -> None:
    writer.insert()
    writer.sale()
    writer.multi()
    writer.create(b"more")
    writer.insert(b"more")
    writer.sale()
    writer.drop(b"more")
    writer.insert()


def new_store(seed: int) -> Script:
    """From the first call of the first start of a store to the end of a clean stop."""
    script = Script("new_store", "main", None)
    writer = Writer(script, seed)
    writer.create(b"seats")
    writer.insert()
    writer.multi()
    writer.sale()
    return script


def sales(seed: int) -> Script:
    """A start after a crash, with doubtful batches in the log; sales; a clean stop."""
    script = Script("sales", "main", BEGIN, TEMPLATE)
    _sell(Writer(script, seed))
    return script


def syncs(seed: int) -> Script:
    """The same, and the process that syncs the log dies."""
    script = Script("syncs", "sync", BEGIN, TEMPLATE)
    _sell(Writer(script, seed))
    return script


def make_begin(directory: Path) -> Contents:
    """A store that was killed: a checkpoint, a dropped table, and behind them batches that nothing names."""
    opening = Opening(directory, EngineOptions(segment_bytes=SEGMENT_BYTES))
    for _ in opening:
        pass
    engine = opening.engine
    for name in (b"seats", b"gone"):
        engine.create(name, schema(), False)
    for number in range(60):
        engine.insert(engine.table(b"seats"), number, row(number % 3, number, b"old"))
    engine.wal.commit()
    plan = engine.begin_checkpoint()
    plan.write()
    engine.end_checkpoint(plan)
    engine.drop(b"gone")
    for number in range(60, 64):
        engine.insert(engine.table(b"seats"), number, row(1, number))
        engine.wal.commit()
    found = contents(engine)
    kill(engine)
    return found


def kill(engine: Engine) -> None:
    """Gives the files back as the end of a process does."""
    engine.wal.close()
    engine.fs.close(engine.lock_fd)


_PLACE = tempfile.TemporaryDirectory(prefix="klani-begin-")
TEMPLATE = Path(_PLACE.name) / "data"
BEGIN = make_begin(TEMPLATE)
