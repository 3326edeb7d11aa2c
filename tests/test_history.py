"""A row's history: every write of it that is kept, newest first, wherever its segment lies by then."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from storage import format as fmt
from storage import history as module
from storage import pace
from storage.engine import Engine, EngineOptions
from storage.errors import DamageError
from storage.history import Entry, history
from storage.recovery import Opening
from tests.fake_disk import FakeDisk
from tests.store import DIRECTORY, checkpoint, open_store, row, schema

if TYPE_CHECKING:
    from bench.harness.launch import Server

OPTIONS = EngineOptions(segment_bytes=4096)
ROWS = 5
ALL = 1 << 30


class Shop:
    """Rows of a table that are written again and again; `book` has what each was, and its position."""

    def __init__(self, disk: FakeDisk, options: EngineOptions = OPTIONS) -> None:
        self.disk = disk
        self.engine, _ = open_store(disk, options)
        self.engine.create(b"seats", schema(), False)
        self.book: dict[int, list[tuple[int, int, int]]] = {number: [] for number in range(ROWS)}
        for number in range(ROWS):
            self.engine.insert(self.engine.table(b"seats"), number, row(0))
            self.note(number, 0)
        self.engine.wal.commit()

    def note(self, number: int, state: int) -> None:
        values = self.engine.table(b"seats").read(number)
        assert values is not None
        self.book[number].append((values[1], values[0], state))

    def write(self, number: int, state: int) -> None:
        seats = self.engine.table(b"seats")
        token = self.engine.try_lock(((seats, number),), None, None)
        assert token is not None
        self.engine.replace(seats, number, token, {b"state": state}, True)
        self.note(number, state)

    def sell(self, count: int, chance: random.Random) -> None:
        for _ in range(count):
            self.write(chance.randrange(ROWS), chance.randrange(200))
            if chance.random() < 0.6:
                self.engine.wal.commit()
        self.engine.wal.commit()

    def history(self, number: int, limit: int = ALL) -> list[Entry]:
        return list(read(self.disk, self.engine, number, self.book[number][-1][0], limit))

    def shown(self, number: int, limit: int = ALL) -> list[tuple[int, int, int]]:
        record = self.engine.table(b"seats").schema.record
        return [
            (entry.record.position, entry.record.token, record.unpack(entry.record.body)[3])
            for entry in self.history(number, limit)
        ]


def read(disk: FakeDisk, engine: Engine, number: int, position: int, limit: int = ALL) -> Any:
    uuid = engine.manifest.uuid_bytes
    return history(disk, DIRECTORY, uuid, engine.table(b"seats").number, number, position, limit)


@pytest.mark.parametrize("seed", range(5))
def test_all_writes_of_a_row_through_log_and_archive(seed: int) -> None:
    chance = random.Random(f"history/{seed}")
    shop = Shop(FakeDisk())
    for _ in range(4):
        shop.sell(60, chance)
        checkpoint(shop.engine)
        if chance.random() < 0.5:
            shop.disk = shop.disk.crash()
            shop.engine, _ = open_store(shop.disk, OPTIONS)
    shop.sell(20, chance)
    assert shop.engine.archive.statistics().segments > 5
    for number in range(ROWS):
        assert shop.shown(number) == shop.book[number][::-1]
        assert shop.shown(number, 3) == shop.book[number][:-4:-1]
        assert shop.history(number)[-1].record.kind == fmt.Kind.INSERT


def test_it_ends_where_the_log_is_kept_no_longer() -> None:
    shop = Shop(FakeDisk(), EngineOptions(segment_bytes=4096, history_bytes_max=9000))
    chance = random.Random(1)
    for _ in range(6):
        shop.sell(60, chance)
        checkpoint(shop.engine)
    first = shop.engine.archive.statistics().first
    assert first is not None
    for number in range(ROWS):
        kept = [one for one in shop.book[number] if one[0] > first]
        assert 0 < len(kept) < len(shop.book[number])
        assert shop.shown(number) == kept[::-1]


def test_without_an_archive_it_goes_as_far_as_the_log() -> None:
    shop = Shop(FakeDisk(), EngineOptions(segment_bytes=4096, history_bytes_max=0))
    shop.sell(60, random.Random(1))
    checkpoint(shop.engine)
    first = shop.engine.wal.segments[0][0]
    for number in range(ROWS):
        assert shop.shown(number) == [one for one in shop.book[number][::-1] if one[0] > first]


def test_what_came_to_be_together_is_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(FakeDisk())
    monkeypatch.setattr("time.time_ns", lambda: 5_000_000_000)
    shop.engine.begin()
    for number in (3, 1, 2):
        shop.write(number, 7)
    shop.engine.commit()
    shop.write(1, 8)
    shop.engine.wal.commit()
    latest, framed, first = shop.history(1)
    assert [record.row for record in latest.frame] == [1]
    assert [record.row for record in framed.frame] == [3, 1, 2]
    assert framed.record is framed.frame[1] and framed.unix_ms == latest.unix_ms == 5_000
    assert [record.position for record in framed.frame] == [shop.book[n][1][0] for n in (3, 1, 2)]
    assert [record.row for record in first.frame] == [1], "each KL.INSERT is a frame of its own"


def test_many_batches_in_one_segment() -> None:
    """More of them than one read takes, and one of many records."""
    shop = Shop(FakeDisk(), EngineOptions(segment_bytes=1 << 20))
    chance = random.Random(2)
    for _ in range(300):
        shop.write(chance.randrange(ROWS), 1)
        shop.engine.wal.commit()
    for _ in range(1500):
        shop.write(chance.randrange(ROWS), 2)
    shop.engine.wal.commit()
    assert len(shop.engine.wal.segments) == 1 and shop.engine.wal.offset > 2 * module._STEP_BYTES
    for number in range(ROWS):
        assert shop.shown(number) == shop.book[number][::-1]


def test_it_gives_way_between_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did so between many records of one batch only: 600 writes, a batch each, kept the interpreter."""
    shop = Shop(FakeDisk(), EngineOptions(segment_bytes=1 << 20))
    for _ in range(100):
        shop.write(1, 1)
        shop.engine.wal.commit()
    pauses: list[float] = []
    monkeypatch.setattr(pace, "WORK_SECONDS", 0)
    monkeypatch.setattr("storage.pace.time.sleep", pauses.append)
    assert len(shop.history(1)) == 101
    assert len(pauses) > 100 and set(pauses) == {pace.PAUSE_SECONDS}


def test_a_segment_that_is_moved_meanwhile_is_found() -> None:
    """After each step a checkpoint may have moved the segment that is wanted next."""
    shop = Shop(FakeDisk())
    chance = random.Random(3)
    shop.sell(200, chance)
    assert len(shop.engine.wal.segments) > 5
    reading = read(shop.disk, shop.engine, 1, shop.book[1][-1][0])
    seen = [next(reading).record.position]
    checkpoint(shop.engine)
    seen += [entry.record.position for entry in reading]
    assert seen == [position for position, _, _ in shop.book[1][::-1]]


def test_a_segment_that_goes_meanwhile_is_the_end() -> None:
    shop = Shop(FakeDisk())
    shop.sell(200, random.Random(3))
    checkpoint(shop.engine)
    reading = read(shop.disk, shop.engine, 1, shop.book[1][-1][0])
    seen = [next(reading)]
    while shop.engine.archive.give_up_oldest():
        pass
    seen += list(reading)
    first = shop.engine.wal.segments[0][0]
    opened = len(shop.book[1]) - len(seen)
    assert opened > 0, "what was not open yet is gone"
    assert all(entry.record.position > first for entry in seen[1:-40])


def test_damage_is_named() -> None:
    shop = Shop(FakeDisk())
    shop.sell(30, random.Random(4))
    path = shop.engine.wal.segments[0][1]
    data = shop.disk.named[path].seen
    shop.disk.damage(path, data.find(fmt.BATCH_MAGIC.to_bytes(4, "little"), 1024) + 60)
    with pytest.raises(DamageError, match=f"{path.name}: offset"):
        for number in range(ROWS):
            shop.history(number)
    with pytest.raises(DamageError, match="is damaged or missing"):
        list(read(shop.disk, shop.engine, 1, shop.engine.wal.appended + 5))
    with pytest.raises(DamageError, match="no record of row 1"):
        list(read(shop.disk, shop.engine, 1, shop.book[2][-1][0]))


def test_checkpoints_beside_it_on_a_real_disk(tmp_path: Path) -> None:
    """Sales and checkpoints go on while another thread reads the histories, each pinned where it began."""
    opening = Opening(tmp_path, EngineOptions(segment_bytes=1 << 16))
    for _ in opening:
        pass
    engine = opening.engine
    engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    positions = [0]
    engine.insert(seats, 1, row(0))
    engine.wal.commit()
    failures: list[BaseException] = []
    reads = [0]
    done = threading.Event()

    def go_on() -> None:
        try:
            while not done.is_set():
                known = list(positions)
                if len(known) < 2:
                    continue
                found = history(
                    engine.fs, tmp_path, engine.manifest.uuid_bytes, seats.number, 1, known[-1], ALL
                )
                assert [entry.record.position for entry in found] == known[:0:-1]
                reads[0] += 1
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=go_on)
    reader.start()
    values = seats.read(1)
    assert values is not None
    positions.append(values[1])
    for number in range(1200):
        token = engine.try_lock(((seats, 1),), None, None)
        assert token is not None
        engine.replace(seats, 1, token, row(number % 200, number), True)
        engine.wal.commit()
        values = seats.read(1)
        assert values is not None
        positions.append(values[1])
        if number % 150 == 149:
            checkpoint(engine)
    done.set()
    reader.join()
    engine.close()
    assert failures == [] and reads[0] > 3
    assert engine.archive.statistics().segments >= 5


# --- the command --------------------------------------------------------------------------------------

Start = Callable[..., "Server"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_command(start: Start, protocol: int) -> None:
    running = start()
    with redis.Redis(port=running.port, protocol=protocol) as client:
        ask = client.execute_command
        ask("KL.CREATE", "seats", "SCHEMA", "state", "U8", "INDEX", "buyer", "BYTES", "8")
        ask("KL.INSERT", 1, "state", 0)
        for state in (1, 2):
            token = ask("KL.TRYLOCK", 1)
            ask("KL.REPLACE", 1, token, "state", state, "buyer", f"ann{state}", "UNLOCK")
        writes = [as_map(one) for one in ask("KL.HISTORY", "{seats}:1")]
        assert list(writes[0]) == [
            b"position",
            b"unix_ms",
            b"verb",
            b"token",
            b"owner",
            b"request",
            b"row",
        ]
        assert [one[b"verb"] for one in writes] == [b"replace", b"replace", b"insert"]
        assert writes[0][b"token"] == token and writes[0][b"owner"] is writes[0][b"request"] is None
        assert [as_map(one[b"row"]) for one in writes] == [
            {b"state": 2, b"buyer": b"ann2"},
            {b"state": 1, b"buyer": b"ann1"},
            {b"state": 0, b"buyer": b""},
        ]
        assert writes[0][b"position"] > writes[1][b"position"] > writes[2][b"position"]
        assert ask("KL.HISTORY", 1, "limit", 1)[0] == ask("KL.HISTORY", 1)[0]
        assert len(ask("KL.HISTORY", 1, "LIMIT", 0)) == 3
        assert ask("KL.HISTORY", 2) == []
        for words, said in (
            ((1, "LIMIT"), "syntax error"),
            ((1, "LIMIT", 1, "LIMIT", 1), "syntax error"),
            ((1, "BEFORE", 1), "syntax error"),
            ((1, "LIMIT", "x"), "value is not an integer or out of range: 'x'"),
            (("none:1",), "unknown table 'none'"),
        ):
            with pytest.raises(redis.ResponseError, match=said):
                ask("KL.HISTORY", *words)
        ask("MULTI")
        with pytest.raises(redis.ResponseError):
            ask("KL.HISTORY", 1)
        ask("DISCARD")
        info = client.info("audit")
        assert info["chain_position"] == client.info("persistence")["log_durable"]
        assert len(info["chain_head"]) == 64 and info["history_position"] == 0


def as_map(value: Any) -> dict[bytes, Any]:
    return value if isinstance(value, dict) else dict(zip(value[::2], value[1::2], strict=True))


def test_at_most_a_thousand(start: Start) -> None:
    running = start()
    with redis.Redis(port=running.port, protocol=3) as client:
        ask = client.execute_command
        ask("KL.CREATE", "seats", "SCHEMA", "state", "U32")
        ask("KL.INSERT", 1, "state", 0)
        token = ask("KL.TRYLOCK", 1)
        with client.pipeline(transaction=False) as pipeline:
            for state in range(1, 1100):
                pipeline.execute_command("KL.REPLACE", 1, token, "state", state)
            pipeline.execute()
        for limit, count in ((0, 1000), (1001, 1000), (999, 999)):
            writes = ask("KL.HISTORY", 1, "LIMIT", limit)
            assert [one[b"row"][b"state"] for one in writes] == list(range(1099, 1099 - count, -1))
        assert len(ask("KL.HISTORY", 1)) == 64
