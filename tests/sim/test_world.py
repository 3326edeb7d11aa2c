"""Worlds from many seeds: books hold, directories are sound, histories are linearizable."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.proof import scaled, share
from tests.sim.counts import Counts
from tests.sim.world import World

PARTS = 20
WORLDS = scaled(500, 10_000)
TOTAL = Counts()

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(3600)
def test_worlds(part: int) -> None:
    for seed in share(WORLDS, part, PARTS):
        TOTAL.add(World(seed).run())


def test_enough_happened(figure: Callable[[str, int], None]) -> None:
    """Runs behind the others, and judges what ran."""
    if not TOTAL.worlds:
        pytest.skip("no world ran")
    print(TOTAL)
    worlds = TOTAL.worlds
    figure("B1 simulated worlds", worlds)
    figure("B1 simulated histories", TOTAL.histories)
    figure("B1 simulated histories without a verdict", TOTAL.unknown)
    figure("B1 operations in simulated histories", TOTAL.operations)
    figure("B1 deaths in simulated worlds", TOTAL.kills + TOTAL.power_losses)
    for name in ("returns", "takes", "holds_asked", "pasts_asked"):
        figure(f"B1 operations in simulated histories: {name.replace('_', ' ')}", getattr(TOTAL, name))
        assert getattr(TOTAL, name) >= TOTAL.operations // 150, f"{name} are often enough to matter"
    assert TOTAL.histories == 10 * worlds
    assert TOTAL.operations >= 600 * worlds, "histories are long"
    assert TOTAL.kills >= worlds and TOTAL.power_losses >= worlds
    assert TOTAL.deaths_in_checkpoints >= worlds // 3 and TOTAL.deaths_in_starts >= worlds // 3
    assert TOTAL.unanswered >= TOTAL.operations // 50
    assert TOTAL.sales >= worlds
    assert TOTAL.unknown < TOTAL.histories / 100


@pytest.mark.parametrize("seed", [3, 17])
def test_a_seed_is_one_world(seed: int) -> None:
    """To the last operation: what a failure prints can be played again."""
    worlds = World(seed), World(seed)
    for world in worlds:
        world.run()
    first, second = ([str(group.history) for group in world.groups] for world in worlds)
    assert first == second
    assert vars(worlds[0].counts) == vars(worlds[1].counts)
