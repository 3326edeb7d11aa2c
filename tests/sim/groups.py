"""Rows that operations may have in common: each group has a history of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.sim.commands import DOORS_FROM, EMPTY, HALLS_FROM, ROWS_PER_HALL, Fields, Past
from tests.sim.history import History
from tests.sim.scripts import KINDS, UNITS, Desk, Script
from tests.sim.state import State, inserted

GROUPS = 10


@dataclass
class Group:
    kind: str
    rows: tuple[int, ...]
    history: History = field(default_factory=lambda: History(""))

    def visit(self, desk: Desk) -> Script:
        return KINDS[self.kind][0](desk, self.rows)

    def start(self) -> State:
        if self.kind == "fresh":
            return State()
        first = inserted(self.first_fields)
        if not any(isinstance(op.command, Past) for op in self.history.ops):
            first = first._replace(past=())  # sales in another order are fewer states to look at then
        return State(tuple((row, first) for row in self.rows))

    @property
    def first_fields(self) -> Fields:
        """What its rows hold when its history begins."""
        return (0, UNITS, 0, b"") if self.kind == "door" else EMPTY


def first_row(kind: str, number: int, otherwise: int) -> int:
    if kind == "hall":
        return HALLS_FROM + ROWS_PER_HALL * number
    return DOORS_FROM + number if kind == "door" else otherwise


def make_groups(random: Random) -> list[Group]:
    """Rows of their own for each; in some worlds a part of them is far away, in another directory."""
    far_from = random.randrange(4 * GROUPS)
    groups, row = [], random.randrange(3)
    for number in range(GROUPS):
        kind = random.choice(tuple(KINDS))
        base = 70_000 if number > far_from else 0
        first = base + first_row(kind, number, row)
        rows = tuple(first + i for i in range(KINDS[kind][1]))
        row += len(rows) + random.choice((0, 3))
        groups.append(
            Group(kind, rows, History(f"group {number}, {kind}, rows {rows}", 84 if len(rows) < 3 else 72))
        )
    return groups
