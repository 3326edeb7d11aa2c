"""A raw log read back: each figure knows the line that it comes from."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A value of the raw log, and where it stands: `line` counts from 1, `key` may have slashes."""

    value: Any
    line: int
    key: str

    def html(self, shown: str | None = None) -> str:
        """The value as text, or what it is shown as; its origin is in the element."""
        text = (
            f"{self.value:,}" if shown is None and isinstance(self.value, int) else shown or str(self.value)
        )
        return (
            f'<span class="figure" data-line="{self.line}" data-key="{html.escape(self.key)}" '
            f'title="raw.jsonl, line {self.line}: {html.escape(self.key)}">{html.escape(text)}</span>'
        )


class HerdLog:
    """Raises ValueError for a log that is none, or that a run did not come to the end of."""

    def __init__(self, path: Path) -> None:
        self._lines: dict[str, list[tuple[int, Line]]] = {}
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            line = json.loads(text)
            self._lines.setdefault(line["kind"], []).append((number, line))
        for kind in ("start", "host", "second", "verification", "totals", "final"):
            if kind not in self._lines:
                raise ValueError(f"{path}: no line of kind {kind}: the run did not come to its end")

    def has(self, kind: str) -> bool:
        return kind in self._lines

    def lines(self, kind: str) -> Iterator[Line]:
        return (line for _, line in self._lines.get(kind, ()))

    def figure(self, kind: str, key: str, where: Callable[[Line], bool] = lambda line: True) -> Figure:
        """The first line of this kind that fits, and of it the value at `key` (`a/b` goes into a map)."""
        number, line = next((number, line) for number, line in self._lines[kind] if where(line))
        value: Any = line
        for part in key.split("/"):
            value = value[part]
        return Figure(value, number, key)

    def command(self, name: str, key: str) -> Figure:
        return self.figure("command", key, lambda line: bool(line["command"] == name))

    def event(self, name: str) -> Figure:
        return self.figure("event", "count", lambda line: bool(line["event"] == name))
