"""The Ticket Horde page: from the raw log alone, each number from a line of it, seen in a real browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.horde.flows import FLOWS
from tests.browser import SIZES, Browser, open_browser

ROOT = Path(__file__).resolve().parent.parent
PAGE_BYTES_MAX = 500_000
SECONDS_MAX = 1.0
SMALL = ("--users", "1000", "--seats", "200", "--ranks", "4", "--workers", "16", "--processes", "2")
FIGURE = re.compile(r'<span class="figure" data-line="(\d+)" data-key="([^"]+)"[^>]*>([^<]*)</span>')


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a small herd."""
    output = tmp_path_factory.mktemp("herd")
    command = [
        sys.executable,
        str(ROOT / "bench" / "herd.py"),
        *SMALL,
        "--seed",
        "7",
        "--output",
        str(output),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("thundering_herd_done ")
    return output


@pytest.fixture(scope="module")
def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "raw.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def browser(need: Callable[[str], str]) -> Iterator[Browser]:
    with open_browser(need) as opened:
        yield opened


def value_at(line: dict[str, Any], key: str) -> Any:
    value: Any = line
    for part in key.split("/"):
        value = value[part]
    return value


def is_shown(value: Any, text: str) -> bool:
    """Whether the text is the value, as a page may round or group it."""
    if isinstance(value, list):
        return text == str(len(value))
    if isinstance(value, dict):
        return True  # the container's limits, whose form has a test of its own
    digits = text.replace(",", "").removesuffix(" GiB")
    if text.endswith(" GiB"):
        return f"{value / 2**30:.1f}" == digits
    if isinstance(value, float):
        return f"{value:.3f}" == digits
    return str(value) == text or str(value) == digits


def test_each_figure_is_that_of_its_line(run: Path, lines: list[dict[str, Any]]) -> None:
    page = (run / "report.html").read_text()
    figures = FIGURE.findall(page)
    assert len(figures) > 50
    for number, key, text in figures:
        value = value_at(lines[int(number) - 1], html.unescape(key))
        assert is_shown(value, html.unescape(text)), (number, key, text, value)


def test_no_number_of_the_result_stands_there_without_a_line(run: Path) -> None:
    """In the cards and tables; charts and the map are drawn from lines of kind tenth, commit and sale."""
    page = (run / "report.html").read_text()
    for card in re.findall(r'<div class="card">(.*?)</div>', page):
        bare = re.sub(r"<small>.*?</small>", "", FIGURE.sub("", card)).replace("p90", "")
        assert not re.search(r"\d", re.sub("<[^>]*>", "", bare)), card
    for cell in re.findall(r"<td>(.*?)</td>", page):
        assert not re.fullmatch(r"[\d,.]+", cell), cell


def test_the_page_needs_nothing_else(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert len(page.encode()) <= PAGE_BYTES_MAX
    assert not re.search(r'(src|href)="(?!raw\.jsonl|result\.json|host\.json|data:,)', page)
    assert "url(" not in page
    assert "@import" not in page


def test_a_page_of_the_whole_horde_is_small_enough(
    run: Path, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    """As many sales and tenths of a second as 10,000 seats and a minute make."""
    first = [line for line in lines if line["kind"] != "sale"]
    first[0]["options"]["seats"] = 10_000
    tenth = next(line for line in lines if line["kind"] == "tenth")
    sales = [{"kind": "sale", "seat": seat, "elapsed_ms": seat} for seat in range(10_000)]
    tenths = [tenth | {"from_ms": 100 * i} for i in range(600)]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in (*first, *tenths, *sales)))
    report.write_report(raw, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size <= PAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({}, "cgroup: CPUs no limit, memory no limit"),
        ({"cpu.max": "200000 100000", "memory.max": "4294967296"}, "cgroup: CPUs 2, memory 4.0 GiB"),
        ({"cpu.max": "max 100000", "memory.max": "max"}, "cgroup: CPUs no limit, memory no limit"),
        (
            {
                "cpu.cfs_quota_us": "150000",
                "cpu.cfs_period_us": "100000",
                "memory.limit_in_bytes": "9223372036854771712",
            },
            "cgroup: CPUs 1.5, memory no limit",
        ),
    ],
)
def test_a_container_s_limits(
    run: Path, tmp_path: Path, lines: list[dict[str, Any]], limits: dict[str, str], shown: str
) -> None:
    changed = [line | {"cgroup": limits} if line["kind"] == "host" else line for line in lines]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in changed))
    report.write_report(raw, tmp_path / "report.html")
    assert f">{shown}</span>" in (tmp_path / "report.html").read_text()


def test_a_run_that_is_not_right_says_so(run: Path, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    broken = [
        line | {"problems": ["1 seats sold twice: 7"], "double_sold": [7]}
        if line["kind"] == "totals"
        else line
        for line in lines
    ]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in broken))
    report.write_report(raw, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "badge good" not in page
    assert "1 seats sold twice: 7" in page
    assert re.search(r'data-key="double_sold"[^>]*>1</span>', page)


def test_a_log_that_came_to_no_end_is_refused(run: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join((run / "raw.jsonl").read_text().splitlines(keepends=True)[:-1]))
    command = [sys.executable, str(ROOT / "bench" / "report.py"), str(raw)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no line of kind final" in done.stderr


@pytest.mark.parametrize("flow", list(FLOWS))
def test_every_flow_has_its_words(flow: str) -> None:
    assert flow in report.TEXT["titles"]
    assert flow in report.TEXT["flow"]


@pytest.mark.parametrize("flow", ["claim", "hold", "rooms"])
def test_the_other_flows_have_a_page_too(tmp_path: Path, flow: str) -> None:
    command = [
        sys.executable,
        str(ROOT / "bench" / "herd.py"),
        *SMALL,
        "--flow",
        flow,
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "report.html").read_text()
    assert report.TEXT["titles"][flow] in page
    assert "badge good" in page


@pytest.mark.parametrize("is_dark", [False, True])
def test_in_a_browser(run: Path, lines: list[dict[str, Any]], browser: Browser, is_dark: bool) -> None:
    browser.dark(is_dark)
    browser.requests()
    started = time.monotonic()
    browser.open((run / "report.html").as_uri())
    assert time.monotonic() - started <= SECONDS_MAX
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert browser.complaints() == []
    for width, height in SIZES:
        browser.resize(width, height)
        assert browser.too_wide() == []
    final = next(line for line in lines if line["kind"] == "final")
    assert browser.texts("pre.final") == [final["line"]]
    assert browser.texts(".badge") == [f"sold {final['sold']} == verified_sold {final['verified_sold']}"]
    assert browser.run("return document.getElementById('map').dataset.sold") == final["sold"]
    painted = browser.run(
        "const c = document.getElementById('map');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
        "for (let y = 2; y < c.height; y += 6) for (let x = 2; x < c.width; x += 6)"
        "  if (d[4 * (y * c.width + x) + 3] === 255) n++; return n"
    )
    assert painted == int(final["sold"]), "sold seats in the map's own pixels"
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 384) == is_dark
