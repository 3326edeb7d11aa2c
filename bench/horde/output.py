"""What a herd shows and leaves behind: live progress, one line a second, the raw log, a readable result.

The raw log is JSON lines; `kind` says what a line is: start, host, second, tenth and hundredth (of a
second; the latter of runs below one), commit (what the server's log did between two questions), command,
purchase (of those who bought: from their first call to their sale), event, sale, failure, verification,
server, totals, final. The lines of seconds and their parts are exact, by each command's own end; the ones
printed meanwhile are what the workers had published by then. Commands there are all that the server
answered, also with a refusal (`refused` of totals, by its event); the lines of `command` are of those that
it did not refuse.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.horde.final import UNREAD, final_line
from bench.horde.flows import FLOWS
from bench.horde.options import Options
from bench.horde.raw_log import HOST, INTERVALS_MS, RAW_LOG, REPORT, RESULT
from bench.horde.stats import Outcome, merged, per_interval, per_second, summary
from bench.horde.workers import HerdRecord

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
except ImportError:  # nothing but redis need be there
    Progress = None  # type: ignore[assignment,misc]


class Live:
    """A sample line each second, and on a terminal a progress bar of users served below them."""

    def __init__(self, options: Options) -> None:
        self._kind = FLOWS[options.flow].kind
        self._last = [0] * len(self._kind.columns)
        self._progress: Progress | None = None
        if Progress is not None and sys.stdout.isatty():
            columns = (TextColumn("users served"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            # The console must not wrap or colour the sample lines: they are read by programs, too.
            console = Console(soft_wrap=True, highlight=False)
            self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
            self._task = self._progress.add_task("users", total=options.users)

    def __enter__(self) -> Live:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def second(self, second: int, counts: list[int]) -> None:
        """`counts` are totals since the release, in the order of the kind's columns."""
        kind = self._kind
        total = dict(zip(kind.columns, counts, strict=True))
        fresh = {name: total[name] - before for name, before in zip(kind.columns, self._last, strict=True)}
        self._last = counts
        left = "".join(f" {name}={total[name]}" for name in kind.left)
        counts_of = "".join(f"{name}={fresh[name]} " for name in (*kind.sums, "commands", kind.conflict))
        qps = sum(fresh[name] for name in kind.rated)
        line = f"sample second={second + 1} qps={qps} {counts_of}sold={total['sold']}{left}"
        if self._progress is None:
            print(line, flush=True)
            return
        served = total["sold"] + sum(total[name] for name in kind.left)
        self._progress.update(self._task, completed=served)
        self._progress.console.print(line, markup=False)


class RawLog:
    """The log under --output; it is written as things become known, so that a failed run leaves one too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / RAW_LOG
        for name in (REPORT, RESULT, HOST):  # an earlier run's must not stand beside this one's lines
            (directory / name).unlink(missing_ok=True)
        self._file = self.path.open("w", encoding="utf-8")

    def line(self, kind: str, **facts: Any) -> None:
        self._file.write(json.dumps({"kind": kind} | facts, default=str) + "\n")

    def file(self, name: str, content: Any) -> None:
        (self._directory / name).write_text(
            json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8"
        )

    def flush(self) -> None:
        """What was written can be read."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def raw_log(directory: Path) -> Iterator[RawLog]:
    log = RawLog(directory)
    try:
        yield log
    finally:
        log.close()


def result_of(
    options: Options, outcome: Outcome, record: HerdRecord, server: dict[str, Any]
) -> dict[str, Any]:
    """The result as one JSON object."""
    tally, kind = outcome.tally, outcome.tally.kind
    seconds = per_second(tally, outcome.wall_seconds)
    latencies = {
        name.removesuffix("s"): summary(merged(tally.took_us, commands))
        for name, commands in kind.sums.items()
    }
    line = final_line(options.flow, outcome)
    return {
        "final": dict(part.split("=") for part in line.split()[1:]),
        "final_line": line,
        "problems": outcome.problems(),
        "options": options_shown(options),
        "wall_seconds": outcome.wall_seconds,
        "sold": outcome.sold,
        "verified_sold": outcome.stored.verified_sold,
        "round_trips": tally.round_trips,
        "commands_total": tally.answered(),
        "refused": {name: tally.event(name) for name in kind.refused},
        "commands": {name: summary(tally.took_us[name]) for name in kind.commands},
        "latencies_us": latencies,
        "purchases_us": summary(tally.sold_us),
        "events": {name: tally.event(name) for name in kind.events},
        "double_sold": list(outcome.books.double_sold),
        "verification": outcome.stored.details,
        "clients_cpu_seconds": record.clients_cpu_seconds,
        "server": server,
        "seconds": seconds,
    }


def options_shown(options: Options) -> dict[str, Any]:
    """What was asked for, without addresses and paths of a machine."""
    hidden = ("host", "port", "unixsocket", "path", "scripts", "goods")
    shown = {name: value for name, value in asdict(options).items() if name not in hidden}
    return shown | {"transport": "tcp" if options.unixsocket is None else "unix"}


def write_result(
    log: RawLog,
    result: dict[str, Any],
    outcome: Outcome,
    record: HerdRecord,
    commits: Iterable[dict[str, float]],
) -> None:
    for row in result["seconds"]:
        log.line("second", **row)
    for kind, interval_ms in INTERVALS_MS.items():
        if kind == "tenth" or outcome.wall_seconds < 1:
            for number, row in enumerate(per_interval(outcome.tally, outcome.wall_seconds, interval_ms)):
                log.line(kind, from_ms=number * interval_ms, **row)
    for row in commits:
        log.line("commit", **row)
    for name, latencies in result["commands"].items():
        log.line("command", command=name, unit="us", **latencies)
    for name, latencies in result["latencies_us"].items():
        log.line("command", command=name, unit="us", **latencies)
    log.line("purchase", unit="us", **result["purchases_us"])
    for name, count in result["events"].items():
        log.line("event", event=name, count=count)
    tally = outcome.tally
    columns = (tally.sold_seat, tally.sold_buyer, tally.sold_worker, tally.sold_ms, tally.sold_us)
    for seat, buyer, worker, elapsed_ms, took_us in zip(*columns, strict=True):
        log.line("sale", seat=seat, buyer=buyer, worker=worker, elapsed_ms=elapsed_ms, took_us=took_us)
    for failure in record.failures:
        log.line("failure", traceback=failure)
    log.line("verification", **outcome.stored.details, verified_sold=outcome.stored.verified_sold)
    log.line("server", **result["server"])
    totals = (
        "sold",
        "round_trips",
        "commands_total",
        "refused",
        "clients_cpu_seconds",
        "double_sold",
        "problems",
        "wall_seconds",
    )
    log.line("totals", **{name: result[name] for name in totals})
    log.line("final", line=result["final_line"], **result["final"])
    log.file(RESULT, result)
    log.flush()


def readable(options: Options, result: dict[str, Any]) -> Iterator[str]:
    """The section before the final line."""
    wall = result["wall_seconds"]
    yield ""
    yield f"{options.engine}, flow {options.flow}, {options.workers} workers in {options.processes} processes"
    if options.seed_shortcut:
        yield "seed shortcut: a worker remembers sold-out ranks, and does not ask again for their users"
    yield f"{'command':<10}{'count':>9}{'p50 us':>9}{'p90 us':>9}{'p99 us':>9}{'p99.9 us':>10}{'max us':>9}"
    rows = result["commands"] | result["latencies_us"] | {"purchase": result["purchases_us"]}
    for name, row in rows.items():
        figures = f"{row['p50']:>9}{row['p90']:>9}{row['p99']:>9}{row['p99.9']:>10}{row['max']:>9}"
        yield f"{name:<10}{row['count']:>9}{figures}"
    rate = result["commands_total"] / wall if wall else 0.0
    refusals = ", ".join(f"{name} {count}" for name, count in result["refused"].items() if count)
    refused = f" (refused: {refusals})" if refusals else ""
    counted = f"{result['commands_total']} commands{refused} in {result['round_trips']} round trips"
    yield f"{counted}: {rate:.0f} commands/s"
    yield ", ".join(f"{name} {count}" for name, count in result["events"].items())
    yield f"CPU: clients {result['clients_cpu_seconds']:.2f} s{_server_cpu(result['server'])}"
    verified = result["verified_sold"]
    if verified is None:
        verified = UNREAD
    else:
        yield f"storage re-read: {', '.join(f'{name} {n}' for name, n in result['verification'].items())}"
    yield f"sold {result['sold']}, verified {verified}, sold twice {len(result['double_sold'])}"
    for problem in result["problems"]:
        yield f"PROBLEM: {problem}"
    yield ""


def _server_cpu(server: dict[str, Any]) -> str:
    if "cpu_user_seconds" not in server:
        return ""
    memory = f"; its memory {server['rss_bytes'] / 2**20:.0f} MiB" if "rss_bytes" in server else ""
    used = f"{server['cpu_user_seconds']:.2f} s user + {server['cpu_system_seconds']:.2f} s system"
    return f", server {used}{memory}"
