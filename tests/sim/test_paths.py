"""The path check on paths made by hand, right and wrong."""

from __future__ import annotations

import pytest

from tests.sim.paths import Path

# acknowledged writes, doubtful ones, what is stored, and how the trouble begins
WRONG = {
    "fork": ({1: 0, 2: 1, 3: 1}, {}, 3, "fork: write 2 read 1"),
    "fork at the beginning": ({1: 0, 2: 0}, {}, 2, "fork: write 1 read 0"),
    "gap": ({1: 0, 3: 2}, {}, 3, "gap: nobody sent write 2"),
    "phantom at the end": ({1: 0}, {}, 9, "gap: nobody sent write 9"),
    "wrong end": ({1: 0, 2: 1, 3: 2}, {}, 2, "fork: write 3 read 2"),
    "wrong end, far behind": ({1: 0, 2: 1, 3: 2}, {}, 1, "fork: write 2 read 1"),
    "nothing is left": ({1: 0}, {}, 0, "fork: write 1 read 0"),
    "cycle": ({1: 3, 2: 1, 3: 2}, {}, 3, "cycle: write 3"),
    "cycle beside the path": ({1: 0, 2: 3, 3: 2}, {}, 1, "write 2, which read 3, is not on the way to 1"),
    "reads itself": ({1: 1}, {}, 1, "cycle: write 1"),
    "a doubtful write took an acknowledged one's place": ({1: 0, 2: 1}, {3: 1}, 3, "fork: write 2 read 1"),
    "a doubtful write follows a gap": ({1: 0}, {3: 2}, 3, "gap: nobody sent write 2"),
}
RIGHT = {
    "nothing": ({}, {}, 0),
    "one path": ({1: 0, 5: 1, 9: 5}, {}, 9),
    "doubtful writes that happened": ({1: 0, 9: 5}, {5: 1, 12: 9}, 12),
    "doubtful writes that did not": ({1: 0, 5: 1}, {2: 1, 6: 5, 7: 0}, 5),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    acknowledged, doubtful, stored, trouble = WRONG[name]
    found = list(Path(dict(acknowledged), dict(doubtful)).troubles(stored))
    assert found
    assert found[0].startswith(trouble), found


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    acknowledged, doubtful, stored = RIGHT[name]
    assert list(Path(dict(acknowledged), dict(doubtful)).troubles(stored)) == []


def test_a_resend_that_is_lost_leaves_the_write_acknowledged() -> None:
    path = Path()
    path.sent(1, 0)
    path.answered(1, 0)
    path.sent(1, 0)
    assert list(path.troubles(0)) != []
    assert list(path.troubles(1)) == []


def test_a_long_path() -> None:
    path = Path({n + 1: n for n in range(100_000)})
    assert list(path.troubles(100_000)) == []
    path.acknowledged[50_000] = 40_000
    assert list(path.troubles(100_000))
