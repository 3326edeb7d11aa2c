"""Flow `hold`: a seat is kept aside, then paid for, given back, or forgotten until its time is over."""

from __future__ import annotations

import math
import time
from typing import Any

from redis.exceptions import ResponseError

from bench.horde.options import BOOKED, Options
from bench.horde.stats import Kind, Tally
from bench.horde.wire import Args, Backoff, Wire, Worker

KIND = Kind(
    commands=("HOLD", "CONFIRM", "RELEASE"),
    events=("busy", "confirmed", "released", "expired", "resold", "sold_out"),
    refused=("busy", "resold"),
    conflict="busy",
    left=("released", "expired", "sold_out"),
    sells_all=True,
)


def users_min(options: Options) -> int:
    """Fewer do not buy all, of whom only some pay. How many come to each rank is chance: beside few seats of
    a rank a few more are wanted."""
    return math.ceil(options.seats / options.confirm_rate)


class Holds:
    """The words of KL.HOLD, up to the shopper's name, for each group."""

    def __init__(self, options: Options) -> None:
        goods = options.goods
        head = (b"KL.HOLD", goods.table.encode(), BOOKED.encode(), b"0", goods.group.encode())
        tail = (b"PX", b"%d" % options.hold_ms, b"FOR")
        self._words: list[Args] = [(*head, b"%d" % group, *tail) for group in range(options.ranks)]
        self._set = (b"SET", BOOKED.encode(), b"1", goods.buyer.encode())

    def hold(self, group: int, buyer: int) -> Args:
        return (*self._words[group], b"shopper-%d" % buyer)

    def confirm(self, token: int, buyer: int) -> Args:
        return (b"KL.CONFIRM", token, *self._set, buyer)


class HoldWorker(Worker):
    """A shopper holds, thinks it over, and pays with probability `confirm_rate`; of the others half release
    and half just leave. One whose seat was resold because the thinking took too long begins anew.
    """

    def __init__(self, number: int, options: Options, holds: Holds, wire: Wire, tally: Tally) -> None:
        super().__init__(number, options, wire, tally)
        self._holds = holds
        self._confirm_rate = options.confirm_rate
        self._think_seconds_max = 2 * options.think_ms / 1000

    def _serve(self, user: int, rank: int) -> None:
        buyer = user + 1
        while True:
            held = self._hold(rank, buyer)
            if held is None:
                self._event("sold_out")
                return
            if self._think_seconds_max:
                time.sleep(self._random() * self._think_seconds_max)
            token, seats, _ = held
            choice = self._random()
            if choice >= self._confirm_rate:
                self._let_go(token, released=choice < (1 + self._confirm_rate) / 2)
                return
            if self._confirm(token, seats, buyer):
                return

    def _hold(self, rank: int, buyer: int) -> tuple[int, list[int], int] | None:
        """Token, seats and deadline; None when all are sold."""
        args = self._holds.hold(rank, buyer)
        backoff = Backoff(self._random)
        while True:
            try:
                reply: Any = self._wire.call("HOLD", args)
            except ResponseError as error:
                if not str(error).startswith("BUSY"):
                    raise
                self._event("busy")
                backoff.wait()
                continue
            return tuple(reply) if reply else None

    def _confirm(self, token: int, seats: list[int], buyer: int) -> bool:
        try:
            sold = self._wire.call("CONFIRM", self._holds.confirm(token, buyer))
        except ResponseError as error:
            if not str(error).startswith("RESOLD"):
                raise
            self._event("resold")
            return False
        assert sold == seats, f"held {seats}, confirmed {sold}"
        self._event("confirmed")
        self._book(seats[0], buyer)
        return True

    def _let_go(self, token: int, released: bool) -> None:
        """A release that comes after the deadline answers 0: the hold had expired."""
        if released and self._wire.call("RELEASE", (b"KL.RELEASE", token)):
            self._event("released")
        else:
            self._event("expired")
