"""A checkpoint that came to no end, and what it left in the page cache: the next one, then a loss of power.

The process was killed at some call, or the disk was full there. What it wrote can be read and is not durable.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator

import pytest

from storage.engine import Engine
from tests.fake_disk import Crash, FakeDisk
from tests.proof import LONG
from tests.store import Contents, assert_sound, checkpoint, contents, open_store, row, schema

ROWS = 200
OUTER, INNER = (*range(0, 80, 20), *range(170, 200, 20)), range(90, 160, 20)  # blocks 0 and 2, block 1
WIPED = 9  # up to this call of a checkpoint there may be no copies of what the last one put in place

pytestmark = pytest.mark.proof
World = tuple[FakeDisk, Engine]
Figure = Callable[[str, int], None]


def store(earlier: int) -> World:
    """Rows to be written by a checkpoint; with 0 earlier ones its files are new."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    for number in range(ROWS):
        engine.insert(engine.table(b"seats"), number, row(1))
    for _ in range(earlier):
        checkpoint(engine)
    write(engine, OUTER, 2)
    return disk, engine


def write(engine: Engine, rows: tuple[int, ...] | range, state: int) -> None:
    seats = engine.table(b"seats")
    for number in rows:
        token = engine.try_lock(((seats, number),), None, None)
        assert token is not None
        engine.replace(seats, number, token, {b"state": state}, True)
    engine.wal.commit()


def calls_of_checkpoint(earlier: int) -> list[str]:
    disk, engine = store(earlier)
    begin = disk.calls
    checkpoint(engine)
    return disk.log[begin:]


def stopped_at(call: int, earlier: int, failure: Callable[[], BaseException]) -> World:
    disk, engine = store(earlier)
    cut = engine.begin_checkpoint()
    disk.fail(call, failure)
    try:
        cut.write()
    except OSError as error:
        engine.miss_checkpoint(cut, error)
    except Crash:
        disk = disk.killed()
        return disk, open_store(disk)[0]
    else:
        engine.end_checkpoint(cut)  # it did without: a segment that has no room in the archive goes
    disk.fail_at = 0
    return disk, engine


def survive(world: World, at: int, seed: str) -> bool:
    """Power is lost at call `at` of the next checkpoint; False when it has no such call."""
    print(f"power lost at call {at} of the next, seed {seed}")
    disk, engine = world
    write(engine, INNER, 3)
    written = contents(engine)
    disk.fail(at)
    try:
        checkpoint(engine)
    except Crash:
        judge(disk.crash(random.Random(seed)), written)
        return True
    judge(disk.crash(random.Random(seed)), written)
    return False


def judge(disk: FakeDisk, written: Contents) -> None:
    engine, _ = open_store(disk)
    assert contents(engine) == written
    assert_sound(engine, disk)


def calls_of_the_next(call: int) -> Iterator[int]:
    if LONG:
        yield from range(1, 1000)
    yield from range(2 + call % 2, WIPED, 2)
    yield from range(WIPED + call % 11, 1000, 11)


def in_turn(call: int, earlier: int, failure: Callable[[], BaseException], figure: Figure) -> None:
    for at in calls_of_the_next(call):
        figure("A7 power lost in the checkpoint behind one that failed", 1)
        if not survive(stopped_at(call, earlier, failure), at, f"{call}/{at}"):
            return


@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
def test_killed_in_a_checkpoint_then_power_is_lost_in_the_next(earlier: int, figure: Figure) -> None:
    for call, what in enumerate(calls_of_checkpoint(earlier), 1):
        if LONG or what.startswith(("fsync", "open ", "rename")):  # the call before has done something
            print(f"killed at call {call}, {what!r}")
            in_turn(call, earlier, Crash, figure)


@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
def test_no_room_in_a_checkpoint_then_power_is_lost_in_the_next(earlier: int, figure: Figure) -> None:
    """Blocks that are half in place must not lose their copies, nor new files their names."""
    for call, what in enumerate(calls_of_checkpoint(earlier), 1):
        if what.startswith(("create", "open ", "pwrite", "rename", "unlink")):
            print(f"no room at call {call}, {what!r}")
            in_turn(call, earlier, lambda: OSError(errno.ENOSPC, "No space left on device"), figure)
