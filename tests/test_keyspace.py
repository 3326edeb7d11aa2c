"""SCAN, TYPE, HGETALL and their like: what browsers see of the rows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from commands.keyspace import matcher
from commands.spec import CommandError
from klani_resp.sessions.session import Session
from tests.conftest import frame
from tests.in_memory import new_app, new_session

if TYPE_CHECKING:
    from bench.harness.launch import Server

Client = Any  # redis-py does not type execute_command
IDS = [0, 1, 42, 70_000, 2**32 - 1]


@pytest.fixture
def hall(client: Client) -> Client:
    for name in ("seats", "rooms", "empty"):
        client.execute_command("KL.CREATE", name, "SCHEMA", "x", "I64", "note", "BYTES", 4)
    for row in IDS:
        client.execute_command("KL.INSERT", f"seats:{row}", "x", -1, "note", b"a\0b")
        client.execute_command("KL.INSERT", f"rooms:{row}", "x", row)
    return client


def keys_of(name: str) -> list[bytes]:
    return [f"{name}:{row}".encode() for row in IDS]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 1000, 2**62])
def test_each_key_comes_once(hall: Client, count: int) -> None:
    assert list(hall.scan_iter(count=count)) == keys_of("seats") + keys_of("rooms")


def test_a_step_is_as_large_as_it_was_told(hall: Client) -> None:
    cursor, keys = hall.scan(0, count=3)
    assert (cursor, keys) == (1 << 32 | 70_000 if cursor >> 32 == 1 else cursor, keys_of("seats")[:3])
    assert cursor < 1 << 64
    assert hall.scan(2**64 - 1) == (0, [])
    assert hall.scan(cursor, count=2)[1] == keys_of("seats")[3:]


def test_rows_and_tables_may_come_and_go_meanwhile(hall: Client) -> None:
    cursor, keys = hall.scan(0, count=2)
    assert keys == keys_of("seats")[:2]
    hall.execute_command("KL.DROP", "seats")
    hall.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U8")
    hall.execute_command("KL.INSERT", "seats:0", "x", 1)
    hall.execute_command("KL.INSERT", "rooms:2", "x", 2)
    rest = []
    while cursor:
        cursor, keys = hall.scan(cursor, count=2)
        rest += keys
    assert set(keys_of("rooms")) <= set(rest)
    assert len(set(rest)) == len(rest)


def test_match(hall: Client) -> None:
    for pattern, expected in {
        "*": keys_of("seats") + keys_of("rooms"),
        "seats:*": keys_of("seats"),
        "*s:42": [b"seats:42", b"rooms:42"],
        "rooms:?": [b"rooms:0", b"rooms:1"],
        "[^r]*:4[0-2]": [b"seats:42"],
        "r\\ooms:42": [b"rooms:42"],
        "seats:42": [b"seats:42"],
        "seats:042": [],
        "seats": [],
        "42": [],
        "nothing:*": [],
    }.items():
        assert list(hall.scan_iter(match=pattern, count=3)) == expected, pattern


def test_a_pattern_s_beginning_chooses_tables(hall: Client) -> None:
    """All of one table's keys come in one step, though another's stand before them."""
    assert hall.scan(0, match="rooms:*", count=5) == (0, keys_of("rooms"))
    assert hall.scan(0, match="seats:42", count=1) == (0, [b"seats:42"])


def test_types(hall: Client) -> None:
    assert len(list(hall.scan_iter(_type="HASH"))) == 2 * len(IDS)
    assert hall.scan(0, _type="string") == (0, [])
    assert hall.type("seats:42") == hall.type("{seats}:42") == hall.type("42") == b"hash"
    for key in ("seats:43", "nothing:1", "seats:x", "x", "", "seats:99999999999"):
        assert hall.type(key) == b"none"
        assert hall.exists(key) == 0
        assert (hall.ttl(key), hall.pttl(key)) == (-2, -2)
        assert hall.hgetall(key) == {}
        assert hall.hlen(key) == 0
        assert hall.hscan(key) == (0, {})
        assert hall.object("encoding", key) is None
    assert hall.exists("seats:42", "42", "seats:43", "rooms:0") == 3
    assert (hall.ttl("42"), hall.pttl("42")) == (-1, -1)
    assert hall.object("encoding", "42") == b"record"
    assert hall.object("refcount", "42") == 1


def test_single_fields_of_it(hall: Client) -> None:
    """RedisInsight asks HGET when one looks for a field by its exact name."""
    assert (hall.hget("42", "x"), hall.hget("42", "note")) == (b"-1", b"a\0b")
    assert hall.hmget("42", ["note", "nope", "x"]) == [b"a\0b", None, b"-1"]
    assert (hall.hexists("42", "x"), hall.hexists("42", "X")) == (True, False)
    assert (hall.hkeys("42"), hall.hvals("42")) == ([b"x", b"note"], [b"-1", b"a\0b"])
    assert (hall.hstrlen("42", "note"), hall.hstrlen("42", "nope")) == (3, 0)
    assert hall.hget("42", "nope") is None
    for key in ("seats:43", "nothing:1", "no key"):
        assert (hall.hget(key, "x"), hall.hexists(key, "x"), hall.hstrlen(key, "x")) == (None, False, 0)
        assert hall.hmget(key, ["x", "note"]) == [None, None]
        assert (hall.hkeys(key), hall.hvals(key)) == ([], [])


def test_an_option_said_twice_counts_as_it_was_said_last(hall: Client) -> None:
    found = hall.execute_command("SCAN", 0, "MATCH", "nope", "COUNT", 1, "COUNT", 1000, "MATCH", "seats:42")
    assert found == (0, [b"seats:42"])
    assert hall.execute_command("HSCAN", "42", 0, "MATCH", "x", "MATCH", "no*") == (0, {b"note": b"a\0b"})


def test_a_row_as_a_hash(hall: Client) -> None:
    assert hall.hgetall("42") == {b"x": b"-1", b"note": b"a\0b"}
    assert hall.hlen("42") == 2
    assert hall.hscan("42", 0, count=1) == (0, {b"x": b"-1", b"note": b"a\0b"})
    assert hall.hscan("42", 0, match="n*") == (0, {b"note": b"a\0b"})


@pytest.fixture
def session() -> Session:
    return new_session(new_app())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("SCAN x", "invalid cursor"),
        ("SCAN -1", "invalid cursor"),
        ("SCAN 18446744073709551616", "invalid cursor"),
        ("SCAN 0 COUNT 0", "syntax error"),
        ("SCAN 0 COUNT -5", "syntax error"),
        ("SCAN 0 COUNT x", "value is not an integer or out of range"),
        ("SCAN 0 COUNT 01", "value is not an integer or out of range"),
        ("SCAN 0 COUNT 9223372036854775808", "value is not an integer or out of range"),
        ("HSCAN 1 0 COUNT 0", "syntax error"),
        ("HSCAN 1 0 COUNT x", "value is not an integer or out of range"),
        ("SCAN 0 COUNT 1 COUNT 0", "syntax error"),
        ("SCAN 0 TYPE nope", "unknown type name 'nope'"),
        ("SCAN 0 MATCH", "syntax error"),
        ("SCAN 0 NOVALUES", "syntax error"),
        ("HSCAN a:1 x", "invalid cursor"),
        ("HSCAN 1 0 MORE", "syntax error"),
        ("OBJECT NOPE a:1", "unknown subcommand 'NOPE'. Try OBJECT HELP."),
        ("OBJECT ENCODING", "wrong number of arguments for 'object|encoding' command"),
        ("KEYS *", "unknown command 'KEYS', with args beginning with: '*' "),
    ],
)
def test_refusals(session: Session, words: str, text: str) -> None:
    session.receive(b"KL.CREATE seats SCHEMA x U8\r\nKL.INSERT 1 x 0\r\n")
    assert session.receive(frame(*words.split())).decode() == f"-ERR {text}\r\n"


@pytest.mark.parametrize("options", ["COUNT 0", "COUNT x", "MORE"])
def test_where_there_is_no_row_hscan_looks_at_no_option(session: Session, options: str) -> None:
    assert session.receive(f"HSCAN a:1 0 {options}\r\n".encode()) == b"*2\r\n$1\r\n0\r\n*0\r\n"


def test_what_is_not_tracked(session: Session) -> None:
    session.receive(b"KL.CREATE seats SCHEMA x U8\r\nKL.INSERT 1 x 0\r\n")
    assert session.receive(b"OBJECT FREQ 1\r\n").startswith(b"-ERR An LFU maxmemory policy is not selected")
    assert session.receive(b"OBJECT IDLETIME 1\r\n").startswith(b"-ERR idle time not tracked")
    assert session.receive(b"OBJECT FREQ 2\r\n") == b"$-1\r\n"
    assert session.receive(b"HSCAN 1 0 NOVALUES\r\n") == b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nx\r\n"


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        (b"a*", b"a", b"ba"),
        (b"a.c", b"a.c", b"abc"),
        (b"\\*", b"*", b"a"),
        (b"\\\\", b"\\", b"a"),
        (b"[^a]", b"b", b"a"),
        (b"[!a]", b"!", b"b"),
        (b"[^a-s]imeout", b"timeout", b"simeout"),
        (b"[a", b"a", b"[a"),
        (b"[a-c]x", b"bx", b"dx"),
        (b"\xff?", b"\xff\n", b"\xff"),
    ],
)
def test_patterns_are_redis_s(pattern: bytes, fits: bytes, not_: bytes) -> None:
    assert matcher(pattern)(fits)
    assert not matcher(pattern)(not_)


def test_a_pattern_costs_no_more_than_its_length() -> None:
    assert not matcher(b"*a" * 200 + b"b")(b"a" * 500)
    with pytest.raises(CommandError, match="at most 512 bytes"):
        matcher(b"*" * 513)


def test_redis_cli_finds_its_way(hall: Client, server: Server, need: Callable[[str], str]) -> None:
    def cli(*words: str) -> str:
        command = [need("redis-cli"), "-p", str(server.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout

    assert cli("--scan", "--pattern", "seats:*").split() == [key.decode() for key in keys_of("seats")]
    told = cli("--bigkeys")
    assert f"{2 * len(IDS)} hashs with {4 * len(IDS)} fields" in told
