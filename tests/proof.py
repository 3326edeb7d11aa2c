"""How much of the proof is run: docs/reliability.md's CI column, or with KLANI_PROOF=long the long one."""

from __future__ import annotations

import os

LONG = os.environ.get("KLANI_PROOF") == "long"
BITS = range(8) if LONG else None  # of each byte; else one that the byte's place chooses


def scaled(ci: int, long: int) -> int:
    return long if LONG else ci


def share(total: int, part: int, parts: int) -> range:
    """The numbers below `total` that part number `part` of `parts` tests takes: so that progress shows."""
    return range(part, total, parts)
