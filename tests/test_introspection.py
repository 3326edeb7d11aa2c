"""COMMAND and MEMORY: what a client may ask about commands and rows."""

from __future__ import annotations

import re
import time
from typing import Any

import hiredis
import pytest

from commands.registry import load
from klani_resp.sessions.session import Session
from tests.conftest import frame
from tests.in_memory import new_app, new_session

COMMANDS = load()


@pytest.fixture
def session() -> Session:
    session = new_session(new_app())
    session.receive(b"HELLO 3\r\nKL.CREATE seats SCHEMA x U32 INDEX note BYTES 10\r\nKL.INSERT 1 x 5\r\n")
    return session


def asked(session: Session, *words: str | int) -> Any:
    reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
    reader.feed(session.receive(frame(*words)))
    answer = reader.gets()
    if isinstance(answer, hiredis.ReplyError):
        return f"-{answer}"
    return answer


def test_info_of_a_command_with_a_key(session: Session) -> None:
    ((name, arity, flags, first, last, step, categories, tips, keys, members),) = asked(
        session, "COMMAND", "INFO", "kl.seek"
    )
    assert (name, arity, first, last, step) == ("kl.seek", -2, 1, 1, 1)
    assert {"readonly", "fast"} <= set(flags)
    assert {"@read", "@fast"} <= set(categories)
    assert (tips, members) == ([], [])
    (spec,) = keys
    assert spec["begin_search"] == {"type": "index", "spec": {"index": 1}}
    assert spec["find_keys"] == {"type": "range", "spec": {"lastkey": 0, "keystep": 1, "limit": 0}}
    assert spec["flags"] == ["RO", "ACCESS"]


SETS = [
    ("COMMAND INFO dbsize", "+readonly\r\n+fast\r\n", 2),
    ("COMMAND INFO dbsize", "+@fast\r\n", 3),
    ("COMMAND INFO kl.seek", "%3\r\n$5\r\nflags\r\n", 1),
    ("COMMAND INFO kl.seek", "+RO\r\n+ACCESS\r\n", 2),
    ("COMMAND GETKEYSANDFLAGS KL.SEEK 1", "+RO\r\n+ACCESS\r\n", 2),
    ("COMMAND DOCS config|get", "+multiple\r\n", 1),
    ("ACL GETUSER default", "$2\r\non\r\n", 2),
]


@pytest.mark.parametrize(("request_", "members", "count"), SETS)
def test_what_has_no_order_is_a_set_in_resp3(
    session: Session, request_: str, members: str, count: int
) -> None:
    words = request_.split()
    assert f"~{count}\r\n{members}".encode() in session.receive(frame(*words))
    session.receive(frame("HELLO", 2))
    assert not re.search(rb"~\d", session.receive(frame(*words)))


@pytest.mark.parametrize(
    "words", ["CLIENT LIST", "CLIENT INFO", "MEMORY DOCTOR", "LATENCY DOCTOR", "INFO cpu"]
)
def test_text_is_verbatim_in_resp3(session: Session, words: str) -> None:
    assert re.match(rb"=\d+\r\ntxt:", session.receive(frame(*words.split())))
    session.receive(frame("HELLO", 2))
    assert session.receive(frame(*words.split())).startswith(b"$")


@pytest.mark.parametrize("name", ["memory|usage", "object|encoding", "object|freq"])
def test_a_subcommand_s_key_is_where_redis_has_it(session: Session, name: str) -> None:
    (info,) = asked(session, "COMMAND", "INFO", name)
    assert info[3:6] == [2, 2, 1]
    assert info[8][0]["begin_search"] == {"type": "index", "spec": {"index": 2}}
    (info,) = asked(session, "COMMAND", "INFO", "memory|stats")
    assert (info[3:6], info[8]) == ([0, 0, 0], [])


def test_info_of_families(session: Session) -> None:
    (client,) = asked(session, "COMMAND", "INFO", "CLIENT")
    members = {member[0]: member for member in client[9]}
    assert members["client|kill"][1] == -3
    assert members["client|id"][1] == 2
    assert "admin" in members["client|kill"][2]
    assert "@dangerous" in members["client|kill"][6]
    assert (
        asked(session, "COMMAND", "INFO", "client|id", "nope", "kl.seek|x", "client|nope")[1:] == [None] * 3
    )
    assert asked(session, "COMMAND", "INFO", "client|id")[0] == members["client|id"]


@pytest.mark.parametrize("name", [b"config|\xff", b"\xff|get", b"config|", b"config|get|x", b"|", b"get\xff"])
def test_info_of_what_there_is_not(session: Session, name: bytes) -> None:
    assert session.receive(frame("COMMAND", "INFO", name)) == b"*1\r\n_\r\n"
    assert session.receive(frame("COMMAND", "DOCS", name)) == b"%0\r\n"
    assert not session.closing


def test_what_is_asked_for_thousands_of_times_is_made_once(session: Session) -> None:
    once = session.receive(frame("COMMAND", "INFO", "client", "CLIENT|ID")).removeprefix(b"*2\r\n")
    began = time.process_time()
    many = session.receive(frame("COMMAND", "INFO", *["client", "client|id"] * 2000))
    assert time.process_time() - began < 0.2
    assert many == b"*4000\r\n" + once * 2000
    assert b"%2\r\n" in session.receive(frame("COMMAND", "INFO", "kl.seek"))
    session.receive(frame("HELLO", 2))
    assert b"%2\r\n" not in session.receive(frame("COMMAND", "INFO", "kl.seek")), "each protocol has its own"


def test_every_command_is_in_info_docs_and_list(session: Session) -> None:
    names = sorted(name.lower() for name in COMMANDS)
    assert asked(session, "COMMAND", "COUNT") == len(names)
    assert asked(session, "COMMAND", "LIST") == names
    assert sorted(one[0] for one in asked(session, "COMMAND", "INFO")) == names
    assert asked(session, "COMMAND") == asked(session, "COMMAND", "INFO")
    docs = asked(session, "COMMAND", "DOCS")
    assert sorted(docs) == names
    for name, doc in docs.items():
        assert doc["summary"].endswith("."), name
        family = COMMANDS[name.upper()].family
        assert ("subcommands" in doc) == (family is not None)
    assert docs["client"]["subcommands"]["client|setname"]["arguments"] == [
        {"name": "name", "type": "string"}
    ]


def test_docs_of_subcommands(session: Session) -> None:
    docs = asked(
        session, "COMMAND", "DOCS", "client|id", "CONFIG|GET", "ping", "config|nope", "nope", "ping|x"
    )
    assert sorted(docs) == ["client|id", "config|get", "ping"]
    assert (
        docs["client|id"] == asked(session, "COMMAND", "DOCS", "client")["client"]["subcommands"]["client|id"]
    )
    assert docs["config|get"]["arguments"] == [{"name": "pattern", "type": "string", "flags": ["multiple"]}]


def test_list_filtered(session: Session) -> None:
    assert asked(session, "COMMAND", "LIST", "FILTERBY", "PATTERN", "kl.see*") == ["kl.seek"]
    assert asked(session, "COMMAND", "LIST", "FILTERBY", "MODULE", "x") == []
    selling = asked(session, "COMMAND", "LIST", "FILTERBY", "ACLCAT", "selling")
    assert "kl.claim" in selling
    assert "kl.seek" not in selling
    assert asked(session, "COMMAND", "LIST", "FILTERBY", "X", "x") == "-ERR syntax error"
    assert asked(session, "COMMAND", "LIST", "FILTERBY", "PATTERN") == "-ERR syntax error"


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("KL.SEEK 42 x", ["42"]),
        ("KL.TRYLOCK 1 2 PX 5", ["1", "2"]),
        ("KL.UNLOCK 1 2 77", ["1", "2"]),
        ("WATCH a:1 a:2", ["a:1", "a:2"]),
    ],
)
def test_keys_and_what_is_done_with_them(session: Session, words: str, keys: list[str]) -> None:
    assert asked(session, "COMMAND", "GETKEYS", *words.split()) == keys
    with_flags = asked(session, "COMMAND", "GETKEYSANDFLAGS", *words.split())
    assert [key for key, _ in with_flags] == keys
    assert {flags[0] for _, flags in with_flags} <= {"RO", "RW"}


def test_keys_of_none(session: Session) -> None:
    for member in ("GETKEYS", "GETKEYSANDFLAGS"):
        assert asked(session, "COMMAND", member, "NOPE", "a") == "-ERR Invalid command specified"
        assert asked(session, "COMMAND", member, "PING", "a") == "-ERR The command has no key arguments"


def test_memory_usage(session: Session) -> None:
    record = asked(session, "MEMORY", "USAGE", "seats:1")
    assert record == asked(session, "MEMORY", "USAGE", 1, "SAMPLES", 0)
    assert record >= 4 + 10
    assert asked(session, "KL.INFO", "seats")["bytes"] == record
    assert asked(session, "MEMORY", "USAGE", 2) is None
    assert asked(session, "MEMORY", "USAGE", 1, "SAMPLES") == "-ERR syntax error"
    assert (
        asked(session, "MEMORY", "USAGE", 1, "SAMPLES", "x") == "-ERR value is not an integer or out of range"
    )
    for key in ("nope:1", "nope", "", "seats:x"):
        assert asked(session, "MEMORY", "USAGE", key) is None, "as TYPE and EXISTS have it"
    assert asked(session, "MEMORY", "USAGE", 1, "SAMPLES", -1) == "-ERR syntax error"


def test_memory_is_no_way_round_permissions(session: Session) -> None:
    session.receive(frame("ACL", "SETUSER", "ann", "on", ">pw", "+@all", "~other:*"))
    session.receive(frame("AUTH", "ann", "pw"))
    assert asked(session, "MEMORY", "USAGE", 1) == "-NOPERM No permissions to access a key"


def test_memory_stats(session: Session) -> None:
    stats = asked(session, "MEMORY", "STATS")
    assert stats["keys.count"] == 1
    assert stats["peak.allocated"] >= stats["total.allocated"]
    assert stats["total.allocated"] > stats["dataset.bytes"] == stats["keys.bytes-per-key"]
    assert asked(session, "MEMORY", "DOCTOR").startswith(f"{stats['dataset.bytes']} bytes are rows")


def test_redis_py_reads_command(client: Any) -> None:
    found = client.command()
    assert found["kl.seek"]["arity"] == -2
    assert client.command_count() == len(COMMANDS)
    assert client.command_getkeys("KL.SEEK", "seats:1") in (["seats:1"], [b"seats:1"])
    assert client.memory_stats()["keys.count"] == 0
    assert client.memory_usage("seats:1") is None
