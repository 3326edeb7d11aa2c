"""A raw log read back: each figure knows the lines that it comes from."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]
INTERVALS_MS = {"hundredth": 10, "tenth": 100}  # of the lines of these kinds, the finest first
RAW_LOG, RESULT, HOST, REPORT = "raw.jsonl", "result.json", "host.json", "report.html"  # what a run leaves


@dataclass(frozen=True)
class Figure:
    """A value, and where it stands in the raw log: lines, counted from 1; keys, which may have slashes."""

    value: Any
    sources: tuple[tuple[int, str], ...]

    def html(self, shown: str | None = None) -> str:
        """The value as text, or what it is shown as; where it stands is in the element."""
        text = (
            f"{self.value:,}" if shown is None and isinstance(self.value, int) else shown or str(self.value)
        )
        origin = html.escape("; ".join(f"line {line}: {key}" for line, key in self.sources))
        return f'<span class="figure" tabindex="0" data-from="{origin}">{html.escape(text)}</span>'


def reckoned(value: Any, *figures: Figure) -> Figure:
    """A value that stands in no line, and the figures that it was made of."""
    return Figure(value, tuple(source for figure in figures for source in figure.sources))


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "kind" in line else None


class HerdLog:
    """Raises ValueError for a log that is none, or that a run did not come to the end of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, list[tuple[int, Line]]] = {}
        for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            line = _parsed(text)
            if line is None:
                raise ValueError(f"{path}, line {number}: torn, or no line of a raw log: {text[:60]}")
            self._lines.setdefault(line["kind"], []).append((number, line))
        for kind in ("start", "host", "second", "verification", "totals", "final"):
            if kind not in self._lines:
                raise ValueError(f"{path}: no line of kind {kind}: the run did not come to its end")

    def lines(self, kind: str) -> Iterator[Line]:
        return (line for _, line in self._lines.get(kind, ()))

    def numbered(self, kind: str) -> Iterator[tuple[int, Line]]:
        return iter(self._lines.get(kind, ()))

    def span(self, *kinds: str) -> str:
        """Where all lines of these kinds stand, in words."""
        spans = []
        for kind in kinds:
            if kind in self._lines:
                (first, _), (last, _) = self._lines[kind][0], self._lines[kind][-1]
                place = f"line {first:,}" if first == last else f"lines {first:,} - {last:,}"
                spans.append(f"{place} (kind {kind})")
        return f"{self.path.name}, {', '.join(spans)}"

    def places(self, numbers: Sequence[int]) -> str:
        """These lines, in words; `numbers` ascend. Neighbours are told together."""
        runs: list[list[int]] = []
        for number in numbers:
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        told = [f"{first:,}" if first == last else f"{first:,} - {last:,}" for first, last in runs]
        return f"{self.path.name}, {'line' if len(numbers) == 1 else 'lines'} {', '.join(told)}"

    def figure(self, kind: str, key: str, where: Callable[[Line], bool] = lambda line: True) -> Figure:
        """The first line of this kind that fits, and of it the value at `key` (`a/b` goes into a map)."""
        number, line = next((number, line) for number, line in self._lines[kind] if where(line))
        value: Any = line
        for part in key.split("/"):
            if part not in value:
                raise ValueError(f"{self.path}: no {key} in line {number}: an earlier version's log?")
            value = value[part]
        return Figure(value, ((number, key),))

    def each(self, kind: str, key: str) -> list[Figure]:
        """The values of a list."""
        whole = self.figure(kind, key)
        return [
            Figure(value, tuple((line, f"{name}/{number}") for line, name in whole.sources))
            for number, value in enumerate(whole.value)
        ]

    def has(self, kind: str, key: str) -> bool:
        """Whether the first line of this kind has this key."""
        return any(key in line for line in list(self.lines(kind))[:1])

    def command(self, name: str, key: str) -> Figure:
        return self.figure("command", key, lambda line: bool(line["command"] == name))
