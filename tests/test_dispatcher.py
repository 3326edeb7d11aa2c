"""From a name and its arguments to a reply: what the declarations are compiled to, and Redis's own texts."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from commands.registry import load
from commands.spec import Arg, Command, CommandError, Context, Flags, Reply, Status, command
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.insight.statistics import Statistics
from klani_resp.protocol.encoder import encode, ids
from klani_resp.sessions.compiler import arity_fits, compile_command
from klani_resp.sessions.dispatcher import SPELLINGS_MAX
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from storage.errors import StoreError
from tests.fake_disk import FakeDisk
from tests.store import FakeClock, open_store

COMMANDS = load()


@pytest.fixture
def session() -> Session:
    app = App(Config())
    engine, _ = open_store(FakeDisk(), clock=FakeClock())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    session = app.open_session(Transport("", ""))
    for table in (b"seats", b"rooms"):
        assert session.receive(b"KL.CREATE %b SCHEMA rank U32 INDEX\r\n" % table) == b"+OK\r\n"
    return session


def frame(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def one_line(session: Session, *words: bytes) -> str:
    reply = session.receive(frame(*words)).decode("utf-8", "surrogateescape")
    assert reply.endswith("\r\n")
    assert reply.count("\n") == 1
    return reply[:-2]


@pytest.mark.parametrize("name", [b"KL.COUNT", b"kl.count", b"Kl.CounT"])
def test_names_in_any_case(session: Session, name: bytes) -> None:
    assert one_line(session, name, b"seats", b"rank", b"1") == ":0"


def test_spellings_are_remembered_up_to_a_bound(session: Session) -> None:
    name = "unwatch"
    for number in range(1 << len(name)):
        spelling = "".join(c.upper() if number >> i & 1 else c for i, c in enumerate(name))
        assert one_line(session, spelling.encode()) == "+OK"
    table = session._dispatcher.tables[2]
    before = len(table)
    for number in range(50):
        one_line(session, b"nosuch%d" % number)
    assert before == len(table) <= SPELLINGS_MAX


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([b"foo"], "ERR unknown command 'foo', with args beginning with: "),
        ([b"foo", b"bar", b"baz"], "ERR unknown command 'foo', with args beginning with: 'bar' 'baz' "),
        ([b"GET", b"a\r\nb"], "ERR unknown command 'GET', with args beginning with: 'a  b' "),
        ([b"x" * 200], f"ERR unknown command '{'x' * 128}', with args beginning with: "),
        ([b"x", b"y" * 200, b"z"], f"ERR unknown command 'x', with args beginning with: '{'y' * 128}' "),
        ([b"KL.SEEK"], "ERR wrong number of arguments for 'kl.seek' command"),
        ([b"kl.tables", b"x"], "ERR wrong number of arguments for 'kl.tables' command"),
        ([b"PING", b"a", b"b"], "ERR wrong number of arguments for 'ping' command"),
        ([b"CLIENT"], "ERR wrong number of arguments for 'client' command"),
        ([b"client", b"foo"], "ERR unknown subcommand 'foo'. Try CLIENT HELP."),
        ([b"CLIENT", b"GETNAME", b"x"], "ERR wrong number of arguments for 'client|getname' command"),
        ([b"CONFIG", b"SET", b"port", b"1"], "ERR CONFIG SET failed (possibly related to argument 'port')"),
        ([b"AUTH", b"x"], "ERR AUTH <password> called without any password configured"),
        ([b"AUTH", b"x", b"y"], "WRONGPASS invalid username-password pair or user is disabled."),
        ([b"KL.SEEK", b"nope:1"], "ERR unknown table 'nope'"),
        ([b"KL.COUNT", b"nope", b"rank", b"1"], "ERR unknown table 'nope'"),
    ],
)
def test_texts(session: Session, words: list[bytes], text: str) -> None:
    assert one_line(session, *words).startswith("-" + text)


@pytest.mark.parametrize(
    "key",
    [b"42", b"0042", b"seats:42", b"{seats}:42", b"seats:" + b"0" * 30 + b"42", b"0" * 30 + b"42"],
)
def test_keys_of_the_same_row(session: Session, key: bytes) -> None:
    assert one_line(session, b"KL.INSERT", b"42", b"rank", b"7") == ":1"
    assert session.receive(frame(b"KL.SEEK", key)) == b"*2\r\n$4\r\nrank\r\n:7\r\n"
    assert session.receive(frame(b"KL.SEEK", b"rooms:42")) == b"$-1\r\n"


@pytest.mark.parametrize(
    "digits",
    [
        b"",
        b"1_0",
        b" 3",
        b"3 ",
        b"+3",
        b"-3",
        b"0x1",
        b"4294967296",
        b"0" * 33,
        b"9" * 5000,
        "\u0663".encode(),
    ],
)
@pytest.mark.parametrize("prefix", [b"", b"seats:"])
def test_what_is_no_row_id(session: Session, prefix: bytes, digits: bytes) -> None:
    assert one_line(session, b"KL.SEEK", prefix + digits).startswith("-ERR invalid row id '")


def test_the_largest_row_id(session: Session) -> None:
    assert one_line(session, b"KL.INSERT", b"4294967295", b"rank", b"7") == ":1"
    assert session.receive(frame(b"KL.INTERSECT", b"seats", b"rank", b"7")) == b"*1\r\n:4294967295\r\n"


def test_how_many_tables_there_can_be(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    create = (b"KL.CREATE", b"halls", b"SCHEMA", b"x", b"U8")
    engine = session._context.engine
    engine.next_table = 65_535
    assert one_line(session, *create) == "+OK"
    assert one_line(session, b"KL.DROP", b"halls") == ":1"
    assert one_line(session, *create) == "-ERR a store makes 65535 tables in its life: all are used up"
    monkeypatch.setattr("storage.engine.TABLES_MAX", len(engine.tables))
    assert one_line(session, *create) == "-ERR too many tables, at most 2"


FULL = "MISCONF Errors writing to the log: No space left on device. "


@pytest.fixture
def on_full_disk(session: Session) -> Session:
    assert one_line(session, b"KL.INSERT", b"1", b"rank", b"1") == ":1"
    session._context.engine.disk_full(OSError(errno.ENOSPC, ""))
    return session


LETTING_GO = {"KL.CONFIRM", "KL.RELEASE", "KL.UNLOCK"}


def test_a_full_disk_refuses_writes_only(on_full_disk: Session) -> None:
    writing = {name for name, spec in COMMANDS.items() if spec.flags & Flags.WRITE}
    assert {name for name in writing if not COMMANDS[name].wants_room} == LETTING_GO
    for name in writing - LETTING_GO:
        words = [b"seats:1"] * (abs(COMMANDS[name].arity) - 1)
        assert one_line(on_full_disk, name.encode(), *words).startswith(f"-{FULL}")
    assert one_line(on_full_disk, b"KL.UNLOCK", b"1", b"5") == ":0"
    assert one_line(on_full_disk, b"KL.COUNT", b"seats", b"rank", b"1") == ":1"
    assert one_line(on_full_disk, b"PING") == "+PONG"
    assert one_line(on_full_disk, b"KL.VERIFY", b"seats", b"rank", b"1").startswith(f"-{FULL}")
    assert b"state:readonly_full" in on_full_disk.receive(frame(b"INFO", b"persistence"))
    on_full_disk._context.engine.room_is_back()
    assert one_line(on_full_disk, b"KL.INSERT", b"2", b"rank", b"1") == ":1"


def test_a_full_disk_refuses_what_is_queued_and_spoils_it(on_full_disk: Session) -> None:
    assert one_line(on_full_disk, b"MULTI") == "+OK"
    assert one_line(on_full_disk, b"KL.UNLOCK", b"1", b"5") == "+QUEUED"
    assert one_line(on_full_disk, b"KL.INSERT", b"3", b"rank", b"1").startswith(f"-{FULL}")
    assert one_line(on_full_disk, b"EXEC") == ("-EXECABORT Transaction discarded because of previous errors.")
    assert one_line(on_full_disk, b"EXEC") == "-ERR EXEC without MULTI"


@pytest.mark.parametrize("word", [b"kl.insert", b"KL.UNLOCK"])
def test_a_disk_that_is_full_by_the_time_of_exec(session: Session, word: bytes) -> None:
    """All or nothing: with a write among them none is carried out, as in Redis."""
    more = (b"rank", b"1") if word == b"kl.insert" else (b"5",)
    one_line(session, b"MULTI")
    one_line(session, b"KL.UNLOCK", b"1", b"5")
    one_line(session, word, b"3", *more)
    session._context.engine.disk_full(OSError(errno.EDQUOT, ""))
    reply = session.receive(frame(b"EXEC")).decode()
    if word == b"kl.insert":
        assert reply.startswith(
            "-EXECABORT Transaction discarded because of: MISCONF Errors writing to the log: "
        )
    else:
        assert reply == "*2\r\n:0\r\n:0\r\n"


# --- what a declaration is compiled to --------------------------------------------------------------------


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Declares a command for one test, and runs it."""
    from commands import spec

    monkeypatch.setattr(spec, "REGISTERED", {})

    def run(session: Session, argv: list[bytes], protocol: int = 2, **declared: Any) -> bytes:
        handler = declared.pop("handler", lambda context, *values: list(values))
        command("X", summary="for a test", **declared)(handler)
        compiled = compile_command(spec.REGISTERED["X"], protocol, Statistics().of("X"))
        return compiled(session._context, argv)

    yield run


@pytest.mark.parametrize(
    ("argv", "reply"),
    [
        ([b"X", b"seats", b"5"], b"*2\r\n:5\r\n*0\r\n"),
        ([b"X", b"seats", b"007", b"a", b""], b"*2\r\n:7\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n"),
        ([b"X", b"seats", b"9223372036854775807"], b"*2\r\n:9223372036854775807\r\n*0\r\n"),
        (
            [b"X", b"seats", b"9223372036854775808"],
            b"-ERR value is not an integer or out of range: '9223372036854775808'\r\n",
        ),
        ([b"X", b"seats", b"1_0"], b"-ERR value is not an integer or out of range: '1_0'\r\n"),
        ([b"X", b"seats", b"-1"], b"-ERR value is not an integer or out of range: '-1'\r\n"),
        ([b"X", b"seats", b""], b"-ERR value is not an integer or out of range: ''\r\n"),
        ([b"X", b"Seats", b"1"], b"-ERR unknown table 'Seats'\r\n"),
        ([b"X", b"seats"], b"-ERR wrong number of arguments for 'x' command\r\n"),
    ],
)
def test_arguments_are_converted(session: Session, declare: Any, argv: list[bytes], reply: bytes) -> None:
    args = (("table", Arg.TABLE), ("number", Arg.INTEGER), ("rest", Arg.REST))
    assert declare(session, argv, args=args, handler=lambda _, table, number, rest: [number, rest]) == reply


@pytest.mark.parametrize(
    ("argv", "reply"),
    [
        ([b"X", b"seats"], b"*1\r\n$5\r\nseats\r\n"),
        ([b"X", b"seats", b"1"], b"*2\r\n$5\r\nseats\r\n:1\r\n"),
        ([b"X", b"seats", b"1", b"b"], b"*3\r\n$5\r\nseats\r\n:1\r\n$1\r\nb\r\n"),
        ([b"X", b"seats", b"1", b"b", b"c"], b"-ERR wrong number of arguments for 'x' command\r\n"),
        ([b"X"], b"-ERR wrong number of arguments for 'x' command\r\n"),
    ],
)
def test_arguments_may_be_absent(session: Session, declare: Any, argv: list[bytes], reply: bytes) -> None:
    args = (("name", Arg.BYTES), ("number", Arg.INTEGER), ("bytes", Arg.BYTES))
    assert declare(session, argv, args=args, optional=2) == reply


class Shape:
    template2 = b"*2\r\n$1\r\na\r\n:%d\r\n"
    template3 = b"%%1\r\n$1\r\na\r\n:%d\r\n"


@pytest.mark.parametrize(
    ("reply", "value", "resp2", "resp3"),
    [
        (Reply.STATUS, "OK", b"+OK\r\n", b"+OK\r\n"),
        (Reply.STATUS, "FINE", b"+FINE\r\n", b"+FINE\r\n"),
        (Reply.INTEGER, 2**53, b":9007199254740992\r\n", b":9007199254740992\r\n"),
        (Reply.INTEGER_OR_NULL, None, b"$-1\r\n", b"_\r\n"),
        (Reply.INTEGER_OR_NULL, 0, b":0\r\n", b":0\r\n"),
        (Reply.IDS, [], b"*0\r\n", b"*0\r\n"),
        (Reply.IDS, [1, 22], b"*2\r\n:1\r\n:22\r\n", b"*2\r\n:1\r\n:22\r\n"),
        (Reply.ROW, None, b"$-1\r\n", b"_\r\n"),
        (Reply.ROW, (Shape, (5,)), b"*2\r\n$1\r\na\r\n:5\r\n", b"%1\r\n$1\r\na\r\n:5\r\n"),
        (Reply.RAW_TEXT, "a:1\r\n", b"$5\r\na:1\r\n\r\n", b"=9\r\ntxt:a:1\r\n\r\n"),
        (Reply.ANY, {"a": None}, b"*2\r\n$1\r\na\r\n$-1\r\n", b"%1\r\n$1\r\na\r\n_\r\n"),
        (Reply.ANY, [True, Status("s"), b"\r\n"], b"*3\r\n:1\r\n+s\r\n$2\r\n\r\n\r\n", None),
        (Reply.ANY, [1.5], b"*1\r\n$3\r\n1.5\r\n", b"*1\r\n,1.5\r\n"),
    ],
)
def test_replies(
    session: Session, declare: Any, reply: Reply, value: object, resp2: bytes, resp3: bytes | None
) -> None:
    for protocol, expected in ((2, resp2), (3, resp3)):
        if expected is not None:
            assert declare(session, [b"X"], protocol, reply=reply, handler=lambda _: value) == expected


def test_long_lists_of_ids() -> None:
    for count in (64, 1024, 1025, 5000):
        assert ids(range(count)) == encode(list(range(count)), 2)


@pytest.mark.parametrize("kind", [CommandError, StoreError])
def test_a_refusal_s_text_cannot_leave_its_line(session: Session, declare: Any, kind: Any) -> None:
    def handler(context: Context) -> None:
        raise kind("ERR a\r\n+OK\r\nb")

    assert declare(session, [b"X"], handler=handler) == b"-ERR a  +OK  b\r\n"


def test_what_a_reply_depends_on(session: Session, declare: Any) -> None:
    engine = session._context.engine

    def refuse(context: Context) -> None:
        raise CommandError("ERR no")

    def position_after(**declared: Any) -> int:
        engine.seen = 0
        declare(session, [b"X"], **declared)
        return engine.seen

    assert position_after() == engine.appended
    assert position_after(flags=Flags.CONNECTION) == 0
    assert position_after(flags=Flags.NOTES_OWN_POSITION) == 0
    assert position_after(flags=Flags.NOTES_OWN_POSITION, handler=refuse) == engine.appended


# --- the declarations themselves --------------------------------------------------------------------------


@pytest.mark.parametrize("spec", COMMANDS.values(), ids=list(COMMANDS))
def test_each_declaration_is_whole(spec: Command) -> None:
    assert spec.name == spec.name.upper()
    assert spec.summary.endswith(".")
    assert spec.complexity
    assert bool(spec.syntax) == bool(spec.args) or spec.name == "QUIT"
    assert arity_fits(spec, abs(spec.arity))
    assert not arity_fits(spec, abs(spec.arity) - 1)
    assert not (spec.flags & Flags.WRITE and spec.flags & Flags.READONLY)


@pytest.mark.parametrize("protocol", [2, 3])
def test_command_introspection(session: Session, protocol: int) -> None:
    session.receive(b"HELLO %d\r\n" % protocol)
    assert one_line(session, b"COMMAND", b"COUNT") == f":{len(COMMANDS)}"
    assert session.receive(frame(b"COMMAND")).startswith(b"*%d\r\n*10\r\n" % len(COMMANDS))
    info = session.receive(frame(b"COMMAND", b"INFO", b"kl.seek", b"nope"))
    null = b"$-1\r\n" if protocol == 2 else b"_\r\n"
    assert info.startswith(
        b"*2\r\n*10\r\n$7\r\nkl.seek\r\n:-2\r\n%b2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
        % (b"*" if protocol == 2 else b"~")
    )
    assert info.endswith(null)
    docs = session.receive(frame(b"COMMAND", b"DOCS", b"KL.SEEK", b"nope"))
    assert docs.startswith(
        b"*2\r\n$7\r\nkl.seek\r\n*10\r\n" if protocol == 2 else b"%1\r\n$7\r\nkl.seek\r\n%5\r\n"
    )
    assert docs.count(b"\r\n+optional\r\n") == docs.count(b"\r\n+multiple\r\n") == 1
    assert session.receive(frame(b"COMMAND", b"GETKEYS", b"KL.SEEK", b"x:1", b"f")) == b"*1\r\n$3\r\nx:1\r\n"


@pytest.mark.parametrize(
    ("request_line", "keys"),
    [
        ("KL.TRYLOCK a:1", "a:1"),
        ("KL.TRYLOCK a:1 a:2 PX 5", "a:1 a:2"),
        ("kl.trylock a:1 a:2 a:3 owner PX px 5", "a:1 a:2 a:3"),
        ("KL.UNLOCK a:1 77", "a:1"),
        ("KL.UNLOCK a:1 a:2 77", "a:1 a:2"),
        ("KL.REPLACE a:1 77 x 1", "a:1"),
        ("KL.INSERT a:1 x a:2", "a:1"),
        ("WATCH a:1 a:2", "a:1 a:2"),
    ],
)
def test_getkeys_finds_every_key(session: Session, request_line: str, keys: str) -> None:
    asked = frame(b"COMMAND", b"GETKEYS", *request_line.encode().split())
    assert session.receive(asked) == frame(*keys.encode().split())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([b"KL.UNLOCK", b"a:1"], "ERR Invalid number of arguments specified for command"),
        ([b"KL.TABLES", b"x"], "ERR The command has no key arguments"),
        ([b"NOPE", b"x"], "ERR Invalid command specified"),
    ],
)
def test_getkeys_refuses(session: Session, words: list[bytes], text: str) -> None:
    assert one_line(session, b"COMMAND", b"GETKEYS", *words) == "-" + text


@pytest.mark.parametrize(
    ("name", "positions", "is_movable"),
    [
        (b"KL.SEEK", (1, 1, 1), False),
        (b"KL.TRYLOCK", (1, 1, 1), True),
        (b"KL.UNLOCK", (1, -2, 1), False),
        (b"KL.TABLES", (0, 0, 0), False),
    ],
)
def test_command_info_tells_where_keys_are(
    session: Session, name: bytes, positions: tuple[int, int, int], is_movable: bool
) -> None:
    info = session.receive(frame(b"COMMAND", b"INFO", name))
    assert b"\r\n:%d\r\n:%d\r\n:%d\r\n*" % positions in info
    assert (b"+movablekeys\r\n" in info) == is_movable
