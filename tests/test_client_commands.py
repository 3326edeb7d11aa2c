"""CLIENT REPLY, KILL and LIST; INFO's sections about commands; CONFIG RESETSTAT."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from klani_resp.app import App
from klani_resp.config import Config
from klani_resp.sessions.session import Session
from klani_resp.sessions.transaction import ARGUMENT_BYTES, WATCHED_BYTES
from klani_resp.sessions.transport import Line, Transport
from tests.conftest import frame
from tests.in_memory import new_app, new_session

if TYPE_CHECKING:
    from tests.conftest import Wire

OK = b"+OK\r\n"
FIELDS_74 = [
    "id",
    "addr",
    "laddr",
    "fd",
    "name",
    "age",
    "idle",
    "flags",
    "db",
    "sub",
    "psub",
    "ssub",
    "multi",
    "watch",
    "qbuf",
    "qbuf-free",
    "argv-mem",
    "multi-mem",
    "rbs",
    "rbp",
    "obl",
    "oll",
    "omem",
    "tot-mem",
    "events",
    "cmd",
    "user",
    "redir",
    "resp",
    "lib-name",
    "lib-ver",
]


@pytest.fixture
def session() -> Session:
    return new_session(new_app())


# --- CLIENT REPLY -------------------------------------------------------------------------------------


def test_off_and_on(session: Session) -> None:
    assert session.receive(b"CLIENT REPLY OFF\r\n") == b""
    assert session.receive(b"ECHO a\r\nNOSUCH\r\nECHO b\r\n") == b""
    assert session.receive(b"CLIENT REPLY ON\r\nECHO c\r\n") == OK + b"$1\r\nc\r\n"


def test_skip_is_for_one(session: Session) -> None:
    assert session.receive(b"CLIENT REPLY SKIP\r\nECHO a\r\nECHO b\r\n") == b"$1\r\nb\r\n"
    assert session.receive(b"CLIENT REPLY SKIP\r\n") == b""
    assert session.receive(b"NOSUCH\r\n") == b""
    assert session.receive(b"PING\r\n") == b"+PONG\r\n"


@pytest.mark.parametrize(
    ("requests", "replies"),
    [  # each as redis-server 7.0.15 answered
        ("CLIENT REPLY SKIP|CLIENT REPLY SKIP|PING|ECHO a", b"$1\r\na\r\n"),
        ("CLIENT REPLY SKIP|CLIENT REPLY SKIP|CLIENT REPLY SKIP|PING|ECHO a", b"$1\r\na\r\n"),
        ("CLIENT REPLY SKIP|CLIENT REPLY ON|PING", OK + b"+PONG\r\n"),
        ("CLIENT REPLY SKIP|CLIENT REPLY MAYBE|PING", b"+PONG\r\n"),
        ("CLIENT REPLY SKIP|CLIENT REPLY OFF|PING|CLIENT REPLY ON", OK),
        ("CLIENT REPLY OFF|CLIENT REPLY SKIP|PING|PING|CLIENT REPLY ON|PING", OK + b"+PONG\r\n"),
    ],
)
@pytest.mark.parametrize("is_pipelined", [True, False])
def test_skip_among_its_like(session: Session, requests: str, replies: bytes, is_pipelined: bool) -> None:
    lines = [line.encode() + b"\r\n" for line in requests.split("|")]
    packets = [b"".join(lines)] if is_pipelined else lines
    assert b"".join(map(session.receive, packets)) == replies


def test_skip_of_a_whole_exec(session: Session) -> None:
    session.receive(b"MULTI\r\nECHO a\r\nECHO b\r\n")
    assert session.receive(b"CLIENT REPLY SKIP\r\n") == b"+QUEUED\r\n", "it is queued as others are"
    session.receive(b"DISCARD\r\n")
    assert session.receive(b"CLIENT REPLY SKIP\r\nMULTI\r\nECHO a\r\n") == b"+QUEUED\r\n"
    assert session.receive(b"EXEC\r\n") == b"*1\r\n$1\r\na\r\n"
    session.receive(b"CLIENT REPLY OFF\r\nMULTI\r\nECHO a\r\nEXEC\r\n")
    assert session.receive(b"CLIENT REPLY ON\r\n") == OK


def test_what_is_not_answered_is_done(session: Session) -> None:
    session.receive(
        b"KL.CREATE seats SCHEMA x U8 INDEX\r\nCLIENT REPLY OFF\r\nKL.INSERT 1 x 5\r\nCLIENT REPLY ON\r\n"
    )
    assert session.receive(b"KL.COUNT seats x 5\r\n") == b":1\r\n"


def test_reset_ends_it(session: Session) -> None:
    assert session.receive(b"CLIENT REPLY OFF\r\nRESET\r\nPING\r\n") == b"+RESET\r\n+PONG\r\n"


@pytest.mark.parametrize("words", ["", "MAYBE", "ON OFF"])
def test_no_such_reply(session: Session, words: str) -> None:
    assert session.receive(f"CLIENT REPLY {words}\r\n".encode()).startswith(b"-ERR")
    assert session.receive(b"PING\r\n") == b"+PONG\r\n"


def test_a_job_is_not_answered_either(wire: Callable[..., Wire], client: Any) -> None:
    client.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U8", "INDEX")
    one = wire()
    one.send("CLIENT", "REPLY", "SKIP")
    one.send("KL.VERIFY", "seats", "x", 1)
    assert one.ask("PING") == b"+PONG\r\n"


# --- CLIENT KILL, LIST --------------------------------------------------------------------------------


def hall() -> tuple[App, list[Session], list[int]]:
    """Four clients; the ids of those that are cut off come into the list."""
    app, ended = new_app(), list[int]()
    sessions = []
    for number in range(4):
        session = app.open_session(Transport(f"10.0.0.{number}:5000", "10.9.9.9:7700"))
        session.line = Line(end=partial(ended.append, session.id))
        sessions.append(session)
    return app, sessions, ended


@pytest.mark.parametrize(
    ("words", "reply", "gone"),
    [
        ("10.0.0.2:5000", OK, [3]),
        ("ID 2", b":1\r\n", [2]),
        ("ID 99", b":0\r\n", []),
        ("ADDR 10.0.0.1:5000", b":1\r\n", [2]),
        ("LADDR 10.9.9.9:7700", b":3\r\n", [2, 3, 4]),
        ("TYPE normal", b":3\r\n", [2, 3, 4]),
        ("type REPLICA", b":0\r\n", []),
        ("USER default", b":3\r\n", [2, 3, 4]),
        ("LADDR 10.9.9.9:7700 ID 3", b":1\r\n", [3]),
        ("ID 1", b":0\r\n", []),
        ("MAXAGE 1000", b":0\r\n", []),
    ],
)
def test_kill(words: str, reply: bytes, gone: list[int]) -> None:
    _, sessions, ended = hall()
    assert sessions[0].receive(f"CLIENT KILL {words}\r\n".encode()) == reply
    assert ended == gone
    assert not sessions[0].closing


@pytest.mark.parametrize("words", ["ID 1 SKIPME no", "SKIPME no ADDR 10.0.0.0:5000", "10.0.0.0:5000"])
def test_who_kills_itself_is_answered(words: str) -> None:
    _, sessions, ended = hall()
    assert sessions[0].receive(f"CLIENT KILL {words}\r\n".encode()) in (b":1\r\n", OK)
    assert sessions[0].closing
    assert ended == []


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("10.0.0.9:1", "ERR No such client"),
        ("ID 0", "ERR client-id should be greater than 0"),
        ("ID x", "ERR client-id should be greater than 0"),
        ("TYPE x", "ERR Unknown client type 'x'"),
        ("USER x", "ERR No such user 'x'"),
        ("SKIPME maybe", "ERR syntax error"),
        ("ID 1 ADDR", "ERR syntax error"),
        ("NAME x", "ERR syntax error"),
        ("MAXAGE 0", "ERR maxage is not an integer or out of range"),
    ],
)
def test_kill_of_nobody(words: str, reply: str) -> None:
    _, sessions, ended = hall()
    assert sessions[0].receive(f"CLIENT KILL {words}\r\n".encode()) == f"-{reply}\r\n".encode()
    assert ended == []


def test_list_has_redis_s_fields(session: Session) -> None:
    session.receive(b"CLIENT SETNAME till\r\nWATCH 1\r\nMULTI\r\nPING\r\n")
    line = session.describe()
    names = [part.partition("=")[0] for part in line.split()]
    assert names[: len(FIELDS_74)] == FIELDS_74
    facts = dict(part.split("=") for part in line.split())
    assert (facts["name"], facts["flags"], facts["multi"], facts["watch"]) == ("till", "x", "1", "1")
    memory = 4 + ARGUMENT_BYTES + WATCHED_BYTES
    assert (facts["cmd"], int(facts["multi-mem"]), int(facts["tot-mem"])) == ("ping", memory, memory)


def test_list_tells_the_last_command_and_what_waits(session: Session) -> None:
    assert "cmd=NULL" in session.describe()
    session.receive(b"ECHO a\r\nPING\r\nEC")
    assert "cmd=ping" in session.describe()
    assert "qbuf=2 " in session.describe()


NAMED = [("CLIENT", "SETNAME"), ("CLIENT", "SETINFO", "LIB-NAME"), ("CLIENT", "SETINFO", "LIB-VER")]


@pytest.mark.parametrize("words", [*NAMED, ("HELLO", "2", "SETNAME")])
def test_a_name_has_a_length(session: Session, words: tuple[str, ...]) -> None:
    assert not session.receive(frame(*words, "x" * 1024)).startswith(b"-")
    what = {"LIB-NAME": "lib-name", "LIB-VER": "lib-ver"}.get(words[-1], "Client names")
    for length in (1025, 1_000_000):
        refusal = session.receive(frame(*words, "x" * length)).decode()
        assert refusal == f"-ERR {what} cannot have more than 1024 bytes.\r\n"
    for name in ("a b", "a\n", "\x7f", "é"):
        assert b" cannot contain spaces" in session.receive(frame(*words, name))


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"PiNg\r\n", "ping"),
        (b"PING\r\nKL.TABLES\r\n", "kl.tables"),
        (b"client list\r\n", "client|list"),
        (b"CONFIG HELP\r\n", "config|help"),
        (b"CONFIG\r\n", "config"),
        (b"CLIENT ID\r\nCLIENT NOPE\r\n", "NULL"),
        (b"CLIENT ID\r\nPING\r\n", "ping"),
        (b"CLIENT ID\r\nNOPE\r\n", "NULL"),
        (frame("x\nid=1 addr=1.2.3.4:5 user=admin"), "NULL"),
        (frame("CONFIG", "get\nid=1"), "NULL"),
        (b"MULTI\r\nCOMMAND COUNT\r\n", "command|count"),
        (b"MULTI\r\nECHO a\r\n", "echo"),
        (b"PING a b c\r\n", "ping"),
        (b"CLIENT REPLY OFF\r\nECHO a\r\n", "echo"),
        (b"CLIENT REPLY OFF\r\nCLIENT ID\r\n", "client|id"),
    ],
)
def test_list_shows_the_registered_name_and_nothing_that_was_sent(
    session: Session, sent: bytes, shown: str
) -> None:
    session.receive(sent)
    assert re.findall(r" cmd=(\S+) user=default ", session.describe()) == [shown]


@pytest.mark.parametrize(
    ("words", "shown"),
    [(("CONFIG", "GET", "x"), "config|get"), (("KL.DROP", "x"), "kl.drop"), (("a b\nc",), "NULL")],
)
def test_so_it_is_for_whoever_may_not(words: tuple[str, ...], shown: str) -> None:
    app = new_app(requirepass="pw", users=("ann on >pw +ping +acl|log",))
    session = new_session(app)
    for login in (b"PING\r\n", b"AUTH ann pw\r\n"):
        session.receive(login)
        session.receive(frame(*words))
        assert f" cmd={shown} " in session.describe()
    if shown != "NULL":
        assert f" cmd={shown} ".encode() in session.receive(b"ACL LOG\r\n")


def test_so_it_is_while_the_store_loads() -> None:
    session = App(Config()).open_session(Transport("", ""))
    assert session.receive(b"KL.TABLES\r\n").startswith(b"-LOADING")
    assert " cmd=kl.tables " in session.describe()


def test_a_session_keeps_no_name_that_was_sent(session: Session) -> None:
    tracemalloc.start()
    try:
        for _ in range(10):
            session.receive(frame(b"x" * 1_000_000))
            session.receive(frame(b"CONFIG", b"x" * 1_000_000))
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_kill_over_sockets(wire: Callable[..., Wire], client: Any) -> None:
    one = wire()
    number = int(one.ask("CLIENT", "ID")[1:-2])
    assert client.client_kill_filter(_id=number) == 1
    assert one.socket.recv(10) == b""
    mine = client.client_id()
    assert [entry["id"] for entry in client.client_list() if entry["id"] == str(mine)] == [str(mine)]


# --- INFO, CONFIG RESETSTAT ---------------------------------------------------------------------------


def test_info_has_what_monitoring_asks_for() -> None:
    app = new_app(config_file="klani-resp.toml")
    shown = new_session(app).receive(b"INFO everything\r\n").decode()
    facts = dict(line.split(":", 1) for line in shown.splitlines()[1:] if ":" in line)
    assert facts["config_file"] == str(Path("klani-resp.toml").resolve())
    assert Path(facts["executable"]).is_absolute()
    assert facts["process_supervised"] == "no"
    assert facts["maxmemory_human"] == "0B"
    assert int(facts["total_system_memory"]) > int(facts["used_memory_peak"]) >= int(facts["used_memory"])
    assert re.fullmatch(r"\d+\.\d\dG", facts["total_system_memory_human"])
    for name in ("used_memory", "used_memory_rss", "used_memory_peak"):
        assert facts[f"{name}_human"] == f"{int(facts[name]) / (1 << 20):.2f}M"
    assert facts["mem_fragmentation_ratio"] == "1.00"
    for name in ("sync_full", "pubsub_channels", "latest_fork_usec", "expired_keys", "repl_backlog_active"):
        assert facts[name] == "0"
    assert float(facts["used_cpu_user_children"]) >= 0
    assert "keyspace_hits" not in facts, "it is not counted"


def test_info_tells_what_commands_cost(client: Any) -> None:
    client.ping()  # whose connection asks for what there is not
    client.config_resetstat()
    client.execute_command("ECHO", "a")
    with pytest.raises(redis.ResponseError):
        client.execute_command("KL.SEEK", "nothing:1")
    with pytest.raises(redis.ResponseError):
        client.execute_command("ECHO")
    found = client.info("all")
    echo, seek = found["cmdstat_echo"], found["cmdstat_kl.seek"]
    assert (echo["calls"], echo["rejected_calls"], echo["failed_calls"]) == (1, 1, 0)
    assert (seek["calls"], seek["failed_calls"]) == (1, 1)
    assert set(found["latency_percentiles_usec_echo"]) == {"p50", "p99", "p99.9"}
    assert found["errorstat_ERR"] == {"count": 2}
    assert found["total_error_replies"] == 2
    assert "cmdstat_echo" not in client.info()
    assert client.info("default")["errorstat_ERR"] == {"count": 2}
    assert set(client.info("commandstats", "replication")) >= {"cmdstat_echo", "role"}


def test_info_has_redis_s_sections(session: Session) -> None:
    titles = re.findall(r"^# (\w+)", session.receive(b"INFO everything\r\n").decode(), re.MULTILINE)
    usual = (
        "Server Clients Memory Persistence Stats Replication CPU Modules Commandstats Errorstats Latencystats"
    )
    assert {*usual.split(), "Cluster", "Keyspace"} <= set(titles)
    assert len(titles) == len(set(titles))


def test_resetstat_begins_anew(client: Any) -> None:
    for _ in range(5):
        client.ping()
    with pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCH")
    assert client.config_resetstat()
    found = client.info("all")
    assert "cmdstat_ping" not in found
    assert "errorstat_ERR" not in found
    assert found["total_commands_processed"] <= 2
    assert found["total_connections_received"] == 0


def test_rates_are_measured() -> None:
    app = new_app()
    session = new_session(app)
    assert app.rates.per_second().commands == 0
    for second in range(3):
        app.rates.sample(float(second))
        session.receive(b"PING\r\n" * 50)
        app.counters.received_bytes += 3000
    app.rates.sample(3.0)
    rates = app.rates.per_second()
    assert (rates.seconds, rates.commands, rates.received_bytes) == (3.0, 50, 3000)
