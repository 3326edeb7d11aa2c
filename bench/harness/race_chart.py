"""The picture of docs/benchmarks.md, which stands alone: light and dark are in it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WIDTH, LEFT, RIGHT = 900, 270, 80
STEP, TALL = 30, 20  # from bar to bar, and a bar
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#5d6777}.head{font-weight:600;fill:#1d2430}"
    ".ours{fill:#2f6fde}.theirs{fill:#b9c1ce}.spread{stroke:#1d2430;stroke-width:1.5;fill:none}"
    "@media(prefers-color-scheme:dark){text{fill:#9aa5b5}.head{fill:#e7eaf0}"
    ".ours{fill:#6ea8ff}.theirs{fill:#4a5566}.spread{stroke:#e7eaf0}}"
)


@dataclass(frozen=True)
class Bar:
    """As long as its middle, with a whisker from its least to its most."""

    name: str
    least: float
    middle: float
    most: float
    is_ours: bool


def bars(title: str, groups: Mapping[str, Sequence[Bar]], unit: str) -> str:
    """Groups below each other, on one scale."""
    most = max(bar.most for group in groups.values() for bar in group)
    parts, y, label = [], 30, html.escape(title)
    for heading, group in groups.items():
        y += 30
        parts.append(f'<text class="head" x="{LEFT}" y="{y}">{html.escape(heading)}</text>')
        y += 12
        for bar in group:
            parts += _row(bar, y, (WIDTH - LEFT - RIGHT) / most, unit)
            y += STEP
    box = f'viewBox="0 0 {WIDTH} {y + 8}" role="img" aria-label="{label}"'
    head = f'<style>{STYLE}</style><text x="{LEFT}" y="20">{label}</text>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{head}{"".join(parts)}</svg>\n'


def _row(bar: Bar, y: int, scale: float, unit: str) -> Iterator[str]:
    low, end, high = (LEFT + value * scale for value in (bar.least, bar.middle, bar.most))
    middle = y + TALL / 2
    kind = "ours" if bar.is_ours else "theirs"
    yield f'<text x="{LEFT - 10}" y="{middle + 5}" text-anchor="end">{html.escape(bar.name)}</text>'
    yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{TALL}" rx="3"/>'
    yield f'<path class="spread" d="M{low:.1f},{middle - 4}v8m0-4H{high:.1f}m0-4v8"/>'
    yield f'<text x="{high + 8:.1f}" y="{middle + 5}">{bar.middle:.2f} {unit}</text>'
