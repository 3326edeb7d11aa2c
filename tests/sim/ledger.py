"""Many writes at speed, for the path check: pipelines of locks, reads and writes over a server's sessions.

Clients take turns. Each sends a round for some rows in three pipelines: it locks them, reads those that it
got, and puts into each its own token and the one that it read. Rounds overlap, so clients meet on the same
rows; some leases end in between; now and then the process or the power dies, and what was under way is
doubtful.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from random import Random
from typing import Any

import hiredis

from klani_resp.app import App
from storage.engine import EngineOptions
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.sim.commands import (
    EMPTY,
    LOST,
    SCHEMA,
    TABLE,
    Command,
    Fields,
    Insert,
    Replace,
    Seek,
    TryLock,
    plain,
    request,
)
from tests.sim.paths import Path
from tests.sim.process import CONFIG, Link, Process
from tests.store import FakeClock

OPTIONS = EngineOptions(segment_bytes=1 << 20, checkpoint_bytes=4 << 20)
ROWS = 2_000
ROUND_ROWS = 64
CLIENTS = 6
LIFE_OPERATIONS = 250_000
LEASES_MS = (3, 1_000)  # some end in a round; the longer ones of clients that vanished must not pile up


class Ledger:
    def __init__(self, seed: int) -> None:
        self.random = Random(f"ledger {seed}")
        self.clock = FakeClock()
        self.disk = FakeDisk()
        self._app = App(CONFIG)
        self.process = self._start()
        self.paths = [Path() for _ in range(ROWS)]
        self.operations = self.deaths = self.writes = 0
        link = self.process.connect()
        link.inbox += frame(b"KL.CREATE", TABLE, b"SCHEMA", *SCHEMA)
        for row in range(ROWS):
            link.inbox += request(Insert(row, EMPTY))
        self._pass_on(link)
        self.process.settle()

    def _start(self) -> Process:
        return Process(self._app, self.disk, self.clock, self.random, OPTIONS)

    def run(self, operations: int) -> None:
        """Back when so many commands were answered."""
        rounds = [self._round() for _ in range(CLIENTS)]
        until_death = LIFE_OPERATIONS
        while self.operations < operations:
            turn = self.random.randrange(CLIENTS)
            try:
                next(rounds[turn])
            except StopIteration:
                rounds[turn] = self._round()
            if self.process.engine.checkpoint_due and self.random.random() < 0.5:
                self._checkpoint()
            if self.operations >= until_death:
                until_death += LIFE_OPERATIONS
                self._die()
                rounds = [self._round() for _ in range(CLIENTS)]
        self._die()

    def troubles(self) -> list[str]:
        table = self.process.engine.tables[TABLE]
        column = table.schema.value_column(b"writer")
        found: list[str] = []
        for row, path in enumerate(self.paths):
            values = table.read(row)
            stored = 0 if values is None else values[column]
            found += [f"row {row}: {trouble}" for trouble in path.troubles(stored)]
        return found

    # --- one client's round ---------------------------------------------------------------------------

    def _round(self) -> Iterator[None]:
        random = self.random
        link, reader = self.process.connect(), hiredis.Reader()
        first = random.randrange(random.choice((ROWS, ROWS // 10)))  # a part of them is hot
        rows = [(first + i) % ROWS for i in range(ROUND_ROWS)]
        locks = [TryLock((row,), random.choice(LEASES_MS)) for row in rows]
        tokens = yield from self._pipeline(link, reader, locks)
        mine = [(row, token) for row, token in zip(rows, tokens, strict=True) if isinstance(token, int)]
        seen = yield from self._pipeline(link, reader, [Seek(row) for row, _ in mine])
        writes: list[Replace] = []
        for (row, token), fields in zip(mine, seen, strict=True):
            if isinstance(fields, tuple):
                after: Fields = (token % 3, token, fields[1], b"")
                writes.append(Replace(row, token, after, unlock=True))
                self.paths[row].sent(token, fields[1])
        answers = yield from self._pipeline(link, reader, writes)
        for write, answer in zip(writes, answers, strict=True):
            if answer == "OK":
                self.paths[write.row].answered(write.token, write.fields[2])
                self.writes += 1
        if link.is_open:
            self.process.close(link)

    def _pipeline(
        self, link: Link, reader: hiredis.Reader, commands: Sequence[Command]
    ) -> Generator[None, None, list[Any]]:
        """Their answers; LOST for those that a breaking connection kept back."""
        answers: list[Any] = []
        link.inbox += b"".join(map(request, commands))
        breaks = self.random.random() < 0.02
        while len(answers) < len(commands):
            self._pass_on(link)
            yield
            if breaks:
                self.process.close(link)
                break
            reader.feed(bytes(link.outbox))
            link.outbox.clear()
            while (reply := reader.gets()) is not False:
                answers.append(plain(commands[len(answers)], reply))
        self.operations += len(answers)
        return answers + [LOST] * (len(commands) - len(answers))

    def _pass_on(self, link: Link) -> None:
        """All that was sent reaches the server; a sync may end, and the clock moves on."""
        process = self.process
        if link.inbox:
            process.receive(link, len(link.inbox))
            process.end_turn()
        if process.is_rolling:
            process.end_roll()
        elif process.syncer.is_running:
            process.end_sync()
        self.clock.now += self.random.choice((0, 1_000_000))

    # --- checkpoints and deaths -----------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self.process.advance_checkpoint(50)
        self.process.settle()

    def _die(self) -> None:
        self.deaths += 1
        self.disk = self.disk.killed() if self.random.random() < 0.3 else self.disk.crash(self.random)
        self.process = self._start()
