"""What has happened in a table since the start: plain numbers, added to where it happens, once per sale.

Nothing is counted where nothing is written: a claim that finds the table sold out costs what it did before,
and is what is left of all claims when those that are counted are taken off.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Replay counts nothing: a restart begins with zeros."""

    plain_claims: int = 0  # of one row, for nobody in particular; those of `claims` are all others
    claims: int = 0
    claimed_rows: int = 0
    claimed_units: int = 0
    confirms: int = 0
    late_confirms: int = 0  # of them, behind the deadline
    confirmed_rows: int = 0
    confirmed_units: int = 0
    returned_rows: int = 0
    returned_units: int = 0
    repeated_claims: int = 0  # and holds: sent again, and answered as the first time
    replaced_rows: int = 0  # by KL.REPLACE

    holds_begun: int = 0
    holds_replaced: int = 0
    holds_released: int = 0
    holds_expired: int = 0  # a late payment may have confirmed them afterwards

    locks_granted: int = 0  # row by row
    locks_released: int = 0
    locks_refused: int = 0  # KL.TRYLOCKs that found one of the table's rows taken

    def claimed(self, rows: int, units: int) -> None:
        self.claims += 1
        if units:
            self.claimed_units += units
        else:
            self.claimed_rows += rows

    def confirmed(self, rows: int, units: int, is_late: bool) -> None:
        self.confirms += 1
        self.late_confirms += is_late
        if units:
            self.confirmed_units += units
        else:
            self.confirmed_rows += rows

    def returned(self, rows: int, units: int) -> None:
        if units:
            self.returned_units += units
        else:
            self.returned_rows += rows


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """`tally` is a copy."""

    rows: int
    bytes: int
    holds_live: int
    held_rows: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """Row by row, but for `refused`. What was granted is live, was released, or expired."""

    granted: int
    released: int
    expired: int
    live: int
    refused: int
