"""Long answers and drops go on beside the others, and show one moment: that of the question."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from commands.intersect import STEP_IDS_MAX
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from storage.dismantle import dismantle
from storage.engine import Engine, EngineOptions
from storage.listing import SLICE_IDS
from tests.fake_disk import FakeDisk
from tests.store import FakeClock, assert_sound, checkpoint, contents, open_store, row, schema

ROWS = 3 * SLICE_IDS + 100  # four slices, if all match
ASK = b"KL.INTERSECT seats state 1"


def new_app() -> App:
    """State 1 in all rows but the first ten; rows 20 to 29 are locked."""
    app = App(Config())
    engine, _ = open_store(FakeDisk(), clock=FakeClock())
    engine.create(b"seats", schema(), False)
    table = engine.table(b"seats")
    for number in range(ROWS):
        engine.insert(table, number, row(int(number >= 10)))
    assert engine.try_lock(tuple((table, number) for number in range(20, 30)), None, None) is not None
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    app.wake_committer()
    return app


def array(ids: Iterator[int] | range | list[int]) -> bytes:
    ids = list(ids)
    return b"*%d\r\n" % len(ids) + b"".join(b":%d\r\n" % number for number in ids)


def ask(app: App, *words: bytes) -> Session:
    """A session whose question has become a job."""
    session = app.open_session(Transport("", ""))
    assert session.receive(b" ".join((ASK, *words)) + b"\r\nPING\r\n") == b""
    assert session.job is not None
    return session


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (b"LIMIT 0", list(range(10, ROWS))),
        (b"LIMIT 5000", list(range(10, 5010))),
        (b"AFTER 99 LIMIT 0", list(range(100, ROWS))),
        (b"AFTER 8000 LIMIT 5000", list(range(8001, 13001))[: ROWS - 8001]),
        (b"AFTER 4294967295 LIMIT 0", []),
        (b"FREE LIMIT 0", [*range(10, 20), *range(30, ROWS)]),
        (b"FREE AFTER 25 LIMIT 4097", list(range(30, 30 + 4097))),
    ],
)
async def test_a_long_answer_shows_the_moment_of_the_question(words: bytes, ids: list[int]) -> None:
    app = new_app()
    session = ask(app, words)
    other = app.open_session(Transport("", ""))
    for number in range(40, 50):
        other.receive(b"KL.TRYLOCK seats:%d\r\n" % number)
        token = app.engine.token
        other.receive(b"KL.REPLACE seats:%d %d state 0 UNLOCK\r\n" % (number, token))
        other.receive(
            b"KL.TRYLOCK seats:%d\r\nKL.INSERT seats:%d state 1\r\n" % (100 + number, ROWS + number)
        )
    assert await app.run_job(session) == array(ids)
    assert session.hold == app.engine.appended
    assert session.receive(b"") == b"+PONG\r\n", "and what was sent behind it comes behind it"


async def test_the_others_have_their_turn_after_each_slice() -> None:
    app = new_app()
    session = ask(app, b"LIMIT 0")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while session.job is not None:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await app.run_job(session) == array(range(10, ROWS))
    assert turns >= 3, "between four slices"
    assert app.slicing == 0


@pytest.mark.parametrize("limit", [64, STEP_IDS_MAX])
def test_a_short_answer_is_given_at_once(limit: int) -> None:
    session = new_app().open_session(Transport("", ""))
    reply = session.receive(b"%b LIMIT %d\r\n" % (ASK, limit))
    assert reply == array(range(10, 10 + limit))
    few = session.receive(b"KL.INTERSECT seats state 0 LIMIT 0\r\n")
    assert few == array(range(10)), "however many were asked for"


def test_inside_exec_it_is_given_at_once() -> None:
    session = new_app().open_session(Transport("", ""))
    session.receive(b"MULTI\r\n%b LIMIT 0\r\nPING\r\n" % ASK)
    assert session.receive(b"EXEC\r\n") == b"*2\r\n" + array(range(10, ROWS)) + b"+PONG\r\n"


def test_inside_exec_it_is_not_begun_where_it_does_not_fit() -> None:
    session = new_app().open_session(Transport("", ""))
    session.receive(b"CONFIG SET transaction-bytes-max 100k\r\nMULTI\r\n%b LIMIT 0\r\nPING\r\n" % ASK)
    reply = session.receive(b"EXEC\r\n")
    assert reply.startswith(b"*2\r\n-ERR transaction_bytes_max of replies of this transaction is used up")
    assert reply.endswith(b"\r\n+PONG\r\n"), "there is room for short ones"


async def test_nobody_works_for_a_client_that_has_gone() -> None:
    app = new_app()
    session = ask(app, b"LIMIT 0")
    app.close_session(session)
    assert session.job is not None
    slices = session.job.slices
    assert slices is not None
    await app.run_job(session)
    assert len(list(slices)) == 3, "one was made"


# --- threads -----------------------------------------------------------------------------------------


class HeldDisk(FakeDisk):
    """Whoever reads the log while it serves waits."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reads = 0

    def open_readonly(self, path: Path) -> int:
        if path.parent.name == "wal":
            self.reads += 1
            assert self.gate.wait(20)
        return super().open_readonly(path)


READERS = 60  # more than trio has threads


async def test_a_checkpoint_does_not_wait_for_readers() -> None:
    """All threads were theirs: no checkpoint was made, and no next segment of the log."""
    disk, app = HeldDisk(), App(Config())
    disk.gate.set()
    engine, _ = open_store(disk, EngineOptions(checkpoint_bytes=1), FakeClock())
    app.access.configure()
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    session = app.open_session(Transport("", ""))
    session.receive(b"KL.CREATE seats SCHEMA x U8\r\nKL.INSERT 1 x 1\r\n")
    app.wake_committer()
    disk.gate.clear()
    replies: list[bytes] = []

    async def read(reader: Session) -> None:
        reader.receive(b"KL.HISTORY 1\r\n")
        replies.append(await app.run_job(reader))

    readers = [app.open_session(Transport("", "")) for _ in range(READERS)]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, readers[0])
            await trio.testing.wait_all_tasks_blocked()
            for reader in readers[1:]:
                nursery.start_soon(read, reader)
            await trio.testing.wait_all_tasks_blocked()
            await app.checkpoint()
            assert engine.checkpoints == 1
            for reader in readers[10:]:
                app.close_session(reader)
            disk.gate.set()
    answered = [reply for reply in replies if reply]
    assert len(answered) == disk.reads == 10, "nobody works for who has gone meanwhile"
    assert all(reply.startswith(b"*1\r\n*14\r\n$8\r\nposition\r\n") for reply in answered)


# --- KL.DROP ------------------------------------------------------------------------------------------


@pytest.fixture
def engine() -> Engine:
    engine, _ = open_store(FakeDisk(), clock=FakeClock())
    for name in (b"seats", b"rooms"):
        engine.create(name, schema(), False)
        for number in (*range(100), 1 << 20):
            engine.insert(engine.table(name), number, row(number % 4, number % 7))
        engine.intersect(engine.table(name), {b"state": 1, b"row": 2}, 0, None, False)
    return engine


def test_a_dropped_table_is_taken_apart_in_pieces(engine: Engine) -> None:
    table = engine.table(b"seats")
    rooms = contents(engine)[b"rooms"]
    assert engine.try_lock(((table, 1), (engine.table(b"rooms"), 1)), None, None) is not None
    assert engine.drop(b"seats") == 1
    assert engine.dropped == [table]
    assert len(list(dismantle(table))) >= 2, "one piece for each 64 Ki rows"
    assert not table.rows.directories
    assert not table.leases
    assert not any(table.index.lists.values())
    assert not any(table.index.combinations.values())
    assert contents(engine) == {b"rooms": rooms}
    assert engine.try_lock(((engine.table(b"rooms"), 1),), None, None) is None, "its lock is there still"


async def test_a_checkpoint_that_began_before_the_drop_has_its_rows(engine: Engine) -> None:
    """What is dropped is taken apart only when no checkpoint reads it."""
    app = App(Config())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    engine.wal.commit()
    async with trio.open_nursery() as nursery, app.row_files:
        cut = engine.begin_checkpoint()
        engine.drop(b"seats")
        nursery.start_soon(app.free_dropped)
        await trio.testing.wait_all_tasks_blocked()
        cut.write()
        engine.end_checkpoint(cut)
    assert engine.dropped == []
    checkpoint(engine)
    assert isinstance(engine.fs, FakeDisk)
    assert_sound(engine, engine.fs)
    again, _ = open_store(engine.fs.killed())
    assert contents(again) == contents(engine)
    assert list(contents(again)) == [b"rooms"]
