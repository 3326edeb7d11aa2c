"""What one connection has under way between WATCH and EXEC: the queue of MULTI, and the rows that it watches.

Invariants:
1. Without MULTI nothing is queued; EXEC, DISCARD, RESET and the connection's end leave nothing behind.
2. A watched row is remembered as its last write left it. Whoever writes it since, EXEC does nothing.
3. Nobody is told of a write: a watched row is looked at when EXEC comes, and costs nobody anything before.
"""

from __future__ import annotations

from collections.abc import Iterable

from commands.spec import CommandError
from klani_resp.config import Config
from klani_resp.protocol.parser import Request
from storage.engine import Engine

# A row as WATCH remembers it: its table's number, which is never used again, and its last write's position.
Mark = tuple[int, int]
NO_TABLE: Mark = (0, 0)


class Transaction:
    __slots__ = ("_bytes", "_config", "_queue", "_watched", "is_spoiled")

    def __init__(self, config: Config) -> None:
        self._config = config
        self._queue: list[Request] | None = None
        self._bytes = 0
        self._watched: dict[tuple[bytes, int], Mark] = {}
        self.is_spoiled = False  # a command was refused when it came: EXEC will be, too

    # --- the queue ------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Between MULTI and EXEC."""
        return self._queue is not None

    @property
    def queued(self) -> int:
        """Commands that wait for EXEC; -1 without MULTI."""
        return -1 if self._queue is None else len(self._queue)

    def begin(self) -> None:
        if self._queue is not None:
            raise CommandError("ERR MULTI calls can not be nested")
        self._queue = []
        self._bytes = 0
        self.is_spoiled = False

    def enqueue(self, argv: Request) -> str | None:
        """Queues a command; answers why not when there is no room, and then EXEC will refuse."""
        assert self._queue is not None
        self._bytes += sum(map(len, argv))
        limits = self._config
        if len(self._queue) >= limits.transaction_commands_max or self._bytes > limits.transaction_bytes_max:
            self.is_spoiled = True
            self._queue.clear()
            return "ERR transaction is too long"
        if not self.is_spoiled:
            self._queue.append(argv)
        return None

    def take(self, asked_by: str) -> list[Request]:
        """The queue, which is no more."""
        queue, self._queue = self._queue, None
        if queue is None:
            raise CommandError(f"ERR {asked_by} without MULTI")
        return queue

    def end(self) -> None:
        """As if there had been neither MULTI nor WATCH."""
        self._queue = None
        self._watched.clear()

    # --- watched rows ---------------------------------------------------------------------------------

    @property
    def watched(self) -> int:
        return len(self._watched)

    def watch(self, engine: Engine, keys: Iterable[tuple[bytes, int]]) -> None:
        """Remembers the rows as they are now, all or none; one that is watched already stays as it was."""
        more = {key: _mark(engine, *key) for key in keys if key not in self._watched}
        most = self._config.watched_keys_max
        if len(self._watched) + len(more) > most:
            raise CommandError(f"ERR too many watched keys, at most {most}")
        self._watched |= more

    def unwatch(self) -> None:
        self._watched.clear()

    def has_changed(self, engine: Engine) -> bool:
        """Whether any watched row is not as it was."""
        return any(_mark(engine, *key) != mark for key, mark in self._watched.items())


def _mark(engine: Engine, name: bytes, row: int) -> Mark:
    table = engine.tables.get(name)
    if table is None:
        return NO_TABLE
    values = table.read(row)
    return table.number, 0 if values is None else values[1]
