"""The live board: a page in a real browser during a small herd, and the stream that feeds it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.harness import launch
from bench.harness.launch import ROOT, Server, free_port
from tests.browser import SIZES, Browser, open_browser

SECONDS_MAX = 20.0
SEATS, USERS = 400, 3000
LINES_OF_CARDS = """
const height = (e) => parseFloat(getComputedStyle(e).lineHeight);
const lines = (e) => Math.round(e.getBoundingClientRect().height / height(e));
return [...new Set([...document.querySelectorAll(".cards small, .cards b")].map(lines))];
"""
BOX = "const box = document.getElementById('%s').getBoundingClientRect(); return [box.left, box.top]"
POINTED = """
const map = document.getElementById("map"), box = map.getBoundingClientRect();
const where = { clientX: box.left + arguments[0], clientY: box.top + arguments[1] };
map.dispatchEvent(new PointerEvent("pointermove", where));
return document.getElementById("at").textContent;
"""
TOO_LONG = """
const isTooLong = (e) => e.scrollWidth > e.clientWidth;
return [...document.querySelectorAll(".card")].filter(isTooLong).map((e) => e.textContent);
"""
PIXELS = "return [...document.querySelectorAll('canvas')].map((c) => [c.width, c.clientWidth])"
HERD = ("--users", str(USERS), "--seats", str(SEATS), "--ranks", "4", "--workers", "16", "--processes", "2")


class Board:
    """A server with a board."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.server: Server = launch.klani(directory / "data", "--board-port", str(self.port), *options)
        self.url = f"http://127.0.0.1:{self.port}/"

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """As they come."""
        with closing(urllib.request.urlopen(self.url + "events", timeout=SECONDS_MAX)) as stream:
            name = ""
            for line in stream:
                word, _, rest = line.decode().rstrip("\n").partition(": ")
                if word == "event":
                    name = rest
                elif word == "data":
                    yield name, json.loads(rest)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path)
    try:
        yield board
    finally:
        board.server.stop()


@pytest.fixture
def ask(board: Board) -> Iterator[Callable[..., Any]]:
    with redis.Redis(port=board.server.port, single_connection_client=True) as client:
        yield client.execute_command


@pytest.fixture
def browser(need: Callable[[str], str]) -> Iterator[Browser]:
    with open_browser(need) as opened:
        yield opened


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two questions to a browser, not in place of one


# --- in a browser -------------------------------------------------------------------------------------


def test_the_map_ends_sold_and_its_sum_is_what_verify_counts(
    board: Board, ask: Callable[..., Any], browser: Browser, tmp_path: Path
) -> None:
    browser.open(board.url)
    until(lambda: browser.texts("#nothing") == ["Waiting for table 'seats': KL.CREATE makes it"])
    until(lambda: browser.texts("#state:not(.bad)") == ["serving"])
    assert browser.run("return document.getElementById('map').clientHeight") == 0, "no box without a map"
    where = ("--port", str(board.server.port), "--output", str(tmp_path / "out"), "--no-report")
    command = [sys.executable, str(ROOT / "bench" / "herd.py"), *HERD, *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as herd:
        assert herd.stdout is not None
        printed = herd.stdout.read()
    assert herd.returncode == 0, printed
    until(lambda: browser.run("return document.getElementById('map').dataset.sold") == str(SEATS))
    verified = ask("KL.VERIFY", "seats", "is_booked", 1)
    assert verified[b"ok"] == 1
    assert verified[b"matched"] == SEATS
    assert browser.run("return document.getElementById('map').dataset.rows") == str(SEATS)
    assert browser.texts("#sold, #of, #state, #title") == ["seats", "serving", str(SEATS), f"of {SEATS}"]
    for width, height in SIZES:
        browser.resize(width, height)
        assert browser.too_wide() == []
        assert browser.run(LINES_OF_CARDS) == [1.0], "no label and no figure takes two lines"
        browser.run("document.getElementById('groups').textContent = '1,155 groups/s'")
        assert browser.run(TOO_LONG) == []
    assert browser.complaints() == []
    asked = {url for url in browser.requests() if not url.startswith("data:")}
    assert asked == {board.url, board.url + "events"}, "nothing comes from anywhere else"


def test_holds_and_locks_come_and_go_on_the_map(
    board: Board, ask: Callable[..., Any], browser: Browser
) -> None:
    ask("KL.CREATE", "seats", "SCHEMA", "rank", "U8", "INDEX", "is_booked", "U8", "INDEX")
    for seat in range(8):
        ask("KL.INSERT", seat, "rank", 1)
    browser.open(board.url)

    def shown() -> tuple[str, str]:
        sold, held = browser.run(
            "const map = document.getElementById('map').dataset; return [map.sold, map.held]"
        )
        return sold, held

    until(lambda: shown() == ("0", "0"))
    token = ask("KL.HOLD", "seats", "rank", 1, "is_booked", 0, "PX", 60_000, "FOR", "ann", "COUNT", 3)[0]
    until(lambda: shown() == ("0", "3"))
    ask("KL.CONFIRM", token, "SET", "is_booked", 1)
    until(lambda: shown() == ("3", "0"))
    lock = ask("KL.TRYLOCK", 7, "PX", 60_000)
    until(lambda: shown() == ("3", "1") and browser.texts("#held, #locked") == ["1", "1 by locks"])
    ask("KL.REPLACE", 7, lock, "is_booked", 1)
    until(lambda: shown() == ("4", "0"))  # sold, though it is locked still
    ask("KL.INSERT", 8, "rank", 1)  # a new row is a new map
    until(lambda: browser.run("return document.getElementById('map').dataset.rows") == "9")
    assert shown() == ("4", "0")


@pytest.fixture
def four(board: Board, ask: Callable[..., Any], browser: Browser) -> Browser:
    """A map of two lines: rows 5 and 6, 7 and 8; 7 is sold. A square is 24 pixels wide."""
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    for seat in range(5, 9):
        ask("KL.INSERT", seat, "is_booked", int(seat == 7))
    browser.resize(390, 844)
    browser.open(board.url)
    until(lambda: browser.run("return document.getElementById('map').dataset.rows") == "4")
    return browser


def test_a_small_table_has_squares_that_name_their_rows(four: Browser) -> None:
    four.resize(1440, 900)
    until(lambda: four.run("return document.getElementById('map').clientWidth") == 2 * 24)
    assert four.run(POINTED, 30, 5) == "row 6: free"
    assert four.run(POINTED, 5, 30) == "row 7: sold"
    assert four.run(POINTED, 5, 90) == ""


def test_a_finger_names_a_square(four: Browser, ask: Callable[..., Any]) -> None:
    left, top = four.run(BOX % "map")
    four.tap(left + 30, top + 5)
    until(lambda: four.texts("#at") == ["row 6: free"])
    assert four.run(BOX % "mark") == [left + 24, top]
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1, "COUNT", 3)
    until(lambda: four.texts("#at") == ["row 6: sold"])
    four.tap(left + 5, top + 30)
    until(lambda: four.texts("#at") == ["row 7: sold"])
    four.tap(left + 200, top + 5)  # beside it
    until(lambda: four.texts("#at") == [""])


def test_keys_go_from_square_to_square(four: Browser) -> None:
    four.press("TAB")
    assert four.texts("#at") == ["row 5: free"]
    for key, row in (("RIGHT", 6), ("DOWN", 8), ("LEFT", 7), ("UP", 5), ("UP", 5), ("LEFT", 5), ("DOWN", 7)):
        four.press(f"ARROW_{key}")
        assert four.texts("#at") == [f"row {row}: {'sold' if row == 7 else 'free'}"], key
    left, top = four.run(BOX % "map")
    assert four.run(BOX % "mark") == [left, top + 24]
    four.press("ESCAPE")
    assert four.texts("#at") == [""]
    four.press("ARROW_RIGHT")
    assert four.texts("#at") == ["row 8: free"]
    four.press("TAB")
    assert four.texts("#at") == [""]
    assert four.run("return document.getElementById('mark').hidden")


def test_what_is_drawn_has_the_screen_s_pixels(
    board: Board, ask: Callable[..., Any], browser: Browser
) -> None:
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    ask("KL.INSERT", 1, "is_booked", 0)
    browser.resize(1440, 900, scale=2)
    browser.open(board.url)
    until(lambda: browser.run("return document.getElementById('map').dataset.rows") == "1")
    until(lambda: all(pixels == 2 * size for pixels, size in browser.run(PIXELS)))


def test_a_page_that_lost_its_server_says_so_and_finds_it_again(
    board: Board, browser: Browser, tmp_path: Path
) -> None:
    browser.open(board.url)
    until(lambda: browser.texts("#state") == ["serving"])
    board.server.stop()
    until(lambda: browser.texts(".stale #state.bad")[:1] != [])
    (state,) = browser.texts("#state")
    assert re.fullmatch(r"last seen \d+ s ago", state)
    board.server = launch.klani(tmp_path / "data", "--board-port", str(board.port))
    until(lambda: browser.texts("body:not(.stale) #state:not(.bad)") == ["serving"])


class Proxy(BaseHTTPRequestHandler):
    """It has the page; the server behind it is away at first, then there for a moment."""

    asked = 0

    def do_GET(self) -> None:
        if self.path == "/":
            return self._answer(200, "text/html", (ROOT / "klani_resp/board/board.html").read_bytes())
        Proxy.asked += 1
        if Proxy.asked == 1:
            return self._answer(502, "text/plain", b"")
        return self._answer(200, "text/event-stream", b'event: nothing\ndata: {"why": "there"}\n\n')

    def _answer(self, status: int, kind: str, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_page_asks_again_when_a_proxy_had_no_server(browser: Browser) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            browser.open(f"http://127.0.0.1:{server.server_port}/")
            until(lambda: browser.texts("#nothing") == ["there"])
        finally:
            browser.open("about:blank")
            server.shutdown()


# --- the stream ---------------------------------------------------------------------------------------


def only(wanted: str, events: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    return (facts for name, facts in events if name == wanted)


def test_each_who_comes_is_sent_the_whole_map(board: Board, ask: Callable[..., Any]) -> None:
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    for seat in range(3):
        ask("KL.INSERT", seat, "is_booked", 0)
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1)
    first = board.events()
    next(only("map", first))
    second = board.events()
    assert next(only("map", second))["cells"] == [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1)
    for events in (first, second):
        assert next(facts for facts in only("facts", events) if facts["sold"] == 2)["rows"] == 3


def test_sales_conflicts_and_syncs_are_told(board: Board, ask: Callable[..., Any]) -> None:
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    for seat in range(2):
        ask("KL.INSERT", seat, "is_booked", 0)
    ask("KL.TRYLOCK", 1, "PX", 60_000)
    events = board.events()
    next(only("facts", events))
    next(only("log", events))
    assert ask("KL.TRYLOCK", 1) is None
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1)
    wanted = {"sold_per_second", "conflicts_per_second", "sync_ms", "groups_per_second"}
    seen: dict[str, Any] = {}
    for _, facts in events:
        seen |= {name: value for name, value in facts.items() if value or name not in wanted}
        if wanted <= seen.keys():
            break
    assert (seen["disk"], seen["appendfsync"], seen["waiting"]) == ("ok", "always", 0)
    assert seen["durable"] > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--board-table", "rooms"), "Waiting for table 'rooms': KL.CREATE makes it"),
        (("--board-sold", "sold 1"), "unknown field 'sold'"),
        (("--board-sold", "note 1"), "field 'note' is not indexed"),
        (("--board-sold", "is_booked yes"), "value is not"),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    board = Board(tmp_path, *options)
    try:
        with redis.Redis(port=board.server.port) as client:
            client.execute_command(
                "KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX", "note", "BYTES", 4
            )
        assert why in next(only("nothing", board.events()))["why"]
    finally:
        board.server.stop()


def test_there_is_nothing_else_and_nothing_to_write(board: Board) -> None:
    for path, method, status in (("nope", "GET", 404), ("", "POST", 405), ("events", "DELETE", 405)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(board.url + path, method=method), timeout=10)
        assert refused.value.code == status
        refused.value.close()
