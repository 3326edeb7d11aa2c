"""The live board: a page in a real browser during a small herd, and the stream that feeds it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.harness import launch
from bench.harness.launch import ROOT, Server, free_port
from klani_resp.board.sale import CELLS_MAX, Sale, UnknownSale
from storage.engine import Engine
from storage.offers import Wanted
from storage.schema import Schema
from storage.selling import Terms
from storage.table import Table
from tests.browser import SIZES, Browser, open_browser
from tests.in_memory import new_app

SECONDS_MAX = 20.0
SEATS, USERS = 400, 3000
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
    until(lambda: browser.texts("#state") == ["there is no table 'seats'"])
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
    assert browser.complaints() == []
    asked = {url for url in browser.requests() if not url.startswith("data:")}
    assert asked == {board.url, board.url + "events"}, "nothing comes from anywhere else"


def test_holds_come_and_go_on_the_map(board: Board, ask: Callable[..., Any], browser: Browser) -> None:
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
    ask("KL.INSERT", 8, "rank", 1)  # a new row is a new map
    until(lambda: browser.run("return document.getElementById('map').dataset.rows") == "9")
    assert shown() == ("3", "0")


# --- the stream ---------------------------------------------------------------------------------------


def test_each_who_comes_is_sent_the_whole_map(board: Board, ask: Callable[..., Any]) -> None:
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    for seat in range(3):
        ask("KL.INSERT", seat, "is_booked", 0)
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1)
    first = board.events()
    assert next(first)[0] == "map"
    second = board.events()
    name, facts = next(second)
    assert (name, facts["cells"]) == ("map", [[1, 1, 0], [1, 0, 0], [1, 0, 0]])
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1)
    for events in (first, second):
        assert next(f for n, f in events if n == "facts" and f["sold"] == 2)["rows"] == 3


def test_conflicts_and_syncs_are_told(board: Board, ask: Callable[..., Any]) -> None:
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    ask("KL.INSERT", 1, "is_booked", 0)
    ask("KL.TRYLOCK", 1, "PX", 60_000)
    events = board.events()
    next(f for n, f in events if n == "facts")
    assert ask("KL.TRYLOCK", 1) is None
    ask("KL.INSERT", 2, "is_booked", 0)
    seen: dict[str, Any] = {}
    for name, facts in events:
        if name == "facts":
            seen |= {key: value for key, value in facts.items() if value}
            if seen.get("conflicts_per_second") and seen.get("sync_ms"):
                break
    assert seen["durable"] == seen["appended"]


@pytest.mark.parametrize(
    ("options", "state"),
    [
        (("--board-table", "rooms"), "there is no table 'rooms'"),
        (("--board-sold", "sold 1"), "unknown field 'sold'"),
        (("--board-sold", "note 1"), "field 'note' is not indexed"),
        (("--board-sold", "is_booked yes"), "value is not"),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path: Path, options: tuple[str, ...], state: str) -> None:
    board = Board(tmp_path, *options)
    try:
        with redis.Redis(port=board.server.port) as client:
            client.execute_command(
                "KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX", "note", "BYTES", 4
            )
        name, facts = next(board.events())
        assert name == "state"
        assert state in facts["state"]
    finally:
        board.server.stop()


def test_there_is_nothing_else_and_nothing_to_write(board: Board) -> None:
    for path, method, status in (("nope", "GET", 404), ("", "POST", 405), ("events", "DELETE", 405)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(board.url + path, method=method), timeout=10)
        assert refused.value.code == status
        refused.value.close()


# --- the map itself -----------------------------------------------------------------------------------


def table_of(ids: list[int]) -> tuple[Engine, Table]:
    engine = new_app().engine
    engine.create(b"seats", Schema.from_description([["sold", "U8", 1], ["note", "U8", 0]]), False)
    table = engine.table(b"seats")
    for row in ids:
        engine.insert(table, row, {b"sold": 0})
    return engine, table


def laid_out(table: Table) -> Sale:
    sale = Sale(table, (b"sold", b"1"))
    for _ in sale.lay_out():
        pass
    return sale


@pytest.mark.parametrize("ids", [[], [7], [5, 6, 9], list(range(0, 60_000, 7)), [0, 4_294_967_295]])
def test_every_row_is_in_one_cell(ids: list[int]) -> None:
    sale = laid_out(table_of(ids)[1])
    assert len(sale.cells) <= CELLS_MAX
    assert sum(sale.cells) == len(ids)
    for row in ids:
        assert sale.cells[(row - sale.first) // sale.width] > 0
    assert sale.take(sale.look()) == {}


def test_changes_are_those_since_the_last_look() -> None:
    engine, table = table_of(list(range(20_000)))
    sale = laid_out(table)
    assert sale.width == 2
    for row in (0, 1, 5):
        assert engine.selling.claim(table, {b"sold": 0}, {b"sold": 1}, Wanted(ids=(row,)), Terms()) == [row]
    assert sale.take(sale.look()) == {0: (2, 0), 2: (1, 0)}
    assert sale.take(sale.look()) == {}


def test_an_unindexed_field_cannot_be_shown() -> None:
    with pytest.raises(UnknownSale, match="field 'note' is not indexed"):
        Sale(table_of([1])[1], (b"note", b"1"))
