"""How much the simulated tests do: `KLANI_SIM_SCALE=20` is twenty times what the test suite does."""

from __future__ import annotations

import os

SCALE = float(os.environ.get("KLANI_SIM_SCALE", "1"))


def scaled(count: int) -> int:
    return max(1, round(count * SCALE))
