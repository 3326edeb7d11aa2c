"""What ACL answers, what it logs of refusals, and the file of users."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from commands.registry import load
from commands.spec import Flags
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from tests.acl_sessions import NO_AUTH, NO_KEY, NOAUTH, ask, denied, login, received, shop, user
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.in_memory import new_app, new_session
from tests.store import open_store

if TYPE_CHECKING:
    from bench.harness.launch import Server
    from tests.conftest import Wire

COMMANDS = load()


# --- ACL's own answers --------------------------------------------------------------------------------


def test_acl_answers() -> None:
    app, operator = shop()
    user(app, operator, "~concert:*", "%R~ro:*", "+@read", "-kl.scan", "+config|get")
    hash_of_pw = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4"
    line = f"on #{hash_of_pw} ~concert:* %R~ro:* resetchannels -@all +@read -kl.scan +config|get"
    assert ask(operator, "ACL", "LIST") == [f"user ann {line}", "user default on nopass ~* &* +@all"]
    got = ask(operator, "ACL", "GETUSER", "ann")
    assert dict(zip(got[::2], got[1::2], strict=True)) == {
        "flags": ["on"],
        "passwords": [hash_of_pw],
        "commands": "-@all +@read -kl.scan +config|get",
        "keys": "~concert:* %R~ro:*",
        "channels": "",
        "selectors": [],
    }
    assert ask(operator, "ACL", "GETUSER", "nobody") is None
    assert "kl.scan" in ask(operator, "ACL", "CAT", "read")
    assert {"read", "inventory", "selling", "dangerous"} <= set(ask(operator, "ACL", "CAT"))
    assert ask(operator, "ACL", "CAT", "nope") == "-ERR Unknown category 'nope'"
    assert len(ask(operator, "ACL", "GENPASS")) == 64
    assert [len(ask(operator, "ACL", "GENPASS", bits)) for bits in (1, 4, 5, 12, 4096)] == [1, 1, 2, 3, 1024]
    for bits in (0, 4097):
        assert ask(operator, "ACL", "GENPASS", bits).startswith(
            "-ERR ACL GENPASS argument must be the number"
        )
    assert ask(operator, "ACL", "GENPASS", "x") == "-ERR value is not an integer or out of range"
    assert ask(operator, "ACL", "NOPE") == "-ERR unknown subcommand 'NOPE'. Try ACL HELP."
    assert ask(operator, "ACL", "SETUSER") == "-ERR wrong number of arguments for 'acl|setuser' command"
    assert ask(operator, "ACL", "SETUSER", "ann", "+nope") == (
        "-ERR Error in ACL SETUSER modifier '+nope': Unknown command or category name in ACL"
    )
    assert ask(operator, "ACL", "SETUSER", "a b") == "-ERR Usernames can't contain spaces or null characters"
    assert ask(operator, "ACL", "SETUSER", "", "on") == "-ERR Usernames can't be empty"
    lines = ask(operator, "ACL", "HELP")
    assert lines[0].startswith("ACL <subcommand> [<arg> [value] [opt] ...].")
    assert lines[-2:] == ["HELP", "    Prints this help."]
    for verb in ("LOAD", "SAVE"):
        assert ask(operator, "ACL", verb).startswith(
            "-ERR This Redis instance is not configured to use an ACL"
        )


def test_dryrun() -> None:
    app, operator = shop()
    session = user(app, operator, "~concert:*", "+@read")
    before = app.engine.appended

    def dry(*words: Any) -> Any:
        return ask(operator, "ACL", "DRYRUN", "ann", *words)

    assert dry("KL.SEEK", "concert:7") == "OK"
    assert dry("kl.seek", "seats:7") == "User ann has no permissions to access the 'seats:7' key"
    assert dry("KL.COUNT", "seats", "state", 0) == "User ann has no permissions to access the 'seats:*' key"
    assert dry("KL.DROP", "concert") == "User ann has no permissions to run the 'kl.drop' command"
    assert dry("CONFIG", "GET", "x") == "User ann has no permissions to run the 'config|get' command"
    assert dry("NOPE") == "-ERR Command 'NOPE' not found"
    assert dry("KL.SEEK") == "-ERR wrong number of arguments for 'kl.seek' command"
    assert dry("CONFIG", "GET") == "-ERR wrong number of arguments for 'config|get' command"
    assert dry("MEMORY", "USAGE", "concert:7") == "OK"
    assert dry("MEMORY", "USAGE", "seats:7") == "User ann has no permissions to access the 'seats:7' key"
    assert ask(operator, "ACL", "DRYRUN", "x", "PING") == "-ERR User 'x' not found"
    assert app.engine.appended == before
    assert not denied(session, "KL.SEEK", "concert:7")


def test_the_log_of_refusals() -> None:
    app, operator = shop()
    session = user(app, operator, "~concert:*", "+@read", "+multi")
    ask(new_session(app), "AUTH", "ann", "wrong")
    for _ in range(3):
        ask(session, "KL.DROP", "concert")
    ask(session, "KL.SEEK", "seats:7")
    ask(session, "MULTI")
    ask(session, "KL.SEEK", "seats:7")
    log = [dict(zip(one[::2], one[1::2], strict=True)) for one in ask(operator, "ACL", "LOG")]
    assert [(one["reason"], one["context"], one["object"], one["username"], one["count"]) for one in log] == [
        ("key", "multi", "seats:7", "ann", 1),
        ("key", "toplevel", "seats:7", "ann", 1),
        ("command", "toplevel", "kl.drop", "ann", 3),
        ("auth", "toplevel", "AUTH", "ann", 1),
    ]
    assert [one["entry-id"] for one in log] == [3, 2, 1, 0]
    assert "user=ann" in log[0]["client-info"] and "user=default" in log[3]["client-info"]
    assert len(ask(operator, "ACL", "LOG", 1)) == 1
    assert ask(operator, "ACL", "LOG", "x") == "-ERR value is not an integer or out of range"
    stats = ask(operator, "INFO", "stats")
    counted = [("auth", 1), ("cmd", 3), ("key", 2), ("channel", 0)]
    assert all(f"acl_access_denied_{reason}:{count}\r\n" in stats for reason, count in counted)
    assert ask(operator, "ACL", "LOG", "RESET") == "OK"
    assert ask(operator, "ACL", "LOG") == []
    for number in range(200):
        ask(new_session(app), "AUTH", f"user{number}", "x")
    assert len(ask(operator, "ACL", "LOG", 1000)) == 128


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([b"AUTH", b"s"], [b"AUTH", b"(redacted)"]),
        ([b"auth", b"u", b"s"], [b"auth", b"(redacted)", b"(redacted)"]),
        ([b"HELLO", b"3", b"AUTH", b"u", b"s"], [b"HELLO", b"3", b"AUTH", *[b"(redacted)"] * 2]),
        ([b"ACL", b"setuser", b"u", b">s"], [b"ACL", b"setuser", b"(redacted)", b"(redacted)"]),
        ([b"CONFIG", b"SET", b"requirepass", b"s"], [b"CONFIG", b"SET", b"requirepass", b"(redacted)"]),
        ([b"ACL", b"CAT", b"read"], [b"ACL", b"CAT", b"read"]),
        ([b"ACL", b"SETUSR", b"u", b">s"], [b"ACL", b"SETUSR", b"(redacted)", b"(redacted)"]),
        ([b"CONFIG", b"STE", b"requirepass", b"s"], [b"CONFIG", b"STE", b"(redacted)", b"(redacted)"]),
        ([b"CONFIG"], [b"CONFIG"]),
        ([b"KL.SEEK", b"7"], [b"KL.SEEK", b"7"]),
    ],
)
def test_what_may_be_shown_of_a_call(words: list[bytes], shown: list[bytes]) -> None:
    assert COMMANDS[words[0].upper().decode()].shown(words) == shown


def test_no_setting_shows_a_password() -> None:
    _, operator = shop(requirepass="topsecret", users=("ann on >alsosecret ~* +@all",))
    settings = received(operator, frame("CONFIG", "GET", "*"))
    assert b"requirepass" in settings
    assert b"secret" not in settings


# --- the ACL file -------------------------------------------------------------------------------------


def test_users_are_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user ann on >pw ~concert:* +@read\nuser bob on >pw ~* +@all\n")
    app, operator = shop(acl_file=str(path))
    app.access.configure()
    ann, bob = login(app, "ann"), login(app, "bob")
    ask(operator, "ACL", "SETUSER", "eve", "on", ">pw", "+@all")
    assert ask(operator, "ACL", "SAVE") == "OK"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [line.split()[1] for line in path.read_text().splitlines()] == ["ann", "bob", "default", "eve"]
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("user ann on >pw ~seats:* +@read\n")
    ended: list[Session] = []
    bob.line.end = lambda: ended.append(bob)
    assert ask(operator, "ACL", "LOAD") == "OK"
    assert ended == [bob]
    assert not denied(ann, "KL.SEEK", "seats:7") and denied(ann, "KL.SEEK", "concert:7")
    assert ask(operator, "ACL", "USERS") == ["ann", "default"]
    path.write_text("user ann on\nuser bob +nope\n")
    assert ask(operator, "ACL", "LOAD").startswith(f"-ERR {path}:2: ")
    assert ask(operator, "ACL", "USERS") == ["ann", "default"]
    assert not denied(ann, "KL.SEEK", "seats:7")


def test_whom_the_file_removes_is_told_that_it_was_loaded(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user ann on >pw ~* +@all\nuser bob on >pw ~* +@all\n")
    app = new_app(acl_file=str(path))
    ann, bob, twin = login(app, "ann"), login(app, "bob"), login(app, "ann")
    ended: list[Session] = []
    for session in (ann, bob, twin):
        session.line.end = partial(ended.append, session)
    assert received(ann, frame("ACL", "SAVE")) == b"+OK\r\n"
    path.write_text("user bob on >pw ~* +@all\n")
    assert received(ann, frame("ACL", "LOAD") + frame("PING")) == b"+OK\r\n"
    assert ann.closing
    assert ended == [twin], "the others are cut off"
    assert ask(bob, "PING") == "PONG"


def test_it_is_told_over_sockets(
    start: Callable[..., Server], wire: Callable[..., Wire], tmp_path: Path
) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user ann on >pw ~* +@all\n")
    running = start("--acl-file", str(path))
    path.write_text("")
    one = wire(running.port)
    assert one.ask("AUTH", "ann", "pw") == one.ask("ACL", "LOAD") == b"+OK\r\n"
    assert one.socket.recv(10) == b""


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.touch()
    _, operator = shop(acl_file=str(path))
    path.unlink()
    path.mkdir()
    assert ask(operator, "ACL", "SAVE") == (
        "-ERR There was an error trying to save the ACLs. Please check the server logs for more information"
    )
    assert list(tmp_path.iterdir()) == [path]
    assert ask(operator, "ACL", "LOAD").startswith("-ERR ACL LOAD: ")


# --- while the store loads ----------------------------------------------------------------------------


def test_while_the_store_loads() -> None:
    app = App(Config(requirepass="pw", users=("ann on >pw ~concert:* +@read +kl.release",)))
    app.access.configure()
    session = app.open_session(Transport("", ""))
    assert ask(session, "KL.TABLES") == NOAUTH
    assert ask(session, "AUTH", "ann", "pw") == "OK"
    for words in (("KL.SEEK", "seats:7"), ("KL.RELEASE", 5)):
        assert ask(session, *words).startswith("-LOADING")
    assert ask(session, "KL.DROP", "x").startswith("-NOPERM")
    engine, _ = open_store(FakeDisk())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    assert ask(session, "KL.SEEK", "seats:7") == NO_KEY
    assert ask(session, "KL.RELEASE", 5) == 0
    assert ask(session, "KL.DROP", "x").startswith("-NOPERM")


def test_who_may_do_everything_pays_for_nothing() -> None:
    app = new_app()
    session = new_session(app)
    for protocol in (2, 3):
        assert not any(
            "behind" in run.__qualname__.lower() for run in app.dispatcher.full.tables[protocol].values()
        )
    assert session._table is app.dispatcher.full.tables[2]
    assert session.is_between
    assert {name for name, spec in COMMANDS.items() if spec.flags & Flags.NO_AUTH} == NO_AUTH


def test_who_only_looks_at_keys_and_hashes() -> None:
    """As users of browsers are usually made."""
    app, operator = shop()
    session = user(app, operator, "+@keyspace", "+@hash", "~seats:*")
    assert ask(session, "SCAN", 0) == ["0", ["seats:7"]]
    assert ask(session, "TYPE", "seats:7") == "hash"
    assert ask(session, "HGET", "seats:7", "n") == "9"
    assert ask(session, "OBJECT", "ENCODING", "seats:7") == "record"
    for words in ("HGET concert:7 n", "HMGET concert:7 n", "HEXISTS concert:7 n", "HKEYS concert:7"):
        assert ask(session, *words.split()) == NO_KEY
    for words in ("HVALS concert:7", "HSTRLEN concert:7 n", "HGETALL concert:7", "TYPE concert:7"):
        assert ask(session, *words.split()) == NO_KEY
    assert denied(session, "KL.SEEK", "seats:7")


@pytest.mark.parametrize(("request_", "cmd"), [("KL.DROP seats", "kl.drop"), ("CONFIG GET x", "config|get")])
@pytest.mark.parametrize("before", ["", "PING\r\n", "MULTI\r\n"])
def test_the_log_tells_the_command_that_was_refused(before: str, request_: str, cmd: str) -> None:
    """As Redis does: of several that came at once it told the one of the turn before."""
    app, operator = shop()
    session = user(app, operator, "~*", "+@all", "-kl.drop", "-config")
    session.receive(f"{before}{request_}\r\n".encode())
    (entry,) = ask(operator, "ACL", "LOG")
    assert f" cmd={cmd} " in dict(zip(entry[::2], entry[1::2], strict=True))["client-info"]
