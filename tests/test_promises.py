"""Promises that only a small test of their own sees broken: bugs of tests/planted/bugs.py that need one."""

from __future__ import annotations

import pytest

from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from storage import format as fmt
from storage.engine import EngineOptions
from storage.errors import DamageError, StoreError
from tests.fake_disk import FakeDisk
from tests.store import ONE_SEGMENT, FakeClock, contents, log_of_batches, open_store, row, schema


def new_app(disk: FakeDisk, options: EngineOptions) -> tuple[App, Session]:
    app = App(Config())
    engine, _ = open_store(disk, options)
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    return app, app.open_session(Transport("", ""))


def rechained(data: bytearray, at: int) -> None:
    """The batch at offset `at` says that it was written behind another one; its own checksum is right."""
    salt = fmt.SEGMENT.unpack_from(data)[4]
    length, begin = fmt.BATCH.unpack_from(data, at)[1], at + fmt.BATCH.size
    data[at + 32] ^= 1
    crc = fmt.batch_crc(salt, bytes(data[at:begin]), bytes(data[begin : begin + length]))
    data[begin - 4 : begin] = crc.to_bytes(4, "little")


@pytest.mark.parametrize("batch", [3, 9])
def test_a_batch_behind_another_than_it_was_written_behind_is_none(batch: int) -> None:
    log = log_of_batches(10)
    file = log.disk.named[log.segment]
    for data in (file.seen, file.synced):
        rechained(data, log.offsets[batch])
    if batch == 3:
        with pytest.raises(DamageError, match=f"offset {log.offsets[batch]}"):
            open_store(log.disk, ONE_SEGMENT)
        return
    engine, (warning,) = open_store(log.disk, ONE_SEGMENT)
    assert "torn tail" in warning
    assert contents(engine) == log.states[-2]


def test_a_foreign_token_neither_writes_nor_unlocks() -> None:
    engine, _ = open_store(FakeDisk())
    engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    for number in range(2):
        engine.insert(seats, number, row(1))
    mine = engine.try_lock(((seats, 0),), None, None)
    foreign = engine.try_lock(((seats, 1),), None, None)
    assert mine is not None and foreign is not None
    before, appended = contents(engine), engine.appended
    for token in (foreign, mine - 1, mine + 99):
        with pytest.raises(StoreError, match="NOLOCK"):
            engine.replace(seats, 0, token, {b"state": 2}, True)
        assert engine.unlock([(seats, 0)], token) == 0
    assert (contents(engine), engine.appended) == (before, appended)
    assert engine.unlock([(seats, 0)], mine) == 1


def test_a_lease_that_ended_is_in_nobody_s_way() -> None:
    """Also at its last nanosecond, and before anything swept it."""
    clock = FakeClock()
    engine, _ = open_store(FakeDisk(), clock=clock)
    engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    engine.insert(seats, 0, row(1))
    first = engine.try_lock(((seats, 0),), 5, b"a")
    clock.pass_ms(5)
    clock.now -= 1
    assert engine.try_lock(((seats, 0),), 5, b"b") is None, "the same row, another attempt"
    clock.now += 1
    second = engine.try_lock(((seats, 0),), 5, b"b")
    assert first is not None and second is not None and second > first


def test_a_token_is_not_shown_before_its_range_is_set_aside() -> None:
    app, session = new_app(FakeDisk(), EngineOptions())
    session.receive(b"KL.CREATE seats SCHEMA rank U32\r\nKL.INSERT 1 rank 1\r\n")
    app.wake_committer()
    engine = app.engine
    engine.token = engine.tokens_reserved
    assert session.receive(b"KL.TRYLOCK 1\r\n").startswith(b":")
    assert session.hold == engine.appended > engine.released


async def test_a_checkpoint_waits_for_its_log() -> None:
    disk = FakeDisk()
    app, session = new_app(disk, EngineOptions(checkpoint_bytes=1))
    session.receive(b"KL.CREATE seats SCHEMA rank U32\r\nKL.INSERT 1 rank 1\r\n")
    engine = app.engine
    assert engine.durable < engine.appended
    await app.checkpoint()
    assert engine.checkpoint_position == engine.appended == engine.durable
    engine, _ = open_store(disk.crash())
    assert list(contents(engine)[b"seats"]) == [1]


def test_rot_in_the_index_file_is_seen() -> None:
    """Though its form is right: a bitmap with another row in it."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    for number in range(3):
        engine.insert(engine.table(b"seats"), number, row(1))
    engine.close()
    shown = contents(engine)
    (path,) = [path for path in disk.named if path.name.startswith("index-")]
    disk.damage(path, len(disk.named[path].seen) - 2)
    engine, warnings = open_store(disk)
    assert "checksum" in warnings[0]
    assert contents(engine) == shown
