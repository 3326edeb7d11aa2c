"""Creates, loads and re-reads the herd's table, on either engine, through one ordinary redis-py client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.herd_flows import REDIS_REPLACE, REDIS_UNLOCK, TABLE, Options
from bench.herd_stats import Stored

BATCH = 1000  # commands per pipeline
SCHEMA = ("rank", "U32", "INDEX", "seat_no", "U32", "is_booked", "U32", "INDEX", "buyer", "U32")


class StoreProblem(RuntimeError):
    """The server cannot take the herd; the text is for the user."""


class Store(Protocol):
    def prepare(self, options: Options, drop: bool) -> Options:
        """Creates and loads the table; answers the options with what the flows need besides."""

    def stored(self, options: Options) -> Stored:
        """Re-reads every seat."""


def store_of(options: Options) -> Store:
    client = client_of(options)
    return KlaniStore(client) if options.engine == "klani" else RedisStore(client)


def client_of(options: Options) -> Any:
    """A client without retries. Untyped, as most of what it answers is."""
    settings: dict[str, Any] = {
        "protocol": 3,
        "retry": Retry(NoBackoff(), 0),
        "single_connection_client": True,
    }
    if options.unixsocket is not None:
        return redis.Redis(unix_socket_path=options.unixsocket, **settings)
    return redis.Redis(host=options.host, port=options.port, **settings)


def seat_row(seat: int, options: Options) -> dict[str, int]:
    """A free seat: ranks take turns, seat_no counts within the rank from 1."""
    return {"rank": seat % options.ranks, "seat_no": seat // options.ranks + 1, "is_booked": 0, "buyer": 0}


def _batches(total: int) -> Iterator[range]:
    for start in range(0, total, BATCH):
        yield range(start, min(start + BATCH, total))


class KlaniStore:
    def __init__(self, client: Any) -> None:
        self._client = client

    def prepare(self, options: Options, drop: bool) -> Options:
        if drop:
            self._client.execute_command("KL.DROP", TABLE)
        try:
            self._client.execute_command("KL.CREATE", TABLE, "SCHEMA", *SCHEMA)
        except redis.ResponseError as error:
            if not str(error).startswith("EXISTS"):
                raise
            raise StoreProblem("the server has a table `seats` already; --drop drops it first") from error
        for batch in _batches(options.seats):
            pipeline = self._client.pipeline(transaction=False)
            for seat in batch:
                fields = (part for pair in seat_row(seat, options).items() for part in pair)
                pipeline.execute_command("KL.INSERT", b"%s:%d" % (TABLE, seat), *fields)
            pipeline.execute()
        return options

    def stored(self, options: Options) -> Stored:
        report = {
            _text(name): int(value)
            for name, value in self._client.execute_command("KL.VERIFY", TABLE, "is_booked", 1).items()
        }
        complaints = [] if report["ok"] == 1 else [f"KL.VERIFY is not ok: {report}"]
        buyers: dict[int, int] = {}
        rows, cursor = 0, b"0"
        while True:
            cursor, page = self._client.execute_command("KL.SCAN", TABLE, cursor, "COUNT", BATCH)
            for seat, row in page:
                rows += 1
                complaints += _complaints_about(int(seat), row, options)
                if int(row[b"is_booked"]):
                    buyers[int(seat)] = int(row[b"buyer"])
            if int(cursor) == 0:
                break
        if len(buyers) != report["matched"]:
            complaints.append(f"KL.SCAN shows {len(buyers)} booked seats, KL.VERIFY {report['matched']}")
        return Stored(report["matched"], buyers, rows, tuple(complaints), report)


class RedisStore:
    """A row is a HASH `seats:<id>`, a rank's free seats a SET `free:<rank>`, a lock the key `lock:<id>`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def prepare(self, options: Options, drop: bool) -> Options:
        if drop:
            for batch in _batches(options.seats):
                self._client.unlink(*(key for seat in batch for key in (f"seats:{seat}", f"lock:{seat}")))
            self._client.unlink(*(f"free:{rank}" for rank in range(options.ranks)))
        if self._client.dbsize():
            raise StoreProblem("the Redis database is not empty; --drop drops what an earlier herd left")
        for batch in _batches(options.seats):
            pipeline = self._client.pipeline(transaction=False)
            for seat in batch:
                row = seat_row(seat, options)
                pipeline.hset(f"seats:{seat}", mapping=row)
                pipeline.sadd(f"free:{row['rank']}", seat)
            pipeline.execute()
        shas = [_bytes(self._client.script_load(script)) for script in (REDIS_REPLACE, REDIS_UNLOCK)]
        return replace(options, scripts=(shas[0], shas[1]))

    def stored(self, options: Options) -> Stored:
        buyers: dict[int, int] = {}
        complaints: list[str] = []
        rows = 0
        for batch in _batches(options.seats):
            pipeline = self._client.pipeline(transaction=False)
            for seat in batch:
                pipeline.hgetall(f"seats:{seat}")
            for seat, row in zip(batch, pipeline.execute(), strict=True):
                if not row:
                    continue
                rows += 1
                complaints += _complaints_about(seat, row, options)
                if int(row[b"is_booked"]):
                    buyers[seat] = int(row[b"buyer"])
        pipeline = self._client.pipeline(transaction=False)
        for rank in range(options.ranks):
            pipeline.scard(f"free:{rank}")
        free = sum(pipeline.execute())
        if free + len(buyers) != rows:
            complaints.append(f"{free} seats in the free sets and {len(buyers)} booked are not {rows}")
        return Stored(len(buyers), buyers, rows, tuple(complaints), {"rows": rows, "free": free})


def _complaints_about(seat: int, row: dict[bytes, Any], options: Options) -> list[str]:
    """Whether rank and seat_no, which a sale writes again, are what they were."""
    expected = seat_row(seat, options)
    changed = [name for name in ("rank", "seat_no") if int(row[name.encode()]) != expected[name]]
    return [f"seat {seat}: {', '.join(changed)} changed: {row}"] if changed else []


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
