"""The Ticket Horde page, from a raw log alone: `python bench/report.py OUTPUT/raw.jsonl [PAGE]`.

One file of HTML that needs nothing else, offline too. Each number on it is a `Figure` of the log and names
its line. Words, colours and the seat map's script are in report.toml, report.css and report.js.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness.charts import Series, lines, ranges
from bench.horde.raw_log import Figure, HerdLog

REPORT = "report.html"
ASSETS = Path(__file__).resolve().parent
TEXT = tomllib.loads((ASSETS / "report.toml").read_text(encoding="utf-8"))
PROSE: dict[str, str] = TEXT["prose"]
OPTIONS = ("users", "seats", "ranks", "workers", "processes")
PERCENTILES = ("p50", "p90", "p99", "p99.9")
MAP_COLUMNS = 100
UNSOLD = 255  # in the seat map's bytes; else the tenth part of the sale in which it was sold
STEPS = 64  # of the map's colours


def write_report(raw: Path, page: Path) -> None:
    """Raises ValueError when the log is not one of a run that came to its end."""
    page.write_text("".join(_page(HerdLog(raw))), encoding="utf-8")


def _page(log: HerdLog) -> Iterator[str]:
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    flow = log.figure("start", "options/flow").value
    title = TEXT["titles"][flow]
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<link rel="icon" href="data:,">'  # or the browser asks for one
    yield f"<style>\n{style}</style></head><body><main>"
    yield from _head(log, title)
    yield from _cards(log)
    yield from _over_time(log)
    yield from _latencies(log)
    yield from _seat_map(log)
    yield from _sections(log, flow)
    yield f"</main><script>\n{script}</script></body></html>\n"


def _head(log: HerdLog, title: str) -> Iterator[str]:
    problems = log.figure("totals", "problems").value
    yield f"<p class=soft>klani-resp</p><h1>{title}</h1>"
    if problems:
        yield '<p><span class="badge bad">not right</span></p><ul>'
        yield from (f"<li>{html.escape(problem)}</li>" for problem in problems)
        yield "</ul>"
    else:
        word = "booked" if "booked" in next(log.lines("final")) else "sold"
        sold, verified = log.figure("final", word), log.figure("final", f"verified_{word}")
        badge = f"{word} {_int(sold)} == verified_{word} {_int(verified)}"
        yield f'<p><span class="badge good">{badge}</span></p>'
    yield f"<p>{PROSE['lead']}</p>"


def _int(figure: Figure) -> str:
    """The final line's values are text."""
    return figure.html(f"{int(figure.value):,}")


def _card(name: str, value: str, more: str) -> str:
    return f'<div class="card"><small>{name}</small><b>{value}</b><span class="soft">{more}</span></div>'


def _cards(log: HerdLog) -> Iterator[str]:
    host = "host"
    asked = {name: log.figure("start", f"options/{name}").html() for name in OPTIONS}
    yield '<div class="cards">'
    cpus = log.figure(host, "cpus_usable")
    memory = log.figure(host, "memory_bytes")
    yield _card(
        "Hardware profile",
        f"{cpus.html()} CPUs, {memory.html(f'{memory.value / 2**30:.1f} GiB')}",
        f"{_text(log, host, 'cpu_model')}; {_text(log, host, 'kernel')}; {_text(log, host, 'file_system')}, "
        f"fdatasync {log.figure(host, 'fdatasync_us/p50').html()} us; {_limits(log)}",
    )
    yield _card(
        "Workload",
        f"{asked['users']} users",
        f"{asked['seats']} seats in {asked['ranks']} ranks, {asked['workers']} workers in "
        f"{asked['processes']} processes",
    )
    twice = log.figure("totals", "double_sold")
    wall = log.figure("totals", "wall_seconds")
    yield _card(
        "Result",
        f"{log.figure('totals', 'sold').html()} sold in {wall.html(f'{wall.value:.3f}')} s",
        f"{twice.html(str(len(twice.value)))} seats sold twice, by the clients' own books; "
        f"{_int(log.figure('final', 'failed_workers'))} workers failed",
    )
    p90s = [
        f"{line['command']} p90 {log.command(line['command'], 'p90').html()} us"
        for line in log.lines("command")
        if line["command"] in ("read", "update")
    ]
    peak = _int(log.figure("final", "peak_qps"))
    yield _card("Peak, reads and updates in the best whole second", peak, ", ".join(p90s))
    yield "</div>"


def _text(log: HerdLog, kind: str, key: str) -> str:
    return log.figure(kind, key).html()


def _limits(log: HerdLog) -> str:
    """What a container allows. Without a limit cgroup v2 says `max`, v1 -1 or more than any memory."""
    limits = log.figure("host", "cgroup")
    found: dict[str, str] = limits.value
    quota, _, period = found.get("cpu.max", "").partition(" ")
    quota, period = (
        quota or found.get("cpu.cfs_quota_us", "max"),
        period or found.get("cpu.cfs_period_us", "1"),
    )
    memory = found.get("memory.max", found.get("memory.limit_in_bytes", "max"))
    cpus = "no limit" if quota in ("max", "-1") else f"{int(quota) / int(period):g}"
    bound = memory.isdigit() and int(memory) < 1 << 50
    room = f"{int(memory) / 2**30:.1f} GiB" if bound else "no limit"
    return limits.html(f"cgroup: CPUs {cpus}, memory {room}")


def _over_time(log: HerdLog) -> Iterator[str]:
    tenths = list(log.lines("tenth"))
    conflict = next(iter(name for name in ("lock_conflicts", "busy") if tenths and name in tenths[0]), None)

    def rate(name: str) -> list[tuple[float, float]]:
        return [((row["from_ms"] + 50) / 1000, row[name] * 10) for row in tenths]

    sold, total = [(0.0, 0.0)], 0
    for row in tenths:
        total += row["sold"]
        sold.append(((row["from_ms"] + 100) / 1000, total))
    yield '<h2>Over time</h2><div class="charts">'
    yield lines(
        "Throughput, by tenths of a second",
        [
            Series("reads", rate("reads")),
            Series("updates", rate("updates")),
            Series("all commands", rate("commands")),
        ],
        "seconds",
        "per second",
    )
    yield lines("Sold so far", [Series("sold", sold)], "seconds", "rows")
    if conflict is not None:
        name = conflict.replace("_", " ")
        yield lines(f"Conflicts: {name}", [Series(name, rate(conflict))], "seconds", "per second")
    commits = [row for row in log.lines("commit") if row["groups"] > 0]
    if commits:
        times = [row["elapsed_ms"] / 1000 for row in commits]
        sizes = [row["bytes"] / row["groups"] / 1024 for row in commits]
        syncs = [row["sync_ms"] / row["groups"] for row in commits]
        yield lines(
            "Group commit: log per sync",
            [Series("KiB per group", list(zip(times, sizes, strict=True)))],
            "seconds",
            "KiB",
        )
        yield lines(
            "Time of a sync",
            [Series("ms per fdatasync", list(zip(times, syncs, strict=True)))],
            "seconds",
            "ms",
        )
    yield "</div>"


def _latencies(log: HerdLog) -> Iterator[str]:
    names = [line["command"] for line in log.lines("command") if line["count"]]
    yield "<h2>Latency as the clients saw it</h2>"
    rows = [(name, [log.command(name, p).value for p in PERCENTILES]) for name in names]
    yield f'<div class="charts">{ranges("Per verb, p50 to p99.9", rows, PERCENTILES, "us")}</div>'
    yield '<div class="wide"><table><tr><th>verb</th><th>count</th>'
    yield "".join(f"<th>{p} us</th>" for p in (*PERCENTILES, "max")) + "</tr>"
    for name in names:
        cells = "".join(f"<td>{log.command(name, key).html()}</td>" for key in ("count", *PERCENTILES, "max"))
        yield f"<tr><td>{name}</td>{cells}</tr>"
    yield f"</table></div><p class=soft>{PROSE['latency']}</p>"


def _seat_map(log: HerdLog) -> Iterator[str]:
    seats = log.figure("start", "options/seats").value
    last = max((line["elapsed_ms"] for line in log.lines("sale")), default=0) + 1
    cells = bytearray([UNSOLD]) * seats
    for line in log.lines("sale"):
        cells[line["seat"]] = line["elapsed_ms"] * STEPS // last
    data = {
        "columns": MAP_COLUMNS,
        "unsold": UNSOLD,
        "steps": STEPS,
        "seconds": last / 1000,
        "cells": base64.b64encode(cells).decode(),
    }
    sold = seats - cells.count(UNSOLD)
    yield f"<h2>Seat map</h2><p>{PROSE['map']}</p>"
    yield f'<canvas id="map" role="img" aria-label="{sold} of {seats} seats sold, coloured by time" '
    yield f'data-sold="{sold}" width="1" height="1"></canvas><div class="scale" id="scale"></div>'
    yield f'<script type="application/json" id="map-data">{json.dumps(data)}</script>'


def _sections(log: HerdLog, flow: str) -> Iterator[str]:
    yield "<h2>Mechanical sympathy</h2>"
    for title, text in TEXT["sympathy"].items():
        yield f"<h3>{title}</h3><p>{text}</p>"
    transport = {"tcp": "a local TCP connection", "unix": "a unix socket"}[
        log.figure("start", "options/transport").value
    ]
    policy = (
        log.figure("start", "appendfsync").html() if "appendfsync" in next(log.lines("start")) else "unknown"
    )
    yield f"<h2>Honest scope</h2><p>{PROSE['scope'].format(transport=transport, policy=policy)}</p>"
    yield f"<h2>Exact flow</h2><p>{PROSE['flow']}</p><pre>{html.escape(TEXT['flow'][flow])}</pre>"
    yield "<h2>What it proves, and what it does not</h2>"
    yield from (f"<p>{text}</p>" for text in TEXT["proves"])
    yield "<h2>Verification</h2><p>" + PROSE["verification"] + '</p><div class="wide"><table>'
    for key in next(log.lines("verification")):
        if key != "kind":
            yield f"<tr><td>{key}</td><td>{log.figure('verification', key).html()}</td></tr>"
    yield "</table></div>"
    yield "<h2>How each number was counted</h2>"
    yield '<div class="wide"><table><tr><th>number</th><th>counted</th></tr>'
    final = log.figure("final", "line").value
    named = [part.partition("=")[0] for part in final.split()[1:]]
    yield from (f'<tr><td>{name}</td><td class="prose">{TEXT["counted"][name]}</td></tr>' for name in named)
    yield "</table></div>"
    yield f'<h2>Final line</h2><pre class="final">{html.escape(final)}</pre>'
    yield "<h2>Artifacts</h2><ul>"
    yield from (f'<li><a href="{name}">{name}</a>: {text}</li>' for name, text in TEXT["artifacts"].items())
    yield "</ul>"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("page", type=Path, nargs="?", help="beside the log unless told")
    told = parser.parse_args()
    page = told.page or told.raw.with_name(REPORT)
    try:
        write_report(told.raw, page)
    except (OSError, ValueError) as problem:
        print(f"report: {problem}", file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
