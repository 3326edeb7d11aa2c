"""The herd's table, as klani-resp and as redis-server hold it, and its fastest honest way in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.harness.loadgen import Client, LoadError, encode, feed

TABLE = "seats"
SCHEMA = ("rank", "U32", "INDEX", "seat_no", "U32", "is_booked", "U32", "INDEX", "buyer", "U32")
BLOCK_ROWS = 1000  # rows of one batch; a rank count must divide it, so that all blocks are alike
MEMBERS_PER_SADD = 500

# A block of rows differs from the next only in the leading digits of its ids; they stand here for them.
_LEADING = b"@"


def ranks_for(rows: int, wanted: int = 1000) -> int:
    """How many ranks `rows` rows get: at most `wanted`, at least 100 rows each, a divisor of the block."""
    ranks = min(wanted, max(1, rows // 100))
    while BLOCK_ROWS % ranks:
        ranks -= 1
    return ranks


def create_klani(client: Client, table: str = TABLE) -> None:
    client.call("KL.CREATE", table, "SCHEMA", *SCHEMA)


def load_klani(
    port: int, start: int, stop: int, ranks: int, connections: int = 4, table: str = TABLE, booked: int = 0
) -> int:
    """Inserts rows start..stop-1 by pipelined KL.INSERT; answers how many, all durable."""
    prefix = table.encode() + b":"

    def insert(row: bytes, rank: int) -> bytes:
        fields = ("rank", rank, "seat_no", row, "is_booked", booked, "buyer", 0)
        return encode("KL.INSERT", prefix + row, *fields)

    rows = feed(port, _blocks(start, stop, ranks, insert), connections)
    if rows != stop - start:
        raise LoadError(f"{rows} rows inserted instead of {stop - start}")
    return rows


def load_redis(port: int, rows: int, ranks: int) -> None:
    """The same rows as hashes `seat:<id>`, and a set `free:<rank>` of ids for each rank."""
    feed(port, _blocks(0, rows, ranks, _redis_insert))
    feed(port, free_sets(rows, ranks))


def _redis_insert(row: bytes, rank: int) -> bytes:
    return encode("HSET", b"seat:" + row, "rank", rank, "seat_no", row, "is_booked", b"0", "buyer", b"0")


def _blocks(
    start: int, stop: int, ranks: int, insert: Callable[[bytes, int], bytes]
) -> Iterator[tuple[bytes, int]]:
    """The requests for rows start..stop-1, a block at a time, with the reply lines to expect."""
    assert BLOCK_ROWS % ranks == 0, "a block must hold whole rounds of ranks"
    template, template_digits = b"", 0
    for first in range(start - start % BLOCK_ROWS, stop, BLOCK_ROWS):
        leading = b"%d" % (first // BLOCK_ROWS)
        if first == 0 or first < start or first + BLOCK_ROWS > stop:
            rows = range(max(first, start), min(first + BLOCK_ROWS, stop))
            yield b"".join(insert(b"%d" % row, row % ranks) for row in rows), len(rows)
            continue
        placeholder = _LEADING * len(leading)
        if template_digits != len(leading):
            template_digits = len(leading)
            template = b"".join(insert(b"%b%03d" % (placeholder, i), i % ranks) for i in range(BLOCK_ROWS))
        yield template.replace(placeholder, leading), BLOCK_ROWS


def free_sets(rows: int, ranks: int, prefix: str = "free") -> Iterator[tuple[bytes, int]]:
    """The requests that fill the sets `<prefix>:<rank>`, with the reply lines to expect."""
    for rank in range(ranks):
        ids = [b"%d" % row for row in range(rank, rows, ranks)]
        for i in range(0, len(ids), MEMBERS_PER_SADD):
            yield encode("SADD", f"{prefix}:{rank}", *ids[i : i + MEMBERS_PER_SADD]), 1
