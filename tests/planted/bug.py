"""What a planted bug is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]  # test node ids; each of them fails

    def plant(self, text: str) -> str:
        """The file with the bug in it."""
        count = text.count(self.old)
        assert count == 1, f"{self.file} has {count} times, not once: {self.old!r}"
        return text.replace(self.old, self.new)
