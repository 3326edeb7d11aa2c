"""A session without sockets: requests as lines typed in (`>`), replies as they are on the wire (`<`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing

from commands.spec import CommandError, Context, Job
from klani_resp.app import App, StorageFailed
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.net.tasks import serve_stream
from klani_resp.protocol.parser import ParserLimits, Request, RequestParser
from klani_resp.sessions.session import Session
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.in_memory import new_app, new_session
from tests.store import open_store

SCHEMA = "> KL.CREATE seats SCHEMA rank U32 INDEX sold U8 INDEX\n< +OK\n"


@pytest.fixture
def app() -> App:
    return new_app()


@pytest.fixture
def session(app: App) -> Session:
    return new_session(app)


def talk(session: Session, script: str) -> None:
    """Plays a script: each run of requests goes in as one chunk, what comes back is compared whole."""
    asked, expected = "", ""
    for line in [*script.strip("\n").splitlines(), "> "]:
        line = line.lstrip()
        mark, text = line[:1], line[2:]
        if mark == "<":
            expected += text + "\r\n"
            continue
        if expected:
            assert session.receive(asked.encode()).decode() == expected, f"to {asked!r}"
            asked = expected = ""
        asked += text + "\r\n"


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


# --- turns, jobs, ends ------------------------------------------------------------------------------------


def test_a_turn_is_bounded_and_order_is_kept() -> None:
    session = new_session(new_app(turn_commands_max=3))
    numbers = [b"%d" % number for number in range(8)]
    replies = [session.receive(b"".join(b"ECHO %b\r\n" % number for number in numbers))]
    while session.more:
        replies.append(session.receive(b""))
    assert [part.count(b"$") for part in replies] == [3, 3, 2]
    assert b"".join(replies) == b"".join(b"$1\r\n%b\r\n" % number for number in numbers)


def test_large_replies_end_a_turn() -> None:
    session = new_session(new_app(turn_reply_bytes_max=100))
    assert len(session.receive(b"ECHO %b\r\nPING\r\n" % (b"x" * 200))) > 200
    assert session.more
    assert (session.receive(b""), session.more) == (b"+PONG\r\n", False)


Answer = Callable[[object], Any]


@pytest.fixture
def job_command(app: App) -> Callable[[Answer], None]:
    """Makes `KL.TABLES` of RESP2 a job that ends as told."""

    def make(finish: Answer) -> None:
        table = app.dispatcher.tables[2]
        usual = table[b"KL.TABLES"]

        def run(context: Context, argv: list[bytes]) -> bytes:
            assert isinstance(context.client, Session)
            return context.client.suspend(Job(run=lambda: None, finish=finish), usual, argv)

        table[b"KL.TABLES"] = run

    return make


def test_nothing_overtakes_a_job(session: Session, job_command: Callable[[Answer], None]) -> None:
    job_command(lambda outcome: [outcome])
    assert session.receive(b"PING\r\nKL.TABLES\r\nECHO a\r\nKL.TABLES\r\n") == b"+PONG\r\n"
    assert (session.job is None, session.more) == (False, False)
    assert session.receive(b"ECHO b\r\n*x\r\n") == b"", "not while the job runs"
    assert session.finish_job("done") == b"*1\r\n$4\r\ndone\r\n"
    assert (session.job is None, session.more) == (True, True)
    assert session.receive(b"") == b"$1\r\na\r\n"
    assert session.finish_job(CommandError("ERR no luck")) == b"-ERR no luck\r\n"
    assert session.receive(b"") == b"$1\r\nb\r\n-ERR Protocol error: invalid multibulk length\r\n"
    assert session.closing


def test_a_job_inside_exec_is_refused(session: Session, job_command: Callable[[Answer], None]) -> None:
    job_command(lambda outcome: outcome)
    talk(
        session,
        """
        > MULTI
        > KL.TABLES
        > PING
        > EXEC
        < +OK
        < +QUEUED
        < +QUEUED
        < *2
        < -ERR Command not allowed inside a transaction
        < +PONG
        """,
    )


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in EXEC"])
def test_a_bug_ends_its_connection_only(
    app: App, session: Session, caplog: pytest.LogCaptureFixture, inside: bool
) -> None:
    def run(context: Context, argv: list[bytes]) -> bytes:
        raise ZeroDivisionError

    app.dispatcher.tables[2][b"ECHO"] = run
    if inside:
        session.receive(b"MULTI\r\nECHO a\r\nPING\r\n")
        expected = b"*2\r\n-ERR internal error\r\n+PONG\r\n"
        assert session.receive(b"EXEC\r\nPING\r\n") == expected
    else:
        assert session.receive(b"PING\r\nECHO a\r\nPING\r\n") == b"+PONG\r\n-ERR internal error\r\n"
    assert session.closing
    assert session.receive(b"PING\r\n") == b""
    assert "ZeroDivisionError" in caplog.text
    talk(new_session(app), SCHEMA + "> PING\n< +PONG")


def test_bugs_do_not_fill_the_log(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def run(context: Context, argv: list[bytes]) -> bytes:
        raise ZeroDivisionError

    app.dispatcher.tables[2][b"ECHO"] = run
    for _ in range(50):
        assert new_session(app).receive(b"ECHO a\r\n") == b"-ERR internal error\r\n"
    (record,) = caplog.records
    assert record.getMessage() == "bug in b'ECHO' of client 1: its connection is closed"
    assert record.exc_info is not None


class BrokenParser(RequestParser):
    """Finds a bug in itself: at the word `bug`, with bytes of this client left in the reader of all."""

    def feed(self, data: bytes) -> list[Request]:
        if b"bug" in data:
            self._reader.feed(b"*1\r\n$4\r\nQUIT\r\n")
            raise ZeroDivisionError
        return super().feed(data)


def test_a_bug_of_the_parser_ends_its_connection_only(
    app: App,
    session: Session,
    job_command: Callable[[Answer], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_command(lambda outcome: [outcome])
    session._parser = BrokenParser(ParserLimits())
    assert session.receive(b"PING\r\nKL.TABLES\r\nECHO a\r\n") == b"+PONG\r\n"
    assert session.receive(b"ECHO bug\r\n") == b"", "in its turn"
    assert session.finish_job("done") == b"*1\r\n$4\r\ndone\r\n"
    assert session.receive(b"") == b"$1\r\na\r\n-ERR internal error\r\n"
    assert session.closing
    assert session.receive(b"PING\r\n") == b""
    assert "ZeroDivisionError" in caplog.text
    other = new_session(app)
    pings = b"*1\r\n$4\r\nPING\r\n" * 20
    assert other.receive(pings) == b"+PONG\r\n" * 20, "not what the other left behind"
    assert not other.closing


def test_a_bug_in_a_job_s_end_does_too(session: Session, job_command: Callable[[Answer], None]) -> None:
    job_command(lambda outcome: 1 // 0)
    session.receive(b"KL.TABLES\r\nPING\r\n")
    assert session.finish_job(None) == b"-ERR internal error\r\n"
    assert session.closing
    assert not session.more


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"PING\r\nQUIT\r\nPING\r\n", b"+PONG\r\n+OK\r\n"),
        (b"MULTI\r\nQUIT\r\n", b"+OK\r\n+OK\r\n"),
        (b"PING\r\n*1\r\n:1\r\nPING\r\n", b"+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"POST / HTTP/1.1\r\nHost: here\r\nKL.DROP seats\r\n", b""),
        (b"Host: here\r\nPING\r\n", b""),
        (b"MULTI\r\nPOST / HTTP/1.1\r\nHost: here\r\nEXEC\r\n", b"+OK\r\n"),
        (b"MULTI\r\nHost: here\r\nPING\r\n", b"+OK\r\n"),
        (b"MULTI\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"+OK\r\n"),
    ],
)
def test_what_ends_a_connection(session: Session, sent: bytes, reply: bytes) -> None:
    assert session.receive(sent) == reply
    assert session.closing


@pytest.mark.parametrize("end", ["killed", "gone"])
def test_who_was_cut_off_executes_nothing_more(app: App, session: Session, end: str) -> None:
    """What it had sent may have come in the same turn of the loop, and be parsed already."""
    other, waiting = new_session(app), new_session(app)
    talk(session, SCHEMA)
    waiting.receive(b"PING\r\n" * (Config().turn_commands_max + 1) + b"KL.INSERT 3 rank 1\r\n")
    assert waiting.more
    if end == "killed":
        talk(session, f"> CLIENT KILL ID {other.id}\n> CLIENT KILL ID {waiting.id}\n< :1\n< :1")
    else:
        app.close_session(other)
        app.close_session(waiting)
    assert other.execute([[b"KL.INSERT", b"1", b"rank", b"1"]]) == b""
    assert other.receive(b"KL.INSERT 2 rank 1\r\nMONITOR\r\n") == b""
    assert waiting.receive(b"") == b""
    talk(session, "> KL.COUNT seats rank 1\n< :0")
    assert not other.is_monitor


def test_while_loading(caplog: pytest.LogCaptureFixture) -> None:
    app = App(Config())
    session = new_session(app)
    loading = "< -LOADING Redis is loading the dataset in memory"
    talk(session, f"> PING\n> KL.SEEK 1\n> MULTI\n> FOO\n{loading}\n{loading}\n{loading}\n{_UNKNOWN_FOO}")
    talk(session, "> CLIENT ID\n< :1")
    assert session.receive(b"HELLO\r\n").startswith(b"*14\r\n")
    assert b"loading:1\r\n" in session.receive(b"INFO persistence\r\n")
    engine, _ = open_store(FakeDisk())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    talk(session, "> PING\n< +PONG")
    assert b"loading:0\r\n" in session.receive(b"INFO persistence\r\n")


_UNKNOWN_FOO = "< -ERR unknown command 'FOO', with args beginning with: "


def test_a_turn_is_bounded_by_the_bytes_of_all_its_replies(session: Session) -> None:
    """200 pipelined KL.SCAN of 100 KiB each were one turn of 0.8 s, in which nobody else was served."""
    one = b"x" * 8000
    echoed = b"$8000\r\n" + one + b"\r\n"
    replies = [session.receive(frame("ECHO", one) * 500)]
    while session.more:
        replies.append(session.receive(b""))
    assert b"".join(replies) == echoed * 500
    assert max(map(len, replies)) <= Config().turn_reply_bytes_max + len(echoed)


def test_a_turn_is_bounded_by_its_time() -> None:
    """Each look at the clock finds that two milliseconds have passed."""
    app = App(Config())
    engine, _ = open_store(FakeDisk(), clock=count(0, 2_000_000).__next__)
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    session = new_session(app)
    replies = [session.receive(frame("PING") * 1000)]
    while session.more:
        replies.append(session.receive(b""))
    assert b"".join(replies) == b"+PONG\r\n" * 1000
    assert max(map(len, replies)) < len(b"+PONG\r\n") * 1000 / 2
