"""KL.LOCKS and KL.HOLDS of a table with more of them than anybody reads in one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
import pytest

from commands.hold import STEP_IDS_MAX
from commands.locks import STEP_LOCKS_MAX
from klani_resp.app import App
from klani_resp.sessions.session import Session
from storage.offers import Wanted
from storage.schema import Schema
from storage.selling import Terms
from storage.table import Table
from tests.conftest import frame
from tests.in_memory import new_app, new_session

ROWS = 30_000


@pytest.fixture
def app() -> App:
    app = new_app()
    app.engine.create(b"seats", Schema.from_description([["state", "U8", 1]]), False)
    for row in range(ROWS):
        app.engine.insert(app.engine.table(b"seats"), row, {})
    return app


@pytest.fixture
def table(app: App) -> Table:
    return app.engine.table(b"seats")


def asked(session: Session, *words: Any) -> tuple[Any, bool]:
    """The answer, and whether the others had their turns meanwhile."""
    data = session.receive(frame(*words))
    job = session.job
    if job is not None:
        data = session.finish_job(job.run())
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets(), job is not None


def hold(app: App, *rows: int, owner: bytes = b"ann") -> int:
    wanted, terms = Wanted(ids=rows), Terms(owner=owner)
    token: int = app.engine.selling.hold(app.engine.table(b"seats"), {b"state": 0}, 60_000, wanted, terms, 0)[
        0
    ]
    return token


def test_locks_are_read_from_the_first_on(app: App, table: Table) -> None:
    session = new_session(app)
    for row in range(ROWS - 1, 99, -1):
        app.engine.try_lock(((table, row),), 60_000 if row % 2 else 1, None)
    hold(app, 50, 60)
    clock: Callable[..., int] = app.engine.clock
    app.engine.clock = lambda: clock() + 2_000_000
    some, is_job = asked(session, "KL.LOCKS", "seats")
    assert ([one[0] for one in some], is_job) == (list(range(101, 229, 2)), False)
    some, is_job = asked(session, "KL.LOCKS", "seats", "LIMIT", STEP_LOCKS_MAX)
    assert ([one[0] for one in some], is_job) == (list(range(101, 101 + 2 * STEP_LOCKS_MAX, 2)), False)
    for limit in (0, ROWS):
        every, is_job = asked(session, "KL.LOCKS", "seats", "LIMIT", limit)
        assert ([one[0] for one in every], is_job) == (list(range(101, ROWS, 2)), True)


def test_what_is_answered_is_of_the_moment_of_the_question(app: App, table: Table) -> None:
    session = new_session(app)
    locks = {row: app.engine.try_lock(((table, row),), 60_000, None) for row in range(2 * STEP_LOCKS_MAX)}
    session.receive(frame("KL.LOCKS", "seats", "LIMIT", 0))
    for row, token in locks.items():
        assert token is not None
        app.engine.unlock([(table, row)], token)
    app.engine.try_lock(((table, 9999),), 60_000, None)
    job = session.job
    assert job is not None
    reader = hiredis.Reader()
    reader.feed(session.finish_job(job.run()))
    assert [one[:2] for one in reader.gets()] == [[row, token] for row, token in locks.items()]


def test_holds_come_by_token(app: App, table: Table) -> None:
    session = new_session(app)
    tokens = [hold(app, row, owner=b"bob" if row % 3 else b"ann") for row in range(STEP_IDS_MAX)]
    for token in tokens[::2]:
        app.engine.selling.release(token)
    tokens = tokens[1::2]
    every, is_job = asked(session, "KL.HOLDS", "seats")
    assert ([one[0] for one in every], is_job) == (tokens, True)
    few, is_job = asked(session, "KL.HOLDS", "seats", "FOR", "ann")
    assert ([one[0] for one in few], is_job) == (tokens[1::3], False)


def test_large_holds_are_long_to_tell(app: App, table: Table) -> None:
    for first in range(0, STEP_IDS_MAX + 1, 1000):
        hold(app, *range(first, first + 1000))
    every, is_job = asked(new_session(app), "KL.HOLDS", "seats")
    assert is_job
    assert [len(ids) for _, _, ids, _ in every] == [1000] * 5
