"""MAX and REPLACING: what an owner has, counted alike by every verb and start; and carts that change."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.hall import MINUTE_MS, Words, answer_of, claim, confirm, free, give_back, held, hold, make_hall
from tests.shop import Shop

DAY_MS = 86_400_000
UNITS = ("IDS", 1, 1, "TAKE")


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    make_hall(shop.ask)
    shop.ask("KL.CREATE", "door", "SCHEMA", "state", "U8", "INDEX", "left", "COUNTER")
    for row in range(2, 40):
        shop.ask("KL.INSERT", f"door:{row}", "state", 0)
    shop.ask("KL.INSERT", "door:1", "state", 9, "left", 500)
    return shop


def keep(count: int, *more: Any, px: int = MINUTE_MS) -> Words:
    return ("KL.HOLD", "door", *UNITS, count, "FROM", "left", "PX", px, "FOR", "ann", *more)


# --- MAX ------------------------------------------------------------------------------------------------


def assert_owned(shop: Shop, count: int) -> None:
    """As MAX has it: so many and no more. Nothing is changed."""
    assert answer_of(shop.ask, keep(1, "MAX", count)) == "LIMIT"
    token = shop.ask(*keep(1, "MAX", count + 1))[0]
    assert shop.ask("KL.RELEASE", token) == 1


@pytest.mark.parametrize("seed", range(25))
def test_an_owner_s_rows_and_units_are_counted_alike_by_all_verbs(shop: Shop, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    rows: list[int] = []
    holds: dict[int, tuple[int, list[int]]] = {}  # live ones: units, rows
    units = 0

    def keep_some(*more: Any) -> None:
        if chance.random() < 0.5:
            count, words = chance.randrange(1, 4), ("state", 0, "PX", MINUTE_MS, "FOR", "ann")
            token, ids, _ = shop.ask("KL.HOLD", "door", *words, "COUNT", count, *more)
            holds[token] = 0, ids
        else:
            count = chance.randrange(1, 4)
            holds[shop.ask(*keep(count, *more))[0]] = count, []

    for _ in range(40):
        kind = chance.randrange(9)
        token = chance.choice(list(holds)) if holds else 0
        if kind == 0 and len(rows) < 12:
            rows += shop.ask("KL.CLAIM", "door", "state", 0, "SET", "state", 1, "FOR", "ann")
        elif kind == 1:
            count = chance.randrange(1, 4)
            assert shop.ask("KL.CLAIM", "door", *UNITS, count, "FROM", "left", "FOR", "ann") == [1]
            units += count
        elif kind == 2 and len(holds) < 4:
            keep_some()
        elif kind == 3 and holds:
            had = sum(count + len(ids) for count, ids in holds.values()) + len(rows) + units
            before = holds.pop(token)
            assert answer_of(shop.ask, keep(1 + had, "REPLACING", token, "MAX", had)) == "LIMIT"
            assert token in [one[0] for one in shop.ask("KL.HOLDS", "door")], before
            keep_some("REPLACING", token)
        elif kind == 4 and holds:
            count, ids = holds.pop(token)
            for _ in range(2):
                words = ("KL.CONFIRM", token, "SET", "state", 1 if ids else 9)
                assert shop.ask(*words) == (ids or [1])
            units, rows = units + count, rows + ids
        elif kind == 5 and holds:
            count, ids = holds.pop(token)
            assert shop.ask("KL.RELEASE", token) == (count or len(ids))
        elif kind == 6 and rows:
            row = rows.pop(chance.randrange(len(rows)))
            for back in (1, 0):
                assert shop.ask("KL.RETURN", "door", "FOR", "ann", row, "SET", "state", 0) == back
        elif kind == 7 and units:
            assert shop.ask("KL.RETURN", "door", "FOR", "ann", *UNITS[2:], 1, "FROM", "left") == 1
            units -= 1
        elif kind == 8:
            if holds and chance.random() < 0.5:
                shop.ask("KL.EXTEND", token, "PX", 1)
                shop.clock.pass_ms(2)
                assert token not in [one[0] for one in shop.ask("KL.HOLDS", "door")]
                del holds[token]
            if chance.random() < 0.5:
                shop.checkpoint()
            shop.crash(down_ms=DAY_MS)
        owned = len(rows) + units + sum(count + len(ids) for count, ids in holds.values())
        assert_owned(shop, owned)
    assert shop.ask("KL.SEEK", "door:1", "left") == [b"left", 500 - units]


def test_a_payment_is_not_refused_for_max(shop: Shop) -> None:
    """Neither in time nor late, though the owner has bought others meanwhile."""
    early, _ = held(shop.ask, "COUNT", 2, "MAX", 2)
    late, _ = held(shop.ask, "COUNT", 2, px=1000)
    assert shop.ask(*claim("COUNT", 3, "FOR", "ann")) == [5, 6, 7]
    shop.clock.pass_ms(1001)
    assert shop.ask(*confirm(early)) == [1, 2]
    assert shop.ask(*confirm(late)) == [3, 4]
    assert answer_of(shop.ask, claim("FOR", "ann", "MAX", 7)) == "LIMIT"
    assert shop.ask(*claim("FOR", "ann", "MAX", 8)) == [8]


# --- REPLACING ------------------------------------------------------------------------------------------


def test_a_cart_that_is_over_is_let_go_of_too(shop: Shop) -> None:
    """Whether the deadline had come when the shopper changed the cart is chance: a late payment for the old
    one would buy both."""
    old, ids = held(shop.ask, "COUNT", 2, px=1000)
    shop.clock.pass_ms(1001)
    new, others = held(shop.ask, "IDS", 2, 8, 9, "REPLACING", old, "MAX", 2)
    assert (ids, others) == ([1, 2], [8, 9])
    for _ in range(2):
        assert answer_of(shop.ask, confirm(old)) == "NOHOLD"
        shop.checkpoint()
        shop.crash()
    assert shop.ask(*confirm(new)) == [8, 9]
    assert free(shop.ask) == [1, 2, 3, 4, 5, 6, 7, 10]


def test_a_cart_that_is_over_counts_neither_for_nor_against(shop: Shop) -> None:
    old, _ = held(shop.ask, "COUNT", 5, px=1000)
    units = shop.ask(*keep(400, px=1000))[0]
    shop.clock.pass_ms(1001)
    assert shop.ask(*claim("COUNT", 3, "FOR", "ann")) == [1, 2, 3]
    assert answer_of(shop.ask, hold("MAX", 3, "REPLACING", old)) == "LIMIT"
    assert answer_of(shop.ask, hold("IDS", 1, 1, "REPLACING", old)) == []
    assert shop.ask("KL.CLAIM", "door", *UNITS, 300, "FROM", "left") == [1]
    assert answer_of(shop.ask, keep(201, "REPLACING", units)) == []
    assert len(shop.ask(*keep(200, "REPLACING", units, "MAX", 200))) == 3


def test_a_cart_that_was_paid_stays_paid(shop: Shop) -> None:
    old, _ = held(shop.ask, "COUNT", 2)
    shop.ask(*confirm(old))
    assert answer_of(shop.ask, hold("MAX", 2, "REPLACING", old)) == "LIMIT"
    new, ids = held(shop.ask, "REPLACING", old)
    assert ids == [3]
    assert shop.ask(*confirm(old)) == [1, 2]
    assert shop.ask(*confirm(new)) == [3]


@pytest.mark.parametrize("is_over", [False, True])
def test_another_s_cart_is_not_replaced(shop: Shop, is_over: bool) -> None:
    other, _ = held(shop.ask, owner="bob", px=1000)
    shop.clock.pass_ms(1001 if is_over else 0)
    assert answer_of(shop.ask, hold("REPLACING", other)) == "NOHOLD"
    assert shop.ask(*confirm(other)) == [1]


def test_a_new_cart_may_keep_what_the_old_one_had(shop: Shop) -> None:
    old, _ = held(shop.ask, "IDS", 3, 1, 2, 3)
    held(shop.ask, "IDS", 1, 4, owner="bob")
    side_by_side = ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier", "MAX", 3)
    words = hold(*side_by_side, "REPLACING", old, "REQUEST", "r")
    first = shop.ask(*words)
    assert first[1] == [1, 2, 3]
    for _ in range(2):
        assert shop.ask(*words) == first, "sent again"
        assert [one[:3] for one in shop.ask("KL.HOLDS", "hall", "FOR", "ann")] == [
            [first[0], b"ann", [1, 2, 3]]
        ]
        shop.crash()
    assert answer_of(shop.ask, hold(*side_by_side, "REPLACING", old, "REQUEST", "s")) == "LIMIT"
    units = shop.ask(*keep(300))[0]
    assert answer_of(shop.ask, keep(501, "REPLACING", units)) == []
    assert len(shop.ask(*keep(500, "REPLACING", units, "MAX", 500))) == 3
    assert shop.ask(*give_back(1)) == 0
