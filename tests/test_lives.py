"""A3 and A7: random lives of a store on a disk that fails, one seed each, which replays it.

A3: the power goes at any call, in a start too, and each 512-byte sector that was not synced is kept, lost,
torn, zeroed or garbled, each rename kept or lost. A7: a sync fails, or the process is killed in it; the
next start serves what it finds in the page cache, and then the power goes: what was served must be there.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from storage.check import check
from storage.manifest import NAME
from storage.row_file import table_path
from tests.fake_disk import Crash, FakeDisk
from tests.proof import scaled, share
from tests.store import DIRECTORY, Model, assert_sound, checkpoint, contents, open_store, row, schema
from tests.walk import Walk

PARTS = 20
pytestmark = pytest.mark.proof
each_part = pytest.mark.parametrize("part", range(PARTS))


def lives_that_lose_power(seed: int) -> None:
    chance = random.Random(f"A3/{seed}")
    disk, model = FakeDisk(), Model()
    policy = chance.choice(("always", "always", "always", "no"))
    disk.fail(chance.randrange(1, 250))
    with pytest.raises(Crash):
        Walk(disk, chance, model, policy).run()
    print(f"the power went at {disk.log[-1]!r}")
    disk = disk.crash(chance)
    while chance.random() < 0.3:
        disk.fail(chance.randrange(1, 50))
        try:
            open_store(disk)
        except Crash:
            print(f"and in the start behind it at {disk.log[-1]!r}")
        disk = disk.crash(chance)
    ends_well(disk, model, seed)


def ends_well(disk: FakeDisk, model: Model, seed: int) -> None:
    """It starts, holds what it must, and holds it still after power was lost again."""
    if DIRECTORY / NAME in disk.named:
        assert list(check(disk, DIRECTORY)) == [], "sound before the start too"
    engine, _ = open_store(disk)
    model.judge(engine)
    shown = Model()
    shown.did(engine)
    shown.committed(engine)
    if seed % 4 == 0:
        assert_sound(engine, disk)
    engine, warnings = open_store(disk.crash())
    assert warnings == []
    shown.judge(engine)


@each_part
def test_power_losses(part: int, figure: Callable[[str, int], None]) -> None:
    for seed in share(scaled(2_000, 50_000), part, PARTS):
        print(f"replay: lives_that_lose_power({seed})")
        lives_that_lose_power(seed)
        figure("A3 seeds, power lost", 1)


def lives_with_failed_syncs(seed: int) -> None:
    chance = random.Random(f"A7/{seed}")
    disk, model = FakeDisk(), Model()
    for _ in range(chance.randrange(1, 3)):
        failure = chance.choice((_input_output_error, _input_output_error, Crash))
        disk.fail(chance.randrange(1, 90), failure, only="fsync")
        with pytest.raises((OSError, Crash)):
            Walk(disk, chance, model).run()
        print(f"{failure.__name__} at {next(c for c in reversed(disk.log) if c.startswith('fsync'))!r}")
        disk = disk.killed()
    Walk(disk, chance, model).run(steps=chance.choice((0, 0, 1, 5, 20)))
    disk = disk.crash(chance if chance.random() < 0.7 else None)
    ends_well(disk, model, seed)


def _input_output_error() -> OSError:
    return OSError(errno.EIO, "Input/output error")


@each_part
def test_failed_syncs(part: int, figure: Callable[[str, int], None]) -> None:
    for seed in share(scaled(200, 2_000), part, PARTS):
        print(f"replay: lives_with_failed_syncs({seed})")
        lives_with_failed_syncs(seed)
        figure("A7 seeds, sync failed, then power lost", 1)


# --- places that seeds seldom come to -----------------------------------------------------------------


@pytest.mark.parametrize("failure", [_input_output_error, Crash])
def test_a_block_that_only_the_page_cache_has_is_written_again(failure: Callable[[], BaseException]) -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    for name in (b"seats", b"other"):
        engine.create(name, schema(), False)
        engine.insert(engine.table(name), 1, row(1))
    checkpoint(engine)
    seats = engine.table(b"seats")
    token = engine.try_lock(((seats, 1),), None, None)
    assert token is not None
    engine.replace(seats, 1, token, row(2), True)
    engine.wal.commit()
    sold = contents(engine)
    disk.fail(3, failure, only="fsync")  # behind two of the double-write file: that of the rows
    with pytest.raises((OSError, Crash)):
        checkpoint(engine)
    disk = disk.killed()
    engine, _ = open_store(disk)
    assert contents(engine) == sold
    engine.insert(engine.table(b"other"), 2, row(1))
    checkpoint(engine)
    engine, _ = open_store(disk.crash())
    assert contents(engine)[b"seats"] == sold[b"seats"]


def test_a_block_that_a_power_loss_zeroed_is_restored() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    engine.insert(engine.table(b"seats"), 1, row(1))
    checkpoint(engine)
    engine.insert(engine.table(b"seats"), 2, row(1))
    engine.wal.commit()
    sold = contents(engine)
    disk.fail(3, only="fsync")
    with pytest.raises(Crash):
        checkpoint(engine)
    disk = disk.crash()
    block = disk.named[table_path(DIRECTORY, 1)]
    block.seen[:512] = block.synced[:512] = bytes(512)  # all that is not zero in it
    assert list(check(disk, DIRECTORY)) == []
    engine, _ = open_store(disk)
    assert contents(engine) == sold
