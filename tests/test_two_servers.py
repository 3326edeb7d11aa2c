"""A9: two servers and one directory; one that was stopped and comes back. See docs/fault-model.md.

KLANI_PROOF=long does each ten times.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from bench.harness.launch import free_port
from klani_resp.__main__ import main
from tests.proof import scaled
from tests.zygote import until

if TYPE_CHECKING:
    from bench.harness.launch import Server

Start = Callable[..., "Server"]
ROUNDS = scaled(1, 10)
AT_ONCE_SECONDS_MAX = 5.0  # with the interpreter's start; there is no wait in it

pytestmark = [pytest.mark.proof, pytest.mark.usefixtures("counted")]
each_round = pytest.mark.parametrize("round_", range(ROUNDS))


@pytest.fixture
def counted(figure: Callable[[str, int], None]) -> None:
    figure("A9 meetings of two servers", 1)


def sell(port: int, seat: int, buyer: int) -> int:
    with redis.Redis(port=port) as client:
        token: int = client.execute_command("KL.TRYLOCK", seat)
        reply = client.execute_command("KL.REPLACE", seat, token, "buyer", buyer, "UNLOCK")
        assert reply in (b"OK", "OK")
        return token


def buyers(port: int) -> dict[int, int]:
    with redis.Redis(port=port, protocol=3) as client:
        rows = client.execute_command("KL.SCAN", "seats", 0, "COUNT", 1000)[1]
        return {seat: values[b"buyer"] for seat, values in rows if values[b"buyer"]}


def make_seats(port: int) -> None:
    with redis.Redis(port=port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "buyer", "U32", "INDEX")
        for seat in range(20):
            client.execute_command("KL.INSERT", seat, "buyer", 0)


def refused(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A server that is started there says so in one line, and ends at once."""
    began = time.monotonic()
    assert main(["--port", str(free_port()), "--dir", str(directory)]) == 1
    assert time.monotonic() - began < AT_ONCE_SECONDS_MAX
    assert f"{directory} is in use by another klani-resp server" in capfd.readouterr().err.splitlines()[-1]


def is_stopped(server: Server) -> bool:
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stop(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(server), "SIGSTOP")


@each_round
def test_the_second_is_refused_while_the_first_serves_and_while_it_is_stopped(
    start: Start, capfd: pytest.CaptureFixture[str], round_: int
) -> None:
    first = start()
    make_seats(first.port)
    refused(first.directory, capfd)
    sell(first.port, 1, 11)
    stop(first)
    refused(first.directory, capfd)
    assert main(["check", str(first.directory)]) == 2
    first.process.send_signal(signal.SIGCONT)
    sell(first.port, 2, 22)
    assert buyers(first.port) == {1: 11, 2: 22}
    assert first.stop() == 0
    assert main(["check", str(first.directory)]) == 0


@each_round
def test_a_stopped_one_that_is_killed_gives_the_directory_free(
    start: Start, capfd: pytest.CaptureFixture[str], round_: int
) -> None:
    first = start()
    make_seats(first.port)
    sell(first.port, 1, 11)
    stop(first)
    refused(first.directory, capfd)
    first.process.kill()
    first.process.wait()
    second = start()
    assert buyers(second.port) == {1: 11}
    sell(second.port, 2, 22)


@each_round
def test_one_whose_lock_file_was_removed_ends_at_its_next_checkpoint(start: Start, round_: int) -> None:
    """The one thing that an operator must not do. The second's store stays whole; what the first answers
    between its coming back and its next checkpoint is lost, and its tokens are given out twice."""
    first = start()
    make_seats(first.port)
    before = sell(first.port, 1, 11)
    stop(first)
    (first.directory / "LOCK").unlink()
    second = start()
    assert sell(second.port, 2, 22) > before
    first.process.send_signal(signal.SIGCONT)
    sell(first.port, 3, 33)  # it does not know, and answers
    assert buyers(first.port) == {1: 11, 3: 33}
    assert buyers(second.port) == {1: 11, 2: 22}
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    with redis.Redis(port=first.port, retry=once) as client, pytest.raises(redis.ConnectionError):
        client.execute_command("KL.VERIFY", "seats", "buyer", 33)  # makes a checkpoint
    assert first.process.wait(20) == 1
    sell(second.port, 4, 44)
    assert buyers(second.port) == {1: 11, 2: 22, 4: 44}
    with redis.Redis(port=second.port, protocol=3) as client:
        assert client.execute_command("KL.VERIFY", "seats", "buyer", 0)[b"ok"] == 1
    second.process.kill()
    second.process.wait()
    assert main(["check", str(second.directory)]) == 0
    assert buyers(start().port) == {1: 11, 2: 22, 4: 44}


@each_round
def test_a_directory_that_is_moved_takes_its_lock_with_it(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str], round_: int
) -> None:
    """What is answered after the move is in the log that moved; the next checkpoint ends the server."""
    first = start()
    make_seats(first.port)
    moved = tmp_path / "moved"
    first.directory.rename(moved)
    refused(moved, capfd)
    sell(first.port, 1, 11)
    first.process.terminate()
    assert first.process.wait(20) == 1, "its last checkpoint has no place any more"
    assert main(["check", str(moved)]) == 0
    assert buyers(start(directory=moved).port) == {1: 11}


@each_round
def test_a_copy_is_a_store_of_its_own_though_the_first_lives(
    start: Start, tmp_path: Path, round_: int
) -> None:
    """A copy of a stopped server's files: its lock is another file's. Each goes its own way, unharmed."""
    first = start()
    make_seats(first.port)
    sell(first.port, 1, 11)
    stop(first)
    shutil.copytree(first.directory, tmp_path / "copy")
    first.process.send_signal(signal.SIGCONT)
    second = start(directory=tmp_path / "copy")
    sell(second.port, 2, 22)
    sell(first.port, 3, 33)
    assert (buyers(first.port), buyers(second.port)) == ({1: 11, 3: 33}, {1: 11, 2: 22})
    for one in (first, second):
        assert one.stop() == 0
        assert main(["check", str(one.directory)]) == 0
