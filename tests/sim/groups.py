"""Rows that operations may have in common: each group has a history of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.sim.commands import EMPTY, HALLS_FROM, ROWS_PER_HALL
from tests.sim.history import History
from tests.sim.scripts import KINDS, Desk, Script
from tests.sim.state import Row, State

GROUPS = 10


@dataclass
class Group:
    kind: str
    rows: tuple[int, ...]
    history: History = field(default_factory=lambda: History(""))

    def visit(self, desk: Desk) -> Script:
        return KINDS[self.kind][0](desk, self.rows)

    def start(self) -> State:
        return State(() if self.kind == "fresh" else tuple((row, Row(None, EMPTY)) for row in self.rows))


def make_groups(random: Random) -> list[Group]:
    """Rows of their own for each; in some worlds a part of them is far away, in another directory."""
    far_from = random.randrange(4 * GROUPS)
    groups, row = [], random.randrange(3)
    for number in range(GROUPS):
        kind = random.choice(tuple(KINDS))
        base = 70_000 if number > far_from else 0
        first = HALLS_FROM + base + ROWS_PER_HALL * number if kind == "hall" else base + row
        rows = tuple(first + i for i in range(KINDS[kind][1]))
        row += len(rows) + random.choice((0, 3))
        groups.append(
            Group(kind, rows, History(f"group {number}, {kind}, rows {rows}", 84 if len(rows) < 3 else 72))
        )
    return groups
