"""The page's pictures: what happened over time, how long it took, and which seat went when."""

from __future__ import annotations

import base64
import html
import json
import struct
from bisect import bisect
from collections.abc import Iterator, Sequence

from bench.harness.charts import Series, lines, nothing, ranges
from bench.horde.raw_log import INTERVALS_MS, Figure, HerdLog, Line
from bench.page.run import PROSE, TEXT, Run

PERCENTILES = ("p50", "p90", "p99", "p99.9")
COLUMNS = ("count", *PERCENTILES, "max")
SUMS = ("read", "update")  # of verbs; a sum of one is its double

Interval = tuple[float, float, Line]  # from, to (seconds), counts


def over_time(run: Run) -> Iterator[str]:
    log, end = run.log, run.seconds
    fine = finest(log)
    rows = intervals(log, end)
    source = log.span(fine)
    note = " ".join(
        (run.say(PROSE["commands"]), TEXT["intervals"][fine], PROSE["rated" if end >= 1 else "whole"])
    )

    def rate(name: str) -> list[tuple[float, float | None]]:
        return [((since + to) / 2, row.get(name, 0) / (to - since)) for since, to, row in rows]

    commands = Series("all commands", rate("commands"))
    # An earlier version's log calls everything updates where there is but one kind of command.
    sums = [Series(name, rate(name)) for name in ("reads", "updates")]
    shown = [one for one in sums if any(y for _, y in one.points) and one.points != commands.points]
    yield '<h2>Over time</h2><div class="charts">'
    yield lines("Throughput", [*shown, commands], end, "per second", source, note)
    sold, total = [(0.0, 0.0)], 0
    for _, to, row in rows:
        total += row["sold"]
        sold.append((to, total))
    yield lines(
        f"{run.sold_key.title()} so far", [Series(run.sold_key, sold)], end, run.words["seats"], source
    )
    for conflict in ("lock_conflicts", "busy"):
        name = conflict.replace("_", " ")
        if any(row.get(conflict) for *_, row in rows):
            yield lines(f"Conflicts: {name}", [Series(name, rate(conflict))], end, "per second", source)
        elif any(conflict in row for *_, row in rows):
            yield nothing(f"Conflicts: {name}", source)
    yield from _group_commit(run)
    yield "</div>"


def finest(log: HerdLog) -> str:
    """The kind of lines that charts are drawn from."""
    return next((kind for kind in INTERVALS_MS if log.has(kind, "from_ms")), "tenth")


def intervals(log: HerdLog, end: float) -> list[Interval]:
    """The finest that the log has, the last one as long as the run went on. When that is less than half of
    one it is one with the one before: a handful of commands in a few milliseconds make no rate."""
    kind = finest(log)
    interval_ms = INTERVALS_MS[kind]
    found: list[Interval] = []
    for line in log.lines(kind):
        counts = {name: count for name, count in line.items() if name not in ("kind", "from_ms")}
        since, to = line["from_ms"] / 1000, min((line["from_ms"] + interval_ms) / 1000, end)
        if found and to - since < interval_ms / 2000:
            since, _, before = found.pop()
            counts = {name: before[name] + count for name, count in counts.items()}
        found.append((since, to, counts))
    return found


def _group_commit(run: Run) -> Iterator[str]:
    """Where a sync was no buyer's business there is none to show. An earlier version's log has no counts of
    frames and of syncs: then it is sales, and time per group."""
    log, end = run.log, run.seconds
    has_frames, has_syncs = (log.has("commit", name) for name in ("frames", "syncs"))
    moments = sorted(sale["elapsed_ms"] for sale in log.lines("sale"))
    sizes: list[tuple[float, float | None]] = []
    syncs: list[tuple[float, float | None]] = []
    to = 0
    for row in log.lines("commit"):
        since, to = to, max(row["elapsed_ms"], 0)
        if to == 0 or since >= end * 1000:
            continue  # the server was idle: the herd was not let loose yet, or was done
        x, groups = min((since + to) / 2000, end), row["groups"] if row["bytes"] else 0
        size = row["frames"] if has_frames else bisect(moments, to) - bisect(moments, since)
        divisor = row["syncs"] if has_syncs else groups
        sizes.append((x, size / groups if groups else None))
        syncs.append((x, row["sync_ms"] / divisor if divisor else None))
    if not any(y is not None for _, y in sizes):
        return
    source = log.span("commit") if has_frames else log.span("commit", "sale")
    name = "commands per group" if has_frames else f"{run.sold_key} per group"
    note = PROSE["group_commands"] if has_frames else PROSE["group_sales"]
    yield lines("Group commit", [Series(name, sizes)], end, name, source, note)
    if run.durability() == "always":
        name = "ms per sync" if has_syncs else "ms of syncs per group"
        yield lines(PROSE["sync"], [Series(name, syncs)], end, "ms", log.span("commit"), PROSE["sync_note"])


def latencies(run: Run) -> Iterator[str]:
    rows = list(_latency_rows(run.log))
    values = [(name, [row[COLUMNS.index(p)].value for p in PERCENTILES]) for name, row in rows]
    source = run.log.span("command", "purchase")
    yield "<h2>Latency as the clients saw it</h2>"
    if values:
        yield f'<div class="charts">{ranges("From p50 to p99.9", values, PERCENTILES, source)}</div>'
    yield '<div class="wide"><table class="numbers"><tr><th>microseconds</th>'
    yield "".join(f"<th>{name}</th>" for name in COLUMNS) + "</tr>"
    for name, row in rows:
        yield f"<tr><td>{name}</td>{''.join(f'<td>{figure.html()}</td>' for figure in row)}</tr>"
    sums = " and ".join(name for name, _ in rows if name in SUMS)
    told = [PROSE["latency"], *([PROSE["sums"].replace("{sums}", sums)] if sums else [])]
    told += [PROSE["purchase"], TEXT["latency"].get(run.flow, "")]
    yield f"</table></div><p class=soft>{run.say(' '.join(told))}</p>"


def _latency_rows(log: HerdLog) -> Iterator[tuple[str, list[Figure]]]:
    seen: list[list[int]] = []
    for line in log.lines("command"):
        name, values = line["command"], [line[key] for key in COLUMNS]
        if line["count"] and not (name in SUMS and values in seen):
            seen.append(values)
            yield name, [log.command(name, key) for key in COLUMNS]
    if log.figure("purchase", "count").value:
        yield "purchase", [log.figure("purchase", key) for key in COLUMNS]


def seat_map(run: Run) -> Iterator[str]:
    """To the script go, for each seat, the moment of its sale and the line that says so."""
    log, words = run.log, run.words
    seats = log.figure("start", "options/seats").value
    when, lines_of = [-1] * seats, [0] * seats
    for number, line in log.numbered("sale"):
        when[line["seat"]], lines_of[line["seat"]] = line["elapsed_ms"], number
    sold = seats - when.count(-1)
    data = {
        "log": log.path.name,
        "one": words["seat"],
        "sold": words["sold"],
        "end_ms": max(0, *when),
        "ms": _packed(when),
        "lines": _packed(lines_of),
    }
    yield f"<h2>{words['seat'].title()} map</h2><p>{run.say(PROSE['map'])}</p>"
    yield f'<canvas id="map" role="img" tabindex="0" data-sold="{sold}" width="1" height="1" '
    yield f'aria-label="{sold} of {seats} {words["seats"]} {words["sold"]}, coloured by time"></canvas>'
    yield f'<div class="scale" id="scale"></div><p class="source">{html.escape(log.span("sale"))}</p>'
    yield f'<script type="application/json" id="map-data">{json.dumps(data)}</script>'


def _packed(values: Sequence[int]) -> dict[str, str | int]:
    """In the fewest bits that hold them; -1 is the highest number that there is."""
    bits, code = (16, "H") if max(values, default=0) < (1 << 16) - 1 else (32, "I")
    none = (1 << bits) - 1
    data = struct.pack(f"<{len(values)}{code}", *(none if value < 0 else value for value in values))
    return {"bits": bits, "data": base64.b64encode(data).decode()}
