"""What happens a second: how far counters have come between two looks."""

from __future__ import annotations

from collections.abc import Mapping


class Pace:
    def __init__(self) -> None:
        self._before: Mapping[str, float] = {}

    def forget(self) -> None:
        """The next look is the first one: nobody has looked for a while, or the counters are others."""
        self._before = {}

    def since(self, totals: Mapping[str, float]) -> dict[str, float]:
        """By how much each grew since the last look; nothing at the first one. One that fell began anew."""
        before, self._before = self._before, totals
        return {
            name: total - before[name] if total >= before[name] else total
            for name, total in totals.items()
            if name in before
        }


def ratio(gone: Mapping[str, float], what: str, by: str, digits: int) -> float | None:
    """None where there is nothing to divide by."""
    return round(gone[what] / gone[by], digits) if gone.get(by) else None
