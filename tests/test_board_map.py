"""The board's map and its seconds, below the page: cells, changes, counters, colours."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
import trio.testing

from bench.harness.launch import ROOT
from klani_resp.board.pace import Pace
from klani_resp.board.sale import CELLS_MAX, Sale, UnknownSale
from klani_resp.board.views import SaleView
from storage.engine import Engine
from storage.offers import Wanted
from storage.schema import Schema
from storage.selling import Terms
from storage.table import Table
from tests.in_memory import new_app

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
    for _ in sale.lay_out(sale.look(0)):
        pass
    return sale


@pytest.mark.parametrize("ids", [[], [7], [5, 6, 9], list(range(0, 60_000, 7)), [0, 4_294_967_295]])
def test_every_row_is_in_one_cell(ids: list[int]) -> None:
    sale = laid_out(table_of(ids)[1])
    assert len(sale.cells) <= CELLS_MAX
    assert sum(rows for rows, _, _ in sale.cells) == len(ids)
    for row in ids:
        assert sale.cells[(row - sale.first) // sale.width][0] > 0
    assert sale.update(sale.look(0)) == []


def sell(engine: Engine, table: Table, row: int) -> None:
    assert engine.selling.claim(table, {b"sold": 0}, {b"sold": 1}, Wanted(ids=(row,)), Terms()) == [row]


def test_changes_are_those_since_the_last_look() -> None:
    engine, table = table_of(list(range(20_000)))
    sale = laid_out(table)
    assert sale.width == 2
    for row in (0, 1, 5):
        sell(engine, table, row)
    assert sale.update(sale.look(0)) == [(0, 2, 0), (2, 1, 0)]
    assert sale.update(sale.look(0)) == []
    assert [row for row, cell in enumerate(sale.cells) if cell[1]] == [0, 2]


def test_a_row_that_comes_behind_a_look_is_in_the_next_map() -> None:
    engine, table = table_of([1, 2])
    sale = laid_out(table)
    seen = sale.look(0)
    engine.insert(table, 9, {b"sold": 1})
    assert sale.update(seen) == []
    assert not sale.is_laid_out(sale.look(0))


def test_leases_are_held_until_their_deadline_and_left_out_when_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, table = table_of([1, 2, 3])
    sale = laid_out(table)
    engine.try_lock(((table, 1), (table, 2)), 1000, None)
    seen = sale.look(engine.clock())
    assert (list(seen.held), seen.locked) == ([1, 2], 2)
    assert sale.look(engine.clock() + 1_000_000_000).locked == 0
    monkeypatch.setattr("klani_resp.board.sale.LEASES_MAX", 1)
    seen = sale.look(engine.clock())
    assert (list(seen.held), seen.locked) == ([], None)


def test_more_changes_than_cells_are_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps: who was away for an hour would hold up the loop."""
    engine, table = table_of(list(range(9)))
    sale = laid_out(table)
    monkeypatch.setattr("klani_resp.board.sale.CHANGES_MAX", 2)
    for row in range(3):
        sell(engine, table, row)
    seen = sale.look(0)
    assert not sale.is_laid_out(seen)
    for _ in sale.lay_out(seen):
        pass
    assert sale.sales == 3
    sell(engine, table, 3)
    assert sale.is_laid_out(sale.look(0))


# --- a second ------------------------------------------------------------------------------------------


async def facts_of(view: SaleView) -> dict[str, Any]:
    """A second later."""
    await trio.sleep(1)  # the clock jumps
    events, _ = await view.look()
    return events[-1][1]


async def test_sales_are_counted_as_they_happen(autojump_clock: trio.testing.MockClock) -> None:
    app = new_app(board_sold="sold 1")
    engine = app.engine
    fields = Schema.from_description([["sold", "U8", 1]])
    view = SaleView(app)

    def fill() -> Table:
        engine.create(b"seats", fields, False)
        table = engine.table(b"seats")
        for row in range(9):
            engine.insert(table, row, {b"sold": 0})
        for row in range(3):
            sell(engine, table, row)
        app.wake_committer()
        return table

    table = fill()
    assert (await facts_of(view))["sold_per_second"] is None, "nothing to compare with"
    sell(engine, table, 3)
    sell(engine, table, 4)
    app.wake_committer()
    assert (await facts_of(view))["sold_per_second"] == 2
    token = engine.try_lock(((table, 4),), None, None)
    assert token is not None
    engine.replace(table, 4, token, {b"sold": 0}, True)  # given back
    sell(engine, table, 5)
    app.wake_committer()
    assert (await facts_of(view))["sold_per_second"] == 1
    engine.insert(table, 9, {b"sold": 0})  # a new map is no new sale
    app.wake_committer()
    assert (await facts_of(view))["sold_per_second"] == 0
    engine.drop(b"seats")
    fill()
    assert (await facts_of(view))["sold_per_second"] is None, "another table"
    assert (await facts_of(view))["sold_per_second"] == 0
    await trio.sleep(3600)
    view.forget()
    assert (await facts_of(view))["sold_per_second"] is None, "not the average of an hour"


def test_a_counter_that_began_anew_is_never_negative() -> None:
    pace = Pace()
    assert pace.since({"conflicts": 7}) == {}
    assert pace.since({"conflicts": 9}) == {"conflicts": 2}
    assert pace.since({"conflicts": 3}) == {"conflicts": 3}


# --- its colours -----------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """WCAG's."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_cells_stand_out_in_light_and_dark() -> None:
    page = (ROOT / "klani_resp" / "board" / "board.html").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): #([0-9a-f]+);", block))
        for block in re.findall(r":root \{.*?\}", page, re.DOTALL)
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        for one, other in (("free", "card"), ("held", "free"), ("sold", "free"), ("sold", "held")):
            light, dark = sorted((luminance(scheme[one]), luminance(scheme[other])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 1.5, (one, other)


def test_an_unindexed_field_cannot_be_shown() -> None:
    with pytest.raises(UnknownSale, match="field 'note' is not indexed"):
        Sale(table_of([1])[1], (b"note", b"1"))
