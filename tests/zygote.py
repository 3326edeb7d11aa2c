"""Servers without the wait for their imports: a process that has them all, and forks a server when told.

Each line of input is an order, each line of output its answer. `{"argv": [...], "log": path}` forks a server
that waits at a gate before it does anything (so that a tracer can be attached) and answers its pid; `"go"`
opens the gate. Segments of the log are small here, so that their changes are part of a short session.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEGMENT_BYTES = 6144
WAIT_SECONDS_MAX = 30.0


class Forked:
    """A server that the zygote forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def has_ended(self, seconds: float = 0.0) -> bool:
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def send_signal(self, number: signal.Signals) -> None:
        if not self.has_ended():
            signal.pidfd_send_signal(self._pidfd, number)

    def wait(self) -> None:
        assert self.has_ended(WAIT_SECONDS_MAX), f"server {self.pid} did not end"

    def close(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()
        os.close(self._pidfd)

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


class Zygote:
    def __init__(self, plant: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", plant],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, log: Path, *argv: str) -> Forked:
        return Forked(int(self._order({"argv": argv, "log": str(log)})))

    def go(self) -> None:
        self._order("go")

    def _order(self, order: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


def until(condition: Any, what: str) -> Any:
    """Polls a condition that another process brings about."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.001)
    return found


# --- the zygote itself --------------------------------------------------------------------------------


def _be_a_server(argv: list[str], log: int, gate: int) -> None:
    """What the fork does on its own account is no write-path call: it may be traced or not."""
    from klani_resp.__main__ import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(gate, 0)  # it ends there, and gives nothing to read
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.read(gate, 1)
    os._exit(main(argv))


def _plant(name: str) -> None:
    """A bug, so that a test can show that it is caught."""
    from storage import locks
    from storage.selling import Selling
    from storage.table import Table
    from storage.wal import Wal

    if name == "batch never written":
        honest = Wal._write

        def write(wal: Wal, payload: bytes) -> None:
            fs = wal._fs
            if wal.groups % 4 == 3:
                wal._fs = type("Nowhere", (), {"pwrite": lambda *_: None})()
            honest(wal, payload)
            wal._fs = fs

        Wal._write = write  # type: ignore[method-assign, assignment]  # the planted bug is the patch
    if name == "no memory of requests":
        Selling._known = lambda *_: None  # type: ignore[method-assign]  # the planted bug is the patch
    if name == "no locks":
        locks.is_free = lambda *_: True

        def any_lease(table: Table, row: int, token: int, now: int) -> locks.Lease | None:
            return table.leases.get(row) or locks.Lease(token, now, None, ((table, row),))

        locks.live_lease = any_lease
        locks.release = lambda table, row, lease: None


def _serve_orders() -> None:
    import klani_resp.__main__  # the whole program, before any fork  # noqa: F401
    from klani_resp import server

    usual = server.engine_options
    server.engine_options = lambda config: dataclasses.replace(usual(config), segment_bytes=SEGMENT_BYTES)
    _plant(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    opening = -1
    for line in sys.stdin:
        order = json.loads(line)
        if order == "go":
            os.close(opening)
            print(flush=True)
            continue
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        gate, opening = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opening)
            _be_a_server(order["argv"], log, gate)
        os.close(gate)
        os.close(log)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve_orders()
