"""SLOWLOG, LATENCY and MONITOR: who looks on sees what was done, and no password."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from commands.registry import load
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.net.tasks import serve_stream
from klani_resp.protocol.quoting import quoted
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Line, Transport
from storage.engine import EngineOptions
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.in_memory import new_app
from tests.store import open_store

if TYPE_CHECKING:
    from tests.conftest import Wire

OK = b"+OK\r\n"
SECRET = b"hunter2"


def asked(session: Session, *words: str | bytes | int) -> bytes:
    return session.receive(frame(*words))


def client(app: App) -> Session:
    return app.open_session(Transport("10.0.0.7:50000", "10.0.0.1:7700", 7))


# --- SLOWLOG ------------------------------------------------------------------------------------------


def test_slowlog_has_what_took_long_the_newest_first() -> None:
    app = new_app(slowlog_slower_than_us=0)
    session = client(app)
    asked(session, "CLIENT", "SETNAME", "till-4")
    asked(session, "ECHO", "a")
    asked(session, "ECHO", "b")
    entries = app.slowlog.entries(-1)
    assert [entry.words for entry in entries[:2]] == [[b"ECHO", b"b"], [b"ECHO", b"a"]]
    assert [entry.id for entry in entries] == [2, 1, 0]
    assert (entries[0].address, entries[0].client_name) == ("10.0.0.7:50000", b"till-4")
    assert asked(session, "SLOWLOG", "LEN") == b":3\r\n"
    assert asked(session, "SLOWLOG", "GET", 1).startswith(b"*1\r\n*6\r\n:3\r\n:")
    assert asked(session, "SLOWLOG", "RESET") == OK
    assert asked(session, "SLOWLOG", "LEN") == b":1\r\n", "RESET itself came after"


@pytest.mark.parametrize(
    ("slower_than", "most", "seen"), [(-1, 128, 0), (10_000_000, 128, 0), (0, 0, 0), (0, 2, 2)]
)
def test_slowlog_s_settings(slower_than: int, most: int, seen: int) -> None:
    app = new_app(slowlog_slower_than_us=slower_than, slowlog_entries_max=most)
    for _ in range(5):
        asked(client(app), "PING")
    assert len(app.slowlog) == seen
    assert app.dispatcher.statistics.of("PING").calls == 5


def test_slowlog_shortens_as_redis_does() -> None:
    app = new_app(slowlog_slower_than_us=0)
    asked(client(app), "WATCH", *range(40))
    words = app.slowlog.entries(1)[0].words
    assert (len(words), words[-1]) == (32, b"... (10 more arguments)")
    asked(client(app), "ECHO", "x" * 200)
    assert app.slowlog.entries(1)[0].words[1] == b"x" * 128 + b"... (72 more bytes)"


@pytest.mark.parametrize("count", ["-2", "x", "1.5", "", "00"])
def test_slowlog_get_of_no_count(count: str) -> None:
    text = b"-ERR count should be greater than or equal to -1\r\n"
    assert asked(client(new_app()), "SLOWLOG", "GET", count) == text


# --- LATENCY ------------------------------------------------------------------------------------------


def test_latency_of_events() -> None:
    app = new_app(latency_threshold_ms=1)
    session = client(app)
    ping, tables = app.dispatcher.statistics.of("PING"), app.dispatcher.statistics.of("KL.TABLES")
    ping.took(900_000, session._context, [b"PING"])
    assert asked(session, "LATENCY", "LATEST") == b"*0\r\n"
    ping.took(7_000_000, session._context, [b"PING"])
    ping.took(3_000_000, session._context, [b"PING"])
    tables.took(2_000_000, session._context, [b"KL.TABLES"])
    app.latency.synced(999_999)
    app.latency.synced(50_000_000)
    latest = {event.name: (event.most_ms, event.ms) for event in app.latency.latest()}
    assert latest["command"] == (2, 2)
    assert latest["aof-fsync-always"] == (50, 50)
    assert latest["fast-command"][0] == 7
    assert re.fullmatch(
        rb"\*1\r\n\*2\r\n:\d+\r\n:50\r\n", asked(session, "LATENCY", "HISTORY", "aof-fsync-always")
    )
    assert asked(session, "LATENCY", "HISTORY", "nope") == b"*0\r\n"
    assert b"aof-fsync-always: last 50 ms" in asked(session, "LATENCY", "DOCTOR")
    assert asked(session, "LATENCY", "RESET", "command", "nope") == b":1\r\n"
    assert asked(session, "LATENCY", "RESET") == b":2\r\n"


def test_latency_notes_nothing_unless_told() -> None:
    app = new_app()
    app.dispatcher.statistics.of("PING").took(10**10, client(app)._context, [b"PING"])
    app.latency.synced(10**10)
    assert app.latency.latest() == []


class SlowDisk(FakeDisk):
    """A sync of it takes 20 ms of the clock."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        super().__init__()
        self._clock = clock

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self._clock.jump(0.02)


@pytest.mark.parametrize(("threshold_ms", "is_noted"), [(20, True), (60_000, False), (0, False)])
async def test_latency_of_checkpoints(
    mock_clock: trio.testing.MockClock, threshold_ms: int, is_noted: bool
) -> None:
    app = App(Config(latency_threshold_ms=threshold_ms))
    app.access.configure()
    engine, _ = open_store(SlowDisk(mock_clock), EngineOptions(checkpoint_bytes=1))
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    session = client(app)
    session.receive(b"KL.CREATE seats SCHEMA rank U32\r\nKL.INSERT 1 rank 1\r\n")
    await app.checkpoint()
    assert engine.checkpoints == 1
    assert (b"checkpoint: last " in asked(session, "LATENCY", "DOCTOR")) is is_noted


def test_latency_histogram() -> None:
    app = new_app()
    session = client(app)
    for us in (1, 3, 700):
        app.dispatcher.statistics.of("ECHO").took(us * 1000, session._context, [b"ECHO"])
    reply = asked(session, "LATENCY", "HISTOGRAM", "echo", "kl.seek", "nope")
    assert reply.startswith(
        b"*2\r\n$4\r\necho\r\n*4\r\n$5\r\ncalls\r\n:3\r\n$14\r\nhistogram_usec\r\n"
        b"*6\r\n:1\r\n:1\r\n:4\r\n:2\r\n:1024\r\n:3\r\n"
    )


# --- MONITOR ------------------------------------------------------------------------------------------


@pytest.fixture
def seen() -> list[bytes]:
    return []


def monitor(app: App, seen: list[bytes]) -> Session:
    session = client(app)
    session.line = Line(deliver=seen.append)
    assert asked(session, "MONITOR") == OK
    return session


def test_monitor_sees_everybody_s_commands(seen: list[bytes]) -> None:
    app = new_app()
    monitor(app, seen)
    asked(client(app), "ECHO", b'a "b"\x00\n')
    asked(client(app), "MULTI")
    asked(client(app), "NOSUCH", "a")
    assert len(seen) == 2, "what was not carried out is not seen"
    assert re.fullmatch(rb'\+\d+\.\d{6} \[0 10\.0\.0\.7:50000\] "ECHO" "a \\"b\\"\\x00\\n"\r\n', seen[0])


@pytest.mark.parametrize("end", ["RESET", "gone"])
def test_monitor_ends(seen: list[bytes], end: str) -> None:
    app = new_app()
    session = monitor(app, seen)
    if end == "gone":
        app.close_session(session)
    else:
        asked(session, end)
    seen.clear()
    asked(client(app), "PING")
    assert seen == []
    assert len(app.dispatcher.statistics.of("PING").fine) > 0, "and costs nothing any more"


def test_who_is_gone_begins_to_monitor_no_more(seen: list[bytes]) -> None:
    """Its request came in the turn in which it was killed: it was kept for good, and every command paid."""
    app = new_app()
    killed = client(app)
    app.close_session(killed)
    assert killed.execute([[b"MONITOR"]]) == b""
    asked(client(app), "PING")
    assert len(app.dispatcher.statistics.of("PING").fine) > 0


SECRETS: list[tuple[str | bytes, ...]] = [
    ("AUTH", SECRET),
    ("AUTH", "ann", SECRET),
    ("HELLO", "3", "AUTH", "ann", SECRET),
    ("ACL", "SETUSER", "ann", b">" + SECRET),
    ("ACL", "SETUSR", "ann", b">" + SECRET),
    ("CONFIG", "SET", "requirepass", SECRET),
    ("config", "ste", "requirepass", SECRET),
]


@pytest.mark.parametrize("words", SECRETS, ids=lambda words: " ".join(map(str, words[:2])))
def test_nobody_sees_a_password(seen: list[bytes], words: tuple[str | bytes, ...]) -> None:
    app = new_app(slowlog_slower_than_us=0)
    monitor(app, seen)
    asked(client(app), *words)
    assert SECRET not in b"".join(seen)
    assert SECRET not in repr(app.slowlog.entries(-1)).encode()


MONITORED = [
    ("PING|ECHO a", b'+PONG|+"PING"|$1|a|+"ECHO" "a"|'),
    ("CLIENT REPLY SKIP|ECHO a|ECHO b", b'+"CLIENT" "REPLY" "SKIP"|$1|b|+"ECHO" "b"|'),
    ("CLIENT REPLY OFF|ECHO a|CLIENT REPLY ON", b'+OK|+"CLIENT" "REPLY" "ON"|'),
    ("RESET|PING", b"+RESET|+PONG|"),
    # Redis has these lines inside of EXEC's array, where no client could tell them from its parts.
    ("MULTI|ECHO a|EXEC", b'+OK|+"MULTI"|+QUEUED|*1|$1|a|+"ECHO" "a"|+"EXEC"|'),
]


def _shown(data: bytes) -> bytes:
    return re.sub(rb"\+\d+\.\d+ \[0 [^]]+\] ", b"+", data).replace(b"\r\n", b"|")


@pytest.mark.parametrize(("requests", "replies"), MONITORED)
def test_a_monitor_s_own_commands_are_answered_first(requests: str, replies: bytes) -> None:
    """As in Redis: its line stands behind the command's reply, in one packet or several."""
    lines = [line.encode() + b"\r\n" for line in ("MONITOR", *requests.split("|"))]
    assert _shown(client(new_app()).receive(b"".join(lines))) == b"+OK|" + replies
    session = client(new_app())
    assert _shown(b"".join(map(session.receive, lines))) == b"+OK|" + replies


def test_a_monitor_s_own_long_work_is_answered_first(wire: Callable[..., Wire], client: Any) -> None:
    client.execute_command("KL.CREATE", "seats", "SCHEMA", "rank", "U8", "INDEX")
    watching = wire()
    assert watching.ask("MONITOR") == OK
    watching.send("KL.HISTORY", "seats:1")
    seen, _ = watching.until(b'"KL.HISTORY" "seats:1"\r\n')
    assert _shown(seen) == b'*0|+"KL.HISTORY" "seats:1"|'


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("HELLO 3", "HELLO 3"),
        ("HELLO 3 SETNAME till-4", "HELLO 3 SETNAME till-4"),
        ("HELLO 3 auth ann pw SETNAME x", "HELLO 3 auth * * SETNAME x"),
        ("HELLO 3 SETNAME AUTH AUTH ann pw", "HELLO 3 SETNAME AUTH AUTH * *"),
        ("HELLO 3 AUHT ann pw", "HELLO 3 AUHT * *"),
        ("AUTH ann pw", "AUTH * *"),
        ("CONFIG SET maxclients 50 timeout 3", "CONFIG SET maxclients 50 timeout 3"),
        (
            "CONFIG SET timeout 3 RequirePass pw maxclients 50",
            "CONFIG SET timeout 3 RequirePass * maxclients 50",
        ),
        ("CONFIG SET masterauth pw", "CONFIG SET masterauth *"),
        ("CONFIG SET requirepass p w", "CONFIG SET * * *"),
        ("CONFIG SET maxclients", "CONFIG SET maxclients"),
        ("CONFIG GET requirepass", "CONFIG GET requirepass"),
        ("ACL SETUSER ann >pw", "ACL SETUSER * *"),
    ],
)
def test_nothing_but_secrets_is_hidden(words: str, shown: str) -> None:
    """As in Redis, whose SLOWLOG an operator reads to see what was set."""
    name, *rest = words.split()
    told = load()[name].shown([name.encode(), *(word.encode() for word in rest)])
    assert b" ".join(told).decode() == shown.replace("*", "(redacted)")


def test_monitor_over_sockets(wire: Callable[..., Wire], client: Any) -> None:
    watching = wire()
    assert watching.ask("MONITOR") == OK
    client.execute_command("ECHO", "hello")
    watching.until(b'"ECHO" "hello"\r\n')
    other = wire()
    other.send("PING")
    other.expect(b"+PONG\r\n")
    watching.until(b'"PING"\r\n')


def test_monitor_leaves_out_what_operators_do(seen: list[bytes]) -> None:
    app = new_app()
    monitor(app, seen)
    other = client(app)
    for words in ("CLIENT LIST", "CLIENT KILL ID 999", "ACL SETUSER ann on", "CONFIG GET port"):
        asked(other, *words.split())
    assert seen == []
    asked(other, "CLIENT", "GETNAME")
    asked(other, "CLIENT", "nope")
    assert [line.partition(b"] ")[2] for line in seen] == [
        b'"CLIENT" "GETNAME"\r\n',
        b'"CLIENT" "nope"\r\n',
    ]


async def test_monitor_on_the_task_road() -> None:
    """As with TLS: lines of others' commands, in their order, and replies are whole between them."""
    app = new_app()
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, theirs, app)
        await ours.send_all(frame("MONITOR"))
        assert await ours.receive_some() == OK
        other = client(app)
        for i in range(100):
            asked(other, "ECHO", i)
        data = b""
        while data.count(b"\r\n") < 100:
            data += await ours.receive_some()
        assert re.findall(rb'"ECHO" "(\d+)"', data) == [b"%d" % i for i in range(100)]
        await ours.aclose()


async def test_a_monitor_that_does_not_read_is_cut_off() -> None:
    app = new_app(output_bytes_max=10_000)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, theirs, app)
        await ours.send_all(frame("MONITOR"))
        assert await ours.receive_some() == OK
        other = client(app)
        for _ in range(1000):
            asked(other, "ECHO", "x" * 50)
        await trio.testing.wait_all_tasks_blocked()
        assert list(app.sessions.values()) == [other]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b'"\\', b'"\\"\\\\"'),
        (b"\r\n\t\a\b\x01\xff", b'"\\r\\n\\t\\a\\b\\x01\\xff"'),
    ],
)
def test_quoting(text: bytes, shown: bytes) -> None:
    assert quoted(text) == shown
