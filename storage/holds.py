"""Rows, or units of a counter, that are kept aside for an owner until a deadline.

A hold stands where a lock would stand (`Table.leases`), so that one function says whether a row is free:
`locks.is_free`. It bears no token that a lock's holder could name.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

from storage.events import Criteria
from storage.locks import Lease

if TYPE_CHECKING:
    from storage.table import Table

NOBODYS = -1  # a lock's token that no client can name
# What may be asked for: a slip of some digits would take rows off sale for years, durably. Records of earlier
# versions may have more, and are replayed as they are.
HOLD_MS_MAX = 366 * 86_400_000
HOLD_BYTES = 500  # what one is charged for, measured; beside 40 a row


class State(IntEnum):
    LIVE = 1
    LAPSED = 2  # its deadline came; a late payment may still confirm it
    CONFIRMED = 3


class Hold(Lease):
    """`deadline` in ns as a lease's; `position` is that of its last event; `args` CONFIRM's SET, digested."""

    __slots__ = (
        "args",
        "criteria",
        "digest",
        "field",
        "holder",
        "ids",
        "number",
        "position",
        "state",
        "table",
        "units",
        "until",
    )

    def __init__(
        self,
        number: int,
        table: Table,
        ids: tuple[int, ...],
        holder: bytes,
        deadline: int,
        criteria: Criteria,
        field: str,
        units: int,
        position: int,
    ) -> None:
        super().__init__(NOBODYS, deadline, None, ())
        self.number = number
        self.table = table
        self.ids = ids
        self.holder = holder
        self.digest = digest_of(holder)
        self.criteria = criteria
        self.field = field
        self.units = units
        self.state = State.LIVE
        self.args = b""
        self.until = 0  # once it has ended: when it may be forgotten, in ns
        self.position = position

    @property
    def size(self) -> int:
        """Rows, or units, that it keeps aside."""
        return self.units or len(self.ids)

    @property
    def bytes(self) -> int:
        return HOLD_BYTES + 40 * len(self.ids)


def digest_of(owner: bytes) -> bytes:
    """What a row keeps of its buyer. Zeros are nobody's."""
    return blake2b(owner, digest_size=16).digest()
