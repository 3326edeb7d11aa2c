"""WATCH and UNWATCH: EXEC does nothing when a watched row is not as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from klani_resp.app import App
from klani_resp.session import Session
from tests.conftest import Wire, frame
from tests.in_memory import new_app, new_session

Client = Any  # redis-py does not type execute_command
INSERT = b"KL.INSERT 9 x 1\r\n"
NULL = b"*-1\r\n"


@pytest.fixture
def app() -> App:
    app = new_app()
    one = new_session(app)
    one.receive(b"KL.CREATE seats SCHEMA x U32 INDEX n COUNTER\r\n")
    one.receive(b"KL.INSERT 1 x 0 n 5\r\nKL.INSERT 2 x 0 n 5\r\n")
    app.wake_committer()
    return app


@pytest.fixture
def session(app: App) -> Session:
    return new_session(app)


def ask(session: Session, line: bytes) -> bytes:
    return session.receive(line + b"\r\n")


def executed(session: Session) -> bytes:
    """A transaction of one PING."""
    assert session.receive(b"MULTI\r\nPING\r\n") == b"+OK\r\n+QUEUED\r\n"
    return ask(session, b"EXEC")


DONE = b"*1\r\n+PONG\r\n"


@pytest.mark.parametrize(
    ("watched", "written"),
    [
        (b"1", b"KL.CLAIM seats x 0 SET x 1"),
        (b"2 1", b"KL.CLAIM seats x 0 SET x 1"),
        (b"seats:1", b"KL.CLAIM seats IDS 1 1 TAKE 2 FROM n"),
        (b"{seats}:9", b"KL.INSERT 9 x 1"),
        (b"1", b"KL.DROP seats"),
        (b"9", b"KL.DROP seats"),
        (b"hall:1", b"KL.CREATE hall SCHEMA x U8"),
    ],
)
def test_a_change_by_anybody_keeps_exec_from_its_work(app: App, watched: bytes, written: bytes) -> None:
    for is_own in (False, True):
        if is_own:
            one = other = new_session(app)
            new_session(app).receive(b"KL.DROP seats\r\nKL.DROP hall\r\n")
            new_session(app).receive(b"KL.CREATE seats SCHEMA x U32 INDEX n COUNTER\r\n")
            new_session(app).receive(b"KL.INSERT 1 x 0 n 5\r\nKL.INSERT 2 x 0 n 5\r\n")
        else:
            one, other = new_session(app), new_session(app)
        assert ask(one, b"WATCH " + watched) == b"+OK\r\n"
        assert not ask(other, written).startswith(b"-")
        assert executed(one) == NULL
        assert executed(one) == DONE, "it is watched no more"


@pytest.mark.parametrize(
    "what",
    [
        b"KL.CLAIM seats x 0 SET x 1 IDS 1 2",
        b"KL.TRYLOCK 1",
        b"KL.HOLD seats x 0 PX 1000 FOR ann IDS 1 1",
        b"KL.HOLD seats IDS 1 1 TAKE 2 FROM n PX 1000 FOR ann",
        b"KL.SEEK 1",
    ],
)
def test_other_rows_locks_and_holds_are_no_change(app: App, session: Session, what: bytes) -> None:
    assert ask(session, b"WATCH 1") == b"+OK\r\n"
    assert not ask(new_session(app), what).startswith(b"-")
    assert executed(session) == DONE


def test_a_table_made_again_is_another(app: App, session: Session) -> None:
    ask(session, b"WATCH 7")
    other = new_session(app)
    assert ask(other, b"KL.DROP seats") == b":1\r\n"
    assert ask(other, b"KL.CREATE seats SCHEMA x U32 INDEX") == b"+OK\r\n"
    assert executed(session) == NULL


@pytest.mark.parametrize(
    "ended",
    [
        b"UNWATCH\r\n",
        b"RESET\r\n",
        b"MULTI\r\nDISCARD\r\n",
        b"MULTI\r\nEXEC\r\n",
        b"MULTI\r\nNOPE\r\nEXEC\r\n",
    ],
)
def test_what_ends_watching(app: App, session: Session, ended: bytes) -> None:
    ask(session, b"WATCH 9")
    session.receive(ended)
    new_session(app).receive(INSERT)
    assert executed(session) == DONE


def test_errors_leave_it_watched(app: App, session: Session) -> None:
    ask(session, b"WATCH 9")
    assert ask(session, b"EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert ask(session, b"DISCARD") == b"-ERR DISCARD without MULTI\r\n"
    assert ask(session, b"WATCH 10 x") == b"-ERR invalid row id 'x'\r\n"
    new_session(app).receive(INSERT)
    assert executed(session) == NULL


def test_a_row_watched_again_stays_as_it_was_first(app: App, session: Session) -> None:
    ask(session, b"WATCH 9")
    new_session(app).receive(INSERT)
    ask(session, b"WATCH 9")
    assert executed(session) == NULL


def test_unwatch_inside_multi_comes_too_late(app: App, session: Session) -> None:
    ask(session, b"WATCH 9")
    new_session(app).receive(INSERT)
    session.receive(b"MULTI\r\nUNWATCH\r\n")
    assert ask(session, b"EXEC") == NULL


def test_a_refused_transaction_says_so_first(app: App, session: Session) -> None:
    ask(session, b"WATCH 9")
    new_session(app).receive(INSERT)
    session.receive(b"MULTI\r\nNOPE\r\n")
    assert ask(session, b"EXEC").startswith(b"-EXECABORT ")


def test_resp3_has_a_null_of_its_own(app: App, session: Session) -> None:
    session.receive(b"HELLO 3\r\nWATCH 9\r\n")
    new_session(app).receive(INSERT)
    assert executed(session) == b"_\r\n"


def test_the_null_waits_for_what_it_shows(app: App, session: Session) -> None:
    ask(session, b"WATCH 9")
    new_session(app).receive(INSERT)
    assert app.engine.released < app.engine.appended
    assert executed(session) == NULL
    assert session.hold == app.engine.appended


def test_watched_rows_have_a_limit_all_or_none() -> None:
    app = new_app(watched_keys_max=3)
    session = new_session(app)
    assert ask(session, b"WATCH 1 2 2") == b"+OK\r\n"
    assert ask(session, b"WATCH 3 4") == b"-ERR too many watched keys, at most 3\r\n"
    assert ask(session, b"WATCH 2 5") == b"+OK\r\n"
    assert session.transaction.watched == 3


def test_redis_py_tries_again(client: Client, wire: Callable[..., Wire]) -> None:
    client.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U32", "INDEX")
    other = wire()
    tries = []

    def sell(pipe: Any) -> None:
        tries.append(pipe.execute_command("KL.SEEK", 1))
        if len(tries) == 1:
            assert other.ask("KL.INSERT", 1, "x", 7) == b":1\r\n"
        pipe.multi()
        pipe.execute_command("KL.INSERT", 2, "x", 0)

    assert client.transaction(sell, "seats:1") == [1]
    assert len(tries) == 2

    with client.pipeline() as pipe:
        pipe.watch("seats:3")
        other.send_bytes(frame("KL.INSERT", 3, "x", 7))
        assert other.line() == b":1\r\n"
        pipe.multi()
        pipe.ping()
        with pytest.raises(redis.WatchError):
            pipe.execute()
