"""A session without sockets: requests as lines typed in (`>`), replies as they are on the wire (`<`)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from klani_resp.app import App, StorageFailed
from klani_resp.committer import InlineCommitter
from klani_resp.net.tasks import serve_stream
from klani_resp.sessions.session import Session
from tests.in_memory import SCHEMA, new_app, new_session, talk


def test_a_connection_introduces_itself(session: Session) -> None:
    talk(
        session,
        """
        > CLIENT ID
        < :1
        > CLIENT SETNAME till
        > CLIENT GETNAME
        < +OK
        < $4
        < till
        > HELLO 3 SETNAME "till one"
        < -ERR Client names cannot contain spaces, newlines or special characters.
        > HELLO 4
        < -NOPROTO unsupported protocol version
        > RESET
        > CLIENT GETNAME
        < +RESET
        < $-1
        > SELECT 0
        > SELECT 1
        < +OK
        < -ERR DB index is out of range
        > CLIENT MAINT_NOTIFICATIONS ON
        > CLIENT TRACKING ON
        < -ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.
        < -ERR unknown subcommand 'TRACKING'. Try CLIENT HELP.
        """,
    )


def test_hello_answers_in_the_version_that_it_chose(session: Session) -> None:
    assert session.receive(b"HELLO 3\r\n").startswith(b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n")
    assert session.receive(b"CLIENT GETNAME\r\n") == b"_\r\n"
    assert session.receive(b"HELLO 2\r\n").startswith(b"*14\r\n")


def test_a_seat_is_sold(session: Session) -> None:
    talk(
        session,
        SCHEMA
        + """
        > KL.INSERT 7 rank 3
        > KL.INTERSECT seats rank 3 sold 0
        < :1
        < *1
        < :7
        > KL.SEEK seats:7
        > KL.SEEK {seats}:8
        < *4
        < $4
        < rank
        < :3
        < $4
        < sold
        < :0
        < $-1
        """,
    )
    token = int(session.receive(b"KL.TRYLOCK 7\r\n")[1:])
    assert session.receive(b"KL.TRYLOCK 7\r\n") == b"$-1\r\n"
    assert session.receive(b"KL.REPLACE 7 %d sold 1 UNLOCK\r\n" % token) == b"+OK\r\n"
    assert session.receive(b"KL.INTERSECT seats rank 3 sold 0\r\n") == b"*0\r\n"


def test_multi_takes_effect_as_one(session: Session) -> None:
    talk(
        session,
        SCHEMA
        + """
        > MULTI
        > KL.INSERT 1 rank 1
        > MULTI
        > KL.INSERT 2 rank 1 rank 1
        > KL.COUNT seats rank 1
        < +OK
        < +QUEUED
        < -ERR MULTI calls can not be nested
        < +QUEUED
        < +QUEUED
        > EXEC
        < *3
        < :1
        < -ERR syntax error
        < :1
        > EXEC
        > DISCARD
        < -ERR EXEC without MULTI
        < -ERR DISCARD without MULTI
        > MULTI
        > KL.SEEK
        > EXEC
        < +OK
        < -ERR wrong number of arguments for 'kl.seek' command
        < -EXECABORT Transaction discarded because of previous errors.
        > MULTI
        > KL.VERIFY seats rank 1
        > KL.INSERT 9 rank 1
        > EXEC
        > KL.SEEK 9
        < +OK
        < -ERR Command not allowed inside a transaction
        < +QUEUED
        < -EXECABORT Transaction discarded because of previous errors.
        < $-1
        > MULTI
        > KL.INSERT 9 rank 1
        > DISCARD
        > KL.SEEK 9
        < +OK
        < +QUEUED
        < +OK
        < $-1
        """,
    )


def test_a_queue_has_limits_that_name_themselves() -> None:
    """redis-py sends all of a pipeline() between MULTI and EXEC: 10,001 commands are a common habit."""
    session = new_session(new_app(transaction_commands_max=2, transaction_bytes_max=210))
    aborted = "< -EXECABORT Transaction discarded because of previous errors."
    commands = "< -ERR transaction is too long: at most 2 commands (transaction_commands_max)"
    size = "< -ERR transaction is too long: at most 210 bytes (transaction_bytes_max)"
    talk(session, f"> MULTI\n> PING\n> PING\n> PING\n> EXEC\n{_queued(2)}\n{commands}\n{aborted}")
    talk(session, f"> MULTI\n> PING\n> ECHO {'x' * 20}\n> EXEC\n{_queued(1)}\n{size}\n{aborted}")
    talk(session, "> MULTI\n> PING\n> EXEC\n< +OK\n< +QUEUED\n< *1\n< +PONG")


def _queued(count: int) -> str:
    return "\n".join(["< +OK", *["< +QUEUED"] * count])


USED_UP = b"-ERR %b of this transaction is used up: from here on only what writes rows is done\r\n"


def queued(session: Session, *requests: bytes) -> bytes:
    """What EXEC answers behind its count."""
    assert session.receive(b"MULTI\r\n") == b"+OK\r\n"
    for request in requests:
        session.receive(request)
        assert session.in_transaction
    head = b"*%d\r\n" % len(requests)
    reply = session.receive(b"EXEC\r\n")
    assert reply.startswith(head)
    return reply.removeprefix(head)


def test_what_one_exec_reads_has_a_budget_of_bytes() -> None:
    """10,000 answers of 40 KB each were 1.2 GB, in one step: what writes is done all the same."""
    session = new_session(new_app(transaction_bytes_max=5_000))
    session.receive(b"KL.CREATE seats SCHEMA x BYTES 1000\r\nKL.INSERT 1 x %b\r\n" % (b"a" * 1000))
    answer = session.receive(b"KL.SEEK 1\r\n")
    insert, read = b"KL.INSERT %d x b\r\n", b"KL.SEEK 1\r\n"
    asked = [read, insert % 2, read, read, read, read, read, insert % 3, read, b"ping\r\n", insert % 4]
    refused = USED_UP % b"transaction_bytes_max of replies"
    expected = [answer, b":1\r\n", *[answer] * 4, refused, b":1\r\n", refused, refused, b":1\r\n"]
    assert queued(session, *asked) == b"".join(expected)
    for row in (2, 3, 4):
        assert session.receive(b"KL.SEEK %d\r\n" % row).endswith(b"\r\nb\r\n")
    assert b"cmdstat_kl.seek:calls=9," in session.receive(b"INFO commandstats\r\n")
    assert b"rejected_calls=2," in session.receive(b"INFO commandstats\r\n")
    assert queued(session, read) == answer, "the next one has its own"


def test_what_one_exec_reads_has_a_budget_of_time() -> None:
    session = new_session(new_app(transaction_read_ms_max=1))
    talk(session, SCHEMA)
    long = b"COMMAND\r\n"  # a twentieth of it
    reply = queued(session, long, *[long] * 200, b"KL.INSERT 1 rank 1\r\n")
    answer = session.receive(long)
    assert reply.startswith(answer)
    assert reply.endswith(USED_UP % b"transaction_read_ms_max of reading" + b":1\r\n")
    assert queued(session, long) == answer


def array(numbers: range) -> bytes:
    return b"".join([b"*%d\r\n" % len(numbers), *(b":%d\r\n" % number for number in numbers)])


def test_what_one_exec_writes_has_a_budget() -> None:
    """All of it is one frame of the log, in memory until it is written, and a batch that nobody can read
    back is none. A claim of a hundred rows is a request of a hundred bytes."""
    session = new_session(new_app(transaction_bytes_max=20_000))
    session.receive(b"KL.CREATE seats SCHEMA x U8 INDEX b BYTES 1000\r\n")
    for row in range(40):
        session.receive(b"KL.INSERT %d x 0 b %b\r\n" % (row, b"a" * 1000))
    claim, read = b"KL.CLAIM seats x 0 SET x 1 COUNT 8\r\n", b"KL.COUNT seats x 1\r\n"
    reply = queued(session, claim, claim, claim, read, claim, b"KL.CLAIM seats x 9 SET x 1\r\n", read)
    sold = [array(range(first, first + 8)) for first in (0, 8, 16, 24)]
    refused = b"-ERR transaction_bytes_max of log of this transaction is used up: %b\r\n"
    refused %= b"from here on nothing is written"
    assert reply == b"".join([*sold[:3], b":24\r\n", refused, refused, b":24\r\n"])
    assert session.receive(read) == b":24\r\n"
    assert queued(session, claim) == sold[3], "the next one has its own"


# --- positions --------------------------------------------------------------------------------------------


def test_a_reply_waits_for_all_that_it_shows(app: App, session: Session) -> None:
    engine, other = app.engine, new_session(app)
    talk(session, SCHEMA + "> KL.INSERT 1 rank 1\n< :1")
    app.wake_committer()
    assert engine.released == engine.appended
    talk(session, "> KL.INSERT 2 rank 2\n< :1")
    assert session.hold == engine.appended > engine.released
    talk(other, "> PING\n< +PONG")
    assert other.hold == 0
    talk(other, "> KL.COUNT seats rank 1\n< :1")
    assert other.hold <= engine.released, "what is quiet is answered at once"
    for reads in ("KL.SEEK 2", "KL.COUNT seats rank 2", "KL.INSERT 2 rank 3", "DBSIZE", "KL.NOSUCH"):
        other.receive(reads.encode() + b"\r\n")
        assert (other.hold == engine.appended) == (reads != "KL.NOSUCH"), reads
    talk(session, "> MULTI\n> KL.INSERT 3 rank 3\n> EXEC\n< +OK\n< +QUEUED\n< *1\n< :1")
    assert session.hold == engine.appended


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        ("KL.UNLOCK 1 5", ":0"),
        ("KL.UNLOCK halls:1 5", "-ERR unknown table 'halls'"),
        ("KL.TRYLOCK 1", "-NOROW no row seats:1"),
        ("KL.REPLACE 1 5 rank 1", "-NOROW no row seats:1"),
        ("KL.SEEK 1", "$-1"),
        ("KL.SEEK 1 nope", "-ERR unknown field 'nope'"),
        ("KL.COUNT seats rank 1", ":0"),
        ("KL.COUNT seats rank 1 sold 1 FREE", ":0"),
        ("KL.INTERSECT seats rank 1", "*0"),
        ("KL.INTERSECT seats rank 1 sold 1 LIMIT 0", "*0"),
        ("KL.CREATE seats SCHEMA x U8", "-EXISTS table 'seats' exists"),
        ("KL.CREATE seats IFNOTEXISTS SCHEMA rank U32 INDEX sold U8 INDEX", "+OK"),
        ("KL.DROP halls", ":0"),
        ("KL.LOCKS seats", "*0"),
        ("DBSIZE", ":0"),
    ],
)
def test_no_reply_shows_a_table_that_a_crash_could_take_back(
    app: App, session: Session, asked: str, reply: str
) -> None:
    """Made, dropped and made again: what says that one is there, or is not, waits for that."""
    other = new_session(app)
    talk(session, "> KL.CREATE halls SCHEMA x U8\n< +OK")
    app.wake_committer()
    talk(session, SCHEMA + "> KL.DROP halls\n< :1")
    assert session.hold == app.engine.appended > app.engine.released
    for _ in range(2):  # KL.INTERSECT remembers what it was asked
        talk(other, f"> {asked}\n< {reply}")
        assert other.hold == app.engine.appended, asked


@pytest.mark.parametrize("asked", ["KL.TRYLOCK 1", "KL.TRYLOCK 1 OWNER a", "KL.SCAN seats 0", "KL.TABLES"])
def test_no_reply_shows_a_row_that_a_crash_could_take_back(app: App, session: Session, asked: str) -> None:
    other = new_session(app)
    talk(session, SCHEMA)
    session.receive(b"KL.INSERT 2 rank 1\r\nKL.TRYLOCK 2\r\n")  # sets tokens aside
    app.wake_committer()
    talk(session, "> KL.INSERT 1 rank 1\n< :1")
    shown = app.engine.appended
    for _ in range(2):  # granted, then null or the same token
        other.receive(asked.encode() + b"\r\n")
        assert other.hold == shown > app.engine.released


async def test_the_task_road_sends_only_what_is_durable(app: App) -> None:
    class LaterCommitter(InlineCommitter):
        def wake(self) -> None:
            woken.set()

    woken = trio.Event()
    app.opened(app.engine, LaterCommitter(app.engine.wal, app.release))
    client, served = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, served, app)
        await client.send_all(b"KL.CREATE seats SCHEMA rank U32\r\nPING\r\n")
        await woken.wait()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            _receive_nowait(client)
        app.engine.wal.commit()
        app.release(app.engine.wal.durable)
        assert await client.receive_some() == b"+OK\r\n+PONG\r\n"
        await client.send_eof()
        assert await client.receive_some() == b""
    assert app.sessions == {}


def _receive_nowait(stream: Any) -> None:
    if not stream.receive_stream._incoming._data:
        raise trio.WouldBlock


async def test_a_failed_store_answers_nothing_more(app: App) -> None:
    class NoCommitter(InlineCommitter):
        def wake(self) -> None:
            app.fail(OSError(5, "Input/output error"))

    app.opened(app.engine, NoCommitter(app.engine.wal, app.release))
    client, served = trio.testing.memory_stream_pair()
    await client.send_all(b"KL.CREATE seats SCHEMA rank U32\r\nPING\r\n")
    with pytest.raises(StorageFailed, match="Input/output error"):
        await serve_stream(served, app)
    assert await client.receive_some() == b""
