"""Leases with fencing tokens. They live in memory; time is an argument, judged at every use.

Invariants: 1. A row has at most one live lease. 2. All rows of a lease share its token and deadline.
3. A lease whose deadline has come locks nothing, whether or not it was swept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.table import Table

RowKey = tuple["Table", int]

LEASE_MS_MAX = 86_400_000


class Lease:
    """`deadline` in ns of the monotonic clock; `rows` in the order asked, each once."""

    __slots__ = ("deadline", "owner", "rows", "token")

    def __init__(self, token: int, deadline: int, owner: bytes | None, rows: tuple[RowKey, ...]) -> None:
        self.token = token
        self.deadline = deadline
        self.owner = owner
        self.rows = rows


def is_free(table: Table, row: int, now: int) -> bool:
    """Whether a row may be locked or taken: the one place that says so. Holds join here."""
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


def grant(lease: Lease) -> None:
    for table, row in lease.rows:
        table.leases[row] = lease


def release(table: Table, row: int, lease: Lease) -> None:
    """Lets go of one row; the others of the lease stay locked."""
    del table.leases[row]
    if len(lease.rows) > 1:
        lease.rows = tuple(key for key in lease.rows if key != (table, row))


def live(table: Table, now: int) -> Iterator[tuple[int, Lease]]:
    """Live leases by ascending row id. Sweeps what has ended."""
    for row in [row for row, lease in table.leases.items() if lease.deadline <= now]:
        del table.leases[row]
    for row in sorted(table.leases):
        yield row, table.leases[row]
