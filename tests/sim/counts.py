"""What happened in worlds: figures that add up over many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    worlds: int = 0
    histories: int = 0
    operations: int = 0
    unanswered: int = 0
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

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in vars(self).items())
