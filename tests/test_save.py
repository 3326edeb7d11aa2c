"""SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE and SHUTDOWN: a server's checkpoints and its end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import redis

from klani_resp.__main__ import main
from klani_resp.app import App
from klani_resp.sessions.session import Session
from tests.conftest import frame

if TYPE_CHECKING:
    from bench.harness.launch import Server
    from tests.conftest import Wire

Client = Any  # redis-py does not type execute_command
Start = Callable[..., "Server"]


def ask(session: Session, *words: str) -> str:
    return session.receive(frame(*words)).decode()


def saved(session: Session) -> str:
    """SAVE, with its job carried out here and now."""
    assert ask(session, "SAVE") == ""
    job = session.job
    assert job is not None and job.start is not None
    job.start()
    session._context.engine.wal.commit()
    return session.finish_job(job.run()).decode()


def test_save_makes_a_checkpoint(app: App, session: Session) -> None:
    ask(session, "KL.CREATE", "seats", "SCHEMA", "x", "U32")
    before = time.time()
    facts = app.facts.sections()["Persistence"]()
    assert facts["rdb_changes_since_last_save"] == app.engine.appended > 0
    assert saved(session) == "+OK\r\n"
    assert app.engine.checkpoint_position == app.engine.appended
    facts = app.facts.sections()["Persistence"]()
    assert (facts["rdb_changes_since_last_save"], facts["rdb_saves"]) == (0, 1)
    assert facts["rdb_last_bgsave_status"] == "ok"
    last = int(ask(session, "LASTSAVE")[1:])
    assert int(before) <= last <= time.time()
    assert facts["rdb_last_save_time"] == last
    assert saved(session) == "+OK\r\n", "and again, with nothing new"


def test_a_full_disk_is_said(app: App, session: Session) -> None:
    app.engine.disk_full(OSError(28, ""))
    for words in (("SAVE",), ("BGSAVE",), ("BGSAVE", "SCHEDULE"), ("BGREWRITEAOF",)):
        assert ask(session, *words).startswith("-MISCONF ")
    assert not app.control.is_saving


def test_bgsave_asks_for_one(app: App, session: Session) -> None:
    assert app.is_checkpoint_wanted is False
    assert ask(session, "BGSAVE") == "+Background saving started\r\n"
    assert app.control.is_save_wanted
    assert ask(session, "BGSAVE") == "-ERR Background save already in progress\r\n"
    assert ask(session, "bgsave", "schedule") == "+Background saving scheduled\r\n"
    assert ask(session, "BGREWRITEAOF") == "+Background append only file rewriting scheduled\r\n"
    for words in (("NOW",), ("SCHEDULE", "SCHEDULE")):
        assert ask(session, "BGSAVE", *words) == "-ERR syntax error\r\n"
    app.control.is_save_wanted = False
    assert ask(session, "MULTI") + ask(session, "BGSAVE") == "+OK\r\n+QUEUED\r\n"
    assert ask(session, "EXEC") == "*1\r\n+Background saving started\r\n"
    app.control.is_save_wanted = False
    assert ask(session, "BGREWRITEAOF") == "+Background append only file rewriting started\r\n"


def checkpoints(client: Client) -> tuple[int, int]:
    facts = client.info("persistence")
    return facts["checkpoints"], facts["checkpoint_position"]


def test_a_server_saves_and_remembers_when(start: Start) -> None:
    running = start()
    with redis.Redis(port=running.port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U32")
        assert client.save() is True
        assert checkpoints(client)[0] == 1
        client.execute_command("KL.INSERT", 1, "x", 1)
        assert client.bgsave() is True
        deadline = time.monotonic() + 20
        while checkpoints(client)[0] < 2:
            assert time.monotonic() < deadline
        last = client.lastsave()
        assert client.info("persistence")["rdb_last_save_time"] == last.timestamp()
    running.process.kill()
    running.process.wait()
    again = start()
    with redis.Redis(port=again.port) as client:
        assert abs((client.lastsave() - last).total_seconds()) <= 1, "a start is no checkpoint"


@pytest.mark.parametrize(
    "words",
    [
        ("NEVER",),
        ("SAVE", "NOSAVE"),
        ("ABORT", "NOW"),
        ("ABORT", "NOSAVE"),
    ],
)
def test_shutdown_s_words(session: Session, words: tuple[str, ...]) -> None:
    assert ask(session, "SHUTDOWN", *words) == "-ERR syntax error\r\n"


def test_abort_finds_nothing(app: App, session: Session) -> None:
    stopped: list[bool] = []
    app.control.stop = lambda: stopped.append(True)
    assert ask(session, "SHUTDOWN", "ABORT") == "-ERR No shutdown in progress.\r\n"
    assert ask(session, "MULTI") == "+OK\r\n"
    assert ask(session, "SHUTDOWN") == "-ERR Command not allowed inside a transaction\r\n"
    assert not stopped


@pytest.mark.parametrize("words", [(), ("NOSAVE",), ("SAVE", "NOW", "FORCE")])
def test_shutdown_ends_it_with_0_and_nothing_is_lost(
    start: Start, wire: Callable[..., Wire], words: tuple[str, ...]
) -> None:
    running = start()
    one, other = wire(running.port), wire(running.port)
    assert other.ask("KL.CREATE", "seats", "SCHEMA", "x", "U32", "INDEX") == b"+OK\r\n"
    one.send_bytes(frame("KL.INSERT", 1, "x", 7) + frame("SHUTDOWN", *words) + frame("PING"))
    assert one.until(b"never") == (b":1\r\n", True)
    assert other.until(b"never") == (b"", True)
    assert running.process.wait(20) == 0
    assert main(["check", str(running.directory)]) == 0
    again = start()
    with redis.Redis(port=again.port) as client:
        assert client.execute_command("KL.INTERSECT", "seats", "x", 7) == [1]


def test_redis_py_shuts_down(start: Start) -> None:
    running = start()
    with redis.Redis(port=running.port) as client:
        client.shutdown(nosave=True)
    assert running.process.wait(20) == 0


def test_redis_cli_shuts_down(start: Start, need: Callable[[str], str]) -> None:
    running = start()
    done = subprocess.run(
        [need("redis-cli"), "-p", str(running.port), "SHUTDOWN"], capture_output=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert running.process.wait(20) == 0
