"""Starts the servers that a benchmark compares, each on a directory and a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 60.0


class LaunchError(RuntimeError):
    """A server did not come up; the text says what it printed."""


@dataclass(frozen=True)
class Server:
    """A running server process that the caller must stop."""

    name: str
    host: str
    port: int
    unixsocket: Path | None
    directory: Path
    process: subprocess.Popen[bytes]
    stop_signal: int = signal.SIGTERM
    settings: Mapping[str, str] = field(default_factory=dict)  # all that was set, but for places and ports

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_seconds(self) -> tuple[float, float]:
        """User and system seconds of the process and its children, ended ones too, by their accounting."""
        ticks = os.sysconf("SC_CLK_TCK")
        while True:
            children = self._children()
            try:
                used = [_ticks_of(pid) for pid in (self.pid, *children)]
            except (FileNotFoundError, ProcessLookupError):
                used = []  # a child ended meanwhile
            if used and self._children() == children:
                return sum(user for user, _ in used) / ticks, sum(system for _, system in used) / ticks

    def _children(self) -> list[int]:
        """Raises FileNotFoundError when the server itself has ended."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        """Its signal, wait, SIGKILL if it does not end; answers the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def klani(
    directory: Path, *options: str, appendfsync: str = "always", unixsocket: Path | None = None
) -> Server:
    """A klani-resp server of this checkout on `directory`, ready to serve."""
    port, settings = free_port(), {"appendfsync": appendfsync}
    command = [sys.executable, "-m", "klani_resp", "--port", str(port), "--dir", str(directory)]
    command += [*_flags(settings), *options]
    if unixsocket is not None:
        command += ["--unixsocket", str(unixsocket)]
    return start("klani-resp", command, directory, port, unixsocket, settings=settings)


def redis(
    directory: Path, *options: str, appendfsync: str = "always", unixsocket: Path | None = None
) -> Server:
    """A redis-server with its append-only file on `directory`, ready to serve."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise LaunchError("redis-server is not installed; on Debian: apt-get install redis-server")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {"save": "", "appendonly": "yes", "appendfsync": appendfsync}
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += [*_flags(settings), *options]
    if unixsocket is not None:
        command += ["--unixsocket", str(unixsocket)]
    return start("redis-server", command, directory, port, unixsocket, settings=settings)


def _flags(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def _ticks_of(pid: int) -> tuple[int, int]:
    """User and system time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[13]), int(fields[12]) + int(fields[14])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    name: str,
    command: list[str],
    directory: Path,
    port: int,
    unixsocket: Path | None = None,
    *,
    ready: Callable[[], bool] | None = None,
    stop_signal: int = signal.SIGTERM,
    as_user: Mapping[str, Any] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Server:
    """The process, once `ready` says so; unless told that is when it answers PING. Its output goes to a file
    beside `directory`."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    log_path = directory.parent / f"{directory.name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is ours, and the server ends when we end it
            **(as_user or {}),
        )
    server = Server(name, "127.0.0.1", port, unixsocket, directory, process, stop_signal, settings or {})
    try:
        _wait_until_ready(server, log_path, ready)
    except BaseException:
        server.stop()
        raise
    return server


def _wait_until_ready(server: Server, log_path: Path, ready: Callable[[], bool] | None) -> None:
    name, process = server.name, server.process
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LaunchError(f"{name} ended with {process.returncode}: {log_path.read_text()[-2000:]}")
        if ready() if ready is not None else _answers_ping(server.port):
            return
        time.sleep(0.02)
    raise LaunchError(f"{name} was not ready in {START_SECONDS_MAX:.0f} s: {log_path.read_text()[-2000:]}")


def _answers_ping(port: int) -> bool:
    """True when PING is PONG, or for who says its name only: not refused, not LOADING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            probe.sendall(b"*1\r\n$4\r\nPING\r\n")
            return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
