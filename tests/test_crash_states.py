"""A4: every crash state of every script of at most three commands on two rows.

Commands: INSERT of either row, lock and REPLACE of either, MULTI over both, a checkpoint. Scripts: all
sequences of one to three of them in which none is refused (a refused one changes nothing: that is a shorter
script), on a table that is empty, and on one whose two rows a checkpoint has brought to disk. Each command is
committed by itself, or together with the next: all groupings. Crash points: before each call to the disk that
the last command makes, and behind it (the earlier ones are the last ones of shorter scripts). States: all
that tests/crash_states.py makes at such a point, the same one once per script; each is started, and judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import pairwise, product

import pytest

from storage.engine import Engine
from storage.table import Table
from tests.crash_states import crash_states
from tests.fake_disk import FakeDisk
from tests.store import Model, checkpoint, contents, open_store
from tests.walk import SMALL

COMMANDS = ("insert 0", "insert 1", "replace 0", "replace 1", "multi", "checkpoint")
Script = tuple[str, ...]

pytestmark = pytest.mark.proof


class Watched(FakeDisk):
    """Lets `watch` look at the disk before each call."""

    watch: Callable[[], None] | None = None

    def _call(self, what: str) -> None:
        if self.watch is not None and not what.startswith(
            ("pread", "open_readonly", "size", "exists", "names")
        ):
            self.watch()
        super()._call(what)


def prepared(rows: int) -> FakeDisk:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", SMALL, False)
    for row in range(rows):
        engine.insert(engine.table(b"seats"), row, {b"state": 9})
    engine.close()
    return disk.crash()


PREPARED = {rows: prepared(rows) for rows in (0, 2)}


def is_refused(script: Script, rows: int) -> bool:
    """Whether a command of it would be."""
    there = set(range(rows))
    for command in script:
        name, _, row = command.partition(" ")
        if (name == "insert" and int(row) in there) or (name == "replace" and int(row) not in there):
            return True
        there |= {0, 1} if name == "multi" else {int(row)} if row else set()
    return False


SCRIPTS = [
    (rows, script)
    for rows in PREPARED
    for length in (1, 2, 3)
    for script in product(COMMANDS, repeat=length)
    if not is_refused(script, rows)
]


def groupings(script: Script) -> Iterator[tuple[bool, ...]]:
    """For each command but the last: whether it is committed before the next. A checkpoint commits anyway."""
    fixed = ["checkpoint" in pair for pair in pairwise(script)]
    return product(*((True,) if is_fixed else (True, False) for is_fixed in fixed))


def execute(engine: Engine, model: Model, command: str, value: int) -> None:
    """The command, and what it changed, but for the commit."""
    table = engine.table(b"seats")
    name, _, row = command.partition(" ")
    if name == "checkpoint":
        return
    engine.begin()
    for number in (0, 1) if name == "multi" else (int(row),):
        write(engine, table, number, value)
    engine.commit()
    model.did(engine)


def write(engine: Engine, table: Table, row: int, value: int) -> None:
    if table.read(row) is None:
        engine.insert(table, row, {b"state": value, b"note": b"n%d" % value})
        return
    token = engine.try_lock(((table, row),), None, None)
    assert token is not None
    engine.replace(table, row, token, {b"state": value, b"note": b"r%d" % value}, True)


def states_of(rows: int, script: Script, grouping: tuple[bool, ...]) -> Iterator[tuple[FakeDisk, Model]]:
    """Each state that a crash in the last command may leave, with what it may hold."""
    disk = Watched()
    start = PREPARED[rows].crash()
    disk.directories, disk.named, disk.durably_named = start.directories, start.named, start.durably_named
    engine, _ = open_store(disk)
    model = Model([contents(engine)])
    model.committed(engine)
    found: list[tuple[FakeDisk, Model]] = []
    seen: set[bytes] = set()

    def look() -> None:
        for state in crash_states(disk):
            digest = fingerprint(state, model)
            if digest not in seen:
                seen.add(digest)
                found.append((state, Model(list(model.states), model.acknowledged, model.token)))

    for value, (command, is_committed) in enumerate(zip(script, (*grouping, True), strict=True), 1):
        if value == len(script):
            disk.watch = look
        execute(engine, model, command, value)
        if command == "checkpoint":
            checkpoint(engine)
        elif is_committed:
            engine.wal.commit()
            model.committed(engine)
    look()
    disk.watch = None
    return iter(found)


def fingerprint(disk: FakeDisk, model: Model) -> bytes:
    digest = blake2b(b"%d" % model.acknowledged)
    for path in sorted(disk.named):
        digest.update(str(path).encode() + bytes(disk.named[path].seen))
    return digest.digest()


@pytest.mark.parametrize(
    "number", range(len(SCRIPTS)), ids=lambda n: f"{SCRIPTS[n][0]}-{','.join(SCRIPTS[n][1])}"
)
def test_every_crash_state(number: int, figure: Callable[[str, int], None]) -> None:
    rows, script = SCRIPTS[number]
    figure("A4 scripts", 1)
    for grouping in groupings(script):
        for at, (state, model) in enumerate(states_of(rows, script, grouping)):
            print(f"replay: state {at} of states_of({rows}, {script}, {grouping})")
            figure("A4 crash states", 1)
            engine, _ = open_store(state)
            model.judge(engine)
