"""What happened in worlds: figures that add up over many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.sim.commands import Holds, Past, Return, Take
from tests.sim.history import Op


@dataclass
class Counts:
    worlds: int = 0
    histories: int = 0
    operations: int = 0
    unanswered: int = 0
    returns: int = 0  # KL.RETURN, of rows or units
    takes: int = 0  # TAKE .. FROM, claimed or held
    holds_asked: int = 0  # KL.HOLDS
    pasts_asked: int = 0  # KL.HISTORY
    kills: int = 0
    power_losses: int = 0
    deaths_in_checkpoints: int = 0
    deaths_in_starts: int = 0
    clean_stops: int = 0
    checkpoints: int = 0
    sales: int = 0
    unknown: int = 0
    steps_most: int = 0

    def add(self, other: Counts) -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name.endswith("_most") else mine + value)

    def count(self, ops: list[Op]) -> None:
        """The operations of a history."""
        self.histories += 1
        self.operations += len(ops)
        self.unanswered += sum(op.is_lost for op in ops)
        kinds = Counter(type(op.command) for op in ops)
        self.returns += kinds[Return]
        self.takes += kinds[Take]
        self.holds_asked += kinds[Holds]
        self.pasts_asked += kinds[Past]

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in vars(self).items())
