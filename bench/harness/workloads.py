"""What bench/server.py measures: each command of klani-resp beside its nearest kin in redis-server."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.harness import launch
from bench.harness.loadgen import Client, Fleet, LoadError, NextBatch, encode

POOL_COMMANDS = 20_000  # requests drawn beforehand; they repeat in this order
IDS_PER_QUERY = 64
DAY_MS = 86_400_000
TARGETS = {1: 1.15, 16: 2.5}  # klani-resp's CPU over redis-server's, by commands in flight


@dataclass(frozen=True)
class Bed:
    """A loaded server with the connections to it."""

    server: launch.Server
    fleet: Fleet
    rows: int
    ranks: int

    def own_rows(self, depth: int) -> list[range]:
        """Each connection's own `depth` rows, spread over the whole table."""
        step = self.rows // len(self.fleet.fds)
        assert step >= depth, "too few rows for so many connections"
        return [range(i * step, i * step + depth) for i in range(len(self.fleet.fds))]

    @property
    def is_redis(self) -> bool:
        return self.server.name == "redis-server"


Run = Callable[[float], int]  # seconds -> commands done


@dataclass(frozen=True)
class Workload:
    name: str
    redis_name: str  # empty: redis-server has no kin of it
    prepare: Callable[[Bed, int, random.Random], tuple[Run, Callable[[], None]]]
    ratio_max: dict[int, float] = field(default_factory=lambda: TARGETS)
    base: str = ""  # the workload whose cost is taken off this one's, where there is no kin


def prepare_seek(bed: Bed, depth: int, rng: random.Random) -> tuple[Run, Callable[[], None]]:
    """Reads of rows drawn from the whole table."""

    def read_one() -> bytes:
        row = rng.randrange(bed.rows)
        return encode("HGETALL", f"seat:{row}") if bed.is_redis else encode("KL.SEEK", f"seats:{row}")

    # Header, then name and value of four fields: `$n` and text for a name, the same or `:n` for a value.
    lines = 1 + 4 * (4 if bed.is_redis else 3)
    return _reads(bed, depth, lines, read_one)


def prepare_intersect(bed: Bed, depth: int, rng: random.Random) -> tuple[Run, Callable[[], None]]:
    """64 free seats of a random rank."""

    def read_one() -> bytes:
        rank = rng.randrange(bed.ranks)
        if bed.is_redis:
            return encode("SRANDMEMBER", f"free:{rank}", IDS_PER_QUERY)
        return encode("KL.INTERSECT", "seats", "rank", rank, "is_booked", 0, "LIMIT", IDS_PER_QUERY)

    return _reads(bed, depth, 1 + IDS_PER_QUERY * (2 if bed.is_redis else 1), read_one)


def prepare_lock(bed: Bed, depth: int, rng: random.Random) -> tuple[Run, Callable[[], None]]:
    """Each connection locks rows of its own and unlocks them with the tokens it got."""
    rows = bed.own_rows(depth)
    if bed.is_redis:
        locks = [
            b"".join(encode("SET", f"lock:{row}", "w", "NX", "PX", 10_000) for row in own) for own in rows
        ]
        unlocks = [_redis_unlock(own) for own in rows]
    else:
        locks = [b"".join(encode("KL.TRYLOCK", f"seats:{row}", "PX", 10_000) for row in own) for own in rows]
        unlocks = [_klani_unlock(own) for own in rows]

    def run(seconds: float) -> int:
        return 2 * depth * bed.fleet.run_pairs(locks, unlocks, depth, b":1\r\n" * depth, seconds)

    return run, _nothing


def prepare_replace(bed: Bed, depth: int, rng: random.Random) -> tuple[Run, Callable[[], None]]:
    """Durable writes of one field, alternating, under locks taken beforehand and given back after."""
    client = Client(bed.server.port)
    batches: list[NextBatch] = []
    tokens: list[tuple[str, int]] = []
    for own in bed.own_rows(depth):
        written = [b"", b""]
        for row in own:
            if bed.is_redis:
                words: tuple[str | int, ...] = ("HSET", f"seat:{row}", "is_booked")
            else:
                token = client.call("KL.TRYLOCK", f"seats:{row}", "PX", DAY_MS)
                if token is None:
                    raise LoadError(f"row {row} is locked by somebody else")
                tokens.append((f"seats:{row}", token))
                words = ("KL.REPLACE", f"seats:{row}", token, "is_booked")
            for value in (0, 1):
                written[value] += encode(*words, value)
        batches.append(itertools.cycle((written[1], written[0])).__next__)

    def run(seconds: float) -> int:
        return depth * bed.fleet.run_batches(batches, depth, seconds)

    def finish() -> None:
        for key, token in tokens:
            client.call("KL.REPLACE", key, token, "is_booked", 0, "UNLOCK")
        client.close()

    return run, finish


WORKLOADS = (
    Workload("SEEK", "HGETALL", prepare_seek),
    Workload("TRYLOCK+UNLOCK", "SET NX PX + DEL", prepare_lock),
    Workload("REPLACE", "HSET", prepare_replace),
    Workload("INTERSECT 64", "SRANDMEMBER 64", prepare_intersect),
)


def _nothing() -> None:
    return


def _reads(bed: Bed, depth: int, lines: int, read_one: Callable[[], bytes]) -> tuple[Run, Callable[[], None]]:
    client = Client(bed.server.port)
    request = read_one()
    client.send(request)
    reply = client.receive()
    client.close()
    if not isinstance(reply, list) or len(reply) not in (8, IDS_PER_QUERY):
        raise LoadError(f"{request!r}: {reply!r}")
    pool = [b"".join(read_one() for _ in range(depth)) for _ in range(POOL_COMMANDS // depth)]
    batch = itertools.cycle(pool).__next__

    def run(seconds: float) -> int:
        return depth * bed.fleet.run_batches([batch] * len(bed.fleet.fds), lines * depth, seconds)

    return run, _nothing


def _redis_unlock(rows: range) -> Callable[[bytes], bytes]:
    locked = b"+OK\r\n" * len(rows)
    request = b"".join(encode("DEL", f"lock:{row}") for row in rows)

    def unlock(reply: bytes) -> bytes:
        if reply != locked:
            raise LoadError(f"not locked: {reply[:200]!r}")
        return request

    return unlock


def _klani_unlock(rows: range) -> Callable[[bytes], bytes]:
    heads = [encode("KL.UNLOCK", f"seats:{row}").replace(b"*2", b"*3", 1) for row in rows]
    template = b"".join(head + b"$%d\r\n%b\r\n" for head in heads)
    only = len(rows) == 1

    def unlock(reply: bytes) -> bytes:
        if only:
            token = reply[1:-2]
            return template % (len(token), token)
        words: list[int | bytes] = []
        for token in reply[1:-2].split(b"\r\n:"):
            words += (len(token), token)
        return template % tuple(words)

    return unlock
