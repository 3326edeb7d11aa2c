"""A1: kill -9 at every write-path system call of scripted sessions; see tests/kill_points.py.

KLANI_PROOF=long runs each script with three seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

import pytest

from tests.kill_points import SCRIPTS, run_point
from tests.kill_trace import Point, points_of
from tests.proof import scaled
from tests.zygote import Zygote

AT_A_TIME = 2
SEEDS = scaled(1, 3)
LEAST = {"new_store": 60, "sales": 70, "syncs": 12, "selling": 115}

pytestmark = pytest.mark.proof


def run_all(name: str, seed: int, plant: str = "", share: int = 1) -> tuple[int, int, list[str]]:
    """How many points there are, how many the server died at, and what was wrong."""
    script = SCRIPTS[name](seed)
    with ExitStack() as stack:
        idle: SimpleQueue[Zygote] = SimpleQueue()
        for _ in range(AT_A_TIME):
            zygote = Zygote(plant)
            stack.callback(zygote.close)
            idle.put(zygote)
        if plant:
            honest = Zygote()
            stack.callback(honest.close)
        else:
            honest = zygote

        def run(point: Point) -> tuple[bool, str]:
            mine = idle.get()
            try:
                return run_point(mine, script, point)[1], ""
            except Exception as error:
                replay = (
                    f"python -m tests.kill_points {name} {seed} {script.role} {point.call} {point.number}"
                )
                return True, f"{replay}: {type(error).__name__} {str(error)[:500]}"
            finally:
                idle.put(mine)

        calls, _ = run_point(honest, script, None)
        points = points_of(calls)[::share]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            outcomes = list(pool.map(run, points))
    return len(points), sum(died for died, _ in outcomes), [wrong for _, wrong in outcomes if wrong]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", SCRIPTS)
def test_killed_at_each_call(
    need: Callable[[str], str], name: str, seed: int, figure: Callable[[str, int], None]
) -> None:
    need("strace")
    points, died, wrong = run_all(name, seed)
    print(f"{name}: killed at {died} of {points} points")
    figure("A1 points of kill -9", points)
    figure("A1 points reached", died)
    assert not wrong, "\n".join(wrong)
    assert points >= LEAST[name]
    assert died >= 0.95 * points, "too many points were not reached"


def test_a_batch_that_is_never_written_is_caught(need: Callable[[str], str]) -> None:
    """Of the check itself: a server that skips one write to the log in four."""
    need("strace")
    _, _, wrong = run_all("sales", 0, "batch never written", share=6)
    assert len(wrong) > 3


def test_a_resend_that_buys_again_is_caught(need: Callable[[str], str]) -> None:
    """Of the check itself: a server that has no memory of requests."""
    need("strace")
    _, _, wrong = run_all("selling", 0, "no memory of requests", share=6)
    assert len(wrong) > 3
