"""The path check: each write of a row names itself and the write that it read, so per row they form one path.

It begins at 0, where no write was, and ends at what is stored; every acknowledged write lies on it. A fork is
a lost update, a gap a phantom or a lost write, a cycle a read of the future. Linear time at any scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Path:
    """The writes of one row. Tokens are positive; those without a reply may have happened or not."""

    acknowledged: dict[int, int] = field(default_factory=dict)  # own token -> the one that was read
    doubtful: dict[int, int] = field(default_factory=dict)

    def sent(self, own: int, read: int) -> None:
        if own not in self.acknowledged:
            self.doubtful[own] = read

    def answered(self, own: int, read: int) -> None:
        self.doubtful.pop(own, None)
        self.acknowledged[own] = read

    def troubles(self, stored: int) -> Iterator[str]:
        """What contradicts one path from 0 to `stored`."""
        passed: set[int] = set()
        at = stored
        while at:
            if at in passed:
                yield f"cycle: write {at} follows from itself"
                break
            passed.add(at)
            if at in self.acknowledged:
                before = self.acknowledged[at]
            elif at in self.doubtful:
                before = self.doubtful[at]
            else:
                yield f"gap: nobody sent write {at}"
                break
            at = before
        missing = sorted(self.acknowledged.keys() - passed)
        if not missing:
            return
        ends = {0, *passed}
        for own in missing:
            if self.acknowledged[own] in ends:
                yield f"fork: write {own} read {self.acknowledged[own]}, and another's write did, too"
            else:
                yield f"write {own}, which read {self.acknowledged[own]}, is not on the way to {stored}"
