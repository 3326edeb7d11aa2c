"""`requirepass` and the users, as CONFIG SET and CONFIG REWRITE have them: nobody is let in by accident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from klani_resp.app import App
from klani_resp.config import Config
from klani_resp.net.descriptors import refuse_more_than_fit
from tests.acl_sessions import ask, login, received
from tests.conftest import frame
from tests.in_memory import new_app, new_session

if TYPE_CHECKING:
    from bench.harness.launch import Server

NOAUTH = "-NOAUTH Authentication required."
TOO_MANY = 4_000_000_000
SECRET = ("default on >topsecret ~* &* +@all",)


def client_of(**options: Any) -> Any:
    """redis-py, which does not type execute_command."""
    return redis.Redis(**options)


def locked(**settings: object) -> App:
    """The default user has a password that no `requirepass` gave it."""
    app = new_app(users=SECRET, **settings)
    app.settings.ask(refuse_more_than_fit)
    return app


@pytest.mark.parametrize("name", ["maxclients", "CONNECTIONS_MAX", "connections-max"])
def test_a_refused_change_leaves_the_password(name: str) -> None:
    app = locked()
    operator = login(app, "default", "topsecret")
    before = ask(operator, "ACL", "LIST")
    refusal = ask(operator, "CONFIG", "SET", "requirepass", "x", name, TOO_MANY)
    assert f"argument '{name.lower()}') - The operating system is not able to handle" in refusal
    assert ask(operator, "ACL", "LIST") == before
    assert ask(operator, "CONFIG", "GET", "requirepass") == ["requirepass", ""]
    assert ask(new_session(app), "PING") == NOAUTH
    assert ask(new_session(app), "AUTH", "x").startswith("-WRONGPASS")


def test_whoever_fails_for_a_bug_leaves_the_password() -> None:
    app = locked()
    operator = login(app, "default", "topsecret")

    def broken(config: Config) -> None:
        if config.requirepass == "x":
            raise RuntimeError("bug")

    app.settings.tell(broken)
    assert ask(operator, "CONFIG", "SET", "requirepass", "x", "lease_ms", 5) == "-ERR internal error"
    assert (app.config.requirepass, app.config.lease_ms, app.engine.options.lease_ms) == ("", 10_000, 10_000)
    assert ask(new_session(app), "PING") == NOAUTH
    assert ask(login(app, "default", "topsecret"), "CONFIG", "SET", "requirepass", "y") == "OK"
    assert ask(new_session(app), "AUTH", "y") == "OK"


@pytest.mark.parametrize("password", [b"\xff\xfe", b"\xed\xa0\x80", b"a\x80"])
def test_a_password_that_a_file_could_not_have_is_refused(password: bytes) -> None:
    app = new_app(requirepass="pw")
    operator = login(app, "default", "pw")
    refusal = (
        "-ERR CONFIG SET failed (possibly related to argument 'requirepass') - argument must be UTF-8\r\n"
    )
    assert received(operator, frame("CONFIG", "SET", "requirepass", password)).decode() == refusal
    assert ask(operator, "PING") == "PONG"
    assert ask(new_session(app), "PING") == NOAUTH
    assert app.config.requirepass == "pw"


def test_a_password_is_changed_and_taken_away() -> None:
    app = new_app()
    operator = new_session(app)
    assert ask(operator, "CONFIG", "SET", "requirepass", "pässword") == "OK"
    assert ask(operator, "PING") == "PONG", "who is in stays in"
    assert ask(new_session(app), "PING") == NOAUTH
    assert ask(login(app, "default", "pässword"), "CONFIG", "SET", "requirepass", "") == "OK"
    assert ask(new_session(app), "PING") == "PONG"


# --- CONFIG REWRITE and the users -----------------------------------------------------------------------


def test_rewritten_users_are_those_of_the_next_start(start: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "klani.toml"
    path.write_text('users = [\n    "bob on >pw ~* +@all",  # who goes\n    "eve on >pw ~* +@all",\n]\n')
    running = start(f"--config={path}")
    with client_of(port=running.port) as client:
        client.execute_command("ACL", "SETUSER", "alice", "on", ">pw", "~concert:*", "+@read", "-kl.scan")
        client.execute_command("ACL", "SETUSER", "eve", "off")
        client.execute_command("ACL", "DELUSER", "bob")
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">new")
        before = client.execute_command("ACL", "LIST")
        for _ in range(2):
            assert client.execute_command("CONFIG", "REWRITE") == b"OK"
    assert ">" not in path.read_text(), "hashes only"
    running.stop()
    again = start(f"--config={path}")
    with client_of(port=again.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with client_of(port=again.port, password="new") as client:
        assert client.execute_command("ACL", "LIST") == before
        assert [line.split()[1] for line in before] == [b"alice", b"default", b"eve"]


def kept(app: App) -> list[str]:
    return [line.split()[0] for line in app.settings.users()]


def test_a_default_user_as_a_start_makes_it_is_no_line() -> None:
    app = new_app(requirepass="pw", users=("ann off",))
    operator = login(app, "default", "pw")
    assert kept(app) == ["ann"]
    assert ask(operator, "ACL", "SETUSER", "default", "-kl.drop") == "OK"
    assert kept(app) == ["ann", "default"]
    assert ask(operator, "ACL", "DELUSER", "ann") == 1
    assert ask(operator, "ACL", "SETUSER", "default", "+@all") == "OK"
    assert kept(app) == []
    assert ask(operator, "ACL", "SETUSER", "default", "nopass") == "OK"
    assert kept(app) == ["default"]
    assert ask(operator, "CONFIG", "SET", "requirepass", "new") == "OK"
    assert kept(app) == []


def test_users_of_a_file_are_not_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user ann off\n")
    assert kept(new_app(acl_file=str(path))) == []


def test_what_toml_cannot_hold_is_refused(tmp_path: Path) -> None:
    app = new_app(config_file=str(tmp_path / "klani.toml"))
    operator = new_session(app)
    assert received(operator, frame("ACL", "SETUSER", "ann", b"~\xff")) == b"+OK\r\n"
    refusal = ask(operator, "CONFIG", "REWRITE")
    assert refusal.startswith("-ERR Rewriting config file: a user has what is not UTF-8: ")
    assert ask(operator, "PING") == "PONG"
