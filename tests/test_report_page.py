"""The Ticket Horde page as a browser shows it: narrow and wide, light and dark, by mouse, keys and touch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import SIZES, Browser, open_browser

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 1.0
SMALL = ("--users", "1000", "--seats", "200", "--ranks", "4", "--workers", "16", "--processes", "2")
TIP = "const tip = document.getElementById('tip'); return tip.hidden ? null : tip.textContent"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return output


@pytest.fixture(scope="module")
def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "raw.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def browser(need: Callable[[str], str]) -> Iterator[Browser]:
    with open_browser(need) as opened:
        yield opened


@pytest.mark.parametrize("is_dark", [False, True])
def test_it_opens_at_once_and_fits(
    run: Path, log: list[dict[str, Any]], browser: Browser, is_dark: bool
) -> None:
    browser.dark(is_dark)
    browser.requests()
    started = time.monotonic()
    browser.open((run / "report.html").as_uri())
    assert time.monotonic() - started <= SECONDS_MAX
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert browser.complaints() == []
    final = next(line for line in log if line["kind"] == "final")
    assert browser.texts("pre.final") == [final["line"]]
    assert browser.texts(".badge") == [f"sold {final['sold']} == verified_sold {final['verified_sold']}"]
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 384) == is_dark


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nothing_is_too_wide_or_too_small_to_read(run: Path, browser: Browser, size: tuple[int, int]) -> None:
    """Not even in a box that scrolls: who reads a page does not look behind its edges."""
    browser.resize(*size)
    browser.open((run / "report.html").as_uri())
    assert browser.too_wide() == []
    boxes = "[...document.querySelectorAll('.wide, pre')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert browser.run(f"return {boxes}") == 0
    heights = browser.run(
        "return [...document.querySelectorAll('.plot text')].map((e) => e.getBoundingClientRect().height)"
    )
    assert heights and min(heights) >= 11 and max(heights) <= 18
    shares = "[...document.querySelectorAll('.plot')].map((e) => e.clientWidth / e.parentElement.clientWidth)"
    assert min(browser.run(f"return {shares}")) > 0.6


def test_a_remark_stands_beside_its_line_or_below_it(run: Path, browser: Browser) -> None:
    """On a phone below, further in than its line; lines that are broken stay within their indent."""
    remark = (
        "const beside = document.querySelector('pre .beside'), row = beside.parentElement;"
        "const range = document.createRange(); range.selectNode(row.firstChild);"
        "const first = range.getBoundingClientRect(), box = beside.getBoundingClientRect();"
        "return [box.top >= first.bottom - 1, box.left > first.left, beside.textContent]"
    )
    for (width, height), is_below in zip(SIZES, (True, False), strict=True):
        browser.resize(width, height)
        browser.open((run / "report.html").as_uri())
        assert browser.run(remark) == [is_below, True, "# 64 at most"]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_map_has_each_seat_in_whole_pixels(
    run: Path, log: list[dict[str, Any]], browser: Browser, size: tuple[int, int]
) -> None:
    browser.resize(*size)
    browser.open((run / "report.html").as_uri())
    sold = [line["seat"] for line in log if line["kind"] == "sale"]
    painted = browser.run(
        "const c = document.getElementById('map'), pen = c.getContext('2d');"
        "const columns = Number(c.dataset.columns), cell = Number(c.dataset.cell);"
        "return [...Array(200).keys()].filter((seat) => pen.getImageData((seat % columns) * cell + 1,"
        "  Math.floor(seat / columns) * cell + 1, 1, 1).data[3] === 255)"
    )
    assert painted == sorted(sold)
    ratio = "const c = document.getElementById('map'); return c.width / c.getBoundingClientRect().width"
    assert browser.run(ratio) == browser.run("return devicePixelRatio")
    assert browser.texts("#scale span")[-1] == "not sold"


def test_a_number_names_its_line_by_keys_and_by_touch(run: Path, browser: Browser) -> None:
    """A tap brings focus, as Tab does; the pointer needs none."""
    browser.open((run / "report.html").as_uri())
    first = "document.querySelector('.card .figure')"
    assert browser.run(TIP) is None
    browser.run(f"{first}.focus()")
    said = browser.run(f"return 'raw.jsonl, ' + {first}.dataset.from")
    assert re.fullmatch(r"raw\.jsonl, line 2: cpus_usable", said)
    assert browser.run(TIP) == said
    browser.run("document.activeElement.blur()")
    assert browser.run(TIP) is None
    browser.run(f"{first}.dispatchEvent(new MouseEvent('mouseover', {{bubbles: true}}))")
    assert browser.run(TIP) == said


def test_a_seat_names_its_sale(run: Path, log: list[dict[str, Any]], browser: Browser) -> None:
    """Under the pointer, and by the arrow keys from there."""
    browser.open((run / "report.html").as_uri())

    def sale(seat: int) -> str:
        number, line = next((n, line) for n, line in enumerate(log, 1) if line.get("seat") == seat)
        return f"seat {seat}, {line['elapsed_ms'] / 1000:.2f} s, line {number}"

    browser.run(
        "const c = document.getElementById('map'), box = c.getBoundingClientRect();"
        "const step = box.width / c.dataset.columns;"
        "c.dispatchEvent(new PointerEvent('pointermove',"
        "  {clientX: box.left + 2.5 * step, clientY: box.top + 1.5 * step, bubbles: true}))"
    )
    columns = int(browser.run("return document.getElementById('map').dataset.columns"))
    assert browser.run(TIP) == sale(columns + 2)
    browser.run(
        "document.getElementById('map').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    assert browser.run(TIP) == sale(columns + 3)
