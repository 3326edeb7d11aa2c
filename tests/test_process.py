"""The server as a process: how it starts, how it stops, what is left when it is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.harness.launch import ROOT, free_port
from klani_resp import __version__
from klani_resp.__main__ import main

if TYPE_CHECKING:
    from bench.harness.launch import Server
    from tests.conftest import Wire

Start = Callable[..., "Server"]
KILLS = 5
WRITERS = 6
SEATS = 3000
SEED = 20261123


def klani(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line tool, run to its end."""
    command = [sys.executable, "-m", "klani_resp", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def make_seats(port: int, rows: int) -> None:
    with redis.Redis(port=port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX", "buyer", "U32")
        with client.pipeline(transaction=False) as pipeline:
            for row in range(rows):
                pipeline.execute_command("KL.INSERT", row, "is_booked", 0)
            pipeline.execute()


def check_sound(directory: Path) -> None:
    assert main(["check", str(directory)]) == 0


@pytest.mark.parametrize(
    ("number", "mode"),
    [
        (signal.SIGTERM, "always"),
        (signal.SIGINT, "always"),
        (signal.SIGTERM, "everysec"),
        (signal.SIGTERM, "no"),
    ],
)
def test_a_signal_ends_it_with_0_and_nothing_is_lost(start: Start, number: signal.Signals, mode: str) -> None:
    running = start(appendfsync=mode)
    make_seats(running.port, 100)
    with redis.Redis(port=running.port, single_connection_client=True) as idle:
        token = idle.execute_command("KL.TRYLOCK", 7)
        idle.execute_command("KL.REPLACE", 7, token, "is_booked", 1)
        assert idle.config_get("appendfsync") == {"appendfsync": mode}
        running.process.send_signal(number)
        assert running.process.wait(timeout=20) == 0
    check_sound(running.directory)
    again = start(appendfsync=mode)
    with redis.Redis(port=again.port) as client:
        assert client.execute_command("KL.INTERSECT", "seats", "is_booked", 1) == [7]
        assert client.execute_command("KL.COUNT", "seats", "is_booked", 0) == 99
        assert client.execute_command("KL.LOCKS", "seats") == []
        assert client.execute_command("KL.VERIFY", "seats", "is_booked", 1)[b"ok"] == 1


def test_what_was_sent_before_the_signal_is_answered(
    start: Start, wire: Callable[..., Wire], request_bytes: Callable[..., bytes]
) -> None:
    running = start()
    make_seats(running.port, 0)
    one = wire(running.port)
    one.send_bytes(b"".join(request_bytes("KL.INSERT", row, "is_booked", 0) for row in range(500)))
    one.expect(b":1\r\n")
    running.process.terminate()
    replies, ended = one.until(b"never")
    assert ended
    assert running.process.wait(timeout=20) == 0
    answered = 1 + replies.count(b":1\r\n")
    assert replies == b":1\r\n" * (answered - 1)
    again = start()
    with redis.Redis(port=again.port) as client:
        assert client.execute_command("KL.COUNT", "seats", "is_booked", 0) >= answered


def test_without_its_sync_process_it_answers_nothing_more_and_ends(start: Start) -> None:
    """That is a failed sync: nobody can say what is on disk. The next start finds all that was answered."""
    running = start()
    make_seats(running.port, 10)
    (child,) = map(int, Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split())
    os.kill(child, signal.SIGKILL)
    with (
        redis.Redis(port=running.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.execute_command("KL.INSERT", "seats:99", "is_booked", 1)
    assert running.process.wait(20) == 1
    check_sound(running.directory)
    again = start()
    with redis.Redis(port=again.port) as client:
        assert client.execute_command("KL.COUNT", "seats", "is_booked", 0) == 10


def test_clients_cannot_take_the_log_s_descriptors(
    start: Start, wire: Callable[..., Wire], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -n 64\nexec {sys.executable} "$@"\n')
    limited.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(limited))
    running = start()
    make_seats(running.port, 10)
    crowd = [wire(running.port) for _ in range(100)]
    answers = [one.ask("PING") for one in crowd]
    assert answers[0] == b"+PONG\r\n"
    assert answers[-1] == b"-ERR max number of clients reached\r\n"
    # A checkpoint opens its files, and the next segment of the log would.
    crowd[0].send("KL.VERIFY", "seats", "is_booked", 0)
    assert crowd[0].until(b"ok\r\n:1\r\n")[1] is False
    for one in crowd:
        one.socket.close()
    assert running.stop() == 0
    assert "connections_max is 32, not 10000" in running.directory.with_name("data.log").read_text()


def test_an_end_that_fails_says_so_and_loses_nothing(start: Start) -> None:
    running = start()
    make_seats(running.port, 10)
    tables = running.directory / "tables"
    tables.rmdir()  # the last checkpoint has nowhere to write its rows to
    assert running.stop() == 1
    last = running.directory.with_name("data.log").read_text().splitlines()[-1]
    assert last.startswith("klani-resp: the store cannot be written any more")
    assert "tables" in last
    tables.mkdir()
    with redis.Redis(port=start().port) as client:
        assert client.execute_command("KL.COUNT", "seats", "is_booked", 0) == 10


def test_one_server_at_a_time_uses_a_directory(start: Start) -> None:
    running = start()
    make_seats(running.port, 10)
    second = klani("--port", str(free_port()), "--dir", running.directory)
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    assert str(running.directory) in second.stderr.splitlines()[-1]
    assert klani("check", running.directory).returncode == 2
    with redis.Redis(port=running.port) as client:
        assert client.execute_command("KL.COUNT", "seats", "is_booked", 0) == 10


def test_a_port_in_use_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    running = start()
    second = klani("--port", str(running.port), "--dir", tmp_path / "other")
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    assert str(running.port) in second.stderr.splitlines()[-1]


def test_an_empty_directory_is_a_new_store(start: Start, tmp_path: Path) -> None:
    empty = tmp_path / "data"
    empty.mkdir()
    running = start(directory=empty)
    with redis.Redis(port=running.port) as client:
        assert client.execute_command("KL.TABLES") == []
        assert client.dbsize() == 0
    assert running.stop() == 0
    done = klani("check", empty)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "sound")
    assert main(["check", str(tmp_path)]) == 2
    assert main(["check", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize("name", ["CHECKPOINT", "doublewrite", "tables/1.rows", "wal/*"])
def test_what_check_cannot_read_is_one_line_and_status_2(start: Start, name: str) -> None:
    running = start()
    make_seats(running.port, 10)
    assert running.stop() == 0
    check_sound(running.directory)
    (path,) = running.directory.glob(name)
    path.unlink()
    path.mkdir()
    done = klani("check", running.directory)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert str(running.directory / name.removesuffix("/*")) in done.stderr
    assert "sound" not in done.stdout


def test_check_finds_a_missing_log(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    running = start()
    make_seats(running.port, 10)
    assert running.stop() == 0
    shutil.rmtree(running.directory / "wal")
    assert main(["check", str(running.directory)]) == 1
    assert "wal: the log is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 7700", "prot"),
        ('appendfsync = "sometimes"', "appendfsync"),
        ("port = 70000", "port"),
        ('port = "7700"', "port"),
        ("port = ", "config.toml"),
        ('default-table = "x"', "default-table"),
        ('default_table = "1"', "default_table"),
        ("lease_ms = 0", "lease_ms"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text + "\n")
    assert main(["--config", str(config), "--dir", str(tmp_path / "data")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"klani-resp: {config}: ")
    assert named in line
    assert not (tmp_path / "data").exists()


def test_options_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    for options in (
        ("--prot", "1"),
        ("--appendfsync", "x"),
        ("--port", "x"),
        ("--config", tmp_path / "nowhere"),
    ):
        done = klani(*options)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert "--appendfsync" in klani("--help").stdout
    told = klani("--version")
    assert (told.stdout, told.returncode) == (f"klani-resp {__version__}\n", 0)


def test_the_command_line_wins_over_the_file(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('port = 1\ndir = "nowhere"\ndefault_table = "rooms"\nlease_ms = 1234\n')
    running = start("--config", str(config))
    with redis.Redis(port=running.port) as client:
        client.execute_command("KL.CREATE", "rooms", "SCHEMA", "x", "U8")
        client.execute_command("KL.INSERT", 1, "x", 5)
        assert client.execute_command("KL.SEEK", "rooms:1") == {b"x": 5}
        client.execute_command("KL.TRYLOCK", 1)
        assert client.execute_command("KL.LOCKS", "rooms")[0][3] <= 1234


def test_a_unix_socket_serves_too_and_is_gone_after_the_end(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "klani.sock"
    running = start(unixsocket=path)
    with redis.Redis(unix_socket_path=str(path)) as near, redis.Redis(port=running.port) as far:
        near.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U8")
        assert near.execute_command("KL.INSERT", 1, "x", 1) == 1
        assert far.execute_command("KL.SEEK", 1) == {b"x": 1}
        told = [one for one in far.client_list() if "U" in one["flags"]]
        assert [(one["addr"], one["laddr"]) for one in told] == [(f"{path}:0", f"{path}:0")], "as in Redis"
        with far.monitor() as monitor:
            near.ping()
            seen = monitor.next_command()
        assert (seen["client_type"], seen["command"]) == ("unix", "PING")
        assert far.client_kill(f"{path}:0")
    assert running.stop() == 0
    assert not path.exists()
    running = start(unixsocket=path)
    running.process.kill()
    running.process.wait()
    assert path.exists()
    again = start(unixsocket=path)
    with redis.Redis(unix_socket_path=str(path)) as near:
        assert near.execute_command("KL.SEEK", 1) == {b"x": 1}
    assert again.stop() == 0


def test_a_socket_that_another_server_put_in_its_place_stays(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "klani.sock"
    first = start(unixsocket=path)
    path.unlink()
    start(directory=tmp_path / "other", unixsocket=path)
    assert first.stop() == 0
    with redis.Redis(unix_socket_path=str(path)) as near:
        assert near.ping()


# --- killed under load --------------------------------------------------------------------------------


def sell_until_killed(port: int, writer: int, barrier: Barrier, sold: dict[int, int]) -> None:
    """Sells this writer's seats one by one; `sold` has what was answered."""
    with redis.Redis(port=port, single_connection_client=True, retry=Retry(NoBackoff(), 0)) as client:
        free = client.execute_command("KL.INTERSECT", "seats", "is_booked", 0, "LIMIT", 0)
        barrier.wait()
        try:
            for seat in free[writer::WRITERS]:
                token = client.execute_command("KL.TRYLOCK", seat)
                client.execute_command(
                    "KL.REPLACE", seat, token, "is_booked", 1, "buyer", seat + writer, "UNLOCK"
                )
                sold[seat] = seat + writer
        except (redis.ConnectionError, redis.TimeoutError):
            return


def kill_under_load(running: Server, source: random.Random) -> dict[int, int]:
    """Kills the server when a number of sales has been answered; all that were."""
    enough = source.randrange(20, 200)
    books: list[dict[int, int]] = [{} for _ in range(WRITERS)]
    barrier = Barrier(WRITERS + 1)
    threads = [
        Thread(target=sell_until_killed, args=(running.port, writer, barrier, books[writer]))
        for writer in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    barrier.wait()
    with redis.Redis(port=running.port) as watcher:
        while sum(map(len, books)) < enough and any(thread.is_alive() for thread in threads):
            watcher.ping()
    running.process.kill()
    running.process.wait()
    for thread in threads:
        thread.join()
    return {seat: buyer for book in books for seat, buyer in book.items()}


@pytest.mark.parametrize("mode", ["always", "everysec", "no"])
def test_a_kill_under_load_loses_no_answered_sale(start: Start, mode: str) -> None:
    """A killed process loses nothing that was answered, in any mode: the kernel has it."""
    print(f"seed {SEED}")
    source = random.Random(SEED)
    options: dict[str, Any] = {"appendfsync": mode}
    running = start("--checkpoint-bytes", "20000", **options)
    make_seats(running.port, SEATS)
    sold: dict[int, int] = {}
    for _ in range(KILLS if mode == "always" else 2):
        sold |= kill_under_load(running, source)
        check_sound(running.directory)
        running = start("--checkpoint-bytes", "20000", **options)
        with redis.Redis(port=running.port) as client:
            ids = client.execute_command("KL.INTERSECT", "seats", "is_booked", 1, "LIMIT", 0)
            assert set(sold) <= set(ids)
            with client.pipeline(transaction=False) as pipeline:
                for seat in sold:
                    pipeline.execute_command("KL.SEEK", seat, "is_booked", "buyer")
                rows = pipeline.execute()
            assert rows == [{b"is_booked": 1, b"buyer": buyer} for buyer in sold.values()]
            verdict = client.execute_command("KL.VERIFY", "seats", "is_booked", 1)
            assert (verdict[b"rows"], verdict[b"matched"], verdict[b"ok"]) == (SEATS, len(ids), 1)
    assert len(sold) >= 20
