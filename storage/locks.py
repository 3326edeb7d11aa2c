"""Leases with fencing tokens. They live in memory; time is an argument, judged at every use.

Invariants: 1. A row has at most one live lease. 2. All rows of a lease share its token and deadline.
3. A lease whose deadline has come locks nothing, whether or not it was swept. 4. What a table keeps of
leases that ended is bounded: `SWEEP_FROM`, or thrice what was live at once, whichever is more.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from typing import TYPE_CHECKING

from pyroaring import BitMap

from storage.tally import LockStatistics

if TYPE_CHECKING:
    from storage.table import Table

RowKey = tuple["Table", int]

LEASE_MS_MAX = 86_400_000
SWEEP_FROM = 4_096  # of a table, 160 bytes each: up to here a grant does nothing about old ones
COUNTED_AT_ONCE = 1024
SPARSE_BYTES = 400  # per lease: a dict that only grew has 120 at most


class Lease:
    """`deadline` in ns of the monotonic clock; `rows` in the order asked, each once."""

    __slots__ = ("deadline", "owner", "rows", "token")

    def __init__(self, token: int, deadline: int, owner: bytes | None, rows: tuple[RowKey, ...]) -> None:
        self.token = token
        self.deadline = deadline
        self.owner = owner
        self.rows = rows


def is_free(table: Table, row: int, now: int) -> bool:
    """Whether a row may be locked or taken: this and `taken` say so, nobody else. A hold stands where a lease
    would (storage.holds)."""
    lease = table.leases.get(row)
    return lease is None or lease.deadline <= now


def live_lease(table: Table, row: int, token: int, now: int) -> Lease | None:
    """The lease that `token` has on the row, if it has one still."""
    lease = table.leases.get(row)
    if lease is None or lease.token != token or lease.deadline <= now:
        return None
    return lease


def resent(keys: tuple[RowKey, ...], owner: bytes | None, now: int) -> Lease | None:
    """The lease that this very attempt already holds on exactly these rows."""
    if owner is None:
        return None
    table, row = keys[0]
    lease = table.leases.get(row)
    if lease is None or lease.owner != owner or lease.deadline <= now:
        return None
    return lease if set(lease.rows) == set(keys) else None


def grant(lease: Lease, now: int) -> None:
    for table, row in lease.rows:
        leases = table.leases
        leases[row] = lease
        table.tally.locks_granted += 1
        if len(leases) > SWEEP_FROM:
            _sweep_some(table, now)


def _sweep_some(table: Table, now: int) -> None:
    """Looks at two leases, the oldest first and round again: one has come, two may go.

    Which rows to look at is written down once per round: a dict's first entry is not to be had in O(1), it
    has to be found behind all that were deleted.
    """
    leases, left = table.leases, table.unswept
    if len(left) < 2:
        _pack(leases)
        left[:] = reversed(leases)
    for row in (left.pop(), left.pop()):
        lease = leases.get(row)
        if lease is not None and lease.deadline <= now and lease.rows:
            del leases[row]


def taken(table: Table, now: int) -> Collection[int]:
    """The rows that are not free, once holds that are over were ended. Looks at all leases, so it drops what
    has ended."""
    leases = table.leases
    for row in [row for row, lease in leases.items() if lease.deadline <= now and lease.rows]:
        del leases[row]
    _pack(leases)
    return leases.keys()


def _pack(leases: dict[int, Lease]) -> None:
    """A dict keeps the room of what was deleted, and every walk over it goes through that."""
    if leases.__sizeof__() > SPARSE_BYTES * (len(leases) + 16):
        kept = dict(leases)
        leases.clear()
        leases.update(kept)


def release(table: Table, row: int, lease: Lease) -> None:
    """Lets go of one row; the others of the lease stay locked."""
    del table.leases[row]
    table.tally.locks_released += 1
    if len(lease.rows) > 1:
        lease.rows = tuple(key for key in lease.rows if key != (table, row))


def live(table: Table, now: int) -> Iterator[tuple[int, Lease]]:
    """Live locks by ascending row id; holds are none. Whoever wants a few looks at a few: to put the rows in
    their order takes 20 ns each. What is live is fixed here, whatever is done with the leases later."""
    rows, leases = BitMap(table.leases), table.leases.copy()
    rows -= table.sales.held
    return ((row, lease) for row in rows if (lease := leases[row]).rows and lease.deadline > now)


def count(table: Table, now: int) -> Generator[None, None, LockStatistics]:
    """In steps; all of it is as of the first one. The end of a lease is no event: the leases that came to it
    are what is missing of all that were granted."""
    tally = table.tally
    granted, released, refused = tally.locks_granted, tally.locks_released, tally.locks_refused
    leases = list(table.leases.values()) if granted > released else []
    live = 0
    for at in range(0, len(leases), COUNTED_AT_ONCE):
        # One that was live then still has a deadline behind `now`; a hold has no rows here.
        live += sum(lease.deadline > now and bool(lease.rows) for lease in leases[at : at + COUNTED_AT_ONCE])
        yield
    return LockStatistics(granted, released, granted - released - live, live, refused)
