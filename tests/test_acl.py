"""E1: every command for whoever has not said who it is, said it wrongly, or may not; and what users are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from commands.registry import load
from commands.spec import Arg, Command, Flags
from klani_resp.app import App
from klani_resp.sessions.session import Session
from tests.acl_sessions import (
    NO_AUTH,
    NO_KEY,
    NOAUTH,
    WRONG,
    ask,
    denied,
    login,
    received,
    replies,
    shop,
    user,
)
from tests.conftest import frame
from tests.in_memory import new_app, new_session

if TYPE_CHECKING:
    pass

COMMANDS = load()


def words_of(spec: Command, table: str = "seats") -> list[Any]:
    """A request of the right arity, whose keys and tables are in this table where it has any."""
    words: list[Any] = [spec.name]
    for place in range(1, abs(spec.arity)):
        kind = "KEY" if place == spec.keys[0] else spec.args[min(place, len(spec.args)) - 1][1].name
        words.append({"KEY": f"{table}:7", "TABLE": table, "TABLE_NAME": table}.get(kind, "1"))
    if spec.family is not None and len(words) > 1:
        words[1] = spec.family.names[0]
        if spec.keys[0] == 2:
            words.append(f"{table}:7")
    return words


every_command = pytest.mark.parametrize("spec", COMMANDS.values(), ids=list(COMMANDS))


# --- E1: every command --------------------------------------------------------------------------------


def refusing(spec: Command, text: str) -> str:
    """Whatever refuses EXEC ends the transaction, and Redis says so."""
    return f"-EXECABORT Transaction discarded because of: {text[1:]}" if spec.name == "EXEC" else text


@every_command
def test_e1_no_auth(spec: Command, figure: Callable[..., None]) -> None:
    figure("E1 commands without auth, with a wrong password, without permission")
    app = new_app(requirepass="pw")
    session = new_session(app)
    if spec.name in NO_AUTH:
        assert ask(session, *words_of(spec)) not in (NOAUTH, NO_KEY)
        return
    for _ in range(2):
        assert ask(session, *words_of(spec)) == refusing(spec, NOAUTH)
        assert ask(session, spec.name.lower(), *words_of(spec)[1:]) == refusing(spec, NOAUTH)
    assert app.engine.appended == new_app().engine.appended
    assert ask(session, "AUTH", "pw") == "OK"
    assert not denied(session, *words_of(spec))


@every_command
def test_e1_wrong_password(spec: Command, figure: Callable[..., None]) -> None:
    figure("E1 commands without auth, with a wrong password, without permission")
    session = new_session(new_app(requirepass="pw"))
    for words in (["pW"], [""], ["default", "pw "], ["nobody", "pw"], ["default", "x" * 1000]):
        assert ask(session, "AUTH", *words) == WRONG
    assert ask(session, "HELLO", 3, "AUTH", "default", "x") == WRONG
    if spec.name not in NO_AUTH:
        assert ask(session, *words_of(spec)) == refusing(spec, NOAUTH)


@every_command
def test_e1_no_permission(spec: Command, figure: Callable[..., None]) -> None:
    figure("E1 commands without auth, with a wrong password, without permission")
    app, operator = shop()
    session = user(app, operator, "~*", "+@all", f"-{spec.name}")
    before = app.engine.appended
    words = words_of(spec)
    if spec.name in NO_AUTH:
        assert not denied(session, *words)
        return
    name = spec.name.lower() + (f"|{words[1].lower()}" if spec.family and len(words) > 1 else "")
    told = f"-NOPERM User ann has no permissions to run the '{name}' command"
    told = refusing(spec, told)
    assert ask(session, *words) == told
    if spec.name != "MULTI":
        assert ask(session, "MULTI") == "OK"
        assert ask(session, *words) == told
        if spec.name != "EXEC":
            assert ask(session, "EXEC").startswith("-EXECABORT")
    assert app.engine.appended == before, "it has changed something"
    assert ask(operator, "ACL", "SETUSER", "ann", f"+{spec.name}") == "OK"
    assert ask(session, "RESET") == "RESET"
    assert ask(session, "AUTH", "ann", "pw") == "OK"
    assert not denied(session, *words), "the change did not reach it"


KEYED = [spec for spec in COMMANDS.values() if spec.keys[0] or spec.places_of(Arg.TABLE, Arg.TABLE_NAME)]


@pytest.mark.parametrize("spec", KEYED, ids=[spec.name for spec in KEYED])
@pytest.mark.parametrize(
    "pattern", ["~concert:*", "~seats:8", "~seats:7x", "%R~concert:*", "~Seats:*", "~seats"]
)
def test_e1_no_permission_for_a_key(spec: Command, pattern: str, figure: Callable[..., None]) -> None:
    figure("E1 commands without permission for a key")
    app, operator = shop()
    session = user(app, operator, pattern, "+@all")
    before = app.engine.appended
    assert ask(session, *words_of(spec)) == NO_KEY
    assert ask(session, "MULTI") == "OK"
    assert ask(session, *words_of(spec)) == NO_KEY
    assert ask(session, "EXEC").startswith("-EXECABORT")
    assert app.engine.appended == before, "it has changed something"
    if pattern == "~concert:*":
        assert ask(session, *words_of(spec, "concert")) != NO_KEY


def test_each_command_says_which_rows_it_touches() -> None:
    """What is judged is what is declared. Those left over ask what their user sees, or count rows at most."""
    touching = [spec for spec in COMMANDS.values() if spec.flags & (Flags.READONLY | Flags.WRITE)]
    silent = {
        spec.name
        for spec in touching
        if not spec.keys[0] and not spec.places_of(Arg.TABLE, Arg.TABLE_NAME, Arg.HOLD)
    }
    assert silent == {"DBSIZE", "KL.TABLES", "SCAN"}
    assert len(touching) > 20


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["7", "007", "seats:7", "{seats}:7", "seats:0007", "{seats}:007"])
def test_a_key_is_judged_by_what_it_means(key: str) -> None:
    app, operator = shop()
    session = user(app, operator, "~seats:7", "+@all")
    assert not denied(session, "KL.SEEK", key)
    assert denied(session, "KL.SEEK", key.replace("7", "8"))
    assert denied(session, "KL.COUNT", "seats", "state", 0), "one row is not the table"
    other = user(app, operator, "~concert:*", "+@all", name="bob")
    assert ask(other, "KL.SEEK", key) == NO_KEY
    assert ask(other, "KL.SEEK", "concert:" + key.rpartition(":")[2]) != NO_KEY


@pytest.mark.parametrize(
    "key", ["", ":", ":7", "x", "seats:", "seats:x", "{seats:7", "a:b:7", "nope:7", "{}:7"]
)
def test_what_is_no_key_tells_nothing(key: str) -> None:
    app, operator = shop()
    session = user(app, operator, "~concert:*", "+@all")
    for _ in range(2):
        assert ask(session, "KL.SEEK", key) == NO_KEY
        assert not denied(session, "KL.SEEK", "concert:7")
    reader = user(app, operator, "%R~:*", "%R~{x}:*", "+@all", name="bob")
    assert ask(reader, "KL.SEEK", ":7").startswith("-ERR unknown table")
    assert ask(reader, "KL.SEEK", "7") == NO_KEY, "a table without a name is not the default one"


def test_a_long_key_is_judged_quickly() -> None:
    app, operator = shop()
    session = user(app, operator, "~*a*b*:[0-9]*", "+@all")
    began = time.process_time()
    for word in (b"a" * 500_000 + b":7", b"7" * 500_000, b":" * 500_000, b"seats:" + b"7" * 500_000):
        assert ask(session, "KL.SEEK", word) == NO_KEY
        assert ask(session, "KL.COUNT", word, "state", 0) == NO_KEY
        assert not denied(session, "KL.RELEASE", word)
    assert time.process_time() - began < 1.0


def test_all_keys_of_a_command_are_judged() -> None:
    app, operator = shop()
    session = user(app, operator, "~seats:*", "+@all")
    assert ask(session, "KL.TRYLOCK", "seats:7", "concert:7") == NO_KEY
    assert ask(session, "KL.TRYLOCK", "concert:7", "seats:7", "PX", "1000") == NO_KEY
    assert ask(session, "KL.UNLOCK", "seats:7", "concert:7", 5) == NO_KEY
    token = ask(session, "KL.TRYLOCK", "seats:7", "PX", 1000, "OWNER", "concert:7")
    assert isinstance(token, int), "an owner is no key"
    assert ask(session, "KL.UNLOCK", "seats:7", token) == 1
    assert ask(session, "WATCH", "seats:7", "concert:7") == NO_KEY


def test_reading_and_writing() -> None:
    app, operator = shop()
    reader = user(app, operator, "%R~seats:*", "+@all")
    assert not denied(reader, "KL.SEEK", "7") and not denied(reader, "KL.COUNT", "seats", "state", 0)
    claim = ("KL.CLAIM", "seats", "state", 0, "SET", "state", 1)
    for words in (("KL.TRYLOCK", "7"), ("KL.INSERT", "8", "state", 0), ("KL.DROP", "seats"), claim):
        assert ask(reader, *words) == NO_KEY
    writer = user(app, operator, "%W~seats:*", "+@all", name="bob")
    assert not denied(writer, "KL.TRYLOCK", "7") and not denied(writer, "KL.INSERT", "8", "state", 0)
    assert ask(writer, "KL.SEEK", "7") == NO_KEY
    assert ask(writer, *claim) == NO_KEY, "what is sold tells what was in the row"
    assert ask(operator, "ACL", "SETUSER", "bob", "%R~seats:*") == "OK"
    assert not denied(writer, *claim)


def test_a_hold_is_judged_by_its_table() -> None:
    app, operator = shop()
    token, *_ = ask(operator, "KL.HOLD", "seats", "state", 0, "PX", 60_000, "FOR", "x")
    session = user(app, operator, "~concert:*", "+@all")
    verbs = [
        ("KL.CONFIRM", token, "SET", "state", 1),
        ("KL.EXTEND", token, "PX", 1000),
        ("KL.RELEASE", token),
        ("KL.RELEASE", f"000{token}"),
    ]
    for words in verbs:
        assert ask(session, *words) == NO_KEY
    for words in verbs:
        unknown = [words[0], token + 1_000_000, *words[2:]]
        wrong = [words[0], "x", *words[2:]]
        assert ask(session, *unknown) == ask(operator, *unknown), "an unknown hold is nobody's"
        assert ask(session, *wrong) == ask(operator, *wrong)
    assert ask(session, "KL.HOLDS", "seats") == NO_KEY
    mine = ask(session, "KL.HOLD", "concert", "state", 0, "PX", 60_000, "FOR", "x", "REPLACING", token)
    assert mine[1] == [7]
    assert len(ask(operator, "KL.HOLDS", "seats")) == 1, "REPLACING lets go within the table only"
    assert ask(session, "KL.CONFIRM", mine[0], "SET", "state", 1) == [7]


def test_tables_that_a_user_may_not_read_are_not_named() -> None:
    app, operator = shop()
    session = user(app, operator, "~concert:*", "+@all")
    assert ask(session, "KL.TABLES") == ["concert"]
    assert ask(operator, "KL.TABLES") == ["concert", "seats"]
    assert ask(session, "KL.INFO", "seats") == ask(session, "KL.INFO", "nope") == NO_KEY
    assert ask(user(app, operator, "%R~*", "+@read", name="bob"), "KL.TABLES") == ["concert", "seats"]


def test_many_heads_of_keys_are_not_remembered_without_end() -> None:
    app, operator = shop()
    session = user(app, operator, "%R~*", "+@all")
    for number in range(1100):
        assert not denied(session, "KL.SEEK", f"table{number}:7")
    view: Any = session._view
    rings = view.guard._rings.values()
    assert all(len(ring.heads) <= 1024 and len(ring.tables) <= 1024 for ring in rings)


# --- users come, change and go ------------------------------------------------------------------------


def test_a_user_s_sessions_follow_at_once() -> None:
    app, operator = shop()
    session = user(app, operator, "~seats:*", "+kl.seek")
    assert denied(session, "KL.TABLES")
    ask(operator, "ACL", "SETUSER", "ann", "+kl.tables")
    assert not denied(session, "KL.TABLES")
    ask(operator, "ACL", "SETUSER", "ann", "+@all", "~*")
    assert not denied(session, "KL.DROP", "nope")
    assert session._view is app.dispatcher.full, "who may do everything pays for nothing"
    ask(operator, "ACL", "SETUSER", "ann", "off", "-@all", ">new")
    assert ask(session, "PING").startswith("-NOPERM"), "it stays, as in Redis, and may do what it may"
    assert ask(new_session(app), "AUTH", "ann", "new") == WRONG


def test_a_user_is_deleted() -> None:
    app, operator = shop()
    one, two = user(app, operator, "~*", "+@all"), login(app, "ann")
    ended: list[Session] = []
    one.line.end = lambda: ended.append(one)
    two.line.end = lambda: ended.append(two)
    data = frame("KL.INSERT", "seats:9", "state", 0)
    assert ask(operator, "ACL", "DELUSER", "ann", "nobody") == 1
    assert ended == [one, two]
    assert received(one, data) == b"" == one.execute([[b"KL.INSERT", b"seats:9", b"state", b"0"]])
    assert ask(operator, "KL.SEEK", "seats:9") is None
    assert ask(operator, "ACL", "USERS") == ["default"]
    assert ask(operator, "ACL", "DELUSER", "default") == "-ERR The 'default' user cannot be removed"


def test_who_deletes_itself_is_told_so_first() -> None:
    app, operator = shop()
    session = user(app, operator, "~*", "+@all")
    queued = frame("MULTI") + frame("ACL", "DELUSER", "ann") + frame("KL.INSERT", "9", "state", 0)
    assert replies(session, queued + frame("EXEC") + frame("PING")) == [
        *("OK", "QUEUED", "QUEUED"),
        [1, NOAUTH],
    ]
    assert session.closing


def test_rules_that_changed_before_exec() -> None:
    app, operator = shop()
    session = user(app, operator, "~*", "+@all")
    assert replies(session, frame("MULTI") + frame("KL.DROP", "seats") + frame("PING"))[-1] == "QUEUED"
    ask(operator, "ACL", "SETUSER", "ann", "-kl.drop")
    assert ask(session, "EXEC") == [
        "-NOPERM User ann has no permissions to run the 'kl.drop' command",
        "PONG",
    ]


def test_a_password_for_the_default_user_while_it_runs() -> None:
    app, operator = shop()
    other = new_session(app)
    ask(operator, "ACL", "SETUSER", "default", "resetpass", ">pw")
    assert ask(other, "PING") == "PONG", "who is in stays in"
    late = new_session(app)
    assert ask(late, "PING") == NOAUTH
    assert ask(late, "AUTH", "pw") == "OK"
    assert ask(late, "PING") == "PONG"
    guest = new_session(app)
    ask(operator, "ACL", "SETUSER", "default", "nopass")
    assert ask(guest, "PING") == "PONG", "no password is needed any more"
    assert ask(operator, "CONFIG", "SET", "requirepass", "again") == "OK"
    assert ask(new_session(app), "PING") == NOAUTH


def test_reset_goes_back_to_the_default_user() -> None:
    app, operator = shop()
    session = user(app, operator, "+acl|whoami")
    assert ask(session, "ACL", "WHOAMI") == "ann"
    assert ask(session, "RESET") == "RESET"
    assert ask(session, "ACL", "WHOAMI") == "default"
    ask(operator, "ACL", "SETUSER", "default", ">pw")
    assert ask(session, "RESET") == "RESET"
    assert ask(session, "ACL", "WHOAMI") == NOAUTH
    assert ask(session, "AUTH", "ann", "pw") == "OK"
    assert ask(session, "ACL", "WHOAMI") == "ann"


def test_a_default_user_that_may_little() -> None:
    app, operator = shop()
    session = new_session(app)
    ask(operator, "ACL", "SETUSER", "default", "-@all", "+ping")
    for one in (session, operator, new_session(app)):
        assert ask(one, "PING") == "PONG"
        assert denied(one, "KL.TABLES")
    ask(login_as_root(app), "ACL", "SETUSER", "default", "off")
    assert ask(new_session(app), "PING") == NOAUTH


def login_as_root(app: App) -> Session:
    session = new_session(app)
    app.access.set_user(b"root", [b"on", b">pw", b"~*", b"+@all"])
    assert ask(session, "AUTH", "root", "pw") == "OK"
    return session


def test_hello_says_who_and_is_told_when_it_does_not() -> None:
    app = new_app(requirepass="pw")
    session = new_session(app)
    told = ask(session, "HELLO", 3, "SETNAME", "x")
    assert told.startswith(
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise the "
    )
    assert ask(session, "HELLO").startswith("-NOAUTH HELLO must be called")
    assert (session.protocol, session.name) == (2, b"")
    hello = ask(session, "HELLO", 3, "AUTH", "default", "pw", "SETNAME", "x")
    assert hello["proto"] == 3
    assert (session.protocol, session.name) == (3, b"x")


def test_auth_while_no_password_is_set() -> None:
    session = new_session(new_app())
    assert ask(session, "AUTH", "x") == (
        "-ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?"
    )
    assert ask(session, "AUTH", "default", "x") == "OK", "as in Redis, any will do"
    assert ask(session, "AUTH", "a", "b", "c") == "-ERR syntax error"


def test_subcommands() -> None:
    app, operator = shop()
    session = user(app, operator, "+config|get", "+client", "-client|list", "+acl|whoami")
    assert ask(session, "CONFIG", "GET", "port") == ["port", "7700"]
    assert ask(session, "config", "set", "port", "1") == (
        "-NOPERM User ann has no permissions to run the 'config|set' command"
    )
    assert ask(session, "CONFIG", "NOPE") == "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP."
    assert ask(session, "CLIENT", "ID") == session.id
    assert "user=ann" in ask(session, "CLIENT", "INFO")
    assert denied(session, "CLIENT", "LIST")
    assert denied(session, "ACL", "SETUSER", "ann", "+@all")
    assert ask(session, "ACL", "WHOAMI") == "ann"
