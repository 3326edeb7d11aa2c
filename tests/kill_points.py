"""A1: a server that is killed at a system call of its write path, and what has to be true afterwards.

A script is a session of one client, each step with what the store holds once it is answered. A first run
under strace notes every system call of the write path, thread by thread; then each of them is a point: the
session is run again, the server dies on entry to that call, and `judge` looks at what is left. Between two
such calls of a thread nothing on disk changes, so every state of the files that it leaves behind is seen.

`python -m tests.kill_points <script> <seed> <role> <call> <n>` runs one point.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

from storage.check import check
from storage.fs import OsFs
from tests.conftest import frame
from tests.kill_scripts import Named, Script, Step, new_store, sales, syncs
from tests.kill_selling import is_known_again, selling
from tests.kill_trace import Point, Tracer
from tests.store import Contents
from tests.zygote import Forked, Zygote, until

SCRIPTS: dict[str, Callable[[int], Script]] = {s.__name__: s for s in (new_store, sales, syncs, selling)}


class Ended(Exception):
    """The connection has ended before the reply was there."""


class Client:
    """One connection, by the unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def ask(self, *commands: tuple[object, ...]) -> list[object]:
        words = [tuple(w if isinstance(w, bytes) else str(w) for w in command) for command in commands]
        frames = b"".join(frame(*command) for command in words)
        try:
            self._socket.sendall(frames)
            return [self._reply() for _ in commands]
        except OSError as error:
            raise Ended from error

    def _reply(self) -> object:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise Ended
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            data = self._file.read(int(rest) + 2)
            if len(data) < int(rest) + 2:
                raise Ended
            return data[:-2]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return line[:-2]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Run:
    """A script on a directory of its own, with or without a death."""

    def __init__(self, zygote: Zygote, script: Script, place: Path) -> None:
        self._zygote = zygote
        self._script = script
        self._place = place
        self._data = place / "data"
        self.answered = 0  # steps
        self.tokens: dict[Named, int] = {}
        self._replies: list[Any] = []  # one for each of them
        self._log_bytes = 0
        self._tracer: Tracer | None = None
        if script.begin is not None:
            assert script.template is not None
            shutil.copytree(script.template, self._data)

    def _fork(self) -> Forked:
        path, log = self._place / "socket", self._place / "log"
        path.unlink(missing_ok=True)
        self._log_bytes = log.stat().st_size if log.exists() else 0
        options = ("--port", "0", "--unixsocket", str(path), "--dir", str(self._data))
        return self._zygote.fork(log, *options)

    def _connect(self, server: Forked) -> Client | None:
        """None when the server has ended before it was ready. Nobody asks it: each reply would be a call."""
        until(lambda: server.has_ended() or b"ready to accept" in self._said(), "the server to be ready")
        try:
            return Client(self._place / "socket")
        except OSError:
            return None

    def _said(self) -> bytes:
        """By the server that was forked last."""
        log = self._place / "log"
        return log.read_bytes()[self._log_bytes :] if log.exists() else b""

    def do(self, point: Point | None) -> list[tuple[str, str]]:
        """Runs the session; with a point, the server dies there. Answers the calls that were noted."""
        server = self._fork()
        try:
            if self._script.role == "main":
                self._trace([server.pid], point)
            self._zygote.go()
            client = self._connect(server)
            if client is not None:
                try:
                    self._session(server, client, point)
                except Ended:
                    pass
                else:
                    server.send_signal(signal.SIGTERM)
                finally:
                    client.close()
            server.wait()
        finally:
            server.close()
            calls = self._tracer.close() if self._tracer is not None else []
        return calls

    def _trace(self, tids: list[int], point: Point | None) -> None:
        self._tracer = Tracer(self._place, tids, point)

    def _session(self, server: Forked, client: Client, point: Point | None) -> None:
        if self._script.role == "sync":
            self._trace(server.children(), point)
        while self.answered < len(self._script.steps):
            self._do(client, again=False)

    def _do(self, client: Client, *, again: bool) -> None:
        """The next step; `again`: it may have been sent before."""
        step = self._script.steps[self.answered]
        reply = self._ask(client, step)
        assert step.fits(reply, again), (step.commands, reply)
        if step.named is not None:
            self.tokens[step.named] = reply[0] if isinstance(reply, list) else reply
        self._replies.append(reply)
        self.answered += 1

    def _ask(self, client: Client, step: Step) -> Any:
        commands = [tuple(self.tokens[w] if isinstance(w, Named) else w for w in c) for c in step.commands]
        if len(commands) > 1:
            commands = [("MULTI",), *commands, ("EXEC",)]
        *_, reply = client.ask(*commands)
        assert not (isinstance(reply, bytes) and reply[:1] == b"-"), (commands, reply)
        return reply

    # --- afterwards -------------------------------------------------------------------------------

    def judge(self) -> None:
        """Raises AssertionError where what is left is not what it has to be."""
        assert "Traceback" not in (self._place / "log").read_text()
        self._check_sound(self._data)
        server = self._fork()
        try:
            self._zygote.go()
            client = self._connect(server)
            assert client is not None, "it does not start again: " + (self._place / "log").read_text()[-500:]
            with closing(client):
                self._judge_contents(client)
            server.send_signal(signal.SIGKILL)
            server.wait()
        finally:
            server.close()
        self._check_sound(self._data)

    def _judge_contents(self, client: Client) -> None:
        held = self._read(client)
        allowed = self._allowed()
        assert held in allowed, f"{_brief(held)} after {self.answered} steps, not {_brief(allowed[0])}"
        if held.get(b"seats"):
            (token,) = client.ask(("KL.TRYLOCK", min(held[b"seats"])))
            assert isinstance(token, int)
            assert token > max(self.tokens.values(), default=0), "a token is given out twice"
        if self._script.at_end is not None:
            self._go_on(client)
            self._script.at_end(client.ask)

    def _go_on(self, client: Client) -> None:
        """What was answered is sent again, then all that is left, beginning with what may have been done."""
        known = self._allowed()[0]
        for step, reply in zip(self._script.steps[: self.answered], self._replies, strict=True):
            if is_known_again(step):
                assert self._ask(client, step) == reply, f"{step.commands} is answered otherwise than before"
        held = self._read(client)
        assert held in self._allowed(), f"{_brief(held)} when all was sent again, not {_brief(known)}"
        for first in (True, *[False] * (len(self._script.steps) - self.answered - 1)):
            if self.answered < len(self._script.steps):
                self._do(client, again=first)
        assert self._read(client) == self._script.steps[-1].after

    def _allowed(self) -> list[Contents]:
        """The store behind the last step that was answered, and behind the next, which may have been sent."""
        known: list[Contents] = [self._script.begin or {}]
        for step in self._script.steps:
            known.append(known[-1] if step.after is None else step.after)
        return known[self.answered : self.answered + 2]

    def _check_sound(self, directory: Path) -> None:
        if (directory / "CHECKPOINT").exists():
            assert list(check(OsFs(), directory)) == []
        else:  # a new store that never came to be: nothing was answered
            assert self._script.begin is None
            assert self.answered == 0

    def _read(self, client: Client) -> Contents:
        held: Contents = {}
        (names,) = client.ask(("KL.TABLES",))
        assert isinstance(names, list)
        for name in names:
            rows: list[tuple[int, list[Any]]]
            ((_, rows),) = cast(Any, client.ask(("KL.SCAN", name, 0, "COUNT", 1000)))
            held[name] = {number: dict(zip(f[::2], f[1::2], strict=True)) for number, f in rows}
        return held | self._script.read(client.ask)


def _brief(store: Contents) -> dict[bytes, int]:
    return {name: len(rows) for name, rows in store.items()}


def run_point(zygote: Zygote, script: Script, point: Point | None) -> tuple[list[tuple[str, str]], bool]:
    """The calls that were noted, and whether the death came. Raises AssertionError as `judge` does."""
    with tempfile.TemporaryDirectory(prefix="klani-kill-") as place:
        run = Run(zygote, script, Path(place))
        calls = run.do(point)
        log = (Path(place) / "log").read_text()
        died = not log.rstrip().endswith("stopped")
        assert point is not None or (run.answered == len(script.steps) and not died), log[-1000:]
        run.judge()
        return calls, died


def main() -> None:
    name, seed, role, call, number = sys.argv[1:]
    script = SCRIPTS[name](int(seed))
    assert script.role == role, f"{name} has its points in {script.role}"
    with ExitStack() as stack:
        zygote = Zygote()
        stack.callback(zygote.close)
        _, died = run_point(zygote, script, Point(call, int(number)))
        print("died there, and all is well" if died else "it was not reached")


if __name__ == "__main__":
    main()
