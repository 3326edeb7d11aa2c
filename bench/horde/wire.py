"""A worker's connection: sends commands, and records how long each took. And what all workers share."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from time import perf_counter_ns
from typing import Any, Protocol

from redis import connection as redis_connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.horde.options import Options
from bench.horde.stats import Tally

_hiredis_pack: Callable[[Any], bytes] | None
try:
    from hiredis import pack_command as _hiredis_pack
except ImportError:  # redis-py without its fast parser: same herd, dearer client
    _hiredis_pack = None

BACKOFF_SECONDS_MIN = 0.001
BACKOFF_SECONDS_MAX = 0.032

Args = tuple[bytes | int, ...]


class Wire:
    """One connection, of either kind; `origin_ns` is when the herd was let loose."""

    def __init__(self, tally: Tally) -> None:
        self.origin_ns = 0
        self._tally = tally

    def call(self, command: str, args: Args) -> Any:
        """One command in one round trip; its reply. Raises its client's exceptions, which are no samples:
        a refusal is counted by the event that the worker makes of it (`Kind.refused`)."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def elapsed_ms(self) -> int:
        return (perf_counter_ns() - self.origin_ns) // 1_000_000

    def _record(self, command: str, start_ns: int) -> None:
        now = perf_counter_ns()
        self._tally.took_us[command].append((now - start_ns) // 1000)
        self._tally.ended_ms[command].append((now - self.origin_ns) // 1_000_000)


class RedisWire(Wire):
    """It speaks through redis-py's Connection, RESP3, not through its client: measured with 32 threads in a
    process that is 60 us a command in place of 90. It never resends, and does not retry to connect either.
    """

    def __init__(self, options: Options, tally: Tally) -> None:
        super().__init__(tally)
        kind: Any = redis_connection.Connection
        address: dict[str, Any] = {"host": options.host, "port": options.port}
        if options.unixsocket is not None:
            kind, address = redis_connection.UnixDomainSocketConnection, {"path": options.unixsocket}
        self._connection: Connection = kind(**address, protocol=3, retry=Retry(NoBackoff(), 0))
        self._connection.connect()
        self._send = self._connection.send_packed_command
        self._read = self._connection.read_response
        self._pack: Callable[[Any], bytes] = _hiredis_pack or (
            lambda args: b"".join(self._connection.pack_command(*args))
        )

    def call(self, command: str, args: Args) -> Any:
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

    def close(self) -> None:
        self._connection.disconnect()


class Connection(Protocol):
    """What is used of redis-py's Connection, which is not typed."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_command(self, *args: bytes | int) -> list[bytes]: ...
    def send_packed_command(self, command: tuple[bytes, ...], check_health: bool) -> None: ...
    def read_response(self) -> Any: ...


def open_wire(options: Options, tally: Tally) -> Wire:
    if options.engine in ("klani", "redis"):
        return RedisWire(options, tally)
    if options.engine == "sqlite":
        from bench.horde.sqlite import SqliteWire

        return SqliteWire(options, tally)
    from bench.horde.postgres import PostgresWire  # here: its client need not be installed

    return PostgresWire(options, tally)


class Backoff:
    """Waits between one BUSY and the next asking: about 1 ms at first, twice as long each time, up to 32."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._seconds = BACKOFF_SECONDS_MIN

    def wait(self) -> None:
        time.sleep(self._seconds * (0.5 + self._random()))
        self._seconds = min(2 * self._seconds, BACKOFF_SECONDS_MAX)


class Worker:
    """Serves users one after the other, each to the end: a sale, or the answer that nothing is left."""

    def __init__(self, number: int, options: Options, wire: Wire, tally: Tally) -> None:
        self._number = number
        self._wire = wire
        self._tally = tally
        self._random = Random(f"{options.seed}:{number}").random
        self._came_ns = 0

    def serve(self, user: int, rank: int) -> None:
        self._came_ns = perf_counter_ns()
        self._serve(user, rank)

    def _serve(self, user: int, rank: int) -> None:
        raise NotImplementedError

    def _book(self, seat: int, buyer: int) -> None:
        """Once the reply that sells it is there: `sold_us` is all that this user had to wait."""
        now = perf_counter_ns()
        self._tally.sold_seat.append(seat)
        self._tally.sold_buyer.append(buyer)
        self._tally.sold_worker.append(self._number)
        self._tally.sold_ms.append((now - self._wire.origin_ns) // 1_000_000)
        self._tally.sold_us.append((now - self._came_ns) // 1000)

    def _event(self, name: str) -> None:
        self._tally.events_ms[name].append(self._wire.elapsed_ms())
