"""A1: a server that is killed at a system call of its write path, and what has to be true afterwards.

A script is a session of one client, each step with what the store holds once it is answered. A first run
under strace notes every system call of the write path, thread by thread; then each of them is a point: the
session is run again, the server dies on entry to that call, and `judge` looks at what is left. Between two
such calls of a thread nothing on disk changes, so every state of the files that it leaves behind is seen.

`python -m tests.kill_points <script> <seed> <role> <call> <n>` runs one point.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from storage.check import check
from storage.engine import Engine, EngineOptions
from storage.fs import OsFs
from storage.recovery import Opening
from tests.conftest import frame
from tests.store import Contents, contents, row, schema
from tests.zygote import SEGMENT_BYTES, Forked, Zygote, until

# What changes files, names or what others know; `openat` where it creates, `sendto` and `sendmsg` to anybody.
CALLS = (
    *("pwrite64", "write", "fsync", "fdatasync", "rename", "unlink", "rmdir", "ftruncate", "fallocate"),
    *("mkdir", "openat", "sendto", "sendmsg"),
)
FIELDS = ["state", "U8", "INDEX", "row", "U16", "INDEX", "note", "BYTES", "12"]


@dataclass(frozen=True, slots=True)
class Step:
    """Words to send (several commands are a MULTI), and the store behind it; None: as it was."""

    commands: tuple[tuple[object, ...], ...]
    after: Contents | None = None


@dataclass(slots=True)
class Script:
    """`role`: whose calls are counted. `begin`: what the store holds at the start; None: there is none."""

    name: str
    role: str  # main, or sync: the process that syncs the log
    begin: Contents | None
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    call: str
    number: int


# --- scripts ------------------------------------------------------------------------------------------


def with_change(store: Contents, table: bytes, number: int, values: dict[bytes, int | bytes]) -> Contents:
    return {**store, table: {**store[table], number: values}}


class Writer:
    """Puts steps together and keeps what the store holds."""

    def __init__(self, script: Script, seed: int) -> None:
        self.script = script
        self.random = random.Random(seed)
        self.now: Contents = dict(script.begin or {})

    def step(self, *commands: tuple[object, ...]) -> None:
        self.script.steps.append(Step(commands, self.now))

    def create(self, name: bytes) -> None:
        self.now = {**self.now, name: {}}
        self.step(("KL.CREATE", name, "SCHEMA", *FIELDS))

    def drop(self, name: bytes) -> None:
        self.now = {table: rows for table, rows in self.now.items() if table != name}
        self.step(("KL.DROP", name))

    def _inserted(self, table: bytes) -> tuple[object, ...]:
        number = self.random.randrange(1000, 100_000)
        values = row(self.random.randrange(5), number % 50_000, b"n%d" % number)
        self.now = with_change(self.now, table, number, values)
        return ("KL.INSERT", b"%b:%d" % (table, number), *_pairs(values))

    def insert(self, table: bytes = b"seats") -> None:
        self.step(self._inserted(table))

    def multi(self) -> None:
        self.step(*[self._inserted(b"seats") for _ in range(3)])

    def sale(self) -> None:
        """The token is known only when it is there: Run fills it in."""
        number = self.random.choice(sorted(self.now[b"seats"]))
        self.script.steps.append(Step((("KL.TRYLOCK", number),)))
        values = {**self.now[b"seats"][number], b"state": 200 + self.random.randrange(50)}
        self.now = with_change(self.now, b"seats", number, values)
        self.step(("KL.REPLACE", number, TOKEN, "state", values[b"state"], "UNLOCK"))


TOKEN = object()


def _pairs(values: dict[bytes, int | bytes]) -> list[object]:
    return [word for pair in values.items() for word in pair]


def _sell(writer: Writer) -> None:
    writer.insert()
    writer.sale()
    writer.multi()
    writer.create(b"more")
    writer.insert(b"more")
    writer.sale()
    writer.drop(b"more")
    writer.insert()


def new_store(seed: int) -> Script:
    """From the first call of the first start of a store to the end of a clean stop."""
    script = Script("new_store", "main", None)
    writer = Writer(script, seed)
    writer.create(b"seats")
    writer.insert()
    writer.multi()
    writer.sale()
    return script


def sales(seed: int) -> Script:
    """A start after a crash, with doubtful batches in the log; sales; a clean stop."""
    script = Script("sales", "main", BEGIN)
    _sell(Writer(script, seed))
    return script


def syncs(seed: int) -> Script:
    """The same, and the process that syncs the log dies."""
    script = Script("syncs", "sync", BEGIN)
    _sell(Writer(script, seed))
    return script


SCRIPTS: dict[str, Callable[[int], Script]] = {s.__name__: s for s in (new_store, sales, syncs)}


def make_begin(directory: Path) -> Contents:
    """A store that was killed: a checkpoint, a dropped table, and behind them batches that nothing names."""
    opening = Opening(directory, EngineOptions(segment_bytes=SEGMENT_BYTES))
    for _ in opening:
        pass
    engine = opening.engine
    for name in (b"seats", b"gone"):
        engine.create(name, schema(), False)
    for number in range(60):
        engine.insert(engine.table(b"seats"), number, row(number % 3, number, b"old"))
    engine.wal.commit()
    plan = engine.begin_checkpoint()
    plan.write()
    engine.end_checkpoint(plan)
    engine.drop(b"gone")
    for number in range(60, 64):
        engine.insert(engine.table(b"seats"), number, row(1, number))
        engine.wal.commit()
    found = contents(engine)
    _kill(engine)
    return found


def _kill(engine: Engine) -> None:
    """Gives the files back as the end of a process does."""
    engine.wal.close()
    engine.fs.close(engine.lock_fd)


_PLACE = tempfile.TemporaryDirectory(prefix="klani-begin-")
TEMPLATE = Path(_PLACE.name) / "data"
BEGIN = make_begin(TEMPLATE)


# --- one run ------------------------------------------------------------------------------------------


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
            data = self._file.read(int(rest) + 2) if rest != b"-1" else b""
            if rest != b"-1" and len(data) < int(rest) + 2:
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
        self.token = 0
        self._log_bytes = 0
        self._tracer: Tracer | None = None
        if script.begin is not None:
            shutil.copytree(TEMPLATE, self._data)

    def _fork(self) -> Forked:
        path, log = self._place / "socket", self._place / "log"
        path.unlink(missing_ok=True)
        self._log_bytes = log.stat().st_size if log.exists() else 0
        options = ("--port", "0", "--unixsocket", str(path), "--dir", str(self._data))
        return self._zygote.fork(log, *options, "--backup-dir", str(self._place / "backups"))

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
        token = 0
        if self._script.role == "sync":
            self._trace(server.children(), point)
        for number, step in enumerate(self._script.steps):
            commands = [tuple(token if word is TOKEN else word for word in c) for c in step.commands]
            if len(commands) > 1:
                commands = [("MULTI",), *commands, ("EXEC",)]
            *_, reply = client.ask(*commands)
            assert not (isinstance(reply, bytes) and reply[:1] == b"-"), (commands, reply)
            if commands[0][0] == "KL.TRYLOCK":
                assert isinstance(reply, int)
                token = self.token = reply
            self.answered = number + 1

    # --- afterwards -------------------------------------------------------------------------------

    def judge(self) -> None:
        """Raises AssertionError where what is left is not what it has to be."""
        assert "Traceback" not in (self._place / "log").read_text()
        self._check_sound(self._data)
        self._judge_backup()
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
            assert token > self.token, "a token is given out twice"

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

    def _judge_backup(self) -> None:
        copy = self._place / "backups" / "monday"
        asked = [n for n, step in enumerate(self._script.steps, 1) if step.commands[0][0] == "KL.BACKUP"]
        if asked and self.answered >= asked[0]:
            assert copy.exists(), "a backup that was answered is not there"
        if copy.exists():
            assert list(check(OsFs(), copy)) == []
            opening = Opening(copy, EngineOptions(segment_bytes=SEGMENT_BYTES))
            for _ in opening:
                pass
            assert contents(opening.engine) == self._script.steps[asked[0] - 1].after
            _kill(opening.engine)

    def _read(self, client: Client) -> Contents:
        held: Contents = {}
        (names,) = client.ask(("KL.TABLES",))
        assert isinstance(names, list)
        for name in names:
            rows: list[tuple[int, list[Any]]]
            ((_, rows),) = cast(Any, client.ask(("KL.SCAN", name, 0, "COUNT", 1000)))
            held[name] = {number: dict(zip(f[::2], f[1::2], strict=True)) for number, f in rows}
        return held


def _brief(store: Contents) -> dict[bytes, int]:
    return {name: len(rows) for name, rows in store.items()}


class Tracer:
    """strace on some threads and no others: without -f each counts its own calls."""

    def __init__(self, place: Path, tids: list[int], point: Point | None) -> None:
        assert tids, "there is nobody to trace"
        self._output = place / "trace"
        command = ["strace", "-o", str(self._output), "-y", "-s", "0"]
        for tid in tids:
            command += ["-p", str(tid)]
        if point is None:
            command += ["-e", "trace=" + ",".join(CALLS)]
        else:
            command += ["-e", f"trace={point.call}"]
            command += ["-e", f"inject={point.call}:signal=KILL:when={point.number}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        attached = 0
        while attached < len(tids):
            line = self._process.stderr.readline()
            assert line, "strace did not attach"
            attached += "attached" in line

    def close(self) -> list[tuple[str, str]]:
        """Name and text of each call, when nobody of those that are traced is there any more."""
        self._process.communicate(timeout=30)
        lines = self._output.read_text().splitlines()
        return [(found[1], found[0]) for line in lines if (found := re.match(r"(?:\d+ +)?(\w+)\(.*", line))]


def points_of(script: Script, calls: list[tuple[str, str]]) -> list[Point]:
    """Those of a run's calls that are points: all but reads and lines of the log."""
    seen: Counter[str] = Counter()
    points = []
    for name, text in calls:
        seen[name] += 1
        if (name == "openat" and "O_CREAT" not in text) or (name == "write" and text.startswith("write(2<")):
            continue
        points.append(Point(name, seen[name]))
    return points


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
