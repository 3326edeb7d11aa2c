"""Flow `rooms`: as many sessions as rooms, in a few hotels; each books one, until exactly all are booked."""

from __future__ import annotations

from bench.horde.flow_claim import Claims, ClaimWorker
from bench.horde.options import Options
from bench.horde.stats import Kind, Tally
from bench.horde.wire import Wire

KIND = Kind(
    commands=("CLAIM",),
    events=("busy", "hotel_full", "sold_out"),
    refused=("busy",),
    conflict="busy",
    left=("sold_out",),
    sells_all=True,
)


class RoomsWorker(ClaimWorker):
    """A guest whose hotel is full asks at the next one, all the way round."""

    def __init__(self, number: int, options: Options, claims: Claims, wire: Wire, tally: Tally) -> None:
        super().__init__(number, options, claims, wire, tally)
        self._hotels = options.ranks

    def _serve(self, user: int, rank: int) -> None:
        for turn in range(self._hotels):
            if self._claim((rank + turn) % self._hotels, user + 1):
                return
            self._event("hotel_full")
        self._event("sold_out")
