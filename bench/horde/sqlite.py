"""The herd on SQLite: one file, one writer at a time, each sale a transaction synced before it returns.

There is no server: the workers themselves read and write the file, and their CPU is all that there is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import perf_counter_ns
from typing import Any

from bench.horde.options import BOOKED, Goods, Options
from bench.horde.stats import Stored, Tally
from bench.horde.store import Recount, StoreProblem, seat_row
from bench.horde.wire import Args, Wire

# WAL and one fsync per commit, as sqlite.org/wal.html advises for many readers beside a writer: with
# synchronous=NORMAL a power loss could take back what was answered.
PRAGMAS = {"journal_mode": "wal", "synchronous": "full", "busy_timeout": "60000", "cache_size": "-16000"}


def connect(options: Options) -> sqlite3.Connection:
    assert options.path is not None
    connection = sqlite3.connect(options.path, isolation_level=None, check_same_thread=False)
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {value}")
    return connection


def statement(goods: Goods, text: str) -> str:
    """`text` with the goods' names, which are our own, in place of {table}, {group}, {number}, {buyer}."""
    names = {"table": goods.table, "group": goods.group, "number": goods.number, "buyer": goods.buyer}
    return text.format(**names, booked=BOOKED)


CREATE = """
CREATE TABLE {table} (
    id INTEGER PRIMARY KEY, {group} INTEGER NOT NULL, {number} INTEGER NOT NULL,
    {booked} INTEGER NOT NULL, {buyer} INTEGER NOT NULL
) STRICT;
CREATE INDEX free ON {table} ({group}, id) WHERE {booked} = 0
"""
# Whoever finds nothing has not waited for the one writer.
FIND = "SELECT id FROM {table} WHERE {group} = ? AND {booked} = 0 ORDER BY id LIMIT 1"
CLAIM = "UPDATE {table} SET {booked} = 1, {buyer} = ? WHERE id = (" + FIND + ") RETURNING id"


class SqliteWire(Wire):
    def __init__(self, options: Options, tally: Tally) -> None:
        super().__init__(tally)
        self._connection = connect(options)
        self._find = statement(options.goods, FIND)
        self._claim = statement(options.goods, CLAIM)

    def call(self, command: str, args: Args) -> Any:
        """The ids that the statement answers."""
        start = perf_counter_ns()
        self._tally.round_trips += 1
        group, buyer = args
        ids: list[Any] = []
        if self._connection.execute(self._find, (group,)).fetchone() is not None:
            ids = self._write(group, buyer)
        self._record(command, start)
        return ids

    def _write(self, group: bytes | int, buyer: bytes | int) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")  # to become a writer half-way would fail at once
        found = connection.execute(self._claim, (buyer, group)).fetchall()
        connection.execute("COMMIT")
        return [row[0] for row in found]

    def close(self) -> None:
        self._connection.close()


class SqliteStore:
    def __init__(self, options: Options) -> None:
        self._options = options

    def facts(self) -> dict[str, Any]:
        with _connected(self._options) as connection:
            shown = {name: str(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in PRAGMAS}
        return {"sqlite_version": sqlite3.sqlite_version} | shown

    def settings(self) -> dict[str, str]:
        return dict(PRAGMAS)

    def prepare(self, options: Options, drop: bool) -> Options:
        goods = options.goods
        with _connected(options) as connection:
            if drop:
                connection.execute(statement(goods, "DROP TABLE IF EXISTS {table}"))
            connection.executescript(statement(goods, CREATE))
            rows = ((seat, *seat_row(seat, options).values()) for seat in range(options.seats))
            connection.execute("BEGIN")
            connection.executemany(statement(goods, "INSERT INTO {table} VALUES (?, ?, ?, ?, ?)"), rows)
            connection.execute("COMMIT")
            connection.execute("ANALYZE")
        return options

    def stored(self, options: Options) -> Stored:
        goods, recount = options.goods, Recount(options)
        names = (goods.group, goods.number, BOOKED, goods.buyer)
        with _connected(options) as connection:
            select = statement(goods, "SELECT id, {group}, {number}, {booked}, {buyer} FROM {table}")
            for seat, *row in connection.execute(select):
                recount.add(seat, dict(zip(names, row, strict=True)))
            (booked,) = connection.execute(
                statement(goods, "SELECT count(*) FROM {table} WHERE {booked} = 1")
            ).fetchone()
            (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            recount.complaints.append(f"integrity_check: {sound}")
        return Stored(booked, recount.buyers, recount.rows, tuple(recount.complaints), {"rows": recount.rows})


@contextmanager
def _connected(options: Options) -> Iterator[sqlite3.Connection]:
    """A connection whose errors are the store's."""
    try:
        with closing(connect(options)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreProblem(str(error)) from error
