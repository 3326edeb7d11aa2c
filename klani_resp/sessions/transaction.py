"""What a connection has between MULTI and EXEC, and what it watches: queued requests, and rows as they were.

Invariants: 1. A spoiled queue is never executed. 2. A watched row is remembered as the first WATCH since the
last EXEC, DISCARD or UNWATCH found it. 3. What is kept of a watched key has a size that no client chooses.
"""

from __future__ import annotations

from commands.arguments import split_key
from commands.spec import CommandError
from klani_resp.config import Config
from klani_resp.protocol.parser import Request
from storage.engine import Engine
from storage.schema import TABLE_NAME
from storage.table import Table

ARGUMENT_BYTES = 64  # of memory, for an argument that is queued, beside its own bytes
WATCHED_BYTES = 400  # at most, for a watched row
# Stands for all keys whose table there can never be: no row of theirs will ever change.
NOWHERE: tuple[bytes, int | None] = b"", None

# The table, None where there is none, and the position of the row's last write, None where there is no row.
Version = tuple[Table | None, int | None]


class Transaction:
    def __init__(self, config: Config) -> None:
        self._config = config
        self.queue: list[Request] | None = None  # None: no MULTI
        self.is_spoiled = False
        self.bytes = 0
        self._watched: dict[tuple[bytes, int | None], Version] = {}

    @property
    def watched(self) -> int:
        return len(self._watched)

    @property
    def memory_bytes(self) -> int:
        """About what all of it takes."""
        return (self.bytes if self.queue is not None else 0) + WATCHED_BYTES * len(self._watched)

    def begin(self) -> None:
        if self.queue is not None:
            raise CommandError("ERR MULTI calls can not be nested")
        self.queue = []
        self.bytes = 0
        self.is_spoiled = False

    def take(self, asked_by: str) -> list[Request]:
        """The queue, which is none from here on."""
        queue, self.queue = self.queue, None
        if queue is None:
            raise CommandError(f"ERR {asked_by} without MULTI")
        return queue

    def take_to_execute(self, engine: Engine, wanting_room: frozenset[bytes]) -> list[Request] | None:
        """For EXEC; None when a watched row has changed. Raises CommandError when nothing is to be done: a
        command was refused when it was queued, or a full disk, which came later, refuses any; as in Redis."""
        queue = self.take("EXEC")
        has_changed = self.has_changed(engine)
        self.unwatch()
        if self.is_spoiled:
            raise CommandError("EXECABORT Transaction discarded because of previous errors.")
        if has_changed:
            return None
        reason = engine.readonly_reason
        if reason is not None and any(argv[0].upper() in wanting_room for argv in queue):
            raise CommandError(f"EXECABORT Transaction discarded because of: {reason}")
        return queue

    def add(self, argv: Request) -> str | None:
        """Queues a command; answers why not when there is no room, and then EXEC will refuse."""
        assert self.queue is not None
        self.bytes += sum(map(len, argv)) + ARGUMENT_BYTES * len(argv)
        limits = self._config
        if len(self.queue) >= limits.transaction_commands_max or self.bytes > limits.transaction_bytes_max:
            return self._refuse()
        if not self.is_spoiled:
            self.queue.append(argv)
        return None

    def _refuse(self) -> str:
        """Clients make a transaction of any pipeline: who meets a limit is told which."""
        limits = self._config
        reached = (
            f"{limits.transaction_bytes_max} bytes (transaction_bytes_max)"
            if self.bytes > limits.transaction_bytes_max
            else f"{limits.transaction_commands_max} commands (transaction_commands_max)"
        )
        self.is_spoiled = True
        self.queue = []
        return f"ERR transaction is too long: at most {reached}"

    # --- WATCH ----------------------------------------------------------------------------------------

    def watch(self, engine: Engine, keys: list[bytes]) -> None:
        if len(self._watched) + len(keys) > self._config.watched_keys_max:
            raise CommandError(f"ERR at most {self._config.watched_keys_max} keys can be watched")
        for key in keys:
            place = split_key(engine.default_table, key)
            if not TABLE_NAME.fullmatch(place[0]):
                place = NOWHERE
            if place not in self._watched:
                self._watched[place] = _version(engine, *place)

    def unwatch(self) -> None:
        if self._watched:
            self._watched = {}

    def has_changed(self, engine: Engine) -> bool:
        """Whether any watched row is not what it was."""
        return any(_version(engine, *place) != version for place, version in self._watched.items())


def _version(engine: Engine, name: bytes, row: int | None) -> Version:
    """Locks and holds are no part of a row. A table that was dropped and made again is another."""
    table = engine.tables.get(name)
    if table is None or row is None:
        return table, None
    values = table.read(row)
    return table, None if values is None else values[1]
