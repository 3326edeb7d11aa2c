"""The flows of the herd: what each sells, over which engines, and who serves its users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.horde import flow_claim, flow_hold, flow_rooms
from bench.horde.options import ROOMS, SEATS, Goods, Options
from bench.horde.purchase import SeedWorker, verbs_of
from bench.horde.stats import SEED, Kind, Tally
from bench.horde.wire import Wire, Worker

ALL_ENGINES = ("klani", "redis", "postgres", "sqlite")


@dataclass(frozen=True)
class Flow:
    """`words` makes the arguments of commands, which a process's workers share; `defaults` are options'.
    Fewer than `users_min` leave something that a flow is to sell out."""

    kind: Kind
    engines: tuple[str, ...]
    words: Callable[[Options], Any]
    worker: Callable[[int, Options, Any, Wire, Tally], Worker]
    goods: Goods = SEATS
    defaults: dict[str, int] = field(default_factory=dict)
    users_min: Callable[[Options], int] = lambda options: 1


_SEED = Flow(SEED, ("klani", "redis"), verbs_of, SeedWorker)
FLOWS = {
    "exact": _SEED,
    "pipelined": _SEED,
    "claim": Flow(flow_claim.KIND, ALL_ENGINES, flow_claim.claims_of, flow_claim.ClaimWorker),
    "hold": Flow(
        flow_hold.KIND,
        ("klani",),
        flow_hold.Holds,
        flow_hold.HoldWorker,
        users_min=flow_hold.users_min,
    ),
    "rooms": Flow(
        flow_rooms.KIND,
        ALL_ENGINES,
        flow_claim.claims_of,
        flow_rooms.RoomsWorker,
        ROOMS,
        {"users": 1000, "seats": 1000, "ranks": 20, "workers": 16},
        users_min=lambda options: options.seats,
    ),
}
