"""ADJACENT beside all that lets rows in and out of what is for sale: no run is overlooked, none is made up.

What was seen of a hall is kept from buyer to buyer. Each story has a first buyer look through the hall, then
something change, then the next one ask.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.hall import MINUTE_MS, Words, answer_of, claim, confirm, give_back, held, hold, make_hall
from tests.shop import Shop

SIDE_BY_SIDE = ("ADJACENT", "seat", "WITHIN", "tier")
STATES = 4


def resell(*more: Any, state: int = 1) -> Words:
    """Of what was sold once, as vouchers for it are."""
    return ("KL.CLAIM", "hall", "state", state, "SET", "state", state + 1, *more)


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    make_hall(shop.ask)
    return shop


def write(shop: Shop, row: int, *fields: Any) -> None:
    token = shop.ask("KL.TRYLOCK", f"hall:{row}")
    assert shop.ask("KL.REPLACE", f"hall:{row}", token, *fields, "UNLOCK") == b"OK"


def test_sales_bring_rows_to_another_list(shop: Shop) -> None:
    two = ("COUNT", 2, *SIDE_BY_SIDE)
    assert shop.ask(*claim("IDS", 2, 1, 3)) == [1, 3]
    assert shop.ask(*resell(*two)) == []
    assert shop.ask(*claim()) == [2]
    assert shop.ask(*resell(*two)) == [1, 2]
    assert shop.ask(*claim("IDS", 1, 5, "FOR", "ann")) == [5]
    assert shop.ask(*resell(*two)) == []
    token, ids = held(shop.ask, "IDS", 1, 4)
    assert shop.ask(*confirm(token)) == ids
    assert shop.ask(*resell(*two)) == [3, 4]


def test_sales_bring_rows_to_a_list_while_others_are_locked(shop: Shop) -> None:
    """Sold out, whoever has the rows, is remembered; and forgotten when one comes."""
    assert shop.ask(*claim("IDS", 2, 1, 3)) == [1, 3]
    assert shop.ask("KL.TRYLOCK", "hall:9")
    assert shop.ask(*resell("COUNT", 2, *SIDE_BY_SIDE)) == []
    assert shop.ask(*claim()) == [2]
    assert shop.ask(*resell("COUNT", 2, *SIDE_BY_SIDE)) == [1, 2]


def test_a_sale_moves_rows_within_a_list(shop: Shop) -> None:
    """Nobody is told that seats are side by side which a sale has put elsewhere."""
    by_zone = ("KL.CLAIM", "hall", "zone", 1, "SET", "zone", 3, "COUNT", 2, *SIDE_BY_SIDE)
    assert shop.ask(*by_zone) == [1, 2]
    assert shop.ask("KL.CLAIM", "hall", "state", 0, "SET", "state", 1, "seat", 9, "IDS", 1, 4) == [4]
    assert shop.ask(*by_zone) == [6, 7], "3 and 5 have lost the one between them"
    assert shop.ask(*by_zone) == []
    assert shop.ask("KL.CLAIM", "hall", "state", 0, "SET", "state", 1, "seat", 4, "IDS", 1, 8) == [8]
    assert shop.ask("KL.CLAIM", "hall", "state", 1, "SET", "state", 2, "seat", 4, "IDS", 1, 4) == [4]
    assert shop.ask(*by_zone) == [3, 4]


@pytest.mark.parametrize("end", ["release", "deadline", "replaced", "lease", "unlock", "refund", "replace"])
def test_what_comes_back_is_found(shop: Shop, end: str) -> None:
    five = claim("COUNT", 5, *SIDE_BY_SIDE)
    write(shop, 8, "seat", 7)
    if end in ("release", "deadline", "replaced"):
        token, _ = held(shop.ask, "IDS", 1, 2, px=1000)
    elif end in ("lease", "unlock"):
        token = shop.ask("KL.TRYLOCK", "hall:2", "PX", 1000)
    elif end == "refund":
        assert shop.ask(*claim("IDS", 1, 2, "FOR", "ann")) == [2]
    else:
        write(shop, 2, "seat", 8)
    assert answer_of(shop.ask, five) == ([] if end in ("refund", "replace") else "BUSY")
    if end == "release":
        assert shop.ask("KL.RELEASE", token) == 1
    elif end in ("deadline", "lease"):
        shop.clock.pass_ms(1001)
    elif end == "replaced":
        held(shop.ask, "IDS", 1, 9, "REPLACING", token)
    elif end == "unlock":
        assert shop.ask("KL.UNLOCK", "hall:2", token) == 1
    elif end == "refund":
        assert shop.ask(*give_back(2)) == 1
    else:
        write(shop, 2, "seat", 2)
    assert shop.ask(*five) == [1, 2, 3, 4, 5]


# --- beside a search that keeps nothing ----------------------------------------------------------------


class Seats:
    """What is where, as the tests have it: state, zone, tier and seat of each row."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.taken: dict[int, int] = {}  # locks and holds, by row: their tokens
        self.rows = {1 + n: [0, 1 if n < 8 else 2, 1 + n // 5, 1 + n % 5] for n in range(10)}

    def has_run(self, rows: set[int], count: int) -> bool:
        there = {(self.rows[row][2], self.rows[row][3]) for row in rows}
        return any(all((tier, seat + i) in there for i in range(count)) for tier, seat in there)

    def is_run(self, ids: list[int], count: int) -> bool:
        return len(set(ids)) == count and self.has_run(set(ids), count)


def ask_for_a_run(shop: Shop, seats: Seats, chance: random.Random) -> None:
    count, state = chance.choice((2, 2, 3, 4)), chance.randrange(STATES - 1)
    matching = {row for row, (of, *_) in seats.rows.items() if of == state}
    free = {row for row in matching if row not in seats.taken}
    move: Words = ("seat", chance.randrange(1, 6)) if chance.random() < 0.2 else ()
    words = ("KL.CLAIM", "hall", "state", state, "SET", "state", state + 1, *move, "COUNT", count)
    answer = answer_of(shop.ask, (*words, *SIDE_BY_SIDE, "FOR", "ann"))
    if isinstance(answer, list) and answer:
        assert seats.is_run(answer, count) and set(answer) <= free
        for row in answer:
            seats.rows[row][0] += 1
            if move:
                seats.rows[row][3] = move[1]
    else:
        assert not seats.has_run(free, count), "a run was overlooked"
        assert answer == ("BUSY" if seats.has_run(matching, count) else [])


def change(shop: Shop, seats: Seats, chance: random.Random) -> None:
    row = chance.randrange(1, 11)
    state = seats.rows[row][0]
    if row in seats.taken:
        token = seats.taken.pop(row)
        if shop.ask("KL.UNLOCK", f"hall:{row}", token) == 0:
            assert shop.ask("KL.RELEASE", token) == 1
        return
    kind = chance.randrange(4)
    if kind == 0:
        seats.taken[row] = shop.ask("KL.TRYLOCK", f"hall:{row}", "PX", MINUTE_MS)
    elif kind == 1:
        seats.taken[row] = shop.ask(*("KL.HOLD", "hall", "state", state, *hold("IDS", 1, row)[4:]))[0]
    elif kind == 2:
        seats.rows[row][2:] = chance.randrange(1, 3), chance.randrange(1, 6)
        write(shop, row, "tier", seats.rows[row][2], "seat", seats.rows[row][3])
    elif state < STATES - 1:
        to = chance.randrange(STATES - 1)
        if to != state:
            words = ("KL.CLAIM", "hall", "state", state, "SET", "state", to, "IDS", 1, row)
            assert shop.ask(*words) == [row]
            seats.rows[row][0] = to


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_no_run_is_overlooked(shop: Shop, seed: int) -> None:
    print(f"seed {seed}")
    chance, seats = random.Random(seed), Seats(shop)
    for _ in range(100):
        (ask_for_a_run if chance.random() < 0.6 else change)(shop, seats, chance)
