"""What a herd is told, and what it sells."""

from __future__ import annotations

from dataclasses import dataclass

BOOKED = "is_booked"  # 1 in a row that is sold; the one field that all goods call the same


@dataclass(frozen=True)
class Goods:
    """The table that a herd sells from: a buyer asks for a `group`, in which `number` counts from 1."""

    table: str
    group: str
    number: str
    buyer: str
    types: tuple[str, str, str, str]  # of group, number, BOOKED and buyer

    @property
    def schema(self) -> tuple[str, ...]:
        """The words behind SCHEMA: group and BOOKED are indexed."""
        group, number, booked, buyer = self.types
        indexed = (self.group, group, "INDEX", self.number, number, BOOKED, booked, "INDEX")
        return (*indexed, self.buyer, buyer)

    def key(self, row: int) -> bytes:
        return b"%s:%d" % (self.table.encode(), row)

    def free_set(self, group: int) -> bytes:
        """Redis: the key of the set of a group's free rows."""
        return b"free:%d" % group


SEATS = Goods("seats", "rank", "seat_no", "buyer", ("U32", "U32", "U32", "U32"))
ROOMS = Goods("rooms", "hotel", "room_no", "guest", ("U16", "U16", "U8", "U32"))


@dataclass(frozen=True)
class Options:
    """Travels to every process. `seats` are the rows of the goods, `ranks` their groups."""

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
    confirm_rate: float = 0.7
    hold_ms: int = 250
    think_ms: int = 2
    goods: Goods = SEATS
    host: str = "127.0.0.1"
    port: int = 6379
    unixsocket: str | None = None
    path: str | None = None  # SQLite's file
    scripts: tuple[bytes, ...] = ()  # SHA1 of what redis_scripts.scripts answers, loaded beforehand
