"""What a table knows of its sales beside its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from storage.adjacent import Walks
from storage.events import Criteria
from storage.format import NO_OWNER
from storage.holds import Hold
from storage.requests import Memory, Requests

if TYPE_CHECKING:
    from storage.table import Table

CRITERIA_MAX = 1024


class TableSales:
    """`held`: rows in live holds, and in some that ended a moment ago. `position`: of the last event that
    may show in a refusal. `sold`: by owner's digest, how many rows and units were sold to it and not
    returned. Live holds lie by ascending token: in the order in which they came."""

    __slots__ = (
        "criteria",
        "held",
        "holds",
        "live",
        "position",
        "requests",
        "sold",
        "units_held",
        "units_sold",
        "walks",
    )

    def __init__(self) -> None:
        self.position = 0
        self.held = BitMap()
        self.criteria: dict[tuple[tuple[str, Any], ...], Criteria] = {}  # of holds: few, and of many holds
        self.live: dict[int, Hold] = {}
        self.holds: dict[bytes, dict[int, Hold]] = {}  # live ones, by owner's digest
        self.sold: dict[bytes, int] = {}
        self.units_held: dict[tuple[int, str], int] = {}  # row and counter
        self.units_sold: dict[tuple[bytes, int, str], int] = {}  # owner's digest, row and counter
        self.walks = Walks()
        self.requests: Requests = Requests(Memory(0))

    def shared(self, criteria: Criteria) -> Criteria:
        """One dict for all holds that ask for the same: it is as large as the rest of a hold."""
        if len(self.criteria) >= CRITERIA_MAX:
            self.criteria.clear()
        return self.criteria.setdefault(tuple(criteria.items()), criteria)

    def units_left(self, row: int, field: bytes, table: Table) -> int:
        """Of a counter, what is neither sold nor held."""
        return table.counter(row, field) - self.units_held.get((row, field.decode()), 0)

    def resold(self, before: bytes, after: bytes) -> None:
        """A row's owner changes."""
        if before == after:
            return
        if before != NO_OWNER:
            self._add(before, -1)
        if after != NO_OWNER:
            self._add(after, 1)

    def _add(self, digest: bytes, count: int) -> None:
        total = self.sold.get(digest, 0) + count
        if total > 0:
            self.sold[digest] = total
        else:
            self.sold.pop(digest, None)

    def add_units(self, digest: bytes, row: int, field: str, units: int) -> None:
        """Units sold to an owner, or with a minus returned."""
        key = (digest, row, field)
        total = self.units_sold.get(key, 0) + units
        if total > 0:
            self.units_sold[key] = total
        else:
            self.units_sold.pop(key, None)
        self._add(digest, units)

    def owned(self, digest: bytes) -> int:
        """Rows and units that were sold to an owner, or are held for it."""
        held = sum(hold.size for hold in self.holds.get(digest, {}).values())
        return self.sold.get(digest, 0) + held

    def enlist(self, hold: Hold) -> None:
        self.live[hold.number] = hold
        self.holds.setdefault(hold.digest, {})[hold.number] = hold
        if hold.units:
            key = (hold.ids[0], hold.field)
            self.units_held[key] = self.units_held.get(key, 0) + hold.units
            return
        self.held.update(hold.ids)
        leases = hold.table.leases
        for row in hold.ids:
            leases[row] = hold

    def strike(self, hold: Hold) -> None:
        """It is live no more."""
        if self.live.pop(hold.number, None) is None:
            return
        mine = self.holds[hold.digest]
        del mine[hold.number]
        if not mine:
            del self.holds[hold.digest]
        if hold.units:
            key = (hold.ids[0], hold.field)
            self.units_held[key] -= hold.units
            if not self.units_held[key]:
                del self.units_held[key]
        else:
            leases = hold.table.leases
            for row in hold.ids:
                other = leases.get(row)
                if other is hold:
                    del leases[row]
                    self.held.discard(row)
                elif not isinstance(other, Hold):
                    self.held.discard(row)
            self.walks.changed(hold.ids)
