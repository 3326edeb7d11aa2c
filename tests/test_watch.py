"""WATCH: EXEC does nothing when a watched row is not what it was."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import redis

from klani_resp.app import App
from klani_resp.sessions.session import Session
from tests.conftest import frame
from tests.in_memory import new_app, new_session

OK = b"+OK\r\n"
TABLE = b"KL.CREATE seats SCHEMA x U32 INDEX\r\n"


@pytest.fixture
def app() -> App:
    app = new_app()
    session = new_session(app)
    assert session.receive(TABLE + b"KL.INSERT 1 x 0\r\nKL.INSERT 2 x 0\r\n") == OK + b":1\r\n" * 2
    app.wake_committer()
    return app


def played(session: Session, *lines: str) -> bytes:
    return session.receive("".join(line + "\r\n" for line in lines).encode())


def exec_after(app: App, watched: str, *between: str, own: bool = False, protocol: int = 2) -> bytes:
    """What EXEC of one PING answers when this came between WATCH and MULTI."""
    session = new_session(app)
    if protocol == 3:
        played(session, "HELLO 3")
    assert played(session, f"WATCH {watched}") == OK
    for line in between:
        reply = played(session if own else new_session(app), line)
        assert not reply.startswith(b"-"), reply
    assert played(session, "MULTI", "PING") == OK + b"+QUEUED\r\n"
    return played(session, "EXEC")


DONE = b"*1\r\n+PONG\r\n"
WRITES = [
    ("1", "KL.CLAIM seats x 0 SET x 1"),
    ("2 1", "KL.CLAIM seats x 0 SET x 1"),
    ("{seats}:01", "KL.CLAIM seats x 0 SET x 1"),
    ("3", "KL.INSERT 3 x 0"),
    ("1", "KL.DROP seats"),
    ("3", "KL.DROP seats"),
    ("rooms:1", "KL.CREATE rooms SCHEMA x U8"),
]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("protocol", "nothing"), [(2, b"*-1\r\n"), (3, b"_\r\n")])
@pytest.mark.parametrize(("watched", "write"), WRITES)
def test_a_write_in_between(
    app: App, watched: str, write: str, own: bool, protocol: int, nothing: bytes
) -> None:
    assert exec_after(app, watched, write, own=own, protocol=protocol) == nothing


@pytest.mark.parametrize(
    "between",
    [
        (),
        ("KL.SEEK 1",),
        ("KL.TRYLOCK 1",),
        ("KL.HOLD seats x 0 PX 1000 FOR ann",),
        ("KL.CLAIM seats x 0 SET x 1 IDS 1 2",),
        ("KL.INSERT 1 x 0",),  # it is there already: nothing is written
    ],
)
def test_what_writes_nothing_of_it(app: App, between: tuple[str, ...]) -> None:
    assert exec_after(app, "1 7 nowhere:1 seats:x", *between) == DONE


def test_a_table_dropped_and_made_again_is_another(app: App) -> None:
    assert exec_after(app, "7", "KL.DROP seats", TABLE.decode().strip()) == b"*-1\r\n"


@pytest.mark.parametrize("end", [("UNWATCH",), ("MULTI", "DISCARD"), ("MULTI", "EXEC"), ("RESET",)])
def test_what_ends_it(app: App, end: tuple[str, ...]) -> None:
    session = new_session(app)
    played(session, "WATCH 1", *end)
    played(new_session(app), "KL.CLAIM seats x 0 SET x 1")
    assert played(session, "MULTI", "PING", "EXEC").endswith(DONE)


def test_the_first_watch_of_a_row_counts(app: App) -> None:
    session = new_session(app)
    played(session, "WATCH 1")
    played(new_session(app), "KL.CLAIM seats x 0 SET x 1")
    played(session, "WATCH 1")
    assert played(session, "MULTI", "PING", "EXEC").endswith(b"*-1\r\n")
    assert played(session, "MULTI", "PING", "EXEC").endswith(DONE), "and is over then"


def test_a_spoiled_transaction_says_so_first(app: App) -> None:
    session = new_session(app)
    played(session, "WATCH 1", "MULTI", "NOSUCH")
    played(new_session(app), "KL.CLAIM seats x 0 SET x 1")
    assert played(session, "EXEC").startswith(b"-EXECABORT")


def test_inside_multi_it_is_refused_and_the_queue_lives(app: App) -> None:
    session = new_session(app)
    assert played(session, "MULTI", "WATCH 1") == OK + b"-ERR WATCH inside MULTI is not allowed\r\n"
    assert played(session, "PING", "EXEC") == b"+QUEUED\r\n" + DONE


def test_null_waits_for_what_it_shows(app: App) -> None:
    """Else a crash could take back the write that EXEC was called off for."""
    session = new_session(app)
    played(session, "WATCH 1")
    other = new_session(app)
    played(other, "KL.CLAIM seats x 0 SET x 1")
    assert app.engine.released < app.engine.appended
    played(session, "MULTI", "PING")
    assert played(session, "EXEC") == b"*-1\r\n"
    assert session.hold == app.engine.appended


def test_so_many_keys_and_no_more() -> None:
    session = new_session(new_app(watched_keys_max=3))
    assert played(session, "WATCH a:1 a:2") == OK
    assert played(session, "WATCH a:3 a:4") == b"-ERR at most 3 keys can be watched\r\n"
    assert played(session, "WATCH a:3") == OK


def test_redis_py_s_transaction(client: Any) -> None:
    client.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U32", "INDEX")
    client.execute_command("KL.INSERT", 1, "x", 0)
    rounds = 0

    def sell(pipe: Any) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:  # somebody comes in between
            client.execute_command("KL.CLAIM", "seats", "x", 0, "SET", "x", 1)
        pipe.multi()
        pipe.execute_command("KL.CLAIM", "seats", "x", 1, "SET", "x", 2)

    assert client.transaction(sell, "seats:1") == [[1]]
    assert rounds == 2
    with client.pipeline() as pipe:
        pipe.watch("seats:1")
        client.execute_command("KL.CLAIM", "seats", "x", 2, "SET", "x", 3)
        pipe.multi()
        pipe.ping()
        with pytest.raises(redis.WatchError):
            pipe.execute()


@pytest.mark.parametrize("tail", ["", ":1", ":x"])
def test_a_watched_key_has_a_size(app: App, tail: str) -> None:
    session = new_session(app)
    tracemalloc.start()
    try:
        for number in range(100):
            assert session.receive(frame("WATCH", f"{'t' * 100_000}{number}{tail}")) == OK
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
    assert played(session, "MULTI", "PING", "EXEC") == OK + b"+QUEUED\r\n" + DONE


def test_queued_arguments_cost_more_than_their_bytes() -> None:
    session = new_session(new_app(transaction_bytes_max=64_000))
    assert played(session, "MULTI") == OK
    queued = [session.receive(frame("KL.TRYLOCK", *["1"] * 100)) for _ in range(10)]
    assert queued.count(b"+QUEUED\r\n") == 9
    assert session.receive(b"EXEC\r\n").startswith(b"-EXECABORT")
