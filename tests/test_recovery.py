"""A crash at every call the store makes: what was acknowledged stays, a frame is whole or not there.

Each failure names the call and the seed; `survive(call, seed)` replays it. One script, and each of its calls;
tests/test_lives.py has random ones, one crash each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from itertools import count

import pytest

from storage.check import check
from storage.errors import StartError
from storage.manifest import NAME
from tests.fake_disk import Crash, FakeDisk
from tests.store import (
    DIRECTORY,
    Contents,
    Model,
    assert_sound,
    checkpoint,
    contents,
    open_store,
    row,
    schema,
    script,
)


def calls_of_script() -> int:
    disk = FakeDisk()
    script(disk, Model())
    return disk.calls


CALLS = calls_of_script()


def crashed_at(call: int) -> tuple[FakeDisk, Model]:
    disk, model = FakeDisk(), Model()
    disk.fail(call)
    with pytest.raises(Crash):
        script(disk, model)
    return disk, model


def survive(call: int, seed: int | None) -> None:
    disk, model = crashed_at(call)
    print(f"replay: survive({call}, {seed}) at {disk.log[-1]!r}")
    keep = None if seed is None else random.Random(f"{seed}/{call}")
    judged(disk.crash(keep), model)


def judged(disk: FakeDisk, model: Model) -> None:
    """Opens, judges, writes on, stops with the power gone, and opens again."""
    if DIRECTORY / NAME in disk.named:
        assert list(check(disk, DIRECTORY)) == [], "sound before the start too"
    engine, _ = open_store(disk)
    assert_sound(engine, disk)
    model.judge(engine)
    engine.create(b"later", schema(), False)
    engine.insert(engine.table(b"later"), 1, row(1))
    engine.wal.commit()
    after = Model()
    after.did(engine)
    after.committed(engine)
    again = disk.crash()
    engine, warnings = open_store(again)
    assert warnings == []
    after.judge(engine)
    assert_sound(engine, again)
    engine.close()
    assert_sound(engine, again)


def test_script_has_many_calls() -> None:
    assert CALLS >= 140


@pytest.mark.parametrize("tenth", range(10))
def test_crash_at_every_call_with_all_unsynced_dropped(tenth: int) -> None:
    for call in range(1 + tenth, CALLS + 1, 10):
        survive(call, None)


@pytest.mark.parametrize("seed", range(6))
def test_crash_with_sectors_kept_lost_and_torn(seed: int) -> None:
    for call in range(1 + seed, CALLS + 1, 6):
        survive(call, seed)


def test_only_the_process_dies_at_every_call() -> None:
    for call in range(1, CALLS + 1, 3):
        disk, model = crashed_at(call)
        print(f"killed at call {call}, {disk.log[-1]!r}")
        judged(disk.killed(), model)


def crash_points_of_a_start(call: int) -> Iterator[tuple[FakeDisk, Model, str]]:
    """The disk after a crash of the script, then of each call of the start behind it."""
    disk, model = crashed_at(call)
    before = disk.crash(random.Random(call))
    opened = before.crash()
    open_store(opened)
    for at in range(1, opened.calls + 1):
        start = before.crash()
        start.fail(at)
        with pytest.raises(Crash):
            open_store(start)
        yield start, model, f"crash {call} of the script, {at} of the start: {start.log[-1]!r}"


@pytest.mark.parametrize("eighth", range(8))
def test_a_start_may_crash_at_every_call(eighth: int) -> None:
    call = (eighth + 1) * CALLS // 8
    for disk, model, where in crash_points_of_a_start(call):
        print(f"replay: {where}")
        engine, _ = open_store(disk.crash())
        model.judge(engine)


def test_acknowledged_but_not_named_as_durable_survives_two_crashes() -> None:
    """The last batch is on disk, but only a later one would say so: a start carries it over."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    engine.wal.commit()
    opened = disk.crash()
    open_store(opened)
    for at in range(1, opened.calls + 1):
        start = disk.crash()
        start.fail(at)
        with pytest.raises(Crash):
            open_store(start)
        print(f"crash at call {at} of the start: {start.log[-1]!r}")
        engine, _ = open_store(start.crash())
        assert list(engine.tables) == [b"seats"]


def test_nothing_is_left_behind_by_crashes() -> None:
    """Files of a checkpoint or a start that did not come to its end are removed by the next one's."""
    for call in range(1, CALLS + 1, 5):
        disk, _ = crashed_at(call)
        print(f"crash at call {call}: {disk.log[-1]!r}")
        after = disk.crash(random.Random(call))
        engine, _ = open_store(after)
        engine.create(b"later", schema(), False)
        engine.close()
        names = {path.name for path in after.named if path.parent.name != "archive"}
        known = {"LOCK", "CHECKPOINT", "doublewrite", engine.manifest.index_file}
        known |= {f"{table.number}.rows" for table in engine.tables.values()}
        known |= {path.name for _, path in engine.wal.segments}
        assert names <= known
        assert len(engine.wal.segments) == 1


def test_refused_start_lets_go_of_the_directory() -> None:
    disk = FakeDisk()
    open_store(disk)[0].close()
    disk.damage(DIRECTORY / NAME, 30)
    for _ in range(2):
        with pytest.raises(StartError, match="checksum"):
            open_store(disk)


def test_what_a_killed_checkpoint_left_in_the_page_cache_is_not_relied_on() -> None:
    """A start finds blocks and names that no sync has covered. The next checkpoint lets go of their log."""
    points = 0
    for at in count(1):
        disk, expected = _killed_in_a_checkpoint(at)
        if disk is None or "index" in disk.log[-1]:
            break
        if not any(call.endswith(".rows") for call in disk.log[-8:]):
            continue
        for later in count(1 + at % 5, 5):
            print(
                f"killed at call {at} of a checkpoint, {disk.log[-1]!r}; power lost at call {later} of a stop"
            )
            again = deepcopy(disk).killed()
            engine, _ = open_store(again)
            again.fail(later)
            with suppress(Crash):
                engine.close()
            engine, _ = open_store(again.crash())
            assert contents(engine) == expected
            points += 1
            if not again.crashed:
                break
    assert points > 60


def _killed_in_a_checkpoint(at: int) -> tuple[FakeDisk | None, Contents]:
    """Some rows in a first checkpoint, more in one that is killed at call `at`; None: it came to its end."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    for number in range(2):
        engine.create(b"t%d" % number, schema(), False)
        for one in range(3):
            engine.insert(engine.table(b"t%d" % number), one, row(1))
        if not number:
            checkpoint(engine)
    token = engine.try_lock(((engine.table(b"t0"), 1),), None, None)
    assert token is not None
    engine.replace(engine.table(b"t0"), 1, token, {b"state": 2}, True)
    engine.wal.commit()
    disk.fail(at)
    try:
        checkpoint(engine)
    except Crash:
        return disk, contents(engine)
    return None, {}


def test_a_segment_that_is_too_small_when_it_is_there_gives_way_to_a_larger_one() -> None:
    """Records may be appended while it is made: both begin at the same position, and there is one of them."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    for number in range(100):
        engine.insert(seats, number, row(1))
    assert not engine.wal.has_room
    engine.wal.next_segment()
    for number in range(100, 300):
        engine.insert(seats, number, row(1))
    cut = engine.begin_checkpoint()
    engine.insert(seats, 300, row(2))  # behind the cut, in the same batch
    engine.wal.commit()
    cut.write()
    engine.end_checkpoint(cut)
    before = contents(engine)
    again, warnings = open_store(disk.crash())
    assert (contents(again), warnings) == (before, [])
