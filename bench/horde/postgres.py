"""The herd on PostgreSQL: one UPDATE per claim, `FOR UPDATE SKIP LOCKED`, as one would write it there.

Imported only when that engine is asked for: psycopg need not be installed for the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

from bench.harness import launch_postgres
from bench.horde.options import BOOKED, Goods, Options
from bench.horde.stats import Stored, Tally
from bench.horde.store import Recount, StoreProblem, seat_row
from bench.horde.wire import Args, Wire

try:
    import psycopg
    from psycopg import sql
    from psycopg.pq import ExecStatus
except ImportError as missing:
    problem = "--engine postgres needs its client: pip install 'psycopg[binary]>=3.2,<4'"
    raise StoreProblem(problem) from missing

USER = "postgres"  # of the server that launch.postgres starts, and its database
_CLAIM = b"claim"
# What our own server is told, whatever server it is; and what more bears on durability and speed.
SHOWN = ("server_version", *launch_postgres.settings(0), "wal_sync_method", "commit_delay", "autovacuum")


def connect(options: Options) -> psycopg.Connection[tuple[Any, ...]]:
    """Over TCP, as the other engines' clients; each statement is a transaction."""
    return psycopg.connect(
        host=options.unixsocket or options.host,
        port=options.port,
        user=USER,
        dbname=USER,
        autocommit=True,
        connect_timeout=60,
    )


def statement(goods: Goods, text: str) -> sql.Composed:
    """`text` with the goods' names, quoted, in the place of {table}, {group}, {number}, {buyer}, {booked}."""
    names = {"table": goods.table, "group": goods.group, "number": goods.number, "buyer": goods.buyer}
    quoted = {key: sql.Identifier(name) for key, name in (names | {"booked": BOOKED}).items()}
    return sql.SQL(text).format(**quoted)


CREATE = """
CREATE TABLE {table} (
    id integer PRIMARY KEY, {group} integer NOT NULL, {number} integer NOT NULL,
    {booked} smallint NOT NULL, {buyer} bigint NOT NULL
);
CREATE INDEX free ON {table} ({group}, id) WHERE {booked} = 0
"""
# ORDER BY makes the planner use the partial index. By the statistics of the loaded table, where any row
# will do, it would walk through the table, and each "sold out" read all of it: six times the wall time.
CLAIM = """
UPDATE {table} SET {booked} = 1, {buyer} = $2
WHERE id = (
    SELECT id FROM {table} WHERE {group} = $1 AND {booked} = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id
"""


class PostgresWire(Wire):
    """The claim is prepared once per connection and sent through libpq itself, the cheapest road there is."""

    def __init__(self, options: Options, tally: Tally) -> None:
        super().__init__(tally)
        self._connection = connect(options)
        self._pgconn = self._connection.pgconn
        claim = statement(options.goods, CLAIM).as_bytes(self._connection)
        prepared = self._pgconn.prepare(_CLAIM, claim)
        if prepared.status != ExecStatus.COMMAND_OK:
            raise StoreProblem(prepared.get_error_message())

    def call(self, command: str, args: Args) -> Any:
        """The ids that the statement answers."""
        start = perf_counter_ns()
        self._tally.round_trips += 1
        result = self._pgconn.exec_prepared(_CLAIM, [str(value).encode() for value in args])
        if result.status != ExecStatus.TUPLES_OK:
            raise StoreProblem(result.get_error_message())
        ids = [result.get_value(row, 0) for row in range(result.ntuples)]
        self._record(command, start)
        return ids

    def close(self) -> None:
        self._connection.close()


class PostgresStore:
    def __init__(self, options: Options) -> None:
        self._options = options

    def facts(self) -> dict[str, Any]:
        with _connected(self._options) as connection:
            shown = {name: connection.execute(f"SHOW {name}").fetchone() for name in SHOWN}
        return {name: row[0] for name, row in shown.items() if row is not None}

    def settings(self) -> dict[str, str]:
        return {}

    def prepare(self, options: Options, drop: bool) -> Options:
        goods = options.goods
        with _connected(options) as connection, connection.cursor() as cursor:
            if drop:
                cursor.execute(statement(goods, "DROP TABLE IF EXISTS {table}"))
            try:
                cursor.execute(statement(goods, CREATE))
            except psycopg.errors.DuplicateTable as error:
                text = f"the server has a table `{goods.table}` already; --drop drops it first"
                raise StoreProblem(text) from error
            with cursor.copy(statement(goods, "COPY {table} FROM STDIN")) as copy:
                for seat in range(options.seats):
                    copy.write_row((seat, *seat_row(seat, options).values()))
            # What a bulk load wants behind it: fresh statistics, and the rows marked as visible.
            cursor.execute(statement(goods, "VACUUM (ANALYZE) {table}"))
            cursor.execute("CHECKPOINT")
        return options

    def stored(self, options: Options) -> Stored:
        goods, recount = options.goods, Recount(options)
        names = (goods.group, goods.number, BOOKED, goods.buyer)
        select = statement(goods, "SELECT id, {group}, {number}, {booked}, {buyer} FROM {table}")
        count = statement(goods, "SELECT count(*) FROM {table} WHERE {booked} = 1")
        with _connected(options) as connection:
            for seat, *row in connection.execute(select):
                recount.add(seat, dict(zip(names, row, strict=True)))
            ((booked,),) = connection.execute(count).fetchall()
        details = {"rows": recount.rows}
        return Stored(booked, recount.buyers, recount.rows, tuple(recount.complaints), details)


@contextlib.contextmanager
def _connected(options: Options) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection whose errors are the store's."""
    try:
        with connect(options) as connection:
            yield connection
    except psycopg.Error as error:
        raise StoreProblem(str(error)) from error
