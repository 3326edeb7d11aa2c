"""The metrics that each table has: rows, sales, holds, locks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from klani_resp.metrics.text import COUNTER, GAUGE, Sample, family, labels
from storage.tally import LockStatistics, TableStatistics

Value = Callable[[TableStatistics, LockStatistics], int]
Counted = dict[str, tuple[TableStatistics, LockStatistics]]  # by the table's name


@dataclass(frozen=True, slots=True)
class TableFamily:
    """`values` by what the label `label` says; without one there is a single value."""

    name: str
    kind: str
    summary: str
    values: dict[str, Value]
    label: str = ""

    def show(self, counted: Counted) -> str:
        return family(self.name, self.kind, self.summary, self._samples(counted))

    def _samples(self, counted: Counted) -> list[Sample]:
        return [
            (labels(table=table, **({self.label: word} if self.label else {})), value(*statistics))
            for table, statistics in counted.items()
            for word, value in self.values.items()
        ]


FAMILIES = (
    TableFamily("klani_table_rows", GAUGE, "Rows in the table.", {"": lambda t, _: t.rows}),
    TableFamily("klani_table_bytes", GAUGE, "Rows times the bytes of one.", {"": lambda t, _: t.bytes}),
    TableFamily(
        "klani_sales_total",
        COUNTER,
        "Commands that sold: KL.CLAIM and KL.CONFIRM, resends apart.",
        {
            "claim": lambda t, _: t.tally.plain_claims + t.tally.claims,
            "confirm": lambda t, _: t.tally.confirms,
        },
        "verb",
    ),
    TableFamily(
        "klani_sold_rows_total",
        COUNTER,
        "Rows sold by KL.CLAIM and KL.CONFIRM.",
        {
            "claim": lambda t, _: t.tally.plain_claims + t.tally.claimed_rows,
            "confirm": lambda t, _: t.tally.confirmed_rows,
        },
        "verb",
    ),
    TableFamily(
        "klani_sold_units_total",
        COUNTER,
        "Units of counters (TAKE) sold by KL.CLAIM and KL.CONFIRM.",
        {"claim": lambda t, _: t.tally.claimed_units, "confirm": lambda t, _: t.tally.confirmed_units},
        "verb",
    ),
    TableFamily(
        "klani_replaced_rows_total",
        COUNTER,
        "Rows written by KL.REPLACE, resends apart: the sales of a shop that sells with locks.",
        {"": lambda t, _: t.tally.replaced_rows},
    ),
    TableFamily(
        "klani_returned_rows_total",
        COUNTER,
        "Rows that KL.RETURN took back.",
        {"": lambda t, _: t.tally.returned_rows},
    ),
    TableFamily(
        "klani_returned_units_total",
        COUNTER,
        "Units of counters that KL.RETURN took back.",
        {"": lambda t, _: t.tally.returned_units},
    ),
    TableFamily(
        "klani_repeated_claims_total",
        COUNTER,
        "KL.CLAIM and KL.HOLD sent again with their REQUEST, and answered as the first time.",
        {"": lambda t, _: t.tally.repeated_claims},
    ),
    TableFamily("klani_holds", GAUGE, "Live holds.", {"": lambda t, _: t.holds_live}),
    TableFamily("klani_held_rows", GAUGE, "Rows in live holds.", {"": lambda t, _: t.held_rows}),
    TableFamily("klani_holds_begun_total", COUNTER, "Holds begun.", {"": lambda t, _: t.tally.holds_begun}),
    TableFamily(
        "klani_holds_ended_total",
        COUNTER,
        "Holds that ended, by how: paid in time, let go of, replaced by another, or by their deadline.",
        {
            "confirmed": lambda t, _: t.tally.confirms - t.tally.late_confirms,
            "released": lambda t, _: t.tally.holds_released,
            "replaced": lambda t, _: t.tally.holds_replaced,
            "expired": lambda t, _: t.tally.holds_expired,
        },
        "how",
    ),
    TableFamily(
        "klani_late_confirms_total",
        COUNTER,
        "Holds that expired and were paid and sold all the same.",
        {"": lambda t, _: t.tally.late_confirms},
    ),
    TableFamily("klani_locks", GAUGE, "Rows locked now.", {"": lambda _, locks: locks.live}),
    TableFamily("klani_locks_granted_total", COUNTER, "Rows locked.", {"": lambda _, locks: locks.granted}),
    TableFamily(
        "klani_locks_ended_total",
        COUNTER,
        "Locks of rows that ended, by how: let go of, or by the end of their lease.",
        {"released": lambda _, locks: locks.released, "expired": lambda _, locks: locks.expired},
        "how",
    ),
    TableFamily(
        "klani_locks_refused_total",
        COUNTER,
        "KL.TRYLOCK answered null: a row was locked or held.",
        {"": lambda _, locks: locks.refused},
    ),
)
