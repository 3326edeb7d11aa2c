"""Histories of a real server process under real sockets are linearizable, kills included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.proof import scaled
from tests.sim.linearize import Verdict, judge
from tests.sim.real import Place, furnish, record

HISTORIES = scaled(100, 2_000)
KILL_EVERY = 3
STEPS_MAX = 5_000_000  # without an end to what has no reply, a search may be long

pytestmark = pytest.mark.proof


@pytest.mark.timeout(3600)
def test_histories_of_a_real_process(tmp_path: Path, figure: Callable[[str, int], None]) -> None:
    place = Place(tmp_path / "data")
    operations = unanswered = unknown = 0
    try:
        furnish(place)
        for seed in range(HISTORIES):
            group, troubles = record(seed, place, kill=seed % KILL_EVERY == 1)
            history = group.history
            assert not troubles, f"{troubles}\n{history}"
            judgement = judge(history.ops, group.start(), STEPS_MAX)
            assert judgement.verdict is not Verdict.WRONG, f"{history}\n{judgement}"
            unknown += judgement.verdict is Verdict.UNKNOWN
            operations += len(history.ops)
            unanswered += sum(op.is_lost for op in history.ops)
    finally:
        status = place.stop()
    print(f"{HISTORIES} histories, {operations} operations, {unanswered} unanswered, {unknown} unknown")
    figure("B1 histories of a real process", HISTORIES)
    figure("B1 histories of a real process without a verdict", unknown)
    assert status == 0
    assert unanswered >= HISTORIES
    assert unknown <= HISTORIES / 100
