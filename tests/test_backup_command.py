"""KL.BACKUP of a real server: its answers, and a server that starts on what it made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from klani_resp.__main__ import main

if TYPE_CHECKING:
    from bench.harness.launch import Server

Start = Callable[..., "Server"]
SEATS = 2000


@pytest.fixture
def served(start: Start, tmp_path: Path) -> Server:
    """A server with seats that makes backups."""
    running = start("--backup-dir", str(tmp_path / "backups"))
    with redis.Redis(port=running.port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "state", "U8", "INDEX", "buyer", "U32")
        with client.pipeline(transaction=False) as pipeline:
            for seat in range(SEATS):
                pipeline.execute_command("KL.INSERT", seat, "state", 0)
            pipeline.execute()
    return running


def sell(client: Any, seat: int, buyer: int) -> None:
    token = client.execute_command("KL.TRYLOCK", seat)
    client.execute_command("KL.REPLACE", seat, token, "state", 1, "buyer", buyer, "UNLOCK")


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_server_starts_on_the_copy(served: Server, start: Start, tmp_path: Path, protocol: int) -> None:
    with redis.Redis(port=served.port, protocol=protocol) as client:
        sell(client, 7, 70)
        answer = client.execute_command("KL.BACKUP", "monday")
        sell(client, 8, 80)
        assert answer == str(tmp_path / "backups" / "monday").encode()
        last = client.execute_command("KL.TRYLOCK", 1)
    assert main(["check", answer.decode()]) == 0
    copy = start(directory=tmp_path / "backups" / "monday")
    with redis.Redis(port=copy.port) as client:
        assert client.execute_command("KL.INTERSECT", "seats", "state", 1) == [7]
        assert client.execute_command("KL.COUNT", "seats", "state", 0) == SEATS - 1
        assert client.execute_command("KL.SEEK", 7, "buyer") == {b"buyer": 70} or protocol == 2
        assert client.execute_command("KL.TRYLOCK", 1) > last + 1_000_000_000
        assert client.execute_command("KL.VERIFY", "seats", "state", 0)[b"ok"] == 1


def test_sales_go_on_beside_it(served: Server, tmp_path: Path) -> None:
    """Every sale that was answered before KL.BACKUP was sent is in the copy, each row whole."""
    going = threading.Event()
    sold: list[int] = []

    def go_on() -> None:
        with redis.Redis(port=served.port) as client:
            for seat in range(SEATS):
                sell(client, seat, seat + 1)
                sold.append(seat)
                if going.is_set():
                    return

    seller = threading.Thread(target=go_on)
    seller.start()
    copies: list[tuple[int, str, int]] = []
    with redis.Redis(port=served.port) as client:
        for number in range(3):
            while len(sold) < 20 * (number + 1):
                client.ping()
            before = len(sold)
            copies.append((before, client.execute_command("KL.BACKUP", f"n{number}").decode(), len(sold)))
    going.set()
    seller.join()
    for before, path, after in copies:
        assert main(["check", path, "--export", f"{path}.resp"]) == 0
        text = Path(f"{path}.resp").read_bytes()
        of_copy = {seat for seat in range(SEATS) if b"seats:%d\r\n$5\r\nstate\r\n$1\r\n1\r\n" % seat in text}
        assert of_copy == set(range(len(of_copy)))
        assert before <= len(of_copy) <= after + 1
        assert all(b"buyer\r\n$%d\r\n%d\r\n" % (len(str(s + 1)), s + 1) in text for s in of_copy)
    assert copies[0][2] > copies[0][0], "no sale was made beside a backup"


def test_what_is_refused(served: Server, refusal: Callable[..., str], tmp_path: Path) -> None:
    with redis.Redis(port=served.port) as client:
        ask = client.execute_command
        for name in ("a/b", "../x", ".hidden", ".", "..", "", "/tmp/x", b"\xff"):
            assert refusal(ask, "KL.BACKUP", name).startswith("invalid backup name")
        assert not (tmp_path / "backups").exists()
        assert ask("KL.BACKUP", "monday") == str(tmp_path / "backups" / "monday").encode()
        assert refusal(ask, "KL.BACKUP", "monday") == "EXISTS backup 'monday' exists"
        (tmp_path / "backups" / "a file").touch()
        assert refusal(ask, "KL.BACKUP", "a file").startswith("EXISTS")
        assert refusal(ask, "KL.BACKUP") == "wrong number of arguments for 'kl.backup' command"
        with client.pipeline() as pipeline, pytest.raises(redis.ResponseError):
            pipeline.execute_command("KL.BACKUP", "tuesday")
            pipeline.execute()
        assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == ["a file", "monday"]
        assert ask("KL.VERIFY", "seats", "state", 0)[b"ok"] == 1


def test_a_folder_that_cannot_be_written_is_an_error_and_the_server_goes_on(
    start: Start, refusal: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "backups").write_text("in the way")
    running = start("--backup-dir", str(tmp_path / "backups"))
    with redis.Redis(port=running.port) as client:
        assert refusal(client.execute_command, "KL.BACKUP", "monday").startswith("KL.BACKUP failed: ")
        assert client.execute_command("KL.CREATE", "t", "SCHEMA", "x", "U8") in (b"OK", "OK")
    assert running.stop() == 0


def test_without_a_backup_dir_it_says_so(start: Start, refusal: Callable[..., str]) -> None:
    with redis.Redis(port=start().port) as client:
        assert "--backup-dir" in refusal(client.execute_command, "KL.BACKUP", "monday")


def test_a_folder_in_the_data_directory_is_refused(
    start: Start, refusal: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    running = start("--backup-dir", str(tmp_path / "link"))
    with redis.Redis(port=running.port) as client:
        assert "lies in the data directory" in refusal(client.execute_command, "KL.BACKUP", "monday")
    assert running.stop() == 0
