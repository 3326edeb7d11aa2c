"""Charts as inline SVG. Their colours are the page's CSS variables, so that light and dark need no second
picture; a plotting library would bake them in, and weigh more than the page.

Across they are in per cent, so that a chart is as wide as its place while its text keeps its size; up and
down they are in pixels. What is beside the plot lies in the margins that the page's CSS gives to `.plot`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

HEIGHT = 160  # of a plot of lines
ACROSS = 1000  # units of a line's own coordinates, stretched to the plot's width
ROW = 34  # the height of a row of ranges
COLOURS = ("--one", "--two", "--three", "--four")
ROUND = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)  # ends of an axis whose quarters are short numbers
NEAR = 1.5  # per cent: marks that are closer are drawn as rings around each other


@dataclass(frozen=True)
class Series:
    """A line; where y is None it is broken."""

    name: str
    points: Sequence[tuple[float, float | None]]


def lines(
    title: str, series: Sequence[Series], x_end: float, y_label: str, source: str, note: str = ""
) -> str:
    """Lines over seconds, from 0 to about `x_end`; y begins at 0."""
    x_end = _round_up(x_end)
    y_end = _round_up(max((y for one in series for _, y in one.points if y is not None), default=1) or 1)
    paths = "".join(
        path
        for one, colour in zip(series, COLOURS, strict=False)
        for path in _paths(one, colour, x_end, y_end)
    )
    box = f'width="100%" height="{HEIGHT}" viewBox="0 0 {ACROSS} {HEIGHT}" preserveAspectRatio="none"'
    parts = [*_axes(x_end, y_end, y_label), f"<svg {box}>{paths}</svg>"]
    return _figure(title, parts, [one.name for one in series], HEIGHT, source, note)


def nothing(title: str, source: str) -> str:
    """In the place of a picture that would be a line at 0."""
    told = f'<p class="none">none</p><p class="source">{html.escape(source)}</p>'
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{told}</figure>"


def ranges(
    title: str, rows: Sequence[tuple[str, Sequence[float]]], labels: Sequence[str], source: str
) -> str:
    """A row of microseconds each: a bar from its first value to its last on a logarithmic scale, and a mark
    for each value."""
    values = [value for _, row in rows for value in row if value > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    height, step = ROW * len(rows), 1 + (high - low) // 6  # as many labels as a phone has room for

    def at(value: float) -> float:
        return (math.log10(max(value, 10**low)) - low) / (high - low) * 100

    parts = []
    for power in range(low, high + 1):
        x = f"{at(10**power):.2f}%"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
        if (power - low) % step == 0:
            parts.append(f'<text x="{x}" y="{height + 18}" text-anchor="middle">{_time(10**power)}</text>')
    for number, (name, row) in enumerate(rows):
        y = ROW * number + ROW // 2
        ends = f'x1="{at(row[0]):.2f}%" x2="{at(row[-1]):.2f}%"'
        parts.append(f'<text x="0" dx="-12" y="{y + 4}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<line class="range" {ends} y1="{y}" y2="{y}"/>')
        parts += _marks(name, [(at(value), value) for value in row], labels, y)
    return _figure(title, parts, labels, height, source, kind="plot named")


def _marks(name: str, places: Sequence[tuple[float, float]], labels: Sequence[str], y: int) -> Iterator[str]:
    """A dot each, but a ring around it for one that would lie upon it."""
    for number, ((x, value), label, colour) in enumerate(zip(places, labels, COLOURS, strict=False)):
        below = sum(x - other < NEAR for other, _ in places[:number])
        kind = f'class="ring" style="stroke:var({colour})"' if below else f'style="fill:var({colour})"'
        tip = html.escape(f"{name} {label}: {value:,} us")
        yield f'<circle {kind} cx="{x:.2f}%" cy="{y}" r="{4 + 3.5 * below}"><title>{tip}</title></circle>'


def _time(us: int) -> str:
    for unit, size in (("s", 1_000_000), ("ms", 1000)):
        if us >= size:
            return f"{us // size:,} {unit}"
    return f"{us} us"


def _figure(
    title: str,
    parts: Sequence[str],
    names: Sequence[str],
    height: int,
    source: str,
    note: str = "",
    kind: str = "plot",
) -> str:
    keys = "".join(
        f'<li><i style="background:var({colour})"></i>{html.escape(name)}</li>'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    name = html.escape(title)
    picture = f'<svg class="{kind}" height="{height}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
    below = f"<p>{note}</p>" if note else ""
    below += f'<p class="source">{html.escape(source)}</p>'
    return f'<figure><figcaption>{name}</figcaption>{picture}<ul class="keys">{keys}</ul>{below}</figure>'


def _axes(x_end: float, y_end: float, y_label: str) -> Iterator[str]:
    for i in range(5):
        y, value = HEIGHT - HEIGHT * i / 4, y_end * i / 4
        shown = f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
        yield f'<line class="grid" x1="0" x2="100%" y1="{y:.0f}" y2="{y:.0f}"/>'
        yield f'<text x="0" dx="-8" y="{y + 4:.0f}" text-anchor="end">{shown}</text>'
        yield f'<text x="{25 * i}%" y="{HEIGHT + 18}" text-anchor="middle">{x_end * i / 4:.4g} s</text>'
    yield f'<text x="0" y="-10">{html.escape(y_label)}</text>'


def _paths(one: Series, colour: str, x_end: float, y_end: float) -> Iterator[str]:
    """A point that stands between two gaps is a dot."""
    for has_value, piece in groupby(one.points, key=lambda point: point[1] is not None):
        if has_value:
            at = [f"{x / x_end * ACROSS:.1f},{HEIGHT - (y or 0) / y_end * HEIGHT:.1f}" for x, y in piece]
            kind, path = ("line", f"M{'L'.join(at)}") if len(at) > 1 else ("line lone", f"M{at[0]}h0")
            yield f'<path class="{kind}" style="stroke:var({colour})" d="{path}"/>'


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in ROUND if step * power >= value * 0.999999)
