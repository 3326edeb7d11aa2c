"""The top of the page: what ran and when, the verdict, and four cards."""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import datetime

from bench.horde.raw_log import Figure, reckoned
from bench.page.run import PROSE, TEXT, Run, gib


def head(run: Run) -> Iterator[str]:
    yield f"<p class=soft>{run.engine_name} {run.version().html()}</p><h1>{run.title}</h1><p>"
    if run.problems:
        yield '<span class="badge bad">not right</span>'
    else:
        word = run.sold_key
        sold, verified = run.final(word), run.final(f"verified_{word}")
        yield f'<span class="badge good">{word} {sold.html()} == verified_{word} {verified.html()}</span>'
    if run.remembers:
        yield f' <span class="badge">{PROSE["shortcut"]}</span>'
    yield "</p>"
    if run.problems:
        yield f"<ul>{''.join(f'<li>{problem.html()}</li>' for problem in run.problems)}</ul>"
    yield from _failures(run)
    read = PROSE["lead_read"] if run.is_read else TEXT["unread"]["lead"]
    yield f"<p>{run.words['lead']} {run.durable()} {run.say(read)} {run.say(PROSE['lead'])}</p>"
    yield f'<p class="soft">{". ".join(_circumstances(run))}.</p>'


def _failures(run: Run) -> Iterator[str]:
    """What workers ended with, each error once with all the lines that have it whole."""
    numbers_of: dict[str, list[int]] = {}
    for number, line in run.log.numbered("failure"):
        error = line["traceback"].strip().rpartition("\n")[2]
        numbers_of.setdefault(error, []).append(number)
    if not numbers_of:
        return
    yield f"<p>{PROSE['failures']}</p><ul>"
    for error, numbers in sorted(numbers_of.items(), key=lambda found: -len(found[1])):
        first = Figure(error, ((numbers[0], "traceback"),))
        yield f"<li>{first.html()} <span class=source>{html.escape(run.log.places(numbers))}</span></li>"
    yield "</ul>"


def _circumstances(run: Run) -> Iterator[str]:
    log = run.log
    time, load = log.figure("start", "time"), log.figure("host", "load_average")
    yield time.html(f"{datetime.fromisoformat(time.value):%Y-%m-%d %H:%M:%S} UTC")
    yield f"Seed {log.figure('start', 'seed').html(str(log.figure('start', 'seed').value))}"
    yield f"Commit {log.figure('start', 'commit').html()} of the benchmark"
    yield f"Clients: {', '.join(_clients(run))}"
    yield f"Load average before the run {load.html(f'{load.value[0]:.2f}')}"


def _clients(run: Run) -> Iterator[str]:
    log = run.log
    yield f"Python {log.figure('host', 'python').html()}"
    for name, package in TEXT["engines"][run.engine]["clients"].items():
        if package in log.figure("host", "packages").value:
            yield f"{name} {log.figure('host', f'packages/{package}').html()}"


def cards(run: Run) -> Iterator[str]:
    yield '<div class="cards">'
    yield _hardware(run)
    words = run.words
    yield _card(
        "Workload",
        f"{words['told_users']} {words['users']}",
        f"{words['told_seats']} {words['seats']} in {words['told_ranks']} {words['ranks']}, "
        f"{words['told_workers']} workers in {words['told_processes']} processes",
    )
    yield _result(run)
    yield _peak(run)
    yield "</div>"


def _card(name: str, value: str, more: str) -> str:
    return f'<div class="card"><small>{name}</small><b>{value}</b><span class="soft">{more}</span></div>'


def _hardware(run: Run) -> str:
    log, cpus = run.log, run.cpus()
    kernel, system = log.figure("host", "kernel"), log.figure("host", "system").value.partition("-")[0]
    probe = {name: log.figure("host", f"fdatasync_us/{name}").html() for name in ("p50", "count")}
    whole = f"{log.figure('host', 'cpus').html()} CPUs, {gib(log.figure('host', 'memory_bytes'))}"
    return _card(
        "Hardware profile" + (", of the clients" if run.server == "found" else ""),
        f"{cpus.html(f'{cpus.value:g}')} CPUs, {gib(run.memory())} RAM",
        f"{log.figure('host', 'cpu_model').html()}; {kernel.html(f'{system} {kernel.value}')}; "
        f"{log.figure('host', 'file_system').html()}, fdatasync {probe['p50']} us (probe before the run, "
        f"median of {probe['count']}); the host has {whole}",
    )


def _result(run: Run) -> str:
    log, words = run.log, run.words
    sold, twice, wall = log.figure("totals", "sold"), log.figure("totals", "double_sold"), run.wall
    last = max((line["elapsed_ms"] for line in log.lines("sale")), default=None)
    more = []
    if last is not None:
        figure = log.figure("sale", "elapsed_ms", lambda line: bool(line["elapsed_ms"] == last))
        more.append(f"last sale at {figure.html(f'{last / 1000:.2f}')} s")
    seconds = f"{wall.html(f'{wall.value:.3f}')} s"
    more.append(
        f"the run ended after {seconds}"
        if run.problems
        else f"all {words['told_users']} {words['users']} served in {seconds}"
    )
    more.append(f"{twice.html(str(len(twice.value)))} double-spends, by the clients' own books")
    more.append(f"{run.final('failed_workers').html()} workers failed")
    return _card("Result", f"{sold.html()} of {words['told_seats']} {words['sold']}", "; ".join(more))


def _peak(run: Run) -> str:
    """A run that is shorter than a second has no second to be the best: its rate is that of the whole."""
    peak, wall = run.final("peak_qps"), run.wall
    p90s = [
        f"{key.removesuffix('_p90_us')} p90 {run.final(key).html()} us"
        for key in next(run.log.lines("final"))
        if key.endswith("_p90_us")
    ]
    counted = run.words["peak"]
    if wall.value >= 1:
        name, rate, what = "Peak QPS", peak, f"{counted} in the best second"
    else:
        name, rate = "QPS", reckoned(round(peak.value / run.seconds), peak, wall)
        seconds = wall.html(f"{wall.value:.3f}")
        what = f"{peak.html()} {counted} in {seconds} s, the whole run, which was shorter than a second"
    return _card(name, f"{rate.html()} per second", "; ".join([what, *p90s]))
