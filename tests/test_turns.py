"""A session's turns: how long they are, what comes behind jobs and bugs, and how a connection ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from commands.spec import CommandError, Context, Job
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.protocol.parser import ParserLimits, Request, RequestParser
from klani_resp.sessions.session import Session
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.in_memory import SCHEMA, new_app, new_session, talk
from tests.store import open_store


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


def test_few_long_commands_are_no_short_pipeline() -> None:
    """Sixteen of them were a turn, however long each took: 16 LATENCY HISTOGRAM kept everybody waiting for
    0.4 s."""
    app = App(Config())
    engine, _ = open_store(FakeDisk(), clock=count(0, 2_000_000).__next__)
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    session = new_session(app)
    long = frame("COMMAND", "DOCS")
    one = session.receive(long)
    replies = [session.receive(long * 10)]
    while session.more:
        replies.append(session.receive(b""))
    assert replies == [one] * 10
