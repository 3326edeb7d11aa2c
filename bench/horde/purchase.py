"""The seed's purchase flow as one worker runs it, over either engine's commands.

Both engines go through the same code: only the argument tuples differ. Where klani-resp has one verb, Redis
has what one would write there: a set of free seats per rank, SET NX PX for the lock, HGETALL, and two
scripts that look whether the lock is still theirs.
"""

from __future__ import annotations

import uuid
from typing import Any, Protocol

from redis.exceptions import ResponseError

from bench.horde.options import Options
from bench.horde.stats import Tally
from bench.horde.wire import Args, RedisWire, Wire, Worker

CANDIDATES_ASKED = 64
CANDIDATES_TRIED = 16


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
        self._keys = [options.goods.key(seat) for seat in range(options.seats)]
        self._lease_ms = b"%d" % options.lease_ms
        self._intersect: list[Args] = [
            (b"KL.INTERSECT", options.goods.table.encode(), b"is_booked", b"0", b"rank", b"%d" % rank)
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
        self._keys = [options.goods.key(seat) for seat in range(options.seats)]
        self._locks = [b"lock:%d" % seat for seat in range(options.seats)]
        self._free = [options.goods.free_set(rank) for rank in range(options.ranks)]
        self._lease_ms = b"%d" % options.lease_ms
        self._replace, self._unlock, _ = options.scripts

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


class SeedWorker(Worker):
    """A user leaves with a seat, or after an empty INTERSECT of its own."""

    def __init__(self, number: int, options: Options, verbs: Verbs, wire: Wire, tally: Tally) -> None:
        super().__init__(number, options, wire, tally)
        assert isinstance(wire, RedisWire)
        self._pair = wire.pair
        self._verbs = verbs
        self._pipelined = options.flow == "pipelined"
        self._attempts_named = options.owner == "uuid" or not verbs.server_tokens
        self._remembers = options.seed_shortcut
        self._sold_out: set[int] = set()

    def _serve(self, user: int, rank: int) -> None:
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
            locked, row = self._pair("TRYLOCK", trylock, "SEEK", seek)
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
