"""`requirepass` and the users, as CONFIG SET and CONFIG REWRITE have them: nobody is let in by accident."""

from __future__ import annotations

import pytest

from klani_resp.app import App
from klani_resp.config import Config
from klani_resp.net.descriptors import refuse_more_than_fit
from tests.acl_sessions import ask, login, received
from tests.conftest import frame
from tests.in_memory import new_app, new_session

NOAUTH = "-NOAUTH Authentication required."
TOO_MANY = 4_000_000_000
SECRET = ("default on >topsecret ~* &* +@all",)


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
