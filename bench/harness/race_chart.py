"""The picture of docs/benchmarks.md, which stands alone."""

from __future__ import annotations

import html
from collections.abc import Sequence


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
