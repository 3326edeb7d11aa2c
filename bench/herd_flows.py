"""The seed's purchase flow as one worker runs it, over either engine's commands.

Both engines go through the same code: only the argument tuples differ. Where klani-resp has one verb, Redis
has what one would write there: a set of free seats per rank, SET NX PX for the lock, HGETALL, and two
scripts that look whether the lock is still theirs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from time import perf_counter_ns
from typing import Any, Protocol

from redis import connection as redis_connection
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from bench.herd_stats import Tally

_hiredis_pack: Callable[[Any], bytes] | None
try:
    from hiredis import pack_command as _hiredis_pack
except ImportError:  # redis-py without its fast parser: same herd, dearer client
    _hiredis_pack = None

CANDIDATES_ASKED = 64
CANDIDATES_TRIED = 16
TABLE = b"seats"

Args = tuple[bytes | int, ...]

# KEYS: lock, row, free set. ARGV: token, rank, seat_no, buyer, id, 1 to let go of the lock.
REDIS_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('NOLOCK the lease is over') end
redis.call('HSET', KEYS[2], 'rank', ARGV[2], 'seat_no', ARGV[3], 'is_booked', 1, 'buyer', ARGV[4])
redis.call('SREM', KEYS[3], ARGV[5])
if ARGV[6] == '1' then redis.call('DEL', KEYS[1]) end
return redis.status_reply('OK')
"""
REDIS_UNLOCK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


@dataclass(frozen=True)
class Options:
    """What a herd is told; travels to every process."""

    engine: str = "klani"
    flow: str = "exact"
    users: int = 100_000
    seats: int = 10_000
    ranks: int = 10
    workers: int = 128
    processes: int = 4
    seed: int = 0
    lease_ms: int = 10_000
    owner: str = "none"
    seed_shortcut: bool = False
    host: str = "127.0.0.1"
    port: int = 6379
    unixsocket: str | None = None
    scripts: tuple[bytes, bytes] = (b"", b"")  # SHA1 of REDIS_REPLACE and REDIS_UNLOCK, loaded beforehand


class Verbs(Protocol):
    """An engine's arguments for each step; `attempt` names one attempt at one seat."""

    server_tokens: bool  # the lock's token is TRYLOCK's reply; else it is the attempt itself

    def intersect(self, rank: int) -> Args: ...
    def trylock(self, seat: int, attempt: bytes) -> Args: ...
    def seek(self, seat: int) -> Args: ...
    def replace(self, seat: int, token: Any, row: tuple[int, int, int], unlock: bool) -> Args: ...
    def unlock(self, seat: int, token: Any) -> Args: ...


class KlaniVerbs:
    server_tokens = True

    def __init__(self, options: Options) -> None:
        self._keys = [b"%s:%d" % (TABLE, seat) for seat in range(options.seats)]
        self._lease_ms = b"%d" % options.lease_ms
        self._intersect: list[Args] = [
            (b"KL.INTERSECT", TABLE, b"is_booked", b"0", b"rank", b"%d" % rank)
            for rank in range(options.ranks)
        ]

    def intersect(self, rank: int) -> Args:
        return self._intersect[rank]

    def trylock(self, seat: int, attempt: bytes) -> Args:
        if attempt:
            return (b"KL.TRYLOCK", self._keys[seat], b"PX", self._lease_ms, b"OWNER", attempt)
        return (b"KL.TRYLOCK", self._keys[seat], b"PX", self._lease_ms)

    def seek(self, seat: int) -> Args:
        return (b"KL.SEEK", self._keys[seat])

    def replace(self, seat: int, token: Any, row: tuple[int, int, int], unlock: bool) -> Args:
        rank, seat_no, buyer = row
        fields = (b"rank", rank, b"seat_no", seat_no, b"is_booked", 1, b"buyer", buyer)
        ending = (b"UNLOCK",) if unlock else ()
        return (b"KL.REPLACE", self._keys[seat], token, *fields, *ending)

    def unlock(self, seat: int, token: Any) -> Args:
        return (b"KL.UNLOCK", self._keys[seat], token)


class RedisVerbs:
    server_tokens = False

    def __init__(self, options: Options) -> None:
        self._keys = [b"%s:%d" % (TABLE, seat) for seat in range(options.seats)]
        self._locks = [b"lock:%d" % seat for seat in range(options.seats)]
        self._free = [b"free:%d" % rank for rank in range(options.ranks)]
        self._lease_ms = b"%d" % options.lease_ms
        self._replace, self._unlock = options.scripts

    def intersect(self, rank: int) -> Args:
        return (b"SRANDMEMBER", self._free[rank], CANDIDATES_ASKED)

    def trylock(self, seat: int, attempt: bytes) -> Args:
        return (b"SET", self._locks[seat], attempt, b"NX", b"PX", self._lease_ms)

    def seek(self, seat: int) -> Args:
        return (b"HGETALL", self._keys[seat])

    def replace(self, seat: int, token: Any, row: tuple[int, int, int], unlock: bool) -> Args:
        rank, seat_no, buyer = row
        keys = (self._locks[seat], self._keys[seat], self._free[rank])
        return (b"EVALSHA", self._replace, 3, *keys, token, rank, seat_no, buyer, seat, int(unlock))

    def unlock(self, seat: int, token: Any) -> Args:
        return (b"EVALSHA", self._unlock, 1, self._locks[seat], token)


def verbs_of(options: Options) -> Verbs:
    return KlaniVerbs(options) if options.engine == "klani" else RedisVerbs(options)


class Connection(Protocol):
    """What is used of redis-py's Connection, which is not typed."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_command(self, *args: bytes | int) -> list[bytes]: ...
    def send_packed_command(self, command: tuple[bytes, ...], check_health: bool) -> None: ...
    def read_response(self) -> Any: ...


def connect(options: Options) -> Connection:
    """One redis-py connection, RESP3. It never resends, and does not retry to connect either."""
    kind: Any = redis_connection.Connection
    address: dict[str, Any] = {"host": options.host, "port": options.port}
    if options.unixsocket is not None:
        kind, address = redis_connection.UnixDomainSocketConnection, {"path": options.unixsocket}
    connection: Connection = kind(**address, protocol=3, retry=Retry(NoBackoff(), 0))
    connection.connect()
    return connection


class Wire:
    """Sends commands on one connection and records how long each took.

    It speaks through redis-py's Connection, not through its client: measured with 32 threads in a process
    that is 60 us a command in place of 90, for both engines alike.
    """

    def __init__(self, connection: Connection, tally: Tally, origin_ns: int) -> None:
        self._send = connection.send_packed_command
        self._read = connection.read_response
        self._pack: Callable[[Any], bytes] = _hiredis_pack or (
            lambda args: b"".join(connection.pack_command(*args))
        )
        self._tally = tally
        self._origin_ns = origin_ns

    def elapsed_ms(self) -> int:
        return (perf_counter_ns() - self._origin_ns) // 1_000_000

    def call(self, command: str, args: Args) -> Any:
        """One command in one round trip; its reply. Raises redis-py's exceptions, which are no samples."""
        start = perf_counter_ns()
        self._tally.round_trips += 1
        self._send((self._pack(args),), False)
        reply = self._read()
        self._record(command, start)
        return reply

    def pair(self, first: str, first_args: Args, second: str, second_args: Args) -> tuple[Any, Any]:
        """Two commands in one round trip; each lasts from the sending to its own reply."""
        start = perf_counter_ns()
        self._tally.round_trips += 1
        self._send((self._pack(first_args) + self._pack(second_args),), False)
        first_reply = self._read()
        self._record(first, start)
        second_reply = self._read()
        self._record(second, start)
        return first_reply, second_reply

    def _record(self, command: str, start_ns: int) -> None:
        now = perf_counter_ns()
        self._tally.took_us[command].append((now - start_ns) // 1000)
        self._tally.ended_ms[command].append((now - self._origin_ns) // 1_000_000)


class Worker:
    """Serves users one after the other. A user leaves with a seat, or after an empty INTERSECT of its own."""

    def __init__(self, number: int, options: Options, verbs: Verbs, wire: Wire, tally: Tally) -> None:
        self._number = number
        self._verbs = verbs
        self._wire = wire
        self._tally = tally
        self._random = Random(f"{options.seed}:{number}").random
        self._pipelined = options.flow == "pipelined"
        self._attempts_named = options.owner == "uuid" or not verbs.server_tokens
        self._remembers = options.seed_shortcut
        self._sold_out: set[int] = set()

    def serve(self, user: int, rank: int) -> None:
        if rank in self._sold_out:
            self._event("no_ticket")
            return
        while True:
            candidates = self._wire.call("INTERSECT", self._verbs.intersect(rank))
            if not candidates:
                self._event("no_ticket")
                if self._remembers:
                    self._sold_out.add(rank)
                return
            if self._buy_one_of(candidates, rank, user + 1):
                return
            self._event("exhausted")

    def _buy_one_of(self, candidates: list[Any], rank: int, buyer: int) -> bool:
        """Tries up to 16 at random: in their order, all workers would queue up behind the same seats."""
        for _ in range(min(CANDIDATES_TRIED, len(candidates))):
            chosen = int(self._random() * len(candidates))
            candidates[chosen], candidates[-1] = candidates[-1], candidates[chosen]
            if self._buy(int(candidates.pop()), rank, buyer):
                return True
        return False

    def _buy(self, seat: int, rank: int, buyer: int) -> bool:
        verbs, wire = self._verbs, self._wire
        attempt = uuid.uuid4().hex.encode() if self._attempts_named else b""
        trylock, seek = verbs.trylock(seat, attempt), verbs.seek(seat)
        if self._pipelined:
            locked, row = wire.pair("TRYLOCK", trylock, "SEEK", seek)
        else:
            locked, row = wire.call("TRYLOCK", trylock), None
        if locked is None:
            self._event("lock_conflicts")
            return False
        token = locked if verbs.server_tokens else attempt
        if row is None:
            row = wire.call("SEEK", seek)
        if int(row[b"is_booked"]):
            self._event("already_sold")
            wire.call("UNLOCK", verbs.unlock(seat, token))
            return False
        new_row = (rank, int(row[b"seat_no"]), buyer)
        try:
            wire.call("REPLACE", verbs.replace(seat, token, new_row, self._pipelined))
        except ResponseError as error:
            if not str(error).startswith("NOLOCK"):
                raise
            return self._after_lost_lease(seat, buyer)
        self._book(seat, buyer)
        if not self._pipelined:
            wire.call("UNLOCK", verbs.unlock(seat, token))
        return True

    def _after_lost_lease(self, seat: int, buyer: int) -> bool:
        """NOLOCK speaks of one sending only, so the row decides."""
        self._event("lease_lost")
        row = self._wire.call("SEEK", self._verbs.seek(seat))
        if int(row[b"is_booked"]) and int(row[b"buyer"]) == buyer:
            self._book(seat, buyer)
            return True
        return False

    def _book(self, seat: int, buyer: int) -> None:
        self._tally.sold_seat.append(seat)
        self._tally.sold_buyer.append(buyer)
        self._tally.sold_worker.append(self._number)
        self._tally.sold_ms.append(self._wire.elapsed_ms())

    def _event(self, name: str) -> None:
        self._tally.events_ms[name].append(self._wire.elapsed_ms())
