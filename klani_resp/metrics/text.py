"""The text format of Prometheus, 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from storage.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
Sample = tuple[str, int | float]  # labels, as `labels` makes them, and the value


def labels(**pairs: str) -> str:
    shown = [f'{name}="{_escaped(value)}"' for name, value in pairs.items()]
    return "{" + ",".join(shown) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def family(name: str, kind: str, summary: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{labels_} {value}\n" for labels_, value in samples]
    return "".join((_head(name, kind, summary), *lines))


def one(name: str, kind: str, summary: str, value: int | float) -> str:
    return family(name, kind, summary, (("", value),))


def histogram(name: str, summary: str, source: Histogram, per_unit: int = 1) -> str:
    """`per_unit`: so many of what the histogram counts are one of what is shown."""
    counts = list(accumulate(source.counts))
    bounds = [*(repr(bound / per_unit) for bound in source.bounds), "+Inf"]
    lines = [f'{name}_bucket{{le="{bound}"}} {count}\n' for bound, count in zip(bounds, counts, strict=True)]
    ends = f"{name}_sum {source.total / per_unit}\n{name}_count {counts[-1]}\n"
    return "".join((_head(name, HISTOGRAM, summary), *lines, ends))


def _head(name: str, kind: str, summary: str) -> str:
    return f"# HELP {name} {summary}\n# TYPE {name} {kind}\n"
