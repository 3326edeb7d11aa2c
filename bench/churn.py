"""Holds that nobody pays, for a minute: no seat is lost to the pool, the last is as fast as the first.

    python bench/churn.py [--shoppers 1000] [--seats 4000] [--seconds 60] [--hold-ms 100] [--pace-ms 0]

Each shopper, a connection of its own, holds a seat, forgets it and `pace-ms` later holds another, so
every seat expires and is offered again, over and over, and ended holds pile up, without a pace as fast as the
server can make them. They are remembered for a day: `room-mib` is what the server is given for it, more than
it takes unless told, and when it is full (-OOM) the churn ends early. Afterwards every seat must be for sale.
Exit status: 0 if all are, the time was served in full, and its last quarter is no slower than the first by
more than their noise; 1 if not.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import launch, seats
from bench.harness.loadgen import READ_BYTES, Client, LoadError, encode

RANKS = 10
HOLD_LINES = 5  # of KL.HOLD's reply: `*3`, token, `*1`, id, deadline
CLAIM_ROWS_MAX = 1000  # of one KL.CLAIM
NOISE_SHARE_MIN = 0.03  # of the throughput: what two runs of anything differ by on a machine with neighbours


@dataclass
class Second:
    """What happened in about a second; `server_us` is the server's CPU per command."""

    length: float = 1.0  # seconds
    holds: int = 0
    busy: int = 0
    server_us: float = 0.0
    rss_bytes: int = 0

    @property
    def rate(self) -> float:
        return self.holds / self.length


class Shoppers:
    """All connections on one epoll: the shoppers must cost less than the server that they wear."""

    def __init__(self, server: launch.Server, options: argparse.Namespace) -> None:
        self._server = server
        self._busy_seconds = options.hold_ms / 1000 / 4  # from BUSY to the next asking
        self._pace_seconds = options.pace_ms / 1000
        self.room_full = ""  # the server's words when it took no more
        self._sockets = [
            socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(options.shoppers)
        ]
        self._epoll = select.epoll()
        self._request: dict[int, bytes] = {}
        self._received: dict[int, bytes] = {}
        self._waiting: list[tuple[float, int]] = []  # a heap: when to ask again, and on which connection
        for number, connection in enumerate(self._sockets):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = connection.fileno()
            self._epoll.register(fd, select.EPOLLIN)
            self._received[fd] = b""
            head = ("KL.HOLD", seats.TABLE, "is_booked", 0, "rank", number % RANKS, "PX", options.hold_ms)
            self._request[fd] = encode(*head, "FOR", f"shopper-{number}")

    def run(self, count: int) -> list[Second]:
        """`count` whole seconds of it, after one that is not counted; fewer when the room is full."""
        rng = random.Random(4)
        begun = time.monotonic()
        for fd in self._request:
            heapq.heappush(self._waiting, (begun + rng.random() * max(self._pace_seconds, 0.1), fd))
        self._second()
        seconds: list[Second] = []
        while len(seconds) < count:
            second = self._second()
            if self.room_full:
                break
            seconds.append(second)
        return seconds

    def close(self) -> None:
        self._epoll.close()
        for connection in self._sockets:
            connection.close()

    def _second(self) -> Second:
        second = Second()
        cpu = sum(self._server.cpu_seconds())
        begun = now = time.monotonic()
        while now < begun + 1:
            due = self._waiting[0][0] if self._waiting else begun + 1
            for fd, _ in self._epoll.poll(max(0.0, min(due, begun + 1) - now)):
                self._receive(fd, second)
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                fd = heapq.heappop(self._waiting)[1]
                os.write(fd, self._request[fd])
        second.length = now - begun
        used = sum(self._server.cpu_seconds()) - cpu
        second.server_us = used * 1e6 / max(1, second.holds + second.busy)
        second.rss_bytes = self._server.rss_bytes()
        return second

    def _receive(self, fd: int, second: Second) -> None:
        reply = self._received[fd] + os.read(fd, READ_BYTES)
        if reply.startswith(b"*3") and reply.count(b"\n") < HOLD_LINES:
            self._received[fd] = reply
            return
        self._received[fd] = b""
        if reply.startswith(b"*3"):
            second.holds += 1
            if self._pace_seconds:
                heapq.heappush(self._waiting, (time.monotonic() + self._pace_seconds, fd))
            else:
                os.write(fd, self._request[fd])
        elif reply.startswith(b"-BUSY"):
            second.busy += 1
            heapq.heappush(self._waiting, (time.monotonic() + self._busy_seconds, fd))
        elif reply.startswith(b"-OOM"):
            self.room_full = reply[1:].decode().strip()  # and this shopper asks no more
        else:
            raise LoadError(f"KL.HOLD: {reply!r}")


def claim_all(client: Client, options: argparse.Namespace) -> int:
    """How many seats could be claimed, once the last hold must be over."""
    claimed = 0
    deadline = time.monotonic() + 2 * options.hold_ms / 1000 + 5
    for rank in range(RANKS):
        head = ("KL.CLAIM", seats.TABLE, "is_booked", 0, "rank", rank, "SET", "is_booked", 1)
        count = CLAIM_ROWS_MAX
        while count:
            try:
                ids = client.call(*head, "COUNT", count)
            except LoadError as error:
                if "BUSY" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(options.hold_ms / 1000)
                continue
            claimed += len(ids)
            if not ids:
                count //= 2  # fewer than that are left
    return claimed


@dataclass(frozen=True)
class Verdict:
    """`fall` is the share of the first quarter's holds per second that the last one lacks."""

    first: float
    last: float
    fall: float
    noise: float
    first_server_us: float
    last_server_us: float

    @classmethod
    def of(cls, seconds: list[Second]) -> Verdict:
        quarter = max(1, len(seconds) // 4)
        ends = (seconds[:quarter], seconds[-quarter:])
        rates = [[second.rate for second in end] for end in ends]
        first, last = (statistics.mean(end) for end in rates)
        errors = [statistics.variance(end) / len(end) if len(end) > 1 else 0.0 for end in rates]
        cpu = [statistics.mean(second.server_us for second in end) for end in ends]
        noise = max(NOISE_SHARE_MIN, 2 * sum(errors) ** 0.5 / first)
        return cls(first, last, 1 - last / first, noise, *cpu)

    @property
    def steady(self) -> bool:
        return self.fall <= self.noise


@contextmanager
def loaded_server(directory: Path, rows: int, room_mib: int) -> Iterator[launch.Server]:
    settings = directory / "klani.toml"
    settings.write_text(f"remembered_bytes_max = {room_mib << 20}\n")
    server = launch.klani(directory / "data", "--config", str(settings))
    try:
        client = Client(server.port)
        seats.create_klani(client)
        client.close()
        seats.load_klani(server.port, 0, rows, RANKS)
        yield server
    finally:
        server.stop()


def report(seconds: list[Second], claimed: int, room_full: str, options: argparse.Namespace) -> int:
    if not seconds:
        print(f"ended before a whole second could be counted: {room_full}  MISSED")
        return 1
    verdict = Verdict.of(seconds)
    holds = sum(second.holds for second in seconds)
    busy = sum(second.busy for second in seconds)
    total = options.seats
    print(f"{holds} holds of {total} seats let go, {holds / total:.0f} each; BUSY {busy} times")
    print(f"holds per second: first quarter {verdict.first:.0f}, last {verdict.last:.0f}")
    print(f"server CPU per command: {verdict.first_server_us:.1f} us, then {verdict.last_server_us:.1f} us")
    rss = [seconds[i].rss_bytes / 2**20 for i in (0, -1)]
    print(f"server's memory: {rss[0]:.0f} MiB after the first second, {rss[1]:.0f} MiB at the end")
    steady = "ok" if verdict.steady else "MISSED"
    print(f"fall {verdict.fall:.1%}, noise {verdict.noise:.1%}  {steady}")
    print(f"for sale at the end: {claimed} of {total}  {'ok' if claimed == total else 'MISSED'}")
    if options.output is not None:
        facts = {"verdict": asdict(verdict), "claimed": claimed, "holds": holds, "busy": busy}
        facts["seconds"] = [asdict(second) for second in seconds]
        options.output.write_text(json.dumps(facts, indent=2) + "\n")
    if room_full:
        print(f"ended after {len(seconds)} of {options.seconds} s: {room_full}  MISSED")
    passed = verdict.steady and claimed == total and not room_full
    print(
        f"churn_done shoppers={options.shoppers} seats={total} holds={holds} busy={busy} "
        f"claimed={claimed} first_quarter={verdict.first:.0f} last_quarter={verdict.last:.0f}"
    )
    return 0 if passed else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shoppers", type=int, default=1000)
    parser.add_argument("--seats", type=int, default=4000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--hold-ms", type=int, default=100)
    parser.add_argument("--pace-ms", type=int, default=0, help="from one hold of a shopper to the next")
    parser.add_argument("--room-mib", type=int, default=2048, help="for what is remembered (server: 256)")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="klani-churn-") as directory,
        loaded_server(Path(directory), options.seats, options.room_mib) as server,
    ):
        shoppers = Shoppers(server, options)
        seconds = shoppers.run(options.seconds)
        shoppers.close()
        client = Client(server.port)
        claimed = claim_all(client, options)
        client.close()
        return report(seconds, claimed, shoppers.room_full, options)


if __name__ == "__main__":
    sys.exit(main())
