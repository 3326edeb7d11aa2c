"""Flow `claim`: each user makes one call that decides inside the server, and gets a seat or "sold out"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import ResponseError

from bench.horde.options import BOOKED, Options
from bench.horde.stats import Kind, Tally
from bench.horde.wire import Args, Backoff, Wire, Worker

KIND = Kind(
    commands=("CLAIM",),
    events=("busy", "sold_out"),
    refused=("busy",),
    conflict="busy",
    left=("sold_out",),
)


class Claims(Protocol):
    """An engine's arguments of a claim. Its reply is a list: of the seat's id, or of nothing, sold out."""

    def claim(self, group: int, buyer: int) -> Args: ...


class KlaniClaims:
    def __init__(self, options: Options) -> None:
        goods = options.goods
        head = (b"KL.CLAIM", goods.table.encode(), BOOKED.encode(), b"0", goods.group.encode())
        tail = (b"SET", BOOKED.encode(), b"1", goods.buyer.encode())
        self._words: list[Args] = [(*head, b"%d" % group, *tail) for group in range(options.ranks)]

    def claim(self, group: int, buyer: int) -> Args:
        return (*self._words[group], buyer)


class RedisClaims:
    def __init__(self, options: Options) -> None:
        script = options.scripts[-1]
        self._words: list[Args] = [
            (b"EVALSHA", script, 1, options.goods.free_set(group)) for group in range(options.ranks)
        ]

    def claim(self, group: int, buyer: int) -> Args:
        return (*self._words[group], buyer)


class SqlClaims:
    """The parameters of the statement that PostgresWire and SqliteWire have at hand."""

    def __init__(self, options: Options) -> None:
        pass

    def claim(self, group: int, buyer: int) -> Args:
        return (group, buyer)


def claims_of(options: Options) -> Claims:
    kinds: dict[str, Callable[[Options], Claims]] = {
        "klani": KlaniClaims,
        "redis": RedisClaims,
        "postgres": SqlClaims,
        "sqlite": SqlClaims,
    }
    return kinds[options.engine](options)


class ClaimWorker(Worker):
    """A user leaves with a seat or the engine's own word that all are sold. BUSY is asked again."""

    def __init__(self, number: int, options: Options, claims: Claims, wire: Wire, tally: Tally) -> None:
        super().__init__(number, options, wire, tally)
        self._claims = claims

    def _serve(self, user: int, rank: int) -> None:
        if not self._claim(rank, user + 1):
            self._event("sold_out")

    def _claim(self, group: int, buyer: int) -> bool:
        """Whether the buyer has one of the group's rows now; if not, all are sold."""
        args = self._claims.claim(group, buyer)
        backoff = Backoff(self._random)
        while True:
            try:
                reply: list[Any] = self._wire.call("CLAIM", args)
            except ResponseError as error:
                if not str(error).startswith("BUSY"):
                    raise
                self._event("busy")
                backoff.wait()
                continue
            if not reply:
                return False
            self._book(int(reply[0]), buyer)
            return True
