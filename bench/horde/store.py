"""Creates, loads and re-reads the herd's table, on any engine, through one ordinary client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.harness import host
from bench.horde import redis_scripts
from bench.horde.options import BOOKED, Options
from bench.horde.stats import Stored

BATCH = 1000  # commands per pipeline


class StoreProblem(RuntimeError):
    """The server cannot take the herd; the text is for the user."""


class Store(Protocol):
    """Raises StoreProblem, redis.RedisError or OSError when the server does not do as it should."""

    def facts(self) -> dict[str, Any]:
        """The server's version and what it says of its durability."""

    def settings(self) -> dict[str, str]:
        """What its own connections set; none where the server's count."""

    def prepare(self, options: Options, drop: bool) -> Options:
        """Creates and loads the table; answers the options with what the flows need besides."""

    def stored(self, options: Options) -> Stored:
        """Re-reads every seat."""


def store_of(options: Options) -> Store:
    if options.engine == "postgres":
        from bench.horde.postgres import PostgresStore  # here: its client need not be installed

        return PostgresStore(options)
    if options.engine == "sqlite":
        from bench.horde.sqlite import SqliteStore

        return SqliteStore(options)
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
    """A free seat: groups take turns, the number counts within the group from 1."""
    goods = options.goods
    return {
        goods.group: seat % options.ranks,
        goods.number: seat // options.ranks + 1,
        BOOKED: 0,
        goods.buyer: 0,
    }


def _batches(total: int) -> Iterator[range]:
    for start in range(0, total, BATCH):
        yield range(start, min(start + BATCH, total))


class Recount:
    """What a re-reading finds, row by row."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.rows = 0
        self.buyers: dict[int, int] = {}
        self.complaints: list[str] = []

    def add(self, seat: int, row: dict[str, Any]) -> None:
        """Group and number, which a sale may write again, must be what they were."""
        goods = self._options.goods
        self.rows += 1
        expected = seat_row(seat, self._options)
        changed = [name for name in (goods.group, goods.number) if int(row[name]) != expected[name]]
        if changed:
            self.complaints.append(f"row {seat}: {', '.join(changed)} changed: {row}")
        if int(row[BOOKED]):
            self.buyers[seat] = int(row[goods.buyer])


class _RedisFacts:
    """What the two engines that speak Redis's protocol have in common."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def facts(self) -> dict[str, Any]:
        return host.server_info(self._client)

    def settings(self) -> dict[str, str]:
        return {}


class KlaniStore(_RedisFacts):
    def prepare(self, options: Options, drop: bool) -> Options:
        goods = options.goods
        if drop:
            self._client.execute_command("KL.DROP", goods.table)
        try:
            self._client.execute_command("KL.CREATE", goods.table, "SCHEMA", *goods.schema)
        except redis.ResponseError as error:
            if not str(error).startswith("EXISTS"):
                raise
            text = f"the server has a table `{goods.table}` already; --drop drops it first"
            raise StoreProblem(text) from error
        for batch in _batches(options.seats):
            pipeline = self._client.pipeline(transaction=False)
            for seat in batch:
                fields = (part for pair in seat_row(seat, options).items() for part in pair)
                pipeline.execute_command("KL.INSERT", goods.key(seat), *fields)
            pipeline.execute()
        return options

    def stored(self, options: Options) -> Stored:
        table = options.goods.table
        report = {
            _text(name): int(value)
            for name, value in self._client.execute_command("KL.VERIFY", table, BOOKED, 1).items()
        }
        recount, cursor = Recount(options), b"0"
        while True:
            cursor, page = self._client.execute_command("KL.SCAN", table, cursor, "COUNT", BATCH)
            for seat, row in page:
                recount.add(int(seat), _named(row))
            if int(cursor) == 0:
                break
        if options.flow == "hold":  # a hold that is over no longer shows, and every seat is sold
            report["holds"] = len(self._client.execute_command("KL.HOLDS", table))
            if report["holds"]:
                recount.complaints.append(f"{report['holds']} holds are left")
        if report["ok"] != 1:
            recount.complaints.append(f"KL.VERIFY is not ok: {report}")
        if len(recount.buyers) != report["matched"]:
            recount.complaints.append(
                f"KL.SCAN shows {len(recount.buyers)} booked seats, KL.VERIFY {report['matched']}"
            )
        return Stored(report["matched"], recount.buyers, recount.rows, tuple(recount.complaints), report)


class RedisStore(_RedisFacts):
    """A row is a HASH `<table>:<id>`, a group's free rows a SET `free:<group>`, a lock a key `lock:<id>`."""

    def prepare(self, options: Options, drop: bool) -> Options:
        goods = options.goods
        if drop:
            for batch in _batches(options.seats):
                self._client.unlink(*(key for seat in batch for key in (goods.key(seat), f"lock:{seat}")))
            self._client.unlink(*map(goods.free_set, range(options.ranks)))
        if self._client.dbsize():
            raise StoreProblem("the Redis database is not empty; --drop drops what an earlier herd left")
        for batch in _batches(options.seats):
            pipeline = self._client.pipeline(transaction=False)
            for seat in batch:
                row = seat_row(seat, options)
                pipeline.hset(goods.key(seat), mapping=row)
                pipeline.sadd(goods.free_set(row[goods.group]), seat)
            pipeline.execute()
        shas = [_bytes(self._client.script_load(script)) for script in redis_scripts.scripts(goods)]
        return replace(options, scripts=tuple(shas))

    def stored(self, options: Options) -> Stored:
        goods, recount = options.goods, Recount(options)
        for batch in _batches(options.seats):
            pipeline = self._client.pipeline(transaction=False)
            for seat in batch:
                pipeline.hgetall(goods.key(seat))
            for seat, row in zip(batch, pipeline.execute(), strict=True):
                if row:
                    recount.add(seat, _named(row))
        pipeline = self._client.pipeline(transaction=False)
        for group in range(options.ranks):
            pipeline.scard(goods.free_set(group))
        free = sum(pipeline.execute())
        booked, rows = len(recount.buyers), recount.rows
        if free + booked != rows:
            recount.complaints.append(f"{free} seats in the free sets and {booked} booked are not {rows}")
        return Stored(booked, recount.buyers, rows, tuple(recount.complaints), {"rows": rows, "free": free})


def _named(row: dict[bytes, Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in row.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
