"""The Ticket Horde page: from the raw log alone, each number from a line of it, and true of every run."""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.harness.charts import Series, lines, ranges
from bench.horde.flows import FLOWS
from bench.horde.raw_log import HerdLog
from bench.page.pictures import intervals
from bench.page.run import TEXT

ROOT = Path(__file__).resolve().parent.parent
PAGE_BYTES_MAX = 500_000
SMALL = ("--users", "1000", "--seats", "200", "--ranks", "4", "--workers", "16", "--processes", "2")
FIGURE = re.compile(r'<span class="figure" tabindex="0" data-from="([^"]*)">([^<]*)</span>')

Lines = list[dict[str, Any]]


def herd(output: Path, *options: str) -> str:
    """A small herd's page."""
    command = [sys.executable, str(ROOT / "bench" / "herd.py"), *SMALL, "--output", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (output / "report.html").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a small herd."""
    output = tmp_path_factory.mktemp("herd")
    herd(output, "--seed", "7")
    return output


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text()


@pytest.fixture
def log(run: Path) -> Lines:
    return [json.loads(line) for line in (run / "raw.jsonl").read_text().splitlines()]


def line_of(log: Lines, kind: str) -> dict[str, Any]:
    return next(line for line in log if line["kind"] == kind)


def page_of(directory: Path, log: Lines) -> str:
    """The page of a log that a test changed."""
    raw = directory / "raw.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in log))
    report.write_report(raw, directory / "report.html")
    return (directory / "report.html").read_text()


def words_of(page: str) -> str:
    """What a reader sees of it, in one line."""
    body = re.sub(r"<(script|style|svg).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body.replace("</", " </"))).split()).replace(
        " ,", ","
    )


def value_at(line: dict[str, Any], key: str) -> Any:
    value: Any = line
    for part in key.split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def is_shown(value: Any, text: str) -> bool:
    """Whether the text is the value, as a page may round or group it."""
    if isinstance(value, list):
        return text == (f"{value[0]:.2f}" if value else "0")
    if isinstance(value, float):
        return f"{value:.3f}" == text or str(value) == text
    if isinstance(value, int):
        shown = (f"{value:,}", str(value), f"{value / 2**30:.1f} GiB", f"{value / 1000:.2f}")
        return text in shown
    texts = (value, f"Linux {value}", f"{value[:10]} {value[11:19]} UTC")
    return text in texts or (value.isdigit() and text == f"{int(value):,}")


def test_each_figure_is_that_of_its_line(page: str, log: Lines) -> None:
    figures = FIGURE.findall(page)
    assert len(figures) > 80
    for origin, text in figures:
        sources = [
            source.removeprefix("line ").split(": ", 1) for source in html.unescape(origin).split("; ")
        ]
        values = [value_at(log[int(number) - 1], key) for number, key in sources]
        assert len(values) > 1 or is_shown(values[0], html.unescape(text)), (origin, text, values)


def test_no_number_of_the_result_stands_there_without_a_line(page: str) -> None:
    """In the cards and tables; each picture names the lines that it was drawn from."""
    for card in re.findall(r'<div class="card">(.*?)</div>', page):
        bare = re.sub(r"<small>.*?</small>", "", FIGURE.sub("", card)).replace("p90", "")
        assert not re.search(r"\d", re.sub("<[^>]*>", "", bare)), card
    for cell in re.findall(r"<td>(.*?)</td>", page):
        assert not re.fullmatch(r"[\d,.]+", cell), cell
    for figure in re.findall(r"<figure>.*?</figure>", page):
        assert re.search(r"raw\.jsonl, lines? [\d,]+( - [\d,]+)? \(kind \w+\)", figure), figure[:200]


def test_the_page_needs_nothing_else(page: str) -> None:
    assert len(page.encode()) <= PAGE_BYTES_MAX
    assert not re.search(r'(src|href)="(?!raw\.jsonl|result\.json|host\.json|data:,)', page)
    assert "url(" not in page
    assert "@import" not in page


def test_a_page_of_the_whole_horde_is_small_enough(tmp_path: Path, log: Lines) -> None:
    """As many sales and tenths of a second as 10,000 seats and a minute make."""
    first = [line for line in log if line["kind"] != "sale"]
    first[0]["options"]["seats"] = 10_000
    tenths = [line_of(log, "tenth") | {"from_ms": 100 * i} for i in range(600)]
    sales = [{"kind": "sale", "seat": seat, "elapsed_ms": seat} for seat in range(10_000)]
    assert len(page_of(tmp_path, [*first, *tenths, *sales]).encode()) <= PAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({}, "4 CPUs, 8.0 GiB RAM"),
        ({"cpu.max": "200000 100000", "memory.max": "4294967296"}, "2 CPUs, 4.0 GiB RAM"),
        ({"cpu.max": "800000 100000", "memory.max": "17179869184"}, "4 CPUs, 8.0 GiB RAM"),
        ({"cpu.max": "max 100000", "memory.max": "max"}, "4 CPUs, 8.0 GiB RAM"),
        ({"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"}, "1.5 CPUs, 8.0 GiB RAM"),
        ({"cpu.cfs_quota_us": "-1", "memory.limit_in_bytes": "9223372036854771712"}, "4 CPUs, 8.0 GiB RAM"),
    ],
)
def test_the_hardware_is_what_the_run_could_use(
    tmp_path: Path, log: Lines, limits: dict[str, str], shown: str
) -> None:
    line_of(log, "host").update(cpus=16, cpus_usable=4, memory_bytes=8 << 30, cgroup=limits)
    words = words_of(page_of(tmp_path, log))
    assert f"Hardware profile {shown}" in words
    assert "the host has 16 CPUs, 8.0 GiB" in words


@pytest.mark.parametrize(
    ("engine", "policies", "said", "syncs"),
    [
        ("klani", {"appendfsync": "always"}, "Every sale was on disk before its buyer was told", True),
        ("klani", {"appendfsync": "everysec"}, "synced once a second (appendfsync everysec", False),
        ("klani", {"appendfsync": "no"}, "the operating system chose when to write", False),
        ("klani", {}, "the log does not say", False),
        ("redis", {"appendfsync": "always"}, "Every sale was on disk", True),
        ("postgres", {"fsync": "on", "synchronous_commit": "on"}, "Every sale was on disk", True),
        ("postgres", {"fsync": "on", "synchronous_commit": "off"}, "could be told before", False),
        ("sqlite", {"synchronous": "2"}, "Every sale was on disk", True),
        ("sqlite", {"synchronous": "1"}, "could be told before", False),
    ],
)
def test_what_a_buyer_was_promised(
    tmp_path: Path, log: Lines, engine: str, policies: dict[str, str], said: str, syncs: bool
) -> None:
    start = line_of(log, "start")
    del start["appendfsync"]
    start.update(policies)
    start["options"].update(engine=engine, flow="claim" if engine != "klani" else "exact")
    line_of(log, "host")["server"].update(server_version="15", sqlite_version="3")
    page = page_of(tmp_path, log)
    assert said in words_of(page)
    assert ("Every sale was on disk" in page) == said.startswith("Every")
    assert ("<figcaption>Sync wait</figcaption>" in page) == syncs


def test_the_servers_log_is_asked_until_the_last_sale(log: Lines) -> None:
    """However short the run: without it a herd of a tenth of a second had no groups to show."""
    commits = [line for line in log if line["kind"] == "commit"]
    assert commits[0].keys() >= {"groups", "frames", "syncs", "sync_ms", "bytes"}
    assert len(commits) > 1, "one point makes no line"
    assert commits[-1]["elapsed_ms"] >= max(line["elapsed_ms"] for line in log if line["kind"] == "sale")
    wrote = sum(line["count"] for line in log if line.get("command") in ("TRYLOCK", "REPLACE", "UNLOCK"))
    frames = sum(line["frames"] for line in commits if line["elapsed_ms"] > 0)
    assert 200 <= frames <= wrote
    assert 0 < sum(line["groups"] for line in commits if line["elapsed_ms"] > 0) <= frames


def test_group_commit_is_in_commands_and_a_sync_by_syncs(tmp_path: Path, page: str, log: Lines) -> None:
    """An earlier version's log has neither count: it shows sales, and time per group."""
    assert "</i>commands per group</li>" in page
    assert "</i>ms per sync</li>" in page
    assert "fdatasync</li>" not in page
    for line in log:
        if line["kind"] == "commit":
            del line["frames"], line["syncs"]
    earlier = page_of(tmp_path, log)
    assert "</i>sold per group</li>" in earlier
    assert "</i>ms of syncs per group</li>" in earlier


def test_redis_without_its_log_promises_nothing(tmp_path: Path, log: Lines) -> None:
    line_of(log, "start")["options"]["engine"] = "redis"
    line_of(log, "host")["server"]["config_appendonly"] = "no"
    assert "Nothing was on disk" in page_of(tmp_path, log)


def test_a_page_of_another_engine_is_of_that_engine(tmp_path: Path) -> None:
    words = words_of(herd(tmp_path, "--engine", "sqlite", "--flow", "claim"))
    assert re.match(r"Ticket Horde, one claim per user, SQLite SQLite 3\.\d+", words)
    assert "This run is of SQLite, for comparison; the commands are its own." in words
    assert "BEGIN IMMEDIATE" in words
    assert "-BUSY: busy" not in words
    assert "There is no server" in words
    assert "Mechanical sympathy" not in words
    assert "KL." not in words


def test_the_engines_of_a_flow_have_its_verbs() -> None:
    for name, flow in FLOWS.items():
        for engine in flow.engines:
            verbs = re.findall(r"{(intersect|trylock|seek|replace|unlock|claim)}", TEXT["flow"][name])
            assert set(verbs) <= set(TEXT["verbs"][engine]), (name, engine)


def test_a_server_that_ran_already_may_be_elsewhere(tmp_path: Path, log: Lines, page: str) -> None:
    assert "shared its CPUs" in page
    line_of(log, "start")["server"] = "found"
    words = words_of(page_of(tmp_path, log))
    assert "shared its CPUs" not in words
    assert "Hardware profile, of the clients" in words
    line_of(log, "start")["options"]["transport"] = "unix"
    assert "shared one machine's CPUs" in words_of(page_of(tmp_path, log))


@pytest.mark.parametrize(
    ("wall", "peak", "said"),
    [
        (2.2, "5000", "Peak QPS 5,000 per second reads and updates in the best second"),
        (0.5, "5000", "QPS 10,000 per second 5,000 reads and updates in 0.500 s, the whole run"),
    ],
)
def test_the_peak_is_a_rate(tmp_path: Path, log: Lines, wall: float, peak: str, said: str) -> None:
    line_of(log, "totals")["wall_seconds"] = wall
    line_of(log, "final")["peak_qps"] = peak
    words = words_of(page_of(tmp_path, log))
    assert said in words
    assert ("The peak above is of whole seconds" in words) == (wall > 1)


def test_the_result_says_what_was_sold_and_when(page: str, log: Lines) -> None:
    last = max(line["elapsed_ms"] for line in log if line["kind"] == "sale")
    wall = line_of(log, "totals")["wall_seconds"]
    said = (
        f"200 of 200 sold last sale at {last / 1000:.2f} s; all 1,000 users served in {wall:.3f} s; 0 double-"
    )
    assert said in words_of(page)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (0.3, [(0, 0.1, 10), (0.1, 0.2, 10), (0.2, 0.3, 10)]),
        (0.26, [(0, 0.1, 10), (0.1, 0.2, 10), (0.2, 0.26, 10)]),
        (0.21, [(0, 0.1, 10), (0.1, 0.21, 20)]),
    ],
)
def test_the_last_tenth_is_as_wide_as_it_is(
    tmp_path: Path, log: Lines, end: float, expected: list[tuple[float, float, int]]
) -> None:
    rest = [line for line in log if line["kind"] not in ("tenth", "hundredth")]
    tenths = [{"kind": "tenth", "from_ms": 100 * i, "reads": 10} for i in range(3)]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in [*rest, *tenths]))
    assert [(since, to, row["reads"]) for since, to, row in intervals(HerdLog(raw), end)] == expected


def test_a_short_run_is_drawn_in_finer_steps(tmp_path: Path, log: Lines) -> None:
    """Of a run below a second tenths would be a dot or two."""
    page, wall = page_of(tmp_path, log), line_of(log, "totals")["wall_seconds"]
    fine = [line for line in log if line["kind"] == "hundredth"]
    assert len(fine) == math.ceil(wall * 100)
    (path,) = re.findall(r'figcaption>Throughput.*?d="([^"]*)"', page)
    assert path.count("L") >= len(fine) - 2
    assert sum(line["commands"] for line in fine) == line_of(log, "totals")["commands_total"]
    assert "Hundredths of a second" in words_of(page)
    log = [line for line in log if line["kind"] != "hundredth"]
    assert "Tenths of a second" in words_of(page_of(tmp_path, log))


def test_no_conflicts_are_said_to_be_none(tmp_path: Path, log: Lines) -> None:
    for line in log:
        if "lock_conflicts" in line and line["kind"] in ("tenth", "hundredth"):
            line["lock_conflicts"] = 0
    words = words_of(page_of(tmp_path, log))
    assert re.search(r"Conflicts: lock conflicts none raw\.jsonl, lines", words)


def test_a_line_is_broken_where_it_has_no_value() -> None:
    picture = lines("t", [Series("s", [(0, 1), (1, 2), (2, None), (3, 2), (4, None)])], 4, "y", "source")
    pieces = re.findall(r'<path class="([^"]*)"[^>]* d="([^"]*)"', picture)
    assert [(kind, path.count("L")) for kind, path in pieces] == [("line", 1), ("line lone", 0)]


def test_marks_that_are_equal_are_rings() -> None:
    picture = ranges("t", [("REPLACE", [10, 50, 900, 900])], ("p50", "p90", "p99", "p99.9"), "source")
    radii = [float(radius) for radius in re.findall(r' r="([\d.]+)"', picture)]
    assert radii[0] == radii[1] == radii[2] < radii[3]
    assert picture.count('class="ring"') == 1


def test_a_sum_of_one_verb_is_not_shown_twice(page: str) -> None:
    names = re.findall(r"<tr><td>([A-Za-z]+)</td>", page)
    assert names[:7] == ["INTERSECT", "TRYLOCK", "SEEK", "REPLACE", "UNLOCK", "read", "purchase"]


def test_links_go_to_what_is_there(run: Path, tmp_path: Path, page: str) -> None:
    assert re.findall(r'<a href="([^"]*)"', page) == ["raw.jsonl", "result.json", "host.json"]
    report.write_report(run / "raw.jsonl", tmp_path / "page.html")
    assert "<a " not in (tmp_path / "page.html").read_text()


def test_a_run_that_is_not_right_says_so(tmp_path: Path, log: Lines) -> None:
    line_of(log, "totals").update(problems=["1 seats sold twice: 7"], double_sold=[7])
    page = page_of(tmp_path, log)
    assert "badge good" not in page
    assert "1 seats sold twice: 7" in page
    assert "1 double-spends" in words_of(page)
    assert "It proves that" not in page
    assert "users served" not in page


def test_a_run_in_which_nobody_could_begin_has_a_page(tmp_path: Path, log: Lines) -> None:
    log = [line for line in log if line["kind"] not in ("sale", "commit", "tenth", "hundredth")]
    log.append({"kind": "tenth", "from_ms": 0, "reads": 0, "updates": 0, "commands": 0, "sold": 0})
    for line in log:
        if line["kind"] in ("command", "purchase"):
            line["count"] = 0
    line_of(log, "totals").update(problems=["16 workers failed"], sold=0, wall_seconds=0.0)
    line_of(log, "final")["peak_qps"] = "0"
    assert "0 of 200 sold the run ended after 0.000 s" in words_of(page_of(tmp_path, log))


def test_a_log_that_came_to_no_end_is_refused(run: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join((run / "raw.jsonl").read_text().splitlines(keepends=True)[:-1]))
    command = [sys.executable, str(ROOT / "bench" / "report.py"), str(raw)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no line of kind final" in done.stderr


def test_a_log_of_an_earlier_version_is_refused(tmp_path: Path, log: Lines) -> None:
    del line_of(log, "start")["commit"]
    with pytest.raises(ValueError, match="no commit in line 1"):
        page_of(tmp_path, log)


def test_the_shortcut_is_disclosed(tmp_path: Path, page: str) -> None:
    assert "seed shortcut" not in page
    words = words_of(herd(tmp_path, "--seed-shortcut"))
    assert "== verified_sold 200 seed shortcut: workers remember what is sold out" in words
    assert "seed shortcut: a worker whose INTERSECT was empty" in words
    assert "or unasked, because their worker remembered" in words


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ("pipelined", "TRYLOCK and SEEK in one round trip"),
        ("claim", "an id: sold += 1 nothing: sold_out += 1 -BUSY: busy += 1"),
        ("hold", "-RESOLD: resold += 1; hold again"),
        ("rooms", "nothing: hotel_full += 1"),
    ],
)
def test_the_other_flows_have_a_page_too(tmp_path: Path, flow: str, said: str) -> None:
    page = herd(tmp_path, "--flow", flow)
    words = words_of(page)
    assert TEXT["titles"][flow] in words
    assert "badge good" in page
    assert said in words
    assert "after the storm: KL.VERIFY" in words
    if flow == "rooms":
        assert "1,000 sessions" in words
        assert "sessions that found every hotel full" in words
        assert not re.search(
            r"\b(seat|user|rank)s?\b", words.partition("Mechanical")[0].replace("update", "")
        )
