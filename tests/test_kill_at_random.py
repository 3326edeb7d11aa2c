"""A2: kill -9 at random under 8 redis-py clients as they come: they send a command again, up to ten times.

Each client keeps a book: sales that were answered, those that were refused, those of which it knows nothing.
One directory, one port; the server is killed and started again and again, and at the end the store is held
against the books. `KLANI_PROOF=long` kills 2,000 times. The clients' choices and the kills come from the
seed; which instant a kill hits does not, so a replay is a run of the same seed.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import redis

from bench.harness.launch import free_port
from klani_resp.__main__ import main
from tests.proof import scaled
from tests.zygote import Forked, Zygote, until

CLIENTS = 8
KILLS = scaled(50, 2_000)
SEATS_PER_KILL = 120
CYCLE_SECONDS_MAX = 2.0
SEED = int(os.environ.get("KLANI_SEED", "20261125"))

pytestmark = pytest.mark.proof


@dataclass(slots=True)
class Book:
    """What one client knows. A sale has a number of its own, and one seat or two."""

    tried: dict[int, tuple[int, ...]] = field(default_factory=dict)
    sold: dict[int, int] = field(default_factory=dict)  # sale -> token
    refused: set[int] = field(default_factory=set)
    notes: set[int] = field(default_factory=set)
    notes_tried: set[int] = field(default_factory=set)


class Seller(Thread):
    def __init__(self, number: int, port: int, seed: int, stop: Event, options: dict[str, Any]) -> None:
        super().__init__(name=f"seller {number}", daemon=True)
        self.book = Book()
        self.acknowledged = 0
        self._number = number
        self._options = {"port": port, **options}
        self._random = random.Random(seed * 100 + number)
        self._stop_asked = stop
        self._next = number * 10_000_000 + 1

    def run(self) -> None:
        with redis.Redis(**self._options) as client:
            while not self._stop_asked.is_set():
                try:
                    if self._random.random() < 0.2:
                        self._note(client)
                    else:
                        self._sell(client)
                except (redis.ConnectionError, redis.TimeoutError):
                    pass  # eleven sendings, and no answer: the book says that it was tried

    def _note(self, client: Any) -> None:
        """A row of its own: sent again, it is there once, and answered as if it were new."""
        self._next += 1
        number = self._next
        self.book.notes_tried.add(number)
        assert client.execute_command("KL.INSERT", f"notes:{number}", "text", b"%d" % number) == 1
        self.book.notes.add(number)
        self.acknowledged += 1

    def _sell(self, client: Any) -> None:
        ask = client.execute_command
        count = self._random.choice((1, 1, 2))
        free = ask("KL.INTERSECT", "seats", "state", 0, "FREE", "LIMIT", 40)
        assert len(free) >= count, "more seats are wanted"
        seats = tuple(self._random.sample(free, count))
        attempt = self._random.randbytes(8).hex()
        token = ask("KL.TRYLOCK", *seats, "PX", 60_000, "OWNER", attempt)
        if token is None:
            return
        if any(ask("KL.SEEK", seat, "state") != _state(0) for seat in seats):
            ask("KL.UNLOCK", *seats, token)  # sold between the question and the lock
            return
        self._next += 1
        sale = self._next
        self.book.tried[sale] = seats
        try:
            with client.pipeline(transaction=count > 1) as pipeline:
                for seat in seats:
                    pipeline.execute_command("KL.REPLACE", seat, token, "state", 1, "buyer", sale, "UNLOCK")
                assert pipeline.execute() == [b"OK"] * count
        except redis.ResponseError as error:
            assert "NOLOCK" in str(error)
            if ask("KL.SEEK", seats[0], "buyer") != {b"buyer": sale}:  # else an earlier sending did it
                self.book.refused.add(sale)
                return
        self.book.sold[sale] = token
        self.acknowledged += 1


def _state(value: int) -> dict[bytes, int]:
    return {b"state": value}


class Hall:
    """A directory, a port, and the server that is there at the moment."""

    def __init__(self, place: Path, plant: str) -> None:
        self.place = place
        self.port = free_port()
        self.zygote = Zygote(plant)
        self.server: Forked | None = None

    def start(self) -> Forked:
        options = ("--port", str(self.port), "--dir", str(self.place / "data"), "--checkpoint-bytes", "30000")
        self.server = self.zygote.fork(self.place / "log", *options)
        self.zygote.go()
        until(self._answers, "a start")
        return self.server

    def _answers(self) -> bool:
        assert self.server is not None
        assert not self.server.has_ended(), (self.place / "log").read_text()[-500:]
        probe = redis.Redis(port=self.port, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
        with probe:
            try:
                return bool(probe.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    def kill(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
        self.server.close()
        self.server = None

    def close(self) -> None:
        if self.server is not None:
            self.kill()
        self.zygote.close()


@contextmanager
def hall(place: Path, plant: str = "") -> Iterator[Hall]:
    one = Hall(place, plant)
    try:
        yield one
    finally:
        one.close()


def sell_and_kill(one: Hall, kills: int, seed: int, **options: Any) -> list[Book]:
    """Kills the server at some moment after some number of answers, `kills` times."""
    one.start()
    with redis.Redis(port=one.port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "state", "U8", "INDEX", "buyer", "U64")
        client.execute_command("KL.CREATE", "notes", "SCHEMA", "text", "BYTES", 12)
        with client.pipeline(transaction=False) as pipeline:
            for seat in range(SEATS_PER_KILL * kills):
                pipeline.execute_command("KL.INSERT", seat, "state", 0)
            pipeline.execute()
    stop = Event()
    sellers = [Seller(number, one.port, seed, stop, options) for number in range(1, CLIENTS + 1)]
    for seller in sellers:
        seller.start()
    try:
        source = random.Random(seed)
        for _ in range(kills):
            _kill_once(one, sellers, source)
            one.start()
    finally:
        stop.set()
        for seller in sellers:
            seller.join(100)
    return [seller.book for seller in sellers]


def _kill_once(one: Hall, sellers: list[Seller], source: random.Random) -> None:
    server = one.server
    assert server is not None
    enough = sum(seller.acknowledged for seller in sellers) + source.randrange(1, 60)
    beats = int(CYCLE_SECONDS_MAX / 0.001)
    while sum(seller.acknowledged for seller in sellers) < enough and beats > 0:
        assert all(seller.is_alive() for seller in sellers), "a client came to grief"
        assert not server.has_ended(0.001), (one.place / "log").read_text()[-500:]
        beats -= 1
    server.has_ended(source.random() * 0.004)  # in the middle of whatever comes next
    one.kill()


def judge(port: int, books: list[Book]) -> None:
    """The store against the books."""
    with redis.Redis(port=port, protocol=3) as client:
        seats = dict(_rows(client, "seats"))
        notes = {number for number, _ in _rows(client, "notes")}
        verdict = client.execute_command("KL.VERIFY", "seats", "state", 1)
    assert verdict[b"ok"] == 1
    held: dict[int, list[int]] = {}
    for seat, values in seats.items():
        if values[b"state"]:
            held.setdefault(values[b"buyer"], []).append(seat)
    tried = {sale: seats for book in books for sale, seats in book.tried.items()}
    sold = {sale: token for book in books for sale, token in book.sold.items()}
    lost = {sale: tried[sale] for sale in sold if sorted(held.get(sale, [])) != sorted(tried[sale])}
    assert not lost, f"acknowledged sales are lost: {lost}"
    answered = [seat for sale in sold for seat in tried[sale]]
    assert len(answered) == len(set(answered)), "a seat was sold twice"
    for sale, seats_of in held.items():
        assert sorted(seats_of) == sorted(tried[sale]), f"sale {sale} took effect in part, or elsewhere"
    assert not any(held.keys() & book.refused for book in books), "a refused sale took effect"
    assert len(set(sold.values())) == len(sold), "a token was given out twice"
    assert {n for book in books for n in book.notes} <= notes <= {n for b in books for n in b.notes_tried}


def _rows(client: Any, table: str) -> Iterator[tuple[int, dict[bytes, Any]]]:
    cursor: bytes | int = 0
    while True:
        cursor, rows = client.execute_command("KL.SCAN", table, cursor, "COUNT", 1000)
        yield from ((number, values) for number, values in rows)
        if cursor == b"0":
            return


@pytest.mark.timeout(4000 if KILLS > 100 else 120)
def test_no_sale_is_lost_and_no_seat_sold_twice(tmp_path: Path, figure: Callable[[str, int], None]) -> None:
    print(f"KLANI_SEED={SEED} python -m pytest tests/test_kill_at_random.py")
    with hall(tmp_path) as one:
        books = sell_and_kill(one, KILLS, SEED)
        judge(one.port, books)
        one.kill()
        assert main(["check", str(tmp_path / "data")]) == 0
        one.start()
        judge(one.port, books)
    sold = sum(len(book.sold) for book in books)
    unknown = sum(len(book.tried) - len(book.sold) - len(book.refused) for book in books)
    print(f"{KILLS} kills, {sold} sales, {sum(len(b.refused) for b in books)} refused, {unknown} unknown")
    figure("A2 kills under redis-py clients", KILLS)
    figure("A2 sales in their books", sold)
    assert sold > 5 * KILLS


@pytest.mark.parametrize("plant", ["batch never written", "no locks"])
def test_a_store_that_loses_or_resells_is_caught(tmp_path: Path, plant: str) -> None:
    """Of the check itself: a server that skips one write to the log in four, one without locks."""
    with hall(tmp_path, plant) as one, pytest.raises((AssertionError, redis.ResponseError)) as caught:
        quickly = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 10)
        judge(one.port, sell_and_kill(one, 4, SEED, retry=quickly))
    print(caught.value)
