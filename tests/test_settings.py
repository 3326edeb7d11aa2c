"""CONFIG GET, SET, REWRITE, RESETSTAT: settings of a server that runs."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis

from commands.spec import CommandError
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.rewrite import rewritten
from klani_resp.sessions.session import Session
from klani_resp.settings import DECLARED, FIXED, Refused, Settings, Unfit
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.in_memory import new_session
from tests.store import open_store

if TYPE_CHECKING:
    from bench.harness.launch import Server

FAILED = "CONFIG SET failed (possibly related to argument '{}') - {}"


def ask(session: Session, *words: str) -> str:
    return session.receive(frame(*words)).decode()


def got(session: Session, *patterns: str) -> dict[str, str]:
    words = ask(session, "CONFIG", "GET", *patterns).split("\r\n")[2::2]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_every_line_of_config_is_shown_under_all_its_names(app: App, session: Session) -> None:
    shown = got(session, "*")
    for name, value in msgspec.structs.asdict(app.config).items():
        told = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).removesuffix(".0")
        assert shown[name] == shown[name.replace("_", "-")] == (told if value != () else "")
    assert shown["maxclients"] == shown["connections_max"] == "10000"
    assert set(shown) == {*DECLARED, *FIXED}


def test_what_has_one_answer_here_is_told_as_redis_tells_it(session: Session) -> None:
    assert got(session, "notify-*", "client-output-*") == {
        "notify-keyspace-events": "",
        "client-output-buffer-limit": "normal 67108864 0 0 slave 0 0 0 pubsub 0 0 0",
    }
    assert ask(session, "CONFIG", "SET", "output_bytes_max", "1mb") == "+OK\r\n"
    assert got(session, "client-output-*")["client-output-buffer-limit"].startswith("normal 1048576 0 0 ")


def test_patterns(session: Session) -> None:
    assert got(session, "MAXCLIENTS", "lease-*") == {"maxclients": "10000", "lease-ms": "10000"}
    assert got(session, "nothing*") == {}
    assert got(session, "[^a-s]imeout") == got(session, "timeout") != {}
    assert got(session, "[!t]imeout") == got(session, "timeout"), "`!` negates nothing in Redis"


@pytest.mark.parametrize(
    ("name", "text", "ours", "value"),
    [
        ("lease_ms", "7", "lease_ms", 7),
        ("LEASE-MS", "86400000", "lease_ms", 86_400_000),
        ("maxclients", "12", "connections_max", 12),
        ("proto-max-bulk-len", "2mb", "bulk_bytes_max", 2 << 20),
        ("checkpoint_bytes", "3k", "checkpoint_bytes", 3000),
        ("history-keep-days", "0.5", "history_keep_days", 0.5),
        ("drain_seconds_max", "3", "drain_seconds_max", 3.0),
        ("loglevel", "WARNING", "loglevel", "warning"),
    ],
)
def test_set(app: App, session: Session, name: str, text: str, ours: str, value: Any) -> None:
    assert ask(session, "CONFIG", "SET", name, text) == "+OK\r\n"
    assert getattr(app.config, ours) == value
    assert got(session, ours) == {ours: str(value).removesuffix(".0")}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nope", "1"), "Unknown option or number of arguments for CONFIG SET - 'nope'"),
        (("lease_ms", "9", "nope", "1"), "Unknown option or number of arguments for CONFIG SET - 'nope'"),
        (("lease_ms", "9", "port"), "syntax error"),
        (("lease_ms", "9", "port", "1"), FAILED.format("port", "can't set immutable config")),
        (("appendonly", "no"), FAILED.format("appendonly", "can't set immutable config")),
        (("lease_ms", "9", "lease-ms", "8"), FAILED.format("lease-ms", "duplicate parameter")),
        (("lease-ms", "x"), FAILED.format("lease-ms", "argument couldn't be parsed into an integer")),
        (("lease-ms", "01"), FAILED.format("lease-ms", "argument couldn't be parsed into an integer")),
        (("lease-ms", "0"), FAILED.format("lease-ms", "argument must be between 1 and 86400000 inclusive")),
        (("checkpoint_bytes", "1x"), FAILED.format("checkpoint_bytes", "argument must be a memory value")),
        (("checkpoint_bytes", "-1"), FAILED.format("checkpoint_bytes", "argument must be a memory value")),
        (
            ("maxclients", "0"),
            FAILED.format("maxclients", f"argument must be between 1 and {2**32 - 1} inclusive"),
        ),
        (
            ("loglevel", "loud"),
            FAILED.format(
                "loglevel", "argument(s) must be one of the following: debug, verbose, notice, warning"
            ),
        ),
        (
            ("drain_seconds_max", "nan"),
            FAILED.format("drain_seconds_max", "argument couldn't be parsed into a number"),
        ),
        (
            ("history_keep_days", "-1"),
            FAILED.format("history_keep_days", "argument must be between 0 and 36500 inclusive"),
        ),
    ],
)
def test_what_is_refused_changes_nothing(
    app: App, session: Session, words: tuple[str, ...], text: str
) -> None:
    before = msgspec.structs.asdict(app.config)
    assert ask(session, "CONFIG", "SET", *words) == f"-ERR {text}\r\n"
    assert msgspec.structs.asdict(app.config) == before


def test_whoever_may_refuse_is_asked_before_anything_is_changed() -> None:
    config = Config()
    settings = Settings(config)
    seen: list[int] = []

    def asked(wanted: Config) -> None:
        assert config.lease_ms == 10_000
        if wanted.connections_max > 20:
            raise Unfit("connections_max", "too many")

    settings.tell_last(lambda config: seen.append(-config.lease_ms))
    settings.tell(lambda config: seen.append(config.lease_ms))
    settings.ask(asked)
    with pytest.raises(Refused, match=r"argument 'maxclients'\) - too many"):
        settings.change([("lease_ms", "5"), ("maxclients", "30")])
    assert (config.lease_ms, config.connections_max) == (10_000, 10_000)
    assert seen == []
    settings.change([("lease_ms", "5"), ("maxclients", "20")])
    assert seen == [5, -5]


def test_the_engine_is_told(app: App, session: Session) -> None:
    pairs = ["lease_ms", "5", "remembered_bytes_max", "0", "remembered_hours", "2", "checkpoint_bytes", "9"]
    assert ask(session, "CONFIG", "SET", *pairs) == "+OK\r\n"
    engine = app.engine
    assert (engine.options.lease_ms, engine.options.checkpoint_bytes) == (5, 9)
    assert engine.options.segment_bytes == 4096, "as it was opened"
    assert not engine.selling.memory.has_room
    assert engine.selling.memory.keep_ns == 7_200_000_000_000


def test_a_store_that_loads_hears_of_it_when_it_is_there() -> None:
    app = App(Config())
    session = new_session(app)
    assert ask(session, "CONFIG", "SET", "lease_ms", "5") == "+OK\r\n"
    engine, _ = open_store(FakeDisk())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    assert app.engine.options.lease_ms == 5


def test_parsers_are_told(app: App, session: Session) -> None:
    other = new_session(app)
    assert ask(session, "CONFIG", "SET", "arguments_max", "64") == "+OK\r\n"
    for one in (other, new_session(app)):
        assert ask(one, "PING", *["a"] * 63).startswith("-ERR wrong number")
        assert ask(one, "PING", *["a"] * 64) == "-ERR Protocol error: invalid multibulk length\r\n"


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("proto-max-bulk-len", 64 << 10),
        ("client-query-buffer-limit", 64 << 10),
        ("output_bytes_max", 64 << 10),
        ("arguments_max", 64),
    ],
)
def test_nobody_is_locked_out_for_good(session: Session, name: str, least: int) -> None:
    before = got(session, name)
    for text in ("1", str(least - 1)):
        refusal = ask(session, "CONFIG", "SET", name, text)
        assert refusal.startswith(
            "-" + f"ERR {FAILED.format(name, f'argument must be between {least} and ')}"
        )
    assert got(session, name) == before
    assert ask(session, "CONFIG", "SET", name, str(least)) == "+OK\r\n"
    assert ask(session, "CONFIG", "SET", name, before[name]) == "+OK\r\n", "there is a way back"


def test_a_server_serves_with_the_most_of_everything(start: Callable[..., Server], tmp_path: Path) -> None:
    static = ("receive_bytes_max", "busy_ms_max", "listen_backlog_connections", "onlooker_request_bytes_max")
    path = tmp_path / "klani.toml"
    path.write_text("".join(f"{name} = {DECLARED[name].high}\n" for name in static))
    running = start(f"--config={path}")
    with redis.Redis(port=running.port) as client:
        for setting in DECLARED.values():
            if setting.is_live and setting.high is not None and setting.name != "connections_max":
                assert client.config_set(setting.name, int(setting.high)), setting.name
                with redis.Redis(port=running.port) as other:
                    assert other.ping() and other.echo("x" * 100_000)
    running.process.terminate()
    assert running.process.wait(20) == 0


def test_a_log_level(app: App, session: Session, start: Callable[..., Server]) -> None:
    running = start()
    with redis.Redis(port=running.port) as client:
        assert client.config_set("loglevel", "warning")
        with pytest.raises(redis.ResponseError, match="not able to handle the specified number of clients"):
            client.config_set("maxclients", 2**32 - 1)
        assert client.config_get("maxclients", "loglevel") == {"maxclients": "10000", "loglevel": "warning"}
    running.process.terminate()
    assert running.process.wait(20) == 0
    assert "received SIGTERM" not in running.directory.with_name("data.log").read_text()
    assert logging.getLogger("klani_resp").level != logging.WARNING, "that was the other process"


def test_the_longest_command_of_the_contract_fits(session: Session) -> None:
    fields = [word for number in range(64) for word in (f"f{number}", "1")]
    words = ["KL.CLAIM", "t", *fields, "SET", *fields, "IDS", "1000", *map(str, range(1000))]
    words += ["FOR", "ann", "MAX", "9", "REQUEST", "r"]
    assert ask(session, *words) == "-ERR unknown table 't'\r\n"


# --- REWRITE and RESETSTAT ----------------------------------------------------------------------------

FILE = """\
# the hall's server
lease_ms = 10_000  # as the shop has it
dir = "data # not a comment" # a comment
  backup_dir='b'

[nothing]
"""


def test_a_rewritten_file_keeps_what_a_person_wrote() -> None:
    text = FILE.replace("\n[nothing]\n", "")
    values = msgspec.structs.asdict(Config(lease_ms=5, dir='a"#\\b', backup_dir="b", bulk_bytes_max=7))
    outcome = rewritten(text, values)
    assert outcome == (
        "# the hall's server\n"
        "lease_ms = 5  # as the shop has it\n"
        'dir = "a\\"#\\\\b" # a comment\n'
        "  backup_dir='b'\n"
        "bulk_bytes_max = 7\n"
    )
    assert rewritten(outcome, values) == outcome


USERS = """\
users = [  # of the hall
    "ann on nopass ~x[ab] +@all",  # ] is no end
    'bob off',
]  # end
port = 7
"""


def test_a_list_is_rewritten_whole() -> None:
    values = msgspec.structs.asdict(Config(port=7, users=("ann off", 'eve on >\x7f\u2028\u0085 ~"')))
    outcome = rewritten(USERS, values)
    assert outcome == ('users = [\n    "ann off",\n    "eve on >\\u007f\u2028\u0085 ~\\"",\n]\nport = 7\n')
    assert rewritten(outcome, values) == outcome
    assert rewritten(outcome, msgspec.structs.asdict(Config(port=7))) == "users = []\nport = 7\n"
    one_line = rewritten("users = ['x']  # gone\n", msgspec.structs.asdict(Config(users=("y",))))
    assert one_line == 'users = [\n    "y",\n]\n'


@pytest.mark.parametrize(
    "char", ["\u2028", "\x85", "\x0b", "\x1c", "\x7f", "\0", "\r", "\n", '"', "\\", "\U0001f600"]
)
def test_any_character_is_written_and_written_again(char: str) -> None:
    values = msgspec.structs.asdict(Config(requirepass=f"a{char}b"))
    outcome = rewritten("port = 7\n", values | {"port": 7})
    assert tomllib.loads(outcome)["requirepass"] == f"a{char}b"
    assert rewritten(outcome, values | {"port": 8}) == outcome.replace("7", "8", 1)


def test_a_file_that_is_not_understood_is_left_alone() -> None:
    with pytest.raises(CommandError, match="its form is not understood"):
        rewritten('dir = """\na"""\n', msgspec.structs.asdict(Config(dir="b")))
    with pytest.raises(CommandError, match="its form is not understood"):
        rewritten("[nothing]\n", msgspec.structs.asdict(Config(dir="b")))


def test_rewrite(start: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "klani.toml"
    path.write_text("lease_ms = 7  # short\n")
    path.chmod(0o640)
    running = start(f"--config={path}")
    with redis.Redis(port=running.port) as client:
        client.config_set("lease-ms", 9)
        assert client.execute_command("CONFIG", "REWRITE") == b"OK"
        written = path.read_text()
        assert written.startswith("lease_ms = 9  # short\n")
        assert tomllib.loads(written)["port"] == running.port, "as Redis: what argv said, too"
        assert path.stat().st_mode & 0o777 == 0o640
        assert list(tmp_path.glob("*.tmp")) == []
        path.write_text("lease_ms =")
        with pytest.raises(redis.ResponseError, match="Rewriting config file: Invalid value"):
            client.config_rewrite()
        path.unlink()
        with pytest.raises(redis.ResponseError, match="Rewriting config file: No such file or directory"):
            client.config_rewrite()


def test_rewrite_without_a_file(session: Session) -> None:
    refusal = "-ERR The server is running without a config file\r\n"
    assert ask(session, "CONFIG", "REWRITE") == refusal


def test_counters_begin_again(app: App, session: Session) -> None:
    other = new_session(app)
    ask(other, "PING")
    ask(other, "NOPE")
    assert ask(session, "CONFIG", "RESETSTAT") == "+OK\r\n"
    assert app.dispatcher.statistics.errors == {}
    stats = app.facts.sections()["Stats"]()
    assert (stats["total_commands_processed"], stats["total_connections_received"]) == (0, 0)
    app.close_session(other)
    assert app.facts.sections()["Stats"]()["total_commands_processed"] == 0
    ask(session, "PING")
    assert app.facts.sections()["Stats"]()["total_commands_processed"] == 1


def test_help_names_all(session: Session) -> None:
    told = ask(session, "CONFIG", "HELP")
    assert all(f"\r\n+{name}" in told for name in ("GET", "SET", "REWRITE", "RESETSTAT"))
