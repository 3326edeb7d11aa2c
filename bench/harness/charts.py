"""Charts as inline SVG. Their colours are the page's CSS variables, so that light and dark need no second
picture; a plotting library would bake them in, and weigh more than the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 20, 32
COLOURS = ("--one", "--two", "--three", "--four")
ROUND = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)  # ends of an axis whose quarters are short numbers


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]


def lines(title: str, series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Lines over a common x; y begins at 0."""
    x_end = _round_up(max((x for one in series for x, _ in one.points), default=1) or 1)
    y_end = _round_up(max((y for one in series for _, y in one.points), default=1) or 1)
    parts = [_axes(x_end, y_end, x_label, y_label)]
    for one, colour in zip(series, COLOURS, strict=False):
        path = " ".join(f"{_x(x, x_end):.1f},{_y(y, y_end):.1f}" for x, y in one.points)
        parts.append(f'<polyline class="line" style="stroke:var({colour})" points="{path}"/>')
    return _figure(title, parts, [one.name for one in series])


def ranges(title: str, rows: Sequence[tuple[str, Sequence[float]]], labels: Sequence[str], unit: str) -> str:
    """A row each: a bar from its first value to its last on a logarithmic scale, a mark for each value."""
    values = [value for _, row in rows for value in row if value > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    height = TOP + 34 * len(rows) + BOTTOM

    def at(value: float) -> float:
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return LEFT + 30 + share * (WIDTH - LEFT - 30 - RIGHT)

    parts = []
    for power in range(low, high + 1):
        x = at(10**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        anchor = "end" if power == high else "middle"
        parts.append(_text(x, height - 14, f"{10**power:,} {unit}", anchor))
    for number, (name, row) in enumerate(rows):
        y = TOP + 34 * number + 17
        parts.append(_text(LEFT + 18, y + 4, name, "end"))
        parts.append(f'<line class="range" x1="{at(row[0]):.1f}" x2="{at(row[-1]):.1f}" y1="{y}" y2="{y}"/>')
        for value, label, colour in zip(row, labels, COLOURS, strict=False):
            tip = html.escape(f"{name} {label}: {value:,} {unit}")
            dot = f'cx="{at(value):.1f}" cy="{y}" r="5" style="fill:var({colour})"'
            parts.append(f"<circle {dot}><title>{tip}</title></circle>")
    return _figure(title, parts, labels, height)


def _figure(title: str, parts: Sequence[str], names: Sequence[str], height: int = HEIGHT) -> str:
    keys = "".join(
        f'<li><i style="background:var({colour})"></i>{html.escape(name)}</li>'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    name = html.escape(title)
    picture = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
    return f'<figure><figcaption>{name}</figcaption>{picture}<ul class="keys">{keys}</ul></figure>'


def _axes(x_end: float, y_end: float, x_label: str, y_label: str) -> str:
    parts = []
    for i in range(5):
        y = y_end * i / 4
        at = f'y1="{_y(y, y_end):.1f}" y2="{_y(y, y_end):.1f}"'
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" {at}/>')
        parts.append(_text(LEFT - 8, _y(y, y_end) + 4, f"{y:,.4g}" if y < 1000 else f"{y:,.0f}", "end"))
    for i in range(5):
        x = x_end * i / 4
        last = f"{x:.4g} {x_label}"
        parts.append(
            _text(_x(x, x_end), HEIGHT - 12, last if i == 4 else f"{x:.4g}", "end" if i == 4 else "middle")
        )
    parts.append(_text(LEFT, TOP - 8, y_label, "start"))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _x(x: float, end: float) -> float:
    return LEFT + x / end * (WIDTH - LEFT - RIGHT)


def _y(y: float, end: float) -> float:
    return HEIGHT - BOTTOM - y / end * (HEIGHT - TOP - BOTTOM)


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in ROUND if step * power >= value * 0.999999)


def bars(title: str, rows: Sequence[tuple[str, float, bool]], unit: str) -> str:
    """A picture that stands alone: a bar for each name and value, ours in colour, on light and on dark."""
    left, step, most = 330, 30, max(value for _, value, _ in rows)
    height = 44 + step * len(rows)
    box, label = f"0 0 900 {height}", html.escape(title)
    style = (
        "text{font:14px system-ui,sans-serif;fill:#5d6777}.ours{fill:#2f6fde}.theirs{fill:#b9c1ce}"
        "@media(prefers-color-scheme:dark){text{fill:#9aa5b5}.ours{fill:#6ea8ff}.theirs{fill:#4a5566}}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{label}">',
        f"<style>{style}</style>",
        f'<text x="{left}" y="20">{label}</text>',
    ]
    for number, (name, value, is_ours) in enumerate(rows):
        y, width = 34 + step * number, value / most * (900 - left - 80)
        parts.append(f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{html.escape(name)}</text>')
        kind = "ours" if is_ours else "theirs"
        parts.append(f'<rect class="{kind}" x="{left}" y="{y}" width="{width:.1f}" height="22" rx="4"/>')
        parts.append(f'<text x="{left + width + 8:.1f}" y="{y + 16}">{value:.2f} {unit}</text>')
    return "".join([*parts, "</svg>\n"])
