"""Histories made by hand, and what the checker must say of each."""

from __future__ import annotations

import random

from tests.sim.history import Op
from tests.sim.linearize import Verdict, judge
from tests.sim.state import State


def assert_verdict(verdict: Verdict, ops: list[Op], start: State) -> None:
    """In whatever order the operations are told."""
    for shuffled in range(3):
        ops = random.Random(shuffled).sample(ops, len(ops))
        found = judge(ops, start)
        assert found.verdict is verdict, str(found)
