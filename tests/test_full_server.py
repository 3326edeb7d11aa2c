"""A real server on a small real file system that is filled, and freed again.

The file system is a tmpfs in a namespace of the test's own, which needs no root where the system lets users
have namespaces; where it does not, the test is skipped, or fails where none may be. From outside it is
reached through /proc.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.harness.launch import ROOT, free_port
from klani_resp.__main__ import main
from tests.proof import scaled

LIVES = scaled(1, 30)
SEED = 20261125
DISK_BYTES = 12 << 20
SECONDS_MAX = 30.0  # until what must happen has happened
SETTINGS = "segment_bytes = 1048576\nballast_bytes = 1048576\ncheckpoint_bytes = 1048576\n"
NOTE_BYTES = 3000

pytestmark = pytest.mark.proof


class SmallDisk:
    """A tmpfs; a process that only waits keeps its namespace."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        mount.mkdir()
        script = f"mount -t tmpfs -o size={DISK_BYTES} none {mount} && echo mounted && exec sleep infinity"
        self._keeper = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None and self._keeper.stderr is not None
        if self._keeper.stdout.readline() != b"mounted\n":
            reason = f"no tmpfs in a namespace to be had: {self._keeper.stderr.read().decode()}"
            pytest.fail(reason) if os.environ.get("KLANI_NO_SKIP") == "1" else pytest.skip(reason)
        self.outside = Path(f"/proc/{self._keeper.pid}/root{mount}")

    def fill(self) -> None:
        """Somebody else's file takes, at one moment, all the room there is."""
        with (self.outside / "filler").open("ab") as file:
            while room := os.statvfs(self.outside).f_bavail * os.statvfs(self.outside).f_frsize:
                with contextlib.suppress(OSError):  # the server was faster
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)
                    return

    def free(self) -> None:
        (self.outside / "filler").unlink(missing_ok=True)

    def enter(self, *command: str | Path) -> list[str]:
        options = ("--user", "--mount", "--preserve-credentials", f"--wd={ROOT}")
        return ["nsenter", f"--target={self._keeper.pid}", *options, *map(str, command)]

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.communicate()


class Life:
    """Servers one after another on the disk, a client, and its book of what was answered."""

    def __init__(self, disk: SmallDisk, logs: Path, chance: random.Random) -> None:
        self.disk = disk
        self.chance = chance
        self.book: dict[int, int] = {}
        self._logs = logs
        self._config = logs / "klani.toml"
        self._config.write_text(SETTINGS)
        self._starts = 0
        self.process: subprocess.Popen[bytes]
        self.client: Any

    def start(self) -> None:
        self.launch()
        self.until(lambda: self.serves() or self.process.poll() is not None, "a start")
        assert self.process.poll() is None, self.log.read_text()[-2000:]

    def launch(self) -> None:
        self._starts += 1
        port = free_port()
        options = (f"--port={port}", f"--dir={self.disk.mount / 'data'}", f"--config={self._config}")
        with self.log.open("wb") as log:
            command = self.disk.enter(sys.executable, "-m", "klani_resp", *options)
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=SECONDS_MAX)

    @property
    def log(self) -> Path:
        return self._logs / f"{self._starts}.log"

    def edges(self) -> tuple[int, int]:
        log = self.log.read_text()
        return log.count("the disk is full"), log.count("there is room on the disk again")

    def until(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while not holds():
            assert time.monotonic() < deadline, f"{what} does not come: {self.log.read_text()[-2000:]}"

    def serves(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False
        except redis.ResponseError as error:
            assert "LOADING" in str(error) or "loading" in str(error)
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.client.close()

    def stop(self) -> None:
        """Clean, whatever the disk has."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS_MAX) == 0, self.log.read_text()[-2000:]
        self.client.close()

    def ask(self, *words: str | int | bytes) -> Any:
        return self.client.execute_command(*words)

    def insert(self) -> bool:
        """False when it was refused, as it must be: MISCONF, and nothing has changed."""
        row, state = len(self.book), self.chance.randrange(3)
        note = self.chance.randbytes(NOTE_BYTES)
        try:
            assert self.ask("KL.INSERT", row, "state", state, "note", note) == 1
        except redis.ResponseError as error:
            assert str(error).startswith("MISCONF Errors writing to the log: No space left on device.")
            assert self.ask("KL.SEEK", row) is None
            return False
        self.book[row] = state
        return True

    def until_refused(self) -> None:
        self.disk.fill()
        self.until(lambda: not self.insert(), "MISCONF")

    def until_accepted(self) -> None:
        self.disk.free()
        self.until(self.insert, "the end of MISCONF")

    def judge(self) -> None:
        """All that was answered, and nothing else."""
        for state in range(3):
            rows = [row for row, known in self.book.items() if known == state]
            assert self.ask("KL.INTERSECT", "seats", "state", state, "LIMIT", 0) == rows
        assert self.ask("KL.SEEK", 0, "state") == {b"state": self.book[0]}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "mount")
    yield small
    small.close()


def what_a_full_disk_refuses(life: Life, token: int) -> None:
    """Writes; not reads, and not to let go. A token of a lock on row 0 from before."""
    ask = life.ask
    assert life.client.info("persistence")["state"] == "readonly_full"
    life.judge()
    for words in (("KL.TRYLOCK", 1), ("KL.DROP", "seats"), ("KL.CREATE", "other", "SCHEMA", "x", "U8")):
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            ask(*words)
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        ask("KL.VERIFY", "seats", "state", 1)
    with life.client.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("KL.SEEK", 0)
        pipeline.execute_command("KL.REPLACE", 0, token, "state", 9)
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            pipeline.execute()
    assert ask("KL.UNLOCK", 0, token) == 1
    assert ask("KL.UNLOCK", 0, token) == 0


@pytest.mark.parametrize("number", range(LIVES))
def test_a_disk_is_filled_and_freed(
    disk: SmallDisk, tmp_path: Path, number: int, figure: Callable[[str, int], None]
) -> None:
    seed = f"{SEED}/{number}"
    print(f"seed {seed}")
    life = Life(disk, tmp_path, random.Random(seed))
    try:
        live(life)
    finally:
        if life.process.poll() is None:
            life.kill()
    assert main(["check", str(disk.outside / "data")]) == 0
    figure("A8 lives on a real full disk", 1)


def start_or_free(life: Life) -> None:
    """A start on a full disk; where the ballast had been given up already, on one that is freed."""
    life.launch()
    life.until(lambda: life.process.poll() is not None or life.serves(), "a start, or its refusal")
    if life.process.poll() is not None:
        refused_for_want_of_room(life)
        life.disk.free()
        life.start()


def refused_for_want_of_room(life: Life) -> None:
    assert life.process.returncode == 1
    last = life.log.read_text().splitlines()[-1]
    assert last.startswith("klani-resp: cannot start: ")
    assert "no room for a start: [Errno 28] No space left on device" in last
    assert main(["check", str(life.disk.outside / "data")]) == 0


def until_no_start(life: Life) -> None:
    """Whatever room a start made goes to somebody else, and it dies: in the end there is none for a start."""
    while life.process.poll() is None:
        life.until_refused()
        life.kill()
        life.disk.fill()
        life.launch()
        life.until(lambda: life.process.poll() is not None or life.serves(), "a start, or its refusal")
    refused_for_want_of_room(life)


def live(life: Life) -> None:
    life.start()
    life.ask("KL.CREATE", "seats", "SCHEMA", "state", "U8", "INDEX", "note", "BYTES", NOTE_BYTES)
    for _ in range(life.chance.randrange(1, 400)):
        assert life.insert()
    token = life.ask("KL.TRYLOCK", 0, "PX", 86_400_000)
    life.until_refused()
    what_a_full_disk_refuses(life, token)
    life.until_accepted()
    assert life.client.info("persistence")["state"] == "serving"
    assert life.ask("KL.VERIFY", "seats", "state", 1)[b"ok"] == 1
    life.until_refused()
    life.until(lambda: life.edges() == (2, 1), "the line in the log")
    for end in life.chance.sample((life.kill, life.stop), 2):
        end()
        assert main(["check", str(life.disk.outside / "data")]) == 0
        start_or_free(life)
        life.judge()
        life.until_accepted()
        life.until_refused()
    until_no_start(life)
    life.disk.free()
    life.start()
    life.until_accepted()
    assert life.ask("KL.VERIFY", "seats", "state", 1)[b"ok"] == 1
    life.judge()
    life.stop()
