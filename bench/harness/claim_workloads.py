"""Claims for bench/server.py: KL.CLAIM beside the Lua script that one would write for redis-server.

A claim uses its row up, so each measurement begins with a table of free rows, and ends before they do.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from bench.harness import seats
from bench.harness.loadgen import Client, LoadError, NextBatch, encode, feed
from bench.harness.workloads import Bed, Run, Workload
from bench.horde.redis_scripts import claim_script

TABLE = "claims"
FREE = "claims-free"  # redis-server: the prefix of the sets of free rows
ROWS = 150_000
RANKS = 1000
SOLD_ROWS = 10_000
MAX_ROWS = 4  # of an owner: no claim here comes near it
Setup = tuple[Run, Callable[[], None]]


def _options(*wanted: str) -> Callable[[int], tuple[str, ...]]:
    """The words behind a claim's SET, by the claim's number: owners and requests are each used once."""

    def words(number: int) -> tuple[str, ...]:
        values = {"FOR": f"shopper-{number}", "MAX": str(MAX_ROWS), "REQUEST": f"request-{number}"}
        return tuple(word for name in wanted for word in (name, values[name]))

    return words


def _claims(*wanted: str) -> Callable[[Bed, int, random.Random], Setup]:
    options = _options(*wanted)

    def prepare(bed: Bed, depth: int, rng: random.Random) -> Setup:
        """Free rows of one rank after the other, so that no rank is sold out before the others."""
        client = Client(bed.server.port)
        request = _request_of(bed, client, options)
        if bed.is_redis:
            feed(bed.server.port, seats.free_sets(ROWS, RANKS, FREE))
        else:
            _fresh_table(bed, client, ROWS, booked=0)
            client.call("KL.COUNT", TABLE, "rank", 0, "is_booked", 0)
        batch = _batches(request, depth)
        left = ROWS // depth

        def run(seconds: float) -> int:
            nonlocal left
            connections = len(bed.fleet.fds)
            lines = depth * (3 if bed.is_redis else 2)  # `*1`, and the id with its length or without
            done = bed.fleet.run_batches([batch] * connections, lines, seconds, left - connections)
            left -= done
            return depth * done

        def finish() -> None:
            if bed.is_redis:
                client.call("UNLINK", *(f"{FREE}:{rank}" for rank in range(RANKS)))
            else:
                client.call("KL.DROP", TABLE)
            client.close()

        return run, finish

    return prepare


def prepare_sold_out(bed: Bed, depth: int, rng: random.Random) -> Setup:
    """Nothing is free in any rank; redis-server removes a set with its last member, so there is none."""
    client = Client(bed.server.port)
    request = _request_of(bed, client, _options())
    if not bed.is_redis:
        _fresh_table(bed, client, SOLD_ROWS, booked=1)
    batch = _batches(request, depth)

    def run(seconds: float) -> int:
        return depth * bed.fleet.run_batches([batch] * len(bed.fleet.fds), depth, seconds)

    def finish() -> None:
        if not bed.is_redis:
            client.call("KL.DROP", TABLE)
        client.close()

    return run, finish


def _fresh_table(bed: Bed, client: Client, rows: int, booked: int) -> None:
    seats.create_klani(client, TABLE)
    seats.load_klani(bed.server.port, 0, rows, RANKS, table=TABLE, booked=booked)


def _request_of(
    bed: Bed, client: Client, options: Callable[[int], tuple[str, ...]]
) -> Callable[[int], bytes]:
    """The claim of that number, of the rank whose turn it is."""
    if bed.is_redis:
        sha = client.call("SCRIPT", "LOAD", claim_script(TABLE, "buyer"))
        return lambda number: encode("EVALSHA", sha, 1, f"{FREE}:{number % RANKS}", number)
    if not client.knows("KL.CLAIM"):
        raise LoadError("this server does not have KL.CLAIM")
    head = ("KL.CLAIM", TABLE, "is_booked", 0, "rank")
    tail = ("SET", "is_booked", 1, "buyer")
    return lambda number: encode(*head, number % RANKS, *tail, number, *options(number))


def _batches(request: Callable[[int], bytes], depth: int) -> NextBatch:
    numbers = itertools.count()
    if depth == 1:
        return lambda: request(next(numbers))
    return lambda: b"".join(request(next(numbers)) for _ in range(depth))


LUA_CLAIM = "EVALSHA SPOP+HSET"
CLAIM_WORKLOADS = (
    Workload("CLAIM", LUA_CLAIM, _claims(), {1: 1.1, 16: 2.5}),
    Workload("CLAIM, sold out", LUA_CLAIM, prepare_sold_out, {1: 1.0, 16: 2.5}),
    Workload("CLAIM FOR", "", _claims("FOR"), base="CLAIM"),
    Workload("CLAIM FOR MAX", "", _claims("FOR", "MAX"), base="CLAIM"),
    Workload("CLAIM REQUEST", "", _claims("REQUEST"), base="CLAIM"),
    Workload("CLAIM FOR MAX REQUEST", "", _claims("FOR", "MAX", "REQUEST"), base="CLAIM"),
)
